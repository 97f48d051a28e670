"""Contents of mapped files: frames, copies, and what the tracer sends of a file that changes (docs/design/migration.md)."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import signal
import struct
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mosfs.balance.source import Memory
from mosfs.guest.body import Body
from mosfs.guest.mapping import MappedFiles, MapRequest
from mosfs.home.away import mapped as mapped_files
from mosfs.home.away.hosts import Hosts
from mosfs.home.away.mapped import File, Mapped, _first_of, _want
from mosfs.home.away.shared import SharedMemory
from mosfs.home.process.link import Held
from mosfs.home.process.records import Body as AwayBody
from mosfs.home.tree.containment import Containment as AtHome
from mosfs.migrate.filecopy import BLOCK, HEADER, MOST, Copies, Headroom, Objects, Sender, data_of, frame, read_frame
from mosfs.migrate.image import COMPRESSED, MAX_SIZE, OBJECTS, BadImage
from mosfs.migrate.maps import Mapping
from mosfs.migrate.rebuild import NoRoom
from mosfs.wire import room
from mosfs.wire.frames import GENERATION, Kind


@pytest.mark.parametrize("near", [True, False])
@pytest.mark.parametrize("data", [b"", b"x" * 5000, random.Random(1).randbytes(70000)])
def test_a_frame_is_read_as_it_was_written(data: bytes, near: bool) -> None:
    assert read_frame(frame(3, 1 << 40, 4096, data, near=near)) == (3, 1 << 40, 4096, data)


@pytest.mark.parametrize("payload", [
    b"", HEADER.pack(1, 0, 0, 0)[:-1], HEADER.pack(0, 0, 10, 0), HEADER.pack(1, 0, MAX_SIZE + 1, 0),
    HEADER.pack(1, 0, 10, MAX_SIZE) + b"x", HEADER.pack(1, COMPRESSED, 10, 0) + b"not compressed",
    HEADER.pack(1, 0, 10, 0) + bytes(MOST + 1),
])  # fmt: skip
def test_a_malformed_frame_is_refused(payload: bytes) -> None:
    with pytest.raises(BadImage):
        read_frame(payload)


def test_data_of_a_file_with_holes(tmp_path: Path) -> None:
    fd = os.open(tmp_path / "f", os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, 100 * BLOCK)
    os.pwrite(fd, b"x", 7 * BLOCK + 5)
    os.pwrite(fd, b"y", 99 * BLOCK)
    found = list(data_of(fd, 100 * BLOCK))
    assert all(start % BLOCK == 0 for start, _ in found)
    for at in (7 * BLOCK + 5, 99 * BLOCK):
        assert any(start <= at < end for start, end in found)
    os.close(fd)


class World:
    """A file at home, and hosts that hold parts of it."""

    def __init__(self, path: Path) -> None:
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT)
        self.file = File(1, os.dup(self.fd), str(path), ("00:00", 1))
        self.mapped = Mapped.__new__(Mapped)
        self.mapped._files = {1: self.file}
        self.hosts: list[tuple[dict[int, Held], Copies]] = []
        self.file.rescan()

    def host(self) -> None:
        self.hosts.append(({}, Copies()))

    def want(self, number: int, offset: int, length: int) -> None:
        _want(self.hosts[number][0], [(1, offset, length)])

    def tell(self) -> None:
        for files, copies in self.hosts:
            for payload in self.mapped._news(files, near=False):
                copies.apply(payload)

    def check(self) -> None:
        size = os.fstat(self.fd).st_size
        for files, copies in self.hosts:
            for start, end in files[1].wanted:
                copy = copies.of[1]
                assert os.fstat(copy.fd).st_size == size
                assert os.pread(copy.fd, end - start, start) == os.pread(self.fd, end - start, start)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    found = World(tmp_path / "file")
    yield found
    for _, copies in found.hosts:
        copies.close()
    os.close(found.fd)
    os.close(found.file.fd)


@pytest.mark.parametrize("seed", range(20))
def test_copies_show_the_file_whatever_becomes_of_it(world: World, seed: int) -> None:
    dice = random.Random(seed)
    for _ in range(60):
        what = dice.randrange(6)
        at = dice.randrange(12) * BLOCK + dice.randrange(BLOCK)
        if what == 0:
            os.ftruncate(world.fd, at)
        elif what == 1 and len(world.hosts) < 4:
            world.host()
        elif what == 2:
            os.pwrite(world.fd, bytes(dice.randrange(200_000)), at)
        elif what < 5:
            os.pwrite(world.fd, dice.randbytes(dice.randrange(100_000)), at)
        if world.hosts:
            world.want(dice.randrange(len(world.hosts)), dice.randrange(16) * 4096 * 10, dice.randrange(1, 300_000))
        if dice.random() < 0.5:
            if dice.random() < 0.9:  # else: it is sent before the news of the change have come
                world.file.rescan()
            for files, _ in world.hosts:
                files.setdefault(1, Held())
            world.tell()
            world.file.rescan()
            world.tell()
            world.check()


def test_a_change_is_sent_alone(world: World) -> None:
    os.pwrite(world.fd, random.Random(2).randbytes(20 * BLOCK), 0)
    world.host()
    world.file.rescan()
    world.want(0, 0, 20 * BLOCK)
    world.tell()
    os.pwrite(world.fd, b"!", 5 * BLOCK + 9)
    world.file.rescan()
    told = [read_frame(payload) for payload in world.mapped._news(world.hosts[0][0], near=True)]
    assert [(offset, len(data)) for _, _, offset, data in told if data] == [(5 * BLOCK, BLOCK)]
    assert list(world.mapped._news(world.hosts[0][0], near=True)) == []


def test_what_is_mapped_comes_before_the_answers_that_were_kept_back(world: World) -> None:
    """A program that moves has mapped a file that its host has never had: the answer alone would show it zeros."""
    os.pwrite(world.fd, b"contents", 0)
    world.file.rescan()
    world.host()
    files, copies = world.hosts[0]
    sent: list[int] = []

    def send(kind: int, _pid: int, payload: bytes = b"", _flags: int = 0) -> None:
        sent.append(kind)
        if kind == Kind.FILE:
            copies.apply(payload)

    link = SimpleNamespace(channel=SimpleNamespace(send=send), near=True, frames=GENERATION)
    p: Any = SimpleNamespace(
        pid=7, away=True, link=link, body=AwayBody(files=files, kept_back=[]), saves=SimpleNamespace(outlive=None)
    )
    tree: Any = SimpleNamespace(mapped=world.mapped, threads=SimpleNamespace(of=lambda _: []))
    world.mapped.tracer = tree
    hosts = Hosts(tree)
    world.want(0, 0, 8)
    world.mapped.catch_up(p)
    hosts.give(p, Kind.REPLY, b"", 0)
    assert not sent
    hosts.release_answers(p)
    assert sent[0] == Kind.FILE and sent[-1] == Kind.REPLY
    world.check()


def test_a_file_that_cannot_be_read_any_more_ends_only_who_maps_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a file system of a user's, or of a server that has lost it (ESTALE): it was the end of the tracer, and so of its tree."""
    ended: list[tuple[int, int | None]] = []

    def send(kind: int, pid: int, payload: bytes = b"", flags: int = 0) -> None:
        heard.append(pid)

    def trouble(p: Any, error: Exception) -> None:
        ended.append((p.pid, getattr(error, "errno", None)))

    os.pwrite(world.fd, b"contents", 0)
    world.file.rescan()
    world.host()
    world.want(0, 0, 8)
    world.tell()
    os.pwrite(world.fd, b"of today", 0)
    link = SimpleNamespace(channel=SimpleNamespace(send=send), near=True)
    none = SimpleNamespace(outlive=None)
    programs: Any = {
        pid: SimpleNamespace(pid=pid, away=True, link=link, body=AwayBody(files={number: held}), saves=none, move=None)
        for pid, number, held in ((7, 1, world.hosts[0][0][1]), (8, 2, Held()))
    }
    containment = SimpleNamespace(of=lambda p: AtHome.of(containment, p), trouble=trouble)  # type: ignore[arg-type]
    tree: Any = SimpleNamespace(programs=programs, containment=containment, mosd=SimpleNamespace(log=lambda *line: None))
    heard: list[int] = []
    world.mapped.tracer = tree
    other = os.memfd_create("other")
    world.mapped._files[2] = File(2, other, "other", ("0:1", 2), size=8, generation=1)
    reads = [b"of today"]

    def pread(fd: int, size: int, at: int) -> bytes:
        if fd == other or reads:
            return reads.pop() if fd != other else bytes(8)
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    monkeypatch.setattr(mapped_files.os, "pread", pread)
    world.mapped._changed([world.file, world.mapped._files[2]])
    assert ended == [(7, errno.ESTALE)] and set(heard) == {7, 8}
    del world.mapped._files[2]
    os.close(other)


def test_copies_take_neither_all_memory_nor_all_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a home-node sends of files is bounded by what the host's node has, whoever asked for it."""
    free = [1000]
    copies = Copies(lambda: Memory(free[0], 16000))
    piece = b"x" * MOST
    copies.apply(frame(1, 1 << 30, 0, piece))
    free[0] = 400
    with pytest.raises(OSError, match="allocate memory"):
        for at in range(0, 1 << 26, MOST):
            copies.apply(frame(1, 1 << 30, at, piece))
    assert os.fstat(copies.of[1].fd).st_blocks * 512 < 8 << 20
    copies.apply(frame(2, 1 << 40))  # a hole takes nothing
    before = set(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(room, "few_left", lambda fd: True)
    with pytest.raises(OSError, match="Too many open files"):
        copies.apply(frame(3, 10, 0, b"x"))
    assert set(os.listdir("/proc/self/fd")) == before and not copies.has(3)
    copies.close()


def test_memory_that_is_shared_comes_home_only_where_there_is_some() -> None:
    """It is no process's, so that the kernel would end others when there is no more."""
    tree: Any = SimpleNamespace()
    shared, free = SharedMemory(tree), [1000]
    shared.headroom = Headroom(lambda: Memory(free[0], 16000))
    made, piece = shared.store.new(1 << 26), b"x" * MOST
    assert shared.take([made.number], frame(made.number, made.whole, 0, piece)) == made.number
    free[0] = 400
    with pytest.raises(NoRoom):
        for at in range(0, 1 << 26, MOST):
            shared.take([made.number], frame(made.number, made.whole, at, piece))
    assert os.fstat(made.fd).st_blocks * 512 < 8 << 20
    shared.store.close(made)


def test_a_file_that_cannot_be_followed_is_no_longer_than_its_mapping() -> None:
    body = Body(7, None)  # type: ignore[arg-type]
    files = MappedFiles(None, None)  # type: ignore[arg-type]
    body.call.mapping = MapRequest(1 << 20, 8192, 1, 2)
    data = bytes(4096)
    files.data(body, struct.pack("<Q", 4096) + data)
    for offset in (4097, 8192, (1 << 64) - 1):
        with pytest.raises(BadImage):
            files.data(body, struct.pack("<Q", offset) + data)
    with pytest.raises(BadImage):
        for _ in range(100):
            files.data(body, struct.pack("<Q", 0) + data)
    assert sum(len(data) for _, data in body.call.mapping.chunks) <= 8192


def test_the_next_host_gets_what_came_while_it_was_sent() -> None:
    first, second = Copies(), Copies()
    first.apply(frame(1, 10 * BLOCK, 0, b"a" * BLOCK))
    first.apply(frame(2, 100, 0, b"b" * 100))
    sender = Sender(first, near=False)
    ahead = sender.ahead()
    second.apply(next(ahead))
    first.apply(frame(1, 10 * BLOCK, 0, b"c" * 10))
    for payload in ahead:
        second.apply(payload)
    first.apply(frame(1, 9 * BLOCK, 3 * BLOCK, b"d" * 10))
    first.apply(frame(2, 50))
    for payload in sender.rest():
        second.apply(payload)
    for number in (1, 2):
        mine, theirs = first.of[number], second.of[number]
        assert mine.size == theirs.size == os.fstat(theirs.fd).st_size
        assert os.pread(mine.fd, mine.size, 0) == os.pread(theirs.fd, theirs.size, 0)
    sender.close()
    assert first.listeners == []
    first.close()
    second.close()


def mapping_of(path: Path) -> Mapping:
    facts = path.stat()
    return Mapping(0, 4096, 1, False, 0, facts.st_ino, str(path), f"{os.major(facts.st_dev):02x}:{os.minor(facts.st_dev):02x}")


def test_a_file_with_a_write_lease_is_not_opened(tmp_path: Path) -> None:
    """Its holder would have to give it up, and may be the program that stands still for us."""
    (tmp_path / "file").write_text("mine")
    fd = os.open(tmp_path / "file", os.O_RDWR)
    try:
        for lease, opens in ((fcntl.F_WRLCK, False), (fcntl.F_UNLCK, True)):
            fcntl.fcntl(fd, fcntl.F_SETLEASE, lease)
            ways = [(str(tmp_path / "file"), lambda _: True)]
            ours = _first_of(SimpleNamespace(private=None), mapping_of(tmp_path / "file"), ways)  # type: ignore[arg-type]
            assert (ours >= 0) is opens
            if opens:
                os.close(ours)
    finally:
        os.close(fd)


def test_a_path_that_leads_elsewhere_after_the_look_opens_nothing_else(tmp_path: Path) -> None:
    """Opening alone does something: with a device, or a pipe whose other end waits."""
    looked_at, other = tmp_path / "file", tmp_path / "other"
    looked_at.write_text("looked at")
    other.write_text("other")
    number = looked_at.stat().st_ino

    def right(facts: os.stat_result) -> bool:
        looked_at.unlink()
        looked_at.symlink_to(other)
        return facts.st_ino == number

    ours = _first_of(SimpleNamespace(private=None), mapping_of(looked_at), [(str(looked_at), right)])  # type: ignore[arg-type]
    assert os.read(ours, 100) == b"looked at"
    os.close(ours)


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "none"):
        ways = [(str(tmp_path / name), lambda _: True)]
        assert _first_of(SimpleNamespace(private=None), mapping_of(tmp_path), ways) == -1  # type: ignore[arg-type]


def test_a_file_on_which_somebody_has_a_lease_is_not_waited_for(tmp_path: Path) -> None:
    """Who opens it otherwise waits until that is given back, or for /proc/sys/fs/lease-break-time."""
    (tmp_path / "file").write_bytes(b"x")
    ready, told = os.pipe()
    holder = os.fork()
    if holder == 0:
        try:
            signal.signal(signal.SIGIO, signal.SIG_IGN)
            fcntl.fcntl(os.open(tmp_path / "file", os.O_RDWR), fcntl.F_SETLEASE, fcntl.F_WRLCK)
            os.write(told, b"x")
            signal.pause()
        finally:
            os._exit(1)
    os.close(told)
    try:
        if not os.read(ready, 1):
            pytest.skip("no leases here")
        ways = [(str(tmp_path / "file"), lambda _: True)]
        assert _first_of(SimpleNamespace(private=None), mapping_of(tmp_path / "file"), ways) == -1  # type: ignore[arg-type]
    finally:
        os.kill(holder, signal.SIGKILL)
        os.waitpid(holder, 0)
        os.close(ready)


def test_memory_that_is_shared_lives_as_long_as_somebody_has_it() -> None:
    """One file for all who have it, which goes with the last; what it holds is sent whole, and only what was asked for."""
    objects = Objects()
    one, other = Copies(objects=objects), Copies(objects=objects)
    number = OBJECTS + 7
    one.apply(frame(number, 8 * BLOCK))
    other.apply(frame(number, 8 * BLOCK, 5 * BLOCK, b"there"))
    assert list(objects.of) == [number] and not one.of and not other.of
    os.pwrite(objects.of[number].reader, b"written by a body", 2 * BLOCK)  # unlike the copy of a file
    told = [read_frame(payload) for payload in objects.contents([number, number + 1], near=True)]
    assert told[0] == (number, 8 * BLOCK, 0, b"")
    held = {offset: data.rstrip(b"\0") for _, _, offset, data in told[1:]}
    assert held == {2 * BLOCK: b"written by a body", 5 * BLOCK: b"there"}
    one.close()
    assert list(objects.of) == [number]
    other.close()
    assert not objects.of and not list(objects.contents([number], near=True))
