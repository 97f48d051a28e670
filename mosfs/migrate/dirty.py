"""Which pages a running task writes: userfaultfd(2) write protection in asynchronous mode, read out by PAGEMAP_SCAN (Linux 6.7).

The kernel takes the protection of a page away by itself at the first write to it, from user mode or within a call, so the task
never waits for us; a page without it is "written". Scanning may protect what it reports at the same moment.
"""

from __future__ import annotations

import errno
import os

from mosfs.abi.numbers import SYS_USERFAULTFD
from mosfs.migrate.ranges import Range, merge
from mosfs.native import ffi, kernel, lib
from mosfs.trace.inject import Calls
from mosfs.trace.layout import PAGE
from mosfs.trace.taken import anonymous, take_made
from mosfs.trace.task import TaskGone

UFFD_USER_MODE_ONLY = 1
PROTECT, CHECK = 1, 2  # PM_SCAN_WP_MATCHING, PM_SCAN_CHECK_WPASYNC
FOLLOWED, WRITTEN, PRESENT, SWAPPED, GUARD = 1 << 0, 1 << 1, 1 << 3, 1 << 4, 1 << 8
_RUNS = 512


def possible() -> bool:
    """Whether this kernel can follow memory at all."""
    return kernel.has("wp_async") and kernel.has("pagemap_scan")


class Untracked(Exception):
    """This range, or a part of it, was mapped since it was last registered."""


class Tracker:
    """Follows one task's memory. Close it when the move is over: then nothing is protected any more."""

    def __init__(self, pid: int, fd: int, pagemap: int) -> None:
        self._pid = pid
        self._fd = fd
        self._pagemap = pagemap

    @classmethod
    def begin(cls, call: Calls) -> Tracker:
        """For the task of an open session; OSError when this kernel (or the task's limit of descriptors) does not allow it."""
        pid = call.task.pid
        theirs = call.must(SYS_USERFAULTFD, os.O_CLOEXEC | os.O_NONBLOCK | UFFD_USER_MODE_ONLY)
        fd = take_made(call, theirs, anonymous("[userfaultfd]"))
        try:
            _checked(lib.mos_uffd_begin(fd))
            pagemap = os.open(f"/proc/{pid}/pagemap", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            os.close(fd)
            raise
        return cls(pid, fd, pagemap)

    def close(self) -> None:
        os.close(self._fd)
        os.close(self._pagemap)

    def register(self, start: int, end: int) -> None:
        """Follow one mapping from now on; its pages count as written. OSError for what cannot be followed."""
        _checked(lib.mos_uffd_register(self._fd, start, end))

    def followed(self, start: int, end: int) -> bool:
        """Is every mapping in [start, end) registered? Looks at mappings only, not at pages."""
        try:
            self._scan(start, end, CHECK, inverted=FOLLOWED, mask=FOLLOWED, anyof=0)
        except Untracked:
            return False
        return True

    def written(self, start: int, end: int, *, protect: bool) -> list[Range]:
        """Pages with content that were written since they were last protected. `Untracked` for a new mapping."""
        return self._scan(start, end, CHECK | (PROTECT if protect else 0), mask=WRITTEN, anyof=PRESENT | SWAPPED)

    def present(self, start: int, end: int) -> list[Range]:
        """Pages with content."""
        return self._scan(start, end, 0, anyof=PRESENT | SWAPPED)

    def both(self, start: int, end: int) -> tuple[list[Range], list[Range]]:
        """`present` and `written` of the same pages, which are walked once. `Untracked` for a new mapping."""
        runs = self._scan(start, end, CHECK, anyof=PRESENT | SWAPPED, told=WRITTEN)
        written = [(at & -PAGE, to) for at, to in runs if at & WRITTEN]
        return (merge((at & -PAGE, to) for at, to in runs) if written else runs), written

    def _scan(
        self, start: int, end: int, flags: int, *, inverted: int = 0, mask: int = 0, anyof: int, told: int = 0
    ) -> list[Range]:
        return scan(self._pid, self._pagemap, start, end, flags, inverted=inverted, mask=mask, anyof=anyof, told=told)


def scan(
    pid: int, pagemap: int, start: int, end: int, flags: int = 0, *, inverted: int = 0, mask: int = 0, anyof: int = 0, told: int = 0
) -> list[Range]:
    """The pages of [start, end) that PAGEMAP_SCAN finds, of the process ``pid`` with this open pagemap. `Untracked`; OSError.

    ``told``: what of a run's pages is told in the low bits of its start."""
    runs, after = ffi.new("unsigned long[]", 2 * _RUNS), ffi.new("unsigned long *")
    found: list[Range] = []
    while start < end:
        count = lib.mos_scan(pagemap, start, end, flags, inverted, mask, anyof, told, runs, _RUNS, after)
        if count == -errno.EPERM:
            raise Untracked
        if count == -errno.ESRCH:
            raise TaskGone(pid)
        _checked(count)
        _append(found, ffi.unpack(runs, 2 * count) if count else [])
        if not count and after[0] <= start:
            break
        start = int(after[0])
    return found


def _append(found: list[Range], flat: list[int]) -> None:
    """More runs, in order, as a list of starts and ends; the first may go on where the last has ended."""
    if found and flat and found[-1][1] == flat[0]:
        flat[0] = found.pop()[0]
    found += zip(flat[::2], flat[1::2])


def guards(pid: int, ranges: list[Range]) -> list[Range]:
    """The pages that MADV_GUARD_INSTALL has closed (Linux 6.13; told since 6.15). OSError where the kernel does not tell."""
    pagemap = os.open(f"/proc/{pid}/pagemap", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return merge(found for start, end in ranges for found in scan(pid, pagemap, start, end, mask=GUARD))
    finally:
        os.close(pagemap)


def _checked(result: int) -> int:
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return result
