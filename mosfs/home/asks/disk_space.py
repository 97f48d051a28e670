"""Disk-space of private files that is taken by doors which no filter shuts: a 32-bit call, ioctl(2) that asks for blocks
ahead, another process that was given a descriptor (unix(7), pidfd_getfd(2)).

It is the administrator's, in a directory where the user may not write. So it is looked at once a second: who has taken far more
than the limit is ended, without it. And what a process has left is nobody's: as long as somebody else has it open it is kept empty.
"""

from __future__ import annotations

import os

from mosfs.home.ports import Tree
from mosfs.home.process.program import Holdings, Program
from mosfs.ptf.left import is_kept_empty, still_open
from mosfs.ptf.store import beyond
from mosfs.wire.messages import PrivateLeft

#: Of abandoned files: so many are kept empty; of more, the first are believed to be closed.
MOST_LEFT = 1024


class DiskSpace:
    """``left``: descriptors of files that are not private any more, and which somebody may write to. A tracer without programs
    gives them to mosd: who holds many such files shall not hold a process for each."""

    def __init__(self, tracer: Tree) -> None:
        self.tracer = tracer
        self.left: list[int] = []

    def close(self, fd: int) -> None:
        """A private file on the disk that has vanished (`Store.closes`)."""
        if is_kept_empty(fd):
            self.left.append(fd)
        if len(self.left) > MOST_LEFT:
            os.close(self.left.pop(0))

    def look(self) -> None:
        """Once a second."""
        self.left = still_open(self.left)
        mosd = self.tracer.mosd
        while self.left and not self.tracer.programs and mosd.control.send(PrivateLeft(mosd.uid), self.left[0]):
            os.close(self.left.pop(0))
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
