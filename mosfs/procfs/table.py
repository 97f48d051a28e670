"""The control files of a program: one row each, for the FUSE tree, the tracer's open hook, the man page and the tests.

Source: mosix(7), INTERFACE FOR PROGRAMS; direct_communication(7) for the last four. This module needs nothing but the
standard library, so that tracers and short commands may import it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

__all__ = [
    "BY_NAME", "CONTROL_FILES", "Access", "ControlFile", "Kind", "NotInRange", "checkpoint_number",
    "name_of_checkpoints", "parse",
]  # fmt: skip


class Access(Enum):
    """Directions of a control file, in the manual's abbreviations."""

    READ = "r"
    WRITE = "w"
    BOTH = "rw"

    @property
    def reads(self) -> bool:
        return self is not Access.WRITE

    @property
    def writes(self) -> bool:
        return self is not Access.READ


class Kind(Enum):
    """What a value is. As files on the mount all are text."""

    NUMBER = "a number"
    NODE = "a node: its number, or its IP address as an unsigned integer in host order"
    ADDRESS = "an IP address as an unsigned integer in host order"
    NAME = "text; the third argument of open() points to it"
    QUESTION = "a node, about which the open asks"


@dataclass(frozen=True, slots=True)
class ControlFile:
    """One control file. ``lo`` and ``hi`` are the inclusive limits of what may be written (of what is read, for "r").

    ``setting`` is the field of `wire.asked.Settings` that holds the value ("" = none), ``default`` what is shown
    while that field is -1, "not given".
    """

    name: str
    access: Access
    lo: int
    hi: int
    text: str
    unit: str = ""
    default: int = 0
    setting: str = ""
    kind: Kind = Kind.NUMBER

    def accepts(self, value: int) -> bool:
        return self.access.writes and self.lo <= value <= self.hi

    @property
    def file_reads(self) -> bool:
        """Whether the file on the mount can be read: a name too, which open() cannot return as a number."""
        return self.access.reads or self.kind is Kind.NAME

    @property
    def file_writes(self) -> bool:
        """Whether the file on the mount can be written: questions too."""
        return self.access.writes or self.kind is Kind.QUESTION


_IP_MAX = 2**32 - 1
_INT_MIN, _INT_MAX = -(2**31), 2**31 - 1
_CHECKPOINTS = 10_000_000
#: Longest base name of checkpoints: with its number it must remain a path (limits.h, PATH_MAX).
MAX_NAME = 4080

CONTROL_FILES = (
    ControlFile("migrate", Access.WRITE, -1, _IP_MAX, "0 goes home, -1 considers a move, a node number or IP moves",
                kind=Kind.NODE),
    ControlFile("lock", Access.BOTH, 0, 1, "1 forbids automatic migration", setting="lock"),
    ControlFile("freezable", Access.BOTH, 0, 1, "1 allows automatic freezing", default=1, setting="freezable"),
    ControlFile("outlive", Access.BOTH, 0, 1, "1: from its next move on, it goes on when the node where it runs dies",
                setting="outlive"),
    ControlFile("whereami", Access.READ, 0, _IP_MAX, "0 at home, else the node's number, or its unsigned IP",
                kind=Kind.NODE),
    ControlFile("nmigs", Access.READ, 0, _INT_MAX, "migrations of this program and, before its birth, its ancestors"),
    ControlFile("sigmig", Access.BOTH, 0, 64, "signal to receive after each migration, 0 for none", "signal"),
    ControlFile("needmem", Access.BOTH, 0, 262143, "memory a node must have free to be chosen", "MB",
                setting="needmem"),
    ControlFile("unsupportok", Access.BOTH, 0, 3,
                "unsupported calls: 0 kill, 1 ENOSYS, 2 ENOSYS and a line on stderr, 3 stay at home", setting="unsupported"),
    ControlFile("clear", Access.WRITE, _INT_MIN, _IP_MAX, "any value clears the statistics of the program"),
    ControlFile("cpujob", Access.BOTH, 0, 1, "1 leaves calls and I/O out of the considerations", setting="cpujob"),
    ControlFile("decayrate", Access.BOTH, 0, 10000, "share of the statistics that is kept each second", "1/10000",
                default=9976, setting="decay"),
    ControlFile("checkpoint", Access.BOTH, _INT_MIN, _IP_MAX,
                "any value takes a checkpoint; reading gives the number of the next one", default=1),
    ControlFile("checkpointfile", Access.WRITE, 0, 0, "base name of checkpoint files", setting="checkpoint_file",
                kind=Kind.NAME),
    ControlFile("checkpointlimit", Access.BOTH, 0, _CHECKPOINTS, "checkpoint files before the first is written again, 0: no limit",
                "files", setting="checkpoint_limit"),
    ControlFile("checkpointinterval", Access.BOTH, 0, _CHECKPOINTS, "time between automatic checkpoints, 0 for none", "minutes",
                setting="checkpoint_interval"),
    ControlFile("in_cluster", Access.READ, 0, 1, "1 if the node is one of this cluster, else 0", kind=Kind.QUESTION),
    ControlFile("sender_home", Access.READ, 0, _IP_MAX, "IP of the home-node of the last message's sender", kind=Kind.ADDRESS),
    ControlFile("sender_pid", Access.READ, 0, _INT_MAX, "PID of the last message's sender"),
    ControlFile("sender_location", Access.READ, 0, _IP_MAX, "IP of the node where the sender was when it sent the last message",
                kind=Kind.ADDRESS),
    ControlFile("message_length", Access.READ, 0, _INT_MAX, "length of the last message before it was truncated", "bytes"),
)  # fmt: skip

BY_NAME = {row.name: row for row in CONTROL_FILES}


class NotInRange(ValueError):
    """A number, but not one that the file takes."""


def parse(row: ControlFile, text: str) -> int:
    """The integer that ``text`` writes to ``row``; ValueError when it is not one, `NotInRange` if it is out of range."""
    digits = text.strip()
    if not digits.removeprefix("-").isdecimal() or not digits.isascii():
        raise ValueError(f"{row.name}: not an integer")
    value = int(digits)
    if not row.accepts(value):
        raise NotInRange(f"{row.name}: must be {row.lo}-{row.hi}")
    return value


# --------------------------------------------------------------------------- checkpoints (mosrun(1), CHECKPOINTS)

_NUMBERED = re.compile(r".*\.(\d{1,8})", re.DOTALL)


def name_of_checkpoints(text: str) -> str:
    """The base name that ``text`` writes to checkpointfile, of which a shell's newline is no part.

    ValueError when there is none or it contains NUL, `NotInRange` when it is longer than a path.
    """
    name = text.removesuffix("\n")
    if not name or "\0" in name:
        raise ValueError("checkpointfile: not a file name")
    if len(name.encode()) > MAX_NAME:
        raise NotInRange(f"checkpointfile: longer than {MAX_NAME} bytes")
    return name


def checkpoint_number(name: str) -> int:
    """Number of the first checkpoint: what the base name ends with (``save.4``), else 1."""
    found = _NUMBERED.fullmatch(name)
    return int(found[1]) if found else 1


def checkpoint_stem(name: str) -> str:
    """The base name without that number: of ``save.4`` it is ``save``."""
    return name.rpartition(".")[0] if _NUMBERED.fullmatch(name) else name
