"""The cluster of an external job: world files, what is in force, which nodes are what then (mos_in_job(1); manual, chapter 8)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mosfs.cluster.address import to_int, to_ip
from mosfs.cluster.errors import ConfigError
from mosfs.cluster.job import ALONE, CLUSTER, Job, parse_job, parse_own, parse_world, print_job, without
from mosfs.cluster.load import ClusterMap, load_map
from mosfs.cluster.mosix_map import NodeRange
from mosfs.cluster.paths import NodePaths
from mosfs.tools.mos_in_job import read_job
from mosfs.tools.options import UserError

WORLD = "# all nodes\n\n10.0.0.1 4 p\nalpha\n10.0.0.9 2\n"
HOSTS = {"alpha": "20.0.0.1"}
BASE = 0x0A000000


@pytest.fixture
def paths(tmp_path: Path) -> NodePaths:
    """A node whose own files have a cluster, an alias of a node in the world and one of another, and a partner."""
    paths = NodePaths(str(tmp_path))
    for folder in (paths.partners, paths.run, paths.state):
        os.makedirs(folder)
    Path(paths.mosix_map).write_text("10.0.0.1 2 p\n30.0.0.1 1\n192.168.7.1=10.0.0.1\n192.168.7.2=30.0.0.1\n")
    Path(paths.partners, "friends").write_text("Friends\n20 1 1\n40.0.0.1 2 1 1 0\n")
    return paths


def in_force(paths: NodePaths, own: str, *, alone: bool) -> ClusterMap:
    job = Job(parse_own(own, HOSTS.get), parse_world(WORLD, HOSTS.get), alone)
    Path(paths.job).write_text(print_job(job))
    return load_map(paths)


def standing(nodes: ClusterMap, ip: str) -> tuple[bool, bool, bool, bool]:
    relation = nodes.relation(ip)
    return relation.own, relation.cango, relation.cantake, relation.near


def test_in_a_job_ours_may_go_to_the_others_and_theirs_may_not_come(paths: NodePaths) -> None:
    nodes = in_force(paths, "10.0.0.2,10.0.0.3", alone=False)
    assert list(nodes.nodes()) == ["10.0.0.2", "10.0.0.3"]
    assert sorted(nodes.partner_nodes()) == ["10.0.0.1", "10.0.0.10", "10.0.0.4", "10.0.0.9", "20.0.0.1"]
    assert standing(nodes, "10.0.0.3") == (True, True, True, True)
    assert standing(nodes, "10.0.0.1") == (False, True, False, True)
    assert standing(nodes, "20.0.0.1") == (False, True, False, False)
    assert not nodes.relation("40.0.0.1").known and not nodes.relation("30.0.0.1").known


def test_alone_theirs_may_come_and_ours_may_not_go(paths: NodePaths) -> None:
    nodes = in_force(paths, "10.0.0.2", alone=True)
    assert list(nodes.nodes()) == ["10.0.0.2"]
    assert standing(nodes, "10.0.0.2") == (True, True, True, True)
    assert standing(nodes, "10.0.0.1") == (False, False, True, True)
    assert nodes.relation("10.0.0.9").partner == "world"


def test_aliases_hold_where_their_node_is_in_the_world(paths: NodePaths) -> None:
    nodes = in_force(paths, "10.0.0.2", alone=True)
    assert (nodes.canonical("192.168.7.1"), nodes.canonical("192.168.7.2")) == ("10.0.0.1", "192.168.7.2")


def test_another_map_goes_before_a_job_and_isolation_holds_in_it(paths: NodePaths) -> None:
    nodes = in_force(paths, "10.0.0.2", alone=False)
    assert load_map(paths, paths.mosix_map).contains("30.0.0.1")
    Path(paths.isolated).touch()
    assert nodes.partners and not load_map(paths).partners
    os.unlink(paths.job)
    assert load_map(paths).contains("30.0.0.1")


def test_a_job_needs_no_map(paths: NodePaths) -> None:
    os.unlink(paths.mosix_map)
    assert in_force(paths, "10.0.0.2", alone=False).contains("10.0.0.2")


def test_a_job_of_all_nodes_has_no_partner(paths: NodePaths) -> None:
    everybody = "10.0.0.1,10.0.0.2,10.0.0.3,10.0.0.4,20.0.0.1,10.0.0.9,10.0.0.10"
    assert not in_force(paths, everybody, alone=False).partners


@pytest.mark.parametrize(("text", "line", "what"), [
    ("10.0.0.1 x\n", 1, "not a number"), ("10.0.0.1 0\n", 1, "not a number"), ("#\n10.0.0.1 1 q\n", 2, "a line is:"),
    ("nowhere\n", 1, "not a known host name"), ("0.0.1.1\n", 1, "not allowed"), ("10.0.0.1 4\n10.0.0.3\n", 2, "overlaps"),
    ("255.255.254.255 2\n", 1, "not allowed"), ("# nothing\n", None, "no nodes"), ("10.0.0.1 1 p 1\n", 1, "a line is:"),
])
def test_a_bad_world_file_is_refused_with_its_line(text: str, line: int | None, what: str) -> None:
    with pytest.raises(ConfigError, match=what) as raised:
        parse_world(text, HOSTS.get)
    assert raised.value.line == line


@pytest.mark.parametrize("text", ["", ",", "10.0.0.1,", "10.0.0.1 10.0.0.2", "nowhere", "10.0.0.1,,10.0.0.2"])
def test_a_bad_list_of_nodes_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_own(text, HOSTS.get)


@pytest.mark.parametrize("text", [
    "", "cluster\n10.0.0.1\n", "job 10.0.0.1\n10.0.0.1\n", "cluster alpha\n10.0.0.1\n", "alone 10.0.0.1\nalpha\n",
    "alone 10.0.0.1\n", "cluster 10.0.0.1 10.0.0.2\n10.0.0.1\n",
])
def test_what_mos_in_job_did_not_write_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_job(text, "job")


@pytest.mark.parametrize(("world", "own", "what"), [
    ("10.0.0.2 3\n", "", "10.0.0.1, this node, is not in it"),
    (WORLD, "10.0.0.2,10.0.0.3", "own-cluster 10.0.0.2,10.0.0.3: 10.0.0.1"),
    ("10.0.0.1 no\n", "", "line 1"), (None, "", "No such file"), ("10.0.0.1\n", "10.0.0.1,", "a list of nodes"),
    ("#" * (1 << 20) + "\n", "", "longer than"),
])
def test_what_mos_in_job_refuses(tmp_path: Path, world: str | None, own: str, what: str) -> None:
    file = tmp_path / "world"
    if world is not None:
        file.write_text(world.replace("alpha", "20.0.0.1"))
    with pytest.raises(UserError) as raised:
        read_job(str(file), own, "10.0.0.1")
    assert what in raised.value.text and "\n" not in raised.value.text


ranges = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 9), st.booleans()), min_size=1, max_size=6)


@given(ranges, st.sets(st.integers(0, 80), min_size=1), st.booleans())
def test_the_rest_of_the_world_is_the_world_without_ours(spans: list[tuple[int, int, bool]], own: set[int], alone: bool) -> None:
    first, world = BASE, []
    for gap, count, near in spans:
        world.append(NodeRange(first + gap, count, near))
        first += gap + count
    holes = sorted(BASE + number for number in own)
    rest = without(world, holes)
    near = {r.first + n: r.near for r in world for n in range(r.count)}
    assert {r.first + n: r.near for r in rest for n in range(r.count)} == {k: v for k, v in near.items() if k not in holes}
    job = Job(tuple(holes), tuple(world), alone)
    assert parse_job(print_job(job), "job") == job
    assert print_job(job).startswith(f"{ALONE if alone else CLUSTER} {to_ip(holes[0])}")
    assert [(to_int(line.host), line.near) for line in job.lines] == [(hole, near.get(hole, False)) for hole in holes]
