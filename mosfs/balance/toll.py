"""What it costs a program to be away, added up as it goes, and when it has paid enough to come home.

Its calls, births and images travel: that is lost. CPU time that it gets sooner than it would at home is won. What it has lost since
it last won (a cumulative sum that is never less than 0: Page, "Continuous inspection schemes", Biometrika 41, 1954) is compared
with the price of the way home, as one who hires skis buys them when the hire has cost as much (Karlin, Manasse, Rudolph, Sleator,
"Competitive snoopy caching", Algorithmica 3, 1988): whatever it does next, it loses at most about twice what it must.
"""

from __future__ import annotations

from dataclasses import dataclass

from mosfs.abi.reasons import Reason
from mosfs.balance.cost import Candidate, Network, cost, crowding, price

#: A fork away takes as long as so many calls: its request, the wait for its end, and two processes on each side.
CALLS_OF_A_BIRTH = 20
#: A call that takes more than so many times what is usual waits for something else than for its way.
SLOWEST = 20.0

#: Seconds that a program which came home like that stays there at least; twice as long each time that it comes home again soon.
REST, LONGEST_REST = 5.0, 320.0
#: Soon: within so many times its last rest after that.
SOON = 4


@dataclass(frozen=True, slots=True)
class Toll:
    """What a program has done away, with its children that have ended there. ``calls``: that were forwarded, and births, each as
    `CALLS_OF_A_BIRTH` of them; ``traffic``: bytes in both directions; ``images``: of programs that it has executed; ``cpu``:
    seconds."""

    calls: float = 0
    traffic: float = 0
    images: float = 0
    cpu: float = 0.0

    def plus(self, other: Toll) -> Toll:
        return Toll(self.calls + other.calls, self.traffic + other.traffic, self.images + other.images, self.cpu + other.cpu)

    def minus(self, other: Toll) -> Toll:
        return Toll(self.calls - other.calls, self.traffic - other.traffic, self.images - other.images, self.cpu - other.cpu)

    def price(self, network: Network) -> float:
        """Seconds that it has taken, beside the CPU time."""
        return network.pull(self.calls, self.traffic) + self.images * network.setup


def weight(calls: float, seconds: float, network: Network) -> float:
    """How many usual calls those are worth that a program made in ``seconds`` in which it did not compute: where machines are busy
    each takes longer."""
    return calls * min(max(seconds / calls / network.call, 1.0), SLOWEST) if calls > 0 else 0.0


def advantage(home: Candidate | None, here: Candidate, size_mb: int, busy: float = 1.0) -> float:
    """Seconds that a CPU second ``here`` comes earlier than at home, others' loss included; 0 if it does not, or nothing is known
    of home. ``busy``: of so many threads."""
    if home is None:
        return 0.0
    return max(0.0, price(home, size_mb, busy) - cost(here) - crowding(here, -busy) / busy)


def lost(before: float, paid: Toll, gain: float, network: Network) -> float:
    """Seconds lost since being away last paid, when they were ``before`` and ``paid`` has come to it. ``gain``: `advantage`."""
    return max(0.0, before + paid.price(network) - gain * max(0.0, paid.cpu))


def homeward(loss: float, network: Network, size_mb: int) -> str:
    """Why a program that has lost so many seconds away shall come home; "" if it shall not yet."""
    way = network.transfer(size_mb)
    return f"{Reason.CALLS_COST} {loss:.2f} s more than it has won there, the move {way:.2f} s" if loss > way else ""


def rest(before: float, since: float) -> float:
    """Seconds that a program which its calls have brought home stays there. ``before``: the same the last time, 0 for never;
    ``since``: seconds since that was over."""
    return min(2 * before, LONGEST_REST) if before and since < SOON * before else REST
