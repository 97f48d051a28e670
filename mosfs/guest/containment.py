"""One guest's trouble stays its own: whatever goes wrong while it is served ends at worst that guest (as `home.tree.containment`).

Only when the channel to home is lost does it concern all of them; then the host ends, as it does when home has gone.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from mosfs.abi.signals import SIGKILL
from mosfs.guest.body import Body
from mosfs.guest.context import Context
from mosfs.guest.ports import Ending
from mosfs.trace.proc import ended
from mosfs.trace.task import TaskGone, discard
from mosfs.wire.channel import ChannelLost


class Containment:
    def __init__(self, context: Context, ending: Ending) -> None:
        self.context = context
        self._ending = ending

    @contextmanager
    def of(self, body: Body) -> Iterator[None]:
        """What goes wrong inside concerns ``body`` only. ChannelLost when that is the channel to home."""
        try:
            yield
        except Exception as error:
            self.trouble(body, error)

    @contextmanager
    def nobody(self, what: str) -> Iterator[None]:
        """What goes wrong inside is no guest's fault and ends nothing: it is in the log. ChannelLost as in `of`."""
        try:
            yield
        except Exception as error:
            self.trouble_of_nobody(what, error)

    def turn(self, steps: Iterable[Callable[[float], object]], now: float) -> None:
        """Every one of ``steps`` of a turn of housekeeping, whatever becomes of the others. ChannelLost as in `of`."""
        for step in steps:
            try:
                step(now)
            except Exception as error:
                self.trouble_of_nobody("housekeeping", error)

    def trouble_of_nobody(self, what: str, error: Exception) -> None:
        """``error`` came up in something that concerns no guest (any more)."""
        if self.context.channel.lost:
            raise ChannelLost("closed") from error
        self.context.log(f"{what} failed\n{''.join(traceback.format_exception(error))}", 40)

    def trouble(self, body: Body, error: Exception) -> None:
        """``error`` came up while ``body`` was served."""
        if self.context.channel.lost:
            raise ChannelLost("closed") from error
        gone = TaskGone.behind(error)
        if gone is not None:
            self._gone(body, gone)
            return
        if ended(body.pid):
            self.context.log(f"origpid={body.pair} ({body.comm or self.context.comm}) ended while it was served: {error!r}")
            return
        trace = "".join(traceback.format_exception(error))
        self.context.log(f"origpid={body.pair} ({body.comm or self.context.comm}) is ended, because serving it failed\n{trace}", 40)
        body = body.leader or body
        with self.nobody(f"ending origpid={body.pair}"):
            discard(body.task, [thread.task for thread in body.threads.values()])
        if self.context.bodies.get(body.pair) is body:
            self._ending.died(body, SIGKILL, failed=True)

    def _gone(self, body: Body, gone: TaskGone) -> None:
        """A process has ended while it was worked on; without a status its event follows."""
        if gone.status is not None:
            found = self.context.by_pid.get(gone.pid, body)
            if self.context.bodies.get(found.pair) is found and found.leader is None:
                self._ending.died(found, gone.status)
