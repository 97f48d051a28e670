"""What becomes of a call that a body makes: its own kernel serves it, it goes home, or both, or it needs code of its own.

The table's columns ``away`` and ``host`` decide. From here the way of a call leads down only: `forwarding` sends it home,
`completion` lets the body go on with what came of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mosfs.abi import commands
from mosfs.abi.flags import ERESTART_RESTARTBLOCK, ERESTARTNOINTR, FUTEX_COMMAND, FUTEX_PI, FUTEX_WAITS
from mosfs.abi.numbers import (
    SYS_CLOCK_GETTIME,
    SYS_GET_ROBUST_LIST,
    SYS_GETPID,
    SYS_GETRANDOM,
    SYS_POLL,
    SYS_PRCTL,
    SYS_RESTART_SYSCALL,
    SYS_RT_SIGRETURN,
    SYS_SET_TID_ADDRESS,
    SYS_SETRLIMIT,
)
from mosfs.abi.syscalls import BY_NR, Away, ByHost, Syscall
from mosfs.calls import deadlines
from mosfs.calls.low import carry_out, guarded
from mosfs.calls.marshal import marshal
from mosfs.calls.policy import Do, judge_away, stays_in_body
from mosfs.calls.request import Blob, Request
from mosfs.guest import gate, timed
from mosfs.guest.body import Body, State
from mosfs.guest.clocks import Clocks, told_here
from mosfs.guest.completion import Completion
from mosfs.guest.context import Context
from mosfs.guest.forwarding import UNSUPPORTED, Forwarding
from mosfs.guest.mail import Mails
from mosfs.guest.mapping import MappedFiles
from mosfs.guest.masks import Masks
from mosfs.guest.private_calls import PrivateCalls
from mosfs.guest.processes import Processes
from mosfs.guest.signals import Signals, deliverable, sending
from mosfs.guest.threads import Threads
from mosfs.guest.timed import Timed
from mosfs.guest.title import tell_title
from mosfs.guest.usage import tell_used
from mosfs.migrate import shown
from mosfs.migrate.capture import signed
from mosfs.migrate.properties import SAYING
from mosfs.procfs.table import CONTROL_FILES
from mosfs.procfs.table import Kind as Value
from mosfs.trace.inject import Calls
from mosfs.trace.task import SYSCALL, copy_regs, same_call, unfit
from mosfs.wire.faults import Serving, fault
from mosfs.wire.frames import Kind

#: The opens, and which of their arguments are the path and the mode (-1: within struct open_how).
OPENS = {2: (0, 2), 85: (0, 1), 257: (1, 3), 437: (1, -1)}
#: How the paths of opens end that carry a name.
NAMED = tuple(f"/{row.name}\0".encode() for row in CONTROL_FILES if row.kind is Value.NAME)
#: Of so many calls that do not exist a host tells the log.
MOST_ILLEGAL = 16
#: RLIMIT_DATA, STACK, MEMLOCK, AS
BODY_LIMITS = frozenset({2, 3, 8, 9})
_EXITS = frozenset({60, 231})
_MPOL_F_ADDR = 2

#: Serves a call of a body with these argument registers.
Way = Callable[[Body, tuple[int, ...]], None]


class Serve:
    def __init__(
        self, context: Context, forwarding: Forwarding, signals: Signals, completion: Completion, private_calls: PrivateCalls,
        mails: Mails, masks: Masks, files: MappedFiles, processes: Processes, timed: Timed, clocks: Clocks,
    ) -> None:  # fmt: skip
        self._context = context
        self._forwarding = forwarding
        self._signals = signals
        self._completion = completion
        self._private_calls = private_calls
        self._mails = mails
        self._masks = masks
        self._timed = timed
        self._clocks = clocks
        self._illegal: set[int] = set()  # calls that do not exist, of which the log knows
        self.by_host: Mapping[ByHost, Way] = {
            ByHost.DEPUTY: self._deputy,
            ByHost.BODY: self._in_body,
            ByHost.OPEN: self._open,
            ByHost.MMAP: files.mmap,
            ByHost.MREMAP: files.mremap,
            ByHost.MPROTECT: files.mprotect,
            ByHost.SIGACTION: self._sigaction,
            ByHost.SIGPROCMASK: masks.sigprocmask,
            ByHost.SIGRETURN: masks.sigreturn,
            ByHost.PID: self._own_pid,
            ByHost.TID_ADDRESS: self._set_tid_address,
            ByHost.FORK: processes.clone,
            ByHost.EXEC: processes.exec,
            ByHost.EXIT: processes.exit,
            ByHost.FUTEX: self._futex,
            ByHost.LIMIT: self._setrlimit,
            ByHost.CLOCK: self._clock,
            ByHost.ROBUST_LIST: self._robust_list,
            ByHost.MEMORY: self._memory,
            ByHost.MEMPOLICY: self._get_mempolicy,
        }

    # ------------------------------------------------------------------ dispatch

    def trapped(self, body: Body) -> None:
        """The body stands before a call."""
        if body.signals.restart is not None:
            self._signals.undelivered(body)
        regs = body.task.peek_regs()
        if body.state is State.FORKING:  # the clone that was let through, made again after an interrupt of ours
            if body.fork.regs is None or not same_call(body.fork.regs, regs):
                raise unfit(body.pid, f"call {signed(regs.orig_rax)} in the place of its fork")
            body.task.cont(request=SYSCALL)
            return
        if gate.serve(body, regs):
            return
        nr = signed(regs.orig_rax)
        body.call.nr = nr
        body.call.regs = copy_regs(regs)
        body.signals.returning = False
        fault(Serving.NODE_CALL, None, body.comm)
        if nr != SYS_CLOCK_GETTIME:
            body.times.deputy_cpu = -1
        args = (regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9)
        if nr in deadlines.CALLS:
            self._clocks.begins(body, nr, args)
        elif nr != SYS_RESTART_SYSCALL:
            body.times.deadline = None
        if body.private.store is not None and not body.signals.infos and self._private_calls.serve(body, nr, args):
            return
        row = self._supported(body, nr, args)
        if row is None:
            return
        if not self._signals_first(body, -ERESTARTNOINTR):
            self._serve(body, row, args)

    def again(self, body: Body, result: int) -> None:
        """The call was broken off, or put off, without anything for the program: go on with it."""
        if result and self._signals_first(body, result):
            return
        if result == -ERESTART_RESTARTBLOCK:
            self._forwarding.forward(body, Request(SYS_RESTART_SYSCALL, (0,) * 6, body.task.peek_mask()))
            return
        if self._mails.concerns(body) and self._mails.serve(body):
            return
        r = body.call.regs
        args = (r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9)
        if body.private.store is not None and self._private_calls.serve(body, body.call.nr, args):
            return
        row = self._supported(body, body.call.nr, args)
        if row is not None:
            self._serve(body, row, args)

    def _signals_first(self, body: Body, result: int) -> bool:
        """Whether signals come before the call, which is made anew behind them. ``result``: of it, if it was broken off.

        A handler runs first. What the body blocks goes back home, which has sent it before it heard of that, if it is the deputy
        that has to meet it, in sigsuspend(2), sigtimedwait(2) or a poll of a signalfd(2)."""
        signals = body.signals
        if not (signals.infos or signals.blocked) or body.call.nr in _EXITS or body.call.nr == SYS_RT_SIGRETURN:
            return False
        mask = body.task.peek_mask()
        if deliverable(body, mask):
            self._signals.interrupted(body, -ERESTARTNOINTR, entered=False)
            return True
        if result == -ERESTART_RESTARTBLOCK and body.call.nr != SYS_POLL:  # a sleep, which goes on by its restart block
            self._signals.keep(body, mask)
            return False
        if body.outlives:
            return False
        stands = not signals.infos
        info = self._signals.wanted(body, mask)
        if info is None:
            if not stands:
                self._completion.make_anew(body)
            return not stands
        signals.returning = body.call.both = True
        self._forwarding.forward(body, sending(body, info, mask))
        return True

    def _supported(self, body: Body, nr: int, args: tuple[int, ...]) -> Syscall | None:
        """The row of the call; None when home judges it instead, because it is not supported or does not exist."""
        row = BY_NR.get(nr)
        if row is not None and (judge_away(row, args).do in (Do.SERVE, Do.PRIVATE) or Threads.makes(body, nr, args)):
            return row
        if row is None and nr not in self._illegal and len(self._illegal) < MOST_ILLEGAL:
            self._illegal.add(nr)
            at = f"{body.call.regs.rip:#x} (restart {body.signals.restart}, {body.state})"
            self._context.log(f"origpid={body.pair} illegal call {nr} at {at}", 30)
        self._forwarding.forward(body, Request(nr, args, body.task.peek_mask()), UNSUPPORTED)
        return None

    def _serve(self, body: Body, row: Syscall, args: tuple[int, ...]) -> None:
        """Decide who makes the call."""
        nr = row.nr
        if nr in SAYING:
            body.memory.said.hear(nr, args)
        if (found := guarded(nr, args)) is not None:
            with Calls(body.task) as call:
                result = carry_out(found, nr, args, call)
            self._completion.finish(body, result)
        elif self._mails.trapped(body, nr, args):
            pass
        elif row.host is not None:
            self.by_host[row.host](body, args)
        elif stays_in_body(row, args):
            self._in_body(body, args)
        elif row.away is Away.BOTH or (nr == SYS_PRCTL and _in_both(args)):
            if nr == SYS_PRCTL:  # who gives itself another name has often done so in its arguments, too
                tell_title(body, self._context.channel)
            self._both(body, args)
        else:
            self._deputy(body, args)

    def _deputy(self, body: Body, args: tuple[int, ...]) -> None:
        """Home makes it."""
        self._forwarding.forward(body, marshal(BY_NR[body.call.nr], args, body.task.peek_mask(), body.task))

    def _in_body(self, body: Body, args: tuple[int, ...]) -> None:
        """The body's own kernel makes it, unless what it tells could not be repeated."""
        if body.outlives and body.call.nr == SYS_GETRANDOM:
            self._deputy(body, args)
        else:
            body.task.cont()

    def _both(self, body: Body, args: tuple[int, ...]) -> None:
        """First home makes it, then the body, whose result is the program's (`in_body.second`)."""
        body.call.both = True
        self._deputy(body, args)

    # ------------------------------------------------------------------ opens

    def _open(self, body: Body, args: tuple[int, ...]) -> None:
        """An open whose third argument points to a name (`procfs.table.Kind.NAME`) takes that along."""
        request = marshal(BY_NR[body.call.nr], args, body.task.peek_mask(), body.task)
        memory = {blob.arg: bytes(blob.data) for blob in request.blobs if blob.data}
        path_arg, value_arg = OPENS[body.call.nr]
        if memory.get(path_arg, b"").endswith(NAMED):
            at = args[value_arg] if value_arg >= 0 else int.from_bytes(memory.get(2, b"")[8:16], "little")
            try:
                name = body.task.read_string(at)
                request.blobs.append(Blob(at, len(name) + 1, name + b"\0"))
            except OSError:
                pass  # home says EFAULT
        self._show(body, request)
        self._forwarding.forward(body, request)

    def _show(self, body: Body, request: Request) -> None:
        """An open of a file in /proc about its own memory: home has nothing to show there, so it is told what we see."""
        path = next((bytes(blob.data or b"")[:-1] for blob in request.blobs if blob.arg in (0, 1)), b"")
        name = shown.recognise(path, body.process) if path.startswith(b"/proc/") else ""
        if name:
            self.show(body, name, asked=False)

    def show(self, body: Body, name: str, *, asked: bool) -> None:
        """Tell home what the file ``name`` about the body shows; ``asked``: for another program (SHOW)."""
        text = shown.text(body.pid, name, body.memory.names, body.memory.copies.known)
        if name == "stat":
            tell_used(body, self._context.channel)
        self._context.channel.send(Kind.SHOWN, body.pair, text, int(asked))

    # ------------------------------------------------------------------ what is the host's own

    def _own_pid(self, body: Body, args: tuple[int, ...]) -> None:
        self._completion.finish(body, body.process if body.call.nr == SYS_GETPID else body.pair)

    def _sigaction(self, body: Body, args: tuple[int, ...]) -> None:
        (self._in_body if self._masks.sigaction(body, args) else self._both)(body, args)

    def _clock(self, body: Body, args: tuple[int, ...]) -> None:
        if not body.outlives and told_here(body, args[0], args[1]):
            self._completion.finish(body, 0)
        else:
            self._deputy(body, args)

    def _get_mempolicy(self, body: Body, args: tuple[int, ...]) -> None:
        """The program's own policy is the home-node's; that of an address is of memory here."""
        (self._in_body if args[4] & _MPOL_F_ADDR else self._deputy)(body, args)

    def _setrlimit(self, body: Body, args: tuple[int, ...]) -> None:
        """Limits that hold where the program computes are set on both sides."""
        which, new, pid = (args[0], args[1], 0) if body.call.nr == SYS_SETRLIMIT else (args[1], args[2], args[0] & 0xFFFFFFFF)
        own = pid in (0, body.process) and new and which in BODY_LIMITS
        (self._both if own else self._deputy)(body, args)

    def _robust_list(self, body: Body, args: tuple[int, ...]) -> None:
        """Threads have the IDs of home here, too; the only one has not."""
        if args[0] & 0xFFFFFFFF == body.pair:
            with Calls(body.task, base=body.call.regs) as call:
                result = call(SYS_GET_ROBUST_LIST, 0, *args[1:3])
            self._completion.finish(body, result)
        else:
            (self._in_body if body.own.several or not args[0] & 0xFFFFFFFF else self._deputy)(body, args)

    def _memory(self, body: Body, args: tuple[int, ...]) -> None:
        """process_vm_readv(2), process_vm_writev(2)."""
        if args[0] & 0xFFFFFFFF in (body.process, body.pair):
            with Calls(body.task, base=body.call.regs) as call:
                result = call(body.call.nr, body.pair if body.own.several else body.pid, *args[1:])
            self._completion.finish(body, result)
        else:
            self._forwarding.forward(body, Request(body.call.nr, args, body.task.peek_mask()), UNSUPPORTED)

    def _set_tid_address(self, body: Body, args: tuple[int, ...]) -> None:
        with Calls(body.task) as call:
            call(SYS_SET_TID_ADDRESS, args[0])
        self._completion.finish(body, body.pair)

    def _futex(self, body: Body, args: tuple[int, ...]) -> None:
        """Of several threads their kernel knows what they wait for (`timed`).

        Of the only thread, which nobody can wake: waiting is sleeping until the timeout or a signal, at home, on a copy of the
        word. So is what tells threads by their IDs, for locks with priority inheritance: home knows those."""
        if body.own.several and timed.is_timed(args):
            self._timed.begin(body, args)
        elif body.own.several:
            body.task.cont()
        elif args[1] & FUTEX_COMMAND in FUTEX_WAITS | FUTEX_PI:
            self._deputy(body, args)
        else:
            body.task.cont()


def _in_both(args: tuple[int, ...]) -> bool:
    return commands.prctl(args[0] & 0xFFFFFFFF).place is commands.Acts.BOTH
