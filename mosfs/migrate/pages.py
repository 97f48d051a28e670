"""Memory as PAGES frames: read in chunks of 256 KB, without zero pages, each run with its xxh3 checksum.

256 KB and process_vm_readv were the best general path in trials (`docs/design/migration.md`).
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import xxhash

from mosfs.migrate.image import COMPRESSED, PAGES_HEADER, ZERO, BadImage, Vma
from mosfs.migrate.ranges import Range, merge
from mosfs.native import ffi, lib
from mosfs.trace.layout import PAGE
from mosfs.trace.task import Task, TaskGone
from mosfs.wire.frames import Kind

CHUNK = 256 * 1024
#: Pages of one empty range at most.
MOST = 1 << 20


def content(pid: int, vmas: Sequence[Vma]) -> list[Range]:
    """Where ``vmas``, but those of files that are followed, may hold something: all of other file mappings, the present pages of
    anonymous memory."""
    vmas = [vma for vma in vmas if not vma.file]
    found = [(vma.start, vma.end) for vma in vmas if not vma.anonymous]
    for start, end in merge((vma.start, vma.end) for vma in vmas if vma.anonymous):
        found += _present(pid, start, end)
    return merge(found)


def own_content(pid: int, vmas: Iterable[Vma]) -> list[Range]:
    """The pages of files that a write has made the program's own."""
    private = merge((vma.start, vma.end) for vma in vmas if vma.file and not vma.shared)
    return merge(found for start, end in private for found in _present(pid, start, end, own=True))


def _present(pid: int, start: int, end: int, *, own: bool = False) -> list[Range]:
    found: list[Range] = []
    runs = ffi.new("unsigned long[1024]")
    after = ffi.new("unsigned long *", start)
    while start < end:
        count = lib.mos_present(pid, start, end, own, runs, 512, after)
        if count < 0:
            raise TaskGone(pid)
        flat = ffi.unpack(runs, 2 * count) if count else []
        found += zip(flat[::2], flat[1::2])
        if after[0] == start:
            break
        start = int(after[0])
    return found


class Sink(Protocol):
    """Where frames go: a channel, or a file (`migrate.checkpoint.Writer`)."""

    def send(self, kind: int, pair: int, payload: Any = b"", flags: int = 0) -> None: ...


class PageSender:
    """Sends ranges of a stopped task's memory; ``frames`` and ``bytes`` count what was sent."""

    def __init__(self, task: Task, channel: Sink, pair: int, *, near: bool) -> None:
        self.task = task
        self.channel = channel
        self.pair = pair
        self.near = near
        self.frames = 0
        self.bytes = 0
        self._buffer = bytearray(PAGES_HEADER.size + CHUNK)  # the head of a run is written before its pages
        self._zero = bytearray(CHUNK // PAGE)
        self._mem = os.open(f"/proc/{task.pid}/mem", os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        os.close(self._mem)

    def send(self, start: int, end: int, *, again: bool = False, whole: bool = False) -> None:
        """``again``: the receiver has pages here already, so it must hear of empty ones too. ``whole``: it has those of a file, so
        zeros are something to send."""
        for at in range(start, end, CHUNK):
            self._chunk(at, min(CHUNK, end - at), again, whole)

    def zero(self, start: int, end: int) -> None:
        """The pages of this range are empty again."""
        for at in range(start, end, MOST << 12):
            pages = min(MOST, (end - at) // PAGE)
            self.channel.send(Kind.PAGES, self.pair, PAGES_HEADER.pack(at, pages, ZERO, 0))
            self.frames += 1

    def _chunk(self, at: int, size: int, again: bool, whole: bool) -> None:
        view = memoryview(self._buffer)[PAGES_HEADER.size : PAGES_HEADER.size + size]
        got = self.task.read_into(at, view)
        if got < size:
            self._read_slowly(at, view, got)
        pages = size // PAGE
        zeros = 0 if whole else lib.mos_zero_runs(ffi.from_buffer(view), size, ffi.from_buffer(self._zero))
        if zeros == pages:
            if again:
                self.zero(at, at + size)
            return
        if not zeros:
            self._run(at, 0, size)
            return
        flags = bytes(self._zero[:pages])
        if again:
            for start, end in _runs_of(flags, 1):
                self.zero(at + start * PAGE, at + end * PAGE)
        for start, end in _runs_of(flags, 0):
            self._run(at, start * PAGE, end * PAGE)

    def _read_slowly(self, at: int, view: memoryview, got: int) -> None:
        """What process_vm_readv refuses: pages without read permission, and past the end of a file (zeros)."""
        got -= got % PAGE
        for offset in range(got, len(view), PAGE):
            try:
                page = os.pread(self._mem, PAGE, at + offset)
            except OSError:
                page = b""
            view[offset : offset + PAGE] = page.ljust(PAGE, b"\0")

    def _run(self, at: int, start: int, end: int) -> None:
        """Bytes ``start`` to ``end`` of the chunk at ``at``; what stood before them is overwritten, and has been sent."""
        head = PAGES_HEADER.size
        raw = memoryview(self._buffer)[head + start : head + end]
        digest = xxhash.xxh3_64_intdigest(raw)
        pages = len(raw) // PAGE
        packed = b"" if self.near else zlib.compress(raw, 1)
        payload: bytes | memoryview
        if packed and len(packed) < len(raw) * 7 // 8:
            payload = PAGES_HEADER.pack(at + start, pages, COMPRESSED, digest) + packed
        else:
            payload = memoryview(self._buffer)[start : head + end]
            PAGES_HEADER.pack_into(payload, 0, at + start, pages, 0, digest)
        self.channel.send(Kind.PAGES, self.pair, payload)
        self.frames += 1
        self.bytes += len(raw)


def send_all(task: Task, channel: Sink, pair: int, vmas: list[Vma], *, near: bool) -> int:
    """All memory of a stopped task; the number of PAGES frames."""
    sender = PageSender(task, channel, pair, near=near)
    try:
        for start, end in content(task.pid, vmas):
            sender.send(start, end)
        for start, end in own_content(task.pid, vmas):
            sender.send(start, end, whole=True)
    finally:
        sender.close()
    return sender.frames


def _runs_of(flags: bytes, value: int) -> Iterator[tuple[int, int]]:
    """(first, end) of the runs of ``value`` in a string of the two bytes 0 and 1."""
    first = flags.find(value)
    while first >= 0:
        end = flags.find(1 - value, first)
        end = len(flags) if end < 0 else end
        yield first, end
        first = flags.find(value, end)


def unpack(payload: bytes) -> tuple[int, int, bytes | memoryview | None]:
    """(address, size, raw pages; None for empty ones) of a PAGES frame; BadImage when the checksum or the size differs."""
    try:
        addr, pages, flags, digest = PAGES_HEADER.unpack_from(payload)
        if not 0 < pages <= (MOST if flags & ZERO else CHUNK // PAGE) or addr & (PAGE - 1):
            raise BadImage(f"{pages} pages at {addr:#x} at once")
        if flags & ZERO:
            return addr, pages * PAGE, None
        raw: bytes | memoryview = memoryview(payload)[PAGES_HEADER.size :]
        if flags & COMPRESSED:  # what would be longer than the header says is not made
            raw = zlib.decompressobj().decompress(raw, pages * PAGE)
    except (struct.error, zlib.error) as error:
        raise BadImage(f"malformed pages: {error}") from error
    if len(raw) != pages * PAGE or xxhash.xxh3_64_intdigest(raw) != digest:
        raise BadImage(f"pages at {addr:#x} are damaged")
    return addr, len(raw), raw
