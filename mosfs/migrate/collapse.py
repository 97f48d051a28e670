"""Huge pages of a program's memory before the kernel copies that (fork(2)): it copies one entry of a page table instead of 512.

The program runs meanwhile; it may wait for one huge page, a fraction of a millisecond. The pages are its own and all there, so it
takes no more memory; and MADV_COLLAPSE (madvise(2)) leaves no trace in its mappings.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

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
#: made huge at once, in about two milliseconds.
ENOUGH, FEW, SLICE = 512 << 20, 256 << 20, 4 << 20


def collapsing(pid: int, enough: int = ENOUGH, few: int = FEW) -> Iterator[None]:
    """Make huge pages of the memory of a running process, in slices of two milliseconds, until ``few`` bytes are in small ones.

    Nothing if it has less than ``enough`` in them, or where the kernel does not do it, or has much else to do. Never raises."""
    if not wanted():
        return
    try:
        pagemap = os.open(f"/proc/{pid}/pagemap", os.O_RDONLY | os.O_CLOEXEC)
        try:
            pidfd = os.pidfd_open(pid)
            try:
                yield from _collapsing(pid, pidfd, pagemap, enough, few)
            finally:
                os.close(pidfd)
        finally:
            os.close(pagemap)
    except (OSError, TaskGone, CannotMove, Untracked):
        return


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
    for start, end in dense(merge(found)):
        for at in range(start, end, SLICE):
            if left <= few:
                return
            to = min(at + SLICE, end)
            if not lib.mos_collapse(pidfd, pagemap, at, to):
                left -= to - at
            elif not wanted():
                return
            yield
