"""Seccomp filters of a program's own, and strict mode, under ``--stay-home`` (seccomp(2)); and ours for ``--no-threads``.

A filter of its own is installed as natively, on top of ours. What it sends to a tracer comes to us, and fails as where nobody
traces. Strict mode is a filter of ours (`trace.filter.strict_filter`): in the kernel's own, calls that we make in the program would
kill it.
"""

from __future__ import annotations

import errno
import os
import signal
import struct

from mosfs.abi.flags import PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_SET_MODE_FILTER, SECCOMP_SET_MODE_STRICT
from mosfs.abi.numbers import SYS_EXIT, SYS_PRCTL, SYS_SECCOMP
from mosfs.abi.syscalls import Syscall
from mosfs.home.ports import Tree
from mosfs.home.process.descriptors import install_filter
from mosfs.home.process.program import Program
from mosfs.home.process.registers import arguments
from mosfs.migrate import shown
from mosfs.migrate.capture import signed
from mosfs.native import lib
from mosfs.native.registers import Registers
from mosfs.trace import layout
from mosfs.trace.filter import strict_filter, threadless_filter
from mosfs.trace.inject import Calls
from mosfs.trace.proc import status_text
from mosfs.trace.stops import Stop, decode
from mosfs.trace.task import SYSCALL, copy_regs

_PRCTL_STRICT = 1


class Filters:
    def __init__(self, tracer: Tree) -> None:
        self.tracer = tracer

    def settled(self, p: Program) -> None:
        """It is known what ``p``, which stands behind an exec, may do: where threads are refused, a call for one stops."""
        if p.settings.allows_threads() or p.filters.threadless or p.process.native:
            return
        stay = copy_regs(p.task.peek_regs())
        with Calls(p.task) as call:
            install_filter(call, threadless_filter())
        p.filters.threadless = True
        p.task.set_regs(stay)

    @staticmethod
    def adopted(p: Program) -> None:
        """From a tracer that died."""
        p.filters.threadless = not p.settings.allows_threads()

    def asked(self, p: Program, row: Syscall, regs: Registers) -> bool:
        """``p``, at home and bound to it, asks for a filter or strict mode; False: it asks for something else."""
        args = arguments(regs)
        if row.nr == SYS_PRCTL and args[0] & 0xFFFFFFFF == PR_SET_SECCOMP:
            strict = args[1] == _PRCTL_STRICT
        elif row.nr == SYS_SECCOMP:
            strict = args[0] & 0xFFFFFFFF == SECCOMP_SET_MODE_STRICT and not (args[1] & 0xFFFFFFFF or args[2])
        else:
            return False
        if strict and not p.process.filtered:
            self._strict(p, regs)
        else:
            self._installed(p)
        return True

    def _strict(self, p: Program, regs: Registers) -> None:
        kept, program, at = copy_regs(regs), strict_filter(), layout.SCRATCH + 16
        with Calls(p.task) as call:
            p.task.write(layout.SCRATCH, struct.pack("<HxxxxxxQ", len(program) // 8, at) + program)
            result = call(SYS_SECCOMP, SECCOMP_SET_MODE_FILTER, 0, layout.SCRATCH)
            if result == -errno.EACCES:  # an ordinary user's; it cannot gain rights by exec any more in any case
                call(SYS_PRCTL, PR_SET_NO_NEW_PRIVS, 1)
                result = call(SYS_SECCOMP, SECCOMP_SET_MODE_FILTER, 0, layout.SCRATCH)
        if not result:
            p.filters.strict = True
            lib.mos_filtered(p.pid, True)
        self.tracer.stops.answer(p, kept, result)

    def _installed(self, p: Program) -> None:
        """Let the call be made; from then on the filter judges what we would have the program call, and exec and fork keep it."""
        p.task.cont(request=SYSCALL)
        status = p.task.wait()
        if decode(status).stop is not Stop.SYSCALL:
            self.tracer.stops.task_event(p.pid, status)
            return
        result = signed(p.task.peek_regs().rax)
        if result >= 0:
            process = self.tracer.family.process(p)
            p.process.filtered = True
            for tid in (process.pid, *process.kin.threads):
                lib.mos_filtered(tid, True)
        self.tracer.traces.returned(p, result, "home")
        p.task.cont()

    def mode(self, p: Program) -> int:
        """The answer to PR_GET_SECCOMP, which in strict mode nobody lives to hear."""
        return shown.mode(status_text(p.pid), p.filters_of_ours)

    def stopped(self, p: Program, regs: Registers) -> bool:
        """A call was sent to us: whether not by a filter of ours, so that it is dealt with here."""
        if not (p.filters.strict or p.process.filtered):
            return False
        message = p.task.event_message()
        if message == lib.MOS_OURS:
            return False
        if not p.filters.strict:
            self.tracer.stops.answer(p, regs, -errno.ENOSYS)
        elif len(self.tracer.family.process(p).kin.threads):
            regs.orig_rax, regs.rdi = SYS_EXIT, signal.SIGKILL  # this thread only
            p.task.set_regs(regs)
            p.task.cont()
        else:
            os.kill(p.pid, signal.SIGKILL)
        return True
