"""This node's own load and memory, read from /proc."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from mosfs.balance.cost import load_of


def runnable(stat: str) -> int:
    """Running and runnable processes in the text of /proc/stat (proc(5), procs_running), not counting the reader."""
    return max(0, int(stat.rsplit("procs_running ", 1)[1].split(None, 1)[0]) - 1)


def memory(meminfo: str) -> tuple[int, int]:
    """(available, total) in megabytes from the text of /proc/meminfo."""
    fields = dict(line.split(":", 1) for line in meminfo.splitlines())
    return int(fields["MemAvailable"].split()[0]) // 1024, int(fields["MemTotal"].split()[0]) // 1024


def smooth(exported: float, sample: float) -> float:
    """The exported load rises at once and falls slowly: nodes look a bit busier than they are (no ping-pong)."""
    return sample if sample >= exported else (exported * 3 + sample) / 4


@dataclass(slots=True)
class Probe:
    """Samples of one node. `sample` several times a second, `read` once a second. ``count``: where runnable programs are counted;
    ``local``: their mean in the last second."""

    speed: int
    count: Callable[[], float] = lambda: runnable(Path("/proc/stat").read_text())
    ncpus: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))
    local: float = 0.0
    _samples: list[float] = field(default_factory=list)
    _exported: float = 0.0

    def sample(self) -> None:
        self._samples.append(self.count())

    def read(self) -> tuple[int, int, int]:
        """(load, free MB, total MB); forgets the samples taken since the last call."""
        if self._samples:
            self.local = sum(self._samples) / len(self._samples)
            self._exported = smooth(self._exported, self.local)
            self._samples.clear()
        return load_of(self._exported, self.ncpus, self.speed), *memory(Path("/proc/meminfo").read_text())
