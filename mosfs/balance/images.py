"""How often a program that outlives its node is imaged (docs/design/outliving.md): a pure function.

The best interval for images of cost C seconds on nodes that live M seconds is sqrt(2 C M) (Young, CACM 17(9), 1974). Nobody knows
the M of a node, so a share of the time is given to images: for programs of up to some gigabytes that is within a few percent of the
best (`bench.sim_outlive`).
"""

from __future__ import annotations

#: Most of a program's time that images take, and the fewest seconds between two.
SHARE, SHORTEST = 0.01, 5.0
#: The same for a program that has no image to go on from just now.
UNSAFE_SHARE, UNSAFE_SHORTEST = 0.03, 0.02


def pause(stood: float, *, safe: bool) -> float:
    """Seconds from the end of one image to the next; ``stood``: seconds for which the program stood still for the last one;
    ``safe``: it can go on from that one."""
    share, shortest = (SHARE, SHORTEST) if safe else (UNSAFE_SHARE, UNSAFE_SHORTEST)
    return max(shortest, stood / share)
