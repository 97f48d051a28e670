"""Partner-clusters: their files, what another node is to us, who may come and who must leave (manual, section 4.3)."""

from __future__ import annotations

import os
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from mosfs.balance.best import best_node
from mosfs.balance.choose import Process, Switches, decide
from mosfs.balance.cost import DISTANT, Candidate, unsettled
from mosfs.balance.evictions import HALF, PRIOR_COUNT, PRIOR_SECONDS, Evictions
from mosfs.cluster.errors import ConfigError
from mosfs.cluster.load import ClusterMap, load_map, load_max_guests
from mosfs.cluster.mosix_map import parse_map, validate_map
from mosfs.cluster.partners import (
    PartnerFile,
    PartnerRange,
    parse_partner,
    print_partner,
    valid_name,
    validate_partners,
    with_priority,
)
from mosfs.cluster.paths import NodePaths
from mosfs.cluster.relation import Relation
from mosfs.cluster.scalars import MaxGuests, parse_max_guests, parse_retain, print_max_guests, print_retain
from mosfs.daemon.eviction import Eviction
from mosfs.daemon.launch import Request, place
from mosfs.node import guests
from mosfs.node.choice import candidates, takes_ours
from mosfs.node.multi import NOTHING, Retained
from mosfs.node.nodes import Bit, Node
from mosfs.node.programs import Guest, Order, Program, Visit
from mosfs.node.world import World
from mosfs.procfs import node as folder
from mosfs.tools.multi import opened
from mosfs.wire.asked import Settings
from mosfs.wire.datagram import BadDatagram, Welcome, pack_welcome, unpack_welcome
from mosfs.wire.messages import Command, GuestState, MailHeld, PeerStatus, ProcState, Usage
from tests.fake_map import FakeMap

OWN = validate_map(parse_map("10.0.0.1 4 p\n"), lambda name: None)
HOSTS = {"gamma": "30.0.0.1"}
GOOD = "The geographers\n50 1 1\n10.1.0.1 8 1 1 0\n10.2.0.1 2 1 1 1\n"

# --------------------------------------------------------------------------- files


@st.composite
def ranges(draw: st.DrawFn) -> PartnerRange:
    ips = st.integers(0x00010000, 0xFFFF0000).map(lambda n: str(IPv4Address(n)))
    return PartnerRange(draw(ips | st.sampled_from(["alpha", "x-1.y"])), draw(st.integers(1, 1 << 32)), draw(st.booleans()))


WRITTEN = st.builds(
    PartnerFile, st.text(st.characters(categories=("L", "N")), min_size=1), st.integers(0, 65535), st.booleans(), st.booleans(),
    st.lists(ranges(), max_size=10).map(tuple),
)


@given(WRITTEN)
def test_round_trip(written: PartnerFile) -> None:
    assert parse_partner(print_partner(written), "x") == written


@given(WRITTEN, st.integers(0, 65535))
def test_another_priority_changes_nothing_else(written: PartnerFile, priority: int) -> None:
    text = print_partner(written).replace("\n", "\n# a comment\n", 1)
    changed = with_priority(text, priority)
    assert parse_partner(changed, "x").priority == priority
    assert with_priority(changed, written.priority) == text


@pytest.mark.parametrize(("text", "line", "what"), [
    ("", 1, "describe"), ("\n50 1 1\n", 1, "describe"), ("Geo\n", 2, "line 2 must be"), ("Geo\n50 1\n", 2, "line 2 must be"),
    ("Geo\n65536 1 1\n", 2, "0-65535"), ("Geo\n-1 1 1\n", 2, "0-65535"), ("Geo\n50 2 1\n", 2, "0-1"), ("Geo\n50 1 yes\n", 2, "0-1"),
    ("Geo\n50 1 1\n10.1.0.1 4\n", 3, "a range is"), ("Geo\n50 1 1\n\n10.1.0.1 0 1 1 0\n", 4, "1-"),
    ("Geo\n50 1 1\n10.1.0.1 4 1 1 2\n", 3, "0-1"), ("Geo\n50 1 1\n10.1.0.1 4 1 1 0 0\n", 3, "a range is"),
])
def test_what_is_wrong_in_a_file(text: str, line: int, what: str) -> None:
    with pytest.raises(ConfigError, match=f"geo, line {line}: .*{what}"):
        parse_partner(text, "geo")


def test_a_fourth_integer_is_ignored() -> None:
    assert parse_partner("Geo\n50 1 0 1\n", "x") == PartnerFile("Geo", 50, cango=True, cantake=False)


@pytest.mark.parametrize(("files", "what"), [
    ({"geo": "G\n50 1 1\n"}, "partners/geo: no nodes"),
    ({"geo": "G\n50 1 1\nnowhere 1 1 1 0\n"}, "partners/geo, line 3: 'nowhere': not an IP"),
    ({"geo": "G\n50 1 1\n255.255.255.1 1 1 1 0\n"}, "not allowed in MOSIX"),
    ({"geo": "G\n50 1 1\n10.0.0.4 1 1 1 0\n"}, "line 3: .*overlaps our own cluster"),
    ({"geo": "G\n50 1 1\n9.255.255.255 3 1 1 0\n"}, "overlaps our own cluster"),
    ({"geo": "G\n50 1 1\n10.1.0.1 4 1 1 0\n10.1.0.4 1 1 1 0\n"}, "line 4: .*overlaps '10.1.0.1"),
    ({"chem": "C\n1 1 1\n10.1.0.1 4 1 1 0\n", "geo": "G\n5 1 1\n10.1.0.4 1 1 1 0\n"},
     "partners/geo, line 3: .*overlaps a range of partners/chem"),
    ({"x" * 129: GOOD}, "at most 128 characters"), ({"m\udcfcnchen": GOOD}, r"^partners/m\?nchen: .*in UTF-8$"),
    ({"a\nb": GOOD}, r"^partners/a\?b: .*can be printed"),
])
def test_what_is_wrong_between_files(files: dict[str, str], what: str) -> None:
    written = {name: parse_partner(text, f"partners/{name}") for name, text in files.items()}
    with pytest.raises(ConfigError, match=what):
        validate_partners(written, OWN, HOSTS.get)


def test_names_of_partners() -> None:
    names = ("geo", "students-lab-A", ".geo.swp", "geo~", "geo.old", "geo.dpkg-dist", "", "x" * 128)
    assert [name for name in names if valid_name(name)] == ["geo", "students-lab-A", "x" * 128]


@pytest.mark.parametrize(("text", "guests"), [("7\n", MaxGuests(7)), ("0 16\n", MaxGuests(0, 16))])
def test_max_guests(text: str, guests: MaxGuests) -> None:
    assert parse_max_guests(text) == guests
    assert print_max_guests(guests) == text


@pytest.mark.parametrize("text", ["", "x", "-1", "1 2 3", "1.5", "9" * 30])
def test_bad_max_guests_and_retainpri(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_max_guests(text)
    with pytest.raises(ConfigError):
        parse_retain(text)


@pytest.mark.parametrize(("given", "guests", "most"), [
    (7, MaxGuests(3), 7), (0, MaxGuests(3), 0), (None, MaxGuests(3, 9), 3), (None, MaxGuests(0, 9), 9), (None, MaxGuests(0), 32),
    (None, MaxGuests(), 32),
])
def test_how_many_guests_openmulti_lets_in(given: int | None, guests: MaxGuests, most: int) -> None:
    assert opened(given, guests, 4) == most


def test_retainpri() -> None:
    assert parse_retain(print_retain(90)) == 90


@pytest.fixture
def paths(tmp_path: Path) -> NodePaths:
    found = NodePaths(str(tmp_path))
    os.makedirs(found.partners)
    os.makedirs(found.state)
    Path(found.mosix_map).write_text("10.0.0.1 4 p\n10.9.0.1=10.1.0.1\n")
    Path(found.partners, "geo").write_text(GOOD)
    return found


def test_the_map_with_partners(paths: NodePaths) -> None:
    found = load_map(paths)
    geo = Relation(True, "geo", 50, cango=True, cantake=True, near=False)
    assert found.relation("10.1.0.8") == found.relation("10.9.0.1") == geo
    assert found.relation("10.2.0.1").near
    assert found.relation("10.0.0.4") == Relation(True, "", 0, cango=True, cantake=True, near=True)
    assert not any(found.relation(ip).known for ip in ("10.1.0.9", "10.0.0.5", "nonsense", ""))
    assert (found.contains("10.0.0.1"), found.contains("10.1.0.1")) == (True, False)
    assert list(found.partner_nodes())[-2:] == ["10.2.0.1", "10.2.0.2"]
    assert found.resolve("10.1.0.3") == "10.1.0.3"


def test_an_isolated_node_knows_no_partner_and_checks_their_files_all_the_same(paths: NodePaths) -> None:
    Path(paths.isolated).touch()
    assert not load_map(paths).relation("10.1.0.1").known
    Path(paths.partners, "geo").write_text("G\n50 1\n")
    with pytest.raises(ConfigError, match="line 2"):
        load_map(paths)


def test_without_files_there_is_one_cluster_and_no_limit(tmp_path: Path) -> None:
    paths = NodePaths(str(tmp_path))
    os.makedirs(paths.etc)
    Path(paths.mosix_map).write_text("10.0.0.1 4\n")
    assert load_map(paths) == ClusterMap(validate_map(parse_map("10.0.0.1 4\n"), lambda name: None))
    assert load_max_guests(paths) == MaxGuests()


# --------------------------------------------------------------------------- what a node says to others


@given(st.integers(-1, 65535), st.integers(0, 1 << 40), st.booleans())
def test_welcome_round_trip(priority: int, size: int, full: bool) -> None:
    told = unpack_welcome(pack_welcome(Welcome(priority, size, full)))
    assert told == Welcome(priority, min(size, (1 << 32) - 1), full)


@given(st.tuples(st.just(0), st.integers(-(1 << 31), (1 << 31) - 1), st.integers(0, 255), st.binary(max_size=80)))
def test_any_welcome_is_one_or_nonsense(item: tuple[int, int, int, bytes]) -> None:
    try:
        assert -1 <= unpack_welcome(item).priority <= 65535
    except BadDatagram:
        pass


# --------------------------------------------------------------------------- who may come, and who must leave

HOME, FELLOW, GEO, CHEM = "10.0.0.1", "10.0.0.2", "10.1.0.1", "10.2.0.1"
STATUS = PeerStatus(100, 10000, 2, 1000, 2000, 0, False, level=NOTHING)


@pytest.fixture
def sent() -> list[Command | MailHeld]:
    return []


@pytest.fixture
def world() -> World:
    others = {
        GEO: Relation(True, "geo", 50, cango=True, cantake=True), CHEM: Relation(True, "chem", 90, cango=False, cantake=True),
    }
    made = World(
        ip=HOME, map=FakeMap(HOME, FELLOW, others=others), clock=lambda: 100.0, version="0.1.0", speed=10000, port=253, pid=42,
    )
    for ip in (HOME, FELLOW, GEO, CHEM):
        made.nodes[ip] = Node(ip, status=STATUS, heard=100.0)
    return made


@pytest.fixture
def come(world: World, sent: list[Command | MailHeld]) -> Callable[[str], Guest]:
    def come(home: str) -> Guest:
        pid = 200 + len(world.guests)
        world.guests[pid] = guest = Guest(GuestState(pid, 77, home, 1001, "theirs", float(pid)), sent.append)
        return guest

    return come


def start(world: World, where: str = "", state: str = "here") -> None:
    world.programs[100] = Program(replace(ProcState(100, 1001, "", "here", 0, Settings()), where=where, state=state), None)


def test_the_priority_of_a_node_is_the_best_that_runs_there(world: World, come: Callable[[str], Guest]) -> None:
    assert guests.running(world) == NOTHING
    come(CHEM)
    assert guests.running(world) == 90
    come(GEO)
    assert guests.running(world) == 50
    start(world, where=FELLOW, state="away")
    assert guests.running(world) == 50
    start(world)
    assert guests.running(world) == 0


def test_worse_guests_make_way(world: World, come: Callable[[str], Guest]) -> None:
    chem = come(CHEM)
    assert guests.outranked(world) == []
    assert guests.outranked(world, 50) == [chem]
    geo = come(GEO)
    assert guests.outranked(world) == [chem]
    fellow = come(FELLOW)
    assert guests.outranked(world) == [chem, geo]
    del world.guests[fellow.state.pid]
    start(world)
    assert guests.outranked(world) == [chem, geo]


def test_too_many_guests_leave_the_worst_and_latest_first(world: World, come: Callable[[str], Guest]) -> None:
    first, second, third = come(GEO), come(GEO), come(GEO)
    world.multi.max_guests = 2
    assert guests.outranked(world) == [third]
    world.multi.max_guests = 0
    assert guests.outranked(world) == [first, second, third]
    come(FELLOW)
    assert len(guests.outranked(world)) == 3


def test_who_is_unwanted(world: World, come: Callable[[str], Guest]) -> None:
    def why(ip: str) -> str:
        return guests.unwanted(world, world.map.relation(ip))

    assert [why(ip) for ip in (FELLOW, GEO, CHEM)] == ["", "", ""]
    assert "map" in why("10.7.7.7")
    come(GEO)
    assert (why(GEO), why(FELLOW)) == ("", "")
    assert "precedence" in why(CHEM)
    world.multi.max_guests = 1
    assert "at most 1" in why(GEO)
    assert why(FELLOW) == ""


def test_who_has_been_let_in_has_a_place(world: World, come: Callable[[str], Guest]) -> None:
    """Ten that ask at once, before one of them is here, are not ten that come."""
    world.multi.max_guests = 2
    come(GEO)
    relation = world.map.relation(GEO)
    assert guests.unwanted(world, relation, [FELLOW, FELLOW]) == ""
    assert "at most 2" in guests.unwanted(world, relation, [GEO])
    assert guests.unwanted(world, world.map.relation(FELLOW), [GEO]) == ""


def test_a_better_cluster_comes_though_worse_guests_are_as_many_as_may(world: World, come: Callable[[str], Guest]) -> None:
    come(CHEM)
    world.multi.max_guests = 1
    assert guests.unwanted(world, world.map.relation(GEO)) == ""
    assert guests.unwanted(world, world.map.relation(CHEM)) != ""


def test_a_cluster_that_may_not_send(world: World) -> None:
    closed = Relation(True, "x", 1, cango=True, cantake=False)
    assert "may not send" in guests.unwanted(world, closed)
    assert guests.standing(closed) == -1


def test_a_priority_is_retained() -> None:
    kept = Retained()
    assert kept.level(0, 10.0, 5.0) == 0
    assert kept.level(NOTHING, 12.0, 5.0) == 0
    assert kept.level(0, 14.0, 5.0) == 0
    assert kept.level(NOTHING, 18.9, 5.0) == 0
    assert kept.level(NOTHING, 19.0, 5.0) == NOTHING
    assert [Retained().level(running, 10.0, 0.0) for running in (50, NOTHING)] == [50, NOTHING]


@given(st.lists(st.tuples(st.sampled_from([0, 50, 90, NOTHING]), st.floats(0, 3)), min_size=1), st.floats(0, 10))
def test_nobody_worse_than_what_runs_ever_comes(history: list[tuple[int, float]], seconds: float) -> None:
    kept, now = Retained(), 0.0
    for running, passed in history:
        now += passed
        assert kept.level(running, now, seconds) <= running


def test_each_is_told_once_and_asked_until_it_has_left(
    world: World, come: Callable[[str], Guest], sent: list[Command | MailHeld]
) -> None:
    notes: list[str] = []
    eviction = Eviction(world, notes.append)
    geo = come(GEO)
    eviction.look()
    assert (sent, notes) == ([], [])
    eviction.look(coming=0)
    eviction.look(coming=0)
    assert sent == [Command(geo.state.pid, "out", "")] * 2
    assert len(notes) == 1 and "PID 77 of 10.1.0.1" in notes[0]


def test_what_runs_for_a_moment_is_retained(world: World) -> None:
    world.multi.retain = 60.0
    eviction = Eviction(world, lambda line: None)
    eviction.look()
    start(world)
    eviction.look()
    world.programs.clear()
    assert guests.level(world) == 0
    world.multi.retain = 0.0
    assert guests.level(world) == NOTHING


# --------------------------------------------------------------------------- where ours may go


def bits(world: World, ip: str) -> Bit:
    return folder.bits(world, world.nodes[ip])


def test_a_node_that_has_not_told_takes_ours_while_nothing_runs_there(world: World) -> None:
    geo = world.nodes[GEO]
    assert takes_ours(world, geo)
    geo.status = replace(STATUS, level=50)
    assert not takes_ours(world, geo)
    world.multi.told["geo"] = 50
    assert takes_ours(world, geo)
    geo.standing = 51
    assert not takes_ours(world, geo)
    geo.standing, geo.full = 50, True
    assert not takes_ours(world, geo)


def test_bits_of_rstatus(world: World) -> None:
    assert bits(world, FELLOW) == Bit.OURS | Bit.KNOWN | Bit.FRESH | Bit.WELCOME
    assert bits(world, CHEM) == Bit.OURS | Bit.KNOWN | Bit.FRESH  # cango is 0
    geo = world.nodes[GEO]
    geo.standing, geo.status = 50, replace(STATUS, level=90, guests=1)
    assert bits(world, GEO) == Bit.OURS | Bit.KNOWN | Bit.FRESH | Bit.WELCOME | Bit.PREFERS_US
    geo.standing = -1
    assert bits(world, GEO) == Bit.OURS | Bit.KNOWN | Bit.FRESH
    geo.standing, geo.status = 0, replace(STATUS, level=0, blocked=True)
    assert bits(world, GEO) == Bit.OURS | Bit.KNOWN | Bit.FRESH | Bit.BLOCK


#: What a partner's node is like, of which all else is as if it were idle and our programs had the priority 50 there; and which
#: of the bits of mosctl(1), rstatus, are set for it: 32, and 1024.
NODES = {
    "nothing runs there": ({"level": NOTHING}, 32),
    "ours run there": ({"level": 50, "guests": 1}, 32),
    "worse guests would make way": ({"level": 90, "guests": 1}, 32 + 1024),
    "worse guests have left, and what they had is retained": ({"level": 90}, 32),
    "its own programs run there": ({"level": 0}, 0),
    "better guests run there": ({"level": 49, "guests": 1}, 0),
    "a better priority is retained": ({"level": 49}, 0),
    "as many as may be there are as good as ours": ({"level": 50, "guests": 3, "full": True}, 0),
    "fewer than may be there are as good as ours": ({"level": 50, "guests": 3}, 32),
    "it takes none of ours": ({"standing": -1}, 0),
    "it has not told, another of its cluster takes none": ({"standing": None, "told": -1}, 0),
    "it has not told, another of its cluster takes them": ({"standing": None, "told": 50, "level": 50}, 32),
    "nobody has told, and nothing runs there": ({"standing": None}, 32),
    "nobody has told, and something runs there": ({"standing": None, "level": 90, "guests": 1}, 0),
    "ours may not go": ({"cango": False}, 0),
    "it is blocked": ({"blocked": True}, 0),
    "it is silent": ({"heard": 0.0}, 0),
    "its news are old, whatever they say": ({"heard": 0.0, "level": 90, "guests": 1}, 0),
    "it was never heard": ({"status": None}, 0),
    "it has left our map": ({"known": False}, 0),
}


@pytest.mark.parametrize(("said", "expected"), NODES.values(), ids=NODES)
def test_every_reason_for_bits_32_and_1024_of_rstatus(world: World, said: dict[str, object], expected: int) -> None:
    geo, said = world.nodes[GEO], dict(said)
    relation = Relation(True, "geo", 50, cango=said.pop("cango", True), cantake=True)
    world.map = FakeMap(HOME, FELLOW, others={GEO: relation} if said.pop("known", True) else {})
    geo.standing, geo.full, geo.heard = said.pop("standing", 50), said.pop("full", False), said.pop("heard", 100.0)
    if (told := said.pop("told", None)) is not None:
        world.multi.told["geo"] = told
    geo.status = replace(STATUS, **said) if "status" not in said else None
    assert bits(world, GEO) & (Bit.WELCOME | Bit.PREFERS_US) == expected


@pytest.mark.parametrize(("level", "guests", "expected"), [(0, 2, 32), (50, 2, 32 + 1024), (NOTHING, 0, 32), (50, 0, 32)])
def test_bits_32_and_1024_of_a_fellow(world: World, level: int, guests: int, expected: int) -> None:
    """Our own cluster is as good as any that may be there, and its number is not limited."""
    world.nodes[FELLOW].status = replace(STATUS, level=level, guests=guests)
    assert bits(world, FELLOW) & (Bit.WELCOME | Bit.PREFERS_US) == expected


def test_availability_and_privileged_memory_are_numbers_of_rstatus(world: World, come: Callable[[str], Guest]) -> None:
    """Privileged memory is what guests have that would make way for ours: as its node says, and of this one as it is."""
    def numbers(ip: str) -> tuple[int, int]:
        found = folder.rstatus(world, world.nodes[ip]).split()
        return int(found[2]), int(found[10])

    geo = world.nodes[GEO]
    geo.status, geo.standing, geo.privileged_mb = replace(STATUS, level=90, guests=1), 50, 300
    assert numbers(GEO) == (90, 300 * 256)
    guest = come(CHEM)
    guest.balanced.usage = Usage(guest.state.pid, 10.0, 10.0, 1.0, 40, *[0.0] * 5)
    world.me.status = guests.counted(world, STATUS)
    assert numbers(HOME) == (90, 40 * 256)


def test_where_only_worse_guests_run_is_as_good_as_idle(world: World) -> None:
    fellow = world.nodes[FELLOW]
    fellow.status, fellow.privileged_mb = replace(STATUS, load=150, level=50, guests=2, processes=2), 600
    found = next(node for node in candidates(world) if node.ip == FELLOW)
    assert (found.load, found.mem_free) == (50, 1600)


def test_what_makes_way_here_counts_as_free(world: World, come: Callable[[str], Guest]) -> None:
    come(GEO)
    world.me.status = guests.counted(world, STATUS)
    here = next(node for node in candidates(world) if node.ip == HOME)
    assert here.load == 50
    start(world)
    world.me.status = guests.counted(world, STATUS)
    assert next(node for node in candidates(world) if node.ip == HOME).load == 100


@pytest.mark.parametrize(("priority", "level", "own", "goes"), [
    (0, 0, True, True), (0, 0, False, True), (50, NOTHING, True, True), (50, 50, True, True), (50, 49, True, False),
    (50, NOTHING, False, False),
])
def test_guests_of_other_clusters_are_sent_on_within_ours(priority: int, level: int, own: bool, goes: bool) -> None:
    process = Process(1, "x", "10.1.0.1", 1.0, 1.0, 1.0, 1, priority=priority)
    assert process.may_go(Candidate("10.0.0.2", 0, 10000, 2, 100, level=level, own=own)) is goes
    assert process.may_go(Candidate("10.1.0.1", 0, 10000, 2, 100, open=False, own=False))


@given(st.lists(st.tuples(st.floats(0, HALF), st.floats(0, 1e6), st.integers(0, 100)), max_size=10))
def test_evictions_are_remembered_and_forgotten(events: list[tuple[float, float, int]]) -> None:
    seen, now, unknown = Evictions(), 0.0, PRIOR_COUNT / PRIOR_SECONDS
    for pause, seconds, count in events:
        now += pause
        before, seen = seen.rate(now), seen.plus(now, seconds, count)
        assert seen.plus(now, count=1).rate(now) > seen.rate(now)
        assert count or seen.rate(now) <= before
    assert Evictions().rate(now) == unknown
    assert abs(seen.rate(now + 100 * HALF) - unknown) < 1e-9
    assert seen.plus(now + HALF).seconds == pytest.approx(seen.seconds / 2)


def rated(ip: str, evictions: float, load: int = 0, *, own: bool = False) -> Candidate:
    return Candidate(ip, load, 10000, 1, 100_000, own=own, evictions=evictions)


def test_where_evictions_are_likely_costs_more() -> None:
    """By the two moves of who has to go, so a large program shuns what a small one takes; our own nodes go before equal ones."""
    assert unsettled(rated("x", 0.01), DISTANT, 2000) == 1 + 0.01 * 2 * DISTANT.transfer(2000)
    assert unsettled(rated("x", 0.0, own=True), DISTANT, 2000) == 1
    often, seldom, ours = rated("10.1.0.1", 1 / 60), rated("10.2.0.1", 1 / 86400), rated("10.0.0.2", 0, own=True)
    for nodes, megabytes, best in (
        ([often, seldom], 5000, [seldom]), ([often, seldom], 1, [often, seldom]), ([often, seldom, ours], 1, [ours]),
    ):
        assert best_node(nodes, megabytes, " ".join) == " ".join(node.ip for node in best)


@pytest.mark.parametrize(("size", "evictions", "goes"), [
    (10, 1 / 3600, True), (10, 1 / 60, True), (2000, 1 / 3600, True), (2000, 1 / 60, False),
])
def test_no_large_program_goes_where_it_could_not_stay(size: int, evictions: float, goes: bool) -> None:
    """At home it shares the processor; a move of 2 GB there and back takes 200 s."""
    here = Candidate(HOME, 200, 10000, 1, 50_000)
    process = Process(1, "x", "", 10_000.0, 10_000.0, 1.0, size)
    [verdict] = decide(here, [rated(GEO, evictions)], [process], Switches(), lambda ip: DISTANT, lambda ips: ips[0])
    assert verdict.target == (GEO if goes else None)


MOVED = {"nmigs": 2, "where": "", "state": "here"}


@pytest.mark.parametrize(("told", "ordered", "evicted"), [
    ([MOVED], {}, True),
    ([{"where": "", "state": "here"}, MOVED], {}, True),
    ([{"where": "", "state": "frozen", "frozen": "A"}], {}, True),
    ([{**MOVED, "because": "its calls away have cost 3.0 s"}], {}, False),
    ([{**MOVED, "move_seq": 5}], {Order.MOVE: 5}, False),  # our own order
    ([{"state": "returning", "move_result": ""}, {**MOVED, "move_seq": 5}], {Order.MOVE: 5}, False),
    ([{"where": "", "state": "frozen", "frozen": "M", "freeze_seq": 3}], {Order.FREEZE: 3}, False),
    ([{"nmigs": 2, "where": FELLOW}], {}, False),
    ([{"comm": "other"}], {}, False),
])
def test_who_was_sent_back(told: list[dict[str, object]], ordered: dict[Order, int], evicted: bool) -> None:
    program = Program(replace(ProcState(100, 1001, GEO, "away", 1, Settings()), move_seq=4), None, {Order.MOVE: 4} | ordered)
    program.path.append(Visit(1.0, GEO, ""))
    found = []
    for fields in told:
        new = replace(program.state, **fields)
        found.append(program.sent_back(new))
        program.follow(new, 2.0)
        program.state = new
    assert [ip for ip in found if ip] == [GEO] * evicted


# --------------------------------------------------------------------------- two sides

BOTH = [(cango, cantake) for cango in (False, True) for cantake in (False, True)]


def side(us: str, them: str, priority: int, cango: bool, cantake: bool) -> World:
    """A node that has told, and heard, nothing yet."""
    others = {them: Relation(True, "them", priority, cango=cango, cantake=cantake)}
    made = World(ip=us, map=FakeMap(us, others=others), clock=lambda: 100.0, version="0.1.0", speed=10000, port=253, pid=42)
    for ip in (us, them):
        made.nodes[ip] = Node(ip, status=STATUS, heard=100.0)
    return made


@pytest.mark.parametrize("here", BOTH)
@pytest.mark.parametrize("there", BOTH)
def test_what_either_side_forbids_does_not_happen(here: tuple[bool, bool], there: tuple[bool, bool]) -> None:
    """Sixteen pairs: ours go where we let them go and they take them, and what we believe of them is so; whatever priorities each
    side gives the other."""
    a, b = side(HOME, GEO, 20, *here), side(GEO, HOME, 70, *there)
    for us, them, (cango, _), (_, cantake) in ((a, b, here, there), (b, a, there, here)):
        theirs = us.map.relation(them.ip)
        us.nodes[them.ip].standing = guests.standing(them.map.relation(us.ip))
        assert takes_ours(us, us.nodes[them.ip]) == (cango and cantake)
        assert theirs.cango == cango
        assert (guests.unwanted(them, them.map.relation(us.ip)) == "") == cantake


@pytest.mark.parametrize("here", BOTH)
def test_what_is_where_it_may_not_be_any_more(here: tuple[bool, bool], sent: list[Command | MailHeld]) -> None:
    cango, cantake = here
    world = side(HOME, GEO, 50, cango, cantake)
    world.guests[200] = guest = Guest(GuestState(200, 77, GEO, 1001, "theirs", 1.0), sent.append)
    start(world, where=GEO, state="away")
    programs, leaving = folder.misplaced(world)
    assert (bool(programs), leaving) == (not cango, [] if cantake else [guest])


@pytest.mark.parametrize("node", ["best", "10.1.0.1"])
def test_the_best_node_may_change_its_mind(world: World, node: str) -> None:
    """mosrun -b then starts at home; the user's own choice fails without -F."""

    async def looked_up(text: str) -> str:
        return text

    world.me.status = replace(STATUS, load=9000)
    begin = trio.run(place, world, Request(native=False, node=node), looked_up)
    assert (begin.node != "", begin.force) == (True, node == "best")
