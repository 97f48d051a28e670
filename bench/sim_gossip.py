"""python -m bench.sim_gossip [--nodes N:W,...]: the production gossip on many simulated nodes under a virtual clock."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from random import Random

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


def main() -> int:
    return 0
