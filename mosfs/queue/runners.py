"""The runners of a queue (native/runner.c): started as they are needed, each with lines of its own."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NoReturn

import mosfs

#: The program that they are.
RUNNER = os.path.join(os.path.dirname(os.path.abspath(mosfs.__file__)), "native", "runner")
#: Runners of a queue at most; with more lines at a time than that each has several.
MOST = 64
#: Bytes of what a runner says, and of a packet to it: a line, and a little.
SAID, PACKET = 4096, 1 << 18
#: What the process that becomes a runner says when it cannot.
CANNOT = b"X "

#: Become a runner of this channel; returns never, or says why not by an exception whose text is for the user.
Become = Callable[[socket.socket], NoReturn]


@dataclass(slots=True, eq=False)
class Runner:
    """``lines``: numbers of those that it runs."""

    pid: int
    channel: socket.socket
    lines: set[int] = field(default_factory=set)


@dataclass(slots=True)
class Runners:
    """``message``: what each line asks of mosd before it begins: socket, NUL, request; b"" for nothing."""

    become: Become
    most: int
    message: bytes = b""
    all: dict[int, Runner] = field(default_factory=dict)  # by descriptor

    def choose(self) -> Runner:
        """Who gets the next line: an idle one, a new one, or the one with the fewest. OSError when none can be made."""
        best = min(self.all.values(), key=lambda runner: len(runner.lines), default=None)
        if best is not None and (not best.lines or len(self.all) >= self.most):
            return best
        try:
            return self._start()
        except OSError:
            if best is None:
                raise
            self.most = len(self.all)
            return best

    def _start(self) -> Runner:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, PACKET)
        try:
            pid = os.fork()
        except OSError:
            ours.close()
            theirs.close()
            raise
        if pid == 0:
            self._child(theirs)
        theirs.close()
        runner = Runner(pid, ours)
        self.all[ours.fileno()] = runner
        if self.message:
            ours.send(b"A " + self.message)
        return runner

    def _child(self, channel: socket.socket) -> NoReturn:
        try:
            os.setpgid(0, 0)
            self.become(channel)
        except BaseException as error:
            with suppress(OSError):
                channel.send(CANNOT + str(error).encode(errors="surrogateescape"))
        finally:
            os._exit(125)

    def gone(self, runner: Runner) -> None:
        """It has ended: forget it."""
        self.all.pop(runner.channel.fileno(), None)
        runner.channel.close()
        with suppress(ChildProcessError):
            os.waitpid(runner.pid, 0)

    def signal(self, number: int, runner: Runner, sig: int) -> None:
        """Signal all processes of a line, unless it has ended."""
        with suppress(OSError):
            runner.channel.send(b"K %d %d" % (number, sig))

    def close(self) -> None:
        """Let the runners end when their lines have; wait for those that have none."""
        idle = [runner for runner in self.all.values() if not runner.lines]
        for runner in self.all.values():
            runner.channel.close()
        for runner in idle:
            with suppress(ChildProcessError):
                os.waitpid(runner.pid, 0)
        self.all.clear()


def is_runner(pid: int) -> bool:
    """Is the process one, as far as its user lets us see that?"""
    try:
        return os.path.samefile(f"/proc/{pid}/exe", RUNNER)
    except PermissionError:
        return True
    except OSError:
        return False


def send_line(runner: Runner, number: int, text: bytes, beside: tuple[int, int] | None) -> None:
    """OSError when it has ended."""
    data = b"R %d\n%s" % (number, text)
    if beside is None:
        runner.channel.send(data)
    else:
        socket.send_fds(runner.channel, [data], beside)
    runner.lines.add(number)
