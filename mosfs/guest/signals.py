"""Signals of a body: those with a handler come from home and are queued, faults go there (`docs/design/migration.md`, Signals)."""

from __future__ import annotations

import errno
import signal
import struct
from typing import TYPE_CHECKING

import msgspec

from mosfs.abi import cpu
from mosfs.guest.body import Body, State
from mosfs.guest.serve import UC_SIGMASK
from mosfs.migrate.capture import RESTARTS, user_regs
from mosfs.migrate.rebuild import queue_signal
from mosfs.migrate.suits import illegal_instruction
from mosfs.trace.inject import Calls
from mosfs.trace.stops import Stop
from mosfs.trace.task import CONT, NOTHING, SINGLESTEP, copy_regs, status_sets
from mosfs.wire.frames import Kind
from mosfs.wire.orders import OutOrder

if TYPE_CHECKING:
    from mosfs.guest.host import Host

SIGTRAP = 5
#: So often a body asks to go where an instruction is not illegal.
MOST_ESCAPES = 20
#: Signals that arise where the program computes: ILL TRAP BUS FPE SEGV SYS
_FAULTS = frozenset({4, 5, 7, 8, 11, 31})


class Signals:
    def __init__(self, host: Host) -> None:
        self.host = host

    def came(self, body: Body, info: bytes) -> None:
        """A signal for a handler: queue it in the body, whose own kernel calls the handler."""
        body.infos.append(info)
        body.seen += 1
        body.deputy_cpu = -1
        if body.state is State.RUNNING and not body.interrupting and not body.paused:
            body.interrupting = True
            body.task.interrupt()
        elif body.paused:
            self.deliver(body, Stop.TRAP)
        elif body.state is State.POST:
            self.host.mails.signalled(body)

    def deliver(self, body: Body, stop: Stop) -> None:
        """Precondition: the body is stopped while RUNNING. Its registers are as before afterwards, its signals queued."""
        regs = user_regs(body.task.peek_regs(), stop)
        with Calls(body.task) as call:
            self.queue(body, call)
        body.task.set_regs(regs)

    def queue(self, body: Body, call: Calls) -> None:
        for info in body.infos:
            queue_signal(call, info, shared=True)
        body.infos.clear()

    def stop(self, body: Body, sig: int) -> None:
        """A signal is about to be delivered in the body."""
        regs = body.task.peek_regs()
        if body.restart is not None:
            number, result = body.restart
            body.restart = None
            regs.orig_rax, regs.rax = number, result & NOTHING
            body.task.set_regs(regs)
            self._handler_called(body, sig)
            if body.wanted is not None or body.infos:
                body.interrupting = True
                body.task.interrupt()
            # with a temporary mask in force one step more is needed: into the handler, to correct what its frame restores
            body.task.cont(sig, CONT if body.saved_mask is None else SINGLESTEP)
            return
        if sig == SIGTRAP and body.saved_mask is not None:
            body.task.write(regs.rdx + UC_SIGMASK, body.saved_mask.to_bytes(8, "little"))
            body.saved_mask = None
            body.task.cont()
            return
        if sig == signal.SIGILL and self._elsewhere(body):
            return
        sets = status_sets(body.pid)
        if sets["SigCgt"] >> (sig - 1) & 1:
            self._handler_called(body, sig)
            body.task.cont(sig)
            return
        if sig in _FAULTS and not sets["SigIgn"] >> (sig - 1) & 1:
            # its own fault, and no handler (the kernel lets nobody ignore or block one): the program dies of it at home
            # (DROP follows), or comes home first to leave a core file (RECALL)
            body.paused, info = True, body.task.peek_siginfo()
            self.host.mails.when_settled(body, lambda: self.host.channel.send(Kind.DIED, body.pair, info))
            self.host.onward.faulted(body)
            return
        body.task.cont()  # nothing of this node may act on the program

    def _elsewhere(self, body: Body) -> bool:
        """An instruction is illegal here that the program may have seen elsewhere: there it shall be made again. Home decides."""
        lacking = cpu.missing(cpu.parse(body.features).flags, self.host.features)
        needs = illegal_instruction(body.task, lacking) if lacking and body.escapes < MOST_ESCAPES else []
        if needs:
            body.escapes += 1
            body.faulted = body.paused = True
            order = OutOrder("", why=cpu.lacks(needs, self.host.config.ip), needs=needs)
            self.host.channel.send(Kind.STEP_OUT, body.pair, msgspec.msgpack.encode(order))
        return bool(needs)

    def stays(self, body: Body) -> None:
        """It cannot leave just now. It makes the instruction again, and so asks again; in the end the signal is the program's."""
        body.faulted = False
        if body.paused and not body.held:
            body.paused = False
            body.task.cont()

    def _handler_called(self, body: Body, sig: int) -> None:
        """SA_RESETHAND: the kernel resets the handler here; home must do the same."""
        if sig in body.oneshot:
            body.oneshot.discard(sig)
            self.host.channel.send(Kind.RESET, body.pair, struct.pack("<i", sig))

    def interrupted(self, body: Body, result: int) -> None:
        """The deputy's call was broken off: by a signal whose handler is the body's, or by nothing that the program should see."""
        mask = body.task.peek_mask()
        temporary = self.host.serve.temporary_mask(body)
        effective = mask if temporary is None else temporary
        deliverable = any(not effective >> (int.from_bytes(i[:4], "little") - 1) & 1 for i in body.infos)
        if not deliverable:
            self.host.serve.again(body, result)
            return
        regs = body.regs
        regs.rax = result & NOTHING
        regs.orig_rax = NOTHING
        body.state = State.RUNNING
        body.restart = (body.nr, result if result in RESTARTS else -errno.EINTR)
        base = copy_regs(regs)
        with Calls(body.task, base=base, mask=effective) as call:
            self.queue(body, call)
        if temporary is not None:
            body.saved_mask = mask
        body.task.set_regs(regs)
        body.task.cont()
