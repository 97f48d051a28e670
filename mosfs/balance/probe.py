"""This node's own load and memory: samples of a source, smoothed into what others see and what we decide by.

Two values, smoothed in opposite directions, keep programs from going back and forth (MOSIX; algorithms of Kerrighed's
mosix_probe): others see a load that rises at once and falls slowly, our own decisions use one that falls at once and
rises slowly. So a node looks busier to others than to itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from mosfs.balance.best import load_of
from mosfs.balance.cgroup import Group
from mosfs.balance.own import Own
from mosfs.balance.source import Fixed, Memory, Pids, Proc, Source, Spec, replaced


def exported(before: float, sample: float) -> float:
    """What others see: rises at once, falls by an eighth of the difference each time."""
    return sample if sample >= before else (before * 7 + sample) / 8


def mean(before: float, sample: float) -> float:
    """What our own decisions use: falls at once, rises by three eighths of the difference each time."""
    return sample if sample <= before else (before * 5 + sample * 3) / 8


@dataclass(frozen=True, slots=True)
class Reading:
    """``load`` as others see it and ``mean`` as we do, 100 = one process a standard processor; ``paging``: pages a
    second."""

    load: int
    mean: int
    speed: int
    ncpus: int
    memory: Memory
    paging: int


def source_of(spec: Spec, speed: int, pids: Pids) -> Source:
    """The source that ``spec`` names, on a machine of this speed; ``pids``: programs that are here, and guests."""
    machine = Proc(speed)
    match spec.name:
        case "cgroup":
            return Group.ours(machine)
        case "own":
            return Own(machine, pids)
        case "fixed":
            return Fixed(machine)
        case _:
            return machine


@dataclass(slots=True)
class Probe:
    """`sample` several times a second, `read` once a second. ``source`` and ``spec`` may be exchanged at any time."""

    source: Source
    spec: Spec = field(default_factory=Spec)
    _samples: list[int] = field(default_factory=list)
    _exported: float = 0.0
    _mean: float = 0.0
    _pages: int | None = None
    _read_at: float = 0.0

    def sample(self) -> None:
        self._samples.append(self.source.runnable())

    def read(self, now: float) -> Reading:
        """At ``now`` (seconds); forgets the samples taken since the last call."""
        if self._samples:
            average = sum(self._samples) / len(self._samples)
            self._exported, self._mean = exported(self._exported, average), mean(self._mean, average)
            self._samples.clear()
        given = self.spec.get
        speed = self.source.speed if (value := given("speed")) is None else value
        ncpus = self.source.ncpus if (value := given("ncpus")) is None else value
        load, mean_load = (load_of(runnable, ncpus, speed) for runnable in (self._exported, self._mean))
        if (fixed := given("load")) is not None:
            load = mean_load = fixed
        memory = replaced(self.source.memory(), self.spec)
        return Reading(load, mean_load, speed, ncpus, memory, self._paging(now))

    def _paging(self, now: float) -> int:
        pages, before, seconds = self.source.pages(), self._pages, now - self._read_at
        self._pages, self._read_at = pages, now
        if (fixed := self.spec.get("paging")) is not None:
            return fixed
        return 0 if before is None or seconds <= 0 else round((pages - before) / seconds)
