"""Bodies whose ordinary calls C sends home, and whose answers it takes (`engine.lanes`, native/forward.c)."""

from __future__ import annotations

import time

from mosfs.abi.syscalls import BY_NR
from mosfs.calls import plain
from mosfs.engine.lanes import Lanes as EngineLanes
from mosfs.guest.body import Body, State
from mosfs.guest.clocks import Clocks
from mosfs.guest.context import Context
from mosfs.guest.tolls import PERIOD, Tolls
from mosfs.guest.untold import Untold
from mosfs.native import ffi, lib

#: Calls whose answer needs no more than to be stored.
_ANSWERED = frozenset(nr for nr, row in BY_NR.items() if plain.answered(row))


class Lanes(EngineLanes):
    def __init__(self, context: Context, tolls: Tolls, clocks: Clocks, untold: Untold) -> None:
        super().__init__(context.pump)
        self._context = context
        self._untold = untold
        self._tolls = tolls
        self._clocks = clocks

    def arm(self) -> None:
        """Before the event loop waits: bodies about which nothing is open may make calls without us."""
        self._rest(self._context.by_pid)
        if self._untold or not self._hears(self._context.channel):
            return
        self._context.pump.lane_look_at = int(max(self._tolls.due(), time.monotonic() + PERIOD) * 1e9)
        for pid in self._recent:
            body = self._context.by_pid[pid]
            state = _state(body)
            lane = self._lane(body.pid, body.pair) if state else None
            if lane is None:
                continue
            lane.state, lane.channel = state, self._context.channel.shared
            lane.nr, lane.seq, lane.signals = body.call.nr, body.call.seq, body.signals.seen & 0xFFFFFFFF
            lane.page = self._clocks.page_of(body)
            if state == lib.MOS_LANE_WAITS:
                lane.regs = body.call.regs[0]

    def look(self) -> None:
        """Behind it: what has been done is written down."""
        for pid in list(self._recent):
            lane, body = self._lanes.get(pid), self._context.by_pid[pid]
            if lane is None or not lane.news:
                continue
            self.met(pid)
            lane.news = 0
            call, account = body.call, body.account
            if lane.calls:
                call.nr, call.seq, call.regs = lane.nr, lane.seq, ffi.new("struct mos_regs *", lane.regs)
                body.signals.told_mask, body.signals.unheard, body.times.deputy_cpu = lane.mask, 0, -1
                body.times.deadline = None  # C begins no call that has one: it was that of a call before, which ended otherwise
            account.calls += lane.calls
            account.sent += lane.sent
            account.received += lane.received
            lane.calls = lane.sent = lane.received = 0
            body.state = State.WAITING if lane.state == lib.MOS_LANE_WAITS else State.RUNNING
        self._context.channel.flush()

    def forget(self, body: Body) -> None:
        """It is not here any more."""
        self._forget(body.pid)


def _state(body: Body) -> int:
    """What C may do for the body: a state of struct mos_lane, 0 for nothing.

    Nothing must be open about it: a signal, a stop, a move, a transfer of several parts, private files, a mailbox, a timer of CPU
    time.
    """
    call, stopping, signals = body.call, body.stopping, body.signals
    if body.state is State.WAITING:
        state = int(lib.MOS_LANE_WAITS) if call.nr in _ANSWERED and body.times.deadline is None else 0
    else:
        state = int(lib.MOS_LANE_RUNS) if body.state is State.RUNNING else 0
    if not state or signals.infos or signals.blocked or signals.restart is not None or signals.saved_mask is not None:
        return 0
    if stopping.halted or stopping.paused or stopping.interrupting or stopping.wanted is not None or stopping.arming is not None:
        return 0
    if call.then is not None or call.both or call.carry is not None or body.fork.step is not None:
        return 0
    if body.private.store is not None or body.mail is not None or body.times.alarm is not None or body.leaving.copy is not None:
        return 0
    return state
