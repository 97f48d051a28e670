"""Bodies with several threads (docs/design/threads.md): each thread is a `Body` of its own, with its ID at home as ``pair``; the
first of them, the leader, stands for the process. All of them are built, leave and end together."""

from __future__ import annotations

import struct
from contextlib import ExitStack, suppress
from typing import Protocol

from mosfs.abi.flags import (
    CLONE_CHILD_CLEARTID,
    CLONE_CHILD_SETTID,
    CLONE_DETACHED,
    CLONE_PARENT_SETTID,
    CLONE_PIDFD,
)
from mosfs.abi.numbers import SYS_CLONE, SYS_CLONE3, SYS_RT_SIGACTION
from mosfs.calls import partial
from mosfs.calls.cputime import Used
from mosfs.calls.policy import makes_thread
from mosfs.guest.arriving import Made
from mosfs.guest.body import Body, Processor, State
from mosfs.guest.context import Context
from mosfs.guest.copying import before_call
from mosfs.guest.in_body import complete_getrandom
from mosfs.guest.signals import Signals
from mosfs.migrate import rseq
from mosfs.migrate.capture import user_regs
from mosfs.migrate.image import MOST_THREADS, ImageMeta, Thread
from mosfs.migrate.rows import capture_threads
from mosfs.migrate.suits import state_lacking
from mosfs.native import lib
from mosfs.native.registers import Registers
from mosfs.trace import layout
from mosfs.trace.inject import Calls
from mosfs.trace.proc import state_of, tgid_of
from mosfs.trace.stops import BIRTHS, Status, Stop, decode
from mosfs.trace.task import NOTHING, Task, TaskGone, copy_regs, unfit

#: So many stops may come before the one that a thread was asked for.
MOST_STOPS = 64
#: Seconds that all others stand for one that does not stop.
STANDS_WITHIN = 0.2
#: It is not in our hands.
_STOPPABLE = frozenset({State.RUNNING, State.TIMED})


#: Where a thread has the arguments of the clone3(2) by which it makes another, words and the ID of that one: in the pages behind
#: the vDSO, which no thread can write to (`sandbox`), so that its kernel reads what we have written.
_CLONE_ARGS = struct.Struct("<10QI")
CLONE_ROOM = 96
CLONES = layout.VDSO_END - (MOST_THREADS + 2) * CLONE_ROOM


class Handles(Protocol):
    """Who deals with a stop of a body."""

    def handle(self, body: Body, status: Status) -> Body | None: ...


class Settles(Protocol):
    """`timed.Timed`."""

    def settled(self, body: Body) -> bool: ...


class Threads:
    """``stops``: who deals with what threads meet before they stand; ``timed``: with their waits that have a limit."""

    def __init__(self, context: Context, signals: Signals) -> None:
        self._context = context
        self._signals = signals
        self.stops: Handles | None = None
        self.timed: Settles | None = None

    # ------------------------------------------------------------------ built

    def join(self, leader: Body, made: list[Made], meta: ImageMeta) -> None:
        """Bodies for the threads that have come with the first one."""
        leader.own.several = leader.own.several or meta.births or meta.shares or bool(made)
        leader.own.births, leader.own.shares = meta.births, meta.shares
        for slot, (thread, (task, regs, waiting_state)) in enumerate(zip(meta.threads, made, strict=True), 1):
            body = self._joins(leader, thread.tid, task, slot)
            body.state, body.comm, body.processor.waiting_state = State.COMPLETE, thread.comm, waiting_state
            body.call.seq, body.signals.seen, body.call.regs, body.own.came = thread.seq, thread.seen, regs, thread
            body.call.carry, body.call.until = partial.taken_up(task, regs, thread.carry), thread.until
            if meta.own_used is not None:
                body.times.own_before = body.times.own_last = Used(*thread.used)

    def _joins(self, leader: Body, tid: int, task: Task, slot: int) -> Body:
        """A body for one more thread of the process of ``leader``."""
        task.carries_at = partial.place(slot)
        body = Body(tid, task, State.RUNNING, comm=leader.comm, since=leader.since, leader=leader)
        body.account, body.paid = leader.account, leader.paid
        body.memory, body.settings, body.own.several, body.own.slot = leader.memory, leader.settings, True, slot
        body.processor = Processor(leader.processor.features, leader.processor.needs)
        body.times.own_before = Used() if leader.times.own_before is not None else None
        body.signals.oneshot, body.signals.actions = leader.signals.oneshot, leader.signals.actions
        leader.threads[body.pair] = self._context.bodies[body.pair] = self._context.by_pid[body.pid] = body
        return body

    # ------------------------------------------------------------------ born here

    @staticmethod
    def makes(body: Body, nr: int, args: tuple[int, ...]) -> bool:
        """Whether the call makes a thread, and that can be here: `Processes.clone`. Else it is made at home."""
        leader = body.leader or body
        if not makes_thread(nr, args) or args[0] & CLONE_PIDFD or not leader.own.births:
            return False
        under_way = sum(one.state is State.FORKING for one in (leader, *leader.threads.values()))  # perhaps of threads
        return len(leader.threads) + under_way < MOST_THREADS

    @staticmethod
    def clone(body: Body, flags: int, *, parent: int = 0) -> Registers:
        """The registers of the clone3(2) by which the body makes what its deputy has made, a thread or a child, with the same ID.

        ``flags``: those of clone(2), 0 for fork(2); ``parent``: CLONE_PARENT for a child, which is to be ours. What clone(2) passes
        over clone3(2) refuses: the upper half, and CLONE_DETACHED, with which musl makes its threads."""
        flags &= 0xFFFFFFFF & ~CLONE_DETACHED
        before, regs = body.call.regs, copy_regs(body.call.regs)
        at = CLONES + CLONE_ROOM * body.own.slot
        plain = body.call.nr != SYS_CLONE
        stack = (before.rsi - layout.PAGE, layout.PAGE) if before.rsi and not plain else (0, 0)
        parent_tid = before.rdx if flags & CLONE_PARENT_SETTID else 0
        child_tid = before.r10 if flags & (CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID) else 0
        tls = 0 if plain else before.r8
        words = (flags & ~0xFF | parent, 0, child_tid, parent_tid, 0, *stack, tls, at + _CLONE_ARGS.size - 4, 1)
        body.task.poke(at, _CLONE_ARGS.pack(*(word & NOTHING for word in words), body.fork.child))
        regs.orig_rax, regs.rdi, regs.rsi = SYS_CLONE3, at, _CLONE_ARGS.size - 4
        return regs

    def born(self, body: Body) -> Body:
        """That clone3 has made a thread, which stands at its first stop or will."""
        leader, local = body.leader or body, body.task.event_message()
        if tgid_of(local) != leader.pid:  # what clone3(2) reads lies where other threads can write
            unfit(local, "it is no thread")
            raise unfit(body.pid, "its clone has made a process instead of a thread")
        taken = {0, *(thread.own.slot for thread in leader.threads.values())}
        slot = next(slot for slot in range(1, MOST_THREADS + 2) if slot not in taken)
        task = Task(local, guest=True, own=body.fork.child, group=leader.task.own)
        thread = self._joins(leader, body.fork.child, task, slot)
        thread.comm, thread.call.regs = body.comm, copy_regs(body.call.regs)
        thread.signals.told_mask, thread.fork.mask = body.signals.told_mask, body.fork.mask
        thread.fork.step = 0  # its first stop has something to do (`Processes.first_stop`)
        return thread

    # ------------------------------------------------------------------ leaving

    def stand(self, leader: Body) -> bool:
        """Stop the other threads of a process whose first one stands, where they can be captured. False: let them go on, and try
        again later; none of them stands then."""
        lib.mos_unpin(self._context.pump)  # who is born meanwhile has its maker's processors, and C does not see that
        running = list(leader.threads.values())
        for body in running:
            with suppress(TaskGone):  # its end follows
                self._ask(body)
        for body in running:
            try:
                stands = self._stops(body)
            except TaskGone:
                stands = self._context.bodies.get(body.pair) is not body
            if not stands:
                self.go_on(leader)
                return False
        return True

    @staticmethod
    def _ask(body: Body) -> None:
        """Have it stop. All are asked before one is waited for, so that they stop side by side."""
        if body.state in _STOPPABLE and not (body.stopping.paused or body.stopping.interrupting):
            body.stopping.interrupting = True
            body.task.interrupt()

    def _stops(self, body: Body) -> bool:
        """Whether it stands now, or is no more."""
        for _ in range(MOST_STOPS):
            if body.state not in _STOPPABLE:
                body.stopping.stood = self._leaves_waiting(body)
                return body.stopping.stood
            if not body.stopping.paused:
                self._ask(body)
                raw = body.task.wait_beside(-1, STANDS_WITHIN)
                if raw is None:  # it has no processor, or its kernel is at work for it: its stop will come
                    return False
                status = decode(raw)
                if status.stop in BIRTHS:
                    lib.mos_like(self._context.pump, body.pid, body.task.event_message())
                if status.stop is not Stop.TRAP or body.fork.step is not None:  # its very first stop is no other's
                    assert self.stops is not None
                    self.stops.handle(body, status)
                    if self._context.bodies.get(body.pair) is not body:
                        return True
                    continue
                body.stopping.interrupting = False
                if body.state is State.TIMED and self.timed is not None and self.timed.settled(body):
                    continue
                complete_getrandom(body)
                if body.state is State.RUNNING:
                    rseq.leave(body.task)
                body.stopping.paused = body.stopping.halted
            if body.signals.restart is not None:
                if not body.stopping.paused:
                    body.task.cont()
                return False
            if body.signals.infos and body.state is State.RUNNING:
                self._signals.deliver(body, Stop.TRAP)
            body.stopping.stood = True
            return True
        return False

    @staticmethod
    def _leaves_waiting(body: Body) -> bool:
        if body.state is not State.WAITING or body.call.mapping is not None:
            return False
        return repeatable(body)

    def go_on(self, leader: Body) -> None:
        """They do not leave."""
        for body in leader.threads.values():
            if body.stopping.stood:
                body.stopping.stood = False
                if body.state in (State.RUNNING, State.TIMED) and not body.stopping.paused:
                    body.task.cont()

    def lacking(self, leader: Body, there: str) -> list[str]:
        """What the threads use just now of the processor and the node with features ``there`` has not."""
        found = (state_lacking(body.task, self._context.features, there) for body in leader.threads.values())
        return sorted({name for names in found for name in names})

    def captured(self, leader: Body) -> list[Thread]:
        """The threads for an image; until `resume` they stand as they do."""
        bodies, stood = list(leader.threads.values()), []
        with ExitStack() as sessions:
            for body in bodies:
                there = body.state in (State.WAITING, State.TIMED)
                regs = before_call(body) if there else user_regs(body.task.peek_regs(), Stop.TRAP)
                self._leaves(body, regs)
                stood.append((sessions.enter_context(Calls(body.task, base=copy_regs(regs))), regs))
            found = capture_threads(stood, pending=True)
        for body, thread in zip(bodies, found, strict=True):
            thread.waiting = body.leaving.was_waiting
            thread.carry, thread.seq, thread.seen = body.call.carry, body.call.seq, body.signals.seen
            thread.until, thread.used = body.call.until, body.own_used() or Used()
            thread.waiting_state = list(body.processor.waiting_state.items())
            thread.pending += [(False, info) for info in body.signals.infos]
        return found

    @staticmethod
    def _leaves(body: Body, regs: Registers) -> None:
        """Note with what `resume` lets it go on, before anything is done in it. ``regs``: before its call, or next instruction."""
        waits = body.state is State.WAITING and not body.call.both
        body.leaving.was_waiting, body.call.both = waits, False
        if not waits:
            body.call.regs = regs
        body.stopping.stood, body.state = False, State.LEAVING

    def resume(self, leader: Body) -> None:
        """RESUME: they go on here."""
        self.go_on(leader)
        for body in leader.threads.values():
            if body.state is not State.LEAVING:
                continue  # it was not captured: `go_on`
            if body.leaving.was_waiting:
                body.state = State.WAITING
                continue
            body.state = State.RUNNING
            regs = copy_regs(body.call.regs)
            regs.orig_rax = NOTHING
            if body.signals.infos:
                with Calls(body.task, base=regs) as call:
                    self._signals.queue(body, call)
            self._signals.put(body, regs)
            if body.stopping.halted:
                body.stopping.paused = True
            else:
                body.task.cont()


def repeatable(body: Body) -> bool:
    """Whether the call that the body waits in may be left to home, or made again: not a sigaction(2), which would tell the new
    action as the old, nor while a signal is on its way back (`Serve._signals_first`), which could be lost, nor one whose answer is
    that of another call in its stead (`mail.Mail.break_pipe`)."""
    if body.signals.returning:
        return False
    return body.call.nr != SYS_RT_SIGACTION if body.call.both else body.call.then is None


def first_ended(leader: Body) -> bool:
    """Whether the first thread has ended, and others have not."""
    return bool(leader.threads) and state_of(leader.pid) in ("Z", "X")
