"""mosctl shutdown: guests leave, programs come home, then mosd ends as after SIGTERM."""

from __future__ import annotations

import logging

import trio

from mosfs.daemon.tasks import survived
from mosfs.node.world import World
from mosfs.procfs.node import bring_programs_home, programs_away, send_guests_out

log = logging.getLogger(__name__)

#: Seconds between two requests to what has not moved yet.
AGAIN = 0.5


async def end_when_asked(world: World, scope: trio.CancelScope) -> None:
    """Wait for ``world.switches.ending``; cancel ``scope`` when no guest is here and no program away."""
    asked = trio.Event()
    world.switches.on_ending = asked.set
    await asked.wait()
    log.info("shutting down: %d guests leave, %d programs come home", len(world.guests), programs_away(world))
    while world.guests or programs_away(world):
        with survived("a round of the shutdown"):
            send_guests_out(world)
            bring_programs_home(world)
        await trio.sleep(AGAIN)
    log.info("shut down")
    scope.cancel()
