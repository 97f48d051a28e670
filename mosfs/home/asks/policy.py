"""Carrying out `calls.policy` on a program at home, and on one that is away (its deputy speaks for it)."""

from __future__ import annotations

import errno
import os
import select
import signal
from collections.abc import Callable
from contextlib import suppress

from mosfs.abi.args import as_c_int
from mosfs.abi.flags import MAP_ANONYMOUS, MAP_SHARED, NAMESPACES, PROT_WRITE
from mosfs.abi.numbers import (
    SYS_MMAP,
    SYS_MPROTECT,
    SYS_MREMAP,
    SYS_PKEY_MPROTECT,
    SYS_PROCESS_VM_READV,
    SYS_PROCESS_VM_WRITEV,
    SYS_PTRACE,
    SYS_UNSHARE,
    SYS_WRITE,
)
from mosfs.abi.reasons import Reason
from mosfs.abi.syscalls import Syscall
from mosfs.abi.texts import Text, text
from mosfs.calls import cputime
from mosfs.calls.low import Guarded, carry_out, guarded
from mosfs.calls.policy import SERVE, Do, Unsupported, Verdict, advice, judge, judge_away, makes_thread, private
from mosfs.cluster.words import told
from mosfs.home.ports import Tree
from mosfs.home.process.descriptors import access_of, is_dispensable, is_regular, name_of
from mosfs.home.process.move import Move
from mosfs.home.process.program import Program
from mosfs.home.process.registers import arguments
from mosfs.migrate.capture import signed
from mosfs.migrate.properties import SAYING
from mosfs.migrate.rebuild import take_pending
from mosfs.migrate.remap import remap
from mosfs.native.registers import Registers
from mosfs.trace import layout
from mosfs.trace.caller import rights_of
from mosfs.trace.inject import Calls
from mosfs.trace.proc import status_sets
from mosfs.trace.taken import anything, take, write_once
from mosfs.trace.task import copy_regs

#: Calls that reach the memory of a process by its PID.
_OF_MEMORY = frozenset({SYS_PROCESS_VM_READV, SYS_PROCESS_VM_WRITEV})
#: Why it stays who has slept until CPU time was used: it may do so again, and away nobody would count what its threads use.
_CPU_SLEEP = "it sleeps by a clock of CPU time"
#: Seconds that a reader of a program's standard error may take.
READER = 0.5
#: What a write that fails sends to who has made it (write(2)).
_SENT_BY = {-errno.EPIPE: signal.SIGPIPE, -errno.EFBIG: signal.SIGXFSZ}


def _last_line(message: str) -> bytes:
    return f"mosrun: {message}\n".encode("utf-8", "backslashreplace")


def _alone(p: Program, row: Syscall, args: tuple[int, ...]) -> bool:
    """The call gives descriptors of its own to the only thread of a process, which has them already, or nothing at all."""
    return row.nr == SYS_UNSHARE and not args[0] & NAMESPACES and not p.several


class Policy:
    def __init__(self, tracer: Tree) -> None:
        self.tracer = tracer

    def mode(self, p: Program) -> Unsupported:
        return Unsupported(max(self.tracer.family.process(p).settings.unsupported, 0))

    def trapped(self, p: Program, row: Syscall, regs: Registers) -> None:
        """A trapped call at home, other than an open."""
        args = arguments(regs)
        if row.nr in SAYING:
            p.process.said.hear(row.nr, args)
        if (found := guarded(row.nr, args)) is not None:
            self.guard(p, regs, found)
            return
        if cputime.sleeps(row.nr, args):
            self.bind(p, _CPU_SLEEP)
        if row.nr == SYS_MREMAP and p.process.pieced:
            self._remap(p, regs, args)
            return
        if self._shares(p, row, args) and self._share(p, regs, anonymous=bool(args[3] & MAP_ANONYMOUS)):
            return
        verdict = self._of_memory(row, args[0]) if row.nr in _OF_MEMORY else judge(row, args)
        if verdict.do in (Do.SERVE, Do.HOME) or self._allowed(p, row, args):
            self.tracer.stops.serve(p)
        elif verdict.do is Do.ANSWER:
            self.tracer.stops.answer(p, regs, verdict.result or self.tracer.filters.mode(p))
        elif self._dispensable(p, row, args):
            self.tracer.stops.answer(p, regs, -errno.ENODEV)
        elif self.mode(p) is Unsupported.STAY_HOME:
            if verdict.message:
                self.bind(p, verdict.message + self._shown(p, row, args))
            if self.tracer.filters.asked(p, row, regs):
                return
            if row.nr == SYS_PTRACE:
                self.tracer.debugged.asked(p, regs)
            else:
                self.tracer.stops.serve(p)
        elif verdict.do is Do.PRIVATE and (not verdict.message or self.mode(p) is not Unsupported.KILL):
            self.tracer.stops.make_with(p, regs, "r10", private(regs.r10))
        else:
            self._refuse_at_home(p, regs, self._device(p, row, args) or verdict.message, advice(row, args))

    def _allowed(self, p: Program, row: Syscall, args: tuple[int, ...]) -> bool:
        """This program may make the call at home, or the kernel says why not."""
        return self._thread(p, row, args) or self._shared_file(p, row, args) != 0 or _alone(p, row, args)

    def _of_memory(self, row: Syscall, pid: int) -> Verdict:
        """A program's call at home that reaches the memory of the process ``pid``: its own, or of one of its tree which is here.
        Of one that has ended the kernel says that."""
        other = self.tracer.programs.get(as_c_int(pid))
        if other is None and os.path.exists(f"/proc/{as_c_int(pid)}"):
            return Verdict(Do.REFUSE, message=text(Text.SYSCALL, name=row.name))
        return Verdict(Do.ANSWER, -errno.EPERM) if other is not None and other.away else SERVE

    def guard(self, p: Program, regs: Registers, found: Guarded) -> None:
        """A call at home that would change our pages in the program's memory."""
        kept = copy_regs(regs)
        with Calls(p.task) as call:
            result = carry_out(found, signed(kept.orig_rax), arguments(kept), call)
        self.tracer.stops.answer(p, kept, result)

    def _remap(self, p: Program, regs: Registers, args: tuple[int, ...]) -> None:
        kept = copy_regs(regs)
        with Calls(p.task) as call:
            result = remap(call, args, said=p.process.said.calls > 0)
        self.tracer.stops.answer(p, kept, result)

    def _shares(self, p: Program, row: Syscall, args: tuple[int, ...]) -> bool:
        """The call maps memory that may move with all that share it."""
        return row.nr == SYS_MMAP and not self._dispensable(p, row, args) and self.tracer.shared.maps(p, args)

    def _share(self, p: Program, regs: Registers, *, anonymous: bool) -> bool:
        """Memory that can move with all that share it. False: it cannot, and is what it would be without --share-memory."""
        kept = copy_regs(regs)
        result = self.tracer.shared.mapped(p, kept)
        if result is None and (self.mode(p) is Unsupported.STAY_HOME or not anonymous):
            return False
        self.tracer.stops.answer(p, kept, -errno.ENOMEM if result is None else result)
        return True

    def illegal(self, p: Program, regs: Registers, number: int) -> None:
        self._refuse_at_home(p, regs, text(Text.ILLEGAL_CALL, number=number))

    def _thread(self, p: Program, row: Syscall, args: tuple[int, ...]) -> bool:
        """The call makes a thread in a program that may have some: under mosrun --no-threads it may not."""
        return makes_thread(row.nr, args) and self.tracer.family.process(p).settings.allows_threads()

    def _dispensable(self, p: Program, row: Syscall, args: tuple[int, ...]) -> bool:
        """The call of a program with several threads maps a file for others to look at: without it the program can move."""
        if row.nr != SYS_MMAP or not args[3] & MAP_SHARED or args[3] & MAP_ANONYMOUS or not p.several:
            return False
        process = self.tracer.family.process(p)
        return process.settings.allows_threads() and is_dispensable(p.pid, as_c_int(args[4]), process.pid)

    @staticmethod
    def _shared_file(p: Program, row: Syscall, args: tuple[int, ...]) -> int:
        """A shared mapping of a file, which is not to be written: the errno of mmap(2) if the kernel refuses it; -1 if it shows a
        regular file: then it is the kernel's, and mprotect(2), too, which may make it writable only at home. 0: another call."""
        if row.nr != SYS_MMAP or not args[3] & MAP_SHARED or args[3] & MAP_ANONYMOUS:
            return 0
        access = access_of(p.pid, as_c_int(args[4]))
        if access < 0:
            return -access
        if access == os.O_WRONLY or (access == os.O_RDONLY and args[2] & PROT_WRITE):
            return errno.EACCES
        if args[2] & PROT_WRITE:
            return 0
        return -1 if is_regular(p.pid, as_c_int(args[4])) else 0

    @staticmethod
    def _shown(p: Program, row: Syscall, args: tuple[int, ...]) -> str:
        """Which file a call maps, to be added to what is told about it; "" if it maps none."""
        if row.nr != SYS_MMAP or args[3] & MAP_ANONYMOUS:
            return ""
        name = name_of(p.pid, as_c_int(args[4]))
        return f" ({name})" if name else ""

    def bind(self, p: Program, message: str) -> None:
        """From now on the program stays at home, until it executes another."""
        process = self.tracer.family.process(p)
        process.travel.bound = told(f"{Reason.STAYS_HOME}{message}")
        self.tracer.mosd.announce(process)

    def _device(self, p: Program, row: Syscall, args: tuple[int, ...]) -> str:
        """The text for mapping a device; "" if that is not what the call does."""
        of_file = row.nr == SYS_MMAP and not args[3] & MAP_ANONYMOUS
        return text(Text.MAP_DEVICE) if of_file and p.has_device(as_c_int(args[4])) else ""

    def _refuse_at_home(self, p: Program, regs: Registers, message: str, hint: str = "") -> None:
        mode = self.mode(p)
        kept = copy_regs(regs)
        if mode is not Unsupported.QUIET:
            self._tell(p, mode, message, hint)
        if mode is Unsupported.KILL:
            os.kill(p.pid, signal.SIGKILL)
            return
        self.tracer.stops.answer(p, kept, -errno.ENOSYS)

    def away(self, p: Program, row: Syscall | None, number: int, args: tuple[int, ...], done: Callable[[int], None]) -> bool:
        """A call that the body's host would not serve by itself. True if it was decided here; False: make it as usual."""
        if row is None:
            return self._refuse_away(p, text(Text.ILLEGAL_CALL, number=number), done)
        if row.nr in (SYS_MPROTECT, SYS_PKEY_MPROTECT):  # a file becomes writable memory, which can be at home only
            return self.come_home(p, done)
        if self._shares(p, row, args) or row.nr in _OF_MEMORY:
            return self.come_home(p, done, returns=True)
        verdict = judge_away(row, args)
        if verdict.do is Do.SERVE or _alone(p, row, args):
            return False
        if verdict.do is Do.ANSWER:
            done(verdict.result or self.tracer.filters.mode(p))
            return True
        if self._thread(p, row, args):
            return self.come_home(p, done, returns=True)
        if verdict.do is Do.HOME:
            return self.come_home(p, done)
        if (error := self._shared_file(p, row, args)) > 0:
            done(-error)
            return True
        if verdict.do is Do.PRIVATE and self.mode(p) in (Unsupported.QUIET, Unsupported.WARN):
            done(0)  # the host maps it
            return True
        if self._dispensable(p, row, args):
            done(-errno.ENODEV)
            return True
        return self._refuse_away(p, self._device(p, row, args) or verdict.message, done, advice(row, args))

    def refuse_device(self, p: Program, done: Callable[[int], None]) -> None:
        """A private mapping away of a device, whose memory cannot be there."""
        self._refuse_away(p, text(Text.MAP_DEVICE), done)

    def _refuse_away(self, p: Program, message: str, done: Callable[[int], None], hint: str = "") -> bool:
        mode = self.mode(p)
        if mode is Unsupported.STAY_HOME:
            return self.come_home(p, done)  # where it is bound by `trapped`
        if mode is not Unsupported.QUIET:
            self._tell(p, mode, message, hint)
        if mode is Unsupported.KILL:
            os.kill(p.pid, signal.SIGKILL)
        else:
            done(-errno.ENOSYS)
        return True

    def come_home(self, p: Program, done: Callable[[int], None], *, returns: bool = False) -> bool:
        """The program comes home with this call still to be made, and makes it there; if it cannot come, the call fails.

        ``returns``: then it goes back to where it was, unless somebody has other plans for it."""
        process = self.tracer.family.process(p)
        back = p.link.ip if returns and p.link is not None else ""

        def ended(reason: str) -> None:
            if reason and p.away and process.move is None:  # not superseded by another move, which takes the call along
                done(-errno.ENOMEM)
            elif back and not reason and not p.away and process.travel.wanted is None:
                self.tracer.moves.request(process, Move(back, back))

        self.tracer.moves.request(process, Move("", "home", done=ended, escapes=True))
        return True

    def _tell(self, p: Program, mode: Unsupported, message: str, hint: str) -> None:
        """The message, and once a program and hint also what to do about it."""
        self.say(p, message)
        if hint and hint not in p.reports.advised:
            p.reports.advised = p.reports.advised | {hint}
            self.say(p, hint)

    def say(self, p: Program, message: str) -> None:
        """A line on the program's own standard error, if somebody reads it there soon: the whole tree would wait.

        Precondition: its task at home is stopped."""
        line = _last_line(message)
        base, mask = (p.deputy.base, p.deputy.mask) if p.deputy is not None else (None, None)
        with Calls(p.task, base=base, mask=mask) as call:
            sets = status_sets(p.pid)
            p.task.write(layout.SCRATCH, line)
            sent = _SENT_BY.get(call.within(READER, SYS_WRITE, 2, layout.SCRATCH, len(line)))
            if sent is not None and not (sets["SigPnd"] | sets["ShdPnd"]) >> (sent - 1) & 1:
                take_pending(call, {sent})  # it was our write

    def say_beside(self, p: Program, message: str) -> None:
        """The same when its task at home does not stop: we write, with its rights, if its standard error takes a line at once."""
        with suppress(OSError):
            fd = take(p.pid, 2, anything)
            try:
                poller = select.poll()
                poller.register(fd, select.POLLOUT)
                if any(events & select.POLLOUT for _, events in poller.poll(0)):
                    with rights_of(p.pid)():
                        write_once(fd, _last_line(message))
            finally:
                os.close(fd)
