"""Pre-copy at home: the tracer sends a program's memory piece by piece, between the events of its tree, while it runs.

On its way home a program's memory comes ahead of it into the deputy, which goes on making the program's calls meanwhile: mappings
can be made only while it is READY, pages can be filled at any time.
"""

from __future__ import annotations

import errno
import os
import time

from mosfs.abi.numbers import SYS_MUNMAP
from mosfs.engine.brake import Brake
from mosfs.home.ports import Tree
from mosfs.home.process.deputy import Deputy, State
from mosfs.home.process.link import Link
from mosfs.home.process.move import Event, Phase
from mosfs.home.process.program import Place, Program
from mosfs.migrate import rseq
from mosfs.migrate.capture import title_at, user_regs
from mosfs.migrate.dirty import possible
from mosfs.migrate.image import MOST_THREADS
from mosfs.migrate.maps import CannotMove
from mosfs.migrate.precopy import Early, Next, Precopy, early_from
from mosfs.migrate.rebuild import NoRoom, Rebuild, title_pages
from mosfs.native import lib
from mosfs.native.registers import Registers
from mosfs.trace.inject import Calls
from mosfs.trace.stops import Stop
from mosfs.trace.task import TaskGone, copy_regs
from mosfs.wire.channel import ChannelLost
from mosfs.wire.faults import Point, fault
from mosfs.wire.frames import THREADS_AHEAD_SINCE, Frame, Kind, understands

#: Seconds until we look again whether a full socket takes more.
FULL = 0.001
#: Pieces that are sent between two looks at the events of the tree: a millisecond's work.
TURN = 8


class Copying:
    def __init__(self, tracer: Tree) -> None:
        self.tracer = tracer
        self.possible = os.environ.get("MOSIX_PRECOPY", "") != "off" and possible()
        self.brake: Brake[Program] = Brake(self._may_stop, self._interrupt, lambda p: tracer.stops.go_on(p))
        self.under_way: list[Program] = []
        self.marking: list[Program] = []

    def wanted(self, p: Program) -> bool:
        """Does memory go ahead of this program? Not if it stands still anyway (before its first instruction, in a control call)."""
        move = p.move
        if move is None or move.hurry or move.freezes is not None or not self.possible:
            return False
        if p.several and (move.link is None or move.link.frames < THREADS_AHEAD_SINCE):
            return False
        return not p.suspended and p.deputy is None and not p.halted

    def arm(self, p: Program, stop: Stop) -> None:
        """The program has stopped: follow its memory from here on, and let it go on."""
        move = p.move
        assert move is not None and move.link is not None
        rseq.leave(p.task)
        regs = p.task.peek_regs()
        original = copy_regs(regs)
        stay = user_regs(regs, stop)
        try:
            with Calls(p.task, base=original) as call:
                move.copy = Precopy.begin(
                    call, move.link.channel, near=move.link.near, pair=p.pid, said=p.process.said, names=lambda: p.process.names,
                    known=self.tracer.mapped.known(p), runs=understands(move.link.frames, Kind.RUNS), packs=move.link.packs,
                )  # fmt: skip
            move.copy.ahead = self.tracer.mapped.ahead(p, move)
            if p.several:
                move.copy.several, move.copy.threads = True, lambda: sorted(p.kin.threads)[:MOST_THREADS]
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):  # those are this program's own trouble
                self.possible = False
            self.tracer.mosd.log(f"pid={p.pid} memory is not sent ahead: {error.strerror}", 30)
            p.task.set_regs(original)
            move.after(Event.NOT_AHEAD, away=False)
            self._not_followed(p, stop, original, stay)
            return
        except TaskGone:
            raise
        except Exception as error:
            expected = isinstance(error, CannotMove | ChannelLost)
            self.tracer.departure.stand_again(p, original, stay)
            self.tracer.stops.go_on(p)
            self.tracer.moves.failed(p, move.link, str(error) if expected else self.tracer.moves.unforeseen(p, error))
            return
        move.after(Event.FOLLOWED, away=False)
        self.under_way.append(p)
        self.tracer.departure.stand_again(p, original, stay)
        self.tracer.stops.go_on(p)
        lib.mos_unfollow(self.tracer.pump)

    def _not_followed(self, p: Program, stop: Stop, original: Registers, stay: Registers) -> None:
        """It stands, and all of its memory goes with it. Other threads have to stand, too, so it is stopped anew with them."""
        if not p.several:
            self.tracer.departure.depart(p, stop)
            return
        self.tracer.departure.stand_again(p, original, stay)
        self.tracer.stops.go_on(p)
        self.tracer.departure.stop(p)

    def timeout(self) -> float | None:
        """Seconds until `step` has something to do; None for never."""
        if self.marking:
            return 0.0
        sending = [
            p.move.link.channel
            for p in self.under_way
            if p.move is not None and p.move.link is not None and p.move.copy is not None and p.move.copy.next is Next.SEND
        ]
        if not sending:
            return None
        return 0.0 if any(channel.takes_more() for channel in sending) else FULL

    def step(self) -> None:
        """Send some pieces for each program that is being copied."""
        marking, self.marking = self.marking, []
        for p in marking:
            with self.tracer.containment.of(p):
                self._mark(p)
        for p in list(self.under_way):
            move = p.move
            if move is None or move.copy is None or move.phase is not Phase.COPYING:
                self.under_way.remove(p)
                continue
            assert move.link is not None
            try:
                for _ in range(TURN):
                    if move.copy.next is not Next.SEND or not move.link.channel.takes_more():
                        break
                    fault(Point.HOME_COPYING, move.link.channel)
                    move.copy.step()
                move.copy.hold(time.monotonic())
                if move.copy.next is Next.STOP:
                    self.stop(p)
            except ChannelLost:
                self.tracer.hosts.link_lost(move.link)
            except TaskGone:
                continue  # its end is on the way
            except CannotMove as reason:
                self.tracer.moves.abandon(p, str(reason))
            except Exception as error:
                with self.tracer.containment.of(p):
                    self.tracer.moves.failed(p, move.link, self.tracer.moves.unforeseen(p, error))
        if self.under_way or self.brake:
            shares = ((p, self._share(p)) for p in self.under_way)
            self.brake.step(time.monotonic(), {p.pid: (p, share) for p, share in shares if share < 1})

    # ------------------------------------------------------------------ slowing it down

    @staticmethod
    def _share(p: Program) -> float:
        """Of the time that it may run, because it writes its memory faster than that is sent; 1 if it does not."""
        move = p.move
        return move.copy.share if move is not None and move.phase is Phase.COPYING and move.copy is not None else 1.0

    @staticmethod
    def _may_stop(p: Program) -> bool:
        return p.place is Place.HOME and not (p.suspended or p.halted or p.interrupted) and p.deputy is None

    @staticmethod
    def _interrupt(p: Program) -> None:
        p.interrupted = True
        p.task.interrupt()

    def round_done(self, p: Program) -> None:
        """ROUND came back: the receiver has everything that was sent."""
        move = p.move
        if move is None or move.copy is None or move.phase is not Phase.COPYING:
            return
        try:
            move.copy.caught_up()
        except CannotMove as reason:
            self.tracer.moves.abandon(p, str(reason))
            return
        except OSError as error:
            self.tracer.moves.failed(p, move.link, self.tracer.moves.unforeseen(p, error))
            return
        if move.copy.next is Next.STOP:
            self.stop(p)

    def stop(self, p: Program) -> None:
        """Enough was sent ahead: now the program has to stand still."""
        assert p.move is not None
        if p in self.under_way:
            self.under_way.remove(p)
        p.move.after(Event.ENOUGH, away=False)
        self.tracer.departure.stop(p)

    # ------------------------------------------------------------------ on the way home

    def comes_ahead(self, p: Program) -> bool:
        """May memory come into the deputy? Not while it may be in a call for long."""
        if not self.possible or p.several or p.death.signal is not None or p.frozen.mark:
            return False
        if p.move is not None and p.move.freezes is not None:
            return False
        return p.deputy is not None and p.deputy.state in (State.READY, State.PARKED)

    def early(self, p: Program, deputy: Deputy, payload: bytes) -> None:
        """EARLY: map as soon as the deputy stands where that can be done."""
        early = early_from(payload)

        if not early.pieces and early.vmas:
            if p.move is not None and p.move.rebuild is not None:
                p.move.rebuild.tell(early.vmas)
            return

        def make() -> None:
            if p.move is None or p.move.phase is not Phase.COPYING or p.move.target:
                return
            deputy.give_up()
            with Calls(p.task, base=deputy.base, mask=deputy.mask) as call:
                rebuild = p.move.rebuild or Rebuild(call, deputy=True, title=title_pages(*title_at(p.pid)))
                rebuild.resume(call)
                p.move.rebuild = None
                try:
                    rebuild.early(early)
                except (NoRoom, OSError):
                    rebuild.early(Early())
                    return
                p.move.rebuild = rebuild
            rebuild.leave()
            self.marking.append(p)

        if deputy.state is not State.BUSY:
            deputy.when_ready(make)
            self.tracer.deputies.watch(p)

    def _mark(self, p: Program) -> None:
        """Prepare memory that has come into the deputy, a part now and the rest between the events of the tree."""
        deputy, rebuild = p.deputy, p.move.rebuild if p.move is not None else None
        if deputy is None or rebuild is None or not rebuild.to_mark or deputy.state is State.BUSY:
            return

        def some() -> None:
            if p.move is None or p.move.rebuild is not rebuild or p.move.phase is not Phase.COPYING:
                return
            with Calls(p.task, base=deputy.base, mask=deputy.mask) as call:
                rebuild.resume(call)
                more = rebuild.mark()
            rebuild.leave()
            if more:
                self.marking.append(p)

        deputy.when_ready(some)
        self.tracer.deputies.watch(p)

    def pages(self, p: Program, frame: Frame) -> None:
        """PAGES or RUNS."""
        rebuild = p.move.rebuild if p.move is not None else None
        if p.move is None or rebuild is None:
            return
        try:
            rebuild.pages(frame)
        except (NoRoom, OSError):
            p.move.rebuild = None
            self.give_up_memory(p, rebuild)

    def round(self, p: Program, link: Link, deputy: Deputy) -> None:
        """ROUND: all of it is done, or (flag 1) nothing of it is kept."""

        self._mark(p)

        def answer() -> None:
            kept = p.move is not None and p.move.rebuild is not None
            link.channel.send(Kind.ROUND, p.pid, flags=0 if kept else 1)

        if deputy.todo and deputy.state is not State.BUSY:  # a call may take for ever, and what is left till then is not done
            deputy.when_ready(answer)
        else:
            answer()

    def give_up_memory(self, p: Program, rebuild: Rebuild) -> None:
        """The program does not come: the deputy shall be without its memory again."""
        deputy = p.deputy
        assert deputy is not None

        def clear() -> None:
            with Calls(p.task, base=deputy.base, mask=deputy.mask) as call:
                rebuild.resume(call)
                rebuild.early(Early())

        deputy.when_ready(clear)
        self.tracer.deputies.watch(p)

    def of_child(self, p: Program, q: Program) -> None:
        """The deputy of a child is a copy of its parent's, with all that has come into it."""
        if p.move is None or p.move.rebuild is None or q.deputy is None:
            return
        deputy, ranges = q.deputy, p.move.rebuild.apart

        def clear() -> None:
            with Calls(q.task, base=deputy.base, mask=deputy.mask) as call:
                for start, end in ranges:
                    call.must(SYS_MUNMAP, start, end - start)

        deputy.when_ready(clear)
        self.tracer.deputies.watch(q)

    def memory_gone(self, p: Program) -> None:
        """exec: what was sent belongs to a program that is no more."""
        move = p.move
        if move is not None:
            move.rebuild = None
        if move is None or move.copy is None:
            return
        copy, move.copy = move.copy, None
        try:
            copy.forget()
        except ChannelLost:
            pass  # the loop will see it
        copy.close()
        if move.phase is Phase.COPYING:
            self.stop(p)
