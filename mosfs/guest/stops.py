"""Stops of bodies: who deals with each."""

from __future__ import annotations

import time

from mosfs.guest.body import Body, State
from mosfs.guest.copying import Copying
from mosfs.guest.faults import Faults
from mosfs.guest.in_body import complete_getrandom
from mosfs.guest.onward import Onward
from mosfs.guest.ports import Ending
from mosfs.guest.processes import Processes
from mosfs.guest.serve import Serve
from mosfs.guest.signals import Signals
from mosfs.guest.timed import Timed
from mosfs.migrate import rseq
from mosfs.migrate.capture import signed, user_regs
from mosfs.trace.stops import USES_UP, Status, Stop
from mosfs.trace.task import SYSCALL


class Stops:
    def __init__(
        self, serve: Serve, processes: Processes, signals: Signals, faults: Faults, copying: Copying, onward: Onward,
        timed: Timed, ending: Ending,
    ) -> None:
        self._serve = serve
        self._processes = processes
        self._signals = signals
        self._faults = faults
        self._copying = copying
        self._onward = onward
        self._timed = timed
        self._ending = ending

    def handle(self, body: Body, status: Status) -> Body | None:
        """Deal with a stop of a body. Returns its child, if it has just forked."""
        stop = status.stop
        if body.stopping.interrupting and stop in USES_UP:
            body.task.interrupt()
        if stop is Stop.SECCOMP:
            if body.state is State.TIMED:
                self._timed.stopped(body)
            else:
                self._call(body)
        elif stop in (Stop.EXITED, Stop.KILLED):
            self._copying.brake.gone(body.pid)
            if body.own.several and self._processes.thread_ended(body, killed=stop is Stop.KILLED):
                return None
            self._ending.died(body, status.value if stop is Stop.KILLED else 0)
        elif stop is Stop.SIGNAL:
            self._faults.stop(body, status.value)
        elif stop is Stop.TRAP:
            self._trap(body)
        elif stop is Stop.SYSCALL:
            if self._processes.returned(body):
                self._stopped(body, Stop.SYSCALL)
        elif stop in (Stop.FORK, Stop.VFORK, Stop.CLONE):
            return self._processes.forked(body)
        else:
            body.task.cont()
        return None

    def _call(self, body: Body) -> None:
        self._serve.trapped(body)
        if body.stopping.wanted is not None and body.state is not State.RUNNING:
            # it went into a call before it saw our interrupt: it can leave from there
            order, body.stopping.wanted = body.stopping.wanted, None
            self._onward.request(body, order)
        elif body.stopping.arming is not None and body.state is not State.RUNNING:
            self._copying.copy_memory(body, body.stopping.arming)

    def _trap(self, body: Body) -> None:
        if body.fork.step is not None:
            self._processes.first_stop(body)
        body.stopping.interrupting = False
        if body.state is State.TIMED and self._timed.settled(body):
            if body.stopping.wanted is not None or body.stopping.arming is not None:
                body.stopping.interrupting = True
                body.task.interrupt()
            return
        if body.state is State.TIMED and body.signals.infos:
            self._timed.broken_off(body)
            return
        slowed = self._copying.brake and self._copying.brake.stopped(
            body.pid, time.monotonic(), computing=signed(body.task.peek_regs().orig_rax) < 0
        )
        complete_getrandom(body)
        if body.state is State.FORKING:
            body.task.cont(request=SYSCALL)
        elif body.stopping.wanted is not None or body.signals.infos or body.stopping.arming is not None:
            self._stopped(body, Stop.TRAP)
        elif body.stopping.halted:
            body.stopping.paused = True
        elif slowed:
            return
        else:
            body.task.cont()
        self._copying.brake.gone(body.pid)

    def _stopped(self, body: Body, stop: Stop) -> None:
        """A running body has stopped because we asked: deliver what waits, then move it or let it go on."""
        rseq.leave(body.task)
        if body.signals.restart is not None:  # first the signal that its broken call waits for (`signals`)
            body.task.cont()
            return
        if body.state is State.TIMED and body.stopping.arming is not None:
            self._copying.copy_memory(body, body.stopping.arming)
        if body.signals.infos and body.state is State.RUNNING:
            self._signals.deliver(body, stop)
        if body.stopping.arming is not None and body.state is State.RUNNING:
            regs = user_regs(body.task.peek_regs(), stop)
            self._copying.arm(body, body.stopping.arming, regs)
            body.task.set_regs(regs)
        if body.stopping.wanted is not None:
            order, body.stopping.wanted = body.stopping.wanted, None
            self._onward.capture_running(body, order)
        elif body.stopping.halted:
            body.stopping.paused = True
        else:
            body.task.cont()
