"""``open("/proc/self/{special}", ...)``: the manual's open-as-a-call interface (mosix(7), INTERFACE FOR PROGRAMS).

Pure: says what an open of a path means; `home.asks.controls` carries it out.
"""

from __future__ import annotations

import errno
import posixpath
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass

from mosfs.abi.args import as_c_int
from mosfs.abi.flags import AT_FDCWD, O_ACCMODE, O_CREAT, O_RDWR, O_TRUNC, O_WRONLY
from mosfs.abi.numbers import SYS_CREAT, SYS_OPEN, SYS_OPENAT, SYS_OPENAT2
from mosfs.procfs.table import BY_NAME, ControlFile, Kind

#: Argument of each open that is its path.
PATH_ARG = {SYS_OPEN: 0, SYS_CREAT: 0, SYS_OPENAT: 1, SYS_OPENAT2: 1}
#: struct open_how: flags, mode, resolve (openat2(2)).
OPEN_HOW = struct.Struct("<3Q")

_SPECIAL = re.compile(rb"/proc/(self|thread-self|\d+)/([a-z_]+)\Z")
_TREE = b"/proc/mosix"
_RECEIVER = re.compile(_TREE + rb"/mbox/([0-9.]{1,15})/(\d{1,10})\Z")
_REPEATED = re.compile(rb"/(?:\.?/)+")
#: A relative path that may be ours, if its directory is: anything else is not worth asking for the directory.
_RELATIVE = re.compile(rb"(?:.*/)?(?:" + b"|".join(name.encode() for name in BY_NAME) + rb")\Z|(?:.*/)?mosix(?:/.*)?\Z", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Opening:
    """An open by any of the four calls. ``value`` is the third argument of open(2): the mode, here what is written."""

    path: bytes
    dirfd: int
    flags: int
    value: int


@dataclass(frozen=True, slots=True)
class Special:
    """An open that is a request. ``reads``, ``writes``: the open mode (both False: it is none); ``value``: what is written."""

    row: ControlFile
    reads: bool
    writes: bool
    value: int


@dataclass(frozen=True, slots=True)
class Redirect:
    """The path names a file of our tree: open this instead."""

    path: bytes


@dataclass(frozen=True, slots=True)
class Letters:
    """Direct communication: the program's mailbox, or (address, PID) of a ``receiver``; flags and mode of the open."""

    receiver: tuple[bytes, int] | None
    flags: int
    value: int


Meaning = Special | Redirect | Letters


def opening(nr: int, args: tuple[int, ...], path: bytes, how: bytes = b"") -> Opening:
    """What the call ``nr`` opens; ``how`` is the beginning of openat2's struct open_how (shorter: as if zeros followed)."""
    if nr == SYS_OPEN:
        return Opening(path, AT_FDCWD, args[1], args[2])
    if nr == SYS_CREAT:
        return Opening(path, AT_FDCWD, O_CREAT | O_WRONLY | O_TRUNC, args[1])
    dirfd = as_c_int(args[0])
    if nr == SYS_OPENAT:
        return Opening(path, dirfd, args[2], args[3])
    flags, value, _ = OPEN_HOW.unpack(how[: OPEN_HOW.size].ljust(OPEN_HOW.size, b"\0"))
    return Opening(path, dirfd, flags, value)


def perhaps_ours(path: bytes) -> bool:
    """Whether `recognise` can find anything in ``path``, wherever it is relative to; cheap."""
    return path.startswith(b"/proc/") or (not path.startswith(b"/") and _RELATIVE.match(path) is not None)


def recognise(opened: Opening, pid: int, mount: bytes, directory: Callable[[int], bytes]) -> Meaning | None:
    """What an open means for the program ``pid``; None: it is an ordinary one.

    ``directory`` gives the path of a directory descriptor or AT_FDCWD, and is asked only if it matters; OSError if it is none.
    """
    path = opened.path
    if not perhaps_ours(path):
        return None
    if not path.startswith(b"/"):
        try:
            base = directory(opened.dirfd)
        except OSError:
            return None
        if base != b"/proc" and not base.startswith(b"/proc/"):
            return None
        path = base + b"/" + path
    path = _REPEATED.sub(b"/", path)
    if (letters := _letters(opened, path, pid)) is not None:
        return letters
    if path == _TREE or path.startswith(_TREE + b"/"):
        if b"/.." in path:  # by the letter: there is no such directory in which the kernel could go back
            path = posixpath.normpath(path)
        inside = path == _TREE or path.startswith(_TREE + b"/")
        return Redirect(mount + path[len(_TREE) :] if inside else path)
    found = _SPECIAL.match(path)
    if found is None or (found[1].isdigit() and int(found[1]) != pid):
        return None
    row = BY_NAME.get(found[2].decode("ascii"))
    if row is None:
        return None
    if row.kind is Kind.QUESTION:
        return Special(row, True, False, opened.value)
    mode = opened.flags & O_ACCMODE
    return Special(row, mode in (0, O_RDWR), mode in (O_WRONLY, O_RDWR), opened.value)


def _letters(opened: Opening, path: bytes, pid: int) -> Letters | None:
    """Both spellings of the mailbox's name count (readings, row 16)."""
    if path in (_TREE + b"/mybox", b"/proc/self/mybox", b"/proc/%d/mybox" % pid):
        return Letters(None, opened.flags, opened.value)
    found = _RECEIVER.match(path)
    return Letters((found[1], int(found[2])), opened.flags, opened.value) if found else None


def refused(special: Special) -> int:
    """The errno of a request that cannot be meant, 0 if it can. Values are C ints, as open(2) takes them."""
    row = special.row
    if not special.reads and not special.writes:
        return errno.EINVAL
    if row.kind is Kind.QUESTION:
        return 0
    if (special.reads and not row.access.reads) or (special.writes and not row.access.writes):
        return errno.EPERM
    if special.writes and row.kind is Kind.NUMBER and not row.accepts(as_c_int(special.value)):
        return errno.ERANGE
    return 0
