"""The fleet of programs that outlive their nodes (bench/sim_outlive.py), and the rule for images that it runs."""

from __future__ import annotations

import itertools
import json
import math
import random
import subprocess
import sys
from pathlib import Path
from statistics import mean

import pytest

from bench.sim_outlive import DAY, Fleet, Way
from mosfs.balance import images

NEVER = itertools.repeat(math.inf)


def test_images_take_their_share_and_no_more() -> None:
    for stood in (0.2, 3.0, 120.0):
        assert stood / images.pause(stood, safe=True) == pytest.approx(images.SHARE)
        assert stood / images.pause(stood, safe=False) == pytest.approx(images.UNSAFE_SHARE)
    assert images.pause(0.0, safe=True) == images.SHORTEST
    assert images.pause(0.0, safe=False) == images.UNSAFE_SHORTEST


def test_beginning_again_takes_what_theory_says() -> None:
    fleet, way = Fleet(life=DAY, home_life=math.inf), Way(0.0, math.inf, 600.0, False)
    rng = random.Random(7)
    spent = mean(way.finish(DAY, fleet.lives(rng, DAY), NEVER) for _ in range(1500))
    assert spent == pytest.approx((math.e - 1) * (DAY + 600), rel=0.1)


def test_what_is_in_an_image_is_not_computed_again() -> None:
    way = Way(1.0, 9.0, 5.0, False)
    assert way.finish(27.0, NEVER, NEVER) == 29.0  # two images
    assert way.finish(27.0, iter([25.0, math.inf]), NEVER) == 25 + 5 + 9  # two images were whole
    assert way.finish(27.0, NEVER, iter([25.0, math.inf])) == 25 + 5 + 29  # the home-node had them
    kept = Way(1.0, 9.0, 5.0, True)
    assert kept.finish(27.0, NEVER, iter([25.0, math.inf])) == 25 + 5 + 9


@pytest.mark.parametrize("shape", (0.7, 1.0, 1.5))
def test_a_node_met_at_a_random_moment(shape: float) -> None:
    """Its mean rest is that of renewal theory: half of its life's second moment by the first."""
    fleet, rng = Fleet(shape=shape), random.Random(3)
    rests = itertools.islice(fleet.lives(rng, 1.0), 8000)
    scale = 1 / math.gamma(1 + 1 / shape)
    assert mean(rests) == pytest.approx(scale**2 * math.gamma(1 + 2 / shape) / 2, rel=0.1)


def test_as_a_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench.sim_outlive", "--runs", "5"]
    found = json.loads(subprocess.run([*command, "--json"], capture_output=True, check=True, text=True).stdout)
    rows = found["kept home"]
    assert rows["outlive"]["slowdown"]["20 days"] < 1.5 < rows["restart"]["slowdown"]["20 days"]
    assert rows["outlive"]["useful"] > rows["restart"]["useful"]
    picture = tmp_path / "x.svg"
    subprocess.run([*command, "--svg", str(picture)], check=True)
    assert picture.read_text().startswith("<svg")
