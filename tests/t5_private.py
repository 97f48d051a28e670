"""mosrun -X in a lab: limits, the way home when a node has no room, big files that travel, and what the tree shows.

Ordinary work with private files is the test program `private` (t5_programs).
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mosfs.trace.proc import tracer_of
from tests import cluster
from tests.cluster import Lab, as_user, lab, wait_until
from tests.progs import CFLAGS, REPO, compile_c

#: Below /private-of-nobody nothing exists: only private files can be there.
DIRECTORY = "/private-of-nobody"
PYTHON = "/usr/bin/python3"
#: What the scripts share.
PRELUDE = """
import os, sys, time, hashlib
MB = 1 << 20
def where():
    with open(os.environ["MOUNT"] + "/self/whereami") as file:
        return int(file.read())
def private(name):
    return f"{directory}/{name}"
directory, *arguments = sys.argv[1:]
"""
#: Writes so many megabytes, says after how many it was where, and what went wrong; then checks what it has written.
WRITE = PRELUDE + """
total = int(arguments[0])
fd = os.open(private("f"), os.O_RDWR | os.O_CREAT | os.O_EXCL)
seen, done = [], 0
block = os.urandom(MB)
try:
    for done in range(total):
        if not seen or seen[-1] != where():
            seen.append(where())
        assert os.write(fd, block) == MB
    done = total
    error = 0
except OSError as failure:
    error = failure.errno
if seen[-1] != where():
    seen.append(where())
os.lseek(fd, 0, 0)
for _ in range(done):
    assert os.read(fd, MB) == block
assert os.read(fd, 1) == b""
print(done, seen, error)
"""


def configure(nodes: Lab, number: int, text: str | None) -> None:
    """Give a node another private.conf, and its mosd the time to read it."""
    path = Path(nodes.node(number).paths.private_conf)
    if text is None:
        path.unlink(missing_ok=True)
    else:
        path.write_text(text)
    nodes.kill_mosd(number)
    nodes.start_mosd(number)


def linked(nodes: Lab) -> bool:
    """All nodes know that the others live."""
    return all(
        nodes.tree(n).read(f"nodes/{other.ip}/status").strip() == "alive"
        for n in range(1, 4) for other in nodes.plan.nodes() if other.number != n
    )


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Node 1 gives its own programs 30 MB, node 2 its guests 14, node 3 has no room for guests."""
    with lab(tmp_path_factory.mktemp("lab"), 3) as running:
        spaces = {number: running.node(number).paths.private for number in (1, 2, 3)}
        configure(running, 1, f"# own programs only\nO {spaces[1]} 30\n")
        configure(running, 2, f"OC {spaces[2]} 14\n")
        configure(running, 3, f"O {spaces[3]}\n")
        wait_until(lambda: linked(running))
        yield running


def write(nodes: Lab, place: str, megabytes: int) -> str:
    done = nodes.run(1, "mosrun", place, "-X", DIRECTORY, PYTHON, "-c", WRITE, DIRECTORY, str(megabytes))
    assert done.stderr == ""
    return done.stdout.strip()


def test_at_home_up_to_the_limit(nodes: Lab) -> None:
    assert write(nodes, "-h", 30) == "30 [0] 0"


def test_at_home_beyond_the_limit_write_fails(nodes: Lab) -> None:
    """mosix(7): "when a local process fails to find disk-space ... its write() will fail"."""
    assert write(nodes, "-h", 31) == "30 [0] 28"


#: Writes a byte into each of so many pages; says what went wrong, whether the pages were within 30 MB, and where it is.
HOLES = PRELUDE + """
fd, error = os.open(private("f"), os.O_RDWR | os.O_CREAT | os.O_EXCL), 0
try:
    for page in range(int(arguments[0])):
        os.pwrite(fd, b"x", 4096 * page)
except OSError as failure:
    error = failure.errno
print(error, os.fstat(fd).st_blocks * 512 <= 30 * MB + 4096, where())
"""


@pytest.mark.parametrize(("place", "pages", "said"), [("-h", 8000, "28 True 0"), ("-2", 3900, "0 True 0")])
def test_a_byte_in_a_hole_takes_a_page(nodes: Lab, place: str, pages: int, said: str) -> None:
    """The second is beyond the 14 MB of its node."""
    done = nodes.run(1, "mosrun", place, "-X", DIRECTORY, PYTHON, "-c", HOLES, DIRECTORY, str(pages))
    assert (done.stdout.strip(), done.stderr) == (said, "")


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> str:
    binary = tmp_path_factory.mktemp("doors") / "doors"
    compile_c(REPO / "tests" / "attacks" / "doors.c", binary, CFLAGS)
    return str(binary)


@pytest.mark.parametrize("way", ["int80", "ahead"])
def test_who_takes_space_by_another_door_is_ended(nodes: Lab, doors: str, way: str) -> None:
    """It has 30 MB; 300 are taken by 32-bit calls, or by ioctl(2) ahead of what is written."""
    done = nodes.run(1, "mosrun", "-h", "-X", DIRECTORY, doors, way, f"{DIRECTORY}/f")
    assert done.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL), done
    assert "MB of disk-space for private files, of 30" in Path(nodes.node(1).paths.log).read_text()


@pytest.mark.parametrize("stays", [(), ("stays",)], ids=["the program ends", "the program is killed"])
def test_whom_a_descriptor_is_given_has_no_space_by_it(
    nodes: Lab, doors: str, tmp_path: Path, stays: tuple[str, ...]
) -> None:
    """When the program that had the file has ended, it vanishes, and so does what is written after that. No tracer stays for it."""
    taker = nodes.start(1, doors, "take", "-", str(tmp_path / "s"), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert taker.stdin is not None and taker.stdout is not None and taker.stdout.readline() == b"listens\n"
    command = ("mosrun", "-h", "-X", DIRECTORY, doors, "give", f"{DIRECTORY}/f", str(tmp_path / "s"), *stays)
    giver = nodes.start(1, *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert giver.stdout is not None and giver.stdout.readline() == b"given\n"
    tracer, before = tracer_of(giver.pid), kept_by_mosd(nodes)
    giver.kill() if stays else giver.communicate(b"\n")
    giver.wait(30)

    def taken() -> int:
        assert taker.stdin is not None and taker.stdout is not None
        taker.stdin.write(b"\n")
        taker.stdin.flush()
        return int(taker.stdout.readline())

    assert taken() <= 31
    wait_until(lambda: not os.path.exists(f"/proc/{tracer}"))
    assert len(kept_by_mosd(nodes)) == len(before) + 1
    for _ in range(3):
        wait_until(lambda: taken() == 0)  # it writes 20 MB each time
    taker.kill()
    wait_until(lambda: kept_by_mosd(nodes) == before)


def kept_by_mosd(nodes: Lab) -> list[str]:
    """Descriptors of files without a name in the directory of private.conf that the mosd of node 1 has."""
    folder = f"/proc/{nodes.mosd(1)}/fd"
    links = []
    for fd in os.listdir(folder):
        with contextlib.suppress(FileNotFoundError):
            links.append(os.readlink(f"{folder}/{fd}"))
    return [link for link in links if link.startswith(nodes.node(1).paths.private) and link.endswith("(deleted)")]


def test_a_guest_stays_within_its_limit(nodes: Lab) -> None:
    assert write(nodes, "-2", 14) == "14 [2] 0"


def test_a_guest_beyond_its_limit_goes_home_and_goes_on(nodes: Lab) -> None:
    assert write(nodes, "-2", 20) == "20 [2, 0] 0"


@cluster.others
@pytest.mark.root
@pytest.mark.parametrize(("place", "said"), [("-h", "12 [0] 0"), ("-2", "12 [2] 0")])
def test_an_ordinary_user(nodes: Lab, place: str, said: str) -> None:
    """Nothing needs more rights than the program itself has."""
    user = as_user(65534)
    done = nodes.run(1, *user, "mosrun", place, "-X", DIRECTORY, PYTHON, "-c", WRITE, DIRECTORY, "12")
    assert (done.stdout.strip(), done.stderr) == (said, "")


def test_the_limit_of_home_holds_for_guests_that_came_home(nodes: Lab) -> None:
    assert write(nodes, "-2", 40) == "30 [2, 0] 28"


def test_without_a_line_guests_have_memory_only(nodes: Lab) -> None:
    assert write(nodes, "-3", 10) == "10 [3] 0"
    assert write(nodes, "-3", 11) == "11 [3, 0] 0"


def test_the_home_nodes_limit_caps_guests(nodes: Lab) -> None:
    """private.conf: "guest processes cannot exceed the size limit of their home-node"."""
    configure(nodes, 1, f"O {nodes.node(1).paths.private} 3\n")
    try:
        wait_until(lambda: linked(nodes))
        assert write(nodes, "-2", 5) == "3 [2, 0] 28"
    finally:
        configure(nodes, 1, f"O {nodes.node(1).paths.private} 30\n")
        wait_until(lambda: linked(nodes))


def test_too_many_files_do_not_move_to_a_node_without_room(nodes: Lab) -> None:
    """The program goes on where it is, and its files are whole."""
    script = PRELUDE + """
data = os.urandom(12 * MB)
with open(private("f"), "wb") as file:
    file.write(data)
print("ready", flush=True)
sys.stdin.readline()
with open(private("f"), "rb") as file:
    assert file.read() == data
print(where())
"""
    child = nodes.start(1, "mosrun", "-2", "-X", DIRECTORY, PYTHON, "-c", script, DIRECTORY,
                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout and child.stdout.readline() == b"ready\n"
    done = nodes.run(1, "mosmigrate", str(child.pid), "3")
    assert done.returncode != 0
    assert "no disk-space for private files there" in done.stdout + done.stderr
    out, _ = child.communicate(b"\n", timeout=30)
    assert out == b"2\n"


def test_too_big_for_home_stays_away_and_says_so(nodes: Lab) -> None:
    """The manual, 10.5: "Insufficient disk-space for private files"; we do not kill the program for it."""
    script = PRELUDE + """
with open(private("f"), "wb") as file:
    file.write(b"x" * 12 * MB)
print("ready", flush=True)
sys.stdin.readline()
print(where(), os.stat(private("f")).st_size)
"""
    child = nodes.start(1, "mosrun", "-2", "-X", DIRECTORY, PYTHON, "-c", script, DIRECTORY,
                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout and child.stdout.readline() == b"ready\n"
    configure(nodes, 1, f"O {nodes.node(1).paths.private} 5\n")
    try:
        wait_until(lambda: linked(nodes))
        nodes.process(child.pid)
        done = nodes.run(1, "mosmigrate", str(child.pid), "home")
        assert done.returncode != 0
        out, err = child.communicate(b"\n", timeout=30)
    finally:
        configure(nodes, 1, f"O {nodes.node(1).paths.private} 30\n")
        wait_until(lambda: linked(nodes))
    assert out == f"2 {12 << 20}\n".encode()
    assert err == b"mosrun: Insufficient disk-space for private files\n"


#: A file that is written, replaced and unlinked as it is told by lines on stdin.
SHOW = PRELUDE + """
print("ready", flush=True)
for line in sys.stdin:
    name, text = line.split()
    if text == "-":
        os.unlink(private(name))
    else:
        with open(private(name), "w") as file:
            file.write(text)
    print("done", flush=True)
"""


def shown(nodes: Lab, number: int) -> dict[str, str]:
    """Every file below ptf/ of a node: path to text. A file that leaves between the listing and its reading is not there."""
    root = Path(nodes.node(number).paths.mount, "ptf")
    texts: dict[str, str] = {}
    for folder, _, names in os.walk(root):
        for path in (Path(folder, name) for name in names):
            with contextlib.suppress(FileNotFoundError):
                texts[str(path.relative_to(root))] = path.read_text()
    return texts


@cluster.others
def test_the_owner_can_look_where_the_files_are(nodes: Lab) -> None:
    child = nodes.start(1, "mosrun", "-h", "-X", DIRECTORY, "-X", DIRECTORY + "/sub", PYTHON, "-c", SHOW, DIRECTORY,
                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    stdin, stdout = child.stdin, child.stdout
    assert stdin and stdout and stdout.readline() == b"ready\n"

    def tell(line: str) -> None:
        stdin.write(line.encode() + b"\n")
        stdin.flush()
        assert stdout.readline() == b"done\n"

    own = f"{child.pid}{DIRECTORY}"
    tell("a seen")
    tell("sub/b below")
    wait_until(lambda: shown(nodes, 1) == {f"{own}/a": "seen", f"{own}/sub/b": "below"})
    folder = Path(nodes.node(1).paths.mount, "ptf", own)
    assert folder.joinpath("a").stat().st_size == 4
    with pytest.raises(OSError, match="denied"):
        folder.joinpath("a").open("w")
    assert subprocess.run(["ls", folder.parent], user=65534, capture_output=True, check=False).returncode != 0
    tell("a more")
    assert folder.joinpath("a").read_text() == "more"
    tell("sub/b -")
    wait_until(lambda: shown(nodes, 1) == {f"{own}/a": "more"})
    assert nodes.run(1, "mosmigrate", str(child.pid), "2").returncode == 0
    wait_until(lambda: list(shown(nodes, 2).values()) == ["more"])
    wait_until(lambda: not shown(nodes, 1))
    tell("c away")
    wait_until(lambda: sorted(shown(nodes, 2).values()) == ["away", "more"])
    assert nodes.run(1, "mosmigrate", str(child.pid), "home").returncode == 0
    wait_until(lambda: shown(nodes, 1) == {f"{own}/a": "more", f"{own}/c": "away"})
    child.communicate(timeout=30)
    wait_until(lambda: not shown(nodes, 1) and not shown(nodes, 2))


#: Keeps files of so many megabytes and checks them again and again, until it is told to end.
KEEP = PRELUDE + """
import select
megabytes, files = int(arguments[0]), 4
sums, held = {}, []
for n in range(files):
    digest = hashlib.blake2b()
    fd = os.open(private(str(n)), os.O_RDWR | os.O_CREAT)
    for _ in range(megabytes // files):
        block = os.urandom(MB)
        digest.update(block)
        os.write(fd, block)
    sums[n] = digest.digest()
    held.append(fd)
    if n % 2:
        os.unlink(private(str(n)))
print("ready", flush=True)
rounds = 0
while not select.select([0], [], [], 0.01)[0]:
    n = rounds % files
    digest = hashlib.blake2b()
    os.lseek(held[n], 0, 0)
    while block := os.read(held[n], MB):
        digest.update(block)
    assert digest.digest() == sums[n], (n, rounds, where())
    rounds += 1
with open(os.environ["MOUNT"] + "/self/nmigs") as file:
    print(rounds > 0, int(file.read()))
"""


def keep(nodes: Lab, megabytes: int, moves: int) -> None:
    child = nodes.start(1, "mosrun", "-h", "-X", DIRECTORY, PYTHON, "-c", KEEP, DIRECTORY, str(megabytes),
                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout and child.stdout.readline() == b"ready\n"
    for number in range(moves):
        target = ("2", "3", "home")[number % 3]
        done = nodes.run(1, "mosmigrate", str(child.pid), target, timeout=120)
        assert done.returncode == 0, done.stderr
    out, _ = child.communicate(b"\n", timeout=60)
    assert out == f"True {moves}\n".encode()


def test_files_travel(nodes: Lab) -> None:
    keep(nodes, 8, 6)


@pytest.mark.long
def test_200_mb_move_20_times(tmp_path: Path) -> None:
    with lab(tmp_path, 3) as running:
        keep(running, 200, 20)


def test_nothing_is_left(nodes: Lab) -> None:
    """Files vanish with their process, also when it is killed, at home and away."""
    for place in ("-h", "-2"):
        child = nodes.start(1, "mosrun", place, "-X", DIRECTORY, PYTHON, "-c", KEEP, DIRECTORY, "12",
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert child.stdout and child.stdout.readline() == b"ready\n"
        child.kill()
        child.wait()
    for number in (1, 2):
        assert os.listdir(nodes.node(number).paths.private) == []
        wait_until(lambda number=number: open_files(nodes, number) == 0)


def open_files(nodes: Lab, number: int) -> int:
    """Nameless files in the node's directory that some process still has open."""
    folder = nodes.node(number).paths.private
    count = 0
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            for fd in os.listdir(f"/proc/{pid}/fd"):
                count += os.readlink(f"/proc/{pid}/fd/{fd}").startswith(folder)
        except OSError:
            continue
    return count


def test_after_the_death_of_its_tracer(nodes: Lab) -> None:
    """Open files stay, names are lost, and the directory is still private."""
    script = PRELUDE + """
fd = os.open(private("old"), os.O_RDWR | os.O_CREAT)
os.write(fd, b"kept")
print("ready", flush=True)
sys.stdin.readline()
assert os.pread(fd, 9, 0) == b"kept" and not os.path.exists(private("old"))
with open(private("new"), "w") as file:
    file.write("new")
sys.stdin.readline()
assert os.pread(fd, 9, 0) == b"kept"
print(where(), open(private("new")).read())
"""
    child = nodes.start(1, "mosrun", "-h", "-X", DIRECTORY, PYTHON, "-c", script, DIRECTORY,
                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin and child.stdout and child.stdout.readline() == b"ready\n"
    tracer = tracer_of(child.pid)
    os.kill(tracer, signal.SIGKILL)
    wait_until(lambda: tracer_of(child.pid) not in (0, tracer))
    child.stdin.write(b"\n")
    child.stdin.flush()
    wait_until(lambda: nodes.run(1, "mosmigrate", str(child.pid), "2").returncode == 0)
    out, _ = child.communicate(b"\n", timeout=30)
    assert out == b"2 new\n"


@pytest.mark.parametrize(
    ("directories", "message"),
    [
        (["relative"], "Invalid private-directory name (relative): it must start with '/' and not include '..'"),
        (["/tmp/../etc"], "Invalid private-directory name (/tmp/../etc): it must start with '/' and not include '..'"),
        (["/etc/mosix"], "Disallowed private-directory name (/etc/mosix)"),
        (["/dev"], "Disallowed private-directory name (/dev)"),
        ([f"/d{n}" for n in range(11)], "Too many private directories"),
        (["/" + 256 * "x"], "Private directory name too long"),
    ],
)
def test_refusals(nodes: Lab, directories: list[str], message: str) -> None:
    options = [word for name in directories for word in ("-X", name)]
    done = nodes.run(1, "mosrun", *options, "true")
    assert (done.returncode, done.stderr) == (125, f"mosrun: {message}\n")


def test_recursive_mosrun_does_not_inherit_x(nodes: Lab) -> None:
    """mosrun(1), RECURSIVE MOSRUN: the list of what is inherited has no -X; children by fork and exec keep it."""
    script = f"echo kept > {DIRECTORY}/f; read -r x < {DIRECTORY}/f; echo $x; " \
        f"mosrun sh -c 'echo > {DIRECTORY}/f' 2> /dev/null || echo refused; sh -c 'echo > {DIRECTORY}/f' && echo child"
    done = nodes.run(1, "mosrun", "-h", "-X", DIRECTORY, "bash", "-c", script)
    assert (done.stdout, done.stderr) == ("kept\nrefused\nchild\n", "")
