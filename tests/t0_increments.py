"""Incremental checkpoints: a chain of folders that share files, each of which has all that it needs (`migrate.increments`)."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path

import pytest
import xxhash

from mosfs.migrate import increments
from mosfs.migrate.checkpoint import REFS, Reader, encoded
from mosfs.migrate.image import PAGES_HEADER, RUN_HEADER, RUNS_HEADER, BadImage
from mosfs.migrate.increments import Chain, Increment, Parts
from mosfs.migrate.pages import CHUNK, runs_of
from mosfs.trace.layout import PAGE
from mosfs.wire.frames import Frame, Kind
from tests.t0_checkpoints import HEAD

Memory = dict[int, bytes]  # page by address
BASE = 0x7F00_0000_0000


def memory(pages: int, seed: int = 1) -> Memory:
    chance = random.Random(seed)
    return {BASE + at * PAGE: chance.randbytes(PAGE) for at in range(pages)}


def write(chain: Chain, folder: Path, pages: Memory, most: int = 1 << 40, *, scattered: bool = False) -> int:
    """A checkpoint in a new folder; how many bytes were written. ``scattered``: in RUNS of pages that do not follow each other."""
    folder.mkdir(mode=0o700)
    inside = os.open(folder, os.O_RDONLY)
    fd = os.open(folder / "image", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0)
    try:
        writer = Increment(fd, chain, inside, most=most)
        writer.head(encoded(HEAD))
        addresses = sorted(pages)
        groups = [addresses[at::64] for at in range(64)] if scattered else [[*addresses]]
        for group in groups:
            for at in range(0, len(group), CHUNK // PAGE):
                some = group[at : at + CHUNK // PAGE]
                raw = b"".join(pages[addr] for addr in some)
                digest = xxhash.xxh3_64_intdigest(raw)
                if some[-1] - some[0] != (len(some) - 1) * PAGE:
                    head = RUNS_HEADER.pack(len(some), 0, digest) + b"".join(RUN_HEADER.pack(addr, 1, 0) for addr in some)
                    writer.send(Kind.RUNS, 1, head + raw)
                else:
                    writer.send(Kind.PAGES, 1, PAGES_HEADER.pack(some[0], len(some), 0, digest) + raw)
        writer.end()
        os.fchmod(fd, 0o400)
        writer.become_last()
        return writer.written
    finally:
        os.close(fd)
        os.close(inside)


@contextmanager
def opened(folder: Path) -> Iterator[tuple[Reader, Parts]]:
    inside = os.open(folder, os.O_RDONLY)
    fd = os.open(folder / "image", os.O_RDONLY)
    try:
        with closing(Parts(inside, os.geteuid(), nullcontext)) as parts:
            yield Reader(fd), parts
    finally:
        os.close(fd)
        os.close(inside)


def read(folder: Path) -> Memory:
    """BadImage."""
    found: Memory = {}
    with opened(folder) as (reader, parts):
        reader.head()
        for kind, payload in reader.records():
            runs = parts.runs(payload) if kind == REFS else [
                (addr, bytes(raw or b"")) for addr, _, raw in runs_of(Frame(kind - 256, 0, 1, payload))
            ]
            for addr, raw in runs:
                for at in range(0, len(raw), PAGE):
                    assert addr + at not in found, "a page is there twice"
                    found[addr + at] = bytes(raw[at : at + PAGE])
    return found


@pytest.fixture
def chain() -> Iterator[Chain]:
    with closing(Chain()) as found:
        yield found


@pytest.mark.parametrize("scattered", [False, True])
def test_each_has_what_was_there_then(chain: Chain, tmp_path: Path, scattered: bool) -> None:
    """Pages change, come and go; older ones are removed, and written again."""
    chance = random.Random(3)
    pages, kept = memory(300), dict[Path, Memory]()
    for number in range(12):
        folder = tmp_path / f"save.{number}"
        write(chain, folder, pages, scattered=scattered)
        kept[folder] = dict(pages)
        if number % 3 == 2:
            shutil.rmtree(victim := chance.choice([*kept][:-1]))
            del kept[victim]
        for addr in chance.sample(sorted(pages), 40):
            pages[addr] = chance.randbytes(PAGE)
        del pages[chance.choice(sorted(pages))]
        pages[BASE + (1000 + number) * PAGE] = chance.randbytes(PAGE)
    for folder, what in kept.items():
        assert read(folder) == what


def test_what_has_not_changed_is_not_written(chain: Chain, tmp_path: Path) -> None:
    """One percent of the pages, here and there, costs two at most; none costs next to nothing."""
    pages = memory(4096)
    whole = write(chain, tmp_path / "1", pages)
    assert write(chain, tmp_path / "2", pages) < whole // 1000
    for addr in random.Random(5).sample(sorted(pages), 41):
        pages[addr] = bytes(PAGE)
    assert write(chain, tmp_path / "3", pages) <= whole // 50
    shutil.rmtree(tmp_path / "1")
    shutil.rmtree(tmp_path / "2")
    assert read(tmp_path / "3") == pages
    shutil.copytree(tmp_path / "3", tmp_path / "elsewhere")
    assert read(tmp_path / "elsewhere") == pages


def test_the_first_is_a_checkpoint_like_any_other(chain: Chain, tmp_path: Path) -> None:
    write(chain, tmp_path / "1", memory(10))
    with opened(tmp_path / "1") as (reader, _):
        reader.head()
        assert REFS not in {kind for kind, _ in reader.records()}
    assert os.listdir(tmp_path / "1") == ["image"]


def test_what_is_hardly_used_is_written_again(chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So disks do not fill with what one page holds on to, and folders not with links."""
    monkeypatch.setattr(increments, "MOST_PARTS", 8)
    chance, pages = random.Random(9), memory(128)
    for number in range(20):
        folder = tmp_path / str(number)
        write(chain, folder, pages)
        assert sum(file.stat().st_size for file in folder.iterdir()) < 4 * 128 * PAGE
        assert len(os.listdir(folder)) <= 9
        assert read(folder) == pages
        if number:
            shutil.rmtree(tmp_path / str(number - 1))
        for addr in chance.sample(sorted(pages), 17):
            pages[addr] = chance.randbytes(PAGE)


def damaged(part: Path, how: str) -> None:
    data = bytearray(part.read_bytes())
    middle = len(data) // 2
    part.unlink()
    if how == "torn":
        part.write_bytes(data[:middle])
    elif how == "flipped":
        data[middle] ^= 1
        part.write_bytes(data)
    elif how == "a link":
        (part.parent.parent / "other").write_bytes(data)
        part.symlink_to("../other")
    elif how == "a pipe":
        os.mkfifo(part)
    elif how == "somebody else's":
        part.write_bytes(data)
        os.chown(part, 65534, 65534)


@pytest.mark.parametrize(("which", "how"), [
    *(("1", how) for how in ("missing", "torn", "flipped", "a link", "a pipe")), ("image", "torn"), ("image", "flipped"),
    pytest.param("1", "somebody else's", marks=pytest.mark.root),
])  # fmt: skip
def test_a_damaged_file_is_no_program(chain: Chain, tmp_path: Path, which: str, how: str) -> None:
    pages = memory(100)
    write(chain, tmp_path / "1", pages)
    pages[BASE] = bytes(range(256)) * 16
    write(chain, tmp_path / "2", pages)
    damaged(tmp_path / "2" / which, how)
    with pytest.raises(BadImage):
        read(tmp_path / "2")
    assert len(read(tmp_path / "1")) == 100, "the other one has its own"


def test_every_byte_of_a_reference_counts(chain: Chain, tmp_path: Path) -> None:
    pages = memory(3)
    write(chain, tmp_path / "1", pages)
    write(chain, tmp_path / "2", pages)
    with opened(tmp_path / "2") as (reader, parts):
        reader.head()
        ((_, payload),) = [record for record in reader.records() if record[0] == REFS]
        assert [addr for addr, _ in parts.runs(payload)] == [BASE]
        for at in range(8, len(payload)):
            changed = payload[:at] + bytes([payload[at] ^ 0x81]) + payload[at + 1 :]
            with pytest.raises(BadImage):
                list(parts.runs(changed))
        for wrong in (b"", payload[:-1], payload + b"\0"):
            with pytest.raises(BadImage):
                list(parts.runs(wrong))


@pytest.mark.parametrize("how", ["removed", "written to", "another"])
def test_what_somebody_changed_meanwhile_is_not_shared(chain: Chain, tmp_path: Path, how: str) -> None:
    pages = memory(50)
    write(chain, tmp_path / "1", pages)
    image = tmp_path / "1" / "image"
    if how == "removed":
        image.unlink()
    elif how == "another":
        data = image.read_bytes()
        image.unlink()
        image.write_bytes(data)
    else:
        image.chmod(0o600)
        with open(image, "r+b") as file:
            file.seek(5000)
            file.write(b"x")
        os.utime(image, ns=(1, 1))
    assert write(chain, tmp_path / "2", pages) > 50 * PAGE
    shutil.rmtree(tmp_path / "1")
    assert read(tmp_path / "2") == pages and os.listdir(tmp_path / "2") == ["image"]


def test_a_failure_changes_nothing(chain: Chain, tmp_path: Path) -> None:
    """No room in the middle of one: the next shares with the one before it."""
    pages = memory(500)
    write(chain, tmp_path / "1", pages)
    for addr in sorted(pages)[:300]:
        pages[addr] = pages[addr][::-1]
    with pytest.raises(OSError, match="too large"):
        write(chain, tmp_path / "2", pages, most=600_000)
    shutil.rmtree(tmp_path / "2")
    assert 300 * PAGE < write(chain, tmp_path / "3", pages) < 310 * PAGE
    assert read(tmp_path / "3") == pages


def test_a_chain_that_was_closed_begins_anew(chain: Chain, tmp_path: Path) -> None:
    pages = memory(20)
    write(chain, tmp_path / "1", pages)
    chain.close()
    assert write(chain, tmp_path / "2", pages) > 20 * PAGE
    assert read(tmp_path / "2") == pages
