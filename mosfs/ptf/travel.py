"""Private files on the wire: contents in chunks, before the image; then, in the image, a manifest of what they are.

::

    PRIVATE    number u64, offset u64, flags u32, pad u32, xxh3_64 of the data u64; the data
               FIRST among the flags: what came before of this file is void

So contents may be sent while the program still runs, and a file that was changed since is simply sent again. What counts is the
manifest: files that it does not name are dropped, sizes are as it says.
"""

from __future__ import annotations

import errno
import os
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Annotated

import msgspec
import xxhash

from mosfs.ptf.directories import MAX_DIRECTORIES
from mosfs.ptf.store import Description, File, Quota, Room, Store, extents, reopened, room
from mosfs.wire.fields import MALFORMED, RawPath
from mosfs.wire.files import write_all

CHUNK = 256 * 1024
#: What a file takes is counted in these.
BLOCK = 4096
#: Bytes of changed files that are little enough to stop the program, and the most rounds before that.
LITTLE, ROUNDS = 8 << 20, 3
HEADER = struct.Struct("<QQIIQ")
FIRST = 1
#: No size, position or time is so big.
LARGEST = 1 << 62
#: A file whose last change is not older than this may be changed again without a new time of modification, ns.
GRAIN = 50_000_000

#: What a file looked like when it was sent; None never equals a later look.
Mark = tuple[int, int, int]


class BadFiles(Exception):
    """What arrived makes no sense; the text says why."""


class NoSpace(Exception):
    """What arrived does not fit here."""


#: Of a manifest: bytes, and entries of a list. What is decoded takes many times as much memory.
MAX_MANIFEST, MOST = 16 << 20, 1 << 17
Fds = Annotated[list[int], msgspec.Meta(max_length=MOST)]


class FileRecord(msgspec.Struct, array_like=True, frozen=True):
    number: int
    name: RawPath | None
    mode: int
    size: int
    accessed: int
    modified: int


class OpenRecord(msgspec.Struct, array_like=True, frozen=True):
    """An open file description: its file, status flags, position, and the descriptors that share it."""

    number: int
    flags: int
    position: int
    fds: Fds


class Opening(msgspec.Struct, array_like=True, frozen=True):
    """The program is inside the open of this file; ``made``: it exists only if that succeeds."""

    number: int
    flags: int
    made: bool


class Manifest(msgspec.Struct, array_like=True):
    """``limit``: the home-node's, in bytes."""

    directories: Annotated[list[RawPath], msgspec.Meta(max_length=MAX_DIRECTORIES)]
    limit: int
    umask: int
    next_number: int
    files: Annotated[list[FileRecord], msgspec.Meta(max_length=MOST)]
    opened: Annotated[list[OpenRecord], msgspec.Meta(max_length=MOST)]
    opening: Opening | None = None


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Manifest)


def encode(manifest: Manifest) -> bytes:
    return _encoder.encode(manifest)


def decode(data: bytes) -> Manifest:
    """The manifest, checked: `BadFiles` otherwise."""
    if len(data) > MAX_MANIFEST:
        raise BadFiles("too many private files")
    try:
        manifest = _decoder.decode(data)
    except MALFORMED as error:
        raise BadFiles(f"malformed manifest: {error}") from error
    numbers = [manifest.limit, manifest.umask, manifest.next_number]
    for file in manifest.files:
        numbers += [file.number, file.mode, file.size, file.accessed, file.modified]
    for entry in manifest.opened:
        numbers += [entry.number, entry.flags, entry.position, *entry.fds]
    if not all(0 <= number < LARGEST for number in numbers):
        raise BadFiles("a number in the manifest is out of range")
    return manifest


def manifest_of(store: Store, opened: list[OpenRecord], limit: int, opening: Opening | None = None) -> Manifest:
    files = []
    for file in store.files.values():
        found = file.stat()
        files.append(FileRecord(file.number, file.name, file.mode, found.st_size, found.st_atime_ns, found.st_mtime_ns))
    return Manifest(list(store.directories), limit, store.umask, store.next_number, files, opened, opening)


def records(store: Store) -> list[OpenRecord]:
    """The open files of a guest."""
    shared: dict[int, tuple[Description, list[int]]] = {}
    for fd, description in store.descriptors.items():
        shared.setdefault(id(description), (description, []))[1].append(fd)
    return [OpenRecord(d.file.number, d.flags, d.position, fds) for d, fds in shared.values()]


# --------------------------------------------------------------------------- sending


def mark(file: File) -> Mark | None:
    found = file.stat()
    if time.time_ns() - found.st_mtime_ns < GRAIN:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


@dataclass(slots=True)
class Sender:
    """Sends files of ``store`` by ``send(payload)``, and knows what it has sent."""

    store: Store
    send: Callable[[bytes], None]
    sent: dict[int, Mark | None] = field(default_factory=dict)

    def unsent(self) -> list[File]:
        """What was made or changed since it was sent."""
        found = []
        for file in self.store.files.values():
            known = self.sent.get(file.number)
            if known is None or known != mark(file):
                found.append(file)
        return found

    def step(self, files: list[File]) -> Iterator[int]:
        """Send ``files``; yields the bytes of each chunk."""
        for file in files:
            if file.number not in self.store.files:
                continue  # unlinked meanwhile
            fd = os.dup(file.fd)
            try:
                seen = mark(file)
                yield self._chunk(file.number, 0, b"", FIRST)
                for start, end in extents(fd):
                    for at in range(start, end, CHUNK):
                        data = os.pread(fd, min(CHUNK, end - at), at)
                        if data:
                            yield self._chunk(file.number, at, data, 0)
                self.sent[file.number] = seen
            finally:
                os.close(fd)

    def rounds(self) -> Iterator[int]:
        """Send while the program runs, until there is little left or no progress; as `step`."""
        for _ in range(ROUNDS):
            files = self.unsent()
            if sum(file.used() for file in files) < LITTLE:
                return
            yield from self.step(files)

    def rest(self) -> None:
        """Send all that the other side does not have yet. Precondition: nothing changes meanwhile."""
        for _ in self.step(self.unsent()):
            pass

    def _chunk(self, number: int, offset: int, data: bytes, flags: int) -> int:
        self.send(HEADER.pack(number, offset, flags, 0, xxhash.xxh3_64_intdigest(data)) + data)
        return len(data)


# --------------------------------------------------------------------------- receiving


def begins(payload: bytes) -> bool:
    """Is this PRIVATE frame the first one of a file?"""
    return len(payload) >= HEADER.size and bool(HEADER.unpack_from(payload)[2] & FIRST)


class Spool:
    """Files that arrive. When they do not fit, ``failed`` says so and the rest is ignored; `finish` raises it."""

    def __init__(self, quota: Quota) -> None:
        self.store = Store((), quota)
        self.failed: Exception | None = None
        self._sizes: dict[int, int] = {}
        self._total = 0

    def feed(self, payload: bytes) -> bool:
        """One frame. False: it has just failed."""
        if self.failed is not None:
            return True
        try:
            self._feed(payload)
            return True
        except OSError as error:
            self.failed = NoSpace(error.strerror or "no space")
        except (BadFiles, NoSpace) as error:
            self.failed = error
        self.store.close()
        return False

    def _feed(self, payload: bytes) -> None:
        if len(payload) < HEADER.size:
            raise BadFiles("malformed chunk")
        number, offset, flags, _, digest = HEADER.unpack_from(payload)
        data = memoryview(payload)[HEADER.size :]
        if xxhash.xxh3_64_intdigest(data) != digest or offset + len(data) >= LARGEST:
            raise BadFiles(f"private file {number} is damaged")
        if flags & FIRST:
            self._begin(number)
        file = self.store.files.get(number)
        if file is None:
            raise BadFiles(f"private file {number} has no beginning")
        size = self._sizes[number] + _blocks(offset, len(data))
        growth = max(size, 0) - max(self._sizes[number], 0)
        match room(self._total, growth, self.store.on_disk, self.store.quota):
            case Room.FULL:
                raise NoSpace("too many private files")
            case Room.SPILL:
                for _, old in self.store.to_disk():
                    os.close(old)
        write_all(file.fd, data, offset)
        self._sizes[number] = size
        self._total += growth

    def _begin(self, number: int) -> None:
        file = self.store.files.get(number)
        if file is None:
            self.store.files[number] = File(number, self.store.backing(), 0, None)
        else:
            os.ftruncate(file.fd, 0)
        self._total -= max(self._sizes.get(number, 0), 0)
        self._sizes[number] = 1 - BLOCK  # its last block counts as what is in it, for which that is enough

    def finish(self, manifest: Manifest, *, descriptors: bool) -> Store:
        """The store that ``manifest`` describes; it is the caller's from now on. NoSpace, BadFiles.

        ``descriptors``: set up what the program has open (for a guest).
        """
        if self.failed is not None:
            raise self.failed
        store = self.store
        store.directories, store.umask = tuple(manifest.directories), manifest.umask & 0o777
        store.next_number = manifest.next_number
        named = {record.number for record in manifest.files}
        for number in store.files.keys() - named:
            os.close(store.files.pop(number).fd)
        for record in manifest.files:
            self._complete(store, record)
        if descriptors:
            for entry in manifest.opened:
                file = store.files.get(entry.number)
                if file is None:
                    raise BadFiles(f"file {entry.number} is open but not there")
                description = Description(file, entry.flags, entry.position)
                for fd in entry.fds:
                    store.descriptors[fd] = description
        return store

    def _complete(self, store: Store, record: FileRecord) -> None:
        file = store.files.get(record.number)
        if file is None:
            raise BadFiles(f"private file {record.number} is missing")
        file.mode = record.mode & 0o7777
        if record.name is not None:
            store.link(record.name, file)
        os.ftruncate(file.fd, record.size)
        os.utime(file.fd, ns=(record.accessed, record.modified))

    def close(self) -> None:
        self.store.close()


def _blocks(offset: int, size: int) -> int:
    """Bytes that ``size`` bytes at ``offset`` take: bytes here and there cost whole blocks."""
    return (offset + size + BLOCK - 1) // BLOCK * BLOCK - offset // BLOCK * BLOCK if size else 0


def describe_opened(store: Store, opening: Opening, fd: int) -> None:
    """The open that the program was in has given it ``fd``."""
    store.describe(fd, Description(store.files[opening.number], opening.flags))


def described(store: Store, entry: OpenRecord) -> int:
    """A new open file description for ``entry``: a descriptor of ours."""
    file = store.files.get(entry.number)
    if file is None:
        raise OSError(errno.EBADF, "")
    return reopened(file, entry.flags, entry.position)
