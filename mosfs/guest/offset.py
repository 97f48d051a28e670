"""How far the home-node's clocks are from ours, measured over a network (F. Cristian, "Probabilistic clock synchronization", 1989).

Home's time is read somewhere between our question and its answer, so a measurement is off by half of that at most. The best one is
kept while it is better than what its age may have spoilt.
"""

from __future__ import annotations

import struct
import time
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
    """Home's clocks minus ours, ns; ``error``: at most so wrong when it was measured; ``at``: our CLOCK_MONOTONIC then."""

    realtime: int
    monotonic: int
    error: int
    at: int

    def uncertainty(self, now: int) -> float:
        return self.error + (now - self.at) * DRIFT


def measured(times: GoTimes, now: int, realtime: int) -> Offset | None:
    """The offset by an answer that came ``now`` (our CLOCK_MONOTONIC; ``realtime``: the same moment); None if it cannot be one."""
    if not 0 < times.asked <= now:
        return None
    half = (now - times.asked) // 2
    return Offset(times.realtime + half - realtime, times.monotonic + half - now, half, now)


def better(old: Offset | None, new: Offset) -> Offset:
    """Which of two holds now. Home's realtime may have been set since: then only the new one does."""
    if old is None or new.error <= old.uncertainty(new.at):
        return new
    tolerance = old.uncertainty(new.at) + new.error
    apart = max(abs(old.realtime - new.realtime), abs(old.monotonic - new.monotonic))
    return new if apart > tolerance else old


def ask_again(offset: Offset | None, asked: int) -> bool:
    """Ask once more at once, after ``asked`` questions: one of several travels well."""
    return asked < BURST and (offset is None or offset.error > ROUGH or asked < FEW)


def ask() -> bytes:
    """The payload of ASK_CLOCK."""
    return ASKED.pack(time.monotonic_ns())
