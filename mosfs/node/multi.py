"""What a node knows of the clusters around its own, beside the map (manual, section 4.3)."""

from __future__ import annotations

from dataclasses import dataclass, field

from mosfs.balance.evictions import Evictions
from mosfs.cluster.partners import MAX_PRIORITY

#: The priority of a node that runs nothing: anybody's programs may come.
NOTHING = MAX_PRIORITY

UNKNOWN = Evictions()


@dataclass(slots=True)
class Retained:
    """The priority that a node keeps for a while after those who had it have left (mosix(7), retainpri); ``since`` when nobody has
    it."""

    priority: int = NOTHING
    since: float = float("-inf")

    def level(self, running: int, now: float, seconds: float) -> int:
        """The worst priority that may come at ``now`` while ``running`` runs here; to be asked at least once a second. Other
        ``seconds`` than before hold at once."""
        if running <= self.priority or now >= self.since + seconds:
            self.priority, self.since = running, now
        return self.priority


@dataclass(slots=True)
class Multi:
    """``max_guests`` and ``retain`` are the administrator's, as in `cluster.load.Cluster`. ``told``: by cluster, what its nodes
    said last of our programs there (`Node.standing`); ``evictions``: by cluster, how often ours had to leave it."""

    max_guests: int | None = None
    retain: float = 0.0
    retained: Retained = field(default_factory=Retained)
    told: dict[str, int] = field(default_factory=dict)
    evictions: dict[str, Evictions] = field(default_factory=dict)

    def been(self, partner: str, now: float, seconds: float = 0.0, evicted: int = 0) -> None:
        """Our programs have been at nodes of ``partner`` for so long, all together, and so many had to leave."""
        self.evictions[partner] = self.evictions.get(partner, UNKNOWN).plus(now, seconds, evicted)

    def eviction_rate(self, partner: str, now: float) -> float:
        """How often in a second a program of ours has to leave it; never our own cluster, which is ""."""
        return self.evictions.get(partner, UNKNOWN).rate(now) if partner else 0.0
