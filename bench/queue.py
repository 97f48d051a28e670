"""S1: a thousand short commands by mosrun -S, against GNU parallel and against xargs -P, on one node."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence

from bench.bed import Bed, BenchError
from bench.measure import Result, interleave

LINES = 1000
PATIENCE = 600.0  #: seconds after which something hangs


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
