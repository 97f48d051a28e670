"""mosacct over a tree of files made by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mosfs.cluster.paths import NodePaths
from mosfs.tools import mosacct
from mosfs.tools.mosacct import Row, Sum
from mosfs.tools.tree import Tree

FACTS = {
    "pid": 100, "uid": 987654, "comm": "render", "ago": 60.0, "where": "10.0.0.2", "nmigs": 3, "user": 1.0, "system": 0.25,
    "user_away": 70.0, "system_away": 0.5,
}


@pytest.fixture
def mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two programs of one user, the later one first by PID, and one of another."""
    monkeypatch.setenv("MOSIX_ROOT", str(tmp_path))
    made = Path(NodePaths(str(tmp_path)).mount)
    rows = [FACTS, {**FACTS, "pid": 200, "ago": 90.0, "where": "", "nmigs": 2},
            {**FACTS, "pid": 300, "uid": 987655, "comm": "a\x1b[m"}]
    files = {f"ended/{row['pid']}/stat": json.dumps(row) for row in rows} | {"node/pid": "1", "nodes/10.0.0.2/number": "2"}
    for name, text in files.items():
        file = made / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")
    return made


def test_a_row() -> None:
    assert mosacct.row_of(FACTS, 1000.0) == Row(100, "987654", "render", 1.25, 70.5, 3, "10.0.0.2", 940.0)


def test_the_list(mount: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert mosacct.main([]) == 0
    said = capsys.readouterr().out
    lines = [line.split() for line in said.splitlines()]
    assert lines[0] == ["PID", "USER", "COMMAND", "HOME", "AWAY", "MOVES", "WHERE", "ENDED"]
    assert lines[1][:7] == ["200", "987654", "render", "1.25", "70.50", "2", "home"]
    assert lines[2][:7] == ["100", "987654", "render", "1.25", "70.50", "3", "2"]
    assert "\x1b" not in said and len(lines) == 4


def test_one_user_in_json(mount: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert mosacct.main(["--user", "987654", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["pid"], row["moves"], row["where"]) for row in rows] == [(200, 2, ""), (100, 3, "10.0.0.2")]


def test_sums(mount: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert mosacct.main(["--sum", "--json"]) == 0
    found = [Sum(**each) for each in json.loads(capsys.readouterr().out)]
    assert found == [Sum("987654", "render", 2, 2.5, 141.0, 5), Sum("987655", "a?[m", 1, 1.25, 70.5, 3)]
    assert mosacct.main(["--sum"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ["987654", "render", "2", "2.50", "141.00", "5"]


def test_others_programs_are_left_out(mount: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: Tree, name: str) -> str:
        if name == "ended/100/stat":
            raise PermissionError
        return read(self, name)

    read = Tree.read
    monkeypatch.setattr(Tree, "read", refused)
    assert mosacct.main(["--json"]) == 0
    assert [row["pid"] for row in json.loads(capsys.readouterr().out)] == [200, 300]


RECORD = {
    "pid": 7, "uid": 987654, "command": "render", "started": 1000.0, "ended": 1060.0, "home": 1.0, "away": 50.0, "moves": 2,
    "where": "10.0.0.2", "calls": 12, "memory": 34, "nodes": {"10.0.0.2": 50.0},
}


def test_an_accounting_file(mount: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also an older one; of a day and later ones; a line that a full disk has torn is left out."""
    day = mosacct.since("2026-03-01")
    rows = [{**RECORD, "pid": pid, "ended": day + after} for pid, after in ((1, -1.0), (2, 0.0), (3, 86400.0))]
    text = "".join(json.dumps(row) + "\n" for row in rows) + '{"pid": 4, "ui\n'
    old = tmp_path / "old.acct"
    for file, words in ((tmp_path / mosacct.ACCOUNTS, ["--all"]), (old, ["--file", str(old)])):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        assert mosacct.main([*words, "--json"]) == 0
        listed = json.loads(capsys.readouterr().out)
        assert [row["pid"] for row in listed] == [1, 2, 3]
        assert (listed[0]["calls"], listed[0]["memory"], listed[0]["nodes"]) == (12, 34, {"10.0.0.2": 50.0})
        assert mosacct.main([*words, "--since", "2026-03-01", "--sum", "--json"]) == 0
        assert [(found["command"], found["programs"]) for found in json.loads(capsys.readouterr().out)] == [("render", 2)]
    assert mosacct.main(["--file", str(old), "--since", "1.3.2026"]) == 2
    old.write_text("no accounts\n")
    assert mosacct.main(["--file", str(old)]) == 1
    assert "line 1: " in capsys.readouterr().err


def test_nothing_has_ended(mount: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for file in mount.glob("ended/*/stat"):  # forgotten between the listing and the look
        file.unlink()
    assert mosacct.main([]) == 0
    assert capsys.readouterr().out == "PID  USER  COMMAND  HOME  AWAY  MOVES  WHERE  ENDED\n"
    assert mosacct.main(["--json"]) == 0
    assert capsys.readouterr().out == "[]\n"


@pytest.mark.parametrize(("words", "status"), [
    (["--user", "no such one"], 2), (["--user", "9999999999"], 1), (["100"], 2), ([], 1),
])
def test_refusals(words: list[str], status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOSIX_ROOT", str(tmp_path))
    assert mosacct.main(words) == status
