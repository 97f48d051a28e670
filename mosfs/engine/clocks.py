"""Keeping the clock page of a running program right (`trace.clock`)."""

from __future__ import annotations

import os

from mosfs.trace import layout
from mosfs.trace.clock import NOTHING, GuestClock, HomeClock, Shown

#: Seconds between corrections of the programs' clocks.
PERIOD = 1.0


def refresh(pid: int, clock: HomeClock | GuestClock, page: bytes, not_before: Shown = NOTHING, *, leap: bool = False) -> bytes:
    """Correct the clock page of the running process ``pid``, which was ``page`` until now: what it is from now on; it shows no less
    than ``not_before``, and with ``leap`` no less than ``clock``. OSError."""
    fd = os.open(f"/proc/{pid}/mem", os.O_WRONLY | os.O_CLOEXEC)
    try:
        return clock.refresh(lambda at, data: os.pwrite(fd, data, layout.CLOCK_PAGE + at), page, not_before, leap=leap)
    finally:
        os.close(fd)
