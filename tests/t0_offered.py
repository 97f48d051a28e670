"""What a node has by itself of the files that programs map: only what home has, and never by another's word (`migrate.offered`)."""

from __future__ import annotations

import os
import random
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mosfs.home.away.mapped import File, Mapped, _supply, _want
from mosfs.home.process.link import Held, Link
from mosfs.migrate import filecopy, offered
from mosfs.migrate.filecopy import BLOCK, HEADER, OFFERED, WANT, Copies, frame, is_offer, offer, read_frame, read_offer
from mosfs.migrate.image import MAX_SIZE, BadImage
from mosfs.wire.frames import Kind

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a node takes only root's files")

names = st.text(min_size=1, max_size=40).filter(lambda s: "\0" not in s and "/" not in s and s not in (".", ".."))
digests = st.lists(st.integers(0, (1 << 128) - 1), min_size=1, max_size=offered.MOST // BLOCK)


@given(names.filter(lambda s: s.isascii()), digests)
def test_an_offer_is_read_as_it_was_written(name: str, found: list[int]) -> None:
    payload = offer(7, len(found) * BLOCK + 8 * BLOCK, 8 * BLOCK, f"/usr/lib/{name}", found)
    assert is_offer(payload)
    assert read_offer(payload) == (7, len(found) * BLOCK + 8 * BLOCK, 8 * BLOCK, f"/usr/lib/{name}", found)
    with pytest.raises(BadImage):
        read_frame(payload)


@given(st.binary(max_size=600))
def test_a_malformed_offer_is_refused_or_makes_sense(rest: bytes) -> None:
    payload = HEADER.pack(3, OFFERED, 1 << 30, 0) + rest
    try:
        found = read_offer(payload)
    except BadImage:
        return
    assert offered.is_common(found.name) and 0 < len(found.digests) <= offered.MOST // BLOCK


@pytest.mark.parametrize(
    ("number", "size", "offset", "name", "count"),
    [
        (0, BLOCK, 0, "/usr/a", 1), (1, BLOCK, 1, "/usr/a", 1), (1, BLOCK, BLOCK, "/usr/a", 1), (1, BLOCK, 0, "/usr/a", 2),
        (1, MAX_SIZE + 1, 0, "/usr/a", 1), (1, BLOCK, 0, "/usr/../etc/shadow", 1), (1, BLOCK, 0, "/etc/shadow", 1),
        (1, BLOCK, 0, "usr/a", 1), (1, BLOCK, 0, "/usr//a", 1), (1, BLOCK, 0, "", 1), (1, 999 * BLOCK, 0, "/usr/a", 257),
    ],
)  # fmt: skip
def test_what_cannot_be_offered(number: int, size: int, offset: int, name: str, count: int) -> None:
    with pytest.raises(BadImage):
        read_offer(offer(number, size, offset, name, [1] * count))


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(offered, "FOLDERS", (f"{tmp_path}/",))
    return tmp_path / "own"


def taken(path: Path, size: int, block: bytes) -> bytes | None:
    [(at, data)] = offered.taken(str(path), size, 0, [offered.digest(block)])
    assert at == 0
    return data


def test_only_what_root_alone_writes_is_taken(own: Path) -> None:
    block = random.Random(1).randbytes(BLOCK)
    own.write_bytes(block)
    own.chmod(0o644)
    assert taken(own, BLOCK, block) == block
    assert taken(own, BLOCK + 1, block) is None
    assert taken(own, BLOCK, block[:-1] + b"!") is None
    for mode in (0o640, 0o664, 0o646):
        own.chmod(mode)
        assert taken(own, BLOCK, block) is None
    own.chmod(0o644)
    os.chown(own, 1, 1)
    assert taken(own, BLOCK, block) is None
    os.chown(own, 0, 0)
    link = own.with_name("link")
    link.symlink_to(own)
    assert taken(link, BLOCK, block) is None
    assert taken(own.with_name("none"), BLOCK, block) is None
    os.mkfifo(own.with_name("fifo"))
    assert taken(own.with_name("fifo"), BLOCK, block) is None
    assert taken(own.parent, BLOCK, block) is None


class Channel:
    """The way from home to one host, which has the copies of one body."""

    def __init__(self, copies: Copies) -> None:
        self.copies = copies
        self.sent = 0

    def send(self, kind: Kind, pair: int, payload: bytes) -> None:
        assert kind == Kind.FILE
        self.sent += len(payload)
        self.copies.apply(payload)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[tuple[int, File, Mapped]]:
    path = tmp_path / "file"
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    file = File(1, os.dup(fd), str(path), ("00:00", 1))
    mapped = Mapped.__new__(Mapped)
    mapped._files = {1: file}
    yield fd, file, mapped
    os.close(fd)
    os.close(file.fd)


@pytest.mark.parametrize("seed", range(30))
def test_a_copy_is_what_home_has_whatever_the_node_has(
    seed: int, home: tuple[int, File, Mapped], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own file is the same, another, of another time, partly the same, or none; and home's changes all the time."""
    fd, file, mapped = home
    own = tmp_path / "own"
    monkeypatch.setattr(offered, "is_common", lambda name: True)
    real = offered._own
    monkeypatch.setattr(offered, "_own", lambda name, size: real(str(own), size))
    dice = random.Random(seed)
    files, copies = dict[int, Held](), Copies()
    channel = Channel(copies)
    link = Link(channel, "", near=True)  # type: ignore[arg-type]
    try:
        for _ in range(40):
            at = dice.randrange(12) * BLOCK + dice.randrange(BLOCK)
            match dice.randrange(7):
                case 0:
                    os.ftruncate(fd, at)
                case 1 | 2:
                    os.pwrite(fd, dice.randbytes(dice.randrange(200_000)), at)
                case 3:
                    os.pwrite(fd, bytes(dice.randrange(200_000)), at)
                case 4:
                    own.write_bytes((tmp_path / "file").read_bytes())
                case 5:
                    own.write_bytes((tmp_path / "file").read_bytes()[:at].ljust(os.fstat(fd).st_size, b"?"))
                case 6:
                    own.unlink(missing_ok=True)
            file.rescan()
            _want(files, [(1, dice.randrange(16) * 40960, dice.randrange(1, 500_000))])
            for payload in mapped._news(files, near=True, offers=True):
                copies.apply(payload)
            if dice.random() < 0.3:  # it changes before the host has said what it lacks
                os.pwrite(fd, dice.randbytes(1000), at)
                file.rescan()
            for payload in copies.to_ask():
                number, offset, length = WANT.unpack(payload)
                _supply(file, files[number], (offset, offset + length), link, 9)
                copies.answered(payload)
            for payload in mapped._news(files, near=True):
                copies.apply(payload)
            assert copies.settled and copies.lacks(1, 0, 1 << 30) is None
            for start, end in files[1].wanted:
                assert os.fstat(copies.of[1].fd).st_size == os.fstat(fd).st_size
                assert os.pread(copies.of[1].fd, end - start, start) == os.pread(fd, end - start, start)
    finally:
        copies.close()


def test_what_the_node_has_is_not_sent(home: tuple[int, File, Mapped], own: Path) -> None:
    fd, file, mapped = home
    os.pwrite(fd, random.Random(2).randbytes(40 * BLOCK), 0)
    os.fchmod(fd, 0o644)
    file.rescan()
    files, copies = dict[int, Held](), Copies()
    _want(files, [(1, 0, 40 * BLOCK)])
    sent = 0
    try:
        for payload in mapped._news(files, near=True, offers=True):
            sent += len(payload)
            copies.apply(payload)
        assert copies.settled and not copies.to_ask()
        assert os.pread(copies.of[1].fd, 41 * BLOCK, 0) == os.pread(fd, 41 * BLOCK, 0)
        assert sent < 40 * BLOCK / 1000
    finally:
        copies.close()


def test_what_is_lacking_is_asked_for_once(own: Path) -> None:
    copies = Copies()
    copies.apply(offer(1, 20 * BLOCK, 0, str(own), [5] * 10 + [0] * 2 + [5] * 8))
    assert not copies.settled
    asked = copies.to_ask()
    assert [WANT.unpack(payload) for payload in asked] == [(1, 0, 10 * BLOCK), (1, 12 * BLOCK, 8 * BLOCK)]
    copies.apply(frame(1, 20 * BLOCK, 0, b"x" * 4 * BLOCK))
    assert copies.to_ask() == []
    assert copies.lacks(1, 0, 5 * BLOCK) == (4 * BLOCK, 10 * BLOCK)
    for payload in asked:
        copies.answered(payload)
    assert copies.settled and copies.lacks(1, 0, 20 * BLOCK) is None
    copies.close()


def test_a_file_of_the_node_is_public() -> None:
    """The rule of `_own` lets libraries through: on a node where it does not, every start away sends them."""
    found = os.stat(os.path.realpath("/bin/sh"))
    assert stat.S_ISREG(found.st_mode)
    fd = offered._own(os.path.realpath("/bin/sh"), found.st_size)
    assert fd >= 0
    os.close(fd)
    assert filecopy.BLOCK == offered.BLOCK
