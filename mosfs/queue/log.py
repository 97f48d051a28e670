"""The two files of --joblog while a queue runs: see `joblog`."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from mosfs.queue.joblog import HEADER, Past, Row, checksum, past
from mosfs.wire.files import write_all


class LogError(Exception):
    """What cannot be written, read or locked: one line for the user."""


@dataclass(slots=True)
class Log:
    """``rows`` and ``journal``: descriptors for appending; we and all runners, which inherit it, hold a lock on the journal."""

    path: str
    rows: int
    journal: int
    past: Past = field(default_factory=Past)

    @property
    def journal_path(self) -> str:
        return self.path + ".journal"

    def started(self, lines: Iterable[tuple[int, bytes]]) -> None:
        """On the disk before it returns: these lines are about to be started. LogError."""
        now = time.time()
        text = "".join(f"S {number} {checksum(command)} {now:.3f}\n" for number, command in lines)
        try:
            write_all(self.journal, text.encode())
            os.fdatasync(self.journal)
        except OSError as error:
            raise LogError(f"{self.journal_path}: {error.strerror}") from None

    def row(self, row: Row) -> None:
        """LogError."""
        try:
            write_all(self.rows, row.text())
        except OSError as error:
            raise LogError(f"{self.path}: {error.strerror}") from None

    def close(self, complete: bool) -> None:
        """``complete``: each line that was started has its row, so nobody needs the journal any more. LogError."""
        try:
            os.fsync(self.rows)
            if complete:
                os.unlink(self.journal_path)
            os.close(self.rows)
            os.close(self.journal)
        except OSError as error:
            raise LogError(f"{self.path}: {error.strerror}") from None


def open_log(path: str, resume: bool, wait: float = 0.0) -> Log:
    """Begin anew, or go on where another left off. LogError also when lines of that one still run after ``wait`` seconds.

    The journal is emptied, and nobody has asked for it by name: where others can make links, theirs are not followed."""
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    try:
        journal = os.open(path + ".journal", flags | os.O_NOFOLLOW, 0o666)
        _lock(journal, path, wait)
        rows = os.open(path, flags, 0o666)
        if not resume:
            os.ftruncate(journal, 0)
            os.ftruncate(rows, 0)
        log = Log(path, rows, journal)
        if resume:
            log.past = _read(path)
            _cut(rows)
            _cut(journal)
        if not os.fstat(rows).st_size:
            write_all(rows, HEADER.encode())
    except OSError as error:
        raise LogError(f"{error.filename or path}: {error.strerror}") from None
    except ValueError as error:
        raise LogError(f"{path}: {error}") from None
    return log


def _lock(journal: int, path: str, wait: float) -> None:
    until = time.monotonic() + wait
    while True:
        try:
            fcntl.flock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= until:
                raise LogError(f"{path}: another mosrun -S, or lines that it has left running, still write to it") from None
        time.sleep(0.05)


def _read(path: str) -> Past:
    with open(path, "rb") as rows, open(path + ".journal", "rb") as journal:
        return past(rows, journal)


def _cut(fd: int) -> None:
    """Take away what was written of a last record that was never completed."""
    size = os.fstat(fd).st_size
    at = size
    while at > 0:
        first = max(0, at - 65536)
        part = os.pread(fd, at - first, first)
        if (found := part.rfind(b"\n")) >= 0:
            at = first + found + 1
            break
        at = first
    if at != size:
        os.ftruncate(fd, at)
