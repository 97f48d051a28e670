"""The log by which a program outlives its node, as a pure thing: what is repeated is what was, and nothing else passes."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mosfs.calls.request import Request
from mosfs.home.moves.freezing import Freezing
from mosfs.home.moves.outliving import Outliving
from mosfs.home.process.move import Move
from mosfs.home.process.replay import Backup, Diverged, Log, fingerprint
from mosfs.migrate.freezefile import FilePlace
from mosfs.migrate.kept import KeptFile
from mosfs.wire.channel import ChannelLost
from mosfs.wire.frames import Frame, Kind

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
    backup = Backup()
    assert backup.shown().unsafe and backup.shown().images == 0
    backup.unsafe, backup.saves, backup.lives = "", 3, 1
    assert (backup.shown().unsafe, backup.shown().images, backup.shown().outlived) == ("", 3, 1)


@given(st.lists(st.sampled_from((Kind.SIGNAL, Kind.FILE)), max_size=8), st.integers(-2, 9))
def test_a_signal_that_is_in_the_image_is_not_given_again(kinds: list[Kind], newer: int) -> None:
    """It was sent before the host began the image, inside a call that had not ended then."""
    log = Log()
    log.asked(7, b"pause")
    for at, kind in enumerate(kinds):
        log.answered((kind, bytes((at,)), 0), last=False)
    before = [*log.entries[0].answers]
    log.cut(True, signals=newer)
    after = log.entries[0].answers
    assert [each for each in after if each[0] != Kind.SIGNAL] == [each for each in before if each[0] != Kind.SIGNAL]
    signals = [each for each in before if each[0] == Kind.SIGNAL]
    assert [each for each in after if each[0] == Kind.SIGNAL] == signals[len(signals) - max(0, min(newer, len(signals))):]


class Home:
    """A program that outlives its node, and what of a tracer its images need."""

    def __init__(self, folder: Path) -> None:
        self.moves: list[Move] = []
        nothing = lambda *_: None  # noqa: E731
        tracer: Any = SimpleNamespace(
            freezing=SimpleNamespace(places=lambda _: [FilePlace(str(folder))]),
            mosd=SimpleNamespace(announce=nothing, log=nothing),
            moves=SimpleNamespace(request=lambda _, move: self.moves.append(move), resume_old=nothing),
        )
        self.program: Any = SimpleNamespace(
            pid=7, comm="program", away=True, move=None, link=object(), halted=False, private=None,
            settings=SimpleNamespace(outlive=1), saves=SimpleNamespace(outlive=None, stays=lambda _: True),
            post=SimpleNamespace(mail=None), frozen=SimpleNamespace(mark="", begun=False),
            travel=SimpleNamespace(freeze_ms=1.0), body=SimpleNamespace(signals=0, seq=0),
        )  # fmt: skip
        self.outliving = tracer.outliving = Outliving(tracer)

    def image(self) -> KeptFile:
        """One that is whole at home; its host does not know yet."""
        backup = self.program.saves.outlive
        self.outliving._save(self.program, backup)
        file = backup.saving
        for kind, payload in ((Kind.IMAGE, b""), (Kind.IMAGE_END, bytes(8))):
            file.channel.send(kind, 7, payload)
        self.outliving.saved(self.program, file)
        return file.channel  # type: ignore[no-any-return]


def test_a_host_lost_when_the_image_is_whole_leaves_it(tmp_path: Path) -> None:
    """Its program goes on from that image: the move that made it fails, and must not take it away."""
    home = Home(tmp_path)
    home.outliving.left(home.program, inside=False)
    file = home.image()
    done = home.moves[0].done
    assert done is not None
    done("its node was lost")
    backup = home.program.saves.outlive
    assert not file.lost and backup.file.channel is file and not backup.unsafe and backup.saves == 1
    home.outliving.home(home.program)
    assert file.lost
    with pytest.raises(ChannelLost):
        file.send(Kind.RECALL, 7)


def test_an_image_that_fails_is_removed(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.outliving.left(home.program, inside=False)
    backup = home.program.saves.outlive
    home.outliving._save(home.program, backup)
    file, done = backup.saving.channel, home.moves[0].done
    assert done is not None
    done("no room")
    assert file.lost and backup.file is None and backup.saving is None and "no room" in backup.unsafe


def test_what_is_left_of_an_image_that_was_given_up_is_in_no_other(tmp_path: Path) -> None:
    """Its host was still sending it when the next one was asked for."""
    home = Home(tmp_path)
    home.outliving.left(home.program, inside=False)
    backup = home.program.saves.outlive
    home.image()
    home.program.frozen.begun = True
    home.outliving._save(home.program, backup)
    home.program.move = home.moves[-1]
    file, freezing = backup.saving.channel, Freezing(home.outliving.tracer)
    assert freezing.takes(home.program, home.program.link, Frame(Kind.IMAGE_END, 0, 7, bytes(8), 0))
    assert backup.saving.channel is file and not file.complete and backup.file.channel is not file


def test_a_newborn_is_not_asked_for_before_its_host_has_it(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.outliving.left(home.program, inside=False, born=True)
    due = home.outliving.due()
    assert due is not None and due > time.monotonic()
    home.outliving.look(time.monotonic())
    assert not home.moves


def test_who_ends_its_nodes_has_so_many_lives_only() -> None:
    backup = Backup()
    assert [backup.lose() for _ in range(12)] == [True] * 10 + [False] * 2
    backup.log.asked(1, b"a call")  # it goes on
    assert backup.lose()
