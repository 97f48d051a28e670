"""Signals that wait for a process in the kernel, and what a look at them costs who looks (ptrace(2), PTRACE_PEEKSIGINFO)."""

from __future__ import annotations

import signal
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from mosfs.migrate.capture import captured
from mosfs.migrate.maps import CannotMove
from mosfs.migrate.rebuild import take_pending
from mosfs.trace.task import MOST_PENDING, Task

WAITS = """
import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGRTMIN})
for _ in range(int(sys.argv[1])):
    os.kill(os.getpid(), signal.SIGRTMIN)
print("ready", flush=True)
input()
"""


@pytest.mark.parametrize(
    ("waiting", "few"), [(100, True), (MOST_PENDING, True), (MOST_PENDING + 1, False), (8 * MOST_PENDING, False)]
)
def test_signals_that_wait_in_the_kernel_are_looked_at_up_to_a_number(waiting: int, few: bool) -> None:
    """For each of them it walks the queue from the beginning, while all others of the tree wait."""
    command = [sys.executable, "-c", WAITS, str(waiting)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        task = Task(process.pid)
        task.seize()
        task.interrupt()
        task.wait()
        found = task.peek_pending()
        session: Any = Session(task)
        assert take_pending(session, {signal.SIGRTMIN}) == found and session.made == len(found)
        assert take_pending(session, set()) == []
        if few:
            assert len(found) == waiting
        else:
            assert len(found) <= MOST_PENDING + 32
            with pytest.raises(CannotMove, match=f"more than {MOST_PENDING} signals wait for it"):
                captured(session, task.peek_regs(), [0, 0, 0], bytes(48), pending=True)
        process.kill()


class Session:
    """Stands for `inject.Calls`: counts calls, and makes none."""

    def __init__(self, task: Task) -> None:
        self.task: Any = SimpleNamespace(peek_pending=task.peek_pending, write=lambda *_: None, own=task.pid, group=task.pid)
        self.made = 0

    def __call__(self, *_: int) -> int:
        self.made += 1
        return 0
