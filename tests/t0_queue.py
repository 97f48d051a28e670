"""The private queue without processes: commands-files, the joblog, what is resumed, when to stop, what is shown."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mosfs.queue import progress
from mosfs.queue.commands import LONGEST, CannotRead, Line, Splitter, count, names_of, open_commands
from mosfs.queue.halt import Halt, Tally, parse_halt, seconds
from mosfs.queue.joblog import FAILED, HEADER, MOST, NEW, STARTED, SUCCEEDED, Past, Todo, checksum, parse_row, past, row_of
from mosfs.queue.log import LogError, open_log
from mosfs.queue.output import Outputs
from mosfs.queue.progress import Counts, ProgressFile, read_all
from mosfs.tools.mosrun import MOSRUN
from mosfs.tools.options import UsageError

HEAD = HEADER.encode()


# --------------------------------------------------------------------------- commands-files


@settings(max_examples=50)
@given(st.lists(st.binary(max_size=40)), st.integers(1, 20))
def test_lines_are_the_same_however_they_are_read(texts: list[bytes], step: int) -> None:
    data = b"\n".join(texts)
    splitter, found = Splitter(), list[Line]()
    for at in range(0, len(data), step):
        found += splitter.feed(data[at:at + step])
    found += splitter.end()
    *ended, rest = data.split(b"\n")
    assert [line.text for line in found] == [*ended, *filter(None, [rest])]
    assert [line.number for line in found] == list(range(1, len(found) + 1))
    assert [line.broken for line in found] == [b"\0" in text for text in ended] + [True] * bool(rest)


@pytest.mark.parametrize("more", [0, 1, 5 * LONGEST])
def test_too_long_a_line(more: int) -> None:
    splitter = Splitter()
    data = b"x" * (LONGEST + more) + b"\nnext\n"
    found = [line for at in range(0, len(data), 4096) for line in splitter.feed(data[at:at + 4096])]
    assert [line.broken for line in found] == [bool(more), False]
    assert found[1] == Line(2, b"next")


def test_what_can_be_opened_and_not_read(tmp_path: Path) -> None:
    with pytest.raises(CannotRead, match="Is a directory"):
        open_commands(str(tmp_path)).read()


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/full"])
def test_a_line_that_never_ends(device: str) -> None:
    commands = open_commands(device)
    with pytest.raises(CannotRead, match=f"^{device}: line 1 does not end: not a commands-file$"):
        while commands.next() is None:
            commands.read()
    os.close(commands.fd)


def test_a_file_is_read_as_far_as_it_went_at_first(tmp_path: Path) -> None:
    path = tmp_path / "commands"
    path.write_bytes(b"one\ntwo\n")
    commands = open_commands(str(path))
    assert (commands.total, commands.changed()) == (2, False)
    with path.open("ab") as more:
        more.write(b"three\n")
    assert [commands.next(), commands.next(), commands.next()] == [Line(1, b"one"), Line(2, b"two"), None]
    assert commands.finished and commands.changed() and commands.total == 2
    path.unlink()
    assert commands.changed()
    os.close(commands.fd)


@settings(max_examples=30)
@given(st.lists(st.sampled_from([b"", b"a", b"bc"])), st.booleans())
def test_lines_are_counted(tmp_path_factory: pytest.TempPathFactory, texts: list[bytes], ended: bool) -> None:
    data = b"".join(text + b"\n" for text in texts) + (b"" if ended else b"x")
    path = tmp_path_factory.getbasetemp() / "counted"
    path.write_bytes(data)
    with path.open("rb") as file:
        assert count(file.fileno(), len(data)) == len(texts) + (not ended)


@pytest.mark.parametrize(("words", "names"), [
    (["c"], ("c", "")), (["c,f"], ("c", "f")), (["c,", "f"], ("c", "f")), (["c", ",f"], ("c", "f")), (["c", "f"], ("c", "f")),
    (["c", ",", "f"], ("c", "f")), (["c,"], ("c", "")),
])
def test_names_of_both_files(words: list[str], names: tuple[str, str]) -> None:
    assert names_of(words, False) == names


def test_a_name_with_a_comma() -> None:
    assert names_of(["c,f"], True) == ("c,f", "")
    for words in (["a", "b", "c"], [",f"]):
        with pytest.raises(ValueError):
            names_of(words, False)


# --------------------------------------------------------------------------- options


@pytest.mark.parametrize("text", ["never", "now,fail=1", "soon,success=30", "soon,done=7%"])
def test_halt(text: str) -> None:
    halt = parse_halt(text)
    assert text == "never" or str(halt) == text


@pytest.mark.parametrize("text", ["", "now", "now,fail", "now,fail=0", "later,fail=1", "now,fail=101%", "now,fail=-1"])
def test_what_halt_does_not_take(text: str) -> None:
    with pytest.raises(ValueError):
        parse_halt(text)


def test_when_halt_is_reached() -> None:
    assert not Halt().reached(Tally(10, 10, 10))
    assert [parse_halt("now,fail=2").reached(Tally(9, failed, 10)) for failed in (1, 2)] == [False, True]
    assert [parse_halt("soon,success=3").reached(Tally(done, 1, 10)) for done in (3, 4)] == [False, True]
    assert [parse_halt("soon,done=50%").reached(Tally(done, 0, 10)) for done in (4, 5)] == [False, True]


@pytest.mark.parametrize(("text", "value"), [("0", 0), ("1.5", 1.5), ("2m", 120), ("1h", 3600), (".5s", 0.5), ("1d", 86400)])
def test_seconds(text: str, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", ".", "m", "-1", "1e3", "nan", "inf", "400d", "²"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ValueError):
        seconds(text)


def run(function: str, *words: str) -> tuple[int, str]:
    """Exit status and last line of mosrun, in a process of its own: it changes what becomes of signals."""
    code = f"from mosfs.tools.mosrun import MOSRUN, {function}; import sys; raise SystemExit(MOSRUN.run({function}, sys.argv[1:]))"
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    return done.returncode, done.stderr.rstrip().rpartition("\n")[2]


@pytest.mark.parametrize("option", [["--joblog", "f"], ["--resume"], ["--halt=now,fail=1"], ["--progress"], ["--keep-order"]])
def test_options_of_the_queue_need_it(option: list[str]) -> None:
    status, error = run("launch", *option, "true")
    assert status == 2 and "needs -S" in error


@pytest.mark.parametrize("options", [["-Rx"], ["-Ix"], ["--resume"], ["--halt=x"], ["--timeout=x"], ["-z"], ["--cpu=x"]])
def test_what_the_queue_does_not_take(options: list[str]) -> None:
    assert run("queue", "-S2", *options, "/dev/null")[0] == 2


@pytest.mark.parametrize("number", ["0", "30001", "-1", "x", ""])
def test_how_many_at_a_time(number: str) -> None:
    """1-30000 lines."""
    with pytest.raises(UsageError):
        MOSRUN.parse([f"-S{number}", "/dev/null"])
    for most in ("1", "30000"):
        assert MOSRUN.parse([f"-S{most}", "/dev/null"]).get("queue") == most


# --------------------------------------------------------------------------- the joblog


def test_rows_are_those_of_gnu_parallel() -> None:
    row = row_of(7, 3 << 8, 1795967965.5, 1795967965.618, b"a\tb; exit 3")
    assert row.text() == b"7\t:\t1795967965.500\t     0.118\t0\t0\t3\t0\ta\tb; exit 3\t\t\n"
    assert parse_row(row.text()[:-1], 11).command == row.command
    theirs = parse_row(b"4\t:\t1795967965.586\t     0.003\t0\t0\t0\t9\tkill -9 $$", 9)
    assert (theirs.number, theirs.signal, theirs.command, theirs.failed) == (4, 9, b"kill -9 $$", True)
    assert (row_of(1, 15, 0, 0, b"", timed_out=True).exitval, row_of(1, 9, 0, 0, b"").signal) == (-1, 9)


def test_what_the_past_tells() -> None:
    journal = [b"S 1 5 1.0\n", b"D 1 0 2.0\n", b"S 2 6 1.0\n", b"S 3 7 1.5\n", b"D 3 256 2.5\n", b"S 4 8 3"]
    found = past([HEAD], journal)
    assert [found.state(n) for n in range(1, 6)] == [SUCCEEDED, STARTED, FAILED, NEW, NEW]
    assert [found.todo(n, False) for n in range(1, 5)] == [Todo.SKIP, Todo.DOUBT, Todo.SKIP, Todo.RUN]
    assert [found.todo(n, True) for n in range(1, 5)] == [Todo.SKIP, Todo.RUN, Todo.RUN, Todo.RUN]
    assert found.missing == {1: (0, 1.0, 2.0), 3: (256, 1.5, 2.5)}


def test_a_row_that_is_older_than_the_last_start_says_nothing() -> None:
    old = row_of(1, 256, 1.0, 2.0, b"c")
    again = [b"S 1 %d 5.0\n" % checksum(b"c"), b"D 1 0 6.0\n"]
    assert past([HEAD, old.text()], again[:1]).state(1) == STARTED
    assert past([HEAD, old.text()], again).state(1) == SUCCEEDED
    assert past([HEAD, old.text()], []).state(1) == FAILED
    assert not past([HEAD, row_of(1, 0, 5.0, 6.0, b"c").text()], again).missing


@pytest.mark.parametrize("journal", [
    b"x 1 2 3\n", b"S 0 1 1\n", b"S 1\n", b"D 1 -1 1\n", b"S 999999999999 1 1\n", b"S a b c\n", b"D 1 127 1\n",
    b"D 1 4294967295 1\n",
])
def test_a_damaged_journal(journal: bytes) -> None:
    with pytest.raises(ValueError, match="journal, line 1"):
        past([], [journal])


@pytest.mark.parametrize("rows", [[b"Seq\n"], [HEAD, b"1\t2\n"], [HEAD, b"x" * 20 + b"\n"]])
def test_a_damaged_joblog(rows: list[bytes]) -> None:
    with pytest.raises(ValueError, match="line "):
        past(rows, [])


def test_a_joblog_takes_no_more_than_its_records() -> None:
    """The largest number that a record may have is no reason to keep all those below it."""
    records = [row_of(MOST - 1, 0, 1.0, 2.0, b"c").text(), b"S %d 5 3.0\n" % (MOST - 2)]
    tracemalloc.start()
    try:
        found = past([HEAD, records[0]], [records[1]])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [found.state(MOST - number) for number in (3, 2, 1)] == [NEW, STARTED, SUCCEEDED]
    assert found.same(MOST - 1, b"c") and not found.same(MOST - 1, b"d") and found.same(MOST - 3, b"any")
    assert peak < 1 << 20


class Crash(Exception):
    """The queue and its machine end here."""


LINES = [b"true", b"false", b"true 3", b"exit 4", b"true 5"]


class Disk:
    """Both files of a joblog; after ``budget`` bytes more everything ends, in the middle of a record if so it falls."""

    def __init__(self) -> None:
        self.rows, self.journal, self.ran, self.budget = HEAD, b"", [0] * len(LINES), 0

    def put(self, name: str, data: bytes) -> None:
        written, self.budget = data[:self.budget], self.budget - len(data)
        setattr(self, name, getattr(self, name) + written)
        if self.budget < 0:
            raise Crash

    def read(self) -> Past:
        """As `open_log` does: what is torn goes."""
        self.rows, self.journal = (data[:data.rfind(b"\n") + 1] for data in (self.rows, self.journal))
        return past(self.rows.splitlines(keepends=True), self.journal.splitlines(keepends=True))


def session(disk: Disk, budget: int, clock: float) -> set[int]:
    """One queue, line after line as `Queue` does it; the numbers of those that it says are in doubt."""
    found, doubtful = disk.read(), set()
    disk.budget = budget
    for number, text in enumerate(LINES, 1):
        assert found.same(number, text)
        todo = found.todo(number, False)
        if todo is Todo.DOUBT:
            doubtful.add(number)
        if todo is not Todo.RUN:
            if missing := found.missing.pop(number, None):
                disk.put("rows", row_of(number, *missing, text).text())
            continue
        status = 256 if b"true" not in text else 0
        disk.put("journal", b"S %d %d %.3f\n" % (number, checksum(text), clock))
        disk.ran[number - 1] += 1
        disk.put("journal", b"D %d %d %.3f\n" % (number, status, clock + 1))
        disk.put("rows", row_of(number, status, clock, clock + 1, text).text())
        clock += 2
    return doubtful


@given(st.lists(st.integers(0, 400), max_size=4))
def test_wherever_it_ends_each_line_runs_once_or_is_in_doubt(budgets: list[int]) -> None:
    disk, clock = Disk(), 100.0
    for budget in budgets:
        try:
            session(disk, budget, clock)
        except Crash:
            clock += 100
    doubtful = session(disk, 1 << 30, clock)
    for number in range(1, len(LINES) + 1):
        assert disk.ran[number - 1] <= 1, "a line ran twice"
        assert disk.ran[number - 1] == 1 or number in doubtful, "a line did not run"
    ended = [int(row.split(b"\t")[0]) for row in disk.rows.splitlines()[1:]]
    assert sorted(ended) == [n for n in range(1, len(LINES) + 1) if n not in doubtful], "each other line has one row"


def test_a_log_is_for_one_queue(tmp_path: Path) -> None:
    path = str(tmp_path / "log")
    first = open_log(path, resume=False)
    with pytest.raises(LogError, match="still write to it"):
        open_log(path, resume=True)
    first.started([(1, b"true"), (2, b"false")])
    os.write(first.rows, b"1\t:\tto")
    first.close(complete=False)
    second = open_log(path, resume=True)
    assert second.past.todo(2, False) is Todo.DOUBT
    assert (tmp_path / "log").read_bytes() == HEAD, "the row that was torn is gone"
    second.close(complete=True)
    third = open_log(path, resume=False)
    os.unlink(third.journal_path)
    with pytest.raises(LogError, match="log: No such file or directory"):
        third.close(complete=True)
    assert not Path(path + ".journal").exists()


@pytest.mark.parametrize("resume", [False, True])
def test_a_journal_is_no_link_to_a_file_of_ours(tmp_path: Path, resume: bool) -> None:
    """Another user may have made it, in a folder for all; it would be emptied."""
    path, precious = tmp_path / "log", tmp_path / "precious"
    precious.write_text("x")
    (tmp_path / "log.journal").symlink_to(precious)
    with pytest.raises(LogError, match=r"log\.journal: Too many levels"):
        open_log(str(path), resume=resume)
    assert precious.read_text() == "x" and not path.exists()


# --------------------------------------------------------------------------- what is shown


def test_order_of_outputs(capfd: pytest.CaptureFixture[str]) -> None:
    outputs = Outputs(ordered=True, room=3)
    pairs = {number: outputs.begin(number) for number in (1, 2, 3)}
    assert outputs.full
    for number in (2, 3):
        os.write(pairs[number][0], b"out %d\n" % number)
        outputs.end(number, pairs[number])
    assert capfd.readouterr() == ("", "")
    os.write(pairs[1][1], b"err 1\n")
    outputs.end(1, pairs[1])
    assert capfd.readouterr() == ("out 2\nout 3\n", "err 1\n")
    assert not outputs.full


def test_lines_of_progress() -> None:
    assert progress.shown(Counts(100, 25, 2, 8), 30.0) == "25 of 100 done (25%), 2 failed, 8 running, 0:30, about 1:30 left"
    resumed = progress.shown(Counts(100, 75, 2, 8, before=50), 50.0)
    assert resumed == "75 of 100 done (75%), 2 failed, 8 running, 0:50, about 0:50 left"
    assert progress.shown(Counts(3, 1, 0, 2), 5.0, open_end=True) == "1 of 3+ done, 0 failed, 2 running, 0:05"
    assert progress.shown(Counts(0, 0, 0, 0), 0.0) == "0 of 0 done, 0 failed, 0 running, 0:00"
    assert [progress.duration(t) for t in (7, 750, 10931, 187200)] == ["0:07", "12:30", "3:02:11", "2d 4:00:00"]


def test_files_of_progress(tmp_path: Path) -> None:
    """What others write there is not believed; what a killed queue has left goes."""
    random = "." + 16 * "0"
    (tmp_path / f"999999999{random}").write_text("1 2 3 4\n")
    (tmp_path / str(os.getpid())).mkdir()  # another's, so that ours cannot be made
    file = ProgressFile(str(tmp_path))
    file.write(Counts(10, 5, 1, 2))
    (tmp_path / f"{os.getppid()}{random}").write_text("1 2 3 4\n")
    (tmp_path / f"{os.getpid()}{random}").write_bytes(Path(file.path).read_bytes())  # a queue is one, whatever it writes
    (tmp_path / "x").symlink_to("/etc/passwd")
    (queued,) = read_all(str(tmp_path))
    assert (queued.pid, queued.total, queued.done, queued.failed) == (os.getpid(), 10, 5, 1)
    assert not (tmp_path / f"999999999{random}").exists()
    file.close()
    (tmp_path / f"{os.getpid()}{random}").unlink()
    assert list(read_all(str(tmp_path))) == []
    ProgressFile(str(tmp_path / "none")).write(Counts(1, 1, 1, 1))


def test_a_disk_that_fills_up_in_the_middle_of_a_failed_line(tmp_path: Path) -> None:
    """write(2) takes a part then, without an error; half a command would be another command."""
    code = (
        "import resource, sys; from mosfs.queue.commands import Line; from mosfs.tools.mosqueue import FailFile;"
        "file = FailFile(sys.argv[1]); resource.setrlimit(resource.RLIMIT_FSIZE, (12, 12));"
        "[file.add(Line(number, b'rm -r /x')) for number in (1, 2)]; print(file.close())"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "failed")], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
    assert (tmp_path / "failed").read_bytes() == b"rm -r /x\n"
