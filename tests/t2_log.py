"""What mosd's helpers write when they cannot tell mosd: into the log that has its name now, and never waiting for a reader."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
START = f"import os, sys; sys.path.insert(0, {str(ROOT)!r}); from mosfs.cluster import log\n"


def run(code: str, **options: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", START + code], text=True, check=False, timeout=60, **options)  # type: ignore[call-overload,no-any-return]


def test_a_log_that_was_moved_is_opened_again(tmp_path: Path) -> None:
    name = str(tmp_path / "log" / "mosd.log")
    done = run(f"log.to_file({name!r}); log.complain('one'); os.rename({name!r}, {name + '.1'!r}); log.complain('two')\n"
               f"os.unlink({name!r}); log.complain('three')")
    assert done.returncode == 0
    said = [line.split(" ", 2)[2] for file in (name + ".1", name) for line in Path(file).read_text().splitlines()]
    assert said == ["one", "three"]


def test_what_cannot_be_opened_leaves_the_old_one(tmp_path: Path) -> None:
    name = str(tmp_path / "a" / "mosd.log")
    moved = str(tmp_path / "b")
    done = run(f"log.to_file({name!r}); os.rename({str(tmp_path / 'a')!r}, {moved!r}); open({str(tmp_path / 'a')!r}, 'w')\n"
               "log.complain('still')")
    assert done.returncode == 0 and Path(moved, "mosd.log").read_text().endswith(" still\n")


def test_in_the_foreground_it_is_standard_error(tmp_path: Path) -> None:
    name = str(tmp_path / "no")
    done = run(f"os.environ[log.VARIABLE] = {name!r}; log.to_stderr(); log.complain('here')", stderr=subprocess.PIPE)
    assert done.returncode == 0 and done.stderr.endswith(" here\n") and not os.listdir(tmp_path)


def test_nobody_reads() -> None:
    """A full pipe, then one without a reader: what is said is lost, and nothing waits or fails."""
    reader, writer = os.pipe()
    done = run("log.to_stderr()\nfor _ in range(100): log.complain('x' * 5000)", stderr=writer)
    assert done.returncode == 0
    os.close(reader)
    done = run("import signal; log.to_stderr(); signal.signal(signal.SIGPIPE, signal.SIG_IGN); log.complain('x')", stderr=writer)
    os.close(writer)
    assert done.returncode == 0
