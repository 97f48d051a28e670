"""What a guest's other threads make of its clone3(2), whose arguments lie in their memory (`guest.processes`, `guest.threads`)."""

from __future__ import annotations

import os
import subprocess
from types import SimpleNamespace
from typing import Any

import pytest

from mosfs.abi.flags import CLONE_THREAD
from mosfs.abi.numbers import SYS_CLONE
from mosfs.guest import processes, threads
from mosfs.guest.body import State
from mosfs.guest.processes import Processes
from mosfs.guest.threads import Threads
from mosfs.trace.task import TaskGone


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Who is ended for not being fit."""
    found: list[int] = []

    def unfit(pid: int, why: str) -> TaskGone:
        found.append(pid)
        return TaskGone(pid)

    for module in (processes, threads):
        monkeypatch.setattr(module, "unfit", unfit)
    return found


def test_a_child_that_nobody_traces_is_the_end_of_who_has_made_it(killed: list[int]) -> None:
    regs = SimpleNamespace(rax=7, orig_rax=-1)
    body: Any = SimpleNamespace(
        pid=100, state=State.FORKING, task=SimpleNamespace(peek_regs=lambda: regs), fork=SimpleNamespace(owed=True, child=7),
        call=SimpleNamespace(nr=SYS_CLONE, regs=SimpleNamespace(rdi=CLONE_THREAD)),
    )
    with pytest.raises(TaskGone):
        Processes.returned(SimpleNamespace(), body)  # type: ignore[arg-type]
    assert killed == [100]


def test_a_process_is_no_thread(killed: list[int]) -> None:
    with subprocess.Popen(["sleep", "1000"]) as other:
        body: Any = SimpleNamespace(pid=os.getpid(), leader=None, threads={}, task=SimpleNamespace(event_message=lambda: other.pid))
        try:
            with pytest.raises(TaskGone):
                Threads(None, None).born(body)  # type: ignore[arg-type]
        finally:
            other.kill()
    assert killed == [other.pid, os.getpid()]
