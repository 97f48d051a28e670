"""What a tracer knows of its programs' mailboxes while they move, with a tracer that is none."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from mosfs.abi.numbers import SYS_CLOSE
from mosfs.home.asks import mail as mails
from mosfs.home.asks.mail import Mail, Mails
from mosfs.mbox.calls import Descriptor, Endpoint

PID, HOME, FILTER = 300, 0x7F000001, 0x7FFF_1234_5678


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A program with the mailbox open as descriptor 4 and a filter, and ``closes``: what the post office was asked to close."""
    monkeypatch.setattr(mails, "as_unsigned", lambda ip: HOME)
    closes: list[Mail] = []
    program = SimpleNamespace(pid=PID, post=SimpleNamespace(last=None, mail=None), closes=closes)
    desk = SimpleNamespace(close=lambda mail, done: (setattr(mail, "filter_at", 0), closes.append(mail)))
    tracer = SimpleNamespace(
        mosd=SimpleNamespace(config=SimpleNamespace(ip="")), family=SimpleNamespace(process=lambda p: p),
        deputies=SimpleNamespace(watch=lambda p: None),
    )  # fmt: skip
    program.mails = counter = Mails.__new__(Mails)
    counter.tracer, counter.desk, counter.places, counter.lingering = cast("Any", tracer), cast("Any", desk), {1: None}, []  # type: ignore[dict-item]
    monkeypatch.setattr(counter, "table", lambda pid: {4: Descriptor(Endpoint(HOME, PID, own=True))})
    program.post.mail = Mail(counter, program)
    program.post.mail.own_fd, program.post.mail.filter_at = 4, FILTER
    return program


def test_what_a_host_knows_newer_counts(program: Any) -> None:
    program.mails.seen(program, FILTER + 64, None)
    assert program.post.mail.filter_at == FILTER + 64


def test_a_filter_does_not_come_back_from_a_host_in_the_middle_of_a_close(program: Any) -> None:
    request = SimpleNamespace(nr=SYS_CLOSE, args=(4, 0, 0, 0, 0, 0))
    assert program.mails.closing_away(program, SimpleNamespace(), request), "the office is asked first"
    assert program.closes == [program.post.mail]
    program.mails.seen(program, FILTER, None)  # in the image, or in MAIL_SEEN
    assert (program.post.mail.own_fd, program.post.mail.filter_at) == (-1, 0)
