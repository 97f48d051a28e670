"""Signals that are about to be delivered in a body: those that `signals` has queued, and its own faults, which go home."""

from __future__ import annotations

import signal
import struct

import msgspec

from mosfs.abi import cpu
from mosfs.guest.body import Body
from mosfs.guest.context import Context
from mosfs.guest.mail import Mails
from mosfs.guest.onward import Onward
from mosfs.guest.signals import UC_SIGMASK
from mosfs.migrate.rebuild import DEFAULT
from mosfs.migrate.suits import unsuited_instruction
from mosfs.trace.proc import status_sets
from mosfs.trace.task import CONT, NOTHING, SINGLESTEP
from mosfs.wire.frames import Kind
from mosfs.wire.orders import OutOrder

SIGTRAP = 5
#: So often a body asks to go where an instruction is not illegal.
MOST_ESCAPES = 20
#: Of these the ones that may mean that an instruction is refused on this processor.
_REFUSED = frozenset({signal.SIGILL, signal.SIGSEGV})
#: Signals that arise where the program computes: ILL TRAP BUS FPE SEGV SYS
_FAULTS = frozenset({4, 5, 7, 8, 11, 31})


class Faults:
    def __init__(self, context: Context, mails: Mails, onward: Onward) -> None:
        self._context = context
        self._mails = mails
        self._onward = onward

    def stop(self, body: Body, sig: int) -> None:
        """A signal is about to be delivered in the body."""
        if body.signals.restart is not None:
            self._restart(body, body.signals.restart, sig)
            return
        if sig == SIGTRAP and body.signals.saved_mask is not None:
            regs = body.task.peek_regs()
            body.task.write(regs.rdx + UC_SIGMASK, body.signals.saved_mask.to_bytes(8, "little"))
            body.signals.saved_mask = None
            body.task.cont()
            return
        if sig in _REFUSED and self._elsewhere(body, sig):
            return
        sets = status_sets(body.pid)
        if sets["SigCgt"] >> (sig - 1) & 1:
            self._handler_called(body, sig)
            body.task.cont(sig)
            return
        if sig in _FAULTS and not sets["SigIgn"] >> (sig - 1) & 1:
            # its own fault, and no handler (the kernel lets nobody ignore or block one): the program dies of it at home
            # (DROP follows), or comes home first to leave a core file (RECALL)
            body.stopping.paused, info = True, body.task.peek_siginfo()
            self._mails.when_flushed(body, lambda: self._context.channel.send(Kind.DIED, body.pair, info))
            self._onward.faulted(body)
            return
        body.task.cont()  # nothing of this node may act on the program

    def _restart(self, body: Body, restart: tuple[int, int], sig: int) -> None:
        """The handler that `Signals.interrupted` has queued begins; behind it the kernel decides about the broken call."""
        if body.own.several and not status_sets(body.pid)["SigCgt"] >> (sig - 1) & 1:
            body.task.cont()  # another thread has taken the handler away: the call is made again (`Signals.undelivered`)
            return
        regs = body.task.peek_regs()
        body.signals.restart = None
        regs.orig_rax, regs.rax = restart[0], restart[1] & NOTHING
        body.task.set_regs(regs)
        self._handler_called(body, sig)
        if body.stopping.wanted is not None or body.signals.infos:
            body.stopping.interrupting = True
            body.task.interrupt()
        # with a temporary mask in force one step more is needed: into the handler, to correct what its frame restores
        body.task.cont(sig, CONT if body.signals.saved_mask is None else SINGLESTEP)

    def _elsewhere(self, body: Body, sig: int) -> bool:
        """An instruction is refused here that the program may have seen elsewhere: there it shall be made again. Home decides."""
        if body.processor.escapes >= MOST_ESCAPES:
            return False
        features = self._context.features
        lacking = cpu.missing(cpu.parse(body.processor.features).flags, features)
        unsuited = unsuited_instruction(body.task, sig, lacking, features)
        if unsuited is None:
            return False
        body.processor.escapes += 1
        body.processor.faulted = body.stopping.paused = True
        order = OutOrder("", 0, cpu.lacks(unsuited.needs, self._context.config.ip), *unsuited)
        self._context.channel.send(Kind.STEP_OUT, body.pair, msgspec.msgpack.encode(order))
        return True

    def stays(self, body: Body) -> None:
        """It cannot leave just now. It makes the instruction again, and so asks again; in the end the signal is the program's."""
        body.processor.faulted = False
        if body.stopping.paused and not body.stopping.halted:
            body.stopping.paused = False
            body.task.cont()

    def _handler_called(self, body: Body, sig: int) -> None:
        """SA_RESETHAND: the kernel resets the handler here; home must do the same."""
        if sig in body.signals.oneshot:
            body.signals.oneshot.discard(sig)
            if body.signals.actions is not None and sig in body.signals.actions:
                body.signals.actions[sig] = DEFAULT + body.signals.actions[sig][8:]
            self._context.channel.send(Kind.RESET, body.pair, struct.pack("<i", sig))
