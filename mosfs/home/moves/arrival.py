"""Coming home: the host sends the image, the deputy becomes the program again.

The deputy may be in the middle of the body's call: what the call has come to (`outcome`) is settled with the registers of the
image (`_finish_call`), so that no call is lost and none is made twice.
"""

from __future__ import annotations

import errno
import time
from contextlib import suppress
from dataclasses import dataclass, field

from mosfs.abi.reasons import Reason
from mosfs.abi.texts import Text, text
from mosfs.calls import partial
from mosfs.calls.partial import Carry
from mosfs.calls.request import pack_reply, unpack_reply
from mosfs.calls.stored import store
from mosfs.home.moves.threads import ComingThread, signals_back
from mosfs.home.ports import NoPrivateSpace, StillRuns, Tree
from mosfs.home.process.deputy import Deputy, Outcome, Outcomes, State, interrupted, is_sleep
from mosfs.home.process.link import Link
from mosfs.home.process.move import Filled
from mosfs.home.process.program import Place, Program
from mosfs.home.process.registers import arguments, broken_off, result_at
from mosfs.migrate import futexes, image, rseq
from mosfs.migrate.capture import signed
from mosfs.migrate.image import BadImage, ImageMeta, Thread
from mosfs.migrate.maps import CannotMove
from mosfs.migrate.properties import Property, Said
from mosfs.migrate.ranges import merge
from mosfs.migrate.rebuild import NoRoom, Rebuild, clear, limits_raised, queue_noted, queue_signal, take_back, take_pending
from mosfs.migrate.receipt import Receipt, TooSlow
from mosfs.migrate.shown import named
from mosfs.native import lib
from mosfs.native.registers import Registers
from mosfs.trace import clock as clocks
from mosfs.trace import layout
from mosfs.trace.inject import Calls
from mosfs.trace.proc import status_sets
from mosfs.trace.stops import Stop, decode
from mosfs.trace.task import NOTHING, TaskGone, behind, regs_from
from mosfs.wire.channel import ChannelLost
from mosfs.wire.faults import Freezing, Point, Sharing, fault
from mosfs.wire.frames import Kind, flags_for, pack_numbers


@dataclass(slots=True)
class Coming:
    """How far a program on its way home has come. ``outcome`` and ``infos``: as `Arrival.outcome` gives them."""

    meta: ImageMeta
    receipt: Receipt
    outcome: Outcome | None = None
    infos: list[bytes] = field(default_factory=list)
    rebuild: Rebuild | None = None
    newer: list[tuple[bool, bytes]] = field(default_factory=list)  # signals taken from the deputy, to be queued behind older ones
    queued: list[tuple[bool, bytes]] = field(default_factory=list)  # in the deputy's kernel, those of the image among them
    expired: bool = False  # a timer of CPU time has, meanwhile
    complete: bool = False  # nothing more of the image will come
    others: Outcomes = field(default_factory=dict)  # of other threads, by ID
    threads: list[ComingThread] = field(default_factory=list)  # those, as far as they have been built
    frames: int = 0  # with pages, as its host has counted them


class Arrival:
    def __init__(self, tracer: Tree) -> None:
        self.tracer = tracer

    def recall(self, p: Program) -> None:
        assert p.move is not None and p.link is not None
        p.move.frozen_at = time.monotonic()
        p.body.kept_back = p.body.kept_back if p.body.kept_back is not None else []
        self.tracer.threads.recalled(p)
        if p.frozen.mark:
            self.tracer.freezing.recalled(p)
        try:
            p.move.stood.brings = frozenset(self.tracer.groups.objects(p) if self.tracer.groups.last(p) else ())
            flags = flags_for(p.link.frames, Kind.RECALL, p.saves.recall_flags(p.move))
            p.link.channel.send(Kind.RECALL, p.pid, pack_numbers(p.move.stood.brings), flags)
        except ChannelLost:
            self.tracer.hosts.link_lost(p.link)

    def arriving(self, p: Program, link: Link, head: bytes) -> None:
        """IMAGE of a program that comes home: receive it to the end, and make the deputy the program again."""
        deputy = p.deputy
        assert deputy is not None and p.move is not None
        coming = Coming(image.decode(head), Receipt(link.channel, others=self.tracer.groups.others_wait(p)))
        coming.receipt.expect(coming.meta.vmas, self.tracer.shared.store.size(self.tracer.groups.objects(p)))
        self.halt(p, deputy)
        self.tracer.threads.halt(p)
        lib.mos_unfollow(self.tracer.pump)
        lib.mos_pin(self.tracer.pump, p.pid)
        try:
            self.tracer.threads.outcomes(p, coming.others)
        except StillRuns as reason:
            self._pass_over(p, link, coming)
            self.goes_on_there(p, link, coming.others, str(reason))
            return
        coming.outcome, coming.infos = coming.others.pop(p.pid)
        joined = self.tracer.groups.joins(p)
        together = p.move.together
        try:
            if not joined:
                raise BadImage("others who share its memory are elsewhere")
            with Calls(p.task, base=deputy.base, mask=deputy.mask) as call, limits_raised(call):
                self._fill(p, link, call, coming)
                regs = self._build(p, call, coming) if together is None else None
            if together is not None:
                fault(Sharing.HOME_MEMBER_CAME, link.channel, p.comm)
        except (TaskGone, ChannelLost):
            raise
        except Exception as error:
            self._roll_back(p, link, deputy, coming, error)
            return
        if regs is None:
            self.tracer.groups.filled(p, Filled(link, deputy, coming))
        else:
            self._arrived(p, link, deputy, coming, regs)

    def settle(self, p: Program, filled: Filled) -> None:
        """One that has come home with others goes on there."""
        deputy, coming = filled.deputy, filled.coming
        with Calls(p.task, base=deputy.base, mask=deputy.mask) as call, limits_raised(call):
            coming.rebuild.resume(call)
            regs = self._build(p, call, coming)
        self._arrived(p, filled.link, deputy, coming, regs)

    def send_back(self, p: Program, filled: Filled, reason: str) -> None:
        """One that has come, and others cannot: its body goes on where it is."""
        filled.coming.rebuild.close()
        self.tracer.carrier.sent_back(p)
        self._send_back(p, filled.link, filled.deputy, reason, filled.coming)

    def _arrived(self, p: Program, link: Link, deputy: Deputy, coming: Coming, regs: Registers) -> None:
        p.body.infos.clear()
        assert coming.rebuild is not None
        signalled = bool(coming.infos or coming.meta.pending) or coming.expired or bool(p.death.signal)
        p.demand.waiting = coming.rebuild.waiting_state
        self._came_home(p, link, deputy, coming.meta, regs, coming.outcome, signalled, coming.rebuild.owed)
        for one in coming.threads:
            with self.tracer.containment.of(one.q):
                self._thread_home(one)
        self.tracer.moves.finish(p, "")
        self.tracer.mosd.announce(p)

    def _fill(self, p: Program, link: Link, call: Calls, coming: Coming) -> None:
        """The program's memory in its deputy. Whatever is raised, `_roll_back` can undo it; so it can what this has done."""
        meta, deputy = coming.meta, p.deputy
        assert p.move is not None and deputy is not None
        rebuild, p.move.rebuild = p.move.rebuild or Rebuild(call), None
        coming.rebuild = rebuild
        rebuild.resume(call)
        rebuild.know(meta)
        rebuild.files = files = self.tracer.mapped.coming(p, meta.vmas)
        clear(call, merge([(layout.STUB, layout.END), *rebuild.ahead, *files.stand]))
        deputy.remains.forget()
        self.tracer.carrier.arrive(call, p, meta.private, _inflight(meta, coming.outcome))
        rebuild.map(meta)
        coming.frames = self._receive(p, link, rebuild, coming)
        fault(Freezing.READ if p.frozen.mark else Point.HOME_BEFORE_RETURN, link.channel, p.comm, p.pid)

    def _build(self, p: Program, call: Calls, coming: Coming) -> Registers:
        """All but its memory: the registers to go on with. Whatever is raised, `_roll_back` can undo it."""
        meta, rebuild = coming.meta, coming.rebuild
        assert rebuild is not None
        self.tracer.requests.heed(p, call)
        older = [*coming.infos, *p.body.infos]
        coming.newer = take_pending(call, {int.from_bytes(i[:4], "little") for i in [*(i for _, i in meta.pending), *older]})
        regs = rebuild.finish(coming.frames, home=True)
        coming.queued += meta.pending
        queue_noted(call, [*((not p.several, info) for info in older), *coming.newer], coming.queued)
        self.tracer.threads.build(coming, self.tracer.threads.matched(p, meta.threads))
        coming.expired = bool(self.tracer.cputimers.came_home(p, call, meta))
        self.tracer.withheld.give_back(p, call)
        return regs

    def _roll_back(self, p: Program, link: Link, deputy: Deputy, coming: Coming, error: Exception) -> None:
        """It could not be built at home: the body goes on where it is."""
        if isinstance(error, NoPrivateSpace):
            self.tracer.policy.say(p, text(Text.NO_PRIVATE_SPACE))
        expected = isinstance(error, NoRoom | BadImage)
        reason = f"{Reason.INCOMPLETE} ({error})" if expected else self.tracer.moves.unforeseen(p, error)
        if coming.rebuild is not None:
            coming.rebuild.close()
        self.tracer.carrier.sent_back(p)
        self._send_back(p, link, deputy, reason, coming)

    def _came_home(
        self, p: Program, link: Link, deputy: Deputy, meta: ImageMeta, regs: Registers, outcome: Outcome | None, signalled: bool,
        owed: list[Property],
    ) -> None:
        seen = clocks.Shown(meta.shown.realtime, meta.shown.monotonic)
        page = self.tracer.clock.arrived(seen)
        p.task.poke(layout.CLOCK_PAGE, page)
        p.process.clock_page = page
        p.place, p.link, p.body.kept_back, p.frozen.mark = Place.HOME, None, None, ""
        self.tracer.carrier.arrived(p)
        try:
            if not p.frozen.mark:
                fault(Point.HOME_RETURN_COMMITTED, link.channel)
        except ChannelLost:
            pass  # the program is whole here: the host is not needed any more
        p.kin.lends = link if meta.lent and p.move is not None and p.move.escapes else None
        if p.kin.lends is None:
            self.tracer.hosts.drop(p, link)
        self.tracer.outliving.home(p)
        p.deputy = p.call.reading = None
        if meta.mail is not None:
            self.tracer.mails.seen(p, *meta.mail)
        p.call.carry = Carry(*meta.carry) if meta.carry is not None else None
        p.process.names, p.process.said = named(meta.vmas), Said.arrived(meta, owed)
        p.body.files = {}
        partial.restore(p.task, regs, p.call.carry)
        self._go_on(p, deputy, meta, regs, outcome, signalled)

    def _go_on(
        self, p: Program, deputy: Deputy, of: ImageMeta | Thread, regs: Registers, outcome: Outcome | None, signalled: bool,
    ) -> None:
        """The program, or the thread, goes on at home where it was."""
        if of.waiting:
            self._finish_call(p, deputy, regs, outcome, signalled)
        elif of.until:
            self.tracer.threads.wait_until(p, deputy, regs, of.until)
        else:
            futexes.put(p.task, regs) if p.several else p.task.set_regs(regs)
            self.tracer.stops.go_on(p)

    def _thread_home(self, one: ComingThread) -> None:
        """Another thread of a process that has come home."""
        q, thread = one.q, one.thread
        assert one.regs is not None
        q.place, q.link, q.body.kept_back, q.body.files, q.frozen.mark = Place.HOME, None, None, {}, ""
        q.deputy = q.call.reading = None
        q.body.infos.clear()
        q.call.carry = partial.taken_up(q.task, one.regs, thread.carry)
        self._go_on(q, one.deputy, thread, one.regs, one.outcome, one.signalled)

    def _finish_call(self, p: Program, deputy: Deputy, regs: Registers, outcome: Outcome | None, signalled: bool) -> None:
        """The program came home inside a forwarded call."""
        if outcome is None:
            if p.suspended:  # its own migration request: `Move.done` answers it
                p.task.set_regs(behind(regs, 0))
                return
            p.task.set_regs(regs)  # the call is made again, here
            self.tracer.stops.go_on(p)
            return
        nr, result, outs, flight = outcome
        nr = signed(regs.rax) if nr < 0 else nr
        if not store(p.task, nr, regs, outs) and not interrupted(result):
            result = -errno.EFAULT
        if is_sleep(result) and not signalled and (flight is None or flight.big is None):
            # the restart block points into scratch: the sleep is finished in the stub, then its outcome is carried over
            deputy.flight = flight
            p.deputy = deputy
            p.body.sleeping = regs
            deputy.resume_sleep()
            return
        ended = result == -errno.EINTR
        over = self.tracer.waits.comes_home(p, deputy, flight) if ended and flight is not None else None
        if over is not None:
            p.task.set_regs(self._carried(p, regs, over))
        elif interrupted(result) or (ended and (flight is not None or signalled)):
            # what remains of a transfer is made again (a signal ends it: `Transfers`); so is a sleep without its restart block, or
            # whose restart block points into memory that the deputy had mapped for it: there is the program's now
            if p.call.carry is not None or (is_sleep(result) and not self.tracer.departure.deliverable(p)):
                p.task.set_regs(regs)
            else:  # a signal that only the call's own temporary mask lets in will meet it when it is made again
                p.task.stand(broken_off(regs, nr, result))
        elif (partial.cut_short(p.task, nr, regs, result) and not signalled) or partial.limited(p.task, nr, regs, result):
            rest, p.call.carry = partial.remainder(p.task, nr, regs, result, p.call.carry)
            if flight is not None:
                self.tracer.waits.comes_home_cut(p, deputy, flight, rest)
            p.task.set_regs(rest)
        else:
            p.task.set_regs(self._carried(p, regs, result))
        self.tracer.stops.go_on(p)

    def _carried(self, p: Program, regs: Registers, result: int) -> Registers:
        """Registers behind the call in ``regs``, with the sum of all its parts if it was cut short."""
        after = behind(regs, result)
        if p.call.carry is not None:
            self.tracer.transfers.end(p, signed(regs.rax), after)
        return after

    def _receive(self, p: Program, link: Link, rebuild: Rebuild, coming: Coming) -> int:
        """Pages up to IMAGE_END; frames of other programs on this channel wait."""
        brought: set[int] = set()
        while True:
            frame = coming.receipt.next()
            if frame.pair != p.pid:
                self.tracer.hosts.backlog(link, coming.receipt.beside(frame))
            elif frame.kind in (Kind.PAGES, Kind.RUNS):
                rebuild.pages(frame)
            elif frame.kind == Kind.FILE:
                assert p.move is not None
                brought.add(self.tracer.shared.take(p.move.stood.brings, frame.payload))
            elif frame.kind == Kind.IMAGE_END:
                coming.complete = True
                if p.move is not None and p.move.stood.brings - brought:
                    raise BadImage("shared memory whose contents have not come")
                return int(frame.content)
            elif frame.kind == Kind.CANNOT:
                coming.complete = True  # nothing of it follows
                raise CannotMove(frame.content.reason)
            else:
                raise BadImage(f"frame {frame.kind} within an image")

    def _send_back(self, p: Program, link: Link, deputy: Deputy, reason: str, coming: Coming) -> None:
        """The deputy is a deputy again, the rest of the image is passed over, and the body goes on."""
        self.tracer.threads.unbuild(p)
        with Calls(p.task, base=deputy.base, mask=deputy.mask) as call:
            rseq.unregister(call, p.task.peek_rseq())
            files = self.tracer.mapped.in_deputy(p)
            clear(call, merge([(layout.STUB, layout.END), *((m.start, m.end) for m in files)]))
            self.tracer.mapped.deny_access(call, files, deputy.sleep.pages)
            for shared, info in [*((not p.several, info) for info in p.body.infos), *coming.newer, *take_back(call, coming.queued)]:
                queue_signal(call, info, shared=shared)
            p.body.infos.clear()
        signals_back(coming.threads)
        self._pass_over(p, link, coming)
        self.tracer.shared.gone(self.tracer.groups.objects(p))
        self.goes_on_there(p, link, {p.pid: (coming.outcome, coming.infos), **coming.others}, reason)

    def _pass_over(self, p: Program, link: Link, coming: Coming) -> None:
        """What is left of an image that is not wanted. If it comes too slowly it will come in vain: nobody takes such frames."""
        with suppress(TooSlow):
            while not coming.complete:
                frame = coming.receipt.next()
                if frame.pair != p.pid:
                    self.tracer.hosts.backlog(link, coming.receipt.beside(frame))
                coming.complete = frame.pair == p.pid and frame.kind in (Kind.IMAGE_END, Kind.CANNOT)

    def goes_on_there(self, p: Program, link: Link, outcomes: Outcomes, reason: str) -> None:
        """Its body does, where it is. Those of its deputies that have stopped, of which `outcome` says these, make its calls again;
        the others go on with theirs."""
        link.channel.send(Kind.RESUME, p.pid)
        self.tracer.hosts.release_answers(p)
        for q in (p, *self.tracer.threads.of(p)):
            if q.deputy is not None and q.pid in outcomes:
                self._deputy_again(q, link, q.deputy, *outcomes[q.pid])
        self.tracer.moves.finish(p, reason)

    def _deputy_again(self, p: Program, link: Link, deputy: Deputy, outcome: Outcome | None, infos: list[bytes]) -> None:
        """It makes its body's calls again, of which one may have been halted."""
        for info in infos:
            link.channel.send(Kind.SIGNAL, p.pid, info)
        if p.frozen.mark:
            p.frozen.call = outcome
        elif outcome is not None:
            _nr, result, outs, deputy.flight = outcome
            if deputy.flight is not None and (interrupted(result) or (result == -errno.EINTR and not infos)):
                if result == -errno.EINTR:
                    self.tracer.waits.goes_on(p, deputy)
                deputy.resume_sleep() if is_sleep(result) else deputy.rerun()
            else:
                deputy.flight = None
                self.tracer.hosts.send(p, Kind.REPLY, pack_reply(result, outs))
        if deputy.flight is None:
            deputy.became_ready()
            self.tracer.deputies.watch(p)

    def halt(self, p: Program, deputy: Deputy) -> None:
        """Stop the deputy wherever it is."""
        if deputy.state in (State.PARKED, State.BUSY):
            p.task.interrupt()
            deputy.interrupting = True

    def outcome(self, p: Program, deputy: Deputy) -> tuple[Outcome | None, list[bytes]]:
        """(what a call in flight has come to, or None; signals for handlers that came meanwhile). Whatever stop comes before that
        which `halt` has asked for may take its place. `StillRuns`: it goes on as if nobody had asked."""
        infos: list[bytes] = []
        if deputy.state is State.READY:
            return _held_outcome(p, infos)
        busy = deputy.state is State.BUSY
        nr, result = deputy.flight.request.nr if deputy.flight is not None else -1, 0
        while True:
            raw = self.tracer.controls.wait_for(p)
            status = decode(raw)
            if status.stop in (Stop.EXITED, Stop.KILLED):
                raise TaskGone(p.pid, raw)
            regs = p.task.peek_regs()
            if status.stop is Stop.SECCOMP and regs.orig_rax == layout.MAGIC:
                result = signed(regs.rdi)
                break
            if status.stop in (Stop.TRAP, Stop.GROUP):
                result = result_at(regs, nr)
                if status.stop is Stop.GROUP:
                    p.body.infos.append(_stop_info(status.value))
                break
            if status.stop is Stop.SIGNAL:
                if status_sets(p.pid)["SigCgt"] >> (status.value - 1) & 1:
                    infos.append(p.task.peek_siginfo())
                    p.body.signals += 1
                    result = result_at(regs, nr)
                    regs.orig_rax = NOTHING
                    p.task.set_regs(regs)
                    break
                self.tracer.waits.suppress_eintr(p, regs, status.value)
            p.task.interrupt()
            p.task.cont(status.value if status.stop is Stop.SIGNAL else 0)
        deputy.state = State.READY
        deputy.interrupting = False
        if not busy or deputy.flight is None:
            return _held_outcome(p, infos)
        flight = deputy.flight
        result = deputy.completed(flight, result)
        if flight.carry is not None:
            result = partial.total(p.task, flight.request.nr, result, flight.carry)
        outs = self.tracer.cputime.outs(p, flight.request, result, deputy.brought(flight, result))
        deputy.flight = None
        kept = p.body.kept_back or []
        early = [payload for kind, payload, _ in kept if kind == Kind.SIGNAL]
        p.body.kept_back = [frame for frame in kept if frame[0] != Kind.SIGNAL]
        return Outcome(flight.request.nr, result, outs, flight), [*early, *infos]


def _held_outcome(p: Program, infos: list[bytes]) -> tuple[Outcome | None, list[bytes]]:
    """What was kept back since the host was asked for the image: the answer to the body's call, signals for its handlers."""
    outcome, p.frozen.call = p.frozen.call, None
    kept_back, p.body.kept_back = p.body.kept_back or [], None
    early = []
    for kind, payload, _seq in kept_back:
        if kind == Kind.SIGNAL:
            early.append(payload)
        elif kind == Kind.REPLY:
            result, _flags, outs = unpack_reply(payload)
            outcome = Outcome(-1, result, outs, None)
    return outcome, [*early, *infos]


def _inflight(meta: ImageMeta, outcome: Outcome | None) -> tuple[int, tuple[int, ...], int] | None:
    """(number, arguments, result) of the call that the body waited in, if it has been made."""
    if not meta.waiting or outcome is None:
        return None
    regs = regs_from(meta.regs)
    return signed(regs.rax), arguments(regs), outcome.result


def _stop_info(sig: int) -> bytes:
    """A siginfo as the kernel makes it for a terminal's stop key."""
    return int(sig).to_bytes(4, "little") + bytes(4) + (0x80).to_bytes(4, "little") + bytes(116)
