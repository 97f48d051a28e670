"""Signals of x86_64 Linux: names, default actions, layouts of their structures (signal(7), sigaction(2))."""

from __future__ import annotations

from enum import StrEnum
from struct import Struct
from typing import Final, NamedTuple


class Default(StrEnum):
    """What the kernel does with a signal that has no handler (signal(7))."""

    TERM = "Term"
    CORE = "Core"
    STOP = "Stop"
    CONT = "Cont"
    IGN = "Ign"


#: number: (name, default action); 1 to 31, real-time signals by `default` and `name`.
SIGNALS: dict[int, tuple[str, Default]] = {
    1: ("SIGHUP", Default.TERM),
    2: ("SIGINT", Default.TERM),
    3: ("SIGQUIT", Default.CORE),
    4: ("SIGILL", Default.CORE),
    5: ("SIGTRAP", Default.CORE),
    6: ("SIGABRT", Default.CORE),
    7: ("SIGBUS", Default.CORE),
    8: ("SIGFPE", Default.CORE),
    9: ("SIGKILL", Default.TERM),
    10: ("SIGUSR1", Default.TERM),
    11: ("SIGSEGV", Default.CORE),
    12: ("SIGUSR2", Default.TERM),
    13: ("SIGPIPE", Default.TERM),
    14: ("SIGALRM", Default.TERM),
    15: ("SIGTERM", Default.TERM),
    16: ("SIGSTKFLT", Default.TERM),
    17: ("SIGCHLD", Default.IGN),
    18: ("SIGCONT", Default.CONT),
    19: ("SIGSTOP", Default.STOP),
    20: ("SIGTSTP", Default.STOP),
    21: ("SIGTTIN", Default.STOP),
    22: ("SIGTTOU", Default.STOP),
    23: ("SIGURG", Default.IGN),
    24: ("SIGXCPU", Default.CORE),
    25: ("SIGXFSZ", Default.CORE),
    26: ("SIGVTALRM", Default.TERM),
    27: ("SIGPROF", Default.TERM),
    28: ("SIGWINCH", Default.IGN),
    29: ("SIGIO", Default.TERM),
    30: ("SIGPWR", Default.TERM),
    31: ("SIGSYS", Default.CORE),
}

SIGKILL: Final = 9
SIGCHLD: Final = 17
SIGCONT: Final = 18
SIGSTOP: Final = 19
SIGTSTP: Final = 20
SIGTTIN: Final = 21
SIGTTOU: Final = 22
#: First and last real-time signal of the kernel (the C library keeps 32 and 33 for itself).
SIGRTMIN: Final = 32
SIGRTMAX: Final = 64

#: Signals that the processor raises: the body's, never the deputy's.
SYNCHRONOUS = frozenset({4, 5, 7, 8, 11, 31})


def name(number: int) -> str:
    """SIGHUP ... SIGSYS, SIGRTMIN+n."""
    if number in SIGNALS:
        return SIGNALS[number][0]
    return f"SIGRTMIN+{number - SIGRTMIN}" if SIGRTMIN <= number <= SIGRTMAX else f"signal {number}"


def default(number: int) -> Default:
    return SIGNALS[number][1] if number in SIGNALS else Default.TERM


# sigaction(2), handler values and flags
SIG_DFL: Final = 0
SIG_IGN: Final = 1
SA_NOCLDSTOP: Final = 0x1
SA_NOCLDWAIT: Final = 0x2
SA_SIGINFO: Final = 0x4
SA_RESTORER: Final = 0x04000000
SA_ONSTACK: Final = 0x08000000
SA_RESTART: Final = 0x10000000
SA_NODEFER: Final = 0x40000000
SA_RESETHAND: Final = 0x80000000
SIG_BLOCK: Final = 0
SIG_UNBLOCK: Final = 1
SIG_SETMASK: Final = 2
SS_ONSTACK: Final = 1
SS_DISABLE: Final = 2


class SigAction(NamedTuple):
    """The kernel's struct sigaction, 32 bytes."""

    handler: int
    flags: int
    restorer: int
    mask: int


SIGACTION: Final = Struct("<QQQQ")
#: The kernel's sigset_t.
SIGSET: Final = Struct("<Q")
#: stack_t: address, flags, size (24 bytes).
STACK: Final = Struct("<QixxxxQ")


class SigInfo(NamedTuple):
    """Fields of siginfo_t, 128 bytes: name, offset, struct code."""

    offset: int
    code: str


SIGINFO_SIZE: Final = 128
#: Which fields are meaningful depends on signal and code (sigaction(2)); those of one offset share their bytes.
SIGINFO_FIELDS: dict[str, SigInfo] = {
    "signo": SigInfo(0, "i"),
    "errno": SigInfo(4, "i"),
    "code": SigInfo(8, "i"),
    "pid": SigInfo(16, "i"),
    "uid": SigInfo(20, "I"),
    "timerid": SigInfo(16, "i"),
    "overrun": SigInfo(20, "i"),
    "status": SigInfo(24, "i"),
    "value": SigInfo(24, "Q"),
    "utime": SigInfo(32, "q"),
    "stime": SigInfo(40, "q"),
    "addr": SigInfo(16, "Q"),
    "addr_lsb": SigInfo(24, "h"),
    "band": SigInfo(16, "q"),
    "fd": SigInfo(24, "i"),
    "call_addr": SigInfo(16, "Q"),
    "syscall": SigInfo(24, "i"),
    "arch": SigInfo(28, "I"),
}

# si_code
SI_USER: Final = 0
SI_KERNEL: Final = 0x80  # a fault's code is smaller, and not 0 (sigaction(2))
SI_QUEUE: Final = -1
SI_TIMER: Final = -2
SI_MESGQ: Final = -3
SI_ASYNCIO: Final = -4
SI_SIGIO: Final = -5
SI_TKILL: Final = -6
CLD_EXITED: Final = 1
CLD_KILLED: Final = 2
CLD_DUMPED: Final = 3
CLD_TRAPPED: Final = 4
CLD_STOPPED: Final = 5
CLD_CONTINUED: Final = 6


def bit(number: int) -> int:
    """The bit of a signal in a sigset_t and in the Sig* lines of /proc/PID/status."""
    return 1 << number - 1
