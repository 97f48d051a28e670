"""The second part of the demo, without its cluster: what its programs must find, and what is told of it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mosfs.calls.cputime import of_process
from mosfs.tools import demo, demo_balance, lab
from mosfs.tools.demo_balance import FACTOR, INCREMENT, MODULUS, PROGRAMS, Film, Look, after
from mosfs.trace.proc import status_sets
from tests.cluster import wait_until


@given(st.integers(0, MODULUS - 1), st.integers(0, 2000))
def test_the_formula_is_the_sequence(start: int, steps: int) -> None:
    value = start
    for _ in range(steps):
        value = (value * FACTOR + INCREMENT) % MODULUS
    assert after(start, steps) == value


def test_a_program_told_to_end_says_what_the_formula_says(tmp_path: Path) -> None:
    (tmp_path / "count.py").write_text(demo_balance.PROGRAM)
    for number in range(PROGRAMS):
        steps = 20000 * number + 20000
        (tmp_path / f"{number}.out").write_text(f"{steps} {after(number, steps)}\n")
    command = [sys.executable, str(tmp_path / "count.py"), "3"]
    with (tmp_path / "3.out").open("w") as out, subprocess.Popen(command, stdout=out) as real:
        wait_until(lambda: status_sets(real.pid)["SigCgt"] >> signal.SIGTERM - 1 & 1)
        begun = sum(of_process(real.pid))
        wait_until(lambda: sum(of_process(real.pid)) > begun + 20_000_000)
        assert real.poll() is None
        real.terminate()
    assert demo_balance.wrong(tmp_path) == []
    (tmp_path / "5.out").write_text("")
    (tmp_path / "7.out").write_text("20000 1\n")
    assert demo_balance.wrong(tmp_path) == ["program 5: wrong result ''", "program 7: wrong result '20000 1\\n'"]


@pytest.fixture
def film(monkeypatch: pytest.MonkeyPatch) -> Film:
    """Programs that leave node 1 in the first two seconds, and node 3 that leaves then."""
    plan = lab.Plan("/nowhere", 4, cpus=demo_balance.CPUS)
    film = Film(plan)
    script = [
        Look(0.1, (12, 0, 0, 0), (0, 0, 0, 0), 0), Look(1.0, (7, 3, 1, 1), (2400, 300, 0, 0), 5),
        Look(2.0, (6, 3, 2, 1), (1400, 1000, 800, 667), 6), Look(7.0, (6, 3, 2, 1), (1200, 1000, 800, 667), 6),
        Look(8.0, (8, 3, None, 1), (1600, 1000, None, 667), 8),
    ]
    monkeypatch.setattr(Film, "look", lambda self: self.looks.append(script[len(self.looks)]) or self.looks[-1])
    monkeypatch.setattr(demo_balance, "PERIOD", 0)
    return film


def test_level_is_when_nobody_has_moved_for_a_while(film: Film) -> None:
    assert film.until(film.level, 10) and not film.level(film.looks[0])
    assert film.looks[-1].at == 7.0
    assert film.note("a node left").split() == ["8.0", "8", "3", "-", "1", "1600", "1000", "-", "667", "8", "a", "node", "left"]


def test_the_chart_ends_a_node_where_it_left(film: Film) -> None:
    film.until(lambda look: look.at > 6, 10)
    film.note("node 3 left")
    chart = ElementTree.fromstring(film.svg())
    lines = chart.findall("{http://www.w3.org/2000/svg}polyline")
    assert [len(line.attrib["points"].split()) for line in lines] == [5, 5, 4, 5]
    assert "node 3 left" in [text.text for text in chart.iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.parametrize(("terminal", "shown"), [
    (False, "demo: bzip2: natively\ndemo: bzip2: in a storm\n"),
    (True, "\r\033[Kbzip2: natively\r\033[Kbzip2: in a storm\r\033[K"),
])
def test_progress_is_told_with_and_without_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], terminal: bool, shown: str
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    for text in ("bzip2: natively", "bzip2: in a storm", ""):
        demo.tell(text)
    assert capsys.readouterr().err == shown
