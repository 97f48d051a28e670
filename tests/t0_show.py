"""Calls as text, and the descriptor to which they are told."""

from __future__ import annotations

import os
import re

import pytest

from mosfs.abi.syscalls import BY_NAME, BY_NR
from mosfs.calls import show
from mosfs.home.calltrace import MAX_WAITING, CallTrace


def call(name: str, *args: int, **memory: bytes) -> str:
    known = {int(key.removeprefix("a")): data for key, data in memory.items()}
    return show.call(BY_NAME[name].nr, (*args, *[0] * (6 - len(args))), known.get)


@pytest.mark.parametrize(("text", "expected"), [
    (call("openat", 2**32 - 100, 0x1000, 0x80241, 0o644, a1=b"/tmp/x\0"), 'openat(AT_FDCWD, "/tmp/x", 0x80241, 0644)'),
    (call("openat", 3, 0x1000, 0, 0), "openat(3, 0x1000, 0, 0)"),
    (call("write", 1, 0x1000, 5, a1=b'a"b\n\xff'), r'write(1, "a\"b\n\xff", 5)'),
    (call("write", 1, 0x1000, 100, a1=b"x" * 100), f'write(1, "{"x" * show.SHOWN}"..., 100)'),
    (call("write", 1, 0x1000, 1, a1=b"'"), 'write(1, "\'", 1)'),
    (call("write", 1, 0x1000, 2, a1=b"'\""), r'''write(1, "\'\"", 2)'''),
    (call("kill", 2**64 - 1, 9), "kill(-1, SIGKILL)"),
    (call("mmap", 0, 4096, 3, 0x22, 2**32 - 1, 0), "mmap(0, 4096, 3, 0x22, -1, 0)"),
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


def test_the_reader_is_gone() -> None:
    reader, writer = os.pipe()
    trace = CallTrace(writer)
    os.close(reader)
    trace.line(1, "home", "x")
    assert trace.fd == -1
    trace.line(1, "home", "x")
