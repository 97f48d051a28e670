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
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum, IntEnum, auto
from typing import Any, NamedTuple

import msgspec

from mosfs.wire import orders
from mosfs.wire.fields import MALFORMED
from mosfs.wire.orders import LARGEST

HEADER = struct.Struct("<IHHQ")
MAX_PAYLOAD = 64 << 20
#: FORK_REPLY: result of the fork, the deputy's descriptor of the child (-1: not asked for), and the child's CPU_ALARM.
FORK_REPLY = struct.Struct("<qi2Q")


class Kind(IntEnum):
    """What a frame is; `SHAPES` says all about each (states: `docs/design/migration.md`). A number is never used again."""

    IMAGE = 1
    PAGES = 2
    IMAGE_END = 3
    READY = 4
    FAIL = 5
    EARLY = 6
    ROUND = 7
    FILE = 9
    RUNS = 10
    SAME = 11
    PRIVATE = 70
    GO = 16
    REPLY = 17
    SIGNAL = 18
    STOP = 19
    CONT = 20
    RECALL = 21
    MOVE_TO = 22
    RESUME = 23
    DROP = 24
    FORK_REPLY = 25
    CLOCK = 26
    ABOUT = 27
    EXECED = 28
    MMAP_DATA = 29
    MAIL_TABLE = 40
    COPY = 30
    STAYED = 31
    CPU_ALARM = 32
    TIME = 33
    FETCH = 71
    SHOW = 76
    CALL = 48
    FORK = 49
    EXEC = 50
    DIED = 51
    CANNOT = 52
    STEP_OUT = 53
    MMAP = 55
    WANT = 67
    USED = 56
    PREPARED = 61
    CPU_TIME = 57
    THREAD_TIME = 79
    MMAP_NAME = 54
    SHOWN = 64
    TITLE = 65
    RUNNING = 60
    COPIED = 62
    MASK = 58
    MAIL_SEEN = 72
    MANIFEST = 75
    PRIVATE_OPEN = 73
    PRIVATE_FULL = 74
    ASK_CLOCK = 63
    RESET = 59
    ACTION = 77
    LACKS = 78


def kind_name(number: int) -> str:
    """How logs call a kind of frame, whatever its number."""
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
    For readers (`docs/design/frames.md`) ``says``: its payload; ``answers``: the frames that may come for it.
    """

    to: tuple[To, ...]
    least: int = 0
    most: int = 0
    content: Callable[[bytes], Any] | None = None
    any_pair: bool = False
    flags: int = 0
    says: str = ""
    answers: tuple[Kind, ...] = ()


#: PID_MAX_LIMIT of 64-bit kernels (proc(5)).
LAST_PID = 1 << 22
#: Bytes of a reason, of a name as readlink(2) gives it, and of a structure that has no list.
TEXT, NAME, STRUCT = 4096, 8192, 64 << 10
#: Bytes of a piece of memory or of a file, with the header before it.
PIECE = 256 * 1024 + 64
#: Runs of pages in one frame, and bytes of its head and of what it says of each.
MOST_RUNS, RUNS_HEAD, RUN_HEAD = 64, 16, 16
#: Ranges of pages in one frame SAME, and one of them; a page, and the end of what a user may have (`trace.layout`).
MOST_SAME, SAME_RANGE = 8192, struct.Struct("<QQ")
_PAGE, _USER_END = 4096, (1 << 47) - 4096
#: Bytes before the blobs of a CALL, before those of a REPLY (`mosfs.calls.request`).
CALL_HEAD, REPLY_HEAD = 72, 16
SIGINFO, SIGNALS = 128, 64
#: Objects of shared memory in one tree (`home.away.shared`).
MOST_OBJECTS = 1024
#: Files in /proc/PID of which a host tells.
ABOUT_MEMORY = frozenset({"maps", "smaps", "smaps_rollup", "statm", "status", "stat"})


def _text(payload: bytes) -> str:
    return payload.decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class Cannot:
    """Why a host does not send the image of a body, which goes on there. ``passing``: another attempt may succeed soon."""

    reason: str
    passing: bool = False

    def pack(self) -> bytes:
        if not self.passing:
            return self.reason.encode()
        return (f"{_BUSY}: {self.reason}" if self.reason else _BUSY).encode()

    @staticmethod
    def unpack(payload: bytes) -> Cannot:
        text = _text(payload)
        if not text.startswith(_BUSY):
            return Cannot(text)
        return Cannot(text.removeprefix(_BUSY).removeprefix(": ") or _BUSY, passing=True)


#: How the text of CANNOT begins when it is `Cannot.passing`.
_BUSY = "busy"
#: The body stands where it cannot be captured.
BUSY = Cannot("", passing=True).pack()


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


def pack_numbers(numbers: Iterable[int]) -> bytes:
    """Payload of RECALL."""
    return b"".join(number.to_bytes(4, "little") for number in sorted(numbers))


def _numbers(payload: bytes) -> list[int]:
    return [number for (number,) in struct.iter_unpack("<I", payload)]


def _about_memory(payload: bytes) -> str:
    name = payload.decode("ascii", "replace")
    if name not in ABOUT_MEMORY:
        raise BadFrame("no such file")
    return name


def _siginfo(payload: bytes) -> bytes:
    if not 1 <= int.from_bytes(payload[:4], "little", signed=True) <= SIGNALS:
        raise BadFrame("no such signal")
    return payload


def _action(payload: bytes) -> tuple[int, bytes]:
    """The signal, and what shall be done at it."""
    return _number("<i", 1, SIGNALS)(payload[:4]), payload[4:]


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


def _time(payload: bytes) -> tuple[int, int]:
    """CLOCK_MONOTONIC, and by how much realtime is ahead of it, ns."""
    monotonic, wall = struct.unpack("<2q", payload)
    if not 0 < monotonic <= LARGEST or not 0 <= monotonic + wall <= LARGEST:
        raise BadFrame("no clock shows that")
    return monotonic, wall


def _alarm(payload: bytes) -> tuple[int, int] | None:
    """None: it has rung."""
    return _times(payload) if payload else None


def _ranges(payload: bytes) -> list[tuple[int, int]]:
    """Of pages, in their order."""
    found, last = [*SAME_RANGE.iter_unpack(payload)], 0
    for start, end in found:
        if not last <= start < end <= _USER_END or (start | end) % _PAGE:
            raise BadFrame(f"there is no memory {start:#x}-{end:#x}")
        last = end
    return found


def _out_order(payload: bytes) -> orders.OutOrder:
    return _out(payload) if payload else orders.OutOrder("")


_out = _of(orders.OutOrder)
_IMAGE = (To.HOST, To.TRACER, To.NEXT_HOST)
_HOST, _TRACER = (To.HOST,), (To.TRACER,)

#: Which kinds this version knows. A kind that is added while the first two digits of the version stay gets a row in `SINCE`, with
#: the next generation, and is sent to nobody who knows less: there it would end the channel.
GENERATION = 10
SINCE: dict[int, int] = {
    Kind.SHOW: 1, Kind.RUNS: 2, Kind.ACTION: 3, Kind.SAME: 7, Kind.TIME: 8, Kind.LACKS: 9, Kind.THREAD_TIME: 10,
}  # fmt: skip


#: The generation since which a kind that was there before has flags.
FLAGS_SINCE: dict[int, int] = {Kind.SHOWN: 1, Kind.MMAP_NAME: 2, Kind.RECALL: 7}
#: Flags of RECALL: the host shall remember what it sends; it need not send what it remembers of the last one; it shall send a copy
#: of the memory that a vfork child has from its parent, and keep the body until DROP.
REMEMBER, DIFFER, COPIED = 1, 2, 4


#: The generation since which an image may have several threads, each of which then has frames of its own: ``pair`` is its ID.
THREADS_SINCE = 4
#: The same of the memory of such a program, before its image (EARLY).
THREADS_AHEAD_SINCE = 5
#: The same of an image whose program shares memory, and of FILE that brings such memory home.
SHARES_SINCE = 6


def understands(generation: int, kind: int) -> bool:
    """Whether an end of that generation takes frames of that kind."""
    return SINCE.get(kind, 0) <= generation


def flags_for(generation: int, kind: int, flags: int) -> int:
    """``flags`` of a frame, or none where an end of that generation knows none of its kind."""
    return flags if FLAGS_SINCE.get(kind, 0) <= generation else 0


#: The one table of what may come over a channel. docs/design/frames.md is made from it (`mosfs.wire.frame_table`).
SHAPES: dict[int, Shape] = {
    Kind.IMAGE: Shape(
        _IMAGE, 1, MAX_PAYLOAD,
        says="`ImageMeta`; what follows until IMAGE_END belongs to it", answers=(Kind.READY, Kind.FAIL,),
    ),
    Kind.PAGES: Shape(_IMAGE, 24, PIECE, says="address u64, pages u32, flags u32, xxh3_64 u64, then the pages"),
    Kind.RUNS: Shape(
        _IMAGE, RUNS_HEAD + RUN_HEAD, PIECE + MOST_RUNS * RUN_HEAD,
        says="number of runs u32, flags u32, xxh3_64 u64; address u64, pages u32, flags u32 of each; then the pages of all",
    ),
    Kind.SAME: Shape(
        _TRACER, SAME_RANGE.size, MOST_SAME * SAME_RANGE.size, _ranges,
        says="start u64 and end u64 of each range of pages that are as in the image before",
    ),
    Kind.IMAGE_END: Shape(_IMAGE, 8, 8, _number("<Q", 0, LARGEST), says="number of PAGES and RUNS frames, u64"),
    Kind.READY: Shape(_TRACER, says="nothing: the body stands complete", answers=(Kind.GO, Kind.DROP,)),
    Kind.FAIL: Shape(_TRACER, 0, TEXT, _text, says="reason, text: it cannot be built"),
    Kind.EARLY: Shape(_IMAGE, 1, MAX_PAYLOAD, says="mappings to make before the image; none: forget all that was sent"),
    Kind.ROUND: Shape(
        (*_IMAGE, To.OLD_HOST), flags=1,
        says="nothing: the end of a round of pre-copy; flag 1: refused", answers=(Kind.ROUND,),
    ),
    Kind.PRIVATE: Shape(_IMAGE, 32, PIECE, says="contents of a private file (`ptf.travel`), before the image"),
    Kind.FILE: Shape(
        _IMAGE, 24, PIECE,
        says="contents of a file that the program maps (`migrate.filecopy`), or of memory that it shares (to the tracer)",
    ),
    Kind.LACKS: Shape(
        (To.TRACER, To.HOST), 20, 20,
        says="a part of an offered file that is not there (`migrate.filecopy.WANT`); the same comes back behind its contents",
        answers=(Kind.FILE, Kind.LACKS,),
    ),
    Kind.ASK_CLOCK: Shape(
        _TRACER, 8, 8, _number("<Q", 0, (1 << 64) - 1), any_pair=True,
        says="the host's CLOCK_MONOTONIC, ns u64", answers=(Kind.CLOCK,),
    ),
    Kind.GO: Shape(_HOST, 1, STRUCT, _of(orders.GoTimes), says="`GoTimes`, home time: run", answers=(Kind.RUNNING,)),
    Kind.REPLY: Shape(
        _HOST, REPLY_HEAD, MAX_PAYLOAD, flags=0xFFFF,
        says="outcome of a call (`calls.request`); flags: number of the call",
    ),
    Kind.SIGNAL: Shape(_HOST, SIGINFO, SIGINFO, _siginfo, says="siginfo of a signal for a handler of the body"),
    Kind.STOP: Shape(_HOST, says="nothing: a group stop, do not run"),
    Kind.CONT: Shape(_HOST, says="nothing: the group stop is over"),
    Kind.RECALL: Shape(
        _HOST, 0, 4 * MOST_OBJECTS, _numbers, flags=REMEMBER | DIFFER | COPIED,
        says="numbers, u32 each: send the image home, with the contents of those pieces of shared memory; flag 1: remember it; "
             "flag 2: without the pages that are as in the last remembered one",
        answers=(Kind.IMAGE, Kind.SAME, Kind.CANNOT,),
    ),
    Kind.MOVE_TO: Shape(
        _HOST, 1, STRUCT, _of(orders.MoveOrder),
        says="`MoveOrder`: send the image to that host", answers=(Kind.CANNOT,),
    ),
    Kind.RESUME: Shape(_HOST, says="nothing: the move failed, go on here"),
    Kind.DROP: Shape((To.HOST, To.NEXT_HOST), says="nothing: the body is not wanted any more"),
    Kind.FORK_REPLY: Shape(
        _HOST, FORK_REPLY.size, FORK_REPLY.size, FORK_REPLY.unpack,
        says="result i64, the deputy's descriptor of the child i32 (-1: none), the child's CPU_ALARM 2 x u64",
    ),
    Kind.CLOCK: Shape(_HOST, 1, STRUCT, _of(orders.GoTimes), any_pair=True, says="`GoTimes`, home time"),
    Kind.TIME: Shape(
        _HOST, 16, 16, _time, any_pair=True,
        says="home's CLOCK_MONOTONIC, and by how much realtime was ahead of it, ns, i64 each; to hosts of other kernels, before "
             "what tells programs that something has happened (`TIMED`)",
    ),
    Kind.ABOUT: Shape(_HOST, 1, STRUCT, _of(orders.About), says="`About`: settings and statistics of the program"),
    Kind.EXECED: Shape(_HOST, says="nothing: exec succeeded at home, a new image follows"),
    Kind.MMAP_DATA: Shape(_HOST, 8, PIECE, says="offset u64 and bytes of a file that cannot be followed"),
    Kind.MMAP_NAME: Shape(
        _HOST, 4, NAME, flags=1,
        says="number of the mapped file u32 (0: its contents come as MMAP_DATA), its name; flag 1: shared",
    ),
    Kind.MAIL_TABLE: Shape(
        _HOST, 1, MAX_PAYLOAD, _of(orders.MailTable),
        says="`MailTable`: the program's descriptors for direct communication",
    ),
    Kind.COPY: Shape(
        _HOST, 1, STRUCT, _of(orders.MoveOrder),
        says="`MoveOrder`: pre-copy to that host, without an address home", answers=(Kind.COPIED,),
    ),
    Kind.STAYED: Shape(_HOST, 0, TEXT, _text, says="reason, text: STEP_OUT is not followed"),
    Kind.CPU_ALARM: Shape(
        (To.HOST, To.TRACER), 0, 16, _alarm,
        says="CPU time in all and of user, ns u64 each, to be told when reached; nothing: it is reached", answers=(Kind.CPU_ALARM,),
    ),
    Kind.SHOW: Shape(
        _HOST, 1, 16, _about_memory,
        says="name of a file in /proc about the body that another program opens", answers=(Kind.SHOWN,),
    ),
    Kind.FETCH: Shape(_HOST, says="nothing: before EXECED, send the private files home", answers=(Kind.PRIVATE, Kind.MANIFEST,)),
    Kind.CALL: Shape(
        _TRACER, CALL_HEAD, MAX_PAYLOAD, flags=0xFFFF,
        says="a system call and its memory (`calls.request`); flags: its number", answers=(Kind.REPLY,),
    ),
    Kind.FORK: Shape(_TRACER, 1, STRUCT, _of(orders.ForkOrder), says="`ForkOrder`", answers=(Kind.FORK_REPLY,)),
    Kind.EXEC: Shape(
        _TRACER, 1, MAX_PAYLOAD, _of(orders.ExecOrder), flags=0xFFFF,
        says="`ExecOrder`; flags: number of the call", answers=(Kind.EXECED, Kind.REPLY, Kind.FETCH,),
    ),
    Kind.DIED: Shape(
        _TRACER, 4, SIGINFO, _wait_status, flags=1,
        says="wait status of the body i32; flag 1: it could not be served",
    ),
    Kind.WANT: Shape(
        _TRACER, 20, 20, flags=0xFFFF,
        says="more of a mapped file (`migrate.filecopy.WANT`)", answers=(Kind.FILE, Kind.REPLY,),
    ),
    Kind.CANNOT: Shape(_TRACER, 0, TEXT, Cannot.unpack, says="reason, text: RECALL or MOVE_TO cannot be served, the body goes on"),
    Kind.STEP_OUT: Shape(
        _TRACER, 0, STRUCT, _out_order,
        says="`OutOrder`, where to and why; nothing: home", answers=(Kind.RECALL, Kind.MOVE_TO, Kind.COPY, Kind.STAYED,),
    ),
    Kind.MMAP: Shape(
        _TRACER, 1, STRUCT, _of(orders.MmapOrder), flags=0xFFFF,
        says="`MmapOrder`; flags: number of the call", answers=(Kind.MMAP_NAME, Kind.FILE, Kind.MMAP_DATA, Kind.REPLY,),
    ),
    Kind.USED: Shape(_TRACER, 1, STRUCT, _of(orders.Used), says="`Used`: CPU time and memory, once a second while there is any"),
    Kind.PREPARED: Shape(_TRACER, any_pair=True, says="nothing: the host stands, with an empty body"),
    Kind.CPU_TIME: Shape(_TRACER, 16, 16, _times, says="CPU time away so far: ns of user, ns of system, u64 each"),
    Kind.THREAD_TIME: Shape(_TRACER, 16, 16, _times, says="the same of one thread alone, of an image that has told its own"),
    Kind.SHOWN: Shape(
        _TRACER, 0, MAX_PAYLOAD, flags=1,
        says="text of a file in /proc about the body, of which an open follows; flag 1: for SHOW, nothing if it has gone on",
    ),
    Kind.TITLE: Shape(_TRACER, 0, 8 << 20, says="arguments and environment, where the program has written over them"),
    Kind.RUNNING: Shape(_TRACER, says="nothing: the body runs, the move is committed"),
    Kind.COPIED: Shape(_TRACER, says="nothing: what is left may be sent now", answers=(Kind.MOVE_TO, Kind.RECALL,)),
    Kind.MASK: Shape(_TRACER, 8, 8, _number("<Q", 0, (1 << 64) - 1), says="the body's signal mask, u64"),
    Kind.MAIL_SEEN: Shape(
        _TRACER, 1, STRUCT, _of(orders.MailSeen),
        says="`MailSeen`: what the program's calls on its mailbox have changed",
    ),
    Kind.MANIFEST: Shape(_TRACER, 0, MAX_PAYLOAD, says="the private files that came after FETCH"),
    Kind.PRIVATE_OPEN: Shape(
        _TRACER, 1, STRUCT, _of(orders.PrivateOpen), flags=0xFFFF,
        says="`PrivateOpen`: a descriptor for a private file; flags: number of the call", answers=(Kind.REPLY,),
    ),
    Kind.PRIVATE_FULL: Shape(
        _TRACER, flags=0xFFFF,
        says="nothing: a write to a private file does not fit here; flags: number of the call", answers=(Kind.REPLY, Kind.RECALL,),
    ),
    Kind.RESET: Shape(_TRACER, 4, 4, _number("<i", 1, SIGNALS), says="signal i32 whose SA_RESETHAND handler was called"),
    Kind.ACTION: Shape(
        _TRACER, 36, 36, _action,
        says="what the program has set to be done at a signal: signal i32, the kernel's struct sigaction (32 bytes)",
    ),
}

#: What programs may learn from that something has happened at home, or some time has passed there.
TIMED = frozenset({Kind.REPLY, Kind.SIGNAL, Kind.CONT, Kind.FORK_REPLY, Kind.FILE})

#: Calls of a body: their flags hold a number, which comes back with the REPLY.
NUMBERED = frozenset(kind for kind, shape in SHAPES.items() if shape.to == _TRACER and shape.flags == 0xFFFF)


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
    except (*MALFORMED, struct.error) as error:
        raise BadFrame(f"frame {kind}: {error}") from error
