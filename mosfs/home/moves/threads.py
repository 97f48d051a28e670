"""Processes with several threads (docs/design/threads.md): what a move does to a program it does to each of its threads.

Each is a `Program` with a task of its own, which becomes a deputy of its own; the first one, the leader, has the move. Its threads
stand still together, travel in one image and are committed together.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Protocol

from mosfs.abi.flags import FUTEX_PRIVATE_FLAG, FUTEX_WAIT_BITSET
from mosfs.abi.numbers import SYS_EXIT, SYS_FUTEX
from mosfs.abi.reasons import Reason
from mosfs.calls.request import Request
from mosfs.home.ports import Tree
from mosfs.home.process.deputy import (
    FLIGHT_SCRATCH,
    THREAD_ROOM,
    THREADS_SCRATCH,
    Deputy,
    Outcome,
    Outcomes,
    Sleep,
    State,
    interrupted,
)
from mosfs.home.process.link import Link
from mosfs.home.process.move import Move, Standing, Stands
from mosfs.home.process.program import Place, Program
from mosfs.home.process.registers import futex_again, is_futex, result_at
from mosfs.migrate import rseq
from mosfs.migrate.capture import signed, user_regs
from mosfs.migrate.image import MOST_THREADS, BadImage, ImageMeta, Thread
from mosfs.migrate.rebuild import give_state, queue_noted, queue_signal, take_back, take_pending
from mosfs.migrate.rows import FORGET, capture_threads, forget_all, give_threads
from mosfs.migrate.suits import state_lacking
from mosfs.native import ffi, lib
from mosfs.native.registers import Registers
from mosfs.trace.idle import idle, may_sleep_shorter
from mosfs.trace.inject import Calls
from mosfs.trace.proc import state_of
from mosfs.trace.stops import BIRTHS, Stop, decode
from mosfs.trace.task import WALL, TaskGone, behind, copy_regs

#: So often threads are looked for that others have made meanwhile; so many stops may come before the one that was asked for.
MOST_ROUNDS, MOST_STOPS = 64, 64
#: Seconds within which a thread stops that is in no call which waits for others whatever comes; and how many attempts at a capture
#: (`moves.MAX_TRIES`) so long a wait counts, because all others stand meanwhile.
STANDS_WITHIN, TRIES_OF_A_WAIT = 0.2, 50
#: Seconds that threads may be waited for which want a processor that others have: asked again later they would have to wait again.
RUNS_WITHIN = 1.0
#: Where the flights of threads other than the first have their memory.
_PLACES = range(THREADS_SCRATCH, THREADS_SCRATCH + MOST_THREADS * THREAD_ROOM, THREAD_ROOM)
_OF_LEADER = (FLIGHT_SCRATCH, THREADS_SCRATCH - FLIGHT_SCRATCH)
_SECOND = 10**9
_ANY_BIT = 0xFFFFFFFF


@dataclass(slots=True)
class ComingThread:
    """A thread that has come home, in its deputy's place."""

    q: Program
    deputy: Deputy
    thread: Thread
    outcome: Outcome | None
    signalled: bool
    regs: Registers | None = None
    older: list[bytes] = field(default_factory=list)  # signals that came while it was away; and those that came to its deputy
    newer: list[tuple[bool, bytes]] = field(default_factory=list)
    queued: list[tuple[bool, bytes]] = field(default_factory=list)  # in its kernel, those of its image among them


class Coming(Protocol):
    """What `moves.arrival` knows of a program on its way home."""

    meta: ImageMeta
    others: Outcomes
    threads: list[ComingThread]


class Threads:
    def __init__(self, tracer: Tree) -> None:
        self.tracer = tracer

    def of(self, p: Program) -> list[Program]:
        """The other threads of the process whose first is ``p``."""
        return [self.tracer.programs[tid] for tid in sorted(p.kin.threads) if tid in self.tracer.programs]

    def obstacle(self, p: Program) -> str:
        """Why a process with several threads, or with memory that it shares, cannot move; "" if it can."""
        if not p.several:
            return ""
        has = Reason.THREADS if p.process.several else Reason.MEMORY_SHARED
        if len(p.kin.threads) > MOST_THREADS:
            return f"has more than {MOST_THREADS + 1} threads"
        if p.private is not None:
            return f"{has}, and private files"
        if p.post.mail is not None:
            return f"{has}, and a mailbox"
        if p.settings.outlive == 1:
            return f"{has}, and shall outlive its node"
        return Reason.FIRST_ENDED if p.kin.threads and state_of(p.pid) in ("Z", "X") else ""

    # ------------------------------------------------------------------ leaving

    def stand(self, p: Program, move: Stands) -> bool:
        """Stop the other threads where they can be captured. False: they go on, and it shall be tried again later."""
        lib.mos_unpin(self.tracer.pump)  # who is born meanwhile has its maker's processors, and C does not see that
        move.frozen_at, met = time.monotonic(), dict[int, int]()
        for _ in range(MOST_ROUNDS):
            running = [q for q in self.of(p) if q.pid not in move.standing]
            if not running:
                return True
            for q in running:
                self._ask(q)
            met = self._stand(running, move)
            if not all(self._stops(q, move, met) for q in running if q.pid not in move.standing):
                break
        self.stay(p, move)
        for pid, status in met.items():
            self.tracer.stops.task_event(pid, status)
        return False

    def replaced(self, p: Program) -> bool:
        """Whether the first thread, which we have stopped, does not stand there any more: another thread has executed a program and
        has its ID now (execve(2)), or all of them have been killed. That is dealt with; going on would pass over its stop."""
        if not p.kin.threads:
            return False
        status = p.task.wait(WALL | os.WNOHANG)
        if status:
            self.tracer.stops.task_event(p.pid, status)
        return bool(status)

    def _ask(self, q: Program) -> None:
        """Have it stop, if it can be captured then. All are asked before one is waited for, so that they stop side by side."""
        if q.suspended or q.halted or q.obstacle():
            return
        if q.deputy is None:
            q.call.idle = idle(q.pid) if may_sleep_shorter(q.pid) else None
        q.interrupted = True
        with suppress(TaskGone):  # its end follows
            q.task.interrupt()

    def _stand(self, asked: Sequence[Program], move: Stands) -> dict[int, int]:
        """Most of those that were asked compute, or wait for others: they stand in ``move.standing`` then. Returns what the others
        have met, wait statuses by their IDs."""
        asked = [q for q in asked if q.interrupted and q.deputy is None and not (q.cpu.overdue or q.suspended or q.halted)]
        table, met = ffi.new("struct mos_standing[]", len(asked)), {}
        for one, q in zip(table, asked, strict=True):
            one.pid = q.pid
        lib.mos_standing(table, len(asked), int(STANDS_WITHIN * 1000))
        for one, q in zip(table, asked, strict=True):
            if one.outcome == 1 and not self._lacks(q, move):
                q.interrupted, q.call.sleep = False, None
                regs = ffi.new("struct mos_regs *", one.regs)
                move.standing[q.pid] = Standing(Stop.TRAP, regs, user_regs(regs, Stop.TRAP))
            elif one.outcome:
                met[q.pid] = one.status
        return met

    def _stops(self, q: Program, move: Stands, met: dict[int, int]) -> bool:
        """Whether it stands now, in ``move.standing``, or is no more. ``met``: wait statuses that have been taken already."""
        for stops in range(MOST_STOPS):
            if self.tracer.programs.get(q.pid) is not q:
                return True
            if q.halted or q.obstacle():
                return False
            if q.suspended:  # in a request of its own to us
                if move.freezes is not None:
                    return False
                trapped = signed(q.task.peek_regs().orig_rax) >= 0
                move.standing[q.pid] = self._standing(q, Stop.SECCOMP if trapped else Stop.OTHER)
                return True
            if stops and q.deputy is not None:  # who deals with its stops does not ask again
                self._ask(q)
            try:
                raw = met.pop(q.pid) if q.pid in met else q.task.wait_beside(-1, STANDS_WITHIN)
            except TaskGone:
                return self.tracer.programs.get(q.pid) is not q
            if raw is None and time.monotonic() < move.frozen_at + RUNS_WITHIN and state_of(q.pid) == "R":
                continue
            if raw is None:  # in a call that only ends by what somebody else does, perhaps we
                move.tries += TRIES_OF_A_WAIT
                return False
            status = decode(raw)
            if status.stop in BIRTHS:
                lib.mos_like(self.tracer.pump, q.pid, q.task.event_message())
            if status.stop is not Stop.TRAP:
                self.tracer.stops.handle(q, status)  # which asks for our stop again, where another has taken its place
                continue
            q.interrupted = q.halted = False
            if q.deputy is not None and woken(q):
                q.task.cont()
                continue
            if q.deputy is None:
                rseq.leave(q.task)
                self._stopped_as_asked(q)
            if self.tracer.departure.deliverable(q) or self._lacks(q, move):
                if q.deputy is not None:
                    q.task.cont()
                else:
                    self.tracer.stops.go_on(q)
                return False
            move.standing[q.pid] = self._standing(q, Stop.TRAP)
            return True
        return False

    def _stopped_as_asked(self, q: Program) -> None:
        """It has stopped because we asked it to (`tree.stops`)."""
        self.tracer.transfers.continue_later(q)
        self.tracer.waits.stopped(q)
        if q.cpu.overdue:
            self.tracer.cputimers.stopped(q)
        self.tracer.departure.note_sleep(q, q.task.peek_regs())

    def _lacks(self, q: Program, move: Stands) -> bool:
        link = move.link
        return link is not None and bool(state_lacking(q.task, self.tracer.features, link.features))

    @staticmethod
    def _standing(q: Program, stop: Stop) -> Standing:
        regs = copy_regs(q.task.peek_regs())
        if q.deputy is not None:
            assert q.body.sleeping is not None
            return Standing(stop, regs, copy_regs(q.body.sleeping), asleep=not is_futex(q.body.sleeping))
        again = futex_again(regs, q.call.sleep.number if q.call.sleep is not None else -1) if stop is Stop.TRAP else None
        return Standing(stop, regs, user_regs(regs, stop) if again is None else again)

    def capture(self, p: Program, move: Move) -> list[Thread]:
        """The threads, which stand, for an image. From here on each would go on by itself, should this process die."""
        others = self.of(p)
        with ExitStack() as sessions:
            stood = []
            for q in others:
                base, mask = (q.deputy.base, q.deputy.mask) if q.deputy is not None else (move.standing[q.pid].stopped, None)
                stood.append((sessions.enter_context(Calls(q.task, base=base, mask=mask)), move.standing[q.pid].stay))
            found = capture_threads(stood, pending=False)
        for q, thread in zip(others, found, strict=True):
            standing = move.standing[q.pid]
            stay, stopped = standing.stay, standing.stopped
            thread.tid = q.pid
            standing.waiting = q.suspended and standing.stop is Stop.SECCOMP
            if q.deputy is None:
                q.task.set_regs(behind(stay, -errno.ENOSYS) if standing.waiting else stay)
                if not is_futex(stay):
                    standing.inside = self.tracer.departure.inside(q, stopped, stay, standing.stop, thread.mask)
            thread.waiting = standing.waiting or standing.asleep or standing.inside is not None
            thread.carry, thread.seq = q.call.carry, q.body.seq
            thread.until = self.until(q, stay)
            q.body.forwarded = q.body.seq
            q.call.watched = False
        return found

    @staticmethod
    def until(q: Program, stay: Registers) -> int:
        """When the wait on a futex ends that it will go on with (`image.Thread.until`)."""
        return q.call.sleep.until if q.call.sleep is not None and is_futex(stay) else 0

    def stay(self, p: Program, move: Stands) -> None:
        """The move has failed, or cannot be yet: those that stand go on at home."""
        standing, move.standing = move.standing, {}
        for q in self.of(p):
            stood = standing.get(q.pid)
            if stood is None:
                continue
            q.place = Place.HOME
            with self.tracer.containment.of(q):
                if q.deputy is not None:
                    q.deputy.resume_sleep()
                elif q.suspended:
                    q.task.set_regs(behind(stood.stay, 0) if stood.waiting else stood.stopped)
                else:
                    self.tracer.departure.stand_again(q, stood.stopped, stood.stay)
                    self.tracer.stops.go_on(q)

    def prepare(self, p: Program, move: Move) -> list[Deputy]:
        """Committed: their deputies, whose kernel writes nowhere in the memory any more, which may go now."""
        asleep = {q.pid: q.deputy for q in self.of(p) if q.deputy is not None and move.standing[q.pid].asleep}
        free = free_places(deputy.room for deputy in asleep.values())
        deputies: list[Deputy] = []
        for q in self.of(p):
            stood, deputy = move.standing[q.pid], asleep.get(q.pid)
            if deputy is None:  # else its kernel goes on with memory where it is
                deputy = Deputy(q.task, q.task.peek_mask())
                deputy.room = (next(free), THREAD_ROOM)
            if q.call.sleep is not None and stood.stop is not Stop.SECCOMP and not is_futex(stood.stay):
                deputy.sleep = q.call.sleep
            deputies.append(deputy)
        forget_threads(deputies)
        return deputies

    def commit(self, p: Program, link: Link, move: Move, deputies: list[Deputy]) -> None:
        """They are deputies now; each makes the call that its thread has left in."""
        for q, deputy in zip(self.of(p), deputies, strict=True):
            stood = move.standing[q.pid]
            q.body.signals, q.body.files, q.body.kept_back = 0, p.body.files, None
            q.link, q.place, q.suspended, q.deputy = link, Place.AWAY, stood.waiting, deputy  # its request may take longer
            q.body.sleeping = q.call.carry = q.call.sleep = None
            with self.tracer.containment.of(q):
                if move.freezes is not None:
                    self.tracer.freezing.left(q, deputy, stood, asleep=stood.asleep)
                    continue
                if stood.asleep:
                    deputy.resume_sleep()
                    continue
                deputy.became_ready()
                self.tracer.deputies.watch(q)
                if stood.inside is not None:
                    self.tracer.requests.make(q, deputy, stood.inside)
        move.standing.clear()

    # ------------------------------------------------------------------ coming home

    def recalled(self, p: Program) -> None:
        """What their bodies' host is to hear is kept back from now on."""
        for q in self.of(p):
            q.body.kept_back = q.body.kept_back if q.body.kept_back is not None else []

    def halt(self, p: Program) -> None:
        for q in self.of(p):
            if q.deputy is not None:
                with suppress(TaskGone):  # it is about to end, as its body has: `outcomes` sees that
                    self.tracer.arrival.halt(q, q.deputy)

    def outcomes(self, p: Program, found: Outcomes) -> None:
        """What `Arrival.outcome` says of ``p``, and of each of its threads that has not ended, by ID: into ``found``, also when it
        is raised that one does not stop (`StillRuns`)."""
        assert p.deputy is not None
        found[p.pid] = self.tracer.arrival.outcome(p, p.deputy)
        for q in self.of(p):
            assert q.deputy is not None
            try:
                found[q.pid] = self.tracer.arrival.outcome(q, q.deputy)
            except TaskGone as gone:
                if gone.status is None:
                    raise
                self.tracer.stops.task_event(q.pid, gone.status)

    def matched(self, p: Program, threads: list[Thread]) -> list[tuple[Program, Thread]]:
        """Those of an image. BadImage if it has others. One that has ended there ends here, too."""
        told = {thread.tid: thread for thread in threads}
        mine = self.of(p)
        if told.keys() - {q.pid for q in mine}:
            raise BadImage("threads that the program does not have")
        for q in mine:
            if q.pid not in told and q.deputy is not None and q.deputy.state is State.READY:
                q.deputy.start(Request(SYS_EXIT, (0,) * 6, q.deputy.mask))
        return [(q, told[q.pid]) for q in mine if q.pid in told]

    def build(self, coming: Coming, matched: Sequence[tuple[Program, Thread]]) -> None:
        """Make threads of their deputies, in ``coming.threads``. Whatever is raised, `Arrival` can undo it."""
        built, calls = coming.threads, []
        with ExitStack() as sessions:
            for q, thread in matched:
                assert q.deputy is not None
                outcome, infos = coming.others[q.pid]
                built.append(ComingThread(q, q.deputy, thread, outcome, bool(infos or thread.pending)))
                calls.append(call := sessions.enter_context(Calls(q.task, base=q.deputy.base, mask=q.deputy.mask)))
                one = built[-1]
                one.older = [*infos, *q.body.infos]
                signals = {int.from_bytes(info[:4], "little") for info in [*(info for _, info in thread.pending), *one.older]}
                one.newer = take_pending(call, signals)
                q.demand.waiting = give_state(q.task, coming.meta, thread)
            for one, call, regs in zip(built, calls, give_threads(calls, [thread for _, thread in matched]), strict=True):
                one.regs = regs
                one.queued += one.thread.pending
                queue_noted(call, [*((False, info) for info in one.older), *one.newer], one.queued)

    def unbuild(self, p: Program) -> None:
        """They are deputies again: their kernel writes nowhere in the memory that is about to go."""
        forget_threads([q.deputy for q in self.of(p) if q.deputy is not None])

    def wait_until(self, q: Program, deputy: Deputy, regs: Registers, until: int) -> None:
        """It goes on at home with a wait on a futex (``regs`` stand before it) that ends at ``until``, CLOCK_MONOTONIC in ns: in
        the stub, as it does with a sleep that began away."""
        at = deputy.room[0]
        q.task.write(at, (until // _SECOND).to_bytes(8, "little") + (until % _SECOND).to_bytes(8, "little"))
        operation = regs.rsi & FUTEX_PRIVATE_FLAG | FUTEX_WAIT_BITSET
        q.deputy, q.body.sleeping = deputy, regs
        q.call.sleep = Sleep(number=SYS_FUTEX, until=until)
        deputy.start(Request(SYS_FUTEX, (regs.rdi, operation, regs.rdx, at, 0, _ANY_BIT), deputy.mask))

    def room(self, p: Program) -> tuple[int, int] | None:
        """Room for the flights of one more thread of a process that is away; None if it has as many as it may have, those included
        that its deputies are making, or left home with one."""
        if p.deputy is None or p.deputy.room != _OF_LEADER:
            return None
        deputies = [q.deputy for q in (p, *self.of(p)) if q.deputy is not None]
        promised = (deputy.flight.room for deputy in deputies if deputy.flight is not None and deputy.flight.room is not None)
        free = next(free_places([*(deputy.room for deputy in deputies), *promised]), None)
        return None if free is None else (free, THREAD_ROOM)

    @staticmethod
    def room_of_leader(deputy: Deputy) -> None:
        """What is left of the scratch to the first thread."""
        deputy.room = _OF_LEADER


def free_places(rooms: Iterable[tuple[int, int]]) -> Iterator[int]:
    """Where a thread may have its flights besides these."""
    taken = {place for place, _ in rooms}
    return (place for place in _PLACES if place not in taken)


def woken(q: Program) -> bool:
    """At a stop in its stub: whether the wait for others that it went on with there has ended. Made again elsewhere, it would
    not hear of that: nobody wakes it twice."""
    sleeping = q.body.sleeping
    return sleeping is not None and is_futex(sleeping) and not interrupted(result_at(q.task.peek_regs(), SYS_FUTEX))


def signals_back(threads: Sequence[ComingThread]) -> None:
    """Behind `Threads.unbuild`: their signals are where they were before `Threads.build`; their bodies have, or get, the others."""
    for one in threads:
        with suppress(TaskGone), Calls(one.q.task, base=one.deputy.base, mask=one.deputy.mask) as call:
            came = take_back(call, one.queued)
            for shared, info in [*((False, info) for info in one.q.body.infos), *one.newer, *came]:
                queue_signal(call, info, shared=shared)
        one.q.body.infos.clear()


def forget(call: Calls) -> None:
    """What the kernel does at the end of a thread it does where its body ends: its deputy may end later, when the memory is
    back at home, and another thread has that place in it."""
    call.many(FORGET)


def forget_threads(deputies: Sequence[Deputy]) -> None:
    """The same of several at a time; and their kernel writes to no area of restartable sequences any more."""
    with ExitStack() as sessions:
        forget_all([sessions.enter_context(Calls(one.task, base=one.base, mask=one.mask)) for one in deputies])
