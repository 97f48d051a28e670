"""Pre-copy of a real process that does its worst meanwhile: what arrives is what stands there at the end, page for page."""

from __future__ import annotations

import ctypes
import mmap
import os
import random
import select
import signal
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
import xxhash

from mosfs.abi.memory import ADVICE, MADV_RANDOM, MADV_SEQUENTIAL
from mosfs.abi.numbers import SYS_MADVISE
from mosfs.guest import sandbox
from mosfs.guest.arriving import Arriving
from mosfs.migrate import maps, precopy, properties
from mosfs.migrate.capture import capture, user_regs
from mosfs.migrate.dirty import Untracked
from mosfs.migrate.huge import HUGE, MADV_COLLAPSE, allowed
from mosfs.migrate.image import PAGES_HEADER, BadImage, Timer, Vma
from mosfs.migrate.maps import Mapping, read_maps
from mosfs.migrate.pages import CHUNK, PageSender, runs_of
from mosfs.migrate.precopy import Next, Precopy
from mosfs.migrate.properties import Said
from mosfs.migrate.ranges import common, merge, size
from mosfs.migrate.rebuild import Rebuild
from mosfs.native import ffi, lib
from mosfs.trace import layout
from mosfs.trace.clock import HomeClock
from mosfs.trace.embark import embark
from mosfs.trace.inject import Calls
from mosfs.trace.stops import Stop, decode
from mosfs.trace.task import Task, copy_regs
from mosfs.wire.channel import Channel
from mosfs.wire.frames import Frame, Kind, To, check

pytestmark = pytest.mark.root

PROGRAMS = Path(__file__).parent / "programs"
PAGE = layout.PAGE


@pytest.fixture(scope="module")
def scramble(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command: the program, and a file for it to map, with an empty page in its middle."""
    folder = tmp_path_factory.mktemp("scramble")
    subprocess.run(["cc", "-O1", "-o", folder / "scramble", PROGRAMS / "scramble.c"], check=True)
    pages = [random.Random(1).randbytes(PAGE) for _ in range(24)]
    pages[11] = bytes(PAGE)
    (folder / "data").write_bytes(b"".join(pages))
    return [str(folder / "scramble"), str(folder / "data")]


NO_NAMES: list[Vma] = []


class Program:
    """The embarked program. ``tell`` has it do things, ``told`` waits until they are done."""

    def __init__(self, command: list[str]) -> None:
        theirs, self._in = os.pipe()
        self._out, its_out = os.pipe()
        files = [(os.POSIX_SPAWN_DUP2, theirs, 0), (os.POSIX_SPAWN_DUP2, its_out, 1)]
        pid = os.posix_spawn("/bin/sh", ["sh", "-c", 'echo; read x; exec "$@"', "sh", *command], {}, file_actions=files)
        os.close(theirs)
        os.close(its_out)
        self.task = Task(pid)
        os.read(self._out, 1)
        self.task.seize()
        os.write(self._in, b"\n")
        while decode(self.task.wait()).stop is not Stop.EXEC:
            self.task.cont()
        embark(self.task, HomeClock().page(0), first=True, privileged=True)
        self.task.cont()
        self.tell(1)
        self.told()

    def tell(self, seed: int) -> None:
        os.write(self._in, bytes([seed]))

    def told(self) -> bytes:
        """Meanwhile what is trapped, an open or mremap, is made by the kernel."""
        while not select.select([self._out], [], [], 0.001)[0]:
            if lib.mos_waitpid(self.task.pid, ffi.new("int *"), os.WNOHANG | 0x40000000) > 0:
                self.task.cont()
        return os.read(self._out, 1)

    def stop(self) -> Any:
        self.task.interrupt()
        while decode(self.task.wait()).stop is not Stop.TRAP:
            self.task.cont()
        return self.task.peek_regs()

    def close(self) -> None:
        os.close(self._in)
        os.close(self._out)
        sandbox.discard(self.task)


class Wire:
    """A channel whose other end is an `Arriving` of this process."""

    def __init__(self, arriving: Arriving) -> None:
        self.arriving = arriving
        self.pages: list[tuple[int, int]] = []

    def send(self, kind: int, pair: int, payload: bytes = b"") -> None:
        if kind in (Kind.PAGES, Kind.RUNS):
            self.pages += [(start, start + length) for start, length, _ in runs_of(Frame(kind, 0, pair, payload))]
        if kind != Kind.ROUND:
            self.arriving.frame(Frame(kind, 0, pair, payload, check(To.NEXT_HOST, kind, 0, pair, bytes(payload))))


@contextmanager
def receiver(*, deputy: bool = False) -> Iterator[Arriving]:
    """``deputy``: memory is hidden until the image comes, as on the way home."""
    arriving = Arriving(sandbox.spawn())
    if deputy:
        arriving.rebuild = Rebuild(arriving.rebuild.call, deputy=True, files=arriving.copies)
    try:
        yield arriving
    finally:
        arriving.discard()


def begin(program: Program, wire: Wire, *, runs: bool = True) -> Precopy:
    regs = program.stop()
    stay = user_regs(regs, Stop.TRAP)
    with Calls(program.task, base=copy_regs(regs)) as call:
        copy = Precopy.begin(call, cast(Channel, wire), near=True, pair=1, said=Said(), names=lambda: NO_NAMES, runs=runs)
    program.task.set_regs(stay)
    program.task.cont()
    return copy


def finish(program: Program, copy: Precopy, arriving: Arriving) -> list[Vma]:
    """Stop it and send the rest; the mappings at the end."""
    regs = program.stop()
    stay = user_regs(regs, Stop.TRAP)
    vmas = copy.mappings()
    with Calls(program.task, base=copy_regs(regs)) as call:
        meta = capture(
            call, stay, vmas, pid=1, uid=0, features="", home="", shown=Timer(), pending=False, said=Said(),
        )  # fmt: skip
    arriving.map(meta)
    copy.rest(vmas)
    arriving.finish(copy.sender.frames)
    return vmas


#: What `Rebuild.mark` says of memory meanwhile.
MARKED = sum(row.bit for row in ADVICE if row.value in (MADV_SEQUENTIAL, MADV_RANDOM))


def joined(mappings: Iterable[Mapping | Vma]) -> list[tuple[int, int, int]]:
    """Start, end and protection; neighbours of the same protection are one."""
    found: list[tuple[int, int, int]] = []
    for m in mappings:
        if found and found[-1][1:] == (m.start, m.prot):
            found[-1] = (found[-1][0], m.end, m.prot)
        else:
            found.append((m.start, m.end, m.prot))
    return found


def memory(task: Task, vma: Vma) -> list[bytes]:
    """Its pages; those that cannot be read (past the end of a file) are empty, and so is what the kernel writes: rseq(2)."""
    pages = []
    rseq = task.peek_rseq()[0]
    with closing(open(f"/proc/{task.pid}/mem", "rb", buffering=0)) as mem:
        for at in range(vma.start, vma.end, PAGE):
            try:
                page = os.pread(mem.fileno(), PAGE, at)
                if at <= rseq < at + PAGE:
                    page = page[: rseq - at] + bytes(32) + page[rseq - at + 32 :]
                pages.append(page)
            except OSError:
                pages.append(bytes(PAGE))
    return pages


@pytest.mark.parametrize("seed", range(12))
def test_what_arrives_is_what_stands_there(scramble: list[str], seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(seed)
    if seed % 4 > 1:  # rounds are planned in many slices, while the program goes on, and given up in their midst
        monkeypatch.setattr(precopy, "TURN", -1.0)
        monkeypatch.setattr(precopy, "SLICE", 2)
        monkeypatch.setattr(maps, "SLICE", 5)
    with closing(Program(scramble)) as program, receiver(deputy=seed % 2 == 1) as arriving:
        for _ in range(rng.randrange(8)):
            program.tell(rng.randrange(256))
            program.told()
        wire = Wire(arriving)
        with closing(begin(program, wire, runs=seed % 3 > 0)) as copy:
            for _ in range(rng.randrange(5)):
                program.tell(rng.randrange(256))
                while copy.next is Next.SEND and rng.randrange(60):
                    copy.step()
                program.told()
                if rng.randrange(3):
                    program.tell(rng.randrange(256))
                    program.told()
                if copy.next is not Next.SEND:
                    copy.caught_up()
                if rng.randrange(4):
                    arriving.rebuild.mark()
            if rng.randrange(2):
                program.tell(rng.randrange(256))
                program.told()
            vmas = finish(program, copy, arriving)
            for vma in vmas:
                for number, (here, there) in enumerate(zip(memory(program.task, vma), memory(arriving.task, vma), strict=True)):
                    assert here == there, f"page {number} of {vma}"
            assert joined(m for m in read_maps(arriving.task.pid) if layout.END <= m.start < layout.USER_END) == joined(vmas)
            assert not [found for found in properties.read(arriving.task.pid) if found[2] & MARKED]


def test_a_program_at_rest_is_sent_once(scramble: list[str]) -> None:
    with closing(Program(scramble)) as program, receiver() as arriving:
        wire = Wire(arriving)
        with closing(begin(program, wire)) as copy:
            while copy.next is Next.SEND:
                copy.step()
            copy.caught_up()
            while copy.next is Next.SEND:
                copy.step()
            assert copy.next is Next.STOP
            before = len(wire.pages)
            anonymous = merge((v.start, v.end) for v in finish(program, copy, arriving) if v.anonymous)
            assert size(common(merge(wire.pages[:before]), anonymous)) > 1 << 18
            assert size(common(merge(wire.pages[before:]), anonymous)) < 1 << 17


def test_a_scan_that_fails_keeps_nothing_to_itself(scramble: list[str]) -> None:
    """As the kernel does it when something new is mapped there on its way, and is gone again at the next scan: threads do that."""
    with closing(Program(scramble)) as program, receiver() as arriving, closing(begin(program, Wire(arriving))) as copy:
        scan, failed = copy.tracker.written, list[int]()

        def written(start: int, end: int, *, protect: bool) -> list[tuple[int, int]]:
            found = scan(start, end, protect=protect)
            if not failed:
                failed.append(start)
                raise Untracked
            return found

        copy.tracker.written = written  # type: ignore[method-assign]
        while copy.next is Next.SEND:
            copy.step()
        copy.caught_up()
        vmas = finish(program, copy, arriving)
        assert failed and all(memory(program.task, v) == memory(arriving.task, v) for v in vmas)


def test_exec_begins_anew(scramble: list[str]) -> None:
    with closing(Program(scramble)) as program, receiver() as arriving:
        wire = Wire(arriving)
        with closing(begin(program, wire)) as copy:
            for _ in range(5):
                copy.step()
            copy.forget()
        assert [m for m in read_maps(arriving.task.pid) if layout.END <= m.start < layout.USER_END] == []
        with closing(begin(program, wire)) as copy:
            vmas = finish(program, copy, arriving)
            assert all(memory(program.task, v) == memory(arriving.task, v) for v in vmas)


HUGE_AT = 0x7000_0000_0000


def _smaps(task: Task, at: int) -> dict[str, str]:
    lines = Path(f"/proc/{task.pid}/smaps").read_text().splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith(f"{at:x}-"))
    return dict(line.split(":", 1) for line in lines[first + 1 : first + 25] if ":" in line and line[0].isupper())


@pytest.mark.parametrize(("told", "load"), [(True, 0.0), (False, 0.0), (True, 1e4)])
def test_memory_that_comes_whole_is_made_in_huge_pages(told: bool, load: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """One page comes before the first of them, and one behind; the mapping looks as any other, and has no page more."""
    size_ = 8 * HUGE
    vma = Vma(HUGE_AT - PAGE, HUGE_AT + size_ + PAGE, 3)
    data = random.Random(2).randbytes(CHUNK)
    called: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "getloadavg", lambda: (load, load, load))
    with receiver() as arriving:
        made = Calls.__call__

        def call(self: Calls, nr: int, *args: int) -> int:
            if nr == SYS_MADVISE and args[2] == MADV_COLLAPSE:
                called.append((args[0], args[0] + args[1]))
            return made(self, nr, *args)

        monkeypatch.setattr(Calls, "__call__", call)
        dense = [(HUGE_AT, HUGE_AT + size_)] if told else []
        early = precopy.Early([(vma.start, vma.end, 3, 0)], [vma], dense)
        arriving.frame(Frame(Kind.EARLY, 0, 1, msgspec.msgpack.encode(early)))
        at = vma.start
        while at < vma.end:
            raw = data[: min(CHUNK, vma.end - at)]
            head = PAGES_HEADER.pack(at, len(raw) // PAGE, 0, xxhash.xxh3_64_intdigest(raw))
            arriving.frame(Frame(Kind.PAGES, 0, 1, head + raw))
            at += len(raw)
        for at in range(vma.start, vma.end, CHUNK):
            length = min(CHUNK, vma.end - at)
            assert arriving.task.read(at, length) == data[:length]
        found = _smaps(arriving.task, vma.start)
        assert int(found["Rss"].split()[0]) << 10 <= vma.end - vma.start
        assert "hg" not in found["VmFlags"].split()
        assert called == ([dense[0]] if told and not load and allowed() else [])


@pytest.mark.parametrize("place", [(HUGE_AT - HUGE, HUGE_AT), (HUGE_AT, HUGE_AT + PAGE), (HUGE_AT + HUGE, HUGE_AT)])
def test_huge_pages_outside_of_what_comes_are_refused(place: tuple[int, int]) -> None:
    early = precopy.Early([(HUGE_AT, HUGE_AT + 2 * HUGE, 3, 0)], [], [place])
    with pytest.raises(BadImage):
        precopy.early_from(msgspec.msgpack.encode(early))


def test_reading_a_copy_does_not_make_it_one() -> None:
    """Pages that a process shares with its parent since fork(2) are still shared when they have been sent."""
    size_ = 4 << 20
    with mmap.mmap(-1, size_, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory.madvise(mmap.MADV_DONTDUMP)  # so that it is one mapping with none of its neighbours
        memory[:] = random.Random(3).randbytes(size_)
        at = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        pid = os.fork()
        if not pid:
            signal.pause()
        try:
            sent: list[bytes] = []
            wire = SimpleNamespace(send=lambda kind, pair, payload: sent.append(bytes(payload)))
            sender = PageSender(Task(pid), cast(Channel, wire), 1, near=True, runs=True)
            with closing(sender):
                sender.send([(at, at + size_ - 16 * PAGE)])
                sender.send([(at + size_ - 4 * PAGE, at + size_ - 3 * PAGE), (at + size_ - PAGE, at + size_)])
            assert sender.bytes == size_ - 14 * PAGE
            assert sent[0][PAGES_HEADER.size :] == memory[:CHUNK]
            mapping = next(m for m in read_maps(pid) if m.start <= at < m.end)
            assert int(_smaps(Task(pid), mapping.start)["Pss"].split()[0]) << 10 < size_ * 3 // 4
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
