"""The production gossip on many simulated nodes under a virtual clock: ``python -m bench.sim_gossip [NODES:WINDOW ...]``.

Every node takes a step at its own moment of each tick, and messages take no time; real ones take less than a thousandth
of a step. The nodes run `mosfs.balance.gossip` as it is; entries are shared. The closed forms are for plain push; so it is
simulated too.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from math import ceil, log
from pathlib import Path
from random import Random
from statistics import fmean

from mosfs.balance import ages
from mosfs.balance.exchange import Exchange
from mosfs.balance.gossip import Alive, Contact, Entry, Gossip
from mosfs.daemon.gossip import STEP, Ranges
from mosfs.tools import chart
from mosfs.wire.datagram import Datagram, Flag, Item, Seen, pack_facts, parts, seal
from mosfs.wire.messages import PeerStatus

TICK = 1000  #: of the virtual clock, a step
FOREVER = 1 << 40
FACTS = pack_facts(PeerStatus(100, 10000, 4, 1000, 2000, 3, False), "0.1.0")
OBSERVERS = 200  #: nodes whose knowledge is looked at
LOOKS, BETWEEN = 4, 8  #: how often, and steps between two looks


class Pusher(Gossip):
    """Plain push to a random node, of which the closed forms are."""

    def contact(self) -> Contact | None:
        return Contact(self.anyone(), pull=False)


@dataclass
class Cluster:
    """``n`` nodes with windows of ``w``. What they know at the start is as old as closed forms say (exponential)."""

    n: int
    w: int
    push_only: bool = False
    seed: int = 1
    now: int = 0
    tap: int = -1  #: the node whose messages are recorded in ``heard``, a list a step
    heard: list[list[Sequence[Entry]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random = Random(self.seed)
        everyone = Alive(range(self.n))
        oldest = TICK * self.n / self.w
        pool = [-min(int(random.expovariate(1) * oldest), FOREVER) for _ in range(self.n * 8)]
        kind = Pusher if self.push_only else Gossip
        self.nodes = []
        for me in range(self.n):
            births = array("q", pool[(start := random.randrange(self.n * 7)):start + self.n])
            node = kind(me, self.w, FOREVER, self.n, random, births, everyone)
            node.refresh(0, FACTS)  # who is asked before its first step lives nevertheless
            if me % 2:
                node.contact()  # half of them push when the others pull
            self.nodes.append(node)
        self.order = random.sample(range(self.n), self.n)

    def step(self) -> None:
        nodes, start = self.nodes, self.now
        self.heard.append([])
        for at, me in enumerate(self.order):
            node = nodes[me]
            node.refresh(start + TICK * (at + 1) // self.n, FACTS)
            contact = node.contact()
            if contact is None or contact.node == me:
                continue
            other = nodes[contact.node]
            question, answer = ([node.own], other.message()) if contact.pull else (node.message()[0], ([other.own], {}))
            other.merge(question)
            node.merge(*answer)
            if self.tap in (me, contact.node):
                self.heard[-1].append(answer[0] if self.tap == me else question)
        self.now += TICK

    def run(self, steps: int) -> float:
        """CPU seconds a step."""
        began = time.process_time()
        for _ in range(steps):
            self.step()
        return (time.process_time() - began) / max(steps, 1)

    def ages(self, node: Gossip) -> list[float]:
        """How old what a node knows of the others is now, in steps."""
        return [(self.now - node.births[other]) / TICK for other in range(self.n) if other != node.me]


@dataclass(frozen=True)
class Ages:
    """Means over observers: of all entries, of the oldest. ``known``: all ages that were seen. ``cost``: CPU s a step."""

    mean: float
    maximum: float
    cost: float
    known: Sequence[float] = field(repr=False)


@lru_cache
def simulate(n: int, w: int, push_only: bool, seed: int) -> Ages:
    """What the nodes know in the long run."""
    cluster = Cluster(n, w, push_only, seed)
    # push starts as it ends; when the oldest are addressed nothing of the start may be left
    warm = 4 * ceil(log(w) + 2) if push_only else ceil(1.3 * ages.asked_maximum_age(n, w)) + 10
    cost = cluster.run(warm)
    observers = cluster.random.sample(cluster.nodes, min(n, OBSERVERS))
    seen: list[list[float]] = []
    for _ in range(LOOKS):
        cluster.run(BETWEEN)
        seen += map(cluster.ages, observers)
    return Ages(fmean(map(fmean, seen)), fmean(map(max, seen)), cost, [age for known in seen[:50] for age in known])


@dataclass(frozen=True)
class Cost:
    """Of one node: CPU seconds and bytes (sent and received) a step."""

    seconds: float
    bytes: float


@lru_cache
def recorded(n: int, w: int, steps: int) -> tuple[array[int], list[list[Sequence[Entry]]]]:
    """What one node of a cluster knew at some moment, and the messages that it got in the ``steps`` afterwards."""
    cluster = Cluster(n, w, seed=3)
    cluster.run(2 * ceil(log(w) + 2))
    node = cluster.nodes[0]
    births = node.births[:]
    cluster.tap, cluster.heard = node.me, []
    cluster.run(steps)
    return births, cluster.heard


def cost(n: int, w: int, steps: int = 200) -> Cost:
    """Of one node of ``n``, datagrams packed, hashed, unpacked and checked as in mosd.

    Between two steps the caches are emptied: a daemon that wakes up twice a second always finds them full of others' data.
    """
    births, heard = recorded(n, w, steps)
    gossip = Gossip(0, w, FOREVER, n, Random(1), births[:], Alive(range(1, n)))
    exchange = Exchange(0, gossip, Ranges([(0, n)]), b"k" * 32, lambda entries: None, Random(2))
    start = (max(birth for birth in births if birth < FOREVER) // TICK + 1) * TICK
    mail = [list(_sealed(messages, start + at * TICK, n)) for at, messages in enumerate(heard)]
    exchange._seen = {node: Seen(1, 0) for node in range(n)}
    seconds = 0.0
    gc.collect()  # not in one step of all
    gossip._oldest()  # sorts; again after about (n/w) ln n steps, so its share of a step is that of a small cluster
    for at, datagrams in enumerate(mail):
        now = start + at * TICK
        exchange._asked.clear()  # recorded answers have no questions
        _ELSE.find(b"x")
        began = time.process_time()
        exchange.refresh(now, FACTS)
        exchange.step(now)
        for sender, data in datagrams:
            exchange.receive(now, sender, data)
        seconds += time.process_time() - began
    used = exchange.counters["bytes_sent"] + exchange.counters["bytes_received"]
    return Cost(seconds / len(mail), used / len(mail))


#: What others have in the caches.
_ELSE = bytes(range(32)) * (1 << 20)

_counters = iter(range(1, 1 << 60))


def _sealed(messages: Sequence[Sequence[Entry]], now: int, n: int) -> Iterator[tuple[int, bytes]]:
    for message in messages:
        sender = message[0][1]
        items: list[Item] = [(node, max(0, now - birth), 0, facts) for birth, node, facts in message]
        for part in parts(items):
            yield sender, seal(Datagram(sender, 1, next(_counters), 0, 0, Flag.NONE, part), b"k" * 32)


# --------------------------------------------------------------------------- by hand

SIZES = ("256:16", "1000:32", "10000:256")
TITLES = ("nodes:window", "mean", "closed form", "oldest", "push", "closed form", "us/node", "x real time")


def row(n: int, w: int) -> list[str]:
    ours, push = simulate(n, w, False, 1), simulate(n, w, True, 1)
    return [
        f"{n}:{w}", f"{ours.mean:.1f}", f"{ages.mean_age(n, w):.1f}", f"{ours.maximum:.1f}", f"{push.maximum:.1f}",
        f"{ages.mean_maximum_age(n, w):.1f}", f"{ours.cost / n * 1e6:.1f}", f"{STEP / ours.cost:.2f}",
    ]


def spread(known: Sequence[float], upto: float) -> list[tuple[float, float]]:
    """Points of: share of entries that are no older, in per cent."""
    ordered = sorted(known)
    step = max(1, len(ordered) // 200)
    points = [(age, 100 * at / len(ordered)) for at, age in enumerate(ordered) if at % step == 0 and age <= upto]
    return [first for first, second in pairwise(points) if first[0] < second[0]] + [points[-1], (upto, 100.0)]


def drawn(n: int, w: int) -> str:
    """A chart of how old entries are."""
    ours, push = simulate(n, w, False, 1), simulate(n, w, True, 1)
    upto = ages.mean_maximum_age(n, w)
    return chart.lines(
        f"How old what a node knows is: {n} nodes, windows of {w}", "age in steps", "% of the entries that are no older",
        {"push and pull, the oldest first": spread(ours.known, upto), "push, anyone": spread(push.known, upto)},
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.sim_gossip", description="ages in steps, simulated and by closed forms")
    parser.add_argument("sizes", nargs="*", default=SIZES[:2], metavar="NODES:WINDOW", help=f"as {' '.join(SIZES)}")
    parser.add_argument("--chart", metavar="FILE", help="write a chart of the last size as SVG")
    options = parser.parse_args()
    try:
        sizes = [(int(n), int(w)) for n, w in (size.split(":") for size in options.sizes)]
        if any(not 3 <= w <= n // 2 for n, w in sizes):
            raise ValueError
    except ValueError:
        parser.error("a size is NODES:WINDOW, the window from 3 to half of the nodes")
    rows = [list(TITLES)]
    for n, w in sizes:
        print(f"{n}:{w} ...", file=sys.stderr, flush=True)
        rows.append(row(n, w))
    widths = [max(len(cells[column]) for cells in rows) for column in range(len(TITLES))]
    print("\n".join("  ".join(cell.rjust(width) for cell, width in zip(cells, widths)) for cells in rows))
    if options.chart:
        Path(options.chart).write_text(drawn(*sizes[-1]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
