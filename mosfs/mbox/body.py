"""The bytes of a message. Short ones are bytes; long ones lie in a memory file whose descriptor goes from process to process,
so that on one node they are copied twice only: out of the sender's memory and into the receiver's."""

from __future__ import annotations

import errno
import mmap
import os

from mosfs.wire.files import write_all
from mosfs.wire.room import to_keep

#: Longer messages travel in a memory file: a datagram of the control socket has room for 64 KB.
INLINE = 32 * 1024


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

    def view(self) -> memoryview:
        """Its contents where they lie, for the kernel to read: once it has been shortened, our own access to them would be our end.

        OSError when there is no memory, or fewer bytes."""
        if self.fd < 0 or not self.size:
            return memoryview(self.data)
        try:
            return memoryview(mmap.mmap(self.fd, self.size, mmap.MAP_SHARED, mmap.PROT_READ))
        except ValueError as error:
            raise OSError(errno.EIO, "the memory file is too short") from error

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
