"""How far the home-node's CLOCK_MONOTONIC is from ours, measured over a network.

Home's time is read somewhere between our question and its answer, so a measurement is off by half of that at most (F. Cristian,
"Probabilistic clock synchronization", 1989). The best one is kept while it is better than what its age may have spoilt. Home's
realtime needs no measuring: home tells both clocks of one moment (`GoTimes`).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from mosfs.wire.orders import GoTimes

ASKED = struct.Struct("<Q")  #: payload of ASK_CLOCK
#: How fast two clocks may drift apart that are both kept by NTP: parts of 1.
DRIFT = 50e-6
#: Half a round trip, in ns, that counts as rough.
ROUGH = 300_000
#: So many questions are asked one after the other at the beginning, and at most while the offset is rough.
FEW, BURST = 3, 8


@dataclass(frozen=True, slots=True)
class Offset:
    """Home's clock minus ours, ns; ``error``: at most so wrong when it was measured; ``at``: our CLOCK_MONOTONIC then."""

    monotonic: int
    error: int
    at: int

    def uncertainty(self, now: int) -> float:
        return self.error + (now - self.at) * DRIFT


def measured(times: GoTimes, now: int) -> Offset | None:
    """The offset by an answer that came ``now`` (our CLOCK_MONOTONIC); None if it cannot be one."""
    if not 0 < times.asked <= now:
        return None
    half = (now - times.asked) // 2
    return Offset(times.monotonic + half - now, half, now)


def better(old: Offset | None, new: Offset) -> Offset:
    """Which of two holds now. One of the clocks may have stood still since, as its machine slept: then only the new one does."""
    if old is None or new.error <= old.uncertainty(new.at):
        return new
    return new if abs(old.monotonic - new.monotonic) > old.uncertainty(new.at) + new.error else old


def ask_again(offset: Offset | None, asked: int) -> bool:
    """Ask once more at once, after ``asked`` questions: one of several travels well."""
    return asked < BURST and (offset is None or offset.error > ROUGH or asked < FEW)


def ask(now: int) -> bytes:
    """The payload of ASK_CLOCK at our CLOCK_MONOTONIC ``now``."""
    return ASKED.pack(now)
