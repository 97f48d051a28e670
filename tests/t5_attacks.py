"""Programs that attack: what an ordinary user's program does to the pages that we have in it, at home and away (security.md).

Each ends, at worst, itself; after each, programs of the same tree and of others go on.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from mosfs.cluster.scalars import DEFAULT_GUEST_UIDS
from mosfs.guest import threads
from mosfs.migrate.image import MOST_THREADS
from mosfs.trace import layout
from tests import cluster
from tests.cluster import Lab, as_user, wait_until
from tests.progs import CFLAGS, REPO, compile_c

pytestmark = [pytest.mark.root, cluster.others]

SOURCES = REPO / "tests" / "attacks"
STAYS = ("env", "STAY=1")
USER = as_user(65533)
TEXT = "what only root may change\n"
#: jmp to itself; pause(2).
LOOP, PAUSE = b"\xeb\xfe", b"\xb8\x22\0\0\0\x0f\x05"


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with cluster.lab(tmp_path_factory.mktemp("attacks"), 2) as running:
        yield running


@pytest.fixture(scope="module")
def stub(nodes: Lab) -> str:
    """The attacker of that name, where every user may execute it."""
    binary = Path(nodes.plan.root).parent / "stub"
    compile_c(SOURCES / "stub.c", binary, (*CFLAGS, "-pthread"))
    binary.chmod(0o755)
    return str(binary)


@pytest.fixture
def file(nodes: Lab) -> Iterator[Path]:
    """One that the attacker may only read."""
    path = Path(nodes.plan.root).parent / "file"
    path.write_text(TEXT)
    path.chmod(0o644)
    yield path
    assert path.read_text() == TEXT


@contextmanager
def bystanders(nodes: Lab) -> Iterator[None]:
    """Programs of another user, at home and away, that notice when they stand still or end; and daemons that stay."""
    daemons = [nodes.mosd(number) for number in (1, 2)]
    started = [
        nodes.start(1, "mosrun", place, "sh", "-c", "while :; do echo; sleep 0.1; done", stdout=subprocess.PIPE)
        for place in ("-h", "-2")
    ]
    for process in started:
        assert process.stdout and process.stdout.read(1) == b"\n"
    yield
    for process in started:
        assert process.stdout
        os.set_blocking(process.stdout.fileno(), False)
        while process.stdout.read(4096):
            pass
        os.set_blocking(process.stdout.fileno(), True)
        assert process.stdout.read(1) == b"\n"
        process.kill()
    assert [nodes.mosd(number) for number in (1, 2)] == daemons


def attack(nodes: Lab, *command: str, options: tuple[str, ...] = ("-h",), timeout: float = 60) -> str:
    """What a tree says whose shell starts the attacker and goes on when it has ended: its output and status."""
    script = '"$@" & wait $!; echo "status $?"; true | cat; echo "the tree lives"'
    done = nodes.run(1, *USER, "mosrun", *options, "sh", "-c", script, "sh", *command, timeout=timeout)
    assert done.stdout.endswith("the tree lives\n"), done
    return done.stdout


WAYS = {
    "map": "mmap: Operation not permitted",
    "move": "mremap: Operation not permitted",
    "protect": "mprotect: Cannot allocate memory",
    "mem": "",
    "thread": "",
    "sibling": "",
    "child": "",
    "old": "",
}


@pytest.mark.parametrize("way", WAYS)
def test_no_file_is_changed_by_a_program_that_speaks_for_its_stub(nodes: Lab, stub: str, file: Path, way: str) -> None:
    """The file about its own memory that it opens would be written into the file behind its descriptor 77."""
    with bystanders(nodes):
        said = attack(nodes, stub, way, "number", "77", str(file), options=("-h", "--stay-home"))
    if WAYS[way]:
        assert "maps 0" not in said and "maps -" not in said, "its stub is ours, so it was served"
    else:
        assert "maps -9\n" in said


@pytest.mark.parametrize("number", [78, 79, 0, 999, -7])
def test_nor_is_anything_else_written_to(nodes: Lab, stub: str, file: Path, number: int) -> None:
    """78 is a pipe that nobody reads, 79 its own memory."""
    assert "maps -9\n" in attack(nodes, stub, "mem", "number", str(number), str(file))


@pytest.mark.parametrize("code", ["ill", "segv", "forged"])
def test_a_stub_that_does_something_else_ends_its_program_alone(nodes: Lab, stub: str, code: str) -> None:
    with bystanders(nodes):
        said = attack(nodes, stub, "mem", code, "0")
    assert "placed\nstatus 137\n" in said
    assert "killed: the injected call" in Path(nodes.node(1).paths.log).read_text()


@pytest.mark.long
@pytest.mark.parametrize("code", ["loop", "sleep"])
def test_a_stub_that_never_ends_ends_its_program_alone(nodes: Lab, stub: str, code: str) -> None:
    """Within the tracer's patience of 30 s."""
    with bystanders(nodes):
        said = attack(nodes, stub, "mem", code, "0", timeout=120)
    assert "placed\nstatus 137\n" in said
    assert "killed: it does not stop" in Path(nodes.node(1).paths.log).read_text()


@pytest.mark.parametrize("way", [way for way, refusal in WAYS.items() if refusal])
def test_away_nothing_comes_into_the_place_of_the_stub(nodes: Lab, stub: str, way: str) -> None:
    """So the attacker hears its signals as any program."""
    command = (*USER, *STAYS, "mosrun", "-2", stub, way, "loop", "0")
    process = nodes.start(1, *command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout and process.stderr
    for _ in range(3):
        line = process.stdout.readline()
    assert line.startswith(b"maps ")
    assert process.stderr.readline().decode().strip() == WAYS[way]
    while process.poll() is None:
        os.kill(process.pid, signal.SIGUSR1)
        time.sleep(0.05)
    assert process.wait(cluster.TIMEOUT) == 0


@contextmanager
def overwritten(nodes: Lab, stub: str, code: bytes) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A program on node 2 with ``code`` in the place of its stub, and the PID of its body."""
    command = (*USER, *STAYS, "mosrun", "-2", stub, "map", "loop", "0")
    with nodes.start(1, *command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            assert process.stdout
            while not process.stdout.readline().startswith(b"maps"):
                pass
            [guest] = [guest.pid for guest in nodes.tree(2).guests() if guest.origpid == process.pid]
            with open(f"/proc/{guest}/mem", "wb", buffering=0) as memory:
                os.pwrite(memory.fileno(), code, layout.STUB)
            yield process, guest
        finally:
            process.kill()


def test_a_body_does_not_outlive_its_program(nodes: Lab, stub: str) -> None:
    """Whatever it does: here with a stub that never ends, and a host that is waiting for it."""
    with overwritten(nodes, stub, LOOP) as (process, guest):
        os.kill(process.pid, signal.SIGUSR1)
        time.sleep(0.5)
        process.kill()
        wait_until(lambda: not os.path.exists(f"/proc/{guest}"))
    assert nodes.run(2, "mosctl", "expel").returncode == 0
    assert nodes.run(2, "mosctl", "bring").returncode == 0


@pytest.mark.parametrize("code", [LOOP, b"\x0f\x0b", PAUSE], ids=["loop", "ud2", "pause"])
def test_nobody_stays_by_having_no_stub(nodes: Lab, stub: str, code: bytes) -> None:
    """Guests are sent away: what cannot be captured ends, with its program, and holds up no other."""
    with bystanders(nodes), overwritten(nodes, stub, code) as (process, guest):
        assert nodes.run(2, "mosctl", "expel").returncode == 0
        try:
            wait_until(lambda: not os.path.exists(f"/proc/{guest}"))
            assert process.wait(60) != 0
        finally:
            assert nodes.run(2, "mosctl", "bring").returncode == 0


def test_no_thread_of_a_guest_makes_another_that_nobody_traces(nodes: Lab) -> None:
    """By writing where its kernel is to read what to make."""
    binary = Path(nodes.plan.root).parent / "clone"
    compile_c(SOURCES / "clone.c", binary, (*CFLAGS, "-pthread"))
    binary.chmod(0o755)
    where = hex(threads.CLONES), str(threads.CLONE_ROOM * (MOST_THREADS + 2))
    done = nodes.run(1, *USER, "mosrun", "-2", str(binary), *where, timeout=cluster.TIMEOUT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "closed 200\n", "")


def test_the_guests_of_each_owner_are_a_users_of_their_own(nodes: Lab) -> None:
    """So that even a call that slips through finds nobody, and the kernel counts their signals, processes and memory apart."""
    users = [(), USER, USER, as_user(65532)]
    command: tuple[str, ...] = ("mosrun", "-2", "sh", "-c", "echo; while :; do sleep 1000; done")
    started = [nodes.start(1, *user, *command, stdout=subprocess.PIPE) for user in users]
    for process in started:
        assert process.stdout and process.stdout.read(1)
    wait_until(lambda: {process.pid for process in started} <= {guest.origpid for guest in nodes.tree(2).guests()})
    bodies = {guest.origpid: os.stat(f"/proc/{guest.pid}") for guest in nodes.tree(2).guests()}
    found = [(bodies[process.pid].st_uid, bodies[process.pid].st_gid) for process in started]
    assert found[1] == found[2] and len(set(found)) == 3, found
    assert all(uid == gid and uid in DEFAULT_GUEST_UIDS for uid, gid in found)
    # a mosd that starts anew knows what is in use
    nodes.kill_mosd(2)
    nodes.start_mosd(2)
    command = ("setpriv", "--reuid=65531", "mosrun", "-2", "sh", "-c", "echo; exec sleep 1000")
    with nodes.start(1, *command, stdout=subprocess.PIPE) as late:
        assert late.stdout and late.stdout.read(1)
        [guest] = wait_until(lambda: [guest for guest in nodes.tree(2).guests() if guest.origpid == late.pid])
        assert os.stat(f"/proc/{guest.pid}").st_uid not in {uid for uid, _ in found}
        late.kill()
    for process in started:
        process.kill()


#: Python itself ignores SIGPIPE and SIGXFSZ.
UNSUPPORTED = """
import ctypes, resource, signal
for number in (signal.SIGPIPE, signal.SIGXFSZ):
    signal.signal(number, signal.SIG_DFL)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
ctypes.CDLL(None).syscall(101, 0, 0, 0, 0)
print("on")
"""


@contextmanager
def nobody_reads() -> Iterator[int]:
    """A pipe that is full."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, bytes(4096))
    os.set_blocking(writer, True)
    yield writer
    os.close(reader)
    os.close(writer)


@contextmanager
def no_reader() -> Iterator[int]:
    """A pipe whose other end is closed: writing there raises SIGPIPE."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


@contextmanager
def no_room() -> Iterator[int]:
    """A file of the size that the program may give files: writing there raises SIGXFSZ."""
    with tempfile.TemporaryFile() as file:
        file.truncate(4096)
        file.seek(4096)
        yield file.fileno()


@pytest.mark.parametrize("where", [nobody_reads, no_reader, no_room])
@pytest.mark.parametrize("place", ["-h", "-2"])
def test_our_words_hold_up_and_end_no_program(nodes: Lab, place: str, where: Callable[[], Any]) -> None:
    """The line about an unsupported call is for a standard error that takes none."""
    with where() as stderr:
        command = ("mosrun", place, "-w", "python3", "-I", "-S", "-c", UNSUPPORTED)
        with nodes.start(1, *command, stdout=subprocess.PIPE, stderr=stderr) as process:
            assert process.stdout and process.stdout.read() == b"on\n"
            assert process.wait(cluster.TIMEOUT) == 0


def test_a_users_own_variables_change_nothing_of_ours(nodes: Lab, tmp_path: Path) -> None:
    """Those that mosd, tracer and host look at are looked at in the environment of mosd only."""
    tmp_path.chmod(0o777)
    variables = (
        "MOSIX_TRACE=1", f"MOSIX_RECORD={tmp_path}", f"MOSIX_CLOCKS={tmp_path}/clocks", "MOSIX_KERNEL_WITHOUT=all",
        "MOSIX_CPU_WITHOUT=avx avx2 sse4_2", "MOSIX_LOG=debug", "MOSIX_PRECOPY=off", "MOSIX_BALANCE=off",
    )  # fmt: skip
    log = Path(nodes.node(1).paths.log)
    before = log.read_text()
    done = nodes.run(1, *USER, "env", *variables, "mosrun", "-2", "sh", "-c", "echo on")
    assert (done.returncode, done.stdout, done.stderr) == (0, "on\n", "")
    assert not list(tmp_path.iterdir())
    assert "DEBUG" not in log.read_text()[len(before) :]


# --------------------------------------------------------------------------- what hardly any program uses

#: Ways of rare.c: with these its program goes on, and has its own end; with those it may not stand what we do for it.
HARMLESS = (
    "faults", "ring", "segment", "compatible", "namespaces", "pids", "untraced", "parent", "memory", "traceme", "dumpable",
    "pkey", "brk", "slack", "perf", "bpf", "keys",
)  # fmt: skip
DEADLY = ("kill", "trap", "trace", "notify", "dispatch", "sealed", "errno")


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_what_is_done_by_the_32_bit_door_is_its_own_programs_affair(nodes: Lab) -> None:
    """A filter that says what it likes of our calls, a segment of its own, a namespace, rings: whatever the program has, it is
    asked to go away and to come home, and gets signals. It may end; nobody else does, and no part of ours fails."""
    binary = Path(nodes.plan.root).parent / "rare"
    compile_c(SOURCES / "rare.c", binary, CFLAGS)
    binary.chmod(0o755)
    begun = {number: os.path.getsize(nodes.node(number).paths.log) for number in (1, 2)}
    ended = dict[str, tuple[str, int | None]]()
    with bystanders(nodes):
        for way in (*HARMLESS, *DEADLY):
            process = nodes.start(1, *USER, "mosrun", "-h", str(binary), way, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            assert process.stdin and process.stdout
            said, status = process.stdout.readline().decode().strip(), None
            with suppress(subprocess.TimeoutExpired, BrokenPipeError):  # until it has had its two seconds of a busy processor
                for place in ("2", "home"):
                    nodes.run(1, "mosmigrate", str(process.pid), place, timeout=60)
                process.stdin.write(b"\n")
                process.stdin.close()
                status = process.wait(60)
            process.kill()
            process.wait(60)
            ended[way] = said, status
    assert [way for way, (said, _) in ended.items() if not said.startswith(way)] == []
    assert {way: ended[way][1] for way in HARMLESS} == dict.fromkeys(HARMLESS, 0)
    for number, at in begun.items():
        log = Path(nodes.node(number).paths.log).read_bytes()[at:].decode()
        traces = log.count("Traceback") - log.count("During handling of the above exception")
        assert traces == log.count("(rare) is ended, because serving it failed"), log
