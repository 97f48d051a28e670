"""Register sets around a system call instruction, as pure functions. ``regs`` stand before it unless said otherwise."""

from __future__ import annotations

import time
from typing import Any

from mosfs.home.deputy import Flight
from mosfs.migrate.capture import signed
from mosfs.trace import layout
from mosfs.trace.task import copy_regs


def arguments(regs: Any) -> tuple[int, ...]:
    """The six argument registers of a system call."""
    return (regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9)


def with_time_left(regs: Any, nr: int, flight: Flight) -> Any:
    """epoll_wait(2) made again must not wait for its whole timeout again."""
    r = copy_regs(regs)
    if nr in (232, 281):
        timeout = (r.r10 & 0xFFFFFFFF ^ 0x80000000) - 0x80000000
        if timeout > 0:
            r.r10 = max(0, timeout - int((time.monotonic() - flight.started) * 1000))
    return r


def result_at(regs: Any) -> int:
    """What the stub's call has returned at a stop between its two system calls."""
    if signed(regs.orig_rax) >= 0 and regs.orig_rax != layout.MAGIC:
        return signed(regs.rax)
    if regs.rip == layout.STUB:
        return -512
    if regs.rip == layout.STUB_AFTER:
        return signed(regs.rax)
    return signed(regs.rdi)
