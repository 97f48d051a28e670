"""A machine as far as a package can tell: a fresh Debian root with its own processes, mounts, host name and network.

The root is made once by debootstrap, in build/packages; a machine has an overlay of it. Machines are joined by a bridge in a
network name space of its own. Whatever runs in a machine ends with its first process.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from mosfs.tools import netns

REPO = Path(__file__).resolve().parent.parent.parent
BASE = REPO / "build" / "packages" / "root"
#: Beside the essential packages: what ours depends on, so that it is installed without a network, and what the tests call.
INCLUDE = "python3,libfuse3-3,iproute2,procps,man-db,logrotate,sysvinit-utils,init-system-helpers,adduser"
SUITE = "bookworm"
TOOLS = ("debootstrap", "ip", "nsenter", "unshare", "setpriv", "dpkg-deb")
INIT = """set -e
mount -t overlay overlay -o lowerdir={base},upperdir={room}/upper,workdir={room}/work {room}/root
mount -t proc proc {room}/root/proc
mount --rbind /sys {room}/root/sys
mount --rbind /dev {room}/root/dev
mount -t tmpfs tmpfs {room}/root/run
mount -t tmpfs tmpfs {room}/root/tmp
chmod 1777 {room}/root/tmp
exec chroot {room}/root sh -c 'echo ready; exec sleep infinity'
"""


class CannotBuild(Exception):
    """There are no such machines here; the text says why."""


def base() -> Path:
    """The fresh root, made now if it is not there."""
    if os.geteuid():
        raise CannotBuild("needs root")
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        raise CannotBuild(f"not installed: {' '.join(missing)}")
    if not (BASE / "complete").exists():
        _clear()
        command = ["debootstrap", "--variant=minbase", f"--include={INCLUDE}", SUITE, str(BASE)]
        # what it mounts there goes with it, whatever ends it: who removed the folder would meet the /proc of this machine
        done = subprocess.run(["unshare", "--mount", *command], capture_output=True, text=True, check=False)
        if done.returncode:
            raise CannotBuild(f"debootstrap: {done.stdout.strip()[-400:]}")
        (BASE / "complete").touch()
    return BASE


def _clear() -> None:
    """Remove what a debootstrap that was killed has left, with what it had mounted there, the innermost first."""
    with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as mounts:
        points = [line.split()[1] for line in mounts]
    for point in sorted((each for each in points if each.startswith(f"{BASE}/")), reverse=True):
        subprocess.run(["umount", "--lazy", point], check=True)
    if BASE.exists():
        shutil.rmtree(BASE)


@dataclass
class Machine:
    """``pid``: its first process, seen from here; ``room``: the folder of its overlay."""

    ip: str
    room: Path
    process: subprocess.Popen[str]
    pid: int
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def root(self) -> Path:
        """Its files, as they are seen from here."""
        return Path(f"/proc/{self.pid}/root")

    def _inside(self, command: tuple[str, ...], user: int) -> list[str]:
        person = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"] if user else []
        path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        environ = ["env", "--chdir=/", "-i", path, "LC_ALL=C.UTF-8", "HOME=/tmp"]
        enter = ["nsenter", f"--target={self.pid}", "--all", "--root"]
        return [*enter, *environ, "DEBIAN_FRONTEND=noninteractive", *person, *command]

    def run(self, *command: str, user: int = 0, timeout: float = 600) -> subprocess.CompletedProcess[str]:
        """A command to its end, as ``user``; what it says on standard error is in its output."""
        return subprocess.run(
            self._inside(command, user), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            check=False, timeout=timeout,
        )

    def well(self, *command: str, user: int = 0) -> str:
        """The output of a command that must succeed."""
        done = self.run(*command, user=user)
        assert done.returncode == 0, (command, done.returncode, done.stdout)
        return done.stdout

    def start(self, *command: str, user: int = 0) -> subprocess.Popen[str]:
        """A command that goes on; it ends with its machine at the latest."""
        self.started.append(subprocess.Popen(
            self._inside(command, user), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        ))
        return self.started[-1]


@contextmanager
def machines(folder: Path, ips: list[str]) -> Iterator[list[Machine]]:
    """A machine for each address, all on one bridge."""
    root = base()
    spaces = {str(folder / f"net-{ip}"): ip for ip in ips}
    bridge = str(folder / "net-bridge")
    made: list[Machine] = []
    try:
        netns.make(bridge, spaces)
        for space, ip in spaces.items():
            made.append(_boot(folder / ip, root, space, ip))
        yield made
    finally:
        for machine in made:
            _end(machine)
        for file in (bridge, *spaces):
            subprocess.run(["umount", file], check=False, capture_output=True)


def _boot(room: Path, root: Path, space: str, ip: str) -> Machine:
    for name in ("upper", "work", "root"):
        (room / name).mkdir(parents=True)
    script = INIT.format(base=root, room=room)
    own = ["--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child"]
    command = ["nsenter", f"--net={space}", "unshare", *own, "sh", "-c", script]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    if process.stdout.readline() != "ready\n":
        process.wait()
        raise CannotBuild("no overlay of a root can be mounted here")
    with open(f"/proc/{process.pid}/task/{process.pid}/children", encoding="ascii") as children:
        (pid,) = map(int, children.read().split())
    return Machine(ip, room, process, pid)


def _end(machine: Machine) -> None:
    """The end of the first process is that of all the others, and of their mounts."""
    machine.process.kill()
    machine.process.wait()
    for process in machine.started:
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=30)
        if process.stdout is not None:
            process.stdout.close()
    if machine.process.stdout is not None:
        machine.process.stdout.close()
