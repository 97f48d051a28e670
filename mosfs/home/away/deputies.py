"""What happens to deputies: their calls end, signals come for their programs, and in a moment of rest they are parked."""

from __future__ import annotations

import errno
import time

from mosfs.abi.flags import ERESTARTNOINTR
from mosfs.calls import cputimers
from mosfs.calls.request import pack_reply
from mosfs.calls.stored import store
from mosfs.home.away.hosts import is_lost
from mosfs.home.away.waits import ineffective
from mosfs.home.ports import StillRuns, Tree
from mosfs.home.process.deputy import PARK_AFTER, Deputy, State, interrupted
from mosfs.home.process.move import Phase
from mosfs.home.process.program import Program
from mosfs.migrate.capture import signed
from mosfs.migrate.rebuild import queue_signal
from mosfs.native.registers import Registers
from mosfs.trace import layout
from mosfs.trace.inject import Calls
from mosfs.trace.proc import state_of, status_sets
from mosfs.trace.stops import USES_UP, Status, Stop
from mosfs.trace.task import NOTHING, TaskGone, copy_regs
from mosfs.wire.frames import Kind


class Deputies:
    def __init__(self, tracer: Tree) -> None:
        self.tracer = tracer
        self._ready: dict[int, Program] = {}

    # ------------------------------------------------------------------ events

    def event(self, p: Program, deputy: Deputy, status: Status) -> None:
        """A deputy has stopped."""
        stop = status.stop
        if deputy.interrupting and stop in USES_UP and stop is not Stop.SECCOMP:
            p.task.interrupt()
        if stop is Stop.SECCOMP:
            regs = p.task.peek_regs()
            if regs.orig_rax != layout.MAGIC:
                p.task.cont()  # cannot happen: the stub's calls are allowed
            elif deputy.state is State.BUSY:
                self.landed(p, deputy, signed(regs.rdi))
            else:
                self._became_ready(p, deputy)
        elif stop is Stop.SIGNAL:
            self._signal(p, deputy, status.value)
        elif stop is Stop.TRAP:
            continued = p.halted
            self._trap(p, deputy)
            if continued:
                self.tracer.preemption.over(p)
        elif stop is Stop.GROUP:
            p.halted = True
            p.task.listen()
            if deputy.interrupting:  # what it was asked to stop for, asleep at home, cannot be done before SIGCONT
                self.tracer.checkpoints.halted(p)
                self.tracer.departure.halted(p)
            self.tracer.hosts.send(p, Kind.STOP, b"")
        elif stop in (Stop.FORK, Stop.VFORK, Stop.CLONE):
            self.tracer.births.forked(p, deputy)
        elif stop is Stop.EXEC:
            p.deputy = None
            self.tracer.family.exec_done(p)
        elif stop is not Stop.SYSCALL or not deputy.hastened(entered=True):
            p.task.cont()

    def _trap(self, p: Program, deputy: Deputy) -> None:
        continued, p.halted = p.halted, False
        if continued:  # SIGCONT: this is also the stop that was asked for before
            self.tracer.hosts.send(p, Kind.CONT, b"")
        if deputy.state is State.BUSY and deputy.hastened(entered=False):
            return
        if deputy.state is State.PARKED and (deputy.interrupting or deputy.waiting):
            self._became_ready(p, deputy)
        elif deputy.interrupting and self.tracer.checkpoints.stopped_sleeping(p):
            pass
        elif deputy.interrupting and p.body.sleeping is not None and p.move is not None and p.move.phase is Phase.STOPPING:
            self.tracer.departure.stopped_sleeping(p, deputy)
        else:
            deputy.interrupting = False
            if not continued and deputy.flight is not None:
                self.tracer.waits.undisturbed(p, deputy, deputy.flight)
            p.task.cont()

    def _became_ready(self, p: Program, deputy: Deputy) -> None:
        deputy.became_ready()
        if deputy.state is State.READY:
            self.watch(p)

    def landed(self, p: Program, deputy: Deputy, result: int) -> None:
        """The deputy's call has returned."""
        if deputy.flight is None:  # a newborn deputy reaches the end of its parent's clone
            self._became_ready(p, deputy)
            return
        found = deputy.result_of_flight(result)
        if found is None:
            if deputy.interrupting:
                p.task.interrupt()
            return
        assert deputy.flight is not None
        result = self.tracer.waits.landed(deputy.flight, found)
        flight, outs = deputy.finish(result)
        self.tracer.traces.returned(p, result, "home")
        outs = self.tracer.cputime.outs(p, flight.request, result, outs)
        if cputimers.concerns(flight.request.nr, flight.request.args):
            self.tracer.cputimers.made(p, deputy, flight.request.nr, flight.request.args)
        deputy.state = State.READY
        deputy.interrupting = False
        if p.body.sleeping is not None:
            self._woke(p, deputy, result, outs)
            return
        self.tracer.mails.changed(p, flight.request.nr)
        if flight.done is not None:
            flight.done(result)
        else:
            self.tracer.hosts.send(p, Kind.REPLY, pack_reply(result, outs))
        deputy.ready_since = time.monotonic()
        if deputy.waiting:
            deputy.became_ready()
        if deputy.state is State.READY:
            self.watch(p)

    def _woke(self, p: Program, deputy: Deputy, result: int, outs: list[tuple[int, bytes]]) -> None:
        """A sleep that began away ends at home."""
        assert p.body.sleeping is not None
        regs = copy_regs(p.body.sleeping)
        p.body.sleeping, p.deputy = None, None
        if not store(p.task, signed(regs.rax), regs, outs) and not interrupted(result):
            result = -errno.EFAULT
        if p.body.infos:
            with Calls(p.task, base=deputy.base, mask=deputy.mask) as call:
                for info in p.body.infos:
                    queue_signal(call, info, shared=not p.several)
            p.body.infos.clear()
            result = -4 if result in (-516, -514) else result
        regs.rip += 2
        regs.rax = result & NOTHING
        regs.rcx, regs.r11, regs.orig_rax = regs.rip, regs.eflags, NOTHING
        p.task.set_regs(regs)
        p.task.cont()

    def _signal(self, p: Program, deputy: Deputy, sig: int) -> None:
        """A signal for the program. Handlers run in the body; every other action is taken here, by the kernel."""
        if self.tracer.preemption.holds(p, sig):
            p.task.cont()
            self.tracer.preemption.begin(p)
            return
        regs = p.task.peek_regs()
        sets = status_sets(p.pid)
        if not sets["SigCgt"] >> (sig - 1) & 1:
            cores = self.tracer.cores
            if cores.wanted(p, sig) and cores.by_default(p.pid, sig):
                cores.come_home(p, p.task.peek_siginfo())
                self._broken_off(p, deputy, regs)
                return
            if self.tracer.waits.suppress_eintr(p, regs, sig) and deputy.flight is not None:
                deputy.flight.spared = True
            # another thread's handler may be set before this one meets its signal, and a deputy has nothing to run a handler with
            p.task.cont(0 if ineffective(sets) >> (sig - 1) & 1 else sig)
            return
        info = p.task.peek_siginfo()
        if p.body.sleeping is not None:
            p.body.infos.append(info)
        elif not is_lost(info, self.tracer.hosts.waiting(p)):
            p.body.signals += 1
            self.tracer.hosts.send(p, Kind.SIGNAL, info)
        self._broken_off(p, deputy, regs)

    def _broken_off(self, p: Program, deputy: Deputy, regs: Registers) -> None:
        """A signal that is not the kernel's to act on here has ended whatever the deputy did."""
        if deputy.state is State.BUSY:
            # without a restart the interrupted call's result falls through to the end of the stub
            regs.orig_rax = NOTHING
            entering = regs.rip == layout.STUB
            if entering and deputy.executes:  # not made: the handler that is to run first would be gone
                entering = False
                regs.rip, regs.rax = layout.STUB_AFTER, -ERESTARTNOINTR & NOTHING
            p.task.set_regs(regs)
            if not entering or not deputy.hasten():
                p.task.cont()
        else:
            self._became_ready(p, deputy)

    # ------------------------------------------------------------------ parking, the last

    def next_park(self) -> float | None:
        """When one is to be parked, or gives up more of its memory, of those that C does not park; None: there is none."""
        armed = self.tracer.lanes.armed
        ready = (p.deputy for p in self._ready.values() if p.deputy is not None and p.pid not in armed)
        return min((0.0 if deputy.remains else deputy.ready_since + PARK_AFTER for deputy in ready), default=None)

    def park_idle(self, now: float) -> None:
        for p in list(self._ready.values()):
            deputy = p.deputy
            if deputy is None or deputy.state is not State.READY or p.pid not in self.tracer.programs:
                self._ready.pop(p.pid, None)
            elif deputy.remains and not self.tracer.departure.deliverable(p):
                with self.tracer.containment.of(p):
                    deputy.give_up(1)
            elif deputy.remains or deputy.ready_since + PARK_AFTER <= now:
                self._ready.pop(p.pid, None)
                with self.tracer.containment.of(p):
                    if not self.tracer.threads.replaced(p):
                        deputy.park()

    def watch(self, p: Program) -> None:
        """A deputy has become READY outside an event of its own."""
        self._ready[p.pid] = p

    def last_words(self, p: Program, deputy: Deputy, message: str) -> None:
        """Stop the deputy for a last line on the program's standard error."""
        if deputy.state not in (State.READY, State.HELD):
            p.task.interrupt()
            try:
                status = self.tracer.controls.wait_for(p)
            except StillRuns:
                self.tracer.mosd.log(f"pid={p.pid} does not stop for its last line ({deputy.state.name}, {state_of(p.pid)})", 30)
                self.tracer.policy.say_beside(p, message)
                return
            if status & 0x7F != 0x7F:
                raise TaskGone(p.pid, status)
            deputy.state = State.READY
        self.tracer.policy.say(p, message)
