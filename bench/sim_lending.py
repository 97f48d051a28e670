"""What clusters gain by lending each other what is idle: the production decisions under a virtual clock.

Ten departments of 100 to 1,000 nodes work at times, and then start more programs than they have nodes; else they start few. How
long they work and rest is heavy-tailed, half of them change soon, and heavy-tailed is what programs need. All are each other's
partners. Four ways are compared: ``alone``: nobody lends; ``kill``: a guest that has to make way is killed and begins again at its
home, as in HTCondor's vanilla universe; ``move``: it moves home, as in mosfs; ``unpriced``: the same, but evictions do not make a
partner's node cost more (`cost.unsettled`).

Whose programs may come, who leaves, where a program begins and where it moves is asked of `node.guests`, `node.choice`,
`balance.choose` and `balance.evictions`, as mosd does, with a sample of the nodes as gossip brings it. Two things are to the
disadvantage of lending: a node looks at its programs once a minute, and less often while it finds nothing, instead of once a
second; and a program that moves stands still until all of it has arrived. Clusters are 20 MB/s and 1 ms apart (`DISTANT`).
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import random
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

from bench.sim_jobs import heavy_tailed
from mosfs.balance import choose
from mosfs.balance.cost import DISTANT, NEAR, Candidate, Network, load_of
from mosfs.cluster.load import ClusterMap
from mosfs.cluster.mosix_map import parse_map, validate_map
from mosfs.cluster.partners import PartnerFile, PartnerRange, validate_partners
from mosfs.cluster.relation import Relation
from mosfs.node import choice, guests
from mosfs.node.nodes import Node as View
from mosfs.node.programs import Guest, Program
from mosfs.node.world import World
from mosfs.tools.chart import lines
from mosfs.wire.asked import Settings
from mosfs.wire.messages import GuestState, PeerStatus, ProcState

HOUR = 3600.0
#: Nodes that a decision knows: the window of gossip.
WINDOW = 15
#: Seconds from one look at the programs of a node to the next; twice as many each time that nobody left, up to the second number.
LOOK, LOOK_AT_MOST = 60.0, 480.0
#: Megabytes of a node; CPU seconds and megabytes of programs: P(more than x) = the first / x, cut at the second.
MEMORY = 64_000
NEEDS, SIZES = (600.0, 10 * HOUR), (100.0, 16_000.0)
#: Mean seconds for which a department works or rests (Pareto, cut at ten times of it), and the programs for each node meanwhile.
WORKS, RESTS, SHAPE = 2 * HOUR, 5 * HOUR, 1.5
#: Every other one changes so much sooner.
RESTLESS = 12
BUSY, QUIET = 2.5, 0.1
PRIORITY = 50
SIZES_OF_CLUSTERS = tuple(range(100, 1001, 100))
WAYS = ("alone", "kill", "move", "unpriced")


@dataclass(eq=False, slots=True)
class Job:
    """A program. ``done`` of ``need`` seconds are computed; ``lost``: that were computed for nothing; ``still``: in which it moved;
    ``came``: what was done when it came to its node, at ``arrived``."""

    number: int
    home: Machine
    need: float
    size: int
    began: float
    done: float = 0.0
    came: float = 0.0
    arrived: float = 0.0
    lost: float = 0.0
    still: float = 0.0
    evicted: int = 0


@dataclass(eq=False, slots=True)
class Machine:
    """A node. ``since``: until when its programs' work is counted; ``turn`` tells whether an event about it still holds."""

    ip: str
    cluster: int
    world: World
    jobs: dict[int, Job] = field(default_factory=dict)
    coming: int = 0
    since: float = 0.0
    turn: int = 0
    pause: float = LOOK
    looking: bool = False


class Done(NamedTuple):
    """A program that has ended. ``slowdown``: its whole time by what it needed; the others as in `Job`."""

    need: float
    slowdown: float
    lost: float
    still: float
    evicted: int


@dataclass(slots=True)
class Tally:
    """``lent`` and ``used``: CPU seconds that guests of other clusters, and all, have computed; ``back``: seconds until an owner's
    program had its node for itself; ``trace``: (hours, programs computing, of these guests of other clusters)."""

    lent: float = 0.0
    used: float = 0.0
    back: list[float] = field(default_factory=list)
    ended: list[Done] = field(default_factory=list)
    trace: list[tuple[float, int, int]] = field(default_factory=list)


class Fleet:
    """One run of one of `WAYS`."""

    def __init__(self, sizes: Sequence[int], way: str, seed: int) -> None:
        self.way, self.now, self.random = way, 0.0, random.Random(seed)
        self.tally, self.cursor = Tally(), itertools.count()
        self.events: list[tuple[float, int, str, Any]] = []
        self.clusters: list[list[Machine]] = []
        known = maps(sizes, lending=way != "alone")
        for number in range(len(sizes)):
            self.clusters.append([Machine(ip, number, self._world(ip, known[number])) for ip in known[number].nodes()])
        self.machines = [machine for cluster in self.clusters for machine in cluster]
        self.by_ip = {machine.ip: machine for machine in self.machines}

    def _world(self, ip: str, shared: ClusterMap) -> World:
        return World(ip=ip, map=shared, clock=lambda: self.now, version="1.0.0", speed=10000, port=253, pid=1)

    # ------------------------------------------------------------------ time

    def at(self, when: float, what: str, about: Any) -> None:
        heapq.heappush(self.events, (when, next(self.cursor), what, about))

    def run(self, jobs: Sequence[tuple[float, int, int, float, int]], until: float) -> Tally:
        """``jobs``: (start, cluster, node of it, CPU seconds, megabytes); all that begin before ``until``, to their ends."""
        for number, (start, cluster, node, need, size) in enumerate(jobs):
            self.at(start, "start", Job(number, self.clusters[cluster][node], need, size, start))
        self.at(0.0, "film", until)
        while self.events:
            self.now, _, what, about = heapq.heappop(self.events)
            getattr(self, f"_{what}")(about)
        return self.tally

    def _film(self, until: float) -> None:
        lent = sum(job.home.cluster != machine.cluster for machine in self.machines for job in machine.jobs.values())
        self.tally.trace.append((self.now / HOUR, sum(len(machine.jobs) > 0 for machine in self.machines), lent))
        if self.now < until:
            self.at(self.now + HOUR / 6, "film", until)

    def compute(self, machine: Machine) -> None:
        """Count what has been computed there until now; who has all that he needs ends."""
        seconds, machine.since = self.now - machine.since, self.now
        for job in list(machine.jobs.values()):
            share = seconds / len(machine.jobs) if seconds else 0.0
            job.done += share
            self.tally.used += share
            self.tally.lent += share * (job.home.cluster != machine.cluster)
        for job in [job for job in machine.jobs.values() if job.done >= job.need - 1e-6]:
            self.tally.ended.append(Done(job.need, (self.now - job.began) / job.need, job.lost, job.still, job.evicted))
            self._leave(machine, job)

    def _again(self, machine: Machine) -> None:
        """What changes there next."""
        machine.turn += 1
        if machine.jobs:
            left = min(job.need - job.done for job in machine.jobs.values())
            self.at(self.now + max(left, 0.0) * len(machine.jobs), "end", (machine, machine.turn))
        if len(machine.jobs) > 1 and not machine.looking:
            machine.looking, machine.pause = True, LOOK
            self.at(self.now + LOOK * self.random.uniform(0.8, 1.2), "look", machine)

    def _end(self, about: tuple[Machine, int]) -> None:
        machine, turn = about
        if turn == machine.turn:
            self.compute(machine)
            self._again(machine)

    # ------------------------------------------------------------------ programs come and go

    def _start(self, job: Job) -> None:
        """mosrun -b."""
        self.know(job.home)
        chosen = choice.best(job.home.world, job.size)
        job.home.world.coming.reserved.clear()  # what is on its way is known here
        self._arrive((job, self.by_ip[chosen] if chosen else job.home))

    def _arrive(self, about: tuple[Job, Machine]) -> None:
        """The target has the last word."""
        job, machine = about
        relation = machine.world.map.relation(job.home.ip)
        if machine is not job.home and guests.unwanted(machine.world, relation):
            machine = job.home
        self.compute(machine)
        coming = guests.NOTHING if machine is job.home else relation.priority
        machine.jobs[job.number], job.came, job.arrived = job, job.done, self.now
        if machine is job.home:
            machine.world.programs[job.number] = Program(ProcState(job.number, 1, "", "here", 0, Settings()), None)
        else:
            state = GuestState(job.number, job.number, job.home.ip, 1, "job", self.now)
            machine.world.guests[job.number] = Guest(state, lambda message: None)
        self._evict(machine, guests.outranked(machine.world, coming))
        self._again(machine)

    def _leave(self, machine: Machine, job: Job, *, evicted: bool = False) -> None:
        """Its home-node counts how long it was at a partner's (`daemon.balancer`)."""
        del machine.jobs[job.number]
        machine.world.programs.pop(job.number, None)
        machine.world.guests.pop(job.number, None)
        job.evicted += evicted
        home = job.home.world
        if self.way != "unpriced" and (partner := home.map.relation(machine.ip).partner):
            home.multi.been(partner, self.now, self.now - job.arrived, evicted)

    def _evict(self, machine: Machine, leaving: Sequence[Guest]) -> None:
        """They leave one after the other, over one link."""
        gone = self.now
        for guest in leaving:
            job = machine.jobs[guest.state.pid]
            self._leave(machine, job, evicted=True)
            if self.way == "kill":
                job.lost, job.done = job.lost + job.done, 0.0
                self.at(self.now, "start", job)
                continue
            gone += DISTANT.transfer(job.size)
            job.still += gone - self.now
            self.at(gone, "arrive", (job, job.home))
        if leaving:
            self.tally.back.append(gone - self.now)

    # ------------------------------------------------------------------ what a node knows and decides

    def know(self, machine: Machine) -> None:
        """Fresh news of some nodes of all that it may know, and of itself."""
        among = self.clusters[machine.cluster] if self.way == "alone" else self.machines
        seen = [among[int(self.random.random() * len(among))] for _ in range(WINDOW)]
        machine.world.nodes = {other.ip: self._view(machine, other) for other in [*seen, machine]}

    def _view(self, machine: Machine, other: Machine) -> View:
        relation = other.world.map.relation(machine.ip)
        running = len(other.jobs) + other.coming
        free = MEMORY - sum(job.size for job in other.jobs.values())
        status = PeerStatus(
            load_of(running, 1, 10000), 10000, 1, max(free, 0), MEMORY, len(other.world.guests), blocked=False,
            level=guests.level(other.world), processes=running,
        )
        return View(other.ip, status=status, heard=self.now, standing=guests.standing(relation))

    def network(self, machine: Machine, other: str) -> Network:
        return NEAR if machine.world.map.relation(other).own else DISTANT

    def _look(self, machine: Machine) -> None:
        machine.looking = False
        self.compute(machine)
        if len(machine.jobs) > 1:
            self.know(machine)
            nodes = choice.candidates(machine.world)
            here = next(node for node in nodes if node.ip == machine.ip)
            moved = self._decide(machine, here, [node for node in nodes if node is not here])
            machine.pause = LOOK if moved else min(2 * machine.pause, LOOK_AT_MOST)
            machine.looking = True
            self.at(self.now + machine.pause * self.random.uniform(0.8, 1.2), "look", machine)
        self._again(machine)

    def _decide(self, machine: Machine, here: Candidate, others: Sequence[Candidate]) -> bool:
        processes = [
            choose.Process(
                job.number, "job", "" if job.home is machine else job.home.ip, job.done, job.done - job.came, 1.0, job.size,
                priority=machine.world.map.relation(job.home.ip).priority,
            )
            for job in machine.jobs.values()
        ]
        verdicts = choose.decide(
            here, others, processes, choose.Switches(), lambda ip: self.network(machine, ip), self.random.choice
        )
        leaving = [verdict for verdict in verdicts if verdict.target is not None]
        for verdict in leaving:
            assert verdict.target is not None
            job, target = machine.jobs[verdict.pid], self.by_ip[verdict.target]
            self._leave(machine, job)
            seconds = self.network(machine, target.ip).transfer(job.size)
            job.still += seconds
            target.coming += 1
            self.at(self.now + seconds, "land", (job, target))
        return bool(leaving)

    def _land(self, about: tuple[Job, Machine]) -> None:
        about[1].coming -= 1
        self._arrive(about)


class _Map(ClusterMap):
    """Which remembers what it has been asked."""

    def relation(self, ip: str) -> Relation:
        known: dict[str, Relation] = self.__dict__.setdefault("known", {})
        if (found := known.get(ip)) is None:
            found = known[ip] = super().relation(ip)
        return found


def maps(sizes: Sequence[int], *, lending: bool) -> list[_Map]:
    """That of each cluster: of 10.0.0.1 and the nodes behind it, 10.1.0.1 and so on."""
    found = []
    for number, size in enumerate(sizes):
        files = {
            f"cluster{other}": PartnerFile("-", PRIORITY, ranges=(PartnerRange(f"10.{other}.0.1", count),))
            for other, count in enumerate(sizes) if lending and other != number
        }
        own = validate_map(parse_map(f"10.{number}.0.1 {size} p\n"), lambda name: None)
        found.append(_Map(own, partners=validate_partners(files, own, lambda name: None)))
    return found


# --------------------------------------------------------------------------- workload


def pareto(rng: random.Random, average: float) -> float:
    return min(average * (SHAPE - 1) / SHAPE * rng.paretovariate(SHAPE), 10 * average)


def workload(sizes: Sequence[int], until: float, seed: int) -> list[tuple[float, int, int, float, int]]:
    """What the departments start, as `Fleet.run` wants it."""
    rng = random.Random(seed)
    need = mean(heavy_tailed(rng, 100_000, *NEEDS))
    jobs = []
    for cluster, size in enumerate(sizes):
        now, works = 0.0, rng.random() < WORKS / (WORKS + RESTS)
        sooner = RESTLESS if cluster % 2 else 1
        while now < until:
            end = min(until, now + pareto(rng, WORKS if works else RESTS) / sooner * (rng.random() if now == 0 else 1))
            rate = size * (BUSY if works else QUIET) / need
            while (now := now + rng.expovariate(rate)) < end:
                [cpu], [memory] = heavy_tailed(rng, 1, *NEEDS), heavy_tailed(rng, 1, *SIZES)
                jobs.append((now, cluster, rng.randrange(size), cpu, round(memory)))
            now, works = end, not works
    return sorted(jobs)


def simulate(sizes: Sequence[int], way: str, seconds: float, seed: int) -> Tally:
    return Fleet(sizes, way, seed).run(workload(sizes, seconds, seed), seconds)


@dataclass(frozen=True)
class Row:
    """Of one way. ``slowdown``: mean (end - start) / need of programs; ``long``: of those that need more than an hour; ``lent``:
    the share of all computing that was done by guests of other clusters; ``lost``: that was done for nothing; ``still``: seconds of
    standing still for each hour of computing; ``evictions``: of a hundred programs; ``back`` and ``back99``: seconds until an owner
    has his node for himself, mean and the 99th of 100."""

    slowdown: float
    long: float
    lent: float
    lost: float
    still: float
    evictions: float
    back: float
    back99: float


def row(tally: Tally) -> Row:
    jobs = tally.ended
    back = sorted(tally.back) or [0.0]
    spent = tally.used or 1.0
    return Row(
        mean(job.slowdown for job in jobs), mean([job.slowdown for job in jobs if job.need > HOUR] or [0.0]), tally.lent / spent,
        sum(job.lost for job in jobs) / spent, sum(job.still for job in jobs) / spent * HOUR,
        100 * sum(job.evicted for job in jobs) / len(jobs), mean(back), back[len(back) * 99 // 100],
    )


def by_length(tallies: dict[str, Tally]) -> str:
    """SVG: mean slowdown of programs that need so many hours."""
    series = {}
    for way, tally in tallies.items():
        bins: dict[int, list[float]] = {}
        for job in tally.ended:
            bins.setdefault(min(int(job.need / HOUR), 9), []).append(job.slowdown)
        series[way] = [(hours + 0.5, mean(found)) for hours, found in sorted(bins.items())]
    return lines("Slowdown of programs by what they need", "hours of a processor", "times as long as alone on a node", series)


def over_time(tally: Tally) -> str:
    """SVG: how many nodes compute, and how many of these for others."""
    busy = [(hours, float(all_)) for hours, all_, _ in tally.trace]
    lent = [(hours, float(guests_)) for hours, _, guests_ in tally.trace]
    series = {"compute": busy, "programs of other clusters": lent}
    return lines("Ten clusters lend each other what is idle", "hours", "nodes", series)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.sim_lending", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", default=",".join(WAYS), metavar="alone,move", help=f"some of {' '.join(WAYS)}")
    parser.add_argument("--hours", type=float, default=12.0, help="for which programs are started (default 12)")
    parser.add_argument("--scale", type=float, default=1.0, help="of the clusters, 1 = 100 to 1000 nodes (default 1)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--svg", metavar="folder", help="also write lending.svg and lent.svg there")
    options = parser.parse_args()
    names = options.only.split(",")
    if not set(names) <= set(WAYS) or options.hours <= 0 or not 0 < options.scale <= 10:
        parser.error(f"--only some of {' '.join(WAYS)}, --hours above 0, --scale above 0 and up to 10")
    sizes = [max(2, round(size * options.scale)) for size in SIZES_OF_CLUSTERS]
    with ProcessPoolExecutor(len(names)) as pool:
        runs = [pool.submit(simulate, sizes, name, options.hours * HOUR, options.seed) for name in names]
        tallies = {name: run.result() for name, run in zip(names, runs)}
    for name, tally in tallies.items():
        if not options.json:
            report(name, row(tally), first=name == names[0])
    if options.json:
        print(json.dumps({name: asdict(row(tally)) for name, tally in tallies.items()}))
    if options.svg:
        pictures = {"lending.svg": by_length(tallies)} | ({"lent.svg": over_time(tallies["move"])} if "move" in tallies else {})
        for file, text in pictures.items():
            Path(options.svg, file).write_text(text, encoding="utf-8")
    return 0


def report(name: str, found: Row, *, first: bool) -> None:
    if first:
        print(" " * 10 + f"{'slowdown':>9}{'over 1 h':>9}{'lent':>7}{'lost':>7}{'still s/h':>10}{'evictions %':>12}"
              f"{'back s':>8}{'99 %':>8}")
    print(f"{name:10}{found.slowdown:9.2f}{found.long:9.2f}{found.lent:7.1%}{found.lost:7.1%}{found.still:10.2f}"
          f"{found.evictions:12.1f}{found.back:8.1f}{found.back99:8.1f}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
