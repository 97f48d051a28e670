"""Direct communication of a body that has just come: nothing is sent or taken in its name before its move is committed."""

from __future__ import annotations

import errno
from types import SimpleNamespace
from typing import Any

import pytest

from mosfs.abi.numbers import SYS_GETPID, SYS_KILL, SYS_READ, SYS_WRITE
from mosfs.calls.request import pack_reply, unpack
from mosfs.guest.body import Body, State
from mosfs.guest.completion import Completion
from mosfs.guest.forwarding import Forwarding
from mosfs.guest.mail import Mails
from mosfs.guest.onward import Onward
from mosfs.guest.signals import Signals
from mosfs.mbox.calls import TRANSFERS
from mosfs.trace.task import no_regs
from mosfs.wire.frames import BUSY
from mosfs.wire.orders import MailTable

PID, HOME, BOX, SENDER = 300, 0x7F000001, 4, 5


class Host:
    """A body whose mailbox is descriptor 4. ``asked``: numbers of the calls that went home; ``served``: what came to the office."""

    def __init__(self, *, came: bool) -> None:
        self.asked: list[int] = []
        self.served: list[int] = []
        context: Any = SimpleNamespace(channel=SimpleNamespace(send=self._send), bodies={})
        alarms: Any = SimpleNamespace(before_call=lambda body: None)
        self.signals = Signals(self)
        self.completion = Completion(self.signals, SimpleNamespace(), self, SimpleNamespace())  # type: ignore[arg-type]
        self.mails = Mails.__new__(Mails)
        self.mails.context, self.mails.forwarding = context, Forwarding(context, alarms)
        self.mails.desk = SimpleNamespace(  # type: ignore[assignment]
            borrowed=SimpleNamespace(forget=lambda key: None), streams=None, call=self._office,
        )  # fmt: skip
        task: Any = SimpleNamespace(pid=PID, peek_mask=lambda: 0)
        self.body = context.bodies[PID] = Body(PID, task, State.RUNNING)
        self.body.meta = SimpleNamespace(mail=None) if came else None  # type: ignore[assignment]
        entries = [(BOX, HOME, PID, True, False, False), (SENDER, HOME, 1, False, False, False)]
        self.mails.told(self.body, MailTable(entries, HOME, 0, 0, 0))
        self.body.meta = None  # GO

    def _send(self, kind: int, pair: int, payload: bytes, flags: int = 0) -> None:
        self.asked.append(unpack(payload).nr)

    def _office(self, mail: Any, descriptor: Any, nr: int, args: Any) -> bool:
        self.served.append(nr)
        return True

    def trapped(self, body: Body) -> None: ...

    def again(self, body: Body, result: int) -> None:
        """As `Serve.again` does."""
        assert self.mails.concerns(body) and self.mails.serve(body)

    def calls(self, nr: int, fd: int) -> None:
        """The body makes this call."""
        self.body.state, self.body.call.nr, self.body.call.regs = State.RUNNING, nr, no_regs()
        self.body.call.regs.rip, self.body.call.regs.rdi = 0x1000, fd
        assert self.mails.trapped(self.body, nr, (fd, 0, 0, 0, 0, 0))

    def home_answers(self, result: int) -> None:
        self.completion.reply(self.body, pack_reply(result, []), self.body.call.seq)


@pytest.mark.parametrize(("nr", "fd"), [(SYS_READ, BOX), (SYS_WRITE, SENDER)])
def test_the_first_call_behind_a_move_waits_for_home(nr: int, fd: int) -> None:
    """Home may never hear that the body runs, and go on itself: the message would be sent, or taken, twice."""
    assert nr in TRANSFERS
    host = Host(came=True)
    host.calls(nr, fd)
    assert (host.asked, host.served, host.body.state) == ([SYS_GETPID], [], State.WAITING)
    host.home_answers(PID)
    assert (host.asked, host.served, host.body.state) == ([SYS_GETPID], [nr], State.MAIL)
    host.calls(nr, fd)
    assert (host.asked, host.served) == ([SYS_GETPID], [nr, nr])


def test_whatever_home_answers_says_that_the_move_is_committed() -> None:
    host = Host(came=True)
    host.body.state, host.body.call.nr, host.body.call.regs = State.WAITING, SYS_GETPID, no_regs()
    host.body.task.set_regs = host.body.task.cont = lambda *_: None  # type: ignore[method-assign]
    host.body.call.regs.rdi = 0
    host.home_answers(PID)
    host.calls(SYS_WRITE, SENDER)
    assert (host.asked, host.served) == ([], [SYS_WRITE])


def test_an_answer_to_an_earlier_call_says_nothing() -> None:
    host = Host(came=True)
    host.calls(SYS_WRITE, SENDER)
    host.completion.reply(host.body, pack_reply(PID, []), host.body.call.seq - 1)
    assert (host.served, host.body.state) == ([], State.WAITING)


def test_who_has_the_mailbox_since_it_is_here_does_not_ask() -> None:
    host = Host(came=False)
    host.calls(SYS_READ, BOX)
    assert (host.asked, host.served) == ([], [SYS_READ])


def test_a_body_that_leaves_meanwhile_makes_its_call_anew() -> None:
    """The answer that it waits for is that of another call."""
    host = Host(came=True)
    host.calls(SYS_READ, BOX)
    assert leaves(host) == ([False], [])


def test_a_body_does_not_leave_between_a_broken_pipe_and_its_signal() -> None:
    """Elsewhere the answer to kill(2) would be the result of its write(2): 0."""
    host = Host(came=False)
    host.calls(SYS_WRITE, SENDER)
    host.body.mail.break_pipe()
    assert host.asked == [SYS_KILL] and leaves(host) == ([], [BUSY])
    told: list[int] = []
    host.completion.finish = lambda body, result, value=False: told.append(result)  # type: ignore[method-assign]
    host.home_answers(0)
    assert told == [-errno.EPIPE]


def leaves(host: Host) -> tuple[list[bool], list[bytes]]:
    """The host is asked for the body: with which ``waiting`` it was captured, and what home was told instead."""
    captured, refused = list[bool](), list[bytes]()
    onward = Onward.__new__(Onward)
    onward._mails = SimpleNamespace(flush=lambda *args, **named: False)  # type: ignore[assignment]
    onward._capture = lambda body, order, regs, *, waiting: captured.append(waiting)  # type: ignore[method-assign]
    onward._unsuited = lambda body, order: False  # type: ignore[method-assign]
    onward._context = SimpleNamespace(channel=SimpleNamespace(send=lambda kind, pair, text: refused.append(text)))  # type: ignore[assignment]
    onward.request(host.body, None)
    return captured, refused
