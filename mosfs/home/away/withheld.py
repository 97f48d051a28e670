"""Descriptors of shared memory that is a file (docs/design/shared-memory.md): nobody has one while that memory is away.

Where a program that leaves has such a file open, its deputy has a placeholder instead (open(2), O_PATH), by which nothing can be
read, written or mapped; we keep the open file itself until all stand that share the memory. Then we close it, too, and ask the
kernel for a write lease (fcntl(2)): it is granted only if no open file is left in the whole system but that by which the memory is
mapped. While it is held, whoever opens the file waits until the memory is at home again, and finds what its programs have written.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from mosfs.abi import commands
from mosfs.abi.args import Kind, as_c_int
from mosfs.abi.numbers import SYS_CLOSE, SYS_FCNTL, SYS_POLL, SYS_PPOLL, SYS_SENDMMSG, SYS_SENDMSG
from mosfs.abi.syscalls import BY_NR
from mosfs.calls.request import Request
from mosfs.home.ports import Tree
from mosfs.home.process.descriptors import put_ours
from mosfs.home.process.move import Move
from mosfs.home.process.objects import Object, why
from mosfs.home.process.program import Program
from mosfs.migrate.maps import CannotMove
from mosfs.migrate.opened import description_of, descriptors
from mosfs.native import lib
from mosfs.trace.caller import as_user, rights_of
from mosfs.trace.inject import Calls
from mosfs.trace.proc import descriptor_facts
from mosfs.trace.taken import take
from mosfs.trace.task import TaskGone
from mosfs.wire.room import to_keep

#: Of fcntl(2), what is about a descriptor, and not about what it is one of.
_COMMANDS = frozenset({commands.F_DUPFD_CLOEXEC, fcntl.F_GETFD})
#: struct pollfd; struct msghdr up to msg_controllen; bytes of struct mmsghdr.
_POLLFD, _MSGHDR, _MMSGHDR = struct.Struct("<ihh"), struct.Struct("<40xQ"), 64
#: What can be set of an open file besides how it is opened.
_FLAGS = os.O_APPEND | os.O_NONBLOCK | os.O_NOATIME | os.O_DIRECT | os.O_SYNC
COMES_HOME = "another program opens the memory that it shares"


@dataclass(slots=True, eq=False)
class Withheld:
    """An open file of programs. ``fd``: our copy, -1 while the memory is away; then ``position`` and ``flags`` are what it was.
    ``placeholder``: what they have instead."""

    made: Object
    fd: int
    placeholder: int
    position: int = 0
    flags: int = 0

    def let_go(self) -> None:
        """Close it: nobody has it open any more."""
        if self.fd >= 0:
            self.position, self.flags = description_of(os.getpid(), self.fd)
            os.close(self.fd)
            self.fd = -1

    def again(self) -> int:
        """Our copy; the file is opened anew as it was, if it has been let go. OSError."""
        if self.fd < 0:
            flags = self.flags & (os.O_ACCMODE | _FLAGS)
            self.fd = _open_again(self.made.fd, flags | os.O_CLOEXEC)
            os.lseek(self.fd, self.position, os.SEEK_SET)
        return self.fd

    def close(self) -> None:
        os.close(self.placeholder)
        if self.fd >= 0:
            os.close(self.fd)


def _open_again(fd: int, flags: int) -> int:
    """The file that ``fd`` is one of, also if its mode lets nobody open it any more (fchmod(2)). OSError."""
    name = f"/proc/self/fd/{fd}"
    try:
        return os.open(name, flags)
    except PermissionError:
        mode = stat.S_IMODE(os.fstat(fd).st_mode)
        os.fchmod(fd, mode | stat.S_IRUSR | stat.S_IWUSR)
        try:
            return os.open(name, flags)
        finally:
            os.fchmod(fd, mode)


class Descriptors:
    def __init__(self, tracer: Tree) -> None:
        self.tracer = tracer
        self._withheld: list[Withheld] = []
        self._leases: dict[int, Object] = {}  # of what is away, or about to be

    # ------------------------------------------------------------------ leaving

    def withhold(self, p: Program, call: Calls) -> None:
        """``p`` stands, and is to leave: what it has open of such files is replaced. If it leaves alone, nobody else may have any.
        CannotMove; OSError."""
        found: dict[int, tuple[Withheld, list[int]]] = {}
        for fd, made, flags in self._of(p.pid):
            if flags & os.O_PATH:
                continue
            if not p.process.shares or made.number not in self.tracer.groups.objects(p):  # its memory may be elsewhere than this is
                raise CannotMove(why(made, "it has that open, and does not map it"))
            if b"lock" in descriptor_facts(p.pid, fd):
                raise CannotMove(why(made, f"{p.pid} ({p.comm}) has a lock on it"))
            if not flags & os.O_CLOEXEC:
                raise CannotMove(why(made, f"what {p.pid} ({p.comm}) executes would have it open (no FD_CLOEXEC)"))
            one = self._one(p.pid, fd, made)
            found.setdefault(id(one), (one, []))[1].append(fd)
        for one, fds in found.values():
            put_ours(call, one.placeholder, fds)
        if p.move is not None and p.move.together is None:
            self.guard(p, self.tracer.shared.of(p))

    def _of(self, pid: int) -> Iterator[tuple[int, Object, int]]:
        """The descriptors of a process that are of such a file, and how each is open."""
        if not self.tracer.shared.store.opened():
            return
        for fd in descriptors(pid):
            if (made := self.tracer.shared.store.shown_by(pid, fd)) is not None:
                yield fd, made, description_of(pid, fd)[1]

    def _one(self, pid: int, fd: int, made: Object) -> Withheld:
        """The open file of a descriptor, one of which we may have from another process."""
        copy = to_keep(take(pid, fd, lambda copy: os.path.samestat(os.fstat(copy), os.fstat(made.fd))))
        for one in self._withheld:
            if one.fd >= 0 and lib.mos_same_file(os.getpid(), one.fd, copy) == 1:
                os.close(copy)
                return one
        try:
            placeholder = to_keep(os.open(f"/proc/self/fd/{copy}", os.O_PATH | os.O_CLOEXEC))
        except OSError:
            os.close(copy)
            raise
        self._withheld.append(Withheld(made, copy, placeholder))
        return self._withheld[-1]

    def guard(self, p: Program, numbers: Iterable[int]) -> None:
        """All stand that share these objects, ``p`` among them: nobody else may have them open, or open them without our coming
        home. They are its user's files: to him the kernel grants a lease, and we ask with his rights, no more. CannotMove."""
        rights = rights_of(p.pid)
        for made in [made for made in self.tracer.shared.store.objects(numbers) if made.opened]:
            if reason := made.obstacle():
                raise CannotMove(why(made, reason))
            for one in [one for one in self._withheld if one.made is made]:
                one.let_go()
            try:  # SIGIO would end us, SIGURG is ignored: we look once a second. The end of a lease makes it SIGIO again
                fcntl.fcntl(made.fd, fcntl.F_SETSIG, signal.SIGURG)
                with rights():
                    fcntl.fcntl(made.fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
            except OSError as error:
                raise CannotMove(why(made, self._opened_by(made, error))) from error
            self._leases[made.number] = made

    def _opened_by(self, made: Object, error: OSError) -> str:
        if error.errno != errno.EAGAIN:
            return f"nobody can tell who else has it open ({error.strerror})"
        for q in self.tracer.programs.values():
            with suppress(TaskGone):
                if any(one is made and not flags & os.O_PATH for _, one, flags in self._of(q.pid)):
                    return f"{q.pid} ({q.comm}) has it open"
        return "another program has it open"

    # ------------------------------------------------------------------ away

    def concerns(self, p: Program, request: Request) -> bool:
        """Whether a call of a program away needs what it cannot have there: then the call is made at home."""
        nr, args = request.nr, request.args
        row = BY_NR.get(nr)
        if not self._withheld or row is None or nr == SYS_CLOSE:
            return False
        if nr == SYS_FCNTL and as_c_int(args[1]) in _COMMANDS:
            return False
        if any(self.has(p, as_c_int(value)) for arg, value in zip(row.args, args) if arg.kind is Kind.FD):
            return True
        memory = request.memory(1 if nr in (SYS_SENDMSG, SYS_SENDMMSG) else 0) or b""
        if nr in (SYS_POLL, SYS_PPOLL):
            size = len(memory) // _POLLFD.size * _POLLFD.size
            return any(self.has(p, fd) for fd, *_ in _POLLFD.iter_unpack(memory[:size]))
        if nr in (SYS_SENDMSG, SYS_SENDMMSG):  # with control data, which may pass one on
            heads = range(0, len(memory) - _MSGHDR.size + 1, _MMSGHDR)
            return any(_MSGHDR.unpack_from(memory, at)[0] for at in heads) and any(True for _ in self._of(p.pid))
        return False

    def has(self, p: Program, fd: int) -> bool:
        """Whether a descriptor of a program away is one of memory that is away."""
        return bool(self._withheld) and self.tracer.shared.store.shown_by(p.pid, fd) is not None

    def tick(self) -> None:
        """Once a second: whoever waits to open such a file waits for us. Should that take too long, it finds nothing."""
        programs = [p for p in self.tracer.programs.values() if not p.kin.leader] if self._leases else []
        shared = [(p, self.tracer.shared.of(p)) for p in programs]
        moving = any(p.move is not None for p in programs)
        for number, made in list(self._leases.items()):
            holders = [p for p, its in shared if number in its]
            if not holders and not moving:
                self._ended(made)
                continue
            if fcntl.fcntl(made.fd, fcntl.F_GETLEASE) == fcntl.F_WRLCK:
                continue
            if any(p.away for p in holders):
                os.ftruncate(made.fd, 0)
            waiting = [p for p in holders if p.away and p.move is None and p.travel.wanted is None]
            if waiting and len(waiting) == sum(p.away for p in holders):
                self.tracer.moves.request(waiting[0], Move("", "home", why=COMES_HOME))
        if self._withheld and not self._leases and not any(p.away or p.move is not None for p in self.tracer.programs.values()):
            for one in self._withheld:
                one.close()
            self._withheld.clear()

    def numbers(self) -> set[int]:
        """Of the objects of which somebody may have a placeholder."""
        return {one.made.number for one in self._withheld}

    def _ended(self, made: Object) -> None:
        """All have ended who shared it, where they were: who opens it finds nothing, and nobody needs to have it again."""
        self.forget(made)
        for one in [one for one in self._withheld if one.made is made]:
            self._withheld.remove(one)
            one.close()

    def forget(self, made: Object) -> None:
        """Nobody maps this object any more. What it had was lost with those who did, if they were elsewhere."""
        if self._leases.pop(made.number, None) is not None:
            os.ftruncate(made.fd, 0)

    # ------------------------------------------------------------------ at home again

    def stays(self, p: Program, move: Move) -> None:
        """``p``, which has stood for this move, goes on at home. Who has stopped it puts its registers back."""
        if p.process.shares:
            base, mask = (p.deputy.base, p.deputy.mask) if p.deputy is not None else (move.stood.stopped, None)
            with Calls(p.task, base=base, mask=mask) as call:
                self.give_back(p, call)

    def give_back(self, p: Program, call: Calls) -> None:
        """``p`` stands at home, and what it shares is there, too: it has open again what it had. OSError."""
        came = self.tracer.shared.store.objects(self.tracer.shared.of(p) & self._leases.keys())
        for made in came:
            facts = os.fstat(made.fd)
            with suppress(BlockingIOError), as_user(facts.st_uid, facts.st_gid):  # the kernel has ended it, since we were late
                fcntl.fcntl(made.fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        if self._withheld:
            self._put_back(p, call)
        for made in came:  # until then `tick` lets nobody find what was left of it here
            del self._leases[made.number]

    def _put_back(self, p: Program, call: Calls) -> None:
        """Open files in the place of the placeholders of ``p``. OSError."""
        elsewhere = self._leases.keys() - self.tracer.shared.of(p)  # to open one of these would be to wait for ourselves
        found: dict[int, tuple[Withheld, list[int]]] = {}
        for fd, made, flags in self._of(p.pid):
            one = self._by_placeholder(p.pid, fd) if flags & os.O_PATH and made.number not in elsewhere else None
            if one is not None:
                found.setdefault(id(one), (one, []))[1].append(fd)
        for one, fds in found.values():
            put_ours(call, one.again(), fds)

    def _by_placeholder(self, pid: int, fd: int) -> Withheld | None:
        copy = take(pid, fd, lambda _: True)
        try:
            same = (one for one in self._withheld if lib.mos_same_file(os.getpid(), one.placeholder, copy) == 1)
            return next(same, None)
        finally:
            os.close(copy)
