"""The best node for one more program (mosrun -b, mosbestnode)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

#: Differences of load up to this are noise: nodes within it of the least loaded are equally good.
TIE = 5

STANDARD_SPEED = 10000
ONE_PROCESS = 100


@dataclass(frozen=True, slots=True)
class Candidate:
    """A node that would take a program. ``load``: 100 = one runnable process a standard CPU; ``mem_free`` in megabytes;
    ``arriving``: programs that were sent there so recently that its load does not show them yet."""

    ip: str
    load: int
    speed: int
    ncpus: int
    mem_free: int
    arriving: int = 0


def load_of(runnable: float, ncpus: int, speed: int) -> int:
    """Load in the manual's unit (mosctl(1), rstatus): 100 = one runnable process for each CPU of standard speed."""
    return round(runnable * ONE_PROCESS / max(ncpus, 1) * STANDARD_SPEED / max(speed, 1))


def load_after(node: Candidate) -> int:
    """The load of ``node`` when one more program has arrived."""
    return node.load + load_of(node.arriving + 1, node.ncpus, node.speed)


def best_node(candidates: Sequence[Candidate], need_mb: int, choose: Callable[[Sequence[str]], str]) -> str | None:
    """The IP of the node that is least loaded after the arrival, of those with ``need_mb`` free; None when none fits.

    ``choose`` picks one of the equally good, at random, so that nodes which decide at once do not all decide the same.
    """
    fitting = {node.ip: load_after(node) for node in candidates if node.mem_free >= need_mb}
    if not fitting:
        return None
    least = min(fitting.values())
    return choose([ip for ip, load in fitting.items() if load <= least + TIE])
