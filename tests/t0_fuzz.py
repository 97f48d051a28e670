"""Bytes of strangers at every parser: each takes them or refuses them in its own words, and raises nothing else.

Two kinds: any bytes, and good ones with a few of their bytes changed. MOSIX_TEST_RANDOM=1 tries new ones each time.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mosfs.calls import request
from mosfs.cluster import mosix_map, private_conf, scalars, secret, userview
from mosfs.cluster.errors import ConfigError
from mosfs.daemon import launch
from mosfs.mbox import filters
from mosfs.migrate import filecopy, image, pages, precopy
from mosfs.procfs import table
from mosfs.ptf import travel
from mosfs.wire import datagram, frames, messages, record

KEY = bytes(32)


class Parser(NamedTuple):
    """``refusals``: all that it may raise; ``good``: bytes that it takes."""

    parse: Callable[[bytes], Any]
    refusals: tuple[type[Exception], ...]
    good: bytes


def nobody(_name: str) -> None:
    return None


def text(parse: Callable[[str], Any]) -> Callable[[bytes], Any]:
    return lambda data: parse(data.decode("utf-8", "replace"))


def frame(data: bytes) -> None:
    """The first two bytes choose kind and end."""
    kind, to = (*data[:2], 0, 0)[:2]
    ends = list(frames.To)
    frames.check(ends[to % len(ends)], kind, 0, 1, data[2:])


def sealed(data: bytes) -> None:
    """A datagram of one who knows the key."""
    found = datagram.unseal(data + blake2b(data, key=KEY, digest_size=16).digest(), KEY)
    for item in found.items:
        if item[3]:
            datagram.unpack_facts(item[3])


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
GOOD_FRAME = bytes([frames.Kind.SIGNAL, 1]) + bytes([1]) + bytes(127)

PARSERS: dict[str, Parser] = {
    "frame": Parser(frame, (frames.BadFrame,), GOOD_FRAME),
    "control message": Parser(messages.decode_control, (msgspec.MsgspecError, ValueError), GOOD_STATE),
    "peer message": Parser(messages.decode_peer, (msgspec.MsgspecError, ValueError), GOOD_STATE),
    "datagram": Parser(sealed, (datagram.BadDatagram,), GOOD_DATAGRAM),
    "launcher": Parser(launch.parse, (launch.Refused,), b"RUN\0node=1\0lock=1\0private=/tmp\0trace=-1"),
    "call": Parser(request.unpack, (request.BadRequest,), GOOD_CALL),
    "reply": Parser(request.unpack_reply, (request.BadRequest,), request.pack_reply(1, [(4096, b"data")])),
    "seen": Parser(request.signals_seen, (request.BadRequest,), GOOD_CALL),
    "image": Parser(image.decode, (image.BadImage,), b"\xdc\x00\x14" + bytes(40)),
    "pages": Parser(pages.unpack, (image.BadImage,), pages.PAGES_HEADER.pack(4096, 1, pages.COMPRESSED, 0) + b"x\x9c" + bytes(30)),
    "recording": Parser(recording, (record.BadRecording,), GOOD_RECORDING),
    "early": Parser(precopy.early_from, (image.BadImage,), msgspec.msgpack.encode([[[4096, 8192, 0]], 0])),
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
    "checkpoint": Parser(text(table.name_of_checkpoints), (ValueError,), b"/tmp/name.1"),
}


@st.composite
def changed(draw: st.DrawFn, good: bytes) -> bytes:
    """``good`` with up to four bytes changed, cut or with something put in."""
    data = bytearray(good)
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        match draw(st.integers(0, 2)):
            case 0:
                data[at:at + 1] = bytes([draw(st.integers(0, 255))])
            case 1:
                del data[at:at + draw(st.integers(1, 8))]
            case _:
                data[at:at] = draw(st.binary(max_size=8))
    return bytes(data)


@pytest.mark.parametrize("name", PARSERS)
def test_a_parser_takes_it_or_says_why_not(name: str) -> None:
    parser = PARSERS[name]

    @settings(max_examples=300)
    @given(st.binary(max_size=400) | changed(parser.good))
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
