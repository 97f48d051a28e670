"""One long run: mixed programs side by side in one storm after another until so many moves were made, every result compared.

    python -m tests.soak --moves 10000 [--seed 7] [--jobs 3] [--every 0.05] [--threads] [--keep DIR] [NAME...]

Programs are the rows of tests/debian and those of tests/programs, in an order that the seed gives. Each has a storm of its own
with a seed of its own. At the first difference everything needed to find it is kept in DIR (default: build/soak): the row and
its seed, both results, and the logs of all nodes, in which each move stands with its time and PID. Exit status 1 then.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

from tests import threaded
from tests.cluster import Lab, lab
from tests.conftest import default_signals
from tests.debian import compare
from tests.debian.cases import Case
from tests.debian.compare import Result
from tests.debian.table import CASES
from tests.progs import PROGRAMS, REPO, Place, built

NODES = 3
SECONDS = "2"  #: that a program of tests/programs works in motion


@dataclass
class Soak:
    """The state of a run, shared by its workers."""

    seed: int
    wanted: int
    nodes: Lab
    every: str
    keep: Path
    moves: int = 0
    runs: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    natively: dict[str, Result | None] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    alone: threading.Lock = field(default_factory=threading.Lock)  #: one native run at a time

    def native(self, case: Case) -> Result | None:
        """The result to compare with: two native runs that agree; None if the row is not deterministic here, which is told once."""
        with self.alone:
            if case.name not in self.natively:
                first, second = compare.run(case, Place.NATIVE), compare.run(case, Place.NATIVE)
                if text := second.difference(first):
                    print(f"soak: {case.name} is left out, it differs natively: {text}", flush=True)
                self.natively[case.name] = None if text else first
            return self.natively[case.name]

    def one(self, number: int, case: Case) -> str:
        """Run number ``number``: "" or the difference."""
        native = self.native(case)
        if native is None:
            return ""
        began = time.strftime("%F %T")
        found = compare.run(case, Place.MOTION, root=self.nodes.plan.root, pause=self.every)
        difference = found.difference(native)
        with self.lock:
            self.runs += 1
            self.moves += found.outcome.moves
            self.reasons.update(found.outcome.reasons)
            print(f"{'FAIL' if difference else 'ok':4} {number:5} {self.moves:6} moves  {case.name:24} {found.outcome.moves:4} in "
                  f"{found.outcome.seconds:6.2f} s", flush=True)  # fmt: skip
            if difference:
                self._keep(number, case, began, native, found, difference)
        return difference

    def _keep(self, number: int, case: Case, began: str, native: Result, found: Result, difference: str) -> None:
        """Everything to find the reason by, in a folder of its own."""
        folder = self.keep / f"seed{self.seed}-run{number}"
        folder.mkdir(parents=True, exist_ok=True)
        report = {
            "seed": self.seed, "run": number, "program": case.name, "command": case.argv, "flags": case.flags, "began": began,
            "ended": time.strftime("%F %T"), "every": self.every, "moves": found.outcome.moves, "difference": difference,
            "reasons": dict(found.outcome.reasons), "native": dataclasses.asdict(native), "found": dataclasses.asdict(found),
        }
        (folder / "report.json").write_text(json.dumps(report, indent=1, default=str))
        (folder / "logs").write_text(self.nodes.logs())
        print(f"soak: seed {self.seed}, run {number}, {case.name}, {began}: {difference}")
        print(f"soak: logs and results in {folder}", flush=True)


def rows(names: list[str], *, threads: bool) -> list[Case]:
    """What can be run here, of ``names`` if there are any; ``threads``: of the programs with several threads."""
    if threads:
        return [case for case in threaded.cases() if (not names or case.name in names) and not case.lacking()]
    own = [Case(f"own {program.name}", f"{built(program)} {SECONDS}") for program in PROGRAMS if not program.options]
    found = [case for case in (*CASES, *own) if not names or case.name in names]
    return [case for case in found if not case.lacking() and "--stay-home" not in case.flags]


def run(soak: Soak, cases: list[Case], jobs: int) -> int:
    """Until enough moves were made or something differs; how many differences."""
    chance = random.Random(soak.seed)
    number, failures = 0, 0
    running: set[Future[str]] = set()
    with ThreadPoolExecutor(jobs) as pool:
        while running or (soak.moves < soak.wanted and not failures):
            while len(running) < jobs and soak.moves < soak.wanted and not failures:
                number += 1
                running.add(pool.submit(soak.one, number, chance.choice(cases)))
            done, running = wait(running, return_when=FIRST_COMPLETED)
            failures += sum(bool(future.result()) for future in done)
    return failures


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description="mixed programs, moved all the time")
    parser.add_argument("name", nargs="*", help="rows (default: all)")
    parser.add_argument("--moves", type=int, default=10000, help="end after so many")
    parser.add_argument("--seed", type=int, default=1, help="which programs, in which order")
    parser.add_argument("--jobs", type=int, default=3, help="programs at the same time")
    parser.add_argument("--every", default=compare.PAUSE, help="seconds between two moves of one process")
    parser.add_argument("--threads", action="store_true", help="programs with several threads only (tests/threaded)")
    parser.add_argument("--keep", type=Path, default=REPO / "build" / "soak", help="where a difference's logs go")
    options = parser.parse_intermixed_args()
    default_signals()  # what this process was told to ignore, its programs would too
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the lab is taken down
    cases = rows(options.name, threads=options.threads)
    if not cases:
        parser.error("no such row")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mosfs-") as folder, lab(Path(folder), NODES) as nodes:
        soak = Soak(options.seed, options.moves, nodes, options.every, options.keep)
        failures = run(soak, cases, options.jobs)
    refused = "".join(f", {count} x {reason}" for reason, count in soak.reasons.most_common())
    print(f"soak: {soak.moves} moves in {soak.runs} runs of {len(cases)} programs, {time.monotonic() - began:.0f} s, "
          f"{failures} differences, seed {options.seed}{refused}")  # fmt: skip
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
