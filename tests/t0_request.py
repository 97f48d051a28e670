"""Forwarded calls on the wire: everything comes out as it went in, and nothing malformed comes in."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mosfs.calls import stored
from mosfs.calls.request import (
    BLOB,
    BLOCK,
    CALL_HEAD,
    MAX_EDGES,
    NO_ARG,
    OUT,
    PAGE,
    REPLY_HEAD,
    BadRequest,
    Blob,
    Comes,
    Request,
    arrange,
    changed,
    pack_reply,
    returned,
    unpack,
    unpack_reply,
)

u16, u32, u64 = (st.integers(0, 2**bits - 1) for bits in (16, 32, 64))
i64 = st.integers(-(2**63), 2**63 - 1)


@st.composite
def blobs(draw: st.DrawFn) -> Blob:
    data = draw(st.none() | st.binary(min_size=1, max_size=60))
    size = draw(st.integers(len(data or b""), 100)) if draw(st.booleans()) else len(data or b"") + draw(u16)
    arg = draw(st.sampled_from([0, 1, 2, 3, 4, 5, NO_ARG]))
    return Blob(draw(u64), size, data, arg, draw(st.sampled_from(Comes)), draw(u16), draw(u32))


@st.composite
def requests(draw: st.DrawFn) -> Request:
    made = Request(draw(st.integers(-(2**31), 2**31 - 1)), tuple(draw(st.tuples(*[u64] * 6))), draw(u64))
    made.blobs = draw(st.lists(blobs(), max_size=6))
    for number, blob in enumerate(made.blobs):
        if blob.size >= 8 and draw(st.booleans()):
            offset = draw(st.integers(0, blob.size - 8))
            made.relocations.append((number, draw(st.integers(0, len(made.blobs) - 1)), offset))
        if draw(st.booleans()):
            length = draw(st.integers(0, min(blob.size, 2**16 - 1)))
            made.ranges.append((number, length, draw(st.integers(0, blob.size - length))))
    return made


@given(requests())
def test_round_trip(request: Request) -> None:
    assert unpack(request.pack()) == request


@given(requests(), st.data())
def test_a_part_of_a_request_is_none(request: Request, data: st.DataObject) -> None:
    packed = request.pack()
    with pytest.raises(BadRequest):
        unpack(packed[: data.draw(st.integers(0, len(packed) - 1))])
    with pytest.raises(BadRequest):
        unpack(packed + data.draw(st.binary(min_size=1, max_size=9)))


@given(requests(), st.data())
def test_damage_is_refused_or_makes_a_sound_request(request: Request, data: st.DataObject) -> None:
    packed = bytearray(request.pack())
    for _ in range(data.draw(st.integers(1, 4))):
        packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = unpack(bytes(packed))
    except BadRequest:
        return
    sound(found)


@given(st.binary(max_size=300))
def test_noise_is_refused_or_makes_a_sound_request(noise: bytes) -> None:
    try:
        sound(unpack(noise))
    except BadRequest:
        pass


def sound(request: Request) -> None:
    """What the deputy's side relies on when it places the blobs."""
    for blob in request.blobs:
        assert len(blob.data or b"") <= blob.size
        assert blob.arg in (0, 1, 2, 3, 4, 5, NO_ARG)
    for number, target, offset in request.relocations:
        assert request.blobs[target] and offset + 8 <= request.blobs[number].size
    for number, length, offset in request.ranges:
        assert offset + length <= request.blobs[number].size


def small(**changes: object) -> Request:
    request = Request(0, (1, 2, 3, 4, 5, 6), 0, [Blob(64, 16, b"0123456789abcdef", 1), Blob(128, 4)])
    for name, value in changes.items():
        setattr(request, name, value)
    return request


@pytest.mark.parametrize(
    "request_",
    [
        small(relocations=[(2, 0, 0)]),
        small(relocations=[(0, 2, 0)]),
        small(relocations=[(0, 1, 9)]),
        small(relocations=[(1, 0, 0)]),
        small(ranges=[(2, 1, 0)]),
        small(ranges=[(0, 1, 16)]),
        small(ranges=[(0, 17, 0)]),
        small(blobs=[Blob(64, 15, b"0123456789abcdef")]),
        small(blobs=[Blob(64, 16, None, 6)]),
    ],
)
def test_what_would_reach_beyond_is_refused(request_: Request) -> None:
    with pytest.raises(BadRequest):
        unpack(request_.pack())


def test_an_unknown_rule_is_refused() -> None:
    packed = bytearray(small().pack())
    packed[CALL_HEAD.size + 17] = max(Comes) + 1  # behind address, size, sent and argument
    with pytest.raises(BadRequest):
        unpack(bytes(packed))
    assert BLOB.size == 24


@pytest.mark.parametrize("count", [254, 255, 256, 1024, 1025])
def test_as_many_blobs_as_the_longest_vector_has(count: int) -> None:
    """IOV_MAX entries and their array; each entry is a pointer to be turned."""
    request = Request(20, (1, 2, count, 0, 0, 0), 0)
    request.blobs = [Blob(0, 16 * 1024, bytes(16), 1), *(Blob(64 * i, 1, b"x") for i in range(1, count))]
    request.relocations = [(0, i, 16 * i) for i in range(1, min(count, 1024))]
    assert unpack(request.pack()) == request


# --------------------------------------------------------------------------- replies


@given(i64, st.lists(st.tuples(u64, st.binary(max_size=50)), max_size=6), u16)
def test_replies_round_trip(result: int, outs: list[tuple[int, bytes]], flags: int) -> None:
    assert unpack_reply(pack_reply(result, outs, flags)) == (result, flags, outs)


def test_a_part_of_a_reply_is_none() -> None:
    """Half of an answer must not look like a whole one, and more is not one either."""
    packed = pack_reply(3, [(64, b"abc"), (128, b"defg")])
    for wrong in [*(packed[:size] for size in range(len(packed))), packed + b"x"]:
        with pytest.raises((BadRequest, struct.error)):
            unpack_reply(wrong)


def test_sizes_of_replies() -> None:
    assert len(pack_reply(-1, [])) == REPLY_HEAD.size == 16
    assert len(pack_reply(0, [(1, b"ab"), (2, b"")])) == REPLY_HEAD.size + 2 * OUT.size + 2


# --------------------------------------------------------------------------- what comes back


def blob(size: int, comes: Comes, factor: int = 1, plus: int = 0) -> Blob:
    return Blob(0, size, None, NO_ARG, comes, factor, plus)


@pytest.mark.parametrize(
    ("blobs_", "result", "expected"),
    [
        ([blob(8, Comes.NOTHING)], 5, []),
        ([blob(8, Comes.SUCCESS)], 0, [(0, 8)]),
        ([blob(8, Comes.SUCCESS)], -1, []),
        ([blob(8, Comes.ALWAYS)], -4, [(0, 8)]),
        ([blob(8, Comes.RETURNED)], 3, [(0, 3)]),
        ([blob(8, Comes.RETURNED)], 30, [(0, 8)]),
        ([blob(8, Comes.RETURNED)], 0, []),
        ([blob(40, Comes.RETURNED, 12)], 2, [(0, 24)]),
        ([blob(40, Comes.RETURNED, 1, 1)], 0, [(0, 1)]),
        ([blob(16, Comes.NOTHING), blob(4, Comes.SEQUENCE), blob(4, Comes.SEQUENCE), blob(4, Comes.SEQUENCE)], 6,
         [(1, 4), (2, 2)]),
        ([blob(4, Comes.SEQUENCE)], -11, []),
    ],
)  # fmt: skip
def test_returned(blobs_: list[Blob], result: int, expected: list[tuple[int, int]]) -> None:
    assert returned(blobs_, result) == expected


@given(st.lists(st.builds(blob, st.integers(0, 50), st.sampled_from(Comes)), max_size=8), st.integers(-200, 200))
def test_never_more_comes_back_than_there_is(parts: list[Blob], result: int) -> None:
    found = returned(parts, result)
    assert all(0 < size <= parts[number].size for number, size in found)
    spread = sum(size for number, size in found if parts[number].comes is Comes.SEQUENCE)
    room = sum(part.size for part in parts if part.comes is Comes.SEQUENCE)
    assert spread == min(max(result, 0), room)


@given(st.lists(st.tuples(st.integers(0, 2**47), st.integers(1, 20000), st.booleans()), max_size=12))
def test_blobs_keep_their_place_and_end_at_edges(rows: list[tuple[int, int, bool]]) -> None:
    blobs = [Blob(addr, size, edge=edge) for addr, size, edge in rows]
    places, barred, total = arrange(blobs)
    assert len(places) == len(blobs) and len(barred) == sum(blob.edge for blob in blobs)
    end = 0
    for blob, place in zip(blobs, places, strict=True):
        assert place >= end
        end = place + blob.size
        if blob.edge:
            assert end in barred
            end += PAGE
        else:
            assert (place - blob.addr) % (PAGE if blob.size >= BLOCK else 16) == 0
    assert total >= end and all(page % PAGE == 0 for page in barred)
    for page in barred:
        assert all(place >= page + PAGE or place + blob.size <= page for blob, place in zip(blobs, places, strict=True))


@pytest.mark.parametrize(
    ("nr", "outs", "expected"),
    [
        (0, [(64, b"whole")], [(64, b"whole")]),
        (7, [(64, b"ffffeerrFFFFEERR")], [(70, b"rr"), (78, b"RR")]),
        (271, [(64, b"ffffeerr"), (200, b"the time left...")], [(70, b"rr"), (200, b"the time left...")]),
        (7, [(64, b"ffffeerrff")], [(70, b"rr")]),  # the second cannot be reached as a whole
    ],
)
def test_of_struct_pollfd_revents_is_stored(nr: int, outs: list[tuple[int, bytes]], expected: list[tuple[int, bytes]]) -> None:
    assert list(stored.pieces(nr, 64, outs)) == expected


@given(st.binary(max_size=60), st.data())
def test_changed(before: bytes, data: st.DataObject) -> None:
    after = bytearray(before)
    for at in data.draw(st.lists(st.integers(0, max(len(before) - 1, 0)), max_size=3)) if before else ():
        after[at] = data.draw(st.integers(0, 255))
    first, last = changed(before, bytes(after))
    assert before[:first] == after[:first] and before[last:] == after[last:]
    assert first == last == 0 if before == after else before[first] != after[first] and before[last - 1] != after[last - 1]


def test_an_edge_survives_the_wire() -> None:
    blobs = [Blob(4096, 8, b"12345678", 1, Comes.SUCCESS, edge=True), Blob(8192, 8, None, 2, Comes.RETURNED)]
    assert unpack(Request(0, (0,) * 6, 0, blobs).pack()).blobs == blobs


def test_edges_are_limited() -> None:
    blobs = [Blob(4096, 1, edge=True)] * MAX_EDGES
    assert unpack(Request(0, (0,) * 6, 0, blobs).pack()).blobs == blobs
    with pytest.raises(BadRequest):
        unpack(Request(0, (0,) * 6, 0, [*blobs, blobs[0]]).pack())
