"""The folder ``node/`` beyond plain facts: what root switches, what anyone may ask, and a node's facts in raw numbers.

    switches    stay lstay block expel bring shutdown reload    a write does it, or begins it
    questions   best whois                                      written, then read back on the same open file
    tables      rstatus cluster loads map partners              made anew at each read
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import islice

import msgspec

from mosfs.abi.levels import level_of
from mosfs.abi.outcomes import UNDER_WAY
from mosfs.cluster.address import as_unsigned, to_ip
from mosfs.cluster.partners import OWN_PRIORITY
from mosfs.node import guests
from mosfs.node import loads as noted
from mosfs.node.choice import choose, common_flags, prefers_ours, takes_ours
from mosfs.node.nodes import Bit, Node, NotInMap
from mosfs.node.programs import Guest, Program, away
from mosfs.node.world import World
from mosfs.wire.messages import Command, PeerStatus

PAGES_IN_MB = 256
#: Of the status, what a node itself may say of itself.
TOLD = Bit.STAY | Bit.LSTAY | Bit.BLOCK
#: Swap space is counted in tenths of these.
GIGABYTE = 1024
#: Seconds.
HOUR = 3600

#: Nodes of a range of a partner-cluster that are listed.
MOST_LISTED = 1000

NONE_FITS = "0"
NO_NUMBER = "-"

#: One row of `cluster` has these, in this order; memory and swap in megabytes, null while nothing is known of the node.
CLUSTER_FIELDS = (
    "number", "ip", "status", "load", "speed", "ncpus", "mem_free", "mem_total", "swap_free", "swap_total", "frozen",
    "paging", "guests",
)
_FROM_STATUS = CLUSTER_FIELDS[3:]

_json = msgspec.json.Encoder()

# --------------------------------------------------------------------------- facts


def condition(world: World, node: Node) -> str:
    """alive, blocked, dead or unknown."""
    if node.status is None:
        return "unknown"
    if not fresh(world, node):
        return "dead"
    return "blocked" if node.status.blocked else "alive"


def fresh(world: World, node: Node) -> bool:
    """Is what we know of the node not too old? Of this one it never is."""
    return node.ip == world.ip or node.alive(world.clock())


def bits(world: World, node: Node) -> Bit:
    """The status of mosctl(1), rstatus."""
    found = Bit.OURS if world.map.relation(node.ip).known else Bit(0)
    if node.status is None:
        return found
    found |= Bit.KNOWN | Bit(node.status.bits) & TOLD | Bit.BLOCK * node.status.blocked
    if fresh(world, node):
        found |= Bit.FRESH | Bit.WELCOME * takes_ours(world, node) | Bit.PREFERS_US * prefers_ours(world, node)
    return found


def cluster_of(world: World, node: Node) -> dict[str, object]:
    """Which cluster it is in ("" = ours), and what it and we say of each other's programs (docs/design/clusters.md)."""
    relation = world.map.relation(node.ip)
    return {
        "near": relation.near, "cluster": relation.partner, "priority": relation.priority, "cango": relation.cango,
        "cantake": relation.cantake, "standing": 0 if relation.own else node.standing,
    }


def processor(world: World, node: Node) -> dict[str, object]:
    """What is known of its processor: level of the psABI, flags (`abi.cpu`), and those of this node that it lacks; null if unknown.

    Of this node also which all nodes have that are up."""
    if not node.flags:
        return {"cpu_level": None, "cpu_features": None, "cpu_lacks": None}
    facts: dict[str, object] = {
        "cpu_level": level_of(node.flags), "cpu_features": sorted(node.flags), "cpu_lacks": sorted(world.me.flags - node.flags),
    }
    return {**facts, "cpu_common": sorted(common_flags(world))} if node is world.me else facts


def rstatus(world: World, node: Node) -> str:
    """The twelve integers of mosctl(1), rstatus, in the manual's order.

    status, load, availability, speed, ncpus, frozen, available and total memory (pages), free and total swap (0.1 GB),
    memory of guests that would make way for ours (pages), MOSIX processes. What is not known is 0.
    """
    privileged = guests.privileged_mb(world, OWN_PRIORITY) if node is world.me else node.privileged_mb
    status = node.status or PeerStatus(0, 0, 0, 0, 0, 0, False)
    numbers = (
        int(bits(world, node)), status.load, status.level, status.speed, status.ncpus, status.frozen,
        status.mem_free * PAGES_IN_MB, status.mem_total * PAGES_IN_MB,
        status.swap_free * 10 // GIGABYTE, status.swap_total * 10 // GIGABYTE, privileged * PAGES_IN_MB, status.processes,
    )
    return " ".join(map(str, numbers))


def cluster(world: World, _: Node) -> str:
    """Every node with a node-number (mosmon(1) shows those), in the order of numbers, as one line of JSON."""
    return _json.encode({"fields": CLUSTER_FIELDS, "nodes": list(_rows(world))}).decode()


def _rows(world: World) -> Iterator[tuple[object, ...]]:
    for ip, number in world.map.numbers():
        node = world.nodes.get(ip) or Node(ip)
        known = node.status
        facts = [None if known is None else getattr(known, name) for name in _FROM_STATUS]
        yield (number, ip, condition(world, node), *facts)


def loads(world: World, _: Node) -> str:
    """What `noted` has kept, as one line of JSON. ``period``: seconds from one to the next."""
    return _json.encode({"period": noted.PERIOD, "nodes": dict(noted.told(world))}).decode()


def partners(world: World, _: Node) -> str:
    """Every partner-cluster as the map has it, as one line of JSON; an isolated node has none."""
    rows = [
        {
            "name": partner.name, "description": partner.description, "priority": partner.priority, "cango": partner.cango,
            "cantake": partner.cantake, "standing": world.multi.told.get(partner.name),
            "evictions": round(world.multi.eviction_rate(partner.name, world.clock()) * HOUR, 3),
            "nodes": [to_ip(address) for span in partner.ranges for address in _first(range(span.first, span.first + span.count))],
        }
        for partner in world.map.partners
    ]
    return _json.encode(rows).decode()


def _first(addresses: Iterable[int]) -> Iterable[int]:
    """A range may be of a million nodes that are holes."""
    return islice(addresses, MOST_LISTED)


# --------------------------------------------------------------------------- switches


def switch(field: str) -> Callable[[World, Node, str], None]:
    """Setting the World's ``field`` to 0 or 1. What other nodes know of us changes with the next status."""

    def change(world: World, _: Node, text: str) -> None:
        setattr(world.switches, field, _on(text))
        if world.me.status is not None:
            world.me.status = guests.counted(world, world.me.status)

    return change


def _on(text: str) -> bool:
    if text.strip() not in ("0", "1"):
        raise ValueError(text)
    return text.strip() == "1"


def _must_be_one(text: str) -> None:
    if not _on(text):
        raise ValueError(text)


def expel(world: World, _: Node, text: str) -> None:
    _must_be_one(text)
    send_guests_out(world)


def bring(world: World, _: Node, text: str) -> None:
    _must_be_one(text)
    bring_programs_home(world)


def shutdown(world: World, _: Node, text: str) -> None:
    _must_be_one(text)
    for name in ("stay", "lstay", "blocked"):
        switch(name)(world, world.me, "1")
    world.switches.ending = True
    world.switches.on_ending()


def reload(world: World, _: Node, text: str) -> None:
    """Read the configuration again; ``text``: the path of another mosix.map, nothing for the usual, "." for that which holds."""
    path = text.strip()
    if path == ".":
        path = world.reload.mosix_map
    if path and not path.startswith("/"):
        raise ValueError(path)
    world.reload.number += 1
    world.reload.result = UNDER_WAY
    world.reload.begin(path)


def misplaced(world: World) -> tuple[list[Program], list[Guest]]:
    """Programs of this node on nodes where they may not be any more, and guests from nodes that may send us none, or not so many
    (mossetpe(1), mosctl(1))."""
    programs = [
        program for program in world.programs.values()
        if program.state.where and not world.may_go(program.state.uid, program.state.where)
    ]
    too_many = guests.outranked(world)
    return programs, [
        guest for guest in world.guests.values() if guest in too_many or not world.map.relation(guest.state.home).cantake
    ]


def count_misplaced(world: World) -> int:
    programs, guests = misplaced(world)
    return len(programs) + len(guests)


def send_guests_out(world: World, guests: Iterable[Guest] | None = None) -> None:
    """Ask the guests' (all guests') home-nodes to take them back. To be repeated: one that moves just now hears nothing."""
    for guest in world.guests.values() if guests is None else guests:
        with suppress(ConnectionError):
            guest.send(Command(guest.state.pid, "out", ""))


def bring_programs_home(world: World, programs: Iterable[Program] | None = None) -> None:
    """Order home those (of all) that are away and not on their way home already. To be repeated, like `send_guests_out`."""
    for program in world.programs.values() if programs is None else programs:
        if away(program.state) and not (program.moving and not program.last_target):
            with suppress(ConnectionError):
                world.move_to(program, "")


def programs_away(world: World) -> int:
    return sum(away(program.state) for program in world.programs.values())


# --------------------------------------------------------------------------- questions


def best(world: World, _: Node, text: str) -> str:
    """The IP of the best node for one more program, "0" when none fits (mosbestnode(1)).

    ``text``: words ``mem=MB`` (free memory that is needed) and ``reserve`` (a program will start there soon).
    """
    need, reserve = 0, False
    for word in text.split():
        key, _equals, value = word.partition("=")
        if word == "reserve":
            reserve = True
        elif key == "mem" and value.isdecimal():
            need = int(value)
        else:
            raise ValueError(word)
    return choose(world, need, reserve=reserve) or NONE_FITS


def whois(world: World, _: Node, text: str) -> str:
    """IP and node-number (or ``-``) of the node that ``text`` names by one of them; this node for no text."""
    word = text.strip()
    if not word:
        ip = world.ip
    elif "." in word:
        as_unsigned(word)
        ip = world.map.canonical(word)
    elif word.isdecimal():
        ip = world.map.ip_of(int(word)) or ""
    else:
        raise ValueError(word)
    if not ip or not world.map.relation(ip).known:
        raise NotInMap(word)
    number = world.map.number_of(ip)
    return f"{ip} {NO_NUMBER if number is None else number}"
