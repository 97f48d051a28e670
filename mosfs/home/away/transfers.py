"""Transfers at home that our stop cut short: the rest is made before the program hears a result (`calls.partial`)."""

from __future__ import annotations

import errno

from mosfs.abi.flags import RESTARTS
from mosfs.calls import endless, partial
from mosfs.home.ports import Tree
from mosfs.home.process.program import Program
from mosfs.migrate.capture import signed
from mosfs.native.registers import Registers
from mosfs.trace.task import NOTHING, SYSCALL, behind, copy_regs


class Transfers:
    def __init__(self, tracer: Tree) -> None:
        self.tracer = tracer

    def continue_later(self, p: Program, *, again: bool = False) -> None:
        """At the stop that we asked for (``again``: just before it): a transfer that it cuts short is set up to go on."""
        p.interrupted = again
        regs = p.task.peek_regs()
        nr, result = signed(regs.orig_rax), signed(regs.rax)
        if nr in endless.CALLS:
            regs.rax = endless.complete(p.task, nr, regs, result) & NOTHING
            p.task.set_regs(regs)
        elif partial.cut_short(p.task, nr, regs, result):
            before = copy_regs(regs)
            before.rip -= 2
            before.rax, before.orig_rax = nr, NOTHING
            rest, p.call.carry = partial.remainder(p.task, nr, before, result, p.call.carry)
            self.tracer.waits.cut(p, nr, before, rest)
            p.task.set_regs(rest)

    def end(self, p: Program, nr: int, regs: Registers) -> None:
        """``regs``, behind the last part of the transfer ``nr`` that we cut short: now they tell of all of it."""
        assert p.call.carry is not None
        regs.rax = partial.total(p.task, nr, signed(regs.rax), p.call.carry) & NOTHING
        partial.put_back(regs, p.call.carry)
        p.call.carry = None

    def ended_by_signal(self, p: Program, regs: Registers) -> None:
        """A signal comes in the middle of a transfer that we cut short, or before its next part."""
        made = signed(regs.orig_rax) >= 0
        nr = signed(regs.orig_rax if made else regs.rax)
        if p.call.carry is None or not partial.concerns(p.call.carry, nr, regs):
            return
        if not made:
            regs = behind(regs, 0)
        elif signed(regs.rax) not in RESTARTS:
            return
        regs.orig_rax = NOTHING
        self.end(p, nr, regs)
        p.task.set_regs(regs)

    def at_syscall(self, p: Program) -> None:
        """Entry or exit of the rest of a transfer, the end of a call about CPU time, or of one that is told."""
        if p.reports.call is not None:
            self.tracer.traces.returned(p, signed(p.task.peek_regs().rax), "home")
        if p.call.watched:
            self.tracer.cputime.complete(p, p.task.peek_regs())
        if (p.call.wait is not None and self.tracer.waits.at_syscall(p)) or p.call.carry is None:
            self.tracer.stops.go_on(p)
            return
        regs = p.task.peek_regs()
        nr, result = signed(regs.orig_rax), signed(regs.rax)
        if result == -errno.ENOSYS or not partial.concerns(p.call.carry, nr, regs):
            p.task.cont(request=SYSCALL)  # the entry, or a handler's call
        elif result in RESTARTS and not self.tracer.waits.signal_pending(p):
            p.task.cont(request=SYSCALL)
        elif (p.interrupted or not self.tracer.waits.signal_pending(p)) and partial.cut_short(p.task, nr, regs, result):
            self.continue_later(p, again=True)
            p.task.cont(request=SYSCALL)
        else:
            self.end(p, nr, regs)
            p.task.set_regs(regs)
            p.task.cont()
