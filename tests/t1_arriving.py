"""Programs that come to a host: how many at a time, whatever its home-node says."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from mosfs.guest import building
from mosfs.guest.building import MOST_ARRIVING, MOST_BODIES, Building
from mosfs.wire.frames import Frame, Kind


class Arriving:
    def __init__(self, task: Any) -> None:
        self.frames = list[Frame]()

    def frame(self, frame: Frame) -> None:
        self.frames.append(frame)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A number for each process that was made."""
    processes = list[int]()
    monkeypatch.setattr(building, "spawn", lambda uid: processes.append(uid))
    monkeypatch.setattr(building, "Arriving", Arriving)
    return processes


def host() -> tuple[Building, Any, list[int]]:
    """The part, its context, and the programs that home hears of that they do not fit."""
    failed = list[int]()
    channel = SimpleNamespace(send=lambda kind, pair, *rest: failed.append(pair) if kind == Kind.FAIL else None)
    context: Any = SimpleNamespace(
        arriving={}, bodies={}, spare=None, runs_as=5, channel=channel, home="10.0.0.1", log=lambda *words: None
    )
    return Building(context, *(SimpleNamespace() for _ in range(4))), context, failed  # type: ignore[arg-type]


def test_memory_comes_ahead_for_few_programs_at_a_time(made: list[int]) -> None:
    part, context, failed = host()
    for pair in range(1, 1001):
        part.early(Frame(Kind.EARLY, 0, pair, b""), context.channel)
    assert len(made) == len(context.arriving) == MOST_ARRIVING
    assert failed == list(range(MOST_ARRIVING + 1, 1001))


def test_a_host_that_has_very_many_takes_no_more(made: list[int]) -> None:
    part, context, failed = host()
    context.bodies = dict.fromkeys(range(MOST_BODIES))
    part.early(Frame(Kind.EARLY, 0, 9999, b""), context.channel)
    assert made == [] and failed == [9999]
