"""New processes that mosd hears of a little later, if they still exist then: most children of a shell do not."""

from __future__ import annotations

import time
from collections.abc import Iterator

#: Seconds until mosd is told of a child that does nothing special.
PERIOD = 0.02


class Newcomers:
    """Children of whom mosd has not heard yet, by PID at home, in the order in which they came."""

    def __init__(self) -> None:
        self._due: dict[int, float] = {}

    def add(self, pid: int) -> None:
        """mosd shall hear of it."""
        self._due.setdefault(pid, time.monotonic() + PERIOD)

    def forget(self, pid: int) -> None:
        """It is gone, or mosd has heard of it already."""
        self._due.pop(pid, None)

    def due(self) -> float | None:
        """When the next one's time comes, by CLOCK_MONOTONIC; None: there is none."""
        return next(iter(self._due.values()), None)

    def ready(self, now: float) -> Iterator[int]:
        """The newcomers of whom mosd shall hear now; they are none any more."""
        while self._due:
            pid, due = next(iter(self._due.items()))
            if due > now:
                return
            del self._due[pid]
            yield pid
