"""``open("/proc/self/{special}", ...)``: the manual's open-as-a-call interface (mosix(7), INTERFACE FOR PROGRAMS).

Pure: says what an open of a path means; the tracer carries it out.
"""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass

from mosfs.procfs.table import BY_NAME, ControlFile

SYS_OPEN, SYS_CREAT, SYS_OPENAT, SYS_OPENAT2 = 2, 85, 257, 437
O_ACCMODE = 3

_SPECIAL = re.compile(rb"/proc/(self|thread-self|\d+)/([a-z_]+)\Z")


@dataclass(frozen=True, slots=True)
class Special:
    """An open that is a request. ``row`` None: in_cluster. ``reads``, ``writes``: the open mode; ``value``: the third argument."""

    name: str
    row: ControlFile | None
    reads: bool
    writes: bool
    value: int


@dataclass(frozen=True, slots=True)
class Redirect:
    """The path names a file of our tree: open this instead."""

    path: bytes


def recognise(nr: int, args: tuple[int, ...], path: bytes, pid: int, mount: bytes) -> Special | Redirect | None:
    """What the open of ``path`` means for the program ``pid``; None: an ordinary open."""
    if path.startswith(b"/proc/mosix/") or path == b"/proc/mosix":
        return Redirect(mount + path[len(b"/proc/mosix") :])
    found = _SPECIAL.match(path)
    if found is None or nr in (SYS_CREAT, SYS_OPENAT2):
        return None
    owner, name = found[1], found[2].decode("ascii")
    if owner.isdigit() and int(owner) != pid:
        return None
    row = BY_NAME.get(name)
    if row is None and name != "in_cluster":
        return None
    flags, value = (args[1], args[2]) if nr == SYS_OPEN else (args[2], args[3])
    mode = flags & O_ACCMODE
    if name == "in_cluster":
        return Special(name, None, True, False, value)
    return Special(name, row, mode != 1, mode != 0, value)


def refused(special: Special) -> int:
    """The errno of a request that cannot be meant, 0 if it can."""
    row = special.row
    if row is None:
        return 0
    if (special.reads and not row.access.reads) or (special.writes and not row.access.writes):
        return errno.EPERM
    if special.writes and row.name != "migrate" and not row.accepts(special.value & 0xFFFFFFFF):
        return errno.EINVAL
    return 0
