"""The host: one process with one event loop, made of the parts of this package, each of which knows those before it only.

States of a body are in `body.State`; the tracer of the home-node coordinates (`docs/design/migration.md`). A host does what it is
told in order: frames of one channel are never overtaken, so a REPLY that was sent before RECALL is applied before the capture.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import msgspec

from mosfs.abi import cpu
from mosfs.abi.texts import Text, text
from mosfs.cluster import dump
from mosfs.engine.clocks import PERIOD
from mosfs.engine.lanes import plans
from mosfs.engine.loop import IDLE
from mosfs.guest.alarms import Alarms
from mosfs.guest.body import Body, State
from mosfs.guest.building import Building
from mosfs.guest.clocks import Clocks
from mosfs.guest.completion import Completion
from mosfs.guest.containment import Containment
from mosfs.guest.context import Context
from mosfs.guest.copying import Copying
from mosfs.guest.faults import Faults
from mosfs.guest.forwarding import Forwarding
from mosfs.guest.from_home import FromHome
from mosfs.guest.lanes import Lanes
from mosfs.guest.mail import Mails
from mosfs.guest.mapping import MappedFiles
from mosfs.guest.masks import Masks
from mosfs.guest.onward import Onward
from mosfs.guest.private import Private
from mosfs.guest.private_calls import PrivateCalls
from mosfs.guest.processes import Processes
from mosfs.guest.sandbox import spawn
from mosfs.guest.serve import Serve
from mosfs.guest.signals import Signals
from mosfs.guest.stops import Stops
from mosfs.guest.threads import Threads
from mosfs.guest.timed import Timed
from mosfs.guest.tolls import Tolls
from mosfs.guest.usage import Statistics, tell_used
from mosfs.migrate.rebuild import NoRoom
from mosfs.native import lib
from mosfs.trace import clock as clocks
from mosfs.trace.filter import guest_filter
from mosfs.trace.stops import decode
from mosfs.trace.task import discard, killed
from mosfs.wire import channel
from mosfs.wire.channel import Channel, ChannelLost
from mosfs.wire.frames import Frame, Kind, To
from mosfs.wire.messages import (
    Command,
    Config,
    DirectImage,
    HelloHost,
    MailAnswer,
    MailRecall,
    MailWake,
    SpawnHost,
)
from mosfs.wire.orders import OutOrder
from mosfs.wire.room import raise_limit

#: Seconds until a body that does not stop, or does not end a call that was injected, is killed. It waits for nothing but memory.
PATIENCE = 10
#: A body waits for its image so long, seconds.
IMAGE_PATIENCE = 30.0


@dataclass(slots=True)
class Early:
    """The wait status of a process that its parent has not told of yet; ``old``: since the last housekeeping, at least."""

    raw: int
    old: bool = False


class Host:
    """It is made before anybody needs it, by the process that forks hosts: that takes as long as to make a body. So nothing in it
    may concern one process, or home, but what `begin` sets."""

    def __init__(self) -> None:
        context = self.context = Context()
        self.early: dict[int, Early] = {}
        self.containment = Containment(context, self)
        self.statistics = Statistics(context)
        self.tolls = Tolls(context)
        self.clocks = Clocks(context)
        self.alarms = Alarms(context, self.containment)
        self.forwarding = Forwarding(context, self.alarms)
        self.signals = Signals(self)
        self.private = Private(context, self)
        self.completion = Completion(self.signals, self.private, self, self.clocks)
        self.timed = Timed(context, self.completion)
        self.threads = Threads(context, self.signals)
        private_calls = PrivateCalls(self.private, self.forwarding, self.completion)
        self.mails = Mails(context, self.containment, self.forwarding, self.completion, self.signals, self)
        self.files = MappedFiles(self.forwarding, self.completion)
        self.processes = Processes(
            context, self.alarms, self.forwarding, self.signals, self.private, self.completion, self.mails, self.threads
        )
        self.serve = Serve(
            context, self.forwarding, self.signals, self.completion, private_calls, self.mails,
            Masks(context, self.forwarding), self.files, self.processes, self.timed, self.clocks,
        )  # fmt: skip
        self.copying = Copying(context, self.containment, self.private)
        self.onward = Onward(
            context, self.containment, self.statistics, self.signals, self.private, self.mails, self.copying, self.threads
        )
        self.building = Building(context, self.private, self.threads, self, self)
        self.faults = Faults(context, self.mails, self.onward)
        self.stops = Stops(self.serve, self.processes, self.signals, self.faults, self.copying, self.onward, self.timed, self)
        self.threads.stops, self.threads.timed = self.stops, self.timed
        self.from_home = FromHome(
            context, self.containment, self, self.clocks, self.statistics, self.alarms, self.signals, self.faults, self.completion,
            self.files, self.processes, self.serve, self.private, self.mails, self.copying, self.onward, self.building, self.tolls,
            self.timed,
        )  # fmt: skip
        self.lanes = Lanes(context, self.tolls, self.clocks, self.forwarding.untold)
        self.next_clock = 0.0

    def begin(self, order: SpawnHost, data: socket.socket) -> None:
        """This process is the host of what comes over ``data``."""
        self.context.begin(order, data)
        self.statistics.begin()
        self.next_clock = time.monotonic() + PERIOD

    # ------------------------------------------------------------------ the loop

    def run(self) -> None:
        """Serve the bodies until the last one has left, or the channel breaks."""
        self._connect()
        self._prepare()
        each_turn: tuple[Callable[[float], object], ...] = (
            lambda _: self.alarms.look(), self.forwarding.untold.look, self.tolls.look, self.context.introduce,
        )  # fmt: skip
        contained = partial(self.containment.nobody, "looking at mailboxes")
        while self.context.bodies or self._expecting():
            if self.context.control.has_ended():
                self.mails.desk.lost()
            fds: list[Any] = [self.context.channel]
            if self.context.control.sock is not None:
                fds.append(self.context.control)
            if self.context.direct is not None:
                fds.append(self.context.direct)
            copied = self.copying.under_way()
            fds += [body.leaving.copy.channel for body in copied if body.leaving.copy is not None and not body.leaving.copy.home]
            pending = self.context.channel.pending()
            now = time.monotonic()
            pause = min(
                self.next_clock - now, self.copying.pause(copied), self.alarms.pause(now), self.context.pause(now),
                self.forwarding.untold.pause(now),
            )  # fmt: skip
            timeout = 0 if pending else max(0, int(pause * 1e6))
            numbers, borrowed = [source.fileno() for source in fds], self.mails.desk.borrowed
            full = [source.fileno() for source in fds if isinstance(source, Channel) and source.unsent]
            self.lanes.arm()
            self.private.windows.arm()
            ready = self.context.loop.turn(
                numbers, timeout, self.task_event, borrowed, contained, lanes=self._served_by_c, full=full,
            )  # fmt: skip
            if 0 <= ready < len(fds):
                self._readable(fds[ready])
            elif pending and ready == IDLE:
                self._readable(self.context.channel)
            if copied or self.copying.brake:
                self.containment.turn((lambda _: self.copying.step(),), now)
            self.containment.turn(each_turn, now)
            if now >= self.next_clock:
                self.next_clock = now + PERIOD
                self._housekeeping()

    def _served_by_c(self) -> None:
        self.lanes.look()
        self.private.windows.look()

    def _expecting(self) -> bool:
        """A program is coming, or may come yet."""
        waits = not self.context.had_bodies and time.monotonic() - self.context.started < IMAGE_PATIENCE
        return bool(waits or self.context.arriving or self.private.spools)

    def _prepare(self) -> None:
        """An empty body, made while the program still runs where it is."""
        try:
            self.context.spare = spawn(self.context.runs_as)
        except (NoRoom, OSError) as error:
            self.context.log(f"no body can be made here: {error}", 30)
        self.clocks.start()
        self.context.channel.send(Kind.PREPARED, 0)

    def _readable(self, source: Any) -> None:
        if source is self.context.channel:
            for frame in self.context.channel.frames():
                self.from_home.frame(frame)
        elif source is self.context.control:
            self.hear()
        elif self.context.direct is not None and source is self.context.direct:
            self.building.receive_direct(self.context.direct)
        else:
            for body in self.copying.under_way():
                if body.leaving.copy is not None and body.leaving.copy.channel is source:
                    self.copying.heard(body)

    def _housekeeping(self) -> None:
        """Once a second."""
        self.context.channel.flush()
        if self.context.control.sock is None:
            self._connect()
        self.containment.turn((
            self.statistics.tick, lambda _: self.clocks.tick(), lambda _: self._end_unclaimed(), lambda _: self._tell_used(),
            lambda _: self.building.look(), lambda _: self.copying.look(),
        ), time.monotonic())  # fmt: skip

    def _tell_used(self) -> None:
        for body in list(self.context.bodies.values()):
            with self.containment.of(body):
                if body.leader is not None or body.state not in (State.RUNNING, State.WAITING, State.TIMED):
                    continue
                if body.used() != body.times.told_used:
                    tell_used(body, self.context.channel)

    def _end_unclaimed(self) -> None:
        """A process whose parent was killed before it could tell of it has not run, and never will."""
        for pid, early in list(self.early.items()):
            if early.old:
                del self.early[pid]
                if os.WIFSTOPPED(early.raw):  # it is ours until its end is seen, so the number is no other's
                    os.kill(pid, signal.SIGKILL)
            early.old = True

    # ------------------------------------------------------------------ mosd

    def _connect(self) -> None:
        if self.context.control.connect():
            context = self.context
            context.control.send(HelloHost(os.getpid(), context.home, context.token, context.uid, context.runs_as))
            for body in context.bodies.values():
                if body.leader is not None:
                    continue
                body.account.news = True
                self.context.announce(body)
                self.private.announce_all(body)

    def hear(self) -> None:
        for message, passed in self.context.control.receive():
            body = self._concerned(message)
            with self.containment.of(body) if body is not None else self.containment.nobody(type(message).__name__):
                self._message(message, passed)

    def _concerned(self, message: Any) -> Body | None:
        """The guest that a message of mosd is about: a customer of the post office is called by its PID at home."""
        return self.context.bodies.get(message.pid) if isinstance(message, MailWake | MailRecall) else None

    def _message(self, message: Any, passed: Any) -> None:
        match message:
            case Config():
                self.context.config = message
            case MailAnswer() | MailWake() | MailRecall():
                self.mails.desk.message(message, passed)
            case DirectImage() if passed is not None:
                self.context.close_direct()
                self.context.direct = Channel(passed, message.key, opener=False, end=To.NEXT_HOST)
            case Command() if message.name == "out":
                for body in self.context.bodies.values():
                    if body.leader is None and message.pid in (0, body.pid):
                        order = OutOrder(message.value, message.below, message.why)
                        self.context.channel.send(Kind.STEP_OUT, body.pair, msgspec.msgpack.encode(order))
            case _:
                if passed is not None:
                    passed.close()

    # ------------------------------------------------------------------ bodies

    def frame(self, frame: Frame) -> None:
        self.from_home.frame(frame)

    def trapped(self, body: Body) -> None:
        self.serve.trapped(body)

    def again(self, body: Body, result: int) -> None:
        self.serve.again(body, result)

    def remove(self, body: Body, *, kill: bool = False) -> None:
        """The body is not here any more, nor are its other threads."""
        for thread in body.threads.values():
            self.context.bodies.pop(thread.pair, None)
            self.context.by_pid.pop(thread.pid, None)
        self.context.bodies.pop(body.pair, None)
        self.context.by_pid.pop(body.pid, None)
        gone = (self.processes.gone, self.tolls.gone, self.mails.gone, self.copying.forget, self.private.forget, self.lanes.forget)
        for step in gone:
            with self.containment.nobody(f"forgetting origpid={body.pair}"):
                step(body)
        if kill:
            discard(body.task, [thread.task for thread in body.threads.values()])
        if not any(other.memory.copies is body.memory.copies for other in self.context.bodies.values()):
            body.memory.copies.close()
        self.context.ended(body)

    def task_event(self, pid: int, raw: int) -> None:
        body = self.context.by_pid.get(pid)
        if body is None:
            self.early[pid] = Early(raw)
            return
        child = None
        self.lanes.met(pid)
        try:
            child = self.stops.handle(body, decode(raw))
        except Exception as error:
            self.containment.trouble(body, error)
        if child is not None:
            self.from_home.born(child)
        if child is not None and (early := self.early.pop(child.pid, None)) is not None:
            self.task_event(child.pid, early.raw)

    def died(self, body: Body, status: int, *, failed: bool = False) -> None:
        """Its process is gone: killed for want of memory, by an administrator, or (``failed``) since we could not serve it."""
        body = body.leader or body
        body.state = State.LEAVING
        self.remove(body)
        self.context.channel.send(Kind.DIED, body.pair, struct.pack("<i", status or 9), int(failed))


def prepare() -> None:
    """What every host needs, made once by the process that forks them."""
    guest_filter()
    plans()
    channel.prepare()
    clocks.native_counter()
    cpu.features()
    made_host()


@lru_cache(maxsize=1)
def made_host() -> Host:
    """The one of this process: `prepare` makes it, a fork begins with it."""
    return Host()


def parts(host: Host) -> Iterator[tuple[str, Any]]:
    """What a dump shows: the bodies, the channels, and all that waits in the host's parts."""
    yield from ((f"body {body.pid} of {pair}", body) for pair, body in host.context.bodies.items())
    yield from ((f"arriving {pair}", arriving) for pair, arriving in host.context.arriving.items())
    yield from dump.components(host)


def main(order: SpawnHost, data: socket.socket) -> int:
    """The life of a host; 0 at its ordinary end."""
    raise_limit()
    host = made_host()
    host.begin(order, data)
    lib.mos_patience(PATIENCE)
    killed.tell = lambda line: host.context.log(line, 30)
    dump.on_signal(lambda: parts(host))
    try:
        host.run()
        host.context.channel.finish()
    except ChannelLost as lost:
        # home is lost (or has nothing for us any more): the bodies die with us
        if host.context.bodies:
            dead = text(Text.SEEMS_DEAD, computer=host.context.home)
            host.context.log(f"{dead}: {len(host.context.bodies)} guest(s) ended ({lost})", 30)
    except Exception:
        host.context.log(traceback.format_exc(), 40)
        raise
    finally:
        if host.context.spare is not None:
            discard(host.context.spare)
        for arriving in host.context.arriving.values():
            arriving.discard()
        for body in list(host.context.bodies.values()):
            discard(body.task)
            host.context.ended(body)
    return 0
