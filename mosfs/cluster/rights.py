"""What root's daemons keep of root's rights (capabilities(7)): the table, and giving up the rest.

A program of a user never inherits any of it: programs are seized, not started, by tracers, and a guest has no capability at all.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
from collections.abc import Iterable
from enum import IntEnum

from mosfs.abi.flags import PR_CAP_AMBIENT, PR_CAPBSET_DROP, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS
from mosfs.abi.numbers import SYS_CAPSET

_libc = ctypes.CDLL(None, use_errno=True)
_VERSION_3 = 0x20080522
_PR_CAP_AMBIENT_CLEAR_ALL = 4


class Cap(IntEnum):
    """Capabilities by their numbers in <linux/capability.h>."""

    DAC_OVERRIDE = 1
    KILL = 5
    SETGID = 6
    SETUID = 7
    NET_BIND_SERVICE = 10
    SYS_PTRACE = 19
    SYS_ADMIN = 21
    SYS_NICE = 23
    SYS_RESOURCE = 24
    CHECKPOINT_RESTORE = 40


#: By process: what it keeps, and what for. What is not here keeps all (docs/design/security.md says why).
KEPT: dict[str, dict[Cap, str]] = {
    "mosd": {
        Cap.DAC_OVERRIDE: "/proc of users' processes; private files in directories that belong to others",
        Cap.KILL: "the end of guests that are to leave (expel), SIGIO of mailboxes",
        Cap.NET_BIND_SERVICE: "ports 249, 252 and 253 again, when the address changes; connections from ports that only root has",
        Cap.SYS_PTRACE: "/proc of users' processes: I/O and CPU time, what they are",
        Cap.SYS_ADMIN: "unmounting the tree at its end",
    },
    "mos-tracer": {
        Cap.DAC_OVERRIDE: "/proc/PID/mem, fd and fdinfo of its programs, which belong to their user",
        Cap.KILL: "signals to its programs",
        Cap.SETGID: "seizing with its user's group",
        Cap.SETUID: "seizing as its user (trace/caller.py)",
        Cap.SYS_PTRACE: "memory, registers and descriptors of programs that have other rights by now",
        Cap.SYS_NICE: "nice values and processors of programs that come home",
        Cap.SYS_RESOURCE: "limits of programs that come home",
        Cap.CHECKPOINT_RESTORE: "/proc/PID/map_files: the files that are mapped, also deleted ones",
        Cap.SYS_ADMIN: "the same before Linux 5.9 and in its security modules",
    },
    "mos-host": {
        Cap.DAC_OVERRIDE: "/proc/PID/mem of guests, whose user is another one",
        Cap.KILL: "the end of guests",
        Cap.SETGID: "the group of a new guest",
        Cap.SETUID: "the user of a new guest (daemon/owners.py)",
        Cap.NET_BIND_SERVICE: "images to other nodes, from ports that only root has",
        Cap.SYS_PTRACE: "memory and registers of guests",
        Cap.SYS_NICE: "nice values of guests",
        Cap.SYS_RESOURCE: "limits of guests",
    },
}
#: These are never started by exec again, so that what they gave up is gone for their children too.
FINAL = ("mos-tracer", "mos-host")


def no_core() -> None:
    """Whatever becomes of this process, no core file shows the secret or a program's memory. For every daemon, of any user.

    Where core files are piped to a program their limit does not count (core(5)). Not dumpable (prctl(2)), there is nothing to pipe
    and root's other processes need CAP_SYS_PTRACE to look at this one. An ordinary user's daemons would lose their own /proc.
    Children inherit it; a change of users takes it back, so it is said again then.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    if os.geteuid() == 0:
        _prctl(PR_SET_DUMPABLE, 0)


def give_up(process: str) -> None:
    """Keep what `KEPT` says of ``process``, of what there is; OSError. Only for root, before there are threads."""
    if os.geteuid() != 0:
        return
    kept = KEPT[process]
    if process in FINAL:
        _bound(kept)
        _prctl(PR_SET_NO_NEW_PRIVS, 1)
    _prctl(PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    _set(_mask(kept) & _held("CapPrm:"))


def _mask(caps: Iterable[int]) -> int:
    return sum(1 << cap for cap in caps)


def _held(name: str) -> int:
    """A set of ours (proc(5), status)."""
    with open("/proc/thread-self/status", encoding="latin-1") as status:
        (value,) = (line.split()[1] for line in status if line.startswith(name))
    return int(value, 16)


def _bound(kept: Iterable[int]) -> None:
    """Nothing that this process or its children execute has more than ``kept`` (capabilities(7), bounding set)."""
    more = _held("CapBnd:") & ~_mask(kept)
    for cap in range(more.bit_length()):
        if more >> cap & 1:
            _prctl(PR_CAPBSET_DROP, cap)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) < 0:
        number = ctypes.get_errno()
        if number not in (errno.EINVAL, errno.EPERM):  # not known here; or we have no CAP_SETPCAP, and then little to give up
            raise OSError(number, os.strerror(number))


def _set(mask: int) -> None:
    """Permitted and effective capabilities; inheritable: none (capset(2))."""
    header = (ctypes.c_uint32 * 2)(_VERSION_3, 0)
    low, high = mask & 0xFFFFFFFF, mask >> 32
    data = (ctypes.c_uint32 * 6)(low, low, 0, high, high, 0)
    if _libc.syscall(SYS_CAPSET, header, data) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
