"""Opens at home that may mean one of our files; what is ordinary for certain does not come here (native/private.c)."""

from __future__ import annotations

from mosfs.abi.numbers import SYS_OPENAT2
from mosfs.calls.request import VALUE, pack_reply
from mosfs.home.ports import Tree
from mosfs.home.process import control_calls, own_files
from mosfs.home.process.control_calls import OPEN_HOW, PATH_ARG, Letters, Redirect
from mosfs.home.process.program import Program
from mosfs.home.process.registers import arguments
from mosfs.native.registers import Registers
from mosfs.trace import layout
from mosfs.trace.inject import Calls
from mosfs.trace.task import copy_regs
from mosfs.wire.frames import Kind


class Opens:
    def __init__(self, tracer: Tree) -> None:
        self.tracer = tracer

    def trapped(self, p: Program, regs: Registers, nr: int) -> None:
        """An open at home that is not ordinary at first sight."""
        tracer = self.tracer
        args = arguments(regs)
        try:
            path = p.task.read_string(args[PATH_ARG[nr]])
            how = p.task.read(args[2], min(args[3], OPEN_HOW.size)) if nr == SYS_OPENAT2 else b""
        except OSError:
            tracer.stops.serve(p)
            return
        opened = control_calls.opening(nr, args, path, how)
        meaning = control_calls.recognise(opened, tracer.family.process(p).pid, tracer.mount, p.directory)
        if meaning is None:
            self._own(p, regs, path, nr)
        elif isinstance(meaning, Redirect):
            self._instead(p, regs, nr, meaning.path)
        elif isinstance(meaning, Letters):
            tracer.mail_opens.at_home(p, meaning, regs)
        else:
            tracer.controls.request(p, meaning, p.task.read_string, lambda result: self.finish(p, result))

    def _own(self, p: Program, regs: Registers, path: bytes, nr: int) -> None:
        """An ordinary open; of the program's own maps: as they are now, with the names that travelling lost."""
        args = arguments(regs)
        if p.process.filtered:
            self.tracer.stops.serve(p)
            return
        if self.tracer.relatives.opened_at_home(p, regs, path, nr):
            return
        name = own_files.wanted(p.pid, path, nr, args)
        known = name in ("maps", "smaps", "status") or (name == "stat" and own_files.travelled(p))
        if not known or (name in ("status", "stat") and p.kin.leader):
            self.tracer.stops.serve(p)
            return
        kept = copy_regs(regs)
        own_files.release(self.tracer.pump, name)
        text = own_files.home_text(p, name)
        with Calls(p.task) as call:
            result = own_files.opened(call, name, nr, args, text)
        self.tracer.stops.answer(p, kept, result)

    def _instead(self, p: Program, regs: Registers, nr: int, path: bytes) -> None:
        """Make the same open of another path, of mosd's tree, which lies in the low region meanwhile."""
        self.tracer.mosd.announce(self.tracer.family.process(p), at_once=True)  # before we wait for the answer
        p.task.write(layout.SCRATCH, path + b"\0")
        self.tracer.stops.make_with(p, regs, ("rdi", "rsi")[PATH_ARG[nr]], layout.SCRATCH)

    def finish(self, p: Program, result: int) -> None:
        """The answer to an open that was a request, wherever the program is now."""
        p.suspended = False
        if p.away:
            self.tracer.traces.returned(p, result, "MOSIX")
            self.tracer.hosts.send(p, Kind.REPLY, pack_reply(result, [], VALUE))
        else:
            self.tracer.stops.answer(p, p.task.peek_regs(), result)
