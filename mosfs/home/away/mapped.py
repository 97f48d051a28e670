"""Files that programs map, while they are away: the tracer keeps each one open, watches it, and tells the hosts what changes.

The deputy keeps the mappings themselves, unreadable, where the program has them: so they are what they were when it comes home
(`ComingFiles`), and nothing of a file has to come back but the pages that the program has made its own. Changes are told before
anything else that the program hears from home (`Hosts.send`): who learns of a write by a call, a signal or a message finds it in
its memory. See "Mapped files" in `docs/design/migration.md`.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from mosfs.abi.flags import MAP_FIXED, MAP_PRIVATE, MAP_SHARED, MAP_TYPE, PROT_WRITE
from mosfs.abi.memory import MADV_DONTNEED
from mosfs.abi.numbers import SYS_CLOSE, SYS_MADVISE, SYS_MMAP, SYS_MPROTECT, SYS_MUNLOCK, SYS_MUNMAP
from mosfs.calls.request import pack_reply
from mosfs.home.ports import Tree
from mosfs.home.process.deputy import Deputy
from mosfs.home.process.descriptors import hand_over
from mosfs.home.process.link import Held, Link
from mosfs.home.process.move import Move
from mosfs.home.process.program import Program
from mosfs.migrate import offered
from mosfs.migrate.capture import title_at
from mosfs.migrate.filecopy import BLOCK, MOST, WANT, data_of, fits, frame, must_all, offer, once_writable
from mosfs.migrate.image import MAX_SIZE, BadImage, Vma, is_object
from mosfs.migrate.maps import Known, Mapping, file_maps, mapping_at
from mosfs.migrate.ranges import Range, common, merge, minus
from mosfs.migrate.rebuild import kept_at_home
from mosfs.native import ffi, lib
from mosfs.trace import layout
from mosfs.trace.caller import as_user
from mosfs.trace.inject import Calls
from mosfs.trace.taken import take
from mosfs.wire.channel import ChannelLost
from mosfs.wire.frames import Kind, understands
from mosfs.wire.orders import MmapOrder

#: What an order may ask of mmap(2) beside the kind of mapping and its place.
_FLAGS = ~(0x100010 | MAP_TYPE)
_EVENT = struct.Struct("<iIII")
_BUFFER = 1 << 16


@dataclass(slots=True, eq=False)
class File:
    """``key``: device and inode as /proc/PID/maps shows them. ``read``: what of it has been looked at, in whole blocks; ``digests``
    of those that are not zero. Each change makes a new generation; ``changed`` tells the one in which a block changed last."""

    number: int
    fd: int
    name: str
    key: tuple[str, int]
    watch: int = -1
    size: int = 0
    generation: int = 0
    read: list[Range] = field(default_factory=list)
    digests: dict[int, int] = field(default_factory=dict)
    changed: dict[int, int] = field(default_factory=dict)
    facts: tuple[int, int, int] = (0, 0, 0)

    def look(self) -> bool:
        """Whether its size or times differ from those of the last look. OSError."""
        now = os.fstat(self.fd)
        before, self.facts = self.facts, (now.st_size, now.st_mtime_ns, now.st_ctime_ns)
        return self.facts != before

    def block(self, at: int, *, known: bool) -> bytes:
        """The block at ``at``, as it is now. ``known``: it was looked at before, so another content is a change."""
        data = os.pread(self.fd, BLOCK, at)
        digest = offered.digest(data)
        if digest != self.digests.get(at, 0):
            if known:
                self.generation += 1
                self.changed[at] = self.generation
            if digest:
                self.digests[at] = digest
            else:
                self.digests.pop(at, None)
        return data

    def rescan(self) -> None:
        """After a change: which blocks are not what they were?"""
        before = self.size
        self.look()
        self.size = self.facts[0]
        if self.size != before:
            self.generation += 1
        end = (max(self.size, before) + BLOCK - 1) // BLOCK * BLOCK
        looked_at = common(self.read, [(0, end)])
        there = merge([*data_of(self.fd, self.size), *((at, at + BLOCK) for at in list(self.digests))])
        for start, stop in common(looked_at, _in_blocks(there)):
            for at in range(start, stop, BLOCK):
                self.block(at, known=True)


def _in_blocks(ranges: list[Range]) -> list[Range]:
    """The blocks that have a part of these ranges."""
    return merge((start // BLOCK * BLOCK, (end + BLOCK - 1) // BLOCK * BLOCK) for start, end in ranges)


def _blocks(file: File, piece: Range) -> Iterator[tuple[int, bytes]]:
    """Where the blocks are in a part that is looked at for the first time, and what is in them; but for holes."""
    looked_at, file.read = file.read, merge([*file.read, piece])
    for start, end in data_of(file.fd, min(piece[1], file.size), piece[0]):
        for at in range(start // BLOCK * BLOCK, end, BLOCK):
            yield at, file.block(at, known=bool(common(looked_at, [(at, at + BLOCK)])))


def _first(file: File, piece: Range, near: bool) -> Iterator[bytes]:
    """What a host has never had of a file; zeros need not be sent."""
    together, begun = b"", 0
    for at, data in _blocks(file, piece):
        if together and (begun + len(together) != at or len(together) + BLOCK > MOST or not data):
            yield frame(file.number, file.size, begun, together, near=near)
            together = b""
        if at in file.digests:
            begun = begun if together else at
            together += data
    if together:
        yield frame(file.number, file.size, begun, together, near=near)


def _offers(file: File, piece: Range) -> Iterator[bytes]:
    """The digests of what a host has never had of a file."""
    for _ in _blocks(file, piece):
        pass
    end = min(piece[1], file.size)
    for start in range(piece[0], end, offered.MOST):
        digests = [file.digests.get(at, 0) for at in range(start, min(start + offered.MOST, end), BLOCK)]
        yield offer(file.number, file.size, start, file.name, digests)


def _supply(file: File | None, held: Held, part: Range, link: Link, pid: int) -> None:
    """Send what was only offered of a file."""
    for piece in held.lacks(part):
        for payload in _first(file, piece, link.near) if file is not None else ():
            link.channel.send(Kind.FILE, pid, payload)


class Mapped:
    def __init__(self, tracer: Tree) -> None:
        self.tracer = tracer
        self.watcher = -1
        self._files: dict[int, File] = {}
        self._keys: dict[tuple[str, int], File] = {}
        self._watches: dict[int, File] = {}
        self._unwatched: list[File] = []
        self._last = 0
        self._buffer = ffi.new("char[]", _BUFFER)

    # ------------------------------------------------------------------ files

    def known(self, p: Program) -> Known:
        """For `maps.travelling`: the files that this program maps are followed from now on."""

        def find(mapping: Mapping) -> tuple[int, str] | None:
            if (shared := self.tracer.shared.store.known(mapping)) is not None:
                return shared
            file = self._follow(p, mapping, -1)
            return (file.number, mapping.name) if file is not None else None

        return find

    def _follow(self, p: Program, mapping: Mapping, fd: int) -> File | None:
        """The file of a mapping of ``p``; ``fd``: its descriptor, if it has one. None if it cannot be followed."""
        key = (mapping.device, mapping.inode)
        found = self._keys.get(key)
        if found is not None:
            return found
        if not mapping.inode or mapping.name.startswith(("/dev/zero", "/SYSV", "/[")) or not mapping.name.startswith("/"):
            return None
        ours = _opened(p, mapping, fd)
        if ours < 0:
            return None
        self._last += 1
        file = File(self._last, ours, mapping.name, key)
        try:
            file.look()
        except OSError:
            os.close(ours)
            return None
        file.size = file.facts[0]
        self._files[file.number] = self._keys[key] = file
        self._watch(file)
        return file

    def _watch(self, file: File) -> None:
        if self.watcher < 0:
            with as_user(self.tracer.mosd.uid, os.getegid()):  # who makes it has one less (inotify(7), max_user_instances)
                self.watcher = max(lib.mos_watcher(), -1)
        file.watch = lib.mos_watch(self.watcher, file.fd) if self.watcher >= 0 else -1
        if file.watch >= 0:
            self._watches[file.watch] = file
        else:
            self._unwatched.append(file)
            self.tracer.mosd.log(f"{file.name} cannot be watched: changes are seen by its size and times", 30)

    def tick(self) -> None:
        """Once a second: changes that nobody tells of, and files that nobody maps any more."""
        self._changed([file for file in self._files.values() if _looks(file)])
        used: set[int] = set()
        for p in self.tracer.programs.values():
            used.update(p.body.files, p.saves.outlive.files if p.saves.outlive is not None else ())
        if any(p.move is not None for p in self.tracer.programs.values()):
            return  # numbers may be in what is being sent
        for number in [number for number in self._files if number not in used]:
            self._forget(self._files.pop(number))

    def _forget(self, file: File) -> None:
        del self._keys[file.key]
        if file.watch >= 0:
            lib.mos_unwatch(self.watcher, file.watch)
            self._watches.pop(file.watch, None)
        else:
            self._unwatched.remove(file)
        os.close(file.fd)

    # ------------------------------------------------------------------ changes

    def looks(self) -> bool:
        """Whether `poll` has to look at files; else what has changed is told by ``watcher``."""
        return bool(self._unwatched)

    def poll(self) -> None:
        """Tell the hosts what has changed since the last time. Cheap when nothing has."""
        if self.watcher >= 0 and (got := lib.mos_read_now(self.watcher, self._buffer, _BUFFER)):
            self._told(bytes(ffi.buffer(self._buffer, max(got, 0))))
        if self._unwatched:
            self._changed([file for file in self._unwatched if _looks(file)])

    def _told(self, events: bytes) -> None:
        found: set[File] = set()
        at = 0
        while at < len(events):
            watch, _mask, _cookie, length = _EVENT.unpack_from(events, at)
            at += _EVENT.size + length
            if watch < 0:  # too many at once
                found.update(self._watches.values())
            elif watch in self._watches:
                found.add(self._watches[watch])
        self._changed(list(found))

    def _changed(self, files: list[File]) -> None:
        numbers = set()
        for file in files:
            try:
                file.rescan()
            except OSError as error:
                self.tracer.mosd.log(f"{file.name} cannot be read any more: {error.strerror}", 30)
            numbers.add(file.number)
        if numbers:
            for p in [p for p in self.tracer.programs.values() if not numbers.isdisjoint(p.body.files)]:
                with self.tracer.containment.of(p):  # the file may be one that cannot be read any more
                    self.catch_up(p)

    def catch_up(self, p: Program, *, offers: bool = False) -> None:
        """Send a program away what its host does not have yet; while it moves, it hears of it when it has arrived. ``offers``: the
        host may have some of it by itself, and asks for the rest."""
        link = p.link
        if not p.away or link is None or p.body.kept_back is not None:
            return
        try:
            if p.saves.outlive is not None and any(self._is_old(number, held) for number, held in p.body.files.items()):
                self.tracer.outliving.happened(p, "a file that it maps has changed")
            for payload in self._news(p.body.files, link.near, offers=offers):
                link.channel.send(Kind.FILE, p.pid, payload)
        except ChannelLost:
            self.tracer.hosts.link_lost(link)

    def _is_old(self, number: int, held: Held) -> bool:
        """The file has changed since it was sent."""
        file = self._files.get(number)
        return file is not None and bool(held.sent) and held.generation < file.generation

    def again(self, p: Program, number: int, order: MmapOrder) -> None:
        """A new host of the program is about to map a file as the old one has: it gets the contents."""
        _want(p.body.files, [(number, order.offset, order.length)])
        self.catch_up(p)

    def _news(self, files: dict[int, Held], near: bool, *, offers: bool = False) -> Iterator[bytes]:
        """Payloads of FILE with what the holder of ``files`` does not have."""
        for number, held in files.items():
            file = self._files.get(number)
            if file is None:
                continue
            begun = file.generation
            if held.generation < begun:
                yield frame(number, file.size)
            todo = [at for at, generation in file.changed.items() if generation > held.generation] if held.sent else []
            for at in todo:
                if common(held.sent, [(at, at + BLOCK)]) and at < file.size:
                    data = file.block(at, known=True)
                    yield frame(number, file.size, at, data.ljust(min(BLOCK, file.size - at), b"\0"), near=near)
            held.generation = begun
            for piece in minus(held.wanted, held.sent):
                if offers and offered.is_common(file.name) and piece[1] - piece[0] >= offered.LEAST:
                    held.offered = merge([*held.offered, piece])
                    yield from _offers(file, piece)
                else:
                    yield from _first(file, piece, near)
            held.sent = held.wanted

    # ------------------------------------------------------------------ leaving

    def ahead(self, p: Program, move: Move) -> Iterator[int]:
        """Send what the program maps while it still runs, piece by piece: bytes sent."""
        assert move.link is not None
        known, mapped = self.known(p), file_maps(p.pid)
        wanted = [(found[0], m.offset, m.end - m.start) for m in mapped if (found := known(m)) and not is_object(found[0])]
        _want(move.files, wanted)
        for payload in self._news(move.files, move.link.near, offers=_takes_offers(p, move.link)):
            move.link.channel.send(Kind.FILE, p.pid, payload)
            yield len(payload)

    def rest(self, p: Program, move: Move, link: Link, vmas: Sequence[Vma]) -> None:
        """The program stands still: send what its new host does not have of the files that ``vmas`` show."""
        if move.freezes is not None:  # it comes home before it shows any of them
            move.files = {vma.file: Held() for vma in vmas if vma.file}
            return
        _want(move.files, [(vma.file, vma.offset, vma.end - vma.start) for vma in vmas if vma.file])
        for vma in vmas:
            if vma.file and not is_object(vma.file) and vma.shared and _is_of_writer(p.pid, vma.start, vma.end):
                move.files[vma.file].writable = True
        self.poll()
        for payload in self._news(move.files, link.near, offers=_takes_offers(p, link)):
            link.channel.send(Kind.FILE, p.pid, payload)

    # ------------------------------------------------------------------ what a deputy keeps

    def in_deputy(self, p: Program) -> list[Mapping]:
        """Mappings in the deputy of files that the program maps."""
        return [m for m in file_maps(p.pid) if self._number(m) in p.body.files]

    def _number(self, mapping: Mapping) -> int:
        found = self._keys.get((mapping.device, mapping.inode))
        return found.number if found is not None else self.tracer.shared.store.number(mapping)

    @staticmethod
    def deny_access(call: Calls, mappings: list[Mapping], spared: list[Range]) -> None:
        """They show the file again, and nobody can reach them: a bad address of the program must stay a bad one. ``spared``: pages
        to which the kernel writes when a sleep ends."""
        denied = minus(merge((m.start, m.end) for m in mappings), merge(spared))
        drop = [(SYS_MADVISE, start, end - start, MADV_DONTNEED) for start, end in denied]
        for each, result in zip(drop, call.many(drop)):
            if result < 0:  # what is locked cannot be dropped
                call(SYS_MUNLOCK, *each[1:3])
                call(*each)
        must_all(call, [(SYS_MPROTECT, start, end - start, 0) for start, end in denied])

    def map(self, p: Program, deputy: Deputy, call: Calls, order: MmapOrder) -> tuple[int, int]:
        """MMAP: map a file in the deputy where the body will have it. (Result: address or negative errno; number of the file,
        whose contents are sent, or 0: the caller sends them, and unmaps.)"""
        place = order.at if self._free(p, deputy, order) else 0
        private = order.flags & MAP_SHARED and order.prot & PROT_WRITE  # as the policy has it (`policy.Do.PRIVATE`)
        kind = MAP_PRIVATE if private else order.flags & MAP_TYPE
        flags = order.flags & _FLAGS | kind | (MAP_FIXED if place else 0)
        try:
            result = call.map(place, order.length, order.prot | 1, flags, order.fd, order.offset)
        except OSError as error:
            return -(error.errno or errno.ENOMEM), 0
        mapping = mapping_at(p.pid, result)
        file = self._follow(p, mapping, order.fd) if mapping is not None else None
        if file is None:
            return result, 0
        _want(p.body.files, [(file.number, order.offset, order.length)])
        if mapping is not None and mapping.shared and _is_of_writer(p.pid, mapping.start, mapping.end):
            p.body.files[file.number].writable = True
        if place:
            call.must(SYS_MPROTECT, result, order.length, 0)
        else:
            call(SYS_MUNMAP, result, order.length)
        self.catch_up(p, offers=p.link is not None and _takes_offers(p, p.link))
        return result, file.number

    def wanted(self, p: Program, payload: bytes) -> None:
        """WANT: a mapping is about to grow, or what was offered is not there: what it will show goes before the answer. BadImage
        for what cannot be."""
        number, offset, length = _part(payload, p.body.files)
        _want(p.body.files, [(number, offset, length)])
        self.catch_up(p)
        for q in self.tracer.programs.values():  # beside this one children that were made meanwhile
            if q.link is p.link is not None and number in q.body.files:
                _supply(self._files.get(number), q.body.files[number], (offset, offset + length), p.link, q.pid)
        self.tracer.hosts.send(p, Kind.REPLY, pack_reply(0, []))

    def lacks(self, p: Program, link: Link, payload: bytes) -> None:
        """LACKS, of a host to which the program moves: its image is not complete without that. BadImage as `wanted`."""
        if p.move is None or p.move.link is not link:
            return  # it does not come any more
        number, offset, length = _part(payload, p.move.files)
        _supply(self._files.get(number), p.move.files[number], (offset, offset + length), link, p.pid)
        link.channel.send(Kind.LACKS, p.pid, payload)

    @staticmethod
    def _free(p: Program, deputy: Deputy, order: MmapOrder) -> bool:
        """Whether a mapping can be there in the deputy: what that needs itself is elsewhere."""
        start, end = order.at, order.at + order.length
        if not fits(start, end, layout.END) or (p.move is not None and p.move.rebuild is not None):
            return False
        return not common([(start, end)], merge([*kept_at_home(*title_at(p.pid)), *deputy.sleep.pages]))

    # ------------------------------------------------------------------ coming home

    def coming(self, p: Program, vmas: Sequence[Vma]) -> ComingFiles:
        """For the mappings of an image that has come for the deputy. BadImage if they show files that are not the program's."""
        if any(vma.file and vma.file not in p.body.files for vma in vmas):
            raise BadImage("mappings of files that the program does not map")
        kept = [(self._number(m), m) for m in self.in_deputy(p)]
        writable = {number for number, held in p.body.files.items() if held.writable}
        return ComingFiles(self._fd, kept, [vma for vma in vmas if vma.file], writable)

    def _fd(self, number: int) -> int:
        return self.tracer.shared.store.fd(number) if is_object(number) else self._files[number].fd


class ComingFiles:
    """Makes the mappings of a program that comes home: most of them the deputy has kept (``stand``)."""

    def __init__(
        self, fd: Callable[[int], int], kept: list[tuple[int, Mapping]], vmas: list[Vma], writable: Container[int] = ()
    ) -> None:
        """``fd``: our descriptor of the file with a number; ``writable``: `Held.writable`."""
        self._fd, self._vmas, self._writable = fd, vmas, writable
        self._parts = list(_standing(vmas, kept))
        self.stand = merge((start, end) for _, start, end in self._parts)

    def place(self, call: Calls, vmas: Sequence[Vma]) -> None:
        lost = minus(merge((vma.start, vma.end) for vma in vmas), self.stand)
        for vma, start, end in _within(vmas, lost):
            self._anew(call, vma, start, end)
        once = once_writable(vmas)
        must_all(call, [
            *((SYS_MPROTECT, vma.start, vma.end - vma.start, vma.prot | PROT_WRITE) for vma in vmas if vma.start in once),
            *((SYS_MPROTECT, start, end - start, vma.prot) for vma, start, end in self._parts),
            *((SYS_MPROTECT, vma.start, vma.end - vma.start, vma.prot) for vma in vmas if vma.start in once),
        ])  # fmt: skip

    def beyond(self) -> list[Range]:
        """As `rebuild.Files`: somebody may have cut a file off while the image was under way."""
        found = []
        for vma in self._vmas:
            length = os.fstat(self._fd(vma.file)).st_size
            start = vma.start + max(0, -(-length // layout.PAGE) * layout.PAGE - vma.offset)
            if start < vma.end:
                found.append((start, vma.end))
        return found

    def _anew(self, call: Calls, vma: Vma, start: int, end: int) -> None:
        """A mapping that the program has moved, or that the deputy could not make: by our own descriptor."""
        with _as_mapped(self._fd(vma.file), writable=vma.shared and vma.file in self._writable) as ours:
            theirs = hand_over(call, ours, cloexec=True, brief=True)
        how = MAP_FIXED | (MAP_SHARED if vma.shared else MAP_PRIVATE)
        try:
            call.must(SYS_MMAP, start, end - start, vma.prot, how, theirs, vma.offset + start - vma.start)
        finally:
            call(SYS_CLOSE, theirs)


def _standing(vmas: Sequence[Vma], kept: Sequence[tuple[int, Mapping]]) -> Iterator[tuple[Vma, int, int]]:
    """Which mappings of the image, as a whole, are in the deputy; both are sorted and apart. One that has grown is made anew: of
    two open files the kernel would not make one mapping."""
    at = 0
    for vma in vmas:
        while at < len(kept) and kept[at][1].end <= vma.start:
            at += 1
        reached, n = vma.start, at
        while n < len(kept) and kept[n][1].start <= reached < vma.end and _is(vma, *kept[n]):
            reached = kept[n][1].end
            n += 1
        if reached >= vma.end:
            yield vma, vma.start, vma.end


def _within(vmas: Sequence[Vma], places: list[Range]) -> Iterator[tuple[Vma, int, int]]:
    """The parts of ``vmas`` in these places; all sorted and apart."""
    a = b = 0
    while a < len(vmas) and b < len(places):
        start, end = max(vmas[a].start, places[b][0]), min(vmas[a].end, places[b][1])
        if start < end:
            yield vmas[a], start, end
        if vmas[a].end < places[b][1]:
            a += 1
        else:
            b += 1


def _is(vma: Vma, number: int, m: Mapping) -> bool:
    """Is a mapping (of the file ``number``) in a deputy what the image says, where both are?"""
    return number == vma.file and m.shared is vma.shared and m.offset - m.start == vma.offset - vma.start


def _takes_offers(p: Program, link: Link) -> bool:
    """What outlives its node is told there again as it was told once, to a host that may have other files."""
    return p.saves.outlive is None and understands(link.frames, Kind.LACKS)


def _part(payload: bytes, files: dict[int, Held]) -> tuple[int, int, int]:
    """(Number, offset, length) of WANT or LACKS; BadImage for what cannot be."""
    if len(payload) != WANT.size:
        raise BadImage("malformed frame about a file")
    number, offset, length = WANT.unpack(payload)
    if number not in files or offset > MAX_SIZE or length > layout.USER_END:
        raise BadImage("more of a file than can be mapped")
    return number, offset, length


def _want(files: dict[int, Held], parts: list[tuple[int, int, int]]) -> None:
    """The holder of ``files`` needs these parts too: (number, offset, length)."""
    found: dict[int, list[Range]] = {}
    for number, offset, length in parts:
        found.setdefault(number, []).append((offset, offset + length))
    for number, pieces in found.items():
        held = files.setdefault(number, Held())
        held.wanted = merge([*held.wanted, *_in_blocks(pieces)])


def _looks(file: File) -> bool:
    try:
        return file.look()
    except OSError:
        return False


def _opened(p: Program, mapping: Mapping, fd: int) -> int:
    """A descriptor of ours, to read the file of a mapping; -1 if there is no way. The best one needs CAP_CHECKPOINT_RESTORE."""
    ways: list[tuple[str, Callable[[os.stat_result], bool]]] = [
        (f"/proc/{p.pid}/map_files/{mapping.start:x}-{mapping.end:x}", lambda _: True)
    ]
    copy = _readable(p.pid, fd)
    if copy >= 0:
        ways.append((f"/proc/self/fd/{copy}", lambda _: True))
    else:
        paths = [*_descriptors(p.pid), f"/proc/{p.pid}/root{mapping.name}"]
        ways += [(path, lambda facts: _same(mapping, facts)) for path in paths]
    try:
        return _first_of(p, mapping, ways)
    finally:
        if copy >= 0:
            os.close(copy)


def _is_of_writer(pid: int, start: int, end: int) -> bool:
    """Whether a mapping was made by a descriptor that is open for writing: what is shared can be made writable then (proc(5))."""
    with suppress(OSError):
        return bool(os.lstat(f"/proc/{pid}/map_files/{start:x}-{end:x}").st_mode & stat.S_IWUSR)
    return False


@contextmanager
def _as_mapped(fd: int, *, writable: bool) -> Iterator[int]:
    """The same file, open for writing if the program had it so, and we may."""
    own = -1
    if writable:
        with suppress(OSError):
            own = os.open(f"/proc/self/fd/{fd}", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        yield own if own >= 0 else fd
    finally:
        if own >= 0:
            os.close(own)


def _readable(pid: int, fd: int) -> int:
    """Our copy of a descriptor that the program has opened to read (which a mapping needs, if there is one as it says); else -1."""
    try:
        return take(pid, fd, lambda copy: fcntl.fcntl(copy, fcntl.F_GETFL) & (os.O_ACCMODE | os.O_PATH) in (os.O_RDONLY, os.O_RDWR))
    except OSError:
        return -1


def _first_of(p: Program, mapping: Mapping, ways: list[tuple[str, Callable[[os.stat_result], bool]]]) -> int:
    """Of the first of ``ways`` that leads to the right file. A path may lead elsewhere at any moment, and opening a device alone
    may do something: nothing is opened but what was looked at. Nor is waited for who has a lease on it (fcntl(2))."""
    for path, right in ways:
        with suppress(OSError), _looked_at(path) as known:
            facts = os.fstat(known)
            if not right(facts):
                continue
            if not stat.S_ISREG(facts.st_mode) or _is_private(p, facts) or _is_leased(mapping):
                return -1
            return os.open(f"/proc/self/fd/{known}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    return -1


def _is_leased(mapping: Mapping) -> bool:
    """Whether somebody has a write lease on the file (fcntl(2), F_SETLEASE). To open it breaks that: its holder, who may be the
    program that stands still, is sent a signal, and has to give it up."""
    where = f"{mapping.device}:{mapping.inode}"
    with open("/proc/locks", encoding="ascii", errors="replace") as file:
        return any(words[1:2] == ["LEASE"] and words[3] != "READ" and words[5] == where for words in map(str.split, file))


@contextmanager
def _looked_at(path: str) -> Iterator[int]:
    """What is there now, not opened (open(2), O_PATH). OSError."""
    known = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        yield known
    finally:
        os.close(known)


def _descriptors(pid: int) -> list[str]:
    try:
        return [f"/proc/{pid}/fd/{name}" for name in os.listdir(f"/proc/{pid}/fd")]
    except OSError:
        return []


def _same(mapping: Mapping, facts: os.stat_result) -> bool:
    return mapping.inode == facts.st_ino and mapping.device == f"{os.major(facts.st_dev):02x}:{os.minor(facts.st_dev):02x}"


def _is_private(p: Program, facts: os.stat_result) -> bool:
    """Private temporary files move with the program."""
    return p.private is not None and ((facts.st_dev, facts.st_ino) in p.private.inodes)
