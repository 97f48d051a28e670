"""Freezing by hand: a frozen program has no memory, answers to nothing but what ends it, and goes on as if nothing had been.

Manual 5.3, 11.3; mosix(7), freeze.conf, notes 6 and 7; mosmigrate(1).
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mosfs.abi.outcomes import UNDER_WAY
from mosfs.trace.proc import tracer_of
from tests import cluster
from tests.cluster import Lab, wait_until
from tests.frozen import Frozen
from tests.progs import compile_c
from tests.threaded import SOURCES

pytestmark = pytest.mark.root

#: 32 MB that nothing compresses and no page of which is zero; what it reads ends a round, and the answer tells all that it has.
HOLDER = """
import hashlib, os, signal, sys
memory = bytearray(os.urandom(1 << 20)) * 32
digest = hashlib.md5(memory).digest()
heard = []
for number in (signal.SIGUSR1, signal.SIGUSR2):
    signal.signal(number, lambda number, _: heard.append(number))
signal.signal(signal.SIGWINCH, signal.SIG_IGN)
lock = open("lock", "w")
import fcntl
fcntl.flock(lock, fcntl.LOCK_EX)
print("ready", flush=True)
for line in sys.stdin:
    print(line.strip(), hashlib.md5(memory).digest() == digest, sorted(heard), flush=True)
"""


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with cluster.lab(tmp_path_factory.mktemp("t5"), 2) as running:
        os.makedirs(f"{running.node(1).paths.root}/freeze", exist_ok=True)
        yield running


@pytest.fixture(scope="module", params=["-h", "-2"])
def holder(nodes: Lab, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Frozen]:
    """HOLDER, at home and away; each test leaves it un-frozen."""
    found = Frozen(nodes, tmp_path_factory.mktemp("holder"), request.param, sys.executable, "-c", HOLDER)
    assert found.answer() == "ready"
    yield found
    found.process.kill()
    found.process.communicate()


@pytest.fixture
def sleeper(nodes: Lab, tmp_path: Path, place: str) -> Frozen:
    return Frozen(nodes, tmp_path, place, "sleep", "100")


PLACES = pytest.mark.parametrize("place", ["-h", pytest.param("-2", marks=pytest.mark.long)])


def test_a_frozen_program_has_no_memory_and_goes_on_with_all_of_it(holder: Frozen) -> None:
    """...and the file in which it is kept is unlinked as soon as it is made (4.5.3)."""
    folder = f"{holder.nodes.node(1).paths.root}/freeze"
    assert holder.wish("freeze") == "ok"
    assert holder.resident() < 320  # of 32 MB and an interpreter
    assert not os.listdir(folder)
    assert wait_until(lambda: holder.tree.read(f"proc/{holder.pid}/frozen") == "M")
    assert holder.tree.read(f"proc/{holder.pid}/where") == "here"
    assert holder.tree.read(f"proc/{holder.pid}/why") == "it is frozen by hand"
    assert holder.stat()["frozen"] == "M" and holder.stat()["state"] == "frozen"
    wait_until(lambda: not holder.nodes.tree(2).pids("guests"))
    wait_until(lambda: holder.nodes.tree(1).read("node/frozen") == "1")
    with open(holder.folder / "lock", encoding="ascii") as lock, pytest.raises(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert Path(f"/proc/{holder.pid}/cwd").resolve() == holder.folder.resolve()
    assert b"import hashlib" in Path(f"/proc/{holder.pid}/cmdline").read_bytes()

    before = holder.cpu()
    holder.say("hello")
    assert holder.silent()
    with open(f"/proc/{holder.pid}/fd/0", "rb") as pipe:  # nobody has read it
        wait_until(lambda: select.select([pipe], [], [], 0)[0])
    time.sleep(0.05)
    assert holder.silent() and holder.cpu() == before
    assert holder.wish("continue") == "ok"
    assert holder.answer().startswith("hello True")
    assert holder.tree.read(f"proc/{holder.pid}/frozen") == "-"


@pytest.mark.parametrize("place", ["-h", "-2"])
def test_threads_are_frozen_with_their_program(nodes: Lab, tmp_path: Path, place: str) -> None:
    """Each in what it waits for; and each goes on with it (`threaded/echo.c`)."""
    compile_c(SOURCES / "echo.c", tmp_path / "echo", ("-O1", "-pthread"))
    found = Frozen(nodes, tmp_path, place, f"{tmp_path}/echo")
    found.says("begin")
    for word in ("first", "second", "third"):
        assert found.wish("freeze") == "ok"
        assert found.resident() < 512 and len(os.listdir(f"/proc/{found.pid}/task")) >= 9
        wait_until(lambda: not nodes.tree(2).pids("guests"))
        before = found.cpu()
        found.say(word)
        time.sleep(0.1)
        assert found.silent() and found.cpu() == before
        assert found.wish("continue") == "ok"
        assert found.answer() == word
    assert found.process.stdin is not None and found.process.stderr is not None
    found.process.stdin.close()
    assert found.process.wait(60) == 3 and not found.process.stderr.read()


def test_signals_with_a_handler_wait_until_it_goes_on(holder: Frozen) -> None:
    """mosix(7): frozen processes do not respond to anything, except an unfreeze request or a signal that kills them."""
    assert holder.wish("freeze") == "ok"
    for number in (signal.SIGUSR1, signal.SIGWINCH, signal.SIGUSR2, signal.SIGURG):
        os.kill(holder.pid, number)
    holder.say("after")
    assert holder.silent() and holder.resident() < 320
    assert holder.wish("continue") == "ok"
    assert holder.answer() == f"after True {[int(signal.SIGUSR1), int(signal.SIGUSR2)]}"


@PLACES
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGALRM], ids=lambda number: str(number.name))
def test_a_deadly_signal_ends_it(sleeper: Frozen, number: signal.Signals) -> None:
    assert sleeper.wish("freeze") == "ok"
    os.kill(sleeper.pid, number)
    assert sleeper.process.wait(30) == -number
    wait_until(lambda: sleeper.pid not in sleeper.tree.pids("proc"))


def test_it_may_be_frozen_again_and_again(holder: Frozen) -> None:
    for number in range(3):
        assert holder.wish("freeze") == "ok"
        assert holder.wish("freeze") == "ok"
        holder.say(str(number))
        assert holder.wish("continue") == "ok"
        assert holder.answer() .split()[:2] == [str(number), "True"]
    assert holder.wish("continue") == "ok"


def test_nothing_else_can_be_done_with_it(holder: Frozen) -> None:
    """It does not move; a checkpoint is taken when it is un-frozen (mosrun(1), CHECKPOINTS)."""
    tree, base = holder.tree, f"proc/{holder.pid}"
    assert holder.wish("freeze") == "ok"
    done = holder.nodes.run(1, "mosmigrate", str(holder.pid), "2")
    assert (done.returncode, done.stderr) == (1, "mosmigrate: failed migrating to 2: it is frozen\n")
    tree.write(f"{base}/checkpoint", "checkpoint")
    assert wait_until(lambda: tree.read(f"{base}/checkpointed").endswith(UNDER_WAY))
    assert holder.wish("continue") == "ok"
    wait_until(lambda: not tree.read(f"{base}/checkpointed").endswith(UNDER_WAY))


def test_another_package_freezes_it(holder: Frozen) -> None:
    """P; a freezing by hand takes its place."""
    assert holder.wish("preempt") == "ok"
    assert holder.tree.read(f"proc/{holder.pid}/frozen") == "P"
    assert " P " in holder.nodes.run(1, "mosps", "-A").stdout
    assert holder.wish("freeze") == "ok"
    assert holder.tree.read(f"proc/{holder.pid}/frozen") == "M"
    with pytest.raises(OSError, match="Invalid"):
        holder.tree.write(f"proc/{holder.pid}/frozen", "melt")
    assert holder.wish("continue") == "ok"


def test_commands(holder: Frozen) -> None:
    nodes = holder.nodes
    done = nodes.run(1, "mosmigrate", str(holder.pid), "freeze")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    rows = json.loads(nodes.run(1, "mosps", "--json").stdout)
    assert [(row["frozen"], row["where"]) for row in rows if row["pid"] == holder.pid] == [("M", "")]
    assert nodes.run(1, "mosmigrate", str(holder.pid), "continue").returncode == 0
    holder.say("x")
    assert holder.answer().startswith("x True")
    assert nodes.run(1, "mosmigrate", "1", "freeze").stderr == "mosmigrate: 1: no such MOSIX process\n"


def test_a_program_that_cannot_leave_cannot_be_frozen(nodes: Lab) -> None:
    code = "import threading, time; threading.Thread(target=time.sleep, args=(9,)).start(); print(1, flush=1); time.sleep(9)"
    process = nodes.start(1, "mosrun", "-h", "--no-threads", "--stay-home", sys.executable, "-c", code, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"1\n"
    done = nodes.run(1, "mosmigrate", str(process.pid), "freeze")
    assert done.returncode == 1 and done.stderr.startswith(f"mosmigrate: {process.pid}: not frozen: stays at home: ")
    assert " N/A " in nodes.run(1, "mosps", "-A").stdout
    process.kill()


def test_a_stopped_program_cannot_be_frozen(holder: Frozen) -> None:
    """mosmigrate(1), continue: one that was stopped by a signal goes on, too."""
    os.kill(holder.pid, signal.SIGSTOP)
    wait_until(lambda: "stopped" in holder.wish("freeze"))
    holder.say("stands")
    assert holder.silent()
    assert holder.nodes.run(1, "mosmigrate", str(holder.pid), "continue").returncode == 0
    assert holder.answer().startswith("stands True")


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., None]]:
    """Sends signals as Slurm's daemon does, of which nothing counts but its name and its user. Like that it lives on."""
    program = tmp_path_factory.mktemp("package") / "slurmstepd"
    shutil.copy("/bin/sh", program)

    with subprocess.Popen([str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as daemon:
        assert daemon.stdin is not None and daemon.stdout is not None

        def send(pid: int, *names: str) -> None:
            print("\n".join([*(f"kill -{name} {pid}" for name in names), "echo sent"]), file=daemon.stdin, flush=True)
            assert daemon.stdout.readline() == "sent\n"

        yield send
        daemon.stdin.close()


def stopped(pid: int) -> bool:
    """Whether a child has stopped; this is told once."""
    return os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOHANG) is not None


@pytest.mark.parametrize("signals", [("TSTP", "STOP"), ("STOP",)], ids="-".join)
def test_who_is_stopped_by_slurm_is_frozen_too(holder: Frozen, package: Callable[..., None], signals: tuple[str, ...]) -> None:
    """It is stopped for all who look, its memory is free, and SIGCONT is enough for both."""
    package(holder.pid, *signals)
    wait_until(lambda: stopped(holder.pid))
    assert holder.tree.read(f"proc/{holder.pid}/frozen") == "P"
    assert holder.resident() < 320
    holder.say("stands")
    assert holder.silent()
    package(holder.pid, "CONT")
    assert holder.answer().startswith("stands True")
    wait_until(lambda: holder.tree.read(f"proc/{holder.pid}/frozen") == "-")


@pytest.mark.parametrize("place", ["-h", "-2"])
def test_who_has_threads_is_only_stopped_by_slurm(
    nodes: Lab, tmp_path: Path, place: str, package: Callable[..., None]
) -> None:
    compile_c(SOURCES / "echo.c", tmp_path / "echo", ("-O1", "-pthread"))
    found = Frozen(nodes, tmp_path, place, f"{tmp_path}/echo")
    found.says("begin")
    for word in ("first", "second", "third"):
        package(found.pid, "TSTP", "STOP")
        wait_until(lambda: stopped(found.pid))
        assert found.tree.read(f"proc/{found.pid}/frozen") == "-"
        package(found.pid, "CONT")
        found.says(word)
    assert found.process.stdin is not None
    found.process.stdin.close()
    assert found.process.wait(60) == 3


def test_at_once_stopped_and_continued_by_slurm(holder: Frozen, package: Callable[..., None]) -> None:
    for round_number in range(20):
        package(holder.pid, *(["TSTP", "STOP", "CONT"] if round_number % 2 else ["STOP", "CONT", "TSTP", "STOP", "CONT"]))
    holder.say("goes on")
    assert holder.answer().startswith("goes on True")
    wait_until(lambda: holder.tree.read(f"proc/{holder.pid}/frozen") == "-")


def test_who_is_stopped_by_others_keeps_his_memory(holder: Frozen) -> None:
    os.kill(holder.pid, signal.SIGSTOP)
    wait_until(lambda: stopped(holder.pid))
    assert holder.tree.read(f"proc/{holder.pid}/frozen") == "-"
    os.kill(holder.pid, signal.SIGCONT)
    holder.say("x")
    assert holder.answer().startswith("x True")


def test_what_is_frozen_by_hand_stays_so_when_slurm_goes_on(holder: Frozen, package: Callable[..., None]) -> None:
    assert holder.wish("freeze") == "ok"
    package(holder.pid, "TSTP", "STOP")
    wait_until(lambda: stopped(holder.pid))
    package(holder.pid, "CONT")
    wait_until(lambda: os.waitid(os.P_PID, holder.pid, os.WCONTINUED | os.WNOHANG))
    assert holder.tree.read(f"proc/{holder.pid}/frozen") == "M"
    wait_until(lambda: holder.wish("continue") == "ok")  # the tracer hears of SIGCONT a moment later


def test_who_cannot_be_frozen_is_stopped_by_slurm_as_ever(holder: Frozen, package: Callable[..., None]) -> None:
    folder = Path(f"{holder.nodes.node(1).paths.root}/freeze")
    folder.rmdir()
    try:
        package(holder.pid, "TSTP", "STOP")
        wait_until(lambda: stopped(holder.pid))
        assert holder.tree.read(f"proc/{holder.pid}/frozen") == "-"
        package(holder.pid, "CONT")
        holder.say("x")
        assert holder.answer().startswith("x True")
    finally:
        folder.mkdir()


def test_a_signal_stops_it_before_we_can(holder: Frozen) -> None:
    """The stop that freezing needs would come after SIGCONT only: the request is answered, and the next ones work."""
    base = f"proc/{holder.pid}"
    at_home = holder.tree.read(f"{base}/where") == "here"
    tracer = tracer_of(holder.pid)
    before = holder.tree.read(f"{base}/freezing")
    os.kill(tracer, signal.SIGSTOP)
    try:
        holder.tree.write(f"{base}/frozen", "freeze")
        time.sleep(0.05)  # for the request to be there
        os.kill(holder.pid, signal.SIGSTOP)
    finally:
        os.kill(tracer, signal.SIGCONT)

    def answer() -> str:
        found = holder.tree.read(f"{base}/freezing")
        return "" if found == before or found.endswith(UNDER_WAY) else found.partition(" ")[2]

    words = wait_until(answer)
    assert words == "stopped by a signal" or not at_home, words
    assert holder.nodes.run(1, "mosmigrate", str(holder.pid), "continue").returncode == 0
    wait_until(lambda: holder.wish("freeze") == "ok")
    assert holder.wish("continue") == "ok"
    holder.say("again")
    assert holder.answer().startswith("again True")


def test_a_guest_cannot_be_frozen(holder: Frozen) -> None:
    """Its home-node can."""
    guests = holder.nodes.tree(2).pids("guests") or [holder.pid]
    for pid in guests:
        done = holder.nodes.run(2, "mosmigrate", str(pid), "freeze")
        assert (done.returncode, done.stderr) == (1, f"mosmigrate: {pid}: no such MOSIX process\n")
    assert holder.tree.read(f"proc/{holder.pid}/frozen") == "-"


@cluster.others
def test_only_who_may_kill_it_may_freeze_it(holder: Frozen) -> None:
    done = holder.nodes.run(1, "mosmigrate", str(holder.pid), "freeze", user=65534, group=65534)
    assert (done.returncode, done.stderr) == (1, f"mosmigrate: {holder.pid}: Permission denied\n")
