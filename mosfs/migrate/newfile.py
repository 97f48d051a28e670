"""A file that a stopped process makes for us, with its own rights, in its own folder: whole, or not at all.

It is made under a name that begins with a dot and with no permissions, and gets its own name in one step when it is whole. Until
then what has that name is left alone, and we write to nothing that the process could not write to. A `NewFolder` is made in the
same way, with the file in it (`migrate.increments`); either takes the place of either.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from itertools import islice

from mosfs.abi.flags import AT_FDCWD, RENAME_EXCHANGE
from mosfs.abi.numbers import SYS_CLOSE, SYS_FCHMOD, SYS_MKDIRAT, SYS_OPENAT, SYS_RENAMEAT2, SYS_UNLINKAT
from mosfs.trace import layout
from mosfs.trace.inject import Calls
from mosfs.trace.proc import descriptor_facts
from mosfs.trace.taken import take
from mosfs.trace.task import TaskGone

#: The file in a `NewFolder`.
IMAGE = b"image"
#: Those of a process (`trace.caller.rights_of`).
Rights = Callable[[], AbstractContextManager[None]]
#: Names in a folder that are looked at when it is removed.
_MOST_NAMES = 10_000
#: What is in the way of a rename(2) to a name: a folder, a file, or a folder that is not empty.
_IN_THE_WAY = frozenset({errno.EISDIR, errno.ENOTDIR, errno.ENOTEMPTY, errno.EEXIST})
#: What proc_pid_mountinfo(5) calls our own file system.
OURS = b"fuse.mosfs"


class CannotWrite(Exception):
    """There is no place for the file where its name leads; the text says why."""


class NewFile:
    """``path``: as the process would open it. ``theirs``, ``ours``: descriptors of the file, open for writing. Without `whole`
    nothing is left."""

    def __init__(self, call: Calls, path: str, number: int, rights: Rights) -> None:
        """``number``: tells the file from those that others make at the same time, under the same name; ``rights``: the process's.
        CannotWrite, OSError."""
        self._call, self._rights = call, rights
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
            self._remove()  # what a tracer that was killed has left
            self._at(self._new())
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
            self.theirs = call.must(SYS_OPENAT, self._folder, layout.SCRATCH, flags, 0)
            self.ours = take(call.task.pid, self.theirs, _is_new)
        except TaskGone:
            raise
        except BaseException:
            self.drop(call)
            raise

    def _new(self) -> bytes:
        """What to open, in the folder."""
        return self._partial

    def publish(self, call: Calls) -> None:
        """The file takes its name; what had it is replaced. OSError: nothing is left of it then."""
        self._call = call
        try:
            call.must(SYS_FCHMOD, self.theirs, 0o400)
            if (result := self._rename(self._partial, self._name)) and -result not in _IN_THE_WAY:
                raise OSError(-result, os.strerror(-result))
            if result:
                self._change_places()
        except OSError:
            self.drop(call)
            raise
        self._close(call)

    def _rename(self, name: bytes, to: bytes, flags: int = 0) -> int:
        at = layout.SCRATCH + layout.PAGE // 2
        self._at(name)
        self._call.task.write(at, to + b"\0")
        return self._call(SYS_RENAMEAT2, self._folder, layout.SCRATCH, self._folder, at, flags)

    def _change_places(self) -> None:
        """With a checkpoint of the other form, or a folder of the same: it is removed afterwards. OSError: it is something else."""
        if not is_file(self._place, self._name, self._rights):
            only_a_checkpoint(self._place, self._name, self._rights)
        if self._rename(self._partial, self._name, RENAME_EXCHANGE):  # a file system that cannot
            aside = self._partial + b".old"
            remove(self._place, aside, self._rights)
            if (result := self._rename(self._name, aside)) or (result := self._rename(self._partial, self._name)):
                self._rename(aside, self._name)
                raise OSError(-result, os.strerror(-result))
            remove(self._place, aside, self._rights)
        self._remove()

    def drop(self, call: Calls) -> None:
        """Remove what there is of it."""
        self._call = call
        if self._begun:
            self._remove()
        self._close(call)

    @property
    def _begun(self) -> bool:
        """Is what has our name ours?"""
        return self.theirs >= 0

    def _remove(self) -> None:
        """What has the name of what is not whole."""
        self._at(self._partial)
        if self._call(SYS_UNLINKAT, self._folder, layout.SCRATCH, 0) == -errno.EISDIR:
            remove(self._place, self._partial, self._rights)

    def abandon(self) -> None:
        """The process has ended: remove what there is of it, with the rights that it had."""
        with suppress(OSError):
            status = os.fstat(self.ours)
            with self._rights():
                mine = os.path.samestat(os.stat(self._new(), dir_fd=self._place, follow_symlinks=False), status)
            if mine:
                remove(self._place, self._partial, self._rights)
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


class NewFolder(NewFile):
    """A folder with the file ``image`` in it. ``inside``: our descriptor of it."""

    def __init__(self, call: Calls, path: str, number: int, rights: Rights) -> None:
        self.inside = -1
        super().__init__(call, path, number, rights)

    def _new(self) -> bytes:
        if self.inside < 0:
            self._at(self._partial)
            self._call.must(SYS_MKDIRAT, self._folder, layout.SCRATCH, 0o700)
            with self._rights():
                self.inside = _folder_at(self._place, self._partial)
        return self._partial + b"/" + IMAGE

    @property
    def _begun(self) -> bool:
        return self.inside >= 0

    def _forget(self) -> None:
        super()._forget()
        if self.inside >= 0:
            os.close(self.inside)
        self.inside = -1


def is_file(place: int, name: bytes, rights: Rights) -> bool:
    """No folder, that is. OSError."""
    with rights():
        return not stat.S_ISDIR(os.stat(name, dir_fd=place, follow_symlinks=False).st_mode)


def only_a_checkpoint(place: int, name: bytes, rights: Rights) -> None:
    """OSError if a folder is none, or has other files in it: they would be out of sight in what is removed."""
    with rights():
        fd = _folder_at(place, name)
        try:
            os.close(os.open(IMAGE, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=fd))
            with os.scandir(fd) as entries:
                if not all(map(_of_a_checkpoint, islice(entries, _MOST_NAMES))):
                    raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY))
        finally:
            os.close(fd)


def _folder_at(place: int, name: bytes) -> int:
    return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place)


def _of_a_checkpoint(entry: os.DirEntry[str]) -> bool:
    return (entry.name.isdecimal() or entry.name == IMAGE.decode()) and not entry.is_dir(follow_symlinks=False)


def remove(place: int, name: bytes, rights: Rights) -> None:
    """Remove a checkpoint, be it a file or a folder, with these rights; what else may be in the folder stays, and it too then."""
    with suppress(OSError), rights():
        try:
            os.unlink(name, dir_fd=place)
            return
        except IsADirectoryError:
            fd = _folder_at(place, name)
        try:
            with os.scandir(fd) as entries:
                for entry in [*islice(entries, _MOST_NAMES)]:
                    if _of_a_checkpoint(entry):
                        os.unlink(entry.name, dir_fd=fd)
        finally:
            os.close(fd)
        os.rmdir(name, dir_fd=place)


def filesystem(pid: int, fd: int) -> bytes:
    """The type of the file system that a descriptor of a process is in (proc_pid_mountinfo(5)); b"" if that is not told."""
    with suppress(OSError, KeyError, ValueError, StopIteration, IndexError):
        mount = descriptor_facts(pid, fd)[b"mnt_id"]
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
