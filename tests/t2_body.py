"""How a body is made: on the memory of its host, which must not be another by that."""

from __future__ import annotations

import mmap
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from mosfs.guest import sandbox
from mosfs.migrate.rebuild import NoRoom
from tests.t2_engine import LOW, REPO, fresh_body, rights

pytestmark = pytest.mark.root


def test_to_make_a_body_copies_nothing() -> None:
    """After a fork each page of ours would have to be made writable again: a page fault for each that we write."""
    with mmap.mmap(-1, 4 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as ours:
        ours.madvise(15)  # MADV_NOHUGEPAGE
        pages = range(0, len(ours), mmap.PAGESIZE)
        faults = []
        for _ in range(2):
            for at in pages:
                ours[at] = 1
            faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
            with fresh_body():
                pass
        assert faults[1] - faults[0] < len(pages) // 2


def test_whoever_makes_a_body_is_as_dumpable_as_before() -> None:
    """It becomes another user while it has our memory still, and that is asked for by a name of the memory."""
    code = """
import ctypes, os
from mosfs.guest import sandbox
prctl = ctypes.CDLL(None).prctl
for dumpable in (0, 1):
    assert prctl(4, dumpable, 0, 0, 0) == 0
    task = sandbox.spawn()
    print(prctl(3, 0, 0, 0, 0), end=" ")
    sandbox.discard(task)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPO, timeout=60, check=True)
    assert done.stdout == "0 1 "


def test_a_body_that_cannot_be(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It ends in the middle of our memory, which stays as it is: the next one can be."""
    path = tmp_path / "stub"
    path.write_bytes(b"no program")
    path.chmod(0o555)
    with path.open("rb") as file:
        monkeypatch.setattr(sandbox, "_program", file.fileno)
        with pytest.raises(NoRoom, match="ended with 106"):
            sandbox.spawn()
    monkeypatch.undo()
    with fresh_body() as task:
        assert rights(task.pid) == LOW
