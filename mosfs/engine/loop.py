"""The event loop of a tracer or host: what its tasks do and what can be read are one stream of events (`lib.mos_next`)."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from contextlib import AbstractContextManager
from typing import Any, Protocol

from mosfs.native import ffi, lib
from mosfs.trace.stops import SECCOMP_STOP

#: What `Loop.turn` returns when no descriptor can be read: nothing came at all, or a task stopped or ended, which is handled.
IDLE, TASK = -1, -2
#: So many tasks that have stopped meanwhile are looked at in one turn, if nothing else can be read.
EAGER = 8
#: `mos_event.kind`.
_TASK, _READABLE = 1, 2


class Borrowed(Protocol):
    """Mailboxes that programs use without us (`mbox.borrowed`)."""

    def arm(self) -> None: ...
    def look(self, stopped: Callable[[int], None]) -> None: ...


class Loop:
    """``pump``: struct mos_pump, which has what C needs to know of the tasks. It follows nobody's processor yet."""

    def __init__(self) -> None:
        self.pump = ffi.new("struct mos_pump *")
        self.pump.follow, self.pump.cpu = 1, -1
        self._event = ffi.new("struct mos_event *")

    def begin(self) -> None:
        """From now on this process waits here for its tasks: SIGCHLD wakes it, and nothing else sees that."""
        lib.mos_setup_signals()

    @property
    def events(self) -> int:
        """What poll(2) says of the descriptor that `turn` returned."""
        return int(self._event.status)

    def turn(
        self, fds: Iterable[int], timeout: int, task_event: Callable[[int, int], None], borrowed: Borrowed,
        contained: Callable[[], AbstractContextManager[Any]], notes: Callable[[], None] | None = None,
        lanes: Callable[[], None] | None = None, full: Container[int] = (), *, eager: bool = False,
    ) -> int:  # fmt: skip
        """Wait for one event, ``timeout`` microseconds at most: which of ``fds`` can be read, or IDLE, or TASK. Those of
        ``full`` wait for room to be written to, too.

        ``task_event`` gets what waitpid(2) says of a task; ``notes`` is called before that when C has noted what went on without
        us, ``lanes`` when it has served ordinary calls of bodies. In ``contained`` the mailboxes are looked at. ``eager``: behind
        a task those follow that stop at once, as one that has just been resumed does on our processor.
        """
        pump = self.pump
        pump.nfds = 0
        for fd in fds:
            if lib.mos_attend(pump, fd, fd in full) < 0:
                raise MemoryError
        found = self._next(timeout, task_event, borrowed, contained, notes, lanes)
        if found != TASK or not eager:
            return found
        pump.nfds = 0
        for _ in range(EAGER):
            if self._next(0, task_event, borrowed, contained, notes, lanes) != TASK:
                break
        return TASK

    def _next(
        self, timeout: int, task_event: Callable[[int, int], None], borrowed: Borrowed,
        contained: Callable[[], AbstractContextManager[Any]], notes: Callable[[], None] | None, lanes: Callable[[], None] | None,
    ) -> int:  # fmt: skip
        pump = self.pump
        borrowed.arm()
        result = lib.mos_next(pump, self._event, timeout)
        if result < 0:
            raise OSError(-result, "wait")
        if lanes is not None and pump.lane_news:
            lanes()
        with contained():
            borrowed.look(lambda pid: task_event(pid, SECCOMP_STOP))
        if notes is not None and pump.nnotes:
            notes()
        event = self._event
        if event.kind == _TASK:
            task_event(event.pid, event.status)
            return TASK
        return int(event.pid) if event.kind == _READABLE else IDLE
