"""A deputy has one task for two askers: home, which moves the program, and the body, whose calls may take for ever."""

from __future__ import annotations

import errno
import os
import signal
import struct
import subprocess
from collections.abc import Callable
from contextlib import nullcontext, suppress
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from mosfs.abi.flags import ERESTARTNOHAND, ERESTARTNOINTR, ERESTARTSYS
from mosfs.abi.numbers import SYS_EPOLL_WAIT, SYS_EXECVE, SYS_POLL, SYS_READ, SYS_RESTART_SYSCALL, SYS_RT_SIGACTION
from mosfs.abi.reasons import Reason
from mosfs.abi.syscalls import BY_NAME
from mosfs.calls.cputime import Used
from mosfs.calls.request import Request
from mosfs.guest.body import State as Body
from mosfs.guest.processes import Processes
from mosfs.guest.threads import Threads
from mosfs.home.asks.policy import Policy
from mosfs.home.away import deputies as deputies_module
from mosfs.home.away import requests as requests_module
from mosfs.home.away.births import Births
from mosfs.home.away.deputies import Deputies
from mosfs.home.away.hosts import MOST_SIGNALS, Hosts
from mosfs.home.away.requests import Requests
from mosfs.home.away.waits import Waits
from mosfs.home.moves import arrival
from mosfs.home.moves.arrival import Arrival
from mosfs.home.moves.copying import Copying
from mosfs.home.moves.outliving import Outliving
from mosfs.home.ports import StillRuns
from mosfs.home.process import deputy as deputy_module
from mosfs.home.process.deputy import Deputy, Flight, Hasten, Sleep, State
from mosfs.home.process.move import Phase
from mosfs.home.process.registers import result_at
from mosfs.home.process.replay import Backup
from mosfs.migrate.freezefile import FreezeFile
from mosfs.migrate.maps import CannotMove
from mosfs.trace import layout
from mosfs.trace.stops import Status, Stop
from mosfs.trace.task import CONT, NOTHING, SYSCALL, no_regs
from mosfs.wire.frames import Cannot, Frame, Kind
from mosfs.wire.orders import ExecOrder


class Task:
    pid = 1

    def __init__(self) -> None:
        self.interrupted = 0
        self.went_on: list[int] = []

    def peek_regs(self) -> Any:

        return no_regs()

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


def test_what_a_body_has_said_of_signals_is_not_lost_when_it_comes_home(deputy: Deputy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for an answer to it: an image may come before the deputy, which rests, has stopped."""
    done: list[Any] = []
    monkeypatch.setattr(deputy_module, "set_action", lambda _, sig, action: done.append((sig, action)))
    monkeypatch.setattr(deputy_module, "reset_action", lambda _, sig: done.append(sig))
    monkeypatch.setattr(requests_module, "Calls", lambda *_, **__: nullcontext())
    ignored, p = (1).to_bytes(32, "little"), SimpleNamespace(task=None, deputy=deputy)
    others = SimpleNamespace(of=lambda _: [])
    tracer: Any = SimpleNamespace(deputies=SimpleNamespace(watch=lambda _: None), threads=others)
    requests = Requests(tracer)
    deputy.state = State.PARKED
    requests.action(p, deputy, 25, ignored)  # type: ignore[arg-type]
    requests.action(p, deputy, 17, b"")  # type: ignore[arg-type]
    deputy.when_ready(lambda: done.append("a call"), asked=True)
    assert done == [] and deputy.task.interrupted == 1  # type: ignore[attr-defined]
    requests.heed(p, None)  # type: ignore[arg-type]
    assert done == [(25, ignored), 17]
    deputy.became_ready()
    requests.action(p, deputy, 25, ignored)  # type: ignore[arg-type]
    assert done == [(25, ignored), 17, "a call", (25, ignored)]


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
    call = SimpleNamespace(nr=nr, both=both, mapping=None, then=None)
    body: Any = SimpleNamespace(state=Body.WAITING, call=call, signals=SimpleNamespace(returning=returning))
    assert Threads._leaves_waiting(body) is leaves


@pytest.mark.parametrize("mask", [0, 1 << 14])
def test_a_handler_runs_in_the_body_before_its_exec(mask: int) -> None:
    """Unless its signal is blocked."""
    broken: list[int] = []
    asked: list[Any] = []
    signals: Any = SimpleNamespace(interrupted=lambda body, result: broken.append(result))
    forwarding: Any = SimpleNamespace(ask=lambda *given, **_: asked.append(given), mask=lambda body: mask)
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


# --------------------------------------------------------------------------- stops that others take the place of

TRAP, STOPPED, SYSCALL_STOP = 128 << 16 | signal.SIGTRAP << 8 | 0x7F, 128 << 16 | signal.SIGSTOP << 8 | 0x7F, 0x857F
SECCOMP_STOP = 7 << 16 | signal.SIGTRAP << 8 | 0x7F
CHILD_ENDED = signal.SIGCHLD << 8 | 0x7F


def deputies(deputy: Deputy, told: list[Any]) -> tuple[Deputies, Any]:
    """With a program whose deputy that is."""
    tree: Any = SimpleNamespace(
        hosts=SimpleNamespace(send=lambda p, kind, payload: told.append(kind)), pump=SimpleNamespace(transfers={}),
        checkpoints=SimpleNamespace(halted=lambda p: told.append("checkpoint"), stopped_sleeping=lambda p: False),
        departure=SimpleNamespace(halted=lambda p: told.append("departure")),
        cores=SimpleNamespace(wanted=lambda p, sig: False),
        preemption=SimpleNamespace(holds=lambda p, sig: False, over=lambda p: None),
    )  # fmt: skip
    tree.waits = Waits(tree)
    body = SimpleNamespace(sleeping=None, infos=[], signals=0, kept_back=None)
    move = SimpleNamespace(phase=Phase.STOPPING)
    frozen = SimpleNamespace(call=None, mark="")
    p: Any = SimpleNamespace(pid=1, deputy=deputy, task=deputy.task, body=body, halted=False, move=move, frozen=frozen)
    return Deputies(tree), p


@pytest.mark.parametrize("status", [Status(Stop.SIGNAL, signal.SIGCHLD), Status(Stop.FORK, 5), Status(Stop.SYSCALL, 0x85)])
def test_an_interrupt_that_another_stop_has_used_up_is_asked_for_again(deputy: Deputy, status: Status) -> None:
    part, p = deputies(deputy, [])
    part.tracer.births = SimpleNamespace(forked=lambda p, deputy: None)  # type: ignore[attr-defined]
    deputy.when_ready(lambda: None)
    part.event(p, deputy, status)
    assert deputy.task.interrupted == 2  # type: ignore[attr-defined]


def test_so_it_is_when_a_transfer_goes_on_by_itself(deputy: Deputy) -> None:
    part, p = deputies(deputy, [])
    deputy.state, deputy.flight = State.BUSY, Flight(Request(SYS_READ, (0,) * 6, 0), (0,) * 6, [])
    deputy.result_of_flight = lambda result: None  # type: ignore[method-assign]
    deputy.interrupt()
    part.landed(p, deputy, 1)
    assert deputy.task.interrupted == 2  # type: ignore[attr-defined]


def test_behind_a_stop_signal_nothing_is_waited_for_any_more(deputy: Deputy) -> None:
    """The stop that was asked for is SIGCONT's: else the next one would not be asked for."""
    told: list[Any] = []
    part, p = deputies(deputy, told)
    p.task.listen = lambda: None
    deputy.state = State.BUSY
    deputy.interrupt()
    part.event(p, deputy, Status(Stop.GROUP, signal.SIGSTOP))
    assert (p.halted, told) == (True, ["checkpoint", "departure", Kind.STOP])
    part.event(p, deputy, Status(Stop.TRAP, signal.SIGTRAP))
    assert (p.halted, deputy.interrupting, told[-1]) == (False, False, Kind.CONT)
    deputy.interrupt()
    assert deputy.task.interrupted == 2  # type: ignore[attr-defined]


@pytest.mark.parametrize("expired", [False, True])
def test_a_stop_that_nobody_wants_any_more_does_not_end_a_call(deputy: Deputy, expired: bool) -> None:
    part, p = deputies(deputy, [])
    regs = no_regs()
    regs.orig_rax, regs.rax = SYS_EPOLL_WAIT, -errno.EINTR & NOTHING
    p.task.peek_regs, shown = lambda: regs, []
    p.task.set_regs = lambda given: shown.append(given.rax)
    flight = Flight(Request(SYS_EPOLL_WAIT, (0,) * 6, 0), (0,) * 6, [], expired=expired)
    deputy.state, deputy.flight = State.BUSY, flight
    part.event(p, deputy, Status(Stop.TRAP, signal.SIGTRAP))
    assert shown == ([] if expired else [-ERESTARTNOHAND & NOTHING])


def halted(deputy: Deputy, p: Any, stops: list[int]) -> Arrival:
    """Which has it stop, of whom these are the stops, and then no more."""

    def wait_for(p: Any) -> int:
        if not stops:
            raise StillRuns
        return stops.pop(0)

    waits = SimpleNamespace(suppress_eintr=lambda *given: False)
    return Arrival(SimpleNamespace(controls=SimpleNamespace(wait_for=wait_for), waits=waits))  # type: ignore[arg-type]


@pytest.mark.parametrize("other", [SYSCALL_STOP, CHILD_ENDED])
def test_a_deputy_is_asked_to_stop_whoever_has_asked_before(deputy: Deputy, other: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it was asked for may have been used up, and it would never stop: it was killed for that."""
    _, p = deputies(deputy, [])
    monkeypatch.setattr(arrival, "status_sets", lambda pid: {"SigCgt": 0})
    deputy.interrupting = True
    part = halted(deputy, p, [other, TRAP])
    part.halt(p, deputy)
    assert deputy.task.interrupted == 1  # type: ignore[attr-defined]
    assert part.outcome(p, deputy) == (None, [])
    assert deputy.task.interrupted == 2  # type: ignore[attr-defined]
    assert deputy.state is State.READY and not deputy.interrupting


def test_a_sleep_that_ends_while_its_program_comes_home_brings_what_it_wrote(deputy: Deputy) -> None:
    """Its arguments were seen only when it was interrupted for the first time: poll(2) counted events, and told none."""
    _, p = deputies(deputy, [])
    deputy.state, deputy.flight = State.BUSY, Flight(Request(SYS_RESTART_SYSCALL, (0,) * 6, 0), (0,) * 6, [])
    deputy.sleep = Sleep([(0x5000, 0x6000)], [(0x5010, 16)], SYS_POLL)
    ended = no_regs()
    ended.orig_rax, ended.rdi = layout.MAGIC, 1
    p.task.peek_regs, p.task.read = lambda: ended, lambda addr, size: struct.pack("<ihhihh", 3, 1, 0, 4, 1, 1)
    part = halted(deputy, p, [SECCOMP_STOP])
    part.tracer.__dict__.update(cputime=SimpleNamespace(outs=lambda p, request, result, outs: outs))
    outcome, infos = part.outcome(p, deputy)
    assert outcome is not None and infos == []
    assert (outcome.result, outcome.outs) == (1, [(0x5016, b"\0\0"), (0x501E, b"\1\0")])
    assert deputy.sleep == Sleep()


@pytest.mark.parametrize(("stands", "slow"), [(False, False), (True, False), (False, True)])
def test_what_does_not_stop_is_not_ended_for_that(
    deputy: Deputy, stands: bool, slow: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its call waits for a disk, or for a server that does not answer: its body goes on where it is. ``stands``: but one of its
    threads does not. ``slow``: what is left of the image keeps others waiting, and is not waited for any more."""
    told: list[Any] = []
    _, p = deputies(deputy, told)
    deputy.state, deputy.flight = State.BUSY, Flight(Request(SYS_READ, (0,) * 6, 0), (0,) * 6, [])
    part = halted(deputy, p, [TRAP] if stands else [])

    def outcomes(p: Any, found: Any) -> None:
        found[p.pid] = part.outcome(p, deputy)
        raise StillRuns  # one of its threads

    rest = [Frame(Kind.PAGES, 0, p.pid, b"", None), Frame(Kind.IMAGE_END, 0, p.pid, bytes(8), 0)]
    channel: Any = SimpleNamespace(waited=0.0, send=lambda kind, pair, payload=b"", flags=0: told.append(kind))
    link: Any = SimpleNamespace(channel=channel)

    def receive() -> Frame:
        channel.waited += 100 * slow
        return rest.pop(0)

    channel.receive = receive
    part.tracer.__dict__.update(
        threads=SimpleNamespace(halt=lambda p: None, outcomes=outcomes, of=lambda p: []), pump=None,
        groups=SimpleNamespace(objects=lambda p: set(), others_wait=lambda p: slow),
        shared=SimpleNamespace(store=SimpleNamespace(size=lambda some: 0), gone=lambda some: None),
        hosts=SimpleNamespace(release_answers=lambda p: told.append("answers"), send=lambda p, kind, payload: told.append(kind)),
        moves=SimpleNamespace(finish=lambda p, reason: told.append(reason)), cputime=SimpleNamespace(outs=lambda *given: []),
        deputies=SimpleNamespace(watch=lambda p: None),
    )  # fmt: skip
    deputy.completed = lambda flight, result: result  # type: ignore[method-assign]
    monkeypatch.setattr(arrival.image, "decode", lambda head: SimpleNamespace(vmas=[]))
    monkeypatch.setattr(arrival, "lib", SimpleNamespace(mos_unfollow=lambda pump: None, mos_pin=lambda pump, pid: None))
    part.arriving(p, link, b"")
    assert (len(rest), told) == (int(slow), [Kind.RESUME, "answers", *[Kind.REPLY] * stands, Reason.CALL_RUNS])
    assert deputy.state is (State.READY if stands else State.BUSY)


@pytest.mark.parametrize("reason", [Reason.INCOMPLETE, "needs avx, which 3 lacks"])
def test_a_body_that_cannot_be_sent_to_its_end_says_why_in_its_own_words(reason: str) -> None:
    """CANNOT amid the image; the text is what the user reads as the outcome of the move."""
    frame = Frame(Kind.CANNOT, 0, 7, reason.encode(), Cannot.unpack(reason.encode()))
    coming = SimpleNamespace(receipt=SimpleNamespace(next=lambda: frame), complete=False)
    with pytest.raises(CannotMove) as raised:
        Arrival(SimpleNamespace())._receive(SimpleNamespace(pid=7), None, None, coming)  # type: ignore[arg-type]
    assert coming.complete and str(raised.value) == reason


# --------------------------------------------------------------------------- signals of who hears of none

def siginfo(number: int, code: int = 0, timer: int = 0) -> bytes:
    return struct.pack("<3i4xi", number, 0, code, timer).ljust(128, b"\0")


def frozen() -> dict[str, Any]:
    return {"link": SimpleNamespace(channel=FreezeFile([]), frames=99)}


def moving() -> dict[str, Any]:
    return {"link": None, "kept_back": []}


def repeating() -> dict[str, Any]:
    backup = Backup()
    backup.log.begin()
    return {"link": None, "backup": backup}


def in_a_call_that_repeats() -> dict[str, Any]:
    found = repeating()
    found["backup"].log.asked(1, b"")
    return found


@pytest.mark.parametrize("where", [frozen, moving, repeating, in_a_call_that_repeats])
def test_signals_that_its_body_cannot_hear_of_wait_as_in_the_kernels_queue(
    deputy: Deputy, where: Callable[[], dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else who sends them to a program that is frozen has all the memory of its tracer, which is root's."""
    part, p = deputies(deputy, [])
    monkeypatch.setattr(deputies_module, "status_sets", lambda pid: {"SigCgt": (1 << 64) - 1})
    found = where()
    p.link, p.body.kept_back = found["link"], found.get("kept_back")
    p.saves, p.reports = SimpleNamespace(outlive=found.get("backup")), SimpleNamespace(account=SimpleNamespace(received=0))
    tree: Any = part.tracer
    tree.mapped, tree.outliving = SimpleNamespace(poll=lambda: None), Outliving(tree)
    tree.hosts = Hosts(tree)

    def send(info: bytes, times: int) -> int:
        before = len(tree.hosts.waiting(p))
        for _ in range(times):
            p.task.peek_siginfo = lambda: info
            part.event(p, deputy, Status(Stop.SIGNAL, int.from_bytes(info[:4], "little")))
        return len(tree.hosts.waiting(p)) - before

    assert [send(siginfo(number), 100) for number in (10, 12, 10)] == [1, 1, 0], "a standard signal waits once"
    assert [send(siginfo(34, -2, timer), 100) for timer in (1, 2, 1)] == [1, 1, 0], "a timer has one signal"
    assert [send(siginfo(34), 3), send(siginfo(35), 3), send(siginfo(34, -2, 3), 1)] == [3, 3, 1], "others are queued"
    assert send(siginfo(40), MOST_SIGNALS) == MOST_SIGNALS - 11 and not send(siginfo(41), 1)
    assert p.body.signals == len(tree.hosts.waiting(p)) == MOST_SIGNALS


@pytest.mark.parametrize(("name", "result"), [
    ("lseek", -ERESTARTNOINTR), ("pause", -ERESTARTSYS), ("read", -ERESTARTSYS), ("stat", -ERESTARTNOINTR),
])
def test_a_signal_before_a_call_that_never_waits_does_not_end_it(name: str, result: int) -> None:
    """The deputy has not come to it yet: nobody is told EINTR by lseek(2)."""
    regs = no_regs()
    regs.rip, regs.orig_rax = layout.STUB, NOTHING
    assert result_at(regs, BY_NAME[name].nr) == result
    regs.rip, regs.rdi = layout.STUB_AFTER + 64, 5
    assert result_at(regs, BY_NAME[name].nr) == 5


@pytest.mark.parametrize("full", [False, True])
def test_the_last_line_of_a_program_whose_deputy_does_not_stop(deputy: Deputy, full: bool) -> None:
    """It is written beside it, but never waited for: the whole tree would wait."""
    part, p = deputies(deputy, [])
    read, write = os.pipe()
    deputy.state = State.BUSY
    part.tracer.__dict__.update(
        policy=Policy(part.tracer), controls=SimpleNamespace(wait_for=partial(_raise, StillRuns())),
        mosd=SimpleNamespace(log=lambda *given: None),
    )  # fmt: skip
    try:
        if full:
            os.set_blocking(write, False)
            with suppress(BlockingIOError):
                while os.write(write, bytes(4096)):
                    pass
            os.set_blocking(write, True)
        with subprocess.Popen(["sleep", "100"], stderr=write) as sleeper:
            try:
                p.pid = sleeper.pid
                part.last_words(p, deputy, "Lost communication with 10.0.0.2")
            finally:
                sleeper.kill()
        os.close(write)
        write = -1
        said = b""
        while got := os.read(read, 1 << 16):
            said += got
        assert said.strip(b"\0") == (b"" if full else b"mosrun: Lost communication with 10.0.0.2\n")
    finally:
        os.close(read)
        if write >= 0:
            os.close(write)


def _raise(error: Exception, _p: object) -> int:
    raise error
