"""The log by which a program outlives its node, as a pure thing: what is repeated is what was, and nothing else passes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mosfs.calls.request import Request
from mosfs.home.process.replay import Diverged, Kept, Log, fingerprint
from mosfs.wire.frames import Kind

NUMBERS = st.integers(0, 0x7FFF)
CALLS = st.lists(st.tuples(st.binary(max_size=8), st.lists(st.binary(max_size=4), min_size=1, max_size=3)), max_size=12)


def log_of(calls: list[tuple[bytes, list[bytes]]], *, open_end: bool = False) -> Log:
    log = Log()
    for number, (what, answers) in enumerate(calls):
        log.asked(number, what)
        for at, answer in enumerate(answers):
            last = at == len(answers) - 1
            if not (open_end and last and number == len(calls) - 1):
                log.answered((at, answer, number), last=last)
    return log


@given(CALLS)
def test_what_was_answered_is_answered_again(calls: list[tuple[bytes, list[bytes]]]) -> None:
    log = log_of(calls)
    log.begin()
    assert log.entered() == []
    for number, (what, answers) in enumerate(calls):
        assert log.repeats
        assert log.repeated(number, what) == [(at, answer, number) for at, answer in enumerate(answers)]
    assert not log.repeats


@given(CALLS.filter(bool), st.integers(0, 11))
def test_another_call_is_a_divergence(calls: list[tuple[bytes, list[bytes]]], where: int) -> None:
    where %= len(calls)
    for number, what in ((where, b"other call"), (where + 1, calls[where][0])):
        log = log_of(calls)
        log.begin()
        log.entered()
        for before in range(where):
            log.repeated(before, calls[before][0])
        with pytest.raises(Diverged):
            log.repeated(number, what)


@given(CALLS.filter(bool))
def test_the_last_call_may_still_be_made(calls: list[tuple[bytes, list[bytes]]]) -> None:
    """Its answer comes before or after the new body has asked for it: never twice, and never lost."""
    late = log_of(calls, open_end=True)
    early = log_of(calls, open_end=True)
    number, (what, answers) = len(calls) - 1, calls[-1]
    for log in (late, early):
        assert log.open
        log.begin()
        log.entered()
        for before in range(number):
            log.repeated(before, calls[before][0])
    early.answered((9, answers[-1], number), last=True)
    assert early.repeated(number, what)[-1] == (9, answers[-1], number)
    assert len(late.repeated(number, what)) == len(answers) - 1 and not late.repeats and late.open


@given(CALLS, st.booleans())
def test_an_image_stands_for_all_before(calls: list[tuple[bytes, list[bytes]]], waiting: bool) -> None:
    log = log_of(calls)
    log.cut(waiting)
    assert len(log.entries) == (1 if waiting and calls else 0)
    assert log.inside == (waiting and bool(calls))
    log.begin()
    expected = [(at, answer, len(calls) - 1) for at, answer in enumerate(calls[-1][1])] if log.inside else []
    assert log.entered() == expected and not log.repeats
    assert log.size >= sum(len(answer) for entry in log.entries for _, answer, _ in entry.answers)


def test_a_call_is_the_same_whatever_signals_its_host_had_seen() -> None:
    request = Request(1, (2, 3, 4, 5, 6, 7), 0)
    assert fingerprint(Kind.CALL, request.pack(1)) == fingerprint(Kind.CALL, request.pack(9))
    assert fingerprint(Kind.CALL, request.pack(1)) != fingerprint(Kind.MMAP, request.pack(1))
    assert fingerprint(Kind.CALL, request.pack()) != fingerprint(Kind.CALL, Request(1, (2, 3, 4, 5, 6, 8), 0).pack())


@given(st.binary(max_size=200))
def test_any_bytes_have_a_fingerprint(payload: bytes) -> None:
    assert len(fingerprint(Kind.CALL, payload)) == 16


def test_what_is_shown() -> None:
    kept = Kept()
    assert kept.shown().unsafe and kept.shown().images == 0
    kept.unsafe, kept.saves, kept.lives = "", 3, 1
    assert (kept.shown().unsafe, kept.shown().images, kept.shown().outlived) == ("", 3, 1)
