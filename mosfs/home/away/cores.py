"""Core files of programs that are away: a program comes home before it dies of a signal that writes one (core(5)).

So the file holds the program's memory and registers, written by home's kernel as natively: limits, core_pattern and core_filter are
its business. A program that cannot come home dies without one, and a line says so. Where none would be written nothing travels.
"""

from __future__ import annotations

import os
import time

from mosfs.abi.flags import PR_SET_DUMPABLE
from mosfs.abi.numbers import SYS_PRCTL
from mosfs.home.ports import Tree
from mosfs.home.process.deputy import Deputy
from mosfs.home.process.move import Move
from mosfs.home.process.program import Program
from mosfs.migrate.capture import core_limit
from mosfs.migrate.rebuild import DEFAULT_ACTION, set_action
from mosfs.trace.inject import Calls
from mosfs.trace.proc import status_sets

#: Signals whose default action writes a core file (signal(7)): QUIT ILL TRAP ABRT BUS FPE SEGV XCPU XFSZ SYS
SIGNALS = frozenset({3, 4, 5, 6, 7, 8, 11, 24, 25, 31})
PATTERN = "/proc/sys/kernel/core_pattern"


class Cores:
    def __init__(self, tracer: Tree) -> None:
        self.tracer = tracer

    def wanted(self, p: Program, sig: int) -> bool:
        """Whether the kernel may write one when ``p`` dies of ``sig``: programs that read it (a pipe) have no limit."""
        if sig not in SIGNALS or p.death.coreless or not p.away or p.kin.leader or p.kin.threads:
            return False
        if core_limit(p.pid):
            return True
        try:
            with open(PATTERN, "rb") as pattern:
                return pattern.read(1) == b"|"
        except OSError:
            return False

    def fault(self, p: Program, deputy: Deputy, info: bytes) -> None:
        """The body, which stands where it was when that happened, is to die of ``info``. Precondition: the deputy is READY."""
        sig = int.from_bytes(info[:4], "little")
        self.let_die(p, deputy, sig)
        deputy.ready_since = time.monotonic()
        self.tracer.deputies.watch(p)
        self.come_home(p, info)

    def let_die(self, p: Program, deputy: Deputy, sig: int) -> None:
        """As the kernel does before a fault that nobody handles: it cannot be ignored, nor blocked."""
        with Calls(p.task, base=deputy.base, mask=deputy.mask) as call:
            set_action(call, sig, DEFAULT_ACTION)
        deputy.set_mask(deputy.mask & ~(1 << (sig - 1)))

    def come_home(self, p: Program, info: bytes) -> None:
        """Have it come home, where it takes the signal of ``info``."""
        if p.death.signal is None:
            p.death.signal = info
            p.body.infos.append(info)
            if obstacle := p.obstacle():
                self._came(p, info, obstacle)
                return
            self.tracer.moves.request(p, Move("", "home", done=lambda reason: self._came(p, info, reason), hurry=True))

    def _came(self, p: Program, info: bytes, reason: str) -> None:
        """It is home and about to take the signal, or it cannot come."""
        p.death.signal = None
        if not reason or self.tracer.programs.get(p.pid) is not p:
            return
        p.death.coreless = True
        self.tracer.mosd.log(f"pid={p.pid} writes no core file, because it cannot come home: {reason}", 30)
        p.body.infos = [other for other in p.body.infos if other is not info]
        deputy, sig = p.deputy, int.from_bytes(info[:4], "little")
        if deputy is None:
            os.kill(p.pid, sig)
        else:
            deputy.when_ready(lambda: self._die_without(p, deputy, sig, reason))

    def _die_without(self, p: Program, deputy: Deputy, sig: int, reason: str) -> None:
        self.tracer.policy.say(p, f"no core file is written: {reason}")
        self.let_die(p, deputy, sig)
        with Calls(p.task, base=deputy.base, mask=deputy.mask) as call:
            call(SYS_PRCTL, PR_SET_DUMPABLE, 0)
        os.kill(p.pid, sig)
        deputy.park()

    @staticmethod
    def by_default(pid: int, sig: int) -> bool:
        """Whether the default action is what the process takes ``sig`` for."""
        sets = status_sets(pid)
        return not (sets["SigCgt"] | sets["SigIgn"]) >> (sig - 1) & 1
