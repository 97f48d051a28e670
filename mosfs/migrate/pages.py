"""Memory as PAGES frames: read in chunks of 256 KB, without zero pages, each run with its xxh3 checksum.

256 KB and process_vm_readv were the best general path in trials (`docs/design/migration.md`).
"""

from __future__ import annotations

import os
import struct
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Any, Protocol

import msgspec
import xxhash

from mosfs.migrate.image import COMPRESSED, PAGES_HEADER, RUN_HEADER, RUNS_HEADER, ZERO, ZSTD, BadImage, Vma
from mosfs.migrate.packing import OFFERED, packing, unpacked
from mosfs.migrate.ranges import Range, merge, size
from mosfs.native import ffi, lib
from mosfs.trace.layout import PAGE
from mosfs.trace.task import Task, TaskGone
from mosfs.wire.frames import MOST_RUNS, Frame, Kind

CHUNK = 256 * 1024
HEAD = PAGES_HEADER.size  #: bytes before the pages of a frame
#: Of an entry of /proc/PID/pagemap (admin-guide/mm/pagemap.rst): present, of a file or shared memory, mapped once only.
_PRESENT, _OF_FILE, _EXCLUSIVE = 1 << 63, 1 << 61, 1 << 56
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


def next_chunk(left: deque[Range]) -> list[Range]:
    """Take the next ranges out of ``left``, at most `CHUNK` bytes and so many that they fit into one RUNS frame."""
    chunk: list[Range] = []
    room = CHUNK
    while left and len(chunk) < MOST_RUNS:
        start, end = left[0]
        if end - start > room:
            if not chunk:
                chunk.append((start, start + room))
                left[0] = (start + room, end)
            break
        chunk.append(left.popleft())
        room -= end - start
    return chunk


class PageSender:
    """Sends ranges of a stopped task's memory; ``frames`` and ``bytes`` count what was sent."""

    def __init__(self, task: Task, channel: Sink, pair: int, *, near: bool, runs: bool = False, packs: int = 0) -> None:
        """``runs``: the receiver takes RUNS: ranges that are small share frames. ``near``, ``packs``: see `packing`."""
        self.task = task
        self.channel = channel
        self.pair = pair
        self._packing = packing(near=near, takes=packs)
        self.frames = 0
        self.bytes = 0
        self._runs = runs
        self._buffer = bytearray(HEAD + CHUNK)  # the head of a run is written before its pages
        self._zero = bytearray(CHUNK // PAGE)
        self._mem = os.open(f"/proc/{task.pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
        self._pagemap = os.open(f"/proc/{task.pid}/pagemap", os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        os.close(self._mem)
        os.close(self._pagemap)

    def send(self, ranges: Iterable[Range], *, again: bool = False, whole: bool = False) -> None:
        """``again``: the receiver has pages here already, so it must hear of empty ones too. ``whole``: it has those of a file, so
        zeros are something to send."""
        left = deque(ranges)
        while left:
            chunk = next_chunk(left)
            if not self._runs or len(chunk) == 1 or not self._together(chunk, again, whole):
                for start, end in chunk:
                    self._alone(start, end - start, again, whole)

    def empty(self, ranges: Iterable[Range]) -> None:
        """The pages of these ranges are empty again."""
        most = MOST << 12
        parts = [(at, min(at + most, end)) for start, end in ranges for at in range(start, end, most)]
        if not self._runs or len(parts) == 1:
            for start, end in parts:
                self._frame(Kind.PAGES, PAGES_HEADER.pack(start, (end - start) // PAGE, ZERO, 0))
            return
        for first in range(0, len(parts), MOST_RUNS):
            self._vector([(start, end, ZERO) for start, end in parts[first : first + MOST_RUNS]], b"")

    def _frame(self, kind: Kind, payload: bytes | memoryview) -> None:
        self.channel.send(kind, self.pair, payload)
        self.frames += 1

    # ------------------------------------------------------------------ a run a frame

    def _alone(self, at: int, size: int, again: bool, whole: bool) -> None:
        view = memoryview(self._buffer)[HEAD : HEAD + size]
        got = self._read_copied(at, view) if self._copied(at) else self.task.read_into(at, view)
        if got < size:
            self._read_slowly(at, view, got)
        pages = size // PAGE
        zeros = 0 if whole else lib.mos_zero_runs(ffi.from_buffer(view), size, ffi.from_buffer(self._zero))
        if zeros == pages:
            if again:
                self.empty([(at, at + size)])
            return
        if not zeros:
            self._run(at, 0, size)
            return
        flags = bytes(self._zero[:pages])
        if again:
            self.empty((at + start * PAGE, at + end * PAGE) for start, end in _runs_of(flags, 1))
        for start, end in _runs_of(flags, 0):
            self._run(at, start * PAGE, end * PAGE)

    def _copied(self, at: int) -> bool:
        """Whether the page, which stands for its neighbours, is another process's, too, until either writes to it (fork(2)).

        process_vm_readv(2) pins what it reads, so the kernel would copy each of them; /proc/PID/mem reads them as they are."""
        entry = int.from_bytes(os.pread(self._pagemap, 8, at // PAGE * 8), "little")
        return entry & (_PRESENT | _OF_FILE | _EXCLUSIVE) == _PRESENT

    def _read_copied(self, at: int, view: memoryview) -> int:
        """How much of it could be read at once."""
        try:
            return os.preadv(self._mem, [view], at)
        except OSError:
            return 0

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
        raw = memoryview(self._buffer)[HEAD + start : HEAD + end]
        digest = xxhash.xxh3_64_intdigest(raw)
        pages = len(raw) // PAGE
        packed = self._packing.packed(raw)
        self.bytes += len(raw)
        if packed:
            self._frame(Kind.PAGES, PAGES_HEADER.pack(at + start, pages, self._packing.flag, digest) + packed)
            return
        head = HEAD + start - PAGES_HEADER.size
        payload = memoryview(self._buffer)[head : HEAD + end]
        PAGES_HEADER.pack_into(payload, 0, at + start, pages, 0, digest)
        self._frame(Kind.PAGES, payload)

    # ------------------------------------------------------------------ many runs a frame

    def _together(self, chunk: list[Range], again: bool, whole: bool) -> bool:
        """Send ranges that share a frame; False if they have to be read one by one."""
        view = memoryview(self._buffer)[HEAD : HEAD + size(chunk)]
        if not (self._read_runs_copied(chunk, view) if self._copied(chunk[0][0]) else self.task.read_runs(chunk, view)):
            return False
        zeros = 0 if whole else lib.mos_zero_runs(ffi.from_buffer(view), len(view), ffi.from_buffer(self._zero))
        if not zeros:
            self._vector([(start, end, 0) for start, end in chunk], view)
            return True
        runs, parts, at = [], [], 0
        for start, end in chunk:
            flags = bytes(self._zero[at // PAGE : (at + end - start) // PAGE])
            for value in (0, ZERO) if again else (0,):
                runs += [(start + a * PAGE, start + b * PAGE, value) for a, b in _runs_of(flags, int(value > 0))]
            parts += [view[at + a * PAGE : at + b * PAGE] for a, b in _runs_of(flags, 0)]
            at += end - start
        if runs:
            self._vector(runs, b"".join(parts))
        return True

    def _read_runs_copied(self, chunk: list[Range], view: memoryview) -> bool:
        at = 0
        for start, end in chunk:
            if self._read_copied(start, view[at : at + end - start]) < end - start:
                return False
            at += end - start
        return True

    def _vector(self, runs: list[tuple[int, int, int]], raw: bytes | memoryview) -> None:
        """RUNS of (start, end, flags), with the contents of all that are not empty."""
        packed = self._packing.packed(raw) if raw else b""
        head = RUNS_HEADER.pack(len(runs), self._packing.flag if packed else 0, xxhash.xxh3_64_intdigest(raw))
        heads = b"".join(RUN_HEADER.pack(start, (end - start) // PAGE, flags) for start, end, flags in runs)
        self.bytes += len(raw)
        self._frame(Kind.RUNS, b"".join((head, heads, packed or raw)))


def send_all(
    task: Task, channel: Sink, pair: int, vmas: list[Vma], *, near: bool, runs: bool = False, packs: int = 0
) -> int:
    """All memory of a stopped task; the number of frames with pages. ``runs``, ``near``, ``packs`` as in `PageSender`."""
    sender = PageSender(task, channel, pair, near=near, runs=runs, packs=packs)
    try:
        sender.send(content(task.pid, vmas))
        sender.send(own_content(task.pid, vmas), whole=True)
    finally:
        sender.close()
    return sender.frames


#: Bytes of memory, and mappings, in which pages are looked for at once.
WINDOW, FEW = 64 << 20, 1024


def sending_all(
    task: Task, channel: Sink, pair: int, vmas: Iterable[Vma], *, compressed: bool = False
) -> Generator[None, None, int]:
    """As `send_all`, for a file that this node reads, or one that is its equal; in slices of a fraction of a millisecond, or two or
    three of them if it is to be ``compressed``."""
    sender = PageSender(task, channel, pair, near=not compressed, runs=True, packs=OFFERED)
    try:
        for some in windows(vmas):
            left = deque(content(task.pid, some))
            while left:
                sender.send(next_chunk(left))
                yield
            left.extend(own_content(task.pid, some))
            while left:
                sender.send(next_chunk(left), whole=True)
                yield
            yield
    finally:
        sender.close()
    return sender.frames


def windows(vmas: Iterable[Vma]) -> Iterator[list[Vma]]:
    """The mappings in parts that are looked at in little time; large ones are cut."""
    some: list[Vma] = []
    room = WINDOW
    for vma in vmas:
        at = vma.start
        while at < vma.end:
            to = min(vma.end, at + room)
            some.append(vma if (at, to) == (vma.start, vma.end) else msgspec.structs.replace(vma, start=at, end=to))
            room -= to - at
            at = to
            if not room or len(some) == FEW:
                yield some
                some, room = [], WINDOW
    if some:
        yield some


def _runs_of(flags: bytes, value: int) -> Iterator[tuple[int, int]]:
    """(first, end) of the runs of ``value`` in a string of the two bytes 0 and 1."""
    first = flags.find(value)
    while first >= 0:
        end = flags.find(1 - value, first)
        end = len(flags) if end < 0 else end
        yield first, end
        first = flags.find(value, end)


#: A run of pages that came: its address, its size, its contents (None: it is empty).
Run = tuple[int, int, "bytes | memoryview | None"]


def runs_of(frame: Frame) -> list[Run]:
    """What PAGES or RUNS brings; BadImage when it is damaged."""
    return [unpack(frame.payload)] if frame.kind == Kind.PAGES else unpack_runs(frame.payload)


def for_file(frame: Frame, *, compressed: bool = False) -> bytes:
    """The payload of PAGES or RUNS as it is unpacked on whatever node reads a file of it later: what zstd has packed zlib packs
    instead. What is to be ``compressed`` is for this node alone. BadImage when it is damaged."""
    runs, payload = runs_of(frame), bytes(frame.payload)
    first, flags = PAGES_HEADER.unpack_from(payload)[1:3] if frame.kind == Kind.PAGES else RUNS_HEADER.unpack_from(payload)[:2]
    raw = b"".join(data for _, _, data in runs if data is not None)
    stays = flags & (ZSTD | COMPRESSED) if compressed else not flags & ZSTD
    if stays or not raw:
        return payload
    packer = packing(near=False, takes=OFFERED if compressed else 0)
    packed = packer.packed(raw)
    flag = packer.flag if packed else 0
    if frame.kind == Kind.PAGES:
        addr, _, _, digest = PAGES_HEADER.unpack_from(payload)
        return PAGES_HEADER.pack(addr, first, flag, digest) + (packed or raw)
    heads = payload[RUNS_HEADER.size : RUNS_HEADER.size + first * RUN_HEADER.size]
    return RUNS_HEADER.pack(first, flag, RUNS_HEADER.unpack_from(payload)[2]) + heads + (packed or raw)


def unpack(payload: bytes) -> Run:
    """The run in a PAGES frame; BadImage when the checksum or the size differs."""
    try:
        addr, pages, flags, digest = PAGES_HEADER.unpack_from(payload)
        _possible(addr, pages, flags)
        if flags & ZERO:
            return addr, pages * PAGE, None
        raw = unpacked(memoryview(payload)[PAGES_HEADER.size :], flags, pages * PAGE)
    except struct.error as error:
        raise BadImage(f"malformed pages: {error}") from error
    if len(raw) != pages * PAGE or xxhash.xxh3_64_intdigest(raw) != digest:
        raise BadImage(f"pages at {addr:#x} are damaged")
    return addr, len(raw), raw


def unpack_runs(payload: bytes) -> list[Run]:
    """The runs in a RUNS frame; BadImage when the checksum or a size differs."""
    try:
        count, flags, digest = RUNS_HEADER.unpack_from(payload)
        at = RUNS_HEADER.size + count * RUN_HEADER.size
        if not 0 < count <= MOST_RUNS or at > len(payload):
            raise BadImage(f"{count} runs of pages at once")
        heads = list(RUN_HEADER.iter_unpack(payload[RUNS_HEADER.size : at]))
        for head in heads:
            _possible(*head)
        pages = sum(pages for _, pages, its_flags in heads if not its_flags & ZERO)
        if pages > CHUNK // PAGE:
            raise BadImage(f"{pages} pages at once")
        raw = unpacked(memoryview(payload)[at:], flags if pages else 0, pages * PAGE)
    except struct.error as error:
        raise BadImage(f"malformed runs of pages: {error}") from error
    if len(raw) != pages * PAGE or xxhash.xxh3_64_intdigest(raw) != digest:
        raise BadImage(f"runs of pages from {heads[0][0]:#x} on are damaged")
    found: list[Run] = []
    view, at = memoryview(raw), 0
    for addr, pages, its_flags in heads:
        empty = bool(its_flags & ZERO)
        found.append((addr, pages * PAGE, None if empty else view[at : at + pages * PAGE]))
        at += 0 if empty else pages * PAGE
    return found


def _possible(addr: int, pages: int, flags: int) -> None:
    if not 0 < pages <= (MOST if flags & ZERO else CHUNK // PAGE) or addr & (PAGE - 1):
        raise BadImage(f"{pages} pages at {addr:#x} at once")
