"""Writing all of something to a descriptor whose kernel may take less at once, or nothing, for ever."""

from __future__ import annotations

import errno
import os


def write_all(fd: int, data: bytes | bytearray | memoryview, at: int | None = None) -> None:
    """All of ``data`` (bytes), from the offset ``at`` on, or where the file stands.

    OSError, as it comes, and EIO where write(2) says that it has written nothing: for the kernel that is no error, but no progress
    (/proc/PID/mem of a process that has ended, a FUSE file system that says so).
    """
    left = memoryview(data)
    while left:
        done = os.write(fd, left) if at is None else os.pwrite(fd, left, at)
        if not done:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        left = left[done:]
        if at is not None:
            at += done
