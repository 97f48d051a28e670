"""The administrator's files, read again when they change: a bad one leaves everything as it was. SIGHUP opens the log again too.

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

from mosfs.abi.outcomes import OK
from mosfs.balance.source import BadSpec, Spec, parse_spec
from mosfs.cluster import log as node_log
from mosfs.cluster.errors import ConfigError
from mosfs.cluster.freeze_conf import FREEZE_CONF
from mosfs.cluster.load import Cluster, load
from mosfs.cluster.mosrun_conf import MOSRUN_CONF
from mosfs.cluster.paths import NodePaths
from mosfs.daemon.tasks import survived
from mosfs.node.world import World
from mosfs.procfs.node import bring_programs_home, misplaced, send_guests_out

log = logging.getLogger(__name__)

#: Seconds between two looks; SIGHUP makes one at once.
PERIOD = 2.0
#: Seconds between two requests to what has not moved yet.
AGAIN = 0.5
MAX_SPEC = 1000

PROBE_VARIABLE = "MOSIX_PROBE"


@dataclass(frozen=True, slots=True)
class Configuration:
    """What all the files say together."""

    cluster: Cluster
    probe: Spec


def read(paths: NodePaths, mosix_map: str = "") -> Configuration:
    """The files, with another one as mosix.map if it is given. ConfigError at the first thing wrong.

    May wait for a name server.
    """
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


def signature(paths: NodePaths, mosix_map: str = "") -> tuple[object, ...]:
    """Changes when one of the files does."""
    return tuple(_signature(file) for file in (
        mosix_map or paths.mosix_map, paths.userview_map, paths.secret, paths.speed, paths.mosip, paths.probe,
        paths.guest_uids, paths.level, paths.private_conf, os.path.join(paths.etc, FREEZE_CONF), paths.max_guests, paths.retain,
        os.path.join(paths.etc, MOSRUN_CONF),
        paths.isolated, paths.job, paths.partners, *_files_in(paths.partners),
    ))


def _files_in(folder: str) -> list[str]:
    """Nothing for a folder that is not there, or that we may not read."""
    with suppress(OSError):
        return [os.path.join(folder, name) for name in sorted(os.listdir(folder))]
    return []


def _signature(file: str) -> tuple[int, ...] | None:
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


@dataclass(slots=True)
class Reload:
    """``apply`` puts a new configuration in force; ``current`` is the one that is. ``mosix_map``: see mossetpe(1), -m."""

    world: World
    paths: NodePaths
    current: Configuration
    apply: Callable[[Configuration], Awaitable[None]]
    mosix_map: str = ""
    _known: tuple[object, ...] = field(default=())

    def __post_init__(self) -> None:
        self._known = signature(self.paths, self.mosix_map)

    async def run(self) -> None:
        """Look now and then, at SIGHUP, and when somebody writes to node/reload."""
        send, receive = trio.open_memory_channel[str | None](math.inf)
        self.world.reload.begin = send.send_nowait
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tick, send)
            nursery.start_soon(self._clear)
            async for mosix_map in receive:
                with survived("reading the configuration"):
                    if mosix_map is not None:
                        await self._read(mosix_map)
                    elif signature(self.paths, self.mosix_map) != self._known:
                        await self._read(self.mosix_map)

    async def _tick(self, look: trio.MemorySendChannel[str | None]) -> None:
        with trio.open_signal_receiver(signal.SIGHUP) as hangups:
            while True:
                again: str | None = None
                with trio.move_on_after(PERIOD):
                    await anext(hangups)
                    node_log.follow()
                    again = self.mosix_map
                await look.send(again)

    async def _read(self, mosix_map: str) -> None:
        """Read the files, with this mosix.map, and put them in force if they are good; else even the name of the map stays."""
        known = signature(self.paths, mosix_map)
        try:
            new = await trio.to_thread.run_sync(read, self.paths, mosix_map)
            if new.cluster.my_ip != self.world.ip:
                raise ConfigError(self.paths.mosip, "our address cannot change while mosd runs", value=new.cluster.my_ip)
        except (ConfigError, OSError, ValueError) as error:
            log.error("the configuration stays as it was: %s", error)
            self.world.reload.result = str(error)
            if mosix_map == self.mosix_map:
                self._known = known  # one complaint is enough
            return
        self.mosix_map, self._known = mosix_map, known
        self.world.reload.mosix_map = mosix_map
        self.world.reload.result = "failed: see the log of mosd"  # unless it does not
        await self.apply(new)
        self.current = new
        self.world.reload.result = OK
        log.info("new configuration: %d nodes", len(new.cluster.map))

    async def _clear(self) -> None:
        """What is where the map does not allow it any more comes home or is sent away. Asked again: some are busy."""
        while True:
            waiting = False
            with survived("clearing the map"):
                programs, guests = misplaced(self.world)
                waiting = bool(programs or guests)
                bring_programs_home(self.world, programs)
                send_guests_out(self.world, guests)
            await trio.sleep(AGAIN if waiting else PERIOD)
