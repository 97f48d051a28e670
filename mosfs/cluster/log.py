"""Standard error as a node's log: for mosd, and for the processes that outlive it and write there what they cannot tell it.

The log is a file, whose name MOSIX_LOG_FILE tells the children, or what a service manager has given mosd as standard error; then
that variable is empty.
"""

from __future__ import annotations

import os
import select
import stat
import sys
import time
from contextlib import suppress

VARIABLE = "MOSIX_LOG_FILE"


def to_file(path: str) -> None:
    """stdout and stderr go to the end of the file at ``path``, here and in all children. OSError when it cannot be opened."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    os.environ[VARIABLE] = path


def to_stderr() -> None:
    """stdout and stderr go to what is stderr now, here and in all children."""
    os.dup2(2, 1)
    os.environ[VARIABLE] = ""


def follow() -> None:
    """Open the log again when its name is no longer that of the file that we write to (logrotate has moved it); on failure we go on
    writing to that."""
    path = os.environ.get(VARIABLE, "")
    with suppress(OSError):
        if path and not _is(path):
            to_file(path)


def _is(path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(2), os.stat(path))
    except FileNotFoundError:
        return False


def complain(text: str) -> None:
    """One write, so that lines of many processes do not mix. What nobody reads, because the service manager hangs or is gone, is
    lost: no program waits for it."""
    follow()
    data = f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text.rstrip()}\n".encode(errors="replace")
    with suppress(OSError):
        whole = stat.S_ISREG(os.fstat(2).st_mode)
        while data and select.select((), (2,), (), 0)[1]:  # a pipe that can be written to takes so much without waiting
            data = data[os.write(2, data if whole else data[: select.PIPE_BUF]) :]
