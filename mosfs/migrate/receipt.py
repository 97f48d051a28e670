"""How much of an image may come, and how long it may take: who receives one serves nothing else of its tree meanwhile.

`Channel.receive` waits for each piece as long as it makes progress. That alone would let a peer go on for ever, by a little at a
time or by an image without end.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from mosfs.migrate.image import Vma
from mosfs.wire.channel import Peer
from mosfs.wire.frames import Frame

#: Seconds that any image has, and bytes of it for each second more.
GRACE, SLOWEST = 60.0, 64 << 10
#: What comes may be so many times what is mapped (each page has a header of its own, pages of files may come anew), and so many
#: bytes more: frames of other programs on the same channel.
TIMES, BESIDE = 2, 1 << 30


class Receipt:
    """The frames of ``channel`` from the first of an image to its last, and those between that belong to others."""

    def __init__(self, channel: Peer, most: float = BESIDE, clock: Callable[[], float] = time.monotonic) -> None:
        """``most``: bytes, until `expect` says more."""
        self._channel = channel
        self._clock = clock
        self._began = clock()
        self._came = 0
        self._most = most

    def expect(self, vmas: Sequence[Vma], shared: int = 0) -> None:
        """All the mappings of the image; ``shared``: bytes of memory that it brings for others, too."""
        self._most = BESIDE + TIMES * (shared + sum(vma.end - vma.start for vma in vmas))

    def next(self) -> Frame:
        """ChannelLost, for good, if the peer says nothing, too little or too much."""
        frame = self._channel.receive()
        self._came += len(frame.payload)
        if self._came > self._most:
            raise self._channel.fail(f"{self._came} bytes of an image that has at most {self._most}")
        if self._clock() - self._began > GRACE + self._came / SLOWEST:
            raise self._channel.fail(f"{self._came} bytes of an image in {self._clock() - self._began:.0f} s")
        return frame
