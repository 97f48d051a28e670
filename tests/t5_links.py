"""Nodes that are far from each other: packets that take their time, queue for their turn, get lost, or do not come through at all.

`tests.link` carries the packets of a lab between its nodes, so the kernel's TCP, and gossip by UDP, meet what they would
meet on wires.
"""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests import cluster, link
from tests.cluster import Lab, wait_until
from tests.link import Line, Network
from tests.progs import BY_NAME, Place, built, verdict
from tests.t5_faults import TOUR, Walk

pytestmark = [pytest.mark.root, link.possible]

#: Delays in one direction: a room, a town, an ocean. All with 100 Mbit/s, and every hundredth packet lost.
LAN, TOWN, OCEAN = (Line(delay, rate=100e6, loss=0.01) for delay in (0.0002, 0.005, 0.05))
LINES = {"0.2 ms": LAN, "5 ms": TOWN, "50 ms": OCEAN}
PATIENCE = 900.0  #: seconds after which a program hangs


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lab, Network]]:
    with cluster.lab(tmp_path_factory.mktemp("links"), 3, netns=True) as nodes, link.network(nodes.plan) as net:
        yield nodes, net


@pytest.fixture
def nodes(far: tuple[Lab, Network]) -> Iterator[Lab]:
    """The lab; its links are perfect again when the test ends."""
    nodes, net = far
    yield nodes
    net.heal()
    net.line = Line()


@pytest.fixture
def net(far: tuple[Lab, Network], nodes: Lab) -> Network:
    return far[1]


@pytest.fixture
def walks(nodes: Lab) -> Iterator[list[Walk]]:
    """Room for walks, which end with the test."""
    found: list[Walk] = []
    yield found
    for walk in found:
        walk.__exit__()


def sees(nodes: Lab, number: int) -> set[str]:
    """The nodes that node ``number`` knows to live."""
    folder = Path(nodes.node(number).paths.mount, "nodes")
    return {path.name for path in folder.iterdir() if (path / "status").read_text() == "alive\n"}


# --------------------------------------------------------------------------- programs


def right(nodes: Lab, name: str, place: Place, lengths: Sequence[str] = ("",)) -> None:
    """A test program at ``place`` of these nodes has the result of its native run, with the first length at which it was moved."""
    for seconds in lengths:
        outcome, wrong = verdict(BY_NAME[name], place, root=nodes.plan.root, seconds=seconds, timeout=PATIENCE)
        assert wrong == ""
        if place is not Place.MOTION or outcome.moves > 0:
            return
    raise AssertionError(f"it was never moved: {dict(outcome.reasons)}")


def test_a_tour_over_links_that_lose_packets(nodes: Lab, net: Network, walks: list[Walk], tmp_path: Path) -> None:
    net.line = TOWN
    before = net.carried
    walks.append(walk := Walk(nodes, tmp_path / "walk"))
    assert [walk.move(target) for target in TOUR] == [""] * len(TOUR)
    assert (walk.end(), walk.err()) == (7, "")
    assert net.carried > before


#: About what differs with the distance: moves, calls and their transfers, signals, sleeps and time, forks, mail, private files.
PROGRAMS = ("counter", "memory", "sigs", "sleeps", "clocks", "private", "children", "waits", "filemaps", "files", "big_io",
            "partial", "usage", "sockets", "shell")  # fmt: skip
#: Each call takes 0.1 s over an ocean: these make so few that they end in minutes.
SPARING = PROGRAMS[:4]
#: Seconds that a program works in motion: it needs time for some moves. On a busy machine these may be too few, and it has more.
SECONDS = {"0.2 ms": ("3", "20"), "5 ms": ("5", "30"), "50 ms": ("20", "60")}
EVERY = [(name, place, line) for name in PROGRAMS for place in (Place.AWAY, Place.MOTION) for line in LINES
         if line != "50 ms" or name in SPARING]  # fmt: skip


@pytest.mark.long
@pytest.mark.beside
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("name", "place", "line"), EVERY)
def test_programs_over_every_link(name: str, place: Place, line: str, nodes: Lab, net: Network) -> None:
    built(BY_NAME[name])
    net.line = LINES[line]
    right(nodes, name, place, SECONDS[line] if place is Place.MOTION else ("",))


# --------------------------------------------------------------------------- partitions


def healed(nodes: Lab, net: Network) -> None:
    """After a partition: nothing is left that nobody wants, all see all, and programs move anywhere."""
    net.heal()
    net.line = Line()
    everybody = {node.ip for node in nodes.plan.nodes()}
    wait_until(lambda: all(sees(nodes, n) == everybody for n in (1, 2, 3)), 60)
    for target in ("-2", "-3"):
        assert nodes.run(1, "mosrun", target, "sh", "-c", "exit 9").returncode == 9
    wait_until(lambda: not any(nodes.tree(n).pids("guests") for n in (1, 2, 3)), 60)


def test_a_short_silence_during_a_move_is_nobodys_business(nodes: Lab, net: Network, walks: list[Walk], tmp_path: Path) -> None:
    walks.append(walk := Walk(nodes, tmp_path / "walk", "0.05"))
    net.line = TOWN
    move = nodes.start(1, "mosmigrate", str(walk.pid), "2")
    wait_until(lambda: nodes.process(walk.pid).move_result == "..." or move.poll() is not None)
    net.part(2)
    time.sleep(0.3)
    net.heal()
    assert move.wait(60) == 0
    walk.advances()
    assert (walk.end(), walk.err()) == (7, "")


#: What is cut for good: (from, to) in one direction.
PARTITIONS = {
    "home and target": (("home", "target"), ("target", "home")),
    "home to target": (("home", "target"),),
    "target to home": (("target", "home"),),
    "home and origin": (("home", "origin"), ("origin", "home")),
    "home to origin": (("home", "origin"),),
    "origin to home": (("origin", "home"),),
    "origin and target": (("origin", "target"), ("target", "origin")),
    "origin to target": (("origin", "target"),),
    "target to origin": (("target", "origin"),),
}
#: Origin and target of a move, and the partitions that it can meet.
MOVES = {
    (1, 2): ("home and target", "home to target", "target to home"),
    (2, 1): ("home and origin", "home to origin", "origin to home"),
    (2, 3): tuple(PARTITIONS),
}
CUTS = [
    pytest.param(move, name, id=f"{move[0]} to {move[1]}: {name}") for move, names in MOVES.items() for name in names
]
WALKS = 10  #: moves that are under way, or just over, when it is cut
#: An end that the manual knows.
LAST_WORDS = r"mosrun: (Lost communication with [0-9.]+|Process killed while attempting to migrate from [0-9.]+ to [0-9.]+)\n"


def begin(nodes: Lab, walk: Walk, target: int) -> subprocess.Popen[bytes]:
    return nodes.start(1, "mosmigrate", str(walk.pid), str(target) if target > 1 else "home")


@pytest.mark.long
@pytest.mark.beside
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("move", "cut"), CUTS)
def test_a_partition_in_every_phase_of_a_move(
    move: tuple[int, int], cut: str, nodes: Lab, net: Network, walks: list[Walk], tmp_path: Path
) -> None:
    """It meets walks in all phases of that move. One whose home can hear it goes on; the others end with the manual's words."""
    origin, target = move
    roles = {"home": 1, "origin": origin, "target": target}
    for number in range(WALKS):
        walks.append(walk := Walk(nodes, tmp_path / f"walk{number}", "0.1"))
        assert origin == 1 or walk.move(str(origin)) == ""
    net.line = Line(OCEAN.delay)  # of any rate: the moves shall not wait for each other
    movers = [begin(nodes, walk, target) for walk in walks[:1]]
    began = time.monotonic()
    assert movers[0].wait(120) == 0
    pause = (time.monotonic() - began) / (WALKS - 4)
    for walk in walks[1:]:
        movers.append(begin(nodes, walk, target))
        time.sleep(pause)
    wait_until(lambda: movers[1].poll() is not None, 120)
    for source, to in PARTITIONS[cut]:
        net.cut(roles[source], roles[to])
    moved = [mover.wait(120) == 0 for mover in movers]
    assert moved[:2] == [True, True]
    silent = {roles[end] for way in PARTITIONS[cut] if "home" in way for end in way} - {1}
    for walk, arrived in zip(walks, moved, strict=True):
        if (target if arrived else origin) in silent:
            assert walk.process.wait(60) == -signal.SIGKILL
            assert re.fullmatch(LAST_WORDS, walk.err()), walk.err()
        else:
            walk.advances()
            assert (walk.end(), walk.err()) == (7, "")
        walk.end()  # nothing was written twice
    healed(nodes, net)
