"""Timers and limits of CPU time of programs that are away, or have been there (`calls.cputimers`).

The kernel's own timers go on in the deputy, where what is due is made to expire: so dispositions, masks, overruns and siginfo are
the kernel's business, wherever the program computes. `sync` subtracts what was used away since it was last counted, `arm` asks the
host to tell (CPU_ALARM) when the next one is due. RLIMIT_CPU of a program that is home again is watched here: the kernel does not
know of its time away.
"""

from __future__ import annotations

import os
import time

from mosfs.abi.flags import RLIMIT_CPU, TIMER_ABSTIME
from mosfs.abi.numbers import SYS_GETITIMER, SYS_PRLIMIT64, SYS_SETITIMER, SYS_SETRLIMIT, SYS_TIMER_GETTIME, SYS_TIMER_SETTIME
from mosfs.abi.signals import SIGKILL
from mosfs.calls.cputime import Used
from mosfs.calls.cputimers import (
    FRAME,
    INTERVAL_TIMERS,
    LIMIT,
    PAIR,
    SECOND,
    SIGXCPU,
    VIRTUAL,
    Alarm,
    PosixTimer,
    earliest,
    of_kernel,
    posix_timers,
    spent,
)
from mosfs.calls.request import Request
from mosfs.home.ports import Tree
from mosfs.home.process.deputy import Deputy
from mosfs.home.process.program import Place, Program
from mosfs.migrate import rseq
from mosfs.migrate.capture import cpu_limit, user_regs
from mosfs.migrate.image import ImageMeta
from mosfs.migrate.rebuild import queue_signal
from mosfs.native.registers import Registers
from mosfs.trace import layout
from mosfs.trace.inject import Calls
from mosfs.trace.proc import status_sets
from mosfs.trace.stops import Stop
from mosfs.trace.task import TaskGone, copy_regs
from mosfs.wire.frames import Kind

#: Seconds between two looks at a limit that is about to be reached: the kernel itself looks once a tick.
TICK = 0.004


class CpuTimers:
    def __init__(self, tracer: Tree) -> None:
        self.tracer = tracer
        self._watched: dict[int, float] = {}  # programs at home with a limit, and when to look at them
        self._told = False
        self._added = 0  # microseconds that the kernel adds to what such a timer is set to: one tick, which nobody tells

    # ------------------------------------------------------------------ away

    def left(self, p: Program, call: Calls) -> None:
        """The program runs away from now on."""
        p.cpu.counted, p.cpu.alarm = p.cpu.used, Alarm()  # where it begins now, nobody knows of one
        self._watched.pop(p.pid, None)
        self.arm(p, call)

    def made(self, p: Program, deputy: Deputy, nr: int, args: tuple[int, ...]) -> None:
        """The deputy has made a call that may have set one."""
        if nr in (SYS_SETITIMER, SYS_TIMER_SETTIME, SYS_SETRLIMIT, SYS_PRLIMIT64):
            with Calls(p.task, base=deputy.base, mask=deputy.mask) as call:
                self.arm(p, call)
        other = self.tracer.programs.get(args[0]) if nr == SYS_PRLIMIT64 and args[0] else None
        if other is not None and other is not p:
            self.limit_changed(other)

    def before(self, p: Program, deputy: Deputy, request: Request) -> None:
        """The deputy is about to read or set one: what its kernel says shall be right."""
        self.synced(p, deputy)
        new = request.argument(2) if request.nr == SYS_TIMER_SETTIME and request.args[1] & TIMER_ABSTIME else None
        if new is None or new.data is None or len(new.data) != PAIR.size:
            return
        if request.args[0] & 0xFFFFFFFF in {timer.number for timer in self._posix_timers(p.pid)}:
            new.data = earlier(bytes(new.data), p.cpu.used)

    def limit_changed(self, p: Program) -> None:
        """A relative has set the limit of ``p``."""
        if p.away:
            self.rang(p)
        elif any(p.cpu.used):
            self._watched[p.pid] = 0.0

    def rang(self, p: Program) -> None:
        """CPU_ALARM of the host, or another reason to look anew."""
        deputy = p.deputy
        if deputy is not None and p.away:
            p.cpu.alarm = Alarm()
            deputy.when_ready(lambda: self._rang(p, deputy))

    def _rang(self, p: Program, deputy: Deputy) -> None:
        if not p.away:
            return
        self.synced(p, deputy)
        with Calls(p.task, base=deputy.base, mask=deputy.mask) as call:
            self.arm(p, call)
        deputy.ready_since = time.monotonic()
        self.tracer.deputies.watch(p)

    def synced(self, p: Program, deputy: Deputy) -> None:
        """What the deputy's kernel says of them is right from now on. Precondition: the deputy is READY."""
        if p.cpu.counted != p.cpu.used:
            with Calls(p.task, base=deputy.base, mask=deputy.mask) as call:
                self.sync(p, call)

    def sync(self, p: Program, call: Calls) -> int:
        """Count what was used away; the signals that were queued for it, as a bit mask."""
        used, p.cpu.counted = p.cpu.used.minus(p.cpu.counted), p.cpu.used
        fired = 0
        for which, sig in INTERVAL_TIMERS.items():
            fired |= self._interval_timer(call, which, sig, used)
        for timer in self._posix_timers(p.pid):
            fired |= self._posix_timer(call, timer, used, p.cpu.owing)
        return fired | self._limit(p, call)

    def arm(self, p: Program, call: Calls) -> None:
        """Ask the host to tell when the next one is due. Precondition: what was used away has been counted."""
        lefts = []
        for which in INTERVAL_TIMERS:
            if left := _interval_left(call, which)[1]:
                lefts.append((left, which == VIRTUAL))
        for timer in self._posix_timers(p.pid):
            if left := _posix_left(call, timer)[1]:
                lefts.append((left, timer.virtual))
        alarm = earliest([*lefts, *((left, False) for left in _limits_left(p)[:1])], p.cpu.counted)
        if alarm != p.cpu.alarm:
            p.cpu.alarm = alarm
            self.tell(p)

    def tell(self, p: Program) -> None:
        """CPU_ALARM to the host that has the body."""
        self.tracer.hosts.send(p, Kind.CPU_ALARM, FRAME.pack(*p.cpu.alarm.sendable()))

    def newborn(self, pid: int) -> Alarm:
        """The alarm for a child that the body is about to have: it inherits limits, but no timers."""
        child = self.tracer.programs.get(pid)
        if child is None:
            return Alarm()
        child.cpu.alarm = earliest([(left, False) for left in _limits_left(child)[:1]], child.cpu.used)
        return child.cpu.alarm.sendable()

    # ------------------------------------------------------------------ each kind

    def _posix_timers(self, pid: int) -> list[PosixTimer]:
        try:
            with open(f"/proc/{pid}/timers", encoding="ascii") as text:
                return posix_timers(text.read(), pid)
        except ProcessLookupError as error:
            raise TaskGone(pid) from error
        except OSError as error:
            if not self._told:
                self._told = True
                self.tracer.mosd.log(f"timers on clocks of CPU time count at home only: /proc/PID/timers: {error.strerror}", 30)
            return []

    def _interval_timer(self, call: Calls, which: int, sig: int, used: Used) -> int:
        interval, left = _interval_left(call, which)
        if not left:
            return 0
        left, times = spent(left, interval, used.user if which == VIRTUAL else sum(used))
        us = -(-left // 1000)
        self._set_interval_timer(call, which, interval // 1000, us and max(us - self._added, 1))
        if us > self._added and (more := _interval_left(call, which)[1] // 1000 - us) > 0:
            self._added += more
            self._set_interval_timer(call, which, interval // 1000, max(us - self._added, 1))
        if times:
            queue_signal(call, of_kernel(sig), shared=True)
        return times and 1 << (sig - 1)

    @staticmethod
    def _set_interval_timer(call: Calls, which: int, interval: int, left: int) -> None:
        """Both in microseconds."""
        call.task.write(layout.SCRATCH, PAIR.pack(*divmod(interval, 10**6), *divmod(left, 10**6)))
        call(SYS_SETITIMER, which, layout.SCRATCH)

    def _posix_timer(self, call: Calls, timer: PosixTimer, used: Used, owing: dict[int, int]) -> int:
        sets = status_sets(call.task.pid)
        interval, before = _posix_left(call, timer)
        elapsed = (used.user if timer.virtual else sum(used)) + owing.pop(timer.number, 0)
        if not before:
            return 0
        if timer.signal and (sets["SigPnd"] | sets["ShdPnd"]) >> (timer.signal - 1) & 1:
            owing[timer.number] = elapsed  # to set it would take its signal back
            return 0
        left, times = spent(before, interval, elapsed)
        flags = 0
        if times:  # the kernel makes it expire when it is set to a moment that has passed, and counts overruns from there
            flags, left = TIMER_ABSTIME, max(_clock(call.task.pid, timer.clock) + before - elapsed, 1)
        call.task.write(layout.SCRATCH, PAIR.pack(*divmod(interval, SECOND), *divmod(left, SECOND)))
        call(SYS_TIMER_SETTIME, timer.number, flags, layout.SCRATCH)
        return times and 1 << (max(timer.signal, 1) - 1)

    def _limit(self, p: Program, call: Calls) -> int:
        """RLIMIT_CPU as the kernel carries it out: SIGXCPU once a second beyond the soft limit, SIGKILL at the hard one."""
        lefts = _limits_left(p)
        if lefts and lefts[-1] <= 0:
            os.kill(p.pid, SIGKILL)
        elif lefts and lefts[0] <= 0:
            soft, hard = (value & 0xFFFF_FFFF_FFFF_FFFF for value in cpu_limit(p.pid))
            call.task.write(layout.SCRATCH, LIMIT.pack(soft + 1, hard))
            call(SYS_SETRLIMIT, RLIMIT_CPU, layout.SCRATCH)
            queue_signal(call, of_kernel(SIGXCPU), shared=True)
            return 1 << (SIGXCPU - 1)
        return 0

    # ------------------------------------------------------------------ at home

    def came_home(self, p: Program, call: Calls, meta: ImageMeta) -> bool:
        """The program is home again. True if a signal for a handler was queued."""
        self.tracer.cputime.came_home(p, meta)
        p.cpu.alarm = Alarm()
        fired = self.sync(p, call)
        if _limits_left(p):
            self._watched[p.pid] = 0.0
        return bool(fired & status_sets(p.pid)["SigCgt"] & ~call.mask)

    def set_absolute(self, p: Program, regs: Registers) -> None:
        """timer_settime(2) at home to a moment of a clock which is behind what the program has seen by its time away."""
        numbers = {timer.number for timer in self._posix_timers(p.pid)} if any(p.cpu.used) else set()
        try:
            if regs.rdi & 0xFFFFFFFF in numbers:
                p.task.write(layout.SCRATCH, earlier(p.task.read(regs.rdx, PAIR.size), p.cpu.used))
                self.tracer.stops.make_with(p, regs, "rdx", layout.SCRATCH)
                return
        except OSError:
            pass  # the kernel says EFAULT
        self.tracer.stops.serve(p)

    def tick(self) -> None:
        """Once a second: a limit may have been set at home."""
        for p in self.tracer.programs.values():
            if not p.kin.leader and any(p.cpu.used) and p.place is Place.HOME:  # a limit is of all threads together
                self._watched.setdefault(p.pid, 0.0)

    def due(self) -> float | None:
        """When the next limit has to be looked at; None if there is none."""
        return min(self._watched.values(), default=None)

    def look(self, now: float) -> None:
        """Look at the limits of programs at home that have used CPU time away."""
        for pid in [pid for pid, due in self._watched.items() if due <= now]:
            del self._watched[pid]
            p = self.tracer.programs.get(pid)
            if p is None:
                continue
            with self.tracer.containment.of(p):
                lefts = _limits_left(p) if p.place is Place.HOME else []
                if not lefts:
                    continue
                self._watched[pid] = now + max(min(lefts) / SECOND / (1 + len(p.kin.threads)), TICK)
                if min(lefts) <= 0 and not (p.suspended or p.halted or p.interrupted or p.deputy):
                    p.cpu.overdue = p.interrupted = True
                    p.task.interrupt()

    def stopped(self, p: Program) -> None:
        """A program at home has stopped because its limit is reached."""
        p.cpu.overdue = False
        rseq.leave(p.task)
        stopped = copy_regs(p.task.peek_regs())
        with Calls(p.task) as call:
            self._limit(p, call)
        self.tracer.departure.stand_again(p, stopped, user_regs(stopped, Stop.TRAP))


def earlier(pair: bytes, used: Used) -> bytes:
    """struct itimerspec of an absolute time, by a clock that does not count what was ``used`` away."""
    seconds, ns, at_s, at_ns = PAIR.unpack(pair)
    if not (at_s or at_ns) or not 0 <= at_ns < SECOND:
        return pair
    return PAIR.pack(seconds, ns, *divmod(max(at_s * SECOND + at_ns - sum(used), 1), SECOND))


def _clock(pid: int, like: int) -> int:
    """What a process has used at home, ns, by a clock (clock_getcpuclockid(3)) that counts ``like`` that one."""
    try:
        return time.clock_gettime_ns(~pid << 3 | like & 3)
    except OSError as error:
        raise TaskGone(pid) from error


def _interval_left(call: Calls, which: int) -> tuple[int, int]:
    """(interval, left) in ns."""
    if call(SYS_GETITIMER, which, layout.SCRATCH):
        return 0, 0
    interval_s, interval_us, left_s, left_us = PAIR.unpack(call.task.read(layout.SCRATCH, PAIR.size))
    return interval_s * SECOND + interval_us * 1000, left_s * SECOND + left_us * 1000


def _posix_left(call: Calls, timer: PosixTimer) -> tuple[int, int]:
    if call(SYS_TIMER_GETTIME, timer.number, layout.SCRATCH):
        return 0, 0
    interval_s, interval_ns, left_s, left_ns = PAIR.unpack(call.task.read(layout.SCRATCH, PAIR.size))
    return interval_s * SECOND + interval_ns, left_s * SECOND + left_ns


def _limits_left(p: Program) -> list[int]:
    """What is left of the soft limit and of the hard one, ns; those that are not there are left out."""
    limits = [limit for limit in cpu_limit(p.pid) if limit >= 0]
    if not limits:
        return []
    used = _clock(p.pid, 0) + sum(p.cpu.used)
    return [limit * SECOND - used for limit in limits]
