"""Sets of addresses: `mosfs.migrate.ranges` against sets of numbers."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from mosfs.migrate.precopy import LITTLE, ROUNDS, enough
from mosfs.migrate.ranges import Range, common, merge, minus, size

spans = st.tuples(st.integers(0, 60), st.integers(1, 12)).map(lambda s: (s[0], s[0] + s[1]))


@st.composite
def disjoint(draw: st.DrawFn) -> list[Range]:
    edges = sorted(draw(st.sets(st.integers(0, 60), max_size=14)))
    return list(zip(edges[::2], edges[1::2]))


def numbers(ranges: list[Range]) -> set[int]:
    assert all(start < end for start, end in ranges)
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(ranges))
    return {x for start, end in ranges for x in range(start, end)}


@given(st.lists(spans, max_size=12))
def test_merge(ranges: list[Range]) -> None:
    merged = merge(ranges)
    assert numbers(merged) == {x for start, end in ranges for x in range(start, end)}
    assert all(a[1] < b[0] for a, b in itertools.pairwise(merged))


@given(disjoint(), disjoint())
def test_minus_and_common(a: list[Range], b: list[Range]) -> None:
    assert numbers(minus(a, b)) == numbers(a) - numbers(b)
    assert numbers(common(a, b)) == numbers(a) & numbers(b)
    assert size(minus(a, b)) + size(common(a, b)) == size(a)


def test_a_program_is_stopped_when_going_on_does_not_pay() -> None:
    much = 100 * LITTLE
    assert enough(LITTLE, much, 1)
    assert enough(much, much, 1)
    assert enough(much // 2, much, ROUNDS)
    assert not enough(much // 2, much, 1)
