"""The image format, version 2: one `ImageMeta` (msgpack), then PAGES frames, then IMAGE_END with their number.

Register sets are the kernel's own structures (user_regs_struct, NT_X86_XSTATE), always in the state "about to execute a
user instruction": a call that was interrupted is rewound so that it is made again (`capture.user_regs`).

Bump `VERSION` when a reader of the old version could misunderstand a new image; fields are only appended.
"""

from __future__ import annotations

import struct

import msgspec

from mosfs.abi import cpu, xstate
from mosfs.abi.memory import ALL_BITS
from mosfs.trace import layout
from mosfs.wire.messages import LastMessage

VERSION = 2

#: addr u64, pages u32, flags u32 (COMPRESSED, ZERO), xxh3_64 of the raw pages u64
PAGES_HEADER = struct.Struct("<QIIQ")
COMPRESSED = 1
ZERO = 2  # no data: the pages are empty again

#: Of a file, bytes (loff_t).
MAX_SIZE = (1 << 63) - 1
PROT_READ, PROT_WRITE, PROT_EXEC = 1, 2, 4


class Vma(msgspec.Struct, array_like=True, frozen=True):
    """One mapping. ``name`` and ``offset`` say what it was at home. ``flags``: its properties, bits of `mosfs.abi.memory`.

    ``file``: the number of the file that it shows (`filecopy`), of which it is a mapping wherever the program is; pages travel only
    where a write has made them the program's own. 0: it travels as anonymous private memory. ``shared``: of a file, MAP_SHARED.
    """

    start: int
    end: int
    prot: int
    grows_down: bool = False
    anonymous: bool = True
    name: str = ""
    offset: int = 0
    flags: int = 0
    file: int = 0
    shared: bool = False


class Timer(msgspec.Struct, array_like=True, frozen=True):
    """The clock as the program has last seen it: it must never be shown less (ns)."""

    realtime: int = 0
    monotonic: int = 0


class ImageMeta(msgspec.Struct, array_like=True):
    """Everything but the pages. ``mm`` are the eleven addresses of struct prctl_mm_map, in its order.

    ``waiting``: the program is inside a forwarded call whose answer is still to come; its registers stand before it.
    ``mail``: address of its struct interested and the last message it read, if home may not know them.
    ``cpu_timers``: empty; timers of CPU time stay at home (`mosfs.calls.cputimers`).
    ``carry``: it is in the middle of a transfer (`mosfs.calls.partial`).
    ``used``: CPU time on all nodes away so far, ns (`mosfs.calls.cputime`).
    ``features``: all that the program has seen of processors (`abi.cpu`); ``xlayout``: where ``xstate`` keeps its components
    (`abi.xstate.Layout`), ``waiting_state``: those that had no place where the program was (`abi.xstate.waits`).
    ``private``: manifest of its private files (`ptf.travel`), b"" if it can have none.
    ``guards``: pages that MADV_GUARD_INSTALL has closed (madvise(2)), as ranges.
    ``told``: the mappings are those that EARLY told last, and not here.
    ``actions``: signal -> struct sigaction of the kernel (32 bytes), for the caught ones; ``ignored`` a bit mask.
    ``pending``: (sent to the whole process?, siginfo) of signals that wait in the body itself.
    """

    version: int
    pid: int
    uid: int
    comm: str
    features: str
    regs: bytes
    xstate: bytes
    mask: int
    actions: list[tuple[int, bytes]]
    ignored: int
    altstack: bytes
    pending: list[tuple[bool, bytes]]
    rseq: tuple[int, int, int]
    tid_address: int
    robust: tuple[int, int]
    mm: list[int]
    auxv: bytes
    vmas: list[Vma]
    limits: dict[int, tuple[int, int]]
    shown: Timer
    home: str = ""
    waiting: bool = False
    dumpable: int = 1
    carry: tuple[int, int, int, int] | None = None
    seq: int = 0
    seen: int = 0
    cpu_timers: list[bytes] = []
    mail: tuple[int, LastMessage | None] | None = None
    used: tuple[int, int] = (0, 0)
    private: bytes = b""
    guards: list[tuple[int, int]] = []
    xlayout: list[tuple[int, int, int]] = []
    waiting_state: list[tuple[int, bytes]] = []
    told: bool = False


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(ImageMeta)


def encode(meta: ImageMeta) -> bytes:
    return _encoder.encode(meta)


class BadImage(Exception):
    """What arrived is not an image that this version can rebuild; the text says why."""


def decode(data: bytes) -> ImageMeta:
    """The image's head, checked: `BadImage` otherwise."""
    try:
        meta = _decoder.decode(data)
    except (msgspec.MsgspecError, ValueError) as error:
        raise BadImage(f"malformed image: {error}") from error
    if meta.version != VERSION:
        raise BadImage(f"image version {meta.version}, expected {VERSION}")
    checked(meta.vmas)
    _in_order(meta.guards, "guard")
    if len(meta.mm) != 11 or len(meta.regs) != 216 or len(meta.altstack) != 24:
        raise BadImage("wrong structure sizes")
    try:
        cpu.parse(meta.features)
        xstate.checked(meta.xlayout, len(meta.xstate))
        xstate.checked_waiting(meta.waiting_state)
    except ValueError as error:
        raise BadImage(f"processor state: {error}") from error
    return meta


def checked(vmas: list[Vma]) -> list[Vma]:
    """``vmas``, if they are in order and nothing about them is unknown; else BadImage."""
    _in_order([(vma.start, vma.end) for vma in vmas], "mapping")
    if any(vma.prot & ~7 or vma.flags & ~ALL_BITS for vma in vmas):
        raise BadImage("a mapping has unknown properties")
    if any(vma.file and (vma.offset & 4095 or not 0 <= vma.offset <= MAX_SIZE or vma.start < layout.END) for vma in vmas):
        raise BadImage("a mapping of a file is out of place")
    return vmas


def _in_order(ranges: list[tuple[int, int]], what: str) -> None:
    last = 0
    for start, end in ranges:
        if start < last or end <= start or (start | end) & 4095:
            raise BadImage(f"{what} {start:#x}-{end:#x} is out of order")
        last = end
