"""Calls with a limited time that were broken off without the program's knowing, and are made again (`calls.timeouts`).

Their end is kept while the program moves on: at home the call is watched until it is over, away the deputy's flight knows it. When
the moment has come the call is broken off once more, and returns what it returns after its time.
"""

from __future__ import annotations

import errno
import signal
import time

from mosfs.abi.numbers import SYS_GETSOCKOPT
from mosfs.calls import endless, partial, timeouts
from mosfs.calls.timeouts import Wait
from mosfs.home.ports import Tree
from mosfs.home.process.deputy import Deputy, Flight, State
from mosfs.home.process.program import Place, Program
from mosfs.home.process.registers import arguments, goes_on
from mosfs.migrate.capture import signed
from mosfs.native.registers import Registers
from mosfs.trace import layout
from mosfs.trace.idle import same_sleep
from mosfs.trace.inject import Calls
from mosfs.trace.proc import status_sets
from mosfs.trace.task import NOTHING, copy_regs

#: Signals whose default is to be ignored: traced, they still interrupt calls (ptrace(2)).
_IGNORED_BY_DEFAULT = sum(1 << (sig - 1) for sig in (signal.SIGCHLD, signal.SIGURG, signal.SIGWINCH, signal.SIGCONT))


#: Calls that an interruption ends early without an error.
LONG = partial.CALLS | endless.CALLS


class Waits:
    def __init__(self, tracer: Tree) -> None:
        self.tracer = tracer
        for number in LONG:
            tracer.pump.transfers[number] = 1
        self._running: dict[int, Program] = {}

    # ------------------------------------------------------------------ signals

    def signal_pending(self, p: Program) -> bool:
        """An effective signal is about to be delivered: one that is neither ignored nor blocked."""
        sets = status_sets(p.pid)
        return bool((sets["SigPnd"] | sets["ShdPnd"]) & ~sets["SigBlk"] & ~ineffective(sets))

    def is_effective(self, p: Program, sig: int) -> bool:
        """Whether ``sig`` does something to this program: it is not ignored, by its action or by default."""
        return not ineffective(status_sets(p.pid)) >> (sig - 1) & 1

    def suppress_eintr(self, p: Program, regs: Registers, sig: int) -> bool:
        """An ignored signal must not end a call with EINTR: untraced it would not have woken the program at all.

        True if it may have cut a transfer short (`calls.partial`)."""
        result, number = signed(regs.rax), signed(regs.orig_rax)
        if number < 0 or not (result == -errno.EINTR or (result > 0 and number in LONG)):
            return False
        if self.is_effective(p, sig):
            return False
        if sig == signal.SIGPIPE:
            return False  # it tells why the transfer ended there, and did not cut it short
        if result == -errno.EINTR:
            again = goes_on(regs)
            if p.deputy is None:
                self.begin(p, number, arguments(regs), copy_regs(regs))
            else:
                self.goes_on(p, p.deputy)
            p.task.set_regs(again)
        return result > 0

    # ------------------------------------------------------------------ at home

    def stopped(self, p: Program) -> None:
        """At a stop at home that we asked for: a call that ended with EINTR for no other reason goes on while it has time."""
        regs = p.task.peek_regs()
        nr = signed(regs.orig_rax)
        if nr < 0 or signed(regs.rax) != -errno.EINTR:
            return
        if self.signal_pending(p):
            self.over(p)
            return
        r = copy_regs(regs)
        wait = self.begin(p, nr, arguments(r), r)
        if wait is not None and time.monotonic() >= wait.until:
            r.rax, r.orig_rax = timeouts.result(nr) & NOTHING, NOTHING
            self.over(p)
            if p.call.carry is not None:
                self.tracer.transfers.end(p, nr, r)
        else:
            r = goes_on(r)
        p.task.set_regs(r)

    def begin(self, p: Program, nr: int, args: tuple[int, ...], base: Registers) -> Wait | None:
        """The call will be made again: the end of its time."""
        if p.call.wait is None or (p.call.wait.nr, p.call.wait.args) != (nr, args):
            began = p.call.idle.since if p.call.idle is not None and same_sleep(p.pid, p.call.idle) else time.monotonic()
            limit = self._limit(p, nr, args, base)
            p.call.wait = None if limit is None else Wait(nr, args, began + limit)
        if p.call.wait is not None:
            self._running[p.pid] = p
        return p.call.wait

    def cut(self, p: Program, nr: int, before: Registers, rest: Registers) -> None:
        """A transfer goes on with the registers ``rest`` after a part of it: its time goes on too."""
        if self.begin(p, nr, arguments(before), before) is not None and p.call.wait is not None:
            p.call.wait = p.call.wait._replace(args=arguments(rest))

    def at_syscall(self, p: Program) -> bool:
        """Entry or exit of a call while one is watched; True if that goes on."""
        wait, regs = p.call.wait, p.task.peek_regs()
        assert wait is not None
        nr, result = signed(regs.orig_rax), signed(regs.rax)
        if nr < 0:  # the end of what we had it do in the stub
            return False
        if (nr, arguments(regs)) != (wait.nr, wait.args):
            self.over(p)
        elif result == -errno.EINTR:
            return True  # by our interrupt, or by a signal: either stops it behind this
        elif result != -errno.ENOSYS:
            self.over(p)
        return False

    def over(self, p: Program) -> None:
        """Whatever it was made to wait for, it has ended."""
        p.call.wait = None
        self._running.pop(p.pid, None)

    # ------------------------------------------------------------------ in a deputy

    def takes_off(self, p: Program, flight: Flight) -> None:
        """A body's call begins: if it is the one that was broken off, its time goes on."""
        wait, p.call.wait = p.call.wait, None
        if wait is not None and (flight.request.nr, flight.request.args) == (wait.nr, wait.args):
            flight.wait = wait
            self._running[p.pid] = p

    def goes_on(self, p: Program, deputy: Deputy) -> None:
        """A flight was interrupted by an ignored signal, and is made again in the stub."""
        flight = deputy.flight
        if flight is None or flight.request.nr not in timeouts.CALLS:
            return
        self._of_flight(p, deputy, flight)
        if flight.wait is not None:
            self._running[p.pid] = p

    def undisturbed(self, p: Program, deputy: Deputy, flight: Flight) -> None:
        """At a stop that nobody wants any more: what it has broken off goes on, and the program hears nothing of that."""
        regs = p.task.peek_regs()
        number, result = signed(regs.orig_rax), signed(regs.rax)
        if number < 0 or flight.expired:
            return
        flight.spared = flight.spared or (result > 0 and number in LONG)
        if result == -errno.EINTR:
            self.goes_on(p, deputy)
            p.task.set_regs(goes_on(regs))

    def comes_home(self, p: Program, deputy: Deputy, flight: Flight) -> int | None:
        """A flight that ended with EINTR because the program came home: what it returns if its time is over, else it goes on."""
        self._of_flight(p, deputy, flight)
        p.call.wait = flight.wait
        if p.call.wait is None:
            return None
        if time.monotonic() < p.call.wait.until:
            self._running[p.pid] = p
            return None
        result = timeouts.result(p.call.wait.nr)
        self.over(p)
        return result

    def comes_home_cut(self, p: Program, deputy: Deputy, flight: Flight, rest: Registers) -> None:
        """The same after a part of a transfer, which goes on with the registers ``rest``."""
        self._of_flight(p, deputy, flight)
        if flight.wait is not None:
            p.call.wait = flight.wait._replace(args=arguments(rest))
            self._running[p.pid] = p

    def landed(self, flight: Flight, result: int) -> int:
        """The result of a flight, perhaps one that we broke off because its time is over."""
        late = flight.wait is not None and flight.expired and result == -errno.EINTR
        return timeouts.result(flight.request.nr) if late else result

    def _of_flight(self, p: Program, deputy: Deputy, flight: Flight) -> None:
        request = flight.request
        if flight.wait is None:
            limit = timeouts.of_argument(request.nr, request.args, request.memory)
            if limit is None:
                limit = self._of_socket(p, request.nr, request.args, deputy.base, deputy.mask)
            if limit is not None:
                flight.wait = Wait(request.nr, request.args, flight.started + limit)

    # ------------------------------------------------------------------ limits

    def _limit(self, p: Program, nr: int, args: tuple[int, ...], base: Registers) -> float | None:
        def read(index: int) -> bytes | None:
            try:
                return p.task.read(args[index], timeouts.PAIR_SIZE)
            except OSError:
                return None

        limit = timeouts.of_argument(nr, args, read)
        return self._of_socket(p, nr, args, base, None) if limit is None else limit

    def _of_socket(self, p: Program, nr: int, args: tuple[int, ...], base: Registers, mask: int | None) -> float | None:
        option = timeouts.SOCKET_OPTION.get(nr)
        if option is None:
            return None
        with Calls(p.task, base=base, mask=mask) as call:
            value, size = layout.SCRATCH, layout.SCRATCH + timeouts.PAIR_SIZE
            p.task.write(size, timeouts.PAIR_SIZE.to_bytes(4, "little"))
            if call(SYS_GETSOCKOPT, args[0], timeouts.SOL_SOCKET, option, value, size) < 0:
                return None
            return timeouts.of_socket(p.task.read(value, timeouts.PAIR_SIZE))

    # ------------------------------------------------------------------ the end of the time

    def due(self) -> float | None:
        """When the next one is over; None if there is none."""
        return min((wait.until for p in self._running.values() if (wait := _wait(p)) is not None), default=None)

    def expire(self, now: float) -> None:
        """Break off what is over."""
        for pid, p in list(self._running.items()):
            wait = _wait(p)
            if wait is None or self.tracer.programs.get(pid) is not p:
                del self._running[pid]
            elif wait.until <= now:
                del self._running[pid]
                with self.tracer.containment.of(p):
                    self._break_off(p)

    def _break_off(self, p: Program) -> None:
        deputy = p.deputy
        if deputy is not None:
            if deputy.state is State.BUSY and deputy.flight is not None:
                deputy.flight.expired = True
                deputy.interrupt()
        elif p.place is Place.HOME and not p.suspended and not p.halted:
            p.interrupted = True
            p.task.interrupt()


def _wait(p: Program) -> Wait | None:
    if p.deputy is not None:
        return p.deputy.flight.wait if p.deputy.flight is not None else None
    return p.call.wait


def ineffective(sets: dict[str, int]) -> int:
    """The signals that do nothing to a process with these `status_sets`, as a bit mask."""
    return sets["SigIgn"] | _IGNORED_BY_DEFAULT & ~sets["SigCgt"]
