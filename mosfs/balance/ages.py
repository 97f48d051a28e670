"""How old what nodes know is: the closed forms of gossip with a fixed window (Amar, Barak, Drezner, Okun 2009).

``n`` nodes, windows of ``w`` entries with the own one, every node pushes one message a step to a random node. Ages are
in steps. Addressing the oldest (`mosfs.balance.gossip`) has a somewhat smaller mean and about half the maximum
(`asked_maximum_age`).
"""

from __future__ import annotations

from math import ceil, exp, log

_EULER = 0.5772156649


def window_age(n: int, w: int) -> float:
    """Age of the oldest entry of a window."""
    if w >= n:
        return 2 * log(n)
    return log(w * (n - 1) / (n - w)) * (n - 1) / n


def mean_age_in_window(n: int, w: int) -> float:
    t = window_age(n, w)
    grown = exp(n * t / (n - 1))
    held = n * grown / (n - 1 + grown)
    return t - (n - 1) / held * (log(n - 1 + grown) - log(n))


def mean_age(n: int, w: int) -> float:
    """Mean age of everything that a node knows; about n/w + ln w - 1."""
    w = min(w, n - 1)
    return 1 / (1 - (1 - 1 / (n - 1)) ** w) + mean_age_in_window(n, w)


def mean_maximum_age(n: int, w: int) -> float:
    """Mean age of the oldest entry that a node has; about (n/w)(ln n + 0.58)."""
    w = min(w, n - 1)
    return -(log(n) + _EULER) / (w * log(1 - 1 / (n - 1)))


def asked_maximum_age(n: int, w: int) -> float:
    """The same when each step addresses the oldest, our own estimate: of the ages of push, w exp(-a w/n) a step pass the age a;
    each step makes the oldest young, so the oldest stays where one entry a step passes."""
    return n / w * log(w)


def max_age_for(n: int, w: int) -> int:
    """Steps after which an entry counts as dead: well above what a living node's oldest entry reaches."""
    return 20 + ceil(3 * mean_maximum_age(max(n, 3), max(w, 2)))
