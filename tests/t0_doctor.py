"""mosctl doctor: every judgement over broken states, and a whole node of files, sockets and a tree made by hand."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from mosfs.cluster.errors import ConfigError
from mosfs.cluster.paths import NodePaths, Ports
from mosfs.tools import arp, doctor, mosctl
from mosfs.tools.doctor import ERROR, OK, WARNING, Finding, Peer
from mosfs.tools.tree import Tree

ME, OTHER = "127.0.0.1", "127.0.0.2"
SECRET = "/etc/mosix/secret"


def levels(findings: Iterator[Finding]) -> list[str]:
    return [finding.level for finding in findings]


# --------------------------------------------------------------------------- judgements


@pytest.mark.parametrize(("text", "root", "expected"), [
    ("Permission denied", False, OK), ("Permission denied", True, ERROR), ("No such file or directory", False, ERROR),
])
def test_a_secret_that_others_cannot_read_is_no_fault(text: str, root: bool, expected: str) -> None:
    assert levels(doctor.of_configuration([ConfigError(SECRET, text)], SECRET, root)) == [expected]


@pytest.mark.parametrize(("mode", "owner", "expected"), [
    (0o100600, 0, OK), (0o100600, 7, OK), (0o100644, 0, ERROR), (0o100600, 8, ERROR), (0o040600, 0, ERROR),
])
def test_the_secret(mode: int, owner: int, expected: str) -> None:
    assert doctor.of_secret(mode, owner, 7, SECRET).level == expected


def test_the_address() -> None:
    assert doctor.of_address(ME, 3, True, "") == (OK, "address", f"{ME}, node 3")
    assert doctor.of_address(ME, None, False, "").level == ERROR
    assert doctor.of_address(ME, 3, True, "00:11:22:33:44:55").level == ERROR


def test_who_else_has_an_address() -> None:
    mine, other, ip = b"\0mine.", b"\0other", bytes([10, 0, 0, 1])
    said = arp.probe(mine, ip)
    assert arp.claims(said, mine, ip) == arp.claims(said, other, ip) == b"", "who asks does not say that it has it"
    answer = said[:20] + bytes([0, arp.REPLY]) + other + ip + said[32:]
    assert arp.claims(answer, mine, ip) == other and arp.claims(answer + bytes(18), mine, ip) == other
    assert arp.claims(answer, other, ip) == arp.claims(answer, mine, bytes(4)) == b""
    assert all(arp.claims(answer[:length], mine, ip) == b"" for length in range(len(answer)))
    assert arp.rival("127.0.0.1") == arp.rival("192.0.2.1") == "", "nobody else can have it; nobody has it"


@pytest.mark.parametrize(("device", "reason", "expected", "said"), [
    (None, 0, ERROR, "there is no"), ((1, 3), 0, ERROR, "there is no"), (doctor.FUSE, errno.ENODEV, ERROR, "not the module"),
    (doctor.FUSE, errno.EPERM, ERROR, "Operation not permitted"), (doctor.FUSE, 0, OK, "is there"),
])
def test_fuse(device: tuple[int, int] | None, reason: int, expected: str, said: str) -> None:
    found = doctor.of_fuse(device, reason)
    assert found.level == expected and said in found.text


def test_the_kernel() -> None:
    assert levels(doctor.of_kernel(None)) == [WARNING]
    assert levels(doctor.of_kernel([])) == [OK]
    assert list(doctor.of_kernel(["no guards"])) == [(WARNING, "kernel", "no guards")]


@pytest.mark.parametrize(("pid", "reason", "expected", "word"), [
    ("42", 0, OK, "PID 42"), ("", errno.ENOENT, ERROR, "not running"), ("", errno.ENOTCONN, ERROR, "was killed"),
])
def test_mosd(pid: str, reason: int, expected: str, word: str) -> None:
    found = doctor.of_mosd(pid, reason, "/run/mosix")
    assert found.level == expected and word in found.text


TABLE = """  sl  local_address rem_address   st
   0: {local} 00000000:0000 {state} 0
"""


@pytest.mark.parametrize(("local", "state", "expected"), [
    ("0100007F:00FD", "0A", True), ("00000000:00FD", "0A", True), ("0200007F:00FD", "0A", False), ("0100007F:00FC", "0A", False),
    ("0100007F:00FD", "01", False),
])
def test_tables_of_sockets(local: str, state: str, expected: bool) -> None:
    assert doctor.bound(TABLE.format(local=local, state=state), ME, 253, "0A") is expected
    assert not doctor.bound("", ME, 253, "0A")


def test_ports() -> None:
    one = TABLE.format(local="0100007F:00FD", state="0A")
    free, taken = doctor.of_ports(ME, Ports(), "", "", False), doctor.of_ports(ME, Ports(), one, "", False)
    assert levels(free) == [OK] and [(each.level, each.text[:7]) for each in taken] == [(ERROR, "TCP 253")]
    missing = [each.text[:7] for each in doctor.of_ports(ME, Ports(), one, "", True)]
    assert missing == ["TCP 252", "UDP 249"]


@pytest.mark.parametrize(("peers", "expected"), [
    ([], [(OK, "nodes")]), ([Peer(OTHER, "unknown", None)], [(WARNING, "nodes")]),
    ([Peer(OTHER, "alive", "0.4.1")], [(OK, "nodes")]),
    ([Peer(OTHER, "dead", "0.4.1")], [(WARNING, "nodes"), (WARNING, "nodes")]),
    ([Peer(OTHER, "alive", "0.4.2")], [(OK, "nodes"), (OK, "versions")]),
    ([Peer(OTHER, "blocked", "0.5.0")], [(OK, "nodes"), (ERROR, "versions")]),
])
def test_other_nodes(peers: list[Peer], expected: list[tuple[str, str]]) -> None:
    assert [finding[:2] for finding in doctor.of_peers(peers, "0.4.1")] == expected


def test_a_line_names_few_nodes() -> None:
    dead = [Peer(f"10.0.0.{number}", "dead", None) for number in range(1, 101)]
    assert [each.text for each in doctor.of_peers(dead, "0.4.1")][1].endswith("10.0.0.8 and 92 more")


def test_gossip() -> None:
    assert levels(doctor.of_gossip({"sent": 5, "lost": 2})) == [OK]
    assert levels(doctor.of_gossip({"forged": 5, "stranger": 1})) == [WARNING, WARNING]


@pytest.mark.parametrize(("free", "size", "reason", "expected"), [
    (50, 100, "", OK), (4, 100, "", WARNING), (0, 0, "No such file or directory", WARNING),
])
def test_space(free: int, size: int, reason: str, expected: str) -> None:
    assert doctor.of_space("private files", "/private", free, size, reason).level == expected


@pytest.mark.parametrize(("now", "synchronised", "expected"), [
    (2e9, True, OK), (2e9, False, WARNING), (2e9, None, WARNING), (2e9 - 366 * 86400, True, ERROR), (2e9 + 366 * 86400, True, OK),
])
def test_the_clock(now: float, synchronised: bool | None, expected: str) -> None:
    assert doctor.of_clock(now, 2e9, synchronised).level == expected
    assert doctor._synchronised() in (True, False, None)


@pytest.mark.parametrize(("files", "memory", "tasks", "expected"), [
    (None, None, None, [OK]), (1 << 20, 1 << 40, 1 << 20, [OK]), (1024, None, None, [WARNING]), (1024, 1 << 20, 100, [WARNING] * 3),
])
def test_limits(files: int | None, memory: int | None, tasks: int | None, expected: list[str]) -> None:
    assert levels(doctor.of_limits(files, memory, tasks)) == expected
    assert levels(doctor._limits(os.getpid()))[0] in (OK, WARNING)
    assert levels(doctor._limits(1 << 30)) == [OK], "nothing is known"


def test_only_errors_fail(capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = Finding(WARNING, "space", "little"), Finding(ERROR, "fuse", "none")
    assert (doctor.told([good], False), doctor.told([good, bad], False)) == (0, 1)
    assert capsys.readouterr().out.splitlines()[-1] == "error:   fuse: none"
    assert doctor.told([bad], True) == 1
    assert json.loads(capsys.readouterr().out) == {
        "ok": False, "findings": [{"level": "error", "subject": "fuse", "text": "none"}]}


# --------------------------------------------------------------------------- a whole node


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NodePaths:
    """A node that is configured well, whose mosd does not run."""
    monkeypatch.setattr(doctor, "kernel", list)
    for number, name in enumerate(("MIGRATE", "POST", "GOSSIP"), 1):  # ports that nobody uses
        monkeypatch.setenv(f"MOSIX_PORT_{name}", str(number))
    monkeypatch.setenv("MOSIX_ROOT", str(tmp_path))
    made = NodePaths(str(tmp_path))
    Path(made.etc).mkdir(parents=True)
    Path(made.mosix_map).write_text(f"{ME} 2\n")
    Path(made.mosip).write_text(f"{ME}\n")
    Path(made.secret).write_text("not to be guessed\n")
    os.chmod(made.secret, 0o600)
    (tmp_path / "freeze").mkdir()
    return made


@pytest.fixture
def ports(paths: NodePaths, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Sockets where those of the mosd of ``paths`` should be."""
    with contextlib.ExitStack() as stack:
        for name, kind in (("MIGRATE", socket.SOCK_STREAM), ("POST", socket.SOCK_STREAM), ("GOSSIP", socket.SOCK_DGRAM)):
            sock = stack.enter_context(socket.socket(socket.AF_INET, kind))
            sock.bind((ME, 0))
            if kind == socket.SOCK_STREAM:
                sock.listen(1)
            monkeypatch.setenv(f"MOSIX_PORT_{name}", str(sock.getsockname()[1]))
        yield


def found(paths: NodePaths) -> dict[str, Finding]:
    """The worst finding of each subject."""
    by_level = sorted(doctor.examine(Tree(paths)), key=lambda finding: (OK, WARNING, ERROR).index(finding.level))
    return {finding.subject: finding for finding in by_level}


def test_a_node_without_mosd_is_examined(paths: NodePaths) -> None:
    said = found(paths)
    assert {subject for subject, finding in said.items() if finding.level == ERROR} - {"fuse"} == {"mosd"}
    assert said.keys() == {"configuration", "secret", "kernel", "fuse", "mosd", "address", "port", "space", "clock"}
    os.chmod(paths.secret, 0o644)
    Path(paths.speed).write_text("fast\n")
    os.rmdir(os.path.join(paths.root, "freeze"))
    said = found(paths)
    assert (said["configuration"].level, said["secret"].level, said["space"].level) == (ERROR, ERROR, WARNING)
    Path(paths.mosip).write_text("203.0.113.7\n")
    Path(paths.mosix_map).write_text("203.0.113.7 1\n")
    assert found(paths)["address"].level == ERROR


def running(paths: NodePaths, other: str = "0.4.1") -> None:
    """Files as the tree of a mosd has them."""
    stats = {f"nodes/{ip}/stat": json.dumps({"status": "alive", "version": other}) for ip in (ME, OTHER)}
    files = {"node/pid": str(os.getpid()), "node/ip": ME, "node/version": "0.4.1", "node/gossip": '{"sent": 1}', **stats}
    for name, text in files.items():
        file = Path(paths.mount, name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")


@pytest.mark.usefixtures("ports")
def test_a_running_node_is_examined(paths: NodePaths) -> None:
    running(paths)
    said = found(paths)
    assert {subject for subject, finding in said.items() if finding.level != OK} <= {"fuse", "space", "clock", "limits"}
    running(paths, "0.3.0")
    Path(paths.mount, "node/gossip").write_text('{"forged": 9}\n')
    said = found(paths)
    assert (said["versions"].level, said["keys"].level) == (ERROR, WARNING)


@pytest.mark.usefixtures("ports")
def test_ports_of_another_program(paths: NodePaths) -> None:
    assert found(paths)["port"].level == ERROR


def test_the_command(paths: NodePaths, capsys: pytest.CaptureFixture[str]) -> None:
    assert mosctl.main(["doctor"]) == 1
    assert "mosd: it is not running" in capsys.readouterr().out
    assert mosctl.main(["doctor", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["ok"] is False
