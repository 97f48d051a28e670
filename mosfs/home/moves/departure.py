"""Leaving home: a program is interrupted, captured, sent, and becomes its own deputy.

The steps are those of `moves`; until `Departure.commit` the program is whole here and can go on (`stay`).
"""

from __future__ import annotations

import errno
import struct
import time

from mosfs.abi import cpu
from mosfs.abi.flags import FUTEX_COMMAND, FUTEX_WAIT
from mosfs.abi.numbers import SYS_FUTEX, SYS_RESTART_SYSCALL
from mosfs.abi.reasons import Reason
from mosfs.abi.syscalls import BY_NR
from mosfs.abi.syscalls import Away as AwayRule
from mosfs.calls.marshal import marshal
from mosfs.calls.request import Request
from mosfs.home.moves.threads import forget, woken
from mosfs.home.ports import Tree
from mosfs.home.process.control_calls import PATH_ARG
from mosfs.home.process.deputy import Deputy, Sleep, is_sleep
from mosfs.home.process.link import Link
from mosfs.home.process.move import Event, Move, Phase, Step, Stood
from mosfs.home.process.program import Place, Program
from mosfs.home.process.registers import arguments, futex_again, goes_on, in_call, is_futex
from mosfs.home.process.remains import Remains, slices
from mosfs.migrate import image, rseq
from mosfs.migrate.capture import capture, mappings_of, signed, title_at, user_regs
from mosfs.migrate.image import ImageMeta, Timer, Vma
from mosfs.migrate.maps import CannotMove
from mosfs.migrate.pages import send_all
from mosfs.migrate.precopy import Precopy
from mosfs.migrate.ranges import merge
from mosfs.migrate.rebuild import kept_at_home
from mosfs.migrate.suits import stack_too_small, state_lacking
from mosfs.native import lib
from mosfs.native.registers import Registers
from mosfs.trace import clock as clocks
from mosfs.trace.idle import idle, same_sleep
from mosfs.trace.inject import Calls
from mosfs.trace.proc import status_sets
from mosfs.trace.stops import Stop
from mosfs.trace.task import TaskGone, behind, copy_regs
from mosfs.wire.channel import ChannelLost, one_image
from mosfs.wire.faults import Point, fault
from mosfs.wire.frames import THREADS_SINCE, Kind, understands


class Departure:
    def __init__(self, tracer: Tree) -> None:
        self.tracer = tracer

    def stop(self, p: Program) -> None:
        assert p.move is not None
        if p.travel.bound:
            self.tracer.moves.abandon(p, p.travel.bound)
            return
        if obstacle := self.tracer.threads.obstacle(p):
            self.tracer.moves.abandon(p, obstacle)
            return
        if p.obstacle():
            self._later(p, p.obstacle())
            return
        if p.suspended and p.move.freezes is not None:
            self._later(p, Reason.IN_CONTROL_CALL)
        elif p.suspended and not self.tracer.threads.stand(p, p.move):
            self._later(p, Reason.THREADS_RUN)
        elif p.suspended:
            p.move.after(Event.STANDS, away=False)
            self.depart(p, Stop.SECCOMP if signed(p.task.peek_regs().orig_rax) >= 0 else Stop.OTHER)  # in a trap, or not
        elif p.deputy is not None:  # a sleep that began away is being finished at home
            p.move.after(Event.NOT_AHEAD, away=False)
            p.deputy.interrupt()
        elif not p.halted:
            p.call.idle = idle(p.pid)
            p.interrupted = True
            p.task.interrupt()
            if p.kin.threads:
                self.tracer.moves.asked(p)
        else:
            self.tracer.moves.abandon(p, Reason.STOPPED)

    def _later(self, p: Program, reason: str) -> None:
        """It cannot be stopped now: try again, or give up if it was tried long enough."""
        if not self.tracer.moves.retry_later(p):
            self.tracer.moves.abandon(p, reason)

    def stopped(self, p: Program, stop: Stop) -> bool:
        """A program at home has stopped; True if a move took it over."""
        self.note_sleep(p, p.task.peek_regs())
        if p.move is None or p.place is not Place.HOME:
            return False
        step = p.move.after(Event.STOPPED, away=False)
        if step is Step.NOTHING:
            return False
        if p.obstacle() or self.deliverable(p):
            self._later(p, Reason.SIGNALS)  # what one that is about to be delivered does to a broken call is the kernel's doing
            return False
        if lacking := self._unsuited(p):
            self._later(p, lacking)  # it may be in use for a moment only
            return False
        if step is Step.FOLLOW:
            self.tracer.copying.arm(p, stop)
            return True
        if not self.tracer.threads.stand(p, p.move):
            if self.tracer.programs.get(p.pid) is not p or p.place is not Place.HOME:
                return True
            return self._replaced_or_later(p)
        self.depart(p, stop)
        return True

    def _replaced_or_later(self, p: Program) -> bool:
        """Its threads do not stand: try again later. True if it does not go on from where it has stopped (`Threads.replaced`)."""
        replaced = self.tracer.threads.replaced(p)
        if p.move is not None and self.tracer.programs.get(p.pid) is p:
            self._later(p, Reason.THREADS_RUN if p.kin.threads else Reason.SIGNALS)
        return replaced

    def halted(self, p: Program) -> None:
        """A signal has stopped a program at home before we could: it may stay so for ever."""
        if p.move is not None and p.place is Place.HOME and p.move.phase in (Phase.ARMING, Phase.STOPPING):
            self.tracer.moves.abandon(p, Reason.STOPPED)

    def _unsuited(self, p: Program) -> str:
        """Why the target cannot hold the state of the processor that the program uses just now; "" if it can."""
        link = p.move.link if p.move is not None else None
        lacking = state_lacking(p.task, self.tracer.features, link.features) if link is not None else []
        return cpu.lacks(lacking, link.ip) if link is not None and lacking else ""

    def deliverable(self, p: Program) -> bool:
        sets = status_sets(p.pid)
        return bool((sets["SigPnd"] | sets["ShdPnd"]) & ~sets["SigBlk"])

    def stand_again(self, p: Program, stopped: Registers, regs: Registers) -> None:
        """Put a program back where we have stopped it: ``stopped`` are its registers of then, ``regs`` stand before an instruction.

        A signal that came meanwhile meets the call that our stop broke off, not the instruction before it."""
        if in_call(stopped):
            p.task.stand(goes_on(stopped))
        else:
            p.task.set_regs(regs)

    def depart(self, p: Program, stop: Stop) -> None:
        """Capture a stopped program at home and send it. On failure it goes on here."""
        move = p.move
        assert move is not None and move.link is not None
        move.frozen_at = move.frozen_at if move.standing else time.monotonic()
        rseq.leave(p.task)
        regs = p.task.peek_regs()
        original = copy_regs(regs)
        self.note_sleep(p, regs)
        again = self._futex_again(p, original, stop)
        stay = user_regs(regs, stop) if again is None else again
        sleep = p.call.sleep if stop is not Stop.SECCOMP and again is None else None
        move.waiting = p.suspended and stop is Stop.SECCOMP  # inside its own control call: the answer comes from us
        move.stood = Stood(stay, original)
        try:
            if obstacle := p.travel.bound or self._unsuited(p):  # bound since it was asked to stop
                raise CannotMove(obstacle)
            self._prepare(p, move)
            vmas = mappings_of(p.pid, p.process.said, p.process.names, move.copy, self.tracer.mapped.known(p))
            with Calls(p.task, base=original) as call:
                meta = self._capture(p, call, stay, vmas)
            # from here on it would go on by itself, should this process die
            p.task.set_regs(behind(stay, -errno.ENOSYS) if move.waiting else stay)
            move.stood.inside = self.inside(p, original, stay, stop, meta.mask) if again is None else None
            meta.waiting = move.waiting or move.stood.inside is not None
            meta.carry = p.call.carry
            meta.waiting_state, meta.needs = list(p.demand.waiting.items()), sorted(p.demand.needs)
            p.call.watched = False
            meta.threads, meta.until = self.tracer.threads.capture(p, move), self.tracer.threads.until(p, stay)
            self.tracer.cputime.leaves(p, meta)
            self._send(p, move, meta)
        except TaskGone:
            raise
        except CannotMove as reason:
            self.stay(p, stay, str(reason))
        except ChannelLost:
            self.stay(p, stay, Reason.INCOMPLETE)
        except Exception as error:
            self.stay(p, stay, self.tracer.moves.unforeseen(p, error))
        else:
            move.stood.sleep = sleep
            self._sent(p, move)

    def _sent(self, p: Program, move: Move) -> None:
        """The image is on its way, and GO goes right behind it: waiting for READY would cost the program a round trip."""
        assert move.link is not None
        p.place = Place.LEAVING
        self.tracer.mosd.announce(p)
        try:
            if move.together is not None:
                move.after(Event.MEMBER_SENT, away=False)
            elif move.after(Event.IMAGE_SENT, away=False) is Step.GO:
                self.tracer.moves.let_run(p, move.link)
        except ChannelLost:
            self.tracer.hosts.link_lost(move.link)

    def _futex_again(self, p: Program, regs: Registers, stop: Stop) -> Registers | None:
        """Registers before the wait for other threads that our stop has broken off; None for anything else."""
        if not p.several or stop is not Stop.TRAP:
            return None
        return futex_again(regs, p.call.sleep.number if p.call.sleep is not None else -1)

    def _prepare(self, p: Program, move: Move) -> None:
        """It is to be captured. CannotMove, if it has several threads and they cannot do that."""
        if not p.several:
            lib.mos_pin(self.tracer.pump, p.pid)  # it is about to make many calls for us
            return
        if move.freezes is not None:
            if p.process.shares:
                raise CannotMove(Reason.MEMORY_SHARED)
            return
        if move.link is None or move.link.frames < THREADS_SINCE:
            raise CannotMove(f"{Reason.THREADS}, and the MOSIX of that node is too old for them")
        if move.copy is not None and not move.copy.several:
            self.tracer.copying.memory_gone(p)  # it has made the first one while its memory was sent

    def inside(self, p: Program, regs: Registers, stay: Registers, stop: Stop, mask: int) -> Request | None:
        """The call that our stop has broken off, for the deputy: a signal that comes before the body makes it again must find it.

        Transfers that are cut short, and calls that are not simply forwarded, are made again by the body."""
        nr = signed(regs.orig_rax)
        if stop is not Stop.TRAP or not in_call(regs):
            return None
        if is_sleep(signed(regs.rax)) or nr == SYS_RESTART_SYSCALL:
            return Request(SYS_RESTART_SYSCALL, (0,) * 6, mask)
        row = BY_NR.get(nr)
        if row is None or row.away is not AwayRule.FORWARD or nr in PATH_ARG or p.call.carry or p.post.mail or p.private:
            return None
        return marshal(row, arguments(stay), mask, p.task)

    def stopped_sleeping(self, p: Program, deputy: Deputy) -> None:
        """The same of a program whose sleep began away. One that a signal has just ended is seen to its end first."""
        deputy.interrupting = False
        assert p.move is not None
        if not (p.body.infos or woken(p)) and self.tracer.threads.stand(p, p.move):
            self.depart_sleeping(p, deputy)
            return
        if not self._replaced_or_later(p):
            p.task.cont()

    def depart_sleeping(self, p: Program, deputy: Deputy) -> None:
        """Capture a program at home whose sleep began away and goes on in the stub: it leaves inside that call again."""
        move, sleeping = p.move, p.body.sleeping
        assert move is not None and move.link is not None and sleeping is not None
        move.frozen_at = move.frozen_at if move.standing else time.monotonic()
        try:
            self._prepare(p, move)
            vmas = mappings_of(p.pid, p.process.said, p.process.names, move.copy, self.tracer.mapped.known(p))
            with Calls(p.task, base=deputy.base, mask=deputy.mask) as call:
                meta = self._capture(p, call, sleeping, vmas)
            move.stood.inside = None
            meta.waiting, meta.until = not is_futex(sleeping), self.tracer.threads.until(p, sleeping)
            meta.waiting_state, meta.needs = list(p.demand.waiting.items()), sorted(p.demand.needs)
            meta.threads = self.tracer.threads.capture(p, move)
            self.tracer.cputime.leaves(p, meta)
            self._send(p, move, meta)
        except TaskGone:
            raise
        except CannotMove as reason:
            self.stay(p, sleeping, str(reason))
        except ChannelLost:
            self.stay(p, sleeping, Reason.INCOMPLETE)
        except Exception as error:
            self.stay(p, sleeping, self.tracer.moves.unforeseen(p, error))
        else:
            move.stood = Stood(sleeping)
            self._sent(p, move)

    def _capture(self, p: Program, call: Calls, regs: Registers, vmas: list[Vma]) -> ImageMeta:
        self.tracer.shared.leaves(p, call, vmas)
        shown = clocks.last_shown(p.process.clock_page, self.tracer.clock.ticks()) if p.process.clock_page else clocks.Shown(0, 0)
        meta = capture(
            call, regs, vmas, pid=p.pid, uid=p.uid, features=p.demand.seen, home=self.tracer.mosd.config.ip,
            shown=Timer(shown.realtime, shown.monotonic), pending=False, said=p.process.said,
        )  # fmt: skip
        link = p.move.link if p.move is not None else None
        if link is not None and link.features and (small := stack_too_small(meta, self.tracer.features, link.features)):
            raise CannotMove(small)
        meta.all_actions, meta.outlives = True, p.settings.outlive == 1
        meta.births, meta.shares = p.process.several, p.process.shares
        if p.move is not None:
            p.move.mapped = [(vma.start, vma.end) for vma in vmas]
        meta.seq = p.body.forwarded = p.body.seq  # what it waits for will be answered with this number
        meta.private = self.tracer.carrier.manifest(p)
        return meta

    def _send(self, p: Program, move: Move, meta: ImageMeta) -> None:
        link = move.link
        assert link is not None
        with one_image(link.channel, others=self.tracer.groups.others_wait(p)):
            self.tracer.carrier.send_rest(p, link)
            self.tracer.mapped.rest(p, move, link, meta.vmas)
            self.tracer.shared.announce(p, link, meta.vmas, contents=move.together is None)
            fault(Point.HOME_BEFORE_IMAGE, link.channel)
            link.channel.send(Kind.IMAGE, p.pid, move.copy.head(meta) if move.copy is not None else image.encode(meta))
            lib.mos_unfollow(self.tracer.pump)
            if move.freezes is not None:
                self.tracer.freezing.begin(p, meta.vmas)
                return
            fault(Point.HOME_IN_IMAGE, link.channel)
            frames = self._pages(p, link, move.copy, meta.vmas)
            fault(Point.HOME_BEFORE_END, link.channel)
            link.channel.send(Kind.IMAGE_END, p.pid, frames.to_bytes(8, "little"))
            fault(Point.HOME_AFTER_IMAGE, link.channel)

    def _pages(self, p: Program, link: Link, copy: Precopy | None, vmas: list[Vma]) -> int:
        """Send the memory, or what is left of it after `copying`; the number of frames with pages in all."""
        if copy is None:
            runs = understands(link.frames, Kind.RUNS)
            return send_all(p.task, link.channel, p.pid, vmas, near=link.near, runs=runs, packs=link.packs)
        copy.rest(vmas)
        return copy.sender.frames

    def note_sleep(self, p: Program, regs: Registers) -> None:
        """At a stop at home: is the program in a sleep that goes on by restart_syscall(2)? Then note what that needs of its memory.

        The restart block points there, and the sleep's arguments are seen only when it is interrupted for the first time.
        """
        nr = signed(regs.orig_rax)
        if nr < 0 or not is_sleep(signed(regs.rax)):
            p.call.sleep = None
        elif nr != SYS_RESTART_SYSCALL:
            addr, size = {
                7: (regs.rdi, 8 * (regs.rsi & 0xFFFFFFFF)),
                35: (regs.rsi, 16),
                230: (regs.r10, 16),
                202: (regs.rdi, 4),
            }.get(nr, (0, 0))
            kept = addr and size
            pages = [(addr & ~4095, (addr + size + 4095) & ~4095)] if kept else []
            outs = [(addr, size)] if kept and nr != SYS_FUTEX else []  # which writes nothing
            p.call.sleep = Sleep(pages, outs, nr, _futex_until(p, regs) if nr == SYS_FUTEX else 0)

    def stay(self, p: Program, regs: Registers, reason: str) -> None:
        """The departure failed before the commit point: go on at home."""
        move = p.move
        assert move is not None
        p.place = Place.HOME
        self.tracer.withheld.stays(p, move)
        self.tracer.threads.stay(p, move)
        if move.link is not None:
            self.tracer.hosts.drop(p, move.link)
        if p.body.sleeping is not None and p.deputy is not None:
            p.deputy.resume_sleep()
        elif not p.suspended:
            self.stand_again(p, move.stood.stopped, regs)
            self.tracer.stops.go_on(p)
        else:  # in its own control call: behind it; or before its first instruction
            p.task.set_regs(behind(regs, 0) if move.waiting else regs)
        self.tracer.moves.finish(p, reason)

    def commit(self, p: Program, link: Link, move: Move) -> None:
        """RUNNING: the body has begun. What is left here becomes the deputy."""
        p.body.signals = 0  # as in the image
        p.link, p.place, p.suspended = link, Place.AWAY, False
        p.body.kept_back = None
        sleeping = p.body.sleeping
        asleep = p.deputy if sleeping is not None and not is_futex(sleeping) else None  # a futex is waited for there
        deputy = asleep or Deputy(p.task, p.task.peek_mask())
        if move.stood.sleep is not None:
            deputy.sleep = move.stood.sleep
        p.body.files = move.files
        if move.together is None:
            self.tracer.shared.gone(self.tracer.shared.of(p))
        files = self.tracer.mapped.in_deputy(p)
        others = self.tracer.threads.prepare(p, move)
        pages = [page for one in (deputy, *others) for page in one.sleep.pages]
        keep = [*kept_at_home(*title_at(p.pid)), *pages, *((m.start, m.end) for m in files)]
        if p.several:
            self.tracer.threads.room_of_leader(deputy)
        with Calls(p.task, base=deputy.base, mask=deputy.mask) as call:
            rseq.unregister(call, p.task.peek_rseq())
            if p.several:
                forget(call)
            self.tracer.cputimers.left(p, call)
            self.tracer.mapped.deny_access(call, files, pages)
        copy, move.copy = move.copy, None
        deputy.remains = Remains(slices(move.mapped, merge(keep)), copy.close if copy is not None else None)
        rests = not p.several and move.freezes is None and asleep is None and move.stood.inside is None
        deputy.give_up(1 if rests else None)
        self.tracer.carrier.left(p)
        p.deputy = deputy
        self.tracer.outliving.left(p, inside=move.waiting or move.stood.inside is not None or asleep is not None)
        p.body.sleeping = p.call.carry = None
        self.tracer.mapped.catch_up(p)
        self.tracer.threads.commit(p, link, move, others)
        if move.freezes is not None:
            self.tracer.freezing.left(p, deputy, move.stood, asleep=asleep is not None)
        elif asleep is not None:
            deputy.resume_sleep()
        else:
            deputy.became_ready()
            self.tracer.deputies.watch(p)
            if move.stood.inside is not None:
                self.tracer.requests.make(p, deputy, move.stood.inside)
        self.tracer.moves.finish(p, "")


def _futex_until(p: Program, regs: Registers) -> int:
    """When a wait on a futex that says how long ends, CLOCK_MONOTONIC in ns; 0 for one that says when."""
    if not p.several or regs.rsi & FUTEX_COMMAND != FUTEX_WAIT:
        return 0
    try:
        seconds, ns = struct.unpack("<2q", p.task.read(regs.r10, 16))
    except OSError:
        return 0
    began = p.call.idle.since if p.call.idle is not None and same_sleep(p.pid, p.call.idle) else time.monotonic()
    return int(min(int(began * 1e9) + seconds * 10**9 + ns, (1 << 63) - 1))
