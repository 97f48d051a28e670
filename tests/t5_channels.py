"""Data channels in a lab: peers that say what no peer of ours says, and very many channels of one tree."""

from __future__ import annotations

import os
import random
import re
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from msgspec import inspect

from mosfs.migrate.image import ImageMeta
from mosfs.ptf.travel import Manifest
from mosfs.tools import lab as labs
from mosfs.wire.frames import SHAPES, BadFrame, Kind, To, check
from mosfs.wire.orders import ExecOrder, OutOrder
from tests import cluster, damage
from tests.cluster import Lab, wait_until

pytestmark = pytest.mark.root

PATIENCE = 60.0  #: seconds after which something hangs

#: Two programs of one tree. The first goes away and meets the frame; the second has a channel of its own.
FAMILY = """
exec 7<> <(:)
work() { for ((i = 0; i < $1; i++)); do read -r w < /proc/self/whereami; read -u 7 -rt 0.02; done; }
export -f work
mosrun -h -2 bash -c 'work 40; exit 3' & a=$!
mosrun -h -3 bash -c 'work 60; exit 4' & b=$!
wait $a; echo a $?
wait $b; echo b $?
"""

AT_ONCE = 8  #: programs that meet frames of their own
WAITS = "echo ready; read line; echo ends; exit 6"


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with cluster.lab(tmp_path_factory.mktemp("channels"), 3) as running:
        yield running


def payloads(kind: Kind) -> Iterator[bytes]:
    """Too short, too long, and noise of an allowed length."""
    shape = SHAPES[kind]
    if shape.least:
        yield bytes(shape.least - 1)
    if shape.most < 1 << 20:
        yield bytes(shape.most + 1)
    yield random.Random(kind).randbytes(min(max(shape.least, 40), shape.most))


#: One field more than we know, nested very deeply.
DEEP = b"\x91" * 2000 + b"\x90"
#: What a table of lengths and ranges does not tell: it is the receiver that finds it wrong, or does not mind.
CRAFTED: list[tuple[Kind, int, int, bytes]] = [
    (Kind.EARLY, 0, 0, msgspec.msgpack.encode([(0x10000, 0x11000, 7, 0)])),
    (Kind.EARLY, 0, 0, msgspec.msgpack.encode([(1 << 46, (1 << 46) + (1 << 45), 3, 0)])),
    (Kind.PAGES, 0, 0, struct.pack("<QIIQ", 0x10000, 1 << 20, 2, 0)),
    (Kind.PAGES, 0, 0, struct.pack("<QIIQ", (1 << 64) - 4096, 64, 1, 0) + bytes(1000)),
    (Kind.RUNS, 0, 0, struct.pack("<IIQ", 64, 0, 0) + struct.pack("<QII", 0x10000, 1 << 20, 2) * 64),
    (Kind.RUNS, 0, 0, struct.pack("<IIQ", 0xFFFFFFFF, 1, 0) + bytes(16)),
    (Kind.IMAGE, 0, 0, b"\x90"),
    (Kind.CALL, 0, 0, struct.pack("<i4HI7Q", 1, 65535, 0, 0, 0, 0, *[0] * 7)),
    (Kind.CALL, 0, 0, struct.pack("<i4HI7Q", 1, 1, 0, 0, 0, 0, *[0] * 7) + struct.pack("<QIIBBHI", 0, 0xFFFFFFFF, 0, 1, 0, 1, 0)),
    (Kind.CALL, 0, 0, struct.pack("<i4HI7Q", 1 << 30, 0, 0, 0, 0, 0, *[(1 << 64) - 1] * 7)),
    (Kind.EXEC, 0, 0, b"\x99" + msgspec.msgpack.encode(ExecOrder(59, 0, b"/bin/true", [], [], 0, 0))[1:] + DEEP),
    (Kind.MASK, 0, 1, bytes(8)),
    (Kind.DIED, 0, 1, struct.pack("<i", 9)),
    (Kind.REPLY, 2, 0, struct.pack("<qHHI", 0, 1, 0, 0) + struct.pack("<QI", (1 << 64) - 4, 8) + bytes(8)),
    (Kind.MMAP_DATA, 0, 0, struct.pack("<Q", (1 << 64) - 1) + bytes(8)),
    (Kind.MANIFEST, 0, 0, b"\xff"),
    (Kind.PRIVATE, 0, 0, struct.pack("<QQIIQ", 1, 1 << 63, 1, 0, 0)),
]  # fmt: skip


#: Of kinds with more than one shape.
STRUCTURES: dict[Kind, type[msgspec.Struct]] = {Kind.STEP_OUT: OutOrder, Kind.IMAGE: ImageMeta, Kind.MANIFEST: Manifest}
#: How many frames at the edges `make test-all` sends; MOSIX_EDGES=1000 are all.
EDGES = int(os.environ.get("MOSIX_EDGES", "30"))


def at_the_edges(to: To) -> Iterator[tuple[Kind, int, int, bytes]]:
    """Frames that the table lets through, made from it: each field of each structure at the ends of its range, numbers as bytes."""
    for kind, shape in ((kind, SHAPES[kind]) for kind in Kind):
        if to not in shape.to:
            continue
        decoder = getattr(shape.content, "__self__", None)
        found = decoder.type if isinstance(decoder, msgspec.msgpack.Decoder) else STRUCTURES.get(kind)
        if found is not None:
            payloads = [msgspec.msgpack.encode(value) for value in damage.edges(inspect.type_info(found))]
        else:
            sizes = sorted({shape.least, min(shape.most, shape.least + 4096)})
            payloads = [bytes([byte]) * size for size in sizes for byte in (0, 1, 0x7F, 0x80, 0xFF)]
        for payload in dict.fromkeys(payloads):
            with suppress(BadFrame):
                check(to, kind, 0, 5, payload)
                yield kind, 0, 0, payload
        if shape.flags:
            yield kind, shape.flags, 0, payloads[0]


def rows(to: To) -> list[object]:
    found = [(kind, 0, 0, payload) for kind in Kind if to in SHAPES[kind].to for payload in payloads(kind)]
    found += [row for row in CRAFTED if to in SHAPES[row[0]].to]
    found += [(Kind.GO, 0, 0, b""), (Kind.RUNNING, 0, 1 << 40, b"")] if to is To.TRACER else [(Kind.CALL, 0, 0, bytes(72))]
    quick = random.Random(1).sample(range(len(found)), 6)
    return [
        pytest.param(*row, id=f"{row[0].name}-{len(row[3])}-{i}", marks=[] if i in quick else [pytest.mark.long])
        for i, row in enumerate(found)
    ]


class Rogue:
    """A node whose hosts (or tracers) are `tests.rogue`."""

    def __init__(self, nodes: Lab, number: int, what: str, folder: Path) -> None:
        self.nodes, self.number, self.file = nodes, number, folder / "frame"
        node = nodes.node(number)
        nodes.kill_mosd(number)
        environ = {**labs.environment(node), "MOSIX_ROGUE": str(self.file), "PYTHONPATH": str(Path(__file__).parent.parent)}
        with open(node.paths.log, "ab") as log:
            command = [sys.executable, "-m", labs.MOSD, f"--{what}=tests.rogue"]
            subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", env=environ, check=True)
        wait_until(lambda: labs.answers(node))

    def end(self) -> None:
        self.nodes.kill_mosd(self.number)
        self.nodes.start_mosd(self.number)

    def begin(self, kind: Kind, flags: int, pair: int, payload: bytes) -> subprocess.Popen[bytes]:
        """A program goes away and meets this frame."""
        self.file.write_text(f"{kind.value} {flags} {pair} {payload.hex()}")
        return self.nodes.start(1, "mosrun", "-h", "-2", "bash", "-c", WAITS, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)

    def meets(self, kind: Kind, flags: int, pair: int, payload: bytes) -> subprocess.CompletedProcess[str]:
        """A family runs, and one of it meets this frame."""
        self.file.write_text(f"{kind.value} {flags} {pair} {payload.hex()}")
        done = self.nodes.run(1, "mosrun", "-h", "bash", "-c", FAMILY, timeout=PATIENCE)
        assert not self.file.exists()
        return done


@pytest.fixture(scope="module")
def rogue_host(nodes: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rogue]:
    rogue = Rogue(nodes, 2, "host", tmp_path_factory.mktemp("rogue"))
    yield rogue
    rogue.end()


@pytest.fixture(scope="module")
def rogue_tracer(nodes: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rogue]:
    rogue = Rogue(nodes, 1, "tracer", tmp_path_factory.mktemp("rogue"))
    yield rogue
    rogue.end()


@pytest.mark.parametrize(("kind", "flags", "pair", "payload"), rows(To.TRACER))
def test_what_a_host_says_is_its_own_guests_affair(kind: Kind, flags: int, pair: int, payload: bytes, rogue_host: Rogue) -> None:
    done = rogue_host.meets(kind, flags, pair, payload)
    first, second = done.stdout.splitlines()
    assert re.fullmatch(r"a (1|3|1[0-9][0-9])", first), done  # 1: the frame came together with those of its start
    assert second == "b 4", done


#: One of the tree reads much, away, where nobody hears the answer; its parent makes processes.
READS = """
mosrun -h -2 dd if=/dev/zero of=/dev/null bs=16M count=1 &
while :; do (:); echo; done
"""


def test_a_host_that_hears_nothing_keeps_nobody_waiting(nodes: Lab, rogue_host: Rogue) -> None:
    """But its own guest. It is lost in the end; before that the tree is served, while no more can be sent there."""
    deaf, log = Path(f"{rogue_host.file}.deaf"), Path(nodes.node(1).paths.log)
    deaf.touch()
    begun = log.stat().st_size
    family = nodes.start(1, "mosrun", "-h", "bash", "-c", READS, stdout=subprocess.PIPE)
    assert family.stdout is not None
    wait_until(lambda: not deaf.exists() and unread(nodes) > 1 << 20)
    os.set_blocking(family.stdout.fileno(), False)
    while family.stdout.read(4096):
        pass
    os.set_blocking(family.stdout.fileno(), True)
    for _ in range(10):
        assert family.stdout.readline() == b"\n"
    assert "Lost communication" not in log.read_bytes()[begun:].decode()
    wait_until(lambda: "Lost communication" in log.read_bytes()[begun:].decode(), PATIENCE)
    assert family.stdout.readline() == b"\n"
    family.kill()
    family.wait(PATIENCE)


def unread(nodes: Lab) -> int:
    """The most bytes that wait in one connection of node 1 for node 2 (proc_pid_net(5), tcp)."""
    near, far = (socket.inet_aton(nodes.node(number).ip)[::-1].hex().upper() for number in (1, 2))
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
    return max((int(row[4].split(":")[0], 16) for row in rows if row[1][:8] == near and row[2][:8] == far), default=0)


@pytest.mark.parametrize(("kind", "flags", "pair", "payload"), rows(To.HOST))
def test_what_a_tracer_says_is_its_own_programs_affair(
    kind: Kind, flags: int, pair: int, payload: bytes, nodes: Lab, rogue_tracer: Rogue
) -> None:
    """Another tree's program on the same nodes goes on."""
    others = [
        nodes.start(3, "mosrun", "-h", f"-{number}", "bash", "-c", WAITS, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for number in (2, 3)
    ]
    for other in others:
        assert other.stdout is not None
        assert other.stdout.readline() == b"ready\n"
    own = rogue_tracer.begin(kind, flags, pair, payload)
    wait_until(lambda: not rogue_tracer.file.exists())
    for other in others:
        assert other.communicate(b"\n", PATIENCE)[0] == b"ends\n"
        assert other.wait() == 6
    own.kill()
    own.wait(PATIENCE)


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("what", ["host", "tracer"])
def test_frames_that_the_table_lets_through(what: str, nodes: Lab, tmp_path: Path) -> None:
    """At the ends of their ranges, each for a program of its own: whatever becomes of that, all others go on."""
    frames = [*at_the_edges(To.TRACER if what == "host" else To.HOST)]
    frames = random.Random(what).sample(frames, min(EDGES, len(frames)))
    (tmp_path / "frame").mkdir()
    rogue = Rogue(nodes, 2 if what == "host" else 1, what, tmp_path)
    try:
        others = [
            nodes.start(3, "mosrun", "-h", f"-{number}", "bash", "-c", WAITS, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            for number in (1, 2)
        ]
        for other in others:
            assert other.stdout is not None and other.stdout.readline() == b"ready\n"
        daemons = [nodes.mosd(number) for number in (1, 2, 3)]
        for at in range(0, len(frames), AT_ONCE):
            some = frames[at : at + AT_ONCE]
            for name, (kind, flags, pair, payload) in enumerate(some):
                part = rogue.file / f"{name}.part"
                part.write_text(f"{kind.value} {flags} {pair} {payload.hex()}")
                part.rename(rogue.file / str(name))
            own = [nodes.start(1, "mosrun", "-h", "-2", "sleep", "1000", stderr=subprocess.DEVNULL) for _ in some]
            wait_until(lambda: not os.listdir(rogue.file))
            for process in own:
                process.kill()
            for process in own:
                process.wait(PATIENCE)
        for other in others:
            assert other.communicate(b"\n", PATIENCE)[0] == b"ends\n"
            assert other.wait() == 6
        assert [nodes.mosd(number) for number in (1, 2, 3)] == daemons
    finally:
        rogue.end()


# --------------------------------------------------------------------------- many

#: So many children, which are all at home at first and wait for a line.
MANY = """
import os, sys
children = []
for _ in range(int(sys.argv[1])):
    gate, go = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(go)
        os.read(gate, 1)
        os._exit(os.getppid() == int(sys.argv[2] or os.getppid()) and 7)
    os.close(gate)
    children.append((child, go))
print(*[child for child, _ in children], flush=True)
sys.stdin.readline()
print(sum(open(os.environ["MOUNT"] + f"/proc/{child}/where").read().strip() not in ("here", "starting") for child, _ in children))
for child, go in children:
    os.write(go, b"x")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
print("done")
"""


@pytest.mark.long
def test_three_hundred_channels_of_one_tree(nodes: Lab) -> None:
    """Each child of a tree is moved by itself, so that it has a host and a channel of its own."""
    count = 300
    environ = {**nodes.environ, "MOUNT": nodes.node(1).paths.mount}
    process = subprocess.Popen(
        [*cluster.MOSLAB, "run", "1", "mosrun", "-h", sys.executable, "-I", "-S", "-c", MANY, str(count), ""],
        env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )
    nodes.started.append(process)  # type: ignore[arg-type]
    assert process.stdout is not None and process.stdin is not None
    children = process.stdout.readline().split()
    assert len(children) == count
    for child in children:
        moved = nodes.run(1, "mosmigrate", child, str(2 + int(child) % 2), timeout=PATIENCE)
        assert moved.returncode == 0, (children.index(child), moved.stderr)
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.stdout.readline() == f"{count}\n"
    assert process.stdout.readline() == "done\n"
    assert process.wait(PATIENCE) == 0
