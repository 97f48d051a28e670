"""A forwarded call on the wire: registers, and the memory that its pointers reach, as blobs.

::

    CALL   nr i32, blobs u16, relocations u16, ranges u16, 0 u16, signals seen u32, args 6 x u64, mask u64
           per blob: address u64, size u32, bytes sent u32, argument u8 (255: none), rule u8 (128: edge), factor u16, plus u32
           per relocation: blob u16, target blob u16, offset u32      a pointer inside a blob
           per range: blob u16, length u16, offset u32                only these parts of the blob come back
           the sent bytes of all blobs
    REPLY  result i64, outs u16, flags u16, pad u32;  per out: address u64, size u32;  their bytes

The deputy's side places the blobs in its scratch memory, turns the pointers, makes the call, and returns what the rules
say to the addresses the program used. Little-endian, no padding.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from mosfs.abi.flags import MSG_ZEROCOPY
from mosfs.abi.numbers import SYS_SENDMMSG, SYS_SENDMSG, SYS_SENDTO, SYS_VMSPLICE

CALL_HEAD = struct.Struct("<i4HI7Q")
BLOB = struct.Struct("<QIIBBHI")
RELOCATION = struct.Struct("<HHI")
RANGE = struct.Struct("<HHI")
REPLY_HEAD = struct.Struct("<qHHI")
OUT = struct.Struct("<QI")
NO_ARG = 255
#: Flag of REPLY: the result is a value, even if it looks like one of the kernel's requests to make the call again.
VALUE = 1
#: In the rule of a blob: `Blob.edge`.
EDGE = 128
PAGE = 4096
#: Shorter memory is no buffer of O_DIRECT (open(2)), whose place within a page counts.
BLOCK = 512
#: Most edges of one call: each costs the deputy a call of its own. So many have 1024 messages with names and control data.
MAX_EDGES = 3 * 1024

#: Longest transfer of one forwarded call; longer ones are several (`partial.limited`).
MAX_TRANSFER = 32 << 20


#: Which argument of a call has the flags of send(2).
_SENDS = {SYS_SENDTO: 3, SYS_SENDMSG: 2, SYS_SENDMMSG: 3}


class Comes(IntEnum):
    """What comes back of a blob."""

    NOTHING = 0
    SUCCESS = 1  # all of it, if the call succeeded
    RETURNED = 2  # the first result * factor + plus bytes
    ALWAYS = 3
    SEQUENCE = 4  # the result's bytes, spread over all blobs of this rule in order


@dataclass(slots=True)
class Blob:
    """Memory that a call reaches. ``data`` is None when nothing needs to be sent.

    ``edge``: the byte behind it must not be reached, because it cannot be by the program, or because nobody knows how far the
    kernel goes: the kernel itself finds that, and does what it does natively (a partial transfer, EFAULT).
    """

    addr: int
    size: int
    data: bytes | bytearray | None = None
    arg: int = NO_ARG
    comes: Comes = Comes.NOTHING
    factor: int = 1
    plus: int = 0
    edge: bool = False


@dataclass(slots=True)
class Request:
    """One call. ``relocations`` are (blob, target blob, offset), ``ranges`` (blob, length, offset)."""

    nr: int
    args: tuple[int, ...]
    mask: int
    blobs: list[Blob] = field(default_factory=list)
    relocations: list[tuple[int, int, int]] = field(default_factory=list)
    ranges: list[tuple[int, int, int]] = field(default_factory=list)

    def argument(self, number: int) -> Blob | None:
        """The memory that argument ``number`` points to."""
        return next((blob for blob in self.blobs if blob.arg == number), None)

    def memory(self, number: int) -> bytes | None:
        """What is known of it: what goes to the kernel."""
        blob = self.argument(number)
        return None if blob is None or blob.data is None else bytes(blob.data)

    def pack(self, seen: int = 0) -> bytes:
        """``seen``: how many SIGNAL frames the body's host had received when the call was made."""
        counts = (len(self.blobs), len(self.relocations), len(self.ranges), 0, seen & 0xFFFFFFFF)
        parts = [CALL_HEAD.pack(self.nr, *counts, *self.args, self.mask)]
        data: list[bytes | bytearray] = []
        for b in self.blobs:
            sent = 0
            if b.data is not None:
                sent = len(b.data)
                data.append(b.data)
            parts.append(BLOB.pack(b.addr, b.size, sent, b.arg, b.comes | (EDGE if b.edge else 0), b.factor, b.plus))
        parts += [RELOCATION.pack(*r) for r in self.relocations]
        parts += [RANGE.pack(*r) for r in self.ranges]
        return b"".join([*parts, *data])


class BadRequest(Exception):
    """A peer sent something that is no call."""


def signals_seen(payload: bytes) -> int:
    """The number given to `Request.pack`."""
    if len(payload) < CALL_HEAD.size:
        raise BadRequest("length")
    return int.from_bytes(payload[12:16], "little")


def unpack(payload: bytes) -> Request:
    """The inverse of `Request.pack`; BadRequest when lengths do not fit."""
    try:
        nr, blobs, relocations, ranges, _zero, _seen, *rest = CALL_HEAD.unpack_from(payload)
        at = CALL_HEAD.size
        heads = []
        for _ in range(blobs):
            heads.append(BLOB.unpack_from(payload, at))
            at += BLOB.size
        moved = []
        for _ in range(relocations):
            moved.append(RELOCATION.unpack_from(payload, at))
            at += RELOCATION.size
        parts = []
        for _ in range(ranges):
            parts.append(RANGE.unpack_from(payload, at))
            at += RANGE.size
        found = []
        for addr, size, sent, arg, comes, factor, plus in heads:
            data = None
            if sent:
                data = payload[at : at + sent]
                at += sent
            if sent > size or (arg > 5 and arg != NO_ARG):
                raise BadRequest("blob")
            found.append(Blob(addr, size, data, arg, Comes(comes & ~EDGE), factor, plus, comes >= EDGE))
    except (struct.error, ValueError) as error:
        raise BadRequest(str(error)) from error
    if at != len(payload) or sum(blob.edge for blob in found) > MAX_EDGES:
        raise BadRequest("length")
    for blob, target, offset in moved:
        if blob >= blobs or target >= blobs or offset + 8 > found[blob].size:
            raise BadRequest("relocation")
    for blob, length, offset in parts:
        if blob >= blobs or offset + length > found[blob].size:
            raise BadRequest("range")
    return Request(nr, tuple(rest[:6]), rest[6], found, moved, parts)


def pack_reply(result: int, outs: Sequence[tuple[int, bytes | memoryview]], flags: int = 0) -> bytes:
    if not outs:
        return REPLY_HEAD.pack(result, 0, flags, 0)
    heads = b"".join(OUT.pack(addr, len(data)) for addr, data in outs)
    return b"".join((REPLY_HEAD.pack(result, len(outs), flags, 0), heads, *(data for _, data in outs)))


def unpack_reply(payload: bytes) -> tuple[int, int, list[tuple[int, bytes]]]:
    """(result, flags, [(address, bytes)]); BadRequest when lengths do not fit."""
    try:
        result, count, flags, _ = REPLY_HEAD.unpack_from(payload)
        at = REPLY_HEAD.size
        heads = [OUT.unpack_from(payload, at + i * OUT.size) for i in range(count)]
    except struct.error as error:
        raise BadRequest(str(error)) from error
    at += count * OUT.size
    outs = []
    for addr, size in heads:
        outs.append((addr, payload[at : at + size]))
        at += size
    if at != len(payload):
        raise BadRequest("length")
    return result, flags, outs


def changed(before: bytes | bytearray, after: bytes) -> tuple[int, int]:
    """From where to where ``after`` differs. Of memory of which nobody knows how much a call fills no more is stored: another
    thread may have changed the rest."""
    differ = [i for i, (a, b) in enumerate(zip(before, after)) if a != b] if bytes(before) != after else []
    return (differ[0], differ[-1] + 1) if differ else (0, 0)


def is_kept(request: Request) -> bool:
    """The kernel may go on reading the memory when the call is over (MSG_ZEROCOPY, vmsplice(2)): nothing else can be there."""
    at = _SENDS.get(request.nr)
    if request.nr == SYS_VMSPLICE:
        return True
    return at is not None and bool(request.args[at] & MSG_ZEROCOPY)


def returned(blobs: list[Blob], result: int) -> list[tuple[int, int]]:
    """(blob index, bytes that come back) of each blob with any; ``result`` is the call's signed value."""
    found = []
    left = max(result, 0)
    for i, b in enumerate(blobs):
        comes = b.comes
        if comes is Comes.NOTHING:
            continue
        if comes is Comes.ALWAYS:
            size = b.size
        elif result < 0:
            continue
        elif comes is Comes.SUCCESS:
            size = b.size
        elif comes is Comes.RETURNED:
            size = min(b.size, result * b.factor + b.plus)
        else:
            size = min(b.size, left)
            left -= size
        if size > 0:
            found.append((i, size))
    return found


def arrange(blobs: Sequence[Blob]) -> tuple[list[int], list[int], int]:
    """Where blobs are placed for a call: (offset of each, offsets of the pages that must not be reached, bytes in all).

    Offsets count from the beginning of a page. Memory keeps its place within a page, which O_DIRECT looks at; the end of what has
    an edge is the end of a page.
    """
    places, barred, total = [], [], 0
    for blob in blobs:
        if blob.edge:
            end = (total + blob.size + PAGE - 1) & -PAGE
            places.append(end - blob.size)
            barred.append(end)
            total = end + PAGE
        else:
            start = total + (blob.addr - total) % (PAGE if blob.size >= BLOCK else 16)
            places.append(start)
            total = start + blob.size + 16
    return places, barred, total
