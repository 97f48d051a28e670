"""Calls that a body makes itself, after home has made them (`Away.BOTH`) or in the middle of another."""

from __future__ import annotations

from mosfs.abi.numbers import SYS_GETRANDOM, SYS_MMAP, SYS_MREMAP, SYS_PRLIMIT64, SYS_RT_SIGACTION, SYS_SETRLIMIT
from mosfs.calls import endless
from mosfs.calls.policy import private
from mosfs.guest.body import Body, State
from mosfs.migrate.capture import signed
from mosfs.migrate.remap import remap
from mosfs.trace.inject import Calls
from mosfs.trace.task import NOTHING, copy_regs

_LIMITS = frozenset({SYS_SETRLIMIT, SYS_PRLIMIT64})


def second(body: Body, result: int) -> int | None:
    """Home has made the call, with ``result``; now the body does. What the program hears; None when the body goes on by itself."""
    if body.call.nr == SYS_RT_SIGACTION:  # what was before, home has told: flags of signals that nobody handles have not travelled
        with Calls(body.task) as call:
            call(body.call.nr, body.call.regs.rdi, body.call.regs.rsi, 0, body.call.regs.r10)
        return result
    if body.call.nr == SYS_MREMAP:
        return remapped(body)
    if body.call.nr in _LIMITS:  # here it has another PID, and may have less: home has told what was, and what came of it
        regs = body.call.regs
        which, new = (regs.rdi, regs.rsi) if body.call.nr == SYS_SETRLIMIT else (regs.rsi, regs.rdx)
        with Calls(body.task, base=regs) as call:
            call(SYS_SETRLIMIT, which, new)
        return result
    body.state = State.RUNNING
    if body.signals.infos and not body.stopping.interrupting:
        body.stopping.interrupting = True
        body.task.interrupt()
    regs = copy_regs(body.call.regs)
    regs.orig_rax = body.call.nr
    if body.call.nr == SYS_MMAP:
        regs.r10 = private(regs.r10)
    body.task.set_regs(regs)
    body.task.cont()
    return None


def remapped(body: Body) -> int:
    """The result of the mremap(2) in which the body stands."""
    with Calls(body.task, base=body.call.regs) as call:
        regs = body.call.regs
        return remap(call, (regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8), said=body.memory.said.calls > 0)


def complete_getrandom(body: Body) -> None:
    """At a stop that we asked for: getrandom(2), alone of the calls that a body makes itself, may have been cut short."""
    regs = body.task.peek_regs()
    if regs.orig_rax == SYS_GETRANDOM:
        regs.rax = endless.complete(body.task, SYS_GETRANDOM, regs, signed(regs.rax)) & NOTHING
        body.task.set_regs(regs)
