"""Runs, interleaved; medians, smallest and largest; ratios."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

Sample = Callable[[], float]
"""One measurement, of either side, in the unit of its figure."""


@dataclass(frozen=True)
class Spread:
    """Several measurements of one thing."""

    samples: tuple[float, ...]

    @property
    def middle(self) -> float:
        return median(self.samples)

    @property
    def low(self) -> float:
        return min(self.samples)

    @property
    def high(self) -> float:
        return max(self.samples)


@dataclass(frozen=True)
class Result:
    """One line of the table. ``unit``: of both sides. ``target``: bound of ``value``, above or (``at_least``) below.

    ``ratio``: whether the value is ours divided by the reference, or ours alone, the reference being only shown.
    """

    figure: str
    what: str
    unit: str
    reference: str
    ours: Spread
    theirs: Spread
    target: float | None
    at_least: bool = False
    ratio: bool = True

    @property
    def value(self) -> float:
        return self.ours.middle / self.theirs.middle if self.ratio else self.ours.middle

    @property
    def range(self) -> tuple[float, float]:
        """Smallest and largest value over the rounds, each with its own reference."""
        pairs = zip(self.ours.samples, self.theirs.samples, strict=True)
        values = [ours / theirs if self.ratio else ours for ours, theirs in pairs]
        return min(values), max(values)

    @property
    def reached(self) -> bool | None:
        """Whether the target is reached; None when there is none."""
        if self.target is None:
            return None
        return self.value >= self.target if self.at_least else self.value <= self.target

    def record(self) -> dict[str, object]:
        """For --json."""
        return {
            "figure": self.figure, "what": self.what, "unit": self.unit, "reference": self.reference,
            "ours": list(self.ours.samples), "theirs": list(self.theirs.samples), "ratio": self.ratio,
            "value": self.value, "low": self.range[0], "high": self.range[1],
            "target": self.target, "at_least": self.at_least, "reached": self.reached,
        }


def interleave(ours: Sample, theirs: Sample, rounds: int) -> tuple[Spread, Spread]:
    """``rounds`` measurements of both in turn, so that a noisy time meets both; the first of each is dropped."""
    theirs()
    ours()
    pairs = [(theirs(), ours()) for _ in range(rounds)]
    return Spread(tuple(pair[1] for pair in pairs)), Spread(tuple(pair[0] for pair in pairs))


def short(number: float) -> str:
    """Three significant digits, without an exponent."""
    if number >= 100:
        return f"{number:,.0f}"
    return f"{number:.3g}" if number >= 1 else f"{number:.3f}"


TITLES = (
    "", "what", "unit", "reference", "median", "min", "max", "mosfs", "min", "max", "value", "min", "max", "target", "",
)


def table(results: Sequence[Result]) -> str:
    """All results as aligned columns."""
    rows = [list(TITLES)]
    for result in results:
        low, high = result.range
        bound = "" if result.target is None else f"{'>=' if result.at_least else '<='} {result.target:g}"
        verdict = {None: "", True: "yes", False: "NO"}[result.reached]
        sides = [
            short(number) for side in (result.theirs, result.ours) for number in (side.middle, side.low, side.high)
        ]
        values = [f"{number:.3f}" for number in (result.value, low, high)]
        rows.append([result.figure, result.what, result.unit, result.reference, *sides, *values, bound, verdict])
    widths = [max(len(row[column]) for row in rows) for column in range(len(TITLES))]
    left = {0, 1, 2, 3, 13, 14}
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
