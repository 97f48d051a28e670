"""Files on the disk that are nobody's private files any more. As long as somebody can write to one it is kept empty: its space is
the administrator's (`home.asks.disk_space`, `daemon.leftovers`)."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress

from mosfs.wire.files import opened_by_others


def still_open(fds: Iterable[int]) -> list[int]:
    """Those of our descriptors to whose files others can write: these are empty now. The others are closed."""
    return [fd for fd in fds if is_kept_empty(fd)]


def is_kept_empty(fd: int) -> bool:
    """Cut the file of our descriptor; False: nobody else can write to it, and it is closed."""
    with suppress(OSError):
        os.ftruncate(fd, 0)
    if opened_by_others(fd):
        return True
    os.close(fd)
    return False
