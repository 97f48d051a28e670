"""A deputy has one task for two askers: home, which moves the program, and the body, whose calls may take for ever."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from mosfs.abi.flags import ERESTARTNOINTR
from mosfs.abi.numbers import SYS_EXECVE, SYS_POLL, SYS_READ, SYS_RT_SIGACTION
from mosfs.calls.cputime import Used
from mosfs.calls.request import Request
from mosfs.guest.body import State as Body
from mosfs.guest.processes import Processes
from mosfs.guest.threads import Threads
from mosfs.home.away.births import Births
from mosfs.home.away.deputies import Deputies
from mosfs.home.moves.copying import Copying
from mosfs.home.process.deputy import Deputy, Flight, Hasten, State
from mosfs.home.process.move import Phase
from mosfs.trace import layout
from mosfs.trace.task import CONT, NOTHING, SYSCALL
from mosfs.wire.frames import Kind
from mosfs.wire.orders import ExecOrder


class Task:
    pid = 1

    def __init__(self) -> None:
        self.interrupted = 0
        self.went_on: list[int] = []

    def peek_regs(self) -> Any:
        from mosfs.native import ffi

        return ffi.new("struct mos_regs *")

    def interrupt(self) -> None:
        self.interrupted += 1

    def set_regs(self, regs: Any) -> None:
        pass

    def cont(self, sig: int = 0, request: int = CONT) -> None:
        self.went_on.append(request)


class Channel:
    def __init__(self) -> None:
        self.sent: list[tuple[int, int, int]] = []

    def send(self, kind: int, pair: int, payload: bytes = b"", flags: int = 0) -> None:
        self.sent.append((kind, pair, flags))


@pytest.fixture
def deputy() -> Deputy:
    made = Deputy(Task(), 0)  # type: ignore[arg-type]
    made.state = State.PARKED
    return made


def test_what_home_has_to_do_comes_before_a_call_of_the_body(deputy: Deputy) -> None:
    done: list[str] = []

    def sleep() -> None:
        done.append("a sleep of the body")
        deputy.state = State.BUSY

    deputy.when_ready(lambda: done.append("home"))
    deputy.when_ready(sleep, asked=True)
    deputy.when_ready(lambda: done.append("home again"))
    deputy.when_ready(lambda: done.append("the next of the body"), asked=True)
    assert done == [] and deputy.task.interrupted == 1  # type: ignore[attr-defined]
    deputy.became_ready()
    assert done == ["home", "home again", "a sleep of the body"]
    deputy.became_ready()
    assert done[3:] == ["the next of the body"] and not deputy.waiting


@pytest.mark.parametrize("state", [State.PARKED, State.BUSY])
def test_a_round_of_memory_is_answered_while_the_body_sleeps(deputy: Deputy, state: State) -> None:
    """Else the host waits for the answer, and the move for the host, until the sleep is over."""
    channel = Channel()
    program: Any = SimpleNamespace(pid=1, deputy=deputy, move=SimpleNamespace(rebuild=None, phase=Phase.COPYING, target=""))
    tracer: Any = SimpleNamespace(deputies=SimpleNamespace(watch=lambda p: None))
    deputy.state = state
    deputy.when_ready(lambda: None)  # as its CPU timers, memory that has come
    deputy.when_ready(lambda: setattr(deputy, "state", State.BUSY), asked=True)
    Copying(tracer).round(program, SimpleNamespace(channel=channel), deputy)  # type: ignore[arg-type]
    if state is State.PARKED:
        deputy.became_ready()
    assert deputy.state is State.BUSY
    assert channel.sent == [(Kind.ROUND, 1, 1)]


def test_an_exec_is_not_made_while_a_signal_is_on_its_way_to_the_body(deputy: Deputy) -> None:
    """Its handler is in the body, which success ends: the signal would be lost."""
    answers: list[int] = []
    requests = SimpleNamespace(answered=lambda p, deputy, result: answers.append(result))
    program: Any = SimpleNamespace(pid=1, body=SimpleNamespace(seq=0, signals=3))
    order = ExecOrder(SYS_EXECVE, 0, b"/bin/true", [], [], 0, 0, seen=2)
    Births(SimpleNamespace(requests=requests)).execute(program, deputy, order, 5 << 1)  # type: ignore[arg-type]
    assert answers == [-ERESTARTNOINTR] and program.body.seq == 5 and deputy.flight is None


def test_an_exec_that_has_not_begun_is_given_up_for_a_handler(deputy: Deputy) -> None:
    resumed: list[str] = []
    regs: Any = SimpleNamespace(rip=layout.STUB, rax=SYS_EXECVE, orig_rax=NOTHING)
    program: Any = SimpleNamespace(
        pid=1, task=SimpleNamespace(set_regs=lambda regs: None, cont=lambda: resumed.append("to the end of the stub"))
    )
    deputy.state, deputy.flight = State.BUSY, Flight(Request(SYS_EXECVE, (0,) * 6, 0), (0,) * 6, [])
    Deputies(SimpleNamespace())._broken_off(program, deputy, regs)  # type: ignore[arg-type]
    assert (regs.rip, regs.rax) == (layout.STUB_AFTER, -ERESTARTNOINTR & NOTHING)
    assert resumed == ["to the end of the stub"]


def test_an_older_interrupt_does_not_count_for_a_call_that_must_not_block(deputy: Deputy) -> None:
    task: Any = deputy.task
    deputy.state = State.BUSY
    deputy.flight = Flight(Request(SYS_POLL, (0,) * 6, 0), (0,) * 6, [], hasten=Hasten.ENTERING)
    assert deputy.hastened(entered=False)  # it has not reached its entry yet
    assert (task.interrupted, task.went_on) == (0, [SYSCALL])
    assert deputy.hastened(entered=True)
    assert (task.interrupted, task.went_on) == (1, [SYSCALL, CONT])
    assert deputy.hastened(entered=False)
    assert deputy.flight.hasten is Hasten.NO
    assert (task.interrupted, task.went_on) == (1, [SYSCALL, CONT, CONT])


@pytest.mark.parametrize(("nr", "both", "returning", "leaves"), [
    (SYS_READ, False, False, True), (SYS_READ, True, False, True), (SYS_RT_SIGACTION, True, False, False),
    (SYS_READ, True, True, False),
])  # fmt: skip
def test_a_body_does_not_leave_while_a_signal_is_on_its_way_back(nr: int, both: bool, returning: bool, leaves: bool) -> None:
    call = SimpleNamespace(nr=nr, both=both, mapping=None)
    body: Any = SimpleNamespace(state=Body.WAITING, call=call, signals=SimpleNamespace(returning=returning))
    assert Threads._leaves_waiting(body) is leaves


@pytest.mark.parametrize("mask", [0, 1 << 14])
def test_a_handler_runs_in_the_body_before_its_exec(mask: int) -> None:
    """Unless its signal is blocked."""
    broken: list[int] = []
    asked: list[Any] = []
    signals: Any = SimpleNamespace(interrupted=lambda body, result: broken.append(result))
    forwarding: Any = SimpleNamespace(ask=lambda *given, **_: asked.append(given))
    context: Any = SimpleNamespace(channel=Channel())
    part = Processes(context, *[None] * 7)  # type: ignore[arg-type]
    part._signals, part._forwarding = signals, forwarding
    body: Any = SimpleNamespace(
        pair=1, task=SimpleNamespace(peek_mask=lambda: mask), call=SimpleNamespace(nr=SYS_EXECVE),
        signals=SimpleNamespace(infos=[bytes([15]) + bytes(127)], seen=1), times=SimpleNamespace(), leader=None,
        used=lambda: Used(),
    )  # fmt: skip
    part.exec(body, (0,) * 6)
    assert (broken, len(asked)) == (([], 1) if mask else ([-ERESTARTNOINTR], 0))
