"""Calls about signals: the body's kernel serves them, and home hears what it must know."""

from __future__ import annotations

import struct

from mosfs.abi.numbers import SYS_GETPID
from mosfs.abi.signals import SA_RESETHAND, SIGKILL, SIGSTOP
from mosfs.calls.request import Request
from mosfs.guest.body import Body
from mosfs.guest.context import Context
from mosfs.guest.forwarding import Forwarding
from mosfs.guest.signals import KILL_STOP, UC_SIGMASK
from mosfs.migrate.capture import ACTION_SIZE
from mosfs.migrate.image import ImageMeta
from mosfs.migrate.rebuild import DEFAULT, actions_of, discards
from mosfs.trace.task import ALL_SIGNALS
from mosfs.wire.frames import Kind

#: SA_NOCLDSTOP, NOCLDWAIT, SIGINFO, RESTORER, ONSTACK, RESTART, NODEFER, RESETHAND: what kernels from 5.10 on have in common.
FLAGS = 1 | 2 | 4 | 0x04000000 | 0x08000000 | 0x10000000 | 0x40000000 | SA_RESETHAND
#: glibc and musl cancel threads by them, and set IDs (signal(7)).
OF_LIBC = 7 << 31
#: The last signal.
LAST = 64
#: Home is told so often before it is asked, so that a program cannot be ahead of it by more.
MOST_UNHEARD = 64


class Masks:
    def __init__(self, context: Context, forwarding: Forwarding) -> None:
        self._context = context
        self._forwarding = forwarding

    def sigprocmask(self, body: Body, args: tuple[int, ...]) -> None:
        """The body's kernel changes the mask. Home must know: at once if something is unblocked that it blocks, since it may be
        pending there; and mostly not what a thread blocks for a moment (`untold`)."""
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
        several, told, untold = body.own.several and not body.outlives, body.signals.told_mask, self._forwarding.untold
        if old & ~new and (told & ~new or not several):
            body.call.both = True
            self._forwarding.forward(body, Request(SYS_GETPID, (0,) * 6, new))
            return
        if several and new != told and is_momentary(new):
            untold.note(body, new)
        elif new != (told if several else old):
            untold.tell(body, new)
        else:
            untold.told(body, told)
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
            if self._forwarding.untold:
                self._forwarding.untold.changed(body, new)
            body.task.cont()

    def sigaction(self, body: Body, args: tuple[int, ...]) -> bool:
        """Whether the body's kernel makes it alone, because home knows the outcome or is told of it; else home makes it first."""
        sig, at, size, known = args[0] & 0xFFFFFFFF, args[1], args[3], body.signals.actions
        try:
            given = body.task.read(at, ACTION_SIZE) if at else None
        except OSError:
            return False  # home says EFAULT
        if given is not None:
            (body.signals.oneshot.add if is_oneshot(given) else body.signals.oneshot.discard)(sig)
        if known is None:
            return False
        if size != 8 or not 1 <= sig <= LAST or sig in (SIGKILL, SIGSTOP):
            return True  # which of these is wrong, any kernel knows
        if given is None:
            return sig in known
        heard = body.signals.unheard < MOST_UNHEARD and body.mail is None and body.private.store is None
        if not (heard and same_everywhere(given)):
            before = known.pop(sig, b"")
            if before and not discards(sig, before):
                self._tell(body, sig, before)  # so that it can say all of what was before
            return False
        before, known[sig] = known.get(sig, b""), given
        if discards(sig, given):
            if before != given or body.task.peek_mask() >> (sig - 1) & 1:
                self._tell(body, sig, given)
        elif before != given and not before[:8] == given[:8] == DEFAULT:
            self._tell(body, sig, given)
        return True

    def _tell(self, body: Body, sig: int, action: bytes) -> None:
        """What home has not been told yet: what is done at ``sig``."""
        body.signals.unheard += 1
        self._context.channel.send(Kind.ACTION, body.pair, struct.pack("<i", sig) + action)


def is_momentary(mask: int) -> bool:
    """Whether libc blocks that around the birth of a thread and at its end: all but the signals that it keeps for itself."""
    return mask | OF_LIBC | KILL_STOP == ALL_SIGNALS


def is_oneshot(action: bytes) -> bool:
    return bool(int.from_bytes(action[8:16], "little") & SA_RESETHAND)


def same_everywhere(action: bytes) -> bool:
    """Whether every kernel stores the flags of ``action`` as they are: some keep unknown ones, others do not (sigaction(2))."""
    return not int.from_bytes(action[8:16], "little") & ~FLAGS


def known_actions(meta: ImageMeta) -> dict[int, bytes] | None:
    """`Signalled.actions` of a program that comes with this image."""
    if not meta.all_actions:
        return None
    told = {**dict.fromkeys(range(1, LAST + 1), bytes(ACTION_SIZE)), **actions_of(meta)}
    return {sig: action for sig, action in told.items() if same_everywhere(action)}
