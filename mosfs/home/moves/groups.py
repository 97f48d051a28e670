"""Groups: processes that share memory, and therefore move together or not at all (docs/design/shared-memory.md).

A group stands still one member after another, each by a move of its own as of any program. What they share is sent when all of them
stand. Then all are committed: on their way out by the first that runs, on their way home by the last that has come.
"""

from __future__ import annotations

import time

from mosfs.abi.reasons import Reason
from mosfs.home.ports import Tree
from mosfs.home.process.deputy import State
from mosfs.home.process.move import Event, Filled, Move, Phase, Step, Together
from mosfs.home.process.program import Place, Program
from mosfs.wire.channel import ChannelLost
from mosfs.wire.faults import Sharing, fault

#: Seconds that each of a group may take to stand still; attempts, where members end meanwhile.
STANDS_WITHIN, ATTEMPTS = 20.0, 5


def _of(p: Program) -> Together | None:
    """The group that ``p`` moves with; None if it does not, or moves by itself."""
    return p.move.together if p.move is not None else None


class Groups:
    def __init__(self, tracer: Tree) -> None:
        self.tracer = tracer
        self._standing: list[Together] = []
        self._waiting: list[Program] = []  # what is wanted of them waits for the moves of others

    def request(self, group: list[Program], move: Move, attempts: int = 0) -> str:
        """Begin a move of all of them; ``move`` is that of the first. Or why they cannot. ``attempts``: there were before."""
        p = group[0]
        if any(q.move is not None for q in group):
            if p.travel.wanted is not None:
                return Reason.UNDER_WAY
            p.travel.wanted = move
            self._waiting.append(p)
            return ""
        for q in group:
            if reason := self._obstacle(p, q, move):
                return reason
        together = Together([q.pid for q in group], time.monotonic() + STANDS_WITHIN, p.pid, attempts=attempts)
        for q in group:
            q.move = move if q is p else Move(move.target, move.shown, why=move.why)
            q.move.together = together
            q.piece()
            self.tracer.mosd.announce(q)
        self._standing.append(together)
        if move.target:
            self.tracer.openings.open(p, move)
        else:
            self._next(together)
        return ""

    def _obstacle(self, p: Program, q: Program, move: Move) -> str:
        """Why ``q`` cannot move together with ``p``."""
        if q.move is not None:
            return Reason.UNDER_WAY
        reason = Reason.STOPPED if q.halted else ""
        if q.place is not p.place or q.link is not p.link:
            reason = "which is elsewhere"
        elif move.target:
            reason = q.travel.bound or reason or self.tracer.threads.obstacle(q)
        return f"{Reason.MEMORY_SHARED} with {q.pid} ({q.comm}): {reason}" if reason else ""

    def others_wait(self, p: Program) -> bool:
        """Whether there are programs that do not move with ``p``: while its image passes nobody serves them."""
        together, others = _of(p), (q for q in self.tracer.programs.values() if q.process is not p.process)
        return any(together is None or _of(q) is not together for q in others)

    # ------------------------------------------------------------------ one after another

    def _members(self, together: Together) -> list[Program]:
        """Those that still move with it."""
        found = (self.tracer.programs.get(pid) for pid in together.members)
        return [q for q in found if q is not None and q.move is not None and q.move.together is together]

    def last(self, p: Program) -> bool:
        """Whether all others of its group stand."""
        together = _of(p)
        return together is None or all(q is p or q.pid in together.stands for q in self._members(together))

    def objects(self, p: Program) -> set[int]:
        """All that is shared in the group that ``p`` moves with, or by itself."""
        together = _of(p)
        members = [p] if together is None else self._members(together)
        return set().union(*(self.tracer.shared.of(q) for q in members))

    def _next(self, together: Together) -> None:
        """Have the next one stop."""
        left = [q for q in self._members(together) if q.pid not in together.stands]
        if not left:
            self._all_stand(together)
            return
        q = left[0]
        assert q.move is not None
        if q.move.target and q.pid != together.members[0] and not self.tracer.shared.of(q):  # it shares nothing any more
            q.move.together = None
            self.tracer.moves.finish(q, Reason.EXECUTED)
            self._next(together)
            return
        together.turn = q.pid
        with self.tracer.containment.of(q):
            if not q.move.target:
                if q.move.after(Event.NOT_AHEAD, away=True) is Step.RECALL:
                    self.tracer.arrival.recall(q)
                return
            first = self._members(together)[0].move
            assert first is not None and first.link is not None
            q.move.link, q.move.target, q.move.phase = first.link, first.target, Phase.PREPARING
            first.link.programs.add(q.pid)
            if q.move.after(Event.NOT_AHEAD, away=False) is Step.STOP:
                self.tracer.departure.stop(q)

    def _all_stand(self, together: Together) -> None:
        """Decide for all of them, unless there is one more."""
        before = len(together.members)
        members = self._members(together)
        if not members:
            self._forget(together)
        elif not all(self.joins(q) for q in members):
            self._dissolve(together, Reason.MEMBERS_RUN)
        elif len(together.members) > before:  # born by one that ended, or executed another program, before it stood
            together.contents = False
            self._next(together) if time.monotonic() < together.deadline else self._dissolve(together, Reason.MEMBERS_RUN)
        elif members[0].move is not None and members[0].move.target:
            self._let_run(together, members)
        elif together.contents:
            self._settle(together, members)
        else:  # who was to bring the memory has ended
            self._again(together, members)

    def _forget(self, together: Together) -> None:
        together.over = True
        if together in self._standing:
            self._standing.remove(together)

    def tick(self) -> None:
        """Once a second: a group that does not stand still in time goes on where it is."""
        now = time.monotonic()
        for together in [together for together in self._standing if together.deadline <= now and together.stands]:
            members, turn = self._members(together), self.tracer.programs.get(together.turn)
            if turn is not None and turn.place is Place.LEAVING:
                continue  # it stands, and its memory is on its way
            if members and members[0].move is not None and members[0].move.target and not together.complete:
                self._dissolve(together, Reason.MEMBERS_RUN)

    def joins(self, p: Program) -> bool:
        """``p`` stands, and shall leave or has left its node: whether all who share memory with it move with it. Who has been born
        since it was asked to move is taken in."""
        others = [q for q in self.tracer.shared.group(p) if q is not p]
        if not others or p.move is None:
            return not others
        if p.move.together is None:
            p.move.together = Together([p.pid], time.monotonic() + STANDS_WITHIN, p.pid)
            self._standing.append(p.move.together)
        together = p.move.together
        for q in others:
            if q.move is None and not self._obstacle(p, q, p.move):
                q.move = Move(p.move.target, p.move.shown, why=p.move.why, together=together)
                q.piece()
                together.members.append(q.pid)
            elif q.move is None or q.move.together is not together:
                return False
        return True

    def why_not(self, p: Program) -> str:
        """Why `joins` has said no: which of them cannot move together with ``p``, and why."""
        assert p.move is not None
        others = [q for q in self.tracer.shared.group(p) if q is not p and (q.move is None or _of(q) is not _of(p))]
        return next((reason for q in others if (reason := self._obstacle(p, q, p.move))), Reason.MEMORY_SHARED)

    # ------------------------------------------------------------------ leaving home

    def ready(self, p: Program) -> None:
        """READY: a member stands, and its body is complete."""
        together = _of(p)
        if together is not None and not together.over:
            together.stands.add(p.pid)
            together.deadline = time.monotonic() + STANDS_WITHIN
            self._next(together)

    def _let_run(self, together: Together, members: list[Program]) -> None:
        """All stand there: what they share follows, then they may run."""
        together.complete = True
        link = members[0].move.link if members[0].move is not None else None
        assert link is not None
        try:
            fault(Sharing.HOME_ALL_STAND, link.channel, members[0].comm)
            self.tracer.withheld.guard(members[0], self.objects(members[0]))
            self.tracer.shared.send(members[0], link, self.objects(members[0]))
            fault(Sharing.HOME_BEFORE_GO, link.channel, members[0].comm)
            for q in members:
                if q.move is not None and q.move.after(Event.ALL_READY, away=False) is Step.GO:
                    self.tracer.moves.let_run(q, link)
        except ChannelLost:
            self.tracer.hosts.link_lost(link)
        except Exception as error:
            self._dissolve(together, self.tracer.moves.unforeseen(members[0], error))

    def committed(self, p: Program) -> None:
        """RUNNING of one of them: the commit point of all."""
        together = _of(p)
        assert together is not None
        self._forget(together)
        self.tracer.shared.gone(self.objects(p))
        for q in reversed(self._members(together)):
            with self.tracer.containment.of(q):
                assert q.move is not None and q.move.link is not None
                q.demand.ran_at(q.move.link.ip, q.move.link.features)
                self.tracer.departure.commit(q, q.move.link, q.move)

    # ------------------------------------------------------------------ coming home

    def filled(self, p: Program, filled: Filled) -> None:
        """The image of ``p`` is in its deputy, which stands until all have come."""
        together = _of(p)
        assert together is not None and p.move is not None
        together.stands.add(p.pid)
        together.contents = bool(p.move.stood.brings) and all(q.pid in together.stands for q in self._members(together))
        together.filled[p.pid] = filled
        together.deadline = time.monotonic() + STANDS_WITHIN
        self._deputies(p, State.HELD)
        self._next(together)

    def _deputies(self, p: Program, state: State) -> None:
        """Those of all its threads are `HELD` from its coming until it is decided what becomes of it."""
        for one in (p, *self.tracer.threads.of(p)):
            if one.deputy is not None:
                one.deputy.state = state

    def _settle(self, together: Together, members: list[Program]) -> None:
        """All have come: they go on at home."""
        link = members[0].link
        assert link is not None
        try:
            fault(Sharing.HOME_ALL_CAME, link.channel, members[0].comm)
        except ChannelLost:
            self.tracer.hosts.link_lost(link)
            return
        except Exception as error:
            self._dissolve(together, self.tracer.moves.unforeseen(members[0], error))
            return
        self._forget(together)
        for q in reversed(members):
            filled = together.filled[q.pid]
            with self.tracer.containment.of(q):
                self._deputies(q, State.READY)
                try:
                    self.tracer.arrival.settle(q, filled)
                except Exception:
                    self.tracer.containment.kill(q)  # others have gone on: it cannot be where it was
                    raise

    # ------------------------------------------------------------------ what fails

    def ended(self, move: Move, reason: str) -> None:
        """The move of a member has ended: if it has failed, so has that of all."""
        together = move.together
        if together is None or together.over:
            return
        if reason:
            self._dissolve(together, reason)
        else:
            self._left(together)

    def free(self, move: Move, p: Program | None = None) -> list[Program]:
        """The move of ``p`` has ended, or of one that is gone: who may begin another one now, of a group nobody before those of all
        have ended."""
        together = move.together
        free = [p] if p is not None else []
        if together is not None:
            together.later += [q.pid for q in free]
            if self._members(together):
                return []
            free = [q for pid in together.later if (q := self.tracer.programs.get(pid)) is not None]
            together.later = []
        waiting, self._waiting = self._waiting, []
        return [*free, *(q for q in waiting if self.tracer.programs.get(q.pid) is q and q.move is None)]

    def gone(self, p: Program, move: Move) -> None:
        """A member is gone."""
        together = move.together
        if together is None or together.over:
            for q in self.free(move):
                wanted, q.travel.wanted = q.travel.wanted, None
                if wanted is not None:
                    self.tracer.moves.request(q, wanted)
            return
        together.filled.pop(p.pid, None)
        first = p.pid == together.members[0] and move.target and not together.stands
        if together.complete or first:  # what they share may have changed at its end; or nobody has the channel
            self._dissolve(together, Reason.MEMBER_ENDED)
        else:
            self._left(together)

    def _left(self, together: Together) -> None:
        """One is not a member any more: if the others have waited for it, it is the next one's turn."""
        members = {q.pid for q in self._members(together)}
        together.stands &= members
        if together.turn not in members:
            self._next(together)

    def _again(self, together: Together, members: list[Program]) -> None:
        """They go on where they are, and all of it is tried once more."""
        move = members[0].move
        assert move is not None
        done, move.done = move.done, None
        again = Move(move.target, move.shown, seq=move.seq, done=done, why=move.why)
        self._dissolve(together, Reason.MEMBER_ENDED)
        group, reason = self.tracer.shared.group(members[0]), Reason.MEMBER_ENDED.value
        if len(group) == 1:
            self.tracer.moves.request(members[0], again)
            return
        if together.attempts < ATTEMPTS:
            reason = self.request(group, again, together.attempts + 1)
        if reason and done is not None:
            done(reason)

    def _dissolve(self, together: Together, reason: str) -> None:
        """All go on where they were."""
        self._forget(together)
        for q in reversed(self._members(together)):
            with self.tracer.containment.of(q):
                move = q.move
                assert move is not None
                filled = together.filled.get(q.pid)
                if filled is not None:
                    self._deputies(q, State.READY)
                    self.tracer.arrival.send_back(q, filled, reason)
                elif q.place is Place.LEAVING:
                    self.tracer.departure.stay(q, move.stood.regs, reason)
                else:
                    self.tracer.moves.abandon(q, reason)
