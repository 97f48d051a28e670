"""The counter between a tracer or host and the post office of its mosd: calls of stopped programs become requests, answers results.

A request is always answered at once or after a bounded time; a call that must wait is answered "not yet", and `MailWake` tells when
to make it again. So nothing is ever under way while a program waits: it may be signalled, moved or killed as at any other time.

What the manual's errors mean here (readings, row 41): ENETUNREACH there is no mosd; ECONNRESET it ended while we read, or the
mailbox was lost with it; EIO it ended while we sent.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from mosfs.abi.args import MAX_BYTES
from mosfs.abi.numbers import SYS_IOCTL, SYS_READ, SYS_READV, SYS_WRITE
from mosfs.mbox import calls
from mosfs.mbox.body import Body, Files
from mosfs.mbox.borrowed import Borrowed
from mosfs.mbox.calls import Descriptor
from mosfs.mbox.customer import Customer, Key
from mosfs.mbox.filters import (
    EVERYTHING,
    INTERESTS,
    MAX_STORED,
    SIOCINTERESTED,
    SIOCSTOREINTERESTS,
    SIOCWHICH,
    SIZE,
    BadFilter,
    unpack,
    unpack_stored,
)
from mosfs.mbox.handover import Handover
from mosfs.mbox.model import PEEK
from mosfs.mbox.requests import Requests
from mosfs.mbox.stream import Streams, Windows
from mosfs.mbox.waiting import Waiting
from mosfs.trace.task import TaskGone
from mosfs.wire.control import ControlLink
from mosfs.wire.messages import (
    MailAnswer,
    MailClose,
    MailFilters,
    MailOpen,
    MailPut,
    MailRecall,
    MailTake,
    MailWake,
)

_MINUS_ONE = 0xFFFF_FFFF_FFFF_FFFF


class Desk:
    """``windows``: there are streams, for customers whose every call stops."""

    def __init__(self, control: ControlLink, handover: Handover, windows: Windows | None = None) -> None:
        self.requests = Requests(control)
        self.waiting = Waiting()
        self.files = Files()
        self.streams = Streams(self.requests, windows, self.files) if windows is not None else None
        self.borrowed = Borrowed(control, self.waiting, handover)

    def message(self, message: MailAnswer | MailWake | MailRecall, passed: Any) -> None:
        """What mosd says."""
        match message:
            case MailWake():
                self.waiting.wake((message.home, message.pid))
            case MailRecall():
                self.borrowed.give_back((message.home, message.pid))
            case MailAnswer():
                self.requests.answered(message, passed)

    def lost(self) -> None:
        """mosd is gone."""
        if self.streams is not None:
            self.streams.lost()
        self.borrowed.lost()
        self.requests.lost()
        self.waiting.wake_all()

    def leave(self, key: Key) -> None:
        """The program waits no more."""
        self.waiting.leave(key)

    def gone(self, key: Key) -> None:
        """The program is here no more."""
        self.waiting.leave(key)
        if self.streams is not None:
            self.streams.leave(key)
        self.files.forget(key)
        self.borrowed.give_back(key)
        self.borrowed.forget(key)

    # ------------------------------------------------------------------ the mailbox

    def open(self, customer: Customer, flags: int, done: Callable[[int], None]) -> None:
        """Open the mailbox, or change its flags; ``done`` gets 0 or -errno."""
        (home, pid), (uid, gid) = customer.key, customer.owner
        self.borrowed.give_back(customer.key)
        self.requests.ask(
            customer, lambda n: MailOpen(n, home, pid, uid, gid, flags), lambda answer, _: done(_result(answer, errno.ECONNRESET))
        )

    def close(self, customer: Customer, done: Callable[[], None]) -> None:
        home, pid = customer.key
        customer.filter_at = 0
        self.borrowed.give_back(customer.key)
        self.requests.ask(customer, lambda n: MailClose(n, home, pid), lambda *_: done())

    # ------------------------------------------------------------------ calls

    def call(self, customer: Customer, descriptor: Descriptor, nr: int, args: Sequence[int]) -> bool:
        """Serve one of `calls.TRANSFERS`; False: it is none of ours, the kernel shall make it."""
        place = descriptor.place
        mine = place.own and (place.home, place.pid) == customer.key
        try:
            if nr == SYS_IOCTL:
                return mine and self._ioctl(customer, args[1] & 0xFFFFFFFF, args[2])
            if nr in (SYS_READ, SYS_READV):
                if not mine:
                    raise OSError(errno.EBADF, "not our mailbox")
                self._take(customer, nr, args)
            elif place.own:
                raise OSError(errno.EBADF, "a mailbox cannot be written")
            else:
                self._put(customer, descriptor, nr, args)
        except TaskGone:
            raise
        except BadFilter:
            customer.finish(-errno.EINVAL)
        except OSError as error:
            customer.finish(-(error.errno or errno.EFAULT))
        return True

    def _take(self, customer: Customer, nr: int, args: Sequence[int]) -> None:
        if nr == SYS_READ and args[2] == _MINUS_ONE:
            pieces, count = [], PEEK
        else:
            pieces = calls.vectors(customer.task, nr, args)
            count = sum(size for _, size in pieces)
            if count >> 63:
                raise OSError(errno.EINVAL, "length")
            count = min(count, MAX_BYTES)
        chosen, wanted = b"", EVERYTHING
        if customer.filter_at:
            chosen = customer.task.read(customer.filter_at, SIZE)
            wanted = unpack(chosen)
        key = home, pid = customer.key
        if key in self.borrowed:
            self.borrowed.take(customer, args[0] & 0xFFFFFFFF if nr == SYS_READ else -1, pieces, count, wanted)
            return
        fd = args[0] & 0xFFFFFFFF
        used, borrow = 0, False
        if self.streams is not None:
            if (had := self.streams.take(customer, fd, pieces, count)) is not None:
                customer.finish(had)
                return
            used, borrow = self.streams.used(key), self.streams.may_borrow(customer, count)

        def done(answer: MailAnswer | None, body: Body) -> None:
            result = _result(answer, errno.ECONNRESET)
            if answer is not None:
                if answer.left is not None:
                    self.borrowed.accept(key, answer.left)
                    if not customer.present:
                        self.borrowed.give_back(key)
                if answer.wait:
                    self.waiting.wait(customer)
                    return
                if answer.last is not None:
                    customer.remember(answer.last)
                if answer.lent and self.streams is not None:
                    self.streams.lent(key, body.moved(), answer.offset, result)
                    try:
                        result = self.streams.take(customer, fd, pieces, count) or 0
                    except OSError:
                        result = -errno.EFAULT
                elif result > 0 and pieces:
                    try:
                        calls.scatter(customer.task, pieces, body, answer.offset, result)
                    except OSError:
                        result = -errno.EFAULT
            customer.finish(result)

        self.requests.ask(customer, lambda n: MailTake(n, home, pid, count, chosen, used, borrow), done)

    def _put(self, customer: Customer, descriptor: Descriptor, nr: int, args: Sequence[int]) -> None:
        to = descriptor.place
        pieces, size = calls.message_of(calls.vectors(customer.task, nr, args), cut=to.pipe)
        if to.pipe and self.streams is not None:

            def again() -> None:
                self.call(customer, descriptor, nr, args)

            if self.streams.put(customer, to, args[0] & 0xFFFFFFFF, pieces, size, again):
                return
        (home, pid), (uid, gid) = customer.key, customer.owner

        def sent(result: int) -> None:
            if to.pipe and result in (-errno.ESRCH, -errno.EACCES):
                customer.break_pipe()
            else:
                customer.finish(result)

        def nonblocking() -> bool:
            return customer.nonblocking(descriptor, args[0] & 0xFFFFFFFF)

        if (to.home, to.pid) in self.borrowed:
            fd = args[0] & 0xFFFFFFFF if nr == SYS_WRITE else -1
            if (had := self.borrowed.put(customer, fd, to, pieces, size, nonblocking)) is not None:
                sent(had)
            return

        def done(answer: MailAnswer | None, _: Body) -> None:
            if answer is not None and answer.wait:
                if not nonblocking():
                    self.waiting.wait(customer)
                    return
                sent(-errno.ENOSPC)
            else:
                sent(_result(answer, errno.EIO) or size)

        body = calls.gather(customer.task, pieces, size, partial(self.files.body, (customer.key, to), size))
        try:
            self.requests.ask(customer, lambda n: MailPut(n, home, pid, uid, gid, to.home, to.pid, size, body.data), done, body.fd)
        finally:
            body.close()

    def _ioctl(self, customer: Customer, command: int, at: int) -> bool:
        def again() -> None:
            self._ioctl(customer, command, at)

        if self.streams is not None and self.streams.flush(customer.key, again):
            return True
        if command == SIOCINTERESTED:
            if at:
                customer.task.read(at, SIZE)  # its contents count when a message is read
            before, customer.filter_at = customer.filter_at, at
            customer.finish(before)
        elif command == SIOCSTOREINTERESTS:
            self._store(customer, at)
        elif command == SIOCWHICH:
            self._which(customer, at)
        else:
            return False
        return True

    def _store(self, customer: Customer, at: int) -> None:
        number, array = INTERESTS.unpack(customer.task.read(at, INTERESTS.size))
        if not 0 <= number <= MAX_STORED:
            raise BadFilter("number")
        filters = customer.task.read(array, number * SIZE) if number else b""
        unpack_stored(filters)
        home, pid = customer.key
        self.borrowed.give_back(customer.key)
        self.requests.ask(
            customer, lambda n: MailFilters(n, home, pid, filters),
            lambda answer, _: customer.finish(_result(answer, errno.ECONNRESET)),
        )

    def _which(self, customer: Customer, at: int) -> None:
        home, pid = customer.key

        def done(answer: MailAnswer | None, body: Body) -> None:
            result = _result(answer, errno.ECONNRESET)
            if answer is not None and result == 0:
                result = answer.number
                try:
                    customer.task.write(at, body.data)
                except OSError:
                    result = -errno.EFAULT
            customer.finish(result)

        self.borrowed.give_back(customer.key)
        self.requests.ask(customer, lambda n: MailFilters(n, home, pid), done)


def _result(answer: MailAnswer | None, lost: int) -> int:
    return -lost if answer is None else answer.result
