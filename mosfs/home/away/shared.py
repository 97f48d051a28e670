"""Memory that programs of a tree share and write (mosrun --share-memory; docs/design/shared-memory.md).

Such memory is an *object*: a file in memory of ours, made when a program maps new shared memory, of which it and its children have
mappings and nobody has a descriptor; or a file in /dev/shm that a program maps, which we have opened for ourselves, and map in the
place of what it has opened. So an object is known by its device and inode, whoever maps it, and can be mapped again by
whom it was not. While its programs are away their node has the contents, and ours has none: deputies keep the mappings, closed.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterable, Iterator, Sequence

from mosfs.abi.args import as_c_int
from mosfs.abi.flags import MAP_ANONYMOUS, MAP_HUGETLB, MAP_SHARED, MAP_TYPE, PROT_WRITE
from mosfs.abi.numbers import SYS_CLOSE, SYS_MMAP
from mosfs.abi.reasons import Reason
from mosfs.home.ports import Tree
from mosfs.home.process.descriptors import access_of, hand_over
from mosfs.home.process.link import Link
from mosfs.home.process.move import Move
from mosfs.home.process.objects import Object, Store, why
from mosfs.home.process.program import Program
from mosfs.home.process.registers import arguments
from mosfs.migrate.filecopy import MOST, Headroom, data_of, frame, read_frame
from mosfs.migrate.image import MAX_SIZE, BadImage, Vma, is_object
from mosfs.migrate.maps import CannotMove, file_maps
from mosfs.migrate.rebuild import NoRoom
from mosfs.native.registers import Registers
from mosfs.trace.inject import Calls
from mosfs.trace.layout import PAGE, USER_END
from mosfs.trace.taken import take
from mosfs.trace.task import TaskGone
from mosfs.wire.frames import SHARES_SINCE, Kind

#: Looking for objects that nobody maps any more may take this part of the time, but is not done more often than once a second.
SHARE, OFTEN = 0.01, 1.0


class SharedMemory:
    def __init__(self, tracer: Tree) -> None:
        self.tracer = tracer
        self.store = Store(self._forget_unused)
        self.headroom = Headroom()
        self._look_at = 0.0

    # ------------------------------------------------------------------ objects

    def maps(self, p: Program, args: Sequence[int]) -> bool:
        """Whether mmap(2) with these arguments makes new shared memory, or shows such a file, in a program that may have some."""
        _, length, prot, flags, fd, _ = args
        if p.process.filtered or not 0 < length <= USER_END or flags & MAP_HUGETLB:
            return False
        anonymous = bool(flags & MAP_ANONYMOUS)
        wanted = flags & MAP_TYPE == MAP_SHARED if anonymous else bool(flags & MAP_SHARED and prot & PROT_WRITE)
        if not wanted or self.tracer.family.process(p).settings.share_memory != 1:
            return False
        return anonymous or self._in_memory(p, as_c_int(fd))

    def _in_memory(self, p: Program, fd: int) -> bool:
        """Whether a descriptor is one of a file in memory, but not of memfd_create(2): who has that open no kernel tells."""
        if self.store.shown_by(p.pid, fd) is not None and p.away:
            return True
        if access_of(p.pid, fd) != os.O_RDWR:
            return False
        try:
            os.close(take(p.pid, fd, self.store.is_in_memory))
        except OSError:
            return False
        return True

    def mapped(self, p: Program, regs: Registers) -> int | None:
        """Make that call, of a program at home: what it returns. None if it is nothing that can move."""
        addr, length, prot, flags, fd, offset = arguments(regs)
        anonymous = bool(flags & MAP_ANONYMOUS)
        try:
            made = self.store.new((length + PAGE - 1) & -PAGE) if anonymous else self.store.open(p.pid, as_c_int(fd))
        except OSError as error:
            self.tracer.mosd.log(f"pid={p.pid} its shared memory stays at home: {error.strerror}", 30)
            return None
        try:
            with Calls(p.task) as call:
                theirs = hand_over(call, made.fd, cloexec=True, brief=True)
                result = call(SYS_MMAP, addr, length, prot, flags & ~MAP_ANONYMOUS, theirs, 0 if anonymous else offset)
                call(SYS_CLOSE, theirs)
        except OSError:
            result = -errno.ENOMEM
        if not -4096 < result < 0:
            self._shares(p)
        elif anonymous:  # else others may map it, or it is given up soon
            self._close(made)
        return result

    def _shares(self, p: Program) -> None:
        """It has such memory now, and so has who lends it its own (vfork(2))."""
        q: Program | None = p
        while q is not None:
            q.process.shares = True
            q = self.tracer.programs.get(q.kin.vfork_parent)

    def tick(self) -> None:
        """Once a second: memory that nobody maps any more is given up."""
        if not self.store or time.monotonic() < self._look_at:
            return
        began = time.monotonic()
        self._forget_unused()
        now = time.monotonic()
        self._look_at = now + max(OFTEN, (now - began) / SHARE)

    def _close(self, made: Object) -> None:
        self.tracer.withheld.forget(made)
        self.store.close(made)

    def _forget_unused(self) -> None:
        programs = list(self.tracer.programs.values())
        used = {number for p in programs for number in self.of(p)} | self.tracer.withheld.numbers()
        used.update(number for p in programs if p.move is not None for number in (*p.move.stood.brings, *p.move.files))
        for made in [made for made in self.store.all() if made.number not in used]:
            self._close(made)

    def of(self, p: Program) -> set[int]:
        """The objects that ``p`` has, or may have."""
        if not self.store or not p.process.shares:
            return set()
        known = {number for number in p.body.files if is_object(number)}
        if p.away:
            return known
        try:
            return known | {number for mapping in file_maps(p.pid) if (number := self.store.number(mapping))}
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

    def obstacle(self, group: Iterable[Program]) -> str:
        """Why what these programs share cannot leave home; "" if it can, as far as is known before they stand."""
        numbers: set[int] = set().union(*(self.of(p) for p in group)) if self.store else set()
        found = ((made, made.obstacle()) for made in self.store.objects(numbers))
        return next((why(made, reason) for made, reason in found if reason), "")

    def leaves(self, p: Program, call: Calls, vmas: Iterable[Vma]) -> None:
        """It stands still, and shall leave with these mappings. CannotMove, if it cannot with what it shares; OSError."""
        if any(is_object(vma.file) for vma in vmas):
            self._may_leave(p, p.move)
        self.tracer.withheld.withhold(p, call)

    def _may_leave(self, p: Program, move: Move | None) -> None:
        if move is None or move.link is None or move.link.frames < SHARES_SINCE:
            raise CannotMove(f"{Reason.MEMORY_SHARED}, and the MOSIX of that node is too old for it")
        if not self.tracer.groups.joins(p):
            raise CannotMove(self.tracer.groups.why_not(p))

    def announce(self, p: Program, link: Link, vmas: Iterable[Vma], *, contents: bool) -> None:
        """Tell of the objects that ``vmas`` show, which must be there before the image; ``contents``: with what is in them."""
        numbers = {vma.file for vma in vmas if is_object(vma.file)}
        for made in self.store.objects(numbers):
            made.look()
            link.channel.send(Kind.FILE, p.pid, frame(made.number, made.whole))
        if contents:
            self.send(p, link, numbers)

    def send(self, p: Program, link: Link, numbers: Iterable[int]) -> None:
        """Send the contents of these objects."""
        for made in self.store.objects(numbers):
            for payload in self._contents(made, near=link.near):
                link.channel.send(Kind.FILE, p.pid, payload)

    @staticmethod
    def _contents(made: Object, *, near: bool) -> Iterator[bytes]:
        made.look()
        yield frame(made.number, made.whole)
        for start, end in data_of(made.fd, made.size):
            for at in range(start, end, MOST):
                yield frame(made.number, made.whole, at, os.pread(made.fd, min(MOST, end - at), at), near=near)
        if data := made.behind():
            yield frame(made.number, made.whole, made.size, data, near=near)

    def gone(self, numbers: Iterable[int]) -> None:
        """Their contents are elsewhere now."""
        for made in self.store.objects(numbers):
            made.empty()

    # ------------------------------------------------------------------ coming home

    def take(self, numbers: Iterable[int], payload: bytes) -> int:
        """FILE of a program that comes home: a part of the contents of one of these objects, and which. BadImage; NoRoom;
        OSError."""
        number, size, offset, data = read_frame(payload)
        made = next(iter(self.store.objects([number])), None) if number in numbers else None
        if made is None or size != made.whole or offset + len(data) > min(made.whole, MAX_SIZE):
            raise BadImage("contents of memory that it does not share")
        if data:
            try:
                self.headroom.need(len(data))
            except OSError as error:
                raise NoRoom("no memory for what it shares") from error
            made.write(data, offset)
        else:  # the first of it
            made.empty()
        return number
