"""The bytes of a message. Short ones are bytes; long ones lie in a memory file whose descriptor goes from process to process,
so that on one node they are copied twice only: out of the sender's memory and into the receiver's."""

from __future__ import annotations

import errno
import os

from mosfs.wire.files import opened_by_others, write_all
from mosfs.wire.room import to_keep

#: Longer messages travel in a memory file: a datagram of the control socket has room for 64 KB.
INLINE = 32 * 1024
#: Memory files that one sender keeps, and the longest message that is put into one of them, in bytes.
KEPT, LONGEST_KEPT = 4, 1 << 20


class Body:
    """Exactly one of bytes and memory file. Whoever has it last closes it."""

    __slots__ = ("data", "fd", "size")

    def __init__(self, data: bytes = b"", fd: int = -1, size: int = 0) -> None:
        self.data = data
        self.fd = fd
        self.size = size if fd >= 0 else len(data)

    @classmethod
    def file(cls) -> Body:
        """A memory file to be filled by `append`. OSError when there is no memory."""
        return cls(fd=to_keep(os.memfd_create("message", os.MFD_CLOEXEC)))

    @classmethod
    def received(cls, fd: int, size: int) -> Body:
        """A memory file that came from another process, which said it has ``size`` bytes; ValueError if it has fewer."""
        if os.fstat(fd).st_size < size:
            raise ValueError("the memory file is too short")
        return cls(fd=fd, size=size)

    def __len__(self) -> int:
        return self.size

    def append(self, data: bytes | bytearray | memoryview) -> None:
        """Add to a memory file. Its pages are made by pwrite(2): half as dear as by touching a mapping."""
        write_all(self.fd, data, self.size)
        self.size += len(data)

    def read_into(self, offset: int, room: memoryview) -> None:
        """Fill ``room`` from ``offset`` on; OSError when the message ends before."""
        if self.fd < 0:
            room[:] = self.data[offset : offset + len(room)]
            return
        while room:
            got = os.preadv(self.fd, [room], offset)
            if not got:
                raise OSError(errno.EIO, "the memory file is too short")
            offset += got
            room = room[got:]

    def moved(self) -> Body:
        """The same contents in a new object, for an owner who keeps it; this one is empty then."""
        new = Body(self.data, self.fd, self.size)
        self.data, self.fd, self.size = b"", -1, 0
        return new

    def part(self, offset: int, size: int) -> bytes:
        """``size`` bytes from ``offset`` on, fewer at the end of the message."""
        if self.fd < 0:
            return self.data[offset : offset + size]
        return os.pread(self.fd, max(0, min(size, self.size - offset)), offset)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
            self.size = 0


class Files:
    """The memory files of one sender of many messages to one mailbox. One that nobody else has open any more is used again: a new
    one has its pages made and freed, which takes longer than to fill and to read them.

    Who has had such a file open could still have it, and see or change what comes next; so the next that gets it is the reader of
    that mailbox again, or nobody."""

    def __init__(self) -> None:
        self._of: tuple[object, object] | None = None
        self._kept: list[int] = []
        self._possible = True

    def body(self, of: tuple[object, object], size: int) -> Body:
        """An empty memory file for a message of ``size`` bytes. ``of``: sender and mailbox. OSError when there is no memory."""
        if of != self._of:
            self.close()
            self._of = of
        elif size <= LONGEST_KEPT and self._possible:
            free = next((fd for fd in self._kept if opened_by_others(fd) is False), -1)
            try:
                if free < 0 and len(self._kept) < KEPT:
                    free = self._new()
                if free >= 0:
                    return Body(fd=to_keep(_opened_again(free)))
            except OSError:
                self._possible = False
        return Body.file()

    def _new(self) -> int:
        made = Body.file()
        try:
            self._kept.append(to_keep(_opened_again(made.fd)))
        finally:
            made.close()
        return self._kept[-1]

    def forget(self, sender: object) -> None:
        """It sends no more."""
        if self._of is not None and self._of[0] == sender:
            self.close()

    def close(self) -> None:
        self._of = None
        while self._kept:
            os.close(self._kept.pop())


def _opened_again(fd: int) -> int:
    """Another open file of what ``fd`` is one of. OSError."""
    return os.open(f"/proc/self/fd/{fd}", os.O_RDWR | os.O_CLOEXEC)
