"""What is asked of the post office of this node."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol


class Letters(Protocol):
    """What the tree asks of the post office. ``home`` is an unsigned integer, 0 for this node."""

    def homes(self) -> Iterable[int]:
        """Home-nodes of the mailboxes that are here."""

    def pids(self, home: int) -> Iterable[int]: ...
    def owner(self, home: int, pid: int) -> int | None:
        """User of the mailbox, if it is here."""

    async def collect(self, home: int, pid: int) -> None:
        """What `show` tells is complete when this returns."""

    def show(self, home: int, pid: int) -> str:
        """The state of a mailbox that is here."""

    async def post(self, uid: int, gid: int, writer: int, home: int, pid: int, data: bytes) -> int:
        """Send; 0 or an errno value, in bounded time."""
