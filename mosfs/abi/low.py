"""Calls that can change what is mapped below 1 MB, where every program has pages of ours (`trace.layout`), and when they may.

A range that touches those pages begins below 1 MB, so one look at one argument is enough for a filter. A range from a hint that is
not MAP_FIXED never does: the pages are mapped, and such a mapping takes nobody's place.
"""

from __future__ import annotations

from typing import Final

from mosfs.abi.flags import MAP_FIXED, MREMAP_FIXED, SHM_REMAP
from mosfs.abi.numbers import (
    SYS_MADVISE,
    SYS_MMAP,
    SYS_MPROTECT,
    SYS_MREMAP,
    SYS_MUNMAP,
    SYS_PKEY_MPROTECT,
    SYS_REMAP_FILE_PAGES,
    SYS_SHMAT,
)

#: Bits 20 to 56 of an address: processors that ignore some bits of an address ignore higher ones.
ABOVE: Final = (1 << 57) - (1 << 20)

#: Call -> alternatives of tests, as in the rows of `abi.syscalls`: (argument, mask, value).
GUARDED: Final[dict[int, tuple[tuple[tuple[int, int, int], ...], ...]]] = {
    SYS_MMAP: (((3, MAP_FIXED, MAP_FIXED), (0, ABOVE, 0)),),
    SYS_MPROTECT: (((0, ABOVE, 0),),),
    SYS_MUNMAP: (((0, ABOVE, 0),),),
    SYS_MREMAP: (((0, ABOVE, 0),), ((3, MREMAP_FIXED, MREMAP_FIXED), (4, ABOVE, 0))),
    SYS_MADVISE: (((0, ABOVE, 0),),),
    SYS_SHMAT: (((2, SHM_REMAP, SHM_REMAP), (1, ABOVE, 0)),),
    SYS_REMAP_FILE_PAGES: (((0, ABOVE, 0),),),
    SYS_PKEY_MPROTECT: (((0, ABOVE, 0),),),
}


def may_touch(nr: int, registers: tuple[int, ...]) -> bool:
    """Whether a call with these raw argument registers stops for the sake of the low pages."""
    return any(all(registers[i] & mask == value for i, mask, value in one) for one in GUARDED.get(nr, ()))
