"""Figure L2: real programs of heavy-tailed length, all started on one of four nodes with different CPU quotas.

Against a static round robin over the nodes, by the same mosrun with a place and -L; and against the shortest makespan that any
schedule could have, computed from what the programs need. How much less the mean slowdown can be depends on the quotas above
all: so that of fair sharing is printed too, when all programs always get the same and moves cost nothing.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean

from bench.bed import CFLAGS, SOURCES, BenchError
from bench.measure import Result, Spread
from bench.sim_jobs import heavy_tailed
from mosfs.tools import cgroups, install_launchers, lab

CPUS = (0.7, 0.3, 0.15, 0.05)
PROGRAMS = 24
SHORTEST, LONGEST = 0.5, 15.0  #: CPU seconds
PATIENCE = 900.0
CALIBRATION = 200_000_000  #: iterations


@dataclass(frozen=True)
class Run:
    """Seconds from the first start to the last end, and the mean of (end - start) / CPU seconds needed."""

    makespan: float
    slowdown: float


def optimum(needs: Sequence[float], speeds: Sequence[float] = CPUS) -> float:
    """The shortest makespan with any number of moves that cost nothing (Horvath, Lam, Sethi, JACM 24(1), 1977): all work on all
    machines, or the k longest programs on the k fastest, whichever takes longest."""
    long_first, fast_first = sorted(needs, reverse=True), sorted(speeds, reverse=True)
    parts = [sum(long_first[:k]) / sum(fast_first[:k]) for k in range(1, min(len(needs), len(speeds)))]
    return max([sum(needs) / sum(speeds), *parts])


def fair(needs: Sequence[float], speeds: Sequence[float] = CPUS) -> Run:
    """All programs share all machines equally and change places at no cost."""
    fast_first = sorted(speeds, reverse=True)
    now = had = 0.0
    slowdowns = []
    for ended, need in enumerate(sorted(needs)):
        left = len(needs) - ended
        now += (need - had) * left / sum(fast_first[:left])
        had = need
        slowdowns.append(now / need)
    return Run(now, mean(slowdowns))


@contextmanager
def quota_lab() -> Iterator[tuple[lab.Plan, Path]]:
    """Four balanced nodes with `CPUS` and the program; both gone afterwards. BenchError where there are no control groups."""
    with tempfile.TemporaryDirectory(prefix="mosfs-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        subprocess.run(["gcc", *CFLAGS, str(SOURCES / "loops.c"), "-o", str(folder / "loops")], check=True)
        (folder / "bin").mkdir()
        install_launchers.install(str(folder / "bin"))
        pid = os.getpid()
        plan = lab.Plan.make(f"{name}/lab", len(CPUS), f"127.{16 + pid // 250 % 230}.{1 + pid % 250}.100", False, True)
        try:
            plan = replace(plan, cpus=CPUS).limited()
            lab.up(plan)
        except lab.UserError as error:
            raise BenchError(str(error)) from error
        try:
            yield plan, folder
        finally:
            lab.down(plan.root)


def iterations_a_second(folder: Path) -> float:
    """Of the program, in CPU time of an undisturbed processor."""
    before = os.times()
    subprocess.run([str(folder / "loops"), "cpu", str(CALIBRATION), "1"], check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    return CALIBRATION / (after.children_user - before.children_user)


def run(plan: lab.Plan, folder: Path, needs: Sequence[float], rate: float, *, static: bool) -> Run:
    """All programs at once, started inside of the node, so that a busy machine does not make the start long."""
    node = plan.node(1)
    environ = {**lab.environment(node), "PATH": f"{folder}/bin:{os.environ['PATH']}"}
    enter = cgroups.entering(node.groups, node.name)
    started: dict[int, tuple[float, float]] = {}
    ends: dict[int, float] = {}
    processes = []
    for k, need in enumerate(needs):
        place = ["-L", f"-{k % len(CPUS) + 1}"] if static else []
        command = [*enter, "mosrun", *place, str(folder / "loops"), "cpu", str(int(need * rate)), "1"]
        process = subprocess.Popen(command, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        processes.append(process)
        started[process.pid] = (time.monotonic(), need)
    deadline = time.monotonic() + PATIENCE
    while len(ends) < len(processes):
        for process in processes:
            if process.pid not in ends and process.poll() is not None:
                if process.returncode:
                    raise BenchError(f"a program ended with status {process.returncode}")
                ends[process.pid] = time.monotonic()
        if time.monotonic() > deadline:
            for process in processes:
                process.kill()
                process.wait()
            raise BenchError(f"not done after {PATIENCE:.0f} s")
        time.sleep(0.02)
    first = min(at for at, _ in started.values())
    return Run(
        max(ends.values()) - first, mean((ends[pid] - at) / need for pid, (at, need) in started.items())
    )


def l2(bed: object, rounds: int) -> Iterator[Result]:
    """Each round has other lengths, the same for both sides."""
    with quota_lab() as (plan, folder):
        rate = iterations_a_second(folder)
        ours: list[Run] = []
        theirs: list[Run] = []
        best: list[float] = []
        shared: list[Run] = []
        for seed in range(rounds):
            needs = heavy_tailed(random.Random(seed), PROGRAMS, SHORTEST, LONGEST)
            best.append(optimum(needs))
            shared.append(fair(needs))
            theirs.append(run(plan, folder, needs, rate, static=True))
            ours.append(run(plan, folder, needs, rate, static=False))
            told = f"{ours[-1]} static {theirs[-1]} optimum {best[-1]:.1f} s, fair {shared[-1]}"
            print(f"L2 round {seed + 1}: {told}", file=sys.stderr, flush=True)
    makespan, static_makespan = spread([run.makespan for run in ours]), spread([run.makespan for run in theirs])
    slowdown, static_slowdown = spread([run.slowdown for run in ours]), spread([run.slowdown for run in theirs])
    yield Result("L2", "makespan", "s", "static round robin", makespan, static_makespan, 0.5)
    yield Result("L2", "mean slowdown", "", "static round robin", slowdown, static_slowdown, 0.5)
    yield Result("L2", "makespan", "s", "optimum, computed", makespan, spread(best), 1.25)
    yield Result("L2", "mean slowdown", "", "fair sharing, computed", slowdown, spread([run.slowdown for run in shared]), None)


def spread(samples: Sequence[float]) -> Spread:
    return Spread(tuple(samples))
