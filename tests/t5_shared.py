"""Processes that share memory move together, or stay where they are; whatever fails then, none goes on without the others."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from mosfs.wire.faults import Sharing
from mosfs.wire.frames import MOST_OBJECTS
from tests import cluster
from tests.cluster import Lab, failing_name, wait_until
from tests.progs import compile_c
from tests.threaded import SOURCES

pytestmark = pytest.mark.root

PATIENCE = 120.0  #: seconds after which something hangs
CHILDREN = 3
ACTIONS = ("cut", "die", "raise", "refuse")
#: Before the commit nothing is lost, wherever it breaks; but a host, or the way to it, is needed by who is away.
SURVIVES = {(point, action) for point in (Sharing.HOME_ALL_STAND, Sharing.HOME_BEFORE_GO) for action in ("cut", "raise", "refuse")}
SURVIVES |= {(point, action) for point in Sharing for action in ("raise", "refuse")}


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with cluster.failing_lab(tmp_path_factory.mktemp("shared"), 3, Sharing, ACTIONS) as running:
        yield running


class Family:
    """`threaded/family.c` under mosrun on node 1, as ``name``. ``how``: "file" if it shares a file in /dev/shm."""

    def __init__(self, nodes: Lab, folder: Path, name: str, *how: str) -> None:
        self.nodes, self.folder = nodes, folder
        self.binary = folder / name
        compile_c(SOURCES / "family.c", self.binary, ("-O1", "-pthread"))
        with open(folder / "out", "wb") as out, open(folder / "err", "wb") as err:
            command = ["mosrun", "-h", "--share-memory", str(self.binary), str(folder), *how]
            self.process = nodes.start(1, *command, stdin=subprocess.PIPE, stdout=out, stderr=err)
        wait_until(self.lines)
        wait_until(lambda: len(self.members()) == CHILDREN + 1)

    def lines(self) -> list[str]:
        path = self.folder / "lines"
        return path.read_text().split("\n")[:-1] if path.exists() else []

    def members(self) -> dict[int, str]:
        """Where each is, by PID."""
        tree, found = self.nodes.tree(1), {}
        for pid in tree.pids("proc"):
            with suppress(OSError):  # it has ended
                if os.readlink(f"/proc/{pid}/exe") == str(self.binary):
                    found[pid] = tree.read(f"proc/{pid}/where")
        return found

    def move(self, pid: int, target: str) -> str:
        """mosmigrate: "" or what it said. Returns when the program is at work again, or dead."""
        done = self.nodes.run(1, "mosmigrate", str(pid), target, timeout=PATIENCE)
        before = len(self.lines())
        wait_until(lambda: len(self.lines()) > before + 1 or self.process.poll() is not None)
        return done.stderr.rstrip("\n")

    def end(self) -> int:
        """Its status; if it has not died, all that each of them has done is there."""
        (self.folder / "stop").touch()
        status = self.process.wait(PATIENCE)
        if status == 7:
            word, turns, value = (self.folder / "out").read_text().split()
            expected = 0
            for number in range(int(turns)):
                expected = (expected * 5 + number % (CHILDREN + 1)) % 1000003
            assert (word, int(value)) == ("end", expected)
            assert [line.split()[0] for line in self.lines()] == [str(number) for number in range(len(self.lines()))]
            assert (self.folder / "err").read_text() == ""
        return status

    def __enter__(self) -> Family:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


def one_place(family: Family) -> str:
    """Where all of them are."""
    places = set(family.members().values())
    assert len(places) == 1, places
    return places.pop()


def test_whoever_is_asked_all_go(nodes: Lab, tmp_path: Path) -> None:
    with Family(nodes, tmp_path, "family") as family:
        parent = family.process.pid
        child = max(family.members())
        for pid, target, place in ((parent, "2", "2"), (child, "home", "here"), (child, "3", "3"), (parent, "2", "2")):
            assert family.move(pid, target) == ""
            assert one_place(family) == place
        assert family.end() == 7


def test_requests_for_several_follow_each_other(nodes: Lab, tmp_path: Path) -> None:
    with Family(nodes, tmp_path, "family") as family:
        asked = [nodes.start(1, "mosmigrate", str(pid), str(2 + n % 2)) for n, pid in enumerate(sorted(family.members()))]
        assert [request.wait(PATIENCE) for request in asked] == [0] * (CHILDREN + 1)
        one_place(family)
        assert family.end() == 7


def test_where_one_cannot_go_none_goes(nodes: Lab, tmp_path: Path) -> None:
    with Family(nodes, tmp_path, "family") as family:
        parent, child = family.process.pid, max(family.members())
        assert family.move(parent, "2") == ""
        nodes.run(1, "sh", "-c", f"kill -STOP {child}")
        why = f"writable shared memory with {child} (family): stopped by a signal"
        wait_until(lambda: why in nodes.run(1, "mosmigrate", str(parent), "home", timeout=PATIENCE).stderr)
        assert one_place(family) == "2"
        nodes.run(1, "sh", "-c", f"kill -CONT {child}")
        wait_until(lambda: family.move(parent, "home") == "")
        assert one_place(family) == "here"
        assert family.end() == 7


def started(nodes: Lab, folder: Path, name: str) -> subprocess.Popen[bytes]:
    """``threaded/NAME.c`` under mosrun on node 1."""
    compile_c(SOURCES / f"{name}.c", folder / name, ("-O1",))
    process = nodes.start(1, "mosrun", "-h", "--share-memory", str(folder / name), str(folder))
    wait_until(lambda: process.pid in nodes.tree(1).pids("proc"))
    return process


def test_children_of_who_ends_are_not_left_behind(nodes: Lab, tmp_path: Path) -> None:
    process = started(nodes, tmp_path, "chain")
    try:
        for target in ("2", "home", "3", "home") * 5:
            said = nodes.run(1, "mosmigrate", str(process.pid), target, timeout=PATIENCE).stderr
            assert process.poll() is None, said
            assert "elsewhere" not in said
        (tmp_path / "stop").touch()
        assert process.wait(PATIENCE) == 7
    finally:
        process.kill()
        process.wait()


def test_what_a_vfork_child_has_made(nodes: Lab, tmp_path: Path) -> None:
    process = started(nodes, tmp_path, "lent")
    try:
        for target in ("2", "home", "3"):
            assert nodes.run(1, "mosmigrate", str(process.pid), target, timeout=PATIENCE).stderr == ""
        (tmp_path / "stop").touch()
        assert process.wait(PATIENCE) == 7
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("where", ["-h", "-2"])
def test_more_pieces_than_there_can_be(where: str, nodes: Lab) -> None:
    """What is given up makes room; what cannot be made fails, and the program goes on."""
    code = f"""import errno, mmap
for _ in range({MOST_OBJECTS + 100}):
    mmap.mmap(-1, 4096).close()
kept = []
try:
    while len(kept) <= {MOST_OBJECTS}:
        kept.append(mmap.mmap(-1, 4096))
except OSError as error:
    print(len(kept), errno.errorcode[error.errno])
"""
    done = nodes.run(1, "mosrun", where, "--share-memory", "python3", "-c", code, timeout=PATIENCE)
    assert (done.stdout, done.stderr) == (f"{MOST_OBJECTS} ENOMEM\n", "")


def test_without_the_option_it_is_refused(nodes: Lab, tmp_path: Path) -> None:
    code = "import mmap; mmap.mmap(-1, 4096)"
    done = nodes.run(1, "mosrun", "-h", "--share-memory", "mosrun", "--no-share-memory", "python3", "-c", code)
    assert "Shared memory (MAP_SHARED) not supported" in done.stderr
    assert nodes.run(1, "mosrun", "-h", "--share-memory", "python3", "-c", code).returncode == 0


@pytest.mark.parametrize(("action", "how"), [*((action, ()) for action in ACTIONS), ("raise", ("file",))])
@pytest.mark.parametrize("point", list(Sharing))
def test_fault(point: Sharing, action: str, how: tuple[str, ...], nodes: Lab, tmp_path: Path) -> None:
    with Family(nodes, tmp_path, failing_name(point, action), *how) as family:
        said = []
        for target in ("2", "home", "3"):
            if family.process.poll() is None:
                said.append(family.move(family.process.pid, target))
            if family.process.poll() is None:
                one_place(family)
        status = family.end()
        assert status == 7 or (point, action) not in SURVIVES, (said, (family.folder / "err").read_text())
        assert any(said) or status != 7, "the fault was not met"
    wait_until(lambda: not any(nodes.tree(n).pids("guests") for n in (1, 2, 3)))
