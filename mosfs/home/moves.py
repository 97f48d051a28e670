"""Coordinating moves. The tracer of the home-node decides every step (`docs/design/migration.md`).

::

    home -> node     CHANNEL  mosd opens a data channel; the program runs on
                     STOPPING the program is interrupted, captured, its image sent
                     SENT     until READY (commit: GO, memory given up) or FAIL, or the channel breaks (it goes on at home)
    node -> home     RECALL   the host sends the image; when it stands here: DROP (commit); if it cannot: RESUME
    node -> node     CHANNEL  to the new host, with a second token
                     SENT     MOVE_TO to the old host; READY from the new one: GO and DROP (commit); else RESUME

Before the commit point any failure leaves the program running where it was. There is no third state.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from mosfs.abi.texts import Reason, Text, text
from mosfs.calls import partial
from mosfs.calls.partial import Carry
from mosfs.calls.request import unpack_reply
from mosfs.home.deputy import Deputy, Kept, State, interrupted, is_sleep
from mosfs.home.program import Link, Move, Phase, Place, Program
from mosfs.migrate import image
from mosfs.migrate.capture import EINTR_ALWAYS, capture, mm_addresses, signed, user_regs
from mosfs.migrate.image import BadImage, ImageMeta, Timer
from mosfs.migrate.maps import CannotMove, read_maps, travelling
from mosfs.migrate.pages import PageSender, content
from mosfs.migrate.rebuild import NoRoom, Rebuild, clear, kept_at_home, queue_signal, unregister_rseq
from mosfs.native import lib
from mosfs.trace import clock as clocks
from mosfs.trace import layout
from mosfs.trace.inject import Calls
from mosfs.trace.stops import Stop, decode
from mosfs.trace.task import TaskGone, copy_regs, status_sets
from mosfs.wire.channel import Channel, ChannelLost
from mosfs.wire.faults import Point, fault
from mosfs.wire.frames import Kind
from mosfs.wire.orders import GoTimes, MoveOrder
from mosfs.wire.messages import ChannelFailed, ChannelReady, OpenChannel, Start

if TYPE_CHECKING:
    from mosfs.home.tracer import Tracer

RETRY_BUSY = 0.005
#: Attempts while the program stands where it cannot be captured (a fork or exec under way), 5 ms apart.
MAX_TRIES = 2000
_NOTHING = 0xFFFF_FFFF_FFFF_FFFF
_EINTR = 4
SYS_EXIT_GROUP = 231


class Moves:
    def __init__(self, tracer: Tracer) -> None:
        self.tracer = tracer
        self.channels: dict[int, Link] = {}
        self.requests: dict[int, Program] = {}
        self._next_request = 1
        self._busy: list[Program] = []
        self._boot_id = _boot_id()

    # ------------------------------------------------------------------ starting and ending a move

    def starter(self, start: Start) -> Callable[[Program], None]:
        """What a program does before its first instruction when mosrun named a node."""

        def begin(p: Program) -> None:
            def done(reason: str) -> None:
                if reason and not start.force:
                    self.tracer.policy.say(p, text(Text.MIGRATE_FAILED, computer=start.shown or start.node, reason=reason))
                    p.held = False
                    lib.mos_run_call(p.pid, copy_regs(p.task.peek_regs()), SYS_EXIT_GROUP, 1, 0, 0, 0, 0, 0)
                    return
                if p.held:
                    self.tracer.resume(p)

            if not start.node or start.node == self.tracer.config.ip:
                self.tracer.resume(p)
                return
            self.request(p, Move(start.node, start.shown or start.node, done=done))

        return begin

    def start_native(self, p: Program) -> None:
        self.tracer.resume(p)

    def request(self, p: Program, move: Move) -> None:
        """Begin a move, or remember it until the present one has ended."""
        if p.move is not None:
            if p.wanted is not None:
                self._tell(p, p.wanted, "superseded by another request")
            p.wanted = move
            return
        here = p.link.ip if p.away and p.link is not None else ""
        if move.target == self.tracer.config.ip:
            move.target = ""
        if move.target == here:
            self._tell(p, move, "")
            return
        reason = (p.bound if move.target else "") or ("stopped by a signal" if p.halted else "")
        if reason:
            self._tell(p, move, reason)
            return
        p.move = move
        self.tracer.announce(p)
        if not move.target:
            self._recall(p)
        else:
            self._open_channel(p, move)

    def _tell(self, p: Program, move: Move, reason: str) -> None:
        if move.seq:
            p.last_move = (move.seq, move.target, reason or "ok")
        p.why = reason
        if move.done is not None:
            move.done(reason)
        self.tracer.announce(p)

    def finish(self, p: Program, reason: str) -> None:
        """The move of ``p`` has ended: "" or why it failed."""
        move = p.move
        if move is None:
            return
        p.move = None
        if not reason:
            p.nmigs += 1
            if move.frozen_at:
                p.freeze_ms = (time.monotonic() - move.frozen_at) * 1000
            self.tracer.log(
                f"pid={p.pid} moved to={move.target or 'home'} freeze_ms={p.freeze_ms:.1f} "
                f"total_ms={(time.monotonic() - move.started) * 1000:.1f}"
            )
            if p.sigmig:
                os.kill(p.pid, p.sigmig)
        else:
            self.tracer.log(f"pid={p.pid} failed migrating to {move.target or 'home'}: {reason}")
        self._tell(p, move, reason)
        wanted, p.wanted = p.wanted, None
        if wanted is not None:
            self.request(p, wanted)

    def gone(self, p: Program) -> None:
        """The process has ended."""
        if p in self._busy:
            self._busy.remove(p)
        move, p.move = p.move, None
        if move is not None:
            self.requests = {k: v for k, v in self.requests.items() if v is not p}
            if move.link is not None and move.link is not p.link:
                self._drop(p, move.link)
        if p.link is not None and (p.away or p.place is Place.LEAVING):
            self._drop(p, p.link)
        p.link = None

    def _drop(self, p: Program, link: Link) -> None:
        """Tell a host that the body of ``p`` is not wanted; the channel is closed with its last body."""
        link.programs.discard(p.pid)
        try:
            link.channel.send(Kind.DROP, p.pid)
        except ChannelLost:
            pass
        if not link.programs:
            self.close(link)

    def close(self, link: Link) -> None:
        self.channels.pop(id(link), None)
        link.channel.close()

    # ------------------------------------------------------------------ waiting for a good moment

    def retry_later(self, p: Program) -> bool:
        """Try the capture again soon; False when it was tried long enough."""
        assert p.move is not None
        p.move.tries += 1
        if p.move.tries > MAX_TRIES:
            return False
        p.retry_at = time.monotonic() + RETRY_BUSY
        if p not in self._busy:
            self._busy.append(p)
        return True

    def next_retry(self) -> float | None:
        return min((p.retry_at for p in self._busy), default=None)

    def retry(self, now: float) -> None:
        for p in [p for p in self._busy if p.retry_at <= now]:
            self._busy.remove(p)
            self.again(p)

    def again(self, p: Program) -> None:
        """Go on with a move that had to wait."""
        if p.move is None or p.pid not in self.tracer.programs:
            return
        try:
            if p.move.phase is Phase.STOPPING:
                self._stop(p)
            elif p.move.phase is Phase.RECALL:
                self._recall(p)
            elif p.move.phase is Phase.SENT and p.away and p.move.link is not None:
                self._order(p)
        except TaskGone:
            pass

    # ------------------------------------------------------------------ a channel to the target

    def _open_channel(self, p: Program, move: Move) -> None:
        number = self._next_request
        self._next_request += 1
        move.phase = Phase.CHANNEL
        self.requests[number] = p
        need = max(p.settings.needmem, 0)
        asked = self.tracer.control.send(
            OpenChannel(number, move.target, p.pid, p.uid, p.comm, need, self.tracer.features, p.away)
        )
        if not asked:
            del self.requests[number]
            self.finish(p, Reason.NO_RESPONSE)

    def mosd_gone(self) -> None:
        waiting, self.requests = self.requests, {}
        for p in waiting.values():
            self.finish(p, Reason.NO_RESPONSE)

    def channel_failed(self, message: ChannelFailed) -> None:
        p = self.requests.pop(message.req, None)
        if p is not None:
            self.finish(p, message.reason)

    def channel_ready(self, message: ChannelReady, passed: socket.socket | None) -> None:
        p = self.requests.pop(message.req, None)
        if passed is None:
            return
        if p is None or p.move is None or p.move.phase is not Phase.CHANNEL:
            passed.close()
            return
        link = Link(Channel(passed, message.key, opener=True), message.target, message.near)
        self.channels[id(link)] = link
        move = p.move
        move.link = link
        link.programs.add(p.pid)
        if p.away:
            move.phase = Phase.SENT
            order = MoveOrder(message.target, message.port, message.direct_token, message.direct_key, message.near)
            p.answer = []
            move.regs = order
            self._order(p)
        else:
            move.phase = Phase.STOPPING
            self._stop(p)

    def _order(self, p: Program) -> None:
        """Tell the old host to send the image to the new one."""
        assert p.move is not None and p.link is not None
        p.move.frozen_at = time.monotonic()
        p.answer = p.answer if p.answer is not None else []
        try:
            p.link.channel.send(Kind.MOVE_TO, p.pid, msgspec.msgpack.encode(p.move.regs))
        except ChannelLost:
            self.tracer.away.link_lost(p.link)

    # ------------------------------------------------------------------ home -> node

    def _stop(self, p: Program) -> None:
        if p.obstacle():
            if not self.retry_later(p):
                self._abandon(p, p.obstacle())
            return
        if p.held:
            self.depart(p, Stop.SECCOMP if self._in_trap(p) else Stop.OTHER)
        elif p.deputy is not None:  # a sleep that began away is being finished at home
            p.deputy.interrupt()
        elif not p.halted:
            p.interrupted = True
            p.task.interrupt()
        else:
            self._abandon(p, "stopped by a signal")

    def _in_trap(self, p: Program) -> bool:
        return signed(p.task.peek_regs().orig_rax) >= 0

    def stopped(self, p: Program, stop: Stop) -> bool:
        """A program at home has stopped; True if a move took it over."""
        if p.move is None or p.move.phase is not Phase.STOPPING or p.place is not Place.HOME:
            return False
        if p.obstacle() or self.deliverable(p):
            # a signal is about to be delivered: what it does to an interrupted call must be the kernel's doing
            if not self.retry_later(p):
                self._abandon(p, "signals do not cease")
            return False
        self.depart(p, stop)
        return True

    def deliverable(self, p: Program) -> bool:
        sets = status_sets(p.pid)
        return bool((sets["SigPnd"] | sets["ShdPnd"]) & ~sets["SigBlk"])

    def depart(self, p: Program, stop: Stop) -> None:
        """Capture a stopped program at home and send it. On failure it goes on here."""
        move = p.move
        assert move is not None and move.link is not None
        link = move.link
        move.frozen_at = time.monotonic()
        regs = p.task.peek_regs()
        original = copy_regs(regs)
        stay = user_regs(regs, stop)
        sleep = self._sleep_of(regs, stop)
        move.waiting = p.held and stop is Stop.SECCOMP  # inside its own control call: the answer comes from us
        move.regs = stay
        try:
            vmas = travelling(read_maps(p.pid), stay.rsp)
            with Calls(p.task, base=original) as call:
                meta = self._capture(p, call, stay, vmas)
            meta.waiting = move.waiting
            meta.carry = p.carry
            self._send(p, link, meta)
            move.phase = Phase.SENT
            p.place = Place.LEAVING
            move.regs = (stay, sleep)
            self.tracer.announce(p)
        except CannotMove as reason:
            self._stay(p, stay, str(reason))
        except ChannelLost:
            self._stay(p, stay, Reason.INCOMPLETE)
        except OSError as error:
            self._stay(p, stay, f"{Reason.INCOMPLETE} ({error.strerror})")

    def depart_sleeping(self, p: Program, deputy: Deputy) -> None:
        """Capture a program at home whose sleep began away and goes on in the stub: it leaves inside that call again."""
        move = p.move
        assert move is not None and move.link is not None
        move.frozen_at = time.monotonic()
        deputy.interrupting = False
        try:
            vmas = travelling(read_maps(p.pid), p.sleeping.rsp)
            with Calls(p.task, base=deputy.base, mask=deputy.mask) as call:
                meta = self._capture(p, call, p.sleeping, vmas)
            meta.waiting = True
            self._send(p, move.link, meta)
            move.phase = Phase.SENT
            p.place = Place.LEAVING
            move.regs = (p.sleeping, None)
            self.tracer.announce(p)
        except CannotMove as reason:
            self._stay(p, p.sleeping, str(reason))
        except (ChannelLost, OSError):
            self._stay(p, p.sleeping, Reason.INCOMPLETE)

    def _capture(self, p: Program, call: Calls, regs: Any, vmas: list[image.Vma]) -> ImageMeta:
        shown = clocks.last_shown(p.clock_page, self.tracer.clock.ticks()) if p.clock_page else clocks.Shown(0, 0)
        return capture(
            call, regs, vmas, pid=p.pid, uid=p.uid, features=self.tracer.features, home=self.tracer.config.ip,
            shown=Timer(shown.realtime, shown.monotonic), pending=False,
        )  # fmt: skip

    def _send(self, p: Program, link: Link, meta: ImageMeta) -> None:
        fault(Point.HOME_BEFORE_IMAGE, link.channel)
        link.channel.send(Kind.IMAGE, p.pid, image.encode(meta))
        lib.mos_unfollow(self.tracer.pump)
        sender = PageSender(p.task, link.channel, p.pid, near=link.near)
        try:
            fault(Point.HOME_IN_IMAGE, link.channel)
            for vma in meta.vmas:
                for start, end in content(p.pid, vma):
                    sender.send(start, end)
        finally:
            sender.close()
        fault(Point.HOME_BEFORE_END, link.channel)
        link.channel.send(Kind.IMAGE_END, p.pid, sender.frames.to_bytes(8, "little"))
        fault(Point.HOME_AFTER_IMAGE, link.channel)

    def _sleep_of(self, regs: Any, stop: Stop) -> Kept | None:
        """The pages of an interrupted sleep whose restart block points into the program's memory."""
        if stop is Stop.SECCOMP or signed(regs.orig_rax) < 0 or not is_sleep(signed(regs.rax)):
            return None
        nr = signed(regs.orig_rax)
        reach = {
            7: (regs.rdi, 8 * (regs.rsi & 0xFFFFFFFF)),
            35: (regs.rsi, 16),
            230: (regs.r10, 16),
            202: (regs.rdi, 4),
        }.get(nr)
        if reach is None or not reach[0] or not reach[1]:
            return Kept()
        addr, size = reach
        return Kept([(addr & ~4095, (addr + size + 4095) & ~4095)], [(addr, size)])

    def _stay(self, p: Program, regs: Any, reason: str) -> None:
        """The departure failed before the commit point: go on at home."""
        move = p.move
        assert move is not None
        p.place = Place.HOME
        if move.link is not None:
            self._drop(p, move.link)
        if p.sleeping is not None and p.deputy is not None:
            p.deputy.resume_sleep()
        elif not p.held:
            p.task.set_regs(regs)
            self.tracer.go_on(p)
        else:  # in its own control call: behind it; or before its first instruction
            p.task.set_regs(_behind(regs, 0) if move.waiting else regs)
        self.finish(p, reason)

    def _abandon(self, p: Program, reason: str) -> None:
        move = p.move
        if move is not None and move.link is not None and move.link is not p.link:
            self._drop(p, move.link)
        self.finish(p, reason)

    def ready(self, p: Program, link: Link) -> None:
        """READY: the body stands complete."""
        move = p.move
        if move is None or move.link is not link or move.phase is not Phase.SENT:
            return
        fault(Point.HOME_BEFORE_COMMIT, link.channel)
        if p.place is Place.LEAVING:
            self._commit_departure(p, link, move)
        elif p.away:
            self._commit_onward(p, link, move)

    def _commit_departure(self, p: Program, link: Link, move: Move) -> None:
        regs, sleep = move.regs
        p.signals = 0
        try:
            link.channel.send(Kind.GO, p.pid, self._times())
        except ChannelLost:
            self._stay(p, regs, Reason.INCOMPLETE)
            return
        p.link, p.place, p.held = link, Place.AWAY, False
        p.answer = None
        asleep = p.deputy if p.sleeping is not None else None
        deputy = asleep or Deputy(p.task, p.task.peek_mask())
        mm_stack = kept_at_home(p.pid, mm_addresses(p.pid, 0))
        if sleep is not None:
            deputy.kept = sleep
            mm_stack = sorted({*mm_stack, *sleep.pages})
        with Calls(p.task, base=deputy.base, mask=deputy.mask) as call:
            unregister_rseq(call, p.task.peek_rseq())
            clear(call, _merge(mm_stack))
        p.deputy = deputy
        p.sleeping = p.carry = None
        if asleep is not None:
            deputy.resume_sleep()
        else:
            deputy.became_ready()
            self.tracer.away.watch(p)
        self.finish(p, "")

    def _commit_onward(self, p: Program, link: Link, move: Move) -> None:
        old = p.link
        assert old is not None
        try:
            link.channel.send(Kind.GO, p.pid, self._times())
        except ChannelLost:
            self._resume_old(p, Reason.INCOMPLETE)
            return
        fault(Point.HOME_ONWARD_COMMITTED, link.channel)
        p.link = link
        self._drop(p, old)
        self.tracer.away.release_answers(p)
        self.finish(p, "")

    def failed(self, p: Program, link: Link | None, reason: str) -> None:
        """FAIL of the receiver, CANNOT of the sender, or its channel broke before the commit point."""
        move = p.move
        if move is None or (link is not None and move.link is not link):
            return
        if p.place is Place.LEAVING:
            regs, _sleep = move.regs
            self._stay(p, regs, reason)
        elif p.away and move.phase is Phase.SENT:
            self._resume_old(p, reason)
        else:
            self._abandon(p, reason)

    def _resume_old(self, p: Program, reason: str) -> None:
        move = p.move
        assert move is not None and p.link is not None
        if move.link is not None and move.link is not p.link:
            self._drop(p, move.link)
        try:
            p.link.channel.send(Kind.RESUME, p.pid)
            self.tracer.away.release_answers(p)
        except ChannelLost:
            self.tracer.away.link_lost(p.link)
            return
        self.finish(p, reason)

    def cannot(self, p: Program, reason: str) -> None:
        """CANNOT of the old host: it could not stop the body just now; the body runs on."""
        self.tracer.away.release_answers(p)
        if p.move is None:
            return
        if reason == "busy" and self.retry_later(p):
            return
        self.failed(p, None, reason)

    def _times(self) -> bytes:
        extras = self.tracer.clock.extras()
        return msgspec.msgpack.encode(
            GoTimes(
                time.clock_gettime_ns(time.CLOCK_REALTIME), time.clock_gettime_ns(time.CLOCK_MONOTONIC), self._boot_id,
                extras.coarse, extras.boot, extras.tai,
            )
        )  # fmt: skip

    def times(self) -> bytes:
        return self._times()

    # ------------------------------------------------------------------ node -> home

    def _recall(self, p: Program) -> None:
        assert p.move is not None and p.link is not None
        p.move.phase = Phase.RECALL
        p.move.frozen_at = time.monotonic()
        p.answer = p.answer if p.answer is not None else []
        try:
            p.link.channel.send(Kind.RECALL, p.pid)
        except ChannelLost:
            self.tracer.away.link_lost(p.link)

    def arriving(self, p: Program, link: Link, head: bytes) -> None:
        """IMAGE of a program that comes home: receive it to the end, and make the deputy the program again."""
        deputy = p.deputy
        assert deputy is not None and p.move is not None
        try:
            meta = image.decode(head)
            self._halt(p, deputy)
            lib.mos_unfollow(self.tracer.pump)
            flight_result, infos = self._outcome(p, deputy)
            with Calls(p.task, base=deputy.base, mask=deputy.mask) as call:
                keep = _merge([(layout.STUB, layout.END)])
                clear(call, keep)
                rebuild = Rebuild(call, meta)
                rebuild.map(home=True)
                frames = self._receive(p, link, rebuild)
                fault(Point.HOME_BEFORE_RETURN, link.channel)
                regs = rebuild.finish(frames, home=True)
                for info in [*infos, *p.infos]:
                    queue_signal(call, info, shared=True)
                p.infos.clear()
        except (NoRoom, BadImage) as error:
            self._send_back(p, link, deputy, str(error))
            return
        fault(Point.HOME_RETURN_COMMITTED, link.channel)
        self._came_home(p, link, deputy, meta, regs, flight_result, bool(infos))

    def _came_home(
        self, p: Program, link: Link, deputy: Deputy, meta: ImageMeta, regs: Any, outcome: Any, signalled: bool
    ) -> None:
        seen = clocks.Shown(meta.shown.realtime, meta.shown.monotonic)
        page = self.tracer.clock.page(clocks.following(p.clock_page) if p.clock_page else 0, None, seen)
        p.task.poke(layout.CLOCK_PAGE, page)
        p.clock_page = page
        p.place, p.link, p.answer = Place.HOME, None, None
        self._drop(p, link)
        p.deputy = None
        p.carry = Carry(*meta.carry) if meta.carry is not None else None
        if meta.waiting:
            self._settle(p, deputy, regs, outcome, signalled)
        else:
            p.task.set_regs(regs)
            self.tracer.go_on(p)
        self.finish(p, "")
        self.tracer.announce(p)

    def _settle(self, p: Program, deputy: Deputy, regs: Any, outcome: Any, signalled: bool) -> None:
        """The program came home inside a forwarded call."""
        if outcome is None:
            if p.held:  # its own migration request: `Move.done` answers it
                p.task.set_regs(_behind(regs, 0))
                return
            p.task.set_regs(regs)  # the call is made again, here
            self.tracer.go_on(p)
            return
        nr, result, outs, flight = outcome
        nr = signed(regs.rax) if nr < 0 else nr
        for addr, data in outs:
            p.task.write(addr, data)
        if is_sleep(result) and not signalled:
            # the restart block points into scratch: the sleep is finished in the stub, then its outcome is carried over
            deputy.flight = flight
            p.deputy = deputy
            p.sleeping = regs
            deputy.resume_sleep()
            return
        if interrupted(result):
            # a signal that only the call's own temporary mask lets in will meet the call when it is made again
            if not signalled or not self.deliverable(p):
                p.task.set_regs(regs)
            else:
                p.restart = (nr, result)
                p.task.set_regs(_behind(regs, result))
        elif result == -_EINTR and nr in EINTR_ALWAYS and not signalled:
            p.task.set_regs(_with_time_left(regs, nr, flight))
        elif partial.cut_short(nr, regs, result) and not signalled:
            rest, p.carry = partial.remainder(regs, result, p.carry)
            p.task.set_regs(rest)
        else:
            after = _behind(regs, result)
            if p.carry is not None:
                after.rax = partial.total(result, p.carry)
                partial.put_back(after, p.carry)
                p.carry = None
            p.task.set_regs(after)
        self.tracer.go_on(p)

    def _receive(self, p: Program, link: Link, rebuild: Rebuild) -> int:
        """PAGES up to IMAGE_END; frames of other programs on this channel wait."""
        while True:
            frame = link.channel.receive()
            if frame.pair != p.pid:
                self.tracer.away.backlog(link, frame)
            elif frame.kind == Kind.PAGES:
                rebuild.pages(frame.payload)
            elif frame.kind == Kind.IMAGE_END:
                return int.from_bytes(frame.payload, "little")
            elif frame.kind != Kind.NOTE:
                raise BadImage(f"frame {frame.kind} within an image")

    def _send_back(self, p: Program, link: Link, deputy: Deputy, reason: str) -> None:
        """It does not fit at home: the body goes on where it is."""
        with Calls(p.task, base=deputy.base, mask=deputy.mask) as call:
            clear(call, [(layout.STUB, layout.END)])
        while True:
            frame = link.channel.receive()
            if frame.pair != p.pid:
                self.tracer.away.backlog(link, frame)
            elif frame.kind == Kind.IMAGE_END:
                break
        link.channel.send(Kind.RESUME, p.pid)
        if deputy.flight is not None:
            deputy.rerun()
        else:
            deputy.became_ready()
        self.finish(p, f"{Reason.INCOMPLETE} ({reason})")

    def _halt(self, p: Program, deputy: Deputy) -> None:
        """Stop the deputy wherever it is."""
        if deputy.state in (State.PARKED, State.BUSY, State.HALTED):
            if not deputy.interrupting:
                p.task.interrupt()
            deputy.interrupting = True

    def _outcome(self, p: Program, deputy: Deputy) -> tuple[Any, list[bytes]]:
        """((call, result, outs, flight) of a call in flight, or None; signals for handlers that came meanwhile)."""
        infos: list[bytes] = []
        if deputy.state is State.READY:
            return self._held_outcome(p, infos)
        busy = deputy.state is State.BUSY
        result = 0
        while True:
            raw = p.task.wait()
            status = decode(raw)
            if status.stop in (Stop.EXITED, Stop.KILLED):
                raise TaskGone(p.pid, raw)
            regs = p.task.peek_regs()
            if status.stop is Stop.SECCOMP and regs.orig_rax == layout.MAGIC:
                result = signed(regs.rdi)
                break
            if status.stop in (Stop.TRAP, Stop.GROUP):
                result = _result_at(regs)
                if status.stop is Stop.GROUP:
                    p.infos.append(_stop_info(status.value))
                break
            if status.stop is Stop.SIGNAL:
                if status_sets(p.pid)["SigCgt"] >> (status.value - 1) & 1:
                    infos.append(p.task.peek_siginfo())
                    result = _result_at(regs)
                    regs.orig_rax = _NOTHING
                    p.task.set_regs(regs)
                    break
                self.tracer.spare_interruption(p.task, regs, status.value)
                p.task.cont(status.value)
                continue
            p.task.cont()
        deputy.state = State.READY
        deputy.interrupting = False
        if not busy or deputy.flight is None:
            return self._held_outcome(p, infos)
        flight = deputy.flight
        outs = flight.outs(p.task, result)
        deputy.flight = None
        return (flight.request.nr, result, outs, flight), infos

    def _held_outcome(self, p: Program, infos: list[bytes]) -> tuple[Any, list[bytes]]:
        """What was kept back since the host was asked for the image: the answer to the body's call, signals for its handlers."""
        outcome = None
        held, p.answer = p.answer or [], None
        early = []
        for kind, payload, _seq in held:
            if kind == Kind.SIGNAL:
                early.append(payload)
            elif kind == Kind.REPLY:
                result, _flags, outs = unpack_reply(payload)
                outcome = (-1, result, outs, None)
        return outcome, [*early, *infos]

    # ------------------------------------------------------------------ exec away

    def resume_away(self, p: Program) -> bool:
        """After an exec away the new program goes back to the node where the old one was; True if it is on its way."""
        link, p.link = p.link, None
        p.answer = None
        move = p.move
        if move is not None and link is not None:
            return self._exec_on_the_way(p, link, move)
        if link is None or id(link) not in self.channels or p.bound or p.native:
            if link is not None:
                self._drop(p, link)
            return False
        try:
            link.channel.send(Kind.EXECED, p.pid)
        except ChannelLost:
            return False
        p.move = Move(link.ip, link.ip, phase=Phase.SENT, link=link)
        p.nmigs -= 1  # it has not moved: it is where it was
        self.depart(p, Stop.OTHER)
        return True

    def _exec_on_the_way(self, p: Program, link: Link, move: Move) -> bool:
        """It was leaving its node when it made exec, which has brought it home: go on from here."""
        self._drop(p, link)
        if move.phase is Phase.RECALL:
            self.finish(p, "")
        elif move.phase is Phase.SENT and move.link is not None:
            self.depart(p, Stop.OTHER)
            return True
        return False


def _behind(regs: Any, result: int) -> Any:
    """Registers behind a system call instruction, ``result`` returned; ``regs`` stand before it."""
    r = copy_regs(regs)
    r.rip += 2
    r.rax = result & _NOTHING
    r.rcx, r.r11 = r.rip, r.eflags
    r.orig_rax = _NOTHING
    return r


def _with_time_left(regs: Any, nr: int, flight: Any) -> Any:
    """epoll_wait(2) made again must not wait for its whole timeout again."""
    r = copy_regs(regs)
    if nr in (232, 281):
        timeout = (r.r10 & 0xFFFFFFFF ^ 0x80000000) - 0x80000000
        if timeout > 0:
            r.r10 = max(0, timeout - int((time.monotonic() - flight.started) * 1000))
    return r


def _result_at(regs: Any) -> int:
    """What the stub's call has returned at a stop between its two system calls."""
    if signed(regs.orig_rax) >= 0 and regs.orig_rax != layout.MAGIC:
        return signed(regs.rax)
    if regs.rip == layout.STUB:
        return -512
    if regs.rip == layout.STUB_AFTER:
        return signed(regs.rax)
    return signed(regs.rdi)


def _stop_info(sig: int) -> bytes:
    """A siginfo as the kernel makes it for a terminal's stop key."""
    return int(sig).to_bytes(4, "little") + bytes(4) + (0x80).to_bytes(4, "little") + bytes(116)


def _merge(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as boot:
        return boot.read().strip()
