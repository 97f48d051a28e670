"""Transfers that a move, or the size of a message, cut short: the rest is transferred before the program hears of it.

A blocking write(2), writev(2), sendmsg(2), ... to a pipe or socket that our interruption stopped half-way returns a partial count,
which no program would see natively without a signal; the same goes for reading with MSG_WAITALL. Its registers are set to what
remains, the call is made again, and the sum is returned. Where they point to a vector, the rest of it is laid out in `AREA` of the
low region, which no image contains: `restore` does it again on arrival, from the program's own vector. Each thread has a place of
its own for that (`place`), for several may be cut short by one move. Regular files are not
concerned (their transfers are not interrupted), other reads neither: they return what there is. But one message carries
`MAX_TRANSFER` bytes at most, so whatever call returns just as many away is made again for the rest (`limited`): only regular files
and their like give so much at a time.

sendmmsg(2) ends behind a message that was cut in its middle. The rest of that one and the headers of those behind it are laid out
in `HEADERS`; what the kernel tells there of their lengths comes to the program's own headers.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from enum import Enum, auto
from typing import Any, NamedTuple

from mosfs.abi.args import MAX_BYTES
from mosfs.abi.flags import IOV_MAX, MSG_DONTWAIT, MSG_WAITFORONE
from mosfs.abi.numbers import (
    SYS_PREAD64,
    SYS_PREADV,
    SYS_PREADV2,
    SYS_PWRITE64,
    SYS_PWRITEV,
    SYS_PWRITEV2,
    SYS_READ,
    SYS_READV,
    SYS_RECVFROM,
    SYS_RECVMMSG,
    SYS_RECVMSG,
    SYS_SENDFILE,
    SYS_SENDMMSG,
    SYS_SENDMSG,
    SYS_SENDTO,
    SYS_WRITE,
    SYS_WRITEV,
)
from mosfs.calls.request import MAX_TRANSFER
from mosfs.native.registers import Registers
from mosfs.trace import layout
from mosfs.trace.task import Task, copy_regs

HEADERS = layout.END - layout.CARRY_SIZE
AREA = HEADERS + 64 * IOV_MAX
#: Threads other than the first have less, each for itself, in front of that: one header, and so many entries of a vector. What has
#: more is cut short. Threads behind the last of these places share those of the first.
THREAD_ROOM, THREAD_ENTRIES, PLACES = 0x400, 56, 200
CARRIES = HEADERS - PLACES * THREAD_ROOM & -layout.PAGE
MSG_WAITALL = 0x100
#: r10 of preadv2(2): at the file's own position.
_HERE = (1 << 64) - 1
#: struct msghdr: name, its size, vector, its count, control, its size, flags
_MSGHDR = struct.Struct("<QIxxxxQQQQixxxx")
#: struct mmsghdr: that, and at `_LENGTH` how many bytes were sent
_MMSGHDR_SIZE, _LENGTH = 64, 56
#: `Carry.done` of `Shape.SENT`: whole messages, and shifted by this the bytes of the next one.
_BYTES = 16


class Shape(Enum):
    """Where a call says how much it transfers."""

    BYTES = auto()  # rsi: memory, rdx: its size
    BYTES_AT = auto()  # the same, r10: where in the file
    VECTOR = auto()  # rsi: struct iovec[], rdx: how many
    VECTOR_AT = auto()  # the same, r10: where in the file
    MESSAGE = auto()  # rsi: struct msghdr
    MESSAGES = auto()  # rsi: struct mmsghdr[], rdx: how many; the result counts them
    SENT = auto()  # the same, and the last one may have been cut
    COUNT = auto()  # r10: how much; positions move along by themselves


#: Calls that transfer everything unless a signal comes.
_WHOLE = {
    SYS_WRITE: Shape.BYTES, SYS_SENDTO: Shape.BYTES, SYS_WRITEV: Shape.VECTOR, SYS_SENDMSG: Shape.MESSAGE,
    SYS_SENDMMSG: Shape.SENT, SYS_SENDFILE: Shape.COUNT,
}  # fmt: skip
#: The same when asked by MSG_WAITALL: recvfrom (flags in r10), recvmsg (flags in rdx).
_WAITALL = {SYS_RECVFROM: (Shape.BYTES, 2), SYS_RECVMSG: (Shape.MESSAGE, 1)}
#: Calls that are cut by nothing but the size of a message.
_LONG = {
    SYS_READ: Shape.BYTES, SYS_PREAD64: Shape.BYTES_AT, SYS_PWRITE64: Shape.BYTES_AT, SYS_READV: Shape.VECTOR,
    SYS_PREADV: Shape.VECTOR_AT, SYS_PWRITEV: Shape.VECTOR_AT, SYS_PREADV2: Shape.VECTOR_AT, SYS_PWRITEV2: Shape.VECTOR_AT,
}  # fmt: skip
#: Calls whose result may have to be completed after an interruption.
CALLS = frozenset({*_WHOLE, *_WAITALL, SYS_RECVMMSG})


class Carry(NamedTuple):
    """``done`` bytes (messages, of `Shape.MESSAGES`; see `_BYTES`) are transferred; the others are what the program passed."""

    done: int
    rsi: int
    rdx: int
    r10: int


class Room(NamedTuple):
    """Where the rest of a call is laid out: headers of messages, and a vector of so many entries."""

    headers: int
    messages: int
    area: int
    entries: int


def place(slot: int) -> int:
    """`Task.carries_at` of the thread number ``slot``, 0 for the first of its process."""
    return CARRIES + (slot - 1) * THREAD_ROOM if 0 < slot <= PLACES else 0


def room(task: Task) -> Room:
    at = task.carries_at
    return Room(at, 1, at + _MMSGHDR_SIZE, THREAD_ENTRIES) if at else Room(HEADERS, IOV_MAX, AREA, IOV_MAX)


def _laid_out(at: int) -> bool:
    return CARRIES <= at < layout.END


def _shape(nr: int, rdx: int, r10: int) -> Shape | None:
    if nr in _WAITALL:
        shape, at = _WAITALL[nr]
        return shape if (0, rdx, r10)[at] & MSG_WAITALL else None
    if nr == SYS_RECVMMSG:  # it waits for as many as it is asked for, unless one of these flags (in r10) says otherwise
        return None if r10 & (MSG_DONTWAIT | MSG_WAITFORONE) else Shape.MESSAGES
    return _WHOLE.get(nr) or _LONG.get(nr)


def vector(task: Task, at: int, count: int) -> list[tuple[int, int]]:
    """(address, length) of each struct iovec."""
    return list(struct.iter_unpack("<QQ", task.read(at, 16 * count))) if 0 < count <= IOV_MAX else []


def _asked(task: Task, shape: Shape, rsi: int, rdx: int, r10: int) -> int:
    try:
        if shape is Shape.MESSAGE:
            fields = _MSGHDR.unpack(task.read(rsi, _MSGHDR.size))
            rsi, rdx, shape = fields[2], fields[3], Shape.VECTOR
        if shape in (Shape.VECTOR, Shape.VECTOR_AT):
            return min(sum(length for _, length in vector(task, rsi, rdx)), MAX_BYTES)
    except OSError:
        return 0
    return min(r10 if shape is Shape.COUNT else rdx, MAX_BYTES)


def cut_short(task: Task, nr: int, regs: Registers, result: int) -> bool:
    """``result`` of the call in ``regs`` is less than the program asked for."""
    if nr not in CALLS or result <= 0:
        return False
    return _less(task, nr, regs, result)


def limited(task: Task, nr: int, regs: Registers, result: int) -> bool:
    """``result`` of the forwarded call in ``regs`` is as much as one message carries, and the program asked for more."""
    return result == MAX_TRANSFER and _less(task, nr, regs, result)


def _less(task: Task, nr: int, regs: Registers, result: int) -> bool:
    shape = _shape(nr, regs.rdx, regs.r10)
    if shape is None:
        return False
    less = result < _asked(task, shape, regs.rsi, regs.rdx, regs.r10)
    return less or (shape is Shape.SENT and _cut_at(task, regs.rsi + _MMSGHDR_SIZE * (result - 1)) > 0)


def _cut_at(task: Task, header: int) -> int:
    """How many bytes were sent of the message with the struct mmsghdr at ``header``; 0 if that is all of it."""
    try:
        sent = int.from_bytes(task.read(header + _LENGTH, 4), "little")
        return sent if sent < _asked(task, Shape.MESSAGE, header, 0, 0) else 0
    except OSError:
        return 0


def remainder(task: Task, nr: int, before: Any, result: int, carry: Carry | None) -> tuple[Any, Carry]:
    """Registers before the call for the rest, and what to remember. ``before`` are those that led to ``result``."""
    first = carry or Carry(0, before.rsi, before.rdx, before.r10)
    after = first._replace(done=_done(task, nr, result, first))
    regs = copy_regs(before)
    regs.rsi, regs.rdx, regs.r10 = rest(task, nr, after)
    return regs, after


def _done(task: Task, nr: int, result: int, carry: Carry) -> int:
    """`Carry.done` when another part has given ``result``; headers that were laid out are told to the program's own."""
    if result <= 0 or _shape(nr, carry.rdx, carry.r10) is not Shape.SENT:
        return carry.done + max(result, 0)
    messages, cut = _split(carry.done)
    header = carry.rsi + _MMSGHDR_SIZE * messages
    if cut:
        for at in range(0, _MMSGHDR_SIZE * result, _MMSGHDR_SIZE):
            sent = int.from_bytes(task.read(room(task).headers + at + _LENGTH, 4), "little") + (0 if at else cut)
            task.write(header + at + _LENGTH, sent.to_bytes(4, "little"))
    cut = _cut_at(task, header + _MMSGHDR_SIZE * (result - 1))
    return messages + result - (cut > 0) | cut << _BYTES


def _split(done: int) -> tuple[int, int]:
    """Whole messages, and bytes of the next."""
    return done & (1 << _BYTES) - 1, done >> _BYTES


def rest(task: Task, nr: int, carry: Carry) -> tuple[int, int, int]:
    """rsi, rdx and r10 for what remains; vectors are laid out in `AREA`, or in the place of the thread."""
    done, rsi, rdx, r10 = carry
    area = room(task).area
    match _shape(nr, rdx, r10):
        case Shape.BYTES:
            return rsi + done, _left(rdx, done), r10
        case Shape.BYTES_AT:
            return rsi + done, _left(rdx, done), r10 + done
        case Shape.MESSAGES:
            return rsi + _MMSGHDR_SIZE * done, rdx - done, r10
        case Shape.SENT:
            messages, cut = _split(done)
            rsi, rdx = rsi + _MMSGHDR_SIZE * messages, rdx - messages
            return (*(_lay_out_messages(task, rsi, rdx, cut) if cut else (rsi, rdx)), r10)
        case Shape.COUNT:
            return rsi, rdx, _left(r10, done)
        case Shape.VECTOR_AT:
            return area, _lay_out(task, area, vector(task, rsi, rdx), done), r10 if r10 == _HERE else r10 + done
        case Shape.VECTOR:
            return area, _lay_out(task, area, vector(task, rsi, rdx), done), r10
        case Shape.MESSAGE:
            return _lay_out_message(task, area, area + _MSGHDR.size, rsi, done), rdx, r10
    return rsi, rdx, r10


def _lay_out_message(task: Task, to: int, area: int, header: int, done: int) -> int:
    """Write at ``to`` the struct msghdr at ``header`` without its first ``done`` bytes, its vector at ``area``; ``to``."""
    _name, _size, at, count, _control, _room, flags = _MSGHDR.unpack(task.read(header, _MSGHDR.size))
    left = _lay_out(task, area, vector(task, at, count), done)
    # names and control data belong to the first part
    task.write(to, _MSGHDR.pack(0, 0, area, left, 0, 0, flags))
    return to


def _lay_out_messages(task: Task, headers: int, count: int, cut: int) -> tuple[int, int]:
    """The same for ``count`` of struct mmsghdr, the first without ``cut`` bytes: where they are, and how many."""
    to, most, area, _ = room(task)
    task.write(to, task.read(headers, _MMSGHDR_SIZE * min(count, most)))
    return _lay_out_message(task, to, area, headers, cut), min(count, most)


def _left(asked: int, done: int) -> int:
    return min(asked, MAX_BYTES) - done


def remaining(vector: Sequence[tuple[int, int]], done: int) -> Iterator[tuple[int, int]]:
    """(address, length) of what the kernel would transfer of ``vector`` behind its first ``done`` bytes."""
    most = MAX_BYTES
    for base, asked in vector:
        length = min(asked, most)
        most -= length
        skipped = min(done, length)
        done -= skipped
        if length > skipped:
            yield base + skipped, length - skipped


def _lay_out(task: Task, at: int, vector: Sequence[tuple[int, int]], done: int) -> int:
    """Write what remains of ``vector`` behind its first ``done`` bytes; how many entries that are."""
    left = [struct.pack("<QQ", *piece) for piece in remaining(vector, done)][: room(task).entries]
    task.write(at, b"".join(left))
    return len(left)


def restore(task: Task, regs: Registers, carry: Carry | None) -> None:
    """The program has arrived with the call of ``regs`` to be made again: its rest is laid out, in the thread's place here."""
    if carry is None:
        return
    nr = int(regs.rax)
    left, ours = rest(task, nr, carry), concerns(carry, nr, regs)
    if ours:
        regs.rsi, regs.rdx, regs.r10 = left


def taken_up(task: Task, regs: Registers, said: Sequence[int] | None) -> Carry | None:
    """`restore` by what an image says of the transfer, a `Carry` in numbers; what it goes on with."""
    carry = Carry(*said) if said is not None else None
    restore(task, regs, carry)
    return carry


def concerns(carry: Carry, nr: int, regs: Registers) -> bool:
    """The call in ``regs`` is the one that was cut short (and not one that a signal handler makes meanwhile)."""
    match _shape(nr, carry.rdx, carry.r10):
        case Shape.BYTES | Shape.BYTES_AT:
            return bool(regs.rsi == carry.rsi + carry.done)
        case Shape.MESSAGES:
            return bool(regs.rsi == carry.rsi + _MMSGHDR_SIZE * carry.done)
        case Shape.SENT:
            messages, cut = _split(carry.done)
            return _laid_out(regs.rsi) if cut else bool(regs.rsi == carry.rsi + _MMSGHDR_SIZE * messages)
        case Shape.COUNT:
            return bool(regs.rsi == carry.rsi and regs.r10 == _left(carry.r10, carry.done))
        case Shape.VECTOR | Shape.VECTOR_AT | Shape.MESSAGE:
            return _laid_out(regs.rsi)
    return False


def total(task: Task, nr: int, result: int, carry: Carry) -> int:
    """What the program hears: an error of the rest is forgotten, its next call will meet it. A cut message counts (sendmmsg(2))."""
    done = _done(task, nr, result, carry)
    if _shape(nr, carry.rdx, carry.r10) is not Shape.SENT:
        return done
    messages, cut = _split(done)
    return messages + (cut > 0)


def put_back(regs: Registers, carry: Carry) -> None:
    """The arguments as the program passed them."""
    regs.rsi, regs.rdx, regs.r10 = carry.rsi, carry.rdx, carry.r10
