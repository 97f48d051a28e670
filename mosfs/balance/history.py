"""What a program did lately: sums in which old events count less and less.

mosrun(1), -d, and mosix(7), decayrate: the share of the statistics that is kept each second, of 10000. What happened t seconds
ago counts ``kept**t``; the observed time decays alike, so a quotient of two sums is a rate over the remembered past.
"""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_DECAY = 9976
#: A sum is no more than this. The kernel counts what a program asks for, 2 GB in a call that copies nothing (null(4)), and begins
#: at 0 again; what nodes tell each other has a range.
MOST = 1e17


@dataclass(frozen=True, slots=True)
class History:
    """Decayed sums. ``wall``: seconds of observation, ``cpu``: seconds of CPU time, ``calls``: calls that are forwarded when the
    program is away, ``received`` and ``sent``: bytes that it read and wrote by them."""

    wall: float = 0.0
    cpu: float = 0.0
    calls: float = 0.0
    received: float = 0.0
    sent: float = 0.0

    def plus(self, seconds: float, decay: int, new: History) -> History:
        """This history ``seconds`` later, when ``new`` has happened in them. ``decay``: of 10000, < 0 = the default."""
        kept = ((DEFAULT_DECAY if decay < 0 else decay) / 10000) ** seconds if seconds > 0 else 1.0
        return History(
            _sum(self.wall * kept, new.wall), _sum(self.cpu * kept, new.cpu), _sum(self.calls * kept, new.calls),
            _sum(self.received * kept, new.received), _sum(self.sent * kept, new.sent),
        )

    @property
    def share(self) -> float:
        """CPU seconds a second."""
        return self.cpu / self.wall if self.wall > 0 else 0.0

    @property
    def call_rate(self) -> float:
        """Calls a second."""
        return self.calls / self.wall if self.wall > 0 else 0.0

    @property
    def traffic(self) -> float:
        """Bytes a second, both directions."""
        return (self.received + self.sent) / self.wall if self.wall > 0 else 0.0


def _sum(kept: float, new: float) -> float:
    return min(kept + max(new, 0.0), MOST)
