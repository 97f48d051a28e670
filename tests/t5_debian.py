"""Ordinary Debian programs at home, away and in motion: same output, status and files as natively.

The tables are in tests/debian. A few rows run by default, all of them with `make test-all`; at the end of the session stands a
table of run times compared with native ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import pytest

from tests.cluster import lab
from tests.debian import alone, compare
from tests.debian.cases import Case
from tests.debian.compare import RATIOS, Result
from tests.debian.table import CASES
from tests.progs import Place

NODES = 2


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the lab of this module is."""
    with lab(tmp_path_factory.mktemp("lab"), NODES) as nodes, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", nodes.environ["PATH"])
        yield nodes.plan.root


Native = Callable[[Case], Result]


@pytest.fixture(scope="module")
def natively() -> Native:
    """The result of a case natively; each is run once."""

    @cache
    def run(case: Case) -> Result:
        if lacking := case.lacking():
            pytest.skip(lacking)
        found = compare.run(case, Place.NATIVE)
        assert found.outcome.status == case.status, found.outcome
        RATIOS.note(case, Place.NATIVE, found.outcome)
        return found

    return run


CHOSEN = [pytest.param(case, id=case.name, marks=() if case.quick else pytest.mark.long) for case in CASES]


def test_the_rows_are_told_apart() -> None:
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("place", [Place.HOME, Place.AWAY, Place.MOTION])
@pytest.mark.parametrize("case", CHOSEN)
def test_gives_the_same(case: Case, place: Place, root: str, natively: Native) -> None:
    native = natively(case)
    found = compare.run(case, place, root=root)
    RATIOS.note(case, place, found.outcome)
    assert found.difference(native) == ""
    if place is Place.MOTION and case.unmoved(found.outcome.moves, found.outcome.reasons):
        found = compare.run(case, place, root=root)  # a busy machine: its first move was not over when it ended
        assert found.difference(native) == ""
        assert case.unmoved(found.outcome.moves, found.outcome.reasons) == "", found.outcome.reasons


#: Of what goes on from checkpoints again and again: an interpreter, a data base, a filter.
SAVED = ("perl", "sqlite3", "bzip2")


@pytest.mark.long
@pytest.mark.parametrize("name", SAVED)
def test_saved_and_recovered(name: str, root: str) -> None:
    """Three times in a row, at random moments. `python -m tests.debian.alone` has them all."""
    case = alone.BY_NAME[name]
    if lacking := case.lacking():
        pytest.skip(lacking)
    found = alone.run(case, Place.SAVED, root=root)
    assert found.difference(alone.run(case, Place.NATIVE)) == ""
    assert found.outcome.recoveries == alone.TIMES, found.outcome.reasons


@pytest.mark.parametrize("case", CHOSEN)
def test_gives_the_same_twice_natively(case: Case, natively: Native) -> None:
    """The table itself: a case whose results differ from run to run proves nothing."""
    native = natively(case)
    assert compare.run(case, Place.NATIVE).difference(native) == ""
