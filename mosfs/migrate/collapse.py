"""Huge pages of a program's memory before the kernel copies that (fork(2)): it copies one entry of a page table instead of 512.

The program runs meanwhile; it may wait for one huge page, a fraction of a millisecond. The pages are its own and all there, so it
takes no more memory; and MADV_COLLAPSE (madvise(2)) leaves no trace in its mappings.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress

from mosfs.migrate.dirty import PRESENT, Untracked, scan
from mosfs.migrate.huge import dense, wanted
from mosfs.migrate.maps import CannotMove, Reader
from mosfs.migrate.pages import windows
from mosfs.migrate.ranges import Range, merge, size
from mosfs.native import lib
from mosfs.trace.task import TaskGone

#: PAGEMAP_SCAN: a part of a huge page.
_HUGE = 1 << 6
#: Bytes in small pages from which on it is worth it (fork(2) copies a GB of them in 20 to 30 ms); that may stay small; and that are
#: made huge at once: each call waits for every processor of the node.
ENOUGH, FEW, SLICE = 512 << 20, 256 << 20, 16 << 20
#: Runnable tasks for each processor up to which that takes little time, and seconds after which it is given up in any case.
BUSY, PATIENCE = 1.5, 2.0


def collapsing(pid: int, enough: int = ENOUGH, few: int = FEW) -> Iterator[None]:
    """Make huge pages of the memory of a running process, slice by slice, until ``few`` bytes are in small ones.

    Nothing if it has less than ``enough`` in them, or where the kernel does not do it, or has much else to do. Never raises."""
    if not wanted(BUSY):
        return
    with suppress(OSError, TaskGone, CannotMove, Untracked), ExitStack() as open_ones:
        pagemap = os.open(f"/proc/{pid}/pagemap", os.O_RDONLY | os.O_CLOEXEC)
        open_ones.callback(os.close, pagemap)
        pidfd = os.pidfd_open(pid)
        open_ones.callback(os.close, pidfd)
        yield from _collapsing(pid, pidfd, pagemap, enough, few)


def _collapsing(pid: int, pidfd: int, pagemap: int, enough: int, few: int) -> Iterator[None]:
    vmas = yield from Reader().reading(pid)
    found: list[Range] = []
    for some in windows(vma for vma in vmas if vma.anonymous):
        for vma in some:
            found += scan(pid, pagemap, vma.start, vma.end, inverted=_HUGE, mask=_HUGE, anyof=PRESENT)
        yield
    left = size(found)
    if left < enough:
        return
    until = time.monotonic() + PATIENCE
    for start, end in dense(merge(found)):
        for at in range(start, end, SLICE):
            if left <= few or time.monotonic() >= until or not wanted(BUSY):
                return
            to = min(at + SLICE, end)
            if not lib.mos_collapse(pidfd, pagemap, at, to):
                left -= to - at
            yield
