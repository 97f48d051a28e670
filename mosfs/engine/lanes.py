"""Lanes: ordinary calls of bodies, served by C without waking Python (native/lane.c). What host and tracer have in common.

Between two turns of the event loop all is Python's. Before each turn `arm` says for which tasks C may act until then, and behind
it, before anything else is looked at, `look` writes down what C has done. So nobody else need know of lanes.
"""

from __future__ import annotations

from collections.abc import Container
from functools import lru_cache
from typing import Any

from mosfs.abi.args import INTS, Arg, Direction, Kind, Source
from mosfs.abi.syscalls import BY_NR
from mosfs.calls import plain
from mosfs.calls.marshal import comes
from mosfs.native import ffi, lib
from mosfs.wire.channel import Channel
from mosfs.wire.faults import WANTED

CALLS = 512
#: So many tasks have lanes at a time.
MOST_RECENT = 32


@lru_cache(maxsize=1)
def plans() -> Any:
    """struct mos_plan[`CALLS`]: what C must know of each call. Made once, by the process that forks tracers and hosts."""
    table = ffi.new("struct mos_plan[]", CALLS)
    for nr, row in BY_NR.items():
        if nr >= CALLS:
            continue
        plan = table[nr]
        plan.made, plan.forwarded, plan.renames = plain.made(row), plain.forwarded(row), nr in plain.RENAMING
        for index, arg in enumerate(row.args):
            plan.ints |= (arg.kind in INTS) << index
            if plan.forwarded:
                _span(plan.spans[index], arg)
    return table


def _span(span: Any, arg: Arg) -> None:
    """The memory that an argument of a call that C forwards points to."""
    if arg.kind is Kind.STR:
        span.way, span.comes_factor = lib.MOS_TEXT, 1
    elif arg.kind is Kind.MEMORY and arg.length is not None:
        span.way = lib.MOS_IN * bool(arg.direction & Direction.IN) | lib.MOS_OUT * bool(arg.direction & Direction.OUT)
        span.arg = arg.length.arg if arg.length.source is Source.ARG else -1
        span.times, span.factor, span.plus = arg.length.times, arg.length.factor, arg.length.plus
        span.comes, span.comes_factor, span.comes_plus = comes(arg), arg.ret_factor, arg.ret_plus


class Lanes:
    """The lanes of one tracer or host, by the PID of the task. ``pump``: struct mos_pump."""

    def __init__(self, pump: Any) -> None:
        self._pump = pump
        self._lanes: dict[int, Any] = {}
        self._recent: dict[int, None] = {}  # tasks that may do something soon, the last one last
        pump.plans = plans()

    def met(self, pid: int) -> None:
        """The task has stopped, or is asked for something: that may be so again soon.

        Lanes are for those only: looking at 200 threads takes longer than what one of them wants."""
        self._recent.pop(pid, None)
        self._recent[pid] = None

    def _rest(self, here: Container[int]) -> None:
        """C may do nothing any more. ``here``: the tasks that there are."""
        lib.mos_lanes_rest(self._pump)
        for pid in list(self._recent):
            if len(self._recent) > MOST_RECENT or pid not in here:
                self._forget(pid)

    def _hears(self, channel: Channel) -> bool:
        """Whether C may read from the channel: no frame that it has brought waits for Python. No faults are to be made either."""
        if WANTED or channel.pending() or self._pump.nchannels == lib.MOS_LANES or not channel.share():
            return False
        self._pump.channels[self._pump.nchannels] = channel.shared
        self._pump.nchannels += 1
        return True

    def _lane(self, pid: int, pair: int) -> Any:
        """The lane of the task, ``pair`` at home; None if there are too many."""
        lane = self._lanes.get(pid)
        if lane is None:
            lane = lib.mos_lane(self._pump, pid, pair)
            if lane == ffi.NULL:
                return None
            self._lanes[pid] = lane
        return lane

    def _forget(self, pid: int) -> None:
        """The task is gone, or not served here any more."""
        self._recent.pop(pid, None)
        lane = self._lanes.pop(pid, None)
        if lane is not None:
            lib.mos_lane_end(self._pump, lane)
