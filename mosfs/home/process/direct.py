"""Calls of programs away that need no deputy: reading what is open, when it is a regular file of an ordinary file system.

The tracer makes them on a copy of the descriptor (pidfd_getfd(2)): the open file description, and with it the position, is the
program's. Such calls do not block and no signal can meet them; who reads does not matter, because rights were looked at when the
file was opened. Writing is the deputy's: limits, quotas and set-ID bits depend on who writes.
"""

from __future__ import annotations

import mmap
import os
from contextlib import suppress

from mosfs.abi.args import as_c_int
from mosfs.abi.numbers import SYS_FSTAT, SYS_LSEEK, SYS_PREAD64, SYS_READ
from mosfs.calls.request import Request
from mosfs.home.process.program import Program
from mosfs.migrate.capture import signed
from mosfs.native import ffi, lib
from mosfs.wire.room import to_keep

#: Call -> which argument points to where the answer goes, -1 for none.
CALLS = {SYS_READ: 1, SYS_FSTAT: 1, SYS_LSEEK: -1, SYS_PREAD64: 1}
#: Longer transfers are the deputy's.
ROOM = 1 << 20


class Direct:
    """One buffer for all programs of a tracer."""

    def __init__(self) -> None:
        self._buffer = mmap.mmap(-1, ROOM, mmap.MAP_PRIVATE)  # takes memory only when it is used
        self._room = ffi.from_buffer(self._buffer)
        self._view = memoryview(self._buffer)

    def call(self, p: Program, request: Request) -> tuple[int, list[tuple[int, memoryview]]] | None:
        """(result, [(address, bytes)]) as a deputy would bring them back, valid until the next call; None: not such a call."""
        where = CALLS.get(request.nr)
        if where is None:
            return None
        size = 0
        if where >= 0:
            if len(request.blobs) != 1 or request.blobs[0].arg != where:
                return None
            size = request.blobs[0].size
            if size > ROOM or (request.nr != SYS_FSTAT and size != request.args[2]):
                return None
        if self.pidfd(p) < 0:
            return None
        args = request.args
        first, second = (args[1], args[2]) if request.nr == SYS_LSEEK else (args[2], args[3])
        result = lib.mos_direct(p.body.pidfd, as_c_int(args[0]), request.nr, self._room, signed(first), signed(second))
        if result == lib.MOS_NOT_DIRECT:
            return None
        brought = size if request.nr == SYS_FSTAT else result
        return result, [(request.blobs[0].addr, self._view[:brought])] if where >= 0 and result >= 0 and brought else []

    @staticmethod
    def pidfd(p: Program) -> int:
        """A pidfd of the deputy, -1 if it has ended."""
        if p.body.pidfd < 0:
            with suppress(OSError):
                p.body.pidfd = to_keep(os.pidfd_open(p.pid))
        return p.body.pidfd

    @staticmethod
    def forget(p: Program) -> None:
        if p.body.pidfd >= 0:
            os.close(p.body.pidfd)
            p.body.pidfd = -1
