"""Every test program passes natively before anything is said about mosfs, and fails when something is wrong."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from types import SimpleNamespace

import pytest

from tests.progs import (
    CFLAGS,
    PROGRAMS,
    QUICK,
    SOURCES,
    Outcome,
    Place,
    Program,
    built,
    compile_c,
    execute,
    passed,
    run,
    scratch,
)

WORKERS = 2


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest) -> Iterator[dict[str, Future[Outcome]]]:
    """The wanted programs, all started when the first test asks for its own."""
    wanted = {
        item.callspec.params["program"] for item in request.session.items
        if isinstance(item, pytest.Function) and item.originalname == test_passes_natively.__name__
    }
    with ThreadPoolExecutor(WORKERS) as pool:
        yield {program.name: pool.submit(run, program, Place.NATIVE) for program in PROGRAMS if program in wanted}


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_passes_natively(program: Program, outcomes: dict[str, Future[Outcome]]) -> None:
    outcome = outcomes[program.name].result()
    assert passed(outcome), outcome
    assert outcome.stderr == "" or program.path.suffix == ".sh"


def test_every_source_is_run() -> None:
    sources = {path.name for path in SOURCES.iterdir() if path.suffix in {".c", ".sh", ".py"}}
    of_other_tests = {"scramble.c", "mailbox.c", "mail_robot.py", "mail_files.py"}
    assert sources == {program.path.name for program in PROGRAMS} | of_other_tests


BROKEN = """
#include "mos.h"
static int three(void *arg UNUSED) { return 3; }
static void wrong_sum(void) { char a[64]; uint64_t sum = datagen(a, 64, 1); a[40] ^= 4; check(datasum(a, 64) == sum); }
static void wrong_number(void) { equal(getppid(), -5); }
static void wrong_bytes(void) { same("abc", "abd", 3); }
static void wrong_error(void) { refused(close(-1), EINVAL); }
static void no_error(void) { refused(dup(1), EBADF); }
static void bad_call(void) { ok(chdir("nosuch")); }
static void bad_status(void) { reaped(forked(three, NULL), 4); }
static void no_death(void) { killed(forked(three, NULL), SIGTERM); }
PROGRAM(PART(wrong_sum), PART(wrong_number), PART(wrong_bytes), PART(wrong_error), PART(no_error), PART(bad_call),
	PART(bad_status), PART(no_death))
"""


def test_every_verb_can_fail(tmp_path: Path) -> None:
    source, binary = tmp_path / "broken.c", tmp_path / "broken"
    source.write_text(BROKEN)
    compile_c(source, binary, [*CFLAGS, f"-I{SOURCES}"])
    parts = re.findall(r"PART\((\w+)\)", BROKEN)
    assert len(parts) == 8
    for part in parts:
        with scratch() as cwd:
            outcome = execute(Place.NATIVE, [str(binary), QUICK, part], cwd=cwd)
            assert not list(cwd.iterdir())
        assert outcome.status == 1
        assert outcome.stdout.startswith("FAIL ") and f" in {part}: " in outcome.stdout


def test_a_program_that_hangs_is_reported() -> None:
    with scratch() as cwd:
        outcome = execute(Place.NATIVE, ["sleep", "1000"], cwd=cwd, timeout=0.2)
    assert outcome.status == -9
    assert "still running" in outcome.stderr


def test_differences_are_told() -> None:
    good = Outcome(0, "one\nPASS\n")
    assert good.difference(good) == ""
    assert "status 1, natively 0" in Outcome(1, "one\nPASS\n").difference(good)
    assert "stdout 'PASS" in Outcome(0, "PASS\n").difference(good)
    assert "left behind f" in Outcome(0, good.stdout, left=("f",)).difference(good)


def test_two_threads_may_build_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both have compiled before either puts its binary in its place."""
    both = Barrier(2)

    def gcc(command: list[str], **_: object) -> SimpleNamespace:
        Path(command[-1]).write_text("made")
        both.wait(60)
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(subprocess, "run", gcc)
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(compile_c, tmp_path / "x.c", tmp_path / "x", ()) for _ in range(2)]:
            done.result()
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_programs_are_built_once() -> None:
    first = built(PROGRAMS[0]).stat().st_mtime_ns
    assert built(PROGRAMS[0]).stat().st_mtime_ns == first
