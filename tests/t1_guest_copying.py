"""A host sends a body's memory ahead, or tells home that it does not: never both (docs/design/migration.md, "Pre-copy")."""

from __future__ import annotations

from collections import deque
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mosfs.guest import copying
from mosfs.guest.body import Body, State
from mosfs.guest.copying import Copying
from mosfs.guest.sending import Sending
from mosfs.migrate import image
from mosfs.migrate.image import ImageMeta, Vma
from mosfs.migrate.precopy import Next, Precopy, View
from mosfs.wire.frames import Kind
from mosfs.wire.orders import MoveOrder
from tests.t0_image import meta

PID = 300
HOME = MoveOrder("", 0, b"", b"", True)


class Host:
    """A host with one body. ``sent``: kinds of frames that have gone home; ``interrupts``: so often the body was asked to stop."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(copying, "possible", lambda: True)
        self.sent: list[int] = []
        self.interrupts = 0
        channel = SimpleNamespace(send=lambda kind, pair, payload=b"": self.sent.append(kind))
        self.body = Body(PID, cast(Any, SimpleNamespace(pid=PID, interrupt=self._interrupt)), state=State.RUNNING)
        context = SimpleNamespace(channel=channel, bodies={PID: self.body}, log=lambda *words: None)
        self.copying = Copying(cast(Any, context), cast(Any, None), cast(Any, None))

    def _interrupt(self) -> None:
        self.interrupts += 1


@pytest.mark.parametrize("state", [State.FORKING, State.EXECING, State.WAITING])
def test_a_body_that_cannot_be_followed_is_not_followed_later(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ran when COPY came, and stops in a call in which that cannot be. Home is told, and recalls it."""
    host = Host(monkeypatch)
    host.copying.copy(host.body, HOME)
    assert host.body.stopping.arming == HOME and host.interrupts == 1 and host.sent == []
    host.body.state = state
    host.body.call.mapping = object() if state is State.WAITING else None
    host.copying.copy_memory(host.body, HOME)
    assert host.sent == [Kind.COPIED] and host.body.stopping.arming is None


@pytest.mark.parametrize(("frames", "home", "lost"), [(0, False, True), (1, False, False), (0, True, False)])
def test_a_next_host_that_says_nothing_gets_nothing_ahead(
    frames: int, home: bool, lost: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has been sent a round, and does not answer: home hears COPIED, so that the program is not on its way for ever."""
    host = Host(monkeypatch)
    channel: Any = SimpleNamespace(shared=SimpleNamespace(received=0), sent_in_bulk=9, close=lambda: None)
    precopy: Any = SimpleNamespace(next=Next.WAIT, close=lambda: None, hold=lambda now: None)
    host.body.leaving.copy = Sending(channel, home, precopy)
    for _ in range(2 * copying.MOST_SILENT):
        host.copying.look()
        channel.shared.received += frames
    assert host.sent == ([Kind.COPIED] if lost else []) and (host.body.leaving.copy is None) is lost


def test_a_copy_that_has_ended_waits_for_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connection is that of the image, too."""
    host = Host(monkeypatch)
    channel: Any = SimpleNamespace(shared=SimpleNamespace(received=0), sent_in_bulk=9)
    for precopy in (None, SimpleNamespace(next=Next.STOP)):
        host.body.leaving.copy = Sending(channel, False, cast(Any, precopy))
        for _ in range(2 * copying.MOST_SILENT):
            host.copying.look()
        assert host.sent == [] and host.body.leaving.copy is not None


def test_who_slows_a_program_down_for_too_long_gets_nothing_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    host, now = Host(monkeypatch), [0.0]
    monkeypatch.setattr(copying.time, "monotonic", lambda: now[0])
    precopy = Precopy.__new__(Precopy)
    precopy.next, precopy.share, precopy._bytes, precopy._left = Next.SEND, 0.5, 1 << 30, deque([(0, 1 << 30)])
    precopy._slowed, precopy._passed, precopy._looked = 0.0, 0, 0.0
    monkeypatch.setattr(Precopy, "close", lambda _: None)
    channel: Any = SimpleNamespace(shared=SimpleNamespace(received=0), sent_in_bulk=0, close=lambda: None)
    host.body.leaving.copy = Sending(channel, False, precopy)
    while host.body.leaving.copy is not None:
        now[0] += 1
        channel.shared.received += 1
        host.copying.look()
    assert 60 < now[0] < 63 and host.sent == [Kind.CANNOT]


def head(*, asks: bool, rounds: int) -> ImageMeta:
    """IMAGE behind EARLY, which has told all mappings, when so many rounds have been sent."""
    vmas = [Vma(0x7000_0000_0000, 0x7000_0000_1000, 3)]
    copy = Precopy.__new__(Precopy)
    copy._told, copy._asks, copy._rounds = View(vmas), asks, rounds  # nothing else counts for it
    return image.decode(copy.head(meta(vmas=vmas)))


@pytest.mark.parametrize(("asks", "rounds", "told"), [(False, 0, True), (True, 0, False), (True, 1, True)])
def test_mappings_are_left_out_only_where_they_are_known(asks: bool, rounds: int, told: bool) -> None:
    """Home may not have made what EARLY said; it has when it has answered the first ROUND."""
    found = head(asks=asks, rounds=rounds)
    assert found.told is told and bool(found.vmas) is not told
