"""Opens by a program of files in /proc that do not show the truth: it gets a file in memory instead.

They are those about its own memory (`mosfs.migrate.shown`), and those about another program of its tree (`home.asks.relatives`): of
a traced process the kernel says "tracing stop" for whatever stops it, of one away it tells how the deputy is.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from mosfs.abi.numbers import SYS_OPEN, SYS_OPENAT
from mosfs.calls.cputime import TICK_NS
from mosfs.home.process.deputy import State
from mosfs.home.process.program import Program
from mosfs.migrate import shown
from mosfs.migrate.capture import title_at
from mosfs.native import lib
from mosfs.trace.inject import Calls
from mosfs.trace.taken import memory_file


def wanted(pid: int, path: bytes, nr: int, args: tuple[int, ...]) -> str:
    """The file about its own memory that the program ``pid`` opens to read, "" if it does not."""
    return shown.recognise(path, pid) if _reads(nr, args) else ""


def another(
    path: bytes, nr: int, args: tuple[int, ...], pid: int, programs: Mapping[int, Program]
) -> tuple[str, Program] | None:  # fmt: skip
    """The file about another program of the tree that ``pid`` opens to read: by the time of the read it may have moved."""
    other, name = shown.of_another(path) if _reads(nr, args) else (0, "")
    found = programs.get(other)
    if found is None or other == pid or found.process.native:
        return None
    return name, found


def memory(path: bytes, nr: int, args: tuple[int, ...], pid: int, programs: Mapping[int, Program]) -> tuple[str, Program] | None:
    """The file in /proc that shows memory itself, or the auxiliary vector, which the program ``pid`` opens, and of whom."""
    other, name = shown.of_memory(path, pid) if nr in (SYS_OPEN, SYS_OPENAT) and not flags_of(nr, args) & os.O_PATH else (0, "")
    found = programs.get(other)
    if found is None or found.process.native or (name == "auxv" and not _reads(nr, args)):
        return None
    return name, found


def travelled(p: Program) -> bool:
    """Whether it, or a child of it that has ended, has used CPU time away."""
    return any(p.cpu.used) or any(p.cpu.of_children)


def state_of(p: Program) -> str:
    """The state of a program that is stopped or away, as natively: away it runs, unless its deputy is in a call."""
    if p.halted:
        return "T (stopped)"
    return "S (sleeping)" if p.deputy is not None and p.deputy.state is State.BUSY else "R (running)"


def retitle(p: Program, text: bytes) -> None:
    """The program, away, has written over its arguments and environment: its deputy shows the same from now on."""
    start, end = title_at(p.pid)
    if len(text) == end - start:
        try:
            p.task.write(start, text)
        except OSError:
            pass  # the program had unmapped them before it left


def _reads(nr: int, args: tuple[int, ...]) -> bool:
    return flags_of(nr, args) & (os.O_ACCMODE | os.O_DIRECTORY | os.O_PATH) == os.O_RDONLY


def flags_of(nr: int, args: tuple[int, ...]) -> int:
    """The flags of an open or openat; of other calls O_WRONLY, which is not ours to serve."""
    return args[1] if nr == SYS_OPEN else args[2] if nr == SYS_OPENAT else os.O_WRONLY


def release(pump: Any, name: str) -> None:
    """Before the file ``name`` is read: it tells where a program may compute, not that we hold it on our processor for now."""
    if name == "status":
        lib.mos_unpin(pump)


def away_text(p: Program, name: str, body: bytes) -> bytes:
    """What a program away reads. ``body``: its body's text of the file. Not while calls are injected: that blocks all signals."""
    with open(f"/proc/{p.pid}/{name}", "rb") as file:
        return timed(p, name, shown.merged(name, file.read(), body, p.filters_of_ours))


def timed(p: Program, name: str, text: bytes) -> bytes:
    """``text`` of the file ``name`` with the CPU time that ``p`` and its children have used away."""
    used = (*p.cpu.used, *p.cpu.of_children)
    return shown.with_times(text, [ns // TICK_NS for ns in used]) if name == "stat" and any(used) else text


def opened(call: Calls, name: str, nr: int, args: tuple[int, ...], text: bytes) -> int:
    """The open of a program away of a file with ``text``: descriptor or negative errno."""
    return memory_file_of(call, name, flags_of(nr, args), text)


def home_text(p: Program, name: str) -> bytes:
    """What a stopped program at home reads, which may be away at the time of the read. Not while calls are injected, either."""
    text = timed(p, name, shown.text(p.pid, name, p.process.names))
    if name == "status":
        text = shown.untraced(text, p.filters_of_ours)
    return shown.with_state(name, text, "R (running)") if name in ("stat", "status") else text


def memory_file_of(call: Calls, name: str, flags: int, text: bytes) -> int:
    """A descriptor of the stopped program for a file with ``text``, or a negative errno."""
    return memory_file(call, name, text, cloexec=bool(flags & os.O_CLOEXEC))


def name_of(pid: int, fd: int) -> bytes:
    """The file behind a descriptor, as maps would name it; b"" if it has no name."""
    try:
        name = os.readlink(f"/proc/{pid}/fd/{fd}".encode())
    except OSError:
        return b""
    return name if name.startswith(b"/") else b""
