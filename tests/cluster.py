"""A live cluster for a test: nodes with daemons and mounts of their own, and a look at the end whether anything stayed.

    with cluster.lab(tmp_path, 3) as nodes:
        done = nodes.run(1, "mosrun", "-2", "echo", "hello")

Not a conftest: what needs a cluster says so by importing it.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from enum import IntEnum
from pathlib import Path
from typing import Any, TypeVar

import pytest

import mosfs
from mosfs.tools import install_launchers
from mosfs.tools import lab as labs
from mosfs.tools.mosrun import first_environment
from mosfs.tools.tree import Process, Tree
from tests.patience import Patience

T = TypeVar("T")

SOURCE = os.path.dirname(os.path.dirname(os.path.abspath(mosfs.__file__)))
MOSLAB = [
    sys.executable, "-c",
    f"import sys; sys.path.insert(0, {SOURCE!r}); from mosfs.tools.moslab import main; sys.exit(main())",
]
TIMEOUT = 30.0


def _reachable(path: str) -> bool:
    """May every user come to what is below ``path``?"""
    return all(os.stat(folder).st_mode & 0o001 for folder in (path, *map(str, Path(path).parents)))


#: Tests that run our commands as another user.
others = pytest.mark.skipif(not _reachable(SOURCE), reason="other users may not enter the folder that this copy of mosfs is in")

#: So many labs may be up in one process.
BLOCKS = 5
#: The blocks of this process's labs, and those whose labs are up: some are up for a whole module, beside others that come and go.
_blocks, _taken = itertools.cycle(range(BLOCKS)), set[str]()


def wait_until(condition: Callable[[], T], timeout: float = TIMEOUT) -> T:
    """The first true value of ``condition``; AssertionError when there is none within ``timeout`` seconds (`patience`)."""
    patience = Patience(timeout)
    while not (value := condition()):
        assert not patience.over(), f"not within {timeout} s: {condition}"
        time.sleep(0.01)
    return value


def as_user(uid: int) -> tuple[str, ...]:
    """What stands before a command of this user, who is in no group but one of the same number."""
    return ("setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups")


def own_block() -> str:
    """The address of node 1 of a lab: a block that no other test process and no other lab of this one has."""
    pid = os.getpid()
    bases = (f"127.{16 + pid // 250 % 230}.{1 + pid % 250}.{1 + block * 50}" for block in itertools.islice(_blocks, BLOCKS))
    return next(base for base in bases if base not in _taken)


def placed(node: labs.Node, command: Sequence[str], environ: Mapping[str, str]) -> tuple[Sequence[str], Mapping[str, str]]:
    """What to start, and with which environment, to run a command as on ``node``.

    It is what ``moslab run`` becomes (`t5_commands.py` tests that), without a Python that starts for it, which
    takes longer than most of what tests run. A network or control group is entered by moslab itself.
    """
    if node.namespace or node.groups:
        return [*MOSLAB, "run", str(node.number), *command], environ
    given = dict(environ)
    if b"LC_CTYPE" not in first_environment():
        given.pop("LC_CTYPE", None)
    return command, labs.environment(node, given)


@dataclass(frozen=True)
class Lab:
    """A running lab. Nodes are numbered from 1."""

    plan: labs.Plan
    environ: Mapping[str, str]
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def moslab(self, *argv: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run moslab for this lab to its end; stdout and stderr as text. ``options`` are those of subprocess.run."""
        given: dict[str, Any] = {"capture_output": True, "text": True, "check": False, "timeout": 120, **options}
        return subprocess.run([*MOSLAB, *argv], env=self.environ, **given)

    def placed(self, number: int, command: Sequence[str]) -> tuple[Sequence[str], Mapping[str, str]]:
        """What to start, and with which environment, to run a command as on node ``number``."""
        return placed(self.node(number), command, self.environ)

    def run(self, number: int, *command: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command as on node ``number`` to its end."""
        words, environ = self.placed(number, command)
        given: dict[str, Any] = {"capture_output": True, "text": True, "check": False, "timeout": 120, **options}
        return subprocess.run(words, env=environ, **given)

    def start(self, number: int, *command: str, **options: Any) -> subprocess.Popen[bytes]:
        """Start a command as on node ``number``; its PID is the Popen's. What runs when the lab ends is killed."""
        return self._start(*self.placed(number, command), **options)

    def start_moslab(self, *argv: str, **options: Any) -> subprocess.Popen[bytes]:
        """Start moslab itself, for a storm."""
        return self._start([*MOSLAB, *argv], self.environ, **options)

    def _start(self, words: Sequence[str], environ: Mapping[str, str], **options: Any) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(words, env=environ, **options)
        self.started.append(process)
        return process

    def reap(self) -> None:
        for process in self.started:
            process.kill()
            for pipe in (process.stdin, process.stdout, process.stderr):
                with suppress(OSError):  # what was written last finds nobody
                    if pipe:
                        pipe.close()
            process.wait()

    def storm(self, *command: str, every: float = 0.2, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command as on node 1 in a storm of moves."""
        return self.moslab("storm", "--every", str(every), "--", *command, **options)

    def node(self, number: int) -> labs.Node:
        return self.plan.node(number)

    def tree(self, number: int) -> Tree:
        return Tree(self.node(number).paths)

    def process(self, pid: int, number: int = 1) -> Process:
        """The MOSIX process ``pid`` of node ``number``, as soon as there is one that has started."""
        def started() -> Process | None:
            found = self.tree(number).process(pid)
            return found if found and found.state != "starting" else None

        found = wait_until(started)
        assert found
        return found

    def mosd(self, number: int) -> int:
        """PID of the node's mosd."""
        return int(Path(self.node(number).paths.pid).read_text())

    def kill_mosd(self, number: int) -> None:
        """kill -9; returns when it is gone."""
        pidfd = os.pidfd_open(self.mosd(number))
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        labs._still({pidfd}, TIMEOUT)
        os.close(pidfd)

    def start_mosd(self, number: int) -> None:
        """Start it (again) and wait until it answers."""
        node = self.node(number)
        with labs.start(node) as process:  # goes to the background
            process.wait()
        wait_until(lambda: labs.answers(node))

    def logs(self) -> str:
        texts = []
        for node in self.plan.nodes():
            with suppress(OSError):
                text = Path(node.paths.log).read_text(errors="replace")
                texts.append(f"--- node {node.number} ({node.ip})\n{text}")
        return "\n".join(texts)


def kill_node(nodes: Lab, number: int) -> None:
    """kill -9 for all daemons of a node, and for the bodies and the programs that they held: as when its power fails."""
    held = labs.daemons(nodes.plan, lambda node: node.number == number)
    labs.end(lambda: held & labs.daemons(nodes.plan) | labs.traced_by(held), (signal.SIGKILL,), TIMEOUT)
    labs.unmount(nodes.node(number).paths.mount)


@contextmanager
def lab(
    tmp_path: Path, count: int, *, netns: bool = False, balance: bool = False, cpus: Sequence[float] = (),
    memory: Sequence[float] = (), clusters: Sequence[int] = (),
) -> Iterator[Lab]:
    """A lab of ``count`` nodes; ``cpus``, ``memory``: processors and megabytes that each may use; ``clusters``: how many of
    them are in each cluster. At the end it is taken down, and
    whatever is left then is a failure.

    When the test fails, the logs of all nodes go to its output and to ``tmp_path``/logs. The lab lives elsewhere: in a
    folder with a short name (for its sockets) that other users can enter.
    """
    with tempfile.TemporaryDirectory(prefix="mosfs-", dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        scripts = folder / "bin"
        scripts.mkdir()
        install_launchers.install(str(scripts))
        plan = labs.Plan.make(str(folder / "lab"), count, own_block(), netns, balance)
        plan = replace(plan, cpus=cpus, memory=memory, clusters=clusters).limited()
        environ = {**os.environ, "MOSLAB_ROOT": plan.root, "PATH": f"{scripts}:{os.environ['PATH']}"}
        labs.up(plan)
        running = Lab(plan, environ)
        _taken.add(plan.base)
        try:
            yield running
        except BaseException:
            print(running.logs())
            (tmp_path / "logs").write_text(running.logs())
            raise
        finally:
            logs = running.logs()
            running.reap()
            labs.down(plan.root)
            _taken.discard(plan.base)
            left = leftovers(plan)
            for pid in left.processes:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        assert not left, f"{left}\n{logs}"


def failing_name(point: IntEnum, action: str) -> str:
    """The name of a program that fails at ``point`` in a lab of `failing_lab`."""
    return f"at{point}{action}"


@contextmanager
def failing_lab(tmp_path: Path, count: int, points: Iterable[IntEnum], actions: Sequence[str]) -> Iterator[Lab]:
    """A lab in which each point fails in each way (MOSIX_FAULT) for programs of a name of their own, and for no other."""
    faults = ",".join(f"{point}:{action}:{failing_name(point, action)}" for point in points for action in actions)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOSIX_FAULT", faults)
        with lab(tmp_path, count) as running:
            yield running


@dataclass(frozen=True)
class Leftovers:
    """What a lab left behind: nothing, if it is good."""

    processes: dict[int, str]
    mounts: list[str]
    files: list[str]

    def __bool__(self) -> bool:
        return bool(self.processes or self.mounts or self.files)


def leftovers(plan: labs.Plan) -> Leftovers:
    """Processes that name the lab's roots in their environment, mounts below it, and its files."""
    mark = f"MOSIX_ROOT={plan.root}/".encode()
    processes = {}
    for pid in labs.all_pids():
        if pid != os.getpid() and any(word.startswith(mark) for word in labs._nul_list(pid, "environ")):
            processes[pid] = b" ".join(labs._nul_list(pid, "cmdline")).decode(errors="replace")
    return Leftovers(processes, labs.mounts(plan.root), [str(path) for path in Path(plan.root).rglob("*")])
