"""A deputy: the original task of a program that is away. Its memory is gone but for the low region; it makes the program's calls.

States of its kernel task, and what may be done::

    PARKED   runs pause(2) in the stub, so that signals are seen           interrupt it first
    READY    stands in the stub after a call                               start a call, inject, park
    BUSY     makes a forwarded call (a `Flight`)                           wait for its end, or interrupt it
    HELD     stands in the stub, and the program has come home into it    nothing, until its group has come (`moves.groups`)

What waits until it is READY is of two kinds: what home has to do in it (``todo``), and what the body asks (``asked``). The former
comes first, for a call of the body may take for ever. A deputy that has answered stays READY for a moment (`PARK_AFTER`), because
calls come in bursts; then it is parked.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, NamedTuple

from mosfs.abi.flags import ERESTART_RESTARTBLOCK, RESTARTS
from mosfs.abi.numbers import (
    SYS_EXECVE,
    SYS_EXECVEAT,
    SYS_IOCTL,
    SYS_MPROTECT,
    SYS_MUNMAP,
    SYS_PAUSE,
    SYS_RESTART_SYSCALL,
    SYS_VMSPLICE,
)
from mosfs.calls import endless, partial
from mosfs.calls.partial import Carry
from mosfs.calls.request import Request, arrange, changed, is_kept, returned
from mosfs.calls.stored import pieces
from mosfs.calls.timeouts import Wait
from mosfs.home.process.remains import Remains, beside
from mosfs.migrate import rows
from mosfs.migrate.capture import signed
from mosfs.migrate.image import MOST_THREADS
from mosfs.migrate.rebuild import reset_action, set_action
from mosfs.native import ffi, lib
from mosfs.native.registers import Registers
from mosfs.trace import layout
from mosfs.trace.inject import Calls
from mosfs.trace.task import SYSCALL, Task, check, copy_regs

#: Seconds a deputy stays stopped after an answer before it is parked: a signal that comes meanwhile waits so long.
PARK_AFTER = 0.0005

#: Injected helper calls use the first page of scratch, flights the rest.
FLIGHT_SCRATCH = layout.SCRATCH + layout.PAGE
FLIGHT_ROOM = layout.SCRATCH_SIZE - layout.PAGE - layout.CARRY_SIZE
#: Of several threads each has a place of its own for its flights: so much, from there on.
THREAD_ROOM = 0x900
THREADS_SCRATCH = rows.AT - MOST_THREADS * THREAD_ROOM & ~0xFFF


class State(Enum):
    PARKED = auto()
    READY = auto()
    BUSY = auto()
    HELD = auto()


class Hasten(Enum):
    """A call that the body entered while a signal was already on its way to it must not block: it is interrupted at once.

    The interrupt is set between the entry of the call and its work, so the kernel decides what an interrupted call returns.
    """

    NO = auto()
    ENTERING = auto()  # runs to the stop at the call's entry
    INTERRUPTED = auto()  # runs to the stop of our interrupt, behind the call's work


@dataclass(slots=True)
class Flight:
    """A forwarded call that the deputy is making. ``places`` are the scratch addresses of the request's blobs."""

    request: Request
    args: tuple[int, ...]
    places: list[int]
    big: tuple[int, int] | None = None
    started: float = 0.0
    hasten: Hasten = Hasten.NO
    done: Callable[[int], None] | None = None
    spared: bool = False  # an ignored signal has interrupted it
    carry: Carry | None = None
    wait: Wait | None = None  # it was made again, and its time does not begin anew
    expired: bool = False  # we have broken it off, because that time is over
    in_lane: bool = False  # C has begun it, and may end it (`away.lanes`)
    room: tuple[int, int] | None = None  # `Deputy.room` of the thread that it makes

    def outs(self, task: Task, result: int) -> list[tuple[int, bytes]]:
        """(program address, bytes) of what the call brings back."""
        request = self.request
        if not request.blobs:
            return []
        ranges: dict[int, list[tuple[int, int]]] = {}
        for number, length, offset in request.ranges:
            ranges.setdefault(number, []).append((offset, length))
        found = []
        for index, size in returned(request.blobs, result):
            blob = request.blobs[index]
            for offset, length in ranges.get(index, [(0, size)]):
                data, at = task.read(self.places[index] + offset, length), offset
                if blob.data is not None and (request.nr == SYS_VMSPLICE or (request.nr == SYS_IOCTL and blob.edge)):
                    first, last = changed(blob.data[offset : offset + length], data)
                    data, at = data[first:last], offset + first
                if data:
                    found.append((blob.addr + at, data))
        return found


class Outcome(NamedTuple):
    """What a call of a body has come to. ``number``: of the call, -1 if its answer has been sent already; ``outs``: what it brings
    back, (program address, bytes); ``flight``: as the deputy has made it, if it has."""

    number: int
    result: int
    outs: list[tuple[int, bytes]]
    flight: Flight | None


#: By IDs of threads: as `moves.arrival.Arrival.outcome` gives it.
Outcomes = dict[int, tuple[Outcome | None, list[bytes]]]


@dataclass(slots=True)
class Sleep:
    """An interrupted sleep at home. ``pages``: its restart block points there, so they stay when the program leaves; ``outs``: what
    the call writes. ``number``: of the call. ``until``: a wait on a futex ends then, CLOCK_MONOTONIC in ns; 0: its arguments say
    when."""

    pages: list[tuple[int, int]] = field(default_factory=list)
    outs: list[tuple[int, int]] = field(default_factory=list)
    number: int = -1
    until: int = 0


class Deputy:
    """``task`` must be stopped (READY) when this is made; ``mask`` is the program's signal mask. ``room``: address and size of the
    memory for its flights.

    ``born``: the child that the kernel says its fork has made; the value that the call returns is the program's word.
    ``heard``: what the body does at a signal now, and the deputy not yet: (signal, struct sigaction), b"": its handler is reset.
    """

    def __init__(self, task: Task, mask: int) -> None:
        self.task = task
        self.mask = mask
        self.state = State.READY
        self.base = copy_regs(task.peek_regs())
        self.base.orig_rax = 0xFFFF_FFFF_FFFF_FFFF
        self.flight: Flight | None = None
        self.todo: list[Callable[[], object]] = []
        self.asked: list[Callable[[], object]] = []
        self.interrupting = False
        self.ready_since = time.monotonic()
        self.sleep = Sleep()
        self.born = 0
        self.remains = Remains()
        self.room = (FLIGHT_SCRATCH, FLIGHT_ROOM)
        self.heard: list[tuple[int, bytes]] = []

    # ------------------------------------------------------------------ running calls

    @property
    def waiting(self) -> int:
        """How much waits until it is READY."""
        return len(self.todo) + len(self.asked)

    @property
    def executes(self) -> bool:
        """Its call is an exec."""
        return self.flight is not None and self.flight.request.nr in (SYS_EXECVE, SYS_EXECVEAT)

    def when_ready(self, action: Callable[[], object], *, asked: bool = False) -> None:
        """Do ``action`` as soon as the task is READY: now, or after it was interrupted. ``asked``: the body asks for it."""
        if self.state is State.READY and not self.waiting:
            action()
            return
        (self.asked if asked else self.todo).append(action)
        if self.state is State.PARKED:
            self.interrupt()

    def interrupt(self) -> None:
        if not self.interrupting:
            self.interrupting = True
            self.task.interrupt()

    def became_ready(self) -> None:
        """The task has stopped where calls can be started; waiting actions run, until one makes it busy."""
        self.state = State.READY
        self.interrupting = False
        self.ready_since = time.monotonic()
        while self.waiting and self.state is State.READY:
            (self.todo or self.asked).pop(0)()

    def park(self) -> None:
        """READY -> PARKED."""
        self.give_up()
        self._run(SYS_PAUSE, ())
        self.state = State.PARKED

    def give_up(self, most: int | None = None) -> None:
        """READY: unmap what is left of the program's memory, or ``most`` slices of it."""
        if not self.remains:
            return
        with Calls(self.task, base=self.base, mask=self.mask) as call:
            for start, end in self.remains.take(most):
                call.must(SYS_MUNMAP, start, end - start)
        if not self.remains:
            self.remains.forget()

    def heed(self, call: Calls) -> None:
        """Do what was `heard`; ``call`` is a session in the task."""
        while self.heard:
            sig, action = self.heard.pop(0)
            if action:
                set_action(call, sig, action)
            else:
                reset_action(call, sig)

    def set_mask(self, mask: int) -> None:
        if mask != self.mask:
            self.task.set_mask(mask)
            self.mask = mask

    def _run(self, nr: int, args: tuple[int, ...]) -> None:
        padded = [signed(a) for a in args] + [0] * (6 - len(args))
        check(lib.mos_run_call(self.task.pid, self.base, nr, *padded), "deputy", self.task.pid)

    def _run_briefly(self, pump: Any, nr: int, args: tuple[int, ...]) -> int | None:
        result = ffi.new("long *")
        made = lib.mos_make_call(pump, self.task.pid, self.base, nr, *map(signed, args), result)
        return int(result[0]) if check(made, "deputy", self.task.pid) else None

    def start(
        self, request: Request, done: Callable[[int], None] | None = None, *, hasten: bool = False, pump: Any = None
    ) -> int | None:
        """READY -> BUSY: make the call; ``done(result)`` is called at its end instead of the default answer.

        With ``pump`` (struct mos_pump) it is briefly looked for its end: what it has returned, or None when that will be told.
        """
        if self.remains and not beside(request, self.task.pid, self.remains.left):
            self.give_up()
        self.set_mask(request.mask)
        self.flight = self._place(request)
        self.flight.done = done
        self.state = State.BUSY
        if pump is not None and not hasten:
            return self._run_briefly(pump, request.nr, self.flight.args)
        if not hasten:
            self._run(request.nr, self.flight.args)
            return None
        self.flight.hasten = Hasten.ENTERING
        regs = copy_regs(self.base)
        regs.rax, regs.rip = request.nr, layout.STUB
        regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9 = self.flight.args
        self.task.set_regs(regs)
        self.task.cont(request=SYSCALL)
        return None

    def hasten(self) -> bool:
        """A signal came when the call was not yet entered; False if there is no call that could block."""
        if self.flight is None:
            return False
        self.flight.hasten = Hasten.ENTERING
        self.task.cont(request=SYSCALL)
        return True

    def hastened(self, *, entered: bool) -> bool:
        """At a stop of a hastened call: take the next step; False if there is none. ``entered``: at the call's entry."""
        flight = self.flight
        if flight is None or flight.hasten is Hasten.NO:
            return False
        if flight.hasten is Hasten.ENTERING and not entered:  # an interrupt from before the call
            self.task.cont(request=SYSCALL)
            return True
        if flight.hasten is Hasten.ENTERING:
            flight.hasten = Hasten.INTERRUPTED
            self.task.interrupt()
        else:
            flight.hasten = Hasten.NO
            regs = self.task.peek_regs()
            regs.orig_rax = 0xFFFF_FFFF_FFFF_FFFF
            self.task.set_regs(regs)
        self.task.cont()
        return True

    def _place(self, request: Request) -> Flight:
        if not request.blobs:
            return Flight(request, request.args, [], None, time.monotonic())
        places, barred, total = arrange(request.blobs)
        (base, room), big = self.room, None
        if barred or total > room or is_kept(request):
            big = self._room(barred, (total + 4095) & ~4095)
            base = big[0]
        places = [base + p for p in places]
        args = list(request.args)
        for blob, place in zip(request.blobs, places):
            if blob.arg < 6:
                args[blob.arg] = place
        for blob_index, target, offset in request.relocations:
            data = request.blobs[blob_index].data
            if data is not None:
                turned = data if isinstance(data, bytearray) else bytearray(data)
                turned[offset : offset + 8] = places[target].to_bytes(8, "little")
                request.blobs[blob_index].data = turned
        for blob, place in zip(request.blobs, places):
            if blob.data is not None:
                self.task.write(place, blob.data)
        return Flight(request, tuple(args), places, big, time.monotonic())

    def _room(self, barred: list[int], size: int) -> tuple[int, int]:
        """(address, size) of memory for a flight, without access at the pages ``barred``. OSError."""
        self.give_up()
        with Calls(self.task, base=self.base, mask=self.mask) as call:
            base = call.map(0, size)
            for page in barred:
                if call(SYS_MPROTECT, base + page, layout.PAGE, 0):
                    call(SYS_MUNMAP, base, size)
                    raise OSError(errno.ENOMEM, "no room for the memory of a call")
        return base, size

    def result_of_flight(self, result: int) -> int | None:
        """The result of the flight; None if it goes on, because an ignored signal has cut its transfer short."""
        flight = self.flight
        assert flight is not None, "a call ended that was never started"
        nr = flight.request.nr
        if flight.spared and nr in endless.CALLS:
            return self.completed(flight, result)
        if flight.spared and nr in partial.CALLS:
            flight.spared = False
            regs = self._regs_of(flight)
            if partial.cut_short(self.task, nr, regs, result):
                left, flight.carry = partial.remainder(self.task, nr, regs, result, flight.carry)
                flight.args = (left.rdi, left.rsi, left.rdx, left.r10, left.r8, left.r9)
                self._run(nr, flight.args)
                return None
        return result if flight.carry is None else partial.total(self.task, nr, result, flight.carry)

    def completed(self, flight: Flight, result: int) -> int:
        """The result of a flight that was interrupted, if its source has no end (`calls.endless`)."""
        return endless.complete(self.task, flight.request.nr, self._regs_of(flight), result)

    def _regs_of(self, flight: Flight) -> Registers:
        regs = copy_regs(self.base)
        regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9 = flight.args
        return regs

    def finish(self, result: int) -> tuple[Flight, list[tuple[int, bytes]]]:
        """BUSY -> READY at the end of the flight: what it brought back."""
        flight = self.flight
        assert flight is not None, "a call ended that was never started"
        outs = self.brought(flight, result)
        if flight.big is not None:
            with Calls(self.task, base=self.base, mask=self.mask) as call:
                call(SYS_MUNMAP, *flight.big)
        self.flight = None
        return flight, outs

    def brought(self, flight: Flight, result: int) -> list[tuple[int, bytes]]:
        """What the call of ``flight`` has written. A sleep that goes on by restart_syscall(2) has its own places for that."""
        outs = flight.outs(self.task, result)
        if flight.request.nr == SYS_RESTART_SYSCALL and self.sleep.outs:
            for addr, size in self.sleep.outs:
                outs += pieces(self.sleep.number, addr, [(addr, self.task.read(addr, size))])
            if result not in RESTARTS:  # over: the next sleep is another one
                self.sleep = Sleep()
        return outs

    def rerun(self) -> None:
        """Make the interrupted call of the flight again (nothing has changed for the program)."""
        assert self.flight is not None
        self._run(self.flight.request.nr, self.flight.args)
        self.state = State.BUSY

    def resume_sleep(self) -> None:
        """Go on with a call that has a restart block."""
        self._run(SYS_RESTART_SYSCALL, ())
        self.state = State.BUSY


def interrupted(result: int) -> bool:
    """The result says that the kernel would restart the call, or return EINTR to a handler."""
    return result in RESTARTS


def is_sleep(result: int) -> bool:
    return result == -ERESTART_RESTARTBLOCK


def deputy_of_child(parent: Deputy, task: Task) -> Deputy:
    """The deputy of a child that the parent's deputy has just forked: it comes out of the same stub."""
    child = Deputy.__new__(Deputy)
    child.task = task
    child.mask = parent.mask
    child.state = State.BUSY
    child.base = copy_regs(parent.base)
    child.flight = None
    child.todo, child.asked, child.heard = [], [], []
    child.interrupting = False
    child.ready_since = time.monotonic()
    child.sleep = parent.sleep
    child.born = 0
    child.remains = Remains()
    child.room = (FLIGHT_SCRATCH, FLIGHT_ROOM)
    return child
