"""Who may connect from other nodes, before anybody knows who it is: so many for each address, and few for those not in the map."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

import trio

from mosfs.node.world import World
from mosfs.wire.limits import GREETINGS, PEER, STRANGER, STRANGERS


@dataclass(slots=True)
class Door:
    """Connections to one port that are open now, by address."""

    world: World
    inside: Counter[str] = field(default_factory=Counter)
    strangers: int = 0

    def _known(self, ip: str) -> bool:
        return self.world.map.relation(ip).known

    def admits(self, ip: str) -> bool:
        """Whether one more may come from ``ip``."""
        if self._known(ip):
            return self.inside[ip] < PEER
        return self.inside[ip] < STRANGER and self.strangers < STRANGERS

    @contextmanager
    def one(self, ip: str) -> Iterator[None]:
        """A connection from ``ip``, from beginning to end."""
        stranger = not self._known(ip)
        self.inside[ip] += 1
        self.strangers += stranger
        try:
            yield
        finally:
            self.strangers -= stranger
            self.inside[ip] -= 1
            if not self.inside[ip]:
                del self.inside[ip]


@dataclass(slots=True)
class Greetings:
    """Handshakes that are under way, by address: each takes a hundred kilobytes until it is over."""

    _limiters: dict[str, trio.CapacityLimiter] = field(default_factory=dict)

    @asynccontextmanager
    async def one(self, ip: str) -> AsyncIterator[None]:
        """Wait until it is the turn of a handshake with ``ip``."""
        limiter = self._limiters.setdefault(ip, trio.CapacityLimiter(GREETINGS))
        try:
            async with limiter:
                yield
        finally:
            statistics = limiter.statistics()
            if not statistics.borrowed_tokens and not statistics.tasks_waiting:
                self._limiters.pop(ip, None)
