"""What a call that was made elsewhere brings back is stored in the program's memory, as the kernel would have stored it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mosfs.abi.numbers import SYS_POLL, SYS_PPOLL, SYS_PSELECT6, SYS_SELECT
from mosfs.native.registers import Registers
from mosfs.trace.task import Task

#: Calls whose first argument is an array of struct pollfd: where each has what the kernel fills (poll(2)), and its size.
_POLLS, _REVENTS, _POLLFD = frozenset({SYS_POLL, SYS_PPOLL}), 6, 8
#: The register with the address of the time that is left.
_LEFT = {SYS_SELECT: "r8", SYS_PSELECT6: "r8", SYS_PPOLL: "rdx"}


def pieces(nr: int, first: int, outs: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    """What is stored of that which the call ``nr``, with this first argument, brings back. Of struct pollfd that is revents:
    another thread may have changed what it wants to be told while this one waited."""
    for addr, data in outs:
        if nr in _POLLS and addr == first:
            yield from ((addr + at, data[at : at + 2]) for at in range(_REVENTS, len(data), _POLLFD))
        else:
            yield addr, data


def store(task: Task, nr: int, regs: Registers, outs: Iterable[tuple[int, bytes]]) -> bool:
    """Store that of the call in ``regs``; False if not all of it can be (EFAULT).

    What is there already the kernel may not have written; and it, too, forgets about the time that is left of a select(2) in memory
    that is only read."""
    unmissed = getattr(regs, _LEFT[nr]) if nr in _LEFT else None
    whole = True
    for addr, data in pieces(nr, regs.rdi if nr in _POLLS else 0, outs):
        try:
            task.write(addr, data)
        except OSError:
            whole = whole and (addr == unmissed or _is_there(task, addr, data))
    return whole


def _is_there(task: Task, addr: int, data: bytes) -> bool:
    try:
        return bool(task.read(addr, len(data)) == data)
    except OSError:
        return False
