"""Stops of programs at home, and what becomes of them: each is handed to the part that it concerns, and the program goes on."""

from __future__ import annotations

import os
import time
from contextlib import suppress

from mosfs.abi.numbers import SYS_TIMER_SETTIME
from mosfs.abi.syscalls import BY_NR
from mosfs.calls import cputime
from mosfs.home.ports import Tree
from mosfs.home.process.control_calls import PATH_ARG
from mosfs.home.process.processor import AFFINITY
from mosfs.home.process.program import Program
from mosfs.home.process.registers import arguments, in_call
from mosfs.mbox.calls import CAUGHT
from mosfs.migrate.capture import signed
from mosfs.native import lib
from mosfs.native.registers import Registers
from mosfs.trace.stops import USES_UP, Status, Stop, decode
from mosfs.trace.task import CONT, NOTHING, SYSCALL, TaskGone, copy_regs
from mosfs.wire.faults import Serving, fault


class Stops:
    def __init__(self, tracer: Tree) -> None:
        self.tracer = tracer

    def task_event(self, pid: int, status: int) -> None:
        """A task has stopped or ended (waitpid(2)). Nothing is raised."""
        p = self.tracer.programs.get(pid)
        if p is None:
            self.tracer.checkpoints.event(pid, status)
            if not os.WIFSTOPPED(status):
                lib.mos_unknown(pid)
            return
        if p.deputy is not None:
            self.tracer.lanes.met(pid)
        try:
            self.handle(p, decode(status))
        except Exception as error:
            self.tracer.containment.trouble(p, error)
        if self.tracer.programs.get(pid) is p:
            lib.mos_plain(pid, p.plainness())

    def handle(self, p: Program, status: Status) -> None:
        stop = status.stop
        if p.post.mail is not None:
            self.tracer.mails.stopped(p, status)
        if p.interrupted and stop in USES_UP and stop is not Stop.SECCOMP and p.deputy is None:
            p.task.interrupt()
        if stop in (Stop.EXITED, Stop.KILLED):
            self.tracer.copying.brake.gone(p.pid)
            self.tracer.family.forget(p, status.value if stop is Stop.EXITED else -status.value)
        elif p.deputy is not None:
            self.tracer.deputies.event(p, p.deputy, status)
        elif stop is Stop.SECCOMP:
            self._trapped(p)
            self._ask_again(p)
        elif stop is Stop.SIGNAL:
            self._signal(p, status.value)
        elif stop is Stop.TRAP:
            self._interrupted(p)
        elif stop is Stop.SYSCALL:
            self.tracer.transfers.at_syscall(p)
        elif stop is Stop.GROUP:
            self._halted(p)
        elif stop in (Stop.FORK, Stop.VFORK, Stop.CLONE):
            self.tracer.family.forked(p, stop)
        elif stop is Stop.EXEC:
            self.tracer.family.exec_done(p)
            self._ask_again(p)
        else:
            p.task.cont()

    def _halted(self, p: Program) -> None:
        """A group stop. If it takes the place of a stop that we have asked for, that one comes after SIGCONT only."""
        p.halted = True
        p.task.listen()
        if p.interrupted:
            self.tracer.checkpoints.halted(p)
            self.tracer.departure.halted(p)

    def _ask_again(self, p: Program) -> None:
        """After a trapped call, or an exec, has been dealt with: calls that were injected for it would use our interrupt up."""
        if p.interrupted and p.deputy is None and self.tracer.programs.get(p.pid) is p:
            with suppress(TaskGone):  # its end follows
                p.task.interrupt()

    def _interrupted(self, p: Program) -> None:
        """It stands because we or others have asked it to (PTRACE_INTERRUPT, or the end of a group stop)."""
        p.halted = False
        if p.post.disinherits:
            self.tracer.mails.disinherit(p.task, p.post.disinherits)
            p.post.disinherits = []
        if p.private is not None and p.private.inherited is not None:
            self.tracer.private.born(p)
        if p.interrupted:
            self.tracer.transfers.continue_later(p)
            self.tracer.waits.stopped(p)
        if p.cpu.overdue:
            self.tracer.cputimers.stopped(p)
        slowed = self.tracer.copying.brake and self.tracer.copying.brake.stopped(
            p.pid, time.monotonic(), computing=not in_call(p.task.peek_regs())
        )
        if self.tracer.checkpoints.stopped(p, Stop.TRAP) or self.tracer.departure.stopped(p, Stop.TRAP):
            self.tracer.copying.brake.gone(p.pid)
        elif not slowed:
            self.go_on(p)

    def _signal(self, p: Program, sig: int) -> None:
        regs = p.task.peek_regs()
        self.tracer.departure.note_sleep(p, regs)
        if self.tracer.occasions.escapes(p, sig):
            return
        if self.tracer.waits.suppress_eintr(p, regs, sig):
            self.tracer.transfers.continue_later(p, again=p.interrupted)
        elif (p.call.carry is not None or p.call.wait is not None) and self.tracer.waits.is_effective(p, sig):
            self.tracer.waits.over(p)
            self.tracer.transfers.ended_by_signal(p, copy_regs(regs))
        held = self.tracer.preemption.holds(p, sig)
        p.task.cont(0 if held else sig, SYSCALL if p.call.carry is not None or p.call.wait is not None else CONT)
        if held:
            self.tracer.preemption.begin(p)

    def _trapped(self, p: Program) -> None:
        """A call that the filter sent to us."""
        regs = p.task.peek_regs()
        nr = signed(regs.orig_rax)
        if p.process.native:
            p.task.cont()
            return
        fault(Serving.HOME_CALL, None, p.comm)
        row = BY_NR.get(nr)
        if nr in AFFINITY:
            lib.mos_unpin(self.tracer.pump)
        self.tracer.traces.at_home(p, nr, arguments(regs))
        if self.tracer.filters.stopped(p, regs) or (nr in CAUGHT and self.tracer.mails.trapped(p, regs, nr)):
            return
        if p.private is not None and self.tracer.private.trapped(p, regs, nr):
            return
        if nr in cputime.CALLS:
            if nr in cputime.WAITS:
                lib.mos_reap()
            self.tracer.cputime.watch(p, nr, arguments(regs))
        elif nr in PATH_ARG:
            self.tracer.opens.trapped(p, regs, nr)
        elif nr == SYS_TIMER_SETTIME:
            self.tracer.cputimers.set_absolute(p, regs)
        elif row is None:
            self.tracer.policy.illegal(p, regs, nr)
        else:
            self.tracer.policy.trapped(p, row, regs)

    def serve(self, p: Program) -> None:
        """Let a trapped call be made."""
        p.task.cont(request=SYSCALL if p.reports.call is not None else CONT)

    def answer(self, p: Program, regs: Registers, result: int) -> None:
        """End a trapped call with ``result`` instead of making it."""
        self.tracer.traces.returned(p, result, "MOSIX")
        regs.orig_rax = NOTHING
        regs.rax = result & NOTHING
        p.task.set_regs(regs)
        p.task.cont()

    def make_with(self, p: Program, regs: Registers, name: str, value: int) -> None:
        """Make a trapped call with another value in the register ``name``, of which the program sees nothing."""
        before = getattr(regs, name)
        setattr(regs, name, value)
        p.task.set_regs(regs)
        p.task.cont(request=SYSCALL)
        status = p.task.wait()
        stop = decode(status)
        if stop.stop is Stop.SYSCALL:
            regs = p.task.peek_regs()
            setattr(regs, name, before)
            p.task.set_regs(regs)
            self.tracer.traces.returned(p, signed(regs.rax), "home")
            p.task.cont(request=CONT)
        else:
            self.task_event(p.pid, status)

    def resume(self, p: Program, sig: int = 0) -> None:
        """Let a program that was suspended at home go on."""
        p.suspended = False
        p.task.cont(sig)

    def go_on(self, p: Program) -> None:
        """Resume a program at home; the end of a call that we cut short is watched."""
        p.task.cont(request=SYSCALL if p.call.carry is not None or p.call.watched or p.call.wait is not None else CONT)
