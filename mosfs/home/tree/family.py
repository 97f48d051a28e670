"""The programs of a tree as a family: who is known, who is born, who executes another program, and who has ended."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

from mosfs.abi.reasons import Reason
from mosfs.calls import partial
from mosfs.calls.cputime import Used
from mosfs.home.ports import Tree
from mosfs.home.process.processor import Demand
from mosfs.home.process.program import Place, Program
from mosfs.home.process.settings import of_child
from mosfs.migrate.properties import Said
from mosfs.native import ffi, lib
from mosfs.trace import caller, embark
from mosfs.trace.proc import begun, owner_of, tgid_of, words_of
from mosfs.trace.stops import Stop
from mosfs.trace.task import O_SUSPEND_SECCOMP, OPTIONS, Task, TaskGone
from mosfs.wire.asked import Settings
from mosfs.wire.channel import ChannelLost
from mosfs.wire.faults import Birth, fault

_CAP_SYS_ADMIN = 21

HAS_THREADS = f"{Reason.STAYS_HOME}{Reason.THREADS}"
HAS_FILTER = f"{Reason.STAYS_HOME}has a seccomp filter"
#: Wait status of a new child's first stop (ptrace(2), PTRACE_EVENT_STOP).
FIRST_STOP = 128 << 16 | signal.SIGTRAP << 8 | 0x7F


class Family:
    """``begun``: there has been a program."""

    def __init__(self, tracer: Tree) -> None:
        self.tracer = tracer
        self.begun = False

    def process(self, p: Program) -> Program:
        """The process that ``p`` is a thread of: settings, and what people see, are its."""
        return self.tracer.programs.get(p.kin.leader, p)

    def adopt(self, task: Task, settings: Settings, parent: Program | None = None) -> Program:
        try:
            uid = owner_of(task.pid)
        except TaskGone:
            if parent is None:
                raise
            uid = parent.uid  # it has ended since; its bookkeeping follows
        process = parent if parent is None else self.process(parent)
        demand = Demand(self.tracer.features) if process is None else process.demand.copy()
        p = Program(task, uid, settings if process is None else of_child(process.settings), demand)
        if parent is not None and process is not None:
            p.place, p.link = parent.place, parent.link
            p.reports.trace = parent.reports.trace
            p.travel.nmigs, p.travel.sigmig, p.travel.bound = process.travel.nmigs, process.travel.sigmig, process.travel.bound
            p.kin.parent, p.comm = process.pid, parent.comm
            p.process = parent.process.of_child()
            p.filters.threadless = parent.filters.threadless
            lib.mos_filtered(task.pid, p.process.filtered)
        else:
            p.reports.trace = self.tracer.traces.everything
            p.process.said = Said(calls=1, guards=True)  # it may have said anything before
        self.tracer.programs[task.pid] = p
        self.begun = True
        return p

    def adopt_thread(self, task: Task, p: Program) -> Program:
        """The program of ``task``, a new thread of the process of ``p``."""
        q = self.adopt(task, p.settings, parent=p)
        self._new_thread(q, p)
        return q

    def _new_thread(self, q: Program, p: Program) -> None:
        """``q`` is a new thread of the process of ``p``: that stays at home until its next exec under --no-threads."""
        process = self.process(p)
        q.kin.leader = q.task.group = process.pid
        taken = {self.tracer.programs[tid].task.carries_at for tid in process.kin.threads if tid in self.tracer.programs}
        q.task.carries_at = next((at for at in map(partial.place, range(1, partial.PLACES + 1)) if at not in taken), 0)
        q.process = process.process
        process.kin.threads.add(q.pid)
        q.cpu = process.cpu
        self._has_threads(process)

    def _has_threads(self, process: Program) -> None:
        """The process has several threads from now on, or has had."""
        process.process.several = True
        if not process.settings.allows_threads() and not process.travel.bound:
            process.travel.bound = HAS_THREADS
            self.tracer.mosd.announce(process)

    def register(self, q: Program) -> None:
        """``q`` is known from now on. Its first stop, even its end, may have come before its parent's event."""
        early = lib.mos_early(q.pid)
        lib.mos_plain(q.pid, 0)
        if early == lib.MOS_HALTS:
            with suppress(TaskGone):  # its end follows
                q.task.interrupt()
                q.task.cont()
        elif early:
            self.tracer.stops.task_event(q.pid, FIRST_STOP if early == lib.MOS_STANDS else signal.SIGKILL)

    def over(self) -> bool:
        """Whether the tree is empty: nobody is known, nor does the kernel know of a process that waits for us."""
        if self.tracer.programs or not self.begun:
            return False
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WSTOPPED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return True
        self.end_unclaimed(0)
        return False

    def end_unclaimed(self, turns: int = 2) -> None:
        """A process whose parent was killed before it could tell of it has not run, and never will: nobody would serve its calls.
        ``turns``: so often it has been seen here."""
        pids = ffi.new("int[]", lib.MOS_EARLIES)
        for pid in pids[0 : lib.mos_unclaimed(self.tracer.pump, turns, pids)]:
            with suppress(TaskGone):
                [(parent,)] = words_of(pid, "PPid")
                if int(parent) not in self.tracer.programs:
                    self.tracer.mosd.log(f"pid={pid} ends before it has run: its parent was killed in its fork")
                    os.kill(pid, signal.SIGKILL)  # it is ours until we see its end, so the number is no other's

    def forked(self, p: Program, stop: Stop) -> None:
        """``p``, at home, has made a process or a thread."""
        fault(Birth.AT_HOME, None, p.comm, p.pid)
        child = p.task.event_message()
        self.tracer.traces.returned(p, child, "home")
        q = self.adopt(Task(child), p.settings, parent=p)
        thread = stop is Stop.CLONE and tgid_of(child) != child
        try:
            if thread:
                self._new_thread(q, p)
            else:
                q.post.disinherits = self.tracer.mails.inherited(p, q)
                self._born(p, q, vfork=stop is Stop.VFORK)
            self.tracer.private.forked(p, q, thread=thread)
            p.task.cont()
        finally:  # its parent may have been killed at any moment
            self.register(q)

    def _born(self, p: Program, q: Program, *, vfork: bool) -> None:
        """``q`` is a new process made by ``p``."""
        if vfork:
            p.kin.vforking += 1
            q.kin.vfork_parent = p.pid
        if q.travel.bound == HAS_THREADS:  # a child has only the thread that made it
            q.travel.bound = ""
        self.tracer.mosd.announce(q)

    def write_down(self) -> None:
        """The bookkeeping of what has gone on at home without us (native/home.c)."""
        notes = [(note.what, note.pid, note.other) for note in self.tracer.pump.notes[0 : self.tracer.pump.nnotes]]
        self.tracer.pump.nnotes = 0
        for what, pid, other in notes:
            p = self.tracer.programs.get(pid)
            if p is None:  # cannot happen, and would be no reason to end a tree
                self.tracer.mosd.log(f"pid={pid} is not known, note {what} ({other})", 40)
                continue
            if what == lib.MOS_ENDED:
                self.forget(p)
                continue
            with self.tracer.containment.of(p):
                if what == lib.MOS_FIRST_THREAD:
                    self._has_threads(self.process(p))
                elif what == lib.MOS_SAID:
                    p.process.said.calls += 1
                elif what == lib.MOS_THREAD:
                    self.adopt_thread(Task(other), p)
                else:
                    self._born(p, self.adopt(Task(other), p.settings, parent=p), vfork=what == lib.MOS_VFORKED)

    def forget(self, p: Program, status: int | None = None) -> None:
        """The process is gone (``status`` as in `ProcGone`): its parent's memory is its own again, its body is dropped."""
        self.tracer.programs.pop(p.pid, None)
        lib.mos_unknown(p.pid)
        tracer = self.tracer
        total = tracer.cputime.total(p)  # before what it has used becomes its parent's
        tracer.containment.each(p, (
            lambda p: tracer.traces.returned(p, None, "not back"), self.release_vfork, tracer.mails.gone, tracer.requests.forget,
            tracer.lanes.forget, tracer.births.gone, tracer.cputime.ended, tracer.moves.gone, tracer.checkpoints.gone,
            tracer.freezing.gone, tracer.preemption.gone, tracer.outliving.home, tracer.private.forget,
        ))  # fmt: skip
        if p.kin.leader:
            self.process(p).kin.threads.discard(p.pid)
            p.cpu.threads.pop(p.pid, None)
        else:
            self.tracer.mosd.ended(p, total, status)

    def release_vfork(self, p: Program) -> None:
        parent, link = self.tracer.programs.get(p.kin.vfork_parent), p.kin.lends
        p.kin.vfork_parent, p.kin.lends = 0, None
        if link is not None and id(link) in self.tracer.hosts.channels:
            self.tracer.hosts.drop(p, link)
        if parent is not None and parent.kin.vforking:
            parent.kin.vforking -= 1
            self.tracer.moves.again(parent)

    def exec_done(self, p: Program) -> None:
        """PTRACE_EVENT_EXEC: a new program in the same process."""
        first = p.place is Place.STARTING
        self._alone(p)
        self.release_vfork(p)
        self.tracer.copying.memory_gone(p)
        p.travel.bound, p.travel.why = HAS_FILTER if p.process.filtered else "", ""
        p.demand = Demand(self.tracer.features)
        p.process.executed()
        p.body.files = {}
        p.body.sleeping, p.call.wait = None, None
        p.body.infos.clear()
        p.cpu.owing.clear()
        p.suspended = False
        self.tracer.checkpoints.exec_done(p)
        self.tracer.mails.exec_done(p)
        p.comm, p.uid, ignored = begun(p.pid)
        apart = caller.apart(p.pid)
        self._renew(p, apart=apart)
        self.tracer.traces.returned(p, 0, "home")
        if p.pending.native:
            p.process.native, p.pending.native = True, False
        p.place = Place.HOME
        self.tracer.cputimers.limit_changed(p)
        page = self.tracer.clocks.first_page()
        files = self._fetch_private(p)
        try:
            if apart:
                raise embark.CannotEmbark(caller.APART)
            lib.mos_hold(self.tracer.pump, p.pid)  # many stops follow while libraries are loaded
            embark.embark(p.task, page, first=first, privileged=first and _has_sys_admin(p.pid), ignored=ignored)
            p.process.clock_page = page
            if first:
                self.tracer.statistics.began(p)
            self.tracer.filters.settled(p)
            self.tracer.private.embarked(p, files)
        except embark.CannotEmbark as error:
            p.process.native = True
            p.travel.bound = f"{Reason.CANNOT_MIGRATE}{error}"
        if p.process.native:
            self.make_native(p)
        self.tracer.private.exec_done(p)
        self.tracer.mosd.announce(p)
        start = p.pending.restart or (p.pending.start if not p.process.native else None)
        p.pending.start = p.pending.restart = None
        if start is not None:
            p.suspended = True
            start(p)
        elif not self.tracer.occasions.resume_away(p):
            p.task.cont()

    def _renew(self, p: Program, *, apart: bool) -> None:
        """What mosrun or mosnative asked holds from now on, but never for a program with other rights than who asked."""
        if not apart and p.pending.settings is not None:
            p.settings = p.pending.settings
            self.tracer.checkpoints.configure(p)
        if apart or p.pending.trace is not None:
            p.reports.trace = p.pending.trace if not apart else None
        p.pending.settings = p.pending.trace = None

    def _alone(self, p: Program) -> None:
        """exec: the other threads are gone, and whichever made it has the process's ID now (ptrace(2), execve under ptrace)."""
        made_by = p.task.event_message() if p.kin.threads else p.pid
        self.tracer.programs.pop(made_by, None)
        p.cpu.threads = {p.pid: p.cpu.threads.get(made_by, Used())} if p.cpu.threads else {}
        for tid in p.kin.threads:
            self.tracer.programs.pop(tid, None)
            lib.mos_unknown(tid)
        p.kin.threads.clear()
        self.tracer.programs[p.pid] = p

    def _fetch_private(self, p: Program) -> bytes:
        """The private files of a program that exec away has brought home; without them it is lost, as with its host."""
        try:
            return self.tracer.carrier.fetch(p)
        except ChannelLost:
            os.kill(p.pid, signal.SIGKILL)
            return b""

    def make_native(self, p: Program) -> None:
        """mosnative: no call of it shall stop. Where the kernel refuses to suspend the filter, its stops are let through."""
        p.travel.bound = p.travel.bound or f"{Reason.NATIVE} (mosnative)"
        try:
            p.task.set_options(OPTIONS | O_SUSPEND_SECCOMP)
        except OSError:
            self.tracer.mosd.log("the kernel does not suspend seccomp filters: native programs keep stopping at open()", 20)


def _has_sys_admin(pid: int) -> bool:
    """May install a filter without no_new_privs (seccomp(2))."""
    [(effective,)] = words_of(pid, "CapEff")
    return bool(int(effective, 16) >> _CAP_SYS_ADMIN & 1)
