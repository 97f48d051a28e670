"""The runs between two computers: which there are, how each is carried out, and what is kept of it.

What has passed is written down in build/machines, for these very sources: after an interruption `make test-machines` goes on
from there.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from tests.debian import compare
from tests.debian.cases import Case
from tests.debian.table import CASES
from tests.machines import times, uses
from tests.machines.image import BUILT, REPO
from tests.machines.vm import GUEST_ROOT, OTHER, THIRD, Machines
from tests.progs import BY_NAME, Place, verdict

#: What the other computer has. The first lacks AVX and all that came after it, the second AVX-512; the third is as qemu makes
#: it, with protection keys. All know lzcnt and tzcnt, else no program of this computer could go there (docs/mixed-clusters.md).
PROCESSORS = {"plain": "Nehalem,+abm,+bmi1", "haswell": "Haswell,-rtm,-hle", "max": "max,-3dnow,-3dnowext"}
HERE, THERE = "here", "there"
PROGRAMS = (
    "counter", "processor", "registers", "memory", "memory-static", "files", "descriptors", "sigs", "clocks", "sleeps", "children",
    "identity",
)
SCRIPTS = ("shell", "script")
ROWS = (
    "cat", "sort", "uniq", "od", "split", "sha256sum", "dd", "cp", "find", "xargs", "grep", "sed", "awk", "tar", "tar gz", "gzip",
    "bash", "tr", "python", "text tools",
)
PATIENCE = 600.0  #: seconds (of `tests.patience`) for one run
MOVES = 200  #: with each processor, so many moves at least
#: That one in motion works; the next if nothing moved it in the time. Scripts fork all the time, and do more the longer they run.
SECONDS = {"program": ("5", "20", "80", "320"), "script": ("0.2", "0.25", "1", "4"), "row": ("",)}


class Run(NamedTuple):
    """``home``: where the program starts; away is the other side. ``kind``: program, script, row (of Debian), storm, watch (of
    clocks), or, by `tests.machines.uses`: returns, common."""

    processor: str
    home: str
    place: Place
    kind: str
    name: str

    @property
    def id(self) -> str:
        return f"{self.processor}-{self.home}-{self.place}-{self.kind}-{self.name.replace(' ', '_')}"


@dataclass(frozen=True)
class Result:
    """``wrong``: how it differs from a native run; "" if it does not. ``told``: what it has measured."""

    wrong: str
    moves: int = 0
    told: str = ""


def runs() -> Iterator[Run]:
    for processor in PROCESSORS:
        for home in (HERE, THERE):
            for place in (Place.AWAY, Place.MOTION):
                yield from (Run(processor, home, place, "program", name) for name in PROGRAMS)
                yield from (Run(processor, home, place, "script", name) for name in SCRIPTS)
                if (home, place) in ((HERE, Place.MOTION), (THERE, Place.AWAY)):
                    yield from (Run(processor, home, place, "row", name) for name in ROWS)
            yield from (Run(processor, home, Place.AWAY, kind, use.name) for kind, use in uses_of(processor, home))
        yield Run(processor, HERE, Place.MOTION, "storm", "counter")
        yield Run(processor, HERE, Place.MOTION, "watch", "clocks")


def uses_of(processor: str, home: str) -> Iterator[tuple[str, uses.Use]]:
    """What uses something that the other computer lacks; and what can be told not to."""
    for use in uses.USES:
        if home == THERE and use.package:
            continue  # the other computer has no libraries but its system's
        if use.chooses or processor == "plain" or (use.needs == "avx512f" and "wide" not in use.words):
            yield "returns", use
        if use.chooses:
            yield "common", use


RUNS = tuple(runs())
_CASES: dict[str, Case] = {case.name: case for case in CASES}


def cannot(run: Run) -> str:
    """Why it cannot be carried out here; or ""."""
    return uses.cannot(uses.BY_NAME[run.name]) if run.kind in ("returns", "common") else ""


def carry_out(run: Run, both: Machines) -> Result:
    """Natively and as the run says, compared."""
    if run.kind == "storm":
        return storm(both)
    if run.kind == "watch":
        seen = times.watch(both)
        return Result(seen.verdict(), seen.moves, str(seen))
    if run.kind in ("returns", "common"):
        return use(run, both)
    if run.place is Place.AWAY:
        return once(run, both, "")
    for seconds in SECONDS[run.kind]:
        result = once(run, both, seconds)
        if result.wrong or result.moves or run.kind == "row":
            return result
    return Result("it was never moved")


def once(run: Run, both: Machines, seconds: str) -> Result:
    if run.home == THERE:
        return in_the_other(run, both, seconds)
    if run.kind == "row":
        case = _CASES[run.name]
        native = compare.run(case, Place.NATIVE, timeout=PATIENCE)
        found = compare.run(case, run.place, root=both.root, timeout=PATIENCE)
        return Result(found.difference(native), found.outcome.moves)
    outcome, wrong = verdict(BY_NAME[run.name], run.place, root=both.root, seconds=seconds, timeout=PATIENCE)
    return Result(wrong, outcome.moves)


def use(run: Run, both: Machines) -> Result:
    """A program is moved to the poorer computer, and uses there what that lacks: home is here, or there and it began here."""
    used, here = uses.BY_NAME[run.name], run.home == HERE
    options = f"{'-h' if here else '-2'} {'--cpu=common' if run.kind == 'common' else ''}"
    target, poor, rich = ("2", OTHER, "") if here else ("home", "", THIRD)
    if here:
        told = uses.moved(used, both.root, options.split(), target)
    else:
        argv = ("tests.machines.uses", GUEST_ROOT, options, target, run.name)
        answer = both.python("-m", *argv, timeout=PATIENCE, LD_BIND_NOW="1")
        if answer.status:
            return Result((answer.stdout + answer.stderr)[-900:])
        told = uses.Told(**json.loads(answer.stdout))
    wrong = told.wrong(uses.natively(used), poor)
    # which of its ways a library takes on a processor like this one is its own affair; where AVX lacks there is none but the last
    sure = bool(used.needs) or run.processor == "plain"
    if told.came not in ([poor] if run.kind == "common" else [rich] if sure else [rich, poor]):
        wrong = wrong or f"in the end it was at {told.came or 'home'}: {told}"
    return Result(wrong, 1, f"in the end at {told.came or 'home'}, needs {' '.join(told.needs)}")


def in_the_other(run: Run, both: Machines, seconds: str) -> Result:
    if run.kind == "row":
        argv = ["tests.debian", "-p", run.place, run.name]
        moved = r" motion x[0-9.]+ \((\d+)\)"
    else:
        argv = ["tests.progs", run.place, run.name, *["--seconds", seconds] * bool(seconds)]
        moved = r" (\d+) moves"
    # no limit there: only here it is known how busy the machine is. Its Haswell has no XSAVEC: docs/mixed-clusters.md
    answer = both.python("-m", *argv, "--root", GUEST_ROOT, "--timeout", "86400", timeout=PATIENCE, LD_BIND_NOW="1")
    found = re.search(moved, answer.stdout)
    moves = int(found[1]) if found else 0
    if answer.status or not answer.stdout.startswith("ok "):
        return Result(f"{answer.stdout}{answer.stderr}", moves)
    return Result("", moves)


def storm(both: Machines) -> Result:
    """One program, again and again, until it was moved so often."""
    moves = 0
    for _ in range(MOVES):
        outcome, wrong = verdict(BY_NAME["counter"], Place.MOTION, root=both.root, seconds="40", pause="0.05", timeout=PATIENCE)
        moves += outcome.moves
        if wrong or moves >= MOVES:
            return Result(wrong, moves)
    return Result(f"{moves} moves in {MOVES} runs", moves)


@cache
def sources() -> str:
    """A digest of everything that a result depends on."""
    found = hashlib.sha256()
    for folder in (REPO / "mosfs", REPO / "tests"):
        for path in sorted(path for kind in ("py", "c", "h", "sh") for path in folder.rglob(f"*.{kind}")):
            found.update(f"{path.relative_to(REPO)}\0".encode() + path.read_bytes())
    return found.hexdigest()[:16]


class Record:
    """Results of runs, in a file of one line each. Used by several threads."""

    def __init__(self, file: Path) -> None:
        self._file, self._lock = file, Lock()
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        self.results = {key: Result(**rest) for key, rest in (json.loads(line) for line in lines)}

    def passed(self, run: Run) -> Result | None:
        return self.results.get(run.id)

    def note(self, run: Run, result: Result) -> None:
        """What has failed is done again the next time."""
        if result.wrong:
            return
        with self._lock, self._file.open("a", encoding="utf-8") as file:
            self.results[run.id] = result
            file.write(json.dumps([run.id, asdict(result)]) + "\n")


@cache
def record() -> Record:
    BUILT.mkdir(parents=True, exist_ok=True)
    return Record(BUILT / f"passed-{sources()}")


HEAD = ("other processor", "home", "run", "programs", "scripts", "Debian rows", "come back", "common level", "moves")
#: Kinds of runs, by column of the table.
COLUMNS = (("program", "storm", "watch"), ("script",), ("row",), ("returns",), ("common",))


def table(results: dict[str, Result], of: Iterable[Run] = RUNS) -> list[str]:
    """Of each processor, side of home and place: how many runs were as natively, of how many; and the moves in them."""
    rows: dict[tuple[str, str, str], list[Run]] = {}
    for run in of:
        rows.setdefault((run.processor, run.home, "away" if run.place is Place.AWAY else "in motion"), []).append(run)
    lines = [HEAD, ("---",) * len(HEAD)]
    for key, members in rows.items():
        counts = []
        for kinds in COLUMNS:
            wanted = [run.id for run in members if run.kind in kinds]
            counts.append(f"{sum(name in results for name in wanted)} of {len(wanted)}" if wanted else "-")
        lines.append((*key, *counts, str(sum(results[run.id].moves for run in members if run.id in results))))
    return ["| " + " | ".join(line) + " |" for line in lines]


def shown() -> tuple[str, list[str]]:
    """The table with its title for the end of a session; nothing if this one had no such runs."""
    return "between two computers, as natively", table(record().results) if record.cache_info().currsize else []
