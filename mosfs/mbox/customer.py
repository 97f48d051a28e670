"""Who is served at a desk: a program that stands in one of its calls on a mailbox (home: `home.asks.mail`, away: `guest.mail`)."""

from __future__ import annotations

from typing import Any, Protocol

from mosfs.mbox.calls import Descriptor
from mosfs.native.registers import Registers
from mosfs.trace.task import Task
from mosfs.wire.messages import LastMessage

#: Whose mailbox: home-node as an unsigned integer, and the PID there.
Key = tuple[int, int]


class Customer(Protocol):
    """A program that stands in one of its calls. `finish`, `wait` and `again` let it go on, each in its way."""

    filter_at: int  #: address of its struct interested, 0 for none

    @property
    def key(self) -> Key:
        """(home, pid)."""

    @property
    def owner(self) -> tuple[int, int]:
        """(uid, gid)."""

    @property
    def task(self) -> Task: ...
    @property
    def present(self) -> bool:
        """It is (still) a program of ours."""

    @property
    def runs_freely(self) -> bool:
        """It runs, and nobody wants it to stop."""

    @property
    def steady(self) -> bool:
        """Its reads and writes may be served without us (`native/handover.c`): it runs or waits, and nobody wants it to stop."""

    @property
    def standing(self) -> Any:
        """The registers at the stop of the call that waits; None when it waits elsewhere."""

    def stands(self, regs: Registers) -> None:
        """It has begun to wait at a stop with these registers."""

    def served(self) -> None:
        """Its wait is over, and it runs."""

    def nonblocking(self, descriptor: Descriptor, fd: int) -> bool:
        """O_NONBLOCK of a descriptor."""
        ...

    def finish(self, result: int) -> None:
        """The call is over."""

    def break_pipe(self) -> None:
        """The call ends with EPIPE, and SIGPIPE (pipe(7))."""

    def wait(self) -> None:
        """The call must wait for `again`."""

    def again(self) -> None:
        """Make the call that waits again; nothing if it does not wait any more."""

    def trouble(self, error: Exception) -> None:
        """``error`` came up while it was served in another's turn (TaskGone: it has ended meanwhile). Nothing is raised."""

    def remember(self, last: LastMessage) -> None:
        """What sender_home, sender_pid, sender_location and message_length show from now on."""
