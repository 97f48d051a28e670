"""How much of what all users share one user may hold: one table, and who holds what (docs/design/security.md).

Root, and the user that mosd runs as, have limits of their own, so that nobody can keep them out.
"""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Callable, Iterator, KeysView
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from mosfs.wire.subuids import SYSTEM

ROOT = 0


@dataclass(frozen=True, slots=True)
class Limit:
    """``each``: of one user; ``total``: when so much is held by all users, each has only an equal part of it; ``root``: of root.

    ``error``: the errno value of who wants more. ``text``: what is limited.
    """

    each: int
    total: int
    root: int
    error: int
    text: str


#: Connections to the control socket that are no tracer's and no host's: launchers mostly.
CONNECTIONS = Limit(256, 1024, 1024, errno.EAGAIN, "connections to mosd")
#: Of these, programs that wait for a node with enough memory (mosrun -b -m).
WAITING = Limit(128, 1024, 1024, errno.EAGAIN, "programs that wait for memory")
#: Requests to the tree that wait for another process or node. `TREE_TASKS` is far more than all of them.
REQUESTS = Limit(64, 512, 256, errno.EAGAIN, "requests that wait for another node")
TREE_TASKS = 4096
#: Open files and folders of the tree.
OPEN_FILES = Limit(4096, 32768, 32768, errno.EMFILE, "open files of the tree")
#: Bytes of what these show that mosd keeps until they are closed; who opens and reads a file of `SHORT` bytes has none of them.
SHOWN = Limit(16 << 20, 256 << 20, 64 << 20, errno.ENOMEM, "bytes that open files of the tree show")
SHORT = 2048
#: Mailboxes on this node, and bytes in them that nobody has read.
MAILBOXES = Limit(4096, 65536, 65536, errno.EMFILE, "mailboxes")
MAIL_BYTES = Limit(512 << 20, 4 << 30, 1 << 30, errno.EAGAIN, "bytes in mailboxes")
#: Names of private files that the tree shows.
PRIVATE_FILES = Limit(65536, 262144, 262144, errno.EMFILE, "private files in the tree")
#: Files that were private and to which somebody else can write still (`daemon.leftovers`).
PRIVATE_LEFT = Limit(1024, 16384, 1024, errno.EMFILE, "files that were private")
#: Programs that have ended and are remembered (mostimeof).
ENDED = Limit(1000, 16384, 1000, errno.EAGAIN, "ended programs")
#: Threads of mosd that wait for a name server or a file system of a user's.
THREADS = Limit(4, 64, 16, errno.EAGAIN, "threads")
#: Connections from other nodes: of one address of the map, of one that is not, and of all that are not.
PEER, STRANGER, STRANGERS = 512, 8, 64
#: Of these, TLS handshakes at a time of one address; the others wait without costing memory.
GREETINGS = 16


def fair(limit: Limit, holders: int) -> int:
    """What each of so many users may have: never less than one."""
    return min(limit.each, max(1, limit.total // max(1, holders)))


def within(limit: Limit, total: int) -> Limit:
    """``limit`` where there is only so much for all of them together, root among them."""
    return replace(limit, each=min(limit.each, total), total=min(limit.total, total), root=min(limit.root, total))


@dataclass(slots=True)
class Shares:
    """Who holds how much of what ``limit`` is about. ``admin`` counts as root besides uid 0; ``whose``: who counts for a user."""

    limit: Limit
    admin: int = field(default_factory=os.geteuid)
    held: Counter[int] = field(default_factory=Counter)
    whose: Callable[[int], int] = SYSTEM.whose

    def may(self, uid: int, amount: int = 1) -> bool:
        """Whether ``uid`` may have ``amount`` more. Who has nothing may always have one thing."""
        uid = self.whose(uid)
        had = self.held.get(uid, 0)
        return not had or had + amount <= self.most(uid, self.held.keys())

    def most(self, uid: int, holders: KeysView[int]) -> int:
        """How much ``uid`` may have beside these ``holders``."""
        if uid in (ROOT, self.admin):
            return self.limit.root
        return fair(self.limit, len(holders - {ROOT, self.admin, uid}) + 1)

    def take(self, uid: int, amount: int = 1) -> None:
        """``amount`` more; OSError with the limit's errno when ``uid`` has enough."""
        if not self.may(uid, amount):
            raise OSError(self.limit.error, f"too many {self.limit.text}")
        self.add(uid, amount)

    def add(self, uid: int, amount: int = 1) -> None:
        """``amount`` more, whether or not he may have it."""
        self.held[self.whose(uid)] += amount

    def give(self, uid: int, amount: int = 1) -> None:
        """``amount`` less."""
        uid = self.whose(uid)
        self.held[uid] -= amount
        if self.held[uid] <= 0:
            del self.held[uid]

    @contextmanager
    def one(self, uid: int) -> Iterator[None]:
        """`take`, and `give` at the end."""
        self.take(uid)
        try:
            yield
        finally:
            self.give(uid)
