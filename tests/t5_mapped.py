"""Files that programs map away: where the node has them by itself, or has others (`migrate.offered`), and while they move."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import cluster
from tests.cluster import Lab

pytestmark = pytest.mark.root

#: Maps a file again and again, and says each time what it sees; a thread maps it at the same time, and children see what it sees.
MAPS = """
import hashlib, mmap, os, sys, threading, time
sums = set()
def look(path, part):
    fd = os.open(path, os.O_RDONLY)
    size = os.fstat(fd).st_size
    start = size // 8 * part // mmap.PAGESIZE * mmap.PAGESIZE
    memory = mmap.mmap(fd, size - start, mmap.MAP_PRIVATE if part % 2 else mmap.MAP_SHARED, mmap.PROT_READ, offset=start)
    os.close(fd)
    sums.add((part, hashlib.sha1(memory).hexdigest()))
    if part == 3 and not os.fork():
        os._exit(hashlib.sha1(memory).hexdigest() not in {s for _, s in sums})
    if part == 3:
        sums.add(("child", os.waitstatus_to_exitcode(os.wait()[1])))
end = time.monotonic() + float(sys.argv[2])
rounds = 0
while rounds < 2 or time.monotonic() < end:
    threads = [threading.Thread(target=look, args=(sys.argv[1], part)) for part in (2, 1)]
    for thread in threads: thread.start()
    for part in range(8): look(sys.argv[1], part)
    for thread in threads: thread.join()
    rounds += 1
for line in sorted(map(str, sums)): print(line)
"""


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with cluster.lab(tmp_path_factory.mktemp("offered"), 3) as found:
        yield found


@pytest.fixture(params=[0, 1], ids=["taken", "refused"])
def folder(request: pytest.FixtureRequest) -> Iterator[Path]:
    """With files that home offers. A node takes them for its own if they are root's, else it asks for what is in them."""
    found = Path(tempfile.mkdtemp(prefix="mosfs-test-", dir="/usr/local/lib"))
    try:
        found.chmod(0o755)
        (found / "data").write_bytes(random.Random(5).randbytes(700_000) + bytes(300_000) + random.Random(6).randbytes(900_123))
        shutil.copy("/bin/bash", found / "bash")
        for path in found.iterdir():
            os.chown(path, request.param, request.param)
        yield found
    finally:
        shutil.rmtree(found)


def natively(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


def test_a_program_and_its_child_begin_away(nodes: Lab, folder: Path) -> None:
    script = f"echo $((6 * 7)); {folder}/bash -c 'echo $((6 * 8)); md5sum {folder}/bash'; (echo sub)"
    done = nodes.run(1, "mosrun", "-2", f"{folder}/bash", "-c", script)
    assert (done.returncode, done.stdout) == (0, natively("bash", "-c", script)), done.stderr


@pytest.mark.parametrize("where", [("-2",), ()])
def test_what_is_mapped_away_is_what_the_file_has(nodes: Lab, folder: Path, where: tuple[str, ...]) -> None:
    done = nodes.run(1, "mosrun", *where, "python3", "-c", MAPS, f"{folder}/data", "0")
    assert (done.returncode, done.stdout) == (0, natively("python3", "-c", MAPS, f"{folder}/data", "0")), done.stderr


def test_the_same_while_it_moves(nodes: Lab, folder: Path) -> None:
    command = ("python3", "-c", MAPS, f"{folder}/data", "6")
    done = nodes.storm("mosrun", *command)
    assert done.returncode == 0 and done.stdout == natively("python3", "-c", MAPS, f"{folder}/data", "0"), done.stderr


def test_a_change_reaches_who_has_taken_it_from_the_node(nodes: Lab, folder: Path) -> None:
    """What was offered is followed as what was sent."""
    looks = (
        "import hashlib, mmap, os, sys\n"
        "fd = os.open(sys.argv[1], os.O_RDONLY)\n"
        "m = mmap.mmap(fd, 0, mmap.MAP_SHARED, mmap.PROT_READ)\n"
        "for line in sys.stdin: print(hashlib.sha1(m[:]).hexdigest(), flush=True)\n"
    )
    command, pipe = ("mosrun", "-2", "python3", "-c", looks, f"{folder}/data"), subprocess.PIPE
    with nodes.start(1, *command, stdin=pipe, stdout=pipe) as task:
        assert task.stdin is not None and task.stdout is not None
        for at in (0, 5, 65536, 1_000_000, 1_800_000):
            with open(folder / "data", "r+b") as file:
                file.seek(at)
                file.write(b"changed")
            task.stdin.write(b"\n")
            task.stdin.flush()
            assert task.stdout.readline().decode().strip() == hashlib.sha1((folder / "data").read_bytes()).hexdigest()
        task.stdin.close()
        assert task.wait(60) == 0


#: Maps a file that is open for writing, for reading, again and again, while it is called home, and has moved one of the mappings;
#: at home it makes all of them writable.
MANY = """
import ctypes, mmap, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
memory = bytearray(os.urandom(1 << 20)) * 250
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
os.ftruncate(fd, 4096)
print("ready", flush=True)
libc.mremap.restype = ctypes.c_void_p
libc.mremap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p)
place = libc.mmap(None, 4096, 0, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
found = [libc.mremap(libc.mmap(None, 4096, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0), 4096, 4096, 3, place)]
while os.open("/proc/self/nmigs", 0) != 2 and len(found) < 20000:
    found.append(libc.mmap(None, 4096, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0))
refused = 0
for at in found:
    refused += libc.mprotect(at, 4096, mmap.PROT_READ | mmap.PROT_WRITE) != 0
print(len(found) > 3, refused, flush=True)
"""


def test_what_is_mapped_on_the_way_home_can_be_written_there(nodes: Lab, tmp_path: Path) -> None:
    """The deputy does not hold it yet, and makes it anew."""
    with nodes.start(1, "mosrun", "-2", "python3", "-c", MANY, str(tmp_path / "file"), stdout=subprocess.PIPE) as task:
        assert task.stdout is not None
        assert task.stdout.readline() == b"ready\n"
        assert nodes.run(1, "mosmigrate", str(task.pid), "home").returncode == 0
        assert task.stdout.readline() == b"True 0\n"
        assert task.wait(60) == 0
