"""Workloads on simulated clusters (`bench.sim_cluster`), and what becomes of them under several policies.

The main one is that of Amir, Awerbuch, Barak, Borgstrom, Keren, "An opportunity cost approach for job assignment in a scalable
computing cluster" (PDCS 1998; TPDS 11(7), 2000): six machines of three speeds, an arrival each 10 s for 1000 s, heavy-tailed needs.
Speeds, memory sizes and the thrashing factor are not all in the paper; ours are in `OCJA_MACHINES` and `sim_cluster.THRASH`.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import mean

from bench.sim_cluster import POLICIES, Cluster, Job, Machine

OCJA_MACHINES = (
    Machine(5000, 64), Machine(5000, 64), Machine(7500, 64), Machine(7500, 128), Machine(10000, 128), Machine(10000, 128),
)


def ocja(rng: random.Random, machines: Sequence[Machine] = OCJA_MACHINES, every: float = 10) -> list[Job]:
    """2/r seconds on the fastest machine and (1/m) % of the largest memory; 5 % of the jobs 20/r seconds in 1 to 20 parts."""
    largest = max(machine.memory for machine in machines)
    jobs: list[Job] = []
    at = 0.0
    while (at := at + rng.expovariate(1 / every)) < 1000:
        r, m = 1 - rng.random(), 1 - rng.random()
        parts = rng.randint(1, 20) if rng.random() < 0.05 else 0
        need = (20 / r / parts) if parts else 2 / r
        size = max(1, round(min(1 / m, 100.0) / 100 * largest))
        home = rng.randrange(len(machines))
        first = len(jobs)
        jobs += [Job(first + k, at, need, size, home, first) for k in range(max(parts, 1))]
    return jobs


def heavy_tailed(rng: random.Random, count: int, shortest: float, longest: float) -> list[float]:
    """P(life > t) = shortest / t, as Harchol-Balter and Downey measured (TOCS 15(3), 1997), cut at ``longest``."""
    return [min(shortest / (1 - rng.random()), longest) for _ in range(count)]


def burst(rng: random.Random, machines: Sequence[Machine], count: int = 24) -> list[Job]:
    """``count`` programs started at once at node 0."""
    needs = heavy_tailed(rng, count, 5, 300)
    return [Job(k, 0.0, need, 1, 0, k) for k, need in enumerate(needs)]


def stream(rng: random.Random, machines: Sequence[Machine], seconds: float = 200, use: float = 0.7) -> list[Job]:
    """Arrivals everywhere, on one node in five four times as often, that together want ``use`` of all CPUs."""
    mean_need = mean(heavy_tailed(random.Random(0), 10000, 1, 300))
    capacity = sum(machine.speed / 10000 * machine.ncpus for machine in machines)
    busy = [4 if k % 5 == 0 else 1 for k in range(len(machines))]
    jobs: list[Job] = []
    at = 0.0
    while (at := at + rng.expovariate(use * capacity / mean_need)) < seconds:
        home = rng.choices(range(len(machines)), busy)[0]
        jobs.append(Job(len(jobs), at, heavy_tailed(rng, 1, 1, 300)[0], rng.randint(1, 20), home, len(jobs)))
    return jobs


@dataclass(frozen=True)
class Workload:
    """``fail``: (seconds, node) of nodes that die, with what runs there."""

    title: str
    machines: Sequence[Machine]
    jobs: Callable[[random.Random, Sequence[Machine]], list[Job]]
    fail: Sequence[tuple[float, int]] = ()

    def run(self, policy: str, seed: int) -> Cluster:
        place, migrate = POLICIES[policy]
        cluster = Cluster(self.machines, place, migrate=migrate, seed=seed)
        return cluster.run(self.jobs(random.Random(seed), self.machines), fail=self.fail)


QUOTAS = (Machine(8000, 1000), Machine(4000, 1000), Machine(2000, 1000), Machine(1000, 1000))
TWENTY = tuple(Machine((5000, 10000, 20000)[k % 3], 2000, 2) for k in range(20))
WORKLOADS = {
    "ocja": Workload("OCJA-98", OCJA_MACHINES, ocja),
    "ocja2": Workload("OCJA-98, twice the arrivals", OCJA_MACHINES, lambda rng, machines: ocja(rng, machines, 5)),
    "burst": Workload("24 programs on one of 4 unequal nodes", QUOTAS, burst),
    "stream": Workload("arrivals at 20 nodes, 70 % busy", TWENTY, stream),
    "failures": Workload("the same, 3 nodes die", TWENTY, stream, [(50, 3), (100, 10), (150, 15)]),
}


def slowdowns(jobs: Sequence[Job]) -> list[float]:
    """(finish - arrival) / CPU seconds needed, a number a job; a parallel job ends with its last part."""
    groups: dict[int, list[Job]] = {}
    for job in jobs:
        groups.setdefault(job.group, []).append(job)
    return [(max(job.finished for job in group) - group[0].arrival) / group[0].need for group in groups.values()]


@dataclass(frozen=True)
class Summary:
    """Means over the runs: slowdown over all jobs, over the runs' means; last end; moves a program; programs lost."""

    by_job: float
    by_execution: float
    makespan: float
    moves: float
    lost: float


def summary(workload: Workload, policy: str, seeds: Sequence[int]) -> Summary:
    runs = [workload.run(policy, seed) for seed in seeds]
    slow = [slowdowns(run.finished) for run in runs]
    return Summary(
        mean(x for run in slow for x in run), mean(map(mean, slow)),
        mean(max(job.finished for job in run.finished) for run in runs),
        mean(run.moves / len(run.finished) for run in runs), mean(len(run.lost) for run in runs),
    )


# --------------------------------------------------------------------------- pictures


def chart(cluster: Cluster, title: str, width: int = 640, height: int = 240) -> str:
    """SVG: programs on each node over time."""
    colours = ("#1b6ca8", "#d1495b", "#3a7d44", "#e0a030")
    end, top = cluster.trace[-1][0], max(max(counts) for _, counts in cluster.trace)
    lines = []
    for number, node in enumerate(cluster.nodes[: len(colours)]):
        points = " ".join(
            f"{40 + at / end * (width - 50):.1f},{height - 30 - counts[number] / top * (height - 60):.1f}"
            for at, counts in cluster.trace
        )
        lines.append(f'<polyline points="{points}" fill="none" stroke="{colours[number]}" stroke-width="1.5"/>')
        lines.append(f'<text x="{width - 150}" y="{40 + 16 * number}" fill="{colours[number]}">node {number + 1}, speed '
                     f"{node.machine.speed}</text>")
    axes = "".join(
        f'<text x="{40 + share * (width - 50):.0f}" y="{height - 12}">{share * end:.0f} s</text>' for share in (0, 0.25, 0.5, 0.75)
    ) + f'<text x="6" y="34">{top}</text><text x="6" y="{height - 26}">0</text>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" font-size="12">'
        f'<rect width="100%" height="100%" fill="white"/><text x="40" y="18">{title}</text>'
        f'<path d="M40 30V{height - 30}H{width - 10}" fill="none" stroke="black"/>{axes}{"".join(lines)}</svg>\n'
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.sim_jobs", description="decisions under a virtual clock")
    parser.add_argument("--only", default="", metavar="ocja,burst", help=f"some of {' '.join(WORKLOADS)}")
    parser.add_argument("--runs", type=int, default=20, help="seeds of each workload and policy (default 20)")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--svg", metavar="file", help="draw one burst instead")
    options = parser.parse_args()
    if options.svg:
        with open(options.svg, "w", encoding="utf-8") as file:
            file.write(chart(WORKLOADS["burst"].run("mosrun, moves", 1), "24 programs started on node 1: programs on each node"))
        return 0
    names = [name for name in options.only.split(",") if name] or list(WORKLOADS)
    if unknown := [name for name in names if name not in WORKLOADS]:
        parser.error(f"no such workload: {' '.join(unknown)}")
    found: dict[str, dict[str, Summary]] = {}
    for name in names:
        found[name] = {policy: summary(WORKLOADS[name], policy, range(options.runs)) for policy in POLICIES}
        if not options.json:
            report(WORKLOADS[name].title, found[name])
    if options.json:
        print(json.dumps({name: {policy: asdict(row) for policy, row in rows.items()} for name, rows in found.items()}))
    return 0


def report(title: str, rows: dict[str, Summary]) -> None:
    print(f"{title}\n{'':22}{'slowdown by job':>16}{'by execution':>14}{'ratio':>7}{'makespan':>10}{'moves':>7}{'lost':>6}")
    for policy, row in rows.items():
        ratio = rows["round robin"].by_job / row.by_job
        print(f"{policy:22}{row.by_job:16.2f}{row.by_execution:14.2f}{ratio:7.2f}{row.makespan:10.0f}{row.moves:7.2f}{row.lost:6.1f}",
              flush=True)


if __name__ == "__main__":
    sys.exit(main())
