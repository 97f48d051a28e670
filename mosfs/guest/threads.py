"""Bodies with several threads (docs/design/threads.md): each thread is a `Body` of its own, with its ID at home as ``pair``; the
first of them, the leader, stands for the process. All of them are built, leave and end together."""

from __future__ import annotations

from typing import Protocol

from mosfs.abi.numbers import SYS_RT_SIGACTION
from mosfs.calls import partial
from mosfs.calls.partial import Carry
from mosfs.guest.arriving import Made
from mosfs.guest.body import Body, Processor, State
from mosfs.guest.context import Context
from mosfs.guest.copying import before_call
from mosfs.guest.signals import Signals
from mosfs.migrate import rseq
from mosfs.migrate.capture import capture_thread, signed, user_regs
from mosfs.migrate.image import ImageMeta, Thread
from mosfs.migrate.suits import state_lacking
from mosfs.trace.inject import Calls
from mosfs.trace.proc import state_of
from mosfs.trace.stops import Status, Stop, decode
from mosfs.trace.task import NOTHING, TaskGone, copy_regs


class Handles(Protocol):
    """Who deals with a stop of a body."""

    def handle(self, body: Body, status: Status) -> Body | None: ...


class Threads:
    """``stops``: who deals with what threads meet before they stand."""

    def __init__(self, context: Context, signals: Signals) -> None:
        self._context = context
        self._signals = signals
        self.stops: Handles | None = None

    # ------------------------------------------------------------------ built

    def join(self, leader: Body, made: list[Made], meta: ImageMeta) -> None:
        """Bodies for the threads that have come with the first one."""
        leader.own.several = True
        for slot, (thread, (task, regs, waiting_state)) in enumerate(zip(meta.threads, made, strict=True), 1):
            body = Body(thread.tid, task, State.COMPLETE, comm=thread.comm, since=leader.since, leader=leader)
            body.account, body.paid = leader.account, leader.paid
            body.memory, body.settings, body.own.several, body.own.slot = leader.memory, leader.settings, True, slot
            body.processor = Processor(leader.processor.features, leader.processor.needs, waiting_state)
            body.signals.oneshot, body.signals.actions = leader.signals.oneshot, leader.signals.actions
            body.call.seq, body.signals.seen, body.call.regs, body.own.came = thread.seq, thread.seen, regs, thread
            body.call.carry = Carry(*thread.carry) if thread.carry is not None else None
            body.call.until = thread.until
            partial.restore(task, signed(regs.rax), body.call.carry)
            leader.threads[body.pair] = self._context.bodies[body.pair] = self._context.by_pid[body.pid] = body

    # ------------------------------------------------------------------ leaving

    def stand(self, leader: Body) -> bool:
        """Stop the other threads of a process whose first one stands, where they can be captured. False: let them go on, and try
        again later; none of them stands then."""
        while True:
            running = [body for body in leader.threads.values() if not body.stopping.stood]
            if not running:
                return True
            for body in running:
                try:
                    stands = self._stops(body)
                except TaskGone:
                    stands = self._context.bodies.get(body.pair) is not body
                if not stands:
                    self.go_on(leader)
                    return False

    def _stops(self, body: Body) -> bool:
        """Whether it stands now, or is no more."""
        while body.state is State.RUNNING or body.state is State.TIMED:
            if not body.stopping.paused:
                if not body.stopping.interrupting:
                    body.stopping.interrupting = True
                    body.task.interrupt()
                status = decode(body.task.wait())
                if status.stop is not Stop.TRAP:
                    assert self.stops is not None
                    self.stops.handle(body, status)
                    if self._context.bodies.get(body.pair) is not body:
                        return True
                    continue
                body.stopping.interrupting = False
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
        body.stopping.stood = self._leaves_waiting(body)
        return body.stopping.stood

    @staticmethod
    def _leaves_waiting(body: Body) -> bool:
        if body.state is not State.WAITING or body.call.mapping is not None:
            return False
        return not (body.call.both and body.call.nr == SYS_RT_SIGACTION)

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
        found = []
        for body in leader.threads.values():
            body.stopping.stood = False
            waits = body.state is State.WAITING
            both, body.call.both = body.call.both, False
            timed = body.state is State.TIMED
            regs = before_call(body) if waits or timed else user_regs(body.task.peek_regs(), Stop.TRAP)
            with Calls(body.task, base=copy_regs(regs)) as call:
                thread = capture_thread(call, regs, pending=True)
            thread.waiting = body.leaving.was_waiting = waits and not both
            if not body.leaving.was_waiting:
                body.call.regs = regs
            thread.carry, thread.seq, thread.seen = body.call.carry, body.call.seq, body.signals.seen
            thread.until = body.call.until
            thread.waiting_state = list(body.processor.waiting_state.items())
            thread.pending += [(False, info) for info in body.signals.infos]
            body.state = State.LEAVING
            found.append(thread)
        return found

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
            body.task.set_regs(regs)
            if body.stopping.halted:
                body.stopping.paused = True
            else:
                body.task.cont()


def first_ended(leader: Body) -> bool:
    """Whether the first thread has ended, and others have not."""
    return bool(leader.threads) and state_of(leader.pid) in ("Z", "X")
