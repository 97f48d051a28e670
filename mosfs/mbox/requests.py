"""Requests to the post office of this node's mosd. Each is answered at once or after a bounded time, unless mosd ends."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any

from mosfs.mbox.body import Body
from mosfs.mbox.customer import Customer
from mosfs.wire.control import ControlLink
from mosfs.wire.messages import MailAnswer, Msg

#: Gets the answer and the body that came with it (closed afterwards); None: mosd is gone.
Done = Callable[[MailAnswer | None, Body], None]


class Requests:
    """The requests of one tracer or host to its mosd that have no answer yet."""

    def __init__(self, control: ControlLink) -> None:
        self.control = control
        self._asked: dict[int, tuple[Customer | None, Done]] = {}
        self._next = 1

    def ask(self, customer: Customer | None, make: Callable[[int], Msg], done: Done, beside: int = -1) -> None:
        """Send what ``make`` gives for a number. ``customer``: whose affair it is, if anybody's. ``beside``: a memory file."""
        number, self._next = self._next, self._next + 1
        self._asked[number] = customer, done
        if not self.control.send(make(number), beside):
            del self._asked[number]
            answer = MailAnswer(number, -errno.ENETUNREACH)
            done(answer, Body())

    def answered(self, message: MailAnswer, passed: Any) -> None:
        """``passed``: the socket object of a memory file that came with the answer, if any did."""
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
        """mosd is gone: nobody will answer."""
        asked, self._asked = self._asked, {}
        for customer, done in asked.values():
            _tell(customer, done, None, Body())


def _tell(customer: Customer | None, done: Done, answer: MailAnswer | None, body: Body) -> None:
    try:
        done(answer, body)
    except Exception as error:
        if customer is None:
            raise
        customer.trouble(error)
