"""mosrun --outlive: programs whose host, daemon or node is killed at random moments go on, and nothing that they do is done twice.

What a program prints and writes is what it prints and writes natively, byte for byte; or it ends with the manual's message, which
is counted, and what it has written until then is the beginning of that.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests import cluster, link
from tests import outlive as trials
from tests.cluster import Lab, kill_node, wait_until
from tests.outlive import AWAY
from tests.outlived import PROGRAMS, Outcome, verdict
from tests.progs import scratch
from tests.t5_kills import daemons, kill

pytestmark = pytest.mark.root

PATIENCE = 120.0


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with cluster.lab(tmp_path_factory.mktemp("outlive"), 1 + len(AWAY)) as running:
        yield running


@pytest.fixture
def folder() -> Iterator[Path]:
    with scratch() as path:
        yield path


def natively(name: str, folder: Path) -> Outcome:
    PROGRAMS[name].prepare(folder)
    return Outcome.of(trials.start(None, PROGRAMS[name], folder, {}), folder)


def node_of(nodes: Lab, pid: int) -> int:
    """Where the program is; 0 at home."""
    process = nodes.tree(1).process(pid)
    where = process.where if process is not None else ""
    return next((node.number for node in nodes.plan.nodes() if node.ip == where), 0)


def host(nodes: Lab, number: int) -> None:
    for pid in daemons(nodes, number, "mos-host"):
        kill(pid, lambda: True)


def begin(nodes: Lab, folder: Path, number: int, *command: str) -> subprocess.Popen[bytes]:
    """Start a command in ``folder``, on node ``number``, so that it outlives that."""
    return nodes.start(
        1, "mosrun", "--outlive", f"-{nodes.node(number).ip}", *command, cwd=folder,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )


def outliving(nodes: Lab, process: subprocess.Popen[bytes]) -> str:
    """The file of that name; "" while a daemon that has just started does not know the program."""
    with suppress(FileNotFoundError):
        return nodes.tree(1).read(f"proc/{process.pid}/outliving")
    return ""


def begin_safe(nodes: Lab, folder: Path, name: str) -> subprocess.Popen[bytes]:
    """Start a program on node 2; it would outlive that now."""
    PROGRAMS[name].prepare(folder)
    process = trials.start(nodes, PROGRAMS[name], folder, trials.prefixes(nodes, (2, 3)))
    nodes.process(process.pid)
    assert wait_until(lambda: outliving(nodes, process).startswith("yes"), PATIENCE)
    return process


def same(name: str, process: subprocess.Popen[bytes], folder: Path, expected: Outcome) -> bool:
    """Whether it ends as natively."""
    return verdict(PROGRAMS[name], Outcome.of(process, folder), expected, folder) == ("equal", "")


def test_what_a_program_has_done_is_not_done_again(nodes: Lab, folder: Path) -> None:
    """As soon as it is safe, its node dies."""
    expected = natively("append", folder / "native")
    process = begin_safe(nodes, folder / "away", "append")
    host(nodes, 2)
    assert same("append", process, folder / "away", expected)
    assert " lives on " in nodes.logs()


#: So many moments of each kind.
MOMENTS = int(os.environ.get("MOSIX_OUTLIVE_MOMENTS", "22"))


def at_random_moments(folder: Path, kinds: tuple[str, ...], names: list[str], moments: int) -> str:
    """Nothing is done twice and nothing is lost (`tests.outlive`). The table of what was seen."""
    seed, results = random.randrange(1 << 32), folder / "results"
    wrong = trials.run(seed, results, kinds, names, moments, jobs=1)
    found = trials.rows(results)
    told = f"seed {seed}\n{trials.table(found)}"
    assert not wrong and not any(row["verdict"] == "LAB" for row in found), f"{told}\n{found}"
    assert not trials.tasks_left(found, kinds, names, moments), f"{told}\n{found}"
    assert any(row["verdict"] == "equal" and row["revived"] for row in found) or "mosd" in kinds, told
    return told


@pytest.mark.long
@pytest.mark.parametrize("name", ["pipe", "random"])
def test_at_some_random_moments(folder: Path, name: str) -> None:
    """Its host, its node, and mosd there."""
    print(at_random_moments(folder, ("host", "node", "mosd"), [name], 2))


@pytest.mark.long
@pytest.mark.timeout(0)
@pytest.mark.parametrize("kind", ["host", "node", "mosd", "home", pytest.param("link", marks=link.possible)])
def test_at_random_moments(folder: Path, kind: str) -> None:
    """Moments of the lives of all programs. "home": mosd there is killed and restarted with the host."""
    print(at_random_moments(folder, (kind,), [*PROGRAMS], MOMENTS))


@pytest.mark.long
def test_the_daemon_at_home_is_restarted_meanwhile(nodes: Lab, folder: Path) -> None:
    """Before its node dies, and when it is made again."""
    expected = natively("append", folder / "native")
    process = begin_safe(nodes, folder / "away", "append")
    for lost in (1, 2):
        nodes.kill_mosd(1)
        for number in AWAY:
            host(nodes, number)
        nodes.start_mosd(1)
        if lost == 1:
            wait_until(lambda: "outlived=1" in outliving(nodes, process), PATIENCE)
    assert same("append", process, folder / "away", expected)
    assert " lives on " in nodes.logs()


HANDLERS = """
import os, select, signal
count = 0
def handler(*_):
    global count
    count += 1
    os.write(out, b"%d\\n" % count)
    if count == 2:
        raise SystemExit("end")
out = os.open("out", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
signal.signal(signal.SIGUSR1, handler)
select.select([], [], [], 600)
"""


@pytest.mark.long
def test_a_signal_that_ended_a_call_is_repeated(nodes: Lab, folder: Path) -> None:
    """The image was made while it waited in the call; what it did at the end of its handler is what it does again."""
    process = begin(nodes, folder, 2, "python3", "-IS", "-c", HANDLERS)
    nodes.process(process.pid)
    wait_until(lambda: (told := outliving(nodes, process)).startswith("yes") and images(told) > 1, PATIENCE)
    for count in (1, 2):
        os.kill(process.pid, signal.SIGUSR1)
        wait_until(lambda wanted=count: len((folder / "out").read_bytes().splitlines()) == wanted)  # type: ignore[misc]
        if count == 1:
            host(nodes, node_of(nodes, process.pid))
            wait_until(lambda: "outlived=1" in outliving(nodes, process), PATIENCE)
    found = Outcome.of(process, folder)
    assert (found.status, found.out, found.err, found.files["out"]) == (1, b"", b"end\n", b"1\n2\n"), nodes.logs()


def images(told: str) -> int:
    """How many there have been, by the file `outliving`."""
    return next((int(word.partition("=")[2]) for word in told.split() if word.startswith("images=")), 0)


@pytest.mark.long
def test_no_other_node_takes_it(nodes: Lab, folder: Path) -> None:
    """It waits, and who wants it at home is told so; when nodes are back, it goes on."""
    expected = natively("append", folder / "native")
    process = begin_safe(nodes, folder / "away", "append")
    for number in (3, 4, 2):
        kill_node(nodes, number)
    told = wait_until(lambda: [
        line for line in nodes.run(1, "mosmigrate", str(process.pid), "home").stderr.splitlines() if "its node was lost" in line
    ], PATIENCE)  # fmt: skip
    assert "it waits for another" in told[0] or "it repeats" in told[0]
    assert process.poll() is None
    for number in AWAY:
        nodes.start_mosd(number)
    assert same("append", process, folder / "away", expected), nodes.logs()


def test_a_body_dies_with_its_node_in_a_call(nodes: Lab, folder: Path) -> None:
    """Home has heard that it died, and has no time for that before the call ends: by then the program is in its image."""
    process = nodes.start(
        1, "mosrun", "--outlive", f"-{nodes.node(2).ip}", "head", "-n1", cwd=folder,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )
    nodes.process(process.pid)
    wait_until(lambda: (told := outliving(nodes, process)).startswith("yes") and images(told) > 1, PATIENCE)
    for number in (3, 4):
        kill_node(nodes, number)
    for body in nodes.tree(2).pids("guests"):
        kill(body, lambda: True)
    wait_until(lambda: "its body was killed" in nodes.logs() or not nodes.tree(2).pids("guests"))
    kill_node(nodes, 2)
    wait_until(lambda: f"pid={process.pid} Lost communication" in nodes.logs(), PATIENCE)
    assert process.stdin is not None
    process.stdin.write(b"a line\n")
    process.stdin.flush()
    for number in AWAY:
        nodes.start_mosd(number)
    found = Outcome.of(process, folder)
    assert (found.status, found.out, found.err) == (0, b"a line\n", b""), nodes.logs()


@pytest.mark.long
@link.possible
def test_a_link_is_cut(tmp_path: Path, folder: Path) -> None:
    """The node goes on computing, and nothing that it does is seen by anybody any more: after 20 s another one does it."""
    expected = natively("append", folder / "native")
    with cluster.lab(tmp_path, 3, netns=True) as nodes, link.network(nodes.plan) as net:
        process = begin_safe(nodes, folder / "away", "append")
        net.part(2)
        assert same("append", process, folder / "away", expected), nodes.logs()
        assert " lives on " in nodes.logs()
