"""mosctl, mosbestnode, moskillall, mostestload and mossetpe: what they make of their words. No daemon."""

from __future__ import annotations

import math
import os
import re
import signal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mosfs.cluster.paths import NodePaths
from mosfs.tools import mosbestnode, mosctl, moskillall, mostestload
from mosfs.tools.mosbestnode import MOSBESTNODE
from mosfs.tools.mosctl import MOSCTL
from mosfs.tools.moskillall import MOSKILLALL, signal_of
from mosfs.tools.mostestload import MOSTESTLOAD, Chunk, Done, older_style
from mosfs.tools.options import COUNT, MAYBE, WORD, Command, Option, UsageError
from mosfs.tools.tree import Process, Tree

# --------------------------------------------------------------------------- the kinds of options that they brought

KINDS = Command("kinds", "kinds", "test", (
    Option("-m", "count", "c", COUNT), Option("-HUP -off", "word", "w", WORD), Option("--read -r", "maybe", "m", MAYBE),
    Option("-o", "flag", "f"), Option("-f", "flag2", "f"),
), permute=True)


@pytest.mark.parametrize(("argv", "values"), [
    (["-m", "-m"], {"count": "2"}), (["-mmo"], {"count": "2", "flag": "1"}), (["-HUP"], {"word": "HUP"}),
    (["-off"], {"word": "off"}), (["-of"], {"flag": "1", "flag2": "1"}),
    (["--read"], {"maybe": ""}), (["--read=4,5"], {"maybe": "4,5"}), (["--read", "4,5"], {"maybe": "4,5"}),
    (["--read", "-o"], {"maybe": "", "flag": "1"}), (["--read", "-m", "--read=2"], {"maybe": "2", "count": "1"}),
])
def test_kinds_of_options(argv: list[str], values: dict[str, str]) -> None:
    assert KINDS.parse(argv).values == values


def test_a_word_that_begins_with_no_digit_is_no_value() -> None:
    parsed = KINDS.parse(["--read", "file"])
    assert (parsed.get("maybe"), parsed.rest) == ("", ["file"])


# --------------------------------------------------------------------------- mosbestnode, moskillall


@pytest.mark.parametrize(("argv", "question"), [
    ([], "mem=0 reserve"), (["-n"], "mem=0"), (["-m400", "-u"], "mem=400 reserve"), (["-nw", "-m", "7"], "mem=7"),
])
def test_questions_about_the_best_node(argv: list[str], question: str) -> None:
    assert mosbestnode.question(MOSBESTNODE.parse(argv)) == question


@pytest.mark.parametrize("name", moskillall.NAMES.split())
def test_every_signal_of_the_manual(name: str) -> None:
    wanted = signal.SIGTSTP if name == "STOP" else signal.Signals[f"SIG{name}"]
    assert signal_of(MOSKILLALL.parse([f"-{name}"]).get("signal")) == wanted
    assert signal_of(MOSKILLALL.parse([f"-{int(wanted)}"]).get("signal")) == wanted


@pytest.mark.parametrize("argv", [["-0"], ["-65"], ["-FOO"], ["-hup"], ["-SIGHUP"]])
def test_no_signals(argv: list[str]) -> None:
    with pytest.raises(UsageError):
        MOSKILLALL.parse(argv)


def test_who_is_signalled() -> None:
    processes = [Process(10, 5), Process(11, 6), Process(12, 5, home="10.0.0.2"), Process(13, 5, where="10.0.0.2"),
                 Process(14, 5, native=True)]
    assert moskillall.chosen(processes, 5) == [10, 13]
    assert moskillall.chosen(processes, 0) == [10, 11, 13]


# --------------------------------------------------------------------------- mosctl

FACTS = {
    "ip": "10.0.0.2", "number": 2, "status": "alive", "age": 0.5, "load": 150, "speed": 10000, "ncpus": 4, "mem_free": 100,
    "mem_total": 2000, "swap_free": 512, "swap_total": 2048, "frozen": 1, "processes": 3, "guests": 2, "bits": 4 + 8 + 16,
    "version": "0.1.0",
}


def test_status_in_words() -> None:
    assert dict(mosctl.describe(FACTS)) == {
        "Node": "2 (10.0.0.2)", "Status": "alive", "Age": "0.5 seconds", "Load": "1.50", "Speed": "10000", "CPUs": "4",
        "Memory": "100 MB available of 2000 MB", "Swap": "0.5 GB free of 2.0 GB", "Frozen": "1",
        "Processes": "3 MOSIX processes, 2 of them guests", "Switches": "stay lstay block", "Accepts": "no processes from here",
        "Version": "0.1.0",
    }
    welcome = dict(mosctl.describe({**FACTS, "number": None, "bits": 1 + 2 + 32 + 512}))
    assert (welcome["Node"], welcome["Switches"], welcome["Accepts"]) == ("10.0.0.2", "none", "processes from here")


def test_status_of_a_node_that_was_never_heard() -> None:
    unknown = {"ip": "10.0.0.2", "number": 2, "status": "unknown", "age": None, "version": None, "bits": 1}
    assert list(mosctl.describe(unknown)) == [("Node", "2 (10.0.0.2)"), ("Status", "unknown")]


class Asked(Tree):
    """A tree that knows one node."""

    def ask(self, name: str, question: str) -> str:
        if (name, question) not in (("whois", ""), ("whois", "2"), ("whois", "10.0.0.2")):
            raise OSError
        return "10.0.0.2 2"


@pytest.mark.parametrize("word", ["", "2", "10.0.0.2", "node2.example.org"])
def test_names_of_a_node(word: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("socket.gethostbyname", {"node2.example.org": "10.0.0.2"}.__getitem__)
    assert mosctl.find(Asked(NodePaths()), word) == ("10.0.0.2", "2")
    assert mosctl.whois(Asked(NodePaths()), word, MOSCTL.parse(["whois"])) == 0
    assert capsys.readouterr().out == ("10.0.0.2\n" if word == "2" else "2\n")


def test_verbs_are_the_manuals() -> None:
    """mosctl(1), SYNOPSIS, and cngpri of section 6.4; doctor and metrics are ours."""
    assert [verb.name for verb in mosctl.VERBS] == [
        "stay", "nostay", "lstay", "nolstay", "block", "noblock", "expel", "bring", "shutdown", "isolate", "rejoin", "maxguests",
        "openmulti", "closemulti", "cngpri", "whois", "status", "localstatus", "rstatus", "doctor", "metrics",
    ]
    assert len(mosctl.RSTATUS) == 12


# --------------------------------------------------------------------------- mostestload


@pytest.mark.parametrize(("argv", "expected"), [
    (["-l", "10", "-h", "20"], ["-t10,20"]), (["-l10", "-h20", "-v"], ["-t10,20", "-v"]), (["-h"], ["-h"]), (["-t20"], ["-t20"]),
])
def test_both_example_styles(argv: list[str], expected: list[str]) -> None:
    assert older_style(argv) == expected


def test_half_of_the_older_style() -> None:
    with pytest.raises(UsageError):
        older_style(["-l", "10"])


@pytest.mark.parametrize(("text", "seconds"), [("", 1800), ("20", 20), ("0", math.inf), ("3,3", 3), ("0,0", 0)])
def test_durations(text: str, seconds: float) -> None:
    assert mostestload.duration(text, lambda low, high: high) == seconds


@given(st.integers(0, 1000), st.integers(0, 1000))
def test_random_durations(low: int, high: int) -> None:
    picked: list[tuple[int, int]] = []

    def pick(a: int, b: int) -> int:
        picked.append((a, b))
        return a

    if low > high:
        with pytest.raises(UsageError):
            mostestload.duration(f"{low},{high}", pick)
    else:
        assert mostestload.duration(f"{low},{high}", pick) == low and picked == [(low, high)]


@pytest.mark.parametrize(("argv", "expected"), [
    ([], None), (["--read"], Chunk("read", 1024, 1024, 0)), (["--write", "32,640,1"], Chunk("write", 32768, 640, 1)),
    (["--write=4"], Chunk("write", 4096, 1024, 0)), (["--noiosyscall=5"], Chunk("noio", 0, 5, 0)),
    (["--noiosyscall=5,2"], Chunk("noio", 0, 5, 2)), (["--noiosyscall"], Chunk("noio", 0, 1024, 0)),
])
def test_chunks(argv: list[str], expected: Chunk | None) -> None:
    assert mostestload.chunk(MOSTESTLOAD.parse(argv)) == expected


@pytest.mark.parametrize("argv", [
    ["--read=x"], ["--read=1,2,3,4"], ["--noiosyscall=1,2,3"], ["--read", "--write"], ["-t", "x"], ["-t1,2,3"], ["word"], ["-t-1"],
    ["-t", "9" * 5000], ["--read=2000000000000"], ["--write=1,²"],
])
def test_bad_loads(argv: list[str]) -> None:
    with pytest.raises(UsageError):
        mostestload.job(MOSTESTLOAD.parse(argv), max)


@pytest.mark.parametrize("scattered", [False, True])
def test_memory_is_filled(scattered: bool) -> None:
    filled = mostestload.memory(3 << 20, scattered=scattered)
    assert len(filled) == 3 << 20
    assert (len(set(filled[:4096])) > 1) == scattered and 0 not in set(filled[-4096:]) - ({0} if scattered else set())


def test_a_file_does_not_grow_beyond_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "io"
    assert mostestload.main(["-f", str(path), "--write", "256,10,2", "--maxiosize", "1"]) == 0
    assert path.stat().st_size == 1 << 20


def test_reading_begins_again_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "io"
    path.write_bytes(bytes(2048))
    file, done = os.open(path, os.O_RDONLY), Done()
    try:
        mostestload.transfer(file, Chunk("read", 1024, 7, 1), 0, done)
    finally:
        os.close(file)
    assert (done.calls, done.bytes, done.chunks) == (7, 7 * 1024, 1)


def test_a_load_leaves_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert mostestload.main(["-d", str(tmp_path), "--read=1,4,2", "-r", "--cpu=1"]) == 0
    assert re.search(r"2 units of CPU work, 8 system calls, 8192 bytes", capsys.readouterr().out)
    assert list(tmp_path.iterdir()) == []


def test_a_load_that_is_killed_leaves_no_file(tmp_path: Path) -> None:
    with mostestload.opened(MOSTESTLOAD.parse(["-d", str(tmp_path)]), Chunk("write", 1, 1, 1)) as file:
        assert os.write(file, b"x") == 1
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("argv", [["-m", str(1 << 30)], ["--read=1000000000"]])
def test_more_memory_than_there_is(argv: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert mostestload.main([*argv, "-d", str(tmp_path)]) == 1
    assert capsys.readouterr().err == "mostestload: failed allocating memory\n"


def test_the_time_ends_units_between_system_calls_too() -> None:
    done = Done()
    chunk = Chunk("noio", 0, 1, 0)
    mostestload.run(mostestload.Job(0.05, 10**6, 0, False, chunk, 0), -1, mostestload.Timer(0.05), done, lambda: None)
    assert 0 < done.units < 10**6 and done.chunks == 1


def test_half_of_the_older_style_is_told_last(capsys: pytest.CaptureFixture[str]) -> None:
    assert mostestload.main(["-l", "10"]) == 2
    assert capsys.readouterr().err.endswith("\nmostestload: -l needs -h\n")


def test_what_is_done_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert mostestload.main(["-v", "--sleep", "0.001", "--cpu=1"]) == 0
    told = [line.partition(": ")[2] for line in capsys.readouterr().out.splitlines()]
    assert told[0] == "sleeping 0.001 s" and "units=1" in told[1] and told[2:] == ["done"]


def test_a_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert mostestload.main(["-f", str(tmp_path / "none"), "--read"]) == 1
    assert capsys.readouterr().err == f"mostestload: {tmp_path}/none: No such file or directory\n"


def test_the_units_are_all_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert mostestload.main(["--cpu=23", "-r"]) == 0
    assert "23 units of CPU work, 0 system calls" in capsys.readouterr().out


def test_the_time_is_over(capsys: pytest.CaptureFixture[str]) -> None:
    assert mostestload.main(["-t1", "-r"]) == 0
    found = re.search(r"1\.00 s of CPU time .* (\d+) units", capsys.readouterr().out)
    assert found and int(found[1]) > 0
