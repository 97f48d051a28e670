"""Signals that threads block without home's knowing it yet (`guest.untold`, `guest.masks`)."""

from __future__ import annotations

import struct
import time
from types import SimpleNamespace
from typing import Any

import pytest

from mosfs.abi.numbers import SYS_EXIT, SYS_GETPID
from mosfs.abi.signals import SI_TKILL
from mosfs.calls.request import Request, unpack
from mosfs.guest.body import Body, State
from mosfs.guest.clocks import Clocks
from mosfs.guest.forwarding import Forwarding
from mosfs.guest.from_home import FromHome
from mosfs.guest.masks import Masks
from mosfs.guest.processes import Processes
from mosfs.guest.signals import Signals
from mosfs.guest.untold import PATIENCE
from mosfs.home.away.requests import Requests
from mosfs.home.process.deputy import Deputy
from mosfs.home.process.deputy import State as Resting
from mosfs.trace.task import ALL_SIGNALS
from mosfs.wire.frames import Frame, Kind

BLOCK, UNBLOCK, SET = range(3)
ALL = ALL_SIGNALS & ~0x40100
USR1 = 1 << 9


class Host:
    """Threads whose masks are real numbers; ``told``: the frames that their host has sent, (kind, thread, mask)."""

    def __init__(self, threads: int = 2, *, believed: int = 0) -> None:
        self.told: list[tuple[int, int, int]] = []
        self.resumed = 0
        self.given = 0
        context: Any = SimpleNamespace(channel=SimpleNamespace(send=self._send), bodies={})
        alarms: Any = SimpleNamespace(before_call=lambda body: None)
        self.forwarding = Forwarding(context, alarms)
        self.untold = self.forwarding.untold
        self.masks = Masks(context, self.forwarding)
        self.bodies = context.bodies
        for pair in range(1, threads + 1):
            body = self.bodies[pair] = Body(pair, self._task(believed), State.RUNNING)
            body.own.several, body.signals.told_mask = True, believed

    def _task(self, mask: int) -> Any:
        task = SimpleNamespace(pid=-1, mask=mask, read_words=lambda at, count: (self.given,), cont=self._cont)
        task.peek_mask = lambda: task.mask
        return task

    def _cont(self) -> None:
        self.resumed += 1

    def _send(self, kind: int, pair: int, payload: bytes, flags: int = 0) -> None:
        mask = int.from_bytes(payload, "little") if kind == Kind.MASK else unpack(payload).mask
        self.told.append((kind, pair, mask))

    def sets(self, pair: int, how: int, given: int) -> bool:
        """sigprocmask(2). Whether the body's own kernel makes it, without home."""
        body, self.given, before = self.bodies[pair], given, self.resumed
        self.masks.sigprocmask(body, (how, 0x1000, 0, 8, 0, 0))
        alone = self.resumed > before
        if alone:
            old = body.task.mask
            body.task.mask = (old | given, old & ~given, given)[how] & ~0x40100
        return alone

    def calls(self, pair: int) -> None:
        """Any call that home makes."""
        body = self.bodies[pair]
        self.forwarding.forward(body, Request(SYS_GETPID, (0,) * 6, body.task.mask))
        body.state = State.RUNNING

    def passes(self, seconds: float) -> None:

        self.untold.look(time.monotonic() + seconds)


def test_what_is_blocked_for_a_moment_home_never_hears_of() -> None:
    """As libc does around each birth of a thread: four times a question to home, or a word to it, for nothing."""
    host = Host()
    for pair in (1, 2):
        assert host.sets(pair, BLOCK, ALL) and host.untold
        assert host.sets(pair, SET, 0) and not host.untold
    host.passes(1)
    assert host.told == []


def test_home_hears_of_it_before_anything_that_others_could_notice() -> None:
    """Who is told by this thread's memory that it blocks a signal sends it by a call."""
    host = Host()
    assert host.sets(1, BLOCK, ALL)
    host.calls(2)
    assert host.told == [(Kind.MASK, 1, ALL), (Kind.CALL, 2, 0)]
    host.calls(2)
    assert [kind for kind, *_ in host.told[2:]] == [Kind.CALL]


def test_its_own_call_tells_it() -> None:
    host = Host()
    assert host.sets(1, BLOCK, ALL)
    host.calls(1)
    host.passes(1)
    assert host.told == [(Kind.CALL, 1, ALL)]


def test_home_hears_of_it_after_a_while() -> None:
    host = Host()
    assert host.sets(1, BLOCK, ALL)
    host.passes(0)
    assert host.told == []
    assert host.untold.pause(0.0) > 0
    host.passes(PATIENCE)
    assert host.told == [(Kind.MASK, 1, ALL)]
    assert not host.untold and host.untold.pause(0.0) == float("inf")


def test_what_a_program_blocks_for_itself_home_hears_of_at_once() -> None:
    """A signal that it waits for in another thread, say; and libc's own are not among all."""
    host = Host()
    assert host.sets(1, BLOCK, USR1)
    assert host.told == [(Kind.MASK, 1, USR1)]
    assert host.sets(1, BLOCK, ALL & ~(1 << 32)) and host.sets(1, SET, USR1)
    assert host.sets(1, SET, USR1 | 2)
    assert host.told[1:] == [(Kind.MASK, 1, USR1 | 2)]


def test_what_home_blocks_it_is_asked_for() -> None:
    """A signal may wait there that must have come before the call returns."""
    host = Host(believed=USR1 | 2)
    assert not host.sets(1, UNBLOCK, USR1)
    assert host.told == [(Kind.CALL, 1, 2)]


def test_nobody_knows_yet_what_home_believes() -> None:
    """Of a program that has just come."""
    host = Host()
    host.bodies[1].signals.told_mask = ALL_SIGNALS
    assert host.sets(1, BLOCK, ALL)
    assert not host.sets(1, SET, 0)
    assert host.told == [(Kind.CALL, 1, 0)]
    assert host.sets(1, BLOCK, ALL) and host.sets(1, SET, 0)


@pytest.mark.parametrize("state", [State.FORKING, State.LEAVING])
def test_who_makes_a_child_or_leaves_is_waited_for(state: State) -> None:
    host = Host()
    assert host.sets(1, BLOCK, ALL)
    host.bodies[1].state = state
    host.passes(PATIENCE)
    host.calls(2)
    assert host.told == [(Kind.CALL, 2, 0)] and host.untold
    host.told.clear()
    host.bodies[1].state = State.RUNNING
    host.passes(PATIENCE)
    assert host.told == [] and host.untold, "it has as long again"
    host.passes(3 * PATIENCE)
    assert host.told == [(Kind.MASK, 1, ALL)]


def test_of_who_has_left_nothing_is_told() -> None:
    host = Host()
    assert host.sets(1, BLOCK, ALL)
    host.bodies[1] = Body(1, host._task(0), State.RUNNING)
    host.passes(1)
    host.calls(2)
    assert host.told == [(Kind.CALL, 2, 0)]


def test_the_end_of_a_handler_is_no_news() -> None:
    """It has blocked signals, and made a thread; behind it home would believe what holds no more."""
    host = Host()
    body = host.bodies[1]
    body.task.mask = USR1  # the handler's
    assert host.sets(1, BLOCK, ALL)
    host.given = 0
    host.masks.sigreturn(body, (0,) * 6)
    host.passes(1)
    assert host.told == []


def test_a_program_with_one_thread_tells_home_at_once() -> None:
    host = Host()
    host.bodies[1].own.several = False
    assert host.sets(1, BLOCK, USR1)
    assert host.told == [(Kind.MASK, 1, USR1)]
    assert not host.sets(1, UNBLOCK, USR1)


# --------------------------------------------------------------------------- at home


class Rests:
    """A deputy that rests, or was just born, at home; ``stops``: it stops when it is waited for."""

    def __init__(self, state: Resting, *, several: bool, stops: bool = True) -> None:
        self.masks: list[int] = []
        task: Any = SimpleNamespace(set_mask=self.masks.append, interrupt=lambda: None, wait_beside=self._wait)
        self.deputy = Deputy.__new__(Deputy)
        self.deputy.task, self.deputy.state, self.deputy.mask, self.deputy.flight = task, state, 0, None
        self.deputy.todo, self.deputy.asked, self.deputy.interrupting = [], [], False
        self.p: Any = SimpleNamespace(pid=7, task=task, deputy=self.deputy, several=several)
        self._stops = stops
        self._tree: Any = SimpleNamespace(
            programs={7: self.p}, deputies=SimpleNamespace(watch=lambda p: None), stops=SimpleNamespace(task_event=self._event),
        )

    def _wait(self, fd: int, seconds: float) -> int | None:
        return 1 if self._stops else None

    def _event(self, pid: int, status: int) -> None:
        self.deputy.became_ready()

    def hears(self) -> list[int]:
        """MASK: its mask, as it was set before anything else is looked at."""
        Requests(self._tree).mask(self.p, self.deputy, ALL)
        return self.masks


@pytest.mark.parametrize("state", [Resting.PARKED, Resting.BUSY, Resting.READY])
def test_what_a_thread_blocks_holds_before_another_thread_calls(state: Resting) -> None:
    """A signal that it blocks, sent by a call which knows of that, killed the program."""
    assert Rests(state, several=True).hears() == [ALL]


@pytest.mark.parametrize("state", [Resting.PARKED, Resting.BUSY])
def test_a_deputy_that_does_not_stop_is_not_waited_for_long(state: Resting) -> None:
    late = Rests(state, several=True, stops=False)
    assert late.hears() == []
    late.deputy.became_ready()
    assert late.masks == [ALL]


def test_nobody_waits_for_the_deputy_of_the_only_thread() -> None:
    assert Rests(Resting.PARKED, several=False).hears() == []


# --------------------------------------------------------------------------- children that are not here yet


def from_home(bodies: dict[int, Body]) -> tuple[FromHome, list[int]]:
    """With a list of the frames that a body has got, their kinds."""
    got: list[int] = []
    context: Any = SimpleNamespace(bodies=bodies, by_pid={}, channel=None, clock=None)
    part = FromHome(context, *[None] * 18)  # type: ignore[arg-type]
    part._processes = Processes(context, *[None] * 7)  # type: ignore[arg-type]
    part._processes._signals = Signals(None)  # type: ignore[arg-type]
    part._clocks = Clocks(context)
    part._handlers = {kind: lambda body, frame: got.append(frame.kind) for kind in (Kind.SIGNAL, Kind.STOP, Kind.CONT)}
    return part, got


@pytest.mark.parametrize("state", [State.FORKING, State.RUNNING])
def test_what_comes_about_a_child_before_it_is_here_waits_for_it(state: State) -> None:
    """Its deputy is there before it: a signal that home's kernel gave to that one was lost."""
    parent, child = Body(1, Host()._task(0), state), Body(2, Host()._task(0), State.RUNNING)
    part, got = from_home({1: parent})
    for kind, pair in ((Kind.SIGNAL, 2), (Kind.SIGNAL, 3), (Kind.STOP, 2)):
        part.frame(Frame(kind, 0, pair, b"", None))
    assert got == []
    part._context.bodies[2] = child
    part.born(child)
    assert got == ([Kind.SIGNAL, Kind.STOP] if state is State.FORKING else [])
    part.born(child)
    assert len(got) <= 2, "once"


# --------------------------------------------------------------------------- signals of threads that end

TERM, TO_THREAD = struct.pack("<3i", 15, 0, 0) + bytes(116), struct.pack("<3i", 15, 0, SI_TKILL) + bytes(116)


def three() -> dict[int, Body]:
    """Threads of one process: the first blocks all signals, as home believes; the second is about to end."""
    bodies = {pair: Body(pair, Host()._task(0), State.WAITING) for pair in (1, 2, 3)}
    for body in bodies.values():
        body.own.several, body.leader, body.signals.told_mask = True, None if body.pair == 1 else bodies[1], 0
    bodies[1].threads = {2: bodies[2], 3: bodies[3]}
    bodies[1].signals.told_mask, bodies[2].call.nr = ALL, SYS_EXIT
    return bodies


@pytest.mark.parametrize("info", [TERM, TO_THREAD])
def test_a_signal_of_the_process_does_not_end_with_a_thread(info: bytes) -> None:
    """It has come to home's deputy of a thread that blocks it, as libc does at the end; who was to hear of it never did."""
    bodies = three()
    part, _ = from_home(bodies)
    anew: list[Body] = []
    part._processes._completion = SimpleNamespace(make_anew=anew.append)  # type: ignore[assignment]
    bodies[2].signals.infos = [info]
    part._processes.exit(bodies[2], (0,) * 6)
    assert anew == [bodies[2]] and bodies[2].own.exiting is None
    assert bodies[3].signals.infos == ([TERM] if info is TERM else [])
    assert bodies[1].signals.infos == bodies[2].signals.infos == []


@pytest.mark.parametrize("info", [TERM, TO_THREAD])
def test_nor_does_one_that_comes_behind_its_end(info: bytes) -> None:
    bodies = three()
    part, got = from_home(bodies)
    assert part._processes.thread_ended(bodies[2], killed=True)
    bodies.pop(2, None)
    part.frame(Frame(Kind.SIGNAL, 0, 2, info, None))
    assert bodies[3].signals.infos == ([TERM] if info is TERM else [])
    bodies[3].signals.infos.clear()
    bodies[3].own.exiting = 0
    part.frame(Frame(Kind.SIGNAL, 0, 2, info, None))
    assert bodies[1].signals.infos == ([TERM] if info is TERM else []), "all block it: the first one keeps it"
    assert got == []


def test_a_thread_that_has_ended_keeps_nobody_waiting() -> None:
    """C makes no calls while a mask is untold; a thread blocks all signals at its end."""
    host = Host()
    host.sets(2, BLOCK, ALL)
    assert host.untold
    del host.bodies[2]
    assert not host.untold
