"""The counter between a tracer or host and the post office of its mosd: calls of stopped programs become requests, answers results.

A request is always answered at once or after a bounded time; a call that must wait is answered "not yet", and `MailWake` tells when
to make it again. So nothing is ever under way while a program waits: it may be signalled, moved or killed as at any other time.

What the manual's errors mean here (readings, row 41): ENETUNREACH there is no mosd; ECONNRESET it ended while we read, or the
mailbox was lost with it; EIO it ended while we sent.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from mosfs.abi.args import MAX_BYTES
from mosfs.mbox import calls
from mosfs.mbox.body import Body
from mosfs.mbox.calls import Descriptor
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
from mosfs.mbox.hands import Hands
from mosfs.mbox.left import Left
from mosfs.mbox.model import PEEK
from mosfs.mbox.stream import Streams, Windows
from mosfs.trace.task import Task, TaskGone
from mosfs.wire.control import ControlLink
from mosfs.wire.messages import (
    LastMessage,
    MailAnswer,
    MailClose,
    MailFilters,
    MailOpen,
    MailPut,
    MailRecall,
    MailTake,
    MailWake,
    Msg,
)

_MINUS_ONE = 0xFFFF_FFFF_FFFF_FFFF


class Customer(Protocol):
    """A program that stands in one of its calls. `finish`, `wait` and `again` let it go on, each in its way."""

    filter_at: int  #: address of its struct interested, 0 for none

    @property
    def key(self) -> tuple[int, int]:
        """(home, pid)."""

    @property
    def owner(self) -> tuple[int, int]:
        """(uid, gid)."""

    @property
    def task(self) -> Task: ...
    @property
    def present(self) -> bool:
        """It is (still) a program of ours."""

    @property
    def undisturbed(self) -> bool:
        """It runs, and nobody wants it to stop."""

    @property
    def steady(self) -> bool:
        """Its reads and writes may be served without us (`Hands`): it runs or waits, and nobody wants it to stop."""

    @property
    def standing(self) -> Any:
        """The registers at the stop of the call that waits; None when it waits elsewhere."""

    def stands(self, regs: Any) -> None:
        """It has begun to wait at a stop with these registers."""

    def served(self) -> None:
        """Its wait is over, and it runs."""

    def nonblocking(self, descriptor: Descriptor, fd: int) -> bool:
        """O_NONBLOCK of a descriptor."""
        ...

    def finish(self, result: int) -> None:
        """The call is over."""

    def break_pipe(self) -> None:
        """The call ends with EPIPE, and SIGPIPE (pipe(7))."""

    def wait(self) -> None:
        """The call must wait for `again`."""

    def again(self) -> None:
        """Make the call that waits again; nothing if it does not wait any more."""

    def trouble(self, error: Exception) -> None:
        """``error`` came up while it was served in another's turn (TaskGone: it has ended meanwhile). Nothing is raised."""

    def remember(self, last: LastMessage) -> None:
        """What sender_home, sender_pid, sender_location and message_length show from now on."""


#: Gets the answer and the body that came with it (closed afterwards); None: mosd is gone.
Done = Callable[[MailAnswer | None, Body], None]


class Desk:
    """``windows``: there are streams, for customers whose every call stops."""

    def __init__(self, control: ControlLink, hands: Hands, windows: Windows | None = None) -> None:
        self.control = control
        self.streams = Streams(self, windows) if windows is not None else None
        self.left = Left(self, hands)
        self._asked: dict[int, tuple[Customer | None, Done]] = {}
        self._next = 1
        self.waiting: dict[tuple[int, int], Customer] = {}

    # ------------------------------------------------------------------ conversation

    def ask(self, customer: Customer | None, make: Callable[[int], Msg], done: Done, beside: int = -1) -> None:
        """``customer``: whose affair it is, if anybody's."""
        number, self._next = self._next, self._next + 1
        self._asked[number] = customer, done
        if not self.control.send(make(number), beside):
            del self._asked[number]
            answer = MailAnswer(number, -errno.ENETUNREACH)
            done(answer, Body())

    def message(self, message: Any, passed: Any) -> None:
        """A MailAnswer, MailWake or MailRecall of mosd."""
        if isinstance(message, MailWake):
            self.wake((message.home, message.pid))
            return
        if isinstance(message, MailRecall):
            self.left.give_back((message.home, message.pid))
            return
        customer, done = self._asked.pop(message.req, (None, None))
        body = Body(message.data)
        if passed is not None:
            body = Body.received(os.dup(passed.fileno()), message.size)
            passed.close()
        try:
            if done is not None:
                _tell(customer, done, message, body)
        finally:
            body.close()

    def lost(self) -> None:
        """mosd is gone."""
        if self.streams is not None:
            self.streams.lost()
        self.left.lost()
        asked, self._asked = self._asked, {}
        for customer, done in asked.values():
            _tell(customer, done, None, Body())
        for key in list(self.waiting):
            self.wake(key)

    def leave(self, key: tuple[int, int]) -> None:
        """The program waits no more."""
        self.waiting.pop(key, None)

    def gone(self, key: tuple[int, int]) -> None:
        """The program is here no more."""
        self.leave(key)
        if self.streams is not None:
            self.streams.leave(key)
        self.left.give_back(key)
        self.left.forget(key)

    def wait(self, customer: Customer) -> None:
        self.waits(customer)
        customer.wait()

    def waits(self, customer: Customer) -> None:
        self.waiting[customer.key] = customer

    def wake(self, key: tuple[int, int]) -> None:
        """Who waits, if anybody does, tries again. What becomes of that is no affair of whoever wakes it."""
        customer = self.waiting.pop(key, None)
        if customer is not None:
            try:
                customer.again()
            except Exception as error:
                customer.trouble(error)

    # ------------------------------------------------------------------ the mailbox

    def open(self, customer: Customer, flags: int, done: Callable[[int], None]) -> None:
        """Open the mailbox, or change its flags; ``done`` gets 0 or -errno."""
        (home, pid), (uid, gid) = customer.key, customer.owner
        self.left.give_back(customer.key)
        self.ask(
            customer, lambda n: MailOpen(n, home, pid, uid, gid, flags), lambda answer, _: done(_result(answer, errno.ECONNRESET))
        )

    def close(self, customer: Customer, done: Callable[[], None]) -> None:
        home, pid = customer.key
        customer.filter_at = 0
        self.left.give_back(customer.key)
        self.ask(customer, lambda n: MailClose(n, home, pid), lambda *_: done())

    # ------------------------------------------------------------------ calls

    def call(self, customer: Customer, descriptor: Descriptor, nr: int, args: Sequence[int]) -> bool:
        """Serve one of `calls.TRANSFERS`; False: it is none of ours, the kernel shall make it."""
        place = descriptor.place
        mine = place.own and (place.home, place.pid) == customer.key
        try:
            if nr == calls.IOCTL:
                return mine and self._ioctl(customer, args[1] & 0xFFFFFFFF, args[2])
            if nr in (calls.READ, calls.READV):
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
        if nr == calls.READ and args[2] == _MINUS_ONE:
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
        if key in self.left:
            self.left.take(customer, args[0] & 0xFFFFFFFF if nr == calls.READ else -1, pieces, count, wanted)
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
                    self.left.accept(key, answer.left)
                    if not customer.present:
                        self.left.give_back(key)
                if answer.wait:
                    self.wait(customer)
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

        self.ask(customer, lambda n: MailTake(n, home, pid, count, chosen, used, borrow), done)

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

        if (to.home, to.pid) in self.left:
            fd = args[0] & 0xFFFFFFFF if nr == calls.WRITE else -1
            if (had := self.left.put(customer, fd, to, pieces, size, nonblocking)) is not None:
                sent(had)
            return

        def done(answer: MailAnswer | None, _: Body) -> None:
            if answer is not None and answer.wait:
                if not nonblocking():
                    self.wait(customer)
                    return
                sent(-errno.ENOSPC)
            else:
                sent(_result(answer, errno.EIO) or size)

        body = calls.gather(customer.task, pieces, size)
        try:
            self.ask(customer, lambda n: MailPut(n, home, pid, uid, gid, to.home, to.pid, size, body.data), done, body.fd)
        finally:
            body.close()

    def _ioctl(self, customer: Customer, command: int, at: int) -> bool:
        def again() -> None:
            self._ioctl(customer, command, at)

        if self.streams is not None and self.streams.settle(customer.key, again):
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
        self.left.give_back(customer.key)
        self.ask(
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

        self.left.give_back(customer.key)
        self.ask(customer, lambda n: MailFilters(n, home, pid), done)


def _tell(customer: Customer | None, done: Done, answer: MailAnswer | None, body: Body) -> None:
    try:
        done(answer, body)
    except Exception as error:
        if customer is None:
            raise
        customer.trouble(error)


def _result(answer: MailAnswer | None, lost: int) -> int:
    return -lost if answer is None else answer.result
