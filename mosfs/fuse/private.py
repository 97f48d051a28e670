"""``ptf/PID/...`` of the tree: private temporary files of programs and guests that are on this node, for their owner to read.

The names are what tracers and hosts have told; the contents are read through their descriptors. So nothing here waits for anybody.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass, field

import pyfuse3

from mosfs.node.world import World

#: Marks our inode numbers, as `procfs.tree.Folder` marks its own; those are small.
MARK = 0xF0
NAME = "ptf"
#: Nodes remembered before those that are gone are forgotten.
SWEEP = 10_000

#: A process and a path below its folder; (0, b"") is the folder of all.
Node = tuple[int, bytes]
ROOT: Node = (0, b"")


def error(number: int) -> OSError:
    return OSError(number, "")


@dataclass(frozen=True, slots=True)
class Names:
    """The ``names`` in the folder ``path`` of process ``pid`` when it was opened; each gets its inode when it is looked at."""

    tree: PrivateTree
    pid: int
    path: bytes
    names: list[bytes]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, at: int) -> tuple[str, int]:
        name = self.names[at]
        return os.fsdecode(name), self.tree.inode((self.pid, self.path + b"/" + name))


@dataclass(slots=True)
class PrivateTree:
    """``admin`` counts as root besides uid 0. Methods raise OSError."""

    world: World
    admin: int
    _nodes: dict[int, Node] = field(default_factory=dict)
    _numbers: dict[Node, int] = field(default_factory=dict)
    _next: int = 1
    _sweep_at: int = SWEEP

    @staticmethod
    def owns(inode: int) -> bool:
        return inode - 1 & 0xFF == MARK

    def inode(self, node: Node) -> int:
        if node == ROOT:
            return 1 + MARK
        number = self._numbers.get(node)
        if number is None:
            if len(self._nodes) >= self._sweep_at:
                self._sweep()
            number, self._next = self._next, self._next + 1
            self._numbers[node], self._nodes[number] = number, node
        return 1 + (MARK | number << 8)

    def _sweep(self) -> None:
        """What stays is in the world: names that a program makes and removes again and again are not."""
        kept = {(pid, path) for pid, names in self.world.private.items() for path in (*names.files, *names.folders)}
        for number, node in list(self._nodes.items()):
            if node not in kept:
                del self._nodes[number], self._numbers[node]
        self._sweep_at = max(SWEEP, 2 * len(self._nodes))

    def node(self, inode: int) -> Node:
        number = inode - 1 >> 8
        if not number:
            return ROOT
        if number not in self._nodes:
            raise error(errno.ENOENT)
        return self._nodes[number]

    def _owner(self, pid: int) -> int:
        owner = self.world.owner(pid)
        if owner is None:
            raise error(errno.ENOENT)
        return owner

    def _behind(self, node: Node) -> str:
        """Where the contents of a file can be opened; "" for a folder, ENOENT for what is not there."""
        pid, path = node
        if node == ROOT:
            return ""
        names = self.world.private.get(pid)
        if names is None:
            raise error(errno.ENOENT)
        if path in names.files:
            return f"/proc/{names.keeper}/fd/{names.files[path]}"
        if path and path not in names.folders:
            raise error(errno.ENOENT)
        return ""

    def check(self, node: Node, uid: int, bits: int) -> None:
        """EACCES unless ``uid`` is the owner or root and only wants to read."""
        behind = self._behind(node)
        if node != ROOT and uid not in (0, self.admin, self._owner(node[0])):
            raise error(errno.EACCES)
        if bits & os.W_OK or (behind and bits & os.X_OK):
            raise error(errno.EACCES)

    def attributes(self, node: Node) -> pyfuse3.EntryAttributes:
        behind = self._behind(node)
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = pyfuse3.InodeT(self.inode(node))
        entry.st_uid = self.admin if node == ROOT else self._owner(node[0])
        entry.st_gid = 0
        entry.st_nlink = 1
        entry.st_blksize = 4096
        entry.entry_timeout = entry.attr_timeout = 0
        if behind:
            found = os.stat(behind)
            self._still(node)
            entry.st_mode = pyfuse3.ModeT(stat.S_IFREG | 0o400)
            entry.st_size = found.st_size
            entry.st_atime_ns, entry.st_mtime_ns, entry.st_ctime_ns = found.st_atime_ns, found.st_mtime_ns, found.st_mtime_ns
        else:
            entry.st_mode = pyfuse3.ModeT(stat.S_IFDIR | (0o555 if node == ROOT else 0o500))
        return entry

    def lookup(self, parent: Node, name: str, uid: int) -> Node:
        self.check(parent, uid, os.X_OK)
        if self._behind(parent):
            raise error(errno.ENOTDIR)
        if parent == ROOT:
            pid = int(name) if name.isascii() and name.isdigit() else 0
            if str(pid) != name or pid not in self.world.private:
                raise error(errno.ENOENT)
            return pid, b""
        node = (parent[0], parent[1] + b"/" + os.fsencode(name))
        self._behind(node)
        return node

    def children(self, node: Node) -> list[tuple[str, int]] | Names:
        """Names and inodes in a folder."""
        pid, path = node
        if node == ROOT:
            return [(str(each), self.inode((each, b""))) for each in sorted(self.world.private)]
        if self._behind(node):
            raise error(errno.ENOTDIR)
        return Names(self, pid, path, [*self.world.private[pid].folders.get(path, ())])

    def open(self, node: Node, uid: int, flags: int) -> int:
        """A descriptor for reading."""
        self.check(node, uid, os.R_OK if flags & os.O_ACCMODE == os.O_RDONLY else os.W_OK)
        behind = self._behind(node)
        if not behind:
            raise error(errno.EISDIR)
        fd = os.open(behind, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            self._still(node)
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise error(errno.ENOENT)
        except OSError:
            os.close(fd)
            raise
        return fd

    def _still(self, node: Node) -> None:
        """ENOENT when the keeper of a file has ended: what its PID and descriptor led to a moment ago may be anybody's."""
        names = self.world.private.get(node[0])
        if names is None or not names.alive():
            raise error(errno.ENOENT)
