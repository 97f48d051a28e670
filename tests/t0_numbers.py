"""Process IDs that are chosen (`trace.numbers`)."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mosfs.trace import numbers
from mosfs.trace.numbers import CannotChoose

#: No machine gives such a number to anybody.
NOBODY = (1 << 22) + 7


def test_who_has_a_number() -> None:
    """A process, a thread, a group whose first has gone; those that nobody may have."""
    code = "import os, sys; os.setsid() or os.fork() and os._exit(0); print(flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as leader:
        assert leader.stdout is not None and leader.stdout.readline() == b"\n"
        os.waitpid(leader.pid, 0)
        leader.returncode = 0
        assert not os.path.exists(f"/proc/{leader.pid}") and numbers.in_use(leader.pid)
    assert all(map(numbers.in_use, (-1, 0, 1, os.getpid())))
    assert not numbers.in_use(NOBODY)


def test_the_next_ones_have_the_numbers_that_they_would_have_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    last = tmp_path / "last"
    last.write_text("4711\n")
    monkeypatch.setattr(numbers, "LAST", str(last))
    with numbers.next_is(NOBODY):
        assert int(last.read_text()) == NOBODY - 1
    last.write_text("4711")
    with pytest.raises(ZeroDivisionError), numbers.next_is(NOBODY):
        raise ZeroDivisionError
    assert last.read_text().startswith("4711")
    with pytest.raises(CannotChoose, match=f"process ID {os.getpid()} is in use"), numbers.next_is(os.getpid()):
        pass


def test_where_none_can_be_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An ordinary user's node, or a kernel without that file."""
    monkeypatch.setattr(numbers, "LAST", str(tmp_path / "nothing"))
    with pytest.raises(CannotChoose, match="this node cannot choose process IDs"), numbers.next_is(NOBODY):
        pass


def test_who_locks_that_file_keeps_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everybody may open it."""
    last = tmp_path / "last"
    last.write_text("4711")
    monkeypatch.setattr(numbers, "LAST", str(last))
    with open(last, encoding="ascii") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with numbers.next_is(NOBODY, 0.01):
            assert int(last.read_text()) == NOBODY - 1
