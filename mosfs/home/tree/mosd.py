"""A tracer's conversation with the mosd of its node: what it tells of its programs, and what it is told to do."""

from __future__ import annotations

import os
import socket
import time
from typing import Any

from mosfs.engine.link import INFO, MosdLink
from mosfs.engine.newcomers import Newcomers
from mosfs.home.ports import Tree
from mosfs.home.process.program import Place, Program
from mosfs.home.process.settings import inherit
from mosfs.trace import caller
from mosfs.trace.task import TaskGone
from mosfs.wire.messages import (
    Adjust,
    Adjusted,
    ChannelFailed,
    ChannelReady,
    Command,
    Config,
    HelloTracer,
    MailAnswer,
    MailHeld,
    MailRecall,
    MailWake,
    Msg,
    ProcGone,
    Total,
)

#: Where a child can be that does nothing special.
_SETTLED = (Place.HOME, Place.AWAY)
#: Seconds that mosd may take for its first message.
CONFIG_PATIENCE = 5.0


class Mosd:
    """``root_pid`` is the process that mosrun became, of ``uid``. ``newcomers``: programs that mosd has not been told of;
    ``lost``: those that could not be adopted."""

    def __init__(self, tracer: Tree) -> None:
        self.tracer = tracer
        self.root_pid = self.uid = 0
        self.control = MosdLink("", "tracer")
        self.config = Config("", 0, {})
        self.newcomers = Newcomers()
        self.lost: list[int] = []

    def begin(self, root_pid: int, uid: int, path: str) -> None:
        """See `Tracer.begin`."""
        self.root_pid, self.uid, self.control.path = root_pid, uid, path

    def send(self, message: Msg) -> bool:
        """False when mosd is not there."""
        return self.control.send(message)

    def connect(self) -> None:
        if self.control.connect():
            self.control.send(HelloTracer(os.getpid(), self.root_pid, self.uid))
            for pid in self.lost:
                self.control.send(ProcGone(pid))
            for p in self.tracer.programs.values():
                p.reports.announced = None
                p.reports.account.news = True
                self.announce(p, at_once=True)
                self.tracer.private.announce_all(p)

    def configured(self) -> bool:
        """mosd has told us about this node. A program may ask in its first instructions, before that has come."""
        until = time.monotonic() + CONFIG_PATIENCE
        while not self.config.ip and self.control.wait(until - time.monotonic()):
            self.receive()
        return bool(self.config.ip)

    def log(self, line: str, level: int = INFO) -> None:
        self.control.log(line, level)

    def announce(self, p: Program, *, at_once: bool = False) -> None:
        """Tell mosd if anything that it shows has changed. Of a child that does nothing special it hears a little later, if it
        still exists then."""
        if p.kin.leader:
            return
        if p.reports.announced is None and p.kin.parent and p.place in _SETTLED and p.move is None and not at_once:
            self.newcomers.add(p.pid)
            return
        state = p.state()
        if state != p.reports.announced:
            p.reports.announced = state
            self.control.send(state)

    def ended(self, p: Program, total: Total | None, status: int | None) -> None:
        """The process is gone; nothing is told of one that came and went before mosd had heard of it."""
        self.newcomers.forget(p.pid)
        if p.reports.announced is None:
            return
        if total is not None:
            self.log(
                f"pid={p.pid} ended; used away: {total.user_away:.2f} s user, {total.system_away:.2f} s system,"
                " its children's included"
            )
        self.control.send(ProcGone(p.pid, total, status))

    def tell_last_messages(self) -> None:
        """Once a second: of the last messages that programs have read."""
        for p in list(self.tracer.programs.values()):
            if p.post.last is not None:
                self.announce(p)

    def due(self) -> float | None:
        """When `introduce` has something to do."""
        return self.newcomers.due()

    def introduce(self, now: float) -> None:
        """Announce the newcomers whose time has come."""
        for pid in self.newcomers.ready(now):
            if p := self.tracer.programs.get(pid):
                self.announce(p, at_once=True)

    def receive(self) -> None:
        for message, passed in self.control.receive():
            p = self._concerned(message)
            with self.tracer.containment.of(p) if p is not None else self.tracer.containment.nobody(type(message).__name__):
                self._message(message, passed)

    def _concerned(self, message: Any) -> Program | None:
        """The program that a message of mosd is about."""
        if isinstance(message, ChannelReady | ChannelFailed):
            return self.tracer.openings.asked_for(message.req)
        return self.tracer.programs.get(getattr(message, "pid", 0))

    def _message(self, message: Any, passed: Any) -> None:
        match message:
            case Config():
                self.config = message
            case Command():
                self.tracer.controls.command(message)
            case Adjust():
                self._adjust(message, passed)
            case MailAnswer() | MailWake() | MailRecall():
                self.tracer.mails.message(message, passed)
            case MailHeld(pid=pid, node=node):
                if p := self.tracer.programs.get(pid):
                    p.post.mailbox = node
                    self.announce(p)
            case ChannelReady():
                self.tracer.openings.ready(message, passed)
            case ChannelFailed():
                self.tracer.openings.failed(message)
            case _:
                if passed is not None:
                    passed.close()

    def _adjust(self, message: Adjust, passed: socket.socket | None) -> None:
        """mosrun or mosnative inside the tree: what it asks holds from the caller's next exec on."""
        if passed is not None:
            passed.close()
        p = self.tracer.programs.get(message.pid)
        if p is None:
            self.control.send(Adjusted(message.req, "no such MOSIX process"))
            return
        if self.tracer.mails.involved(p):
            self.control.send(Adjusted(message.req, "Too many open files"))
            return
        asker = caller.Caller(message.pid, message.uid, message.gid, message.started)
        try:
            caller.compare(asker)
        except (caller.NotTheCaller, TaskGone) as error:
            self.control.send(Adjusted(message.req, str(error)))
            return
        if message.native:
            p.pending.native = True
            p.pending.start = self.tracer.occasions.start_native
        else:
            p.pending.settings = inherit(p.settings, message.settings)
            p.pending.trace = self.tracer.traces.of(asker, message.start.trace)
            p.pending.start, p.pending.restart = None, self.tracer.recovery.starter(asker, message.start)
            if p.pending.restart is None and (message.start.node or message.start.shown):
                p.pending.start = self.tracer.occasions.starter(message.start)
        self.control.send(Adjusted(message.req, ""))
