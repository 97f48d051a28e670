"""Deputies that make ordinary calls without us: C takes a CALL, has it made, and answers (`engine.lanes`, native/made.c)."""

from __future__ import annotations

from typing import Any

from mosfs.calls.request import unpack
from mosfs.engine.lanes import Lanes as EngineLanes
from mosfs.home.ports import Tree
from mosfs.home.process.deputy import Deputy, Flight, Hasten, State
from mosfs.home.process.program import Program
from mosfs.native import ffi, lib
from mosfs.wire.channel import Channel

_STATES = {State.READY: lib.MOS_LANE_READY, State.PARKED: lib.MOS_LANE_PARKED, State.BUSY: lib.MOS_LANE_BUSY}
_SECOND = 1_000_000_000


class Lanes(EngineLanes):
    """``armed``: the programs that C serves until the next `look`, and whose deputies it parks."""

    def __init__(self, tracer: Tree) -> None:
        super().__init__(tracer.pump)
        self.tracer = tracer
        self.armed: set[int] = set()

    def arm(self) -> None:
        """Before the event loop waits: deputies of programs about which nothing is open may be given calls without us."""
        self._rest(self.tracer.programs)
        self.armed.clear()
        if not self.tracer.hosts.channels or self.tracer.mapped.looks():
            return
        heard = {}
        for number, link in self.tracer.hosts.channels.items():
            if isinstance(link.channel, Channel) and self._hears(link.channel):
                heard[number] = link.channel
        for pid in self._recent:
            p = self.tracer.programs[pid]
            channel = heard.get(id(p.link))
            if channel is not None and p.deputy is not None and self._is_plain(p, p.deputy):
                self._arm(p, p.deputy, channel)

    def _is_plain(self, p: Program, deputy: Deputy) -> bool:
        process = self.tracer.family.process(p)
        return _is_plain(p, deputy) and (process is p or _is_at_rest(process))

    def _arm(self, p: Program, deputy: Deputy, channel: Channel) -> None:
        lane = self._lane(p.pid, p.pid)
        if lane is None:
            return
        lane.state, lane.channel, lane.base = _STATES[deputy.state], channel.shared, deputy.base
        lane.seq, lane.signals, lane.mask = p.body.seq, p.body.signals & 0xFFFFFFFF, deputy.mask
        lane.pidfd, lane.watcher = -1 if p.kin.leader else self.tracer.requests.pidfd(p), self.tracer.mapped.watcher
        lane.several = p.process.several
        lane.scratch, lane.room = deputy.room
        lane.ready_since = int(deputy.ready_since * _SECOND)
        self.armed.add(p.pid)

    def look(self) -> None:
        """Behind it: what has been done is written down."""
        for pid in self.armed:
            lane, p = self._lanes[pid], self.tracer.programs.get(pid)
            if not lane.news or p is None or p.deputy is None:
                continue
            lane.news = 0
            self.met(pid)
            account, began = p.reports.account, lane.calls > 0
            if began:
                p.body.seq = p.body.forwarded = lane.seq
            account.calls += lane.calls
            account.sent += lane.sent
            account.received += lane.received
            lane.calls = lane.sent = lane.received = 0
            self._write_down(p, p.deputy, lane, began=began)
        self.tracer.hosts.push()

    def _write_down(self, p: Program, deputy: Deputy, lane: Any, *, began: bool) -> None:
        """``began``: C has taken a call. Then the flight that we knew is over, though the deputy may be BUSY, with another."""
        deputy.mask, deputy.interrupting = lane.mask, bool(lane.interrupting)
        lane.interrupting = 0
        if lane.state == lib.MOS_LANE_BUSY:
            if began or deputy.flight is None:
                deputy.flight = _flight(lane)
            deputy.state = State.BUSY
            return
        deputy.flight = None
        deputy.ready_since = lane.ready_since / _SECOND
        if lane.state == lib.MOS_LANE_READY:
            deputy.state = State.READY
            self.tracer.deputies.watch(p)
        elif lane.state == lib.MOS_LANE_PARKED:
            deputy.state = State.PARKED

    def forget(self, p: Program) -> None:
        """The process is gone."""
        self.armed.discard(p.pid)
        self._forget(p.pid)


def _flight(lane: Any) -> Flight:
    """The call that the deputy makes by itself, as if we had started it."""
    request = unpack(bytes(ffi.buffer(lane.call, lane.call_length)))
    places = list(lane.places)[: len(request.blobs)]
    args = list(request.args)
    for blob, place in zip(request.blobs, places):
        args[blob.arg] = place
    return Flight(request, tuple(args), places, None, lane.ready_since / _SECOND, in_lane=True)


def _is_at_rest(p: Program) -> bool:
    """Whether nothing is to become of the process whose first thread this is."""
    if p.move is not None or p.saves.asked is not None or p.saves.outlive is not None:
        return False
    return not (p.frozen.wanted or p.frozen.mark or p.death.signal is not None or p.suspended)


def _is_plain(p: Program, deputy: Deputy) -> bool:
    """Whether nothing is open about it, so that a call means nothing but that it is made and answered."""
    body, flight = p.body, deputy.flight
    if p.process.shares or not p.away or p.move is not None:
        return False
    if p.suspended or p.halted or p.interrupted or p.process.native:
        return False
    if p.private is not None or p.post.mail is not None:
        return False
    if deputy.waiting or deputy.interrupting or deputy.remains:
        return False
    if body.sleeping is not None or body.kept_back is not None or body.infos or body.shown is not None:
        return False
    if p.reports.trace is not None or p.reports.call is not None or p.death.signal is not None or p.cpu.overdue:
        return False
    if p.saves.asked is not None or p.saves.outlive is not None:  # each call is logged
        return False
    if p.call.wait is not None or p.call.carry is not None or p.frozen.wanted or p.frozen.mark:
        return False
    if deputy.state is not State.BUSY:
        return flight is None
    if flight is None or not flight.in_lane or flight.spared or flight.expired or flight.hasten is not Hasten.NO:
        return False
    return flight.done is None and flight.carry is None and flight.wait is None
