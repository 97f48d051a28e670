"""mossetpe: the map is read again while everything runs. What is where it may not be any more comes home or is sent away."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass

import trio

from mosfs.cluster.errors import ConfigError
from mosfs.cluster.load import ClusterMap, load_map
from mosfs.cluster.paths import NodePaths
from mosfs.daemon.tasks import guarded
from mosfs.procfs.node import bring_programs_home, misplaced, send_guests_out
from mosfs.procfs.world import World

log = logging.getLogger(__name__)

#: Seconds between two requests to what has not moved yet.
AGAIN = 0.5


@dataclass(slots=True)
class Reload:
    """``map``: the cluster as it was read last. ``tell`` is called after each change of it."""

    world: World
    paths: NodePaths
    map: ClusterMap

    async def run(self, tell: Callable[[], None]) -> None:
        """Serve ``world.on_reload`` for ever."""
        send, receive = trio.open_memory_channel[str](math.inf)
        self.world.on_reload = send.send_nowait
        async with trio.open_nursery() as nursery:
            async for path in receive:
                try:
                    new = await trio.to_thread.run_sync(load_map, self.paths, path)
                    if not new.contains(self.world.ip):
                        raise ConfigError(path or self.paths.mosix_map, f"{self.world.ip}, this node, is not in it")
                except ConfigError as error:
                    log.error("the configuration stays as it was: %s", error)
                    self.world.reloaded = str(error)
                    continue
                self.map = self.world.map = new
                self.world.reloaded = "ok"
                log.info("new configuration: %d nodes", len(new))
                tell()
                nursery.start_soon(guarded, self._clear)

    async def _clear(self) -> None:
        """Until everything is where the map allows it."""
        while any(found := misplaced(self.world)):
            programs, guests = found
            bring_programs_home(self.world, programs)
            send_guests_out(self.world, guests)
            await trio.sleep(AGAIN)
