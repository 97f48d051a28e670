"""When a program that is away has paid enough for its calls to come home: `balance.toll`, alone and for programs with phases."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mosfs.abi.reasons import Reason
from mosfs.balance.cost import DISTANT, NEAR, Candidate, Network
from mosfs.balance.toll import LONGEST_REST, REST, SLOWEST, SOON, Toll, advantage, homeward, lost, rest, weight

#: Of both networks, for a program of 10 MB.
NETWORKS = pytest.mark.parametrize("network", [NEAR, DISTANT])
SIZE = 10


def node(load: int) -> Candidate:
    return Candidate("10.0.0.1", load, 10000, 1, 1000, mem_total=2000)


def test_sums_and_prices() -> None:
    one, two = Toll(10, 200, 1, 0.5), Toll(3, 40, 0, 0.25)
    assert one.plus(two) == Toll(13, 240, 1, 0.75)
    assert one.plus(two).minus(two) == one
    assert Toll(calls=100).price(NEAR) == pytest.approx(100 * NEAR.call)
    assert Toll(traffic=2e6).price(NEAR) == pytest.approx(2 / NEAR.bandwidth)
    assert Toll(images=2).price(DISTANT) == pytest.approx(2 * DISTANT.setup)
    assert Toll(cpu=5.0).price(NEAR) == 0


@NETWORKS
def test_slow_calls_weigh_more_but_not_without_end(network: Network) -> None:
    assert weight(0, 1.0, network) == 0
    assert weight(50, 0.0, network) == weight(50, -1.0, network) == weight(50, 50 * network.call, network) == 50
    assert weight(50, 150 * network.call, network) == pytest.approx(150)
    assert weight(50, 1e6, network) == 50 * SLOWEST


@pytest.mark.parametrize(("home", "here", "gain"), [
    (100, 100, 1.0),  # alone there, one of two at home, whose other one it does not disturb then
    (0, 100, 0.0),  # nobody anywhere
    (0, 300, 0.0),  # home would be better: that is for the ordinary decision
])
def test_what_is_won_away(home: int, here: int, gain: float) -> None:
    found = advantage(node(home), node(here), SIZE)
    assert (found >= gain) if gain else found == 0
    assert advantage(None, node(here), SIZE) == 0


def test_what_is_won_away_by_busy_threads() -> None:
    """All of four have a processor there, and one at home."""
    big = Candidate("10.0.0.2", 100, 10000, 4, 1000, mem_total=2000)
    assert (advantage(node(0), big, SIZE), advantage(node(0), big, SIZE, 4.0)) == (0, 3)


@NETWORKS
@given(st.lists(st.tuples(st.integers(0, 1000), st.floats(0, 1)), max_size=20), st.floats(0, 3))
def test_what_was_lost_is_never_negative_nor_more_than_paid(
    network: Network, phases: Sequence[tuple[int, float]], gain: float
) -> None:
    loss = paid = 0.0
    for calls, cpu in phases:
        told = Toll(calls=calls, cpu=cpu)
        paid += told.price(network)
        loss = lost(loss, told, gain, network)
        assert 0 <= loss <= paid + 1e-9


@NETWORKS
def test_home_when_as_much_is_lost_as_the_move_takes(network: Network) -> None:
    loss, calls = 0.0, 0
    while not (why := homeward(loss, network, SIZE)):
        loss, calls = lost(loss, Toll(calls=10), 0.0, network), calls + 10
    assert Reason.of(why) is Reason.CALLS_COST
    assert loss == pytest.approx(network.transfer(SIZE), rel=0.2)
    assert calls * network.call < 1.2 * network.transfer(SIZE)


def test_what_it_won_long_ago_does_not_keep_it() -> None:
    loss = lost(0.0, Toll(cpu=3600.0), 1.0, NEAR)
    loss = lost(loss, Toll(calls=2000), 1.0, NEAR)
    assert homeward(loss, NEAR, SIZE)


@given(st.floats(0.01, 1.0), st.floats(0.1, 2.0))
def test_a_program_that_wins_more_than_its_calls_cost_stays(cpu: float, gain: float) -> None:
    loss, calls = 0.0, int(0.9 * cpu * gain / NEAR.call)
    for _ in range(100):
        loss = lost(loss, Toll(calls=calls, cpu=cpu), gain, NEAR)
        assert not homeward(loss, NEAR, SIZE)


@NETWORKS
@given(st.lists(st.tuples(st.floats(0.001, 5.0), st.floats(0, 20)), min_size=1, max_size=30))
def test_whatever_it_does_it_loses_little_more_than_the_way_home(network: Network, phases: Sequence[tuple[float, float]]) -> None:
    """Phases of CPU seconds, each with so many seconds of calls a CPU second, where nothing is won away: what it loses until
    it is home is what it has lost when that is seen (a report is worth a tenth of the way), and the move."""
    loss = total = 0.0
    way = network.transfer(SIZE)
    for cpu, rate in phases:
        left = cpu * rate
        while left > 0 and not homeward(loss, network, SIZE):
            step = min(left, way / 10)
            left, total = left - step, total + step
            loss = lost(loss, Toll(calls=step / network.call, cpu=step / rate), 0.0, network)
    assert total + (way if homeward(loss, network, SIZE) else 0.0) <= 2.2 * way


def test_rests_grow_while_it_comes_home_again_and_again() -> None:
    now, until, length, rests = 0.0, 0.0, 0.0, []
    for _ in range(12):
        length = rest(length, now - until)
        rests.append(length)
        until = now + length
        now = until + 1.5  # away again for a moment
    assert rests[:4] == [REST, 2 * REST, 4 * REST, 8 * REST]
    assert rests[-1] == LONGEST_REST
    assert rest(length, SOON * length) == REST, "it has stayed away for long"
