"""Data channels: asking another node to take a program, and admitting its programs here (docs/design/protocols.md)."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field

import trio

from mosfs.abi import cpu
from mosfs.balance.cost import load_of
from mosfs.daemon.connection import Connection
from mosfs.daemon.owners import Owners
from mosfs.daemon.spawner import Spawner
from mosfs.migrate import packing
from mosfs.node.choice import elsewhere
from mosfs.node.guests import outranked, privileged_mb, unwanted
from mosfs.node.nodes import NotInMap
from mosfs.node.world import World
from mosfs.wire.frames import GENERATION
from mosfs.wire.links import NO_RESPONSE, TOKEN_SIZE, LinkError, connect_data, for_another_process, read_token
from mosfs.wire.messages import (
    ChannelFailed,
    ChannelReady,
    DirectImage,
    GuestAccept,
    GuestRefuse,
    GuestRequest,
    OpenChannel,
    SpawnHost,
)

log = logging.getLogger(__name__)

NOT_IN_MAP = "not in map"
REFUSED = "other node refused"

#: Seconds that a token is good for, and that a second connection waits for its host to say Hello.
TOKEN_LIFE = 10.0
#: Guests that are on their way here: of all nodes, and of one (`crowd_of`).
MAX_PENDING, MAX_OF_NODE = 1024, 512
#: Seconds until a guest that has come shows in the load; until one that was let in has come, or never will.
UNSEEN, ARRIVING = 1.5, 20.0
KEY_SIZE = 32

Ask = Callable[[str, GuestRequest], Coroutine[None, None, GuestAccept]]


def refusal(
    request: GuestRequest, *, unwanted: str, blocked: bool, free_mb: int, pending: int, load: int = 0, crowd: str = ""
) -> str:
    """Why this node does not take the guest, for its log; "" if it does.

    ``unwanted``: what `node.guests` says of its cluster; ``load``: of this node with it; ``crowd``: whose guests are too many
    that are on their way."""
    direct = len(request.direct_token), len(request.direct_key)
    reasons = {
        unwanted: bool(unwanted),
        "blocked": blocked,
        f"needs {request.need_mb} MB, {free_mb} MB are free": request.need_mb > free_mb,
        "too many guests are arriving": pending >= MAX_PENDING,
        f"too many guests of {crowd} are arriving": bool(crowd),
        f"it pays below a load of {request.below}, and here it would be {load}": 0 < request.below < load,
        "bad token or key": len(request.token) != TOKEN_SIZE or len(request.key) != KEY_SIZE,
        "bad direct token or key": direct not in ((0, 0), (TOKEN_SIZE, KEY_SIZE)),
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def crowd_of(coming: Sequence[tuple[str, int]], home: str, uid: int) -> str:
    """Who has too many of those that are on their way (node and user of each) for one more of the user ``uid`` of ``home``.

    One more may come of who has fewer than could come still: so something is left for others, however many there are. One
    node, or one of its users, has a half of all that may come; two that always want more come to a third each."""
    of_node = sum(node == home for node, _ in coming)
    if of_node >= MAX_PENDING - len(coming):
        return home
    return f"user {uid} of {home}" if coming.count((home, uid)) >= MAX_OF_NODE - of_node else ""


@dataclass(frozen=True, slots=True)
class Expected:
    """A connection that may come before ``until`` (monotonic seconds).

    ``direct``: it brings the image, for the host that ``request`` made.
    """

    request: GuestRequest
    home: str
    until: float
    direct: bool


@dataclass(frozen=True, slots=True)
class Admitted:
    """A guest that has been let in, or is ``here`` since so lately that the load does not show it; ``until`` in monotonic
    seconds."""

    uid: int
    until: float
    here: bool


@dataclass(slots=True)
class Channels:
    """Both sides. ``ask`` sends a GuestRequest to a node and returns its `GuestAccept` (LinkError: it does not accept);
    ``evict`` makes guests leave that are worse than the priority of one that is let in."""

    world: World
    spawner: Spawner
    ask: Ask
    features: str
    socket_path: str
    owners: Owners
    evict: Callable[[int], None] = lambda priority: None
    expected: dict[bytes, Expected] = field(default_factory=dict)
    hosts: dict[bytes, Connection] = field(default_factory=dict)
    _waiting: dict[bytes, trio.Event] = field(default_factory=dict)
    _unseen: dict[tuple[str, int], Admitted] = field(default_factory=dict)  # by home and PID there

    # ------------------------------------------------------------------- home side

    async def open(self, request: OpenChannel, tracer: Connection) -> None:
        """Answer ``request`` with ChannelReady and the socket, or with ChannelFailed."""
        try:
            await self._open(request, tracer)
        except LinkError as error:
            log.info("PID %d does not move to %s: %s", request.pid, request.target, error.reason)
            tracer.post(ChannelFailed(request.req, error.reason))

    async def _open(self, request: OpenChannel, tracer: Connection) -> None:
        try:
            target = self.world.target(request.target) if request.target else elsewhere(self.world, request.need_mb, request.avoid)
        except NotInMap:
            raise LinkError(NOT_IN_MAP) from None
        if not target:
            raise LinkError(REFUSED)
        token, key = os.urandom(TOKEN_SIZE), os.urandom(KEY_SIZE)
        direct_token, direct_key = (os.urandom(TOKEN_SIZE), os.urandom(KEY_SIZE)) if request.direct else (b"", b"")
        relation = self.world.map.relation(target)
        if not self.world.may_go(request.uid, target):
            raise LinkError(REFUSED)
        near = relation.near
        accept = await self.ask(target, GuestRequest(
            request.req, request.pid, request.uid, request.comm, request.need_mb, request.features, token, key, near,
            direct_token, direct_key, request.below, request.needs, packing.OFFERED,
        ))
        sock = await connect_data(self.world.ip, target, self.world.port, token)
        hello = self.world.nodes[target].hello
        features = cpu.sensible(hello.features) if hello is not None else ""
        ready = ChannelReady(
            request.req, key, target, self.world.port, near, direct_token, direct_key, features, accept.frames, accept.packs
        )
        tracer.post(ready, for_another_process(sock))

    # ------------------------------------------------------------------- target side

    def admit(self, home: str, request: GuestRequest) -> GuestAccept | GuestRefuse:
        """Decide about a guest of the node ``home``, and expect its connections when it may come."""
        now = self.world.clock()
        self.expected = {token: entry for token, entry in self.expected.items() if entry.until > now}
        self._unseen = {guest: coming for guest, coming in self._unseen.items() if coming.until > now}
        status, relation = self.world.me.status, self.world.map.relation(home)
        coming = self._coming(but=(home, request.pid))
        reason = refusal(
            request, unwanted=unwanted(self.world, relation, coming), blocked=self.world.switches.blocked,
            free_mb=status.mem_free + privileged_mb(self.world, relation.priority) if status else 0,
            pending=max(sum(not entry.direct for entry in self.expected.values()), len(self._unseen)),
            load=0 if outranked(self.world, relation.priority) else self._load_with_one_more(),
            crowd=self._crowd(home, request.uid),
        )
        lacking = [] if reason else cpu.missing(request.needs, self.features)
        if lacking:
            reason = cpu.lacks(lacking, self.world.ip)
        if reason:
            log.info("refused %s (PID %d of %s): %s", request.comm, request.pid, home, reason)
            return GuestRefuse(request.req, reason if lacking else REFUSED)
        self.evict(relation.priority)
        self._unseen[home, request.pid] = Admitted(request.uid, now + ARRIVING, here=False)
        self.expected[request.token] = Expected(request, home, now + TOKEN_LIFE, direct=False)
        if request.direct_token:
            self.expected[request.direct_token] = Expected(request, home, now + TOKEN_LIFE, direct=True)
        return GuestAccept(request.req, GENERATION, packing.OFFERED)

    def _coming(self, but: tuple[str, int]) -> list[str]:
        """The homes of the guests, but one, that have been let in and are not here yet: each has its place."""
        return [guest[0] for guest, admitted in self._unseen.items() if not admitted.here and guest != but]

    def _crowd(self, home: str, uid: int) -> str:
        """Whose guests on their way here are too many for one more of this user of that node; "" for nobody's."""
        coming = [(node, guest.uid) for (node, _), guest in self._unseen.items()]
        expected = [(entry.home, entry.request.uid) for entry in self.expected.values() if not entry.direct]
        return crowd_of(coming, home, uid) or crowd_of(expected, home, uid)

    def _load_with_one_more(self) -> int:
        """The load with another guest, and with those on their way here or so new that it does not show them yet."""
        if (status := self.world.me.status) is None:
            return 0
        load = status.load if self.world.local_load is None else self.world.local_load
        return load + load_of(len(self._unseen) + 1, status.ncpus, status.speed)

    def arrived(self, home: str, pid: int) -> None:
        """The guest that is ``pid`` at ``home`` is here."""
        before = self._unseen.get((home, pid))
        self._unseen[home, pid] = Admitted(before.uid if before is not None else -1, self.world.clock() + UNSEEN, here=True)

    async def incoming(self, sock: trio.socket.SocketType) -> None:
        """A connection that starts with a preamble; one with an unknown or old token is closed."""
        ip = sock.getpeername()[0]
        token = await read_token(sock)
        entry = self.expected.pop(token, None) if token is not None else None
        if entry is None or entry.until < self.world.clock():
            log.warning("data connection from %s without a valid token", ip)
            return
        request = entry.request
        if entry.direct:
            host = await self._host(request.token)
            host.post(DirectImage(request.direct_key), for_another_process(sock))
        else:
            spawn = SpawnHost(
                entry.home, request.uid, request.comm, request.key, request.token, request.near, self.socket_path,
                self.world.map.contains(entry.home), cpu.sensible(request.features),
                self.owners.user_of(entry.home, request.uid), request.packs,
            )
            self.spawner.spawn(spawn, for_another_process(sock))

    def host_ready(self, token: bytes, connection: Connection) -> None:
        """The host with this token said Hello."""
        self.hosts[token] = connection
        if (event := self._waiting.get(token)) is not None:
            event.set()

    def host_gone(self, token: bytes, connection: Connection) -> None:
        if self.hosts.get(token) is connection:
            del self.hosts[token]

    async def _host(self, token: bytes) -> Connection:
        if token not in self.hosts:
            event = self._waiting.setdefault(token, trio.Event())
            try:
                with trio.move_on_after(TOKEN_LIFE):
                    await event.wait()
            finally:
                self._waiting.pop(token, None)
        if token not in self.hosts:
            raise LinkError(NO_RESPONSE)
        return self.hosts[token]
