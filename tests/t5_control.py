"""The control files of a running program, sentence by sentence of mosix(7): by opens of its own, at home and away, and as files.

A second shell sets and reads what the program itself reads and sets.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mosfs.abi.args import as_c_int
from mosfs.cluster.address import as_unsigned
from mosfs.procfs.table import CONTROL_FILES, Kind
from mosfs.trace.proc import tracer_of
from tests import cluster
from tests.cluster import SOURCE, Lab, as_user, wait_until
from tests.probe import Probe

pytestmark = pytest.mark.root

OPEN, CREAT, OPENAT, OPENAT2 = 2, 85, 257, 437
O_CREAT = 0o100
PLACES = {"home": ("-h",), "away": ("-2",)}
NOBODY = as_user(65534)
SOMEBODY = as_user(65533)


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with cluster.lab(tmp_path_factory.mktemp("t5"), 3) as running:
        yield running


@pytest.fixture(params=PLACES)
def probe(nodes: Lab, request: pytest.FixtureRequest) -> Iterator[Probe]:
    with Probe(nodes, *PLACES[request.param]) as running:
        yield running


def value(probe: Probe, name: str) -> int:
    return probe.number(f"call({OPEN}, '/proc/self/{name}', 0)")


def write(probe: Probe, name: str, new: int, mode: int = 1) -> int:
    return probe.number(f"call({OPEN}, '/proc/self/{name}', {mode | O_CREAT}, {new})")


# --------------------------------------------------------------------------- open as a call


@pytest.mark.parametrize("row", [row for row in CONTROL_FILES if row.setting and row.kind is Kind.NUMBER], ids=lambda row: row.name)
def test_the_three_forms(probe: Probe, row: object) -> None:
    """0 reads, 1 writes, 2 writes and returns the previous value."""
    name, lo, hi, default = row.name, row.lo, row.hi, row.default  # type: ignore[attr-defined]
    assert value(probe, name) == default
    assert write(probe, name, hi) == 0
    assert value(probe, name) == hi
    assert write(probe, name, lo, mode=2) == hi
    assert value(probe, name) == lo
    assert probe.number(f"call({OPEN}, '/proc/self/{name}', 2, {default})") == lo, "O_CREAT is harmless, not needed"
    assert write(probe, name, hi + 1) == write(probe, name, -1, mode=2) == -errno.ERANGE
    assert value(probe, name) == default


def test_sigmig(probe: Probe) -> None:
    """A signal to be received after each migration."""
    assert write(probe, "sigmig", 65) == -errno.ERANGE
    probe.ask("signal.signal(signal.SIGUSR1, lambda *_: kept2.append(1)) if globals().setdefault('kept2', []) is not None else 0")
    assert write(probe, "sigmig", signal.SIGUSR1, mode=2) == 0
    assert write(probe, "migrate", 3) == 0
    assert probe.ask("len(kept2)") == "1"
    assert write(probe, "sigmig", 0, mode=2) == signal.SIGUSR1
    assert write(probe, "migrate", 0) == 0
    assert probe.ask("len(kept2)") == "1"


def test_migrate_whereami_nmigs(probe: Probe, nodes: Lab) -> None:
    """Writing 0 goes home; a node number or IP attempts to migrate there; 0 is success, -1 failure."""
    moves = value(probe, "nmigs")
    for where, shown in ((2, 2), (as_unsigned(nodes.node(3).ip), 3), (0, 0), (3, 3), (as_unsigned(nodes.node(1).ip), 0)):
        assert write(probe, "migrate", where) == 0
        assert value(probe, "whereami") == shown
    assert value(probe, "nmigs") >= moves + 4
    before = value(probe, "nmigs")
    assert write(probe, "migrate", 9) == write(probe, "migrate", as_unsigned("10.1.2.3")) == -errno.EHOSTUNREACH
    assert (value(probe, "nmigs"), value(probe, "whereami")) == (before, 0)


def test_a_move_is_considered(probe: Probe) -> None:
    """-1 returns at once; the best node is chosen, which may be this one."""
    assert write(probe, "migrate", -1) == 0
    assert value(probe, "whereami") in (0, 2, 3)


def test_a_child_inherits_nmigs_but_not_checkpoints(probe: Probe) -> None:
    assert write(probe, "lock", 1) == write(probe, "checkpointlimit", 7) == 0
    moves = value(probe, "nmigs")
    child = "(lambda r, w: (os.fork() or (os.write(w, repr([%s]).encode()), os._exit(0))) and os.read(r, 99))(*os.pipe())"
    asked = ", ".join(f"call({OPEN}, '/proc/self/{name}', 0)" for name in ("nmigs", "lock", "checkpointlimit"))
    assert probe.ask(child % asked) == repr(f"[{moves}, 1, 0]".encode())


def test_in_cluster(probe: Probe, nodes: Lab) -> None:
    """1 if the node, by unsigned IP or number, is in the same cluster, else 0."""
    answers = [probe.number(f"call({OPEN}, '/proc/self/in_cluster', {O_CREAT}, {node})") for node in (
        1, 3, as_unsigned(nodes.node(2).ip), 9, as_unsigned("10.1.2.3"),
    )]
    assert answers == [1, 1, 1, 0, 0]


def test_checkpoint_files(probe: Probe) -> None:
    """The settings are kept; with pipes open there is no checkpoint, but it counts (`t5_checkpoints` has the others)."""
    assert value(probe, "checkpoint") == 1
    assert probe.number(f"call({OPEN}, '/proc/self/checkpointfile', {1 | O_CREAT}, '/some/save.4')") == 0
    assert value(probe, "checkpoint") == 4
    for mode in (1, 2):
        assert write(probe, "checkpoint", 0, mode) == -errno.EAGAIN
    assert value(probe, "checkpoint") == 6
    assert probe.number(f"call({OPEN}, '/proc/self/checkpointfile', 1, 4096)") == -errno.EFAULT
    assert probe.number(f"call({OPEN}, '/proc/self/checkpointfile', 1, '')") == -errno.EINVAL
    how = f"call({OPENAT2}, -100, '/proc/self/checkpointfile', words(1, ctypes.addressof(n), 0), 24)"
    assert probe.number(f"(lambda n: {how})(ctypes.create_string_buffer(b'other.9'))") == 0
    assert value(probe, "checkpoint") == 9


@pytest.mark.parametrize("name", ["sender_home", "sender_pid", "sender_location", "message_length"])
def test_no_message_was_read_yet(probe: Probe, name: str) -> None:
    assert value(probe, name) == -errno.ENODATA
    assert write(probe, name, 0) == -errno.EPERM


def test_directions_and_nonsense(probe: Probe) -> None:
    assert write(probe, "whereami", 1) == write(probe, "nmigs", 1, mode=2) == -errno.EPERM
    assert value(probe, "migrate") == value(probe, "clear") == value(probe, "checkpointfile") == -errno.EPERM
    assert write(probe, "clear", 1) == write(probe, "clear", -1) == 0
    assert write(probe, "lock", 1, mode=3) == -errno.EINVAL
    assert value(probe, "no_such_file") == -errno.ENOENT
    assert probe.number(f"call({OPEN}, '/proc/1/lock', 0)") == -errno.ENOENT


def test_every_call_that_opens(probe: Probe) -> None:
    """open, openat, openat2 and creat; by descriptor and relative to the working directory."""
    assert probe.number(f"call({CREAT}, '/proc/self/lock', 1)") == 0
    assert probe.number(f"call({OPENAT}, -100, '/proc/self/lock', 2, 0)") == 1
    assert probe.number(f"call({OPENAT2}, -100, '/proc/self/lock', words(2, 1, 0), 24)") == 0
    assert probe.number(f"call({OPENAT}, 99, '/proc//self/./lock', 0)") == 1
    proc = probe.number(f"call({OPEN}, '/proc', {os.O_DIRECTORY})")
    assert probe.number(f"call({OPENAT}, {proc}, 'self/lock', 2, 0)") == 1
    assert probe.number(f"call({OPENAT}, {proc}, '{probe.pid}/lock', 0)") == 0
    probe.ask("os.chdir('/proc/self')")
    assert probe.number(f"call({OPEN}, 'lock', 2, 1)") == 0
    assert probe.number(f"call({OPENAT}, -100, 'lock', 0)") == 1
    probe.ask("os.chdir('/')")
    assert probe.number(f"call({OPEN}, 'lock', 0)") == -errno.ENOENT


def test_32_bit_calls_are_none_of_ours(probe: Probe) -> None:
    """mosix(7) is for 64-bit programs; a path in /proc/self that is there opens as always."""
    assert probe.number(f"call({OPEN}, '/proc/self/status', 0)") > 2


def test_outside_mosrun(nodes: Lab) -> None:
    with Probe(nodes, after=("mosnative",)) as probe:
        assert value(probe, "whereami") == write(probe, "migrate", 2) == -errno.ENOENT


# --------------------------------------------------------------------------- addresses without a number


def test_addresses_are_sign_extended(tmp_path: Path) -> None:
    """Host order, as a C int: so the manual's GET_IP gives them back (readings, row 18)."""
    with cluster.lab(tmp_path, 2) as nodes:
        Path(nodes.node(1).paths.userview_map).unlink()
        nodes.kill_mosd(1)
        nodes.start_mosd(1)
        with Probe(nodes, f"-{nodes.node(2).ip}") as probe:
            assert value(probe, "whereami") == as_c_int(as_unsigned(nodes.node(2).ip))
            files = nodes.run(1, "sh", "-c", f"cat $MOUNT/proc/{probe.pid}/whereami").stdout
            assert files == f"{as_unsigned(nodes.node(2).ip)}\n"


# --------------------------------------------------------------------------- files


@pytest.mark.parametrize("place", PLACES)
def test_plain_cat_and_echo_under_mosrun(nodes: Lab, place: str) -> None:
    where = {"home": "0", "away": "2"}[place]
    script = """
        cat /proc/mosix/self/whereami
        cat /proc/mosix/proc/$$/whereami
        echo 1 > /proc/mosix/self/lock && cat /proc/mosix/self/lock
        cd /proc && cat mosix/self/whereami
        cat /proc/mosix/priority
        cat /proc/mosix/../uptime > /dev/null && echo back
        cat /proc/mosix/self/no_such_file || echo none
        cat < /proc/mosix/nodes/%s/number
        cat /proc/mosix/node/ip
    """
    done = nodes.run(1, "mosrun", *PLACES[place], "sh", "-c", script % nodes.node(3).ip)
    ip = nodes.node(1).ip
    priority = {"home": "0", "away": "65535"}[place]
    assert done.stdout.split("\n") == [where, where, "1", where, priority, "back", "none", "3", ip, ""], done.stderr


def shell(nodes: Lab, script: str, *, user: tuple[str, ...] = ()) -> tuple[int, str]:
    done = nodes.run(1, *user, "bash", "-c", script)
    return done.returncode, done.stdout


@cluster.others
def test_every_file_from_a_second_shell(nodes: Lab) -> None:
    """A user reads and sets every control file of a process of their own with cat and echo."""
    with Probe(nodes, before=NOBODY) as probe:
        folder = nodes.tree(1).paths.mount if hasattr(nodes.tree(1), "paths") else nodes.node(1).paths.mount
        here = f"{folder}/proc/{probe.pid}"
        for row in CONTROL_FILES:
            path = f"{here}/{row.name}"
            read, _ = shell(nodes, f"cat {path}", user=NOBODY)
            assert (read == 0) == row.file_reads, row.name
            if not row.file_writes:
                assert shell(nodes, f"echo 1 > {path}", user=NOBODY)[0] != 0, row.name
            elif row.setting and row.kind is Kind.NUMBER:
                assert shell(nodes, f"echo {row.hi} > {path}; cat {path}", user=NOBODY) == (0, f"{row.hi}\n")
                wait_until(lambda row=row: value(probe, row.name) == row.hi)
                assert shell(nodes, f"echo {row.hi + 1} > {path}", user=NOBODY)[0] != 0
                assert write(probe, row.name, row.lo) == 0
                wait_until(lambda path=path, row=row: shell(nodes, f"cat {path}", user=NOBODY) == (0, f"{row.lo}\n"))
        assert shell(nodes, f"echo save.4 > {here}/checkpointfile; cat {here}/checkpointfile", user=NOBODY) == (0, "save.4\n")
        wait_until(lambda: value(probe, "checkpoint") == 4)
        assert shell(nodes, f"echo 1 > {here}/checkpoint", user=NOBODY)[0] == 0
        wait_until(lambda: value(probe, "checkpoint") == 5)
        assert " is a pipe" in shell(nodes, f"cat {here}/checkpointed", user=NOBODY)[1]
        assert shell(nodes, f"echo 1 > {here}/clear; echo 10 > {here}/sigmig; cat {here}/sigmig", user=NOBODY) == (0, "10\n")
        assert shell(nodes, f"echo 0 > {here}/sigmig; echo 2 > {here}/in_cluster && echo yes", user=NOBODY) == (0, "yes\n")
        assert shell(nodes, f"echo 9 2>/dev/null > {here}/in_cluster && echo yes", user=NOBODY) == (1, "")
        assert shell(nodes, f"echo 2 > {here}/migrate", user=NOBODY)[0] == 0
        wait_until(lambda: value(probe, "whereami") == 2)


@cluster.others
def test_rights(nodes: Lab) -> None:
    """Another user gets EACCES; root may."""
    with Probe(nodes, before=NOBODY) as probe:
        here = f"{nodes.node(1).paths.mount}/proc/{probe.pid}"
        tell = f"LC_ALL=C bash -c 'cat {here}/lock; echo 1 > {here}/lock; ls {here}' 2>&1"
        status, said = shell(nodes, tell, user=SOMEBODY)
        assert status != 0 and said.count("Permission denied") == 3
        assert value(probe, "lock") == 0
        assert shell(nodes, f"cat {here}/lock && echo 1 > {here}/lock") == (0, "0\n")
        wait_until(lambda: value(probe, "lock") == 1)


def test_a_write_returns_when_it_holds(probe: Probe, nodes: Lab) -> None:
    """So whoever is forked behind it has it. Its tracer stands still until the write has begun."""
    tracer = os.pidfd_open(tracer_of(probe.pid))
    signal.pidfd_send_signal(tracer, signal.SIGSTOP)
    try:
        writer = nodes.start(1, "sh", "-c", f"echo 1 > {nodes.node(1).paths.mount}/proc/{probe.pid}/lock")
        wait_until(lambda: writer.poll() is not None or Path(f"/proc/{writer.pid}/syscall").read_text().startswith("1 "))
        assert writer.poll() is None, "the setting may still be lost"
    finally:
        signal.pidfd_send_signal(tracer, signal.SIGCONT)
        os.close(tracer)
    assert writer.wait(60) == 0
    assert value(probe, "lock") == 1


# --------------------------------------------------------------------------- examples

TOLD = "was locked: 0\non node 3\nat home: yes\nmoved there and back, result "


@pytest.mark.parametrize("place", PLACES)
def test_example_in_c(nodes: Lab, place: str, tmp_path: Path) -> None:
    binary = tmp_path / "control"
    flags = ["-std=c99", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", f"-I{SOURCE}/include"]
    subprocess.run(["gcc", *flags, f"{SOURCE}/examples/control.c", "-o", binary], check=True)
    native = subprocess.run([binary], capture_output=True, text=True, check=False)
    assert (native.returncode, native.stderr) == (1, f"{binary}: not under mosrun\n")
    done = nodes.run(1, "mosrun", *PLACES[place], str(binary), "3")
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith(TOLD), done.stdout
    done = nodes.run(1, "mosrun", *PLACES[place], str(binary), "9")
    assert done.stderr == f"{binary}: node 9 is not one of ours\n"


@pytest.mark.parametrize("place", PLACES)
def test_example_in_python(nodes: Lab, place: str) -> None:
    example = f"{SOURCE}/examples/control.py"
    native = subprocess.run([sys.executable, example], capture_output=True, text=True, check=False)
    assert (native.returncode, native.stderr) == (1, f"{example}: not under mosrun\n")
    done = nodes.run(1, "mosrun", *PLACES[place], sys.executable, example, "3")
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith(TOLD), done.stdout


#: Asks and moves itself while others move it too: each answer must be its own.
IN_MOTION = r"""
#include <mosix.h>
#include <string.h>
#define EXPECT(x) do { if (!(x)) { printf("FAIL %s, round %d: %s\n", #x, i, strerror(errno)); return 1; } } while (0)
int main(void)
{
    for (int i = 0; i < 300; i++) {
        EXPECT(mosix_swap("lock", ~i & 1) == (i & 1));
        EXPECT(mosix_in_cluster(2) == 1 && mosix_in_cluster(9) == 0);
        EXPECT(mosix_read("sender_pid") == -1 && errno == ENODATA);
        EXPECT(mosix_checkpoint_file(i & 1 ? "a.5" : "b.7") == 0 && mosix_read("checkpoint") == (i & 1 ? 5 : 7));
        if (i % 10 == 0 && mosix_write("migrate", i / 10 % 4))
            EXPECT(errno == EAGAIN); /* another move was under way */
        usleep(3000);
    }
    puts(mosix_read("nmigs") > 5 ? "PASS" : "FAIL: it was not moved");
    return 0;
}
"""


def test_in_motion(nodes: Lab, tmp_path: Path) -> None:
    source, binary = tmp_path / "motion.c", tmp_path / "motion"
    source.write_text(IN_MOTION)
    subprocess.run(["gcc", "-D_GNU_SOURCE", "-Wall", "-Werror", f"-I{SOURCE}/include", source, "-o", binary], check=True)
    done = nodes.storm("mosrun", str(binary), every=0.05)
    assert (done.returncode, done.stdout, done.stderr) == (0, "PASS\n", "")


@pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")
def test_the_header_works_in_cxx(tmp_path: Path) -> None:
    source = tmp_path / "x.cc"
    source.write_text('#include <mosix.h>\nint main() { return mosix_read("nmigs") == -1 && errno == ENOENT ? 0 : 1; }\n')
    binary = tmp_path / "x"
    subprocess.run(["g++", "-Wall", "-Wextra", "-Werror", f"-I{SOURCE}/include", source, "-o", binary], check=True)
    assert subprocess.run([binary], check=False).returncode == 0
