"""Descriptors of a traced process, read off /proc, and descriptors of ours handed over to it."""

from __future__ import annotations

import errno
import os
import re
import resource
import socket
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from mosfs.abi.flags import (
    AF_UNIX,
    MSG_CMSG_CLOEXEC,
    MSG_DONTWAIT,
    PR_SET_NO_NEW_PRIVS,
    SECCOMP_FILTER_FLAG_SPEC_ALLOW,
    SECCOMP_SET_MODE_FILTER,
    SOCK_DGRAM,
)
from mosfs.abi.numbers import SYS_CLOSE, SYS_DUP3, SYS_PRCTL, SYS_PRLIMIT64, SYS_RECVMSG, SYS_SECCOMP, SYS_SOCKETPAIR
from mosfs.migrate.opened import description_of
from mosfs.native import lib
from mosfs.ptf import travel
from mosfs.ptf.store import Inode, Store
from mosfs.ptf.travel import OpenRecord
from mosfs.trace import layout
from mosfs.trace.inject import Calls
from mosfs.trace.proc import descriptor_facts
from mosfs.trace.taken import paired_socket, take
from mosfs.trace.task import Task, TaskGone

#: Descriptors that are needed for a moment, and what is no limit.
SPARE, MAX_LIMIT = 4, (1 << 64) - 1

#: The counters of a Java machine, for jps(1) and jstat(1).
_DISPENSABLE = re.compile(rb"/tmp/hsperfdata_[^/]+/([0-9]+)")


def install_filter(call: Calls, program: bytes) -> None:
    """One more filter for the process. OSError if the kernel does not take it."""
    at = layout.SCRATCH + 64
    call.task.write(layout.SCRATCH, struct.pack("<HxxxxxxQ", len(program) // 8, at) + bytes(48) + program)
    result = call(SYS_SECCOMP, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, layout.SCRATCH)
    if result == -errno.EACCES:  # it has given up the privilege that the first filter was installed with
        call(SYS_PRCTL, PR_SET_NO_NEW_PRIVS, 1)
        result = call(SYS_SECCOMP, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, layout.SCRATCH)
    if result < 0:
        raise OSError(-result, os.strerror(-result))


def access_of(pid: int, fd: int) -> int:
    """How a descriptor of a process is opened: O_RDONLY, O_WRONLY or O_RDWR; -EBADF if no file can be reached by it."""
    try:
        flags = int(descriptor_facts(pid, fd)[b"flags"], 8)
    except (OSError, KeyError):
        return -errno.EBADF
    return -errno.EBADF if flags & os.O_PATH else flags & os.O_ACCMODE


def is_regular(pid: int, fd: int) -> bool:
    """Is a descriptor of a process one of a regular file?"""
    try:
        return stat.S_ISREG(os.stat(f"/proc/{pid}/fd/{fd}").st_mode)
    except OSError:
        return False


def name_of(pid: int, fd: int) -> str:
    """What a descriptor of a process is open to, as a path, if it still has one; "" if nobody can tell."""
    try:
        return os.readlink(f"/proc/{pid}/fd/{fd}")
    except OSError:
        return ""


def is_dispensable(pid: int, fd: int, process: int) -> bool:
    """Is it one of the file in which the program ``process`` shows others how it does, and does without where that cannot be
    mapped? ``pid``: which of its threads has the descriptor."""
    try:
        found = _DISPENSABLE.fullmatch(os.readlink(f"/proc/{pid}/fd/{fd}".encode()))
    except OSError:
        return False
    return found is not None and int(found[1]) == process


def is_stored(pid: int, fd: int) -> bool:
    """Is it one of a regular file that is not made up by /proc?"""
    try:
        facts = os.stat(f"/proc/{pid}/fd/{fd}")
        return stat.S_ISREG(facts.st_mode) and facts.st_dev != os.stat("/proc").st_dev
    except OSError:
        return False


def descriptors_of(pid: int, inodes: dict[Inode, int]) -> dict[int, Inode]:
    """Which descriptors of a process are of these files."""
    found: dict[int, Inode] = {}
    if not inodes:
        return found
    folder = f"/proc/{pid}/fd"
    try:
        names = os.listdir(folder)
    except OSError as error:
        raise TaskGone(pid) from error
    for name in names:
        try:
            facts = os.stat(f"{folder}/{name}")
        except OSError:
            continue
        inode = (facts.st_dev, facts.st_ino)
        if inode in inodes:
            found[int(name)] = inode
    return found


def opened_of(pid: int, inodes: dict[Inode, int]) -> list[OpenRecord]:
    """The open files of a process: descriptors that share one count once."""
    groups: list[OpenRecord] = []
    for fd, inode in sorted(descriptors_of(pid, inodes).items()):
        number = inodes[inode]
        for group in groups:
            if group.number == number and lib.mos_same_file(pid, group.fds[0], fd) == 1:
                group.fds.append(fd)
                break
        else:
            position, flags = description_of(pid, fd)
            groups.append(OpenRecord(number, flags & ~os.O_CLOEXEC, position, [fd]))
    return groups


def vector_size(task: Task, args: tuple[int, ...]) -> int:
    """Bytes of an iovec array."""
    count = args[2]
    if not 0 < count <= 1024:
        return 0
    try:
        return sum(task.read_words(args[1], 2 * count)[1::2])
    except OSError:
        return 0


def hand_over(call: Calls, ours: int, *, cloexec: bool, brief: bool = False) -> int:
    """Give the process our open file description: its lowest free descriptor, as open(2) returns it. OSError: EMFILE, ...
    ``brief``: it is closed again before the process goes on, which may have as many as it may.

    By a message to itself: it makes a pair of sockets, we put the descriptor into one of them.
    """
    with _spare(call) as limit:
        return _hand_over(call, ours, MAX_LIMIT if brief else limit, cloexec=cloexec)


@contextmanager
def _spare(call: Calls) -> Iterator[int]:
    """Room for a few more descriptors than the process may have, if it may have them; its own limit.

    It sets the limit itself: for another user's process prlimit(2) needs CAP_SYS_RESOURCE.
    """
    at = layout.SCRATCH
    call.must(SYS_PRLIMIT64, 0, resource.RLIMIT_NOFILE, 0, at)
    soft, hard = struct.unpack("<2Q", call.task.read(at, 16))
    more = min(soft + SPARE, MAX_LIMIT)
    call.task.write(at, struct.pack("<2Q", more, max(hard, more)))
    raised = call(SYS_PRLIMIT64, 0, resource.RLIMIT_NOFILE, at, 0) == 0
    try:
        yield soft
    finally:
        if raised:
            call.task.write(at, struct.pack("<2Q", soft, hard))
            call(SYS_PRLIMIT64, 0, resource.RLIMIT_NOFILE, at, 0)


def _hand_over(call: Calls, ours: int, limit: int, *, cloexec: bool) -> int:
    task = call.task
    at = layout.SCRATCH
    lowest: int
    other: int
    call.must(SYS_SOCKETPAIR, AF_UNIX, SOCK_DGRAM | os.O_CLOEXEC, 0, at)
    lowest, other = struct.unpack("<2i", task.read(at, 8))
    got = -1
    try:
        if limit <= lowest:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        with socket.socket(fileno=take(task.pid, other, paired_socket(task.pid))) as sock:
            socket.send_fds(sock, [b"."], [ours], socket.MSG_DONTWAIT)
        message = struct.pack("<QIxxxxQQQQixxxx", 0, 0, at + 64, 1, at + 96, 24, 0)
        task.write(at, message + bytes(8) + struct.pack("<QQ", at + 80, 1) + bytes(64))
        call.must(SYS_RECVMSG, lowest, at, MSG_DONTWAIT | MSG_CMSG_CLOEXEC)
        length, _level, _kind, got = struct.unpack("<Qiii", task.read(at + 96, 20))
        if length < 20:
            got = -1
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        call.must(SYS_DUP3, got, lowest, os.O_CLOEXEC if cloexec else 0)
        return lowest
    except OSError:
        call(SYS_CLOSE, lowest)
        raise
    finally:
        call(SYS_CLOSE, other)
        if got >= 0:
            call(SYS_CLOSE, got)


def put(call: Calls, store: Store, entry: OpenRecord) -> None:
    """Make ``entry.fds`` of the process descriptors of this open file."""
    ours = travel.described(store, entry)
    try:
        put_ours(call, ours, entry.fds)
    finally:
        os.close(ours)


def put_ours(call: Calls, ours: int, fds: list[int]) -> None:
    """Make ``fds`` of the process descriptors of our open file. OSError."""
    keep = {fd: description_of(call.task.pid, fd)[1] & os.O_CLOEXEC for fd in fds}
    with _spare(call):
        fresh = _hand_over(call, ours, MAX_LIMIT, cloexec=True)
        for fd in fds:
            call.must(SYS_DUP3, fresh, fd, keep[fd])
        call(SYS_CLOSE, fresh)
