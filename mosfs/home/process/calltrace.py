"""Where ``mosrun --trace`` tells its calls: a descriptor of the user's, which must never hold the tracer up.

One line a call: seconds since the start, PID, where the program was, the call and its result, who served it. What the kernel
serves at home without a stop is not seen, nor what a body's own kernel serves (memory, signal handling).
"""

from __future__ import annotations

import fcntl
import os
import select
import stat
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from mosfs.calls import show
from mosfs.trace.taken import write_once

#: Bytes that may wait for a reader; what does not fit is counted and dropped.
MAX_WAITING = 1 << 20
#: A pipe that poll(2) calls writable takes so many bytes at once (PIPE_BUF).
AT_ONCE = 4096
#: Writes that have waited for up to a second each, until there is no trace any more.
MOST_WAITS = 3
#: Seconds that a reader has for what is left at the end.
PATIENCE = 2.0


def without_waiting(fd: int) -> int:
    """``fd``, or in its place a descriptor for the same pipe or terminal, which never waits for a reader.

    A terminal that poll(2) calls writable may have room for one byte, and the room of a pipe may be gone by the time of the write.
    O_NONBLOCK belongs to the open file, which the user's programs share, so we open our own; only what is open for writing already.
    """
    pipe = stat.S_ISFIFO(os.fstat(fd).st_mode)
    if not (pipe or os.isatty(fd)) or fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
        return fd
    try:
        own = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:  # nobody reads any more, or it is not ours to open
        return fd
    os.close(fd)
    return own


class CallTrace:
    """``fd`` is ours to close. Lines wait while nobody reads.

    ``rights``: with which they are written. What a write may do, and who a socket says has written, depends on the writer: quotas
    and room that is kept for root, SCM_CREDENTIALS of unix(7)."""

    def __init__(self, fd: int, rights: Callable[[], AbstractContextManager[None]] = nullcontext) -> None:
        with rights():
            self.fd = fd = without_waiting(fd)
        self._rights = rights
        self._began = time.monotonic()
        self._waiting = bytearray()
        self._dropped = self._waited = 0
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)

    def call(self, pid: int, place: str, said: str, nr: int, result: int | None, server: str) -> None:
        """A call that has returned; ``result`` None: it has not, or nobody knows."""
        value = "?" if result is None else show.result(nr, result)
        self.line(pid, place, f"{said} = {value}  [{server}]")

    def line(self, pid: int, place: str, said: str) -> None:
        if self.fd < 0:
            return
        line = f"{time.monotonic() - self._began:11.6f} {pid} {place} {said}\n".encode(errors="replace")
        if len(self._waiting) + len(line) > MAX_WAITING:
            self._dropped += 1
        else:
            self._waiting += line
        self.flush()

    def flush(self, timeout: float = 0.0) -> None:
        """Write what can be written within so many seconds."""
        deadline = time.monotonic() + timeout
        while self._waiting and self.fd >= 0:
            if not self._poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                return
            try:
                with self._rights():
                    done = write_once(self.fd, self._waiting[:AT_ONCE])
            except BlockingIOError:
                return
            except InterruptedError:  # the tree has waited for it
                self._waited += 1
                if self._waited < MOST_WAITS:
                    return
                done = 0
            except OSError:  # nobody will ever read it
                done = 0
            if not done:
                self.close()
                return
            self._waited = 0
            del self._waiting[:done]
            if self._dropped and not self._waiting:
                self._waiting += f"... {self._dropped} lines were not read in time\n".encode()
                self._dropped = 0

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        self._waiting.clear()
