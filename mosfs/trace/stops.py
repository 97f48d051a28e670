"""Wait statuses as a closed set of stops (ptrace(2), "Stopped states")."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from enum import Enum, auto


class Stop(Enum):
    """Why wait reported a task."""

    SECCOMP = auto()  # PTRACE_EVENT_SECCOMP: before a system call that the filter sent to us
    SYSCALL = auto()  # entry or exit of a system call, after PTRACE_SYSCALL
    SIGNAL = auto()  # a signal is about to be delivered
    GROUP = auto()  # stopped by a stop signal (PTRACE_EVENT_STOP with that signal)
    TRAP = auto()  # PTRACE_EVENT_STOP: PTRACE_INTERRUPT, a new child, or SIGCONT
    FORK = auto()
    VFORK = auto()
    CLONE = auto()
    EXEC = auto()
    OTHER = auto()
    EXITED = auto()
    KILLED = auto()


#: Another task is there.
BIRTHS = frozenset({Stop.FORK, Stop.VFORK, Stop.CLONE})
#: Stops that take the place of one that we have asked for (PTRACE_INTERRUPT): it has to be asked for again.
USES_UP = frozenset({Stop.SECCOMP, Stop.SYSCALL, Stop.SIGNAL, Stop.FORK, Stop.VFORK, Stop.CLONE})
#: The wait status of `Stop.SECCOMP`.
SECCOMP_STOP = 7 << 16 | signal.SIGTRAP << 8 | 0x7F
_EVENTS = {1: Stop.FORK, 2: Stop.VFORK, 3: Stop.CLONE, 4: Stop.EXEC, 7: Stop.SECCOMP}
_STOP_SIGNALS = {signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}


@dataclass(frozen=True, slots=True)
class Status:
    """A decoded wait status: ``value`` is the signal, or the exit status of EXITED."""

    stop: Stop
    value: int


def decode(status: int) -> Status:
    """The stop that a wait status means."""
    low = status & 0x7F
    if low == 0:
        return Status(Stop.EXITED, status >> 8 & 0xFF)
    if status & 0xFF != 0x7F:
        return Status(Stop.KILLED, low)
    sig = status >> 8 & 0xFF
    event = status >> 16
    if event == 128:
        return Status(Stop.GROUP if sig in _STOP_SIGNALS else Stop.TRAP, sig)
    if event:
        return Status(_EVENTS.get(event, Stop.OTHER), sig)
    if sig == signal.SIGTRAP | 0x80:
        return Status(Stop.SYSCALL, sig)
    return Status(Stop.SIGNAL, sig)
