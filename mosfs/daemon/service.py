"""mosd: what it starts, in which order, and how it ends.

    fork server (another process: it loads while we go on)
    key of the cluster (a thread: 40 ms)
    mount, control socket, TCP port
    --> ready --> peers, heart-beats, FUSE requests, conversations, until SIGTERM or SIGINT
    --> unmount, close; tracers and hosts go on and wait for the next mosd
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import resource
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

import pyfuse3
import trio
from msgspec.structs import replace

import mosfs
from mosfs.abi import cpu
from mosfs.balance.probe import Probe, source_of
from mosfs.cluster import rights
from mosfs.cluster.errors import ConfigError
from mosfs.cluster.log import complain
from mosfs.cluster.paths import NodePaths, Ports
from mosfs.daemon import forkserver, gossip, lifecycle, reload, spawner, stalls
from mosfs.daemon.balancer import Balancer, own_runnable
from mosfs.daemon.channels import Channels
from mosfs.daemon.control import Control
from mosfs.daemon.door import Door
from mosfs.daemon.ending import end_when_asked
from mosfs.daemon.eviction import Eviction
from mosfs.daemon.freezer import Freezer
from mosfs.daemon.journal import ACCOUNTS, WISH, Journal
from mosfs.daemon.lifecycle import StartError
from mosfs.daemon.mail_files import MailFiles
from mosfs.daemon.mail_requests import MailRequests
from mosfs.daemon.office import Office
from mosfs.daemon.owners import Owners, usable
from mosfs.daemon.peers import Peers
from mosfs.daemon.post import Post
from mosfs.daemon.reload import Configuration, Reload
from mosfs.daemon.spawner import Engine, Spawner
from mosfs.daemon.tasks import guarded, restarted, survived
from mosfs.fuse.mount import MountError, mounted
from mosfs.fuse.operations import Operations
from mosfs.native import kernel
from mosfs.node import loads
from mosfs.node.guests import counted
from mosfs.node.multi import Multi
from mosfs.node.world import Mosrun, World
from mosfs.procfs.tree import Tree
from mosfs.queue.progress import folder_of
from mosfs.trace.priority import prompt
from mosfs.wire import links
from mosfs.wire.limits import TREE_TASKS
from mosfs.wire.links import TLS_FIRST
from mosfs.wire.messages import WIRE_VERSION, Config, PeerHello, PeerStatus
from mosfs.wire.security import identity
from mosfs.wire.space import FreezingSpace

log = logging.getLogger(__name__)

#: Open files that mosd may have, where it may choose: as etc/systemd/mosix.service has it.
DESCRIPTORS = 1 << 20
#: Samples of the number of runnable processes in each status.
SAMPLES = 2
STATUS_PERIOD = 1.0

Handler = Callable[[trio.socket.SocketType], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Options:
    """What mosd was started with. ``foreground``: the log goes to standard error, not to its file."""

    paths: NodePaths
    ports: Ports
    engine: Engine = field(default_factory=Engine)
    foreground: bool = False


def run(options: Options, report: Callable[[str], None]) -> int:
    """The daemon from start to end; its exit status. ``report("")`` when it is up, ``report(why)`` if it cannot be."""
    try:
        configuration = reload.read(options.paths)
        for directory in (options.paths.run, options.paths.state):
            os.makedirs(directory, exist_ok=True)
        _for_everybody(folder_of(options.paths.state))
        with lifecycle.pid_file(options.paths.pid):
            lifecycle.log_to("" if options.foreground else options.paths.log)
            forkserver.rename("mosd")
            rights.no_core()
            prompt(complain)
            for line in kernel.missing():
                log.info("%s", line)
            allow_many_descriptors()
            trio.run(_main, options, configuration, report)
    except Exception as failure:
        error = _innermost(failure)
        if not isinstance(error, StartError | ConfigError | MountError):
            log.critical("mosd ends", exc_info=failure)
        report(str(error).partition("\n")[0])
        return 1
    return 0


def _for_everybody(directory: str) -> None:
    """Each user's mosrun -S has a file there, which no other user can remove."""
    os.makedirs(directory, exist_ok=True)
    os.chmod(directory, 0o1777)


def _innermost(error: Exception) -> Exception:
    """What went wrong, out of the groups that nurseries put around it."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


def allow_many_descriptors() -> None:
    """Each program takes three; so many that no user has enough programs to take all. Root may have more than was inherited: where
    init is no systemd that are 4096."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < DESCRIPTORS:
        with contextlib.suppress(OSError, ValueError):  # not root, or /proc/sys/fs/nr_open has been lowered
            resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
            return
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _main(options: Options, configuration: Configuration, report: Callable[[str], None]) -> None:
    forks = Spawner(options.engine, spawner.start(options.engine))
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        lifecycle.dump_on_signal()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(forks.run)
            nursery.start_soon(_node, options, configuration, forks, report, nursery.cancel_scope)
            async for number in signals:
                log.info("%s: ending", signal.Signals(number).name)
                break
            nursery.cancel_scope.cancel()


async def _node(
    options: Options, configuration: Configuration, forks: Spawner, report: Callable[[str], None],
    scope: trio.CancelScope,
) -> None:
    """Open all sockets and the tree, then start everything, and run until ``scope`` is cancelled."""
    cluster = configuration.cluster
    world = World(
        ip=cluster.my_ip, map=cluster.map, clock=trio.current_time, version=mosfs.__version__, speed=cluster.speed,
        port=options.ports.migrate, pid=os.getpid(), mosrun=Mosrun(cluster.level, cluster.rules),
        multi=Multi(cluster.max_guests, cluster.retain),
    )
    probe = Probe(source_of(configuration.probe, cluster.speed, lambda: own_runnable(world)), configuration.probe)
    world.counts.since = world.clock()
    publish(world, probe)
    with contextlib.ExitStack() as stack:
        control_socket = stack.enter_context(listen_control(options.paths.socket))
        port = stack.enter_context(listen_port(world.ip, world.port))
        post_port = stack.enter_context(listen_port(world.ip, options.ports.post))
        datagrams = stack.enter_context(gossip.listen_gossip(world.ip, options.ports.gossip))
        operations = Operations(Tree(world, os.geteuid()))
        stack.enter_context(mounted(operations, options.paths.mount))
        rights.give_up("mosd")  # all sockets and the tree are there, and no thread is yet
        async with trio.open_nursery() as nursery:
            services = await Services.make(options, configuration, world, forks, probe, nursery)

            def keep(work: Callable[..., Awaitable[None]], *arguments: object) -> None:
                nursery.start_soon(restarted, work, *arguments, name=work)

            keep(services.balancer.run)
            keep(services.freezer.run)
            keep(services.eviction.run)
            keep(accept, control_socket, services.control.client)
            keep(accept, port, by_first_byte(services.peers.accept, services.channels.incoming), Door(world))
            keep(accept, post_port, services.post.incoming, Door(world))
            keep(keep_publishing, world, probe)
            keep(keep_noting, world)
            keep(services.control.queue.run)
            keep(services.control.left.run, services.control.threads)
            keep(stalls.run, services.control.tracers, services.control.threads)
            nursery.start_soon(serve_files, scope)
            keep(end_when_asked, world, scope)
            keep(services.information.run, datagrams)
            keep(services.reloading.run)
            log.info("node %s is up, PID %d", world.ip, world.pid)
            report("")


@dataclass(slots=True)
class Services:
    """The parts of a daemon that know each other. ``told``: what tracers and hosts are told of the configuration."""

    world: World
    probe: Probe
    balancer: Balancer
    freezer: Freezer
    eviction: Eviction
    channels: Channels
    peers: Peers
    post: Post
    control: Control
    information: gossip.Service
    reloading: Reload
    told: Config

    @classmethod
    async def make(
        cls, options: Options, configuration: Configuration, world: World, forks: Spawner, probe: Probe, nursery: trio.Nursery,
    ) -> Services:
        cluster = configuration.cluster
        features = cpu.features()
        world.me.flags = cpu.parse(features).flags
        hello = PeerHello(WIRE_VERSION, world.version, world.ip, features, platform.release(), cluster.speed, probe.source.ncpus)
        keys = await trio.to_thread.run_sync(identity, cluster.secret, world.ip)
        balancer = Balancer(world, automatic=os.environ.get("MOSIX_BALANCE") != "off")
        freezer = Freezer(world, cluster.freezing.policy, balancer.note, lambda arrives: services.arrive(arrives))
        eviction = Eviction(world, balancer.note)
        channels = Channels(
            world, forks, lambda ip, request: peers.ask(ip, request), features, options.paths.socket,
            Owners(usable(cluster.guest_uids), world.clock), eviction.look,
        )
        peers = Peers(world, keys, hello, channels.admit, nursery)
        office = Office(world, nursery)
        world.letters = MailFiles(office)
        post = office.way = Post(office, keys, hello, options.ports.post)
        journal = Journal(f"{options.paths.etc}/{WISH}", os.path.join(options.paths.root, ACCOUNTS), world.shown_or_home)
        control = Control(
            world, MailRequests(office), channels, forks, lambda text: reloading.current.cluster.map.resolve(text),
            lambda: services.told, options.paths.socket, nursery, journal, balancer.heard, balancer.stayed, balancer.paid,
        )
        information = gossip.Service.make(world, ranges_of(configuration), keys.gossip, options.ports.gossip)
        reloading = Reload(world, options.paths, configuration, lambda new: services.apply(new))
        services = cls(
            world, probe, balancer, freezer, eviction, channels, peers, post, control, information, reloading,
            config_of(world, configuration),
        )
        return services

    async def apply(self, new: Configuration) -> None:
        """Another configuration holds from now on."""
        world = self.world
        if new.cluster.secret != self.reloading.current.cluster.secret:
            self.peers.identity = await trio.to_thread.run_sync(identity, new.cluster.secret, world.ip)
            self.post.identity = self.peers.identity
            self.information.exchange.key = self.peers.identity.gossip
        self.channels.owners.numbers = usable(new.cluster.guest_uids)
        world.map, world.speed, self.told = new.cluster.map, new.cluster.speed, config_of(world, new)
        world.mosrun = Mosrun(new.cluster.level, new.cluster.rules)
        self.freezer.follow(new.cluster.freezing.policy)
        world.multi.max_guests, world.multi.retain = new.cluster.max_guests, new.cluster.retain
        self.probe.source, self.probe.spec = source_of(new.probe, world.speed, lambda: own_runnable(world)), new.probe
        self.information.follow(ranges_of(new))
        self.control.reconfigure()

    def arrive(self, arrives: bool) -> None:
        """Whether what other clusters send home is frozen on arrival, from now on."""
        self.told = replace(self.told, freezing=replace(self.told.freezing, arrive=arrives))
        self.control.reconfigure()


async def serve_files(scope: trio.CancelScope) -> None:
    """Answer FUSE requests; when somebody unmounts us, mosd ends."""
    await pyfuse3.main(max_tasks=TREE_TASKS)
    log.error("the mount is gone: ending")
    scope.cancel()


def config_of(world: World, configuration: Configuration) -> Config:
    """What tracers and hosts need to know of it."""
    cluster = configuration.cluster
    table = cluster.map.table
    ours = [*((r.first, r.count) for r in table.ranges), *((alias, 1) for alias in table.aliases)]
    private = {owner.value: (space.directory, space.megabytes) for owner, space in cluster.private.items()}
    partners = [(span.first, span.count) for partner in cluster.map.partners for span in partner.ranges]
    freezing = cluster.freezing
    space = FreezingSpace(
        [(each.path, each.weight) for each in freezing.directories], -1 if freezing.uid is None else freezing.uid,
        killing=freezing.killing,
    )
    return Config(world.ip, world.port, dict(cluster.userview.numbers()), cluster.speed, ours, private, partners, space)


def ranges_of(configuration: Configuration) -> list[tuple[int, int]]:
    """First address and number of nodes of each range of the map, partner-clusters included, sorted."""
    known = configuration.cluster.map
    ranges = [*known.table.ranges, *(span for partner in known.partners for span in partner.ranges)]
    return sorted((found.first, found.count) for found in ranges)


def publish(world: World, probe: Probe) -> None:
    now = world.clock()
    reading = probe.read(now)
    memory = reading.memory
    status = PeerStatus(
        reading.load, reading.speed, reading.ncpus, memory.free, memory.total, len(world.guests), world.switches.blocked,
        memory.swap_free, memory.swap_total, paging=reading.paging,
    )
    world.me.status, world.me.heard, world.local_load = counted(world, status), now, reading.local


async def keep_publishing(world: World, probe: Probe) -> None:
    while True:
        for _ in range(SAMPLES):
            await trio.sleep(STATUS_PERIOD / SAMPLES)
            with survived("a look at the load"):
                probe.sample()
        with survived("a look at this node"):
            publish(world, probe)
            lifecycle.repeats.turn()


async def keep_noting(world: World) -> None:
    while True:
        await trio.sleep(loads.PERIOD)
        with survived("a note of the loads"):
            loads.note(world)


@contextlib.contextmanager
def listen_control(path: str) -> Iterator[trio.socket.SocketType]:
    """The control socket, for everybody: rights are a matter of the conversation."""
    plain = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        plain.bind(path)
    except OSError as error:
        plain.close()
        raise StartError(f"{path}: {error.strerror or error}") from None
    with trio.socket.from_stdlib_socket(plain) as sock:
        os.chmod(path, 0o666)
        sock.listen(128)
        try:
            yield sock
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


@contextlib.contextmanager
def listen_port(ip: str, port: int) -> Iterator[trio.socket.SocketType]:
    """The TCP port for links and data channels, on the node's own address only."""
    plain = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        plain.bind((ip, port))
    except OSError as error:
        plain.close()
        raise StartError(f"{ip} port {port}: {error.strerror or error}") from None
    with trio.socket.from_stdlib_socket(plain) as sock:
        sock.listen(128)
        yield sock


def by_first_byte(link: Handler, data: Handler) -> Handler:
    """What a new connection to the port is for, told by how it starts."""

    async def handle(sock: trio.socket.SocketType) -> None:
        first = await links.first_byte(sock)
        if first:
            await (link if first == TLS_FIRST else data)(sock)

    return handle


async def accept(listener: trio.socket.SocketType, handler: Handler, door: Door | None = None) -> None:
    """Give each new connection that ``door`` lets in to a task of its own, whose failure ends nothing else."""

    async def serve(sock: trio.socket.SocketType, address: tuple[str, int]) -> None:
        with sock, door.one(address) if door is not None else contextlib.nullcontext():
            await guarded(handler, sock)

    async with trio.open_nursery() as nursery:
        while True:
            try:
                sock, address = await listener.accept()
            except OSError as error:
                log.error("cannot accept a connection: %s", error)
                await trio.sleep(0.1)  # out of descriptors: some will end
                continue
            if door is None or door.admits(address):
                nursery.start_soon(serve, sock, address)
            else:
                log.warning("%s has too many connections", address[0])
                sock.close()
