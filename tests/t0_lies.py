"""A partner that has the secret and lies by gossip: of itself, of our own nodes, of what it is (docs/design/security.md)."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterable

import pytest

from mosfs.balance.choose import Process, Switches, decide
from mosfs.balance.cost import DISTANT
from mosfs.balance.exchange import OWN_WORD
from mosfs.cluster.address import as_unsigned, to_ip
from mosfs.cluster.load import ClusterMap
from mosfs.cluster.mosix_map import parse_map, validate_map
from mosfs.cluster.partners import PartnerFile, PartnerRange, validate_partners
from mosfs.daemon import gossip
from mosfs.daemon.gossip import Service
from mosfs.node import guests
from mosfs.node.choice import candidates, choose, takes_ours
from mosfs.node.multi import NOTHING
from mosfs.node.world import World
from mosfs.procfs import node as folder
from mosfs.wire.datagram import NOBODY, BadDatagram, Datagram, Fault, Flag, Item, Welcome, pack_facts, pack_welcome, seal, unseal
from mosfs.wire.messages import PeerStatus

KEY = b"k" * 32
ME, FELLOW, LIAR, CLOSED = "10.0.0.1", "10.0.0.2", "10.1.0.1", "10.2.0.1"
IDLE = PeerStatus(0, 10000, 2, 1000, 2000, 0, False, level=NOTHING)
MOST = (1 << 32) - 1


class Node:
    """Ours, with a clock by hand, to which others speak over a wire that we hold."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.counter = 1_000_000, 0
        monkeypatch.setattr(gossip, "milliseconds", lambda: self.now)
        own = validate_map(parse_map(f"{ME} 2 p\n"), lambda name: None)
        files = {
            "geo": PartnerFile("-", 50, True, True, (PartnerRange(LIAR, 1),)),
            "chem": PartnerFile("-", 60, False, False, (PartnerRange(CLOSED, 1),)),
        }
        known = ClusterMap(own, partners=validate_partners(files, own, lambda name: None))
        self.world = World(ip=ME, map=known, clock=lambda: self.now / 1000, version="0.2.0", speed=10000, port=253, pid=1)
        self.world.me.status, self.world.me.heard = IDLE, self.now / 1000
        ranges = [(as_unsigned(ip), count) for ip, count in ((ME, 2), (LIAR, 1), (CLOSED, 1))]
        self.service = Service.make(self.world, ranges, KEY, 249)
        self.service.exchange.refresh(self.now, pack_facts(IDLE, "0.2.0"))

    def hear(self, sender: str, items: Iterable[Item], *, source: str = "", key: bytes = KEY) -> None:
        """A datagram, and the proof that it is new, as a node sends both."""
        self.counter += 2
        number, exchange = as_unsigned(sender), self.service.exchange
        asked = Datagram(number, 7, self.counter, 99, 0, Flag.NONE, list(items))
        try:
            [(_, answer), *_] = exchange.receive(self.now, as_unsigned(source or sender), seal(asked, key))
        except BadDatagram:
            raise
        if question := unseal(answer, KEY).question:
            exchange.receive(self.now, number, seal(Datagram(number, 7, self.counter + 1, echo=question), key))

    def about(self, ip: str, status: PeerStatus, age: int = 0, priority: int = 0) -> Item:
        return as_unsigned(ip), age, priority, pack_facts(status, "9.9.9")


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Node:
    return Node(monkeypatch)


def dead(ip: str) -> Item:
    return as_unsigned(ip), 0, 200, b"\0" * len(pack_facts(IDLE, "1.0.0"))


def test_nobody_speaks_for_another(node: Node) -> None:
    """Not for a node of our own cluster either, whatever stands in the datagram."""
    for sender, source in ((FELLOW, LIAR), (LIAR, CLOSED), (ME, LIAR), ("9.9.9.9", "9.9.9.9")):
        with pytest.raises(BadDatagram) as caught:
            node.hear(sender, [node.about(FELLOW, IDLE)], source=source)
        assert caught.value.fault is Fault.STRANGER
    assert FELLOW not in node.world.nodes


@pytest.mark.parametrize("lie", ["dead", "blocked", "busy"])
def test_a_partner_is_not_believed_about_our_own_nodes(node: Node, lie: str) -> None:
    """While one of ours has told lately; and what it lied is over with our next own word."""
    told = {"dead": dead(FELLOW), "blocked": node.about(FELLOW, PeerStatus(0, 1, 1, 1, 1, 0, True)),
            "busy": node.about(FELLOW, PeerStatus(MOST, 1, 1, 0, 1, 0, False))}[lie]
    node.hear(FELLOW, [node.about(FELLOW, IDLE)])
    node.now += OWN_WORD - 1
    node.hear(LIAR, [node.about(LIAR, IDLE), told])
    fellow = node.world.nodes[FELLOW]
    assert (fellow.dead, fellow.status) == (False, IDLE) and node.world.nodes[LIAR].status == IDLE
    assert choose(node.world, 0, reserve=False, pick=" ".join) == f"{ME} {FELLOW}"
    node.now += OWN_WORD
    node.hear(LIAR, [told])
    assert fellow.dead or fellow.status != IDLE, "nobody else has told for long: in big clusters the news come from all"
    node.now += 1
    node.hear(FELLOW, [node.about(FELLOW, IDLE)])
    assert (fellow.dead, fellow.status) == (False, IDLE)


def test_a_fellow_is_believed_about_everybody(node: Node) -> None:
    node.hear(LIAR, [node.about(LIAR, IDLE)])
    node.now += 1
    node.hear(FELLOW, [node.about(FELLOW, IDLE), dead(LIAR)])
    assert node.world.nodes[LIAR].dead


@pytest.mark.parametrize("priority", [0, 1, 50, 65535])
def test_priorities_are_ours_to_give(node: Node, priority: int) -> None:
    """A partner may say that ours are welcome and that it runs our own: its programs have the priority of our file, and ours do not
    go where we do not let them."""
    for ip in (LIAR, CLOSED):
        status = PeerStatus(0, 10**6, 64, MOST, MOST, 65535, False, level=priority)
        node.hear(ip, [pack_welcome(Welcome(priority, MOST, full=False)), node.about(ip, status)])
        node.now += 1
    world = node.world
    assert [world.map.relation(ip).priority for ip in (LIAR, CLOSED)] == [50, 60]
    assert guests.unwanted(world, world.map.relation(LIAR)) == "" != guests.unwanted(world, world.map.relation(CLOSED))
    assert not takes_ours(world, world.nodes[CLOSED])
    chosen = choose(world, 0, reserve=False, pick=lambda ips: ips[-1])
    assert chosen != CLOSED


EXTREMES = (0, 1, 65535, 65536, (1 << 31) - 1, MOST)


@pytest.mark.parametrize("seed", range(20))
def test_numbers_at_the_ends_of_their_ranges_end_nothing(node: Node, seed: int) -> None:
    """Whatever a node says of itself, everything that is decided with it, and shown of it, can be."""
    rng = random.Random(seed)
    facts = list(pack_facts(IDLE, "1.0.0"))
    for place in range(0, len(facts) - 2, 2):
        if rng.random() < 0.5:
            facts[place:place + 2] = struct.pack("!H", rng.choice((0, 1, 0x7FFF, 0x8000, 0xFFFF)))
    odd = (as_unsigned(LIAR), 0, rng.choice((0, 255)), bytes(facts))
    welcome = (NOBODY, rng.choice((0, 1, 65536)), 255, struct.pack("!IB", rng.choice(EXTREMES), 1).ljust(len(facts), b"\0"))
    node.hear(LIAR, [welcome, odd])
    world = node.world
    for ip, known in world.nodes.items():
        assert len(folder.rstatus(world, known).split()) == 12, ip
        folder.processor(world, known)
        folder.cluster_of(world, known)
    found = {one.ip: one for one in candidates(world)}
    others = [one for one in found.values() if one.ip != ME]
    assert all(one.mem_free <= max(one.mem_total, one.mem_free if not one.mem_total else 0) for one in others)
    process = Process(1, "x", "", 100.0, 100.0, 1.0, 100)
    for choose_one in (lambda ips: ips[0], lambda ips: ips[-1]):
        choose(world, 1, reserve=False, pick=choose_one)
        decide(found[ME], others, [process], Switches(), lambda ip: DISTANT, choose_one)


def test_a_welcome_that_is_none_changes_nothing(node: Node) -> None:
    node.hear(LIAR, [pack_welcome(Welcome(7)), node.about(LIAR, IDLE)])
    node.now += 1
    size = len(pack_facts(IDLE, "1.0.0"))
    for shifted in (-5, 65537, (1 << 31) - 1):
        with pytest.raises(BadDatagram):
            node.hear(LIAR, [(NOBODY, shifted, 0, b"\1" * size)])
    assert node.world.nodes[LIAR].standing == 7


def test_a_map_that_changes_forgets_whose_word_it_was(node: Node) -> None:
    """Places are numbered anew; who was ours may be a partner's now."""
    node.hear(FELLOW, [node.about(FELLOW, IDLE)])
    own = validate_map(parse_map(f"{ME} 1 p\n"), lambda name: None)
    files = {"new": PartnerFile("-", 50, True, True, (PartnerRange(FELLOW, 1),))}
    node.world.map = ClusterMap(own, partners=validate_partners(files, own, lambda name: None))
    node.service.follow([(as_unsigned(ME), 2)])
    node.now += 1
    node.hear(FELLOW, [node.about(FELLOW, PeerStatus(5, 1, 1, 1, 1, 0, False))])
    assert node.world.nodes[FELLOW].status.load == 5  # type: ignore[union-attr]
    assert to_ip(as_unsigned(FELLOW)) == FELLOW
