"""All sixteen ways in which two clusters may let programs go and come (manual, 4.3.3): what goes where, by real daemons whose
partner files are rewritten while programs of both run.

Whatever the files say, each side sees the other's nodes and loads. Programs go by hand, go by themselves, and stay, just where both
sides let them; who is where he may not be any more goes home.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests import cluster
from tests.cluster import Lab, wait_until

pytestmark = [pytest.mark.root, pytest.mark.long]

#: Nodes 1 and 2 are a cluster, 3 and 4 the other. Programs begin on the first of each, and go to the last of the other.
MEMBERS = (2, 2)
WELCOME, FRESH = 32, 512
#: What each node says of its load: the first cluster is busy, so its programs are better off in the other one.
LOADS = {1: 400, 2: 900, 3: 0, 4: 0}


class Side(NamedTuple):
    """A cluster: where its program is at home, and where those of the other one go."""

    cluster: int
    home: int
    guests: int

    @property
    def nodes(self) -> tuple[int, int]:
        return (2 * self.cluster - 1, 2 * self.cluster)


FIRST, SECOND = Side(1, home=1, guests=2), Side(2, home=3, guests=4)
SIDES = ((FIRST, SECOND), (SECOND, FIRST))


class Rules(NamedTuple):
    """Line 2 of a partner file, without the priority; ``shown``: how mosctl status says it."""

    cango: bool
    cantake: bool
    shown: str


#: The manual, 4.3.3 and mosix(7): both directions, one, the other, or only to see the other cluster.
RULES = (
    Rules(True, True, "ours may go there, theirs may come here"),
    Rules(True, False, "ours may go there"),
    Rules(False, False, "no processes go either way"),
    Rules(False, True, "theirs may come here"),
)
#: What the first and the second say; may programs of the first go to the second, and of the second to the first?
ALL = {
    (RULES[0], RULES[0]): (True, True), (RULES[0], RULES[1]): (False, True),
    (RULES[0], RULES[2]): (False, False), (RULES[0], RULES[3]): (True, False),
    (RULES[1], RULES[3]): (True, False), (RULES[1], RULES[0]): (True, False),
    (RULES[1], RULES[1]): (False, False), (RULES[1], RULES[2]): (False, False),
    (RULES[2], RULES[2]): (False, False), (RULES[2], RULES[3]): (False, False),
    (RULES[2], RULES[0]): (False, False), (RULES[2], RULES[1]): (False, False),
    (RULES[3], RULES[1]): (False, True), (RULES[3], RULES[2]): (False, False),
    (RULES[3], RULES[3]): (False, False), (RULES[3], RULES[0]): (False, True),
}  # fmt: skip


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with cluster.lab(tmp_path_factory.mktemp("relations"), sum(MEMBERS), clusters=MEMBERS) as running:
        for node, load in LOADS.items():
            Path(running.node(node).paths.probe).write_text(f"fixed:load={load},ncpus=1\n")
        yield running


@pytest.fixture(scope="module")
def programs(lab: Lab) -> Iterator[dict[Side, subprocess.Popen[bytes]]]:
    """One of each cluster that is there for all tests."""
    running = {side: lab.start(side.home, "mosrun", "-h", "sleep", "100000") for side, _ in SIDES}
    for side, child in running.items():
        lab.process(child.pid, side.home)
    yield running
    for child in running.values():
        child.kill()
        child.wait()
        lab.started.remove(child)


def bits(lab: Lab, node: int, about: int) -> int:
    return int(lab.tree(node).read(f"nodes/{lab.node(about).ip}/rstatus").split()[0])


def configure(lab: Lab, side: Side, other: Side, rules: Rules) -> None:
    """Rewrite the file on both nodes; returns when they have taken it, and nobody is where he may not be."""
    for node in side.nodes:
        file = Path(lab.node(node).paths.partners, f"cluster{other.cluster}")
        name, _, *ranges = file.read_text().splitlines()
        file.write_text("\n".join([name, f"50 {rules.cango:d} {rules.cantake:d}", *ranges]) + "\n")
        done = lab.run(node, "mossetpe")
        assert (done.returncode, done.stderr) == (0, "")


def sees(lab: Lab, side: Side, other: Side, rules: Rules, goes: bool) -> None:
    """What a side knows and shows of the other's nodes."""
    wait_until(lambda: bits(lab, side.home, other.guests) & (FRESH | WELCOME) == FRESH | WELCOME * goes)
    ip, load = lab.node(other.guests).ip, LOADS[other.guests]
    wait_until(lambda: f"{load / 100:.2f}\n" in lab.run(side.home, "mosctl", "status", str(other.guests)).stdout)
    status = lab.run(side.home, "mosctl", "status", str(other.guests)).stdout
    assert f"cluster{other.cluster}, priority 50 here: {rules.shown}\n" in status
    assert f"{'processes' if goes else 'no processes'} from here\n" in status and f"{load / 100:.2f}\n" in status
    rows = json.loads(lab.run(side.home, "mosmon", "--json").stdout)
    assert [row["load"] for row in rows if row["ip"] == ip] == [load]


@pytest.mark.parametrize(
    ("rules", "goes"), list(ALL.items()), ids=["-".join(f"{rules.cango:d}{rules.cantake:d}" for rules in pair) for pair in ALL]
)
def test_what_goes_where(
    lab: Lab, programs: dict[Side, subprocess.Popen[bytes]], rules: tuple[Rules, Rules], goes: tuple[bool, bool]
) -> None:
    where = {side: programs[side].pid for side, _ in SIDES}

    def place(side: Side) -> str:
        return lab.tree(side.home).read(f"proc/{where[side]}/where").strip()

    before = {side: place(side) for side, _ in SIDES}
    for (side, other), said in zip(SIDES, rules):
        configure(lab, side, other, said)
    for (side, other), said, may in zip(SIDES, rules, goes):
        sees(lab, side, other, said, may)
        assert place(side) == (before[side] if may else "here")  # who may stay has not moved
        asked = lab.run(side.home, "mosmigrate", str(where[side]), str(other.guests))
        assert (asked.returncode, place(side)) == ((0, str(other.guests)) if may else (1, "here")), asked.stderr

    def chosen() -> str:
        return lab.run(1, "mosrun", "-b", "cat", f"{lab.node(1).paths.mount}/self/where").stdout.strip()

    if goes[0]:
        wait_until(lambda: chosen() in ("3", "4"))  # the news of its load may still be on the way
    else:
        assert chosen() == "here"


def test_a_node_that_does_not_have_us_in_its_map_takes_nobody(lab: Lab, programs: dict[Side, subprocess.Popen[bytes]]) -> None:
    """The first reason for which bit 32 of rstatus is not set (mosctl(1)); its news are no longer for us either."""
    for (side, other), rules in zip(SIDES, (RULES[0], RULES[0])):
        configure(lab, side, other, rules)
    wait_until(lambda: bits(lab, 1, 4) & WELCOME)
    files = {Path(lab.node(node).paths.partners, "cluster1"): node for node in SECOND.nodes}
    before = {file: file.read_text() for file in files}
    try:
        for file, node in files.items():
            file.unlink()
            assert lab.run(node, "mossetpe").returncode == 0
        wait_until(lambda: not bits(lab, 1, 4) & (WELCOME | FRESH))
        asked = lab.run(1, "mosmigrate", str(programs[FIRST].pid), "4")
        assert asked.returncode == 1 and "failed migrating to 4: " in asked.stderr
    finally:
        for file, text in before.items():
            file.write_text(text)
    for node in SECOND.nodes:
        assert lab.run(node, "mossetpe").returncode == 0
    wait_until(lambda: bits(lab, 1, 4) & WELCOME)
    assert lab.run(1, "mosmigrate", str(programs[FIRST].pid), "4").returncode == 0
