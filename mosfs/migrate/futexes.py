"""Waits of threads for each other, futex(2), that a move or a signal breaks off: they meet their signals as natively."""

from __future__ import annotations

from mosfs.abi.flags import ERESTARTSYS, FUTEX_COMMAND, FUTEX_WAIT, FUTEX_WAIT_BITSET
from mosfs.abi.numbers import SYS_FUTEX
from mosfs.native.registers import Registers
from mosfs.trace.task import NOTHING, Task, behind

_WAITS = frozenset({FUTEX_WAIT, FUTEX_WAIT_BITSET})
_SYSCALL = b"\x0f\x05"


def waits(task: Task, regs: Registers) -> bool:
    """Whether ``regs`` stand before a futex(2) of the stopped ``task`` that waits, if it waits, until somebody wakes it."""
    if regs.rax != SYS_FUTEX or regs.orig_rax != NOTHING or regs.rsi & FUTEX_COMMAND not in _WAITS or regs.r10:
        return False
    found = bytearray(len(_SYSCALL))
    return task.read_into(regs.rip, found) == len(found) and found == _SYSCALL


def put(task: Task, regs: Registers) -> None:
    """Give the stopped ``task`` the registers before its next instruction, with which it shall go on. TaskGone if it ends.

    A signal that waits for it, or comes, meets such a wait and not the instruction before it: sem_wait(3) is to return EINTR, which
    is how Python hears of Ctrl-C. Without one the kernel makes the call again."""
    if not waits(task, regs):
        task.set_regs(regs)
        return
    broken_off = behind(regs, -ERESTARTSYS)
    broken_off.orig_rax = SYS_FUTEX
    task.stand(broken_off)
