"""The kernel's groups of sessions: where they are on, nice values count only within a session, which has one of its own.

sched(7), "The autogroup feature". Without them nothing is done here: the nice value of the process counts.
"""

from __future__ import annotations

import errno
import os


def renice(pid: int, nice: int) -> bool:
    """Give the session that ``pid`` leads this nice value; nothing if it leads none, or if we may not.

    False: try again later. Without CAP_SYS_ADMIN the kernel takes one such change in 0.1 s, of all processes together.
    """
    try:
        if os.getsid(pid) == pid:
            with open(f"/proc/{pid}/autogroup", "w", encoding="ascii") as group:
                group.write(str(nice))
    except OSError as error:
        return error.errno != errno.EAGAIN
    return True
