"""Load, memory, and the best node for one more program."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mosfs.balance.best import SAME_COST, TIE, Candidate, best_node, load_after, load_of
from mosfs.balance.cgroup import Group, GroupFolder, folder_of, limited, quota
from mosfs.balance.cost import cost
from mosfs.balance.probe import Probe, Reading, exported, source_of
from mosfs.balance.source import (
    NAMES,
    BadSpec,
    Memory,
    Proc,
    Spec,
    meminfo,
    parse_spec,
    procs_running,
    running,
    swapped,
)
from tests.cluster import wait_until

candidates = st.lists(
    st.builds(
        Candidate, ip=st.ip_addresses(v=4).map(str), load=st.integers(0, 2000), speed=st.integers(1000, 50000),
        ncpus=st.integers(1, 64), mem_free=st.integers(0, 4000), arriving=st.integers(0, 3),
    ),
    unique_by=lambda node: node.ip, max_size=8,
)


@given(candidates, st.integers(0, 4000), st.randoms())
def test_best_fits_and_costs_least(nodes: Sequence[Candidate], need: int, random: object) -> None:
    chosen = best_node(nodes, need, random.choice)  # type: ignore[attr-defined]
    fitting = [node for node in nodes if node.mem_free >= need]
    if not fitting:
        assert chosen is None
        return
    node = next(node for node in fitting if node.ip == chosen)
    price = cost(node, 1, need)
    assert price <= min(cost(other, 1, need) for other in fitting) * SAME_COST
    assert all(load_after(node) <= load_after(other) + TIE for other in fitting if cost(other, 1, need) <= price / SAME_COST)


def test_ties_are_left_to_chance() -> None:
    equal = [Candidate(f"10.0.0.{n}", 100 + n, 10000, 1, 10) for n in range(1, 4)]
    offered: list[Sequence[str]] = []
    best_node(equal, 0, lambda ips: offered.append(ips) or ips[0])  # type: ignore[func-returns-value]
    assert offered == [["10.0.0.1", "10.0.0.2", "10.0.0.3"]]


@pytest.mark.parametrize(("running", "ncpus", "speed", "load"), [
    (1, 1, 10000, 100), (2, 1, 10000, 200), (2, 4, 10000, 50), (1, 1, 20000, 50), (0, 8, 10000, 0),
])
def test_units_of_load(running: int, ncpus: int, speed: int, load: int) -> None:
    """mosctl(1): 100 is a standard load unit, 10000 a standard processor."""
    assert load_of(running, ncpus, speed) == load


def test_proc_files() -> None:
    assert procs_running("cpu 1 2\nprocs_running 4\nprocs_blocked 0\n") == 3
    text = "MemTotal:  2048000 kB\nMemFree: 1 kB\nMemAvailable:  1024000 kB\nSwapTotal: 4096 kB\nSwapFree: 2048 kB\n"
    assert meminfo(text) == Memory(1000, 2000, 2, 4)
    assert meminfo("MemTotal: 2048 kB\nMemAvailable: 1024 kB\n") == Memory(1, 2, 0, 0)
    assert swapped("pgpgin 7\npswpin 3\npswpout 4\n") == 7


def test_exported_load_rises_at_once_and_falls_slowly() -> None:
    assert exported(1.0, 5.0) == 5.0
    assert exported(8.0, 0.0) == 2.0


@dataclass
class Script:
    """A source that says what it is told."""

    samples: list[float]
    speed: int = 10000
    ncpus: int = 2
    paged: int = 0

    def runnable(self) -> float:
        return self.samples.pop(0)

    def memory(self) -> Memory:
        return Memory(100, 200, 3, 4)

    def pages(self) -> int:
        self.paged += 50
        return self.paged


def test_a_reading() -> None:
    probe = Probe(Script([4, 2, 0, 0]))
    assert probe.read(0.0) == Reading(0, 0, 10000, 2, Memory(100, 200, 3, 4), 0)
    probe.sample()
    probe.sample()
    assert probe.read(1.0) == Reading(150, 150, 10000, 2, Memory(100, 200, 3, 4), 50)
    probe.sample()
    probe.sample()
    reading = probe.read(3.0)
    assert (reading.load, reading.local, reading.paging) == (38, 0, 25)


def test_what_is_given_replaces_what_is_measured() -> None:
    probe = Probe(Script([4]), parse_spec("fixed:load=70,speed=5000,ncpus=1,free=7,swap_total=9,paging=3"))
    assert probe.read(0.0) == Reading(70, 70, 5000, 1, Memory(7, 200, 3, 9), 3)
    probe = Probe(Script([2]), parse_spec("own:ncpus=1,speed=5000"))
    probe.sample()
    assert probe.read(0.0).load == 400


@pytest.mark.parametrize("text", ["nonsense", "fixed:load", "fixed:load=x", "fixed:load=-1", "fixed:weight=1", "fixed:load=1 2"])
def test_specifications_that_are_none(text: str) -> None:
    with pytest.raises(BadSpec):
        parse_spec(text)


@pytest.mark.parametrize(("text", "spec"), [
    ("", Spec()), ("own", Spec("own")), (" fixed:load=5 \n", Spec("fixed", (("load", 5),))),
    (":speed=3", Spec("proc", (("speed", 3),))),
])
def test_specifications(text: str, spec: Spec) -> None:
    assert parse_spec(text) == spec


def test_every_source_reads_this_machine() -> None:
    for name in NAMES:
        probe = Probe(source_of(Spec(name), 10000, lambda: 1.0), Spec(name))
        probe.sample()
        reading = probe.read(0.0)
        assert reading.load >= 0 and reading.speed > 0 and reading.ncpus > 0
        assert 0 < reading.memory.free <= reading.memory.total


def test_running_processes() -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        try:
            wait_until(lambda: running([busy.pid]) == 1)
            busy.send_signal(signal.SIGSTOP)
            wait_until(lambda: running([busy.pid]) == 0)
        finally:
            busy.kill()
    assert running([busy.pid, 2**22 + 1]) == 0


# --------------------------------------------------------------------------- control groups

CGROUP_1 = "9:name=systemd:/\n4:memory:/lab/n1\n2:cpu,cpuacct:/lab/n1\n0::/\n"
MOUNTS_1 = "tmpfs {root} tmpfs rw 0 0\ncgroup {root}/cpu cgroup rw,relatime,cpu,cpuacct 0 0\n" \
    "cgroup {root}/memory cgroup rw,memory 0 0\ncgroup2 {root}/unified cgroup2 rw 0 0\n"


def test_places_of_both_versions() -> None:
    mounts = MOUNTS_1.format(root="/c")
    assert folder_of("cpu", CGROUP_1, mounts) == GroupFolder("/c/cpu/lab/n1", "/c/cpu", 1)
    assert folder_of("memory", CGROUP_1, mounts) == GroupFolder("/c/memory/lab/n1", "/c/memory", 1)
    assert folder_of("cpu", "0::/lab/n1\n", "cgroup2 /c cgroup2 rw 0 0\n") == GroupFolder("/c/lab/n1", "/c", 2)
    assert folder_of("cpu", "0::/lab\n", "proc /proc proc rw 0 0\n") is None


def group(folder: Path, version: int, **files: str) -> GroupFolder:
    """A control group a/b below ``folder``; names of files with _ for the dot, and for the group above with a_ first."""
    (folder / "a/b").mkdir(parents=True)
    for name, text in files.items():
        where = folder / "a" if name.startswith("a_") else folder / "a/b"
        (where / name.removeprefix("a_").replace("_", ".", 1)).write_text(f"{text}\n")
    return GroupFolder(f"{folder}/a/b", str(folder), version)


def test_quota(tmp_path: Path) -> None:
    assert quota(group(tmp_path / "0", 2)) is None
    assert quota(group(tmp_path / "1", 2, cpu_max="max 100000")) is None
    assert quota(group(tmp_path / "2", 2, cpu_max="150000 100000")) == 1.5
    assert quota(group(tmp_path / "3", 2, cpu_max="150000 100000", a_cpu_max="50000 100000")) == 0.5
    assert quota(group(tmp_path / "4", 1, cpu_cfs_quota_us="-1", cpu_cfs_period_us="100000")) is None
    assert quota(group(tmp_path / "5", 1, cpu_cfs_quota_us="25000", cpu_cfs_period_us="100000")) == 0.25


@pytest.mark.parametrize(("limit", "ncpus", "speed"), [
    ("50000", 1, 5000), ("100000", 1, 10000), ("150000", 2, 7500), ("max", 8, 10000),
])
def test_a_quota_is_processors_and_speed(tmp_path: Path, limit: str, ncpus: int, speed: int) -> None:
    node = Group(Proc(10000, 8), group(tmp_path, 2, cpu_max=f"{limit} 100000"), None)
    assert (node.ncpus, node.speed) == (ncpus, speed)


def test_limited_memory(tmp_path: Path) -> None:
    machine, mb = Memory(500, 1000, 40, 80), 1 << 20
    assert limited(group(tmp_path / "0", 2, memory_max="max"), machine) == machine
    two = group(
        tmp_path / "1", 2, memory_max=str(100 * mb), memory_current=str(70 * mb), memory_stat=f"anon 1\ninactive_file {20 * mb}",
    )
    assert limited(two, machine) == Memory(50, 100, 40, 80)
    (tmp_path / "1/a/b/memory.swap.max").write_text(str(10 * mb))
    (tmp_path / "1/a/b/memory.swap.current").write_text(str(4 * mb))
    assert limited(two, machine) == Memory(50, 100, 6, 10)
    one = group(tmp_path / "2", 1, memory_limit_in_bytes=str(100 * mb), memory_usage_in_bytes=str(30 * mb))
    assert limited(one, machine) == Memory(70, 100, 40, 80)
    assert limited(group(tmp_path / "3", 1, memory_limit_in_bytes=str(2**63 - 4096)), machine) == machine


def test_processes_of_a_group(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        try:
            here = group(tmp_path, 2, cgroup_procs=f"{busy.pid}\n{os.getpid()}")
            wait_until(lambda: Group(Proc(10000), here, None).runnable() == 1)
        finally:
            busy.kill()
