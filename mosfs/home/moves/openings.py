"""Data channels for moves: mosd is asked for one, and when it stands the new host prepares a body."""

from __future__ import annotations

import errno
import os
import socket

from mosfs.abi.reasons import Reason
from mosfs.home.ports import Tree
from mosfs.home.process.link import Link
from mosfs.home.process.move import BEST, Event, Move, Phase, Step
from mosfs.home.process.program import Program
from mosfs.native import lib
from mosfs.wire.channel import Channel
from mosfs.wire.frames import To
from mosfs.wire.messages import ChannelFailed, ChannelReady, OpenChannel
from mosfs.wire.orders import MoveOrder
from mosfs.wire.room import few_left


class Openings:
    """``requests``: the programs for which mosd was asked, by the number of the request."""

    def __init__(self, tracer: Tree) -> None:
        self.tracer = tracer
        self.requests: dict[int, Program] = {}
        self._next_request = 1

    def open(self, p: Program, move: Move) -> None:
        number = self._next_request
        self._next_request += 1
        self.requests[number] = p
        need = max(p.settings.needmem, 0)
        target = "" if move.target == BEST else move.target
        asked = self.tracer.mosd.send(
            OpenChannel(
                number, target, p.pid, p.uid, p.comm, need, self.tracer.features, p.away, move.below, p.demand.required,
                p.saves.outlive.lost if p.saves.outlive is not None else "",
            )
        )
        if not asked:
            del self.requests[number]
            self.tracer.moves.finish(p, Reason.NO_RESPONSE)

    def mosd_gone(self) -> None:
        waiting, self.requests = self.requests, {}
        for p in waiting.values():
            with self.tracer.containment.of(p):
                self.tracer.moves.finish(p, Reason.NO_RESPONSE)

    def asked_for(self, request: int) -> Program | None:
        """The program for which mosd was asked to open a channel."""
        return self.requests.get(request)

    def failed(self, message: ChannelFailed) -> None:
        p = self.requests.pop(message.req, None)
        if p is not None:
            self.tracer.moves.finish(p, message.reason)

    def ready(self, message: ChannelReady, passed: socket.socket | None) -> None:
        p = self.requests.pop(message.req, None)
        if passed is None:  # no descriptor was free for it
            if p is not None:
                self.tracer.moves.finish(p, f"{Reason.INCOMPLETE} ({os.strerror(errno.EMFILE)})")
            return
        if p is None or p.move is None or p.move.phase is not Phase.CHANNEL:
            passed.close()
            return
        if more := p.demand.too_much(p.pid, message.features):
            passed.close()
            less = f"began with less processor state than {message.target} has ({' '.join(more)}): set LD_BIND_NOW=1"
            self.tracer.moves.finish(p, less)
            return
        if few_left(passed.fileno()):
            passed.close()
            self.tracer.moves.finish(p, f"{Reason.INCOMPLETE} ({os.strerror(errno.EMFILE)})")
            return
        lib.mos_keep_usage()
        channel = Channel(passed, message.key, opener=True, end=To.TRACER)
        link = Link(channel, message.target, message.near, message.features, message.frames, message.packs)
        self.tracer.hosts.channels[id(link)] = link
        move = p.move
        move.link, move.target = link, message.target
        link.programs.add(p.pid)
        move.after(Event.CHANNEL_READY, away=p.away)
        if p.away:
            move.order = MoveOrder(
                message.target, message.port, message.direct_token, message.direct_key, message.near, message.features,
                message.frames, message.packs,
            )  # fmt: skip

    def to_file(self, p: Program, move: Move, link: Link) -> None:
        """A program at home is to be frozen: a file is always prepared."""
        move.link = link
        link.programs.add(p.pid)
        move.after(Event.CHANNEL_READY, away=False)
        self.prepared(link)

    def prepared(self, link: Link) -> None:
        """PREPARED: the program needs to stand still only from now on."""
        for p in [self.tracer.programs[pid] for pid in link.programs if pid in self.tracer.programs]:
            move = p.move
            if move is None or move.link is not link:
                continue
            with self.tracer.containment.of(p):
                step = move.after(Event.PREPARED, away=p.away)
                if step is Step.COPY:
                    self.tracer.moves.copy_onward(p, move)
                elif step is Step.SEND_FILES and not self.tracer.carrier.send_ahead(p, link):
                    self.tracer.moves.files_sent(p)

    def forget(self, p: Program) -> None:
        """The process is gone: what mosd answers is of no use."""
        self.requests = {number: other for number, other in self.requests.items() if other is not p}
