"""Huge pages for memory that comes ahead whole: the kernel makes 512 pages at once, in a fifth of the time of single ones.

Who sends tells where all pages are present, so a program with a page here and there takes no more memory than before. MADV_COLLAPSE
(madvise(2), Linux 6.1) makes them, because it leaves no trace in the mappings, as MADV_HUGEPAGE would. It first waits for every
processor of the node, so there are few such calls, and none where the processors have much else to do: that took seconds. Where the
kernel has it not, or no huge page is free, pages are made one by one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from functools import cache

from mosfs.abi.numbers import SYS_MADVISE
from mosfs.migrate.ranges import Range
from mosfs.native import kernel
from mosfs.trace.inject import Calls
from mosfs.wire.frames import MOST_RUNS

#: Bytes of a huge page; that are worth a call; and that one call makes: some milliseconds.
HUGE, LEAST, MOST = 2 << 20, 8 << 20, 128 << 20
MADV_COLLAPSE = 25
#: Runnable tasks for each processor (getloadavg(3)), up to which there are such calls.
BUSY = 4
_ENABLED = "/sys/kernel/mm/transparent_hugepage/enabled"


@cache
def allowed() -> bool:
    """Whether the kernel of this node makes huge pages so, and its administrator lets programs have any."""
    if not kernel.has("collapse"):
        return False
    try:
        with open(_ENABLED, encoding="ascii") as file:
            return "[never]" not in file.read()
    except OSError:
        return False


def wanted(busy: float = BUSY) -> bool:
    """Whether huge pages are made now, with at most ``busy`` runnable tasks for each processor."""
    return allowed() and os.getloadavg()[0] <= busy * (os.cpu_count() or 1)


def dense(ranges: Iterable[Range]) -> list[Range]:
    """The huge pages that lie in these ranges with all of their bytes, where there are many."""
    found = ((-(-start // HUGE) * HUGE, end // HUGE * HUGE) for start, end in ranges)
    return [(start, end) for start, end in found if end - start >= LEAST]


def batches(ranges: Iterable[Range]) -> Iterator[Range]:
    """``ranges`` in parts for one call each."""
    for start, end in ranges:
        for at in range(start, end, MOST):
            yield at, min(at + MOST, end)


def make(call: Calls, start: int, end: int) -> None:
    """Have the task of an open session make the huge pages of an empty range. What cannot be made is left."""
    pages = [(at, b"\0") for at in range(start, end, HUGE)]
    if wanted() and all(call.task.write_runs(pages[first : first + MOST_RUNS]) for first in range(0, len(pages), MOST_RUNS)):
        call(SYS_MADVISE, start, end - start, MADV_COLLAPSE)
