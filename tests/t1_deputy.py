"""A deputy has one task for two askers: home, which moves the program, and the body, whose calls may take for ever."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from mosfs.home.moves.copying import Copying
from mosfs.home.process.deputy import Deputy, State
from mosfs.home.process.move import Phase
from mosfs.wire.frames import Kind


class Task:
    pid = 1

    def __init__(self) -> None:
        self.interrupted = 0

    def peek_regs(self) -> Any:
        from mosfs.native import ffi

        return ffi.new("struct mos_regs *")

    def interrupt(self) -> None:
        self.interrupted += 1


class Channel:
    def __init__(self) -> None:
        self.sent: list[tuple[int, int, int]] = []

    def send(self, kind: int, pair: int, payload: bytes = b"", flags: int = 0) -> None:
        self.sent.append((kind, pair, flags))


@pytest.fixture
def deputy() -> Deputy:
    made = Deputy(Task(), 0)  # type: ignore[arg-type]
    made.state = State.PARKED
    return made


def test_what_home_has_to_do_comes_before_a_call_of_the_body(deputy: Deputy) -> None:
    done: list[str] = []

    def sleep() -> None:
        done.append("a sleep of the body")
        deputy.state = State.BUSY

    deputy.when_ready(lambda: done.append("home"))
    deputy.when_ready(sleep, asked=True)
    deputy.when_ready(lambda: done.append("home again"))
    deputy.when_ready(lambda: done.append("the next of the body"), asked=True)
    assert done == [] and deputy.task.interrupted == 1  # type: ignore[attr-defined]
    deputy.became_ready()
    assert done == ["home", "home again", "a sleep of the body"]
    deputy.became_ready()
    assert done[3:] == ["the next of the body"] and not deputy.waiting


@pytest.mark.parametrize("state", [State.PARKED, State.BUSY])
def test_a_round_of_memory_is_answered_while_the_body_sleeps(deputy: Deputy, state: State) -> None:
    """Else the host waits for the answer, and the move for the host, until the sleep is over."""
    channel = Channel()
    program: Any = SimpleNamespace(pid=1, deputy=deputy, move=SimpleNamespace(rebuild=None, phase=Phase.COPYING, target=""))
    tracer: Any = SimpleNamespace(deputies=SimpleNamespace(watch=lambda p: None))
    deputy.state = state
    deputy.when_ready(lambda: None)  # as its CPU timers, memory that has come
    deputy.when_ready(lambda: setattr(deputy, "state", State.BUSY), asked=True)
    Copying(tracer).round(program, SimpleNamespace(channel=channel), deputy)  # type: ignore[arg-type]
    if state is State.PARKED:
        deputy.became_ready()
    assert deputy.state is State.BUSY
    assert channel.sent == [(Kind.ROUND, 1, 1)]
