"""The file node/metrics: what this node knows, in the text format that Prometheus reads (docs/metrics.md).

Values of labels are few and of our own choice, or an administrator's (names of clusters): never a user's text. What is not known is
left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from statistics import median
from typing import NamedTuple

from mosfs.node.counts import BOUNDS, RESULTS, WISHES, Times
from mosfs.node.nodes import Node
from mosfs.node.programs import away
from mosfs.node.world import World
from mosfs.procfs.node import condition, fresh
from mosfs.wire.messages import PeerStatus

MEGABYTE = 1 << 20
#: A standard processor has this speed, and a load of one program this number.
SPEED, LOAD = 10000, 100
#: Guests of our own cluster, and of nodes that are in no cluster any more. A partner of the same name counts there too.
OURS, NOBODY = "our own", "none any more"
#: Counters of gossip that are no faults.
TRAFFIC = ("sent", "received", "bytes_sent", "bytes_received")

Labels = Mapping[str, str]


class Family(NamedTuple):
    """``samples``: what is appended to the name, labels, value."""

    name: str
    type: str
    help: str
    samples: list[tuple[str, Labels, float]]


def _one(name: str, type_: str, help_: str, value: float) -> Family:
    return Family(name, type_, help_, [("", {}, value)])


def _gauge(name: str, help_: str, value: float) -> Family:
    return _one(name, "gauge", help_, value)


def _by(name: str, type_: str, help_: str, label: str, values: Mapping[str, float]) -> Family:
    return Family(name, type_, help_, [("", {label: key}, value) for key, value in values.items()])


def metrics(world: World) -> str:
    """All families, one sample a line, with "# EOF" at the end."""
    return "".join(map(_family, families(world))) + "# EOF"


def families(world: World) -> Iterator[Family]:
    counts, now = world.counts, world.clock()
    yield Family("mosfs_build_info", "gauge", "Version of the software; always 1.", [("", {"version": world.version}, 1)])
    yield _gauge("mosfs_uptime_seconds", "Time since mosd began.", max(0.0, now - counts.since))
    if world.me.status is not None:
        yield from _of_status(world.me.status)
    yield _gauge("mosfs_programs", "Programs whose home-node this is.", len(world.programs))
    yield _gauge("mosfs_programs_away", "Those of them that are away.", sum(away(each.state) for each in world.programs.values()))
    yield _by("mosfs_guests", "gauge", "Guests on this node, by the cluster that they come from.", "cluster", _guests(world))
    moves = {(wish, result): counts.moves[wish, result] for wish in WISHES for result in RESULTS}
    yield Family("mosfs_moves_total", "counter", "Moves of programs of this node, by who wished them and how they ended.", [
        ("", {"reason": wish, "result": result}, number) for (wish, result), number in moves.items()
    ])
    yield _histogram("mosfs_move_freeze_seconds", "How long programs of this node stood still in their moves.", counts.still)
    yield _one("mosfs_decisions_total", "counter", "Lines that node/decisions has had.", counts.decisions)
    yield _one("mosfs_forwarded_calls_total", "counter", "System calls made here for programs that are away.", counts.forwarded)
    yield from _others(world, now)
    yield from _gossip(counts.gossip)


def _of_status(status: PeerStatus) -> Iterator[Family]:
    yield _gauge("mosfs_load_ratio", "Programs that want a processor, for each processor of standard speed.", status.load / LOAD)
    yield _gauge("mosfs_speed_ratio", "Speed of a processor; a standard one has 1.", status.speed / SPEED)
    yield _gauge("mosfs_cpus", "Processors.", status.ncpus)
    yield _gauge("mosfs_memory_available_bytes", "Memory that programs could still get.", status.mem_free * MEGABYTE)
    yield _gauge("mosfs_memory_size_bytes", "Memory in all.", status.mem_total * MEGABYTE)
    yield _gauge("mosfs_swap_free_bytes", "Free swap space.", status.swap_free * MEGABYTE)
    yield _gauge("mosfs_swap_size_bytes", "Swap space in all.", status.swap_total * MEGABYTE)
    yield _gauge("mosfs_paging_pages_per_second", "Pages from and to swap.", status.paging)
    yield _gauge("mosfs_frozen", "Programs that are frozen.", status.frozen)
    yield _gauge("mosfs_processes", "MOSIX processes that run here.", status.processes)
    yield _gauge("mosfs_blocked", "1 while no guests are let in.", status.blocked)


def _guests(world: World) -> Mapping[str, float]:
    found = Counter({OURS: 0, **{partner.name: 0 for partner in world.map.partners}})
    for guest in world.guests.values():
        relation = world.map.relation(guest.state.home)
        found[relation.partner or (OURS if relation.known else NOBODY)] += 1
    return found


def _others(world: World, now: float) -> Iterator[Family]:
    """How many nodes there are, by what is known of them, and the age of that news."""
    nodes: list[Node] = [node for node in list(world.nodes.values()) if node.status is not None]
    conditions = Counter({"alive": 0, "blocked": 0, "dead": 0})
    conditions.update(condition(world, node) for node in nodes)
    yield _by("mosfs_nodes", "gauge", "Nodes that have been heard of, this one included.", "condition", conditions)
    ages = [max(0.0, now - node.heard) for node in nodes if node.ip != world.ip and fresh(world, node)]
    if ages:
        yield _gauge("mosfs_news_age_median_seconds", "Age of what is known of the other nodes that are up.", median(ages))
        yield _gauge("mosfs_news_age_oldest_seconds", "The highest of these ages.", max(ages))


def _gossip(counters: Mapping[str, int]) -> Iterator[Family]:
    ways = {"sent": "sent", "received": "received"}
    yield _by("mosfs_gossip_messages_total", "counter", "Messages of the exchange of information.", "way",
              {way: counters.get(name, 0) for way, name in ways.items()})
    yield _by("mosfs_gossip_bytes_total", "counter", "Bytes of these messages.", "way",
              {way: counters.get(f"bytes_{name}", 0) for way, name in ways.items()})
    if faults := {name: number for name, number in sorted(counters.items()) if name not in TRAFFIC}:
        yield _by("mosfs_gossip_faults_total", "counter", "What was lost, or counted for nothing, and why.", "fault", faults)


def _histogram(name: str, help_: str, times: Times) -> Family:
    below = list(accumulate(times.counts))
    buckets = zip([*map(_number, BOUNDS), "+Inf"], below)
    return Family(name, "histogram", help_, [
        *(("_bucket", {"le": bound}, number) for bound, number in buckets), ("_sum", {}, times.sum), ("_count", {}, below[-1]),
    ])


# --------------------------------------------------------------------------- text


def _family(family: Family) -> str:
    lines = [f"# HELP {family.name} {family.help}", f"# TYPE {family.name} {family.type}"]
    lines += [f"{family.name}{suffix}{_labels(labels.items())} {_number(value)}" for suffix, labels, value in family.samples]
    return "\n".join(lines) + "\n"


def _labels(labels: Iterable[tuple[str, str]]) -> str:
    inner = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels)
    return f"{{{inner}}}" if inner else ""


def _escaped(text: str) -> str:
    """For a label; a file name, of which a partner's name is one, need not be UTF-8."""
    text = text.encode(errors="replace").decode()
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))
