"""The lines of a commands-file, in order, without the file in memory: mosrun(1), -S; manual, 10.5."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field

#: Bytes of a line without its line-feed (our own choice, reading 44), and of one read.
LONGEST, PART = 65536, 1 << 18
#: Bytes of a line after which what is no regular file (/dev/zero, say) counts as one that has none.
ENDLESS = 64 << 20


@dataclass(frozen=True, slots=True)
class Line:
    """``number`` counts from 1, in lines of the file. ``broken``: it is too long (then without text), not ended, or has a NUL."""

    number: int
    text: bytes
    broken: bool = False


class CannotRead(Exception):
    """The commands-file, which could be opened: one line for the user."""


@dataclass(slots=True)
class Splitter:
    """Bytes in, lines out. What it keeps is never more than one line and one part."""

    number: int = 0
    skipped: int = 0  # bytes of the line at hand, when it is too long
    _rest: bytearray = field(default_factory=bytearray)

    def feed(self, data: bytes) -> list[Line]:
        """The lines that ``data`` completes."""
        found = []
        *ended, rest = data.split(b"\n")
        for text in ended:
            found.append(self._line(bytes(self._rest + text)))
            self._rest.clear()
        self._rest += rest
        if self.skipped or len(self._rest) > LONGEST:
            self.skipped += len(self._rest)
            self._rest.clear()
        return found

    def end(self) -> list[Line]:
        """The last line, if it does not end with a line-feed."""
        if not self._rest and not self.skipped:
            return []
        self.number += 1
        return [Line(self.number, bytes(self._rest), broken=True)]

    def _line(self, text: bytes) -> Line:
        self.number += 1
        long, self.skipped = self.skipped > 0 or len(text) > LONGEST, 0
        return Line(self.number, b"" if long else text, long or b"\0" in text)


def count(fd: int, size: int) -> int:
    """The lines in the first ``size`` bytes of a regular file; one that does not end counts."""
    found, at, last = 0, 0, b"\n"
    while at < size and (part := os.pread(fd, min(PART, size - at), at)):
        found += part.count(b"\n")
        at += len(part)
        last = part[-1:]
    return found + (last != b"\n")


@dataclass(slots=True)
class Commands:
    """A commands-file that is open. ``total``: its lines, so far as they are known. Of a regular file only what it had at first is
    read, and `changed` tells whether it is as it was."""

    fd: int
    path: str  #: "" for standard input
    total: int = 0
    _first: os.stat_result | None = None
    _left: int = -1  # bytes; -1: until its end
    _splitter: Splitter = field(default_factory=Splitter)
    _lines: list[Line] = field(default_factory=list)  # backwards
    _ended: bool = False

    def __post_init__(self) -> None:
        if stat.S_ISREG((status := os.fstat(self.fd)).st_mode):
            self._first = status
            self._left = max(0, status.st_size - os.lseek(self.fd, 0, os.SEEK_CUR))
            self.total = count(self.fd, status.st_size) if self.path else 0

    @property
    def _name(self) -> str:
        return self.path or "standard input"

    @property
    def regular(self) -> bool:
        """There is always something to read, or it is at its end."""
        return self._first is not None

    def next(self) -> Line | None:
        """The next line that has been read."""
        if not self._lines and self.regular:
            while not self._lines and not self._ended:
                self.read()
        return self._lines.pop() if self._lines else None

    @property
    def finished(self) -> bool:
        return self._ended and not self._lines

    @property
    def hungry(self) -> bool:
        """A line is wanted, and more must be read for it."""
        return not self._lines and not self._ended

    def read(self) -> None:
        """Read a part: what is there. CannotRead."""
        try:
            part = os.read(self.fd, PART if self._left < 0 else min(PART, self._left))
        except OSError as error:
            raise CannotRead(f"{self._name}: {error.strerror}") from error
        if self._left > 0:
            self._left -= len(part)
        found = self._splitter.feed(part)
        if self._splitter.skipped > ENDLESS and not self.regular:
            raise CannotRead(f"{self._name}: line {self._splitter.number + 1} does not end: not a commands-file")
        if not part:
            self._ended = True
            found += self._splitter.end()
        self._lines[:0] = reversed(found)
        self.total = max(self.total, self._splitter.number)

    def changed(self) -> bool:
        """Whether the file is another, or has been written to, since it was opened."""
        if self._first is None or not self.path:
            return False
        try:
            now = os.stat(self.path)
        except OSError:
            return True
        return any(getattr(now, name) != getattr(self._first, name) for name in ("st_dev", "st_ino", "st_size", "st_mtime_ns"))


def open_commands(path: str) -> Commands:
    """``path``, or standard input for "-". OSError as it comes."""
    return Commands(0, "") if path == "-" else Commands(os.open(path, os.O_RDONLY | os.O_CLOEXEC), path)


def names_of(words: list[str], exists: bool) -> tuple[str, str]:
    """Commands-file and failed-commands file of ``file,fail``, ``file, fail``, ``file ,fail`` or ``file fail``; "" for none.

    ``exists``: the first word as it stands is a file. ValueError for more than two names."""
    if len(words) == 1 and exists:
        return words[0], ""
    if len(words) > 1:
        words = [words[0].removesuffix(","), *filter(None, [words[1].removeprefix(","), *words[2:]])]
    first, _, glued = words[0].partition(",") if len(words) == 1 else (words[0], "", "")
    names = [first, *filter(None, [glued, *words[1:]])]
    if len(names) > 2 or not first:
        raise ValueError("a commands-file, and one for the failed ones")
    return names[0], names[1] if len(names) > 1 else ""
