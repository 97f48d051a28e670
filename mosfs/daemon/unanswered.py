"""``python -m mosfs.daemon.unanswered TRACER``: end FUSE file systems that owe answers, until that tracer gets on.

First those of its programs' users, and of these those from which the programs have files open or mapped; then others' with such
files: those that do not answer us either, and at last those that owe something all the time. What is another user's and works shall
not end because somebody has stalled his own tracer. Never root's.
A connection is ended as by umount(8) with ``--force``: whoever waits for it gets an error (filesystems/fuse.rst, "Aborting a
filesystem connection"). Each that was ended is a line of standard output. This is a process of its own because what it looks at may
keep it waiting, too.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

CONNECTIONS = "/sys/fs/fuse/connections"
PAUSE = 0.2  #: seconds in which a tracer notices that it has got an answer
LOOK = 0.01  #: seconds between two looks at what is owed
ANSWER = 1.0  #: seconds in which a file system answers, or a look is over that may be kept waiting
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


def of_maps(text: bytes) -> Iterator[tuple[int, str]]:
    """Devices of the files in /proc/PID/maps (proc_pid_maps(5)), and where they are mapped."""
    for line in text.splitlines():
        where, _, _, device, *_ = line.split(None, 5)
        major, _, minor = device.partition(b":")
        yield int(major, 16) << 20 | int(minor, 16), where.decode()


def of_mounts(text: bytes, numbers: Container[int]) -> Iterator[tuple[int, int]]:
    """Devices of the mounts of these numbers in /proc/PID/mountinfo (proc_pid_mountinfo(5)), and the numbers."""
    for line in text.splitlines():
        number, _, device, *_ = line.split(None, 3)
        if int(number) in numbers:
            major, _, minor = device.partition(b":")
            yield int(major) << 20 | int(minor), int(number)


def mount_of(info: Iterable[bytes]) -> int | None:
    """The number of the mount that a descriptor is of (proc_pid_fdinfo(5)); None if it is none by which files are read."""
    facts = {name: rest for name, _, rest in (line.partition(b":") for line in info)}
    return None if int(facts[b"flags"], 8) & os.O_PATH else int(facts[b"mnt_id"])


def devices(pid: int) -> dict[int, str]:
    """Of the files that ``pid`` has open or mapped, with a path that leads to one; no question to their file systems."""
    found, mounts = dict[int, str](), dict[int, str]()
    with suppress(OSError, ValueError):
        for fd in os.listdir(f"/proc/{pid}/fdinfo"):
            with suppress(OSError, KeyError), open(f"/proc/{pid}/fdinfo/{fd}", "rb") as info:
                if (number := mount_of(info)) is not None:
                    mounts[number] = f"/proc/{pid}/fd/{fd}"
        with open(f"/proc/{pid}/mountinfo", "rb") as text:
            found.update((device, mounts[number]) for device, number in of_mounts(text.read(), mounts))
        with open(f"/proc/{pid}/maps", "rb") as text:
            for device, where in of_maps(text.read()):
                found.setdefault(device, f"/proc/{pid}/map_files/{where}")
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
    return {device for device, _ in of_mounts(b"\n".join(lines), numbers)}


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


def near(pids: Iterable[int]) -> dict[int, str]:
    """`devices` of all these; what has been found in time, for /proc/PID/maps may wait for a file system, too."""
    found = dict[int, str]()

    def all_of_them() -> None:
        for pid in pids:
            found.update(devices(pid))

    look = threading.Thread(target=all_of_them, daemon=True)
    look.start()
    look.join(ANSWER)
    return found.copy()


def silent(paths: Mapping[int, str]) -> set[int]:
    """The devices whose file systems do not tell how they are (statfs(2)), asked at these paths; an error is an answer."""
    left = set(paths)

    def ask(device: int, path: str) -> None:
        with suppress(OSError):
            os.statvfs(path)
        left.discard(device)

    until = time.monotonic() + ANSWER
    asking = [threading.Thread(target=ask, args=each, daemon=True) for each in paths.items()]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join(max(0.0, until - time.monotonic()))
    return left.copy()


def suspects(owing: Iterable[Connection], users: Container[int], used: Mapping[int, str]) -> Iterator[Connection]:
    """Whose answers the tracer may be waiting for, in the order in which they are ended. ``used``: as `near`."""
    owing = list(owing)
    own = [found for found in owing if found.owner in users]
    yield from sorted(own, key=lambda found: found.device not in used)
    others = {found.device: found for found in owing if found.owner not in users and found.device in used}
    mute = silent({device: used[device] for device in others})
    yield from (others[device] for device in mute)
    yield from (others[device] for device in never_done(others.keys() - mute))


def never_done(devices: Iterable[int]) -> set[int]:
    """Those that owe answers whenever we look: who keeps a tracer waiting does."""
    left, until = set(devices), time.monotonic() + ANSWER
    while left and time.monotonic() < until:
        left &= {found.device for found in connections() if found.waiting}
        time.sleep(LOOK)
    return left


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
    for found in suspects(owing, users, near(programs)):
        end(found)
        time.sleep(PAUSE)
        if sleeps(tracer) != before:
            return


if __name__ == "__main__":
    main(int(sys.argv[1]))
