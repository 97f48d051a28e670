"""Descriptors of our own: a process of ours has one supply for all the programs that it serves (getrlimit(2), RLIMIT_NOFILE)."""

from __future__ import annotations

import errno
import os
import resource

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
