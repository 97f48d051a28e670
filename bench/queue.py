"""Private queues. S1: a thousand short commands by mosrun -S, against GNU parallel and xargs -P, on one node. S2: commands that
compute, over four nodes of which the fastest has fourteen times what the slowest has, against the best that there could be."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence

from bench.bed import Bed, BenchError
from bench.measure import Result, Spread, interleave
from bench.spread import iterations_a_second, optimum, quota_lab
from mosfs.tools import cgroups, lab

LINES = 1000
PATIENCE = 600.0  #: seconds after which something hangs
#: Of S2: command-lines, how many at a time, and CPU seconds that each needs.
EQUAL_LINES, AT_A_TIME, NEED = 40, 12, 1.5


def seconds(bed: Bed, command: Sequence[str]) -> float:
    """How long a command takes with the lines as its standard input. BenchError when it fails."""
    with open(bed.folder / "commands", "rb") as lines:
        begun = time.monotonic()
        done = subprocess.run(
            command, env=dict(bed.environ), cwd=bed.folder, stdin=lines, capture_output=True, check=False, timeout=PATIENCE,
        )
        taken = time.monotonic() - begun
    if done.returncode:
        raise BenchError(f"{' '.join(command)}: status {done.returncode}: {done.stderr.decode(errors='replace')[-200:]}")
    return taken


def s1(bed: Bed, rounds: int) -> Iterator[Result]:
    """As many at a time as there are processors; each starts a shell for each line."""
    (bed.folder / "commands").write_text("".join(f": {n}\n" for n in range(LINES)))
    jobs = str(os.cpu_count() or 1)
    references: dict[str, tuple[list[str], float | None]] = {
        "GNU parallel": (["parallel", f"-j{jobs}", "--will-cite"], 1.0),
        "xargs -P": (["xargs", f"-P{jobs}", "-d\\n", "-n1", "bash", "-c"], None),
    }
    for name, (command, target) in references.items():
        if shutil.which(command[0]) is None:
            raise BenchError(f"{command[0]} is not installed")
        ours, theirs = interleave(
            lambda: seconds(bed, ["mosrun", f"-S{jobs}", "-"]), lambda words=command: seconds(bed, words), rounds,
        )
        yield Result("S1", f"{LINES} short commands", "s", name, ours, theirs, target)


def s2(bed: object, rounds: int) -> Iterator[Result]:
    """Equal lines, so that the queue alone decides how even it ends."""
    ours, best = [], []
    with quota_lab() as (plan, folder):
        lines = f"exec {folder}/loops cpu {int(NEED * iterations_a_second(folder))} 1 >/dev/null\n" * EQUAL_LINES
        node = plan.node(1)
        environ = {**lab.environment(node), "PATH": f"{folder}/bin:{os.environ['PATH']}"}
        command = [*cgroups.entering(node.groups, node.name), "mosrun", "-b", "-e", f"-S{AT_A_TIME}", "-"]
        for _ in range(rounds):
            begun = time.monotonic()
            done = subprocess.run(command, env=environ, input=lines.encode(), capture_output=True, check=False, timeout=PATIENCE)
            if done.returncode:
                raise BenchError(f"mosrun -S: status {done.returncode}: {done.stderr.decode(errors='replace')[-200:]}")
            ours.append(time.monotonic() - begun)
            best.append(optimum([NEED] * EQUAL_LINES))
    what = f"{EQUAL_LINES} commands over four unequal nodes"
    yield Result("S2", what, "s", "optimum, computed", Spread(tuple(ours)), Spread(tuple(best)), 1.25)
