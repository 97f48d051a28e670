"""A guest's fork, exec and exit: home makes each for the deputy, and the body its own part."""

from __future__ import annotations

import errno
import signal
import struct
from collections import deque
from contextlib import suppress
from typing import Any

import msgspec

from mosfs.abi.flags import (
    CLONE_CHILD_SETTID,
    CLONE_DETACHED,
    CLONE_PARENT,
    CLONE_PARENT_SETTID,
    CLONE_PIDFD,
    CLONE_THREAD,
    CLONE_VM,
    ERESTARTNOINTR,
    RESTARTS,
)
from mosfs.abi.numbers import SYS_CLONE, SYS_EXIT
from mosfs.balance.toll import CALLS_OF_A_BIRTH
from mosfs.calls.cputimers import Alarm
from mosfs.calls.request import Request
from mosfs.guest.alarms import Alarms
from mosfs.guest.body import Body, ClockPage, Processor, State
from mosfs.guest.completion import Completion
from mosfs.guest.context import Context
from mosfs.guest.forwarding import UNSUPPORTED, Forwarding
from mosfs.guest.mail import Mails
from mosfs.guest.private import Private
from mosfs.guest.signals import Signals, deliverable
from mosfs.guest.threads import Threads
from mosfs.guest.title import tell_title
from mosfs.guest.usage import tell_used
from mosfs.migrate.capture import signed
from mosfs.native.registers import Registers
from mosfs.trace.proc import words_of
from mosfs.trace.task import ALL_SIGNALS, CONT, NOTHING, SYSCALL, Task, copy_regs, unfit
from mosfs.wire.faults import Birth, fault
from mosfs.wire.frames import Kind
from mosfs.wire.orders import ExecOrder, ForkOrder

#: fork and vfork as flags of clone
_BODY_FLAGS = {57: 0, 58: 0x4100}
#: Of so many threads that ended last signals may still come.
MOST_ENDED = 64
#: Bytes of arguments (or environment), pointers and all: no limit of the stack lets execve(2) take more.
MAX_STRINGS = 6 << 20
#: A string that no execve(2) takes (MAX_ARG_STRLEN), in the place of those that do not fit.
_TOO_LONG = b"-" * 131072


class Processes:
    def __init__(
        self, context: Context, alarms: Alarms, forwarding: Forwarding, signals: Signals, private: Private, completion: Completion,
        mails: Mails, threads: Threads,
    ) -> None:  # fmt: skip
        self._context = context
        self._threads = threads
        self._alarms = alarms
        self._forwarding = forwarding
        self._signals = signals
        self._private = private
        self._completion = completion
        self._mails = mails
        self._ended: deque[tuple[int, Body]] = deque(maxlen=MOST_ENDED)  # threads, and the first one of each

    def exit(self, body: Body, args: tuple[int, ...]) -> None:
        """The deputy exits; DROP follows. Of several threads one ends here first: only then may its ID be another's at home."""
        if body.call.nr == SYS_EXIT and body.own.several and (others := self._others(body)):
            if left := self._signals.left(body):
                self._signals.hand_on(left, others)
                self._completion.make_anew(body)
                return
            body.own.exiting = args[0]
            if body.leader is None:  # the kernel tells of its end when all others have ended; its ID is the process's
                self._end_at_home(body.pair, body.own.exiting)
            body.task.cont()
            return
        body.state = State.LEAVING
        tell_used(body, self._context.channel)
        request = Request(231, (args[0], 0, 0, 0, 0, 0), body.task.peek_mask())
        self._context.channel.send(Kind.CALL, body.pair, request.pack(body.signals.seen))

    @staticmethod
    def _others(body: Body) -> list[Body]:
        """The threads that go on when ``body`` ends."""
        leader = body.leader or body
        return [one for one in (leader, *leader.threads.values()) if one is not body and one.own.exiting is None]

    def _end_at_home(self, tid: int, status: int) -> None:
        """One thread of a process: its deputy ends."""
        body = self._context.bodies.get(tid)
        request = Request(SYS_EXIT, (status, 0, 0, 0, 0, 0), ALL_SIGNALS)
        self._context.channel.send(Kind.CALL, tid, request.pack(body.signals.seen if body is not None else 0))

    def thread_ended(self, body: Body, *, killed: bool) -> bool:
        """A thread is gone. True if that is all: its process lives, or what becomes of that is told by its first thread."""
        if body.leader is None:
            return not killed and body.own.exiting is not None  # its deputy has heard of it
        if body.own.exiting is not None and not killed:
            self._end_at_home(body.pair, body.own.exiting)
        self._ended.append((body.pair, body.leader))
        body.leader.threads.pop(body.pair, None)
        self._context.bodies.pop(body.pair, None)
        self._context.by_pid.pop(body.pid, None)
        return True

    def stray(self, tid: int, info: bytes) -> bool:
        """SIGNAL for nobody who is here. Whether it is for a thread that has ended, which home did not know when it sent that."""
        leader = next((leader for ended, leader in self._ended if ended == tid), None)
        if leader is not None and self._context.bodies.get(leader.pair) is leader:
            others = [one for one in (leader, *leader.threads.values()) if one.own.exiting is None]
            self._signals.hand_on([info], others or [leader])
        return leader is not None

    def clone(self, body: Body, args: tuple[int, ...]) -> None:
        flags = args[0] if body.call.nr == 56 else 17
        if flags & CLONE_PIDFD and (error := _no_pidfd(body, flags, args[2])):
            self._completion.finish(body, -error)
            return
        body.state = State.FORKING
        body.account.calls += CALLS_OF_A_BIRTH
        if not _of_thread(body):
            tell_title(body, self._context.channel)
        if _of_thread(body) and body.signals.told_mask != ALL_SIGNALS:  # both block more than their deputies, for a moment
            order = ForkOrder(flags, body.signals.told_mask)
        else:
            order = ForkOrder(flags, self._forwarding.mask(body))
            self._forwarding.untold.tell_all()
        self._context.channel.send(Kind.FORK, body.pair, msgspec.msgpack.encode(order))

    def fork_reply(self, body: Body, result: int, pidfd: int, alarm: Alarm) -> None:
        """The deputy has forked: now the body does, and both children belong together. ``pidfd``: home's, for CLONE_PIDFD."""
        if body.state is not State.FORKING:
            return
        if result in RESTARTS:  # a signal came first: its handler runs, then the fork is made again
            self._signals.interrupted(body, result)
            return
        if result <= 0 or result in self._context.bodies:
            body.state = State.RUNNING
            self._completion.finish(body, min(result, -1))
            return
        body.fork.child, body.fork.pidfd, body.fork.alarm, body.fork.owed = result, pidfd, alarm, True
        fault(Birth.BODY, None, body.comm, body.pid)
        # no signal may break the clone: its deputy has a child already
        body.fork.mask = body.task.peek_mask()
        body.task.set_mask(ALL_SIGNALS)
        regs = self._clone(body)
        body.fork.regs = copy_regs(regs)
        body.task.set_regs(regs)
        body.task.cont(request=SYSCALL)

    def _clone(self, body: Body) -> Registers:
        """The registers of the call by which the body makes what its deputy has made. Who shares memory has the ID of home, since
        others may wait for that; not a child of several threads, who could write where clone3(2) reads."""
        if _of_thread(body):
            return self._threads.clone(body, body.call.regs.rdi)
        if body.own.shares and not (body.leader or body).threads:
            flags = _BODY_FLAGS.get(body.call.nr, body.call.regs.rdi & ~(0xFF | CLONE_PIDFD))
            return self._threads.clone(body, flags, parent=CLONE_PARENT)
        return _clone_of(body)

    def forked(self, body: Body) -> Body:
        """Its own clone has made a child, which stands at its first stop or will: the child."""
        body.fork.owed = False
        if _of_thread(body):
            thread = self._threads.born(body)
            self._forwarding.untold.note(thread, thread.fork.mask)
            body.task.cont(request=SYSCALL)
            return thread
        local = body.task.event_message()
        child = Body(body.fork.child, _child_of(body.task, local), State.RUNNING, comm=body.comm, since=body.since)
        child.processor = Processor(body.processor.features, body.processor.needs, dict(body.processor.waiting_state))
        child.signals.oneshot = set(body.signals.oneshot)
        child.signals.actions = None if body.signals.actions is None else dict(body.signals.actions)
        child.settings, child.account.decay = body.settings, body.account.decay
        child.memory.names, child.memory.said = body.memory.names, body.memory.said.of_child()
        child.memory.copies = body.memory.copies
        child.own.several = child.own.shares = body.own.shares
        child.memory.title_at, child.memory.title = body.memory.title_at, body.memory.title
        child.signals.told_mask = body.signals.told_mask
        child.call.regs = copy_regs(body.call.regs)
        self._private.forked(body, child)
        child.paid.parent = body.pair
        child.fork.shares = body.call.nr == 58 or (body.call.nr == SYS_CLONE and bool(body.call.regs.rdi & CLONE_VM))
        child.memory.clock = body.memory.clock if child.fork.shares else ClockPage(body.memory.clock.page)
        self._mails.forked(body, child)
        self._context.bodies[child.pair] = child
        self._context.by_pid[local] = child
        child.fork.mask = body.fork.mask
        self._alarms.set(child, body.fork.alarm)
        child.fork.step = _settid_address(body)  # its first stop has something to do, even if this is 0
        body.task.cont(request=SYSCALL)
        self._context.born(child)
        return child

    def gone(self, body: Body) -> None:
        """``body`` makes no child any more: one that it owes ends at home, too, where it has not run yet."""
        if body.fork.owed and _of_thread(body):
            body.fork.owed = False
            self._end_at_home(body.fork.child, 0)
        elif body.fork.owed:
            body.fork.owed = False
            self._context.channel.send(Kind.DIED, body.fork.child, struct.pack("<i", signal.SIGKILL))

    def first_stop(self, child: Body) -> None:
        """A child's very first stop: its PID is the one at home."""
        at, child.fork.step = child.fork.step, None
        _restore_arguments(child.task, child.call.regs, 0)
        child.task.set_mask(child.fork.mask)
        if at:
            _store(child.task, at, child.pair)

    def returned(self, body: Body) -> bool:
        """The body's own clone has returned: its result is the child's PID at home. True: signals are to be delivered first."""
        regs = body.task.peek_regs()
        if body.state is State.FORKING:
            result = signed(regs.rax)
            # an interrupt of ours came between: the kernel makes the clone again, which stops at its entry first
            if result in RESTARTS or (result == -errno.ENOSYS and regs.orig_rax == body.fork.regs.orig_rax):
                body.task.cont(request=SYSCALL)
                return False
            if result > 0 and body.fork.owed:  # other threads may have changed what clone3(2) was to read
                raise unfit(body.pid, "its clone has made somebody whom nobody traces")
            body.state = State.RUNNING
            if result < 0 and _of_thread(body):
                return self._not_born(body)
            if result > 0:
                result = body.fork.child
                # a thread's ID its kernel has stored, and may have cleared again at its end
                if body.call.nr == SYS_CLONE and not _of_thread(body) and body.call.regs.rdi & (CLONE_PARENT_SETTID | CLONE_PIDFD):
                    _store(body.task, body.call.regs.rdx, body.fork.pidfd if body.call.regs.rdi & CLONE_PIDFD else body.fork.child)
            else:  # no room for another body: its deputy cannot live without
                self.gone(body)
                result = -errno.EAGAIN if body.own.shares else result
            _restore_arguments(body.task, body.call.regs, result)
            body.task.set_mask(body.fork.mask)
        if body.stopping.halted:
            body.stopping.paused = True
        elif body.signals.infos:
            return True
        else:
            body.task.cont(request=CONT)
        return False

    def _not_born(self, body: Body) -> bool:
        """No thread could be made here, with the ID that it has at home: it ends there, and the program makes it at home."""
        self.gone(body)
        body.task.set_regs(body.call.regs)
        body.task.set_mask(body.fork.mask)
        (body.leader or body).own.births = False
        r = body.call.regs
        self._forwarding.forward(body, Request(SYS_CLONE, (r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9), body.fork.mask), UNSUPPORTED)
        return False

    def exec(self, body: Body, args: tuple[int, ...]) -> None:
        at = 0 if body.call.nr == 59 else 1
        task = body.task
        if deliverable(body, task.peek_mask()):  # its handler comes first: there is none afterwards
            self._signals.interrupted(body, -ERESTARTNOINTR)
            return
        fault = False
        try:
            path = task.read_string(args[at]) if args[at] else None
        except OSError as error:
            self._completion.finish(body, -(error.errno or errno.EFAULT))
            return
        argv = envp = None
        try:
            argv = _vector(task, args[at + 1])
            envp = _vector(task, args[at + 2])
        except OSError as error:
            if error.errno in (errno.ENAMETOOLONG, errno.E2BIG):  # home's kernel says so, unless the path is no program
                argv, envp = [_TOO_LONG], None
            else:
                fault = True
        dirfd, flags = (args[0], args[4]) if at else (0, 0)
        seen, mask = body.signals.seen & 0xFFFFFFFF, self._forwarding.mask(body)
        order = ExecOrder(322 if at else 59, dirfd, path, argv, envp, flags, mask, fault, seen)
        tell_used(body, self._context.channel)
        self._forwarding.ask(body, Kind.EXEC, msgspec.msgpack.encode(order), state=State.EXECING)


def _of_thread(body: Body) -> bool:
    """Whether the birth under way is of a thread."""
    return body.call.nr == SYS_CLONE and bool(body.call.regs.rdi & CLONE_THREAD)


def _clone_of(body: Body) -> Registers:
    """The registers of a clone that makes the child ours, not the body's: nobody here must wait for it but the host."""
    regs = copy_regs(body.call.regs)
    if body.call.nr != SYS_CLONE:
        regs.orig_rax, regs.rsi, regs.rdx, regs.r10, regs.r8 = SYS_CLONE, 0, 0, 0, 0
    regs.rdi = _BODY_FLAGS.get(body.call.nr, regs.rdi & ~(0xFF | CLONE_PIDFD)) | CLONE_PARENT
    return regs


def _child_of(parent: Task, pid: int) -> Task:
    """The task ``pid``, just forked by ``parent``, which may live where it has another ID than it has here."""
    if parent.own == parent.pid:
        return Task(pid, guest=True)
    [numbers] = words_of(pid, "NSpid")
    return Task(pid, guest=True, own=int(numbers[-1]))


def _restore_arguments(task: Task, before: Any, result: int) -> None:
    """The registers behind a clone whose arguments were changed: the program must find its own."""
    regs = task.peek_regs()
    regs.rax = result & NOTHING
    regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8 = before.rdi, before.rsi, before.rdx, before.r10, before.r8
    regs.orig_rax = NOTHING
    task.set_regs(regs)


def _settid_address(body: Body) -> int:
    """Where the child's own PID is to be written, 0 for nowhere."""
    return body.call.regs.r10 if body.call.nr == 56 and body.call.regs.rdi & CLONE_CHILD_SETTID else 0


def _no_pidfd(body: Body, flags: int, at: int) -> int:
    """The errno with which clone(2) refuses CLONE_PIDFD: its descriptor goes where the PID would."""
    if flags & (CLONE_PARENT_SETTID | CLONE_DETACHED):
        return errno.EINVAL
    return 0 if body.task.reach(at, 4) == 4 else errno.EFAULT


def _store(task: Task, at: int, value: int) -> None:
    """An int of clone(2), which does not mind when it cannot be stored."""
    with suppress(OSError):
        task.write(at, struct.pack("<i", value))


def _vector(task: Task, at: int) -> list[bytes] | None:
    """A NULL-terminated array of strings; None for a NULL pointer (an empty list, on Linux). OSError E2BIG for more than fits."""
    if not at:
        return None
    found: list[bytes] = []
    size = 0
    while size <= MAX_STRINGS:
        pointer = task.read_words(at + 8 * len(found), 1)[0]
        if not pointer:
            return found
        found.append(task.read_string(pointer, 131073))
        size += 9 + len(found[-1])
    raise OSError(errno.E2BIG, "too many strings")
