"""What of a program's memory has changed since its last image, by hashes of its pages: the kernel need not follow them.

A host that is asked for one image after the other (RECALL with flags, `moves.outliving`) keeps the xxh3_128 of each page of the
last one. A page that is what it was is not sent: SAME frames name where it is. Following writes instead (`dirty`) would split
the program's huge pages for good.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import groupby

import xxhash

from mosfs.migrate.image import Vma
from mosfs.migrate.pages import HEAD, PageSender, Sink, content, own_content
from mosfs.migrate.ranges import Range, merge
from mosfs.trace.layout import PAGE
from mosfs.trace.task import Task
from mosfs.wire.frames import MOST_SAME, SAME_RANGE, Kind

_DIGEST = 16


@dataclass(slots=True)
class Digests:
    """Of an image: by the address of each run of pages, its xxh3_128, and those of its pages one behind the other."""

    runs: dict[int, tuple[bytes, bytes]] = field(default_factory=dict)
    _starts: list[int] = field(default_factory=list)

    def of_pages(self, addr: int, count: int) -> bytes:
        """Those of ``count`` pages from ``addr`` on; of a page that there was not: zeros."""
        if (found := self.runs.get(addr)) is not None and len(found[1]) == count * _DIGEST:
            return found[1]
        if len(self._starts) != len(self.runs):
            self._starts = sorted(self.runs)
        digests = bytearray(count * _DIGEST)
        end = addr + count * PAGE
        for start in self._starts[max(0, bisect_right(self._starts, addr) - 1) : bisect_left(self._starts, end)]:
            pages = self.runs[start][1]
            first, last = max(addr, start), min(end, start + len(pages) // _DIGEST * PAGE)
            if first < last:
                digests[_at(first - addr) : _at(last - addr)] = pages[_at(first - start) : _at(last - start)]
        return bytes(digests)


def _at(distance: int) -> int:
    """Where the digest of a page is, so many bytes behind the first."""
    return distance // PAGE * _DIGEST


class ChangeSender(PageSender):
    """Sends what is not as in ``before``; ``after`` has what there is now, ``same`` is what was not sent."""

    def __init__(self, task: Task, channel: Sink, pair: int, before: Digests | None, *, near: bool, packs: int = 0) -> None:
        super().__init__(task, channel, pair, near=near, packs=packs)
        self._before = before if before is not None else Digests()
        self.after = Digests()
        self.same: list[Range] = []

    def _run(self, at: int, start: int, end: int) -> None:
        raw = memoryview(self._buffer)[HEAD + start : HEAD + end]
        addr, whole = at + start, xxhash.xxh3_128_digest(raw)
        old = self._before.runs.get(addr)
        if old is not None and old[0] == whole and len(old[1]) == len(raw) // PAGE * _DIGEST:
            self.after.runs[addr] = old
            self.same.append((addr, addr + len(raw)))
            return
        digests = b"".join(xxhash.xxh3_128_digest(raw[page : page + PAGE]) for page in range(0, len(raw), PAGE))
        self.after.runs[addr] = whole, digests
        before = self._before.of_pages(addr, len(raw) // PAGE)
        kept = [digests[page : page + _DIGEST] == before[page : page + _DIGEST] for page in range(0, len(digests), _DIGEST)]
        page = 0
        for is_same, run in groupby(kept):
            first, page = page, page + len([*run])
            if is_same:
                self.same.append((addr + first * PAGE, addr + page * PAGE))
            else:
                super()._run(at, start + first * PAGE, start + page * PAGE)

    def end(self) -> None:
        """Tell what was not sent."""
        ranges = merge(self.same)
        for first in range(0, len(ranges), MOST_SAME):
            some = ranges[first : first + MOST_SAME]
            self.channel.send(Kind.SAME, self.pair, b"".join(SAME_RANGE.pack(*run) for run in some))


def send_changes(
    task: Task, channel: Sink, pair: int, vmas: Iterable[Vma], before: Digests | None, *, near: bool, packs: int = 0
) -> tuple[int, Digests]:
    """All memory of a stopped task, but what was so in the image ``before``. The number of frames with pages, and what there is
    now."""
    vmas = [*vmas]
    sender = ChangeSender(task, channel, pair, before, near=near, packs=packs)
    try:
        sender.send(content(task.pid, vmas))
        sender.send(own_content(task.pid, vmas), whole=True)
        sender.end()
    finally:
        sender.close()
    return sender.frames, sender.after
