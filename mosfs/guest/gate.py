"""The gate of old programs: static ones of many years ago tell the time by a jump to the kernel's vsyscall page, above all memory.

It is a fault that the kernel serves as if a system call had been made, and that stops like one. At such a stop nothing may be
injected, and no other place be gone to: the kernel kills for that (arch/x86/entry/vsyscall). So the three calls of the gate are
answered at once, with what the vDSO shows.
"""

from __future__ import annotations

import struct
import time

from mosfs.abi.numbers import SYS_GETCPU, SYS_GETTIMEOFDAY, SYS_TIME
from mosfs.guest.body import Body
from mosfs.native import lib
from mosfs.native.registers import Registers
from mosfs.trace.clock import NSEC, shown_by
from mosfs.trace.layout import USER_END
from mosfs.trace.task import NOTHING, copy_regs


def serve(body: Body, regs: Registers) -> bool:
    """Answer the call before which the body stands; False: it is none of the gate, or home must answer."""
    if regs.rip < USER_END:
        return False
    shown = shown_by(body.memory.clock.page, time.CLOCK_REALTIME, lib.mos_rdtsc())
    if shown is None:
        return False
    seconds, ns = divmod(shown, NSEC)
    if regs.orig_rax == SYS_TIME:
        result, outs = seconds, [(regs.rdi, struct.pack("<q", seconds))]
    elif regs.orig_rax == SYS_GETTIMEOFDAY:
        result, outs = 0, [(regs.rdi, struct.pack("<2q", seconds, ns // 1000)), (regs.rsi, bytes(8))]  # no time zone
    elif regs.orig_rax == SYS_GETCPU:
        result, outs = 0, [(regs.rdi, bytes(4)), (regs.rsi, bytes(4))]  # every home-node has a first processor
    else:
        return False
    answer = copy_regs(regs)
    answer.rax, answer.orig_rax = result & NOTHING, NOTHING
    for addr, data in outs:
        try:
            if addr:
                body.task.write(addr, data)
        except OSError:
            return False
    body.task.set_regs(answer)
    if body.signals.infos and not body.stopping.interrupting:
        body.stopping.interrupting = True
        body.task.interrupt()
    body.task.cont()
    return True
