"""A file that a stopped process makes for us, with its own rights, in its own folder: whole, or not at all.

It is made under a name that begins with a dot and with no permissions, and gets its own name in one step when it is whole. Until
then what has that name is left alone, and we write to nothing that the process could not write to.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress

from mosfs.abi.flags import AT_FDCWD
from mosfs.abi.numbers import SYS_CLOSE, SYS_FCHMOD, SYS_OPENAT, SYS_RENAMEAT, SYS_UNLINKAT
from mosfs.trace import layout
from mosfs.trace.inject import Calls
from mosfs.trace.taken import take
from mosfs.trace.task import TaskGone

#: Those of a process (`trace.caller.rights_of`).
Rights = Callable[[], AbstractContextManager[None]]
#: What proc_pid_mountinfo(5) calls our own file system.
OURS = b"fuse.mosfs"


class CannotWrite(Exception):
    """There is no place for the file where its name leads; the text says why."""


class NewFile:
    """``path``: as the process would open it. ``theirs``, ``ours``: descriptors of the file, open for writing. Without `whole`
    nothing is left."""

    def __init__(self, call: Calls, path: str, number: int) -> None:
        """``number``: tells the file from those that others make at the same time, under the same name. CannotWrite, OSError."""
        self._call = call
        folder, slash, name = os.fsencode(path).rpartition(b"/")
        self._name, self._partial = name, b".%s.%d" % (name, number)
        self._at(folder + slash or b".")
        flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
        self._folder = call.must(SYS_OPENAT, AT_FDCWD, layout.SCRATCH, flags)
        self.theirs = self.ours = self._place = -1
        try:
            self._place = take(call.task.pid, self._folder, _is_folder)
            if filesystem(call.task.pid, self._folder) == OURS:  # who serves it may be waiting for us
                raise CannotWrite("the folder is in the tree of MOSIX itself")
            self._at(self._partial)
            call(SYS_UNLINKAT, self._folder, layout.SCRATCH, 0)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
            self.theirs = call.must(SYS_OPENAT, self._folder, layout.SCRATCH, flags, 0)
            self.ours = take(call.task.pid, self.theirs, _is_new)
        except TaskGone:
            raise
        except BaseException:
            self.drop(call)
            raise

    def whole(self, call: Calls) -> None:
        """The file takes its name; what had it is replaced. OSError: nothing is left of it then."""
        try:
            call.must(SYS_FCHMOD, self.theirs, 0o400)
            at = layout.SCRATCH + layout.PAGE // 2
            self._at(self._partial)
            call.task.write(at, self._name + b"\0")
            call.must(SYS_RENAMEAT, self._folder, layout.SCRATCH, self._folder, at)
        except OSError:
            self.drop(call)
            raise
        self._close(call)

    def drop(self, call: Calls) -> None:
        """Remove what there is of it."""
        self._call = call
        if self.theirs >= 0:
            self._at(self._partial)
            call(SYS_UNLINKAT, self._folder, layout.SCRATCH, 0)
        self._close(call)

    def abandon(self, rights: Rights) -> None:
        """The process has ended: remove what there is of it, with the rights that it had."""
        with suppress(OSError):
            name, status = self._partial, os.fstat(self.ours)
            with rights():
                if os.path.samestat(os.stat(name, dir_fd=self._place, follow_symlinks=False), status):
                    os.unlink(name, dir_fd=self._place)
        self._forget()

    def _forget(self) -> None:
        for fd in (self.ours, self._place):
            if fd >= 0:
                os.close(fd)
        self.ours = self._place = -1

    def _close(self, call: Calls) -> None:
        self._forget()
        for fd in (self.theirs, self._folder):
            if fd >= 0:
                call(SYS_CLOSE, fd)
        self.theirs = self._folder = -1

    def _at(self, name: bytes) -> None:
        self._call.task.write(layout.SCRATCH, name + b"\0")


def filesystem(pid: int, fd: int) -> bytes:
    """The type of the file system that a descriptor of a process is in (proc_pid_mountinfo(5)); b"" if that is not told."""
    with suppress(OSError, ValueError, StopIteration, IndexError):
        with open(f"/proc/{pid}/fdinfo/{fd}", "rb") as facts:
            mount = next(line.split()[1] for line in facts if line.startswith(b"mnt_id:"))
        with open(f"/proc/{pid}/mountinfo", "rb") as mounts:
            line = next(line for line in mounts if line.split(None, 1)[0] == mount)
        return line.partition(b" - ")[2].split()[0]
    return b""


def _is_folder(fd: int) -> bool:
    return stat.S_ISDIR(os.fstat(fd).st_mode)


def _is_new(fd: int) -> bool:
    """An empty file with one name, that we may write."""
    facts = os.fstat(fd)
    mode = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
    return stat.S_ISREG(facts.st_mode) and facts.st_nlink == 1 and facts.st_size == 0 and mode == os.O_WRONLY
