"""What becomes of a call that stopped: one verdict a row, in the manual's words (mosrun(1), LIMITATIONS)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mosfs.abi import commands, ioctls
from mosfs.abi.flags import MAP_HUGETLB
from mosfs.abi.syscalls import BY_NAME, BY_NR, Away, Home, Syscall
from mosfs.calls.policy import SERVE, Do, Unsupported, Verdict, advice, judge, judge_away, private, stays_in_body

words = st.integers(0, 2**64 - 1)
arguments = st.tuples(*[words] * 6)
rows = st.sampled_from(list(BY_NR.values()))

#: Calls that the manual limits, but that can be served: SIGSTOP reaches the program itself, a limit is the kernel's. And four that
#: stop for CPU time used away to be added, or to be slept for.
SERVED_ALL_THE_SAME = {
    "kill", "tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "setrlimit", "prlimit64", "pidfd_send_signal",
    "wait4", "waitid", "clock_gettime", "timer_settime", "openat", "madvise", "mremap", "clock_nanosleep",
}  # fmt: skip


def named(row: Syscall) -> str:
    return row.name


def fulfilling(row: Syscall, one: tuple[tuple[int, int, int], ...]) -> tuple[int, ...]:
    args = [0] * 6
    for index, _, value in one:
        args[index] |= value
    return tuple(args)


@pytest.mark.parametrize("row", BY_NR.values(), ids=named)
def test_each_row(row: Syscall) -> None:
    quiet = (0,) * 6  # fulfils no test but seccomp's
    verdict = judge(row, quiet)
    if row.errno:
        assert (verdict.do, verdict.result, verdict.message) == (Do.ANSWER, -row.errno, "")
    elif row.home is Home.REFUSE or row.away is Away.REFUSE or row.name == "seccomp":
        what = "Attaching SYSV shared-memory" if row.name == "shmat" else f"system-call '{row.name}'"
        assert (verdict.do, verdict.message) == (Do.REFUSE, f"{what} not supported under MOSIX")
    else:
        assert verdict == SERVE


def rows_with_tests() -> list[object]:
    return [row for row in BY_NR.values() if row.home is Home.TEST]


@pytest.mark.parametrize("row", rows_with_tests(), ids=named)
def test_each_alternative_of_a_row(row: Syscall) -> None:
    for one in row.tests:
        args = fulfilling(row, one)
        assert row.stops(args)
        verdict = judge(row, args)
        if row.name in SERVED_ALL_THE_SAME:
            assert verdict == SERVE
        elif (row.name, one[0][2]) == ("prctl", 21):  # PR_GET_SECCOMP
            assert verdict == Verdict(Do.ANSWER)
        elif row.name == "mmap":
            assert verdict.do is (Do.PRIVATE if args[3] & 1 else Do.HOME if args[3] & MAP_HUGETLB else Do.SERVE)
        else:
            assert verdict.do is Do.REFUSE and verdict.message


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("mmap", (0, 4096, 3, 0x21), "Shared memory (MAP_SHARED) not supported under MOSIX"),
        ("mmap", (0, 4096, 2, 0x01), "Shared memory (MAP_SHARED) not supported under MOSIX"),
        ("mmap", (0, 4096, 3, 0x03), "Shared memory (MAP_SHARED) not supported under MOSIX"),
        ("shmat", (1, 0, 0), "Attaching SYSV shared-memory not supported under MOSIX"),
        ("prctl", (22, 1), "Prctl option #22 not supported under MOSIX"),
        ("prctl", (2**32 + 59, 1), "Prctl option #59 not supported under MOSIX"),
        ("ioctl", (3, next(iter(ioctls.REFUSED))), f"Ioctl 0x{next(iter(ioctls.REFUSED)):x} not supported under MOSIX"),
        ("clone", (0x10000,), "system-call 'clone' not supported under MOSIX"),
        ("ptrace", (), "system-call 'ptrace' not supported under MOSIX"),
        ("io_uring_setup", (), "system-call 'io_uring_setup' not supported under MOSIX"),
    ],
)
def test_words_of_the_manual(name: str, args: tuple[int, ...], message: str) -> None:
    verdict = judge(BY_NAME[name], (*args, *[0] * (6 - len(args))))
    assert (verdict.do, verdict.message) == (Do.REFUSE, message)


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("mmap", (0, 4096, 3, 0x22)),
        ("clone", (17,)),
        ("clone", (0x4100 | 17,)),  # vfork
        ("prctl", (15, 0x1000)),
        ("ioctl", (1, 0x5401)),
        ("open", (0x1000, 0, 0)),
        ("openat", (0xFFFFFF9C, 0x1000)),
        ("kill", (1, 19)),
        ("setrlimit", (7, 0x1000)),
    ],
)
def test_served(name: str, args: tuple[int, ...]) -> None:
    assert judge(BY_NAME[name], (*args, *[0] * (6 - len(args)))) == SERVE


def test_who_sleeps_until_cpu_time_is_used_comes_home() -> None:
    wanted = {2: Do.HOME, -6: Do.HOME, ~4711 << 3 | 2: Do.HOME, 3: Do.SERVE, -2: Do.SERVE, 1: Do.SERVE, -5: Do.SERVE}
    for clock, do in wanted.items():
        assert judge_away(BY_NAME["clock_nanosleep"], (clock & 0xFFFFFFFF, 0, 0x1000, 0, 0, 0)).do is do
    assert judge(BY_NAME["clock_nanosleep"], (2, 0, 0x1000, 0, 0, 0)) == SERVE


def test_shared_memory_attached_to_read_is_served_at_home() -> None:
    for flags in (0o10000, 0o30000, 0o110000):
        assert judge(BY_NAME["shmat"], (1, 0, flags, 0, 0, 0)) == Verdict(Do.HOME)


@pytest.mark.parametrize("prot", [0, 1, 4, 5])
def test_shared_but_not_writable(prot: int) -> None:
    """mosrun(1), -e: MAP_PRIVATE in the place of MAP_SHARED; files always, else nothing of today starts (readings, row 31)."""
    of_file, of_nothing = (judge(BY_NAME["mmap"], (0, 4096, prot, flags, 3, 0)) for flags in (0x01, 0x21))
    assert of_file == Verdict(Do.PRIVATE)
    assert of_nothing == Verdict(Do.PRIVATE, message="Shared memory (MAP_SHARED) not supported under MOSIX")
    assert [private(flags) for flags in (0x01, 0x03, 0x21, 0x8011)] == [0x02, 0x02, 0x22, 0x8012]


@pytest.mark.parametrize(("name", "args", "word"), [
    ("clone", (0x10F00,), "--threads"), ("mmap", (0, 4096, 3, 0x21), "--stay-home"), ("shmat", (1,), "--stay-home"),
    ("clone", (0x10000000,), ""), ("ptrace", (), ""), ("mmap", (0, 4096, 3, 0x22), "--stay-home"),
])
def test_advice(name: str, args: tuple[int, ...], word: str) -> None:
    hint = advice(BY_NAME[name], (*args, *[0] * (6 - len(args))))
    assert word in hint and bool(word) == bool(hint)


@pytest.mark.parametrize("name", ["clone3", "rseq", "membarrier"])
def test_what_programs_fall_back_from_is_answered_not_refused(name: str) -> None:
    """Every modern libc tries these at its start (or for threads and posix_spawn)."""
    assert judge(BY_NAME[name], (0,) * 6).do in (Do.ANSWER, Do.SERVE)


@given(rows, arguments)
def test_total_and_in_agreement_with_the_filter(row: Syscall, args: tuple[int, ...]) -> None:
    """What never stops at home is never judged otherwise away, but for rows that differ on purpose."""
    verdict = judge(row, args)
    assert (verdict.do is Do.REFUSE) == bool(verdict.message) or verdict.do is Do.PRIVATE
    if not row.stops(args) and row.away not in (Away.REFUSE, Away.ERRNO):
        assert verdict == SERVE
    if verdict.do is Do.ANSWER:
        assert -4096 < verdict.result < 0


@given(rows, arguments)
def test_what_stays_in_the_body(row: Syscall, args: tuple[int, ...]) -> None:
    by_option = row.name == "prctl" and commands.prctl(args[0] & 0xFFFFFFFF).place is commands.Acts.BODY
    assert stays_in_body(row, args) == (row.away is Away.BODY or by_option)


@pytest.mark.parametrize("option", [row for row in commands.PRCTLS.values() if row.place is commands.Acts.BODY])
def test_prctl_options_of_the_body(option: commands.Prctl) -> None:
    assert stays_in_body(BY_NAME["prctl"], (option.number + 2**32, 0, 0, 0, 0, 0))
    assert not stays_in_body(BY_NAME["ioctl"], (option.number, 0, 0, 0, 0, 0))


def test_modes_are_those_of_the_control_file() -> None:
    assert [mode.name for mode in Unsupported] == ["KILL", "QUIET", "WARN", "STAY_HOME"]
    assert [mode.value for mode in Unsupported] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("name", "args", "served"),
    [
        ("ioctl", (3, 0x8946), True),  # SIOCETHTOOL
        ("ioctl", (3, 0xC020660B), True),  # FS_IOC_FIEMAP
        ("ioctl", (3, 0x8940), False),  # SIOCGIFBR
        ("ioctl", (3, 0x89F1), False),  # SIOCDEVPRIVATE
        ("ioctl", (3, 0xC0406400), False),  # DRM_IOCTL_VERSION
        ("setsockopt", (3, 1, 26), True),  # SO_ATTACH_FILTER
        ("setsockopt", (3, 0, 64), False),  # IPT_SO_SET_REPLACE
        ("getsockopt", (3, 6, 35), False),  # TCP_ZEROCOPY_RECEIVE
        ("getsockopt", (3, 1, 26), True),  # SO_GET_FILTER
    ],
)
def test_pointers_to_memory_of_unknown_shape_are_refused_away_only(name: str, args: tuple[int, ...], served: bool) -> None:
    row, registers = BY_NAME[name], (*args, *(0,) * (6 - len(args)))
    assert judge(row, registers).do is Do.SERVE
    verdict = judge_away(row, registers)
    assert verdict.do is (Do.SERVE if served else Do.REFUSE)
    assert served or "not supported under MOSIX" in verdict.message


def test_huge_pages_are_mapped_at_home() -> None:
    assert judge(BY_NAME["mmap"], (0, 1 << 21, 3, 0x40022, 2**64 - 1, 0)) == Verdict(Do.HOME)
    assert judge(BY_NAME["mmap"], (0, 1 << 21, 3, 0x40021, 2**64 - 1, 0)).do is Do.REFUSE
