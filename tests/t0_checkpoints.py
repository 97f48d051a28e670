"""The format of checkpoint files: what is written is read, and nothing else is."""

from __future__ import annotations

import io
import json
import os
import struct
import tempfile
import tracemalloc
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from mosfs.abi.texts import Text
from mosfs.home.moves.recovery import Recovery
from mosfs.home.process.settings import refused
from mosfs.migrate import checkpoint, opened
from mosfs.migrate.checkpoint import CONTENT, FRAMES, CannotSave, Head, OpenFile, Reader, ThreadHead, Traits, Writer, encoded
from mosfs.migrate.image import MOST_THREADS, PAGES_HEADER, ZERO, BadImage
from mosfs.procfs.table import checkpoint_number, checkpoint_stem
from mosfs.tools import recover
from mosfs.tools.options import UsageError, UserError
from mosfs.wire.asked import Settings
from mosfs.wire.frames import Kind

HEAD = Head(
    pid=100, comm="prog", made=1, executable="/bin/prog", folder="/tmp", umask=0o22,
    files=[
        OpenFile([1, 2], "file", "/tmp/\xff", os.O_WRONLY, 7, closed=[2]),
        OpenFile([3], "unlinked", "/x (deleted)", os.O_RDWR, size=9),
    ],
    limits=[(-1, -1)] * 16, itimers=[(0, 0, 0, 0)] * 3, settings=Settings(lock=1),
)  # fmt: skip
PAGE = PAGES_HEADER.pack(0x7000000, 1, 0, 0) + bytes(4096)


def written(*frames: tuple[int, bytes], content: bytes = b"", end: bool = True, head: Head = HEAD) -> bytes:
    with tempfile.TemporaryFile() as file, tempfile.TemporaryFile() as kept:
        kept.write(content)
        kept.flush()
        writer = Writer(file.fileno())
        writer.head(encoded(head), threads=bool(head.threads))
        for kind, payload in frames:
            writer.send(kind, 100, payload)
        assert len(list(writer.content(1, kept.fileno(), len(content)))) == bool(content)
        if end:
            writer.end()
        else:
            writer._flush()
        file.seek(0)
        assert writer.written == os.fstat(file.fileno()).st_size
        return file.read()


def read(data: bytes) -> tuple[Head, list[tuple[int, bytes]]]:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.seek(0)
        reader = Reader(file.fileno())
        return reader.head(), list(reader.records())


WHOLE = written((Kind.IMAGE, b"image"), (Kind.PAGES, PAGE), content=b"kept")


def test_what_is_written_is_read() -> None:
    head, records = read(WHOLE)
    assert head == HEAD
    assert records == [
        (FRAMES + Kind.IMAGE, b"image"), (FRAMES + Kind.PAGES, PAGE), (CONTENT, checkpoint.CONTENT_HEAD.pack(1, 0) + b"kept")
    ]  # fmt: skip


#: Of a program with several threads.
SEVERAL = replace(HEAD, threads=[ThreadHead(101, Traits(nice=3)), ThreadHead(7)])


def test_threads_are_in_a_file_of_their_own_version() -> None:
    """Who knows the first version only would leave them out: to him it is no checkpoint; nor is one that says two things."""
    whole = written((Kind.IMAGE, b"image"), head=SEVERAL)
    assert read(whole)[0] == SEVERAL and whole.startswith(checkpoint.OF_THREADS)
    assert WHOLE.startswith(checkpoint.MAGIC)
    for data in (whole, WHOLE):
        swapped = {checkpoint.MAGIC: checkpoint.OF_THREADS, checkpoint.OF_THREADS: checkpoint.MAGIC}
        changed = swapped[data[: len(checkpoint.MAGIC)]] + data[len(checkpoint.MAGIC) :]
        with pytest.raises(BadImage, match="another version"):
            read(changed)


@pytest.mark.parametrize(("pid", "tids"), [(100, []), (100, [101]), (100, [7, 101]), (100, [101, 7, 8]), (101, [101, 7])])
def test_an_image_of_other_threads_is_none(pid: int, tids: list[int]) -> None:
    def image(pid: int, tids: list[int]) -> Any:
        return SimpleNamespace(pid=pid, threads=[SimpleNamespace(tid=tid) for tid in tids])

    same = image(100, [101, 7])
    assert checkpoint.matched(SEVERAL, same) is same
    with pytest.raises(BadImage, match="other threads"):
        checkpoint.matched(SEVERAL, image(pid, tids))


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["tid", "traits", "nice", "x"]), inner, max_size=4),
))
def test_threads_that_are_none(value: object) -> None:
    """Whatever stands in their place: a head, or BadImage and one line for who recovers; what the tracer takes, mosrun takes."""
    fd = os.memfd_create("file")
    try:
        head = json.dumps({**msgspec.to_builtins(HEAD), "threads": value}).encode()
        crc = zlib.crc32(head, zlib.crc32(struct.pack("<IHH", len(head), checkpoint.HEAD, 0)))
        os.write(fd, checkpoint.OF_THREADS + checkpoint.RECORD.pack(len(head), checkpoint.HEAD, 0, crc) + head)
        os.lseek(fd, 0, os.SEEK_SET)
        try:
            found = Reader(fd).head()
        except BadImage:
            found = None
        os.lseek(fd, 0, os.SEEK_SET)
        try:
            told = [thread["tid"] for thread in recover.head_of(fd, "save.1").get("threads", [])]
        except UserError as error:
            assert found is None and str(error).isprintable()
        else:
            assert found is None or told == [thread.tid for thread in found.threads]
    finally:
        os.close(fd)


def page(at: int, pages: int, flags: int = 0) -> tuple[int, bytes]:
    return Kind.PAGES, PAGES_HEADER.pack(at, pages, flags, 0) + (b"" if flags & ZERO else bytes(pages * 4096))


def test_where_pages_are_still_to_come() -> None:
    """Looked up ahead: what is read then is the same."""
    frames = [(Kind.IMAGE, b"image"), page(0x10000, 16), page(0x20000, 16), page(0x30000, 9, ZERO), page(0x80000, 1)]
    with tempfile.TemporaryFile() as file:
        file.write(written(*frames, content=b"kept"))
        file.seek(0)
        reader = Reader(file.fileno())
        reader.head()
        records = reader.records()
        assert next(records)[0] == FRAMES + Kind.IMAGE
        assert reader.coming() == [(0x10000, 0x30000), (0x80000, 0x81000)]
        assert len(list(records)) == len(frames)


@given(st.integers(0, len(WHOLE)), st.binary(max_size=64))
def test_whatever_follows_may_be_looked_up(at: int, rest: bytes) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(WHOLE[:at].ljust(len(checkpoint.MAGIC), b"?") + rest)
        file.seek(0)
        with suppress(BadImage):
            reader = Reader(file.fileno())
            assert all(start < end for start, end in reader.coming())
            reader.head()


def test_holes_are_not_written() -> None:
    """A file of 128 MB with one byte at its end."""
    with tempfile.TemporaryFile() as kept, tempfile.TemporaryFile() as file:
        os.pwrite(kept.fileno(), b"x", 1 << 27)
        writer = Writer(file.fileno())
        for _ in writer.content(0, kept.fileno(), (1 << 27) + 1):
            pass
        writer.end()
        assert writer.written < 1 << 17


@given(st.integers(0, len(WHOLE) - 1))
def test_a_torn_file_is_none(at: int) -> None:
    with pytest.raises(BadImage):
        read(WHOLE[:at])


@given(st.integers(0, len(WHOLE) - 1), st.integers(1, 255))
def test_a_changed_byte_is_seen(at: int, change: int) -> None:
    """But in a page, whose own checksum is looked at by who unpacks it."""
    changed = WHOLE[:at] + bytes([WHOLE[at] ^ change]) + WHOLE[at + 1 :]
    pages = WHOLE.index(PAGE) + PAGES_HEADER.size
    if pages <= at < pages + 4096:
        assert read(changed)[1][1] != (FRAMES + Kind.PAGES, PAGE)
    else:
        with pytest.raises(BadImage):
            read(changed)


def test_it_is_written_with_the_rights_of_its_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    """Disk quotas (and what a file system keeps for root) are asked for those of who writes."""
    inside: list[bool] = []
    now = [False]

    @contextmanager
    def rights() -> Iterator[None]:
        now[0] = True
        yield
        now[0] = False

    with tempfile.TemporaryFile() as file:
        monkeypatch.setattr(os, "writev", lambda fd, data: inside.append(now[0]) or sum(map(len, data)))
        writer = Writer(file.fileno(), rights)
        writer.head(encoded(HEAD))
        writer.send(Kind.IMAGE, 100, bytes(3 << 20))
        writer.end()
        assert inside == [True, True] and not now[0]


def test_the_owner_s_limit_holds() -> None:
    """RLIMIT_FSIZE of the program, not of who writes for it."""
    with tempfile.TemporaryFile() as file:
        writer = Writer(file.fileno(), most=1000)
        writer.send(Kind.IMAGE, 100, bytes(900))
        with pytest.raises(OSError, match="File too large"):
            writer.send(Kind.IMAGE, 100, bytes(2 << 20))
        assert os.fstat(file.fileno()).st_size <= 1000


@pytest.mark.parametrize("changed", [
    {"files": [OpenFile([3], "file", "/x", 0, -1)]}, {"traits": Traits(nice=20)}, {"folder": "/a\0b"},
])
def test_what_no_reader_takes_is_not_written(changed: dict[str, object]) -> None:
    with pytest.raises(CannotSave):
        encoded(replace(HEAD, **changed))


def test_pages_are_counted() -> None:
    without = written((Kind.IMAGE, b"image"), end=False) + WHOLE[-checkpoint.RECORD.size - 8 :]
    with pytest.raises(BadImage, match="missing"):
        read(without)


@given(st.binary(max_size=200))
def test_noise_is_refused_by_both_readers(noise: bytes) -> None:
    """`tools.recover` reads the head with the standard library alone."""
    for data in (noise, checkpoint.MAGIC + noise):
        with pytest.raises(BadImage):
            read(data)
        with tempfile.TemporaryFile() as file, pytest.raises(UserError):
            file.write(data)
            file.seek(0)
            recover.head_of(file.fileno())


def test_only_what_the_descriptor_reads_is_kept() -> None:
    """O_PATH gives no right to read, and its access mode looks like O_RDONLY: the tracer is root and must not read for it."""
    file, name = tempfile.mkstemp()
    fds = [os.open(name, flags) for flags in (os.O_RDONLY, os.O_PATH, os.O_WRONLY)]
    try:
        assert not any(map(opened.readable, fds)), "it has a name"
        os.unlink(name)
        assert list(map(opened.readable, fds)) == [True, False, False]
    finally:
        for fd in (file, *fds):
            os.close(fd)
    for flags, kept in ((os.O_RDONLY, True), (os.O_RDWR, True), (os.O_PATH, False), (os.O_WRONLY, False)):
        assert opened.has_contents(OpenFile([3], "unlinked", "/x", flags)) == kept


def file_with(head: bytes) -> int:
    """A descriptor of a file whose head says this, with the right checksum."""
    start = struct.pack("<IHH", len(head), checkpoint.HEAD, 0)
    crc = zlib.crc32(head, zlib.crc32(start))
    fd = os.memfd_create("file")
    os.write(fd, checkpoint.MAGIC + checkpoint.RECORD.pack(len(head), checkpoint.HEAD, 0, crc) + head)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def head_with(where: str, value: object) -> bytes:
    plain = msgspec.to_builtins(HEAD)
    record = plain["files"][0] if where.startswith("files.") else plain
    name = where.removeprefix("files.")
    if name == "fds[0]":
        record["fds"][0] = value
    else:
        record[name] = value
    return json.dumps(plain).encode()


ODD = (
    "x", "\x1b[2J", "/a\0b", "\u0100", -1, 10**26, 1.5, None, [], {}, [[]], [None], ["1"], [{}], [10**26], True, "x" * 5000,
    [5] * 5000,
)  # fmt: skip
USED = (
    "pid", "comm", "folder", "executable", "files", "files.fds", "files.fds[0]", "files.what", "files.path", "files.flags",
    "files.offset",
)  # fmt: skip


@pytest.mark.parametrize("where", USED)
def test_a_head_that_says_nonsense(where: str) -> None:
    """Who inspects or recovers is told the file, the field and the value, in one line that a terminal can be shown; what the tracer
    would take, these take."""
    for value in ODD:
        fd = file_with(head_with(where, value))
        try:
            try:
                Reader(fd).head()
                sound = True
            except BadImage:
                sound = False
            os.lseek(fd, 0, os.SEEK_SET)
            try:
                recover.head_of(fd, "save.1")
                assert sound or where == "files.what", (where, value)
            except UserError as error:
                assert not sound, (where, value)
                assert error.status == recover.FAILED
                assert str(error).startswith(f"{recover.CORRUPT}: save.1: ") and str(error).isprintable(), (where, value)
        finally:
            os.close(fd)


@pytest.mark.parametrize("head", [
    b"[]", b"7", b"{}", b"[" * 100_000, b'{"x":' * 100_000, b"\xff", b'{"pid":1}', b'{"pid":' + b"9" * 9999
])
def test_heads_that_are_none(head: bytes) -> None:
    fd = file_with(head)
    with pytest.raises(BadImage):
        Reader(fd).head()
    os.lseek(fd, 0, os.SEEK_SET)
    with pytest.raises(UserError):
        recover.head_of(fd, "save.1")
    os.close(fd)


def test_both_readers_agree() -> None:
    assert (recover.MAGIC, recover.OF_THREADS, recover.RECORD.format, recover.HEAD, recover.END, recover.LARGEST) == (
        checkpoint.MAGIC, checkpoint.OF_THREADS, checkpoint.RECORD.format, checkpoint.HEAD, checkpoint.END, checkpoint.MAX_HEAD
    )  # fmt: skip
    assert recover.MOST_THREADS == MOST_THREADS
    with tempfile.TemporaryFile() as file:
        file.write(WHOLE)
        file.seek(0)
        head = recover.head_of(file.fileno())
        assert head["files"][0]["path"] == "/tmp/\xff" and head["pid"] == 100
        assert os.lseek(file.fileno(), 0, os.SEEK_CUR) == 0


def test_what_is_cut_or_goes_on_is_not_whole() -> None:
    for size in (*range(0, len(WHOLE), 7), len(WHOLE) - 1, len(WHOLE), len(WHOLE) + 1):
        with tempfile.TemporaryFile() as file:
            file.write((WHOLE + b"x")[:size])
            file.flush()
            assert recover.is_complete(file.fileno()) == (size == len(WHOLE)), size


def test_a_hole_is_not_read_to_its_end() -> None:
    """As records of twelve bytes it would be for hours."""
    end = checkpoint.RECORD.size + checkpoint.END_BODY.size
    with tempfile.TemporaryFile() as file:
        file.write(WHOLE[:-end])
        file.truncate(1 << 40)
        assert not recover.is_complete(file.fileno())


def test_a_record_costs_no_more_than_what_has_come() -> None:
    """It may say that it has 16 MB."""
    said = checkpoint.MAGIC + checkpoint.RECORD.pack(checkpoint.MAX_HEAD, checkpoint.HEAD, 0, 0) + bytes(100_000)
    tracemalloc.start()
    try:
        with pytest.raises(BadImage, match="ends too early"):
            read(said)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 8 << 20


def test_a_folder_is_called_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^Checkpoint file .*: Is a directory$") as raised:
        recover.opened(str(tmp_path), recover.NO_FILE)
    assert raised.value.status == recover.FAILED


@pytest.mark.parametrize(("words", "found"), [
    (["1=a"], {1: "a"}), (["1=old out,2=b,5=t"], {1: "old out", 2: "b", 5: "t"}), (["@1=a,b@2=c"], {1: "a,b", 2: "c"}),
    (["1=a", ":2=b:3=c"], {1: "a", 2: "b", 3: "c"}), (["1,2=both"], {1: "both", 2: "both"}),
])
def test_other_files(words: list[str], found: dict[int, str]) -> None:
    """mosrun(1), -O, with any separator."""
    assert recover.reopened(words) == found


@pytest.mark.parametrize("word", ["", "1", "1=", "x=a", "1=a,", "1=a,2", "@", "@1", "=a", "99999999=a"])
def test_refused_lists(word: str) -> None:
    with pytest.raises(UsageError):
        recover.reopened([word])


@pytest.mark.parametrize(("name", "stem", "number"), [
    ("save", "save", 1), ("save.4", "save", 4), ("a.b", "a.b", 1), ("a.b.12", "a.b", 12), ("/x.3/y", "/x.3/y", 1),
    ("x.123456789", "x.123456789", 1),
])
def test_names(name: str, stem: str, number: int) -> None:
    """mosrun(1), -C: the number at the end of the name is that of the first."""
    assert (checkpoint_stem(name), checkpoint_number(name)) == (stem, number)


#: lzop itself may not be here: this takes what follows the magic as it is, and knows where that ends.
UNPACKS = """#!/bin/sh
[ "$1" = -dc ] && [ -z "$LZOP" ] || exit 2
exec tail -c +10
"""


@pytest.fixture
def lzop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "lzop"
    monkeypatch.setattr(recover, "LZOP", str(path))
    monkeypatch.setenv("LZOP", "-9")
    return path


def compressed(folder: Path) -> str:
    path = folder / "save.1.lzo"
    path.write_bytes(recover.LZOP_MAGIC + WHOLE)
    return str(path)


def test_a_compressed_file_is_read(lzop: Path, tmp_path: Path) -> None:
    lzop.write_text(UNPACKS)
    lzop.chmod(0o755)
    fd, same = recover.opened(compressed(tmp_path), recover.NO_RESTART)
    try:
        assert fd == same
        assert recover.is_complete(fd)
        assert recover.head_of(fd)["pid"] == HEAD.pid
        assert os.fstat(fd).st_nlink == 0
        assert not os.get_inheritable(fd)
        assert os.pread(fd, len(WHOLE) + 1, 0) == WHOLE
    finally:
        os.close(fd)


def test_compressed_without_lzop(lzop: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^checkpoint file is compressed - but no /usr/bin/lzop here!$") as error:
        recover.opened(compressed(tmp_path), recover.NO_RESTART)
    assert error.value.status == recover.FAILED
    assert str(Text.NO_LZOP.format_string) == recover.NO_LZOP


def test_a_damaged_compressed_file(lzop: Path, tmp_path: Path) -> None:
    lzop.write_text("#!/bin/sh\nhead -c 50\nexit 1\n")
    lzop.chmod(0o755)
    with pytest.raises(UserError, match=recover.CORRUPT):
        recover.opened(compressed(tmp_path), recover.NO_FILE)


def test_no_room_to_unpack_a_file(lzop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lzop.write_text(UNPACKS)
    lzop.chmod(0o755)
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda buffering: io.FileIO("/dev/full", "r+"))
    with pytest.raises(UserError, match=r"^Could not restart with .*save\.1\.lzo: No space left on device$"):
        recover.opened(compressed(tmp_path), recover.NO_RESTART)


@pytest.mark.parametrize("settings", [
    Settings(private="/etc"), Settings(private="/a/../etc"), Settings(private="/x\n" * 20), Settings(freeze_dirs="nonsense"),
    Settings(freeze_dirs="U 0"), Settings(freeze_dirs="/x\n" * 11), Settings(checkpoint_file="a\0b"),
    Settings(checkpoint_file="x" * 4090),
], ids=str)  # fmt: skip
def test_a_file_gives_nobody_settings_that_mosrun_would_not(settings: Settings) -> None:
    """Anybody can write such a file."""
    head = replace(HEAD, settings=settings)
    reader: Any = SimpleNamespace(head=lambda: head)
    with pytest.raises(BadImage, match="settings"):
        Recovery(None)._become(None, reader, None, {})  # type: ignore[arg-type]


@pytest.mark.parametrize("settings", [
    Settings(), Settings(private="/tmp\n/var/tmp"), Settings(freeze_dirs="/x 2\n/y"), Settings(checkpoint_file="save.4"),
], ids=str)  # fmt: skip
def test_settings_of_mosrun_are_sound(settings: Settings) -> None:
    assert refused(settings) == ""


@pytest.mark.parametrize("kind", [*(FRAMES + kind for kind in (Kind.IMAGE, Kind.PAGES, Kind.RUNS, Kind.IMAGE_END)),
                                  checkpoint.HEAD, CONTENT, checkpoint.END, checkpoint.REFS, 99])  # fmt: skip
def test_no_record_is_longer_than_what_is_in_it(kind: int) -> None:
    """All of it is in memory at once, of a process that is root's, whoever has written the file."""
    most = checkpoint.longest(kind)
    assert most <= 64 << 20 and (most <= 1 << 20 or kind in (checkpoint.HEAD, FRAMES + Kind.IMAGE))
    with pytest.raises(BadImage, match="too long"):
        read(checkpoint.MAGIC + checkpoint.RECORD.pack(most + 1, kind, 0, 0))
    with tempfile.TemporaryFile() as file, pytest.raises(OSError, match="too large"):
        Writer(file.fileno())._record(kind, bytes(most + 1))
