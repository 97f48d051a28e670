"""Who asked to be traced: no process is seized, and none gets settings, that its user could not trace himself.

A tracer of root's attaches with the user's own credentials, so it is the kernel that compares all user and group IDs and refuses
what is not dumpable, in one step with attaching (ptrace(2), PTRACE_MODE_ATTACH_REALCREDS). A program that such a tracer has gains
nothing by a later exec of a set-user-ID file either (execve(2)).
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from mosfs.native import kernel, lib
from mosfs.trace.proc import TaskGone, content, start_time, words_of
from mosfs.trace.task import Task

SO_PEERPIDFD = 77  #: socket(7): the process that connected, whatever its number means today; Linux 6.5
AT_SECURE, _AUXV = 23, struct.Struct("2Q")  #: getauxval(3)

#: Answer to a caller with rights that its user does not have.
OTHER_RIGHTS = "it was started with other rights than its user's (a set-user-ID, set-group-ID or unreadable program)"
#: What mosps(1) shows of such a program.
APART = "has other rights than its user"


@dataclass(frozen=True, slots=True)
class Caller:
    """A process as it was when it asked. ``started``: proc(5), field 22 of stat."""

    pid: int
    uid: int
    gid: int
    started: int


class HasOptions(Protocol):
    """A socket, of the standard library or trio's."""

    def getsockopt(self, level: int, optname: int, /) -> int: ...


class NotTheCaller(Exception):
    """The process is not, or not any more, what the request came from. The text says why."""


def alive(pidfd: int) -> bool:
    """Has the process of ``pidfd`` not ended (pidfd_open(2): it is readable then)?"""
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return not poller.poll(0)


def open_pidfd(pid: int) -> int:
    """pidfd_open(2); -1 when there is no such process, or it is a thread's number (EINVAL, since Linux 6.16 ENOENT)."""
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        if error.errno not in (errno.ESRCH, errno.EINVAL, errno.ENOENT):
            raise
        return -1


def peer_lives(sock: HasOptions) -> bool:
    """Whether the very process that connected has not ended: its number is its own then. True where the kernel does not say."""
    if not kernel.has("peer_pidfd"):
        return True
    try:
        pidfd = sock.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD)
    except OSError as error:
        return error.errno == errno.ENOPROTOOPT
    try:
        return alive(pidfd)
    finally:
        os.close(pidfd)


@contextmanager
def as_user(uid: int, gid: int, groups: Sequence[int] = (), *, real: bool = False) -> Iterator[None]:
    """With the effective IDs of a user, ``groups`` besides, and without capabilities; nothing changes where we are not root.
    OSError.

    ``real``: with the real ones, too, by which ptrace(2) knows who attaches; only then can the user send us signals (kill(2)), so
    it is for who has that user's programs only.
    Meanwhile we belong to none of the groups of who started mosd, and at no moment can we be made to write a core file."""
    if os.geteuid():
        yield
        return
    own, others = os.getresgid(), os.getgroups()
    try:
        _become((uid if real else 0, uid, 0), (gid if real else own[0], gid, own[2]), groups)
        yield
    finally:
        _become((0, 0, 0), own, others)


def _become(users: tuple[int, int, int], own: tuple[int, int, int], others: Sequence[int]) -> None:
    if (result := lib.mos_become(users, own, others, len(others))) < 0:
        raise OSError(-result, os.strerror(-result))


def compare(caller: Caller) -> None:
    """NotTheCaller unless the process of that number is the same and has all its IDs from its user; TaskGone."""
    users, groups = words_of(caller.pid, "Uid", "Gid")
    if start_time(caller.pid) != caller.started:
        raise TaskGone(caller.pid)
    own = (users[:3], groups[:3]) == ([str(caller.uid)] * 3, [str(caller.gid)] * 3)
    if not own or apart(caller.pid):
        raise NotTheCaller(OTHER_RIGHTS)


def seize(task: Task, caller: Caller, connection: HasOptions) -> None:
    """Seize the process that asked over ``connection``, as its user; NotTheCaller, TaskGone, OSError of ptrace(2)."""
    compare(caller)
    try:
        with as_user(caller.uid, caller.gid, real=True):
            task.seize()
    except PermissionError:
        if not _only_children_may_be_traced():
            raise
        # The module that says so asks for a capability. The rest was compared, and is again: exec may have come between.
        task.seize()
        compare(caller)
    if not peer_lives(connection) or start_time(caller.pid) != caller.started:
        raise TaskGone(caller.pid)


def take_from(caller: Caller, fd: int) -> int:
    """Our copy of a descriptor of who asked, whom we trace; or a negative errno.

    It is compared after what it gave is ours, so it was the caller that gave it. To take it as its user would need his real IDs,
    and with those he can send us signals: in a tree of root's, which is not his."""
    copy = int(lib.mos_take_fd(caller.pid, fd))
    try:
        compare(caller)
    except (NotTheCaller, TaskGone):
        if copy >= 0:
            os.close(copy)
        return -errno.EPERM
    return copy


def rights_of(pid: int) -> Callable[[], AbstractContextManager[None]]:
    """The rights with which a stopped process reads and makes files (proc(5), Uid and Gid: the fourth number); TaskGone."""
    users, own, others = words_of(pid, "Uid", "Gid", "Groups")
    return partial(as_user, int(users[3]), int(own[3]), [*map(int, others)])


def _only_children_may_be_traced() -> bool:
    """Does the Yama security module restrict ptrace(2) (proc(5), ptrace_scope 1 or 2)?"""
    with suppress(OSError), open("/proc/sys/kernel/yama/ptrace_scope", encoding="ascii") as scope:
        return scope.read().strip() in ("1", "2")
    return False


def _open_to_its_user(pid: int) -> bool:
    """Is it dumpable (proc(5): its files belong to root otherwise)? The folder itself always belongs to the effective user."""
    try:
        return os.stat(f"/proc/{pid}/auxv").st_uid == os.stat(f"/proc/{pid}").st_uid
    except OSError as error:
        raise TaskGone(pid) from error


def apart(pid: int) -> bool:
    """Has the program got rights, at its exec, that its user has not, or may that not read it? The kernel's own word.

    That it may be traced, which it can say itself (PR_SET_DUMPABLE of prctl(2)), takes no right from it: then the kernel would
    still ask for its capabilities, which a tracer of root's has."""
    if not _open_to_its_user(pid):
        return True
    try:
        return (AT_SECURE, 0) not in _AUXV.iter_unpack(content(f"/proc/{pid}/auxv"))
    except OSError as error:
        raise TaskGone(pid) from error
