"""Coordinating moves. The tracer of the home-node decides every step (`docs/design/migration.md`).

::

    home -> node     CHANNEL  mosd opens a data channel; the program runs on
                     ARMING   the program is interrupted for a moment, so that its memory can be followed
                     COPYING  its memory is sent while it runs
                     STOPPING the program is interrupted, captured, its image sent
                     GO       behind the image; until RUNNING (commit: the memory at home is given up) or FAIL, or the channel
                              breaks (it goes on at home)
    node -> home     RECALL   the host sends the image; when it stands here: DROP (commit); if it cannot: RESUME
    node -> node     CHANNEL  to the new host, with a second token
                     COPYING  the old host sends the memory while the program runs, until it says COPIED
                     SENT     MOVE_TO to the old host; READY from the new one
                     GO       to the new host; RUNNING: DROP to the old one (commit); else RESUME

Before the commit point any failure leaves the program running where it was. There is no third state. RUNNING is a safe commit point
although the body may already have computed: all that others could see of it passes through this process, behind RUNNING.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import time
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from mosfs.abi import cpu
from mosfs.abi.texts import Reason, Text, text
from mosfs.home.moves.arrival import Arrival
from mosfs.home.moves.copying import Copying
from mosfs.home.moves.departure import Departure
from mosfs.home.process.program import Link, Move, Phase, Place, Program
from mosfs.migrate.precopy import NOTHING_EARLY
from mosfs.migrate.suits import illegal_instruction
from mosfs.native import lib
from mosfs.trace import clock as clocks
from mosfs.trace.stops import Stop
from mosfs.trace.task import TaskGone, copy_regs
from mosfs.wire.channel import Channel, ChannelLost
from mosfs.wire.faults import Point, fault
from mosfs.wire.frames import Kind, To
from mosfs.wire.messages import ChannelFailed, ChannelReady, OpenChannel, Start
from mosfs.wire.orders import GoTimes, MoveOrder
from mosfs.wire.room import few_left

if TYPE_CHECKING:
    from mosfs.home.tracer import Tracer

RETRY_BUSY = 0.005
#: COPY with it means home.
ALL_HOME = MoveOrder("", 0, b"", b"", True)
#: Attempts while the program stands where it cannot be captured (a fork or exec under way), 5 ms apart.
MAX_TRIES = 2000
#: How CANNOT begins when the body stands where it cannot be captured just now.
BUSY = "busy"
SYS_EXIT_GROUP = 231
#: mosrun(1): the exit status of what could not start where it should.
NOT_STARTED = 125


class Moves:
    def __init__(self, tracer: Tracer) -> None:
        self.tracer = tracer
        self.channels: dict[int, Link] = {}
        self.requests: dict[int, Program] = {}
        self._next_request = 1
        self._busy: list[Program] = []
        self._kernel = clocks.kernel_id()
        self.departure = Departure(self)
        self.arrival = Arrival(self)
        self.copying = Copying(self)

    def starter(self, start: Start) -> Callable[[Program], None]:
        """What a program does before its first instruction when mosrun named a node."""

        def begin(p: Program) -> None:
            def done(reason: str) -> None:
                if reason and not start.force:
                    self.tracer.policy.say(p, text(Text.MIGRATE_FAILED, computer=start.shown or start.node, reason=reason))
                    p.held = False
                    lib.mos_run_call(p.pid, copy_regs(p.task.peek_regs()), SYS_EXIT_GROUP, NOT_STARTED, 0, 0, 0, 0, 0)
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
        lacking = cpu.missing(p.demand.needs, self.tracer.features) if move.why and not (move.target or move.escapes) else []
        if lacking:
            self._tell(p, move, cpu.lacks(lacking, ""))
            return
        p.move = move
        p.pieced = True
        self.tracer.announce(p)
        if move.target:
            self._open_channel(p, move)
        elif self.copying.comes_ahead(p):
            move.order = ALL_HOME
            self._copy_onward(p, move)
        else:
            self.arrival.recall(p)

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
        self.tracer.private.carrier.ended(p)
        if move.copy is not None:
            move.copy.close()
        if move.rebuild is not None and p.away:
            self.copying.give_up_memory(p, move.rebuild)
        if not reason:
            p.nmigs += 1
            p.because = move.why
            self.tracer.statistics.tell(p)
            if move.frozen_at:
                p.freeze_ms = (time.monotonic() - move.frozen_at) * 1000
            self.tracer.log(
                f"pid={p.pid} moved to={move.target or 'home'} freeze_ms={p.freeze_ms:.1f} "
                f"total_ms={(time.monotonic() - move.started) * 1000:.1f}"
            )
            self.tracer.traces.told(p, "has moved")
            if p.sigmig:
                os.kill(p.pid, p.sigmig)
        else:
            failed = text(Text.MIGRATE_FAILED, computer=move.target or "home", reason=reason)
            self.tracer.traces.told(p, failed)
            self.tracer.log(f"pid={p.pid} {failed}")
        self._tell(p, move, reason)
        wanted, p.wanted = p.wanted, None
        if wanted is not None:
            self.request(p, wanted)

    def gone(self, p: Program) -> None:
        """The process has ended."""
        if p in self._busy:
            self._busy.remove(p)
        move, p.move = p.move, None
        if move is not None and move.copy is not None:
            move.copy.close()
        if move is not None:
            self.requests = {k: v for k, v in self.requests.items() if v is not p}
            if move.link is not None and move.link is not p.link:
                self.drop(p, move.link)
        if p.link is not None and (p.away or p.place is Place.LEAVING):
            self.drop(p, p.link)
        p.link = None

    def drop(self, p: Program, link: Link) -> None:
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
        with self.tracer.containment.of(p):
            if p.move.phase in (Phase.ARMING, Phase.STOPPING):
                self.departure.stop(p)
            elif p.move.phase is Phase.RECALL:
                self.arrival.recall(p)
            elif p.move.phase is Phase.SENT and p.away and p.move.link is not None:
                self._order(p)

    def _open_channel(self, p: Program, move: Move) -> None:
        number = self._next_request
        self._next_request += 1
        move.phase = Phase.CHANNEL
        self.requests[number] = p
        need = max(p.settings.needmem, 0)
        asked = self.tracer.control.send(
            OpenChannel(
                number, move.target, p.pid, p.uid, p.comm, need, self.tracer.features, p.away, move.below, p.demand.required
            )
        )
        if not asked:
            del self.requests[number]
            self.finish(p, Reason.NO_RESPONSE)

    def mosd_gone(self) -> None:
        waiting, self.requests = self.requests, {}
        for p in waiting.values():
            with self.tracer.containment.of(p):
                self.finish(p, Reason.NO_RESPONSE)

    def channel_failed(self, message: ChannelFailed) -> None:
        p = self.requests.pop(message.req, None)
        if p is not None:
            self.finish(p, message.reason)

    def channel_ready(self, message: ChannelReady, passed: socket.socket | None) -> None:
        p = self.requests.pop(message.req, None)
        if passed is None:  # no descriptor was free for it
            if p is not None:
                self.finish(p, f"{Reason.INCOMPLETE} ({os.strerror(errno.EMFILE)})")
            return
        if p is None or p.move is None or p.move.phase is not Phase.CHANNEL:
            passed.close()
            return
        if more := p.demand.too_much(p.pid, message.features):
            passed.close()
            self.finish(p, f"began with less processor state than {message.target} has ({' '.join(more)}): set LD_BIND_NOW=1")
            return
        if few_left(passed.fileno()):
            passed.close()
            self.finish(p, f"{Reason.INCOMPLETE} ({os.strerror(errno.EMFILE)})")
            return
        channel = Channel(passed, message.key, opener=True, end=To.TRACER)
        link = Link(channel, message.target, message.near, message.features, message.frames)
        self.channels[id(link)] = link
        move = p.move
        move.link = link
        link.programs.add(p.pid)
        move.phase = Phase.PREPARING
        if p.away:
            move.order = MoveOrder(
                message.target, message.port, message.direct_token, message.direct_key, message.near, message.features
            )

    def prepared(self, link: Link) -> None:
        """PREPARED: the program needs to stand still only from now on."""
        for p in [self.tracer.programs[pid] for pid in link.programs if pid in self.tracer.programs]:
            move = p.move
            if move is None or move.link is not link or move.phase is not Phase.PREPARING:
                continue
            with self.tracer.containment.of(p):
                if p.away:
                    self._copy_onward(p, move)
                elif not self.tracer.private.carrier.send_ahead(p, link):
                    self.files_sent(p)

    def files_sent(self, p: Program) -> None:
        """The private files of a program at home have gone ahead: now its memory."""
        if p.move is not None and p.move.phase is Phase.PREPARING:
            p.move.phase = Phase.ARMING if self.copying.wanted(p) else Phase.STOPPING
            self.departure.stop(p)

    def _copy_onward(self, p: Program, move: Move) -> None:
        """Have the old host send the memory to the new one while the program runs on."""
        assert p.link is not None
        move.phase = Phase.COPYING
        try:
            p.link.channel.send(Kind.COPY, p.pid, msgspec.msgpack.encode(move.order))
        except ChannelLost:
            self.tracer.away.link_lost(p.link)

    def copied(self, p: Program) -> None:
        """COPIED: the old host has sent enough ahead, or cannot. Now the program has to stand still."""
        if p.move is None or p.move.phase is not Phase.COPYING or not p.away:
            return
        if not p.move.target:
            self.arrival.recall(p)
        else:
            p.move.phase = Phase.SENT
            self._order(p)

    def _order(self, p: Program) -> None:
        """Tell the old host to send the image to the new one."""
        assert p.move is not None and p.link is not None
        p.move.frozen_at = time.monotonic()
        p.answer = p.answer if p.answer is not None else []
        try:
            p.link.channel.send(Kind.MOVE_TO, p.pid, msgspec.msgpack.encode(p.move.order))
        except ChannelLost:
            self.tracer.away.link_lost(p.link)

    def abandon(self, p: Program, reason: str) -> None:
        move = p.move
        if move is not None and move.link is not None and move.link is not p.link:
            self.drop(p, move.link)
        self.finish(p, reason)

    def ready(self, p: Program, link: Link) -> None:
        """READY: the body stands complete. One whose image home has sent has its GO already."""
        move = p.move
        if move is not None and move.link is link and move.phase is Phase.SENT:
            self.let_run(p, move, link)

    def let_run(self, p: Program, move: Move, link: Link) -> None:
        """GO: the body may run as soon as it is complete. Until it says RUNNING the program is kept where it was."""
        move.phase = Phase.GO
        try:
            fault(Point.HOME_BEFORE_COMMIT, link.channel)
            self.tracer.mails.tell(p, link)
            link.channel.send(Kind.GO, p.pid, self.times())
        except (TaskGone, ChannelLost):
            raise
        except Exception as error:
            self.failed(p, link, self.unforeseen(p, error))

    def running(self, p: Program, link: Link) -> None:
        """RUNNING: the commit point. Nothing that the body did could be seen by anybody before."""
        move = p.move
        if move is None or move.link is not link or move.phase is not Phase.GO:
            return
        p.demand.ran_at(link.ip, link.features)
        if p.place is Place.LEAVING:
            self.departure.commit(p, link, move)
            return
        old, p.link = p.link, link
        fault(Point.HOME_ONWARD_COMMITTED, link.channel)
        if old is not None:
            self.drop(p, old)
        self.tracer.away.release_answers(p)
        self.tracer.cputimers.tell(p)
        self.finish(p, "")

    def failed(self, p: Program, link: Link | None, reason: str) -> None:
        """FAIL of the receiver, CANNOT of the sender, or its channel broke before the commit point."""
        move = p.move
        if move is None or (link is not None and move.link is not link):
            return
        if p.place is Place.LEAVING:
            regs, _sleep = move.regs
            self.departure.stay(p, regs, reason)
        elif p.away and move.phase in (Phase.COPYING, Phase.SENT, Phase.GO):
            self._resume_old(p, reason)
        else:
            self.abandon(p, reason)

    def unforeseen(self, p: Program, error: Exception) -> str:
        """The reason of a move that fails by ``error`` before its commit point; what the kernel did not refuse is in the log."""
        if not isinstance(error, OSError):
            trace = "".join(traceback.format_exception(error))
            self.tracer.log(f"pid={p.pid} cannot be moved\n{trace}", 40)
        return f"{Reason.INCOMPLETE} ({os.strerror(error.errno) if isinstance(error, OSError) and error.errno else error})"

    def _resume_old(self, p: Program, reason: str) -> None:
        move = p.move
        assert move is not None and p.link is not None
        if move.link is not None and move.link is not p.link:
            self.drop(p, move.link)
        try:
            p.link.channel.send(Kind.RESUME, p.pid)
            self.tracer.away.release_answers(p)
        except ChannelLost:
            self.tracer.away.link_lost(p.link)
            return
        self.finish(p, reason)

    def cannot(self, p: Program, reason: str) -> None:
        """CANNOT of the old host: BUSY (": " and why) if it cannot be captured just now, else the image went nowhere."""
        move = p.move
        if reason.startswith(BUSY):
            self.tracer.away.release_answers(p)
            if move is None or self.retry_later(p):
                return
        if move is not None:
            self._resume_old(p, reason.removeprefix(BUSY).removeprefix(": ") or BUSY)

    # ------------------------------------------------------------------ illegal instructions

    def escape(self, p: Program, needs: list[str], node: str, done: Callable[[str], None]) -> None:
        """An instruction of ``p`` is illegal where it is (``node``, "" at home): it goes where the flags ``needs`` are."""
        needs = sorted(cpu.USER_FLAGS & set(needs))
        refuge = p.demand.refuge(needs)
        p.demand.needs |= set(needs)
        why = cpu.lacks(needs, node)
        if refuge is None:
            done(why)
        else:
            self.request(p, Move(refuge, refuge or "home", done=done, why=why, hurry=True, escapes=True))

    def escapes(self, p: Program, sig: int) -> bool:
        """A signal is about to be delivered at home. True if it means that the program must go on where it was before."""
        if sig != signal.SIGILL or not p.demand.foreign:
            return False
        lacking = cpu.missing(cpu.parse(p.demand.seen).flags, self.tracer.features)
        needs = illegal_instruction(p.task, lacking)
        if not needs:
            return False
        p.held = True

        def done(reason: str) -> None:
            if reason and p.held:
                self.tracer.resume(p, signal.SIGILL)

        self.escape(p, needs, "", done)
        return True

    def times(self, asked: int = 0) -> bytes:
        extras, now = self.tracer.clock.extras(), self.tracer.clock.here()
        return msgspec.msgpack.encode(
            GoTimes(now.realtime, now.monotonic, self._kernel, extras.coarse, extras.boot, extras.tai, asked)
        )

    def resume_away(self, p: Program) -> bool:
        """After an exec away the new program goes back to the node where the old one was; True if it is on its way."""
        link, p.link = p.link, None
        p.answer = None
        move = p.move
        if move is not None and link is not None:
            return self._exec_on_the_way(p, link, move)
        if link is None or id(link) not in self.channels or p.bound or p.native:
            if link is not None:
                self.drop(p, link)
            return False
        try:
            link.channel.send(Kind.EXECED, p.pid)
        except ChannelLost:
            return False
        p.move = Move(link.ip, link.ip, phase=Phase.SENT, link=link)
        p.pieced = True
        p.nmigs -= 1  # it has not moved: it is where it was
        self.departure.depart(p, Stop.OTHER)
        return True

    def _exec_on_the_way(self, p: Program, link: Link, move: Move) -> bool:
        """It was leaving its node when it made exec, which has brought it home: go on from here."""
        self.drop(p, link)
        if not move.target:
            self.finish(p, "")
        elif move.phase in (Phase.COPYING, Phase.SENT) and move.link is not None:
            try:
                move.link.channel.send(Kind.EARLY, p.pid, NOTHING_EARLY)
            except ChannelLost:
                pass  # the image will meet the same
            move.phase = Phase.STOPPING
            self.departure.depart(p, Stop.OTHER)
            return True
        return False
