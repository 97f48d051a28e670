"""Register sets around a system call instruction, as pure functions. ``regs`` stand before it unless said otherwise."""

from __future__ import annotations

from typing import Any

from mosfs.migrate.capture import signed
from mosfs.trace import layout


def arguments(regs: Any) -> tuple[int, ...]:
    """The six argument registers of a system call."""
    return (regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9)


def result_at(regs: Any) -> int:
    """What the stub's call has returned at a stop between its two system calls."""
    if signed(regs.orig_rax) >= 0 and regs.orig_rax != layout.MAGIC:
        return signed(regs.rax)
    if regs.rip == layout.STUB:
        return -512
    if regs.rip == layout.STUB_AFTER:
        return signed(regs.rax)
    return signed(regs.rdi)
