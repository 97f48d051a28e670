"""Files that programs map, at their hosts: a copy in memory (memfd_create(2)) of what each file holds where it is mapped.

A body maps the copy as the program has mapped the file, so that its own kernel does for it what that of home would: pages beyond
the end raise SIGBUS, MADV_DONTNEED brings the file's contents back, a clean page shows what is written to the file. Home sends what
a copy holds ahead of the program's memory, and every change as soon as it knows of it (`home.away.mapped`): frames FILE, each with
the size of the file, and bytes of it. Bytes that were never sent are zero.
"""

from __future__ import annotations

import errno
import os
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mosfs.abi.flags import MAP_FIXED, MAP_PRIVATE, MAP_SHARED, PROT_WRITE, SECCOMP_FILTER_FLAG_SPEC_ALLOW, SECCOMP_SET_MODE_FILTER
from mosfs.abi.numbers import SYS_CLOSE_RANGE, SYS_MMAP, SYS_MPROTECT, SYS_PKEY_MPROTECT, SYS_SECCOMP
from mosfs.balance.source import Memory, Proc
from mosfs.migrate import offered
from mosfs.migrate.image import COMPRESSED, MAX_SIZE, BadImage, Vma, is_object
from mosfs.migrate.maps import Mapping
from mosfs.migrate.ranges import Range, common, merge, minus
from mosfs.trace.filter import trap_filter
from mosfs.trace.handing import hand
from mosfs.trace.inject import Calls
from mosfs.trace.layout import SCRATCH, USER_END
from mosfs.wire.room import to_keep

_PROTECTS = frozenset({SYS_MPROTECT, SYS_PKEY_MPROTECT})
#: number u32, flags u32 (COMPRESSED, OFFERED), size of the file u64, offset of the bytes that follow u64
HEADER = struct.Struct("<IIQQ")
#: WANT, LACKS: number u32, offset u64, length u64
WANT = struct.Struct("<IQQ")
#: Bytes that are looked at, and sent, together; and those of one frame at most.
BLOCK, MOST = offered.BLOCK, 256 * 1024
#: Flag of FILE: digests follow, for what has those here (`migrate.offered`).
OFFERED = 2
#: The part of a node's memory that stays free (`Headroom`), and the bytes after which we look again how much there is.
LEAVE, LOOK = 1 / 32, 4 << 20

_machine = Proc(0)


def frame(number: int, size: int, offset: int = 0, data: bytes = b"", *, near: bool = True) -> bytes:
    """Payload of FILE. ``near``: not compressed."""
    packed = b"" if near else zlib.compress(data, 1)
    if packed and len(packed) < len(data) * 7 // 8:
        return HEADER.pack(number, COMPRESSED, size, offset) + packed
    return HEADER.pack(number, 0, size, offset) + data


def offer(number: int, size: int, offset: int, name: str, digests: Sequence[int]) -> bytes:
    """Payload of FILE that has digests of blocks, from ``offset`` on, in the place of their bytes."""
    return HEADER.pack(number, OFFERED, size, offset) + offered.pack(name, digests)


class Offer(NamedTuple):
    number: int
    size: int
    offset: int
    name: str
    digests: list[int]


def read_offer(payload: bytes) -> Offer:
    """BadImage when it says nothing sensible."""
    number, _, size, offset = HEADER.unpack_from(payload)
    name, digests = offered.unpack(payload[HEADER.size :])
    if not number or size > MAX_SIZE or offset % BLOCK or offset + (len(digests) - 1) * BLOCK >= size:
        raise BadImage(f"an offer of file {number} is out of place")
    return Offer(number, size, offset, name, digests)


def is_offer(payload: bytes) -> bool:
    return len(payload) >= HEADER.size and HEADER.unpack_from(payload)[1] == OFFERED


def read_frame(payload: bytes) -> tuple[int, int, int, bytes]:
    """(number, size, offset, bytes) of FILE that is no offer; BadImage when it says nothing sensible."""
    try:
        number, flags, size, offset = HEADER.unpack_from(payload)
        data = payload[HEADER.size :]
        if flags & COMPRESSED:
            data = zlib.decompressobj().decompress(data, MOST)
    except (struct.error, zlib.error) as error:
        raise BadImage(f"malformed contents of a file: {error}") from error
    if not number or flags & ~COMPRESSED or size > MAX_SIZE or len(data) > MOST or offset + len(data) > MAX_SIZE:
        raise BadImage(f"contents of file {number} are out of place")
    return number, size, offset, data


@dataclass(slots=True)
class Copy:
    """``device`` and ``inode`` as /proc/PID/maps shows them. ``reader``: for reading only, what bodies map: there a shared mapping
    cannot be made writable, since nobody would bring home what it writes; one open file, so that neighbours can become one
    mapping."""

    fd: int
    reader: int
    inode: int
    device: str
    size: int = 0
    name: str = ""


class Headroom:
    """What a node has free for files in memory, which are no process's that the kernel could end when there is no more."""

    def __init__(self, memory: Callable[[], Memory] = _machine.memory) -> None:
        self._memory = memory
        self._unseen = LOOK  # bytes that came since we looked

    def need(self, size: int) -> None:
        """OSError ENOMEM when this node has no memory for so many bytes more."""
        self._unseen += size
        if self._unseen < LOOK or not size:
            return
        self._unseen = 0
        memory = self._memory()
        if memory.free < memory.total * LEAVE:
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))


class _Kept:
    """Files in memory, by number. OSError when there is no memory for them."""

    def __init__(self, memory: Callable[[], Memory]) -> None:
        self.of: dict[int, Copy] = {}
        self._headroom = Headroom(memory)
        self._numbers: dict[tuple[str, int], int] = {}

    def close(self) -> None:
        for number in list(self.of):
            self._close(number)

    def _close(self, number: int) -> None:
        copy = self.of.pop(number)
        self._numbers.pop((copy.device, copy.inode), None)
        os.close(copy.fd)
        os.close(copy.reader)

    def known(self, mapping: Mapping) -> tuple[int, str] | None:
        """Number and name of the file that a mapping shows, as `maps.travelling` asks for them."""
        number = self._numbers.get((mapping.device, mapping.inode), 0)
        return (number, self.of[number].name.encode("latin-1").decode("utf-8", "surrogateescape")) if number else None

    def apply(self, payload: bytes) -> tuple[int, int, int]:
        """FILE: the file has this size, and these bytes: number, offset, length."""
        number, size, offset, data = read_frame(payload)
        data = data[: max(size - offset, 0)]
        self._write(self._sized(number, size), data, offset)
        return number, offset, len(data)

    def _sized(self, number: int, size: int) -> Copy:
        copy = self.of.get(number) or self._new(number)
        if size != copy.size:
            os.ftruncate(copy.fd, size)
            copy.size = size
        return copy

    def _write(self, copy: Copy, data: bytes, offset: int) -> None:
        self._headroom.need(len(data))
        if data and os.pwrite(copy.fd, data, offset) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _new(self, number: int) -> Copy:
        fd = to_keep(os.memfd_create("file", os.MFD_CLOEXEC))
        facts = os.fstat(fd)
        try:
            reader = to_keep(self._opened(fd))
        except OSError:
            os.close(fd)
            raise
        copy = Copy(fd, reader, facts.st_ino, f"{os.major(facts.st_dev):02x}:{os.minor(facts.st_dev):02x}")
        self.of[number] = copy
        self._numbers[copy.device, copy.inode] = number
        return copy

    @staticmethod
    def _opened(fd: int) -> int:
        """What bodies map of it."""
        return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)


class Objects(_Kept):
    """Memory that the bodies of a host share: each object is one file here, which all of them map and write.

    Who has some is one of ``users``; an object that nobody has any more is closed."""

    def __init__(self, memory: Callable[[], Memory] = _machine.memory) -> None:
        super().__init__(memory)
        self.users: list[Copies] = []

    @staticmethod
    def _opened(fd: int) -> int:
        return os.dup(fd)

    def leave(self, user: Copies) -> None:
        self.users = [other for other in self.users if other is not user]
        used = {number for other in self.users for number in other.objects_of}
        for number in [number for number in self.of if number not in used]:
            self._close(number)

    def contents(self, numbers: Sequence[int], *, near: bool) -> Iterator[bytes]:
        """Payloads of FILE with all that is in those, while nobody writes there."""
        for number in numbers:
            if (copy := self.of.get(number)) is not None:
                yield frame(number, copy.size)
                for start, end in data_of(copy.fd, copy.size):
                    yield from _frames(number, copy, start, end, near)


class Copies(_Kept):
    """Those of one body, and of its children."""

    def __init__(self, memory: Callable[[], Memory] = _machine.memory, objects: Objects | None = None) -> None:
        """``memory``: how much this node has. ``objects``: the memory that its programs share."""
        super().__init__(memory)
        self._objects = objects
        self.objects_of: set[int] = set()  # the numbers of those that it maps, or has mapped
        self._lacking: dict[int, list[Range]] = {}  # of files: what was offered, and is not here
        self._asked: dict[int, list[Range]] = {}  # what LACKS has asked for
        self._watched: set[int] = set()  # bodies that have the filter of `_watch`
        self.listeners: list[list[tuple[int, int, int]]] = []  # of senders: (number, offset, length) of what has come

    def close(self) -> None:
        super().close()
        if self._objects is not None and self.objects_of:
            self._objects.leave(self)
            self.objects_of.clear()

    def has(self, number: int) -> bool:
        return number in self.of

    def name(self, number: int, name: str) -> None:
        """What the file is called at home."""
        if number in self.of:
            self.of[number].name = name

    def known(self, mapping: Mapping) -> tuple[int, str] | None:
        found = super().known(mapping)
        return self._objects.known(mapping) if found is None and self._objects is not None else found

    def apply(self, payload: bytes) -> tuple[int, int, int]:
        number = HEADER.unpack_from(payload.ljust(HEADER.size))[0]
        if is_object(number) and self._objects is not None:
            if not self.objects_of:
                self._objects.users.append(self)
            self.objects_of.add(number)
            return self._objects.apply(payload)
        if is_offer(payload):
            came = self._offered(payload)
        else:
            came = number, offset, length = super().apply(payload)
            self.forgo(number, (offset, offset + length))
        for news in self.listeners:
            news.append(came)
        return came

    def _offered(self, payload: bytes) -> tuple[int, int, int]:
        """What this node has of an offer is taken from there, the rest is lacking."""
        number, size, offset, name, digests = read_offer(payload)
        copy = self._sized(number, size)
        lacking = self._lacking.pop(number, [])
        for at, data in offered.taken(name, size, offset, digests):
            if data is None:
                lacking.append((at, at + BLOCK))
            else:
                self._write(copy, data, at)
        if lacking:
            self._lacking[number] = merge(lacking)
        return number, offset, min(len(digests) * BLOCK, size - offset)

    def lacks(self, number: int, offset: int, length: int) -> Range | None:
        """From the first to the last block with bytes of this part of a file that must be asked for; None: all is here."""
        found = [piece for piece in self._lacking.get(number, []) if common([piece], [(offset, offset + length)])]
        return (found[0][0], found[-1][1]) if found else None

    def to_ask(self) -> list[bytes]:
        """Payloads of LACKS with what is not here and was not asked for yet."""
        found = []
        for number, parts in self._lacking.items():
            asked = self._asked.get(number, [])
            found += [WANT.pack(number, start, end - start) for start, end in minus(parts, asked)]
            self._asked[number] = merge([*asked, *parts])
        return found

    def answered(self, payload: bytes) -> None:
        """LACKS is back."""
        number, offset, length = WANT.unpack(payload)
        _take_out(self._asked, number, (offset, offset + length))
        self.forgo(number, (offset, offset + length))

    @property
    def settled(self) -> bool:
        """Whether all that was offered is here, and nothing about it is under way."""
        return not self._lacking and not self._asked

    def forgo(self, number: int, part: Range) -> None:
        """This part has come, as far as home still has it."""
        _take_out(self._lacking, number, part)

    def _copy(self, number: int) -> Copy | None:
        return self._objects.of.get(number) if is_object(number) and self._objects is not None else self.of.get(number)

    # ------------------------------------------------------------------ memory of the body

    def place(self, call: Calls, vmas: Sequence[Vma]) -> None:
        """Map what an image tells. OSError when there is no room."""
        numbers = sorted({vma.file for vma in vmas})
        if not numbers:
            return
        copies = {number: copy for number in numbers if (copy := self._copy(number)) is not None}
        if missing := [number for number in numbers if number not in copies]:
            raise BadImage(f"mappings of files {missing[:5]}, whose contents have not come")
        self._watch(call, vmas)
        theirs = dict(zip(numbers, hand(call, [copies[number].reader for number in numbers])))
        for vma in vmas:
            copies[vma.file].name = vma.name
        once = once_writable(vmas)
        must_all(call, [
            (SYS_MMAP, vma.start, vma.end - vma.start, vma.prot | (PROT_WRITE if vma.start in once else 0),
             MAP_FIXED | (MAP_SHARED if vma.shared else MAP_PRIVATE), theirs[vma.file], vma.offset)
            for vma in vmas
        ])  # fmt: skip
        must_all(call, [(SYS_MPROTECT, vma.start, vma.end - vma.start, vma.prot) for vma in vmas if vma.start in once])
        call.must(SYS_CLOSE_RANGE, 0, 0xFFFFFFFF, 0)  # a body has no others

    def beyond(self) -> list[Range]:
        """As `rebuild.Files`: nobody changes copies but we."""
        return []

    def map(self, call: Calls, number: int, vma: Vma) -> int:
        """One mapping more; its address. OSError."""
        self._watch(call, [vma])
        theirs = hand(call, [self.of[number].reader])[0]
        how = MAP_FIXED | (MAP_SHARED if vma.shared else MAP_PRIVATE)
        try:
            return call.map(vma.start, vma.end - vma.start, vma.prot, how, theirs, vma.offset)
        finally:
            call.must(SYS_CLOSE_RANGE, theirs, theirs, 0)

    def _watch(self, call: Calls, vmas: Sequence[Vma]) -> None:
        """From its first shared mapping on, a body stops where it would make memory writable (`guest.mapping`)."""
        if call.task.pid in self._watched or not any(vma.shared and not is_object(vma.file) for vma in vmas):
            return
        program = trap_filter(_PROTECTS, tuple((nr, (2, PROT_WRITE, PROT_WRITE)) for nr in sorted(_PROTECTS)))
        head = struct.pack("<HxxxxxxQ", len(program) // 8, SCRATCH + 16)
        call.task.write(SCRATCH, head + program)
        call.must(SYS_SECCOMP, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, SCRATCH)
        self._watched.add(call.task.pid)


def _take_out(parts: dict[int, list[Range]], number: int, part: Range) -> None:
    """``part`` is no more among those of a file; a file without any has no entry."""
    if left := minus(parts.pop(number, []), [part]):
        parts[number] = left


def once_writable(vmas: Sequence[Vma]) -> set[int]:
    """Starts of mappings that must have been writable for a moment, so that the kernel does not make one of neighbours that were
    two (VM_ACCOUNT): as the part of a program that its loader has relocated and closed, behind the constants.

    ``vmas``: sorted. Sources: mm/mmap.c and mm/mprotect.c of Linux."""
    found: set[int] = set()
    last: Vma | None = None
    for vma in vmas:
        if last is not None and last.start not in found and not vma.shared | vma.prot & PROT_WRITE and _alike(last, vma):
            found.add(vma.start)
        last = vma
    return found


def _alike(one: Vma, next_one: Vma) -> bool:
    """Would they be one mapping, if both were made as they are?"""
    there = next_one.start, next_one.offset, next_one.file, next_one.prot, next_one.shared
    return there == (one.end, one.offset + one.end - one.start, one.file, one.prot, one.shared)


class Sender:
    """Sends all copies of a body to its next host: what it can while the body runs, and the rest when it stands still."""

    def __init__(self, copies: Copies, *, near: bool) -> None:
        self._copies = copies
        self._near = near
        self._news: list[tuple[int, int, int]] = []
        copies.listeners.append(self._news)
        self._all = self._everything()

    def close(self) -> None:
        self._copies.listeners = [news for news in self._copies.listeners if news is not self._news]

    def ahead(self) -> Iterator[bytes]:
        """Payloads of FILE with all that is here."""
        yield from self._all

    def rest(self) -> Iterator[bytes]:
        """What has not been sent, or was told anew since."""
        yield from self._all
        for number, offset, length in self._news:
            copy = self._copies.of[number]
            yield frame(number, copy.size)
            yield from _frames(number, copy, offset, min(offset + length, copy.size), self._near)
        self._news.clear()

    def _everything(self) -> Iterator[bytes]:
        for number, copy in list(self._copies.of.items()):
            yield frame(number, copy.size)
            for start, end in data_of(copy.fd, copy.size):
                yield from _frames(number, copy, start, end, self._near)


def _frames(number: int, copy: Copy, start: int, end: int, near: bool) -> Iterator[bytes]:
    for at in range(start, end, MOST):
        yield frame(number, copy.size, at, os.pread(copy.fd, min(MOST, end - at), at), near=near)


def data_of(fd: int, end: int, start: int = 0) -> Iterator[tuple[int, int]]:
    """Where an open file has data between ``start`` and ``end`` (lseek(2), SEEK_DATA), in whole blocks but for its end."""
    while start < end:
        try:
            data = os.lseek(fd, start, os.SEEK_DATA)
            hole = os.lseek(fd, data, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:  # only a hole is left
                return
            data, hole = start, end
        if data >= end:
            return
        first = max(data // BLOCK * BLOCK, start)
        last = min((hole + BLOCK - 1) // BLOCK * BLOCK, end)
        yield first, max(last, first + 1)
        start = max(last, first + 1)


def must_all(call: Calls, calls: Sequence[tuple[int, ...]]) -> None:
    """Make all of them; OSError when one has failed."""
    for result in call.many(list(calls)):
        if -4096 < result < 0:
            raise OSError(-result, os.strerror(-result))


def fits(start: int, end: int, low: int) -> bool:
    """Whether a mapping may be there at all; ``low`` is the end of the low region."""
    return low <= start < end <= USER_END and not (start | end) & 4095
