"""Two clusters that are each other's partner: guests make way, doors close, a node leaves and rejoins (manual, 4.3 and 6.4)."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import cluster
from tests.cluster import Lab, wait_until

pytestmark = pytest.mark.root

#: Nodes 1 and 2 are one cluster, 3 the other; ``BITS``: of rstatus.
MEMBERS = (2, 1)
WELCOME, PREFERS = 32, 1024


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with cluster.lab(tmp_path_factory.mktemp("clusters"), sum(MEMBERS), clusters=MEMBERS) as running:
        wait_until(lambda: bits(running, 1, 3) & bits(running, 3, 1) & WELCOME)
        yield running


@pytest.fixture
def endless(lab: Lab) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Programs that are ended with the test."""
    running: list[subprocess.Popen[bytes]] = []
    yield running
    for child in running:
        child.kill()
        child.wait()
        lab.started.remove(child)
    wait_until(lambda: not any(lab.tree(node).pids("guests") or lab.tree(node).pids("proc") for node in (1, 2, 3)))


def start(lab: Lab, endless: list[subprocess.Popen[bytes]], home: int, there: int = 0) -> int:
    """A program of node ``home`` that runs on node ``there``, or at home; its PID."""
    where_to = [f"-{there}"] if there else ["-h"]
    child = lab.start(home, "mosrun", *where_to, "awk", "BEGIN { while (1) n++ }", stdout=subprocess.DEVNULL)
    endless.append(child)
    wait_until(lambda: where(lab, home, child.pid) == (str(there) if there else "here"))
    return child.pid


def where(lab: Lab, home: int, pid: int) -> str:
    process = lab.tree(home).process(pid)
    return lab.tree(home).read(f"proc/{pid}/where").strip() if process else ""


def bits(lab: Lab, node: int, about: int) -> int:
    return int(lab.tree(node).read(f"nodes/{lab.node(about).ip}/rstatus").split()[0])


def say(lab: Lab, node: int, *words: str) -> str:
    """What mosctl prints; it has to succeed."""
    done = lab.run(node, "mosctl", *words)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


def test_what_nodes_know_of_each_other(lab: Lab) -> None:
    assert lab.run(1, "mossetpe", "-r").stdout.split() == [lab.node(n).ip for n in (1, 2)]
    assert lab.run(1, "mossetpe", "-R").stdout.split() == [lab.node(n).ip for n in (1, 2, 3)]
    partner = json.loads(lab.tree(1).fact("partners"))
    assert [(row["name"], row["priority"], row["cango"], row["cantake"]) for row in partner] == [("cluster2", 50, True, True)]
    assert "cluster2, priority 50 here" in say(lab, 1, "status", "3")
    assert "Cluster" not in say(lab, 1, "status", "2")


def test_a_guest_makes_way_for_the_owners_program(lab: Lab, endless: list[subprocess.Popen[bytes]]) -> None:
    lent, own = start(lab, endless, 1, 3), start(lab, endless, 1, 2)
    root = lab.tree(3)
    assert (root.read("priority"), lab.tree(2).read("priority")) == ("50", "0")
    assert wait_until(lambda: bits(lab, 3, 3) & PREFERS)
    start(lab, endless, 3)
    wait_until(lambda: where(lab, 1, lent) == "here")
    assert (root.read("priority"), where(lab, 1, own)) == ("0", "2")
    assert f"(PID {lent} of {lab.node(1).ip})" in root.read("node/decisions")
    wait_until(lambda: not bits(lab, 1, 3) & WELCOME)
    refused = lab.run(1, "mosmigrate", str(lent), "3")
    assert (refused.returncode, "other node refused" in refused.stderr) == (1, True)


def test_guests_go_when_the_door_is_closed_and_come_when_it_is_opened(lab: Lab, endless: list[subprocess.Popen[bytes]]) -> None:
    file = Path(lab.node(3).paths.max_guests)
    first, second = start(lab, endless, 1, 3), start(lab, endless, 2, 3)
    assert say(lab, 3, "maxguests") == "unlimited"
    say(lab, 3, "maxguests", "1")
    wait_until(lambda: sorted((where(lab, 1, first), where(lab, 2, second))) == ["3", "here"])
    say(lab, 3, "closemulti")
    assert (file.read_text(), where(lab, 1, first), where(lab, 2, second)) == ("0 1\n", "here", "here")
    assert lab.run(1, "mosmigrate", str(first), "3").returncode == 1
    say(lab, 3, "openmulti")
    assert (file.read_text(), say(lab, 3, "maxguests")) == ("1\n", "1")
    assert lab.run(1, "mosmigrate", str(first), "3").returncode == 0
    file.unlink()
    wait_until(lambda: lab.run(2, "mosmigrate", str(second), "3").returncode == 0)


@pytest.mark.parametrize(("at", "name", "relation"), [(3, "cluster1", "50 1 0"), (1, "cluster2", "50 0 1")])
def test_what_either_side_forbids_does_not_happen(
    lab: Lab, endless: list[subprocess.Popen[bytes]], at: int, name: str, relation: str
) -> None:
    program = start(lab, endless, 1, 3)
    file = Path(lab.node(at).paths.partners, name)
    before = file.read_text()
    try:
        file.write_text(before.replace("50 1 1", relation))
        wait_until(lambda: where(lab, 1, program) == "here")
        assert lab.run(1, "mosmigrate", str(program), "3").returncode == 1
        wait_until(lambda: not bits(lab, 1, 3) & WELCOME)
    finally:
        file.write_text(before)
    wait_until(lambda: bits(lab, 1, 3) & WELCOME)
    assert lab.run(1, "mosmigrate", str(program), "3").returncode == 0


def test_a_node_is_isolated_and_rejoins(lab: Lab, endless: list[subprocess.Popen[bytes]]) -> None:
    away, fellow, guest = start(lab, endless, 1, 3), start(lab, endless, 1, 2), start(lab, endless, 3, 1)
    say(lab, 1, "isolate")
    assert [where(lab, 1, away), where(lab, 1, fellow), where(lab, 3, guest)] == ["here", "2", "here"]
    assert "not in map" in lab.run(1, "mosctl", "rstatus", "3").stderr
    say(lab, 1, "rejoin", "4")
    assert say(lab, 1, "maxguests") == "4"
    wait_until(lambda: bits(lab, 1, 3))
    say(lab, 1, "rejoin")
    assert say(lab, 1, "maxguests") == "0"
    os.unlink(lab.node(1).paths.max_guests)


def test_priorities_are_changed(lab: Lab) -> None:
    file = Path(lab.node(3).paths.partners, "cluster1")
    before = file.read_text()
    say(lab, 3, "cngpri", "cluster1", "70")
    try:
        assert file.read_text() == before.replace("50 1 1", "70 1 1")
        wait_until(lambda: json.loads(lab.tree(1).fact("partners"))[0]["standing"] == 70)
        for words, what in (("nobody 5", "no such partner"), ("cluster1 65536", "not a priority"), ("cluster1", "which priority")):
            done = lab.run(3, "mosctl", "cngpri", *words.split())
            assert done.returncode != 0 and what in done.stderr
        assert file.read_text() == before.replace("50 1 1", "70 1 1")
    finally:
        file.write_text(before)


def test_a_bad_file_changes_nothing(lab: Lab) -> None:
    file = Path(lab.node(1).paths.partners, "third")
    file.write_text("Third\n50 1 1\n" + f"{lab.node(3).ip} 1 1 1 0\n")
    try:
        done = lab.run(1, "mossetpe")
        assert done.returncode == 1 and f"{file}, line 3: " in done.stderr and "overlaps a range of" in done.stderr
        assert bits(lab, 1, 3) & 1
    finally:
        file.unlink()


@cluster.others
@pytest.mark.parametrize("words", ["isolate", "rejoin", "maxguests 3", "openmulti", "closemulti", "cngpri cluster2 1"])
def test_only_the_super_user_decides(lab: Lab, words: str) -> None:
    done = lab.run(1, "mosctl", *words.split(), user=65534, group=65534, extra_groups=[])
    assert (done.returncode, done.stderr) == (1, f"mosctl: {words.split()[0]}: only for the Super-User\n")
    assert not os.path.exists(lab.node(1).paths.isolated)
