"""Carries out calls on a `Store`, for the home-node and for guests alike: results and the memory to fill, as data.

What differs between the two (descriptors, reading and writing) is theirs: `home.asks.private`, `guest.private`.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from mosfs.abi.numbers import SYS_ACCESS, SYS_CHMOD, SYS_LSTAT, SYS_STAT, SYS_TRUNCATE, SYS_UNLINKAT
from mosfs.ptf.directories import Private, classify
from mosfs.ptf.rules import Act, Rule, on_descriptor
from mosfs.ptf.store import O_TMPFILE, File, Store

#: st_dev of every private file.
DEVICE = 0xFE
BLOCK = 4096
SECOND = 10**9
AT_REMOVEDIR = 0x200
STATX_BASIC = 0x7FF
STAT = struct.Struct("<3Q3I4xQqqq6Q24x")
STATX = struct.Struct("<2IQ3IH2x4Q" + "qI4x" * 4 + "4IQ104x")
DIRECTORY_MODE = stat.S_IFDIR | 0o1777
#: Calls that make what they name: it need not exist.
_MAKERS = frozenset({83, 258, 133, 259, 88, 266})


class Memory(Protocol):
    """The program's memory; OSError for what cannot be read."""

    def read(self, addr: int, size: int) -> bytes: ...
    def read_string(self, addr: int, limit: int = ...) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Answer:
    """``result`` as the kernel returns it; ``data`` goes to ``at``."""

    result: int
    at: int = 0
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class Open:
    """open(2) of a private name ("" = O_TMPFILE in the directory)."""

    name: bytes
    flags: int
    mode: int


@dataclass(frozen=True, slots=True)
class OnDescriptor:
    """The call is about its first descriptor."""


def by_path(store: Store, rule: Rule, args: tuple[int, ...], memory: Memory) -> Answer | Open | OnDescriptor | None:
    """What becomes of a call with path arguments; None: it concerns no private file."""
    try:
        paths = [memory.read_string(args[i]) if args[i] else None for i in rule.paths]
    except OSError:
        return None  # the kernel's business
    if on_descriptor(rule, args, paths[0] if paths else None):
        return OnDescriptor()
    names = [None if path is None else classify(path, store.directories) for path in paths]
    private = [name for name in names if name is not None]
    if not private:
        return None
    try:
        if rule.act is Act.OPEN:
            return _open(rule, args, private[0], memory)
        if rule.act is Act.REFUSED:
            for name in private:
                _must_be_there(store, rule, name)
            return Answer(-rule.errno)
        return _named(store, rule, args, private[0])
    except OSError as error:
        return Answer(-(error.errno or errno.EIO))


def _must_be_there(store: Store, rule: Rule, name: Private) -> None:
    if rule.nr in _MAKERS or (rule.name.startswith(("link", "rename")) and name.name not in store.names):
        if not name.name or name.name in store.names:
            raise OSError(errno.EEXIST, "")
    elif name.name:
        store.get(name.name)


def _open(rule: Rule, args: tuple[int, ...], name: Private, memory: Memory) -> Open:
    match rule.nr:
        case 2:
            flags, mode = args[1], args[2]
        case 85:
            flags, mode = os.O_CREAT | os.O_WRONLY | os.O_TRUNC, args[1]
        case 257:
            flags, mode = args[2], args[3]
        case _:
            flags, mode, _resolve = struct.unpack("<3Q", memory.read(args[2], 24))
    flags &= 0xFFFFFFFF
    if flags & os.O_PATH:
        raise OSError(errno.EPERM, "")
    if name.slash:
        raise OSError(errno.EISDIR if flags & os.O_CREAT else errno.ENOTDIR, "")
    return Open(name.name, flags, mode & 0o7777)


def _named(store: Store, rule: Rule, args: tuple[int, ...], name: Private) -> Answer:
    """A call on one name."""
    if not name.name:
        return _on_directory(store, rule, args)
    file = store.get(name.name)
    if name.slash:
        raise OSError(errno.ENOTDIR, "")
    match rule.act:
        case Act.UNLINK:
            if rule.nr == SYS_UNLINKAT and args[2] & AT_REMOVEDIR:
                raise OSError(errno.ENOTDIR, "")
            store.unlink(name.name)
            return Answer(0)
        case Act.ACCESS:
            return _access(file.mode, args[1 if rule.nr == SYS_ACCESS else 2])
        case _:
            shift = 0 if rule.nr in (SYS_STAT, SYS_LSTAT, SYS_TRUNCATE, SYS_CHMOD) else 1
            return on_file(rule, file, args[1 + shift], args[4] if rule.act is Act.STATX else 0)


def _on_directory(store: Store, rule: Rule, args: tuple[int, ...]) -> Answer:
    match rule.act:
        case Act.STAT | Act.STATX:
            facts = Facts(0, DIRECTORY_MODE, 2, 0, 0, (0, 0, 0))
            at = args[4] if rule.act is Act.STATX else args[1 if rule.nr in (SYS_STAT, SYS_LSTAT) else 2]
            return Answer(0, at, facts.statx() if rule.act is Act.STATX else facts.stat())
        case Act.ACCESS:
            return Answer(0)
        case Act.UNLINK | Act.TRUNCATE:
            raise OSError(errno.EISDIR, "")
        case _:
            raise OSError(errno.EPERM, "")


def _access(mode: int, wanted: int) -> Answer:
    """Not enforced; what cannot be executed by anybody says so to root, too."""
    wanted &= 0xFFFFFFFF
    if wanted & ~7:
        raise OSError(errno.EINVAL, "")
    return Answer(-errno.EACCES if wanted & os.X_OK and not mode & 0o111 else 0)


def on_file(rule: Rule, file: File, value: int, buffer: int = 0) -> Answer:
    """STAT, STATX, CHMOD, TRUNCATE of a file. ``value``: the buffer (of STAT), the mode, the length."""
    match rule.act:
        case Act.STAT:
            return Answer(0, value, Facts.of(file).stat())
        case Act.STATX:
            return Answer(0, buffer, Facts.of(file).statx())
        case Act.CHMOD:
            file.mode = value & 0o7777
            return Answer(0)
        case _:
            if value >> 63:
                raise OSError(errno.EINVAL, "")
            os.ftruncate(file.fd, value)
            return Answer(0)


@dataclass(frozen=True, slots=True)
class Facts:
    """What stat(2) says. uid and gid are 0. ``times``: access, modification, change, ns."""

    number: int
    mode: int
    links: int
    size: int
    blocks: int
    times: tuple[int, int, int]

    @classmethod
    def of(cls, file: File) -> Facts:
        found = file.stat()
        times = (found.st_atime_ns, found.st_mtime_ns, found.st_mtime_ns)
        links = int(file.name is not None)
        return cls(file.number, stat.S_IFREG | file.mode, links, found.st_size, found.st_blocks, times)

    def stat(self) -> bytes:
        """struct stat of x86_64."""
        times = [part for time in self.times for part in divmod(time, SECOND)]
        return STAT.pack(DEVICE, self.number, self.links, self.mode, 0, 0, 0, self.size, BLOCK, self.blocks, *times)

    def statx(self) -> bytes:
        """struct statx: atime, btime, ctime, mtime."""
        access, modified, changed = (divmod(time, SECOND) for time in self.times)
        return STATX.pack(
            STATX_BASIC, BLOCK, 0, self.links, 0, 0, self.mode, self.number, self.size, self.blocks, 0,
            *access, 0, 0, *changed, *modified, 0, 0, 0, DEVICE, 0,
        )  # fmt: skip


def opened(store: Store, order: Open, umask: Callable[[], int]) -> tuple[File, bool]:
    """The file that an open is about, made if need be: (file, was it made). OSError as open(2)."""
    file = store.prepare(order.name, order.flags)
    if file is not None:
        return file, False
    return store.create(order.name, order.mode & ~umask()), True


def truncates(order: Open) -> bool:
    """O_TRUNC of an existing file."""
    return bool(order.flags & os.O_TRUNC) and order.flags & O_TMPFILE != O_TMPFILE
