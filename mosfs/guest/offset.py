"""By how much the home-node's CLOCK_MONOTONIC is ahead of ours, measured over a network: between two bounds.

What home says of its clock when it sends is less than what that shows when we read it: so far ahead it is at least. In an answer
it is no less than what it showed when we asked: so far ahead it is at most (F. Cristian, "Probabilistic clock synchronization",
1989). All that was measured holds together, each as far as its age has not spoilt it (K. Marzullo, "Maintaining the time in a
distributed system", 1984). Programs are shown the lower bound (docs/design/migration.md, Time). Home's realtime needs no measuring:
home tells both clocks of one moment (`GoTimes`, TIME).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from mosfs.trace.clock import spoilt

ASKED = struct.Struct("<Q")  #: payload of ASK_CLOCK
#: No frame takes less from one kernel to another, ns: to be sealed, sent, received and opened. If this did not count every other
#: one, of those that travel as well as the best, would be faster than what is shown, since clocks drift (`Clocks.heard`).
FASTEST = 3_000
#: Bounds that are so far from each other, in ns, count as rough.
ROUGH = 600_000
#: So many questions are asked one after the other at the beginning, and at most while the offset is rough.
FEW, BURST = 3, 8
#: No bound.
_FAR = 1 << 62


@dataclass(frozen=True, slots=True)
class Offset:
    """Home's clock minus ours, ns: no less than ``least`` and no more than ``most`` when it was measured, ``at`` by our
    CLOCK_MONOTONIC."""

    least: int
    most: int
    at: int


def measured(home: int, now: int, asked: int = 0) -> Offset:
    """What follows from ``home``, which that clock has shown before ``now``, and, in an answer, after ``asked`` (by ours)."""
    least = home + FASTEST - now
    most = home - asked + spoilt(now - asked) if 0 < asked <= now else least + _FAR
    return Offset(least, max(least, most), now)


def together(old: Offset | None, new: Offset) -> Offset:
    """What holds by both. If they contradict each other one of the clocks has stood still, as its machine slept: then only the new
    one does."""
    if old is None:
        return new
    error = spoilt(new.at - old.at)
    least, most = max(old.least - error, new.least), min(old.most + error, new.most)
    return Offset(least, most, new.at) if least <= most else new


def ask_again(offset: Offset, asked: int) -> bool:
    """Ask once more at once, after ``asked`` questions: one of several travels well."""
    return asked < BURST and (offset.most - offset.least > ROUGH or asked < FEW)


def ask(now: int) -> bytes:
    """The payload of ASK_CLOCK at our CLOCK_MONOTONIC ``now``."""
    return ASKED.pack(now)
