"""Tracers that the kernel keeps waiting for a user's file system.

What a tracer asks of the kernel about a program (its memory, its files, its mappings) may be answered by a FUSE file system, and no
user's file system has to answer. The kernel waits for it without an end, often not even a signal ends that, and nothing tells
beforehand. A tracer that waits for itself runs once a second (`mos_patience`); so one that has hardly run for long is helped: the
file systems that owe answers are ended, by a process that may itself get stuck (`daemon.unanswered`). Looking costs the tracers
nothing.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

import trio

import mosfs
from mosfs.daemon import unanswered
from mosfs.daemon.spawner import search_path
from mosfs.daemon.tasks import survived
from mosfs.daemon.threads import Threads
from mosfs.trace.proc import TaskGone, words_of

log = logging.getLogger(__name__)

#: Seconds between looks, in which a tracer has hardly run, and until a helper is given up.
PERIOD, PATIENCE, HELP = 5.0, 30.0, 5.0
#: So often in a second it runs at least, or answers come so slowly that it might as well get none.
LEAST = 0.5
#: System calls in which tracers wait for what they do not ask: ppoll(2), wait4(2).
_OWN_WAITS = (271, 61)


@dataclass(slots=True)
class Stalls:
    """Who has hardly run for how long. ``seen``: by PID, how often it had run, and when that was seen (seconds)."""

    seen: dict[int, tuple[int, float]] = field(default_factory=dict)

    def look(self, runs: Mapping[int, int], now: float) -> list[int]:
        """Of all PIDs in ``runs``: those that have hardly run for `PATIENCE` seconds; again after as many."""
        before, self.seen = self.seen, {}
        stalled = []
        for pid, count in runs.items():
            known, since = before.get(pid, (count, now))
            late = now - since >= PATIENCE
            if not 0 <= count - known <= LEAST * (now - since):
                late, known, since = False, count, now
            elif late:
                stalled.append(pid)
                known, since = count, now
            self.seen[pid] = known, since
        return stalled


def runs_of(pid: int) -> int:
    """How often the process has gone to sleep; TaskGone."""
    [(count,)] = words_of(pid, "voluntary_ctxt_switches")
    return int(count)


def kept_waiting(pid: int) -> bool:
    """Does it sleep in a system call (proc_pid_syscall(5)) that is none of its own waits? Not when it is stopped or frozen."""
    try:
        [(state, *_)] = words_of(pid, "State")
        with open(f"/proc/{pid}/syscall", encoding="ascii") as call:
            number = call.read().split()[0]
    except (OSError, TaskGone, IndexError):
        return False
    return state in "DS" and number.isdecimal() and int(number) not in _OWN_WAITS


def help_out(tracer: int) -> str:
    """End the file systems of its programs that owe answers: a line about each. It takes `HELP` seconds at most."""
    source = os.path.dirname(os.path.dirname(os.path.abspath(mosfs.__file__)))
    command = [sys.executable, "-m", unanswered.__name__, str(tracer)]
    with tempfile.TemporaryFile() as said:
        helper = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=said, stderr=sys.stderr, start_new_session=True,
            env={**os.environ, "PYTHONPATH": search_path(source)},
        )
        try:
            helper.wait(HELP)
        except subprocess.TimeoutExpired:
            helper.kill()  # perhaps not at once: nobody waits for it
        said.seek(0)
        return said.read().decode()


class Tracer(Protocol):
    """``uid``: whose programs it has."""

    @property
    def uid(self) -> int: ...


async def run(tracers: Mapping[int, Tracer], threads: Threads) -> None:
    """Look at the tracers, which are given by PID, until cancelled."""
    stalls = Stalls()
    async with trio.open_nursery() as nursery:
        while True:
            await trio.sleep(PERIOD)
            with survived("a look at the tracers"):
                counts = {}
                for pid in tracers:
                    with suppress(TaskGone):
                        counts[pid] = runs_of(pid)
                for pid in filter(kept_waiting, stalls.look(counts, trio.current_time())):
                    nursery.start_soon(_help, pid, tracers[pid].uid, threads)


async def _help(tracer: int, uid: int, threads: Threads) -> None:
    with survived("help for a tracer"):
        log.error("tracer %d has been waiting in the kernel for %d s", tracer, PATIENCE)
        said = await threads.run(uid, help_out, tracer)
        for line in said.splitlines():
            log.error("ended: %s", line)
