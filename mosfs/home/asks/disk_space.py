"""Disk-space of private files that is taken by doors which no filter shuts: a 32-bit call, ioctl(2) that asks for blocks
ahead, another process that was given a descriptor (unix(7), pidfd_getfd(2)).

It is the administrator's, in a directory where the user may not write. So it is looked at once a second: who has taken far more
than the limit is ended, without it. And what a process has left is nobody's: as long as somebody else has it open it is kept empty.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
from contextlib import suppress

from mosfs.home.ports import Tree
from mosfs.home.process.program import Holdings, Program
from mosfs.ptf.store import beyond

#: Of abandoned files: so many are kept empty; of more, the first are believed to be closed.
MOST_LEFT = 1024


class DiskSpace:
    """``left``: descriptors of files that are not private any more, and which somebody may write to."""

    def __init__(self, tracer: Tree) -> None:
        self.tracer = tracer
        self.left: list[int] = []

    def close(self, fd: int) -> None:
        """A private file on the disk that has vanished (`Store.closes`)."""
        with suppress(OSError):
            os.ftruncate(fd, 0)
        if not opened_by_others(fd):
            os.close(fd)
            return
        self.left.append(fd)
        if len(self.left) > MOST_LEFT:
            os.close(self.left.pop(0))

    def look(self) -> None:
        """Once a second."""
        left, self.left = self.left, []
        for fd in left:
            self.close(fd)
        holdings = {id(p.private): p for p in self.tracer.programs.values() if p.private is not None}
        for p in holdings.values():
            with self.tracer.containment.of(p):
                self._look_at(p, p.private)

    def _look_at(self, p: Program, own: Holdings | None) -> None:
        if own is None:
            return
        for store in own.retained:  # what stands for files that are away
            if store.taken():
                store.cut()
        own.most = max(own.most, own.store.quota.limit)
        if own.away or not beyond(taken := own.store.taken(), own.most):
            return
        own.store.cut()
        self.tracer.mosd.log(f"pid={p.pid} has taken {taken >> 20} MB of disk-space for private files, of {own.most >> 20}", 40)
        self.tracer.containment.kill(p)


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
