"""The best node for one more program (mosrun -b, mosbestnode)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mosfs.balance.cost import DISTANT, Candidate, cost, load_of, unsettled

__all__ = ["TIE", "Candidate", "best_node", "load_after", "load_of"]

#: Differences of load up to this are noise: nodes within it of the least loaded are equally good.
TIE = 5
#: The same for costs, as a factor.
SAME_COST = 1.05


def load_after(node: Candidate) -> int:
    """The load of ``node`` when one more program has arrived."""
    return node.load + load_of(node.arriving + 1, node.ncpus, node.speed)


def best_node(candidates: Sequence[Candidate], need_mb: int, choose: Callable[[Sequence[str]], str]) -> str | None:
    """The IP of the node where one more program costs least, of those with ``need_mb`` free; None when none fits.

    Of nodes that cost the same ours win (`settled`), then the less loaded. ``choose`` picks one of the equally good, at random, so
    that nodes which decide at once do not all decide the same.
    """
    fitting = {node: cost(node, 1, need_mb) * unsettled(node, DISTANT, need_mb) for node in candidates if node.mem_free >= need_mb}
    if not fitting:
        return None
    least = min(fitting.values())
    cheap = settled([node for node, price in fitting.items() if price <= least * SAME_COST])
    lightest = min(map(load_after, cheap))
    return choose([node.ip for node in cheap if load_after(node) <= lightest + TIE])


def settled(nodes: Sequence[Candidate]) -> Sequence[Candidate]:
    """Those of our own cluster, from where nobody has to leave for others; all, if none is."""
    return [node for node in nodes if node.own] or nodes
