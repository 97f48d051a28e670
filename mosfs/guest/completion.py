"""The outcome of a call: what home answers, or what was served here, becomes the result that the body goes on with."""

from __future__ import annotations

import errno
import struct

from mosfs.abi.flags import RESTARTS
from mosfs.abi.numbers import SYS_CLOCK_GETTIME
from mosfs.calls import partial
from mosfs.calls.request import VALUE, BadRequest, unpack_reply
from mosfs.calls.stored import store
from mosfs.guest import in_body
from mosfs.guest.body import Body, State
from mosfs.guest.clocks import Clocks, told_by_home
from mosfs.guest.copying import before_call
from mosfs.guest.ports import Serving
from mosfs.guest.private import Private
from mosfs.guest.signals import Signals
from mosfs.native.registers import Registers
from mosfs.trace.inject import Calls
from mosfs.trace.task import NOTHING
from mosfs.wire.channel import ChannelLost


class Completion:
    def __init__(self, signals: Signals, private: Private, serving: Serving, clocks: Clocks) -> None:
        self._signals = signals
        self._clocks = clocks
        self._private = private
        self._serving = serving

    def reply(self, body: Body, payload: bytes, seq: int) -> None:
        """REPLY: the call that the body waits in has an outcome. One to an earlier call, made again since, is stale."""
        if body.state not in (State.WAITING, State.EXECING) or seq != body.call.seq:
            return
        if body.mail is not None:
            body.mail.committed = True
        body.account.received += len(payload)
        if body.signals.returning:
            body.signals.returning = body.call.both = False
            self.make_anew(body)
            return
        try:
            result, flags, outs = unpack_reply(payload)
        except (struct.error, BadRequest) as error:
            raise ChannelLost(str(error)) from error
        if not store(body.task, body.call.nr, body.call.regs, outs):
            result = -errno.EFAULT
        if self._is_part(body, result):
            return
        if body.call.nr == SYS_CLOCK_GETTIME and outs:
            told_by_home(body, outs[0][1])
        then, body.call.then = body.call.then, None
        if then is not None:
            made = then(result)
            if made is None:  # more is asked
                return
            result = made
        self.finish(body, result, value=bool(flags & VALUE))

    def _is_part(self, body: Body, result: int) -> bool:
        """Home's answer is that to a part of the call; True when the rest is under way."""
        if not partial.limited(body.task, body.call.nr, body.call.regs, result):
            return False
        body.call.regs, body.call.carry = partial.remainder(body.task, body.call.nr, body.call.regs, result, body.call.carry)
        self._serving.again(body, 0)
        return True

    def finish(self, body: Body, result: int, *, value: bool = False) -> None:
        """Let the body go on behind its call. ``value``: the result never asks for the call to be made again."""
        if body.private.store is not None:
            self._private.replied(body, result)
        if body.times.deadline is not None:
            self._clocks.over(body, result)
        signalled, carried = bool(body.signals.infos), body.call.carry is not None
        broken = (result in RESTARTS and not (carried and signalled)) or (result == -errno.EINTR and signalled)
        if broken and not value:
            body.call.both = False  # should it be made again, that is decided again
            self._signals.interrupted(body, result)
            return
        both, body.call.both = body.call.both, False
        if both and result >= 0:
            second = in_body.second(body, result)
            if second is None:
                return
            result = second
        body.state = State.RUNNING
        regs = body.call.regs
        if body.call.carry is not None and partial.concerns(body.call.carry, body.call.nr, regs):
            result = partial.total(body.task, body.call.nr, result, body.call.carry)
            partial.put_back(regs, body.call.carry)
            body.call.carry = None
        regs.rax, regs.orig_rax = result & NOTHING, NOTHING
        self._go_on(body, regs)

    def make_anew(self, body: Body) -> None:
        """The body stands no more where its call would be made, since others were injected: it comes to it once more."""
        body.state = State.RUNNING
        self._go_on(body, before_call(body))

    def _go_on(self, body: Body, regs: Registers) -> None:
        if body.signals.infos:
            with Calls(body.task, base=regs) as call:
                self._signals.queue(body, call)
        body.task.set_regs(regs)
        if body.stopping.halted:
            body.stopping.paused = True
        else:
            body.task.cont()
