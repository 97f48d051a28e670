"""Automatic freezing as pure decisions: every field of freeze.conf, and a flood that neither thrashes nor starves anybody."""

from __future__ import annotations

import pytest

from mosfs.balance.freezing import SETTLING, Decision, Rules, Subject, arrives_frozen, decide, in_units, weight


def running(count: int, since: float = 10.0, first: int = 1) -> list[Subject]:
    return [Subject(first + number, since=since + count - number) for number in range(count)]


def frozen(count: int, since: float = 10.0, first: int = 101) -> list[Subject]:
    return [Subject(first + number, frozen=True, since=since + count - number) for number in range(count)]


def brief(decisions: list[Decision]) -> list[int]:
    """PIDs, those that go on as negative numbers."""
    return [each.pid if each.freeze else -each.pid for each in decisions]


def test_the_red_mark_freezes_until_the_load_is_not_above_it() -> None:
    rules = Rules(red=6, blue=4)
    assert brief(decide(rules, 6.0, running(6))) == []
    found = decide(rules, 9.0, running(9))
    assert brief(found) == [1, 2, 3]
    assert found[0].why == "the load 9.0 is above 6" and found[2].why == "the load 7.0 is above 6"


def test_the_red_mark_may_be_off() -> None:
    assert decide(Rules(red=-1, blue=0), 100.0, running(100)) == []


def test_min_keep_go_on_whatever_the_load() -> None:
    assert brief(decide(Rules(red=1, blue=0, keep=2), 50.0, running(4))) == [1, 2]
    assert brief(decide(Rules(red=1, blue=0, keep=1), 50.0, frozen(3))) == [-101]


def test_below_the_blue_mark_programs_go_on_but_not_above_the_red_one() -> None:
    rules = Rules(red=6, blue=4)
    assert brief(decide(rules, 4.0, [*running(4), *frozen(3)])) == []
    assert brief(decide(rules, 1.5, [*running(1), *frozen(9)])) == [-101, -102, -103]
    heavy = [Subject(101, frozen=True, since=9, weight=5.0)]
    assert decide(rules, 1.5, heavy) == []


def test_max_procs_holds_when_the_load_is_low() -> None:
    rules = Rules(red=6, blue=4, most=2)
    assert brief(decide(rules, 0.0, running(4))) == [1, 2]
    assert brief(decide(rules, 0.0, [*running(1), *frozen(3)])) == [-101]
    assert brief(decide(Rules(most=0), 0.0, running(2))) == [1, 2]


def test_after_a_slice_the_turn_is_anothers() -> None:
    rules = Rules(red=2, blue=1, slice=10)
    assert brief(decide(rules, 2.0, [*running(2, 590), *frozen(2)])) == []
    assert brief(decide(rules, 2.0, [*running(2, 600), *frozen(2)])) == [1, -101]
    assert decide(rules, 2.0, running(2, 6000)) == [], "nobody waits"


def test_what_may_not_be_frozen_is_not_but_counts() -> None:
    """mosrun -g, and programs of which something is asked already."""
    stays = [Subject(number, since=100, free=False) for number in (1, 2, 3)]
    assert decide(Rules(red=1, blue=0), 9.0, stays) == []
    assert brief(decide(Rules(most=3), 0.0, [*stays, *running(2, first=10)])) == [10, 11]


def test_a_load_between_the_marks_changes_nothing() -> None:
    for load in (4.0, 4.5, 5.9, 6.0):
        assert decide(Rules(red=6, blue=4), load, [*running(5), *frozen(5)]) == []


def test_nothing_changes_twice_before_the_load_follows() -> None:
    rules = Rules(red=6, blue=4)
    assert decide(rules, 9.0, running(9), quiet=SETTLING - 1) == []
    assert decide(rules, 1.0, frozen(9), quiet=SETTLING - 1) == []


@pytest.mark.parametrize(("mark", "load", "expected"), [
    (0.0, 0.0, True), (-1.0, 99.0, False), (4.0, 3.9, False), (4.0, 4.0, True), (4.0, 5.0, True),
])  # fmt: skip
def test_home_and_cluster_marks(mark: float, load: float, expected: bool) -> None:
    assert arrives_frozen(mark, load) is expected


def test_units() -> None:
    """mosix(7), note 1: the faster the computer and the more processors it has, the less load a program makes."""
    assert in_units(300, 4, 20_000, standard=True) == 3.0
    assert in_units(300, 4, 20_000, standard=False) == 24.0
    assert weight(1.0, 4, 20_000, standard=True) == 0.125
    assert weight(0.5, 4, 20_000, standard=False) == 0.5


def test_two_hundred_programs_at_once_neither_thrash_nor_starve() -> None:
    """A simulation of three hours on a node with one processor: all come at once, and the load is seen a step late."""
    rules, step, steps = Rules(red=6, blue=4, keep=1, slice=1), 5.0, 2160
    since, is_frozen = dict.fromkeys(range(1, 201), 0.0), dict.fromkeys(range(1, 201), False)
    ran = dict.fromkeys(since, 0.0)
    seen, quiet, changes = 0.0, SETTLING, 0
    for number in range(steps):
        found = decide(rules, seen, [Subject(pid, is_frozen[pid], since[pid]) for pid in since], quiet)
        quiet = 0.0 if any("load" in each.why for each in found) else quiet + step
        seen = float(sum(not each for each in is_frozen.values()))
        for each in found:
            assert is_frozen[each.pid] is not each.freeze
            is_frozen[each.pid], since[each.pid] = each.freeze, 0.0
            changes += 1
        for pid in since:
            since[pid] += step
            ran[pid] += 0.0 if is_frozen[pid] else step
        assert number < 3 or rules.keep <= sum(not each for each in is_frozen.values()) <= rules.red
    assert changes < 200 + 2 * steps * step / 60 * rules.red
    assert min(ran.values()) > 0.5 * steps * step * rules.blue / 200 and max(ran.values()) < 4 * min(ran.values())
