"""CPU time that a program used away, added to what home's kernel answers (getrusage(2), times(2), wait4(2), waitid(2),
clock_gettime(2)).

The kernel at home has counted the deputy. With such a call a host reports what its body has used in all, on all nodes so far
(`Used`); images carry it on. What children used is their parent's when they end.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from mosfs.abi.args import as_c_int
from mosfs.abi.flags import WNOWAIT
from mosfs.abi.numbers import SYS_CLOCK_GETTIME, SYS_CLOCK_NANOSLEEP, SYS_GETRUSAGE, SYS_TIMES, SYS_WAIT4, SYS_WAITID
from mosfs.trace.proc import content

#: The calls whose answers are completed.
CALLS = frozenset({SYS_GETRUSAGE, SYS_TIMES, SYS_CLOCK_GETTIME, SYS_WAIT4, SYS_WAITID})
#: Those that tell of one child.
WAITS = frozenset({SYS_WAIT4, SYS_WAITID})
_SI_PID = struct.Struct("<16xi")  # of a siginfo for SIGCHLD
SI_PID_SIZE = _SI_PID.size
RUSAGE_CHILDREN, RUSAGE_THREAD = -1, 1
#: CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID, and the same as clock_getcpuclockid(3) makes them of PID 0.
CPU_CLOCKS = (2, 3, -6, -2)
_OWN_THREAD = (3, -2)
#: The lower bits of a negative clock that is a descriptor's (include/linux/posix-timers_types.h).
_OF_FD = 3
#: Lower bits of one that is a process's: user and system time in ticks, user time in ticks, both exactly; and of a thread's, too.
_PROF, _VIRT, _SCHED = 0, 1, 2
_THREAD = 4
TICK_NS = 10**9 // os.sysconf("SC_CLK_TCK")
FRAME = struct.Struct("<2Q")


class Used(NamedTuple):
    """Nanoseconds of CPU time."""

    user: int = 0
    system: int = 0

    def plus(self, other: Used) -> Used:
        return Used(self.user + other.user, self.system + other.system)

    def minus(self, other: Used) -> Used:
        """Exact as a sum; how its parts stand to each other is known in ticks only."""
        total = max(sum(self) - sum(other), 0)
        system = min(max(self.system - other.system, 0), total)
        return Used(total - system, system)

    def after(self, before: Used) -> Used:
        """The same sum, in parts of which none is less than it was ``before``, as in the kernel's own answers."""
        total = max(sum(self), sum(before))
        system = min(max(self.system, before.system), total - before.user)
        return Used(total - system, system)


class Totals(NamedTuple):
    """``own`` and ``children``: used away by the process or thread that is asked about, and by its children; ``waited``: the
    same of the child that wait4 or waitid has just told of."""

    own: Used
    children: Used
    waited: Used = Used()


def of_process(pid: int) -> Used:
    """What a process has used; zeros when it is gone. The kernel counts the sum exactly, its parts in ticks.

    By clocks, as clock_getcpuclockid(3) makes them: files of /proc would take six times as many system calls.
    """
    of_pid = ~pid << 3
    try:
        user, both, total = (time.clock_gettime_ns(of_pid | clock) for clock in (_VIRT, _PROF, _SCHED))
    except (OSError, OverflowError):
        return Used()
    in_system = min(total * max(both - user, 0) // both if both else 0, total)
    return Used(total - in_system, in_system)


def of_thread(tid: int, *, parts: bool = True) -> Used:
    """What one thread has used; zeros when it is gone. The kernel tells nobody outside of its process by a clock.

    Without ``parts`` all counts as the user's, which takes half the time to find out.
    """
    folder = f"/proc/{tid}/task/{tid}"
    try:
        total = int(content(f"{folder}/schedstat").split()[0])
        if not parts:
            return Used(total)
    except (OSError, ValueError, IndexError):
        total = -1  # without CONFIG_SCHED_INFO there are ticks only
    try:
        user, system = (int(ticks) for ticks in content(f"{folder}/stat").rpartition(b")")[2].split()[11:13])
    except (OSError, ValueError):
        return Used()
    total = (user + system) * TICK_NS if total < 0 else total
    in_system = min(total * system // (user + system) if user + system else 0, total)
    return Used(total - in_system, in_system)


def asked_thread(nr: int, args: Sequence[int]) -> int:
    """The thread of whose CPU time alone the call asks, 0 for the caller; -1 if it asks for something else."""
    if nr == SYS_GETRUSAGE:
        return 0 if as_c_int(args[0]) == RUSAGE_THREAD else -1
    if nr != SYS_CLOCK_GETTIME:
        return -1
    clock = as_c_int(args[0])
    if clock in _OWN_THREAD:
        return 0
    return ~(clock >> 3) if clock < 0 and clock & _THREAD else -1


def clock_pid(clock: int) -> int:
    """The process (or thread) whose CPU time a clock counts, 0 for the caller; -1 if it counts something else."""
    clock = as_c_int(clock)
    if clock in CPU_CLOCKS:
        return 0
    return ~(clock >> 3) if clock < 0 and clock & 7 != _OF_FD else -1


def sleeps(nr: int, args: Sequence[int]) -> bool:
    """Whether the call sleeps until CPU time is used, which only its kernel counts. By a thread's own nobody sleeps (EINVAL)."""
    return nr == SYS_CLOCK_NANOSLEEP and clock_pid(args[0]) >= 0 and as_c_int(args[0]) not in _OWN_THREAD


def place(nr: int, args: tuple[int, ...]) -> int:
    """Which argument points to what must be completed; -1 for none."""
    if nr == SYS_CLOCK_GETTIME:
        return 1 if clock_pid(args[0]) >= 0 else -1
    return {SYS_GETRUSAGE: 1, SYS_TIMES: 0, SYS_WAIT4: 3, SYS_WAITID: 4}.get(nr, -1)


def child(nr: int, args: tuple[int, ...], result: int, read: Callable[[int], bytes]) -> tuple[int, bool]:
    """(PID of the child that the wait tells of, 0 for none or if nobody asked which; whether it may be waited for again).

    ``read(address)``: at least `SI_PID_SIZE` bytes of what the call has stored there.
    """
    if nr == SYS_WAIT4:
        return result, False
    return _SI_PID.unpack_from(read(args[2]))[0] if args[2] else 0, bool(args[3] & WNOWAIT)


def size(nr: int) -> int:
    """How many bytes there are looked at."""
    return 16 if nr == SYS_CLOCK_GETTIME else 32


def completed(nr: int, args: tuple[int, ...], data: bytes, account: Totals) -> bytes:
    """The first bytes of the kernel's answer, with ``account`` added."""
    if nr == SYS_CLOCK_GETTIME:
        seconds, ns = struct.unpack_from("<2q", data)
        ns += sum(account.own)
        return struct.pack("<2q", seconds + ns // 10**9, ns % 10**9)
    if nr == SYS_TIMES:
        extra = [part // TICK_NS for used in (account.own, account.children) for part in used]
        return struct.pack("<4q", *(a + b for a, b in zip(struct.unpack_from("<4q", data), extra)))
    if nr in WAITS:
        used = account.waited
    else:
        who = as_c_int(args[0])
        used = account.children if who == RUSAGE_CHILDREN else account.own
    parts = struct.unpack_from("<4q", data)
    out = []
    for (seconds, us), extra_ns in zip((parts[:2], parts[2:]), used):
        us += extra_ns // 1000
        out += [seconds + us // 10**6, us % 10**6]
    return struct.pack("<4q", *out)
