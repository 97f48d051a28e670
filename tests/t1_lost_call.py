"""A call that was lost with the old host of a move: home says which it has heard, and the new host makes a later one anew.

A network that loses only the way from the old host to home shows it (t5_links, long); here each end meets a made-up other one.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from mosfs.guest.body import State
from mosfs.guest.from_home import FromHome
from mosfs.home.away.frames import MOST_WAITING, Frames
from mosfs.home.moves.moves import Moves
from mosfs.home.process.deputy import State as DeputyState
from mosfs.home.process.move import Move, Phase
from mosfs.home.process.records import Body
from mosfs.native import ffi
from mosfs.wire.channel import ChannelLost
from mosfs.wire.frames import Frame, Kind
from mosfs.wire.orders import GoTimes

PID = 300


def call(number: int) -> Frame:
    return Frame(Kind.PRIVATE_FULL, number << 1, PID, b"", None)


class Home:
    """A program that moves from ``old`` to another node. ``made``: numbers of the calls that home has begun to make."""

    def __init__(self, phase: Phase) -> None:
        self.made: list[int] = []
        self.sent: list[int] = []
        self.lost: list[Any] = []
        channel = SimpleNamespace(send=lambda kind, pid, payload=b"", flags=0: self.sent.append(kind), lost=False)
        self.old = SimpleNamespace(channel=channel, ip="10.0.0.2")
        self.move = Move("10.0.0.3", "3", phase=phase, link=SimpleNamespace(channel=channel))  # type: ignore[arg-type]
        deputy = SimpleNamespace(waiting=0, state=DeputyState.BUSY)
        self.p = SimpleNamespace(pid=PID, comm="x", away=True, link=self.old, move=self.move, deputy=deputy, body=Body())
        tree = SimpleNamespace(
            programs={PID: self.p}, lanes=SimpleNamespace(met=lambda pid: None),
            carrier=SimpleNamespace(full=lambda p: self.made.append(p.body.seq)),
            hosts=SimpleNamespace(drop=lambda *_: None, release_answers=lambda _: None, link_lost=self.lost.append),
            mosd=SimpleNamespace(log=lambda *_: None), outliving=SimpleNamespace(passes=lambda *_: True),
        )  # fmt: skip
        self.frames = tree.frames = Frames(tree)  # type: ignore[arg-type]
        self.moves = Moves.__new__(Moves)
        self.moves.tracer = tree  # type: ignore[assignment]
        self.moves.finish = lambda p, reason: setattr(p, "move", None)  # type: ignore[method-assign, assignment]

    def comes(self, frame: Frame) -> None:
        self.frames.handle(self.old, frame)  # type: ignore[arg-type]


def test_a_call_that_comes_before_go_is_made_and_known() -> None:
    home = Home(Phase.SENT)
    home.comes(call(7))
    assert home.made == [7] and home.p.body.forwarded == 7


def test_a_call_that_comes_behind_go_is_not_made_twice() -> None:
    home = Home(Phase.GO)
    home.p.body.forwarded = 6
    home.comes(call(7))
    assert home.made == [] and home.p.body.forwarded == 6


def test_it_is_made_when_the_move_fails() -> None:
    home = Home(Phase.GO)
    home.comes(call(7))
    home.moves.failed(home.p, home.move.link, "why")  # type: ignore[arg-type]
    assert home.sent == [Kind.RESUME] and home.made == [7] and home.p.body.forwarded == 7 and home.lost == []


def test_their_number_is_limited() -> None:
    home = Home(Phase.GO)
    with pytest.raises(ChannelLost):
        for number in range(MOST_WAITING + 1):
            home.comes(call(number))
    assert len(home.move.late) <= MOST_WAITING + 1


@pytest.mark.parametrize(("heard", "made_anew"), [(None, False), (7, False), (6, True)])
def test_a_host_makes_anew_what_home_has_not_heard(heard: int | None, made_anew: bool) -> None:
    """``heard`` None: a home of an older version, or an image that came from home."""
    went: list[str] = []
    regs = ffi.new("struct mos_regs *", {"rax": 3, "rip": 0x1000})
    task = SimpleNamespace(pid=1, set_regs=lambda given: went.append(hex(given.rip)), cont=lambda: went.append("cont"))
    body = SimpleNamespace(
        pair=PID, pid=1, task=task, threads={}, state=State.COMPLETE, call=SimpleNamespace(seq=7, regs=regs, nr=0),
        times=SimpleNamespace(),
        meta=SimpleNamespace(waiting=True, used=(0, 0), own_used=None, shown=SimpleNamespace(realtime=0, monotonic=0)),
    )  # fmt: skip
    channel = SimpleNamespace(send=lambda kind, pair: went.append(Kind(kind).name))
    host = FromHome.__new__(FromHome)
    host._clocks = SimpleNamespace(adjust=lambda _: None, set=lambda *_: None)  # type: ignore[assignment]
    host._context = SimpleNamespace(channel=channel, announce=lambda _: None)  # type: ignore[assignment]
    host._tolls = SimpleNamespace(arrived=lambda _: None)  # type: ignore[assignment]
    host._private = SimpleNamespace(announce_all=lambda _: None)  # type: ignore[assignment]
    host._tolls = SimpleNamespace(arrived=lambda _: None)  # type: ignore[assignment]
    told = msgspec.msgpack.decode(msgspec.msgpack.encode(GoTimes(0, 0, "", call=heard)), type=GoTimes)
    host._go(body, Frame(Kind.GO, 0, PID, b"", told))  # type: ignore[arg-type]
    assert went == ["RUNNING", "0x1000", "cont"] if made_anew else went == ["RUNNING"]
    assert body.state is (State.RUNNING if made_anew else State.WAITING)
