"""Time of a guest is home's: the page of its vDSO, and what clock_gettime(2) tells (docs/design/migration.md, Clocks)."""

from __future__ import annotations

import struct
from contextlib import suppress
from functools import partial
from typing import Any

from mosfs.abi.args import as_c_int
from mosfs.calls import cputime, deadlines
from mosfs.engine.clocks import refresh
from mosfs.guest import offset as offsets
from mosfs.guest.body import Body, State
from mosfs.guest.context import Context
from mosfs.guest.offset import Offset
from mosfs.native import ffi, lib
from mosfs.trace import clock, layout
from mosfs.trace.clock import NOTHING, NSEC, GuestClock, Shown, shown_by
from mosfs.wire.frames import Kind
from mosfs.wire.orders import GoTimes

#: No estimate of home's clocks is so far behind them, ns (one before the first answer is by as long as GO has travelled, behind a
#: whole image); what is further is no moment that has come.
MOST_BEHIND = 60 * NSEC


class Clocks:
    """Home's clocks against ours; ``offset`` is of another kernel's."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._offset: Offset | None = None
        self._questions = 0
        self._estimated = False  # home's clocks are another kernel's
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
        if times.boot_id != self._kernel and not self._estimated:
            self._estimated = True
            for nr in deadlines.CALLS:  # `begins` must hear of each, so C may not send it home (`engine.lanes`)
                self._context.pump.plans[nr].forwarded = 0
        if not self._estimated:
            guest_clock.adjust(0, None, extras)
            return
        before, now = guest_clock.ahead().monotonic, guest_clock.here().monotonic
        offset = self._learn(offsets.measured(times.monotonic, now, times.asked), times.realtime - times.monotonic, extras)
        if times.asked and offsets.ask_again(offset, self._questions):
            self._ask(guest_clock)
        # nobody shall wait for the next tick to know better, if what was shown until now was much too early
        if times.asked or abs(offset.least - before) > clock.STEP_NS:
            self.refresh_all()

    def _learn(self, measured: Offset, wall: int, extras: clock.Extras | None = None) -> Offset:
        """What the next pages show."""
        guest_clock = self._context.clock
        assert guest_clock is not None
        self._offset = offsets.together(self._offset, measured)
        guest_clock.adjust(self._offset.least, wall, extras, self._offset.at)
        return self._offset

    def tick(self) -> None:
        """Once a second."""
        if self._estimated and self._context.clock is not None:
            self._ask(self._context.clock)  # pages follow with the answer
        else:
            self.refresh_all()

    def told(self, payload: bytes) -> None:
        """TIME, which C may have taken as well (native/lane.c)."""
        lib.mos_told(self._context.channel.shared, payload)

    def heard(self, body: Body) -> None:
        """Something has come from home for the body, whose clocks show no less from now on than the time that home has told before
        it: so whatever has happened there, a timer's end for one, has happened by what the program reads, too."""
        guest_clock, page = self._context.clock, body.memory.clock.page
        if not self._estimated or guest_clock is None or not page or body.outlives or body.fork.owed:
            return
        shared = self._context.channel.shared
        if not lib.mos_shows(page, shared):
            told = shared.told
            self._learn(offsets.measured(told.monotonic, shared.told_at), told.wall)
            with suppress(OSError):  # it has ended; all that is known is shown, so that C goes on with what follows
                self._refresh(body, Shown(told.monotonic + told.wall, told.monotonic), leap=True)

    def page_of(self, body: Body) -> Any:
        """What C is to look at before it lets the body go on with what home has answered: NULL for nothing."""
        if not self._estimated or not body.memory.clock.page or body.outlives:
            return ffi.NULL
        return ffi.from_buffer("unsigned char[]", body.memory.clock.page)

    def set(self, body: Body, shown: Shown) -> None:
        """The page of a body that has come; its clocks show no less than ``shown``."""
        assert self._context.clock is not None
        if body.outlives:  # each reading is a call, which home answers
            body.memory.clock.page = self._context.clock.asking(shown)
        else:
            body.memory.clock.page = self._context.clock.arrived(shown)
        body.task.poke(layout.CLOCK_PAGE, body.memory.clock.page)

    def begins(self, body: Body, nr: int, args: tuple[int, ...]) -> None:
        """The body has begun a call that may end by a time (`deadlines.CALLS`)."""
        page, body.times.deadline = body.memory.clock.page, None
        if self._estimated:
            shown = partial(shown_by, page, tsc=lib.mos_rdtsc())
            body.times.deadline = deadlines.deadline(nr, args, body.task.read, shown)

    def over(self, body: Body, result: int) -> None:
        """Its call has ended with ``result``: if that is by its time, its clocks show that moment, or a later one."""
        deadline, guest_clock = body.times.deadline, self._context.clock
        if deadline is None or result != deadline.result or guest_clock is None:
            return
        body.times.deadline = None
        shown = clock.last_shown(body.memory.clock.page, lib.mos_rdtsc())
        set_meanwhile = abs(shown.wall - deadline.wall) > clock.STEP_NS
        floor = Shown(0 if set_meanwhile else deadline.realtime, deadline.monotonic)
        if 0 < max(floor.realtime - shown.realtime, floor.monotonic - shown.monotonic) <= MOST_BEHIND:
            with suppress(OSError):  # it has ended
                self._refresh(body, floor)

    def refresh_all(self) -> None:
        """The pages of whatever runs here, while it runs."""
        for body in self._context.bodies.values():
            if body.leader is None and body.state in (State.RUNNING, State.WAITING, State.TIMED):
                with suppress(OSError):  # it has ended
                    self._refresh(body)

    def _refresh(self, body: Body, not_before: Shown = NOTHING, *, leap: bool = False) -> None:
        guest_clock, own = self._context.clock, body.memory.clock
        if guest_clock is not None and own.page and not body.outlives:
            own.page = refresh(body.pid, guest_clock, own.page, not_before, leap=leap)


def told_here(body: Body, which: int, at: int) -> bool:
    """clock_gettime(2) of clock ``which`` into ``at``, if that can be told here; False: home has to.

    A clock that the vDSO shows is the same as there, whatever it is at home by now. A clock of CPU time that is asked again, with
    no other call in between: the deputy has used none meanwhile.
    """
    shown = shown_by(body.memory.clock.page, as_c_int(which), lib.mos_rdtsc())
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
    go on beside this one; and so it is where the clock of the thread is not that of the process."""
    alone = not body.own.several and body.times.own_before is None
    if alone and as_c_int(body.call.regs.rdi) in cputime.CPU_CLOCKS:
        seconds, ns = struct.unpack("<2q", data)
        body.times.deputy_cpu = max(seconds * 10**9 + ns - sum(body.times.told_used), 0)
