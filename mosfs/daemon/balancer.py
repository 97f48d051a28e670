"""Automatic moves: once a second what runs on this node is looked at, and `balance.choose` says who leaves.

A node decides about what runs on it, its own programs and guests alike. Its own are moved by `World.move_to`; of a guest the host
asks the tracer at home, which alone can move it. Who refused is not asked again for a while, and the next best is tried.
"""

from __future__ import annotations

import logging
import random
import time
from collections import Counter
from dataclasses import dataclass, field, replace

import trio

from mosfs.abi.outcomes import OK
from mosfs.abi.reasons import Concerns, Reason, concerns
from mosfs.balance import choose, toll
from mosfs.balance.account import busy
from mosfs.balance.choose import Process, Switches, Verdict
from mosfs.balance.cost import DISTANT, NEAR, Candidate, Network, load_of
from mosfs.balance.toll import Toll
from mosfs.cluster.partners import OWN_PRIORITY
from mosfs.cluster.words import printable
from mosfs.daemon.tasks import survived
from mosfs.node.choice import arriving, candidates
from mosfs.node.guests import priority_of
from mosfs.node.programs import Balanced, Guest, Order, Program
from mosfs.node.world import World
from mosfs.wire.asked import Settings
from mosfs.wire.messages import Command, ProcState, TollPaid
from mosfs.wire.place import Place

log = logging.getLogger(__name__)

PERIOD = 1.0
#: Decisions use no older news, seconds: in any cluster the newest of what gossip brings, which are a sample of it.
FRESH = 5.0
#: Seconds that a node which refused a program is not asked again for it: until its news, by which we asked, are newer.
REFUSED_FOR = 3.0
#: Seconds that a program which could not be moved, wherever to, is left alone.
FAILED_FOR = 30.0
#: An answer to a guest's wish to leave that takes longer is none.
PATIENCE = 20.0
#: The load of the last second may still count who has just left.
ECHO = 1.0
#: A measured bandwidth counts so much against what was known before.
LEARNING = 0.3
#: Smaller images say nothing about bandwidth, megabytes.
MEASURABLE = 8


@dataclass(slots=True)
class Balancer:
    """``automatic`` False: only programs that ask to be considered are."""

    world: World
    automatic: bool = True
    choose: choose.Choose = random.choice
    bandwidth: dict[bool, float] = field(default_factory=dict)
    _left: list[tuple[float, float]] = field(default_factory=list)  # when, demand
    _leaving: dict[int, tuple[str, float]] = field(default_factory=dict)  # guests: target, demand
    _counted: float | None = None  # when it was last looked at who is at partners' nodes

    async def run(self) -> None:
        while True:
            # nodes that decided in step would all send to the same one
            await trio.sleep(PERIOD * random.uniform(0.8, 1.2))
            with survived("a round of decisions"):  # programs go on where they are
                self.round()

    # ------------------------------------------------------------------ deciding

    def round(self) -> list[Verdict]:
        """Look at everything that runs here once."""
        world, now = self.world, self.world.clock()
        self.count_lent(now)
        subjects: dict[int, Program | Guest] = {}
        processes = []
        for program in world.programs.values():
            if program.state.where:
                program.balanced.verdict = ""
        for subject in running_here(world):
            balanced = subject.balanced
            if balanced.usage is None:
                balanced.verdict = "nothing is known of it yet"
            elif self.automatic or balanced.considered:
                if balanced.sent is not None and now - balanced.sent_at > PATIENCE:
                    balanced.sent = None
                process = process_of(subject, now, flags_of(world, subject), _priority(world, subject))
                if isinstance(subject, Program) and world.mosrun.rules.confines(subject.state.uid):
                    process = replace(process, confined=True)
                subjects[process.pid] = subject
                processes.append(process)
        nodes = candidates(world, FRESH)
        me = next((node for node in nodes if node.ip == world.ip), None)
        if me is None or not processes:
            return []
        others = [node for node in nodes if node.ip != world.ip]
        switches = Switches(world.switches.stay, world.switches.lstay)
        verdicts = choose.decide(self.here(me, now), others, processes, switches, self.network, self.choose)
        for verdict in verdicts:
            subject = subjects[verdict.pid]
            subject.balanced.considered = False
            subject.balanced.verdict = verdict.why
            if verdict.target is not None:
                self.send(subject, verdict)
        return verdicts

    def count_lent(self, now: float) -> None:
        """Our programs at partners' nodes have been there since the last look."""
        seconds = 0.0 if self._counted is None else now - self._counted
        self._counted = now
        relation = self.world.map.relation
        there = Counter(relation(p.state.where).partner for p in self.world.programs.values() if p.state.where)
        for partner, number in there.items():
            if partner:
                self.world.multi.been(partner, now, seconds * number)

    def here(self, me: Candidate, now: float) -> Candidate:
        """This node as it is now: not smoothed, and without those who have just left; its memory as it will be when who is sent
        away now has gone."""
        for pid in self._leaving.keys() - self.world.guests.keys():
            target, demand = self._leaving.pop(pid)
            self._left.append((now, demand))
            arriving(self.world, target, busy(demand))
        self._left = [(when, demand) for when, demand in self._left if now - when < ECHO]
        load = me.load if self.world.local_load is None else self.world.local_load
        gone = load_of(sum(demand for _, demand in self._left), me.ncpus, me.speed)
        return replace(me, load=max(0, load - gone), arriving=0, mem_free=me.mem_free - self.world.filling())

    def network(self, ip: str) -> Network:
        near = self.world.map.relation(ip).near
        known = NEAR if near else DISTANT
        return Network(self.bandwidth.get(near, known.bandwidth), known.call, known.setup)

    def paid(self, guest: Guest, told: TollPaid) -> None:
        """A host has told what being here has cost ``guest``, which goes home when that is more than the way there costs."""
        world, balanced, state = self.world, guest.balanced, guest.state
        settings, now = state.settings, world.clock()
        if settings is None or settings.lock == 1 or settings.cpujob == 1 or world.switches.stay or not self.automatic:
            balanced.lost = 0.0
            return
        nodes = {node.ip: node for node in candidates(world, FRESH)}
        if (me := nodes.get(world.ip)) is None:
            return
        network, home = self.network(state.home), nodes.get(state.home)
        gain = toll.advantage(
            home, self.here(me, now), told.size_mb, busy(balanced.usage.demand if balanced.usage else 1.0)
        )
        balanced.lost = toll.lost(balanced.lost, Toll(told.calls, told.traffic, told.images, told.cpu), gain, network)
        why = toll.homeward(balanced.lost, network, told.size_mb)
        room = home is None or home.mem_free >= told.size_mb
        if why and room and balanced.sent is None and now >= balanced.left_until:
            balanced.verdict = why
            self.send(guest, Verdict(state.pid, why, state.home))

    # ------------------------------------------------------------------ carrying out

    def send(self, subject: Program | Guest, verdict: Verdict) -> None:
        """Ask for the move of ``verdict``."""
        world, target = self.world, verdict.target
        assert target is not None
        balanced, state = subject.balanced, subject.state
        try:
            if isinstance(subject, Program):
                world.move_to(subject, target, verdict.below, verdict.why)
            else:
                ip = "" if target == subject.state.home else target
                subject.send(Command(subject.state.pid, "out", ip, 0, verdict.below, verdict.why))
                self._leaving[state.pid] = target, balanced.usage.demand if balanced.usage else 1.0
        except ConnectionError:
            return
        balanced.sent, balanced.sent_at = target, world.clock()
        self.note(f"{state.comm} (PID {state.pid}) to {world.shown(target)}: {verdict.why}")

    def heard(self, program: Program, state: ProcState) -> None:
        """The tracer has told the state of ``program``, which is the old one still."""
        balanced, now = program.balanced, self.world.clock()
        if partner := self.world.map.relation(program.sent_back(state)).partner:
            self.world.multi.been(partner, now, evicted=1)
        if Reason.of(state.because) is Reason.CALLS_COST and state.nmigs != program.state.nmigs and not state.where:
            balanced.rest = toll.rest(balanced.rest, now - balanced.rested)
            balanced.rested = now + balanced.rest
        if balanced.sent is None or not state.move_result or state.move_seq < program.ordered.get(Order.MOVE, 0):
            return
        if state.move_result == OK:
            demand = balanced.usage.demand if balanced.usage else 1.0
            self._left.append((now, demand))
            self._learn(state.where, balanced, state.freeze_ms / 1000)
            arriving(self.world, balanced.sent, busy(demand))
            balanced.sent = None
            balanced.refused.clear()
        else:
            self.failed(balanced, f"{state.comm} (PID {state.pid})", state.move_result)

    def stayed(self, guest: Guest, reason: str) -> None:
        """Its home-node does not move ``guest``."""
        self._leaving.pop(guest.state.pid, None)
        if guest.balanced.sent is not None:
            self.failed(guest.balanced, f"{guest.state.comm} (PID {guest.state.pid})", reason)

    def failed(self, balanced: Balanced, name: str, reason: str) -> None:
        now, target = self.world.clock(), balanced.sent or ""
        balanced.sent = None
        match concerns(reason):
            case Concerns.TARGET:
                balanced.refused[target] = now + REFUSED_FOR
            case Concerns.PROGRAM:
                balanced.left_until = now + FAILED_FOR
            case Concerns.MOMENT:
                balanced.left_until = now + PERIOD
        balanced.verdict = f"did not get to {self.world.shown(target)}: {reason}"
        self.note(f"{name} stays, {balanced.verdict}")

    def _learn(self, ip: str, balanced: Balanced, seconds: float) -> None:
        """What the move to ``ip`` says about the bandwidth."""
        near = self.world.map.relation(ip).near
        setup = (NEAR if near else DISTANT).setup
        if balanced.usage is None or balanced.usage.size_mb < MEASURABLE or seconds <= setup:
            return
        seen, before = balanced.usage.size_mb / (seconds - setup), self.network(ip).bandwidth
        self.bandwidth[near] = before + LEARNING * (seen - before)

    def note(self, text: str) -> None:
        """One line of node/decisions, whatever the programs in it are called."""
        text = printable(text)
        log.info("%s", text)
        self.world.counts.decisions += 1
        self.world.decisions.append(f"{time.strftime('%F %T')} {text}")


def running_here(world: World) -> list[Program | Guest]:
    """What computes on this node: programs at home, and guests."""
    return [
        *(p for p in world.programs.values() if not p.state.where and p.state.state in (Place.HOME, Place.LEAVING)),
        *world.guests.values(),
    ]


def own_runnable(world: World) -> float:
    """Programs and guests that want a CPU here, for nodes that share a machine (MOSIX_PROBE=own)."""
    return sum(
        subject.balanced.usage.demand if subject.balanced.usage else float(isinstance(subject, Guest) or not subject.state.barred)
        for subject in running_here(world)
    )


def flags_of(world: World, subject: Program | Guest) -> frozenset[str]:
    """The flags of its home-node's processor, none if they are not known."""
    home = world.me if isinstance(subject, Program) else world.nodes.get(subject.state.home)
    return frozenset() if home is None else home.flags


def _priority(world: World, subject: Program | Guest) -> int:
    return priority_of(world, subject) if isinstance(subject, Guest) else OWN_PRIORITY


def process_of(subject: Program | Guest, now: float, seen: frozenset[str] = frozenset(), priority: int = 0) -> Process:
    """What `choose` wants to know of ``subject``, whose home has a processor with the flags ``seen`` and this ``priority``."""
    state, balanced = subject.state, subject.balanced
    usage = balanced.usage
    assert usage is not None
    settings = state.settings or Settings(lock=1)  # of a guest that home has told nothing about yet
    if isinstance(subject, Program):
        home, barred, moving = "", subject.state.barred, subject.moving or subject.state.state == Place.LEAVING
    else:
        home, barred, moving = subject.state.home, "", balanced.sent is not None
    if not barred and now < balanced.left_until:
        barred = balanced.verdict or "it could not be moved a moment ago"
    return Process(
        pid=state.pid, name=state.comm, home=home, age=usage.age, here=usage.here, demand=usage.demand,
        size_mb=usage.size_mb, history=balanced.history(now, settings.decay), need_mb=max(settings.needmem, 0),
        locked=settings.lock == 1, cpujob=settings.cpujob == 1, barred=barred, moving=moving, asked=balanced.considered,
        rests=now < balanced.rested,
        refused=frozenset(ip for ip, until in balanced.refused.items() if now < until),
        required=frozenset(state.needs), seen=seen, priority=priority,
    )
