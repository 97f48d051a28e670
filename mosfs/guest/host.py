"""The host: builds guests from images, runs them, sends home what they ask for, sends their images on (picture: the package).

States of a body are in `body.State`; the tracer of the home-node coordinates (`docs/design/migration.md`). A host does what it is
told in order: frames of one channel are never overtaken, so a REPLY that was sent before RECALL is applied before the capture.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import time
import traceback
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import msgspec

from mosfs.abi import cpu
from mosfs.abi.texts import Text, text
from mosfs.calls import cputime, cputimers, partial
from mosfs.calls.cputime import Used
from mosfs.calls.partial import Carry
from mosfs.calls.request import VALUE, BadRequest, Request, unpack_reply
from mosfs.cluster import dump
from mosfs.engine.clocks import PERIOD, refresh
from mosfs.engine.link import INFO, MosdLink
from mosfs.engine.loop import IDLE, Loop
from mosfs.guest import offset as offsets
from mosfs.guest.alarms import Alarms
from mosfs.guest.arriving import Arriving
from mosfs.guest.body import Body, State, discard, spawn
from mosfs.guest.building import Building
from mosfs.guest.containment import Containment
from mosfs.guest.mail import Mails
from mosfs.guest.offset import Offset
from mosfs.guest.onward import AHEAD, Onward
from mosfs.guest.private import Private
from mosfs.guest.serve import Serve
from mosfs.guest.signals import Signals
from mosfs.guest.usage import Statistics
from mosfs.migrate.capture import RESTARTS, signed, user_regs
from mosfs.migrate.image import BadImage
from mosfs.migrate.rebuild import NoRoom
from mosfs.migrate.shown import named
from mosfs.native import lib
from mosfs.trace import clock as clocks
from mosfs.trace import layout
from mosfs.trace.clock import GuestClock
from mosfs.trace.filter import guest_filter
from mosfs.trace.inject import Calls
from mosfs.trace.stops import USES_UP, Status, Stop, decode
from mosfs.trace.task import NOTHING, SYSCALL, Task, behind, killed
from mosfs.wire.channel import Channel, ChannelLost
from mosfs.wire.faults import Point, Serving, fault
from mosfs.wire.frames import Frame, Kind, To
from mosfs.wire.messages import (
    Command,
    Config,
    DirectImage,
    GuestGone,
    GuestState,
    GuestStayed,
    HelloHost,
    MailAnswer,
    MailRecall,
    MailWake,
    SpawnHost,
)
from mosfs.wire.orders import GoTimes, OutOrder
from mosfs.wire.room import raise_limit

#: Seconds until a body that does not stop, or does not end a call that was injected, is killed. It waits for nothing but memory.
PATIENCE = 10
#: A body waits for its image so long, seconds.
IMAGE_PATIENCE = 30.0


class Host:
    def __init__(self, spawn_order: SpawnHost, data: socket.socket) -> None:
        self.home = spawn_order.home
        self.uid = spawn_order.uid
        self.comm = spawn_order.comm
        self.near = spawn_order.near
        self.token = spawn_order.token
        self.own_cluster = spawn_order.own_cluster
        self.home_features = spawn_order.features
        self.runs_as = spawn_order.runs_as
        self.channel = Channel(data, spawn_order.key, opener=False, end=To.HOST)
        self.control = MosdLink(spawn_order.socket, "host")
        self.config = Config("", 0, {})
        self.direct: Channel | None = None
        self.bodies: dict[int, Body] = {}
        self.by_pid: dict[int, Body] = {}
        self.arriving: dict[int, Arriving] = {}
        self.early: dict[int, int] = {}
        self.had_bodies = False
        self.spare: Task | None = None
        self.started = time.monotonic()
        self.clock: GuestClock | None = None
        self.offset: Offset | None = None  # of another kernel's clocks
        self.questions = 0  # about them
        self.features = cpu.features()
        self.containment = Containment(self)
        self.building = Building(self)
        self.serve = Serve(self)
        self.onward = Onward(self)
        self.private = Private(self)
        self.signals = Signals(self)
        self.statistics = Statistics(self)
        self.alarms = Alarms(self)
        self.loop = Loop()
        self.pump = self.loop.pump
        self.mails = Mails(self)
        self.next_clock = time.monotonic() + PERIOD
        self._kernel = clocks.kernel_id()

    # ------------------------------------------------------------------ the loop

    def run(self) -> None:
        """Until the last body has left or the channel breaks."""
        self._connect()
        self._prepare()
        while self.bodies or self._expecting():
            if self.control.has_ended():
                self.mails.desk.lost()
            fds: list[Any] = [self.channel]
            if self.control.sock is not None:
                fds.append(self.control)
            if self.direct is not None:
                fds.append(self.direct)
            copied = self.onward.under_way()
            fds += [body.copy.channel for body in copied if body.copy is not None and not body.copy.home]
            pending = self.channel.pending()
            now = time.monotonic()
            pause = min(self.next_clock - now, self.onward.pause(copied), self.alarms.pause(now))
            timeout = 0 if pending else max(0, int(pause * 1e6))
            contained = self.containment.nobody("looking at mailboxes")
            numbers, borrowed = [source.fileno() for source in fds], self.mails.desk.borrowed
            ready = self.loop.turn(numbers, timeout, self.task_event, borrowed, contained)
            if 0 <= ready < len(fds):
                self._readable(fds[ready])
            elif pending and ready == IDLE:
                self._readable(self.channel)
            if copied:
                self.onward.step()
            self.alarms.look()
            if now >= self.next_clock:
                self.next_clock = now + PERIOD
                self._housekeeping()

    def _expecting(self) -> bool:
        """A program is coming, or may come yet."""
        waits = not self.had_bodies and time.monotonic() - self.started < IMAGE_PATIENCE
        return bool(waits or self.arriving or self.private.spools)

    def _prepare(self) -> None:
        """An empty body, made while the program still runs where it is."""
        try:
            self.spare = spawn(self.runs_as)
        except (NoRoom, OSError) as error:
            self.log(f"no body can be made here: {error}", 30)
        self.clock = GuestClock()  # measures the counter now, not while the program stands still; GO sets it
        self._ask_clock()
        self.channel.send(Kind.PREPARED, 0)

    def _readable(self, source: Any) -> None:
        if source is self.channel:
            for frame in self.channel.frames():
                self.frame(frame)
        elif source is self.control:
            self._control_event()
        elif self.direct is not None and source is self.direct:
            self.onward.receive_direct(self.direct)
        else:
            for body in self.onward.under_way():
                if body.copy is not None and body.copy.channel is source:
                    self.onward.heard(body)

    def close_direct(self) -> None:
        if self.direct is not None:
            self.direct.close()
            self.direct = None

    def _housekeeping(self) -> None:
        if self.control.sock is None:
            self._connect()
        self.statistics.tick(time.monotonic())
        if self.offset is not None:
            self._ask_clock()
        for body in list(self.bodies.values()):
            with self.containment.of(body):
                if body.state in (State.RUNNING, State.WAITING) and body.used() != body.told_used:
                    self.tell_used(body)
                if body.state in (State.RUNNING, State.WAITING) and self.clock is not None and body.clock_page:
                    with suppress(OSError):
                        body.clock_page = refresh(body.pid, self.clock, body.clock_page)

    # ------------------------------------------------------------------ mosd

    def _connect(self) -> None:
        if self.control.connect():
            self.control.send(HelloHost(os.getpid(), self.home, self.token, self.uid, self.runs_as))
            for body in self.bodies.values():
                body.account.news = True
                self.announce(body)
                self.private.announce_all(body)

    def announce(self, body: Body) -> None:
        self.control.send(GuestState(
            body.pid, body.pair, self.home, self.uid, body.comm or self.comm, body.since, body.settings,
            cpu.required(body.features, body.needs) if body.features else [],
        ))

    def log(self, text: str, level: int = INFO) -> None:
        self.control.log(text, level)

    def _control_event(self) -> None:
        for message, passed in self.control.receive():
            body = self._concerned(message)
            with self.containment.of(body) if body is not None else self.containment.nobody(type(message).__name__):
                self._message(message, passed)

    def _concerned(self, message: Any) -> Body | None:
        """The guest that a message of mosd is about: a customer of the post office is called by its PID at home."""
        return self.bodies.get(message.pid) if isinstance(message, MailWake | MailRecall) else None

    def _message(self, message: Any, passed: Any) -> None:
        match message:
            case Config():
                self.config = message
            case MailAnswer() | MailWake() | MailRecall():
                self.mails.desk.message(message, passed)
            case DirectImage() if passed is not None:
                self.close_direct()
                self.direct = Channel(passed, message.key, opener=False, end=To.NEXT_HOST)
            case Command() if message.name == "out":
                for body in self.bodies.values():
                    if message.pid in (0, body.pid):
                        order = OutOrder(message.value, message.below, message.why)
                        self.channel.send(Kind.STEP_OUT, body.pair, msgspec.msgpack.encode(order))
            case _:
                if passed is not None:
                    passed.close()

    # ------------------------------------------------------------------ frames from home

    def frame(self, frame: Frame) -> None:
        """A frame from home (or one that has waited until an image was complete)."""
        body = self.bodies.get(frame.pair)
        try:
            self._frame(frame, body)
        except Exception as error:
            if body is not None:
                self.containment.trouble(body, error)
            else:
                self.containment.astray(f"frame {frame.kind} of origpid={frame.pair}", error)

    def _frame(self, frame: Frame, body: Body | None) -> None:
        kind = frame.kind
        fault(Serving.NODE_FRAME, None, body.comm if body is not None else "?")
        if kind == Kind.REPLY:
            if body is not None:
                self.reply(body, frame.payload, frame.flags >> 1)
        elif kind == Kind.IMAGE:
            self.building.image(frame)
        elif kind == Kind.ROUND and body is not None:
            if body.copy is not None and body.copy.home:
                self.onward.answered(body, bool(frame.flags))
        elif kind == Kind.FILE and body is not None:
            self._file_changed(body, frame.payload)
        elif kind in AHEAD:
            if self.direct is not None:  # home sends the program itself, not the other host
                self.close_direct()
            self.onward.early(frame, self.channel)
        elif kind == Kind.CLOCK:
            self._adjust_clock(frame.content)
        elif body is None:
            if kind == Kind.DROP:
                self.onward.forget_early(frame.pair)
            if kind == Kind.SHOW:
                self.channel.send(Kind.SHOWN, frame.pair, b"", 1)
            if kind == Kind.RECALL or kind == Kind.MOVE_TO:
                self.channel.send(Kind.CANNOT, frame.pair, b"no such guest")
        elif kind == Kind.GO:
            self._go(body, frame.content)
        elif kind == Kind.MAIL_TABLE:
            self.mails.told(body, frame.content)
        elif kind == Kind.SIGNAL:
            self.signals.came(body, frame.payload)
        elif kind == Kind.DROP:
            self.drop(body)
        elif kind == Kind.RECALL:
            if body.copy is not None and not body.copy.home:
                self.onward.forget(body)
            self.onward.request(body, None)
        elif kind == Kind.COPY:
            self.onward.copy(body, frame.content)
        elif kind == Kind.MOVE_TO:
            self.onward.request(body, frame.content)
        elif kind == Kind.RESUME:
            self.onward.resume(body)
        elif kind == Kind.FORK_REPLY:
            result, pidfd, *alarm = frame.content
            self.serve.fork_reply(body, result, pidfd, cputimers.Alarm(*alarm))
        elif kind == Kind.CPU_ALARM:
            self.alarms.set(body, cputimers.Alarm(*(frame.content or ())))
        elif kind == Kind.MMAP_NAME:
            self.serve.mmap_name(body, frame.payload, shared=bool(frame.flags & 1))
        elif kind == Kind.MMAP_DATA:
            self.serve.mmap_data(body, frame.payload)
        elif kind == Kind.SHOW:
            self.serve.show(body, frame.content, asked=True)
        elif kind == Kind.ABOUT:
            self.statistics.about(body, frame.content)
        elif kind == Kind.STAYED and body.faulted:
            self.signals.stays(body)
        elif kind == Kind.STAYED:
            self.control.send(GuestStayed(body.pid, frame.content))
        elif kind == Kind.STOP:
            body.held = True
            if body.state is State.RUNNING and not body.interrupting:
                body.interrupting = True
                body.task.interrupt()
        elif kind == Kind.CONT:
            body.held = False
            if body.paused:
                body.paused = False
                body.task.cont()
        elif kind == Kind.FETCH:
            self.private.fetched(body)
        elif kind == Kind.EXECED:
            self.statistics.leaves(body)
            self.drop(body, last=False)

    def _file_changed(self, body: Body, payload: bytes) -> None:
        """A file that the program maps has changed at home. Without memory for that the body must not go on."""
        try:
            body.copies.apply(payload)
        except BadImage as error:
            raise ChannelLost(str(error)) from error
        except OSError as error:
            self.log(f"origpid={body.pair} no memory for a file that it maps: {error}", 40)
            os.kill(body.pid, 9)

    def complete(self, body: Body) -> None:
        """The body stands: tell home, and wait for GO."""
        body.state = State.COMPLETE
        self.bodies[body.pair] = body
        self.by_pid[body.pid] = body
        assert body.meta is not None
        body.seq, body.seen = body.meta.seq, body.meta.seen
        body.carry = Carry(*body.meta.carry) if body.meta.carry is not None else None
        partial.restore(body.task, signed(body.regs.rax), body.carry)
        body.names = named(body.meta.vmas)
        body.features, body.needs = body.meta.features, body.meta.needs
        body.oneshot = {sig for sig, action in body.meta.actions if action[11] & 0x80}
        fault(Point.NODE_BEFORE_READY, self.channel)
        self.channel.send(Kind.READY, body.pair)
        fault(Point.NODE_AFTER_READY, self.channel)

    def _go(self, body: Body, times: GoTimes) -> None:
        """Committed: the program runs here."""
        assert body.meta is not None
        self._adjust_clock(times)
        fault(Point.NODE_AFTER_GO, self.channel)
        assert self.clock is not None
        shown = body.meta.shown
        page = self.clock.page(clocks.following(body.clock_page) if body.clock_page else 0, None,
                               clocks.Shown(shown.realtime, shown.monotonic))  # fmt: skip
        body.task.poke(layout.CLOCK_PAGE, page)
        body.clock_page = page
        body.used_before, body.used_to_build = Used(*body.meta.used), cputime.of_process(body.pid)
        body.used_last = body.told_used = body.used_before
        self.channel.send(Kind.RUNNING, body.pair)
        if body.meta.waiting:
            body.state = State.WAITING
            body.nr = signed(body.regs.rax)
            body.regs = behind(body.regs, 0)
        else:
            body.state = State.RUNNING
            body.task.set_regs(body.regs)
            body.task.cont()
        body.meta = None
        self.announce(body)
        self.private.announce_all(body)

    def _ask_clock(self) -> None:
        assert self.clock is not None
        self.questions += 1
        self.channel.send(Kind.ASK_CLOCK, 0, offsets.ask(self.clock.here().monotonic))

    def _adjust_clock(self, times: GoTimes) -> None:
        """Home's clocks against ours. On the same kernel they are the same; else they are measured, again and again."""
        assert self.clock is not None
        extras = clocks.Extras(times.coarse, times.boot, times.tai)
        if times.boot_id == self._kernel:
            self.clock.adjust(0, None, extras)
            return
        now = self.clock.here().monotonic
        measured = offsets.measured(times, now)
        if measured is not None:
            self.offset = offsets.better(self.offset, measured)
            if offsets.ask_again(self.offset, self.questions):
                self._ask_clock()
        # without an answer yet: GO left home while we waited for it
        ahead = self.offset.monotonic if self.offset is not None else times.monotonic - now
        self.clock.adjust(ahead, times.realtime - times.monotonic, extras)

    # ------------------------------------------------------------------ bodies

    def drop(self, body: Body, *, last: bool = True) -> None:
        """Kill a body that is not wanted any more. ``last`` False: another image for it follows."""
        self.remove(body, kill=True)
        if not last:
            self.had_bodies = self.had_bodies and bool(self.bodies)
            self.started = time.monotonic()

    def remove(self, body: Body, *, kill: bool = False) -> None:
        """The body is not here any more."""
        self.bodies.pop(body.pair, None)
        self.by_pid.pop(body.pid, None)
        for step in (self.mails.gone, self.onward.forget, self.private.forget):
            with self.containment.nobody(f"forgetting origpid={body.pair}"):
                step(body)
        if kill:
            discard(body.task)
        if not any(other.copies is body.copies for other in self.bodies.values()):
            body.copies.close()
        self.control.send(GuestGone(body.pid))

    def task_event(self, pid: int, raw: int) -> None:
        body = self.by_pid.get(pid)
        if body is None:
            self.early[pid] = raw
            return
        try:
            self.handle(body, decode(raw))
        except Exception as error:
            self.containment.trouble(body, error)

    def handle(self, body: Body, status: Status) -> None:
        stop = status.stop
        if body.interrupting and stop in USES_UP:
            body.task.interrupt()
        if stop is Stop.SECCOMP:
            self.serve.trapped(body)
            if body.wanted is not None and body.state is not State.RUNNING:
                # it went into a call before it saw our interrupt: it can leave from there
                order, body.wanted = body.wanted, None
                self.onward.request(body, order)
            elif body.arming is not None and body.state is not State.RUNNING:
                self.onward.copy_memory(body, body.arming)
        elif stop in (Stop.EXITED, Stop.KILLED):
            self.died(body, status.value if stop is Stop.KILLED else 0)
        elif stop is Stop.SIGNAL:
            self.signals.stop(body, status.value)
        elif stop is Stop.TRAP:
            self._trap(body)
        elif stop is Stop.SYSCALL:
            self.serve.syscall_exit(body)
        elif stop in (Stop.FORK, Stop.VFORK, Stop.CLONE):
            self.serve.forked(body)
        else:
            body.task.cont()

    def died(self, body: Body, status: int, *, failed: bool = False) -> None:
        """Its process is gone: killed for want of memory, by an administrator, or (``failed``) since we could not serve it."""
        body.state = State.LEAVING
        self.remove(body)
        self.channel.send(Kind.DIED, body.pair, struct.pack("<i", status or 9), int(failed))

    def _trap(self, body: Body) -> None:
        if body.step is not None:
            self.serve.first_stop(body)
        body.interrupting = False
        self.serve.whole(body)
        if body.state is State.FORKING:
            body.task.cont(request=SYSCALL)
        elif body.wanted is not None or body.infos or body.arming is not None:
            self.stopped(body, Stop.TRAP)
        elif body.held:
            body.paused = True
        else:
            body.task.cont()

    def stopped(self, body: Body, stop: Stop) -> None:
        """A running body has stopped because we asked: deliver what waits, then move it or let it go on."""
        if body.restart is not None:  # first the signal that its broken call waits for (`signals`)
            body.task.cont()
            return
        if body.infos and body.state is State.RUNNING:
            self.signals.deliver(body, stop)
        if body.arming is not None and body.state is State.RUNNING:
            regs = user_regs(body.task.peek_regs(), stop)
            self.onward.arm(body, body.arming, regs)
            body.task.set_regs(regs)
        if body.wanted is not None:
            order, body.wanted = body.wanted, None
            self.onward.capture_running(body, order)
        elif body.held:
            body.paused = True
        else:
            body.task.cont()

    # ------------------------------------------------------------------ answers

    def tell_used(self, body: Body) -> None:
        """CPU_TIME: what the body has computed."""
        body.told_used = body.used()
        self.channel.send(Kind.CPU_TIME, body.pair, cputime.FRAME.pack(*body.told_used))

    def forward(self, body: Body, request: Request, flags: int = 0) -> None:
        """Send a call home; the body waits in it."""
        self.alarms.before_call(body)
        told = request.nr in cputime.CALLS and cputime.place(request.nr, request.args) >= 0
        if told or cputimers.concerns(request.nr, request.args):
            self.tell_used(body)
        body.state = State.WAITING
        body.seq = body.seq + 1 & 0x7FFF
        payload = request.pack(body.seen - len(body.infos))
        body.account.calls += 1
        body.account.sent += len(payload)
        body.told_mask = request.mask
        self.channel.send(Kind.CALL, body.pair, payload, body.seq << 1 | flags)

    def reply(self, body: Body, payload: bytes, seq: int) -> None:
        """REPLY: the call that the body waits in has an outcome. One to an earlier call, made again since, is stale."""
        if body.state not in (State.WAITING, State.EXECING) or seq != body.seq:
            return
        body.account.received += len(payload)
        try:
            result, flags, outs = unpack_reply(payload)
        except (struct.error, BadRequest) as error:
            raise ChannelLost(str(error)) from error
        if body.map_request is not None:
            self.serve.mmap_reply(body, result)
            return
        for addr, data in outs:
            try:
                body.task.write(addr, data)
            except OSError:
                result = -14
        if self.serve.is_part(body, result):
            return
        if body.nr == cputime.CLOCK_GETTIME and outs:
            self.serve.clock_told(body, outs[0][1])
        result = self.mails.result_of(body, result)
        self.finish_call(body, result, value=bool(flags & VALUE))

    def finish_call(self, body: Body, result: int, *, value: bool = False) -> None:
        """Let the body go on behind its call. ``value``: the result never asks for the call to be made again."""
        if body.private is not None:
            self.private.replied(body, result)
        broken = (result in RESTARTS and not (body.carry is not None and body.infos)) or (result == -errno.EINTR and body.infos)
        if broken and not value:
            self.signals.interrupted(body, result)
            return
        if self.serve.finish_both(body, result):
            return
        body.state = State.RUNNING
        regs = body.regs
        if body.carry is not None and partial.concerns(body.carry, body.nr, regs):
            result = partial.total(body.task, body.nr, result, body.carry)
            partial.put_back(regs, body.carry)
            body.carry = None
        regs.rax, regs.orig_rax = result & NOTHING, NOTHING
        self._go_on(body, regs)

    def _go_on(self, body: Body, regs: Any) -> None:
        if body.infos:
            with Calls(body.task, base=regs) as call:
                self.signals.queue(body, call)
        body.task.set_regs(regs)
        if body.held:
            body.paused = True
        else:
            body.task.cont()


def prepare() -> None:
    """What every host needs, made once by the process that forks them."""
    guest_filter()
    clocks.native_counter()
    cpu.features()


def parts(host: Host) -> Iterator[tuple[str, Any]]:
    """What a dump shows: the bodies, the channels, and all that waits in the host's parts."""
    yield from ((f"body {body.pid} of {pair}", body) for pair, body in host.bodies.items())
    yield from ((f"arriving {pair}", arriving) for pair, arriving in host.arriving.items())
    yield from dump.components(host)


def main(order: SpawnHost, data: socket.socket) -> int:
    """The life of a host; 0 at its ordinary end."""
    raise_limit()
    host = Host(order, data)
    lib.mos_patience(PATIENCE)
    killed.tell = lambda line: host.log(line, 30)
    dump.on_signal(lambda: parts(host))
    try:
        host.run()
    except ChannelLost as lost:
        # home is lost (or has nothing for us any more): the bodies die with us
        if host.bodies:
            host.log(f"{text(Text.SEEMS_DEAD, computer=host.home)}: {len(host.bodies)} guest(s) ended ({lost})", 30)
    except Exception:
        host.log(traceback.format_exc(), 40)
        raise
    finally:
        if host.spare is not None:
            discard(host.spare)
        for arriving in host.arriving.values():
            arriving.discard()
        for body in list(host.bodies.values()):
            discard(body.task)
            host.control.send(GuestGone(body.pid))
    return 0
