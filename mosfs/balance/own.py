"""The load that belongs to one node of several on a machine: its programs that are here, and its guests."""

from __future__ import annotations

from dataclasses import dataclass

from mosfs.balance.source import Memory, Pids, Proc, running


@dataclass(frozen=True, slots=True)
class Own:
    """``pids``: who is counted. Processors and memory are the machine's."""

    machine: Proc
    pids: Pids

    @property
    def speed(self) -> int:
        return self.machine.speed

    @property
    def ncpus(self) -> int:
        return self.machine.ncpus

    def runnable(self) -> int:
        return running(self.pids())

    def memory(self) -> Memory:
        return self.machine.memory()

    def pages(self) -> int:
        return self.machine.pages()
