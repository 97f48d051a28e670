"""How much of a buffer the program itself could give to the kernel, or have filled by it."""

from __future__ import annotations

from typing import NamedTuple

from mosfs.abi.args import Direction
from mosfs.calls.request import MAX_TRANSFER
from mosfs.trace.task import Task


class Part(NamedTuple):
    """The beginning of a buffer: ``size`` bytes, ``data`` if they go to the kernel; ``edge``: the buffer is longer."""

    size: int
    data: bytearray | None
    edge: bool


def reached(task: Task, addr: int, asked: int, direction: Direction, most: int = MAX_TRANSFER) -> Part | None:
    """What can be reached of ``asked`` bytes, no more than ``most``; None if that is nothing.

    What is only filled must be writable, since what cannot be stored must not be taken from where it comes. INOUT is read: most
    of what the kernel both reads and writes it writes in part, or not at all.
    """
    size = min(asked, most)
    if direction is Direction.OUT:
        got = task.reach(addr, size)
        return Part(got, None, got < asked) if got else None
    data = bytearray(size)
    got = task.read_into(addr, data)
    if got != size:
        del data[got:]
    return Part(got, data, got < asked) if got else None


def both_ways(task: Task, addr: int, asked: int, most: int = MAX_TRANSFER) -> Part | None:
    """As `reached`, for memory of which all comes back: it must be readable and writable."""
    size = task.reach(addr, min(asked, most))
    part = reached(task, addr, size, Direction.INOUT) if size else None
    return part and part._replace(edge=part.size < asked)
