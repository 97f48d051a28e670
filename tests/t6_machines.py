"""Two computers that differ: another kernel, another processor, another clock (`tests.machines`). `make test-machines` runs these.

Programs of `tests/programs` start on either and run on the other, and move between both; their results are those of a native run.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.machines.image import REPO, CannotBuild
from tests.machines.vm import GUEST_ROOT, Machines, machines
from tests.progs import BY_NAME, Place, built, verdict

pytestmark = [pytest.mark.long, pytest.mark.machines, pytest.mark.root, pytest.mark.timeout(3000)]

#: What the other computer has. The first lacks AVX and all that came after it, the second AVX-512; the third is as qemu makes
#: it, with protection keys. All know lzcnt and tzcnt, else no program of this computer could go there (docs/mixed-clusters.md).
PROCESSORS = {"plain": "Nehalem,+abm,+bmi1", "haswell": "Haswell,-rtm,-hle", "max": "max,-3dnow,-3dnowext"}
PROGRAMS = (
    "counter", "processor", "registers", "memory", "memory-static", "files", "descriptors", "sigs", "clocks", "sleeps", "children",
    "identity",
)
SCRIPTS = ("shell", "script")
PATIENCE = 300.0


@pytest.fixture(scope="module", params=list(PROCESSORS))
def both(request: pytest.FixtureRequest) -> Iterator[Machines]:
    for name in PROGRAMS:
        built(BY_NAME[name])
    try:
        with machines(PROCESSORS[request.param]) as found:
            yield found
    except CannotBuild as why:
        pytest.skip(str(why))


def in_the_other(both: Machines, *arguments: str) -> str:
    """`python -m tests.progs` with these arguments in the other computer; its output, "" if all is well."""
    answer = both.ask(
        str(REPO / ".venv" / "bin" / "python"), "-m", "tests.progs", *arguments, "--root", GUEST_ROOT, "--timeout", str(PATIENCE),
        timeout=PATIENCE * 4, cwd=str(REPO), env={"PYTHONDONTWRITEBYTECODE": "1"},
    )
    return "" if answer.status == 0 else f"{answer.stdout}{answer.stderr}\n{both.logs()}"


@pytest.mark.parametrize("name", PROGRAMS + SCRIPTS)
def test_there_from_here(both: Machines, name: str) -> None:
    _, wrong = verdict(BY_NAME[name], Place.AWAY, root=both.root, timeout=PATIENCE)
    assert wrong == "", both.logs()


@pytest.mark.parametrize("name", PROGRAMS)
def test_here_from_there(both: Machines, name: str) -> None:
    assert in_the_other(both, "away", name) == ""


@pytest.mark.parametrize("name", PROGRAMS)
def test_in_motion_from_here(both: Machines, name: str) -> None:
    outcome, wrong = verdict(BY_NAME[name], Place.MOTION, root=both.root, seconds="10", timeout=PATIENCE)
    assert wrong == "", both.logs()
    assert outcome.moves > 0, f"it was never moved: {dict(outcome.reasons)}"


@pytest.mark.parametrize("name", ["counter", "processor", "memory", "sigs", "clocks"])
def test_in_motion_from_there(both: Machines, name: str) -> None:
    assert in_the_other(both, "motion", name, "--seconds", "10") == ""
