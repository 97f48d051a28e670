"""Which calls of a program away are plain: the table says all that is to be done about them, so that C can do it (native/lane.c).

A body's host sends such a call home by what its row says of its arguments (`forwarded`). Its deputy makes it, and nothing follows
from that for what its tracer knows (`made`), except that a descriptor may be another one then (`RENAMING`).
"""

from __future__ import annotations

from mosfs.abi.args import Arg, Kind, Source
from mosfs.abi.numbers import (
    SYS_CLOSE,
    SYS_CLOSE_RANGE,
    SYS_DUP2,
    SYS_DUP3,
    SYS_FCNTL,
    SYS_PRCTL,
    SYS_SCHED_GETAFFINITY,
    SYS_SCHED_SETAFFINITY,
)
from mosfs.abi.syscalls import Away, ByHost, Home, Syscall
from mosfs.calls import cputime, cputimers

#: Calls after which a descriptor may be another file.
RENAMING = frozenset({SYS_CLOSE, SYS_DUP2, SYS_FCNTL, SYS_DUP3, SYS_CLOSE_RANGE})
#: More is done about these than the table says: CPU time that was used away, timers of it, processors that a task is kept on.
_COMPLETED = cputime.CALLS | cputimers.CALLS | {SYS_PRCTL, SYS_SCHED_SETAFFINITY, SYS_SCHED_GETAFFINITY}
_LENGTHS = frozenset({Source.CONST, Source.ARG})


def made(row: Syscall) -> bool:
    """Its deputy makes it, and that is all."""
    return row.home is Home.NATIVE and row.away is Away.FORWARD and row.nr not in _COMPLETED


def forwarded(row: Syscall) -> bool:
    """A body's host sends it home as its row describes it."""
    return made(row) and row.host is None and all(_described(arg) for arg in row.args)


def answered(row: Syscall) -> bool:
    """What home answers is the result, once the memory that came with it is stored."""
    return row.away is Away.FORWARD and row.host in (None, ByHost.OPEN) and row.nr not in _COMPLETED


def _described(arg: Arg) -> bool:
    if arg.kind is Kind.MEMORY:
        return arg.length is not None and arg.length.source in _LENGTHS
    return arg.kind is not Kind.IRREGULAR
