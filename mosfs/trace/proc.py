"""What /proc/PID tells of a process (proc(5)): the one reader of its status, its stat and its fdinfo. It needs no library, so that
commands start soon.

The kernel escapes line feeds in the name that a program gives itself, so no line of a status is the program's own.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

#: More than almost any file of /proc/PID has, so that one read(2) is all of it.
_WHOLE = 65536

#: Lines of a status with sets of signals.
SIGNAL_SETS = ("SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt")


class TaskGone(Exception):
    """The task died or left while it was being worked on; its wait status is ``status``, or follows."""

    def __init__(self, pid: int, status: int | None = None) -> None:
        super().__init__(f"process {pid} is gone")
        self.pid = pid
        self.status = status

    @staticmethod
    def behind(error: BaseException) -> TaskGone | None:
        """The end of a task that ``error`` is, or hides: a clean-up that fails as well raises in the place of what has the status,
        which nobody else will ever get. None if it is about something else."""
        seen: BaseException | None = error
        while seen is not None:
            if isinstance(seen, TaskGone) and seen.status is not None:
                return seen
            seen = seen.__context__
        return error if isinstance(error, TaskGone) else None


def content(path: str) -> bytes:
    """What is in a file of /proc, by three system calls: a file object of Python asks the kernel six things more. OSError."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        found = part = os.read(file, _WHOLE)
        while len(part) == _WHOLE:
            part = os.read(file, _WHOLE)
            found += part
        return found
    finally:
        os.close(file)


def status_text(pid: int) -> bytes:
    """/proc/PID/status as it is; TaskGone."""
    try:
        return content(f"/proc/{pid}/status")
    except OSError as error:
        raise TaskGone(pid) from error


def words_of(pid: int, *names: str) -> list[list[str]]:
    """The words of the lines ``names`` of /proc/PID/status, read at one moment. TaskGone also when one is not there: a process that
    has ended and was not waited for has a few lines only.
    """
    return _words(status_text(pid), pid, names)


def _words(text: bytes, pid: int, names: Iterable[str]) -> list[list[str]]:
    found = []
    for name in names:
        _, line, rest = text.partition(f"\n{name}:".encode())
        if not line:
            raise TaskGone(pid)
        found.append(rest.partition(b"\n")[0].decode("latin-1").split())
    return found


def status_sets(pid: int) -> dict[str, int]:
    """`SIGNAL_SETS` of a process as bit masks (bit 0 = signal 1); TaskGone."""
    return {name: int(word, 16) for name, (word,) in zip(SIGNAL_SETS, words_of(pid, *SIGNAL_SETS))}


def owner_of(pid: int) -> int:
    """The user who may decide about a process: whose all of its user IDs are; root if they are of several. TaskGone."""
    [users] = words_of(pid, "Uid")
    return _owner(users)


def _owner(users: list[str]) -> int:
    return int(users[0]) if len(set(users[:3])) == 1 else 0


def begun(pid: int) -> tuple[str, int, int]:
    """Of a program that has just begun, by one look: its name (`comm_of`), its owner (`owner_of`), and the signals that it ignores
    (bit 0 = signal 1). TaskGone."""
    text = status_text(pid)
    users, (ignored,) = _words(text, pid, ("Uid", "SigIgn"))
    name = text[len("Name:\t") : text.find(b"\n")]  # always the first line, where the kernel escapes what a name may have in it
    return comm_of(pid) if b"\\" in name else name.decode("latin-1"), _owner(users), int(ignored, 16)


def umask_of(pid: int) -> int:
    """umask(2) of a process; TaskGone."""
    [(mask,)] = words_of(pid, "Umask")
    return int(mask, 8)


def tgid_of(pid: int) -> int:
    """The process that thread ``pid`` belongs to; ``pid`` itself when it is gone."""
    try:
        [(tgid,)] = words_of(pid, "Tgid")
    except TaskGone:
        return pid
    return int(tgid)


def tracer_of(pid: int) -> int:
    """Who traces the process ``pid`` (TracerPid); 0 for nobody, no such process, or a thread that is not the first."""
    try:
        (tgid,), (tracer,) = words_of(pid, "Tgid", "TracerPid")
    except TaskGone:
        return 0
    return int(tracer) if int(tgid) == pid else 0


def comm_of(pid: int) -> str:
    """The name that a program has given itself, or its file's; TaskGone."""
    try:
        return content(f"/proc/{pid}/comm").decode("latin-1").rstrip("\n")
    except OSError as error:
        raise TaskGone(pid) from error


def stat_fields(pid: int) -> list[str]:
    """/proc/PID/stat from field 3, the state, on: only what is before may have blanks in it. OSError."""
    return content(f"/proc/{pid}/stat").rpartition(b")")[2].decode("latin-1").split()


def descriptor_facts(pid: int, fd: int) -> dict[bytes, bytes]:
    """What /proc/PID/fdinfo/FD tells by names (pos, flags, mnt_id). OSError, also where there is no such descriptor."""
    lines = content(f"/proc/{pid}/fdinfo/{fd}").splitlines()
    return dict(line.split(b":\t", 1) for line in lines if b":\t" in line)


def state_of(pid: int) -> str:
    """The letter that ps(1) shows of a process or thread; "X" for none."""
    try:
        return stat_fields(pid)[0]
    except (OSError, IndexError):
        return "X"


def on_processor(pid: int) -> bool:
    """Does it run, or wait for a processor, and for nothing else? False for one that has ended."""
    try:
        return stat_fields(pid)[0] == "R"
    except (OSError, IndexError):
        return False


def start_time(pid: int) -> int:
    """When the process or thread ``pid`` began, in clock ticks since boot (field 22 of its stat); 0: there is none."""
    try:
        return int(stat_fields(pid)[19])
    except OSError:
        return 0


#: PF_EXITING (linux/sched.h), among the flags of /proc/PID/stat; SIGKILL among pending signals.
_EXITING, _KILL = 4, 1 << 8


def ended(pid: int) -> bool:
    """Whether a process that we trace has ended, or been killed and runs no more, and its event is still to come. While it is
    served that shows as what the kernel makes of a call about it: ENOENT, ESRCH, EFAULT, EIO, or an empty file of /proc."""
    try:
        fields = stat_fields(pid)
        state, flags, pending = fields[0], int(fields[6]), int(fields[28])
    except (OSError, ValueError, IndexError):  # there is none: its event has been dealt with
        return False
    return state in ("Z", "X") or bool(flags & _EXITING or pending & _KILL)
