"""mosctl doctor on nodes that are really broken: what it says of each, a line each, and its exit status."""

from __future__ import annotations

import json
import os
import resource
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mosfs.tools import netns
from mosfs.tools.doctor import ERROR, OK, WARNING
from mosfs.tools.options import UserError
from tests import cluster
from tests.cluster import Lab, kill_node, wait_until

pytestmark = [pytest.mark.long, pytest.mark.root, pytest.mark.timeout(600)]
SECONDS = 60.0
Problem = tuple[str, str, str]
#: A clock that is a year behind, for whoever is started with it.
A_YEAR_OFF = """
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t id, struct timespec *now)
{
    long result = syscall(SYS_clock_gettime, id, now);
    if (result == 0 && id == CLOCK_REALTIME)
        now->tv_sec -= 366 * 86400;
    return result;
}
"""


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with cluster.lab(tmp_path_factory.mktemp("doctor"), 3) as running:
        for node in running.plan.nodes():
            wait_until(lambda ip=node.ip: running.tree(1).read(f"nodes/{ip}/status") == "alive", SECONDS)
        yield running


def examined(nodes: Lab, number: int, *before: str, env: dict[str, str] | None = None) -> tuple[list[Problem], int]:
    """What is found on a node, good and bad, and the exit status; ``before``: words before the command."""
    words, environ = nodes.placed(number, [*before, "mosctl", "doctor", "--json"])
    done = subprocess.run(words, env={**environ, **(env or {})}, capture_output=True, text=True, check=False, timeout=120)
    said = json.loads(done.stdout)
    assert (done.stderr, said["ok"]) == ("", done.returncode == 0)
    return [(found["level"], found["subject"], found["text"]) for found in said["findings"]], done.returncode


def problems(nodes: Lab, number: int, *before: str, env: dict[str, str] | None = None) -> tuple[set[Problem], int]:
    """Only what is wrong, without what this machine is told whatever its nodes do."""
    found, status = examined(nodes, number, *before, env=env)
    return {problem for problem in found if problem[0] != OK and problem[1] not in ("kernel", "clock", "limits")}, status


def subjects(found: set[Problem]) -> set[tuple[str, str]]:
    return {problem[:2] for problem in found}


def text_of(found: set[Problem], subject: str) -> str:
    return "\n".join(sorted(text for _, each, text in found if each == subject))


@contextmanager
def changed(file: str, text: str | None = None, mode: int | None = None) -> Iterator[None]:
    """A file of a node with another text or mode, for a while."""
    path = Path(file)
    before, had = path.read_text(), path.stat().st_mode
    try:
        if text is not None:
            path.write_text(text)
        if mode is not None:
            path.chmod(mode)
        yield
    finally:
        path.write_text(before)
        path.chmod(had)


def test_a_good_node(nodes: Lab) -> None:
    """All that is looked at is told; and as text a line each."""
    found, status = examined(nodes, 1)
    assert status == 0 and not [problem for problem in found if problem[0] == ERROR]
    assert {subject for _, subject, _ in found} == {
        "configuration", "secret", "kernel", "fuse", "mosd", "address", "port", "space", "clock", "limits", "nodes", "keys"}
    wait_until(lambda: text_of(set(examined(nodes, 1)[0]), "nodes") == "2 of 2 other nodes are up", SECONDS)
    lines = nodes.run(1, "mosctl", "doctor").stdout.splitlines()
    assert len(lines) == len(found) and all(line.split(":")[0] in (OK, WARNING) for line in lines)


def test_a_secret_that_others_can_read(nodes: Lab) -> None:
    with changed(nodes.node(1).paths.secret, mode=0o644):
        found, status = problems(nodes, 1)
    assert status == 1 and {(ERROR, "configuration"), (ERROR, "secret")} <= subjects(found)
    assert "others" in text_of(found, "secret") or "mode" in text_of(found, "secret")
    found, status = problems(nodes, 1)
    assert status == 0 and not {"configuration", "secret"} & {subject for _, subject in subjects(found)}


def test_a_wrong_line_and_a_map_without_this_node(nodes: Lab) -> None:
    paths = nodes.node(2).paths
    with changed(paths.speed, "fast\n"):
        found, status = problems(nodes, 2)
        assert status == 1 and f"{paths.speed}" in text_of(found, "configuration") and "fast" in text_of(found, "configuration")
    with changed(paths.mosix_map, "203.0.113.1 3 p\n"):
        found, status = problems(nodes, 2)
        assert status == 1 and (ERROR, "configuration") in subjects(found)
    with changed(paths.mosip, "203.0.113.1\n"), changed(paths.mosix_map, "203.0.113.1 3 p\n"):
        found, status = problems(nodes, 2)
        assert status == 1 and "203.0.113.1" in text_of(found, "address") + text_of(found, "configuration")


def test_another_secret(nodes: Lab) -> None:
    """Both sides are told: that messages with another key come, and that the other one is not up."""
    node = nodes.node(3)
    with changed(node.paths.secret, "the secret of somebody else\n"):
        nodes.run(3, "mossetpe", "-A")
        for number, other in ((1, node.ip), (3, nodes.node(1).ip)):
            def cut_off(number: int = number, other: str = other) -> bool:
                found, status = problems(nodes, number)
                return status == 0 and "another secret" in text_of(found, "keys") and other in text_of(found, "nodes")

            wait_until(cut_off, SECONDS)
    nodes.run(3, "mossetpe", "-A")
    wait_until(lambda: nodes.tree(1).read(f"nodes/{node.ip}/status") == "alive", SECONDS)


def test_a_node_that_is_down(nodes: Lab) -> None:
    """Seen from another one, and from itself: not running, killed, and its port taken by somebody else."""
    node = nodes.node(3)
    kill_node(nodes, 3)
    wait_until(lambda: f"dead: {node.ip}" in text_of(problems(nodes, 1)[0], "nodes"), SECONDS)
    assert problems(nodes, 1)[1] == 0, "others work without it"
    found, status = problems(nodes, 3)
    assert status == 1 and "it is not running" in text_of(found, "mosd")
    with socket.socket() as taken:
        taken.bind((node.ip, int(os.environ.get("MOSIX_PORT_MIGRATE", "253"))))
        taken.listen(1)
        found, status = problems(nodes, 3)
        assert "another program has it, so mosd cannot start" in text_of(found, "port") and status == 1
    nodes.start_mosd(3)
    nodes.kill_mosd(3)
    found, status = problems(nodes, 3)
    assert status == 1 and "it was killed" in text_of(found, "mosd")
    nodes.start_mosd(3)
    wait_until(lambda: nodes.tree(1).read(f"nodes/{node.ip}/status") == "alive", SECONDS)
    assert problems(nodes, 3)[1] == 0


def test_a_directory_that_is_full(nodes: Lab) -> None:
    paths = nodes.node(2).paths
    assert paths.private not in text_of(problems(nodes, 2)[0], "space")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", paths.private], check=True)
    try:
        Path(paths.private, "full").write_bytes(bytes(4 << 20))
        found, status = problems(nodes, 2)
    finally:
        subprocess.run(["umount", paths.private], check=True)
    assert status == 0 and f"{paths.private}: 0 MB free of 4 MB, for private files" in text_of(found, "space")


def test_no_fuse(nodes: Lab) -> None:
    """What is at /dev/fuse is another device; so it is in a container that was not given it."""
    found, status = problems(nodes, 1, "unshare", "-m", "sh", "-c", 'mount --bind /dev/null /dev/fuse && exec "$@"', "sh")
    assert status == 1 and text_of(found, "fuse").startswith("there is no /dev/fuse")


def test_few_descriptors(nodes: Lab) -> None:
    pid = nodes.mosd(2)
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (1024, hard))
    try:
        found, status = examined(nodes, 2)
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
    assert status == 0 and "may have 1024 descriptors only" in text_of(set(found), "limits")


def test_a_clock_that_is_a_year_off(nodes: Lab, tmp_path: Path) -> None:
    """The command is told another time, as that of a machine whose battery is empty."""
    shim = tmp_path / "clock.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", shim, "-x", "c", "-"], input=A_YEAR_OFF, text=True, check=True)
    found, status = examined(nodes, 1, env={"LD_PRELOAD": str(shim)})
    (said,) = [problem for problem in found if problem[1] == "clock"]
    assert status == 1 and said[0] == ERROR and "but mosfs was built on" in said[2]


def test_two_machines_with_one_address(nodes: Lab, tmp_path: Path) -> None:
    """Two network name spaces on one bridge, in which a command of node 1 has the address of another machine."""
    ip, spaces = "10.79.0.1", {str(tmp_path / name): "10.79.0.1" for name in ("one", "two")}
    bridge = str(tmp_path / "bridge")
    root = tmp_path / "root"
    etc = root / "etc/mosix"
    etc.mkdir(parents=True)
    for name, text in (("mosix.map", f"{ip} 2 p\n"), ("mosip", f"{ip}\n"), ("secret", "of two machines\n")):
        (etc / name).write_text(text)
        (etc / name).chmod(0o600)
    try:
        try:
            netns.make(bridge, spaces)
        except UserError as error:
            pytest.skip(str(error))
        enter = ["nsenter", f"--net={tmp_path / 'one'}"]
        found, status = problems(nodes, 1, *enter, env={"MOSIX_ROOT": str(root)})
        assert status == 1 and text_of(found, "address").startswith("another machine (") and ip in text_of(found, "address")
        subprocess.run(["nsenter", f"--net={tmp_path / 'two'}", "ip", "link", "set", "eth0", "down"], check=True)
        found, status = problems(nodes, 1, *enter, env={"MOSIX_ROOT": str(root)})
        assert text_of(found, "address") == "" and status == 1, "mosd does not run there"
    finally:
        for file in (bridge, *spaces):
            subprocess.run(["umount", file], check=False, capture_output=True)
