"""What tracers were asked to take up, and have not answered yet: settings that were written, and what mosrun asks in a program."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count

import trio

#: Seconds that a tracer may take for its answer.
PATIENCE = 5.0
SILENT = "its tracer does not answer"


@dataclass(slots=True, eq=False)
class Asked:
    """Something about process ``pid``. Until ``told``, and if nobody ever tells: ``error`` (an errno value) and ``text`` say so."""

    number: int
    pid: int
    told: trio.Event = field(default_factory=trio.Event)
    error: int = errno.ETIMEDOUT
    text: str = SILENT


@dataclass(slots=True)
class Pending:
    """What tracers were told and have not confirmed, by the number that the answer repeats."""

    waiting: dict[int, Asked] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def begin(self, pid: int) -> Asked:
        asked = Asked(next(self._numbers), pid)
        self.waiting[asked.number] = asked
        return asked

    def answered(self, number: int, text: str, error: int = errno.ENOENT) -> None:
        """The tracer's word: "", or why it refuses. One that comes too late, or twice, changes nothing."""
        if (asked := self.waiting.pop(number, None)) is not None:
            asked.text, asked.error = text, error if text else 0
            asked.told.set()

    def lost(self, pid: int, error: int) -> None:
        """Nobody will answer for ``pid`` any more."""
        for asked in [asked for asked in self.waiting.values() if asked.pid == pid]:
            self.answered(asked.number, SILENT, error)

    async def outcome(self, asked: Asked) -> str:
        """Wait for the answer: "" or why not; then ``asked.error`` is an errno value: ETIMEDOUT when the tracer is silent, and
        may take it up later."""
        try:
            with trio.move_on_after(PATIENCE):
                await asked.told.wait()
        finally:
            self.waiting.pop(asked.number, None)
        return asked.text
