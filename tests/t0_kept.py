"""Images of which only what has changed is sent (`migrate.changes`) and kept (`migrate.kept`): what is read is what was there."""

from __future__ import annotations

import ctypes
import mmap
import os
import random
import resource
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mosfs.migrate.changes import Digests, send_changes
from mosfs.migrate.freezefile import FilePlace, FreezeFile, NoSpace
from mosfs.migrate.image import PAGES_HEADER, ZERO, BadImage, Vma
from mosfs.migrate.kept import KeptFile, Store
from mosfs.migrate.pages import CHUNK, runs_of
from mosfs.trace.layout import PAGE
from mosfs.wire.channel import ChannelLost
from mosfs.wire.frames import BadFrame, Frame, Kind, To, check

PAGES = 200


class Self:
    """This process as a task that stands still."""

    pid = os.getpid()

    @staticmethod
    def read_into(at: int, view: memoryview) -> int:
        view[:] = ctypes.string_at(at, len(view))
        return len(view)


class Into:
    """A channel whose other end puts into a file what comes, as a tracer does."""

    def __init__(self, file: KeptFile | FreezeFile) -> None:
        self.file = file
        self.pages = 0

    def send(self, kind: int, pair: int, payload: Any = b"", flags: int = 0) -> None:
        data = bytes(payload)
        self.pages += sum(size for _, size, raw in runs_of(Frame(kind, 0, pair, data)) if raw) if kind == Kind.PAGES else 0
        self.file.take(Frame(kind, flags, pair, data, check(To.TRACER, kind, flags, pair, data)))


class Program:
    """Some memory, and the images that are taken of it."""

    def __init__(self, folder: Path, *, near: bool = True) -> None:
        self.map = mmap.mmap(-1, PAGES * PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.start = ctypes.addressof(ctypes.c_char.from_buffer(self.map))
        self.store = Store([FilePlace(str(folder))])
        self.digests: Digests | None = None
        self.image: KeptFile | None = None
        self.near = near

    def vmas(self, first: int = 0, last: int = PAGES) -> list[Vma]:
        return [Vma(self.start + first * PAGE, self.start + last * PAGE, 3)]

    def write(self, page: int, value: bytes) -> None:
        self.map[page * PAGE : (page + 1) * PAGE] = value * PAGE

    def save(self, vmas: list[Vma], *, differs: bool = True, whole: bool = True) -> Into:
        """The next image; ``whole``: it becomes the last one."""
        into = Into(file := KeptFile(self.store, self.image))
        into.send(Kind.IMAGE, 7, b"head")
        frames, digests = send_changes(
            Self(), into, 7, vmas, self.digests if differs else None, near=self.near  # type: ignore[arg-type]
        )
        assert frames == file.pages
        self.digests = digests
        if whole:
            into.send(Kind.IMAGE_END, 7, frames.to_bytes(8, "little"))
            if self.image is not None:
                self.image.close()
            self.image = file
        else:
            file.close()
        return into

    def close(self) -> None:
        if self.image is not None:
            self.image.close()


@contextmanager
def program(folder: Path, **more: Any) -> Iterator[Program]:
    made = Program(folder, **more)
    try:
        yield made
    finally:
        made.close()


def read(file: KeptFile) -> dict[int, bytes]:
    """The pages of an image, by their addresses."""
    found = {}
    for _ in range(2):  # it can be read again
        found.clear()
        file.send(Kind.RECALL, 7)
        frames = []
        while not frames or frames[-1].kind != Kind.IMAGE_END:
            frames.append(file.receive())
        assert (frames[0].kind, frames[0].payload) == (Kind.IMAGE, b"head") and frames[-1].content == len(frames) - 2
        for frame in frames[1:-1]:
            check(To.HOST, frame.kind, 0, 7, frame.payload)
            for addr, size, raw in runs_of(frame):
                assert raw is not None
                found |= {addr + at: bytes(raw[at : at + PAGE]) for at in range(0, size, PAGE)}
        file.send(Kind.RESUME, 7)
    return found


@contextmanager
def no_longer_than(pages: int) -> Iterator[None]:
    """Files cannot grow beyond that, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (pages * PAGE, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("near", [True, False])
@pytest.mark.parametrize("seed", range(8))
def test_an_image_is_what_was_there(tmp_path: Path, seed: int, near: bool) -> None:
    """Pages change, become empty, come and go with their mappings; images fail; a host forgets what it has sent."""
    pick = random.Random(seed)
    with program(tmp_path, near=near) as made:
        for _ in range(12):
            for _ in range(pick.choice((0, 1, 5, 120))):
                made.write(pick.randrange(PAGES), pick.choice((b"\0", b"a", b"b", bytes((pick.randrange(1, 256),)))))
            first = pick.choice((0, 0, 0, pick.randrange(100)))
            last = pick.choice((PAGES, PAGES, 100 + pick.randrange(101)))
            if pick.random() < 0.2:
                made.save(made.vmas(first, last), whole=False)
                made.digests = None
            made.save(made.vmas(first, last), differs=pick.random() < 0.8)
            assert made.image is not None
            expected = {}
            for page in range(first, last):
                raw = made.map[page * PAGE : (page + 1) * PAGE]
                if any(raw):
                    expected[made.start + page * PAGE] = raw
            assert read(made.image) == expected


def test_only_what_has_changed_is_sent_and_written(tmp_path: Path) -> None:
    with program(tmp_path) as made:
        for page in range(PAGES):
            made.write(page, b"%d" % (page % 10))
        assert made.save(made.vmas()).pages == PAGES * PAGE
        assert made.save(made.vmas()).pages == 0
        for page in (3, 77, 78, 199):
            made.write(page, b"x")
        assert made.save(made.vmas()).pages == 4 * PAGE
        assert made.image is not None and made.image.brought == 4 * PAGE
        for round_ in range(50):  # slots of images that are gone are used again
            made.write(round_, b"y")
            made.write(round_ + 100, b"z")
            made.save(made.vmas())
        assert made.store.size <= (PAGES + 8) * PAGE


def meets_damage(made: Program) -> None:
    """A page of its image that was changed on the disk is not taken for what it was."""
    made.write(5, b"x")
    made.save(made.vmas())
    assert made.image is not None
    os.pwrite(made.store._files[0][0], b"y", 100)
    with pytest.raises(ChannelLost, match="damaged"):
        read(made.image)


def test_a_damaged_page_is_seen(tmp_path: Path) -> None:
    with program(tmp_path) as made:
        meets_damage(made)


def test_what_was_not_in_the_image_before_cannot_be_as_it_was(tmp_path: Path) -> None:
    with program(tmp_path) as made:
        made.write(5, b"x")
        made.save(made.vmas())
        for page in (4, 6, 150):
            file = KeptFile(made.store, made.image)
            at = made.start + page * PAGE
            with pytest.raises(BadImage, match="not in the image before"):
                Into(file).send(Kind.SAME, 7, struct.pack("<QQ", at, at + PAGE))
            file.close()
        at = made.start + 5 * PAGE
        for other in (KeptFile(Store([FilePlace(str(tmp_path))])), FreezeFile([FilePlace(str(tmp_path))])):
            with pytest.raises(BadImage):
                Into(other).send(Kind.SAME, 7, struct.pack("<QQ", at, at + PAGE))
            other.close()


def test_pages_behind_what_is_the_same_leave_the_older_image_alone(tmp_path: Path) -> None:
    """A host that sends a page after it has said that it is as before: the image before must not change."""
    with program(tmp_path) as made:
        for page in range(PAGES):
            made.write(page, b"a")
        made.save(made.vmas())
        assert made.image is not None
        before = read(made.image)
        at = -(-made.start // CHUNK) * CHUNK
        file = KeptFile(made.store, made.image)
        into = Into(file)
        into.send(Kind.SAME, 7, struct.pack("<QQ", at, at + CHUNK))
        into.send(Kind.PAGES, 7, PAGES_HEADER.pack(at, 1, ZERO, 0))
        made.map[at - made.start : at - made.start + PAGE] = b"b" * PAGE
        send_changes(Self(), into, 7, [Vma(at, at + PAGE, 3)], None, near=True)  # type: ignore[arg-type]
        assert read(made.image) == before
        file.close()
        assert read(made.image) == before


@pytest.mark.parametrize("start, end", [(0, 1), (PAGE, PAGE), (2 * PAGE, PAGE), (1 << 47, (1 << 47) + PAGE), (PAGE, PAGE + 1)])
def test_ranges_are_of_pages(start: int, end: int) -> None:
    with pytest.raises(BadFrame):
        check(To.TRACER, Kind.SAME, 0, 7, struct.pack("<QQ", start, end))


def test_a_full_directory_is_left_for_the_next(tmp_path: Path) -> None:
    """Behind RLIMIT_FSIZE as on a full disk. Without another directory the image fails, and the one before is left."""
    with program(tmp_path) as made:
        made.store = Store([FilePlace("/nowhere"), FilePlace(str(tmp_path)), FilePlace(str(tmp_path))])
        for page in range(PAGES):
            made.write(page, b"%d" % (page % 10))
        with no_longer_than(140):
            made.save(made.vmas())
            assert made.image is not None and len(made.store._files) == 2
            before = read(made.image)
            for page in range(PAGES):
                made.write(page, b"x")
            with pytest.raises(NoSpace):
                made.save(made.vmas(), whole=False)
        assert read(made.image) == before and len(before) == PAGES


def test_an_image_without_room_takes_none_from_those_that_follow(tmp_path: Path) -> None:
    with program(tmp_path) as made, no_longer_than(PAGES + 20):
        for page in range(PAGES):
            made.write(page, b"a")
        made.save(made.vmas())
        for page in range(20):
            made.write(page, b"b")
        made.save(made.vmas())  # the older contents of these pages have room for twenty others
        for round_ in range(3):
            for page in range(PAGES):
                made.write(page, b"c")
            file, digests = KeptFile(made.store, made.image), made.digests
            with pytest.raises(NoSpace):
                send_changes(Self(), Into(file), 7, made.vmas(), digests, near=True)  # type: ignore[arg-type]
            file.close()
            for page in range(PAGES):
                made.write(page, b"b" if page < 20 else b"a")
            for page in range(5):
                made.write(page + 100, b"%d" % round_)
            assert made.save(made.vmas()).pages == 5 * PAGE
            assert made.image is not None and len(read(made.image)) == PAGES


def test_slots_that_cannot_be_written_any_more(tmp_path: Path) -> None:
    """Of a file that takes nothing, not even where it had something: another one takes all, however many slots are free there."""
    with program(tmp_path) as made:
        made.store = Store([FilePlace(str(tmp_path)), FilePlace(str(tmp_path))])
        for page in range(PAGES):
            made.write(page, b"a")
        made.save(made.vmas())
        for value in (b"b", b"a"):
            for page in range(0, PAGES, 2):
                made.write(page, value)
            made.save(made.vmas())  # every other slot is free now
        fd = made.store._files[0][0]
        path = f"/proc/self/fd/{fd}"
        reader = os.open(path, os.O_RDONLY)
        os.dup2(reader, fd)
        os.close(reader)
        for page in range(PAGES):
            made.write(page, b"c")
        made.save(made.vmas())
        assert made.image is not None and set(read(made.image).values()) == {b"c" * PAGE}


def test_a_damaged_image_takes_its_file_with_it(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with program(tmp_path) as made:
        meets_damage(made)
    assert len(os.listdir("/proc/self/fd")) == before
