"""The commands on a live cluster: moslab, mosrun, mosps, mosmigrate, as a user types them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from mosfs.tools import lab as labs
from tests import cluster
from tests.cluster import Lab, as_user, leftovers, wait_until
from tools.completions import ROWS

pytestmark = pytest.mark.root

#: Says READY, then answers each line with its number: a program to move about.
ECHO = "i=0; echo READY; while read line; do i=$((i+1)); echo $i $line; done"


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with cluster.lab(tmp_path_factory.mktemp("t5"), 3) as running:
        yield running


def own(nodes: Lab, name: str) -> str:
    """A control file of whoever opens it, on node 1."""
    return f"{nodes.node(1).paths.mount}/self/{name}"


class Echo:
    """`ECHO` under mosrun on node 1, talked to through pipes."""

    def __init__(self, nodes: Lab, *options: str, before: Sequence[str] = ()) -> None:
        pipe = subprocess.PIPE
        self.process = nodes.start(1, *before, "mosrun", *options, "sh", "-c", ECHO, stdin=pipe, stdout=pipe)
        assert self.process.stdin and self.process.stdout
        self.stdin, self.stdout = self.process.stdin, self.process.stdout
        self.asked = 0
        assert self.stdout.readline() == b"READY\n"

    @property
    def pid(self) -> str:
        return str(self.process.pid)

    def is_alive(self) -> bool:
        """It answers with the next number: nothing was lost or done twice."""
        self.asked += 1
        self.stdin.write(b"hello\n")
        self.stdin.flush()
        return self.stdout.readline() == f"{self.asked} hello\n".encode()

    def __enter__(self) -> Echo:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()


#: Every command with --json, as it is asked on a node; PID is a program's.
JSON = {
    "mosps": "-A", "mosbestnode": "-n", "mosctl": "status", "mosmon": "", "mossetpe": "-r", "mostimeof": "PID",
    "mos_checkconf": "", "mosacct": "",
}


def test_every_command_with_json_has_a_row() -> None:
    commands = {command.name for command, _, _ in ROWS if "--json" in command.by_name}
    assert commands == {*JSON, "mosrun", "mosenv", "mos_autoconf"}, "their JSON is in t5_checkpoints and t0_autoconf"


@pytest.mark.parametrize("name", JSON)
def test_json_can_be_read(nodes: Lab, name: str) -> None:
    with Echo(nodes) as echo:
        done = nodes.run(1, name, *JSON[name].replace("PID", echo.pid).split(), "--json")
    assert done.returncode == 0 and done.stderr == ""
    assert isinstance(json.loads(done.stdout), dict | list) and "\x1b" not in done.stdout


@pytest.mark.parametrize("function", ["whois", "localstatus", "rstatus"])
def test_json_of_mosctl_can_be_read(nodes: Lab, function: str) -> None:
    assert json.loads(nodes.run(1, "mosctl", function, "--json").stdout)


# --------------------------------------------------------------------------- moslab


def test_up_twice_is_one_line_and_changes_nothing(nodes: Lab) -> None:
    before = [nodes.mosd(n) for n in (1, 2, 3)]
    done = nodes.moslab("up", "-n", "2")
    assert done.returncode == 1
    assert done.stderr == f"moslab: a lab is up already below {nodes.plan.root} (moslab down ends it)\n"
    assert [nodes.mosd(n) for n in (1, 2, 3)] == before


def test_status(nodes: Lab) -> None:
    rows = json.loads(nodes.moslab("status", "--json").stdout)
    assert [(row["node"], row["state"]) for row in rows] == [(1, "up"), (2, "up"), (3, "up")]


def test_run_passes_everything_through(nodes: Lab, tmp_path: Path) -> None:
    script = "cat; pwd; echo $MOSIX_ROOT $MOUNT; echo err >&2; exit 5"
    done = nodes.moslab("run", "2", "sh", "-c", script, input="in\n", cwd=tmp_path)
    paths = nodes.node(2).paths
    assert (done.returncode, done.stderr) == (5, "err\n")
    assert done.stdout == f"in\n{tmp_path}\n{paths.root} {paths.mount}\n"
    assert nodes.moslab("run", "1", "no-such-program").returncode == 127
    assert nodes.moslab("run", "1", "/").returncode == 126
    assert nodes.moslab("run", "4", "true").stderr == "moslab: no node 4: this lab has nodes 1 to 3\n"


def test_down_leaves_nothing(tmp_path: Path) -> None:
    with cluster.lab(tmp_path, 2) as running:
        stopped = running.start(1, "mosrun", "sh", "-c", "trap '' TERM; kill -TSTP $$; sleep 100 & wait")
        away = running.start(1, "mosrun", "-2", "sh", "-c", "sleep 100 & wait")
        wait_until(lambda: len(running.tree(1).pids("proc")) >= 3)
        assert running.moslab("down").returncode == 0
        assert stopped.wait() in (-signal.SIGTERM, -signal.SIGKILL) and away.wait() == -signal.SIGTERM
        assert not leftovers(running.plan)
        assert running.moslab("down").returncode == 0


def test_down_after_every_mosd_was_killed(tmp_path: Path) -> None:
    with cluster.lab(tmp_path, 2) as running:
        program = running.start(1, "mosrun", "-2", "sleep", "100")
        wait_until(lambda: running.tree(2).pids("guests"))
        running.kill_mosd(1)
        running.kill_mosd(2)
        assert running.moslab("down").returncode == 0
        assert program.wait() == -signal.SIGKILL


def test_a_node_that_cannot_start_takes_all_down(tmp_path: Path, nodes: Lab) -> None:
    done = subprocess.run(
        [*cluster.MOSLAB, "up", "-n", "3", "--base", nodes.plan.base, "--root", str(tmp_path / "second")],
        capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("moslab: node ") and "did not start" in done.stderr
    assert not (tmp_path / "second").exists()
    assert nodes.moslab("status").returncode == 0


def test_nodes_with_networks_of_their_own(tmp_path: Path) -> None:
    with cluster.lab(tmp_path, 2, netns=True) as running:
        assert running.node(2).ip == "10.77.0.2"
        ours, theirs = (running.run(n, "readlink", "/proc/self/ns/net").stdout for n in (1, 2))
        assert ours and theirs and ours != theirs
        done = running.run(1, "mosrun", "-2", "cat", own(running, "whereami"))
        assert (done.stdout, done.stderr, done.returncode) == ("2\n", "", 0)


# --------------------------------------------------------------------------- mosrun


@pytest.mark.parametrize(("option", "where"), [("-h", "0"), ("-2", "2"), ("-r3", "3")])
def test_where_a_program_starts(nodes: Lab, option: str, where: str) -> None:
    if option == "-r3":
        option = f"-r{nodes.node(3).ip}"
    done = nodes.run(1, "mosrun", option, "cat", own(nodes, "whereami"))
    assert (done.stdout, done.stderr, done.returncode) == (f"{where}\n", "", 0)


def test_best_node_is_one_of_them(nodes: Lab) -> None:
    assert nodes.run(1, "mosrun", "-b", "cat", own(nodes, "whereami")).stdout in ("0\n", "2\n", "3\n")


@pytest.mark.parametrize(("option", "computer"), [
    ("-9", "9"), ("-10.1.2.3", "10.1.2.3"), ("-rno.such.invalid", "no.such.invalid"),
])
def test_a_node_that_is_not_in_the_map(nodes: Lab, option: str, computer: str) -> None:
    done = nodes.run(1, "mosrun", option, "echo", "never")
    assert (done.stdout, done.stderr) == ("", f"mosrun: failed migrating to {computer}: not in map\n")
    assert done.returncode == 125
    assert nodes.run(1, "mosrun", option, "-F", "echo", "always").stdout == "always\n"


@pytest.mark.parametrize(("options", "files"), [
    (["-L", "-m400", "-e"], {"lock": "1", "needmem": "400", "unsupportok": "1"}),
    (["-l", "-g", "-w"], {"lock": "0", "freezable": "0", "unsupportok": "2"}),
    (["-c", "-d", "100"], {"cpujob": "1", "decayrate": "100"}),
    ([], {"lock": "0", "freezable": "1", "needmem": "0", "unsupportok": "0", "cpujob": "0", "decayrate": "9976"}),
])
def test_options_arrive(nodes: Lab, options: list[str], files: dict[str, str]) -> None:
    done = nodes.run(1, "mosrun", *options, "cat", *(own(nodes, name) for name in files))
    assert done.stdout.split() == list(files.values())


def test_recursive_mosrun_inherits(nodes: Lab) -> None:
    show = f"cat {own(nodes, 'lock')} {own(nodes, 'needmem')}"
    assert nodes.run(1, "mosrun", "-Lm300", "mosrun", "sh", "-c", show).stdout == "1\n300\n"
    both = f"mosrun -lm200 sh -c '{show}'; {show}"
    assert nodes.run(1, "mosrun", "-Lm300", "sh", "-c", both).stdout == "0\n200\n1\n300\n"


def test_native_programs_are_outside(nodes: Lab) -> None:
    done = nodes.run(1, "mosrun", "mosnative", "sh", "-c", "cat; cat /proc/self/lock", input="in\n")
    assert done.stdout == "in\n" and done.returncode == 1
    assert "/proc/self/lock: No such file or directory" in done.stderr


# --------------------------------------------------------------------------- mosps, mosmigrate


THREADS = """
import threading, time
thread = threading.Thread(target=input)
thread.start()
print("READY", flush=True)
thread.join()
"""


@pytest.mark.parametrize("place", ["-h", "-2"])
@pytest.mark.parametrize(("program", "message", "help"), [
    (THREADS, "system-call 'clone' not supported under MOSIX", "--threads"),
    ("import mmap; mmap.mmap(-1, 4096)", "Shared memory (MAP_SHARED) not supported under MOSIX", "--stay-home"),
])
def test_who_is_killed_is_told_what_helps(nodes: Lab, place: str, program: str, message: str, help: str) -> None:
    done = nodes.run(1, "mosrun", place, "--no-threads", "python3", "-c", program, stdin=subprocess.DEVNULL)
    assert done.returncode == -9
    said, hint = done.stderr.splitlines()
    assert said == f"mosrun: {message}" and help in hint and hint.startswith("mosrun: ")


@pytest.mark.parametrize("place", ["-h", "-2"])
def test_with_stay_home_refused_threads_work_at_home(nodes: Lab, place: str) -> None:
    pipe = subprocess.PIPE
    command = ("mosrun", place, "--no-threads", "--stay-home", "python3", "-c", THREADS)
    with nodes.start(1, *command, stdin=pipe, stdout=pipe) as process:
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == b"READY\n"
        mount = Path(nodes.node(1).paths.mount)
        assert [entry.name for entry in (mount / "proc").iterdir()] == [str(process.pid)]
        why = "stays at home: system-call 'clone' not supported under MOSIX"
        assert (mount / "proc" / str(process.pid) / "why").read_text() == f"{why}\n"
        done = nodes.run(1, "mosmigrate", str(process.pid), "3")
        assert (done.returncode, done.stderr) == (1, f"mosmigrate: failed migrating to 3: {why}\n")
        process.communicate(b"\n")
        assert process.returncode == 0


@pytest.mark.parametrize("place", ["-h", "-2"])
def test_threads_are_refused_by_a_mosrun_within_another(nodes: Lab, place: str) -> None:
    """To what it starts, and what that starts; and allowed again by one within. Nobody sees that a filter does it."""
    thread = "import threading as t; t.Thread(target=int).start(); print('thread', flush=True)"
    refused = 'python3 -c "$1"; grep Seccomp /proc/self/status; mosrun --threads python3 -c "$1"'
    outer = 'mosrun --no-threads -e sh -c "$1" sh "$2"; python3 -c "$2"'
    done = nodes.run(1, "mosrun", place, "sh", "-c", outer, "sh", refused, thread)
    assert done.stdout.split() == ["Seccomp:", "0", "Seccomp_filters:", "0", "thread", "thread"], done.stderr
    assert "can't start new thread" in done.stderr


#: A file that is mapped shared and writable, at once or by mprotect(2).
MAPPED = """
import ctypes, os, sys
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
fd = os.open(os.fsencode(sys.argv[1]), os.O_RDWR | os.O_CREAT)
os.truncate(fd, 4096)
at = libc.mmap(None, ctypes.c_size_t(4096), 3 if sys.argv[2] == "mapped" else 1, 1, fd, ctypes.c_long(0))
assert libc.mprotect(ctypes.c_void_p(at), ctypes.c_size_t(4096), 3) == 0
print("READY", flush=True)
input()
"""


@pytest.mark.parametrize("name", [b"file", b"\xff\x1b[31m", b""], ids=["plain", "no text", "long"])
@pytest.mark.parametrize(("how", "text"), [
    ("mapped", "stays at home: Shared memory (MAP_SHARED) not supported under MOSIX"), ("made writable", "writable shared memory"),
])
def test_who_asks_is_told_which_file_keeps_it_home(nodes: Lab, tmp_path: Path, how: str, text: str, name: bytes) -> None:
    """Whatever the file is called: the program's tracer once died of a name that was no text."""
    folder = os.fsencode(tmp_path) + b"/"
    path = folder + (name or (20 * (200 * b"x" + b"/"))[: 4090 - len(folder)] + b"file")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    shown = "".join(letter if letter.isprintable() else "?" for letter in path.decode("utf-8", "surrogateescape"))
    begun = len(nodes.logs())
    command = ("mosrun", "-h", "--stay-home", "python3", "-c", MAPPED, path, how)
    with nodes.start(1, *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"READY\n"
        done = nodes.run(1, "mosmigrate", str(process.pid), "2")
        process.communicate(b"\n")
        assert process.returncode == 0
    said = done.stderr.rstrip("\n")
    assert done.returncode == 1 and said.isprintable()
    if len(shown) < 500:
        assert said == f"mosmigrate: failed migrating to 2: {text} ({shown})"
    else:
        assert said.startswith(f"mosmigrate: failed migrating to 2: {text} ({shown[:200]}") and said.endswith(f"{shown[-200:]})")
    assert " died" not in nodes.logs()[begun:]


#: A thread that waits, and another one, and its end, for each line that is read.
MORE_THREADS = """
import sys, threading
event = threading.Event()
threading.Thread(target=event.wait).start()
print("READY", flush=True)
for line in sys.stdin:
    done = []
    thread = threading.Thread(target=lambda: done.append(line))
    thread.start()
    thread.join()
    print("".join(done), end="", flush=True)
event.set()
"""


def test_threads_need_no_option(nodes: Lab) -> None:
    """Nor does what a program away starts."""
    done = nodes.run(1, "mosrun", "-2", "-w", "bash", "-c", 'python3 -c "$1" < /dev/null', "-", THREADS)
    assert (done.stdout, "mosrun" in done.stderr, done.returncode) == ("READY\n", False, 0), done.stderr


#: Maps the file in which Java has its counters, with one thread, then with two, and then with one again.
COUNTERS = """
import mmap, os, pathlib, threading
file = pathlib.Path(f"/tmp/hsperfdata_test/{os.getpid()}")
file.parent.mkdir(exist_ok=True)
file.write_bytes(bytes(4096))
def attempt():
    try:
        with file.open("r+b") as opened, mmap.mmap(opened.fileno(), 4096) as found:
            found[0] = 7
        print("mapped", file.read_bytes()[0])
    except OSError as error:
        print(error.strerror)
attempt()
thread = threading.Thread(target=attempt)
thread.start()
thread.join()
attempt()
file.unlink()
file.parent.rmdir()
"""


@pytest.mark.parametrize(("options", "lines"), [
    (("--stay-home",), ["mapped 7", "No such device", "No such device"]), (("--no-threads", "--stay-home"), ["mapped 7"] * 3),
])
@pytest.mark.parametrize("place", ["-h", "-2"])
def test_counters_of_java_cannot_be_mapped_by_who_has_threads(
    nodes: Lab, place: str, options: tuple[str, ...], lines: list[str]
) -> None:
    """Or has had them."""
    done = nodes.run(1, "mosrun", place, *options, "python3", "-c", COUNTERS)
    assert (done.stdout.splitlines(), done.stderr, done.returncode) == (lines, "", 0)


@pytest.mark.long
def test_a_program_with_threads_goes_back_to_where_it_was_told_to_run(nodes: Lab) -> None:
    """Only for the first one it has to come home; all others are made there."""
    pipe = subprocess.PIPE
    with nodes.start(1, "mosrun", "-2", "python3", "-c", MORE_THREADS, stdin=pipe, stdout=pipe) as process:
        assert process.stdin is not None and process.stdout is not None
        try:
            assert process.stdout.readline() == b"READY\n"
            folder = Path(nodes.node(1).paths.mount) / "proc" / str(process.pid)
            wait_until(lambda: (folder / "where").read_text() == "2\n")
            moves = (folder / "nmigs").read_text()
            for number in range(20):
                process.stdin.write(b"%d\n" % number)
                process.stdin.flush()
                assert process.stdout.readline() == b"%d\n" % number
            assert [(folder / name).read_text() for name in ("where", "nmigs")] == ["2\n", moves]
            process.communicate()
            assert process.returncode == 0
        finally:
            process.kill()


def test_a_process_is_moved_about(nodes: Lab) -> None:
    with Echo(nodes) as echo:
        ip = nodes.node(2).ip
        for target, where in (("2", "2"), ("3", "3"), (ip, "2"), ("home", "here"), ("home", "here"), ("3", "3")):
            done = nodes.run(1, "mosmigrate", echo.pid, target)
            assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
            row = nodes.run(1, "mosps", echo.pid).stdout.splitlines()[1].split()
            assert (row[0], row[2], row[3]) == (echo.pid, where, "here")
            assert echo.is_alive()
        (row,) = json.loads(nodes.run(1, "mosps", "--json", echo.pid).stdout)
        assert (row["where"], row["nmigs"], row["state"]) == (nodes.node(3).ip, 5, "away")
        guest = nodes.run(3, "mosps", "-V").stdout.splitlines()
        assert guest[0].split() == ["PID", "TTY", "FROM", "ORIGPID", "CMD"]
        assert guest[1].split()[2:4] == ["1", echo.pid]


def test_the_same_by_file(nodes: Lab) -> None:
    with Echo(nodes) as echo:
        nodes.run(1, "sh", "-c", f"echo 2 > $MOUNT/proc/{echo.pid}/migrate")
        wait_until(lambda: nodes.run(1, "sh", "-c", f"cat $MOUNT/proc/{echo.pid}/whereami").stdout == "2\n")
        assert echo.is_alive()


def test_out_sends_a_guest_home(nodes: Lab) -> None:
    with Echo(nodes, "-2") as echo:
        (guest,) = nodes.tree(2).pids("guests")
        refused = nodes.run(1, "mosmigrate", str(echo.process.pid), "out")
        assert refused.stderr == f"mosmigrate: {echo.process.pid}: is not a guest of this node\n"
        assert nodes.run(2, "mosmigrate", str(guest), "out").returncode == 0
        assert nodes.tree(2).pids("guests") == []
        wait_until(lambda: nodes.process(echo.process.pid).state == "here")
        assert echo.is_alive()


def test_bad_moves_are_one_line(nodes: Lab) -> None:
    with Echo(nodes) as echo:
        for target in ("9", "10.1.2.3", "no.such.invalid"):
            done = nodes.run(1, "mosmigrate", echo.pid, target)
            assert (done.returncode, done.stderr) == (1, f"mosmigrate: failed migrating to {target}: not in map\n")
        assert nodes.run(1, "mosmigrate", echo.pid, "thaw").returncode == 1
        assert echo.is_alive()
    done = nodes.run(1, "mosmigrate", str(os.getpid()), "2")
    assert (done.returncode, done.stderr) == (1, f"mosmigrate: {os.getpid()}: no such MOSIX process\n")


NOBODY = as_user(65534)


@cluster.others
def test_ordinary_users_and_their_own_processes(nodes: Lab) -> None:
    with Echo(nodes, before=NOBODY) as echo:
        (row,) = json.loads(nodes.run(1, *NOBODY, "mosps", "--json", "x").stdout)
        assert (row["pid"], row["uid"], row["state"]) == (echo.process.pid, 65534, "here")
        assert nodes.run(1, *NOBODY, "mosmigrate", echo.pid, "2").returncode == 0
        assert echo.is_alive()
        assert nodes.run(1, "mosmigrate", echo.pid, "home").returncode == 0  # root may
        assert echo.is_alive()


@cluster.others
def test_other_peoples_processes(nodes: Lab) -> None:
    with Echo(nodes) as echo:
        (row,) = json.loads(nodes.run(1, *NOBODY, "mosps", "--json", echo.pid).stdout)
        assert (row["uid"], row["state"], row["where"]) == (os.getuid(), "", "")
        done = nodes.run(1, *NOBODY, "mosmigrate", echo.pid, "2")
        assert (done.returncode, done.stderr) == (1, f"mosmigrate: {echo.pid}: Permission denied\n")
        assert echo.is_alive() and nodes.process(echo.process.pid).nmigs == 0


def test_a_node_that_is_down(tmp_path: Path) -> None:
    with cluster.lab(tmp_path, 2) as running, Echo(running) as echo:
        running.kill_mosd(2)
        done = running.run(1, "mosmigrate", echo.pid, "2")
        assert (done.returncode, done.stderr) == (1, "mosmigrate: failed migrating to 2: no response\n")
        assert echo.is_alive()
        assert running.run(1, "mosrun", "-F", "-2", "echo", "anyway").stdout == "anyway\n"
        running.start_mosd(2)
        assert running.run(1, "mosmigrate", echo.pid, "2").returncode == 0
        assert echo.is_alive()


# --------------------------------------------------------------------------- storm


def test_a_storm_changes_nothing_but_the_place(nodes: Lab, tmp_path: Path) -> None:
    script = "for i in $(seq 60); do echo $i; sleep 0.03; done | sort -n | tail -3; echo err >&2; exit 9"
    stats = tmp_path / "stats"
    options = ["--every", "0.1", "--stats", str(stats), "--seed", "1"]
    done = nodes.moslab("storm", *options, "--", "mosrun", "bash", "-c", script)
    assert (done.returncode, done.stdout, done.stderr) == (9, "58\n59\n60\n", "err\n")
    counts = json.loads(stats.read_text())
    assert counts["moves"] > 3 and counts["failed"] == 0, counts


def test_a_storm_dies_as_its_command(nodes: Lab) -> None:
    assert nodes.storm("mosrun", "sh", "-c", "kill -SEGV $$").returncode == -signal.SIGSEGV
    assert nodes.storm("no-such-program").returncode == 127


def test_what_a_program_says_in_a_storm_arrives_at_once(nodes: Lab) -> None:
    pipe = subprocess.PIPE
    storm = nodes.start_moslab("storm", "--every", "0.05", "--", "mosrun", "sh", "-c", ECHO, stdin=pipe, stdout=pipe)
    assert storm.stdin and storm.stdout and storm.stdout.readline() == b"READY\n"
    for number in range(1, 40):
        storm.stdin.write(b"x\n")
        storm.stdin.flush()
        assert storm.stdout.readline() == f"{number} x\n".encode()
        time.sleep(0.02)
    storm.stdin.close()
    assert storm.wait() == 0


def test_python_is_found(nodes: Lab) -> None:
    assert nodes.run(1, "mosrun", sys.executable, "-c", "print(6 * 7)").stdout == "42\n"
    assert labs.answers(nodes.node(1))
