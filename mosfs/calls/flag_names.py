"""Names of flags and choices in the arguments of system calls, as their man pages have them, for `calls.show`.

One row an argument. A name is taken from Python's own modules or from `abi.flags`, so nobody types a number here; what an
argument has beyond its names is shown as a number behind them.
"""

from __future__ import annotations

import mmap
import os
import resource
import signal
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import ModuleType

from mosfs.abi import flags

#: Calls that return an address.
ADDRESSES = frozenset({"mmap", "mremap", "brk", "shmat"})


@dataclass(frozen=True, slots=True)
class Names:
    """``choices``: a number below ``mask`` is one of them; ``bits``: the rest is a sum of these. Value to name."""

    choices: Mapping[int, str]
    bits: Mapping[int, str]
    mask: int = 0

    def text(self, value: int) -> str:
        """Joined by "|", largest bits last; a remainder in hexadecimal; the name of 0, or 0."""
        if not self.bits:
            return self.choices.get(value, str(value))
        value &= 0xFFFFFFFF
        low = value & self.mask
        parts = [self.choices.get(low, f"{low:#x}")] if low or 0 in self.choices else []
        left = value & ~self.mask
        found = []
        for bit in sorted(self.bits, key=lambda bit: (-bit.bit_count(), bit)):  # O_SYNC before the O_DSYNC in it
            if left & bit == bit:
                found.append(bit)
                left &= ~bit
        if parts and low == 0 and (found or left) and self.choices[0] in _NOTHING:
            parts = []
        parts += [self.bits[bit] for bit in sorted(found)]
        return "|".join([*parts, *([f"{left:#x}"] if left else [])]) or "0"


_NOTHING = ("PROT_NONE", "F_OK")


def _of(module: ModuleType, names: str) -> dict[int, str]:
    """Value to name of those of ``names`` that this Python, on whatever kernel it was made, has; the first of equal ones."""
    found: dict[int, str] = {}
    for name in names.split():
        if (value := getattr(module, name, None)) is not None and (value or not found):
            found.setdefault(int(value), name)
    return found


def _starting(module: ModuleType, prefix: str, without: Iterable[str] = ()) -> dict[int, str]:
    return _of(module, " ".join(name for name in sorted(vars(module)) if name.startswith(prefix) and name not in without))


def _bits(names: Mapping[int, str]) -> dict[int, str]:
    return {value: name for value, name in names.items() if value}


_OPEN = Names(
    _of(os, "O_RDONLY O_WRONLY O_RDWR"),
    _bits(_of(os, "O_CREAT O_EXCL O_NOCTTY O_TRUNC O_APPEND O_NONBLOCK O_DSYNC O_SYNC O_ASYNC O_DIRECT O_DIRECTORY O_NOFOLLOW "
                  "O_NOATIME O_CLOEXEC O_PATH O_TMPFILE")) | {0o100000: "O_LARGEFILE"},
    3,
)
_DESCRIPTOR = Names({}, _of(os, "O_NONBLOCK O_CLOEXEC O_DIRECT"))
_PROT = Names({0: "PROT_NONE"}, _of(flags, "PROT_READ PROT_WRITE PROT_EXEC PROT_GROWSDOWN"))
_MAP = Names(
    _of(flags, "MAP_SHARED MAP_PRIVATE MAP_SHARED_VALIDATE"), _bits(_starting(flags, "MAP_", (
        "MAP_SHARED", "MAP_PRIVATE", "MAP_SHARED_VALIDATE", "MAP_TYPE"))), flags.MAP_TYPE,
)
_AT = Names({}, {
    0x100: "AT_SYMLINK_NOFOLLOW", 0x400: "AT_SYMLINK_FOLLOW", 0x800: "AT_NO_AUTOMOUNT", 0x1000: "AT_EMPTY_PATH",
    0x2000: "AT_STATX_FORCE_SYNC", 0x4000: "AT_STATX_DONT_SYNC",
})
_REMOVE = Names({}, {0x200: "AT_REMOVEDIR"})
_ACCESS = Names({0: "F_OK"}, _of(os, "X_OK W_OK R_OK"))
_EACCESS = Names({}, {0x100: "AT_SYMLINK_NOFOLLOW", 0x200: "AT_EACCESS", 0x1000: "AT_EMPTY_PATH"})
_CLONE = Names(
    {one.value: one.name for one in signal.Signals}, _bits(_starting(flags, "CLONE_")), flags.CSIGNAL,
)
_WAIT = Names({}, _of(flags, "WNOHANG WUNTRACED WEXITED WCONTINUED WNOWAIT"))
_WHENCE = Names(_of(os, "SEEK_SET SEEK_CUR SEEK_END SEEK_DATA SEEK_HOLE"), {})
_MSG = Names({}, _bits(_starting(socket, "MSG_")))
_SOCKET = Names(
    _of(socket, "SOCK_STREAM SOCK_DGRAM SOCK_RAW SOCK_RDM SOCK_SEQPACKET"), _of(socket, "SOCK_NONBLOCK SOCK_CLOEXEC"), 15
)
_FAMILY = Names(_of(socket, "AF_UNSPEC AF_UNIX AF_INET AF_INET6 AF_NETLINK AF_PACKET AF_ALG AF_VSOCK"), {})
_LIMIT = Names(_starting(resource, "RLIMIT_"), {})
_MADVISE = Names({value: name for name, value in sorted(vars(mmap).items(), reverse=True) if name.startswith("MADV_")}, {})
_HOW = Names({0: "SIG_BLOCK", 1: "SIG_UNBLOCK", 2: "SIG_SETMASK"}, {})
_RANDOM = Names({}, _of(os, "GRND_NONBLOCK GRND_RANDOM"))
_REMAP = Names({}, _of(flags, "MREMAP_MAYMOVE MREMAP_FIXED MREMAP_DONTUNMAP"))

#: Call and argument, counted from 0.
ARGUMENTS: Mapping[tuple[str, int], Names] = {
    ("open", 1): _OPEN, ("openat", 2): _OPEN, ("mq_open", 1): _OPEN, ("open_by_handle_at", 2): _OPEN,
    ("pipe2", 1): _DESCRIPTOR, ("dup3", 2): _DESCRIPTOR, ("eventfd2", 1): _DESCRIPTOR, ("epoll_create1", 0): _DESCRIPTOR,
    ("inotify_init1", 0): _DESCRIPTOR, ("timerfd_create", 1): _DESCRIPTOR, ("signalfd4", 3): _DESCRIPTOR,
    ("mmap", 2): _PROT, ("mprotect", 2): _PROT, ("pkey_mprotect", 2): _PROT, ("mmap", 3): _MAP, ("mremap", 3): _REMAP,
    ("madvise", 2): _MADVISE,
    ("newfstatat", 3): _AT, ("statx", 2): _AT, ("fchownat", 4): _AT, ("utimensat", 3): _AT, ("linkat", 4): _AT,
    ("execveat", 4): _AT, ("name_to_handle_at", 4): _AT, ("unlinkat", 2): _REMOVE, ("access", 1): _ACCESS,
    ("faccessat", 2): _ACCESS, ("faccessat2", 2): _ACCESS, ("faccessat2", 3): _EACCESS,
    ("clone", 0): _CLONE, ("unshare", 0): _CLONE, ("wait4", 2): _WAIT, ("waitid", 3): _WAIT, ("lseek", 2): _WHENCE,
    ("sendto", 3): _MSG, ("recvfrom", 3): _MSG, ("sendmsg", 2): _MSG, ("recvmsg", 2): _MSG, ("sendmmsg", 3): _MSG,
    ("recvmmsg", 3): _MSG, ("socket", 0): _FAMILY, ("socketpair", 0): _FAMILY,
    ("socket", 1): _SOCKET, ("socketpair", 1): _SOCKET,
    ("accept4", 3): _SOCKET, ("getrlimit", 0): _LIMIT, ("setrlimit", 0): _LIMIT, ("prlimit64", 1): _LIMIT,
    ("rt_sigprocmask", 0): _HOW, ("getrandom", 2): _RANDOM,
}
