"""What programs gain by outliving their nodes, on a fleet whose nodes die: the production rule for images under a virtual clock.

Three ways to end a long computation are compared. ``restart``: it begins again on another node, as after MOSIX's "died".
``hourly``: a checkpoint each hour, which it stands still for, and from which somebody or something starts it again. ``outlive``:
images by `balance.images`, and mosfs goes on from the last one. With the home-node, which is one of the fleet or a better kept
machine, a program is lost in each of them; ``outlive`` alone, whose images are at home, cannot go on either.

Lives are Weibull distributed: shape 1 has no memory, 0.7 is what Schroeder and Gibson measured ("A large-scale study of failures in
high-performance computing systems", DSN 2006; TDSC 7(4), 2010). A node in use has been up for a random time.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import mean

from bench.sim_jobs import heavy_tailed
from mosfs.balance import images

HOUR, DAY = 3600.0, 86400.0
#: Bytes a second at which an image goes home, or comes back: a third of what a link of 10 Gbit/s carries, as M1 measures.
LINK = 0.35e9
#: Seconds until a link that is cut is seen (docs/design/outliving.md), and until something else starts a program again.
SEEN, STARTED = 20.0, 60.0
MEMORY = 4e9


@dataclass(frozen=True)
class Fleet:
    """``life``, ``home_life``: mean seconds of a node and of the home-node; ``shape``: of the Weibull distribution of both."""

    nodes: int = 1000
    life: float = 10 * DAY
    home_life: float = 365 * DAY
    shape: float = 1.0

    def lives(self, rng: random.Random, mean_life: float) -> Iterator[float]:
        """How long each next node lives from when it is first used: its life counts by its length, and some of that is over."""
        scale = mean_life / math.gamma(1 + 1 / self.shape)
        while True:
            # A node met at a random moment has a life drawn by length: Gamma(1 + 1/shape) to the power 1/shape.
            yield scale * rng.gammavariate(1 + 1 / self.shape, 1) ** (1 / self.shape) * rng.random()


@dataclass(frozen=True)
class Way:
    """``stands``: seconds for an image; ``pause``: computing between two; ``again``: seconds until it computes after a loss;
    ``survives``: images outlast the home-node."""

    stands: float
    pause: float
    again: float
    survives: bool

    def finish(self, need: float, nodes: Iterator[float], homes: Iterator[float]) -> float:
        """Seconds from the start until ``need`` seconds of computing are done."""
        now = kept = 0.0  # kept: computing that need not be done again
        home = next(homes)
        while True:
            last = now + self.time(need - kept)
            end = min(last, now + next(nodes), home)
            if end == last:
                return last
            kept += self.saved(end - now)
            if end == home:
                kept = kept if self.survives else 0.0
                home += next(homes)
            now = end + self.again

    def time(self, work: float) -> float:
        """Seconds that ``work`` takes with the images on its way."""
        return work + self.stands * (math.ceil(work / self.pause) - 1) if work > 0 else 0.0

    def saved(self, seconds: float) -> float:
        """How much of the computing in ``seconds`` is in whole images."""
        return seconds // (self.pause + self.stands) * self.pause if self.pause != math.inf else 0.0


def ways(memory: float) -> dict[str, Way]:
    """The ways of a program of so many bytes."""
    image = memory / LINK
    return {
        "restart": Way(0.0, math.inf, STARTED, False),
        "hourly": Way(image, HOUR, STARTED + image, True),
        "outlive": Way(image, images.pause(image, safe=True), SEEN + image, False),
    }


def run(fleet: Fleet, needs: Sequence[float], way: Way, seed: int) -> list[float]:
    """Seconds that each program takes; each computes alone on its node, and always finds one."""
    rng = random.Random(seed)
    return [way.finish(need, fleet.lives(rng, fleet.life), fleet.lives(rng, fleet.home_life)) for need in needs]


@dataclass(frozen=True)
class Row:
    """``slowdown``: by length, mean (end - start) / need; ``useful``: the share of all time in which what counted was computed."""

    slowdown: dict[str, float]
    useful: float


LENGTHS = {"1 h": HOUR, "1 day": DAY, "5 days": 5 * DAY, "20 days": 20 * DAY}
FLEETS = {
    "kept home": Fleet(),
    "kept home, shape 0.7": Fleet(shape=0.7),
    "home is one of them": Fleet(home_life=10 * DAY),
}


def row(fleet: Fleet, way: Way, runs: int) -> Row:
    slow = {name: mean(run(fleet, [need] * runs, way, 1)) / need for name, need in LENGTHS.items()}
    needs = heavy_tailed(random.Random(2), fleet.nodes, HOUR, 20 * DAY)
    return Row(slow, sum(needs) / sum(run(fleet, needs, way, 3)))


# --------------------------------------------------------------------------- pictures


def chart(fleet: Fleet, memory: float, runs: int, width: int = 640, height: int = 260) -> str:
    """SVG: mean slowdown by the length of a program, up to 10."""
    colours = {"restart": "#d1495b", "hourly": "#e0a030", "outlive": "#1b6ca8"}
    days = range(1, 31)

    def place(day: int, slowdown: float) -> str:
        return f"{40 + day / days[-1] * (width - 60):.1f},{height - 30 - math.log10(slowdown) * (height - 60):.1f}"

    lines = []
    for name, way in ways(memory).items():
        shown = [(day, mean(run(fleet, [day * DAY] * runs, way, 1)) / (day * DAY)) for day in days]
        points = " ".join(place(day, slowdown) for day, slowdown in shown if slowdown <= 10)
        lines.append(f'<polyline points="{points}" fill="none" stroke="{colours[name]}" stroke-width="1.5"/>')
        lines.append(f'<text x="{width - 90}" y="{60 + 8 * len(lines)}" fill="{colours[name]}">{name}</text>')
    axes = "".join(f'<text x="{place(day, 1).split(",")[0]}" y="{height - 12}">{day} d</text>' for day in (1, 10, 20))
    marks = "".join(f'<text x="6" y="{place(0, factor).split(",")[1]}">x{factor}</text>' for factor in (1, 2, 5, 10))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" font-size="12">'
        '<rect width="100%" height="100%" fill="white"/>'
        '<text x="40" y="18">slowdown of a program, by the days that it computes</text>'
        f'<path d="M40 30V{height - 30}H{width - 20}" fill="none" stroke="black"/>{axes}{marks}{"".join(lines)}</svg>\n'
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.sim_outlive", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--runs", type=int, default=400, help="programs of each length (default 400)")
    parser.add_argument("--memory", type=float, default=MEMORY / 1e9, metavar="GB", help="of a program (default 4)")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--svg", metavar="file", help="draw the slowdown by length instead")
    options = parser.parse_args()
    if options.runs < 1 or not 0 < options.memory <= 1e6:
        parser.error("--runs is at least 1, --memory between 0 and 1000000")
    memory = options.memory * 1e9
    if options.svg:
        with open(options.svg, "w", encoding="utf-8") as file:
            file.write(chart(FLEETS["kept home"], memory, options.runs))
        return 0
    found = {fleet: {name: row(FLEETS[fleet], way, options.runs) for name, way in ways(memory).items()} for fleet in FLEETS}
    if options.json:
        print(json.dumps({fleet: {name: asdict(each) for name, each in rows.items()} for fleet, rows in found.items()}))
        return 0
    for fleet, rows in found.items():
        print(f"{fleet}\n{'slowdown of':14}" + "".join(f"{length:>10}" for length in LENGTHS) + f"{'useful':>10}")
        for name, each in rows.items():
            print(f"{name:14}" + "".join(f"{value:10.3f}" for value in each.slowdown.values()) + f"{each.useful:10.1%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
