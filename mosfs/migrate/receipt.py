"""How much of an image may come, and how long it may take: who receives one serves nothing else of its tree meanwhile.

`Channel.receive` waits for each piece as long as it makes progress. That alone would let a peer go on for ever, by a little at a
time or by an image without end.
"""

from __future__ import annotations

from collections.abc import Sequence

from mosfs.migrate.image import BadImage, Vma
from mosfs.wire.channel import COST, Pace, Peer
from mosfs.wire.frames import Frame
from mosfs.wire.room import Memory

#: What comes may be so many times what is mapped (each page has a header of its own, pages of files may come anew), and so many
#: bytes more: frames of other programs on the same channel.
TIMES, BESIDE = 2, 1 << 30


class TooSlow(BadImage):
    """An image that keeps others waiting for too long. Nobody takes what is left of it; its channel is as good as before."""


class Receipt:
    """The frames of ``channel`` from the first of an image to its last, and those between that belong to others."""

    def __init__(self, channel: Peer, most: float = BESIDE, *, others: bool = False) -> None:
        """``most``: bytes, until `expect` says more. ``others``: of programs wait for this image, too (`Pace`)."""
        self._channel = channel
        self._pace = Pace(others=others)
        self._others = others
        self._in_time = True
        self._came = self._beside = 0
        self._most = most
        self._memory = Memory()

    def expect(self, vmas: Sequence[Vma], shared: int = 0) -> None:
        """All the mappings of the image; ``shared``: bytes of memory that it brings for others, too."""
        self._most = BESIDE + TIMES * (shared + sum(vma.end - vma.start for vma in vmas))

    def next(self) -> Frame:
        """ChannelLost, for good, if the peer says nothing, too little or too much; where others wait, `TooSlow` from then on."""
        if not self._in_time:
            raise TooSlow(f"{self._came >> 10} KB of it have come, too slowly for others who wait")
        before = self._channel.waited
        frame = self._channel.receive()
        self._came += len(frame.payload) + COST
        if self._came > self._most:
            raise self._channel.fail(f"{self._came} bytes of an image that has at most {self._most}")
        self._in_time = self._pace.waited(self._channel.waited - before)
        self._pace.took(len(frame.payload))
        if not (self._in_time or self._others):
            raise self._channel.fail(f"{self._came} bytes of an image, too slowly")
        return frame

    def beside(self, frame: Frame) -> Frame:
        """``frame``, which is about another program, and waits until the image has come: what is mapped says nothing about how many
        of those there may be. ChannelLost, for good, when it is too many."""
        self._beside += len(frame.payload) + COST
        if self._beside > BESIDE or not self._memory.holds(self._beside):
            raise self._channel.fail(f"{self._beside >> 20} MB about other programs within an image")
        return frame
