"""The third part of make demo: a cluster lends its nodes, and gets them back at once when it needs them.

Two clusters of two nodes, which are each other's partner. Programs start in the first, and use the nodes of the second; its
owner starts programs there, and later they end; then the first cluster leaves the multi-cluster. The programs are those of
`mosfs.tools.demo_balance`, so that a formula knows their results.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from mosfs.tools import lab
from mosfs.tools.demo_balance import ENDING, TITLES, Film, Look, command, started, wrong

CLUSTERS = (2, 2)
#: Nodes of the cluster whose programs are guests, and of the one that lends.
GUESTS, OWNERS = (1, 2), (3, 4)
PROGRAMS = 8


@contextmanager
def partners_lab(root: str, base: str) -> Iterator[lab.Plan]:
    plan = replace(lab.Plan.make(root, sum(CLUSTERS), base, False, True), clusters=CLUSTERS)
    try:
        lab.up(plan)
        yield plan
    finally:
        lab.down(root)


def lent(look: Look) -> bool:
    """Are guests on all nodes of the other cluster?"""
    return all(look.programs[node - 1] for node in OWNERS)


def given_back(look: Look) -> bool:
    return not any(look.programs[node - 1] for node in OWNERS)


def clusters(folder: Path, base: str) -> bool:
    """Run it with files below ``folder``, and tell; True when guests came, left and came again as they should, nothing was lost
    and all results are right."""
    own = [PROGRAMS + at for at in range(len(OWNERS))]
    problems: list[str] = []
    with partners_lab(str(folder / "lab"), base) as plan, ExitStack() as shells:
        print(f"2 clusters, of the nodes 1, 2 and 3, 4, lend each other what is idle; {PROGRAMS} programs start on node 1")
        print(TITLES, flush=True)
        film = Film(plan)

        def begin(node: int, numbers: list[int]) -> None:
            shell = started(plan, folder, node, numbers)
            shells.callback(shell.wait)
            shells.callback(shell.kill)

        def await_all(done: bool, what: str) -> None:
            problems.extend([f"not so: {what}"] * (not done))
            print(film.note(what), flush=True)

        begin(1, list(range(PROGRAMS)))
        await_all(film.until(lent, ENDING), "guests on nodes 3 and 4")
        for node, number in zip(OWNERS, own):
            begin(node, [number])
        film.until(lambda look: all((folder / f"{number}.out").exists() for number in own))
        since = time.monotonic()
        back = film.until(given_back, ENDING)
        await_all(back, f"their owner starts a program on each: guests gone in {time.monotonic() - since:.1f} s")
        for node in OWNERS:
            command(plan, node, "moskillall").wait()
        await_all(film.until(lent, ENDING), "the owner's programs have ended: guests again")
        for node in GUESTS:
            film.order(node, "isolate")
        await_all(given_back(film.look()), "nodes 1 and 2 leave the multi-cluster")
        lost = PROGRAMS - sum(number or 0 for number in film.look().programs)
        problems += [f"{lost} programs were lost"] * bool(lost)
        command(plan, 1, "moskillall").wait()
        film.until(lambda look: not sum(number or 0 for number in look.programs), ENDING)
    problems += wrong(folder, [*range(PROGRAMS), *own])
    count = PROGRAMS + len(own)
    print("\n".join(problems) or f"{count} of {count} programs were told to end, and all results are right")
    return not problems
