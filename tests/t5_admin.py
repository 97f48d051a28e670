"""Commands that show and steer a live cluster: mosbestnode, mosctl, mosmon, moskillall, mostimeof, mossetpe, mostestload."""

from __future__ import annotations

import json
import os
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Self

import pexpect  # type: ignore[import-untyped]
import pyte
import pytest

from mosfs.tools.mosmon import MOSMON, first_view, read_nodes
from mosfs.tools.mosmon_view import frame
from tests import cluster
from tests.cluster import MOSLAB, Lab, as_user, wait_until

pytestmark = pytest.mark.root

NOBODY = as_user(65534)
NOT_RUNNING = "MOSIX is not running on this computer"


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with cluster.lab(tmp_path_factory.mktemp("admin"), 3) as running:
        wait_until(lambda: all(facts["status"] == "alive" for facts in monitor(running)))
        yield running


def monitor(nodes: Lab) -> list[dict[str, object]]:
    """What node 1 knows of the nodes."""
    found: list[dict[str, object]] = json.loads(nodes.run(1, "mosmon", "--json").stdout)
    return found


def says(nodes: Lab, *command: str, number: int = 1) -> str:
    """Standard output of a command that succeeds without a word on standard error."""
    done = nodes.run(number, *command)
    assert (done.returncode, done.stderr) == (0, ""), command
    return done.stdout.removesuffix("\n")


@contextmanager
def sleeper(nodes: Lab, *options: str, number: int = 1, settled: bool = True) -> Iterator[subprocess.Popen[bytes]]:
    """A program under mosrun -L, as soon as it runs (or at once)."""
    process = nodes.start(number, "mosrun", "-L", *options, "sleep", "1000")
    try:
        if settled:
            nodes.process(process.pid, number)
        yield process
    finally:
        process.kill()
        process.wait()


def fact(nodes: Lab, name: str, number: int = 1) -> str:
    return Path(nodes.node(number).paths.mount, name).read_text().removesuffix("\n")


# --------------------------------------------------------------------------- mosbestnode


@cluster.others
def test_the_best_node_is_printed(nodes: Lab) -> None:
    ips = {nodes.node(n).ip for n in (1, 2, 3)}
    assert says(nodes, "mosbestnode") in ips
    assert says(nodes, "mosbestnode", "-u") in ("1", "2", "3")
    answer = json.loads(says(nodes, "mosbestnode", "-n", "--json"))
    assert answer["ip"] in ips and answer["number"] in (1, 2, 3)
    assert says(nodes, *NOBODY, "mosbestnode", "-n", "-m1") in ips
    assert says(nodes, "sh", "-c", "cat $MOUNT/node/best") in ips


def test_no_node_fits(nodes: Lab) -> None:
    assert says(nodes, "mosbestnode", "-m262143") == "0"
    assert json.loads(says(nodes, "mosbestnode", "-um262143", "--json")) == {"ip": None, "number": None}


def test_waiting_for_a_node_that_fits(nodes: Lab) -> None:
    waiting = nodes.start(1, "mosbestnode", "-w", "-n", "-m262143", stdout=subprocess.PIPE)
    wait_until(lambda: b"\0run\0" not in Path(f"/proc/{waiting.pid}/cmdline").read_bytes())  # it is not moslab any more
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.wait(1.5)
    waiting.send_signal(signal.SIGINT)
    assert waiting.wait() in (130, -signal.SIGINT), "the latter if it has not got to its own handler yet"
    assert says(nodes, "mosbestnode", "-w", "-n", "-m1") != "0"


@contextmanager
def roomy(nodes: Lab, number: int) -> Iterator[None]:
    """The node says that it has more memory than any other."""
    probe = Path(nodes.node(number).paths.probe)
    probe.write_text("proc:free=250000,total=260000")
    try:
        yield
    finally:
        probe.unlink()


def test_a_program_with_b_and_m_begins_when_a_node_has_room(nodes: Lab) -> None:
    """mosrun(1), -m; mosps(1), WHERE."""
    with sleeper(nodes, "-b", "-m240000", settled=False) as waiting, sleeper(nodes, "-b", "-m240000", settled=False) as dropped:
        for process in (waiting, dropped):
            wait_until(lambda pid=process.pid: nodes.tree(1).process(pid))  # type: ignore[misc]
            assert fact(nodes, f"proc/{process.pid}/where") == "starting"
        assert "starting" in says(nodes, "mosps", str(waiting.pid)).split()
        dropped.kill()
        dropped.wait()
        wait_until(lambda: not nodes.tree(1).process(dropped.pid))
        with roomy(nodes, 2):
            wait_until(lambda: (found := nodes.tree(1).process(waiting.pid)) and found.where == nodes.node(2).ip)


# --------------------------------------------------------------------------- mosctl


@pytest.mark.parametrize(("verb", "bit"), [("stay", 4), ("lstay", 8), ("block", 16)])
def test_switches(nodes: Lab, verb: str, bit: int) -> None:
    def bits(number: int) -> int:
        return int(says(nodes, "mosctl", "rstatus", "1", number=number).split()[0])

    assert not bits(1) & bit
    assert says(nodes, "mosctl", verb) == ""
    assert bits(1) & bit and fact(nodes, f"node/{verb}") == "1"
    wait_until(lambda: bits(2) & bit)
    assert f"Switches:   {verb}" in says(nodes, "mosctl", "status")
    assert says(nodes, "mosctl", f"no{verb}") == ""
    assert not bits(1) & bit
    wait_until(lambda: not bits(2) & bit)


def test_a_blocked_node_takes_nobody_and_says_so(nodes: Lab) -> None:
    says(nodes, "mosctl", "block", number=2)
    try:
        done = nodes.run(1, "mosrun", "-2", "true")
        assert done.stderr == "mosrun: failed migrating to 2: other node refused\n"
        wait_until(lambda: "Status:     blocked" in says(nodes, "mosctl", "status", "2"))
        assert not int(says(nodes, "mosctl", "rstatus", "2").split()[0]) & 32
    finally:
        says(nodes, "mosctl", "noblock", number=2)
    wait_until(lambda: int(says(nodes, "mosctl", "rstatus", "2").split()[0]) & 32)


def test_expel_returns_when_all_guests_are_gone(nodes: Lab) -> None:
    with sleeper(nodes, "-2") as one, sleeper(nodes, "-2", number=3) as other:
        wait_until(lambda: len(nodes.tree(2).pids("guests")) == 2)
        assert says(nodes, "mosctl", "expel", number=2) == ""
        assert nodes.tree(2).pids("guests") == []
        wait_until(lambda: nodes.process(one.pid).state == "here")
        wait_until(lambda: nodes.process(other.pid, 3).state == "here")


def test_bring_returns_when_all_programs_are_here(nodes: Lab) -> None:
    with sleeper(nodes, "-2") as one, sleeper(nodes, "-3") as other:
        assert says(nodes, "mosctl", "bring") == ""
        assert [nodes.process(p.pid).where for p in (one, other)] == ["", ""]
        assert fact(nodes, "node/away") == "0"


@cluster.others
@pytest.mark.parametrize(("name", "answer"), [("", "1"), ("2", "IP2"), ("IP3", "3")])
def test_whois(nodes: Lab, name: str, answer: str) -> None:
    ips = {f"IP{n}": nodes.node(n).ip for n in (1, 2, 3)}
    arguments = [ips.get(name, name)] if name else []
    assert says(nodes, *NOBODY, "mosctl", "whois", *arguments) == ips.get(answer, answer)
    assert json.loads(says(nodes, "mosctl", "whois", "2", "--json")) == {"ip": ips["IP2"], "number": 2}


@pytest.mark.parametrize("name", ["9", "10.1.2.3", "no.such.invalid", "70000"])
@pytest.mark.parametrize("verb", ["whois", "status", "rstatus"])
def test_a_node_that_is_not_in_the_map(nodes: Lab, verb: str, name: str) -> None:
    done = nodes.run(1, "mosctl", verb, name)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"mosctl: {name}: not in map\n")


@cluster.others
def test_rstatus_is_what_the_node_is(nodes: Lab) -> None:
    """Twelve integers, in the manual's order."""
    with sleeper(nodes, "-2"), sleeper(nodes, number=2):
        wait_until(lambda: says(nodes, "mosctl", "rstatus", "2").split()[11] == "2")
        numbers = [int(word) for word in says(nodes, *NOBODY, "mosctl", "rstatus", nodes.node(2).ip).split()]
    assert len(numbers) == 12
    assert numbers[0] == 1 + 2 + 32 + 512
    assert numbers[1] >= 0
    assert numbers[2] == 0
    assert numbers[3:5] == [10000, len(os.sched_getaffinity(0))]
    assert numbers[5] == 0
    meminfo = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    assert numbers[7] == int(meminfo["MemTotal"].split()[0]) // 1024 * 256
    assert 0 < numbers[6] < numbers[7]
    assert 0 <= numbers[8] <= numbers[9]
    assert numbers[10] == 0
    wait_until(lambda: says(nodes, "mosctl", "rstatus", "2").split()[11] == "0")
    assert says(nodes, "mosctl", "rstatus", "2").split()[2] == "65535"


@cluster.others
def test_status_and_localstatus(nodes: Lab) -> None:
    titles = [line.split(":")[0] for line in says(nodes, *NOBODY, "mosctl", "status", "2").splitlines()]
    assert titles == ["Node", "Status", "Age", "Load", "Speed", "CPUs", "Processor", "Memory", "Swap", "Frozen",
                      "Processes", "Switches", "Accepts", "Version"]
    local = says(nodes, "mosctl", "localstatus")
    assert "Cluster:    3 of 3 numbered nodes are up" in local and f"mosd, PID {nodes.mosd(1)}" in local
    facts = json.loads(says(nodes, "mosctl", "localstatus", "--json"))
    assert (facts["number"], facts["mosd_pid"], facts["nodes_alive"], facts["away"]) == (1, nodes.mosd(1), 3, 0)
    assert json.loads(says(nodes, "mosctl", "status", "3", "--json"))["ip"] == nodes.node(3).ip


@cluster.others
@pytest.mark.parametrize("verb", ["stay", "nostay", "lstay", "nolstay", "block", "noblock", "expel", "bring", "shutdown"])
def test_switches_are_the_super_users(nodes: Lab, verb: str) -> None:
    done = nodes.run(1, *NOBODY, "mosctl", verb)
    assert (done.returncode, done.stderr) == (1, f"mosctl: {verb}: only for the Super-User\n")


def test_nonsense_is_a_line_and_the_usage(nodes: Lab) -> None:
    for arguments in ([], ["dance"], ["stay", "2"], ["status", "1", "2"]):
        done = nodes.run(1, "mosctl", *arguments)
        assert done.returncode == 2 and done.stderr.startswith("usage: mosctl ...; mosctl --help") and done.stderr.count("\n") == 2


# --------------------------------------------------------------------------- moskillall, mostimeof


@pytest.mark.parametrize(("option", "number"), [
    ((), signal.SIGTERM), (("-9",), signal.SIGKILL), (("-INT",), signal.SIGINT), (("-USR1",), signal.SIGUSR1),
])
def test_all_are_signalled(nodes: Lab, option: tuple[str, ...], number: int) -> None:
    with sleeper(nodes) as one, sleeper(nodes, "-2") as other, sleeper(nodes, "-1", number=2) as guest:
        wait_until(lambda: len(nodes.tree(1).pids("guests")) == 1)
        assert says(nodes, "moskillall", *option) == ""
        assert one.wait(60) == other.wait(60) == -number
        assert nodes.process(guest.pid, 2).where == nodes.node(1).ip


@cluster.others
def test_users_signal_their_own(nodes: Lab) -> None:
    ours = nodes.start(1, *NOBODY, "mosrun", "sleep", "1000")
    nodes.process(ours.pid)
    with sleeper(nodes) as roots:
        assert says(nodes, *NOBODY, "moskillall") == ""
        assert ours.wait(60) == -signal.SIGTERM
        assert nodes.process(roots.pid).state == "here"


def test_native_programs_are_not_signalled(nodes: Lab) -> None:
    """What mosnative has taken out is no MOSIX process any more, though its tree lists it."""
    script = "exec 3<&0; mosnative sh -c 'echo READY; read line; echo $line' <&3 & wait"
    process = nodes.start(1, "mosrun", "sh", "-c", script, stdin=-1, stdout=-1)
    assert process.stdin and process.stdout and process.stdout.readline() == b"READY\n"
    wait_until(lambda: any(each.native for each in nodes.tree(1).processes()))
    says(nodes, "moskillall")
    assert process.wait(60) == -signal.SIGTERM
    process.stdin.write(b"alive\n")
    process.stdin.close()
    assert process.stdout.read() == b"alive\n"
    process.stdout.close()


def test_stop_becomes_tstp(nodes: Lab) -> None:
    ready = "import signal, sys; signal.signal(20, lambda *_: sys.exit(3)); print('READY', flush=True); signal.pause()"
    process = nodes.start(1, "mosrun", sys.executable, "-c", ready, stdout=subprocess.PIPE)
    assert process.stdout and process.stdout.readline() == b"READY\n"
    says(nodes, "moskillall", "-STOP")
    assert process.wait(60) == 3


def seconds(nodes: Lab, pid: int) -> float:
    (row,) = json.loads(says(nodes, "mostimeof", str(pid), "--json"))
    assert row["pid"] == pid
    return float(row["seconds"])


@cluster.others
def test_cpu_time_is_counted_wherever_it_is_used(nodes: Lab) -> None:
    process = nodes.start(1, "mosrun", "-L", "-2", "mostestload", "-t0")
    nodes.process(process.pid)

    def more_than(known: float) -> float:
        return wait_until(lambda: (time := seconds(nodes, process.pid)) > known and time)

    used = more_than(0.5)
    for target in ("3", "home", "2"):
        says(nodes, "mosmigrate", str(process.pid), target)
        arrived = seconds(nodes, process.pid)
        assert arrived >= used
        used = more_than(arrived + 0.2)
    assert re.fullmatch(rf"{process.pid}: \d+\.\d\d seconds", says(nodes, "mostimeof", str(process.pid)))
    denied = nodes.run(1, *NOBODY, "mostimeof", str(process.pid))
    assert (denied.returncode, denied.stderr) == (1, f"mostimeof: {process.pid}: Permission denied\n")


@cluster.others
def test_cpu_time_of_ended_programs_is_remembered(nodes: Lab) -> None:
    """Its own and its children's, used here and there, as `time` tells when all of it stays at home; for its owner and root."""
    work = "import os\ndef burn():\n while os.times().user + os.times().system < {}: sum(range(9999))\n"
    child = work.format(0.3) + "burn()"
    program = work.format(0.3) + f"burn(); import subprocess; subprocess.run([{sys.executable!r}, '-c', {child!r}])"
    process = nodes.start(1, *NOBODY, "mosrun", "-L", "-2", sys.executable, "-c", program)
    assert process.wait(60) == 0
    done = nodes.run(1, *NOBODY, "mostimeof", str(process.pid))
    assert re.fullmatch(rf"{process.pid}: \d+\.\d\d seconds \(ended; with its children\)\n", done.stdout), done
    (row,) = json.loads(says(nodes, "mostimeof", "--json", str(process.pid)))
    assert row["ended"] is True and row["seconds"] + row["system"] > 0.6
    stat = json.loads(nodes.tree(1).read(f"ended/{process.pid}/stat"))
    assert stat["user"] + stat["system"] > 0 and stat["user_away"] + stat["system_away"] > 0.3
    assert row["seconds"] == stat["user"] + stat["user_away"] and row["system"] == stat["system"] + stat["system_away"]
    denied = nodes.run(1, *as_user(12345), "mostimeof", str(process.pid))
    assert (denied.returncode, denied.stderr) == (1, f"mostimeof: {process.pid}: Permission denied\n")


def test_the_time_of_a_guest_is_asked_for_at_home(nodes: Lab) -> None:
    with sleeper(nodes, "-2"):
        (guest,) = wait_until(lambda: nodes.tree(2).pids("guests"))
        done = nodes.run(2, "mostimeof", str(guest))
        assert (done.returncode, done.stderr) == (1, f"mostimeof: {guest}: no such MOSIX process\n")


def test_time_of_no_process(nodes: Lab) -> None:
    with sleeper(nodes) as process:
        done = nodes.run(1, "mostimeof", "x", str(process.pid), "1")
        assert done.returncode == 1
        assert done.stderr == "mostimeof: x: no such MOSIX process\nmostimeof: 1: no such MOSIX process\n"
        assert done.stdout.startswith(f"{process.pid}: ")


# --------------------------------------------------------------------------- mostestload


@pytest.mark.parametrize(("options", "expected"), [
    (["--cpu=5"], r"5 units of CPU work, 0 system calls, 0 bytes"),
    (["-m4", "--random-mem", "--cpu", "5"], r"5 units"),
    (["--write=32,20,2"], r"40 system calls, 1310720 bytes"),
    (["--read", "2,10,3", "--cpu=1"], r"3 units of CPU work, 30 system calls, 61440 bytes"),
    (["--noiosyscall=50,2"], r"100 system calls, 0 bytes"),
    (["-l", "1", "-h", "1"], r"^mostestload \d+: 1\.\d\d s of CPU time"),
])
def test_loads_away_from_home(nodes: Lab, options: list[str], expected: str) -> None:
    assert re.search(expected, says(nodes, "mosrun", "-2", "-L", "mostestload", "-r", *options))


def test_a_load_tells_of_its_migrations(nodes: Lab) -> None:
    process = nodes.start(1, "mosrun", "-L", "mostestload", "-t0", "--report-migrations", stdout=subprocess.PIPE)
    nodes.process(process.pid)
    assert process.stdout
    told = []
    while not select.select([process.stdout], [], [], 2)[0]:  # moves that were made before it began to look it does not know
        target = ("3", "2")[len(told) % 2]
        says(nodes, "mosmigrate", str(process.pid), target)
        told.append(f"mostestload {process.pid}: migration {len(told) + 1}: now at {target}\n")
    assert process.stdout.readline().decode() in told


# --------------------------------------------------------------------------- mossetpe


@cluster.others
def test_the_nodes_are_listed(nodes: Lab) -> None:
    ips = [nodes.node(n).ip for n in (1, 2, 3)]
    for option in ("-r", "-R"):
        assert says(nodes, *NOBODY, "mossetpe", option).split() == ips
    assert json.loads(says(nodes, "mossetpe", "-r", "--json")) == [{"ip": ip, "number": n} for n, ip in enumerate(ips, 1)]


@cluster.others
def test_a_wrong_map_changes_nothing(nodes: Lab, tmp_path: Path) -> None:
    bad = tmp_path / "map"
    bad.write_text("127.0.0.1 x\n")
    done = nodes.run(1, "mossetpe", "-m", str(bad))
    assert done.returncode == 1 and done.stderr.startswith(f"mossetpe: {bad}, line 1: 'x': not a number of 1-")
    bad.write_text("10.0.0.1 2\n")
    done = nodes.run(1, "mossetpe", "-m", str(bad))
    assert done.stderr == f"mossetpe: {bad}: {nodes.node(1).ip}, this node, is not in it\n"
    done = nodes.run(1, "mossetpe", "-m", str(tmp_path / "none"))
    assert done.returncode == 1 and "No such file" in done.stderr and len(done.stderr.splitlines()) == 1
    done = nodes.run(1, "mossetpe", "-p", "10.0.0.1")
    assert done.returncode == 1 and "started again" in done.stderr
    assert len(says(nodes, "mossetpe", "-r").split()) == 3
    denied = nodes.run(1, *NOBODY, "mossetpe")
    assert (denied.returncode, denied.stderr) == (1, "mossetpe: the configuration: only for the Super-User\n")
    assert nodes.run(1, *NOBODY, "mossetpe", "-off").stderr == "mossetpe: -off: only for the Super-User\n"


def test_a_map_that_shrinks_brings_everybody_home(nodes: Lab, tmp_path: Path) -> None:
    small = tmp_path / "map"
    small.write_text(f"{nodes.node(1).ip} 2\n")
    with sleeper(nodes, "-3") as ours, sleeper(nodes, "-1", number=3) as theirs, sleeper(nodes, "-2") as other:
        wait_until(lambda: len(nodes.tree(1).pids("guests")) == 1)
        try:
            assert says(nodes, "mossetpe", "-m", str(small), "-p", nodes.node(1).ip) == ""
            assert nodes.process(ours.pid).state == "here"
            assert nodes.tree(1).pids("guests") == []
            assert nodes.process(other.pid).where == nodes.node(2).ip
            wait_until(lambda: nodes.process(theirs.pid, 3).state == "here")
            assert len(says(nodes, "mossetpe", "-r").split()) == 2
            done = nodes.run(1, "mosmigrate", str(ours.pid), "3")
            assert done.stderr == "mosmigrate: failed migrating to 3: not in map\n"
        finally:
            says(nodes, "mossetpe", "-A")
        says(nodes, "mosmigrate", str(ours.pid), "3")
        assert nodes.process(ours.pid).where == nodes.node(3).ip


# --------------------------------------------------------------------------- mosmon


class Monitor:
    """mosmon on a terminal of 24 rows and 80 columns."""

    def __init__(self, nodes: Lab, *options: str, rows: int = 24, columns: int = 80) -> None:
        self.screen = pyte.Screen(columns, rows)
        self.stream = pyte.ByteStream(self.screen)
        environ = {**nodes.environ, "TERM": "xterm"}
        command = [*MOSLAB[1:], "run", "1", "mosmon", *options]
        self.child = pexpect.spawn(MOSLAB[0], command, env=environ, dimensions=(rows, columns), timeout=30)

    def send(self, key: str) -> None:
        self.child.send(key)

    def lines(self) -> list[str]:
        try:
            self.stream.feed(self.child.read_nonblocking(65536, 0.1))
        except (pexpect.TIMEOUT, pexpect.EOF):
            pass
        return [line.rstrip() for line in self.screen.display]

    def until(self, condition: Callable[[list[str]], object]) -> list[str]:
        """The screen as soon as ``condition`` holds for it."""
        return wait_until(lambda: (lines := self.lines()) and condition(lines) and lines)

    def press(self, key: str, title: str) -> list[str]:
        self.send(key)
        return self.until(lambda lines: title in lines[0])

    def ended(self) -> int | None:
        """The exit status of mosmon, once it has ended."""
        self.child.expect(pexpect.EOF)
        self.child.close()
        return self.child.exitstatus  # type: ignore[no-any-return]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.child.close(force=True)


class Tmux(Monitor):
    """The same under tmux(1), a server of its own."""

    def __init__(self, nodes: Lab, *options: str, rows: int = 24, columns: int = 80) -> None:
        self.base = ["tmux", "-f", "/dev/null", "-S", f"{nodes.plan.root}/tmux"]
        self.status = Path(nodes.plan.root, "tmux.status")
        command = shlex.join([*MOSLAB, "run", "1", "mosmon", *options]) + f"; echo $? >{self.status}; exec sleep 1000"
        self.tmux("new-session", "-d", "-x", str(columns), "-y", str(rows), command, env={**nodes.environ, "SHELL": "/bin/sh"})

    def tmux(self, *words: str, env: Mapping[str, str] | None = None) -> str:
        return subprocess.run([*self.base, *words], env=env, check=True, capture_output=True, text=True).stdout

    def send(self, key: str) -> None:
        self.tmux("send-keys", "-l", key)

    def lines(self) -> list[str]:
        return [line.rstrip() for line in self.tmux("capture-pane", "-p").split("\n")[:-1]]

    def ended(self) -> int | None:
        return wait_until(lambda: self.status.exists() and (text := self.status.read_text()) and int(text) + 1) - 1

    def __exit__(self, *_: object) -> None:
        self.tmux("kill-server")
        for left in (Path(self.base[-1]), self.status):
            left.unlink(missing_ok=True)


def numbers_below(lines: list[str]) -> list[str]:
    """What stands below the line of the chart; nothing while that is not drawn yet."""
    at = next((n for n, line in enumerate(lines) if "+---" in line), len(lines))
    return [line for line in lines[at + 1 :] if line]


FACTS = (
    "fixed:load=150,speed=10000,ncpus=4,free=1000,total=4000,swap_free=512,swap_total=2048,paging=3",
    "fixed:load=75,speed=20000,ncpus=1,free=3900,total=8000,swap_free=0,swap_total=0,paging=0",
    "fixed:load=0,speed=5000,ncpus=16,free=0,total=1000,swap_free=1024,swap_total=1024,paging=70",
)


@contextmanager
def fixed(nodes: Lab) -> Iterator[None]:
    """The nodes tell `FACTS` of themselves."""
    probes = [Path(nodes.node(n).paths.probe) for n in (1, 2, 3)]
    for probe, text in zip(probes, FACTS):
        probe.write_text(text)
    try:
        wanted = [(150, 10000, 3), (75, 20000, 0), (0, 5000, 70)]
        wait_until(lambda: [(node["load"], node["speed"], node["paging"]) for node in monitor(nodes)] == wanted)
        yield
    finally:
        for probe in probes:
            probe.unlink()


#: Keys in turn, and the options that show the same.
VIEWS = (
    ("s", "-s"), ("m", "-m"), ("m", "-m -m"), ("m", "-m"), ("f", "-f"), ("c", "-c"), ("g", "--paging"), ("l", "-l"), ("t", "-t"),
    ("v", "-t -v"), ("V", "-t -V"), ("d", "-t -V -d"), ("w", "-t -w -d"), ("D", "-t -w"), ("a", "-t"), ("s", "-t -s"),
)


@pytest.mark.parametrize("terminal", [
    Monitor, pytest.param(Tmux, marks=pytest.mark.skipif(shutil.which("tmux") is None, reason="no tmux here")),
])
def test_every_view_by_its_key(nodes: Lab, terminal: type[Monitor]) -> None:
    with fixed(nodes), terminal(nodes) as monitor:
        bars = ["|"] * 5 + ["| 1.5"] + ["| ###"] * 6 + ["| ### 0.8"] + ["| ### ###"] * 7 + ["| ### ###  0"]
        first = monitor.until(lambda lines: [line[6:].rstrip() for line in lines if "|" in line] == bars and numbers_below(lines))
        assert (first[0].split("   ")[0], numbers_below(first)) == ("MOSIX load", ["         1   2   3"])
        for key, options in VIEWS:
            view = replace(first_view(MOSMON.parse(options.split())), keys=True)
            monitor.send(key)
            # what nodes tell may still change: compared with what is known when the screen is read
            monitor.until(lambda lines, view=view: lines == frame(read_nodes(nodes.tree(1).read("node/cluster")), view, (24, 80)))
        monitor.send("h")
        monitor.until(lambda lines: any("vertical numbering" in line for line in lines))
        monitor.send("x")
        monitor.press("\r", "CPU speed")
        monitor.send("q")
        assert monitor.ended() == 0


def test_a_dead_node_and_a_smaller_window(tmp_path: Path) -> None:
    with cluster.lab(tmp_path, 2) as running, Monitor(running, "-t", "-d") as monitor:
        monitor.until(lambda lines: "2 nodes up" in lines[0])
        running.kill_mosd(2)
        monitor.until(lambda lines: "1 node up" in lines[0])
        monitor.until(lambda lines: "".join(line[12:15].strip() for line in lines if "|" in line) == "DEAD")
        monitor.send("D")
        monitor.until(lambda lines: numbers_below(lines) == ["         1"])
        monitor.screen.resize(10, 40)
        monitor.child.setwinsize(10, 40)
        monitor.until(lambda lines: lines[6].startswith("     0+---") and len(lines) == 10)
        running.kill_mosd(1)
        monitor.until(lambda lines: lines[0].startswith(NOT_RUNNING[:20]))
        running.start_mosd(1)
        monitor.press("", "MOSIX load")
        running.start_mosd(2)


def test_a_map_of_ten_thousand_nodes(tmp_path: Path) -> None:
    with cluster.lab(tmp_path, 1) as running:
        node = running.node(1)
        Path(node.paths.mosix_map).write_text(f"{node.ip} 10000\n")
        Path(node.paths.userview_map).write_text(f"1 {node.ip} 10000\n")
        assert says(running, "mossetpe") == ""
        ips = says(running, "mossetpe", "-r").split()
        assert len(ips) == 10000
        assert says(running, "mosctl", "whois", "10000") == ips[-1]
        assert says(running, "mosctl", "whois", ips[4711]) == "4712"
        assert says(running, "mosctl", "rstatus", "10000") == "1 0 0 0 0 0 0 0 0 0 0 0"
        assert says(running, "mosbestnode", "-u") == "1"
        assert len(monitor(running)) == 10000
        with Monitor(running, "-d", "-t") as screen:
            screen.until(lambda lines: "1 node up" in lines[0] and "1-12 of 10000" in lines[0])
            screen.press("n", "13-24 of 10000")
            screen.press("\x1bOC", "14-25 of 10000")  # the arrow to the right, and to the left
            screen.press("\x1bOD", "13-24 of 10000")
            screen.press("V", "13-84 of 10000")
            screen.press("D", "MOSIX load  1 node up")
            screen.send("q")
            assert screen.ended() == 0


def test_one_frame_for_scripts(nodes: Lab) -> None:
    done = nodes.run(1, "sh", "-c", "LINES=10 COLUMNS=30 mosmon --once -c")
    lines = done.stdout.splitlines()
    assert lines == frame(read_nodes(nodes.tree(1).read("node/cluster")), first_view(MOSMON.parse(["-c"])), (10, 30))
    assert lines[0] == "MOSIX cores" and lines[6] == "     0+-----------------------" and len(lines) == 10
    assert len(nodes.run(1, "env", "-u", "LINES", "-u", "COLUMNS", "mosmon", "--once").stdout.splitlines()) == 24
    assert [(facts["number"], facts["status"]) for facts in monitor(nodes)] == [(1, "alive"), (2, "alive"), (3, "alive")]
    assert nodes.run(1, "mosmon").stderr == "mosmon: standard output is not a terminal (--once prints one frame)\n"


# --------------------------------------------------------------------------- the end


def test_shutdown_loses_nothing(tmp_path: Path) -> None:
    with cluster.lab(tmp_path, 3) as running:
        with sleeper(running, "-2") as ours, sleeper(running, "-1", number=3) as theirs:
            wait_until(lambda: running.tree(1).pids("guests"))
            assert says(running, "mosctl", "shutdown") == ""
            assert not Path(running.node(1).paths.pid).exists()
            wait_until(lambda: running.process(theirs.pid, 3).state == "here")
            assert running.tree(2).pids("guests") == []
            assert ours.poll() is None
            running.start_mosd(1)
            assert running.process(ours.pid).state == "here"
            assert fact(running, "node/block") == "0"
        assert says(running, "mossetpe", "-off") == ""
        assert not Path(running.node(1).paths.pid).exists()


@pytest.mark.parametrize("command", [
    ["mosbestnode"], ["mosctl", "status"], ["mosctl", "whois", "2"], ["mosctl", "stay"], ["mosctl", "shutdown"],
    ["mosmon", "--once"], ["moskillall"], ["mostimeof", "1"], ["mossetpe", "-r"], ["mossetpe"], ["mossetpe", "-off"],
    ["mosps"], ["mosmigrate", "2", "home"],
])
def test_without_a_daemon_it_is_one_line(tmp_path: Path, command: list[str]) -> None:
    module = f"from mosfs.tools.{command[0]} import main; import sys; sys.exit(main())"
    environ = {**os.environ, "MOSIX_ROOT": str(tmp_path)}
    done = subprocess.run(
        [MOSLAB[0], "-c", module, *command[1:]], env=environ, cwd=cluster.SOURCE, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"{command[0]}: {NOT_RUNNING} (no mosd answers at {tmp_path}/run/mosd/sock): run mosd(8)\n"


@pytest.mark.long
def test_a_daemon_that_dies_while_it_is_asked(tmp_path: Path) -> None:
    """Whatever a command was waiting for, it says so in one line."""
    commands = (
        ["mosbestnode"], ["mosbestnode", "-w", "-m262143"], ["mosctl", "status", "1"], ["mosctl", "block"], ["mosctl", "whois"],
        ["mosmon", "--once"], ["moskillall"], ["mostimeof", "1"], ["mossetpe"], ["mosps"], ["mosmigrate", "1", "home"],
    )
    with cluster.lab(tmp_path, 1) as running:
        os.kill(running.mosd(1), signal.SIGSTOP)
        waiting = [running.start(1, *command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for command in commands]
        for process in waiting:
            wait_until(lambda pid=process.pid: b"\0run\0" not in Path(f"/proc/{pid}/cmdline").read_bytes())  # not moslab any more
        time.sleep(1)  # by now most are in the middle of a question
        running.kill_mosd(1)
        for process in waiting:
            _, complaint = process.communicate(timeout=60)
            assert (process.returncode, complaint.count(b"\n")) == (1, 1), (process.args, complaint)
            assert NOT_RUNNING.encode() in complaint
        running.start_mosd(1)
