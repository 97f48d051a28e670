"""Sitting at a terminal: shells and Python under mosrun, at home, away and in motion, behave as natively.

Every test is made for the native program too, so that a failure elsewhere is not the test's own.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pexpect  # type: ignore[import-untyped]
import pytest

from tests.cluster import lab, wait_until
from tests.progs import Place, at

NODES = 2
PATIENCE = 30.0  #: seconds after which something that was expected does not come any more
PROMPT = "ready> "
PYTHON_PROMPT = ">>> "
BASH = ("bash", "--norc", "--noprofile", "-i")
SLEEP = "sh -c 'echo go; exec sleep 1000'"
CAT = "sh -c 'echo go; exec cat'"
PYTHON = ("python3", "-q", "-i", "-E")

Terminal = Callable[..., pexpect.spawn]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the lab of this module is."""
    with lab(tmp_path_factory.mktemp("lab"), NODES) as nodes, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", nodes.environ["PATH"])
        yield nodes.plan.root


@pytest.fixture(params=[place for place in Place if place is not Place.SAVED])  # a terminal is one process's only
def place(request: pytest.FixtureRequest) -> Place:
    return Place(request.param)


@pytest.fixture
def terminal(request: pytest.FixtureRequest) -> Iterator[Terminal]:
    """``terminal(place, *command)``: a terminal of 24 x 80 in which ``command`` has been started."""
    with ExitStack() as closing:

        def start(place: Place, *command: str) -> pexpect.spawn:
            root = "" if place is Place.NATIVE else request.getfixturevalue("root")
            given = {**os.environ, "PS1": PROMPT, "TERM": "dumb", "LC_ALL": "C", "HISTFILE": ""}
            (name, *words), environ = at(place, command, given, root)
            child = pexpect.spawn(name, words, encoding="utf-8", timeout=PATIENCE, dimensions=(24, 80), env=environ)
            child.delaybeforesend = None
            closing.callback(child.close, force=True)
            return child

        yield start


def ask(child: pexpect.spawn, line: str, answer: str, prompt: str = PROMPT) -> None:
    """Type a line at the prompt; ``answer`` must be a whole line of the output, and the prompt come back.

    The line itself is echoed, so it must not contain the answer.
    """
    assert answer not in line
    child.sendline(line)
    child.expect_exact(f"\n{answer}\r\n")
    child.expect_exact(prompt)


def bash(terminal: Terminal, place: Place) -> pexpect.spawn:
    child = terminal(place, *BASH)
    child.expect_exact(PROMPT)
    return child


def foreground(child: pexpect.spawn, line: str, shown: str) -> None:
    """Type ``line``, see ``shown``, and wait until the job has the terminal: keys typed before that are the shell's."""
    before = os.tcgetpgrp(child.child_fd)
    child.sendline(line)
    child.expect_exact(shown)
    wait_until(lambda: os.tcgetpgrp(child.child_fd) != before, 20)


def begin(child: pexpect.spawn, job: str) -> None:
    """A job that says "go" when it runs: a shell loses what is typed while it starts one."""
    child.sendline(job)
    child.expect_exact("\ngo\r\n")


def start_sleeping(child: pexpect.spawn) -> None:
    begin(child, SLEEP)


def ended(child: pexpect.spawn) -> int | None:
    """Exit status of the command, which must end now."""
    child.expect(pexpect.EOF)
    child.wait()
    status: int | None = child.exitstatus
    return status


def test_typing_and_editing(place: Place, terminal: Terminal) -> None:
    child = bash(terminal, place)
    ask(child, "echo $((6 * 7))", "42")
    ask(child, "cho $((1000 + 1)x\x7f)\x01e", "1001")  # rubbed out x, Ctrl-A to the beginning
    ask(child, "echo $((5 * 5)) wrong\x17", "25")  # Ctrl-W: the last word
    ask(child, "nonsense\x15echo $((11 * 11))", "121")  # Ctrl-U: all
    ask(child, "\x10", "121")  # Ctrl-P: the line before
    ask(child, "read word; echo $word$word\ntwin", "twintwin")
    ask(child, "tty > /dev/null && test -t 0 && echo $((1 + 1))nd", "2nd")
    child.sendline("exit 5")
    assert ended(child) == 5


def test_end_of_file(place: Place, terminal: Terminal) -> None:
    child = bash(terminal, place)
    begin(child, CAT)
    child.sendline("mirrored")
    child.expect_exact("mirrored\r\nmirrored\r\n")
    child.sendeof()
    child.expect_exact(PROMPT)
    ask(child, "echo $((2 ** 10))", "1024")
    child.sendeof()
    assert ended(child) == 0


def interrupt(child: pexpect.spawn) -> None:
    """Control-C, until there is a prompt: bash looks for signals before it waits for a key, and one that comes in between has no
    effect until the next. Natively too: an fflush of bash that takes 3 ms more shows it every time."""
    for _ in range(10):
        child.sendintr()
        if child.expect_exact([PROMPT, pexpect.TIMEOUT], timeout=2) == 0:
            return
    raise AssertionError(f"no prompt after so many interrupts: {child.before!r}")


def test_interrupt(place: Place, terminal: Terminal) -> None:
    child = bash(terminal, place)
    for _ in range(3):
        start_sleeping(child)
        child.sendintr()
        child.expect_exact(PROMPT)
        ask(child, "echo status $?", "status 130")
    child.send("half a line")
    child.expect_exact("half a line")
    interrupt(child)
    ask(child, "trap 'echo cau''ght' USR1; kill -USR1 $$", "caught")
    begin(child, f"{CAT}; echo quit $?")
    child.send("\x1c")  # Ctrl-\
    child.expect_exact("\nquit 131\r\n")


def test_job_control(place: Place, terminal: Terminal) -> None:
    child = bash(terminal, place)
    start_sleeping(child)
    child.send("\x1a")
    child.expect_exact("Stopped")
    child.expect_exact(PROMPT)
    ask(child, "echo status $?", "status 148")
    child.sendline("jobs")
    child.expect(r"\[1\]\+ +Stopped +" + SLEEP)
    child.expect_exact(PROMPT)
    child.sendline("bg")
    child.expect_exact(f"{SLEEP} &")
    child.expect_exact(PROMPT)
    child.sendline("jobs")
    child.expect(r"\[1\]\+ +Running +" + SLEEP)
    child.expect_exact(PROMPT)
    foreground(child, "fg", f"\n{SLEEP}\r\n")
    child.sendintr()
    child.expect_exact(PROMPT)
    ask(child, "echo status $?", "status 130")
    begin(child, CAT)
    child.sendline("first")
    child.expect_exact("first\r\nfirst\r\n")
    child.send("\x1a")
    child.expect_exact("Stopped")
    child.expect_exact(PROMPT)
    foreground(child, "fg", f"\n{CAT}\r\n")
    child.sendline("second")
    child.expect_exact("second\r\nsecond\r\n")
    child.sendeof()
    child.expect_exact(PROMPT)
    ask(child, "sleep 1000 & kill %1; wait %1; echo ended $?", "ended 143")
    child.sendline("exit")
    ended(child)


def test_nested_shells(place: Place, terminal: Terminal) -> None:
    child = bash(terminal, place)
    for level in (2, 3):
        child.sendline(" ".join(BASH))
        child.expect_exact(PROMPT)
        ask(child, "echo level=$SHLVL | tr = ' ' > /dev/null; echo at $((10 * " + str(level) + "))", f"at {level * 10}")
        start_sleeping(child)
        child.send("\x1a")
        child.expect_exact("Stopped")
        child.expect_exact(PROMPT)
        child.sendline("kill %1; fg 2> /dev/null; echo $((level + 70))")
        child.expect_exact("\n70\r\n")
        child.expect_exact(PROMPT)
    for _ in range(2):
        child.sendline("exit 3")
        child.expect_exact(PROMPT)
        ask(child, "echo status $?", "status 3")
    child.sendline("exit 4")
    assert ended(child) == 4


def test_a_terminal_that_changes_its_size(place: Place, terminal: Terminal) -> None:
    child = bash(terminal, place)
    ask(child, "stty size", "24 80")
    child.sendline("trap 'echo resi''zed' WINCH")
    child.expect_exact(PROMPT)
    child.setwinsize(40, 132)
    child.sendline("")
    child.expect_exact("resized")
    child.expect_exact(PROMPT)
    child.sendline("stty size")
    child.expect_exact("40 132")


def test_python(place: Place, terminal: Terminal) -> None:
    child = terminal(place, *PYTHON)
    child.expect_exact(PYTHON_PROMPT)
    ask(child, "6 * 7", "42", PYTHON_PROMPT)
    ask(child, "input('name? ').upper()\nsomebody", "'SOMEBODY'", PYTHON_PROMPT)
    child.sendline("import time; print('go' * 2); time.sleep(1000)")
    child.expect_exact("\ngogo\r\n")
    child.sendintr()
    child.expect_exact("KeyboardInterrupt")
    child.expect_exact(PYTHON_PROMPT)
    child.sendline("for i in range(3): print(i + 100)")
    child.sendline("")
    child.expect_exact("100\r\n101\r\n102\r\n")
    child.expect_exact(PYTHON_PROMPT)
    ask(child, "import subprocess; subprocess.call(['sh', '-c', 'exit 9']) + 90", "99", PYTHON_PROMPT)
    child.sendline("raise SystemExit(6)")
    assert ended(child) == 6


@pytest.mark.parametrize("place", [Place.NATIVE, Place.HOME, Place.AWAY])
def test_as_a_job_of_a_native_shell(
    place: Place, terminal: Terminal, request: pytest.FixtureRequest, tmp_path: Path,
) -> None:
    """The shell outside knows nothing of mosrun: what it stops, continues and kills is the program itself."""
    root = "" if place is Place.NATIVE else request.getfixturevalue("root")
    script = tmp_path / "mirror"
    words, environ = at(place, ["sh", "-c", "echo go; exec cat"], os.environ, root)
    added = [f"{name}={value}" for name, value in environ.items() if os.environ.get(name) != value]
    script.write_text(f"#!/bin/sh\nexec {shlex.join(['env', *added, *words])}\n")
    script.chmod(0o755)
    child = bash(terminal, Place.NATIVE)
    child.sendline(f"cd {tmp_path}")
    child.expect_exact(PROMPT)
    begin(child, "./mirror")
    child.sendline("first")
    child.expect_exact("first\r\nfirst\r\n")
    child.send("\x1a")
    child.expect_exact("Stopped")
    child.expect_exact(PROMPT)
    ask(child, "echo status $?", "status 148")
    child.sendline("fg")
    child.expect_exact("\n./mirror\r\n")
    child.sendline("second")
    child.expect_exact("second\r\nsecond\r\n")
    child.sendintr()
    child.expect_exact(PROMPT)
    ask(child, "echo status $?", "status 130")
    ask(child, "sleep 1000 | ./mirror & sleep 0.1; kill %1; wait %1; echo ended $?", "ended 143")
    ask(child, "echo thr''ough | ./mirror", "through")
    child.sendline("exit 2")
    assert ended(child) == 2
