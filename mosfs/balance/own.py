"""The load of one node of several on a machine: its programs that are here, and its guests."""

from __future__ import annotations

from dataclasses import dataclass

from mosfs.balance.source import Count, Memory, Source


@dataclass(frozen=True, slots=True)
class Own:
    """Processors and memory are those of mosd's control group, the machine's if it has no limits."""

    machine: Source
    count: Count

    @property
    def speed(self) -> int:
        return self.machine.speed

    @property
    def ncpus(self) -> int:
        return self.machine.ncpus

    def runnable(self) -> float:
        return self.count()

    def memory(self) -> Memory:
        return self.machine.memory()

    def pages(self) -> int:
        return self.machine.pages()
