"""A checkpoint file: a head in JSON, then the image as in a channel, then the contents of files that have no name any more.

::

    MAGIC, and records: length u32, kind u16, reserved u16, crc32 u32 of these eight bytes and the payload; the payload
    HEAD     what the program has of its home: open files, folders, limits, settings (`Head`, JSON)
    IMAGE    as the frame of that name (`image.ImageMeta`)
    PAGES    as the frame; its crc32 covers the frame's head only, which has the checksum of the pages
    RUNS     as the frame
    CONTENT  number u32 of a file in the head, offset u64; data of it
    REFS     in incremental ones: pages that are in other files (`migrate.increments`)
    END      number of PAGES, RUNS and REFS records u64

The file is complete if it ends with END: a torn one is refused (`image.BadImage`), and so is a changed one.

That of a program with several threads begins with `OF_THREADS`, since who knows the first version only would leave them out.
"""

from __future__ import annotations

import errno
import os
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Annotated, Any, Literal, cast

import msgspec
from msgspec import Meta

from mosfs.migrate.image import MAX_SIZE, MOST_THREADS, PAGES_HEADER, ZERO, BadImage, ImageMeta
from mosfs.migrate.pages import CHUNK
from mosfs.migrate.ranges import Range, merge
from mosfs.trace.layout import PAGE
from mosfs.wire.asked import Settings
from mosfs.wire.fields import MALFORMED, Pid
from mosfs.wire.frames import SHAPES, Kind
from mosfs.wire.orders import Small

MAGIC, OF_THREADS = b"MOSIX checkpoint 1\n", b"MOSIX checkpoint 2\n"
RECORD = struct.Struct("<IHHI")
CONTENT_HEAD, END_BODY = struct.Struct("<IQ"), struct.Struct("<Q")
HEAD, CONTENT, END, REFS = 1, 2, 3, 4
#: The image's records have the numbers of its frames, from here on.
FRAMES = 256
#: No record of each kind is longer: anybody can write such a file, and who reads it must have room for a record at once.
MAX_HEAD, MAX_OTHER = 16 << 20, 1 << 20
MAX_FILES = 4096
#: Records that `Reader.coming` looks at: 64 GB of memory.
MOST_LOOKED_AT = 1 << 18
MAX_PROCESSORS = 8192
#: Bytes that are written at once, or read; and from how many on a record is not worth copying for that.
BLOCK, LARGE = 1 << 20, 64 << 10

Descriptor = Annotated[int, Meta(ge=0, le=(1 << 20) - 1)]
#: A path: each byte is a character (latin-1), as JSON knows no others.
Path = Annotated[str, Meta(max_length=4096)]
Offset = Annotated[int, Meta(ge=0, le=MAX_SIZE)]
Limit = Annotated[int, Meta(ge=-1, le=MAX_SIZE)]


class OpenFile(msgspec.Struct, frozen=True):
    """One open file description and the descriptors that share it. ``flags`` of open(2) without O_CLOEXEC; ``closed``: those of
    ``fds`` that exec closes; ``what``: an unlinked one is kept in this file."""

    fds: Annotated[list[Descriptor], Meta(min_length=1, max_length=MAX_FILES)]
    what: Literal["file", "directory", "special", "unlinked"]
    path: Path
    flags: Small
    offset: Offset = 0
    mode: Small = 0
    size: Offset = 0
    closed: Annotated[list[Descriptor], Meta(max_length=MAX_FILES)] = []


class Traits(msgspec.Struct, frozen=True):
    """More of a process: personality(2), the signal at its parent's death (prctl(2)), nice(2), and the processors that it may use,
    none for all."""

    personality: Annotated[int, Meta(ge=0, le=0xFFFF_FFFF)] = 0
    pdeathsig: Annotated[int, Meta(ge=0, le=64)] = 0
    nice: Annotated[int, Meta(ge=-20, le=19)] = 0
    processors: Annotated[list[Annotated[int, Meta(ge=0, lt=MAX_PROCESSORS)]], Meta(max_length=MAX_PROCESSORS)] = []


class ThreadHead(msgspec.Struct, frozen=True):
    """A thread that is not the first: its ID, and what is its own besides its image."""

    tid: Pid
    traits: Traits = Traits()


class Head(msgspec.Struct, frozen=True):
    """What a recovered program gets besides its image. ``made``: seconds since 1970; ``limits``: (soft, hard) by number, -1: none;
    ``itimers``: struct itimerval of each of the three (setitimer(2)), as four numbers; ``threads``: but the first, in the image's
    order."""

    pid: Pid
    comm: Annotated[str, Meta(max_length=64)]
    made: Annotated[int, Meta(ge=0, le=MAX_SIZE)]
    executable: Path
    folder: Path
    umask: Annotated[int, Meta(ge=0, le=0o777)]
    files: Annotated[list[OpenFile], Meta(max_length=MAX_FILES)]
    limits: Annotated[list[tuple[Limit, Limit]], Meta(min_length=16, max_length=16)]
    itimers: Annotated[list[tuple[Offset, Offset, Offset, Offset]], Meta(min_length=3, max_length=3)]
    settings: Settings
    next_checkpoint: Annotated[int, Meta(ge=1, le=(1 << 31) - 1)] = 1
    traits: Traits = Traits()
    threads: Annotated[list[ThreadHead], Meta(max_length=MOST_THREADS)] = []


def longest(kind: int) -> int:
    """Bytes of a record."""
    if (shape := SHAPES.get(kind - FRAMES)) is not None:
        return shape.most
    return MAX_HEAD if kind == HEAD else MAX_OTHER


class CannotSave(Exception):
    """Something of the program cannot be kept; the text says what and why."""


_decoder = msgspec.json.Decoder(Head)


def as_text(path: bytes) -> str:
    return path.decode("latin-1")


def as_path(text: str) -> bytes:
    """ValueError for what is no path."""
    path = text.encode("latin-1")
    if b"\0" in path:
        raise ValueError("a path with NUL")
    return path


class Writer:
    """Writes to the descriptor ``fd``. It takes frames as a channel does; OSError as write(2).

    ``rights``: with whose the file is written, so that it counts as theirs; ``most``: bytes that it may have (RLIMIT_FSIZE)."""

    def __init__(self, fd: int, rights: Callable[[], AbstractContextManager[None]] = nullcontext, most: int = MAX_SIZE) -> None:
        self._fd = fd
        self._rights = rights
        self._most = most
        self._buffer = bytearray(MAGIC)
        self.written = 0
        self.pages = 0

    def head(self, head: bytes, *, threads: bool = False) -> None:
        """``head``: as `encoded`; ``threads``: it names some."""
        if threads:
            self._buffer[: len(MAGIC)] = OF_THREADS
        self._record(HEAD, head)

    def send(self, kind: int, pair: int, payload: Any = b"", flags: int = 0) -> None:
        """One frame of the image (`migrate.pages.PageSender`)."""
        self.pages += kind in (Kind.PAGES, Kind.RUNS)
        self._record(FRAMES + kind, payload, checked=PAGES_HEADER.size if kind == Kind.PAGES else None)

    def content(self, number: int, fd: int, size: int) -> Iterator[None]:
        """The data of a file, without what is empty, piece by piece. ``number``: its place in the head."""
        for at in range(0, size, CHUNK):  # the offset is others' too: nothing here may move it
            data = os.pread(fd, min(CHUNK, size - at), at)
            if any(data):
                self._record(CONTENT, CONTENT_HEAD.pack(number, at) + data)
            yield

    def end(self) -> None:
        """The file is whole now."""
        self._record(END, END_BODY.pack(self.pages))
        self._flush()

    def _record(self, kind: int, payload: Any, checked: int | None = None) -> None:
        size = len(payload)
        if size > longest(kind):
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        start = struct.pack("<IHH", size, kind, 0)
        crc = zlib.crc32(memoryview(payload)[:checked], zlib.crc32(start))
        self._buffer += RECORD.pack(size, kind, 0, crc)
        if size >= LARGE:
            self._flush(payload)
            return
        self._buffer += payload
        if len(self._buffer) >= BLOCK:
            self._flush()

    def _flush(self, more: Any = b"") -> None:
        """Write what is waiting, and ``more``, which need not be copied for that."""
        left = [memoryview(bytes(self._buffer)), memoryview(more).cast("B")]
        if self.written + sum(map(len, left)) > self._most:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        self._buffer = bytearray()
        self._put(left)

    def _put(self, left: list[memoryview]) -> None:
        with self._rights():
            self.written += put(self._fd, left)


def put(fd: int, parts: list[memoryview]) -> int:
    """Write all of ``parts``; how many bytes that were. OSError as write(2)."""
    left, written = [*parts], 0
    while left:
        done = os.writev(fd, left)
        written += done
        while left and done >= len(left[0]):
            done -= len(left.pop(0))
        if left:
            left[0] = left[0][done:]
    return written


def encoded(head: Head) -> bytes:
    """A head for `Writer.head`. CannotSave if no reader would take it."""
    data = msgspec.json.encode(head)
    try:
        _checked(data)
    except MALFORMED as error:
        raise CannotSave(f"something of it is out of range ({error})") from error
    return data


def _checked(data: bytes) -> Head:
    """A head in JSON, if it is one. ValueError and msgspec's errors."""
    head = _decoder.decode(data)
    for file in head.files:
        as_path(file.path)
    as_path(head.folder), as_path(head.executable)
    return head


def matched(head: Head, meta: ImageMeta) -> ImageMeta:
    """``meta``, if it is of the process and the threads of ``head``; else BadImage."""
    if (meta.pid, [thread.tid for thread in meta.threads]) != (head.pid, [thread.tid for thread in head.threads]):
        raise BadImage("the image is of other threads")
    return meta


class Reader:
    """Reads from the descriptor ``fd``, from where it stands, and goes on with those of ``more``. BadImage for whatever is no whole
    checkpoint file."""

    def __init__(self, fd: int, more: Sequence[int] = ()) -> None:
        self._fd = fd
        self._more = [*more]
        self._buffer = b""
        self._at = 0  # what of it has been taken
        magic = self._take(len(MAGIC))
        self._threads = magic == OF_THREADS
        if magic not in (MAGIC, OF_THREADS):
            raise BadImage("not a checkpoint file of this version")

    def head(self) -> Head:
        kind, payload = self._next()
        if kind != HEAD:
            raise BadImage("no head")
        try:
            head = _checked(payload)
        except MALFORMED as error:
            raise BadImage(f"malformed head: {error}") from error
        taken = [fd for file in head.files for fd in file.fds]
        if len(set(taken)) != len(taken):
            raise BadImage("a descriptor is there twice")
        if bool(head.threads) != self._threads:
            raise BadImage("threads in a file of another version")
        return head

    def records(self) -> Iterator[tuple[int, bytes]]:
        """(kind, payload) of what follows the head, up to END, which has to count the pages."""
        pages = 0
        while True:
            kind, payload = self._next()
            if kind == END:
                if payload != END_BODY.pack(pages):
                    raise BadImage("pages are missing")
                return
            pages += kind in (FRAMES + Kind.PAGES, FRAMES + Kind.RUNS, REFS)
            yield kind, payload

    def coming(self) -> list[Range]:
        """Where the pages of PAGES records lie that are still to be read. Nothing is checked; it stops at whatever it does not
        know, and the place in the file stays."""
        found: list[Range] = []
        at = os.lseek(self._fd, 0, os.SEEK_CUR) - len(self._buffer) + self._at
        for _ in range(MOST_LOOKED_AT):
            data = os.pread(self._fd, RECORD.size + PAGES_HEADER.size, at)
            if len(data) < RECORD.size:
                break
            size, kind, _, _ = RECORD.unpack_from(data)
            if kind == FRAMES + Kind.PAGES and len(data) == RECORD.size + PAGES_HEADER.size:
                addr, pages, flags, _ = PAGES_HEADER.unpack_from(data, RECORD.size)
                if not flags & ZERO and pages:
                    found.append((addr, addr + pages * PAGE))
            elif kind not in (HEAD, CONTENT, REFS, FRAMES + Kind.IMAGE, FRAMES + Kind.RUNS):
                break
            at += RECORD.size + size
        return merge(found)

    def _next(self) -> tuple[int, bytes]:
        size, kind, reserved, crc = RECORD.unpack(self._take(RECORD.size))
        if size > longest(kind) or reserved:
            raise BadImage("a record is too long")
        payload = self._take(size)
        checked = PAGES_HEADER.size if kind == FRAMES + Kind.PAGES else None
        if zlib.crc32(memoryview(payload)[:checked], zlib.crc32(struct.pack("<IHH", size, kind, 0))) != crc:
            raise BadImage("a record is damaged")
        return kind, payload

    def _take(self, size: int) -> bytes:
        if size <= len(self._buffer) - self._at:
            self._at += size
            return self._buffer[self._at - size : self._at]
        found = bytearray(self._buffer[self._at :])
        self._buffer, self._at = b"", 0
        try:
            while size - len(found) >= LARGE:
                self._read_into(found, size)
            while len(found) < size:
                self._buffer = os.read(self._fd, LARGE)
                self._at = min(size - len(found), len(self._buffer))
                found += self._buffer[: self._at]
                if not self._at:
                    self._go_on()
        except OSError as error:
            raise BadImage(str(error)) from error
        return cast("bytes", found)  # it is read only from here on

    def _read_into(self, found: bytearray, size: int) -> None:
        """Some more of the file behind ``found``, which shall have so many bytes: no room is made for what is only said to come."""
        before = len(found)
        found += bytes(min(size - before, BLOCK))
        with memoryview(found) as view:
            more = os.readv(self._fd, [view[before:]])
        if not more:
            self._go_on()
        del found[before + more :]

    def _go_on(self) -> None:
        """Go on with the next of several files."""
        if not self._more:
            raise BadImage("the file ends too early")
        self._fd = self._more.pop(0)
