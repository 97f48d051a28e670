"""Subordinate users (subuid(5)): numbers that a user has besides his own, in user namespaces that he makes (newuidmap(1)).

He may have 65536 of them, so for limits they all are one user. Those of accounts that no file here names are users of their own.
"""

from __future__ import annotations

import os
import time
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import NamedTuple

#: Seconds until the files are looked at again, and lines of them that are read.
AGAIN, MOST = 10.0, 100_000


class Range(NamedTuple):
    first: int
    end: int
    owner: int


def parse(subuid: str, passwd: str) -> tuple[list[Range], frozenset[int]]:
    """The ranges of the text of /etc/subuid, in order and apart, and the users of that of /etc/passwd. Lines that are none count
    for nothing; what two lines have is that of the lower one's."""
    accounts: dict[str, int] = {}
    for line in passwd.splitlines()[:MOST]:
        name, *rest = line.split(":")
        if len(rest) > 1 and _is_number(rest[1]):
            accounts.setdefault(name, int(rest[1]))
    found: list[Range] = []
    for line in subuid.splitlines()[:MOST]:
        match line.split(":"):
            case [name, first, count] if _is_number(first) and _is_number(count):
                owner = int(name) if _is_number(name) else accounts.get(name, -1)
                if owner >= 0:
                    found.append(Range(int(first), int(first) + int(count), owner))
    apart: list[Range] = []
    for each in sorted(found):
        begin = max(each.first, apart[-1].end) if apart else each.first
        if begin < each.end:
            apart.append(each._replace(first=begin))
    return apart, frozenset(accounts.values())


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 10


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _mark(path: str) -> tuple[int, int, int]:
    """What tells whether a file has changed."""
    try:
        facts = os.stat(path)
    except OSError:
        return (0, 0, 0)
    return facts.st_ino, facts.st_size, facts.st_mtime_ns


@dataclass(slots=True)
class Subordinates:
    """As the files in ``folder`` have them now."""

    folder: str = "/etc"
    _ranges: list[Range] = field(default_factory=list)
    _accounts: frozenset[int] = frozenset()
    _marks: list[tuple[int, int, int]] = field(default_factory=list)
    _look_at: float = 0.0

    def whose(self, uid: int) -> int:
        """The user who counts for ``uid``: himself, unless he is somebody's subordinate and has no account."""
        if time.monotonic() >= self._look_at:
            self._look()
        at = bisect_right(self._ranges, uid, key=lambda each: each.first) - 1
        return self._ranges[at].owner if at >= 0 and uid < self._ranges[at].end and uid not in self._accounts else uid

    def _look(self) -> None:
        self._look_at = time.monotonic() + AGAIN
        paths = [f"{self.folder}/subuid", f"{self.folder}/passwd"]
        if self._marks != (marks := [*map(_mark, paths)]):
            self._marks = marks
            self._ranges, self._accounts = parse(*map(_read, paths))


#: Of this machine.
SYSTEM = Subordinates()
