"""The area of restartable sequences (rseq(2)) that a task has registered with its kernel, which libc does since glibc 2.35.

The kernel writes there on every return to user mode, and ends a program whose area has gone: it is registered anew where the
program is, and never left behind. Before Linux 5.13 the kernel does not tell where it is: then mosd has programs told not to
register any.
"""

from __future__ import annotations

import errno
import struct

from mosfs.abi.numbers import SYS_RSEQ
from mosfs.abi.reasons import Reason
from mosfs.migrate.maps import CannotMove
from mosfs.native import kernel
from mosfs.trace import layout
from mosfs.trace.inject import Calls
from mosfs.trace.task import Task

#: Address, size and signature; address 0: none is registered.
Area = tuple[int, int, int]
NONE: Area = (0, 0, 0)

UNREGISTER = 1
#: include/uapi/linux/rseq.h: where struct rseq has the address of struct rseq_cs, which is version, flags, start, length, abort.
_SEQUENCE = 8
_CRITICAL = struct.Struct("<2I3Q")
SIZE, SIGNATURE = 32, 0x53053053


def of(call: Calls) -> Area:
    """CannotMove where there is one and the kernel does not tell which."""
    if kernel.has("rseq_told"):
        return call.task.peek_rseq()
    ours = (layout.SCRATCH + -layout.SCRATCH % SIZE, SIZE, SIGNATURE)
    result = call(SYS_RSEQ, *ours[:2], 0, ours[2])  # a second one is refused
    if result == 0:
        unregister(call, ours)
    elif result != -errno.ENOSYS:
        raise CannotMove(Reason.RSEQ)
    return NONE


def leave(task: Task) -> None:
    """A task that we have stopped within a sequence goes on at its abort handler, as after any preemption (rseq(2)).

    To come before anything is injected: in our stub, and where its area is registered anew, the kernel forgets the sequence."""
    at, _, signature = task.peek_rseq()
    if not at:
        return
    try:
        where = int.from_bytes(task.read(at + _SEQUENCE, 8), "little")
        if not where:
            return
        version, _, start, length, abort = _CRITICAL.unpack(task.read(where, _CRITICAL.size))
        regs = task.peek_regs()
        inside = not version and 0 <= regs.rip - start < length and not 0 <= abort - start < length
        if not inside or int.from_bytes(task.read(abort - 4, 4), "little") != signature:
            return  # what else there is the kernel itself will see
        task.write(at + _SEQUENCE, bytes(8))
    except (OSError, ValueError, OverflowError):
        return
    regs.rip = abort
    task.set_regs(regs)


def registering(area: Area) -> list[tuple[int, ...]]:
    """The calls for it, if there is one. CannotMove where it could not be left behind again."""
    if not area[0]:
        return []
    if not kernel.has("rseq_told"):
        raise CannotMove(Reason.RSEQ)
    return [(SYS_RSEQ, area[0], area[1], 0, area[2])]


def leaving(area: Area) -> list[tuple[int, ...]]:
    """The calls by which its kernel writes there no more, if there is one."""
    return [(SYS_RSEQ, area[0], area[1], UNREGISTER, area[2])] if area[0] else []


def unregister(call: Calls, area: Area) -> None:
    """Must come before its memory is unmapped."""
    for row in leaving(area):
        call(*row)
