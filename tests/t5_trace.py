"""mosrun --trace: what a program calls, and who served it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import cluster
from tests.cluster import Lab

pytestmark = pytest.mark.root

NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
LINE = re.compile(r" *\d+\.\d{6} (\d+) (\S+) (.*)")


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
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
    done = nodes.run(1, "mosrun", "--stay-home", "--trace", "python3", "-c", program)
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
