"""The manual's limits as one pure decision: what becomes of a call that the filter sent to us (mosrun(1), LIMITATIONS).

The readings come first (`modern programs must run`): what can be served transparently is served, and refused only if it
cannot.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

from mosfs.abi import commands, ioctls, sockopts
from mosfs.abi.flags import (
    CLONE_THREAD,
    MAP_ANONYMOUS,
    MAP_HUGETLB,
    MAP_PRIVATE,
    MAP_SHARED,
    MAP_TYPE,
    OF_THREADS,
    PR_GET_SECCOMP,
    PROT_WRITE,
    SHM_RDONLY,
)
from mosfs.abi.numbers import (
    SYS_CLOCK_GETTIME,
    SYS_CLOCK_NANOSLEEP,
    SYS_CLONE,
    SYS_GETSOCKOPT,
    SYS_IOCTL,
    SYS_KILL,
    SYS_MADVISE,
    SYS_MMAP,
    SYS_MREMAP,
    SYS_OPENAT,
    SYS_PIDFD_SEND_SIGNAL,
    SYS_PRCTL,
    SYS_PRLIMIT64,
    SYS_RT_SIGQUEUEINFO,
    SYS_RT_TGSIGQUEUEINFO,
    SYS_SETRLIMIT,
    SYS_SETSOCKOPT,
    SYS_SHMAT,
    SYS_TGKILL,
    SYS_TIMER_SETTIME,
    SYS_TKILL,
    SYS_WAIT4,
    SYS_WAITID,
)
from mosfs.abi.syscalls import Away, Home, Syscall
from mosfs.abi.texts import SHARED_ADVICE, THREADS_ADVICE, Text, text
from mosfs.calls import cputime


class Do(Enum):
    SERVE = auto()  # let the call be made as usual
    PRIVATE = auto()  # mmap: as usual, but with MAP_PRIVATE; if there is a ``message``, only under -e and -w, else as REFUSE
    HOME = auto()  # let the call be made, but at home only: a program that is away comes home for it
    ANSWER = auto()  # return ``result`` without making it
    REFUSE = auto()  # unsupported: killed with ``message``, or ENOSYS (-e), plus the message (-w), or stay home


class Unsupported(Enum):
    """`Settings.unsupported`, and the control file unsupportok."""

    KILL = 0
    QUIET = 1
    WARN = 2
    STAY_HOME = 3


@dataclass(frozen=True, slots=True)
class Verdict:
    do: Do
    result: int = 0
    message: str = ""


SERVE = Verdict(Do.SERVE)

_KILLS = frozenset({SYS_KILL, SYS_TKILL, SYS_TGKILL, SYS_RT_SIGQUEUEINFO, SYS_RT_TGSIGQUEUEINFO, SYS_PIDFD_SEND_SIGNAL})
_LIMITS = frozenset({SYS_SETRLIMIT, SYS_PRLIMIT64})
_LOOKED_AT = frozenset({
    SYS_MREMAP, SYS_MADVISE, SYS_WAIT4, SYS_TIMER_SETTIME, SYS_CLOCK_GETTIME, SYS_WAITID, SYS_OPENAT,
    SYS_CLOCK_NANOSLEEP,
})  # fmt: skip
_SERVED = _KILLS | _LIMITS | _LOOKED_AT
_POINTING = frozenset({SYS_IOCTL, SYS_SETSOCKOPT, SYS_GETSOCKOPT})

_UNSERVED_OPTIONS = {SYS_SETSOCKOPT: sockopts.UNSERVED_SET, SYS_GETSOCKOPT: sockopts.UNSERVED_GET}


def judge(row: Syscall, args: Sequence[int]) -> Verdict:
    """What becomes of a call of ``row`` with these argument registers, at home or away."""
    if row.home is Home.ERRNO or row.away is Away.ERRNO:
        return Verdict(Do.ANSWER, -row.errno)
    if row.nr == SYS_PRCTL and args[0] & 0xFFFFFFFF == PR_GET_SECCOMP:
        return Verdict(Do.ANSWER)
    # the PID stays the program's own and the limit is the kernel's: both work as natively; and some are only looked at
    if row.nr in _SERVED:
        return SERVE
    if row.home is Home.TEST and not row.stops(tuple(args)):
        return SERVE
    if row.nr == SYS_MMAP and not args[3] & MAP_SHARED:
        return Verdict(Do.HOME) if args[3] & MAP_HUGETLB else SERVE
    if row.nr == SYS_MMAP and not args[2] & PROT_WRITE:
        return Verdict(Do.PRIVATE, message=text(Text.MAP_SHARED) if args[3] & MAP_ANONYMOUS else "")
    if row.nr == SYS_SHMAT and args[2] & SHM_RDONLY:
        return Verdict(Do.HOME)
    if row.home in (Home.TEST, Home.REFUSE) or row.away is Away.REFUSE:
        return Verdict(Do.REFUSE, message=_message(row, args))
    return SERVE


def judge_away(row: Syscall, args: Sequence[int]) -> Verdict:
    """As `judge`, of a program that is away: what points to memory of unknown shape can only be served at home."""
    if cputime.sleeps(row.nr, args):
        return Verdict(Do.HOME)
    if row.nr in _POINTING:
        if row.nr == SYS_IOCTL:
            code = args[1] & 0xFFFFFFFF
            if ioctls.unserved(code):
                return Verdict(Do.REFUSE, message=text(Text.IOCTL, number=code))
        elif (args[1] & 0xFFFFFFFF, args[2] & 0xFFFFFFFF) in _UNSERVED_OPTIONS[row.nr]:
            return Verdict(Do.REFUSE, message=text(Text.SYSCALL, name=row.name))
    return judge(row, args)


def _message(row: Syscall, args: Sequence[int]) -> str:
    if row.nr == SYS_MMAP:
        return text(Text.MAP_SHARED)
    if row.nr == SYS_SHMAT:
        return text(Text.SHMAT)
    if row.nr == SYS_PRCTL:
        return text(Text.PRCTL, number=args[0] & 0xFFFFFFFF)
    if row.nr == SYS_IOCTL and args[1] & 0xFFFFFFFF in ioctls.REFUSED:
        return text(Text.IOCTL, number=args[1] & 0xFFFFFFFF)
    return text(Text.SYSCALL, name=row.name)


def makes_thread(nr: int, args: Sequence[int]) -> bool:
    """Whether the call makes a thread, of a kind that programs may have. The kernel looks at the lower half of the flags only."""
    flags = args[0] & 0xFFFFFFFF
    return nr == SYS_CLONE and bool(flags & CLONE_THREAD) and not flags & ~OF_THREADS


def advice(row: Syscall, args: Sequence[int]) -> str:
    """What is told beside a refusal; "" if there is nothing to advise."""
    if row.nr == SYS_CLONE and args[0] & CLONE_THREAD:
        return THREADS_ADVICE
    if row.nr in (SYS_MMAP, SYS_SHMAT):
        return SHARED_ADVICE
    return ""


def private(flags: int) -> int:
    """Flags of mmap with MAP_PRIVATE in the place of MAP_SHARED or MAP_SHARED_VALIDATE."""
    return flags & ~MAP_TYPE | MAP_PRIVATE


def stays_in_body(row: Syscall, args: Sequence[int]) -> bool:
    """A call that the body's own kernel serves (its memory, its registers)."""
    if row.away is Away.BODY:
        return True
    return row.nr == SYS_PRCTL and commands.prctl(args[0] & 0xFFFFFFFF).place is commands.Acts.BODY
