"""Sources without an end that a stop cut short: getrandom(2), and reads of /dev/zero, /dev/full, /dev/random and /dev/urandom.

Whatever interrupts the kernel there ends the call after the next page (drivers/char/random.c and mem.c). Natively only a signal
does, so after a stop of ours what is missing is filled in, from the same source. If a signal comes too, it may as well have come a
moment later.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable

from mosfs.abi.numbers import SYS_GETRANDOM, SYS_PREAD64, SYS_PREADV, SYS_PREADV2, SYS_READ, SYS_READV
from mosfs.calls.partial import remaining, vector
from mosfs.native.registers import Registers
from mosfs.trace.task import Task

_VECTORS = frozenset({SYS_READV, SYS_PREADV, SYS_PREADV2})
CALLS = frozenset({SYS_READ, SYS_PREAD64, SYS_GETRANDOM, *_VECTORS})
_MEM_MAJOR = 1
_SOURCES: dict[int, Callable[[int], bytes]] = {5: bytes, 7: bytes, 8: os.urandom, 9: os.urandom}  # by minor number
_PIECE = 1 << 20


def complete(task: Task, nr: int, regs: Registers, result: int) -> int:
    """The result of the call in ``regs`` of a stopped task with what is missing filled in; others stay as they are."""
    if nr not in CALLS or result <= 0:
        return result
    if nr == SYS_GETRANDOM:
        return result + _fill(task, remaining([(regs.rdi, regs.rsi)], result), os.urandom)
    source = _source(task.pid, regs.rdi)
    if source is None:
        return result
    places = vector(task, regs.rsi, regs.rdx) if nr in _VECTORS else [(regs.rsi, regs.rdx)]
    return result + _fill(task, remaining(places, result), source)


def _source(pid: int, fd: int) -> Callable[[int], bytes] | None:
    try:
        found = os.stat(f"/proc/{pid}/fd/{fd & 0xFFFFFFFF}")
    except OSError:
        return None
    device = stat.S_ISCHR(found.st_mode) and os.major(found.st_rdev) == _MEM_MAJOR
    return _SOURCES.get(os.minor(found.st_rdev)) if device else None


def _fill(task: Task, places: Iterable[tuple[int, int]], source: Callable[[int], bytes]) -> int:
    """Fill ``places``; how much that was. What cannot be written ends it."""
    filled = 0
    for at, length in places:
        for offset in range(0, length, _PIECE):
            piece = source(min(length - offset, _PIECE))
            try:
                task.write(at + offset, piece)
            except OSError:
                return filled
            filled += len(piece)
    return filled
