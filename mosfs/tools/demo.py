"""make demo: real programs, natively and in a storm of moves over three nodes, compared byte for byte; then a cluster that
levels out by itself (`mosfs.tools.demo_balance`), and one that lends its nodes and takes them back (`mosfs.tools.demo_clusters`).

Each program runs twice from the same inputs in the same directory: alone, then under ``moslab storm -- mosrun -e`` on
a lab of its own. Output, error output, exit status and every file they leave must be equal; then a line of the table
says so.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mosfs
from mosfs.tools import install_launchers, lab
from mosfs.tools.demo_balance import balance
from mosfs.tools.demo_cases import CASES, Case
from mosfs.tools.demo_clusters import clusters
from mosfs.tools.options import REAL, TEXT, Command, Option, Parsed, UserError

NODES = 3
#: Names of the second and third part among the programs of --only.
BALANCE, CLUSTERS = "balance", "clusters"
#: The same for every run, so that nothing but the storm can make a difference.
ENVIRONMENT = {"LC_ALL": "C", "TZ": "UTC", "HOME": "/nonexistent", "PYTHONDONTWRITEBYTECODE": "1",
               "PYTHONHASHSEED": "0"}

SYNOPSIS = "python -m mosfs.tools.demo [--quick] [--only NAME,NAME] [--every S] [--json FILE] [--svg FILE]"
DEMO = Command("demo", SYNOPSIS, "real programs in a storm of moves", (
    Option("--quick", "quick", "smaller inputs"),
    Option("--only", "only", "only these programs; balance and clusters are the second and third part", TEXT, metavar="names"),
    Option("--every", "every", "seconds between two moves (default 0.2)", REAL, metavar="s", low=0.01, high=60),
    Option("--json", "json", "write the rows to this file", TEXT, metavar="file"),
    Option("--svg", "svg", "draw the loads of the second part into this file", TEXT, metavar="file"),
), permute=True)


# --------------------------------------------------------------------------- one program, twice


@dataclass(frozen=True)
class Result:
    """What a run left. ``status`` is subprocess'; ``files``: name to mode and digest (of a link: its target)."""

    status: int
    out: bytes
    err: bytes
    files: dict[str, tuple[str, str]]

    def differences(self, other: Result) -> list[str]:
        """What is not equal in ``other``, one line each."""
        found = []
        if self.status != other.status:
            found.append(f"exit status {self.status}, then {other.status}")
        for name, ours, theirs in (("output", self.out, other.out), ("error output", self.err, other.err)):
            if ours != theirs:
                at = next((n for n, (a, b) in enumerate(zip(ours, theirs)) if a != b), min(len(ours), len(theirs)))
                found.append(f"{name} differs from byte {at} on: {ours[at:at + 60]!r}, then {theirs[at:at + 60]!r}")
        for name in sorted(self.files.keys() | other.files.keys()):
            if self.files.get(name) != other.files.get(name):
                found.append(f"file {name}: {self.files.get(name, 'missing')}, then {other.files.get(name, 'missing')}")
        return found


def files_of(folder: Path) -> dict[str, tuple[str, str]]:
    found = {}
    for path in sorted(folder.rglob("*")):
        facts = path.lstat()
        if stat.S_ISLNK(facts.st_mode):
            content = os.readlink(path)
        elif stat.S_ISREG(facts.st_mode):
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
        else:
            content = ""
        found[str(path.relative_to(folder))] = (stat.filemode(facts.st_mode), content)
    return found


def run_once(command: Sequence[str], environ: dict[str, str], work: Path, inputs: Path) -> tuple[Result, float]:
    """Run in a fresh ``work`` with a copy of ``inputs``; the result and the seconds it took."""
    shutil.copytree(inputs, work)
    started = time.monotonic()
    done = subprocess.run(command, env=environ, cwd=work, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    seconds = time.monotonic() - started
    result = Result(done.returncode, done.stdout, done.stderr, files_of(work))
    shutil.rmtree(work)
    return result, seconds


@dataclass(frozen=True)
class Row:
    """A line of the table. ``freeze_ms``: median of the times that moves stopped the program, None if not known."""

    name: str
    moves: int
    failed: int
    freeze_ms: float | None
    native: float
    storm: float
    differences: list[str]
    reasons: dict[str, int]

    def cells(self) -> list[str]:
        freeze = "-" if self.freeze_ms is None else f"{self.freeze_ms:.1f}"
        return [self.name, str(self.moves), str(self.failed), freeze, "no" if self.differences else "yes",
                f"{self.native:.1f}", f"{self.storm:.1f}"]


def storm_of_nothing() -> dict[str, Any]:
    """The counts of a storm that did not get as far as to write them."""
    return {"moves": 0, "failed": 0, "reasons": {}, "freeze_ms": []}


TITLES = ("program", "moves", "failed", "freeze ms", "equal", "native s", "storm s")


def compare(case: Case, scale: float, plan: lab.Plan, place: Path, every: float) -> Row:
    inputs, work, stats = place / "inputs", place / "work", place / "stats.json"
    inputs.mkdir()
    case.prepare(inputs, scale)
    command = [word.format(n=int(case.size * scale)) if case.size else word for word in case.command]
    environ = {"PATH": f"{place.parent / 'bin'}:{os.environ.get('PATH', os.defpath)}", **ENVIRONMENT}
    tell(f"{case.name}: natively")
    native, native_seconds = run_once(command, environ, work, inputs)
    source = os.path.dirname(os.path.dirname(os.path.abspath(mosfs.__file__)))
    code = f"import sys; sys.path.insert(0, {source!r}); from mosfs.tools.moslab import main; sys.exit(main())"
    storm = [sys.executable, "-c", code, "storm", "--root", plan.root, "--every", str(every), "--seed", case.name,
             "--stats", str(stats), "--", "mosrun", "-e", *command]
    tell(f"{case.name}: in a storm over {NODES} nodes (natively {native_seconds:.1f} s)")
    moved, storm_seconds = run_once(storm, environ, work, inputs)
    counts: dict[str, Any] = json.loads(stats.read_text()) if stats.exists() else storm_of_nothing()
    freezes = counts["freeze_ms"]
    return Row(case.name, counts["moves"], counts["failed"], statistics.median(freezes) if freezes else None,
               native_seconds, storm_seconds, native.differences(moved), counts["reasons"])


# --------------------------------------------------------------------------- the whole


def table(rows: Sequence[Row]) -> str:
    lines = [list(TITLES), *(row.cells() for row in rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(TITLES))]
    return "\n".join(
        "  ".join(cell.rjust(width) if at else cell.ljust(width) for at, (cell, width) in enumerate(zip(line, widths)))
        for line in lines
    )


def base() -> str:
    """The address of node 1 of a lab, which no other lab is likely to have."""
    pid = os.getpid()
    return f"127.{10 + pid // 250 % 6}.{1 + pid % 250}.1"


@contextmanager
def private_lab(folder: Path) -> Iterator[lab.Plan]:
    """The lab of the storms."""
    plan = lab.Plan.make(str(folder / "lab"), NODES, base(), False)
    lab.up(plan)
    try:
        yield plan
    finally:
        lab.down(plan.root)


def tell(text: str) -> None:
    """Progress, on standard error: on a terminal one line that is written over (by nothing at last), else a line each."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{text}")
    elif text:
        sys.stderr.write(f"demo: {text}\n")
    sys.stderr.flush()


def chosen(names: str) -> tuple[list[Case], list[str]]:
    """The cases, and which of the other parts are wanted. UserError for a name that is none, or a program that is not installed."""
    wanted = {name.strip() for name in names.split(",") if name.strip()}
    known = [*(case.name for case in CASES), BALANCE, CLUSTERS]
    if unknown := wanted.difference(known):
        raise UserError(f"{', '.join(sorted(unknown))}: not among {', '.join(known)}")
    cases = [case for case in CASES if not wanted or case.name in wanted]
    if missing := sorted({case.command[0] for case in cases if not shutil.which(case.command[0])}):
        raise UserError(f"not installed: {', '.join(missing)}")
    return cases, [part for part in (BALANCE, CLUSTERS) if not wanted or part in wanted]


def storms(cases: Sequence[Case], scale: float, every: float) -> list[Row]:
    """The first part: a row for each of ``cases``, told as a table."""
    rows = []
    tell(f"a cluster of {NODES} nodes comes up")
    with tempfile.TemporaryDirectory(prefix="mosfs-demo-") as name, private_lab(Path(name)) as plan:
        scripts = Path(name) / "bin"
        scripts.mkdir()
        install_launchers.install(str(scripts))
        for number, case in enumerate(cases, 1):
            tell(f"{number}/{len(cases)} {case.name}: makes its input")
            place = Path(name) / f"case{number}"
            place.mkdir()
            rows.append(compare(case, scale, plan, place, every))
            shutil.rmtree(place)
        tell("")
    print(table(rows), flush=True)
    for row in rows:
        for line in [*row.differences, *(f"{count} moves failed: {reason}" for reason, count in row.reasons.items())]:
            print(f"{row.name}: {line}")
    return rows


def part(name: str, svg: str) -> bool:
    """The second or third part. ``svg``: where the chart of the second goes."""
    with tempfile.TemporaryDirectory(prefix="mosfs-demo-") as folder:
        return balance(Path(folder), base(), svg) if name == BALANCE else clusters(Path(folder), base())


def body(options: Parsed) -> int:
    cases, parts = chosen(options.get("only"))
    rows = storms(cases, 0.2 if "quick" in options else 1.0, float(options.get("every", "0.2"))) if cases else []
    if "json" in options:
        Path(options.get("json")).write_text(json.dumps([row.__dict__ for row in rows], indent=1) + "\n")
    good = not any(row.differences for row in rows)
    for at, name in enumerate(parts):
        print("\n" * bool(cases or at), end="", flush=True)
        good &= part(name, options.get("svg"))
    return 0 if good else 1


def main(argv: list[str] | None = None) -> int:
    return DEMO.run(body, sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())
