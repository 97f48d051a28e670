"""The simulator of gossip on a small cluster, and its charts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import sim_gossip
from mosfs.balance import ages
from mosfs.tools import chart

ROOT = Path(__file__).parent.parent


def test_pushing_is_as_old_as_the_closed_form_and_asking_the_oldest_makes_it_younger() -> None:
    push, ours = (sim_gossip.simulate(128, 8, push_only, 1) for push_only in (True, False))
    assert push.mean == pytest.approx(ages.mean_age(128, 8), rel=0.15)
    assert push.maximum == pytest.approx(ages.mean_maximum_age(128, 8), rel=0.2)
    assert ours.mean < 1.05 * ages.mean_age(128, 8)
    assert ours.maximum < 0.6 * push.maximum
    assert ours.maximum == pytest.approx(ages.asked_maximum_age(128, 8), rel=0.1)


def test_bytes_of_a_step_do_not_grow() -> None:
    few, many = sim_gossip.cost(64, 8, 40), sim_gossip.cost(256, 8, 40)
    assert 500 < many.bytes < 1.2 * few.bytes
    assert few.seconds > 0


@given(st.floats(0.01, 1e6))
def test_axes_are_round_and_fit(limit: float) -> None:
    step = chart.nice(limit)
    assert limit <= step * chart.TICKS * (1 + 1e-9)
    assert step * chart.TICKS <= max(3 * limit, chart.TICKS * 0.1 * 1.01)


def test_a_chart() -> None:
    svg = chart.lines("a < b", "x", "y", {"one": [(0, 0), (10, 5)], "two & three": [(0, 1), (7, 2)]})
    root = ElementTree.fromstring(svg)
    lines = root.findall("{http://www.w3.org/2000/svg}polyline")
    assert len(lines) == 2
    assert any(text.text == "two & three" for text in root.iter("{http://www.w3.org/2000/svg}text"))
    for line in lines:
        for point in line.attrib["points"].split():
            x, y = map(float, point.split(","))
            assert 0 <= x <= chart.WIDTH and 0 <= y <= chart.HEIGHT


def test_by_hand(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench.sim_gossip", "64:8", "--chart", str(tmp_path / "x.svg")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["nodes:window", "64:8"]
    ElementTree.parse(tmp_path / "x.svg")
    wrong = subprocess.run([*command[:3], "64:90"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert wrong.returncode == 2 and "Traceback" not in wrong.stderr
