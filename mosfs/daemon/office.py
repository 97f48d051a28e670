"""The post office of a node: the mailboxes of programs that run here, and what programs here send (docs/design/mailboxes.md).

    program -> tracer or host -> MailTake, MailPut, ... -> Office --> a mailbox of this node
                                                               \\-> daemon.post -> the office of another node

A mailbox is where its program last used it. When the program asks for it at another node, that node claims it: the home-node
lets one node claim at a time, and says who has it; the old holder gives it away as a whole. Nothing here waits for a program, and
no program waits for anything here without a bound.
"""

from __future__ import annotations

import contextlib
import errno
import io
import itertools
import logging
import math
import os
import signal
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Protocol

import trio

from mosfs.cluster.address import as_unsigned, to_ip
from mosfs.daemon.connection import Connection
from mosfs.daemon.room import FIRST_PAUSE, LAST_PAUSE, Room, Watchers
from mosfs.daemon.tasks import guarded
from mosfs.mbox.body import Body
from mosfs.mbox.borrowed import last_message
from mosfs.mbox.filters import EVERYTHING, unpack, unpack_stored
from mosfs.mbox.model import PEEK, Flag, Mailbox, Message, Sender, Taken
from mosfs.mbox.stream import MOST_LATE
from mosfs.node.world import World
from mosfs.wire.messages import (
    LeftBox,
    MailAnswer,
    MailBack,
    MailClose,
    MailFilters,
    MailHeld,
    MailOpen,
    MailPut,
    MailRecall,
    MailReturned,
    MailTake,
    MailWake,
)

log = logging.getLogger(__name__)

#: (home, pid) of a program; home is an unsigned integer.
Key = tuple[int, int]
Asking = MailOpen | MailTake | MailPut | MailFilters | MailClose | MailBack
Request = Asking | MailReturned

#: Seconds that a message may look for a mailbox that is on its way.
PATIENCE = 15.0
OUTSIDER_PATIENCE = 5.0  #: of somebody who writes to a file of mbox/
#: Who writes to such a file locks it: the kernel lets nobody else in meanwhile. So when one has waited in vain for another node,
#: those behind are told at once, for so many seconds.
SILENCE = 1.0
UNREACHED = frozenset({errno.ETIMEDOUT, errno.ENETUNREACH, errno.ECONNREFUSED, errno.EIO})
#: So many messages in a row from where a mailbox is read, and it is left there; after it was needed here, so many more.
NEAR, AFTER_RECALL = 4, 64
#: Seconds for a desk to give one back; a sender is told then that there is no room, and waits as for that.
SOON = 1.0
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


@dataclass(slots=True, eq=False)
class Out:
    """A mailbox that was left with the desk at the end of a connection; ``back``: it is not there any more."""

    connection: Connection
    recalled: bool = False
    back: trio.Event = field(default_factory=trio.Event)


@dataclass(slots=True)
class Office:
    """``at``: holders of mailboxes of home programs, if they are not here. ``leaving``: given away, not yet acknowledged.

    ``lines``: where a waiting program's MailWake goes. ``readers`` wait for a message, ``writers`` for room in a mailbox here.
    ``out``: mailboxes of `boxes` that are lent to a desk (`mbox.borrowed`); whoever needs one awaits `back` first. ``near``: how
    many messages in a row have come from the connection that reads (``takers``). ``claimants``: the nodes that have the locks of
    ``claims``.
    ``crowded``: mailboxes whose senders wait because all those of its user have too much in them.
    """

    world: World
    nursery: trio.Nursery
    boxes: dict[Key, Mailbox] = field(default_factory=dict)
    at: dict[int, str] = field(default_factory=dict)
    leaving: dict[Key, Given] = field(default_factory=dict)
    lines: dict[Key, Connection] = field(default_factory=dict)
    readers: set[Key] = field(default_factory=set)
    writers: dict[Key, set[Key]] = field(default_factory=dict)
    out: dict[Key, Out] = field(default_factory=dict)
    near: dict[Key, int] = field(default_factory=dict)
    takers: dict[Key, Connection] = field(default_factory=dict)
    claims: dict[int, trio.Lock] = field(default_factory=dict)
    claimants: dict[int, str] = field(default_factory=dict)
    known: dict[Key, str] = field(default_factory=dict)
    way: Way | None = None
    room: Room = field(init=False)
    watchers: Watchers = field(init=False)
    crowded: set[Key] = field(default_factory=set)
    _silent: dict[Key, tuple[float, int]] = field(default_factory=dict)
    _ensuring: dict[Key, trio.Lock] = field(default_factory=dict)
    _names: itertools.count[int] = field(default_factory=itertools.count)
    _serials: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    _prefix: bytes = field(default_factory=lambda: os.urandom(8))

    def __post_init__(self) -> None:
        self.room = Room(self.boxes, self.world.clock)
        self.watchers = Watchers(self._probe_afar, self._wake)

    @property
    def me(self) -> int:
        return as_unsigned(self.world.ip)

    # ------------------------------------------------------------------ requests of tracers and hosts

    def request(self, connection: Connection, message: Request, beside: int) -> None:
        """Answer at once if all that it needs is here; else a task does. ``beside``: a memory file, -1 for none."""
        key = (message.home, message.pid)
        if isinstance(message, MailReturned):
            self._returned(connection, message, beside)
            return
        if key in self.out and not isinstance(message, MailPut):
            self.nursery.start_soon(guarded, self._later, connection, message, key)
            return
        match message:
            case MailTake() if key in self.boxes:
                self._take(connection, self.boxes[key], message)
            case MailBack():  # what comes behind it may depend on it
                if box := self.boxes.get(key):
                    self._settle(box, message.used)
                _post(connection, MailAnswer(message.req, 0))
            case MailPut(to_home=home, to_pid=pid) if (home, pid) in self.boxes and (home, pid) not in self.out:
                self._put(connection, message, _body(message, beside))
            case MailPut():
                self.nursery.start_soon(guarded, self._send, connection, message, _body(message, beside))
            case MailClose():
                self.nursery.start_soon(guarded, self._close, connection, message)
            case _:
                self.nursery.start_soon(guarded, self._with_box, connection, message)

    async def _close(self, connection: Connection, message: MailClose) -> None:
        """Answered when it is gone everywhere: the program may open a new one at once."""
        await self.discard((message.home, message.pid))
        _post(connection, MailAnswer(message.req, 0))

    async def _later(self, connection: Connection, message: Asking, key: Key) -> None:
        """A program's request about its own mailbox, which another desk has (still)."""
        with trio.move_on_after(PATIENCE):
            await self.back(key)
        if key in self.out:
            _post(connection, MailAnswer(message.req, -errno.ECONNRESET))
        else:
            self.request(connection, message, -1)

    async def back(self, key: Key) -> None:
        """Return when no desk has the mailbox."""
        if (out := self.out.get(key)) is not None:
            if not out.recalled:
                out.recalled = True
                with contextlib.suppress(ConnectionError):
                    out.connection.post(MailRecall(*key))
            await out.back.wait()

    async def usable(self, key: Key, *, late: bool) -> bool:
        """No desk has the mailbox. False: one does not answer soon (it may be sending an image); ``late``: then wait on."""
        with trio.move_on_after(math.inf if late else SOON):
            await self.back(key)
        return key not in self.out

    def _returned(self, connection: Connection, message: MailReturned, beside: int) -> None:
        key = (message.home, message.pid)
        body = _body(message, beside)
        out, box = self.out.get(key), self.boxes.get(key)
        if out is None or out.connection is not connection or box is None:  # it was given up meanwhile
            body.close()
        elif message.whose is not None:
            home, pid, location, start = message.whose
            box.queue.append(Message(home, pid, location, body, start))
            box.size += len(body)
            self.room.add(box.uid, len(body))
        else:
            box.ended = message.ended
            if out.recalled:
                self.near[key] = -AFTER_RECALL
            self._not_out(key)

    def _not_out(self, key: Key) -> None:
        out = self.out.pop(key, None)
        if out is not None:
            out.back.set()

    async def _with_box(self, connection: Connection, message: Asking) -> None:
        """A request that needs the program's own mailbox, which may be elsewhere."""
        key = (message.home, message.pid)
        try:
            box = await self.ensure(key)
        except OSError as error:
            _post(connection, MailAnswer(message.req, -(error.errno or errno.ECONNRESET)))
            return
        if isinstance(message, MailOpen):
            _post(connection, MailAnswer(message.req, self._open(key, box, message)))
        elif box is None:
            _post(connection, MailAnswer(message.req, -errno.ECONNRESET))
        elif isinstance(message, MailTake):
            self._take(connection, box, message)
        elif isinstance(message, MailFilters):
            self._filters(connection, box, message)

    def _open(self, key: Key, box: Mailbox | None, message: MailOpen) -> int:
        if box is None:
            if not self.room.may_open(message.uid):
                return -errno.EMFILE
            self.boxes[key] = Mailbox(*key, message.uid, message.gid, Flag(max(message.flags, 0)))
        elif message.flags >= 0:
            box.reopen(Flag(message.flags))
        return 0

    def _filters(self, connection: Connection, box: Mailbox, message: MailFilters) -> None:
        if message.filters is None:
            _post(connection, MailAnswer(message.req, 0, data=box.which(), number=len(box.stored)))
        else:
            box.stored = unpack_stored(message.filters)
            _post(connection, MailAnswer(message.req, 0))

    def _take(self, connection: Connection, box: Mailbox, message: MailTake) -> None:
        key = (box.home, box.pid)
        self._settle(box, message.used)
        if message.borrow and Flag.STREAM in box.flags:
            taken = box.lend()
        else:
            taken = box.take(message.count, unpack(message.filter) if message.filter else EVERYTHING)
        answer = MailAnswer(message.req, taken.result, lent=box.lent is not None)
        self.takers[key] = connection
        answer.wait = taken.result == -errno.EAGAIN and message.count != PEEK and Flag.NO_DELAY not in box.flags
        if answer.wait:
            self.lines[key] = connection
        if (answer.wait or taken.removed) and self._may_leave(key, box, message):
            answer.left = LeftBox(box.uid, box.gid, int(box.flags), box.ended, self.me)
            self.out[key] = Out(connection)
        elif answer.wait:
            self.readers.add(key)
        if taken.message is None:
            _post(connection, answer)
            return
        answer.last = last_message(taken.message)
        _hand_over(connection, answer, taken, peeked=message.count == PEEK)
        if taken.removed:
            self._room(key)

    def _may_leave(self, key: Key, box: Mailbox, message: MailTake) -> bool:
        streams = Flag.STREAM in box.flags and message.borrow
        return self.near.get(key, 0) >= NEAR and not (box.queue or streams or box.flags & (Flag.SIGIO | Flag.NO_DELAY))

    @staticmethod
    def _settle(box: Mailbox, used: int) -> None:
        """What the program says of the message that it was lent."""
        read = box.settle(used)
        if read is not None and isinstance(read.body, Body):
            read.body.close()

    def _put(self, connection: Connection, message: MailPut, body: Body) -> None:
        sender, to = _sender(message, self.me), (message.to_home, message.to_pid)
        near = self.near.get(to, 0) + 1
        result = self.deliver(self.boxes[to], sender, self.name(), body, late=message.late)
        accepted = not result or (message.late and result == errno.EAGAIN)
        if not accepted:
            body.close()
        elif self.takers.get(to) is connection:
            self.near[to] = near
        if message.late and accepted:
            _post(connection, MailAnswer(message.req, 0, wait=result == errno.EAGAIN))
            return
        if result == errno.EAGAIN:
            self.writers.setdefault(to, set()).add((sender.home, sender.pid))
            self.lines[sender.home, sender.pid] = connection
        _post(connection, MailAnswer(message.req, -result, wait=result == errno.EAGAIN))

    async def _send(self, connection: Connection, message: MailPut, body: Body) -> None:
        """To a mailbox that is not here, or of which we do not know."""
        sender, to = _sender(message, self.me), (message.to_home, message.to_pid)
        key = (sender.home, sender.pid)
        if not message.late and not self.room.under_way.may(sender.uid, message.size):
            result = errno.EAGAIN
        else:
            self.room.under_way.held[sender.uid] += message.size
            try:
                result = await self.send(sender, to, self.name(), message.size, body, late=message.late)
            finally:
                self.room.under_way.give(sender.uid, message.size)
        accepted = not result or (message.late and result == errno.EAGAIN)
        if to not in self.boxes or not accepted:
            body.close()
        if message.late and accepted:
            _post(connection, MailAnswer(message.req, 0, wait=result == errno.EAGAIN))
            return
        if result == errno.EAGAIN:
            self.lines[key] = connection
            if self.watchers.add(sender, to, message.size):
                self.nursery.start_soon(guarded, self.watchers.watch, to)
        _post(connection, MailAnswer(message.req, -result, wait=result == errno.EAGAIN))

    async def _probe_afar(self, sender: Sender, to: Key, size: int) -> int:
        """Whether a sender who waits would not wait again: 0, EAGAIN, or that the receiver is no more."""
        if not self.room.under_way.may(sender.uid, size):
            return errno.EAGAIN
        return await self.send(sender, to, b"", size, None)

    # ------------------------------------------------------------------ delivering

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
        self.near[key] = min(self.near.get(key, 0), 0)
        if key in self.readers:
            self.readers.discard(key)
            self._wake(key)
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
        self.crowded.add((box.home, box.pid))
        return False

    async def send(self, sender: Sender, to: Key, name: bytes, size: int, body: Body | None, *, late: bool = False) -> int:
        """Wherever the mailbox is; 0 or an errno value. ``body`` None: would it be accepted?"""
        pause, until = FIRST_PAUSE, trio.current_time() + PATIENCE
        silent = ""
        while trio.current_time() < until:
            if not await self.usable(to, late=late):
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
        if not self.world.map.contains(home):
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

    def _wake(self, key: Key) -> None:
        connection = self.lines.get(key)
        if connection is not None:
            with contextlib.suppress(ConnectionError):
                connection.post(MailWake(*key))

    def hung_up(self, connection: Connection) -> None:
        """Nobody waits at the end of it any more."""
        for known in (self.lines, self.takers):
            for key in [key for key, line in known.items() if line is connection]:
                del known[key]
        for key in [key for key, out in self.out.items() if out.connection is connection]:
            self.given(key, 0)

    def _room(self, key: Key) -> None:
        """Something was taken out: local senders may try again."""
        crowded, self.crowded = self.crowded, set()
        for full in {key, *crowded}:
            for sender in self.writers.pop(full, ()):
                self._wake(sender)

    def _sigio(self, key: Key) -> None:
        if key[0] == self.me:
            self.signal(key[1])
        elif self.way is not None:
            self.nursery.start_soon(guarded, self.way.signal, to_ip(key[0]), key[1])

    def signal(self, pid: int) -> None:
        """SIGIO for a home program: for the process that our tracer holds, and no other that got its number."""
        if pid not in self.world.programs:
            return
        with contextlib.suppress(ProcessLookupError):
            pidfd = os.pidfd_open(pid)
            try:
                if self.world.traced(pid):
                    signal.pidfd_send_signal(pidfd, signal.SIGIO)
            finally:
                os.close(pidfd)

    # ------------------------------------------------------------------ for the tree (`procfs.letters.Letters`)

    def homes(self) -> Iterable[int]:
        return {home for home, _ in self.boxes}

    def pids(self, home: int) -> Iterable[int]:
        return [pid for found, pid in self.boxes if found == (home or self.me)]

    def owner(self, home: int, pid: int) -> int | None:
        box = self.boxes.get((home or self.me, pid))
        return None if box is None else box.uid

    async def collect(self, home: int, pid: int) -> None:
        with trio.move_on_after(OUTSIDER_PATIENCE):
            await self.back((home or self.me, pid))

    def show(self, home: int, pid: int) -> str:
        """One line about the mailbox, then one a message: its sender's home and PID, where it was sent, and its length."""
        box = self.boxes.get((home or self.me, pid))
        if box is None:
            raise OSError(errno.ENOENT, "not here")
        shown = (f"{to_ip(m.home)} {m.pid} {to_ip(m.location)} {m.length}\n" for m in box.queue)
        return f"messages {len(box.queue)} bytes {box.size} flags {int(box.flags)} filters {len(box.stored)}\n" + "".join(shown)

    async def post(self, uid: int, gid: int, writer: int, home: int, pid: int, data: bytes) -> int:
        """A message of a process that need not be ours. Its write(2) cannot be interrupted, so it never waits for room."""
        to = (home or self.me, pid)
        began = trio.current_time()
        until, result = self._silent.get(to, (0.0, 0))
        if began < until:
            return result
        result = errno.ETIMEDOUT
        with trio.move_on_after(OUTSIDER_PATIENCE):
            result = await self.send(Sender(self.me, writer, uid, gid, self.me), to, self.name(), len(data), Body(data))
        now = trio.current_time()
        if result in UNREACHED and now - began > SILENCE:
            self._silent = {key: kept for key, kept in self._silent.items() if kept[0] > now}
            self._silent[to] = now + SILENCE, result
        return errno.ENOSPC if result == errno.EAGAIN else result

    # ------------------------------------------------------------------ where mailboxes are

    async def ensure(self, key: Key) -> Mailbox | None:
        """The mailbox, brought here if it is elsewhere; None: there is none (any more)."""
        async with self._ensuring.setdefault(key, trio.Lock()):
            if key in self.boxes:
                return self.boxes[key]
            if (key[0] == self.me and key[1] not in self.at) or self.way is None:
                return None
            return await self.way.fetch(key)

    def accept(self, key: Key, box: Mailbox) -> None:
        """It came from another node."""
        self.boxes[key] = box
        self.room.add(box.uid, box.size)
        if (old := self.leaving.pop(key, None)) is not None:
            _destroy(old.box)
        if key[0] == self.me:
            self.held(key[1], "")

    def held(self, pid: int, node: str) -> None:
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
            box.settle(0)
            self.leaving[key] = Given(box, next(self._serials), to)
            self.readers.discard(key)
            self._room(key)
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
            self._not_out(key)
            self.near.pop(key, None)
            self.takers.pop(key, None)
            self.readers.discard(key)
            self._room(key)

    async def discard(self, key: Key) -> None:
        """A home program has closed its mailbox, or has ended."""
        holder = self.at.get(key[1])
        self.held(key[1], "")
        self.given(key, 0)
        if holder is not None and self.way is not None:
            with contextlib.suppress(OSError):
                await self.way.drop(holder, key)

    def ended(self, pid: int) -> None:
        """A home program has ended."""
        self.claims.pop(pid, None)
        self.lines.pop((self.me, pid), None)
        self._ensuring.pop((self.me, pid), None)
        self.nursery.start_soon(guarded, self.discard, (self.me, pid))


def _destroy(box: Mailbox) -> None:
    box.settle(0)
    for message in box.queue:
        if isinstance(message.body, Body):
            message.body.close()
    box.queue.clear()


def _sender(message: MailPut, location: int) -> Sender:
    return Sender(message.home, message.pid, message.uid, message.gid, location)


def _body(message: MailPut | MailReturned, beside: int) -> Body:
    """ValueError, and nothing stays open, when it is not as long as the message says."""
    if beside < 0:
        if len(message.data) != message.size:
            raise ValueError("the message is not as long as it says")
        return Body(message.data)
    try:
        return Body.received(beside, message.size)
    except ValueError:
        os.close(beside)
        raise


def _hand_over(connection: Connection, answer: MailAnswer, taken: Taken, *, peeked: bool) -> None:
    """Answer with what was read: bytes, or the memory file itself (a duplicate while the message stays)."""
    message = taken.message
    assert message is not None and isinstance(message.body, Body)
    body = message.body
    beside = None
    if taken.result > 0 and not peeked:
        if body.fd < 0:
            answer.data = body.part(taken.offset, taken.result)
        else:
            answer.offset, answer.size = taken.offset, len(body)
            beside = io.FileIO(os.dup(body.fd), "r+")
    _post(connection, answer, beside)
    if taken.removed and not answer.lent:
        body.close()


def _post(connection: Connection, answer: MailAnswer, beside: io.FileIO | None = None) -> None:
    with contextlib.suppress(ConnectionError):  # the program ended while we answered
        connection.post(answer, beside)
