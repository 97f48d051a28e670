"""Moves that nobody has asked for by a control file: at the start of a program, after an exec away, for an illegal instruction."""

from __future__ import annotations

from collections.abc import Callable

from mosfs.abi import cpu
from mosfs.abi.numbers import SYS_EXIT_GROUP
from mosfs.abi.reasons import Reason
from mosfs.abi.texts import Text, text
from mosfs.home.ports import Tree
from mosfs.home.process.link import Link
from mosfs.home.process.move import Event, Move, Phase, Step
from mosfs.home.process.program import Program
from mosfs.migrate.precopy import NOTHING_EARLY
from mosfs.migrate.suits import unsuited_instruction
from mosfs.native import lib
from mosfs.trace.stops import Stop
from mosfs.trace.task import copy_regs
from mosfs.wire.asked import Start
from mosfs.wire.channel import ChannelLost
from mosfs.wire.frames import Kind

#: mosrun(1): the exit status of what could not start where it should.
NOT_STARTED = 125


class Occasions:
    def __init__(self, tracer: Tree) -> None:
        self.tracer = tracer

    def starter(self, start: Start) -> Callable[[Program], None]:
        """What a program does before its first instruction when mosrun named a node."""

        def begin(p: Program) -> None:
            def done(reason: str) -> None:
                if reason and not start.force:
                    self.tracer.policy.say(p, text(Text.MIGRATE_FAILED, computer=start.shown or start.node, reason=reason))
                    p.suspended = False
                    lib.mos_run_call(p.pid, copy_regs(p.task.peek_regs()), SYS_EXIT_GROUP, NOT_STARTED, 0, 0, 0, 0, 0)
                    return
                self._resume(p)

            if not start.node or start.node == self.tracer.mosd.config.ip:
                self._resume(p)
                return
            self.tracer.moves.request(p, Move(start.node, start.shown or start.node, done=done))

        return begin

    def _resume(self, p: Program) -> None:
        """Let it begin, with its threads, which it has if it goes on from a checkpoint."""
        for one in (p, *self.tracer.threads.of(p)):
            if one.suspended:
                one.suspended = False
                self.tracer.stops.go_on(one)

    def start_native(self, p: Program) -> None:
        self.tracer.stops.resume(p)

    def escape(self, p: Program, needs: list[str], node: str, done: Callable[[str], None], *, passing: bool) -> None:
        """An instruction of ``p`` is refused where it is (``node``, "" at home): it goes where the flags ``needs`` are.
        ``passing``: for this one; else it goes to such nodes only from then on."""
        needs = sorted(cpu.USER_FLAGS & set(needs))
        refuge = p.demand.refuge(needs)
        if not passing:
            p.demand.needs |= set(needs)
        why = cpu.lacks(needs, node)
        if refuge is None:
            done(why)
        else:
            self.tracer.moves.request(p, Move(refuge, refuge or "home", done=done, why=why, hurry=True, escapes=True))

    def escapes(self, p: Program, sig: int) -> bool:
        """A signal is about to be delivered at home. True if it means that the program must go on where it was before."""
        if not p.demand.foreign:
            return False
        lacking = cpu.missing(cpu.parse(p.demand.seen).flags, self.tracer.features)
        unsuited = unsuited_instruction(p.task, sig, lacking, self.tracer.features)
        if unsuited is None:
            return False
        p.suspended = True

        def done(reason: str) -> None:
            if reason and p.suspended:
                self.tracer.stops.resume(p, sig)

        self.escape(p, unsuited.needs, "", done, passing=unsuited.passing)
        return True

    def resume_away(self, p: Program) -> bool:
        """After an exec away the new program goes back to the node where the old one was; True if it is on its way."""
        link, p.link = p.link, None
        p.body.kept_back = None
        move = p.move
        if move is not None and link is not None:
            return self._exec_on_the_way(p, link, move)
        if link is None or id(link) not in self.tracer.hosts.channels or p.travel.bound or p.process.native:
            if link is not None:
                self.tracer.hosts.drop(p, link)
            return False
        try:
            link.channel.send(Kind.EXECED, p.pid)
        except ChannelLost:
            return False
        p.move = Move(link.ip, link.ip, phase=Phase.STOPPING, link=link)
        p.piece()
        p.travel.nmigs -= 1  # it has not moved: it is where it was
        self.tracer.departure.depart(p, Stop.OTHER)
        return True

    def _exec_on_the_way(self, p: Program, link: Link, move: Move) -> bool:
        """It was leaving its node when it made exec, which has brought it home: go on from here."""
        self.tracer.hosts.drop(p, link)
        if not move.target:
            self.tracer.moves.finish(p, "")
        elif move.link is not None and move.after(Event.EXECUTED, away=True) is Step.CAPTURE:
            try:
                move.link.channel.send(Kind.EARLY, p.pid, NOTHING_EARLY)
            except ChannelLost:
                pass  # the image will meet the same
            self.tracer.departure.depart(p, Stop.OTHER)
            return True
        elif move.phase is Phase.GO:  # only a hostile host makes an exec behind its image
            self.tracer.moves.abandon(p, Reason.INCOMPLETE)
        return False
