"""The automatic freezer on a world of its own: what it asks of tracers, and what it makes of their answers."""

from __future__ import annotations

import pytest

from mosfs.balance.freezing import SETTLING
from mosfs.cluster.freeze_conf import Policy
from mosfs.daemon.freezer import FAILED_FOR, Freezer
from mosfs.node.programs import Order, Program
from mosfs.wire.asked import Settings
from tests.t1_balancer import HOME, NEAR, Bench, state


class Freezing(Bench):
    """Four programs that compute and one that does not, on a node with one processor."""

    def __init__(self, policy: Policy | None) -> None:
        super().__init__()
        self.told: list[bool] = []
        self.freezer = Freezer(self.world, policy, self.balancer.note, self.told.append)
        for pid in (3, 4, 5):
            self.world.programs[pid] = Program(state(pid), self.sent.append)
            self.use(self.world.programs[pid], demand=0.0 if pid == 5 else 1.0)
        self.world.local_load = 400

    def look(self, seconds: float = SETTLING) -> list[tuple[int, str]]:
        """(PID, mark) of what is asked a while later."""
        self.at(seconds)
        self.sent.clear()
        self.freezer.round()
        assert all(command.name == "frozen" for command in self.sent)
        return [(command.pid, command.value) for command in self.sent]

    def answer(self, pid: int, *, frozen: bool, result: str = "ok") -> None:
        self.tell(
            pid, frozen="A" if frozen else "-", state="frozen" if frozen else "here",
            freeze_seq=self.world.programs[pid].outcome(Order.FREEZE)[0], freeze_result=result,
        )  # fmt: skip


def test_above_the_red_mark_programs_are_frozen_and_below_the_blue_one_they_go_on() -> None:
    node = Freezing(Policy(standard=False, red=2, blue=1))
    assert node.look() == [(1, "A"), (2, "A")]
    assert node.world.decisions[-2].endswith("prog (PID 1) is frozen: the load 4.0 is above 2")
    assert node.look() == [(3, "A"), (4, "A")], "nobody has answered, and the load is as before"
    for pid in (1, 2, 3, 4):
        node.answer(pid, frozen=True)
    node.world.local_load = 0
    assert node.look() == [(1, "")]
    assert node.world.decisions[-1].endswith("prog (PID 1) goes on: the load 0.0 is below 1")


def test_who_may_not_be_frozen_and_who_does_not_compute_is_left_alone() -> None:
    """mosrun -g; programs that move, that are away, or frozen by hand."""
    node = Freezing(Policy(standard=False, red=0.5, blue=0))
    node.tell(1, settings=Settings(freezable=0))
    node.tell(2, state="frozen", frozen="M")
    node.tell(3, state="away", where=NEAR)
    assert node.look() == [(4, "A")]
    node.answer(4, frozen=True)
    node.world.local_load = 0
    assert node.look() == [], "nobody is un-frozen whose freezing was somebody else's wish, and the blue mark is 0"


def test_one_that_could_not_be_frozen_is_left_alone_for_a_while() -> None:
    node = Freezing(Policy(standard=False, red=3, blue=1))
    assert node.look() == [(1, "A")]
    node.answer(1, frozen=False, result="No space to freeze (/freeze: No such file or directory)")
    assert node.look() == [(2, "A")]
    node.answer(2, frozen=True)
    node.world.local_load = 300
    assert node.look(FAILED_FOR) == []
    node.world.local_load = 400
    assert node.look() == [(1, "A")]


def test_without_a_policy_nothing_is_frozen_and_everything_goes_on() -> None:
    node = Freezing(None)
    assert node.look() == []
    node.answer(3, frozen=True)
    assert node.look() == [(3, "")]


def test_what_a_tracer_does_not_hear_is_decided_again() -> None:
    node = Freezing(Policy(standard=False, red=3, blue=1))
    node.world.programs[1].send = None
    assert node.look() == []
    assert node.look(1.0) == []


@pytest.mark.parametrize(("home", "load", "told"), [(0.0, 0, [True]), (-1.0, 900, []), (3.0, 200, []), (3.0, 300, [True])])
def test_tracers_hear_whether_evacuated_programs_are_frozen(home: float, load: int, told: list[bool]) -> None:
    node = Freezing(Policy(standard=False, red=-1, blue=0, home=home))
    node.world.local_load = load
    node.look()
    node.look()
    assert node.told == told
    node.freezer.follow(None)
    node.look()
    assert node.told == told, "a new configuration begins with no"


def test_the_standard_load_counts_processors_and_their_speed() -> None:
    node = Freezing(Policy(standard=True, red=2, blue=1))
    node.world.speed = 20_000
    node.world.nodes[HOME].status = None
    assert node.look() == [], "nothing is known of the load"
    node.load(HOME, 200)
    node.world.local_load = 250
    assert node.look() == [(1, "A")], "one of them makes half a unit"
