"""Whether a stopped program suits the processor of another node, beyond what `abi.cpu.missing` says beforehand."""

from __future__ import annotations

import signal
from typing import NamedTuple

from mosfs.abi import cpu, xrstor, xstate
from mosfs.abi.signals import SI_KERNEL
from mosfs.migrate.image import ImageMeta
from mosfs.trace import xstate as states
from mosfs.trace.frames import frames
from mosfs.trace.task import Task, TaskGone, regs_from

_LONGEST = 15  # bytes of an instruction
_DISABLED = 2  # SS_DISABLE of struct stack_t (sigaltstack(2))


def state_lacking(task: Task, here: str, there: str) -> list[str]:
    """The flags of state in use that can neither be at the node ``there`` nor wait, or that a handler's return would lose there.

    Costs nothing between equal processors."""
    if not there:
        return []
    ours, theirs = cpu.parse(here), cpu.parse(there)
    smaller = min(0, theirs.sigframe - ours.sigframe) if ours.sigframe and theirs.sigframe else 0
    if not ours.xcr0 & ~theirs.xcr0 and not smaller:
        return []
    own, now = states.own_layout(), states.read(task)
    if found := xstate.lacking(now, own, theirs.xcr0):
        return found
    stacked = frames(task, task.peek_regs().rsp)
    return sorted({name for frame in stacked for name in xstate.lost(frame.state, own, theirs.xcr0, len(now) + smaller)})


def frames_misread(task: Task, meta: ImageMeta) -> list[str]:
    """The flags of state that a handler's return would not restore in a ``task`` that has just got this image here."""
    layout, own = xstate.checked(meta.xlayout, len(meta.xstate)), states.own_layout()
    waited = dict(meta.waiting_state)
    if layout == own and not waited:
        return []
    rsp = int(regs_from(meta.regs).rsp)
    return sorted({name for frame in frames(task, rsp) for name in xstate.misread(frame.state, layout, own, waited)})


def stack_too_small(meta: ImageMeta, here: str, there: str) -> str:
    """Why a signal could not be delivered there: the program has made its signal stack for the smaller frames of here; or ""."""
    frame = cpu.parse(there).sigframe
    size = int.from_bytes(meta.altstack[16:24], "little")
    disabled = int.from_bytes(meta.altstack[8:12], "little") & _DISABLED
    if disabled or frame <= cpu.parse(here).sigframe or size >= frame:
        return ""
    return f"its signal stack of {size} bytes is too small for the {frame} bytes of a signal there"


class Unsuited(NamedTuple):
    """An instruction that this processor refuses. ``needs``: the flags of processors that may stand for it, sorted;
    ``passing``: behind it the program needs them no more."""

    needs: list[str]
    passing: bool


def unsuited_instruction(task: Task, sig: int, lacking: list[str], here: str) -> Unsuited | None:
    """Whether the task is about to get the signal ``sig`` because this node, with the features ``here``, lacks some of ``lacking``.
    None if that came from elsewhere (kill(2)), or the instruction is refused everywhere."""
    look = _LOOKS.get(sig) if lacking else None
    if look is None:
        return None
    try:
        code = int.from_bytes(task.peek_siginfo()[8:12], "little", signed=True)
        text = bytearray(_LONGEST)
        got = task.read_into(task.peek_regs().rip, text)
        return look(task, code, bytes(text[:got]), lacking, here)
    except (OSError, TaskGone):
        return None


def _illegal(task: Task, code: int, text: bytes, lacking: list[str], here: str) -> Unsuited | None:
    needs = cpu.suspects(text, lacking) if 0 < code < SI_KERNEL else []
    return Unsuited(needs, passing=False) if needs else None


def _restoring(task: Task, code: int, text: bytes, lacking: list[str], here: str) -> Unsuited | None:
    """XRSTOR of what was saved where there is more state than here."""
    if code != SI_KERNEL:
        return None
    regs = task.peek_regs()
    address = xrstor.operand(text, [getattr(regs, name) for name in xrstor.REGISTERS], regs.rip)
    if address is None:
        return None
    mine = cpu.parse(here)
    header = task.read(address + xrstor.HEADER_AT, xrstor.HEADER_SIZE)
    needs = sorted({*xrstor.unknown(header, mine.xcr0, compacts="xsavec" in mine.flags)} & {*lacking})
    return Unsuited(needs, passing=True) if needs else None


_LOOKS = {int(signal.SIGILL): _illegal, int(signal.SIGSEGV): _restoring}
