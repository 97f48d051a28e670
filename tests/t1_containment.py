"""What becomes of an error that comes up while a program is served: it ends the program, unless that has ended itself meanwhile."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mosfs.guest.containment import Containment as AtHost
from mosfs.guest.host import Host, made_host, main, prepare
from mosfs.home.away.hosts import Hosts
from mosfs.home.away.mapped import Mapped
from mosfs.home.away.withheld import Descriptors as Withheld
from mosfs.home.moves.groups import Groups
from mosfs.home.moves.moves import Moves
from mosfs.home.tracer import Tracer
from mosfs.home.tree.containment import Containment as AtHome
from mosfs.home.tree.usage import Statistics
from mosfs.trace.proc import ended
from mosfs.trace.task import Task, TaskGone
from mosfs.wire.channel import ChannelLost
from mosfs.wire.messages import SpawnHost

#: What the kernel makes of calls about a process that is no more, and of what is read of it then.
SEEN = (
    FileNotFoundError(2, "no /proc/PID"), ProcessLookupError(3, "kill"), OSError(14, "short read"), OSError(5, "/proc/PID/mem"),
    ValueError("an empty line"), IndexError("no such field"), TaskGone(5),
)  # fmt: skip


@pytest.fixture
def process() -> Iterator[int]:
    with subprocess.Popen(["sleep", "1000"]) as started:
        yield started.pid
        started.kill()


def kill(pid: int) -> None:
    """It stays a zombie, as a task whose event has not been fetched yet."""
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def at_host(pid: int) -> tuple[Callable[[Exception], None], list[str]]:
    """How an error is met, and what is done then."""
    done = list[str]()
    body: Any = SimpleNamespace(pid=pid, pair=7, comm="x", task=Task(pid), leader=None, threads={})
    context: Any = SimpleNamespace(
        channel=SimpleNamespace(lost=False), comm="x", bodies={7: body}, by_pid={}, log=lambda line, level=20: done.append(line)
    )
    ending: Any = SimpleNamespace(died=lambda body, status, failed=False: done.append("died"))
    return lambda error: AtHost(context, ending).trouble(body, error), done


def at_home(pid: int) -> tuple[Callable[[Exception], None], list[str]]:
    done = list[str]()
    p: Any = SimpleNamespace(pid=pid, comm="x")
    tracer: Any = SimpleNamespace(programs={}, mosd=SimpleNamespace(log=lambda line, level=20: done.append(line)))
    return lambda error: AtHome(tracer).trouble(p, error), done


@pytest.mark.parametrize("error", SEEN, ids=repr)
@pytest.mark.parametrize("where", [at_host, at_home])
def test_a_program_that_ended_meanwhile_needs_no_end(where: Callable[[int], Any], error: Exception, process: int) -> None:
    """No trace, no word to home: its own event follows."""
    meet, done = where(process)
    kill(process)
    meet(error)
    assert "died" not in done
    assert not any("Traceback" in line or "serving it failed" in line for line in done)


@pytest.mark.parametrize("where", [at_host, at_home])
def test_any_other_is_ended_with_its_trace(where: Callable[[int], Any], process: int) -> None:
    meet, done = where(process)
    meet(FileNotFoundError(2, "of something else"))
    assert "serving it failed" in done[0] and "FileNotFoundError" in done[0]


def test_who_has_ended(process: int) -> None:
    assert not ended(process) and not ended(os.getpid())
    os.kill(process, signal.SIGSTOP)
    assert not ended(process)
    kill(process)
    assert ended(process)
    assert not ended(1 << 22), "its event has come"


def _of_this_process() -> tuple[list[str], list[str]]:
    """Its descriptors, and what becomes of its signals."""
    with open("/proc/self/status", encoding="ascii") as file:
        signals = [line for line in file if line.startswith(("SigBlk", "SigIgn", "SigCgt"))]
    return sorted(os.listdir("/proc/self/fd")), signals


def test_a_tracer_made_ahead_is_of_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fork server makes it, and all that it forks begin with it: nothing may be open, handled or blocked before that."""
    monkeypatch.setenv("MOSIX_TRACE", "1")
    before = _of_this_process()
    tracer = Tracer()
    assert _of_this_process() == before
    assert (tracer.mosd.root_pid, tracer.mosd.control.path, tracer.mosd.control.fileno(), tracer.next_clock) == (0, "", -1, 0.0)


def test_a_host_made_ahead_is_of_no_process() -> None:
    """As a tracer is."""
    before = _of_this_process()
    host = Host()
    assert _of_this_process() == before
    assert (host.context.control.path, host.context.control.fileno(), host.next_clock) == ("", -1, 0.0)


def test_a_fork_only_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its channel ends at once, so it comes to its end, too: with the host that was there before it."""
    prepare()
    made, (ours, theirs) = made_host(), socket.socketpair()
    pid = os.fork()
    if pid == 0:
        try:
            ours.close()
            monkeypatch.setattr(Host, "__init__", _not_again)
            status = main(SpawnHost("127.0.0.1", 0, "x", bytes(32), bytes(16), False, "/nowhere", runs_as=os.getuid()), theirs)
            os._exit(status or made_host() is not made or made.context.home != "127.0.0.1")
        finally:
            os._exit(9)
    ours.close()
    theirs.close()
    assert os.waitpid(pid, 0)[1] == 0


def _not_again(*_: object) -> None:
    raise AssertionError("another host is made")


STEPS = (
    (Moves, "retry"), (Mapped, "tick"), (Withheld, "tick"), (Groups, "tick"), (Statistics, "tick"), (Hosts, "send_clocks"),
)  # fmt: skip


def test_no_turn_of_housekeeping_ends_a_tracer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nor does one keep the others from theirs: with the tracer all that are away would end."""
    done, log = list[str](), list[str]()

    def failing(name: str) -> Callable[..., None]:
        def fail(*_: Any) -> None:
            done.append(name)
            raise OSError(116, "Stale file handle")

        return fail

    for kind, step in STEPS:
        monkeypatch.setattr(kind, step, failing(f"{kind.__name__}.{step}"))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        tracer = Tracer()
        tracer.begin(os.getpid(), os.getuid(), f"{tmp_path}/run/sock")
    finally:  # it has SIGCHLD blocked, and handled in C
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    monkeypatch.setattr(tracer.mosd, "log", lambda line, level=20: log.append(line))
    tracer.next_clock = 0.0
    tracer._housekeeping()
    assert sorted(done) == sorted(f"{kind.__name__}.{step}" for kind, step in STEPS)
    assert len(log) == len(STEPS) and all("Stale file handle" in line and "Traceback" in line for line in log)


def test_nor_a_host_but_for_a_lost_channel() -> None:
    done, log = list[float](), list[str]()
    context: Any = SimpleNamespace(channel=SimpleNamespace(lost=False), log=lambda line, level=20: log.append(line))

    def fail(now: float) -> None:
        done.append(now)
        raise OSError(5, "of a guest")

    part = AtHost(context, None)  # type: ignore[arg-type]
    part.turn((fail, done.append, fail), 7.0)
    assert done == [7.0] * 3 and len(log) == 2 and "of a guest" in log[0]
    context.channel.lost = True
    with pytest.raises(ChannelLost):
        part.turn((fail, done.append), 8.0)
    assert done[3:] == [8.0]
