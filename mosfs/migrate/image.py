"""The image format, version 2: one `ImageMeta` (msgpack), then PAGES frames, then IMAGE_END with their number.

Register sets are the kernel's own structures (user_regs_struct, NT_X86_XSTATE), always in the state "about to execute a
user instruction": a call that was interrupted is rewound so that it is made again (`capture.user_regs`).

Bump `VERSION` when a reader of the old version could misunderstand a new image; fields are only appended.
"""

from __future__ import annotations

import struct
from typing import Annotated

import msgspec

from mosfs.abi import cpu, xstate
from mosfs.abi.memory import ALL_BITS
from mosfs.migrate import settings
from mosfs.trace import layout
from mosfs.wire.fields import MALFORMED, Needs
from mosfs.wire.frames import LAST_PID
from mosfs.wire.messages import LastMessage
from mosfs.wire.orders import Address, Features, Large, Signed, Small, Word

VERSION = 2

#: addr u64, pages u32, flags u32 (COMPRESSED, ZSTD, ZERO), xxh3_64 of the raw pages u64
PAGES_HEADER = struct.Struct("<QIIQ")
#: RUNS: number of runs u32, flags u32 (COMPRESSED, ZSTD), xxh3_64 of the raw pages of all u64; then of each: addr u64, pages u32,
#: flags u32 (ZERO)
RUNS_HEADER, RUN_HEADER = struct.Struct("<IIQ"), struct.Struct("<QII")
COMPRESSED = 1  # by zlib
ZERO = 2  # no data: the pages are empty again
ZSTD = 4  # compressed by zstd, for ends that take it (`packing`)

#: Threads of a program beside its first: each has a place of its own in the scratch (`home.process.deputy`).
MOST_THREADS = 200
#: Of a file, bytes (loff_t).
MAX_SIZE = (1 << 63) - 1
#: Numbers of files from here on are memory that programs share: each is one object, which all of them map (`home.away.shared`).
OBJECTS = 1 << 30

Signal = Annotated[int, msgspec.Meta(ge=1, le=64)]
Action = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Itimer = Action
SigInfo = Annotated[bytes, msgspec.Meta(min_length=128, max_length=128)]
Registers = Annotated[bytes, msgspec.Meta(min_length=216, max_length=216)]
Stack = Annotated[bytes, msgspec.Meta(min_length=24, max_length=24)]
Limit = Annotated[int, msgspec.Meta(ge=-1)]


class Vma(msgspec.Struct, array_like=True, frozen=True):
    """One mapping. ``name`` and ``offset`` say what it was at home. ``flags``: its properties, bits of `mosfs.abi.memory`.

    ``file``: the number of the file that it shows (`filecopy`), of which it is a mapping wherever the program is; pages travel only
    where a write has made them the program's own. 0: it travels as anonymous private memory. ``shared``: of a file, MAP_SHARED.
    From `OBJECTS` on it is memory that is shared and written, whose contents come as those of a file do.
    """

    start: Word
    end: Word
    prot: Annotated[int, msgspec.Meta(ge=0, le=7)]
    grows_down: bool = False
    anonymous: bool = True
    name: Annotated[str, msgspec.Meta(max_length=8192)] = ""
    offset: Word = 0
    flags: Annotated[int, msgspec.Meta(ge=0, le=ALL_BITS)] = 0
    file: Small = 0
    shared: bool = False


def is_object(number: int) -> bool:
    """Whether the file of a mapping (`Vma.file`) is memory that programs share."""
    return number >= OBJECTS


class Timer(msgspec.Struct, array_like=True, frozen=True):
    """The clock as the program has last seen it: it must never be shown less (ns)."""

    realtime: Signed = 0
    monotonic: Signed = 0


class Thread(msgspec.Struct, array_like=True):
    """What is a thread's own: its fields are those of `ImageMeta` with the same names. ``tid``: its ID at home.

    ``until``: it waits in futex(2) no longer than until then, CLOCK_MONOTONIC of home, ns; 0: it does not, or its call says when.
    ``used``: as `ImageMeta.own_used`.
    """

    tid: Annotated[int, msgspec.Meta(ge=1, le=LAST_PID)]
    comm: Annotated[str, msgspec.Meta(max_length=64)]
    regs: Registers
    xstate: Annotated[bytes, msgspec.Meta(max_length=16384)]
    mask: Word
    altstack: Stack
    rseq: tuple[Word, Small, Small]
    tid_address: Word
    robust: tuple[Word, Word]
    pending: Annotated[list[tuple[bool, SigInfo]], msgspec.Meta(max_length=1 << 16)] = []
    waiting: bool = False
    carry: tuple[Word, Word, Word, Word] | None = None
    seq: Small = 0
    seen: Word = 0
    waiting_state: Annotated[list[tuple[Small, bytes]], msgspec.Meta(max_length=64)] = []
    until: Word = 0
    used: tuple[Large, Large] = (0, 0)


class ImageMeta(msgspec.Struct, array_like=True):
    """Everything but the pages. ``mm`` are the eleven addresses of struct prctl_mm_map, in its order.

    ``waiting``: the program is inside a forwarded call whose answer is still to come; its registers stand before it.
    ``mail``: address of its struct interested and the last message it read, if home may not know them.
    ``cpu_timers``: empty; timers of CPU time stay at home (`mosfs.calls.cputimers`).
    ``carry``: it is in the middle of a transfer (`mosfs.calls.partial`).
    ``used``: CPU time on all nodes away so far, ns (`mosfs.calls.cputime`); ``own_used``: that of its first thread
    alone, None if it has always been the only one.
    ``features``: all that the program has seen of processors (`abi.cpu`); ``xlayout``: where ``xstate`` keeps its components
    (`abi.xstate.Layout`), ``waiting_state``: those that had no place where the program was (`abi.xstate.waits`), ``needs``: flags
    that it is known to use.
    ``private``: manifest of its private files (`ptf.travel`), b"" if it can have none.
    ``guards``: pages that MADV_GUARD_INSTALL has closed (madvise(2)), as ranges.
    ``told``: the mappings are those that EARLY told last, and not here.
    ``settings``: by prctl(2), for the processor and the memory (`migrate.settings`).
    ``actions``: signal -> struct sigaction of the kernel (32 bytes), at least for the caught ones; ``ignored`` a bit mask.
    ``all_actions``: they are all, and at other signals is done what exec leaves; who serves the program's calls takes ACTION.
    ``outlives``: all that comes from outside comes from home, so that what it does can be repeated (mosrun --outlive).
    ``told_mask``: what home believes to be blocked, where ``outlives``: what it is told at the end of a handler hangs on that.
    ``threads``: the others of its process; ``until``: as theirs.
    ``births``: its deputies make threads, so a new one need not be made at home.
    ``shares``: it shares memory with others, or may: what it waits for there is known to the kernel of its node alone.
    ``lent``: its memory is a copy of its parent's, which stands at that node until its body is dropped there (vfork(2)).
    ``pending``: (sent to the whole process?, siginfo) of signals that wait in the body itself.
    """

    version: int
    pid: Word
    uid: Small
    comm: Annotated[str, msgspec.Meta(max_length=64)]
    features: Features
    regs: Registers
    xstate: Annotated[bytes, msgspec.Meta(max_length=16384)]
    mask: Word
    actions: Annotated[list[tuple[Signal, Action]], msgspec.Meta(max_length=64)]
    ignored: Word
    altstack: Stack
    pending: Annotated[list[tuple[bool, SigInfo]], msgspec.Meta(max_length=1 << 20)]
    rseq: tuple[Word, Small, Small]
    tid_address: Word
    robust: tuple[Word, Word]
    mm: Annotated[list[Word], msgspec.Meta(min_length=11, max_length=11)]
    auxv: Annotated[bytes, msgspec.Meta(max_length=4096)]
    vmas: Annotated[list[Vma], msgspec.Meta(max_length=1 << 20)]
    limits: dict[Annotated[int, msgspec.Meta(ge=0, le=15)], tuple[Limit, Limit]]
    shown: Timer
    home: Address = ""
    waiting: bool = False
    dumpable: int = 1
    carry: tuple[Word, Word, Word, Word] | None = None
    seq: Small = 0
    seen: Word = 0
    cpu_timers: Annotated[list[Itimer], msgspec.Meta(max_length=2)] = []
    mail: tuple[Word, LastMessage | None] | None = None
    used: tuple[Large, Large] = (0, 0)
    private: bytes = b""
    guards: Annotated[list[tuple[Word, Word]], msgspec.Meta(max_length=1 << 20)] = []
    xlayout: Annotated[list[tuple[Small, Small, Small]], msgspec.Meta(max_length=64)] = []
    waiting_state: Annotated[list[tuple[Small, bytes]], msgspec.Meta(max_length=64)] = []
    told: bool = False
    needs: Needs = []
    settings: Annotated[list[tuple[Small, Small, Small]], msgspec.Meta(max_length=8)] = []
    all_actions: bool = False
    outlives: bool = False
    threads: Annotated[list[Thread], msgspec.Meta(max_length=MOST_THREADS)] = []
    until: Word = 0
    told_mask: Word = (1 << 64) - 1
    births: bool = False
    shares: bool = False
    lent: bool = False
    own_used: tuple[Large, Large] | None = None


#: In ``mm`` (prctl(2), struct prctl_mm_map).
_START_BRK, _BRK = 4, 5
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
    except MALFORMED as error:
        raise BadImage(f"malformed image: {error}") from error
    if meta.version != VERSION:
        raise BadImage(f"image version {meta.version}, expected {VERSION}")
    checked(meta.vmas)
    _in_order(meta.guards, "guard")
    if meta.mm[_START_BRK] < layout.END and meta.mm[_BRK] > layout.STUB:  # brk(2) asks nobody: it could take our own pages away
        raise BadImage("its heap is where our own pages are")
    for name in (meta.comm, *(thread.comm for thread in meta.threads), *(vma.name for vma in meta.vmas)):
        if not name.isascii() and max(name) > "\xff":
            raise BadImage("a name is not made of bytes")
    pending = [*meta.pending, *(pending for thread in meta.threads for pending in thread.pending)]
    if any(not 1 <= int.from_bytes(info[:4], "little", signed=True) <= 64 for _, info in pending):
        raise BadImage("no such signal")
    if not all(settings.known(setting) for setting in meta.settings):
        raise BadImage("no such setting")
    try:
        cpu.parse(meta.features)
        xstate.checked(meta.xlayout, len(meta.xstate))
        xstate.checked_waiting(meta.waiting_state)
        for thread in meta.threads:
            xstate.checked(meta.xlayout, len(thread.xstate))
            xstate.checked_waiting(thread.waiting_state)
    except ValueError as error:
        raise BadImage(f"processor state: {error}") from error
    if len({meta.pid, *(thread.tid for thread in meta.threads)}) <= len(meta.threads):
        raise BadImage("two threads with one ID")
    meta.needs = sorted(cpu.USER_FLAGS & set(meta.needs))
    return meta


def checked(vmas: list[Vma]) -> list[Vma]:
    """``vmas``, if they are in order and nothing about them is unknown; else BadImage."""
    _in_order([(vma.start, vma.end) for vma in vmas], "mapping")
    if any(vma.prot & ~7 or vma.flags & ~ALL_BITS for vma in vmas):
        raise BadImage("a mapping has unknown properties")
    if any(vma.file and (vma.offset & 4095 or not 0 <= vma.offset <= MAX_SIZE or vma.start < layout.END) for vma in vmas):
        raise BadImage("a mapping of a file is out of place")
    if any(is_object(vma.file) and not vma.shared for vma in vmas):
        raise BadImage("shared memory that is private")
    return vmas


def _in_order(ranges: list[tuple[int, int]], what: str) -> None:
    last = 0
    for start, end in ranges:
        if start < last or end <= start or (start | end) & 4095:
            raise BadImage(f"{what} {start:#x}-{end:#x} is out of order")
        if (start < layout.END and end > layout.STUB) or end > layout.USER_END:
            raise BadImage(f"{what} {start:#x}-{end:#x} is out of place")
        last = end
