"""Which node is best for a program, and what is on its way where (docs/design/balancing.md)."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable

from mosfs.abi.cpu import SILENT
from mosfs.balance.best import Candidate, best_node
from mosfs.node.nodes import Node
from mosfs.node.programs import Guest, Program
from mosfs.node.world import World

#: When more nodes are known, only the recent ones are considered for a program.
ALL_CANDIDATES = 64
#: A recent assignment is counted as load for this long, so that a burst does not pile up on one node.
RESERVED_FOR = 3.0


def best(world: World, need_mb: int) -> str:
    """The least loaded node that fits, counted as busier for a while; "" for this node, also when none fits."""
    chosen = choose(world, need_mb, reserve=True)
    return "" if chosen in (None, world.ip) else chosen


def choose(world: World, need_mb: int, *, reserve: bool) -> str | None:
    """The IP of the least loaded node that fits, None when none does; ``reserve`` counts it as busier for a while.

    Only nodes that a program which begins here can go to (`abi.cpu.SILENT`)."""
    silent = world.me.flags & SILENT
    open_ones = [node for node in candidates(world) if node.ip == world.ip or (node.open and node.offers(silent))]
    chosen = best_node(open_ones, need_mb, random.choice)
    if chosen is not None and reserve:
        arriving(world, chosen)
    return chosen


def most_free(world: World) -> int:
    """Megabytes that are free on the node where most are, of those that take a program."""
    return max((node.mem_free for node in candidates(world) if node.open or node.ip == world.ip), default=0)


def candidates(world: World, within: float = float("inf")) -> list[Candidate]:
    """This node and all others that are known to live, with what is on its way there or came lately; ``within``: no news
    older than so many seconds.

    In a big cluster only those that we know best: a fresh sample is worth more than all with old facts, and costs the same
    whatever the size (docs/design/information.md).
    """
    now = world.clock()
    nodes: Iterable[Node] = world.nodes.values()
    if len(world.nodes) > ALL_CANDIDATES and (recent := {world.ip, *world.coming.recent()}) != {world.ip}:
        nodes = [world.nodes[ip] for ip in recent if ip in world.nodes]
    world.coming.reserved = [(when, ip) for when, ip in world.coming.reserved if now - when < RESERVED_FOR]
    counts = Counter(ip for _, ip in world.coming.reserved)
    subjects: list[Program | Guest] = [*world.programs.values(), *world.guests.values()]
    counts.update(subject.balanced.sent for subject in subjects if subject.balanced.sent)
    return [
        Candidate(
            ip=node.ip, load=status.load, speed=status.speed, ncpus=status.ncpus, mem_free=status.mem_free,
            arriving=counts[node.ip], mem_total=status.mem_total,
            open=not status.blocked, flags=node.flags,
        )
        for node in nodes
        if (status := node.status)
        and (node.ip == world.ip or (now - node.heard <= within and _usable(world, node, now)))
    ]


def common_flags(world: World) -> frozenset[str]:
    """What all processors have that we know of, this one and those of nodes that live."""
    now = world.clock()
    known = {node.flags for node in world.nodes.values() if node.flags and node.ip != world.ip and _usable(world, node, now)}
    return world.me.flags.intersection(*known)


def arriving(world: World, ip: str) -> None:
    """A program has just come to ``ip``, or will start there."""
    world.coming.reserved.append((world.clock(), ip))


def _usable(world: World, node: Node, now: float) -> bool:
    return node.alive(now) and world.map.contains(node.ip)
