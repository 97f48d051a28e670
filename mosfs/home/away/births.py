"""Forks and execs of programs that are away: their deputies make them, so PIDs, rights and limits are home's affair."""

from __future__ import annotations

import errno
import struct
import time
from dataclasses import replace

from mosfs.abi.flags import (
    CLONE_FILES,
    CLONE_FS,
    CLONE_IO,
    CLONE_PIDFD,
    CLONE_SIGHAND,
    CLONE_SYSVSEM,
    CLONE_THREAD,
    CLONE_VM,
    ERESTARTNOINTR,
)
from mosfs.abi.numbers import SYS_CLONE, SYS_EXECVEAT
from mosfs.balance.toll import CALLS_OF_A_BIRTH
from mosfs.calls import show
from mosfs.calls.request import Blob, Request
from mosfs.home.ports import Tree
from mosfs.home.process.deputy import Deputy, deputy_of_child
from mosfs.home.process.program import Place, Program
from mosfs.trace import layout
from mosfs.trace.inject import Calls
from mosfs.trace.task import Task
from mosfs.wire.faults import Birth, fault
from mosfs.wire.frames import FORK_REPLY, Kind
from mosfs.wire.orders import ExecOrder, ForkOrder

_CLONE_PASSED = 0xFF | CLONE_PIDFD  # of a fork's flags these concern the deputy: the signal sent at exit, a descriptor
#: And of a thread's: it may have descriptors, or a working directory, of its own.
_OF_THREAD, _OF_THREAD_PASSED = CLONE_VM | CLONE_SIGHAND | CLONE_THREAD, CLONE_FS | CLONE_FILES | CLONE_SYSVSEM | CLONE_IO


class Births:
    def __init__(self, tracer: Tree) -> None:
        self.tracer = tracer

    def fork(self, p: Program, deputy: Deputy, order: ForkOrder) -> None:
        """FORK: the deputy forks, too; the answer is sent when its child is known."""
        p.reports.account.calls += CALLS_OF_A_BIRTH
        if order.flags & CLONE_THREAD:
            self._thread(p, deputy, order)
            return
        wants = bool(order.flags & CLONE_PIDFD)
        request = Request(SYS_CLONE, (order.flags & _CLONE_PASSED, 0, 0, 0, 0, 0), order.mask)
        if wants:
            request.blobs.append(Blob(0, 4, None, 2))

        def forked(result: int) -> None:
            made = deputy.born or min(result, -1)
            pidfd = struct.unpack("<i", p.task.read(deputy.room[0], 4))[0] if wants and made > 0 else -1
            self.tracer.hosts.send(p, Kind.FORK_REPLY, FORK_REPLY.pack(made, pidfd, *self.tracer.cputimers.newborn(made)))
            deputy.born = 0
            fault(Birth.TOLD, None, p.comm, p.pid)

        self.tracer.traces.entered(p, SYS_CLONE, (order.flags, 0, 0, 0, 0, 0), request.memory)
        deputy.born = 0
        deputy.start(request, forked)

    def _thread(self, p: Program, deputy: Deputy, order: ForkOrder) -> None:
        """The same for a thread: the deputy makes one that will be its deputy, with the ID that the body's thread will have."""
        process = self.tracer.family.process(p)

        def made(result: int) -> None:
            self.tracer.hosts.send(p, Kind.FORK_REPLY, FORK_REPLY.pack(deputy.born or min(result, -1), -1, 0, 0))
            deputy.born = 0

        deputy.born = 0
        room = self.tracer.threads.room(process) if process.settings.allows_threads() else None
        if room is None:
            made(-errno.EAGAIN)
            deputy.ready_since = time.monotonic()
            self.tracer.deputies.watch(p)
        else:
            flags = _OF_THREAD | order.flags & _OF_THREAD_PASSED
            deputy.start(Request(SYS_CLONE, (flags, 0, 0, 0, 0, 0), order.mask), made)
            assert deputy.flight is not None
            deputy.flight.room = room

    def _thread_made(self, p: Program, deputy: Deputy) -> None:
        """That thread: it is the deputy of the body's thread, which is about to be made on the same node."""
        assert deputy.flight is not None and deputy.flight.room is not None
        process, room = self.tracer.family.process(p), deputy.flight.room
        q = self.tracer.family.adopt_thread(Task(deputy.born), p)
        q.place, q.link, q.body.files = Place.AWAY, p.link, process.body.files
        q.deputy = deputy_of_child(deputy, q.task)
        q.deputy.room = room
        try:
            self.tracer.private.forked(p, q, thread=True)
            p.task.cont()
        finally:  # it may have been killed at any moment
            self.tracer.family.register(q)

    def forked(self, p: Program, deputy: Deputy) -> None:
        """The deputy's child: it will be the deputy of the body's child, which is about to be made on the same node."""
        child = deputy.born = p.task.event_message()
        if deputy.flight is not None and deputy.flight.request.args[0] & CLONE_THREAD:
            self._thread_made(p, deputy)
            return
        fault(Birth.DEPUTY, None, p.comm, p.pid)
        q = self.tracer.family.adopt(Task(child), p.settings, parent=p)
        q.place = Place.AWAY
        q.link = p.link
        q.body.files = {number: replace(held) for number, held in p.body.files.items()}
        newborn = q.deputy = deputy_of_child(deputy, q.task)
        self.tracer.outliving.left(q, inside=False, born=True)
        self.tracer.copying.of_child(p, q)
        if q.link is not None:
            q.link.programs.add(child)
        try:
            self._inherit(p, q, newborn)
            p.task.cont()
        finally:  # its parent may have been killed at any moment
            self.tracer.mosd.announce(q)
            self.tracer.family.register(q)

    def _inherit(self, p: Program, q: Program, newborn: Deputy) -> None:
        """What ``q`` must not have of its parent's mailbox and private files is taken from it before its first call."""
        if closing := self.tracer.mails.inherited(p, q):
            newborn.todo.append(
                lambda: self.tracer.mails.disinherit(q.task, closing, base=newborn.base, mask=newborn.mask)
            )
        self.tracer.private.forked(p, q, thread=False)
        if q.private is not None and q.private.inherited:
            newborn.todo.append(lambda: self.tracer.private.born_away(q, newborn))

    def gone(self, p: Program) -> None:
        """``p`` has ended. If its host has not heard of its fork, the child will have no body; nor has it run: it ends, as if its
        parent had been killed before the fork."""
        born = self.tracer.programs.get(p.deputy.born) if p.deputy is not None else None
        if born is not None:
            self.tracer.containment.kill(born)

    def execute(self, p: Program, deputy: Deputy, order: ExecOrder, flags: int) -> None:
        """Lay out path, argv and envp in the deputy and let it exec; success is PTRACE_EVENT_EXEC.

        A signal on its way to the body has a handler there, which must run before: the exec is made again behind that."""
        p.body.seq = flags >> 1
        if order.seen is not None and order.seen != p.body.signals & 0xFFFFFFFF:
            self.tracer.requests.answered(p, deputy, -ERESTARTNOINTR)
            return
        if p.reports.trace is not None:
            p.reports.call = order.nr, show.program(order.nr, order.path, order.argv)
        data = bytearray()
        pointers: list[tuple[int, int]] = []  # (offset of a pointer, offset it points to)

        def string(value: bytes) -> int:
            at = len(data)
            data.extend(value + b"\0")
            return at

        def vector(values: list[bytes]) -> int:
            strings = [string(v) for v in values]
            data.extend(bytes(-len(data) % 8))
            at = len(data)
            pointers.extend((at + 8 * i, s) for i, s in enumerate(strings))
            data.extend(bytes(8 * (len(values) + 1)))
            return at

        places = [
            None if order.path is None else string(order.path),
            None if order.argv is None else vector(order.argv),
            None if order.envp is None else vector(order.envp),
        ]
        (base, room), big = deputy.room, None
        if len(data) > room:
            size = (len(data) + 4095) & ~4095
            deputy.give_up()
            with Calls(p.task, base=deputy.base, mask=deputy.mask) as call:
                base = call.map(0, size)
            big = (base, size)
        for at, target in pointers:
            data[at : at + 8] = (base + target).to_bytes(8, "little")
        p.task.write(base, data)
        path, argv, envp = (0 if place is None else base + place for place in places)
        if order.fault:
            argv = layout.PAGE  # unmapped: EFAULT, as the program's own pointers would give
        args = (path, argv, envp, 0, 0, 0)
        if order.nr == SYS_EXECVEAT:
            args = (order.dirfd, path, argv, envp, order.flags, 0)
        self.tracer.cputimers.synced(p, deputy)
        deputy.start(Request(order.nr, args, order.mask))
        assert deputy.flight is not None
        deputy.flight.big = big
