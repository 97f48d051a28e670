"""An embedded cluster on one machine: its plan, its files, how it comes up, and how nothing of it stays.

    root/lab.json            the plan, written before anything else and removed last
    root/node1, node2, ...   a MOSIX_ROOT each (docs/design/protocols.md)
    root/net/*               the network namespaces of --netns, kept alive by mounts

What belongs to a lab is found by what Linux says, not by notes: daemons (mosd, fork servers, tracers, hosts) are the
processes whose environment names one of its MOSIX_ROOTs and whose command is mosd; programs are those in the trees, or
traced by such a daemon.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from hashlib import blake2b

import mosfs
from mosfs.cluster.paths import NodePaths
from mosfs.tools import cgroups, netns
from mosfs.tools.options import UserError, is_ip
from mosfs.trace.proc import comm_of, tracer_of
from mosfs.trace.task import TaskGone

START_SECONDS = 120.0  #: a node that has not answered by then has failed; a busy machine takes long, and mosd that fails ends
PROGRAM_SECONDS = 1.0  #: from SIGTERM to SIGKILL
DAEMON_SECONDS = 4.0
LOG_LINES = 15
MAX_NODES = 200
MOSD = "mosfs.tools.mosd"
#: Words of the command lines by which daemons are known: mosd, and what its fork server forks.
DAEMONS = {MOSD.encode(), b"mosfs.daemon.forkserver"}
PLAN = "lab.json"
#: How files of ours are made: never through a link.
_NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
#: Ports below 1024 are root's; everybody else's labs use these.
USER_PORTS = {"MOSIX_PORT_MIGRATE": "10253", "MOSIX_PORT_POST": "10252", "MOSIX_PORT_GOSSIP": "10249",
              "MOSIX_PORT_DISCOVER": "10253"}
NETNS_BASE = "10.77.0.1"


@dataclass(frozen=True)
class Node:
    """One node. ``namespace``: file of its network namespace, "" for the machine's own. ``groups``: the lab's control groups,
    by controller; the node's own ones are in them, by its name."""

    number: int
    ip: str
    paths: NodePaths
    namespace: str = ""
    balance: bool = False
    groups: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def name(self) -> str:
        return f"node{self.number}"


@dataclass(frozen=True)
class Plan:
    """What a lab consists of. ``base`` is the IP of node 1; the others follow. ``balance``: programs move by themselves; the nodes
    share a machine, so the load of each is what its own programs and guests want.

    ``speeds``: of the nodes in turn, from the first again when there are more nodes. ``cpus`` and ``memory``, the same: how many
    processors, and megabytes, a node may use. ``clusters``: nodes of each cluster, ``count`` in all; () for a single one.
    ``groups``: controller to folder of the control groups that see to it.
    """

    root: str
    count: int
    base: str = "127.0.1.1"
    netns: bool = False
    balance: bool = False
    speeds: Sequence[int] = ()
    cpus: Sequence[float] = ()
    memory: Sequence[float] = ()
    groups: Mapping[str, str] = field(default_factory=dict, hash=False)
    clusters: Sequence[int] = ()

    def nodes(self) -> list[Node]:
        prefix, _, first = self.base.rpartition(".")
        return [
            Node(n, f"{prefix}.{int(first) + n - 1}", NodePaths(f"{self.root}/node{n}"), self.namespace(f"node{n}"),
                 self.balance, self.groups)
            for n in range(1, self.count + 1)
        ]

    def speed(self, number: int) -> int:
        return self.speeds[(number - 1) % len(self.speeds)] if self.speeds else 10000

    def members(self) -> list[list[Node]]:
        """The nodes of each cluster."""
        nodes, sizes = self.nodes(), self.clusters or (self.count,)
        return [nodes[sum(sizes[:at]) : sum(sizes[: at + 1])] for at in range(len(sizes))]

    def limits(self, number: int) -> dict[str, float]:
        """Controller to what the node may use."""
        given = {"cpu": self.cpus, "memory": self.memory}
        return {controller: values[(number - 1) % len(values)] for controller, values in given.items() if values}

    def limited(self) -> Plan:
        """This plan with the control groups that it needs. UserError when this machine has none."""
        name = f"moslab-{blake2b(self.root.encode(), digest_size=6).hexdigest()}"
        return replace(self, groups={controller: cgroups.lab_group(controller, name) for controller in self.limits(1)})

    def namespace(self, name: str) -> str:
        return f"{self.root}/net/{name}" if self.netns else ""

    def node(self, number: int) -> Node:
        """UserError when there is no such node."""
        if not 1 <= number <= self.count:
            raise UserError(f"no node {number}: this lab has nodes 1 to {self.count}")
        return self.nodes()[number - 1]

    @classmethod
    def make(cls, root: str, count: int, base: str, netns: bool, balance: bool = False) -> Plan:
        """UserError for what cannot be: too many nodes, or addresses outside of the loopback network."""
        if netns:
            base = NETNS_BASE
            if os.geteuid():
                raise UserError("--netns needs root")
        elif not is_ip(base) or not base.startswith("127."):
            raise UserError(f"--base {base}: not an address of the loopback network (127.x.y.z)")
        if count > MAX_NODES or int(base.rpartition(".")[2]) + count > 255:
            raise UserError(f"{count} nodes do not fit from {base} on")
        return cls(os.path.abspath(root), count, base, netns, balance)


def default_root(environ: Mapping[str, str] = os.environ) -> str:
    """Where a lab's state goes without --root: MOSLAB_ROOT, else below the user's run-time directory."""
    if given := environ.get("MOSLAB_ROOT"):
        return given
    if runtime := environ.get("XDG_RUNTIME_DIR"):
        return f"{runtime}/moslab"
    return f"/run/moslab-{os.geteuid()}" if os.access("/run", os.W_OK) else f"/tmp/moslab-{os.geteuid()}"


@contextmanager
def own_folder(root: str) -> Iterator[int]:
    """A descriptor of ``root``, of which nobody else can have decided what is in it. FileNotFoundError, and UserError when
    it is a link, another user's (but root's), or others may write there.
    """
    try:
        fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise UserError(f"{root}: not a directory") from None
        raise
    try:
        found = os.fstat(fd)
        if found.st_uid not in (0, os.geteuid()):
            raise UserError(f"{root} belongs to another user: choose another folder by --root")
        if found.st_mode & 0o022:
            raise UserError(f"{root}: others may write there; choose another folder by --root")
        yield fd
    finally:
        os.close(fd)


def load(root: str) -> Plan | None:
    """The plan of the lab below ``root``; None when there is none. UserError when the folder is not ours to trust."""
    try:
        with own_folder(root) as folder:
            plan = os.open(PLAN, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            with open(plan, encoding="utf-8") as file:
                return Plan(**{**json.load(file), "root": root})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{root}/{PLAN}: {error}") from error


def require(root: str) -> Plan:
    """UserError when no lab is up there."""
    plan = load(os.path.abspath(root))
    if plan is None:
        raise UserError(f"no lab is up below {root} (moslab up -n 3 starts one)")
    return plan


def node_files(plan: Plan, node: Node, secret: str) -> dict[str, tuple[str, int]]:
    """The administrator's files of a node: path to text and mode."""
    views = "".join(f"{other.number} {other.ip} 1\n" for other in plan.nodes())
    clusters = plan.members()
    own = next(members for members in clusters if node in members)
    partners = {
        f"{node.paths.partners}/cluster{number}":
            (f"nodes {members[0].number}-{members[-1].number} of the lab\n50 1 1\n{members[0].ip} {len(members)} 1 1 1\n", 0o644)
        for number, members in enumerate(clusters, 1) if members is not own
    }
    return {
        **partners,
        node.paths.mosix_map: (f"{own[0].ip} {len(own)} p\n", 0o644),
        node.paths.userview_map: (views, 0o644),
        node.paths.mosip: (f"{node.ip}\n", 0o644),
        node.paths.speed: (f"{plan.speed(node.number)}\n", 0o644),
        node.paths.secret: (f"{secret}\n", 0o600),
    }


def environment(node: Node, inherited: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What a command that runs as on ``node`` finds: MOSIX_ROOT, MOUNT, and the mos* commands first in PATH."""
    scripts = os.path.dirname(os.path.abspath(sys.executable))
    path = inherited.get("PATH", os.defpath)
    if path.split(":")[0] != scripts:
        path = f"{scripts}:{path}"
    ports = {} if os.geteuid() == 0 else USER_PORTS
    balance = {"MOSIX_BALANCE": "on" if node.balance else "off"}
    if node.balance or node.groups:
        balance["MOSIX_PROBE"] = "own"
    return {**inherited, **ports, **balance, "MOSIX_ROOT": node.paths.root, "MOUNT": node.paths.mount, "PATH": path}


# --------------------------------------------------------------------------- coming up


def up(plan: Plan, progress: Callable[[str], None] = lambda text: None) -> None:
    """Start every node and return when all answer. UserError when one does not; then nothing is left of any."""
    old = load(plan.root)
    if old is not None:
        if any(answers(node) for node in old.nodes()):
            raise UserError(f"a lab is up already below {plan.root} (moslab down ends it)")
        down(plan.root)
    with ExitStack() as reaper:  # what start() starts ends as soon as its mosd is up in the background, or gone
        try:
            prepare(plan)
            await_nodes({node: reaper.enter_context(start(node)) for node in plan.nodes()}, progress)
        except BaseException as error:
            logs = _last_lines(error.node) if isinstance(error, NodeFailed) and not error.known else ""
            down(plan.root)
            if isinstance(error, OSError):
                raise UserError(f"{error.filename or plan.root}: {error.strerror}") from error
            if isinstance(error, NodeFailed):
                raise UserError(error.text + logs) from error
            raise


class NodeFailed(UserError):
    """A node did not come up. ``known``: its mosd has said why, in one line."""

    def __init__(self, node: Node, why: str) -> None:
        reason = _reason(node)
        super().__init__(f"node {node.number} ({node.ip}) did not start: {reason or why}")
        self.node, self.known = node, bool(reason)


def prepare(plan: Plan) -> None:
    """Write everything that the nodes need before they start."""
    os.makedirs(plan.root, mode=0o755, exist_ok=True)
    with own_folder(plan.root) as root, open(os.open(PLAN, _NEW, 0o644, dir_fd=root), "w", encoding="utf-8") as file:
        json.dump({name: value for name, value in asdict(plan).items() if value}, file)  # others' moslab may know less
    secret = secrets.token_hex(32)
    for node in plan.nodes():
        paths = node.paths
        for folder in (paths.etc, paths.partners, paths.mount, paths.run, os.path.dirname(paths.log), paths.state, paths.private,
                       f"{paths.root}/freeze"):
            os.makedirs(folder, exist_ok=True)
        for name, (text, mode) in node_files(plan, node, secret).items():
            with open(os.open(name, _NEW, mode), "w", encoding="utf-8") as file:
                file.write(text)
    if plan.netns:
        os.makedirs(f"{plan.root}/net", exist_ok=True)
        netns.make(plan.namespace("bridge"), {node.namespace: node.ip for node in plan.nodes()})
    cgroups.make(plan.groups, {node.name: plan.limits(node.number) for node in plan.nodes()})


def start(node: Node) -> subprocess.Popen[bytes]:
    """Start the node's mosd, which goes to the background when it is up; until then it writes to the node's log."""
    source = os.path.dirname(os.path.dirname(os.path.abspath(mosfs.__file__)))
    environ = environment(node)
    environ["PYTHONPATH"] = f"{source}:{environ['PYTHONPATH']}" if environ.get("PYTHONPATH") else source
    enter = cgroups.entering(node.groups, node.name)
    enter += ["nsenter", f"--net={node.namespace}"] if node.namespace else []
    with open(node.paths.log, "ab") as log:
        return subprocess.Popen([*enter, sys.executable, "-m", MOSD], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                cwd="/", env=environ, start_new_session=True)


def answers(node: Node) -> bool:
    """Whether the node's mosd accepts connections and its tree is mounted."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
        try:
            probe.connect(node.paths.socket)
        except OSError:
            return False
    return node.paths.mount in mounts(node.paths.root)


def await_nodes(started: Mapping[Node, subprocess.Popen[bytes]], progress: Callable[[str], None]) -> None:
    deadline = time.monotonic() + START_SECONDS
    waiting = dict(started)
    while waiting:
        for node, process in list(waiting.items()):
            if answers(node):
                progress(f"node {node.number} ({node.ip}) is up")
                del waiting[node]
            elif process.poll():  # 0: it went to the background
                raise NodeFailed(node, f"mosd ended with status {process.returncode}")
            elif time.monotonic() > deadline:
                raise NodeFailed(node, f"no answer within {START_SECONDS:.0f} s")
        time.sleep(0.01)


def _reason(node: Node) -> str:
    """What the node's mosd said last when it could not start; "" when it said nothing, or failed in a way that needs its log."""
    with suppress(OSError), open(node.paths.log, encoding="utf-8", errors="replace") as file:
        lines = file.read().splitlines()
        if lines and lines[-1].startswith("mosd: ") and not any(line.startswith("Traceback") for line in lines):
            return lines[-1].removeprefix("mosd: ")
    return ""


def _last_lines(node: Node) -> str:
    try:
        with open(node.paths.log, encoding="utf-8", errors="replace") as file:
            return "".join(f"\n  {line.rstrip()}" for line in file.readlines()[-LOG_LINES:])
    except OSError:
        return ""


# --------------------------------------------------------------------------- going down


def down(root: str, *, keep: bool = False) -> None:
    """End every program and daemon of the lab below ``root`` and remove all it made; ``keep`` spares the logs.

    Harmless when there is no lab, or only a part of one.
    """
    plan = load(os.path.abspath(root))
    if plan is None:
        return
    end(lambda: programs(plan), (signal.SIGTERM, signal.SIGCONT), PROGRAM_SECONDS)
    end(lambda: mosds(plan), (signal.SIGTERM,), DAEMON_SECONDS)
    deadline = time.monotonic() + PROGRAM_SECONDS
    while traced_by(daemons(plan)) and time.monotonic() < deadline:  # one may have forked while they were counted
        end(lambda: traced_by(daemons(plan)), (signal.SIGKILL,), 0)
    end(lambda: daemons(plan), (signal.SIGTERM, signal.SIGCONT), PROGRAM_SECONDS)
    for mount in sorted(mounts(plan.root), key=len, reverse=True):
        unmount(mount)
    cgroups.remove(plan.groups.values())
    remove(plan, keep=keep)


def remove(plan: Plan, *, keep: bool) -> None:
    """Delete the lab's files, never through a mount. UserError if something is mounted there still."""
    if left := mounts(plan.root):
        raise UserError(f"{left[0]} is mounted still: unmount it, then try again")
    with own_folder(plan.root) as root:
        for node in plan.nodes():
            if keep:
                for folder in (("etc",), ("run",), ("var", "mosix")):
                    remove_below(root, (node.name, *folder))
            else:
                remove_below(root, (node.name,))
        remove_below(root, ("net",))
        with suppress(FileNotFoundError):
            os.unlink(PLAN, dir_fd=root)
    with suppress(OSError):
        os.rmdir(plan.root)  # ours only if nothing else is in it


def remove_below(folder: int, names: Sequence[str]) -> None:
    """Delete what the path ``names`` below a folder leads to. No link is followed; what is not there is fine.

    Any user may have made folders in it, as deep as he likes: rm(1) goes through all of them, shutil.rmtree does not."""
    with ExitStack() as stack:
        for name in names[:-1]:
            try:
                folder = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            except OSError:
                return
            stack.callback(os.close, folder)
        command = ["rm", "-rf", "--one-file-system", "--", f"/proc/self/fd/{folder}/{names[-1]}"]
        subprocess.run(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, pass_fds=[folder], check=False)


def end(find: Callable[[], set[int]], signals: Iterable[int], seconds: float) -> None:
    """Send ``signals`` to what ``find`` returns and SIGKILL after ``seconds`` to what is left of it; returns when all
    are gone.

    A PID may be given to another process at any time: each is pinned by a pidfd first, then looked at again.
    """
    with ExitStack() as stack:
        pinned: dict[int, int] = {}
        for pid in find():
            with suppress(OSError):
                pinned[pid] = os.pidfd_open(pid)
                stack.callback(os.close, pinned[pid])
        alive = {pidfd for pid, pidfd in pinned.items() if pid in find()} if pinned else set()
        for number in signals:
            _send(alive, number)
        alive = _still(alive, seconds)
        _send(alive, signal.SIGKILL)
        _still(alive, DAEMON_SECONDS)


def _send(pidfds: Iterable[int], number: int) -> None:
    for pidfd in pidfds:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, number)


def _still(pidfds: set[int], seconds: float) -> set[int]:
    """Those that live on after ``seconds`` at most."""
    alive = set(pidfds)
    poller = select.poll()
    for pidfd in alive:
        poller.register(pidfd, select.POLLIN)
    deadline = time.monotonic() + seconds
    while alive and (rest := deadline - time.monotonic()) > 0:
        for pidfd, _ in poller.poll(rest * 1000):
            poller.unregister(pidfd)
            alive.discard(pidfd)
    return alive


def daemons(plan: Plan, chosen: Callable[[Node], bool] = lambda node: True) -> set[int]:
    """PIDs of the mosds, fork servers, tracers and hosts of the lab, or of those of its nodes for which ``chosen`` is true."""
    roots = {f"MOSIX_ROOT={node.paths.root}".encode() for node in plan.nodes() if chosen(node)}
    return {
        pid for pid in all_pids()
        if not DAEMONS.isdisjoint(_nul_list(pid, "cmdline")) and not roots.isdisjoint(_nul_list(pid, "environ"))
    }


def mosds(plan: Plan) -> set[int]:
    """PIDs of the lab's mosds, by their PID files."""
    noted = set()
    for node in plan.nodes():
        with suppress(OSError, ValueError), open(node.paths.pid, encoding="ascii") as file:
            noted.add(int(file.read()))
    return noted & daemons(plan)


def programs(plan: Plan) -> set[int]:
    """PIDs of the programs under mosrun whose home is a node of the lab, those included that no mosd has been told of yet."""
    listed: set[int] = set()
    for node in filter(answers, plan.nodes()):
        with suppress(OSError):
            listed |= {int(name) for name in os.listdir(f"{node.paths.mount}/proc") if name.isdigit()}
    return listed | traced_by({pid for pid in daemons(plan, answers) if _is_tracer(pid)})


def traced_by(tracers: set[int]) -> set[int]:
    """PIDs of all processes that one of ``tracers`` holds: programs without a mosd, and guest bodies."""
    return {pid for pid in all_pids() if tracer_of(pid) in tracers}


def _is_tracer(pid: int) -> bool:
    with suppress(TaskGone):
        return comm_of(pid) == "mos-tracer"
    return False


def all_pids() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdigit())


def _nul_list(pid: int, name: str) -> list[bytes]:
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            return file.read().split(b"\0")
    except OSError:
        return []


def mounts(root: str) -> list[str]:
    """Mount points at or below ``root``."""
    with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as file:
        points = [line.split(" ")[1].encode().decode("unicode_escape") for line in file]
    return [point for point in points if point == root or point.startswith(root + "/")]


def unmount(point: str) -> None:
    """Detach at once, also what a dead mosd left; nobody's open files are lost."""
    for command in (["umount", "-l", point], ["fusermount3", "-u", "-z", point]):
        with suppress(FileNotFoundError):
            if subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0:
                return
