"""What a program has left in its deputy: memory that is unmapped in slices, between the events of the tree.

A gigabyte takes some 75 ms of a processor to give up, and until then nobody else's calls in the tree would be made. Calls of the
program itself need not wait either, if they soon end and reach no memory but the scratch; before any other all of it is unmapped.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Sequence
from itertools import pairwise

from mosfs.abi.args import Kind
from mosfs.abi.syscalls import BY_NAME, BY_NR
from mosfs.calls.request import Request
from mosfs.home.process.descriptors import is_stored
from mosfs.migrate.ranges import Range, minus, size
from mosfs.trace import layout


class Remains:
    """The slices that are left, and what ends with the last of them: the watch over what the program writes, which would otherwise
    look at each page once more."""

    def __init__(self, left: list[Range] | None = None, ended: Callable[[], None] | None = None) -> None:
        self.left = left or []
        self._ended = ended

    def __bool__(self) -> bool:
        return bool(self.left)

    def take(self, most: int | None) -> list[Range]:
        """Slices that will be unmapped now: ``most`` of them, or all."""
        at = 0 if most is None else -most
        taken = self.left[at:]
        del self.left[at:]
        return taken

    def forget(self) -> None:
        """All of it is gone."""
        self.left = []
        ended, self._ended = self._ended, None
        if ended is not None:
            ended()


#: Of a slice: bytes and mappings. Each takes a millisecond or two.
BYTES = 16 << 20
MAPPINGS = 512
#: Slices by bytes: address space that is only reserved, terabytes perhaps, is cut into larger ones.
MOST = 1024

#: Calls that end soon, and whose pointers are arguments.
_SHORT = frozenset(BY_NAME[name].nr for name in (
    "access", "chdir", "chmod", "dup", "faccessat", "faccessat2", "fchdir", "fchmod", "fchmodat", "fstat", "fstatfs", "ftruncate",
    "getcwd", "getdents64", "link", "linkat", "lstat", "mkdir", "mkdirat", "newfstatat", "pipe", "pipe2", "readlink", "readlinkat",
    "rename", "renameat", "renameat2", "rmdir", "stat", "statfs", "statx", "symlink", "symlinkat", "unlink", "unlinkat",
))  # fmt: skip
#: The same, where the descriptor of the first argument is a file that is stored somewhere.
_OF_FILES = frozenset(BY_NAME[name].nr for name in ("read", "write", "pread64", "pwrite64", "lseek", "close"))
_POINTERS = frozenset({Kind.STR, Kind.MEMORY, Kind.IRREGULAR})
#: What a call may have in the scratch: longer ones need memory of their own.
_ROOM = layout.SCRATCH_SIZE // 2


def slices(mapped: list[Range], keep: list[Range]) -> list[Range]:
    """How to unmap everything but ``keep`` and the kernel's gate page; both are sorted. ``mapped``: what is there."""
    cuts: list[int] = []
    most = max(BYTES, size(mapped) // MOST & -layout.PAGE)
    room, left = most, MAPPINGS
    for start, end in mapped:
        while end - start > room:
            start += room
            cuts.append(start)
            room, left = most, MAPPINGS
        room -= end - start
        left -= 1
        if not left:
            cuts.append(end)
            room, left = most, MAPPINGS
    return minus(pairwise([layout.PAGE * 16, *cuts, layout.USER_END]), keep)


def beside(request: Request, pid: int, remains: Sequence[Range]) -> bool:
    """May a call be made while ``remains`` are still there? To the program that memory is gone: a bad address must stay one."""
    if request.nr not in _SHORT and not (request.nr in _OF_FILES and is_stored(pid, request.args[0])):
        return False
    if request.relocations or sum(blob.size for blob in request.blobs) > _ROOM:
        return False
    given = {blob.arg for blob in request.blobs}
    pointers = (number for number, arg in enumerate(BY_NR[request.nr].args) if arg.kind in _POINTERS and number not in given)
    return not any(_within(request.args[number], remains) for number in pointers)


def _within(address: int, ranges: Sequence[Range]) -> bool:
    at = bisect(ranges, (address, layout.USER_END))
    return at > 0 and address < ranges[at - 1][1]
