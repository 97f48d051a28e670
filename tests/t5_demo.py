"""The second and third part of make demo as they are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from mosfs.tools import cgroups, demo, demo_balance
from mosfs.tools.options import UserError

pytestmark = [pytest.mark.root, pytest.mark.long]
ROOT = Path(__file__).parent.parent


def test_a_cluster_levels_out_and_loses_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mosfs.tools.demo", "--only", "balance", "--svg", str(tmp_path / "loads.svg")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert done.stdout.splitlines()[-1].startswith("12 of 12 programs")
    rows = {what: line.split()[1:5] for line in done.stdout.splitlines() for what in ("expelled", "shut down") if what in line}
    assert rows["expelled"][1] == "0", done.stdout
    assert rows["shut down"][2] in ("0", "-"), done.stdout
    ElementTree.parse(tmp_path / "loads.svg")


def test_without_control_groups_it_says_so_and_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def none(controller: str, name: str) -> str:
        raise UserError(f"this machine has no control groups for {controller}")

    monkeypatch.setattr(cgroups, "lab_group", none)
    assert demo_balance.balance(tmp_path, demo.base()), capsys.readouterr().out
    assert capsys.readouterr().out.splitlines()[0] == (
        "no quotas of CPU time here (this machine has no control groups for cpu): the nodes only declare different speeds"
    )


def test_a_cluster_takes_its_nodes_back_and_nothing_is_lost() -> None:
    command = [sys.executable, "-m", "mosfs.tools.demo", "--only", "clusters"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert done.stdout.splitlines()[-1].startswith("10 of 10 programs")
    assert "guests gone in" in done.stdout
