"""What it costs to compute on a node, and to get there.

The cost of a node is the wall-clock time in which a program there gets one second of a standard CPU: processor sharing gives
``stretch``, a memory that is nearly full multiplies it (`pressure`). So load, speed, number of CPUs, memory and the price of a
move are all seconds, can be added and compared, and can be told to people. What a program costs on a node is the marginal cost
of Amir, Awerbuch, Barak, Borgstrom, Keren, "An opportunity cost approach for job assignment in a scalable computing cluster"
(TPDS 11(7), 2000): its own, and what all others there lose by it (`crowding`). docs/design/decisions.md says why not their
exponential form.
"""

from __future__ import annotations

from dataclasses import dataclass

STANDARD_SPEED = 10000
ONE_PROCESS = 100

#: Memory in use up to this share costs nothing; from there to a full memory the cost rises to `THRASHING` times.
COMFORT = 0.85
THRASHING = 10.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """A node that would take a program. ``load``: 100 = one runnable process a standard CPU; memory in megabytes, ``mem_total`` 0
    = not known; ``arriving``: programs, or busy threads, that were sent there so recently that its load does not show them yet;
    ``open``: it takes guests, and not only its own programs back; ``flags``: of its processor (`abi.cpu`), none when they are not
    known; ``level``: the worst priority that may come there; ``own``: it is in our own cluster; ``evictions``: how often in a
    second a program has to leave it for others'."""

    ip: str
    load: int
    speed: int
    ncpus: int
    mem_free: int
    arriving: float = 0
    mem_total: int = 0
    open: bool = True
    flags: frozenset[str] = frozenset()
    level: int = 65535
    own: bool = True
    evictions: float = 0.0

    def offers(self, flags: frozenset[str]) -> bool:
        """Is none of ``flags`` known to be lacking there?"""
        return not flags or not self.flags or flags <= self.flags


@dataclass(frozen=True, slots=True)
class Network:
    """The way between two nodes. ``bandwidth``: megabytes of image a second; ``call``: seconds that a forwarded call takes
    longer than one at home; ``setup``: seconds for the smallest move."""

    bandwidth: float
    call: float
    setup: float

    def transfer(self, size_mb: float) -> float:
        """Seconds that a program of ``size_mb`` megabytes is on its way."""
        return self.setup + size_mb / self.bandwidth

    def pull(self, calls: float, traffic: float) -> float:
        """Seconds a second for a program away that makes ``calls`` calls and moves ``traffic`` bytes in that time."""
        return calls * self.call + traffic / 1e6 / self.bandwidth


#: Who has to make way loses the time of so many moves: home, and from there to another node.
EVICTED = 2

#: mosix.map(5), letter p: near nodes. Measured moves correct the bandwidth (`daemon.balancer`).
NEAR = Network(bandwidth=200.0, call=1e-4, setup=0.02)
DISTANT = Network(bandwidth=20.0, call=1e-3, setup=0.1)


def load_of(runnable: float, ncpus: int, speed: int) -> int:
    """Load in the manual's unit (mosctl(1), rstatus): 100 = one runnable process for each CPU of standard speed."""
    return round(runnable * ONE_PROCESS / max(ncpus, 1) * STANDARD_SPEED / max(speed, 1))


def runnable_on(node: Candidate) -> float:
    """Inverse of `load_of`: programs that want a CPU there, those about to arrive included."""
    return node.load / ONE_PROCESS * max(node.ncpus, 1) * max(node.speed, 1) / STANDARD_SPEED + node.arriving


def stretch(runnable: float, ncpus: int, speed: int) -> float:
    """Wall-clock seconds for a standard CPU second under processor sharing with ``runnable`` programs in all."""
    return max(1.0, runnable / max(ncpus, 1)) * STANDARD_SPEED / max(speed, 1)


def pressure(free_mb: float, total_mb: float) -> float:
    """Factor for a memory with so much free: 1 while there is room, `THRASHING` when there is none."""
    if total_mb <= 0:
        return 1.0
    over = (1 - free_mb / total_mb - COMFORT) / (1 - COMFORT)
    return 1 + (THRASHING - 1) * min(max(over, 0.0), 1.0)


def cost(node: Candidate, more: float = 0.0, more_mb: float = 0.0) -> float:
    """Seconds for a standard CPU second on ``node`` when ``more`` programs with ``more_mb`` megabytes have come (< 0: left)."""
    return stretch(runnable_on(node) + more, node.ncpus, node.speed) * pressure(node.mem_free - more_mb, node.mem_total)


def crowding(node: Candidate, change: float, more_mb: float = 0.0) -> float:
    """Seconds for a standard CPU second that all others on ``node`` together lose by ``change`` programs that come, or lose because
    of ``-change`` that are there."""
    few, many = sorted((runnable_on(node), max(0.0, runnable_on(node) + change)))
    loss = stretch(many, node.ncpus, node.speed) - stretch(few, node.ncpus, node.speed)
    return few * loss * pressure(node.mem_free - more_mb, node.mem_total)


def price(node: Candidate, more_mb: float = 0.0, busy: float = 1.0) -> float:
    """What a program with ``more_mb`` megabytes costs on ``node`` for a second of its CPU time: itself and the others. ``busy``: so
    many of its threads want a CPU; it is like so many programs, which share a price."""
    return cost(node, busy, more_mb) + crowding(node, busy, more_mb) / busy


def unsettled(node: Candidate, network: Network, size_mb: float) -> float:
    """Factor for what a program of ``size_mb`` megabytes costs on ``node``, since it may have to make way for others there."""
    return 1 + node.evictions * EVICTED * network.transfer(size_mb)


def load_for(limit: float, node: Candidate, more_mb: float = 0.0, busy: float = 1.0) -> int:
    """The load with one more program up to which `price` is at most ``limit``, when all of ``busy`` have come."""
    unit = stretch(1, node.ncpus, node.speed) * pressure(node.mem_free - more_mb, node.mem_total)
    pays = limit >= unit * max(1.0, busy / max(node.ncpus, 1))
    programs = max(busy, (limit / unit * node.ncpus + busy) / 2, node.ncpus) if pays else busy - 1
    return load_of(programs - (busy - 1), node.ncpus, node.speed)
