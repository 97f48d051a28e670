"""How the tests find signals does not depend on how pytest was started."""

from __future__ import annotations

import ctypes
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import HIDDEN, RT_SIGACTION

ROOT = Path(__file__).parent.parent
#: What may be ignored or blocked at all; SIGPIPE and SIGXFSZ belong to Python.
USUAL = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE, signal.SIGXFSZ})


@pytest.mark.parametrize("field", ["SigIgn", "SigBlk"])
def test_programs_find_the_defaults(field: str) -> None:
    status = subprocess.run(["cat", "/proc/self/status"], capture_output=True, text=True, check=True).stdout
    (shown,) = (line.split()[1] for line in status.splitlines() if line.startswith(f"{field}:"))
    assert int(shown, 16) == 0


def test_an_interrupt_is_heard() -> None:
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def ignoring() -> None:
    """As `make test &`, nohup, a service or a job queue may start us, and worse."""
    for number in USUAL:
        signal.signal(number, signal.SIG_IGN)
    for number in HIDDEN:
        ctypes.CDLL(None).syscall(RT_SIGACTION, number, (ctypes.c_ulong * 4)(signal.SIG_IGN), None, 8)
    signal.pthread_sigmask(signal.SIG_BLOCK, USUAL)


def test_also_when_all_were_ignored_and_blocked() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "programs or interrupt", __file__]
    done = subprocess.run(command, cwd=ROOT, preexec_fn=ignoring, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "3 passed" in done.stdout, done.stdout
