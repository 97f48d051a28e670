"""Mailboxes that the post office has left with a desk: who sends and who reads are both its customers, so mosd is not asked.

The office leaves an empty mailbox when its reader waits and the last messages came from here. It wants it back (MailRecall) as soon
as anybody else needs it; and it gets it back before any other request about it, and when its program is here no more.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING

from mosfs.cluster.address import to_ip
from mosfs.mbox import calls
from mosfs.mbox.body import Body
from mosfs.mbox.calls import Place
from mosfs.mbox.filters import Filter
from mosfs.mbox.model import PEEK, Flag, Mailbox, Message, Sender
from mosfs.wire.messages import LastMessage, LeftBox, MailReturned

if TYPE_CHECKING:
    from mosfs.mbox.desk import Customer, Desk

Key = tuple[int, int]


class Left:
    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self._boxes: dict[Key, Mailbox] = {}
        self._locations: dict[Key, int] = {}
        self._writers: dict[Key, list[Customer]] = {}

    def __contains__(self, key: Key) -> bool:
        return key in self._boxes

    def accept(self, key: Key, left: LeftBox) -> None:
        self._boxes[key] = Mailbox(*key, left.uid, left.gid, Flag(left.flags), ended=left.ended)
        self._locations[key] = left.location

    # ------------------------------------------------------------------ calls

    def take(self, customer: Customer, pieces: list[tuple[int, int]], count: int, chosen: Filter) -> None:
        """A read of the customer's own mailbox, which is here."""
        box = self._boxes[customer.key]
        taken = box.take(count, chosen)
        result, message = taken.result, taken.message
        if result == -errno.EAGAIN and count != PEEK and Flag.NO_DELAY not in box.flags:
            self.desk.wait(customer)
            return
        if message is not None:
            customer.remember(last_message(message))
            assert isinstance(message.body, Body)
            if result > 0 and pieces:
                try:
                    calls.scatter(customer.task, pieces, message.body, taken.offset, result)
                except OSError:
                    result = -errno.EFAULT
            if taken.removed:
                message.body.close()
        customer.finish(result)
        if taken.removed:
            self._room(customer.key)

    def put(
        self, customer: Customer, to: Place, pieces: list[tuple[int, int]], size: int, nonblocking: Callable[[], bool]
    ) -> int | None:
        """A write to a mailbox that is here: bytes or -errno, None if the customer must wait. OSError EFAULT."""
        key = (to.home, to.pid)
        box = self._boxes[key]
        sender = Sender(*customer.key, *customer.owner, self._locations[key])
        if box.refuses(sender):
            return -errno.EACCES
        if not box.has_room(size):
            if nonblocking():
                return -errno.ENOSPC
            self._writers.setdefault(key, []).append(customer)
            self.desk.wait(customer)
            return None
        box.put(sender, b"", calls.gather(customer.task, pieces, size))
        self.desk.wake(key)
        return size

    def _room(self, key: Key) -> None:
        for writer in self._writers.pop(key, ()):
            self.desk.wake(writer.key)

    # ------------------------------------------------------------------ giving back

    def give_back(self, key: Key) -> None:
        """To the office, with all that is in it; who waits here asks there."""
        box = self._boxes.pop(key, None)
        if box is None:
            return
        del self._locations[key]
        for message in box.queue:
            body = message.body
            assert isinstance(body, Body)
            whose = (message.home, message.pid, message.location, message.start)
            self.desk.control.send(MailReturned(*key, whose, len(body), body.data), body.fd)
            body.close()
        self.desk.control.send(MailReturned(*key, None, ended=box.ended))
        self.desk.wake(key)
        self._room(key)

    def lost(self) -> None:
        """mosd is gone, and with it all mailboxes of this node."""
        for box in self._boxes.values():
            for message in box.queue:
                assert isinstance(message.body, Body)
                message.body.close()
        self._boxes.clear()
        self._locations.clear()
        self._writers.clear()


def last_message(message: Message) -> LastMessage:
    return LastMessage(to_ip(message.home), message.pid, to_ip(message.location), message.length)
