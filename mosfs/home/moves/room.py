"""The room `home.moves`: how programs leave, come home, and are saved."""

from __future__ import annotations

from mosfs.home.moves.arrival import Arrival
from mosfs.home.moves.carrier import Carrier
from mosfs.home.moves.checkpoints import Checkpoints
from mosfs.home.moves.copying import Copying
from mosfs.home.moves.departure import Departure
from mosfs.home.moves.freezing import Freezing
from mosfs.home.moves.groups import Groups
from mosfs.home.moves.moves import Moves
from mosfs.home.moves.occasions import Occasions
from mosfs.home.moves.openings import Openings
from mosfs.home.moves.outliving import Outliving
from mosfs.home.moves.preemption import Preemption
from mosfs.home.moves.recovery import Recovery
from mosfs.home.moves.silence import Silence
from mosfs.home.moves.threads import Threads
from mosfs.home.ports import Tree


class MovesRoom:
    """Its parts, one field each (`ports.MovesParts`). A tracer has all rooms, so that a part is asked as ``tracer.part``."""

    def __init__(self, tracer: Tree) -> None:
        self.moves = Moves(tracer)
        self.openings = Openings(tracer)
        self.occasions = Occasions(tracer)
        self.departure = Departure(tracer)
        self.arrival = Arrival(tracer)
        self.threads = Threads(tracer)
        self.groups = Groups(tracer)
        self.copying = Copying(tracer)
        self.carrier = Carrier(tracer)
        self.checkpoints = Checkpoints(tracer)
        self.freezing = Freezing(tracer)
        self.preemption = Preemption(tracer)
        self.recovery = Recovery(tracer)
        self.outliving = Outliving(tracer)
        self.silence = Silence(tracer)
