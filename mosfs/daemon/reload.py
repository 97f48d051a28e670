"""The administrator's files, read again when they change or mossetpe says so: a bad one leaves everything as it was.

A map that shrinks brings programs home from nodes that left, and sends their guests out.
"""

from __future__ import annotations

import logging
import math
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

import trio

from mosfs.balance.source import BadSpec, Spec, parse_spec
from mosfs.cluster.errors import ConfigError
from mosfs.cluster.load import Cluster, load
from mosfs.cluster.paths import NodePaths
from mosfs.procfs.node import bring_programs_home, misplaced, send_guests_out
from mosfs.procfs.world import World

log = logging.getLogger(__name__)

#: Seconds between two looks; SIGHUP makes one at once.
PERIOD = 2.0
MAX_SPEC = 1000

PROBE_VARIABLE = "MOSIX_PROBE"


@dataclass(frozen=True, slots=True)
class Configuration:
    """What all the files say together."""

    cluster: Cluster
    probe: Spec


def read(paths: NodePaths, mosix_map: str = "") -> Configuration:
    """ConfigError at the first thing wrong. May wait for a name server. ``mosix_map``: the path of another map."""
    return Configuration(load(paths, mosix_map=mosix_map), probe_spec(paths))


def probe_spec(paths: NodePaths) -> Spec:
    """What MOSIX_PROBE says, else the file ``probe``, else the usual. ConfigError when that is nonsense."""
    where, text = PROBE_VARIABLE, os.environ.get(PROBE_VARIABLE, "")
    if not text:
        where = paths.probe
        with suppress(FileNotFoundError), open(where, encoding="utf-8", errors="replace") as file:
            text = file.read(MAX_SPEC).strip()
    try:
        return parse_spec(text)
    except BadSpec as error:
        raise ConfigError(where, str(error), line=1) from None


def signature(paths: NodePaths) -> tuple[object, ...]:
    """Changes when one of the files does."""
    return tuple(_signature(file) for file in (
        paths.mosix_map, paths.userview_map, paths.secret, paths.speed, paths.mosip, paths.probe,
    ))


def _signature(file: str) -> tuple[int, ...] | None:
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


def send_home(world: World) -> None:
    """Programs on nodes that are not in the map come home, guests of such nodes leave. To be repeated: some are busy."""
    programs, guests = misplaced(world)
    for program in programs:
        log.info("PID %d comes home: %s is not in the map any more", program.state.pid, program.state.where)
    for guest in guests:
        log.info("guest %d leaves: %s is not in the map any more", guest.state.pid, guest.state.home)
    bring_programs_home(world, programs)
    send_guests_out(world, guests)


@dataclass(slots=True)
class Reload:
    """Watches the files, and reads them when it is told to. ``apply`` puts a new configuration in force; ``current`` is the one
    that is."""

    paths: NodePaths
    current: Configuration
    world: World
    apply: Callable[[Configuration], Awaitable[None]]
    _known: tuple[object, ...] = field(default=())
    _reading: trio.Lock = field(default_factory=trio.Lock)

    def __post_init__(self) -> None:
        self._known = signature(self.paths)

    async def run(self) -> None:
        send, receive = trio.open_memory_channel[str](math.inf)
        self.world.on_reload = send.send_nowait
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch)
            async for path in receive:
                self.world.reloaded = await self.read(path) or "ok"
                send_home(self.world)

    async def _watch(self) -> None:
        with trio.open_signal_receiver(signal.SIGHUP) as hangups:
            while True:
                with trio.move_on_after(PERIOD):
                    await anext(hangups)
                    self._known = ()
                await self.look()
                send_home(self.world)

    async def look(self) -> None:
        """Once: read the files if they changed."""
        if signature(self.paths) != self._known:
            await self.read()

    async def read(self, mosix_map: str = "") -> str:
        """Read the files, or another map in the place of theirs, and put them in force if they are good; else why not."""
        async with self._reading:
            self._known = signature(self.paths)
            try:
                new = await trio.to_thread.run_sync(read, self.paths, mosix_map)
                if new.cluster.my_ip != self.world.ip:
                    raise ConfigError(self.paths.mosip, "our address cannot change while mosd runs", value=new.cluster.my_ip)
            except ConfigError as error:
                log.error("%s; the configuration stays as it was", error)
                return str(error)
            await self.apply(new)
            self.current = new
            log.info("new configuration: %d nodes in the map", len(new.cluster.map))
            return ""
