"""The post office of a node: the mailboxes of programs that run here, and what programs here send (docs/design/mailboxes.md).

    program -> tracer or host -> MailTake, MailPut, ... -> Office --> a mailbox of this node
                                                               \\-> daemon.post -> the office of another node

A mailbox is where its program last used it. When the program asks for it at another node, that node claims it: the home-node
lets one node claim at a time, and says who has it; the old holder gives it away as a whole. Nothing here waits for a program, and
no program waits for anything here without a bound. What tracers and hosts ask comes by `mail_requests`, what the tree shows goes by
`mail_files`; mailboxes that are lent to a desk are kept by `lending`.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import logging
import os
import signal
from dataclasses import dataclass, field, replace
from typing import Protocol

import trio

from mosfs.cluster.address import as_unsigned, to_ip
from mosfs.daemon.connection import Connection
from mosfs.daemon.lending import Lending
from mosfs.daemon.room import FIRST_PAUSE, LAST_PAUSE, Key, Room, Watchers
from mosfs.daemon.tasks import guarded
from mosfs.mbox.body import Body
from mosfs.mbox.model import Flag, Mailbox, Sender
from mosfs.mbox.stream import MOST_LATE
from mosfs.node.world import World
from mosfs.trace.caller import open_pidfd
from mosfs.wire.messages import MailHeld, MailWake

log = logging.getLogger(__name__)

#: Seconds that a message may look for a mailbox that is on its way.
PATIENCE = 15.0
#: Ends of the search for a receiver: no such process, it lets nobody send, its node is not one of ours.
ELSEWHERE = errno.EXDEV


class Way(Protocol):
    """The way to other nodes (`daemon.post.Post`). OSError with the manual's errno when there is none."""

    async def where(self, node: str, pid: int) -> str: ...
    async def deliver(
        self, node: str, sender: Sender, to: Key, name: bytes, size: int, body: Body | None, *, late: bool
    ) -> int: ...
    async def fetch(self, key: Key) -> Mailbox | None: ...
    async def drop(self, node: str, key: Key) -> None:
        """Its program has closed the mailbox."""

    async def signal(self, node: str, pid: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Given:
    """A mailbox that another node has asked for; kept until it says that all of it has arrived. ``to``: that node's IP."""

    box: Mailbox
    serial: int
    to: str


@dataclass(slots=True)
class Office:
    """``at``: holders of mailboxes of home programs, if they are not here. ``leaving``: given away, not yet acknowledged.

    ``lines``: where a waiting program's MailWake goes. ``readers`` wait for a message, ``writers`` for room in a mailbox here.
    ``claimants``: the nodes that have the locks of ``claims``. ``crowded``: mailboxes whose senders wait because all those of its
    user have too much in them.
    """

    world: World
    nursery: trio.Nursery
    boxes: dict[Key, Mailbox] = field(default_factory=dict)
    at: dict[int, str] = field(default_factory=dict)
    leaving: dict[Key, Given] = field(default_factory=dict)
    lines: dict[Key, Connection] = field(default_factory=dict)
    readers: set[Key] = field(default_factory=set)
    writers: dict[Key, set[Key]] = field(default_factory=dict)
    claims: dict[int, trio.Lock] = field(default_factory=dict)
    claimants: dict[int, str] = field(default_factory=dict)
    known: dict[Key, str] = field(default_factory=dict)
    way: Way | None = None
    room: Room = field(init=False)
    lending: Lending = field(init=False)
    watchers: Watchers = field(init=False)
    crowded: set[Key] = field(default_factory=set)
    _trying_again: bool = False
    _ensuring: dict[Key, trio.Lock] = field(default_factory=dict)
    _names: itertools.count[int] = field(default_factory=itertools.count)
    _serials: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    _prefix: bytes = field(default_factory=lambda: os.urandom(8))

    def __post_init__(self) -> None:
        self.room = Room(self.boxes, self.world.clock)
        self.lending = Lending(self.boxes, self.room)
        self.watchers = Watchers(self._probe_afar, self.wake)

    @property
    def me(self) -> int:
        return as_unsigned(self.world.ip)

    def has(self, key: Key) -> bool:
        """The mailbox is here, and no desk has it."""
        return key in self.boxes and key not in self.lending.loans

    # ------------------------------------------------------------------ delivering

    async def _probe_afar(self, sender: Sender, to: Key, size: int) -> int:
        """Whether a sender who waits would not wait again: 0, EAGAIN, or that the receiver is no more."""
        if not self.room.may_send(sender.uid, size):
            return errno.EAGAIN
        return await self.send(sender, to, b"", size, None)

    def name(self) -> bytes:
        """A name that no other message of any node has."""
        return self._prefix + next(self._names).to_bytes(8, "little")

    def deliver(self, box: Mailbox, sender: Sender, name: bytes, body: Body, *, late: bool) -> int:
        """Into a mailbox of this node; 0 or an errno value (EAGAIN: no room). It takes the body if 0.

        ``late``: it takes the body even if there is no room; EAGAIN tells that there is none for another one.
        """
        if box.is_repeated(sender, name):  # whatever its flags are by now
            body.close()
            return 0
        if box.refuses(sender):
            return errno.EACCES
        if late and box.overflows(len(body)):
            return errno.ENOBUFS
        if not late and not self._fits(box, len(body)):
            return errno.EAGAIN
        box.put(sender, name, body)
        self.room.add(box.uid, len(body))
        key = (box.home, box.pid)
        self.lending.delivered(key)
        if key in self.readers:
            self.readers.discard(key)
            self.wake(key)
        if Flag.SIGIO in box.flags:
            self._sigio(key)
        return errno.EAGAIN if late and not box.has_room(MOST_LATE) else 0

    def probe(self, box: Mailbox, sender: Sender, size: int) -> int:
        """Would a message be accepted now?"""
        return errno.EACCES if box.refuses(sender) else 0 if self._fits(box, size) else errno.EAGAIN

    def _fits(self, box: Mailbox, size: int) -> bool:
        if not box.has_room(size):
            return False
        if self.room.fits(box.uid, size):
            return True
        if not self._trying_again:
            self._trying_again = True
            self.nursery.start_soon(guarded, self._try_again)
        self.crowded.add((box.home, box.pid))
        return False

    async def _try_again(self) -> None:
        """Memory becomes free without anybody's having read, too: who waits for it is woken once a second."""
        await trio.sleep(1)
        while self.crowded:
            self.emptied()
            await trio.sleep(1)
        self._trying_again = False

    async def send(self, sender: Sender, to: Key, name: bytes, size: int, body: Body | None, *, late: bool = False) -> int:
        """Wherever the mailbox is; 0 or an errno value. ``body`` None: would it be accepted?"""
        pause, until = FIRST_PAUSE, trio.current_time() + PATIENCE
        silent = ""
        while trio.current_time() < until:
            if not await self.lending.usable(to, late=late):
                return errno.EAGAIN
            if box := self.boxes.get(to):
                return self.probe(box, sender, size) if body is None else self.deliver(box, sender, name, body, late=late)
            try:
                node = await self._find(to)
                if node != self.world.ip and self.way is not None:
                    result = await self.way.deliver(node, sender, to, name, size, body, late=late)
                    if result != ELSEWHERE:
                        return result
            except OSError as error:
                node = self.known.pop(to, "")
                if node in ("", silent):
                    return error.errno or errno.EIO
                silent = node  # perhaps it is elsewhere by now
                continue
            self.known.pop(to, None)
            await trio.sleep(pause)
            pause = min(pause * 1.5, LAST_PAUSE)
        return errno.EIO

    async def _find(self, to: Key) -> str:
        """The node that has the mailbox; OSError as `where`."""
        home = to_ip(to[0])
        if to[0] == self.me:
            return self.where(to[1])
        if not self.world.map.relation(home).known:
            self.known.pop(to, None)
            raise OSError(errno.ECONNABORTED, "not in map")
        if to not in self.known:
            if self.way is None:
                raise OSError(errno.ENETUNREACH, "no way")
            node = await self.way.where(home, to[1])
            self.known[to] = node
        return self.known[to]

    def where(self, pid: int) -> str:
        """The holder of a home program's mailbox; OSError: ESRCH no such program, EACCES it has none."""
        if (self.me, pid) in self.boxes or (self.me, pid) in self.leaving:
            return self.world.ip
        if pid in self.at:
            return self.at[pid]
        raise OSError(errno.EACCES if pid in self.world.programs else errno.ESRCH, "no mailbox")

    def wake(self, key: Key) -> None:
        connection = self.lines.get(key)
        if connection is not None:
            with contextlib.suppress(ConnectionError):
                connection.post(MailWake(*key))

    def hung_up(self, connection: Connection) -> None:
        """Nobody waits at the end of it any more."""
        for key in [key for key, line in self.lines.items() if line is connection]:
            del self.lines[key]
        for key in self.lending.hung_up(connection):
            self.given(key, 0)

    def emptied(self, *keys: Key) -> None:
        """Something was taken out of these mailboxes: local senders may try again."""
        crowded, self.crowded = self.crowded, set()
        for full in {*keys, *crowded}:
            for sender in self.writers.pop(full, ()):
                self.wake(sender)

    def _sigio(self, key: Key) -> None:
        if key[0] == self.me:
            self.signal(key[1])
        elif self.way is not None:
            self.nursery.start_soon(guarded, self.way.signal, to_ip(key[0]), key[1])

    def signal(self, pid: int) -> None:
        """SIGIO for a home program: for the process that our tracer holds, and no other that got its number."""
        if pid not in self.world.programs:
            return
        pidfd = open_pidfd(pid)
        if pidfd < 0:
            return
        try:
            with contextlib.suppress(ProcessLookupError):
                if self.world.traced(pid):
                    signal.pidfd_send_signal(pidfd, signal.SIGIO)
        finally:
            os.close(pidfd)

    # ------------------------------------------------------------------ where mailboxes are

    async def ensure(self, key: Key) -> Mailbox | None:
        """The mailbox, brought here if it is elsewhere; None: there is none (any more)."""
        if key in self.boxes:
            return self.boxes[key]
        lock = self._ensuring.setdefault(key, trio.Lock())
        try:
            async with lock:
                if key in self.boxes:
                    return self.boxes[key]
                if (key[0] == self.me and key[1] not in self.at) or self.way is None:
                    return None
                return await self.way.fetch(key)
        finally:
            if not lock.locked():  # nobody waits for it, either: a lock is handed on at once
                self._ensuring.pop(key, None)

    def accept(self, key: Key, box: Mailbox) -> None:
        """It came from another node."""
        self.boxes[key] = box
        self.room.add(box.uid, box.size, len(box.queue))
        if (old := self.leaving.pop(key, None)) is not None:
            _destroy(old.box)
        if key[0] == self.me:
            self.note_holder(key[1], "")

    def note_holder(self, pid: int, node: str) -> None:
        """``node`` holds the mailbox of a home program; "" when no other node does. Its tracer, which outlives us, is told."""
        if node:
            self.at[pid] = node
        elif self.at.pop(pid, None) is None:
            return
        program = self.world.programs.get(pid)
        if program is not None and program.send is not None:
            with contextlib.suppress(ConnectionError):
                program.send(MailHeld(pid, node))

    def recall(self, pid: int, node: str) -> None:
        """What a tracer has kept in mind: counts if we do not know, as a mosd that was started after the mailbox moved."""
        if node and node != self.world.ip and (self.me, pid) not in self.boxes:
            self.at.setdefault(pid, node)

    def give_away(self, key: Key, to: str) -> Given | None:
        """For the node ``to``; asked again until it is acknowledged, the same is given again."""
        box = self.boxes.pop(key, None)
        if box is not None:
            box.finish_read(0)
            self.leaving[key] = Given(box, next(self._serials), to)
            self.readers.discard(key)
            self.emptied(key)
        elif key in self.leaving:
            self.leaving[key] = replace(self.leaving[key], to=to)
        return self.leaving.get(key)

    def given(self, key: Key, serial: int) -> None:
        """It has arrived at another node; ``serial`` 0: whatever is here of it, nobody wants it."""
        left = self.leaving.get(key)
        if left is not None and serial in (0, left.serial):
            _destroy(self.leaving.pop(key).box)
        if not serial:
            if (box := self.boxes.pop(key, None)) is not None:
                _destroy(box)
            self.lending.forget(key)
            self.readers.discard(key)
            self.emptied(key)

    async def discard(self, key: Key) -> None:
        """A home program has closed its mailbox, or has ended."""
        holder = self.at.get(key[1])
        self.note_holder(key[1], "")
        self.given(key, 0)
        if holder is not None and self.way is not None:
            with contextlib.suppress(OSError):
                await self.way.drop(holder, key)

    def ended(self, pid: int) -> None:
        """A home program has ended."""
        self.claims.pop(pid, None)
        self.lines.pop((self.me, pid), None)
        self.nursery.start_soon(guarded, self.discard, (self.me, pid))


def _destroy(box: Mailbox) -> None:
    box.finish_read(0)
    for message in box.queue:
        if isinstance(message.body, Body):
            message.body.close()
    box.queue.clear()
