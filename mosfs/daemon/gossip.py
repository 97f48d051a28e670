"""The exchange of information with other nodes: UDP, a step every half second, into ``World.nodes``."""

from __future__ import annotations

import contextlib
import logging
import socket
import time
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random

import trio

from mosfs.abi import cpu
from mosfs.abi.texts import Text, text
from mosfs.balance import ages
from mosfs.balance.exchange import Exchange, Outgoing
from mosfs.balance.gossip import Entry, Gossip
from mosfs.cluster.address import as_unsigned, to_ip
from mosfs.daemon.lifecycle import StartError
from mosfs.daemon.tasks import survived
from mosfs.node import guests
from mosfs.node.nodes import Node
from mosfs.node.world import World
from mosfs.wire import origin
from mosfs.wire.datagram import MAX_DATAGRAM, BadDatagram, Fault, Welcome, pack_facts, unpack_facts

log = logging.getLogger(__name__)

STEP = 0.5
#: Entries in a message, with the own one; they fit into one datagram.
WINDOW = 16
#: Seconds after which what we know of a node is too old, if the cluster is so small that it could be less.
LEAST_MAX_AGE = 15.0
#: Nodes whose forged datagrams the log mentions, once each.
MAX_COMPLAINTS = 64


class Ranges:
    """The nodes of a map as numbers, by (first, count) of its ranges, sorted and apart. Places count them through all ranges."""

    def __init__(self, ranges: Iterable[tuple[int, int]]) -> None:
        pairs = list(ranges)
        self._firsts = [first for first, _ in pairs]
        self._counts = [count for _, count in pairs]
        self._ends = list(accumulate(self._counts))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def place(self, address: int) -> int:
        """-1 for what is in no range."""
        at = bisect_right(self._firsts, address) - 1
        if at < 0 or address >= self._firsts[at] + self._counts[at]:
            return -1
        return self._ends[at] - self._counts[at] + address - self._firsts[at]

    def address(self, place: int) -> int:
        at = bisect_right(self._ends, place)
        return self._firsts[at] + place - (self._ends[at] - self._counts[at])

    def places(self, addresses: Iterable[int]) -> list[int]:
        """Most maps are one range, and gossip asks for all of a message."""
        if len(self._firsts) != 1:
            return [self.place(address) for address in addresses]
        first, count = self._firsts[0], self._counts[0]
        return [place if 0 <= (place := address - first) < count else -1 for address in addresses]

    def addresses(self, places: Iterable[int]) -> list[int]:
        if len(self._firsts) != 1:
            return [self.address(place) for place in places]
        first = self._firsts[0]
        return [first + place for place in places]


def place_among(me: int, members: Ranges) -> tuple[int, int]:
    """Our place among how many: one behind the others when the map is without us."""
    place = members.place(me)
    return (len(members), len(members) + 1) if place < 0 else (place, len(members))


def milliseconds() -> int:
    """Our clock: nobody can set it, and it goes on while the machine sleeps."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


@dataclass(slots=True)
class Service:
    """The exchange of this node, from ``World.me`` into the other nodes of the World."""

    world: World
    exchange: Exchange
    max_age: float
    port: int
    complained: set[int]

    @classmethod
    def make(cls, world: World, ranges: Iterable[tuple[int, int]], key: bytes, port: int) -> Service:
        members = Ranges(ranges)
        random = Random()
        steps = ages.max_age_for(len(members), WINDOW)
        max_age = max(LEAST_MAX_AGE, steps * STEP)
        me = as_unsigned(world.ip)
        place, size = place_among(me, members)
        gossip = Gossip(place, WINDOW, round(max_age * 1000), size, random)
        exchange = Exchange(
            me, gossip, members, key, lambda entries: service.learn(entries),
            welcome=lambda node: service.welcome(node), told=lambda node, welcome: service.told(node, welcome),
        )
        service = cls(world, exchange, max_age, port, set())
        world.counts.gossip, world.coming.recent = service.exchange.counters, service.recent
        service.tell_apart()
        return service

    async def run(self, sock: trio.socket.SocketType) -> None:
        """Talk to the other nodes until cancelled; then they hear that we end."""
        self._refresh()  # whoever asks before our first step shall hear that we live
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._listen, sock)
                await self._speak(sock)
        finally:
            with trio.move_on_after(0.2, shield=True):
                await self._send(sock, self.exchange.farewell(milliseconds()))

    def recent(self) -> list[str]:
        """The nodes of the window."""
        places = [place for _, place, facts in self.exchange.gossip.window if facts]
        return list(map(to_ip, self.exchange.members.addresses(places)))

    def learn(self, entries: Sequence[Entry]) -> None:
        """What was new, into the World."""
        now, clock = milliseconds(), self.world.clock()
        for birth, number, facts in entries:
            ip = to_ip(number)
            node = self.world.nodes.get(ip)
            if node is None:
                node = self.world.nodes[ip] = Node(ip)
            if facts:
                status, node.version, processor = unpack_facts(facts)
                node.flags, node.max_age = cpu.unpacked(processor), self.max_age
                if (heard := clock - (now - birth) / 1000) >= node.heard:  # a link may have brought newer ones
                    node.status, node.heard = status, heard
            if node.dead is bool(facts):
                log.info("node %s is %s", ip, "back" if facts else "dead")
            node.dead = not facts

    def welcome(self, number: int) -> Welcome | None:
        """What the node ``number`` is told of its programs here; nothing while there are no other clusters."""
        world = self.world
        if not world.map.partners:
            return None
        relation = world.map.relation(to_ip(number))
        privileged = guests.privileged_mb(world, relation.priority)
        return Welcome(guests.standing(relation), privileged, guests.full(world, relation))

    def told(self, number: int, welcome: Welcome) -> None:
        """What a node says of our programs there."""
        ip = to_ip(number)
        relation = self.world.map.relation(ip)
        node = self.world.nodes.setdefault(ip, Node(ip))
        node.standing, node.privileged_mb, node.full = welcome.priority, welcome.privileged_mb, welcome.full
        if relation.partner:
            self.world.multi.told[relation.partner] = welcome.priority

    def follow(self, ranges: Iterable[tuple[int, int]]) -> None:
        """The map changed: who is no member any more is forgotten."""
        old, new = self.exchange.members, Ranges(ranges)
        self.exchange.members = new
        self.tell_apart()
        self.exchange.gossip.renumber(*place_among(self.exchange.me, new), lambda place: new.place(old.address(place)))
        for ip in [ip for ip in self.world.nodes if ip != self.world.ip and new.place(as_unsigned(ip)) < 0]:
            if not self.world.nodes[ip].links:
                del self.world.nodes[ip]

    def tell_apart(self) -> None:
        """The map says who is of our own cluster."""
        known = self.world.map
        self.exchange.tell_apart((lambda number: known.relation(to_ip(number)).own) if known.partners else None)

    async def _speak(self, sock: trio.socket.SocketType) -> None:
        random = self.exchange.gossip.random
        await trio.sleep(random.random() * STEP)  # nodes that start together shall not speak together
        while True:
            with survived("a step of gossip"):
                self._refresh()
                await self._send(sock, self.exchange.step(milliseconds()))
            await trio.sleep(STEP)

    def _refresh(self) -> None:
        if status := self.world.me.status:
            self.exchange.refresh(milliseconds(), pack_facts(status, self.world.version, cpu.packed(self.world.me.flags)))

    async def _listen(self, sock: trio.socket.SocketType) -> None:
        while True:
            try:
                data, address = await sock.recvfrom(MAX_DATAGRAM + 1)
            except OSError as error:
                log.debug("receiving: %s", error)
                continue
            with survived("a datagram"):
                await self._received(sock, address[0], data)

    async def _received(self, sock: trio.socket.SocketType, address: str, data: bytes) -> None:
        source = self.world.map.canonical(address)
        try:
            answers = self.exchange.receive(milliseconds(), as_unsigned(source), data)
        except BadDatagram as error:
            self._complain(source, error.fault)
        else:
            await self._send(sock, answers)

    async def _send(self, sock: trio.socket.SocketType, outgoing: Iterable[Outgoing]) -> None:
        for number, data in outgoing:
            with contextlib.suppress(OSError):  # no route just now: it counts as lost on the way
                await sock.sendto(data, (to_ip(number), self.port))

    def _complain(self, source: str, fault: Fault) -> None:
        """A wrong secret is worth a line, once for each node."""
        number = as_unsigned(source)
        if fault is Fault.FORGED and number not in self.complained and self.exchange.members.place(number) >= 0:
            if len(self.complained) < MAX_COMPLAINTS:
                log.error(text(Text.AUTHENTICATION, computer=source))
            self.complained.add(number)


@contextlib.contextmanager
def listen_gossip(ip: str, port: int) -> Iterator[trio.socket.SocketType]:
    """The UDP port, on the node's own address only."""
    plain = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        if origin.is_roots(port):  # other nodes send from the same one
            origin.without_users(plain)
        plain.bind((ip, port))
    except OSError as error:
        plain.close()
        raise StartError(f"{ip} port {port} (UDP): {error.strerror or error}") from None
    with trio.socket.from_stdlib_socket(plain) as sock:
        yield sock
