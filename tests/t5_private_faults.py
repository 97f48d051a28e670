"""A broken move loses no private file: whatever breaks before the commit point, the program has all of them where it goes on."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator

import pytest

from mosfs.wire.faults import Point
from tests import cluster
from tests.cluster import Lab, wait_until
from tests.t5_faults import PATIENCE, TOUR, Case, arm, last_words, places
from tests.t5_private import DIRECTORY, KEEP, PYTHON

pytestmark = pytest.mark.root

#: Run by default.
QUICK = {
    "NODE_BEFORE_BODY-refuse-2", "HOME_BEFORE_COMMIT-cut-1",
    "NODE_AFTER_RETURN-cut-3", "NODE_IN_ONWARD-cut-2",
}  # fmt: skip
#: Where a refusal is an error that the node answers.
REFUSABLE = (Point.NODE_BEFORE_BODY, Point.NODE_MAPPED, Point.NODE_FILLED)


def cases() -> Iterator[object]:
    every = [Case(p, action, n) for p in Point for action in ("cut", "die") for n in places(p)]
    every += [Case(p, "refuse", n) for p in REFUSABLE for n in (2, 3)]
    for case in every:
        if case.tracer_dies or not (case.action == "refuse" or case.must_survive):
            continue
        marks = [] if str(case) in QUICK else [pytest.mark.long]
        yield pytest.param(case, marks=marks, id=str(case))


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with cluster.lab(tmp_path_factory.mktemp("faults"), 3) as running:
        yield running


@pytest.mark.parametrize("case", list(cases()))
def test_files_survive(case: Case, nodes: Lab) -> None:
    arm(nodes, case.node, f"{case.point.value}:{case.action}")
    child = nodes.start(1, "mosrun", "-h", "-X", DIRECTORY, PYTHON, "-c", KEEP, DIRECTORY, "8",
                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout and child.stdout.readline() == b"ready\n"
    moved = [nodes.run(1, "mosmigrate", str(child.pid), target, timeout=PATIENCE).returncode == 0 for target in TOUR]
    out, err = child.communicate(b"\n", timeout=PATIENCE)
    if case.torn and err:
        assert re.fullmatch(last_words(nodes, case), err.decode()), err
        return
    assert err == b""
    words = out.split()
    assert words and words[0] == b"True"
    assert int(words[1]) >= sum(moved) - 1  # to where it is already is no migration
    wait_until(lambda: not any(nodes.tree(n).pids("guests") for n in (1, 2, 3)))
