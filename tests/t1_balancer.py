"""The balancer on a world of its own: what it asks of tracers and hosts, and what it makes of their answers."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from mosfs.abi import cpu
from mosfs.abi.cpu import SILENT
from mosfs.abi.reasons import Reason
from mosfs.balance import toll
from mosfs.balance.cost import NEAR as NEAR_NETWORK
from mosfs.cluster.relation import Relation
from mosfs.daemon.balancer import ECHO, FAILED_FOR, FRESH, PATIENCE, REFUSED_FOR, Balancer, own_runnable
from mosfs.node.choice import RESERVED_FOR, any_flags, candidates, choose, common_flags
from mosfs.node.nodes import Node
from mosfs.node.programs import Guest, Program
from mosfs.node.world import World
from mosfs.wire.asked import Settings
from mosfs.wire.messages import Command, GuestState, PeerStatus, ProcState, TollPaid, Usage
from tests.fake_map import FakeMap

HOME, NEAR, FAR = "10.0.0.1", "10.0.0.2", "10.0.0.3"


class Bench:
    """A node with two CPU-bound programs and an idle neighbour; a clock by hand."""

    def __init__(self, *, automatic: bool = True) -> None:
        self.now = 1000.0
        self.sent: list[Command] = []
        self.world = World(
            ip=HOME, map=FakeMap(HOME, NEAR, FAR, far=[FAR]), clock=lambda: self.now, version="0.1.0", speed=10000, port=253,
            pid=1,
        )
        self.load(HOME, 200)
        self.load(NEAR, 0)
        self.world.local_load = 200
        self.balancer = Balancer(self.world, automatic, lambda ips: ips[0])
        for pid in (1, 2):
            self.world.programs[pid] = Program(state(pid), self.sent.append)
            self.use(self.world.programs[pid])

    def load(self, ip: str, load: int) -> None:
        self.world.nodes[ip] = Node(ip, status=PeerStatus(load, 10000, 1, 1000, 2000, 0, False), heard=self.now, links=1)

    def use(self, subject: Program | Guest, age: float = 100.0, demand: float = 1.0) -> None:
        subject.balanced.usage = Usage(subject.state.pid, age, age, demand, 50, age, age, 0, 0, 0)
        subject.balanced.reported = self.now

    def tell(self, pid: int, **fields: object) -> None:
        """The tracer's next state of a program."""
        program = self.world.programs[pid]
        new = replace(program.state, **fields)
        self.balancer.heard(program, new)
        program.state = new

    def at(self, seconds: float) -> None:
        self.now += seconds
        for node in self.world.nodes.values():
            node.heard = self.now


def arriving(node: Bench, ip: str) -> int:
    return next(found.arriving for found in candidates(node.world) if found.ip == ip)


def state(pid: int, **fields: object) -> ProcState:
    return replace(ProcState(pid, 0, "", "here", 0, Settings(), comm="prog"), **fields)


@pytest.fixture
def node() -> Bench:
    return Bench()


def test_one_of_two_leaves_and_the_other_stays(node: Bench) -> None:
    node.balancer.round()
    [command] = node.sent
    assert (command.pid, command.name, command.value, command.seq) == (1, "migrate", NEAR, 1)
    assert command.below > 0 and "a CPU second takes" in command.why
    assert node.world.programs[1].balanced.verdict == command.why
    assert "no better node" in node.world.programs[2].balanced.verdict
    [line] = node.world.decisions
    assert line.endswith(f"prog (PID 1) to {NEAR}: {command.why}")
    node.at(PATIENCE / 2)
    assert arriving(node, NEAR) == 1, "however long it takes"
    node.balancer.round()
    assert len(node.sent) == 1, "it is moving already"
    node.tell(1, where=NEAR, state="away", move_seq=1, move_target=NEAR, move_result="ok", nmigs=1)
    assert arriving(node, NEAR) == 1, "its load there does not show it yet"
    node.at(RESERVED_FOR)
    assert arriving(node, NEAR) == 0


def test_no_program_writes_lines_of_its_own(node: Bench) -> None:
    """node/decisions has a line for each decision, whatever programs call themselves."""
    node.tell(1, comm="prog\n2026-12-01 00:00:00 init (PID 1) to \x1b[2J")
    node.balancer.round()
    [line] = node.world.decisions
    assert line.isprintable() and "prog?2026-12-01" in line


def test_busy_threads_are_counted_where_they_go(node: Bench) -> None:
    node.world.nodes[NEAR].status = PeerStatus(0, 10000, 4, 1000, 2000, 0, False)
    node.use(node.world.programs[1], demand=3.0)
    del node.world.programs[2]
    node.balancer.round()
    [command] = node.sent
    assert (command.pid, command.value, arriving(node, NEAR)) == (1, NEAR, 3.0)
    node.tell(1, where=NEAR, state="away", move_seq=1, move_target=NEAR, move_result="ok", nmigs=1)
    assert arriving(node, NEAR) == 3.0, "its load there does not show them yet"


def test_who_has_just_left_is_not_counted(node: Bench) -> None:
    """The load of the last second still shows it, and would send the other one after it."""
    node.balancer.round()
    node.tell(1, where=NEAR, state="away", move_seq=1, move_target=NEAR, move_result="ok", nmigs=1)
    node.at(ECHO / 2)
    node.world.coming.reserved.clear()
    node.balancer.round()
    assert len(node.sent) == 1
    assert node.world.programs[1].balanced.verdict == ""


def test_a_refusal_is_remembered_and_the_next_best_tried(node: Bench) -> None:
    node.load(FAR, 0)
    node.balancer.round()
    assert node.sent[-1].value == NEAR
    node.tell(1, move_seq=1, move_target=NEAR, move_result="other node refused", why="other node refused")
    assert node.world.programs[1].balanced.refused == {NEAR: node.now + REFUSED_FOR}
    assert node.world.decisions[-1].endswith(f"stays, did not get to {NEAR}: other node refused")
    node.load(NEAR, 0)
    node.balancer.round()
    targets = {command.pid: command.value for command in node.sent[1:]}
    assert targets.get(1, FAR) == FAR
    node.at(REFUSED_FOR + PATIENCE)
    assert NEAR not in {ip for ip, until in node.world.programs[1].balanced.refused.items() if node.now < until}


def test_a_program_that_cannot_move_is_left_alone(node: Bench) -> None:
    node.balancer.round()
    node.tell(1, move_seq=1, move_target=NEAR, move_result="it maps shared memory")
    node.balancer.round()
    assert {command.pid for command in node.sent[1:]} <= {2}
    assert "it maps shared memory" in node.world.programs[1].balanced.verdict
    node.at(FAILED_FOR + 1)
    del node.world.programs[2]
    node.balancer.round()
    assert node.sent[-1].pid == 1


@pytest.mark.parametrize("fields", [
    {"settings": Settings(lock=1)}, {"barred": "has threads"}, {"state": "leaving"}, {"where": FAR, "state": "away"},
    {"state": "starting"},
])
def test_who_is_not_touched(node: Bench, fields: dict[str, object]) -> None:
    del node.world.programs[2]
    node.world.programs[1].state = state(1, **fields)
    node.balancer.round()
    assert node.sent == []


def test_unknown_programs_wait_for_their_first_report(node: Bench) -> None:
    for program in node.world.programs.values():
        program.balanced.usage = None
    node.balancer.round()
    assert node.sent == []
    assert node.world.programs[1].balanced.verdict == "nothing is known of it yet"


@pytest.mark.parametrize("switch", ["stay", "lstay"])
def test_switches(node: Bench, switch: str) -> None:
    setattr(node.world.switches, switch, True)
    node.balancer.round()
    assert node.sent == []
    assert f"{switch} mode" in node.world.programs[1].balanced.verdict


def test_off_but_for_who_asks() -> None:
    """MOSIX_BALANCE=off; mosix(7), migrate: -1."""
    node = Bench(automatic=False)
    node.balancer.round()
    assert node.sent == []
    node.world.move(node.world.programs[2], -1)
    node.balancer.round()
    assert [(command.pid, command.value) for command in node.sent] == [(2, NEAR)]
    assert not node.world.programs[2].balanced.considered


def test_a_guest_is_asked_for_at_home(node: Bench) -> None:
    node.world.programs.clear()
    for pid, home in ((11, FAR), (12, NEAR)):
        guest = node.world.guests[pid] = Guest(GuestState(pid, 77, home, 0, "theirs", 0.0, Settings()), node.sent.append)
        node.use(guest, age=float(pid))
    node.balancer.round()
    [command] = node.sent
    assert (command.pid, command.name, command.value) == (12, "out", ""), "NEAR is its home"
    node.balancer.stayed(node.world.guests[12], "it is locked (mosrun -L)")
    assert node.world.guests[12].balanced.left_until > node.now
    node.world.coming.reserved.clear()
    node.balancer.round()
    assert (node.sent[-1].pid, node.sent[-1].value) == (11, NEAR)
    assert arriving(node, NEAR) == 1
    del node.world.guests[11]  # it went
    assert node.balancer.here(candidates(node.world)[0], node.now).load == 100
    assert arriving(node, NEAR) == 1


def paying(node: Bench, **settings: int) -> Guest:
    """A guest whose home is NEAR, where nobody computes any more than here."""
    node.world.programs.clear()
    node.load(HOME, 0)
    node.world.local_load = 0
    state = GuestState(11, 77, NEAR, 0, "theirs", 0.0, Settings(**settings))
    return node.world.guests.setdefault(11, Guest(state, node.sent.append))


def test_a_guest_whose_calls_cost_too_much_goes_home(node: Bench) -> None:
    guest = paying(node)
    way = NEAR_NETWORK.transfer(4) / NEAR_NETWORK.call
    node.balancer.paid(guest, TollPaid(11, way * 0.7, 0, 0, 0.5, 4))
    assert node.sent == []
    node.balancer.paid(guest, TollPaid(11, way * 0.7, 0, 0, 0.5, 4))
    [command] = node.sent
    assert (command.pid, command.name, command.value, command.below) == (11, "out", "", 0)
    assert Reason.of(command.why) is Reason.CALLS_COST
    assert guest.balanced.verdict == command.why
    node.balancer.paid(guest, TollPaid(11, way, 0, 0, 0.5, 4))
    assert len(node.sent) == 1, "it is on its way"


def test_a_guest_that_is_better_off_here_stays(node: Bench) -> None:
    guest = paying(node)
    node.load(NEAR, 300)
    for _ in range(10):
        node.balancer.paid(guest, TollPaid(11, 0.5 / NEAR_NETWORK.call, 0, 0, 1.0, 4))
    assert node.sent == []
    node.balancer.paid(guest, TollPaid(11, 10 / NEAR_NETWORK.call, 0, 0, 1.0, 4))
    assert len(node.sent) == 1


@pytest.mark.parametrize("settings", [{"lock": 1}, {"cpujob": 1}])
def test_a_guest_that_shall_stay_is_not_asked_what_it_pays(node: Bench, settings: dict[str, int]) -> None:
    node.balancer.paid(paying(node, **settings), TollPaid(11, 1e6, 0, 0, 0.0, 4))
    assert node.sent == []


def test_nobody_is_sent_home_where_nothing_moves_by_itself() -> None:
    node = Bench(automatic=False)
    node.balancer.paid(paying(node), TollPaid(11, 1e6, 0, 0, 0.0, 4))
    node.balancer.automatic, node.world.switches.stay = True, True
    node.balancer.paid(node.world.guests[11], TollPaid(11, 1e6, 0, 0, 0.0, 4))
    assert node.sent == []


def test_who_came_home_because_of_its_calls_stays_for_a_while(node: Bench) -> None:
    why = f"{Reason.CALLS_COST} 1 s more"
    del node.world.programs[2]
    node.load(HOME, 500)
    node.world.local_load = 500
    rests = []
    for turn in range(1, 4):
        node.tell(1, where=NEAR, state="away", nmigs=2 * turn - 1)
        node.tell(1, where="", state="here", nmigs=2 * turn, because=why)
        node.balancer.round()
        assert len(node.sent) == turn - 1
        assert "brought it home" in node.world.programs[1].balanced.verdict
        rests.append(node.world.programs[1].balanced.rest)
        node.at(rests[-1] + 0.1)
        node.use(node.world.programs[1])
        node.balancer.round()
        assert len(node.sent) == turn
        node.tell(1, move_seq=turn, move_target=NEAR, move_result="ok", where=NEAR, state="away", nmigs=2 * turn + 1, because="")
    assert rests == [toll.REST, 2 * toll.REST, 4 * toll.REST]


def test_a_guest_nobody_has_told_about_is_left_alone(node: Bench) -> None:
    node.world.programs.clear()
    guest = node.world.guests[11] = Guest(GuestState(11, 77, FAR, 0, "theirs", 0.0), node.sent.append)
    node.use(guest)
    node.balancer.round()
    assert node.sent == []


def test_memory_that_will_be_short_is_short(node: Bench) -> None:
    """It grows by 100 MB a second at two reports in a row; one step, as at an arrival, is nothing that goes on."""
    del node.world.programs[2]
    program = node.world.programs[1]
    me, other = node.world.nodes[HOME], node.world.nodes[NEAR]
    node.world.local_load = 0
    me.status, other.status = (PeerStatus(0, 10000, 1, free, 2000, 0, False) for free in (300, 1900))
    free = []
    for size in (50, 150, 250, 250):
        node.at(1)
        program.balanced.report(Usage(1, 100.0, 100.0, 1.0, size, 100.0, 100.0, 0, 0, 0), node.now)
        candidate = candidates(node.world)[0]
        free.append(node.balancer.here(candidate, node.now).mem_free)
        node.balancer.round()
    assert free == [300, 300, 0, 300]
    [command] = node.sent
    assert command.value == NEAR and command.hurry and "MB of memory are wanting here" in command.why
    node.at(10)
    assert node.world.filling() == 0


def test_old_news_are_not_decided_with(node: Bench) -> None:
    node.world.nodes[NEAR].heard = node.now - FRESH - 0.1
    node.balancer.round()
    assert node.sent == []


def test_bandwidth_is_learned(node: Bench) -> None:
    before = node.balancer.network(NEAR).bandwidth
    node.balancer.round()
    node.tell(1, where=NEAR, state="away", move_seq=1, move_target=NEAR, move_result="ok", freeze_ms=5020.0)
    assert node.balancer.network(NEAR).bandwidth == pytest.approx(before + 0.3 * (10 - before))
    assert node.balancer.network(FAR).bandwidth < before


def test_own_load_is_what_runs_here(node: Bench) -> None:
    assert own_runnable(node.world) == 2.0
    node.use(node.world.programs[1], demand=0.25)
    assert own_runnable(node.world) == 1.25
    node.world.programs[2].state = state(2, where=NEAR, state="away")
    assert own_runnable(node.world) == 0.25
    node.world.programs[3] = Program(state(3, barred="runs as a native Linux program (mosnative)"), None)
    node.world.programs[4] = Program(state(4), None)
    assert own_runnable(node.world) == 1.25


# --------------------------------------------------------------------------- processors that differ

OLD = cpu.BASE | {"popcnt"}
NEW = OLD | {"abm", "bmi1", "avx2", "avx512f"}


def test_a_node_that_lacks_what_it_needs_is_never_asked(node: Bench) -> None:
    node.load(FAR, 50)
    for ip, flags in ((HOME, NEW), (NEAR, OLD), (FAR, NEW)):
        node.world.nodes[ip].flags = flags
    node.tell(1, needs=["abm", "bmi1"])
    node.tell(2, needs=["abm", "bmi1", "avx512f"])
    node.balancer.round()
    assert {command.value for command in node.sent} <= {FAR}
    node.world.nodes[FAR].flags = OLD
    node.sent.clear()
    node.at(PATIENCE + RESERVED_FOR)
    for pid in (1, 2):
        node.world.programs[pid].ordered.clear()
        node.world.programs[pid].balanced.sent = None
    node.balancer.round()
    assert node.sent == []
    verdict = node.world.programs[2].balanced.verdict
    assert verdict == f"needs abm avx512f bmi1, which {NEAR} lacks (2 nodes lack some of what it needs)"


def test_of_equal_nodes_the_one_that_has_what_it_has_seen(node: Bench) -> None:
    node.load(FAR, 0)
    node.balancer.bandwidth = {True: 200.0, False: 200.0}
    node.balancer.choose = max  # the nearer one would be the first
    for ip, flags in ((HOME, NEW), (NEAR, NEW), (FAR, NEW - {"avx512f"})):
        node.world.nodes[ip].flags = flags
    node.balancer.round()
    assert node.sent[0].value == NEAR
    node.world.nodes[FAR].flags = NEW
    node.sent.clear()
    node.world.programs[1].ordered.clear()
    node.world.programs[1].balanced.sent = None
    node.at(RESERVED_FOR)
    node.balancer.round()
    assert node.sent[0].value == FAR


def test_what_is_not_known_of_a_node_keeps_nobody_away(node: Bench) -> None:
    node.world.me.flags = NEW
    node.tell(1, needs=["abm", "bmi1"])
    node.balancer.round()
    assert node.sent[0].value == NEAR


def test_a_lack_holds_for_the_node_only(node: Bench) -> None:
    node.balancer.round()
    node.tell(1, move_seq=1, move_target=NEAR, move_result=cpu.lacks(["avx512f"], NEAR))
    balanced = node.world.programs[1].balanced
    assert balanced.refused == {NEAR: node.now + REFUSED_FOR} and balanced.left_until < node.now


def test_a_guest_goes_home_whatever_home_lacks(node: Bench) -> None:
    guest = Guest(GuestState(7, 70, NEAR, 0, "guest", 0.0, Settings(), ["avx512f"]), node.sent.append)
    node.world.programs.clear()
    node.world.guests[7] = guest
    node.use(guest)
    node.load(FAR, 0)
    for ip, flags in ((HOME, NEW), (NEAR, OLD), (FAR, OLD)):
        node.world.nodes[ip].flags = flags
    node.balancer.round()
    [command] = node.sent
    assert (command.name, command.value) == ("out", "")


def test_the_best_node_to_begin_on_can_take_it(node: Bench) -> None:
    for ip, flags in ((HOME, NEW), (NEAR, OLD)):
        node.world.nodes[ip].flags = flags
    assert choose(node.world, 0, reserve=False) == HOME
    node.world.nodes[NEAR].flags = OLD | SILENT
    assert choose(node.world, 0, reserve=False) == NEAR


def test_what_all_nodes_have(node: Bench) -> None:
    """Dead nodes and those that have said nothing, or nonsense, do not count."""
    world = node.world
    world.me.flags = NEW
    assert common_flags(world) == NEW
    world.nodes[NEAR].flags = OLD | {"avx2"}
    assert common_flags(world) == OLD | {"avx2"}
    node.load(FAR, 0)
    world.nodes[FAR].flags = cpu.unpacked(b"\x00\x01" + bytes(14))
    assert common_flags(world) == OLD | {"avx2"}
    world.nodes[FAR].flags = cpu.unpacked(cpu.packed(OLD))
    assert common_flags(world) == OLD
    assert any_flags(world) == NEW
    world.me.flags = OLD
    assert any_flags(world) == OLD | {"avx2"}
    world.me.flags = NEW
    world.nodes[FAR].dead = True
    assert common_flags(world) == OLD | {"avx2"}


def test_who_is_at_a_partners_is_counted_and_who_was_sent_back(node: Bench) -> None:
    """Its own nodes and partners that forbid it do not count; what was counted is the price of the next move there."""
    there = "10.1.0.1"
    node.world.map = FakeMap(HOME, NEAR, FAR, others={there: Relation(True, "geo", 50, cango=True, cantake=True)})
    for pid, where in ((1, there), (2, FAR)):
        node.world.programs[pid].state = state(pid, where=where, state="away", nmigs=1)
    rates = []
    for _ in range(3):
        node.balancer.round()
        rates.append(node.world.multi.eviction_rate("geo", node.now))
        node.at(600)
    assert node.world.multi.evictions["geo"].seconds == pytest.approx(1200, rel=0.2) and rates == sorted(rates, reverse=True)
    for pid in (1, 2):
        node.tell(pid, where="", state="here", nmigs=2)
    assert node.world.multi.evictions["geo"].count == 1
    assert node.world.multi.eviction_rate("geo", node.now) > rates[-1]
    assert node.world.multi.eviction_rate("", node.now) == 0
    node.load(there, 0)
    [found] = [found for found in candidates(node.world) if found.ip == there]
    assert found.evictions == node.world.multi.eviction_rate("geo", node.now)
