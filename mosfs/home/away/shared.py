"""Memory that programs of a tree share and write (mosrun --share-memory; docs/design/shared-memory.md).

Such memory is an *object*: a file in memory of ours, made when a program maps new shared memory, of which it and its children have
mappings and nobody has a descriptor. So an object is known by its device and inode, whoever maps it, and can be mapped again by
whom it was not. While its programs are away their node has the contents, and ours has none: deputies keep the mappings, closed.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from mosfs.abi.flags import MAP_ANONYMOUS, MAP_HUGETLB, MAP_SHARED, MAP_TYPE
from mosfs.abi.numbers import SYS_CLOSE, SYS_MMAP
from mosfs.abi.reasons import Reason
from mosfs.home.ports import Tree
from mosfs.home.process.descriptors import hand_over
from mosfs.home.process.link import Link
from mosfs.home.process.move import Move
from mosfs.home.process.program import Program
from mosfs.home.process.registers import arguments
from mosfs.migrate.filecopy import MOST, data_of, frame, read_frame
from mosfs.migrate.image import MAX_SIZE, OBJECTS, BadImage, Vma, is_object
from mosfs.migrate.maps import CannotMove, Mapping, file_maps
from mosfs.native.registers import Registers
from mosfs.trace.inject import Calls
from mosfs.trace.layout import PAGE, USER_END
from mosfs.trace.task import TaskGone
from mosfs.wire.frames import MOST_OBJECTS, SHARES_SINCE, Kind
from mosfs.wire.room import to_keep

#: How maps calls such memory natively.
NAME = "/dev/zero (deleted)"
#: Looking for objects that nobody maps any more may take this part of the time, but is not done more often than once a second.
SHARE, OFTEN = 0.01, 1.0


@dataclass(frozen=True, slots=True)
class Object:
    """``key``: device and inode as /proc/PID/maps shows them."""

    number: int
    fd: int
    size: int
    key: tuple[str, int]


class SharedMemory:
    def __init__(self, tracer: Tree) -> None:
        self.tracer = tracer
        self._objects: dict[int, Object] = {}
        self._keys: dict[tuple[str, int], Object] = {}
        self._last = OBJECTS
        self._look_at = 0.0

    # ------------------------------------------------------------------ objects

    def maps(self, p: Program, args: Sequence[int]) -> bool:
        """Whether mmap(2) with these arguments makes new shared memory, in a program that may have some."""
        _, length, _, flags, _, _ = args
        wanted = flags & MAP_ANONYMOUS and flags & MAP_TYPE == MAP_SHARED and not flags & MAP_HUGETLB and 0 < length <= USER_END
        if not wanted or p.process.filtered:
            return False
        return self.tracer.family.process(p).settings.share_memory == 1

    def mapped(self, p: Program, regs: Registers) -> int | None:
        """Make that call, of a program at home: what it returns. None if we cannot: what can be made stays at home."""
        addr, length, prot, flags, _, _ = arguments(regs)
        try:
            made = self._new((length + PAGE - 1) & -PAGE)
        except OSError as error:
            self.tracer.mosd.log(f"pid={p.pid} its shared memory stays at home: {error.strerror}", 30)
            return None
        try:
            with Calls(p.task) as call:
                theirs = hand_over(call, made.fd, cloexec=True, brief=True)
                result = call(SYS_MMAP, addr, length, prot, flags & ~MAP_ANONYMOUS, theirs, 0)
                call(SYS_CLOSE, theirs)
        except OSError:
            self._close(made)
            return None
        if -4096 < result < 0:
            self._close(made)
        else:
            self._shares(p)
        return result

    def _shares(self, p: Program) -> None:
        """It has such memory now, and so has who lends it its own (vfork(2))."""
        q: Program | None = p
        while q is not None:
            q.process.shares = True
            q = self.tracer.programs.get(q.kin.vfork_parent)

    def _new(self, size: int) -> Object:
        if len(self._objects) >= MOST_OBJECTS:
            self._forget_unused()
            if len(self._objects) >= MOST_OBJECTS:
                raise OSError(errno.EMFILE, f"the tree has {MOST_OBJECTS} pieces of it")
        fd = to_keep(os.memfd_create("shared", os.MFD_CLOEXEC))
        try:
            os.ftruncate(fd, size)
        except OSError:
            os.close(fd)
            raise
        facts = os.fstat(fd)
        self._last += 1
        made = Object(self._last, fd, size, (f"{os.major(facts.st_dev):02x}:{os.minor(facts.st_dev):02x}", facts.st_ino))
        self._objects[made.number] = self._keys[made.key] = made
        return made

    def _close(self, made: Object) -> None:
        del self._objects[made.number], self._keys[made.key]
        os.close(made.fd)

    def tick(self) -> None:
        """Once a second: memory that nobody maps any more is given up."""
        if not self._objects or time.monotonic() < self._look_at:
            return
        began = time.monotonic()
        self._forget_unused()
        now = time.monotonic()
        self._look_at = now + max(OFTEN, (now - began) / SHARE)

    def _forget_unused(self) -> None:
        programs = list(self.tracer.programs.values())
        used = {number for p in programs for number in self.of(p)}
        used.update(number for p in programs if p.move is not None for number in (*p.move.stood.brings, *p.move.files))
        for made in [made for made in self._objects.values() if made.number not in used]:
            self._close(made)

    def number(self, mapping: Mapping) -> int:
        """The number of the object that a mapping shows, or 0."""
        found = self._keys.get((mapping.device, mapping.inode)) if self._keys else None
        return found.number if found is not None else 0

    def fd(self, number: int) -> int:
        """Our descriptor of an object."""
        return self._objects[number].fd

    def of(self, p: Program) -> set[int]:
        """The objects that ``p`` has, or may have."""
        if not self._objects or not p.process.shares:
            return set()
        known = {number for number in p.body.files if is_object(number)}
        if p.away:
            return known
        try:
            return known | {number for mapping in file_maps(p.pid) if (number := self.number(mapping))}
        except (TaskGone, CannotMove):
            return known

    def group(self, p: Program) -> list[Program]:
        """The processes that share memory with ``p``, directly or by others, and itself, which is the first."""
        p = self.tracer.family.process(p)
        found, objects = [p], self.of(p)
        if not objects:
            return found
        left = [(q, self.of(q)) for q in self.tracer.programs.values() if q is not p and not q.kin.leader and q.process.shares]
        while joined := [(q, its) for q, its in left if not objects.isdisjoint(its)]:
            found += [q for q, _ in joined]
            objects = objects.union(*(its for _, its in joined))
            left = [pair for pair in left if pair not in joined]
        return found

    # ------------------------------------------------------------------ leaving

    def leaves(self, p: Program, move: Move | None, vmas: Iterable[Vma]) -> None:
        """It stands still, and shall leave with these mappings. CannotMove, if it cannot with what it shares."""
        if not any(is_object(vma.file) for vma in vmas):
            return
        if move is None or move.link is None or move.link.frames < SHARES_SINCE:
            raise CannotMove(f"{Reason.MEMORY_SHARED}, and the MOSIX of that node is too old for it")
        if not self.tracer.groups.joins(p):
            raise CannotMove(self.tracer.groups.why_not(p))

    def announce(self, p: Program, link: Link, vmas: Iterable[Vma], *, contents: bool) -> None:
        """Tell of the objects that ``vmas`` show, which must be there before the image; ``contents``: with what is in them."""
        numbers = sorted({vma.file for vma in vmas if is_object(vma.file)})
        for made in [self._objects[number] for number in numbers]:
            link.channel.send(Kind.FILE, p.pid, frame(made.number, made.size))
        if contents:
            self.send(p, link, numbers)

    def send(self, p: Program, link: Link, numbers: Iterable[int]) -> None:
        """Send the contents of these objects."""
        for number in sorted(numbers):
            if (made := self._objects.get(number)) is not None:
                for payload in self._contents(made, near=link.near):
                    link.channel.send(Kind.FILE, p.pid, payload)

    @staticmethod
    def _contents(made: Object, *, near: bool) -> Iterator[bytes]:
        for start, end in data_of(made.fd, made.size):
            for at in range(start, end, MOST):
                yield frame(made.number, made.size, at, os.pread(made.fd, min(MOST, end - at), at), near=near)

    def gone(self, numbers: Iterable[int]) -> None:
        """Their contents are elsewhere now: they take no memory here."""
        for number in numbers:
            if (made := self._objects.get(number)) is not None:
                os.ftruncate(made.fd, 0)
                os.ftruncate(made.fd, made.size)

    # ------------------------------------------------------------------ coming home

    def size(self, numbers: Iterable[int]) -> int:
        """Bytes that these objects have together."""
        return sum(self._objects[number].size for number in numbers if number in self._objects)

    def take(self, numbers: Iterable[int], payload: bytes) -> int:
        """FILE of a program that comes home: a part of the contents of one of these objects, and which. BadImage; OSError."""
        number, size, offset, data = read_frame(payload)
        made = self._objects.get(number) if number in numbers else None
        if made is None or size != made.size or offset + len(data) > min(made.size, MAX_SIZE):
            raise BadImage("contents of memory that it does not share")
        if not data:  # the first of it
            self.gone([number])
        elif os.pwrite(made.fd, data, offset) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return number
