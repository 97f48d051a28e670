"""Lanes: what C makes of calls and frames is what Python makes of them, and it believes nobody."""

from __future__ import annotations

import ctypes
import mmap
import os
import random
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from mosfs.abi.args import Kind
from mosfs.abi.flags import MSG_ZEROCOPY
from mosfs.abi.numbers import SYS_POLL, SYS_SENDTO
from mosfs.abi.syscalls import BY_NR
from mosfs.calls.marshal import marshal
from mosfs.calls.request import BadRequest, Comes, Request, is_kept, pack_reply, unpack
from mosfs.engine.lanes import CALLS, MOST_RECENT, plans
from mosfs.guest.body import Body
from mosfs.guest.body import State as Doing
from mosfs.guest.lanes import Lanes as HostLanes
from mosfs.home.away.lanes import Lanes
from mosfs.home.process.deputy import State
from mosfs.native import ffi, lib
from mosfs.trace import clock
from mosfs.trace.task import Task
from mosfs.wire.channel import Channel
from mosfs.wire.frames import HEADER
from mosfs.wire.frames import Kind as FrameKind

TAG = 16
KEY = bytes(range(32))
PAGE = mmap.PAGESIZE
needs_libcrypto = pytest.mark.skipif(not lib.mos_may_seal(), reason="no libcrypto: Python alone seals frames")


class Arena:
    """Memory of ours between two pages that cannot be reached: [unreachable][``pages``][unreachable]."""

    def __init__(self, pages: int) -> None:
        self.map = mmap.mmap(-1, (pages + 2) * PAGE)
        whole = ctypes.addressof(ctypes.c_char.from_buffer(self.map))
        self.start, self.end = whole + PAGE, whole + (pages + 1) * PAGE
        libc = ctypes.CDLL(None, use_errno=True)
        for edge in (whole, self.end):
            assert libc.mprotect(ctypes.c_void_p(edge), PAGE, 0) == 0
        ctypes.memset(self.start, 65, pages * PAGE)

    def put(self, data: bytes) -> int:
        """The address of ``data``, which end where memory does."""
        ctypes.memmove(self.end - len(data), data, len(data))
        return self.end - len(data)


ARENA = Arena(40)


@contextmanager
def ends() -> Iterator[tuple[Channel, Channel]]:
    """Who has connected, and the other."""
    one, other = socket.socketpair()
    a, b = Channel(one, KEY, opener=True), Channel(other, KEY, opener=False)
    yield a, b
    a.close()
    b.close()


@pytest.fixture
def pair() -> Iterator[tuple[Channel, Channel]]:
    with ends() as both:
        yield both


# ---------------------------------------------------------------------- frames


@needs_libcrypto
def test_python_opens_what_c_has_sealed(pair: tuple[Channel, Channel]) -> None:
    ours, theirs = pair
    assert ours.share()
    for number, size in enumerate((0, 1, 15, 16, 17, 4096, 65600)):
        payload = os.urandom(size)
        frame = ffi.new("unsigned char[]", bytes(HEADER.size) + payload + bytes(TAG))
        assert lib.mos_send_frame(ours.shared, frame, size, FrameKind.REPLY, number << 1, 77) == 1
        ours.flush()
        got = theirs.receive(5)
        assert (got.kind, got.flags, got.pair, got.payload) == (FrameKind.REPLY, number << 1, 77, payload)
        ours.send(FrameKind.STOP, 77)  # the frames of both count
        assert theirs.receive(5).kind == FrameKind.STOP


@needs_libcrypto
def test_c_opens_what_python_has_sealed_and_nothing_else(pair: tuple[Channel, Channel]) -> None:
    ours, theirs = pair
    assert theirs.share()
    for size in (0, 1, 100, 4097):
        payload = os.urandom(size)
        ours.send(FrameKind.CALL, 5, payload, 2)
        raw = theirs.sock.recv(1 << 20)
        opened = ffi.new("unsigned char[]", size + 1)
        for at in random.Random(size).sample(range(len(raw)), 8):
            changed = bytearray(raw)
            changed[at] ^= 1 << at % 8
            assert lib.mos_open(theirs.shared, bytes(changed), size, opened) < 0
        assert lib.mos_open(theirs.shared, raw, size, opened) == 0
        assert bytes(ffi.buffer(opened, size)) == payload
        theirs.shared.received += 1
        assert lib.mos_open(theirs.shared, raw, size, opened) < 0  # once only


@needs_libcrypto
def test_what_a_full_socket_does_not_take_python_sends(pair: tuple[Channel, Channel]) -> None:
    ours, theirs = pair
    assert ours.share()
    ours.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    size, sent = 100_000, 0
    while not ours.shared.unsent_left:
        frame = ffi.new("unsigned char[]", HEADER.size + size + TAG)
        assert lib.mos_send_frame(ours.shared, frame, size, FrameKind.REPLY, 0, 1) == 1
        sent += 1
    theirs.sock.setblocking(False)
    for _ in range(sent - 1):
        theirs.receive(5)
    rest = bytes(ffi.buffer(ours.shared.unsent, ours.shared.unsent_left))
    lib.mos_sent(ours.shared)
    while rest:  # as Channel.flush does, but for our being both ends
        theirs._fill()
        with suppress(BlockingIOError):
            rest = rest[ours.sock.send(rest) :]
    theirs._fill()
    assert theirs.receive(5).payload == bytes(size)


# ---------------------------------------------------------------------- time


def time_of(monotonic: int, wall: int) -> bytes:
    return struct.pack("<2q", monotonic, wall)


@needs_libcrypto
def test_home_tells_the_time_before_what_it_answers(pair: tuple[Channel, Channel]) -> None:
    """Whether C answers or Python, once its peer has asked for that."""
    ours, theirs = pair
    assert ours.share()

    def answers() -> list[int]:
        frame = ffi.new("unsigned char[]", lib.MOS_LANE_MOST)
        lib.mos_send_timed(ours.shared, frame + 4096, 16, FrameKind.REPLY, 2, 77)
        ours.send(FrameKind.SIGNAL, 77, bytes(128))
        ours.send(FrameKind.STOP, 77)
        theirs._fill()
        return [frame.kind for frame in theirs.frames()]

    assert answers() == [FrameKind.REPLY, FrameKind.SIGNAL, FrameKind.STOP]
    ours.tell_time()
    assert answers() == [FrameKind.TIME, FrameKind.REPLY, FrameKind.TIME, FrameKind.SIGNAL, FrameKind.STOP]
    before = time.monotonic_ns()
    ours.send(FrameKind.CONT, 77)
    theirs._fill()
    told, after, wall = theirs.receive(5), time.monotonic_ns(), time.time_ns() - time.monotonic_ns()
    monotonic, ahead = struct.unpack("<2q", told.payload)
    assert before <= monotonic <= after and abs(ahead - wall) < 10**9


@needs_libcrypto
def test_only_a_host_is_told_the_time(pair: tuple[Channel, Channel]) -> None:
    """It comes from who has connected. What no clock shows is left to Python, which ends the channel."""
    home, host = pair
    pump, sound = ffi.new("struct mos_pump *"), time_of(5 * 10**9, 10**18)

    def hears(sender: Channel, receiver: Channel, payload: bytes) -> int:
        assert receiver.share()
        sender.send(FrameKind.TIME, 0, payload)
        return int(lib.mos_hear(pump, receiver.shared))

    assert hears(home, host, sound) == 2
    assert (host.shared.told.monotonic, host.shared.told.wall) == (5 * 10**9, 10**18)
    assert hears(home, host, time_of(4 * 10**9, 0)) == 2 and host.shared.told.wall == 10**18, "the latest holds"
    assert hears(host, home, sound) == 1 and not home.shared.told.monotonic
    for bad in (time_of(0, 5), time_of(1 << 62, 0), time_of(-1, 5), time_of(5, -6), time_of(5, (1 << 63) - 1), sound + b"x", b""):
        with ends() as (home, host):
            assert hears(home, host, bad) == 1 and not host.shared.told.monotonic


@pytest.mark.parametrize("off", [-50_000_000, 50_000_000])
def test_c_knows_what_a_page_shows(off: int) -> None:
    """Of realtime, too: also when that was set."""
    guest, channel = clock.GuestClock(off, 10**18), ffi.new("struct mos_channel *")
    told, page = channel.told, guest.page(2)
    page = guest.page(4, page, clock.last_shown(page, guest.ticks()))  # one with a slew
    channel.told_tsc = guest.ticks() + 1000
    shown = clock.last_shown(page, channel.told_tsc)
    for ahead, shows in ((0, 1), (1, 0)):
        told.monotonic, told.wall = shown.monotonic + ahead, shown.wall
        assert lib.mos_shows(page, channel) == shows
    told.monotonic = shown.monotonic - 1_000_000
    for wall, shows in ((900_000, 1), (1_100_000, 0), (-1_500_000, 0)):
        told.wall = shown.wall + wall
        assert lib.mos_shows(page, channel) == shows
    told.wall = 0
    assert lib.mos_shows(replace(clock.Page.unpack(page), mode=clock.MODE_KERNEL).pack(), channel) == 1, "it asks for each reading"
    told.monotonic = 0
    assert lib.mos_shows(page, channel) == 1, "nothing was told"


# ---------------------------------------------------------------------- calls


def _value(dice: random.Random) -> int:
    """What an argument may be."""
    near = ARENA.end - dice.choice((0, 1, 8, 100, 144, 4096, 5000))
    return dice.choice((
        0, 1, 3, 16, 100, 4096, ARENA.start, near, ARENA.start + dice.randrange(5000), ARENA.end, 1 << 63, (1 << 64) - 1,
        0xFFFFFFFF, 1 << 32 | 7, 1 << 31, dice.randrange(1 << 18), dice.randrange(1 << 64),
    ))  # fmt: skip


def test_c_sends_the_calls_that_python_would() -> None:
    dice, task = random.Random(41), Task(os.getpid())
    pump, payload, regs = ffi.new("struct mos_pump *"), ffi.new("unsigned char[]", lib.MOS_LANE_MOST), ffi.new("struct mos_regs *")
    lane = lib.mos_lane(pump, os.getpid(), 1)
    lane.mask, lane.signals = 0x1234, 9
    rows = [row for nr, row in BY_NR.items() if nr < CALLS and plans()[nr].forwarded]
    assert {0, 1, 4, 7, 17, 18, 110} <= {row.nr for row in rows}
    taken = 0
    for row in rows:
        for _ in range(6):
            ARENA.put(os.urandom(8) + b"/some/name\0" + bytes(90))
            args = tuple(_value(dice) for _ in range(6))
            regs.orig_rax = row.nr
            regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9 = args
            length = lib.mos_pack_call(lane, plans() + row.nr, regs, payload)
            if not length:
                continue  # Python's
            taken += 1
            assert bytes(ffi.buffer(payload, length)) == marshal(row, args, 0x1234, task).pack(9), (row.name, args)
            assert lib.mos_plain_call(payload, length) or length > 1 << 16
    lib.mos_lane_end(pump, lane)
    assert taken > len(rows) // 2


def test_calls_of_other_shapes_are_pythons() -> None:
    for nr, row in BY_NR.items():
        if nr < CALLS and plans()[nr].forwarded:
            assert row.host is None and not any(arg.kind is Kind.IRREGULAR for arg in row.args)
    for nr in (2, 13, 14, 16, 56, 57, 59, 60, 61, 72, 96 + 2, 157, 231, 257):
        assert not plans()[nr].forwarded, nr


def test_c_takes_no_call_that_python_would_not() -> None:
    """Of changed CALLs, which end where memory does."""
    dice = random.Random(5)
    request = Request(17, (3, ARENA.start, 300, 0, 0, 0), 7)
    row, task = BY_NR[262], Task(os.getpid())
    where = ARENA.put(b"/some/name\0")
    good = [marshal(row, (3, where, ARENA.start, 0, 0, 0), 7, task).pack(), request.pack()]
    taken = 0
    for _ in range(1500):
        payload = bytearray(dice.choice(good))
        for _ in range(dice.choice((0, 1, 1, 2, 4))):
            at = dice.randrange(len(payload))
            payload[at] = dice.choice((0, 1, 2, 127, 128, 255, payload[at] ^ 1 << dice.randrange(8)))
        if dice.random() < 0.2:
            del payload[dice.randrange(len(payload)) :]
        place = ffi.cast("unsigned char *", ARENA.put(bytes(payload)))
        if not lib.mos_plain_call(place, len(payload)):
            continue
        taken += 1
        told = unpack(bytes(payload))
        assert len(told.blobs) <= 6 and not told.relocations and not told.ranges
        for blob in told.blobs:
            assert blob.arg < 6 and not blob.edge and blob.comes is not Comes.SEQUENCE and blob.size <= lib.MOS_LANE_MOST
    assert taken > 100


def test_what_python_refuses_c_does_not_take() -> None:
    head = struct.Struct("<i4HI7Q")
    bad = [
        b"", bytes(71), head.pack(0, 1, 0, 0, 0, 0, *(0,) * 7), head.pack(0, 0xFFFF, 0, 0, 0, 0, *(0,) * 7),
        head.pack(0, 0, 0, 0, 0, 0, *(0,) * 7) + b"x",
        head.pack(0, 1, 0, 0, 0, 0, *(0,) * 7) + struct.pack("<QIIBBHI", 1, 1, 2, 0, 0, 1, 0) + b"xx",
        head.pack(0, 1, 0, 0, 0, 0, *(0,) * 7) + struct.pack("<QIIBBHI", 1, 1, 1, 6, 0, 1, 0) + b"x",
        head.pack(0, 1, 0, 0, 0, 0, *(0,) * 7) + struct.pack("<QIIBBHI", 1, 2**32 - 1, 2**32 - 1, 0, 0, 1, 0),
    ]  # fmt: skip
    for payload in bad:
        assert not lib.mos_plain_call(ffi.cast("unsigned char *", ARENA.put(payload)), len(payload))
        with pytest.raises(BadRequest):
            unpack(payload)


def test_answers_that_do_not_fit_are_left_to_python() -> None:
    """The body is a process that is not even traced: nothing may be taken for done."""
    child = os.fork()
    if not child:
        while True:
            os.read(socket.socketpair()[0].fileno(), 1)
    try:
        dice, pump = random.Random(3), ffi.new("struct mos_pump *")
        lane = lib.mos_lane(pump, child, 1)
        lane.state, lane.seq = lib.MOS_LANE_WAITS, 4
        for _ in range(800):
            payload = bytearray(pack_reply(dice.choice((0, 5, -4, -512, 1 << 25)), [(ARENA.start, b"x" * 40)]))
            for _ in range(dice.choice((0, 1, 2, 4))):
                payload[dice.randrange(len(payload))] = dice.choice((0, 1, 2, 255, dice.randrange(256)))
            del payload[len(payload) - dice.choice((0, 0, 1, 20)) :]
            place = ffi.cast("unsigned char *", ARENA.put(bytes(payload)))
            assert not lib.mos_answered(pump, lane, place, len(payload), dice.choice((8, 8, 9, 10)))
        assert lane.state == lib.MOS_LANE_WAITS and not lane.news
        lib.mos_lane_end(pump, lane)
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)


@needs_libcrypto
@pytest.mark.parametrize("several", [False, True])
def test_what_a_thread_reads_is_looked_at_each_time(pair: tuple[Channel, Channel], several: bool) -> None:
    """Another one may have put a pipe in its place, by a lane of its own: the tracer would wait for who writes to that."""
    home, _ = pair
    assert home.share()
    pump = ffi.new("struct mos_pump *", {"plans": plans()})
    (pipe, writer), file = os.pipe(), os.open(__file__, os.O_RDONLY)
    pidfd = os.pidfd_open(os.getpid())
    try:
        os.write(writer, b"x")
        lane = lib.mos_lane(pump, os.getpid(), 1)
        lane.channel, lane.pidfd, lane.state, lane.several = home.shared, pidfd, lib.MOS_LANE_READY, several
        payload = marshal(BY_NR[0], (file, ARENA.start, 64, 0, 0, 0), 0, Task(os.getpid())).pack()
        place = ffi.cast("unsigned char *", ARENA.put(payload))
        assert lib.mos_called(pump, lane, place, len(payload), 2)
        os.dup2(pipe, file)
        assert lib.mos_called(pump, lane, place, len(payload), 4) == (not several)
        lib.mos_lane_end(pump, lane)
    finally:
        for fd in (pipe, writer, file, pidfd):
            os.close(fd)


def test_of_what_poll_brings_back_revents_alone_is_stored() -> None:
    """Other threads may change what is to be told next; more than 1024 pieces, so in several calls."""
    count, payload = 3000, b""
    ctypes.memset(ARENA.start, 65, 8 * count)
    child = os.fork()
    if not child:
        while True:
            os.read(socket.socketpair()[0].fileno(), 1)
    try:
        pump = ffi.new("struct mos_pump *")
        lane = lib.mos_lane(pump, child, 1)
        lane.state, lane.nr, lane.regs.rdi = lib.MOS_LANE_WAITS, SYS_POLL, ARENA.start
        news = b"".join(struct.pack("<iHH", 7, 7, number) for number in range(count))
        payload = pack_reply(count, [(ARENA.start, news)])
        assert not lib.mos_answered(pump, lane, ffi.from_buffer("unsigned char[]", payload), len(payload), 0)  # it is not traced
        got = ffi.new("char[]", 8 * count)
        assert lib.mos_read(child, ARENA.start, got, 8 * count) == 8 * count
        assert list(struct.iter_unpack("<iHH", ffi.buffer(got))) == [(0x41414141, 0x4141, number) for number in range(count)]
        lib.mos_lane_end(pump, lane)
    finally:
        ctypes.memset(ARENA.start, 65, 8 * count)  # which it shares
        os.kill(child, 9)
        os.waitpid(child, 0)


@pytest.mark.parametrize("flags", [0, 1, 0x4000, MSG_ZEROCOPY, MSG_ZEROCOPY | 0x4000, 2**32 | MSG_ZEROCOPY])
@pytest.mark.parametrize("nr", [1, SYS_SENDTO])
def test_memory_that_the_kernel_reads_later_is_pythons(nr: int, flags: int) -> None:
    expected = nr == SYS_SENDTO and bool(flags & MSG_ZEROCOPY)
    assert bool(lib.mos_is_kept(nr, flags)) is is_kept(Request(nr, (3, 4, 5, flags, 0, 0), 0)) is expected


@pytest.mark.parametrize(("calls", "made"), [(0, 3), (1, 0)])
def test_of_calls_that_follow_each_other_in_one_turn_the_last_is_under_way(calls: int, made: int) -> None:
    """Python knows the deputy as BUSY with close(3). It is BUSY still: with that, or, if C has taken ``calls``, with read(0)."""
    close, read = (Request(nr, (fd, 0, 0, 0, 0, 0), 0).pack() for nr, fd in ((3, 3), (0, 0)))
    account = SimpleNamespace(calls=0, sent=0, received=0)
    deputy: Any = SimpleNamespace(flight=None, state=State.READY, mask=0, interrupting=False)
    program = SimpleNamespace(deputy=deputy, reports=SimpleNamespace(account=account), body=SimpleNamespace(seq=0, forwarded=0))
    hosts = SimpleNamespace(channels={}, push=lambda: None)
    tracer: Any = SimpleNamespace(pump=ffi.new("struct mos_pump *"), programs={7: program}, hosts=hosts)
    lanes = Lanes(tracer)
    lanes.armed = {7}
    for payload, taken in ((close, 1), (read if calls else close, calls)):
        held = ffi.from_buffer(payload)
        lanes._lanes[7] = SimpleNamespace(
            news=1, calls=taken, seq=1, sent=0, received=0, state=lib.MOS_LANE_BUSY, mask=0, interrupting=0, ready_since=0,
            places=[0] * 6, call=held, call_length=len(payload),
        )  # fmt: skip
        lanes.look()
    assert deputy.state is State.BUSY and deputy.flight.request.nr == made


def test_whether_a_thread_stands_is_asked_in_its_turn() -> None:
    """Nothing is taken out of what waits to be told, and there is an end of its room (`mos_is_told`)."""
    code = """
import os, signal
from mosfs.native import ffi, lib
pids = []
for number in range(258):
    pid = os.fork()
    if not pid:
        os._exit(number % 200)
    pids.append(pid)
while not all(open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0] == "Z" for pid in pids):
    pass
lib.mos_reap()
assert lib.mos_is_told(pids[-1]) and lib.mos_is_told(pids[0])
pump, event, told = ffi.new("struct mos_pump *"), ffi.new("struct mos_event *"), []
while lib.mos_next(pump, event, 0) == 0 and event.kind == lib.MOS_EV_TASK:
    told.append(event.pid)
assert sorted(told) == sorted(pids), (len(told), set(pids) - set(told))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (done.stderr, done.returncode) == ("", 0)


def test_a_host_has_lanes_for_those_that_do_something() -> None:
    """Threads that had ended kept theirs until there was none left, and each turn looked at all that wait for ever."""
    context: Any = SimpleNamespace(pump=ffi.new("struct mos_pump *"), by_pid={}, channel=SimpleNamespace(shared=ffi.NULL))
    clocks: Any = SimpleNamespace(page_of=lambda body: ffi.NULL)
    lanes = HostLanes(context, SimpleNamespace(due=lambda: 0.0), clocks, {})  # type: ignore[arg-type]
    lanes._hears = lambda channel: True  # type: ignore[method-assign]
    bodies = [Body(pid, Task(pid), Doing.RUNNING) for pid in range(1, 4 * lib.MOS_LANES)]
    for body in bodies:  # each begins, calls and ends
        context.by_pid[body.pid] = body
        lanes.met(body.pid)
        lanes.arm()
        assert context.pump.lanes[context.pump.nlanes - 1].state == lib.MOS_LANE_RUNS
        del context.by_pid[body.pid]
    lanes.arm()
    assert context.pump.nlanes == 0
    context.by_pid.update({body.pid: body for body in bodies})
    for body in bodies:
        lanes.met(body.pid)
    lanes.arm()
    served = {context.pump.lanes[n].pid for n in range(context.pump.nlanes)}
    assert served == {body.pid for body in bodies[-MOST_RECENT:]}
    lanes._lanes[bodies[-MOST_RECENT].pid].news = 1
    context.channel.flush = lambda: None
    lanes.look()
    lanes.met(bodies[0].pid)
    lanes.arm()
    assert {bodies[0].pid, bodies[-MOST_RECENT].pid} <= {context.pump.lanes[n].pid for n in range(context.pump.nlanes)}


def away(pid: int, leader: int = 0) -> Any:
    """A program, or a thread of ``leader``, that is away and about which nothing is open."""
    deputy = SimpleNamespace(
        state=State.READY, waiting=0, interrupting=False, remains=None, flight=None, room=(0x20000 + pid, 0x900), mask=0,
        base=ffi.NULL, ready_since=0.0,
    )  # fmt: skip
    nothing = dict.fromkeys(("private", "move"))
    body = SimpleNamespace(sleeping=None, kept_back=None, infos=[], shown=None, seq=0, signals=0)
    return SimpleNamespace(
        pid=pid, deputy=deputy, body=body, away=True, link=None, suspended=False, halted=False, interrupted=False,
        process=SimpleNamespace(shares=False, several=True, native=False), kin=SimpleNamespace(leader=leader),
        post=SimpleNamespace(mail=None), reports=SimpleNamespace(trace=None, call=None), death=SimpleNamespace(signal=None),
        cpu=SimpleNamespace(overdue=False), saves=SimpleNamespace(asked=None, outlive=None),
        call=SimpleNamespace(wait=None, carry=None), frozen=SimpleNamespace(wanted=False, mark=""), **nothing,
    )  # fmt: skip


@pytest.mark.parametrize(("what", "served"), [
    ("nothing", {7, 8, 9}), ("a move of all", set()), ("shared memory", set()), ("a stop of one", {7, 9}), ("a checkpoint", set()),
])  # fmt: skip
def test_calls_of_threads_go_without_python_at_home_too(what: str, served: set[int]) -> None:
    """Unless something is open about the thread, or is to become of its process. Each has memory of its own for them."""
    programs = {7: away(7), 8: away(8, 7), 9: away(9, 7)}
    if what == "a move of all":
        programs[7].move = object()
    for p in programs.values():
        p.process.shares = what == "shared memory"
    programs[8].halted = what == "a stop of one"
    programs[7].saves.asked = "now" if what == "a checkpoint" else None
    link: Any = SimpleNamespace(channel=Mock(spec=Channel), programs=set(programs))
    for p in programs.values():
        p.link = link
    tracer: Any = SimpleNamespace(
        pump=ffi.new("struct mos_pump *"), programs=programs, hosts=SimpleNamespace(channels={id(link): link}),
        mapped=SimpleNamespace(looks=lambda: False, watcher=-1), requests=SimpleNamespace(pidfd=lambda p: -1),
        family=SimpleNamespace(process=lambda p: programs[7]),
    )  # fmt: skip
    link.channel.shared = ffi.NULL
    lanes = Lanes(tracer)
    lanes._hears = lambda channel: True  # type: ignore[method-assign]
    for pid in programs:
        lanes.met(pid)
    lanes.arm()
    assert lanes.armed == served
    found = {lane.pid: lane for lane in tracer.pump.lanes[0 : tracer.pump.nlanes]}
    assert {pid: (found[pid].scratch, found[pid].several) for pid in served} == {pid: (0x20000 + pid, 1) for pid in served}
