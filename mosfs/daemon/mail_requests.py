"""What tracers and hosts ask of the post office of their node: the messages Mail... of `mosfs.wire.messages`."""

from __future__ import annotations

import contextlib
import errno
import io
import os
from dataclasses import dataclass

import trio

from mosfs.daemon.connection import Connection
from mosfs.daemon.office import PATIENCE, Office
from mosfs.daemon.room import Key
from mosfs.daemon.tasks import guarded
from mosfs.mbox.body import Body
from mosfs.mbox.borrowed import last_message
from mosfs.mbox.filters import EVERYTHING, unpack, unpack_stored
from mosfs.mbox.model import PEEK, Flag, Mailbox, Sender, Taken
from mosfs.wire.messages import (
    LeftBox,
    MailAnswer,
    MailBack,
    MailClose,
    MailFilters,
    MailOpen,
    MailPut,
    MailReturned,
    MailTake,
)

Asking = MailOpen | MailTake | MailPut | MailFilters | MailClose | MailBack
Request = Asking | MailReturned


@dataclass(frozen=True, slots=True)
class MailRequests:
    """Serves them from ``office``."""

    office: Office

    def handle(self, connection: Connection, message: Request, beside: int) -> None:
        """Answer at once if all that it needs is here; else a task does. ``beside``: a memory file, -1 for none."""
        key = (message.home, message.pid)
        if isinstance(message, MailReturned):
            self.office.lending.returned(connection, message, _body(message, beside))
            return
        if key in self.office.lending.loans and not isinstance(message, MailPut):
            self.office.nursery.start_soon(guarded, self._later, connection, message, key)
            return
        match message:
            case MailTake() if key in self.office.boxes:
                self._take(connection, self.office.boxes[key], message)
            case MailBack():  # what comes behind it may depend on it
                if box := self.office.boxes.get(key):
                    _read(box, message.used)
                _post(connection, MailAnswer(message.req, 0))
            case MailPut(to_home=home, to_pid=pid) if self.office.has((home, pid)):
                self._put(connection, message, _body(message, beside))
            case MailPut():
                self.office.nursery.start_soon(guarded, self._send, connection, message, _body(message, beside))
            case MailClose():
                self.office.nursery.start_soon(guarded, self._close, connection, message)
            case _:
                self.office.nursery.start_soon(guarded, self._with_box, connection, message)

    async def _close(self, connection: Connection, message: MailClose) -> None:
        """Answered when it is gone everywhere: the program may open a new one at once."""
        await self.office.discard((message.home, message.pid))
        _post(connection, MailAnswer(message.req, 0))

    async def _later(self, connection: Connection, message: Asking, key: Key) -> None:
        """A program's request about its own mailbox, which another desk has (still). Who reads is told to ask again."""
        with trio.move_on_after(PATIENCE):
            await self.office.lending.back(key)
        if key in self.office.lending.loans:
            reads = isinstance(message, MailTake)
            _post(connection, MailAnswer(message.req, -errno.EAGAIN if reads else -errno.ECONNRESET, wait=reads))
            if reads:
                self.office.lines[key] = connection
                await self.office.lending.back(key)
                self.office.wake(key)
        else:
            self.handle(connection, message, -1)

    async def _with_box(self, connection: Connection, message: Asking) -> None:
        """A request that needs the program's own mailbox, which may be elsewhere."""
        key = (message.home, message.pid)
        try:
            box = await self.office.ensure(key)
        except OSError as error:
            _post(connection, MailAnswer(message.req, -(error.errno or errno.ECONNRESET)))
            return
        if isinstance(message, MailOpen):
            _post(connection, MailAnswer(message.req, self._open(key, box, message)))
        elif box is None:
            _post(connection, MailAnswer(message.req, -errno.ECONNRESET))
        elif isinstance(message, MailTake):
            self._take(connection, box, message)
        elif isinstance(message, MailFilters):
            self._filters(connection, box, message)

    def _open(self, key: Key, box: Mailbox | None, message: MailOpen) -> int:
        if box is None:
            if not self.office.room.may_open(message.uid):
                return -errno.EMFILE
            self.office.boxes[key] = Mailbox(*key, message.uid, message.gid, Flag(max(message.flags, 0)))
        elif message.flags >= 0:
            box.reopen(Flag(message.flags))
        return 0

    def _filters(self, connection: Connection, box: Mailbox, message: MailFilters) -> None:
        if message.filters is None:
            _post(connection, MailAnswer(message.req, 0, data=box.which(), number=len(box.stored)))
        else:
            box.stored = unpack_stored(message.filters)
            _post(connection, MailAnswer(message.req, 0))

    def _take(self, connection: Connection, box: Mailbox, message: MailTake) -> None:
        key = (box.home, box.pid)
        _read(box, message.used)
        if message.borrow and Flag.STREAM in box.flags:
            taken = box.lend()
        else:
            taken = box.take(message.count, unpack(message.filter) if message.filter else EVERYTHING)
        answer = MailAnswer(message.req, taken.result, lent=box.lent is not None)
        self.office.lending.takers[key] = connection
        answer.wait = taken.result == -errno.EAGAIN and message.count != PEEK and Flag.NO_DELAY not in box.flags
        if answer.wait:
            self.office.lines[key] = connection
        if (answer.wait or taken.removed) and self.office.lending.may_lend(key, box, message):
            answer.left = LeftBox(box.uid, box.gid, int(box.flags), box.ended, self.office.me)
            self.office.lending.lend(key, connection)
        elif answer.wait:
            self.office.readers.add(key)
        if taken.message is None:
            _post(connection, answer)
            return
        answer.last = last_message(taken.message)
        _hand_over(connection, answer, taken, peeked=message.count == PEEK)
        if taken.removed:
            self.office.emptied(key)

    def _put(self, connection: Connection, message: MailPut, body: Body) -> None:
        sender, to = _sender(message, self.office.me), (message.to_home, message.to_pid)
        lending = self.office.lending
        before = lending.near.get(to, 0)
        result = self.office.deliver(self.office.boxes[to], sender, self.office.name(), body, late=message.late)
        accepted = not result or (message.late and result == errno.EAGAIN)
        if not accepted:
            body.close()
        else:
            lending.sent_by(to, connection, before)
        if message.late and accepted:
            _post(connection, MailAnswer(message.req, 0, wait=result == errno.EAGAIN))
            return
        if result == errno.EAGAIN:
            self.office.writers.setdefault(to, set()).add((sender.home, sender.pid))
            self.office.lines[sender.home, sender.pid] = connection
        _post(connection, MailAnswer(message.req, -result, wait=result == errno.EAGAIN))

    async def _send(self, connection: Connection, message: MailPut, body: Body) -> None:
        """Send a message to a mailbox that is not here, or of which we do not know."""
        sender, to = _sender(message, self.office.me), (message.to_home, message.to_pid)
        key = (sender.home, sender.pid)
        if not message.late and self.office.lending.is_with(to, connection):  # it was on its way when the desk got the mailbox
            body.close()
            self.office.lines[key] = connection
            _post(connection, MailAnswer(message.req, -errno.EAGAIN, wait=True))
            self.office.wake(key)  # it tries again, there
            return
        if not message.late and not self.office.room.may_send(sender.uid, message.size):
            result = errno.EAGAIN
        else:
            with self.office.room.sending(sender.uid, message.size):
                result = await self.office.send(sender, to, self.office.name(), message.size, body, late=message.late)
        accepted = not result or (message.late and result == errno.EAGAIN)
        if to not in self.office.boxes or not accepted:
            body.close()
        if message.late and accepted:
            _post(connection, MailAnswer(message.req, 0, wait=result == errno.EAGAIN))
            return
        if result == errno.EAGAIN:
            self.office.lines[key] = connection
            if self.office.watchers.add(sender, to, message.size):
                self.office.nursery.start_soon(guarded, self.office.watchers.watch, to)
        _post(connection, MailAnswer(message.req, -result, wait=result == errno.EAGAIN))


def _read(box: Mailbox, used: int) -> None:
    """The program has read ``used`` bytes of the message that it was lent; -1: it says nothing of it."""
    read = box.finish_read(used)
    if read is not None and isinstance(read.body, Body):
        read.body.close()


def _sender(message: MailPut, location: int) -> Sender:
    return Sender(message.home, message.pid, message.uid, message.gid, location)


def _body(message: MailPut | MailReturned, beside: int) -> Body:
    """ValueError, and nothing stays open, when it is not as long as the message says."""
    if beside < 0:
        if len(message.data) != message.size:
            raise ValueError("the message is not as long as it says")
        return Body(message.data)
    try:
        return Body.received(beside, message.size)
    except ValueError:
        os.close(beside)
        raise


def _hand_over(connection: Connection, answer: MailAnswer, taken: Taken, *, peeked: bool) -> None:
    """Answer with what was read: bytes, or the memory file itself (a duplicate while the message stays)."""
    message = taken.message
    assert message is not None and isinstance(message.body, Body)
    body = message.body
    beside = None
    if taken.result > 0 and not peeked:
        if body.fd < 0:
            answer.data = body.part(taken.offset, taken.result)
        else:
            answer.offset, answer.size = taken.offset, len(body)
            beside = io.FileIO(os.dup(body.fd), "r+")
    _post(connection, answer, beside)
    if taken.removed and not answer.lent:
        body.close()


def _post(connection: Connection, answer: MailAnswer, beside: io.FileIO | None = None) -> None:
    with contextlib.suppress(ConnectionError):  # the program ended while we answered
        connection.post(answer, beside)
