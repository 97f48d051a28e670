"""A program's calls on its direct communication descriptors.

Such a descriptor is an unconnected socket of the program's own (so the kernel keeps it over dup, fork and exec, and fstat shows
what a program expects where a pipe could be); its inode number says which one it is. Only the calls below have to be caught,
in a filter of its own (`post_filter`).
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from mosfs.abi.flags import IOV_MAX, O_CLOEXEC, O_NONBLOCK
from mosfs.abi.numbers import (
    SYS_CLOSE,
    SYS_CLOSE_RANGE,
    SYS_CREAT,
    SYS_DUP,
    SYS_DUP2,
    SYS_DUP3,
    SYS_FCNTL,
    SYS_IOCTL,
    SYS_OPEN,
    SYS_OPENAT,
    SYS_OPENAT2,
    SYS_PIDFD_GETFD,
    SYS_READ,
    SYS_READV,
    SYS_RECVMMSG,
    SYS_RECVMSG,
    SYS_SOCKET,
    SYS_WRITE,
    SYS_WRITEV,
)
from mosfs.mbox.body import INLINE, Body
from mosfs.mbox.filters import MAX_MESSAGE
from mosfs.trace import layout
from mosfs.trace.filter import ALLOW, AUDIT_ARCH_X86_64, TRACE, Assembler
from mosfs.trace.proc import descriptor_facts
from mosfs.trace.task import Task

#: Reads, writes and ioctls of a mailbox descriptor are ours; the others may close one.
TRANSFERS = frozenset({SYS_READ, SYS_WRITE, SYS_IOCTL, SYS_READV, SYS_WRITEV})
CLOSING = frozenset({SYS_CLOSE, SYS_DUP2, SYS_DUP3, SYS_CLOSE_RANGE})
CAUGHT = TRANSFERS | CLOSING
#: Calls after which the descriptors of a program may be others.
CHANGING = CLOSING | {
    SYS_OPEN, SYS_IOCTL, SYS_DUP, SYS_SOCKET, SYS_RECVMSG, SYS_FCNTL, SYS_CREAT, SYS_OPENAT, SYS_RECVMMSG, SYS_OPENAT2,
    SYS_PIDFD_GETFD,
}  # fmt: skip

MAX_SENDERS = 128
_CLOSE_RANGE_UNSHARE, _CLOSE_RANGE_CLOEXEC = 2, 4
#: The flags that the kernel knows of calls of `CLOSING`; with others it closes nothing (EINVAL).
_FLAGS = {SYS_DUP3: O_CLOEXEC, SYS_CLOSE_RANGE: _CLOSE_RANGE_UNSHARE | _CLOSE_RANGE_CLOEXEC}


class Endpoint(NamedTuple):
    """What a descriptor is for: sending to process ``pid`` of ``home``, or (``own``) that process's mailbox.

    ``home`` is an address as an unsigned integer in host order. ``pipe``: opened with O_APPEND, as mospipe does: if nobody
    receives, the sender gets SIGPIPE and EPIPE, and a longer write than a message may be is short.
    """

    home: int
    pid: int
    own: bool = False
    pipe: bool = False


class Descriptor(NamedTuple):
    place: Endpoint
    nonblocking: bool = False


def inode(pid: int, fd: int) -> int:
    """Inode number of the socket behind descriptor ``fd`` of a process; 0 if it is no socket."""
    try:
        name = os.readlink(f"/proc/{pid}/fd/{fd}")
    except OSError:
        return 0
    return int(name[8:-1]) if name.startswith("socket:[") else 0


def nonblocking(pid: int, fd: int) -> bool:
    """O_NONBLOCK of a descriptor (proc(5), fdinfo)."""
    try:
        return bool(int(descriptor_facts(pid, fd)[b"flags"], 8) & O_NONBLOCK)
    except (OSError, KeyError):
        return False


def table(pid: int, places: Mapping[int, Endpoint]) -> dict[int, Descriptor]:
    """The direct communication descriptors of a process; ``places`` by inode number."""
    try:
        numbers = [int(name) for name in os.listdir(f"/proc/{pid}/fd")]
    except OSError:
        return {}
    found = {}
    for fd in sorted(numbers):
        place = places.get(inode(pid, fd))
        if place is not None:
            found[fd] = Descriptor(place, nonblocking(pid, fd))
    return found


def survivors(nr: int, args: Sequence[int], fds: Iterable[int], is_open: bool) -> set[int]:
    """Which of ``fds`` are still open after a call of `CLOSING`; ``is_open``: dup2's first descriptor is."""
    left = set(fds)
    first, second, flags = (value & 0xFFFFFFFF for value in args[:3])
    if nr in _FLAGS and flags & ~_FLAGS[nr]:
        return left
    if nr == SYS_CLOSE:
        left.discard(first)
    elif nr in (SYS_DUP2, SYS_DUP3):
        if is_open and first != second and (first not in left):
            left.discard(second)
    elif nr == SYS_CLOSE_RANGE and not flags & _CLOSE_RANGE_CLOEXEC and first <= second:
        left = {fd for fd in left if not first <= fd <= second}
    return left


# --------------------------------------------------------------------------- memory


def vectors(task: Task, nr: int, args: Sequence[int]) -> list[tuple[int, int]]:
    """(address, bytes) of what a read or write transfers; OSError EFAULT or EINVAL."""
    if nr in (SYS_READ, SYS_WRITE):
        return [(args[1], args[2])]
    count = args[2]
    if count > IOV_MAX:
        raise OSError(errno.EINVAL, "iov")
    words = task.read_words(args[1], 2 * count) if count else ()
    return list(zip(words[::2], words[1::2]))


def message_of(pieces: Iterable[tuple[int, int]], *, cut: bool) -> tuple[list[tuple[int, int]], int]:
    """What becomes one message, and its length; OSError EINVAL when that is negative, or too long and not to be ``cut``."""
    kept, found = [], 0
    for at, size in pieces:
        if size >> 63 or (found + size > MAX_MESSAGE and not cut):
            raise OSError(errno.EINVAL, "length")
        size = min(size, MAX_MESSAGE - found)
        kept.append((at, size))
        found += size
    return kept, found


def chunks(pieces: Iterable[tuple[int, int]], size: int, most: int) -> Iterator[tuple[int, int, int]]:
    """(address, offset, bytes) of the first ``size`` bytes of ``pieces``, ``most`` at a time."""
    offset = 0
    for address, length in pieces:
        end = min(offset + length, size)
        start = offset
        while offset < end:
            part = min(most, end - offset)
            yield address + offset - start, offset, part
            offset += part


def gather(task: Task, pieces: Iterable[tuple[int, int]], size: int, file: Callable[[], Body] = Body.file) -> Body:
    """What a program writes, as a message; OSError EFAULT. ``file`` gives one for a long one."""
    if size <= INLINE:
        short = bytearray(size)
        room = memoryview(short)
        for address, offset, part in chunks(pieces, size, size):
            _read(task, address, room[offset : offset + part])
        return Body(bytes(short))
    body = file()
    try:
        gather_into(task, pieces, size, body)
    except BaseException:
        body.close()
        raise
    return body


def gather_into(task: Task, pieces: Iterable[tuple[int, int]], size: int, to: Body) -> None:
    """What a program writes, behind what is in the memory file ``to`` already; OSError EFAULT, and then ``to`` is as before."""
    before = len(to)
    try:
        for address, _, part in chunks(pieces, size, len(_room)):
            room = memoryview(_room)[:part]
            _read(task, address, room)
            to.append(room)
    except BaseException:
        to.size = before
        raise


def scatter(task: Task, pieces: Iterable[tuple[int, int]], body: Body, offset: int, size: int) -> None:
    """``size`` bytes of a message from ``offset`` on, to where a program reads; OSError EFAULT."""
    for address, at, part in chunks(pieces, size, len(_room)):
        room = memoryview(_room)[:part]
        body.read_into(offset + at, room)
        task.write(address, room)


def _read(task: Task, address: int, room: memoryview) -> None:
    if task.read_into(address, room) != len(room):
        raise OSError(errno.EFAULT, "short read")


#: Between the memory of a program and a memory file; used again and again, so it stays in the cache.
_room = bytearray(256 * 1024)


# --------------------------------------------------------------------------- the filter


@lru_cache(maxsize=1)
def post_filter() -> bytes:
    """struct sock_filter[]: stop at the calls of `CAUGHT`, but not at those of the stub."""
    asm = Assembler()
    asm.load(4)
    asm.unless(0x15, AUDIT_ARCH_X86_64, "allow")
    asm.load(0)
    for number in sorted(CAUGHT):
        asm.when(0x15, number, "caught")
    asm.goto("allow")
    asm.label("caught")
    asm.load(8)
    asm.unless(0x15, layout.STUB_AFTER, "trace")
    asm.load(12)
    asm.unless(0x15, 0, "trace")
    asm.label("allow")
    asm.ret(ALLOW)
    asm.label("trace")
    asm.ret(TRACE)
    return b"".join(insn.pack() for insn in asm.assemble())


def filter_argument(program: bytes, at: int) -> bytes:
    """struct sock_fprog for a filter that lies at ``at``."""
    return struct.pack("<HxxxxxxQ", len(program) // 8, at)
