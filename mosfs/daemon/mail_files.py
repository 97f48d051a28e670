"""What the tree shows of mailboxes, and what any process writes to them there (`mosfs.node.letters.Letters`)."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from dataclasses import dataclass, field

import trio

from mosfs.cluster.address import to_ip
from mosfs.daemon.office import Office
from mosfs.daemon.room import Key
from mosfs.mbox.body import Body
from mosfs.mbox.model import Sender

OUTSIDER_PATIENCE = 5.0  #: seconds, of somebody who writes to a file of mbox/
#: Who writes to such a file locks it: the kernel lets nobody else in meanwhile. So when one has waited in vain for another node,
#: those behind are told at once, for so many seconds.
SILENCE = 1.0
UNREACHED = frozenset({errno.ETIMEDOUT, errno.ENETUNREACH, errno.ECONNREFUSED, errno.EIO})


@dataclass(slots=True)
class MailFiles:
    """``_silent``: until when, and with which errno value, writers to a mailbox are told at once."""

    office: Office
    _silent: dict[Key, tuple[float, int]] = field(default_factory=dict)

    def homes(self) -> Iterable[int]:
        return {home for home, _ in self.office.boxes}

    def pids(self, home: int) -> Iterable[int]:
        return [pid for found, pid in self.office.boxes if found == (home or self.office.me)]

    def owner(self, home: int, pid: int) -> int | None:
        box = self.office.boxes.get((home or self.office.me, pid))
        return None if box is None else box.uid

    async def collect(self, home: int, pid: int) -> None:
        with trio.move_on_after(OUTSIDER_PATIENCE):
            await self.office.lending.back((home or self.office.me, pid))

    def show(self, home: int, pid: int) -> str:
        """One line about the mailbox, then one a message: its sender's home and PID, where it was sent, and its length."""
        box = self.office.boxes.get((home or self.office.me, pid))
        if box is None:
            raise OSError(errno.ENOENT, "not here")
        shown = (f"{to_ip(m.home)} {m.pid} {to_ip(m.location)} {m.length}\n" for m in box.queue)
        return f"messages {len(box.queue)} bytes {box.size} flags {int(box.flags)} filters {len(box.stored)}\n" + "".join(shown)

    async def post(self, uid: int, gid: int, writer: int, home: int, pid: int, data: bytes) -> int:
        """A message of a process that need not be ours. Its write(2) cannot be interrupted, so it never waits for room."""
        to = (home or self.office.me, pid)
        began = trio.current_time()
        until, result = self._silent.get(to, (0.0, 0))
        if began < until:
            return result
        result = errno.ETIMEDOUT
        with trio.move_on_after(OUTSIDER_PATIENCE):
            sender = Sender(self.office.me, writer, uid, gid, self.office.me)
            result = await self.office.send(sender, to, self.office.name(), len(data), Body(data))
        now = trio.current_time()
        if result in UNREACHED and now - began > SILENCE:
            self._silent = {key: kept for key, kept in self._silent.items() if kept[0] > now}
            self._silent[to] = now + SILENCE, result
        return errno.ENOSPC if result == errno.EAGAIN else result
