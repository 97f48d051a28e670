"""The area of restartable sequences (rseq(2)) that a task has registered with its kernel, which libc does since glibc 2.35.

The kernel writes there on every return to user mode, and ends a program whose area has gone: it is registered anew where the
program is, and never left behind. Before Linux 5.13 the kernel does not tell where it is: then mosd has programs told not to
register any.
"""

from __future__ import annotations

import errno

from mosfs.abi.numbers import SYS_RSEQ
from mosfs.migrate.maps import CannotMove
from mosfs.native import kernel
from mosfs.trace import layout
from mosfs.trace.inject import Calls

#: Address, size and signature; address 0: none is registered.
Area = tuple[int, int, int]
NONE: Area = (0, 0, 0)

UNREGISTER = 1
SIZE, SIGNATURE = 32, 0x53053053
UNTOLD = "restartable sequences, and a kernel that does not tell where they are: start it with GLIBC_TUNABLES=glibc.pthread.rseq=0"


def of(call: Calls) -> Area:
    """CannotMove where there is one and the kernel does not tell which."""
    if kernel.has("rseq_told"):
        return call.task.peek_rseq()
    ours = (layout.SCRATCH + -layout.SCRATCH % SIZE, SIZE, SIGNATURE)
    result = call(SYS_RSEQ, *ours[:2], 0, ours[2])  # a second one is refused
    if result == 0:
        unregister(call, ours)
    elif result != -errno.ENOSYS:
        raise CannotMove(UNTOLD)
    return NONE


def register(call: Calls, area: Area) -> None:
    """CannotMove where it could not be left behind again."""
    if area[0]:
        if not kernel.has("rseq_told"):
            raise CannotMove(UNTOLD)
        call(SYS_RSEQ, area[0], area[1], 0, area[2])


def unregister(call: Calls, area: Area) -> None:
    """Must come before its memory is unmapped."""
    if area[0]:
        call(SYS_RSEQ, area[0], area[1], UNREGISTER, area[2])
