"""Programs that wait for a node with enough memory (mosrun(1), -b with -m): one look for all of them, and users take turns."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import trio

from mosfs.daemon.tasks import survived
from mosfs.node.choice import most_free
from mosfs.node.world import World
from mosfs.wire.limits import WAITING, Shares

#: Seconds between two looks, and programs that start after one: the nodes' memory must show it before the next ones do.
LOOK_FOR_ROOM = 0.5
STARTS = 16


@dataclass(slots=True, eq=False)
class Waiter:
    need_mb: int
    may_go: trio.Event = field(default_factory=trio.Event)


@dataclass(slots=True)
class Queue:
    """``users``: who waits, by user; the one whose turn it is first."""

    world: World
    shares: Shares = field(default_factory=lambda: Shares(WAITING))
    users: dict[int, deque[Waiter]] = field(default_factory=dict)

    async def run(self) -> None:
        while True:
            await trio.sleep(LOOK_FOR_ROOM)
            with survived("a look for memory"):
                if self.users:
                    self.look(most_free(self.world))

    def look(self, free_mb: int) -> None:
        """Let those go for whom ``free_mb`` are enough, one of each user in turn."""
        for _ in range(STARTS):
            uid, waiter = next(self._fitting(free_mb), (0, None))
            if waiter is None:
                return
            waiter.may_go.set()
            self._leave(uid, waiter)
            if uid in self.users:  # its next one comes behind all others
                self.users[uid] = self.users.pop(uid)

    def _fitting(self, free_mb: int) -> Iterator[tuple[int, Waiter | None]]:
        for uid, queue in self.users.items():
            for waiter in queue:
                if waiter.need_mb <= free_mb:
                    yield uid, waiter

    @contextmanager
    def waiting(self, uid: int, need_mb: int) -> Iterator[trio.Event]:
        """The event comes when it may go. OSError EAGAIN when ``uid`` has too many that wait."""
        uid = self.shares.whose(uid)
        with self.shares.one(uid):
            waiter = Waiter(need_mb)
            self.users.setdefault(uid, deque()).append(waiter)
            try:
                yield waiter.may_go
            finally:
                self._leave(uid, waiter)

    def _leave(self, uid: int, waiter: Waiter) -> None:
        if (queue := self.users.get(uid)) is not None and waiter in queue:
            queue.remove(waiter)
            if not queue:
                del self.users[uid]
