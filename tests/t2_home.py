"""Stops at home that need no decision (native/home.c): what is noted, in which order, and what still wakes Python."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from mosfs.calls import partial
from mosfs.home.process.processor import Demand
from mosfs.home.process.program import Program
from mosfs.home.tree.family import Family
from mosfs.native import ffi, lib
from mosfs.trace.stops import Status, Stop, decode
from mosfs.trace.task import Task
from mosfs.wire.asked import Settings
from tests.t2_engine import Seized, seized

pytestmark = pytest.mark.root

FORKED, ENDED, THREAD, FIRST_THREAD, SAID = (
    lib.MOS_FORKED, lib.MOS_ENDED, lib.MOS_THREAD, lib.MOS_FIRST_THREAD, lib.MOS_SAID
)  # fmt: skip


@dataclass
class Pump:
    """A tracer's loop with nothing behind it. ``notes``: (what, pid, other), with ends that Python saw; ``woken``: what it had to
    see."""

    program: Seized
    notes: list[tuple[int, int, int]] = field(default_factory=list)
    woken: list[tuple[int, Stop]] = field(default_factory=list)
    asked: bool = False

    def __post_init__(self) -> None:
        lib.mos_setup_signals()
        self.pump = ffi.new("struct mos_pump *", {"settles": 1, "pass_opens": 1, "cpu": -1})
        for number in partial.CALLS:
            self.pump.transfers[number] = 1
        self.event = ffi.new("struct mos_event *")

    def step(self) -> tuple[int, int] | None:
        """What wakes Python next: (pid, wait status); None for nothing but notes, or the alarm."""
        assert lib.mos_next(self.pump, self.event, 10_000_000) == 0
        self.notes += [(note.what, note.pid, note.other) for note in self.pump.notes[0 : self.pump.nnotes]]
        self.pump.nnotes = 0
        return (self.event.pid, self.event.status) if self.event.kind == lib.MOS_EV_TASK else None

    def until_alarm(self) -> tuple[int, Stop] | None:
        """Handle what comes until the `alarm`, or until the program stands in a stop that somebody asked for, which is returned."""
        while True:
            event = self.step()
            if event is None:
                if self.event.kind == lib.MOS_EV_FD:
                    return None
                continue
            stop = decode(event[1]).stop
            if (event[0], stop) == (self.program.task.pid, Stop.TRAP):
                return event[0], stop
            self._handle(*event)

    def run(self, *, plain: bool | None = True) -> int:
        """To the end of the program: its exit status (`os.waitstatus_to_exitcode`). ``plain`` None: as it is marked."""
        root = self.program.task.pid
        try:
            if plain is not None:
                lib.mos_plain(root, plain)
            self.program.task.cont()
            while True:
                event = self.step()
                if ended := [other for what, pid, other in self.notes if (what, pid) == (ENDED, root)]:
                    return os.waitstatus_to_exitcode(ended[0])
                if event and self._handle(*event) and event[0] == root:
                    return os.waitstatus_to_exitcode(event[1])
        finally:
            self.end()

    def end(self) -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        lib.mos_unknown(self.program.task.pid)

    def _handle(self, pid: int, status: int) -> bool:
        """As a tracer would; True: it has ended."""
        stop = decode(status)
        self.woken.append((pid, stop.stop))
        if stop.stop in (Stop.EXITED, Stop.KILLED):
            lib.mos_unknown(pid)
            self.notes.append((ENDED, pid, status))
            return True
        task = Task(pid)
        if stop.stop in (Stop.FORK, Stop.VFORK, Stop.CLONE):
            child = Task(task.event_message())
            early = lib.mos_early(child.pid)
            lib.mos_plain(child.pid, 0)
            if early:
                child.cont()
        if self.asked and pid == self.program.task.pid:
            self.program.task.interrupt()  # this stop has taken the place of the one that was asked for
        task.cont(stop.value if stop.stop is Stop.SIGNAL else 0)
        return False


@contextmanager
def alarm(pump: Pump, seconds: float) -> Iterator[None]:
    """The pump's loop is woken once after so long. By no thread: a SIGCHLD that the loop waits for could be delivered to it."""
    libc = ctypes.CDLL(None, use_errno=True)
    timer = libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_CLOEXEC)
    assert timer >= 0
    try:
        spec = (ctypes.c_long * 4)(0, 0, 0, int(seconds * 1e9))  # struct itimerspec: once, in so many nanoseconds
        assert libc.timerfd_settime(timer, 0, spec, None) == 0
        lib.mos_attend(pump.pump, timer, 0)
        yield
    finally:
        os.close(timer)
        pump.pump.nfds = 0


def shell(script: str, *, plain: bool = True) -> tuple[Pump, int, str]:
    with seized("/bin/bash", "-c", script) as program:
        program.embark()
        pump = Pump(program)
        status = pump.run(plain=plain)
        return pump, status, program.said()


def test_forks_that_come_and_go_wake_nobody() -> None:
    pump, status, said = shell("for i in {1..40}; do (exit 3); done; echo $?; exit 5")
    assert (status, said) == (5, "3\n")
    born = {other for what, _, other in pump.notes if what == FORKED}
    ended = {pid for what, pid, _ in pump.notes if what == ENDED} - {pump.program.task.pid}
    assert born == ended, "each that was told of has ended, in the same notes"
    assert not [stop for _, stop in pump.woken if stop is not Stop.SECCOMP]


def test_notes_are_in_order_and_parents_before_children() -> None:
    pump, status, said = shell("(sleep 0.2; (sleep 0.2; echo inner); echo outer) & sleep 0.1; wait; echo all")
    assert (status, said) == (0, "inner\nouter\nall\n")
    known = {pump.program.task.pid}
    for what, pid, other in pump.notes:
        assert pid in known, "who is told of is known"
        if what == ENDED:
            known.discard(pid)
        else:
            known.add(other)
    assert known == set()


def test_a_program_that_is_not_plain_wakes_python_for_all() -> None:
    pump, status, said = shell("for i in 1 2 3; do (exit 3); done; echo $?", plain=False)
    assert (status, said) == (0, "3\n")
    assert {what for what, _, _ in pump.notes} == {ENDED}
    stops = [stop for _, stop in pump.woken]
    assert stops.count(Stop.FORK) == 3 and stops.count(Stop.EXITED) == 4 and Stop.TRAP in stops and Stop.SIGNAL in stops


def test_signals_do_what_they_do() -> None:
    script = "trap 'echo usr1' USR1; kill -USR1 $$; kill -URG $$; (kill -TERM $BASHPID); echo $?; kill -KILL $$"
    pump, status, said = shell(script)
    assert (status, said) == (-signal.SIGKILL, "usr1\n143\n")
    assert Stop.SIGNAL not in [stop for _, stop in pump.woken]


def python(script: str) -> tuple[Pump, int, str]:
    with seized(sys.executable, "-S", "-E", "-c", script) as program:
        program.embark()
        pump = Pump(program)
        status = pump.run()
        return pump, status, program.said()


#: Threads as libc makes them: ``one(work)`` makes one and waits for its end.
MAKING = """
import _thread
def one(work):
    done = _thread.allocate_lock()
    done.acquire()
    def run():
        work()
        done.release()
    _thread.start_new_thread(run, ())
    done.acquire()
"""


def test_threads_that_come_and_go_wake_nobody() -> None:
    """Nor do their stacks. But that there have been several is noted once, and that something was said of memory."""
    script = MAKING + "import mmap\nfor _ in range(40): one(lambda: mmap.mmap(-1, 4096, 0x4022).close())\nprint('all', flush=True)"
    pump, status, said = python(script)
    root = pump.program.task.pid
    assert (status, said) == (0, "all\n")
    assert not [stop for _, stop in pump.woken if stop is not Stop.SECCOMP]
    assert [note for note in pump.notes if note[0] == FIRST_THREAD] == [(FIRST_THREAD, root, 0)]
    assert (SAID, root, 0) in pump.notes
    assert not [note for note in pump.notes if note[0] == FORKED]
    born = [other for what, _, other in pump.notes if what == THREAD]
    ended = [pid for what, pid, _ in pump.notes if what == ENDED]
    assert sorted(ended) == sorted([*born, root]), "each that was told of has ended"
    assert {pid for what, pid, _ in pump.notes if what == SAID} <= {root, *born}, "else it is left to who is known"


def test_threads_that_last_are_told_of_before_what_they_do() -> None:
    script = MAKING + "import os, time\none(lambda: (time.sleep(0.1), one(lambda: time.sleep(0.1)), os.wait() if os.fork() else 0))"
    pump, status, _ = python(script)
    assert status == 0
    known = {pump.program.task.pid}
    for what, pid, other in pump.notes:
        assert pid in known, "who is told of is known"
        if what == ENDED:
            known.discard(pid)
        elif what in (THREAD, FORKED):
            known.add(other)
    assert known == set()
    assert len([note for note in pump.notes if note[0] == THREAD]) == 2


def test_a_process_with_another_signal_at_its_end_is_no_thread() -> None:
    """The kernel tells of both in the same way (PTRACE_EVENT_CLONE)."""
    script = (
        "import ctypes, os, time\npid = ctypes.CDLL(None).syscall(56, 0, 0, 0, 0, 0)\nif not pid: time.sleep(0.1), os._exit(3)\n"
        "print(os.waitpid(pid, 0x40000000)[1], flush=True)"
    )
    pump, status, said = python(script)
    assert (status, said) == (0, "768\n")
    assert [what for what, _, _ in pump.notes if what in (FORKED, THREAD)] == [FORKED]
    assert Stop.CLONE not in [stop for _, stop in pump.woken]


def test_who_is_to_be_looked_at_again_wakes_python() -> None:
    with seized(sys.executable, "-S", "-E", "-c", MAKING + "one(lambda: None)") as program:
        program.embark()
        pump = Pump(program)
        p = Program(program.task, 0, Settings(), Demand(""))
        p.kin.threads = {1 << 21}  # nobody's: IDs of this machine are lower
        for tid in (p.pid, 1 << 21):
            lib.mos_plain(tid, lib.MOS_PLAIN)
        p.look_again()
        assert pump.run(plain=None) == 0
        assert Stop.CLONE in [stop for _, stop in pump.woken]
        lib.mos_unknown(1 << 21)


def test_what_begins_in_a_group_stop_of_others_stays_in_it() -> None:
    """The first stop of a new thread may be that, and come before its maker's event. Until SIGCONT nobody lets it run."""
    with subprocess.Popen(["/bin/sleep", "100"]) as process:
        try:
            os.kill(process.pid, signal.SIGSTOP)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED)
            with seized("/bin/sleep", "100") as program:
                pump = Pump(program)
                task = Task(process.pid)
                task.seize()
                with alarm(pump, 0.05):
                    while lib.mos_early(task.pid) != lib.MOS_HALTS:
                        assert pump.step() is None, "nobody knows it yet"
                tree: Any = SimpleNamespace()
                Family(tree).register(Program(task, 0, Settings(), Demand("")))
                while not (event := pump.step()):
                    pass
                assert (event[0], decode(event[1])) == (task.pid, Status(Stop.GROUP, signal.SIGSTOP))
                pump.end()
        finally:
            process.kill()
            lib.mos_unknown(process.pid)


def test_an_interrupt_is_seen_by_who_asked_for_it() -> None:
    with seized("/bin/bash", "-c", "while :; do (exit 0); [ -e /nothing ]; done") as program:
        program.embark()
        pump = Pump(program)
        pid = program.task.pid
        try:
            lib.mos_plain(pid, 1)
            program.task.cont()
            for pause in range(1, 11):
                with alarm(pump, pause / 1000):
                    assert pump.until_alarm() is None
                pump.asked = True
                program.task.interrupt()
                assert pump.until_alarm() == (pid, Stop.TRAP)
                pump.asked = False
                lib.mos_plain(pid, 1)
                program.task.cont()
        finally:
            os.kill(pid, signal.SIGKILL)
            pump.end()


def until_fork(pump: Pump) -> Task:
    """The program stands in its first fork, which nobody has asked the kernel about yet: its child."""
    root = pump.program.task
    lib.mos_plain(root.pid, 0)
    root.cont()
    while True:
        event = pump.step()
        if event and decode(event[1]).stop is Stop.FORK:
            return Task(root.event_message())
        if event:
            pump._handle(*event)


def unclaimed(pump: Pump, child: Task) -> bool:
    """Whether ``child`` is among those that nobody tells of: a test before this one may have left others."""
    pids = ffi.new("int[]", lib.MOS_EARLIES)
    return child.pid in pids[0 : lib.mos_unclaimed(pump.pump, 2, pids)]


def test_a_child_whose_parent_is_killed_in_its_fork_is_found() -> None:
    with seized("/bin/bash", "-c", "(exit 3); (exit 4)") as program:
        program.embark()
        pump = Pump(program)
        child = until_fork(pump)
        os.kill(program.task.pid, signal.SIGKILL)
        while not (event := pump.step()) or event[0] != program.task.pid:
            pass
        assert os.WIFSIGNALED(event[1])
        with alarm(pump, 0.05):
            while lib.mos_early(child.pid) != lib.MOS_STANDS:
                assert pump.step() is None
        assert [unclaimed(pump, child) for _ in range(3)] == [False, False, True]
        os.kill(child.pid, signal.SIGKILL)
        with alarm(pump, 0.05):
            while lib.mos_early(child.pid) != lib.MOS_CAME_AND_WENT:
                assert pump.step() is None
        assert not unclaimed(pump, child) and lib.mos_early(child.pid) == 0
        pump.end()


def test_a_child_that_is_killed_before_its_parent_tells_of_it_is_known_to_have_ended() -> None:
    with seized("/bin/bash", "-c", "(exit 3); kill -KILL $$") as program:
        program.embark()
        pump = Pump(program)
        child = until_fork(pump)
        os.kill(child.pid, signal.SIGKILL)
        with alarm(pump, 0.05):
            while lib.mos_early(child.pid) != lib.MOS_CAME_AND_WENT:
                assert pump.step() is None
        lib.mos_unknown(child.pid)
        assert pump.run(plain=False) == -signal.SIGKILL
