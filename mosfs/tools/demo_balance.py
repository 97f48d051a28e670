"""The second part of make demo: a cluster that levels out by itself, and loses nothing when nodes leave it.

Four nodes of different speed (control groups give each its share of a processor) and twelve programs, all started on the
first. Each counts through a sequence until it is told to end, then says how far it came and what it found there; a formula
knows what that must be. Meanwhile one node is blocked and expelled, another shut down.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from mosfs.tools import chart, lab
from mosfs.tools.options import UserError
from mosfs.tools.tree import Tree

CPUS = (0.5, 0.3, 0.25, 0.15)  #: shares of a processor
PROGRAMS = 12
#: Orders of mosctl(1), to which node, and what they do.
LEAVING = ((("block", "expel"), 2, "node 2 blocked and expelled"), (("shutdown",), 3, "node 3 shut down"))
PERIOD = 0.25  #: seconds between two looks
SETTLED = 4.0  #: seconds without a move
PATIENCE = 30.0  #: seconds that a stage lasts at most
ENDING = 120.0  #: seconds for all to end, on whatever machine

#: A sequence modulo 2^31 (ISO C's example of rand), a step of which takes a program about 0.1 us.
FACTOR, INCREMENT, MODULUS = 1103515245, 12345, 1 << 31
PROGRAM = f"""
import signal, sys
running = [True]
signal.signal(signal.SIGTERM, lambda *_: running.clear())
value, steps = int(sys.argv[1]), 0
while running:
    for _ in range(20000):
        value = (value * {FACTOR} + {INCREMENT}) % {MODULUS}
    steps += 20000
print(steps, value)
"""


def after(start: int, steps: int) -> int:
    """The element of the sequence ``steps`` after ``start``: x -> a x + c, composed with itself by doubling."""
    factor, increment, a, c = 1, 0, FACTOR, INCREMENT
    while steps:
        if steps & 1:
            factor, increment = factor * a % MODULUS, (increment * a + c) % MODULUS
        a, c = a * a % MODULUS, (c * a + c) % MODULUS
        steps >>= 1
    return (factor * start + increment) % MODULUS


@dataclass(frozen=True)
class Look:
    """What was seen ``at`` so many seconds after the start. ``programs`` and ``loads``, of each node in turn: those that are there,
    and the load as node 1 knows it (100 = one program on a standard processor), None of a node that is gone; ``moves``: of all."""

    at: float
    programs: Sequence[int | None]
    loads: Sequence[int | None]
    moves: int


@dataclass
class Film:
    """The looks at the cluster, and what happened when."""

    plan: lab.Plan
    started: float = field(default_factory=time.monotonic)
    looks: list[Look] = field(default_factory=list)
    events: list[tuple[float, str]] = field(default_factory=list)

    def look(self) -> Look:
        tree = Tree(self.plan.node(1).paths)
        ips = [node.ip for node in self.plan.nodes()]
        rows = {row[1]: row for row in json.loads(tree.fact("cluster"))["nodes"]}
        there = [rows[ip][2] in ("alive", "blocked") for ip in ips]
        found = list(tree.processes())
        places = [process.where or ips[0] for process in found]
        seen = Look(
            time.monotonic() - self.started, [places.count(ip) if up else None for ip, up in zip(ips, there)],
            [rows[ip][3] if up else None for ip, up in zip(ips, there)], sum(process.nmigs for process in found),
        )
        self.looks.append(seen)
        return seen

    def until(self, done: Callable[[Look], bool], limit: float = PATIENCE) -> bool:
        """Look on until ``done``; False when it is not within ``limit`` seconds."""
        end = time.monotonic() + limit
        while time.monotonic() < end:
            if done(self.look()):
                return True
            time.sleep(PERIOD)
        return False

    def order(self, number: int, verb: str) -> None:
        """mosctl on a node, to its end."""
        process = command(self.plan, number, "mosctl", verb)
        if not self.until(lambda look: process.poll() is not None, ENDING) or process.returncode:
            process.kill()
            process.wait()
            raise UserError(f"mosctl {verb} on node {number} failed")

    def settled(self, look: Look) -> bool:
        """No move for a while."""
        return all(before.moves == look.moves for before in self.looks if look.at - before.at <= SETTLED)

    def level(self, look: Look) -> bool:
        """Some have moved, but none for a while."""
        return look.moves > 0 and self.settled(look)

    def note(self, what: str) -> str:
        """A line of the table, for what has just happened."""
        look = self.look()
        self.events.append((look.at, what))
        cells = ["-" if number is None else str(number) for number in (*look.programs, *look.loads)]
        half = len(look.programs)
        programs, loads = "".join(map("{:>4}".format, cells[:half])), "".join(map("{:>6}".format, cells[half:]))
        return f"{look.at:5.1f}  {programs}   {loads}   {look.moves:5}   {what}"

    def svg(self) -> str:
        series = {
            f"node {number}, {cpus:g} CPU" if self.plan.cpus else f"node {number}": [
                (look.at, float(load)) for look in self.looks if (load := look.loads[number - 1]) is not None
            ]
            for number, cpus in enumerate(CPUS, 1)
        }
        return chart.lines(
            f"{PROGRAMS} programs, all started on node 1, and nobody says where to", "seconds",
            "load (100 = one program on a standard processor)", series, self.events,
        )


TITLES = "    s    on node 1   2   3   4   load 1     2     3     4   moves"


def command(plan: lab.Plan, number: int, *words: str) -> subprocess.Popen[bytes]:
    """A command as on node ``number``."""
    return subprocess.Popen(
        [sys.executable, "-m", "mosfs.tools.moslab", "run", "--root", plan.root, str(number), *words], stdin=subprocess.DEVNULL
    )


@contextmanager
def unequal_lab(root: str, base: str) -> Iterator[lab.Plan]:
    """Four balanced nodes of different speed; where there are no quotas of CPU time they only say so, in one line."""
    plan = lab.Plan.make(root, len(CPUS), base, False, True)
    try:
        try:
            plan = replace(plan, cpus=CPUS).limited()
            lab.up(plan)
        except UserError as error:
            print(f"no quotas of CPU time here ({error}): the nodes only declare different speeds", flush=True)
            plan = replace(plan, cpus=(), groups={}, speeds=[round(share * 10000) for share in CPUS])
            lab.up(plan)
        yield plan
    finally:
        lab.down(root)


def started(plan: lab.Plan, folder: Path, node: int = 1, numbers: Sequence[int] = range(PROGRAMS)) -> subprocess.Popen[bytes]:
    """Programs with these numbers on a node, by one shell that waits for them; each writes to its own file."""
    (folder / "count.py").write_text(PROGRAM)
    line = f"mosrun python3 {shlex.quote(str(folder / 'count.py'))}"
    script = "".join(f"{line} {number} > {shlex.quote(str(folder))}/{number}.out &\n" for number in numbers)
    return command(plan, node, "sh", "-c", f"{script}wait")


def wrong(folder: Path, numbers: Sequence[int] = range(PROGRAMS)) -> list[str]:
    """What is not right about the programs' results, one line each."""
    lines = []
    for number in numbers:
        text = (folder / f"{number}.out").read_text()
        steps, _, value = text.strip().partition(" ")
        if not steps.isdigit() or not int(steps) or after(number, int(steps)) != int(value):
            lines.append(f"program {number}: wrong result {text!r}")
    return lines


def balance(folder: Path, base: str, svg: str = "") -> bool:
    """Run it with files below ``folder``, and tell; True when nothing was lost and all results are right. ``svg``: where the chart
    goes."""
    with unequal_lab(str(folder / "lab"), base) as plan:
        shares = ", ".join(f"{share:g}" for share in CPUS)
        print(f"4 nodes, with {shares} of a processor; {PROGRAMS} programs start on node 1, and move by themselves")
        print(TITLES, flush=True)
        film = Film(plan)
        shell = started(plan, folder)
        try:
            film.until(lambda look: sum(number or 0 for number in look.programs) == PROGRAMS)
            print(film.note("all started"), flush=True)
            print(film.note("level" if film.until(film.level) else "not level yet"), flush=True)
            for verbs, number, what in LEAVING:
                for verb in verbs:
                    film.order(number, verb)
                print(film.note(what), flush=True)
                film.until(film.settled)
                print(film.note("level again"), flush=True)
            lost = PROGRAMS - sum(number or 0 for number in film.look().programs)
            command(plan, 1, "moskillall").wait()
            shell.wait(ENDING)
        finally:
            shell.kill()
            shell.wait()
        problems = [f"{lost} programs were lost"] * bool(lost) + wrong(folder)
        print("\n".join(problems) or f"{PROGRAMS} of {PROGRAMS} programs were told to end, and all results are right")
        if svg:
            Path(svg).write_text(film.svg())
        return not problems
