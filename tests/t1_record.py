"""Recordings of frames hold what goes over a channel, closed to others; and a dump shows the fields of a process."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
from pathlib import Path

import pytest

from mosfs.calls import request
from mosfs.cluster import dump
from mosfs.daemon import lifecycle
from mosfs.tools import image
from mosfs.wire import record
from mosfs.wire.channel import TRAIL, Channel
from mosfs.wire.frames import HEADER, Kind

KEY = bytes(32)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "records").mkdir(mode=0o700)
    monkeypatch.setenv(record.VARIABLE, str(tmp_path / "records"))
    return tmp_path / "records"


def shown(path: Path, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, list[dict[str, object]]]:
    status = image.main([*options, str(path)])
    return status, [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_frames_of_both_directions(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = request.Request(1, (1, 4096, 60, 0, 0, 0), 0, [request.Blob(4096, 60, b"x" * 60, 1)])
    near, far = socket.socketpair()
    with near, far:
        one, other = Channel(near, KEY, opener=True), Channel(far, KEY, opener=False)
        one.send(Kind.CALL, 7, asked.pack(), 2)
        other.receive()
        other.send(Kind.REPLY, 7, request.pack_reply(60, []), 2)
        one.receive()
        one.send(Kind.FAIL, 7, b"no room")
        one.send(99, 7, b"abc")
        one.close()
        other.close()
    first, second = sorted(folder.iterdir())
    assert {path.stat().st_mode & 0o777 for path in (first, second)} == {0o600}
    status, lines = shown(first, capsys)
    assert status == 0
    assert [(line["direction"], line["kind"], line["pair"], line["flags"]) for line in lines] == [
        ("sent", "CALL", 7, 2), ("received", "REPLY", 7, 2), ("sent", "FAIL", 7, 0), ("sent", "#99", 7, 0),
    ]
    assert lines[0]["content"] == {"call": "write(1, 0x1000, 60)", "blobs": [{"address": "0x1000", "size": 60, "data": "60 bytes"}]}
    assert lines[1]["content"] == {"result": 60, "flags": 0, "outs": []} and lines[2]["content"] == "no room"
    assert (lines[3]["content"], lines[3]["bytes"]) == ("616263", 3)
    assert [line["kind"] for line in shown(second, capsys)[1]] == ["CALL", "REPLY"]
    whole = shown(first, capsys, "--bytes")[1][0]["content"]
    assert isinstance(whole, dict) and whole["blobs"][0]["data"] == "78" * 60


def test_pages_and_what_is_damaged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def frame(kind: int, payload: bytes) -> bytes:
        return record.ENTRY.pack(1, record.SENT) + HEADER.pack(len(payload), kind, 0, 1) + payload

    path = tmp_path / "file"
    empty = struct.pack("<QIIQ", 4096, 2, 2, 0)
    path.write_bytes(record.MAGIC + frame(Kind.PAGES, empty) + frame(Kind.PAGES, b"short") + frame(Kind.IMAGE, b"\xc1") + b"12")
    status, lines = shown(path, capsys)
    assert status == 1
    assert lines[0]["content"] == {"address": "0x1000", "size": 8192, "empty": True}
    assert "malformed" in str(lines[1]["error"]) and "malformed image" in str(lines[2]["error"])
    assert lines[3] == {"error": "frame 4 is cut"}
    path.write_bytes(b"something else")
    assert shown(path, capsys) == (1, [{"error": "not a recording of frames"}])
    assert image.main([str(tmp_path / "nothing")]) == 2


@pytest.mark.parametrize("mode", [0o755, 0o710, 0o704])
def test_a_directory_that_others_can_enter_is_not_used(folder: Path, mode: int) -> None:
    folder.chmod(mode)
    assert record.begin() is None and not list(folder.iterdir())
    with pytest.raises(lifecycle.StartError, match=r"^MOSIX_RECORD: .*must be owned by the user of mosd, with mode 0700"):
        lifecycle.check_recording()


def test_neither_is_a_link_or_nothing(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.symlink(folder, tmp_path / "link")
    for path in ("link", "nothing"):
        monkeypatch.setenv(record.VARIABLE, str(tmp_path / path))
        assert record.begin() is None
    assert not list(folder.iterdir())


def test_the_decoder_ends_when_nobody_reads_any_more(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = record.Record(str(folder))
    one.note(record.SENT, HEADER.pack(4, Kind.FAIL, 0, 1), b"1234")
    (path,) = folder.iterdir()
    reads, writes = os.pipe()
    os.close(reads)
    with open(writes, "w") as output:
        monkeypatch.setattr("sys.stdout", output)
        assert image.main([str(path)]) == 128 + signal.SIGPIPE
        monkeypatch.undo()


def test_a_recording_ends_when_it_is_full(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "MOST", 100)
    one = record.Record(str(folder))
    for _ in range(9):
        one.note(record.SENT, HEADER.pack(4, Kind.FAIL, 0, 1), b"1234")
    (path,) = folder.iterdir()
    assert path.stat().st_size == len(record.MAGIC) + 2 * (record.ENTRY.size + HEADER.size + 4)
    with path.open("rb") as file:
        assert len(list(record.read(file))) == 2


def test_a_dump_shows_fields_but_no_secrets_and_has_an_end() -> None:
    class Part:
        def __init__(self) -> None:
            self.name, self.nothing, self.count, self.token = "one\ntwo", 0, 3, "a-secret"
            self.waiting = list(range(100))
            self.memory = b"memory of a program"
            self.itself = self

        @property
        def never(self) -> int:
            raise AssertionError

    Part.__module__ = "mosfs.test"
    part = Part()
    said = dump.fields(part)
    assert r"name='one\ntwo' count=3 waiting=100[-, 1, 2, 3, ...] memory=19 bytes itself=Part(" in said
    assert "nothing" not in said and "secret" not in said
    assert [name for name, _ in dump.components(part)] == ["Part"]
    assert len(dump.text((str(number), part) for number in range(100_000))) < 2 * dump.MOST


def test_a_line_of_a_dump_repeats_no_other() -> None:
    class Part:
        def __init__(self, owner: object, inner: object = None) -> None:
            self.owner, self.sibling, self.inner = owner, getattr(owner, "first", None), inner
            self.queue = [7] if inner is None else []

    class Owner:
        def __init__(self) -> None:
            self.size = 2
            self.first = Part(self)
            self.second = Part(self, Part(self))

    Part.__module__ = Owner.__module__ = "mosfs.test"
    owner = Owner()
    assert list(dump.components(owner)) == [("Owner", "size=2"), ("first", "queue=1[7]"), ("second.inner", "queue=1[7]")]


def test_a_dump_shows_the_last_frames() -> None:
    near, far = socket.socketpair()
    with near, far:
        one, other = Channel(near, KEY, opener=True), Channel(far, KEY, opener=False)
        for _ in range(TRAIL):
            one.send(Kind.GO, 1, b"")
        one.send(Kind.STOP, 5, b"")
        other.receive()
        assert dump.channel(one).count(">GO 1 0") == TRAIL - 1 and dump.channel(one).endswith(">STOP 5 0")
        assert dump.channel(other).startswith(f"{TRAIL} frames wait; last frames: 0.")
