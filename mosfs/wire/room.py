"""What a process of ours has one supply of for all the programs that it serves: descriptors (getrlimit(2), RLIMIT_NOFILE), and
the memory of its node."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable

#: So many stay free for what every program needs for a moment: files of /proc, copies of descriptors.
RESERVE = 128


def few_left(fd: int) -> bool:
    """Whether the descriptor ``fd`` is among the last: the kernel gives the lowest that is free."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return limit != resource.RLIM_INFINITY and fd >= limit - RESERVE


def to_keep(fd: int) -> int:
    """``fd``, new, which will be kept for one program. OSError EMFILE, and it is closed, when few are left for the others."""
    if few_left(fd):
        os.close(fd)
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    return fd


def raise_limit() -> None:
    """Raise our limit of descriptors as far as we may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def available() -> int:
    """Bytes of memory that programs could still get (proc(5), MemAvailable)."""
    with open("/proc/meminfo", encoding="ascii") as file:
        return next((int(line.split()[1]) << 10 for line in file if line.startswith("MemAvailable:")), 0)


class Memory:
    """How much may be kept for one peer: it, and whatever else is on this node, shall not want for memory by that."""

    #: Bytes after which we look again how much there is.
    LOOK = 4 << 20

    def __init__(self, left: Callable[[], int] = available) -> None:
        self._left = left
        self._seen = self.LOOK

    def holds(self, size: int) -> bool:
        """Whether ``size`` bytes may be kept in all: a third of what would be free without them."""
        if size < self._seen:
            return True
        self._seen = size + self.LOOK
        return size <= self._left() // 2
