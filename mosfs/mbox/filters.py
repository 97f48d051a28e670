"""Filters of received messages (direct_communication(7), FILTERING): layouts, legality, matching. Pure."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntFlag

MAX_MESSAGE = 32 << 20  #: bytes of one message, and of all unread messages of a mailbox
MAX_STORED = 1024

#: struct interested: conditions, testlen, pid, home, minlen, maxlen, testoffset, testdata, msgno, msgoffset
_INTERESTED = struct.Struct("<BB2xiIiii8sii")
#: struct interests: number, filters
INTERESTS = struct.Struct("<qQ")
SIZE = _INTERESTED.size

SIOCINTERESTED, SIOCSTOREINTERESTS, SIOCWHICH = 0x8985, 0x8986, 0x8987


class Condition(IntFlag):
    """``filter.conditions``."""

    PID = 1
    HOME = 2
    MINLEN = 4
    MAXLEN = 8
    PATTERN = 16
    MESSAGENO = 32
    OFFSET = 64
    PREVENT_REMOVAL = 128


class BadFilter(ValueError):
    """The manual's EINVAL: a value is illegal, or no message can ever match."""


NO_CONDITION = Condition(0)


@dataclass(frozen=True, slots=True)
class Filter:
    """One struct interested. ``home`` is the address as an unsigned integer in host order; 0: the reader's own home."""

    conditions: Condition = NO_CONDITION
    testlen: int = 0
    pid: int = 0
    home: int = 0
    minlen: int = 0
    maxlen: int = 0
    testoffset: int = 0
    testdata: bytes = bytes(8)
    msgno: int = 0
    msgoffset: int = 0

    def pack(self) -> bytes:
        return _INTERESTED.pack(
            self.conditions, self.testlen, self.pid, self.home, self.minlen, self.maxlen, self.testoffset, self.testdata,
            self.msgno, self.msgoffset,
        )  # fmt: skip

    @property
    def number(self) -> int:
        """The message to pick, counted from 1; 0: none in particular."""
        return self.msgno if Condition.MESSAGENO in self.conditions else 0

    @property
    def offset(self) -> int:
        return self.msgoffset if Condition.OFFSET in self.conditions else 0

    @property
    def keeps(self) -> bool:
        return Condition.PREVENT_REMOVAL in self.conditions

    def matches(self, home: int, pid: int, length: int, part: Callable[[int, int], bytes], own_home: int) -> bool:
        """Whether a message complies; ``part(offset, size)`` gives its bytes. MESSAGENO and OFFSET do not matter here."""
        has = self.conditions
        return not (
            (Condition.PID in has and pid != self.pid)
            or (Condition.HOME in has and home != (self.home or own_home))
            or (Condition.MINLEN in has and length < self.minlen)
            or (Condition.MAXLEN in has and length > self.maxlen)
            or (Condition.PATTERN in has and part(self.testoffset, self.testlen) != self.testdata[: self.testlen])
        )


EVERYTHING = Filter()


def unpack(data: bytes) -> Filter:
    """One struct interested, checked: `BadFilter`."""
    if len(data) != _INTERESTED.size:
        raise BadFilter("length")
    conditions, *rest = _INTERESTED.unpack(data)
    found = Filter(Condition(conditions), *rest)
    has = found.conditions
    least = found.minlen if Condition.MINLEN in has else 0
    most = found.maxlen if Condition.MAXLEN in has else MAX_MESSAGE
    if Condition.PATTERN in has:
        if not 1 <= found.testlen <= 8 or found.testoffset < 0:
            raise BadFilter("pattern")
        least = max(least, found.testoffset + found.testlen)
    if Condition.MINLEN in has and found.minlen < 0:
        raise BadFilter("minlen")
    if not least <= min(most, MAX_MESSAGE):
        raise BadFilter("no message can match")
    if Condition.MESSAGENO in has and found.msgno < 1:
        raise BadFilter("msgno")
    if Condition.OFFSET in has and not 0 <= found.msgoffset <= MAX_MESSAGE:
        raise BadFilter("msgoffset")
    return found


#: Conditions that count in a stored filter.
_STORED = Condition.PID | Condition.HOME | Condition.MINLEN | Condition.MAXLEN | Condition.PATTERN


def unpack_stored(data: bytes) -> tuple[Filter, ...]:
    """An array of struct interested for SIOCSTOREINTERESTS; `BadFilter`."""
    if len(data) % SIZE or len(data) > MAX_STORED * SIZE:
        raise BadFilter("number")
    found = []
    for at in range(0, len(data), SIZE):
        entry = bytearray(data[at : at + SIZE])
        entry[0] &= _STORED
        found.append(unpack(bytes(entry)))
    return tuple(found)
