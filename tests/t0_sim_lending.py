"""Clusters that lend each other their nodes (bench/sim_lending.py), and the decisions that it runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.sim_lending import HOUR, PRIORITY, WAYS, Done, Fleet, Machine, Tally, maps, row, workload
from mosfs.node import guests

SIZES = (2, 4, 6)
HOURS = 6.0


class Watched(Fleet):
    """At every moment: who is outranked has left, and who runs is where both sides let him."""

    def _again(self, machine: Machine) -> None:
        assert not guests.outranked(machine.world)
        assert {*machine.world.programs, *machine.world.guests} == {*machine.jobs}
        for job in machine.jobs.values():
            assert job.home.world.map.relation(machine.ip).cango and machine.world.map.relation(job.home.ip).cantake
        super()._again(machine)


@pytest.fixture(scope="module")
def tallies() -> dict[str, Tally]:
    jobs = workload(SIZES, HOURS * HOUR, 3)
    found = {way: Watched(SIZES, way, 3).run(jobs, HOURS * HOUR) for way in WAYS}
    assert {len(tally.ended) for tally in found.values()} == {len(jobs)}
    return found


def computed(jobs: list[Done]) -> float:
    return sum(job.need + job.lost for job in jobs)


@pytest.mark.parametrize("way", WAYS)
def test_all_that_was_computed_is_of_somebody(tallies: dict[str, Tally], way: str) -> None:
    tally = tallies[way]
    assert tally.used == pytest.approx(computed(tally.ended), rel=1e-6)
    assert 0 <= tally.lent <= tally.used
    assert all(job.slowdown > 1 - 1e-6 for job in tally.ended)


def test_what_each_way_is(tallies: dict[str, Tally]) -> None:
    rows = {way: row(tally) for way, tally in tallies.items()}
    assert (rows["alone"].lent, rows["alone"].evictions, rows["alone"].lost) == (0, 0, 0)
    for way in ("kill", "move", "unpriced"):
        assert rows[way].lent > 0 and rows[way].evictions > 0
    assert rows["kill"].lost > 0 and rows["kill"].back == 0
    assert rows["move"].lost == 0 and rows["move"].back > 0
    assert rows["move"].slowdown < rows["alone"].slowdown


def test_nodes_learn_how_often_they_are_sent_away(tallies: dict[str, Tally]) -> None:
    jobs = workload(SIZES, HOURS * HOUR, 3)
    fleet = Fleet(SIZES, "move", 3)
    fleet.run(jobs, HOURS * HOUR)
    counted = [machine.world.multi.evictions for machine in fleet.machines]
    assert any(found.seconds > 0 and found.count > 0 for each in counted for found in each.values())
    assert all("cluster" in name for each in counted for name in each)


def test_everybody_is_everybodys_partner() -> None:
    first, *_ = maps(SIZES, lending=True)
    partners = [first.relation(ip).partner for ip in ("10.0.0.1", "10.0.0.2", "10.1.0.4", "10.2.0.6")]
    assert partners == ["", "", "cluster1", "cluster2"]
    assert first.relation("10.1.0.1").priority == PRIORITY
    assert not first.relation("10.1.0.5").known and not maps(SIZES, lending=False)[0].relation("10.1.0.1").known


def test_it_is_printed_and_drawn(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench.sim_lending", "--scale", "0.01", "--hours", "2", "--only", "alone,move"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    assert [line.split()[0] for line in shown.stdout.splitlines()] == ["slowdown", "alone", "move"]
    told = subprocess.run([*command, "--json", "--svg", str(tmp_path)], capture_output=True, text=True, check=True)
    assert json.loads(told.stdout).keys() == {"alone", "move"}
    assert {path.name for path in tmp_path.iterdir()} == {"lending.svg", "lent.svg"}
    for words in (["--only", "x"], ["--hours", "0"], ["--scale", "-1"]):
        assert subprocess.run([*command[:3], *words], capture_output=True, check=False).returncode == 2
