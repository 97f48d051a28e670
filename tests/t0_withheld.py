"""Which calls of a program away need a descriptor of shared memory that is away with it (`home.away.withheld`)."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mosfs.abi.syscalls import BY_NAME
from mosfs.calls.request import Blob, Request
from mosfs.home.away.withheld import Descriptors, Withheld
from mosfs.home.process import objects
from mosfs.home.process.objects import Object, Store
from mosfs.migrate.maps import CannotMove
from mosfs.trace.caller import as_user
from mosfs.trace.proc import owner_of
from tests.cluster import wait_until

ARENA, OTHER, DUP_CLOEXEC = 5, 6, 1030


@pytest.fixture
def descriptors(monkeypatch: pytest.MonkeyPatch) -> Descriptors:
    """Of a tree in which descriptor 5 of each program is of such memory."""
    made = SimpleNamespace(number=1)
    store = SimpleNamespace(opened=lambda: [made], shown_by=lambda _, fd: made if fd == ARENA else None)
    found = Descriptors(SimpleNamespace(shared=SimpleNamespace(store=store)))  # type: ignore[arg-type]
    monkeypatch.setattr(found, "_withheld", [SimpleNamespace(made=made)])
    monkeypatch.setattr(found, "_of", lambda _: iter([(ARENA, made, 0)]))
    return found


PROGRAM: Any = SimpleNamespace(pid=1)


def asks(descriptors: Descriptors, name: str, *args: int, memory: dict[int, bytes] | None = None) -> bool:
    blobs = [Blob(0x1000 * arg, len(data), data, arg) for arg, data in (memory or {}).items()]
    return descriptors.concerns(PROGRAM, Request(BY_NAME[name].nr, (*args, *(0,) * (6 - len(args))), 0, blobs))


@pytest.mark.parametrize(("name", "args"), [
    ("read", (ARENA,)), ("pwrite64", (ARENA,)), ("writev", (ARENA,)), ("lseek", (ARENA,)), ("fstat", (ARENA,)),
    ("ftruncate", (ARENA,)), ("fallocate", (ARENA,)), ("sendfile", (OTHER, ARENA)), ("copy_file_range", (OTHER, 0, ARENA)),
    ("splice", (ARENA, 0, OTHER)),
    ("newfstatat", (ARENA,)), ("statx", (ARENA,)), ("ioctl", (ARENA, 0x5421)), ("flock", (ARENA, 2)), ("dup", (ARENA,)),
    ("dup3", (ARENA, OTHER)), ("fcntl", (ARENA, 0)), ("fcntl", (ARENA, 2, 0)), ("fcntl", (ARENA, 3)), ("fcntl", (ARENA, 6)),
    ("read", (ARENA | 1 << 32,)), ("fcntl", (ARENA, DUP_CLOEXEC - 1)),
])  # fmt: skip
def test_what_is_made_at_home(name: str, args: tuple[int, ...], descriptors: Descriptors) -> None:
    assert asks(descriptors, name, *args)
    assert not asks(descriptors, name, *(OTHER if arg & 0xFFFFFFFF == ARENA else arg for arg in args))


@pytest.mark.parametrize(("name", "args"), [
    ("close", (ARENA,)), ("fcntl", (ARENA, DUP_CLOEXEC)), ("fcntl", (ARENA, 1)), ("getpid", ()), ("read", (-1,)),
    ("kill", (ARENA, 9)),
])  # fmt: skip
def test_what_is_not(name: str, args: tuple[int, ...], descriptors: Descriptors) -> None:
    assert not asks(descriptors, name, *args)


def test_among_others(descriptors: Descriptors) -> None:
    polled = [struct.pack("<ihh", OTHER, 1, 0), struct.pack("<ihh", ARENA, 1, 0)]
    assert asks(descriptors, "poll", 0, 2, memory={0: b"".join(polled)})
    assert not asks(descriptors, "poll", 0, 1, memory={0: polled[0]})
    assert not asks(descriptors, "ppoll", 0, 1, memory={0: polled[1][:5]})


def test_in_a_message(descriptors: Descriptors) -> None:
    """Control data may pass one on; nobody looks whether it does."""
    plain, passing = struct.pack("<5Q2Q", 0, 0, 0, 1, 0, 0, 0), struct.pack("<5Q2Q", 0, 0, 0, 1, 0x2000, 24, 0)
    assert asks(descriptors, "sendmsg", OTHER, memory={1: passing})
    assert not asks(descriptors, "sendmsg", OTHER, memory={1: plain})
    assert not asks(descriptors, "sendmsg", OTHER, memory={1: passing[:20]})
    assert asks(descriptors, "sendmmsg", OTHER, memory={1: plain + bytes(8) + passing + bytes(8)})
    assert not asks(descriptors, "sendmmsg", OTHER, memory={1: plain + bytes(8) + plain + bytes(8)})


def test_nothing_while_nothing_is_away(descriptors: Descriptors, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(descriptors, "_withheld", [])
    assert not asks(descriptors, "read", ARENA)
    assert not descriptors.has(PROGRAM, ARENA)


# --------------------------------------------------------------------------- leases, on a real file


@pytest.fixture
def made() -> Iterator[Object]:
    """A file in memory without a name, as `Store.open` keeps one."""
    fd, name = tempfile.mkstemp(dir="/dev/shm")
    os.unlink(name)
    os.write(fd, b"contents")
    yield Object(1, fd, 8, ("", 0), opened=True)
    os.close(fd)


def program(*, shares: bool, pid: int = 0) -> Any:
    return SimpleNamespace(
        pid=pid or os.getpid(), shares=shares, away=True, move=None, kin=SimpleNamespace(leader=0),
        process=SimpleNamespace(shares=True),
    )  # fmt: skip


def having(made: Object, *programs: Any, lease: bool = True) -> Descriptors:
    """Of a tree of these programs, with a lease on what those share of them that have ``shares``."""
    store = SimpleNamespace(opened=lambda: [made], objects=lambda numbers: [made] if 1 in numbers else [])
    shared = SimpleNamespace(store=store, of=lambda p: {1} if p.shares else set())
    tree: Any = SimpleNamespace(shared=shared, programs=dict(enumerate(programs)))
    found = Descriptors(tree)
    found.guard(program(shares=True), {1} if lease else set())
    return found


def test_who_comes_home_when_the_kernel_has_ended_the_lease(made: Object) -> None:
    """As /proc/sys/fs/lease-break-time after somebody has opened it: then the kernel has nothing to give up any more."""
    p = program(shares=True)
    found = having(made, p)
    fcntl.fcntl(made.fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    call: Any = None
    found.give_back(p, call)
    found.tick()
    assert os.fstat(made.fd).st_size == 8


def test_nothing_is_kept_of_those_that_have_ended_away(made: Object) -> None:
    found = having(made, program(shares=False))
    copy, placeholder = (os.open(f"/proc/self/fd/{made.fd}", flags) for flags in (os.O_PATH, os.O_PATH))
    os.close(copy)
    found._withheld.append(Withheld(made, -1, placeholder))
    found.tick()
    assert found.numbers() == set()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(placeholder)
    assert os.fstat(made.fd).st_size == 0  # whoever opens it finds nothing, and no zeros


def test_nothing_is_old_that_nobody_has_any_more(made: Object) -> None:
    having(made).forget(made)
    assert os.fstat(made.fd).st_size == 0


def test_what_others_have_elsewhere_is_not_opened(made: Object) -> None:
    """Another program of the tree has a placeholder of it, too: opening it here would be waiting for ourselves."""
    found = having(made, program(shares=True))
    placeholder = os.open(f"/proc/self/fd/{made.fd}", os.O_PATH)
    found._withheld.append(Withheld(made, -1, placeholder))
    found._of = lambda _: iter([(placeholder, made, os.O_PATH)])  # type: ignore[method-assign]
    call: Any = None
    found.give_back(program(shares=False), call)
    assert found._withheld[0].fd < 0
    assert fcntl.fcntl(made.fd, fcntl.F_GETLEASE) == fcntl.F_WRLCK
    os.close(placeholder)


@pytest.mark.root
def test_a_file_whose_mode_lets_nobody_open_it(made: Object) -> None:
    """fchmod(2) takes no right of who has it open; its user's tracer opens it again for him."""
    os.fchown(made.fd, 65533, 65533)
    os.fchmod(made.fd, 0)
    one = Withheld(made, -1, -1, position=3, flags=os.O_RDWR | os.O_APPEND)
    with as_user(65533, 65533):
        fd = one.again()
    try:
        assert os.read(fd, 9) == b"tents"
        assert fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_APPEND
        assert os.fstat(made.fd).st_mode & 0o7777 == 0
    finally:
        os.close(fd)


def test_files_of_others_are_not_asked(made: Object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A stat(2) of theirs may wait for a server for ever."""
    store = Store(lambda: None)
    store._keep(made.fd, 8, opened=True)
    (tmp_path / "other").touch()
    asked: list[str] = []
    ours, stat = SimpleNamespace(**vars(os)), os.stat
    ours.stat = lambda path: asked.append(path) or stat(path)
    monkeypatch.setattr(objects, "os", ours)
    with open(tmp_path / "other") as other:
        assert store.shown_by(os.getpid(), other.fileno()) is None
        assert asked == []
        assert store.shown_by(os.getpid(), made.fd) is not None


def test_what_a_program_may_only_read_is_not_opened_for_writing(made: Object) -> None:
    """Another thread may have put it in the place of what we have looked at; and we may be root."""
    fd = os.open(f"/proc/self/fd/{made.fd}", os.O_RDONLY)
    try:
        with pytest.raises(OSError, match="is not what was asked for"):
            Store(lambda: None).open(os.getpid(), fd)
    finally:
        os.close(fd)


@pytest.mark.root
def test_a_lease_is_its_users(made: Object) -> None:
    """We may be root, who may have one on any file."""
    os.fchown(made.fd, 65533, 65533)
    with subprocess.Popen(["setpriv", "--reuid=65532", "--regid=65532", "--clear-groups", "cat"], stdin=subprocess.PIPE) as other:
        wait_until(lambda: other.pid and owner_of(other.pid) == 65532)
        found = having(made, lease=False)
        with pytest.raises(CannotMove, match="nobody can tell who else has it open"):
            found.guard(program(shares=True, pid=other.pid), {1})
    assert fcntl.fcntl(made.fd, fcntl.F_GETLEASE) == fcntl.F_UNLCK
