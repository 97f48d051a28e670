"""Incremental checkpoints: what has not changed since the last one is in that one's file, and shared with it.

::

    save.1/  image                 the first one: all pages
    save.2/  image  1              what has changed; 1 is a hard link to save.1/image
    save.3/  image  1  2           2 is a hard link to save.2/image

So each folder has all that it needs: it may be copied, and the others may be removed, whatever is removed or written again, because
the kernel counts who uses a file. ``image`` is a checkpoint file (`migrate.checkpoint`) with one more kind of record::

    REFS     for each run of pages: address u64, pages u32, number of the file u32, where they are in it u64, their xxh3_128

A chain of them is known to the tracer alone that has written it, in its memory: no file is ever believed to be what it was.
"""

from __future__ import annotations

import os
import stat
import struct
from array import array
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any

import xxhash

from mosfs.migrate.checkpoint import RECORD, REFS, Writer
from mosfs.migrate.image import PAGES_HEADER, RUN_HEADER, RUNS_HEADER, ZERO, BadImage
from mosfs.migrate.newfile import IMAGE, Rights
from mosfs.migrate.pages import CHUNK
from mosfs.trace.layout import PAGE
from mosfs.wire.frames import Kind

REF = struct.Struct("<QIIQ16s")
#: Where a page is: the number of the file, and from this bit down the place in it.
_PLACE_BITS = 48
_PLACE = (1 << _PLACE_BITS) - 1
#: Files in a folder at most. A page that is kept in so many is written again.
MOST_PARTS = 64
#: Numbers of files: then a chain begins anew.
LAST = (1 << 16) - 1
_PAGES = CHUNK // PAGE
_DIGEST = 16


@dataclass(slots=True)
class Known:
    """Of the 64 pages of a chunk: their xxh3_128, and where each is (0: nowhere)."""

    digests: bytearray = field(default_factory=lambda: bytearray(_PAGES * _DIGEST))
    places: array[int] = field(default_factory=lambda: array("Q", bytes(8 * _PAGES)))


@dataclass(frozen=True, slots=True)
class Part:
    """A file of a chain, as fstat(2) told when it was whole: somebody may have changed it."""

    device: int
    inode: int
    size: int
    changed: int  # ns

    @classmethod
    def of(cls, facts: os.stat_result) -> Part:
        return cls(facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns)


@dataclass(slots=True)
class Chain:
    """The last incremental checkpoint of a program. ``folder``: our descriptor of it, -1 for none; ``number``: of its file."""

    folder: int = -1
    number: int = 0
    pages: dict[int, Known] = field(default_factory=dict)
    parts: dict[int, Part] = field(default_factory=dict)
    stale: frozenset[int] = frozenset()  # files of which so little is used that it is written again

    def begin(self, folder: int, rights: Rights) -> set[int]:
        """Have the files that may be shared in the new ``folder`` as well: their numbers."""
        if self.number >= LAST:
            self.close()
        shared = set()
        for number, part in self.parts.items():
            name = IMAGE if number == self.number else b"%d" % number
            with suppress(OSError), rights():
                os.link(name, b"%d" % number, src_dir_fd=self.folder, dst_dir_fd=folder, follow_symlinks=False)
                facts = os.stat(b"%d" % number, dir_fd=folder, follow_symlinks=False)
                if stat.S_ISREG(facts.st_mode) and Part.of(facts) == part and number not in self.stale:
                    shared.add(number)
        return shared

    def close(self) -> None:
        """The next checkpoint is a whole one."""
        if self.folder >= 0:
            os.close(self.folder)
        self.folder, self.number, self.pages, self.parts, self.stale = -1, 0, {}, {}, frozenset()


class Increment(Writer):
    """Writes what is not in files of ``chain`` that are in ``folder``, too. OSError."""

    def __init__(self, fd: int, chain: Chain, folder: int, rights: Rights = nullcontext, most: int = (1 << 63) - 1) -> None:
        super().__init__(fd, rights, most)
        self._chain, self._folder = chain, folder
        self._shared = chain.begin(folder, rights)
        self.number = chain.number + 1
        self._known: dict[int, Known] = {}
        self._used = dict.fromkeys(self._shared, 0)  # bytes of each

    def send(self, kind: int, pair: int, payload: Any = b"", flags: int = 0) -> None:
        if kind not in (Kind.PAGES, Kind.RUNS):
            super().send(kind, pair, payload, flags)
            return
        heads, raw = _taken_apart(kind, memoryview(payload).cast("B"))
        addresses = [addr + at for addr, pages in heads for at in range(0, pages * PAGE, PAGE)]
        digests = [xxhash.xxh3_128_digest(raw[at : at + PAGE]) for at in range(0, len(raw), PAGE)]
        places = [self._kept(addr, digest) for addr, digest in zip(addresses, digests)]
        fresh = [at for at, place in enumerate(places) if not place]
        if fresh:
            self._send_fresh(kind, pair, payload, raw, addresses, places, fresh)
        if len(fresh) < len(places):
            self._refer(raw, addresses, places, {*fresh})
        for addr, digest, place in zip(addresses, digests, places):
            known = self._known.setdefault(addr // CHUNK, Known())
            at = addr % CHUNK // PAGE
            known.digests[at * _DIGEST : (at + 1) * _DIGEST] = digest
            known.places[at] = place

    def _kept(self, addr: int, digest: bytes) -> int:
        """Where the page is already; 0 if nowhere."""
        known = self._chain.pages.get(addr // CHUNK)
        if known is None:
            return 0
        at = addr % CHUNK // PAGE
        place = known.places[at]
        same = place and known.digests[at * _DIGEST : (at + 1) * _DIGEST] == digest
        return place if same and place >> _PLACE_BITS in self._shared else 0

    def _send_fresh(
        self, kind: int, pair: int, payload: Any, raw: memoryview, addresses: list[int], places: list[int], fresh: list[int]
    ) -> None:
        """The pages ``fresh`` of a frame; ``places`` says then where they are."""
        at = self.written + len(self._buffer) + RECORD.size
        if len(fresh) == len(places):
            super().send(kind, pair, payload)
            at += memoryview(payload).nbytes - len(raw)
        else:
            runs = _runs(fresh, addresses)
            some = b"".join(raw[first * PAGE : (first + pages) * PAGE] for first, pages in runs)
            head = RUNS_HEADER.pack(len(runs), 0, xxhash.xxh3_64_intdigest(some))
            head += b"".join(RUN_HEADER.pack(addresses[first], pages, 0) for first, pages in runs)
            super().send(Kind.RUNS, pair, head + some)
            at += len(head)
        for index, page in enumerate(fresh):
            places[page] = self.number << _PLACE_BITS | at + index * PAGE

    def _refer(self, raw: memoryview, addresses: list[int], places: list[int], fresh: set[int]) -> None:
        kept = [at for at in range(len(places)) if at not in fresh]
        records = []
        for first, pages in _runs(kept, addresses, places):
            number, place = places[first] >> _PLACE_BITS, places[first] & _PLACE
            digest = xxhash.xxh3_128_digest(raw[first * PAGE : (first + pages) * PAGE])
            records.append(REF.pack(addresses[first], pages, number, place, digest))
            self._used[number] += pages * PAGE
        self.pages += 1
        self._record(REFS, b"".join(records))

    def end(self) -> None:
        super().end()
        for number in self._chain.parts:
            if not self._used.get(number):
                with suppress(OSError), self._rights():
                    os.unlink(b"%d" % number, dir_fd=self._folder)

    def become_last(self) -> None:
        """The checkpoint is whole and has its name: the next one shares pages with it."""
        chain = self._chain
        used = {number: size for number, size in self._used.items() if size}
        parts = {number: chain.parts[number] for number in used}
        stale = {number for number, size in used.items() if 2 * size < parts[number].size}
        if len(parts) >= MOST_PARTS:
            stale.add(min(used, key=used.__getitem__))
        parts[self.number] = Part.of(os.fstat(self._fd))
        folder = os.dup(self._folder)
        chain.close()
        chain.folder, chain.number, chain.pages, chain.parts = folder, self.number, self._known, parts
        chain.stale = frozenset(stale)


def _taken_apart(kind: int, payload: memoryview) -> tuple[list[tuple[int, int]], memoryview]:
    """The (address, pages) of the runs of a frame of ours that are not empty, and what is in them."""
    if kind == Kind.PAGES:
        addr, pages, flags, _ = PAGES_HEADER.unpack_from(payload)
        return [] if flags & ZERO else [(addr, pages)], payload[PAGES_HEADER.size :]
    end = RUNS_HEADER.size + RUNS_HEADER.unpack_from(payload)[0] * RUN_HEADER.size
    heads = RUN_HEADER.iter_unpack(payload[RUNS_HEADER.size : end])
    return [(addr, pages) for addr, pages, flags in heads if not flags & ZERO], payload[end:]


def _runs(chosen: list[int], addresses: list[int], places: list[int] | None = None) -> list[tuple[int, int]]:
    """(first, count) of the ``chosen`` pages that follow each other, in memory and, with ``places``, in their file."""
    found: list[tuple[int, int]] = []
    for at in chosen:
        if found:
            first, count = found[-1]
            behind = count * PAGE
            if at == first + count and addresses[at] == addresses[first] + behind and (
                places is None or places[at] == places[first] + behind
            ):  # fmt: skip
                found[-1] = (first, count + 1)
                continue
        found.append((at, 1))
    return found


class Parts:
    """Reads what REFS refer to, from ``folder``, with the ``rights`` of who recovers. BadImage for whatever is not what it was.

    Files of others than ``owner``, who has made the image, are not taken."""

    def __init__(self, folder: int, owner: int, rights: Rights) -> None:
        self._folder, self._owner, self._rights = folder, owner, rights
        self._fds: dict[int, int] = {}

    def runs(self, payload: bytes) -> Iterator[tuple[int, bytes]]:
        """(address, contents) of what a record REFS names."""
        if not payload or len(payload) % REF.size:
            raise BadImage("malformed references")
        for addr, pages, number, place, digest in REF.iter_unpack(payload):
            if not 0 < pages <= _PAGES or addr % PAGE:
                raise BadImage(f"{pages} pages at {addr:#x} at once")
            try:
                raw = os.pread(self._file(number), pages * PAGE, place)
            except (OSError, OverflowError) as error:
                raise BadImage(f"file {number}: {error}") from error
            if len(raw) != pages * PAGE or xxhash.xxh3_128_digest(raw) != digest:
                raise BadImage(f"pages at {addr:#x} are damaged in file {number}")
            yield addr, raw

    def _file(self, number: int) -> int:
        if (fd := self._fds.get(number)) is not None:
            return fd
        if self._folder < 0 or len(self._fds) > MOST_PARTS or not 0 < number <= LAST:
            raise BadImage(f"there is no file {number}")
        fd = self._fds[number] = part_of(self._folder, b"%d" % number, self._rights)
        facts = os.fstat(fd)
        if not stat.S_ISREG(facts.st_mode) or facts.st_uid != self._owner:
            raise BadImage(f"file {number} is somebody else's, or none")
        return fd

    def close(self) -> None:
        fds, self._fds = self._fds, {}
        for fd in fds.values():
            os.close(fd)


def part_of(folder: int, name: bytes, rights: Rights) -> int:
    """A descriptor of a file in the folder of a checkpoint. BadImage."""
    try:
        with rights():
            return os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    except OSError as error:
        raise BadImage(f"{name.decode()}: {os.strerror(error.errno or 0)}") from error


def frame_of(addr: int, raw: bytes) -> bytes:
    """A PAGES frame of such a run."""
    return PAGES_HEADER.pack(addr, len(raw) // PAGE, 0, xxhash.xxh3_64_intdigest(raw)) + raw
