"""Opens of mailboxes and of receivers to write to, at home and away: what a program gets is a socket (docs/design/mailboxes.md)."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable

from mosfs.abi.flags import (
    AF_UNIX,
    O_APPEND,
    O_CLOEXEC,
    O_CREAT,
    O_NONBLOCK,
    PR_SET_NO_NEW_PRIVS,
    SECCOMP_FILTER_FLAG_SPEC_ALLOW,
    SECCOMP_SET_MODE_FILTER,
    SOCK_STREAM,
)
from mosfs.abi.numbers import SYS_PRCTL, SYS_SECCOMP, SYS_SOCKET
from mosfs.calls.request import pack_reply
from mosfs.cluster.address import as_unsigned
from mosfs.home.asks.mail import Mails
from mosfs.home.ports import Tree
from mosfs.home.process.control_calls import Letters
from mosfs.home.process.program import Program
from mosfs.mbox import calls
from mosfs.mbox.calls import Endpoint
from mosfs.mbox.model import ALL_FLAGS
from mosfs.native.registers import Registers
from mosfs.trace import layout
from mosfs.trace.inject import Calls
from mosfs.trace.taken import lone_stream, take
from mosfs.trace.task import copy_regs
from mosfs.wire.frames import Kind


class MailOpens:
    def __init__(self, tracer: Tree, mails: Mails) -> None:
        self.tracer = tracer
        self.mails = mails

    def at_home(self, p: Program, asked: Letters, regs: Registers) -> None:
        kept = copy_regs(regs)

        def done(result: int) -> None:
            if self.tracer.programs.get(p.pid) is p:
                self.tracer.stops.answer(p, kept, result)

        self._open(p, asked, lambda: Calls(p.task), lambda action: action(), done)

    def away(self, p: Program, asked: Letters, mask: int) -> None:
        """The deputy is READY now, but the office's answer may come when it is parked, gone, or asked the same again."""
        deputy = p.deputy
        assert deputy is not None
        self.mails.mail_of(p)

        def session() -> Calls:
            deputy.set_mask(mask)
            return Calls(p.task, base=deputy.base, mask=deputy.mask)

        def ready(action: Callable[[], None]) -> None:
            if p.deputy is deputy:
                deputy.when_ready(action)

        def done(result: int) -> None:
            deputy.ready_since = time.monotonic()
            self.tracer.deputies.watch(p)
            self.mails.tell(p)
            self.tracer.hosts.send(p, Kind.REPLY, pack_reply(result, []))

        self._open(p, asked, session, ready, done)

    def _open(
        self, p: Program, asked: Letters, session: Callable[[], Calls], ready: Callable[[Callable[[], None]], None],
        done: Callable[[int], None],
    ) -> None:  # fmt: skip
        """Serve an open. ``session`` is for calls in the program, when it is ``ready``; ``done`` gets the result, once."""
        if not self.tracer.mosd.configured():
            done(-errno.ENETUNREACH)
            return
        if asked.receiver is None:
            self._open_own(p, asked, session, ready, done)
            return
        place = self._receiver(*asked.receiver)
        if isinstance(place, int):
            done(-place)
        elif not asked.flags & 1:
            done(-errno.EINVAL)
        elif sum(not found.place.own for found in self.mails.table(p.pid).values()) >= calls.MAX_SENDERS:
            done(-errno.EMFILE)
        else:
            place = place._replace(pipe=bool(asked.flags & O_APPEND))
            done(self._make(p, place, asked.flags & (O_CLOEXEC | O_NONBLOCK), session))

    def _receiver(self, address: bytes, number: int) -> Endpoint | int:
        """The mailbox that ``mbox/{address}/{number}`` names; an errno value if there is none."""
        try:
            home = as_unsigned(address.decode())
        except ValueError:
            return errno.ENOENT
        if not 2 <= number <= _pid_max() or not (home in (0, self.mails.home) or self._known(home)):
            return errno.ENOENT
        return Endpoint(home or self.mails.home, number)

    def _known(self, home: int) -> bool:
        config = self.tracer.mosd.config
        return any(first <= home < first + count for first, count in (*config.cluster, *config.partners))

    def _open_own(
        self, p: Program, asked: Letters, session: Callable[[], Calls], ready: Callable[[Callable[[], None]], None],
        done: Callable[[int], None],
    ) -> None:  # fmt: skip
        flags = asked.value & 0xFFFFFFFF if asked.flags & O_CREAT else -1
        if flags & ~ALL_FLAGS and flags != -1:
            done(-errno.EINVAL)
            return
        mail = self.mails.mail_of(p)
        mail.opening = token = object()
        mail.asked = True

        def opened(result: int) -> None:
            if mail.opening is token:
                mail.asked = False
                ready(lambda: proceed(result))

        def proceed(result: int) -> None:
            if mail.opening is not token:
                return
            mail.opening = None
            mine = self.mails.own_descriptors(p)
            if result == 0 and not mine:
                place = Endpoint(*mail.key, own=True)
                result = mail.own_fd = self._make(p, place, asked.flags & O_CLOEXEC, session)
            elif result == 0:
                result = mail.own_fd = mail.own_fd if mail.own_fd in mine else mine[0]
            done(result)

        self.mails.desk.open(mail, flags, opened)

    def _make(self, p: Program, place: Endpoint, flags: int, session: Callable[[], Calls]) -> int:
        """The descriptor, in the program; before the first one the filter that makes its calls stop."""
        mail = self.mails.mail_of(p)
        with session() as call:
            if not mail.filtered:
                _install(call)
                mail.filtered = True
                if p.private is not None:
                    self.tracer.private.grant(p, p.private)
            fd: int = call(SYS_SOCKET, AF_UNIX, SOCK_STREAM | flags, 0)
        if fd >= 0:
            try:
                ours = take(p.pid, fd, lone_stream)
            except OSError as error:
                return -(error.errno or errno.EBADF)
            self.mails.places[os.fstat(ours).st_ino] = place
            os.close(ours)
        mail.told = None
        return fd


def _install(call: Calls) -> None:
    program = calls.post_filter()
    at = layout.SCRATCH + 64
    call.task.write(layout.SCRATCH, calls.filter_argument(program, at))
    call.task.write(at, program)
    result = call(SYS_SECCOMP, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, layout.SCRATCH)
    if result == -errno.EACCES:  # it has given its privileges up
        call.must(SYS_PRCTL, PR_SET_NO_NEW_PRIVS, 1)
        result = call(SYS_SECCOMP, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, layout.SCRATCH)
    if result < 0:
        raise OSError(-result, "seccomp")


def _pid_max() -> int:
    with open("/proc/sys/kernel/pid_max", encoding="ascii") as text:
        return int(text.read())
