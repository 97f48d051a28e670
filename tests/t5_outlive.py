"""mosrun --outlive: programs whose host, daemon or node is killed at random moments go on, and nothing that they do is done twice.

What a program prints and writes is what it prints and writes natively, byte for byte; or it ends with the manual's message, which
is counted, and what it has written until then is the beginning of that.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import cluster, link
from tests.cluster import Lab, kill_node, wait_until
from tests.progs import scratch
from tests.t5_kills import daemons, kill

pytestmark = pytest.mark.root

PATIENCE = 120.0
#: Where programs run; home is node 1.
AWAY = (2, 3, 4)
GONE = b"mosrun: Lost communication with "

#: What is run in an empty folder, as words of a command: each takes some seconds away.
PROGRAMS: dict[str, tuple[str, ...]] = {
    "compute": ("python3", "-IS", "-c", """
import hashlib
x = bytes(64)
for i in range(1500000):
    x = hashlib.sha256(x).digest()
print(x.hex())
"""),
    "append": ("python3", "-IS", "-c", """
import os
x = 1
fd = os.open("out", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
for i in range(600):
    for _ in range(8000):
        x = (x * 1103515245 + 12345) % (1 << 31)
    os.write(fd, f"{i} {x}\\n".encode())
print("end", x)
"""),
    "pipe": ("python3", "-IS", "-c", """
import os, zlib
r, w = os.pipe()
total = 0
for i in range(800):
    os.write(w, str(i).encode() * 500)
    data = os.read(r, 65536)
    for _ in range(20):
        total = zlib.crc32(data, total)
print(total)
"""),
    "random": ("python3", "-IS", "-c", """
import os, random, time
# What is random or time must be one thing in all that the program does.
seen = [os.urandom(8).hex() for _ in range(3)]
last = time.monotonic()
with open("out", "w", buffering=1) as out:
    for i in range(400):
        for _ in range(4000):
            pass
        key = os.urandom(8).hex()
        now = time.monotonic()
        assert now >= last
        last = now
        seen.append(key)
        print(i, key, file=out)
lines = [line.split()[1] for line in open("out")]
print("consistent", lines == seen[3:], len(lines))
"""),
    "database": ("sqlite3", "db", """
create table t(i integer primary key, x integer);
with recursive c(i) as (select 1 union all select i + 1 from c where i < 20000) insert into t select i, i * 7919 % 10007 from c;
create index x on t(x);
update t set x = x + 1 where i % 3 = 0;
delete from t where i % 7 = 0;
with recursive c(i) as (select 1 union all select i + 1 from c where i < 300000) select sum(i * 31 % 97) from c;
select count(*), sum(x), max(x) from t;
"""),
    "shell": ("bash", "-c", """
i=0 x=1
while [ $i -lt 150 ]; do
    for ((j = 0; j < 300; j++)); do x=$(((x * 1103515245 + 12345) % 2147483648)); done
    echo "$i $x" >> out
    i=$((i + 1))
done
echo end $x
"""),
    "awk": ("awk", """BEGIN {
    for (i = 0; i < 3000000; i++) { x = (x * 1103 + 12345) % 65536; if (i % 20000 == 0) print i, x > "out" }
    print x
}"""),
    "sort": ("gawk", """BEGIN {
    for (i = 0; i < 200000; i++) a[i] = x = (x * 1103515 + 12345) % 2147483648
    n = asort(a)
    for (i = 1; i <= n; i += 1000) print a[i]
    print n
}"""),
}


@dataclass
class Outcome:
    status: int
    out: bytes
    err: bytes
    files: dict[str, bytes]

    @classmethod
    def of(cls, process: subprocess.Popen[bytes], folder: Path) -> Outcome:
        out, err = process.communicate(timeout=PATIENCE)
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        return cls(process.returncode, out, err, files)


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with cluster.lab(tmp_path_factory.mktemp("outlive"), 1 + len(AWAY)) as running:
        yield running


@pytest.fixture
def folder() -> Iterator[Path]:
    with scratch() as path:
        yield path


def natively(name: str, folder: Path) -> Outcome:
    folder.mkdir()
    process = subprocess.Popen(PROGRAMS[name], cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    return Outcome.of(process, folder)


def same(name: str, found: Outcome, expected: Outcome) -> bool:
    """Whether they did the same. What is random differs natively, too: that program looks itself whether it has been one thing."""
    if (found.status, found.out, found.err) != (expected.status, expected.out, expected.err):
        return False
    return name == "random" or found.files == expected.files


def beginning(name: str, found: Outcome, expected: Outcome) -> bool:
    """Whether it did the first part of that, once."""
    appended = found.files.get("out", b"")
    return name in ("random", "database") or expected.files.get("out", b"").startswith(appended)


def node_of(nodes: Lab, pid: int) -> int:
    """Where the program is; 0 at home."""
    process = nodes.tree(1).process(pid)
    where = process.where if process is not None else ""
    return next((node.number for node in nodes.plan.nodes() if node.ip == where), 0)


def host(nodes: Lab, number: int) -> None:
    for pid in daemons(nodes, number, "mos-host"):
        kill(pid, lambda: True)


def mosd(nodes: Lab, number: int) -> None:
    nodes.kill_mosd(number)
    nodes.start_mosd(number)


def node(nodes: Lab, number: int) -> None:
    kill_node(nodes, number)
    nodes.start_mosd(number)


def begin(nodes: Lab, folder: Path, number: int, *command: str) -> subprocess.Popen[bytes]:
    """Start a command in ``folder``, on node ``number``, so that it outlives that."""
    return nodes.start(
        1, "mosrun", "--outlive", f"-{nodes.node(number).ip}", *command, cwd=folder,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )


def outliving(nodes: Lab, process: subprocess.Popen[bytes]) -> str:
    """The file of that name."""
    return nodes.tree(1).read(f"proc/{process.pid}/outliving")


def begin_safe(nodes: Lab, folder: Path, name: str) -> subprocess.Popen[bytes]:
    """Start a program on node 2; it would outlive that now."""
    folder.mkdir()
    process = begin(nodes, folder, 2, *PROGRAMS[name])
    nodes.process(process.pid)
    assert wait_until(lambda: outliving(nodes, process).startswith("yes"), PATIENCE)
    return process


def play(nodes: Lab, folder: Path, name: str, victim: Callable[[Lab, int], None], pause: float, kills: int = 1) -> Outcome:
    """Run a program and kill ``victim`` of the node where it is, ``kills`` times, ``pause`` seconds apart."""
    folder.mkdir(parents=True)
    process = begin(nodes, folder, random.choice(AWAY), *PROGRAMS[name])
    for _ in range(kills):
        time.sleep(pause)
        if process.poll() is None and (number := node_of(nodes, process.pid)) > 1:
            victim(nodes, number)
    return Outcome.of(process, folder)


#: What may be killed, where the program is.
VICTIMS: tuple[Callable[[Lab, int], None], ...] = (host, node, mosd)


def test_what_a_program_has_done_is_not_done_again(nodes: Lab, folder: Path) -> None:
    """As soon as it is safe, its node dies."""
    expected = natively("append", folder / "native")
    process = begin_safe(nodes, folder / "away", "append")
    host(nodes, 2)
    assert same("append", Outcome.of(process, folder / "away"), expected)
    assert " lives on " in nodes.logs()


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("victim", VICTIMS, ids=lambda victim: victim.__name__)
@pytest.mark.long
def test_a_program_outlives_its_node(nodes: Lab, folder: Path, name: str, victim: Callable[[Lab, int], None]) -> None:
    """MOSIX_OUTLIVE_ROUNDS programs, whose nodes are killed three times each."""
    seed = random.randrange(1 << 32)
    pick = random.Random(seed)
    expected = natively(name, folder / "native")
    rounds = int(os.environ.get("MOSIX_OUTLIVE_ROUNDS", "4"))
    outlived = 0
    for number in range(rounds):
        found = play(nodes, folder / str(number), name, victim, pick.uniform(0.3, 4), kills=3)
        if found.err.startswith(GONE):
            assert found.status == -signal.SIGKILL and beginning(name, found, expected), (seed, number, found)
        else:
            assert same(name, found, expected), (seed, number, found, nodes.logs())
            outlived += 1
    print(f"{name}: {outlived} of {rounds} went on")
    assert outlived


@pytest.mark.long
def test_the_daemon_at_home_is_restarted_meanwhile(nodes: Lab, folder: Path) -> None:
    def both(nodes: Lab, number: int) -> None:
        mosd(nodes, 1)
        host(nodes, number)

    expected = natively("append", folder / "native")
    assert same("append", play(nodes, folder / "away", "append", both, 1), expected)


HANDLERS = """
import os, select, signal
count = 0
def handler(*_):
    global count
    count += 1
    os.write(out, b"%d\\n" % count)
    if count == 2:
        raise SystemExit("end")
out = os.open("out", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
signal.signal(signal.SIGUSR1, handler)
select.select([], [], [], 600)
"""


@pytest.mark.long
def test_a_signal_that_ended_a_call_is_repeated(nodes: Lab, folder: Path) -> None:
    """The image was made while it waited in the call; what it did at the end of its handler is what it does again."""
    process = begin(nodes, folder, 2, "python3", "-IS", "-c", HANDLERS)
    nodes.process(process.pid)
    wait_until(lambda: (told := outliving(nodes, process)).startswith("yes") and images(told) > 1, PATIENCE)
    for count in (1, 2):
        os.kill(process.pid, signal.SIGUSR1)
        wait_until(lambda wanted=count: len((folder / "out").read_bytes().splitlines()) == wanted)  # type: ignore[misc]
        if count == 1:
            host(nodes, node_of(nodes, process.pid))
            wait_until(lambda: "outlived=1" in outliving(nodes, process), PATIENCE)
    found = Outcome.of(process, folder)
    assert (found.status, found.out, found.err, found.files["out"]) == (1, b"", b"end\n", b"1\n2\n"), nodes.logs()


def images(told: str) -> int:
    """How many there have been, by the file `outliving`."""
    return next((int(word.partition("=")[2]) for word in told.split() if word.startswith("images=")), 0)


@pytest.mark.long
def test_no_other_node_takes_it(nodes: Lab, folder: Path) -> None:
    """It waits, and who wants it at home is told so; when nodes are back, it goes on."""
    expected = natively("append", folder / "native")
    process = begin_safe(nodes, folder / "away", "append")
    for number in (3, 4, 2):
        kill_node(nodes, number)
    told = wait_until(lambda: [
        line for line in nodes.run(1, "mosmigrate", str(process.pid), "home").stderr.splitlines() if "its node was lost" in line
    ], PATIENCE)  # fmt: skip
    assert "it waits for another" in told[0] or "it repeats" in told[0]
    assert process.poll() is None
    for number in AWAY:
        nodes.start_mosd(number)
    assert same("append", Outcome.of(process, folder / "away"), expected), nodes.logs()


@pytest.mark.long
@link.possible
def test_a_link_is_cut(tmp_path: Path, folder: Path) -> None:
    """The node goes on computing, and nothing that it does is seen by anybody any more: after 20 s another one does it."""
    expected = natively("append", folder / "native")
    with cluster.lab(tmp_path, 3, netns=True) as nodes, link.network(nodes.plan) as net:
        process = begin_safe(nodes, folder / "away", "append")
        net.part(2)
        assert same("append", Outcome.of(process, folder / "away"), expected), nodes.logs()
        assert " lives on " in nodes.logs()
