"""Requests of ioctl, signals, flags, the manual's messages and the processor's features."""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import pty
import re
import signal
import struct
import termios
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mosfs.abi import cpu, flags, ioctls, signals
from mosfs.abi.reasons import MANUALS, Concerns, Reason, concerns
from mosfs.abi.texts import Text, Where, text

# --------------------------------------------------------------------------------------------------------------- ioctl


def test_requests_are_those_of_python_s_modules() -> None:
    for request, (name, _) in ioctls.IOCTLS.items():
        assert getattr(termios, name, request) == request, name
        assert getattr(fcntl, name, request) == request, name
    assert sum(hasattr(termios, name) for name, _ in ioctls.IOCTLS.values()) > 40


def test_requests_are_those_of_the_kernel_s_header() -> None:
    headers = [Path("/usr/include") / name for name in ("asm-generic/ioctls.h", "linux/sockios.h", "linux/fs.h")]
    if not all(header.exists() for header in headers):
        pytest.skip("needs linux-libc-dev")
    source = "\n".join(header.read_text() for header in headers)
    known = {name: int(nr, 16) for name, nr in re.findall(r"#\s*define\s+(\w+)\s+(0x[0-9A-Fa-f]+)\b", source)}
    known |= {
        name: ord(char) << 8 | int(nr, 0) if char else int(kind, 0) << 8 | int(nr, 0)
        for name, char, kind, nr in re.findall(
            r"#\s*define\s+(\w+)\s+_IO\((?:'(.)'|(0x[0-9A-Fa-f]+)),\s*(0x[0-9A-Fa-f]+|\d+)\)", source
        )
    }
    ours = {name: request for request, (name, _) in ioctls.IOCTLS.items()}
    ours |= {name: request for request, name in ioctls.REFUSED.items()}
    checked = ours.keys() & known.keys()
    assert len(checked) > 90
    assert {name: ours[name] for name in checked} == {name: known[name] for name in checked}


def test_names_are_unique_and_agree() -> None:
    assert len({name for name, _ in ioctls.IOCTLS.values()}) == len(ioctls.IOCTLS)
    for request, name in ioctls.REFUSED.items():
        assert ioctls.name(request) == name
    tables = (ioctls.IOCTLS, ioctls.POINTING, ioctls.TRAILING)
    assert sum(map(len, tables)) == len(set().union(*tables))
    assert not any(ioctls.unserved(request) for table in tables for request in table)


@pytest.mark.parametrize(
    ("request_", "shape"),
    [
        (termios.TCGETS, (0, 36, False)),
        (termios.TCSETSW, (36, 0, False)),
        (termios.TIOCGWINSZ, (0, 8, False)),
        (termios.TIOCSPGRP, (4, 0, False)),
        (termios.TIOCSCTTY, (0, 0, True)),
        (termios.FIONREAD, (0, 4, False)),
        (termios.FIONBIO, (4, 0, False)),
        (termios.FIOCLEX, (0, 0, True)),
        (0x8915, (40, 40, False)),
        (0x80081272, (0, 8, False)),
        (0x80086601, (0, 4, False)),
        (0xC0105512, (16, 16, False)),
        (0x1234567840087602, (4, 0, False)),
        (0x0000ABCD, (0, 0, True)),
    ],
)
def test_shapes(request_: int, shape: tuple[int, int, bool]) -> None:
    assert ioctls.describe(request_) == shape


@given(st.integers(0, (1 << 64) - 1))
def test_every_request_has_a_shape(request: int) -> None:
    shape = ioctls.describe(request)
    assert 0 <= shape.in_bytes < 1 << 14 and 0 <= shape.out_bytes < 1 << 14
    assert not (shape.by_value and (shape.in_bytes or shape.out_bytes))


def test_a_terminal_writes_no_more_than_the_table_says() -> None:
    """The kernel fills exactly ``out_bytes`` of a buffer; two patterns below tell what it left from what it wrote."""
    libc = ctypes.CDLL(None, use_errno=True)
    master, slave = pty.openpty()
    try:
        for request in (termios.TCGETS, 0x5405, 0x802C542A, termios.TIOCGWINSZ, termios.TIOCOUTQ, termios.FIONREAD):
            ends = set()
            for pattern in (0x5A, 0xA5):
                buffer = ctypes.create_string_buffer(bytes([pattern]) * 128, 128)
                assert libc.ioctl(slave, ctypes.c_ulong(request), buffer) == 0, ioctls.name(request)
                ends.add(len(buffer.raw.rstrip(bytes([pattern]))))
            assert max(ends) == ioctls.describe(request).out_bytes, ioctls.name(request)
    finally:
        os.close(master)
        os.close(slave)


# --------------------------------------------------------------------------------------------------- signals and flags


def test_signals_are_those_of_the_c_library() -> None:
    assert list(signals.SIGNALS) == list(range(1, 32))
    for number, (name, _) in signals.SIGNALS.items():
        assert getattr(signal, name) == number
        assert getattr(signals, name, number) == number
    assert int(signal.SIGRTMAX) == signals.SIGRTMAX
    assert signals.name(34) == "SIGRTMIN+2" and signals.default(64) is signals.Default.TERM


def test_default_actions_are_the_kernel_s() -> None:
    """A child that sends itself the signal ends by it, stops, or goes on to exit(7)."""
    for number, (name, default) in signals.SIGNALS.items():
        child = os.fork()
        if child == 0:
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            if number not in (signals.SIGKILL, signals.SIGSTOP):
                signal.signal(number, signal.SIG_DFL)
            flagged = ctypes.CDLL(None).prctl(4, 0)  # PR_SET_DUMPABLE: no core file
            os.kill(os.getpid(), number)
            os._exit(7 if flagged == 0 else 8)
        _, status = os.waitpid(child, os.WUNTRACED)
        if os.WIFSTOPPED(status):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            found = {signals.Default.STOP}
        elif os.WIFSIGNALED(status):
            assert os.WTERMSIG(status) == number
            found = {signals.Default.TERM, signals.Default.CORE}
        else:
            assert os.waitstatus_to_exitcode(status) == 7
            found = {signals.Default.IGN, signals.Default.CONT}
        # An orphaned process group is never stopped by the terminal's three signals: they are ignored there.
        if number in (signals.SIGTSTP, signals.SIGTTIN, signals.SIGTTOU) and signals.Default.IGN in found:
            continue
        assert default in found, name


def test_structure_sizes() -> None:
    assert signals.SIGACTION.size == 32 and signals.STACK.size == 24


def test_flags_are_those_of_the_c_library() -> None:
    checked = 0
    for module in (os, mmap):
        for name in dir(flags):
            if name.startswith(("O_", "PROT_", "MAP_", "CLONE_", "W", "P_")) and hasattr(module, name):
                assert getattr(flags, name) == getattr(module, name), name
                checked += 1
    assert checked > 25


# ------------------------------------------------------------------------------------------------------------- messages

#: The bold lines of the manual's section 10.5, with X for what is filled in.
MANUAL = """\
system-call 'X' not supported under MOSIX
Shared memory (MAP_SHARED) not supported under MOSIX
Attaching SYSV shared-memory not supported under MOSIX
Prctl option #X not supported under MOSIX
IPC system-call #X not supported under MOSIX
Sysfs option 'X' not supported under MOSIX
Ioctl 0xX not supported under MOSIX
Mapping special character files not supported under MOSIX
getpriority/setpriority supported under MOSIX only for self
kernel does not support full ptrace options
failed allocating memory
illegal system call #X
sysfs detected an unreasonably long file-system name
WARNING: setrlimit(RLIMIT_NOFILE) ignored by MOSIX
File-descriptor #X is open (only 1024 files supported under MOSIX)
Failed reading memory-maps
Failed opening memory file
Kernel too secure to run MOSIX (by non-Super-User)
failed migrating to X: X
X is too busy to receive now
connection timed out
batch refused by other party (X)
Lost communication with X
Process killed while attempting to migrate from X to X
Un-freeze failed
Failed decompressing freeze file
Re-freezing because un-freeze failed
No space to freeze
Security Compromised
Authentication violation with X
Target node runs an incompatible version
X is a 32-bit program - will run in native Linux mode
remote-site (X) seems to be dead
Corrupt or improper checkpoint file
Could not restart with X: X
File-descriptor X was not open at the time of checkpoint!
Restoration failed: X
checkpoint file is compressed - but no /usr/bin/lzop here!
WARNING: no write-access in checkpoint directory!
Checkpoint file X: X
Could not restore file-descriptor X with 'X': X
Restoration failed
Line #X is too long or broken!
Commands-file changed: failed-commands file is incomplete!
Failed writing to failed-commands file!
Invalid private-directory name (X)
Disallowed private-directory name (X)
Too many private directories
Private directory name too long
Insufficient disk-space for private files
"""


def test_the_messages_are_the_manual_s() -> None:
    assert [re.sub(r"\{[^}]*\}", "X", which.format_string) for which in Text] == MANUAL.splitlines()


def test_messages_are_filled_in() -> None:
    assert text(Text.SYSCALL, name="ptrace") == "system-call 'ptrace' not supported under MOSIX"
    assert text(Text.IOCTL, number=0x8914) == "Ioctl 0x8914 not supported under MOSIX"
    assert text(Text.MIGRATE_FAILED, computer="node7", reason=Reason.NOT_IN_MAP) == (
        "failed migrating to node7: not in map"
    )
    with pytest.raises(KeyError):
        text(Text.LOST)


def test_reasons_are_found_again_by_their_text() -> None:
    for row in Reason:
        assert Reason.of(row) is row and Reason.of(f"{row} (details)") is row, row
        assert row.details(f"{row}details") == "details" and row.details("else") == "else"
        assert concerns(f"{row}, and more") is row.concerns
    assert Reason.of("it is forgotten") is None and concerns("it is forgotten") is Concerns.PROGRAM
    assert concerns(cpu.lacks(["avx2"], "")) is Concerns.TARGET
    assert [row for row in Reason if row.concerns is Concerns.TARGET] == [*MANUALS, Reason.PROCESSOR, Reason.CHANGES_FAST]


def test_every_message_takes_its_fields_and_gives_one_line() -> None:
    for which in Text:
        line = text(which, **dict.fromkeys(which.fields, 7))
        assert "\n" not in line and "{" not in line and line.count("7") >= len(which.fields)
        assert isinstance(which.where, Where)


# ------------------------------------------------------------------------------------------------------------ processor

CPUINFO = "processor\t: 0\nflags\t\t: fpu sse sse2 avx avx2 hypervisor pku ospke\n\nprocessor\t: 1\nflags\t\t: {}\n"


def test_features_are_common_to_all_processors_and_of_user_mode() -> None:
    line = cpu.describe(CPUINFO.format("fpu sse sse2 avx hypervisor"), 1000)
    assert line == "avx sse sse2 xcr0=7 sigframe=1000"


def test_features_of_this_node() -> None:
    line = cpu.features()
    assert line == cpu.features() and "\n" not in line
    assert {"sse2", "cmov", "fxsr"} <= set(line.split())
    assert cpu.missing(cpu.parse(line).flags, line) == []


def test_sigframe_comes_from_the_auxiliary_vector() -> None:
    assert cpu.sigframe_size(struct.pack("<6Q", 6, 4096, 51, 3376, 0, 0)) == 3376
    assert cpu.sigframe_size(struct.pack("<4Q", 6, 4096, 0, 0)) == 0


@given(st.sets(st.sampled_from(sorted(cpu.USER_FLAGS))), st.sets(st.sampled_from(sorted(cpu.USER_FLAGS))))
def test_nothing_is_missing_where_all_of_it_is(used: set[str], more: set[str]) -> None:
    one = cpu.describe("flags\t: " + " ".join(used), 0)
    both = cpu.describe("flags\t: " + " ".join(used | more), 0)
    assert cpu.missing(used, both) == []
    assert set(cpu.missing(more, one)) == more - used
    assert cpu.parse(cpu.union(one, both)).flags == used | more == cpu.parse(cpu.union(both, one)).flags
