"""Running the second computer: qemu in a network namespace of the test's own, with a wire between both."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mosfs.cluster.paths import NodePaths
from mosfs.tools import lab as labs
from mosfs.tools import netns
from tests.machines.guest import PORT
from tests.machines.image import REPO, Image, build
from tests.patience import Patience

#: Of the three nodes: the first and the third are on this computer, the second is the other one.
FIRST, OTHER, THIRD = "10.88.0.1", "10.88.0.2", "10.88.0.3"
MAP = f"{FIRST} 3 p\n"
GUEST_ROOT = "/run/lab"
BOOT_PATIENCE, START_PATIENCE = 300.0, 300.0
MEMORY_MB = 1536


@dataclass(frozen=True)
class Answer:
    status: int
    stdout: str
    stderr: str


@dataclass
class Machines:
    """This computer and the other one, with a node each (and a second one here), which know each other."""

    plan: labs.Plan
    namespace: str
    console: Path
    version: str

    def ask(self, *argv: str, timeout: float = 120.0, **request: Any) -> Answer:
        """Run a command in the other computer. TimeoutError, and then it is ended there."""
        return self._request({"argv": argv, **request}, timeout)

    def python(self, *argv: str, timeout: float, **env: str) -> Answer:
        """As :meth:`ask`, by the project's Python."""
        return self.ask(str(REPO / ".venv" / "bin" / "python"), *argv, timeout=timeout, cwd=str(REPO),
                        env={"PYTHONPATH": str(REPO), "PYTHONDONTWRITEBYTECODE": "1", **env})

    def put(self, files: Mapping[str, tuple[str, int]]) -> None:
        self._request({"files": files}, 120.0)

    def _request(self, request: Mapping[str, Any], timeout: float) -> Answer:
        patience = Patience(timeout)
        with _connect(self.namespace, 60.0) as sock:
            sock.sendall(json.dumps(request).encode() + b"\n")
            answer = bytearray()
            while not answer.endswith(b"\n"):
                if not select.select([sock], [], [], patience.step)[0]:
                    if patience.over():
                        raise TimeoutError(f"{request.get('argv')}: still running after {timeout:.0f} s")
                elif not (piece := sock.recv(1 << 16)):
                    raise ConnectionError("the other computer has hung up")
                else:
                    answer += piece
        return Answer(**json.loads(answer))

    @property
    def root(self) -> str:
        return self.plan.root

    def logs(self) -> str:
        files = [Path(node.paths.log) for node in self.plan.nodes()]
        own = "".join(file.read_text(errors="replace") for file in files if file.exists())
        with suppress(OSError, ValueError):
            own += "\n--- the other computer\n" + self.ask("cat", f"{GUEST_ROOT}/node1/var/log/mosd.log").stdout
        return own + "\n--- console\n" + self.console.read_text(errors="replace")[-3000:]


def _connect(namespace: str, timeout: float) -> socket.socket:
    """A connection from within the namespace: only the socket is made there, by a thread, which a namespace is a property of."""
    found: list[socket.socket | BaseException] = []

    def make() -> None:
        try:
            netns.enter(namespace)
            found.append(socket.create_connection((OTHER, PORT), timeout))
        except OSError as error:
            found.append(error)

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    if isinstance(found[0], BaseException):
        raise found[0]
    return found[0]


def _system(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


def _wire(namespace: str) -> None:
    """A namespace with both of this computer's addresses on a tap."""
    Path(namespace).touch()
    _system("unshare", f"--net={namespace}", "true")
    for line in (
        "link set lo up", "tuntap add tap0 mode tap", f"addr add {FIRST}/24 dev tap0", f"addr add {THIRD}/24 dev tap0",
        "link set tap0 up",
    ):
        _system("nsenter", f"--net={namespace}", "ip", *line.split())


def _qemu(image: Image, processor: str, namespace: str, console: Path) -> subprocess.Popen[bytes]:
    with console.open("wb") as log:
        process = subprocess.Popen(
            ["nsenter", f"--net={namespace}", "qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", processor,
             "-m", str(MEMORY_MB), "-smp", "1", "-nographic", "-no-reboot",
             "-kernel", str(image.kernel), "-initrd", str(image.root),
             "-netdev", "tap,id=n,ifname=tap0,script=no,downscript=no", "-device", "virtio-net-pci,netdev=n",
             "-virtfs", f"local,path={REPO},mount_tag=source,security_model=none,readonly=on,multidevs=remap",
             "-append", f"console=ttyS0 rdinit=/vminit quiet mitigations=off net.ifnames=0 mosfs.address={OTHER}"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )
    with suppress(OSError), open(f"/proc/{process.pid}/autogroup", "w", encoding="ascii") as group:
        group.write("-12")  # sched(7): it computes for a whole machine, and all wait for it
    return process


def _guest_files(secret: str) -> dict[str, tuple[str, int]]:
    """Of the node in the other computer, which calls itself number 1 and the third node number 2."""
    paths = NodePaths(f"{GUEST_ROOT}/node1")
    plan = labs.Plan(GUEST_ROOT, 2, OTHER)
    return {
        **labs.node_files(plan, plan.node(1), secret),
        paths.mosix_map: (MAP, 0o644),
        f"{GUEST_ROOT}/{labs.PLAN}": (json.dumps(labs.asdict(plan)), 0o644),
        f"{paths.state}/.keep": ("", 0o644), f"{paths.mount}/.keep": ("", 0o644), f"{paths.run}/.keep": ("", 0o644),
        f"{os.path.dirname(paths.log)}/.keep": ("", 0o644), f"{paths.private}/.keep": ("", 0o644),
    }


START_GUEST = """
import sys
from mosfs.tools import lab
plan = lab.load(sys.argv[1])
lab.START_SECONDS = float("inf")
node = plan.node(1)
with lab.start(node) as process:
    lab.await_nodes({node: process}, print)
"""


def _wait(process: subprocess.Popen[bytes], namespace: str, console: Path) -> None:
    patience = Patience(BOOT_PATIENCE)
    while True:
        with suppress(OSError), _connect(namespace, 2):
            return
        if process.poll() is not None or patience.over():
            raise RuntimeError(f"the other computer did not come up:\n{console.read_text(errors='replace')[-3000:]}")
        time.sleep(0.5)


@contextmanager
def machines(processor: str) -> Iterator[Machines]:
    """Both computers with their nodes up; all of it is gone at the end. image.CannotBuild if that cannot be had here."""
    image = build()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mosfs-", dir="/tmp")))
        folder.chmod(0o755)
        plan = labs.Plan(str(folder / "lab"), 3, FIRST, netns=True)
        os.makedirs(f"{plan.root}/net", mode=0o755)
        namespace = str(folder / "namespace")
        _wire(namespace)
        stack.callback(_system, "umount", namespace)
        console = folder / "console"
        process = _qemu(image, processor, namespace, console)
        stack.callback(_end, process)
        _wait(process, namespace, console)
        secret = "a" * 64
        stack.callback(labs.down, plan.root)
        _start_here(plan, secret, namespace)
        both = Machines(plan, namespace, console, image.version)
        both.put(_guest_files(secret))
        started = both.python("-c", START_GUEST, GUEST_ROOT, timeout=START_PATIENCE)
        if started.status:
            raise RuntimeError(f"mosd of the other computer: {started.stderr}\n{both.logs()}")
        yield both


def _start_here(plan: labs.Plan, secret: str, namespace: str) -> None:
    """The first and the third node; both live in the one namespace."""
    with open(f"{plan.root}/{labs.PLAN}", "w", encoding="utf-8") as file:
        json.dump(labs.asdict(plan), file)
    started = {}
    for node in (plan.node(1), plan.node(3)):
        paths = node.paths
        for path in (paths.etc, paths.mount, paths.run, os.path.dirname(paths.log), paths.state, paths.private):
            os.makedirs(path, exist_ok=True)
        for name, (text, mode) in labs.node_files(plan, node, secret).items():
            with open(os.open(name, os.O_WRONLY | os.O_CREAT, mode), "w", encoding="utf-8") as file:
                file.write(text)
        os.symlink(namespace, node.namespace)
        started[node] = labs.start(node)
    labs.START_SECONDS = START_PATIENCE  # qemu keeps the processors busy
    labs.await_nodes(started, lambda text: None)
    for process in started.values():
        process.wait()


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()


def by_hand(processor: str, command: Sequence[str]) -> int:
    """python -m tests.machines.vm PROCESSOR COMMAND...: run a command here while both computers are up; $ROOT is the lab's."""
    with machines(processor) as both, contextlib.suppress(KeyboardInterrupt):
        print(f"lab {both.root}, namespace {both.namespace}, kernel {both.version}", flush=True)
        environ = {**os.environ, "MOSLAB_ROOT": both.root, "NAMESPACE": both.namespace}
        return subprocess.run(command, env=environ, check=False).returncode
    return 1


if __name__ == "__main__":
    import sys

    sys.exit(by_hand(sys.argv[1], sys.argv[2:]))
