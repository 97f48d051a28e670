"""What a node knows of the clusters around its own, beside the map (manual, section 4.3)."""

from __future__ import annotations

from dataclasses import dataclass, field

from mosfs.cluster.partners import MAX_PRIORITY

#: The priority of a node that runs nothing: anybody's programs may come.
NOTHING = MAX_PRIORITY


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
    said last of our programs there (`Node.standing`)."""

    max_guests: int | None = None
    retain: float = 0.0
    retained: Retained = field(default_factory=Retained)
    told: dict[str, int] = field(default_factory=dict)
