"""Messages handed over from a program that writes to one that reads, without waking Python (native/handover.c).

Both are customers of one desk, and the mailbox is lent to it (`borrowed.py`). Python serves the first messages and learns who they
are. Then it says before every wait of the event loop (`arm`) who may be served without it, and learns behind it (`look`) what has
gone on: who waits now, and which message each has read last. Messages that nobody waits for are queued there too, until Python
touches the mailbox (`drain`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mosfs.abi.numbers import SYS_READ
from mosfs.mbox.customer import Customer, Key
from mosfs.mbox.model import Flag, Mailbox
from mosfs.native import ffi, lib
from mosfs.native.registers import Registers

_HEAD = ffi.sizeof("struct mos_head")


class Handover:
    """``linger``: microseconds that a reader stands still before Python sees it; 0 when it may for ever."""

    def __init__(self, pump: Any, linger: int) -> None:
        self.pump = pump
        pump.linger_us = linger
        self._readers: dict[Key, tuple[int, Customer]] = {}  # place in the pump's array
        self._writers: dict[tuple[Key, int], tuple[int, Customer]] = {}  # by customer and descriptor

    # ------------------------------------------------------------------ who it concerns

    def reads(self, customer: Customer, fd: int) -> None:
        """``fd`` is its mailbox, which it has found empty."""
        if customer.key in self._readers:
            return
        place = _free(self.pump.readers, self._readers)
        if place >= 0:
            reader = self.pump.readers[place]
            reader.fd, reader.at, reader.end, reader.heard = fd, 0, 0, 0
            self._readers[customer.key] = place, customer
            self.pump.nreaders = max(self.pump.nreaders, place + 1)

    def writes(self, customer: Customer, fd: int, to: Key) -> None:
        """By ``fd`` to the mailbox of ``to``, and a message has just been accepted there."""
        if to not in self._readers or (customer.key, fd) in self._writers:
            return
        place = _free(self.pump.writers, self._writers)
        if place >= 0:
            writer = self.pump.writers[place]
            writer.fd, writer.reader = fd, self._readers[to][0]
            writer.home, writer.sender = customer.key
            self._writers[customer.key, fd] = place, customer
            self.pump.nwriters = max(self.pump.nwriters, place + 1)

    def forget(self, key: Key) -> None:
        """It is gone, or its descriptors may be others. What is queued for it and was not drained is lost."""
        place = self._readers[key][0] if key in self._readers else -1
        for whose, (at, _) in list(self._writers.items()):
            if whose[0] == key or self.pump.writers[at].reader == place:
                self.pump.writers[at].pid = 0
                del self._writers[whose]
        if place >= 0:
            self.pump.readers[place].pid = 0
            del self._readers[key]

    def drain(self, key: Key) -> Iterator[tuple[Key, bytes]]:
        """Take what is queued for it: senders and messages, the oldest first."""
        if key not in self._readers:
            return
        reader = self.pump.readers[self._readers[key][0]]
        at, end = reader.at, reader.end
        reader.at = reader.end = 0
        queue = bytes(ffi.buffer(reader.queue, end))
        while at < end:
            head = ffi.from_buffer("struct mos_head *", queue[at : at + _HEAD])
            at += _HEAD + head.length
            yield (head.home, head.sender), queue[at - head.length : at]

    # ------------------------------------------------------------------ around a wait of the event loop

    def arm(self, boxes: Mapping[Key, Mailbox], waiting: Mapping[Key, Customer]) -> None:
        """Say who may be served without us. ``waiting``: who waits for messages or for room."""
        for key, (place, customer) in self._readers.items():
            reader, box = self.pump.readers[place], boxes.get(key)
            reader.pid = reader.waits = reader.anew = 0
            if box is None or box.queue or box.ended or Flag.NO_DELAY in box.flags or customer.filter_at or not customer.steady:
                continue
            if key in waiting:
                regs = customer.standing
                if regs is None or not _plain_read(regs, reader.fd):
                    continue
                reader.regs, reader.waits = regs[0], 1
            reader.pid = self._may(customer)
        for place, customer in self._writers.values():
            self.pump.writers[place].pid = self._may(customer) if customer.steady else 0

    def _may(self, customer: Customer) -> int:
        pid: int = customer.task.pid
        if not self.pump.linger_us:
            lib.mos_unknown(pid)  # a stop of a guest that was asked for before has come
        return pid

    def look(
        self, heard: Callable[[Customer, Key, int], None], waits: Callable[[Customer], None], stands: Callable[[int], None]
    ) -> None:
        """What has gone on. ``heard``: it has read a message of that sender, of so many bytes. ``waits``: it does now.
        ``stands``: the task is at the stop of a write that nobody has read."""
        if not self.pump.look_at:
            return
        self.pump.look_at = 0
        for place, customer in self._readers.values():
            reader = self.pump.readers[place]
            if reader.heard:
                reader.heard = 0
                heard(customer, (reader.home, reader.sender), reader.length)
            if reader.anew:
                customer.stands(reader.regs)
                waits(customer)
        standing = [writer for writer in self.pump.writers[0 : self.pump.nwriters] if writer.waits]
        for writer in standing:
            writer.waits = 0
        for pid in [writer.pid for writer in standing]:
            stands(pid)


def _free(places: Any, used: Mapping[Any, tuple[int, Customer]]) -> int:
    """-1: none."""
    taken = {place for place, _ in used.values()}
    return next((place for place in range(len(places)) if place not in taken), -1)


def _plain_read(regs: Registers, fd: int) -> bool:
    return bool(regs.orig_rax == SYS_READ and regs.rdi & 0xFFFFFFFF == fd and 0 < regs.rdx < 1 << 31)
