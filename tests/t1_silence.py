"""Hosts that say nothing in the middle of a move (`home.moves.silence`)."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from mosfs.home.moves.silence import MOST, Silence
from mosfs.home.process.link import Link
from mosfs.home.process.move import Move, Phase
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
        p = SimpleNamespace(pid=7, move=move, away=False)
        tree: Any = SimpleNamespace(
            programs={7: p}, hosts=SimpleNamespace(link_lost=lost.append), mosd=SimpleNamespace(log=lambda *words: None)
        )
        yield SimpleNamespace(
            silence=Silence(tree), p=p, move=move, link=link, lost=lost, host=Channel(far, bytes(32), opener=False)
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


@pytest.mark.parametrize(
    ("phase", "away"), [(Phase.COPYING, True), (Phase.SENT, True), (Phase.RECALL, True), (Phase.STOPPING, False)]
)
def test_others_are_not_waited_for_here(world: Any, phase: Phase, away: bool) -> None:
    world.move.phase, world.p.away = phase, away
    assert not look(world, 2 * MOST)
