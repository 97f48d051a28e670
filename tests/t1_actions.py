"""What a host tells home of sigaction(2), and what it need not (docs/design/syscalls.md)."""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import Any

import pytest

from mosfs.abi.signals import SIG_DFL, SIG_IGN
from mosfs.guest.body import Body
from mosfs.guest.masks import MOST_UNHEARD, Masks
from mosfs.wire.frames import Kind

AT = 0x100000
HANDLER = 0x401000
RESTART, RESETHAND, EXPOSE_TAGBITS = 0x10000000, 0x80000000, 0x800
CHLD, USR1, KILL = 17, 10, 9


def action(handler: int, flags: int = 0) -> bytes:
    return struct.pack("<4Q", handler, flags, 0, 0)


class Program:
    """A body whose memory at `AT` is an action; ``told``: the frames that its host has sent."""

    def __init__(self) -> None:
        self.told: list[tuple[int, bytes]] = []
        self.given, self.mask = b"", 0
        task: Any = SimpleNamespace(read=lambda at, size: self.given, peek_mask=lambda: self.mask)
        self.body = Body(4711, task)
        self.body.signals.actions = {sig: bytes(32) for sig in range(1, 65)}
        channel = SimpleNamespace(send=lambda kind, pair, payload: self._sent(kind, payload))
        context: Any = SimpleNamespace(channel=channel)
        self._masks = Masks(context, SimpleNamespace())  # type: ignore[arg-type]

    def _sent(self, kind: int, payload: bytes) -> None:
        assert kind == Kind.ACTION
        self.told.append((int.from_bytes(payload[:4], "little"), payload[4:]))

    def sets(self, sig: int, given: bytes) -> bool:
        """Whether it was made without waiting for home."""
        self.given = given
        return self._masks.sigaction(self.body, (sig, AT, 0, 8, 0, 0))

    def asks(self, sig: int) -> bool:
        return self._masks.sigaction(self.body, (sig, 0, AT, 8, 0, 0))


@pytest.fixture
def program() -> Program:
    return Program()


def test_questions_and_repetitions_are_not_told(program: Program) -> None:
    assert program.asks(USR1)
    assert program.sets(USR1, action(HANDLER, RESTART))
    assert program.sets(USR1, action(HANDLER, RESTART))
    assert program.asks(USR1)
    assert program.told == [(USR1, action(HANDLER, RESTART))]


def test_flags_of_a_default_are_nobody_else_s_business(program: Program) -> None:
    assert program.sets(USR1, action(SIG_DFL, RESTART))
    assert not program.told
    assert program.sets(CHLD, action(SIG_DFL, 2)), "SA_NOCLDWAIT is"
    assert program.told == [(CHLD, action(SIG_DFL, 2))]


@pytest.mark.parametrize(("sig", "handler"), [(CHLD, SIG_DFL), (USR1, SIG_IGN)])
def test_what_is_ignored_again_loses_what_waits(program: Program, sig: int, handler: int) -> None:
    program.sets(sig, action(handler))
    program.told.clear()
    program.sets(sig, action(handler))
    assert not program.told
    program.mask = 1 << (sig - 1)
    program.sets(sig, action(handler))
    assert program.told == [(sig, action(handler))]


def test_home_is_asked_where_others_may_know_before_it(program: Program) -> None:
    program.body.mail = object()
    assert not program.sets(USR1, action(HANDLER))
    assert not program.asks(USR1), "and of what it alone knows"
    program.body.mail = None
    assert program.sets(USR1, action(HANDLER))
    assert program.asks(USR1)


def test_home_is_asked_for_flags_that_kernels_treat_differently(program: Program) -> None:
    program.sets(USR1, action(SIG_DFL, RESTART))
    assert not program.sets(USR1, action(HANDLER, EXPOSE_TAGBITS))
    assert program.told == [(USR1, action(SIG_DFL, RESTART))], "so that it can say what was before"
    assert not program.asks(USR1)


def test_a_program_is_not_ahead_of_home_for_long(program: Program) -> None:
    made = [program.sets(USR1, action(HANDLER, flags)) for flags in (0, RESTART) * MOST_UNHEARD]
    assert made.index(False) == MOST_UNHEARD


def test_an_older_home_is_always_asked(program: Program) -> None:
    program.body.signals.actions = None
    assert not program.asks(USR1)
    assert not program.sets(USR1, action(HANDLER, RESETHAND))
    assert program.body.signals.oneshot == {USR1}


def test_any_kernel_knows_what_is_wrong(program: Program) -> None:
    assert all(program.sets(sig, action(HANDLER)) for sig in (0, KILL, 65, 0xFFFFFFFF))
    assert not program.told
