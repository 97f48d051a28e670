"""Programs that come to a host: how many at a time, whatever its home-node says."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from mosfs.guest import building
from mosfs.guest.building import MOST_ARRIVING, MOST_BODIES, MOST_IDLE, Building
from mosfs.migrate.filecopy import Objects
from mosfs.migrate.precopy import Early
from mosfs.native import ffi
from mosfs.trace.layout import END as LOW
from mosfs.wire.frames import Frame, Kind


class Arriving:
    def __init__(self, task: Any, copies: Any = None, *, several: bool = False) -> None:
        self.task, self.copies, self.several, self.ahead = task, copies, several, False
        self.told = list[Early]()
        self.discarded = False

    def frame(self, frame: Frame) -> None:
        pass

    def early(self, early: Early) -> None:
        self.told.append(early)

    def discard(self) -> None:
        self.discarded = True


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


class Files:
    """Private files that come: `guest.private.Private` in memory."""

    def __init__(self) -> None:
        self.spools = dict[int, bytes]()

    def feed(self, pair: int, payload: bytes) -> None:
        self.spools[pair] = self.spools.get(pair, b"") + payload

    def forget_ahead(self, pair: int) -> None:
        self.spools.pop(pair, None)


def host() -> tuple[Building, Any, list[int]]:
    """The part, its context, and the programs that home hears of that they do not fit."""
    failed = list[int]()
    channel = SimpleNamespace(send=lambda kind, pair, *rest: failed.append(pair) if kind == Kind.FAIL else None)
    context: Any = SimpleNamespace(
        arriving={}, bodies={}, spare=None, runs_as=5, channel=channel, home="10.0.0.1", objects=Objects(), lines=[],
        pump=ffi.new("struct mos_pump *"),
    )
    context.log = lambda line, level=20: context.lines.append(line)
    return Building(context, Files(), *(SimpleNamespace() for _ in range(3))), context, failed  # type: ignore[arg-type]


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


def test_private_files_come_ahead_for_few_programs_at_a_time(made: list[int]) -> None:
    part, context, failed = host()
    for pair in [*range(1, 101), 1]:
        part.early(Frame(Kind.PRIVATE, 0, pair, b"x"), context.channel)
    assert failed == list(range(MOST_ARRIVING + 1, 101)) and len(part._private.spools) == MOST_ARRIVING
    assert part._private.spools[1] == b"xx"


@pytest.mark.parametrize("kind", [Kind.EARLY, Kind.PRIVATE])
def test_what_came_ahead_of_a_program_that_does_not_come_is_forgotten(kind: Kind, made: list[int]) -> None:
    """When nothing more has come of it for some minutes, whatever comes of others; home hears so."""
    part, context, failed = host()
    for pair in (1, 2):
        part.early(Frame(kind, 0, pair, early(several=False)), context.channel)
    memory = context.arriving.get(1)
    for _ in range(MOST_IDLE):
        part.look()
        part.early(Frame(kind, 0, 2, early(several=False)), context.channel)
    assert failed == []
    part.look()
    assert failed == [1] and sum("origpid=1 " in line for line in context.lines) == 1
    assert memory is None or memory.discarded
    assert 1 not in context.arriving and 1 not in part._private.spools
    for _ in range(MOST_IDLE):
        part.look()
    assert failed == [1, 2] and not context.arriving and not part._private.spools
