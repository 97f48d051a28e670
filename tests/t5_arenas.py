"""Memory that processes share by a file in /dev/shm, as multiprocessing does, moves with them; nobody else sees an old one."""

from __future__ import annotations

import os
import re
import signal
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from mosfs.trace.proc import descriptor_facts, tracer_of
from tests import cluster
from tests.cluster import Lab, as_user, others, wait_until

pytestmark = pytest.mark.root

PATIENCE = 120.0  #: seconds after which something hangs
#: Two processes count in turns; the parent tells how far, and what somebody else has written there.
COUNTS = """
import mmap, os, sys, tempfile, time
folder = sys.argv[1]
fd, name = tempfile.mkstemp(dir="/dev/shm"); os.unlink(name); os.ftruncate(fd, 8192)
memory = memoryview(mmap.mmap(fd, 8192)).cast("q")
lines = open(folder + "/lines", "a", buffering=1)
parent = os.getpid()
me = 0 if os.fork() else 1
while not os.path.exists(folder + "/stop") and (me == 0 or os.getppid() == parent):
    n = memory[0]
    if n % 2 != me:
        time.sleep(0.001)
        continue
    memory[1] = (n + 1) * 7919
    memory[0] = n + 1
    if me == 0 and n % 10 == 0:
        print(n, memory[2], file=lines)
os._exit(me or os.waitstatus_to_exitcode(os.wait()[1]))
"""
#: One process, or two, with such memory, which do what they are told to before they wait for the end of their input.
HAS = """
import fcntl, mmap, os, sys, tempfile
fd, name = tempfile.mkstemp(dir="/dev/shm"); os.ftruncate(fd, 8192)
memory = mmap.mmap(fd, 8192)
what = sys.argv[1]
if what != "named":
    os.unlink(name)
if what == "inherited":
    os.set_inheritable(fd, True)
if what == "closed":
    os.fchmod(fd, 0)
if what == "locked":
    fcntl.lockf(fd, fcntl.LOCK_EX)
if what == "child" and not os.fork():
    memory.close()
    print("ready", flush=True)
    sys.stdin.read()
    os._exit(0)
if what != "child":
    print("ready", fd, flush=True)
sys.stdin.read()
if what == "named":
    os.unlink(name)
"""
#: A child with such memory ends before its parent does.
BEARS = """
import mmap, os, sys, tempfile, time
if not (child := os.fork()):
    fd, name = tempfile.mkstemp(dir="/dev/shm"); os.unlink(name); os.ftruncate(fd, 8192)
    memory = mmap.mmap(fd, 8192)
    print("ready", os.getpid(), flush=True)
    while True: time.sleep(1)
os.waitpid(child, 0)
print("ended", flush=True)
sys.stdin.read()
"""
POOLS = """
import multiprocessing, sys
from concurrent.futures import ProcessPoolExecutor
def init(*given):
    global lock, value, array
    lock, value, array = given
def sums(n):
    s = n
    for k in range(20000): s = (s * 31 + k) % 1000003
    return s
def counts(n):
    s = sums(n)
    with lock:
        value.value += s
        array[n % 8] += 1
    return s
def feeds(queue, n):
    for i in range(40): queue.put((n, i, sums(i)))
if __name__ == "__main__":
    given = multiprocessing.Lock(), multiprocessing.Value("q", 0, lock=False), multiprocessing.Array("i", 8)
    print("ready", flush=True)
    rounds = 0
    while not rounds or not sys.stdin.readline().startswith("stop"):
        rounds += 1
        given[1].value = 0
        for at in range(8): given[2][at] = 0
        with multiprocessing.Pool(4, init, given) as pool: total = sum(pool.map(counts, range(240), chunksize=3))
        assert (total, list(given[2])) == (given[1].value, [30] * 8)
        with ProcessPoolExecutor(4) as pool: assert sum(pool.map(sums, range(240))) == total
        queue = multiprocessing.Queue()
        feeders = [multiprocessing.Process(target=feeds, args=(queue, n)) for n in range(3)]
        for feeder in feeders: feeder.start()
        got = sorted(queue.get() for _ in range(120))
        for feeder in feeders: feeder.join()
        assert [one[:2] for one in got] == [(n, i) for n in range(3) for i in range(40)]
        print(rounds, total, flush=True)
"""


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with cluster.lab(tmp_path_factory.mktemp("arenas"), 3) as running:
        yield running


@contextmanager
def started(nodes: Lab, code: str, *args: str, user: tuple[str, ...] = ()) -> Iterator[subprocess.Popen[bytes]]:
    """The program under mosrun on node 1; it and its children are ended."""
    command = [*user, "mosrun", "-h", "--share-memory", "python3", "-c", code, *args]
    process = nodes.start(1, *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        wait_until(lambda: process.pid in nodes.tree(1).pids("proc"))
        yield process
    finally:
        process.kill()
        process.communicate()


def move(nodes: Lab, pid: int, target: str) -> str:
    """mosmigrate: "" or why not."""
    said = nodes.run(1, "mosmigrate", str(pid), target, timeout=PATIENCE).stderr.rstrip("\n")
    return said.partition(": ")[2] if said else ""


def ready(process: subprocess.Popen[bytes]) -> list[str]:
    assert process.stdout is not None
    words = process.stdout.readline().decode().split()
    assert words[:1] == ["ready"]
    return words[1:]


def arena_of(pid: int) -> int:
    """The descriptor of such memory."""
    found = (int(name) for name in os.listdir(f"/proc/{pid}/fd") if os.readlink(f"/proc/{pid}/fd/{name}").startswith("/dev/shm/"))
    return min(found)


def is_placeholder(pid: int, fd: int) -> bool:
    return bool(int(descriptor_facts(pid, fd)[b"flags"], 8) & os.O_PATH)


def test_who_opens_it_while_it_is_away(nodes: Lab, tmp_path: Path) -> None:
    def told() -> tuple[int, int]:
        """How far they have come, and what they have found."""
        lines = (tmp_path / "lines").read_text().split("\n")[:-1] if (tmp_path / "lines").exists() else []
        n, found = (lines or ["-1 0"])[-1].split()
        return int(n), int(found)

    def goes_on() -> int:
        """They have come further than that."""
        before = told()[0]
        wait_until(lambda: told()[0] > before + 20)
        return told()[0]

    with started(nodes, COUNTS, str(tmp_path)) as process:
        pid = process.pid
        wait_until(lambda: told()[0] >= 0)
        fd = arena_of(pid)
        for turn in (1, 2):
            assert move(nodes, pid, "2") == ""
            assert is_placeholder(pid, fd)
            known = goes_on()
            opened = os.open(f"/proc/{pid}/fd/{fd}", os.O_RDWR)
            try:
                count, product = struct.unpack("2q", os.pread(opened, 16, 0))
                assert count >= known
                assert product in (count * 7919, (count + 1) * 7919)
                wait_until(lambda: nodes.tree(1).read(f"proc/{pid}/where") == "here")
                os.pwrite(opened, struct.pack("q", turn), 16)
                goes_on()
                assert told()[1] == turn
                assert re.search(r"writable shared memory \(/dev/shm/.*\): another program has it open", move(nodes, pid, "2"))
            finally:
                os.close(opened)
        assert move(nodes, pid, "3") == ""
        goes_on()
        (tmp_path / "stop").touch()
        assert process.wait(PATIENCE) == 1  # its child's


@pytest.mark.parametrize(("what", "reason"), [
    ("named", "it has, or may get, a name, by which others can open it"),
    ("inherited", r"what \d+ \(python3\) executes would have it open \(no FD_CLOEXEC\)"),
    ("locked", r"\d+ \(python3\) has a lock on it"),
    ("child", r"\d+ \(python3\) has it open"),
])  # fmt: skip
def test_what_stays(what: str, reason: str, nodes: Lab) -> None:
    with started(nodes, HAS, what) as process:
        ready(process)
        for _ in range(2):
            why = move(nodes, process.pid, "2")
            assert re.search(rf"writable shared memory \(/dev/shm/[^ ]*\): {reason}", why), why
            assert nodes.tree(1).read(f"proc/{process.pid}/where") == "here"
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None
        assert process.wait(PATIENCE) == 0


def test_a_file_of_memfd_is_refused(nodes: Lab) -> None:
    """Nobody can tell who else has that open."""
    code = "import mmap, os; fd = os.memfd_create('m'); os.ftruncate(fd, 4096); mmap.mmap(fd, 4096)"
    assert "Shared memory (MAP_SHARED) not supported" in nodes.run(1, "mosrun", "--share-memory", "python3", "-c", code).stderr


def test_what_is_mapped_on_the_way_is_an_object(nodes: Lab) -> None:
    """Made away, it comes home for that, and goes back: by then only its deputy's placeholder is open."""
    with started(nodes, HAS, "alone") as process:
        (fd,) = ready(process)
        assert move(nodes, process.pid, "2") == ""
        assert is_placeholder(process.pid, int(fd))
        assert move(nodes, process.pid, "home") == ""
        assert not is_placeholder(process.pid, int(fd))
        process.communicate(b"", PATIENCE)
        assert process.returncode == 0


@others
def test_of_an_ordinary_user(nodes: Lab) -> None:
    """His own files move, with him alone; also if nobody may open them any more."""
    with started(nodes, HAS, "closed", user=as_user(65533)) as process:
        (fd,) = ready(process)
        for target in ("2", "home", "2"):
            assert move(nodes, process.pid, target) == ""
            assert is_placeholder(process.pid, int(fd)) is (target == "2")
        process.communicate(b"", PATIENCE)
        assert process.returncode == 0


def test_nothing_stays_of_what_has_ended_away(nodes: Lab) -> None:
    """Open files of the tracer's, while others of its tree go on."""

    def kept() -> list[str]:
        folder, names = f"/proc/{tracer_of(process.pid)}/fd", []
        for each in os.listdir(folder):
            with suppress(FileNotFoundError):  # it is closed just now
                names.append(os.readlink(f"{folder}/{each}"))
        return [name for name in names if name.startswith("/dev/shm/tmp")]

    with started(nodes, BEARS) as process:
        assert process.stdout is not None
        (pid,) = ready(process)
        assert move(nodes, int(pid), "2") == ""
        assert kept()
        os.kill(int(pid), signal.SIGTERM)
        assert process.stdout.readline() == b"ended\n"
        wait_until(lambda: not kept())


@pytest.mark.long
def test_pools_in_motion(nodes: Lab, tmp_path: Path) -> None:
    """multiprocessing: pools, whose parent has threads, queues, locks, values and arrays."""
    script = tmp_path / "pools.py"
    script.write_text(POOLS)
    native = subprocess.run(["python3", script], input=b"stop\n", capture_output=True, timeout=PATIENCE, check=True)
    moves = rounds = 0
    with started(nodes, f"exec(compile(open({str(script)!r}).read(), 'pools', 'exec'))") as process:
        assert process.stdin is not None and process.stdout is not None
        ready(process)
        while moves < 8:
            for target in ("2", "home", "3", "2"):
                moves += move(nodes, process.pid, target) == ""
            process.stdin.write(b"\n")
            process.stdin.flush()
            rounds += 1
            assert process.stdout.readline() == native.stdout.split(b"\n")[1].replace(b"1 ", b"%d " % rounds, 1) + b"\n"
            assert rounds < 20, "it does not move"
        out, _ = process.communicate(b"stop\n", PATIENCE)
        assert process.returncode == 0, out
