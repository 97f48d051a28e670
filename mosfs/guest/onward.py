"""Sending a guest on: home, or straight to another host. The tracer at home has decided it and hears how it went."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any

from mosfs.abi import cpu
from mosfs.abi.texts import Reason
from mosfs.guest.body import Body, State
from mosfs.guest.building import why_not
from mosfs.guest.sending import Sending, connect
from mosfs.migrate import image
from mosfs.migrate.capture import capture, mappings_of, user_regs
from mosfs.migrate.image import BadImage, Timer
from mosfs.migrate.maps import CannotMove
from mosfs.migrate.pages import send_all
from mosfs.migrate.suits import stack_too_small, state_lacking
from mosfs.native import lib
from mosfs.trace import clock as clocks
from mosfs.trace.inject import Calls
from mosfs.trace.stops import Stop
from mosfs.trace.task import NOTHING, TaskGone, copy_regs
from mosfs.wire.channel import Channel, ChannelLost
from mosfs.wire.faults import Point, fault
from mosfs.wire.frames import Frame, Kind
from mosfs.wire.orders import MoveOrder

if TYPE_CHECKING:
    from mosfs.guest.host import Host

#: Seconds until we look again whether a full socket takes more.
FULL = 0.001
#: What comes before an image.
AHEAD = frozenset({Kind.PRIVATE, Kind.EARLY, Kind.FILE, Kind.PAGES, Kind.ROUND})


class Onward:
    def __init__(self, host: Host) -> None:
        self.host = host
        self.backlog: list[Frame] = []

    def take_backlog(self) -> list[Frame]:
        found, self.backlog = self.backlog, []
        return found

    # ------------------------------------------------------------------ ahead of the program

    def copy(self, body: Body, order: MoveOrder) -> None:
        """COPY: send what can be sent while the program runs; to home if the order names nobody."""
        self.forget(body)
        body.sender = None
        if body.private is not None and body.private.files:
            try:
                body.copy = self._sending(order)
            except OSError as error:
                self._copy_lost(body, str(error))
                return
            body.copy.files, body.copy.order = self.host.private.rounds(body, body.copy.channel), order
        else:
            self.copy_memory(body, order)

    def _sending(self, order: MoveOrder) -> Sending:
        home = not order.ip
        return Sending(self.host.channel if home else connect(order, self.host.config.ip), home)

    def copy_memory(self, body: Body, order: MoveOrder) -> None:
        if body.shares or body.paused or body.held:
            self._copied(body)
        elif body.state is State.WAITING and body.map_request is None:
            self.arm(body, order, _before(body))
        elif body.state is State.RUNNING:
            body.arming = order
            if not body.interrupting:
                body.interrupting = True
                body.task.interrupt()
        else:
            self._copied(body)

    def arm(self, body: Body, order: MoveOrder, regs: Any) -> None:
        """The body stands still for a moment: follow its memory from here on."""
        host = self.host
        body.arming = None
        try:
            copy = body.copy = body.copy or self._sending(order)
            with Calls(body.task, base=copy_regs(regs)) as call:
                copy.begin(
                    call, body.pair, body.said, lambda: body.names, body.copies, near=host.near if copy.home else order.near
                )
            lib.mos_unfollow(host.pump)
        except OSError as error:  # its files may have gone over this connection, and its image will
            host.log(f"origpid={body.pair} memory is not sent ahead: {error}", 30)
            self._copied(body)
        except (ChannelLost, CannotMove) as error:
            host.log(f"origpid={body.pair} memory is not sent ahead: {error}", 30)
            self.forget(body)
            self._copied(body)

    def _copied(self, body: Body) -> None:
        self.host.channel.send(Kind.COPIED, body.pair)

    def under_way(self) -> list[Body]:
        return [body for body in self.host.bodies.values() if body.copy is not None and body.state is not State.LEAVING]

    def pause(self, bodies: list[Body]) -> float:
        """Seconds until `step` has something to do, at most 1."""
        sending = [body.copy for body in bodies if body.copy is not None and body.copy.sends]
        if not sending:
            return 1.0
        return 0.0 if any(copy.channel.takes_more() for copy in sending) else FULL

    def step(self) -> None:
        """A piece of each memory that is being sent ahead."""
        for body in self.under_way():
            assert body.copy is not None
            if body.copy.sends and body.copy.channel.takes_more():
                with self.host.containment.of(body):
                    try:
                        self._piece(body, body.copy)
                    except (ChannelLost, CannotMove, OSError) as lost:
                        self._copy_lost(body, str(lost))

    def _piece(self, body: Body, copy: Sending) -> None:
        if copy.files is None:
            assert copy.precopy is not None
            copy.precopy.step()
        elif next(copy.files, None) is None:
            copy.files = None
            assert copy.order is not None
            self.copy_memory(body, copy.order)

    def heard(self, body: Body) -> None:
        """The next host has said something about a pre-copy."""
        assert body.copy is not None
        with self.host.containment.of(body):
            try:
                if body.copy.heard():
                    self._copied(body)
            except (ChannelLost, CannotMove, OSError) as error:
                self._copy_lost(body, str(error))

    def answered(self, body: Body, refused: bool) -> None:
        """ROUND from home, where the body's memory goes; ``refused``: what was sent ahead is not kept there."""
        assert body.copy is not None
        try:
            if refused:
                self._copy_lost(body, "home is busy with its calls")
                return
            body.copy.caught_up()
            if body.copy.done:
                self._copied(body)
        except (CannotMove, OSError) as error:
            self._copy_lost(body, str(error))

    def _copy_lost(self, body: Body, reason: str) -> None:
        self.host.log(f"origpid={body.pair} memory is not sent ahead: {reason}", 30)
        self.forget(body)
        self._copied(body)

    def forget(self, body: Body) -> None:
        """No pre-copy any more."""
        copy, body.copy = body.copy, None
        body.arming = None
        if copy is not None:
            copy.close()
            if not copy.home:
                body.sender = None

    # ------------------------------------------------------------------ the program itself

    def request(self, body: Body, order: MoveOrder | None) -> None:
        """RECALL (order None) or MOVE_TO."""
        order = None if order is _HOME else order
        if body.shares or self.host.mails.settle(body, _nothing, hold=True):
            self.host.channel.send(Kind.CANNOT, body.pair, b"busy")
        elif body.state in (State.WAITING, State.RUNNING) and not self._files_ahead(body, order):
            self.host.channel.send(Kind.CANNOT, body.pair, b"did not complete (no memory there?)")
        elif body.state in (State.WAITING, State.POST) and self._unsuited(body, order):
            return
        elif body.state is State.WAITING and body.map_request is None:
            # a call that home and body both make can be made again as a whole: its answer is not waited for
            if self.host.serve.once_only(body):
                self.host.channel.send(Kind.CANNOT, body.pair, b"busy")
                return
            both = self.host.serve.forget_both(body)
            self._capture(body, order, _before(body), waiting=not both)
        elif body.state is State.POST:
            # it waits for a message: it will ask again where it comes to
            self.host.mails.leave(body)
            self._capture(body, order, _before(body), waiting=False)
        elif body.state is State.RUNNING and body.paused:
            self.capture_running(body, order or _HOME)
        elif body.state is State.RUNNING:
            body.wanted = order or _HOME
            if not body.interrupting:
                body.interrupting = True
                body.task.interrupt()
        else:
            self.host.channel.send(Kind.CANNOT, body.pair, b"busy")

    def _files_ahead(self, body: Body, order: MoveOrder | None) -> bool:
        """Private files go first, while the body can still run; False if the other host is not to be reached."""
        if body.private is None or not body.private.files or body.sender is not None:
            return True
        try:
            if order is None:
                self.host.private.rest(body, self.host.channel)
            else:
                body.copy = body.copy or self._sending(order)
                self.host.private.rest(body, body.copy.channel)
        except (OSError, ChannelLost) as error:
            if self.host.channel.lost:
                raise
            self.host.log(f"origpid={body.pair} private files: {error}", 30)
            self.forget(body)
            return False
        return True

    def faulted(self, body: Body) -> None:
        """The body has stopped for good; what waited for its stop is done."""
        if body.arming is not None:
            regs = user_regs(body.task.peek_regs(), Stop.SIGNAL)
            self.arm(body, body.arming, regs)
            body.task.set_regs(regs)
        if body.wanted is not None:
            order, body.wanted = body.wanted, None
            self.request(body, order)

    def capture_running(self, body: Body, order: Any) -> None:
        """The body stands in a stop between two instructions."""
        if self.host.mails.settle(body, _nothing, hold=True):
            body.interrupting = False
            self.host.channel.send(Kind.CANNOT, body.pair, b"busy")
            if not body.paused:
                self.resumed(body)
            return
        order = None if order is _HOME else order
        if self._unsuited(body, order):
            body.interrupting = False
            if not body.paused:
                self.resumed(body)
            return
        body.paused = False
        regs = user_regs(body.task.peek_regs(), Stop.TRAP)
        self._capture(body, order, regs, waiting=False)

    def _capture(self, body: Body, order: MoveOrder | None, regs: Any, *, waiting: bool) -> None:
        host = self.host
        body.was_waiting = waiting
        lib.mos_pin(host.pump, body.pid)
        body.interrupting = False
        if not waiting:
            body.regs = regs
        try:
            fault(Point.NODE_BEFORE_RETURN if order is None else Point.NODE_BEFORE_ONWARD, host.channel)
            copy = body.copy
            precopy = copy.precopy if copy is not None else None
            vmas = mappings_of(body.pid, body.said, body.names, precopy, body.copies.known)
            page = body.clock_page
            shown = clocks.Shown(0, 0)
            if page and host.clock is not None:
                shown = clocks.last_shown(page, host.clock.ticks())
            with Calls(body.task, base=copy_regs(regs)) as call:
                meta = capture(
                    call, regs, vmas, pid=body.pair, uid=host.uid, features=cpu.union(host.features, body.features),
                    home=host.home,
                    shown=Timer(shown.realtime, shown.monotonic), pending=True, said=body.said,
                )  # fmt: skip
            there = self._features(order)
            if there and (small := stack_too_small(meta, host.features, there)):
                raise CannotMove(small)
            meta.waiting = waiting
            meta.carry, meta.seq, meta.seen, meta.used = body.carry, body.seq, body.seen, body.used()
            meta.waiting_state, meta.needs = list(body.waiting_state.items()), body.needs
            if body.mail is not None:
                meta.mail = (body.mail.filter_at, body.mail.last)
            meta.pending += [(True, info) for info in body.infos]
            meta.private = host.private.manifest(body)
            body.state = State.LEAVING
            if order is None:
                self._send(body, meta, host.channel, near=host.near)
            else:
                self._send_onward(body, meta, order)
        except (TaskGone, ChannelLost):
            raise
        except Exception as error:
            reason = str(error)
            if not isinstance(error, CannotMove):
                host.log(f"origpid={body.pair} cannot leave\n{''.join(traceback.format_exception(error))}", 40)
                reason = Reason.INCOMPLETE
            if body.state is State.LEAVING:  # who receives the image may have it all: home decides, and says RESUME
                host.channel.send(Kind.CANNOT, body.pair, reason.encode())
                return
            body.state = State.LEAVING
            self.resume(body)
            host.channel.send(Kind.CANNOT, body.pair, reason.encode())

    def _features(self, order: MoveOrder | None) -> str:
        return self.host.home_features if order is None else order.features

    def _unsuited(self, body: Body, order: MoveOrder | None) -> bool:
        """What the stopped body uses of the processor just now has no place where it shall go. Home is told, and asks again."""
        lacking = state_lacking(body.task, self.host.features, self._features(order))
        if lacking:
            reason = cpu.lacks(lacking, "" if order is None else order.ip)
            self.host.channel.send(Kind.CANNOT, body.pair, f"busy: {reason}".encode())
        return bool(lacking)

    def _send_onward(self, body: Body, meta: image.ImageMeta, order: MoveOrder) -> None:
        """Over a connection of its own; a failure is told to home, which says RESUME."""
        host = self.host
        try:
            body.copy = body.copy or self._sending(order)
            self._send(body, meta, body.copy.channel, near=order.near)
        except (OSError, ChannelLost) as error:
            if host.channel.lost:
                raise
            host.log(f"origpid={body.pair} image to {order.ip} failed: {error}", 30)
            host.channel.send(Kind.FAIL, body.pair, b"did not complete (no memory there?)")
            host.channel.send(Kind.CANNOT, body.pair, b"did not complete (no memory there?)")
        finally:
            self.forget(body)

    def _send(self, body: Body, meta: image.ImageMeta, channel: Channel, *, near: bool) -> None:
        onward = channel is not self.host.channel
        precopy = body.copy.precopy if body.copy is not None and body.copy.home is not onward else None
        lib.mos_unfollow(self.host.pump)
        self.host.statistics.leaves(body)
        self.host.private.rest(body, channel)
        if onward and body.copy is not None:
            for payload in body.copy.sender(body.copies, near).rest():
                channel.send(Kind.FILE, body.pair, payload)
        channel.send(Kind.IMAGE, body.pair, precopy.head(meta) if precopy is not None else image.encode(meta))
        fault(Point.NODE_IN_ONWARD if onward else Point.NODE_IN_RETURN, channel)
        if precopy is not None:
            precopy.rest(meta.vmas)
            frames = precopy.sender.frames
        else:
            frames = send_all(body.task, channel, body.pair, meta.vmas, near=near)
        channel.send(Kind.IMAGE_END, body.pair, frames.to_bytes(8, "little"))
        if not onward:
            self.forget(body)
        fault(Point.NODE_AFTER_ONWARD if onward else Point.NODE_AFTER_RETURN, channel)

    def resume(self, body: Body) -> None:
        """RESUME: the move failed, the body goes on here."""
        self.forget(body)
        body.sender = body.wanted = None
        if body.state is not State.LEAVING:
            return
        if body.was_waiting:
            body.state = State.WAITING
            return
        body.state = State.RUNNING
        regs = copy_regs(body.regs)
        regs.orig_rax = NOTHING
        if body.infos:
            with Calls(body.task, base=regs) as call:
                self.host.signals.queue(body, call)
        body.task.set_regs(regs)
        self.resumed(body)

    @staticmethod
    def resumed(body: Body) -> None:
        """Let it run, unless a signal has stopped the program at home."""
        if body.held:
            body.paused = True
        else:
            body.task.cont()

    def early(self, frame: Frame, channel: Channel) -> None:
        """A program's private files and memory come while it still runs where it is. What does not fit is told at once."""
        host = self.host
        try:
            if frame.kind == Kind.PRIVATE:
                host.private.feed(frame.pair, frame.payload)
            elif frame.kind == Kind.ROUND:
                fault(Point.NODE_COPYING, channel)
                if frame.pair in host.arriving:
                    channel.send(Kind.ROUND, frame.pair)
            elif frame.kind != Kind.PAGES or frame.pair in host.arriving:  # else the rest of what did not fit
                host.building.expect(frame.pair).frame(frame)
        except ChannelLost:
            raise
        except Exception as error:
            host.building.not_built(frame.pair, error)
            failed = host.arriving.pop(frame.pair, None)
            if failed is not None:
                failed.discard()
            host.channel.send(Kind.FAIL, frame.pair, b"did not complete (no memory there?)")

    def forget_early(self, pair: int) -> None:
        """What came of a program that does not come."""
        arriving = self.host.arriving.pop(pair, None)
        if arriving is not None:
            arriving.discard()
        self.host.private.forget_ahead(pair)

    def receive_direct(self, channel: Channel) -> None:
        """An image from another host, or what goes ahead of it. It is complete or it is not: home hears which."""
        host = self.host
        try:
            for head in channel.frames():
                if head.kind == Kind.IMAGE:
                    self._image(head, channel)
                    host.close_direct()
                    return
                if head.kind not in AHEAD:
                    raise BadImage(f"frame {head.kind} where an image should begin")
                self.early(head, channel)
        except Exception as error:
            if host.channel.lost:
                raise ChannelLost("closed") from error
            host.log(f"image from another node: {error!r}", 30)
            host.close_direct()
            for pair in list(host.arriving):
                host.arriving.pop(pair).discard()
                host.channel.send(Kind.FAIL, pair, b"did not complete (no memory there?)")

    def _image(self, head: Frame, channel: Channel) -> None:
        host = self.host
        try:
            host.building.take(head, channel)
        except Exception as error:
            if host.channel.lost:
                raise ChannelLost("closed") from error
            host.building.not_built(head.pair, error)
            host.channel.send(Kind.FAIL, head.pair, why_not(error).encode())


def _nothing() -> None:
    pass


_HOME = MoveOrder("", 0, b"", b"", True)


def _before(body: Body) -> Any:
    """Registers before the call that the body waits in, so that it could be made again."""
    r = copy_regs(body.regs)
    r.rip -= 2
    r.rax = body.nr & NOTHING
    r.orig_rax = NOTHING
    return r
