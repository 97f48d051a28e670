"""Sets of addresses: `mosfs.migrate.ranges` against sets of numbers."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mosfs.migrate.precopy import LEAST_SHARE, LITTLE, ROUNDS, SHORT, Next, after_round, too_slow
from mosfs.migrate.ranges import Range, common, merge, minus, size
from mosfs.wire.channel import LEAST, PATIENCE

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


@pytest.mark.parametrize(("left", "rounds", "rate", "share", "then"), [
    (LITTLE, 1, 0.0, 1.0, (Next.STOP, 1.0)),  # little
    (90 * LITTLE, 1, 90 * LITTLE / SHORT, 1.0, (Next.STOP, 1.0)),  # little for such a link
    (90 * LITTLE, 1, 0.0, 1.0, (Next.SEND, 0.0625)),  # it writes faster than that is sent: it is slowed down
    (60 * LITTLE, 1, 0.0, 0.0625, (Next.SEND, LEAST_SHARE)),
    (50 * LITTLE, 1, 0.0, 1.0, (Next.SEND, 1.0)),  # it gets less by itself
    (90 * LITTLE, 1, 0.0, LEAST_SHARE, (Next.STOP, LEAST_SHARE)),  # in vain
    (60 * LITTLE, 1, 0.0, LEAST_SHARE, (Next.SEND, LEAST_SHARE)),
    (50 * LITTLE, ROUNDS, 0.0, 1.0, (Next.STOP, 1.0)),
])
def test_what_follows_a_round(left: int, rounds: int, rate: float, share: float, then: tuple[Next, float]) -> None:
    assert after_round(left, 100 * LITTLE, rounds, rate, share) == then


def test_nobody_is_slowed_down_for_hours() -> None:
    """By a host that takes the least that a channel asks for, 64 KB in 20 s; one at 4 Mbit/s; one at 8."""
    for rate, most in ((LEAST / PATIENCE, 61), (1 << 19, 121), (1 << 20, None)):
        begun = next((second for second in range(4000) if too_slow(second, int(rate * second))), None)
        assert begun == most


@given(st.floats(1e6, 5e9), st.floats(1e6, 2e9), st.integers(1 << 20, 1 << 36))
def test_whatever_a_program_writes_it_is_stopped_in_the_end(rate: float, dirty: float, size: int) -> None:
    """Each round sends what was written in the one before, as far as the program was allowed to run."""
    before, share, rounds, next_ = float(size), 1.0, 0, Next.SEND
    while next_ is Next.SEND:
        left = min(size, dirty * share * before / rate)
        rounds += 1
        next_, share = after_round(int(left), int(before), rounds, rate, share)
        before = max(left, 1.0)
    assert rounds <= ROUNDS
    if dirty * LEAST_SHARE < rate * 0.4 and size < 1 << 31:
        assert left <= max(LITTLE, rate * SHORT) or rounds == ROUNDS
