"""Signal frames on a program's stack: the state of the processor that sigreturn(2) will restore.

The kernel lays that state out for the processor where the signal came (arch/x86/include/uapi/asm/sigcontext.h): FXSAVE with
`struct _fpx_sw_bytes` in its last 48 bytes, the header of XSAVE, the components, and a second magic number behind them. One
that knows fewer components restores FXSAVE only. Nobody counts handlers, which may leave by longjmp(3) too: frames are looked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct, unpack_from
from typing import NamedTuple

from mosfs.abi.xstate import HEADER_END
from mosfs.trace.task import Task

_SW_BYTES = 464  # where struct _fpx_sw_bytes is in FXSAVE
_SW = Struct("<4sIQI")  # magic, size with the second magic, components, size
_MAGIC, _MAGIC_END = (0x46505853).to_bytes(4, "little"), (0x46505845).to_bytes(4, "little")
_ALIGNED = 64
#: struct ucontext lies below the state, and not far; its pointer to it stands so many bytes behind the interrupted stack pointer.
_CONTEXT, _BEHIND_RSP = 2048, 64
#: Bytes of stack that are looked at, from the stack pointer up, and stacks (a handler may have its own).
_STACK, _STACKS = 1 << 20, 4
_MOST_STATE = 16384


class Frame(NamedTuple):
    """``state``: in the standard format of XSAVE. ``rsp``: the stack pointer of what was interrupted."""

    state: bytes
    rsp: int


def frames_in(memory: bytes, start: int) -> Iterator[Frame]:
    """The frames in a piece of stack that lies at ``start``."""
    found = memory.find(_MAGIC)
    while found >= 0:
        at = found - _SW_BYTES
        if at >= 0 and not (start + at) % _ALIGNED and found + _SW.size <= len(memory):
            _, whole, _, size = _SW.unpack_from(memory, found)
            pointer = memory.rfind((start + at).to_bytes(8, "little"), max(0, at - _CONTEXT), at)
            fits = HEADER_END <= size <= min(whole, _MOST_STATE) and memory[at + size : at + size + 4] == _MAGIC_END
            if fits and pointer >= _BEHIND_RSP:
                yield Frame(memory[at : at + size], unpack_from("<Q", memory, pointer - _BEHIND_RSP)[0])
        found = memory.find(_MAGIC, found + 1)


def frames(task: Task, rsp: int) -> Iterator[Frame]:
    """Those of a stopped task, from its stack pointer up, and on the stacks that its handlers have interrupted."""
    seen: list[range] = []
    waiting = [rsp]
    while waiting and len(seen) < _STACKS:
        start = waiting.pop()
        if any(start in stack for stack in seen):
            continue
        memory = bytearray(_STACK)
        got = max(task.read_into(start, memory), 0)
        seen.append(range(start, start + max(got, 1)))
        for frame in frames_in(bytes(memory[:got]), start):
            waiting.append(frame.rsp)
            yield frame
