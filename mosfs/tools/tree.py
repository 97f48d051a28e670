"""A node's FUSE tree as the commands see it (docs/design/protocols.md, "The FUSE tree"), read with nothing but open().

The facts that never move (parent, group, session, terminal, command line) come from Linux' own /proc of the home-node.
What programs call themselves, here and on other nodes, is made printable where it is read: no terminal shall obey it.
"""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from mosfs.abi.outcomes import UNDER_WAY
from mosfs.abi.reasons import Reason
from mosfs.cluster.paths import NodePaths
from mosfs.cluster.words import printable
from mosfs.tools.options import UserError
from mosfs.tools.text import NOT_RUNNING

POLL = 0.01  #: seconds between two looks at an outcome
TICKS = os.sysconf("SC_CLK_TCK")
ANSWER = 4096  #: no answer to a question is longer
PTS_MAJORS = range(136, 144)


@dataclass(frozen=True)
class Linux:
    """What proc(5) says of a process. ``tty``: "pts/3", "tty1", or "?" for none. ``start``: clock ticks since boot, 0 for not
    known; ``user``: seconds of CPU time outside of the kernel; ``tpgid``: the terminal's process group, -1 for none;
    ``ended``: only its status is left."""

    ppid: int = 0
    pgid: int = 0
    sid: int = 0
    tty: str = "?"
    gid: int = -1
    start: int = 0
    comm: str = ""
    command: str = ""
    user: float = 0.0
    nice: int = 0
    tpgid: int = -1
    ended: bool = False


@dataclass(frozen=True)
class Process:
    """A MOSIX process: of this node, or a guest (``home`` is then its home-node's IP, and ``origpid`` its PID there).

    ``where``: IP of the node where it runs, "" if here. ``state``: as in `wire.messages.ProcState`; "" if this user
    may not know. ``needs``: features of processors that another node must have for it; ``native``: mosnative has taken it out.
    """

    pid: int
    uid: int
    home: str = ""
    origpid: int = 0
    where: str = ""
    state: str = "here"
    frozen: str = "-"
    nmigs: int = 0
    move_seq: int = 0
    move_result: str = ""
    comm: str = ""
    needs: tuple[str, ...] = ()
    native: bool = False
    linux: Linux = field(default_factory=Linux)


def read_linux(pid: int) -> Linux | None:
    """The process as Linux knows it; None when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            head, _, tail = file.read().rpartition(")")
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            arguments = file.read().rstrip(b"\0").replace(b"\0", b" ")
        gid = os.stat(f"/proc/{pid}").st_gid
    except OSError:
        return None
    comm = printable(head.partition("(")[2])
    numbers = tail.split()
    command = printable(arguments.decode(errors="replace")) or f"[{comm}]"
    ppid, pgid, sid, tty, tpgid = map(int, numbers[1:6])
    return Linux(
        ppid, pgid, sid, tty_name(tty), gid, int(numbers[19]), comm, command, int(numbers[11]) / TICKS, int(numbers[16]), tpgid,
        numbers[0] in "ZX",
    )


def starts_lines(pid: int, linux: Linux | None) -> bool:
    """Is the process a part of mosrun -S, which never leaves, and no program of the user?"""
    if linux is None or linux.comm != "runner" or not linux.command.startswith("mosrun-runner "):
        return False
    from mosfs.queue.runners import is_runner

    return is_runner(pid)


def environment(pid: int) -> str:
    """A process's environment as it was at its start, separated by spaces; "" where it is not ours to see."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return printable(file.read().rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace"))
    except OSError:
        return ""


def tty_name(device: int) -> str:
    """Name of a terminal from field 7 of /proc/PID/stat."""
    major, minor = os.major(device), os.minor(device)
    if major in PTS_MAJORS:
        return f"pts/{(major - PTS_MAJORS.start) * 256 + minor}"
    if major == 4:
        return f"tty{minor}" if minor < 64 else f"ttyS{minor - 64}"
    return "?" if device == 0 else f"{major}:{minor}"


class Tree:
    """One node's mount. UserError "not running" when nothing is mounted there."""

    def __init__(self, paths: NodePaths) -> None:
        self.paths = paths
        self.mount = paths.mount

    def read(self, name: str) -> str:
        """Text of a file without its final newline; OSError as open(2) and read(2) give it."""
        with open(f"{self.mount}/{name}", encoding="utf-8", errors="replace") as file:
            return file.read().removesuffix("\n")

    def write(self, name: str, value: str) -> None:
        """One write(2) of ``value`` and a newline; OSError as the tree answers."""
        descriptor = os.open(f"{self.mount}/{name}", os.O_WRONLY)
        try:
            os.write(descriptor, value.encode() + b"\n")
        finally:
            os.close(descriptor)

    def outcome(self, name: str) -> tuple[int, str]:
        """Number and result (`abi.outcomes`) of the last order that a file tells of: ``proc/PID/move``, where the target stands
        between them, ``checkpointed``, ``freezing``, ``node/reload``. OSError as in `read`."""
        number, *_, result = self.read(name).split(" ", 2 if name.endswith("/move") else 1)
        return int(number), result

    def await_outcome(self, name: str, before: int) -> str:
        """The result of the first order after number ``before``, once it is known. OSError when there is no such file any more."""
        while True:
            number, result = self.outcome(name)
            if number > before and result != UNDER_WAY:
                return result
            time.sleep(POLL)

    def fact(self, name: str) -> str:
        """Text of a file of ``node/``, this node's own folder. UserError when MOSIX is not running."""
        try:
            return self.read(f"node/{name}")
        except OSError as error:
            raise UserError(NOT_RUNNING.format(socket=self.paths.socket)) from error

    def ask(self, name: str, question: str) -> str:
        """The answer of the file ``name`` of ``node/`` to ``question``; OSError as the tree refuses it."""
        self.fact("pid")
        descriptor = os.open(f"{self.mount}/node/{name}", os.O_RDWR)
        try:
            os.write(descriptor, question.encode() + b"\n")
            return os.pread(descriptor, ANSWER, 0).decode().removesuffix("\n")
        finally:
            os.close(descriptor)

    def pids(self, folder: str) -> list[int]:
        """The PIDs below ``proc`` or ``guests``, sorted."""
        try:
            return sorted(int(name) for name in os.listdir(f"{self.mount}/{folder}") if name.isdigit())
        except OSError as error:
            raise UserError(NOT_RUNNING.format(socket=self.paths.socket)) from error

    def process(self, pid: int) -> Process | None:
        """The process of this node with that PID; None when there is none. Others' show only their owner."""
        try:
            facts = json.loads(self.read(f"proc/{pid}/stat"))
        except PermissionError:
            return self._stranger(pid)
        except OSError:
            return None
        return Process(
            pid, facts["uid"], where=facts["where"], state=facts["state"], frozen=facts["frozen"], nmigs=facts["nmigs"],
            move_seq=facts["move_seq"], move_result=facts["move_result"], comm=printable(facts["comm"]),
            needs=tuple(facts.get("needs", ())), native=facts.get("barred", "").startswith(str(Reason.NATIVE)),
            linux=read_linux(pid) or Linux(),
        )

    def _stranger(self, pid: int) -> Process | None:
        try:
            uid = os.stat(f"{self.mount}/proc/{pid}").st_uid
        except OSError:
            return None
        return Process(pid, uid, state="", linux=read_linux(pid) or Linux())

    def guest(self, pid: int) -> Process | None:
        """The guest with that local PID; None when there is none."""
        try:
            facts = json.loads(self.read(f"guests/{pid}/stat"))
        except OSError:
            return None
        linux = Linux(comm=printable(facts["comm"]), command=printable(facts["comm"]))
        return Process(pid, facts["uid"], facts["home"], facts["origpid"], state="guest", comm=linux.comm,
                       needs=tuple(facts.get("needs", ())), linux=linux)

    def processes(self) -> Iterator[Process]:
        yield from filter(None, map(self.process, self.pids("proc")))

    def guests(self) -> Iterator[Process]:
        yield from filter(None, map(self.guest, self.pids("guests")))

    def number(self, ip: str) -> str:
        """The node-number of an IP (userview.map); "" when it has none, or is no node."""
        try:
            number = self.read(f"nodes/{ip}/number")
        except OSError:
            return ""
        return number if number.isdigit() else ""


def refusal(pid: int | str, error: OSError) -> UserError:
    """What a command says when the tree refused something about process ``pid``."""
    from mosfs.tools.text import NO_SUCH_PROCESS, PERMISSION

    if error.errno in (errno.ENOENT, errno.ESRCH):
        return UserError(NO_SUCH_PROCESS.format(pid=pid))
    if error.errno in (errno.EACCES, errno.EPERM):
        return UserError(PERMISSION.format(pid=pid))
    return UserError(f"{pid}: {error.strerror}")
