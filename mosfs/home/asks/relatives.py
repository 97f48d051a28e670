"""Files in /proc that a program opens about another program of its tree: what they would show if it had never left.

Of a program away home's kernel knows the deputy only, so its host is asked for the text; who opened stands still until then, for
`PATIENCE` seconds at most. Whether it may read the file at all is what the kernel says when it makes that open for it, and when we
read the file with its rights: what an injected call returns is the program's word.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mosfs.abi.flags import AT_FDCWD
from mosfs.abi.numbers import SYS_CLOSE, SYS_OPENAT
from mosfs.calls.request import Request
from mosfs.home.ports import Tree
from mosfs.home.process import own_files
from mosfs.home.process.deputy import Deputy
from mosfs.home.process.program import Place, Program
from mosfs.home.process.registers import arguments
from mosfs.migrate import shown
from mosfs.native.registers import Registers
from mosfs.trace import layout
from mosfs.trace.caller import rights_of
from mosfs.trace.inject import Calls
from mosfs.trace.task import copy_regs
from mosfs.wire.frames import Kind, understands

#: Seconds; nodes that compute for many answer late, and a wrong answer is worse than a late one.
PATIENCE = 10.0
#: Seconds after which somebody on the move is asked again, where it is by then.
AGAIN = 0.02
#: Gets the host's text; None: it has not answered in time.
Told = Callable[[bytes | None], None]


@dataclass(slots=True)
class Ask:
    """``link``: to the node that was asked; None: the program was not there any more."""

    reader: Program
    about: Program
    name: str
    link: Any
    told: Told
    until: float


class Relatives:
    def __init__(self, tracer: Tree) -> None:
        self.tracer = tracer
        self._asked: list[Ask] = []

    # ------------------------------------------------------------------ who opens

    def opened_at_home(self, p: Program, regs: Registers, path: bytes, nr: int) -> bool:
        """An open by a program at home; False: it is none of these."""
        if (shows := own_files.memory(path, nr, arguments(regs), p.pid, self.tracer.programs)) is not None:
            kept = copy_regs(regs)
            with Calls(p.task) as call:
                result = self._memory(call, *shows, path, own_files.flags_of(nr, arguments(kept)))
            self.tracer.stops.answer(p, kept, result)
            return True
        found = own_files.another(path, nr, arguments(regs), p.pid, self.tracer.programs)
        if found is None:
            return False
        name, about = found
        kept, flags = copy_regs(regs), own_files.flags_of(nr, arguments(regs))
        p.call.reading = token = object()

        def told(body: bytes | None) -> None:
            if self.tracer.programs.get(p.pid) is not p or p.call.reading is not token:
                return
            p.call.reading = None
            with Calls(p.task) as call:
                result = self._opened(call, name, flags, about, body)
            self.tracer.stops.answer(p, kept, result)

        self._ask(p, about, name, told)
        return True

    def opened_away(self, p: Program, deputy: Deputy, request: Request, path: bytes) -> bool:
        """The same by one that is away. The answer may come when its deputy is parked, gone, or was asked the same again."""
        if (shows := own_files.memory(path, request.nr, request.args, p.pid, self.tracer.programs)) is not None:
            if shows[1] is p and shows[0] != "auxv":
                return self.tracer.policy.come_home(p, lambda result: self.tracer.requests.answer(p, result))
            deputy.set_mask(request.mask)
            with Calls(p.task, base=deputy.base, mask=deputy.mask) as call:
                result = self._memory(call, *shows, path, own_files.flags_of(request.nr, request.args))
            self.tracer.requests.answered(p, deputy, result)
            return True
        found = own_files.another(path, request.nr, request.args, p.pid, self.tracer.programs)
        if found is None:
            return False
        name, about = found
        flags = own_files.flags_of(request.nr, request.args)
        p.call.reading = token = object()

        def told(body: bytes | None) -> None:
            if p.deputy is deputy and p.call.reading is token:
                deputy.when_ready(lambda: answer(body))

        def answer(body: bytes | None) -> None:
            if p.call.reading is not token:
                return
            p.call.reading = None
            deputy.set_mask(request.mask)
            with Calls(p.task, base=deputy.base, mask=deputy.mask) as call:
                result = self._opened(call, name, flags, about, body)
            self.tracer.requests.answered(p, deputy, result)

        self._ask(p, about, name, told)
        return True

    def _memory(self, call: Calls, name: str, about: Program, path: bytes, flags: int) -> int:
        """The open by a stopped program of a file that shows the memory of ``about``, bit by bit and at any later moment: so who
        has it open keeps that program at home. Of one that is away it is not allowed, as it may be anywhere (proc_pid_mem(5))."""
        if name == "auxv":
            return self._opened(call, name, flags, about, None)
        if about.place is not Place.HOME:
            return -errno.EACCES
        call.task.write(layout.SCRATCH, path + b"\0")
        result: int = call(SYS_OPENAT, AT_FDCWD, layout.SCRATCH, flags)
        if result >= 0 and _may_look(call.task.pid, about):
            self.tracer.policy.bind(about, f"its memory is open (/proc/{about.pid}/{name})")
        return result

    def _opened(self, call: Calls, name: str, flags: int, about: Program, body: bytes | None) -> int:
        """The open by a stopped program of a file about ``about``: descriptor or negative errno. ``body``: what its host shows."""
        call.task.write(layout.SCRATCH, b"/proc/%d/%s\0" % (about.pid, name.encode()))
        may: int = call(SYS_OPENAT, AT_FDCWD, layout.SCRATCH, os.O_RDONLY | os.O_CLOEXEC)
        if may < 0:
            return may
        call(SYS_CLOSE, may)
        own_files.release(self.tracer.pump, name)
        try:
            with rights_of(call.task.pid)():
                text = _text(name, about, body)
        except OSError as error:
            return -(error.errno or errno.EIO)
        return own_files.memory_file_of(call, name, flags, text)

    # ------------------------------------------------------------------ who is asked

    def _ask(self, reader: Program, about: Program, name: str, told: Told) -> None:
        if about.away and about.link is not None and understands(about.link.frames, Kind.SHOW):
            self._asked.append(ask := Ask(reader, about, name, None, told, time.monotonic() + PATIENCE))
            self._send(ask)
        else:
            told(None)

    def _send(self, ask: Ask) -> None:
        ask.link = ask.about.link
        self.tracer.hosts.send(ask.about, Kind.SHOW, ask.name.encode())

    def told(self, about: Program, link: Any, text: bytes) -> None:
        """SHOWN with an answer, b"" if the program has gone on: hosts answer in the order of the questions."""
        ask = next((ask for ask in self._asked if ask.about is about and ask.link is link), None)
        if ask is not None and not text:
            ask.link = None
        elif ask is not None:
            self._tell(ask, text)

    def _tell(self, ask: Ask, text: bytes | None) -> None:
        """Whatever goes wrong now is the reader's affair, not that of the program or turn in which the answer came."""
        self._asked.remove(ask)
        with self.tracer.containment.of(ask.reader):
            ask.told(text)

    def due(self) -> float | None:
        return time.monotonic() + AGAIN if self._asked else None

    def look(self, now: float) -> None:
        """Who has moved is asked where it is now, or not at all; who does not answer has no answer."""
        for ask in list(self._asked):
            if now >= ask.until or not ask.about.away:
                self._tell(ask, None)
            elif ask.link is not ask.about.link:
                self._send(ask)


def _may_look(pid: int, about: Program) -> bool:
    """May the process ``pid`` look at the memory of ``about``? What it says itself of an open that it has made is no proof."""
    try:
        with rights_of(pid)(), open(f"/proc/{about.pid}/maps", "rb"):
            return True
    except OSError:
        return False


def _text(name: str, about: Program, body: bytes | None) -> bytes:
    if about.away and body is not None:
        text = own_files.away_text(about, name, body)
    elif about.away and name in shown.WHOLE:
        raise OSError(errno.EIO, "its node does not answer")
    else:
        text = own_files.timed(about, name, shown.text(about.pid, name, about.process.names))
        if name == "status":
            text = shown.untraced(text, about.filters_of_ours)
    return shown.with_state(name, text, own_files.state_of(about)) if about.away or about.halted else text
