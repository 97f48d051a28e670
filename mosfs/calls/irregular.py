"""Arguments that the table's notation cannot describe: vectors, message headers, ioctl, fcntl and friends.

A handler adds blobs, relocations and ranges to the request: ``handler(request, index, values, task)``, where ``index``
is its argument and ``values`` are all six as the kernel understands them. What cannot be read is left out, as in
`marshal`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from mosfs.abi import commands, ioctls, sockopts
from mosfs.abi.args import MAX_BYTES, Direction, Kind, as_c_int
from mosfs.abi.flags import FUTEX_COMMAND, FUTEX_PI, FUTEX_REQUEUES, FUTEX_WAITS, IOV_MAX
from mosfs.calls.reach import both_ways, reached
from mosfs.calls.request import MAX_TRANSFER, NO_ARG, Blob, Comes, Request
from mosfs.trace import layout
from mosfs.trace.task import Task

Handler = Callable[[Request, int, Sequence[int], Task], None]

#: Most bytes behind a pointer whose length only the kernel knows, and of a socket option, a control message.
ROOM, MOST = 1 << 16, 1 << 20
#: struct sockaddr_storage: longer names are cut by the kernel.
NAME_SIZE = 128
#: Of one request; its count has 16 bits.
MAX_BLOBS = 32768


def _read(task: Task, addr: int, size: int) -> bytes | None:
    try:
        return task.read(addr, size)
    except OSError:
        return None


def _fixed(request: Request, index: int, task: Task, size: int, *, goes: bool, comes: Comes = Comes.NOTHING) -> int:
    """A blob of ``size`` bytes behind argument ``index``: its number, -1 if it cannot be read."""
    addr = request.args[index]
    data = _read(task, addr, size) if addr else None
    if data is None:
        return -1
    request.blobs.append(Blob(addr, size, data if goes else None, index, comes))
    return len(request.blobs) - 1


def _varied(
    request: Request, task: Task, addr: int, size: int, *,
    comes: Comes, index: int = NO_ARG, edge: bool = False, most: int = MOST,
) -> int:
    """A blob of what can be reached of ``size`` bytes: its number, -1 if that is nothing.

    ``edge``: the kernel must not go on behind them, since it may count otherwise.
    """
    if not addr or size <= 0:
        return -1
    part = reached(task, addr, size, Direction.IN, most) if comes is Comes.NOTHING else both_ways(task, addr, size, most)
    if part is None:
        return -1
    request.blobs.append(Blob(addr, part.size, part.data, index, comes, edge=edge or part.edge))
    return len(request.blobs) - 1


# --------------------------------------------------------------------------- vectors and messages


def _vector(
    request: Request, task: Task, addr: int, count: int, *,
    out: bool, index: int = NO_ARG, comes: Comes = Comes.SEQUENCE, either: bool = False,
) -> int:
    """An iovec array and the memory behind it; its blob number, -1 if it cannot be read. ``either``: only the kernel knows which
    way its data goes."""
    if not 0 < count <= IOV_MAX:
        return -1
    raw = _read(task, addr, 16 * count)
    if raw is None:
        return -1
    entries = list(struct.iter_unpack("<QQ", raw))
    left = MAX_TRANSFER
    if any(length >> 63 for _, length in entries):
        left = 0  # EINVAL, whatever the rest says: the array goes as it is
    array = bytearray(raw)
    number = len(request.blobs)
    request.blobs.append(Blob(addr, len(raw), array, index))
    for i, (base, length) in enumerate(entries):
        size = min(length, left)
        left -= size
        if size != length <= MAX_BYTES:
            struct.pack_into("<Q", array, 16 * i + 8, size)
        if not size:
            continue
        way = comes if out else Comes.NOTHING
        if not out:
            part = reached(task, base, size, Direction.IN)
        elif either:
            part = both_ways(task, base, size)
            if part is None:  # it can only be what is put into a pipe
                part, way = reached(task, base, size, Direction.IN), Comes.NOTHING
        elif comes is Comes.SEQUENCE:
            part = reached(task, base, size, Direction.OUT)
        else:
            part = both_ways(task, base, size)
        if part is None:
            break  # no transfer goes on behind what cannot be reached
        edge = part.edge or length > MAX_BYTES
        request.relocations.append((number, len(request.blobs), 16 * i))
        request.blobs.append(Blob(base, part.size, part.data, NO_ARG, way, edge=edge))
        if edge:
            break
    return number


def _iov(*, out: bool, either: bool = False) -> Handler:
    def handler(request: Request, index: int, values: Sequence[int], task: Task) -> None:
        _vector(request, task, request.args[index], values[index + 1], out=out, index=index, either=either)

    return handler


def _message(request: Request, head: bytes, number: int, base: int, task: Task, *, out: bool, comes: Comes) -> None:
    """The parts of the struct msghdr at ``base`` of blob ``number``."""
    name, name_size, iov, iov_count, control, control_size = struct.unpack_from("<QIxxxxQQQQ", head, base)
    beside = Comes.SUCCESS if out else Comes.NOTHING
    for at, addr, size, most in ((0, name, as_c_int(name_size), NAME_SIZE), (32, control, control_size, MOST)):
        part = _varied(request, task, addr, min(size, most), comes=beside, edge=size > most, most=most)
        if part >= 0:
            request.relocations.append((number, part, base + at))
    if iov and iov_count:
        first = len(request.blobs)
        vector = _vector(request, task, iov, iov_count, out=out, comes=comes)
        if vector >= 0:
            request.relocations.append((number, first, base + 16))
    if out:
        request.ranges += [(number, 4, base + 8), (number, 8, base + 40), (number, 4, base + 48)]


def _msg(*, out: bool) -> Handler:
    def handler(request: Request, index: int, values: Sequence[int], task: Task) -> None:
        number = _fixed(request, index, task, 56, goes=True, comes=Comes.SUCCESS if out else Comes.NOTHING)
        if number >= 0:
            head = bytes(request.blobs[number].data or b"")
            _message(request, head, number, 0, task, out=out, comes=Comes.SEQUENCE)

    return handler


def _mmsg(*, out: bool) -> Handler:
    def handler(request: Request, index: int, values: Sequence[int], task: Task) -> None:
        count = values[index + 1]
        if not 0 < count <= IOV_MAX:
            return
        number = _fixed(request, index, task, 64 * count, goes=True, comes=Comes.SUCCESS)
        if number < 0:
            return
        head = bytes(request.blobs[number].data or b"")
        size = 0
        for i in range(count):
            before = len(request.blobs), len(request.relocations), len(request.ranges)
            _message(request, head, number, 64 * i, task, out=out, comes=Comes.SUCCESS)
            request.ranges.append((number, 4, 64 * i + 56))
            size += sum(blob.size for blob in request.blobs[before[0] :])
            if i and (size > MAX_TRANSFER or len(request.blobs) > MAX_BLOBS):
                # the kernel may send or receive fewer messages, but no shorter ones
                del request.blobs[before[0] :], request.relocations[before[1] :], request.ranges[before[2] :]
                request.args = (*request.args[: index + 1], i, *request.args[index + 2 :])
                return

    return handler


# --------------------------------------------------------------------------- calls within calls


def _ioctl(request: Request, index: int, values: Sequence[int], task: Task) -> None:
    code = values[1] & 0xFFFFFFFF
    if (pointing := ioctls.POINTING.get(code)) is not None:
        _pointing(request, index, pointing, task)
        return
    if (trailing := ioctls.TRAILING.get(code)) is not None:
        head = _read(task, request.args[index], trailing.head) or b""
        count = int.from_bytes(head[trailing.count_at : trailing.count_at + trailing.count_size], "little")
        size = trailing.head + count * trailing.entry
        _varied(request, task, request.args[index], size, comes=Comes.ALWAYS, index=index)
        return
    shape = ioctls.describe(code)
    size = max(shape.in_bytes, shape.out_bytes)
    if code not in ioctls.IOCTLS:
        _untold(request, index, shape, task)
    elif size and not shape.by_value:
        _fixed(request, index, task, size, goes=True, comes=Comes.SUCCESS if shape.out_bytes else Comes.NOTHING)


def _untold(request: Request, index: int, shape: ioctls.Shape, task: Task) -> None:
    """A request without a row. One whose number says nothing of memory may nevertheless be given an address, which is tried: the
    kernel fills what it fills, and only that comes back (`Flight.outs`)."""
    addr, size = request.args[index], max(shape.in_bytes, shape.out_bytes) or ROOM
    if shape.by_value and addr < layout.END:
        return
    comes = Comes.ALWAYS if shape.out_bytes or shape.by_value else Comes.NOTHING
    if _varied(request, task, addr, size, comes=comes, index=index, edge=True) < 0 and shape.by_value:
        part = reached(task, addr, size, Direction.IN)
        if part is not None:  # only to be read: what comes back nevertheless cannot be stored, EFAULT
            request.blobs.append(Blob(addr, part.size, part.data, index, comes, edge=True))


def _pointing(request: Request, index: int, pointing: ioctls.Pointing, task: Task) -> None:
    number = _fixed(request, index, task, pointing.size, goes=True, comes=Comes.SUCCESS)
    if number < 0:
        return
    head = bytes(request.blobs[number].data or b"")
    kept = 0
    for at in pointing.offsets:  # the program's own pointers do not come back changed
        request.ranges.append((number, at - kept, kept))
        kept = at + 8
        addr = int.from_bytes(head[at : at + 8], "little")
        comes = Comes.SUCCESS if pointing.out else Comes.NOTHING
        part = _varied(request, task, addr, ROOM, comes=comes, edge=True, most=ROOM)
        if part >= 0:
            request.relocations.append((number, part, at))
    request.ranges.append((number, pointing.size - kept, kept))


def _sockopt_in(request: Request, index: int, values: Sequence[int], task: Task) -> None:
    option, size = (values[1], values[2]), values[4]
    if option not in sockopts.PROGRAMS or size != sockopts.PROGRAM_SIZE:
        _varied(request, task, request.args[index], size, comes=Comes.NOTHING, index=index, edge=option[0] not in sockopts.BYTES)
        return
    number = _fixed(request, index, task, size, goes=True)
    if number >= 0:
        count, addr = struct.unpack("<HxxxxxxQ", bytes(request.blobs[number].data or b""))
        part = _varied(request, task, addr, count * sockopts.INSTRUCTION, comes=Comes.NOTHING)
        if part >= 0:
            request.relocations.append((number, part, 8))


def _sockopt_out(request: Request, index: int, values: Sequence[int], task: Task) -> None:
    option = values[1], values[2]
    told = _read(task, values[index + 1], 4) or b""
    size = int.from_bytes(told, "little", signed=True) * sockopts.COUNTED.get(option, 1)
    edge = option[0] not in sockopts.BYTES or option in sockopts.ARRAYS
    _varied(request, task, request.args[index], size, comes=Comes.SUCCESS, index=index, edge=edge)


def _fcntl(request: Request, index: int, values: Sequence[int], task: Task) -> None:
    arg = commands.fcntl_arg(values[1])
    if arg.kind is Kind.MEMORY:
        comes = Comes.SUCCESS if arg.direction & Direction.OUT else Comes.NOTHING
        _fixed(request, index, task, arg.size(values, lambda _: 0), goes=True, comes=comes)


def _prctl(request: Request, index: int, values: Sequence[int], task: Task) -> None:
    arg = commands.prctl(values[0]).arg
    addr = request.args[index]
    if arg.kind is Kind.STR and addr:
        _varied(request, task, addr, 16, comes=Comes.NOTHING, index=index)
    elif arg.kind is Kind.MEMORY:
        comes = Comes.SUCCESS if arg.direction & Direction.OUT else Comes.NOTHING
        _fixed(request, index, task, arg.size(values, lambda _: 0), goes=True, comes=comes)


def _sigmask(request: Request, index: int, values: Sequence[int], task: Task) -> None:
    _fixed(request, index, task, 8, goes=True)


def _pselect_mask(request: Request, index: int, values: Sequence[int], task: Task) -> None:
    number = _fixed(request, index, task, 16, goes=True)
    if number < 0:
        return
    pointer, size = struct.unpack("<QQ", bytes(request.blobs[number].data or b""))
    if pointer and size == 8:
        data = _read(task, pointer, 8)
        if data is not None:
            request.relocations.append((number, len(request.blobs), 0))
            request.blobs.append(Blob(pointer, 8, data))


def _sigevent(request: Request, index: int, values: Sequence[int], task: Task) -> None:
    number = _fixed(request, index, task, 64, goes=True)
    if number < 0:
        return
    value, _signal, notify = struct.unpack_from("<Qii", bytes(request.blobs[number].data or b""))
    if notify == 2 and value:  # SIGEV_THREAD of message queues: a cookie of 32 bytes
        data = _read(task, value, 32)
        if data is not None:
            request.relocations.append((number, len(request.blobs), 0))
            request.blobs.append(Blob(value, 32, data))


_SEM_STRUCT = {
    2: Comes.SUCCESS, 1: Comes.NOTHING, 18: Comes.SUCCESS, 20: Comes.SUCCESS, 3: Comes.SUCCESS, 19: Comes.SUCCESS,
}  # fmt: skip
_SEM_ARRAYS = {13: Comes.SUCCESS, 17: Comes.NOTHING}  # GETALL, SETALL
_IPC_64 = 0x100
#: struct sched_attr of a program that does not say how long it is (SCHED_ATTR_SIZE_VER0).
_SCHED_ATTR = 48
SEMAPHORES = 1 << 16  # USHRT_MAX, the most that semctl(2) can number


def _semctl(request: Request, index: int, values: Sequence[int], task: Task) -> None:
    command = values[2] & ~_IPC_64
    if command in _SEM_STRUCT:
        _fixed(request, index, task, 36 if command in (3, 19) else 104, goes=True, comes=_SEM_STRUCT[command])
    elif command in _SEM_ARRAYS:
        # the number of semaphores is known only at home: as many as one set may have, cut at the end of the memory
        _varied(request, task, request.args[index], 2 * SEMAPHORES, comes=_SEM_ARRAYS[command], index=index, edge=True)


def _control(sizes: dict[int, tuple[int, Comes]], command_at: int) -> Handler:
    def handler(request: Request, index: int, values: Sequence[int], task: Task) -> None:
        known = sizes.get(values[command_at] & ~_IPC_64)
        if known:
            _fixed(request, index, task, known[0], goes=True, comes=known[1])

    return handler


def _sysfs(request: Request, index: int, values: Sequence[int], task: Task) -> None:
    if values[0] == 1:
        text = _read(task, request.args[index], 64)
        if text is not None:
            request.blobs.append(Blob(request.args[index], 64, text, index))
    elif values[0] == 2 and request.args[2]:
        data = _read(task, request.args[2], 64)
        if data is not None:
            request.blobs.append(Blob(request.args[2], 64, data, 2, Comes.SUCCESS))


def _file_handle(request: Request, index: int, values: Sequence[int], task: Task) -> None:
    head = _read(task, request.args[index], 4) if request.args[index] else None
    if head is not None:
        size = 8 + min(int.from_bytes(head, "little"), 128)
        _fixed(request, index, task, size, goes=True, comes=Comes.ALWAYS)


def _sched_attr(request: Request, index: int, values: Sequence[int], task: Task) -> None:
    """The size comes back even if the call fails (sched_setattr(2), E2BIG), unless it cannot be stored, which is no error then."""
    addr = request.args[index]
    told = int.from_bytes(_read(task, addr, 4) or b"", "little") if addr else 0
    comes = Comes.ALWAYS if addr and task.reach(addr, 4) == 4 else Comes.NOTHING
    part = reached(task, addr, max(told or _SCHED_ATTR, 4), Direction.IN, MOST) if addr else None
    if part is not None and part.size >= 4:
        request.ranges.append((len(request.blobs), 4, 0))
        request.blobs.append(Blob(addr, part.size, part.data, index, comes, edge=part.edge))


def _futex(request: Request, index: int, values: Sequence[int], task: Task) -> None:
    """The futex of an only thread: a copy of its word, which nobody changes meanwhile but the kernel, and the timeout."""
    operation = request.args[1] & FUTEX_COMMAND
    pi = operation in FUTEX_PI
    if request.args[0] % 4 == 0:
        _fixed(request, 0, task, 4, goes=True, comes=Comes.ALWAYS if pi else Comes.NOTHING)
    if operation in FUTEX_WAITS:
        _fixed(request, 3, task, 16, goes=True)
    if operation in FUTEX_REQUEUES and request.args[4] % 4 == 0:
        _fixed(request, 4, task, 4, goes=True, comes=Comes.ALWAYS)


def _nothing(request: Request, index: int, values: Sequence[int], task: Task) -> None:
    """The argument stays an address (or is served elsewhere)."""


HANDLERS: dict[str, Handler] = {
    "iov_in": _iov(out=False),
    "iov_out": _iov(out=True),
    "iov_both": _iov(out=True, either=True),
    "msg_in": _msg(out=False),
    "msg_out": _msg(out=True),
    "mmsg_in": _mmsg(out=False),
    "mmsg_out": _mmsg(out=True),
    "sockopt_in": _sockopt_in,
    "sockopt_out": _sockopt_out,
    "argv": _nothing,
    "ioctl": _ioctl,
    "fcntl": _fcntl,
    "prctl": _prctl,
    "futex": _futex,
    "sigmask": _sigmask,
    "pselect_mask": _pselect_mask,
    "sigevent": _sigevent,
    "semctl": _semctl,
    "shmctl": _control(
        {2: (112, Comes.SUCCESS), 1: (112, Comes.NOTHING), 13: (112, Comes.SUCCESS), 15: (112, Comes.SUCCESS),
         3: (72, Comes.SUCCESS), 14: (48, Comes.SUCCESS)}, 1),
    "msgctl": _control(
        {2: (120, Comes.SUCCESS), 1: (120, Comes.NOTHING), 11: (120, Comes.SUCCESS), 13: (120, Comes.SUCCESS),
         3: (32, Comes.SUCCESS), 12: (32, Comes.SUCCESS)}, 1),
    "sysfs": _sysfs,
    "file_handle": _file_handle,
    "sched_attr": _sched_attr,
}  # fmt: skip
