"""System calls made inside a stopped task, through its stub page (`layout`), at 6 us each.

A session blocks all signals of the task, so that none is delivered while its registers are borrowed, and puts the mask
back at its end. It does not put the registers back: who stopped the task knows how it goes on, and sets them.

Signals that cannot be blocked: SIGKILL ends the session with TaskGone; a stop by SIGSTOP is kept for the end of the
session, and so is one by a signal that another thread has taken: the task is to stop once more then, and tells why.

The stub is in the program's memory, and nothing can keep a program from writing there (/proc/self/mem). So what a call returns is
no more than the program's word: it may lead to nothing that the program could not do itself (descriptors: `trace.taken`). Whatever
else happens in the place of the call ends the program, and so does a call that does not end (`mos_patience`).
"""

from __future__ import annotations

import errno
import os
import signal
import struct
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from mosfs.abi.flags import RESTARTS
from mosfs.abi.numbers import SYS_GETPID, SYS_MMAP
from mosfs.native import ffi, lib
from mosfs.trace import layout, stops
from mosfs.trace.proc import status_sets
from mosfs.trace.task import ALL_SIGNALS, Task, TaskGone, check, copy_regs, unfit

PRIVATE_ANONYMOUS = 0x22

#: Calls in a row: what fits into the first page of the scratch, which belongs to injected calls.
_ROW = layout.PAGE // layout.ROW_ENTRY
_FORMS = [struct.Struct(f"<{words}Q") for words in range(8)]


class Calls:
    """``with Calls(task) as call: fd = call(SYS_open, ...)``. Results are the kernel's: negative errno on failure."""

    __slots__ = ("_result", "_status", "base", "halted", "mask", "stopped_by", "task", "used_up")

    def __init__(self, task: Task, base: Any | None = None, mask: int | None = None) -> None:
        """``base``: registers to borrow; ``mask``: what to put back (default for both: the current one)."""
        self.task = task
        self.base = copy_regs(base if base is not None else task.peek_regs())
        self.mask = task.peek_mask() if mask is None else mask
        self._result = ffi.new("long *")
        self._status = ffi.new("int *")
        self.stopped_by = 0
        self.halted = False  # a group stop, which others of its process are in, was passed over
        self.used_up = False  # an interrupt that somebody waits for took effect here

    def __enter__(self) -> Calls:
        self.task.set_mask(ALL_SIGNALS)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and issubclass(kind, TaskGone):
            return
        if self.stopped_by:
            stop_again(self.task, self.stopped_by)
        self.task.set_mask(self.mask)
        if self.halted or (self.used_up and self.task.guest):
            self.task.interrupt()

    def __call__(self, nr: int, a0: int = 0, a1: int = 0, a2: int = 0, a3: int = 0, a4: int = 0, a5: int = 0) -> int:
        task = self.task
        args = [_signed(a) for a in (a0, a1, a2, a3, a4, a5)]
        outcome = lib.mos_inject(task.pid, self.base, task.guest, nr, *args, self._result, self._status)
        while outcome == 1:
            self._go_on(f"injected call {nr}")
            outcome = self._finish(nr)
        check(outcome, "injected call", task.pid)
        if self._status[0]:
            self.used_up = True
        return int(self._result[0])

    def within(self, seconds: float, nr: int, *args: int) -> int:
        """The same at home, but no longer than ``seconds``: -EINTR of a call that waits then, or how much it has done."""
        task, used_up = self.task, self.used_up
        six = ([_signed(a) for a in args] + [0] * 6)[:6]
        check(lib.mos_run_call(task.pid, self.base, nr, *six), "injected call", task.pid)
        until = time.monotonic() + seconds
        while (status := task.wait_beside(-1, max(0.0, until - time.monotonic()))) is not None:
            if self._ended(status):
                return int(self._result[0])
            self._go_on(f"injected call {nr}")
        while True:
            task.interrupt()
            status = task.wait()
            if self._ended(status):
                break
            if stops.decode(status).stop is stops.Stop.TRAP:
                done = _signed(task.peek_regs().rax)
                self._result[0] = -errno.EINTR if done in RESTARTS else done
                break
            self._go_on(f"injected call {nr}")
        result = int(self._result[0])
        self(SYS_GETPID)  # so that it stands where it does behind any other, and our interrupt is used up
        self.used_up = used_up
        return result

    def _go_on(self, what: str) -> None:
        """Another stop came before the end of ``what``."""
        status = int(self._status[0])
        stop = stops.decode(status)
        if stop.stop in (stops.Stop.EXITED, stops.Stop.KILLED):
            raise TaskGone(self.task.pid, status)
        if stop.stop is stops.Stop.SIGNAL and stop.value in (19,):
            self.stopped_by = stop.value
        elif stop.stop is stops.Stop.GROUP:
            self.halted = True
        elif stop.stop is not stops.Stop.TRAP:
            raise unfit(self.task.pid, f"the {what} met {stop.stop.name} {stop.value}")
        self.task.cont()

    @property
    def status(self) -> int:
        """The wait status of the stop that `ended` has seen instead."""
        return int(self._status[0])

    def ended(self, nr: int) -> int | None:
        """Wait for a call that was started: what it returns, or None after another stop, with which the caller has to deal."""
        return int(self._result[0]) if self._finish(nr) == 0 else None

    def pass_over(self, nr: int) -> None:
        """Go on after a stop that is not about the call."""
        self.used_up = self.used_up or stops.decode(self.status).stop is stops.Stop.TRAP
        self._go_on(f"injected call {nr}")

    def many(self, calls: Sequence[tuple[int, ...]]) -> list[int]:
        """The results of calls (number, up to six arguments from 0 on) that do not depend on each other.

        They cost 0.3 us each, and what they take. All of them are made, whatever comes of one.
        """
        return self.packed(pack(calls))

    def packed(self, rows: bytes) -> list[int]:
        """The results of calls as from `many`; ``rows`` are from `pack`."""
        results: list[int] = []
        for first in range(0, len(rows), _ROW * layout.ROW_ENTRY):
            row = rows[first : first + _ROW * layout.ROW_ENTRY]
            self.task.write(layout.SCRATCH, row)
            self._row(row)
            found = self.task.read(layout.SCRATCH, len(row))
            results += struct.unpack(f"<{len(row) // 8}q", found)[::7]
        return results

    def _row(self, row: bytes) -> None:
        pid = self.task.pid
        asked, at, count = ffi.from_buffer("long[]", row), ffi.new("unsigned long *"), len(row) // layout.ROW_ENTRY
        outcome = lib.mos_row_begin(pid, self.base, layout.ROW, layout.SCRATCH, count)
        if not outcome:
            outcome = lib.mos_row_wait(pid, layout.ROW_AFTER, asked, count, at, self._status)
        self._rest_of_row(outcome, asked, count, at)

    def _rest_of_row(self, outcome: int, asked: Any, count: int, at: Any) -> None:
        """To the end of a row, whose last wait had this ``outcome``."""
        while outcome == 1:
            self.used_up = self.used_up or stops.decode(self.status).stop is stops.Stop.TRAP
            self._go_on("row of injected calls")
            outcome = lib.mos_row_wait(self.task.pid, layout.ROW_AFTER, asked, count, at, self._status)
        check(outcome, "row of injected calls", self.task.pid)

    def finish_row(self, row: Any) -> None:
        """The rest of a row (struct mos_row) that has begun elsewhere, and may have met something: it is in ``row.told`` then."""
        self._status[0] = row.status
        self._rest_of_row(row.outcome, row.asked, row.count, ffi.new("unsigned long *", row.next))
        if row.outcome:
            ffi.buffer(row.told, row.count * layout.ROW_ENTRY)[:] = self.task.read(row.at, row.count * layout.ROW_ENTRY)

    def _finish(self, nr: int) -> int:
        return 0 if self._ended(self.task.wait()) else 1

    def _ended(self, status: int) -> bool:
        """Whether the call has ended, with `_result`; else ``status`` is to be dealt with."""
        regs = self.task.peek_regs() if status >> 8 == (5 | 7 << 8) else None
        if regs is not None and regs.orig_rax == layout.MAGIC:
            self._result[0] = _signed(regs.rdi)
            return True
        self._status[0] = status
        return False

    def must(self, nr: int, *args: int) -> int:
        """The result; OSError when the call failed."""
        result = self(nr, *args)
        if -4096 < result < 0:
            raise OSError(-result, f"injected call {nr}: {os.strerror(-result)}")
        return result

    def map(self, addr: int, size: int, prot: int = 3, flags: int = PRIVATE_ANONYMOUS, fd: int = -1, offset: int = 0) -> int:
        """mmap(2): where the memory is, which may be relied upon to be an address outside of the low region. OSError."""
        at = self.must(SYS_MMAP, addr, size, prot, flags, fd, offset)
        if not (0 <= at <= layout.STUB - size or layout.END <= at <= layout.USER_END - size):
            raise unfit(self.task.pid, f"mmap returned {at:#x}")
        return at


def side_by_side(rows: Sequence[tuple[Calls, int, bytes]]) -> list[list[int]]:
    """The results of rows of calls as from `Calls.packed`, each of a task of its own: (session, where its row shall lie, the row).

    All of them run at the same time; the tasks may have the same memory. Whatever comes of one, the others come to their end."""
    table, failed = ffi.new("struct mos_row[]", len(rows)), None
    asked = [ffi.from_buffer("long[]", row) for _, _, row in rows]
    told = [ffi.new("long[]", len(words)) for words in asked]
    for one, words, results, (call, at, row) in zip(table, asked, told, rows, strict=True):
        one.pid, one.base, one.at, one.asked, one.told = call.task.pid, call.base, at, words, results
        one.count = len(row) // layout.ROW_ENTRY
    lib.mos_rows(table, len(rows), layout.ROW, layout.ROW_AFTER)
    for one, (call, _, _) in zip(table, rows, strict=True):
        try:
            call.finish_row(one)
        except (OSError, TaskGone) as error:
            failed = failed or error
    if failed is not None:
        raise failed
    return [list(results)[::7] for results in told]


def pack(calls: Sequence[tuple[int, ...]]) -> bytes:
    """Calls for `Calls.packed`."""
    rows = bytearray(len(calls) * layout.ROW_ENTRY)
    for at, call in enumerate(calls):
        _FORMS[len(call)].pack_into(rows, at * layout.ROW_ENTRY, *call)
    return bytes(rows)


def stop_again(task: Task, sig: int) -> None:
    """Repeat a stop signal that was put off, unless a SIGCONT came since: it is pending, because it was blocked too."""
    sets = status_sets(task.pid)
    if not (sets["SigPnd"] | sets["ShdPnd"]) >> (signal.SIGCONT - 1) & 1:
        os.kill(task.pid, sig)


def _signed(value: int) -> int:
    value &= 0xFFFF_FFFF_FFFF_FFFF
    return value - (1 << 64) if value >> 63 else value
