"""Images of a program that outlives its node, one after the other, in files at home: of each only what has changed is written.

A `Store` has the pages of its images in slots of files without names; each image (`KeptFile`) knows in which slot each of its pages
is. What an image does not bring, because it is as in the one before (SAME), is in that one's slots. When an image is dropped, slots
that no other uses are used again: so the files are as large as one image and what has changed once, at most.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import xxhash

from mosfs.migrate.freezefile import FilePlace, FreezeFile, NoSpace, nameless
from mosfs.migrate.image import BadImage
from mosfs.migrate.increments import frame_of
from mosfs.migrate.pages import CHUNK, runs_of
from mosfs.migrate.ranges import Range, merge
from mosfs.trace.layout import PAGE
from mosfs.wire.frames import Frame, Kind

_PAGES = CHUNK // PAGE
#: A slot is a number: that of its file, and from this bit down its place there.
_BITS = 40
_PLACE = (1 << _BITS) - 1


@dataclass(slots=True)
class Chunk:
    """Of the 64 pages of a chunk of memory: 1 + the slot of each, 0 for none, and its xxh3_64."""

    slots: array[int] = field(default_factory=lambda: array("Q", bytes(8 * _PAGES)))
    sums: array[int] = field(default_factory=lambda: array("Q", bytes(8 * _PAGES)))

    def copy(self) -> Chunk:
        return Chunk(self.slots[:], self.sums[:])


#: By address // CHUNK.
Index = dict[int, Chunk]
#: Bytes of memory that a chunk of it takes, about.
_CHUNK_BYTES = 2 * 8 * _PAGES + 400


class Store:
    """``places``: where files may be, in the order in which they are tried. The files are closed with the last image."""

    def __init__(self, places: Sequence[FilePlace]) -> None:
        self._given = tuple(places)
        self._places = [*places]
        self._files: list[tuple[int, FilePlace]] = []
        self._ends: list[int] = []  # slots of each file
        self._free: list[Range] = []  # runs of slots, in their order
        self._images: list[Index] = []
        self._why = "no freezing directory"

    @property
    def size(self) -> int:
        """Bytes on the disk."""
        return sum(self._ends) * PAGE

    @property
    def directory(self) -> str:
        """Where the end of its files is; "" if there is none yet."""
        return self._files[-1][1].directory if self._files else ""

    def put(self, raw: memoryview) -> list[int]:
        """Write these pages; the slot of each. NoSpace."""
        slots: list[int] = []
        try:
            while left := len(raw) // PAGE - len(slots):
                start, count = self._take(left)
                if self._write(start, raw[len(slots) * PAGE : (len(slots) + count) * PAGE]):
                    slots += range(start, start + count)
        except NoSpace:
            self._give_back((slot, slot + 1) for slot in slots)
            raise
        return slots

    def _give_back(self, runs: Iterable[Range]) -> None:
        self._free = merge([*self._free, *runs])

    def _take(self, most: int) -> tuple[int, int]:
        """The first of some slots that follow each other, and how many."""
        if self._free:
            start, end = self._free.pop(0)
            if end - start > most:
                self._free.insert(0, (start + most, end))
            return start, min(most, end - start)
        if not self._files:
            self._next()
        last = len(self._files) - 1
        start = last << _BITS | self._ends[last]
        self._ends[last] += most
        return start, most

    def _write(self, slot: int, raw: memoryview) -> bool:
        """False: not all of it could be written there; it goes on in another file."""
        fd, place = self._files[slot >> _BITS]
        try:
            with place.rights():
                if os.pwrite(fd, raw, (slot & _PLACE) * PAGE) == len(raw):
                    return True
            self._why = f"{place.directory}: full"
        except OSError as error:
            self._why = f"{place.directory}: {os.strerror(error.errno or 0)}"
        file, count = slot >> _BITS, len(raw) // PAGE
        if self._ends[file] == (slot & _PLACE) + count:
            self._ends[file] = slot & _PLACE
            self._next()
            return False
        self._give_back([(slot, slot + count)])
        self._next()
        self._free = [run for run in self._free if run[0] >> _BITS != file]  # what cannot be written there now is not tried again
        return False

    def _next(self) -> None:
        """Go on in another file."""
        while self._places:
            place = self._places.pop(0)
            try:
                with place.rights():
                    self._files.append((nameless(place.directory), place))
            except OSError as error:
                self._why = f"{place.directory}: {os.strerror(error.errno or 0)}"
                continue
            self._ends.append(0)
            return
        raise NoSpace(self._why)

    def get(self, slot: int, count: int) -> bytes:
        """So many pages from ``slot`` on. OSError."""
        return os.pread(self._files[slot >> _BITS][0], count * PAGE, (slot & _PLACE) * PAGE)

    def add(self, image: Index) -> None:
        self._images.append(image)

    def drop(self, image: Index) -> None:
        """What no other image uses is free; the last one takes the files with it. Nothing, if that was done before."""
        if not any(other is image for other in self._images):
            return
        self._images = [other for other in self._images if other is not image]
        if self._images:
            self._give_back(unused(image, self._images))
            return
        files, self._files, self._free, self._ends, self._places = self._files, [], [], [], [*self._given]
        for fd, _ in files:
            os.close(fd)


def unused(image: Index, others: Sequence[Index]) -> list[Range]:
    """Runs of the slots of ``image`` that are in none of ``others``: a page is in the same slot only at the same address."""
    free: list[int] = []
    for number, chunk in image.items():
        kept = [found for other in others if (found := other.get(number)) is not None]
        if not any(found is chunk for found in kept):
            free += {*chunk.slots}.difference((0,), *(found.slots for found in kept))
    return merge((slot - 1, slot) for slot in free)


class KeptFile(FreezeFile):
    """One image of a `Store`. ``before``: the one from which a host may leave out what has not changed."""

    def __init__(self, store: Store, before: KeptFile | None = None) -> None:
        super().__init__([])
        self.store = store
        self.brought = 0  #: bytes of pages that were sent for it
        self._before: Index = before._index if before is not None else {}
        self._index: Index = {}
        self._own: set[int] = set()  # chunks that are not those of the image before
        self._head: bytes = b""
        self._frames_of_pages = 0
        store.add(self._index)

    @property
    def written(self) -> int:
        return self.store.size

    @property
    def memory(self) -> int:
        """Bytes of memory that it takes at home, about."""
        return len(self._index) * _CHUNK_BYTES + len(self._head)

    @property
    def pages(self) -> int:
        return self._frames_of_pages

    @property
    def full(self) -> bool:
        return False

    @property
    def directory(self) -> str:
        return self.store.directory

    def close(self) -> None:
        self.store.drop(self._index)
        self._before = {}
        self.lost = True
        self._frames = None

    # ------------------------------------------------------------------ to the file

    def take(self, frame: Frame) -> None:
        """BadImage for what is damaged; NoSpace."""
        if self.complete:
            raise BadImage("it is complete")
        if frame.kind == Kind.IMAGE:
            self._head = frame.payload
        elif frame.kind in (Kind.PAGES, Kind.RUNS):
            self._frames_of_pages += 1
            for addr, size, raw in runs_of(frame):
                self._put(addr, size, memoryview(raw) if raw is not None else None)
        elif frame.kind == Kind.SAME:
            for start, end in frame.content:
                self._keep(start, end)
        elif frame.kind == Kind.IMAGE_END:
            self.complete, self._before = True, {}
        else:
            raise BadImage(f"a frame {frame.kind} in it")

    def _keep_frame(self, kind: int, pair: int, payload: Any) -> None:
        self.take(Frame(kind, 0, pair, bytes(payload)))

    def _chunk(self, number: int) -> Chunk:
        """One that may be written to."""
        if number not in self._own:
            self._own.add(number)
            found = self._index.get(number)
            self._index[number] = found.copy() if found is not None else Chunk()
        return self._index[number]

    def _put(self, addr: int, size: int, raw: memoryview | None) -> None:
        slots = self.store.put(raw) if raw is not None else []
        self.brought += size if raw is not None else 0
        for number, slot in enumerate(slots):
            page = addr + number * PAGE
            chunk, at = self._chunk(page // CHUNK), page % CHUNK // PAGE
            assert raw is not None
            chunk.slots[at], chunk.sums[at] = slot + 1, xxhash.xxh3_64_intdigest(raw[number * PAGE : (number + 1) * PAGE])

    def _keep(self, start: int, end: int) -> None:
        """These pages are as before. BadImage if there were none."""
        for number in range(start // CHUNK, (end - 1) // CHUNK + 1):
            old = self._before.get(number)
            first, last = max(start - number * CHUNK, 0) // PAGE, min(end - number * CHUNK, CHUNK) // PAGE
            if old is None or 0 in old.slots[first:last]:
                raise BadImage(f"pages at {number * CHUNK:#x} are not in the image before")
            if last - first == _PAGES and number not in self._index:
                self._index[number] = old
                continue
            chunk = self._chunk(number)
            chunk.slots[first:last], chunk.sums[first:last] = old.slots[first:last], old.sums[first:last]

    # ------------------------------------------------------------------ from the file

    def _begin(self, pair: int) -> None:
        if self.lost:
            raise self.fail("closed")
        self._frames = self._reading(pair)

    def _reading(self, pair: int) -> Iterator[Frame]:
        yield Frame(Kind.IMAGE, 0, pair, self._head)
        count = 0
        for number in sorted(self._index):
            for payload in self._pages_of(number):
                count += 1
                yield Frame(Kind.PAGES, 0, pair, payload)
        yield Frame(Kind.IMAGE_END, 0, pair, count.to_bytes(8, "little"), count)

    def _pages_of(self, number: int) -> Iterator[bytes]:
        """Frames of the pages of a chunk: a run for each part that is together in a file. BadImage."""
        chunk = self._index[number]
        at = 0
        while at < _PAGES:
            slot, first = chunk.slots[at], at
            at += 1
            if not slot:
                continue
            while at < _PAGES and chunk.slots[at] == slot + at - first:
                at += 1
            try:
                raw = self.store.get(slot - 1, at - first)
            except OSError as error:
                raise BadImage(os.strerror(error.errno or 0)) from error
            found = [xxhash.xxh3_64_intdigest(raw[page : page + PAGE]) for page in range(0, len(raw), PAGE)]
            if found != chunk.sums[first:at].tolist():
                raise BadImage(f"pages at {number * CHUNK + first * PAGE:#x} are damaged")
            yield frame_of(number * CHUNK + first * PAGE, raw)


