"""The room `home.away`: programs that are away."""

from __future__ import annotations

from mosfs.home.away.births import Births
from mosfs.home.away.cores import Cores
from mosfs.home.away.deputies import Deputies
from mosfs.home.away.frames import Frames
from mosfs.home.away.hosts import Hosts
from mosfs.home.away.lanes import Lanes
from mosfs.home.away.mapped import Mapped
from mosfs.home.away.requests import Requests
from mosfs.home.away.shared import SharedMemory
from mosfs.home.away.transfers import Transfers
from mosfs.home.away.waits import Waits
from mosfs.home.away.withheld import Descriptors
from mosfs.home.ports import Tree


class AwayRoom:
    """Its parts, one field each (`ports.AwayParts`). A tracer has all rooms, so that a part is asked as ``tracer.part``."""

    def __init__(self, tracer: Tree) -> None:
        self.hosts = Hosts(tracer)
        self.frames = Frames(tracer)
        self.requests = Requests(tracer)
        self.births = Births(tracer)
        self.deputies = Deputies(tracer)
        self.mapped = Mapped(tracer)
        self.shared = SharedMemory(tracer)
        self.withheld = Descriptors(tracer)
        self.lanes = Lanes(tracer)
        self.cores = Cores(tracer)
        self.waits = Waits(tracer)
        self.transfers = Transfers(tracer)
