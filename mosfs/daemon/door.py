"""Who may connect from other nodes, before anybody knows who it is: so many for each source, and few for those not in the map.

A node's daemons and its users are two sources: daemons connect from ports that only root can have (`wire.origin`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

import trio

from mosfs.node.world import World
from mosfs.wire import origin
from mosfs.wire.limits import GREETINGS, PEER, STRANGER, STRANGERS

#: An IP address, and whether root has connected from there.
Source = tuple[str, bool]


def source(address: tuple[str, int]) -> Source:
    """Who connects from this address and port."""
    ip, port = address[:2]
    return ip, origin.is_roots(port)


@dataclass(slots=True)
class Door:
    """Connections to one port that are open now, by source."""

    world: World
    inside: Counter[Source] = field(default_factory=Counter)
    strangers: int = 0

    def _of(self, address: tuple[str, int]) -> tuple[Source, bool]:
        """What the connection counts as, and whether it is a stranger's: of these nobody is more than others."""
        ip, roots = source(address)
        known = self.world.map.relation(ip).known
        return (ip, known and roots), not known

    def admits(self, address: tuple[str, int]) -> bool:
        """Whether one more may come from ``address``."""
        whose, stranger = self._of(address)
        if stranger:
            return self.inside[whose] < STRANGER and self.strangers < STRANGERS
        return self.inside[whose] < PEER

    @contextmanager
    def one(self, address: tuple[str, int]) -> Iterator[None]:
        """A connection from ``address``, from beginning to end."""
        whose, stranger = self._of(address)
        self.inside[whose] += 1
        self.strangers += stranger
        try:
            yield
        finally:
            self.strangers -= stranger
            self.inside[whose] -= 1
            if not self.inside[whose]:
                del self.inside[whose]


@dataclass(slots=True)
class Greetings:
    """Handshakes that are under way, by source: each takes a hundred kilobytes until it is over."""

    _limiters: dict[Source, trio.CapacityLimiter] = field(default_factory=dict)

    @asynccontextmanager
    async def one(self, address: tuple[str, int]) -> AsyncIterator[None]:
        """Wait until it is the turn of a handshake with ``address``."""
        whose = source(address)
        limiter = self._limiters.setdefault(whose, trio.CapacityLimiter(GREETINGS))
        try:
            async with limiter:
                yield
        finally:
            statistics = limiter.statistics()
            if not statistics.borrowed_tokens and not statistics.tasks_waiting:
                self._limiters.pop(whose, None)
