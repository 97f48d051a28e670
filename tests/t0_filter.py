"""The two seccomp programs: what the interpreter says of every call is what the table says."""

from __future__ import annotations

import errno
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mosfs.abi.low import GUARDED, may_touch
from mosfs.abi.syscalls import BY_NAME, BY_NR, Home, Syscall
from mosfs.calls.low import guarded
from mosfs.calls.policy import makes_thread
from mosfs.guest.threads import CLONES
from mosfs.trace import layout
from mosfs.trace.filter import (
    ALLOW,
    ERRNO,
    KILL,
    NOTIFY,
    TRACE,
    TRACE_STRICT,
    guest_filter,
    home_filter,
    run,
    strict_filter,
    threadless_filter,
)

I386 = 0x40000003
ELSEWHERE = 0x401000
NUMBERS = range(1101)
#: What a guest's own kernel may do without a stop. Written down again on purpose: this list is the sandbox.
FREE = {"mprotect", "munmap", "brk", "sched_yield", "mremap", "mincore", "set_robust_list", "rseq"}
FREE_NUMBERS = {BY_NAME[name].nr for name in FREE}
CLONE3, BEYOND = BY_NAME["clone3"].nr, (1 << 57) - (1 << 20)  #: above 1 MB
MMAP, MADVISE, MREMAP = BY_NAME["mmap"].nr, BY_NAME["madvise"].nr, BY_NAME["mremap"].nr
PROGRAMS = {"home": home_filter(), "guest": guest_filter(), "threads": guest_filter(threads=True)}

words = st.integers(0, 2**64 - 1)
addresses = st.sampled_from([0, ELSEWHERE, layout.STUB, layout.STUB_AFTER, layout.STUB_AFTER + 2**32, 2**63]) | words


def interesting() -> list[int]:
    """Values that some test of the table looks for, and their neighbours."""
    tested = {value for row in BY_NR.values() for one in row.tests for _, _, value in one}
    return sorted({(v + d) % 2**64 for v in tested for d in (-1, 0, 1, 2**32)} | {0, 2**32 - 1, 2**64 - 1})


arguments = st.tuples(*[st.sampled_from(interesting()) | words] * 6)


def expected_at_home(nr: int, args: tuple[int, ...], ip: int) -> int:
    row = BY_NR.get(nr)
    if nr == layout.MAGIC:
        return TRACE
    if row is not None and row.home is Home.FAILS:
        return ERRNO | row.errno
    if row is None or not (row.stops(args) or may_touch(nr, args)) or ip == layout.STUB_AFTER:
        return ALLOW
    return TRACE


@settings(max_examples=15)
@given(arguments, addresses)
def test_home_is_the_table(args: tuple[int, ...], ip: int) -> None:
    for nr in NUMBERS:
        verdict = run(home_filter(), nr, ip=ip, args=args)
        assert verdict == (ALLOW if makes_thread(nr, args) else expected_at_home(nr, args, ip)), f"call {nr}"


def alternatives() -> list[tuple[Syscall, tuple[tuple[int, int, int], ...]]]:
    return [(row, one) for row in BY_NR.values() if row.home is Home.TEST for one in row.tests]


@given(st.data())
def test_home_traps_each_alternative_whatever_else_the_arguments_are(data: st.DataObject) -> None:
    row, one = data.draw(st.sampled_from(alternatives()))
    args = list(data.draw(arguments))
    for index, mask, value in one:
        args[index] = args[index] & ~mask | value
    assert row.stops(tuple(args))
    assert run(home_filter(), row.nr, args=args) == (ALLOW if makes_thread(row.nr, args) else TRACE)
    assert run(home_filter(), row.nr, args=args, ip=layout.STUB_AFTER) == ALLOW


@given(words, addresses, arguments)
def test_numbers_beyond_the_table_are_the_kernels(number: int, ip: int, args: tuple[int, ...]) -> None:
    nr = max(max(BY_NR), layout.MAGIC) + 1 + number % 2**31
    assert run(home_filter(), nr, ip=ip, args=args) == ALLOW


@given(st.sampled_from(NUMBERS), arguments, addresses)
def test_for_programs_that_others_trace_it_notifies_where_it_would_trap(nr: int, args: tuple[int, ...], ip: int) -> None:
    """And nowhere else: what we inject while it is installed must come to us as ever."""
    verdict = ALLOW if nr == layout.MAGIC else expected_at_home(nr, args, ip)
    assert run(home_filter(NOTIFY), nr, ip=ip, args=args) == (NOTIFY if verdict == TRACE else verdict)


OF_PTHREADS = 0x3D0F00  #: what libc makes a thread with (pthread_create(3))


@pytest.mark.parametrize(("flags", "verdict"), [
    (OF_PTHREADS, ALLOW), (OF_PTHREADS | 17, ALLOW), (OF_PTHREADS | 1 << 40, ALLOW), (OF_PTHREADS & ~0x10000, TRACE),
    (OF_PTHREADS | 0x4000, TRACE), (OF_PTHREADS | 0x2000, TRACE), (OF_PTHREADS | 0x800000, TRACE), (OF_PTHREADS | 1 << 28, TRACE),
])  # fmt: skip
def test_a_thread_is_made_without_a_stop(flags: int, verdict: int) -> None:
    """But not one that nobody would trace, or in namespaces of its own; and where threads are refused each stops."""
    clone = BY_NAME["clone"].nr
    assert run(home_filter(), clone, args=[flags]) == verdict
    assert run(threadless_filter(), clone, args=[flags]) == (TRACE if flags & 0x10000 else ALLOW)
    assert run(threadless_filter(), clone, args=[flags], ip=layout.STUB_AFTER) == ALLOW


@given(st.sampled_from(NUMBERS), arguments, addresses)
def test_where_threads_are_refused_nothing_else_stops_for_it(nr: int, args: tuple[int, ...], ip: int) -> None:
    if nr != BY_NAME["clone"].nr or not args[0] & 0x10000:
        assert run(threadless_filter(), nr, ip=ip, args=args) == ALLOW


@pytest.mark.parametrize("ip", [ELSEWHERE, layout.STUB_AFTER, layout.STUB_AFTER + 8])
def test_the_end_of_an_injected_call_always_stops(ip: int) -> None:
    assert run(home_filter(), layout.MAGIC, ip=ip) == TRACE
    assert run(guest_filter(), layout.MAGIC, ip=ip) == TRACE
    assert layout.MAGIC not in BY_NR


def test_32_bit_calls_are_native_at_home_and_death_in_a_guest() -> None:
    for nr in [*NUMBERS, 2**31, 2**32 - 1]:
        assert run(home_filter(), nr, arch=I386) == ALLOW
        assert run(guest_filter(), nr, arch=I386) == KILL


@settings(max_examples=15)
@given(arguments, addresses)
def test_a_guest_may_do_nothing_but_its_list(args: tuple[int, ...], ip: int) -> None:
    for nr in NUMBERS:
        verdict = run(guest_filter(), nr, ip=ip, args=args)
        plain_memory = nr == MMAP and args[3] & 0x20 and not BY_NR[MMAP].stops(args)
        plain_advice = nr == MADVISE and not BY_NR[MADVISE].stops(args)
        grows = nr == MREMAP and BY_NR[MREMAP].stops(args)
        free = (nr in FREE_NUMBERS or plain_memory or plain_advice) and not may_touch(nr, args) and not grows
        other = ERRNO | errno.ENOSYS if nr == CLONE3 and args[0] & BEYOND else TRACE
        assert verdict == (ALLOW if free else other), f"call {nr}"


@pytest.mark.parametrize("threads", [False, True])
def test_a_guest_hears_at_once_that_there_is_no_clone3(threads: bool) -> None:
    """libc asks for each thread. Those that we have a body make have their arguments in our pages."""
    for at in (1 << 20, ELSEWHERE, 1 << 32, 1 << 47, CLONES + (1 << 32)):
        assert run(guest_filter(threads=threads), CLONE3, args=[at, 88]) == ERRNO | errno.ENOSYS
    for at in (CLONES, layout.SCRATCH, 0):
        assert run(guest_filter(threads=threads), CLONE3, args=[at, 88]) == TRACE


ORDINARY_ADVICE = (3, 4, 8, 9, 20, 21, 22, 23, 25)
SAYING_ADVICE = (0, 1, 2, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 102, 103)


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_advice_that_must_travel_is_heard_and_no_other(program: bytes) -> None:
    for advice in ORDINARY_ADVICE:
        assert run(program, MADVISE, args=[ELSEWHERE, 4096, advice]) == ALLOW
    for advice in SAYING_ADVICE:
        assert run(program, MADVISE, args=[ELSEWHERE, 4096, advice]) != ALLOW
    for flag in (0x100, 0x2000, 0x4000, 0x20000):
        assert run(program, MMAP, args=[ELSEWHERE, 4096, 3, 0x22 | flag]) != ALLOW
    assert run(program, MMAP, args=[ELSEWHERE, 4096, 3, 0x28]) != ALLOW


@given(st.integers(max(NUMBERS) + 1, 2**32 - 1), addresses)
def test_no_other_number_passes_in_a_guest(nr: int, ip: int) -> None:
    assert run(guest_filter(), nr, ip=ip) == TRACE


@pytest.mark.parametrize(
    ("flags", "verdict"), [(0x22, ALLOW), (0x32, ALLOW), (0x21, TRACE), (0x23, TRACE), (0x02, TRACE), (0x01, TRACE)]
)
def test_a_guest_maps_only_private_anonymous_memory(flags: int, verdict: int) -> None:
    assert run(guest_filter(), MMAP, args=[ELSEWHERE, 4096, 3, flags]) == verdict


# --------------------------------------------------------------------------- our pages below 1 MB

FIXED, PRIVATE_ANONYMOUS = 0x10, 0x22
#: Call -> arguments that touch [start, start + size).
OVER = {
    "mmap": lambda start, size: (start, size, 3, PRIVATE_ANONYMOUS | FIXED, 2**64 - 1, 0),
    "munmap": lambda start, size: (start, size),
    "mprotect": lambda start, size: (start, size, 7),
    "pkey_mprotect": lambda start, size: (start, size, 7, 2**64 - 1),
    "madvise": lambda start, size: (start, size, 4),
    "mremap": lambda start, size: (start, size, size, 1, 0),
    "mremap to": lambda start, size: (ELSEWHERE, size, size, 3, start),
}
pages = st.integers(0, 2 * layout.END // layout.PAGE).map(lambda page: page * layout.PAGE)
tags = st.sampled_from([0, 1 << 57, 1 << 62, 63 << 57])


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
@pytest.mark.parametrize("name", OVER)
@given(start=pages, size=st.integers(1, 2**47), tag=tags, high=st.integers(0, 2**31))
def test_whatever_touches_our_pages_stops(program: bytes, name: str, start: int, size: int, tag: int, high: int) -> None:
    """With bits that some processors ignore in an address, too, and flags that change nothing."""
    if not (start < layout.END and start + size > layout.STUB):
        return
    args = OVER[name](start | tag, size)
    if name == "mmap":
        args = (*args[:3], args[3] | high & 0x7FFFF000 & ~0x100000, *args[4:])
    assert run(program, BY_NAME[name.split()[0]].nr, args=args) == TRACE


@given(st.sampled_from(sorted(OVER)), st.integers(layout.END, 2**47 - 1), st.integers(1, 2**47))
def test_nothing_else_does(name: str, start: int, size: int) -> None:
    args = OVER[name](start, size)
    stops = name == "mremap to"  # for another reason
    assert run(home_filter(), BY_NAME[name.split()[0]].nr, args=args) == (TRACE if stops else ALLOW)
    assert guarded(BY_NAME[name.split()[0]].nr, args) is None


@given(st.sampled_from(sorted(OVER)), st.integers(0, 2**21) | words, st.integers(0, 2**21) | words)
def test_what_is_made_instead_leaves_our_pages_alone(name: str, start: int, size: int) -> None:
    found = guarded(BY_NAME[name.split()[0]].nr, (*OVER[name](start, size), 0, 0, 0, 0)[:6])
    for first, end in found.ranges if found else ():
        assert end <= layout.STUB or first >= layout.END
        assert start <= first <= end or (first, end) == (layout.END, layout.END)


@pytest.mark.parametrize(
    ("name", "args", "result", "ranges"),
    [
        ("munmap", (0x10000, 0x1000), 0, []),
        ("munmap", (0, 1 << 46), 0, [(0, 0x10000), (0x100000, 1 << 46)]),
        ("munmap", (0x10001, 0x1000), -errno.EINVAL, []),
        ("madvise", (0x10000, 0x200000, 4), -errno.ENOMEM, [(0x100000, 0x210000)]),
        ("mprotect", (0xFF000, 0x2000, 7), -errno.ENOMEM, []),
        ("mmap", (0x10000, 0x1000, 7, 0x32, 2**64 - 1), -errno.EPERM, []),
        ("mremap", (0x10000, 0x1000, 0x2000, 1), -errno.EFAULT, []),
        ("mremap", (0x700000, 0x1000, 0x1000, 3, 0x10000), -errno.EPERM, []),
        ("mremap", (0x700000, 0x1000, 0x1000, 1, 0x10000), None, []),
        ("mmap", (0x10000, 0, 7, 0x32, 2**64 - 1), None, []),
        ("shmat", (1, 0x11000, 0o40000), -errno.EINVAL, []),
        ("remap_file_pages", (0x18000, 0x1000, 0, 0, 0), -errno.EINVAL, []),
    ],
)  # fmt: skip
def test_the_answers_are_those_for_memory_that_is_not_there(
    name: str, args: tuple[int, ...], result: int | None, ranges: list[tuple[int, int]]
) -> None:
    found = guarded(BY_NAME[name].nr, (*args, 0, 0, 0, 0, 0)[:6])
    assert (found and (found.result, list(found.ranges))) == (None if result is None else (result, ranges))


# --------------------------------------------------------------------------- the programs as the kernel sees them


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_the_kernel_would_take_it(program: bytes) -> None:
    """At most BPF_MAXINSNS instructions, known ones, all jumps inside, a return at the end (kernel/seccomp.c)."""
    assert len(program) % 8 == 0 and 0 < len(program) // 8 <= 4096
    code = list(struct.iter_unpack("<HBBI", program))
    for at, (op, jt, jf, k) in enumerate(code):
        assert op in (0x20, 0x15, 0x35, 0x54, 0x05, 0x06, 0x07, 0x1D, 0x2D)
        far = k if op == 0x05 else max(jt, jf)
        assert at + 1 + far < len(code) or op == 0x06
        assert op != 0x20 or (k % 4 == 0 and k < 64)
    assert code[-1][0] == 0x06


def decided_by_number(program: bytes, nr: int) -> int | None:
    """The verdict if the program looks at nothing but architecture and number: the kernel caches only such ones."""
    at, accumulator = 0, 0
    while True:
        op, jt, jf, k = struct.unpack_from("<HBBI", program, at * 8)
        at += 1
        match op:
            case 0x20 if k in (0, 4):
                accumulator = nr if k == 0 else 0xC000003E
            case 0x15:
                at += jt if accumulator == k else jf
            case 0x35:
                at += jt if accumulator >= k else jf
            case 0x05:
                at += k
            case 0x06:
                return int(k)
            case _:
                return None


def test_native_calls_are_allowed_by_their_number_alone() -> None:
    native = [row.nr for row in BY_NR.values() if row.home is Home.NATIVE and row.nr not in GUARDED]
    assert [nr for nr in native if decided_by_number(home_filter(), nr) != ALLOW] == []
    assert decided_by_number(home_filter(), BY_NAME["openat"].nr) is None
    assert [nr for nr in FREE_NUMBERS - GUARDED.keys() if decided_by_number(guest_filter(), nr) != ALLOW] == []


@pytest.mark.parametrize(("old", "new"), [(0, 0), (4096, 4096), (8192, 4096), (1 << 40, 1 << 33), (1 << 33 | 7, 1 << 33)])
def test_a_mapping_that_does_not_grow_is_let_through(old: int, new: int) -> None:
    assert run(guest_filter(), MREMAP, args=[ELSEWHERE, old, new, 0]) == ALLOW
    if old != new:
        assert run(guest_filter(), MREMAP, args=[ELSEWHERE, new, old, 0]) == TRACE


def test_strict_mode_lets_four_calls_pass_and_ours() -> None:
    for nr in (0, 1, 15, 60):
        assert run(strict_filter(), nr) == ALLOW
        assert run(strict_filter(), nr, arch=0x40000003) == TRACE_STRICT
    for nr in (2, 3, 39, 231, layout.MAGIC, 0xFFFFFFFF):
        assert run(strict_filter(), nr) == TRACE_STRICT
        assert run(strict_filter(), nr, ip=layout.STUB_AFTER) == ALLOW


@pytest.mark.parametrize("flags", [0, 128, 256, 384])
@pytest.mark.parametrize("operation", range(14))
def test_futexes_of_threads_stop_only_to_wait_for_a_time(operation: int, flags: int) -> None:
    waits = operation in (0, 6, 9, 11, 13)
    for timeout in (0, 0x7FFF_0000_0000, 1 << 33, 8):
        verdict = run(guest_filter(threads=True), 202, args=[ELSEWHERE, operation | flags, 0, timeout])
        assert verdict == (TRACE if waits and timeout else ALLOW)
        assert run(guest_filter(), 202, args=[ELSEWHERE, operation | flags, 0, timeout]) == TRACE
