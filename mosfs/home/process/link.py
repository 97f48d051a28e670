"""A data channel to a host, and what the host at its other end has of files that programs map."""

from __future__ import annotations

from dataclasses import dataclass, field

from mosfs.migrate.ranges import Range, common, minus
from mosfs.wire.channel import Peer


@dataclass(slots=True)
class Link:
    """A data channel to a host, shared by all programs of this tree that live there."""

    channel: Peer
    ip: str
    near: bool
    features: str = ""  # of the node there (`abi.cpu`), "" if unknown
    frames: int = 0  # which kinds it knows (`frames.GENERATION`)
    packs: int = 0  # how it unpacks memory (`migrate.packing`)
    programs: set[int] = field(default_factory=set)
    questions: int = 0  # ASK_CLOCK: by the second we know that its clocks are another kernel's


@dataclass(slots=True)
class Held:
    """What a host has of a file that a program maps (`home.away.mapped`): ranges of the file, as it was in that generation. Of what
    is only ``offered`` it asks for what it lacks. ``writable``: the program may make a shared mapping of it writable."""

    generation: int = -1
    wanted: list[Range] = field(default_factory=list)
    sent: list[Range] = field(default_factory=list)
    offered: list[Range] = field(default_factory=list)
    writable: bool = False

    def lacks(self, part: Range) -> list[Range]:
        """The host has not by itself what is in ``part``: what of that it was offered only."""
        missing = common(self.offered, [part])
        self.offered = minus(self.offered, missing)
        return missing
