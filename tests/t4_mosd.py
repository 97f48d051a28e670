"""Two real mosd's on loopback, mounted; the engine is `fake_engine`, so nothing is traced."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import mosfs
from mosfs.fuse import mount

pytestmark = pytest.mark.root

HERE = Path(__file__).parent
SECRET = "a secret of this test"
#: A block of addresses for this test process.
BLOCK = f"127.{100 + os.getpid() // 250 % 100}.{os.getpid() % 250 + 1}"
NOBODY = 65534


def until(condition: Callable[[], object]) -> None:
    """Wait until ``condition`` holds; an OSError counts as no."""
    end = time.monotonic() + 20
    while True:
        try:
            if condition():
                return
        except OSError:
            pass
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.02)


def processes(root: Path) -> list[int]:
    """PIDs whose environment names ``root`` as MOSIX_ROOT."""
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            if f"MOSIX_ROOT={root}\0".encode() in Path("/proc", name, "environ").read_bytes() + b"\0":
                found.append(int(name))
        except OSError:
            continue
    return found


class Node:
    """A MOSIX_ROOT and the mosd on it."""

    def __init__(self, root: Path, number: int, secret: str = SECRET, first: int = 1) -> None:
        self.root = root
        self.ip = f"{BLOCK}.{first + number - 1}"
        self.mount = root / "run/mosix"
        etc = root / "etc/mosix"
        etc.mkdir(parents=True)
        (etc / "mosix.map").write_text(f"{BLOCK}.{first} 2 p\n")
        (etc / "userview.map").write_text(f"1 {BLOCK}.{first} 2\n")
        (etc / "mosip").write_text(f"{self.ip}\n")
        (etc / "secret").touch(0o600)
        (etc / "secret").write_text(f"{secret}\n")

    def start(self, *options: str) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join([str(Path(mosfs.__file__).parent.parent), str(HERE)])
        return subprocess.run(
            [sys.executable, "-m", "mosfs.tools.mosd", "--tracer=fake_engine", "--host=fake_engine", *options],
            env={**os.environ, "PYTHONPATH": path, "MOSIX_ROOT": str(self.root)}, capture_output=True, text=True,
            timeout=60, check=False,
        )

    def come_up(self) -> None:
        result = self.start()
        assert (result.returncode, result.stderr) == (0, "")

    def command(self, line: str) -> subprocess.CompletedProcess[str]:
        """Run one of our commands as on this node."""
        name, *words = line.split()
        code = f"import sys; sys.path.insert(0, {str(HERE.parent)!r}); from mosfs.tools.{name} import main; sys.exit(main())"
        return subprocess.run(
            [sys.executable, "-c", code, *words], env={**os.environ, "MOSIX_ROOT": str(self.root)}, capture_output=True, text=True,
            check=False, timeout=60,
        )

    @property
    def pid(self) -> int:
        return int((self.root / "run/mosd/pid").read_text())

    @property
    def log(self) -> str:
        return (self.root / "var/log/mosd.log").read_text()

    def running(self) -> bool:
        """Holds somebody the lock of the PID file?"""
        try:
            with (self.root / "run/mosd/pid").open() as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except FileNotFoundError:
            pass
        return False

    def stop(self, number: int = 15) -> None:
        if self.running():
            os.kill(self.pid, number)
            until(lambda: not self.running())

    def read(self, path: str) -> str:
        return (self.mount / path).read_text().rstrip("\n")

    def write(self, path: str, text: str) -> None:
        (self.mount / path).write_text(text)

    def launch(self, request: bytes = b"RUN\0") -> socket.socket:
        """A launcher: this very process becomes a program of the node until the socket is closed."""
        until(lambda: str(os.getpid()) not in os.listdir(self.mount / "proc"))
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sock.settimeout(20)
        sock.connect(str(self.root / "run/mosd/sock"))
        sock.send(request)
        assert sock.recv(1000) == b"OK"
        until(lambda: os.getpid() in map(int, os.listdir(self.mount / "proc")))
        return sock


def sweep(root: Path) -> None:
    """Nothing of a node is left, however its test ended: not its processes, not its mount, be that dead."""
    for pid in processes(root):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    until(lambda: not processes(root))
    mount.unmount_all(str(root / "run/mosix"))


Maker = Callable[..., Node]


@contextlib.contextmanager
def maker(folder: Path, first: int) -> Iterator[Maker]:
    """Makes nodes, number 1 at address ``first``, and sees to it that nothing of them is left."""
    made: list[Node] = []

    def make(number: int, secret: str = SECRET) -> Node:
        made.append(Node(folder / f"n{number}", number, secret, first))
        return made[-1]

    try:
        yield make
        for node in made:
            node.stop()
        for node in made:
            until(lambda root=node.root: not processes(root))  # type: ignore[misc]
            assert str(node.root) not in Path("/proc/self/mountinfo").read_text()
            assert os.listdir(node.root / "run/mosd") == []
    finally:
        for node in made:
            sweep(node.root)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Maker]:
    with maker(tmp_path, 1) as make:
        yield make


def two(make: Maker) -> tuple[Node, Node]:
    """Two nodes that are up; they come up beside each other."""
    nodes = make(1), make(2)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(Node.come_up, nodes))
    return nodes


@pytest.fixture
def pair(make: Maker) -> tuple[Node, Node]:
    return two(make)


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Node, Node]]:
    """A pair for all tests that leave it as they found it."""
    with maker(tmp_path_factory.mktemp("lasting"), 101) as make:
        yield two(make)


def test_peers_see_each_other(lasting: tuple[Node, Node]) -> None:
    for node, other in (lasting, lasting[::-1]):
        until(lambda node=node, other=other: node.read(f"nodes/{other.ip}/status") == "alive")  # type: ignore[misc]
        assert node.read("node/ip") == node.ip
        assert node.read("node/pid") == str(node.pid)
        assert sorted(os.listdir(node.mount / "nodes")) == sorted([node.ip, other.ip])
        assert json.loads(node.read(f"nodes/{other.ip}/stat"))["version"] == mosfs.__version__


def test_the_tree_can_be_listed(lasting: tuple[Node, Node]) -> None:
    node = lasting[0]
    with node.launch():
        result = subprocess.run(["ls", "-lR", str(node.mount)], capture_output=True, text=True, check=False)
        assert (result.returncode, result.stderr) == (0, "")
        assert "whereami" in result.stdout
        assert os.statvfs(node.mount).f_namemax == 255


def test_only_one_mosd(lasting: tuple[Node, Node]) -> None:
    result = lasting[0].start()
    assert result.returncode == 1
    assert result.stderr == f"mosd: already running (PID {lasting[0].pid})\n"


def test_configuration_errors_are_one_line(make: Maker) -> None:
    node = make(1)
    (node.root / "run/mosd").mkdir(parents=True)
    (node.root / "etc/mosix/secret").chmod(0o644)
    for options in ((), ("--foreground",)):
        result = node.start(*options)
        assert result.returncode == 1
        assert result.stderr.startswith("mosd: ") and result.stderr.count("\n") == 1
        assert "secret" in result.stderr


def test_a_port_in_use_is_one_line(make: Maker) -> None:
    node = make(1)
    with socket.socket() as other:
        other.bind((node.ip, 253))
        other.listen()
        result = node.start()
    assert (result.returncode, result.stderr) == (1, f"mosd: {node.ip} port 253: Address already in use\n")


def test_wrong_secret(make: Maker) -> None:
    a, b = make(1), make(2, "another secret")
    assert a.start().returncode == b.start().returncode == 0
    until(lambda: f"Authentication violation with {b.ip}" in a.log)
    until(lambda: f"Authentication violation with {a.ip}" in b.log)
    assert a.read(f"nodes/{b.ip}/status") == "unknown"


def test_killed_and_started_again(pair: tuple[Node, Node]) -> None:
    """The mount is healed, and the tracer that lived on says what it has."""
    node = pair[0]
    with node.launch(b"RUN\0needmem=7"):
        os.kill(node.pid, 9)
        until(lambda: not node.running())
        with pytest.raises(OSError) as caught:
            os.listdir(node.mount)
        assert caught.value.errno in (errno.ENOTCONN, errno.ECONNABORTED)
        for command in ("mosps", "mosctl status", "mosmon --once", "mosbestnode", f"mosmigrate {os.getpid()} 2", "moskillall",
                        "mossetpe -r", "mostimeof 1", "mosrun true"):
            done = node.command(command)
            assert done.returncode in (1, 125) and done.stderr.endswith(": run mosd(8)\n") and done.stderr.count("\n") == 1, command
        assert node.start().returncode == 0
        until(lambda: node.read(f"proc/{os.getpid()}/needmem") == "7")
        node.stop()
        assert os.listdir(node.mount) == []
        assert node.start().returncode == 0
        until(lambda: node.read("self/needmem") == "7")
    until(lambda: os.listdir(node.mount / "proc") == [])


def test_files_of_a_program(lasting: tuple[Node, Node]) -> None:
    node = lasting[0]
    with node.launch(b"RUN\0needmem=7\0lock=1"):
        assert os.readlink(node.mount / "self") == f"proc/{os.getpid()}"
        names = ("whereami", "lock", "needmem", "freezable", "where", "move")
        assert [node.read(f"self/{name}") for name in names] == ["0", "1", "7", "1", "here", "0 home ok"]
        node.write("self/lock", "0\n")
        assert node.read("self/lock") == "0"
        for name, text, number in (
            ("lock", "2", errno.ERANGE), ("migrate", "x", errno.EINVAL), ("migrate", "9", errno.EHOSTUNREACH),
            ("migrate", "10.1.1.1", errno.EHOSTUNREACH), ("whereami", "1", errno.EACCES),
        ):
            with pytest.raises(OSError) as caught:
                node.write(f"self/{name}", text)
            assert caught.value.errno == number
        with pytest.raises(PermissionError):
            node.read("self/migrate")
    until(lambda: not (node.mount / "proc" / str(os.getpid())).exists())
    assert not (node.mount / "self").is_symlink()


def test_others_may_not_look(lasting: tuple[Node, Node]) -> None:
    node = lasting[0]
    with node.launch():
        result = subprocess.run(
            ["cat", f"run/mosix/proc/{os.getpid()}/lock", "run/mosix/node/ip"], cwd=node.root, capture_output=True,
            text=True, user=NOBODY, check=False,
        )
        assert result.stdout == f"{node.ip}\n"
        assert "Permission denied" in result.stderr
        command = "echo 1 > run/mosix/node/block"
        result = subprocess.run(
            ["sh", "-c", command], cwd=node.root, capture_output=True, text=True, user=NOBODY, check=False
        )
        assert "Permission denied" in result.stderr
        assert node.read("node/block") == "0"


def test_moving(pair: tuple[Node, Node]) -> None:
    """A data channel from tracer to host, asked for through the tree, refused by a blocked node, and its end."""
    node, other = pair
    until(lambda: node.read(f"nodes/{other.ip}/status") == "alive")
    with node.launch():
        node.write("self/migrate", "2")
        until(lambda: node.read("self/move") == "1 2 ok")
        assert (node.read("self/whereami"), node.read("self/where"), node.read("self/nmigs")) == ("2", "2", "1")
        until(lambda: os.listdir(other.mount / "guests"))
        [guest] = os.listdir(other.mount / "guests")
        assert other.read(f"guests/{guest}/comm") == other.ip  # the bytes that came over the channel
        assert other.read(f"guests/{guest}/from") == "1"
        node.write("node/bring", "1")
        until(lambda: node.read("self/move") == "2 home ok")
        other.write("node/block", "1")
        node.write("self/migrate", other.ip)
        until(lambda: node.read("self/move") == "3 2 other node refused")
    until(lambda: os.listdir(other.mount / "guests") == [])
    other.write("node/block", "0")
    with node.launch(b"RUN\0needmem=262143"):
        node.write("self/migrate", "2")
        until(lambda: node.read("self/move") == "1 2 other node refused")
        other.stop()
        node.write("self/migrate", "2")
        until(lambda: node.read("self/move") == "2 2 no response")


def test_recursive_mosrun(lasting: tuple[Node, Node]) -> None:
    node = lasting[0]
    with node.launch():
        for request, answer in ((b"RUN\0needmem=9", b"OK"), (b"NATIVE\0", b"ERR\0it is native")):
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as again:
                again.settimeout(20)
                again.connect(str(node.root / "run/mosd/sock"))
                again.send(request)
                assert again.recv(1000) == answer
        until(lambda: node.read("self/needmem") in ("9", "0"))


def test_what_a_failed_test_leaves_is_swept(make: Maker) -> None:
    """Its mosd was killed, and a helper lives on: the mount is dead, and nobody is left who would take it down."""
    node = make(1)
    assert node.start().returncode == 0
    os.kill(node.pid, signal.SIGKILL)
    until(lambda: not node.running())
    assert str(node.root) in Path("/proc/self/mountinfo").read_text()
    sweep(node.root)
    assert str(node.root) not in Path("/proc/self/mountinfo").read_text() and os.listdir(node.mount) == []
    assert node.start().returncode == 0


def test_log_levels(make: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    node = make(1)
    monkeypatch.setenv("MOSIX_LOG", "daemon:nonsense")
    result = node.start()
    assert (result.returncode, result.stderr) == (1, "mosd: MOSIX_LOG: 'daemon:nonsense': not [package:]level\n")
    monkeypatch.setenv("MOSIX_LOG", "daemon:error,wire:debug")
    assert node.start().returncode == 0
    assert "is up" not in node.log


def test_stacks_on_demand(lasting: tuple[Node, Node]) -> None:
    for _ in range(30):  # as often as somebody likes: a second one must not kill it
        os.kill(lasting[0].pid, signal.SIGUSR1)
    until(lambda: "mosfs.daemon.service.accept" in lasting[0].log and re.search(r"^  at run \(", lasting[0].log, re.MULTILINE))
    assert lasting[0].read("node/ip") == lasting[0].ip


def test_in_the_foreground(make: Maker) -> None:
    """As a service manager starts it (sd_notify(3)): it logs to standard error, and tells when it is up."""
    node = make(1)
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind("")  # the kernel chooses an abstract name
    notify = "@" + manager.getsockname()[1:].decode()
    path = os.pathsep.join([str(Path(mosfs.__file__).parent.parent), str(HERE)])
    with subprocess.Popen(
        [sys.executable, "-m", "mosfs.tools.mosd", "--foreground", "--tracer=fake_engine", "--host=fake_engine",
         "--root", str(node.root)],
        env={**os.environ, "PYTHONPATH": path, "NOTIFY_SOCKET": notify}, stderr=subprocess.PIPE, text=True,
    ) as daemon, manager:
        try:
            until(lambda: node.read("node/pid") == str(daemon.pid))
            manager.settimeout(20)
            assert manager.recv(100) == b"READY=1"
            os.kill(daemon.pid, signal.SIGHUP)
            daemon.terminate()
            _, told = daemon.communicate(timeout=20)
        finally:
            daemon.kill()  # else a test that failed would wait for it for ever
    assert daemon.returncode == 0
    assert f"node {node.ip} is up" in told and "SIGTERM: ending" in told
    assert not (node.root / "var/log/mosd.log").exists()


def test_the_log_is_opened_again(pair: tuple[Node, Node]) -> None:
    """logrotate moves it away and sends SIGHUP; what the helpers say is in the new one too."""
    node = pair[0]
    log = node.root / "var/log/mosd.log"
    log.rename(node.root / "var/log/mosd.log.1")
    os.kill(node.pid, signal.SIGHUP)
    until(log.exists)
    os.kill(node.pid, signal.SIGUSR1)
    until(lambda: "tasks:" in node.log)
    log.rename(node.root / "var/log/mosd.log.2")
    servers: list[int] = []

    def found() -> bool:  # under its name
        servers[:] = [pid for pid in processes(node.root) if Path(f"/proc/{pid}/comm").read_text() == "mos-forkserver\n"]
        return len(servers) == 1

    until(found)
    (server,) = servers
    os.kill(node.pid, signal.SIGHUP)
    until(log.exists)
    os.kill(server, signal.SIGKILL)
    until(lambda: "fork server ended" in node.log)


@pytest.mark.parametrize("device", ["/nonexistent/fuse", "/"])
def test_no_fuse_is_one_line(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    monkeypatch.setattr(mount, "DEVICE", device)
    with pytest.raises(mount.MountError) as error:
        mount.require_fuse()
    assert str(error.value).startswith(f"{device}: ") and "\n" not in str(error.value)


def test_mosd_without_fuse_says_so(make: Maker) -> None:
    """In a mount name space where nothing is at /dev/fuse."""
    node = make(1)
    code = f"import sys; sys.path.insert(0, {str(HERE.parent)!r}); from mosfs.tools.mosd import main; sys.exit(main())"
    hide = (
        'touch null && mount --bind /dev/null null && mount -t tmpfs none /dev && touch /dev/null && mount --bind null /dev/null'
        ' && exec "$@"'
    )
    hidden = ["unshare", "--mount", "sh", "-c", hide, "sh"]
    done = subprocess.run(
        [*hidden, sys.executable, "-c", code, "--root", str(node.root)], capture_output=True, text=True, check=False, timeout=60,
        cwd=node.root,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("mosd: /dev/fuse: No such file or directory") and done.stderr.count("\n") == 1
