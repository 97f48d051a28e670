"""Nodes that are not near (mosix.map, letter p): the memory of programs that move between them is compressed, and nobody else's."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mosfs.migrate.packing import OFFERED
from tests import cluster
from tests.cluster import Lab, wait_until

pytestmark = pytest.mark.root

#: What a program that works on text has in its memory: 24 MB, no two lines of which are the same.
TEXT = """
import hashlib, sys
key = lambda n: hashlib.md5(str(n).encode()).hexdigest()[:8]
text = "\\n".join(f"{n:08d} {key(n)} GET /index/{n % 977}.html 200 {n * 7919 % 65521}" for n in range(400000))
print(len(text), flush=True)
for line in sys.stdin:
    print(hashlib.md5(text.encode()).hexdigest(), flush=True)
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with cluster.lab(tmp_path_factory.mktemp("distance"), 2, netns=True) as running:
        yield running


def sent(lab: Lab, node: int) -> int:
    """Bytes that it has sent to others (/proc/net/dev, as proc_pid_net(5) says)."""
    lines = lab.run(node, "cat", "/proc/self/net/dev").stdout.splitlines()[2:]
    return sum(int(line.split(":")[1].split()[8]) for line in lines if not line.strip().startswith("lo:"))


def configure(lab: Lab, near: bool) -> None:
    for node in (1, 2):
        Path(lab.node(node).paths.mosix_map).write_text(f"{lab.node(1).ip} 2{' p' if near else ''}\n")
        assert lab.run(node, "mossetpe").returncode == 0
    other = Path(lab.node(1).paths.mount, "nodes", lab.node(2).ip, "stat")
    wait_until(lambda: f'"near":{str(near).lower()}' in other.read_text().replace(" ", ""))


def test_bytes_of_a_move(lab: Lab) -> None:
    """There and back: far, less than half of what it is near; and the program is the same."""
    spent: dict[bool, tuple[int, int]] = {}
    for near in (True, False):
        configure(lab, near)
        program = lab.start(1, "mosrun", "-h", sys.executable, "-c", TEXT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert program.stdin is not None and program.stdout is not None
        size = int(program.stdout.readline())
        digests = set()
        bytes_of = []
        for source, target in ((1, "2"), (2, "home")):
            before = sent(lab, source)
            done = lab.run(1, "mosmigrate", str(program.pid), target)
            assert (done.returncode, done.stderr) == (0, "")
            bytes_of.append(sent(lab, source) - before)
            program.stdin.write(b"\n")
            program.stdin.flush()
            digests.add(program.stdout.readline())
        assert len(digests) == 1
        assert min(bytes_of) > size if near else max(bytes_of) < size, (bytes_of, size)
        spent[near] = (bytes_of[0], bytes_of[1])
        program.stdin.close()
        program.stdout.close()
        assert program.wait(60) == 0
        lab.started.remove(program)
    print(f"bytes there and back, near {spent[True]}, far {spent[False]}, by {'zstd' if OFFERED else 'zlib'}")
    assert all(far < near // 2 for near, far in zip(spent[True], spent[False]))
