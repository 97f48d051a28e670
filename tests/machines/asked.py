"""One program under mosrun that does a step for each line it is given: where it is meanwhile is the test's choice."""

from __future__ import annotations

import os
import select
import subprocess
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from mosfs.abi.outcomes import OK, UNDER_WAY
from mosfs.tools import lab as labs
from mosfs.tools.tree import Process, Tree
from tests.cluster import placed, wait_until
from tests.patience import Patience, communicate

#: Seconds (of `tests.patience`) for a step, and for a move.
PATIENCE = 300.0


class Asked:
    """A program of node 1 of the lab below ``root``, started by mosrun with ``options``.

    On leaving the ``with`` it is killed if it still runs.
    """

    def __init__(self, root: str, argv: Sequence[str], options: Sequence[str], environ: Mapping[str, str] | None = None) -> None:
        node = labs.require(root).node(1)
        self.tree = Tree(node.paths)
        given = {**os.environ, "MOSLAB_ROOT": root, "LC_ALL": "C", **(environ or {})}
        words, env = placed(node, ["mosrun", *options, *argv], given)
        self._child = subprocess.Popen(words, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self._read = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._child.kill()
        self._child.communicate()

    @property
    def process(self) -> Process:
        """As its tracer knows it now: a setting holds when mosd has heard all that was told before."""
        self.tree.write(f"proc/{self._child.pid}/freezable", "1")
        found = self.tree.process(self._child.pid)
        assert found is not None, f"no such process: {self.end()}"
        return found

    def ask(self) -> None:
        assert self._child.stdin is not None
        self._child.stdin.write(b"\n")
        self._child.stdin.flush()

    def line(self) -> str:
        """Its next line, without the newline; AssertionError when none has come in time, or it has ended."""
        assert self._child.stdout is not None
        patience = Patience(PATIENCE)
        while b"\n" not in self._read:
            if select.select([self._child.stdout], [], [], patience.step)[0]:
                piece = os.read(self._child.stdout.fileno(), 1 << 16)
                assert piece, f"it has ended: {self.end()}"
                self._read += piece
            else:
                assert not patience.over(), f"no line within {PATIENCE:.0f} s"
        line, _, self._read = self._read.partition(b"\n")
        return line.decode(errors="replace")

    def move(self, target: str) -> str:
        """Move it to a node (its number, or "home"): "", or why that failed."""
        pid = str(self._child.pid)
        before, _ = self.tree.outcome(f"proc/{pid}/move")
        self.tree.write(f"proc/{pid}/migrate", target)

        def outcome() -> str | None:
            number, result = self.tree.outcome(f"proc/{pid}/move")
            return result if number > before and result != UNDER_WAY else None

        result = wait_until(outcome, PATIENCE)
        return "" if result == OK else str(result)

    def end(self) -> tuple[int, str]:
        """Close its input; its exit status, and what it still had to say."""
        out, err = communicate(self._child, b"", PATIENCE)
        return self._child.returncode, (self._read + out + err).decode(errors="replace")
