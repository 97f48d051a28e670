"""What a node counts from the start of its daemon on, for the metrics (docs/metrics.md)."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from mosfs.abi.outcomes import OK
from mosfs.abi.reasons import Reason
from mosfs.wire.messages import ProcState

#: Upper bounds of the buckets of `Times`, seconds.
BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

#: The result of a move that failed; what all other reasons concern is the program.
_RESULTS = {
    Reason.NOT_IN_MAP: "not_in_map", Reason.NO_RESPONSE: "no_response", Reason.REFUSED: "refused", Reason.INCOMPLETE: "incomplete",
    Reason.PROCESSOR: "processor",
}
OF_PROGRAM = "program"
RESULTS = (OK, *_RESULTS.values(), OF_PROGRAM)
#: Who wished a move: mosd itself, or somebody else (a user, the program, an order of the administrator).
WISHES = ("automatic", "asked")


@dataclass(slots=True)
class Times:
    """A histogram: ``counts`` has one number for each of `BOUNDS`, and one more for what is longer."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    sum: float = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.sum += seconds


@dataclass(slots=True)
class Counts:
    """``moves``: by wish and result, of programs of this node; ``still``: how long they stood still in those that succeeded;
    ``forwarded``: calls made for programs that were away; ``gossip``: counters of the exchange with other nodes; ``since``: when
    counting began, by the clock of the World."""

    since: float = 0.0
    moves: Counter[tuple[str, str]] = field(default_factory=Counter)
    still: Times = field(default_factory=Times)
    decisions: int = 0
    forwarded: int = 0
    gossip: Mapping[str, int] = field(default_factory=dict)

    def heard(self, old: ProcState, new: ProcState, *, automatic: bool) -> None:
        """A tracer has told the state ``new`` of a program. ``automatic``: a move that mosd had decided was under way."""
        if new.nmigs > old.nmigs:
            self.moves[WISHES[not (automatic or new.because)], OK] += 1
            self.still.add(new.freeze_ms / 1000)
        elif new.move_result not in ("", OK) and (new.move_seq, new.move_result) != (old.move_seq, old.move_result):
            self.moves[WISHES[not automatic], result_of(new.move_result)] += 1


def result_of(reason: str) -> str:
    """One of `RESULTS` for why a move failed."""
    row = Reason.of(reason)
    return OF_PROGRAM if row is None else _RESULTS.get(row, OF_PROGRAM)
