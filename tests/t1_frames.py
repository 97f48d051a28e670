"""The table of frames: every kind has a row, and what its row does not allow ends the channel before anybody looks at it."""

from __future__ import annotations

import ast
import random
import socket
import struct
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from msgspec import inspect

from mosfs.abi.reasons import Reason
from mosfs.calls import request
from mosfs.calls.cputime import FRAME
from mosfs.migrate import image
from mosfs.migrate.image import PAGES_HEADER, RUN_HEADER, RUNS_HEADER
from mosfs.migrate.pages import CHUNK
from mosfs.ptf import travel
from mosfs.wire import frame_table, orders
from mosfs.wire.channel import Channel, ChannelLost
from mosfs.wire.frames import (
    BUSY,
    CALL_HEAD,
    FORK_REPLY,
    LAST_PID,
    MAX_PAYLOAD,
    MOST_RUNS,
    REPLY_HEAD,
    RUN_HEAD,
    RUNS_HEAD,
    SHAPES,
    BadFrame,
    Cannot,
    Frame,
    Kind,
    To,
    check,
)
from mosfs.wire.messages import LastMessage

KEY = bytes(32)
ROOT = Path(__file__).parent.parent
pack = msgspec.msgpack.encode

#: A sound payload of each kind that is not a matter of its length alone.
SOUND: dict[int, bytes] = {
    Kind.IMAGE_END: struct.pack("<Q", 7), Kind.SAME: struct.pack("<4Q", 0x1000, 0x3000, 0x3000, 0x7FFFFFFFF000),
    Kind.GO: pack(orders.GoTimes(1, 2, "boot")), Kind.CLOCK: pack(orders.GoTimes(-1, 2, "boot", 3, 4, 5)),
    Kind.SIGNAL: struct.pack("<i", 10) + bytes(124),
    Kind.MOVE_TO: pack(orders.MoveOrder("10.0.0.1", 253, bytes(16), KEY, True)),
    Kind.COPY: pack(orders.MoveOrder("", 0, b"", b"", True)),
    Kind.FORK_REPLY: FORK_REPLY.pack(-11, -1, 0, 0),
    Kind.TIME: struct.pack("<2q", 5, -5),
    Kind.SHOW: b"smaps", Kind.RECALL: struct.pack("<2I", 1 << 30, (1 << 30) + 1),
    Kind.ABOUT: pack(orders.About(0, -1, 0, 99, 1.5, (1.0, 2.0, 3.0, 4.0, 5.0), -5)),
    Kind.MAIL_TABLE: pack(orders.MailTable([(3, 0x7F000001, 5, True, False, False)], 0x7F000001, -1, -1, 1 << 63)),
    Kind.FORK: pack(orders.ForkOrder(17, (1 << 64) - 1)),
    Kind.EXEC: pack(orders.ExecOrder(59, 0, b"/bin/true", [b"true"], None, 0, 0)),
    Kind.DIED: struct.pack("<i", 139), Kind.RESET: struct.pack("<i", 64), Kind.MASK: bytes(8),
    Kind.CPU_TIME: bytes(16), Kind.THREAD_TIME: bytes(16),
    Kind.ACTION: struct.pack("<i", 64) + bytes(32),
    Kind.STEP_OUT: pack(orders.OutOrder("10.0.0.2", 5, "load")),
    Kind.MMAP: pack(orders.MmapOrder(4096, 1, 2, 0xFFFFFFFF, 0, 0)),
    Kind.USED: pack(orders.Used(0.25, 3, -0.01)),
    Kind.MAIL_SEEN: pack(orders.MailSeen(0, LastMessage("10.0.0.1", 5, "10.0.0.2", 9))),
    Kind.PRIVATE_OPEN: pack(orders.PrivateOpen(0x8000, 0)),
}  # fmt: skip

#: What its type allows, but its range does not.
OUT_OF_RANGE: list[tuple[Kind, bytes]] = [
    (Kind.IMAGE_END, bytes([255] * 8)),
    (Kind.SAME, struct.pack("<4Q", 0x3000, 0x4000, 0x1000, 0x2000)), (Kind.SAME, struct.pack("<2Q", 0x1000, 1 << 47)),
    (Kind.GO, pack(orders.GoTimes(1 << 63, 2, "boot"))), (Kind.GO, pack(orders.GoTimes(1, 2, "x" * 300))),
    (Kind.SIGNAL, bytes(128)), (Kind.SIGNAL, struct.pack("<i", 65) + bytes(124)), (Kind.SIGNAL, struct.pack("<i", -1) + bytes(124)),
    (Kind.MOVE_TO, pack(orders.MoveOrder("10.0.0.1", 65536, b"", b"", True))),
    (Kind.MOVE_TO, pack(orders.MoveOrder("10.0.0.1", 253, b"", bytes(33), True))),
    (Kind.TIME, struct.pack("<2q", 0, 5)), (Kind.TIME, struct.pack("<2q", 1 << 62, 0)), (Kind.TIME, struct.pack("<2q", -1, 5)),
    (Kind.TIME, struct.pack("<2q", 5, -6)), (Kind.TIME, struct.pack("<2q", 5, (1 << 63) - 1)),
    (Kind.SHOW, b"mem"),
    (Kind.SHOW, b"../1/maps"),
    (Kind.ABOUT, pack(orders.About(0, 1 << 40, 0, 0, 0.0, (0.0,) * 5))),
    (Kind.ABOUT, pack(orders.About(2, 0, 0, 0, 0.0, (0.0,) * 5))),  # the host could not tell mosd of it: expel would miss the guest
    (Kind.ABOUT, pack(orders.About(0, 262144, 0, 0, 0.0, (0.0,) * 5))),
    (Kind.ABOUT, pack(orders.About(0, 0, -2, 0, 0.0, (0.0,) * 5))),
    (Kind.ABOUT, pack(orders.About(0, 0, 0, 10001, 0.0, (0.0,) * 5))),
    (Kind.ABOUT, pack(orders.About(0, 0, 0, 0, float("nan"), (0.0,) * 5))),
    (Kind.ABOUT, pack(orders.About(0, 0, 0, 0, 0.0, (float("inf"), 0.0, 0.0, 0.0, 0.0)))),
    (Kind.ABOUT, pack(orders.About(0, 0, 0, 0, 0.0, (0.0,) * 5, 20))),
    (Kind.MAIL_TABLE, pack(orders.MailTable([(1 << 40, 1, 5, True, False, False)], 1, 0, 0, 0))),
    (Kind.FORK, pack([-1, 0])), (Kind.FORK, pack([0, -1])),
    (Kind.EXEC, pack([1, 0, b"", [], [], 0, 0])), (Kind.EXEC, pack([59, -1, b"", [], [], 0, 0])),
    (Kind.DIED, struct.pack("<i", -1)), (Kind.DIED, struct.pack("<i", 127)), (Kind.DIED, struct.pack("<i", 1 << 20)),
    (Kind.RESET, bytes(4)), (Kind.RESET, struct.pack("<i", 65)), (Kind.CPU_TIME, bytes([255] * 16)),
    (Kind.ACTION, bytes(36)), (Kind.ACTION, struct.pack("<i", 65) + bytes(32)),
    (Kind.STEP_OUT, pack(orders.OutOrder("x" * 300))), (Kind.STEP_OUT, pack(orders.OutOrder("", 1 << 40))),
    (Kind.MMAP, pack([-1, 1, 2, 3, 0, 0])), (Kind.MMAP, pack([1, 1, 2, -1, 0, 0])),
    (Kind.USED, pack(orders.Used(float("nan"), 3))), (Kind.USED, pack(orders.Used(-1.0, 3))),
    (Kind.USED, pack(orders.Used(1.0, 1 << 40))),
    (Kind.PRIVATE_OPEN, pack([1 << 40, 0])), (Kind.RECALL, bytes(3)),
]  # fmt: skip


def sound(kind: Kind) -> bytes:
    return SOUND.get(kind, bytes(SHAPES[kind].least))


def test_every_kind_has_a_row_and_every_length_is_that_of_its_reader() -> None:
    assert SHAPES.keys() == set(Kind)
    assert (request.CALL_HEAD.size, request.REPLY_HEAD.size) == (CALL_HEAD, REPLY_HEAD)
    assert SHAPES[Kind.PAGES].least == PAGES_HEADER.size
    assert (RUNS_HEADER.size, RUN_HEADER.size) == (RUNS_HEAD, RUN_HEAD)
    assert SHAPES[Kind.RUNS].most >= RUNS_HEAD + MOST_RUNS * RUN_HEAD + CHUNK
    assert SHAPES[Kind.PRIVATE].least == travel.HEADER.size
    assert SHAPES[Kind.CPU_TIME].least == FRAME.size
    assert all(shape.most <= MAX_PAYLOAD for shape in SHAPES.values())


def test_the_page_is_made_from_the_table() -> None:
    made = "".join(frame_table.page())
    assert (ROOT / "docs/design/frames.md").read_text() == made, "python -m mosfs.wire.frame_table > docs/design/frames.md"


#: Which folder handles what comes to an end.
ROOMS = {To.TRACER: "home", To.HOST: "guest", To.NEXT_HOST: "guest", To.OLD_HOST: "guest"}


def named(room: str) -> Counter[str]:
    """How often the code of ``room`` names each kind beside a send: that is where it is handled."""
    found: Counter[str] = Counter()
    for path in (ROOT / "mosfs" / room).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare | ast.Set | ast.Dict | ast.MatchValue):
                found.update(part.attr for part in ast.walk(node) if isinstance(part, ast.Attribute) and kind_of(part))
    return found


def kind_of(node: ast.Attribute) -> bool:
    return isinstance(node.value, ast.Name) and node.value.id == "Kind"


def test_every_row_says_what_it_is_and_is_handled_at_every_end_that_it_names() -> None:
    handled = {room: named(room) for room in set(ROOMS.values())}
    for kind, shape in SHAPES.items():
        name = Kind(kind).name
        assert shape.says and (shape.least or shape.says.startswith("nothing") or shape.most), name
        assert all(handled[ROOMS[to]][name] for to in shape.to), f"{name}: nobody handles it"
        rooms = {ROOMS[to] for to in shape.to}
        answered = {ROOMS[to] for answer in shape.answers for to in SHAPES[answer].to}
        assert not answered or answered - rooms or len(shape.to) > 1, f"{name}: its answers go to whom it goes itself"
        assert (shape.most == 0) == (shape.says.startswith("nothing")) or "; nothing:" in shape.says, f"{name}: {shape.says}"


@pytest.mark.parametrize("kind", list(Kind), ids=lambda kind: kind.name)
def test_a_sound_frame_passes_and_only_where_it_belongs(kind: Kind) -> None:
    for to in To:
        if to in SHAPES[kind].to:
            check(to, kind, 0, 5, sound(kind))
        else:
            with pytest.raises(BadFrame, match="does not come here"):
                check(to, kind, 0, 5, sound(kind))


@pytest.mark.parametrize("kind", list(Kind), ids=lambda kind: kind.name)
def test_lengths_pairs_and_flags_have_ends(kind: Kind) -> None:
    shape = SHAPES[kind]
    to = shape.to[0]
    payload = sound(kind)
    for wrong in (bytes(shape.least - 1) if shape.least else bytes(shape.most + 1), bytes(shape.most + 1)):
        with pytest.raises(BadFrame):
            check(to, kind, 0, 5, wrong)
    for pair in (LAST_PID + 1, 1 << 40, (1 << 64) - 1, *(() if shape.any_pair else (0,))):
        with pytest.raises(BadFrame):
            check(to, kind, 0, pair, payload)
    if shape.flags < 0xFFFF:
        with pytest.raises(BadFrame):
            check(to, kind, shape.flags + 1, 5, payload)


@pytest.mark.parametrize(("kind", "payload"), OUT_OF_RANGE, ids=lambda value: getattr(value, "name", ""))
def test_numbers_have_ranges(kind: Kind, payload: bytes) -> None:
    with pytest.raises(BadFrame):
        check(SHAPES[kind].to[0], kind, 0, 5, payload)


@pytest.mark.parametrize("kind", sorted({*range(90), 1000, 65535} - set(Kind)))
def test_other_kinds_do_not_exist(kind: int) -> None:
    with pytest.raises(BadFrame):
        check(To.HOST, kind, 0, 5, b"")


@pytest.mark.parametrize("kind", list(Kind), ids=lambda kind: kind.name)
def test_noise_is_sound_or_a_bad_frame_and_nothing_else(kind: Kind) -> None:
    source = random.Random(kind)
    shape = SHAPES[kind]
    for _ in range(200):
        size = source.randint(shape.least, min(shape.most, shape.least + 300))
        noise = bytearray(source.randbytes(size))
        if kind in SOUND and source.random() < 0.7:
            noise = bytearray(SOUND[kind])
            for _ in range(source.randint(1, 3)):
                noise[source.randrange(len(noise))] = source.randrange(256)
        try:
            check(shape.to[0], kind, 0, 5, bytes(noise))
        except BadFrame:
            continue


DEEP = b"\x91" * 1500 + b"\x90"
NESTED = [kind for kind in SOUND if SOUND[kind][0] >> 4 == 9 and SHAPES[kind].most >= len(SOUND[kind]) + len(DEEP)]


@pytest.mark.parametrize("kind", NESTED, ids=lambda kind: kind.name)
def test_what_is_nested_too_deeply_is_a_bad_frame(kind: Kind) -> None:
    """Also in a field more than we know, as a later version may have."""
    payload = SOUND[kind]
    with pytest.raises(BadFrame, match="recursion"):
        check(SHAPES[kind].to[0], kind, 0, 5, bytes([payload[0] + 1]) + payload[1:] + DEEP)


@contextmanager
def ends(end: To) -> Iterator[tuple[Channel, Channel]]:
    near, far = socket.socketpair()
    with near, far:
        yield Channel(near, KEY, opener=True), Channel(far, KEY, opener=False, end=end)


def test_a_frame_that_does_not_belong_there_ends_the_channel() -> None:
    with ends(To.HOST) as (near, far):
        near.send(Kind.RESUME, 5)
        assert list(far.frames()) == [Frame(Kind.RESUME, 0, 5, b"")]
        near.send(Kind.CALL, 5, bytes(CALL_HEAD))
        with pytest.raises(ChannelLost, match="does not come here"):
            list(far.frames())
        assert far.lost


def test_content_comes_with_its_frame() -> None:
    with ends(To.TRACER) as (near, far):
        near.send(Kind.MASK, 5, struct.pack("<Q", 1 << 63))
        near.send(Kind.FAIL, 5, b"no \xff")
        near.send(Kind.STEP_OUT, 5, b"")
        assert [frame.content for frame in far.frames()] == [1 << 63, "no \ufffd", orders.OutOrder("")]


def test_a_host_says_why_it_cannot_send_an_image() -> None:
    """The text is what nodes of older versions send and read."""
    for refusal, payload in (
        (Cannot(Reason.INCOMPLETE), b"did not complete (no memory there?)"),
        (Cannot("busy", passing=True), b"busy"),
        (Cannot("needs avx, which 3 lacks", passing=True), b"busy: needs avx, which 3 lacks"),
    ):
        assert check(To.TRACER, Kind.CANNOT, 0, 7, payload) == refusal
        assert Cannot.unpack(refusal.pack()).passing is refusal.passing
    assert BUSY == b"busy"


def lists(kind: inspect.Type) -> Iterator[inspect.ListType]:
    """All lists in a type, and in what they have."""
    match kind:
        case inspect.ListType():
            yield kind
            yield from lists(kind.item_type)
        case inspect.StructType():
            for each in kind.fields:
                yield from lists(each.type)
        case inspect.TupleType():
            for each in kind.item_types:
                yield from lists(each)
        case inspect.UnionType():
            for each in kind.types:
                yield from lists(each)


#: Everything that is decoded of what comes over a channel.
DECODED = [
    orders.GoTimes, orders.MoveOrder, orders.About, orders.MailTable, orders.ForkOrder, orders.ExecOrder, orders.OutOrder,
    orders.MmapOrder, orders.Used, orders.MailSeen, orders.PrivateOpen, image.ImageMeta, travel.Manifest, LastMessage,
]  # fmt: skip


@pytest.mark.parametrize("struct_", DECODED, ids=lambda found: found.__name__)
def test_no_list_is_without_a_length(struct_: type[msgspec.Struct]) -> None:
    """A byte of a frame becomes a hundred of memory."""
    assert all(kind.max_length is not None for kind in lists(inspect.type_info(struct_)))


def test_these_are_all_structures_of_frames() -> None:
    told = {found for found in vars(orders).values() if isinstance(found, type) and issubclass(found, msgspec.Struct)}
    assert told - {msgspec.Struct} <= set(DECODED)
