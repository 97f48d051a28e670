"""Hosts that say nothing in the middle of a move (`home.moves.silence`)."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from mosfs.balance.account import Account
from mosfs.engine.unchanged import Unchanged
from mosfs.home.moves.silence import MOST, RATE, Silence
from mosfs.home.process.link import Link
from mosfs.home.process.move import Move, Phase, Together
from mosfs.wire.channel import Channel
from mosfs.wire.frames import Kind


@pytest.fixture
def world() -> Iterator[Any]:
    """A tracer, one program that moves, and its new host; ``lost``: links that were given up."""
    near, far = socket.socketpair()
    with near, far:
        link, lost = Link(Channel(near, bytes(32), opener=True), "10.0.0.2", near=True), list[Link]()
        move = Move("10.0.0.2", "2")
        move.link = link
        p = SimpleNamespace(pid=7, move=move, away=False, link=None, reports=SimpleNamespace(account=Account(0.0)))
        lines = list[str]()
        tree: Any = SimpleNamespace(
            programs={7: p}, hosts=SimpleNamespace(link_lost=lost.append),
            mosd=SimpleNamespace(log=lambda line, level: lines.append(line)),
        )
        yield SimpleNamespace(
            silence=Silence(tree), p=p, move=move, link=link, lost=lost, host=Channel(far, bytes(32), opener=False), lines=lines
        )


def look(world: Any, times: int) -> bool:
    """Whether the host is given up in so many seconds."""
    for _ in range(times):
        world.silence.look()
    return bool(world.lost)


@pytest.mark.parametrize("phase", [Phase.PREPARING, Phase.COPYING, Phase.GO])
def test_a_host_that_says_nothing_is_given_up(world: Any, phase: Phase) -> None:
    world.move.phase = phase
    assert not look(world, MOST)
    assert look(world, 1) and world.lost == [world.link]


@pytest.mark.parametrize(("phase", "counts"), [(Phase.PREPARING, True), (Phase.COPYING, True), (Phase.GO, False)])
def test_while_a_program_runs_anything_counts_and_while_it_stands_only_that_it_runs(world: Any, phase: Phase, counts: bool) -> None:
    world.move.phase = phase
    for _ in range(3):
        look(world, MOST - 1)
        world.host.send(Kind.TITLE, 7, b"x")
        world.link.channel.receive()
    assert bool(world.lost) is not counts


def test_what_is_sent_counts_too(world: Any) -> None:
    """A long round of a big program, in which its host has nothing to say; our times, once a second, do not."""
    world.move.phase = Phase.COPYING
    for kind, lost in ((Kind.PAGES, False), (Kind.CLOCK, True)):
        for _ in range(3):
            look(world, MOST - 1)
            world.link.channel.send(kind, 7, b"x")
        assert bool(world.lost) is lost


def test_each_step_has_its_own_time(world: Any) -> None:
    world.move.phase = Phase.PREPARING
    assert not look(world, MOST)
    world.move.phase = Phase.GO
    assert not look(world, MOST)
    world.p.move = None
    assert not look(world, 2 * MOST)


@pytest.mark.parametrize("away", [True, False])
@pytest.mark.parametrize("size", [0, 1000])
def test_an_image_that_home_does_not_see_has_time_by_its_size(world: Any, away: bool, size: int) -> None:
    world.move.phase, world.p.away, world.p.reports.account.size_mb = Phase.SENT, away, size
    assert not look(world, MOST + size // RATE)
    assert look(world, 1) and world.lost == [world.link]


def test_each_attempt_of_the_old_host_has_its_own_time(world: Any) -> None:
    world.move.phase, world.p.away = Phase.SENT, True
    for _ in range(3):
        assert not look(world, MOST)
        world.move.tries += 1


def test_who_stands_there_waits_for_the_others_of_its_group(world: Any) -> None:
    world.move.phase, world.move.together = Phase.SENT, Together([7, 8], 0.0, stands={7})
    assert not look(world, 2 * MOST)
    world.move.phase = Phase.GO
    assert look(world, MOST + 1)


def test_what_does_not_come_home_is_told_once_and_waited_for(world: Any) -> None:
    world.move.phase, world.p.away, world.p.link, world.move.link = Phase.RECALL, True, world.link, None
    assert not look(world, MOST) and not world.lines
    assert not look(world, 10 * MOST)
    assert [line.split()[:2] for line in world.lines] == [["pid=7", "10.0.0.2"]]


def test_looks_are_counted_in_a_row() -> None:
    unchanged = Unchanged[str]()
    told = [unchanged.look(states) for states in ({"a": 1}, {"a": 1, "b": 1}, {"a": 2, "b": 1}, {"b": 1}, {"a": 2})]
    assert told == [{"a": 0}, {"a": 1, "b": 0}, {"a": 0, "b": 1}, {"b": 2}, {"a": 0}]


@pytest.mark.parametrize(("phase", "away"), [(Phase.COPYING, True), (Phase.STOPPING, False)])
def test_others_are_not_waited_for_here(world: Any, phase: Phase, away: bool) -> None:
    world.move.phase, world.p.away = phase, away
    assert not look(world, 2 * MOST)
