"""Direct communication of programs at home, and of deputies for those that are away (docs/design/mailboxes.md).

A descriptor is an unconnected socket in the program; `Mails.places` says by inode number what it is for. At home its calls stop
in a filter of their own and are served by the desk. Away the host serves them: it has a copy of the program's table, sent
(`tell`) before the answer to any call that may have changed it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from mosfs.abi.flags import ERESTARTSYS
from mosfs.abi.numbers import SYS_CLOSE, SYS_PAUSE
from mosfs.calls.request import Request
from mosfs.cluster.address import as_unsigned
from mosfs.home.ports import Tree
from mosfs.home.process.deputy import Deputy
from mosfs.home.process.program import Program
from mosfs.mbox import calls
from mosfs.mbox.calls import Descriptor, Endpoint
from mosfs.mbox.desk import Desk
from mosfs.mbox.handover import Handover
from mosfs.migrate.capture import signed
from mosfs.native import ffi
from mosfs.native.registers import Registers
from mosfs.trace.inject import Calls
from mosfs.trace.proc import TaskGone, words_of
from mosfs.trace.stops import Status, Stop
from mosfs.trace.task import NOTHING, Task, copy_regs
from mosfs.wire.channel import ChannelLost
from mosfs.wire.frames import Kind
from mosfs.wire.messages import LastMessage, MailAnswer, MailRecall, MailWake
from mosfs.wire.orders import MailTable

#: Seconds that a program stands still before it waits in the kernel: answers often come at once, and a wait costs three stops.
LINGER = 0.002


class Mail:
    """A program that uses direct communication: the desk's customer while it is at home."""

    def __init__(self, mails: Mails, p: Program) -> None:
        self.mails = mails
        self.p = p
        self.filter_at = 0
        self.own_fd = -1  # what the first open of the mailbox gave
        self.regs: Registers | None = None  # at the stop of the call that is being served, or that waits
        self.asked = False  # the office will answer: it stands still until then
        self.parks_at = 0.0  # when it shall wait in the kernel; it stands still until then
        self.opening: object | None = None  # the open of the mailbox that is under way
        self.filtered = False
        self.told: MailTable | None = None
        self._owner: tuple[int, int] | None = None

    @property
    def key(self) -> tuple[int, int]:
        return (self.mails.home, self.mails.tracer.family.process(self.p).pid)

    @property
    def owner(self) -> tuple[int, int]:
        """Who it was when it opened its first descriptor, or executed its program."""
        if self._owner is None:
            self._owner = _owner(self.p.pid)
        return self._owner

    def changed_program(self) -> None:
        self.filter_at, self.told, self._owner = 0, None, None

    def nonblocking(self, descriptor: Descriptor, fd: int) -> bool:
        return calls.nonblocking(self.p.pid, fd)

    @property
    def task(self) -> Task:
        return self.p.task

    @property
    def present(self) -> bool:
        return self.mails.tracer.programs.get(self.p.pid) is self.p

    @property
    def runs_freely(self) -> bool:
        return False

    @property
    def steady(self) -> bool:
        p = self.p
        single = not (p.kin.leader or p.kin.threads)
        return single and p.nothing_pending() and p.move is None and not p.travel.bound

    @property
    def standing(self) -> Registers | None:
        return self.regs if self.parks_at else None

    @property
    def call(self) -> Registers:
        """The registers of the call that is being served, or that waits."""
        assert self.regs is not None
        return self.regs

    def stands(self, regs: Registers) -> None:
        self.regs, self.asked = ffi.new("struct mos_regs *", regs), True
        self.wait()

    def served(self) -> None:
        self.regs, self.asked = None, False
        if self.parks_at:
            self.parks_at = 0.0
            self.mails.lingering.remove(self)

    @property
    def waits(self) -> bool:
        """It is in pause(2) instead of the call in ``regs``."""
        return self.regs is not None and not self.asked

    def finish(self, result: int) -> None:
        regs, self.regs, self.asked = self.regs, None, False
        if regs is not None and self.p.pid in self.mails.tracer.programs:
            self.mails.tracer.stops.answer(self.p, regs, result)

    def break_pipe(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.p.pid, signal.SIGPIPE)
        self.finish(-errno.EPIPE)

    def wait(self) -> None:
        """It stands still for a moment, then it waits (`park`)."""
        self.parks_at = time.monotonic() + LINGER
        self.mails.lingering.append(self)

    def park(self) -> None:
        """Let it wait in a call that signals and our interrupt end; `leave_wait` puts the real one in its place."""
        self.parks_at, self.asked = 0.0, False
        regs = copy_regs(self.call)
        regs.orig_rax = SYS_PAUSE
        self.p.task.set_regs(regs)
        self.p.task.cont()

    def again(self) -> None:
        if self.parks_at:
            self.parks_at = 0.0
            self.mails.lingering.remove(self)
            if not self.mails.serve(self):
                self.finish(-errno.EBADF)
        elif self.waits:
            self.p.task.interrupt()

    def leave_wait(self) -> None:
        """At a stop that ended pause(2): as if the program's own call had been interrupted. The kernel does the rest."""
        regs, self.regs = copy_regs(self.call), None
        self.mails.desk.leave(self.key)
        regs.rax = -ERESTARTSYS & NOTHING
        self.p.task.set_regs(regs)

    def trouble(self, error: Exception) -> None:
        self.mails.tracer.containment.trouble(self.p, error)

    def remember(self, last: LastMessage) -> None:
        self.p.post.last = last


class Mails:
    def __init__(self, tracer: Tree) -> None:
        self.tracer = tracer
        self.desk = Desk(tracer.mosd.control, Handover(tracer.pump, round(LINGER * 1e6)))
        self.places: dict[int, Endpoint] = {}
        self.lingering: list[Mail] = []  # in the order in which they park

    @property
    def home(self) -> int:
        return as_unsigned(self.tracer.mosd.config.ip)

    def table(self, pid: int) -> dict[int, Descriptor]:
        return calls.table(pid, self.places) if self.places else {}

    def involved(self, p: Program) -> bool:
        """Has it a descriptor for direct communication (direct_communication(7), LIMITATIONS)?"""
        return p.post.mail is not None and bool(self.table(p.pid))

    def message(self, message: MailAnswer | MailWake | MailRecall, passed: Any) -> None:
        """What mosd says."""
        self.desk.message(message, passed)

    def mail_of(self, p: Program) -> Mail:
        if p.post.mail is None:
            p.post.mail = Mail(self, p)
            self.tracer.mosd.announce(p, at_once=True)  # the post office asks who exists
        mail: Mail = p.post.mail
        return mail

    # ------------------------------------------------------------------ calls at home

    def trapped(self, p: Program, regs: Registers, nr: int) -> bool:
        """A call of `calls.CAUGHT` at home; False: the kernel shall make it."""
        if not self.places:
            return False
        args = (regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9)
        if nr in calls.CLOSING:
            self._renumbers(p)
            return self._closing(p, regs, nr, args)
        place = self.places.get(calls.inode(p.pid, args[0] & 0xFFFFFFFF))
        if place is None:
            return False
        mail = self.mail_of(p)
        mail.regs, mail.asked = copy_regs(regs), True
        if self.desk.call(mail, Descriptor(place), nr, args):
            return True
        mail.regs, mail.asked = None, False
        return False

    def serve(self, mail: Mail) -> bool:
        """Make the call in which the program stands; False: it is none of ours."""
        r = mail.call
        place = self.places.get(calls.inode(mail.p.pid, r.rdi & 0xFFFFFFFF))
        args = (r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9)
        return place is not None and self.desk.call(mail, Descriptor(place), signed(r.orig_rax), args)

    def next_park(self) -> float | None:
        """When `park_idle` has something to do."""
        return self.lingering[0].parks_at if self.lingering else None

    def park_idle(self, now: float) -> None:
        while self.lingering and self.lingering[0].parks_at <= now:
            mail = self.lingering.pop(0)
            with self.tracer.containment.of(mail.p):
                mail.park()

    def _renumbers(self, p: Program) -> None:
        """The program's descriptors may be others from now on."""
        if p.post.mail is not None:
            self.desk.borrowed.forget(p.post.mail.key)

    def _closing(self, p: Program, regs: Registers, nr: int, args: Sequence[int]) -> bool:
        """The last descriptor of the mailbox goes: its messages go first."""
        mail = p.post.mail
        if mail is None or mail.own_fd < 0 or not self._will_close(p, nr, args):
            return False
        mail.own_fd = -1
        mail.regs, mail.asked = copy_regs(regs), True

        def closed() -> None:
            mail.regs, mail.asked = None, False
            if p.pid in self.tracer.programs:
                p.task.cont()

        self.desk.close(mail, closed)
        return True

    def _will_close(self, p: Program, nr: int, args: Sequence[int]) -> bool:
        mine = self.own_descriptors(p)
        is_open = nr == SYS_CLOSE or bool(_exists(p.pid, args[0] & 0xFFFFFFFF))
        return bool(mine) and not calls.survivors(nr, args, mine, is_open)

    def own_descriptors(self, p: Program) -> list[int]:
        own = Endpoint(*self.mail_of(p).key, own=True)
        return [fd for fd, found in self.table(p.pid).items() if found.place == own]

    def stopped(self, p: Program, status: Status) -> None:
        """Any stop of a program at home that may have ended its waiting."""
        mail = p.post.mail
        if mail is not None and mail.waits and status.stop in (Stop.SIGNAL, Stop.TRAP, Stop.GROUP):
            mail.leave_wait()

    # ------------------------------------------------------------------ family

    def inherited(self, p: Program, q: Program) -> list[int]:
        """After fork: the child's senders work, the mailbox is not its own. Which descriptors it must close."""
        if p.post.mail is None:
            return []
        self.mail_of(q).filtered = p.post.mail.filtered
        if p.post.mail.own_fd < 0:
            return []
        return [fd for fd, found in self.table(q.pid).items() if found.place.own]

    @staticmethod
    def disinherit(task: Task, fds: Sequence[int], **session: Any) -> None:
        """Close what a child must not have; its registers are as before."""
        regs = copy_regs(task.peek_regs())
        with Calls(task, **session) as call:
            for fd in fds:
                call(SYS_CLOSE, fd)
        if not session:
            regs.orig_rax = NOTHING
            task.set_regs(regs)

    def exec_done(self, p: Program) -> None:
        """Close-on-exec may have closed the mailbox; the filter's address means nothing in the new program."""
        mail = p.post.mail
        if mail is None:
            return
        self._renumbers(p)
        mail.changed_program()
        if mail.own_fd >= 0 and not self.own_descriptors(p):
            mail.own_fd = -1
            self.desk.close(mail, lambda: None)

    def gone(self, p: Program) -> None:
        if p.post.mail is not None:
            self.desk.gone(p.post.mail.key)
            if p.post.mail in self.lingering:
                self.lingering.remove(p.post.mail)

    # ------------------------------------------------------------------ away

    def changed(self, p: Program, nr: int) -> None:
        """A forwarded call of `calls.CHANGING` has been made: tell the host."""
        if p.post.mail is not None and nr in calls.CHANGING:
            self.tell(p)

    def closing_away(self, p: Program, deputy: Deputy, request: Request) -> bool:
        """As `_closing`: True if the deputy makes the call later, when the office has answered."""
        mail = p.post.mail
        if mail is None or mail.own_fd < 0 or not self._will_close(p, request.nr, request.args):
            return False
        mail.own_fd = -1

        def closed() -> None:
            # a program that came home meanwhile makes the call again, there
            if p.deputy is deputy:
                deputy.when_ready(lambda: deputy.start(request))

        self.desk.close(mail, closed)
        self.tracer.deputies.watch(p)
        return True

    def tell(self, p: Program, link: Any = None) -> None:
        """Give the host the table of the program's descriptors, if it has another one. ``link``: a new host."""
        mail = p.post.mail
        if mail is None:
            return
        entries = [(fd, *found.place, found.nonblocking) for fd, found in self.table(p.pid).items()]
        uid, gid = mail.owner
        table = MailTable(entries, self.home, uid, gid, mail.filter_at)
        if link is None and table == mail.told:
            return
        mail.told = table
        payload = msgspec.msgpack.encode(table)
        if link is None:
            self.tracer.hosts.send(p, Kind.MAIL_TABLE, payload)
            return
        try:
            link.channel.send(Kind.MAIL_TABLE, p.pid, payload)
        except ChannelLost:
            self.tracer.hosts.link_lost(link)

    def seen(self, p: Program, filter_at: int, last: LastMessage | None) -> None:
        """What the host knows newer than we: address of the filter, last message read.

        A mailbox that is closed, or is about to be (`closing_away`), has no filter any more: a program that leaves its host in the
        middle of that close(2) brings along what it has not heard of yet.
        """
        if p.post.mail is not None:
            p.post.mail.filter_at = filter_at if p.post.mail.own_fd >= 0 else 0
            p.post.mail.told = None
        if last is not None:
            p.post.last = last


def _exists(pid: int, fd: int) -> bool:
    return os.path.lexists(f"/proc/{pid}/fd/{fd}")


def _owner(pid: int) -> tuple[int, int]:
    """Effective user and group of a process."""
    try:
        users, groups = words_of(pid, "Uid", "Gid")
    except TaskGone:
        return (-1, -1)
    return int(users[1]), int(groups[1])
