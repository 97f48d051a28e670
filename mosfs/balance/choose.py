"""Which programs leave this node, and for where: one `Verdict` for each program that runs here, with its reason.

A program moves when, over the rest of its life, all get their CPU time so much earlier that the move pays::

    (price there + transfer / life) * HYSTERESIS < price here

A price is seconds for a second of CPU (`balance.cost`): what the program takes there, and what all others there lose by it. Away
from home the pull of calls and I/O is added (mosrun(1), -c), in another cluster what it costs to have to leave (`cost.unsettled`).
``life``: what is left of it, for which its age is the best guess when P(life > t) ~ 1/t (Harchol-Balter, Downey, TOCS 15(3), 1997).
A program with several busy threads is like so many programs that go together.
Whoever saves most goes first, and the plan for the next one counts it as gone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from mosfs.abi.cpu import lacks
from mosfs.balance.account import busy
from mosfs.balance.best import SAME_COST, settled
from mosfs.balance.cost import Candidate, Network, cost, crowding, load_for, load_of, price, unsettled
from mosfs.balance.history import History
from mosfs.balance.usher import pick

#: There must be so much better than here: what is known of others is a second or two old, and they decide at the same time.
HYSTERESIS = 1.2
#: So many programs leave in one round at most, and no more than can be sent until the next, in seconds.
MOVES = 8
SENDING = 1.0
#: A program that wants less of a CPU, and spends less time in calls, is idle.
IDLE_DEMAND, IDLE_CALLS = 0.1, 0.02
#: Of a program with hardly any CPU time this share of the time counts as computing, when rates are divided by it.
LEAST_SHARE = 0.01

#: CPU seconds that a program is thought to go on at least.
LEAST_LIFE = 0.001

Choose = Callable[[Sequence[str]], str]


@dataclass(frozen=True, slots=True)
class Process:
    """A program that runs here, its own or a guest. ``home``: IP of its home-node, "" when that is here.

    ``age``: CPU seconds since it was started; ``here``: since it came; ``demand``: share of the last second in which it ran or
    wanted to, of several threads their sum; ``barred``: why it cannot move at all, "" if it can; ``refused``: nodes that did not
    take it lately; ``asked``: it has asked to be considered (mosix(7), migrate), so it counts as neither young nor idle; ``rests``:
    its calls have just brought it home (`balance.toll`). ``required``: flags of processors that a node must have, unless that is
    its home; ``seen``: those of its home, which it may come to use. ``priority``: of its home-node's programs in this cluster;
    those of other clusters are sent on within this one only, and where they may run.
    ``confined``: it stays in its own cluster (`cluster.mosrun_conf`).
    """

    pid: int
    name: str
    home: str
    age: float
    here: float
    demand: float
    size_mb: int
    history: History = field(default_factory=History)
    need_mb: int = 0
    locked: bool = False
    cpujob: bool = False
    barred: str = ""
    moving: bool = False
    asked: bool = False
    rests: bool = False
    refused: frozenset[str] = frozenset()
    required: frozenset[str] = frozenset()
    seen: frozenset[str] = frozenset()
    priority: int = 0
    confined: bool = False

    @property
    def busy(self) -> float:
        return busy(self.demand)

    def may_go(self, node: Candidate) -> bool:
        """Whether that node would take it, as far as is known; home does in any case."""
        if node.ip in self.refused:
            return False
        if node.ip == self.home:
            return True
        if self.confined and not node.own:
            return False
        return node.open and node.offers(self.required) and (not self.priority or (node.own and self.priority <= node.level))

    @property
    def needs(self) -> int:
        """Megabytes that a node must have free for it."""
        return max(self.size_mb, self.need_mb)

    def pull(self, network: Network) -> float:
        """Seconds that calls and I/O add to a second of its CPU time when it is away."""
        if self.cpujob:
            return 0.0
        share = max(self.history.share, LEAST_SHARE)
        return network.pull(self.history.call_rate / share, self.history.traffic / share)


@dataclass(frozen=True, slots=True)
class Switches:
    """mosctl(1): ``stay`` keeps every program here, ``lstay`` those whose home this is."""

    stay: bool = False
    lstay: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """``target``: IP of the node it leaves for, None when it stays. ``below``: the move pays only while the load there, with
    one more program, is below this (0: whatever the load)."""

    pid: int
    why: str
    target: str | None = None
    below: int = 0


@dataclass(frozen=True, slots=True)
class Offer:
    """The best of the other nodes for one program, or why there is none. ``gain``: seconds saved over its life."""

    why: str
    target: Candidate | None = None
    gain: float = 0.0
    below: int = 0
    transfer: float = 0.0


def hindrance(process: Process, switches: Switches, network: Network) -> str:
    """Why the program may not be chosen, whatever the loads are; "" if it may."""
    history = process.history
    if process.locked:
        return "it is locked (mosrun -L)"
    if process.barred:
        return process.barred
    if switches.stay:
        return "this node is in stay mode"
    if switches.lstay and not process.home:
        return "this node is in lstay mode"
    if process.moving:
        return "a move is under way"
    if not process.asked and process.demand < IDLE_DEMAND and history.call_rate * network.call < IDLE_CALLS:
        return "it is idle"
    return ""


def offer(
    process: Process, here: Candidate, others: Sequence[Candidate], network: Callable[[str], Network], choose: Choose
) -> Offer:
    """The node where ``process`` costs least, if going there pays."""
    if process.rests and not process.asked:
        return Offer("its calls away have just brought it home")
    pull = process.pull(network(process.home or here.ip)) if process.home else 0.0
    many = process.busy
    now = cost(here) + crowding(here, -process.demand) / many + pull
    prices: dict[Candidate, float] = {}
    for node in others:
        if process.may_go(node) and node.mem_free >= process.needs:
            way = network(node.ip)
            away = 0.0 if node.ip == process.home else process.pull(way)
            prices[node] = price(node, process.size_mb, many) * unsettled(node, way, process.size_mb) + away
    if not prices:
        return Offer(nowhere(process, others))
    least = min(prices.values())
    cheap = settled([node for node, found in prices.items() if found <= least * SAME_COST])
    by_ip = {node.ip: node for node in [node for node in cheap if node.offers(process.seen)] or cheap}
    target = by_ip[choose(sorted(by_ip))]
    there, transfer = prices[target], network(target.ip).transfer(process.size_mb)
    if process.here < min(transfer, process.age) and not process.asked:
        return Offer(f"it came {process.here:.1f} CPU seconds ago, and a move takes {transfer:.1f} s")
    life = max(process.age / many, transfer if process.asked else LEAST_LIFE)
    limit = now / HYSTERESIS - transfer / life
    pull_there = there - price(target, process.size_mb, many)
    costs = (
        f"a CPU second takes {cost(here) + pull:.2f} s here, {cost(target, many, process.size_mb) + pull_there:.2f} s there"
        f" ({now:.2f} and {there:.2f} with what others lose), the move {transfer:.2f} s"
    )
    if there >= limit:
        return Offer(f"no better node: {costs}")
    below = load_for(limit - pull_there, target, process.size_mb, many)
    return Offer(costs, target, ((now - there) * life - transfer) * many, below, transfer)


def nowhere(process: Process, others: Sequence[Candidate]) -> str:
    """Why none of ``others`` takes it: the features that it needs, if they are what keeps it here."""
    able = [node for node in others if node.open and node.mem_free >= process.needs]
    lacking = {node.ip: sorted(process.required - node.flags) for node in able if not node.offers(process.required)}
    if not lacking:
        return "no other node has room for it"
    ip, names = min(lacking.items())
    others_too = f" ({len(lacking)} nodes lack some of what it needs)" if len(lacking) > 1 else ""
    return lacks(names, ip) + others_too


def decide(
    here: Candidate, others: Sequence[Candidate], processes: Sequence[Process], switches: Switches,
    network: Callable[[str], Network], choose: Choose,
) -> list[Verdict]:
    """A verdict for each of ``processes``, all of which run on ``here``; ``others`` are the nodes that take programs now."""
    verdicts: dict[int, Verdict] = {}
    free = []
    for process in processes:
        if reason := hindrance(process, switches, network(process.home or here.ip)):
            verdicts[process.pid] = Verdict(process.pid, reason)
        else:
            free.append(process)
    nodes = {node.ip: node for node in others}
    for process in processes:
        if process.moving:
            here = departed(here, process)
    while found := pick(here, free, list(nodes.values())):
        process, target, why = found
        free.remove(process)
        verdicts[process.pid] = Verdict(process.pid, why, target.ip)
        nodes[target.ip] = arrived(target, process)
        here = departed(here, process)
    sending = 0.0
    for _ in range(MOVES):
        offers = [(process, offer(process, here, list(nodes.values()), network, choose)) for process in free]
        verdicts |= {process.pid: Verdict(process.pid, found.why) for process, found in offers}
        good = [(process, found) for process, found in offers if found.target]
        if not good or sending >= SENDING:
            break
        process, best = max(good, key=lambda pair: pair[1].gain)
        assert best.target is not None
        sending += best.transfer
        verdicts[process.pid] = Verdict(process.pid, best.why, best.target.ip, best.below)
        free.remove(process)
        nodes[best.target.ip] = arrived(nodes[best.target.ip], process)
        here = departed(here, process)
    return [verdicts[process.pid] for process in processes]


def arrived(node: Candidate, process: Process) -> Candidate:
    """``node`` as it will be with ``process``."""
    return replace(node, arriving=node.arriving + process.busy, mem_free=node.mem_free - process.size_mb)


def departed(node: Candidate, process: Process) -> Candidate:
    """``node`` as it will be without ``process``."""
    load = max(0, node.load - load_of(process.demand, node.ncpus, node.speed))
    return replace(node, load=load, mem_free=node.mem_free + process.size_mb)
