"""How likely our programs have to leave a partner's node before they end, by how often that happened lately
(docs/design/clusters.md)."""

from __future__ import annotations

from dataclasses import dataclass

#: What happened so many seconds ago counts half.
HALF = 3600.0
#: What is thought of a cluster of which nothing is known: so many evictions, in so many seconds of one program.
PRIOR_COUNT, PRIOR_SECONDS = 1.0, 3600.0


@dataclass(frozen=True, slots=True)
class Evictions:
    """Decayed sums about one partner, as of ``at``. ``seconds``: which our programs have been there, all together; ``count``: how
    many of them had to make way."""

    seconds: float = 0.0
    count: float = 0.0
    at: float = 0.0

    def plus(self, now: float, seconds: float = 0.0, count: int = 0) -> Evictions:
        """The same at ``now``, when this much has been added."""
        kept = 0.5 ** (max(0.0, now - self.at) / HALF)
        return Evictions(self.seconds * kept + max(seconds, 0.0), self.count * kept + count, now)

    def rate(self, now: float) -> float:
        """How often in a second one program there has to make way."""
        sums = self.plus(now)
        return (sums.count + PRIOR_COUNT) / (sums.seconds + PRIOR_SECONDS)
