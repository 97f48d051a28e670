"""Gossip as pure functions: vectors and windows, deaths, closed forms, datagrams, and exchanges without a network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mosfs.abi import cpu
from mosfs.balance import ages
from mosfs.balance.exchange import ANSWER_TIME, TRIES, Exchange
from mosfs.balance.gossip import DEAD, NEVER, Contact, Entry, Gossip, priority_of_death
from mosfs.daemon.gossip import WINDOW, Ranges, place_among
from mosfs.node.choice import candidates
from mosfs.node.nodes import Node
from mosfs.node.world import World
from mosfs.wire.datagram import (
    MAX_DATAGRAM,
    MAX_ENTRIES,
    BadDatagram,
    Datagram,
    Fault,
    Flag,
    Seen,
    pack_facts,
    seal,
    unpack_facts,
    unseal,
)
from mosfs.wire.messages import PeerStatus
from tests.fake_map import FakeMap

PLACES_NOW = {"3dnow": 0, "aes": 5, "avx": 12, "avx2": 13, "avx512f": 27, "fma": 50, "pku": 69, "sse2": 88, "xsavec": 102}
KEY, OTHER_KEY = b"k" * 32, b"o" * 32
FACTS = pack_facts(PeerStatus(100, 10000, 2, 10, 20, 0, False), "0.1.0")
NODES = 12
ME = 0

entries = st.lists(
    st.tuples(st.integers(0, 1000), st.integers(1, NODES - 1), st.sampled_from([FACTS, DEAD])),
    unique_by=lambda entry: entry[1], max_size=NODES,
)


def gossip(me: int = ME, width: int = 5, max_age: int = 10**9, seed: int = 1) -> Gossip:
    made = Gossip(me, width, max_age, NODES, Random(seed))
    made.refresh(0, FACTS)
    return made


def newest(*messages: list[Entry]) -> dict[int, int]:
    births: dict[int, int] = {}
    for message in messages:
        for birth, node, _ in message:
            births[node] = max(birth, births.get(node, NEVER))
    return births


# --------------------------------------------------------------------------- what a node knows


@given(st.lists(entries, max_size=6))
def test_the_newest_wins_and_the_window_is_the_newest(messages: list[list[Entry]]) -> None:
    node = gossip()
    for message in messages:
        node.merge(message)
        node.merge(message)  # again: nothing changes
    known = newest(*messages)
    assert {n: node.births[n] for n in known} == known
    assert all(node.births[n] == birth for birth, n, _ in node.window)
    assert [birth for birth, _, _ in node.window] == sorted(known.values(), reverse=True)[: node.width - 1]


@given(st.lists(entries, max_size=5), st.randoms())
def test_the_order_of_messages_does_not_matter(messages: list[list[Entry]], random: Random) -> None:
    one, other = gossip(), gossip()
    for message in messages:
        one.merge(message)
    random.shuffle(messages)
    for message in messages:
        other.merge(message)
    births = newest(*messages)
    assert {n: one.births[n] for n in births} == {n: other.births[n] for n in births} == births
    ties = [birth for message in messages for birth, _, _ in message]
    if len(set(ties)) == len(ties):
        assert set(one.alive.nodes) == set(other.alive.nodes)
        assert one.window == other.window


@given(st.lists(entries, max_size=5))
def test_alive_is_who_said_so_last(messages: list[list[Entry]]) -> None:
    node, said = gossip(), dict[int, tuple[int, bool]]()
    for message in messages:
        node.merge(message)
        for birth, n, facts in message:
            if birth > said.get(n, (NEVER, False))[0]:
                said[n] = birth, facts != DEAD
    assert set(node.alive.nodes) == {n for n, (_, lives) in said.items() if lives}


def test_nobody_can_tell_us_about_ourselves() -> None:
    node = gossip()
    assert node.merge([(10**9, ME, DEAD)]) == []
    assert [entry[1] for entry in node.message()[0]] == [ME]


@given(entries, st.integers(1001, 2000))
def test_a_message_has_no_node_twice(message: list[Entry], now: int) -> None:
    node = gossip(width=6)
    node.merge(message)
    node.refresh(now, FACTS)
    for n in node.alive.nodes[:2]:
        node.lost(n, now)
    for _ in range(8):
        told, urgent = node.message()
        assert len({entry[1] for entry in told}) == len(told) <= node.width
        assert told[0] == (now, ME, FACTS)
        assert set(urgent) <= {entry[1] for entry in told if entry[2] == DEAD}


class Steady(Random):
    """Never explores."""

    def random(self) -> float:
        return 0.2 + 0.8 * super().random()


def test_the_oldest_is_addressed_and_push_and_pull_take_turns() -> None:
    node = gossip()
    node.random = Steady()
    node.merge([(100 + n, n, FACTS) for n in range(1, NODES)])
    assert [node.contact() for _ in range(4)] == [Contact(1, False), Contact(2, True), Contact(3, False), Contact(4, True)]
    node.merge([(500, 5, FACTS)])
    assert node.contact() == Contact(6, False)


def test_now_and_then_any_node_of_the_map_is_tried() -> None:
    node = gossip()
    node.merge([(100, n, FACTS) for n in range(1, 11)])
    tried = [contact.node for _ in range(1000) if (contact := node.contact())]
    assert 1 <= tried.count(NODES - 1) < 30  # one step in ten tries one of twelve, and nobody knew that one


@given(st.integers(65, 400), st.randoms())
def test_the_oldest_of_many(count: int, random: Random) -> None:
    """More than a sample: the steps must go through all in the order of their age, whatever the limit of a sort was."""
    node = Gossip(ME, 8, 10**9, count + 1, Steady(count))
    births = list(range(1, count + 1))
    random.shuffle(births)
    node.merge([(birth, n, FACTS) for n, birth in enumerate(births, 1)])
    addressed = []
    for now in range(1000, 1000 + count):
        contact = node.contact()
        assert contact
        addressed.append(births[contact.node - 1])
        node.merge([(now, contact.node, FACTS)])
    assert addressed == list(range(1, count + 1))


def test_too_old_is_dead_until_something_newer_comes() -> None:
    node = gossip(max_age=50)
    node.merge([(0, 1, FACTS), (40, 2, FACTS)])
    assert node.refresh(50, FACTS) == []
    assert node.refresh(51, FACTS) == [1]
    assert node.alive.nodes == [2]
    assert node.merge([(45, 1, FACTS)]) and 1 in node.alive


def test_a_clock_that_goes_back_forgets_everything() -> None:
    node = gossip()
    node.refresh(100, FACTS)
    node.merge([(90, 1, FACTS)])
    node.refresh(50, FACTS)
    assert len(node.alive) == 0 and node.window == [] and node.births[1] == NEVER
    node.merge([(20, 1, FACTS)])
    assert node.alive.nodes == [1]


def test_a_new_map_keeps_what_is_known_of_who_stays() -> None:
    """Nodes 2 and 3 leave; 4 and 5 take their places, one behind us, who are the last now."""
    node = gossip(width=8)
    node.merge([(5 + n, n, FACTS) for n in range(1, 6)] + [(11, 6, DEAD), (12, 7, DEAD)])
    node.lost(3, 20)
    node.lost(5, 21)
    node.renumber(4, 5, lambda n: {1: 0, 4: 1, 5: 2, 6: 3}.get(n, -1))
    assert node.births.tolist()[:4] == [6, 9, 21, 11] and sorted(node.alive.nodes) == [0, 1]
    assert [entry[:2] for entry in node.window] == [(21, 2), (11, 3), (9, 1), (6, 0)]
    assert list(node.urgent) == [2] and node.message()[0][0][1] == 4
    assert node.merge([(10**9, 4, DEAD), (22, 3, FACTS)]) == [(22, 3, FACTS)]
    assert sorted(node.alive.nodes) == [0, 1, 3]
    node.random = Steady()
    assert [node.contact() for _ in range(3)] == [Contact(0, False), Contact(1, True), Contact(3, False)]


@pytest.mark.parametrize("count", [10, 100, 300])
def test_death_spreads_and_stops(count: int) -> None:
    nodes = [Gossip(me, 8, 10**9, count, Random(me)) for me in range(count)]
    everyone = [(0, n, FACTS) for n in range(count)]
    for node in nodes:
        node.refresh(0, FACTS)
        node.merge(everyone)
    dead = count - 1
    nodes[0].lost(dead, 1)
    assert nodes[0].urgent == {dead: priority_of_death(count - 1)}
    living = nodes[:-1]
    for now in range(2, 60):
        for node in living:
            node.refresh(now, FACTS)
            other = living[node.random.randrange(len(living))]
            if other is not node:
                other.merge(*node.message())
    assert sum(dead not in node.alive for node in living) >= 0.7 * len(living)  # the others ask it themselves soon
    assert not any(node.urgent for node in living)
    living[0].merge([(100, dead, FACTS)])
    assert dead in living[0].alive


# --------------------------------------------------------------------------- closed forms


@pytest.mark.parametrize(("n", "w", "mean", "maximum"), [
    (100, 8, 14.0, 64), (256, 16, 18.3, 97), (1000, 32, 34.2, 234), (1000, 256, 9.1, 29), (10000, 256, 44.1, 382),
])
def test_ages_are_those_of_the_paper(n: int, w: int, mean: float, maximum: float) -> None:
    assert ages.mean_age(n, w) == pytest.approx(mean, abs=0.1)
    assert ages.mean_maximum_age(n, w) == pytest.approx(maximum, rel=0.01)


# --------------------------------------------------------------------------- datagrams

u16, u32, u64 = (st.integers(0, 2**bits - 1) for bits in (16, 32, 64))
statuses = st.builds(
    PeerStatus, u32, u32, u16, u32, u32, u16, st.booleans(), u32, u32, u16, st.integers(0, 15).map(lambda b: b & ~2),
    u16, u32, u16,
)
items = st.lists(
    st.tuples(u32, st.integers(-5, 2**31 - 1), st.integers(0, 255), statuses.map(lambda s: pack_facts(s, "1.2.3")) | st.just(DEAD)),
    unique_by=lambda item: item[0], max_size=MAX_ENTRIES,
)
datagrams = st.builds(Datagram, u32, u64, u64, u64, u64, st.sampled_from(Flag), items)


@given(statuses)
def test_facts_round_trip(status: PeerStatus) -> None:
    found, version, _ = unpack_facts(pack_facts(status, "4.10.3"))
    expected = {name: getattr(status, name) for name in status.__struct_fields__}
    expected["bits"] |= 16 * status.blocked
    assert {name: getattr(found, name) for name in found.__struct_fields__} == expected
    assert version == "4.10.3"


@given(st.frozensets(st.sampled_from(cpu.PLACES)), st.binary(min_size=cpu.PACKED, max_size=cpu.PACKED))
def test_processors_are_told(flags: frozenset[str], noise: bytes) -> None:
    """Whatever comes is a set of flags that we know; what no x86_64 processor is counts as nothing said."""
    status = PeerStatus(1, 2, 3, 4, 5, 6, False)
    found = unpack_facts(pack_facts(status, "1.2.3", cpu.packed(flags | cpu.BASE)))[2]
    assert cpu.unpacked(found) == flags | cpu.BASE
    odd = cpu.unpacked(noise)
    assert odd == frozenset() or cpu.BASE <= odd <= cpu.USER_FLAGS
    assert cpu.unpacked(unpack_facts(pack_facts(status, "1.2.3"))[2]) == cpu.unpacked(bytes(cpu.PACKED)) == frozenset()
    assert cpu.unpacked(b"\xff" * cpu.PACKED) == cpu.USER_FLAGS


def test_places_of_flags_are_never_changed() -> None:
    """Nodes of other versions count on them: new flags stand at the end."""
    assert len(cpu.PLACES) <= cpu.PACKED * 8 and len(set(cpu.PLACES)) == len(cpu.PLACES)
    assert {flag: cpu.PLACES.index(flag) for flag in PLACES_NOW} == PLACES_NOW


def test_a_message_fits_into_a_datagram() -> None:
    assert WINDOW <= MAX_ENTRIES


def test_facts_that_are_too_big_are_cut() -> None:
    status, version, _ = unpack_facts(pack_facts(PeerStatus(2**40, 2**40, 2**20, 2**40, 1, 2**20, False), "1"))
    assert (status.load, status.ncpus, status.guests, version) == (2**32 - 1, 65535, 65535, "1.0.0")


@given(datagrams)
def test_datagrams_round_trip(datagram: Datagram) -> None:
    data = seal(datagram, KEY)
    assert len(data) <= MAX_DATAGRAM
    assert unseal(data, KEY) == datagram


def fault_of(data: bytes, key: bytes = KEY) -> Fault:
    with pytest.raises(BadDatagram) as caught:
        unseal(data, key)
    return caught.value.fault


@given(datagrams, st.data())
def test_any_change_is_forged(datagram: Datagram, data: st.DataObject) -> None:
    good = bytearray(seal(datagram, KEY))
    at = data.draw(st.integers(0, len(good) - 1))
    good[at] ^= data.draw(st.integers(1, 255))
    assert fault_of(bytes(good)) is Fault.FORGED
    assert fault_of(seal(datagram, OTHER_KEY)) is Fault.FORGED


@given(datagrams, st.data())
def test_cut_short(datagram: Datagram, data: st.DataObject) -> None:
    good = seal(datagram, KEY)
    assert fault_of(good[: data.draw(st.integers(0, len(good) - 1))]) in (Fault.TRUNCATED, Fault.FORGED)


@given(st.binary(max_size=2000))
def test_noise(noise: bytes) -> None:
    assert fault_of(noise) in (Fault.TRUNCATED, Fault.FORGED, Fault.HUGE)


def test_a_node_twice_is_malformed() -> None:
    twice = Datagram(1, 2, 3, items=[(7, 0, 0, FACTS), (7, 1, 0, FACTS)])
    assert fault_of(seal(twice, KEY)) is Fault.MALFORMED
    assert fault_of(bytes(MAX_DATAGRAM + 1)) is Fault.HUGE


@given(st.lists(st.integers(0, 300), max_size=60))
def test_each_counter_is_taken_once(counters: list[int]) -> None:
    seen, taken = Seen(1, counters[0] if counters else 0), set(counters[:1])
    for counter in counters[1:]:
        fresh = seen.take(counter)
        assert not (fresh and counter in taken)
        assert fresh or counter in taken or counter <= max(taken) - 64
        taken |= {counter} if fresh else set()


# --------------------------------------------------------------------------- exchanges


@dataclass
class Net:
    """Nodes that exchange datagrams, each with a clock of its own; ``wire``: what is under way."""

    count: int
    step: int = 500
    members: int = 0
    now: int = 0
    exchanges: dict[int, Exchange] = field(default_factory=dict)
    news: dict[int, list[Entry]] = field(default_factory=dict)
    offsets: dict[int, int] = field(default_factory=dict)
    deaf: set[int] = field(default_factory=set)
    log: list[tuple[int, int, bytes]] = field(default_factory=list)
    keep: Callable[[int, int], bool] = lambda source, target: True

    def __post_init__(self) -> None:
        for node in range(1, self.count + 1):
            self.start(node)

    def start(self, node: int, key: bytes = KEY) -> None:
        members, random = Ranges([(1, self.members or self.count)]), Random(node + self.now)
        core = Gossip(members.place(node), 8, 10**7, len(members), random)
        heard = self.news[node] = []
        self.exchanges[node] = Exchange(node, core, members, key, heard.extend, Random(node * 7 + self.now))
        self.offsets.setdefault(node, node * 10**6)
        self.exchanges[node].refresh(self.clock(node), FACTS)

    def clock(self, node: int) -> int:
        return self.now + self.offsets[node]

    def carry(self, source: int, outgoing: list[tuple[int, bytes]]) -> None:
        for target, data in outgoing:
            self.log.append((source, target, data))
            if target not in self.deaf and target in self.exchanges and self.keep(source, target):
                try:
                    self.carry(target, self.exchanges[target].receive(self.clock(target), source, data))
                except BadDatagram:
                    pass

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.now += self.step
            for node, exchange in self.exchanges.items():
                if node not in self.deaf:
                    exchange.refresh(self.clock(node), FACTS)
                    self.carry(node, exchange.step(self.clock(node)))

    def alive(self, node: int) -> set[int]:
        exchange = self.exchanges[node]
        return set(exchange.members.addresses(exchange.gossip.alive.nodes))


def test_nodes_get_to_know_each_other_whatever_their_clocks_say() -> None:
    net = Net(12)
    net.run(12)
    for node in range(1, 13):
        assert net.alive(node) == set(range(1, 13)) - {node}
        core = net.exchanges[node].gossip
        assert all(0 <= net.clock(node) - core.births[other] <= 12 * net.step for other in core.alive.nodes)
        assert not {fault.value for fault in Fault} & net.exchanges[node].counters.keys()


def test_who_does_not_answer_is_dead_and_who_comes_back_lives() -> None:
    net = Net(10)
    net.run(12)
    net.deaf.add(3)
    net.run(TRIES * ANSWER_TIME // net.step + 14)
    assert all(3 not in net.alive(node) for node in range(1, 11) if node != 3)
    net.deaf.remove(3)
    net.start(3)
    net.run(30)
    assert all(3 in net.alive(node) for node in range(1, 11) if node != 3)
    assert len(net.alive(3)) == 9


def test_lost_datagrams_kill_nobody() -> None:
    net, random = Net(8), Random(5)
    net.keep = lambda source, target: random.random() > 0.1
    net.run(12)
    lost = net.exchanges[1].counters["lost"]
    net.run(60)
    assert len(net.alive(1)) >= 6
    assert net.exchanges[1].counters["lost"] - lost <= 3


def test_a_node_that_slept_blames_nobody() -> None:
    net = Net(5)
    net.run(12)
    net.deaf |= {2, 3, 4, 5}
    net.run(1)
    net.deaf.clear()
    net.now += 100 * ANSWER_TIME
    net.run(4)
    assert net.exchanges[1].counters["lost"] == 0


def test_neighbours_find_each_other_in_a_big_map() -> None:
    net = Net(3, members=50_000)
    net.run(6)
    assert [net.alive(node) for node in (1, 2, 3)] == [{2, 3}, {1, 3}, {1, 2}]


def test_farewell() -> None:
    net = Net(6)
    net.run(12)
    net.now += 1
    net.carry(2, net.exchanges[2].farewell(net.clock(2)))
    net.deaf.add(2)
    net.run(6)
    assert all(2 not in net.alive(node) for node in (1, 3, 4, 5, 6))


def refused(exchange: Exchange, now: int, source: int, data: bytes) -> Fault:
    before = exchange.gossip.births[:]
    with pytest.raises(BadDatagram) as caught:
        exchange.receive(now, source, data)
    assert exchange.gossip.births[:] == before
    assert exchange.counters[caught.value.fault.value] >= 1
    return caught.value.fault


def test_bad_datagrams_change_nothing_and_are_counted() -> None:
    net = Net(4)
    net.run(10)
    exchange, now = net.exchanges[1], net.clock(1)
    source, _, good = next(record for record in reversed(net.log) if record[1] == 1)
    assert refused(exchange, now, source, good) is Fault.REPLAYED
    assert refused(exchange, now, source, good[:-1]) is Fault.FORGED
    assert refused(exchange, now, source, good[:20]) is Fault.TRUNCATED
    assert refused(exchange, now, source, good + bytes(MAX_DATAGRAM)) is Fault.HUGE
    other = 2 if source != 2 else 3
    assert refused(exchange, now, other, good) is Fault.STRANGER
    epoch = net.exchanges[source].epoch
    forged = seal(Datagram(source, epoch, 10**6, items=[(source, 0, 0, DEAD)]), OTHER_KEY)
    assert refused(exchange, now, source, forged) is Fault.FORGED
    assert refused(exchange, now, 99, seal(Datagram(99, 1, 1), KEY)) is Fault.STRANGER
    assert refused(exchange, now, 1, seal(Datagram(1, 1, 1), KEY)) is Fault.STRANGER
    assert sum(exchange.counters[fault.value] for fault in Fault) == 8


def test_entries_from_the_future_and_of_strangers_are_dropped() -> None:
    net = Net(4)
    net.run(10)
    exchange, epoch = net.exchanges[1], net.exchanges[2].epoch
    before = exchange.gossip.births[:]
    data = seal(Datagram(2, epoch, 10**6, items=[(3, -1, 0, FACTS), (77, 0, 0, FACTS)]), KEY)
    exchange.receive(net.clock(1), 2, data)
    assert exchange.counters["future"] == 1
    assert exchange.gossip.births[:] == before


def test_recordings_of_an_earlier_life_change_nothing() -> None:
    net = Net(3)
    net.run(10)
    recorded = [data for source, target, data in net.log if source == 2 and target == 1]
    net.start(2)
    net.run(10)
    exchange = net.exchanges[1]
    epochs = dict(exchange._seen)
    before = exchange.gossip.births[:]
    for data in recorded:
        try:
            answers = exchange.receive(net.clock(1), 2, data)
        except BadDatagram:
            continue
        assert [target for target, _ in answers] in ([], [2])  # a challenge, which the recording cannot answer
    assert exchange.gossip.births[:] == before
    assert {node: seen.epoch for node, seen in epochs.items()} == {n: s.epoch for n, s in exchange._seen.items()}


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 60000), st.integers(1, 300)), min_size=1, max_size=5), st.randoms())
def test_ranges_of_a_map(pairs: list[tuple[int, int]], random: Random) -> None:
    apart, end = [], -1
    for first, count in sorted(pairs):
        if first > end:
            apart.append((first, count))
            end = first + count - 1
    nodes = {node for first, count in apart for node in range(first, first + count)}
    ranges = Ranges(apart)
    assert len(ranges) == len(nodes)
    numbered = {node: place for place, node in enumerate(sorted(nodes))}
    asked = [random.randrange(end + 2) for _ in range(50)] + [end + 1]
    assert ranges.places(asked) == [numbered.get(node, -1) for node in asked]
    assert ranges.addresses(numbered.values()) == list(numbered)
    for me in (asked[0], end + 1):
        place, size = place_among(me, ranges)
        assert (place, size) == (numbered.get(me, len(nodes)), len(nodes | {me}))


def test_of_many_nodes_only_the_recent_are_candidates() -> None:
    ips = [f"10.0.{n // 250}.{n % 250 + 1}" for n in range(100)]
    world = World(ip=ips[0], map=FakeMap(*ips), clock=lambda: 1.0, version="0.1.0", speed=10000, port=1, pid=1)
    for ip in ips:
        world.nodes[ip] = Node(ip, status=PeerStatus(5, 10000, 1, 10, 20, 0, False), heard=0.5)
    assert len(candidates(world)) == 100  # nothing is known about what is recent
    world.coming.recent = lambda: ["10.0.0.7", "10.0.0.9", "10.9.9.9"]
    assert {node.ip for node in candidates(world)} == {ips[0], "10.0.0.7", "10.0.0.9"}
    for ip in ips[60:]:
        del world.nodes[ip]
    assert len(candidates(world)) == 60
