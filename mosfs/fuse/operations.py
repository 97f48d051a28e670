"""FUSE requests to the tree: inode numbers, open files, rights.

The kernel checks nothing for us (no ``default_permissions``): a program's folder is for its owner and root, and who
counts as root is our own rule. Every handler asks `Tree.check` with the caller's uid. What a handler raises is its
reply (`fuse.edge`), and who waits in one for another process or node is counted: nobody may have all of them wait.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Protocol

import pyfuse3
import trio

from mosfs.fuse import private
from mosfs.fuse.edge import answered
from mosfs.fuse.private import PrivateTree
from mosfs.node.pending import Asked
from mosfs.procfs import letters
from mosfs.procfs.tree import SELF, SELF_LINK, Entry, Folder, Tree
from mosfs.wire.limits import OPEN_FILES, REQUESTS, SHORT, SHOWN, Shares

#: Seconds that a tracer may take to tell of a process that it traces.
INTRODUCTION_TIMEOUT = 0.2
_ACCESS_OF_FLAGS = {os.O_RDONLY: os.R_OK, os.O_WRONLY: os.W_OK, os.O_RDWR: os.R_OK | os.W_OK}
_EITHER = os.R_OK | os.W_OK  #: of the access mode 3, which open(2) calls special


class Caller(Protocol):
    """The part of pyfuse3.RequestContext that is used."""

    @property
    def uid(self) -> int: ...
    @property
    def gid(self) -> int: ...
    @property
    def pid(self) -> int: ...


@dataclass(slots=True)
class OpenFile:
    """``subject`` is compared at each use: the PID may have come again. ``text``: what a reader is in the middle of;
    ``answer``: to the question written last, for files that are questions."""

    place: Entry
    subject: Any
    text: bytes = b""
    answer: bytes | None = None
    writer: tuple[int, int, int] = (-1, -1, 0)  # uid, gid and PID of whoever opened it


class Listing(Protocol):
    """The names in a folder, and their places (int: inode of a private file), as they were when it was opened."""

    def __len__(self) -> int: ...
    def __getitem__(self, at: int, /) -> tuple[str, Entry | int]: ...


#: What an open file or folder is: a control file, a listing, or our descriptor of a private file.
Opened = OpenFile | Listing | int
#: Bytes of an entry of a listing, about.
LISTED = 256


@dataclass(slots=True)
class Handles:
    """Open files and folders by number, whose they are, and what is kept in memory for each: the texts and lists that they show."""

    shares: Shares
    memory: Shares
    open: dict[int, Opened] = field(default_factory=dict)
    _owners: dict[int, int] = field(default_factory=dict)
    _kept: dict[int, int] = field(default_factory=dict)  # bytes
    _next: Iterator[int] = field(default_factory=lambda: count(1))

    def add(self, uid: int, opened: Opened) -> int:
        """Its number; OSError EMFILE, and a descriptor is closed, when ``uid`` has too many."""
        try:
            self.shares.take(uid)
        except OSError:
            if isinstance(opened, int):
                os.close(opened)
            raise
        number = next(self._next)
        self.open[number], self._owners[number] = opened, uid
        return number

    def keep(self, number: int, size: int) -> None:
        """So many bytes are kept for it from now on; OSError ENOMEM, and none are, when its user has too many."""
        uid = self._owners[number]
        if before := self._kept.pop(number, 0):
            self.memory.give(uid, before)
        if size > SHORT:
            self.memory.take(uid, size)
            self._kept[number] = size

    def drop(self, number: int) -> None:
        opened = self.open.pop(number)
        self.keep(number, 0)
        self.shares.give(self._owners.pop(number))
        if isinstance(opened, int):
            os.close(opened)


@answered
class Operations(pyfuse3.Operations):
    """The handlers. ``tree`` answers, this class translates."""

    supports_dot_lookup = False
    enable_writeback_cache = False
    enable_acl = False

    def __init__(self, tree: Tree) -> None:
        super().__init__()
        self.tree = tree
        self.private = PrivateTree(tree.world, tree.admin)
        self.handles = Handles(Shares(OPEN_FILES, tree.admin), Shares(SHOWN, tree.admin))
        self.waiting = Shares(REQUESTS, tree.admin)
        self._started_ns = time.time_ns()

    def _attributes(self, place: Entry | int) -> pyfuse3.EntryAttributes:
        if isinstance(place, int):
            return self.private.attributes(self.private.node(place))
        known = self.tree.attributes(place)
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = pyfuse3.InodeT(place.inode)
        entry.st_mode = pyfuse3.ModeT(known.mode)
        entry.st_uid = known.uid
        entry.st_gid = 0
        entry.st_nlink = 1
        entry.st_size = 0
        entry.st_blksize = 4096
        entry.st_atime_ns = entry.st_mtime_ns = entry.st_ctime_ns = self._started_ns
        entry.entry_timeout = entry.attr_timeout = known.timeout
        return entry

    async def lookup(
        self, parent_inode: pyfuse3.InodeT, name: pyfuse3.FileNameT, ctx: Caller
    ) -> pyfuse3.EntryAttributes:
        if self.private.owns(parent_inode):
            return self.private.attributes(self.private.lookup(self.private.node(parent_inode), os.fsdecode(name), ctx.uid))
        if parent_inode == pyfuse3.ROOT_INODE and os.fsdecode(name) == private.NAME:
            return self.private.attributes(private.ROOT)
        folder, word = Entry.of(parent_inode), os.fsdecode(name)
        if folder.folder is Folder.ROOT and word == SELF:
            await self._introduced(ctx.pid, ctx.uid)
        elif folder.folder in (Folder.PROC, Folder.HOME) and word.isdecimal():
            await self._introduced(int(word), ctx.uid)
        return self._attributes(self.tree.lookup(folder, word, ctx.uid, ctx.pid))

    async def _introduced(self, pid: int, uid: int) -> None:
        """Tracers tell of a new process some milliseconds after its birth: ``uid`` waits for that, if ``pid`` may be one."""
        world = self.tree.world
        if pid in world.programs or not world.traced(pid) or not self.waiting.may(uid):
            return
        with self.waiting.one(uid), trio.move_on_after(INTRODUCTION_TIMEOUT):
            while pid not in world.programs and world.traced(pid):
                await world.introduced.wait()

    async def getattr(self, inode: pyfuse3.InodeT, ctx: Caller) -> pyfuse3.EntryAttributes:
        return self._attributes(inode if self.private.owns(inode) else Entry.of(inode))

    async def setattr(
        self, inode: pyfuse3.InodeT, attr: pyfuse3.EntryAttributes, fields: pyfuse3.SetattrFields,
        fh: pyfuse3.FileHandleT | None, ctx: Caller,
    ) -> pyfuse3.EntryAttributes:
        """A shell's ``>`` truncates first: that and new times mean nothing here, other changes are refused."""
        if self.private.owns(inode):
            raise pyfuse3.FUSEError(errno.EACCES)
        place = Entry.of(inode)
        if fields.update_mode or fields.update_uid or fields.update_gid:
            raise PermissionError(errno.EPERM, "")
        self.tree.check(place, ctx.uid, os.W_OK)
        return self._attributes(place)

    async def readlink(self, inode: pyfuse3.InodeT, ctx: Caller) -> pyfuse3.FileNameT:
        if self.private.owns(inode) or Entry.of(inode) != SELF_LINK:
            raise OSError(errno.EINVAL, "")
        await self._introduced(ctx.pid, ctx.uid)
        return pyfuse3.FileNameT(self.tree.link(ctx.pid).encode())

    async def access(self, inode: pyfuse3.InodeT, mode: pyfuse3.ModeT, ctx: Caller) -> bool:
        try:
            if self.private.owns(inode):
                self.private.check(self.private.node(inode), ctx.uid, mode)
            else:
                self.tree.check(Entry.of(inode), ctx.uid, mode)
        except PermissionError:
            return False
        return True

    async def open(self, inode: pyfuse3.InodeT, flags: pyfuse3.FlagT, ctx: Caller) -> pyfuse3.FileInfo:
        if self.private.owns(inode):
            number = self.handles.add(ctx.uid, self.private.open(self.private.node(inode), ctx.uid, flags))
            return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(number), direct_io=True)
        place = Entry.of(inode)
        self.tree.check(place, ctx.uid, _ACCESS_OF_FLAGS.get(flags & os.O_ACCMODE, _EITHER))
        if place.folder is Folder.LETTERS and (office := self.tree.world.letters) is not None and not flags & os.O_ACCMODE:
            with self.waiting.one(ctx.uid):
                await office.collect(*letters.unpack(place.key, place.file))
        writer = (ctx.uid, ctx.gid, ctx.pid)
        number = self.handles.add(ctx.uid, OpenFile(place, self.tree.subject(place), writer=writer))
        # direct_io: the size in stat(2) is 0, and every read shall ask us
        return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(number), direct_io=True)

    async def read(self, fh: pyfuse3.FileHandleT, off: int, size: int) -> bytes:
        file = self.handles.open[fh]
        if isinstance(file, int):
            return os.pread(file, size, off)
        assert isinstance(file, OpenFile)
        if off == 0:
            self._same(file)
            file.text = b""
            text = self.tree.read(file.place) if file.answer is None else file.answer
            self.handles.keep(fh, len(text))
            file.text = text
        return file.text[off : off + size]

    async def write(self, fh: pyfuse3.FileHandleT, off: int, buf: bytes) -> int:
        file = self.handles.open[fh]
        assert isinstance(file, OpenFile)
        self._same(file)
        if file.place.folder is Folder.LETTERS and (office := self.tree.world.letters) is not None:
            with self.waiting.one(file.writer[0]):
                number = await office.post(*file.writer, *letters.unpack(file.place.key, file.place.file), bytes(buf))
            if number:
                raise OSError(number, "")
        elif file.place.folder is Folder.PROGRAM:
            with self.waiting.one(file.writer[0]):
                asked = self.tree.write(file.place, bytes(buf))
                if isinstance(asked, Asked) and await self.tree.world.pending.outcome(asked):
                    raise OSError(asked.error, "")
        else:
            answer = self.tree.write(file.place, bytes(buf))
            file.answer = answer if isinstance(answer, bytes) else None
        return len(buf)

    async def release(self, fh: pyfuse3.FileHandleT) -> None:
        self.handles.drop(fh)

    async def opendir(self, inode: pyfuse3.InodeT, ctx: Caller) -> pyfuse3.FileHandleT:
        listing = self._listing(inode, ctx)
        number = self.handles.add(ctx.uid, listing)
        try:
            self.handles.keep(number, LISTED * len(listing))
        except OSError:
            self.handles.drop(number)
            raise
        return pyfuse3.FileHandleT(number)

    def _listing(self, inode: int, ctx: Caller) -> Listing:
        if self.private.owns(inode):
            node = self.private.node(inode)
            self.private.check(node, ctx.uid, os.R_OK)
            return self.private.children(node)
        place = Entry.of(inode)
        self.tree.check(place, ctx.uid, os.R_OK)
        listing: list[tuple[str, Entry | int]] = list(self.tree.children(place, ctx.pid))
        if place == Entry(Folder.ROOT):
            listing.append((private.NAME, self.private.inode(private.ROOT)))
        return listing

    async def readdir(self, fh: pyfuse3.FileHandleT, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        listing = self.handles.open[fh]
        assert not isinstance(listing, OpenFile | int)
        for number in range(start_id, len(listing)):
            name, place = listing[number]
            try:
                attributes = self._attributes(place)
            except FileNotFoundError:  # it ended since the directory was opened
                continue
            if not pyfuse3.readdir_reply(token, pyfuse3.FileNameT(os.fsencode(name)), attributes, number + 1):
                break

    async def releasedir(self, fh: pyfuse3.FileHandleT) -> None:
        self.handles.drop(fh)

    async def statfs(self, ctx: Caller) -> pyfuse3.StatvfsData:
        data = pyfuse3.StatvfsData()
        data.f_bsize = data.f_frsize = 4096
        data.f_blocks = data.f_bfree = data.f_bavail = 0
        data.f_files = data.f_ffree = data.f_favail = 0
        data.f_namemax = 255
        return data

    def _same(self, file: OpenFile) -> None:
        """ENOENT when what the file was opened for is gone."""
        now = self.tree.subject(file.place)
        if now is not file.subject and not _interchangeable(now, file.subject):
            raise FileNotFoundError(errno.ENOENT, "")


def _interchangeable(now: Any, then: Any) -> bool:
    """Nodes that are only known from the map are made anew at each use; an IP stays the same node."""
    return type(now) is type(then) and hasattr(now, "ip") and now.ip == then.ip
