"""Signals that home sends to a body: queued there, so that its own kernel calls the handler (docs/design/migration.md, Signals)."""

from __future__ import annotations

import errno

from mosfs.abi.flags import ERESTARTNOHAND, RESTARTS
from mosfs.abi.numbers import (
    SYS_EPOLL_PWAIT,
    SYS_EPOLL_PWAIT2,
    SYS_EPOLL_WAIT,
    SYS_POLL,
    SYS_PPOLL,
    SYS_PSELECT6,
    SYS_READ,
    SYS_READV,
    SYS_RT_SIGPENDING,
    SYS_RT_SIGQUEUEINFO,
    SYS_RT_SIGSUSPEND,
    SYS_RT_SIGTIMEDWAIT,
    SYS_RT_TGSIGQUEUEINFO,
    SYS_SELECT,
)
from mosfs.abi.signals import SI_TKILL
from mosfs.calls.request import Blob, Request
from mosfs.guest.body import Body, State
from mosfs.guest.ports import Serving
from mosfs.migrate import futexes
from mosfs.migrate.capture import user_regs
from mosfs.migrate.rebuild import queue_signal, take_pending
from mosfs.native.registers import Registers
from mosfs.trace.inject import Calls
from mosfs.trace.stops import Stop
from mosfs.trace.task import NOTHING, copy_regs

#: Offset of uc_sigmask in struct ucontext of x86_64: its address is in rdx at the start of a handler, in rsp at rt_sigreturn.
UC_SIGMASK = 296
#: SIGKILL and SIGSTOP cannot be blocked.
KILL_STOP = 0x40100
#: Calls that take signals, or tell which wait; and those that do when the file is a signalfd.
MEETING = frozenset({SYS_RT_SIGTIMEDWAIT, SYS_RT_SIGPENDING})
LOOKING = frozenset({
    SYS_READ, SYS_READV, SYS_POLL, SYS_SELECT, SYS_EPOLL_WAIT, SYS_PPOLL, SYS_PSELECT6, SYS_EPOLL_PWAIT, SYS_EPOLL_PWAIT2,
})  # fmt: skip
#: The first signal that is queued as often as it is sent (signal(7)).
REAL_TIME = 32
#: It is not in our hands.
_RUNS = frozenset({State.RUNNING, State.TIMED})


class Signals:
    def __init__(self, serving: Serving) -> None:
        self._serving = serving

    def came(self, body: Body, info: bytes) -> None:
        """A signal for a handler; a body that waits for a message is not our affair (`mail.Mails.signalled`)."""
        body.signals.seen += 1
        self._take(body, info)

    def _take(self, body: Body, info: bytes) -> None:
        body.signals.infos.append(info)
        body.times.deputy_cpu = -1
        if body.state in _RUNS and not body.stopping.interrupting and not body.stopping.paused:
            body.stopping.interrupting = True
            body.task.interrupt()
        elif body.stopping.paused and body.state is not State.TIMED:
            self.deliver(body, Stop.TRAP)

    def left(self, body: Body) -> list[bytes]:
        """The body stands before its exit, alone of its threads: the signals that it will not take any more.

        Afterwards it stands no more where its call would be made, if one was in its kernel's queue."""
        found, body.signals.infos = body.signals.infos, []
        if body.signals.blocked:
            body.signals.blocked = False
            if numbers := {number_of(info) for _, info in body.task.peek_pending()}:
                with Calls(body.task) as call:
                    found = [*(info for _, info in take_pending(call, numbers)), *found]
        return found

    def hand_on(self, infos: list[bytes], others: list[Body]) -> None:
        """Signals that home's kernel has given to a thread which has ended: those of its process are for another that does not
        block them, as far as we know, or else wait in the first."""
        for info in infos:
            if int.from_bytes(info[8:12], "little", signed=True) == SI_TKILL:
                continue
            free = (body for body in others if not is_blocked(info, body.signals.told_mask))
            self._take(next(free, others[0]), info)

    def deliver(self, body: Body, stop: Stop) -> None:
        """Precondition: the body is stopped while RUNNING. It stands as before afterwards, its signals queued."""
        regs = user_regs(body.task.peek_regs(), stop)
        with Calls(body.task) as call:
            self.queue(body, call)
        self.put(body, regs)

    @staticmethod
    def put(body: Body, regs: Registers) -> None:
        """The registers with which it goes on, where signals may be queued."""
        if not body.own.several:
            body.task.set_regs(regs)
            return
        futexes.put(body.task, regs)
        if body.stopping.interrupting:  # which that has used up
            body.task.interrupt()

    def queue(self, body: Body, call: Calls) -> None:
        """Whether one waits there, which its mask or the handler of another blocks, is found at the next call."""
        body.call.until = 0
        for info in body.signals.infos:
            queue_signal(call, info, shared=not body.own.several)
            body.signals.blocked = True
        body.signals.infos.clear()

    def wanted(self, body: Body, mask: int) -> bytes | None:
        """The next signal that the body blocks and the deputy has to meet in this call, whether it is queued in the body or not.
        The others stay, or are, queued there."""
        signals, nr = body.signals, body.call.nr
        self.keep(body, mask)
        if not signals.blocked:
            return None
        numbers = {number_of(info) for _, info in body.task.peek_pending() if is_blocked(info, mask)}
        signals.blocked = bool(numbers)
        temporary = temporary_mask(body) if numbers else None
        numbers = {number for number in numbers if meets(nr, number, temporary)}
        if numbers:
            with Calls(body.task) as call:
                signals.infos = [info for _, info in take_pending(call, numbers)]
        return signals.infos.pop(0) if signals.infos else None

    def keep(self, body: Body, mask: int) -> None:
        """Queue what the body blocks; it stands in a call."""
        if body.signals.infos:
            with Calls(body.task, base=copy_regs(body.call.regs), mask=mask) as call:
                self.queue(body, call)

    def interrupted(self, body: Body, result: int, *, entered: bool = True) -> None:
        """The deputy's call was broken off: by a signal whose handler is the body's, or by nothing that the program should see.

        ``entered``: a mask that the call has for itself holds."""
        mask = body.task.peek_mask()
        temporary = temporary_mask(body) if entered else None
        effective = mask if temporary is None else temporary
        if not deliverable(body, effective):
            self._serving.again(body, result)
            return
        regs = body.call.regs
        regs.rax = result & NOTHING
        regs.orig_rax = NOTHING
        body.state = State.RUNNING
        body.signals.restart = (body.call.nr, result if result in RESTARTS else -errno.EINTR)
        base = copy_regs(regs)
        with Calls(body.task, base=base, mask=effective) as call:
            self.queue(body, call)
        if temporary is not None:
            body.signals.saved_mask = mask
        if body.own.several:
            self._stand(body, regs)
        else:
            body.task.set_regs(regs)
        body.task.cont()

    @staticmethod
    def _stand(body: Body, regs: Registers) -> None:
        """Another thread may have the signal ignored before it is delivered, and then no stop tells of it: so the kernel itself
        decides, and makes the broken call again without a signal (`undelivered`)."""
        assert body.signals.restart is not None
        number, result = body.signals.restart
        if result not in RESTARTS or number == SYS_POLL:  # what a poll has found is not where restart_syscall(2) would leave it
            result = -ERESTARTNOHAND
        regs.orig_rax, regs.rax = number & NOTHING, result & NOTHING
        body.task.stand(regs)
        if body.stopping.interrupting:  # which that has used up
            body.task.interrupt()

    @staticmethod
    def undelivered(body: Body) -> None:
        """It has come to a call: the signal for which one was broken off is not there any more, and that is made again."""
        body.signals.restart = None
        if body.signals.saved_mask is not None:
            body.task.set_mask(body.signals.saved_mask)
            body.signals.saved_mask = None


def deliverable(body: Body, mask: int) -> bool:
    """Whether a signal from home waits for the body that ``mask`` does not block."""
    return any(not is_blocked(info, mask) for info in body.signals.infos)


def sending(body: Body, info: bytes, mask: int) -> Request:
    """The call by which a deputy that blocks ``mask`` sends itself the signal of ``info``."""
    to = (body.process, body.pair) if body.own.several and (body.threads or body.leader) else (body.process,)
    args = (*to, number_of(info), 0)
    nr = SYS_RT_SIGQUEUEINFO if len(to) == 1 else SYS_RT_TGSIGQUEUEINFO
    return Request(nr, (*args, 0, 0, 0)[:6], mask, [Blob(0, len(info), info, len(args) - 1)])


def meets(nr: int, number: int, temporary: int | None) -> bool:
    """Whether the deputy has to meet a blocked signal in a call that waits with the mask ``temporary``.

    Who looks at a file, perhaps at a signalfd, is likely to be in a handler, and real-time signals have an order."""
    if nr in MEETING or (temporary is not None and not temporary >> (number - 1) & 1):
        return True
    return nr in LOOKING and number < REAL_TIME


def number_of(info: bytes) -> int:
    return int.from_bytes(info[:4], "little")


def is_blocked(info: bytes, mask: int) -> bool:
    return bool(mask >> (number_of(info) - 1) & 1)


def temporary_mask(body: Body) -> int | None:
    """The mask that holds while the call waits (sigsuspend, ppoll, pselect6, epoll_pwait), if it has one."""
    r = body.call.regs
    where = {
        SYS_RT_SIGSUSPEND: r.rdi, SYS_PPOLL: r.r10, SYS_EPOLL_PWAIT: r.r8, SYS_EPOLL_PWAIT2: r.r8,
    }.get(body.call.nr, 0)  # fmt: skip
    try:
        if body.call.nr == SYS_PSELECT6 and r.r9:
            where = body.task.read_words(r.r9, 1)[0]
        return body.task.read_words(where, 1)[0] & ~KILL_STOP if where else None
    except OSError:
        return None
