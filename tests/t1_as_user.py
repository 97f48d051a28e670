"""Taking a user's rights for a moment (trace/caller.py): all of them, and nothing that is our own."""

from __future__ import annotations

import ctypes
import os
import subprocess
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mosfs.abi.flags import PR_SET_DUMPABLE
from mosfs.home.away.mapped import File, Mapped
from mosfs.home.ports import Tree
from mosfs.home.tree.tracing import Traces
from mosfs.native import lib
from mosfs.trace import caller
from mosfs.trace.caller import as_user, rights_of
from mosfs.trace.proc import start_time

pytestmark = pytest.mark.root

USER, GROUP, OTHERS = 65533, 65532, [65530, 65531]
PR_GET_DUMPABLE = 3


def elsewhere(action: Callable[[], None]) -> None:
    """In a process of its own, which belongs to a group that users do not, as a daemon of root's may."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.setgroups([0, 12345])
            action()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def dumpable() -> int:
    return int(ctypes.CDLL(None).prctl(PR_GET_DUMPABLE))


def test_the_users_ids_and_groups_and_none_of_ours() -> None:
    def action() -> None:
        before = os.getresuid(), os.getresgid(), os.getgroups()
        with as_user(USER, GROUP, OTHERS):
            assert (os.getresuid(), os.getresgid()) == ((0, USER, 0), (0, GROUP, 0))
            assert sorted(os.getgroups()) == OTHERS
            with as_user(0, 0):
                assert os.geteuid() == USER, "who has become a user has no way back but the end of it"
        with as_user(USER, GROUP, real=True):
            assert (os.getresuid(), os.getresgid()) == ((USER, USER, 0), (GROUP, GROUP, 0))
        assert (os.getresuid(), os.getresgid(), os.getgroups()) == before

    elsewhere(action)


def test_a_file_that_only_our_groups_may_have_is_not_the_users() -> None:
    def action() -> None:
        with as_user(USER, GROUP), pytest.raises(PermissionError):
            os.open(path, os.O_RDWR)
        with as_user(USER, GROUP, [12345]):
            os.close(os.open(path, os.O_RDWR))

    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        path = Path(folder, "file")
        path.write_text("x")
        os.chown(path, 0, 12345)
        path.chmod(0o660)
        elsewhere(action)


@pytest.mark.parametrize("real", [False, True])
def test_who_has_rights_for_a_file_hears_no_signal_of_their_owner(real: bool) -> None:
    """In a tree of root's the tracer is not that user's alone. Who attaches has to have the real IDs."""

    def action() -> None:
        with as_user(USER, GROUP, real=real):
            ours = os.getpid()
            asked = os.fork()
            if asked == 0:
                os.setresuid(-1, -1, USER)
                os.setresuid(USER, -1, -1)
                try:
                    os.kill(ours, 0)
                except PermissionError:
                    os._exit(7)
                os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(asked, 0)[1]) == (0 if real else 7)

    elsewhere(action)


def test_to_trace_for_a_user_needs_none_of_his_real_ids() -> None:
    """Neither to take what he writes to from his process, nor to write there."""

    def action() -> None:
        became, become = list[tuple[int, int, int]](), caller._become

        def noted(users: tuple[int, int, int], own: tuple[int, int, int], others: list[int]) -> None:
            became.append(users)
            become(users, own, others)

        caller._become = noted  # type: ignore[assignment]
        reader, writer = os.pipe()
        asks = subprocess.Popen(["sleep", "60"], stderr=writer, user=USER, group=GROUP, extra_groups=())
        os.close(writer)
        try:
            traces: Any = Traces(cast("Tree", SimpleNamespace(pump=SimpleNamespace(pass_opens=1))))
            started = start_time(asks.pid)
            assert traces.of(caller.Caller(asks.pid, USER, GROUP, started - 1), 2) is None
            trace = traces.of(caller.Caller(asks.pid, USER, GROUP, started), 2)
            trace.line(7, "home", "called")
            assert os.read(reader, 100).endswith(b"7 home called\n")
            assert (0, USER, 0) in became and set(became) == {(0, USER, 0), (0, 0, 0)}
        finally:
            asks.kill()
            asks.wait()

    elsewhere(action)


@pytest.mark.parametrize("before", [0, 1])
def test_no_core_file_at_any_moment(before: int) -> None:
    """Whatever fs.suid_dumpable says that a change of users makes of a process."""

    def action() -> None:
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, before)
        with as_user(USER, GROUP):
            assert dumpable() == 0
        assert dumpable() == before

    elsewhere(action)


def test_the_rights_of_a_process_are_those_that_it_has() -> None:
    def action() -> None:
        os.setgroups(OTHERS)
        os.setresgid(GROUP, GROUP, 0)
        os.setresuid(USER, USER, 0)
        rights = rights_of(os.getpid())
        os.setresuid(0, 0, 0)
        os.setresgid(0, 0, 0)
        os.setgroups([])
        with rights():
            assert (os.geteuid(), os.getegid(), sorted(os.getgroups())) == (USER, GROUP, OTHERS)

    elsewhere(action)


def test_what_watches_a_users_files_is_one_of_the_users_instances(tmp_path: Path) -> None:
    """The kernel gives each user 128 (inotify(7)). A user's trees, each with one, could take all of root's."""
    def action() -> None:
        taken = []
        with as_user(USER, GROUP):
            while (fd := lib.mos_watcher()) >= 0:
                taken.append(fd)
        assert len(taken) < 4096
        lines: list[str] = []
        mosd = SimpleNamespace(uid=USER, log=lambda line, level: lines.append(line))
        mapped = Mapped(cast(Tree, SimpleNamespace(mosd=mosd)))
        file = File(1, os.open(tmp_path, os.O_RDONLY), "file", ("0:1", 1))
        mapped._watch(file)
        assert mapped.watcher < 0 and mapped.looks() and "cannot be watched" in lines[0]
        os.close(taken.pop())
        mapped._watch(file)
        assert mapped.watcher >= 0 and file.watch >= 0, "the file itself may be one that only root can read"
        assert os.geteuid() == 0

    elsewhere(action)
