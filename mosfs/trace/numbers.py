"""IDs of processes and threads that are chosen: a program that goes on from a checkpoint has those of its threads in its memory.

The kernel gives them out in order, and tells, and can be told, which was the last (/proc/sys/kernel/ns_last_pid, which needs
CAP_CHECKPOINT_RESTORE). Whoever makes the next one gets the number, so who wants it looks whether he has it, and tries again.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

LAST = "/proc/sys/kernel/ns_last_pid"
CANNOT_CHOOSE = "this node cannot choose process IDs"
#: So often a number is tried for that others may have got before; seconds between two attempts while somebody has it.
ATTEMPTS, AGAIN = 100, 0.01
#: Seconds that a tracer waits for others who choose.
PATIENCE = 0.2


class CannotChoose(Exception):
    """The text says which number, and why, for users."""


def in_use(number: int) -> bool:
    """Whether a process, a thread or a group of processes has it."""
    if number <= 1 or os.path.exists(f"/proc/{number}"):
        return True
    try:
        os.killpg(number, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def free(number: int) -> None:
    """CannotChoose if somebody has that number."""
    if in_use(number):
        raise CannotChoose(f"process ID {number} is in use")


@contextmanager
def next_is(number: int, patience: float = 0.0) -> Iterator[None]:
    """Meanwhile the kernel gives this number to the next process or thread that anybody makes. CannotChoose.

    Later ones are to have those that they would have had: the numbers behind this one may be wanted, too. ``patience``: seconds to
    wait for others who choose just now; anybody can lock that file, so we do not insist."""
    free(number)
    try:
        file = os.open(LAST, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise _cannot(error) from error
    try:
        _lock(file, time.monotonic() + patience)
        try:
            before = int(os.pread(file, 32, 0))
            os.pwrite(file, b"%d" % (number - 1), 0)
        except OSError as error:
            raise _cannot(error) from error
        try:
            yield
        finally:
            os.pwrite(file, b"%d" % before, 0)
    finally:
        os.close(file)


def _lock(file: int, until: float) -> None:
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                return
            time.sleep(AGAIN / 10)
        else:
            return


def _cannot(error: OSError) -> CannotChoose:
    return CannotChoose(f"{CANNOT_CHOOSE} ({os.strerror(error.errno or 0)})")


def not_had(number: int) -> CannotChoose:
    """It was tried for in vain."""
    return CannotChoose(f"process ID {number} cannot be had: others keep taking it")
