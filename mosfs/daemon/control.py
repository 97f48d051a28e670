"""The control socket: launchers, and the tracers and hosts that come back after every restart of mosd.

What mosd knows about programs and guests is what their connected tracers and hosts say, nothing else. When a connection
closes, its process either is about to connect again (mosd keeps what it said) or has ended (its pidfd tells): then its
guests are forgotten and its orphans are dealt with.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import msgspec
import trio
from msgspec.structs import replace

from mosfs.abi.levels import NATIVE
from mosfs.daemon import launch
from mosfs.daemon.channels import Channels
from mosfs.daemon.connection import Connection, credentials
from mosfs.daemon.journal import Journal
from mosfs.daemon.leftovers import Leftovers
from mosfs.daemon.mail_requests import MailRequests
from mosfs.daemon.spawner import Spawner
from mosfs.daemon.starts import Starts
from mosfs.daemon.tasks import guarded
from mosfs.daemon.threads import Threads, looked_up
from mosfs.daemon.waiting import Queue
from mosfs.node.pending import Asked
from mosfs.node.programs import Guest, PrivateNames, Program
from mosfs.node.world import World
from mosfs.trace.caller import Caller, alive, open_pidfd, peer_lives
from mosfs.trace.proc import start_time, tracer_of
from mosfs.wire.fields import MAX_CONTROL
from mosfs.wire.limits import CONNECTIONS, Shares
from mosfs.wire.links import for_another_process
from mosfs.wire.messages import (
    Adjust,
    Adjusted,
    AdoptTracer,
    Config,
    Consider,
    GuestGone,
    GuestState,
    GuestStayed,
    HelloHost,
    HelloTracer,
    MailBack,
    MailClose,
    MailFilters,
    MailOpen,
    MailPut,
    MailReturned,
    MailTake,
    OpenChannel,
    PrivateFile,
    PrivateGone,
    PrivateLeft,
    ProcGone,
    ProcState,
    Report,
    SpawnTracer,
    TollPaid,
    Usage,
    UsageReport,
    decode_control,
    encode,
)
from mosfs.wire.place import Place
from mosfs.wire.subuids import SYSTEM

log = logging.getLogger(__name__)

#: Seconds in which the first message of a client must come and be answered.
ANSWER_TIMEOUT = 10.0
#: Seconds in which who has too many connections is told so.
REFUSING = 0.5
#: Seconds in which the tracers have found a new mosd.
SETTLING = 10.0
#: A program whose tracers die so often within a minute waits so long for the next one, seconds (`node.programs.Program.deaths`).
DEATHS_WITHIN, PAUSE = 60.0, 10.0


def dies_with_tracer(state: ProcState) -> bool:
    """Is the program's memory on another node, or in a file, which its tracer alone can reach?"""
    return bool(state.where) or state.state in (Place.AWAY, Place.RETURNING, Place.FROZEN)


@dataclass(slots=True, eq=False)
class Client:
    """A tracer or a host. ``pidfd`` is -1 when it had ended before we looked.

    ``members``: PIDs of its programs or guests, programs with a pidfd each (-1: has ended), so that a signal
    can never hit another process that got the number later.
    """

    pid: int
    uid: int
    pidfd: int
    connection: Connection | None = None
    waiting: trio.CancelScope | None = None
    members: dict[int, int] = field(default_factory=dict)

    def lives(self) -> bool:
        return self.pidfd >= 0 and alive(self.pidfd)

    def close(self) -> None:
        for pidfd in [self.pidfd, *self.members.values()]:
            if pidfd >= 0:
                os.close(pidfd)
        self.members.clear()


def account(world: World, program: Program, row: Usage, now: float) -> None:
    """A mosd that was started a moment ago has not seen what its first reports tell."""
    first = program.balanced.usage is None and now - world.counts.since < SETTLING
    new = program.record.report(program.state.where, program.balanced.usage, row)
    world.counts.forwarded += 0 if first else new


@dataclass(slots=True)
class Control:
    """The service. ``config``: the facts that tracers and hosts need; ``resolve``: what a user typed as an IP; ``heard`` and
    ``stayed``: how moves end, for who decided them; ``paid``: what being here has cost a guest."""

    world: World
    mail: MailRequests
    channels: Channels
    spawner: Spawner
    resolve: launch.Resolve
    config: Callable[[], Config]
    socket_path: str
    nursery: trio.Nursery
    journal: Journal
    heard: Callable[[Program, ProcState], None] = lambda program, state: None
    stayed: Callable[[Guest, str], None] = lambda guest, reason: None
    paid: Callable[[Guest, TollPaid], None] = lambda guest, told: None
    tracers: dict[int, Client] = field(default_factory=dict)
    hosts: dict[int, Client] = field(default_factory=dict)
    connections: Shares = field(default_factory=lambda: Shares(CONNECTIONS))
    starts: Starts = field(default_factory=Starts)
    threads: Threads = field(default_factory=Threads)
    left: Leftovers = field(default_factory=Leftovers)
    queue: Queue = field(init=False)

    def __post_init__(self) -> None:
        self.queue = Queue(self.world)
        self.world.traced = lambda pid: tracer_of(pid) in self.tracers

    async def client(self, sock: trio.socket.SocketType) -> None:
        """One connection from its first message to its end."""
        who = credentials(sock)
        with sock:
            if not peer_lives(sock):  # nobody else shall be taken for it
                return
            if not self.connections.may(who.uid):
                with trio.move_on_after(REFUSING):
                    await sock.recv(MAX_CONTROL)
                    await sock.send(launch.refused(launch.TOO_MANY))
                return
            with self.connections.one(who.uid), trio.move_on_after(ANSWER_TIMEOUT):
                first = await sock.recv(MAX_CONTROL)
                await self._first(sock, who, first)
                return
            log.debug("PID %d connected and said nothing", who.pid)

    async def _first(self, sock: trio.socket.SocketType, who: Caller, first: bytes) -> None:
        try:
            if request := launch.parse(first):
                request = self._ruled(who, request)
                if launch.must_wait(self.world, request):
                    self.nursery.start_soon(guarded, self._launch_later, _keep_open(sock), who, request)
                else:
                    await self._launch(sock, who, request)
                return
            if first and who.uid in (0, os.geteuid()):
                hello = decode_control(first)
                if isinstance(hello, HelloTracer | HelloHost):
                    # A conversation without an end: not under the time limit of the first message
                    self.nursery.start_soon(guarded, self._converse, _keep_open(sock), who, hello)
        except launch.Refused as error:
            self.journal.refused(who.pid, who.uid, str(error), await self.journal.command(self.threads, who))
            await sock.send(launch.refused(str(error)))
        except (msgspec.DecodeError, OSError) as error:
            log.warning("PID %d: %s", who.pid, error)

    # ------------------------------------------------------------------- launchers

    def _ruled(self, who: Caller, request: launch.Request) -> launch.Request:
        """As the administrator has it; a start from outside of all programs is counted."""
        inside, rules = self._tracer_of(who.pid) is not None, self.world.mosrun.rules
        request = launch.ruled(request, rules, who.uid, inside=inside)
        if not inside and not request.native:
            running = sum(SYSTEM.whose(tracer.uid) == SYSTEM.whose(who.uid) for tracer in self.tracers.values())
            self.starts.admit(rules, (who.pid, SYSTEM.whose(who.uid), who.started), time.strftime("%F"), running, self.world.traced)
        return request

    async def _launch(self, sock: trio.socket.SocketType, who: Caller, request: launch.Request) -> None:
        tracer = self._tracer_of(who.pid)
        if tracer is None and request.native:
            await sock.send(launch.OK)
            return
        command = await self.journal.command(self.threads, who)
        place = await launch.place(self.world, request, partial(looked_up, self.threads, who.uid, self.resolve))
        # inside of a MOSIX program what was preset is inherited
        level = request.level or (self.world.mosrun.level if tracer is None else NATIVE)
        start = replace(place, trace=request.trace, preset=launch.preset(self.world, level), **request.continued())
        if tracer is not None:
            asked = self.world.pending.begin(who.pid)
            error = await self._adjust(tracer, asked, Adjust(
                asked.number, who.pid, who.uid, who.gid, who.started, request.settings, start, request.native
            ))
            await sock.send(launch.refused(error) if error else launch.ok(start))
            if not error and not request.native:
                self.journal.invoked(who.pid, who.uid, start.node, command)
            return
        spawn = SpawnTracer(who.pid, who.uid, who.gid, request.settings, start, self.socket_path, who.started)
        try:
            self.spawner.spawn(spawn, for_another_process(sock))
            self.journal.invoked(who.pid, who.uid, start.node, command)
        except ConnectionError:
            log.error("too many requests: none for PID %d", who.pid)

    async def _launch_later(self, sock: trio.socket.SocketType, who: Caller, request: launch.Request) -> None:
        """As soon as a node has room; until then mosps(1) shows the program as starting. The launcher may end meanwhile."""
        with sock:
            try:
                while launch.must_wait(self.world, request):
                    with self._starting(who, request), self.queue.waiting(who.uid, request.settings.needmem) as may_go:
                        if not await _silent(sock, may_go):
                            return
                await self._launch(sock, who, request)
            except (launch.Refused, OSError) as error:
                await sock.send(launch.refused(str(error) if isinstance(error, launch.Refused) else launch.TOO_MANY_WAIT))

    @contextlib.contextmanager
    def _starting(self, who: Caller, request: launch.Request) -> Iterator[None]:
        """The tree has the program, which nobody traces yet. One inside of a MOSIX program is there already."""
        waiting = Program(ProcState(who.pid, who.uid, "", "starting", 0, request.settings, comm="mosrun"), None)
        shown = self.world.programs.setdefault(who.pid, waiting)
        try:
            yield
        finally:
            if shown is waiting:
                del self.world.programs[who.pid]

    def _tracer_of(self, pid: int) -> Client | None:
        """The tracer of ``pid``. The kernel knows it even before the tracer's message about a new process was read."""
        for tracer in self.tracers.values():
            if pid in tracer.members:
                return tracer
        return self.tracers.get(tracer_of(pid))

    async def _adjust(self, tracer: Client, asked: Asked, message: Adjust) -> str:
        """The tracer's answer: "" or why not."""
        try:
            if tracer.connection is None:
                raise ConnectionError
            tracer.connection.post(message)
        except ConnectionError:
            self.world.pending.lost(asked.pid, errno.EAGAIN)
        return await self.world.pending.outcome(asked)

    # ------------------------------------------------------------------- tracers and hosts

    async def _converse(self, sock: trio.socket.SocketType, who: Caller, hello: HelloTracer | HelloHost) -> None:
        """Serve a tracer or host until its connection ends, and if it does not come back, clean up after it."""
        connection = Connection(sock)
        clients = self.tracers if isinstance(hello, HelloTracer) else self.hosts
        client = clients.get(who.pid)
        if client is None:
            uid = hello.uid if isinstance(hello, HelloTracer) else 0
            client = clients[who.pid] = Client(who.pid, uid, open_pidfd(who.pid))
        elif client.waiting:
            client.waiting.cancel()
        client.connection = connection
        if isinstance(hello, HelloHost):
            self.channels.host_ready(hello.token, connection)
            self.channels.owners.has(who.pid, hello.home, hello.uid, hello.runs_as)
        try:
            connection.post(self.config())
            async with trio.open_nursery() as nursery:
                nursery.start_soon(connection.pump)
                async for data in connection.datagrams():
                    try:
                        self._message(client, connection, data)
                    except Exception:
                        log.exception("PID %d: a message failed", client.pid)
                nursery.cancel_scope.cancel()
        finally:
            connection.close()
            self.mail.office.hung_up(connection)
            if isinstance(hello, HelloHost):
                self.channels.host_gone(hello.token, connection)
        if client.connection is connection:
            client.connection = None
            for pid in client.members:
                if program := self.world.programs.get(pid):
                    program.send = None
                self.world.pending.lost(pid, errno.EAGAIN)
            await self._await_end(client, clients)

    def reconfigure(self) -> None:
        """The map has changed: tell every tracer and host that is connected."""
        for client in (*self.tracers.values(), *self.hosts.values()):
            if client.connection is not None:
                with contextlib.suppress(ConnectionError):
                    client.connection.post(self.config())

    async def _await_end(self, client: Client, clients: dict[int, Client]) -> None:
        """Until the process ends; a new Hello of it takes over and cancels this."""
        with trio.CancelScope() as client.waiting:
            if client.pidfd >= 0:
                await trio.lowlevel.wait_readable(client.pidfd)
            del clients[client.pid]
            self.channels.owners.ended(client.pid)
            for pid in client.members:
                self.world.private_gone(pid)
            try:
                if clients is self.tracers:
                    self._orphans(client)
                else:
                    for pid in client.members:
                        self.world.guests.pop(pid, None)
            finally:
                client.close()
        client.waiting = None

    def _message(self, client: Client, connection: Connection, data: bytes) -> None:
        """One message of a tracer or host. What it cannot do here and now becomes a task."""
        try:
            world, message = self.world, decode_control(data)
        except msgspec.DecodeError as error:
            log.warning("PID %d: %s", client.pid, error)
            return
        match message:
            case ProcState():
                self._program_state(client, connection, message)
            case ProcGone(pid=pid, total=total, status=status):
                self._leave(client, pid)
                if program := world.programs.get(pid):
                    self.journal.ended(program, total, status)
                world.gone(pid, total)
                world.pending.lost(pid, errno.ENOENT)
                world.private_gone(pid)
                self.mail.office.ended(pid)
            case GuestState(pid=pid):
                client.members.setdefault(pid, -1)
                if guest := world.guests.get(pid):
                    guest.state, guest.send = message, connection.post
                else:
                    world.guests[pid] = Guest(message, connection.post)
                    self.channels.arrived(message.home, message.origpid)
            case GuestGone(pid=pid):
                self._leave(client, pid)
                world.guests.pop(pid, None)
                world.private_gone(pid)
            case PrivateFile(pid=pid):
                self._private_file(client, message)
            case PrivateGone(pid=pid):
                world.private_gone(pid)
            case PrivateLeft(uid=uid) if (fd := connection.take_beside()) >= 0:
                self.left.take(uid, [fd])
            case UsageReport(rows=rows):
                self._usage(client, rows)
            case TollPaid(pid=pid):
                if (guest := world.guests.get(pid)) and pid in client.members:
                    self.paid(guest, message)
            case GuestStayed(pid=pid, reason=reason):
                if (guest := world.guests.get(pid)) and pid in client.members:
                    self.stayed(guest, reason)
            case Consider(pid=pid):
                if (program := world.programs.get(pid)) and pid in client.members:
                    world.move(program, -1)
            case OpenChannel():
                self.nursery.start_soon(guarded, self._open_channel, message, connection)
            case Adjusted(req=req):
                world.pending.answered(req, message.error)
            case MailTake() | MailPut() | MailOpen() | MailFilters() | MailClose() | MailBack() | MailReturned():
                self.mail.handle(connection, message, connection.take_beside())
            case Report(level=level, text=text):
                log.log(level, "PID %d: %s", client.pid, text)
            case _:
                log.warning("PID %d: %s out of place", client.pid, type(message).__name__)

    def _program_state(self, client: Client, connection: Connection, message: ProcState) -> None:
        pid, world = message.pid, self.world
        client.members.setdefault(pid, -1)
        if client.members[pid] < 0:
            client.members[pid] = open_pidfd(pid)
        if program := world.programs.get(pid):
            world.counts.heard(program.state, message, automatic=program.balanced.sent is not None)
            self.heard(program, message)
            self.journal.heard(program.state, message)
            program.follow(message, world.clock())
            program.state, program.send = message, connection.post
        else:
            world.introduce(pid, Program(message, connection.post))
            self.mail.office.recall(pid, message.mailbox)

    def _usage(self, client: Client, rows: Sequence[Usage]) -> None:
        now, known = self.world.clock(), self.world.programs if client.pid in self.tracers else self.world.guests
        for row in rows:
            owner = known.get(row.pid)
            if owner is not None and row.pid in client.members:
                if isinstance(owner, Program):
                    account(self.world, owner, row, now)
                owner.balanced.report(row, now)

    def _private_file(self, client: Client, message: PrivateFile) -> None:
        """A name beyond its owner's share is not shown; the file is there nevertheless."""
        world = self.world
        names = world.private.get(message.pid)
        if names is None:
            owner = world.owner(message.pid) or 0
            names = world.private[message.pid] = PrivateNames(client.pid, owner, world.shown_files, client.lives)
        try:
            names.set(message.name, message.fd)
        except OSError as error:
            log.warning("PID %d: %s", message.pid, error.strerror)

    async def _open_channel(self, message: OpenChannel, connection: Connection) -> None:
        with contextlib.suppress(ConnectionError):  # the tracer ended while we asked
            await self.channels.open(message, connection)

    @staticmethod
    def _leave(client: Client, pid: int) -> None:
        pidfd = client.members.pop(pid, -1)
        if pidfd >= 0:
            os.close(pidfd)

    def _orphans(self, tracer: Client) -> None:
        """What a tracer left that ended before its programs: bodies of those away died with it, the others go on."""
        left = [
            (program.state, pidfd)
            for pid, pidfd in tracer.members.items()
            if (program := self.world.programs.get(pid)) and pidfd >= 0 and alive(pidfd)
        ]
        lost, orphans = split(left, lambda entry: dies_with_tracer(entry[0]))
        for state, pidfd in lost:
            log.error("tracer %d died: killing PID %d (%s), which was away", tracer.pid, state.pid, state.comm)
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        states = [self.world.programs[state.pid].orphaned() for state, _ in orphans]
        for pid in tracer.members.keys() - {state.pid for state in states}:
            if program := self.world.programs.pop(pid, None):
                self.journal.ended(program, None)
            self.mail.office.ended(pid)
        if states:
            log.error("tracer %d died: another one takes %d of its programs", tracer.pid, len(states))
            # its number is its own if it has not ended after the look
            began = {state.pid: start for state, pidfd in orphans if (start := start_time(state.pid)) and alive(pidfd)}
            for state in states:  # their descriptors are dead sockets: nobody can read these mailboxes
                self.mail.office.ended(state.pid)
            for part in datagrams(states):
                message = AdoptTracer([s.pid for s in part if s.pid in began], [began[s.pid] for s in part if s.pid in began],
                                      tracer.uid, part, self.socket_path)
                self.nursery.start_soon(guarded, self._take_over, message, max(map(self._pause, part)))

    def _pause(self, state: ProcState) -> float:
        """Seconds until another tracer may take a program: none, unless those that had it keep dying."""
        deaths, now = self.world.programs[state.pid].deaths, self.world.clock()
        deaths.append(now)
        return PAUSE if len(deaths) == deaths.maxlen and now - deaths[0] < DEATHS_WITHIN else 0.0

    async def _take_over(self, message: AdoptTracer, pause: float) -> None:
        await trio.sleep(pause)
        try:
            self.spawner.spawn(message)
        except ConnectionError:
            log.error("too many requests: %d programs stay without a tracer", len(message.pids))


def datagrams(states: list[ProcState]) -> Iterator[list[ProcState]]:
    """Parts of ``states`` that each fit into one message: those of a large tree do not."""
    part: list[ProcState] = []
    size = 0
    for state in states:
        length = len(encode(state)) + 20  # its number and start time stand beside it
        if part and size + length > MAX_CONTROL // 2:
            yield part
            part, size = [], 0
        part.append(state)
        size += length
    if part:
        yield part


async def _silent(sock: trio.socket.SocketType, until: trio.Event) -> bool:
    """Wait for ``until``; False when the other side ends, or speaks out of turn, before."""
    spoken = False

    async with trio.open_nursery() as nursery:

        async def listen() -> None:
            nonlocal spoken
            with contextlib.suppress(OSError):
                await sock.recv(1)
            spoken = True
            nursery.cancel_scope.cancel()

        nursery.start_soon(listen)
        await until.wait()
        nursery.cancel_scope.cancel()
    return not spoken


T = TypeVar("T")


def split(items: Iterable[T], condition: Callable[[T], bool]) -> tuple[list[T], list[T]]:
    """The items for which ``condition`` holds, and the others."""
    yes: list[T] = []
    no: list[T] = []
    for item in items:
        (yes if condition(item) else no).append(item)
    return yes, no


def _keep_open(sock: trio.socket.SocketType) -> trio.socket.SocketType:
    """``sock`` under a new owner: closing the old object does nothing any more."""
    return trio.socket.socket(fileno=sock.detach())

