"""Taking checkpoints: a program is stopped, its image and its open files are written to a file, and it goes on.

The program itself creates the file and renames it when it is whole, by injected calls: so it is made with the program's own rights,
in its own folder, and we write to what the program could write to. Until then the file has no permissions and another name.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from mosfs.abi.numbers import SYS_EXIT_GROUP
from mosfs.abi.outcomes import OK
from mosfs.abi.reasons import Reason
from mosfs.home.moves.planning import answered, first, following, made_again, made_for, path_of, uncommon
from mosfs.home.moves.threads import woken
from mosfs.home.moves.writing import Writing, explain
from mosfs.home.ports import Tree
from mosfs.home.process.move import Move
from mosfs.home.process.program import Place, Program
from mosfs.home.process.saving import Saving, Then
from mosfs.migrate import rseq
from mosfs.migrate.capture import signed, user_regs
from mosfs.migrate.checkpoint import CannotSave
from mosfs.migrate.collapse import collapsing
from mosfs.migrate.maps import CannotMove
from mosfs.native import lib
from mosfs.native.registers import Registers
from mosfs.trace.idle import idle
from mosfs.trace.inject import Calls
from mosfs.trace.stops import Stop
from mosfs.trace.task import TaskGone, copy_regs

#: Seconds until we look again whether a program can be stopped, and how often we do.
AGAIN, MOST_TRIES = 0.01, 3000


class Checkpoints:
    def __init__(self, tracer: Tree) -> None:
        self.tracer = tracer
        self._waiting: list[Program] = []
        self._ahead: list[Program] = []  # those that run, and for which something is done before they stand
        self._look_at = 0.0
        self._due: dict[int, float] = {}  # when the next automatic checkpoint of a program is due
        self._writing: dict[int, Writing] = {}  # by the program's PID
        self._helpers: dict[int, Writing] = {}  # by that of the process that writes

    # ------------------------------------------------------------------ asking for one

    def request(self, p: Program, saving: Saving) -> None:
        """Take a checkpoint as soon as the program can be stopped; ``saving.done`` hears of it."""
        if p.saves.asked is not None:
            if saving.seq and p.saves.asked.seq:
                p.saves.asked.seq = saving.seq  # one checkpoint for both
            elif saving.seq:
                p.saves.last = (saving.seq, Reason.SAVING)
                self.tracer.mosd.announce(p)
            saving.done(Reason.SAVING, 0)
            return
        p.saves.asked = saving
        self.tracer.mosd.announce(p)
        self._begin(p)

    def configure(self, p: Program) -> None:
        """mosrun has given the program its settings (-C, -A)."""
        p.saves.next = first(p)
        self.interval_changed(p)

    def interval_changed(self, p: Program) -> None:
        """-A, or a write to checkpointinterval: the time begins anew (mosix(7))."""
        minutes = p.settings.checkpoint_interval
        self._due.pop(p.pid, None)
        if minutes > 0:
            self._due[p.pid] = time.monotonic() + 60 * minutes

    def thawed(self, p: Program) -> None:
        """It is frozen no more: one that was asked for meanwhile is taken now (mosrun(1), CHECKPOINTS)."""
        if p.saves.asked is not None and p not in self._waiting:
            self._waiting.append(p)
            self._look_at = 0.0

    def gone(self, p: Program) -> None:
        self._due.pop(p.pid, None)
        if (writing := self._writing.pop(p.pid, None)) is not None:
            writing.clear()
        if p.saves.chain is not None:
            p.saves.chain.close()
        p.saves.asked = None
        _remove(p, self._waiting, self._ahead)

    def exec_done(self, p: Program) -> None:
        """exec: whoever asked in the program's own name, a thread of it, is no more."""
        if p.saves.asked is not None and p.saves.asked.own:
            p.saves.asked.done = _nobody
            self._finish(p, Reason.EXECUTED)

    def due(self) -> float | None:
        """When `look` has something to do next, by CLOCK_MONOTONIC."""
        moments = [*self._due.values(), *([self._look_at] if self._waiting else []), *([0.0] if self._ahead else [])]
        moments += [writing.due() for writing in self._writing.values()]
        return min(moments, default=None)

    def look(self, now: float) -> None:
        for pid in [pid for pid, due in self._due.items() if due <= now]:
            p = self.tracer.programs.get(pid)
            if p is None:
                del self._due[pid]
                continue
            self.interval_changed(p)
            if p.saves.asked is None:
                with self.tracer.containment.of(p):
                    self.request(p, Saving(_nobody))
        for writing in [*self._writing.values()]:
            with self.tracer.containment.of(writing.p), _failing(writing):
                writing.step(1 / len(self._writing))
        ahead, self._ahead = self._ahead, []
        waiting = self._waiting if now >= self._look_at else []
        if waiting or ahead:
            self._waiting = [] if waiting else self._waiting
            for p in [*ahead, *waiting]:
                with self.tracer.containment.of(p):
                    self._begin(p)

    def event(self, pid: int, status: int) -> bool:
        """A process has stopped, or ended, that is none of the tree; True if it is one that writes for us."""
        writing = self._helpers.get(pid)
        if writing is None:
            return False
        with self.tracer.containment.of(writing.p), _failing(writing):
            writing.event(status)
        return True

    # ------------------------------------------------------------------ until it stands still

    def _begin(self, p: Program) -> None:
        saving = p.saves.asked
        if saving is None or p.pid in self._writing or p.frozen.mark:
            return
        if refusal := self._refusal(p):
            self._finish(p, refusal)
        elif p.suspended and p.place is Place.HOME:  # before a move that may be under way takes it along
            if self.tracer.threads.stand(p, saving):
                in_trap = signed(p.task.peek_regs().orig_rax) >= 0
                self._take(p, Stop.SECCOMP if in_trap else Stop.OTHER)
            elif self.tracer.programs.get(p.pid) is p:
                self._later(p, saving, Reason.THREADS_RUN)
        elif p.place is Place.LEAVING or (p.move is not None and not p.suspended):
            self._later(p, saving, Reason.MOVING, endless=True)
        elif p.away:
            self._bring_home(p, saving)
        elif p.halted:
            self._finish(p, Reason.STOPPED)
        elif reason := p.obstacle():
            self._later(p, saving, reason)
        elif p.deputy is not None:
            p.deputy.interrupt()
        elif _goes_ahead(p, saving):
            self._ahead.append(p)
        else:
            p.call.idle = idle(p.pid)
            p.interrupted = True
            p.task.interrupt()

    def _refusal(self, p: Program) -> str:
        """Why there can be no checkpoint of this program as it is; "" if there can."""
        if p.travel.bound:
            return Reason.STAYS_HOME.details(p.travel.bound)
        if p.post.mail is not None:
            return Reason.MAILS
        return Reason.PRIVATE_FILES if p.private is not None else uncommon(p)

    def _bring_home(self, p: Program, saving: Saving) -> None:
        """A program that is away comes home for its checkpoint, and goes back."""
        saving.back = p.link.ip if p.link is not None else ""

        def here(reason: str) -> None:
            if p.saves.asked is not saving:
                return
            if reason:
                self._finish(p, reason)
            elif p not in self._waiting:
                self._waiting.append(p)  # from the loop: whoever moved it is not done with it yet
                self._look_at = 0.0

        self.tracer.moves.request(p, Move("", "home", done=here))

    def _later(self, p: Program, saving: Saving, reason: str, *, endless: bool = False) -> None:
        if p in self._waiting:  # another stop of it, before it was looked at again
            return
        saving.tries += not endless
        if saving.tries > MOST_TRIES:
            self._finish(p, reason)
            return
        self._waiting.append(p)
        self._look_at = time.monotonic() + AGAIN

    def stopped(self, p: Program, stop: Stop) -> bool:
        """A program at home has stopped; True if a checkpoint was begun: it goes on already, or will."""
        if p.saves.asked is None or p.pid in self._writing or p in self._ahead:
            return False
        if p.move is not None or p.place is not Place.HOME or p.deputy is not None:
            self._later(p, p.saves.asked, Reason.MOVING, endless=True)
            return False
        if p in self._waiting or p.obstacle() or self.tracer.departure.deliverable(p):
            # a signal is about to be delivered: what it does to an interrupted call must be the kernel's doing
            self._later(p, p.saves.asked, Reason.SIGNALS)
            return False
        if not self.tracer.threads.stand(p, p.saves.asked):
            return self._replaced_or_later(p)
        self._take(p, stop)
        return True

    def _replaced_or_later(self, p: Program) -> bool:
        """Its threads do not stand: try again later. True if it does not go on from where it has stopped (`Threads.replaced`)."""
        if self.tracer.programs.get(p.pid) is not p or p.place is not Place.HOME:
            return True
        replaced = self.tracer.threads.replaced(p)
        if p.saves.asked is not None and self.tracer.programs.get(p.pid) is p:
            self._later(p, p.saves.asked, Reason.THREADS_RUN if p.kin.threads else Reason.SIGNALS)
        return replaced

    def halted(self, p: Program) -> None:
        """A signal has stopped a program at home before we could: it may stay so for ever."""
        if p.saves.asked is not None and p.pid not in self._writing and p not in self._waiting and p.move is None:
            self._finish(p, Reason.STOPPED)

    def stopped_sleeping(self, p: Program) -> bool:
        """The same of a program at home whose sleep began away and goes on in the stub."""
        if p.saves.asked is None or p.pid in self._writing or p.deputy is None or p.body.sleeping is None:
            return False
        if p.move is not None:
            self._later(p, p.saves.asked, Reason.MOVING, endless=True)
            return False
        deputy = p.deputy
        deputy.interrupting = False
        saving = p.saves.asked
        if p.body.infos or woken(p):  # a signal, or another thread, has just ended it: that is seen to its end first
            p.task.cont()
            self._later(p, saving, Reason.SIGNALS)
            return True
        if not self.tracer.threads.stand(p, saving):
            if not self._replaced_or_later(p):
                p.task.cont()
            return True

        def let_go(reason: str) -> None:
            if not self._exits(p, deputy.base, reason):
                self._stop(p, reason)
                deputy.resume_sleep()
                self.tracer.threads.stay(p, saving)

        self._write(p, deputy.base, made_again(p.body.sleeping, deputy.sleep), let_go, mask=deputy.mask)
        return True

    def _take(self, p: Program, stop: Stop) -> None:
        """The program stands still: begin to write, and let it go on."""
        saving = p.saves.asked
        assert saving is not None
        rseq.leave(p.task)
        regs = p.task.peek_regs()
        original = copy_regs(regs)
        stay = user_regs(regs, stop)
        self.tracer.departure.note_sleep(p, regs)
        saved = stay
        if saving.own == p.pid:
            saved = answered(stay, stop, saving, p.saves.next)
        elif p.call.sleep is not None:
            saved = made_again(stay, p.call.sleep)

        def let_go(reason: str) -> None:
            if self._exits(p, original, reason):
                return
            if not p.suspended:
                self.tracer.departure.stand_again(p, original, stay)
                self._stop(p, reason)
                self.tracer.stops.go_on(p)
            self.tracer.threads.stay(p, saving)

        self._write(p, original, saved, let_go)

    def _exits(self, p: Program, regs: Registers, reason: str) -> bool:
        """Whether the program ends after its checkpoint: it does so now."""
        if p.saves.asked is None or p.saves.asked.then is not Then.EXIT or reason:
            return False
        lib.mos_run_call(p.pid, regs, SYS_EXIT_GROUP, 0, 0, 0, 0, 0, 0)
        return True

    def _stop(self, p: Program, reason: str) -> None:
        """It meets the stop before it has made another step."""
        if p.saves.asked is not None and p.saves.asked.then is Then.STOP and not reason:
            os.kill(p.pid, signal.SIGSTOP)

    # ------------------------------------------------------------------ writing

    def _write(
        self, p: Program, standing: Any, saved: Any, let_go: Callable[[str], None], *, mask: int | None = None
    ) -> None:
        """``standing``: the registers that the program has, and keeps; ``saved``: those that it goes on with after recovery;
        ``let_go``: how it goes on, told why there is no checkpoint or ""."""
        saving, number = p.saves.asked, p.saves.next
        assert saving is not None
        path, began = path_of(p, number), time.monotonic()

        def on(reason: str) -> None:
            p.saves.stands = False
            let_go(reason)
            self._go_back(p, saving)

        def done(reason: str, size: int) -> None:
            writing = self._writing.pop(p.pid)
            if not reason:
                self._count(p, number)
                self.tracer.mosd.log(
                    f"pid={p.pid} checkpoint {path} bytes={size} freeze_ms={writing.stood * 1000:.1f} "
                    f"total_ms={(time.monotonic() - writing.began) * 1000:.1f}"
                )
            self._finish(p, reason, 0 if reason else number)

        p.saves.stands = True
        try:
            with Calls(p.task, base=standing, mask=mask) as call:
                try:
                    plan = made_for(self.tracer, p, call, saved, path, following(p, number))
                    plan.standing, plan.mask = standing, mask
                    patient = bool(saving.own) or saving.then is not Then.GO_ON
                    writing = self._writing[p.pid] = Writing(
                        p, plan, patient, on, done, self.tracer.moves.unforeseen, self._helpers, began
                    )
                    writing.begin(call)
                finally:
                    p.task.set_regs(standing)
        except TaskGone:
            raise
        except Exception as error:
            if p.pid in self._writing:
                self._writing[p.pid].fail(error)
                return
            counted = isinstance(error, CannotSave | CannotMove)
            if counted:
                explain(p, standing, mask, path, str(error))
                self._count(p, number)
            reason = str(error) if counted else self.tracer.moves.unforeseen(p, error)
            on(reason)
            self._finish(p, reason, number if counted else 0)

    def _count(self, p: Program, number: int) -> None:
        """There is a file of this number; the program may have chosen another name meanwhile."""
        if p.saves.next == number:
            p.saves.next = following(p, number)

    # ------------------------------------------------------------------ afterwards

    def _finish(self, p: Program, reason: str, number: int = 0) -> None:
        """``reason``: why there is no checkpoint, "" if there is one, of this number."""
        saving, p.saves.asked = p.saves.asked, None
        _remove(p, self._waiting, self._ahead)
        if saving is None:
            return
        if reason:
            self.tracer.mosd.log(f"pid={p.pid} no checkpoint: {reason}", 30)
        if saving.seq:
            p.saves.last = (saving.seq, reason or OK)
        saving.done(reason, number)
        self.tracer.mosd.announce(p)
        self._go_back(p, saving)

    def _go_back(self, p: Program, saving: Saving) -> None:
        """To the node that it has left for its checkpoint, as soon as it need not be at home any more."""
        back, saving.back = saving.back, ""
        if back and saving.then is Then.GO_ON and not p.away and p.move is None:
            self.tracer.moves.request(p, Move(back, back, why="goes back after its checkpoint"))


def _goes_ahead(p: Program, saving: Saving) -> bool:
    """Do a slice of what is done before the program stands; False when nothing of it is left."""
    if saving.ahead is None:
        saving.ahead = collapsing(p.pid)
    return next(saving.ahead, saving) is not saving


def _remove(p: Program, *lists: list[Program]) -> None:
    """Nothing is done any more for a program in these lists."""
    for some in lists:
        with suppress(ValueError):
            some.remove(p)


def _nobody(reason: str, number: int) -> None:
    """Nobody waits for the answer."""


@contextmanager
def _failing(writing: Writing) -> Iterator[None]:
    """What goes wrong inside is the end of the checkpoint only."""
    try:
        yield
    except Exception as error:
        writing.fail(error)
