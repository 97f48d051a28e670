"""Arithmetic of timers of CPU time (`mosfs.calls.cputimers`)."""

from __future__ import annotations

from unittest.mock import Mock

import pytest

from mosfs.abi.numbers import SYS_CLOCK_GETTIME, SYS_GETRUSAGE, SYS_WAIT4
from mosfs.calls.cputime import FRAME, Used, asked_thread, clock_pid
from mosfs.calls.cputimers import Alarm, PosixTimer, concerns, earliest, of_kernel, posix_timers, spent
from mosfs.guest.body import Memory, Times
from mosfs.guest.usage import Statistics
from mosfs.home.process.program import Place
from mosfs.home.tree import cputimers
from mosfs.home.tree.cputimers import CpuTimers
from mosfs.wire.frames import Kind

#: proc(5), /proc/PID/timers: of the process's CPU time, of its thread's in user mode, of real time, of a device.
TIMERS = """ID: 3
signal: 10/00007ffd00000001
notify: signal/pid.77
ClockID: -6
ID: 4
signal: 0/0000000000000000
notify: none/pid.77
ClockID: -3
ID: 5
signal: 34/0000000000000000
notify: signal/pid.77
ClockID: 1
ID: 6
signal: 14/0000000000000000
notify: signal/pid.77
ClockID: -29
"""


@pytest.mark.parametrize(("left", "interval", "used", "after"), [
    (100, 0, 40, (60, 0)),
    (100, 0, 100, (0, 1)),
    (100, 0, 1000, (0, 1)),
    (100, 30, 100, (30, 1)),
    (100, 30, 110, (20, 1)),
    (100, 30, 165, (25, 3)),
])
def test_what_is_left(left: int, interval: int, used: int, after: tuple[int, int]) -> None:
    assert spent(left, interval, used) == after


def test_timers_of_cpu_time_are_found() -> None:
    assert posix_timers(TIMERS, 77) == [PosixTimer(3, 10, -6, False), PosixTimer(4, 0, -3, True)]
    assert posix_timers("", 77) == []


@pytest.mark.parametrize(
    ("clock", "pid"), [(2, 0), (3, 0), (-6, 0), (-2, 0), (0, -1), (1, -1), (-29, -1), (~77 << 3 | 2, 77), (7, -1)]
)
def test_whose_clock_it_is(clock: int, pid: int) -> None:
    assert clock_pid(clock & 0xFFFFFFFF) == pid


@pytest.mark.parametrize(
    ("nr", "first", "thread"),
    [(SYS_CLOCK_GETTIME, 2, -1), (SYS_CLOCK_GETTIME, 3, 0), (SYS_CLOCK_GETTIME, -6, -1), (SYS_CLOCK_GETTIME, -2, 0),
     (SYS_CLOCK_GETTIME, 0, -1), (SYS_CLOCK_GETTIME, ~77 << 3 | 2, -1), (SYS_CLOCK_GETTIME, ~77 << 3 | 6, 77),
     (SYS_GETRUSAGE, 1, 0), (SYS_GETRUSAGE, 0, -1), (SYS_GETRUSAGE, -1, -1), (SYS_WAIT4, 1, -1)],
)  # fmt: skip
def test_which_thread_is_asked_about(nr: int, first: int, thread: int) -> None:
    assert asked_thread(nr, (first & 0xFFFFFFFF, 0, 0, 0, 0, 0)) == thread


def test_the_earliest_of_all_decides() -> None:
    used = Used(1000, 500)
    alarm = earliest([(70, True), (300, False), (200, False)], used)
    assert alarm == Alarm(1700, 1070)
    assert not alarm.reached(Used(1069, 600)) and alarm.reached(Used(1070, 0)) and alarm.reached(Used(700, 1000))
    assert alarm.wait(Used(1000, 500)) == pytest.approx(70e-9) and alarm.wait(Used(5000, 0)) == 0
    assert earliest([], used) == Alarm() and not Alarm().reached(Used(10**18, 10**18))


def test_calls_that_concern_them() -> None:
    assert concerns(38, (1, 0, 0, 0, 0, 0)) and concerns(36, (2, 0, 0, 0, 0, 0)) and not concerns(38, (0, 0, 0, 0, 0, 0))
    assert concerns(160, (0, 1, 0, 0, 0, 0)) and concerns(302, (5, 0, 0, 0, 0, 0)) and not concerns(302, (0, 7, 0, 0, 0, 0))
    assert concerns(223, (9, 0, 0, 0, 0, 0)) and not concerns(222, (9, 0, 0, 0, 0, 0))


def test_the_kernels_own_siginfo() -> None:
    info = of_kernel(27)
    assert len(info) == 128 and info[:12] == bytes([27, 0, 0, 0, 0, 0, 0, 0, 128, 0, 0, 0]) and not any(info[12:])


def test_home_hears_what_was_used_before_a_guest_leaves() -> None:
    """It may go on from the next node before that has told anything: a second has to pass there first."""
    context, body = Mock(), Mock(pair=77, leader=None, times=Times(), memory=Memory(title_at=(2, 1)))
    body.used.return_value = Used(20_000_000, 5)
    body.account.measure.return_value, body.account.last, body.account.size_mb = 0.02, None, 1
    Statistics(context).leaves(body)
    context.channel.send.assert_any_call(Kind.CPU_TIME, 77, FRAME.pack(20_000_000, 5))


def test_each_host_is_told_of_the_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    """After exec, which begins at home, it may be the one that the last host had: what is left has shrunk by what was counted."""
    monkeypatch.setattr(cputimers, "_interval_left", lambda call, which: (0, 0))
    monkeypatch.setattr(cputimers, "_limits_left", lambda p: [10**9 - sum(p.cpu.used)])
    monkeypatch.setattr(CpuTimers, "_posix_timers", lambda self, pid: [])
    tracer, program = Mock(), Mock(pid=5)
    program.cpu.used = program.cpu.counted = Used(0, 0)
    program.cpu.alarm = Alarm()
    timers = CpuTimers(tracer)
    for used in (Used(0, 0), Used(70_000_000, 10)):
        program.cpu.used = used
        timers.left(program, Mock())
    assert [call.args[1:] for call in tracer.hosts.send.call_args_list] == [(Kind.CPU_ALARM, FRAME.pack(10**9, 0))] * 2


def test_a_limit_of_cpu_time_is_looked_at_once_for_all_threads() -> None:
    """With 200 threads their limits, of which there is one, were read 200 times a second."""
    tree, used = Mock(), Used(1, 1)
    threads = {7: 0, 8: 7, 9: 7}
    tree.programs = {
        tid: Mock(pid=tid, kin=Mock(leader=leader), cpu=Mock(used=used), place=Place.HOME) for tid, leader in threads.items()
    }
    timers = CpuTimers(tree)
    timers.tick()
    assert list(timers._watched) == [7]
