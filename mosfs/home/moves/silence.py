"""Hosts that stop half-way through a move, and keep their connection: it fails, and the program goes on where it is.

A node that is dead is found out by its kernel's silence (`wire.channel`); this is about one that lives, and says nothing, or
nothing to the matter. Up to RUNNING nothing of the program is lost with its new host.
"""

from __future__ import annotations

from mosfs.home.ports import Tree
from mosfs.home.process.move import Phase
from mosfs.home.process.program import Program
from mosfs.wire.channel import Channel

#: Looks, one a second, at which nothing has come of a move. Not seconds: who has no processor does not look.
MOST = 60
#: What the program's new host is waited for in these: it has to say anything, or to take something, ...
_RUNS = frozenset({Phase.PREPARING, Phase.COPYING})
#: ... and here, where the program stands, to say that it runs.
_STANDS = frozenset({Phase.GO})


class Silence:
    def __init__(self, tracer: Tree) -> None:
        self.tracer = tracer
        self._seen: dict[int, tuple[tuple[object, ...], int]] = {}  # of programs: how far its move was, and how often

    def look(self) -> None:
        """Once a second."""
        seen, self._seen = self._seen, {}
        for p in [p for p in self.tracer.programs.values() if p.move is not None]:
            if (far := _far(p)) is None:
                continue
            before, looks = seen.get(p.pid, ((), 0))
            looks = looks + 1 if before == far else 0
            if looks < MOST:
                self._seen[p.pid] = far, looks
                continue
            assert p.move is not None and p.move.link is not None
            self.tracer.mosd.log(f"pid={p.pid} {p.move.link.ip} says nothing in the middle of a move ({p.move.phase})", 30)
            self.tracer.hosts.link_lost(p.move.link)


def _far(p: Program) -> tuple[object, ...] | None:
    """What changes when the new host does what it has to; None while it has nothing to do."""
    move = p.move
    if move is None or move.link is None or not isinstance(channel := move.link.channel, Channel):
        return None
    if move.phase in _STANDS:
        return id(move), move.phase
    if move.phase in _RUNS and not (p.away and move.phase is Phase.COPYING):  # which the old host does
        return id(move), move.phase, channel.shared.received, channel.sent_in_bulk
    return None
