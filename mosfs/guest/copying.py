"""Memory that goes ahead of a guest on its way home or to another host, while it runs; and how it is slowed down for that."""

from __future__ import annotations

import time
from typing import Any

from mosfs.engine.brake import Brake
from mosfs.engine.unchanged import Unchanged
from mosfs.guest.body import Body, State
from mosfs.guest.containment import Containment
from mosfs.guest.context import Context
from mosfs.guest.private import Private
from mosfs.guest.sending import Sending, connect
from mosfs.migrate.dirty import possible
from mosfs.migrate.maps import CannotMove
from mosfs.migrate.precopy import Next
from mosfs.native import lib
from mosfs.native.registers import Registers
from mosfs.trace.inject import Calls
from mosfs.trace.task import NOTHING, copy_regs
from mosfs.wire.channel import ChannelLost
from mosfs.wire.frames import Kind, understands
from mosfs.wire.orders import MoveOrder

#: Seconds until we look again whether a full socket takes more.
FULL = 0.001
#: Looks, one a second, at which another host has neither said nor taken anything.
MOST_SILENT = 60


class Copying:
    def __init__(self, context: Context, containment: Containment, private: Private) -> None:
        self._context = context
        self._containment = containment
        self._private = private
        self._silent = Unchanged[int]()
        self.brake: Brake[Body] = Brake(self._may_stop, self._interrupt, lambda body: body.task.cont())

    def copy(self, body: Body, order: MoveOrder) -> None:
        """COPY: send what can be sent while the program runs; to home if the order names nobody."""
        self.forget(body)
        body.private.sender = None
        if body.private.store is not None and body.private.store.files:
            try:
                body.leaving.copy = self.sending(order)
            except OSError as error:
                self._copy_lost(body, str(error))
                return
            body.leaving.copy.files, body.leaving.copy.order = self._private.rounds(body, body.leaving.copy.channel), order
        else:
            self.copy_memory(body, order)

    def sending(self, order: MoveOrder) -> Sending:
        home = not order.ip
        channel = self._context.channel if home else connect(order, self._context.config.ip)
        packs = self._context.packs if home else order.packs
        return Sending(channel, home, runs=understands(order.frames, Kind.RUNS), packs=packs)

    def copy_memory(self, body: Body, order: MoveOrder) -> None:
        """Begin to send its memory, now or when it stops; or tell home that it does not go ahead, and then never begin."""
        body.stopping.arming = None
        if body.fork.shares or body.stopping.paused or body.stopping.halted or not possible():
            self._copied(body)
        elif body.state is State.WAITING and body.call.mapping is None:
            self.arm(body, order, before_call(body))
        elif body.state is State.RUNNING:
            body.stopping.arming = order
            if not body.stopping.interrupting:
                body.stopping.interrupting = True
                body.task.interrupt()
        else:
            self._copied(body)

    def arm(self, body: Body, order: MoveOrder, regs: Registers) -> None:
        """The body stands still for a moment: follow its memory from here on."""
        context = self._context
        body.stopping.arming = None
        try:
            copy = body.leaving.copy = body.leaving.copy or self.sending(order)
            with Calls(body.task, base=copy_regs(regs)) as call:
                near, memory = context.near if copy.home else order.near, body.memory
                copy.begin(call, body.pair, memory.said, lambda: memory.names, memory.copies, near=near)
            lib.mos_unfollow(context.pump)
        except OSError as error:  # its files may have gone over this connection, and its image will
            context.log(f"origpid={body.pair} memory is not sent ahead: {error}", 30)
            self._copied(body)
        except (ChannelLost, CannotMove) as error:
            context.log(f"origpid={body.pair} memory is not sent ahead: {error}", 30)
            self.forget(body)
            self._copied(body)

    def _copied(self, body: Body) -> None:
        self._context.channel.send(Kind.COPIED, body.pair)

    def under_way(self) -> list[Body]:
        return [body for body in self._context.bodies.values() if body.leaving.copy is not None and body.state is not State.LEAVING]

    def pause(self, bodies: list[Body]) -> float:
        """Seconds until `step` has something to do, at most 1."""
        due = self.brake.due()
        most = 1.0 if due is None else max(0.0, due - time.monotonic())
        sending = [body.leaving.copy for body in bodies if body.leaving.copy is not None and body.leaving.copy.sends]
        if not sending:
            return most
        return 0.0 if any(copy.channel.takes_more() for copy in sending) else min(FULL, most)

    def step(self) -> None:
        """A piece of each memory that is being sent ahead."""
        for body in self.under_way():
            assert body.leaving.copy is not None
            if body.leaving.copy.sends and body.leaving.copy.channel.takes_more():
                with self._containment.of(body):
                    try:
                        self._piece(body, body.leaving.copy)
                    except (ChannelLost, CannotMove, OSError) as lost:
                        self._copy_lost(body, str(lost))
        fast = {}
        for body in self.under_way():
            precopy = body.leaving.copy.precopy if body.leaving.copy is not None else None
            if body.state is State.RUNNING and precopy is not None and precopy.next is not Next.STOP and precopy.share < 1:
                fast[body.pid] = body, precopy.share
        self.brake.step(time.monotonic(), fast)

    @staticmethod
    def _may_stop(body: Body) -> bool:
        stopping = body.stopping
        return body.state is State.RUNNING and not (stopping.interrupting or stopping.paused or stopping.halted)

    @staticmethod
    def _interrupt(body: Body) -> None:
        body.stopping.interrupting = True
        body.task.interrupt()

    def _piece(self, body: Body, copy: Sending) -> None:
        if copy.files is None:
            assert copy.precopy is not None
            copy.precopy.step()
            if copy.done:
                self._copied(body)
        elif next(copy.files, None) is None:
            copy.files = None
            assert copy.order is not None
            self.copy_memory(body, copy.order)

    def heard(self, body: Body) -> None:
        """The next host has said something about a pre-copy."""
        assert body.leaving.copy is not None
        with self._containment.of(body):
            try:
                if body.leaving.copy.heard():
                    self._copied(body)
            except (ChannelLost, CannotMove, OSError) as error:
                self._copy_lost(body, str(error))

    def answered(self, body: Body, refused: bool) -> None:
        """ROUND from home, where the body's memory goes; ``refused``: what was sent ahead is not kept there."""
        assert body.leaving.copy is not None
        try:
            if refused:
                self._copy_lost(body, "home is busy with its calls")
                return
            body.leaving.copy.caught_up()
            if body.leaving.copy.done:
                self._copied(body)
        except (CannotMove, OSError) as error:
            self._copy_lost(body, str(error))

    def look(self) -> None:
        """Once a second: a next host that takes nothing and says nothing gets nothing ahead. Then the program can go elsewhere. It
        stays if it has been slowed down for too long."""
        for body in self.under_way():
            copy = body.leaving.copy
            if copy is not None and copy.precopy is not None and copy.ends and not copy.home:
                try:
                    copy.precopy.hold(time.monotonic())
                except CannotMove as reason:
                    self.forget(body)
                    self._context.channel.send(Kind.CANNOT, body.pair, str(reason).encode())
        bodies = {body.pair: body for body in self.under_way()}
        states = {
            pair: (id(copy), copy.channel.shared.received, copy.channel.sent_in_bulk)
            for pair, body in bodies.items() if (copy := body.leaving.copy) is not None and copy.ends and not copy.home
        }  # fmt: skip
        for pair, looks in self._silent.look(states).items():
            if looks >= MOST_SILENT:
                self._copy_lost(bodies[pair], "the next host says nothing")

    def _copy_lost(self, body: Body, reason: str) -> None:
        self._context.log(f"origpid={body.pair} memory is not sent ahead: {reason}", 30)
        self.forget(body)
        self._copied(body)

    def forget(self, body: Body) -> None:
        """No pre-copy any more."""
        copy, body.leaving.copy = body.leaving.copy, None
        body.stopping.arming = None
        if copy is not None:
            copy.close()
            if not copy.home:
                body.private.sender = None


def before_call(body: Body) -> Any:
    """Registers before the call that the body waits in, so that it could be made again."""
    r = copy_regs(body.call.regs)
    r.rip -= 2
    r.rax = body.call.nr & NOTHING
    r.orig_rax = NOTHING
    return r
