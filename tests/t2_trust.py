"""A program's own code in the place of its stub: nothing that it says is believed, and nobody waits for it for ever.

The whole way, with tracers and hosts, is in `t5_attacks.py`; here the steps are made by hand.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mosfs.guest import sandbox
from mosfs.home.asks.relatives import Relatives
from mosfs.home.process.descriptors import hand_over
from mosfs.home.process.program import Place
from mosfs.home.process.records import CpuUse
from mosfs.migrate.dirty import Tracker
from mosfs.migrate.rebuild import queue_signal
from mosfs.native import ffi, lib
from mosfs.trace import layout, taken
from mosfs.trace.inject import Calls
from mosfs.trace.stops import Stop, decode
from mosfs.trace.task import Task, TaskGone, copy_regs, killed
from tests.t2_engine import fresh_body, nr, seized

pytestmark = pytest.mark.root

END = b"\xb8\xff\x01\x00\x00\x0f\x05\xf4"  # mov $MAGIC,%eax; syscall; hlt


def says(number: int) -> bytes:
    """A stub that returns this number from whatever it is asked for."""
    return b"\x48\xbf" + struct.pack("<q", number) + END


def changed(code: bytes) -> bytes:
    """A stub that runs ``code`` on the arguments and makes the call then, from the very address where it is expected."""
    stub = struct.pack("<I", layout.STUB)
    again = b"\x66\xc7\x04\x25" + stub + b"\x0f\x05" + b"\xbb" + stub + b"\xff\xe3"  # write it there; go there
    return (b"\xeb\x7e").ljust(0x80, b"\xcc") + code + again


@pytest.fixture
def told() -> Iterator[list[str]]:
    """What the log would say of tasks that were killed."""
    lines: list[str] = []
    before, killed.tell = killed.tell, lines.append
    yield lines
    killed.tell = before


@pytest.fixture
def impatient() -> Iterator[None]:
    lib.mos_patience(1)
    yield
    lib.mos_patience(0)


def hurry() -> None:
    """From now on a tick of the patience is no second: for a task that is to be given up in any case."""
    signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)


@contextmanager
def attacker(code: bytes) -> Iterator[Task]:
    """A program at home with ``code`` in its stub; it has the descriptors `READ_ONLY`, `PIPE` and `MEMORY` (with contents)."""
    with seized("/bin/sleep", "1000") as program:
        program.embark()
        task = program.task
        with Calls(task) as call:
            task.write(layout.SCRATCH, b"/etc/passwd\0")
            descriptors = [call.must(nr("open"), layout.SCRATCH, os.O_RDONLY)]
            call.must(nr("pipe"), layout.SCRATCH)
            descriptors += struct.unpack("<2i", task.read(layout.SCRATCH, 8))[1:]
            task.write(layout.SCRATCH, b"mine\0")
            descriptors.append(call.must(nr("memfd_create"), layout.SCRATCH, 0))
            call.must(nr("write"), descriptors[-1], layout.SCRATCH, 4)
            for i, fd in enumerate(descriptors):
                call.must(nr("dup2"), fd, 100 + i)
        task.set_regs(call.base)
        task.poke(layout.STUB, code)
        yield task


READ_ONLY, PIPE, MEMORY, CLOSED = 100, 101, 102, 90


# --------------------------------------------------------------------------- descriptors


@pytest.mark.parametrize("fd", [READ_ONLY, PIPE, MEMORY, CLOSED, -5, 1 << 33])
def test_no_text_goes_into_a_descriptor_that_the_stub_made_up(fd: int) -> None:
    before = Path("/etc/passwd").read_bytes()
    with attacker(says(fd)) as task:
        with Calls(task) as call:
            assert taken.memory_file(call, "maps", b"x" * 100_000, cloexec=False) < 0  # 100,000: more than fits into a pipe
        assert Path("/etc/passwd").read_bytes() == before
        with open(f"/proc/{task.pid}/fd/{MEMORY}", "rb") as file:
            assert file.read() == b"mine"


def test_a_text_goes_into_a_file_in_memory() -> None:
    with seized("/bin/sleep", "1000") as program:
        program.embark()
        with Calls(program.task) as call:
            fd = taken.memory_file(call, "maps", b"hello", cloexec=True)
            assert call.must(nr("read"), fd, layout.SCRATCH, 100) == 5
            assert program.task.read(layout.SCRATCH, 5) == b"hello"
            assert call.must(nr("fcntl"), fd, 1) == 1


@pytest.mark.parametrize("fd", [READ_ONLY, PIPE, MEMORY, CLOSED])
def test_memory_is_not_followed_by_what_is_no_userfaultfd(fd: int) -> None:
    with attacker(says(fd)) as task, Calls(task) as call, pytest.raises(OSError):
        Tracker.begin(call)


KINDS = {
    "memory": taken.fresh_memory, "userfaultfd": taken.anonymous("[userfaultfd]"), "listener": taken.anonymous("seccomp notify"),
    "pair": taken.paired_socket(os.getpid()), "stream": taken.lone_stream,
}  # fmt: skip


def descriptors() -> Iterator[tuple[int, str]]:
    """All kinds of descriptors, and which of `KINDS` each is."""
    yield os.open("/etc/passwd", os.O_RDONLY), ""
    yield os.open("/dev/null", os.O_RDWR), ""
    yield os.open("/dev/shm", os.O_TMPFILE | os.O_RDWR, 0o4600), ""
    yield os.memfd_create("fresh"), "memory"
    full = os.memfd_create("full")
    os.write(full, b"x")
    yield os.open(f"/proc/self/fd/{full}", os.O_RDONLY), ""
    yield full, ""
    yield from ((fd, "") for fd in os.pipe())
    yield from ((sock.detach(), "pair") for sock in socket.socketpair(type=socket.SOCK_DGRAM))
    yield from ((sock.detach(), "") for sock in socket.socketpair())
    yield socket.socket(socket.AF_UNIX).detach(), "stream"
    yield socket.socket().detach(), ""
    named = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    named.bind("\0mosfs-test-trust")
    yield named.detach(), ""
    yield os.eventfd(0), ""


def test_kinds_of_descriptors() -> None:
    for fd, kind in descriptors():
        for name, test in KINDS.items():
            try:
                found = test(fd)
            except OSError:
                found = False
            assert found == (name == kind), (os.readlink(f"/proc/self/fd/{fd}"), name)
        os.close(fd)


def test_no_descriptor_is_handed_over_a_socket_of_others(told: list[str]) -> None:
    """The pair of the attacker is one of ours that it has inherited: who is at its other end would get a message of root's."""
    ours, theirs = socket.socketpair(type=socket.SOCK_DGRAM)
    theirs.set_inheritable(True)
    number = theirs.fileno()
    # ignores what it is asked for, and says {number, number} where socketpair(2) would
    store = b"".join(b"\xc7\x04\x25" + struct.pack("<Ii", layout.SCRATCH + at, number) for at in (0, 4))
    code = store + b"\x31\xff" + END
    with seized("/bin/sleep", "1000") as program, open("/etc/passwd", "rb") as file:
        program.embark()
        program.task.poke(layout.STUB, code)
        with Calls(program.task) as call, pytest.raises(OSError):
            hand_over(call, file.fileno(), cloexec=False)
    ours.setblocking(False)
    with pytest.raises(BlockingIOError):
        ours.recv(10)
    ours.close()
    theirs.close()


# --------------------------------------------------------------------------- calls of guests


def rewritable(task: Task, code: bytes) -> None:
    with Calls(task, mask=0) as call:
        call.must(nr("mprotect"), layout.STUB, layout.PAGE, 7)
    task.poke(layout.STUB, code)


KILL = signal.SIGKILL


@pytest.mark.parametrize("other", ["number", "first", "second", "third"])
def test_a_guest_makes_the_call_that_was_asked_for_and_no_other(other: str, told: list[str]) -> None:
    """Another process of the same user lives on."""
    with subprocess.Popen(["sleep", "1000"], user=sandbox.GUEST_UID, group=sandbox.GUEST_UID, extra_groups=()) as victim:
        pid = struct.pack("<I", victim.pid)
        code = {
            "number": b"\xb8\x3e\x00\x00\x00\xbf" + pid + b"\xbe\x09\x00\x00\x00",  # kill(PID, SIGKILL)
            "first": b"\xbf" + pid,
            "second": b"\xbe\x09\x00\x00\x00",
            "third": b"\x31\xd2",
        }[other]
        with fresh_body() as task:
            rewritable(task, changed(code))
            info = struct.pack("<3i", KILL if other == "first" else signal.SIGUSR1, 0, -1).ljust(128, b"\0")
            with pytest.raises(TaskGone), Calls(task, mask=0) as call:
                queue_signal(call, info, shared=True)
            assert decode(task.wait()).stop is Stop.KILLED
        assert victim.poll() is None
        victim.kill()
    assert len(told) == 1 and re.search("killed: the injected call 129 met SECCOMP", told[0])


def test_a_row_has_no_other_call_in_it(told: list[str]) -> None:
    """The list of the row lies in the program's memory too: here its own code changes an entry before the row begins.

    Of a guest: at home the filter lets the calls of a row pass (`trace.filter`), as any program makes its calls there by itself.
    """
    number = nr("ptrace")
    with fresh_body() as task:
        rewritable(task, layout.STUB_CODE)
        entry = struct.pack("<I", layout.SCRATCH + layout.ROW_ENTRY + 8)
        code = b"\xc7\x04\x25" + entry + struct.pack("<I", os.getpid())  # the first argument of the second call
        task.poke(layout.ROW, b"\xe9" + struct.pack("<i", 0x200 - 0x45))
        original = layout.STUB_CODE[layout.ROW - layout.STUB :][:5]
        back = b"\xc7\x04\x25" + struct.pack("<I", layout.ROW) + original[:4]
        back += b"\xc6\x04\x25" + struct.pack("<I", layout.ROW + 4) + original[4:]
        task.poke(layout.STUB + 0x200, code + back + b"\xb8" + struct.pack("<I", layout.ROW) + b"\xff\xe0")
        with pytest.raises(TaskGone), Calls(task, mask=0) as call:
            call.many([(number, 99, 1), (number, 99, 2), (number, 99, 3)])
        assert decode(task.wait()).stop is Stop.KILLED
    assert "row of injected calls met SECCOMP" in told[0]


def test_a_row_makes_what_was_asked_for() -> None:
    with fresh_body() as task, Calls(task, mask=0) as call:
        assert call.many([(nr("getpid"),), (nr("sched_yield"),), (nr("getuid"),), (nr("getpid"),)]) == [
            task.pid, 0, sandbox.GUEST_UID, task.pid,
        ]  # fmt: skip


# --------------------------------------------------------------------------- no wait is for ever

NEVER: dict[str, bytes] = {"a loop": b"\xeb\xfe", "a call that waits": b"\x31\xff\xb8\x22\x00\x00\x00\x0f\x05\xeb\xf5"}
WRONG: dict[str, bytes] = {
    "an illegal instruction": b"\x0f\x0b", "a jump to nowhere": b"\x31\xc0\xff\xe0", "a breakpoint": b"\xcc", "a halt": b"\xf4",
    "a division": b"\x31\xc9\xf7\xf1",
}  # fmt: skip


@pytest.mark.parametrize("name", NEVER)
def test_a_call_that_does_not_end_ends_the_program(name: str, told: list[str], impatient: None) -> None:
    with attacker(NEVER[name]) as task:
        hurry()
        with pytest.raises(TaskGone), Calls(task) as call:
            call(nr("getpid"))
        assert decode(task.wait()).stop is Stop.KILLED
    assert "does not stop" in told[0]


def test_a_guests_too(told: list[str], impatient: None) -> None:
    with fresh_body() as task:
        task.poke(layout.STUB, NEVER["a loop"])
        hurry()
        with pytest.raises(TaskGone), Calls(task, mask=0) as call:
            call(nr("getpid"))
        assert decode(task.wait()).stop is Stop.KILLED


def test_nor_does_a_wait_for_a_stop(told: list[str], impatient: None) -> None:
    with attacker(NEVER["a loop"]) as task:
        lib.mos_run_call(task.pid, copy_regs(task.peek_regs()), nr("getpid"), 0, 0, 0, 0, 0, 0)
        hurry()
        with pytest.raises(TaskGone):
            task.wait()
        assert decode(task.wait()).stop is Stop.KILLED


def test_patience_is_only_for_what_does_nothing(impatient: None) -> None:
    """Calls that take their time, each less than that, however long all of them take."""
    with seized("/bin/sleep", "1000") as program:
        program.embark()
        began = time.monotonic()
        with Calls(program.task) as call:
            program.task.write(layout.SCRATCH, struct.pack("<2q", 0, 400_000_000))
            for _ in range(6):
                assert call(nr("nanosleep"), layout.SCRATCH, 0) == 0
        assert time.monotonic() - began > 2


#: What a task does in each second that is waited for it: state, clock ticks in user mode, and in its kernel; and how many seconds
#: three of patience allow. None: all of them.
SECONDS: dict[str, tuple[Callable[[int], tuple[bytes, int, int]], int | None]] = {
    "nothing": (lambda second: (b"S", 5, 5), 3),
    "nothing, stopped by somebody else": (lambda second: (b"t", 5, 5), 3),
    "it wants a processor and gets none": (lambda second: (b"R", 5, 5), None),
    "it gets one now and then": (lambda second: (b"R", 5, 5 + second // 7), None),
    "its kernel works for it": (lambda second: (b"R", 5, 5 + 80 * second), 60),
    "it waits for a disk": (lambda second: (b"D", 5, 5), 60),
    "it computes on": (lambda second: (b"R", 5 + 90 * second, 5), 3),
    "it computes, where others do": (lambda second: (b"R", 5 + second // 7, 5), None),
}


@pytest.mark.parametrize("name", SECONDS)
def test_a_slow_machine_ends_no_program(name: str) -> None:
    doing, seconds = SECONDS[name]
    waiting, allowed = ffi.new("struct mos_waiting *"), 0
    while allowed < 300 and not lib.mos_too_long(waiting, ffi.new("struct mos_work *", doing(allowed)), 3):
        allowed += 1
    assert allowed == (300 if seconds is None else seconds)


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("guest", [False, True])
def test_whatever_else_happens_there_ends_the_program_alone(name: str, told: list[str], *, guest: bool) -> None:
    where: Callable[[], object] = fresh_body if guest else lambda: attacker(b"")
    with where() as task:  # type: ignore[attr-defined]
        task.poke(layout.STUB, WRONG[name])
        with pytest.raises(TaskGone), Calls(task) as call:
            call(nr("getpid"))
        assert decode(task.wait()).stop is Stop.KILLED
    assert "the injected call 39 met SIGNAL" in told[0]


@pytest.mark.parametrize("guest", [False, True])
def test_without_its_low_memory_it_ends(told: list[str], *, guest: bool) -> None:
    where: Callable[[], object] = fresh_body if guest else lambda: attacker(layout.STUB_CODE)
    with where() as task:  # type: ignore[attr-defined]
        with Calls(task, mask=0) as call:
            call.must(nr("munmap"), layout.SCRATCH, layout.END - layout.SCRATCH)
        with pytest.raises(TaskGone), Calls(task, mask=0) as call:
            queue_signal(call, bytes(128), shared=True)
        assert decode(task.wait()).stop is Stop.KILLED
    assert "low memory" in told[0]


@pytest.mark.parametrize("at", [-5000, 0x10000, 0x200000, 1 << 62, 0x1000])
def test_memory_is_where_memory_can_be(at: int, told: list[str]) -> None:
    with attacker(says(at)) as task:
        if at in (0x200000, 0x1000):  # its own affair
            with Calls(task) as call:
                assert call.map(0, 4096) == at
        else:
            with pytest.raises(TaskGone), Calls(task) as call:
                call.map(0, 4096)


def test_a_task_that_computes_on_is_not_waited_for_to_the_end(told: list[str]) -> None:
    """However patient one is: two seconds in user mode are more than any call takes."""
    lib.mos_patience(1000)
    try:
        with attacker(NEVER["a loop"]) as task:
            hurry()
            with pytest.raises(TaskGone), Calls(task) as call:
                call(nr("getpid"))
            assert decode(task.wait()).stop is Stop.KILLED
    finally:
        lib.mos_patience(0)


def test_a_kernel_that_works_for_a_task_may_take_its_time(impatient: None) -> None:
    """Longer than the patience in one call: 1 GB of /dev/urandom, all into the same place."""
    with seized("/bin/sleep", "1000") as program:
        program.embark()
        task = program.task
        with Calls(task) as call:
            task.write(layout.SCRATCH, b"/dev/urandom\0")
            fd = call.must(nr("open"), layout.SCRATCH, os.O_RDONLY)
            at = call.map(0, 2 << 20)
            task.write(layout.SCRATCH, struct.pack("<2Q", at, (2 << 20) - layout.PAGE) * 512)
            assert call(nr("readv"), fd, layout.SCRATCH, 512) > 1 << 29


# --------------------------------------------------------------------------- what is told of others


@contextmanager
def curious(number: int) -> Iterator[Task]:
    """An ordinary user's program that says ``number`` whatever it is asked for, and has an empty file in memory as `EMPTY`."""
    with attacker(END) as task:
        task.poke(layout.STUB, layout.STUB_CODE)
        with Calls(task) as call:
            task.write(layout.SCRATCH, b"file\0")
            call.must(nr("dup2"), call.must(nr("memfd_create"), layout.SCRATCH, os.MFD_ALLOW_SEALING), EMPTY)
            for name in ("setresgid", "setresuid"):
                call.must(nr(name), 65533, 65533, 65533)
        task.set_regs(call.base)
        task.poke(layout.STUB, says(number))
        yield task


EMPTY = 110


@contextmanager
def another(*, away: bool) -> Iterator[Any]:
    """A program of root's, as far as it is looked at."""
    with subprocess.Popen(["sleep", "1000"]) as process:
        try:
            yield SimpleNamespace(
                pid=process.pid, away=away, halted=False, process=SimpleNamespace(names=[]), filters_of_ours=1, cpu=CpuUse(),
                place=Place.HOME,
            )
        finally:
            process.kill()


@pytest.mark.parametrize("name", ["maps", "smaps"])
@pytest.mark.parametrize("away", [False, True])
def test_who_says_that_it_could_open_a_file_about_another_program_reads_it_no_more_than_natively(name: str, away: bool) -> None:
    """In a tree of root's programs are of several users; some of one user's own are not to be read by him either."""
    bound: list[str] = []
    tree: Any = SimpleNamespace(pump=None, policy=SimpleNamespace(bind=lambda p, why: bound.append(why)))
    body = b"1000-2000 r--p 00000000 00:00 0 \n" if away else None
    with another(away=away) as about, curious(EMPTY) as task:
        with Calls(task) as call:
            assert Relatives(tree)._opened(call, name, os.O_RDONLY, about, body) == -errno.EACCES
            Relatives(tree)._memory(call, "mem", about, b"/proc/%d/mem" % about.pid, os.O_RDONLY)
        assert os.stat(f"/proc/{task.pid}/fd/{EMPTY}").st_size == 0
    assert bound == [], "nor is it kept at home"


def test_the_place_where_another_users_program_is_in_memory_is_not_told() -> None:
    """proc_pid_stat(5): fields that are 0 or 1 for who may not trace it."""
    tree: Any = SimpleNamespace(pump=None)
    with another(away=False) as about, curious(EMPTY) as task, Calls(task) as call:
        assert Relatives(tree)._opened(call, "stat", os.O_RDONLY, about, None) == EMPTY
        with open(f"/proc/{task.pid}/fd/{EMPTY}", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    assert fields[23:27] == [b"1", b"1", b"0", b"0"]
