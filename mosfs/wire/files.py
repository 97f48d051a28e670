"""What the kernel does of files only in part, or tells only by the way."""

from __future__ import annotations

import errno
import fcntl
import os
import signal


def write_all(fd: int, data: bytes | bytearray | memoryview, at: int | None = None) -> None:
    """All of ``data`` (bytes), from the offset ``at`` on, or where the file stands, though write(2) may take less at once.

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


def opened_by_others(fd: int) -> bool | None:
    """Whether an open file of another descriptor than ``fd``, which we have for writing, can write to its file: the kernel grants a
    write lease when nobody can (fcntl(2)). None where it grants none at all."""
    try:
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)  # should somebody open it at this moment; SIGIO would end us
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        return True if error.errno == errno.EAGAIN else None
    return False
