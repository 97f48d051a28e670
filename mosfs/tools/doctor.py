"""mosctl doctor (mosctl(1)): what is wrong with this node, or will be. `examine` looks; all judgements are pure functions."""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from mosfs.cluster.address import to_int
from mosfs.cluster.check import faults
from mosfs.cluster.errors import ConfigError
from mosfs.cluster.load import ClusterMap, load_freezing, load_map, load_private, own_address
from mosfs.cluster.local import local_addresses
from mosfs.cluster.paths import NodePaths, Ports
from mosfs.cluster.secret import validate_secret_file
from mosfs.cluster.words import decimal
from mosfs.tools import arp
from mosfs.tools.options import UserError
from mosfs.tools.tree import Tree

OK, WARNING, ERROR = "ok", "warning", "error"
#: Nodes that a line names.
MOST_NAMED = 8
#: With a smaller share of it free, a directory is nearly full.
LITTLE_SPACE = 0.05
#: What thousands of programs need: descriptors, bytes of memory and processes of mosd and its tracers.
FEW_FILES, LITTLE_MEMORY, FEW_TASKS = 4096, 256 << 20, 4096
#: Seconds by which a clock may be wrong because of time zones; adjtimex(2): the clock is not synchronised.
A_DAY, TIME_ERROR = 86400.0, 5
#: Seconds in which mosd must have asked its kernel.
PATIENCE = 30
#: Major and minor number of /dev/fuse.
FUSE = 10, 229
#: proc(5), net/tcp and net/udp: sockets that nobody is connected to yet.
TCP_LISTENS, UDP_BOUND = "0A", "07"
#: Counters of gossip that mean something is wrong with nodes, and what.
SIGNS = {
    "forged": "messages with another key have come: a node has another secret, or somebody else sends them",
    "stranger": "messages have come from nodes that are not in our map: the maps differ",
}


class Finding(NamedTuple):
    """``level``: one of `OK`, `WARNING` and `ERROR`."""

    level: str
    subject: str
    text: str


class Peer(NamedTuple):
    """``status`` and ``version`` as in nodes/IP/stat."""

    ip: str
    status: str
    version: str | None


# --------------------------------------------------------------------------- judging


def of_configuration(wrong: Sequence[ConfigError], secret: str, root: bool) -> Iterator[Finding]:
    """``wrong``: as `cluster.check` found it; only root can read the file ``secret``, so that is no fault for others."""
    wrong = [fault for fault in wrong if root or fault.file != secret or fault.text != os.strerror(errno.EACCES)]
    for fault in wrong:
        yield Finding(ERROR, "configuration", str(fault))
    if not wrong:
        yield Finding(OK, "configuration", "mosd would accept it")


def of_secret(mode: int, owner: int, uid: int, file: str) -> Finding:
    """Mode and owner as in stat(2); ``uid``: of who asks."""
    try:
        validate_secret_file(mode, owner, uid, file)
    except ConfigError as error:
        return Finding(ERROR, "secret", str(error))
    return Finding(OK, "secret", "nobody else can read it")


def of_address(ip: str, number: int | None, here: bool, rival: str) -> Finding:
    """``here``: the machine has this address; ``rival``: hardware address of another one that has it, "" for none."""
    if not here:
        return Finding(ERROR, "address", f"this node should be {ip}, which is not an address of this machine")
    if rival:
        return Finding(ERROR, "address", f"another machine ({rival}) has {ip}, too: give one of them another")
    return Finding(OK, "address", ip if number is None else f"{ip}, node {number}")


def of_fuse(device: tuple[int, int] | None, reason: int) -> Finding:
    """``device``: numbers of the character device /dev/fuse, None when it is none; ``reason``: errno why it does not open, or 0."""
    if device != FUSE:
        return Finding(ERROR, "fuse", "there is no /dev/fuse: load the module fuse; a container needs the device")
    if reason in (errno.ENXIO, errno.ENODEV):
        return Finding(ERROR, "fuse", "/dev/fuse is there, but not the module fuse: load it")
    if reason:
        return Finding(ERROR, "fuse", f"/dev/fuse cannot be opened: {os.strerror(reason)}; a container needs the right to it")
    return Finding(OK, "fuse", "/dev/fuse is there")


def of_kernel(lines: Sequence[str] | None) -> Iterator[Finding]:
    """``lines``: what the kernel lacks, as mosd says it; None when mosd could not be asked."""
    if lines is None:
        yield Finding(WARNING, "kernel", "not checked: mosd --kernel did not answer")
    elif not lines:
        yield Finding(OK, "kernel", "it has everything that is of use")
    for line in lines or ():
        yield Finding(WARNING, "kernel", line)


def of_mosd(pid: str, reason: int, mount: str) -> Finding:
    """``pid``: "" when it does not answer, because of the errno ``reason``."""
    if pid:
        return Finding(OK, "mosd", f"it runs, PID {pid}, and serves {mount}")
    if reason == errno.ENOTCONN:
        return Finding(ERROR, "mosd", f"it was killed, and {mount} is dead: run mosd(8), which mounts it again")
    return Finding(ERROR, "mosd", f"it is not running (nothing at {mount}): run mosd(8)")


def bound(table: str, ip: str, port: int, state: str) -> bool:
    """Does a socket of ``table`` (net/tcp or net/udp of proc(5)) in this state have the address, or all addresses, and the port?"""
    number = to_int(ip) or 0
    swapped = int.from_bytes(number.to_bytes(4, "big"), sys.byteorder)
    wanted = {f"{address:08X}:{port:04X}" for address in (0, swapped)}
    rows = (line.split() for line in table.splitlines()[1:])
    return any(len(row) > 3 and row[1] in wanted and row[3] == state for row in rows)


def of_ports(ip: str, ports: Ports, tcp: str, udp: str, running: bool) -> Iterator[Finding]:
    """``tcp`` and ``udp``: tables for `bound`."""
    used = (
        (f"TCP {ports.migrate}", bound(tcp, ip, ports.migrate, TCP_LISTENS)),
        (f"TCP {ports.post}", bound(tcp, ip, ports.post, TCP_LISTENS)),
        (f"UDP {ports.gossip}", bound(udp, ip, ports.gossip, UDP_BOUND)),
    )
    wrong = [name for name, is_bound in used if is_bound is not running]
    for name in wrong:
        said = "mosd runs, but nothing listens there" if running else "another program has it, so mosd cannot start"
        yield Finding(ERROR, "port", f"{name} of {ip}: {said}")
    if not wrong:
        yield Finding(OK, "port", f"{', '.join(name for name, _ in used)}: {'open' if running else 'free'}")


def of_peers(peers: Sequence[Peer], version: str) -> Iterator[Finding]:
    """``peers``: all other nodes that are listed; ``version``: of this node."""
    by_status = {status: [peer.ip for peer in peers if peer.status == status] for status in ("alive", "blocked", "dead")}
    up = len(by_status["alive"]) + len(by_status["blocked"])
    level = WARNING if peers and not up else OK
    yield Finding(level, "nodes", f"{up} of {len(peers)} other nodes are up" if peers else "there are no others")
    if by_status["dead"]:
        yield Finding(WARNING, "nodes", f"dead: {_named(by_status['dead'])}")
    for other in sorted({peer.version for peer in peers if peer.version} - {None, version}):
        theirs = [peer.ip for peer in peers if peer.version == other]
        if other.split(".")[:2] != version.split(".")[:2]:
            yield Finding(ERROR, "versions", f"{other} does not work with {version}, which runs here: {_named(theirs)}")
        else:
            yield Finding(OK, "versions", f"{other}: {_named(theirs)}")


def of_gossip(counters: Mapping[str, int]) -> Iterator[Finding]:
    for name, meaning in SIGNS.items():
        if number := counters.get(name, 0):
            yield Finding(WARNING, "keys", f"{number} {meaning}")
    if not any(counters.get(name) for name in SIGNS):
        yield Finding(OK, "keys", "no message came with another key, or from outside of the map")


def of_space(purpose: str, path: str, free: int, size: int, reason: str = "") -> Finding:
    """``free`` and ``size`` in bytes; ``reason``: why they are not known."""
    if reason:
        return Finding(WARNING, "space", f"{path}: {reason}, for {purpose}")
    level = WARNING if free < LITTLE_SPACE * size else OK
    return Finding(level, "space", f"{path}: {free >> 20} MB free of {size >> 20} MB, for {purpose}")


def of_clock(now: float, built: float, synchronised: bool | None) -> Finding:
    """``built``: when our own files were made; both in seconds since 1970. ``synchronised``: as the kernel knows, None if it does
    not tell."""
    if now < built - A_DAY:
        return Finding(ERROR, "clock", f"it says {_date(now)}, but mosfs was built on {_date(built)}")
    if not synchronised:
        text = f"it says {_date(now)}, and nothing keeps it right (NTP): logs of nodes cannot be compared"
        return Finding(WARNING, "clock", text)
    return Finding(OK, "clock", f"{_date(now)}, and kept right")


def of_limits(files: int | None, memory: int | None, tasks: int | None) -> Iterator[Finding]:
    """Of the mosd that runs: descriptors, bytes of memory and tasks that it and its tracers may have; None for no limit."""
    lines = (
        ("descriptors", files, FEW_FILES, "a program takes two"),
        ("bytes of memory", memory, LITTLE_MEMORY, "each tracer takes some"),
        ("processes", tasks, FEW_TASKS, "a program takes a tracer"),
    )
    few = [(what, most, why) for what, most, least, why in lines if most is not None and most < least]
    for what, most, why in few:
        yield Finding(WARNING, "limits", f"mosd and its tracers may have {most} {what} only: {why}")
    if not few:
        yield Finding(OK, "limits", "descriptors, memory and processes suffice for thousands of programs")


def _date(seconds: float) -> str:
    return time.strftime("%F %T", time.localtime(seconds))


def _named(ips: Sequence[str]) -> str:
    more = f" and {len(ips) - MOST_NAMED} more" if len(ips) > MOST_NAMED else ""
    return " ".join(ips[:MOST_NAMED]) + more


# --------------------------------------------------------------------------- looking


def examine(tree: Tree) -> Iterator[Finding]:
    """Everything, in the order in which a node is brought up."""
    paths = tree.paths
    yield from of_configuration(faults(paths), paths.secret, os.geteuid() == 0)
    try:
        found = os.stat(paths.secret)
        yield of_secret(found.st_mode, found.st_uid, os.geteuid(), paths.secret)
    except OSError:
        pass  # the configuration has said it
    yield from of_kernel(kernel())
    yield of_fuse(*_fuse("/dev/fuse"))
    pid, reason = _pid(tree)
    yield of_mosd(pid, reason, tree.mount)
    yield from _network(paths, bool(pid))
    yield from _spaces(paths)
    yield of_clock(time.time(), os.stat(__file__).st_mtime, _synchronised())
    if pid:
        yield from _limits(int(pid))
        try:
            ip = tree.read("node/ip")
            yield from of_peers(list(_peers(tree, ip)), tree.read("node/version"))
            yield from of_gossip(json.loads(tree.read("node/gossip")))
        except OSError as error:
            yield Finding(ERROR, "mosd", f"{tree.mount}: {error.strerror}")


def kernel() -> list[str] | None:
    """What mosd says that the kernel lacks: it needs our C module, which short commands do without."""
    folder = os.path.dirname(os.path.abspath(sys.argv[0]))
    folders = (folder, os.path.join(os.path.dirname(folder), "sbin"), os.path.dirname(sys.executable), "/usr/sbin")
    program = shutil.which("mosd", path=os.pathsep.join(folders))
    if program is None:
        return None
    try:
        said = subprocess.run([program, "--kernel"], capture_output=True, text=True, timeout=PATIENCE, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return said.stdout.splitlines()


def _fuse(path: str) -> tuple[tuple[int, int] | None, int]:
    """Numbers of the device, and the errno why it cannot be opened."""
    try:
        found = os.stat(path)
        if not stat.S_ISCHR(found.st_mode):
            return None, 0
    except OSError:
        return None, 0
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return (os.major(found.st_rdev), os.minor(found.st_rdev)), error.errno or errno.EIO
    return (os.major(found.st_rdev), os.minor(found.st_rdev)), 0


def _pid(tree: Tree) -> tuple[str, int]:
    """PID of the mosd that answers, or "" and the errno why none does."""
    try:
        return tree.read("node/pid"), 0
    except OSError as error:
        return "", error.errno or errno.EIO


def _network(paths: NodePaths, running: bool) -> Iterator[Finding]:
    try:
        nodes, ports = load_map(paths), Ports.from_env()
        ip = _own(nodes, paths)
    except ConfigError as error:
        if error.file.startswith("MOSIX_PORT_"):
            yield Finding(ERROR, "port", str(error))
        return  # else the configuration has said it
    here = _is_here(ip)
    yield of_address(ip, nodes.number_of(ip), here, arp.rival(ip) if here else "")
    yield from of_ports(ip, ports, _text("/proc/net/tcp"), _text("/proc/net/udp"), running)


def _own(nodes: ClusterMap, paths: NodePaths) -> str:
    return own_address(nodes.table, _text(paths.mosip) or None, local_addresses, paths.mosip)


def _is_here(ip: str) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind((ip, 0))
        except OSError:
            return False
    return True


def _spaces(paths: NodePaths) -> Iterator[Finding]:
    directories: list[tuple[str, str]] = []
    try:
        directories += [("frozen programs", each.path) for each in load_freezing(paths).directories]
        directories += [("private files", path) for path in sorted({each.directory for each in load_private(paths).values()})]
    except ConfigError:
        pass  # the configuration has said it
    directories += [("logs", os.path.dirname(paths.log)), ("queues and switches", paths.state)]
    for purpose, path in directories:
        try:
            there = os.statvfs(path)
            yield of_space(purpose, path, there.f_bavail * there.f_frsize, there.f_blocks * there.f_frsize)
        except OSError as error:
            yield of_space(purpose, path, 0, 0, error.strerror or str(error))


def _synchronised() -> bool | None:
    """Does anybody keep the clock right (adjtimex(2))? None when the kernel does not tell."""
    import ctypes

    room = ctypes.create_string_buffer(1024)  # a struct timex that is to be filled: modes, at its beginning, is 0
    state = ctypes.CDLL(None, use_errno=True).adjtimex(room)
    return None if state < 0 else state != TIME_ERROR


def _limits(pid: int) -> Iterator[Finding]:
    rows = [line.split() for line in _text(f"/proc/{pid}/limits").splitlines() if line.startswith("Max open files")]
    files = _limit(rows[0][3]) if rows and len(rows[0]) > 3 else None
    group = next((line[3:] for line in _text(f"/proc/{pid}/cgroup").splitlines() if line.startswith("0::")), "")
    memory, tasks = (_limit(_text(f"/sys/fs/cgroup{group}/{name}.max").strip()) for name in ("memory", "pids"))
    yield from of_limits(files, memory, tasks)


def _limit(word: str) -> int | None:
    """A number, or None for what is none: no limit, or not known."""
    return decimal(word, 0, 1 << 63)


def _peers(tree: Tree, me: str) -> Iterator[Peer]:
    for ip in os.listdir(f"{tree.mount}/nodes"):
        if ip != me:
            facts = json.loads(tree.read(f"nodes/{ip}/stat"))
            yield Peer(ip, facts["status"], facts["version"])


def _text(file: str) -> str:
    """Text of a file; "" when it cannot be read."""
    try:
        with open(file, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except OSError:
        return ""


# --------------------------------------------------------------------------- telling


def told(findings: Iterable[Finding], as_json: bool) -> int:
    """Print them, each as it is found or all as JSON; 1 if one is an error, else 0."""
    failed, seen = False, []
    for finding in findings:
        failed = failed or finding.level == ERROR
        seen.append(finding._asdict())
        if not as_json:
            print(f"{finding.level + ':':8} {finding.subject}: {finding.text}", flush=True)
    if as_json:
        print(json.dumps({"ok": not failed, "findings": seen}))
    return int(failed)


def doctor(tree: Tree, as_json: bool) -> int:
    try:
        return told(examine(tree), as_json)
    except OSError as error:
        raise UserError(f"doctor: {error}") from None
