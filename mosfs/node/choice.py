"""Which node is best for a program, and what is on its way where (docs/design/balancing.md)."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from mosfs.abi.cpu import SILENT
from mosfs.balance.account import busy
from mosfs.balance.best import Candidate, best_node
from mosfs.balance.cost import load_of
from mosfs.cluster.partners import OWN_PRIORITY
from mosfs.node import guests
from mosfs.node.multi import NOTHING
from mosfs.node.nodes import Node
from mosfs.node.programs import Guest, Program
from mosfs.node.world import World
from mosfs.wire.messages import PeerStatus

#: When more nodes are known, only the recent ones are considered for a program.
ALL_CANDIDATES = 64
#: A recent assignment is counted as load for this long, so that a burst does not pile up on one node.
RESERVED_FOR = 3.0
#: So many of the latest are counted: whoever reads ``node/best`` adds one.
MOST_RESERVED = 1024


def best(world: World, need_mb: int, *, own: bool = False) -> str:
    """The least loaded node that fits, counted as busier for a while; "" for this node, also when none fits.

    Where a program can begin here as well as elsewhere, it does: its calls need not travel then."""
    chosen = choose(
        world, need_mb, reserve=True, own=own, pick=lambda ips: world.ip if world.ip in ips else random.choice(ips)
    )
    return "" if chosen in (None, world.ip) else chosen


def choose(
    world: World, need_mb: int, *, reserve: bool, own: bool = False, pick: Callable[[Sequence[str]], str] = random.choice
) -> str | None:
    """The IP of the least loaded node that fits, None when none does; ``reserve`` counts it as busier for a while.
    ``own``: only nodes of our cluster.

    Only nodes that a program which begins here can go to (`abi.cpu.SILENT`)."""
    silent = world.me.flags & SILENT
    open_ones = [
        node for node in candidates(world)
        if node.ip == world.ip or (node.open and node.offers(silent) and (node.own or not own))
    ]
    chosen = best_node(open_ones, need_mb, pick)
    if chosen is not None and reserve:
        arriving(world, chosen)
    return chosen


def elsewhere(world: World, need_mb: int, avoid: str) -> str:
    """The same of all nodes but this and ``avoid``; "" when none fits."""
    others = [node for node in candidates(world) if node.ip not in (world.ip, avoid) and node.open]
    chosen = best_node(others, need_mb, random.choice)
    if chosen is not None:
        arriving(world, chosen)
    return chosen or ""


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
    world.coming.reserved = [place for place in world.coming.reserved if now - place[0] < RESERVED_FOR]
    counts: dict[str, float] = defaultdict(float)
    for _, ip, many in world.coming.reserved:
        counts[ip] += many
    subjects: list[Program | Guest] = [*world.programs.values(), *world.guests.values()]
    for balanced in (subject.balanced for subject in subjects):
        if balanced.sent:
            counts[balanced.sent] += busy(balanced.usage.demand) if balanced.usage else 1.0
    return [
        _candidate(world, node, status, counts[node.ip])
        for node in nodes
        if (status := node.status)
        and (node.ip == world.ip or (now - node.heard <= within and _usable(world, node, now)))
    ]


def _candidate(world: World, node: Node, status: PeerStatus, arriving: float) -> Candidate:
    """As it will be for one of our programs: where only guests of a worse priority run, they will be gone."""
    relation, load, free = world.map.relation(node.ip), status.load, status.mem_free
    if node.ip == world.ip:
        evicted = guests.running(world) > OWN_PRIORITY
        free += guests.privileged_mb(world, OWN_PRIORITY) if evicted else 0
    else:
        evicted = prefers_ours(world, node)
        free += node.privileged_mb if evicted else 0
    if evicted:
        load = max(0, load - load_of(status.processes, status.ncpus, status.speed))
    return Candidate(
        ip=node.ip, load=load, speed=status.speed, ncpus=status.ncpus, mem_free=min(free, status.mem_total or free),
        arriving=arriving, mem_total=status.mem_total, open=takes_ours(world, node), flags=node.flags, level=status.level,
        own=relation.own, evictions=world.multi.eviction_rate(relation.partner, world.clock()),
    )


def standing(world: World, node: Node) -> int | None:
    """The priority of our programs at ``node``, -1 when it takes none, as it or another node of its cluster told last; None if none
    has told."""
    relation = world.map.relation(node.ip)
    if relation.own:
        return OWN_PRIORITY
    return world.multi.told.get(relation.partner) if node.standing is None else node.standing


def takes_ours(world: World, node: Node) -> bool:
    """Does ``node`` take our programs just now, by all that is known and allowed? One that has not told what they are there does
    while nothing runs on it."""
    if not world.map.relation(node.ip).cango or node.status is None or node.status.blocked or node.full:
        return False
    ours = standing(world, node)
    return ours != -1 and (NOTHING if ours is None else ours) <= node.status.level


def prefers_ours(world: World, node: Node) -> bool:
    """Would all that runs there make way for one of our programs? (A node runs programs of one priority at a time.)"""
    ours = standing(world, node)
    return ours not in (None, -1) and node.status is not None and ours < node.status.level < NOTHING and node.status.guests > 0


def common_flags(world: World) -> frozenset[str]:
    """What all processors have that we know of, this one and those of nodes that live."""
    return world.me.flags.intersection(*_others(world))


def any_flags(world: World) -> frozenset[str]:
    """What any of these processors has: what a program may meet."""
    return world.me.flags.union(*_others(world))


def _others(world: World) -> set[frozenset[str]]:
    now = world.clock()
    return {node.flags for node in world.nodes.values() if node.flags and node.ip != world.ip and _usable(world, node, now)}


def arriving(world: World, ip: str, many: float = 1.0) -> None:
    """A program has just come to ``ip``, or will start there; it counts as ``many``."""
    world.coming.reserved.append((world.clock(), ip, many))
    del world.coming.reserved[:-MOST_RESERVED]


def _usable(world: World, node: Node, now: float) -> bool:
    return node.alive(now) and world.map.relation(node.ip).known
