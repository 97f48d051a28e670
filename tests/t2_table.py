"""The table of system calls against the test programs: every supported call is made by one of them, and succeeds there.

Each program passes natively, at home, away and in motion (`t2_programs_native.py`, `t5_programs.py`); here it runs once more under
a plain tracer (`calls.c`) that notes which calls it makes. What no program makes is in tests/programs/UNTESTED, with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mosfs.abi.syscalls import BY_NAME, BY_NR, Away, Home, Syscall
from tests.progs import BUILT, CFLAGS, PROGRAMS, QUICK, SOURCES, Place, Program, built, compile_c, execute, passed, scratch

TRACER = Path(__file__).with_name("calls.c")
MOST = 20  #: so many lines UNTESTED may have
WORKERS = 2
#: Programs that trace: their children could not be traced twice.
TRACE = frozenset({"debugger", "filters"})


#: Programs of calls that are refused but under --stay-home.
HOMEBOUND = {"homebound"}


def supported(row: Syscall) -> bool:
    """A program may make this call, at home and away."""
    return row.home not in (Home.REFUSE, Home.ERRNO) and row.away not in (Away.REFUSE, Away.ERRNO)


def untested() -> dict[str, str]:
    """Calls of UNTESTED: name and reason."""
    lines = (SOURCES / "UNTESTED").read_text().splitlines()
    return {name: reason.strip() for name, _, reason in (line.partition(" ") for line in lines)}


def calls_of(program: Program, tracer: Path) -> dict[int, bool]:
    """The numbers of all calls that a program makes, and whether each ever succeeds."""
    with scratch() as cwd, scratch() as aside:
        outcome = execute(
            Place.NATIVE, [str(tracer), str(aside / "calls"), str(built(program)), QUICK], cwd=cwd,
            environment={"MOS_TRACED": "1"},
        )
        assert passed(outcome), f"{program.name} under a plain tracer: {outcome}"
        lines = (aside / "calls").read_text().split("\n")[:-1]
    return {int(number): outcome == "ok" for number, outcome in (line.split() for line in lines)}


@pytest.fixture(scope="module")
def made() -> Iterator[dict[int, bool]]:
    """The calls of all programs together."""
    BUILT.mkdir(parents=True, exist_ok=True)
    tracer = BUILT / "calls"
    compile_c(TRACER, tracer, CFLAGS)
    found: dict[int, bool] = {}
    walked = [p for p in PROGRAMS if not p.static and p.name not in TRACE | HOMEBOUND]
    with ThreadPoolExecutor(WORKERS) as pool:
        for calls in pool.map(lambda program: calls_of(program, tracer), walked):
            for number, succeeded in calls.items():
                found[number] = found.get(number, False) or succeeded
    yield found


def test_every_supported_call_is_made(made: dict[int, bool]) -> None:
    missing = {row.name for row in BY_NR.values() if supported(row) and not made.get(row.nr)}
    assert missing - set(untested()) == set(), "made by no program, or never with success"


def test_what_is_not_tested_is_argued() -> None:
    listed = untested()
    assert len(listed) <= MOST
    assert all(name in BY_NAME and supported(BY_NAME[name]) for name in listed)
    assert all(len(reason) > 10 for reason in listed.values())


def test_refused_calls_are_made_by_no_program(made: dict[int, bool]) -> None:
    """A program that passes everywhere cannot contain them; those answered with an error it may try."""
    refused = {row.name for row in BY_NR.values() if row.home is Home.REFUSE and row.nr in made}
    assert refused == {"shmat"}  # to read it is served


def test_the_tracer_sees_what_is_called() -> None:
    """`execve` of the command itself, its exit, and a call that fails."""
    with scratch() as aside:
        BUILT.mkdir(parents=True, exist_ok=True)
        tracer = BUILT / "calls"
        compile_c(TRACER, tracer, CFLAGS)
        done = execute(Place.NATIVE, [str(tracer), str(aside / "calls"), "sh", "-c", "cd /no/such/dir; exit 3"], cwd=aside)
        found = dict(line.split() for line in (aside / "calls").read_text().splitlines())
    assert done.status == 3
    assert found[str(BY_NAME["execve"].nr)] == "ok" == found[str(BY_NAME["exit_group"].nr)]
    assert found[str(BY_NAME["chdir"].nr)] == "failed"
    assert str(BY_NAME["reboot"].nr) not in found
