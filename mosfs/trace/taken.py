"""Descriptors that a task has just made for us by an injected call, taken as the kernel has them.

The number that such a call returns is what the program's memory says: code of its own may lie in the stub's place. So a
descriptor is copied by pidfd_getfd(2), which gives the same open file description and thus no right that the program does not
have, and the kernel is asked what it is before anything is done with it. It is never opened anew by its name in /proc.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mosfs.abi.flags import AT_FDCWD, MFD_ALLOW_SEALING, MFD_CLOEXEC
from mosfs.abi.numbers import SYS_CLOSE, SYS_DUP3, SYS_FCHMOD, SYS_MEMFD_CREATE, SYS_OPENAT
from mosfs.native import ffi, lib
from mosfs.trace import layout
from mosfs.trace.inject import Calls
from mosfs.wire.files import write_all

_UCRED = struct.Struct("<iII")
#: What makes a file in memory one to be read only.
_UNCHANGING = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE

#: Is our copy what the task was to make?
Kind = Callable[[int], bool]


def take(pid: int, fd: int, kind: Kind) -> int:
    """Our copy of the descriptor ``fd`` of the task ``pid``. OSError when it cannot be had; EBADF when it is of another kind."""
    copy = lib.mos_take_fd(pid, fd) if 0 <= fd < 1 << 31 else -errno.EBADF
    if copy < 0:
        raise OSError(-copy, os.strerror(-copy))
    try:
        if kind(copy):
            return int(copy)
        raise OSError(errno.EBADF, "the task's descriptor is not what was asked for")
    except BaseException:
        os.close(copy)
        raise


def take_made(call: Calls, fd: int, kind: Kind) -> int:
    """The same of what is in the way of the task: it has closed its own afterwards."""
    try:
        return take(call.task.pid, fd, kind)
    finally:
        call(SYS_CLOSE, fd)


def anything(_fd: int) -> bool:
    """Of any kind: for what a process may do with its own descriptor, whatever that is."""
    return True


def anonymous(name: str) -> Kind:
    """Of an anonymous inode, as /proc names it: ``[userfaultfd]``, ``seccomp notify``."""
    return lambda fd: os.readlink(f"/proc/self/fd/{fd}") == f"anon_inode:{name}"


def fresh_memory(fd: int) -> bool:
    """A new file of memfd_create(2): nothing is in it, and it has no name that others could open."""
    facts = os.fstat(fd)
    nameless = stat.S_ISREG(facts.st_mode) and facts.st_nlink == 0 and facts.st_size == 0 and not facts.st_mode & 0o7000
    # F_GET_SEALS is an error for all but files in memory
    return nameless and fcntl.fcntl(fd, fcntl.F_GET_SEALS) >= 0 and fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR


@contextmanager
def _socket(fd: int) -> Iterator[socket.socket]:
    """OSError when it is none."""
    sock = socket.socket(fileno=fd)
    try:
        yield sock
    finally:
        sock.detach()


def paired_socket(pid: int) -> Kind:
    """An end of a nameless pair of datagram sockets that the process ``pid`` (or a thread of it) has made."""

    def is_one(fd: int) -> bool:
        with _socket(fd) as sock:
            kind = sock.getsockopt(socket.SOL_SOCKET, socket.SO_DOMAIN), sock.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE)
            if kind != (socket.AF_UNIX, socket.SOCK_DGRAM) or sock.getsockname():
                return False
            maker = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))[0]
            return bool(maker == lib.mos_process_of(pid) and not sock.getpeername())

    return is_one


def lone_stream(fd: int) -> bool:
    """A socket of AF_UNIX and SOCK_STREAM that leads nowhere and has no name."""
    with _socket(fd) as sock:
        kind = sock.getsockopt(socket.SOL_SOCKET, socket.SO_DOMAIN), sock.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE)
        if kind != (socket.AF_UNIX, socket.SOCK_STREAM) or sock.getsockname():
            return False
        try:
            sock.getpeername()
        except OSError as error:
            return error.errno == errno.ENOTCONN
        return False


def memory_file(call: Calls, name: str, text: bytes, *, cloexec: bool) -> int:
    """Make a file in memory in the task, for reading; its descriptor there, at the beginning of ``text``, or a negative errno.

    The task opens the file again for reading. Where it may not have a second descriptor for a moment it keeps the first, whose
    file is sealed: write(2) then gives EPERM instead of EBADF."""
    call.task.write(layout.SCRATCH, name.encode() + b"\0")
    result = call(SYS_MEMFD_CREATE, layout.SCRATCH, MFD_ALLOW_SEALING | (MFD_CLOEXEC if cloexec else 0))
    if result < 0:
        return result
    try:
        ours = take(call.task.pid, result, fresh_memory)
        try:
            write_all(ours, text, 0)
            fcntl.fcntl(ours, fcntl.F_ADD_SEALS, _UNCHANGING)
        finally:
            os.close(ours)
    except OSError as error:
        return -(error.errno or errno.EIO)
    call(SYS_FCHMOD, result, 0o444)  # the file is the program's user's: a tracer of root's is not its owner, and has no CAP_FOWNER
    call.task.write(layout.SCRATCH, b"/proc/thread-self/fd/%d\0" % result)
    again = call(SYS_OPENAT, AT_FDCWD, layout.SCRATCH, os.O_RDONLY | os.O_CLOEXEC)
    if again >= 0:
        call(SYS_DUP3, again, result, os.O_CLOEXEC if cloexec else 0)
        call(SYS_CLOSE, again)
    return result


def write_once(fd: int, data: bytes | bytearray) -> int:
    """How many bytes are taken at once. OSError; InterruptedError where that would have to be waited for.

    poll(2) tells little of what somebody else has made: an eventfd(2) that it calls writable may wait for a reader, and the room of
    a pipe or socket may be gone by now. In a process with a tick (`mos_patience`) such a wait ends with that, within a second.
    A socket tells that it was written to by who our effective IDs are, not by the real ones, as it would by itself (unix(7))."""
    if stat.S_ISSOCK(os.fstat(fd).st_mode):
        with socket.socket(fileno=os.dup(fd)) as sock:
            who = _UCRED.pack(os.getpid(), os.geteuid(), os.getegid())
            beside = [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, who)] if sock.family == socket.AF_UNIX else []
            return sock.sendmsg([data], beside, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
    done = int(lib.mos_write_once(fd, ffi.from_buffer(data), len(data)))
    if done < 0:
        raise OSError(-done, os.strerror(-done))
    return done
