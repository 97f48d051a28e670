"""Coordinating moves. The tracer of the home-node decides every step (`docs/design/migration.md`); what follows what is one table,
`process.move.STEPS`.

Before the commit point any failure leaves the program running where it was. There is no third state. RUNNING is a safe commit point
although the body may already have computed: all that others could see of it passes through this process, behind RUNNING.
"""

from __future__ import annotations

import os
import time
import traceback
from contextlib import suppress

import msgspec

from mosfs.abi import cpu
from mosfs.abi.outcomes import OK
from mosfs.abi.reasons import Reason
from mosfs.abi.texts import Text, text
from mosfs.home.ports import Tree
from mosfs.home.process.link import Link
from mosfs.home.process.move import Event, Move, Phase, Step
from mosfs.home.process.program import Place, Program
from mosfs.migrate.maps import CannotMove
from mosfs.native import lib
from mosfs.trace.task import WALL, TaskGone
from mosfs.wire.channel import ChannelLost
from mosfs.wire.faults import Point, fault
from mosfs.wire.frames import GENERATION, Cannot, Kind
from mosfs.wire.orders import MoveOrder

RETRY_AFTER = 0.005
#: COPY with it means home.
ALL_HOME = MoveOrder("", 0, b"", b"", True, frames=GENERATION)
#: Attempts while the program stands where it cannot be captured (a fork or exec under way), 5 ms apart.
MAX_TRIES = 2000
#: How many of them one counts that a host refuses for good, of a program that moves with others.
TRIES_OF_A_MEMBER = 50


class Moves:
    def __init__(self, tracer: Tree) -> None:
        self.tracer = tracer
        self._busy: list[Program] = []
        self._asked: list[Program] = []  # with threads, and asked to stop: `_look`

    def request(self, p: Program, move: Move) -> None:
        """Begin a move, or remember it until the present one has ended. Whichever thread asks, its process moves."""
        p = self.tracer.family.process(p)
        if p.move is not None:
            if p.travel.wanted is not None:
                self._tell(p, p.travel.wanted, Reason.SUPERSEDED)
            p.travel.wanted = move
            return
        here = p.link.ip if p.away and p.link is not None else ""
        if move.target == self.tracer.mosd.config.ip:
            move.target = ""
        if p.frozen.mark:
            move.thaws = not (move.target or move.freezes or move.seq)
            if not move.thaws:
                self._tell(p, move, Reason.FROZEN)
                return
        elif move.target == here and move.freezes is None and not self.tracer.outliving.copied(p):
            self._tell(p, move, "")
            return
        if p.away and p.several and move.target:  # by way of home
            self.request(p, Move("", "home", why=move.why, done=lambda reason: self._onward(p, move, reason)))
            return
        reason = (p.travel.bound if move.target or move.freezes else "") or (Reason.STOPPED if p.halted else "")
        if p.process.shares and move.freezes is not None:
            reason = reason or Reason.MEMORY_SHARED
        reason = reason or self.tracer.outliving.obstacle(p, move)
        if reason:
            self._tell(p, move, reason)
            return
        lacking = cpu.missing(p.demand.needs, self.tracer.features) if move.why and not (move.target or move.escapes) else []
        if lacking:
            self._tell(p, move, cpu.lacks(lacking, ""))
            return
        group = self.tracer.shared.group(p)
        if move.target and (reason := self.tracer.shared.obstacle(group)):
            self._tell(p, move, reason)
            return
        if len(group) > 1:
            if reason := self.tracer.groups.request(group, move):
                self._tell(p, move, reason)
            return
        p.move = move
        p.piece()
        self.tracer.mosd.announce(p)
        if move.target:
            self.tracer.openings.open(p, move)
        elif move.freezes is not None and not p.away:
            self.tracer.openings.to_file(p, move, move.freezes)
        else:
            step = move.after(Event.AHEAD if self.tracer.copying.comes_ahead(p) else Event.NOT_AHEAD, away=True)
            if step is Step.COPY:
                move.order = ALL_HOME
                self.copy_onward(p, move)
            else:
                self.tracer.arrival.recall(p)

    def _onward(self, p: Program, move: Move, reason: str) -> None:
        """It was to come home first."""
        if reason or p.move is not None:
            self._tell(p, move, reason or Reason.SUPERSEDED)
        else:
            self.request(p, move)

    def _tell(self, p: Program, move: Move, reason: str) -> None:
        if move.seq:
            p.travel.last = (move.seq, move.target, reason or OK)
        p.travel.why = reason
        if move.done is not None:
            move.done(reason)
        self.tracer.mosd.announce(p)

    def finish(self, p: Program, reason: str) -> None:
        """The move of ``p`` has ended: "" or why it failed."""
        move = p.move
        if move is None:
            return
        p.move = None
        self.tracer.carrier.ended(p)
        if move.copy is not None:
            move.copy.close()
        if move.rebuild is not None and p.away:
            self.tracer.copying.give_up_memory(p, move.rebuild)
        if not reason and (move.freezes is not None or move.thaws):
            p.travel.freeze_ms = (time.monotonic() - move.frozen_at) * 1000
        elif not reason:
            p.travel.nmigs += 1
            p.travel.because = move.why
            self.tracer.statistics.tell(p)
            if move.frozen_at:
                p.travel.freeze_ms = (time.monotonic() - move.frozen_at) * 1000
            self.tracer.mosd.log(
                f"pid={p.pid} moved to={move.target or 'home'} freeze_ms={p.travel.freeze_ms:.1f} "
                f"total_ms={(time.monotonic() - move.started) * 1000:.1f}"
            )
            self.tracer.traces.told(p, "has moved")
            if p.travel.sigmig:
                os.kill(p.pid, p.travel.sigmig)
        else:
            if move.freezes is None and not move.thaws:
                failed = text(Text.MIGRATE_FAILED, computer=move.target or "home", reason=reason)
                self.tracer.traces.told(p, failed)
                self.tracer.mosd.log(f"pid={p.pid} {failed}")
        self._tell(p, move, reason)
        if move.together is not None:
            self.tracer.groups.ended(move, reason)
        for q in self.tracer.groups.free(move, p):
            wanted, q.travel.wanted = q.travel.wanted, None
            if wanted is not None:
                self.request(q, wanted)

    def gone(self, p: Program) -> None:
        """The process has ended, or a thread of it, of which its host knows."""
        if p.kin.leader:
            p.link = None
            return
        for waiting in (self._busy, self._asked):
            if p in waiting:
                waiting.remove(p)
        move, p.move = p.move, None
        if move is not None and move.copy is not None:
            move.copy.close()
        if p.deputy is not None:
            p.deputy.remains.forget()
        if move is not None:
            self.tracer.openings.forget(p)
            if move.link is not None and move.link is not p.link:
                self.tracer.hosts.drop(p, move.link)
        if p.link is not None and (p.away or p.place is Place.LEAVING):
            self.tracer.hosts.drop(p, p.link)
        p.link = None
        if move is not None:
            self.tracer.groups.gone(p, move)

    def retry_later(self, p: Program) -> bool:
        """Try the capture again soon; False when it was tried long enough."""
        assert p.move is not None
        p.move.tries += 1
        if p.move.tries > MAX_TRIES:
            return False
        p.travel.retry_at = time.monotonic() + RETRY_AFTER
        if p not in self._busy:
            self._busy.append(p)
        return True

    def next_retry(self) -> float | None:
        return min((p.travel.retry_at for p in (*self._busy, *self._asked)), default=None)

    def retry(self, now: float) -> None:
        for p in [p for p in self._busy if p.travel.retry_at <= now]:
            self._busy.remove(p)
            self.again(p)
        for p in [p for p in self._asked if p.travel.retry_at <= now]:
            self._asked.remove(p)
            self._look(p)

    def asked(self, p: Program) -> None:
        """The first of several threads is asked to stop."""
        p.travel.retry_at = time.monotonic() + RETRY_AFTER
        if p not in self._asked:
            self._asked.append(p)

    def _look(self, p: Program) -> None:
        """Whether it stands by now: wait4(2) tells of the newest of all tasks first, so threads that stop all the time would keep
        the stop of the oldest from us for ever."""
        if not p.interrupted or self.tracer.programs.get(p.pid) is not p:
            return
        lib.mos_unpin(self.tracer.pump)  # as in `Threads.stand`
        with suppress(TaskGone):
            if status := p.task.wait(WALL | os.WNOHANG):
                self.tracer.stops.task_event(p.pid, status)
                return
            self.asked(p)

    def again(self, p: Program) -> None:
        """Go on with a move that had to wait."""
        if p.move is None or p.pid not in self.tracer.programs:
            return
        with self.tracer.containment.of(p):
            match p.move.after(Event.AGAIN, away=p.away):
                case Step.STOP:
                    self.tracer.departure.stop(p)
                case Step.RECALL:
                    self.tracer.arrival.recall(p)
                case Step.ORDER:
                    self._order(p)

    def files_sent(self, p: Program) -> None:
        """The private files of a program at home have gone ahead: now its memory."""
        if p.move is None or p.move.phase is not Phase.PREPARING:
            return
        ahead = Event.AHEAD if self.tracer.copying.wanted(p) else Event.NOT_AHEAD
        if p.move.after(ahead, away=p.away) is Step.STOP:
            self.tracer.departure.stop(p)

    def copy_onward(self, p: Program, move: Move) -> None:
        """Have the old host send the memory to the new one while the program runs on."""
        assert p.link is not None
        if self.tracer.outliving.copied(p):
            self.copied(p)
            return
        try:
            p.link.channel.send(Kind.COPY, p.pid, msgspec.msgpack.encode(move.order))
        except ChannelLost:
            self.tracer.hosts.link_lost(p.link)

    def copied(self, p: Program) -> None:
        """COPIED: the old host has sent enough ahead, or cannot. Now the program has to stand still."""
        step = p.move.after(Event.COPIED, away=p.away) if p.move is not None else Step.NOTHING
        if step is Step.RECALL:
            self.tracer.arrival.recall(p)
        elif step is Step.ORDER:
            self._order(p)

    def _order(self, p: Program) -> None:
        """Tell the old host to send the image to the new one."""
        assert p.move is not None and p.link is not None
        p.move.frozen_at = time.monotonic()
        p.body.kept_back = p.body.kept_back if p.body.kept_back is not None else []
        if self.tracer.outliving.sends(p):
            return
        try:
            p.link.channel.send(Kind.MOVE_TO, p.pid, msgspec.msgpack.encode(p.move.order))
        except ChannelLost:
            self.tracer.hosts.link_lost(p.link)

    def abandon(self, p: Program, reason: str) -> None:
        move = p.move
        if move is not None and move.link is not None and move.link is not p.link:
            self.tracer.hosts.drop(p, move.link)
        self.finish(p, reason)

    def ready(self, p: Program, link: Link) -> None:
        """READY: the body stands complete. One whose image home has sent has its GO already."""
        move = p.move
        step = move.after(Event.READY, away=p.away) if move is not None and move.link is link else Step.NOTHING
        if step is Step.GO:
            self.let_run(p, link)
        elif step is Step.JOIN:
            self.tracer.groups.ready(p)

    def let_run(self, p: Program, link: Link) -> None:
        """GO: the body may run as soon as it is complete. Until it says RUNNING the program is kept where it was."""
        if p.move is not None and p.move.freezes is link:
            self.tracer.freezing.write(p, p.move, link)
            return
        try:
            fault(Point.HOME_BEFORE_COMMIT, link.channel)
            self.tracer.mails.tell(p, link)
            link.channel.send(Kind.GO, p.pid, self.tracer.clocks.times(call=p.body.forwarded if p.away else None))
        except (TaskGone, ChannelLost):
            raise
        except Exception as error:
            self.failed(p, link, self.unforeseen(p, error))

    def running(self, p: Program, link: Link) -> None:
        """RUNNING: the commit point. Nothing that the body did could be seen by anybody before."""
        move = p.move
        step = move.after(Event.RUNNING, away=p.away) if move is not None and move.link is link else Step.NOTHING
        if move is None or step is Step.NOTHING:
            return
        p.demand.ran_at(link.ip, link.features)
        if move.together is not None:
            self.tracer.groups.committed(p)
        elif step is Step.LEAVE:
            self.tracer.departure.commit(p, link, move)
        else:
            self._switch(p, link)

    def _switch(self, p: Program, link: Link) -> None:
        """The new host has the program, the old one drops its body."""
        old, p.link = p.link, link
        fault(Point.HOME_ONWARD_COMMITTED, link.channel)
        if old is not None and not (p.move is not None and self.tracer.outliving.begins(p, old, p.move)):
            self.tracer.hosts.drop(p, old)
        self.tracer.hosts.release_answers(p)
        self.tracer.cputimers.tell(p)
        self.finish(p, "")

    def failed(self, p: Program, link: Link | None, reason: str) -> None:
        """FAIL of the receiver, CANNOT of the sender, or its channel broke before the commit point."""
        move = p.move
        if move is None or (link is not None and move.link is not link):
            return
        match move.after(Event.FAILED, away=p.away):
            case Step.STAY:
                self.tracer.departure.stay(p, move.stood.regs, reason)
            case Step.RESUME:
                self.resume_old(p, reason)
            case _:
                self.abandon(p, reason)

    def unforeseen(self, p: Program, error: Exception) -> str:
        """The reason of a move that fails by ``error`` before its commit point; what the kernel did not refuse is in the log."""
        if isinstance(error, CannotMove):
            return str(error)
        if not isinstance(error, OSError):
            trace = "".join(traceback.format_exception(error))
            self.tracer.mosd.log(f"pid={p.pid} cannot be moved\n{trace}", 40)
        return f"{Reason.INCOMPLETE} ({os.strerror(error.errno) if isinstance(error, OSError) and error.errno else error})"

    def resume_old(self, p: Program, reason: str) -> None:
        """It goes on at the host that has it, and hears of what was kept back."""
        move = p.move
        assert move is not None and p.link is not None
        if move.link is not None and move.link is not p.link:
            self.tracer.hosts.drop(p, move.link)
        try:
            p.link.channel.send(Kind.RESUME, p.pid)
            self.tracer.hosts.release_answers(p)
        except ChannelLost:
            self.tracer.hosts.link_lost(p.link)
            return
        self.finish(p, reason)
        try:
            for frame in move.late:
                self.tracer.frames.handle(p.link, frame)
        except ChannelLost:
            self.tracer.hosts.link_lost(p.link)

    def cannot(self, p: Program, refusal: Cannot) -> None:
        """CANNOT of the old host: the image went nowhere."""
        move = p.move
        member = move is not None and move.together is not None
        if move is not None and member and not refusal.passing:  # its body may not have been born, or be dead
            move.tries += TRIES_OF_A_MEMBER
        if refusal.passing or member:
            self.tracer.hosts.release_answers(p)
            if move is None or self.retry_later(p):
                return
        if move is not None:
            self.resume_old(p, refusal.reason)

