"""When checkpoints are due by themselves (mosrun(1), -A; mosix(7), checkpointinterval), and what is done before one stands."""

from __future__ import annotations

import time
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mosfs.home.asks.controls import Controls
from mosfs.home.moves import checkpoints as module
from mosfs.home.moves.checkpoints import Checkpoints
from mosfs.home.process.control_calls import Special
from mosfs.home.process.program import Place
from mosfs.home.process.saving import Saving
from mosfs.procfs.table import BY_NAME
from mosfs.trace.stops import Stop

MINUTES = 2


def test_every_so_many_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    """One is asked for each time; not while one is taken; a write begins the time anew; 0 ends it."""
    p: Any = SimpleNamespace(pid=7, settings=SimpleNamespace(checkpoint_interval=MINUTES), saves=SimpleNamespace(asked=None))
    tracer: Any = SimpleNamespace(programs={7: p}, containment=SimpleNamespace(of=lambda _: nullcontext()))
    checkpoints, asked = Checkpoints(tracer), cast("list[object]", [])
    monkeypatch.setattr(checkpoints, "request", lambda program, saving: asked.append(program))
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    checkpoints.interval_changed(p)
    assert checkpoints.due() == now + 60 * MINUTES
    checkpoints.look(now + 60 * MINUTES - 1)
    assert asked == []
    now += 60 * MINUTES
    checkpoints.look(now)
    assert asked == [p] and checkpoints.due() == now + 60 * MINUTES
    p.saves.asked = object()
    now += 60 * MINUTES
    checkpoints.look(now)
    assert asked == [p] and checkpoints.due() == now + 60 * MINUTES
    now += 30
    checkpoints.interval_changed(p)
    assert checkpoints.due() == now + 60 * MINUTES
    p.settings.checkpoint_interval = 0
    checkpoints.interval_changed(p)
    assert checkpoints.due() is None


def test_what_is_done_before_the_program_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs while huge pages are made, slice by slice; any other stop meanwhile is not taken for that of the checkpoint."""
    interrupted: list[int] = []
    p: Any = SimpleNamespace(
        pid=7, place=Place.HOME, frozen=SimpleNamespace(mark=False), travel=SimpleNamespace(bound=""),
        kin=SimpleNamespace(threads=[]), post=SimpleNamespace(mail=None), private=None,
        saves=SimpleNamespace(asked=None, chain=None), suspended=False, move=None, away=False, halted=False, deputy=None,
        obstacle=lambda: "", call=SimpleNamespace(idle=None), interrupted=False,
        task=SimpleNamespace(interrupt=lambda: interrupted.append(7)),
    )  # fmt: skip
    mosd = SimpleNamespace(announce=lambda _: None)
    tracer: Any = SimpleNamespace(programs={7: p}, containment=SimpleNamespace(of=lambda _: nullcontext()), mosd=mosd)
    monkeypatch.setattr(module, "collapsing", lambda pid: iter([None, None]))
    monkeypatch.setattr(module, "idle", lambda pid: None)
    checkpoints = Checkpoints(tracer)
    checkpoints.request(p, Saving(lambda reason, number: None))
    assert checkpoints.due() == 0.0 and not interrupted
    assert not checkpoints.stopped(p, Stop.SECCOMP)
    checkpoints.look(0.0)
    assert checkpoints.due() == 0.0 and not interrupted
    checkpoints.look(0.0)
    assert checkpoints.due() is None and interrupted == [7]
    p.saves.asked = None
    checkpoints.request(p, Saving(lambda reason, number: None))
    checkpoints.gone(p)
    assert checkpoints.due() is None


def test_stops_of_a_program_are_no_attempts() -> None:
    """It may stop a thousand times before it is looked at again."""
    p: Any = SimpleNamespace(pid=7)
    saving = Saving(lambda reason, number: None)
    checkpoints = Checkpoints(SimpleNamespace())  # type: ignore[arg-type]
    for _ in range(2 * module.MOST_TRIES):
        checkpoints._later(p, saving, "signals")
    assert saving.tries == 1
    checkpoints._waiting.clear()  # `look`
    checkpoints._later(p, saving, "signals")
    assert saving.tries == 2


@pytest.mark.parametrize("name", ["checkpoint", "migrate"])
def test_a_thread_that_asks_is_the_one_that_stands(name: str) -> None:
    """What it asks for is of its process, whose first thread goes on meanwhile."""
    first: Any = SimpleNamespace(pid=7, travel=SimpleNamespace(bound=""), suspended=False)
    asker: Any = SimpleNamespace(pid=8, suspended=False)
    asked: list[tuple[object, Any]] = []

    def request(p: object, what: object) -> None:
        asked.append((p, what))

    requests = SimpleNamespace(request=request)
    tracer: Any = SimpleNamespace(
        family=SimpleNamespace(process=lambda p: first), checkpoints=requests, moves=requests,
        mosd=SimpleNamespace(configured=lambda: True, config=SimpleNamespace(userview={})),
    )  # fmt: skip
    results: list[int] = []
    special = Special(BY_NAME[name], reads=name == "checkpoint", writes=True, value=0)
    Controls(tracer).request(asker, special, lambda at: b"", results.append)
    assert (first.suspended, asker.suspended) == (False, True) and not results
    [(p, what)] = asked
    assert p is first
    if name == "checkpoint":
        assert what.own == asker.pid and what.numbered
        what.done("", 4)
        assert results == [4]
