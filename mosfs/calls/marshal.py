"""A stopped call becomes a `Request`, by the table's notation of its arguments.

Memory that cannot be reached is left out: the deputy then passes the program's own address, which is not mapped there, and
the home kernel answers EFAULT as it would natively. Memory of which only the beginning can be reached ends there (`Blob.edge`).
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from functools import lru_cache

from mosfs.abi.args import MAX_BYTES, Arg, Direction, Kind, Rule, Source
from mosfs.abi.numbers import SYS_GETDENTS, SYS_GETDENTS64, SYS_PREAD64, SYS_PWRITE64, SYS_READ, SYS_RECVFROM, SYS_SENDTO, SYS_WRITE
from mosfs.abi.syscalls import Syscall
from mosfs.calls import irregular
from mosfs.calls.reach import reached
from mosfs.calls.request import MAX_TRANSFER, Blob, Comes, Request
from mosfs.trace.task import Task

_RULES = {Rule.SUCCESS: Comes.SUCCESS, Rule.RETURNED: Comes.RETURNED, Rule.ALWAYS: Comes.ALWAYS}
#: Calls whose data may be cut: the kernel is allowed to transfer less, or the rest follows (`partial.limited`).
_COUNT_ARG = dict.fromkeys((
    SYS_READ, SYS_WRITE, SYS_PREAD64, SYS_PWRITE64, SYS_SENDTO, SYS_RECVFROM, SYS_GETDENTS, SYS_GETDENTS64,
), 2)  # fmt: skip


#: Most bytes of memory whose length is in memory, too, where programs may have left anything.
TOLD = 1 << 20


@lru_cache(maxsize=1024)
def _plan(row: Syscall) -> tuple[tuple[int, Arg], ...]:
    """The arguments that reach memory."""
    return tuple((i, a) for i, a in enumerate(row.args) if a.kind in (Kind.STR, Kind.MEMORY, Kind.IRREGULAR))


def marshal(row: Syscall, args: Sequence[int], mask: int, task: Task) -> Request:
    """The request for a call of ``row`` with these six registers."""
    plan = _plan(row)
    if not plan:
        return Request(row.nr, tuple(args), mask)
    registers = tuple(args)
    request = Request(row.nr, registers, mask)
    values = row.values(registers)
    for index, arg in plan:
        addr = registers[index]
        if arg.kind is Kind.IRREGULAR:
            irregular.HANDLERS[arg.name](request, index, values, task)
        elif not addr:
            continue
        elif arg.kind is Kind.STR:
            add_string(request, index, addr, task)
        else:
            add_memory(request, index, arg, arg.size(values, _peek(task)), task)
    return request


def _peek(task: Task) -> Callable[[int], int]:
    def peek(addr: int) -> int:
        try:
            return int.from_bytes(task.read(addr, 4), "little")
        except OSError:
            return 0

    return peek


def add_string(request: Request, index: int, addr: int, task: Task, limit: int = 4097) -> None:
    try:
        text = task.read_string(addr, limit)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            return
        text = task.read(addr, limit)  # the home kernel shall say so
    request.blobs.append(Blob(addr, len(text) + 1, text + b"\0", index))


def add_memory(request: Request, index: int, arg: Arg, size: int, task: Task) -> None:
    """A MEMORY argument of ``size`` bytes."""
    addr = request.args[index]
    told = arg.length is not None and arg.length.source is Source.DEREF
    if told and arg.length is not None and arg.length.arg == index:
        size = max(size, 4)  # it begins with its length, which the kernel does not accept then
    if size <= 0:
        return
    part = reached(task, addr, size, arg.direction, TOLD if told else MAX_TRANSFER)
    if part is None:
        return
    edge = part.edge
    count = _COUNT_ARG.get(request.nr)
    if edge and count is not None and part.size == MAX_TRANSFER and request.args[count] <= MAX_BYTES:
        _cut(request, count)
        edge = False
    request.blobs.append(Blob(addr, part.size, part.data, index, comes(arg), arg.ret_factor, arg.ret_plus, edge))


def comes(arg: Arg) -> Comes:
    """What comes back of the memory of a MEMORY argument."""
    return _RULES[arg.rule] if arg.direction & Direction.OUT else Comes.NOTHING


def _cut(request: Request, count: int) -> None:
    """Transfer no more than one message carries: `partial.limited` goes on with the rest."""
    registers = list(request.args)
    registers[count] = MAX_TRANSFER
    request.args = tuple(registers)
