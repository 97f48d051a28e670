"""Hosts that stop half-way through a move, and keep their connection: it fails, and the program goes on where it is.

A node that is dead is found out by its kernel's silence (`wire.channel`); this is about one that lives, and says nothing, or
nothing to the matter. Up to RUNNING nothing of the program is lost with its new host.

RECALL is not given up. The program's host has it, and can do with it what it likes in any case; but answers that were kept back
would be given to it, and an image that it had begun before that would be taken for one of a later RECALL, with a call in it that
is made once more. So there is a line in the log only; who does not want to wait ends the program at home.
"""

from __future__ import annotations

from mosfs.engine.unchanged import Unchanged
from mosfs.home.ports import Tree
from mosfs.home.process.link import Link
from mosfs.home.process.move import Move, Phase
from mosfs.home.process.program import Program
from mosfs.wire.channel import Channel

#: Looks, one a second, at which nothing has come of a move; and megabytes of an image on its way between two nodes, of which home
#: sees nothing, for each of which there is one more.
MOST, RATE = 60, 1
#: What the program's new host is waited for in these: it has to say anything, or to take something, ...
_RUNS = frozenset({Phase.PREPARING, Phase.COPYING})
#: ... and here, where the program stands, to say that it stands there complete, or that it runs.
_STANDS = frozenset({Phase.SENT, Phase.GO})


class Silence:
    def __init__(self, tracer: Tree) -> None:
        self.tracer = tracer
        self._moves = Unchanged[int]()

    def look(self) -> None:
        """Once a second."""
        programs = self.tracer.programs
        for pid, looks in self._moves.look({p.pid: far for p in programs.values() if (far := _far(p)) is not None}).items():
            p = programs.get(pid)
            if p is None or p.move is None or (link := _awaited(p, p.move)) is None:  # another's may have taken it along
                continue
            if p.move.phase is Phase.RECALL:
                if looks == MOST:
                    self.tracer.mosd.log(f"pid={pid} {link.ip} says nothing, and does not send it home", 30)
            elif looks >= _most(p, p.move):
                self.tracer.mosd.log(f"pid={pid} {link.ip} says nothing in the middle of a move ({p.move.phase})", 30)
                self.tracer.hosts.link_lost(link)


def _most(p: Program, move: Move) -> int:
    """For how many looks its move may look the same."""
    return MOST + (p.reports.account.size_mb // RATE if move.phase is Phase.SENT else 0)


def _awaited(p: Program, move: Move) -> Link | None:
    """The host that has to do something for the move now."""
    if move.phase is Phase.RECALL:
        return p.link
    if move.phase in _STANDS:
        return move.link
    return move.link if move.phase in _RUNS and not (p.away and move.phase is Phase.COPYING) else None  # which the old host does


def _far(p: Program) -> tuple[object, ...] | None:
    """What changes when that host does it; None while there is none."""
    move = p.move
    if move is None or (move.together is not None and p.pid in move.together.stands and move.phase is not Phase.GO):
        return None
    link = _awaited(p, move)
    if link is None or not isinstance(channel := link.channel, Channel):
        return None
    done = (channel.shared.received, channel.sent_in_bulk) if move.phase in _RUNS else (move.tries,)
    return id(move), move.phase, *done
