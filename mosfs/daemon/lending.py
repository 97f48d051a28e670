"""Mailboxes that are lent to the desk of a tracer or host (`mosfs.mbox.borrowed`): when, and how they come back."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import trio

from mosfs.daemon.connection import Connection
from mosfs.daemon.room import Key, Room
from mosfs.mbox.body import Body
from mosfs.mbox.model import Flag, Mailbox, Message
from mosfs.wire.messages import MailRecall, MailReturned, MailTake

#: A mailbox is lent to a desk after so many consecutive messages from that desk; after a recall, so many more are required.
#: The first chance may be the last: who sends faster than is read leaves no moment at which nothing is in it.
NEAR, AFTER_RECALL = 1, 64
#: Seconds for a desk to give one back; a sender is told then that there is no room, and waits as for that.
SOON = 1.0


@dataclass(slots=True, eq=False)
class Loan:
    """A mailbox that was left with the desk at the end of a connection; ``back``: it is not there any more."""

    connection: Connection
    recalled: bool = False
    back: trio.Event = field(default_factory=trio.Event)


@dataclass(slots=True)
class Lending:
    """``loans``: those of ``boxes`` that are lent to a desk; whoever needs one awaits `back` first.

    ``near``: how many messages in a row have come from the connection that reads (``takers``).
    """

    boxes: Mapping[Key, Mailbox]
    room: Room
    loans: dict[Key, Loan] = field(default_factory=dict)
    near: dict[Key, int] = field(default_factory=dict)
    takers: dict[Key, Connection] = field(default_factory=dict)

    def may_lend(self, key: Key, box: Mailbox, message: MailTake) -> bool:
        """Whether the desk that asks for a message gets the whole mailbox, which has none any more."""
        streams = Flag.STREAM in box.flags and message.borrow
        return self.near.get(key, 0) >= NEAR and not (box.queue or streams or box.flags & (Flag.SIGIO | Flag.NO_DELAY))

    def lend(self, key: Key, connection: Connection) -> None:
        self.loans[key] = Loan(connection)

    def is_with(self, key: Key, connection: Connection) -> bool:
        """The desk at the end of ``connection`` has the mailbox, or is about to get it."""
        return key in self.loans and self.loans[key].connection is connection

    def delivered(self, key: Key) -> None:
        """A message was delivered: it interrupts the row, unless `sent_by` says that it is one of it."""
        self.near[key] = min(self.near.get(key, 0), 0)

    def sent_by(self, key: Key, connection: Connection, before: int) -> None:
        """A message was delivered that came by ``connection``; ``before``: what `near` was."""
        if self.takers.get(key) is connection:
            self.near[key] = before + 1

    async def back(self, key: Key) -> None:
        """Return when no desk has the mailbox."""
        if (loan := self.loans.get(key)) is not None:
            if not loan.recalled:
                loan.recalled = True
                with contextlib.suppress(ConnectionError):
                    loan.connection.post(MailRecall(*key))
            await loan.back.wait()

    async def usable(self, key: Key, *, late: bool) -> bool:
        """No desk has the mailbox. False: one does not answer soon (it may be sending an image); ``late``: then wait on."""
        with trio.move_on_after(math.inf if late else SOON):
            await self.back(key)
        return key not in self.loans

    def returned(self, connection: Connection, message: MailReturned, body: Body) -> None:
        """One message of a mailbox that comes back, or the end of it."""
        key = (message.home, message.pid)
        loan, box = self.loans.get(key), self.boxes.get(key)
        if loan is None or loan.connection is not connection or box is None:  # it was given up meanwhile
            body.close()
        elif message.whose is not None:
            home, pid, location, start = message.whose
            box.queue.append(Message(home, pid, location, body, start))
            box.size += len(body)
            self.room.add(box.uid, len(body))
        else:
            box.ended = message.ended
            if loan.recalled:
                self.near[key] = -AFTER_RECALL
            self.over(key)

    def over(self, key: Key) -> None:
        """No desk has the mailbox any more."""
        loan = self.loans.pop(key, None)
        if loan is not None:
            loan.back.set()

    def forget(self, key: Key) -> None:
        """The mailbox is not here any more."""
        self.over(key)
        self.near.pop(key, None)
        self.takers.pop(key, None)

    def hung_up(self, connection: Connection) -> list[Key]:
        """Nobody is at the end of ``connection`` any more; the mailboxes that were lent there, and are lost."""
        for key in [key for key, taker in self.takers.items() if taker is connection]:
            del self.takers[key]
        return [key for key, loan in self.loans.items() if loan.connection is connection]
