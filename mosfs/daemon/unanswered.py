"""``python -m mosfs.daemon.unanswered TRACER``: end FUSE file systems that owe answers, until that tracer gets on.

First those from which its programs have files open or mapped, then all of its programs' users; never root's. A connection is ended
as by umount(8) with ``--force``: whoever waits for it gets an error (filesystems/fuse.rst, "Aborting a filesystem connection").
Each that was ended is a line of standard output. This is a process of its own because what it looks at may keep it waiting, too.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

CONNECTIONS = "/sys/fs/fuse/connections"
PAUSE = 0.2  #: seconds in which a tracer notices that it has got an answer
_CLONE_NEWNS, _MS_REC, _MS_PRIVATE = 0x20000, 0x4000, 0x40000


@dataclass(frozen=True, slots=True)
class Connection:
    """``device``: of its files, as the kernel counts (major number << 20 | minor). ``waiting``: questions without an answer."""

    device: int
    owner: int
    waiting: int


def connections(folder: str = CONNECTIONS) -> Iterator[Connection]:
    for name in filter(str.isdecimal, os.listdir(folder)):
        with suppress(OSError, ValueError), open(f"{folder}/{name}/waiting", encoding="ascii") as waiting:
            yield Connection(int(name), os.stat(f"{folder}/{name}").st_uid, int(waiting.read()))


def of_maps(text: bytes) -> Iterator[int]:
    """Devices of the files in /proc/PID/maps (proc_pid_maps(5))."""
    for line in text.splitlines():
        major, _, minor = line.split(None, 5)[3].partition(b":")
        yield int(major, 16) << 20 | int(minor, 16)


def of_mounts(text: bytes, numbers: Iterable[int]) -> Iterator[int]:
    """Devices of the mounts of these numbers in /proc/PID/mountinfo (proc_pid_mountinfo(5))."""
    wanted = set(numbers)
    for line in text.splitlines():
        number, _, device, *_ = line.split(None, 3)
        if int(number) in wanted:
            major, _, minor = device.partition(b":")
            yield int(major) << 20 | int(minor)


def devices(pid: int) -> set[int]:
    """Of the files that ``pid`` has open or mapped; no question to their file systems."""
    found, mounts = set[int](), set[int]()
    with suppress(OSError, ValueError):
        for fd in os.listdir(f"/proc/{pid}/fdinfo"):
            with suppress(OSError), open(f"/proc/{pid}/fdinfo/{fd}", "rb") as info:
                mounts.update(int(line.split()[1]) for line in info if line.startswith(b"mnt_id:"))
        with open(f"/proc/{pid}/mountinfo", "rb") as text:
            found.update(of_mounts(text.read(), mounts))
        with open(f"/proc/{pid}/maps", "rb") as text:
            found.update(of_maps(text.read()))
    return found


def _libc(name: str, *arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def reveal() -> None:
    """Have the connections at their place: where nobody has mounted them, root does in a mount namespace of its own."""
    if not os.path.ismount(CONNECTIONS) and os.geteuid() == 0:
        _libc("unshare", _CLONE_NEWNS)
        _libc("mount", b"none", b"/", None, ctypes.c_ulong(_MS_REC | _MS_PRIVATE), None)
        _libc("mount", b"fusectl", CONNECTIONS.encode(), b"fusectl", ctypes.c_ulong(0), None)


def ours() -> set[int]:
    """Trees of mosd: an ordinary user's are among that user's connections, and who waits for them waits for a node."""
    with open("/proc/self/mountinfo", "rb") as text:
        lines = text.read().splitlines()
    numbers = [int(line.split(None, 1)[0]) for line in lines if b" - fuse.mosfs " in line]
    return set(of_mounts(b"\n".join(lines), numbers))


def end(found: Connection) -> None:
    with suppress(OSError):
        with open(f"{CONNECTIONS}/{found.device}/abort", "w", encoding="ascii") as abort:
            abort.write("1")
        print(f"the FUSE file system {found.device} of user {found.owner}, which owes {found.waiting} answers", flush=True)


def traced_by(tracer: int) -> Iterator[tuple[int, set[int]]]:
    """PIDs of its programs, by the kernel's word, and the users of each, by all IDs (proc_pid_status(5))."""
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        with suppress(OSError, KeyError), open(f"/proc/{pid}/status", encoding="latin-1") as status:
            words = {name: rest.split() for name, _, rest in (line.partition(":") for line in status)}
            if words["TracerPid"] == [str(tracer)]:
                yield int(pid), set(map(int, words["Uid"]))


def near(pids: Iterable[int]) -> set[int]:
    """`devices` of all these; what has been found within a second, for /proc/PID/maps may wait for a file system, too."""
    found = set[int]()

    def all_of_them() -> None:
        for pid in pids:
            found.update(devices(pid))

    look = threading.Thread(target=all_of_them, daemon=True)
    look.start()
    look.join(1)
    return set(found)


def sleeps(pid: int) -> list[str]:
    """How often it has gone to sleep."""
    with suppress(OSError), open(f"/proc/{pid}/status", encoding="latin-1") as status:
        return [line for line in status if line.startswith("voluntary_ctxt_switches")]
    return []


def main(tracer: int) -> None:
    before, programs = sleeps(tracer), dict(traced_by(tracer))
    users = set[int]().union(*programs.values())
    spared = set[int]() if os.geteuid() == 0 else ours()
    reveal()
    owing = [found for found in connections() if found.owner and found.waiting and found.device not in spared]
    used = near(programs)
    for found in [*(c for c in owing if c.device in used), *(c for c in owing if c.device not in used and c.owner in users)]:
        end(found)
        time.sleep(PAUSE)
        if sleeps(tracer) != before:
            return


if __name__ == "__main__":
    main(int(sys.argv[1]))
