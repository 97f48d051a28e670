"""The private files of one process: names, contents, and how much of them there may be.

Contents are files without a name in any file system (a memfd, or O_TMPFILE in the directory of private.conf) that exist as long as
somebody has them open. So they vanish with their process whatever happens to us.

A process keeps its files in memory up to 10 MB in all, then all of them are on disk (manual, 5.4). Holes cost nothing.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

from mosfs.wire.files import write_all
from mosfs.wire.room import to_keep

#: (st_dev, st_ino)
Inode = tuple[int, int]

MEMORY_LIMIT = 10 << 20
#: Space beyond twice the limit that nobody has by calls that we see: not by parallel writes, nor by what file systems keep ahead.
TOLERATED = 64 << 20
O_TMPFILE = 0o20200000
COPY = 1 << 20


class Room(Enum):
    FITS = auto()
    SPILL = auto()  # it fits, on disk
    FULL = auto()


@dataclass(frozen=True, slots=True)
class Quota:
    """What a process may have here: ``limit`` bytes in all. ``directory`` "": there is no disk-space for it."""

    directory: str = ""
    limit: int = MEMORY_LIMIT

    @staticmethod
    def of(spaces: Mapping[str, tuple[str, int]], owner: str) -> Quota:
        """Of an owner by what mosd tells of private.conf (`wire.messages.Config.private`)."""
        directory, megabytes = spaces.get(owner, ("", MEMORY_LIMIT >> 20))
        return Quota(directory, megabytes << 20)

    def capped(self, limit: int) -> Quota:
        """A guest cannot exceed the limit of its home-node (mosix(7), private.conf)."""
        return Quota(self.directory, min(self.limit, limit))


def room(used: int, growth: int, on_disk: bool, quota: Quota) -> Room:
    """May ``growth`` bytes be added to ``used`` ones?"""
    total = used + growth
    if total > quota.limit:
        return Room.FULL
    if on_disk or total <= MEMORY_LIMIT:
        return Room.FITS
    return Room.SPILL if quota.directory else Room.FULL


def grant(used: int, on_disk: bool, quota: Quota) -> int:
    """How many bytes may be written before `room` must be asked again."""
    limit = quota.limit if on_disk else min(quota.limit, MEMORY_LIMIT)
    return max(0, limit - used)


def beyond(taken: int, limit: int) -> bool:
    """Whether so many bytes on the disk were taken by a door that we do not see."""
    return taken > 2 * limit + TOLERATED


@dataclass(slots=True, eq=False)
class File:
    """``fd`` is ours, for reading and writing. ``name`` None: unlinked, there as long as it is open. ``mode``: 0-07777."""

    number: int
    fd: int
    mode: int
    name: bytes | None

    def stat(self) -> os.stat_result:
        return os.fstat(self.fd)

    @property
    def inode(self) -> Inode:
        found = self.stat()
        return found.st_dev, found.st_ino

    def used(self) -> int:
        found = self.stat()
        return min(found.st_size, found.st_blocks * 512)

    def growth(self, at: int, size: int) -> int:
        """At most so much more is used after ``size`` bytes were written at ``at``."""
        found = self.stat()
        if at > found.st_size or found.st_blocks * 512 < found.st_size:
            return size
        return max(0, at + size - found.st_size)


@dataclass(slots=True, eq=False)
class Description:
    """An open file description (open(2)) of a guest: several descriptors may share it. ``flags`` as fcntl F_GETFL has them."""

    file: File
    flags: int
    position: int = 0

    @property
    def readable(self) -> bool:
        return self.flags & os.O_ACCMODE != os.O_WRONLY

    @property
    def writable(self) -> bool:
        return self.flags & os.O_ACCMODE != os.O_RDONLY

    @property
    def appends(self) -> bool:
        return bool(self.flags & os.O_APPEND)


@dataclass(slots=True)
class Store:
    """``descriptors`` are kept only for guests: at home the kernel knows. All methods raise OSError with the program's errno."""

    directories: tuple[bytes, ...]
    quota: Quota = field(default_factory=Quota)
    on_disk: bool = False
    next_number: int = 1
    names: dict[bytes, File] = field(default_factory=dict)
    files: dict[int, File] = field(default_factory=dict)
    descriptors: dict[int, Description] = field(default_factory=dict)
    umask: int = 0o022
    log: list[tuple[bytes, int]] = field(default_factory=list)  #: what became of names: (name, descriptor of ours or -1)
    closes: Callable[[int], None] = os.close  #: a descriptor of ours: its file is not needed any more

    # ------------------------------------------------------------------ names

    def get(self, name: bytes) -> File:
        file = self.names.get(name)
        if file is None:
            raise OSError(errno.ENOENT, "")
        return file

    def prepare(self, name: bytes, flags: int) -> File | None:
        """What open(2) finds: a file, or None if it has to be made."""
        if not name:
            if flags & O_TMPFILE != O_TMPFILE:
                raise OSError(errno.EISDIR if flags & os.O_ACCMODE or flags & os.O_CREAT else errno.EACCES, "")
            if not flags & os.O_ACCMODE:
                raise OSError(errno.EINVAL, "")
            return None
        if len(name) - name.rindex(b"/") > 256:
            raise OSError(errno.ENAMETOOLONG, "")
        file = self.names.get(name)
        if file is None:
            if not flags & os.O_CREAT or flags & O_TMPFILE == O_TMPFILE:
                raise OSError(errno.ENOENT, "")
            return None
        if flags & os.O_CREAT and flags & os.O_EXCL:
            raise OSError(errno.EEXIST, "")
        if flags & os.O_DIRECTORY:
            raise OSError(errno.ENOTDIR, "")
        return file

    def create(self, name: bytes, mode: int) -> File:
        """A new empty file; ``name`` b"": without one."""
        file = File(self.next_number, self.backing(), mode & 0o7777, name or None)
        self.next_number += 1
        self.files[file.number] = file
        if name:
            self.link(name, file)
        return file

    def link(self, name: bytes, file: File) -> None:
        file.name = name
        self.names[name] = file
        self.log.append((name, file.fd))

    def unlink(self, name: bytes) -> File:
        """The name is gone; the file is, too, with its last descriptor (`discard`)."""
        file = self.get(name)
        del self.names[name]
        file.name = None
        self.log.append((name, -1))
        return file

    def discard(self, file: File) -> None:
        """Nobody has this unlinked file open any more."""
        if self.files.pop(file.number, None) is not None:
            self._close(file)

    def discard_unless(self, opened: Iterable[int]) -> None:
        """Forget every file that has no name and is not among the numbers ``opened``."""
        kept = set(opened)
        for file in [f for f in self.files.values() if f.name is None and f.number not in kept]:
            self.discard(file)

    def close(self) -> None:
        """All is gone."""
        for file in self.files.values():
            self._close(file)
        self.files.clear()
        self.names.clear()
        self.descriptors.clear()
        self.log.clear()

    def _close(self, file: File) -> None:
        self.closes(file.fd) if self.on_disk else os.close(file.fd)

    # ------------------------------------------------------------------ room

    def taken(self) -> int:
        """Bytes on the disk, whoever has written them."""
        return sum(file.stat().st_blocks * 512 for file in self.files.values()) if self.on_disk else 0

    def cut(self) -> None:
        """Give all of that back."""
        for file in self.files.values():
            os.ftruncate(file.fd, 0)

    def backing(self) -> int:
        """A new empty file, where the files of this process are."""
        if not self.on_disk:
            return to_keep(os.memfd_create("private", os.MFD_CLOEXEC))
        try:
            return to_keep(nameless(self.quota.directory))
        except OSError as error:
            raise OSError(errno.EMFILE if error.errno == errno.EMFILE else errno.ENOSPC, "") from None

    def used(self) -> int:
        return sum(file.used() for file in self.files.values())

    def reserve(self, file: File, at: int, size: int) -> list[tuple[File, int]]:
        """Before ``size`` bytes are written at ``at``. ENOSPC, or what `to_disk` returned if the files had to go there."""
        match room(self.used(), file.growth(at, size), self.on_disk, self.quota):
            case Room.FITS:
                return []
            case Room.SPILL:
                return self.to_disk()
            case Room.FULL:
                raise OSError(errno.ENOSPC, "")

    def to_disk(self) -> list[tuple[File, int]]:
        """Move all files to disk: (file, its old descriptor, which is now the caller's). On failure nothing has changed."""
        fresh: dict[int, int] = {}
        try:
            for file in self.files.values():
                fresh[file.number] = nameless(self.quota.directory)
                copy(file.fd, fresh[file.number])
        except OSError:
            for fd in fresh.values():
                os.close(fd)
            raise OSError(errno.ENOSPC, "") from None
        moved = []
        for file in self.files.values():
            moved.append((file, file.fd))
            file.fd = fresh[file.number]
            if file.name is not None:
                self.log.append((file.name, file.fd))
        self.on_disk = True
        return moved

    # ------------------------------------------------------------------ descriptors of guests

    def describe(self, fd: int, description: Description) -> None:
        self.forget(fd)
        self.descriptors[fd] = description

    def forget(self, fd: int) -> None:
        """A descriptor was closed."""
        description = self.descriptors.pop(fd, None)
        if description is None or description.file.name is not None:
            return
        if all(other.file is not description.file for other in self.descriptors.values()):
            self.discard(description.file)


def nameless(directory: str) -> int:
    """A file without a name in ``directory``, which nobody can give it one (open(2), O_EXCL): it may be root's, and takes room."""
    try:
        return os.open(directory, O_TMPFILE | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT):
            raise
    fd, name = tempfile.mkstemp(prefix=".mosix-", dir=directory)
    os.unlink(name)
    return fd


def extents(fd: int) -> Iterable[tuple[int, int]]:
    """The ranges (start, end) of a file that are not holes."""
    size = os.fstat(fd).st_size
    at = 0
    while at < size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            raise
        at = os.lseek(fd, start, os.SEEK_HOLE)
        yield start, at


def copy(source: int, target: int) -> None:
    """Contents, holes and times."""
    found = os.fstat(source)
    for start, end in extents(source):
        for at in range(start, end, COPY):
            write_all(target, os.pread(source, min(COPY, end - at), at), at)
    os.ftruncate(target, found.st_size)
    os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))


def reopened(file: File, flags: int, position: int) -> int:
    """A new open file description of ``file`` with the status ``flags`` of a program's own."""
    kept = flags & (os.O_ACCMODE | os.O_APPEND | os.O_NONBLOCK | os.O_NOATIME | os.O_SYNC | os.O_DSYNC)
    fd = os.open(f"/proc/self/fd/{file.fd}", kept | os.O_CLOEXEC)
    os.lseek(fd, position, os.SEEK_SET)
    return fd


