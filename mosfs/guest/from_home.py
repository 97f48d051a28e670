"""Frames from home: who deals with each (docs/design/frames.md)."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable

from mosfs.abi.reasons import Reason
from mosfs.calls import cputime, cputimers
from mosfs.calls.cputime import Used
from mosfs.guest.alarms import Alarms
from mosfs.guest.body import Body, State
from mosfs.guest.building import AHEAD, Building
from mosfs.guest.clocks import Clocks
from mosfs.guest.completion import Completion
from mosfs.guest.containment import Containment
from mosfs.guest.context import Context
from mosfs.guest.copying import Copying
from mosfs.guest.faults import Faults
from mosfs.guest.mail import Mails
from mosfs.guest.mapping import MappedFiles
from mosfs.guest.onward import Onward
from mosfs.guest.ports import Ending
from mosfs.guest.private import Private
from mosfs.guest.processes import Processes
from mosfs.guest.serve import Serve
from mosfs.guest.signals import Signals
from mosfs.guest.timed import Timed
from mosfs.guest.tolls import Tolls
from mosfs.guest.usage import Statistics
from mosfs.migrate.capture import signed
from mosfs.migrate.image import BadImage
from mosfs.trace.clock import Shown
from mosfs.trace.task import behind
from mosfs.wire.channel import ChannelLost
from mosfs.wire.faults import Point, Serving, fault
from mosfs.wire.frames import Frame, Kind
from mosfs.wire.messages import GuestStayed

#: Frames about children that are being made.
MOST_EARLY = 256


class FromHome:
    def __init__(
        self, context: Context, containment: Containment, ending: Ending, clocks: Clocks, statistics: Statistics, alarms: Alarms,
        signals: Signals, faults: Faults, completion: Completion, files: MappedFiles, processes: Processes, serve: Serve,
        private: Private, mails: Mails, copying: Copying, onward: Onward, building: Building, tolls: Tolls, timed: Timed,
    ) -> None:  # fmt: skip
        self._context = context
        self._containment = containment
        self._ending = ending
        self._clocks = clocks
        self._faults = faults
        self._signals = signals
        self._statistics = statistics
        self._processes = processes
        self._private = private
        self._mails = mails
        self._copying = copying
        self._onward = onward
        self._building = building
        self._tolls = tolls
        self._timed = timed
        self._early: deque[Frame] = deque(maxlen=MOST_EARLY)
        #: Of frames about a body that is here.
        self._handlers: dict[int, Callable[[Body, Frame], None]] = {
            Kind.REPLY: lambda body, frame: completion.reply(body, frame.payload, frame.flags >> 1),
            Kind.GO: self._go,
            Kind.MAIL_TABLE: lambda body, frame: mails.told(body, frame.content),
            Kind.SIGNAL: self._signal,
            Kind.DROP: lambda body, frame: ending.remove(body, kill=True),
            Kind.EXECED: self._executed,
            Kind.RECALL: self._recall,
            Kind.COPY: lambda body, frame: copying.copy(body, frame.content),
            Kind.MOVE_TO: lambda body, frame: onward.request(body, frame.content),
            Kind.RESUME: lambda body, frame: onward.resume(body),
            Kind.ROUND: self._round,
            Kind.FILE: self._file_changed,
            Kind.FORK_REPLY: self._forked,
            Kind.CPU_ALARM: lambda body, frame: alarms.set(body, cputimers.Alarm(*(frame.content or ()))),
            Kind.MMAP_NAME: lambda body, frame: files.name(body, frame.payload, shared=bool(frame.flags & 1)),
            Kind.MMAP_DATA: lambda body, frame: files.data(body, frame.payload),
            Kind.SHOW: lambda body, frame: serve.show(body, frame.content, asked=True),
            Kind.ABOUT: lambda body, frame: statistics.about(body, frame.content),
            Kind.STAYED: self._stayed,
            Kind.STOP: self._stop,
            Kind.CONT: self._cont,
            Kind.FETCH: lambda body, frame: private.fetched(body),
        }

    def frame(self, frame: Frame) -> None:
        """A frame from home (or one that has waited until an image was complete)."""
        body = self._context.bodies.get(frame.pair)
        try:
            fault(Serving.NODE_FRAME, None, body.comm if body is not None else "?")
            handler = self._handlers.get(frame.kind) if body is not None else None
            if body is not None and handler is not None:
                self._clocks.heard(body)
                handler(body, frame)
            elif body is None or frame.kind in _OF_CHANNEL:
                self._without_body(frame)
        except Exception as error:
            if body is not None:
                self._containment.trouble(body, error)
            else:
                self._containment.trouble_of_nobody(f"frame {frame.kind} of origpid={frame.pair}", error)

    def _without_body(self, frame: Frame) -> None:
        """About a program that is coming, about the channel, or about one that is here no more."""
        kind, channel = frame.kind, self._context.channel
        if kind == Kind.IMAGE:
            self._building.image(frame)
        elif kind in AHEAD:
            self._context.close_direct()  # home sends the program itself, not the other host
            self._building.early(frame, channel)
        elif kind == Kind.CLOCK:
            self._clocks.adjust(frame.content)
        elif kind == Kind.TIME:
            self._clocks.told(frame.payload)
        elif kind == Kind.DROP:
            self._building.forget_early(frame.pair)
        elif kind in _OF_CHILD:
            self._keep(frame)
        elif kind == Kind.SHOW:
            channel.send(Kind.SHOWN, frame.pair, b"", 1)
        elif kind in (Kind.RECALL, Kind.MOVE_TO):
            channel.send(Kind.CANNOT, frame.pair, b"no such guest")

    def _keep(self, frame: Frame) -> None:
        """Perhaps it is about a child that a body is about to make, or for a thread that has ended."""
        if frame.kind == Kind.SIGNAL and self._processes.stray(frame.pair, frame.payload):
            return
        if any(body.state is State.FORKING for body in self._context.bodies.values()):
            self._early.append(frame)

    def born(self, child: Body) -> None:
        """It is here: what has come about it before that."""
        for frame in [frame for frame in self._early if frame.pair == child.pair]:
            self._early.remove(frame)
            self.frame(frame)

    def _go(self, body: Body, frame: Frame) -> None:
        """Committed: the program runs here. The call that it was to wait in is made anew, if it was lost with the old host."""
        if body.meta is None:
            raise BadImage("GO of what runs already")
        self._clocks.adjust(frame.content)
        fault(Point.NODE_AFTER_GO, self._context.channel)
        self._clocks.set(body, Shown(body.meta.shown.realtime, body.meta.shown.monotonic))
        body.times.used_before, body.times.used_to_build = Used(*body.meta.used), cputime.of_process(body.pid)
        body.times.used_last = body.times.told_used = body.times.used_before
        if body.meta.own_used is not None:
            body.times.own_before = body.times.own_last = Used(*body.meta.own_used)
            body.times.own_to_build = body.times.used_to_build
        self._context.channel.send(Kind.RUNNING, body.pair)
        _go(body, waiting=body.meta.waiting and frame.content.call in (None, body.call.seq))
        for thread in body.threads.values():
            _go(thread, waiting=thread.own.came is not None and thread.own.came.waiting)
            thread.own.came = None
        body.meta = None
        self._tolls.arrived(body)
        self._context.announce(body)
        self._private.announce_all(body)

    def _signal(self, body: Body, frame: Frame) -> None:
        self._signals.came(body, frame.payload)
        if body.state is State.POST:
            self._mails.signalled(body)

    def _forked(self, body: Body, frame: Frame) -> None:
        result, pidfd, *alarm = frame.content
        self._processes.fork_reply(body, result, pidfd, cputimers.Alarm(*alarm))

    def _executed(self, body: Body, frame: Frame) -> None:
        """EXECED: home has executed another program; another image for it follows."""
        context = self._context
        self._statistics.leaves(body)
        self._tolls.executed(body)
        self._ending.remove(body, kill=True)
        context.had_bodies = context.had_bodies and bool(context.bodies)
        context.started = time.monotonic()

    def _recall(self, body: Body, frame: Frame) -> None:
        if body.leaving.copy is not None and not body.leaving.copy.home:
            self._copying.forget(body)
        body.leaving.objects = frame.content
        body.leaving.kept = frame.flags
        self._onward.request(body, None)

    def _round(self, body: Body, frame: Frame) -> None:
        if body.leaving.copy is not None and body.leaving.copy.home:
            self._copying.answered(body, bool(frame.flags))

    def _file_changed(self, body: Body, frame: Frame) -> None:
        """A file that the program maps has changed at home. Without memory for that the body must not go on."""
        try:
            body.memory.copies.apply(frame.payload)
        except BadImage as error:
            raise ChannelLost(str(error)) from error
        except OSError as error:
            if body.state is State.COMPLETE:  # what it shares: it has not run
                self._ending.remove(body, kill=True)
                self._context.channel.send(Kind.FAIL, body.pair, Reason.INCOMPLETE.encode())
                return
            self._context.log(f"origpid={body.pair} no memory for a file that it maps: {error}", 40)
            os.kill(body.pid, 9)

    def _stayed(self, body: Body, frame: Frame) -> None:
        """It was to leave, and home has not moved it."""
        if body.processor.faulted:
            self._faults.stays(body)
        else:
            self._context.control.send(GuestStayed(body.pid, frame.content))

    def _stop(self, body: Body, frame: Frame) -> None:
        """A signal has stopped the program at home."""
        body.stopping.halted = True
        if body.state in (State.RUNNING, State.TIMED) and not body.stopping.interrupting:
            body.stopping.interrupting = True
            body.task.interrupt()

    def _cont(self, body: Body, frame: Frame) -> None:
        body.stopping.halted = False
        if body.stopping.paused:
            body.stopping.paused = False
            if body.state is State.TIMED and body.signals.infos:
                self._timed.broken_off(body)
            else:
                body.task.cont()


def _go(body: Body, *, waiting: bool) -> None:
    """It runs, or waits in the call that it has come in."""
    if waiting:
        body.state = State.WAITING
        body.call.nr = signed(body.call.regs.rax)
        body.call.regs = behind(body.call.regs, 0)
    else:
        body.state = State.RUNNING
        body.task.set_regs(body.call.regs)
        body.task.cont()


#: Frames about a child whose deputy home has made, and which its parent here is about to make.
_OF_CHILD = frozenset({Kind.SIGNAL, Kind.STOP, Kind.CONT})
#: Frames about no body that is here, though its program may have one: an image that comes again is refused.
_OF_CHANNEL = AHEAD | {Kind.IMAGE, Kind.CLOCK, Kind.TIME}
