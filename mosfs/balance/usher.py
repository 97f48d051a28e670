"""Memory ushering: a node that runs out of memory sends a program to where there is room, whatever the loads are.

Barak, Braverman, "Memory ushering in a scalable computing cluster", Microprocessors and Microsystems 22 (1998): the smallest
program that is big enough, to the node with the best fit. Below the threshold memory overrides load, age and hysteresis; above it
the load alone decides, with memory as a factor of its cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from mosfs.balance.cost import Candidate

#: A node is short when less than this share of its memory is free. Who takes a program must stay above it.
SHORT = 0.05
#: Nobody is sent away for less of it.
WORTH = 0.005


class Sized(Protocol):
    """What is asked of a program here: `choose.Process` without its history."""

    @property
    def size_mb(self) -> int: ...
    @property
    def needs(self) -> int: ...
    def may_go(self, node: Candidate) -> bool: ...


P = TypeVar("P", bound=Sized)


def shortage(node: Candidate) -> int:
    """Megabytes that ``node`` should have free and has not."""
    return max(0, int(node.mem_total * SHORT) - node.mem_free)


def room(node: Candidate) -> int:
    """Megabytes that ``node`` can take without becoming short itself."""
    return node.mem_free - int(node.mem_total * SHORT)


def pick(here: Candidate, programs: Sequence[P], others: Sequence[Candidate]) -> tuple[P, Candidate, str] | None:
    """The program that goes, where to, and why; None when ``here`` is not short, or nobody fits anywhere.

    The smallest program that makes up for the shortage; if there is none, the largest. It goes to the node with the most room.
    """
    short = shortage(here)
    if not short:
        return None
    least = min(short, here.mem_total * WORTH)
    by_fit = sorted(programs, key=lambda p: (p.size_mb < short, p.size_mb if p.size_mb >= short else -p.size_mb))
    for program in by_fit:
        fitting = [node for node in others if program.may_go(node) and room(node) >= program.needs]
        if program.size_mb >= least and fitting:
            target = max(fitting, key=room)
            return program, target, f"{short} MB of memory are wanting here, there are {target.mem_free} MB free there"
    return None
