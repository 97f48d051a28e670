"""A way home that fails when its signals have been queued: each is in one place afterwards, the deputy's kernel or the body's."""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import Any

import pytest

from mosfs.abi.numbers import SYS_RT_SIGTIMEDWAIT, SYS_RT_TGSIGQUEUEINFO
from mosfs.abi.signals import SIGINFO_SIZE
from mosfs.home.moves import arrival, threads
from mosfs.home.moves.arrival import Arrival, Coming
from mosfs.home.moves.threads import Threads
from mosfs.home.process.deputy import Sleep, State
from mosfs.home.process.records import Body
from mosfs.migrate.rebuild import queue_noted, queue_signal, take_back
from mosfs.trace.task import no_regs
from mosfs.wire.frames import Kind

PID = 300
SYS_RT_SIGQUEUEINFO = 129
USR1, RT = 10, 40


def info(sig: int, value: int) -> bytes:
    return struct.pack("<iiiIII", sig, 0, -1, 1, 2, value).ljust(SIGINFO_SIZE, b"\0")


class Kernel:
    """Queues of signals: one of the process, one for each of its threads."""

    def __init__(self) -> None:
        self.shared: list[bytes] = []
        self.own: dict[int, list[bytes]] = {}

    def task(self, tid: int) -> Any:
        return SimpleNamespace(
            pid=tid, own=tid, group=PID, written=b"", peek_rseq=lambda: (0, 0, 0),
            peek_pending=lambda: [(False, one) for one in self.own.get(tid, [])] + [(True, one) for one in self.shared],
        )  # fmt: skip

    def came(self, tid: int | None, one: bytes) -> None:
        """A standard signal waits once, a real-time signal as often as it came (signal(7))."""
        queue = self.shared if tid is None else self.own.setdefault(tid, [])
        number = int.from_bytes(one[:4], "little")
        if number >= 32 or number not in (int.from_bytes(waits[:4], "little") for waits in queue):
            queue.append(one)

    def _wait(self, tid: int, wanted: int) -> None:
        for queue in (self.own.get(tid, []), self.shared):
            for one in queue:
                if wanted >> (int.from_bytes(one[:4], "little") - 1) & 1:
                    queue.remove(one)
                    return

    def calls(self, task: Any, **_: Any) -> Any:
        return Session(self, task)


class Session:
    def __init__(self, kernel: Kernel, task: Any) -> None:
        self.kernel, self.task = kernel, task
        task.write = lambda at, data: setattr(task, "written", data)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None: ...

    def __call__(self, nr: int, *args: int) -> int:
        if nr == SYS_RT_SIGTIMEDWAIT:
            self.kernel._wait(self.task.pid, struct.unpack_from("<Q", self.task.written)[0])
        elif nr in (SYS_RT_SIGQUEUEINFO, SYS_RT_TGSIGQUEUEINFO):
            self.kernel.came(None if nr == SYS_RT_SIGQUEUEINFO else args[1], self.task.written)
        return 0


def test_what_was_queued_is_taken_back_and_nothing_else() -> None:
    kernel = Kernel()
    session: Any = kernel.calls(kernel.task(PID))
    kernel.came(None, info(USR1, 1))  # ours will not wait beside it
    queued: list[tuple[bool, bytes]] = []
    queue_noted(session, [(True, info(USR1, 2)), (True, info(RT, 1)), (False, info(RT, 1)), (True, info(RT, 3))], queued)
    queue_signal(session, info(RT, 1), shared=True)  # somebody else's, just the same
    kernel.came(None, info(RT, 9))
    kernel.came(None, info(RT + 1, 9))
    assert take_back(session, queued) == [(True, info(USR1, 1)), (True, info(RT, 1)), (True, info(RT, 9))]
    assert (kernel.shared, kernel.own[PID]) == ([info(RT + 1, 9)], [])


class Returning:
    """A program on its way home, with one more thread. ``sent``: signals that its bodies got again, by thread."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, several: bool) -> None:
        self.kernel = kernel = Kernel()
        self.sent: list[tuple[int, bytes]] = []
        for module in (arrival, threads):
            monkeypatch.setattr(module, "Calls", kernel.calls)
        monkeypatch.setattr(arrival, "clear", lambda *_: None)
        monkeypatch.setattr(arrival.rseq, "unregister", lambda *_: None)
        monkeypatch.setattr(threads, "forget_all", lambda calls: None)
        monkeypatch.setattr(threads, "give_state", lambda *_: {})
        monkeypatch.setattr(threads, "give_threads", self._fails)
        channel: Any = SimpleNamespace(send=self._sent)
        self.link: Any = SimpleNamespace(channel=channel)
        programs = {tid: self._program(tid, several) for tid in (PID, PID + 1)}
        self.p, self.q = programs.values()
        self.p.kin.threads = {PID + 1} if several else set()
        nothing = SimpleNamespace(gone=lambda _: None, objects=lambda _: None)
        tree: Any = SimpleNamespace(
            programs=programs, shared=nothing, groups=nothing, deputies=SimpleNamespace(watch=lambda p: None),
            hosts=SimpleNamespace(release_answers=lambda p: None), moves=SimpleNamespace(finish=lambda p, reason: None),
            mapped=SimpleNamespace(in_deputy=lambda p: [], deny_access=lambda *_: None),
            cputimers=SimpleNamespace(came_home=self._fails), requests=SimpleNamespace(heed=lambda p, call: None),
        )  # fmt: skip
        tree.threads = Threads(tree)
        self.arrival = Arrival(tree)

    def _program(self, tid: int, several: bool) -> Any:
        task = self.kernel.task(tid)
        deputy = SimpleNamespace(
            base=no_regs(), mask=0, task=task, flight=None, state=State.READY, became_ready=lambda: None, sleep=Sleep()
        )
        frozen = SimpleNamespace(mark="", call=None)
        return SimpleNamespace(
            pid=tid, task=task, deputy=deputy, body=Body(), frozen=frozen, several=several, kin=SimpleNamespace(threads=set()),
            demand=SimpleNamespace(waiting={}),
        )  # fmt: skip

    @staticmethod
    def _fails(*_: object) -> Any:
        raise OSError(12, "no memory")

    def _sent(self, kind: int, tid: int, payload: bytes = b"") -> None:
        if kind == Kind.SIGNAL:
            self.sent.append((tid, payload))

    def comes(self, others: dict[int, Any], pending: list[tuple[bool, bytes]], thread: list[tuple[bool, bytes]]) -> None:
        """It comes with these signals in its image, and is sent back."""
        own: Any = [SimpleNamespace(tid=PID + 1, pending=thread)] if self.p.several else []
        meta: Any = SimpleNamespace(pending=pending, threads=own, used=(0, 0))
        coming = Coming(meta, SimpleNamespace(), complete=True, others=others)  # type: ignore[arg-type]
        coming.outcome, coming.infos = coming.others.pop(PID)
        call: Any = self.kernel.calls(self.p.task)

        def finish(frames: int, *, home: bool) -> Any:
            for shared, one in pending:
                queue_signal(call, one, shared=shared)
            return no_regs()

        coming.rebuild = SimpleNamespace(finish=finish)  # type: ignore[assignment]
        with pytest.raises(OSError, match="no memory"):
            self.arrival._build(self.p, call, coming)
        self.arrival._send_back(self.p, self.link, self.p.deputy, "why", coming)


def test_a_program_that_does_not_come_home_has_each_signal_once(monkeypatch: pytest.MonkeyPatch) -> None:
    way = Returning(monkeypatch, several=False)
    way.kernel.came(None, info(RT, 3))  # the deputy's, which it blocks
    way.comes({PID: (None, [info(RT, 2)])}, [(True, info(RT, 1))], [])
    assert way.kernel.shared == [info(RT, 3)]
    assert way.sent == [(PID, info(RT, 2))]


def test_so_have_its_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    way = Returning(monkeypatch, several=True)
    way.kernel.came(PID, info(RT, 3))
    way.kernel.came(PID + 1, info(USR1, 4))
    way.kernel.came(PID + 1, info(RT, 5))
    way.comes(
        {PID: (None, []), PID + 1: (None, [info(USR1, 6)])}, [(False, info(RT, 1))], [(False, info(RT, 7)), (False, info(USR1, 8))]
    )
    assert way.kernel.own == {PID: [info(RT, 3)], PID + 1: [info(USR1, 4), info(RT, 5)]}
    assert (way.kernel.shared, way.sent) == ([], [(PID + 1, info(USR1, 6))])
