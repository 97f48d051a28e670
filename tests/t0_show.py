"""Calls as text, and the descriptor to which they are told."""

from __future__ import annotations

import os
import re
import signal
import termios

import pytest

from mosfs.abi.syscalls import BY_NAME, BY_NR
from mosfs.calls import flag_names, show
from mosfs.home.process.calltrace import MAX_WAITING, CallTrace, without_waiting
from mosfs.native import lib
from mosfs.wire.files import write_all


def call(name: str, *args: int, **memory: bytes) -> str:
    known = {int(key.removeprefix("a")): data for key, data in memory.items()}
    return show.call(BY_NAME[name].nr, (*args, *[0] * (6 - len(args))), known.get)


@pytest.mark.parametrize(("text", "expected"), [
    (call("openat", 2**32 - 100, 0x1000, 0x80241, 0o644, a1=b"/tmp/x\0"),
     'openat(AT_FDCWD, "/tmp/x", O_WRONLY|O_CREAT|O_TRUNC|O_CLOEXEC, 0644)'),
    (call("openat", 3, 0x1000, 0, 0), "openat(3, 0x1000, O_RDONLY, 0)"),
    (call("lseek", 3, 2**64 - 60, 1), "lseek(3, -60, SEEK_CUR)"),
    (call("lseek", 3, 2**63 - 1, 9), "lseek(3, 9223372036854775807, 9)"),
    (call("mmap", 0x7000, 4096, 0, 0x812, 3, 0), "mmap(0x7000, 4096, PROT_NONE, MAP_PRIVATE|MAP_FIXED|MAP_DENYWRITE, 3, 0)"),
    (call("open", 0x1000, 0x40000102), "open(0x1000, O_RDWR|O_NOCTTY|0x40000000, 0)"),
    (call("open", 0x1000, os.O_SYNC), "open(0x1000, O_RDONLY|O_SYNC, 0)"),
    (call("clone", 0x1200011), "clone(SIGCHLD|CLONE_CHILD_CLEARTID|CLONE_CHILD_SETTID, 0, 0, 0, 0)"),
    (call("access", 0x1000, 0), "access(0x1000, F_OK)"), (call("access", 0x1000, 5), "access(0x1000, X_OK|R_OK)"),
    (call("socket", 1, 0x80001), "socket(AF_UNIX, SOCK_STREAM|SOCK_CLOEXEC, 0)"),
    (call("wait4", 2**64 - 1, 0, 3), "wait4(-1, 0, WNOHANG|WUNTRACED, 0)"),
    (call("prlimit64", 0, 7), "prlimit64(0, RLIMIT_NOFILE, 0, 0)"),
    (call("madvise", 0, 4096, 4), "madvise(0, 4096, MADV_DONTNEED)"),
    (show.result(12, 0x55000), "0x55000"), (show.result(8, -22), "-1 EINVAL"),
    (call("write", 1, 0x1000, 5, a1=b'a"b\n\xff'), r'write(1, "a\"b\n\xff", 5)'),
    (call("write", 1, 0x1000, 100, a1=b"x" * 100), f'write(1, "{"x" * show.SHOWN}"..., 100)'),
    (call("write", 1, 0x1000, 1, a1=b"'"), 'write(1, "\'", 1)'),
    (call("write", 1, 0x1000, 2, a1=b"'\""), r'''write(1, "\'\"", 2)'''),
    (call("kill", 2**64 - 1, 9), "kill(-1, SIGKILL)"),
    (call("mmap", 0, 4096, 3, 0x22, 2**32 - 1, 0), "mmap(0, 4096, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0)"),
    (call("getpid"), "getpid()"),
    (show.call(999, (1, 2, 0, 0, 0, 0), lambda _: None), "#999(0x1, 0x2, 0x0, 0x0, 0x0, 0x0)"),
    (show.program(59, b"/bin/ls", [b"ls", b"-l"]), 'execve("/bin/ls", ["ls", "-l"])'),
    (show.result(2, -2), "-1 ENOENT"), (show.result(0, 5), "5"), (show.result(9, 0x7F0000000000), "0x7f0000000000"),
    (show.result(2, -4097), "-4097"),
])  # fmt: skip
def test_as_text(text: str, expected: str) -> None:
    assert text == expected


@pytest.mark.parametrize("row", BY_NR.values(), ids=lambda row: row.name)
def test_every_call_has_its_name_and_arguments(row: object) -> None:
    number = next(nr for nr, known in BY_NR.items() if known is row)
    for values in ((0,) * 6, (2**64 - 1,) * 6, (0x1000,) * 6):
        for memory in (None, b"", b"x\0y", bytes(range(256))):
            assert re.fullmatch(r"\w+\(.*\)", show.call(number, values, lambda _, memory=memory: memory), re.DOTALL)


@pytest.mark.parametrize("where", flag_names.ARGUMENTS, ids=str)
def test_names_belong_to_arguments_that_are_numbers(where: tuple[str, int]) -> None:
    """And whatever is in them is shown: the names and the rest make up the number again."""
    name, index = where
    assert BY_NAME[name].args[index].is_scalar
    row = flag_names.ARGUMENTS[where]
    known = {text: value for table in (row.choices, row.bits) for value, text in table.items()}
    for value in (*known.values(), 0, 1, 0x7FFFFFFF, 0xFFFFFFFF, sum(row.bits)):
        words = row.text(value).split("|")
        parts = [known[word] if word in known else int(word, 0) for word in words]
        assert value == (sum(parts) if row.bits else parts[0])


def test_lines() -> None:
    reader, writer = os.pipe()
    trace = CallTrace(writer)
    trace.call(7, "home", call("getpid"), 39, 7, "home")
    trace.call(7, "2", call("pause"), 34, None, "not back")
    trace.close()
    with open(reader, encoding="ascii") as lines:
        said = [re.sub(r"^ +\d+\.\d{6}", "T", line) for line in lines]
    assert said == ["T 7 home getpid() = 7  [home]\n", "T 7 2 pause() = ?  [not back]\n"]


def test_nobody_reads() -> None:
    """The tracer goes on; what did not fit is counted when somebody reads at last."""
    reader, writer = os.pipe()
    trace = CallTrace(writer)
    line = "x" * 1000
    for _ in range(2 * MAX_WAITING // len(line)):
        trace.line(1, "home", line)
    os.set_blocking(reader, False)
    got = bytearray()
    while True:
        try:
            part = os.read(reader, 1 << 16)
        except BlockingIOError:
            break
        got += part
        trace.flush()
    trace.close()
    os.close(reader)
    last = got.decode().splitlines()[-1]
    dropped = re.fullmatch(r"\.\.\. (\d+) lines were not read in time", last)
    assert dropped and got.count(b"\n") - 1 + int(dropped[1]) == 2 * MAX_WAITING // len(line)


@pytest.mark.parametrize("stopped", [False, True])
def test_a_terminal_that_nobody_reads(stopped: bool) -> None:
    """poll(2) says that it can be written as long as there is room for one byte; after Ctrl-S always."""
    reader, writer = os.openpty()
    shared = os.dup(writer)
    trace = CallTrace(writer)
    if stopped:
        termios.tcflow(shared, termios.TCOOFF)
    for _ in range(300):
        trace.line(1, "home", "x" * 100)
    if stopped:
        termios.tcflow(shared, termios.TCOON)
        trace.flush()
    assert os.get_blocking(shared), "others use it, too"
    assert os.read(reader, 100).startswith(b" ")
    trace.close()
    os.close(shared)
    os.close(reader)


def test_what_is_open_for_reading_only_stays_so() -> None:
    reader, writer = os.pipe()
    assert without_waiting(reader) == reader
    os.close(reader)
    os.close(writer)


def test_what_waits_for_a_reader_holds_nobody_up() -> None:
    """poll(2) calls an eventfd(2) writable, which waits for a reader when the text, as a number, is too much for it. A tick ends
    each such write (`mos_patience`), and after some of them there is no trace."""
    lib.mos_patience(30)
    try:
        trace = CallTrace(os.eventfd(0))
        for _ in range(100):
            trace.line(1, "home", "x" * 8)
        assert trace.fd == -1
    finally:
        lib.mos_patience(0)


def test_the_reader_is_gone() -> None:
    reader, writer = os.pipe()
    trace = CallTrace(writer)
    os.close(reader)
    trace.line(1, "home", "x")
    assert trace.fd == -1
    trace.line(1, "home", "x")


def test_what_is_never_written_ends_the_trace() -> None:
    """Memory of a process that has ended takes nothing, and says no error."""
    child = os.fork()
    if child == 0:
        os.read(os.pipe()[0], 1)
    memory = os.open(f"/proc/{child}/mem", os.O_RDWR)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    trace = CallTrace(os.dup(memory))
    trace.line(1, "home", "getpid() = 1")
    assert trace.fd == -1
    with pytest.raises(OSError, match="Input/output error"):
        write_all(memory, b"text")
    os.close(memory)
