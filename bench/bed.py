"""What figures are measured on: a lab of two nodes of its own, the compiled helpers, and programs that run there."""

from __future__ import annotations

import os
import select
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mosfs.abi.outcomes import OK, UNDER_WAY
from mosfs.tools import install_launchers, lab
from mosfs.tools.tree import Tree
from mosfs.trace.filter import home_filter

SOURCES = Path(__file__).parent
HELPERS = ("loops", "timed", "pingpong", "spin", "mail", "flow", "floor")
CFLAGS = ("-O2", "-pthread", "-Wall", "-Wextra", "-Werror")
HOME = ("mosrun", "-h")
AWAY = ("mosrun", "-2")
WINDOW_MS = 400  #: of bench/spin.c
PATIENCE = 120.0  #: seconds after which something hangs


class BenchError(Exception):
    """A measurement that could not be made, in one line."""


@dataclass(frozen=True)
class Bed:
    """``environ``: of programs on node 1. ``folder``: for files."""

    environ: Mapping[str, str]
    tree: Tree
    folder: Path

    def helper(self, name: str) -> str:
        return str(self.folder / name)

    @property
    def floor(self) -> Sequence[str]:
        """In front of a command: the least tracer that sees what ours must see (bench/floor.c)."""
        return self.helper("floor"), self.helper("home_filter")

    def number(self, command: Sequence[str]) -> float:
        """What ``command`` prints. BenchError with its complaint if it fails."""
        done = subprocess.run(
            command, env=dict(self.environ), cwd=self.folder, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            check=False, timeout=PATIENCE,
        )
        if done.returncode or not done.stdout:
            complaint = (done.stderr or done.stdout).strip().splitlines()[-1:] or [f"status {done.returncode}"]
            raise BenchError(f"{' '.join(command)[:200]}: {complaint[0]}")
        return float(done.stdout)

    @contextmanager
    def spinning(
        self, megabytes: int, dirty: float, where: Sequence[str], pairs: int = 0, threads: int = 0
    ) -> Iterator[Spinner]:
        """bench/spin.c, running; it ends with the block."""
        command = [*where, self.helper("spin"), str(megabytes), str(dirty), str(WINDOW_MS), str(pairs), str(threads)]
        with subprocess.Popen(command, env=dict(self.environ), stdout=subprocess.PIPE, cwd=self.folder) as child:
            try:
                spinner = Spinner(child)
                spinner.gaps(1)
                yield spinner
            finally:
                child.kill()

    def moved_to(self, pid: int, target: str) -> float:
        """Seconds that a move of ``pid`` takes, from the wish to the outcome; BenchError if it fails."""
        try:
            before, _ = self.tree.outcome(f"proc/{pid}/move")
            began = time.perf_counter()
            self.tree.write(f"proc/{pid}/migrate", target)
            while True:
                number, outcome = self.tree.outcome(f"proc/{pid}/move")
                if number > before and outcome != UNDER_WAY:
                    break
                if time.perf_counter() - began > PATIENCE:
                    raise BenchError(f"move to {target}: still under way after {PATIENCE:.0f} s")
                time.sleep(0.0005)
        except OSError as error:
            raise BenchError(f"move to {target}: {error.strerror}") from error
        if outcome != OK:
            raise BenchError(f"move to {target}: {outcome}")
        return time.perf_counter() - began


@dataclass
class Spinner:
    """A running bench/spin.c."""

    child: subprocess.Popen[bytes]
    _rest: bytes = b""

    @property
    def pid(self) -> int:
        return self.child.pid

    def gaps(self, coming: int) -> list[float]:
        """Milliseconds of the largest gaps of all windows not asked for yet, and of the ``coming`` next ones."""
        found = self._lines(0)
        for _ in range(coming):
            found += self._lines(PATIENCE)
        return [int(line) / 1e6 for line in found]

    def _lines(self, timeout: float) -> list[bytes]:
        """The whole lines that are there, waited for if there is none. BenchError after ``timeout`` > 0 seconds."""
        assert self.child.stdout is not None
        while select.select([self.child.stdout], [], [], timeout)[0]:
            data = os.read(self.child.stdout.fileno(), 65536)
            if not data:
                raise BenchError("the program that spins has ended")
            *lines, self._rest = (self._rest + data).split(b"\n")
            if lines:
                return lines
        if timeout:
            raise BenchError("the program that spins is silent")
        return []


@contextmanager
def bed(nodes: int = 2, *, balance: bool = False) -> Iterator[Bed]:
    """A lab on addresses of its own and a folder with the helpers, both gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="mosfs-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        for helper in HELPERS:
            source = SOURCES / f"{helper}.c"
            subprocess.run(["gcc", *CFLAGS, str(source), "-o", str(folder / helper)], check=True)
        (folder / "home_filter").write_bytes(home_filter())
        scripts = folder / "bin"
        scripts.mkdir()
        install_launchers.install(str(scripts))
        pid = os.getpid()
        plan = lab.Plan.make(f"{name}/lab", nodes, f"127.{16 + pid // 250 % 230}.{1 + (pid + balance) % 250}.1", False, balance)
        lab.up(plan)
        try:
            node = plan.node(1)
            environ = lab.environment(node)
            environ["PATH"] = f"{scripts}:{environ['PATH']}"
            yield Bed(environ, Tree(node.paths), folder)
        finally:
            lab.down(plan.root)
