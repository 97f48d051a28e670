"""What a queue writes of its lines, and what the next one makes of it: mosrun --joblog, --resume and --resume-failed.

Two files. FILE is for people and scripts, in the columns of GNU parallel with Node and Moves behind them, a row for each line that
has ended. FILE.journal is for us: ``S number checksum time`` is on the disk before a line begins, ``D number status time`` after
its end, written by the runner, which outlives a queue that is killed. What has the first and not the second is in doubt.
"""

from __future__ import annotations

import os
import signal
import zlib
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

HEADER = "Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand\tNode\tMoves\n"
#: The columns of GNU parallel that stand before the command.
BEFORE = 8
#: More lines than anybody has: numbers beyond are no numbers of ours.
MOST = 1 << 28
#: What is known of so many lines that follow each other is kept together: a number far beyond the others costs no more than that.
PART = 64
#: Of a line that ran too long, as GNU parallel has it.
TIMED_OUT = -1

NEW, STARTED, SUCCEEDED, FAILED = range(4)


class Todo(Enum):
    """What a queue that resumes does with a line."""

    RUN = "run"
    SKIP = "skip"
    DOUBT = "doubt"  #: it was started, and nobody knows whether it ended


@dataclass(frozen=True, slots=True)
class Row:
    """How a line ended. Times in seconds; ``node`` and ``moves`` of its first process, "" and -1 when they are not known."""

    number: int
    start: float
    runtime: float
    exitval: int
    signal: int
    command: bytes
    node: str = ""
    moves: int = -1

    @property
    def failed(self) -> bool:
        return bool(self.exitval or self.signal)

    def text(self) -> bytes:
        """The row in the file. A host of ":" is this computer, where each line has its home; sent and received are nothing."""
        numbers = f"{self.number}\t:\t{self.start:.3f}\t{self.runtime:10.3f}\t0\t0\t{self.exitval}\t{self.signal}\t"
        moves = str(self.moves) if self.moves >= 0 else ""
        return numbers.encode() + self.command + f"\t{self.node}\t{moves}\n".encode()


def row_of(number: int, status: int, start: float, end: float, command: bytes, timed_out: bool = False) -> Row:
    """The row of a line that ended with this status (wait(2))."""
    code = os.waitstatus_to_exitcode(status)
    exitval, killed = (0, -code) if code < 0 else (code, 0)
    if timed_out:
        exitval, killed = TIMED_OUT, killed or signal.SIGTERM
    return Row(number, start, max(0.0, end - start), exitval, killed, command)


def checksum(command: bytes) -> int:
    return zlib.crc32(command)


@dataclass(slots=True)
class Past:
    """What the files tell of each line, by its number: one byte and one checksum. ``missing``: lines that have ended and have no
    row yet: status, start and end."""

    missing: dict[int, tuple[int, float, float]] = field(default_factory=dict)
    _parts: dict[int, tuple[bytearray, array[int]]] = field(default_factory=dict)  # by number // PART

    def _note(self, number: int, state: int, sum_: int | None = None) -> None:
        """``sum_`` None: it stays."""
        part = self._parts.get(number // PART)
        if part is None:
            part = self._parts[number // PART] = bytearray(PART), array("I", bytes(4 * PART))
        part[0][number % PART] = state
        if sum_ is not None:
            part[1][number % PART] = sum_

    def state(self, number: int) -> int:
        part = self._parts.get(number // PART)
        return NEW if part is None else part[0][number % PART]

    def same(self, number: int, command: bytes) -> bool:
        """Whether ``command`` is what this line was; also when nothing is known of it."""
        return self.state(number) == NEW or self._parts[number // PART][1][number % PART] == checksum(command)

    def todo(self, number: int, again: bool) -> Todo:
        """``again``: --resume-failed."""
        state = self.state(number)
        if state == STARTED:
            return Todo.RUN if again else Todo.DOUBT
        return Todo.RUN if state == NEW or (state == FAILED and again) else Todo.SKIP

    def ended(self, row: Row) -> None:
        self._note(row.number, FAILED if row.failed else SUCCEEDED, checksum(row.command))
        self.missing.pop(row.number, None)

    def record(self, text: bytes, began: dict[int, float]) -> None:
        """One record of the journal; ValueError for what is none. ``began``: of lines that run, filled and used here."""
        letter, number_, value_, time_ = text.split(b" ")
        number, value, time = int(number_), int(value_), float(time_)
        if not 0 < number < MOST or not 0 <= value < 1 << (32 if letter == b"S" else 16):
            raise ValueError("out of range")
        if letter == b"S":
            self._note(number, STARTED, value)
            self.missing.pop(number, None)
            began[number] = time
        elif letter == b"D":
            os.waitstatus_to_exitcode(value)
            self._note(number, FAILED if value else SUCCEEDED)
            self.missing[number] = (value, began.pop(number, time), time)
        else:
            raise ValueError("neither a start nor an end")


def parse_row(text: bytes, columns: int) -> Row:
    """A row of a joblog with so many columns in its header: ours, or one of GNU parallel's. ValueError for what is none."""
    parts = text.split(b"\t", BEFORE)
    number, start, runtime, exitval, killed = int(parts[0]), float(parts[2]), float(parts[3]), int(parts[6]), int(parts[7])
    if not 0 < number < MOST or len(parts) != BEFORE + 1:
        raise ValueError("not a row")
    command, node, moves = parts[BEFORE], b"", b""
    if columns > BEFORE + 1:
        command, node, moves = command.rsplit(b"\t", 2)
    return Row(number, start, runtime, exitval, killed, command, node.decode(), int(moves) if moves else -1)


def past(rows: Iterable[bytes], journal: Iterable[bytes]) -> Past:
    """What both files tell, line by line as they are read (with line-feeds). The last record of either may be torn, and counts as
    not written. ValueError, with the file's line, for what they cannot have.

    The journal goes with the rows: a line whose end it has, and that has a row too, has its row after that end."""
    found, began = Past(), dict[int, float]()
    for at, text in enumerate(journal, 1):
        if not text.endswith(b"\n"):
            break
        try:
            found.record(text[:-1], began)
        except ValueError as error:
            raise ValueError(f"journal, line {at}: {error}") from None
    columns = 0
    for at, text in enumerate(rows, 1):
        if not text.endswith(b"\n"):
            break
        if at == 1:
            columns = text.count(b"\t") + 1
            if not text.startswith(HEADER.encode().partition(b"\tNode")[0]):
                raise ValueError("line 1: not the header of a joblog")
            continue
        try:
            row = parse_row(text[:-1], columns)
        except (ValueError, IndexError) as error:
            raise ValueError(f"line {at}: {error}") from None
        _row(found, row)
    return found


def _row(found: Past, row: Row) -> None:
    """A row says nothing of a line that was started again after it, as the journal knows: its end is later, or not there."""
    state = found.state(row.number)
    if state == NEW or row.number not in found.missing:
        if state != STARTED:
            found.ended(row)
        return
    _, _, end = found.missing[row.number]
    if row.start + row.runtime >= end - 0.01:
        found.ended(row)
