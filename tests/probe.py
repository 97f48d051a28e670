"""A program that makes the system calls it is told to: one expression a line on stdin, its value's repr on stdout.

`Probe` starts it on a lab, at home or away, and asks.
"""

from __future__ import annotations

import subprocess
import sys
from types import TracebackType

from tests.cluster import Lab

SOURCE = r"""
import ctypes, os, signal, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
kept = []
def call(nr, *args):
    # the raw result: -errno for errors; text becomes a pointer to it
    words = []
    for a in args:
        if isinstance(a, (str, bytes)):
            kept.append(ctypes.create_string_buffer(os.fsencode(a)))
            a = ctypes.addressof(kept[-1])
        words.append(ctypes.c_ulong(a & 0xFFFFFFFFFFFFFFFF))
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(nr), *words)
    kept.clear()
    return -ctypes.get_errno() if result == -1 and ctypes.get_errno() else result
def words(*values):
    return b"".join(v.to_bytes(8, "little", signed=v < 0) for v in values)
print("READY", flush=True)
for line in sys.stdin:
    try:
        value = eval(line)
    except Exception as error:
        value = error
    print(repr(value), flush=True)
"""


class Probe:
    """The program under ``mosrun OPTIONS`` on node 1 (after the words ``before``)."""

    def __init__(self, nodes: Lab, *options: str, before: tuple[str, ...] = (), after: tuple[str, ...] = ()) -> None:
        pipe = subprocess.PIPE
        command = [*before, "mosrun", *options, *after, sys.executable, "-c", SOURCE]
        self.process = nodes.start(1, *command, stdin=pipe, stdout=pipe, stderr=pipe)
        assert self.process.stdin and self.process.stdout and self.process.stderr
        self.stdin, self.stdout, self.stderr = self.process.stdin, self.process.stdout, self.process.stderr
        assert self.stdout.readline() == b"READY\n", self.stderr.read()

    @property
    def pid(self) -> int:
        return self.process.pid

    def send(self, expression: str) -> None:
        self.stdin.write(f"{expression}\n".encode())
        self.stdin.flush()

    def ask(self, expression: str) -> str:
        """The repr of its value; "" when the program died of it."""
        self.send(expression)
        return self.stdout.readline().decode().rstrip("\n")

    def number(self, expression: str) -> int:
        return int(self.ask(expression))

    def end(self) -> tuple[int, str]:
        """Close its stdin: how it ended, and all that is left of its stderr."""
        self.stdin.close()
        said = self.stderr.read().decode(errors="replace")
        return self.process.wait(), said

    def __enter__(self) -> Probe:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.process.kill()
        self.process.wait()
