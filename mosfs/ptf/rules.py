"""What every system call means for a private file: one table, for programs at home and away.

mosrun(1) allows open, creat, lseek, read, write, close, chmod, fchmod, unlink, truncate, ftruncate, access, stat. Their variants
(openat, pread64, writev, newfstatat, faccessat2, ...) are the same operations and are served too. What concerns only the descriptor
(dup, fcntl, fsync, poll, locks) is the kernel's. All others are refused with what their man page has for a file system that
does not support them; REFUSED is the row's errno.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from enum import Enum, auto

from mosfs.abi.flags import AT_EMPTY_PATH
from mosfs.abi.syscalls import BY_NR, Home


class Act(Enum):
    OPEN = auto()
    STAT = auto()
    STATX = auto()
    ACCESS = auto()
    UNLINK = auto()
    CHMOD = auto()
    TRUNCATE = auto()
    READ = auto()
    WRITE = auto()
    SEEK = auto()
    REFUSED = auto()


@dataclass(frozen=True, slots=True)
class Rule:
    """``paths``, ``fds``: which arguments may name or be a private file. ``errno``: of REFUSED.

    ``empty``: argument with the flags; AT_EMPTY_PATH there (-1 for a NULL path) makes the call one on its first descriptor.
    """

    nr: int
    name: str
    act: Act
    paths: tuple[int, ...] = ()
    fds: tuple[int, ...] = ()
    errno: int = 0
    empty: int | None = None


RULES: dict[int, Rule] = {}


def _path(nr: int, name: str, act: Act, *paths: int, empty: int | None = None) -> None:
    RULES[nr] = Rule(nr, name, act, paths, (0,) if empty is not None else (), empty=empty)


def _fd(nr: int, name: str, act: Act) -> None:
    RULES[nr] = Rule(nr, name, act, fds=(0,))


def _no(error: int, *calls: tuple[int, str, tuple[int, ...]], fds: bool = False) -> None:
    for nr, name, args in calls:
        RULES[nr] = Rule(nr, name, Act.REFUSED, () if fds else args, args if fds else (), errno=error)


_path(2, "open", Act.OPEN, 0)
_path(85, "creat", Act.OPEN, 0)
_path(257, "openat", Act.OPEN, 1)
_path(437, "openat2", Act.OPEN, 1)
_path(4, "stat", Act.STAT, 0)
_path(6, "lstat", Act.STAT, 0)
_path(262, "newfstatat", Act.STAT, 1, empty=3)
_path(332, "statx", Act.STATX, 1, empty=2)
_path(21, "access", Act.ACCESS, 0)
_path(269, "faccessat", Act.ACCESS, 1)
_path(439, "faccessat2", Act.ACCESS, 1, empty=3)
_path(87, "unlink", Act.UNLINK, 0)
_path(263, "unlinkat", Act.UNLINK, 1)
_path(90, "chmod", Act.CHMOD, 0)
_path(268, "fchmodat", Act.CHMOD, 1)
_path(452, "fchmodat2", Act.CHMOD, 1, empty=3)
_path(76, "truncate", Act.TRUNCATE, 0)

_fd(5, "fstat", Act.STAT)
_fd(91, "fchmod", Act.CHMOD)
_fd(77, "ftruncate", Act.TRUNCATE)
_fd(8, "lseek", Act.SEEK)
for _nr, _name in {0: "read", 17: "pread64", 19: "readv", 295: "preadv", 327: "preadv2"}.items():
    _fd(_nr, _name, Act.READ)
for _nr, _name in {1: "write", 18: "pwrite64", 20: "writev", 296: "pwritev", 328: "pwritev2"}.items():
    _fd(_nr, _name, Act.WRITE)

_no(errno.EPERM, (83, "mkdir", (0,)), (258, "mkdirat", (1,)), (133, "mknod", (0,)), (259, "mknodat", (1,)),
    (88, "symlink", (1,)), (266, "symlinkat", (2,)), (86, "link", (0, 1)), (265, "linkat", (1, 3)),
    (92, "chown", (0,)), (94, "lchown", (0,)), (260, "fchownat", (1,)), (132, "utime", (0,)), (235, "utimes", (0,)),
    (261, "futimesat", (1,)))  # fmt: skip
#: programs that move files copy them then
_no(errno.EXDEV, (82, "rename", (0, 1)), (264, "renameat", (1, 3)), (316, "renameat2", (1, 3)))
_no(errno.EINVAL, (89, "readlink", (0,)), (267, "readlinkat", (1,)))
_no(errno.ENOTDIR, (84, "rmdir", (0,)))
_no(errno.EOPNOTSUPP, (188, "setxattr", (0,)), (189, "lsetxattr", (0,)), (191, "getxattr", (0,)), (192, "lgetxattr", (0,)),
    (194, "listxattr", (0,)), (195, "llistxattr", (0,)), (197, "removexattr", (0,)), (198, "lremovexattr", (0,)),
    (303, "name_to_handle_at", (1,)))  # fmt: skip
_no(errno.ENOSYS, (137, "statfs", (0,)))
_no(errno.EACCES, (254, "inotify_add_watch", (1,)))
RULES[280] = Rule(280, "utimensat", Act.REFUSED, (1,), (0,), errno.EPERM, empty=-1)

#: programs fall back to read and write
_no(errno.EINVAL, (40, "sendfile", (0, 1)), (275, "splice", (0, 2)), (326, "copy_file_range", (0, 2)), fds=True)
_no(errno.EPERM, (93, "fchown", (0,)), fds=True)
_no(errno.EOPNOTSUPP, (285, "fallocate", (0,)), (190, "fsetxattr", (0,)), (193, "fgetxattr", (0,)), (196, "flistxattr", (0,)),
    (199, "fremovexattr", (0,)), fds=True)  # fmt: skip
_no(errno.ENODEV, (9, "mmap", (4,)), fds=True)

OPENS = frozenset(rule.nr for rule in RULES.values() if rule.act is Act.OPEN)
#: At home the kernel serves these on a private descriptor as on any other.
NATIVE = frozenset(rule.nr for rule in RULES.values() if rule.act in (Act.READ, Act.SEEK)) | {77}

#: What stops at home once a program has private directories; and once it has opened a private file. Most opens always do.
PATH_CALLS = frozenset(rule.nr for rule in RULES.values() if rule.paths and BY_NR[rule.nr].home is not Home.TRAP)
FD_CALLS = frozenset(rule.nr for rule in RULES.values() if not rule.paths) - NATIVE


def on_descriptor(rule: Rule, args: tuple[int, ...], path: bytes | None) -> bool:
    """The call is about its descriptors, not about a name. ``path``: its only path, None if that is NULL."""
    if rule.empty is None:
        return not rule.paths
    if rule.empty < 0:
        return path is None
    return path in (b"", None) and bool(args[rule.empty] & AT_EMPTY_PATH)
