"""What mosd writes of programs: the system's log when it is wanted, and the accounting file, which mosacct reads."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from mosfs.daemon import journal
from mosfs.daemon.journal import Journal, line
from mosfs.node.programs import MOST_PLACES, Program, Record
from mosfs.tools import mosacct
from mosfs.wire.asked import Settings
from mosfs.wire.messages import ProcState, Total, Usage

STATE = ProcState(100, 1001, "", "here", 2, Settings(), comm="x y\n")
OTHER = "10.0.0.2"


@pytest.fixture
def heard(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "log"))
        sock.setblocking(False)
        yield sock


@pytest.fixture
def writer(tmp_path: Path) -> Journal:
    (tmp_path / "wish").touch()
    return Journal(str(tmp_path / "wish"), str(tmp_path / "acct"), lambda ip: ip or "home", str(tmp_path / "log"), lambda: 5000.0)


def used(age: float, size: int = 1, forwarded: int = 0) -> Usage:
    return Usage(100, age, age, 0.0, size, 0.0, 0.0, 0.0, 0.0, 0.0, forwarded=forwarded)


def test_a_line_has_no_control_characters_and_words_that_scripts_can_read() -> None:
    assert line("start", pid=1, command="a 'b'\x1b\n") == """event=start pid=1 command='a '"'"'b'"'"'??'"""


def test_moves_and_what_did_not_become_one(heard: socket.socket, writer: Journal) -> None:
    writer.heard(STATE, replace(STATE, nmigs=3, where=OTHER, freeze_ms=12.0, because="load"))
    writer.heard(STATE, replace(STATE, move_seq=4, move_target=OTHER, move_result="refused"))
    writer.heard(STATE, replace(STATE, comm="y"))
    writer.refused(os.getpid(), 5, "no -m", journal.command_of(os.getpid()))
    said = [heard.recv(1000).decode() for _ in range(3)]
    assert all(text.startswith(f"<30>mosrun[{os.getpid()}]: event=") for text in said)
    assert "event=move pid=100 uid=1001 command='x y?' node=10.0.0.2 still=0.012 why=load" in said[0]
    assert "event=stay pid=100 uid=1001 command='x y?' node=home to=10.0.0.2 reason=refused" in said[1]
    assert "event=refused" in said[2] and "reason='no -m'" in said[2]
    with pytest.raises(BlockingIOError):
        heard.recv(1000)


def test_nothing_is_said_unless_it_is_wanted_and_nobody_waits(heard: socket.socket, writer: Journal, tmp_path: Path) -> None:
    (tmp_path / "wish").unlink()
    writer.invoked(1, 0, "", "")
    with pytest.raises(BlockingIOError):
        heard.recv(1000)
    (tmp_path / "wish").touch()
    for _ in range(10_000):  # nobody reads
        writer.say("x")
    heard.close()
    writer.say("y")


def test_who_called_mosrun(tmp_path: Path) -> None:
    assert journal._without_python(["/usr/bin/python3", "-IS", "/usr/bin/mosrun", "-b", "x"]) == ["/usr/bin/mosrun", "-b", "x"]
    assert journal.command_of(os.getpid()) and journal.command_of(1 << 30) == ""


def test_the_accounting_file_and_its_reader(
    writer: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record = Record(4000.0)
    assert [record.report("", None, used(2.0)), record.report(OTHER, used(2.0), used(5.0, 300, 7)),
            record.report("", used(5.0), used(5.5, 20, 9))] == [0, 7, 2]
    program = Program(replace(STATE, where=OTHER), None, record=record)
    writer.ended(program, None)
    writer.ended(program, Total(1.0, 0.5, 40.0, 2.0), -9)
    first, second = map(json.loads, (tmp_path / "acct").read_text().splitlines())
    assert first == {"pid": 100, "uid": 1001, "command": "x y\n", "started": 4000.0, "ended": 5000.0, "home": 2.5, "away": 3.0,
                     "moves": 2, "where": OTHER, "status": None, "calls": 9, "memory": 300, "nodes": {"home": 2.5, OTHER: 3.0}}
    assert (second["home"], second["away"], second["status"]) == (1.5, 42.0, -9)
    assert (tmp_path / "acct").stat().st_mode & 0o777 == 0o640
    monkeypatch.setenv("MOSIX_ROOT", str(tmp_path))
    assert mosacct.main(["--file", str(tmp_path / "acct"), "--sum", "--json"]) == 0
    assert [row["programs"] for row in json.loads(capsys.readouterr().out)] == [2]
    assert mosacct.main(["--file", str(tmp_path / "acct"), "--json"]) == 0
    assert [row.get("status") for row in json.loads(capsys.readouterr().out)] == [None, -9]
    assert mosacct.main(["--file", str(tmp_path / "acct"), "--since", "2000-01-01"]) == 0
    assert capsys.readouterr().out.count("\n") == 1, "only the titles: it ended before"
    assert mosacct.main(["--file", str(tmp_path / "acct")]) == 0
    assert "x y?" in capsys.readouterr().out
    assert mosacct.main(["--all"]) == 1
    assert f"{tmp_path}/var/log/mosix.acct: No such file" in capsys.readouterr().err
    assert mosacct.main(["--since", "yesterday", "--all"]) == 2


@pytest.mark.parametrize("text", ["", "{}", "[]", "x", '{"pid": 1e999}', "[" * 3000])
def test_what_is_no_accounting_file(tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text(f"{text}\n")
    assert mosacct.main(["--file", str(tmp_path / "file")]) == 1
    assert "line 1" in capsys.readouterr().err


def test_a_disk_that_is_full_is_told_once(writer: Journal, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "acct").mkdir()
    for _ in range(3):
        writer.ended(Program(STATE, None), None)
    assert len(caplog.records) == 1 and "acct: Is a directory" in caplog.text
    (tmp_path / "acct").rmdir()
    writer.ended(Program(STATE, None), None)
    os.mkfifo(tmp_path / "fifo")
    writer.accounts = str(tmp_path / "fifo")
    writer.ended(Program(STATE, None), None)
    assert len(caplog.records) == 2


def test_a_program_that_was_everywhere_has_a_record_of_some_length() -> None:
    record = Record()
    for at in range(3 * MOST_PLACES):
        record.report(f"10.0.0.{at}", used(at), used(at + 1))
    assert len(record.spent) == MOST_PLACES
    record.report("", used(9), used(1))
    assert min(record.spent.values()) >= 0
