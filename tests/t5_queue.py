"""The private queue (mosrun(1), -S; manual 10.1, 10.2): each sentence with real programs, and a queue that is killed."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mosfs.abi.texts import Text, text
from tests import cluster
from tests.cluster import Lab, wait_until

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with cluster.lab(tmp_path_factory.mktemp("t5"), 2) as running:
        yield running


def queue(nodes: Lab, folder: Path, options: str, *lines: str, **given: Any) -> subprocess.CompletedProcess[str]:
    """mosrun -S over a commands-file with these lines; in ``options`` FILE stands for it, else it comes last."""
    (folder / "file").write_text("".join(f"{line}\n" for line in lines))
    words = options.split() if "file" in options.split(",")[0].split() else [*options.split(), "file"]
    return nodes.run(1, "mosrun", *words, cwd=folder, **given)


def start(nodes: Lab, folder: Path, options: str, *lines: str) -> subprocess.Popen[bytes]:
    (folder / "file").write_text("".join(f"{line}\n" for line in lines))
    with (folder / "said").open("ab") as said:
        return nodes.start(1, "mosrun", *options.split(), "file", cwd=folder, stdin=subprocess.DEVNULL, stdout=said, stderr=said)


def rows(folder: Path) -> dict[int, list[str]]:
    """The joblog, by number."""
    head, *lines = (folder / "log").read_text().splitlines()
    assert head.split("\t")[:9] == ["Seq", "Host", "Starttime", "JobRuntime", "Send", "Receive", "Exitval", "Signal", "Command"]
    found = {int(line.split("\t")[0]): line.split("\t") for line in lines}
    assert len(found) == len(lines), "a line has two rows"
    return found


# --------------------------------------------------------------------------- the manual


def test_lines_are_started_in_their_order(nodes: Lab, tmp_path: Path) -> None:
    done = queue(nodes, tmp_path, "-S1", *(f"echo {n}" for n in range(9)))
    assert (done.stdout.split(), done.returncode, done.stderr) == ([str(n) for n in range(9)], 0, "")


def test_never_more_than_maxjobs_and_the_next_when_one_ends(nodes: Lab, tmp_path: Path) -> None:
    """Two meet, each in its turn, and a third one is never there."""
    line = (
        "mkdir $$.here; ls -d *.here | wc -l; "
        "until [ $(ls -d *.here *.was 2>/dev/null | wc -l) -ge 2 ]; do sleep 0.01; done; mv $$.here $$.was"
    )
    done = queue(nodes, tmp_path, "-S2", *[line] * 5)
    assert done.returncode == 0 and max(map(int, done.stdout.split())) <= 2
    assert len(list(tmp_path.glob("*.was"))) == 5


def test_exit_status_is_the_number_of_failures(nodes: Lab, tmp_path: Path) -> None:
    done = queue(nodes, tmp_path, "-S3 file,fail", "exit 3", "true", "kill -9 $$", "echo two words; false", "echo $((1 + 1))")
    assert done.returncode == 3
    assert sorted(done.stdout.splitlines()) == ["2", "two words"]
    assert (tmp_path / "fail").read_text() == "exit 3\nkill -9 $$\necho two words; false\n"


def test_more_than_255_failures(nodes: Lab, tmp_path: Path) -> None:
    """Lines that are broken fail as others do, and cost no time."""
    done = queue(nodes, tmp_path, "-S9 file, fail", *["\0"] * 300)
    assert done.returncode == 255 and done.stderr.splitlines()[-1] == "mosrun: " + text(Text.BROKEN_LINE, number=300)


def test_lines_that_are_too_long_or_broken(nodes: Lab, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("echo one\n: " + "x" * 70000 + "\necho three\necho four")
    done = nodes.run(1, "mosrun", "-S1", "file", cwd=tmp_path)
    assert (done.stdout, done.returncode) == ("one\nthree\n", 2)
    assert done.stderr == "".join(f"mosrun: {text(Text.BROKEN_LINE, number=number)}\n" for number in (2, 4))


def test_a_commands_file_that_changes(nodes: Lab, tmp_path: Path) -> None:
    done = queue(nodes, tmp_path, "-S1 file,fail", "echo false >> file", "false")
    assert (done.returncode, done.stderr) == (1, f"mosrun: {text(Text.COMMANDS_CHANGED)}\n")


def test_a_failed_commands_file_that_cannot_be_written(nodes: Lab, tmp_path: Path) -> None:
    done = queue(nodes, tmp_path, "-S1 file,/dev/full", "false")
    assert (done.returncode, done.stderr) == (1, f"mosrun: {text(Text.FAIL_FILE)}\n")


def test_all_other_options_apply_to_each_line(nodes: Lab, tmp_path: Path) -> None:
    done = queue(nodes, tmp_path, "-S1 -2 -L", *["cat $MOUNT/proc/$$/whereami $MOUNT/proc/$$/lock"] * 3)
    assert (done.stdout, done.returncode) == ("2\n1\n" * 3, 0), done.stderr


def test_a_node_that_does_not_exist(nodes: Lab, tmp_path: Path) -> None:
    done = queue(nodes, tmp_path, "-S2 -9", "echo never")
    assert (done.stdout, done.returncode) == ("", 1) and "failed migrating to 9: not in map" in done.stderr


def test_waits_for_memory(nodes: Lab, tmp_path: Path) -> None:
    """No node has so much: mosps(1) shows the line as starting, and the queue goes on to wait until it is told to end."""
    running = start(nodes, tmp_path, "-S1 -b -m262143", "echo never")
    wait_until(lambda: any(p.state == "starting" or p.linux.command.startswith("mosrun-runner") for p in nodes.tree(1).processes()))
    running.send_signal(signal.SIGTERM)
    wait_until(lambda: "waiting for 1" in (tmp_path / "said").read_text())
    running.send_signal(signal.SIGTERM)
    assert running.wait(30) in (1, 143)
    assert "never" not in (tmp_path / "said").read_text()


def test_mosps_shows_how_far_it_is(nodes: Lab, tmp_path: Path) -> None:
    running = start(nodes, tmp_path, "-S1", "true", "false", "while [ ! -e go ]; do sleep 0.02; done", "true")

    def seen() -> dict[str, Any]:
        found = json.loads(nodes.run(1, "mosps", "-S", "-A", "--json").stdout)
        return next((one for one in found if one["pid"] == running.pid and one["done"] == 2), {})

    one = wait_until(seen)
    assert (one["total"], one["done"], one["failed"], one["command"]) == (4, 2, 1, "mosrun -S1 file")
    table = nodes.run(1, "mosps", "-SA").stdout.splitlines()
    assert table[0].split() == ["PID", "TTY", "TOTAL", "DONE", "FAIL", "CMD"]
    assert [str(running.pid), "4", "2", "1"] in [[line.split()[n] for n in (0, 2, 3, 4)] for line in table]
    listed = json.loads(nodes.run(1, "mosps", "-A", "--json").stdout)
    assert listed and not [one["command"] for one in listed if "runner" in one["command"]]
    (tmp_path / "go").touch()
    assert running.wait(30) == 1
    assert nodes.run(1, "mosps", "-S", "-A").returncode == 1


# --------------------------------------------------------------------------- as GNU parallel


def test_commands_from_standard_input(nodes: Lab, tmp_path: Path) -> None:
    for words in (["-S2", "-"], ["-S2"]):
        done = nodes.run(1, "mosrun", *words, input="cat; echo a\necho a\n", cwd=tmp_path)
        assert (done.stdout, done.returncode) == ("a\na\n", 0)


def test_output_in_order_and_not_mixed(nodes: Lab, tmp_path: Path) -> None:
    slow = "echo 1; until [ -e go ]; do sleep 0.01; done; echo 1"
    done = queue(nodes, tmp_path, "-S2 --keep-order", slow, "echo 2; echo 2", "echo 3; touch go")
    assert done.stdout.split() == ["1", "1", "2", "2", "3"]
    (tmp_path / "go").unlink()
    done = queue(nodes, tmp_path, "-S2 --group", slow, "echo 2; echo 2", "echo 3; touch go")
    assert done.stdout.split() in (["2", "2", "3", "1", "1"], ["2", "2", "1", "1", "3"])


def test_lines_do_not_write_to_our_files_where_standard_error_is_closed(nodes: Lab, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("echo oops >&2; cp log.journal seen\n")
    assert nodes.run(1, "sh", "-c", "exec mosrun -S1 --joblog log file 2>&-", cwd=tmp_path).returncode == 0
    (record,) = (tmp_path / "seen").read_text().splitlines()
    assert record.startswith("S 1 ")


@pytest.mark.parametrize(("command", "line"), [
    ("TMPDIR=/no/such mosrun -S1 --group file", r"mosrun: /no/such/\w+: No such file or directory\n"),
    ("mosrun -S1 --keep-order file >/dev/full", r"mosrun: standard output: No space left on device\n"),
])
def test_output_that_cannot_be_kept_or_written(nodes: Lab, tmp_path: Path, command: str, line: str) -> None:
    """One line, and not the exit status of so many failures."""
    (tmp_path / "file").write_text("echo 1\n")
    done = nodes.run(1, "sh", "-c", command, cwd=tmp_path)
    assert done.returncode == 125 and re.fullmatch(line, done.stderr), done


def test_retries(nodes: Lab, tmp_path: Path) -> None:
    third = "echo a >> tries; [ $(wc -l < tries) = 3 ]"
    done = queue(nodes, tmp_path, "-S1 --retries 3 --joblog log", third, "echo b >> more; false")
    assert done.returncode == 1 and (tmp_path / "more").read_text() == "b\n" * 3
    assert [row[6] for row in rows(tmp_path).values()] == ["0", "1"]
    assert not (tmp_path / "log.journal").exists()


@pytest.mark.parametrize(("halt", "ended"), [("soon,fail=1", "0"), ("now,fail=1", "-1 or killed")])
def test_halt(nodes: Lab, tmp_path: Path, halt: str, ended: str) -> None:
    """The second line fails while the first runs, which ends soon or now; the third is never started."""
    first = "sleep 0.5" if halt.startswith("soon") else "sleep 1000"
    done = queue(nodes, tmp_path, f"-S2 --halt {halt} --joblog log", first, "false", "touch never")
    found = rows(tmp_path)
    assert sorted(found) == [1, 2] and not (tmp_path / "never").exists()
    assert found[1][6:8] == ["0", "0"] if ended == "0" else found[1][7] == str(int(signal.SIGTERM))
    assert done.returncode == (1 if ended == "0" else 2)


def test_timeout(nodes: Lab, tmp_path: Path) -> None:
    """All processes of a line end."""
    done = queue(nodes, tmp_path, "-S2 --timeout 0.5 --joblog log", "sleep 1000 & echo $! > pid; wait", "true")
    assert done.returncode == 1 and rows(tmp_path)[1][6:8] == ["-1", str(int(signal.SIGTERM))]
    pid = (tmp_path / "pid").read_text().strip()
    wait_until(lambda: not Path(f"/proc/{pid}").exists())


def test_progress_where_there_is_no_terminal(nodes: Lab, tmp_path: Path) -> None:
    done = queue(nodes, tmp_path, "-S2 --progress", "true", "false")
    assert done.stderr.startswith("mosrun: 2 of 2 done (100%), 1 failed, 0 running")
    assert queue(nodes, tmp_path, "-S2", "true").stderr == ""


def on_terminal(nodes: Lab, folder: Path, options: str, *lines: str, kind: str = "xterm") -> tuple[subprocess.Popen[bytes], int]:
    """A queue with a terminal of its own for what it says, and the other end of that terminal. Its lines print elsewhere."""
    (folder / "file").write_text("".join(f"{line}\n" for line in lines))
    ours, theirs = os.openpty()
    own = ["env", f"TERM={kind}", "setsid", "--ctty", "sh", "-c", f"exec mosrun {options} file >/dev/null"]
    running = nodes.start(1, *own, cwd=folder, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    return running, ours


def read_until(terminal: int, words: bytes) -> bytes:
    """What is shown up to ``words``, which must come."""
    seen = b""
    while words not in seen:
        assert select.select([terminal], [], [], 30)[0], seen
        seen += os.read(terminal, 4096)
    return seen


def test_progress_on_a_terminal(nodes: Lab, tmp_path: Path) -> None:
    """One line that is written anew, without being asked for."""
    running, terminal = on_terminal(nodes, tmp_path, "-S1", "true", "until [ -e go ]; do sleep 0.01; done; false")
    read_until(terminal, b"\r\x1b[K1 of 2 done (50%), 0 failed, 1 running")
    (tmp_path / "go").touch()
    read_until(terminal, b"\r\x1b[K2 of 2 done (100%), 1 failed, 0 running")
    assert running.wait(30) == 1
    os.close(terminal)


def test_a_terminal_that_cannot_go_back_in_its_line_is_told_nothing(nodes: Lab, tmp_path: Path) -> None:
    running, terminal = on_terminal(nodes, tmp_path, "-S1", "true", "false", kind="dumb")
    assert running.wait(60) == 1
    with pytest.raises(OSError, match="Input/output error"):  # nobody has written, and nobody has it open any more
        os.read(terminal, 1)
    os.close(terminal)


def test_a_terminal_that_is_closed_ends_all(nodes: Lab, tmp_path: Path) -> None:
    """Its size cannot be asked any more."""
    long = "echo $$ > pid.new; mv pid.new pid; exec sleep 1000"
    running, terminal = on_terminal(nodes, tmp_path, "-S1 --joblog log", long, "touch never")
    wait_until((tmp_path / "pid").exists)
    read_until(terminal, b"1 running")
    os.close(terminal)
    assert running.wait(30) == 128 + signal.SIGHUP
    assert sorted(rows(tmp_path)) == [1] and not (tmp_path / "never").exists()
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()


def test_delay(nodes: Lab, tmp_path: Path) -> None:
    assert queue(nodes, tmp_path, "-S2 --delay 0.2 --joblog log", "true", "true").returncode == 0
    first, second = (float(row[2]) for row in rows(tmp_path).values())
    assert second - first > 0.19


def test_the_first_signal_ends_the_starting_the_second_all(nodes: Lab, tmp_path: Path) -> None:
    lines = ["touch began; until [ -e go ]; do sleep 0.01; done; touch ended", "touch never"]
    running = start(nodes, tmp_path, "-S1 --joblog log", *lines)
    wait_until((tmp_path / "began").exists)
    running.send_signal(signal.SIGINT)
    wait_until(lambda: "starting no more" in (tmp_path / "said").read_text())
    (tmp_path / "go").touch()
    assert running.wait(30) == 128 + signal.SIGINT
    assert (tmp_path / "ended").exists() and not (tmp_path / "never").exists()
    for name in ("began", "go"):
        (tmp_path / name).unlink()
    running = start(nodes, tmp_path, "-S1", *lines)
    wait_until((tmp_path / "began").exists)
    running.send_signal(signal.SIGHUP)
    assert running.wait(30) == 128 + signal.SIGHUP
    assert not (tmp_path / "never").exists()


def test_the_joblog_has_node_and_moves(nodes: Lab, tmp_path: Path) -> None:
    count = "exec awk 'BEGIN { for (i = 0; i < 300000; i++) n += i }'"
    for options, expected in (("-S2", ["1", "0"]), ("-S2 -2", ["2", "1"])):
        assert queue(nodes, tmp_path, f"{options} --joblog log", count, count).returncode == 0
        assert [row[9:] for row in rows(tmp_path).values()] == [expected] * 2


# --------------------------------------------------------------------------- a queue that is killed


def test_a_killed_queue_is_resumed(nodes: Lab, tmp_path: Path) -> None:
    """The line that runs goes on to its end, which is written down; so each line runs once, and none is in doubt."""
    long = "echo 2 >> ran; touch began; until [ -e go ]; do sleep 0.01; done; echo two >> ran"
    lines = ["echo 1 >> ran", long, "echo 3 >> ran; false"]
    killed = start(nodes, tmp_path, "-S1 --joblog log", *lines)
    wait_until((tmp_path / "began").exists)
    killed.kill()
    killed.wait()
    busy = queue(nodes, tmp_path, "-S1 --joblog log", *lines)
    assert (busy.returncode, "still write to it" in busy.stderr) == (125, True)
    again = start(nodes, tmp_path, "-S1 --joblog log --resume", *lines)
    (tmp_path / "go").touch()
    assert again.wait(30) == 1
    assert (tmp_path / "ran").read_text().split() == ["1", "2", "two", "3"]
    assert sorted(rows(tmp_path)) == [1, 2, 3] and not (tmp_path / "log.journal").exists()
    assert queue(nodes, tmp_path, "-S1 --joblog log --resume", *lines).returncode == 0
    assert queue(nodes, tmp_path, "-S1 --joblog log --resume-failed", *lines).returncode == 1
    assert (tmp_path / "ran").read_text().split() == ["1", "2", "two", "3", "3"]


def test_when_the_runner_is_killed_too_a_line_is_in_doubt(nodes: Lab, tmp_path: Path) -> None:
    lines = ["echo 1 >> ran; echo $PPID $$ > runner.new; mv runner.new runner; exec sleep 1000", "echo 2 >> ran"]
    killed = start(nodes, tmp_path, "-S1 --joblog log", *lines)
    wait_until((tmp_path / "runner").exists)
    for pid in (killed.pid, *map(int, (tmp_path / "runner").read_text().split())):
        os.kill(pid, signal.SIGKILL)
    killed.wait()
    done = queue(nodes, tmp_path, "-S1 --joblog log --resume", *lines)
    assert (done.returncode, "line 1 is in doubt" in done.stderr) == (1, True)
    assert (tmp_path / "ran").read_text().split() == ["1", "2"]
    changed = queue(nodes, tmp_path, "-S1 --joblog log --resume", "true", "echo other")
    assert (changed.returncode, "is not the one that ran" in changed.stderr) == (125, True)


def test_a_joblog_of_gnu_parallel_is_resumed(nodes: Lab, tmp_path: Path) -> None:
    (tmp_path / "log").write_text(
        "Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand\n"
        "1\t:\t1795967965.566\t     0.000\t0\t0\t0\t0\techo 1 >> ran\n2\t:\t1795967965.568\t     0.004\t0\t0\t1\t0\tfalse\n"
    )
    done = queue(nodes, tmp_path, "-S2 --joblog log --resume", "echo 1 >> ran", "false", "echo 3 >> ran")
    assert (done.returncode, (tmp_path / "ran").read_text()) == (0, "3\n"), done.stderr
    assert sorted(rows(tmp_path)) == [1, 2, 3]


@pytest.mark.long
def test_a_hundred_thousand_lines_without_growth(nodes: Lab, tmp_path: Path) -> None:
    """Lines that were done before cost reading only, so that this takes seconds; the last ones run."""
    lines = 100_000
    (tmp_path / "file").write_text("true\n" * (lines - 1) + "until [ -e go ]; do sleep 0.01; done\n")
    row = "{}\t:\t1.000\t     0.001\t0\t0\t0\t0\ttrue\n"
    head = "Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand\n"
    (tmp_path / "log").write_text(head + "".join(row.format(n) for n in range(1, lines - 200)))
    running = nodes.start(1, "mosrun", "-S2", "--joblog", "log", "--resume", "file", cwd=tmp_path)
    wait_until(lambda: len((tmp_path / "log").read_text().splitlines()) == lines, 60)
    status = Path(f"/proc/{running.pid}/status").read_text()
    (most,) = (int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    (tmp_path / "go").touch()
    assert running.wait(30) == 0 and len(rows(tmp_path)) == lines
    assert most < 40_000, "kilobytes"
