"""C1: checkpoints of a program of 1 GB (bench/spin.c) into memory: how long it stands, how long they take, and its restart."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.bed import HOME, PATIENCE, Bed, BenchError
from bench.measure import Result, Spread
from mosfs.abi.outcomes import UNDER_WAY

MEGABYTES, WINDOW_MS = 1024, 50
#: Where there is no disk: files are memory.
MEMORY = "/dev/shm"


@dataclass
class Saved:
    """A program whose output is a file, because pipes cannot be kept. ``seen``: the lines that were looked at."""

    bed: Bed
    child: subprocess.Popen[bytes]
    out: Path
    seen: int = 0

    @classmethod
    def start(cls, bed: Bed, folder: Path, command: list[str]) -> Saved:
        out = folder / "out"
        with open(out, "ab") as to:
            child = subprocess.Popen(
                command, env=dict(bed.environ), cwd=folder, stdin=subprocess.DEVNULL, stdout=to, stderr=subprocess.STDOUT
            )
        found = cls(bed, child, out, len(out.read_bytes().splitlines()))
        found.gaps(1)
        return found

    def gaps(self, coming: int) -> list[float]:
        """Milliseconds of the largest gaps in all windows since the last look, and in ``coming`` more."""
        until = time.monotonic() + PATIENCE
        lines = self.out.read_bytes().splitlines()
        wanted = len(lines) + coming
        while len(lines) < wanted:
            if self.child.poll() is not None or time.monotonic() > until:
                raise BenchError(f"the program that spins has ended: {lines[-1:]}")
            time.sleep(0.001)
            lines = self.out.read_bytes().splitlines()
        found, self.seen = lines[self.seen :], len(lines)
        return [int(line) / 1e6 for line in found]

    def save(self, name: str, what: str) -> float:
        """Seconds until there is a checkpoint."""
        tree, base = self.bed.tree, f"proc/{self.child.pid}"
        before = tree.read(f"{base}/checkpointed").split(" ", 1)[0]
        tree.write(f"{base}/checkpointfile", name)
        began = time.perf_counter()
        tree.write(f"{base}/checkpoint", what)
        while self.child.poll() is None:
            seq, _, result = tree.read(f"{base}/checkpointed").partition(" ")
            if seq != before and result != UNDER_WAY:
                if result != "ok":
                    raise BenchError(f"no checkpoint: {result}")
                break
            if time.perf_counter() - began > PATIENCE:
                raise BenchError("no checkpoint: still under way")
            time.sleep(0.002)
        return time.perf_counter() - began


@contextmanager
def running(bed: Bed, command: list[str]) -> Iterator[tuple[Saved, Path]]:
    with tempfile.TemporaryDirectory(prefix="mosfs-bench-", dir=MEMORY if os.path.isdir(MEMORY) else None) as name:
        program = Saved.start(bed, Path(name), command)
        try:
            yield program, Path(name)
        finally:
            program.child.kill()
            program.child.wait()


def spin(bed: Bed, dirty: int) -> list[str]:
    return [bed.helper("spin"), str(MEGABYTES), str(dirty), str(WINDOW_MS)]


def plain_write(folder: Path, size: int) -> float:
    """Seconds to write so many bytes into a new file, in pieces of 1 MB."""
    piece = os.urandom(1 << 20)
    began = time.perf_counter()
    with open(folder / "plain", "wb", buffering=0) as file:
        for _ in range(size >> 20):
            file.write(piece)
        os.fsync(file.fileno())
    took = time.perf_counter() - began
    os.unlink(folder / "plain")
    return took


def plain_read(path: Path) -> float:
    """Seconds to read a file, in pieces of 1 MB, into memory that is new each time."""
    began = time.perf_counter()
    pieces = []
    with open(path, "rb", buffering=0) as file:
        while piece := file.read(1 << 20):
            pieces.append(piece)
    return time.perf_counter() - began


def c1(bed: Bed, rounds: int) -> Iterator[Result]:
    for dirty, target in ((0, 30.0), (200, 30.0), (500, None)):
        yield from _saved(bed, rounds, dirty, target)
    yield _restarted(bed, rounds)


def _saved(bed: Bed, rounds: int, dirty: int, target: float | None) -> Iterator[Result]:
    """Interleaved: a checkpoint, a plain write of as much, and the same program natively, left alone."""
    stood, alone, took, plain = [], [], [], []
    with running(bed, [*HOME, *spin(bed, dirty)]) as (program, folder), running(bed, spin(bed, dirty)) as (native, _):
        native.child.send_signal(19)
        for _ in range(rounds):
            program.gaps(1)
            took.append(program.save("save.1", "checkpoint"))
            stood.append(max(program.gaps(2)))
            size = (folder / "save.1").stat().st_size
            os.unlink(folder / "save.1")
            program.child.send_signal(19)
            plain.append(plain_write(folder, size))
            native.child.send_signal(18)
            native.gaps(1)
            alone.append(max(native.gaps(2)))
            native.child.send_signal(19)
            program.child.send_signal(18)
    what = f"checkpoint of 1 GB, {dirty} MB/s dirtied"
    yield Result("C1", f"{what}: it stands", "ms", "native, left alone", _spread(stood), _spread(alone), target, ratio=False)
    rates = [[(MEGABYTES << 20) / second / 1e6 for second in seconds] for seconds in (took, plain)]
    yield Result("C1", f"{what}: in all", "MB/s", "plain write", _spread(rates[0]), _spread(rates[1]), None, at_least=True)


def _restarted(bed: Bed, rounds: int) -> Result:
    """From mosrun -R to the first window that has passed, less its length; a plain read of the same file."""
    ours, plain = [], []
    with running(bed, [*HOME, *spin(bed, 0)]) as (program, folder):
        program.save("save.1", "chkexit")
        program.child.wait()
        for _ in range(rounds):
            began = time.perf_counter()
            again = Saved.start(bed, folder, ["mosrun", "-h", f"-R{folder}/save.1"])
            ours.append(time.perf_counter() - began - WINDOW_MS / 1e3)
            again.child.kill()
            again.child.wait()
            plain.append(plain_read(folder / "save.1"))
    rates = [[(MEGABYTES << 20) / second / 1e6 for second in seconds] for seconds in (ours, plain)]
    return Result("C1", "restart of 1 GB", "MB/s", "plain read", _spread(rates[0]), _spread(rates[1]), None, at_least=True)


def _spread(samples: list[float]) -> Spread:
    return Spread(tuple(samples))
