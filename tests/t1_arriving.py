"""Programs that come to a host: how many at a time, whatever its home-node says."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from mosfs.guest import building
from mosfs.guest.building import MOST_ARRIVING, MOST_BODIES, Building
from mosfs.migrate.filecopy import Objects
from mosfs.migrate.precopy import Early
from mosfs.native import ffi
from mosfs.trace.layout import END as LOW
from mosfs.wire.frames import Frame, Kind


class Arriving:
    def __init__(self, task: Any, copies: Any = None, *, several: bool = False) -> None:
        self.task, self.copies, self.several, self.ahead = task, copies, several, False
        self.told = list[Early]()

    def frame(self, frame: Frame) -> None:
        pass

    def early(self, early: Early) -> None:
        self.told.append(early)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A number for each process that was made."""
    processes = list[int]()
    monkeypatch.setattr(building, "spawn", lambda uid: processes.append(uid))
    monkeypatch.setattr(building, "Arriving", Arriving)
    monkeypatch.setattr(building, "Maker", lambda uid: SimpleNamespace(spawn=processes.append))
    monkeypatch.setattr(building, "discard", lambda task: processes.append(-1))
    return processes


def early(*, several: bool) -> bytes:
    return msgspec.msgpack.encode(Early([(LOW, LOW + 4096, 3, 0)], several=several))


def host() -> tuple[Building, Any, list[int]]:
    """The part, its context, and the programs that home hears of that they do not fit."""
    failed = list[int]()
    channel = SimpleNamespace(send=lambda kind, pair, *rest: failed.append(pair) if kind == Kind.FAIL else None)
    context: Any = SimpleNamespace(
        arriving={}, bodies={}, spare=None, runs_as=5, channel=channel, home="10.0.0.1", log=lambda *words: None,
        objects=Objects(), pump=ffi.new("struct mos_pump *"),
    )
    return Building(context, *(SimpleNamespace() for _ in range(4))), context, failed  # type: ignore[arg-type]


@pytest.mark.parametrize("several", [False, True])
def test_memory_comes_ahead_for_few_programs_at_a_time(several: bool, made: list[int]) -> None:
    part, context, failed = host()
    for pair in range(1, 1001):
        part.early(Frame(Kind.EARLY, 0, pair, early(several=several)), context.channel)
    assert len(made) == len(context.arriving) == MOST_ARRIVING
    assert failed == list(range(MOST_ARRIVING + 1, 1001))


def test_a_host_that_has_very_many_takes_no_more(made: list[int]) -> None:
    part, context, failed = host()
    context.bodies = dict.fromkeys(range(MOST_BODIES))
    part.early(Frame(Kind.EARLY, 0, 9999, early(several=False)), context.channel)
    assert made == [] and failed == [9999]


def test_memory_of_a_program_with_threads_comes_to_a_body_that_may_have_some(made: list[int]) -> None:
    """Whatever of its files has come before; and once."""
    part, context, failed = host()
    part.early(Frame(Kind.FILE, 0, 77, b"content"), context.channel)
    files = context.arriving[77].copies
    for _ in range(2):
        part.early(Frame(Kind.EARLY, 0, 77, early(several=True)), context.channel)
    assert (made, failed) == ([5, 77, -1], [])
    assert context.arriving[77].several and context.arriving[77].copies is files and len(context.arriving[77].told) == 2
