"""Files on the disk that are nobody's private files any more. As long as somebody can write to one it is kept empty: its space is
the administrator's (`home.asks.disk_space`, `daemon.leftovers`)."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
from collections.abc import Iterable
from contextlib import suppress


def still_open(fds: Iterable[int]) -> list[int]:
    """Those of our descriptors to whose files others can write: these are empty now. The others are closed."""
    return [fd for fd in fds if is_kept_empty(fd)]


def is_kept_empty(fd: int) -> bool:
    """Cut the file of our descriptor; False: nobody else can write to it, and it is closed."""
    with suppress(OSError):
        os.ftruncate(fd, 0)
    if opened_by_others(fd):
        return True
    os.close(fd)
    return False


def opened_by_others(fd: int) -> bool:
    """Whether an open file of another descriptor than ``fd``, which we have for writing, can write to its file: the kernel grants a
    write lease when nobody can (fcntl(2)). False where it grants none at all."""
    try:
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)  # should somebody open it at this moment; SIGIO would end us
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        return error.errno == errno.EAGAIN
    return False
