"""What the parts of a host may ask of it: the few ways that lead back up. All else goes from `host` down (picture: the package).

`host.Host` is made of these parts and gives itself to them, as no more than the protocol that they name.
"""

from __future__ import annotations

from typing import Protocol

from mosfs.guest.body import Body
from mosfs.wire.frames import Frame


class Serving(Protocol):
    """A call that was put off, or broken off, is served from its beginning."""

    def trapped(self, body: Body) -> None:
        """The body stands before its call as if it had just come there."""

    def again(self, body: Body, result: int) -> None:
        """Home's call was broken off (``result``: with what) without anything that the program should see: go on with it."""


class Ending(Protocol):
    """Bodies that are not here any more."""

    def died(self, body: Body, status: int, *, failed: bool = False) -> None:
        """Its process is gone, with the wait status of a signal; ``failed``: we have ended it, since we could not serve it."""

    def remove(self, body: Body, *, kill: bool = False) -> None:
        """Forget it; ``kill``: and end it."""


class Frames(Protocol):
    """Frames of the channel to home that had to wait."""

    def frame(self, frame: Frame) -> None: ...


class Messages(Protocol):
    """mosd has something to say."""

    def hear(self) -> None:
        """Receive and deal with what has come on the control socket."""
