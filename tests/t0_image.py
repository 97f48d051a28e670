"""The image format: a head comes out as it went in, pages too, and anything else is a BadImage."""

from __future__ import annotations

import os
import random
import resource
import struct
import zlib
from collections.abc import Callable
from contextlib import closing
from typing import Any

import msgspec
import pytest
import xxhash
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from mosfs.abi.memory import ALL_BITS
from mosfs.migrate import packing
from mosfs.migrate.image import (
    COMPRESSED,
    PAGES_HEADER,
    RUNS_HEADER,
    VERSION,
    ZERO,
    ZSTD,
    BadImage,
    ImageMeta,
    Thread,
    Timer,
    Vma,
    decode,
    encode,
)
from mosfs.migrate.pages import PageSender, for_file, runs_of, unpack, unpack_runs
from mosfs.migrate.ranges import merge
from mosfs.migrate.settings import known
from mosfs.trace import layout
from mosfs.wire.frames import MOST_RUNS, Frame, Kind, To, check

PAGE = 4096
u64 = st.integers(0, 2**64 - 1)
small = st.integers(0, 2**31 - 1)
siginfo = st.builds(lambda sig, rest: sig.to_bytes(4, "little") + rest, st.integers(1, 64), st.binary(min_size=124, max_size=124))
latin = st.text(st.characters(max_codepoint=255), max_size=15)
moment = st.integers(-(2**62) + 1, 2**62 - 1)


@st.composite
def vmas(draw: st.DrawFn) -> list[Vma]:
    """Mappings as /proc/PID/maps lists them: page-aligned, in order, apart or touching."""
    found, at = [], 256
    for _ in range(draw(st.integers(0, 8))):
        start = at + draw(st.integers(0, 2**20))
        at = start + draw(st.integers(1, 2**20))
        found.append(Vma(start * PAGE, at * PAGE, draw(st.integers(0, 7)), draw(st.booleans()), draw(st.booleans()),
                         draw(latin), draw(small) * PAGE, draw(st.integers(0, ALL_BITS))))  # fmt: skip
    return found


def heap_is_apart(mm: list[int]) -> bool:
    """Of our own pages."""
    return mm[4] >= layout.END or mm[5] <= layout.STUB


threads = st.builds(
    Thread, tid=st.integers(2**21, 2**22), comm=latin, regs=st.binary(min_size=216, max_size=216), xstate=st.binary(max_size=90),
    mask=u64, altstack=st.binary(min_size=24, max_size=24), rseq=st.tuples(u64, small, small), tid_address=u64,
    robust=st.tuples(u64, u64), pending=st.lists(st.tuples(st.booleans(), siginfo), max_size=1), waiting=st.booleans(), until=u64,
)
metas = st.builds(
    ImageMeta,
    threads=st.lists(threads, max_size=3, unique_by=lambda thread: thread.tid),
    version=st.just(VERSION), pid=st.integers(0, 2**21 - 1), uid=small, comm=latin, features=st.text(max_size=30),
    regs=st.binary(min_size=216, max_size=216), xstate=st.binary(max_size=900), mask=u64,
    actions=st.lists(st.tuples(st.integers(1, 64), st.binary(min_size=32, max_size=32)), max_size=4), ignored=u64,
    altstack=st.binary(min_size=24, max_size=24), pending=st.lists(st.tuples(st.booleans(), siginfo), max_size=3),
    rseq=st.tuples(u64, small, small), tid_address=u64, robust=st.tuples(u64, u64),
    mm=st.lists(u64, min_size=11, max_size=11).filter(heap_is_apart), auxv=st.binary(max_size=400), vmas=vmas(),
    limits=st.dictionaries(st.integers(0, 15), st.tuples(st.integers(-1, 2**63 - 1), st.integers(-1, 2**63 - 1))),
    shown=st.builds(Timer, moment, moment), home=st.text(max_size=15), waiting=st.booleans(), dumpable=st.integers(0, 2),
)  # fmt: skip


@given(metas)
def test_round_trip(meta: ImageMeta) -> None:
    assert decode(encode(meta)) == meta


@given(metas, st.data())
def test_a_part_of_a_head_is_a_bad_image(meta: ImageMeta, data: st.DataObject) -> None:
    whole = encode(meta)
    with pytest.raises(BadImage):
        decode(whole[: data.draw(st.integers(0, len(whole) - 1))])


@settings(phases=[Phase.generate])
@given(metas, st.data())
def test_damage_is_a_bad_image_or_a_sound_one(meta: ImageMeta, data: st.DataObject) -> None:
    whole = bytearray(encode(meta))
    whole[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        found = decode(bytes(whole))
    except BadImage:
        return
    ends = [0, *(end for v in found.vmas for end in (v.start, v.end))]
    assert ends == sorted(ends) and all(end % PAGE == 0 for end in ends)
    assert (found.version, len(found.mm), len(found.regs)) == (VERSION, 11, 216)


def meta(**changes: object) -> ImageMeta:
    plain = ImageMeta(
        version=VERSION, pid=1, uid=0, comm="c", features="", regs=bytes(216), xstate=b"", mask=0, actions=[],
        ignored=0, altstack=bytes(24), pending=[], rseq=(0, 0, 0), tid_address=0, robust=(0, 0), mm=[0] * 11, auxv=b"",
        vmas=[Vma(0x400000, 0x401000, 5)], limits={}, shown=Timer(),
    )  # fmt: skip
    return msgspec.structs.replace(plain, **changes)


def test_needs_that_nobody_knows_are_left_out() -> None:
    """A newer version may know more processors; what has no name here, no node can be asked for."""
    assert decode(encode(meta(needs=["avx2", "none_such", "avx2", ""]))).needs == ["avx2"]


@pytest.mark.parametrize("heap", [
    (layout.STUB, layout.END), (layout.STUB - 4096, layout.STUB + 1), (layout.END - 1, layout.END), (layout.END, layout.END + 4096),
])  # fmt: skip
def test_no_heap_is_where_our_own_pages_are(heap: tuple[int, int]) -> None:
    """Of it brk(2) unmaps what it is told to, in a guest too, and asks nobody."""
    image = encode(meta(mm=[*[0] * 4, *heap, *[0] * 5]))
    if heap[0] >= layout.END:
        assert decode(image).mm[4:6] == [*heap]
        return
    with pytest.raises(BadImage, match="heap"):
        decode(image)


def test_fields_that_a_newer_version_appended_are_ignored() -> None:
    fields = msgspec.msgpack.decode(encode(meta()))
    assert decode(msgspec.msgpack.encode([*fields, "new"])) == meta()


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (meta(version=VERSION + 1), f"image version {VERSION + 1}, expected {VERSION}"),
        (meta(vmas=[Vma(0x2000, 0x3000, 3), Vma(0x1000, 0x2000, 3)]), "mapping 0x1000-0x2000 is out of order"),
        (meta(vmas=[Vma(0x1000, 0x3000, 3), Vma(0x2000, 0x4000, 3)]), "mapping 0x2000-0x4000 is out of order"),
        (meta(vmas=[Vma(0x1000, 0x1000, 3)]), "mapping 0x1000-0x1000 is out of order"),
        (meta(vmas=[Vma(0x3000, 0x1000, 3)]), "mapping 0x3000-0x1000 is out of order"),
        (meta(vmas=[Vma(0x1001, 0x2000, 3)]), "mapping 0x1001-0x2000 is out of order"),
        (meta(vmas=[Vma(0x1000, 0x1800, 3)]), "mapping 0x1000-0x1800 is out of order"),
        (meta(vmas=[Vma(0x10000, 0x11000, 5)]), "mapping 0x10000-0x11000 is out of place"),
        (meta(vmas=[Vma(0x8000, 0x200000, 3)]), "mapping 0x8000-0x200000 is out of place"),
        (meta(vmas=[Vma(0x400000, 1 << 63, 3)]), "mapping 0x400000-0x8000000000000000 is out of place"),
        (meta(comm="\u0421"), "a name is not made of bytes"),
        (meta(pending=[(True, bytes(128))]), "no such signal"),
        (meta(features="sse xcr0=-7"), "processor state: processor features out of range: xcr0=-7 sigframe=0"),
        (meta(xstate=bytes(832), xlayout=[(2, 576, 512)]), "processor state: component 2 lies at 576, 512 bytes, of 832"),
        (meta(xstate=bytes(832), xlayout=[(2, 64, 256)]), "processor state: component 2 lies at 64, 256 bytes, of 832"),
        (meta(xstate=bytes(1088), xlayout=[(2, 576, 64), (2, 640, 64)]), "processor state: a component is named twice"),
        (meta(waiting_state=[(6, bytes(9000))]), "processor state: component 6 of 9000 bytes waits"),
    ],
)
def test_what_cannot_be_rebuilt_says_why(bad: ImageMeta, why: str) -> None:
    with pytest.raises(BadImage) as error:
        decode(encode(bad))
    assert str(error.value) == why


@pytest.mark.parametrize(
    "changes",
    [
        {"mm": [0] * 10}, {"mm": [0] * 10 + [-1]}, {"regs": bytes(208)}, {"xstate": bytes(1 << 20)}, {"altstack": bytes(8)},
        {"mask": -1}, {"actions": [(65, bytes(32))]}, {"actions": [(1, bytes(31))]}, {"pending": [(True, bytes(4))]},
        {"rseq": (0, -1, 0)}, {"robust": (-1, 0)}, {"auxv": bytes(1 << 20)}, {"limits": {16: (0, 0)}}, {"limits": {3: (-2, 0)}},
        {"shown": Timer(1 << 62)}, {"uid": 1 << 40}, {"comm": "c" * 100}, {"cpu_timers": [bytes(8)]}, {"used": (1 << 62, 0)},
        {"vmas": [Vma(0x400000, 0x401000, 8)]}, {"vmas": [Vma(-4096, 0x401000, 1)]},
        {"needs": ["avx2\n"]}, {"needs": ["a" * 25]}, {"needs": ["avx2"] * 129}, {"xlayout": [(2, 576, 256)] * 65},
        {"waiting_state": [(2, b"x")] * 65}, {"features": "x" * 20000},
    ],
    ids=str,
)
def test_fields_have_ranges(changes: dict[str, object]) -> None:
    with pytest.raises(BadImage, match="malformed image"):
        decode(encode(meta(**changes)))


@pytest.mark.parametrize("noise", [b"", b"\xc1", b"\x90", b"\x01", bytes(100), b"\xff" * 100, b"\xdd\xff\xff\xff\xff"])
def test_noise_is_malformed(noise: bytes) -> None:
    with pytest.raises(BadImage, match="malformed image"):
        decode(noise)


# --------------------------------------------------------------------------- pages


def frame(addr: int, raw: bytes, *, pages: int = -1, packed: bool = False, digest: int = -1) -> bytes:
    """A PAGES frame as the format's description has it."""
    count = len(raw) // PAGE if pages < 0 else pages
    checksum = xxhash.xxh3_64_intdigest(raw) if digest < 0 else digest
    header = PAGES_HEADER.pack(addr, count, COMPRESSED if packed else 0, checksum)
    return header + (zlib.compress(raw, 1) if packed else raw)


@given(st.integers(0, 2**52 - 1), st.integers(1, 5), st.integers(0, 2**32), st.booleans())
def test_pages_round_trip(page: int, count: int, seed: int, packed: bool) -> None:
    addr, raw = page * PAGE, random.Random(seed).randbytes(count * PAGE)
    found, size, content = unpack(frame(addr, raw, packed=packed))
    assert content is not None
    assert (found, size, bytes(content)) == (addr, len(raw), raw)


def test_empty_pages_need_no_data() -> None:
    assert unpack(PAGES_HEADER.pack(PAGE, 3, ZERO, 0)) == (PAGE, 3 * PAGE, None)


RAW = random.Random(1).randbytes(2 * PAGE)


@pytest.mark.parametrize(
    "payload",
    [
        frame(0, RAW, digest=1),
        frame(0, RAW, pages=1),
        frame(0, RAW, pages=3),
        frame(0, RAW, pages=0),
        frame(0, RAW)[:-1],
        frame(0, RAW) + b"x",
        frame(0, RAW, packed=True, pages=1),
        frame(0, RAW, packed=True, pages=3),
        frame(0, RAW, packed=True)[:-40],
    ],
)
def test_damaged_pages(payload: bytes) -> None:
    with pytest.raises(BadImage, match=r"are damaged|at once"):
        unpack(payload)


def test_a_bomb_is_not_inflated_beyond_what_was_announced() -> None:
    bomb = frame(0, bytes(64 << 20), packed=True, pages=1)
    assert len(bomb) < 1 << 20
    with pytest.raises(BadImage):
        unpack(bomb)


# --------------------------------------------------------------------------- far nodes


with_zstd = pytest.mark.skipif(packing.zstd is None, reason="zstandard is not installed")
HEADS = {Kind.PAGES: PAGES_HEADER, Kind.RUNS: RUNS_HEADER}
FAR = {"near": (True, packing.TAKES_ZSTD, 0), "far, zlib": (False, 0, COMPRESSED), "far, zstd": (False, packing.TAKES_ZSTD, ZSTD)}


@pytest.mark.parametrize(
    ("near", "takes", "flag"), [pytest.param(*row, id=name, marks=with_zstd if row[2] == ZSTD else ()) for name, row in FAR.items()]
)
@pytest.mark.parametrize("together", [False, True])
def test_far_memory_is_packed_as_its_receiver_takes_it(near: bool, takes: int, flag: int, together: bool) -> None:
    """And near memory is not (mosix(7), partners, note on proximity); all of it arrives."""
    pages = [page * PAGE for page in range(1, 65, 2 if together else 1)]
    there = Written({at: f"{at:08} of the same kind; ".encode().ljust(32, b".") * (PAGE // 32) for at in pages})
    with closing(PageSender(there, there, 1, near=near, runs=True, packs=takes)) as sender:  # type: ignore[arg-type]
        sender.send(merge((at, at + PAGE) for at in pages))
    [sent] = there.frames
    assert (sent.kind, HEADS[sent.kind].unpack_from(sent.payload)[-2]) == (Kind.RUNS if together else Kind.PAGES, flag)
    assert (len(sent.payload) < len(pages) * PAGE // 20) is not near
    found = {addr: bytes(raw) for addr, _, raw in runs_of(sent) if raw is not None}
    assert b"".join(found[at] for at in sorted(found)) == b"".join(there.memory.values())


def test_who_has_no_zstd_neither_offers_nor_uses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the other side says; what it is sent all the same is an error of that image."""
    monkeypatch.setattr(packing, "zstd", None)
    monkeypatch.setattr(packing, "OFFERED", 0)
    assert packing.packing(near=False, takes=packing.TAKES_ZSTD).flag == COMPRESSED
    with pytest.raises(BadImage):
        packing.unpacked(memoryview(bytes(100)), ZSTD, PAGE)


@with_zstd
@pytest.mark.parametrize("spoil", [
    lambda raw: packing.zstd.compress(raw + raw), lambda raw: packing.zstd.compress(raw[:-1]), lambda raw: b"", lambda raw: raw,
    lambda raw: packing.zstd.compress(raw)[:-5], lambda raw: packing.zstd.compress(raw)[:9] + bytes(40),
    lambda raw: packing.zstd.ZstdCompressor(write_content_size=False).compress(raw),
    lambda raw: packing.zstd.compress(bytes(1 << 30)),
])  # fmt: skip
def test_bad_zstd_ends_the_image(spoil: Callable[[bytes], bytes]) -> None:
    """Nothing longer than the pages is made of it."""
    with pytest.raises(BadImage):
        packing.unpacked(memoryview(spoil(bytes(range(256)) * 16)), ZSTD, PAGE)


@with_zstd
@pytest.mark.parametrize("together", [False, True])
def test_a_file_can_be_read_without_zstd(together: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a far node sends for a freeze file or a checkpoint, which another node may read later."""
    memory = {at * PAGE: bytes([at]) * PAGE if at % 3 else os.urandom(PAGE) for at in range(1, 65, 2 if together else 1)}
    there = Written(memory)
    with closing(PageSender(there, there, 1, near=False, runs=True, packs=packing.TAKES_ZSTD)) as sender:  # type: ignore[arg-type]
        sender.send(merge((at, at + PAGE) for at in memory))
    sent = [*there.frames, Frame(Kind.PAGES, 0, 1, PAGES_HEADER.pack(PAGE, 1, ZERO, 0))]
    assert HEADS[sent[0].kind].unpack_from(sent[0].payload)[-2] == ZSTD
    before = [[(addr, size, raw and bytes(raw)) for addr, size, raw in runs_of(frame)] for frame in sent]
    kept = [for_file(frame) for frame in sent]
    monkeypatch.setattr(packing, "zstd", None)
    frames = [Frame(frame.kind, frame.flags, frame.pair, payload) for frame, payload in zip(sent, kept)]
    assert [[(addr, size, raw and bytes(raw)) for addr, size, raw in runs_of(frame)] for frame in frames] == before
    assert sum(map(len, kept)) < len(memory) * PAGE


@with_zstd
@pytest.mark.parametrize("together", [False, True])
def test_what_comes_from_a_host_is_compressed_for_a_file(together: bool) -> None:
    """Once; what nothing compresses, and what says that pages are empty, is kept as it came."""
    memory = {at * PAGE: bytes([at]) * PAGE for at in range(1, 65, 2 if together else 1)}
    there = Written(memory)
    with closing(PageSender(there, there, 1, near=True, runs=True)) as sender:  # type: ignore[arg-type]
        sender.send(merge((at, at + PAGE) for at in memory))
    [sent] = there.frames
    kept = for_file(sent, compressed=True)
    assert len(kept) < len(sent.payload) // 20
    again = Frame(sent.kind, 0, 1, kept)
    assert [(addr, size, bytes(raw or b"")) for addr, size, raw in runs_of(again)] == [
        (addr, size, bytes(raw or b"")) for addr, size, raw in runs_of(sent)
    ]
    noise = os.urandom(PAGE)
    empty, random = PAGES_HEADER.pack(PAGE, 1, ZERO, 0), PAGES_HEADER.pack(PAGE, 1, 0, xxhash.xxh3_64_intdigest(noise)) + noise
    for payload in (kept, empty, random):
        kind = sent.kind if payload is kept else Kind.PAGES
        assert for_file(Frame(kind, 0, 1, payload), compressed=True) == payload


# --------------------------------------------------------------------------- runs of pages


class Written:
    """Memory that a sender reads, and what it sends."""

    pid = os.getpid()

    def __init__(self, memory: dict[int, bytes]) -> None:
        self.memory = memory
        self.frames: list[Frame] = []

    def read_into(self, addr: int, buffer: memoryview) -> int:
        for at in range(0, len(buffer), PAGE):
            buffer[at : at + PAGE] = self.memory[addr + at]
        return len(buffer)

    def read_runs(self, runs: list[tuple[int, int]], buffer: memoryview) -> bool:
        at = 0
        for start, end in runs:
            at += self.read_into(start, buffer[at : at + end - start])
        return at == len(buffer)

    def send(self, kind: int, pair: int, payload: Any = b"", flags: int = 0) -> None:
        assert check(To.HOST, kind, flags, pair, bytes(payload)) is None
        self.frames.append(Frame(kind, flags, pair, bytes(payload)))


spaces = st.dictionaries(st.integers(1, 400), st.sampled_from([0, 0, 1, 2, 3]), min_size=1, max_size=200)


@given(spaces, st.booleans(), st.booleans(), st.booleans(), st.booleans())
def test_what_a_sender_sends_is_the_memory(space: dict[int, int], runs: bool, near: bool, again: bool, whole: bool) -> None:
    there = Written({page * PAGE: bytes([value]) * PAGE for page, value in space.items()})
    sender = PageSender(there, there, 1, near=near, runs=runs)  # type: ignore[arg-type]
    ranges = merge((at, at + PAGE) for at in there.memory)
    with closing(sender):
        sender.send(ranges, again=again, whole=whole)
    assert sender.frames == len(there.frames)
    assert runs or not any(frame.kind == Kind.RUNS for frame in there.frames)
    if runs and whole:
        assert len(there.frames) <= len(there.memory) // 32 + 1
    found: dict[int, bytes] = {}
    for frame in there.frames:
        for addr, length, raw in runs_of(frame):
            for at in range(0, length, PAGE):
                assert addr + at not in found
                found[addr + at] = bytes(PAGE) if raw is None else bytes(raw[at : at + PAGE])
    wanted = {at: page for at, page in there.memory.items() if any(page) or again or whole}
    assert found == wanted


@given(st.lists(st.integers(1, 100), min_size=1, max_size=200, unique=True), st.booleans())
def test_empty_ranges_may_share_frames(pages: list[int], runs: bool) -> None:
    there = Written({})
    ranges = merge((page * PAGE, page * PAGE + PAGE) for page in pages)
    with closing(PageSender(there, there, 1, near=True, runs=runs)) as sender:  # type: ignore[arg-type]
        sender.empty(ranges)
    found = [run for frame in there.frames for run in runs_of(frame)]
    assert all(raw is None for _, _, raw in found)
    assert merge((addr, addr + length) for addr, length, _ in found) == ranges
    assert len(there.frames) == sender.frames <= (-(-len(ranges) // MOST_RUNS) if runs else len(ranges))


def runs_frame(heads: list[tuple[int, int, int]], raw: bytes, *, count: int = -1, flags: int = 0, digest: int = -1) -> bytes:
    checksum = xxhash.xxh3_64_intdigest(raw) if digest < 0 else digest
    head = struct.pack("<IIQ", len(heads) if count < 0 else count, flags, checksum)
    return head + b"".join(struct.pack("<QII", *each) for each in heads) + (zlib.compress(raw, 1) if flags & COMPRESSED else raw)


TWO = [(PAGE, 1, 0), (9 * PAGE, 1, 0)]


def test_runs_are_as_their_description_has_them() -> None:
    assert unpack_runs(runs_frame([TWO[0], (4 * PAGE, 70, ZERO), TWO[1]], RAW)) == [
        (PAGE, PAGE, RAW[:PAGE]), (4 * PAGE, 70 * PAGE, None), (9 * PAGE, PAGE, RAW[PAGE:]),
    ]  # fmt: skip
    assert unpack_runs(runs_frame(TWO, RAW, flags=COMPRESSED))[1] == (9 * PAGE, PAGE, RAW[PAGE:])


@pytest.mark.parametrize(
    "payload",
    [
        b"", bytes(15), bytes(32),
        runs_frame(TWO, RAW, count=0), runs_frame(TWO, RAW, count=65), runs_frame(TWO, RAW, count=0xFFFFFFFF),
        runs_frame(TWO, RAW, count=1), runs_frame(TWO, RAW, digest=1), runs_frame(TWO, RAW[:-1]), runs_frame(TWO, RAW + b"x"),
        runs_frame([(PAGE, 0, 0), *TWO], RAW), runs_frame([(PAGE + 1, 1, 0), TWO[1]], RAW), runs_frame([(PAGE, 0, ZERO)], b""),
        runs_frame([(PAGE, (1 << 20) + 1, ZERO)], b""), runs_frame([(PAGE, 40, 0), (PAGE, 40, 0)], bytes(80 * PAGE)),
        runs_frame([(PAGE, 3, 0)], RAW, flags=COMPRESSED), runs_frame([(PAGE, 1, 0)], bytes(64 << 20), flags=COMPRESSED),
        runs_frame(TWO, RAW, flags=COMPRESSED)[:-40],
    ],
)  # fmt: skip
def test_malformed_runs(payload: bytes) -> None:
    with pytest.raises(BadImage):
        unpack_runs(payload)


JUNK = PAGES_HEADER.pack(0, 1, COMPRESSED, 0) + b"junk"


@pytest.mark.parametrize("payload", [b"", bytes(PAGES_HEADER.size - 1), JUNK])
def test_malformed_pages(payload: bytes) -> None:
    with pytest.raises(BadImage):
        unpack(payload)


def test_what_unpacks_to_more_than_a_frame_may_bring_takes_no_memory() -> None:
    """2 MB of zlib that would be half a gigabyte."""
    packer = zlib.compressobj(1)
    packed = b"".join(packer.compress(bytes(1 << 24)) for _ in range(32)) + packer.flush()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for pages in (64, 65, 32 << 12, 0xFFFFFFFF):
        with pytest.raises(BadImage):
            unpack(PAGES_HEADER.pack(0x400000, pages, COMPRESSED, 0) + packed)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10


@pytest.mark.parametrize("setting", [(22, 1, 0), (41, 2, 0), (41, 1, 1), (53, 3, 4), (53, 0, 2)])
def test_an_image_sets_nothing_else(setting: tuple[int, int, int]) -> None:
    """Of prctl(2): what does not travel would be done by a peer's word."""
    assert not known(setting)
    assert all(known(each) for each in ((41, 1, 0), (41, 1, 2), (53, 0, 4), (53, 2, 8)))
