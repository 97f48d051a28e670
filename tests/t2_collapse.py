"""Huge pages for what fork(2) is about to copy: real processes, whose memory is looked at in smaps."""

from __future__ import annotations

import ctypes
import mmap
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from mosfs.migrate import collapse
from mosfs.migrate.huge import HUGE, allowed
from tests.progs import REPO

SIZE, PAGE = 12 * HUGE, mmap.PAGESIZE

pytestmark = pytest.mark.skipif(not allowed(), reason="this kernel makes no huge pages when it is asked to")


@dataclass(frozen=True)
class Subject:
    """A process with `SIZE` bytes in small pages."""

    pid: int
    line: socket.socket
    address: int  #: of that memory

    def huge(self) -> int:
        """Bytes that are in huge pages, of the mapping with that memory."""
        inside = False
        with open(f"/proc/{self.pid}/smaps", encoding="ascii") as file:
            for line in file:
                if (found := re.match("([0-9a-f]+)-([0-9a-f]+) ", line)) is not None:
                    inside = int(found[1], 16) <= self.address < int(found[2], 16)
                elif inside and line.startswith("AnonHugePages:"):
                    return int(line.split()[1]) << 10
        raise AssertionError("it has ended")

    def unchanged(self) -> bool:
        self.line.send(b"?")
        return self.line.recv(1) == b"y"


def live(descriptor: int, hole: int, shared: bool) -> None:
    """What a subject does: a process of its own, for pytest's has mappings that no program could move with."""
    line = socket.socket(fileno=descriptor)
    memory = mmap.mmap(-1, SIZE + HUGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    begin = -address % HUGE
    places = [at for at in range(begin, begin + SIZE, PAGE) if not hole or at % hole != begin % hole]
    for at in places:
        memory[at : at + 8] = at.to_bytes(8, "little")
    if shared and not os.fork():
        line.recv(1, socket.MSG_PEEK)  # until the end
        os._exit(0)
    line.send((address + begin).to_bytes(8, "little"))
    while line.recv(1) == b"?":
        line.send(b"y" if all(memory[at : at + 8] == at.to_bytes(8, "little") for at in places) else b"n")


@contextmanager
def subject(*, hole: int = 0, shared: bool = False) -> Iterator[Subject]:
    """``hole``: one page of so many bytes is missing; ``shared``: a child of the process has all of it, too."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        begun = subprocess.Popen(
            [sys.executable, "-c", f"from tests import t2_collapse; t2_collapse.live({theirs.fileno()}, {hole}, {shared})"],
            cwd=REPO, pass_fds=[theirs.fileno()],
        )
        theirs.close()
        try:
            ours.settimeout(60)
            yield Subject(begun.pid, ours, int.from_bytes(ours.recv(8), "little"))
        finally:
            begun.kill()
            begun.wait()


@pytest.fixture(autouse=True)
def _idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """The processors have little else to do."""
    monkeypatch.setattr(os, "getloadavg", lambda: (0.0, 0.0, 0.0))


def test_memory_in_small_pages_becomes_huge() -> None:
    with subject() as program:
        assert program.huge() == 0
        slices = sum(1 for _ in collapse.collapsing(program.pid, 1, 0))
        assert slices >= SIZE // collapse.SLICE
        assert program.huge() >= SIZE * 3 // 4  # a page that the kernel is about to look at stays small
        assert program.unchanged()


def test_no_more_than_is_needed() -> None:
    with subject() as program:
        slices = sum(1 for _ in collapse.collapsing(program.pid, 1, 1 << 40))
        assert slices and program.huge() == 0


def test_little_memory_stays_as_it_is() -> None:
    with subject() as program:
        for _ in collapse.collapsing(program.pid):
            pass
        assert program.huge() == 0


@pytest.mark.parametrize("hole", [HUGE, 0])
def test_no_memory_is_taken_for_it(hole: int) -> None:
    """Where a page is missing, or is another process's too, a huge page would be more memory."""
    with subject(hole=hole, shared=not hole) as program:
        for _ in collapse.collapsing(program.pid, 1, 0):
            pass
        assert program.huge() == 0 and program.unchanged()


def test_a_busy_node_makes_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (1e4, 1e4, 1e4))
    with subject() as program:
        assert list(collapse.collapsing(program.pid, 1, 0)) == [] and program.huge() == 0


def test_it_does_not_take_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collapse, "PATIENCE", 0.0)
    with subject() as program:
        for _ in collapse.collapsing(program.pid, 1, 0):
            pass
        assert program.huge() == 0


def test_a_process_that_ends_meanwhile() -> None:
    with subject() as program:
        steps = collapse.collapsing(program.pid, 1, 0)
        next(steps)
        os.kill(program.pid, signal.SIGKILL)
        os.waitid(os.P_PID, program.pid, os.WEXITED | os.WNOWAIT)
        for _ in steps:
            pass
