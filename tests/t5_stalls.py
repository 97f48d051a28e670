"""Programs whose memory lies in a file system of their own that never answers: they hold up no tracer for long (security.md)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mosfs.abi.reasons import Reason
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
def mounted(folder: Path, uid: int, question: int, late: int = 0) -> Iterator[str]:
    """A file system of that user, with a file, that never answers that question, or so many seconds late."""
    folder.mkdir()
    command = (sys.executable, "-m", "tests.silent", str(folder), str(uid), str(question), str(-late))
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


def test_a_tree_goes_on_when_its_memory_comes_by_drops(nodes: Lab, attacker: str) -> None:
    """Each answer comes before anybody would be helped who has none; and there is another question behind it."""
    with mounted(Path(nodes.plan.root).parent / "drips", USER, silent.READ, late=20) as file:
        done = nodes.run(1, "mosrun", "-h", "sh", "-c", SCRIPT, "sh", attacker, "drip", file, timeout=120)
    assert done.stdout.endswith("status 137\n"), done
    assert f"of user {USER}, which owes" in Path(nodes.node(1).paths.log).read_text()


def test_a_program_in_a_call_that_nothing_interrupts_is_not_killed_by_a_move(nodes: Lab, tmp_path: Path) -> None:
    """It stays where it is, and can be moved when the call has ended."""
    with mounted(tmp_path / "folder", 0, silent.READ) as file:
        script = f"dd if={file} of=/dev/null bs=4096 count=1 2> /dev/null; echo $?; read line; echo $line"
        process = nodes.start(1, "mosrun", "-2", "sh", "-c", script, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        wait_until(lambda: len(nodes.tree(1).pids("proc")) == 2)
        [pid] = set(nodes.tree(1).pids("proc")) - {process.pid}
        wait_until(lambda: nodes.tree(1).read(f"proc/{pid}/where") == "2")
        wait_until(lambda: Path(f"/proc/{pid}/syscall").read_text().startswith("0 "))  # its deputy reads
        said = nodes.run(1, "mosmigrate", str(pid), "home", timeout=60).stderr
        assert Reason.CALL_RUNS in said
        assert nodes.tree(1).read(f"proc/{pid}/where") == "2"
    assert process.stdout is not None and process.stdout.readline() == "1\n"  # the file system has ended, and the program has not
    assert nodes.run(1, "mosmigrate", str(process.pid), "home", timeout=60).stderr == ""
    assert process.communicate("on\n")[0] == "on\n"
