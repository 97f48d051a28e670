"""A mailbox as a pure model (direct_communication(7), RECEIVING MESSAGES): no clock, no I/O. The post office of mosd keeps these.

Errors are errno values, as the program shall see them. Two bounds: `MAX_UNREAD` messages and `filters.MAX_MESSAGE` bytes.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from enum import IntFlag
from typing import Protocol

from mosfs.mbox.filters import EVERYTHING, MAX_MESSAGE, Filter

MAX_UNREAD = 10000
#: Messages that come late are taken without room, up to this; senders whose last message is remembered.
MOST_UNREAD, MOST_BYTES = 2 * MAX_UNREAD, 4 * MAX_MESSAGE
MAX_LATEST = 4096
PEEK = -1  #: count that asks for a message without reading it


class Flag(IntFlag):
    """Third argument of open("/proc/mosix/mybox", ...). ``STREAM`` is ours: what does not fit stays for the next read."""

    GROUP = 1
    OTHERS = 2
    OTHER_HOMES = 4
    NO_DELAY = 8
    SIGIO = 16
    NO_TRUNCATION = 32
    END_OF_FILE = 64
    STREAM = 128


ALL_FLAGS = 255


class Bytes(Protocol):
    """What a message consists of (`body.Body`)."""

    def __len__(self) -> int: ...
    def part(self, offset: int, size: int) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sends, as the sender's own node says. ``home`` and ``location`` are addresses as unsigned integers in host order."""

    home: int
    pid: int
    uid: int
    gid: int
    location: int


@dataclass(slots=True, eq=False)
class Message:
    """``start``: bytes of it that a stream's reader had already."""

    home: int
    pid: int
    location: int
    body: Bytes
    start: int = 0

    @property
    def length(self) -> int:
        return len(self.body)


@dataclass(frozen=True, slots=True)
class Taken:
    """Outcome of a read: ``result`` bytes from ``offset`` of the message (with ``PEEK`` its length, and no bytes).

    ``message`` None: end of file. ``removed``: it is no longer in the queue.
    """

    result: int
    message: Message | None = None
    offset: int = 0
    removed: bool = False


@dataclass(slots=True, eq=False)
class Mailbox:
    """The mailbox of process ``pid`` of node ``home``, whose user and group are ``uid`` and ``gid``.

    ``latest``: the last message of each sender, by the name that its node gave it, so that none is accepted twice.
    ``lent``: the message that its reader has as a whole.
    """

    home: int
    pid: int
    uid: int
    gid: int
    flags: Flag
    queue: list[Message] = field(default_factory=list)
    size: int = 0
    stored: tuple[Filter, ...] = ()
    ended: bool = False
    latest: dict[tuple[int, int], bytes] = field(default_factory=dict)
    lent: Message | None = None

    def reopen(self, flags: Flag) -> None:
        """New flags; messages, filters and, unless END_OF_FILE is cleared, an end of file stay."""
        self.flags = flags
        if Flag.END_OF_FILE not in flags:
            self.ended = False

    # ------------------------------------------------------------------ sending

    def refuses(self, sender: Sender) -> bool:
        """EACCES: the flags do not let this sender in."""
        if sender.home != self.home and Flag.OTHER_HOMES not in self.flags:
            return True
        return not (
            sender.uid == self.uid
            or (Flag.GROUP in self.flags and sender.gid == self.gid)
            or Flag.OTHERS in self.flags
        )

    def has_room(self, size: int) -> bool:
        return len(self.queue) < MAX_UNREAD and self.size + size <= MAX_MESSAGE

    def overflows(self, size: int) -> bool:
        """Not even a late message is taken."""
        return len(self.queue) >= MOST_UNREAD or self.size + size > MOST_BYTES

    def is_repeated(self, sender: Sender, name: bytes) -> bool:
        """It was accepted before, but the acknowledgement was lost."""
        return self.latest.get((sender.home, sender.pid)) == name

    def put(self, sender: Sender, name: bytes, body: Bytes) -> None:
        """Precondition: it is let in and has room."""
        self.queue.append(Message(sender.home, sender.pid, sender.location, body))
        self.size += len(body)
        who = (sender.home, sender.pid)
        self.latest.pop(who, None)
        self.latest[who] = name
        if len(self.latest) > MAX_LATEST:  # the one that has been silent for longest
            del self.latest[next(iter(self.latest))]

    # ------------------------------------------------------------------ receiving

    def take(self, count: int, chosen: Filter = EVERYTHING) -> Taken:
        """Read one message into ``count`` bytes. ``result`` -EAGAIN: there is none (the office may then let the reader wait)."""
        if count == 0 or count < PEEK:
            return Taken(-errno.EINVAL)
        if self.ended and Flag.END_OF_FILE in self.flags:
            return Taken(0)
        if chosen.number:
            return self._take_number(count, chosen)
        for index, message in enumerate(self.queue):
            if self._matches(message, chosen) and self._fits(message, count, chosen):
                return self._read(index, count, chosen)
        return Taken(-errno.EAGAIN)

    def lend(self) -> Taken:
        """STREAM: all that is left of the first message, until `finish_read`. Its room is free: a program may send to itself."""
        taken = self.take(MAX_MESSAGE)
        if taken.message is not None and taken.result > 0:
            self.lent = taken.message
        return taken

    def finish_read(self, used: int) -> Message | None:
        """``used`` bytes of what was lent have been read: the message if that was all of it, else its rest is the next again."""
        message, self.lent = self.lent, None
        if message is None:
            return None
        message.start = min(message.start + max(used, 0), message.length)
        if message.start < message.length:
            self.queue.insert(0, message)
            self.size += message.length
            return None
        return message

    def which(self) -> bytes:
        """SIOCWHICH: bit ``n % 8`` of byte ``n // 8`` tells whether a message matches stored filter ``n``."""
        bits = bytearray((len(self.stored) + 7) // 8)
        for number, stored in enumerate(self.stored):
            if any(self._matches(message, stored) for message in self.queue):
                bits[number // 8] |= 1 << number % 8
        return bytes(bits)

    def _take_number(self, count: int, chosen: Filter) -> Taken:
        index = chosen.number - 1
        if index >= len(self.queue):
            return Taken(-errno.EAGAIN)
        message = self.queue[index]
        if not self._matches(message, chosen) or not self._fits(message, count, chosen):
            return Taken(-errno.ENODATA)
        return self._read(index, count, chosen)

    def _matches(self, message: Message, chosen: Filter) -> bool:
        return chosen.matches(message.home, message.pid, message.length, message.body.part, self.home)

    def _fits(self, message: Message, count: int, chosen: Filter) -> bool:
        whole = Flag.NO_TRUNCATION in self.flags and count != PEEK
        return not whole or max(0, message.length - chosen.offset) <= count

    def _read(self, index: int, count: int, chosen: Filter) -> Taken:
        message = self.queue[index]
        if count == PEEK:
            return Taken(message.length, message)
        offset = min(message.start + chosen.offset, message.length)
        result = min(count, message.length - offset)
        if Flag.STREAM in self.flags and not chosen.keeps and offset + result < message.length:
            message.start = offset + result
            return Taken(result, message, offset)
        if not chosen.keeps:
            del self.queue[index]
            self.size -= message.length
        if Flag.END_OF_FILE in self.flags and not message.length:
            self.ended = True
        return Taken(result, message, offset, removed=not chosen.keeps)
