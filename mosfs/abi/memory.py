"""Properties of a mapping beside its protection: who gives them (mmap(2), madvise(2), mlock(2)), and what VmFlags calls them.

VmFlags is a line of /proc/PID/smaps (proc_pid_smaps(5)).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from mosfs.abi.flags import MAP_GROWSDOWN, MAP_LOCKED, MAP_NORESERVE, MAP_STACK

MAP_DROPPABLE: Final = 0x08
MADV_NORMAL: Final = 0
MADV_RANDOM: Final = 1
MADV_SEQUENTIAL: Final = 2
MADV_DONTNEED: Final = 4
MADV_GUARD_INSTALL: Final = 102
MLOCK_ONFAULT: Final = 1


@dataclass(frozen=True, slots=True)
class Advice:
    """A property that madvise(2) gives a mapping with ``value``; ``word`` is its name in VmFlags, ``bit`` its place in an image."""

    word: str
    bit: int
    value: int


#: Properties that a mapping has from mmap(2) on.
NORESERVE: Final = 1 << 0
DROPPABLE: Final = 1 << 1
GROWS_DOWN: Final = 1 << 2
#: Properties that mlock2(2) gives.
LOCKED: Final = 1 << 3
ON_FAULT: Final = 1 << 4
ADVICE: Final = (
    Advice("sr", 1 << 5, MADV_SEQUENTIAL),
    Advice("rr", 1 << 6, MADV_RANDOM),
    Advice("dc", 1 << 7, 10),  # MADV_DONTFORK
    Advice("mg", 1 << 8, 12),  # MADV_MERGEABLE
    Advice("hg", 1 << 9, 14),  # MADV_HUGEPAGE
    Advice("nh", 1 << 10, 15),  # MADV_NOHUGEPAGE
    Advice("dd", 1 << 11, 16),  # MADV_DONTDUMP
    Advice("wf", 1 << 12, 18),  # MADV_WIPEONFORK
)
#: fork(2) does not copy what has one of these.
NOT_INHERITED: Final = sum(row.bit for row in ADVICE if row.word in ("dc", "wf"))
#: What mmap(2) must be told again: nothing else can give these to a mapping.
BY_MMAP: Final = NORESERVE | DROPPABLE | GROWS_DOWN
#: Word of VmFlags -> bit.
BITS: Final = {
    "nr": NORESERVE, "dp": DROPPABLE, "gd": GROWS_DOWN, "lo": LOCKED, "lf": ON_FAULT, **{row.word: row.bit for row in ADVICE},
}  # fmt: skip
ALL_BITS: Final = sum(BITS.values())

#: Flags of mmap(2) that give a property (MAP_STACK: no huge pages, Linux 6.7).
SAYING_FLAGS: Final = (MAP_DROPPABLE, MAP_GROWSDOWN, MAP_LOCKED, MAP_NORESERVE, MAP_STACK)
#: (mask, value) of the advice that changes properties or guards: 0, 1, 2, 10 to 19, 102, 103. All others concern contents only.
SAYING_ADVICE: Final = (
    (0xFFFFFFFE, 0), (0xFFFFFFFF, 2), (0xFFFFFFFE, 10), (0xFFFFFFFC, 12), (0xFFFFFFFC, 16), (0xFFFFFFFE, MADV_GUARD_INSTALL),
)  # fmt: skip


def map_flags(bits: int) -> int:
    """Flags of mmap(2), its type included, that make a private mapping with the properties ``bits`` of `BY_MMAP`."""
    kind = MAP_DROPPABLE if bits & DROPPABLE else 0x02
    return kind | (MAP_NORESERVE if bits & NORESERVE else 0) | (MAP_GROWSDOWN if bits & GROWS_DOWN else 0)
