"""Which tracers have not run for long, and which file systems their programs use (daemon/stalls.py, daemon/unanswered.py)."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from mosfs.daemon import unanswered
from mosfs.daemon.stalls import PATIENCE, PERIOD, Stalls, kept_waiting
from mosfs.native import ffi, lib
from mosfs.trace.caller import open_pidfd
from mosfs.trace.proc import words_of


def test_who_has_not_run_for_long_is_told_once_in_that_time() -> None:
    stalls = Stalls()
    assert stalls.look({1: 7, 2: 7}, 0.0) == []
    assert stalls.look({1: 7, 2: 37}, PATIENCE - 1) == []
    assert stalls.look({1: 7, 2: 37}, PATIENCE) == [1]
    assert stalls.look({1: 7, 2: 37}, PATIENCE + 1) == []
    assert stalls.look({1: 7, 2: 37}, 2 * PATIENCE) == [1, 2]


@pytest.mark.parametrize(("seconds", "told"), [(1.0, False), (1.5, False), (2.5, True), (25.0, True)])
def test_who_gets_an_answer_once_in_so_many_seconds(seconds: float, told: bool) -> None:
    """And runs only then; who waits for itself runs once a second."""
    stalls, found = Stalls(), list[int]()
    for look in range(100):
        now = look * PERIOD
        found += stalls.look({1: int(now / seconds)}, now)
    assert bool(found) is told
    assert not told or len(found) >= 100 * PERIOD / (PATIENCE + 2 * PERIOD)


def test_a_number_of_another_process_by_now_begins_anew() -> None:
    stalls = Stalls()
    assert stalls.look({1: 7}, 0.0) == []
    assert stalls.look({}, PATIENCE / 2) == []
    assert stalls.look({1: 7}, PATIENCE) == []


def waits_itself(fd: int) -> None:
    """As a tracer does between events: ppoll(2)."""
    lib.mos_setup_signals()
    pump, event = ffi.new("struct mos_pump *"), ffi.new("struct mos_event *")
    lib.mos_attend(pump, fd, 0)
    lib.mos_next(pump, event, -1)


def reads(fd: int) -> None:
    os.read(fd, 1)


@pytest.mark.parametrize(("wait", "kept"), [(reads, True), (waits_itself, False)])
def test_waiting_in_a_call_is_told_from_waiting_for_events(wait: Callable[[int], None], kept: bool) -> None:
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(theirs)
        wait(ours)
        os._exit(0)
    os.close(ours)
    try:
        while words_of(child, "State")[0][0] != "S":
            time.sleep(0.001)
        assert kept_waiting(child) == kept
    finally:
        os.close(theirs)
        os.waitpid(child, 0)


def test_devices_of_what_is_mapped_and_open(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file:
        device = os.fstat(file.fileno()).st_dev
        assert os.major(device) << 20 | os.minor(device) in unanswered.devices(os.getpid())
    maps = b"7f0000000000-7f0000001000 rw-p 00000000 00:2d 2    /mnt/a b\n7f0000001000-7f0000002000 rw-p 00000000 00:00 0\n"
    assert list(unanswered.of_maps(maps)) == [(45, "7f0000000000-7f0000001000"), (0, "7f0000001000-7f0000002000")]
    mounts = b"20 1 259:2 / / rw - ext4 /dev/root rw\n77 20 0:45 / /mnt/a\\040b rw - fuse.a x rw\n78 20 0:46 / /b rw - fuse b rw\n"
    assert list(unanswered.of_mounts(mounts, [77, 20])) == [(259 << 20 | 2, 20), (45, 77)]


def test_connections_are_read_from_their_files(tmp_path: Path) -> None:
    for name, waiting in (("45", "3\n"), ("46", "0\n"), ("47", "nonsense"), ("other", "1")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "waiting").write_text(waiting)
    found = {each.device: each for each in unanswered.connections(str(tmp_path))}
    assert found == {45: unanswered.Connection(45, os.getuid(), 3), 46: unanswered.Connection(46, os.getuid(), 0)}


ANN, BOB = 1000, 1001


def test_nobody_has_another_users_file_system_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ann's tracer waits, for a file system of hers. Of Bob's with files that she has open one is busy, one says nothing at all,
    and one always owes something."""
    asked: list[object] = []

    def silent(paths: dict[int, str]) -> set[int]:
        asked.append(paths)
        return {5}

    def never_done(devices: set[int]) -> set[int]:
        asked.append(devices)
        return {7}

    monkeypatch.setattr(unanswered, "silent", silent)
    monkeypatch.setattr(unanswered, "never_done", never_done)
    owners = ((2, BOB), (3, ANN), (4, ANN), (5, BOB), (6, BOB), (7, BOB))
    owing = [unanswered.Connection(device, owner, 1) for device, owner in owners]
    found = unanswered.suspects(owing, {ANN}, {2: "/two", 4: "/four", 5: "/five", 7: "/seven", 9: "/nine"})
    assert [next(found).device, next(found).device] == [4, 3] and not asked, "her own come first"
    assert next(found).device == 5 and asked == [{2: "/two", 5: "/five", 7: "/seven"}]
    assert [each.device for each in found] == [7] and asked[1:] == [{2, 7}]


def test_who_has_nothing_to_answer_at_some_moment_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter([{2: 1, 7: 2, 8: 1}, {2: 0, 7: 2}, {2: 3, 7: 1, 8: 1}])
    seen = ([unanswered.Connection(device, BOB, owed) for device, owed in look.items()] for look in looks)
    monkeypatch.setattr(unanswered, "connections", lambda: next(seen))
    clock = iter([0.0, 0.0, 0.0, 0.0, 2.0])
    monkeypatch.setattr(unanswered, "time", SimpleNamespace(monotonic=lambda: next(clock), sleep=lambda seconds: None))
    assert unanswered.never_done([2, 7, 8]) == {7}


def test_who_answers_is_not_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()
    asked, statvfs = threading.Event(), os.statvfs

    def waits(path: str) -> object:
        if path == "/waits":
            asked.set()
            go_on.wait(30)
        return statvfs(path)

    monkeypatch.setattr(unanswered.os, "statvfs", waits)
    monkeypatch.setattr(unanswered, "ANSWER", 0.2)
    try:
        paths = {1: str(tmp_path), 2: "/waits", 3: str(tmp_path / "none")}
        while 2 not in (found := unanswered.silent(paths)) or found != {2}:
            pass  # on a busy machine the others may be late, too
        assert asked.is_set()
    finally:
        go_on.set()


def test_a_descriptor_that_reads_nothing_waits_for_nobody(tmp_path: Path) -> None:
    """O_PATH is for anybody, also of what another user has mounted for himself."""
    for flags, counts in ((os.O_PATH, False), (os.O_RDONLY, True)):
        fd = os.open(tmp_path, flags)
        with open(f"/proc/self/fdinfo/{fd}", "rb") as info:
            assert (unanswered.mount_of(info) is not None) is counts
        os.close(fd)


def test_a_pidfd_is_a_processs_only() -> None:
    """A number that is a thread's, or nobody's, is no error: which of them the kernel names depends on its version."""
    barrier = threading.Barrier(2)
    tids = list[int]()

    def thread() -> None:
        tids.append(threading.get_native_id())
        barrier.wait()
        barrier.wait()

    other = threading.Thread(target=thread)
    other.start()
    barrier.wait()
    try:
        assert open_pidfd(tids[0]) == -1
    finally:
        barrier.wait()
        other.join()
    assert open_pidfd(2**22) == -1
    os.close(open_pidfd(os.getpid()))
