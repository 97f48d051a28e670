"""Which programs are frozen automatically, and which go on (manual 4.5; mosix(7), freeze.conf): pure functions.

Marks are in units of the policy: programs that want a processor, or the standard load. What a decision does to the load is
counted at once, because what is measured follows seconds later, and until then nothing is decided because of it (`SETTLING`). A
load between the marks changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

#: Seconds after a decision because of the load until the load counts again.
SETTLING = 5.0
MINUTE = 60.0


@dataclass(frozen=True, slots=True)
class Rules:
    """A policy of freeze.conf; marks and ``most`` below 0 are off; ``slice``: minutes."""

    red: float = -1.0
    blue: float = 0.0
    keep: int = 0
    most: int = -1
    slice: int = 20


@dataclass(frozen=True, slots=True)
class Subject:
    """A program at home. ``frozen``: automatically; ``since``: seconds since it was, or since it runs; ``weight``: what it adds to
    the load when it runs; ``free``: it may be frozen, or go on, now (no -g, not moving, nothing asked already)."""

    pid: int
    frozen: bool = False
    since: float = 0.0
    weight: float = 1.0
    free: bool = True


@dataclass(frozen=True, slots=True)
class Decision:
    """``freeze`` False: it goes on."""

    pid: int
    freeze: bool
    why: str


@dataclass(slots=True)
class _Plan:
    """What is decided so far, and what that makes of the load."""

    load: float
    running: int
    decisions: list[Decision] = field(default_factory=list)

    def freeze(self, subject: Subject, why: str) -> None:
        self.load -= subject.weight
        self.running -= 1
        self.decisions.append(Decision(subject.pid, True, why))

    def thaw(self, subject: Subject, why: str) -> None:
        self.load += subject.weight
        self.running += 1
        self.decisions.append(Decision(subject.pid, False, why))


def decide(rules: Rules, load: float, subjects: Sequence[Subject], quiet: float = SETTLING) -> list[Decision]:
    """What to do now. ``load``: of this node, in units of the policy; ``quiet``: seconds since the last decision because of it.

    Who runs longest is frozen first, who is frozen longest goes on first: so everybody has a turn."""
    plan = _Plan(load, sum(not each.frozen for each in subjects))
    runs = sorted((each for each in subjects if not each.frozen and each.free), key=lambda each: (-each.since, each.pid))
    rests = sorted((each for each in subjects if each.frozen and each.free), key=lambda each: (-each.since, each.pid))
    _bound(rules, plan, runs)
    _lower(rules, plan, runs, quiet)
    if not plan.decisions:
        _raise(rules, plan, rests, quiet)
    if not plan.decisions:
        _rotate(rules, plan, runs, rests)
    return plan.decisions


def _bound(rules: Rules, plan: _Plan, runs: list[Subject]) -> None:
    """max-procs: even when the load is low."""
    while rules.most >= 0 and plan.running > rules.most and runs:
        plan.freeze(runs.pop(0), f"{plan.running} programs run, at most {rules.most} may")


def _lower(rules: Rules, plan: _Plan, runs: list[Subject], quiet: float) -> None:
    """The red mark: until the load is not above it any more, but min-keep go on."""
    if rules.red < 0 or quiet < SETTLING:
        return
    while plan.load > rules.red and plan.running > rules.keep and runs:
        plan.freeze(runs.pop(0), f"the load {plan.load:.1f} is above {rules.red:g}")


def _raise(rules: Rules, plan: _Plan, rests: list[Subject], quiet: float) -> None:
    """The blue mark: while the load is below it, and what goes on does not bring it above the red one. min-keep: in any case."""
    while rests and (rules.most < 0 or plan.running < rules.most):
        after = plan.load + rests[0].weight
        if plan.running < rules.keep:
            plan.thaw(rests.pop(0), f"{plan.running} programs run, {rules.keep} shall")
        elif quiet >= SETTLING and plan.load < rules.blue and (rules.red < 0 or after <= rules.red):
            plan.thaw(rests.pop(0), f"the load {plan.load:.1f} is below {rules.blue:g}")
        else:
            return


def _rotate(rules: Rules, plan: _Plan, runs: list[Subject], rests: list[Subject]) -> None:
    """slice: who has run so long gives his place to who has waited longest."""
    if runs and rests and runs[0].since >= rules.slice * MINUTE:
        plan.freeze(runs[0], f"it has run for {rules.slice} minutes, others wait")
        plan.thaw(rests[0], "it is its turn")


def arrives_frozen(mark: float, load: float) -> bool:
    """Whether programs that are evacuated are frozen on arrival: home or cluster mark ("at this level or above")."""
    return 0 <= mark <= load


def in_units(load: int, ncpus: int, speed: int, *, standard: bool) -> float:
    """The load of a node (100: one program for each processor of standard speed) in units of a policy."""
    return load / 100 if standard else load / 100 * ncpus * speed / 10_000


def weight(demand: float, ncpus: int, speed: int, *, standard: bool) -> float:
    """What a program adds to that; ``demand``: of one processor."""
    return demand / max(ncpus, 1) * 10_000 / max(speed, 1) if standard else demand
