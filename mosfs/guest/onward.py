"""Sending a guest on: home, or straight to another host. The tracer at home has decided it and hears how it went."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from mosfs.guest.body import Body, State
from mosfs.migrate import image
from mosfs.migrate.capture import capture, user_regs
from mosfs.migrate.image import BadImage, Timer
from mosfs.migrate.maps import CannotMove, read_maps, travelling
from mosfs.migrate.pages import PageSender, content
from mosfs.migrate.rebuild import NoRoom
from mosfs.native import lib
from mosfs.trace import clock as clocks
from mosfs.trace.inject import Calls
from mosfs.trace.stops import Stop
from mosfs.trace.task import NOTHING, copy_regs
from mosfs.wire.channel import Channel, ChannelLost
from mosfs.wire.faults import Point, fault
from mosfs.wire.frames import Frame, Kind
from mosfs.wire.orders import MoveOrder

if TYPE_CHECKING:
    from mosfs.guest.host import Host

CONNECT_PATIENCE = 5.0


class Onward:
    def __init__(self, host: Host) -> None:
        self.host = host
        self.backlog: list[Frame] = []

    def take_backlog(self) -> list[Frame]:
        found, self.backlog = self.backlog, []
        return found

    def request(self, body: Body, order: MoveOrder | None) -> None:
        """RECALL (order None) or MOVE_TO."""
        order = None if order is _HOME else order
        if body.shares:
            self.host.channel.send(Kind.CANNOT, body.pair, b"busy")
        elif body.state in (State.WAITING, State.RUNNING) and not self._files_ahead(body, order):
            self.host.channel.send(Kind.CANNOT, body.pair, b"did not complete (no memory there?)")
        elif body.state is State.WAITING and body.map_request is None:
            # a call that home and body both make can be made again as a whole: its answer is not waited for
            both = self.host.serve.forget_both(body)
            self._capture(body, order, _before(body), waiting=not both)
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
                self.host.private.ahead(body, self.host.channel)
            else:
                body.onward = self._connect(order)
                self.host.private.ahead(body, body.onward)
        except (OSError, ChannelLost) as error:
            if self.host.channel.lost:
                raise
            self.host.log(f"origpid={body.pair} private files: {error}", 30)
            self.host.private.drop_ahead(body)
            return False
        return True

    def _connect(self, order: MoveOrder) -> Channel:
        sock = socket.create_connection((order.ip, order.port), CONNECT_PATIENCE, (self.host.config.ip or "", 0))
        sock.sendall(b"MOSDATA1" + order.token)
        return Channel(sock, order.key, opener=True)

    def capture_running(self, body: Body, order: Any) -> None:
        """The body stands in a stop between two instructions."""
        body.paused = False
        regs = user_regs(body.task.peek_regs(), Stop.TRAP)
        self._capture(body, None if order is _HOME else order, regs, waiting=False)

    def _capture(self, body: Body, order: MoveOrder | None, regs: Any, *, waiting: bool) -> None:
        host = self.host
        fault(Point.NODE_BEFORE_RETURN if order is None else Point.NODE_BEFORE_ONWARD, host.channel)
        body.was_waiting = waiting
        lib.mos_pin(host.pump, body.pid)
        body.interrupting = False
        if not waiting:
            body.regs = regs
        try:
            vmas = travelling(read_maps(body.pid), regs.rsp)
            page = body.clock_page
            shown = clocks.Shown(0, 0)
            if page and host.clock is not None:
                shown = clocks.last_shown(page, host.clock.ticks())
            with Calls(body.task, base=copy_regs(regs)) as call:
                meta = capture(
                    call, regs, vmas, pid=body.pair, uid=host.uid, features=host.features, home=host.home,
                    shown=Timer(shown.realtime, shown.monotonic), pending=True,
                )  # fmt: skip
            meta.waiting = waiting
            meta.carry, meta.seq, meta.seen = body.carry, body.seq, body.seen
            meta.pending += [(True, info) for info in body.infos]
            meta.private = host.private.manifest(body)
            body.state = State.LEAVING
            if order is None:
                self._send(body, meta, host.channel, near=host.near)
            else:
                self._send_onward(body, meta, order)
        except CannotMove as reason:
            body.state = State.LEAVING
            self.resume(body)
            host.channel.send(Kind.CANNOT, body.pair, str(reason).encode())

    def _send_onward(self, body: Body, meta: image.ImageMeta, order: MoveOrder) -> None:
        """Over a connection of its own; a failure is told to home, which says RESUME."""
        host = self.host
        channel = None
        try:
            channel = body.onward or self._connect(order)
            self._send(body, meta, channel, near=order.near)
        except (OSError, ChannelLost) as error:
            if host.channel.lost:
                raise
            host.log(f"origpid={body.pair} image to {order.ip} failed: {error}", 30)
            host.channel.send(Kind.FAIL, body.pair, b"did not complete (no memory there?)")
            host.channel.send(Kind.CANNOT, body.pair, b"did not complete (no memory there?)")
        finally:
            if channel is not None:
                channel.close()
            body.onward = None

    def _send(self, body: Body, meta: image.ImageMeta, channel: Channel, *, near: bool) -> None:
        onward = channel is not self.host.channel
        lib.mos_unfollow(self.host.pump)
        self.host.private.rest(body, channel)
        channel.send(Kind.IMAGE, body.pair, image.encode(meta))
        fault(Point.NODE_IN_ONWARD if onward else Point.NODE_IN_RETURN, channel)
        sender = PageSender(body.task, channel, body.pair, near=near)
        try:
            for vma in meta.vmas:
                for start, end in content(body.pid, vma):
                    sender.send(start, end)
        finally:
            sender.close()
        channel.send(Kind.IMAGE_END, body.pair, sender.frames.to_bytes(8, "little"))
        fault(Point.NODE_AFTER_ONWARD if onward else Point.NODE_AFTER_RETURN, channel)

    def resume(self, body: Body) -> None:
        """RESUME: the move failed, the body goes on here."""
        self.host.private.drop_ahead(body)
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
                self.host._queue(body, call)
        body.task.set_regs(regs)
        if body.held:
            body.paused = True
        else:
            body.task.cont()

    def receive_direct(self, channel: Channel) -> None:
        """An image from another host. It is complete or it is not: home hears which."""
        host = self.host
        try:
            head = channel.receive()
            while head.kind == Kind.PRIVATE:
                host.private.feed(head.pair, head.payload)
                head = channel.receive()
            if head.kind != Kind.IMAGE:
                raise BadImage(f"frame {head.kind} where an image should begin")
        except (ChannelLost, BadImage) as error:
            host.log(f"image from another node: {error}", 30)
            return
        try:
            body = host.build(head, channel)
        except (NoRoom, BadImage, OSError, ChannelLost) as error:
            host.log(f"origpid={head.pair} from={host.home} cannot be built: {error}", 30)
            host.channel.send(Kind.FAIL, head.pair, b"did not complete (no memory there?)")
            return
        if body is not None:
            host.complete(body)


_HOME = MoveOrder("", 0, b"", b"", True)


def _before(body: Body) -> Any:
    """Registers before the call that the body waits in, so that it could be made again."""
    r = copy_regs(body.regs)
    r.rip -= 2
    r.rax = body.nr & NOTHING
    r.orig_rax = NOTHING
    return r
