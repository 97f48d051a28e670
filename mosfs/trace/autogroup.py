"""The kernel's groups of sessions: where they are on, nice values count only within a session, which has one of its own.

sched(7), "The autogroup feature". Without them nothing is done here: the nice value of the process counts.
"""

from __future__ import annotations

import contextlib
import os


def renice(pid: int, nice: int) -> None:
    """Give the session that ``pid`` leads this nice value; nothing if it leads none, or if we may not."""
    with contextlib.suppress(OSError):
        if os.getsid(pid) == pid:
            with open(f"/proc/{pid}/autogroup", "w", encoding="ascii") as group:
                group.write(str(nice))
