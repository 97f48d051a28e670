"""Frames of a data channel: a 16-byte header in the clear (authenticated), then a payload. Little-endian.

========  ====  =====================================================
length    u32   of the payload
kind      u16   `Kind`
flags     u16   of the kind
pair      u64   home PID of the program the frame is about
========  ====  =====================================================
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, IntEnum, auto
from typing import Any, NamedTuple

import msgspec

from mosfs.wire import orders
from mosfs.wire.orders import LARGEST

HEADER = struct.Struct("<IHHQ")
MAX_PAYLOAD = 64 << 20
#: FORK_REPLY: result of the fork, the deputy's descriptor of the child (-1: not asked for), and the child's CPU_ALARM.
FORK_REPLY = struct.Struct("<qi2Q")


class Kind(IntEnum):
    """Who sends it, and when (states: `docs/design/migration.md`)."""

    # image, in either direction
    IMAGE = 1  # ImageMeta; what follows until IMAGE_END belongs to it
    PAGES = 2  # PAGES header and raw pages
    IMAGE_END = 3  # number of PAGES frames
    READY = 4  # receiver: the body stands complete
    FAIL = 5  # receiver: it cannot be built, reason as text
    EARLY = 6  # pre-copy: mappings to make, (start, end, grows down); none: forget all that was sent
    ROUND = 7  # pre-copy: the end of a round; the receiver sends it back when it is done
    FILE = 9  # contents of a file that the program maps (`migrate.filecopy`), before the image or whenever they change
    PRIVATE = 70  # contents of a private file (`ptf.travel`), before the image
    # tracer -> host
    GO = 16  # after READY: run
    REPLY = 17  # outcome of CALL
    SIGNAL = 18  # siginfo for a handler of the body
    STOP = 19  # group stop: do not run
    CONT = 20
    RECALL = 21  # send the image home
    MOVE_TO = 22  # send the image to another host
    RESUME = 23  # the move failed: go on here
    DROP = 24  # the body is not wanted any more
    FORK_REPLY = 25
    CLOCK = 26  # home time
    ABOUT = 27  # settings and statistics of the program
    EXECED = 28  # exec succeeded at home: the body is dropped, a new image follows
    MMAP_DATA = 29
    MAIL_TABLE = 40  # the program's descriptors for direct communication
    COPY = 30  # pre-copy to the host of this MoveOrder
    STAYED = 31  # STEP_OUT is not followed: reason
    CPU_ALARM = 32  # CPU time as in CPU_TIME, in all and of user: tell when it is reached; in the other direction: it is
    FETCH = 71  # before EXECED: send the private files home
    # host -> tracer
    CALL = 48
    FORK = 49
    EXEC = 50
    DIED = 51  # the body died here: wait status
    CANNOT = 52  # RECALL or MOVE_TO cannot be served: reason; the body goes on
    STEP_OUT = 53  # this node wants the guest to leave: where to and why, nothing for home
    MMAP = 55
    WANT = 67  # more of a file that the body maps (`migrate.filecopy.WANT`): FILE and a REPLY
    USED = 56  # CPU time and memory, once a second while there is any
    PREPARED = 61  # the host stands, with an empty body: the program may be stopped now (pair 0)
    CPU_TIME = 57  # CPU time that the program has used away so far: ns of user, ns of system, u64 each
    MMAP_NAME = 54  # tracer -> host, before the REPLY to MMAP: number of the file u32 (0: what it shows comes as MMAP_DATA), name
    SHOWN = 64  # text of a file in /proc about the body's memory, of which an open follows
    TITLE = 65  # arguments and environment, where the program has written over them
    RUNNING = 60  # after GO: the body runs, the move is committed
    COPIED = 62  # pre-copy: what is left may be sent now (MOVE_TO)
    MASK = 58  # the body has blocked signals: its mask
    MAIL_SEEN = 72  # what the program's calls on its mailbox have changed, before it matters at home
    MANIFEST = 75  # after FETCH and the files: what they are
    PRIVATE_OPEN = 73  # a descriptor for a private file is wanted (`orders.PrivateOpen`)
    PRIVATE_FULL = 74  # a write to a private file does not fit here: the body waits in it, to make it at home
    ASK_CLOCK = 63  # what is your time? Our CLOCK_MONOTONIC, which comes back with CLOCK
    RESET = 59  # a handler with SA_RESETHAND was called: its signal


def kind_name(number: int) -> str:
    """Of any number."""
    try:
        return Kind(number).name
    except ValueError:
        return f"#{number}"


class Frame(NamedTuple):
    """``content``: what the payload says, of kinds whose `Shape` has one."""

    kind: int
    flags: int
    pair: int
    payload: bytes
    content: Any = None


class To(Enum):
    """Which end of which channel receives."""

    TRACER = auto()
    HOST = auto()
    NEXT_HOST = auto()  # of a channel between two hosts, for one image
    OLD_HOST = auto()


class BadFrame(ValueError):
    """What came is no frame that this end of a channel can get; the text says why."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What a frame of one kind may be.

    ``to``: the ends that may get it; ``least``, ``most``: bytes of its payload; ``content``: makes `Frame.content` of the payload,
    raising what `check` knows; ``any_pair``: it is about a whole channel; ``flags``: the most.
    """

    to: tuple[To, ...]
    least: int = 0
    most: int = 0
    content: Callable[[bytes], Any] | None = None
    any_pair: bool = False
    flags: int = 0


#: PID_MAX_LIMIT of 64-bit kernels (proc(5)).
LAST_PID = 1 << 22
#: Bytes of a reason, of a name as readlink(2) gives it, and of a structure that has no list.
TEXT, NAME, STRUCT = 4096, 8192, 64 << 10
#: Bytes of a piece of memory or of a file, with the header before it.
PIECE = 256 * 1024 + 64
#: Bytes before the blobs of a CALL, before those of a REPLY (`mosfs.calls.request`).
CALL_HEAD, REPLY_HEAD = 72, 16
SIGINFO, SIGNALS = 128, 64


def _text(payload: bytes) -> str:
    return payload.decode("utf-8", "replace")


def _of(kind: Any) -> Callable[[bytes], Any]:
    return msgspec.msgpack.Decoder(kind).decode


def _number(layout: str, least: int, most: int) -> Callable[[bytes], int]:
    number = struct.Struct(layout)

    def decode(payload: bytes) -> int:
        value: int = number.unpack(payload)[0]
        if not least <= value <= most:
            raise BadFrame(f"{value} is out of range")
        return value

    return decode


def _siginfo(payload: bytes) -> bytes:
    if not 1 <= int.from_bytes(payload[:4], "little", signed=True) <= SIGNALS:
        raise BadFrame("no such signal")
    return payload


def _wait_status(payload: bytes) -> int:
    """Of a body that has ended (waitpid(2)): the signal, or a status of exit."""
    status = _number("<i", 0, 0xFFFF)(payload[:4])
    if status & 0x7F > SIGNALS:
        raise BadFrame("no such signal")
    return status


def _times(payload: bytes) -> tuple[int, int]:
    user, system = struct.unpack("<2Q", payload)
    if max(user, system) >= LARGEST:
        raise BadFrame("no CPU time is so long")
    return user, system


def _alarm(payload: bytes) -> tuple[int, int] | None:
    """None: it has rung."""
    return _times(payload) if payload else None


def _out_order(payload: bytes) -> orders.OutOrder:
    return _out(payload) if payload else orders.OutOrder("")


_out = _of(orders.OutOrder)
_IMAGE = (To.HOST, To.TRACER, To.NEXT_HOST)
_HOST, _TRACER = (To.HOST,), (To.TRACER,)

#: The one table of what may come over a channel (docs/design/migration.md).
SHAPES: dict[int, Shape] = {
    Kind.IMAGE: Shape(_IMAGE, 1, MAX_PAYLOAD),
    Kind.PAGES: Shape(_IMAGE, 24, PIECE),
    Kind.IMAGE_END: Shape(_IMAGE, 8, 8, _number("<Q", 0, LARGEST)),
    Kind.READY: Shape(_TRACER),
    Kind.FAIL: Shape(_TRACER, 0, TEXT, _text),
    Kind.EARLY: Shape(_IMAGE, 1, MAX_PAYLOAD),
    Kind.ROUND: Shape((*_IMAGE, To.OLD_HOST), flags=1),
    Kind.PRIVATE: Shape(_IMAGE, 32, PIECE),
    Kind.FILE: Shape((To.HOST, To.NEXT_HOST), 24, PIECE),
    Kind.ASK_CLOCK: Shape(_TRACER, 8, 8, _number("<Q", 0, (1 << 64) - 1), any_pair=True),
    Kind.GO: Shape(_HOST, 1, STRUCT, _of(orders.GoTimes)),
    Kind.REPLY: Shape(_HOST, REPLY_HEAD, MAX_PAYLOAD, flags=0xFFFF),
    Kind.SIGNAL: Shape(_HOST, SIGINFO, SIGINFO, _siginfo),
    Kind.STOP: Shape(_HOST),
    Kind.CONT: Shape(_HOST),
    Kind.RECALL: Shape(_HOST),
    Kind.MOVE_TO: Shape(_HOST, 1, STRUCT, _of(orders.MoveOrder)),
    Kind.RESUME: Shape(_HOST),
    Kind.DROP: Shape((To.HOST, To.NEXT_HOST)),
    Kind.FORK_REPLY: Shape(_HOST, FORK_REPLY.size, FORK_REPLY.size, FORK_REPLY.unpack),
    Kind.CLOCK: Shape(_HOST, 1, STRUCT, _of(orders.GoTimes), any_pair=True),
    Kind.ABOUT: Shape(_HOST, 1, STRUCT, _of(orders.About)),
    Kind.EXECED: Shape(_HOST),
    Kind.MMAP_DATA: Shape(_HOST, 8, PIECE),
    Kind.MMAP_NAME: Shape(_HOST, 4, NAME),
    Kind.MAIL_TABLE: Shape(_HOST, 1, MAX_PAYLOAD, _of(orders.MailTable)),
    Kind.COPY: Shape(_HOST, 1, STRUCT, _of(orders.MoveOrder)),
    Kind.STAYED: Shape(_HOST, 0, TEXT, _text),
    Kind.CPU_ALARM: Shape((To.HOST, To.TRACER), 0, 16, _alarm),
    Kind.FETCH: Shape(_HOST),
    Kind.CALL: Shape(_TRACER, CALL_HEAD, MAX_PAYLOAD, flags=0xFFFF),
    Kind.FORK: Shape(_TRACER, 1, STRUCT, _of(orders.ForkOrder)),
    Kind.EXEC: Shape(_TRACER, 1, MAX_PAYLOAD, _of(orders.ExecOrder), flags=0xFFFF),
    Kind.DIED: Shape(_TRACER, 4, SIGINFO, _wait_status, flags=1),
    Kind.WANT: Shape(_TRACER, 20, 20, flags=0xFFFF),
    Kind.CANNOT: Shape(_TRACER, 0, TEXT, _text),
    Kind.STEP_OUT: Shape(_TRACER, 0, STRUCT, _out_order),
    Kind.MMAP: Shape(_TRACER, 1, STRUCT, _of(orders.MmapOrder), flags=0xFFFF),
    Kind.USED: Shape(_TRACER, 1, STRUCT, _of(orders.Used)),
    Kind.PREPARED: Shape(_TRACER, any_pair=True),
    Kind.CPU_TIME: Shape(_TRACER, 16, 16, _times),
    Kind.SHOWN: Shape(_TRACER, 0, MAX_PAYLOAD),
    Kind.TITLE: Shape(_TRACER, 0, 8 << 20),
    Kind.RUNNING: Shape(_TRACER),
    Kind.COPIED: Shape(_TRACER),
    Kind.MASK: Shape(_TRACER, 8, 8, _number("<Q", 0, (1 << 64) - 1)),
    Kind.MAIL_SEEN: Shape(_TRACER, 1, STRUCT, _of(orders.MailSeen)),
    Kind.MANIFEST: Shape(_TRACER, 0, MAX_PAYLOAD),
    Kind.PRIVATE_OPEN: Shape(_TRACER, 1, STRUCT, _of(orders.PrivateOpen), flags=0xFFFF),
    Kind.PRIVATE_FULL: Shape(_TRACER, flags=0xFFFF),
    Kind.RESET: Shape(_TRACER, 4, 4, _number("<i", 1, SIGNALS)),
}


def check(to: To, kind: int, flags: int, pair: int, payload: bytes) -> Any:
    """`Frame.content` of what has come to this end; `BadFrame` if it cannot be meant."""
    shape = SHAPES.get(kind)
    if shape is None or to not in shape.to:
        raise BadFrame(f"frame {kind} does not come here")
    if not shape.least <= len(payload) <= shape.most:
        raise BadFrame(f"frame {kind} of {len(payload)} bytes")
    if not (1 <= pair <= LAST_PID or (shape.any_pair and not pair)) or flags > shape.flags:
        raise BadFrame(f"frame {kind} with pair {pair}, flags {flags:#x}")
    if shape.content is None:
        return None
    try:
        return shape.content(payload)
    except (msgspec.MsgspecError, struct.error, ValueError) as error:
        raise BadFrame(f"frame {kind}: {error}") from error
