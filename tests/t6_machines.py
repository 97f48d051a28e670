"""Two computers that differ: another kernel, another processor, another clock (`tests.machines`). `make test-machines` runs these.

Programs of `tests/programs`, and ordinary ones of Debian, start on either and run on the other, and move between both; their
results are those of a native run. Runs of one processor share a boot, and several are under way at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import pytest

from tests.machines.image import CannotBuild
from tests.machines.runs import MOVES, PROCESSORS, RUNS, Record, Result, Run, cannot, carry_out, record
from tests.machines.vm import Machines, machines
from tests.progs import BY_NAME, built

#: Every wait in here has its own limit (`tests.patience`).
pytestmark = [pytest.mark.long, pytest.mark.machines, pytest.mark.root, pytest.mark.timeout(0)]
AT_A_TIME = 3


@dataclass
class Campaign:
    """The runs with one processor that pytest was asked for and that have not passed yet."""

    record: Record
    pending: dict[Run, Future[Result]]
    both: Machines | None

    def result(self, run: Run) -> Result:
        return self.record.passed(run) or self.pending[run].result()

    def logs(self) -> str:
        return self.both.logs() if self.both else ""


def begun(run: Run, both: Machines, kept: Record) -> Result:
    result = carry_out(run, both)
    kept.note(run, result)
    return result


@pytest.fixture(scope="module")
def campaign(request: pytest.FixtureRequest) -> Iterator[Campaign]:
    params = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
    asked = [run for given in params if (run := given.get("run")) in RUNS and run.processor == request.param]
    kept = record()
    todo = [run for run in asked if kept.passed(run) is None and not cannot(run)]
    if not todo:
        yield Campaign(kept, {}, None)
        return
    for run in todo:
        if run.kind in ("program", "storm"):
            built(BY_NAME[run.name])  # the other computer cannot
    try:
        with machines(PROCESSORS[request.param]) as both, ThreadPoolExecutor(AT_A_TIME) as pool:
            try:
                yield Campaign(kept, {run: pool.submit(partial(begun, run, both, kept)) for run in todo}, both)
            finally:
                pool.shutdown(wait=True, cancel_futures=True)
    except CannotBuild as why:
        pytest.skip(str(why))


@pytest.mark.parametrize(
    ("campaign", "run"), [pytest.param(run.processor, run, id=run.id) for run in RUNS], indirect=["campaign"], scope="module",
)
def test_gives_what_it_gives_natively(campaign: Campaign, run: Run) -> None:
    if why := cannot(run):
        pytest.skip(why)
    result = campaign.result(run)
    assert not result.wrong, f"{result.wrong}\n{campaign.logs()}"
    assert run.kind != "storm" or result.moves >= MOVES
