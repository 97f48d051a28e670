"""What a user has asked of a program that is another user's by the time when it would be done (home/asks/controls.py)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from mosfs.abi.reasons import Reason
from mosfs.home.asks import controls
from mosfs.home.process.program import Program
from mosfs.trace import proc
from mosfs.wire.asked import Settings
from mosfs.wire.messages import Adjusted, Command

USER = 1000


class World:
    """A tracer with one program, and what it was asked to do."""

    def __init__(self, uid: int) -> None:
        demand: Any = SimpleNamespace(required=[])
        self.p = Program(SimpleNamespace(pid=100), uid, Settings(), demand)  # type: ignore[arg-type]
        self.done: list[str] = []
        self.sent: list[Any] = []
        self.tracer: Any = SimpleNamespace(
            programs={100: self.p},
            moves=SimpleNamespace(request=lambda p, move: self.done.append("migrate")),
            freezing=SimpleNamespace(
                freeze=lambda p, mark, seq: self.done.append("frozen"), thaw=lambda p, seq: self.done.append("thawed")
            ),
            checkpoints=SimpleNamespace(
                request=lambda p, saving: self.done.append("checkpoint"), interval_changed=lambda p: None
            ),
            statistics=SimpleNamespace(tell=lambda p: None),
            mosd=SimpleNamespace(announce=lambda p: self.sent.append(p.state()), send=self.sent.append),
        )
        self.controls = controls.Controls(self.tracer)

    def command(self, name: str, value: str) -> None:
        self.controls.command(Command(100, name, value, 7))


ASKED = [
    ("migrate", ""), ("frozen", "M"), ("frozen", ""), ("checkpoint", "checkpoint"), ("lock", "1"), ("checkpointfile", "/etc/x"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), ASKED)
def test_it_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """A set-user-ID program, or one that has root's IDs back: mosd has let its former user write."""
    monkeypatch.setattr(controls, "owner_of", lambda pid: 0)
    world = World(USER)
    world.command(name, value)
    assert world.done == [] and world.p.settings == Settings()
    states = [found for found in world.sent if not isinstance(found, Adjusted)]
    assert [found.uid for found in states] == [0], "mosd knows better from now on"
    told = [found.error for found in world.sent if isinstance(found, Adjusted)]
    [state] = states
    results = {
        "migrate": (state.move_seq, state.move_result), "frozen": (state.freeze_seq, state.freeze_result),
        "checkpoint": (state.save_seq, state.save_result),
    }  # fmt: skip
    assert results[name] == (7, Reason.CHANGED_HANDS) if name in results else told == [Reason.CHANGED_HANDS]
    world.command("lock", "1")
    assert world.p.settings.lock == 1, "whom mosd lets write now is its owner"


@pytest.mark.parametrize(("before", "now"), [(USER, USER), (0, USER), (0, 0)])
def test_its_owner_and_root_are_served(monkeypatch: pytest.MonkeyPatch, before: int, now: int) -> None:
    """Of root's program only root may write, and nobody has less right by its becoming a user's."""
    monkeypatch.setattr(controls, "owner_of", lambda pid: now)
    world = World(before)
    for name, value in ASKED:
        world.command(name, value)
    assert world.done == ["migrate", "frozen", "thawed", "checkpoint"] and world.p.settings.lock == 1


@pytest.mark.parametrize(("ids", "owner"), [("7 7 7 7", 7), ("7 0 0 0", 0), ("7 7 0 7", 0), ("0 7 0 7", 0), ("7 8 8 8", 0)])
def test_whose_a_process_is(monkeypatch: pytest.MonkeyPatch, ids: str, owner: int) -> None:
    monkeypatch.setattr(proc, "words_of", lambda pid, *names: [ids.split()])
    assert proc.owner_of(1) == owner
