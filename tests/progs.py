"""The test programs: how they are built, how they are run at each place, and what they must give (tests/README.md).

    python -m tests.progs native|home|away|motion|frozen|saved [name...]      one line a program, for the lab that is up
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from mosfs.tools import lab as labs
from tests.cluster import MOSLAB, placed
from tests.conftest import default_signals
from tests.patience import communicate

REPO = Path(__file__).resolve().parent.parent
SOURCES = REPO / "tests" / "programs"
BUILT = REPO / "build" / "programs"
CFLAGS = (
    "-O1", "-g", "-std=gnu11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror",
    # Wrong arguments on purpose, to see them refused.
    "-Wno-stringop-overflow", "-Wno-stringop-overread", "-Wno-nonnull", "-Wno-array-bounds",
)
TIMEOUT = float(os.environ.get("MOSIX_TEST_TIMEOUT", "120"))  #: seconds after which a program hangs
PAUSE = "0.2"  #: seconds between two moves of a program in motion
QUICK, LONG = "0.05", "1.5"  #: seconds a program works: where nothing is moved, and in motion


class Place(StrEnum):
    NATIVE = "native"
    HOME = "home"
    AWAY = "away"
    MOTION = "motion"
    FROZEN = "frozen"  #: in motion, and frozen now and then
    SAVED = "saved"  #: three times saved at some moment, ended, and recovered

    @property
    def moves(self) -> bool:
        return self in (Place.MOTION, Place.FROZEN, Place.SAVED)


@dataclass(frozen=True)
class Program:
    """A row of PROGRAMS. ``source``: the file in tests/programs, by default the name and ".c".

    ``environment`` is given to runs in motion only.
    """

    name: str
    source: str = ""
    static: bool = False
    environment: tuple[tuple[str, str], ...] = ()
    pause: str = PAUSE  #: the most between two moves; short for a program that is over soon
    motion: str = LONG  #: seconds that it works in motion
    options: tuple[str, ...] = ()  #: of mosrun; {cwd} is the scratch directory
    long: bool = False  #: only make test-all runs it in motion

    @property
    def stays(self) -> bool:
        """It does what cannot be done away from home."""
        return "--stay-home" in self.options

    @property
    def path(self) -> Path:
        return SOURCES / (self.source or f"{self.name}.c")


PROGRAMS = (
    Program("counter"),
    Program("counter-static", "counter.c", static=True),
    Program("clocks"),
    Program("clocks-static", "clocks.c", static=True),
    Program("registers"),
    Program("traps"),
    Program("processor"),
    Program("memory"),
    Program("memory-static", "memory.c", static=True),
    Program("memflags", motion="4"),
    Program("filemaps", motion="3", pause="0.1"),
    Program("writer", environment=(("MOS_MB", "64"),), motion="4"),
    Program("big_image", environment=(("MOS_MB", "128"),), motion="4"),
    Program("identity"),
    Program("files"),
    Program("descriptors"),
    Program("events"),
    Program("big_io"),
    Program("partial"),
    Program("pointers"),
    Program("private", options=("-X", "{cwd}/p")),
    Program("sleeps"),
    Program("waits"),
    Program("timeouts", pause="0.05"),
    Program("cpu_timers"),
    Program("sigs"),
    Program("dispositions"),
    Program("cores", pause="0.1"),
    Program("children"),
    Program("execs"),
    Program("spawns"),
    Program("terminal"),
    Program("sockets"),
    Program("sysv_ipc"),
    Program("old_calls"),
    Program("vectors"),
    Program("attributes"),
    Program("mqueues"),
    Program("credentials"),
    Program("paging"),
    Program("machine"),
    Program("notices"),
    Program("objects"),
    Program("recent", pause="0.05"),
    Program("beside", motion="3"),
    Program("properties", motion="3"),
    Program("tasks"),
    Program("held", motion="3", pause="0.1", long=True),
    Program("odd", motion="3"),
    Program("actions"),
    Program("daemons"),
    Program("usage"),
    Program("proc_self", motion="3"),
    Program("shell", "shell.sh"),
    Program("script", "script.py"),
    Program("oneliners", "oneliners.sh", pause="0.04"),
    Program("threads", options=("--no-threads", "--stay-home")),
    Program("threads-moving", "threads.c", options=("--stay-home",)),
    Program("pthreads", motion="3", long=True),
    Program("meanwhile", motion="3"),
    Program("shared", options=("--share-memory",), motion="3"),
    Program("arenas", options=("--share-memory",), motion="3", pause="0.1"),
    Program("debugger", options=("--stay-home",)),
    Program("filters", options=("--stay-home",)),
    Program("homebound", options=("--stay-home",)),
)
BY_NAME = {program.name: program for program in PROGRAMS}


@dataclass(frozen=True)
class Outcome:
    """How a run ended. ``status`` as in Popen.returncode; ``left``: what it left in its scratch directory.

    ``moves``: of a run in motion, how many succeeded; ``reasons``: those of the moves that failed, with their counts.
    """

    status: int
    stdout: str
    stderr: str = ""
    left: tuple[str, ...] = ()
    seconds: float = 0.0
    moves: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)
    frozen: int = 0
    recoveries: int = 0

    def difference(self, native: Outcome) -> str:
        """Why this is not what ``native`` was; "" if it is."""
        if self.status == native.status and self.stdout == native.stdout and self.left == native.left:
            return ""
        lines = [f"status {self.status}, natively {native.status}"] if self.status != native.status else []
        if self.stdout != native.stdout:
            lines.append(f"stdout {self.stdout[-600:]!r}, natively {native.stdout[-600:]!r}")
        if self.left != native.left:
            lines.append(f"left behind {', '.join(self.left)}")
        if self.stderr:
            lines.append(f"stderr {self.stderr[-600:]!r}")
        return "; ".join(lines)


def built(program: Program) -> Path:
    """What to execute: a script itself, or the binary, compiled if it is older than its source.

    One of many compiles it: a program whose binary is replaced while it runs reads "(deleted)" in its /proc/self/exe."""
    if program.path.suffix != ".c":
        return program.path
    BUILT.mkdir(parents=True, exist_ok=True)
    binary = BUILT / program.name
    newest = max(path.stat().st_mtime for path in (program.path, SOURCES / "mos.h", Path(__file__)))

    def old() -> bool:
        return not binary.exists() or binary.stat().st_mtime < newest

    if old():
        with (BUILT / f".{program.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if old():
                compile_c(program.path, binary, CFLAGS + (("-static",) if program.static else ()))
    return binary


def compile_c(source: Path, binary: Path, flags: Sequence[str]) -> None:
    """Compile to ``binary``, which other threads and processes may be about to do as well. RuntimeError with what gcc says."""
    draft = binary.with_name(f"{binary.name}.{os.getpid()}.{threading.get_ident()}")
    if shutil.which("gcc") is None:
        raise RuntimeError("gcc is not installed")
    done = subprocess.run(["gcc", *flags, str(source), "-o", str(draft)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{source.name}: {done.stderr}")
    draft.replace(binary)


def at(
    place: Place, command: Sequence[str], environ: Mapping[str, str], root: str = "", stats: str = "", pause: str = PAUSE,
    options: Sequence[str] = (),
) -> tuple[Sequence[str], Mapping[str, str]]:
    """What to start to run ``command`` at ``place`` of the lab below ``root`` ("": moslab's default lab), and its environment."""
    if place is Place.NATIVE:
        return command, environ
    root = root or labs.default_root()
    if place.moves:
        storm = [*MOSLAB, "storm", "--root", root, "--every", pause, *(["--stats", stats] if stats else [])]
        storm += {Place.FROZEN: ["--freeze"], Place.SAVED: ["--checkpoint", "3"]}.get(place, [])
        return [*storm, "--", "mosrun", "-h", *options, *command], environ
    where = "-2" if place is Place.AWAY else "-h"
    return placed(labs.require(root).node(1), ["mosrun", where, *options, *command], {**environ, "MOSLAB_ROOT": root})


@contextmanager
def scratch() -> Iterator[Path]:
    """A temporary directory that every user may enter."""
    with tempfile.TemporaryDirectory(prefix="mosfs-") as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


def inherited() -> dict[str, str]:
    """os.environ. pytest changes it while threads run programs, so that reading it may fail."""
    while True:
        try:
            return dict(os.environ)
        except (KeyError, RuntimeError):
            continue


def execute(
    place: Place, command: Sequence[str], *, cwd: Path, root: str = "", environment: Mapping[str, str] | None = None,
    stdin: bytes = b"", timeout: float = TIMEOUT, pause: str = PAUSE, options: Sequence[str] = (),
) -> Outcome:
    """Run ``command`` at ``place`` in a session of its own, in ``cwd``, which is its TMPDIR too.

    One that takes longer than ``timeout`` seconds (as `tests.patience` counts them) is killed with its group, and its stderr
    says so.
    """
    with scratch() as aside:
        stats = aside / "stats"
        env: Mapping[str, str] = {**inherited(), "TMPDIR": str(cwd), "LC_ALL": "C", **(environment or {})}
        began = time.monotonic()
        given = [option.format(cwd=cwd) for option in options]
        words, env = at(place, command, env, root, str(stats), pause, given)
        with subprocess.Popen(
            words, cwd=cwd, env=env, start_new_session=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) as child:
            late = ""
            try:
                out, err = communicate(child, stdin, timeout)
            except subprocess.TimeoutExpired:
                late = f"still running after {timeout:.0f} s\n"
                os.killpg(child.pid, signal.SIGKILL)
                out, err = child.communicate()
            except BaseException:
                os.killpg(child.pid, signal.SIGKILL)
                raise
        took = time.monotonic() - began
        told = json.loads(stats.read_text()) if stats.exists() else {}
    return Outcome(
        child.returncode, out.decode(errors="replace"), late + err.decode(errors="replace"), (), took,
        told.get("moves", 0), told.get("reasons", {}), told.get("frozen", 0), told.get("recoveries", 0),
    )


def run(
    program: Program, place: Place, *, root: str = "", seconds: str = "", pause: str = PAUSE, timeout: float = TIMEOUT,
) -> Outcome:
    """One run of a test program in a scratch directory of its own."""
    working = seconds or (program.motion if place.moves else QUICK)
    with scratch() as cwd:
        outcome = execute(
            place, [str(built(program)), working], cwd=cwd, root=root, pause=min(pause, program.pause, key=float), timeout=timeout,
            environment=dict(program.environment) if place.moves else None, options=program.options,
        )
        left = tuple(sorted(entry.name for entry in cwd.iterdir()))
    return Outcome(
        outcome.status, outcome.stdout, outcome.stderr, left, outcome.seconds, outcome.moves, outcome.reasons,
        outcome.frozen, outcome.recoveries,
    )


def passed(outcome: Outcome) -> bool:
    return outcome.status == 0 and outcome.stdout.endswith("PASS\n") and not outcome.left


def run_natively(program: Program) -> Outcome:
    return run(program, Place.NATIVE)


def verdict(
    program: Program, place: Place, natively: Callable[[Program], Outcome] = run_natively, *, root: str = "", seconds: str = "",
    pause: str = PAUSE, timeout: float = TIMEOUT,
) -> tuple[Outcome, str]:
    """The outcome at ``place``, and what is wrong with it compared with that of ``natively`` ("" if nothing)."""
    outcome = run(program, place, root=root, seconds=seconds, pause=pause, timeout=timeout)
    native = outcome if place is Place.NATIVE else natively(program)
    if not passed(native):
        return outcome, f"fails natively: {native.stdout[-600:]}{native.stderr[-600:]}"
    return outcome, outcome.difference(native)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.progs", description="run the test programs, one line each")
    parser.add_argument("place", type=Place, choices=list(Place), metavar="native|home|away|motion|frozen|saved")
    parser.add_argument("name", nargs="*", help="programs (default: all): " + " ".join(BY_NAME))
    parser.add_argument("--root", default="", help="the lab (default: moslab's)")
    parser.add_argument("--seconds", default="", help="how long each works")
    parser.add_argument("--timeout", type=float, default=TIMEOUT, help="seconds after which one hangs")
    parser.add_argument("--every", default=PAUSE, help="seconds between two moves")
    options = parser.parse_intermixed_args()
    if unknown := [name for name in options.name if name not in BY_NAME]:
        parser.error(f"no such program: {' '.join(unknown)}")
    default_signals()  # what this process was told to ignore, its programs would too
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what runs is ended and its files removed
    failures = 0
    for program in [BY_NAME[name] for name in options.name] or PROGRAMS:
        outcome, wrong = verdict(
            program, options.place, root=options.root, seconds=options.seconds, pause=options.every,
            timeout=options.timeout,
        )
        moves = f" {outcome.moves:3} moves" if options.place.moves else ""
        moves += f" {outcome.frozen:3} frozen" if options.place is Place.FROZEN else ""
        moves += f" {outcome.recoveries:3} recovered" if options.place is Place.SAVED else ""
        refused = "".join(f", {count} x {reason}" for reason, count in outcome.reasons.items())
        result = f"{'FAIL' if wrong else 'ok':4} {program.name:16} {outcome.seconds:6.2f} s{moves}{refused}"
        print(result, wrong, flush=True)
        failures += bool(wrong)
    return min(failures, 100)


if __name__ == "__main__":
    sys.exit(main())
