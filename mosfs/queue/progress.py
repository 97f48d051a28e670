"""How far a queue is: a line on the terminal, and a file for mosps -S."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from mosfs.trace.proc import start_time

#: Seconds between two lines: on a terminal, where each replaces the one before, and elsewhere; between two writes of the file.
TERMINAL, PLAIN, FILE = 0.2, 10.0, 0.5
#: Bytes of the file, and its name.
LENGTH = 80
_NAME = re.compile(r"\d{1,10}\.[0-9a-f]{16}", re.ASCII)


def duration(seconds: float) -> str:
    """``0:07``, ``12:30``, ``3:02:11`` or ``2d 4:00:00``."""
    whole = int(seconds)
    days, whole = divmod(whole, 86400)
    hours, whole = divmod(whole, 3600)
    text = f"{hours}:{whole // 60:02}:{whole % 60:02}" if hours or days else f"{whole // 60}:{whole % 60:02}"
    return f"{days}d {text}" if days else text


def estimate(done: int, total: int, elapsed: float) -> float | None:
    """Seconds until the rest of ``total`` is done, if it goes on as it went; None when nothing is known yet."""
    return None if not done or elapsed <= 0 else (total - done) * elapsed / done


@dataclass(frozen=True, slots=True)
class Counts:
    """``before``: those of ``done`` that an earlier queue has done (--resume)."""

    total: int
    done: int
    failed: int
    running: int
    before: int = 0


def shown(counts: Counts, elapsed: float, open_end: bool = False) -> str:
    """The line. ``open_end``: more lines may come, so nobody knows how many."""
    left = None if open_end else estimate(counts.done - counts.before, counts.total - counts.before, elapsed)
    share = "" if open_end or not counts.total else f" ({counts.done * 100 // counts.total}%)"
    words = [f"{counts.done} of {counts.total}{'+' * open_end} done{share}", f"{counts.failed} failed", f"{counts.running} running",
             duration(elapsed)]
    if left is not None and counts.done < counts.total:
        words.append(f"about {duration(left)} left")
    return ", ".join(words)


# --------------------------------------------------------------------------- for mosps -S


def folder_of(state: str) -> str:
    """Where each mosrun -S of a node tells how far it is, in what the node keeps over restarts; every user may make files there."""
    return os.path.join(state, "multi")


@dataclass(frozen=True, slots=True)
class Queued:
    """A queue as `read_all` finds it. ``started``: of its process, in ticks since boot."""

    pid: int
    uid: int
    started: int
    total: int
    done: int
    failed: int


class ProgressFile:
    """One small file in a directory where every user may make one; none when that cannot be made. Nobody can make it before us:
    its name is the PID and something random."""

    def __init__(self, folder: str) -> None:
        self.pid = os.getpid()
        self.path = os.path.join(folder, f"{self.pid}.{os.urandom(8).hex()}")
        self._fd = -1
        with suppress(OSError):
            sweep(folder)
        with suppress(OSError):
            self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        self._started = start_time(self.pid)

    def write(self, counts: Counts) -> None:
        if self._fd >= 0:
            text = f"{self._started} {counts.total} {counts.done} {counts.failed}".ljust(LENGTH - 1) + "\n"
            with suppress(OSError):
                os.pwrite(self._fd, text.encode(), 0)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            with suppress(OSError):
                os.unlink(self.path)


def read_one(folder: str, name: str) -> Queued | None:
    """What a file tells; None when its writer is not that process, or has ended. Any user may write anything there."""
    try:
        fd = os.open(os.path.join(folder, name), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        owner, text = os.fstat(fd).st_uid, os.read(fd, LENGTH)
        pid = _pid_of(name)
        started, total, done, failed = map(int, text.split())
        if owner != os.stat(f"/proc/{pid}").st_uid or started != start_time(pid) or min(total, done, failed) < 0:
            return None
        return Queued(pid, owner, started, total, done, failed)
    except (OSError, ValueError):
        return None
    finally:
        os.close(fd)


def read_all(folder: str) -> Iterator[Queued]:
    """Every queue of this node that runs, once."""
    try:
        names = sorted(filter(_NAME.fullmatch, os.listdir(folder)), key=_pid_of)
    except OSError:
        return
    last = 0
    for queued in filter(None, (read_one(folder, name) for name in names)):
        if queued.pid != last:
            yield queued
        last = queued.pid


def _pid_of(name: str) -> int:
    return int(name.partition(".")[0])


def sweep(folder: str) -> None:
    """Remove what our own queues have left that were killed. OSError as it comes."""
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        with suppress(OSError, ValueError):
            if os.lstat(path).st_uid == os.geteuid() and not start_time(_pid_of(name)):
                os.unlink(path)
