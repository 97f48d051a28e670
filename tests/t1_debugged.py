"""Letting a program go to its debugger, on kernels of all ages."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from mosfs.abi.flags import SECCOMP_FILTER_FLAG_SPEC_ALLOW
from mosfs.abi.numbers import SYS_SECCOMP
from mosfs.home.asks import debugged
from mosfs.home.asks.debugged import NEW_LISTENER, TSYNC, TSYNC_ESRCH, WAIT_KILLABLE_RECV, Debugged
from mosfs.native import kernel
from mosfs.trace.stops import Stop

LISTENER, TAKEN = 7, 70


class Kernel:
    """Answers the calls that a program is made to make; seccomp(2) refuses flags that it does not know, as Linux does."""

    def __init__(self, known: int) -> None:
        self.known = known
        self.asked: list[int] = []
        self.task = self
        self.pid = 1
        self.restored = False

    def __enter__(self) -> Kernel:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __call__(self, number: int, operation: int, flags: int = 0, *_: int) -> int:
        assert number == SYS_SECCOMP
        self.asked.append(flags)
        return LISTENER if not flags & ~self.known else -errno.EINVAL

    def peek_regs(self) -> None:
        pass

    def set_regs(self, _: Any) -> None:
        self.restored = True

    def write(self, *_: Any) -> None:
        pass


OLD = SECCOMP_FILTER_FLAG_SPEC_ALLOW | NEW_LISTENER | TSYNC | TSYNC_ESRCH


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize(
    ("known", "result"),
    [(OLD | WAIT_KILLABLE_RECV, TAKEN), (OLD, TAKEN), (SECCOMP_FILTER_FLAG_SPEC_ALLOW, -errno.EINVAL)],
)
def test_a_kernel_without_killable_waits(monkeypatch: pytest.MonkeyPatch, known: int, result: int, *, many: bool) -> None:
    """Linux 5.10 to 5.18 do not know the flag: it is not asked for there; registers are as before in any case."""
    task: Any = Kernel(known)
    has = bool(known & WAIT_KILLABLE_RECV)
    monkeypatch.setattr(kernel, "has", lambda name: has)
    monkeypatch.setattr(debugged, "Calls", lambda task: task)
    monkeypatch.setattr(debugged, "user_regs", lambda regs, stop: regs)
    monkeypatch.setattr(debugged, "take_made", lambda call, fd, kind: TAKEN)
    tracer: Any = None
    assert Debugged(tracer)._listen(task, {1: Stop.SECCOMP}, many=many) == result
    assert [bool(flags & WAIT_KILLABLE_RECV) for flags in task.asked] == [has]
    assert {bool(flags & TSYNC) for flags in task.asked} == {many}
    assert task.restored
