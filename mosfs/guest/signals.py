"""Signals that home sends to a body: queued there, so that its own kernel calls the handler (docs/design/migration.md, Signals)."""

from __future__ import annotations

import errno

from mosfs.abi.flags import RESTARTS
from mosfs.abi.numbers import SYS_EPOLL_PWAIT, SYS_EPOLL_PWAIT2, SYS_PPOLL, SYS_PSELECT6, SYS_RT_SIGSUSPEND
from mosfs.guest.body import Body, State
from mosfs.guest.ports import Serving
from mosfs.migrate.capture import user_regs
from mosfs.migrate.rebuild import queue_signal
from mosfs.trace.inject import Calls
from mosfs.trace.stops import Stop
from mosfs.trace.task import NOTHING, copy_regs

#: Offset of uc_sigmask in struct ucontext of x86_64: its address is in rdx at the start of a handler, in rsp at rt_sigreturn.
UC_SIGMASK = 296
#: SIGKILL and SIGSTOP cannot be blocked.
KILL_STOP = 0x40100
#: It is not in our hands.
_RUNS = frozenset({State.RUNNING, State.TIMED})


class Signals:
    def __init__(self, serving: Serving) -> None:
        self._serving = serving

    def came(self, body: Body, info: bytes) -> None:
        """A signal for a handler; a body that waits for a message is not our affair (`mail.Mails.signalled`)."""
        body.signals.infos.append(info)
        body.signals.seen += 1
        body.times.deputy_cpu = -1
        if body.state in _RUNS and not body.stopping.interrupting and not body.stopping.paused:
            body.stopping.interrupting = True
            body.task.interrupt()
        elif body.stopping.paused and body.state is not State.TIMED:
            self.deliver(body, Stop.TRAP)

    def deliver(self, body: Body, stop: Stop) -> None:
        """Precondition: the body is stopped while RUNNING. Its registers are as before afterwards, its signals queued."""
        regs = user_regs(body.task.peek_regs(), stop)
        with Calls(body.task) as call:
            self.queue(body, call)
        body.task.set_regs(regs)

    def queue(self, body: Body, call: Calls) -> None:
        body.call.until = 0
        for info in body.signals.infos:
            queue_signal(call, info, shared=not body.own.several)
        body.signals.infos.clear()

    def interrupted(self, body: Body, result: int) -> None:
        """The deputy's call was broken off: by a signal whose handler is the body's, or by nothing that the program should see."""
        mask = body.task.peek_mask()
        temporary = temporary_mask(body)
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
        body.task.set_regs(regs)
        body.task.cont()


def deliverable(body: Body, mask: int) -> bool:
    """Whether a signal from home waits for the body that ``mask`` does not block."""
    return any(not mask >> (int.from_bytes(info[:4], "little") - 1) & 1 for info in body.signals.infos)


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
