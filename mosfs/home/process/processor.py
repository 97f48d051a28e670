"""What one program asks of a processor: features that it is known to use, and those that it has seen.

A program sees a processor's features where it runs (CPUID), and chooses its code by them; so what it has seen since its exec is
what it may come to use. Nothing of this is asked on equal machines.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from struct import error as StructError
from struct import iter_unpack

from mosfs.abi import cpu
from mosfs.abi.numbers import SYS_SCHED_GETAFFINITY, SYS_SCHED_SETAFFINITY

#: They must find the program's CPUs, not the one where we hold it for a while.
AFFINITY = frozenset({SYS_SCHED_SETAFFINITY, SYS_SCHED_GETAFFINITY})
_AT_BASE = 7
_BOUND = re.compile(rb"\0LD_BIND_NOW=[^\0]")
#: No environment is longer (execve(2)); a program may say that its own is (prctl(2), PR_SET_MM_MAP).
_LARGEST = 8 << 20


def binds_late(pid: int) -> bool:
    """Whether ld.so binds functions of the process when they are first called."""
    try:
        with open(f"/proc/{pid}/auxv", "rb") as file:
            auxv = dict(iter_unpack("<QQ", file.read()))
        with open(f"/proc/{pid}/environ", "rb") as file:
            environ = b"\0" + file.read(_LARGEST)
    except (OSError, StructError):
        return True
    return bool(auxv.get(_AT_BASE)) and not _BOUND.search(environ)


@dataclass(slots=True)
class Demand:
    """``home``: the home-node's line. ``needs``: flags that it has used where they were lacking. ``visited``: by IP, lines of the
    nodes where it has run since its exec and that have what home lacks, the last one last. ``waiting``: its state of components
    that home lacks (`abi.xstate.waits`), while it is at home."""

    home: str
    needs: frozenset[str] = frozenset()
    visited: dict[str, str] = field(default_factory=dict)
    waiting: dict[int, bytes] = field(default_factory=dict)

    def copy(self) -> Demand:
        return replace(self, visited=dict(self.visited), waiting=dict(self.waiting))

    def ran_at(self, ip: str, line: str) -> None:
        """It has run at the node ``ip`` (not at home), whose features are ``line``, "" if unknown."""
        self.visited.pop(ip, None)
        if not line or line == self.home or not cpu.missing(cpu.parse(line).flags, self.home):
            return
        self.visited[ip] = line

    @property
    def seen(self) -> str:
        """The line of all features that it has seen."""
        line = self.home
        for other in self.visited.values():
            line = cpu.union(line, other)
        return line

    @property
    def required(self) -> list[str]:
        """What a node must have that it is sent to. Home takes it in any case."""
        return cpu.required(self.seen, self.needs)

    @property
    def foreign(self) -> bool:
        """It may use what home lacks, so that a signal by an instruction at home need not be real."""
        return bool(self.visited)

    def too_much(self, pid: int, there: str) -> list[str]:
        """The flags of state that the node ``there`` has and for which this program, ``pid``, has no room (`cpu.overflowing`).

        A program without ld.so, or that ld.so has bound when it began (ld.so(8), LD_BIND_NOW), saves no state.
        """
        more = cpu.overflowing(self.seen, there) if there else []
        return more if more and binds_late(pid) else []

    def refuge(self, needs: list[str]) -> str | None:
        """Where the flags ``needs`` are: "" for home, an IP, or None if nowhere that we know of."""
        wanted = self.needs | set(needs)
        if not cpu.missing(wanted, self.home):
            return ""
        return next((ip for ip, line in reversed(self.visited.items()) if not cpu.missing(wanted, line)), None)
