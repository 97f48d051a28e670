"""What a guest's other threads make of its clone3(2), whose arguments lie in their memory (`guest.processes`, `guest.threads`)."""

from __future__ import annotations

import errno
import os
import subprocess
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from mosfs.abi.flags import (
    CLONE_DETACHED,
    CLONE_FILES,
    CLONE_FS,
    CLONE_NEWNET,
    CLONE_SETTLS,
    CLONE_SIGHAND,
    CLONE_SYSVSEM,
    CLONE_THREAD,
    CLONE_UNTRACED,
    CLONE_VFORK,
    CLONE_VM,
    MAP_FIXED,
)
from mosfs.abi.numbers import SYS_CLONE, SYS_MADVISE, SYS_MMAP, SYS_MPROTECT, SYS_MREMAP, SYS_MUNMAP, SYS_PKEY_MPROTECT
from mosfs.calls.policy import makes_thread
from mosfs.calls.request import Request
from mosfs.guest import processes, threads
from mosfs.guest.body import State
from mosfs.guest.processes import Processes
from mosfs.guest.threads import Threads
from mosfs.home.away.births import Births
from mosfs.home.moves.threads import Threads as HomeThreads
from mosfs.home.moves.threads import free_places
from mosfs.home.process.deputy import THREAD_ROOM, Deputy, Flight
from mosfs.migrate.image import MOST_THREADS
from mosfs.trace import layout
from mosfs.trace.embark import vdso_image
from mosfs.trace.filter import TRACE, guest_filter, run
from mosfs.trace.task import TaskGone, no_regs
from mosfs.wire.asked import Settings
from mosfs.wire.frames import FORK_REPLY
from mosfs.wire.orders import ForkOrder

PID = 300


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Who is ended for not being fit."""
    found: list[int] = []

    def unfit(pid: int, why: str) -> TaskGone:
        found.append(pid)
        return TaskGone(pid)

    for module in (processes, threads):
        monkeypatch.setattr(module, "unfit", unfit)
    return found


def test_a_child_that_nobody_traces_is_the_end_of_who_has_made_it(killed: list[int]) -> None:
    regs = SimpleNamespace(rax=7, orig_rax=-1)
    body: Any = SimpleNamespace(
        pid=100, state=State.FORKING, task=SimpleNamespace(peek_regs=lambda: regs), fork=SimpleNamespace(owed=True, child=7),
        call=SimpleNamespace(nr=SYS_CLONE, regs=SimpleNamespace(rdi=CLONE_THREAD)),
    )
    with pytest.raises(TaskGone):
        Processes.returned(SimpleNamespace(), body)  # type: ignore[arg-type]
    assert killed == [100]


def test_a_process_is_no_thread(killed: list[int]) -> None:
    with subprocess.Popen(["sleep", "1000"]) as other:
        body: Any = SimpleNamespace(pid=os.getpid(), leader=None, threads={}, task=SimpleNamespace(event_message=lambda: other.pid))
        try:
            with pytest.raises(TaskGone):
                Threads(None, None).born(body)  # type: ignore[arg-type]
        finally:
            other.kill()
    assert killed == [other.pid, os.getpid()]


@pytest.mark.parametrize("flags", [CLONE_THREAD | CLONE_DETACHED, CLONE_THREAD | 1 << 33])
def test_what_clone_passes_over_is_not_told_to_clone3(flags: int) -> None:
    """musl makes its threads with CLONE_DETACHED: each brought its program home."""
    written: list[bytes] = []
    regs = no_regs()
    regs.rdi, regs.rsi = flags, 0x700000
    task = SimpleNamespace(poke=lambda at, data: written.append(data))
    call = SimpleNamespace(nr=SYS_CLONE, regs=regs)
    body: Any = SimpleNamespace(task=task, call=call, own=SimpleNamespace(slot=1), fork=SimpleNamespace(child=7))
    Threads.clone(body, flags)
    assert int.from_bytes(written[0][:8], "little") == CLONE_THREAD


def test_what_clone3_reads_lies_where_no_thread_can_write() -> None:
    """Another thread that wrote there while the call was being made had a child that nobody traces, and that computed on."""
    program = guest_filter(threads=True)
    first, end = threads.CLONES, threads.CLONES + threads.CLONE_ROOM * (MOST_THREADS + 2)
    assert layout.VDSO + len(vdso_image()) <= first and end <= layout.VDSO_END
    for nr in (SYS_MPROTECT, SYS_PKEY_MPROTECT, SYS_MUNMAP, SYS_MREMAP, SYS_MADVISE):
        assert run(program, nr, args=(first & ~4095, 4096, 3)) == TRACE
    assert run(program, SYS_MMAP, args=(first & ~4095, 4096, 3, MAP_FIXED | 0x22)) == TRACE


#: As glibc makes one; and what it may not be.
THREAD = CLONE_VM | CLONE_SIGHAND | CLONE_THREAD | CLONE_FILES | CLONE_SETTLS


@pytest.mark.parametrize(("flags", "may"), [
    (THREAD, True), (THREAD | CLONE_DETACHED, True), (THREAD & ~CLONE_FILES, True), (THREAD | 1 << 40, True),
    (THREAD | CLONE_UNTRACED, False), (THREAD | CLONE_NEWNET, False), (THREAD | CLONE_VFORK, False), (CLONE_VM, False),
])  # fmt: skip
def test_threads_that_a_program_may_make(flags: int, may: bool) -> None:
    """Not one that nobody traces, which would stay behind when its program moves."""
    assert makes_thread(SYS_CLONE, (flags, 0, 0, 0, 0, 0)) is may


@pytest.mark.parametrize("passed", [0, CLONE_FILES, CLONE_FS | CLONE_FILES])
def test_a_thread_made_away_shares_at_home_what_it_was_asked_with(passed: int) -> None:
    """It may have descriptors of its own."""
    made: list[int] = []
    process = SimpleNamespace(settings=Settings())
    p: Any = SimpleNamespace(reports=SimpleNamespace(account=SimpleNamespace(calls=0)))
    tree: Any = SimpleNamespace(
        family=SimpleNamespace(process=lambda p: process), threads=SimpleNamespace(room=lambda process: (0, 0))
    )
    deputy: Any = SimpleNamespace(born=0, flight=SimpleNamespace(), start=lambda request, done: made.append(request.args[0]))
    Births(tree).fork(p, deputy, ForkOrder(THREAD & ~CLONE_FILES | CLONE_UNTRACED | passed, 0))
    assert made == [CLONE_VM | CLONE_SIGHAND | CLONE_THREAD | passed]


# --------------------------------------------------------------------------- the last place


class Away:
    """A process away with so many threads beside the first. ``started``: by which threads' deputies a clone was begun, ``refused``:
    what the others were told."""

    def __init__(self, threads: int) -> None:
        self.started: list[int] = []
        self.refused: list[int] = []
        programs: dict[int, Any] = {}
        tree: Any = SimpleNamespace(
            programs=programs, deputies=SimpleNamespace(watch=lambda p: None),
            family=SimpleNamespace(process=lambda p: programs[PID]),
            hosts=SimpleNamespace(send=lambda p, kind, payload: self.refused.append(FORK_REPLY.unpack(payload)[0])),
        )  # fmt: skip
        tree.threads = HomeThreads(tree)
        self.births, self.tree = Births(tree), tree
        for tid in range(PID, PID + threads + 1):
            deputy = Deputy.__new__(Deputy)
            place = next(free_places(q.deputy.room for q in programs.values()), 0)
            deputy.room, deputy.flight, deputy.born = (place, THREAD_ROOM), None, 0
            if tid == PID:
                HomeThreads.room_of_leader(deputy)
            deputy.start = partial(self._start, tid, deputy)  # type: ignore[method-assign, assignment]
            programs[tid] = SimpleNamespace(
                pid=tid, deputy=deputy, kin=SimpleNamespace(threads=set()), settings=Settings(),
                reports=SimpleNamespace(account=SimpleNamespace(calls=0)),
            )  # fmt: skip
        programs[PID].kin.threads = programs.keys() - {PID}

    def _start(self, tid: int, deputy: Any, request: Request, done: Any) -> None:
        self.started.append(tid)
        deputy.flight = Flight(request, request.args, [], done=done)

    def wants_one(self, tid: int) -> None:
        p = self.tree.programs[tid]
        self.births.fork(p, p.deputy, ForkOrder(CLONE_THREAD, 0))


def test_two_threads_cannot_have_the_last_place_both() -> None:
    away = Away(MOST_THREADS - 1)
    away.wants_one(PID + 1)
    away.wants_one(PID + 2)
    assert (away.started, away.refused) == ([PID + 1], [-errno.EAGAIN])
    deputy = away.tree.programs[PID + 1].deputy
    flight, deputy.flight = deputy.flight, None
    flight.done(-errno.EAGAIN)  # it did not become one
    away.wants_one(PID)
    assert away.started == [PID + 1, PID]


def test_threads_that_are_made_at_once_have_places_of_their_own() -> None:
    away = Away(4)
    for tid in range(PID, PID + 4):
        away.wants_one(tid)
    rooms = [q.deputy.flight.room for q in away.tree.programs.values() if q.deputy.flight is not None]
    taken = [q.deputy.room for q in away.tree.programs.values()]
    assert len({*rooms, *taken}) == 4 + 5


@pytest.mark.parametrize(("others", "forking", "here"), [
    (MOST_THREADS - 1, 0, True), (MOST_THREADS - 1, 1, False), (MOST_THREADS, 0, False),
])  # fmt: skip
def test_a_host_counts_the_threads_that_are_being_made(others: int, forking: int, here: bool) -> None:
    """Home would refuse the last one; so that is made at home."""
    leader: Any = SimpleNamespace(state=State.RUNNING, leader=None, own=SimpleNamespace(births=True), threads={})
    for number in range(others):
        leader.threads[number] = SimpleNamespace(state=State.FORKING if number < forking else State.RUNNING)
    flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM
    assert Threads.makes(leader, SYS_CLONE, (flags, 0, 0, 0, 0, 0)) is here
