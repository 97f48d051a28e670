"""Stops of programs with several threads at home, and their clocks away: what each end does, with a made-up other one."""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import Any

import pytest

from mosfs.guest import clocks
from mosfs.home.moves.moves import Moves
from mosfs.home.tree.stops import Stops
from mosfs.trace.stops import Status, Stop

PID = 300
THREAD_CLOCK = 3


def program(done: list[str], status: int = 0) -> Any:
    task = SimpleNamespace(interrupt=lambda: done.append("interrupt"), wait=lambda options: status)
    return SimpleNamespace(
        pid=PID, interrupted=True, deputy=None, task=task, post=SimpleNamespace(mail=None), travel=SimpleNamespace(retry_at=0.0)
    )


def test_a_trapped_call_does_not_use_the_interrupt_up() -> None:
    done: list[str] = []
    p = program(done)
    stops = Stops(SimpleNamespace(programs={PID: p}))  # type: ignore[arg-type]
    stops._trapped = lambda p: done.append("injected")  # type: ignore[method-assign]
    stops.handle(p, Status(Stop.SECCOMP, 0))
    assert done == ["injected", "interrupt"]


@pytest.mark.parametrize(("status", "events", "waiting"), [(0, 0, 1), (0x80057F, 1, 0)])
def test_the_first_thread_is_looked_at_though_others_stop_all_the_time(status: int, events: int, waiting: int) -> None:
    seen: list[int] = []
    p = program([], status)
    stops = SimpleNamespace(task_event=lambda pid, status: seen.append(pid))
    moves = Moves(SimpleNamespace(programs={PID: p}, stops=stops))  # type: ignore[arg-type]
    moves.asked(p)
    due = moves.next_retry()
    assert due is not None
    moves.retry(due)
    assert (len(seen), len(moves._asked)) == (events, waiting)


@pytest.mark.parametrize("several", [False, True])
def test_only_a_single_thread_tells_its_cpu_clock_without_home(several: bool) -> None:
    body: Any = SimpleNamespace(
        own=SimpleNamespace(several=several), call=SimpleNamespace(regs=SimpleNamespace(rdi=THREAD_CLOCK)),
        times=SimpleNamespace(deputy_cpu=-1, told_used=(3, 4)),
    )  # fmt: skip
    clocks.told_by_home(body, struct.pack("<2q", 1, 10))
    assert body.times.deputy_cpu == (-1 if several else 10**9 + 3)
