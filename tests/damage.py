"""Messages that nobody should send: for every message of a table, every field wrong in every way that its type has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import msgspec
from msgspec import inspect

from mosfs.wire.messages import Msg, encode

#: Integers that are too small or too big for any field with a range.
OUTSIDE = (-(2**63), 2**64 - 1)


def messages(union: Any) -> list[type[Msg]]:
    return list(get_args(union))


def values(kind: Any) -> Any:
    """A value that the type takes, as plain as msgpack has them."""
    match kind:
        case inspect.IntType():
            return 0 if kind.ge is None or kind.ge <= 0 else kind.ge
        case inspect.FloatType():
            return 0.0
        case inspect.BoolType():
            return False
        case inspect.StrType():
            return ""
        case inspect.BytesType():
            return b""
        case inspect.ListType() | inspect.VarTupleType():
            return []
        case inspect.TupleType():
            return [values(each) for each in kind.item_types]
        case inspect.DictType():
            return {}
        case inspect.UnionType():
            return None
        case inspect.StructType():
            return [values(each.type) for each in kind.fields]
        case inspect.LiteralType():
            return kind.values[0]
    raise AssertionError(kind)


def wrong(kind: Any) -> Iterator[Any]:
    """Values that the type must not take."""
    match kind:
        case inspect.IntType():
            assert kind.ge is not None and kind.le is not None, "an integer without a range"
            yield from (kind.ge - 1, kind.le + 1, *OUTSIDE, "1", 1.5, None)
        case inspect.FloatType():
            yield from (-1.0, float("inf"), float("nan"), 1e300, "1")
        case inspect.BoolType():
            yield from (7, "yes")
        case inspect.StrType():
            yield from (7, ["x"], b"\xff")
            if kind.max_length is not None:
                yield "x" * (kind.max_length + 1)
        case inspect.BytesType():
            yield from (7, ["x"])
            if kind.max_length is not None:
                yield bytes(kind.max_length + 1)
        case inspect.ListType():
            yield from (7, {"x": 1})
            for each in wrong(kind.item_type):
                yield [each]
        case inspect.TupleType():
            yield from (7, [])
            for at, each in enumerate(kind.item_types):
                for bad in wrong(each):
                    yield [*map(values, kind.item_types[:at]), bad, *map(values, kind.item_types[at + 1 :])]
        case inspect.DictType():
            yield from (7, {1: 1})
            for each in wrong(kind.value_type):
                yield {"x": each}
        case inspect.UnionType():
            [inner] = [each for each in kind.types if not isinstance(each, inspect.NoneType)]
            yield from (bad for bad in wrong(inner) if bad is not None)
        case inspect.StructType():
            yield 7
            yield from (fields for _, fields in damaged_fields(kind))
        case _:
            raise AssertionError(kind)


def edges(kind: Any) -> Iterator[Any]:
    """Values that the type takes, at the ends of its ranges: what is behind the table has to bear them."""
    match kind:
        case inspect.IntType():
            low = -(2**63) if kind.ge is None else kind.ge
            high = 2**64 - 1 if kind.le is None else kind.le
            middle = {0, 1, -1, 2**31 - 1, 2**31, -(2**31), 2**32 - 1, 2**62, 2**63 - 1, 4096, 4095}
            yield from sorted({low, high, *(each for each in middle if low <= each <= high)})
        case inspect.FloatType():
            yield from (each for each in (kind.ge, kind.le, 5e-324, -0.0) if each is not None)
        case inspect.BoolType():
            yield True
        case inspect.StrType():
            most = 300 if kind.max_length is None else kind.max_length
            yield from (text for text in ("x" * most, "\xff\n%s{}\0"[:most], "\u20ac" * most) if kind.pattern is None)
        case inspect.BytesType():
            most = 300 if kind.max_length is None else min(kind.max_length, 1 << 16)
            yield from (b"\xff" * most, b"\0"[:most])
        case inspect.ListType():
            for each in (*edges(kind.item_type), values(kind.item_type)):
                yield [each]
            yield [values(kind.item_type)] * min(kind.max_length or 300, 300)
        case inspect.TupleType():
            for at, each in enumerate(kind.item_types):
                for value in edges(each):
                    yield [*map(values, kind.item_types[:at]), value, *map(values, kind.item_types[at + 1 :])]
        case inspect.DictType():
            key = values(kind.key_type)
            yield from ({key: value} for value in edges(kind.value_type))
        case inspect.UnionType():
            yield from (value for each in kind.types if not isinstance(each, inspect.NoneType) for value in edges(each))
        case inspect.StructType():
            good = [values(each.type) for each in kind.fields]
            for at, each in enumerate(kind.fields):
                for value in edges(each.type):
                    yield [*good[:at], value, *good[at + 1 :]]
        case inspect.LiteralType():
            yield from kind.values
        case _:
            raise AssertionError(kind)


def damaged_fields(kind: inspect.StructType) -> Iterator[tuple[str, list[Any]]]:
    good = [values(each.type) for each in kind.fields]
    for at, each in enumerate(kind.fields):
        for bad in wrong(each.type):
            yield f"{each.name} {str(bad)[:40]}", [*good[:at], bad, *good[at + 1 :]]


def damaged(message: type[Msg]) -> Iterator[tuple[str, bytes]]:
    """What is wrong, and the bytes."""
    kind = inspect.type_info(message)
    assert isinstance(kind, inspect.StructType)
    pack = msgspec.msgpack.Encoder().encode
    for what, fields in damaged_fields(kind):
        yield f"{message.__name__} {what}", pack([kind.tag, *fields])
    good = plain(message)
    for end in {0, 1, len(good) // 2, len(good) - 1}:
        yield f"{message.__name__} cut at {end}", good[:end]
    yield f"{message.__name__} without fields", pack([kind.tag])


def plain(message: type[Msg]) -> bytes:
    """A message that is one, with nothing in it."""
    kind = inspect.type_info(message)
    assert isinstance(kind, inspect.StructType)
    return msgspec.msgpack.encode([kind.tag, *(values(each.type) for each in kind.fields)])


__all__ = ["damaged", "encode", "messages", "plain"]
