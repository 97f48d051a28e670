"""kill -9 of tracers, hosts, mosds and fork servers, while programs of several users work at home, away and on the way.

A round: ten programs, one process of a kind is killed, all work on and end. Those that the dead one held end as the manual has it,
or as natively; all others as if nothing had happened. A new program starts and moves at once.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mosfs.tools import lab as labs
from mosfs.trace.proc import tracer_of
from tests import cluster
from tests.cluster import Lab, wait_until
from tests.progs import scratch
from tests.t5_faults import PATIENCE, Walk

pytestmark = pytest.mark.root

COUNT = 10
AWAY = ("2", "3")
PLACES = ("home", *AWAY)
#: So many lines are written by each program after the kill; the most gusts meanwhile.
STEPS, GUSTS = 15, 50
#: The programs are theirs in turn; root's only, where others cannot enter the folder that this copy is in.
USERS = (0, 65531, 65532) if cluster._reachable(cluster.SOURCE) else (0,)
#: How a program ends whose node is gone, at rest and on its way.
GONE = ("mosrun: Lost communication with ", "mosrun: Process killed while attempting to migrate from ")


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with cluster.lab(tmp_path_factory.mktemp("kills"), len(PLACES)) as running:
        yield running


@pytest.fixture
def folder() -> Iterator[Path]:
    with scratch() as path:
        yield path


def daemons(nodes: Lab, number: int, name: str) -> list[int]:
    """PIDs of the node's daemons of that name: their environment has its folder in this lab."""
    found = []
    for pid in labs.daemons(nodes.plan, lambda node: node.number == number):
        with suppress(OSError):
            if Path(f"/proc/{pid}/comm").read_text() == f"{name}\n":
                found.append(pid)
    return sorted(found)


def kill(pid: int, still: Callable[[], bool]) -> None:
    """kill -9, if it is the right one ``still`` when its number cannot be another's any more; returns when it is gone."""
    with suppress(ProcessLookupError):
        pidfd = os.pidfd_open(pid)
        try:
            if still():
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                assert not labs._still({pidfd}, PATIENCE)
        finally:
            os.close(pidfd)


@dataclass
class Round:
    """Ten walks: of three the first stays at home, the second is away, the third is sent on and on.

    ``held``: PIDs of those that the killed process may have held.
    """

    nodes: Lab
    folder: Path
    pick: random.Random
    walks: list[Walk] = field(default_factory=list)
    held: set[int] = field(default_factory=set)

    def start(self, stack: ExitStack) -> None:
        self.folder.mkdir(mode=0o755)
        for number in range(COUNT):
            walk = stack.enter_context(Walk(self.nodes, self.folder / str(number), "0.01", USERS[number % len(USERS)]))
            self.walks.append(walk)
            if number % 3 == 1:
                assert walk.move(self.pick.choice(AWAY)) == ""

    @property
    def moving(self) -> list[Walk]:
        return self.walks[2::3]

    def gust(self) -> None:
        """Each that moves is sent somewhere, whatever becomes of it."""
        for walk in self.moving:
            with suppress(OSError):
                self.nodes.tree(1).write(f"proc/{walk.pid}/migrate", self.pick.choice(PLACES))

    def work(self) -> None:
        """Every program that lives writes `STEPS` more lines."""
        goals = {walk.pid: len(walk.lines()) + STEPS for walk in self.walks}
        gusts = iter(range(GUSTS))

        def done() -> bool:
            if next(gusts, None) is not None:
                self.gust()
            return all(len(walk.lines()) >= goals[walk.pid] or walk.process.poll() is not None for walk in self.walks)

        wait_until(done, PATIENCE)

    def newcomer(self) -> None:
        """A new program starts, moves and ends."""
        with Walk(self.nodes, self.folder / "new", "0.01") as walk:
            assert walk.move("2") == ""
            assert (walk.end(), walk.err()) == (7, "")

    def end(self) -> int:
        """How many of them died. All others: natively."""
        died = 0
        for walk in self.walks:
            status, said = walk.end(), walk.err()
            if walk.pid in self.held and status != 7:
                assert status == -signal.SIGKILL
                died += 1
            else:
                assert (status, said) == (7, ""), f"{walk.folder.name}, {walk.pid}; held: {self.held}"
        for number in range(1, len(PLACES) + 1):
            wait_until(lambda number=number: not self.nodes.tree(number).pids("guests"))  # type: ignore[misc]
        wait_until(lambda: not self.nodes.tree(1).pids("proc"))
        return died

    # ------------------------------------------------------------------ victims

    def tracer(self) -> None:
        walk = self.pick.choice(self.walks)
        tracer = tracer_of(walk.pid)
        assert tracer in daemons(self.nodes, 1, "mos-tracer")
        self.held = {walk.pid}
        kill(tracer, lambda: tracer_of(walk.pid) == tracer)

    def host(self) -> None:
        """That of a program that stays away, or one that serves, or did, one of those that move."""
        number, host = self.pick.choice([(n, pid) for n in (2, 3) for pid in daemons(self.nodes, n, "mos-host")])
        served = {guest.origpid for guest in self.nodes.tree(number).guests() if tracer_of(guest.pid) == host}
        resting = {walk.pid for walk in self.walks if walk not in self.moving}
        self.held = served & resting or {walk.pid for walk in self.moving}
        kill(host, lambda: host in daemons(self.nodes, number, "mos-host"))

    def mosd(self) -> None:
        number = self.pick.randint(1, len(PLACES))
        self.nodes.kill_mosd(number)
        self.gust()
        self.nodes.start_mosd(number)

    def forkserver(self) -> None:
        """One that the newcomer needs, and those that follow it: the fourth takes a while to come."""
        number = self.pick.choice((1, 2))

        def alone() -> int:
            """Its PID. A child that it has just forked bears its name until it has one of its own."""
            found = daemons(self.nodes, number, "mos-forkserver")
            return found[0] if len(found) == 1 else 0

        for _ in range(3):
            server = wait_until(alone)
            kill(server, lambda server=server: server in daemons(self.nodes, number, "mos-forkserver"))  # type: ignore[misc]

    def nothing(self) -> None:
        """For comparison."""


KINDS: tuple[Callable[[Round], None], ...] = (Round.tracer, Round.host, Round.mosd, Round.forkserver)


def play(nodes: Lab, folder: Path, pick: random.Random, victim: Callable[[Round], None]) -> float:
    """One round; the seconds it took. What those that died said is the manual's: nothing, if their tracer is gone."""
    began = time.monotonic()
    with ExitStack() as stack:
        playing = Round(nodes, folder, pick)
        playing.start(stack)
        playing.gust()
        victim(playing)
        playing.newcomer()
        playing.work()
        died = playing.end()
        assert died <= 1
        said = [line for walk in playing.walks for line in walk.err().splitlines()]
    assert len(said) == (died if victim is Round.host else 0) and all(line.startswith(GONE) for line in said), said
    return time.monotonic() - began


@pytest.mark.parametrize("victim", KINDS, ids=lambda victim: victim.__name__)
def test_one_process_is_killed(nodes: Lab, folder: Path, victim: Callable[[Round], None]) -> None:
    play(nodes, folder / "round", random.Random(victim.__name__), victim)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_twenty_rounds(nodes: Lab, folder: Path) -> None:
    seed = int.from_bytes(os.urandom(4), "little") if os.environ.get("MOSIX_TEST_RANDOM") else 11
    pick = random.Random(seed)
    undisturbed = play(nodes, folder / "undisturbed", pick, Round.nothing)
    for number in range(20):
        victim = pick.choice(KINDS)
        took = play(nodes, folder / str(number), pick, victim)
        print(f"seed {seed}, round {number}: {victim.__name__}, {took / undisturbed:.2f} times the undisturbed {undisturbed:.1f} s")
