"""What /proc tells of a process, read by one module: against what Python knows of itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from mosfs.trace.proc import TaskGone, comm_of, owner_of, start_time, status_sets, tgid_of, tracer_of, umask_of, words_of

NOBODY = 2**22 + 1  #: above every pid_max


def test_of_oneself() -> None:
    old = os.umask(0o027)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    try:
        me = os.getpid()
        assert (owner_of(me), umask_of(me), tgid_of(me), tracer_of(me)) == (os.getuid(), 0o027, me, 0)
        assert status_sets(me)["SigBlk"] >> (signal.SIGUSR2 - 1) & 1
        assert set(status_sets(me)) == {"SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt"}
        users, groups = words_of(me, "Uid", "Gid")
        assert users == [*map(str, os.getresuid()), users[3]] and groups[:3] == [*map(str, os.getresgid())]
        assert 0 < start_time(os.getppid()) <= start_time(me)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.umask(old)


def test_of_nobody_and_of_what_has_ended() -> None:
    for ask in (owner_of, umask_of, status_sets, comm_of):
        with pytest.raises(TaskGone):
            ask(NOBODY)
    assert (tgid_of(NOBODY), tracer_of(NOBODY), start_time(NOBODY)) == (NOBODY, 0, 0)
    with subprocess.Popen(["true"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(TaskGone):
            umask_of(process.pid)  # a zombie has none
        assert owner_of(process.pid) == os.getuid()


def test_no_name_is_a_line() -> None:
    """A program may call itself as it likes (prctl(2), PR_SET_NAME)."""
    script = "import ctypes; ctypes.CDLL(None).prctl(15, b'x\\nUid:\\t4 4 4 4'); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stdout.readline() == b"\n"
        assert owner_of(process.pid) == os.getuid() and comm_of(process.pid).startswith("x\nUid:")
        process.communicate(b"\n")


def clean_up_fails(first: Exception, second: Exception) -> BaseException:
    try:
        try:
            raise first
        finally:
            raise second
    except Exception as error:
        return error


@pytest.mark.parametrize("second", [TaskGone(7), OSError("no such process")], ids=["gone", "refused"])
def test_an_end_that_a_clean_up_hides_is_found(second: Exception) -> None:
    """Nobody else gets the status of a task that has been waited for: the program would stay known for ever."""
    found = TaskGone.behind(clean_up_fails(TaskGone(7, 9), second))
    assert found is not None and (found.pid, found.status) == (7, 9)


def test_what_is_about_something_else_is_no_end() -> None:
    assert TaskGone.behind(clean_up_fails(TaskGone(7), ValueError("a fault"))) is None
    gone = TaskGone(7)
    assert TaskGone.behind(gone) is gone
