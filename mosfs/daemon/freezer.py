"""Automatic freezing: once a second `balance.freezing` says which programs of this home-node are frozen and which go on.

Programs that want no processor are left alone, and so are those frozen by hand or for another package. Without a policy whatever is
frozen automatically goes on.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from mosfs.abi.outcomes import OK
from mosfs.balance.choose import IDLE_DEMAND
from mosfs.balance.freezing import Decision, Rules, Subject, arrives_frozen, decide, in_units, weight
from mosfs.cluster.freeze_conf import Policy
from mosfs.daemon.tasks import survived
from mosfs.node.programs import Order, Program
from mosfs.node.world import World
from mosfs.wire.place import Place

PERIOD = 1.0
AUTOMATICALLY = "A"
#: Seconds for which a program that could not be frozen is left alone.
FAILED_FOR = 30.0
#: Without a policy: nothing is frozen, everything goes on.
NO_POLICY = Rules(blue=math.inf)


@dataclass(slots=True)
class Freezer:
    """``note`` gets a line for the log and the list of decisions; ``arrive`` is told whether programs that other clusters send home
    are frozen on arrival, whenever that changes."""

    world: World
    policy: Policy | None
    note: Callable[[str], None]
    arrive: Callable[[bool], None]
    _arrives: bool = False
    _since: dict[int, tuple[bool, float]] = field(default_factory=dict)  # frozen or not, since when
    _tried: dict[int, float] = field(default_factory=dict)  # when something was asked of a program
    _decided: float = -math.inf  # when a decision was made because of the load

    async def run(self) -> None:
        while True:
            with survived("a look at what is to be frozen"):
                self.round()
            await trio.sleep(PERIOD)

    def follow(self, policy: Policy | None) -> None:
        """Another policy holds from now on; nobody has been told anything of it yet."""
        self.policy, self._arrives = policy, False

    def round(self) -> list[Decision]:
        """Look at every program once."""
        world, policy, now = self.world, self.policy, self.world.clock()
        status = world.me.status
        if status is None:
            return []
        standard = policy is not None and policy.standard
        load = in_units(status.load if world.local_load is None else world.local_load, status.ncpus, world.speed, standard=standard)
        self._tell(policy is not None and arrives_frozen(policy.home, load))
        subjects = [self._subject(program, now, status.ncpus, standard=standard) for program in self._concerned()]
        self._since = {each.pid: self._since[each.pid] for each in subjects}
        self._tried = {pid: when for pid, when in self._tried.items() if now - when < FAILED_FOR}
        rules = NO_POLICY
        if policy is not None:
            rules = Rules(policy.red, policy.blue, policy.keep, policy.most, policy.slice)
        decisions = decide(rules, load, subjects, now - self._decided)
        for decision in decisions:
            self._carry_out(decision, now)
        return decisions

    def _tell(self, arrives: bool) -> None:
        if arrives != self._arrives:
            self._arrives = arrives
            self.arrive(arrives)

    def _concerned(self) -> list[Program]:
        """Programs at home that compute, and those that are frozen automatically."""
        return [
            program for program in self.world.programs.values()
            if program.state.frozen == AUTOMATICALLY or (program.state.state == Place.HOME and _computes(program))
        ]

    def _subject(self, program: Program, now: float, ncpus: int, *, standard: bool) -> Subject:
        state, usage = program.state, program.balanced.usage
        frozen = state.frozen == AUTOMATICALLY
        was, since = self._since.get(state.pid, (not frozen, now))
        if was is not frozen:
            since = now
        self._since[state.pid] = frozen, since
        busy = program.moving or not program.outcome(Order.FREEZE)[1] or (state.freeze_result != OK and state.pid in self._tried)
        free = not busy and (frozen or (state.settings.freezable != 0 and not state.barred))
        demand = 1.0 if frozen or usage is None else usage.demand
        return Subject(state.pid, frozen, now - since, weight(demand, ncpus, self.world.speed, standard=standard), free)

    def _carry_out(self, decision: Decision, now: float) -> None:
        program = self.world.programs[decision.pid]
        try:
            self.world.freeze(program, AUTOMATICALLY if decision.freeze else "")
        except ConnectionError:
            return
        self._decided = self._tried[decision.pid] = now
        what = "is frozen" if decision.freeze else "goes on"
        self.note(f"{program.state.comm} (PID {decision.pid}) {what}: {decision.why}")


def _computes(program: Program) -> bool:
    usage = program.balanced.usage
    return usage is not None and usage.demand >= IDLE_DEMAND

