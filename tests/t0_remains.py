"""What a program has left at home is unmapped slice by slice, beside calls that cannot meet it."""

from __future__ import annotations

import os
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mosfs.abi.syscalls import BY_NAME
from mosfs.calls.request import Blob, Request
from mosfs.home.away.deputies import Deputies
from mosfs.home.process import deputy as deputies
from mosfs.home.process import remains
from mosfs.home.process.deputy import Deputy, State
from mosfs.home.process.remains import BYTES, MAPPINGS, MOST, Remains, beside, slices
from mosfs.migrate.ranges import Range, common, merge, size
from mosfs.trace import layout

FIRST = layout.PAGE * 16
KEEP = [(layout.STUB, layout.END)]
AT_FDCWD = 0xFFFFFF9C


def ranges(most: int) -> st.SearchStrategy[list[Range]]:
    edges = st.lists(st.integers(layout.END // 4096, 2**35 - 1), unique=True, max_size=most).map(sorted)
    return edges.map(lambda e: [(a * 4096, b * 4096) for a, b in zip(e[::2], e[1::2])])


@given(ranges(60), ranges(8))
def test_slices_are_everything_but_what_is_kept(mapped: list[Range], kept: list[Range]) -> None:
    keep = merge([*KEEP, *kept])
    found = slices(mapped, keep)
    assert all(a[1] <= b[0] for a, b in pairwise(found)) and not common(found, keep)
    assert merge([*found, *keep]) == [(FIRST, layout.USER_END)]
    assert all(size(common([piece], mapped)) <= max(BYTES, size(mapped) // MOST) for piece in found)
    assert len(found) <= MOST + 2 + len(mapped) // MAPPINGS + len(keep)


def test_a_slice_has_no_more_mappings_than_one_turn_can_unmap() -> None:
    mapped = [(at, at + 4096) for at in range(1 << 30, (1 << 30) + 20_000 * 8192, 8192)]
    found = slices(mapped, KEEP)
    assert len(found) == 20_000 // MAPPINGS + 1
    assert max(len(common([piece], mapped)) for piece in found) == MAPPINGS


MEMORY = [(1 << 30, 1 << 31)]
INSIDE, OUTSIDE = (1 << 30) + 64, 1 << 40


def stat(path: int, buffer: int, *blobs: Blob) -> Request:
    return Request(BY_NAME["newfstatat"].nr, (AT_FDCWD, path, buffer, 0, 0, 0), 0, list(blobs))


def test_calls_that_bring_their_memory_are_made_beside_it() -> None:
    both = Blob(INSIDE, 9, b"/etc/motd", arg=1), Blob(INSIDE + 4096, 144, arg=2)
    assert beside(stat(INSIDE, INSIDE + 4096, *both), 0, MEMORY)
    assert not beside(stat(INSIDE, INSIDE + 4096, both[0]), 0, MEMORY), "a bad address: the memory is no longer the program's"
    assert beside(stat(INSIDE, OUTSIDE, both[0]), 0, MEMORY)
    assert not beside(stat(INSIDE, INSIDE, Blob(INSIDE, 1 << 20, arg=1), both[1]), 0, MEMORY), "it needs memory of its own"


@pytest.mark.parametrize("name", ["fork", "execve", "mmap", "nanosleep", "poll", "wait4", "open", "ioctl", "pause"])
def test_what_may_take_long_or_changes_the_memory_waits(name: str) -> None:
    assert not beside(Request(BY_NAME[name].nr, (0,) * 6, 0), os.getpid(), MEMORY)


def test_reads_and_writes_are_short_where_they_are_of_files(tmp_path: Path) -> None:
    def write(fd: int) -> bool:
        request = Request(BY_NAME["write"].nr, (fd, INSIDE, 3, 0, 0, 0), 0, [Blob(INSIDE, 3, b"abc", arg=1)])
        return beside(request, os.getpid(), MEMORY)

    with open(tmp_path / "file", "wb") as file, open("/proc/self/comm", "r+b") as of_proc:
        assert write(file.fileno()) and not write(of_proc.fileno())
    reader, writer = os.pipe()
    assert not write(writer) and not write(9999)
    os.close(reader), os.close(writer)


class Session:
    """As `Calls`, of a task that only counts."""

    unmapped: ClassVar[list[Range]] = []

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def must(self, nr: int, start: int, length: int) -> int:
        assert nr == BY_NAME["munmap"].nr
        self.unmapped.append((start, start + length))
        return 0


@pytest.fixture
def deputy(monkeypatch: pytest.MonkeyPatch) -> Deputy:
    from mosfs.native import ffi

    monkeypatch.setattr(Session, "unmapped", [])
    monkeypatch.setattr(deputies, "Calls", Session)
    task: Any = SimpleNamespace(pid=1, peek_regs=lambda: ffi.new("struct mos_regs *"))
    return Deputy(task, 0)


def test_a_turn_takes_one_slice_and_signals_do_not_wait_for_the_rest(deputy: Deputy, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[bool] = []
    pieces = [(at << 20, (at + 1) << 20) for at in range(16, 26)]
    deputy.remains = Remains(list(pieces), lambda: ended.append(True))
    monkeypatch.setattr(deputy, "park", lambda: (deputy.give_up(), setattr(deputy, "state", State.PARKED)))
    signals: list[bool] = []
    program: Any = SimpleNamespace(pid=1, deputy=deputy)
    tracer: Any = SimpleNamespace(
        programs={1: program}, departure=SimpleNamespace(deliverable=lambda p: bool(signals)),
        lanes=SimpleNamespace(armed=set()), containment=SimpleNamespace(of=lambda p: nullcontext()),
        threads=SimpleNamespace(replaced=lambda p: False),
    )  # fmt: skip
    all_of_them = Deputies(tracer)
    all_of_them.watch(program)
    for turn in range(1, 4):
        assert all_of_them.next_park() == 0.0, "there is something to do at once"
        all_of_them.park_idle(0.0)
        assert len(Session.unmapped) == turn and deputy.state is State.READY and not ended
    signals.append(True)
    all_of_them.park_idle(0.0)
    assert sorted(Session.unmapped) == pieces and ended == [True] and deputy.state is State.PARKED


def test_what_a_thread_has_executed_is_not_parked(deputy: Deputy, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the ID of the first one, whose deputy stood there: the new program would be made to wait in its place."""
    monkeypatch.setattr(deputy, "park", lambda: pytest.fail("parked"))
    deputy.state, deputy.ready_since = State.READY, 0.0
    program: Any = SimpleNamespace(pid=1, deputy=deputy)
    tracer: Any = SimpleNamespace(
        programs={1: program}, containment=SimpleNamespace(of=lambda p: nullcontext()),
        threads=SimpleNamespace(replaced=lambda p: True),
    )  # fmt: skip
    parked = Deputies(tracer)
    parked.watch(program)
    parked.park_idle(1.0)
    assert not parked._ready


def test_a_call_that_may_meet_it_comes_behind_all_of_it(deputy: Deputy, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    monkeypatch.setattr(deputy, "_run", lambda nr, args: made.append(len(Session.unmapped)))
    monkeypatch.setattr(deputies, "beside", remains.beside)
    deputy.remains = Remains([(1 << 30, 1 << 31), (1 << 31, 1 << 32)])
    deputy.start(Request(BY_NAME["getcwd"].nr, (OUTSIDE, 10, 0, 0, 0, 0), 0))
    deputy.start(Request(BY_NAME["getcwd"].nr, (INSIDE, 10, 0, 0, 0, 0), 0))
    assert made == [0, 2] and not deputy.remains
