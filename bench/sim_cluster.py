"""A simulated cluster: the production decisions under a virtual clock.

Nodes share their CPUs among their programs, and a node whose memory is full is slowed by a constant factor. Each node decides once
a second with `balance.choose.decide`, and knows of the others what `balance.gossip` has told it in two steps a second, so what it
decides with is old, and may be wrong.
"""

from __future__ import annotations

import heapq
import itertools
import random
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from mosfs.balance import best, choose
from mosfs.balance.cost import Candidate, Network, load_of
from mosfs.balance.gossip import NOTHING_URGENT, Entry, Gossip
from mosfs.balance.probe import exported

THRASH = 10.0  #: a node with more memory in use than it has is so much slower
FAST_ETHERNET = Network(bandwidth=10.0, call=3e-4, setup=0.05)
RESERVED_FOR = 3.0
TICK = 1.0
FRESH = 5.0  #: seconds; older entries are not decided with
STEPS = 2  #: of gossip, a tick
FACTS = struct.Struct("<Ii")  #: load, free megabytes


@dataclass(frozen=True)
class Machine:
    """``speed``: 10000 = the unit of what jobs need; ``memory`` in megabytes."""

    speed: int
    memory: int
    ncpus: int = 1


@dataclass(eq=False)
class Job:
    """A program. ``need``: CPU seconds of a machine of speed 10000; ``home``: where the user starts it; ``group``: the parallel job
    that it is a part of."""

    number: int
    arrival: float
    need: float
    size: int
    home: int
    group: int
    done: float = 0.0
    came: float = 0.0  # CPU seconds when it came to its node
    finished: float = 0.0
    moves: int = 0


@dataclass
class Known:
    """What one node knows of another, and when it was true."""

    load: int
    free: int
    at: float


@dataclass(eq=False)
class Node:
    number: int
    machine: Machine
    gossip: Gossip
    jobs: list[Job] = field(default_factory=list)
    exported: float = 0.0
    busy: float = 0.0  # runnable programs, integrated over the present tick
    local: float = 0.0  # their mean over the last tick
    known: dict[int, Known] = field(default_factory=dict)
    reserved: list[tuple[float, int]] = field(default_factory=list)
    leaving: list[tuple[float, Job]] = field(default_factory=list)
    coming: int = 0  # megabytes
    alive: bool = True

    @property
    def used(self) -> int:
        return sum(job.size for job in self.jobs) + self.coming

    def rate(self) -> float:
        """CPU seconds of a standard machine that each job gets in a second."""
        if not self.jobs:
            return 0.0
        share = min(1.0, self.machine.ncpus / len(self.jobs))
        slow = THRASH if self.used > self.machine.memory else 1.0
        return share * self.machine.speed / 10000 / slow


Place = Callable[["Cluster", Job], int]


class Cluster:
    """One run. ``place`` says where a job begins; ``migrate``: whether it may move later."""

    def __init__(self, machines: Sequence[Machine], place: Place, *, migrate: bool, seed: int, window: int = 16,
                 network: Network = FAST_ETHERNET) -> None:
        self.random = random.Random(seed)
        self.nodes = [
            Node(number, machine, Gossip(number, window, 1 << 40, len(machines), self.random))
            for number, machine in enumerate(machines)
        ]
        self.place, self.migrate, self.network = place, migrate, network
        self.now = 0.0
        idle = [(0, node.number, FACTS.pack(0, node.machine.memory)) for node in self.nodes]
        for node in self.nodes:
            self.learn(node, idle)
        self.finished: list[Job] = []
        self.lost: list[Job] = []
        self.moves = 0
        self.refused = 0
        self.cursor = itertools.count()
        self.transit: list[tuple[float, int, Job, Node]] = []
        self.trace: list[tuple[float, list[int]]] = []

    # ------------------------------------------------------------------ the world

    def run(self, jobs: Sequence[Job], until: float = float("inf"), fail: Sequence[tuple[float, int]] = ()) -> Cluster:
        """All ``jobs`` to their ends. ``fail``: (time, node): from then on it is dead, with what was on it."""
        arrivals = sorted(jobs, key=lambda job: job.arrival)
        failures = sorted(fail)
        at = 0
        tick = TICK
        while self.now < until and (at < len(arrivals) or self.transit or any(node.jobs for node in self.nodes)):
            upcoming = min(
                tick,
                arrivals[at].arrival if at < len(arrivals) else tick,
                self.transit[0][0] if self.transit else tick,
                failures[0][0] if failures else tick,
                min((self.now + min(job.need - job.done for job in node.jobs) / node.rate()
                     for node in self.nodes if node.jobs), default=tick),
            )
            self.advance(max(upcoming, self.now))
            while at < len(arrivals) and arrivals[at].arrival <= self.now:
                job = arrivals[at]
                at += 1
                self.nodes[self.place(self, job)].jobs.append(job)
            while self.transit and self.transit[0][0] <= self.now:
                _, _, job, node = heapq.heappop(self.transit)
                node.coming -= job.size
                (node.jobs if node.alive else self.lost).append(job)
            while failures and failures[0][0] <= self.now:
                node = self.nodes[failures.pop(0)[1]]
                node.alive = False
                self.lost += node.jobs
                node.jobs.clear()
            if self.now >= tick:
                tick += TICK
                self.beat()
        return self

    def advance(self, to: float) -> None:
        seconds = to - self.now
        for node in self.nodes:
            if not node.jobs:
                continue
            rate = node.rate()
            node.busy += len(node.jobs) * seconds
            ended = False
            for job in node.jobs:
                job.done += rate * seconds
                if job.done >= job.need - 1e-9:
                    job.finished = to
                    ended = True
            if ended:
                self.finished += [job for job in node.jobs if job.finished]
                node.jobs = [job for job in node.jobs if not job.finished]
        self.now = to

    # ------------------------------------------------------------------ what a node knows and does each second

    def beat(self) -> None:
        alive = [node for node in self.nodes if node.alive]
        for node in alive:
            node.local, node.busy = node.busy / TICK, 0.0
            node.exported = exported(node.exported, node.local)
            load = load_of(node.exported, node.machine.ncpus, node.machine.speed)
            node.gossip.refresh(round(self.now * 1000), FACTS.pack(load, node.machine.memory - node.used))
        for _ in range(STEPS):
            for node in alive:
                self.gossip(node)
        if self.migrate:
            for node in self.random.sample(alive, len(alive)):
                if node.jobs:
                    self.balance(node)
        self.trace.append((self.now, [len(node.jobs) for node in self.nodes]))

    def gossip(self, node: Node) -> None:
        """One step of ``node``; who does not answer is dead at once."""
        contact = node.gossip.contact()
        if contact is None:
            return
        target = self.nodes[contact.node]
        if not target.alive:
            self.learn(node, node.gossip.lost(target.number, round(self.now * 1000)))
        elif contact.pull:
            self.learn(target, [node.gossip.own])
            self.learn(node, *target.gossip.message())
        else:
            self.learn(target, *node.gossip.message())
            self.learn(node, [target.gossip.own])

    def learn(self, node: Node, entries: Sequence[Entry], urgent: Mapping[int, int] = NOTHING_URGENT) -> None:
        for birth, number, facts in node.gossip.merge(entries, urgent):
            if facts:
                node.known[number] = Known(*FACTS.unpack(facts), birth / 1000)
            else:
                node.known.pop(number, None)

    def candidates(self, node: Node) -> list[Candidate]:
        """The others as ``node`` knows them."""
        node.reserved = [(at, ip) for at, ip in node.reserved if self.now - at < RESERVED_FOR]
        found = []
        for number, entry in node.known.items():
            if self.now - entry.at < FRESH:
                machine = self.nodes[number].machine
                found.append(Candidate(str(number), entry.load, machine.speed, machine.ncpus, entry.free,
                                       sum(ip == number for _, ip in node.reserved), machine.memory))
        return found

    def here(self, node: Node, runnable: float) -> Candidate:
        machine = node.machine
        load = load_of(runnable, machine.ncpus, machine.speed)
        return Candidate(str(node.number), load, machine.speed, machine.ncpus, machine.memory - node.used, 0, machine.memory)

    def balance(self, node: Node) -> None:
        processes = [
            choose.Process(job.number, "job", "", job.done, job.done - job.came, 1.0, job.size) for job in node.jobs
        ]
        by_number = {job.number: job for job in node.jobs}
        verdicts = choose.decide(self.here(node, len(node.jobs)), self.candidates(node), processes, choose.Switches(),
                                 lambda ip: self.network, self.random.choice)
        for verdict in verdicts:
            if verdict.target is not None:
                self.move(node, self.nodes[int(verdict.target)], by_number[verdict.pid], verdict.below)

    def move(self, node: Node, target: Node, job: Job, below: int) -> None:
        """The target has the last word: it is dead, full, or busier than the sender thought."""
        machine = target.machine
        coming = sum(there is target for _, _, _, there in self.transit)
        load = load_of(len(target.jobs) + coming + 1, machine.ncpus, machine.speed)
        if not target.alive or machine.memory - target.used < job.size or (below and load > below):
            self.refused += 1
            node.known.pop(target.number, None)
            return
        node.jobs.remove(job)
        node.reserved.append((self.now, target.number))
        target.coming += job.size
        job.came = job.done
        job.moves += 1
        self.moves += 1
        arrival = self.now + self.network.transfer(job.size)
        heapq.heappush(self.transit, (arrival, next(self.cursor), job, target))


# --------------------------------------------------------------------------- where jobs begin


def round_robin(cluster: Cluster, job: Job) -> int:
    """As PVM does: one machine after the other."""
    alive = [node.number for node in cluster.nodes if node.alive]
    return alive[next(cluster.cursor) % len(alive)]


def at_home(cluster: Cluster, job: Job) -> int:
    """mosrun without a location: where the user is."""
    return job.home


def on_best(cluster: Cluster, job: Job) -> int:
    """mosrun -b at the user's node."""
    node = cluster.nodes[job.home]
    own = cluster.here(node, max(node.exported, len(node.jobs)))
    chosen = best.best_node([own, *cluster.candidates(node)], job.size, cluster.random.choice)
    target = node if chosen is None else cluster.nodes[int(chosen)]
    if target is not node:
        node.reserved.append((cluster.now, target.number))
    room = target.alive and target.machine.memory - target.used >= job.size
    return target.number if room else node.number  # mosrun -F


def opportunity_cost(cluster: Cluster, job: Job) -> int:
    """The paper's assignment: least n^memory + n^(load/L), marginal, with true and present information."""
    n = len(cluster.nodes)
    loads = {node: len(node.jobs) * 10000 / node.machine.speed / node.machine.ncpus for node in cluster.nodes}
    top = 1
    while top < max(loads.values()) + 1:
        top *= 2

    def marginal(node: Node) -> float:
        used, memory, load = node.used, node.machine.memory, loads[node]
        after = load + 10000 / node.machine.speed / node.machine.ncpus
        return float(n ** ((used + job.size) / memory) - n ** (used / memory) + n ** (after / top) - n ** (load / top))

    return min((node for node in cluster.nodes if node.alive), key=marginal).number


POLICIES: dict[str, tuple[Place, bool]] = {
    "round robin": (round_robin, False),
    "opportunity cost": (opportunity_cost, False),
    "mosrun -b, no moves": (on_best, False),
    "mosrun, moves": (at_home, True),
    "mosrun -b, moves": (on_best, True),
}
