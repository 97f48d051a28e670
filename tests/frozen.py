"""A program that is frozen by hand, and what a test asks of it."""

from __future__ import annotations

import json
import select
import subprocess
from pathlib import Path

from mosfs.abi.outcomes import UNDER_WAY
from tests.cluster import Lab, wait_until


class Frozen:
    """A program under mosrun on node 1."""

    def __init__(self, nodes: Lab, folder: Path, *command: str) -> None:
        self.nodes, self.tree, self.folder = nodes, nodes.tree(1), folder
        self.process = nodes.start(
            1, "mosrun", *command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self.pid = self.process.pid
        nodes.process(self.pid)

    def wish(self, word: str) -> str:
        """Write to the file ``frozen``: "ok", or why not."""
        base = f"proc/{self.pid}"
        before = self.tree.read(f"{base}/freezing").split(" ", 1)[0]
        self.tree.write(f"{base}/frozen", word)

        def result() -> str:
            seq, _, words = self.tree.read(f"{base}/freezing").partition(" ")
            return words if seq != before and words != UNDER_WAY else ""

        return wait_until(result)

    def stat(self) -> dict[str, object]:
        found = json.loads(self.tree.read(f"proc/{self.pid}/stat"))
        assert isinstance(found, dict)
        return found

    def say(self, word: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n".encode())
        self.process.stdin.flush()

    def silent(self) -> bool:
        """It has not answered."""
        assert self.process.stdout is not None
        return not select.select([self.process.stdout], [], [], 0)[0]

    def answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().decode().strip()

    def says(self, word: str) -> None:
        """It answers at once what it is told."""
        self.say(word)
        assert self.answer() == word

    def resident(self) -> int:
        """Kilobytes."""
        with open(f"/proc/{self.pid}/status", encoding="ascii") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))

    def cpu(self) -> list[str]:
        with open(f"/proc/{self.pid}/stat", encoding="ascii") as file:
            return file.read().split()[13:15]
