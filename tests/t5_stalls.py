"""Programs whose memory lies in a file system of their own that never answers: they hold up no tracer for long (security.md)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import cluster, silent
from tests.cluster import Lab, wait_until
from tests.progs import CFLAGS, REPO, compile_c

pytestmark = [pytest.mark.root, cluster.others, pytest.mark.long, pytest.mark.timeout(180)]

USER, OTHER = 65533, 65532
#: What a tree of root does whose first program starts the attacker as a user, needs its tracer, and ends him.
SCRIPT = """
setpriv --reuid=65533 --regid=65533 --clear-groups "$@" &
sleep 1
true | cat
cat /proc/self/nmigs
kill -9 $!
wait $!
echo "status $?"
"""


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with cluster.lab(tmp_path_factory.mktemp("stalls"), 2) as running:
        yield running


@pytest.fixture(scope="module")
def attacker(nodes: Lab) -> str:
    binary = Path(nodes.plan.root).parent / "silent"
    compile_c(REPO / "tests" / "attacks" / "silent.c", binary, CFLAGS)
    binary.chmod(0o755)
    return str(binary)


@contextmanager
def mounted(folder: Path, uid: int, question: int) -> Iterator[str]:
    """A file system of that user, with a file, that never answers that question."""
    folder.mkdir()
    command = (sys.executable, "-m", "tests.silent", str(folder), str(uid), str(question))
    with subprocess.Popen(command, cwd=REPO, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdout and server.stdout.readline() == b"mounted\n"
        yield str(folder / "file")
        assert server.stdin
        server.stdin.close()


@pytest.mark.parametrize("owner", [USER, OTHER])
@pytest.mark.parametrize("way", ["path", "low"])
def test_a_tree_goes_on_when_its_memory_does_not_come(nodes: Lab, attacker: str, way: str, owner: int) -> None:
    """The tree of root has a program of a user in it; the rest goes on, and hears nothing of it. ``owner``: of the file system."""
    folder = Path(nodes.plan.root).parent / f"{way}{owner}"
    with mounted(folder, owner, silent.READ) as file, mounted(Path(f"{folder}-else"), 65531, silent.READ) as another:
        reader = subprocess.Popen(["cat", another])
        done = nodes.run(1, "mosrun", "-h", "sh", "-c", SCRIPT, "sh", attacker, way, file, timeout=120)
        assert done.stdout.endswith("status 137\n"), done
        assert reader.poll() is None, "the file system of somebody else was ended"
    assert reader.wait() != 0
    log = Path(nodes.node(1).paths.log)
    wait_until(lambda: f"of user {owner}, which owes" in log.read_text())
    assert "has been waiting in the kernel" in log.read_text()
    assert nodes.run(1, "mosrun", "-2", "echo", "on").stdout == "on\n"
