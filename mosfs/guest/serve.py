"""What becomes of a call that a body makes: its own kernel serves it, it goes home, or both, or it needs code of its own.

The table's column ``away`` decides; the rows that have code of their own here say so (`Syscall.by_host`).
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from mosfs.abi import commands
from mosfs.abi.args import as_c_int
from mosfs.abi.flags import ERESTART_RESTARTBLOCK, ERESTARTNOINTR
from mosfs.abi.low import MREMAP
from mosfs.abi.syscalls import BY_NR, Away, Syscall
from mosfs.calls import cputime, endless, partial
from mosfs.calls.cputimers import Alarm
from mosfs.calls.low import carry_out, guarded
from mosfs.calls.marshal import marshal
from mosfs.calls.policy import Do, judge_away, private, stays_in_body
from mosfs.calls.request import Blob, Request
from mosfs.guest.body import Body, State
from mosfs.guest.title import tell_title
from mosfs.migrate import shown
from mosfs.migrate.capture import RESTARTS, signed
from mosfs.migrate.filecopy import WANT
from mosfs.migrate.image import Vma
from mosfs.migrate.maps import mapping_at
from mosfs.migrate.properties import SAYING
from mosfs.migrate.remap import remap
from mosfs.native import lib
from mosfs.procfs.table import CONTROL_FILES
from mosfs.procfs.table import Kind as Value
from mosfs.trace.clock import shown_by
from mosfs.trace.inject import Calls
from mosfs.trace.layout import USER_END
from mosfs.trace.stops import Stop
from mosfs.trace.task import ALL_SIGNALS, CONT, NOTHING, SYSCALL, Task, copy_regs, same_call, unfit
from mosfs.wire.faults import Serving, fault
from mosfs.wire.frames import Kind
from mosfs.wire.orders import ExecOrder, ForkOrder, MmapOrder

if TYPE_CHECKING:
    from mosfs.guest.host import Host

#: The opens, and which of their arguments are the path and the mode (-1: within struct open_how).
OPENS = {2: (0, 2), 85: (0, 1), 257: (1, 3), 437: (1, -1)}
#: How the paths of opens end that carry a name.
NAMED = tuple(f"/{row.name}\0".encode() for row in CONTROL_FILES if row.kind is Value.NAME)
SYS_MMAP, SYS_MPROTECT, SYS_MUNMAP, SYS_RT_SIGACTION, SYS_RT_SIGRETURN, SYS_GETPID, SYS_PRCTL = 9, 10, 11, 13, 15, 39, 157
#: Offset of uc_sigmask in struct ucontext of x86_64: its address is in rdx at the start of a handler, in rsp at rt_sigreturn.
UC_SIGMASK = 296
SYS_CLONE, SYS_RESTART, SYS_SET_TID_ADDRESS, SYS_EXECVEAT = 56, 219, 218, 322
MAP_SHARED, MAP_PRIVATE, MAP_ANONYMOUS = 1, 2, 0x20
MAP_FIXED, MAP_NORESERVE = 0x10, 0x4000
_PLACEMENT = 0x100000 | 0x40  # FIXED_NOREPLACE, 32BIT
CLONE_CHILD_SETTID, CLONE_PARENT_SETTID, CLONE_PARENT, CLONE_VM = 0x01000000, 0x00100000, 0x8000, 0x100
CLONE_PIDFD, CLONE_DETACHED = 0x1000, 0x00400000
#: fork and vfork as flags of clone
_BODY_FLAGS = {57: 0, 58: 0x4100}
UNSUPPORTED = 1
#: Of so many calls that do not exist a host tells the log.
MOST_ILLEGAL = 16
_FUTEX_WAITS = frozenset({0, 9})  # WAIT, WAIT_BITSET
_FUTEX_PI = frozenset({6, 7, 8, 11, 12, 13})
#: RLIMIT_DATA, STACK, AS
BODY_LIMITS = frozenset({2, 3, 9})
_EXITS = frozenset({60, 231})
_MPOL_F_ADDR = 2
SA_RESETHAND = 0x80000000
_KILL_STOP = 0x40100  # SIGKILL and SIGSTOP cannot be blocked
#: Bytes of arguments (or environment), pointers and all: no limit of the stack lets execve(2) take more.
MAX_STRINGS = 6 << 20


@dataclass(slots=True)
class MapRequest:
    """A file mapping under way at ``addr``; ``reserved``: the memory there is taken already. ``file``: number of the file, or 0 and
    what it shows: (offset, bytes). ``shared``: as it was asked for, and the file is open for reading only; any other is private
    (mosrun(1)): the file shows where the program has not written."""

    addr: int
    length: int
    prot: int
    flags: int
    offset: int = 0
    name: str = ""
    reserved: bool = False
    file: int = 0
    shared: bool = False
    chunks: list[tuple[int, bytes]] = field(default_factory=list)


class Serve:
    def __init__(self, host: Host) -> None:
        self.host = host
        self._both: set[int] = set()
        self._illegal: set[int] = set()  # calls that do not exist, of which the log knows
        self._special: dict[int, Callable[[Body, tuple[int, ...]], None]] = {
            **dict.fromkeys(OPENS, self._open),
            9: self._mmap,
            13: self._sigaction,
            25: self._mremap,
            14: self._sigprocmask,
            15: self._sigreturn,
            39: self._own_pid,
            56: self._clone,
            57: self._clone,
            58: self._clone,
            59: self._exec,
            60: self._exit,
            186: self._own_pid,
            202: self._futex,
            218: self._set_tid_address,
            219: self._plain,
            cputime.CLOCK_GETTIME: self._clock,
            160: self._setrlimit,
            302: self._setrlimit,
            231: self._exit,
            239: self._get_mempolicy,
            273: self._let,
            322: self._exec,
            334: self._let,
        }

    # ------------------------------------------------------------------ dispatch

    def trapped(self, body: Body) -> None:
        regs = body.task.peek_regs()
        if body.state is State.FORKING:  # the clone that was let through, made again after an interrupt of ours
            if body.forking is None or not same_call(body.forking, regs):
                raise unfit(body.pid, f"call {signed(regs.orig_rax)} in the place of its fork")
            body.task.cont(request=SYSCALL)
            return
        nr = signed(regs.orig_rax)
        body.nr = nr
        body.regs = copy_regs(regs)
        fault(Serving.NODE_CALL, None, body.comm)
        if nr != cputime.CLOCK_GETTIME:
            body.deputy_cpu = -1
        args = (regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9)
        if body.private is not None and not body.infos and self.host.private.serve(body, nr, args):
            return
        row = BY_NR.get(nr)
        if row is None and nr not in self._illegal and len(self._illegal) < MOST_ILLEGAL:
            self._illegal.add(nr)
            self.host.log(f"origpid={body.pair} illegal call {nr} at {regs.rip:#x} (restart {body.restart}, {body.state})", 30)
        if row is None or judge_away(row, args).do not in (Do.SERVE, Do.PRIVATE):
            self.host.forward(body, Request(nr, args, body.task.peek_mask()), UNSUPPORTED)
            return
        if body.infos and nr not in _EXITS and nr != SYS_RT_SIGRETURN:
            # a signal came before the call: its handler runs first
            self.host.signals.interrupted(body, -ERESTARTNOINTR)
            return
        if nr in SAYING:
            body.said.hear(nr, args)
        if (found := guarded(nr, args)) is not None:
            with Calls(body.task) as call:
                result = carry_out(found, nr, args, call)
            self.answer(body, result)
            return
        if self.host.mails.trapped(body, nr, args):
            return
        special = self._special.get(nr)
        if special is not None:
            special(body, args)
        elif stays_in_body(row, args):
            body.task.cont()
        elif row.away is Away.BOTH or (nr == SYS_PRCTL and _in_both(args)):
            if nr == SYS_PRCTL:  # who gives itself another name has often done so in its arguments, too
                tell_title(body, self.host.channel)
            self._forward_both(body, args)
        else:
            self._send(body, row, args)

    def _send(self, body: Body, row: Syscall, args: tuple[int, ...]) -> None:
        self.host.forward(body, marshal(row, args, body.task.peek_mask(), body.task))

    def _show(self, body: Body, request: Request) -> None:
        """An open of a file in /proc about its own memory: home has nothing to show there, so it is told what we see."""
        path = next((bytes(blob.data or b"")[:-1] for blob in request.blobs if blob.arg in (0, 1)), b"")
        name = shown.recognise(path, body.pair) if path.startswith(b"/proc/") else ""
        if name:
            self.show(body, name, asked=False)

    def show(self, body: Body, name: str, *, asked: bool) -> None:
        """Tell home what the file ``name`` about the body shows; ``asked``: for another program (SHOW)."""
        text = shown.text(body.pid, name, body.names, body.copies.known)
        if name == "stat":
            self.host.tell_used(body)
        self.host.channel.send(Kind.SHOWN, body.pair, text, int(asked))

    def _plain(self, body: Body, args: tuple[int, ...]) -> None:
        self._send(body, BY_NR[body.nr], args)

    def _open(self, body: Body, args: tuple[int, ...]) -> None:
        """An open whose third argument points to a name (`procfs.table.Kind.NAME`) takes that along."""
        request = marshal(BY_NR[body.nr], args, body.task.peek_mask(), body.task)
        memory = {blob.arg: bytes(blob.data) for blob in request.blobs if blob.data}
        path_arg, value_arg = OPENS[body.nr]
        if memory.get(path_arg, b"").endswith(NAMED):
            at = args[value_arg] if value_arg >= 0 else int.from_bytes(memory.get(2, b"")[8:16], "little")
            try:
                name = body.task.read_string(at)
                request.blobs.append(Blob(at, len(name) + 1, name + b"\0"))
            except OSError:
                pass  # home says EFAULT
        self._show(body, request)
        self.host.forward(body, request)

    def _let(self, body: Body, args: tuple[int, ...]) -> None:
        """The body's own kernel does it."""
        body.task.cont()

    def answer(self, body: Body, result: int) -> None:
        """End the call here."""
        self.host.finish_call(body, result)

    def _own_pid(self, body: Body, args: tuple[int, ...]) -> None:
        self.answer(body, body.pair)

    def _forward_both(self, body: Body, args: tuple[int, ...]) -> None:
        """First at home, then in the body, whose result is the program's."""
        self._both.add(body.pair)
        self._send(body, BY_NR[body.nr], args)

    def again(self, body: Body, result: int) -> None:
        """The forwarded call was broken off without anything for the program: go on with it."""
        if result == -ERESTART_RESTARTBLOCK:
            self.host.forward(body, Request(SYS_RESTART, (0,) * 6, body.task.peek_mask()))
            return
        if self.host.mails.concerns(body) and self.host.mails.serve(body):
            return
        r = body.regs
        args = (r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9)
        if body.private is None or not self.host.private.serve(body, body.nr, args):
            self._special.get(body.nr, self._plain)(body, args)

    def temporary_mask(self, body: Body) -> int | None:
        """The mask that holds while the call waits (sigsuspend, ppoll, pselect6, epoll_pwait), if it has one."""
        r = body.regs
        where = {130: r.rdi, 271: r.r10, 281: r.r8, 441: r.r8}.get(body.nr, 0)
        try:
            if body.nr == 270 and r.r9:
                where = body.task.read_words(r.r9, 1)[0]
            return body.task.read_words(where, 1)[0] & ~_KILL_STOP if where else None
        except OSError:
            return None

    def whole(self, body: Body) -> None:
        """At a stop that we asked for: getrandom(2), alone of the calls that a body makes itself, may have been cut short."""
        regs = body.task.peek_regs()
        if regs.orig_rax == endless.SYS_GETRANDOM:
            regs.rax = endless.complete(body.task, endless.SYS_GETRANDOM, regs, signed(regs.rax)) & NOTHING
            body.task.set_regs(regs)

    # ------------------------------------------------------------------ signals and identity

    def _sigprocmask(self, body: Body, args: tuple[int, ...]) -> None:
        """The body's kernel changes the mask. Home must know: at once if something is unblocked, since it may be pending there."""
        how, at = args[0] & 0xFFFFFFFF, args[1]
        old = body.task.peek_mask()
        try:
            given = body.task.read_words(at, 1)[0] if at else None
        except OSError:
            given = None
        if given is None or args[3] != 8 or how > 2:
            body.task.cont()
            return
        new = (old | given, old & ~given, given)[how] & ~_KILL_STOP
        if old & ~new:
            self._both.add(body.pair)
            self.host.forward(body, Request(SYS_GETPID, (0,) * 6, new))
            return
        if new != old:
            body.told_mask = new
            self.host.channel.send(Kind.MASK, body.pair, struct.pack("<Q", new))
        body.task.cont()

    def _sigreturn(self, body: Body, args: tuple[int, ...]) -> None:
        """A handler ends. What home blocks because of calls that it made must be unblocked there, or it would stay pending."""
        try:
            new = body.task.read_words(body.regs.rsp + UC_SIGMASK, 1)[0] & ~_KILL_STOP
        except OSError:
            new = body.told_mask
        if body.told_mask & ~new:
            self._both.add(body.pair)
            self.host.forward(body, Request(SYS_GETPID, (0,) * 6, new))
        else:
            body.task.cont()

    def _get_mempolicy(self, body: Body, args: tuple[int, ...]) -> None:
        """The program's own policy is the home-node's; that of an address is of memory here."""
        (self._let if args[4] & _MPOL_F_ADDR else self._plain)(body, args)

    def _setrlimit(self, body: Body, args: tuple[int, ...]) -> None:
        """Limits that hold where the program computes are set on both sides."""
        which, new, pid = (args[0], args[1], 0) if body.nr == 160 else (args[1], args[2], args[0] & 0xFFFFFFFF)
        own = pid in (0, body.pair) and new and which in BODY_LIMITS
        if own and body.nr == 302 and pid:
            regs = copy_regs(body.regs)
            regs.rdi = 0  # here it has another PID
            body.task.set_regs(regs)
            body.regs.rdi = 0
        (self._forward_both if own else self._plain)(body, args)

    def _sigaction(self, body: Body, args: tuple[int, ...]) -> None:
        """Both: the handler runs in the body, but what is not handled is the deputy's business."""
        sig = args[0] & 0xFFFFFFFF
        try:
            flags = body.task.read_words(args[1] + 8, 1)[0] if args[1] else None
        except OSError:
            flags = None
        if flags is not None:
            (body.oneshot.add if flags & SA_RESETHAND else body.oneshot.discard)(sig)
        self._forward_both(body, args)

    def _set_tid_address(self, body: Body, args: tuple[int, ...]) -> None:
        with Calls(body.task) as call:
            call(SYS_SET_TID_ADDRESS, args[0])
        self.answer(body, body.pair)

    def _futex(self, body: Body, args: tuple[int, ...]) -> None:
        """Of the only thread, which nobody can wake: waiting is sleeping until the timeout or a signal, at home, on a copy of the
        word. Nobody contends for its locks with priority inheritance, whose words would get this node's thread id."""
        operation = args[1] & 127
        if operation in _FUTEX_WAITS:
            self._send(body, BY_NR[body.nr], args)
        elif operation in _FUTEX_PI:
            self.answer(body, 0)
        else:
            body.task.cont()

    # ------------------------------------------------------------------ processes

    def _exit(self, body: Body, args: tuple[int, ...]) -> None:
        """The deputy exits; DROP follows."""
        body.state = State.LEAVING
        self.host.tell_used(body)
        request = Request(231, (args[0], 0, 0, 0, 0, 0), body.task.peek_mask())
        self.host.channel.send(Kind.CALL, body.pair, request.pack(body.seen))

    def _clone(self, body: Body, args: tuple[int, ...]) -> None:
        flags = args[0] if body.nr == 56 else 17
        if flags & CLONE_PIDFD and (error := self._no_pidfd(body, flags, args[2])):
            self.answer(body, -error)
            return
        body.state = State.FORKING
        tell_title(body, self.host.channel)
        order = ForkOrder(flags, body.task.peek_mask())
        self.host.channel.send(Kind.FORK, body.pair, msgspec.msgpack.encode(order))

    @staticmethod
    def _no_pidfd(body: Body, flags: int, at: int) -> int:
        """The errno with which clone(2) refuses CLONE_PIDFD: its descriptor goes where the PID would."""
        if flags & (CLONE_PARENT_SETTID | CLONE_DETACHED):
            return errno.EINVAL
        return 0 if body.task.reach(at, 4) == 4 else errno.EFAULT

    def fork_reply(self, body: Body, result: int, pidfd: int, alarm: Alarm) -> None:
        """The deputy has forked: now the body does, and both children belong together. ``pidfd``: home's, for CLONE_PIDFD."""
        if body.state is not State.FORKING:
            return
        if result in RESTARTS:  # a signal came first: its handler runs, then the fork is made again
            self.host.signals.interrupted(body, result)
            return
        if result <= 0 or result in self.host.bodies:
            body.state = State.RUNNING
            self.answer(body, min(result, -1))
            return
        body.child, body.child_pidfd, body.child_alarm = result, pidfd, alarm
        # no signal may break the clone: its deputy has a child already
        body.fork_mask = body.task.peek_mask()
        body.task.set_mask(ALL_SIGNALS)
        # a clone that makes the child ours, not the body's: nobody here must wait for it but the host
        regs = copy_regs(body.regs)
        if body.nr != SYS_CLONE:
            regs.orig_rax, regs.rsi, regs.rdx, regs.r10, regs.r8 = SYS_CLONE, 0, 0, 0, 0
        regs.rdi = _BODY_FLAGS.get(body.nr, regs.rdi & ~(0xFF | CLONE_PIDFD)) | CLONE_PARENT
        body.forking = copy_regs(regs)
        body.task.set_regs(regs)
        body.task.cont(request=SYSCALL)

    def _clock(self, body: Body, args: tuple[int, ...]) -> None:
        """A clock that the vDSO shows: the same as there, whatever it is at home by now. A clock of CPU time, asked again with no
        other call in between: the deputy has used none meanwhile."""
        if (shown := shown_by(body.clock_page, as_c_int(args[0]), lib.mos_rdtsc())) is not None:
            try:
                body.task.write(args[1], struct.pack("<2q", *divmod(shown, 10**9)))
                self.answer(body, 0)
                return
            except OSError:
                pass  # home says EFAULT
        if body.deputy_cpu >= 0 and as_c_int(args[0]) in cputime.CPU_CLOCKS:
            ns = body.deputy_cpu + sum(body.used())
            try:
                body.task.write(args[1], struct.pack("<2q", ns // 10**9, ns % 10**9))
                self.answer(body, 0)
                return
            except OSError:
                pass  # home says EFAULT
        self._plain(body, args)

    def clock_told(self, body: Body, data: bytes) -> None:
        """Home's answer to clock_gettime(2): how much of it is the deputy's."""
        if as_c_int(body.regs.rdi) in cputime.CPU_CLOCKS:
            seconds, ns = struct.unpack("<2q", data)
            body.deputy_cpu = max(seconds * 10**9 + ns - sum(body.told_used), 0)

    def _restore_arguments(self, task: Task, before: Any, result: int) -> None:
        """The registers behind a clone whose arguments were changed: the program must find its own."""
        regs = task.peek_regs()
        regs.rax = result & NOTHING
        regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8 = before.rdi, before.rsi, before.rdx, before.r10, before.r8
        regs.orig_rax = NOTHING
        task.set_regs(regs)

    def forked(self, body: Body) -> None:
        local = body.task.event_message()
        child = Body(
            body.child, Task(local, guest=True), State.RUNNING, comm=body.comm, since=body.since, features=body.features,
            needs=body.needs, waiting_state=dict(body.waiting_state),
        )
        child.clock_page = body.clock_page
        child.oneshot = set(body.oneshot)
        child.settings, child.account.decay = body.settings, body.account.decay
        child.names, child.said = body.names, body.said.of_child()
        child.copies = body.copies
        child.title_at, child.title = body.title_at, body.title
        child.told_mask = body.told_mask
        child.regs = copy_regs(body.regs)
        self.host.private.forked(body, child)
        child.shares = body.nr == 58 or (body.nr == SYS_CLONE and bool(body.regs.rdi & CLONE_VM))
        self.host.mails.forked(body, child)
        self.host.bodies[child.pair] = child
        self.host.by_pid[local] = child
        child.fork_mask = body.fork_mask
        self.host.alarms.set(child, body.child_alarm)
        child.step = self._settid_address(body)  # its first stop has something to do, even if this is 0
        body.task.cont(request=SYSCALL)
        self.host.announce(child)
        early = self.host.early.pop(local, None)
        if early is not None:
            self.host.task_event(local, early)

    def _settid_address(self, body: Body) -> int:
        """Where the child's own PID is to be written, 0 for nowhere."""
        return body.regs.r10 if body.nr == 56 and body.regs.rdi & CLONE_CHILD_SETTID else 0

    def first_stop(self, child: Body) -> None:
        """A child's very first stop: its PID is the one at home."""
        at, child.step = child.step, None
        self._restore_arguments(child.task, child.regs, 0)
        child.task.set_mask(child.fork_mask)
        if at:
            _store(child.task, at, child.pair)

    def syscall_exit(self, body: Body) -> None:
        """The body's own clone has returned: its result is the child's PID at home."""
        regs = body.task.peek_regs()
        if body.state is State.FORKING:
            result = signed(regs.rax)
            # an interrupt of ours came between: the kernel makes the clone again, which stops at its entry first
            if result in RESTARTS or (result == -errno.ENOSYS and regs.orig_rax == SYS_CLONE):
                body.task.cont(request=SYSCALL)
                return
            body.state = State.RUNNING
            if result > 0:
                result = body.child
                if body.nr == SYS_CLONE and body.regs.rdi & (CLONE_PARENT_SETTID | CLONE_PIDFD):
                    _store(body.task, body.regs.rdx, body.child_pidfd if body.regs.rdi & CLONE_PIDFD else body.child)
            else:  # no room for another body: its deputy cannot live without
                self.host.channel.send(Kind.DIED, body.child, struct.pack("<i", 9))
            self._restore_arguments(body.task, body.regs, result)
            body.task.set_mask(body.fork_mask)
        if body.held:
            body.paused = True
        elif body.infos:
            self.host.stopped(body, Stop.SYSCALL)
        else:
            body.task.cont(request=CONT)

    def _exec(self, body: Body, args: tuple[int, ...]) -> None:
        at = 0 if body.nr == 59 else 1
        task = body.task
        fault = False
        try:
            path = task.read_string(args[at]) if args[at] else None
        except OSError as error:
            self.answer(body, -(error.errno or errno.EFAULT))
            return
        argv = envp = None
        try:
            argv = _vector(task, args[at + 1])
            envp = _vector(task, args[at + 2])
        except OSError as error:
            if error.errno in (errno.ENAMETOOLONG, errno.E2BIG):
                self.answer(body, -errno.E2BIG)
                return
            fault = True
        dirfd, flags = (args[0], args[4]) if at else (0, 0)
        order = ExecOrder(322 if at else 59, dirfd, path, argv, envp, flags, task.peek_mask(), fault)
        body.state = State.EXECING
        self.host.tell_used(body)
        body.seq = body.seq + 1 & 0x7FFF
        self.host.channel.send(Kind.EXEC, body.pair, msgspec.msgpack.encode(order), body.seq << 1)

    # ------------------------------------------------------------------ files as memory

    def _mmap(self, body: Body, args: tuple[int, ...]) -> None:
        addr, length, prot, flags, fd, offset = args
        if flags & MAP_ANONYMOUS and not flags & MAP_SHARED:
            body.task.cont()
            return
        if flags & MAP_ANONYMOUS:
            # shared, and not to be written: home knows whether that may be private (`calls.policy.Do.PRIVATE`)
            self._both.add(body.pair)
            self.host.forward(body, Request(body.nr, args, body.task.peek_mask()), UNSUPPORTED)
            return
        if not length or offset & 4095 or length > USER_END:
            self.answer(body, -errno.ENOMEM if length > USER_END else -errno.EINVAL)
            return
        whole = (length + 4095) & ~4095
        request = MapRequest(addr, whole, prot & 7, flags, offset)
        if not flags & MAP_FIXED:
            request.reserved = True
            try:
                with Calls(body.task, base=body.regs) as call:
                    kind = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | flags & _PLACEMENT
                    request.addr = call.map(addr, whole, 0, kind)
            except OSError as error:
                self.answer(body, -(error.errno or errno.ENOMEM))
                return
        body.map_request = request
        body.state = State.WAITING
        body.seq = body.seq + 1 & 0x7FFF
        order = MmapOrder(whole, prot & 7, flags, fd & 0xFFFFFFFF, offset, body.task.peek_mask(), request.addr)
        self.host.channel.send(Kind.MMAP, body.pair, msgspec.msgpack.encode(order), body.seq << 1)

    def _mremap(self, body: Body, args: tuple[int, ...]) -> None:
        """A mapping grows; of a file, home first sends what it will show."""
        mapping = mapping_at(body.pid, args[0])
        found = body.copies.known(mapping) if mapping is not None and mapping.inode else None
        if mapping is None or found is None or args[2] > USER_END:
            self.answer(body, self._remapped(body))
            return
        self._both.add(body.pair)
        body.state = State.WAITING
        body.seq = body.seq + 1 & 0x7FFF
        want = WANT.pack(found[0], mapping.offset + args[0] - mapping.start, args[2])
        self.host.channel.send(Kind.WANT, body.pair, want, body.seq << 1)

    @staticmethod
    def _remapped(body: Body) -> int:
        with Calls(body.task, base=body.regs) as call:
            regs = body.regs
            args = (regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8)
            return remap(call, args, said=body.said.calls > 0)

    def mmap_name(self, body: Body, payload: bytes, *, shared: bool) -> None:
        if body.map_request is not None and len(payload) >= 4:
            body.map_request.file = int.from_bytes(payload[:4], "little")
            body.map_request.name = payload[4:].decode("latin-1")
            body.map_request.shared = shared and bool(body.map_request.flags & MAP_SHARED)

    def mmap_data(self, body: Body, payload: bytes) -> None:
        if body.map_request is not None:
            body.map_request.chunks.append((struct.unpack_from("<Q", payload)[0], payload[8:]))

    def mmap_reply(self, body: Body, result: int) -> None:
        """All of the file has come: map its copy; or what it shows as private memory, if it cannot be followed."""
        request: MapRequest = body.map_request
        body.map_request = None
        with Calls(body.task, base=body.regs) as call:
            if result >= 0:
                try:
                    result = self._map_file(body, call, request)
                except OSError as error:
                    result = -(error.errno or errno.ENOMEM)
            if result < 0 and request.reserved:
                call(SYS_MUNMAP, request.addr, request.length)
        self.answer(body, result)

    def _map_file(self, body: Body, call: Calls, request: MapRequest) -> int:
        """The address, or a negative errno; OSError too."""
        new = Vma(
            request.addr, request.addr + request.length, request.prot, name=request.name, offset=request.offset, file=request.file,
            shared=request.shared and request.file > 0,
        )  # fmt: skip
        if body.copies.has(request.file):
            body.copies.name(request.file, request.name)
            return body.copies.map(call, request.file, new)
        result = call.map(request.addr, request.length, flags=MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED)
        for offset, data in request.chunks:
            body.task.write(result + offset, data)
        if request.prot != 3:
            call(SYS_MPROTECT, result, request.length, request.prot)
        if request.name:
            body.names = shown.with_mapping(body.names, new)
        return result

    # ------------------------------------------------------------------ both

    def once_only(self, body: Body) -> bool:
        """The body waits for home's part of a call that must not be made again: rt_sigaction would tell the new as the old."""
        return body.pair in self._both and body.nr == SYS_RT_SIGACTION

    def forget_both(self, body: Body) -> bool:
        """The body leaves; True if it was in a call that is made on both sides."""
        found = body.pair in self._both
        self._both.discard(body.pair)
        return found

    def is_part(self, body: Body, result: int) -> bool:
        """Home's answer is that to a part of the call; True when the rest is under way."""
        if not partial.limited(body.task, body.nr, body.regs, result):
            return False
        body.regs, body.carry = partial.remainder(body.task, body.nr, body.regs, result, body.carry)
        self.again(body, 0)
        return True

    def finish_both(self, body: Body, result: int) -> bool:
        """Home has served a call that the body must make too; True if it goes on by itself."""
        if body.pair not in self._both:
            return False
        self._both.discard(body.pair)
        if result < 0:
            return False
        if body.nr == SYS_RT_SIGACTION:  # what was before, home has told: flags of signals that nobody handles have not travelled
            with Calls(body.task) as call:
                call(body.nr, body.regs.rdi, body.regs.rsi, 0, body.regs.r10)
            return False
        if body.nr == MREMAP:
            self.host.finish_call(body, self._remapped(body))
            return True
        body.state = State.RUNNING
        if body.infos and not body.interrupting:
            body.interrupting = True
            body.task.interrupt()
        regs = copy_regs(body.regs)
        regs.orig_rax = body.nr
        if body.nr == SYS_MMAP:
            regs.r10 = private(regs.r10)
        body.task.set_regs(regs)
        body.task.cont()
        return True


def _store(task: Task, at: int, value: int) -> None:
    """An int of clone(2), which does not mind when it cannot be stored."""
    with suppress(OSError):
        task.write(at, struct.pack("<i", value))


def _in_both(args: tuple[int, ...]) -> bool:
    return commands.prctl(args[0] & 0xFFFFFFFF).place is commands.Place.BOTH


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

