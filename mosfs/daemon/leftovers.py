"""What programs have left of their private files, and others can write to still: their tracers, which end, give it to mosd."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field

import trio

from mosfs.daemon.tasks import survived
from mosfs.daemon.threads import Threads
from mosfs.ptf.left import still_open
from mosfs.wire.limits import PRIVATE_LEFT, Shares

#: Seconds between looks: what is written to such a file is there for so long.
PERIOD = 1.0


@dataclass(slots=True)
class Leftovers:
    """``held``: descriptors by user, the oldest first. Of more than a user may have the oldest are given up."""

    shares: Shares = field(default_factory=lambda: Shares(PRIVATE_LEFT))
    held: dict[int, list[int]] = field(default_factory=dict)

    def take(self, uid: int, fds: Iterable[int], *, older: bool = False) -> None:
        """Keep the files of these empty, which programs of ``uid`` have left; they are ours from now on."""
        uid = self.shares.whose(uid)
        known = self.held.pop(uid, [])
        mine = [*fds, *known] if older else [*known, *fds]
        for fd in mine:
            os.set_inheritable(fd, False)
        most = self.shares.most(uid, self.held.keys())
        for fd in mine[:-most]:
            os.close(fd)
        if mine:
            self.held[uid] = mine[-most:]

    async def run(self, threads: Threads) -> None:
        """Look at them until cancelled."""
        while True:
            await trio.sleep(PERIOD)
            with survived("a look at what private files have left"):
                await self.look(threads)

    async def look(self, threads: Threads) -> None:
        """Cut what has been written, and close what nobody can write to any more."""
        for uid in list(self.held):
            fds = self.held.pop(uid)  # nobody closes them while the thread has them
            self.take(uid, await threads.run(uid, still_open, fds), older=True)
