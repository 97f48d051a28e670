"""The test programs at home, away, and while being moved, give what they give natively.

All share one lab, and run a few at a time, beside the tests that wait for them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import cache

import pytest

from tests.cluster import lab
from tests.progs import BY_NAME, PROGRAMS, TIMEOUT, Outcome, Place, Program, execute, run_natively, scratch, verdict

WORKERS = 3
NODES = 3
#: With nothing but what bash has built in, so that it is bash itself that is asked.
WHERE_AM_I = """
read -r where < "$MOUNT/self/whereami"; echo "$where"
read -r moves < "$MOUNT/self/nmigs"; echo "$moves"
while read -r name value; do
    case $name in TracerPid:|Seccomp:) [ "$value" = 0 ] && echo "$name not seen" ;; esac
done < /proc/self/status
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the lab of this module is."""
    with lab(tmp_path_factory.mktemp("lab"), NODES) as nodes, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", nodes.environ["PATH"])
        yield nodes.plan.root


Runs = Mapping[tuple[Program, Place], Future[tuple[Outcome, str]]]


@pytest.fixture(scope="module")
def runs(request: pytest.FixtureRequest, root: str) -> Iterator[Runs]:
    """The runs that the tests of this session want, in their order, all started when the first of them is asked for."""
    places = {test_at_home.__name__: Place.HOME, test_away.__name__: Place.AWAY, test_in_motion.__name__: Place.MOTION}
    functions = [item for item in request.session.items if isinstance(item, pytest.Function) and item.module is request.module]
    wanted = [(item.callspec.params["program"], places[item.originalname]) for item in functions if item.originalname in places]
    natively = cache(run_natively)
    pool = ThreadPoolExecutor(WORKERS)
    try:
        yield {(program, place): pool.submit(verdict, program, place, natively, root=root) for program, place in wanted}
    finally:
        pool.shutdown(cancel_futures=True)


def named(program: Program) -> str:
    return program.name


@pytest.mark.parametrize(("place", "number"), [(Place.HOME, "0"), (Place.AWAY, "2")])
def test_places_are_what_they_say(place: Place, number: str, root: str) -> None:
    """Else everything below would prove nothing: its tree tells where the program is. In /proc it does not see us."""
    with scratch() as cwd:
        outcome = execute(place, ["bash", "-c", WHERE_AM_I], cwd=cwd, root=root)
    told = f"{number}\n{int(place is Place.AWAY)}\nTracerPid: not seen\nSeccomp: not seen\n"
    assert (outcome.stdout, outcome.stderr) == (told, "")


@pytest.mark.parametrize("program", PROGRAMS, ids=named)
def test_at_home(program: Program, runs: Runs) -> None:
    _, wrong = runs[program, Place.HOME].result()
    assert wrong == ""


#: What makes hundreds of threads takes seconds away.
AWAY = [pytest.param(one, id=one.name, marks=pytest.mark.long if one is BY_NAME["pthreads"] else ()) for one in PROGRAMS]


@pytest.mark.parametrize("program", AWAY)
def test_away(program: Program, runs: Runs) -> None:
    _, wrong = runs[program, Place.AWAY].result()
    assert wrong == ""


MOVED = [pytest.param(program, id=program.name, marks=pytest.mark.long if program.long else ()) for program in PROGRAMS]


@pytest.mark.parametrize("program", MOVED)
def test_in_motion(program: Program, runs: Runs, root: str, capfd: pytest.CaptureFixture[str]) -> None:
    outcome, wrong = runs[program, Place.MOTION].result()
    if wrong:  # a race that is lost once in a hundred runs is `test_in_long_motion`'s; here it is told, and must not repeat
        with capfd.disabled():
            print(f"\n{program.name} failed once in motion: {wrong}")
        outcome, wrong = verdict(program, Place.MOTION, root=root)
    if not wrong and not outcome.moves and not program.stays:  # a busy machine: its first move was not over when it ended
        outcome, wrong = verdict(program, Place.MOTION, root=root, seconds="8")
    assert wrong == ""
    if program.stays:
        assert not outcome.reasons or any(reason.startswith("stays at home: ") for reason in outcome.reasons)
    else:
        assert outcome.moves > 0, f"it was never moved: {dict(outcome.reasons)}"


def moved_often(program: Program, root: str, times: int, pause: str, seconds: tuple[int, ...], timeout: float = TIMEOUT) -> None:
    """More often than that, and nothing is wrong; ``seconds``: each tried if those before were too few on a busy machine."""
    for each in seconds:
        outcome, wrong = verdict(program, Place.MOTION, root=root, seconds=str(each), pause=pause, timeout=timeout)
        assert wrong == ""
        if program.stays or outcome.moves > times:
            return
    raise AssertionError(f"it was moved {outcome.moves} times in {each} seconds: {dict(outcome.reasons)}")


@pytest.mark.long
@pytest.mark.parametrize("program", PROGRAMS, ids=named)
def test_in_long_motion(program: Program, root: str) -> None:
    moved_often(program, root, 10, "0.05", (10, 30, 90), 2 * TIMEOUT)


@pytest.mark.long
def test_a_gigabyte_in_motion(root: str) -> None:
    huge = replace(BY_NAME["big_image"], environment=(("MOS_MB", "1024"),), pause="2")
    moved_often(huge, root, 3, "2", (40, 120), 300)
