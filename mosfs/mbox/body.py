"""The bytes of a message. Short ones are bytes; long ones lie in a memory file whose descriptor goes from process to process,
so that on one node they are copied twice only: out of the sender's memory and into the receiver's."""

from __future__ import annotations

import mmap
import os

#: Longer messages travel in a memory file: a datagram of the control socket has room for 64 KB.
INLINE = 32 * 1024


class Body:
    """Exactly one of bytes and memory file. Whoever has it last closes it."""

    __slots__ = ("_map", "data", "fd", "size")

    def __init__(self, data: bytes = b"", fd: int = -1, size: int = 0) -> None:
        self.data = data
        self.fd = fd
        self.size = size if fd >= 0 else len(data)
        self._map: mmap.mmap | None = None

    @classmethod
    def empty(cls, size: int) -> Body:
        """A memory file of ``size`` bytes to be filled through `view`. OSError when there is no memory."""
        fd = os.memfd_create("message", os.MFD_CLOEXEC)
        try:
            os.ftruncate(fd, size)
        except BaseException:
            os.close(fd)
            raise
        return cls(fd=fd, size=size)

    @classmethod
    def received(cls, fd: int, size: int) -> Body:
        """A memory file that came from another process, which said it has ``size`` bytes; ValueError if it has fewer."""
        if os.fstat(fd).st_size < size:
            raise ValueError("the memory file is too short")
        return cls(fd=fd, size=size)

    def __len__(self) -> int:
        return self.size

    def view(self) -> memoryview:
        """All bytes; writable for a memory file. Release it before `close`."""
        if self.fd < 0:
            return memoryview(self.data)
        if self._map is None:
            self._map = mmap.mmap(self.fd, self.size)
        return memoryview(self._map)

    def part(self, offset: int, size: int) -> bytes:
        with self.view() as view:
            return bytes(view[offset : offset + size])

    def close(self) -> None:
        if self._map is not None:
            self._map.close()
            self._map = None
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
            self.size = 0
