"""Bytes of strangers at every parser: each takes them or refuses them in its own words, and raises nothing else.

Two kinds: any bytes, and good ones (of every message, frame, image, file) with bits turned over, pieces cut out, put in, repeated,
or taken from another. MOSIX_TEST_RANDOM=1 tries new ones each time.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from mosfs.abi import cpu
from mosfs.balance import choose
from mosfs.balance.best import best_node
from mosfs.balance.cost import NEAR, Candidate
from mosfs.calls import request
from mosfs.cluster import mosix_map, private_conf, scalars, secret, userview
from mosfs.cluster.errors import ConfigError
from mosfs.daemon import launch
from mosfs.mbox import filters
from mosfs.migrate import checkpoint, filecopy, image, packing, pages, precopy
from mosfs.procfs import table
from mosfs.ptf import travel
from mosfs.tools import recover
from mosfs.tools.options import UserError
from mosfs.wire import datagram, frames, messages, record
from tests import damage
from tests.t0_checkpoints import HEAD, written
from tests.t1_frames import SOUND

KEY = bytes(32)


class Parser(NamedTuple):
    """``refusals``: all that it may raise; ``good``: bytes that it takes, and more of them."""

    parse: Callable[[bytes], Any]
    refusals: tuple[type[Exception], ...]
    good: bytes
    more: tuple[bytes, ...] = ()


def nobody(_name: str) -> None:
    return None


def text(parse: Callable[[str], Any]) -> Callable[[bytes], Any]:
    return lambda data: parse(data.decode("utf-8", "replace"))


def frame(data: bytes) -> None:
    """The first byte is the kind; it comes to the end where it belongs."""
    kind = (*data[:1], 0)[0]
    shape = frames.SHAPES.get(kind)
    frames.check(shape.to[0] if shape is not None else frames.To.HOST, kind, 0, 1, data[1:])


def checkpoint_file(data: bytes) -> None:
    """Both readers; the tracer's to its end."""
    fd = os.memfd_create("file")
    try:
        os.write(fd, data)
        os.lseek(fd, 0, os.SEEK_SET)
        try:
            recover.head_of(fd, "save.1")
        except UserError:
            pass
        os.lseek(fd, 0, os.SEEK_SET)
        reader = checkpoint.Reader(fd)
        reader.head()
        for kind, payload in reader.records():
            if kind == checkpoint.FRAMES + frames.Kind.PAGES:
                pages.unpack(payload)
    finally:
        os.close(fd)


def checkpoint_head(data: bytes) -> None:
    """With the right checksum."""
    start = struct.pack("<IHH", len(data), checkpoint.HEAD, 0)
    crc = struct.pack("<I", zlib.crc32(data, zlib.crc32(start)))
    rest = start + crc + data + written()[-checkpoint.RECORD.size - 8 :]
    try:
        checkpoint_file(checkpoint.OF_THREADS + rest)
    except image.BadImage:
        checkpoint_file(checkpoint.MAGIC + rest)


def sealed(data: bytes) -> None:
    """A datagram of one who knows the key."""
    found = datagram.unseal(data + blake2b(data, key=KEY, digest_size=16).digest(), KEY)
    for item in found.items:
        if item[3]:
            status, _, processor = datagram.unpack_facts(item[3])
            decide_by(status, cpu.unpacked(processor))


def decide_by(status: messages.PeerStatus, flags: frozenset[str]) -> None:
    """Whatever a node says of itself, the others can decide by it."""
    here, there = (
        Candidate(
            ip, status.load, status.speed, status.ncpus, status.mem_free, 1, status.mem_total, not status.blocked, flags
        )
        for ip in ("10.0.0.1", "10.0.0.2")
    )  # fmt: skip
    process = choose.Process(1, "x", "", 5.0, 5.0, 1.0, 100, required=frozenset({"avx"}))
    [verdict] = choose.decide(here, [there], [process], choose.Switches(), lambda ip: NEAR, lambda names: names[0])
    assert verdict.pid == 1
    best_node([here, there], 100, lambda names: names[0])


def control_file(data: bytes) -> None:
    said = data.decode("utf-8", "replace")
    for row in table.CONTROL_FILES:
        try:
            table.parse(row, said)
        except ValueError:
            pass


def recording(data: bytes) -> None:
    for _ in record.read(io.BytesIO(data)):
        pass


def mapped(said: str) -> None:
    mosix_map.validate_map(mosix_map.parse_map(said), nobody)


def viewed(said: str) -> None:
    userview.validate_userview(userview.parse_userview(said), nobody)


def private(said: str) -> None:
    private_conf.validate_private(private_conf.parse_private(said))


GOOD_CALL = request.Request(1, (1, 2, 3, 4, 5, 6), 7, [request.Blob(4096, 8, b"12345678", 1, request.Comes.ALWAYS, 0, 0)]).pack()
GOOD_DATAGRAM = datagram.seal(datagram.Datagram(1, 2, 3, items=[(7, 1, 1, b"")]), KEY)[:-16]
GOOD_MANIFEST = travel.encode(travel.Manifest([b"/tmp"], 1, 0o22, 2, [travel.FileRecord(1, b"/tmp/a", 0o644, 1, 1, 1)], []))
GOOD_STATE = messages.encode(messages.HelloTracer(1, 2, 3))
GOOD_RECORDING = record.MAGIC + record.ENTRY.pack(1, record.SENT) + frames.HEADER.pack(3, frames.Kind.FAIL, 0, 1) + b"why"
GOOD_FACTS = datagram.pack_facts(messages.PeerStatus(1, 10000, 2, 3, 4, 5, False), "1.2.3", bytes(range(16)))
GOOD_DATAGRAMS = (
    datagram.seal(datagram.Datagram(1, 2, 3, 4, 5, datagram.Flag.WANTS_WINDOW, [(7, 1, 1, GOOD_FACTS), (8, 2, 0, b"")]), KEY)[:-16],
)
GOOD_FRAMES = tuple(bytes([kind]) + payload for kind, payload in sorted(SOUND.items()))
GOOD_CONTROL, GOOD_PEER = (
    tuple(damage.plain(message) for message in damage.messages(union)) for union in (messages.Control, messages.Peer)
)
GOOD_IMAGE = image.encode(image.ImageMeta(
    version=image.VERSION, pid=1, uid=0, comm="c", features="sse sse2 xcr0=3 sigframe=0", regs=bytes(216), xstate=bytes(576),
    mask=1, actions=[(2, bytes(32))], ignored=1, altstack=bytes(24), pending=[(True, b"\x0a" + bytes(127))], rseq=(1 << 20, 32, 5),
    tid_address=1 << 21, robust=(1 << 22, 24), mm=[0] * 11, auxv=bytes(32),
    vmas=[image.Vma(0x400000, 0x401000, 5, name="/bin/x", file=1, shared=True), image.Vma(0x500000, 0x501000, 3)],
    limits={3: (1 << 23, -1)}, shown=image.Timer(1, 2), carry=(1, 2, 3, 4),
    mail=(5, messages.LastMessage("10.0.0.1", 5, "10.0.0.2", 9)), private=GOOD_MANIFEST, guards=[(0x600000, 0x601000)],
    needs=["avx"], settings=[(41, 1, 0)],
))  # fmt: skip
GOOD_EARLY = msgspec.msgpack.encode(precopy.Early([(0x400000, 0x401000, 3, 0)], [image.Vma(0x400000, 0x401000, 5)]))
GOOD_PAGES = pages.PAGES_HEADER.pack(4096, 1, 0, xxhash.xxh3_64_intdigest(bytes(4096))) + bytes(4096)
PACKED_PAGES = (
    pages.PAGES_HEADER.pack(4096, 1, image.COMPRESSED, xxhash.xxh3_64_intdigest(bytes(4096))) + zlib.compress(bytes(4096)),
    pages.PAGES_HEADER.pack(4096, 7, pages.ZERO, 0),
    *([pages.PAGES_HEADER.pack(4096, 1, image.ZSTD, xxhash.xxh3_64_intdigest(bytes(4096))) + packing.zstd.compress(bytes(4096))]
      if packing.zstd is not None else []),
)
GOOD_RUNS = b"".join((
    pages.RUNS_HEADER.pack(2, 0, xxhash.xxh3_64_intdigest(bytes(4096))),
    pages.RUN_HEADER.pack(4096, 1, 0), pages.RUN_HEADER.pack(16384, 70, pages.ZERO), bytes(4096),
))  # fmt: skip
GOOD_FILE = written((frames.Kind.IMAGE, GOOD_IMAGE), (frames.Kind.PAGES, GOOD_PAGES), content=b"kept")
GOOD_HEAD = msgspec.json.encode(HEAD)

PARSERS: dict[str, Parser] = {
    "frame": Parser(frame, (frames.BadFrame,), GOOD_FRAMES[0], GOOD_FRAMES),
    "control message": Parser(messages.decode_control, (msgspec.DecodeError,), GOOD_STATE, GOOD_CONTROL),
    "peer message": Parser(messages.decode_peer, (msgspec.DecodeError,), GOOD_PEER[0], GOOD_PEER),
    "datagram": Parser(sealed, (datagram.BadDatagram,), GOOD_DATAGRAM, GOOD_DATAGRAMS),
    "launcher": Parser(launch.parse, (launch.Refused,), b"RUN\0node=1\0lock=1\0private=/tmp\0trace=-1"),
    "call": Parser(request.unpack, (request.BadRequest,), GOOD_CALL),
    "reply": Parser(request.unpack_reply, (request.BadRequest,), request.pack_reply(1, [(4096, b"data")])),
    "seen": Parser(request.signals_seen, (request.BadRequest,), GOOD_CALL),
    "image": Parser(image.decode, (image.BadImage,), GOOD_IMAGE),
    "pages": Parser(pages.unpack, (image.BadImage,), GOOD_PAGES, PACKED_PAGES),
    "runs": Parser(pages.unpack_runs, (image.BadImage,), GOOD_RUNS),
    "recording": Parser(recording, (record.BadRecording,), GOOD_RECORDING),
    "early": Parser(precopy.early_from, (image.BadImage,), GOOD_EARLY),
    "file": Parser(filecopy.read_frame, (image.BadImage,), filecopy.frame(1, 5, 0, b"12345")),
    "manifest": Parser(travel.decode, (travel.BadFiles,), GOOD_MANIFEST),
    "filter": Parser(filters.unpack, (filters.BadFilter,), bytes(40)),
    "filters": Parser(filters.unpack_stored, (filters.BadFilter,), bytes(40)),
    "mosix.map": Parser(text(mapped), (ConfigError,), b"10.0.0.1 4 p\n10.1.0.1=10.0.0.2\n"),
    "userview.map": Parser(text(viewed), (ConfigError,), b"1 10.0.0.1 4\n"),
    "private.conf": Parser(text(private), (ConfigError,), b"OCG /tmp 5\n"),
    "speed": Parser(text(scalars.parse_speed), (ConfigError,), b"10000\n"),
    "mosip": Parser(text(scalars.parse_mosip), (ConfigError,), b"10.0.0.1\n"),
    "guestuids": Parser(text(scalars.parse_guest_uids), (ConfigError,), b"100000 500\n"),
    "secret": Parser(secret.parse_secret, (ConfigError,), b"a secret that is long enough\n"),
    "control file": Parser(control_file, (), b"1\n"),
    "checkpoint file": Parser(checkpoint_file, (image.BadImage,), GOOD_FILE),
    "checkpoint head": Parser(checkpoint_head, (image.BadImage,), GOOD_HEAD),
    "checkpoint": Parser(text(table.name_of_checkpoints), (ValueError,), b"/tmp/name.1"),
}


@st.composite
def changed(draw: st.DrawFn, goods: Sequence[bytes]) -> bytes:
    """One of ``goods`` with up to four changes: a byte, a bit, a piece cut out, put in, repeated very often, or of another; or its
    end cut off."""
    data = bytearray(draw(st.sampled_from(goods)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        match draw(st.integers(0, 6)):
            case 0:
                data[at:at + 1] = bytes([draw(st.integers(0, 255))])
            case 1 if at < len(data):
                data[at] ^= 1 << draw(st.integers(0, 7))
            case 2:
                del data[at:at + draw(st.integers(1, 8))]
            case 3:
                data[at:at] = draw(st.binary(max_size=8))
            case 4:
                data[at:at] = data[at:at + draw(st.integers(1, 16))] * draw(st.sampled_from((1, 2, 2000)))
            case 5:
                other = draw(st.sampled_from(goods))
                data[at:] = other[draw(st.integers(0, len(other))):]
            case _:
                del data[at:]
    return bytes(data)


@pytest.mark.parametrize("name", PARSERS)
def test_what_is_good_is_taken(name: str) -> None:
    """Else its changes would say nothing."""
    parser = PARSERS[name]
    for good in (parser.good, *parser.more):
        parser.parse(good)


@pytest.mark.parametrize("name", PARSERS)
def test_a_parser_takes_it_or_says_why_not(name: str) -> None:
    parser = PARSERS[name]

    @settings(max_examples=300)
    @given(st.binary(max_size=400) | changed([parser.good, *parser.more]))
    def try_it(data: bytes) -> None:
        try:
            parser.parse(data)
        except parser.refusals:
            pass

    try_it()


@pytest.mark.parametrize("number", sorted(frames.SHAPES))
def test_every_kind_of_frame(number: int) -> None:
    """With a payload of a length that it may have."""
    shape = frames.SHAPES[number]

    @settings(max_examples=60)
    @given(st.binary(min_size=shape.least, max_size=min(shape.most, shape.least + 200)))
    def try_it(payload: bytes) -> None:
        try:
            frames.check(shape.to[0], number, 0, 1, payload)
        except frames.BadFrame:
            pass

    try_it()
