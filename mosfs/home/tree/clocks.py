"""The clock pages of programs at home, and what hosts are told of home's clocks (`trace.clock`)."""

from __future__ import annotations

import time
from contextlib import suppress

import msgspec

from mosfs.engine import clocks
from mosfs.home.ports import Tree
from mosfs.home.process.program import Place
from mosfs.trace.clock import kernel_id
from mosfs.wire.orders import GoTimes

#: Seconds for which a clock page serves for new programs.
FIRST_PAGE_PERIOD = 0.1


class Clocks:
    def __init__(self, tracer: Tree) -> None:
        self.tracer = tracer
        self._page, self._page_until = b"", 0.0
        self._kernel = kernel_id()

    def first_page(self) -> bytes:
        """The clock page of a new program, which may be some milliseconds old: it is a line."""
        now = time.monotonic()
        if now >= self._page_until:
            clock = self.tracer.clock
            self._page, self._page_until = clock.page(0), now + min(FIRST_PAGE_PERIOD, clock.next_update())
        return self._page

    def refresh(self) -> None:
        """Once a second: correct the pages of all programs at home."""
        for p in list(self.tracer.programs.values()):
            if p.place is Place.HOME and p.process.clock_page and not p.process.native and not p.kin.leader:
                with self.tracer.containment.of(p), suppress(OSError):
                    p.process.clock_page = clocks.refresh(p.pid, self.tracer.clock, p.process.clock_page)

    def times(self, asked: int = 0, call: int | None = None) -> bytes:
        """Payload of GO and CLOCK. ``asked``: what the host has said with its question; ``call``: of GO (`GoTimes`)."""
        extras, now = self.tracer.clock.extras(), self.tracer.clock.here()
        return msgspec.msgpack.encode(
            GoTimes(now.realtime, now.monotonic, self._kernel, extras.coarse, extras.boot, extras.tai, asked, call)
        )
