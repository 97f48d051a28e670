"""In whose name a node may send: what the receiver's office asks, and what a home-node answers."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock

from mosfs.cluster.address import as_unsigned
from mosfs.daemon import senders
from mosfs.daemon.senders import HOLDS, MOST_HELD, Senders
from mosfs.mbox.model import Sender
from mosfs.wire.messages import PostSpeaks

HERE, NODE, HOME, STRANGER = "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.9.9.9"
GUEST = Sender(as_unsigned(HOME), 300, 1000, 1000, as_unsigned(NODE))


class Asked(list[PostSpeaks]):
    """What the home-nodes were asked; they answer ``result``, or are not there."""

    result = 0

    async def __call__(self, home: str, question: PostSpeaks) -> int:
        assert home == HOME
        self.append(question)
        if self.result < 0:
            raise OSError(-self.result, "")
        return self.result


def office(asked: Asked, where: str | None = None, pid: int = 0) -> Senders:
    """The office of HERE; its program ``pid`` is at ``where``, if there is one."""
    programs = {pid: SimpleNamespace(state=SimpleNamespace(where=where))} if where is not None else {}
    nodes = SimpleNamespace(relation=lambda ip: SimpleNamespace(known=ip != STRANGER))
    world = SimpleNamespace(ip=HERE, map=nodes, programs=programs)
    return Senders(cast("Any", world), asked)


def refused(made: Senders, sender: Sender) -> int:
    return trio.run(made.refused, sender, clock=MockClock(autojump_threshold=0))


def test_a_node_speaks_for_its_own() -> None:
    assert refused(office(asked := Asked()), replace(GUEST, home=GUEST.location)) == 0
    assert not asked


@pytest.mark.parametrize("result", [0, errno.EACCES, -errno.ETIMEDOUT])
def test_for_a_guest_its_home_is_asked(result: int) -> None:
    asked = Asked()
    asked.result = result
    assert refused(office(asked), GUEST) == abs(result)
    assert asked == [PostSpeaks(300, NODE, 1000, 1000)]


def test_nobody_speaks_for_nodes_that_there_are_not() -> None:
    assert refused(office(asked := Asked()), replace(GUEST, home=as_unsigned(STRANGER))) == errno.EACCES
    assert not asked


def test_a_homes_word_holds_for_a_while_and_for_that_name() -> None:
    async def run() -> None:
        made = office(asked := Asked())
        for _ in range(3):
            assert await made.refused(GUEST) == 0
        assert len(asked) == 1
        asked.result = errno.EACCES
        assert [await made.refused(replace(GUEST, **{name: 0})) for name in ("pid", "uid", "gid")] == [errno.EACCES] * 3
        assert await made.refused(replace(GUEST, location=as_unsigned(HERE))) == errno.EACCES
        await trio.sleep(HOLDS)
        assert await made.refused(GUEST) == errno.EACCES
        asked.result = 0
        for pid in range(MOST_HELD + 10):
            assert await made.refused(replace(GUEST, pid=pid)) == 0
        assert len(made._held) == MOST_HELD

    trio.run(run, clock=MockClock(autojump_threshold=0))


@pytest.mark.parametrize(
    ("where", "privileges", "user", "expected"),
    [
        (NODE, "1", 0, 0), (NODE, "1", 1, errno.EACCES), (NODE, "0", 1, 0),
        (HOME, "1", 0, errno.EACCES), (None, "1", 0, errno.EACCES),
    ],
)
def test_what_a_home_node_says_of_its_program(
    monkeypatch: pytest.MonkeyPatch, where: str | None, privileges: str, user: int, expected: int
) -> None:
    """``user``: 0 is who our process is, 1 somebody else."""
    ids = {"NoNewPrivs": [privileges], "Uid": ["7", "8", "8", "8"], "Gid": ["9", "9", "9", "9"]}
    monkeypatch.setattr(senders, "words_of", lambda pid, *names: [ids[name] for name in names])
    sender = Sender(as_unsigned(HERE), os.getpid(), 8 + 90 * user, 9, as_unsigned(NODE))
    assert refused(office(Asked(), where, os.getpid()), sender) == expected


def test_a_program_that_ends_is_nobody() -> None:
    sender = Sender(as_unsigned(HERE), 2**22, 0, 0, as_unsigned(NODE))  # above every pid_max
    assert refused(office(Asked(), NODE, 2**22), sender) == errno.EACCES
