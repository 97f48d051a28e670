"""Guests make way for programs of a better priority, and for the administrator's limits (manual, section 4.3.4).

They go to their home-nodes, which send them on to wherever there is room. Looked at whenever a program is new here or a guest has
been let in, and four times a second: who moves just now hears nothing, and is asked again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from mosfs.daemon.tasks import survived
from mosfs.node.guests import level, names, outranked
from mosfs.node.multi import NOTHING
from mosfs.node.world import World
from mosfs.procfs.node import send_guests_out

PERIOD = 0.25


@dataclass(slots=True)
class Eviction:
    """``note`` gets a line for the log and the list of decisions; ``asked``: who has been asked to leave and is still here, by
    PID."""

    world: World
    note: Callable[[str], None]
    asked: set[int] = field(default_factory=set)

    async def run(self) -> None:
        while True:
            introduced = self.world.introduced
            with trio.move_on_after(PERIOD):
                await introduced.wait()
            with survived("a look at whose guests are here"):
                self.look()

    def look(self, coming: int = NOTHING) -> None:
        """Ask all to leave that must, now that a guest of the priority ``coming`` is let in. What runs now counts for retainpri,
        however soon it ends."""
        level(self.world)
        leaving = outranked(self.world, coming)
        if fresh := [guest for guest in leaving if guest.state.pid not in self.asked]:
            self.note(f"to make way for other clusters' or our own programs, home: {names(fresh)}")
        send_guests_out(self.world, leaving)
        self.asked = {guest.state.pid for guest in leaving}
