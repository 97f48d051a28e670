"""The figures of gossip: how old what nodes know is (G1), what it costs a node and the simulator (G2). They need no lab."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from bench import sim_gossip
from bench.bed import Bed
from bench.measure import Result, Spread, interleave
from mosfs.balance import ages
from mosfs.daemon.gossip import STEP, WINDOW

WARM, LOOKS = 10, 5  #: steps before the first one that is measured, and those that are
REAL_TIME = 1.0  #: the step of the literature, in seconds


def known(n: int, w: int, rounds: int) -> Iterator[Result]:
    """Ages against the closed form of plain push (mean) and against plain push (oldest), one seed a round; and how well the
    simulated push itself agrees with the closed forms."""
    ours = [sim_gossip.simulate(n, w, False, seed) for seed in range(rounds)]
    push = [sim_gossip.simulate(n, w, True, seed) for seed in range(rounds)]
    closed = Spread((ages.mean_age(n, w),) * rounds)
    mean, pushed = (Spread(tuple(a.mean for a in all_ages)) for all_ages in (ours, push))
    oldest, theirs = (Spread(tuple(a.maximum for a in all_ages)) for all_ages in (ours, push))
    yield Result("G1", f"mean age, {n}:{w}", "steps", "closed form", mean, closed, 1.05)
    yield Result("G1", f"oldest entry, {n}:{w}", "steps", "plain push", oldest, theirs, 0.6)
    estimate = Spread((ages.asked_maximum_age(n, w),) * rounds)
    yield Result("G1", f"oldest entry, {n}:{w}", "steps", "closed form", oldest, estimate, None)
    yield Result("G1", f"mean age by plain push, {n}:{w}", "steps", "closed form", pushed, closed, None)
    check = Spread((ages.mean_maximum_age(n, w),) * rounds)
    yield Result("G1", f"oldest entry by plain push, {n}:{w}", "steps", "closed form", theirs, check, None)


def growth(few: int, many: int, rounds: int) -> Iterator[Result]:
    """One node's CPU time and bytes a step in a big and in a small cluster. What is compared is small and the noise is not, so
    every round is three."""
    unit, reference = 1e6, f"{few} nodes"
    ours, theirs = interleave(
        lambda: sim_gossip.cost(many, WINDOW).seconds * unit, lambda: sim_gossip.cost(few, WINDOW).seconds * unit, 3 * rounds
    )
    yield Result("G2", f"CPU a node and step, {many} nodes", "us", reference, ours, theirs, 1.1)
    sizes = [Spread((sim_gossip.cost(n, WINDOW).bytes,) * rounds) for n in (many, few)]
    yield Result("G2", f"bytes a node and step, {many} nodes", "B", reference, *sizes, 1.1)


def g1(_: Bed, rounds: int) -> Iterator[Result]:
    for n, w in ((256, 16), (1000, 32)):
        yield from known(n, w, rounds)


def g1_long(_: Bed, rounds: int) -> Iterator[Result]:
    """One seed: it takes many minutes, and its means are over 10,000 nodes."""
    yield from known(10_000, 256, 1)


def speed(n: int, w: int, *, wanted: float | None) -> Iterator[Result]:
    """Simulated time for a second of CPU time, all nodes together."""
    cluster = sim_gossip.Cluster(n, w)
    cluster.run(WARM)
    ours = Spread(tuple(1 / cluster.run(1) for _ in range(LOOKS)))
    for step, least in ((STEP, wanted), (REAL_TIME, None)):
        simulated = Spread(tuple(step * steps for steps in ours.samples))
        yield Result("G2", f"simulated time, {n}:{w}, steps of {step:g} s", "s", "CPU second", simulated,
                     Spread((1.0,) * LOOKS), least, at_least=True)


def g2(_: Bed, rounds: int) -> Iterator[Result]:
    yield from growth(100, 2000, rounds)


def g2_long(_: Bed, rounds: int) -> Iterator[Result]:
    """What daemons use is a window of `WINDOW`; the wide one of G1 is for comparison."""
    yield from growth(100, 10_000, rounds)
    yield from speed(10_000, WINDOW, wanted=1.0)
    yield from speed(10_000, 256, wanted=None)


Figure = Callable[[Bed, int], Iterator[Result]]
SHORT: dict[str, Figure] = {"G1": g1, "G2": g2}
#: Those that take minutes; only ``make bench-all`` measures them.
LONG: dict[str, Figure] = {"G1-LONG": g1_long, "G2-LONG": g2_long}
