"""Calls about signals: the body's kernel serves them, and home hears what it must know."""

from __future__ import annotations

import struct

from mosfs.abi.numbers import SYS_GETPID
from mosfs.abi.signals import SA_RESETHAND
from mosfs.calls.request import Request
from mosfs.guest.body import Body
from mosfs.guest.context import Context
from mosfs.guest.forwarding import Forwarding
from mosfs.guest.signals import KILL_STOP, UC_SIGMASK
from mosfs.wire.frames import Kind


class Masks:
    def __init__(self, context: Context, forwarding: Forwarding) -> None:
        self._context = context
        self._forwarding = forwarding

    def sigprocmask(self, body: Body, args: tuple[int, ...]) -> None:
        """The body's kernel changes the mask. Home must know: at once if something is unblocked, since it may be pending there."""
        how, at = args[0] & 0xFFFFFFFF, args[1]
        old = body.task.peek_mask()
        try:
            given = body.task.read_words(at, 1)[0] if at else None
        except OSError:
            given = None
        if given is None or args[3] != 8 or how > 2:
            body.task.cont()
            return
        new = (old | given, old & ~given, given)[how] & ~KILL_STOP
        if old & ~new:
            body.call.both = True
            self._forwarding.forward(body, Request(SYS_GETPID, (0,) * 6, new))
            return
        if new != old:
            body.signals.told_mask = new
            self._context.channel.send(Kind.MASK, body.pair, struct.pack("<Q", new))
        body.task.cont()

    def sigreturn(self, body: Body, args: tuple[int, ...]) -> None:
        """A handler ends. What home blocks because of calls that it made must be unblocked there, or it would stay pending."""
        try:
            new = body.task.read_words(body.call.regs.rsp + UC_SIGMASK, 1)[0] & ~KILL_STOP
        except OSError:
            new = body.signals.told_mask
        if body.signals.told_mask & ~new:
            body.call.both = True
            self._forwarding.forward(body, Request(SYS_GETPID, (0,) * 6, new))
        else:
            body.task.cont()

    def sigaction(self, body: Body, args: tuple[int, ...]) -> None:
        """Before it is made on both sides: the handler runs in the body, what is not handled is the deputy's business."""
        sig = args[0] & 0xFFFFFFFF
        try:
            flags = body.task.read_words(args[1] + 8, 1)[0] if args[1] else None
        except OSError:
            flags = None
        if flags is not None:
            (body.signals.oneshot.add if flags & SA_RESETHAND else body.signals.oneshot.discard)(sig)
