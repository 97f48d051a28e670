"""Programs that are traced by others: debuggers and what they debug, under ``--stay-home`` (ptrace(2)).

A process has one tracer. So a process that wants to be traced by its parent, or that another one attaches to, is let go: it goes
on as a native program. Its filter stays, and a call that this sends to a tracer fails unless the tracer has asked for such stops,
which no debugger has. Therefore the process gets one more filter before, which asks for a notification on the same
calls: that takes precedence (seccomp(2)), its new tracer sees nothing of it, and we let each call pass (seccomp_unotify(2)).
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import struct
from contextlib import suppress

from mosfs.abi.args import as_c_int
from mosfs.abi.flags import PR_SET_NO_NEW_PRIVS, SECCOMP_FILTER_FLAG_SPEC_ALLOW, SECCOMP_SET_MODE_FILTER
from mosfs.abi.numbers import SYS_PRCTL, SYS_SECCOMP
from mosfs.home.ports import StillRuns, Tree
from mosfs.home.process.move import Move
from mosfs.home.process.program import Program
from mosfs.home.process.registers import arguments
from mosfs.migrate.capture import user_regs
from mosfs.native import kernel
from mosfs.native.registers import Registers
from mosfs.trace import layout
from mosfs.trace.filter import NOTIFY, home_filter
from mosfs.trace.inject import Calls
from mosfs.trace.stops import Stop, decode
from mosfs.trace.taken import anonymous, take_made
from mosfs.trace.task import TaskGone

TRACEME, ATTACH, SEIZE = 0, 16, 0x4206
#: All threads, ESRCH for one that cannot; a descriptor to be told by; a call that we know of is interrupted by deadly signals only.
TSYNC, NEW_LISTENER, TSYNC_ESRCH, WAIT_KILLABLE_RECV = 1, 8, 16, 32
_RECEIVE, _SEND = 0xC0502100, 0xC0182101
_NOTIFICATION_SIZE = 80
_ANSWER = struct.Struct("<QqiI")
_CONTINUE = 1
#: At once; the loop of the tracer watches each.
MOST = 100


class Debugged:
    """``listeners``: one for each process let go; its children share it, and it ends with the last of them."""

    def __init__(self, tracer: Tree) -> None:
        self.tracer = tracer
        self.listeners: list[int] = []

    # ------------------------------------------------------------------ letting go

    def asked(self, p: Program, regs: Registers) -> None:
        """``p``, at home and bound to it, calls ptrace."""
        request, pid = arguments(regs)[:2]
        target = self.tracer.family.process(p) if request == TRACEME else None
        if request in (ATTACH, SEIZE):
            found = self.tracer.programs.get(as_c_int(pid))
            target = None if found is None else self.tracer.family.process(found)
        if target is None or (request != TRACEME and target is self.tracer.family.process(p)):
            self.tracer.stops.serve(p)
        elif target.away or target.move is not None:
            self.tracer.moves.request(target, Move("", "home", done=lambda _reason: self._again(p)))
        elif self._let_go(target, caller=p if request == TRACEME else None):
            if request != TRACEME:
                self.tracer.stops.serve(p)
        else:
            self.tracer.stops.answer(p, regs, -errno.EPERM)

    def _again(self, p: Program) -> None:
        """The program that ``p`` wants to attach to has come home."""
        with suppress(TaskGone):
            if p.pid in self.tracer.programs:
                self.asked(p, p.task.peek_regs())

    def _let_go(self, process: Program, caller: Program | None) -> bool:
        """False if it cannot be; ``caller``: the thread of it that stands in a call."""
        busy = process.suspended or process.deputy is not None or process.kin.vforking or process.filters.private
        if busy or len(self.listeners) >= MOST:
            return False
        tasks = [process, *(self.tracer.programs[tid] for tid in process.kin.threads)]
        stops = {}
        try:
            for q in tasks:
                stops[q.pid] = Stop.SECCOMP if q is caller else self._stopped(q)
            listener = self._listen(caller or process, stops, many=len(tasks) > 1)
        except StillRuns:
            listener = -errno.EPERM
        if listener < 0:
            for q in tasks:
                if q is not caller and q.pid in stops:
                    q.task.cont()
            return False
        self.listeners.append(listener)
        for q in reversed(tasks):
            q.task.detach()
            self.tracer.family.forget(q)
        return True

    def _stopped(self, q: Program) -> Stop:
        """Interrupt a running thread; what it meets before is served."""
        q.task.interrupt()
        while self.tracer.programs.get(q.pid) is q:
            status = self.tracer.controls.wait_for(q)
            stop = decode(status).stop
            if stop in (Stop.TRAP, Stop.GROUP):
                return stop
            self.tracer.stops.handle(q, decode(status))
        raise TaskGone(q.pid)

    def _listen(self, p: Program, stops: dict[int, Stop], *, many: bool) -> int:
        """Install the filter in all threads; our descriptor of its notifications, or a negative errno value."""
        program = home_filter(NOTIFY)
        at = layout.SCRATCH + 64
        flags = SECCOMP_FILTER_FLAG_SPEC_ALLOW | NEW_LISTENER | (TSYNC | TSYNC_ESRCH if many else 0)
        if kernel.has("wait_killable"):  # else a call that a signal interrupts begins anew, and is told again
            flags |= WAIT_KILLABLE_RECV
        regs = user_regs(p.task.peek_regs(), stops[p.pid])
        try:
            with Calls(p.task) as call:
                p.task.write(layout.SCRATCH, struct.pack("<HxxxxxxQ", len(program) // 8, at) + bytes(48) + program)
                fd = call(SYS_SECCOMP, SECCOMP_SET_MODE_FILTER, flags, layout.SCRATCH)
                if fd == -errno.EACCES and not many:  # it has given up root
                    call(SYS_PRCTL, PR_SET_NO_NEW_PRIVS, 1)
                    fd = call(SYS_SECCOMP, SECCOMP_SET_MODE_FILTER, flags, layout.SCRATCH)
                return fd if fd < 0 else take_made(call, fd, anonymous("seccomp notify"))
        except OSError as error:
            return -(error.errno or errno.EPERM)
        finally:
            p.task.set_regs(regs)

    # ------------------------------------------------------------------ afterwards

    def told(self, index: int, events: int) -> None:
        """A call waits to be let pass, or nobody is left who could make one."""
        fd = self.listeners[index]
        if not events & select.POLLIN:
            os.close(self.listeners.pop(index))
            return
        notification = bytearray(_NOTIFICATION_SIZE)
        try:
            fcntl.ioctl(fd, _RECEIVE, notification)
            number = int.from_bytes(notification[:8], "little")
            fcntl.ioctl(fd, _SEND, _ANSWER.pack(number, 0, 0, _CONTINUE))
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.EINTR, errno.EINPROGRESS):
                raise
