"""How much of the post office one user may take up, and whose turn it is when there is room again (docs/design/security.md).

Messages lie in memory of mosd, which no limit of the user's own bounds. So the unread bytes of all mailboxes of a user have a
limit, and so have the bytes of messages that are on their way; who wants more waits as for a mailbox that is full. Where memory is
short all users together get no more than a third of it, and root another.
"""

from __future__ import annotations

import errno
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import trio

from mosfs.mbox.model import Mailbox, Sender
from mosfs.wire.limits import MAIL_BYTES, MAILBOXES, ROOT, Limit, Shares, within
from mosfs.wire.room import Memory, available

#: (home, pid) of a program; home is an unsigned integer.
Key = tuple[int, int]

FIRST_PAUSE, LAST_PAUSE = 0.001, 0.02
#: Seconds until the mailboxes of a user who has too much in them are counted again.
RECOUNT = 0.02
#: Bytes that a message takes here beside its own.
COST = 512


@dataclass(slots=True)
class Room:
    """The bytes of each user's messages in ``boxes`` that nobody has read, and the bytes ``under_way`` to other nodes.

    The count is kept by adding only, so it is never too low; when it reaches the limit it is made anew. ``memory``: bytes that
    programs could still get.
    """

    boxes: Mapping[Key, Mailbox]
    clock: Callable[[], float] = trio.current_time
    unread: Shares = field(default_factory=lambda: Shares(MAIL_BYTES))
    under_way: Shares = field(default_factory=lambda: Shares(MAIL_BYTES))
    memory: Callable[[], int] = available
    _counted: dict[int, float] = field(default_factory=dict)
    _unseen: int = Memory.LOOK  # bytes that have come since we looked at the memory
    _most: Limit = field(init=False)

    def __post_init__(self) -> None:
        self._most = self.unread.limit

    def may_open(self, uid: int) -> bool:
        """Whether ``uid`` may have one more mailbox here."""
        shares = Shares(MAILBOXES, self.unread.admin)
        for box in self.boxes.values():
            shares.add(box.uid)
        return shares.may(uid)

    def add(self, uid: int, size: int, messages: int = 1) -> None:
        """Messages of so many bytes have been accepted for a mailbox of ``uid``."""
        self.unread.add(uid, size + COST * messages)
        self._unseen += size + COST * messages

    def fits(self, uid: int, size: int) -> bool:
        """Whether a message of ``size`` bytes, which nobody has read, may be here for ``uid``; one always may."""
        return self._may(self.unread, uid, size + COST)

    def may_send(self, uid: int, size: int) -> bool:
        """Whether a message of ``size`` bytes may be on its way for ``uid``; one always may."""
        return self._may(self.under_way, uid, size)

    @contextmanager
    def sending(self, uid: int, size: int) -> Iterator[None]:
        """Such a message is on its way."""
        self.under_way.add(uid, size)
        self._unseen += size
        try:
            yield
        finally:
            self.under_way.give(uid, size)

    def _may(self, shares: Shares, uid: int, size: int) -> bool:
        if self._unseen >= Memory.LOOK:
            self._look()
        if self._allows(shares, uid, size):
            return True
        now, uid = self.clock(), self.unread.whose(uid)
        if now - self._counted.get(uid, float("-inf")) >= RECOUNT:
            self._counted[uid] = now
            self.unread.held = Counter()
            for box in self.boxes.values():
                self.unread.add(box.uid, box.size + COST * len(box.queue))
            self._look()
        return self._allows(shares, uid, size)

    def _allows(self, shares: Shares, uid: int, size: int) -> bool:
        """Each has a share; where memory is short that is not enough, since shares get smaller with each user who comes."""
        if not shares.may(uid, size):
            return False
        short, who = shares.limit.total < self._most.total, shares.whose(uid)
        if not short or not shares.held.get(who) or who in (ROOT, shares.admin):
            return True
        return self._taken() + size <= shares.limit.total

    def _taken(self) -> int:
        return self.unread.held.total() + self.under_way.held.total()

    def _look(self) -> None:
        """All messages together take up a third of what would be free without them."""
        self._unseen = 0
        self.unread.limit = self.under_way.limit = within(self._most, (self._taken() + self.memory()) // 3)


#: Would the message of this sender and size be accepted? 0, or an errno value.
Probe = Callable[[Sender, Key, int], Awaitable[int]]


@dataclass(slots=True)
class Watchers:
    """Senders that wait for room in mailboxes of other nodes. One of each mailbox is asked for at a time, in turn: so what waits
    costs the same whether they are two or two thousand."""

    probe: Probe
    wake: Callable[[Key], None]
    waiting: dict[Key, OrderedDict[Key, tuple[Sender, int]]] = field(default_factory=dict)

    def add(self, sender: Sender, to: Key, size: int) -> bool:
        """True: this is the first who waits for ``to``, and somebody must `watch` it."""
        first = to not in self.waiting
        self.waiting.setdefault(to, OrderedDict())[sender.home, sender.pid] = sender, size
        return first

    async def watch(self, to: Key) -> None:
        """Try the senders that wait for ``to`` again, until there are none."""
        queue, pause = self.waiting[to], FIRST_PAUSE
        try:
            while queue:
                await trio.sleep(pause)
                key, (sender, size) = next(iter(queue.items()))
                result = await self.probe(sender, to, size)
                if result == errno.EAGAIN:
                    pause = min(pause * 1.5, LAST_PAUSE)
                    if key in queue:
                        queue.move_to_end(key)
                elif result:  # it cannot be reached, or is no more: each will hear that itself
                    break
                else:
                    pause = FIRST_PAUSE
                    if queue.pop(key, None) is not None:
                        self.wake(key)
        finally:
            del self.waiting[to]
            for key in queue:
                self.wake(key)
