"""This node's own load and memory: samples of a source, smoothed into what others see and what we decide by.

Others see a load that rises at once and falls slowly (as MOSIX did, by Kerrighed's mosix_probe), our own decisions use
that of the last second. So a node looks busier to others than to itself, and programs do not go back and forth.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from mosfs.balance.cgroup import Group
from mosfs.balance.cost import load_of
from mosfs.balance.own import Own
from mosfs.balance.source import Count, Fixed, Memory, Proc, Source, Spec, replaced


def exported(before: float, sample: float) -> float:
    """What others see: rises at once, falls by three quarters of the difference each time.

    MOSIX let it fall by an eighth. Here a target refuses when a move would not pay any more, so nobody needs to be kept off a node
    that is free again (docs/design/decisions.md gives the figures).
    """
    return sample if sample >= before else (before + 3 * sample) / 4


@dataclass(frozen=True, slots=True)
class Reading:
    """``load`` as others see it and ``local`` of the last second, 100 = one process a standard processor; ``paging``:
    pages a second."""

    load: int
    local: int
    speed: int
    ncpus: int
    memory: Memory
    paging: int


def source_of(spec: Spec, speed: int, own: Count) -> Source:
    """The source that ``spec`` names, on a machine of this speed; ``own`` counts this node's runnable programs."""
    machine = Proc(speed)
    match spec.name:
        case "cgroup":
            return Group.ours(machine)
        case "own":
            return Own(Group.ours(machine), own)
        case "fixed":
            return Fixed(machine)
        case _:
            return machine


@dataclass(slots=True)
class Probe:
    """`sample` several times a second, `read` once a second. ``source`` and ``spec`` may be exchanged at any time."""

    source: Source
    spec: Spec = field(default_factory=Spec)
    _samples: list[float] = field(default_factory=list)
    _exported: float = 0.0
    _local: float = 0.0
    _pages: int | None = None
    _read_at: float = 0.0

    def sample(self) -> None:
        self._samples.append(self.source.runnable())

    def read(self, now: float) -> Reading:
        """The load at ``now`` (seconds); forgets the samples taken since the last call."""
        if self._samples:
            self._local = sum(self._samples) / len(self._samples)
            self._exported = exported(self._exported, self._local)
            self._samples.clear()
        given = self.spec.get
        speed = self.source.speed if (value := given("speed")) is None else value
        ncpus = self.source.ncpus if (value := given("ncpus")) is None else value
        load, local = (load_of(runnable, ncpus, speed) for runnable in (self._exported, self._local))
        if (fixed := given("load")) is not None:
            load = local = fixed
        memory = replaced(self.source.memory(), self.spec)
        return Reading(load, local, speed, ncpus, memory, self._paging(now))

    def _paging(self, now: float) -> int:
        pages, before, seconds = self.source.pages(), self._pages, now - self._read_at
        self._pages, self._read_at = pages, now
        if (fixed := self.spec.get("paging")) is not None:
            return fixed
        return 0 if before is None or seconds <= 0 else round((pages - before) / seconds)
