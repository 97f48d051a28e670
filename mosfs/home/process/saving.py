"""A checkpoint that was asked for: its record."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from mosfs.home.process.link import Link
from mosfs.home.process.move import Standing


class Then(StrEnum):
    """What a program does after its checkpoint; the values are the words of mosmigrate(1)."""

    GO_ON = "checkpoint"
    STOP = "chkstop"
    EXIT = "chkexit"


@dataclass(slots=True)
class Saving:
    """``done`` is told "" or why there is no checkpoint, and its number; ``seq``: number of a user's request; ``own``: it is the
    program's own request, of the thread with this ID, ``numbered``: answered by the number; ``back``: the node that the program has
    left for it; ``ahead``: does slice by slice what is done before the program stands. ``standing``: its other threads, while they
    stand (`move.Stands`)."""

    done: Callable[[str, int], None]
    then: Then = Then.GO_ON
    seq: int = 0
    own: int = 0
    numbered: bool = False
    back: str = ""
    tries: int = 0
    ahead: Iterator[None] | None = None
    standing: dict[int, Standing] = field(default_factory=dict)
    frozen_at: float = 0.0

    @property
    def link(self) -> Link | None:
        """It goes nowhere."""
        return None

    @property
    def freezes(self) -> Link | None:
        """Nor into a file from which it is to come back."""
        return None
