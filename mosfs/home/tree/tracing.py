"""Telling the calls of programs to those who asked for it: ``mosrun --trace``, or MOSIX_TRACE=1 in mosd's environment.

A call is told when it has returned: `entered` and `returned` are a pair, between which a program may be moved.
"""

from __future__ import annotations

import os
from functools import partial

from mosfs.abi.args import Kind
from mosfs.abi.syscalls import BY_NR
from mosfs.calls import show
from mosfs.home.ports import Tree
from mosfs.home.process.calltrace import PATIENCE, CallTrace
from mosfs.home.process.program import Program
from mosfs.trace.caller import Caller, as_user, take_from


class Traces:
    """``everything`` is where programs are told that nobody asked for, None for nowhere."""

    def __init__(self, tracer: Tree) -> None:
        self.tracer = tracer
        self._open: list[CallTrace] = []
        self.everything: CallTrace | None = None

    def begin(self) -> None:
        if os.environ.get("MOSIX_TRACE"):
            self.everything = self._begin(CallTrace(os.dup(2)))

    def of(self, asker: Caller, fd: int) -> CallTrace | None:
        """A trace to the descriptor of a launcher, written to with its user's rights; None for -1."""
        copy = take_from(asker, fd) if fd >= 0 else -1
        return None if copy < 0 else self._begin(CallTrace(copy, partial(as_user, asker.uid, asker.gid)))

    def _begin(self, trace: CallTrace) -> CallTrace:
        self.tracer.pump.pass_opens = 0
        self._open.append(trace)
        return trace

    def flush(self) -> None:
        for trace in self._open:
            trace.flush()

    def end(self) -> None:
        """Readers that are late get a last chance."""
        for trace in self._open:
            trace.flush(PATIENCE)

    def at_home(self, p: Program, nr: int, args: tuple[int, ...]) -> None:
        """`entered` at home: of memory, strings are read."""
        if p.reports.trace is None:
            return
        row = BY_NR.get(nr)

        def read(index: int) -> bytes | None:
            try:
                return p.task.read_string(args[index]) if row is not None and row.args[index].kind is Kind.STR else None
            except OSError:
                return None

        self.entered(p, nr, args, read)

    def entered(self, p: Program, nr: int, args: tuple[int, ...], memory: show.Memory) -> None:
        """The program is in a call that we see."""
        if p.reports.trace is not None:
            self.returned(p, None, "?")
            p.reports.call = nr, show.call(nr, args, memory)

    def returned(self, p: Program, result: int | None, server: str) -> None:
        """The call was served, by ``server``; ``result`` None: nobody knows it."""
        if p.reports.trace is not None and p.reports.call is not None:
            nr, said = p.reports.call
            p.reports.call = None
            p.reports.trace.call(p.pid, self._place(p), said, nr, result, server)

    def told(self, p: Program, said: str) -> None:
        """Something else happened to the program."""
        if p.reports.trace is not None:
            p.reports.trace.line(p.pid, self._place(p), said)

    def _place(self, p: Program) -> str:
        if not p.away or p.link is None:
            return "home"
        return str(self.tracer.mosd.config.userview.get(p.link.ip, p.link.ip))
