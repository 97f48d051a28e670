"""Files that were private, and which somebody can write to still: they are kept empty, and cost nobody a process."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from mosfs.daemon.leftovers import Leftovers
from mosfs.daemon.threads import Threads
from mosfs.home.asks.disk_space import DiskSpace
from mosfs.wire.files import opened_by_others
from mosfs.wire.limits import Limit, Shares
from mosfs.wire.messages import PrivateLeft

UID = 1234


class File:
    """A nameless file: ``ours``, and ``theirs``, which somebody else has."""

    def __init__(self, folder: Path) -> None:
        self.ours = os.open(folder / "file", os.O_RDWR | os.O_CREAT, 0o600)
        self.theirs = os.open(folder / "file", os.O_RDWR)
        self.number = os.fstat(self.theirs).st_ino
        (folder / "file").unlink()

    def size_after(self) -> int:
        return os.fstat(self.theirs).st_size

    def is_ours(self) -> bool:
        try:
            return os.fstat(self.ours).st_ino == self.number
        except OSError:
            return False

    def close(self) -> None:
        os.close(self.theirs)


@pytest.fixture
def file(tmp_path: Path) -> File:
    made = File(tmp_path)
    if not opened_by_others(made.ours):
        pytest.skip("this file system grants no leases")
    return made


class Tracer:
    """A tracer whose mosd is ``there``. ``given``: numbers of the files that it got."""

    def __init__(self, *, there: bool, programs: dict[int, Any]) -> None:
        self.given: list[int] = []
        control = SimpleNamespace(send=lambda message, beside: there and self._got(message, beside))
        self.space = DiskSpace(SimpleNamespace(programs=programs, mosd=SimpleNamespace(control=control, uid=UID)))  # type: ignore[arg-type]

    def _got(self, message: Any, beside: int) -> bool:
        assert message == PrivateLeft(UID)
        self.given.append(os.fstat(beside).st_ino)
        return True


def test_a_tracer_that_has_nothing_else_to_do_gives_them_away(file: File) -> None:
    tracer = Tracer(there=True, programs={})
    tracer.space.close(file.ours)
    assert tracer.space.left == [file.ours]
    tracer.space.look()
    assert (tracer.space.left, tracer.given, file.is_ours()) == ([], [file.number], False)


@pytest.mark.parametrize(("there", "programs"), [(False, {}), (True, {300: SimpleNamespace(private=None)})])
def test_else_it_keeps_them_empty_itself(file: File, there: bool, programs: dict[int, Any]) -> None:
    tracer = Tracer(there=there, programs=programs)
    tracer.space.close(file.ours)
    os.pwrite(file.theirs, b"x" * 4096, 0)
    tracer.space.look()
    assert (tracer.space.left, tracer.given, file.size_after()) == ([file.ours], [], 0)
    file.close()
    tracer.space.look()
    assert (tracer.space.left, file.is_ours()) == ([], False)


def test_mosd_keeps_them_empty(file: File) -> None:
    """Until nobody else can write to them any more."""

    async def main() -> None:
        left = Leftovers()
        left.take(UID, [file.ours])
        for _ in range(2):
            os.pwrite(file.theirs, b"x" * 4096, 0)
            await left.look(Threads())
            assert (file.size_after(), left.held) == (0, {UID: [file.ours]})
        file.close()
        await left.look(Threads())
        assert (left.held, file.is_ours()) == ({}, False)

    trio.run(main)


def test_a_user_has_so_many(tmp_path: Path) -> None:
    """The others are not his business; of his the oldest are given up."""
    left = Leftovers(Shares(Limit(2, 100, 9, errno.EMFILE, "things"), admin=0))
    fds = [os.open(tmp_path, os.O_RDONLY) for _ in range(4)]
    left.take(UID + 1, fds[:1])
    for fd in fds[1:]:
        left.take(UID, [fd])
    assert left.held == {UID + 1: fds[:1], UID: fds[2:]}
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fds[1])
    for fd in (fds[0], *fds[2:]):
        os.close(fd)
