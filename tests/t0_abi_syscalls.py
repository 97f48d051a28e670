"""The table of system calls against the kernel's header, python-ptrace's prototypes and the manual's LIMITATIONS."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from unittest.mock import Mock

import pytest

from mosfs.abi import commands, compat, ioctls, numbers
from mosfs.abi.args import HANDLERS, Direction, Kind
from mosfs.abi.flags import (
    CLONE_THREAD,
    CLONE_VFORK,
    CLONE_VM,
    ERESTARTNOINTR,
    MAP_PRIVATE,
    MAP_SHARED,
    PROT_READ,
    PROT_WRITE,
)
from mosfs.abi.syscalls import BY_NAME, BY_NR, Away, ByHost, Home, Syscall
from mosfs.guest.body import Signalled
from mosfs.guest.serve import Serve

HEADER = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
ROWS = list(BY_NR.values())


def test_numbers_are_those_of_the_header() -> None:
    if not HEADER.exists():
        pytest.skip("needs linux-libc-dev")
    header = dict(re.findall(r"#define __NR_(\w+) (\d+)", HEADER.read_text()))
    assert len(header) > 300
    known = {name: int(nr) for name, nr in header.items() if int(nr) <= max(BY_NR)}
    assert {name: BY_NAME[name].nr for name in known if name in BY_NAME} == known


def test_the_table_is_whole_and_in_order() -> None:
    assert list(BY_NR) == sorted(BY_NR) == [*range(337), *range(424, 470)]
    assert len(BY_NAME) == len(BY_NR)


def test_argument_counts_agree_with_the_prototypes() -> None:
    """membarrier got its third argument (cpu_id) in Linux 5.10, after that table was made."""
    syscall = pytest.importorskip("ptrace.syscall")
    counts = {
        nr: len(syscall.SYSCALL_PROTOTYPES[name][1])
        for nr, name in syscall.SYSCALL_NAMES.items()
        if nr < 512 and name in syscall.SYSCALL_PROTOTYPES and name != "membarrier"
    }
    assert len(counts) > 280
    assert {nr: len(BY_NR[nr].args) for nr in counts} == counts


def test_pointers_of_the_prototypes_are_not_numbers() -> None:
    """A pointer is never an int, size or fd in the table, a number never memory, and const memory never output.

    seccomp's prototype is const, yet SECCOMP_GET_NOTIF_SIZES fills a structure there.
    """
    syscall = pytest.importorskip("ptrace.syscall")
    wrong = []
    for nr, name in syscall.SYSCALL_NAMES.items():
        if nr >= 512 or name not in syscall.SYSCALL_PROTOTYPES or name == "membarrier":
            continue
        for arg, (ctype, _) in zip(BY_NR[nr].args, syscall.SYSCALL_PROTOTYPES[name][1], strict=True):
            if "*" in ctype and arg.is_scalar and arg.kind is not Kind.PTR:
                wrong.append((name, ctype, str(arg)))
            if ctype.startswith("const") and name != "seccomp" and arg.direction & Direction.OUT:
                wrong.append((name, ctype, str(arg)))
            if ctype in ("int", "unsigned int", "size_t", "pid_t") and not arg.is_scalar:
                wrong.append((name, ctype, str(arg)))
    assert wrong == []


def test_numbers_are_those_of_the_table() -> None:
    named = {name: value for name, value in vars(numbers).items() if name.startswith("SYS_")}
    assert named and named == {name: BY_NAME[name.removeprefix("SYS_").lower()].nr for name in named}


@pytest.mark.parametrize("name", sorted(compat.limited()))
def test_the_manual_s_list_is_in_the_table(name: str) -> None:
    assert name in BY_NAME


def test_the_manual_s_list_is_whole() -> None:
    assert len(compat.LIMITATIONS) == len(set(compat.LIMITATIONS)) == 108
    assert set(compat.RENAMED) <= set(compat.LIMITATIONS)


def test_what_every_program_does_is_never_refused() -> None:
    always = "rseq set_robust_list prlimit64 futex clone3 membarrier madvise waitid statx clock_getres clock_nanosleep"
    for name in f"{always} sched_getaffinity openat2 getrandom timer_create arch_prctl".split():
        assert BY_NAME[name].home is not Home.REFUSE, name
        assert BY_NAME[name].away is not Away.REFUSE, name


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_each_row_is_consistent(row: Syscall) -> None:
    assert len(row.args) <= 6
    assert bool(row.note) or (row.home is Home.NATIVE and row.away is Away.FORWARD)
    assert "|" not in row.note, "would break the page"
    assert bool(row.tests) == (row.home is Home.TEST)
    assert (row.home is Home.REFUSE) == (row.away is Away.REFUSE)
    assert bool(row.errno) == (row.home is Home.ERRNO or row.away is Away.ERRNO)
    for alternative in row.tests:
        for index, mask, value in alternative:
            assert 0 <= index < max(len(row.args), 1)
            assert value & ~mask == 0, "could never hold"
    if row.away is Away.FORWARD:
        assert not any(arg.kind is Kind.MEMORY and arg.direction is Direction.NONE for arg in row.args)


def test_handlers_are_described_and_used() -> None:
    assert {arg.name for row in ROWS for arg in row.args if arg.kind is Kind.IRREGULAR} == set(HANDLERS)


def _stops(name: str, *registers: int) -> bool:
    return BY_NAME[name].stops((*registers, 0, 0, 0, 0, 0, 0)[:6])


def test_which_calls_stop_at_home() -> None:
    assert not _stops("read", 0)
    assert _stops("openat", 0)
    assert _stops("membarrier", 0) and _stops("shmat", 0) and not _stops("clone3", 0)
    assert not _stops("mmap", 0, 4096, PROT_READ, MAP_PRIVATE) and _stops("mmap", 0, 4096, PROT_READ, MAP_SHARED)
    assert not _stops("mmap", 0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE)
    assert _stops("mmap", 0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | 0x20)
    assert not _stops("clone", 17 | 0x01200000)
    assert not _stops("clone", CLONE_VM | CLONE_VFORK | 17)
    assert _stops("clone", CLONE_VM | 17)
    assert _stops("clone", CLONE_VM | CLONE_VFORK | CLONE_THREAD)
    assert _stops("kill", 1, 19) and not _stops("kill", 1, 15)
    assert _stops("kill", 1, 19 | 1 << 32), "only the low half counts"
    assert _stops("prlimit64", 0, 7) and not _stops("prlimit64", 0, 3)
    assert _stops("setrlimit", 7) and not _stops("setrlimit", 0)
    assert not _stops("ioctl", 0, 0x5401) and _stops("ioctl", 0, 0x8914)
    assert _stops("prctl", 22) and not _stops("prctl", 15)


def test_fcntl_commands() -> None:
    import fcntl

    assert (commands.F_GETLK, commands.F_SETLK, commands.F_SETLKW) == (fcntl.F_GETLK, fcntl.F_SETLK, fcntl.F_SETLKW)
    assert (commands.F_OFD_GETLK, commands.F_OFD_SETLK) == (fcntl.F_OFD_GETLK, fcntl.F_OFD_SETLK)
    assert commands.F_DUPFD_CLOEXEC == fcntl.F_DUPFD_CLOEXEC
    assert str(commands.fcntl_arg(commands.F_SETLKW)) == "in[32]"
    assert str(commands.fcntl_arg(commands.F_GETLK)) == "inout[32]"
    assert commands.fcntl_arg(commands.F_SETFL).is_scalar
    assert commands.fcntl_arg(commands.F_DUPFD).is_scalar


def test_prctl_options() -> None:
    header = Path("/usr/include/linux/prctl.h")
    if not header.exists():
        pytest.skip("needs linux-libc-dev")
    defines = re.findall(r"#define\s+(PR_\w+)\s+(0x[0-9a-f]+|\d+)\b", header.read_text())
    known = {name: int(nr, 0) for name, nr in defines}
    ours = {row.name: row.number for row in commands.PRCTLS.values() if row.name in known}
    assert len(ours) > 35
    assert ours == {name: known[name] for name in ours}
    assert commands.prctl(1).place is commands.Acts.HOME
    assert commands.prctl(22).place is commands.Acts.REFUSE
    assert commands.prctl(12345).place is commands.Acts.HOME
    assert {1, 2, 15, 16, 38} & set(commands.REFUSED_PRCTLS) == set()


def test_the_page_is_current() -> None:
    page = Path(__file__).parent.parent / "docs" / "compatibility.md"
    assert page.read_text() == compat.render(), "run python -m mosfs.abi.compat > docs/compatibility.md"


def test_the_page_shows_every_call_and_refused_request() -> None:
    page = compat.render()
    assert all(f"| {row.nr} | {row.name} |" in page for row in ROWS)
    assert all(f"`{request:#x}`" in page for request in ioctls.REFUSED)


def serve() -> Serve:
    return Serve(*(Mock() for _ in range(11)))


def test_the_host_has_code_for_each_way_that_the_table_names() -> None:
    used = {row.host for row in ROWS if row.host is not None}
    assert set(serve().by_host) == set(ByHost) == used
    assert all(row.host is not None for row in ROWS if row.away in (Away.SPECIAL, Away.PAIR))


@pytest.mark.parametrize("name", ["brk", "munmap", "rseq"])
def test_a_call_of_the_body_is_never_made_by_home(name: str) -> None:
    """Not even when a signal that it blocks has come before the call: the deputy would unmap memory of its own."""
    host = serve()
    host._mails.concerns.return_value = host._mails.trapped.return_value = False
    regs = Mock(rdi=1 << 40, rsi=0, rdx=0, r10=0, r8=0, r9=0)
    waits = Signalled(infos=[signal.SIGCHLD.to_bytes(4, "little") + bytes(124)])
    body = Mock(**{
        "call.nr": BY_NAME[name].nr, "call.regs": regs, "private.store": None, "signals": waits, "outlives": False,
        "task.peek_mask.return_value": 1 << (signal.SIGCHLD - 1),
    })  # fmt: skip
    host._signals.wanted.return_value = None
    host.again(body, -ERESTARTNOINTR)
    host._completion.make_anew.assert_called_once_with(body)  # queueing the signal has taken the place of the call
    waits.infos.clear()
    host.again(body, -ERESTARTNOINTR)
    body.task.cont.assert_called_once_with()
    host._forwarding.forward.assert_not_called()
