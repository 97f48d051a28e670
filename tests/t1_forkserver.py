"""The fork server as mosd uses it, with fake modules of tracer and host."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from mosfs.daemon import forkserver, spawner
from mosfs.daemon.connection import Connection
from mosfs.daemon.forkserver import close_all_but, job_for
from mosfs.daemon.spawner import Engine, Running, Spawner
from mosfs.guest.sandbox import GUEST_UID
from mosfs.trace.priority import LEAST, LITTLE, MUCH, NICE, fair_share, wanted
from mosfs.wire.asked import Settings, Start
from mosfs.wire.messages import AdoptTracer, Config, SpawnHost, SpawnTracer
from tests.waiting import until

ENGINE = '''
import ctypes, os, signal, sys

def dumpable():
    return ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)  # PR_GET_DUMPABLE

prepared = []

def prepare():
    prepared.append(os.getpid())

def main(spawn, sock):
    fds = sorted(int(n) for n in os.listdir("/proc/self/fd"))
    modules = [m for m in ("trio", "pyfuse3") if m in sys.modules]
    facts = [type(spawn).__name__, os.getsid(0) == os.getpid(), os.getppid(), fds[:3] == [0, 1, 2] and len(fds) == 5,
             [n.name for n in signal.valid_signals() if signal.getsignal(n) == signal.SIG_IGN], modules, dumpable(), prepared]
    sock.send(repr(facts).encode())
    if spawn.uid == 99:
        raise RuntimeError("told to fail")
    sock.recv(1)
    return 0

def adopt(spawn):
    os.write(2, b"adopts %d\\n" % spawn.pids[0])
    return 0
'''


def autogroup_of(pid: str) -> str:
    """sched(7); "" without autogroups."""
    try:
        if Path("/proc/sys/kernel/sched_autogroup_enabled").read_text() != "1\n":
            return ""
        return Path(f"/proc/{pid}/autogroup").read_text()
    except OSError:
        return ""


def holds(capability: int) -> bool:
    """Have we this one of capabilities(7)?"""
    status = Path("/proc/self/status").read_text()
    return bool(int(status.partition("CapEff:")[2].split()[0], 16) >> capability & 1)


PR_CAPBSET_DROP, CAP_SYS_NICE = 24, 23


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the fork server's stderr goes; the fake engine can be imported by it."""
    (tmp_path / "engine.py").write_text(ENGINE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    path = tmp_path / "log"
    with path.open("w") as file:
        monkeypatch.setattr(sys, "stderr", file)
        yield path


@pytest.fixture
def server(log: Path) -> Iterator[Running]:
    running = spawner.start(Engine("engine", "engine"))
    yield running
    running.sock.close()
    assert running.process.wait(timeout=10) == 0


async def ask(server: Running, request: SpawnTracer | SpawnHost | AdoptTracer, *, beside: bool = True) -> socket.socket:
    """Our end of the socket that went to the child."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection = Connection(trio.socket.from_stdlib_socket(server.sock.dup()))
    connection.post(request, theirs if beside else None)
    if not beside:
        theirs.close()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.pump)
        await trio.testing.wait_all_tasks_blocked()
        connection.close()
        nursery.cancel_scope.cancel()
    ours.settimeout(10)
    return ours


TRACER = SpawnTracer(1, 0, 0, Settings(), Start(), "", 0)
HOST = SpawnHost("127.0.0.1", 0, "x", b"", b"", False, "")


def test_a_fork_has_no_threads_to_look_after() -> None:
    """Where `threading` is loaded each fork makes its tables anew, which is more than half of what Python does behind a fork."""
    code = f"import sys, mosfs.daemon.forkserver, {forkserver.TRACER}, {forkserver.HOST}; print('threading' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize("request_", [TRACER, HOST])
async def test_children_are_daemons_of_their_own(server: Running, request_: SpawnTracer | SpawnHost) -> None:
    with await ask(server, request_) as ours:
        kind, leads, parent, clean, ignored, modules, dumpable, prepared = eval(ours.recv(1000))
        assert (kind, leads, parent) == (type(request_).__name__, True, server.process.pid)
        assert clean and ignored == ["SIGPIPE"]
        assert modules == []
        assert dumpable == (os.geteuid() != 0), "no core file of it is piped anywhere"
        assert prepared == [server.process.pid] * 2, "for tracers and for hosts, before the first was forked"


@pytest.mark.skipif(not autogroup_of("self"), reason="this kernel has no groups of sessions")
@pytest.mark.skipif(not holds(CAP_SYS_NICE), reason="we may not lower nice values (CAP_SYS_NICE)")
async def test_nice_counts_between_sessions(server: Running) -> None:
    """Where each session has its share of the processors, the daemons' sessions have the nice value too, and ours has not."""
    ours_before = autogroup_of("self")
    with await ask(server, TRACER) as ours:
        ours.recv(1000)
        children = await trio.Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text()
        for pid in (str(server.process.pid), *children.split()):
            assert autogroup_of(pid).endswith(f" nice {NICE}\n")
    assert autogroup_of("self") == ours_before


WITHOUT_CAP_SYS_NICE = """
import sys
from mosfs.native import lib
pid, user, *values = map(int, sys.argv[1:])
print(*(lib.mos_renice(pid, nice, user) for nice in values))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_renice_without_the_capability() -> None:
    """Another user's process can be made to yield; only going back is refused."""
    drop = ctypes.CDLL(None).prctl
    with subprocess.Popen(["sleep", "60"], user=GUEST_UID, group=GUEST_UID, extra_groups=()) as sleep:
        try:
            first = os.getpriority(os.PRIO_PROCESS, sleep.pid)  # these tests may run under nice(1) themselves
            values = [min(first + step, 19) for step in (7, 7, 9)]
            values.append(values[-1] - 1)
            done = subprocess.run(
                [sys.executable, "-c", WITHOUT_CAP_SYS_NICE, *map(str, (sleep.pid, GUEST_UID, *values))],
                preexec_fn=lambda: drop(PR_CAPBSET_DROP, CAP_SYS_NICE), capture_output=True, text=True, check=False,
            )
            assert (done.stdout, done.stderr) == (f"0 0 0 {-errno.EACCES}\n", "")
            assert os.getpriority(os.PRIO_PROCESS, sleep.pid) == values[2]
        finally:
            sleep.kill()


async def test_the_next_server_gets_what_the_last_one_has_not_taken(log: Path) -> None:
    """One that was asked before its death, one while there is none; what was taken is not asked for again."""
    first = spawner.start(Engine("engine", "engine"))
    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(3)]
    spawned = Spawner(Engine("engine", "engine"), first)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(spawned.run)
        spawned.spawn(TRACER, pairs[0][1])
        assert await answer(pairs[0][0])
        os.kill(first.process.pid, signal.SIGSTOP)
        spawned.spawn(TRACER, pairs[1][1])
        os.kill(first.process.pid, signal.SIGKILL)
        first.process.wait(10)
        spawned.spawn(TRACER, pairs[2][1])
        assert await answer(pairs[1][0]) and await answer(pairs[2][0])
        for ours, _ in pairs:
            ours.send(b"x")
            assert await answer(ours) == b""  # one child had it, and has ended
        nursery.cancel_scope.cancel()
    for ours, _ in pairs:
        ours.close()


async def test_a_spare_takes_over_at_once(log: Path) -> None:
    """Again and again: each has loaded nothing itself, but is a fork of the first."""
    first = spawner.start(Engine("engine", "engine"))
    assert first.process is not None
    spawned = Spawner(Engine("engine", "engine"), first)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(spawned.run)
        server = first.process.pid
        for _ in range(3):
            await until(lambda: spawned.spare is not None)
            os.kill(server, signal.SIGKILL)
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with ours:
                spawned.spawn(TRACER, theirs)
                _, _, parent, clean, *_, prepared = eval(await answer(ours))
                assert parent != server and clean and prepared == [first.process.pid] * 2
                assert await trio.Path(f"/proc/{parent}/comm").read_text() == "mos-forkserver\n"
            server = parent
        nursery.cancel_scope.cancel()
    await until(lambda: not Path(f"/proc/{server}").exists())
    assert "starting another" not in await trio.Path(log).read_text()


async def answer(sock: socket.socket) -> bytes:
    """The next datagram that comes; b"" at the end."""
    with trio.fail_after(20):
        return await trio.to_thread.run_sync(sock.recv, 1000, abandon_on_cancel=True)


async def test_children_outlive_the_server(log: Path) -> None:
    running = spawner.start(Engine("engine", "engine"))
    with await ask(running, TRACER) as ours:
        ours.recv(1000)
        running.sock.close()
        assert running.process.wait(timeout=10) == 0
        ours.send(b"x")  # the child takes it and ends
        assert ours.recv(1) == b""


async def test_failures_and_adoptions_are_logged(server: Running, log: Path) -> None:
    with await ask(server, SpawnTracer(1, 99, 0, Settings(), Start(), "", 0)) as ours:
        ours.recv(1000)
        assert ours.recv(1000) == b""  # its end: the child is gone
    (await ask(server, AdoptTracer([4711], [0], 0, [], ""), beside=False)).close()
    with await ask(server, TRACER) as ours:
        ours.recv(1000)
    text = await trio.Path(log).read_text()
    assert "RuntimeError: told to fail" in text
    assert "mos-tracer" in text


def test_only_requests_are_jobs() -> None:
    with pytest.raises(ValueError, match="Config"):
        job_for(Config("", 0, {}), None, os, os)
    with pytest.raises(ValueError, match="SpawnTracer"):
        job_for(TRACER, None, os, os)


def test_close_all_but_keeps_what_it_shall() -> None:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        close_all_but([writer])
        os.write(writer, str(len(os.listdir("/proc/self/fd"))).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        assert answer.read() == "5"  # 0, 1, 2, the pipe, and the directory itself
    os.waitpid(child, 0)


def test_a_busy_process_is_like_its_programs() -> None:
    """Beyond its share it has their least nice value, never a negative one, and gets its own back when it rests."""
    assert [wanted(NICE, used, [3, 7]) for used in (0, LITTLE, MUCH, MUCH + 0.01, 1)] == [NICE, NICE, NICE, 3, 3]
    assert [wanted(3, used, [3, 7]) for used in (LITTLE, LITTLE + 0.01, MUCH)] == [NICE, 3, 3]
    assert [wanted(NICE, 1, programs) for programs in ([], [-10, 5], [19])] == [0, 0, 19]


def test_beside_many_others_a_fair_share_is_less() -> None:
    """Sixteen that want one processor have a sixteenth each; a hundred have less than is worth counting."""
    assert [wanted(NICE, used, [3], 1 / 16) for used in (1 / 16, 0.07, MUCH)] == [NICE, 3, 3]
    assert [wanted(3, used, [3], 1 / 16) for used in (1 / 32, 0.04)] == [NICE, 3]
    assert [wanted(NICE, used, [3], 1 / 100) for used in (LEAST, 0.03)] == [NICE, 3]
    assert 0 < fair_share() <= 1


SHARE = """
import os
from mosfs.trace import priority

now, used, told = 0.0, 0.0, []
priority.prompt(told.append)
share = priority.Share(told.append, lambda: now, lambda: used, lambda: 1.0)
for busy in (0.1, 0.9, 0.15, 0.0):
    now, used = now + 1, used + busy
    share.look([2])
    print(os.getpriority(os.PRIO_PROCESS, 0))
print(told)
"""


@pytest.mark.skipif(not holds(CAP_SYS_NICE), reason="we may not lower nice values (CAP_SYS_NICE)")
def test_the_share_of_a_process() -> None:
    done = subprocess.run([sys.executable, "-c", SHARE], capture_output=True, text=True, check=False)
    assert done.stdout.split() == [str(NICE), "2", "2", str(NICE), "[]"], done.stderr


def test_the_share_without_the_capability() -> None:
    """What may not go back is not given up."""
    drop = ctypes.CDLL(None).prctl
    done = subprocess.run(
        [sys.executable, "-c", SHARE],
        preexec_fn=lambda: drop(PR_CAPBSET_DROP, CAP_SYS_NICE), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert len(set(done.stdout.split())) == 2, (done.stdout, done.stderr)
