"""Kernels without what newer ones have: every feature can be hidden, and then the other way gives the same."""

from __future__ import annotations

import errno
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mosfs.migrate import rseq
from mosfs.migrate.maps import CannotMove, read_maps
from mosfs.migrate.pages import _present
from mosfs.native import kernel, lib
from mosfs.trace import layout
from mosfs.trace.inject import Calls
from mosfs.trace.stops import Stop, decode
from tests.t2_engine import seized

pytestmark = pytest.mark.root

ASK = """
from mosfs.native import kernel
print(*(name for name in kernel.FEATURES if kernel.has(name)))
print(*kernel.missing(), sep=chr(10))
"""
RELEASE = tuple(map(int, platform.release().split(".")[:2]))


def asked(without: str) -> tuple[set[str], list[str]]:
    """What a process finds, and what is said to be missing."""
    done = subprocess.run(
        [sys.executable, "-c", ASK], env={**os.environ, "MOSIX_KERNEL_WITHOUT": without},
        capture_output=True, text=True, check=True,
    )
    found, *missing = done.stdout.splitlines()
    return set(found.split()), [line for line in missing if line]


@contextmanager
def without(monkeypatch: pytest.MonkeyPatch, name: str) -> Iterator[None]:
    """In this process."""
    had = kernel.has
    with monkeypatch.context() as patch:
        patch.setattr(kernel, "has", lambda other: other != name and had(other))
        lib.mos_hide(kernel.FEATURES[name].number)
        try:
            yield
        finally:
            lib.mos_hide(0)


def test_the_features_of_this_kernel() -> None:
    """Those that came first later than it are not here, unless its distribution has brought them (Red Hat does)."""
    found, missing = asked("")
    older = {name for name, feature in kernel.FEATURES.items() if tuple(map(int, feature.since.split("."))) <= RELEASE}
    assert found >= older - {"wp_async"}  # which a container may forbid
    assert len(missing) == sum(bool(feature.lost) for name, feature in kernel.FEATURES.items() if name not in found)


def test_each_can_be_hidden() -> None:
    everything, _ = asked("nothing that exists")
    assert asked("all")[0] == set()
    some = ["wp_async", "guards", "rseq_told"]
    assert asked(",".join(some))[0] == everything - set(some)
    assert kernel.hidden("slices droppable,x") == {"slices", "droppable"}
    assert len({feature.number for feature in kernel.FEATURES.values()}) == len(kernel.FEATURES)


def test_one_line_for_each_that_is_missed() -> None:
    _, missing = asked("all")
    expected = [name for name, feature in kernel.FEATURES.items() if feature.lost]
    assert [re.sub(r"this kernel is without (\S+) \(Linux .*", r"\1", line) for line in missing] == expected


def mapped(pid: int) -> list[tuple[int, int]]:
    return [(m.start, m.end) for m in read_maps(pid) if m.end <= layout.USER_END]


def test_pages_are_found_the_old_way(monkeypatch: pytest.MonkeyPatch) -> None:
    with seized("/bin/true") as program:
        pid = program.task.pid
        for own in (False, True):
            now = [_present(pid, start, end, own=own) for start, end in mapped(pid)]
            with without(monkeypatch, "pagemap_scan"):
                assert [_present(pid, start, end, own=own) for start, end in mapped(pid)] == now
            assert any(now)


def test_maps_are_read_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """How far a call could write: over neighbours that may be written, not over others."""
    with seized("/bin/cat") as program:
        task = program.task
        places = [at for start, end in mapped(task.pid) for at in (start, end - 8)]
        now = [task.reach(at, 1 << 16) for at in places]
        with without(monkeypatch, "procmap_query"):
            assert [task.reach(at, 1 << 16) for at in places] == now
        assert len(set(now)) > 2


THREADS = """
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <unistd.h>
static void *own(void *arg) { if (arg) { unshare(CLONE_FILES); close(0); open("/dev/zero", 0); }
    char line[32]; int n = sprintf(line, "%d\\n", gettid()); write(1, line, n); for (;;) pause(); }
int main(void) { pthread_t t; pthread_create(&t, 0, own, 0); pthread_create(&t, 0, own, "x"); for (;;) pause(); }
"""


def test_descriptors_of_threads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Those of a thread with descriptors of its own are never taken for its process's."""
    source, binary = tmp_path / "threads.c", tmp_path / "threads"
    source.write_text(THREADS)
    subprocess.run(["gcc", str(source), "-pthread", "-o", str(binary)], check=True)
    with subprocess.Popen([str(binary)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout
            tids = [int(process.stdout.readline()) for _ in range(2)]
            sharing, apart = sorted(tids, key=lambda tid: os.readlink(f"/proc/{tid}/fd/0"))
            assert (leads(process.pid), leads(sharing)) == ("/dev/null", "/dev/null")
            if kernel.has("thread_pidfd"):
                assert leads(apart) == "/dev/zero"
            with without(monkeypatch, "thread_pidfd"):
                assert (leads(process.pid), leads(sharing), leads(apart)) == ("/dev/null", "/dev/null", "ENOTSUP")
        finally:
            process.kill()


def leads(tid: int) -> str:
    """Where a copy of the descriptor 0 of a thread leads, or the error."""
    fd = lib.mos_take_fd(tid, 0)
    if fd < 0:
        return errno.errorcode[-fd]
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


#: A program that has registered, as libc does since 2.35 (with a definition of its own if libc does not).
REGISTERS = """
#define _GNU_SOURCE
#include <unistd.h>
#include <sys/syscall.h>
static struct { unsigned id, cpu; unsigned long cs; unsigned flags, more[3]; } area __attribute__((aligned(32)));
int main(int argc, char **argv)
{
    if (argc > 1)
        syscall(SYS_rseq, &area, 32, 0, 0x53053053);
    __asm__("int3");
    return 0;
}
"""


@pytest.mark.parametrize("registered", [False, True])
def test_restartable_sequences_that_the_kernel_does_not_tell(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, registered: bool,
) -> None:
    source, binary = tmp_path / "rseq.c", tmp_path / "rseq"
    source.write_text(REGISTERS)
    subprocess.run(["gcc", str(source), "-o", str(binary)], check=True)
    with seized(str(binary), *["yes"] * registered, GLIBC_TUNABLES="glibc.pthread.rseq=0") as program:
        program.embark()
        task = program.task
        stop = Stop.EXEC
        while stop is not Stop.SIGNAL:
            task.cont()
            stop = decode(task.wait()).stop
        with Calls(task) as call:
            told = rseq.of(call)
            assert bool(told[0]) == registered or not kernel.has("rseq_told")
            with without(monkeypatch, "rseq_told"):
                if registered:
                    with pytest.raises(CannotMove, match="restartable sequences"):
                        rseq.of(call)
                else:
                    assert rseq.of(call) == rseq.NONE
                with pytest.raises(CannotMove):
                    rseq.registering((0x1000, 32, 1))
            assert rseq.of(call) == told  # nothing of the question stays
