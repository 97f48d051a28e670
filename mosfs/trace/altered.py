"""Clocks that are not the kernel's: MOSIX_CLOCKS=FILE in mosd's environment, for tests with nodes whose clocks differ.

The file has `LAYOUT`: ``since`` (the kernel's CLOCK_MONOTONIC, ns), ``drift`` (ns a second by which all clocks gain since then),
``ahead`` (ns that CLOCK_MONOTONIC and CLOCK_BOOTTIME are ahead), ``wall`` (ns that CLOCK_REALTIME and CLOCK_TAI are ahead). It is
read at each reading of a clock, so writing another ``wall`` sets the node's realtime.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from collections.abc import Callable

from mosfs.native import ffi, lib

VARIABLE = "MOSIX_CLOCKS"
LAYOUT = struct.Struct("<4q")
WALLS = frozenset({time.CLOCK_REALTIME, time.CLOCK_TAI})
#: What C reads, too, for as long as it may.
_told: list[mmap.mmap] = []


def name() -> str:
    """What tells the clocks of this node from the kernel's; "" if they are the kernel's."""
    found = os.environ.get(VARIABLE, "")
    return f" {os.path.basename(found)}" if found else ""


def clocks() -> Callable[[int], int]:
    """clock_gettime(2) of this node, in ns. OSError, ValueError if the file that is named cannot be read."""
    found = os.environ.get(VARIABLE, "")
    if not found:
        return time.clock_gettime_ns
    with open(found, "rb") as file:
        told = mmap.mmap(file.fileno(), LAYOUT.size, access=mmap.ACCESS_READ)
    _told.append(told)
    lib.mos_alter(ffi.from_buffer(told))

    def read(clock: int) -> int:
        since, drift, ahead, wall = LAYOUT.unpack_from(told)
        gained = (time.clock_gettime_ns(time.CLOCK_MONOTONIC) - since) * drift // 10**9
        return int(time.clock_gettime_ns(clock) + gained + (wall if clock in WALLS else ahead))

    return read
