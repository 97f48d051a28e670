"""Transfers that a move cut short: what remains of each shape, and that it is found again after a move. CPU time that is added."""

from __future__ import annotations

import os
import struct
from itertools import pairwise
from typing import Any, cast

import pytest

from mosfs.abi.numbers import SYS_WAIT4, SYS_WAITID
from mosfs.calls import cputime, partial
from mosfs.calls.cputime import Totals, Used
from mosfs.calls.partial import AREA, Carry
from mosfs.home.process.deputy import THREAD_ROOM, THREADS_SCRATCH
from mosfs.migrate.image import MOST_THREADS
from mosfs.trace import layout
from mosfs.trace.task import regs_from

WRITE, WRITEV, SENDMSG, SENDTO, RECVFROM, RECVMSG, SENDMMSG, SENDFILE = 1, 20, 46, 44, 45, 47, 307, 40
VECTOR, HEADER = 0x500000, 0x600000
ENTRIES = ((0x1000, 100), (0x2000, 0), (0x3000, 50), (0x4000, 7))


class Memory:
    """A task that is only memory."""

    def __init__(self, slot: int = 0) -> None:
        self.carries_at = partial.place(slot)
        self.bytes: dict[int, int] = {}
        self.write(VECTOR, b"".join(struct.pack("<QQ", *entry) for entry in ENTRIES))
        self.write(HEADER, struct.pack("<QIxxxxQQQQixxxx", 0x10, 16, VECTOR, len(ENTRIES), 0x20, 24, 0))

    def read(self, addr: int, size: int) -> bytes:
        try:
            return bytes(self.bytes[addr + i] for i in range(size))
        except KeyError:
            raise OSError(14, "not mapped") from None

    def write(self, addr: int, data: bytes) -> None:
        self.bytes.update({addr + i: byte for i, byte in enumerate(data)})


def registers(rsi: int = 0, rdx: int = 0, r10: int = 0) -> Any:
    regs = regs_from(bytes(216))
    regs.rsi, regs.rdx, regs.r10 = rsi, rdx, r10
    return regs


def vector(memory: Memory, at: int, count: int) -> list[tuple[int, int]]:
    return list(struct.iter_unpack("<QQ", memory.read(at, 16 * count)))


def test_the_area_holds_the_longest_vector() -> None:
    assert AREA + 16 * partial.IOV_MAX + 56 <= layout.END
    assert partial.HEADERS + 64 * partial.IOV_MAX <= AREA


def test_each_thread_has_a_place_of_its_own() -> None:
    rooms = [partial.room(cast(Any, Memory(slot))) for slot in range(partial.PLACES + 1)]
    parts = sorted(
        part for room in rooms
        for part in [(room.headers, 64 * room.messages), (room.area, 16 * room.entries + 56)]
    )  # fmt: skip
    assert all(at + size <= after for (at, size), (after, _) in pairwise([*parts, (layout.END, 0)]))
    assert parts[0][0] >= THREADS_SCRATCH + MOST_THREADS * THREAD_ROOM and partial.PLACES >= MOST_THREADS


def test_a_thread_s_message_that_was_cut_goes_on_alone() -> None:
    task: Any = Memory(3)
    task.write(0x700000, 3 * (task.read(HEADER, 56) + bytes(8)))
    task.write(0x700000 + 56, (10).to_bytes(4, "little"))
    after, carry = partial.remainder(task, SENDMMSG, registers(0x700000, 3), 1, None)
    assert (after.rsi, after.rdx) == (partial.room(task).headers, 1) and partial.concerns(carry, SENDMMSG, after)
    task.write(after.rsi + 56, (147).to_bytes(4, "little"))
    assert partial.total(task, SENDMMSG, 1, carry) == 1


def test_a_thread_s_longer_vector_is_cut() -> None:
    task: Any = Memory(3)
    task.write(0x700000, 100 * struct.pack("<QQ", 0x1000, 10))
    after, _ = partial.remainder(task, WRITEV, registers(0x700000, 100), 5, None)
    assert after.rdx == partial.THREAD_ENTRIES and vector(task, after.rsi, 2) == [(0x1005, 5), (0x1000, 10)]


def test_a_message_that_was_cut_goes_on() -> None:
    """Three messages of 157 bytes: the first goes, the second in three parts, the last of them with the third message."""
    task: Any = Memory()
    many = 0x700000

    def tell(header: int, length: int) -> None:
        task.write(header + 56, struct.pack("<Q", length))

    def told() -> list[int]:
        return [int.from_bytes(task.read(many + 64 * i + 56, 4), "little") for i in range(3)]

    for i in range(3):
        task.write(many + 64 * i, task.read(HEADER, 56))
        tell(many + 64 * i, 999)
    tell(many, 157)
    tell(many + 64, 120)
    regs = registers(many, 3)
    assert partial.cut_short(task, SENDMMSG, regs, 2) and not partial.cut_short(task, SENDMMSG, regs, -4)
    after, carry = partial.remainder(task, SENDMMSG, regs, 2, None)
    assert (after.rsi, after.rdx) == (partial.HEADERS, 2) and partial.concerns(carry, SENDMMSG, after)
    assert partial.total(task, SENDMMSG, -4, carry) == 2 and told() == [157, 120, 999]
    tell(partial.HEADERS, 10)
    assert partial.cut_short(task, SENDMMSG, after, 1)
    after, carry = partial.remainder(task, SENDMMSG, after, 1, carry)
    name, _, at, count, _, _, _ = struct.unpack("<QIxxxxQQQQixxxx", task.read(partial.HEADERS, 56))
    assert (name, vector(task, at, count)) == (0, [(0x301E, 20), (0x4000, 7)]) and told() == [157, 130, 999]
    assert task.read(partial.HEADERS + 64, 56) == task.read(HEADER, 56)
    tell(partial.HEADERS, 27)
    tell(partial.HEADERS + 64, 157)
    assert not partial.cut_short(task, SENDMMSG, after, 2)
    assert partial.total(task, SENDMMSG, 2, carry) == 3 and told() == [157, 157, 157]


def test_the_last_message_is_cut() -> None:
    task: Any = Memory()
    task.write(HEADER + 56, struct.pack("<Q", 100))
    assert partial.cut_short(task, SENDMMSG, registers(HEADER, 1), 1)
    task.write(HEADER + 56, struct.pack("<Q", 157))
    assert not partial.cut_short(task, SENDMMSG, registers(HEADER, 1), 1)


@pytest.mark.parametrize(
    ("nr", "regs", "asked"),
    [
        (WRITE, (0x1000, 100, 0), 100), (SENDTO, (0x1000, 100, 0), 100), (WRITEV, (VECTOR, 4, 0), 157),
        (SENDMSG, (HEADER, 0, 0), 157), (SENDMMSG, (HEADER, 3, 0), 3), (SENDFILE, (5, 0, 70), 70),
        (RECVFROM, (0x1000, 100, 0x100), 100), (RECVMSG, (HEADER, 0x100, 0), 157),
    ],
)  # fmt: skip
def test_what_counts_as_cut_short(nr: int, regs: tuple[int, int, int], asked: int) -> None:
    task: Any = Memory()
    given = registers(*regs)
    assert [partial.cut_short(task, nr, given, result) for result in (-4, 0, 1, asked - 1, asked)] == [
        False, False, True, True, False,
    ]  # fmt: skip


def test_reads_take_what_there_is() -> None:
    task: Any = Memory()
    assert not partial.cut_short(task, 0, registers(0x1000, 100), 5)
    assert not partial.cut_short(task, RECVFROM, registers(0x1000, 100), 5)
    assert not partial.cut_short(task, WRITEV, registers(0x700000, 4), 5), "a vector that cannot be read"


@pytest.mark.parametrize("slot", [0, 1, partial.PLACES])
@pytest.mark.parametrize(("nr", "regs"), [(WRITEV, (VECTOR, 4, 0)), (SENDMSG, (HEADER, 0, 0))])
def test_vectors_go_on_where_they_stopped(nr: int, regs: tuple[int, int, int], slot: int) -> None:
    task: Any = Memory(slot)
    there = partial.room(task).area
    before, carry = registers(*regs), None
    for result, left in ((30, [(0x101E, 70), (0x3000, 50), (0x4000, 7)]), (70, [(0x3000, 50), (0x4000, 7)]), (54, [(0x4004, 3)])):
        before, carry = partial.remainder(task, nr, before, result, carry)
        assert before.rsi == there and partial.concerns(carry, nr, before)
        if nr == WRITEV:
            assert vector(task, there, before.rdx) == left
        else:
            name, _, at, count, control, room, _ = struct.unpack("<QIxxxxQQQQixxxx", task.read(there, 56))
            assert (name, control, room) == (0, 0, 0)
            assert vector(task, at, count) == left
    assert carry is not None and partial.total(task, nr, 3, carry) == 157
    before.rax = nr
    elsewhere: Any = Memory(2)  # another thread has that place there
    partial.restore(elsewhere, before, carry)
    assert before.rsi == partial.room(elsewhere).area and partial.concerns(carry, nr, before)
    back: Any = Memory(slot)
    partial.restore(back, before, carry)
    assert before.rsi == there and back.bytes.items() <= task.bytes.items()
    handler = registers(0x1000, 5)
    handler.rax = WRITE
    partial.restore(elsewhere, handler, carry)
    assert handler.rsi == 0x1000, "a call that a handler makes meanwhile"
    partial.put_back(before, carry)
    assert (before.rsi, before.rdx, before.r10) == regs


@pytest.mark.parametrize(
    ("nr", "regs", "rest"),
    [
        (WRITE, (0x1000, 100, 9), (0x1014, 80, 9)), (SENDMMSG, (0x1000, 30, 0), (0x1000 + 64 * 20, 10, 0)),
        (SENDFILE, (5, 0x2000, 70), (5, 0x2000, 50)), (RECVFROM, (0x1000, 100, 0x100), (0x1014, 80, 0x100)),
    ],
)  # fmt: skip
def test_the_rest_of_plain_arguments(nr: int, regs: tuple[int, int, int], rest: tuple[int, int, int]) -> None:
    task: Any = Memory()
    after, carry = partial.remainder(task, nr, registers(*regs), 20, None)
    assert (after.rsi, after.rdx, after.r10) == rest
    assert carry == Carry(20, *regs) and partial.concerns(carry, nr, after)
    assert not partial.concerns(carry, nr, registers(0x9999, 1, 1))
    assert partial.total(task, nr, -4, carry) == 20


def test_cpu_time_is_added() -> None:
    account = Totals(Used(1_600_000_000, 500_000_000), Used(3_000_000_000, 0), Used(7_000, 9_000))
    tail = b"tail"
    self_, children, waited = (
        struct.unpack("<4q", cputime.completed(nr, args, struct.pack("<4q", 2, 600_000, 0, 700_000) + tail, account))
        for nr, args in ((98, (0,)), (98, (0xFFFFFFFF,)), (61, (5, 0, 0)))
    )
    assert self_ == (4, 200_000, 1, 200_000)
    assert children == (5, 600_000, 0, 700_000)
    assert waited == (2, 600_007, 0, 700_009)
    assert struct.unpack("<2q", cputime.completed(228, (2,), struct.pack("<2q", 1, 950_000_000), account)) == (4, 50_000_000)
    ticks = struct.unpack("<4q", cputime.completed(100, (0,), struct.pack("<4q", 1, 2, 3, 4), account))
    assert ticks == tuple(a + b // cputime.TICK_NS for a, b in zip((1, 2, 3, 4), (1_600_000_000, 500_000_000, 3_000_000_000, 0)))


def test_where_the_answer_is() -> None:
    assert cputime.place(228, (2, 8)) == cputime.place(228, (0xFFFFFFFA, 8)) == 1
    assert cputime.place(228, (1, 8)) == -1
    assert (cputime.place(98, (0, 8)), cputime.place(100, (8,)), cputime.place(61, (1, 2, 3, 4))) == (1, 0, 3)


def test_a_process_has_used_something() -> None:
    used = cputime.of_process(os.getpid())
    assert used.user + used.system > 0
    assert used.minus(used) == Used() and used.plus(used).user == 2 * used.user
    assert cputime.of_process(2**30) == Used()


def test_what_was_used_since_is_exact_as_a_sum() -> None:
    """The kernel tells the parts in ticks: what was system time at first may be user time a moment later."""
    assert Used(12, 0).minus(Used(0, 10)) == Used(2, 0)
    assert Used(0, 12).minus(Used(10, 0)) == Used(0, 2)
    assert Used(1, 1).minus(Used(3, 3)) == Used()


def test_neither_part_of_what_was_used_shrinks() -> None:
    assert Used(10, 10).after(Used(15, 3)) == Used(15, 5)
    assert Used(20, 0).after(Used(5, 10)) == Used(10, 10)
    assert Used(1, 1).after(Used(5, 10)) == Used(5, 10)


def test_which_child_a_wait_tells_of() -> None:
    told = struct.pack("<4i i", 17, 0, 1, 0, 4711) + bytes(108)
    assert cputime.child(SYS_WAIT4, (4711, 0, 0, 8), 4711, lambda _: b"") == (4711, False)
    assert cputime.child(SYS_WAITID, (1, 4711, 0x1000, 4, 0x2000), 0, lambda _: told) == (4711, False)
    assert cputime.child(SYS_WAITID, (1, 4711, 0x1000, 4 | 0x01000000, 0x2000), 0, lambda _: told) == (4711, True)
    assert cputime.child(SYS_WAITID, (1, 4711, 0, 4, 0x2000), 0, lambda _: told) == (0, False)


READ, PREAD64, PREADV, PREADV2 = 0, 17, 295, 327
HERE = (1 << 64) - 1


@pytest.mark.parametrize(
    ("nr", "regs", "expected"),
    [
        (READ, (0x1000, 1 << 26, 7), (0x1000 + partial.MAX_TRANSFER, (1 << 26) - partial.MAX_TRANSFER, 7)),
        (WRITE, (0x1000, 1 << 40, 0), (0x1000 + partial.MAX_TRANSFER, 0x7FFFF000 - partial.MAX_TRANSFER, 0)),
        (PREAD64, (0x1000, 1 << 26, 5), (0x1000 + (32 << 20), 32 << 20, 5 + (32 << 20))),
        (PREADV, (HEADER, 2, 5), (AREA, 1, 5 + partial.MAX_TRANSFER)),
        (PREADV2, (HEADER, 2, HERE), (AREA, 1, HERE)),
    ],
)
def test_what_is_longer_than_a_message_goes_on(nr: int, regs: tuple[int, int, int], expected: tuple[int, int, int]) -> None:
    memory: Any = Memory()
    memory.write(HEADER, struct.pack("<4Q", 0x1000, partial.MAX_TRANSFER, 0x900000, 1 << 40))
    before = registers(*regs)
    assert partial.limited(memory, nr, before, partial.MAX_TRANSFER)
    assert not partial.limited(memory, nr, before, partial.MAX_TRANSFER - 1)
    after, carry = partial.remainder(memory, nr, before, partial.MAX_TRANSFER, None)
    assert (after.rsi, after.rdx, after.r10) == expected
    if after.rsi == AREA:
        assert vector(memory, AREA, 1) == [(0x900000, 0x7FFFF000 - partial.MAX_TRANSFER)]
    assert partial.concerns(carry, nr, after) and carry.done == partial.MAX_TRANSFER
    partial.put_back(after, carry)
    assert (after.rsi, after.rdx, after.r10) == regs


def test_a_whole_transfer_does_not_go_on() -> None:
    memory: Any = Memory()
    assert not partial.limited(memory, READ, registers(0x1000, partial.MAX_TRANSFER), partial.MAX_TRANSFER)
    assert not partial.limited(memory, 2, registers(0x1000, 1 << 40), partial.MAX_TRANSFER)
