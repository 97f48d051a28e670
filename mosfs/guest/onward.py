"""Sending a guest on: home, or straight to another host. The tracer at home has decided it and hears how it went."""

from __future__ import annotations

import traceback
from typing import Any

from mosfs.abi import cpu
from mosfs.abi.reasons import Reason
from mosfs.guest.body import Body, State
from mosfs.guest.containment import Containment
from mosfs.guest.context import Context
from mosfs.guest.copying import Copying, before_call
from mosfs.guest.mail import Mails
from mosfs.guest.private import Private
from mosfs.guest.signals import Signals
from mosfs.guest.threads import Threads, first_ended, repeatable
from mosfs.guest.usage import Statistics
from mosfs.migrate import image, rseq
from mosfs.migrate.capture import capture, mappings_of, user_regs
from mosfs.migrate.changes import send_changes
from mosfs.migrate.image import Timer
from mosfs.migrate.maps import CannotMove
from mosfs.migrate.pages import send_all
from mosfs.migrate.suits import stack_too_small, state_lacking
from mosfs.native import lib
from mosfs.native.registers import Registers
from mosfs.trace import clock as clocks
from mosfs.trace.inject import Calls
from mosfs.trace.stops import Stop
from mosfs.trace.task import NOTHING, TaskGone, copy_regs
from mosfs.wire.channel import Channel, ChannelLost, one_image
from mosfs.wire.faults import Point, Sharing, fault
from mosfs.wire.frames import BUSY, COPIED, DIFFER, REMEMBER, Cannot, Kind
from mosfs.wire.orders import MoveOrder


class Onward:
    def __init__(
        self, context: Context, containment: Containment, statistics: Statistics, signals: Signals, private: Private, mails: Mails,
        copying: Copying, threads: Threads,
    ) -> None:  # fmt: skip
        self._context = context
        self._containment = containment
        self._statistics = statistics
        self._signals = signals
        self._private = private
        self._mails = mails
        self._copying = copying
        self._threads = threads

    # ------------------------------------------------------------------ the program itself

    def request(self, body: Body, order: MoveOrder | None) -> None:
        """RECALL (order None) or MOVE_TO."""
        order = None if order is _HOME else order
        if first_ended(body):
            self._context.channel.send(Kind.CANNOT, body.pair, Reason.FIRST_ENDED.encode())
        elif (body.fork.shares and not _copied(body, order)) or self._mails.flush(body, _nothing, hold=True):
            self._context.channel.send(Kind.CANNOT, body.pair, BUSY)
        elif body.state in (State.WAITING, State.RUNNING, State.TIMED) and not self._files_ahead(body, order):
            self._context.channel.send(Kind.CANNOT, body.pair, Reason.INCOMPLETE.encode())
        elif body.state in (State.WAITING, State.POST) and self._unsuited(body, order):
            return
        elif body.state is State.WAITING and body.call.mapping is None:
            # a call that home and body both make can be made again as a whole: its answer is not waited for
            if not repeatable(body):
                self._context.channel.send(Kind.CANNOT, body.pair, BUSY)
                return
            self._capture(body, order, before_call(body), waiting=not body.call.both)
        elif body.state is State.POST and not body.threads:
            # it waits for a message: it will ask again where it comes to
            self._mails.leave(body)
            self._capture(body, order, before_call(body), waiting=False)
        elif body.state in (State.RUNNING, State.TIMED) and body.stopping.paused:
            self.capture_running(body, order or _HOME)
        elif body.state in (State.RUNNING, State.TIMED):
            body.stopping.wanted = order or _HOME
            if not body.stopping.interrupting:
                body.stopping.interrupting = True
                body.task.interrupt()
        else:
            self._context.channel.send(Kind.CANNOT, body.pair, BUSY)

    def _files_ahead(self, body: Body, order: MoveOrder | None) -> bool:
        """Private files go first, while the body can still run; False if the other host is not to be reached."""
        if body.private.store is None or not body.private.store.files or body.private.sender is not None:
            return True
        try:
            if order is None:
                self._private.rest(body, self._context.channel)
            else:
                body.leaving.copy = body.leaving.copy or self._copying.sending(order)
                self._private.rest(body, body.leaving.copy.channel)
        except (OSError, ChannelLost) as error:
            if self._context.channel.lost:
                raise
            self._context.log(f"origpid={body.pair} private files: {error}", 30)
            self._copying.forget(body)
            return False
        return True

    def faulted(self, body: Body) -> None:
        """The body has stopped for good; what waited for its stop is done."""
        rseq.leave(body.task)
        if body.stopping.arming is not None:
            regs = user_regs(body.task.peek_regs(), Stop.SIGNAL)
            self._copying.arm(body, body.stopping.arming, regs)
            body.task.set_regs(regs)
        if body.stopping.wanted is not None:
            order, body.stopping.wanted = body.stopping.wanted, None
            self.request(body, order)

    def capture_running(self, body: Body, order: Any) -> None:
        """The body stands in a stop between two instructions."""
        if self._mails.flush(body, _nothing, hold=True):
            body.stopping.interrupting = False
            self._context.channel.send(Kind.CANNOT, body.pair, BUSY)
            if not body.stopping.paused:
                self.resumed(body)
            return
        order = None if order is _HOME else order
        if self._unsuited(body, order):
            body.stopping.interrupting = False
            if not body.stopping.paused:
                self.resumed(body)
            return
        body.stopping.paused = False
        regs = before_call(body) if body.state is State.TIMED else user_regs(body.task.peek_regs(), Stop.TRAP)
        self._capture(body, order, regs, waiting=False)

    def _capture(self, body: Body, order: MoveOrder | None, regs: Registers, *, waiting: bool) -> None:
        context = self._context
        if body.threads and not self._stand(body, order):
            if body.state is not State.WAITING:  # one that waits for its answer goes on with that
                self.resumed(body)
            return
        body.leaving.was_waiting, body.call.both = waiting, False
        lib.mos_pin(context.pump, body.pid)
        body.stopping.interrupting = False
        if not waiting:
            body.call.regs = regs
        try:
            fault(Point.NODE_BEFORE_RETURN if order is None else Point.NODE_BEFORE_ONWARD, context.channel)
            copy = body.leaving.copy
            precopy = copy.precopy if copy is not None else None
            vmas = mappings_of(body.pid, body.memory.said, body.memory.names, precopy, body.memory.copies.known)
            page = body.memory.clock.page
            shown = clocks.Shown(0, 0)
            if page and context.clock is not None:
                shown = clocks.last_shown(page, context.clock.ticks())
            with Calls(body.task, base=copy_regs(regs)) as call:
                meta = capture(
                    call, regs, vmas, pid=body.pair, uid=context.uid, features=cpu.union(context.features, body.processor.features),
                    home=context.home,
                    shown=Timer(shown.realtime, shown.monotonic), pending=True, said=body.memory.said,
                    known_actions=body.signals.actions,
                )  # fmt: skip
            there = self._features(order)
            if there and (small := stack_too_small(meta, context.features, there)):
                raise CannotMove(small)
            meta.all_actions = body.signals.actions is not None
            meta.waiting = waiting
            meta.carry, meta.seq, meta.seen = body.call.carry, body.call.seq, body.signals.seen
            meta.used, meta.own_used = body.used(), body.own_used()
            meta.waiting_state, meta.needs = list(body.processor.waiting_state.items()), body.processor.needs
            meta.outlives, meta.told_mask, meta.lent = body.outlives, body.signals.told_mask, body.fork.shares
            if body.mail is not None:
                meta.mail = (body.mail.filter_at, body.mail.last)
            meta.pending += [(not body.own.several, info) for info in body.signals.infos]
            meta.private, meta.until = self._private.manifest(body), body.call.until
            meta.threads = self._threads.captured(body)
            body.state = State.LEAVING
            if order is None:
                self._send(body, meta, context.channel, near=context.near)
            else:
                self._send_onward(body, meta, order)
        except (TaskGone, ChannelLost):
            raise
        except Exception as error:
            reason = str(error)
            if not isinstance(error, CannotMove):
                context.log(f"origpid={body.pair} cannot leave\n{''.join(traceback.format_exception(error))}", 40)
                reason = Reason.INCOMPLETE
            if body.state is State.LEAVING:  # who receives the image may have it all: home decides, and says RESUME
                context.channel.send(Kind.CANNOT, body.pair, reason.encode())
                return
            body.state = State.LEAVING
            self.resume(body)
            context.channel.send(Kind.CANNOT, body.pair, reason.encode())

    def _stand(self, body: Body, order: MoveOrder | None) -> bool:
        """Whether its other threads stand, too, where they can leave; if not home is told, and asks again."""
        if not self._threads.stand(body):
            self._context.channel.send(Kind.CANNOT, body.pair, BUSY)
            return False
        if lacking := self._threads.lacking(body, self._features(order)):
            self._threads.go_on(body)
            reason = cpu.lacks(lacking, "" if order is None else order.ip)
            self._context.channel.send(Kind.CANNOT, body.pair, Cannot(reason, passing=True).pack())
        return not lacking

    def _features(self, order: MoveOrder | None) -> str:
        return self._context.home_features if order is None else order.features

    def _unsuited(self, body: Body, order: MoveOrder | None) -> bool:
        """What the stopped body uses of the processor just now has no place where it shall go. Home is told, and asks again."""
        lacking = state_lacking(body.task, self._context.features, self._features(order))
        if lacking:
            reason = cpu.lacks(lacking, "" if order is None else order.ip)
            self._context.channel.send(Kind.CANNOT, body.pair, Cannot(reason, passing=True).pack())
        return bool(lacking)

    def _send_onward(self, body: Body, meta: image.ImageMeta, order: MoveOrder) -> None:
        """Over a connection of its own; a failure is told to home, which says RESUME."""
        context = self._context
        try:
            body.leaving.copy = body.leaving.copy or self._copying.sending(order)
            self._send(body, meta, body.leaving.copy.channel, near=order.near)
        except (OSError, ChannelLost) as error:
            if context.channel.lost:
                raise
            context.log(f"origpid={body.pair} image to {order.ip} failed: {error}", 30)
            context.channel.send(Kind.FAIL, body.pair, Reason.INCOMPLETE.encode())
            context.channel.send(Kind.CANNOT, body.pair, Reason.INCOMPLETE.encode())
        finally:
            self._copying.forget(body)

    def _send(self, body: Body, meta: image.ImageMeta, channel: Channel, *, near: bool) -> None:
        others = any(one is not body and one.leader is not body for one in self._context.bodies.values())
        if channel is self._context.channel:
            others = False  # if home is slow, these are its own programs
        with one_image(channel, others=others):
            self._send_image(body, meta, channel, near=near)

    def _send_image(self, body: Body, meta: image.ImageMeta, channel: Channel, *, near: bool) -> None:
        onward = channel is not self._context.channel
        precopy = body.leaving.copy.precopy if body.leaving.copy is not None and body.leaving.copy.home is not onward else None
        lib.mos_unfollow(self._context.pump)
        self._statistics.leaves(body)
        self._private.rest(body, channel)
        if onward and body.leaving.copy is not None:
            for payload in body.leaving.copy.sender(body.memory.copies, near).rest():
                channel.send(Kind.FILE, body.pair, payload)
        channel.send(Kind.IMAGE, body.pair, precopy.head(meta) if precopy is not None else image.encode(meta))
        fault(Point.NODE_IN_ONWARD if onward else Point.NODE_IN_RETURN, channel)
        if body.leaving.objects and not onward:
            fault(Sharing.NODE_CONTENTS, channel, body.comm)
        for payload in self._context.objects.contents(body.leaving.objects, near=near) if not onward else ():
            channel.send(Kind.FILE, body.pair, payload)
        if precopy is not None:
            precopy.rest(meta.vmas)
            frames = precopy.sender.frames
        elif not onward and body.leaving.kept & REMEMBER:
            frames = self._send_changes(body, meta, channel, near=near)
        else:
            runs = onward and body.leaving.copy is not None and body.leaving.copy.runs
            packs = body.leaving.copy.packs if onward and body.leaving.copy is not None else self._context.packs
            frames = send_all(body.task, channel, body.pair, meta.vmas, near=near, runs=runs, packs=packs)
        channel.send(Kind.IMAGE_END, body.pair, frames.to_bytes(8, "little"))
        if not onward:
            self._copying.forget(body)
        fault(Point.NODE_AFTER_ONWARD if onward else Point.NODE_AFTER_RETURN, channel)

    def _send_changes(self, body: Body, meta: image.ImageMeta, channel: Channel, *, near: bool) -> int:
        """For a program that outlives this node: what has changed since its last image, if home has that. How many frames."""
        before, body.leaving.last = body.leaving.last, None
        if not body.leaving.kept & DIFFER:
            before = None
        frames, body.leaving.last = send_changes(
            body.task, channel, body.pair, meta.vmas, before, near=near, packs=self._context.packs
        )
        return frames

    def resume(self, body: Body) -> None:
        """RESUME: the move failed, the body goes on here."""
        self._copying.forget(body)
        body.private.sender = body.stopping.wanted = None
        if body.state is not State.LEAVING:
            self._threads.go_on(body)
            return
        self._threads.resume(body)
        if body.leaving.was_waiting:
            body.state = State.WAITING
            return
        body.state = State.RUNNING
        regs = copy_regs(body.call.regs)
        regs.orig_rax = NOTHING
        if body.signals.infos:
            with Calls(body.task, base=regs) as call:
                self._signals.queue(body, call)
        self._signals.put(body, regs)
        self.resumed(body)

    @staticmethod
    def resumed(body: Body) -> None:
        """Let it run, unless a signal has stopped the program at home."""
        if body.stopping.halted:
            body.stopping.paused = True
        else:
            body.task.cont()


def _nothing() -> None:
    pass


_HOME = MoveOrder("", 0, b"", b"", True)


def _copied(body: Body, order: MoveOrder | None) -> bool:
    """Whether the memory of a vfork child may be copied home: for a call that nobody can make here."""
    return order is None and bool(body.leaving.kept & COPIED)
