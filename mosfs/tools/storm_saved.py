"""moslab storm --checkpoint: run a program, and again and again save it, end it, and go on from its checkpoint.

    mosrun program --> after some time: chkexit --> mosrun -R its file --> ... until it has ended by itself

Its standard output and error are files meanwhile, because pipes cannot be kept; they are passed on at the end.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from mosfs.abi.outcomes import OK, UNDER_WAY
from mosfs.tools.mosrun import give_signals_back
from mosfs.tools.recover import head_of
from mosfs.tools.storm import not_started
from mosfs.tools.tree import Tree

POLL = 0.01  #: seconds between two looks at the program
ENDS = 30.0  #: seconds in which a program ends that has been saved for that


@dataclass
class SavingStorm:
    """``recoveries``: how often the program went on; ``most``: how often it may; ``reasons``: why there was no checkpoint."""

    tree: Tree
    most: int
    seed: str = ""
    recoveries: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    def stats(self) -> dict[str, object]:
        return {"recoveries": self.recoveries, "failed": self.reasons.total(), "reasons": dict(self.reasons)}

    def run(self, command: Sequence[str], environ: Mapping[str, str], every: float) -> int:
        """The status of the program (as Popen's), whose checkpoints are at random moments, ``every`` seconds apart in the mean."""
        wait = random.Random(self.seed or None)
        with tempfile.TemporaryDirectory(prefix="moslab-") as name:
            folder = Path(name)
            with open(folder / "out", "wb") as out, open(folder / "err", "wb") as err:
                child = _start(command, environ, out.fileno(), err.fileno())
            pid = child.pid
            while True:
                status = _ended(child, wait.uniform(0, 2 * every))
                if status is None and self.recoveries < self.most:
                    number = self._save(child, pid, folder)
                    status = child.poll()
                    if number and status is not None:
                        self.recoveries += 1
                        saved = f"{folder}/save.{number}"
                        child = _start(["mosrun", f"-R{saved}", *_places(command)], environ, -1, -1)
                        pid = _number(saved) or child.pid
                        continue
                if status is not None:
                    break
            for stream, path in ((sys.stdout, folder / "out"), (sys.stderr, folder / "err")):
                with open(path, "rb") as file:
                    shutil.copyfileobj(file, stream.buffer)
                stream.flush()
            return status

    def _save(self, child: subprocess.Popen[bytes], pid: int, folder: Path) -> int:
        """Have the program save itself and end; number of the file, 0 if there is none. ``pid``: its own; that of ``child``, which
        ends with it, may be another (`tools.parent`)."""
        number = self.recoveries + 1
        base = f"proc/{pid}"
        asked = False
        with suppress(OSError):
            before, _ = self.tree.outcome(f"{base}/checkpointed")
            self.tree.write(f"{base}/checkpointfile", f"{folder}/save.{number}")
            self.tree.write(f"{base}/checkpoint", "chkexit")
            asked = True
            while child.poll() is None:
                last, result = self.tree.outcome(f"{base}/checkpointed")
                if last != before and result not in (UNDER_WAY, OK):
                    self.reasons[result] += 1
                    return 0
                time.sleep(POLL)
        if _ended(child, ENDS if asked else 0) is None:
            return 0
        file = folder / f"save.{number}"
        return number if file.exists() and file.stat().st_mode & 0o777 == 0o400 and file.stat().st_size > 4096 else 0


def _number(file: str) -> int:
    """The process ID that a program will have again, 0 for any: one with threads has that."""
    fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        head = head_of(fd, file)
    finally:
        os.close(fd)
    return int(head["pid"]) if head.get("threads") else 0


def _places(command: Sequence[str]) -> list[str]:
    """Where mosrun was told to start the program: its options that are node numbers, or -b, -h."""
    return [word for word in command[1:2] if word in ("-b", "-h") or word.removeprefix("-").isdigit()]


def _start(command: Sequence[str], environ: Mapping[str, str], out: int, err: int) -> subprocess.Popen[bytes]:
    """``out`` and ``err``: -1 for nothing, because who recovers has its own."""
    try:
        return subprocess.Popen(
            command, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL if out < 0 else out,
            stderr=None if err < 0 else err, preexec_fn=give_signals_back,
        )  # fmt: skip
    except OSError as error:
        raise not_started(command[0], error) from error


def _ended(child: subprocess.Popen[bytes], seconds: float) -> int | None:
    until = time.monotonic() + seconds
    while (status := child.poll()) is None and time.monotonic() < until:
        time.sleep(POLL)
    return status
