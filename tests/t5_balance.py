"""A cluster that levels out by itself: real nodes, real programs, automatic moves."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import cluster
from tests.cluster import Lab, wait_until

pytestmark = pytest.mark.root

#: Computes until it is killed, and makes no calls.
SPIN = "int main(void) { for (volatile unsigned long n = 0;; n++) ; }"
DD = ("dd", "if=/dev/zero", "of=/dev/null", "bs=4k")
PATIENCE = 90.0


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with cluster.lab(tmp_path_factory.mktemp("t5"), 3, balance=True) as running:
        yield running


@pytest.fixture(scope="module")
def spin(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("spin")
    (folder / "spin.c").write_text(SPIN)
    subprocess.run(["gcc", "-O1", "-o", str(folder / "spin"), str(folder / "spin.c")], check=True)
    return str(folder / "spin")


@contextmanager
def running(nodes: Lab, *commands: tuple[str, ...]) -> Iterator[list[int]]:
    """The programs as on node 1, and their PIDs; killed at the end."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    started = [nodes.start(1, "mosrun", *command, **quiet) for command in commands]
    try:
        for process in started:
            nodes.process(process.pid)
        yield [process.pid for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()
        wait_until(lambda: not any(nodes.tree(n).pids("proc") or nodes.tree(n).pids("guests") for n in (1, 2, 3)))


def groups(controller: str) -> bool:
    """Whether this machine lets us limit the ``controller`` (cpu, memory) of a node."""
    return any(os.access(f"/sys/fs/cgroup/{path}", os.W_OK) for path in (controller, "cgroup.subtree_control"))


def where(nodes: Lab, pid: int) -> str:
    return nodes.tree(1).read(f"proc/{pid}/where").strip()


def history(nodes: Lab, pid: int) -> dict[str, float]:
    found: dict[str, float] = json.loads(nodes.tree(1).read(f"proc/{pid}/history"))
    return found


def test_programs_spread_out_by_themselves(nodes: Lab, spin: str) -> None:
    with running(nodes, *[(spin,)] * 6) as pids:
        def even() -> bool:
            places = [where(nodes, pid) for pid in pids]
            return all(places.count(place) <= 3 for place in places) and {"here", "2", "3"} == set(places)

        wait_until(even, PATIENCE)
        decisions = nodes.tree(1).read("node/decisions")
        gone = [pid for pid in pids if where(nodes, pid) in ("2", "3")]
        for pid in gone:
            assert f"(PID {pid}) to " in decisions
            assert "a CPU second takes" in nodes.tree(1).read(f"proc/{pid}/why")
        wait_until(lambda: history(nodes, gone[0])["age"] > history(nodes, gone[0])["here"] == 0)


def test_an_io_bound_program_comes_home_and_a_cpujob_does_not(nodes: Lab) -> None:
    with running(nodes, ("-2", *DD), ("-2", "-c", *DD)) as (ordinary, cpujob):
        wait_until(lambda: where(nodes, ordinary) == "here", PATIENCE)
        wait_until(lambda: history(nodes, cpujob).get("calls", 0) > 100, PATIENCE)
        assert where(nodes, cpujob) in ("2", "3")


#: Forks, and works on files, so many times at most, until it is at home, and a few times more there; then says where it is, and how
#: often it has moved. $0: mount, $1: the times, $2: the work.
JOB = (
    "n=0; last=$1; while [ $n -lt $last ]; do n=$((n + 1)); [ -e /usr/$n ]; (exit 3); $2; (exit 4);"
    " read where < $0/self/whereami; [ $where = 0 ] && [ $last = $1 ] && last=$((n + 4)); done;"
    " read moves < $0/self/nmigs; echo $where $moves"
)


def test_a_script_that_works_on_files_comes_home_at_once_and_stays(nodes: Lab) -> None:
    """Not when a second is over, and although each of its children ends before anybody has looked at it. It does a few rounds until
    it is there, many where other processes are in the way of those who decide."""
    mount = nodes.node(1).paths.mount
    assert nodes.run(1, "mosrun", "-2", "sh", "-c", JOB, mount, "200", "ls -l /etc/.").stdout.splitlines()[-1] == "0 2"
    assert nodes.run(1, "mosrun", "-2", "-L", "sh", "-c", JOB, mount, "4", "true").stdout == "2 1\n"


def moves(nodes: Lab, pids: list[int], seconds: float) -> float:
    """Moves a minute and program, in so many seconds."""
    def made() -> int:
        return sum(int(nodes.tree(1).read(f"proc/{pid}/nmigs")) for pid in pids)

    before = made()
    time.sleep(seconds)
    return (made() - before) * 60 / seconds / len(pids)


def test_no_ping_pong(nodes: Lab, spin: str) -> None:
    """Three programs on each of three nodes: there is nothing to gain."""
    with running(nodes, *[(place, spin) for place in ("-h", "-2", "-3") * 3]) as pids:
        wait_until(lambda: all(history(nodes, pid).get("age", 0) > 0.2 for pid in pids), PATIENCE)
        wait_until(lambda: moves(nodes, pids, 5) < 1, PATIENCE)  # while the first seconds are measured one may still move


@pytest.mark.long
@pytest.mark.skipif(not groups("cpu"), reason="no control groups for processors here")
def test_no_ping_pong_in_a_steady_overload(tmp_path: Path, spin: str) -> None:
    """Twelve programs start on one of four unequal nodes; what is left to move after they have levelled out is next to nothing."""
    with cluster.lab(tmp_path, 4, balance=True, cpus=(0.5, 0.3, 0.25, 0.15)) as unequal:
        pids = [unequal.start(1, "mosrun", spin).pid for _ in range(12)]
        for pid in pids:
            unequal.process(pid)
        wait_until(lambda: {where(unequal, pid) for pid in pids} == {"here", "2", "3", "4"}, PATIENCE)
        wait_until(lambda: moves(unequal, pids, 20) < 1, PATIENCE)
        rates = [moves(unequal, pids, 60) for _ in range(3)]
        assert max(rates) < 1, rates


def test_a_locked_program_stays(nodes: Lab, spin: str) -> None:
    with running(nodes, ("-L", "-2", spin), *[("-2", spin)] * 5) as (locked, *others):
        def guest() -> str | None:
            names = nodes.tree(2).pids("guests")
            return next((name for name in names if nodes.tree(2).read(f"guests/{name}/origpid").strip() == str(locked)), None)

        number = wait_until(guest)
        wait_until(lambda: "locked" in nodes.tree(2).read(f"guests/{number}/why"))
        wait_until(lambda: any(where(nodes, pid) in ("here", "3") for pid in others), PATIENCE)
        assert where(nodes, locked) == "2"


def test_lstay_keeps_the_programs_of_this_node(nodes: Lab, spin: str) -> None:
    tree = nodes.tree(1)
    tree.write("node/lstay", "1")
    try:
        with running(nodes, *[(spin,)] * 5) as pids:
            wait_until(lambda: all("lstay" in tree.read(f"proc/{pid}/why") for pid in pids), PATIENCE)
            tree.write("node/lstay", "0")
            wait_until(lambda: any(where(nodes, pid) in ("2", "3") for pid in pids), PATIENCE)
    finally:
        tree.write("node/lstay", "0")


def test_clear_and_decay(nodes: Lab, spin: str) -> None:
    """mosix(7), clear: the statistics begin anew; how old the program is stays known."""
    with running(nodes, ("-L", spin)) as (pid,):
        wait_until(lambda: history(nodes, pid).get("seconds", 0) > 1.5, PATIENCE)
        before = history(nodes, pid)
        nodes.tree(1).write(f"proc/{pid}/clear", "1")
        after = wait_until(lambda: now if (now := history(nodes, pid))["seconds"] < before["seconds"] else None)
        assert after["age"] >= before["age"]


#: Takes 3 MB at a time until it has 360 MB, more than its node: a third of it at once, the rest by 25 MB a second, on a machine of
#: whatever speed, and computes in between.
GROW = """
import time
kept, due = [], time.monotonic()
while len(kept) < 120:
    kept.append(bytearray(b"x" * (3 << 20)))
    due = due + 0.12 if len(kept) > 40 else time.monotonic()
    while time.monotonic() < due:
        pass
print("grown", sum(block[-1] for block in kept))
"""


@pytest.mark.skipif(not groups("memory"), reason="no control groups for memory here")
def test_a_growing_program_leaves_before_its_node_is_full(tmp_path: Path) -> None:
    """Another needs more than the other node has (mosrun -m), and stays."""
    with cluster.lab(tmp_path, 2, balance=True, memory=(340, 900)) as nodes:
        pipe = subprocess.PIPE
        growing = nodes.start(1, "mosrun", "python3", "-c", GROW, stdout=pipe)
        spin = ("python3", "-c", "while True: pass")
        needy = nodes.start(1, "mosrun", "-m5000", *spin)
        for process in (growing, needy):
            nodes.process(process.pid)
        wait_until(lambda: where(nodes, growing.pid) == "2", PATIENCE)
        assert growing.stdout and growing.stdout.read() == b"grown 14400\n"
        assert growing.wait() == 0
        assert f"(PID {growing.pid}) to 2" in nodes.tree(1).read("node/decisions")
        wait_until(lambda: "room" in nodes.tree(1).read(f"proc/{needy.pid}/why"))
        assert where(nodes, needy.pid) == "here"


def test_balancing_is_off_in_an_ordinary_lab(tmp_path: Path, spin: str) -> None:
    with cluster.lab(tmp_path, 2) as plain:
        processes = [plain.start(1, "mosrun", spin) for _ in range(2 * (os.cpu_count() or 1))]
        for process in processes:
            plain.process(process.pid)
        wait_until(lambda: all(history(plain, process.pid).get("age", 0) > 0.5 for process in processes), PATIENCE)
        assert {where(plain, process.pid) for process in processes} == {"here"}
        assert not plain.tree(1).read("node/decisions").strip()
