"""What lines print, when it shall not be mixed: --group and --keep-order."""

from __future__ import annotations

import os
import tempfile
from collections import deque
from dataclasses import dataclass, field

from mosfs.wire.files import write_all

#: Bytes that are copied at once.
PART = 1 << 18
Pair = tuple[int, int]


def scratch() -> int:
    """A file without a name. OSError as it comes."""
    folder = os.environ.get("TMPDIR") or "/tmp"
    try:
        return os.open(folder, os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
    except OSError:
        fd, name = tempfile.mkstemp(dir=folder)
        os.unlink(name)
        return fd


def pour(fd: int, target: int) -> None:
    """Copy all of ``fd`` to ``target`` and close it."""
    try:
        at = 0
        while part := os.pread(fd, PART, at):
            write_all(target, part)
            at += len(part)
    finally:
        os.close(fd)


@dataclass(slots=True)
class Outputs:
    """``ordered``: what a line has printed waits for the lines before it. At most ``room`` lines run or wait: each needs files."""

    ordered: bool
    room: int
    _order: deque[int] = field(default_factory=deque)  # numbers of the lines that were started and are not out yet
    _held: dict[int, Pair | None] = field(default_factory=dict)
    _open: int = 0  # pairs

    def begin(self, number: int) -> Pair:
        """Files for the standard output and standard error of a line. OSError as it comes."""
        if self.ordered and number not in self._held:
            self._order.append(number)
        first = scratch()
        try:
            pair = first, scratch()
        except OSError:
            os.close(first)
            raise
        self._open += 1
        return pair

    @property
    def full(self) -> bool:
        return self._open >= self.room

    def forget(self, pair: Pair) -> None:
        """The line will be tried again, with other files: what it has printed is forgotten."""
        self._open -= 1
        for fd in pair:
            os.close(fd)

    def end(self, number: int, pair: Pair) -> None:
        """The line has ended: out with it, or it waits for its turn."""
        if not self.ordered:
            self._out(pair)
            return
        self._held[number] = self._small(pair)
        while self._order and self._order[0] in self._held:
            if (ready := self._held.pop(self._order.popleft())) is not None:
                self._out(ready)

    def _small(self, pair: Pair) -> Pair | None:
        """What has printed nothing needs no files."""
        if any(os.fstat(fd).st_size for fd in pair):
            return pair
        self._open -= 1
        for fd in pair:
            os.close(fd)
        return None

    def _out(self, pair: Pair) -> None:
        self._open -= 1
        pour(pair[0], 1)
        pour(pair[1], 2)
