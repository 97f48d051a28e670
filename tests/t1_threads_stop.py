"""Stops of programs with several threads at home, and their clocks away: what each end does, with a made-up other one."""

from __future__ import annotations

import errno
import os
import struct
import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mosfs.abi.flags import CLONE_THREAD, ERESTART_RESTARTBLOCK
from mosfs.abi.numbers import SYS_FUTEX, SYS_POLL, SYS_RESTART_SYSCALL
from mosfs.abi.reasons import Reason
from mosfs.calls.request import Request
from mosfs.guest import clocks
from mosfs.guest import threads as guest_threads
from mosfs.guest.body import Body, State
from mosfs.guest.onward import BUSY, Onward
from mosfs.guest.threads import Threads as GuestThreads
from mosfs.guest.timed import Timed
from mosfs.home.asks.policy import Policy
from mosfs.home.away.births import Births
from mosfs.home.moves import threads
from mosfs.home.moves.arrival import Arrival
from mosfs.home.moves.departure import Departure
from mosfs.home.moves.moves import Moves
from mosfs.home.moves.threads import MOST_STOPS, RUNS_WITHIN, TRIES_OF_A_WAIT, Threads, woken
from mosfs.home.process.deputy import THREAD_ROOM, THREADS_SCRATCH, Flight, Outcome
from mosfs.home.process.descriptors import is_dispensable
from mosfs.home.process.move import Move, Phase
from mosfs.home.process.program import Place
from mosfs.home.tree.family import Family
from mosfs.home.tree.stops import Stops
from mosfs.migrate.maps import CannotMove
from mosfs.native import ffi
from mosfs.trace.layout import STUB, STUB_AFTER
from mosfs.trace.stops import Status, Stop
from mosfs.trace.task import NOTHING, Task, TaskGone, no_regs
from mosfs.wire.asked import Settings
from mosfs.wire.frames import FORK_REPLY
from mosfs.wire.orders import ForkOrder

PID = 300
THREAD_CLOCK = 3
PLACES = range(THREADS_SCRATCH, THREADS_SCRATCH + 3 * THREAD_ROOM, THREAD_ROOM)


def program(done: list[str], status: int = 0) -> Any:
    task = SimpleNamespace(interrupt=lambda: done.append("interrupt"), wait=lambda options: status)
    return SimpleNamespace(
        pid=PID, interrupted=True, deputy=None, task=task, post=SimpleNamespace(mail=None), travel=SimpleNamespace(retry_at=0.0)
    )


def test_a_trapped_call_does_not_use_the_interrupt_up() -> None:
    done: list[str] = []
    p = program(done)
    stops = Stops(SimpleNamespace(programs={PID: p}))  # type: ignore[arg-type]
    stops._trapped = lambda p: done.append("injected")  # type: ignore[method-assign]
    stops.handle(p, Status(Stop.SECCOMP, 0))
    assert done == ["injected", "interrupt"]


def test_an_exec_uses_the_interrupt_up() -> None:
    done: list[str] = []
    p = program(done)
    family = SimpleNamespace(exec_done=lambda p: done.append("executed"))
    Stops(SimpleNamespace(programs={PID: p}, family=family)).handle(p, Status(Stop.EXEC, 0))  # type: ignore[arg-type]
    assert done == ["executed", "interrupt"]


@pytest.mark.parametrize(("status", "replaced"), [(0, False), (4 << 16 | 0x57F, True)])
def test_an_exec_of_another_thread_is_not_passed_over(status: int, replaced: bool) -> None:
    """It has the ID of the first one, which we had stopped: going on with that would let the new program run without us."""
    seen: list[int] = []
    p = program([], status)
    p.kin, p.move, p.place, p.obstacle = SimpleNamespace(threads={PID + 1}), Move("2", "2"), Place.HOME, lambda: ""
    p.move.phase = Phase.STOPPING
    later: list[Any] = []
    tree: Any = SimpleNamespace(
        programs={PID: p}, stops=SimpleNamespace(task_event=lambda pid, status: seen.append(status)),
        moves=SimpleNamespace(retry_later=lambda p: later.append(p) or True),
    )
    tree.threads = Threads(tree)
    tree.threads.stand = lambda p, move: False
    part = Departure(tree)
    part.note_sleep = lambda p, regs: None  # type: ignore[method-assign]
    part.deliverable = lambda p: False  # type: ignore[method-assign]
    p.task.peek_regs = no_regs
    assert part.stopped(p, Stop.TRAP) is replaced
    assert (seen, later) == ([status] * replaced, [p])


@pytest.mark.parametrize(("number", "outs"), [(SYS_FUTEX, 0), (SYS_POLL, 1)])
def test_a_wait_for_others_writes_nothing(number: int, outs: int) -> None:
    regs = no_regs()
    regs.orig_rax, regs.rax, regs.rdi, regs.rsi = number, -ERESTART_RESTARTBLOCK & NOTHING, 0x5008, 1
    p: Any = SimpleNamespace(several=False, call=SimpleNamespace(sleep=None))
    Departure(SimpleNamespace()).note_sleep(p, regs)  # type: ignore[arg-type]
    assert p.call.sleep.pages == [(0x5000, 0x6000)] and len(p.call.sleep.outs) == outs


@pytest.mark.parametrize(("status", "events", "waiting"), [(0, 0, 1), (0x80057F, 1, 0)])
def test_the_first_thread_is_looked_at_though_others_stop_all_the_time(status: int, events: int, waiting: int) -> None:
    seen: list[int] = []
    p = program([], status)
    stops = SimpleNamespace(task_event=lambda pid, status: seen.append(pid))
    moves = Moves(SimpleNamespace(programs={PID: p}, stops=stops, pump=ffi.new("struct mos_pump *")))  # type: ignore[arg-type]
    moves.asked(p)
    due = moves.next_retry()
    assert due is not None
    moves.retry(due)
    assert (len(seen), len(moves._asked)) == (events, waiting)


@pytest.mark.parametrize("several", [False, True])
def test_only_a_single_thread_tells_its_cpu_clock_without_home(several: bool) -> None:
    body: Any = SimpleNamespace(
        own=SimpleNamespace(several=several), call=SimpleNamespace(regs=SimpleNamespace(rdi=THREAD_CLOCK)),
        times=SimpleNamespace(deputy_cpu=-1, told_used=(3, 4), own_before=None),
    )  # fmt: skip
    clocks.told_by_home(body, struct.pack("<2q", 1, 10))
    assert body.times.deputy_cpu == (-1 if several else 10**9 + 3)


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize(("superseded", "answers"), [(True, []), (False, [-errno.ENOMEM])])
def test_a_call_that_another_move_takes_home_does_not_fail(several: bool, superseded: bool, answers: list[int]) -> None:
    """Whichever thread has made it: the move is its process's."""
    asked: list[Move] = []
    process: Any = SimpleNamespace(pid=PID, away=True, move=None, link=None)
    p: Any = SimpleNamespace(pid=PID + 1, away=True, move=None, link=None) if several else process
    tree: Any = SimpleNamespace(
        family=SimpleNamespace(process=lambda _: process), moves=SimpleNamespace(request=lambda _, move: asked.append(move))
    )
    told: list[int] = []
    assert Policy(tree).come_home(p, told.append)
    process.move = Move("3", "3") if superseded else None
    done = asked[0].done
    assert done is not None
    done(Reason.SUPERSEDED if superseded else Reason.INCOMPLETE)
    assert told == answers


def test_a_child_that_another_thread_has_made_is_its_process_s() -> None:
    """It has moved as often, and is set as it is: the other threads' own records tell nothing of that."""
    pid = os.getpid()
    tree: Any = SimpleNamespace(programs={}, features="", traces=SimpleNamespace(everything=None))
    family = Family(tree)
    process = family.adopt(Task(pid), Settings())
    thread = family.adopt(Task(pid), process.settings, parent=process)
    tree.programs[pid] = process
    thread.kin.leader = pid
    process.travel.nmigs, process.travel.sigmig, process.settings = 3, 12, Settings(lock=1)
    child = family.adopt(Task(pid), thread.settings, parent=thread)
    assert (child.travel.nmigs, child.travel.sigmig, child.settings.lock, child.kin.parent) == (3, 12, 1, pid)


@pytest.mark.parametrize(("threads", "room"), [(0, (1, 1)), (-1, None)])
def test_a_host_has_no_thread_made_that_the_program_may_not_have(threads: int, room: object) -> None:
    sent: list[bytes] = []
    p: Any = SimpleNamespace(
        pid=PID, settings=Settings(threads=threads),
        reports=SimpleNamespace(account=SimpleNamespace(calls=0)),
    )  # fmt: skip
    tree: Any = SimpleNamespace(
        family=SimpleNamespace(process=lambda _: p), threads=SimpleNamespace(room=lambda _: room),
        hosts=SimpleNamespace(send=lambda p, kind, payload: sent.append(payload)), deputies=SimpleNamespace(watch=lambda p: None),
    )
    deputy: Any = SimpleNamespace(born=0, ready_since=0.0)
    Births(tree).fork(p, deputy, ForkOrder(CLONE_THREAD, 0))
    assert [FORK_REPLY.unpack(payload)[0] for payload in sent] == [-errno.EAGAIN]


#: orig_rax, rip, rax and rdi at a stop of a wait in the stub, and how the wait has ended there; None: it has not.
WAITS: dict[str, tuple[tuple[int, int, int, int], int | None]] = {
    "woken": ((SYS_FUTEX, STUB_AFTER, 0, 0x1000), 0),
    "timed out": ((SYS_FUTEX, STUB_AFTER, -errno.ETIMEDOUT, 0x1000), -errno.ETIMEDOUT),
    "woken, after a restart": ((SYS_RESTART_SYSCALL, STUB_AFTER, 0, 0x1000), 0),
    "broken off": ((SYS_FUTEX, STUB_AFTER, -516, 0x1000), None),
    "not begun": ((-1, STUB, SYS_FUTEX, 0x1000), None),
    "before its result is moved": ((-1, STUB_AFTER, 0, 0x1000), 0),
    "before it is told": ((-1, STUB_AFTER + 3, 0, 0), 0),
}


@pytest.mark.parametrize("name", WAITS)
def test_a_wait_that_has_ended_is_not_made_again(name: str) -> None:
    """Else a thread that was woken just as it was stopped would never hear of that, and one that has locked would lock twice."""
    (orig_rax, rip, rax, rdi), outcome = WAITS[name]
    regs: Any = SimpleNamespace(orig_rax=orig_rax & NOTHING, rip=rip, rax=rax & NOTHING, rdi=rdi)
    told: list[int] = []
    body: Any = SimpleNamespace(task=SimpleNamespace(peek_regs=lambda: regs), call=SimpleNamespace(until=5))
    completion: Any = SimpleNamespace(finish=lambda body, result: told.append(result))
    assert Timed(SimpleNamespace(), completion).settled(body) == (outcome is not None)  # type: ignore[arg-type]
    assert told == ([] if outcome is None else [outcome])
    sleeping = SimpleNamespace(rax=SYS_FUTEX, orig_rax=NOTHING)
    q: Any = SimpleNamespace(body=SimpleNamespace(sleeping=sleeping), task=body.task)
    assert woken(q) == (outcome is not None)


def test_a_thread_that_is_just_ending_does_not_keep_its_process_from_coming_home() -> None:
    """Its body has ended away, its deputy is doing so at home: nothing of that is wrong."""
    ended: list[int] = []

    def gone(q: Any, deputy: Any) -> None:
        raise TaskGone(q.pid)

    def outcome(q: Any, deputy: Any) -> tuple[None, list[bytes]]:
        if q is p:
            return None, []
        raise TaskGone(q.pid, 0)

    p: Any = SimpleNamespace(pid=PID, deputy=SimpleNamespace(), kin=SimpleNamespace(threads={PID + 1}))
    tree: Any = SimpleNamespace(
        programs={PID + 1: SimpleNamespace(pid=PID + 1, deputy=SimpleNamespace())},
        arrival=SimpleNamespace(halt=gone, outcome=outcome),
        stops=SimpleNamespace(task_event=lambda pid, status: ended.append(pid)),
    )  # fmt: skip
    stopped = Threads(tree)
    stopped.halt(p)
    found: dict[int, Any] = {}
    stopped.outcomes(p, found)
    assert (found, ended) == ({PID: (None, [])}, [PID + 1])


def standing(raw: int | None) -> tuple[bool, int]:
    """Whether a thread that always has that to report stands, and how many attempts at a move that has cost."""
    seen: list[Status] = []
    q: Any = SimpleNamespace(
        pid=PID, suspended=False, halted=False, deputy=None, interrupted=False, obstacle=lambda: "",
        task=SimpleNamespace(wait_beside=lambda fd, seconds: raw),
    )  # fmt: skip
    tree: Any = SimpleNamespace(programs={PID: q}, stops=SimpleNamespace(handle=lambda q, status: seen.append(status)))
    move = Move("2", "2")
    stands = Threads(tree)._stops(q, move, {})
    assert len(seen) == (0 if raw is None else MOST_STOPS)
    return stands, move.tries


def test_a_thread_that_does_not_stand_is_not_waited_for_without_end() -> None:
    """Neither one that does not stop, which may wait for what only we can do, nor one that stops for other reasons all the time."""
    assert standing(None) == (False, TRIES_OF_A_WAIT)
    assert standing(7 << 16 | 0x057F) == (False, 0)


@pytest.mark.parametrize(("state", "frozen_for", "waits", "tries"), [
    ("R", 0.0, 3, 0), ("R", RUNS_WITHIN, 1, TRIES_OF_A_WAIT), ("S", 0.0, 1, TRIES_OF_A_WAIT), ("D", 0.0, 1, TRIES_OF_A_WAIT),
])  # fmt: skip
def test_a_thread_that_gets_no_processor_is_waited_for_a_little_longer(
    monkeypatch: pytest.MonkeyPatch, state: str, frozen_for: float, waits: int, tries: int
) -> None:
    """All others stand: it will have one soon. Asked again later it would have to wait for one again."""
    came = iter((None, None, 128 << 16 | 0x057F))
    asked: list[object] = []

    def wait(fd: int, seconds: float) -> int | None:
        asked.append(fd)
        return next(came)

    q: Any = SimpleNamespace(
        pid=PID, suspended=False, halted=False, deputy=SimpleNamespace(), interrupted=True, obstacle=lambda: "",
        task=SimpleNamespace(wait_beside=wait, interrupt=lambda: None),
    )  # fmt: skip
    monkeypatch.setattr(threads, "state_of", lambda pid: state)
    monkeypatch.setattr(threads, "woken", lambda q: False)
    part = Threads(SimpleNamespace(programs={PID: q}, departure=SimpleNamespace(deliverable=lambda q: False)))  # type: ignore[arg-type]
    part._standing = lambda q, stop: "stands"  # type: ignore[assignment,method-assign,return-value]
    move = Move("2", "2", frozen_at=time.monotonic() - frozen_for)
    assert part._stops(q, move, {}) is (tries == 0)
    assert (len(asked), move.tries, move.standing) == (waits, tries, {} if tries else {PID: "stands"})


def test_a_thread_of_a_guest_that_gets_no_processor_is_asked_again_later() -> None:
    """It is not ended as one that does not stop: so long nobody else has to stand."""
    done: list[str] = []
    task = SimpleNamespace(interrupt=lambda: done.append("interrupt"), wait_beside=lambda fd, seconds: None)
    body: Any = SimpleNamespace(
        pair=PID + 1, state=State.RUNNING, task=task, stopping=SimpleNamespace(interrupting=False, paused=False, stood=False)
    )
    leader: Any = SimpleNamespace(threads={body.pair: body})
    part: Any = SimpleNamespace(bodies={body.pair: body}, pump=ffi.new("struct mos_pump *"))
    assert not GuestThreads(part, part).stand(leader)
    assert (done, body.stopping.stood) == (["interrupt"], False)


@pytest.mark.parametrize(("both", "state", "resumed"), [
    (True, State.WAITING, False), (False, State.WAITING, False), (False, State.RUNNING, True),
])
def test_a_first_thread_that_does_not_leave_waits_on_for_its_answer(both: bool, state: State, resumed: bool) -> None:
    """Its others do not stand yet. A call that home and body both make is not made before home has made it."""
    done: list[str] = []
    regs = no_regs()
    regs.rip = 0x1002
    body: Any = SimpleNamespace(
        pid=os.getpid(), pair=PID, state=state, threads={PID + 1: None},
        call=SimpleNamespace(both=both, mapping=None, then=None, nr=14, regs=regs),
        stopping=SimpleNamespace(halted=False, paused=True), signals=SimpleNamespace(returning=False, infos=[]),
        fork=SimpleNamespace(shares=False), private=SimpleNamespace(store=None), leader=None,
        task=SimpleNamespace(cont=lambda: done.append("cont"), peek_regs=no_regs),
    )  # fmt: skip
    part: Any = SimpleNamespace()
    context: Any = SimpleNamespace(channel=SimpleNamespace(send=lambda kind, pair, payload: done.append(payload)))
    mails: Any = SimpleNamespace(flush=lambda *args, **named: False)
    others: Any = SimpleNamespace(stand=lambda body: False)
    leaves = Onward(context, part, part, part, part, mails, part, others)
    leaves._unsuited = lambda body, order: False  # type: ignore[method-assign]
    leaves.request(body, None)
    assert (done, body.call.both, body.state) == ([BUSY, *["cont"] * resumed], both, state)


class Stood:
    """A thread of a guest that stands. ``goes_on``: with which rip its kernel was let go on, each time."""

    def __init__(self, state: State, *, both: bool = False) -> None:
        self.goes_on: list[int] = []
        self.rip = 0
        task: Any = SimpleNamespace(pid=PID, peek_regs=self._stands, set_regs=self._given, cont=self._cont)
        self.body = Body(PID, task, state)
        self.body.stopping.stood, self.body.call.both, self.body.call.nr = True, both, SYS_POLL
        self.body.call.regs = no_regs()
        self.body.call.regs.rip = 0x2002

    @staticmethod
    def _stands() -> Any:
        regs = no_regs()
        regs.rip, regs.orig_rax = 0x1000, NOTHING
        return regs

    def _given(self, regs: Any) -> None:
        self.rip = int(regs.rip)

    def _cont(self) -> None:
        self.goes_on.append(self.rip)


@pytest.mark.parametrize("error", [CannotMove("its timers"), OSError(errno.EIO, ""), None])
def test_threads_that_do_not_leave_all_go_on(monkeypatch: pytest.MonkeyPatch, error: Exception | None) -> None:
    """Each where it was: calls were made in them meanwhile, so their kernels stand in our stub. ``error``: of their capture; None:
    home does not want them."""

    def capture(stood: Any, *, pending: bool) -> Any:
        if error is not None:
            raise error
        return [SimpleNamespace(pending=[]) for _ in stood]

    monkeypatch.setattr(guest_threads, "Calls", lambda *args, **named: nullcontext())
    monkeypatch.setattr(guest_threads, "capture_threads", capture)
    runs, waits, twice, timed = [Stood(State.RUNNING), Stood(State.WAITING), Stood(State.WAITING, both=True), Stood(State.TIMED)]
    leader: Any = SimpleNamespace(threads={number: one.body for number, one in enumerate((runs, waits, twice, timed))})
    part = GuestThreads(SimpleNamespace(bodies={}), SimpleNamespace(put=lambda body, regs: body.task.set_regs(regs)))  # type: ignore[arg-type]
    with pytest.raises(type(error)) if error is not None else nullcontext():
        part.captured(leader)
    part.resume(leader)
    assert [one.goes_on for one in (runs, waits, twice, timed)] == [[0x1000], [], [0x2000], [0x2000]]
    assert [one.body.state for one in (runs, waits, twice, timed)] == [State.RUNNING, State.WAITING, State.RUNNING, State.RUNNING]


def test_a_sleeping_thread_keeps_the_place_that_its_call_reads_and_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that have ended meanwhile leave gaps: those who come behind must not move into each other's."""
    deputies = [SimpleNamespace(room=(place, THREAD_ROOM), task=None, base=None, mask=0) for place in PLACES[:3]]
    sleeps: Any = SimpleNamespace(stop=Stop.TRAP, asleep=True)
    runs: Any = SimpleNamespace(stop=Stop.TRAP, asleep=False)
    task = SimpleNamespace(peek_mask=lambda: 0, peek_rseq=lambda: (0, 0, 0))
    programs: Any = {
        tid: SimpleNamespace(pid=tid, deputy=deputy, task=task, call=SimpleNamespace(sleep=None))
        for tid, deputy in [(PID + 2, deputies[1]), (PID + 3, None), (PID + 4, None)]
    }  # fmt: skip
    monkeypatch.setattr(threads, "Calls", lambda *args, **named: nullcontext())
    monkeypatch.setattr(threads, "Deputy", lambda task, mask: SimpleNamespace(room=None, task=task, base=None, mask=mask))
    monkeypatch.setattr(threads, "forget_all", lambda calls: None)
    move = Move("2", "2")
    move.standing = {PID + 2: sleeps, PID + 3: runs, PID + 4: runs}
    p: Any = SimpleNamespace(kin=SimpleNamespace(threads=set(programs)))
    found = Threads(SimpleNamespace(programs=programs)).prepare(p, move)  # type: ignore[arg-type]
    assert found[0] is deputies[1]
    assert [deputy.room[0] for deputy in found] == [PLACES[1], PLACES[0], PLACES[2]]


@pytest.mark.parametrize("big", [None, (0x7000_0000_0000, 0x1000)])
def test_a_sleep_in_memory_of_its_own_is_made_again_at_home(big: tuple[int, int] | None) -> None:
    """The program has that place now: a kernel that went on there would read and write what is the program's, and unmap it."""
    request = Request(SYS_POLL, (0, 400, 2000, 0, 0, 0), 0)
    flight = Flight(request, request.args, [], big)
    before: Any = SimpleNamespace(rax=SYS_POLL, rdi=0)
    done: list[Any] = []
    task = SimpleNamespace(set_regs=done.append)
    p: Any = SimpleNamespace(task=task, deputy=None, suspended=False, call=SimpleNamespace(carry=None), body=SimpleNamespace())
    deputy: Any = SimpleNamespace(flight=None, resume_sleep=lambda: done.append("resumed"))
    tree: Any = SimpleNamespace(
        departure=SimpleNamespace(deliverable=lambda p: False), stops=SimpleNamespace(go_on=lambda p: done.append("goes on"))
    )
    Arrival(tree)._finish_call(p, deputy, before, Outcome(SYS_POLL, -ERESTART_RESTARTBLOCK, [], flight), signalled=False)
    assert (done, p.deputy) == (["resumed"], deputy) if big is None else ([before, "goes on"], None)


def test_the_counters_of_java_are_dispensable(tmp_path: Path) -> None:
    folder = Path(f"/tmp/hsperfdata_{os.getpid()}")
    folder.mkdir(exist_ok=True)
    names = [folder / "4711", folder / "other", tmp_path / "4711", folder / "4712"]
    try:
        files = [name.open("wb") for name in names]
        assert [is_dispensable(os.getpid(), file.fileno(), 4711) for file in files] == [True, False, False, False]
        for file in files:
            file.close()
    finally:
        for name in names:
            name.unlink(missing_ok=True)
        folder.rmdir()
