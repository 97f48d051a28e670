"""Threads of mosd that wait for what a user may decide: name servers, file systems of his. Each user has some of his own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import trio

from mosfs.wire.limits import THREADS, Shares

T = TypeVar("T")


@dataclass(slots=True)
class Threads:
    shares: Shares = field(default_factory=lambda: Shares(THREADS))
    _limiters: dict[int, trio.CapacityLimiter] = field(default_factory=dict)

    async def run(self, uid: int, function: Callable[..., T], *args: object) -> T:
        """``function`` in a thread, as soon as ``uid`` has one to spare. If this is cancelled that one is his until it ends."""
        uid = self.shares.whose(uid)
        self._limiters = {user: limiter for user, limiter in self._limiters.items() if _used(limiter)}
        limiter = self._limiters.setdefault(uid, trio.CapacityLimiter(1))
        limiter.total_tokens = self.shares.most(uid, self._limiters.keys())
        return await trio.to_thread.run_sync(function, *args, abandon_on_cancel=True, limiter=limiter)


async def looked_up(threads: Threads, uid: int, resolve: Callable[[str], str | None], node: str) -> str | None:
    """What ``uid`` has typed, as an IP. Only for a name others may have to be asked, which may take its time."""
    return await threads.run(uid, resolve, node) if node.strip("0123456789.") else resolve(node)


def _used(limiter: trio.CapacityLimiter) -> bool:
    statistics = limiter.statistics()
    return bool(statistics.borrowed_tokens or statistics.tasks_waiting)
