"""Users that guests run as: the file, what a user name space has of it, and that no two owners' guests have the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mosfs.cluster.errors import ConfigError
from mosfs.cluster.scalars import DEFAULT_GUEST_UIDS, parse_guest_uids, print_guest_uids
from mosfs.daemon.owners import STARTING, Owners, mapped

HOME, OTHER = "10.0.0.1", "10.0.0.2"
ALL = "         0          0 4294967295\n"


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("text", "uids"),
    [("70000 100\n", range(70000, 70100)), ("65534", range(65534, 65535)), ("4294967294 1", range(4294967294, 4294967295))],
)
def test_the_file(text: str, uids: range) -> None:
    assert parse_guest_uids(text) == uids
    assert parse_guest_uids(print_guest_uids(uids)) == uids


@pytest.mark.parametrize("text", ["", "0 5", "-1", "a b", "70000 0", "70000 5 6", "4294967294 2", "4294967295", "1" * 5000])
def test_a_bad_file(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^guestuids, line 1: "):
        parse_guest_uids(text)


def test_the_usual_is_below_2_31_and_above_what_containers_have() -> None:
    assert DEFAULT_GUEST_UIDS.start > 1879048191 and DEFAULT_GUEST_UIDS.stop < 1 << 31


@pytest.mark.parametrize(
    ("maps", "found"),
    [
        ([ALL, ALL], range(1000, 2000)),
        (["0 100000 65536\n", ALL], range(1000, 2000)),
        (["0 0 1\n", ALL], range(0)),
        (["0 0 1\n1500 7 100\n1800 9 100\n", ALL], range(1500, 1600)),
        (["1500 7 100\n", "0 0 1550\n"], range(1500, 1550)),
        (["", ALL], range(0)),
    ],
)
def test_a_name_space_may_have_only_a_part(maps: list[str], found: range) -> None:
    assert list(mapped(range(1000, 2000), *maps)) == list(found)


owners = st.tuples(st.sampled_from([HOME, OTHER, "1.2.3.4"]), st.integers(0, 2**40))


@given(st.lists(owners, unique=True, min_size=1, max_size=20))
def test_no_two_owners_have_the_same(who: list[tuple[str, int]]) -> None:
    found = Owners(range(1000, 1020), Clock())
    numbers = [found.user_of(*owner) for owner in who]
    assert len(set(numbers)) == len(who)
    assert all(1000 <= number < 1020 for number in numbers)
    assert [found.user_of(*owner) for owner in who] == numbers, "an owner keeps its own"


def test_a_number_is_free_when_its_last_host_has_ended() -> None:
    clock = Clock()
    found = Owners(range(1000, 1002), clock)
    first = found.user_of(HOME, 1)
    found.has(500, HOME, 1, first)
    found.has(501, HOME, 1, first)
    clock.now = STARTING + 1
    second = found.user_of(HOME, 2)
    assert second != first
    found.has(502, HOME, 2, second)
    found.ended(500)
    assert found.user_of(HOME, 1) == first
    found.ended(501)
    clock.now += STARTING + 1
    assert found.user_of(HOME, 3) == first
    clock.now += STARTING + 1
    assert found.user_of(HOME, 4) == first, "the host that was to have it never came"


def test_numbers_in_use_before_a_restart_stay_so() -> None:
    found = Owners(range(1000, 1002), Clock())
    taken = found.user_of(HOME, 1)
    after = Owners(range(1000, 1002), Clock())
    after.has(500, OTHER, 7, taken)
    assert after.user_of(HOME, 1) != taken
    assert Owners(range(1000, 1002), Clock()).user_of(HOME, 1) == taken


def test_when_there_are_too_few_they_are_shared(caplog: pytest.LogCaptureFixture) -> None:
    found = Owners(range(1000, 1001), Clock())
    assert (found.user_of(HOME, 1), found.user_of(HOME, 2)) == (1000, 1000)
    assert len(caplog.records) == 1 and "all 1 are in use" in caplog.text


def test_other_numbers_hold_from_the_next_host_on() -> None:
    found = Owners(range(1000, 1010), Clock())
    found.has(500, HOME, 1, found.user_of(HOME, 1))
    found.numbers = range(2000, 2010)
    assert found.user_of(HOME, 1) in range(2000, 2010)
