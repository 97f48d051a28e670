"""Nodes that are far from each other: packets that take their time, queue for their turn, get lost, or do not come through at all.

`tests.link` carries the packets of a lab between its nodes, so the kernel's TCP, and gossip by UDP, meet what they would meet on wires.
"""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from tests import cluster, link
from tests.cluster import Lab, wait_until
from tests.link import Line, Network
from tests.progs import BY_NAME, Place, built, verdict
from tests.t5_faults import Walk

pytestmark = [pytest.mark.root, link.possible]

#: Delays in one direction: a room, a town, an ocean. All with 100 Mbit/s, and every hundredth packet lost.
LAN, TOWN, OCEAN = (Line(delay, rate=100e6, loss=0.01) for delay in (0.0002, 0.005, 0.05))
LINES = {"0.2 ms": LAN, "5 ms": TOWN, "50 ms": OCEAN}
PATIENCE = 240.0  #: seconds after which a program hangs


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


def sees(nodes: Lab, number: int) -> set[str]:
    """The nodes that node ``number`` knows to live."""
    folder = Path(nodes.node(number).paths.mount, "nodes")
    return {path.name for path in folder.iterdir() if "up" in (path / "status").read_text()}


# --------------------------------------------------------------------------- programs


def right(nodes: Lab, name: str, place: Place, seconds: str = "") -> None:
    """A test program at ``place`` of these nodes has the result of its native run."""
    outcome, wrong = verdict(BY_NAME[name], place, root=nodes.plan.root, seconds=seconds, timeout=PATIENCE)
    assert wrong == ""
    assert place is not Place.MOTION or outcome.moves > 0, f"it was never moved: {dict(outcome.reasons)}"


def test_a_program_in_motion_over_links_that_lose_packets(nodes: Lab, net: Network) -> None:
    net.line = TOWN
    before = net.carried
    right(nodes, "files", Place.MOTION, "1")
    assert net.carried > before


#: About what differs with the distance: moves, calls and their transfers, signals, sleeps and time, forks, mail, private files.
PROGRAMS = ("counter", "memory", "filemaps", "files", "big_io", "partial", "private", "sigs", "sleeps", "waits", "clocks", "children",
            "usage", "sockets", "shell")  # fmt: skip


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("place", [Place.AWAY, Place.MOTION])
@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_over_every_link(name: str, place: Place, line: str, nodes: Lab, net: Network) -> None:
    built(BY_NAME[name])
    net.line = LINES[line]
    right(nodes, name, place, "4" if place is Place.MOTION else "")
