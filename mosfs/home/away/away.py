"""Serving programs that are away: frames from their hosts, events of their deputies.

Ordering: a deputy makes one call at a time. While its body moves between two nodes, answers are kept back (`Program.answer`)
and given to the host that has the body in the end.
"""

from __future__ import annotations

import errno
import os
import signal
import struct
import time
from typing import TYPE_CHECKING, Any

from mosfs.abi.args import as_c_int
from mosfs.abi.flags import MAP_FIXED, MAP_SHARED
from mosfs.abi.syscalls import BY_NR
from mosfs.abi.texts import SERVING_FAILED, Reason, Text, text
from mosfs.calls import cputime, cputimers, show
from mosfs.calls.cputime import Used
from mosfs.calls.request import NO_ARG, BadRequest, Blob, Request, pack_reply, signals_seen, unpack
from mosfs.home.process import control_calls, own_files
from mosfs.home.process.control_calls import PATH_ARG
from mosfs.home.process.deputy import FLIGHT_ROOM, FLIGHT_SCRATCH, PARK_AFTER, Deputy, State, deputy_of_child
from mosfs.home.process.descriptors import access_of
from mosfs.home.process.direct import Direct
from mosfs.home.process.program import Held, Link, Move, Phase, Place, Program
from mosfs.mbox.calls import CLOSING
from mosfs.migrate.capture import signed
from mosfs.migrate.image import BadImage
from mosfs.migrate.rebuild import queue_signal
from mosfs.native import ffi, lib
from mosfs.trace import layout
from mosfs.trace.inject import Calls
from mosfs.trace.stops import Status, Stop
from mosfs.trace.task import NOTHING, SIGINFO_SIZE, Task, TaskGone, copy_regs, status_sets
from mosfs.wire.channel import ChannelLost
from mosfs.wire.faults import Serving, fault
from mosfs.wire.frames import FORK_REPLY, Frame, Kind, understands
from mosfs.wire.orders import ExecOrder, ForkOrder, MmapOrder, OutOrder, PrivateOpen

if TYPE_CHECKING:
    from mosfs.home.tracer import Tracer

SYS_MMAP, SYS_MUNMAP, SYS_RT_SIGACTION, SYS_CLONE, SYS_EXECVEAT, SYS_EXIT_GROUP = 9, 11, 13, 56, 322, 231
#: sched_setaffinity, sched_getaffinity: they must find the program's CPUs, not the one where we hold it for a while.
AFFINITY = frozenset({203, 204})
CLONE_PIDFD = 0x1000
_CLONE_PASSED = 0xFF | CLONE_PIDFD  # of a fork's flags these concern the deputy: the signal sent at exit, a descriptor
CHUNK = 256 * 1024
#: A body waits in one call at a time; but what it blocks meanwhile, and the like, may wait for its deputy too.
MOST_WAITING = 1000
UNSUPPORTED, SERVING = 1, 1  # flags: of CALL, the host does not serve it by itself; of DIED, because its host failed to serve it


class Away:
    def __init__(self, tracer: Tracer) -> None:
        self.tracer = tracer
        self.direct = Direct()
        self._backlog: list[tuple[Link, Frame]] = []
        self._ready: dict[int, Program] = {}

    # ------------------------------------------------------------------ frames

    def channel_event(self, link: Link) -> None:
        try:
            for frame in link.channel.frames():
                self._frame(link, frame)
                while self._backlog:
                    self._frame(*self._backlog.pop(0))
        except ChannelLost as lost:
            if str(lost) == text(Text.COMPROMISED):
                self.tracer.log(f"{lost} ({link.ip})", 40)
            self.link_lost(link)

    def run_backlog(self) -> None:
        """Frames that came while an exec fetched private files."""
        while self._backlog:
            link, frame = self._backlog.pop(0)
            try:
                self._frame(link, frame)
            except ChannelLost:
                self.link_lost(link)

    def backlog(self, link: Link, frame: Frame) -> None:
        """A frame of another program that came within an image."""
        self._backlog.append((link, frame))

    def _frame(self, link: Link, frame: Frame) -> None:
        if frame.kind == Kind.PREPARED:
            self.tracer.moves.prepared(link)
            return
        if frame.kind == Kind.ASK_CLOCK:
            link.channel.send(Kind.CLOCK, frame.pair, self.tracer.moves.times(frame.content))
            return
        p = self.tracer.programs.get(frame.pair)
        if p is None:
            return
        try:
            self._dispatch(p, link, frame)
        except (BadRequest, BadImage) as error:
            self.tracer.log(f"pid={p.pid} malformed frame {frame.kind} from {link.ip}: {error}", 40)
            raise ChannelLost(str(error)) from error
        except Exception as error:
            self.tracer.containment.trouble(p, error)
            if link.channel.lost:
                raise ChannelLost("closed") from error

    def _dispatch(self, p: Program, link: Link, frame: Frame) -> None:
        kind = frame.kind
        deputy = p.deputy
        fault(Serving.HOME_FRAME, None, p.comm)
        if kind == Kind.READY:
            self.tracer.moves.ready(p, link)
        elif kind == Kind.RUNNING:
            self.tracer.moves.running(p, link)
        elif kind == Kind.FAIL:
            self.tracer.moves.failed(p, link, frame.content)
        elif kind == Kind.ROUND and p.move is not None and p.move.link is link:
            self.tracer.moves.copying.round_done(p)
        elif kind == Kind.DIED and p.link is not link and p.move is not None and p.move.link is link:
            self.tracer.moves.failed(p, link, Reason.INCOMPLETE)  # the new body, before it was the program
        elif p.link is not link or deputy is None:
            return
        elif len(deputy.todo) > MOST_WAITING:
            raise BadRequest("too many requests at once")
        elif kind == Kind.PRIVATE:
            self.tracer.private.carrier.feed(p, frame.payload)
        elif kind == Kind.PRIVATE_OPEN:
            deputy.when_ready(lambda: self._private_open(p, deputy, frame.content, frame.flags))
        elif kind == Kind.PRIVATE_FULL:
            p.seq = frame.flags >> 1
            self.tracer.private.carrier.full(p)
        elif kind == Kind.CALL:
            request = unpack(frame.payload)
            p.account.calls += 1
            p.account.sent += len(frame.payload)
            if self._made_directly(p, deputy, request, frame.flags):
                return
            if deputy.state is State.READY and not deputy.todo:
                self._call(p, deputy, request, frame.flags, signals_seen(frame.payload))
            else:
                seen = signals_seen(frame.payload)
                deputy.when_ready(lambda: self._call(p, deputy, request, frame.flags, seen))
        elif kind == Kind.FORK:
            deputy.when_ready(lambda: self._fork(p, deputy, frame.content))
        elif kind == Kind.EXEC:
            deputy.when_ready(lambda: self._exec(p, deputy, frame.content, frame.flags))
        elif kind == Kind.MMAP:
            deputy.when_ready(lambda: self._mmap(p, deputy, frame.content, frame.flags))
        elif kind == Kind.WANT:
            p.seq = frame.flags >> 1
            self.tracer.mapped.wanted(p, frame.payload)
        elif kind == Kind.IMAGE:
            if p.move is not None and p.move.phase is Phase.RECALL:
                self.tracer.moves.arrival.arriving(p, link, frame.payload)
        elif kind == Kind.EARLY:
            self.tracer.moves.copying.early(p, deputy, frame.payload)
        elif kind == Kind.PAGES:
            self.tracer.moves.copying.pages(p, frame.payload)
        elif kind == Kind.ROUND:
            self.tracer.moves.copying.round(p, link, deputy)
        elif kind == Kind.COPIED:
            self.tracer.moves.copied(p)
        elif kind == Kind.CANNOT:
            self.tracer.moves.cannot(p, frame.content)
        elif kind == Kind.DIED:
            failed = frame.flags == SERVING
            deputy.when_ready(lambda: self._die(p, deputy, frame.content, frame.payload, failed=failed))
        elif kind == Kind.MASK:
            deputy.when_ready(lambda: self._mask(p, deputy, frame.content))
        elif kind == Kind.RESET:
            deputy.when_ready(lambda: self._reset_handler(p, deputy, frame.content))
        elif kind == Kind.MAIL_SEEN:
            self.tracer.mails.seen(p, frame.content.filter_at, frame.content.last)
        elif kind == Kind.CPU_TIME:
            p.used = Used(*frame.content)
        elif kind == Kind.CPU_ALARM:
            self.tracer.cputimers.rang(p)
        elif kind == Kind.SHOWN:
            if frame.flags:
                self.tracer.relatives.told(p, link, frame.payload)
            else:
                p.shown = frame.payload
        elif kind == Kind.TITLE:
            own_files.retitle(p, frame.payload)
        elif kind == Kind.USED:
            self.tracer.statistics.used(p, frame.content)
        elif kind == Kind.STEP_OUT:
            self._step_out(p, link, frame.content)

    def _step_out(self, p: Program, link: Link, order: OutOrder) -> None:
        """The body's node wants it to leave, or thinks that it would be better off elsewhere."""

        def done(reason: str) -> None:
            if reason and p.link is link:
                self.send(p, Kind.STAYED, reason.encode())

        if order.needs:
            self.tracer.moves.escape(p, order.needs, link.ip, done)
        elif p.move is not None:
            done("another move is under way")
        elif order.why and p.settings.lock == 1:
            done("it is locked (mosrun -L)")
        else:
            self.tracer.moves.request(p, Move(order.target, order.target or "home", done=done, below=order.below, why=order.why))

    def send(self, p: Program, kind: int, payload: bytes, flags: int = 0) -> None:
        """A frame for the body's host; kept back while the body moves. The flags of a REPLY are the number of its call."""
        flags = p.seq << 1 if kind == Kind.REPLY else flags
        self.tracer.mapped.poll()
        p.account.received += len(payload)
        if p.answer is not None:
            p.answer.append((kind, payload, flags))
            return
        if p.link is None or not understands(p.link.frames, kind):
            return
        try:
            p.link.channel.send(kind, p.pid, payload, flags)
        except ChannelLost:
            self.link_lost(p.link)

    def release_answers(self, p: Program) -> None:
        kept, p.answer = p.answer or [], None
        self.tracer.mapped.catch_up(p)
        try:
            for kind, payload, flags in kept:
                if p.link is not None and understands(p.link.frames, kind):
                    p.link.channel.send(kind, p.pid, payload, flags)
        except ChannelLost:
            self.link_lost(p.link)

    # ------------------------------------------------------------------ what a body asks for

    def _call(self, p: Program, deputy: Deputy, request: Request, flags: int, seen: int) -> None:
        p.seq = flags >> 1
        self.tracer.traces.entered(p, request.nr, request.args, request.memory)
        if flags & UNSUPPORTED:
            deputy.set_mask(request.mask)
            row = BY_NR.get(request.nr)
            if self.tracer.policy.away(p, row, request.nr, request.args, lambda r: self._answer(p, r)):
                return
        elif request.nr in PATH_ARG and (self._control(p, request) or self._show(p, deputy, request)):
            return
        if request.nr in AFFINITY:
            lib.mos_unpin(self.tracer.pump)
        if request.nr in CLOSING and self.tracer.mails.closing_away(p, deputy, request):
            return
        if request.nr in cputime.WAITS:
            lib.mos_reap()
        if cputimers.concerns(request.nr, request.args):
            self.tracer.cputimers.before(p, deputy, request)
        # a signal is on its way to the body, which entered the call without knowing of it: the call must not block
        self.make(p, deputy, request, hasten=seen != p.signals & 0xFFFFFFFF and request.nr != SYS_EXIT_GROUP)

    def make(self, p: Program, deputy: Deputy, request: Request, *, hasten: bool = False) -> None:
        """The deputy makes a call for the body."""
        try:
            deputy.start(request, hasten=hasten)
        except OSError as error:  # its memory for the call cannot be had
            if deputy.state is not State.READY:
                raise
            self._answer(p, -(error.errno or errno.ENOMEM))
            deputy.ready_since = time.monotonic()
            self._ready[p.pid] = p
        if deputy.flight is not None:
            self.tracer.waits.takes_off(p, deputy.flight)

    def _made_directly(self, p: Program, deputy: Deputy, request: Request, flags: int) -> bool:
        """A call that needs no deputy, which may rest meanwhile, but for the signal mask that came with it."""
        idle = deputy.state in (State.READY, State.PARKED) and not deputy.todo and not deputy.interrupting
        if not idle or request.mask != deputy.mask or flags & UNSUPPORTED or p.sleeping is not None:
            return False
        made = self.direct.call(p, request)
        if made is None:
            return False
        p.seq = flags >> 1
        self.tracer.traces.entered(p, request.nr, request.args, request.memory)
        result, outs = made
        self.tracer.traces.returned(p, result, "home")
        self.send(p, Kind.REPLY, pack_reply(result, outs))
        deputy.ready_since = time.monotonic()
        return True

    def _answer(self, p: Program, result: int) -> None:
        self.tracer.traces.returned(p, result, "MOSIX")
        self.send(p, Kind.REPLY, pack_reply(result, []))

    def _control(self, p: Program, request: Request) -> bool:
        """An open that may be a request to us; True if it was answered (or will be)."""
        blob = request.argument(PATH_ARG[request.nr])
        path = b"" if blob is None else bytes(blob.data or b"").partition(b"\0")[0]
        if blob is None or not control_calls.perhaps_ours(path):
            return False
        how = request.argument(2) if request.nr == control_calls.SYS_OPENAT2 else None
        opened = control_calls.opening(request.nr, request.args, path, bytes(how.data or b"") if how is not None else b"")
        meaning = control_calls.recognise(opened, p.pid, self.tracer.mount, p.directory)
        if isinstance(meaning, control_calls.Redirect):
            blob.data = meaning.path + b"\0"
            blob.size = len(blob.data)
            return False
        if meaning is None:
            return False
        if isinstance(meaning, control_calls.Letters):
            self.tracer.mails.opened_away(p, meaning, request.mask)
            return True

        def read_name(at: int) -> bytes:
            found = next((b for b in request.blobs if b.addr == at and b.arg == NO_ARG), None)
            if found is None or not found.data:
                raise OSError(errno.EFAULT, "the host could not read the name")
            return bytes(found.data).partition(b"\0")[0]

        self.tracer.controls.request(p, meaning, read_name, lambda result: self.tracer.opens.finish(p, result))
        return True

    def _show(self, p: Program, deputy: Deputy, request: Request) -> bool:
        """An open of a file in /proc about the program's memory, whose text the host has sent (SHOWN), or about another program.
        True if it was answered, or will be."""
        body, p.shown = p.shown, None
        path = next((bytes(blob.data or b"")[:-1] for blob in request.blobs if blob.arg in (0, 1)), b"")
        name = own_files.wanted(p.pid, path, request.nr, request.args) if body is not None else ""
        if not name or body is None:
            return self.tracer.relatives.opened_away(p, deputy, request, path)
        deputy.set_mask(request.mask)
        text = own_files.away_text(p, name, body)
        with Calls(p.task, base=deputy.base, mask=deputy.mask) as call:
            result = own_files.opened(call, name, request.nr, request.args, text)
        self.answered(p, deputy, result)
        return True

    def answered(self, p: Program, deputy: Deputy, result: int) -> None:
        """A call that was answered with ``result`` instead of being made."""
        deputy.ready_since = time.monotonic()
        self._ready[p.pid] = p
        self._answer(p, result)

    def _fork(self, p: Program, deputy: Deputy, order: ForkOrder) -> None:
        wants = bool(order.flags & CLONE_PIDFD)
        request = Request(SYS_CLONE, (order.flags & _CLONE_PASSED, 0, 0, 0, 0, 0), order.mask)
        if wants:
            request.blobs.append(Blob(0, 4, None, 2))

        def forked(result: int) -> None:
            made = deputy.born or min(result, -1)
            pidfd = struct.unpack("<i", p.task.read(FLIGHT_SCRATCH, 4))[0] if wants and made > 0 else -1
            self.send(p, Kind.FORK_REPLY, FORK_REPLY.pack(made, pidfd, *self.tracer.cputimers.newborn(made)))

        self.tracer.traces.entered(p, SYS_CLONE, (order.flags, 0, 0, 0, 0, 0), request.memory)
        deputy.born = 0
        deputy.start(request, forked)

    def _mask(self, p: Program, deputy: Deputy, mask: int) -> None:
        """The body has blocked signals: until its next call this is all that tells the deputy."""
        deputy.set_mask(mask)
        self._ready[p.pid] = p

    def _forked(self, p: Program, deputy: Deputy) -> None:
        """The deputy's child: it will be the deputy of the body's child, which is about to be made on the same node."""
        child = deputy.born = p.task.event_message()
        q = self.tracer.adopt(Task(child), p.settings, parent=p)
        q.place = Place.AWAY
        q.link = p.link
        q.files = {number: Held(held.generation, held.wanted, held.sent) for number, held in p.files.items()}
        newborn = q.deputy = deputy_of_child(deputy, q.task)
        self.tracer.moves.copying.of_child(p, q)
        if q.link is not None:
            q.link.programs.add(child)
        if closing := self.tracer.mails.inherited(p, q):
            newborn.todo.append(
                lambda: self.tracer.mails.disinherit(q.task, closing, base=newborn.base, mask=newborn.mask)
            )
        self.tracer.private.forked(p, q, thread=False)
        if q.inherited:
            newborn.todo.append(lambda: self.tracer.private.born_away(q, newborn))
        p.task.cont()
        self.tracer.announce(q)
        self.tracer.meet(q)

    def _exec(self, p: Program, deputy: Deputy, order: ExecOrder, flags: int) -> None:
        """Lay out path, argv and envp in the deputy and let it exec; success is PTRACE_EVENT_EXEC."""
        p.seq = flags >> 1
        if p.trace is not None:
            p.called = order.nr, show.program(order.nr, order.path, order.argv)
        data = bytearray()
        pointers: list[tuple[int, int]] = []  # (offset of a pointer, offset it points to)

        def string(value: bytes) -> int:
            at = len(data)
            data.extend(value + b"\0")
            return at

        def vector(values: list[bytes]) -> int:
            strings = [string(v) for v in values]
            data.extend(bytes(-len(data) % 8))
            at = len(data)
            pointers.extend((at + 8 * i, s) for i, s in enumerate(strings))
            data.extend(bytes(8 * (len(values) + 1)))
            return at

        places = [
            None if order.path is None else string(order.path),
            None if order.argv is None else vector(order.argv),
            None if order.envp is None else vector(order.envp),
        ]
        base, big = FLIGHT_SCRATCH, None
        if len(data) > FLIGHT_ROOM:
            size = (len(data) + 4095) & ~4095
            with Calls(p.task, base=deputy.base, mask=deputy.mask) as call:
                base = call.map(0, size)
            big = (base, size)
        for at, target in pointers:
            data[at : at + 8] = (base + target).to_bytes(8, "little")
        p.task.write(base, data)
        path, argv, envp = (0 if place is None else base + place for place in places)
        if order.fault:
            argv = layout.PAGE  # unmapped: EFAULT, as the program's own pointers would give
        args = (path, argv, envp, 0, 0, 0)
        if order.nr == SYS_EXECVEAT:
            args = (order.dirfd, path, argv, envp, order.flags, 0)
        self.tracer.cputimers.synced(p, deputy)
        deputy.start(Request(order.nr, args, order.mask))
        assert deputy.flight is not None
        deputy.flight.big = big

    def _mmap(self, p: Program, deputy: Deputy, order: MmapOrder, flags: int) -> None:
        """Map the file here, and send what it shows: the kernel's own checks decide what may be mapped."""
        p.seq = flags >> 1
        deputy.set_mask(order.mask)
        given = (order.at if order.flags & MAP_FIXED else 0, order.length, order.prot, order.flags, order.fd, order.offset)
        self.tracer.traces.entered(p, SYS_MMAP, given, lambda _: None)
        device = False
        with Calls(p.task, base=deputy.base, mask=deputy.mask) as call:
            result, file = self.tracer.mapped.map(p, deputy, call, order)
            if not -4096 < result < 0:
                if not (device := p.has_device(as_c_int(order.fd))):
                    shared = bool(order.flags & MAP_SHARED) and access_of(p.pid, as_c_int(order.fd)) == os.O_RDONLY
                    self.send(p, Kind.MMAP_NAME, file.to_bytes(4, "little") + own_files.name_of(p.pid, order.fd), int(shared))
                if not file:
                    if not device:
                        self._send_file(p, result, order.length)
                    call(SYS_MUNMAP, result, order.length)
                result = 0
        deputy.ready_since = time.monotonic()
        self._ready[p.pid] = p
        if device:
            self.tracer.policy.refuse_device(p, lambda error: self._answer(p, error))
        else:
            self.tracer.traces.returned(p, result or order.at, "both")  # the body has reserved that place, and maps there
            self._answer(p, result)

    def _send_file(self, p: Program, at: int, length: int) -> None:
        buffer = bytearray(CHUNK)
        zero = bytearray(CHUNK // layout.PAGE)
        for offset in range(0, length, CHUNK):
            size = min(CHUNK, length - offset)
            view = memoryview(buffer)[:size]
            got = p.task.read_into(at + offset, view)
            if got:
                whole = got // layout.PAGE * layout.PAGE
                if got != whole or lib.mos_zero_runs(ffi.from_buffer(view), whole, ffi.from_buffer(zero)) * 4096 != whole:
                    self.send(p, Kind.MMAP_DATA, struct.pack("<Q", offset) + bytes(view[:got]))
            if got < size:
                return  # past the end of the file

    def _private_open(self, p: Program, deputy: Deputy, order: PrivateOpen, flags: int) -> None:
        p.seq = flags >> 1
        result = self.tracer.private.carrier.stand_in(p, deputy, order)
        deputy.ready_since = time.monotonic()
        self._ready[p.pid] = p
        self._answer(p, result)

    def _reset_handler(self, p: Program, deputy: Deputy, sig: int) -> None:
        with Calls(p.task, base=deputy.base, mask=deputy.mask) as call:
            p.task.write(layout.SCRATCH, bytes(32))
            call(SYS_RT_SIGACTION, sig, layout.SCRATCH, 0, 8)
        self._ready[p.pid] = p

    def _die(self, p: Program, deputy: Deputy, status: int, info: bytes, *, failed: bool) -> None:
        """The body is to die of a signal of its own making: the program dies of it at home. ``info``: its siginfo."""
        sig = status & 0x7F or signal.SIGKILL
        if len(info) == SIGINFO_SIZE and self.tracer.cores.wanted(p, sig):
            self.tracer.cores.fault(p, deputy, info)
        elif sig != signal.SIGKILL:
            self.tracer.cores.let_die(p, deputy, sig)
            os.kill(p.pid, sig)
            deputy.park()
        else:
            where = p.link.ip if p.link is not None else "?"
            self.tracer.log(f"pid={p.pid} its body was killed on {where}", 30)
            try:
                if failed:
                    self.tracer.policy.say(p, SERVING_FAILED.format(computer=where))
            finally:
                self.tracer.containment.kill(p)

    # ------------------------------------------------------------------ what happens to a deputy

    def deputy_event(self, p: Program, deputy: Deputy, status: Status) -> None:
        stop = status.stop
        if stop is Stop.SECCOMP:
            regs = p.task.peek_regs()
            if regs.orig_rax != layout.MAGIC:
                p.task.cont()  # cannot happen: the stub's calls are allowed
            elif deputy.state is State.BUSY:
                self._landed(p, deputy, signed(regs.rdi))
            else:
                self._became_ready(p, deputy)
        elif stop is Stop.SIGNAL:
            self._signal(p, deputy, status.value)
        elif stop is Stop.TRAP:
            self._trap(p, deputy)
        elif stop is Stop.GROUP:
            p.halted = True
            p.task.listen()
            self.send(p, Kind.STOP, b"")
        elif stop in (Stop.FORK, Stop.VFORK, Stop.CLONE):
            self._forked(p, deputy)
        elif stop is Stop.EXEC:
            p.deputy = None
            self.tracer.exec_done(p)
        elif stop is not Stop.SYSCALL or not deputy.hastened():
            p.task.cont()

    def _trap(self, p: Program, deputy: Deputy) -> None:
        if deputy.state is State.BUSY and not p.halted and deputy.hastened():
            return
        if p.halted:
            p.halted = False
            self.send(p, Kind.CONT, b"")
            if deputy.state is State.PARKED and deputy.todo:
                self._became_ready(p, deputy)
            else:
                p.task.cont()
        elif deputy.interrupting and deputy.state is State.PARKED:
            self._became_ready(p, deputy)
        elif deputy.interrupting and p.sleeping is not None and p.move is not None and p.move.phase is Phase.STOPPING:
            self.tracer.moves.departure.stopped_sleeping(p, deputy)
        else:
            deputy.interrupting = False
            p.task.cont()

    def _became_ready(self, p: Program, deputy: Deputy) -> None:
        deputy.became_ready()
        if deputy.state is State.READY:
            self._ready[p.pid] = p

    def _landed(self, p: Program, deputy: Deputy, result: int) -> None:
        """The deputy's call has returned."""
        if deputy.flight is None:  # a newborn deputy reaches the end of its parent's clone
            self._became_ready(p, deputy)
            return
        whole = deputy.whole(result)
        if whole is None:
            return
        assert deputy.flight is not None
        result = self.tracer.waits.landed(deputy.flight, whole)
        flight, outs = deputy.finish(result)
        self.tracer.traces.returned(p, result, "home")
        outs = self.tracer.cputime.outs(p, flight.request, result, outs)
        if cputimers.concerns(flight.request.nr, flight.request.args):
            self.tracer.cputimers.made(p, deputy, flight.request.nr, flight.request.args)
        deputy.state = State.READY
        deputy.interrupting = False
        if p.sleeping is not None:
            self._woke(p, deputy, result, outs)
            return
        self.tracer.mails.changed(p, flight.request.nr)
        if flight.done is not None:
            flight.done(result)
        else:
            self.send(p, Kind.REPLY, pack_reply(result, outs))
        deputy.ready_since = time.monotonic()
        if deputy.todo:
            deputy.became_ready()
        if deputy.state is State.READY:
            self._ready[p.pid] = p

    def _woke(self, p: Program, deputy: Deputy, result: int, outs: list[tuple[int, bytes]]) -> None:
        """A sleep that began away ends at home."""
        regs = copy_regs(p.sleeping)
        p.sleeping, p.deputy = None, None
        for addr, data in outs:
            p.task.write(addr, data)
        if p.infos:
            with Calls(p.task, base=deputy.base, mask=deputy.mask) as call:
                for info in p.infos:
                    queue_signal(call, info, shared=True)
            p.infos.clear()
            result = -4 if result in (-516, -514) else result
        regs.rip += 2
        regs.rax = result & NOTHING
        regs.rcx, regs.r11, regs.orig_rax = regs.rip, regs.eflags, NOTHING
        p.task.set_regs(regs)
        p.task.cont()

    def _signal(self, p: Program, deputy: Deputy, sig: int) -> None:
        """A signal for the program. Handlers run in the body; every other action is taken here, by the kernel."""
        regs = p.task.peek_regs()
        if not status_sets(p.pid)["SigCgt"] >> (sig - 1) & 1:
            cores = self.tracer.cores
            if cores.wanted(p, sig) and cores.by_default(p.pid, sig):
                cores.come_home(p, p.task.peek_siginfo())
                self._broken_off(p, deputy, regs)
                return
            if self.tracer.waits.spare(p, regs, sig) and deputy.flight is not None:
                deputy.flight.spared = True
            p.task.cont(sig)
            return
        info = p.task.peek_siginfo()
        if p.sleeping is not None:
            p.infos.append(info)
        else:
            p.signals += 1
            self.send(p, Kind.SIGNAL, info)
        self._broken_off(p, deputy, regs)

    def _broken_off(self, p: Program, deputy: Deputy, regs: Any) -> None:
        """A signal that is not the kernel's to act on here has ended whatever the deputy did."""
        if deputy.state is State.BUSY:
            # without a restart the interrupted call's result falls through to the end of the stub
            regs.orig_rax = NOTHING
            p.task.set_regs(regs)
            if regs.rip != layout.STUB or not deputy.hasten():
                p.task.cont()
        else:
            self._became_ready(p, deputy)

    # ------------------------------------------------------------------ parking, clocks, losses

    def next_park(self) -> float | None:
        return min(
            (p.deputy.ready_since + PARK_AFTER for p in self._ready.values() if p.deputy is not None), default=None
        )

    def park_idle(self, now: float) -> None:
        for p in list(self._ready.values()):
            deputy = p.deputy
            if deputy is None or deputy.state is not State.READY or p.pid not in self.tracer.programs:
                self._ready.pop(p.pid, None)
            elif deputy.ready_since + PARK_AFTER <= now:
                self._ready.pop(p.pid, None)
                with self.tracer.containment.of(p):
                    deputy.park()

    def watch(self, p: Program) -> None:
        """A deputy has become READY outside an event of its own."""
        self._ready[p.pid] = p

    def send_clocks(self) -> None:
        times = b""
        for link in list(self.tracer.moves.channels.values()):
            pair = next(iter(link.programs), 0)
            try:
                times = self.tracer.moves.times()
                link.channel.send(Kind.CLOCK, pair, times)
            except ChannelLost:
                self.link_lost(link)

    def link_lost(self, link: Link | None) -> None:
        """A data channel broke: moves over it fail, programs whose bodies were behind it are dead."""
        if link is None or id(link) not in self.tracer.moves.channels:
            return
        self.tracer.moves.close(link)
        for pid in list(link.programs):
            p = self.tracer.programs.get(pid)
            if p is None:
                continue
            with self.tracer.containment.of(p):
                if p.link is link and p.away:
                    self._lost(p, link)
                elif p.move is not None and p.move.link is link:
                    self.tracer.moves.failed(p, link, Reason.INCOMPLETE)

    def _lost(self, p: Program, link: Link) -> None:
        """The manual: "Unfortunately this means that the program had to be killed"."""
        message = text(Text.LOST, computer=link.ip)
        if p.move is not None and p.move.link not in (None, link):
            message = text(Text.KILLED_MIGRATING, computer1=link.ip, computer2=p.move.link.ip)
        self.tracer.log(f"pid={p.pid} {message}", 30)
        deputy = p.deputy
        try:
            if deputy is not None:
                self.last_words(p, deputy, message)
        finally:
            self.tracer.containment.kill(p)

    def last_words(self, p: Program, deputy: Deputy, message: str) -> None:
        """Stop the deputy for a last line on the program's standard error."""
        if deputy.state is not State.READY:
            if not deputy.interrupting:
                p.task.interrupt()
            while True:
                status = self.tracer.controls.wait_for(p)
                if status & 0x7F == 0x7F:
                    break
                raise TaskGone(p.pid, status)
            deputy.state = State.READY
        self.tracer.policy.say(p, message)
