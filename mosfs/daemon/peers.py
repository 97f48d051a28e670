"""Links to the other nodes: opened when needed, a PeerStatus each second, closed when idle or silent for five seconds."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

import trio
from msgspec.structs import replace

from mosfs.daemon.door import Greetings
from mosfs.daemon.tasks import guarded
from mosfs.node.nodes import DEAD_AFTER, Node
from mosfs.node.world import World
from mosfs.wire import links
from mosfs.wire.links import NO_RESPONSE, AuthenticationViolation, LinkError, PeerLink
from mosfs.wire.messages import (
    GuestAccept,
    GuestRefuse,
    GuestRequest,
    PeerHello,
    PeerStatus,
)
from mosfs.wire.security import Identity

log = logging.getLogger(__name__)

HEARTBEAT = 1.0
#: Seconds without a request after which the node that opened a link closes it.
IDLE = 10.0
#: Of so many addresses it is known what was last complained of.
MOST_COMPLAINTS = 1024

Admit = Callable[[str, GuestRequest], GuestAccept | GuestRefuse]


@dataclass(slots=True)
class Question:
    """A GuestRequest under way on one link. ``refusal``: "" if it is accepted; ``lost``: the link ended before the answer."""

    link: PeerLink
    answered: trio.Event = field(default_factory=trio.Event)
    refusal: str = NO_RESPONSE
    lost: bool = False
    accept: GuestAccept | None = None


@dataclass(slots=True)
class Peers:
    """All links of this node. ``admit`` decides about programs that other nodes want to send here.

    ``idle``: seconds without a request that an unused link of ours lives.
    """

    world: World
    identity: Identity
    hello: PeerHello
    admit: Admit
    nursery: trio.Nursery
    idle: float = IDLE
    greetings: Greetings = field(default_factory=Greetings)
    _links: dict[str, list[PeerLink]] = field(default_factory=dict)
    _used: dict[PeerLink, float] = field(default_factory=dict)
    _dialing: dict[str, trio.Lock] = field(default_factory=dict)
    _failed: dict[str, tuple[float, LinkError]] = field(default_factory=dict)  # when the last attempt did
    _questions: dict[int, Question] = field(default_factory=dict)
    _numbers: count[int] = field(default_factory=lambda: count(1))
    _complaints: dict[str, str] = field(default_factory=dict)

    async def ask(self, ip: str, request: GuestRequest) -> GuestAccept:
        """What the node answers when it accepts ``request``; LinkError with the manual's reason when it does not."""
        link = await self._link(ip)
        answer = await self._ask(link, request)
        if answer.lost:
            # The other side may close an idle link at the very moment when we ask on it
            answer = await self._ask(await self._link(ip), request)
        if answer.refusal or answer.accept is None:
            raise LinkError(answer.refusal)
        return answer.accept

    async def _ask(self, link: PeerLink, request: GuestRequest) -> Question:
        """``request`` on this link, and what the node at the other end has answered."""
        self._used[link] = trio.current_time()
        number = next(self._numbers)
        question = self._questions[number] = Question(link)
        try:
            with trio.move_on_after(links.CONNECT_TIMEOUT):
                await link.send(replace(request, req=number))
                await question.answered.wait()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            question.lost = True
        finally:
            del self._questions[number]
        return question

    async def accept(self, sock: trio.socket.SocketType) -> None:
        """Serve a connection that starts like TLS, until it ends."""
        address = sock.getpeername()
        try:
            async with self.greetings.one(address):
                link, hello = await links.answer(sock, self.identity, self.hello)
        except LinkError as error:
            self._complain(address[0], error)
        else:
            await self._serve(link, hello)

    async def _link(self, ip: str) -> PeerLink:
        """A link to ``ip``: one that is open, or a new one. Who comes during an attempt shares what comes of it: they need not wait
        for a node that answers nothing one after the other."""
        asked = trio.current_time()
        async with self._dialing.setdefault(ip, trio.Lock()):
            if open_ones := self._links.get(ip):
                return open_ones[-1]
            if ip in self._failed and self._failed[ip][0] >= asked:
                raise self._failed[ip][1]
            try:
                link, hello = await links.dial(self.world.ip, ip, self.world.port, self.identity, self.hello)
            except LinkError as error:
                self._failed[ip] = trio.current_time(), error
                self._complain(ip, error)
                raise
            self._used[link] = trio.current_time()
            self._opened(link, hello)
            self.nursery.start_soon(guarded, self._serve, link, hello)
            return link

    def _complain(self, ip: str, error: LinkError) -> None:
        """Log a reason once, not at every attempt."""
        if self._complaints.get(ip) != error.reason:
            self._complaints[ip] = error.reason
            if len(self._complaints) > MOST_COMPLAINTS:  # addresses of strangers, whose number has no end
                del self._complaints[next(iter(self._complaints))]
            if isinstance(error, AuthenticationViolation):
                log.error("%s", error.reason)
            else:
                log.info("%s: %s", ip, error.reason)

    def _opened(self, link: PeerLink, hello: PeerHello) -> None:
        open_ones = self._links.setdefault(link.ip, [])
        if link in open_ones:
            return
        open_ones.append(link)
        self._complaints.pop(link.ip, None)
        node = self.world.nodes.setdefault(link.ip, Node(link.ip))
        node.hello = hello
        node.links = len(open_ones)
        log.info("link to %s", link.ip)

    def _closed(self, link: PeerLink) -> None:
        open_ones = self._links[link.ip]
        open_ones.remove(link)
        self._used.pop(link, None)
        if node := self.world.nodes.get(link.ip):
            node.links = len(open_ones)
        for question in self._questions.values():
            if question.link is link and not question.answered.is_set():
                question.lost = True
                question.answered.set()
        log.info("link to %s closed", link.ip)

    async def _serve(self, link: PeerLink, hello: PeerHello) -> None:
        """Heart-beats out, messages in, until the link ends or is silent for too long."""
        self._opened(link, hello)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._beat, link, nursery.cancel_scope)
                with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
                    await self._listen(link)
                nursery.cancel_scope.cancel()
        finally:
            self._closed(link)
            with trio.CancelScope(shield=True):
                await link.close()

    async def _beat(self, link: PeerLink, scope: trio.CancelScope) -> None:
        try:
            while True:
                if status := self.world.me.status:
                    with trio.fail_after(DEAD_AFTER):
                        await link.send(status)
                await trio.sleep(HEARTBEAT)
                if self._unused(link):
                    scope.cancel()
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            scope.cancel()

    def _unused(self, link: PeerLink) -> bool:
        """Was it opened from here, and nobody asked anything for a while? The other side cannot know when we ask."""
        asking = any(question.link is link for question in self._questions.values())
        return not asking and trio.current_time() - self._used.get(link, float("inf")) > self.idle

    async def _listen(self, link: PeerLink) -> None:
        while True:
            with trio.fail_after(DEAD_AFTER):
                try:
                    message = await link.receive()
                except LinkError as error:
                    log.warning("%s: %s", link.ip, error.reason)
                    return
            match message:
                case None:
                    return
                case PeerStatus():
                    node = self.world.nodes[link.ip]
                    node.status, node.heard, node.dead = message, self.world.clock(), False
                case GuestRequest():
                    await link.send(self.admit(link.ip, message))
                case GuestAccept(req=req) | GuestRefuse(req=req):
                    if (question := self._questions.get(req)) and question.link is link:
                        question.refusal = message.reason if isinstance(message, GuestRefuse) else ""
                        question.accept = message if isinstance(message, GuestAccept) else None
                        question.answered.set()
                case _:
                    log.warning("%s: %s out of place", link.ip, type(message).__name__)
