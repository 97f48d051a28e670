"""The pure model of a mailbox, its filters, and the calls on its descriptors (direct_communication(7))."""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mosfs.abi.numbers import SYS_CLOSE, SYS_CLOSE_RANGE, SYS_DUP2, SYS_DUP3
from mosfs.mbox import calls
from mosfs.mbox.body import KEPT, LONGEST_KEPT, Body, Files
from mosfs.mbox.filters import INTERESTS, MAX_MESSAGE, MAX_STORED, SIZE, BadFilter, Condition, Filter, unpack, unpack_stored
from mosfs.mbox.model import MAX_UNREAD, PEEK, Flag, Mailbox, Sender
from mosfs.trace import layout
from mosfs.trace.filter import ALLOW, TRACE, run
from mosfs.trace.task import Task

HOME, OTHER_HOME = 0x7F000101, 0x7F000102
ME = Sender(HOME, 100, 1000, 1000, HOME)
ROOT = Path(__file__).parent.parent


def box(flags: Flag = Flag(0)) -> Mailbox:  # noqa: B008
    return Mailbox(HOME, 50, 1000, 1000, flags)


def filled(flags: Flag, *texts: bytes) -> Mailbox:
    made = box(flags)
    for number, text in enumerate(texts):
        made.put(ME, number.to_bytes(4, "big"), Body(text))
    return made


def read(mailbox: Mailbox, count: int, chosen: Filter | None = None) -> bytes | int:
    """What the program would get: bytes, or a negative errno value (with PEEK the length)."""
    taken = mailbox.take(count) if chosen is None else mailbox.take(count, chosen)
    if taken.result < 0 or count == PEEK:
        return taken.result
    return b"" if taken.message is None else taken.message.body.part(taken.offset, taken.result)


# --------------------------------------------------------------------------- who may send


@pytest.mark.parametrize("flags", range(8))
@pytest.mark.parametrize("user", [1000, 2000])
@pytest.mark.parametrize("group", [1000, 2000])
@pytest.mark.parametrize("home", [HOME, OTHER_HOME])
def test_who_may_send(flags: int, user: int, group: int, home: int) -> None:
    """Flags 1, 2 and 4: other users of the group, all other users, other home-nodes."""
    allowed = (user == 1000 or (flags & 1 and group == 1000) or flags & 2) and (home == HOME or flags & 4)
    assert box(Flag(flags)).refuses(Sender(home, 7, user, group, home)) is not bool(allowed)


def test_messages_sent_earlier_still_arrive_after_a_permission_was_removed() -> None:
    mailbox = filled(Flag.OTHERS, b"early")
    mailbox.reopen(Flag(0))
    assert read(mailbox, 10) == b"early"


def test_ten_thousand_messages_and_32_megabytes() -> None:
    mailbox = box()
    for number in range(MAX_UNREAD):
        assert mailbox.has_room(1)
        mailbox.put(ME, number.to_bytes(4, "big"), Body(b"x"))
    assert not mailbox.has_room(0)
    mailbox = filled(Flag(0), bytes(MAX_MESSAGE - 1))
    assert mailbox.has_room(1) and not mailbox.has_room(2)


def test_a_repeated_message_is_known_by_its_name() -> None:
    mailbox = box()
    mailbox.put(ME, b"first", Body(b"1"))
    assert mailbox.is_repeated(ME, b"first")
    assert not mailbox.is_repeated(ME, b"second")
    assert not mailbox.is_repeated(Sender(OTHER_HOME, 100, 1000, 1000, HOME), b"first")


# --------------------------------------------------------------------------- reading


def test_reading_takes_one_message_at_a_time_and_truncates() -> None:
    mailbox = filled(Flag(0), b"hello", b"world")
    assert read(mailbox, 100) == b"hello"
    assert read(mailbox, 3) == b"wor"
    assert read(mailbox, 100) == -errno.EAGAIN


def test_count_zero_is_invalid_and_minus_one_peeks() -> None:
    mailbox = filled(Flag(0), b"hello")
    assert read(mailbox, 0) == -errno.EINVAL
    assert [read(mailbox, PEEK) for _ in range(2)] == [5, 5]
    assert read(mailbox, 10) == b"hello"
    assert read(mailbox, PEEK) == -errno.EAGAIN


def test_the_first_message_that_fits_is_read_out_of_order() -> None:
    mailbox = filled(Flag.NO_TRUNCATION, b"too long", b"ok", b"also")
    assert read(mailbox, 4) == b"ok"
    assert read(mailbox, 4) == b"also"
    assert read(mailbox, 4) == -errno.EAGAIN
    assert read(mailbox, 8) == b"too long"


def test_end_of_file_until_the_flag_is_cleared() -> None:
    mailbox = filled(Flag.END_OF_FILE, b"a", b"", b"b")
    assert [read(mailbox, 9) for _ in range(4)] == [b"a", b"", b"", b""]
    assert read(mailbox, PEEK) == 0
    mailbox.reopen(Flag.END_OF_FILE)
    assert read(mailbox, 9) == b""
    mailbox.reopen(Flag(0))
    assert read(mailbox, 9) == b"b"


def test_a_stream_leaves_what_does_not_fit() -> None:
    mailbox = filled(Flag.STREAM, b"abcdef", b"g")
    assert [read(mailbox, 4) for _ in range(3)] == [b"abcd", b"ef", b"g"]
    assert mailbox.size == 0


# --------------------------------------------------------------------------- filters


@given(st.lists(st.one_of(st.binary(max_size=9), st.tuples(st.integers(0, 12), st.booleans())), max_size=40))
def test_what_is_lent_is_read_once(steps: list[bytes | tuple[int, bool]]) -> None:
    """Reading by lending, of which some goes back, gives the stream that was sent."""
    mailbox = box(Flag.STREAM)
    sent, got = b"", b""
    for number, step in enumerate(steps):
        if isinstance(step, bytes):
            if step:
                mailbox.put(ME, b"%d" % number, Body(step))
                sent += step
            continue
        used, exact = step
        taken = mailbox.take(used or 1) if exact else mailbox.lend()
        if taken.message is not None:
            had = taken.result if exact else min(used, taken.result)
            got += taken.message.body.part(taken.offset, had)
            mailbox.finish_read(had)
    while (taken := mailbox.take(100)).message is not None:
        got += taken.message.body.part(taken.offset, taken.result)
    assert got == sent
    assert (mailbox.size, mailbox.queue, mailbox.lent) == (0, [], None)


def test_layouts_are_those_of_the_c_header(tmp_path: Path) -> None:
    source = tmp_path / "layout.c"
    source.write_text(
        '#include <stdio.h>\n#include <stddef.h>\n#include "mosix/mailbox.h"\n'
        "int main(void) { struct interested f = { 1, 2, 3, 4, 5, 6, 7, \"abcdefg\", 8, 9 };\n"
        'fwrite(&f, sizeof f, 1, stdout); fprintf(stderr, "%zu", sizeof(struct interests)); return 0; }\n'
    )
    program = tmp_path / "layout"
    subprocess.run(["gcc", f"-I{ROOT}/include", str(source), "-o", str(program)], check=True)
    done = subprocess.run([program], capture_output=True, check=True)
    written = Filter(Condition.PID, 2, 3, 4, 5, 6, 7, b"abcdefg\0", 8, 9)
    assert unpack(done.stdout) == written and len(done.stdout) == SIZE
    assert int(done.stderr) == INTERESTS.size


@pytest.mark.parametrize(
    ("chosen", "found"),
    [
        (Filter(Condition.PID, pid=100), b"one"),
        (Filter(Condition.PID, pid=101), -errno.EAGAIN),
        (Filter(Condition.HOME, home=0), b"one"),
        (Filter(Condition.HOME, home=OTHER_HOME), -errno.EAGAIN),
        (Filter(Condition.MINLEN, minlen=4), b"three"),
        (Filter(Condition.MAXLEN, maxlen=2), b""),
        (Filter(Condition.MINLEN | Condition.MAXLEN, minlen=1, maxlen=3), b"one"),
        (Filter(Condition.PATTERN, testlen=2, testoffset=3, testdata=b"ee".ljust(8, b"\0")), b"three"),
        (Filter(Condition.PATTERN, testlen=8, testoffset=0, testdata=b"one".ljust(8, b"\0")), -errno.EAGAIN),
        (Filter(Condition.MESSAGENO, msgno=2), b"three"),
        (Filter(Condition.MESSAGENO, msgno=4), -errno.EAGAIN),
        (Filter(Condition.MESSAGENO | Condition.MINLEN, msgno=1, minlen=4), -errno.ENODATA),
        (Filter(Condition.OFFSET, msgoffset=1), b"ne"),
        (Filter(Condition.OFFSET, msgoffset=10), b""),
    ],
)  # fmt: skip
def test_conditions(chosen: Filter, found: bytes | int) -> None:
    assert read(filled(Flag(0), b"one", b"three", b""), 100, chosen) == found


def test_no_truncation_and_a_message_number_that_does_not_fit() -> None:
    chosen = Filter(Condition.MESSAGENO, msgno=1)
    assert read(filled(Flag.NO_TRUNCATION, b"long", b"x"), 3, chosen) == -errno.ENODATA


def test_prevented_removal() -> None:
    mailbox = filled(Flag(0), b"stays")
    keep = Filter(Condition.PREVENT_REMOVAL)
    assert [read(mailbox, 9, keep) for _ in range(3)] == [b"stays"] * 3
    assert read(mailbox, 9) == b"stays"
    assert read(mailbox, 9) == -errno.EAGAIN


@pytest.mark.parametrize(
    "bad",
    [
        Filter(Condition.PATTERN, testlen=0),
        Filter(Condition.PATTERN, testlen=9),
        Filter(Condition.PATTERN, testlen=1, testoffset=-1),
        Filter(Condition.PATTERN | Condition.MAXLEN, testlen=4, testoffset=5, maxlen=8),
        Filter(Condition.PATTERN, testlen=4, testoffset=MAX_MESSAGE - 3),
        Filter(Condition.MINLEN | Condition.MAXLEN, minlen=5, maxlen=4),
        Filter(Condition.MINLEN, minlen=-1),
        Filter(Condition.MINLEN, minlen=MAX_MESSAGE + 1),
        Filter(Condition.MAXLEN, maxlen=-1),
        Filter(Condition.MESSAGENO, msgno=0),
        Filter(Condition.OFFSET, msgoffset=-1),
    ],
)
def test_illegal_filters(bad: Filter) -> None:
    with pytest.raises(BadFilter):
        unpack(bad.pack())


def test_stored_filters_ignore_number_offset_and_removal() -> None:
    entry = Filter(Condition.MESSAGENO | Condition.OFFSET | Condition.PREVENT_REMOVAL | Condition.MINLEN, minlen=2, msgno=-5)
    (stored,) = unpack_stored(entry.pack())
    assert stored.conditions == Condition.MINLEN
    with pytest.raises(BadFilter):
        unpack_stored(bytes(SIZE * (MAX_STORED + 1)))


def test_which_filters_have_messages() -> None:
    mailbox = filled(Flag(0), b"abc")
    mailbox.stored = tuple(Filter(Condition.MINLEN, minlen=n) for n in (4, 3, 2, 9, 9, 9, 9, 9, 1))
    assert mailbox.which() == bytes([0b110, 1])
    mailbox.stored = ()
    assert mailbox.which() == b""


filters = st.builds(
    Filter, st.integers(0, 255).map(Condition), st.integers(0, 9), st.integers(99, 102), st.sampled_from([0, HOME, OTHER_HOME]),
    st.integers(-1, 6), st.integers(-1, 6), st.integers(-1, 4), st.binary(min_size=8, max_size=8), st.integers(-1, 5),
    st.integers(-1, 6),
)  # fmt: skip


@given(filters)
def test_what_is_packed_is_unpacked(chosen: Filter) -> None:
    try:
        assert unpack(chosen.pack()) == chosen
    except BadFilter:
        assert chosen.conditions


class Machine(RuleBasedStateMachine):
    """The mailbox against the plainest description of it: a list, looked through from the beginning."""

    def __init__(self) -> None:
        super().__init__()
        self.box = box()
        self.plain: list[tuple[int, bytes]] = []  # (pid, text)
        self.names = 0

    @rule(pid=st.integers(100, 101), text=st.binary(max_size=6))
    def send(self, pid: int, text: bytes) -> None:
        self.names += 1
        self.box.put(Sender(HOME, pid, 1000, 1000, HOME), b"%d" % self.names, Body(text))
        self.plain.append((pid, text))

    @rule(flags=st.sampled_from([Flag(0), Flag.NO_TRUNCATION]))
    def reopen(self, flags: Flag) -> None:
        self.box.reopen(flags)

    @rule(count=st.integers(1, 8), least=st.integers(0, 6), pid=st.integers(99, 101), keep=st.booleans())
    def take(self, count: int, least: int, pid: int, keep: bool) -> None:
        conditions = Condition.MINLEN | (Condition.PID if pid > 99 else Condition(0))
        if keep:
            conditions |= Condition.PREVENT_REMOVAL
        matching = [
            n for n, (sender, text) in enumerate(self.plain)
            if len(text) >= least and pid in (99, sender)
            and (Flag.NO_TRUNCATION not in self.box.flags or len(text) <= count)
        ]  # fmt: skip
        expected: bytes | int = self.plain[matching[0]][1][:count] if matching else -errno.EAGAIN
        if matching and not keep:
            del self.plain[matching[0]]
        assert read(self.box, count, Filter(conditions, pid=pid, minlen=least)) == expected

    @invariant()
    def the_sum_is_right(self) -> None:
        assert self.box.size == sum(len(text) for _, text in self.plain)
        assert len(self.box.queue) == len(self.plain)


TestMachine = Machine.TestCase

# --------------------------------------------------------------------------- bodies and calls


@pytest.mark.parametrize("size", [1, 40000])
def test_a_memory_file_holds_a_body(size: int) -> None:
    body = Body.file()
    try:
        body.append(bytes(size - 1))
        body.append(b"z")
        assert len(body) == size and body.part(size - 1, 5) == b"z"
        room = bytearray(1)
        body.read_into(size - 1, memoryview(room))
        assert room == b"z"
    finally:
        body.close()
    assert body.fd == -1


@pytest.mark.parametrize("size", [100_000, 300_000, 1 << 20])
def test_a_message_is_read_into_several_places(size: int) -> None:
    """However long it is. Whoever has the descriptor, too, can shorten the file: no signal (SIGBUS) comes of that."""
    data, to = os.urandom(size), ctypes.create_string_buffer(size + 10)
    at, cut = ctypes.addressof(to), size // 3
    body = Body.file()
    body.append(b"before" + data)
    calls.scatter(Task(os.getpid()), [(at, cut), (at + cut + 10, size)], body, 6, size)
    assert to.raw[:cut] + to.raw[cut + 10 :] == data
    os.ftruncate(body.fd, 100)
    with pytest.raises(OSError, match="too short"):
        calls.scatter(Task(os.getpid()), [(at, size)], body, 6, size)
    body.close()


def same(one: Body, other: Body) -> bool:
    return os.path.samestat(os.fstat(one.fd), os.fstat(other.fd))


def test_a_memory_file_is_used_again_when_nobody_has_it() -> None:
    """Neither who sends nor the post office nor the reader."""
    files, of = Files(), ("sender", "mailbox")
    files.body(of, 1000).close()
    first = files.body(of, 1000)
    first.append(b"first")
    passed = os.dup(first.fd)
    first.close()
    second = files.body(of, 1000)
    kept = Body.received(passed, 5)
    assert not same(kept, second) and kept.part(0, 5) == b"first"
    third = files.body(of, 1000)
    kept.close()
    again = files.body(of, 1000)
    assert not same(third, second) and len(again) == 0
    again.append(b"again")
    assert again.part(0, 9) == b"again" and not same(again, second) and not same(again, third)
    for body in (second, third, again):
        body.close()
    files.close()


def test_only_messages_to_the_same_mailbox_share_memory_files() -> None:
    """Who was sent one could still have it open. Nor are there many, or large ones, that nobody uses."""
    files, of = Files(), ("sender", "mailbox")
    before = {*os.listdir("/proc/self/fd")}
    files.body(of, 10).close()
    one = files.body(of, 10)
    elsewhere = files.body(("sender", "another"), 10)
    assert not same(one, elsewhere)
    many = [files.body(("sender", "another"), 10) for _ in range(KEPT + 3)]
    assert not any(same(one, other) for other in many)
    large = files.body(("sender", "another"), LONGEST_KEPT + 1)
    for body in (one, elsewhere, large, *many):
        body.close()
    assert len({*os.listdir("/proc/self/fd")} - before) == KEPT
    files.forget("somebody")
    assert len({*os.listdir("/proc/self/fd")} - before) == KEPT
    files.forget("sender")
    assert {*os.listdir("/proc/self/fd")} == before


@pytest.mark.parametrize(
    ("nr", "args", "fds", "left"),
    [
        (SYS_CLOSE, (5, 0, 0), {5}, set()),
        (SYS_CLOSE, (6, 0, 0), {5}, {5}),
        (SYS_DUP2, (7, 5, 0), {5}, set()),
        (SYS_DUP2, (5, 5, 0), {5}, {5}),
        (SYS_DUP2, (6, 5, 0), {5, 6}, {5, 6}),
        (SYS_DUP3, (7, 5, 0), {5, 0}, {0}),
        (SYS_CLOSE_RANGE, (3, 0xFFFFFFFF, 0), {0, 5, 9}, {0}),
        (SYS_CLOSE_RANGE, (3, 0xFFFFFFFF, 4), {0, 5, 9}, {0, 5, 9}),
        (SYS_CLOSE_RANGE, (3, 9, 2), {0, 5, 9}, {0}),
        (SYS_CLOSE_RANGE, (3, 9, 8), {0, 5, 9}, {0, 5, 9}),  # what the kernel refuses closes nothing
        (SYS_DUP3, (7, 5, calls.O_CLOEXEC), {5}, set()),
        (SYS_DUP3, (7, 5, calls.O_NONBLOCK), {5}, {5}),
        (SYS_DUP3, (5, 5, 0), {5}, {5}),
    ],
)
def test_what_a_close_leaves(nr: int, args: Sequence[int], fds: set[int], left: set[int]) -> None:
    assert calls.survivors(nr, args, fds, is_open=True) == left
    if nr == SYS_DUP2:
        assert calls.survivors(nr, args, fds, is_open=False) == fds


@given(st.integers(0, 500))
def test_the_filter_stops_at_our_calls_but_not_at_the_stubs(number: int) -> None:
    program = calls.post_filter()
    assert run(program, number) == (TRACE if number in calls.CAUGHT else ALLOW)
    assert run(program, number, ip=layout.STUB_AFTER) == ALLOW
