"""Where load and memory of a node come from: the whole machine, or what a lab says.

    proc     /proc: everything that runs on this machine (the default)
    cgroup   what is in mosd's own control group: its CPU quota, its processes, its memory limit (`balance.cgroup`)
    own      the programs of this node that are here, and its guests (`balance.own`): for nodes that share a machine
    fixed    nothing is measured

``NAME[:KEY=NUMBER,...]`` is written in MOSIX_PROBE or in the file ``probe`` beside mosix.map; each KEY replaces what the
source says: load (100 = one process a standard processor), speed, ncpus; free, total, swap_free, swap_total in megabytes;
paging in pages a second.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

#: Counts processes that run or could.
Count = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Memory:
    """Megabytes."""

    free: int
    total: int
    swap_free: int = 0
    swap_total: int = 0


class Source(Protocol):
    """``ncpus`` and ``speed`` (10000 = standard) are what one program can hope for."""

    @property
    def ncpus(self) -> int: ...

    @property
    def speed(self) -> int: ...

    def runnable(self) -> float:
        """Processes that run or could, now."""

    def memory(self) -> Memory: ...

    def pages(self) -> int:
        """Pages swapped in and out since the machine started."""


class BadSpec(ValueError):
    """A specification that names no source, or a key that there is not."""


@dataclass(frozen=True, slots=True)
class Spec:
    """What to measure: the name of a source, and the numbers that replace what it says."""

    name: str = "proc"
    given: tuple[tuple[str, int], ...] = ()

    def get(self, key: str) -> int | None:
        return dict(self.given).get(key)


NAMES = ("proc", "cgroup", "own", "fixed")
KEYS = ("load", "speed", "ncpus", "free", "total", "swap_free", "swap_total", "paging")


def parse_spec(text: str) -> Spec:
    """`BadSpec`, with what is wrong, unless it is as in the head of this module; "" is ``proc``."""
    name, _, rest = text.strip().partition(":")
    name = name or "proc"
    if name not in NAMES:
        raise BadSpec(f"{name!r}: not one of {', '.join(NAMES)}")
    given = {}
    for word in filter(None, rest.split(",")):
        key, _, value = word.partition("=")
        if key not in KEYS or not (value.isascii() and value.isdecimal()) or len(value) > 9:
            raise BadSpec(f"{word!r}: not KEY=NUMBER with one of {', '.join(KEYS)}")
        given[key] = int(value)
    return Spec(name, tuple(given.items()))


def running(pids: Iterable[int]) -> int:
    """How many of these processes are in state R (proc(5), /proc/PID/stat)."""
    return sum(_state(pid) == "R" for pid in pids)


def _state(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read(512).rpartition(b")")[2].split(None, 1)[0].decode()
    except (OSError, IndexError):
        return ""


def procs_running(stat: str) -> int:
    """Running and runnable processes in the text of /proc/stat (proc(5), procs_running), not counting the reader."""
    return max(0, int(stat.rsplit("procs_running ", 1)[1].split(None, 1)[0]) - 1)


def meminfo(text: str) -> Memory:
    """Memory in the text of /proc/meminfo."""
    fields = dict(line.split(":", 1) for line in text.splitlines())

    def megabytes(name: str) -> int:
        return int(fields[name].split()[0]) // 1024 if name in fields else 0

    return Memory(*map(megabytes, ("MemAvailable", "MemTotal", "SwapFree", "SwapTotal")))


def swapped(vmstat: str) -> int:
    """pswpin and pswpout in the text of /proc/vmstat."""
    return sum(int(line.split()[1]) for line in vmstat.splitlines() if line.startswith(("pswpin ", "pswpout ")))


@dataclass(frozen=True, slots=True)
class Proc:
    """The whole machine."""

    speed: int
    ncpus: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "ncpus", self.ncpus or len(os.sched_getaffinity(0)))

    def runnable(self) -> int:
        return procs_running(Path("/proc/stat").read_text())

    def memory(self) -> Memory:
        return meminfo(Path("/proc/meminfo").read_text())

    def pages(self) -> int:
        return swapped(Path("/proc/vmstat").read_text())


@dataclass(frozen=True, slots=True)
class Fixed:
    """An idle machine with this one's memory, of which everything else is given."""

    machine: Proc

    @property
    def speed(self) -> int:
        return self.machine.speed

    @property
    def ncpus(self) -> int:
        return self.machine.ncpus

    def runnable(self) -> int:
        return 0

    def memory(self) -> Memory:
        return self.machine.memory()

    def pages(self) -> int:
        return 0


def replaced(memory: Memory, spec: Spec) -> Memory:
    """``memory`` with what ``spec`` gives."""
    given = {key: value for key in Memory.__slots__ if (value := spec.get(key)) is not None}
    return replace(memory, **given)
