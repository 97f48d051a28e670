"""Time of a guest is home's: the page of its vDSO, and what clock_gettime(2) tells (docs/design/migration.md, Clocks)."""

from __future__ import annotations

import struct

from mosfs.abi.args import as_c_int
from mosfs.calls import cputime
from mosfs.engine.clocks import refresh
from mosfs.guest import offset as offsets
from mosfs.guest.body import Body
from mosfs.guest.context import Context
from mosfs.guest.offset import Offset
from mosfs.native import lib
from mosfs.trace import clock, layout
from mosfs.trace.clock import GuestClock, shown_by
from mosfs.wire.frames import Kind
from mosfs.wire.orders import GoTimes


class Clocks:
    """Home's clocks against ours; ``offset`` is of another kernel's."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._offset: Offset | None = None
        self._questions = 0
        self._kernel = clock.kernel_id()

    def start(self) -> None:
        """Measure the counter now, not while a program stands still; `adjust` sets the clock."""
        self._context.clock = GuestClock()
        self._ask(self._context.clock)

    def _ask(self, guest_clock: GuestClock) -> None:
        self._questions += 1
        self._context.channel.send(Kind.ASK_CLOCK, 0, offsets.ask(guest_clock.here().monotonic))

    def adjust(self, times: GoTimes) -> None:
        """On the same kernel home's clocks are ours; else they are measured, again and again."""
        guest_clock = self._context.clock
        assert guest_clock is not None
        extras = clock.Extras(times.coarse, times.boot, times.tai)
        if times.boot_id == self._kernel:
            guest_clock.adjust(0, None, extras)
            return
        now = guest_clock.here().monotonic
        measured = offsets.measured(times, now)
        if measured is not None:
            self._offset = offsets.better(self._offset, measured)
            if offsets.ask_again(self._offset, self._questions):
                self._ask(guest_clock)
        # without an answer yet: GO left home while we waited for it
        ahead = self._offset.monotonic if self._offset is not None else times.monotonic - now
        guest_clock.adjust(ahead, times.realtime - times.monotonic, extras)

    def tick(self) -> None:
        """Once a second."""
        if self._offset is not None and self._context.clock is not None:
            self._ask(self._context.clock)

    def set(self, body: Body, shown: clock.Shown) -> None:
        """The body's page; its clocks show no less than ``shown``."""
        assert self._context.clock is not None
        serial = clock.following(body.times.clock_page) if body.times.clock_page else 0
        if body.outlives:  # each reading is a call, which home answers
            body.times.clock_page = self._context.clock.asking(serial, shown)
        else:
            body.times.clock_page = self._context.clock.page(serial, None, shown)
        body.task.poke(layout.CLOCK_PAGE, body.times.clock_page)

    def refresh(self, body: Body) -> None:
        """While it runs. OSError: it has ended."""
        guest_clock = self._context.clock
        if guest_clock is not None and body.times.clock_page and not body.outlives:
            body.times.clock_page = refresh(body.pid, guest_clock, body.times.clock_page)


def told_here(body: Body, which: int, at: int) -> bool:
    """clock_gettime(2) of clock ``which`` into ``at``, if that can be told here; False: home has to.

    A clock that the vDSO shows is the same as there, whatever it is at home by now. A clock of CPU time that is asked again, with
    no other call in between: the deputy has used none meanwhile.
    """
    shown = shown_by(body.times.clock_page, as_c_int(which), lib.mos_rdtsc())
    if shown is None and body.times.deputy_cpu >= 0 and as_c_int(which) in cputime.CPU_CLOCKS:
        shown = body.times.deputy_cpu + sum(body.used())
    if shown is None:
        return False
    try:
        body.task.write(at, struct.pack("<2q", *divmod(shown, 10**9)))
    except OSError:
        return False  # home says EFAULT
    return True


def told_by_home(body: Body, data: bytes) -> None:
    """Home's answer to clock_gettime(2): how much of it is the deputy's. Of several threads home is asked each time: their deputies
    go on beside this one, and the clock of the thread is not that of the process."""
    if not body.own.several and as_c_int(body.call.regs.rdi) in cputime.CPU_CLOCKS:
        seconds, ns = struct.unpack("<2q", data)
        body.times.deputy_cpu = max(seconds * 10**9 + ns - sum(body.times.told_used), 0)
