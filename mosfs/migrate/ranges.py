"""Sets of addresses as sorted, disjoint ranges (start, end). Pure functions, linear in the number of ranges."""

from __future__ import annotations

from collections.abc import Iterable

Range = tuple[int, int]


def merge(ranges: Iterable[Range]) -> list[Range]:
    """The union: sorted, disjoint, neighbours joined."""
    merged: list[Range] = []
    for start, end in sorted(ranges):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def minus(ranges: Iterable[Range], without: list[Range]) -> list[Range]:
    """What is in ``ranges`` and not in ``without``; both sorted and disjoint."""
    left: list[Range] = []
    at = 0
    for start, end in ranges:
        while at < len(without) and without[at][1] <= start:
            at += 1
        n = at
        while n < len(without) and without[n][0] < end:
            if without[n][0] > start:
                left.append((start, without[n][0]))
            start = max(start, without[n][1])
            n += 1
        if start < end:
            left.append((start, end))
    return left


def common(ranges: list[Range], others: list[Range]) -> list[Range]:
    """The intersection; both sorted and disjoint."""
    found: list[Range] = []
    a = b = 0
    while a < len(ranges) and b < len(others):
        start, end = max(ranges[a][0], others[b][0]), min(ranges[a][1], others[b][1])
        if start < end:
            found.append((start, end))
        if ranges[a][1] < others[b][1]:
            a += 1
        else:
            b += 1
    return found


def size(ranges: Iterable[Range]) -> int:
    """Bytes in all of them."""
    return sum(end - start for start, end in ranges)
