"""Mailboxes that the post office has left with a desk: who sends and who reads are both its customers, so mosd is not asked.

The office leaves an empty mailbox when its reader waits and the last messages came from here. It wants it back (MailRecall) as soon
as anybody else needs it; and it gets it back before any other request about it, and when its program is here no more.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

from mosfs.cluster.address import to_ip
from mosfs.mbox import calls
from mosfs.mbox.body import Body
from mosfs.mbox.calls import Endpoint
from mosfs.mbox.customer import Customer, Key
from mosfs.mbox.filters import Filter
from mosfs.mbox.handover import Handover
from mosfs.mbox.model import PEEK, Flag, Mailbox, Message, Sender
from mosfs.mbox.waiting import Waiting
from mosfs.wire.control import ControlLink
from mosfs.wire.messages import LastMessage, LeftBox, MailReturned


class Borrowed:
    def __init__(self, control: ControlLink, waiting: Waiting, handover: Handover) -> None:
        self.control = control
        self.waiting = waiting
        self.handover = handover
        self._boxes: dict[Key, Mailbox] = {}
        self._locations: dict[Key, int] = {}
        self._writers: dict[Key, list[Customer]] = {}

    def __contains__(self, key: Key) -> bool:
        return key in self._boxes

    def accept(self, key: Key, left: LeftBox) -> None:
        self._boxes[key] = Mailbox(*key, left.uid, left.gid, Flag(left.flags), ended=left.ended)
        self._locations[key] = left.location

    # ------------------------------------------------------------------ calls

    def take(self, customer: Customer, fd: int, pieces: list[tuple[int, int]], count: int, chosen: Filter) -> None:
        """A read of the customer's own mailbox, which is here. ``fd``: of read(2), -1 for other calls."""
        box = self._box(customer.key)
        taken = box.take(count, chosen)
        result, message = taken.result, taken.message
        if fd >= 0 and not box.queue:
            self.handover.reads(customer, fd)
        if result == -errno.EAGAIN and count != PEEK and Flag.NO_DELAY not in box.flags:
            self.waiting.wait(customer)
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
        self, customer: Customer, fd: int, to: Endpoint, pieces: list[tuple[int, int]], size: int, nonblocking: Callable[[], bool]
    ) -> int | None:
        """A write to a mailbox that is here: bytes or -errno, None if the customer must wait. OSError EFAULT. ``fd``: as above."""
        key = (to.home, to.pid)
        box = self._box(key)
        sender = Sender(*customer.key, *customer.owner, self._locations[key])
        if box.refuses(sender):
            return -errno.EACCES
        if not box.has_room(size):
            if nonblocking():
                return -errno.ENOSPC
            self._writers.setdefault(key, []).append(customer)
            self.waiting.wait(customer)
            return None
        box.put(sender, b"", calls.gather(customer.task, pieces, size))
        self.waiting.wake(key)
        if fd >= 0:
            self.handover.writes(customer, fd, key)
        return size

    # ------------------------------------------------------------------ without us

    def arm(self) -> None:
        """Before the event loop waits."""
        self.handover.arm(self._boxes, self.waiting.customers)

    def look(self, stands: Callable[[int], None]) -> None:
        """Behind it, before anything else. ``stands``: as in `Handover.look`."""
        self.handover.look(self._heard, self.waiting.begun, stands)

    def forget(self, key: Key) -> None:
        """The program of ``key`` is gone, or its descriptors may be others: only we know who reads and writes by which."""
        if key in self._boxes:
            self._box(key)
        self.handover.forget(key)

    def _heard(self, reader: Customer, sender: Key, length: int) -> None:
        self.waiting.leave(reader.key)
        reader.served()
        reader.remember(LastMessage(to_ip(sender[0]), sender[1], to_ip(self._locations[reader.key]), length))

    def _box(self, key: Key) -> Mailbox:
        """A mailbox that is here, with what C has queued meanwhile."""
        box = self._boxes[key]
        for (home, pid), message in self.handover.drain(key):
            box.put(Sender(home, pid, -1, -1, self._locations[key]), b"", Body(message))
        return box

    def _room(self, key: Key) -> None:
        for writer in self._writers.pop(key, ()):
            self.waiting.wake(writer.key)

    # ------------------------------------------------------------------ giving back

    def give_back(self, key: Key) -> None:
        """Return a mailbox to the office, with all that is in it; who waits here asks there."""
        if key not in self._boxes:
            return
        box = self._box(key)
        del self._boxes[key]
        del self._locations[key]
        for message in box.queue:
            body = message.body
            assert isinstance(body, Body)
            whose = (message.home, message.pid, message.location, message.start)
            self.control.send(MailReturned(*key, whose, len(body), body.data), body.fd)
            body.close()
        self.control.send(MailReturned(*key, None, ended=box.ended))
        self.waiting.wake(key)
        self._room(key)

    def lost(self) -> None:
        """mosd is gone, and with it all mailboxes of this node."""
        for box in self._boxes.values():
            for message in box.queue:
                assert isinstance(message.body, Body)
                message.body.close()
        for key in self._boxes:
            self.handover.forget(key)
        self._boxes.clear()
        self._locations.clear()
        self._writers.clear()


def last_message(message: Message) -> LastMessage:
    return LastMessage(to_ip(message.home), message.pid, to_ip(message.location), message.length)
