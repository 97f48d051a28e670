"""The notation of arguments: printing and parsing are inverse, lengths and results count as the kernel counts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mosfs.abi.args import (
    MAX_BYTES,
    Arg,
    Direction,
    Kind,
    Length,
    Rule,
    Source,
    parse_arg,
    parse_args,
    parse_length,
    values,
)

SCALARS = [Kind.INT, Kind.FD, Kind.SIZE, Kind.FLAGS, Kind.MODE, Kind.PID, Kind.SIG, Kind.OFF, Kind.PTR]

small = st.integers(1, 4096)
lengths = st.builds(Length, st.just(Source.CONST), plus=st.integers(0, 1 << 20)) | st.builds(
    Length,
    st.sampled_from([Source.ARG, Source.DEREF, Source.FDS]),
    st.integers(0, 5),
    small,
    st.integers(-1, 5),
    st.integers(0, 4096),
)
directions = st.sampled_from([Direction.IN, Direction.OUT, Direction.INOUT])
memory = st.builds(
    Arg, st.just(Kind.MEMORY), direction=directions, length=lengths, rule=st.sampled_from([Rule.SUCCESS, Rule.ALWAYS])
) | st.builds(
    Arg,
    st.just(Kind.MEMORY),
    direction=directions,
    length=lengths,
    rule=st.just(Rule.RETURNED),
    ret_factor=small,
    ret_plus=st.integers(0, 64),
)
args = (
    memory
    | st.builds(Arg, st.sampled_from([*SCALARS, Kind.STR]))
    | st.just(Arg(Kind.STR, "path"))
    | st.builds(Arg, st.just(Kind.IRREGULAR), st.from_regex(r"[a-z][a-z0-9_]{0,9}", fullmatch=True))
)


@given(args)
def test_parse_is_the_inverse_of_print(arg: Arg) -> None:
    assert parse_arg(str(arg)) == arg


@given(lengths, st.lists(st.integers(-(1 << 31), (1 << 64) - 1), min_size=6, max_size=6), st.integers(0, (1 << 32) - 1))
def test_sizes_stay_in_range(length: Length, registers: list[int], word: int) -> None:
    assert 0 <= length.size(registers, lambda _: word) <= MAX_BYTES


@given(memory, st.integers(0, MAX_BYTES), st.integers(-4095, (1 << 63) - 1))
def test_never_more_comes_back_than_there_is(arg: Arg, size: int, result: int) -> None:
    assert 0 <= arg.returned(size, result) <= size


@pytest.mark.parametrize("text", ["", "in", "in[]", "in[8", "out[a9z]", "in[-4]", "out[8]:maybe", "@", "@Iov", "long"])
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a"):
        parse_arg(text)


def test_a_length_must_refer_to_an_argument_of_the_row() -> None:
    assert len(parse_args("fd, out[a2]:ret, size")) == 3
    with pytest.raises(ValueError, match="missing argument"):
        parse_args("fd, out[a2]:ret")


@pytest.mark.parametrize(
    ("text", "registers", "word", "expected"),
    [
        ("40", (0,) * 6, 0, 40),
        ("a1", (0, 7), 0, 7),
        ("a1*8", (0, 7), 0, 56),
        ("a0*a1", (3, 5), 0, 15),
        ("a0*2*a1", (3, 5), 0, 30),
        ("a1+8", (0, 7), 0, 15),
        ("*a1", (0, 0x1000), 110, 110),
        ("*a1", (0, 0), 110, 0),
        ("*a1", (0, 0x1000), 0xFFFFFFFF, 0),
        ("fds(a0)", (0,), 0, 0),
        ("fds(a0)", (1,), 0, 8),
        ("fds(a0)", (64,), 0, 8),
        ("fds(a0)", (1024,), 0, 128),
        ("a0", (-1,), 0, 0),
        ("a0", ((1 << 64) - 1,), 0, MAX_BYTES),
    ],
)
def test_lengths(text: str, registers: tuple[int, ...], word: int, expected: int) -> None:
    assert parse_length(text).size(registers, lambda _: word) == expected


@pytest.mark.parametrize(
    ("text", "result", "expected"),
    [
        ("in[100]", 50, 0),
        ("out[100]", 0, 100),
        ("out[100]", -14, 0),
        ("out[100]:ret", 30, 30),
        ("out[100]:ret", 300, 100),
        ("out[100]:ret", -11, 0),
        ("out[100]:ret*12", 2, 24),
        ("out[100]:ret+8", 20, 28),
        ("inout[100]:always", -4, 100),
    ],
)
def test_what_comes_back(text: str, result: int, expected: int) -> None:
    assert parse_arg(text).returned(100, result) == expected


def test_c_ints_are_signed_and_the_rest_is_not() -> None:
    minus_one = (1 << 64) - 1
    row = parse_args("fd, size, int")
    assert values(row, (0xFFFFFF9C, minus_one, 0xDEAD00000001, 5, 6, 7)) == (-100, minus_one, 1, 5, 6, 7)
