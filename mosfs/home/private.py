"""Private temporary files of programs at home: calls on their names, descriptors, limits, and their way out and back.

The program has real descriptors of nameless files that we make and hand over, so reading, writing, sharing and closing are the
kernel's. Names are ours (`ptf.store`). Writes stop in the tracer, but pass there without Python until so much was written that the
files must be counted again (`mos_grant`).

While the program is away its descriptors here stand for open files whose contents its host has.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mosfs.home.deputy import Deputy
from mosfs.home.program import Holdings, Link, Move, Program
from mosfs.home.registers import arguments
from mosfs.migrate.capture import user_regs
from mosfs.migrate.rebuild import NoRoom
from mosfs.native import ffi, lib
from mosfs.ptf import directories, service, travel
from mosfs.ptf.descriptors import follow
from mosfs.ptf.rules import FD_CALLS, MAP_ANONYMOUS, OPENS, PATH_CALLS, RULES, Act, Rule, descriptor
from mosfs.ptf.store import MEMORY_LIMIT, File, Inode, Quota, Store, grant, reopened
from mosfs.ptf.travel import Manifest, OpenRecord, Sender, Spool
from mosfs.trace import layout
from mosfs.trace.filter import trap_filter
from mosfs.trace.inject import Calls
from mosfs.trace.stops import Stop
from mosfs.trace.task import TaskGone, copy_regs
from mosfs.wire.channel import ChannelLost
from mosfs.wire.frames import Kind
from mosfs.wire.messages import PrivateFile, PrivateGone
from mosfs.wire.orders import PrivateOpen

if TYPE_CHECKING:
    from mosfs.home.tracer import Tracer

SYS_WRITE, SYS_CLOSE, SYS_MMAP, SYS_PWRITE, SYS_WRITEV, SYS_RECVMSG, SYS_SOCKETPAIR = 1, 3, 9, 18, 20, 47, 53
SYS_PRCTL, SYS_DUP3, SYS_SECCOMP = 157, 292, 317
AF_UNIX, SOCK_DGRAM, MSG_DONTWAIT, MSG_CMSG_CLOEXEC = 1, 2, 0x40, 0x40000000
SET_MODE_FILTER, FLAG_SPEC_ALLOW, PR_SET_NO_NEW_PRIVS = 1, 4, 38
#: What the filters let stop (`Program.filters`).
PATHS, DESCRIPTORS = 1, 2
#: Bytes of files sent in one turn of the loop, while the program still runs; and when little enough is left to stop it.
TURN, LITTLE = 4 << 20, 8 << 20
ROUNDS = 3
CONFIG_PATIENCE = 5.0

class NoPrivateSpace(NoRoom):
    """The manual's "Insufficient disk-space for private files"."""


def path_filter() -> bytes:
    return trap_filter(PATH_CALLS)


def descriptor_filter() -> bytes:
    return trap_filter(FD_CALLS, ((SYS_MMAP, (3, MAP_ANONYMOUS, 0)),))


class Private:
    def __init__(self, tracer: Tracer) -> None:
        self.tracer = tracer
        self.sending: dict[int, tuple[Iterator[int], Move, Link]] = {}
        for nr in OPENS | PATH_CALLS:
            tracer.pump.paths[nr] = sum(1 << i for i in RULES[nr].paths)

    # ------------------------------------------------------------------ life of a process

    def embarked(self, p: Program, fetched: bytes) -> None:
        """Calls can be made in the new program: what it needs from the kernel. ``fetched``: from `fetch`."""
        if not fetched and (not p.settings.private or p.native or p.filters):
            return
        stay = copy_regs(p.task.peek_regs())
        with Calls(p.task) as call:
            if not p.filters:
                _install(call, path_filter())
                p.filters = PATHS
            if fetched:
                self.arrive(call, p, fetched, None)
        p.task.set_regs(stay)
        if fetched:
            self.arrived(p)

    def exec_done(self, p: Program) -> None:
        """A new program in the same process: it keeps its files, unless it was given other directories."""
        wanted = directories.split(p.settings.private) if not p.native else ()
        if p.private is None:
            if not wanted:
                return
            p.private = Holdings(Store(wanted))
        own = p.private
        if own.store.directories != wanted:
            own.store.directories = wanted
            for name in list(own.store.names):
                own.store.unlink(name)
        self._watch_directories(wanted)
        self._announce(p, own)
        self._grant(p, own)

    def _watch_directories(self, wanted: tuple[bytes, ...]) -> None:
        """In C, calls on names below these are not ordinary any more. When there is no room in the table, no call is."""
        pump = self.tracer.pump
        for name in wanted:
            prefix = name[:63]
            known = [ffi.string(pump.dirs[i]) for i in range(pump.ndirs)]
            if prefix in known:
                continue
            if pump.ndirs == len(pump.dirs):
                pump.pass_opens = 0
                return
            pump.dirs[pump.ndirs] = prefix
            pump.ndirs += 1

    def forked(self, parent: Program, child: Program, *, thread: bool) -> None:
        """Files belong to the process that made them: a child begins with none, and without its parent's descriptors of them."""
        child.filters = parent.filters
        own = parent.private
        if own is None:
            return
        if thread:
            child.private = own
            return
        child.private = Holdings(Store(own.store.directories), away=own.away)
        child.inherited = dict(own.inodes)

    def born(self, p: Program) -> None:
        """The first stop of a child at home."""
        stay = user_regs(p.task.peek_regs(), Stop.TRAP)
        with Calls(p.task) as call:
            self._close_inherited(call, p)
        p.task.set_regs(stay)

    def born_away(self, p: Program, deputy: Deputy) -> None:
        with Calls(p.task, base=deputy.base, mask=deputy.mask) as call:
            self._close_inherited(call, p)

    def _close_inherited(self, call: Calls, p: Program) -> None:
        inherited, p.inherited = p.inherited, None
        for fd in descriptors_of(p.pid, inherited or {}):
            call(SYS_CLOSE, fd)

    def forget(self, p: Program) -> None:
        """The process is gone, and its files with it."""
        self.sending.pop(p.pid, None)
        own, p.private = p.private, None
        if own is not None and all(q.private is not own for q in self.tracer.programs.values()):
            own.close()

    # ------------------------------------------------------------------ what mosd shows

    def _announce(self, p: Program, own: Holdings) -> None:
        for name, fd in own.store.log:
            self.tracer.control.send(PrivateFile(p.pid, name, fd))
        own.store.log.clear()

    def announce_all(self, p: Program) -> None:
        """To a mosd that knows nothing yet."""
        if p.private is not None:
            p.private.store.log.clear()
            for name, file in p.private.store.names.items():
                self.tracer.control.send(PrivateFile(p.pid, name, file.fd))

    # ------------------------------------------------------------------ calls at home

    def quota(self) -> Quota:
        """Of programs at home. The first program may be faster than mosd's Config."""
        tracer = self.tracer
        deadline = time.monotonic() + CONFIG_PATIENCE
        while not tracer.config.ip and tracer.control.sock is not None and time.monotonic() < deadline:
            if select.select([tracer.control.fileno()], [], [], 0.1)[0]:
                tracer._control_event()
        directory, megabytes = tracer.config.private.get("O", ("", MEMORY_LIMIT >> 20))
        return Quota(directory, megabytes << 20)

    def trapped(self, p: Program, regs: Any, nr: int) -> bool:
        """A call that stopped; True if it was about private files and is dealt with."""
        own = p.private
        rule = RULES.get(nr)
        if own is None or rule is None:
            return False
        args = arguments(regs)
        if rule.paths:
            outcome = service.by_path(own.store, rule, args, p.task)
            if outcome is None:
                return False
            if isinstance(outcome, service.Answer):
                self._answer(p, own, regs, outcome)
                return True
            if isinstance(outcome, service.Open):
                self._open(p, own, regs, outcome)
                return True
        return self._on_descriptor(p, own, regs, rule, args)

    def _answer(self, p: Program, own: Holdings, regs: Any, answer: service.Answer) -> None:
        result = answer.result
        if answer.data:
            try:
                p.task.write(answer.at, answer.data)
            except OSError:
                result = -errno.EFAULT
        self._announce(p, own)
        self.tracer.answer(p, regs, result)

    def _open(self, p: Program, own: Holdings, regs: Any, order: service.Open) -> None:
        kept = copy_regs(regs)
        store = own.store
        store.quota = self.quota()
        made = False
        try:
            file, made = service.opened(store, order, lambda: umask_of(p.pid))
            ours = reopened(file, order.flags, 0)
            try:
                with Calls(p.task) as call:
                    self._install_filter(call, p)
                    result = hand_over(call, ours, cloexec=bool(order.flags & os.O_CLOEXEC))
            finally:
                os.close(ours)
            if not made and service.truncates(order):
                os.ftruncate(file.fd, 0)
            own.inodes[file.inode] = file.number
        except OSError as error:
            result = -(error.errno or errno.EIO)
            if made:
                if file.name is not None:
                    store.unlink(file.name)
                store.discard(file)
        self._announce(p, own)
        self._grant(p, own)
        self.tracer.answer(p, kept, result)

    def _install_filter(self, call: Calls, p: Program) -> None:
        """From its first private file on, the program's calls on descriptors stop, too."""
        if p.filters >= DESCRIPTORS:
            return
        _install(call, descriptor_filter())
        p.filters = DESCRIPTORS

    def _file(self, p: Program, own: Holdings, fd: int) -> File | None:
        """The private file behind a descriptor. The kernel's table is the truth."""
        if not own.inodes:
            return None
        try:
            found = os.stat(f"/proc/{p.pid}/fd/{fd}")
        except OSError:
            return None
        return own.store.files.get(own.inodes.get((found.st_dev, found.st_ino), -1))

    def _on_descriptor(self, p: Program, own: Holdings, regs: Any, rule: Rule, args: tuple[int, ...]) -> bool:
        if rule.nr == SYS_MMAP and args[3] & MAP_ANONYMOUS:
            return False
        files = [file for i in rule.fds or (0,) if (file := self._file(p, own, descriptor(args[i]))) is not None]
        if not files:
            self._grant(p, own)
            return False
        file = files[0]
        try:
            match rule.act:
                case Act.REFUSED:
                    answer = service.Answer(-rule.errno)
                case Act.WRITE:
                    return self._write(p, own, regs, rule, args, file)
                case Act.STAT:
                    answer = service.on_file(rule, file, args[2 if rule.paths else 1])
                case Act.STATX:
                    answer = service.on_file(rule, file, 0, args[4])
                case Act.CHMOD:
                    answer = service.on_file(rule, file, args[2 if rule.paths else 1])
                case _:
                    return False
        except OSError as error:
            answer = service.Answer(-(error.errno or errno.EIO))
        self._answer(p, own, regs, answer)
        return True

    # ------------------------------------------------------------------ limits at home

    def _grant(self, p: Program, own: Holdings, reserved: int = 0) -> None:
        entry = self.tracer.pump.grants[p.pid & 63]
        entry.none = not own.inodes or not descriptors_of(p.pid, own.inodes)
        entry.bytes = max(0, grant(own.store.used(), own.store.on_disk, own.store.quota) - reserved)
        entry.pid = p.pid

    def _write(self, p: Program, own: Holdings, regs: Any, rule: Rule, args: tuple[int, ...], file: File) -> bool:
        store = own.store
        size = args[2] if rule.nr in (SYS_WRITE, SYS_PWRITE) else vector_size(p, args)
        at = self._position(p, rule, args, file)
        if any(other.name is None for other in store.files.values()):
            self._reap(p, own)
        try:
            moved = store.reserve(file, at, size)
        except OSError:
            self.tracer.answer(p, regs, -errno.ENOSPC)
            return True
        if not moved:
            self._grant(p, own, min(size, file.growth(at, size)))
            return False  # the kernel writes
        again = user_regs(regs, Stop.SECCOMP)
        with Calls(p.task) as call:
            self._replace(call, p, own, moved)
        self._announce(p, own)
        self._grant(p, own)
        p.task.set_regs(again)
        p.task.cont()
        return True

    def _position(self, p: Program, rule: Rule, args: tuple[int, ...], file: File) -> int:
        """Where a write will begin."""
        offset = args[3]
        if rule.nr in (SYS_WRITE, SYS_WRITEV) or (rule.nr == 328 and offset == 0xFFFF_FFFF_FFFF_FFFF):
            position, flags = description_of(p.pid, descriptor(args[0]))
            return file.stat().st_size if flags & os.O_APPEND else position
        return offset

    def _reap(self, p: Program, own: Holdings) -> None:
        """Forget files that have neither a name nor a descriptor any more."""
        opened = {own.inodes[inode] for inode in descriptors_of(p.pid, own.inodes).values()}
        own.store.discard_unless(opened)
        own.inodes = {inode: number for inode, number in own.inodes.items() if number in own.store.files}

    def reap_all(self) -> None:
        """Once a second: what was closed takes no space any more."""
        for p in self.tracer.programs.values():
            own = p.private
            if own is not None and not own.away and any(file.name is None for file in own.store.files.values()):
                self._reap(p, own)

    def _replace(self, call: Calls, p: Program, own: Holdings, moved: list[tuple[File, int]]) -> None:
        """The files are on disk now: the program's descriptors follow."""
        for file, old in moved:
            found = os.fstat(old)
            inode = (found.st_dev, found.st_ino)
            for entry in opened_of(p.pid, {inode: file.number}):
                put(call, p, own.store, entry)
            own.inodes.pop(inode, None)
            own.inodes[file.inode] = file.number
            os.close(old)

    # ------------------------------------------------------------------ leaving

    def send_ahead(self, p: Program, link: Link) -> bool:
        """Begin to send the files of a program that shall leave, while it runs; `step` goes on. False: there are none."""
        own = p.private
        if own is None or own.away or p.move is None:
            return False
        self._reap(p, own)
        if not own.store.files:
            return False
        sender = self._sender(p, own, link)
        self.sending[p.pid] = (self._rounds(sender), p.move, link)
        return True

    def _sender(self, p: Program, own: Holdings, link: Link) -> Sender:
        if own.sender is None or own.link is not link:
            own.sender = Sender(own.store, lambda payload: link.channel.send(Kind.PRIVATE, p.pid, payload))
            own.link = link
        return own.sender

    @staticmethod
    def _rounds(sender: Sender) -> Iterator[int]:
        for _ in range(ROUNDS):
            files = sender.unsent()
            if sum(file.used() for file in files) < LITTLE:
                return
            yield from sender.step(files)

    def step(self) -> None:
        """A turn of sending ahead."""
        for pid, (sending, move, link) in list(self.sending.items()):
            p = self.tracer.programs.get(pid)
            if p is None or p.move is not move:
                del self.sending[pid]
                continue
            sent = 0
            try:
                for size in sending:
                    sent += size
                    if sent >= TURN:
                        break
                else:
                    del self.sending[pid]
                    self.tracer.moves.sent_ahead(p)
            except ChannelLost:
                self.sending.pop(pid, None)
                self.tracer.away.link_lost(link)

    def manifest(self, p: Program) -> bytes:
        """For the image of a program at home."""
        own = p.private
        if own is None:
            return b""
        self._reap(p, own)
        own.store.umask = umask_of(p.pid)
        return travel.encode(travel.manifest_of(own.store, opened_of(p.pid, own.inodes), self.quota().limit))

    def send_rest(self, p: Program, link: Link) -> None:
        """The program stands still: send what its host does not have yet."""
        if p.private is not None:
            self._sender(p, p.private, link).rest()

    def left(self, p: Program) -> None:
        """The move is committed: the files are the host's. The descriptors here only stand for them."""
        own = p.private
        if own is None:
            return
        for file in own.store.files.values():
            os.ftruncate(file.fd, 0)
        own.store = Store(own.store.directories, on_disk=False, files=_closed(own.store))
        own.away = True
        self.ended(p)
        self.tracer.control.send(PrivateGone(p.pid))

    def ended(self, p: Program) -> None:
        """A move has ended, well or not."""
        if p.private is not None:
            p.private.sender = p.private.link = None
            p.private.drop_spool()

    # ------------------------------------------------------------------ away

    def stand_in(self, p: Program, deputy: Deputy, order: PrivateOpen) -> int:
        """A descriptor in the deputy for a private file that the body opens; the result of the open."""
        own = p.private
        if own is None:
            return -errno.ENOENT
        deputy.set_mask(order.mask)
        if own.stand_in < 0:
            own.stand_in = os.memfd_create("private", os.MFD_CLOEXEC)
        file = File(0, own.stand_in, 0, None)
        own.inodes[file.inode] = 0
        try:
            ours = reopened(file, order.flags, 0)
            try:
                with Calls(p.task, base=deputy.base, mask=deputy.mask) as call:
                    return hand_over(call, ours, cloexec=bool(order.flags & os.O_CLOEXEC))
            finally:
                os.close(ours)
        except OSError as error:
            return -(error.errno or errno.EIO)

    def full(self, p: Program) -> None:
        """The body waits in a write for which there is no room: it comes home to make it."""

        def done(reason: str) -> None:
            if not reason or not p.away:
                return
            if reason == "superseded by another request":
                self.full(p)
            else:
                self.tracer.away.answer(p, -errno.ENOSPC)

        self.tracer.moves.request(p, Move("", "home", done=done))

    # ------------------------------------------------------------------ coming home

    def feed(self, p: Program, payload: bytes) -> None:
        own = p.private
        if own is None or not own.away:
            return
        if own.spool is None:
            own.spool = Spool(self.quota())
        own.spool.feed(payload)

    def arrive(self, call: Calls, p: Program, data: bytes, inflight: tuple[int, tuple[int, ...], int] | None) -> None:
        """The files have come: NoPrivateSpace if they do not fit, else the program's descriptors are of these files now.

        ``inflight``: the call (number, arguments, result) that the body waited in.
        """
        own = p.private
        if own is None or not data:
            return
        manifest = travel.decode(data)
        spool, own.spool = own.spool or Spool(self.quota()), None
        try:
            store = spool.finish(manifest, descriptors=True)
        except (travel.NoSpace, travel.BadFiles, OSError) as error:
            spool.close()
            raise NoPrivateSpace(str(error)) from error
        _opening(store, manifest, inflight)
        if inflight is not None:
            follow(store, *inflight)
        self._take(call, p, own, store)

    def _take(self, call: Calls, p: Program, own: Holdings, store: Store) -> None:
        there = descriptors_of(p.pid, own.inodes)
        for entry in travel.records(store):
            fds = [fd for fd in entry.fds if fd in there]
            if fds:
                put(call, p, store, OpenRecord(entry.number, entry.flags, entry.position, fds))
        if store.descriptors:
            self._install_filter(call, p)
        store.descriptors.clear()
        own.inodes.update({file.inode: file.number for file in store.files.values()})
        own.store = store

    def arrived(self, p: Program) -> None:
        """The way home is committed."""
        own = p.private
        if own is None:
            return
        own.away = False
        own.inodes = {file.inode: file.number for file in own.store.files.values()}
        self._reap(p, own)
        self._announce(p, own)
        self._grant(p, own)
        self.ended(p)

    def sent_back(self, p: Program) -> None:
        """It did not come home after all: what it brought is with its host."""
        if p.private is not None:
            own = p.private
            for file in own.store.files.values():
                os.ftruncate(file.fd, 0)
            own.store = Store(own.store.directories, files=_closed(own.store))
            self.ended(p)

    # ------------------------------------------------------------------ exec away

    def fetch(self, p: Program) -> bytes:
        """exec away has brought the program home: its files follow. The manifest; ChannelLost when they are lost."""
        own, link = p.private, p.link
        if own is None or not own.away or link is None:
            return b""
        link.channel.send(Kind.FETCH, p.pid)
        while True:
            frame = link.channel.receive()
            if frame.pair != p.pid:
                self.tracer.away.backlog(link, frame)
            elif frame.kind == Kind.PRIVATE:
                self.feed(p, frame.payload)
            elif frame.kind == Kind.MANIFEST:
                return frame.payload


def _install(call: Calls, program: bytes) -> None:
    """One more filter for the process. OSError if the kernel does not take it."""
    at = layout.SCRATCH + 64
    call.task.write(layout.SCRATCH, struct.pack("<HxxxxxxQ", len(program) // 8, at) + bytes(48) + program)
    result = call(SYS_SECCOMP, SET_MODE_FILTER, FLAG_SPEC_ALLOW, layout.SCRATCH)
    if result == -errno.EACCES:  # it has given up the privilege that the first filter was installed with
        call(SYS_PRCTL, PR_SET_NO_NEW_PRIVS, 1)
        result = call(SYS_SECCOMP, SET_MODE_FILTER, FLAG_SPEC_ALLOW, layout.SCRATCH)
    if result < 0:
        raise OSError(-result, os.strerror(-result))


def _closed(store: Store) -> dict[int, File]:
    """Close a store; it has no files any more."""
    store.close()
    return {}


def _opening(store: Store, manifest: Manifest, inflight: tuple[int, tuple[int, ...], int] | None) -> None:
    """The body waited for the descriptor of a file that it was about to open."""
    opening = manifest.opening
    if opening is None or opening.number not in store.files:
        return
    file = store.files[opening.number]
    if inflight is not None and inflight[2] >= 0:
        travel.describe_opened(store, opening, inflight[2])
    elif opening.made:
        if file.name is not None:
            store.unlink(file.name)
        store.discard(file)


# --------------------------------------------------------------------------- descriptors of a process


def descriptors_of(pid: int, inodes: dict[Inode, int]) -> dict[int, Inode]:
    """Which descriptors of a process are of these files."""
    found: dict[int, Inode] = {}
    if not inodes:
        return found
    folder = f"/proc/{pid}/fd"
    try:
        names = os.listdir(folder)
    except OSError as error:
        raise TaskGone(pid) from error
    for name in names:
        try:
            facts = os.stat(f"{folder}/{name}")
        except OSError:
            continue
        inode = (facts.st_dev, facts.st_ino)
        if inode in inodes:
            found[int(name)] = inode
    return found


def description_of(pid: int, fd: int) -> tuple[int, int]:
    """(position, flags) of an open file; O_CLOEXEC among the flags is the descriptor's."""
    try:
        with open(f"/proc/{pid}/fdinfo/{fd}", "rb") as lines:
            facts = dict(line.split(b":\t", 1) for line in lines.read().splitlines() if b":\t" in line)
    except OSError as error:
        raise TaskGone(pid) from error
    return int(facts[b"pos"]), int(facts[b"flags"], 8)


def opened_of(pid: int, inodes: dict[Inode, int]) -> list[OpenRecord]:
    """The open files of a process: descriptors that share one count once."""
    groups: list[OpenRecord] = []
    for fd, inode in sorted(descriptors_of(pid, inodes).items()):
        number = inodes[inode]
        for group in groups:
            if group.number == number and lib.mos_same_file(pid, group.fds[0], fd) == 1:
                group.fds.append(fd)
                break
        else:
            position, flags = description_of(pid, fd)
            groups.append(OpenRecord(number, flags & ~os.O_CLOEXEC, position, [fd]))
    return groups


def umask_of(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/status", "rb") as status:
            return int(next(line for line in status if line.startswith(b"Umask:")).split()[1], 8)
    except (OSError, StopIteration) as error:
        raise TaskGone(pid) from error


def vector_size(p: Program, args: tuple[int, ...]) -> int:
    """Bytes of an iovec array."""
    count = args[2]
    if not 0 < count <= 1024:
        return 0
    try:
        return sum(p.task.read_words(args[1], 2 * count)[1::2])
    except OSError:
        return 0


def hand_over(call: Calls, ours: int, *, cloexec: bool) -> int:
    """Give the process our open file description: its lowest free descriptor, as open(2) returns it. OSError: EMFILE, ...

    By a message to itself: it makes a pair of sockets, we put the descriptor into one of them.
    """
    task = call.task
    at = layout.SCRATCH
    lowest: int
    other: int
    call.must(SYS_SOCKETPAIR, AF_UNIX, SOCK_DGRAM | os.O_CLOEXEC, 0, at)
    lowest, other = struct.unpack("<2i", task.read(at, 8))
    got = -1
    try:
        peer = lib.mos_getfd(task.pid, other)
        if peer < 0:
            raise OSError(-peer, os.strerror(-peer))
        with socket.socket(fileno=peer) as sock:
            socket.send_fds(sock, [b"."], [ours])
        message = struct.pack("<QIxxxxQQQQixxxx", 0, 0, at + 64, 1, at + 96, 24, 0)
        task.write(at, message + bytes(8) + struct.pack("<QQ", at + 80, 1) + bytes(64))
        call.must(SYS_RECVMSG, lowest, at, MSG_DONTWAIT | MSG_CMSG_CLOEXEC)
        length, _level, _kind, got = struct.unpack("<Qiii", task.read(at + 96, 20))
        if length < 20:
            got = -1
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        call.must(SYS_DUP3, got, lowest, os.O_CLOEXEC if cloexec else 0)
        return lowest
    except OSError:
        call(SYS_CLOSE, lowest)
        raise
    finally:
        call(SYS_CLOSE, other)
        if got >= 0:
            call(SYS_CLOSE, got)


def put(call: Calls, p: Program, store: Store, entry: OpenRecord) -> None:
    """Make ``entry.fds`` of the process descriptors of this open file."""
    ours = travel.described(store, entry)
    try:
        keep = {fd: description_of(p.pid, fd)[1] & os.O_CLOEXEC for fd in entry.fds}
        fresh = hand_over(call, ours, cloexec=True)
        for fd in entry.fds:
            call.must(SYS_DUP3, fresh, fd, keep[fd])
        call(SYS_CLOSE, fresh)
    finally:
        os.close(ours)

