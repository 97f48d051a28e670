"""Mailboxes between nodes: TCP 252, sealed, one question at a time on a connection (docs/design/mailboxes.md).

A pool of connections for each node: whoever asks takes an idle one or opens another. So a long message delays neither other
messages nor heart-beats, and there is no ordering to keep: a program has one message under way at most.

A question may be asked again when its connection breaks: a message has a name that its receiver remembers, the rest is idempotent.
"""

from __future__ import annotations

import contextlib
import errno
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate
from typing import Annotated

import msgspec
import trio
from msgspec import Meta

from mosfs.cluster.address import as_unsigned, to_ip
from mosfs.daemon.door import Greetings
from mosfs.daemon.office import ELSEWHERE, Office
from mosfs.daemon.room import Key
from mosfs.daemon.senders import Senders
from mosfs.mbox.body import INLINE, Body
from mosfs.mbox.filters import MAX_MESSAGE, MAX_STORED, SIZE, unpack_stored
from mosfs.mbox.model import ALL_FLAGS, MAX_LATEST, MOST_BYTES, MOST_UNREAD, Flag, Mailbox, Message, Sender
from mosfs.mbox.stream import MOST_LATE
from mosfs.wire import links
from mosfs.wire.fields import MALFORMED, Address, Id, Mail, MailName, Pid
from mosfs.wire.links import AuthenticationViolation, Incompatible, LinkError
from mosfs.wire.messages import (
    PeerHello,
    PeerMsg,
    PostAnswer,
    PostClaim,
    PostClaimant,
    PostClaimed,
    PostDeliver,
    PostFetch,
    PostFetched,
    PostSignal,
    PostSpeaks,
    PostWhere,
)
from mosfs.wire.sealed import SealedLink, seal
from mosfs.wire.security import Identity

log = logging.getLogger(__name__)

#: Seconds for the answer to a question, and for each piece of a body.
ANSWER_TIMEOUT = 10.0
CHUNK = 256 * 1024
#: Idle connections kept to one node.
KEPT = 8
#: Seconds until a mailbox that cannot be brought here is lost; before the second attempt, and the longest pause.
BRING_PATIENCE, FIRST_RETRY, LAST_RETRY = 20.0, 0.05, 1.0
#: Bytes of a BoxState: more than the longest lists take.
MAX_STATE = 4 << 20
#: Seconds that a node which claims a mailbox may take to bring it to itself.
CLAIM_TIMEOUT = 60.0
_LOST = (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError, LinkError)


class BoxState(msgspec.Struct, array_like=True):
    """A mailbox on its way. ``messages``: home, pid, location, length, bytes already read of each; the bodies follow in order."""

    uid: Id
    gid: Id
    flags: Annotated[int, Meta(ge=0, le=int(ALL_FLAGS))]
    ended: bool
    stored: Annotated[bytes, Meta(max_length=MAX_STORED * SIZE)]
    latest: Annotated[list[tuple[Address, Pid, MailName]], Meta(max_length=MAX_LATEST)]
    messages: Annotated[list[tuple[Address, Pid, Address, Mail, Mail]], Meta(max_length=MOST_UNREAD)]


def pack(box: Mailbox) -> bytes:
    return msgspec.msgpack.encode(BoxState(
        box.uid, box.gid, box.flags, box.ended, b"".join(stored.pack() for stored in box.stored),
        [(*sender, name) for sender, name in box.latest.items()],
        [(m.home, m.pid, m.location, m.length, m.start) for m in box.queue],
    ))  # fmt: skip


def errno_of(error: Exception) -> int:
    """What the manual calls a failure to reach another node's office (readings, row 41)."""
    if isinstance(error, AuthenticationViolation | Incompatible):
        return errno.ECONNREFUSED
    cause = error.__context__
    if isinstance(error, LinkError) and isinstance(cause, OSError):
        return errno.ENETUNREACH
    if isinstance(error, LinkError):
        return errno.ETIMEDOUT
    return errno.EIO


@dataclass(slots=True)
class Post:
    """Both sides: asks the offices of other nodes, and answers for ``office``."""

    office: Office
    identity: Identity
    hello: PeerHello
    port: int
    greetings: Greetings = field(default_factory=Greetings)
    senders: Senders = field(init=False)
    _idle: dict[str, list[SealedLink]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.senders = Senders(self.office.world, self.speaks)

    # ------------------------------------------------------------------ asking

    @asynccontextmanager
    async def _line(self, node: str, *, fresh: bool) -> AsyncIterator[SealedLink]:
        """A connection to a node, for one conversation; it is closed if that fails."""
        idle = self._idle.setdefault(node, [])
        while fresh and idle:
            await idle.pop().close()
        if idle:
            link = idle.pop()
        else:
            opened, _ = await links.dial(self.office.world.ip, node, self.port, self.identity, self.hello)
            link = await seal(opened, caller=True)
        try:
            yield link
        except BaseException:
            with trio.CancelScope(shield=True):
                await link.close()
            raise
        if len(idle) < KEPT:
            idle.append(link)
        else:
            await link.close()

    async def _ask(self, node: str, message: PeerMsg, body: Body | None = None) -> PostAnswer:
        """The answer; OSError with the manual's errno."""
        for fresh in (False, True):
            try:
                async with self._line(node, fresh=fresh) as link:
                    return await _question(link, message, body)
            except _LOST as error:
                if fresh:
                    raise OSError(errno_of(error), f"{node}: {error}") from error
        raise AssertionError

    async def where(self, node: str, pid: int) -> str:
        answer = await self._ask(node, PostWhere(pid))
        if answer.result:
            raise OSError(answer.result, "no mailbox")
        return answer.node

    async def deliver(
        self, node: str, sender: Sender, to: Key, name: bytes, size: int, body: Body | None, *, late: bool
    ) -> int:
        message = PostDeliver(name, sender.home, sender.pid, sender.uid, sender.gid, *to, size, body is None, late)
        return (await self._ask(node, message, body)).result

    async def drop(self, node: str, key: Key, serial: int = 0) -> None:
        await self._ask(node, PostFetched(*key, serial))

    async def claimant(self, key: Key) -> str:
        """The node that claims the mailbox just now, as its home-node says."""
        return (await self._ask(to_ip(key[0]), PostClaimant(key[1]))).node

    async def speaks(self, home: str, question: PostSpeaks) -> int:
        return (await self._ask(home, question)).result

    async def signal(self, node: str, pid: int) -> None:
        await self._ask(node, PostSignal(pid))

    async def fetch(self, key: Key) -> Mailbox | None:
        """Bring a mailbox here, as its home-node allows; None if it is lost."""
        if key[0] == self.office.me:
            async with self.office.claims.setdefault(key[1], trio.Lock()):
                holder = self.office.at.get(key[1])
                if holder is None:
                    return None
                serial = await self._bring(key, holder)
            await self._acknowledge(holder, key, serial)
            return self.office.boxes.get(key)
        home = to_ip(key[0])
        for pause in _pauses():
            await trio.sleep(pause)
            try:
                async with self._line(home, fresh=pause > 0) as link:
                    holder, serial = await self._claim(link, key)
                if holder != home:
                    await self._acknowledge(holder, key, serial)
                return self.office.boxes.get(key)
            except _LOST as error:
                log.info("mailbox of PID %d of %s: %s", key[1], home, error)
        raise OSError(errno.ECONNRESET, home)

    async def _acknowledge(self, holder: str, key: Key, serial: int) -> None:
        """The old holder may forget it: whoever looks for it is told the new one from now on."""
        if serial:
            with contextlib.suppress(OSError):
                await self.drop(holder, key, serial)

    async def _claim(self, link: SealedLink, key: Key) -> tuple[str, int]:
        """Who had the mailbox that is now in ``office.boxes``, and its serial there (0: nothing was brought).

        To the home-node PostClaimed is the acknowledgement, if that was the holder.
        """
        answer = await _question(link, PostClaim(key[1]))
        if answer.result == errno.EAGAIN and key not in self.office.boxes:  # home does not know yet that the program is here
            await _question(link, PostClaimed(key[1], False, gone=False))
            raise LinkError("not known to be here")
        holder = "" if answer.result else answer.node
        serial = 0
        if holder and key not in self.office.boxes:
            serial = await self._bring(key, holder)
        here = key in self.office.boxes
        await _question(link, PostClaimed(key[1], here, gone=bool(holder) and not here))
        return holder, serial

    async def _bring(self, key: Key, holder: str) -> int:
        """From its holder into ``office.boxes``: its serial there, 0 if it is lost."""
        for pause in _pauses():
            await trio.sleep(pause)
            try:
                async with self._line(holder, fresh=pause > 0) as link:
                    answer = await _question(link, PostFetch(*key))
                    if answer.result:
                        return 0
                    box = await _receive(link, key)
                self.office.accept(key, box)
                return answer.serial
            except _LOST as error:
                log.info("mailbox of PID %d at %s: %s", key[1], holder, error)
        return 0

    # ------------------------------------------------------------------ answering

    async def incoming(self, sock: trio.socket.SocketType) -> None:
        """Serve a connection until it ends."""
        try:
            async with self.greetings.one(sock.getpeername()):
                greeted, _ = await links.answer(sock, self.identity, self.hello)
                link = await seal(greeted, caller=False)
        except LinkError as error:
            log.info("post from %s: %s", sock.getpeername()[0], error.reason)
            return
        try:
            while (message := await link.receive()) is not None:
                if isinstance(message, PostClaim):
                    with trio.fail_after(CLAIM_TIMEOUT):
                        await self._claiming(link, message.pid)
                else:
                    await self._serve(link, message)
        finally:
            with trio.CancelScope(shield=True):
                await link.close()

    async def _claiming(self, link: SealedLink, pid: int) -> None:
        """From PostClaim to PostClaimed; only the node where our program is may have its mailbox, and one at a time."""
        office = self.office
        if not await self.senders.is_there(pid, link.ip):
            await link.send(PostAnswer(errno.EAGAIN))
            message = await link.receive()
            if isinstance(message, PostClaimed):
                await link.send(PostAnswer())
            return
        async with office.claims.setdefault(pid, trio.Lock()):
            office.claimants[pid] = link.ip
            try:
                await link.send(self._holder(pid))
                message = await link.receive()
                if not isinstance(message, PostClaimed) or message.pid != pid:
                    raise LinkError(f"{type(message).__name__} instead of PostClaimed")
                self._claimed(message, link.ip)
            finally:
                del office.claimants[pid]
        await link.send(PostAnswer())

    async def _may_fetch(self, key: Key, node: str) -> bool:
        """The home-node of a mailbox may have it, and the node that claims it there."""
        if key[0] == self.office.me:
            return self.office.claimants.get(key[1]) == node
        return to_ip(key[0]) == node or await self.claimant(key) == node

    def _may_forget(self, key: Key, serial: int, node: str) -> bool:
        """The home-node may say that a mailbox is no more, and the node which got it that it has arrived."""
        given = self.office.leaving.get(key)
        return to_ip(key[0]) == node or (serial > 0 and (given is None or given.to == node))

    def _holder(self, pid: int) -> PostAnswer:
        try:
            return PostAnswer(node=self.office.where(pid))
        except OSError as error:
            return PostAnswer(error.errno or errno.ESRCH)

    def _claimed(self, message: PostClaimed, node: str) -> None:
        key = (self.office.me, message.pid)
        if message.here and message.pid in self.office.world.programs:
            self.office.note_holder(message.pid, node)
            self.office.given(key, 0)
        elif message.gone:
            self.office.note_holder(message.pid, "")

    async def _serve(self, link: SealedLink, message: object) -> None:
        office = self.office
        match message:
            case PostDeliver():
                await link.send(PostAnswer(await self._delivered(link, message)))
            case PostWhere(pid=pid):
                await link.send(self._holder(pid))
            case PostSpeaks():
                await link.send(PostAnswer(await self.senders.vouch(message)))
            case PostClaimant(pid=pid):
                await link.send(PostAnswer(node=office.claimants.get(pid, "")))
            case PostFetch(home=home, pid=pid):
                if not await self._may_fetch((home, pid), link.ip):
                    log.warning("%s may not have the mailbox of PID %d of %s", link.ip, pid, to_ip(home))
                    await link.send(PostAnswer(errno.EACCES))
                    return
                await office.lending.back((home, pid))
                given = office.give_away((home, pid), link.ip)
                if given is None:
                    await link.send(PostAnswer(errno.ESRCH))
                else:
                    await link.send(PostAnswer(serial=given.serial))
                    await _send_box(link, given.box)
            case PostFetched(home=home, pid=pid, serial=serial):
                if self._may_forget((home, pid), serial, link.ip):
                    if not serial:  # a desk that had it on would take what is written to it
                        await office.lending.back((home, pid))
                    office.given((home, pid), serial)
                    await link.send(PostAnswer())
                else:
                    await link.send(PostAnswer(errno.EACCES))
            case PostSignal(pid=pid):  # the node that has the mailbox, or is just getting it
                if link.ip in (office.at.get(pid), office.claimants.get(pid)):
                    office.signal(pid)
                await link.send(PostAnswer())
            case _:
                raise LinkError(f"{type(message).__name__} out of place")

    async def _delivered(self, link: SealedLink, message: PostDeliver) -> int:
        if message.late and message.size > MOST_LATE:
            raise LinkError("a late message is too long")
        body = None if message.probe else await _receive_body(link, message.size)
        key = (message.to_home, message.to_pid)
        sender = Sender(message.home, message.pid, message.uid, message.gid, as_unsigned(link.ip))
        refused = await self.senders.refused(sender)
        usable = not refused and await self.office.lending.usable(key, late=message.late)
        box = self.office.boxes.get(key)
        if refused:
            result = refused
        elif not usable:
            result = errno.EAGAIN
        elif box is None:
            result = ELSEWHERE
        elif body is None:
            return self.office.probe(box, sender, message.size)
        else:
            result = self.office.deliver(box, sender, message.name, body, late=message.late)
            if message.late and result == errno.EAGAIN:
                return result
        if result and body is not None:
            body.close()
        return result


# --------------------------------------------------------------------------- conversation


def _pauses() -> Iterator[float]:
    """Before the attempts of what is tried again for `BRING_PATIENCE`: none, then longer and longer ones."""
    pause, until = FIRST_RETRY, trio.current_time() + BRING_PATIENCE
    yield 0.0
    while trio.current_time() + pause < until:
        yield pause
        pause = min(2 * pause, LAST_RETRY)


async def _question(link: SealedLink, message: PeerMsg, body: Body | None = None) -> PostAnswer:
    with trio.fail_after(ANSWER_TIMEOUT):
        if body is None or body.fd < 0:
            await link.send(message, b"" if body is None else body.data)
        else:
            await link.send(message)
            await _send_body(link, body)
        answer = await link.receive()
    if not isinstance(answer, PostAnswer):
        raise LinkError(links.NO_RESPONSE)
    return answer


async def _send_body(link: SealedLink, body: Body) -> None:
    for at in range(0, len(body), CHUNK):
        with trio.fail_after(ANSWER_TIMEOUT):
            await link.send_filled(min(CHUNK, len(body) - at), partial(body.read_into, at))


async def _receive_body(link: SealedLink, size: int) -> Body:
    """``size`` raw bytes; LinkError at the end of the link, TooSlowError if a piece does not come in time."""
    if size <= INLINE:
        with trio.fail_after(ANSWER_TIMEOUT):
            return Body(bytes(await link.receive_raw(size)))
    body = Body.file()
    try:
        while len(body) < size:
            part = min(size, len(body) + CHUNK)
            with trio.fail_after(ANSWER_TIMEOUT):
                while len(body) < part:
                    body.append(await link.receive_some(part - len(body)))
    except BaseException:
        body.close()
        raise
    return body


def groups(lengths: Sequence[int]) -> Iterator[tuple[int, int]]:
    """How the bodies of a mailbox travel: (first, end) of those that are sent in one piece, long ones each alone."""
    first = size = 0
    for number, length in enumerate(lengths):
        if length > INLINE or size > CHUNK:
            if number > first:
                yield first, number
            first, size = number, 0
        if length > INLINE:
            yield number, number + 1
            first = number + 1
        else:
            size += length
    if first < len(lengths):
        yield first, len(lengths)


async def _send_box(link: SealedLink, box: Mailbox) -> None:
    """Its state, which may be longer than a message of the link, then the bodies."""
    state = pack(box)
    with trio.fail_after(ANSWER_TIMEOUT):
        await link.send_raw(len(state).to_bytes(4, "big") + state)
    bodies = [message.body for message in box.queue]
    for first, end in groups([len(body) for body in bodies]):
        body = bodies[first]
        assert isinstance(body, Body)
        if len(body) <= INLINE:
            body = Body(b"".join(body.part(0, len(body)) for body in bodies[first:end]))
        await _send_body(link, body)


async def _receive(link: SealedLink, key: Key) -> Mailbox:
    with trio.fail_after(ANSWER_TIMEOUT):
        size = int.from_bytes(await link.receive_raw(4), "big")
        if size > MAX_STATE:
            raise LinkError("bad mailbox: too long")
        try:
            state = msgspec.msgpack.decode(await link.receive_raw(size), type=BoxState)
            stored = unpack_stored(state.stored)
        except MALFORMED as error:
            raise LinkError(f"bad mailbox: {error}") from error
    box = Mailbox(*key, state.uid, state.gid, Flag(state.flags), stored=stored, ended=state.ended)
    box.latest = {(home, pid): name for home, pid, name in state.latest}
    lengths = [length for _, _, _, length, _ in state.messages]
    # together they may be more than a mailbox has room for: late ones, and what was lent and has come back
    box.size = sum(lengths)
    if box.size > MOST_BYTES + MAX_MESSAGE:
        raise LinkError("bad mailbox: too big")
    try:
        for first, end in groups(lengths):
            if lengths[first] > INLINE:
                bodies = [await _receive_body(link, lengths[first])]
            else:
                with trio.fail_after(ANSWER_TIMEOUT):
                    joined = memoryview(await link.receive_raw(sum(lengths[first:end])))
                ends = list(accumulate(lengths[first:end]))
                bodies = [Body(bytes(joined[at - size : at])) for at, size in zip(ends, lengths[first:end])]
            for body, (home, pid, location, _, start) in zip(bodies, state.messages[first:end]):
                box.queue.append(Message(home, pid, location, body, min(max(start, 0), len(body))))
    except BaseException:
        for message in box.queue:
            assert isinstance(message.body, Body)
            message.body.close()
        raise
    return box
