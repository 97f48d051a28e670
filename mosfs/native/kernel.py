"""Features of Linux that not every kernel from 5.10 on has: each is asked for once, and without it there is another way.

A process asks when it first needs to know; what it forks knows it too. MOSIX_KERNEL_WITHOUT, for tests, hides features: their names
with blanks between them, or ``all``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import cache
from typing import NamedTuple

from mosfs.native.checked import lib


class Feature(NamedTuple):
    """``number``: MOS_HAS_* of the C module, a bit. ``since``: the first Linux that has it. ``lost``: what is missed without."""

    number: int
    since: str
    lost: str


_AHEAD = "memory is not sent ahead of programs that leave: they stand still while it is sent"
FEATURES: Mapping[str, Feature] = {
    "rseq_told": Feature(
        lib.MOS_HAS_RSEQ_TOLD, "5.13", "programs are told not to use restartable sequences; those that do cannot move"),
    "wait_killable": Feature(
        lib.MOS_HAS_WAIT_KILLABLE, "5.19", "a system call of a debugged program that a signal interrupts is looked at twice"),
    "collapse": Feature(lib.MOS_HAS_COLLAPSE, "6.1", "memory that is sent ahead to here comes in small pages"),
    "memfd_exec": Feature(lib.MOS_HAS_MEMFD_EXEC, "6.3", ""),
    "peer_pidfd": Feature(
        lib.MOS_HAS_PEER_PIDFD, "6.5", "who asked mosd is recognised by process number and start time alone"),
    "wp_async": Feature(lib.MOS_HAS_WP_ASYNC, "6.7", _AHEAD),
    "pagemap_scan": Feature(lib.MOS_HAS_PAGEMAP_SCAN, "6.7", _AHEAD),
    "thread_pidfd": Feature(
        lib.MOS_HAS_THREAD_PIDFD, "6.9", "descriptors of threads that do not share those of their process are not copied"),
    "procmap_query": Feature(lib.MOS_HAS_PROCMAP_QUERY, "6.11", "maps of memory are read as text"),
    "droppable": Feature(
        lib.MOS_HAS_DROPPABLE, "6.11", "droppable memory of guests is ordinary memory that forks do not get"),
    "slices": Feature(lib.MOS_HAS_SLICES, "6.12", "a busy node starts and serves programs later"),
    "guards": Feature(lib.MOS_HAS_GUARDS, "6.13", "programs that have guard pages do not come here"),
    "guards_told": Feature(lib.MOS_HAS_GUARDS_TOLD, "6.15", "programs that have guard pages do not leave"),
}


def hidden(text: str) -> frozenset[str]:
    """The features that a value of MOSIX_KERNEL_WITHOUT names; other words mean nothing."""
    words = text.replace(",", " ").split()
    return frozenset(FEATURES if "all" in words else FEATURES.keys() & set(words))


HIDDEN = hidden(os.environ.get("MOSIX_KERNEL_WITHOUT", ""))
lib.mos_hide(sum(FEATURES[name].number for name in HIDDEN))


@cache
def has(name: str) -> bool:
    """Whether this kernel has one of `FEATURES`, and lets us use it."""
    return bool(lib.mos_probe(FEATURES[name].number))


def missing() -> Iterator[str]:
    """A line for each feature that is not here and is missed; all have been asked for afterwards."""
    for name, feature in FEATURES.items():
        if not has(name) and feature.lost:
            yield f"this kernel is without {name} (Linux {feature.since}): {feature.lost}"
