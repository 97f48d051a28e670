"""One program with many threads, moved to and fro more often than a row of tests/debian is."""

from __future__ import annotations

import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from mosfs.abi.outcomes import OK, UNDER_WAY
from mosfs.tools.tree import Tree
from tests import cluster
from tests.cluster import Lab, wait_until
from tests.threaded import BUILT, cases

pytestmark = [pytest.mark.root, pytest.mark.long, pytest.mark.timeout(1800)]

MOVES, PAUSE = 200, 0.25  #: how many, and seconds that it works between two
REFUSED = 20  #: as many may fail for what it does just then
PATIENCE = 180.0  #: seconds after which something hangs


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with cluster.lab(tmp_path_factory.mktemp("threaded"), 2) as running:
        yield running


def moved(tree: Tree, pid: int, target: str) -> str:
    """How a move has ended (`abi.outcomes`)."""
    name = f"proc/{pid}/move"
    before, _ = tree.outcome(name)
    tree.write(f"proc/{pid}/migrate", target)

    def told() -> str:
        number, result = tree.outcome(name)
        return result if number > before and result != UNDER_WAY else ""

    return wait_until(told, PATIENCE)


def test_java_works_on_over_200_moves(nodes: Lab, tmp_path: Path) -> None:
    """A Java machine has a dozen threads, which stop each other by signals and by memory that they protect. It goes on until
    all moves have been made, and then has said what so many rounds say natively."""
    if lacking := next(case for case in cases() if case.name == "threads java").lacking():
        pytest.skip(lacking)
    out, reasons = tmp_path / "out", Counter[str]()
    java = ("java", "-cp", str(BUILT), "Pools")
    with out.open("wb") as file:
        process = nodes.start(1, "mosrun", "-h", *java, "1000000", "enough", cwd=tmp_path, stdout=file, stderr=file)
    wait_until(lambda: b"\n" in out.read_bytes(), PATIENCE)
    while reasons[OK] < MOVES and reasons.total() < MOVES + REFUSED:
        reasons[moved(nodes.tree(1), process.pid, "home" if reasons[OK] % 2 else "2")] += 1
        time.sleep(PAUSE)
    assert reasons[OK] == MOVES, reasons
    assert int(nodes.tree(1).read(f"proc/{process.pid}/nmigs")) >= MOVES
    (tmp_path / "enough").touch()
    assert process.wait(PATIENCE) == 0
    said = out.read_text()
    native = subprocess.run([*java, str(said.count("\n"))], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert said == native.stdout
