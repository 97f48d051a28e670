"""Random system calls of an ordinary user at home, away and in motion: they end, at worst, the programs that make them.

MOSIX_FUZZ_SECONDS, MOSIX_FUZZ_PROGRAMS and MOSIX_FUZZ_SEED: how long the long test makes calls (tests/README.md), how many programs
do at a time, and which ones.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import random
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests import cluster
from tests.cluster import Lab, as_user, wait_until
from tests.progs import CFLAGS, REPO, compile_c

pytestmark = [pytest.mark.root, cluster.others]

#: Nobody else's on this machine, so that a kill(-1) of a random call finds only programs of this test; and a user who looks on.
USER, OTHER = 300_000 + os.getpid(), 299_999
SECONDS = float(os.environ.get("MOSIX_FUZZ_SECONDS", "120"))
SEED = int(os.environ.get("MOSIX_FUZZ_SEED", "0"))
PROGRAMS = int(os.environ.get("MOSIX_FUZZ_PROGRAMS", "20"))
LIFE = 4.5 * PROGRAMS  #: seconds of one of many programs: 400 in half an hour
#: Where they are, in turn.
PLACES = ("-h", "-2", "-3", "-2", "motion", "-h", "-2", "-3", "motion", "-3")
GROWTH = 64 << 20  #: bytes that a mosd may keep of what it had to do
COUNTING = "i=0; while :; do i=$((i + 1)); echo $i; sleep 0.1; done"


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with cluster.lab(tmp_path_factory.mktemp("fuzz"), 3) as running:
        yield running


@pytest.fixture(scope="module")
def folder(nodes: Lab) -> Iterator[Path]:
    """Holds the program, and a folder of each user that only he may write to."""
    parent = Path(nodes.plan.root).parent
    compile_c(REPO / "tests" / "fuzz" / "calls.c", parent / "calls", (*CFLAGS, "-Wno-unused-result"))
    (parent / "calls").chmod(0o755)
    for name, uid in (("own", USER), ("other", OTHER)):
        (parent / name).mkdir(mode=0o755)
        os.chown(parent / name, uid, uid)
    (parent / "other" / "file").write_text("what others may only read\n")
    (parent / "other" / "file").chmod(0o644)
    yield parent


def checksum(*folders: Path) -> str:
    """Of names, kinds, owners and contents."""
    found = hashlib.sha256()
    for top in folders:
        for path in sorted([top, *top.rglob("*")]):
            about = path.lstat()
            found.update(repr((str(path), about.st_mode, about.st_uid, about.st_gid)).encode())
            if path.is_file() and not path.is_symlink():
                found.update(path.read_bytes())
    return found.hexdigest()


@contextmanager
def others_count(nodes: Lab, folder: Path) -> Iterator[None]:
    """Programs of another user count at home and away without a gap, on daemons that stay, and no file of others changes."""
    daemons = [nodes.mosd(number) for number in (1, 2, 3)]
    before, sizes = checksum(Path("/etc"), folder / "other"), [resident(pid) for pid in daemons]
    counted = []
    for place, where in (("-h", ""), ("-2", nodes.node(2).ip), ("-3", nodes.node(3).ip)):
        output = folder / f"counted{place}"
        with output.open("wb") as stdout:
            process = nodes.start(1, *as_user(OTHER), "mosrun", place, "sh", "-c", COUNTING, stdout=stdout)
        counted.append((process, output, where))
    for process, output, where in counted:
        wait_until(lambda output=output: output.stat().st_size)
        assert nodes.process(process.pid).where == where
    yield
    for process, output, _ in counted:
        size = output.stat().st_size
        wait_until(lambda output=output, size=size: output.stat().st_size > size)
        process.kill()
        process.wait()
        numbers = output.read_text().split("\n")[:-1]
        assert numbers == [str(number) for number in range(1, len(numbers) + 1)]
    assert [nodes.mosd(number) for number in (1, 2, 3)] == daemons
    assert nodes.run(1, *as_user(OTHER), "mosrun", "-2", "echo", "on").stdout == "on\n"
    grown = [resident(pid) - size for pid, size in zip(daemons, sizes)]
    print(f"the daemons have grown by {[size >> 10 for size in grown]} KB")
    assert max(grown) < GROWTH
    assert checksum(Path("/etc"), folder / "other") == before
    assert [trace for number in (1, 2, 3) for trace in traces(Path(nodes.node(number).paths.log))] == []


def resident(pid: int) -> int:
    """Bytes of memory that a process has (proc_pid_statm(5))."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * mmap.PAGESIZE


def traces(log: Path) -> list[str]:
    """The tracebacks in a log, each with the line before."""
    found, before = list[str](), ""
    trace = list[str]()
    for line in [*log.read_text(errors="replace").split("\n"), "20"]:
        if trace and line.startswith("20"):  # a date: the next line of the log
            found.append("\n".join(trace))
            trace = []
        if trace or line.lstrip().startswith("Traceback"):  # set in, when a program's tracer or host says it
            trace = [*(trace or [before]), line]
        before = line
    print(*found, sep="\n")
    return found


def living(uid: int) -> list[int]:
    """Processes of that user; one that has ended and waits for its parent is none."""
    found = []
    for pid in map(int, filter(str.isdecimal, os.listdir("/proc"))):
        with suppress(OSError):
            status = Path(f"/proc/{pid}/status").read_text(errors="replace")
            if f"\nUid:\t{uid}\t" in status and "\nState:\tZ" not in status and "\nState:\tX" not in status:
                found.append(pid)
    return found


def kill_all_of(uid: int) -> None:
    """Until there is none: a program may fork meanwhile."""
    deadline = time.monotonic() + cluster.TIMEOUT + PROGRAMS  # each may have a tree of its own to end
    while found := living(uid):
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert time.monotonic() < deadline, [Path(f"/proc/{pid}/status").read_text() for pid in found[:3]]
        time.sleep(0.05)


class Said:
    """What the programs say: through a pipe, which no random call of theirs can empty or cut."""

    def __init__(self) -> None:
        self._ours, self.theirs = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._ours, False)
        self._text = b""

    def hear(self) -> None:
        with suppress(BlockingIOError):
            while data := os.read(self._ours, 1 << 16):
                self._text += data

    def lines(self, word: str) -> list[int]:
        """The numbers behind ``word`` in lines of their own; a random write(2) may spoil one."""
        return [int(number) for number in re.findall(rb"(?m)^%s (\d{1,20})$" % word.encode(), self._text)]

    def close(self) -> None:
        os.close(self._ours)
        os.close(self.theirs)


def start(nodes: Lab, folder: Path, place: str, seed: int, seconds: float, said: int) -> subprocess.Popen[bytes]:
    """The program says its seed, and at its end how many rounds it has made."""
    program = ("-e", str(folder / "calls"), str(seed), str(seconds))
    null = subprocess.DEVNULL
    given = {"cwd": folder / "own", "stdin": null, "stdout": said, "stderr": null, "start_new_session": True}
    if place == "motion":
        return nodes.start_moslab("storm", "--every", "0.2", "--", *as_user(USER), "mosrun", *program, **given)
    return nodes.start(1, *as_user(USER), "mosrun", place, *program, **given)


def make_calls(nodes: Lab, folder: Path, places: list[str], seconds: float, seed: int, life: float = 1e9) -> None:
    """One program in each of ``places``, for ``life`` seconds; then another, also when a random call ended it before its time."""
    end = time.monotonic() + seconds
    running: list[tuple[str, subprocess.Popen[bytes]]] = []
    said, started = Said(), Counter[str]()
    try:
        while (left := end - time.monotonic()) > 0:
            running = [(place, process) for place, process in running if process.poll() is None]
            missing = list(places)
            for place, _ in running:
                missing.remove(place)
            for place in missing:
                seed += 1_000_000
                print(f"{place}: seed {seed}")
                started[place] += 1
                running.append((place, start(nodes, folder, place, seed, min(life, left), said.theirs)))
            time.sleep(0.1)
            said.hear()
    finally:
        kill_all_of(USER)
        for _, process in running:
            with suppress(subprocess.TimeoutExpired):
                process.wait(5)
            process.kill()
            process.wait()
        said.hear()
        said.close()
    rounds = said.lines("rounds")
    print(f"{dict(started)} programs; {len(rounds)} came to their own end, after {sum(rounds)} rounds of up to 1500 calls")
    assert said.lines("seed"), "none of them has run"


def test_random_calls_harm_nobody_else(nodes: Lab, folder: Path) -> None:
    with others_count(nodes, folder):
        make_calls(nodes, folder, ["-h", "-2", "motion"], 6, SEED)


@pytest.mark.long
@pytest.mark.timeout(SECONDS + 600 + PROGRAMS)
def test_nor_do_many_for_long(nodes: Lab, folder: Path) -> None:
    """Twenty at a time, each for 90 seconds: 400 in half an hour; or all 400 at once."""
    places = [PLACES[number % len(PLACES)] for number in range(PROGRAMS)]
    with others_count(nodes, folder):
        make_calls(nodes, folder, places, SECONDS, SEED or random.getrandbits(40), LIFE)
