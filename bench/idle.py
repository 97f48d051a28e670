"""Figure I1: what many idle nodes on one machine cost, each: processor time and private memory of its worst daemon."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.bed import BenchError
from bench.measure import Result, Spread
from mosfs.tools import lab

NODES = 64
SETTLED = 20.0  #: seconds after which all know each other and nothing is left of the start
WINDOW = 10.0  #: seconds
MOST_CPU, MOST_MEMORY = 1.0, 40.0  #: per cent of a processor, megabytes


def cpu_seconds(pid: int) -> float:
    """CPU time of a process (proc(5), schedstat), exact however busy the machine is."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def private_mb(pid: int) -> float:
    """Megabytes that no other process shares (proc(5), smaps_rollup)."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024


def plain_python() -> float:
    """`private_mb` of an interpreter that has loaded nothing: the reference."""
    command = [sys.executable, "-I", "-S", "-c", "import sys; print(flush=True); sys.stdin.read()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        megabytes = private_mb(process.pid)
        process.communicate()
    return megabytes


def window(pids: set[int]) -> float:
    """Per cent of a processor that the busiest of ``pids`` takes for a while."""
    before, began = {pid: cpu_seconds(pid) for pid in pids}, time.monotonic()
    time.sleep(WINDOW)
    seconds = time.monotonic() - began
    return max(cpu_seconds(pid) - used for pid, used in before.items()) / seconds * 100


def i1(_: object, rounds: int) -> Iterator[Result]:
    """Each round is another while; the reference of the first row is a whole processor."""
    with tempfile.TemporaryDirectory(prefix="mosfs-bench-") as name:
        number = os.getpid()
        try:
            plan = lab.Plan.make(f"{name}/lab", NODES, f"127.{16 + number // 250 % 230}.{1 + number % 250}.1", False, True)
            lab.up(plan)
        except lab.UserError as error:
            raise BenchError(str(error)) from error
        try:
            time.sleep(SETTLED)
            pids = lab.daemons(plan)
            cpu = Spread(tuple(window(pids) for _ in range(rounds)))
            memory = Spread(tuple(max(map(private_mb, pids)) for _ in range(rounds)))
        finally:
            lab.down(plan.root)
    what = f"of {NODES} idle daemons the worst"
    yield Result("I1", f"CPU, {what}", "%", "one processor", cpu, Spread((100.0,) * rounds), MOST_CPU, ratio=False)
    bare = Spread(tuple(plain_python() for _ in range(rounds)))
    yield Result("I1", f"private memory, {what}", "MB", "bare python", memory, bare, MOST_MEMORY, ratio=False)
