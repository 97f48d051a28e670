"""Waits of threads for each other that end at a time: futex(2) with a timeout (the body's own kernel serves all others unseen).

The body makes such a call in its stub, as a deputy makes its calls. So the program's registers stay as they are while the time is
another there: home's clocks need not be this node's, and a wait of so long becomes a wait until then, which a move does not begin
anew (`Call.until`).
"""

from __future__ import annotations

import errno
import struct

from mosfs.abi.flags import (
    FUTEX_CLOCK_REALTIME,
    FUTEX_COMMAND,
    FUTEX_LOCK_PI,
    FUTEX_PRIVATE_FLAG,
    FUTEX_WAIT,
    FUTEX_WAIT_BITSET,
    FUTEX_WAITS,
    RESTARTS,
)
from mosfs.abi.numbers import SYS_FUTEX, SYS_RESTART_SYSCALL
from mosfs.guest.body import Body, State
from mosfs.guest.completion import Completion
from mosfs.guest.context import Context
from mosfs.migrate.capture import signed
from mosfs.native import lib
from mosfs.trace import layout
from mosfs.trace.task import check, unfit

#: Where the times of such waits are, of each thread of a body.
TIMES = layout.SCRATCH + layout.PAGE
_TIMESPEC = struct.Struct("<2q")
SECOND = 10**9
_ANY_BIT = 0xFFFFFFFF
#: No clock shows more, ns: 2**63 - 1 (KTIME_MAX).
_NEVER = (1 << 63) - 1


def is_timed(args: tuple[int, ...]) -> bool:
    """Whether futex(2) with these arguments waits no longer than it says."""
    return bool(args[3]) and args[1] & FUTEX_COMMAND in FUTEX_WAITS


class Timed:
    def __init__(self, context: Context, completion: Completion) -> None:
        self._context = context
        self._completion = completion

    def begin(self, body: Body, args: tuple[int, ...]) -> None:
        """The body stands before such a call."""
        try:
            seconds, ns = _TIMESPEC.unpack(body.task.read(args[3], _TIMESPEC.size))
        except OSError:
            self._completion.finish(body, -errno.EFAULT)
            return
        if seconds < 0 or not 0 <= ns < SECOND:
            body.task.cont()  # its kernel says EINVAL
            return
        clock = self._context.clock
        assert clock is not None
        ahead, operation, value3 = clock.ahead(), args[1], args[5]
        given = min(seconds * SECOND + ns, _NEVER)
        if operation & FUTEX_COMMAND == FUTEX_WAIT:
            body.call.until = body.call.until or min(clock.monotonic() + given, _NEVER)
            until = body.call.until - ahead.monotonic
            operation, value3 = operation & FUTEX_PRIVATE_FLAG | FUTEX_WAIT_BITSET, _ANY_BIT
        else:
            realtime = operation & FUTEX_COMMAND == FUTEX_LOCK_PI or operation & FUTEX_CLOCK_REALTIME
            until = given - (ahead.realtime if realtime else ahead.monotonic)
        at = TIMES + _TIMESPEC.size * body.own.slot
        body.task.write(at, _TIMESPEC.pack(*divmod(max(until, 0), SECOND)))
        body.state = State.TIMED
        words = [args[0], operation, args[2], at, args[4], value3]
        check(lib.mos_run_call(body.pid, body.call.regs, SYS_FUTEX, *map(signed, words)), "a wait", body.pid)

    def stopped(self, body: Body) -> None:
        """A call in the stub: that wait, made or made again by its kernel, or its end."""
        regs = body.task.peek_regs()
        if regs.orig_rax == layout.MAGIC:
            self.ended(body, signed(regs.rdi))
        elif regs.orig_rax in (SYS_FUTEX, SYS_RESTART_SYSCALL) and regs.rip == layout.STUB_AFTER:
            body.task.cont()
        else:
            raise unfit(body.pid, f"call {signed(regs.orig_rax)} in the place of its wait")

    def ended(self, body: Body, result: int) -> None:
        body.call.until = 0
        self._completion.finish(body, result)

    def settled(self, body: Body) -> bool:
        """At a stop that we asked for: whether the wait has ended before, and the body goes on with that. Made again, it would not
        hear of it: nobody wakes it twice, and what it has locked it has locked."""
        regs = body.task.peek_regs()
        if signed(regs.orig_rax) >= 0 or regs.rip == layout.STUB_AFTER:
            result = signed(regs.rax)
        elif layout.STUB < regs.rip - 1 < layout.STUB + len(layout.STUB_CODE):
            result = signed(regs.rdi)
        else:
            return False
        if result in RESTARTS or result == -errno.EINTR:
            return False
        self.ended(body, result)
        return True

    def broken_off(self, body: Body) -> None:
        """By a signal, of which home has told: one that it blocks does not end it."""
        self._completion.finish(body, -errno.EINTR)
