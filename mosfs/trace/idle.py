"""Since when a process has been asleep, by what the scheduler shows of it (/proc/PID/sched; absent without CONFIG_SCHED_DEBUG).

`se.exec_start` is the moment when it last ran, on the clock of its CPU. What that clock shows now is seen by running there.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from mosfs.abi.numbers import SYS_FUTEX
from mosfs.trace.proc import content, stat_fields

_CPU = 39  #: field of /proc/PID/stat: where it last ran
_FUTEX = str(SYS_FUTEX).encode()


class Idle(NamedTuple):
    """``since``: of CLOCK_MONOTONIC, rather some ms later than earlier; ``switches``: how often it has gone to sleep so far."""

    since: float
    switches: int


def _shown(pid: int | str) -> tuple[float, int]:
    """(seconds of the CPU's clock when it last ran, voluntary context switches)."""
    found = {}
    with open(f"/proc/{pid}/sched", encoding="ascii", errors="replace") as lines:
        for line in lines:
            name, _, value = line.partition(":")
            found[name.strip()] = value
    return float(found["se.exec_start"]) / 1000, int(found["nr_voluntary_switches"])


def may_sleep_shorter(pid: int) -> bool:
    """Whether it matters how long a thread has slept: not in a wait for others that has no end, as most threads are (proc(5),
    syscall: number and arguments of the call that it sleeps in)."""
    try:
        words = content(f"/proc/{pid}/syscall").split()
        return words[:1] != [_FUTEX] or int(words[4], 16) != 0
    except (OSError, ValueError, IndexError):
        return True


@contextmanager
def _on(cpu: int) -> Iterator[None]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def idle(pid: int) -> Idle | None:
    """None if the process is not asleep, or if nothing can be said."""
    try:
        fields = stat_fields(pid)
        if fields[0] != "S":
            return None
        ran, switches = _shown(pid)
        with _on(int(fields[_CPU - 3])):
            here, _ = _shown("self")
    except (OSError, KeyError, ValueError, IndexError):
        return None
    return Idle(time.monotonic() - max(0.0, here - ran), switches)


def same_sleep(pid: int, before: Idle) -> bool:
    """Whether a process that has been stopped since had not gone to sleep again in between."""
    try:
        return _shown(pid)[1] <= before.switches + 1  # its stop is one
    except (OSError, KeyError, ValueError):
        return False
