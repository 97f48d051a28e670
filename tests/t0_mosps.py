"""mosps: which processes, which columns, how they look. Pure functions, and a tree made of plain files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mosfs.cluster.paths import NodePaths
from mosfs.queue import runners
from mosfs.tools import mosps
from mosfs.tools.mosps import MOSPS, Caller, View, columns, forest, render, select
from mosfs.tools.options import UserError
from mosfs.tools.tree import TICKS, Linux, Process, read_linux, starts_lines, tty_name

ME = Caller(1000, "pts/1")
NOW = 1_000_000_000.0  #: 2001-09-09 01:46:40 UTC
VIEW = View(lambda ip: ip.rpartition(".")[2], lambda uid: f"user{uid}", boot=NOW - 10900, now=NOW)

HERE = Process(100, 1000, linux=Linux(1, 100, 50, "pts/1", 7, 0, "one", "one -x", tpgid=100))
AWAY = Process(101, 1000, where="10.0.0.3", state="away", nmigs=4,
               linux=Linux(100, 100, 50, "pts/1", 7, 100 * TICKS, "two", "two", nice=5))
LEAVING = Process(102, 1000, where="10.0.0.3", state="leaving", frozen="M",
                  linux=Linux(101, 102, 102, "?", 8, 0, "three", "three"))
OTHERS = Process(103, 1001, state="", linux=Linux(1, 103, 103, "pts/2", 8, 0, "four", "four"))
GUEST = Process(104, 1000, home="10.0.0.2", origpid=77, state="guest", linux=Linux(comm="five", command="five"))
ALL = [HERE, AWAY, LEAVING, OTHERS, GUEST]


@pytest.mark.parametrize(("argv", "pids"), [
    ([], [100, 101]),
    (["x"], [100, 101, 102]),
    (["a"], [100, 101, 103]),
    (["ax"], [100, 101, 102, 103, 104]),
    (["-A"], [100, 101, 102, 103, 104]),
    (["-e"], [100, 101, 102, 103, 104]),
    (["-a"], [100, 101]),
    (["-d"], [100, 101, 104]),
    (["T"], [100, 101]),
    (["-V"], [104]),
    (["-AL"], [100, 101, 102, 103]),
    (["-AO"], [101, 102]),
    (["-ax"], [100, 101, 102, 103, 104]),
    (["-x"], [100, 101, 102]),
    (["-p", "101,104"], [101, 104]),
    (["103"], [103]),
    (["p100", "-p102"], [100, 102]),
    (["-t", "pts/2", "-U1000"], [100, 101, 102, 103, 104]),
    (["-t-"], [102, 104]),
    (["-g50"], [100, 101]),
    (["-G", "8"], [102, 103]),
    (["-V", "-p100"], []),
])
def test_selection(argv: list[str], pids: list[int]) -> None:
    assert [process.pid for process in select(ALL, MOSPS.parse(argv), ME)] == pids


@pytest.mark.parametrize("argv", [
    ["-p", "x"], ["-U", "no-such-user"], ["-G", "no-such-group"], ["-gx"], ["-p1,y"], ["-p", "9" * 5000], ["-U²"], ["-G²"],
])
def test_bad_lists_are_user_errors(argv: list[str]) -> None:
    with pytest.raises(UserError):
        select(ALL, MOSPS.parse(argv), ME)


def table(argv: list[str], processes: list[Process]) -> list[list[str]]:
    options = MOSPS.parse(argv)
    return [line.split() for line in render([(0, process) for process in processes], columns(options), VIEW)]


def test_columns_of_the_manual() -> None:
    assert table(["-nP"], ALL) == [
        ["PID", "TTY", "WHERE", "FROM", "ORIGPID", "FRZ", "NMIGS", "CMD"],
        ["100", "pts/1", "here", "here", "N/A", "-", "0", "one", "-x"],
        ["101", "pts/1", "3", "here", "N/A", "-", "4", "two"],
        ["102", "?", "leaving", "here", "N/A", "M", "0", "three"],
        ["103", "pts/2", "?", "here", "N/A", "-", "0", "four"],
        ["104", "?", "here", "2", "77", "N/A", "N/A", "five"],
    ]


def test_guests_have_neither_where_nor_frz() -> None:
    assert table(["-V"], [GUEST]) == [["PID", "TTY", "FROM", "ORIGPID", "CMD"], ["104", "?", "2", "77", "five"]]


@pytest.mark.parametrize(("argv", "titles"), [
    (["-f"], ["UID", "PID", "PPID", "TTY"]), (["-l"], ["UID", "PID", "PPID", "NI", "TTY"]),
    (["l"], ["UID", "PID", "PPID", "NI", "TTY"]), (["-j"], ["PID", "PGID", "SID", "TTY"]),
    (["j"], ["PPID", "PID", "PGID", "SID", "TTY", "TPGID", "UID"]), (["u"], ["USER", "PID", "TTY", "START"]),
    ([], ["PID", "TTY"]),
])
def test_formats(argv: list[str], titles: list[str]) -> None:
    assert table(argv, [])[0] == [*titles, "WHERE", "FROM", "FRZ", "CMD"]


@given(st.lists(st.sampled_from(ALL)), st.integers(1, 200))
def test_lines_are_as_wide_as_asked(processes: list[Process], width: int) -> None:
    rows = [(0, process) for process in processes]
    shown = columns(MOSPS.parse(["-fnP"]))
    assert [line[:width] for line in render(rows, shown, VIEW)] == render(rows, shown, VIEW, width)


@given(st.lists(st.tuples(st.integers(2, 30), st.integers(1, 30)), unique_by=lambda pair: pair[0]))
def test_a_forest_has_every_tree_once_and_parents_first(pairs: list[tuple[int, int]]) -> None:
    family = [Process(pid, 0, linux=Linux(ppid=ppid)) for pid, ppid in pairs if ppid < pid]
    seen: dict[int, int] = {}
    for depth, process in forest(family):
        parent = seen.get(process.linux.ppid)
        assert depth == (0 if parent is None else parent + 1)
        seen[process.pid] = depth
    assert seen.keys() == {process.pid for process in family}


def test_forest_shows_depth() -> None:
    lines = render(forest([HERE, AWAY, LEAVING]), [], VIEW)
    assert lines == [" CMD".strip(), "one -x", " \\_ two", "     \\_ three"]


@pytest.mark.parametrize(("device", "name"), [
    (os.makedev(136, 3), "pts/3"), (os.makedev(137, 1), "pts/257"), (os.makedev(4, 1), "tty1"),
    (os.makedev(4, 64), "ttyS0"), (0, "?"), (os.makedev(5, 1), "5:1"),
])
def test_names_of_terminals(device: int, name: str) -> None:
    assert tty_name(device) == name


def test_linux_facts_of_this_process() -> None:
    linux = read_linux(os.getpid())
    assert linux is not None
    assert (linux.ppid, linux.pgid, linux.sid) == (os.getppid(), os.getpgid(0), os.getsid(0))
    assert read_linux(2**22 + 1) is None


STATE = {"pid": 0, "uid": 0, "where": "", "state": "here", "nmigs": 2, "settings": {}, "why": "", "frozen": "-",
         "move_seq": 1, "move_target": "", "move_result": "ok", "comm": "prog", "sigmig": 0}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree of plain files: this process, a process away that is our parent, and a guest."""
    mount = Path(NodePaths(str(tmp_path)).mount)
    for pid, facts in ((os.getpid(), {}), (os.getppid(), {"where": "127.0.1.2", "state": "away"})):
        (mount / f"proc/{pid}").mkdir(parents=True)
        (mount / f"proc/{pid}/stat").write_text(json.dumps({**STATE, "pid": pid, "uid": os.geteuid(), **facts}) + "\n")
    guest = {"pid": 9, "origpid": 8, "home": "127.0.1.3", "uid": 5, "comm": "guest", "since": 1.5}
    (mount / "guests/9").mkdir(parents=True)
    (mount / "guests/9/stat").write_text(json.dumps(guest))
    for ip, number in (("127.0.1.2", "2"), ("127.0.1.3", "-")):
        (mount / f"nodes/{ip}").mkdir(parents=True)
        (mount / f"nodes/{ip}/number").write_text(f"{number}\n")
    monkeypatch.setenv("MOSIX_ROOT", str(tmp_path))
    return tmp_path


def test_the_command_reads_the_tree(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert mosps.main(["ax", "-n"]) == 0
    lines = {line.split()[0]: line.split()[2:6] for line in capsys.readouterr().out.splitlines()}
    assert lines["PID"] == ["WHERE", "FROM", "FRZ", "NMIGS"]
    assert lines[str(os.getpid())] == ["here", "here", "-", "2"]
    assert lines[str(os.getppid())] == ["2", "here", "-", "2"]
    assert lines["9"] == ["here", "127.0.1.3", "N/A", "N/A"]


def test_json_has_stable_keys(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert mosps.main(["-A", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    keys = {"pid", "ppid", "pgid", "sid", "uid", "user", "tty", "where", "state", "from", "origpid", "frozen", "nmigs",
            "comm", "command", "needs"}
    assert all(row.keys() == keys for row in rows)
    assert {row["pid"]: row["where"] for row in rows} == {os.getpid(): "", os.getppid(): "127.0.1.2", 9: ""}


def test_addresses_instead_of_numbers(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert mosps.main(["-O", "ax", "-I"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[2] == "127.0.1.2"


def test_names_and_numbers(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """mosps(1), c and n."""
    for options, place, word in ((["c"], -1, str(STATE["comm"])), (["u", "n"], 0, str(os.geteuid()))):
        assert mosps.main(["ax", *options]) == 0
        lines = [line.split() for line in capsys.readouterr().out.splitlines()]
        assert [line[place] for line in lines if str(os.getpid()) in line] == [word]


def test_nothing_found_is_status_1(root: Path) -> None:
    assert mosps.main(["-p", "2"]) == 1  # not 1: it may have become our parent


def test_no_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("MOSIX_ROOT", str(tmp_path))
    assert mosps.main([]) == 1
    assert capsys.readouterr().err.startswith("mosps: MOSIX is not running on this computer")


def test_control_characters_do_not_reach_the_terminal() -> None:
    with subprocess.Popen(["sh", "-c", "read line", "evil\x1b[2J"], stdin=subprocess.PIPE) as process:
        linux = read_linux(process.pid)
        while linux and "evil" not in linux.command:  # until the exec
            linux = read_linux(process.pid)
        process.communicate(b"\n")
    assert linux is not None and linux.command == "sh -c read line evil?[2J"


#: A title for the terminal, and CSI as one character, which terminals obey, too.
OBEYED = "\x1b]0;x\a\x9b2J"


def test_nor_does_the_name_of_what_has_no_command_line() -> None:
    """A process that has ended, or has overwritten its arguments, is shown by the name that it has given itself."""
    if not (pid := os.fork()):
        Path("/proc/self/comm").write_bytes(OBEYED.encode())
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    linux = read_linux(pid)
    os.waitpid(pid, 0)
    assert linux is not None and (linux.comm, linux.command) == ("?]0;x??2J", "[?]0;x??2J]")


@pytest.mark.parametrize("options", [["-A"], ["-V"], ["ax", "c"], ["-A", "--json"]])
def test_nor_do_names_that_the_tree_has(root: Path, options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """That of a guest is said by another node."""
    for file in Path(NodePaths(str(root)).mount).glob("*/*/stat"):
        file.write_text(json.dumps({**json.loads(file.read_text()), "comm": OBEYED}))
    assert mosps.main(options) == 0
    out = capsys.readouterr().out
    assert "?]0;x??2J" in out and all(line.isprintable() for line in out.splitlines())


@pytest.mark.parametrize(("title", "values"), [
    ("USER", ["user1000", "user1000", "user1000", "user1001", "user1000"]),
    ("UID", ["1000", "1000", "1000", "1001", "1000"]),
    ("PID", ["100", "101", "102", "103", "104"]),
    ("PPID", ["1", "100", "101", "1", "0"]),
    ("PGID", ["100", "100", "102", "103", "0"]),
    ("SID", ["50", "50", "102", "103", "0"]),
    ("NAME", ["user1000", "user1000", "user1000", "user1001", "user1000"]),
    ("NI", ["0", "5", "0", "0", "-"]),
    ("TPGID", ["100", "-1", "-1", "-1", "-1"]),
    ("START", ["?", "22:46", "?", "?", "?"]),
    ("TTY", ["pts/1", "pts/1", "?", "pts/2", "?"]),
    ("WHERE", ["here", "3", "leaving", "?", "here"]),
    ("FROM", ["here", "here", "here", "here", "2"]),
    ("ORIGPID", ["N/A", "N/A", "N/A", "N/A", "77"]),
    ("FRZ", ["-", "-", "M", "-", "N/A"]),
    ("NMIGS", ["0", "4", "0", "0", "N/A"]),
])
@pytest.mark.usefixtures("utc")
def test_every_column(title: str, values: list[str]) -> None:
    column = mosps.COLUMNS[title]
    assert [column.value(process, VIEW) for process in ALL] == values
    assert column.title == ("UID" if title == "NAME" else title)


def test_every_column_is_tested() -> None:
    mark = next(mark for mark in test_every_column.pytestmark if mark.name == "parametrize")  # type: ignore[attr-defined]
    assert {title for title, _ in mark.args[1]} == set(mosps.COLUMNS)


@pytest.mark.parametrize(("state", "shown"), [("starting", "starting"), ("leaving", "leaving"), ("here", "here")])
def test_where_has_the_manuals_words(state: str, shown: str) -> None:
    assert mosps.where(Process(1, 0, state=state), VIEW) == shown


@pytest.mark.parametrize("frozen", ["-", "A", "P", "M"])
def test_frz_has_the_manuals_letters(frozen: str) -> None:
    assert mosps.COLUMNS["FRZ"].value(Process(1, 0, frozen=frozen), VIEW) == frozen


def test_the_letters_of_the_manual_are_accepted() -> None:
    """mosps(1), "Supported ps(1) options"."""
    assert set("TUacefgjlmnptuw") <= MOSPS.by_name.keys()
    assert {f"-{letter}" for letter in "AGHNTUadefgjlmptuw"} <= MOSPS.by_name.keys()
    assert {f"-{letter}" for letter in "IhMLOnPVS"} <= MOSPS.by_name.keys()


@pytest.mark.parametrize(("style", "shown"), [
    ("", ["7", "10.0.0.2"]), ("ip", ["10.0.0.1", "10.0.0.2"]), ("host", ["seven.example.org", "10.0.0.2"]),
    ("short", ["seven", "10.0.0.2"]),
])
def test_names_of_nodes(style: str, shown: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def known(ip: str) -> tuple[str, list[str], list[str]]:
        if ip != "10.0.0.1":
            raise OSError
        return "seven.example.org", [], [ip]

    monkeypatch.setattr("socket.gethostbyaddr", known)
    name = mosps.node_namer(style, {"10.0.0.1": "7", "10.0.0.2": ""}.__getitem__)
    assert [name("10.0.0.1"), name("10.0.0.2")] == shown


@pytest.fixture
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("utc")
@pytest.mark.parametrize(("ago", "shown"), [(60, "01:45"), (86_399, "01:46"), (86_401, "Sep08"), (300 * 86_400, "2000")])
def test_start_is_as_in_ps(ago: int, shown: str) -> None:
    process = Process(1, 0, linux=Linux(start=TICKS))
    assert mosps.started(process, View(str, str, boot=NOW - ago - 1, now=NOW)) == shown


def test_environment_after_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    view = View(str, str, environment={100: "A=1 B=2"}.__getitem__)
    assert mosps.command(HERE, view) == "one -x A=1 B=2"
    assert mosps.command(GUEST, view) == "five", "a guest's environment is its home's to show"


def test_what_starts_the_lines_of_a_queue_is_not_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is known by its program, not by what it calls itself."""
    command = "mosrun-runner 5 -1 /bin/sh"
    one = Linux(comm="runner", command=command)
    assert not starts_lines(os.getpid(), one)
    monkeypatch.setattr(runners, "RUNNER", sys.executable)
    assert starts_lines(os.getpid(), one)
    assert not starts_lines(os.getpid(), Linux(comm="runner", command="runner 5"))
    assert not starts_lines(os.getpid(), Linux(comm="mine", command=command))
    assert not starts_lines(2**22 + 1, one) and not starts_lines(1, None)
