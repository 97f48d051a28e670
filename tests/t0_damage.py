"""The tables of messages refuse what is out of range, of a wrong type, too long or cut off: every field of every message."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from msgspec import inspect

from mosfs.daemon import launch
from mosfs.procfs.table import CONTROL_FILES, Kind
from mosfs.wire.asked import Settings, Start
from mosfs.wire.messages import Control, Msg, Peer, checked, decode_control, decode_peer
from tests import damage

TABLES = [(message, decode) for union, decode in ((Control, decode_control), (Peer, decode_peer))
          for message in damage.messages(union)]  # fmt: skip


@pytest.mark.parametrize(("message", "decode"), TABLES, ids=lambda value: getattr(value, "__name__", ""))
def test_every_field_of_every_message(message: type[Msg], decode: Callable[[bytes], Any]) -> None:
    assert isinstance(decode(damage.plain(message)), message)
    refused = 0
    for what, data in damage.damaged(message):
        if what.endswith("without fields") and not required(message):
            continue
        with pytest.raises(msgspec.DecodeError):
            decode(data)
            pytest.fail(what)
        refused += 1
    assert refused >= 3


def texts(kind: inspect.Type) -> Iterator[inspect.StrType | inspect.BytesType]:
    match kind:
        case inspect.StrType() | inspect.BytesType():
            yield kind
        case inspect.StructType():
            for each in kind.fields:
                yield from texts(each.type)
        case inspect.ListType():
            yield from texts(kind.item_type)


@pytest.mark.parametrize("message", damage.messages(Peer))
def test_nothing_of_a_peer_is_without_a_length(message: type[Msg]) -> None:
    assert all(kind.max_length is not None for kind in texts(inspect.type_info(message)))


@pytest.mark.parametrize(("message", "decode"), TABLES, ids=lambda value: getattr(value, "__name__", ""))
def test_nothing_nested_too_deeply(message: type[Msg], decode: Callable[[bytes], Any]) -> None:
    """Also where a message has more fields than we know: one refusal for all, whatever the decoder raises."""
    good = damage.plain(message)
    longer = bytes([good[0] + 1]) if good[0] < 0x9F else b"\xdc\x00\x10" if good[0] == 0x9F else bytes([*good[:2], good[2] + 1])
    rest = good[3:] if good[0] == 0xDC else good[1:]
    with pytest.raises(msgspec.DecodeError):
        decode(longer + rest + b"\x91" * 2000 + b"\x90")


def test_a_text_that_is_none() -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_peer(b"\x98@\0\xa1\x80")


def required(message: type[Msg]) -> bool:
    kind = inspect.type_info(message)
    assert isinstance(kind, inspect.StructType)
    return any(each.required for each in kind.fields)


def test_the_ranges_of_settings_are_those_of_the_control_files() -> None:
    for row in CONTROL_FILES:
        if row.setting and row.kind is Kind.NUMBER:
            for value in (row.lo, row.hi, -1):
                checked(Settings(**{row.setting: value}))
            for value in (-2, row.hi + 1):
                with pytest.raises(ValueError):
                    checked(Settings(**{row.setting: value}))


NONSENSE = [
    *(f"{key}={value}" for key in ("unsupported", "lock", "freezable", "needmem", "cpujob", "decay", "trace")
      for value in ("9" * 26, "9" * 5000, "-9", "x", "", "1e3", "٣" * 11)),
    "node=" + "x" * 300, "cpujob=2", "lock=-2", "decay=10001", "what=1", "private=" + "/x" * 40000,
]  # fmt: skip


@pytest.mark.parametrize("text", NONSENSE, ids=lambda text: text[:30])
def test_what_a_launcher_must_not_say(text: str) -> None:
    with pytest.raises(launch.Refused):
        launch.parse(f"RUN\0{text}".encode())


def test_numbers_that_do_not_fit_a_message() -> None:
    for value in (10**26, 2**63, -(10**30)):
        with pytest.raises(ValueError):
            checked(Start(trace=value))
