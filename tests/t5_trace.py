"""What shows how MOSIX works inside: mosrun --trace, a dump on a signal, recordings of moves."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from mosfs.tools import image
from mosfs.tools import lab as labs
from mosfs.wire import record
from tests import cluster
from tests.cluster import Lab, as_user, wait_until

pytestmark = pytest.mark.root

NOBODY = as_user(65534)
LINE = re.compile(r" *\d+\.\d{6} (\d+) (\S+) (.*)")


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all nodes write the frames of all channels."""
    folder = tmp_path_factory.mktemp("records")
    folder.chmod(0o700)
    return folder


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory, records: Path) -> Iterator[Lab]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(record.VARIABLE, str(records))
        with cluster.lab(tmp_path_factory.mktemp("t5"), 2) as running:
            yield running


def told(text: str) -> list[tuple[str, str]]:
    """(place, call) of each line; a line of another form is a failure."""
    found = []
    for line in text.splitlines():
        match = LINE.fullmatch(line)
        assert match, line
        found.append((match[2], match[3]))
    return found


def test_on_standard_error_at_home(nodes: Lab) -> None:
    """Opens are seen, with their results; what MOSIX answers itself too."""
    script = "read -r x < /proc/mosix/self/lock; read -r y < /nonexistent; echo $x"
    done = nodes.run(1, "mosrun", "-h", "--trace", "sh", "-c", script)
    assert done.stdout == "0\n"
    lines = told("".join(line for line in done.stderr.splitlines(keepends=True) if "[" in line))
    assert all(place == "home" for place, _ in lines)
    said = "\n".join(call for _, call in lines)
    assert re.search(r'^openat\(AT_FDCWD, "/proc/mosix/self/lock", .*\) = \d+  \[home\]$', said, re.MULTILINE)
    assert re.search(r'^openat\(AT_FDCWD, "/nonexistent", .*\) = -1 ENOENT  \[home\]$', said, re.MULTILINE)


@pytest.mark.parametrize("place", ["-h", "-2"])
def test_where_a_write_waits_for_a_reader(nodes: Lab, place: str) -> None:
    """An eventfd(2), which takes text as numbers until their sum is too much: the program, and its tree, go on."""
    number = os.eventfd(0)
    script = "for i in 1 2 3 4 5; do read -r x < /proc/mosix/self/lock; done; echo on"
    try:
        with nodes.start(1, "mosrun", place, "--trace", "sh", "-c", script, stdout=-1, stderr=number) as process:
            assert process.stdout and process.stdout.read() == b"on\n"
            assert process.wait(cluster.TIMEOUT) == 0
    finally:
        os.close(number)


def test_to_a_file_away(nodes: Lab, tmp_path: Path) -> None:
    """Away every call is seen, those of children too, and who served it; and moves."""
    program = (
        "import ctypes, os; c = ctypes.CDLL(None)\n"
        "c.open(b'/proc/self/lock', 0o102, 1); c.syscall(101, 0, 0, 0, 0); os.write(1, b'hello')\n"
        "c.open(b'/proc/self/migrate', 0o101, 0)\n"
        "os.close(os.open('/etc/passwd', 0)); os.waitpid(os.posix_spawn('/bin/true', ['true', 'x'], {}), 0)"
    )  # fmt: skip
    file = tmp_path / "trace"
    done = nodes.run(1, "mosrun", "-2", "-e", f"--trace={file}", "python3", "-c", program)
    assert (done.stdout, done.stderr) == ("hello", "")
    lines = told(file.read_text())
    away = [call for place, call in lines if place == "2"]
    assert 'write(1, "hello", 5) = 5  [home]' in away
    assert any(re.fullmatch(r'openat\(AT_FDCWD, "/proc/self/lock", .*\) = 0  \[MOSIX\]', call) for call in away)
    assert "ptrace(0, 0, 0, 0) = -1 ENOSYS  [MOSIX]" in away
    assert any(re.fullmatch(r"mmap\(0, \d+, PROT_READ, MAP_PRIVATE.*, \d+, 0\) = 0x7f[0-9a-f]+  \[both\]", call) for call in away)
    assert ("home", "has moved") in lines
    home = lines[lines.index(("home", "has moved")):]
    assert any('"/etc/passwd"' in call and call.endswith("[home]") for place, call in home if place == "home")


def test_programs_that_start_away(nodes: Lab) -> None:
    done = nodes.run(1, "mosrun", "-2", "--trace", "sh", "-c", "/bin/true x; exit 3")
    said = [call for _, call in told(done.stderr)]
    assert done.returncode == 3
    assert any(call.startswith('execve("/bin/true", ["/bin/true", "x"])') for call in said)
    assert any(call.startswith(("clone(", "vfork(")) for call in said)
    assert said[-1] == "exit_group(3) = ?  [not back]"


def test_threads_at_home(nodes: Lab) -> None:
    """What is made at home because of --stay-home is told too, of each thread."""
    program = "import threading as t; x = t.Thread(target=lambda: open('/etc/passwd').close()); x.start(); x.join()"
    done = nodes.run(1, "mosrun", "--no-threads", "--stay-home", "--trace", "python3", "-c", program)
    lines = told(done.stderr)
    assert any(re.fullmatch(r"clone\(.*\) = \d+  \[home\]", call) for _, call in lines)
    pids = {line.split()[1] for line in done.stderr.splitlines() if '"/etc/passwd"' in line}
    assert len({line.split()[1] for line in done.stderr.splitlines()}) == 2 and len(pids) == 1


def test_inside_mosrun(nodes: Lab, tmp_path: Path) -> None:
    """Only the program that was asked for, not the one that asked."""
    file = tmp_path / "trace"
    script = f"cat /etc/hostname > /dev/null; mosrun --trace={file} cat /etc/passwd > /dev/null; cat /etc/hostname > /dev/null"
    done = nodes.run(1, "mosrun", "-h", "sh", "-c", script)
    assert (done.returncode, done.stderr) == (0, "")
    text = file.read_text()
    assert "/etc/passwd" in text and "/etc/hostname" not in text and "mosrun" not in text


@cluster.others
def test_rights_are_the_users(nodes: Lab, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    done = nodes.run(1, *NOBODY, "mosrun", f"--trace={tmp_path}/x", "true")
    assert (done.returncode, done.stderr) == (125, f"mosrun: {tmp_path}/x: Permission denied\n")
    assert nodes.run(1, *NOBODY, "mosrun", "-h", "--trace", "true").stderr.count("libc.so.6") == 1


def test_a_reader_that_does_not_read(nodes: Lab) -> None:
    """The program goes on: its trace waits, and is dropped in the end."""
    reader, writer = os.pipe()
    script = "for i in $(seq 3000); do read -r x < /proc/mosix/self/lock; done; echo done"
    process = nodes.start(1, "mosrun", "-h", f"--trace=/proc/{os.getpid()}/fd/{writer}", "bash", "-c", script, stdout=-1)
    assert process.stdout and process.stdout.readline() == b"done\n"
    assert process.wait() == 0
    os.close(writer)
    os.close(reader)


def helpers(name: str, nodes: Lab) -> list[int]:
    """The processes of the lab with this name."""
    mark = f"MOSIX_ROOT={nodes.plan.root}/".encode()
    found = [pid for pid in labs.all_pids() if any(word.startswith(mark) for word in labs._nul_list(pid, "environ"))]
    return [pid for pid in found if Path(f"/proc/{pid}/comm").read_text() == f"{name}\n"]


def test_a_dump_on_a_signal_shows_programs_and_frames_and_harms_nobody(nodes: Lab) -> None:
    """Again and again, in the middle of whatever tracer, host and fork server do."""
    script = (
        "echo $$; x=0; while read -r line; do x=$((x + 1)); done < /etc/passwd; ls / > /dev/null; read -r answer; echo $x $answer"
    )
    with nodes.start(1, "mosrun", "-2", "sh", "-c", script, stdin=-1, stdout=-1, text=True) as program:
        assert program.stdout and program.stdout.readline() == f"{program.pid}\n"
        told = {kind: helpers(kind, nodes) for kind in ("mos-tracer", "mos-host", "mos-forkserver")}
        assert all(told.values())
        for _ in range(30):
            for pid in itertools.chain(*told.values()):
                os.kill(pid, signal.SIGUSR1)
        for kind, pids in told.items():
            for pid in pids:
                cluster.wait_until(lambda kind=kind, pid=pid: f"{kind} {pid}: state" in nodes.logs())  # type: ignore[misc]
        out, _ = program.communicate("yes\n", timeout=60)
        lines = len(Path("/etc/passwd").read_text().splitlines())
        assert (out, program.returncode) == (f"{lines} yes\n", 0)
    said = nodes.logs()
    assert f"  program {program.pid}: " in said and f" of {program.pid}: " in said
    assert re.search(rf"last frames: .*[<>][A-Z_]+ {program.pid} \d+", said)  # calls that C serves alone are not among them
    assert all(f"  at {call} (" in said for call in ("receive", "run", "become_child"))  # the stack of each


def test_a_recorded_move_is_shown_as_json(nodes: Lab, records: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both ends tell the same; the image is there by names, and the program's memory only when it is asked for."""
    before = set(records.iterdir())
    done = nodes.run(1, "mosrun", "-2", "sh", "-c", "read -r line < /etc/passwd; kill -0 $$; exit 3")
    assert done.returncode == 3
    files = set(records.iterdir()) - before
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    told = {}
    for file in files:
        assert image.main([str(file)]) == 0
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        for direction in ("sent", "received"):
            told[len(told)] = [{**line, "direction": "", "time": ""} for line in lines if line["direction"] == direction]
    frames = [frame for frames in told.values() for frame in frames]
    assert all(list(told.values()).count(one) == 2 for one in told.values() if one)
    (meta, _) = (frame["content"] for frame in frames if frame["kind"] == "IMAGE")
    assert (meta["comm"], meta["home"]) == ("sh", nodes.node(1).ip)
    assert any(vma["name"].endswith("sh") for vma in meta["vmas"]) and int(meta["regs"]["rip"], 16)
    assert any(frame["kind"] == "CALL" and frame["content"]["call"].startswith("read(") for frame in frames)
    assert all(re.fullmatch(r"\d+ bytes", frame["content"].get("data", "1 bytes")) for frame in frames if frame["kind"] == "PAGES")


@cluster.others
@pytest.mark.long
def test_all_forwarded_calls_are_in_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MOSIX_TRACE=1 in the environment of mosd."""
    (tmp_path / "numbers").write_text("x")
    monkeypatch.setenv("MOSIX_TRACE", "1")
    with cluster.lab(tmp_path, 2) as traced:
        log = Path(traced.node(1).paths.log)
        assert traced.run(1, "mosrun", "-L", "-2", "cat", "numbers", cwd=tmp_path).stdout == "x"
        wait_until(lambda: re.search(r" 2 openat\(AT_FDCWD, \"numbers\".*\[home\]", log.read_text()))


def test_a_trace_is_written_with_its_users_rights(nodes: Lab) -> None:
    """A socket tells who has written to it (unix(7)): that is not root, who is believed more, and may fill a disk for others."""
    reader, writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    with reader, writer:
        process = nodes.start(1, *NOBODY, "mosrun", "-h", "--trace", "true", stderr=writer)
        reader.settimeout(2 * cluster.TIMEOUT)
        line, (credentials, *_), *_ = reader.recvmsg(4096, socket.CMSG_SPACE(12))
        assert process.wait(2 * cluster.TIMEOUT) == 0
    assert LINE.fullmatch(line.decode().splitlines()[0])
    assert struct.unpack("3i", credentials[2])[1:] == (65534, 65534)
