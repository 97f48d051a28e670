"""Attackers at the launcher's door: nothing is traced but the very process that asked, with its user's rights."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mosfs.trace.caller import APART, OTHER_RIGHTS
from mosfs.trace.proc import tracer_of
from tests import cluster
from tests.cluster import Lab, as_user, wait_until

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="plays other users")]

ATTACKER, VICTIM = 64001, 64002
USER = as_user(ATTACKER)

#: What all attackers begin with: a connection to mosd that belongs to this process.
CONNECT = """
import ctypes, os, socket, sys, time
def connect():
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.connect(os.environ["MOSIX_ROOT"].rstrip("/") + "/run/mosd/sock")
    os.set_inheritable(sock.fileno(), True)
    sock.settimeout(60)
    return sock
def ask(sock, text=b"RUN\\0unsupported=1"):
    try:
        sock.send(text)
        return sock.recv(65536)
    except OSError as error:
        return repr(error).encode()
"""

#: A set-user-ID program that says whose rights it has, who traces it, and lives while its input is open.
WHO = r"""
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>
int main(int argc, char **argv)
{
    char line[256], c;
    if (argc > 1 && !strcmp(argv[1], "open"))
        prctl(PR_SET_DUMPABLE, 1);
    FILE *status = fopen("/proc/self/status", "r");
    while (fgets(line, sizeof line, status))
        if (!strncmp(line, "Uid:", 4) || !strncmp(line, "Gid:", 4) || !strncmp(line, "CapPrm:", 7))
            fputs(line, stdout);
    fflush(stdout);
    if (argc > 1)
        while (read(0, &c, 1) > 0)
            ;
    return 0;
}
"""


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with cluster.lab(tmp_path_factory.mktemp("t5"), 2) as running:
        yield running


@pytest.fixture(scope="module")
def files() -> Iterator[Path]:
    """A folder that others may enter, with programs of other rights: their names say which."""
    folder = Path(f"/var/tmp/mosfs-callers-{os.getpid()}")
    folder.mkdir(mode=0o755)
    try:
        (folder / "who.c").write_text(WHO)
        subprocess.run(["cc", "-o", folder / "plain", folder / "who.c"], check=True)
        for name, mode, group in (("setuid", 0o4755, 0), ("setgid", 0o2755, VICTIM), ("unreadable", 0o711, 0)):
            shutil.copy(folder / "plain", folder / name)
            os.chown(folder / name, 0, group)
            (folder / name).chmod(mode)
        shutil.copy(folder / "plain", folder / "capable")
        # version 2, effective, CAP_SYS_ADMIN (capability.h, vfs_cap_data)
        os.setxattr(folder / "capable", "security.capability", bytes.fromhex("0100000200002000") + bytes(12))
        yield folder
    finally:
        shutil.rmtree(folder)


def attack(nodes: Lab, script: str, *argv: str, **options: object) -> subprocess.Popen[bytes]:
    program = CONNECT + textwrap.dedent(script)
    return nodes.start(1, *USER, sys.executable, "-IS", "-c", program, *argv, stdin=-1, stdout=-1, stderr=-1, **options)


def rights(text: str) -> list[list[str]]:
    return [line.split()[1:] for line in text.splitlines()]


OWN = [[str(ATTACKER)] * 4, [str(ATTACKER)] * 4, ["0" * 16]]


@pytest.mark.parametrize("name", ["setuid", "setgid", "capable", "plain"])
@pytest.mark.parametrize("where", ["-h", "-2"])
def test_given_to_mosrun(nodes: Lab, files: Path, name: str, where: str) -> None:
    """It runs without the rights that its file would give, natively it has them."""
    with_rights = subprocess.run([*USER, files / name], capture_output=True, text=True, check=True)
    assert (rights(with_rights.stdout) == OWN) == (name == "plain")
    done = nodes.run(1, *USER, "mosrun", where, "-e", str(files / name))
    assert (done.returncode, done.stderr, rights(done.stdout)) == (0, "", OWN)


def test_inside_a_users_tree(nodes: Lab, files: Path) -> None:
    """By exec, by a script's interpreter and by another mosrun."""
    script = files / "script"
    script.write_text(f"#!{files}/setuid\n")
    script.chmod(0o755)
    commands = f"{files}/setuid; {script}; mosrun -e {files}/setuid"
    done = nodes.run(1, *USER, "mosrun", "-h", "sh", "-c", commands)
    assert done.stderr == "" and rights(done.stdout) == OWN * 3
    assert rights(nodes.run(1, *USER, "mosrun", "-h", str(script)).stdout) == OWN


def test_inside_roots_tree(nodes: Lab, files: Path) -> None:
    """There it keeps its rights, so what its user has asked for does not hold for it: natively and never moved."""
    trace = f"{files}/trace"
    Path(trace).write_text("")
    os.chown(trace, ATTACKER, ATTACKER)
    inner = " ".join([*USER, "mosrun", "-L", f"--trace={trace}", f"{files}/setuid", "wait"])
    process = nodes.start(1, "mosrun", "-h", "sh", "-c", f"{inner}; true", stdin=-1, stdout=-1)
    assert process.stdin and process.stdout
    ids = [process.stdout.readline().split()[1:] for _ in range(3)]
    assert ids[0] == [str(ATTACKER).encode(), b"0", b"0", b"0"]
    (pid,) = subprocess.run(
        ["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True
    ).stdout.split()
    done = nodes.run(1, "mosmigrate", pid, "2")
    assert done.returncode == 1 and APART in done.stderr
    assert nodes.process(int(pid)).nmigs == 0
    process.stdin.close()
    assert process.wait() == 0
    assert Path(trace).read_text() == ""


def test_a_program_that_may_not_be_read(nodes: Lab, files: Path) -> None:
    """It runs, but its memory goes nowhere."""
    process = nodes.start(1, *USER, "mosrun", "-h", str(files / "unreadable"), "wait", stdin=-1, stdout=-1)
    assert process.stdin and process.stdout and process.stdout.readline().startswith(b"Uid:")
    done = nodes.run(1, *USER, "mosmigrate", str(process.pid), "2")
    assert done.returncode == 1 and APART in done.stderr
    process.stdin.close()
    assert process.wait() == 0


@pytest.mark.parametrize(("name", "how"), [
    *((name, "wait") for name in ("setuid", "setgid", "capable", "unreadable")), ("setuid", "open"), ("capable", "open"),
])
def test_another_program_over_the_same_number(nodes: Lab, files: Path, name: str, how: str) -> None:
    """It connects, becomes a program with rights, and its child asks in its name; "open": that says that it may be traced, by
    who has its rights."""
    process = attack(nodes, """
        sock = connect()
        parent = os.getpid()
        if not os.fork():
            while not open(f"/proc/{parent}/comm").read().startswith(sys.argv[2]):
                time.sleep(0.01)
            while sys.argv[3] == "open" and os.stat(f"/proc/{parent}/auxv").st_uid != os.stat(f"/proc/{parent}").st_uid:
                time.sleep(0.01)
            answer = ask(sock)
            os.write(2, answer + b"\\n")
            os._exit(0)
        os.execv(sys.argv[1], [sys.argv[1], sys.argv[3]])
    """, str(files / name), name[:15], how)
    assert process.stderr and process.stdin
    assert OTHER_RIGHTS in process.stderr.readline().decode()
    assert tracer_of(process.pid) == 0
    process.stdin.close()
    assert process.wait() == 0


def test_a_number_that_belongs_to_somebody_else(nodes: Lab) -> None:
    """The asker ends, its connection lives in a child, and another user's process gets its number."""
    process = attack(nodes, """
        sock = connect()
        if not os.fork():
            while os.getppid() != 1 and sys.stdin.readline() != "go\\n":
                pass
            answer = ask(sock)
            os.write(2, answer + b"\\n")
            os._exit(0)
    """)
    assert process.wait() == 0 and process.stdin and process.stderr
    victim = _with_number(process.pid)
    try:
        process.stdin.write(b"go\n")
        process.stdin.close()
        assert b"OK" not in process.stderr.readline()
        assert tracer_of(victim.pid) == 0 and victim.poll() is None
    finally:
        victim.kill()
        victim.wait()


def test_inside_the_tree_a_number_of_somebody_else(nodes: Lab, files: Path) -> None:
    """As above, but the number now is a program's of another user's tree: that keeps its settings."""
    process = attack(nodes, """
        sock = connect()
        if not os.fork():
            sys.stdin.readline()
            os.write(2, ask(sock, b"RUN\\0lock=1") + b"\\n")
            os._exit(0)
    """)
    assert process.wait() == 0 and process.stdin and process.stderr
    victim = _with_number(process.pid, lambda: nodes.start(1, "mosrun", "-h", "sleep", "60"))
    try:
        wait_until(lambda: tracer_of(victim.pid))
        wait_until(lambda: Path(f"/proc/{victim.pid}/comm").read_text() == "sleep\n")
        process.stdin.write(b"go\n")
        process.stdin.close()
        assert b"OK" not in process.stderr.readline()
    finally:
        victim.kill()
        victim.wait()


def test_the_connection_of_another(nodes: Lab) -> None:
    """Whoever holds a connection can only have its owner traced: a child's request is no way to another process."""
    process = attack(nodes, """
        sock = connect()
        if not os.fork():
            os.write(2, ask(sock) + b" " + open("/proc/self/status").read().partition("TracerPid:")[2].split()[0].encode() + b"\\n")
            os._exit(0)
        sys.stdin.read()
    """)
    assert process.stderr and process.stdin
    assert process.stderr.readline() == b"OK 0\n"
    assert tracer_of(process.pid)
    process.kill()
    process.wait()


def test_programs_of_a_dead_tracer(nodes: Lab, files: Path) -> None:
    """Another tracer takes what is still the same; it gives no rights either."""
    process = nodes.start(1, *USER, "mosrun", "-h", "sh", "-c", f"read x; {files}/setuid", stdin=-1, stdout=-1)
    assert process.stdin and process.stdout
    wait_until(lambda: Path(f"/proc/{process.pid}/comm").read_text() == "sh\n")
    wait_until(lambda: nodes.run(1, "mosps", "--json", str(process.pid)).stdout.count('"here"'))
    first = tracer_of(process.pid)
    os.kill(first, 9)
    wait_until(lambda: tracer_of(process.pid) not in (0, first)), nodes.logs()
    process.stdin.write(b"\n")
    process.stdin.close()
    assert rights(process.stdout.read().decode()) == OWN
    assert process.wait() == 0


def _sleep() -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "60"], user=VICTIM, group=VICTIM, extra_groups=())


def _with_number(pid: int, start: Callable[[], subprocess.Popen[bytes]] = _sleep) -> subprocess.Popen[bytes]:
    """A process of another user that has this number, which is free."""
    last = Path("/proc/sys/kernel/ns_last_pid")
    for _ in range(200):
        last.write_text(str(pid - 1))
        process = start()
        if process.pid == pid:
            return process
        process.kill()
        process.wait()
    pytest.skip("its number was not to be had")
