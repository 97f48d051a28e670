"""Ignored and blocked signals that a command inherits are the program's, as with env(1) and nohup(1)."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from mosfs.tools import lab as labs
from tests import cluster
from tests.cluster import Lab

pytestmark = pytest.mark.root

#: Becomes a command with these signals ignored and these blocked (masks as in /proc/PID/status): by the numbers of the calls,
#: as libc hides two signals, and Python has its own mind about others.
WITH = """
import ctypes, os, sys
ignored, blocked = (int(word, 16) for word in sys.argv[1:3])
libc = ctypes.CDLL(None)
RT_SIGACTION, RT_SIGPROCMASK, SIG_SETMASK = 13, 14, 2
for number in range(1, 65):
    libc.syscall(RT_SIGACTION, number, (ctypes.c_ulong * 4)(ignored >> (number - 1) & 1), None, 8)
libc.syscall(RT_SIGPROCMASK, SIG_SETMASK, ctypes.byref(ctypes.c_ulong(blocked)), None, 8)
os.execvp(sys.argv[3], sys.argv[3:])
"""
ALL = ((1 << 64) - 1) & ~(1 << (signal.SIGKILL - 1) | 1 << (signal.SIGSTOP - 1))
#: Of any two signals one has a set without the other.
SETS = [ALL, 0, *(sum(1 << (n - 1) for n in range(1, 65) if (n >> bit & 1) == one) & ALL for bit in range(7) for one in (0, 1))]
COMMANDS = [
    ["mosrun", "-h"], ["mosrun", "-2"], ["mosenv", "-h"], ["mosnative"], ["mosrun", "-h", "mosnative"],
    ["mosrun", "-h", "mosrun", "-2"],
]


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with cluster.lab(tmp_path_factory.mktemp("t5"), 2) as running:
        yield running


def shown(environ: dict[str, str], ignored: int, blocked: int, command: Sequence[str]) -> list[str]:
    """The lines about signals of a program that ``command`` starts."""
    words = [sys.executable, "-Sc", WITH, f"{ignored:x}", f"{blocked:x}", *command, "cat", "/proc/self/status"]
    done = subprocess.run(words, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, ""), (command, done)
    return [line for line in done.stdout.splitlines() if line.startswith(("SigPnd", "SigBlk", "SigIgn", "SigCgt"))]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_of_mosix(nodes: Lab, command: list[str]) -> None:
    environ = labs.environment(nodes.node(1), nodes.environ)
    for mask in SETS:
        natively = shown(environ, mask, ALL & ~mask, ["env"])
        assert natively[1:3] == [f"SigBlk:\t{ALL & ~mask:016x}", f"SigIgn:\t{mask:016x}"]
        assert shown(environ, mask, ALL & ~mask, command) == natively
    assert shown(environ, ALL, ALL, command) == shown(environ, ALL, ALL, ["env"])


def test_of_the_lab(nodes: Lab) -> None:
    """Also SIGPIPE and SIGXFSZ alone, which Python ignores in any case."""
    environ = dict(nodes.environ)
    for mask in [*SETS, 1 << (signal.SIGPIPE - 1), 1 << (signal.SIGXFSZ - 1)]:
        for command in ([], ["mosrun", "-2"]):
            assert shown(environ, mask, 0, ["moslab", "run", "1", *command]) == shown(environ, mask, 0, ["env"])


@pytest.mark.parametrize("number", [signal.SIGPIPE, signal.SIGXFSZ])
def test_of_a_storm(nodes: Lab, number: int) -> None:
    mask = 1 << (number - 1)
    environ = dict(nodes.environ)
    assert shown(environ, mask, 0, ["moslab", "storm", "--", "mosrun", "-h"]) == shown(environ, mask, 0, ["env"])


@pytest.mark.parametrize("numbers", [(), (signal.SIGPIPE,), (signal.SIGXFSZ, signal.SIGTRAP), (signal.SIGPIPE, signal.SIGXFSZ)])
def test_of_a_pipeline(nodes: Lab, tmp_path: Path, numbers: Sequence[int]) -> None:
    """Of each of its programs: the second passes the line of the first on, then shows its own."""
    environ = labs.environment(nodes.node(1), nodes.environ)
    ignored = sum(1 << (number - 1) for number in numbers)
    last = tmp_path / "last"
    last.write_text("read line; echo $line; grep SigIgn /proc/self/status\n")
    words = [sys.executable, "-Sc", WITH, f"{ignored:x}", "0", "mospipe", "-h", "grep SigIgn /proc/self/status", "-2", f"sh {last}"]
    done = subprocess.run(words, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done
    assert [line.split() for line in done.stdout.splitlines()] == [["SigIgn:", f"{ignored:016x}"]] * 2
