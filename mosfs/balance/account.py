"""What a process uses, measured where it runs: CPU time and demand, memory, calls and bytes.

At home calls are native and not counted one by one: reads and writes are in /proc/PID/io (proc(5)), and of all others the kernel's
share of the CPU time tells. Away every call passes the tracer and the host, which count into `calls`, `received` and `sent`.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field

from mosfs.balance.history import History

#: Of a clock of CPU time: what the scheduler counts of a process, with all its threads (clock_getcpuclockid(3)).
_CPUCLOCK_SCHED = 2
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
#: A call that is not I/O counts for so many seconds in the kernel: many cheap ones look like few, the page faults of a program
#: that fills its memory like hardly any.
KERNEL_TIME_OF_A_CALL = 20e-6
#: Less CPU time than this in a second is none: ticks and wake-ups.
NOTICEABLE = 0.001


def busy(demand: float) -> float:
    """As so many programs one counts that wants so many processors."""
    return max(1.0, demand)


@dataclass(frozen=True, slots=True)
class Reading:
    """Counters of the kernel since the process was made. ``ran``, ``waited``, ``kernel``, ``user``: seconds. ``io``: calls, bytes
    in and out. ``threads``: how many it has."""

    ran: float = 0.0
    waited: float = 0.0
    kernel: float = 0.0
    size_mb: int = 0
    io: tuple[int, int, int] = (0, 0, 0)
    user: float = 0.0
    threads: int = 1


def read(pid: int, *, io: bool) -> Reading:
    """The counters of ``pid``; OSError when it is gone."""
    with open(f"/proc/{pid}/stat", encoding="latin-1") as file:
        stat = file.read().rpartition(")")[2].split()
    user, kernel = int(stat[11]) / TICKS, int(stat[12]) / TICKS
    ran, waited = _scheduled(pid, alone=int(stat[17]) == 1) or (user + kernel, 0.0)
    return Reading(ran, waited, kernel, int(stat[21]) * PAGE >> 20, _io(pid) if io else (0, 0, 0), user, int(stat[17]))


def _scheduled(pid: int, *, alone: bool) -> tuple[float, float] | None:
    """Seconds on a CPU and waiting for one; None where the kernel does not say (it needs CONFIG_SCHED_INFO).

    ``alone``: it has one thread. Of several it is how long all of them have waited, which is less when one has ended."""
    waited = 0
    try:
        for folder in [f"/proc/{pid}"] if alone else [f"/proc/{pid}/task/{tid}" for tid in os.listdir(f"/proc/{pid}/task")]:
            with open(f"{folder}/schedstat", encoding="ascii") as file:
                waited += int(file.read().split()[1])
        return time.clock_gettime_ns(~pid << 3 | _CPUCLOCK_SCHED) / 1e9, waited / 1e9
    except (OSError, IndexError, OverflowError):
        return None


def _io(pid: int) -> tuple[int, int, int]:
    """Calls, bytes read, bytes written; zeros where the kernel does not say (it needs CONFIG_TASK_IO_ACCOUNTING)."""
    try:
        with open(f"/proc/{pid}/io", encoding="ascii") as file:
            received, sent, reads, writes = (int(line.split()[1]) for line, _ in zip(file, range(4)))
    except OSError:
        return 0, 0, 0
    return reads + writes, received, sent


@dataclass(slots=True)
class Account:
    """The statistics of one process. ``calls``, ``received``, ``sent``: in all, counted by whoever sees them; `advance` takes up
    what is new of them.

    ``user_away``: seconds of user level that it was away; the home-node's kernel counts the others.
    ``news``: something happened that mosd has not been told.
    """

    at: float  #: monotonic seconds up to which it counts
    decay: int = -1
    age: float = 0.0
    here: float = 0.0
    demand: float = 0.0
    size_mb: int = 0
    history: History = field(default_factory=History)
    calls: int = 0
    received: int = 0
    sent: int = 0
    user_away: float = 0.0
    forwarded: int = 0
    news: bool = True
    last: Reading | None = field(default_factory=Reading)
    taken: tuple[int, int, int] = (0, 0, 0)  #: of calls, bytes received and sent

    def measure(self, pid: int, now: float, *, io: bool) -> float:
        """Take up what ``pid`` has used since the last time; its CPU seconds. ``io``: it makes its calls itself."""
        reading = read(pid, io=io)
        last, self.last = self.last, reading
        self.size_mb = reading.size_mb
        if last is None:
            last = reading
        ran = max(0.0, reading.ran - last.ran)  # of which the kernel may say less when a thread ends
        if io:
            calls, received, sent = (now - then for now, then in zip(reading.io, last.io))
            self.calls += max(calls, int((reading.kernel - last.kernel) / KERNEL_TIME_OF_A_CALL))
            self.received += received
            self.sent += sent
        seconds = now - self.at
        wanted = min(float(reading.threads), (ran + max(0.0, reading.waited - last.waited)) / seconds) if seconds > 0 else 0.0
        self.news = self.news or (wanted < NOTICEABLE) != (self.demand < NOTICEABLE)
        self.demand = wanted
        self.here += ran
        self.advance(now, ran)
        return ran

    def advance(self, now: float, cpu: float = 0.0) -> None:
        """Put what was counted, and ``cpu`` seconds, into the history."""
        taken, self.taken = self.taken, (self.calls, self.received, self.sent)
        calls, received, sent = (now - then for now, then in zip(self.taken, taken))
        new = History(now - self.at, cpu, calls, received, sent)
        self.news = self.news or cpu > NOTICEABLE or calls > 0
        self.history = self.history.plus(now - self.at, self.decay, new)
        self.age += cpu
        self.at = now

    def start(self, pid: int, now: float) -> None:
        """A program begins in the process ``pid``: what another one used in it before is not its own."""
        self.last, self.at = read(pid, io=True), now

    def leave(self) -> None:
        """It computes elsewhere now: what its process here uses is not its own until it is back, when it has just come."""
        self.last, self.here, self.demand = None, 0.0, 0.0

    def clear(self) -> None:
        """mosix(7), clear. The age stays: it is no statistics but a fact."""
        self.history = History()
        self.taken = self.calls, self.received, self.sent
        self.news = True
