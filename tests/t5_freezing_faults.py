"""Every fault point of freezing and un-freezing: the program goes on where it was, or stays frozen. And freezing space.

Each program has a name of its own, by which it meets the one fault that is meant for it.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mosfs.abi.texts import Text, text
from mosfs.wire.faults import Freezing
from tests import cluster
from tests.cluster import Lab, failing_name, wait_until
from tests.frozen import Frozen
from tests.progs import compile_c, scratch
from tests.threaded import SOURCES

pytestmark = pytest.mark.root

#: Something is refused; nobody has foreseen it; the file cannot be read; the program ends there.
ACTIONS = ("refuse", "raise", "cut", "end")
WRITING = [point for point in Freezing if point < Freezing.THAWING]
READING = [point for point in Freezing if point >= Freezing.THAWING]
PLACES = pytest.mark.parametrize("place", ["-h", "-2"])
HOME_FIRST = pytest.mark.parametrize("place", ["-h", pytest.param("-2", marks=pytest.mark.long)])
SEVERAL = pytest.mark.parametrize("several", [False, pytest.param(True, marks=pytest.mark.long)], ids=["one", "threads"])
KINDS = pytest.mark.parametrize("action", ["refuse", pytest.param("raise", marks=pytest.mark.long)])


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with cluster.failing_lab(tmp_path_factory.mktemp("t5"), 2, Freezing, ACTIONS) as running:
        os.makedirs(f"{running.node(1).paths.root}/freeze", exist_ok=True)
        yield running


@contextmanager
def echo(nodes: Lab, folder: Path, place: str, name: str = "cat", *, several: bool = False) -> Iterator[Frozen]:
    """cat(1) by another name; with ``several`` threads, `threaded/echo.c`."""
    if several:
        compile_c(SOURCES / "echo.c", folder / name, ("-O1", "-pthread"))
    else:
        shutil.copy("/bin/cat", folder / name)
    found = Frozen(nodes, folder, place, f"{folder}/{name}")
    found.says("begin")
    yield found
    found.process.kill()
    found.process.communicate()


@SEVERAL
@PLACES
@pytest.mark.parametrize("point", WRITING, ids=lambda point: str(point.name))
@KINDS
def test_freezing_fails_and_the_program_goes_on(
    nodes: Lab, tmp_path: Path, place: str, point: Freezing, action: str, several: bool
) -> None:
    with echo(nodes, tmp_path, place, failing_name(point, action), several=several) as program:
        assert program.wish("freeze").startswith("did not complete")
        assert program.tree.read(f"proc/{program.pid}/frozen") == "-"
        assert program.tree.read(f"proc/{program.pid}/where") == ("2" if place == "-2" else "here")
        program.says("again")
        assert program.wish("freeze") == "ok"
        assert program.wish("continue") == "ok"
        program.says("once more")


@SEVERAL
@HOME_FIRST
@pytest.mark.parametrize("point", READING, ids=lambda point: str(point.name))
@KINDS
def test_unfreezing_fails_and_the_program_is_frozen_again(
    nodes: Lab, tmp_path: Path, place: str, point: Freezing, action: str, several: bool
) -> None:
    """What came for it meanwhile waits on."""
    with echo(nodes, tmp_path, place, failing_name(point, action), several=several) as program:
        assert program.wish("freeze") == "ok"
        program.say("kept")
        assert program.wish("continue").startswith("did not complete")
        assert program.tree.read(f"proc/{program.pid}/frozen") == "M" and program.silent()
        assert program.process.stderr is not None
        assert program.process.stderr.readline().decode() == f"mosrun: {text(Text.REFREEZING)}\n"
        assert program.resident() < 320
        assert program.wish("continue") == "ok"
        assert program.answer() == "kept"


@HOME_FIRST
def test_a_file_that_cannot_be_read_ends_it(nodes: Lab, tmp_path: Path, place: str) -> None:
    with echo(nodes, tmp_path, place, failing_name(Freezing.THAWING, "cut")) as program:
        assert program.wish("freeze") == "ok"
        program.tree.write(f"proc/{program.pid}/frozen", "continue")
        assert program.process.wait(30) == -signal.SIGKILL
        assert program.process.stderr is not None
        assert program.process.stderr.read().decode() == f"mosrun: {text(Text.UNFREEZE_FAILED)}\n"


@SEVERAL
@pytest.mark.long
@PLACES
@pytest.mark.parametrize("point", Freezing, ids=lambda point: str(point.name))
def test_it_is_killed_meanwhile(nodes: Lab, tmp_path: Path, place: str, point: Freezing, several: bool) -> None:
    """Nothing is left of it, and its tracer serves on."""
    with echo(nodes, tmp_path, place, failing_name(point, "end"), several=several) as program:
        if point in READING:
            assert program.wish("freeze") == "ok"
        program.tree.write(f"proc/{program.pid}/frozen", "continue" if point in READING else "freeze")
        assert program.process.wait(30) == -signal.SIGKILL
        wait_until(lambda: program.pid not in program.tree.pids("proc"))
        wait_until(lambda: not nodes.tree(2).pids("guests"))


# --------------------------------------------------------------------------- room

#: What it has of memory does not compress, and is more than a small disk has.
LARGE = "import os, sys; m = os.urandom(8 << 20)\nfor line in sys.stdin: print(line.strip(), len(m), flush=True)"


@contextmanager
def disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of that size."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextmanager
def configured(nodes: Lab, lines: str) -> Iterator[None]:
    """With this freeze.conf on node 1."""
    file = Path(nodes.node(1).paths.etc) / "freeze.conf"
    tree = nodes.tree(1)

    def reread() -> None:
        before = tree.read("node/reload").split(" ", 1)[0]
        tree.write("node/reload", ".")
        wait_until(lambda: tree.read("node/reload").split(" ", 1)[0] != before and tree.read("node/reload").endswith("ok"))

    file.write_text(lines)
    reread()
    try:
        yield
    finally:
        file.unlink()
        reread()


def kept_in(folder: Path) -> list[os.stat_result]:
    """The files without a name that some process has open there."""
    found = []
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if os.readlink(link).startswith(f"{folder}/"):
                found.append(link.stat())
        except OSError:
            continue
    return found


@contextmanager
def large(nodes: Lab, folder: Path, *place: str) -> Iterator[Frozen]:
    found = Frozen(nodes, folder, *place, sys.executable, "-c", LARGE)
    found.say("x")
    assert found.answer() == f"x {8 << 20}"
    yield found
    found.process.kill()
    found.process.communicate()


@HOME_FIRST
def test_a_full_directory_is_followed_by_the_next_one(nodes: Lab, tmp_path: Path, place: str) -> None:
    """4.5.3: MOSIX will try to use the other freezing directories instead; one of weight 0 is the last."""
    (tmp_path / "slow").mkdir()
    with (
        disk(tmp_path / "small", "1m") as small, disk(tmp_path / "medium", "3m") as medium,
        configured(nodes, f"{tmp_path}/slow 0\n{small} 3\n{medium}\n{tmp_path}/missing 9\n"),
        large(nodes, tmp_path, place) as program,
    ):  # fmt: skip
        assert program.wish("freeze") == "ok"
        sizes = [sum(file.st_size for file in kept_in(folder)) for folder in (small, medium, tmp_path / "slow")]
        assert sum(sizes) > 8 << 20 and all(sizes)
        assert program.wish("continue") == "ok"
        program.say("y")
        assert program.answer() == f"y {8 << 20}"
        assert not kept_in(tmp_path / "slow")


@pytest.mark.parametrize("place", ["-h", "-2"])
def test_a_compressed_file(nodes: Lab, tmp_path: Path, place: str) -> None:
    """mosrun(1), --compress: it has room where eight megabytes, and an interpreter, have none."""
    repeats = LARGE.replace("os.urandom(8 << 20)", "b'MOSIX' * (8 << 20)")
    with disk(tmp_path / "small", "6m") as small, configured(nodes, f"{small}\n"):
        program = Frozen(nodes, tmp_path, place, "--compress", sys.executable, "-c", repeats)
        for word in ("x", "y"):
            program.say(word)
            assert program.answer() == f"{word} {40 << 20}"
            assert program.wish("freeze") == "ok"
            assert 0 < sum(file.st_size for file in kept_in(small)) < 6 << 20
            assert program.wish("continue") == "ok"
        program.process.kill()
        program.process.communicate()


@pytest.mark.parametrize(("policy", "killed"), [
    pytest.param("", False, marks=pytest.mark.long), pytest.param("1 0 9 8 -1 -1 0 -1 20 1000000\n", False, marks=pytest.mark.long),
    ("1 0 9 8\n", True),
])  # fmt: skip
def test_no_space_to_freeze(nodes: Lab, tmp_path: Path, policy: str, killed: bool) -> None:
    """mosix(7), killing-memory; where no policy is configured nothing says that the program shall be killed."""
    with disk(tmp_path / "full", "1m") as full, configured(nodes, f"{policy}{full}\n"), large(nodes, tmp_path, "-h") as program:
        if not killed:
            assert program.wish("freeze") == f"{text(Text.NO_FREEZE_SPACE)} ({full}: {os.strerror(errno.ENOSPC)})"
            assert not kept_in(full)
            program.say("y")
            assert program.answer() == f"y {8 << 20}"
            return
        program.tree.write(f"proc/{program.pid}/frozen", "freeze")
        assert program.process.wait(30) == -signal.SIGKILL
        assert program.process.stderr is not None
        assert program.process.stderr.read().decode() == f"mosrun: {text(Text.NO_FREEZE_SPACE)}\n"


@pytest.mark.long
def test_a_guest_without_space_goes_on_where_it_is(nodes: Lab, tmp_path: Path) -> None:
    with disk(tmp_path / "full", "1m") as full, configured(nodes, f"{full}\n"), large(nodes, tmp_path, "-2") as program:
        assert program.wish("freeze").startswith(text(Text.NO_FREEZE_SPACE))
        assert program.tree.read(f"proc/{program.pid}/where") == "2"
        program.say("y")
        assert program.answer() == f"y {8 << 20}"


@pytest.mark.long
def test_without_a_directory_nothing_is_killed(nodes: Lab, tmp_path: Path) -> None:
    """"please make sure that it exists, or freezing will always fail"."""
    with configured(nodes, f"1 0 9 8\n{tmp_path}/missing\n"), echo(nodes, tmp_path, "-h") as program:
        assert program.wish("freeze") == f"{text(Text.NO_FREEZE_SPACE)} ({tmp_path}/missing: {os.strerror(errno.ENOENT)})"
        program.says("again")


@pytest.mark.long
def test_files_are_made_as_the_user_of_the_configuration(nodes: Lab, tmp_path: Path) -> None:
    """4.5.4: some NFS servers do not allow access to root."""
    with scratch() as folder:
        os.chown(folder, 65534, -1)
        with configured(nodes, f"{folder}\nU 65534\n"), echo(nodes, tmp_path, "-h") as program:
            assert program.wish("freeze") == "ok"
            assert [file.st_uid for file in kept_in(folder)] == [65534]
            assert program.wish("continue") == "ok"
            program.says("again")


@pytest.mark.parametrize("way", ["FREEZE_DIR", ".freeze_dirs"])
def test_a_user_has_freezing_space_of_his_own(nodes: Lab, tmp_path: Path, way: str) -> None:
    """mosrun(1), ALTERNATIVE FREEZING SPACE."""
    folder = tmp_path / "own"
    folder.mkdir()
    home = {"HOME": str(tmp_path)}
    if way == ".freeze_dirs":
        (tmp_path / way).write_text(f"{tmp_path}/missing 2\n{folder} 1\n")
    else:
        home["FREEZE_DIR"] = str(folder)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in home.items():
            patch.setitem(nodes.environ, name, value)  # type: ignore[arg-type]
        with echo(nodes, tmp_path, "-h") as program:
            assert program.wish("freeze") == "ok"
            assert len(kept_in(folder)) == 1
            assert program.wish("continue") == "ok"
            program.says("again")


def test_a_users_own_space_that_is_none_is_refused(nodes: Lab, tmp_path: Path) -> None:
    environ = {**nodes.environ, "FREEZE_DIR": "scratch"}
    words, environ = cluster.placed(nodes.node(1), ["mosrun", "-h", "true"], environ)
    done = subprocess.run(words, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode != 0 and "FREEZE_DIR or .freeze_dirs, line 1: 'scratch'" in done.stderr


# --------------------------------------------------------------------------- by policy


def marks(nodes: Lab, pids: list[int]) -> list[str]:
    return sorted(nodes.tree(1).read(f"proc/{pid}/frozen") for pid in pids)


@pytest.mark.long
def test_max_procs_and_the_end_of_a_policy(nodes: Lab) -> None:
    """One of three runs; who is not to be frozen is not (-g); each decision is explained; without a policy all go on."""
    spin = ["sh", "-c", "while :; do :; done"]
    with configured(nodes, f"1 0 -1 100 -1 -1 0 1\n{nodes.node(1).paths.root}/freeze\n"):
        kept = nodes.start(1, "mosrun", "-h", "-g", *spin)
        others = [nodes.start(1, "mosrun", "-h", *spin) for _ in range(2)]
        pids = [process.pid for process in others]
        for process in (kept, *others):
            nodes.process(process.pid)
        wait_until(lambda: marks(nodes, pids) == ["A", "A"])
        assert nodes.tree(1).read(f"proc/{kept.pid}/frozen") == "-"
        assert "programs run, at most 1 may" in nodes.tree(1).read("node/decisions")
        kept.kill()
        wait_until(lambda: marks(nodes, pids) == ["-", "A"])
    wait_until(lambda: marks(nodes, pids) == ["-", "-"])
    for process in others:
        process.kill()
