"""The room `home.tree`: what is kept of all programs, wherever they are."""

from __future__ import annotations

from mosfs.home.ports import Tree
from mosfs.home.tree.clocks import Clocks
from mosfs.home.tree.containment import Containment
from mosfs.home.tree.cputime import CpuTime
from mosfs.home.tree.cputimers import CpuTimers
from mosfs.home.tree.family import Family
from mosfs.home.tree.mosd import Mosd
from mosfs.home.tree.stops import Stops
from mosfs.home.tree.tracing import Traces
from mosfs.home.tree.usage import Statistics


class TreeRoom:
    """Its parts, one field each (`ports.TreeParts`). A tracer has all rooms, so that a part is asked as ``tracer.part``."""

    def __init__(self, tracer: Tree) -> None:
        self.containment = Containment(tracer)
        self.mosd = Mosd(tracer)
        self.family = Family(tracer)
        self.stops = Stops(tracer)
        self.clocks = Clocks(tracer)
        self.traces = Traces(tracer)
        self.statistics = Statistics(tracer)
        self.cputime = CpuTime(tracer.programs)
        self.cputimers = CpuTimers(tracer)
