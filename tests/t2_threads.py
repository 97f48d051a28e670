"""Bodies with threads, whose IDs are chosen (`guest.sandbox.Maker`)."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import signal
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from mosfs.abi.flags import ERESTARTNOINTR
from mosfs.abi.numbers import SYS_CLONE, SYS_FUTEX, SYS_GETPID
from mosfs.balance.account import Account
from mosfs.calls import partial
from mosfs.guest import sandbox
from mosfs.guest.body import Body, State
from mosfs.guest.faults import Faults
from mosfs.guest.signals import Signals
from mosfs.guest.threads import Threads as GuestThreads
from mosfs.home.moves.threads import Threads as HomeThreads
from mosfs.home.process.deputy import THREAD_ROOM as FLIGHT_ROOM
from mosfs.home.process.deputy import THREADS_SCRATCH
from mosfs.home.process.move import Move
from mosfs.migrate.image import MOST_THREADS
from mosfs.migrate.rebuild import Unsuited, set_action
from mosfs.migrate.rows import DATA, NAME, ROOM, capture_threads, forget_all, give_threads, place
from mosfs.native import ffi, lib
from mosfs.trace import layout
from mosfs.trace.inject import Calls, pack, side_by_side
from mosfs.trace.proc import state_of, words_of
from mosfs.trace.stops import Status, Stop, decode
from mosfs.trace.task import WALL, Task, TaskGone, check, copy_regs, discard, no_regs
from tests.t2_engine import seized

SYS_GETTID, SYS_TGKILL = 186, 234
FUTEX_WAIT, FUTEX_WAKE_OP = 0, 5
OF_THREAD = 0x50F00  #: CLONE_VM, _FS, _FILES, _SIGHAND, _THREAD and _SYSVSEM
WITHIN = 20.0  #: seconds
#: No PID of this machine is as high as these, nor are they taken in a namespace of their own.
FIRST, SECOND, THIRD = 4_100_001, 4_100_777, 4_100_500


@pytest.fixture(scope="module")
def maker() -> sandbox.Maker:
    try:
        return sandbox.Maker(sandbox.GUEST_UID)
    except Unsuited as reason:
        pytest.skip(str(reason))


@contextmanager
def body(maker: sandbox.Maker, number: int) -> Iterator[tuple[Task, list[Task]]]:
    """A body, and where its threads are kept, to be reaped before it."""
    task, threads = maker.spawn(number), list[Task]()
    try:
        yield task, threads
    finally:
        discard(task, threads)


def test_bodies_and_their_threads_have_the_ids_that_are_asked_for(maker: sandbox.Maker) -> None:
    with body(maker, FIRST) as (task, threads):
        with Calls(task, mask=0) as call:
            threads += [sandbox.spawn_thread(call, SECOND), sandbox.spawn_thread(call, THIRD)]
            assert (call(SYS_GETPID), call(SYS_GETTID)) == (FIRST, FIRST)
        for thread, number in zip(threads, (SECOND, THIRD), strict=True):
            with Calls(thread, mask=0) as call:
                assert (call(SYS_GETPID), call(SYS_GETTID)) == (FIRST, number)
            assert (thread.own, thread.group) == (number, FIRST)


def test_a_thread_that_was_made_ahead_ends_alone(maker: sandbox.Maker) -> None:
    with body(maker, FIRST) as (task, threads), Calls(task, mask=0) as call:
        made = [sandbox.spawn_thread(call, number) for number in (SECOND, THIRD)]
        sandbox.end_thread(made[0], call.base)
        threads.append(made[1])
        assert call(SYS_GETTID) == FIRST
        assert sorted(os.listdir(f"/proc/{task.pid}/task")) == sorted(str(one.pid) for one in (task, made[1]))
        threads.append(sandbox.spawn_thread(call, SECOND))


@contextmanager
def four(maker: sandbox.Maker) -> Iterator[list[Calls]]:
    """Sessions in four threads of one body; the first is not its first thread."""
    with body(maker, FIRST) as (task, threads), Calls(task, mask=0) as call, ExitStack() as sessions:
        threads += [sandbox.spawn_thread(call, number) for number in (SECOND, THIRD, SECOND + 1, SECOND + 2)]
        yield [sessions.enter_context(Calls(thread, base=call.base, mask=0)) for thread in threads]


def test_rows_of_several_threads_are_made_at_the_same_time(maker: sandbox.Maker) -> None:
    """The first ones wait for what the last one does: one after another they would wait for ever."""
    word, op = layout.SCRATCH, 1 << 12  # set it to 1, and compare it with 0 (FUTEX_OP(2const))
    with four(maker) as calls:
        calls[0].task.write(word, bytes(4))
        waits, wakes = (SYS_FUTEX, word, FUTEX_WAIT, 0), (SYS_FUTEX, word, FUTEX_WAKE_OP, 8, 0, word, op)
        asked = [(SYS_GETTID,), waits, (SYS_GETPID,)], [waits], [], [wakes, (SYS_GETPID,), (SYS_GETTID,)]
        rows = [(call, place(n), pack(row or [(SYS_GETTID,)])) for n, (call, row) in enumerate(zip(calls, asked, strict=True))]
        first, second, third, last = side_by_side(rows)
    assert (first[0], first[2], third, last[1], last[2]) == (SECOND, FIRST, [SECOND + 1], FIRST, SECOND + 2)
    assert {first[1], *second} <= {0, -errno.EAGAIN} and last[0] >= 0


def test_threads_are_given_what_they_were_asked_for(maker: sandbox.Maker) -> None:
    """Each its own, though they all lie in one memory."""
    with four(maker) as calls:
        regs = [copy_regs(call.base) for call in calls]
        found = capture_threads(list(zip(calls, regs, strict=True)), pending=True)
        for n, thread in enumerate(found):
            stack = struct.pack("<Qi4xQ", 0x5000_0000 + n * 0x10000, 0, 0x8000)
            thread.comm, thread.altstack, thread.mask = f"thread {n}", stack, 1 << n
            thread.tid_address, thread.robust = 0x6000_0000 + 8 * n, (0x7000_0000 + 64 * n, 24)
        assert len(give_threads(calls, found)) == len(found)
        again = capture_threads(list(zip(calls, regs, strict=True)), pending=True)
        for one in (*again, *found):
            one.xstate = b""  # a processor may say another time which of its components are in their initial state
        assert again == found
        forget_all(calls)
        for thread in capture_threads(list(zip(calls, regs, strict=True)), pending=True):
            assert (thread.tid_address, thread.robust[0]) == (0, 0)
    assert [thread.tid for thread in found] == [SECOND, THIRD, SECOND + 1, SECOND + 2]


def test_what_goes_wrong_with_one_row_leaves_the_others_whole(maker: sandbox.Maker) -> None:
    gone: Any = Calls(Task(1 << 22), base=no_regs(), mask=0)
    with four(maker) as calls:
        rows = [(call, place(n), pack([(SYS_GETPID,), (SYS_GETTID,)])) for n, call in enumerate([calls[0], gone, *calls[1:]])]
        with pytest.raises(TaskGone):
            side_by_side(rows)
        assert [call(SYS_GETTID) for call in calls] == [SECOND, THIRD, SECOND + 1, SECOND + 2]


def test_threads_that_stand_as_they_were_asked_to_are_told_from_others(maker: sandbox.Maker) -> None:
    """One waits for others; for one a signal has come, which its kernel has to deliver; one makes another call; one runs on."""
    word = layout.SCRATCH
    with four(maker) as calls:
        calls[0].task.write(word, bytes(4))
        for call, args in zip(calls, ((word,), (word,), (word, FUTEX_WAIT, 0, word), (word,)), strict=True):
            call.task.set_mask(0)
            assert not lib.mos_run_call(call.task.pid, call.base, SYS_FUTEX, *[*args, 0, 0, 0, 0, 0][:6])
        until = time.monotonic() + WITHIN
        while [state_of(call.task.pid) for call in calls[:3]] != ["S", "S", "t"] and time.monotonic() < until:
            time.sleep(0.001)
        for call in calls[:3]:
            call.task.interrupt()
        signalled = calls[1].task
        while state_of(signalled.pid) != "t" and time.monotonic() < until:
            time.sleep(0.001)
        assert ctypes.CDLL(None).syscall(SYS_TGKILL, lib.mos_process_of(signalled.pid), signalled.pid, signal.SIGUSR1) == 0
        table = ffi.new("struct mos_standing[]", [{"pid": call.task.pid} for call in calls])
        lib.mos_standing(table, len(table), 1000)
        calls[3].task.interrupt()
        assert decode(calls[3].task.wait()).stop is Stop.TRAP
        assert [one.outcome for one in table] == [1, 2, 2, 0]
        assert [decode(one.status).stop for one in table[1:3]] == [Stop.TRAP, Stop.SECCOMP]
        assert table[0].regs.orig_rax == SYS_FUTEX and table[0].regs.rdi == word


def test_each_thread_has_a_row_of_its_own() -> None:
    last = place(MOST_THREADS - 1)
    assert place(0) >= THREADS_SCRATCH + MOST_THREADS * FLIGHT_ROOM and last + ROOM <= partial.CARRIES
    assert NAME + 16 <= ROOM and 6 * layout.ROW_ENTRY <= DATA and DATA + 48 <= NAME


def test_a_deputy_that_does_not_stand_any_more_is_not_resumed(maker: sandbox.Maker) -> None:
    """What tells of its end, or of an exec of another thread in its place, is told as ever."""
    pump = ffi.new("struct mos_pump *")
    with body(maker, FIRST) as (task, _threads):
        lane = lib.mos_lane(pump, task.pid, FIRST)
        lane.several = 1
        assert not lib.mos_gone_on(lane)
        os.kill(task.pid, signal.SIGKILL)
        os.waitid(os.P_PID, task.pid, os.WEXITED | os.WNOWAIT | WALL)
        lane.several = 0
        assert not lib.mos_gone_on(lane), "a process with one thread ends at once"
        lane.several = 1
        assert lib.mos_gone_on(lane)
        assert decode(task.wait()).stop is Stop.KILLED
        lib.mos_lane_end(pump, lane)


@pytest.mark.parametrize("way", ["until it reports", "beside a descriptor"])
def test_nobody_waits_for_a_first_thread_that_is_killed(maker: sandbox.Maker, way: str) -> None:
    """The kernel tells its end behind those of the others, which we have not taken yet (ptrace(2), death under ptrace)."""
    lib.mos_patience(1000)
    try:
        with body(maker, FIRST) as (task, threads):
            with Calls(task, mask=0) as call:
                threads.append(sandbox.spawn_thread(call, SECOND))
            os.kill(task.pid, signal.SIGKILL)
            with pytest.raises(TaskGone) as gone:
                if way == "until it reports":
                    task.wait()
                else:
                    while task.wait_beside(-1, 1.0) is None:  # nothing but a look at it ends this
                        pass
            assert gone.value.status is None
    finally:
        lib.mos_patience(0)


def test_an_id_is_given_once(maker: sandbox.Maker) -> None:
    with body(maker, FIRST) as (task, threads):
        with pytest.raises(Unsuited, match="taken there"):
            maker.spawn(FIRST)
        with Calls(task, mask=0) as call:
            threads.append(sandbox.spawn_thread(call, SECOND))
            with pytest.raises(Unsuited, match="taken there"):
                sandbox.spawn_thread(call, SECOND)
    with body(maker, FIRST):
        pass  # it is free again


def test_a_body_with_a_chosen_id_has_no_right_but_that(maker: sandbox.Maker) -> None:
    with body(maker, FIRST) as (task, _):
        [[effective], [no_new_privs], [seccomp]] = words_of(task.pid, "CapEff", "NoNewPrivs", "Seccomp")
        assert (int(effective, 16), no_new_privs, seccomp) == (1 << 40, "1", "2")


def test_what_threads_have_used_is_counted_when_they_have_ended() -> None:
    """Else an account would go backwards, of which no peer believes a word."""
    account = Account(time.monotonic())
    used = [account.measure(os.getpid(), time.monotonic(), io=False)]
    threads = [threading.Thread(target=hashlib.sha256, args=(bytes(1 << 24),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    used.append(account.measure(os.getpid(), time.monotonic(), io=False))
    for thread in threads:
        thread.join()
    used += [account.measure(os.getpid(), time.monotonic(), io=False) for _ in range(2)]
    total = time.clock_gettime(time.CLOCK_PROCESS_CPUTIME_ID)
    assert min(used) >= 0 and 0 < account.here <= total


@pytest.mark.parametrize("way", ["a call", "a row", "standing"])
def test_a_stop_that_another_thread_has_taken_is_kept(way: str) -> None:
    """Else this thread would run on while its process is stopped."""
    with seized("/bin/sleep", "100") as program:
        program.embark()
        task = program.task
        with Calls(task) as call:
            check(lib.mos_run_call(task.pid, call.base, SYS_CLONE, OF_THREAD, 0, 0, 0, 0, 0), "a thread", task.pid)
            assert decode(task.wait()).stop is Stop.CLONE
            thread = Task(task.event_message())
            program.threads.append(thread)
            task.cont()
            assert decode(task.wait()).stop is Stop.SECCOMP
            assert decode(thread.wait()).stop is Stop.TRAP
            thread.set_mask(0)
            os.kill(task.pid, signal.SIGSTOP)
            thread.cont()
            assert decode(thread.wait()) == Status(Stop.SIGNAL, signal.SIGSTOP)
            thread.cont(signal.SIGSTOP)
            assert decode(thread.wait()).stop is Stop.GROUP
            if way == "standing":
                task.stand(call.base)
            else:
                assert (call(SYS_GETPID) if way == "a call" else call.many([(SYS_GETPID,)])[0]) == task.pid
        task.set_regs(call.base)
        task.cont()
        until = time.monotonic() + WITHIN
        while (status := task.wait_beside(-1, 0.01)) is None and time.monotonic() < until:
            pass
        assert status is not None and decode(status) == Status(Stop.GROUP, signal.SIGSTOP)


#: struct kernel_sigaction: a handler somewhere; SIG_IGN; SIG_DFL.
ACTIONS = {"caught": (0x4000).to_bytes(32, "little"), "ignored": (1).to_bytes(32, "little"), "by default": bytes(32)}


@pytest.mark.parametrize("then", ACTIONS)
def test_a_signal_that_another_thread_takes_the_handler_of_ends_no_call(
    maker: sandbox.Maker, monkeypatch: pytest.MonkeyPatch, then: str
) -> None:
    """Between the moment when it is queued and its delivery. The call that it was to break off is made again; the next signal, and
    registers of then, are not taken for it and those of that call."""
    with body(maker, FIRST) as (task, threads):
        with Calls(task, mask=0) as call:
            set_action(call, signal.SIGUSR1, ACTIONS["caught"])
            threads.append(sandbox.spawn_thread(call, SECOND))
        thread, signals = threads[0], Signals(Mock())
        with Calls(thread, mask=0) as call:
            regs = copy_regs(call.base)
        one = Body(SECOND, thread, State.WAITING)
        one.own.several, one.call.nr, one.call.regs = True, SYS_GETPID, regs
        regs.rip = layout.STUB_AFTER  # the instruction before that is a call
        one.signals.infos.append(signal.SIGUSR1.to_bytes(4, "little") + (-6).to_bytes(8, "little", signed=True) + bytes(116))
        proceed = Task.cont

        def late(self: Task, *args: Any, **options: Any) -> None:
            monkeypatch.undo()
            with Calls(task, mask=0) as call:
                set_action(call, signal.SIGUSR1, ACTIONS[then])
            proceed(self, *args, **options)

        monkeypatch.setattr(Task, "cont", late)
        signals.interrupted(one, -ERESTARTNOINTR)
        status = decode(thread.wait())
        if then != "ignored":  # which has emptied the queue
            assert status == Status(Stop.SIGNAL, signal.SIGUSR1)
            Faults(Mock(), Mock(), Mock()).stop(one, signal.SIGUSR1)
            if then == "caught":
                assert one.signals.restart is None
                return
            status = decode(thread.wait())
        assert status.stop is Stop.SECCOMP
        regs = thread.peek_regs()
        assert (regs.orig_rax, regs.rip) == (SYS_GETPID, layout.STUB_AFTER)
        signals.undelivered(one)
        assert one.signals.restart is None


# --------------------------------------------------------------------------- the processor that they are held on


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two processors")
@pytest.mark.parametrize("born", [False, True])
@pytest.mark.parametrize("away", [False, True])
def test_a_child_that_is_born_while_its_maker_is_to_stand_has_all_processors(away: bool, born: bool) -> None:
    """C holds a task that stops often on our processor, and sees to its children; not to those that are born in other waits.
    ``born``: it is there already when the wait begins."""
    everywhere = os.sched_getaffinity(0)
    pump = ffi.new("struct mos_pump *")
    found: list[set[int]] = []
    with seized("/bin/sh", "-c", "(exec sleep 60) & wait") as program:
        task = program.task

        def handle(_: Any, status: Status) -> None:
            if status.stop not in (Stop.FORK, Stop.VFORK, Stop.CLONE):
                task.cont(status.value if status.stop is Stop.SIGNAL else 0)
                return
            child = Task(task.event_message())
            found.append(os.sched_getaffinity(child.pid))
            discard(child, [])
            programs.clear()

        try:
            assert lib.mos_hold(pump, task.pid) == 0 and len(os.sched_getaffinity(task.pid)) == 1
            task.cont()
            while born and not Path(f"/proc/{task.pid}/task/{task.pid}/children").read_text():
                time.sleep(0.001)
            beside = SimpleNamespace(
                interrupt=lambda: None, wait_beside=task.wait_beside, event_message=task.event_message
            )
            one: Any = SimpleNamespace(
                pid=task.pid, pair=task.pid, task=beside, suspended=False, halted=False, deputy=None, interrupted=False,
                obstacle=lambda: "", call=SimpleNamespace(idle=None), cpu=SimpleNamespace(overdue=False), state=State.RUNNING,
                stopping=SimpleNamespace(paused=False, interrupting=True, stood=False), fork=SimpleNamespace(step=None),
            )  # fmt: skip
            programs = {task.pid: one}
            stops = SimpleNamespace(handle=handle)
            if away:
                threads = GuestThreads(SimpleNamespace(pump=pump, bodies=programs), SimpleNamespace())  # type: ignore[arg-type]
                threads.stops = stops  # type: ignore[assignment]
                assert threads.stand(SimpleNamespace(threads=dict(programs)))  # type: ignore[arg-type]
            else:
                tree: Any = SimpleNamespace(pump=pump, programs=programs, stops=stops)
                p: Any = SimpleNamespace(kin=SimpleNamespace(threads={task.pid}))
                assert HomeThreads(tree).stand(p, Move("2", "2"))
        finally:
            lib.mos_unfollow(pump)
            os.sched_setaffinity(0, everywhere)
    assert found == [everywhere]
