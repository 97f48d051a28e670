"""Signals of x86_64 Linux: names, default actions, layouts of their structures (signal(7), sigaction(2))."""

from __future__ import annotations

from enum import StrEnum
from struct import Struct
from typing import Final


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
SA_RESETHAND: Final = 0x80000000
SIG_BLOCK: Final = 0
SIG_UNBLOCK: Final = 1
SIG_SETMASK: Final = 2

#: The kernel's struct sigaction: handler, flags, restorer, mask (32 bytes).
SIGACTION: Final = Struct("<QQQQ")
#: stack_t: address, flags, size (24 bytes).
STACK: Final = Struct("<QixxxxQ")
#: siginfo_t.
SIGINFO_SIZE: Final = 128

# si_code
SI_TKILL: Final = -6  # sent to a thread, by tgkill(2)
SI_TIMER: Final = -2  # timer_create(2); its number follows, four bytes behind the code
SI_KERNEL: Final = 0x80  # a fault's code is smaller, and not 0 (sigaction(2))


def bit(number: int) -> int:
    """The bit of a signal in a sigset_t and in the Sig* lines of /proc/PID/status."""
    return 1 << number - 1
