"""mremap(2) over what would be one mapping if the program had never been moved or followed.

The kernel joins neighbours only if nothing tells them apart, and a mapping that is followed (userfaultfd(2)), or that was made anew
by a move, has an anon_vma of its own. Only mremap tells: beyond the end of a mapping it gives EFAULT. So when it does, what lies
there is looked at, and neighbours that are alike are moved one by one.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Sequence

from mosfs.abi.flags import MAP_ANONYMOUS, MAP_NORESERVE, MAP_PRIVATE, MREMAP_DONTUNMAP, MREMAP_FIXED, MREMAP_MAYMOVE
from mosfs.abi.numbers import SYS_MMAP, SYS_MREMAP, SYS_MUNMAP
from mosfs.migrate import properties
from mosfs.migrate.maps import CannotMove, Mapping, read_maps
from mosfs.migrate.properties import Property
from mosfs.migrate.ranges import Range
from mosfs.trace.inject import Calls
from mosfs.trace.layout import PAGE
from mosfs.trace.task import NOTHING


def remap(call: Calls, args: Sequence[int], *, said: bool) -> int:
    """Make mremap with these argument registers. Its result. ``said``: the program may have given memory properties."""
    result = call(SYS_MREMAP, *args[:5])
    if result != -errno.EFAULT:
        return result
    pid = call.task.pid
    try:
        parts = alike(read_maps(pid), args[0], args[0] + _moved(args[1], args[2], args[3]), properties.read(pid) if said else ())
    except CannotMove:
        return result
    return Pieces(call, parts, args).result() if len(parts) > 1 else result


def _moved(old: int, new: int, flags: int) -> int:
    """How much of the old range is moved: with MREMAP_FIXED no more than there is room for, without, all of it."""
    return _pages(min(old, new) if flags & MREMAP_FIXED else old)


def _pages(length: int) -> int:
    return (length + PAGE - 1) // PAGE * PAGE


def alike(mappings: Iterable[Mapping], start: int, end: int, said: Iterable[Property] = ()) -> list[Range]:
    """The parts of [start, end), by mappings, if these are neighbours that differ in nothing but where they are; else none."""
    bits = {low: kind for low, _, kind in said}
    parts: list[Range] = []
    before: Mapping | None = None
    for m in mappings:
        if m.end <= start or m.start >= end:
            continue
        if before is None:
            if m.start > start:
                return []
        elif not _follows(before, m) or bits.get(m.start, 0) != bits.get(before.start, 0):
            return []
        parts.append((max(start, m.start), min(end, m.end)))
        before = m
    return parts if parts and parts[-1][1] == end else []


def _follows(one: Mapping, other: Mapping) -> bool:
    """Whether the kernel could join these two."""
    kinds = [(m.prot, m.shared, m.device, m.inode, m.name) for m in (one, other)]
    return kinds[0] == kinds[1] and one.end == other.start and (not one.inode or one.offset + one.end - one.start == other.offset)


class Pieces:
    """A call of mremap, made on the parts of its old range. ``call`` makes calls in the program, and returns results."""

    def __init__(self, call: Callable[..., int], parts: list[Range], args: Sequence[int]) -> None:
        self.call = call
        self.parts = parts
        self.old, self.flags, self.hint = args[0], args[3], args[4]
        self.length = _pages(args[2])
        self.cut = _pages(args[1]) if args[3] & MREMAP_FIXED else 0  # the old range may be longer than the new one
        self.growth = self.length - (parts[-1][1] - self.old)

    def result(self) -> int:
        """The address, or a negative errno: then all is as it was."""
        if self.growth < 0 or self.length > NOTHING >> 8:
            return -errno.EFAULT
        if not self.flags & (MREMAP_FIXED | MREMAP_DONTUNMAP):
            start, end = self.parts[-1]
            result = self.call(SYS_MREMAP, start, end - start, end - start + self.growth, 0)
            if result >= 0:
                return self.old
            if result != -errno.ENOMEM or not self.flags & MREMAP_MAYMOVE:
                return result
        return self._move()

    def _move(self) -> int:
        fixed = self.flags & MREMAP_FIXED
        target = self.hint
        if not fixed:
            hint = self.hint if self.flags & MREMAP_DONTUNMAP else 0
            target = self.call(SYS_MMAP, hint, self.length, 0, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, NOTHING, 0)
            if target < 0:
                return target
        moved: list[tuple[int, int, int, int]] = []
        for start, end in reversed(self.parts):  # the last one grows, which is what may be refused
            size = end - start
            step = (start, size, size + (0 if moved else self.growth), target + start - self.old)
            result = self.call(SYS_MREMAP, *step[:3], MREMAP_MAYMOVE | MREMAP_FIXED | self.flags & MREMAP_DONTUNMAP, step[3])
            if result < 0:
                self._back(moved)
                if not fixed:
                    self.call(SYS_MUNMAP, target, self.length)
                return result
            moved.append(step)
        if fixed and self.cut > self.length:
            self.call(SYS_MUNMAP, self.old + self.length, self.cut - self.length)
        return target

    def _back(self, moved: list[tuple[int, int, int, int]]) -> None:
        for start, size, grown, at in moved:
            self.call(SYS_MREMAP, at, grown, size, MREMAP_MAYMOVE | MREMAP_FIXED, start)
