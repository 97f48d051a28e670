"""Calls within calls: which commands of fcntl(2) point to memory, and which options of prctl(2) do what where."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from mosfs.abi.args import Arg, parse_arg

# fcntl(2); the numbers are those of x86_64.
F_DUPFD = 0
F_GETFL = 3
F_SETFL = 4
F_GETLK = 5
F_SETLK = 6
F_SETLKW = 7
F_SETOWN_EX = 15
F_GETOWN_EX = 16
F_GETOWNER_UIDS = 17
F_OFD_GETLK = 36
F_OFD_SETLK = 37
F_OFD_SETLKW = 38
F_DUPFD_CLOEXEC = 1030
F_GET_RW_HINT = 1035
F_SET_RW_HINT = 1036
F_GET_FILE_RW_HINT = 1037
F_SET_FILE_RW_HINT = 1038

_FCNTLS = {
    F_GETLK: "inout[32]", F_SETLK: "in[32]", F_SETLKW: "in[32]",
    F_OFD_GETLK: "inout[32]", F_OFD_SETLK: "in[32]", F_OFD_SETLKW: "in[32]",
    F_SETOWN_EX: "in[8]", F_GETOWN_EX: "out[8]", F_GETOWNER_UIDS: "out[8]",
    F_GET_RW_HINT: "out[8]", F_SET_RW_HINT: "in[8]", F_GET_FILE_RW_HINT: "out[8]", F_SET_FILE_RW_HINT: "in[8]",
}  # fmt: skip
_FCNTL_ARGS = {command: parse_arg(text) for command, text in _FCNTLS.items()}
_NUMBER = parse_arg("ptr")


def fcntl_arg(command: int) -> Arg:
    """What the third argument of fcntl is: MEMORY of a fixed length, or a number to be passed as it is."""
    return _FCNTL_ARGS.get(command, _NUMBER)


class Acts(StrEnum):
    """Where an option of prctl acts when the program is away."""

    HOME = "home"
    BODY = "body"
    BOTH = "both"
    REFUSE = "refuse"  #: at home and away: "Prctl option #{number} not supported under MOSIX"


@dataclass(frozen=True, slots=True)
class Prctl:
    """``arg`` describes argument 1; all others are numbers. For BODY, pointers stay in the body."""

    number: int
    name: str
    place: Acts
    arg: Arg


def _(number: int, name: str, place: Acts, arg: str = "ptr") -> tuple[int, Prctl]:
    return number, Prctl(number, name, place, parse_arg(arg))


HOME, BODY, BOTH, REFUSE = Acts

#: Options that no x86_64 kernel knows (SVE, MTE, MPX, ...) are not here: see `prctl`.
PRCTLS: dict[int, Prctl] = dict((
    _(1, "PR_SET_PDEATHSIG", HOME),
    _(2, "PR_GET_PDEATHSIG", HOME, "out[4]"),
    _(3, "PR_GET_DUMPABLE", HOME),
    _(4, "PR_SET_DUMPABLE", HOME),
    _(7, "PR_GET_KEEPCAPS", HOME),
    _(8, "PR_SET_KEEPCAPS", HOME),
    _(13, "PR_GET_TIMING", HOME),
    _(14, "PR_SET_TIMING", HOME),
    _(15, "PR_SET_NAME", BOTH, "str"),
    _(16, "PR_GET_NAME", HOME, "out[16]"),
    _(21, "PR_GET_SECCOMP", HOME),
    _(22, "PR_SET_SECCOMP", REFUSE),
    _(23, "PR_CAPBSET_READ", HOME),
    _(24, "PR_CAPBSET_DROP", HOME),
    _(25, "PR_GET_TSC", BODY, "out[4]"),
    _(26, "PR_SET_TSC", REFUSE),
    _(27, "PR_GET_SECUREBITS", HOME),
    _(28, "PR_SET_SECUREBITS", HOME),
    _(29, "PR_SET_TIMERSLACK", HOME),
    _(30, "PR_GET_TIMERSLACK", HOME),
    _(31, "PR_TASK_PERF_EVENTS_DISABLE", REFUSE),
    _(32, "PR_TASK_PERF_EVENTS_ENABLE", REFUSE),
    _(33, "PR_MCE_KILL", HOME),
    _(34, "PR_MCE_KILL_GET", HOME),
    _(35, "PR_SET_MM", REFUSE),
    _(36, "PR_SET_CHILD_SUBREAPER", HOME),
    _(37, "PR_GET_CHILD_SUBREAPER", HOME, "out[4]"),
    _(38, "PR_SET_NO_NEW_PRIVS", HOME),
    _(39, "PR_GET_NO_NEW_PRIVS", HOME),
    _(40, "PR_GET_TID_ADDRESS", BODY, "out[8]"),
    _(41, "PR_SET_THP_DISABLE", BOTH),
    _(42, "PR_GET_THP_DISABLE", BODY),
    _(47, "PR_CAP_AMBIENT", HOME),
    _(52, "PR_GET_SPECULATION_CTRL", BODY),
    _(53, "PR_SET_SPECULATION_CTRL", BOTH),
    _(57, "PR_SET_IO_FLUSHER", HOME),
    _(58, "PR_GET_IO_FLUSHER", HOME),
    _(59, "PR_SET_SYSCALL_USER_DISPATCH", REFUSE),
    _(62, "PR_SCHED_CORE", REFUSE),
    _(65, "PR_SET_MDWE", REFUSE),
    _(66, "PR_GET_MDWE", HOME),
    _(67, "PR_SET_MEMORY_MERGE", HOME),
    _(68, "PR_GET_MEMORY_MERGE", HOME),
    _(77, "PR_TIMER_CREATE_RESTORE_IDS", HOME),
    _(78, "PR_FUTEX_HASH", BODY),
    _(0x41555856, "PR_GET_AUXV", BODY, "out[a2]"),
    _(0x53564D41, "PR_SET_VMA", BODY),
    _(0x59616D61, "PR_SET_PTRACER", HOME),
))  # fmt: skip

REFUSED_PRCTLS = tuple(sorted(row.number for row in PRCTLS.values() if row.place is REFUSE))


def prctl(option: int) -> Prctl:
    """The row of ``option``; an unknown one is asked of the home-node's kernel, which answers EINVAL."""
    return PRCTLS.get(option) or Prctl(option, f"#{option}", HOME, _NUMBER)
