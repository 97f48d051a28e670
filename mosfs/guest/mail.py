"""Direct communication of guests: served here, by the post office of this node, without asking home (docs/design/mailboxes.md)."""

from __future__ import annotations

import errno
import signal
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from mosfs.abi.flags import ERESTARTNOINTR, ERESTARTSYS
from mosfs.abi.numbers import SYS_GETPID, SYS_KILL, SYS_READ
from mosfs.abi.syscalls import BY_NAME
from mosfs.calls.request import Request
from mosfs.guest.body import Body, State
from mosfs.guest.completion import Completion
from mosfs.guest.containment import Containment
from mosfs.guest.context import Context
from mosfs.guest.forwarding import Forwarding
from mosfs.guest.ports import Serving
from mosfs.guest.signals import Signals
from mosfs.mbox import calls
from mosfs.mbox.calls import Descriptor, Endpoint
from mosfs.mbox.desk import Desk
from mosfs.mbox.handover import Handover
from mosfs.mbox.stream import Windows
from mosfs.native import ffi
from mosfs.native.registers import Registers
from mosfs.trace.task import Task
from mosfs.wire.frames import Kind
from mosfs.wire.messages import LastMessage
from mosfs.wire.orders import MailSeen, MailTable

#: Calls by which nobody could notice that a message is still under way.
_UNNOTICED = frozenset(BY_NAME[name].nr for name in (
    "read", "readv", "pread64", "preadv", "lseek", "stat", "fstat", "lstat", "newfstatat", "statx",
    "poll", "select", "pselect6", "ppoll", "nanosleep", "clock_nanosleep", "gettimeofday", "time", "clock_gettime",
    "mmap", "mprotect", "munmap", "mremap", "madvise", "brk", "futex", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn",
    "getpid", "gettid",
))  # fmt: skip
#: A program asks for its last message by opens.
_OPENS = frozenset({2, 257, 437})


class Mail:
    """A guest that uses direct communication: the desk's customer. State MAIL: the office will answer; POST: it waits.

    ``committed``: home has answered it something since it came here, so that it runs here and nowhere else (`Mails.serve`)."""

    def __init__(self, mails: Mails, body: Body, told: MailTable) -> None:
        self.mails = mails
        self.body = body
        self.told = told
        self.table = _table(told)
        self.filter_at = told.filter_at
        self.last: LastMessage | None = None
        self.news = False
        self.committed = body.meta is None

    @property
    def key(self) -> tuple[int, int]:
        return (self.told.home, self.body.pair)

    @property
    def owner(self) -> tuple[int, int]:
        return (self.told.uid, self.told.gid)

    @property
    def task(self) -> Task:
        return self.body.task

    @property
    def present(self) -> bool:
        return self.mails.context.bodies.get(self.body.pair) is self.body

    @property
    def runs_freely(self) -> bool:
        stopping, signals = self.body.stopping, self.body.signals
        asked = stopping.interrupting or stopping.halted or stopping.wanted or stopping.arming
        return not (asked or signals.infos or signals.restart)

    @property
    def steady(self) -> bool:
        body = self.body
        alone = body.call.carry is None and body.signals.saved_mask is None and body.fork.step is None
        return alone and body.state in (State.RUNNING, State.POST) and self.runs_freely

    @property
    def standing(self) -> Any:
        return self.body.call.regs if self.body.state is State.POST else None

    def stands(self, regs: Registers) -> None:
        body = self.body
        body.call.regs, body.call.nr, body.state = ffi.new("struct mos_regs *", regs), SYS_READ, State.POST

    def served(self) -> None:
        self.body.state = State.RUNNING

    def nonblocking(self, descriptor: Descriptor, fd: int) -> bool:
        return descriptor.nonblocking

    def finish(self, result: int) -> None:
        if self.body.state is State.MAIL:
            self.mails.completion.finish(self.body, result)

    def break_pipe(self) -> None:
        """The signal must arise at home: the program's call becomes that kill(2), whose result it will not see."""
        body = self.body
        if body.state is State.MAIL:
            request = Request(SYS_KILL, (body.pair, signal.SIGPIPE, 0, 0, 0, 0), body.task.peek_mask())
            self.mails.forwarding.forward(body, request, then=lambda _: -errno.EPIPE)

    def wait(self) -> None:
        body = self.body
        if body.state is not State.MAIL:
            return
        body.state = State.POST
        if body.signals.infos:  # signals came while the office was asked
            self.mails.signalled(body)

    def again(self) -> None:
        if self.body.state is State.POST:
            self.mails.serve(self.body)

    def trouble(self, error: Exception) -> None:
        self.mails.containment.trouble(self.body, error)

    def remember(self, last: LastMessage) -> None:
        self.last = last
        self.news = True


def _table(told: MailTable) -> dict[int, Descriptor]:
    return {fd: Descriptor(Endpoint(home, pid, own, pipe), slow) for fd, home, pid, own, pipe, slow in told.entries}


class Mails:
    def __init__(
        self, context: Context, containment: Containment, forwarding: Forwarding, completion: Completion, signals: Signals,
        serving: Serving,
    ) -> None:  # fmt: skip
        self.context = context
        self.containment = containment
        self.forwarding = forwarding
        self.completion = completion
        self._signals = signals
        self._serving = serving
        self.desk = Desk(context.control, Handover(context.pump, 0), Windows(context.pump))

    def told(self, body: Body, table: MailTable) -> None:
        """MAIL_TABLE: home is the authority on descriptors; what the body itself has changed came with its image."""
        mail: Mail | None = body.mail
        if mail is None:
            body.mail = mail = Mail(self, body, table)
            if body.meta is not None and body.meta.mail is not None:
                mail.filter_at, mail.last = body.meta.mail
                mail.news = True
        mail.told, mail.table = table, _table(table)
        self.desk.borrowed.forget(mail.key)
        if not any(found.place.own for found in mail.table.values()):
            mail.filter_at = 0  # closing the mailbox ends the filtering

    def trapped(self, body: Body, nr: int, args: Sequence[int]) -> bool:
        """A call of the body; False: it is none of ours."""
        mail: Mail | None = body.mail
        if mail is None:
            return False
        if nr in calls.TRANSFERS and args[0] & 0xFFFFFFFF in mail.table:
            return self.serve(body)
        if nr not in _UNNOTICED and self.flush(body, lambda: self._flushed(body)):
            body.state = State.MAIL
            return True
        if nr in _OPENS:
            self._report(mail)
        return False

    def flush(self, body: Body, then: Callable[[], None], *, hold: bool = False) -> bool:
        """False: nothing is under way for the body, nothing lent to it. Else ``then`` is called when that is so."""
        streams = self.desk.streams
        return body.mail is not None and streams is not None and streams.flush(body.mail.key, then, hold=hold)

    def when_flushed(self, body: Body, action: Callable[[], None]) -> None:
        if not self.flush(body, action):
            action()

    def _flushed(self, body: Body) -> None:
        """It stands before its call as if it had just come there."""
        if body.state is State.MAIL:
            body.state = State.RUNNING
            self._serving.trapped(body)

    def serve(self, body: Body) -> bool:
        """Make the call in which the body stands; False: its descriptor is none of ours.

        A body that has come here runs before home knows that. Should home never hear of it, the program goes on where it was. What
        the office is asked does not pass through home, and cannot be undone: so the first time home is asked before."""
        mail: Mail = body.mail
        if not mail.committed:
            body.call.both = True  # the answer is not its call's, which is made anew wherever the body goes meanwhile
            request = Request(SYS_GETPID, (0,) * 6, body.task.peek_mask())
            self.forwarding.forward(body, request, then=lambda _: -ERESTARTNOINTR)
            return True
        r = body.call.regs
        args = (r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9)
        body.state = State.MAIL
        if self.desk.call(mail, mail.table[args[0] & 0xFFFFFFFF], body.call.nr, args):
            return True
        body.state = State.RUNNING
        return False

    def concerns(self, body: Body) -> bool:
        """The call in which the body stands is served here."""
        mail: Mail | None = body.mail
        return mail is not None and body.call.nr in calls.TRANSFERS and body.call.regs.rdi & 0xFFFFFFFF in mail.table

    def signalled(self, body: Body) -> None:
        """A signal has come for a body that waits: its handler may run, then the kernel decides whether the call is made again."""
        self.leave(body)
        self._signals.interrupted(body, -ERESTARTSYS)

    def leave(self, body: Body) -> None:
        """It waits no more."""
        if body.mail is not None:
            self.desk.leave(body.mail.key)

    def gone(self, body: Body) -> None:
        """It is here no more."""
        if body.mail is not None:
            self.desk.gone(body.mail.key)

    def _report(self, mail: Mail) -> None:
        if mail.news:
            mail.news = False
            seen = MailSeen(mail.filter_at, mail.last)
            self.context.channel.send(Kind.MAIL_SEEN, mail.body.pair, msgspec.msgpack.encode(seen))

    def forked(self, body: Body, child: Body) -> None:
        """The child has its parent's senders; the mailbox is not its own."""
        mail: Mail | None = body.mail
        if mail is None:
            return
        told = mail.told
        senders = [entry for entry in told.entries if not entry[3]]
        child.mail = Mail(self, child, MailTable(senders, told.home, told.uid, told.gid, 0))

