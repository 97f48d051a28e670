"""A checkpoint that was asked for: its record."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum


class Then(StrEnum):
    """What a program does after its checkpoint; the values are the words of mosmigrate(1)."""

    GO_ON = "checkpoint"
    STOP = "chkstop"
    EXIT = "chkexit"


@dataclass(slots=True)
class Saving:
    """``done`` is told "" or why there is no checkpoint, and its number; ``seq``: number of a user's request; ``own``: it is the
    program's own request, ``numbered``: answered by the number; ``back``: the node that the program has left for it; ``ahead``:
    does slice by slice what is done before the program stands."""

    done: Callable[[str, int], None]
    then: Then = Then.GO_ON
    seq: int = 0
    own: bool = False
    numbered: bool = False
    back: str = ""
    tries: int = 0
    ahead: Iterator[None] | None = None
