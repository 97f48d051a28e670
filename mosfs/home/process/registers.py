"""Register sets around a system call instruction, as pure functions. ``regs`` stand before it unless said otherwise."""

from __future__ import annotations

import errno

from mosfs.abi.flags import ERESTART_RESTARTBLOCK, ERESTARTNOHAND, ERESTARTNOINTR, ERESTARTSYS, RESTARTS
from mosfs.abi.numbers import SYS_FUTEX, SYS_RESTART_SYSCALL
from mosfs.calls import interruptible
from mosfs.migrate.capture import signed
from mosfs.native.registers import Registers
from mosfs.trace import layout
from mosfs.trace.task import NOTHING, behind, copy_regs


def arguments(regs: Registers) -> tuple[int, ...]:
    """The six argument registers of a system call."""
    return (regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9)


def result_at(regs: Registers, nr: int) -> int:
    """What the stub's call ``nr`` has returned at a stop between its two system calls. One that was not even made is made again: if
    it may wait, as one that has just begun to, which a handler ends; else behind the handler."""
    if signed(regs.orig_rax) >= 0 and regs.orig_rax != layout.MAGIC:
        return signed(regs.rax)
    if regs.rip == layout.STUB:
        return -ERESTARTSYS if nr in interruptible.CALLS else -ERESTARTNOINTR
    if regs.rip == layout.STUB_AFTER:
        return signed(regs.rax)
    return signed(regs.rdi)


def broken_off(regs: Registers, nr: int, result: int) -> Registers:
    """Registers as at the stop that broke call ``nr`` off with ``result`` (for `Task.stand`); ``regs`` stand before the call."""
    stopped = behind(regs, result)
    stopped.orig_rax = nr & NOTHING
    return goes_on(stopped)


def in_call(stopped: Registers) -> bool:
    """``stopped`` are registers at a stop that broke a call off, which would have gone on without it."""
    return signed(stopped.orig_rax) >= 0 and (signed(stopped.rax) in RESTARTS or signed(stopped.rax) == -errno.EINTR)


def goes_on(stopped: Registers) -> Registers:
    """The same for the kernel's restart logic: a call that returns EINTR after any interruption goes on if no handler is called."""
    regs = copy_regs(stopped)
    if signed(regs.rax) == -errno.EINTR:
        regs.rax = -ERESTARTNOHAND & NOTHING
    return regs


def futex_again(stopped: Registers, number: int) -> Registers | None:
    """At a stop that broke off a wait on a futex with a timeout: the registers before it, to make it again. None if it did not.

    ``number``: of the call that a restart_syscall(2) goes on with; by that the kernel restarts it, which no other kernel can.
    """
    nr = signed(stopped.orig_rax)
    if signed(stopped.rax) != -ERESTART_RESTARTBLOCK or SYS_FUTEX not in (nr, number if nr == SYS_RESTART_SYSCALL else -1):
        return None
    regs = copy_regs(stopped)
    regs.rip, regs.rax, regs.orig_rax = regs.rip - 2, SYS_FUTEX, NOTHING
    return regs


def is_futex(regs: Registers) -> bool:
    """``regs`` stand before a call of futex(2), as `futex_again` gives them."""
    return bool(regs.rax == SYS_FUTEX and regs.orig_rax == NOTHING)
