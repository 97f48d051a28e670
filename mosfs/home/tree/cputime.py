"""Completing answers about CPU time: those of deputies on their way to the body, and those that a program gets at home."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from mosfs.abi.numbers import SYS_CLOCK_GETTIME, SYS_WAIT4
from mosfs.calls import cputime
from mosfs.calls.cputime import Totals, Used
from mosfs.calls.request import Request
from mosfs.home.process.program import Program
from mosfs.migrate.capture import signed
from mosfs.migrate.image import ImageMeta
from mosfs.native import ffi, lib
from mosfs.native.registers import Registers
from mosfs.trace.task import CONT, SYSCALL
from mosfs.wire.messages import Total

#: Children that nobody waits for are forgotten when there are so many.
MOST_DEAD = 1000


class CpuTime:
    """``programs`` is the tracer's table."""

    def __init__(self, programs: dict[int, Program]) -> None:
        self.programs = programs

    def total(self, p: Program) -> Total | None:
        """Of a process that has ended, as a parent outside of the tree would be told if it had never left; None when nothing was
        used away, so that the kernel tells the same."""
        away = p.cpu.used.plus(p.cpu.of_children)
        if not any(away) or p.kin.leader:
            return None
        here = ffi.new("unsigned long[2]")
        lib.mos_usage(p.pid, here)
        return Total(here[0] / 1e6, here[1] / 1e6, away.user / 1e9, away.system / 1e9)

    def ended(self, p: Program) -> None:
        """What ``p`` and its children used is its parent's, if that is still there (getrusage(2)). A thread is no child."""
        if p.kin.leader:
            return
        parent = self.programs.get(p.kin.parent)
        total = p.cpu.used.plus(p.cpu.of_children)
        if parent is None or not any(total):
            return
        parent.cpu.of_children = parent.cpu.of_children.plus(total)
        parent.look_again()
        if len(parent.cpu.dead) >= MOST_DEAD:
            parent.cpu.dead.clear()
        parent.cpu.dead[p.pid] = total

    def thread(self, p: Program) -> Used:
        """What this thread alone has used away. A new one has used nothing."""
        return p.cpu.threads.get(p.pid, Used() if p.kin.leader else p.cpu.used)

    def leaves(self, p: Program, meta: ImageMeta) -> None:
        """In an image that leaves home, with its threads: what it has used on other nodes, in all and each of them. A host that
        is told so tells of each thread, too (THREAD_TIME)."""
        if p.process.several:
            p.cpu.threads.setdefault(p.pid, p.cpu.used)
        meta.used, meta.own_used = p.cpu.used, p.cpu.threads.get(p.pid)
        for thread in meta.threads:
            thread.used = p.cpu.threads.get(thread.tid, Used())

    def came_home(self, p: Program, meta: ImageMeta) -> None:
        """What it has used on other nodes, and its threads, by an image that has come home."""
        p.cpu.used = Used(*meta.used)
        first = {} if meta.own_used is None else {p.pid: Used(*meta.own_used)}
        p.cpu.threads = {**first, **{thread.tid: Used(*thread.used) for thread in meta.threads if first}}

    def _account(self, p: Program, nr: int, args: tuple[int, ...], result: int, read: Callable[[int], bytes]) -> Totals:
        waited = Used()
        if nr in cputime.WAITS:
            pid, again = cputime.child(nr, args, result, read)
            waited = p.cpu.dead.get(pid, Used()) if again else p.cpu.dead.pop(pid, Used())
        other = self.programs.get(cputime.clock_pid(args[0])) if nr == SYS_CLOCK_GETTIME else None
        own = self.thread(other or p) if cputime.asked_thread(nr, args) >= 0 else (other or p).cpu.used
        return Totals(own, p.cpu.of_children, waited)

    def outs(self, p: Program, request: Request, result: int, outs: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
        """What a deputy's call brings back, completed."""
        nr = request.nr
        if nr not in cputime.CALLS or result < 0:
            return outs
        index = cputime.place(nr, request.args)
        wanted = request.args[index] if index >= 0 else 0
        account = self._account(p, nr, request.args, result, lambda addr: dict(outs).get(addr, bytes(cputime.SI_PID_SIZE)))
        size = cputime.size(nr)
        return [
            (at, cputime.completed(nr, request.args, data, account) + data[size:] if at == wanted else data) for at, data in outs
        ]

    def watch(self, p: Program, nr: int, args: tuple[int, ...]) -> None:
        """At the entry of such a call at home: stop at its end, if there may be something to add."""
        about_others = nr in cputime.WAITS or (nr == SYS_CLOCK_GETTIME and cputime.clock_pid(args[0]) > 0)
        index = cputime.place(nr, args)
        p.call.watched = bool((about_others or any(p.cpu.used) or any(p.cpu.of_children)) and index >= 0 and args[index])
        p.task.cont(request=SYSCALL if p.call.watched or p.reports.call is not None else CONT)

    def complete(self, p: Program, regs: Registers) -> None:
        """At the end of a watched call, add what was used away to its answer."""
        p.call.watched = False
        nr, result = signed(regs.orig_rax), signed(regs.rax)
        args = (regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9)
        index = cputime.place(nr, args)
        if result < 0 or index < 0 or not args[index] or (nr == SYS_WAIT4 and not result):
            return
        with suppress(OSError):  # another thread may have unmapped it meanwhile
            account = self._account(p, nr, args, result, lambda addr: p.task.read(addr, cputime.SI_PID_SIZE))
            p.task.write(args[index], cputime.completed(nr, args, p.task.read(args[index], cputime.size(nr)), account))
