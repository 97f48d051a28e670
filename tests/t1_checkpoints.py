"""When checkpoints are due by themselves (mosrun(1), -A; mosix(7), checkpointinterval)."""

from __future__ import annotations

import time
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mosfs.home.moves.checkpoints import Checkpoints

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
