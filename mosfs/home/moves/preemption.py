"""Preemption: when another package stops a program, its memory is freed, too (docs/design/freezing.md).

The signal that stops it is held back for as long as it takes to freeze the program, and then stops the deputy as it would have
stopped the program; SIGCONT lets both go on. If it cannot be frozen it is only stopped.
"""

from __future__ import annotations

import os
import struct
import time
from dataclasses import dataclass

from mosfs.abi.signals import SIGCONT, SIGSTOP, SIGTSTP
from mosfs.home.ports import Tree
from mosfs.home.process.program import Place, Program
from mosfs.trace.proc import comm_of, status_sets
from mosfs.trace.task import TaskGone

#: Daemons of packages that stop programs (/proc/PID/comm). Slurm's sends SIGTSTP, and two seconds later SIGSTOP.
PACKAGES = frozenset({"slurmstepd"})
#: si_code, si_pid and si_uid of a siginfo (sigaction(2)); the code of kill(2).
SENDER, SI_USER = struct.Struct("<8xi4xiI"), 0
MARK = "P"
#: Seconds for which a program may still run after it was to stop, when other things of it have to end before it can be frozen.
PATIENCE = 10.0


def sent_by_package(info: bytes, own: int) -> bool:
    """Whether a signal with this siginfo comes from a package: a process of root, or of ``own``, the user whom we run as."""
    code, pid, uid = SENDER.unpack_from(info)
    try:
        return code == SI_USER and uid in (0, own) and comm_of(pid) in PACKAGES
    except TaskGone:
        return False


@dataclass(slots=True)
class _Held:
    """``signal``: which shall stop it, 0 when SIGCONT has come; ``until``: by CLOCK_MONOTONIC; ``asked``: it has been told to
    freeze."""

    program: Program
    signal: int
    until: float
    asked: bool = False


class Preemption:
    def __init__(self, tracer: Tree) -> None:
        self.tracer = tracer
        self._held: dict[int, _Held] = {}
        self._frozen: set[int] = set()  # they go on with SIGCONT

    def holds(self, p: Program, sig: int) -> bool:
        """Whether a signal that is about to be delivered is held back: `begin` is due when the program goes on."""
        if sig == SIGCONT:
            self.over(p)
        frozen = p.frozen.mark == "M" or (p.frozen.mark == MARK and p.move is None)
        if sig not in (SIGSTOP, SIGTSTP) or frozen or p.several or p.process.native:
            return False
        if sig == SIGTSTP and not self.tracer.cores.by_default(p.pid, sig):
            return False
        if p.pid not in self._held:
            if not sent_by_package(p.task.peek_siginfo(), os.geteuid()):
                return False
            self._held[p.pid] = _Held(p, sig, time.monotonic() + PATIENCE)
        held = self._held[p.pid]
        held.signal = sig if held.signal != SIGSTOP else SIGSTOP  # which stops whom SIGTSTP may not (an orphaned process group)
        return True

    def begin(self, p: Program) -> None:
        """Have it frozen, now or as soon as its move has ended."""
        held = self._held[p.pid]
        if p.move is None and not held.asked:
            held.asked = True
            self.tracer.freezing.freeze(p, MARK)

    def over(self, p: Program) -> None:
        """SIGCONT has come."""
        held = self._held.get(p.pid)
        if held is not None:
            held.signal = 0
        elif p.pid in self._frozen:
            self._thaw(p)

    def _thaw(self, p: Program) -> None:
        freezes = p.move is not None and p.move.freezes is not None
        if p.frozen.mark == MARK or freezes:
            self.tracer.freezing.thaw(p)
        else:
            self._frozen.discard(p.pid)

    def due(self) -> float | None:
        """When `look` has something to do although nothing happens, by CLOCK_MONOTONIC."""
        return min((held.until for held in self._held.values()), default=None)

    def look(self, now: float) -> None:
        """Stop those that are frozen, or cannot be."""
        for held in [*self._held.values()]:
            p = held.program
            with self.tracer.containment.of(p):
                if p.move is None and p.travel.wanted is None:
                    if held.signal:
                        self.begin(p)
                    if p.move is None:
                        self._settle(held)
                elif now >= held.until and p.place is Place.LEAVING:  # it stands; and the end of that is an event
                    held.until = now + PATIENCE
                elif now >= held.until:
                    self._settle(held)

    def _settle(self, held: _Held) -> None:
        """It is stopped, or goes on."""
        p, sig = held.program, held.signal
        del self._held[p.pid]
        if held.asked:  # it may be frozen yet
            self._frozen.add(p.pid)
        sets = status_sets(p.pid)
        if sig and not (sets["SigPnd"] | sets["ShdPnd"]) >> (SIGCONT - 1) & 1:
            os.kill(p.pid, sig)
        else:  # SIGCONT has come; one that waits there now the kernel would forget for a stop signal
            self._thaw(p)

    def gone(self, p: Program) -> None:
        self._held.pop(p.pid, None)
        self._frozen.discard(p.pid)
