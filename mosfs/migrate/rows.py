"""What several threads of a process are asked, or are given, at the same time: each makes a row of calls of its own.

A thread that makes a call for us must get a processor for it. One after another 200 threads wait for that 200 times, and on a busy
node each time is long; so all of them begin before the first is waited for.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from mosfs.abi.flags import PR_SET_NAME
from mosfs.abi.numbers import SYS_PRCTL, SYS_SET_ROBUST_LIST, SYS_SET_TID_ADDRESS
from mosfs.calls import partial
from mosfs.migrate import rseq
from mosfs.migrate.capture import captured, questions
from mosfs.migrate.image import MOST_THREADS, Thread
from mosfs.migrate.rebuild import given, own_calls
from mosfs.native.registers import Registers
from mosfs.trace import layout
from mosfs.trace.inject import Calls, pack, side_by_side

#: In front of what is left of their calls (`calls.partial`) each has room for a row, and behind that for what its calls point to.
ROOM, DATA, NAME = 0x200, 0x180, 0x1E0
AT = partial.CARRIES - MOST_THREADS * ROOM & -layout.PAGE
#: Bytes of struct robust_list_head.
ROBUST_HEAD = 24

#: An open session in a thread, and the registers with which it goes on.
Stood = tuple[Calls, Registers]


def place(number: int) -> int:
    """Where the row of thread ``number`` lies."""
    return AT + number * ROOM


def capture_threads(stood: Sequence[Stood], *, pending: bool) -> list[Thread]:
    """What is the own of each of these threads, as `capture.capture_thread` has it."""
    rows = [(call, place(number), pack(questions(place(number) + DATA))) for number, (call, _) in enumerate(stood)]
    return [
        captured(call, regs, results, call.task.read(at + DATA, 48), pending=pending)
        for (call, regs), (_, at, _), results in zip(stood, rows, side_by_side(rows), strict=True)
    ]


def give_threads(calls: Sequence[Calls], threads: Sequence[Thread]) -> list[Registers]:
    """Give each of these sessions what one of ``threads`` has for itself, with its name; the registers to resume it with.

    Masks are put in force when the sessions end."""
    rows = []
    for number, (call, thread) in enumerate(zip(calls, threads, strict=True)):
        at, asked = place(number), own_calls(thread, place(number) + DATA)
        name = thread.comm.encode("latin-1")[:15]
        call.task.write(at + DATA, struct.pack(f"<{NAME - DATA}s16s", thread.altstack, name))
        rows.append((call, at, pack([(SYS_PRCTL, PR_SET_NAME, at + NAME), *asked])))
    for results in side_by_side(rows):
        if results[0]:
            raise OSError(-results[0], "the name of a thread")
    return [given(call, thread) for call, thread in zip(calls, threads, strict=True)]


def forget_all(calls: Sequence[Calls]) -> None:
    """What the kernel does at the end of a thread it does where its body ends: its deputy may end later, when the memory is back at
    home, and another thread has that place in it. Nor does it write to an area of restartable sequences, which may go now."""
    side_by_side([
        (call, place(number), pack([*rseq.leaving(call.task.peek_rseq()), *FORGET])) for number, call in enumerate(calls)
    ])


#: The calls by which a thread's kernel forgets where it would write at its end.
FORGET: tuple[tuple[int, ...], ...] = ((SYS_SET_TID_ADDRESS, 0), (SYS_SET_ROBUST_LIST, 0, ROBUST_HEAD))
