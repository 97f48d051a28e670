"""Control groups of a lab: the files that are written, and a real one."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from mosfs.tools import cgroups, lab
from mosfs.tools.options import UserError
from tests import cluster
from tests.cluster import wait_until


def text(path: Path) -> str:
    return path.read_text().strip()


def test_version_2(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpu memory\n")
    groups = {"cpu": f"{tmp_path}/lab", "memory": f"{tmp_path}/lab"}
    cgroups.make(groups, {"node1": {"cpu": 0.5, "memory": 100}, "node2": {"cpu": 2}})
    assert text(tmp_path / "lab/node1/cpu.max") == "10000 20000"
    assert text(tmp_path / "lab/node1/memory.max") == str(100 << 20)
    assert text(tmp_path / "lab/node2/cpu.max") == "40000 20000"
    assert not (tmp_path / "lab/node2/memory.max").exists()
    assert text(tmp_path / "lab/cpu.weight") == "10000"
    assert text(tmp_path / "lab/cgroup.subtree_control") in ("+cpu", "+memory")
    assert cgroups.entrances(groups, "node1") == [f"{tmp_path}/lab/node1/cgroup.procs"]


def test_version_1(tmp_path: Path) -> None:
    groups = {"cpu": f"{tmp_path}/cpu/lab", "memory": f"{tmp_path}/memory/lab"}
    cgroups.make(groups, {"node1": {"cpu": 0.25, "memory": 7}, "node2": {"cpu": 0.02}})
    assert text(tmp_path / "cpu/lab/node1/cpu.cfs_quota_us") == "5000"
    assert text(tmp_path / "cpu/lab/node1/cpu.cfs_period_us") == "20000"
    assert text(tmp_path / "cpu/lab/node2/cpu.cfs_quota_us") == "1000", "the kernel takes no less"
    assert text(tmp_path / "cpu/lab/node2/cpu.cfs_period_us") == "50000"
    assert text(tmp_path / "cpu/lab/cpu.shares") == "262144"
    assert text(tmp_path / "memory/lab/node1/memory.limit_in_bytes") == str(7 << 20)
    assert len(cgroups.entrances(groups, "node1")) == 2


def test_a_command_that_enters_from_its_start(tmp_path: Path) -> None:
    groups = {"cpu": str(tmp_path)}
    (tmp_path / "node1").mkdir()
    command = [*cgroups.entering(groups, "node1"), "echo", "two  words", "$x"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "two  words $x\n"
    assert text(tmp_path / "node1/cgroup.procs") == "0"
    assert cgroups.entering({}, "node1") == []
    with pytest.raises(UserError, match="No such file"):
        cgroups.enter(groups, "node9")


def test_limits_go_round() -> None:
    plan = lab.Plan("/x", 5, speeds=[10000, 5000], cpus=[1, 0.5, 0.25])
    assert [plan.speed(n) for n in range(1, 6)] == [10000, 5000, 10000, 5000, 10000]
    assert [plan.limits(n) for n in (1, 3, 4)] == [{"cpu": 1}, {"cpu": 0.25}, {"cpu": 1}]
    assert lab.Plan("/x", 2).limits(1) == {} and lab.Plan("/x", 2).speed(1) == 10000


@pytest.mark.root
def test_a_lab_of_unequal_nodes(tmp_path: Path) -> None:
    """Quota is speed, for its own mosd and for the others; programs are counted where they run; nothing is left."""
    try:
        cgroups.lab_group("cpu", "x")
    except UserError as error:
        pytest.skip(str(error))
    scripts = tmp_path / "bin"
    root = f"/tmp/mosfs-quota-{os.getpid()}"
    environ = {**os.environ, "MOSLAB_ROOT": root, "PATH": f"{scripts}:{os.environ['PATH']}"}

    def moslab(*argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*cluster.MOSLAB, *argv], env=environ, capture_output=True, text=True, check=False, timeout=120)

    done = moslab("up", "-n", "2", "--base", cluster.own_block(), "--cpus", "1,0.4", "--speeds", "20000,10000")
    try:
        assert done.returncode == 0, done.stderr
        plan = lab.require(root)
        groups = list(plan.groups.values())
        mounts = [Path(node.paths.mount) for node in plan.nodes()]
        assert [text(mount / "node/speed") for mount in mounts] == ["20000", "4000"]
        wait_until(lambda: text(mounts[0] / f"nodes/{plan.node(2).ip}/speed") == "4000")
        with subprocess.Popen(
            [*cluster.MOSLAB, "run", "2", "mosrun", "-h", "awk", "BEGIN { while (1) n++ }"], env=environ,
        ) as busy:
            try:
                wait_until(lambda: int(text(mounts[1] / "node/load")) >= 200)
                assert int(text(mounts[0] / "node/load")) < 100
                assert f"{busy.pid}" in Path(groups[0], "node2/cgroup.procs").read_text().split()
            finally:
                busy.kill()
    finally:
        assert moslab("down").returncode == 0
    assert not any(os.path.exists(folder) for folder in groups)
