"""Until when calls wait (`calls.deadlines`), and the clocks of a body whose call has ended by its time (`guest.clocks`)."""

from __future__ import annotations

import errno
import struct
import time
from collections.abc import Callable
from unittest.mock import MagicMock, Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mosfs.abi.flags import (
    FUTEX_CLOCK_REALTIME,
    FUTEX_LOCK_PI,
    FUTEX_PRIVATE_FLAG,
    FUTEX_WAIT,
    FUTEX_WAIT_BITSET,
    IPC_NOWAIT,
    TIMER_ABSTIME,
)
from mosfs.abi.syscalls import BY_NAME
from mosfs.calls.deadlines import CALLS, Deadline, deadline
from mosfs.guest import clocks
from mosfs.guest.body import Body, State
from mosfs.guest.lanes import Lanes, _state
from mosfs.guest.processes import Processes
from mosfs.native import ffi, lib
from mosfs.trace import clock
from mosfs.trace.clock import NSEC, GuestClock, Shown
from mosfs.wire.orders import GoTimes

AT = 0x5000
REAL, MONO, BOOT, TAI = 10**18, 10**12, 10**12 + 7, 10**18 + 37 * NSEC
SHOWN = {time.CLOCK_REALTIME: REAL, time.CLOCK_MONOTONIC: MONO, time.CLOCK_BOOTTIME: BOOT, time.CLOCK_TAI: TAI}
ABSTIME, SEM_UNDO = TIMER_ABSTIME, 0x1000
WAIT, BITSET, PI = FUTEX_WAIT | FUTEX_PRIVATE_FLAG, FUTEX_WAIT_BITSET, FUTEX_LOCK_PI


def nr(name: str) -> int:
    return BY_NAME[name].nr


def found(
    name: str, args: tuple[int, ...], seconds: int, parts: int, shown: Callable[[int], int | None] = SHOWN.get
) -> Deadline | None:
    def read(at: int, size: int) -> bytes:
        if at != AT:
            raise OSError(errno.EFAULT, "not there")
        return struct.pack("<2q", seconds, parts)[:size]

    return deadline(nr(name), (*args, *(6 - len(args)) * (0,)), read, shown)


def later(ns: int, result: int = 0) -> Deadline:
    return Deadline(REAL + ns, MONO + ns, REAL - MONO, result)


@pytest.mark.parametrize(("name", "args", "ns", "result"), [
    ("nanosleep", (AT, 0), 2 * NSEC + 3, 0),
    ("clock_nanosleep", (time.CLOCK_MONOTONIC, 0, AT), 2 * NSEC + 3, 0),
    ("poll", (0, 0, 250), 250_000_000, 0),
    ("ppoll", (0, 0, AT), 2 * NSEC + 3, 0),
    ("select", (0, 0, 0, 0, AT), 2 * NSEC + 3000, 0),
    ("pselect6", (0, 0, 0, 0, AT), 2 * NSEC + 3, 0),
    ("epoll_wait", (3, AT, 1, 250), 250_000_000, 0),
    ("epoll_pwait", (3, AT, 1, 250), 250_000_000, 0),
    ("epoll_pwait2", (3, AT, 1, AT), 2 * NSEC + 3, 0),
    ("rt_sigtimedwait", (AT, 0, AT), 2 * NSEC + 3, -errno.EAGAIN),
    ("semtimedop", (0, AT, 1, AT), 2 * NSEC + 3, -errno.EAGAIN),
    ("futex", (AT, WAIT, 1, AT), 2 * NSEC + 3, -errno.ETIMEDOUT),
])  # fmt: skip
def test_a_time_from_now_on(name: str, args: tuple[int, ...], ns: int, result: int) -> None:
    assert nr(name) in CALLS
    assert found(name, args, 2, 3) == later(ns, result)


@pytest.mark.parametrize(("name", "args", "which", "result"), [
    ("clock_nanosleep", (time.CLOCK_REALTIME, ABSTIME, AT), time.CLOCK_REALTIME, 0),
    ("clock_nanosleep", (time.CLOCK_TAI, ABSTIME, AT), time.CLOCK_TAI, 0),
    ("clock_nanosleep", (time.CLOCK_MONOTONIC, ABSTIME, AT), time.CLOCK_MONOTONIC, 0),
    ("clock_nanosleep", (time.CLOCK_BOOTTIME, ABSTIME, AT), time.CLOCK_BOOTTIME, 0),
    ("futex", (AT, BITSET, 1, AT), time.CLOCK_MONOTONIC, -errno.ETIMEDOUT),
    ("futex", (AT, BITSET | FUTEX_CLOCK_REALTIME, 1, AT), time.CLOCK_REALTIME, -errno.ETIMEDOUT),
    ("futex", (AT, PI, 1, AT), time.CLOCK_REALTIME, -errno.ETIMEDOUT),
])  # fmt: skip
def test_a_moment(name: str, args: tuple[int, ...], which: int, result: int) -> None:
    """It concerns the clock that goes with its own, since each of the two may be set or slewed alone."""
    ends = found(name, args, *divmod(SHOWN[which] + 5000, NSEC))
    at = (REAL + 5000, 0) if which in (time.CLOCK_REALTIME, time.CLOCK_TAI) else (0, MONO + 5000)
    assert ends == Deadline(*at, REAL - MONO, result)


@pytest.mark.parametrize(("name", "args"), [
    ("poll", (0, 0, 0xFFFFFFFF)), ("poll", (0, 0, -1)), ("ppoll", (0, 0, 0)), ("select", (0, 0, 0, 0, 0)),
    ("epoll_wait", (3, AT, 1, -1)), ("nanosleep", (AT + 1, 0)),
    ("clock_nanosleep", (time.CLOCK_PROCESS_CPUTIME_ID, 0, AT)), ("clock_nanosleep", (77, ABSTIME, AT)),
    ("futex", (AT, 1, 1, AT)), ("futex", (AT, WAIT, 1, 0)),
])  # fmt: skip
def test_no_time(name: str, args: tuple[int, ...]) -> None:
    assert found(name, args, 1, 1) is None


def test_clocks_that_nobody_here_knows() -> None:
    assert found("nanosleep", (AT, 0), 1, 0, lambda which: None) is None


@pytest.mark.parametrize(("flags", "ends"), [((0, 0), True), ((0, IPC_NOWAIT), False), ((IPC_NOWAIT | SEM_UNDO, 0), False)])
def test_who_does_not_wait_for_a_semaphore_has_not_waited_so_long(flags: tuple[int, ...], ends: bool) -> None:
    """Its EAGAIN comes at once (semop(2)): clocks that were set to the end of the time would leap."""
    operations = b"".join(struct.pack("<Hhh", 0, -1, flag) for flag in flags)
    memory = {AT: struct.pack("<2q", 2, 3), AT + 16: operations}
    args = (0, AT + 16, len(flags), AT, 0, 0)
    found = deadline(nr("semtimedop"), args, lambda at, size: memory[at][:size], SHOWN.get)
    assert found == (later(2 * NSEC + 3, -errno.EAGAIN) if ends else None)


WORDS = st.lists(st.integers(-(1 << 63), (1 << 64) - 1), min_size=6, max_size=6)


@given(st.sampled_from(sorted(CALLS)), WORDS, st.binary(min_size=16, max_size=16))
def test_whatever_the_program_says(number: int, args: list[int], data: bytes) -> None:
    ends = deadline(number, tuple(args), lambda at, size: (data * (size // 16 + 1))[:size], SHOWN.get)
    assert ends is None or ends.wall == REAL - MONO


# --------------------------------------------------------------------------- the clocks behind it


class Node:
    """A body of another kernel's program, whose clocks are ``behind`` what home's are, ns."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, kernel: str = "another", behind: int = 0) -> None:
        self.body, context = Mock(), MagicMock()
        self.clock = context.clock = GuestClock()
        context.bodies, self.pump = {7: self.body}, context.pump
        context.channel.shared = ffi.new("struct mos_channel *")
        self.body.fork.owed = False
        self.clocks = clocks.Clocks(context)
        self.body.outlives, self.body.memory.clock.page, self.body.leader, self.body.state = False, b"", None, State.RUNNING
        self.kernel = kernel or clock.kernel_id()
        self.told(behind)
        self.clocks.set(self.body, Shown(0, 0))
        self.pages = 0
        monkeypatch.setattr(clocks, "refresh", self._refresh)

    def _refresh(
        self, pid: int, guest_clock: GuestClock, page: bytes, floor: Shown = clock.NOTHING, *, leap: bool = False
    ) -> bytes:
        self.pages += 1
        return guest_clock.page(clock.following(page), page, floor, leap=leap)

    def told(self, behind: int, *, asked: int = 0) -> None:
        """What home says of its clocks comes from so long ago; ``asked``: it is an answer."""
        now = self.clock.here()
        self.clocks.adjust(GoTimes(now.realtime - behind, now.monotonic - behind, self.kernel, asked=asked))

    def shown(self) -> Shown:
        return clock.last_shown(self.body.memory.clock.page, self.clock.ticks())

    def sleeps_until(self, realtime: int, monotonic: int, result: int = 0) -> None:
        wall = self.shown().wall
        self.body.times.deadline = Deadline(realtime, monotonic, wall, result)
        self.clocks.over(self.body, 0)


needs_counter = pytest.mark.skipif(not clock.native_counter().usable(), reason="the time stamp counter is not dependable")


@pytest.mark.parametrize(("outlives", "numbers"), [(False, 5), (True, 1)])
def test_no_host_numbers_the_page_of_a_body_as_another_does(
    outlives: bool, numbers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But a page that asks: it is the same everywhere, and a reading is not begun again."""
    nodes = [Node(monkeypatch) for _ in range(5)]
    for node in nodes:
        node.body.outlives = outlives
        node.clocks.set(node.body, Shown(0, 0))
    assert len({clock.Page.unpack(node.body.memory.clock.page).seq for node in nodes}) == numbers


@needs_counter
def test_who_has_slept_until_a_moment_finds_that_it_has_come(monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node(monkeypatch, behind=20_000_000)
    before = node.shown()
    node.sleeps_until(0, before.monotonic + 50 * NSEC)
    assert node.shown().monotonic >= before.monotonic + 50 * NSEC and node.pages == 1
    node.sleeps_until(node.shown().realtime + 50 * NSEC, 0)
    assert node.shown().realtime >= before.realtime + 50 * NSEC and node.pages == 2


@needs_counter
def test_an_answer_that_tells_of_much_more_is_shown_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """GO had travelled for three seconds."""
    node = Node(monkeypatch, behind=3 * NSEC)
    before, now = node.shown(), node.clock.here().monotonic
    node.told(0, asked=now)
    assert node.shown().monotonic >= before.monotonic + 3 * NSEC and node.pages == 1
    node.told(0)
    assert node.pages == 1, "what is off by less is left to the next answer"


@needs_counter
def test_what_is_no_moment_that_has_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that has ended otherwise, a clock that is right, and a time that nobody can have waited for."""
    node = Node(monkeypatch)
    node.sleeps_until(0, node.shown().monotonic + 20_000_000, -errno.EAGAIN)
    node.sleeps_until(0, node.shown().monotonic)
    node.sleeps_until(0, node.shown().monotonic + 100 * NSEC)
    node.sleeps_until(1 << 80, 0)
    assert node.pages == 0


@needs_counter
def test_realtime_that_was_set_meanwhile_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node(monkeypatch)
    shown = node.shown()
    node.body.times.deadline = Deadline(shown.realtime + 20_000_000, shown.monotonic, shown.wall + 50_000_000, 0)
    node.clocks.over(node.body, 0)
    assert node.pages == 0


@needs_counter
def test_of_the_same_kernel_nothing_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node(monkeypatch, kernel="")
    node.clocks.begins(node.body, nr("poll"), (0, 0, 5, 0, 0, 0))
    assert node.body.times.deadline is None
    node = Node(monkeypatch)
    node.clocks.begins(node.body, nr("poll"), (0, 0, 5, 0, 0, 0))
    assert node.body.times.deadline is not None
    assert [call.args[0] for call in node.pump.plans.__getitem__.mock_calls if len(call.args) == 1] == list(CALLS), "C begins none"


def test_c_completes_no_call_with_a_deadline() -> None:
    body = Body(7, Mock(), State.WAITING)
    body.call.nr = nr("poll")
    assert _state(body) == lib.MOS_LANE_WAITS
    body.times.deadline = later(5)
    assert _state(body) == 0


def test_what_c_has_begun_has_no_deadline() -> None:
    """poll(2) was to end in a minute, and found something; the next call's 0, of which C tells, is not that minute's end."""
    body, context, lane = Body(7, Mock(), State.RUNNING), Mock(), ffi.new("struct mos_lane *")
    body.times.deadline = later(60 * NSEC)
    context.bodies = {7: body}
    lanes = Lanes(context, Mock(), Mock(), Mock())
    lanes._lanes[body.pid] = lane
    context.by_pid = context.bodies = {body.pid: body}
    lanes.met(body.pid)
    lane.news, lane.calls, lane.nr, lane.state = 1, 1, nr("read"), lib.MOS_LANE_WAITS
    lanes.look()
    assert body.call.nr == nr("read")
    assert body.times.deadline is None


# --------------------------------------------------------------------------- what home has told


def tells(node: Node, ahead: int = 0, wall: int = 0) -> None:
    """TIME comes, and then something for the body: from a home whose clocks were so far ahead of what the body has been shown."""
    shown = node.shown()
    node.clocks.told(struct.pack("<2q", shown.monotonic + ahead, shown.wall + wall))
    node.clocks.heard(node.body)
    pages = node.pages
    node.clocks.heard(node.body)
    assert node.pages == pages, "what is shown now satisfies C, too"


@needs_counter
def test_who_hears_of_something_finds_that_it_has_happened(monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node(monkeypatch, behind=20_000_000)
    before = node.shown()
    tells(node, -1_000_000)
    assert node.pages == 0, "it was shown that"
    tells(node, 19 * NSEC)
    assert node.pages == 1 and node.shown().monotonic >= before.monotonic + 19 * NSEC
    assert node.shown().realtime >= before.realtime + 19 * NSEC
    assert node.clock.ahead().monotonic >= 18 * NSEC, "and so does who comes later"
    tells(node, 0, 3600 * NSEC)  # home's realtime was set
    assert node.shown().wall == pytest.approx(before.wall + 3600 * NSEC, abs=1_000_000)
    tells(node, 0, -7200 * NSEC)
    assert node.shown().wall == pytest.approx(before.wall - 3600 * NSEC, abs=1_000_000)


@needs_counter
def test_who_comes_before_an_answer_is_shown_no_less_than_go_has_told(monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node(monkeypatch, behind=3 * NSEC)
    begun, now = node.shown(), node.clock.here()
    assert begun.monotonic >= now.monotonic - 3 * NSEC - 10**8
    node.told(2 * NSEC)  # CLOCK that nobody has asked for is a bound, too
    assert node.shown().monotonic >= begun.monotonic + NSEC - 10**8


@needs_counter
@pytest.mark.parametrize("kind", ["the same kernel", "an older home", "outlives", "has no page", "makes a child"])
def test_whose_clocks_are_left_alone(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node(monkeypatch, kernel="" if kind == "the same kernel" else "another", behind=20_000_000)
    node.body.outlives, node.body.fork.owed = kind == "outlives", kind == "makes a child"
    if kind == "an older home":  # which tells nothing
        node.clocks.heard(node.body)
    elif kind == "has no page":
        page, node.body.memory.clock.page = node.body.memory.clock.page, b""
        node.clocks.heard(node.body)
        node.body.memory.clock.page = page
    else:
        tells(node, 19 * NSEC)
    assert node.pages == 0


def test_who_shares_memory_shares_its_clocks() -> None:
    """A vfork child: else its parent's page would be made from one that is not there any more."""
    for nr_of, flags, shares in ((58, 0, True), (57, 0, False), (56, 0x100, True), (56, 0, False)):
        body = Body(7, Mock(), State.FORKING)
        body.task.own = body.task.pid
        body.memory.clock.page, body.call.nr, body.call.regs.rdi = b"page", nr_of, flags
        processes = Processes(*(MagicMock() for _ in range(8)))
        child = processes.forked(body)
        assert (child.memory.clock is body.memory.clock) is shares and child.memory.clock.page == b"page"
