"""The loads of nodes over the last hour, as this one knew them; mosmon(1), --html, draws them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from mosfs.node.nodes import Node
from mosfs.node.world import World

#: Seconds between two notes, and how many are kept of each node: an hour's.
PERIOD, KEPT = 30.0, 120
#: What stands for a load that was not known.
UNKNOWN = -1
#: Of so many nodes the loads are told.
MOST_TOLD = 1000


def note(world: World) -> None:
    """Note the load that each node has now. One of which we have just heard has fewer notes; its last is as old as theirs."""
    now = world.clock()
    for node in world.nodes.values():
        node.loads.append(_now(world, node, now))
        del node.loads[:-KEPT]


def _now(world: World, node: Node, now: float) -> int:
    if node.status is None or not (node.ip == world.ip or node.alive(now)):
        return UNKNOWN
    return node.status.load


def told(world: World) -> Iterator[tuple[str, list[int | None]]]:
    """IP and notes, the oldest first, of each node of which there are some; None for a load that was not known."""
    noted = (node for node in world.nodes.values() if node.loads and world.map.relation(node.ip).known)
    for node in islice(noted, MOST_TOLD):
        yield node.ip, [None if load == UNKNOWN else load for load in node.loads]
