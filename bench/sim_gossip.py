"""python -m bench.sim_gossip [--nodes N:W,...]: the production gossip on many simulated nodes under a virtual clock."""

from __future__ import annotations

import sys
from array import array
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from statistics import fmean

from mosfs.balance import ages
from mosfs.balance.gossip import Alive, Gossip

TICK = 1000  #: of the virtual clock, a step
FACTS = b"x"


@dataclass
class Cluster:
    n: int
    w: int
    push_only: bool = False
    seed: int = 1
    loss: float = 0.0
    nodes: list[Gossip] = field(default_factory=list)
    now: int = 0
    sent: int = 0

    def __post_init__(self) -> None:
        self.random = Random(self.seed)
        everyone = Alive(range(self.n))
        start = array('i', bytes(4 * self.n))
        for me in range(self.n):
            self.nodes.append(Gossip(
                me, self.w, 1 << 40, lambda: int(self.random.random() * self.n), self.random, start[:], everyone,
            ))
            self.nodes[-1]._odd = self.random.random() < 0.5
        self.order = self.random.sample(range(self.n), self.n)

    def step(self) -> None:
        nodes = self.nodes
        start = self.now
        for at, me in enumerate(self.order):
            now = start + TICK * (at + 1) // self.n
            node = nodes[me]
            node.refresh(now, FACTS)
            if self.push_only:
                node._odd = False
            contact = node.contact()
            if contact is None:
                continue
            other = nodes[contact.node]
            if contact.pull:
                other.merge([node.own])
                node.merge(*other.message())
            else:
                other.merge(*node.message())
                node.merge([other.own])
        self.now += TICK

    def ages(self, node: Gossip) -> list[float]:
        return [(self.now - birth) / TICK for at, birth in enumerate(node.births) if at != node.me]


def main() -> None:
    for spec in sys.argv[1].split(","):
        n, w, steps = map(int, spec.split(":"))
        for push_only in (False, True):
            t = time.process_time()
            c = Cluster(n, w, push_only)
            setup = time.process_time() - t
            t = time.process_time()
            for _ in range(steps):
                c.step()
            t = (time.process_time() - t) / steps
            sample = c.random.sample(c.nodes, min(n, 400))
            all_ages = [c.ages(node) for node in sample]
            mean = fmean(map(fmean, all_ages)); top = fmean(map(max, all_ages))
            print(f"{n}:{w} {'push' if push_only else 'pushpull'} mean {mean:.2f} / {ages.mean_age(n, w):.2f} max {top:.1f} / {ages.mean_maximum_age(n, w):.1f} inside {ages.mean_age_in_window(n,w):.2f} step {t*1e3:.1f} ms = {t/n*1e6:.1f} us/node setup {setup:.1f}")


main()
