"""The type of a register set: ``struct mos_regs *`` of the C module, the kernel's struct user_regs_struct of x86_64.

Each register is an unsigned number of 64 bits. To set one to less or more than that is an OverflowError.
"""

from __future__ import annotations

from typing import Any, Protocol


class General(Protocol):
    """The general-purpose registers."""

    rax: int
    rbx: int
    rcx: int
    rdx: int
    rsi: int
    rdi: int
    rbp: int
    rsp: int
    r8: int
    r9: int
    r10: int
    r11: int
    r12: int
    r13: int
    r14: int
    r15: int


class Registers(General, Protocol):
    """All of them. ``orig_rax``: number of the system call that the task is in."""

    orig_rax: int
    rip: int
    eflags: int
    fs_base: int
    gs_base: int
    cs: int
    ss: int
    ds: int
    es: int
    fs: int
    gs: int

    def __getitem__(self, index: int) -> Any:
        """[0] is the structure itself, of which a copy is made."""
