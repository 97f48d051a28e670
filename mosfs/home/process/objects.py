"""Objects: memory that programs share, each a file in memory of which a tracer has a descriptor (docs/design/shared-memory.md)."""

from __future__ import annotations

import errno
import fcntl
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from mosfs.abi.reasons import Reason
from mosfs.cluster.words import told
from mosfs.migrate.image import MAX_SIZE, OBJECTS
from mosfs.migrate.maps import Mapping
from mosfs.native import ffi, lib
from mosfs.trace.layout import PAGE
from mosfs.trace.proc import descriptor_facts
from mosfs.trace.taken import take
from mosfs.wire.frames import MOST_OBJECTS
from mosfs.wire.room import to_keep

#: How maps calls such memory natively.
NAME = "/dev/zero (deleted)"
#: What nobody may undo keeps the size of a file in memory, or what is in it (memfd_create(2), fcntl(2)).
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | 0x10
#: A file that was made without a name (O_TMPFILE), as the kernel calls it: it may get one.
_NAMELESS = re.compile(r"/#\d+( \(deleted\))?\Z")


@dataclass(slots=True)
class Object:
    """``key``: device and inode as /proc/PID/maps shows them. ``size``: in bytes; of a file of a program, ``opened``, that of the
    last look (`look`)."""

    number: int
    fd: int
    size: int
    key: tuple[str, int]
    opened: bool = False

    @property
    def whole(self) -> int:
        """The size in whole pages: so much of it can be reached in memory."""
        return (self.size + PAGE - 1) & -PAGE

    @property
    def name(self) -> str:
        """As maps shows it."""
        return os.readlink(f"/proc/self/fd/{self.fd}") if self.opened else NAME

    def look(self) -> None:
        """While it is at home: how large it is now."""
        if self.opened:
            self.size = os.fstat(self.fd).st_size

    def empty(self) -> None:
        """Its contents are elsewhere now: they take no memory here."""
        os.ftruncate(self.fd, 0)
        os.ftruncate(self.fd, self.size)

    def obstacle(self) -> str:
        """Why it cannot be elsewhere, whoever has it; "" if it can."""
        if not self.opened:
            return ""
        facts = os.fstat(self.fd)
        if facts.st_nlink or _NAMELESS.search(self.name):
            return "it has, or may get, a name, by which others can open it"
        if facts.st_size > MAX_SIZE - PAGE:
            return "it is too large"
        return "it is sealed" if fcntl.fcntl(self.fd, fcntl.F_GET_SEALS) & _SEALS else ""

    def behind(self) -> bytes:
        """What has been written behind the end of a file, in its last page: memory has it, though no read does. OSError."""
        data = bytearray(self.whole - self.size)
        if data:
            _check(lib.mos_in_page(self.fd, self.size, ffi.from_buffer(data), len(data), 0))
        return bytes(data) if any(data) else b""

    def write(self, data: bytes, at: int) -> None:
        """Bring contents home. OSError."""
        inside = data[: max(self.size - at, 0)]
        if inside and os.pwrite(self.fd, inside, at) != len(inside):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if behind := bytearray(data[len(inside) :]):
            _check(lib.mos_in_page(self.fd, at + len(inside), ffi.from_buffer(behind), len(behind), 1))


def _check(result: int) -> None:
    if result:
        raise OSError(-result, os.strerror(-result))


class Store:
    """The objects of a tree, by number, and by what maps shows. ``make_room``: close what nobody has any more."""

    def __init__(self, make_room: Callable[[], None]) -> None:
        self._objects: dict[int, Object] = {}
        self._keys: dict[tuple[str, int], Object] = {}
        self._make_room = make_room
        self._last = OBJECTS
        self._nameless = -1  # the device of memfd_create(2)

    def __bool__(self) -> bool:
        return bool(self._objects)

    def all(self) -> list[Object]:
        return list(self._objects.values())

    def opened(self) -> list[Object]:
        """Those that are files of programs."""
        return [made for made in self._objects.values() if made.opened]

    def objects(self, numbers: Iterable[int]) -> list[Object]:
        """Those with these numbers."""
        return [self._objects[number] for number in sorted(numbers) if number in self._objects]

    def fd(self, number: int) -> int:
        """Our descriptor of an object."""
        return self._objects[number].fd

    def size(self, numbers: Iterable[int]) -> int:
        """Bytes that these objects have together."""
        return sum(made.whole for made in self.objects(numbers))

    def known(self, mapping: Mapping) -> tuple[int, str] | None:
        """Number and name of the object that a mapping shows."""
        found = self._keys.get((mapping.device, mapping.inode)) if self._keys else None
        return (found.number, mapping.name if found.opened else NAME) if found is not None else None

    def number(self, mapping: Mapping) -> int:
        """The number of the object that a mapping shows, or 0."""
        found = self.known(mapping)
        return found[0] if found is not None else 0

    def shown_by(self, pid: int, fd: int) -> Object | None:
        """The object that a descriptor of a process is one of; it need not be open for reading or writing.

        fdinfo tells the inode first (Linux 5.14): a stat(2) of any file might wait for a server of NFS or FUSE for ever."""
        if not self._keys:
            return None
        try:
            inode = descriptor_facts(pid, fd).get(b"ino")
            if inode is not None and int(inode) not in {made.key[1] for made in self._objects.values()}:
                return None
            found = self._keys.get(_key(os.stat(f"/proc/{pid}/fd/{fd}")))
        except OSError:
            return None
        return found if found is not None and found.opened else None

    # ------------------------------------------------------------------ made

    def is_in_memory(self, fd: int) -> bool:
        """Whether our copy of a program's descriptor is one of a file in memory, by which it may write as well. OSError."""
        if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDWR:  # another thread may have put it there
            return False
        if self._nameless < 0:
            made = os.memfd_create("device", os.MFD_CLOEXEC)
            self._nameless = os.fstat(made).st_dev
            os.close(made)
        # F_GET_SEALS is an error for all but files in memory; those of huge pages have large blocks
        fcntl.fcntl(fd, fcntl.F_GET_SEALS)
        return os.fstat(fd).st_dev != self._nameless and os.statvfs(fd).f_bsize == PAGE

    def _room(self) -> None:
        """OSError when there is none for one object more."""
        if len(self._objects) >= MOST_OBJECTS:
            self._make_room()
            if len(self._objects) >= MOST_OBJECTS:
                raise OSError(errno.EMFILE, f"the tree has {MOST_OBJECTS} pieces of it")

    def new(self, size: int) -> Object:
        self._room()
        fd = to_keep(os.memfd_create("shared", os.MFD_CLOEXEC))
        try:
            os.ftruncate(fd, size)
        except OSError:
            os.close(fd)
            raise
        return self._keep(fd, size)

    def open(self, pid: int, fd: int) -> Object:
        """The file that a program has open: an open file of our own, so that the kernel can tell whether there are others
        (`withheld`). OSError."""
        theirs = take(pid, fd, self.is_in_memory)
        try:
            if (known := self._keys.get(_key(os.fstat(theirs)))) is not None:
                return known
            self._room()
            ours = to_keep(os.open(f"/proc/self/fd/{theirs}", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK))
        finally:
            os.close(theirs)
        return self._keep(ours, os.fstat(ours).st_size, opened=True)

    def _keep(self, fd: int, size: int, *, opened: bool = False) -> Object:
        self._last += 1
        made = Object(self._last, fd, size, _key(os.fstat(fd)), opened)
        self._objects[made.number] = self._keys[made.key] = made
        return made

    def close(self, made: Object) -> None:
        del self._objects[made.number], self._keys[made.key]
        os.close(made.fd)


def why(made: Object, reason: str) -> str:
    """The text of a reason that is about one object."""
    return told(f"{Reason.MEMORY_SHARED} ({made.name.removesuffix(' (deleted)')}): {reason}")


def _key(facts: os.stat_result) -> tuple[str, int]:
    return f"{os.major(facts.st_dev):02x}:{os.minor(facts.st_dev):02x}", facts.st_ino
