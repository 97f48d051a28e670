"""Sources without an end that a stop cut short: getrandom(2), and reads of /dev/zero, /dev/full, /dev/random and /dev/urandom.

Whatever interrupts the kernel there ends the call after the next page (drivers/char/random.c and mem.c). Natively only a signal
does, so after a stop of ours what is missing is filled in, from the same source. If a signal comes too, it may as well have come a
moment later.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from typing import Any

from mosfs.calls.partial import vector
from mosfs.trace.task import Task

SYS_READ, SYS_GETRANDOM = 0, 318
#: read, pread64, readv, preadv, getrandom, preadv2
CALLS = frozenset({SYS_READ, 17, 19, 295, SYS_GETRANDOM, 327})
_VECTORS = frozenset({19, 295, 327})
_MEM_MAJOR = 1
_SOURCES: dict[int, Callable[[int], bytes]] = {5: bytes, 7: bytes, 8: os.urandom, 9: os.urandom}  # by minor number
#: What one call yields at most, in bytes: MAX_RW_COUNT of the kernel.
_MOST = 0x7FFF_F000
_PIECE = 1 << 20


def complete(task: Task, nr: int, regs: Any, result: int) -> int:
    """The result of the call in ``regs`` of a stopped task with what is missing filled in; others stay as they are."""
    if nr not in CALLS or result <= 0:
        return result
    if nr == SYS_GETRANDOM:
        return result + _fill(task, iter([(regs.rdi, regs.rsi)]), result, os.urandom)
    source = _source(task.pid, regs.rdi)
    if source is None:
        return result
    places = vector(task, regs.rsi, regs.rdx) if nr in _VECTORS else [(regs.rsi, regs.rdx)]
    return result + _fill(task, iter(places), result, source)


def _source(pid: int, fd: int) -> Callable[[int], bytes] | None:
    try:
        found = os.stat(f"/proc/{pid}/fd/{fd & 0xFFFFFFFF}")
    except OSError:
        return None
    device = stat.S_ISCHR(found.st_mode) and os.major(found.st_rdev) == _MEM_MAJOR
    return _SOURCES.get(os.minor(found.st_rdev)) if device else None


def _fill(task: Task, places: Iterator[tuple[int, int]], done: int, source: Callable[[int], bytes]) -> int:
    """Fill what lies behind the first ``done`` bytes of ``places``; how much that was. What cannot be written ends it."""
    filled, left = 0, _MOST - done
    for at, length in places:
        skipped = min(done, length)
        done -= skipped
        at, length = at + skipped, min(length - skipped, left - filled)
        while length > 0:
            piece = source(min(length, _PIECE))
            try:
                task.write(at, piece)
            except OSError:
                return filled
            at, length, filled = at + len(piece), length - len(piece), filled + len(piece)
    return filled
