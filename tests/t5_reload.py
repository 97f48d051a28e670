"""The administrator's files change while programs are away."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import cluster
from tests.cluster import Lab, wait_until

pytestmark = pytest.mark.root


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with cluster.lab(tmp_path, 3) as running:
        yield running


def log(lab: Lab, number: int) -> str:
    return Path(lab.node(number).paths.log).read_text()


def started(lab: Lab, home: int, there: int) -> int:
    """A program of node ``home`` that runs on node ``there``; its PID."""
    child = lab.start(home, "mosrun", f"-{there}", "awk", "BEGIN { while (1) n++ }", stdout=subprocess.DEVNULL)
    wait_until(lambda: where(lab, home, child.pid) == str(there))
    return child.pid


def where(lab: Lab, home: int, pid: int) -> str:
    process = lab.tree(home).process(pid)
    return lab.tree(home).read(f"proc/{pid}/where").strip() if process else ""


def replace(path: str, text: str) -> None:
    """In one step: mosd looks at any moment, and would complain about half a file too."""
    Path(f"{path}.new").write_text(text)
    os.replace(f"{path}.new", path)


def test_a_map_that_shrinks_brings_home_what_is_away(lab: Lab) -> None:
    own, guest = started(lab, 1, 3), started(lab, 3, 1)
    paths, base = lab.node(1).paths, lab.plan.base
    good = Path(paths.mosix_map).read_text()
    replace(paths.mosix_map, f"{base} two p\n")
    wait_until(lambda: f"{paths.mosix_map}, line 1: 'two': " in log(lab, 1))
    assert (where(lab, 1, own), where(lab, 3, guest)) == ("3", "1")
    replace(paths.mosix_map, f"{base} 2 p\n")
    wait_until(lambda: (where(lab, 1, own), where(lab, 3, guest)) == ("here", "here"))
    gone = lab.node(3).ip
    assert gone not in os.listdir(f"{paths.mount}/nodes")
    assert log(lab, 1).count("the configuration stays as it was") == 1
    Path(paths.mosix_map).write_text(good)
    os.kill(lab.mosd(1), signal.SIGHUP)
    status = Path(paths.mount, "nodes", gone, "status")
    wait_until(lambda: status.exists() and status.read_text() == "alive\n")
    assert lab.run(1, "mosmigrate", str(own), "3").returncode == 0
    assert where(lab, 1, own) == "3"


def test_a_map_that_cannot_be_read_is_not_read_again(lab: Lab) -> None:
    """node/reload with a bad path: everything stays, and mosix.map is the one that is watched."""
    paths = lab.node(2).paths
    tree = lab.tree(2)
    before = int(tree.fact("reload").split()[0])
    tree.write("node/reload", "/nowhere/mosix.map")
    wait_until(lambda: "/nowhere/mosix.map" in tree.fact("reload"))
    assert tree.fact("reload").startswith(str(before + 1))
    gone = lab.node(3).ip
    good = Path(paths.mosix_map).read_text()
    Path(paths.mosix_map).write_text(f"{lab.plan.base} 2 p\n")
    wait_until(lambda: gone not in tree.fact("map").split())
    Path(paths.mosix_map).write_text(good)
    wait_until(lambda: gone in tree.fact("map").split())


def test_a_new_secret_and_speed(lab: Lab) -> None:
    """All three get the new secret one after the other; afterwards they are a cluster again."""
    for node in lab.plan.nodes():
        Path(node.paths.secret).write_text("another secret of this test\n")
        Path(node.paths.speed).write_text("12345\n")
    for node in lab.plan.nodes():
        wait_until(lambda number=node.number: "new configuration" in log(lab, number))  # type: ignore[misc]
    far = lab.node(3).ip
    wait_until(lambda: lab.tree(1).read(f"nodes/{far}/speed").strip() == "12345")
    assert lab.run(1, "mosrun", "-3", "true").returncode == 0
