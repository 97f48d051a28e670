"""Private temporary files of programs at home: calls on their names and descriptors, and limits (`carrier`: moves).

The program has real descriptors of nameless files that we make and hand over, so reading, writing, sharing and closing are the
kernel's. Names are ours (`ptf.store`). Writes stop in the tracer, but pass there without Python until so much was written that the
files must be counted again (`mos_grant`).

While the program is away its descriptors here stand for open files whose contents its host has.
"""

from __future__ import annotations

import errno
import os
import signal

from mosfs.abi.args import as_c_int
from mosfs.abi.flags import MAP_ANONYMOUS
from mosfs.abi.numbers import SYS_CLOSE, SYS_MMAP, SYS_PWRITE64, SYS_PWRITEV2, SYS_WRITE, SYS_WRITEV
from mosfs.abi.texts import Text, text
from mosfs.home.asks.disk_space import DiskSpace
from mosfs.home.ports import NoPrivateSpace, Tree
from mosfs.home.process.deputy import Deputy
from mosfs.home.process.descriptors import (
    descriptors_of,
    hand_over,
    install_filter,
    opened_of,
    put,
    vector_size,
)
from mosfs.home.process.program import Holdings, Program
from mosfs.home.process.registers import arguments
from mosfs.migrate.capture import user_regs
from mosfs.migrate.opened import description_of
from mosfs.native import ffi
from mosfs.native.registers import Registers
from mosfs.ptf import directories, service
from mosfs.ptf.rules import FD_CALLS, OPENS, PATH_CALLS, RULES, Act, Rule
from mosfs.ptf.store import File, Quota, Store, grant, reopened
from mosfs.trace.filter import trap_filter
from mosfs.trace.inject import Calls
from mosfs.trace.proc import umask_of
from mosfs.trace.stops import Stop
from mosfs.trace.task import copy_regs
from mosfs.wire.messages import PrivateFile

#: What the filters let stop (`Program.filters.private`).
PATHS, DESCRIPTORS = 1, 2


def path_filter() -> bytes:
    return trap_filter(PATH_CALLS)


def descriptor_filter() -> bytes:
    return trap_filter(FD_CALLS, ((SYS_MMAP, (3, MAP_ANONYMOUS, 0)),))


class Private:
    def __init__(self, tracer: Tree) -> None:
        self.tracer = tracer
        self.space = DiskSpace(tracer)
        for nr in OPENS | PATH_CALLS:
            tracer.pump.paths[nr] = sum(1 << i for i in RULES[nr].paths)

    # ------------------------------------------------------------------ life of a process

    def embarked(self, p: Program, fetched: bytes) -> None:
        """Calls can be made in the new program: what it needs from the kernel. ``fetched``: from `fetch`."""
        if not fetched and (not p.settings.private or p.process.native or p.filters.private):
            return
        stay = copy_regs(p.task.peek_regs())
        try:
            with Calls(p.task) as call:
                if not p.filters.private:
                    install_filter(call, path_filter())
                    p.filters.private = PATHS
                if fetched:
                    self.tracer.carrier.arrive(call, p, fetched, None)
        except NoPrivateSpace:
            self.tracer.policy.say(p, text(Text.NO_PRIVATE_SPACE))
            os.kill(p.pid, signal.SIGKILL)
        p.task.set_regs(stay)
        if fetched:
            self.tracer.carrier.arrived(p)

    def exec_done(self, p: Program) -> None:
        """A new program in the same process: it keeps its files, unless it was given other directories."""
        wanted = directories.split(p.settings.private) if not p.process.native else ()
        if p.private is None:
            if not wanted:
                return
            p.private = Holdings(Store(wanted, closes=self.space.close))
        own = p.private
        if own.store.directories != wanted:
            own.store.directories = wanted
            for name in list(own.store.names):
                own.store.unlink(name)
        self._watch_directories(wanted)
        self.announce(p, own)
        self.grant(p, own)

    def adopted(self, p: Program) -> None:
        """From a tracer that died, which knew the names: what is open stays open, but is an ordinary file now."""
        if p.settings.private:
            p.filters.private = DESCRIPTORS
            self.exec_done(p)

    def _watch_directories(self, wanted: tuple[bytes, ...]) -> None:
        """In C, calls on names below these are not ordinary any more. When there is no room in the table, no call is."""
        pump = self.tracer.pump
        for name in wanted:
            prefix = name[:63]
            known = [ffi.string(pump.dirs[i]) for i in range(pump.ndirs)]
            if prefix in known:
                continue
            if pump.ndirs == len(pump.dirs):
                pump.pass_opens = 0
                return
            pump.dirs[pump.ndirs] = prefix
            pump.ndirs += 1

    def forked(self, parent: Program, child: Program, *, thread: bool) -> None:
        """Files belong to the process that made them: a child begins with none, and without its parent's descriptors of them."""
        child.filters.private = parent.filters.private
        own = parent.private
        if own is None:
            return
        if thread:
            child.private = own
            return
        store = Store(own.store.directories, closes=self.space.close)
        child.private = Holdings(store, away=own.away, inherited=dict(own.inodes))

    def born(self, p: Program) -> None:
        """The first stop of a child at home."""
        stay = user_regs(p.task.peek_regs(), Stop.TRAP)
        with Calls(p.task) as call:
            self._close_inherited(call, p)
        p.task.set_regs(stay)

    def born_away(self, p: Program, deputy: Deputy) -> None:
        with Calls(p.task, base=deputy.base, mask=deputy.mask) as call:
            self._close_inherited(call, p)

    def _close_inherited(self, call: Calls, p: Program) -> None:
        if p.private is not None:
            inherited, p.private.inherited = p.private.inherited, None
            for fd in descriptors_of(p.pid, inherited or {}):
                call(SYS_CLOSE, fd)

    def forget(self, p: Program) -> None:
        """The process is gone, and its files with it."""
        self.tracer.carrier.forget(p)
        own, p.private = p.private, None
        if own is not None and all(q.private is not own for q in self.tracer.programs.values()):
            own.close()

    # ------------------------------------------------------------------ what mosd shows

    def announce(self, p: Program, own: Holdings) -> None:
        for name, fd in own.store.log:
            self.tracer.mosd.send(PrivateFile(self.tracer.family.process(p).pid, name, fd))
        own.store.log.clear()

    def announce_all(self, p: Program) -> None:
        """Tell a mosd that knows nothing yet of all its private files."""
        if p.private is not None and not p.kin.leader:
            p.private.store.log.clear()
            for name, file in p.private.store.names.items():
                self.tracer.mosd.send(PrivateFile(p.pid, name, file.fd))

    # ------------------------------------------------------------------ calls at home

    def quota(self) -> Quota:
        """Of programs at home. The first program may be faster than mosd's Config."""
        tracer = self.tracer
        tracer.mosd.configured()
        return Quota.of(tracer.mosd.config.private, "O")

    def trapped(self, p: Program, regs: Registers, nr: int) -> bool:
        """A call that stopped; True if it was about private files and is dealt with."""
        own = p.private
        rule = RULES.get(nr)
        if own is None or rule is None:
            return False
        args = arguments(regs)
        if rule.paths:
            outcome = service.by_path(own.store, rule, args, p.task)
            if outcome is None:
                return False
            if isinstance(outcome, service.Answer):
                self._answer(p, own, regs, outcome)
                return True
            if isinstance(outcome, service.Open):
                self._open(p, own, regs, outcome)
                return True
        return self._on_descriptor(p, own, regs, rule, args)

    def _answer(self, p: Program, own: Holdings, regs: Registers, answer: service.Answer) -> None:
        result = answer.result
        if answer.data:
            try:
                p.task.write(answer.at, answer.data)
            except OSError:
                result = -errno.EFAULT
        self.announce(p, own)
        self.tracer.stops.answer(p, regs, result)

    def _open(self, p: Program, own: Holdings, regs: Registers, order: service.Open) -> None:
        kept = copy_regs(regs)
        store = own.store
        store.quota = self.quota()
        made = False
        try:
            file, made = service.opened(store, order, lambda: umask_of(p.pid))
            ours = reopened(file, order.flags, 0)
            try:
                with Calls(p.task) as call:
                    self.install_filter(call, p)
                    result = hand_over(call, ours, cloexec=bool(order.flags & os.O_CLOEXEC))
            finally:
                os.close(ours)
            if not made and service.truncates(order):
                os.ftruncate(file.fd, 0)
            own.inodes[file.inode] = file.number
        except OSError as error:
            result = -(error.errno or errno.EIO)
            if made:
                if file.name is not None:
                    store.unlink(file.name)
                store.discard(file)
        self.announce(p, own)
        self.grant(p, own)
        self.tracer.stops.answer(p, kept, result)

    def install_filter(self, call: Calls, p: Program) -> None:
        """From its first private file on, the program's calls on descriptors stop, too."""
        if p.filters.private >= DESCRIPTORS:
            return
        install_filter(call, descriptor_filter())
        p.filters.private = DESCRIPTORS

    def _file(self, p: Program, own: Holdings, fd: int) -> File | None:
        """The private file behind a descriptor. The kernel's table is the truth."""
        if not own.inodes:
            return None
        try:
            found = os.stat(f"/proc/{p.pid}/fd/{fd}")
        except OSError:
            return None
        return own.store.files.get(own.inodes.get((found.st_dev, found.st_ino), -1))

    def _on_descriptor(self, p: Program, own: Holdings, regs: Registers, rule: Rule, args: tuple[int, ...]) -> bool:
        if rule.nr == SYS_MMAP and args[3] & MAP_ANONYMOUS:
            return False
        files = [file for i in rule.fds or (0,) if (file := self._file(p, own, as_c_int(args[i]))) is not None]
        if not files:
            self.grant(p, own)
            return False
        file = files[0]
        try:
            match rule.act:
                case Act.REFUSED:
                    answer = service.Answer(-rule.errno)
                case Act.WRITE:
                    return self._write(p, own, regs, rule, args, file)
                case Act.STAT:
                    answer = service.on_file(rule, file, args[2 if rule.paths else 1])
                case Act.STATX:
                    answer = service.on_file(rule, file, 0, args[4])
                case Act.CHMOD:
                    answer = service.on_file(rule, file, args[2 if rule.paths else 1])
                case _:
                    return False
        except OSError as error:
            answer = service.Answer(-(error.errno or errno.EIO))
        self._answer(p, own, regs, answer)
        return True

    # ------------------------------------------------------------------ limits at home

    def grant(self, p: Program, own: Holdings, reserved: int = 0) -> None:
        entry = self.tracer.pump.grants[p.pid & 63]
        entry.none = not own.inodes or not descriptors_of(p.pid, own.inodes)
        entry.bytes = max(0, grant(own.store.used(), own.store.on_disk, own.store.quota) - reserved)
        entry.pid = p.pid if p.post.mail is None else 0  # a write may be a message

    def _write(self, p: Program, own: Holdings, regs: Registers, rule: Rule, args: tuple[int, ...], file: File) -> bool:
        store = own.store
        size = args[2] if rule.nr in (SYS_WRITE, SYS_PWRITE64) else vector_size(p.task, args)
        if size >> 63:
            return False  # the kernel says EINVAL
        at = self._position(p, rule, args, file)
        if any(other.name is None for other in store.files.values()):
            self.reap(p, own)
        try:
            moved = store.reserve(file, at, size)
        except OSError:
            self.tracer.stops.answer(p, regs, -errno.ENOSPC)
            return True
        if not moved:
            self.grant(p, own, min(size, file.growth(at, size)))
            return False  # the kernel writes
        again = user_regs(regs, Stop.SECCOMP)
        with Calls(p.task) as call:
            self._replace(call, p, own, moved)
        self.announce(p, own)
        self.grant(p, own)
        p.task.set_regs(again)
        p.task.cont()
        return True

    def _position(self, p: Program, rule: Rule, args: tuple[int, ...], file: File) -> int:
        """Where a write will begin."""
        offset = args[3]
        if rule.nr in (SYS_WRITE, SYS_WRITEV) or (rule.nr == SYS_PWRITEV2 and offset == 0xFFFF_FFFF_FFFF_FFFF):
            position, flags = description_of(p.pid, as_c_int(args[0]))
            return file.stat().st_size if flags & os.O_APPEND else position
        return offset

    def reap(self, p: Program, own: Holdings) -> None:
        """Forget files that have neither a name nor a descriptor any more."""
        opened = {own.inodes[inode] for inode in descriptors_of(p.pid, own.inodes).values()}
        own.store.discard_unless(opened)
        own.inodes = {inode: number for inode, number in own.inodes.items() if number in own.store.files}

    def reap_all(self) -> None:
        """Once a second: what was closed takes no space any more."""
        for p in list(self.tracer.programs.values()):
            own = p.private
            if own is not None and not own.away and any(file.name is None for file in own.store.files.values()):
                with self.tracer.containment.of(p):
                    self.reap(p, own)

    def _replace(self, call: Calls, p: Program, own: Holdings, moved: list[tuple[File, int]]) -> None:
        """The files are on disk now: the program's descriptors follow."""
        for file, old in moved:
            found = os.fstat(old)
            inode = (found.st_dev, found.st_ino)
            for entry in opened_of(p.pid, {inode: file.number}):
                put(call, own.store, entry)
            own.inodes.pop(inode, None)
            own.inodes[file.inode] = file.number
            os.close(old)
