"""The open files of a process, as a checkpoint keeps them: read off /proc, and made again in another process.

What is kept are regular files and directories, by name; unlinked files, with their contents; and that a special file was open
(mosrun(1), CHECKPOINTS). Locks, and what waits in a terminal, are not.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import resource
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

from msgspec.structs import replace

from mosfs.abi.commands import F_DUPFD_CLOEXEC
from mosfs.abi.flags import AT_FDCWD, RLIMIT_NOFILE
from mosfs.abi.numbers import SYS_CLOSE, SYS_DUP3, SYS_FCHMOD, SYS_FCNTL, SYS_FSTAT, SYS_LSEEK, SYS_MEMFD_CREATE, SYS_OPENAT
from mosfs.abi.texts import Text, text
from mosfs.migrate.capture import all_limits
from mosfs.migrate.checkpoint import MAX_FILES, CannotSave, OpenFile, as_path, as_text
from mosfs.migrate.image import MAX_SIZE, BadImage
from mosfs.migrate.rebuild import set_limit
from mosfs.native import lib
from mosfs.trace import layout
from mosfs.trace.inject import Calls
from mosfs.trace.proc import descriptor_facts
from mosfs.trace.taken import take
from mosfs.trace.task import TaskGone
from mosfs.wire.files import write_all

#: Where struct stat has its st_mode.
_ST_MODE = 24
MEMFD = b"/memfd:"
#: Bytes of an unlinked file that are kept at most: all of it is read, and its holes too.
MAX_CONTENT = 8 << 30
DELETED = b" (deleted)"
#: What an open file keeps of the flags of open(2).
_KEPT = (
    os.O_ACCMODE | os.O_APPEND | os.O_NONBLOCK | os.O_DSYNC | os.O_SYNC | os.O_DIRECT | os.O_NOATIME | os.O_DIRECTORY | os.O_PATH
)
#: Special files that everybody has, so that they are opened by name rather than replaced.
EVERYWHERE = frozenset({b"/dev/null", b"/dev/zero", b"/dev/full", b"/dev/random", b"/dev/urandom"})
NULL = b"/dev/null"
#: What may have the name now; and what the user may name instead.
_KIND_OF = {"file": frozenset({stat.S_IFREG}), "directory": frozenset({stat.S_IFDIR}), "special": frozenset({stat.S_IFCHR})}
_GIVEN = frozenset({stat.S_IFREG, stat.S_IFCHR})
_KINDS_NOW = {
    stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFBLK: "a block device", stat.S_IFCHR: "a device",
    stat.S_IFREG: "a regular file", stat.S_IFDIR: "a directory",
}  # fmt: skip
_KINDS = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFBLK: "a block device", 0: "a descriptor of the kernel's"}


class CannotRestore(Exception):
    """The text is for the user."""


def description_of(pid: int, fd: int) -> tuple[int, int]:
    """(position, flags) of an open file; O_CLOEXEC among the flags is the descriptor's."""
    try:
        facts = descriptor_facts(pid, fd)
    except OSError as error:
        raise TaskGone(pid) from error
    return int(facts[b"pos"]), int(facts[b"flags"], 8)


def descriptors(pid: int) -> list[int]:
    """The open descriptors of a process, in order."""
    try:
        return sorted(int(name) for name in os.listdir(f"/proc/{pid}/fd"))
    except OSError as error:
        raise TaskGone(pid) from error


def opened(pid: int) -> list[OpenFile]:
    """All open files of a stopped process. CannotSave."""
    found: list[OpenFile] = []
    named: dict[bytes, list[int]] = {}  # path -> places in ``found``
    fds = descriptors(pid)
    if len(fds) > MAX_FILES:
        raise CannotSave(os.strerror(errno.EMFILE))
    for fd in fds:
        name = f"/proc/{pid}/fd/{fd}".encode()
        try:
            facts, path = os.stat(name), os.readlink(name)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ESRCH):
                raise TaskGone(pid) from error
            raise CannotSave(f"file-descriptor {fd}: {os.strerror(error.errno or errno.EIO)}") from error
        position, flags = description_of(pid, fd)
        for at in named.setdefault(path, []):
            if lib.mos_same_file(pid, found[at].fds[0], fd) == 1:
                found[at] = _shared(found[at], fd, closed=bool(flags & os.O_CLOEXEC))
                break
        else:
            named[path].append(len(found))
            found.append(_one(pid, fd, facts, path, position, flags))
    return found


def _shared(file: OpenFile, fd: int, *, closed: bool) -> OpenFile:
    return replace(file, fds=[*file.fds, fd], closed=[*file.closed, *([fd] if closed else [])])


def _one(pid: int, fd: int, facts: os.stat_result, path: bytes, position: int, flags: int) -> OpenFile:
    kind = stat.S_IFMT(facts.st_mode)
    if kind == stat.S_IFREG and facts.st_nlink and not _leads_to(path, facts):
        raise CannotSave(f"file-descriptor {fd} is a file that its name does not lead to")
    if kind in _KINDS or len(path) > 4096:
        raise CannotSave(f"file-descriptor {fd} is {_KINDS.get(kind, 'a file with a long name')}")
    if kind == stat.S_IFDIR:
        what = "directory"
    elif kind == stat.S_IFCHR:
        what = "special"
    else:
        what = "file" if facts.st_nlink else "unlinked"
    if what == "unlinked" and facts.st_size > MAX_CONTENT:
        raise CannotSave(f"file-descriptor {fd} is an unlinked file of {facts.st_size} bytes")
    path = re.sub(rb"^/proc/%d/(task/%d/)?" % (pid, pid), b"/proc/self/", path)
    return OpenFile(
        [fd], what, as_text(path), flags & _KEPT, 0 if what == "special" else position, facts.st_mode,  # type: ignore[arg-type]
        facts.st_size if what == "unlinked" else 0, [fd] if flags & os.O_CLOEXEC else [],
    )  # fmt: skip


def _leads_to(path: bytes, facts: os.stat_result) -> bool:
    """Whether the file can be opened by its name again. A file in /proc changes with the process."""
    try:
        return path.startswith(b"/proc/") or os.path.samestat(os.stat(path), facts)
    except OSError:
        return False


def has_contents(file: OpenFile) -> bool:
    """Whether the file's contents are kept: nobody else can have them (mosrun(1): but for one that is only written)."""
    return file.what == "unlinked" and file.flags & os.O_ACCMODE != os.O_WRONLY and not file.flags & os.O_PATH


def readable(fd: int) -> bool:
    """A file without a name that the descriptor itself may read: what is read of it is what its process could read."""
    facts, flags = os.fstat(fd), fcntl.fcntl(fd, fcntl.F_GETFL)
    return (
        stat.S_ISREG(facts.st_mode) and facts.st_nlink == 0 and flags & os.O_ACCMODE != os.O_WRONLY and not flags & os.O_PATH
    )


# --------------------------------------------------------------------------- made again


class Restorer:
    """Makes the open files of a checkpoint in the stopped process of ``call``.

    ``instead``: names that the user wants for some descriptors (mosrun -O); ``rights``: with whose contents are written.
    CannotRestore, with the text for the user.
    """

    def __init__(
        self, call: Calls, files: Sequence[OpenFile], instead: Mapping[int, bytes],
        rights: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        known = {fd for file in files for fd in file.fds}
        for fd in instead:
            if fd not in known:
                raise CannotRestore(text(Text.NOT_OPEN, number=fd))
        self._call = call
        self._rights = rights
        self._files = files
        self._instead = instead
        self._standing = set(descriptors(call.task.pid))
        self._taken = known | self._standing  # numbers that nothing may be put aside to
        self._above = max(self._taken, default=0) + 1
        self._fresh: list[tuple[int, OpenFile, list[int]]] = []
        self._kept: set[int] = set()
        self.contents: dict[int, int] = {}  # number of a file -> our descriptor of it, while its contents come

    def replaced(self, number: int) -> bool:
        """Whether the user wants other files in all places of this one."""
        return number < len(self._files) and all(fd in self._instead for fd in self._files[number].fds)

    def open(self) -> None:
        """Open everything, out of the way of what shall be where."""
        with self._many():
            for number, file in enumerate(self._files):
                for name, fds in self._parts(file):
                    if name is None and file.what == "special":
                        self._special(file, fds)
                    elif name is None and file.what == "unlinked":
                        self._aside(self._unlinked(number, file), file, fds)
                    else:
                        path = as_path(file.path) if name is None else name
                        self._aside(self._open(file, path, fds[0], create=name is not None), file, fds)

    def put(self) -> None:
        """Everything where it was, and nothing else. The contents have come."""
        call = self._call
        self.close()
        with self._many():
            for fd in self._standing - self._kept:
                call(SYS_CLOSE, fd)
            for fresh, file, fds in self._fresh:
                for fd in fds:
                    call.must(SYS_DUP3, fresh, fd, os.O_CLOEXEC if fd in file.closed else 0)
            for fresh, _, _ in self._fresh:
                call(SYS_CLOSE, fresh)

    def close(self) -> None:
        while self.contents:
            os.close(self.contents.popitem()[1])

    def _parts(self, file: OpenFile) -> list[tuple[bytes | None, list[int]]]:
        """The descriptors of one open file, by the name that the user wants; None for its own."""
        parts: dict[bytes | None, list[int]] = {}
        for fd in file.fds:
            parts.setdefault(self._instead.get(fd), []).append(fd)
        return list(parts.items())

    def _special(self, file: OpenFile, fds: list[int]) -> None:
        """What mosrun was called with is used as it is; else there is nothing (mosrun(1))."""
        self._kept |= self._standing & set(fds)
        missing = [fd for fd in fds if fd not in self._standing]
        if missing:
            path = as_path(file.path)
            self._aside(self._open(file, path if path in EVERYWHERE else NULL, missing[0], create=False), file, missing)

    def _open(self, file: OpenFile, path: bytes, fd: int, *, create: bool) -> int:
        """Open what has the name now, if it is of the kind that it was: to open a FIFO or a device may wait, or change it."""
        call = self._call
        flags = file.flags & (_KEPT & ~os.O_DIRECTORY if create else _KEPT) | os.O_NOCTTY
        call.task.write(layout.SCRATCH, path + b"\0")
        known = call(SYS_OPENAT, AT_FDCWD, layout.SCRATCH, os.O_PATH | os.O_CLOEXEC)
        if create and known == -errno.ENOENT:
            made = call(SYS_OPENAT, AT_FDCWD, layout.SCRATCH, flags | os.O_CREAT | os.O_EXCL, 0o666)
        else:
            self._check(known, fd, path)
            made = self._again(known, flags, _GIVEN if create else _KIND_OF[file.what], fd, path)
        self._check(made, fd, path)
        if file.what != "special" and not file.flags & os.O_PATH:
            call(SYS_LSEEK, made, file.offset, os.SEEK_SET)
        return made

    def _again(self, known: int, flags: int, kinds: frozenset[int], fd: int, path: bytes) -> int:
        """Open the file of an O_PATH descriptor, which is closed, if it is of one of these kinds; a negative errno."""
        call = self._call
        try:
            call.must(SYS_FSTAT, known, layout.SCRATCH)
            kind = stat.S_IFMT(int.from_bytes(call.task.read(layout.SCRATCH + _ST_MODE, 4), "little"))
            if kind not in kinds:
                raise self._failed(fd, path, f"it is {_KINDS_NOW.get(kind, 'of another kind')} now")
            call.task.write(layout.SCRATCH, b"/proc/self/fd/%d\0" % known)
            return call(SYS_OPENAT, AT_FDCWD, layout.SCRATCH, flags)
        except OSError as error:
            raise self._failed(fd, path, os.strerror(error.errno or errno.EIO)) from error
        finally:
            call(SYS_CLOSE, known)

    def _unlinked(self, number: int, file: OpenFile) -> int:
        """A nameless file again, in the same folder if that is there; memory where it was memory, or there is no such folder."""
        call, path = self._call, as_path(file.path)
        made = -errno.ENOENT
        if not path.startswith(MEMFD):
            call.task.write(layout.SCRATCH, (os.path.dirname(path) or b"/") + b"\0")
            made = call(SYS_OPENAT, AT_FDCWD, layout.SCRATCH, os.O_TMPFILE | os.O_RDWR, 0o600)
        if made < 0:
            name = path.removeprefix(MEMFD).removesuffix(DELETED) if path.startswith(MEMFD) else os.path.basename(path)
            call.task.write(layout.SCRATCH, name[:249] + b"\0")
            made = call(SYS_MEMFD_CREATE, layout.SCRATCH, 0)
        self._check(made, file.fds[0], path)
        try:
            ours = self.contents[number] = take(call.task.pid, made, _nameless)
            if file.size > self._most():
                raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
            with self._rights():
                os.ftruncate(ours, file.size)
        except OSError as error:
            raise self._failed(file.fds[0], path, os.strerror(error.errno or errno.EIO)) from error
        call.task.write(layout.SCRATCH, b"/proc/self/fd/%d\0" % made)
        again = call(SYS_OPENAT, AT_FDCWD, layout.SCRATCH, file.flags & _KEPT & ~os.O_DIRECTORY)
        call(SYS_FCHMOD, made, stat.S_IMODE(file.mode))  # last: its own mode may keep it from being opened
        call(SYS_CLOSE, made)
        self._check(again, file.fds[0], path)
        call(SYS_LSEEK, again, file.offset, os.SEEK_SET)
        return again

    def fill(self, number: int, at: int, data: bytes | memoryview) -> None:
        """Contents of the nameless file ``number`` of the head. OSError; BadImage if they are beyond its end."""
        if at + len(data) > self._files[number].size:
            raise BadImage("contents beyond the end of a file")
        with self._rights():
            write_all(self.contents[number], data, at)

    def _most(self) -> int:
        """Bytes that a file of the process may ever have: we write for it, and are not held by its limit."""
        hard = all_limits(self._call.task.pid)[resource.RLIMIT_FSIZE][1]
        return hard if hard >= 0 else MAX_SIZE

    def _aside(self, made: int, file: OpenFile, fds: list[int]) -> None:
        moved = self._call(SYS_FCNTL, made, F_DUPFD_CLOEXEC, self._above)
        if moved in (-errno.EINVAL, -errno.EMFILE):  # there is no room above: somewhere between what is taken
            free = next((fd for fd in range(self._above) if fd not in self._taken), self._above)
            moved = self._call(SYS_FCNTL, made, F_DUPFD_CLOEXEC, free) if made in self._taken else made
            self._taken.add(moved)
        if moved != made:
            self._call(SYS_CLOSE, made)
        self._check(moved, fds[0], as_path(file.path))
        self._fresh.append((moved, file, fds))

    def _check(self, result: int, fd: int, path: bytes) -> None:
        if result < 0:
            raise self._failed(fd, path, os.strerror(-result))

    @staticmethod
    def _failed(fd: int, path: bytes, reason: str) -> CannotRestore:
        name = path.decode("utf-8", "backslashreplace")
        return CannotRestore(text(Text.NO_DESCRIPTOR, number=fd, filename=name, reason=reason))

    @contextmanager
    def _many(self) -> Iterator[None]:
        """Let the process have as many descriptors as it ever may, for a moment."""
        soft, hard = all_limits(self._call.task.pid)[RLIMIT_NOFILE]
        set_limit(self._call, RLIMIT_NOFILE, (hard, hard))
        try:
            yield
        finally:
            set_limit(self._call, RLIMIT_NOFILE, (soft, hard))


def _nameless(fd: int) -> bool:
    """A file that nobody else can have opened: it has no name, and nothing in it."""
    facts = os.fstat(fd)
    return stat.S_ISREG(facts.st_mode) and facts.st_nlink == 0 and facts.st_size == 0
