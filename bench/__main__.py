"""python -m bench [--only H1,A1] [--rounds N] [--json]: the figures against their references, on a lab of its own."""

from __future__ import annotations

import argparse
import json
import os
import sys
from contextlib import nullcontext

from bench.bed import BenchError, bed
from bench.figures import FIGURES, LONG, SIMULATED
from bench.measure import Result, table
from mosfs.tools.options import UserError


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description="figures as ratios, each to a reference")
    parser.add_argument("--only", default="", metavar="H1,A1", help=f"some of {' '.join(FIGURES)}")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each side (default and least: 5)")
    parser.add_argument("--json", action="store_true", help="one JSON object with every sample")
    parser.add_argument("--all", action="store_true", help=f"with those that take many minutes: {' '.join(LONG)}")
    options = parser.parse_args()
    figures = FIGURES | LONG
    wanted = [name.strip().upper() for name in options.only.split(",") if name.strip()]
    wanted = wanted or list(figures if options.all else FIGURES)
    if unknown := [name for name in wanted if name not in figures]:
        parser.error(f"no such figure: {' '.join(unknown)}")
    if options.rounds < 5:
        parser.error("a median of less than five says nothing")
    results: list[Result] = []
    failures: dict[str, str] = {}
    try:
        with nullcontext() if SIMULATED.issuperset(wanted) else bed() as where:
            for name in wanted:
                print(f"{name} ...", file=sys.stderr, flush=True)
                try:
                    results.extend(figures[name](where, options.rounds))
                except BenchError as error:
                    failures[name] = str(error)
    except UserError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    load = os.getloadavg()[0]
    if options.json:
        records = [result.record() for result in results]
        print(json.dumps({"load": load, "results": records, "failures": failures}, indent=1))
    else:
        print(table(results))
        print(f"load {load:.1f} on {os.cpu_count()} cores, {options.rounds} rounds")
        for name, reason in failures.items():
            print(f"{name}: not measured: {reason}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
