"""What bodies ask of home: calls that their deputies make, opens that mean us, mappings of files, and the like."""

from __future__ import annotations

import errno
import os
import signal
import struct
import time

from mosfs.abi.args import as_c_int
from mosfs.abi.flags import MAP_FIXED, MAP_SHARED
from mosfs.abi.numbers import SYS_EXIT_GROUP, SYS_MMAP, SYS_MUNMAP, SYS_OPENAT2
from mosfs.abi.signals import SIGINFO_SIZE
from mosfs.abi.syscalls import BY_NR
from mosfs.abi.texts import SERVING_FAILED
from mosfs.calls import cputime, cputimers
from mosfs.calls.request import NO_ARG, Request, pack_reply, signals_seen, unpack
from mosfs.home.ports import Tree
from mosfs.home.process import control_calls, own_files
from mosfs.home.process.control_calls import PATH_ARG
from mosfs.home.process.deputy import Deputy, State
from mosfs.home.process.descriptors import is_regular
from mosfs.home.process.direct import Direct
from mosfs.home.process.processor import AFFINITY
from mosfs.home.process.program import Program
from mosfs.mbox.calls import CLOSING
from mosfs.native import ffi, lib
from mosfs.trace import layout
from mosfs.trace.inject import Calls
from mosfs.wire.frames import Frame, Kind
from mosfs.wire.orders import MmapOrder, PrivateOpen

#: Bytes of a mapped file that are looked at, at a time.
CHUNK = 256 * 1024
#: Seconds within which a deputy stops that rests, or is about to make another.
BLOCKS_WITHIN = 0.1
UNSUPPORTED = 1  # flag of CALL: the host does not serve it by itself


class Requests:
    def __init__(self, tracer: Tree) -> None:
        self.tracer = tracer
        self.direct = Direct()

    def called(self, p: Program, deputy: Deputy, frame: Frame) -> None:
        """CALL: the body waits in a call."""
        request = unpack(frame.payload)
        p.reports.account.calls += 1
        p.reports.account.sent += len(frame.payload)
        if self._made_directly(p, deputy, request, frame.flags):
            return
        seen = signals_seen(frame.payload)
        if deputy.state is State.READY and not deputy.waiting:
            self._call(p, deputy, request, frame.flags, seen)
        else:
            deputy.when_ready(lambda: self._call(p, deputy, request, frame.flags, seen), asked=True)

    def _call(self, p: Program, deputy: Deputy, request: Request, flags: int, seen: int) -> None:
        p.body.seq = flags >> 1
        self.tracer.traces.entered(p, request.nr, request.args, request.memory)
        if flags & UNSUPPORTED:
            deputy.set_mask(request.mask)
            row = BY_NR.get(request.nr)
            if self.tracer.policy.away(p, row, request.nr, request.args, lambda r: self.answer(p, r)):
                return
        elif self.tracer.withheld.concerns(p, request):
            deputy.set_mask(request.mask)
            self.tracer.policy.come_home(p, lambda r: self.answer(p, r), returns=True)
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
        self.make(p, deputy, request, hasten=seen != p.body.signals & 0xFFFFFFFF and request.nr != SYS_EXIT_GROUP)

    def make(self, p: Program, deputy: Deputy, request: Request, *, hasten: bool = False) -> None:
        """The deputy makes a call for the body. Most have ended before anything else need be looked at."""
        alone = not deputy.waiting and p.post.mail is None and p.move is None and p.body.sleeping is None
        result = None
        try:
            result = deputy.start(request, hasten=hasten, pump=self.tracer.pump if alone else None)
        except OSError as error:  # its memory for the call cannot be had
            if deputy.state is not State.READY:
                raise
            self.answer(p, -(error.errno or errno.ENOMEM))
            deputy.ready_since = time.monotonic()
            self.tracer.deputies.watch(p)
        if deputy.flight is not None:
            self.tracer.waits.takes_off(p, deputy.flight)
        if result is not None:
            self.tracer.deputies.landed(p, deputy, result)

    def _made_directly(self, p: Program, deputy: Deputy, request: Request, flags: int) -> bool:
        """A call that needs no deputy, which may rest meanwhile, but for the signal mask that came with it."""
        idle = deputy.state in (State.READY, State.PARKED) and not deputy.waiting and not deputy.interrupting
        if not idle or request.mask != deputy.mask or flags & UNSUPPORTED or p.body.sleeping is not None:
            return False
        if p.process.shares and self.tracer.withheld.concerns(p, request):
            return False
        made = self.direct.call(p, request)
        if made is None:
            return False
        p.body.seq = flags >> 1
        self.tracer.traces.entered(p, request.nr, request.args, request.memory)
        result, outs = made
        self.tracer.traces.returned(p, result, "home")
        self.tracer.hosts.send(p, Kind.REPLY, pack_reply(result, outs))
        deputy.ready_since = time.monotonic()
        return True

    def answer(self, p: Program, result: int) -> None:
        self.tracer.traces.returned(p, result, "MOSIX")
        self.tracer.hosts.send(p, Kind.REPLY, pack_reply(result, []))

    def answered(self, p: Program, deputy: Deputy, result: int) -> None:
        """A call that was answered with ``result`` instead of being made."""
        deputy.ready_since = time.monotonic()
        self.tracer.deputies.watch(p)
        self.answer(p, result)

    def _control(self, p: Program, request: Request) -> bool:
        """An open that may be a request to us; True if it was answered (or will be)."""
        blob = request.argument(PATH_ARG[request.nr])
        path = b"" if blob is None else bytes(blob.data or b"").partition(b"\0")[0]
        if blob is None or not control_calls.perhaps_ours(path):
            return False
        how = request.argument(2) if request.nr == SYS_OPENAT2 else None
        opened = control_calls.opening(request.nr, request.args, path, bytes(how.data or b"") if how is not None else b"")
        meaning = control_calls.recognise(opened, p.pid, self.tracer.mount, p.directory)
        if meaning is not None:
            self.tracer.mosd.announce(p, at_once=True)  # it may be mosd that answers
        if isinstance(meaning, control_calls.Redirect):
            blob.data = meaning.path + b"\0"
            blob.size = len(blob.data)
            return False
        if meaning is None:
            return False
        if isinstance(meaning, control_calls.Letters):
            self.tracer.mail_opens.away(p, meaning, request.mask)
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
        body, p.body.shown = p.body.shown, None
        path = next((bytes(blob.data or b"")[:-1] for blob in request.blobs if blob.arg in (0, 1)), b"")
        name = own_files.wanted(p.pid, path, request.nr, request.args) if body is not None else ""
        if not name or body is None:
            return self.tracer.relatives.opened_away(p, deputy, request, path)
        deputy.set_mask(request.mask)
        own_files.release(self.tracer.pump, name)
        text = own_files.away_text(p, name, body)
        with Calls(p.task, base=deputy.base, mask=deputy.mask) as call:
            result = own_files.opened(call, name, request.nr, request.args, text)
        self.answered(p, deputy, result)
        return True

    def mask(self, p: Program, deputy: Deputy, mask: int) -> None:
        """The body has blocked signals: until its next call this is all that tells the deputy. What comes behind it may be of
        another thread that knows of it and sends such a signal. So a deputy that rests, or has just been born, is waited for."""
        rests = deputy.state is State.PARKED or (deputy.state is State.BUSY and deputy.flight is None)
        done = False

        def blocks() -> None:
            nonlocal done
            deputy.set_mask(mask)
            self.tracer.deputies.watch(p)
            done = True

        deputy.when_ready(blocks, asked=True)
        until = time.monotonic() + BLOCKS_WITHIN
        while p.several and rests and not done and p.deputy is deputy and self.tracer.programs.get(p.pid) is p:
            status = p.task.wait_beside(-1, max(0.0, until - time.monotonic()))
            if status is None:
                return
            self.tracer.stops.task_event(p.pid, status)

    def private_open(self, p: Program, deputy: Deputy, order: PrivateOpen, flags: int) -> None:
        p.body.seq = flags >> 1
        result = self.tracer.carrier.stand_in(p, deputy, order)
        deputy.ready_since = time.monotonic()
        self.tracer.deputies.watch(p)
        self.answer(p, result)

    def action(self, p: Program, deputy: Deputy, sig: int, action: bytes) -> None:
        """The body has set what shall be done at a signal; b"": its handler is reset. The deputy does so when it is READY, at the
        latest when the program comes home: no answer is waited for, so the body may leave at once."""
        deputy.heard.append((sig, action))
        deputy.when_ready(lambda: self._act(p, deputy), asked=True)

    def _act(self, p: Program, deputy: Deputy) -> None:
        with Calls(p.task, base=deputy.base, mask=deputy.mask) as call:
            deputy.heed(call)
        self.tracer.deputies.watch(p)

    def heed(self, p: Program, call: Calls) -> None:
        """``p`` is here again, in the process of ``call``: what bodies have said of signals is done, as far as it is not."""
        for q in (p, *self.tracer.threads.of(p)):
            if q.deputy is not None:
                q.deputy.heed(call)

    def die(self, p: Program, deputy: Deputy, status: int, info: bytes, *, failed: bool) -> None:
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
            self.tracer.mosd.log(f"pid={p.pid} its body was killed on {where}", 30)
            link = p.link
            if link is not None and not failed and self.tracer.outliving.revives(p, link):
                self.tracer.hosts.drop(p, link)
                return
            if link is not None:
                link.programs.discard(p.pid)  # its host may end before it does
            try:
                if failed:
                    self.tracer.policy.say(p, SERVING_FAILED.format(computer=where))
            finally:
                self.tracer.containment.kill(p)

    def pidfd(self, p: Program) -> int:
        """A descriptor of its deputy, -1 if there is none left."""
        return self.direct.pidfd(p)

    def forget(self, p: Program) -> None:
        """The process is gone."""
        self.direct.forget(p)

    def map_file(self, p: Program, deputy: Deputy, order: MmapOrder, flags: int) -> None:
        """Map the file here, and send what it shows: the kernel's own checks decide what may be mapped."""
        p.body.seq = flags >> 1
        deputy.set_mask(order.mask)
        if self.tracer.withheld.has(p, as_c_int(order.fd)):
            self.tracer.policy.come_home(p, lambda r: self.answer(p, r), returns=True)
            return
        given = (order.at if order.flags & MAP_FIXED else 0, order.length, order.prot, order.flags, order.fd, order.offset)
        self.tracer.traces.entered(p, SYS_MMAP, given, lambda _: None)
        device = False
        deputy.give_up()
        with Calls(p.task, base=deputy.base, mask=deputy.mask) as call:
            result, file = self.tracer.mapped.map(p, deputy, call, order)
            if not -4096 < result < 0:
                if not (device := p.has_device(as_c_int(order.fd))):
                    shared = bool(order.flags & MAP_SHARED) and is_regular(p.pid, as_c_int(order.fd))
                    name = own_files.name_of(p.pid, order.fd)
                    self.tracer.hosts.send(p, Kind.MMAP_NAME, file.to_bytes(4, "little") + name, flags=int(shared))
                if not file:
                    if not device:
                        self._send_file(p, result, order.length)
                    call(SYS_MUNMAP, result, order.length)
                result = 0
        deputy.ready_since = time.monotonic()
        self.tracer.deputies.watch(p)
        if device:
            self.tracer.policy.refuse_device(p, lambda error: self.answer(p, error))
        else:
            self.tracer.traces.returned(p, result or order.at, "both")  # the body has reserved that place, and maps there
            self.answer(p, result)

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
                    self.tracer.hosts.send(p, Kind.MMAP_DATA, struct.pack("<Q", offset) + bytes(view[:got]))
            if got < size:
                return  # past the end of the file
