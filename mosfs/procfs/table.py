"""The control files of a program: one row each, for the FUSE tree, the tracer's open hook, the man page and the tests.

Source: mosix(7), INTERFACE FOR PROGRAMS. This module needs nothing but the standard library, so that tracers and short
commands may import it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

__all__ = ["BY_NAME", "CONTROL_FILES", "Access", "ControlFile", "as_unsigned", "from_unsigned", "parse"]


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


@dataclass(frozen=True, slots=True)
class ControlFile:
    """One control file. ``lo`` and ``hi`` are the inclusive limits of what may be written (of what is read, for "r").

    ``setting`` is the field of `wire.messages.Settings` that holds the value ("" = none), ``default`` what is shown
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

    def accepts(self, value: int) -> bool:
        return self.access.writes and self.lo <= value <= self.hi


_IP_MAX = 2**32 - 1

CONTROL_FILES = (
    ControlFile("migrate", Access.WRITE, -1, _IP_MAX, "0 goes home, -1 considers a move, a node number or IP moves"),
    ControlFile("lock", Access.BOTH, 0, 1, "1 forbids automatic migration", setting="lock"),
    ControlFile("freezable", Access.BOTH, 0, 1, "1 allows automatic freezing", default=1, setting="freezable"),
    ControlFile("whereami", Access.READ, 0, _IP_MAX, "0 at home, else the node's number, or its unsigned IP"),
    ControlFile("nmigs", Access.READ, 0, 2**31 - 1, "migrations of this program and, before its birth, its ancestors"),
    ControlFile("sigmig", Access.BOTH, 0, 64, "signal to receive after each migration, 0 for none", "signal"),
    ControlFile("needmem", Access.BOTH, 0, 262143, "memory a node must have free to be chosen", "MB",
                setting="needmem"),
    ControlFile("unsupportok", Access.BOTH, 0, 2, "unsupported calls: 0 kill, 1 ENOSYS, 2 ENOSYS and a line on stderr",
                setting="unsupported"),
    ControlFile("clear", Access.WRITE, 0, 2**31 - 1, "any value clears the statistics of the program"),
    ControlFile("cpujob", Access.BOTH, 0, 1, "1 leaves calls and I/O out of the considerations", setting="cpujob"),
    ControlFile("decayrate", Access.BOTH, 0, 10000, "share of the statistics that is kept each second", "1/10000",
                default=9976, setting="decay"),
)

BY_NAME = {row.name: row for row in CONTROL_FILES}


def parse(row: ControlFile, text: str) -> int:
    """The integer that ``text`` writes to ``row``; ValueError when it is not one or is out of range."""
    digits = text.strip()
    if not digits.removeprefix("-").isdecimal() or not digits.isascii():
        raise ValueError(f"{row.name}: not an integer")
    value = int(digits)
    if not row.accepts(value):
        raise ValueError(f"{row.name}: must be {row.lo}-{row.hi}")
    return value


def as_unsigned(ip: str) -> int:
    """"1.2.3.4" as the unsigned, host-order integer that the manual's interface uses; ValueError when it is no IP."""
    parts = ip.split(".")
    if len(parts) != 4 or not all(p.isascii() and p.isdecimal() and len(p) <= 3 and int(p) <= 255 for p in parts):
        raise ValueError(f"{ip!r} is not an IP address")
    return int.from_bytes(bytes(int(p) for p in parts), "big")


def from_unsigned(value: int) -> str:
    """Inverse of `as_unsigned`."""
    return ".".join(str(byte) for byte in value.to_bytes(4, "big"))
