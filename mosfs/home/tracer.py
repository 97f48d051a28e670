"""The tracer: one process that owns one mosrun tree. Event loop, programs at home, conversation with mosd.

Programs that are away are served by `away.Away`, moves are coordinated by `moves.Moves`. Single-threaded, no trio: ptrace belongs
to one thread. All waiting is in `Tracer.run` (lib.mos_next), except while an image passes (`moves`) and for the microseconds of an
injected call.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from contextlib import suppress
from typing import Any

from mosfs.abi import cpu
from mosfs.abi.syscalls import BY_NR
from mosfs.calls import cputime, cputimers
from mosfs.cluster.log import complain
from mosfs.home.asks.controls import Controls
from mosfs.home.asks.debugged import Debugged
from mosfs.home.asks.filters import Filters
from mosfs.home.asks.mail import Mails
from mosfs.home.asks.opens import Opens
from mosfs.home.asks.policy import Policy
from mosfs.home.asks.private import Private
from mosfs.home.asks.relatives import Relatives
from mosfs.home.away.away import AFFINITY, Away
from mosfs.home.away.cores import Cores
from mosfs.home.away.mapped import Mapped
from mosfs.home.away.transfers import Transfers
from mosfs.home.away.waits import LONG, Waits
from mosfs.home.moves.moves import Moves
from mosfs.home.process.control_calls import PATH_ARG
from mosfs.home.process.processor import Demand
from mosfs.home.process.program import Place, Program
from mosfs.home.process.registers import arguments
from mosfs.home.process.settings import inherit, of_child
from mosfs.home.tree.containment import Containment
from mosfs.home.tree.cputime import CpuTime
from mosfs.home.tree.cputimers import CpuTimers
from mosfs.home.tree.tracing import Traces
from mosfs.home.tree.usage import Statistics
from mosfs.mbox.calls import CAUGHT
from mosfs.migrate.capture import comm_of, signed, uid_of
from mosfs.migrate.properties import Said
from mosfs.native import ffi, lib
from mosfs.trace import caller, embark, layout
from mosfs.trace.clock import HomeClock
from mosfs.trace.stops import SECCOMP_STOP, USES_UP, Status, Stop, decode
from mosfs.trace.task import CONT, NOTHING, O_SUSPEND_SECCOMP, OPTIONS, SYSCALL, Task, TaskGone, copy_regs
from mosfs.wire.channel import ChannelLost
from mosfs.wire.control import ControlLink
from mosfs.wire.faults import Serving, fault
from mosfs.wire.messages import (
    Adjust,
    Adjusted,
    ChannelFailed,
    ChannelReady,
    Command,
    Config,
    HelloTracer,
    MailAnswer,
    MailHeld,
    MailRecall,
    MailWake,
    ProcGone,
    Report,
    Settings,
)

HAS_THREADS = "stays at home: has threads"
HAS_FILTER = "stays at home: has a seccomp filter"
#: Wait status of a new child's first stop (ptrace(2), PTRACE_EVENT_STOP).
FIRST_STOP = 128 << 16 | signal.SIGTRAP << 8 | 0x7F
#: Seconds until mosd is told of a new child that does nothing special.
NEWCOMER_PERIOD = 0.02
#: Seconds that mosd may take for its first message.
CONFIG_PATIENCE = 5.0
#: Seconds between corrections of the programs' clocks, with which mosd is told what they use; and until it first hears of one.
CLOCK_PERIOD, FIRST_CLOCK = 1.0, 0.3
#: Seconds for which a clock page serves for new programs.
FIRST_PAGE_PERIOD = 0.1


class Tracer:
    """``root_pid`` is the process that mosrun became."""

    def __init__(self, root_pid: int, uid: int, control_path: str) -> None:
        self.root_pid = root_pid
        self.uid = uid
        self.control = ControlLink(control_path)
        self.mount = os.path.join(os.path.dirname(os.path.dirname(control_path)), "mosix").encode()
        self.programs: dict[int, Program] = {}
        self.newcomers: dict[int, float] = {}  # programs that mosd has not been told of, and when it will be
        self.lost: list[int] = []  # programs that could not be adopted
        self.config = Config("", 0, {})
        self.clock = HomeClock()
        self.features = cpu.features()
        self.next_clock = time.monotonic() + FIRST_CLOCK
        self.page, self.page_until = b"", 0.0
        self.pump = ffi.new("struct mos_pump *")
        self.pump.follow = 1
        self.pump.settles = self.pump.pass_opens = 1
        for number in LONG:
            self.pump.transfers[number] = 1
        self.pump.cpu = -1
        self.event = ffi.new("struct mos_event *")
        self.containment = Containment(self)
        self.mails = Mails(self)
        self.away = Away(self)
        self.mapped = Mapped(self)
        self.moves = Moves(self)
        self.policy = Policy(self)
        self.debugged = Debugged(self)
        self.filters = Filters(self)
        self.controls = Controls(self)
        self.opens = Opens(self)
        self.relatives = Relatives(self)
        self.statistics = Statistics(self)
        self.cputime = CpuTime(self.programs)
        self.cputimers = CpuTimers(self)
        self.cores = Cores(self)
        self.private = Private(self)
        self.timers: list[tuple[float, int]] = []
        self.traces = Traces(self)
        self.waits = Waits(self)
        self.transfers = Transfers(self)
        self.begun = False
        lib.mos_setup_signals()

    # ------------------------------------------------------------------ the loop

    def run(self) -> None:
        """Until the tree is empty."""
        self.connect()
        while self.programs or self.debugged.listeners or not self.begun:
            if self.control.has_ended():
                self.moves.mosd_gone()
                self.mails.desk.lost()
            if self.control.aside:
                self._control_event()
            sources: list[Any] = [*self.moves.channels.values()]
            self.pump.nfds = 0
            linked = self.control.sock is not None
            if linked:
                self._watch(self.control.fileno())
            busy = False
            for link in sources:
                if link.channel.pending():
                    busy = True
                self._watch(link.channel.fileno())
            for listener in self.debugged.listeners:
                self._watch(listener)
            if self.mapped.watcher >= 0:
                self._watch(self.mapped.watcher)
            self.mails.desk.borrowed.arm()
            result = lib.mos_next(self.pump, self.event, 0 if busy else self._timeout())
            if result < 0:
                raise OSError(-result, "wait")
            with self.containment.nobody("looking at mailboxes"):
                self.mails.desk.borrowed.look(lambda pid: self.task_event(pid, SECCOMP_STOP))
            if self.pump.nnotes:
                self._write_down()
            kind = self.event.kind
            if kind == 1:
                self.task_event(self.event.pid, self.event.status)
            elif kind == 2:
                index = self.event.pid - linked
                if index < 0:
                    self._control_event()
                    continue
                if index < len(sources):
                    if id(sources[index]) in self.moves.channels:  # the notes may have ended it
                        self.away.channel_event(sources[index])
                elif index == len(sources) + len(self.debugged.listeners):
                    self.mapped.poll()
                else:
                    with self.containment.nobody("passing a call of a debugged program"):
                        self.debugged.told(index - len(sources), self.event.status)
            elif busy:
                for link in sources:
                    if link.channel.pending():
                        self.away.channel_event(link)
            self.moves.copying.step()
            self._housekeeping()

    def _watch(self, fd: int) -> None:
        if lib.mos_attend(self.pump, fd) < 0:
            raise MemoryError

    def _timeout(self) -> int:
        """Microseconds until something is due."""
        now = time.monotonic()
        due = min(self.next_clock, next(iter(self.newcomers.values()), self.next_clock))
        moments = (
            self.away.next_park(), self.mails.next_park(), self.moves.next_retry(), self.waits.due(), self.cputimers.due(),
            self.relatives.due(),
        )
        for moment in moments:
            if moment is not None:
                due = min(due, moment)
        for sending in (self.moves.copying.timeout(), self.private.carrier.timeout()):
            if sending is not None:
                due = min(due, now + sending)
        if self.control.sock is None:
            due = min(due, now + 0.3)
        return max(0, int((due - now) * 1e6))

    def _housekeeping(self) -> None:
        now = time.monotonic()
        self.away.park_idle(now)
        self.mails.park_idle(now)
        self.moves.retry(now)
        self.waits.expire(now)
        self.cputimers.look(now)
        self.relatives.look(now)
        self.private.carrier.step()
        self.away.run_backlog()
        self._introduce(now)
        if now >= self.next_clock:
            self.next_clock = now + CLOCK_PERIOD
            self._update_clocks()
            self.traces.flush()
            self.statistics.tick(now)
            self.cputimers.tick()
            self.private.reap_all()
            self.mapped.tick()
            if self.control.sock is None:
                self.connect()
        elif self.control.sock is None:
            self.connect()

    def _update_clocks(self) -> None:
        for p in list(self.programs.values()):
            if p.last_message is not None:
                self.announce(p)
            if p.place is Place.HOME and p.clock_page and not p.native and not p.leader:
                with self.containment.of(p), suppress(OSError):
                    self._refresh_clock(p)
        self.away.send_clocks()

    def _first_page(self) -> bytes:
        """The clock page of a new program, which may be some milliseconds old: it is a line."""
        now = time.monotonic()
        if now >= self.page_until:
            self.page, self.page_until = self.clock.page(0), now + min(FIRST_PAGE_PERIOD, self.clock.next_update())
        return self.page

    def _refresh_clock(self, p: Program) -> None:
        fd = os.open(f"/proc/{p.pid}/mem", os.O_WRONLY | os.O_CLOEXEC)
        try:
            p.clock_page = self.clock.refresh(lambda at, data: os.pwrite(fd, data, layout.CLOCK_PAGE + at), p.clock_page)
        finally:
            os.close(fd)

    # ------------------------------------------------------------------ mosd

    def connect(self) -> None:
        if self.control.connect():
            self.control.send(HelloTracer(os.getpid(), self.root_pid, self.uid))
            for pid in self.lost:
                self.control.send(ProcGone(pid))
            for p in self.programs.values():
                p.announced = None
                p.account.news = True
                self.announce(p, at_once=True)
                self.private.announce_all(p)

    def configured(self) -> bool:
        """mosd has told us about this node. A program may ask in its first instructions, before that has come."""
        until = time.monotonic() + CONFIG_PATIENCE
        while not self.config.ip and self.control.wait(until - time.monotonic()):
            self._control_event()
        return bool(self.config.ip)

    def log(self, line: str, level: int = 20) -> None:
        if not self.control.send(Report(level, line)):
            complain(f"tracer {os.getpid()}: {line}")

    def announce(self, p: Program, *, at_once: bool = False) -> None:
        """Tell mosd if anything that it shows has changed. Of a child that does nothing special it hears a little later, if it
        still exists then."""
        if p.leader:
            return
        if p.announced is None and p.parent and p.place is Place.HOME and p.move is None and not at_once:
            self.newcomers.setdefault(p.pid, time.monotonic() + NEWCOMER_PERIOD)
            return
        state = p.state()
        if state != p.announced:
            p.announced = state
            self.control.send(state)

    def _introduce(self, now: float) -> None:
        """Announce the newcomers whose time has come."""
        while self.newcomers:
            pid, due = next(iter(self.newcomers.items()))
            if due > now:
                return
            del self.newcomers[pid]
            if p := self.programs.get(pid):
                self.announce(p, at_once=True)

    def _control_event(self) -> None:
        for message, passed in self.control.receive():
            p = self._concerned(message)
            with self.containment.of(p) if p is not None else self.containment.nobody(type(message).__name__):
                self._message(message, passed)

    def _concerned(self, message: Any) -> Program | None:
        """The program that a message of mosd is about."""
        if isinstance(message, ChannelReady | ChannelFailed):
            return self.moves.requests.get(message.req)
        return self.programs.get(getattr(message, "pid", 0))

    def _message(self, message: Any, passed: Any) -> None:
        match message:
            case Config():
                self.config = message
            case Command():
                self.controls.command(message)
            case Adjust():
                self._adjust(message, passed)
            case MailAnswer() | MailWake() | MailRecall():
                self.mails.desk.message(message, passed)
            case MailHeld(pid=pid, node=node):
                if p := self.programs.get(pid):
                    p.mailbox = node
                    self.announce(p)
            case ChannelReady():
                self.moves.channel_ready(message, passed)
            case ChannelFailed():
                self.moves.channel_failed(message)
            case _:
                if passed is not None:
                    passed.close()

    def _adjust(self, message: Adjust, passed: socket.socket | None) -> None:
        """mosrun or mosnative inside the tree: what it asks holds from the caller's next exec on."""
        if passed is not None:
            passed.close()
        p = self.programs.get(message.pid)
        if p is None:
            self.control.send(Adjusted(message.req, "no such MOSIX process"))
            return
        if self.mails.involved(p):
            self.control.send(Adjusted(message.req, "Too many open files"))
            return
        asker = caller.Caller(message.pid, message.uid, message.gid, message.started)
        try:
            caller.compare(asker)
        except (caller.NotTheCaller, TaskGone) as error:
            self.control.send(Adjusted(message.req, str(error)))
            return
        if message.native:
            p.next_native = True
            p.start = self.moves.start_native
        else:
            p.next_settings = inherit(p.settings, message.settings)
            p.next_trace = self.traces.of(asker, message.start.trace)
            p.start = self.moves.starter(message.start) if message.start.node or message.start.shown else None
        self.control.send(Adjusted(message.req, ""))

    # ------------------------------------------------------------------ programs

    def adopt(self, task: Task, settings: Settings, parent: Program | None = None) -> Program:
        try:
            uid = uid_of(task.pid)
        except TaskGone:
            if parent is None:
                raise
            uid = parent.uid  # it has ended since; its bookkeeping follows
        demand = Demand(self.features) if parent is None else parent.demand.copy()
        p = Program(task, uid, settings if parent is None else of_child(settings), demand)
        if parent is not None:
            p.place, p.link = parent.place, parent.link
            p.trace = parent.trace
            p.nmigs, p.sigmig, p.native = parent.nmigs, parent.sigmig, parent.native
            p.parent, p.names, p.said = parent.pid, parent.names, self.process(parent).said.of_child()
            p.comm, p.clock_page, p.bound = parent.comm, parent.clock_page, parent.bound
            p.filtered, p.pieced = self.process(parent).filtered, self.process(parent).pieced
            lib.mos_filtered(task.pid, p.filtered)
        else:
            p.trace = self.traces.everything
            p.said = Said(calls=1, guards=True)  # it may have said anything before
        self.programs[task.pid] = p
        self.begun = True
        return p

    def process(self, p: Program) -> Program:
        """The process that ``p`` is a thread of: settings, and what people see, are its."""
        return self.programs.get(p.leader, p)

    def new_thread(self, q: Program, p: Program) -> None:
        """``q`` is a new thread of the process of ``p``: that stays at home until its next exec."""
        process = self.process(p)
        q.leader = process.pid
        process.threads.add(q.pid)
        process.bound = process.bound or HAS_THREADS

    def forget(self, p: Program) -> None:
        """The process is gone: its parent's memory is its own again, its body is dropped."""
        self.programs.pop(p.pid, None)
        lib.mos_unknown(p.pid)
        away = p.used.plus(p.children_used)
        if any(away) and not p.leader:
            user, system = (ns / 1e9 for ns in away)
            self.log(f"pid={p.pid} ended; used away: {user:.2f} s user, {system:.2f} s system, its children's included")
        self.containment.each(p, (
            lambda p: self.traces.returned(p, None, "not back"), self.release_vfork, self.mails.gone, self.away.direct.forget,
            self.cputime.ended, self.moves.gone, self.private.forget,
        ))  # fmt: skip
        if p.leader:
            self.process(p).threads.discard(p.pid)
        elif p.announced is not None:
            self.control.send(ProcGone(p.pid))

    def release_vfork(self, p: Program) -> None:
        parent = self.programs.get(p.vfork_parent)
        p.vfork_parent = 0
        if parent is not None and parent.vforking:
            parent.vforking -= 1
            self.moves.again(parent)

    def _write_down(self) -> None:
        """The bookkeeping of what has gone on at home without us (native/home.c)."""
        notes = [(note.what, note.pid, note.other) for note in self.pump.notes[0 : self.pump.nnotes]]
        self.pump.nnotes = 0
        for what, pid, other in notes:
            p = self.programs[pid]
            if what == lib.MOS_ENDED:
                self.forget(p)
                continue
            with self.containment.of(p):
                self._born(p, self.adopt(Task(other), p.settings, parent=p), vfork=what == lib.MOS_VFORKED)

    def task_event(self, pid: int, status: int) -> None:
        """A task has stopped or ended (waitpid(2)). Nothing is raised."""
        p = self.programs.get(pid)
        if p is None:
            if not os.WIFSTOPPED(status):
                lib.mos_unknown(pid)
            return
        try:
            self.handle(p, decode(status))
        except Exception as error:
            self.containment.trouble(p, error)
        if self.programs.get(pid) is p:
            lib.mos_plain(pid, p.plainness())

    def handle(self, p: Program, status: Status) -> None:
        stop = status.stop
        self.mails.stopped(p, status)
        if p.interrupted and stop in USES_UP and p.deputy is None:
            p.task.interrupt()
        if stop in (Stop.EXITED, Stop.KILLED):
            self.forget(p)
        elif p.deputy is not None:
            self.away.deputy_event(p, p.deputy, status)
        elif stop is Stop.SECCOMP:
            self._trapped(p)
        elif stop is Stop.SIGNAL:
            self._signal(p, status.value)
        elif stop is Stop.TRAP:
            p.halted = False
            if p.disinherits:
                self.mails.disinherit(p.task, p.disinherits)
                p.disinherits = []
            if p.inherited is not None:
                self.private.born(p)
            if p.interrupted:
                self.transfers.mend(p)
                self.waits.stopped(p)
            if p.overdue:
                self.cputimers.stopped(p)
            if not self.moves.departure.stopped(p, Stop.TRAP):
                self.go_on(p)
        elif stop is Stop.SYSCALL:
            self.transfers.at_syscall(p)
        elif stop is Stop.GROUP:
            p.halted = True
            p.task.listen()
        elif stop in (Stop.FORK, Stop.VFORK, Stop.CLONE):
            self._forked(p, stop)
        elif stop is Stop.EXEC:
            self.exec_done(p)
        else:
            p.task.cont()

    def _forked(self, p: Program, stop: Stop) -> None:
        child = p.task.event_message()
        self.traces.returned(p, child, "home")
        q = self.adopt(Task(child), p.settings, parent=p)
        thread = stop is Stop.CLONE and tgid_of(child) != child
        if thread:
            self.new_thread(q, p)
            self.announce(self.process(p))
        else:
            q.disinherits = self.mails.inherited(p, q)
            self._born(p, q, vfork=stop is Stop.VFORK)
        self.private.forked(p, q, thread=thread)
        p.task.cont()
        self.meet(q)

    def _born(self, p: Program, q: Program, *, vfork: bool) -> None:
        """``q`` is a new process made by ``p``."""
        if vfork:
            p.vforking += 1
            q.vfork_parent = p.pid
        if q.bound == HAS_THREADS:  # a child has only the thread that made it
            q.bound = ""
        self.announce(q)

    def meet(self, q: Program) -> None:
        """``q`` is known from now on. Its first stop may have come before its parent's event."""
        early = lib.mos_early(q.pid)
        lib.mos_plain(q.pid, 0)
        if early:
            self.task_event(q.pid, FIRST_STOP)

    def exec_done(self, p: Program) -> None:
        """PTRACE_EVENT_EXEC: a new program in the same process."""
        first = p.place is Place.STARTING
        self._alone(p)
        self.release_vfork(p)
        self.moves.copying.memory_gone(p)
        p.bound, p.why = HAS_FILTER if p.filtered else "", ""
        p.demand = Demand(self.features)
        p.names, p.files, p.said, p.pieced = [], {}, Said(), False
        p.sleeping, p.wait = None, None
        p.infos.clear()
        p.owing.clear()
        self.mails.exec_done(p)
        p.comm = comm_of(p.pid)
        apart = caller.apart(p.pid)
        self._renew(p, apart=apart)
        self.traces.returned(p, 0, "home")
        if p.next_native:
            p.native, p.next_native = True, False
        p.place = Place.HOME
        self.cputimers.limit_changed(p)
        page = self._first_page()
        files = self._fetch_private(p)
        try:
            if apart:
                raise embark.CannotEmbark(caller.APART)
            embark.embark(p.task, page, first=first, privileged=first and _has_sys_admin(p.pid))
            p.clock_page = page
            if first:
                self.statistics.began(p)
            self.private.embarked(p, files)
        except embark.CannotEmbark as error:
            p.native = True
            p.bound = f"cannot be migrated: {error}"
        if p.native:
            self.make_native(p)
        self.private.exec_done(p)
        self.announce(p)
        start, p.start = p.start, None
        if start is not None and not p.native:
            p.held = True
            start(p)
        elif not self.moves.resume_away(p):
            p.task.cont()

    @staticmethod
    def _renew(p: Program, *, apart: bool) -> None:
        """What mosrun or mosnative asked holds from now on, but never for a program with other rights than who asked."""
        if not apart and p.next_settings is not None:
            p.settings = p.next_settings
        if apart or p.next_trace is not None:
            p.trace = p.next_trace if not apart else None
        p.next_settings = p.next_trace = None

    def _alone(self, p: Program) -> None:
        """exec: the other threads are gone, and whichever made it has the process's ID now (ptrace(2), execve under ptrace)."""
        self.programs.pop(p.task.event_message() if p.threads else p.pid, None)
        for tid in p.threads:
            self.programs.pop(tid, None)
            lib.mos_unknown(tid)
        p.threads.clear()
        self.programs[p.pid] = p

    def _fetch_private(self, p: Program) -> bytes:
        """The private files of a program that exec away has brought home; without them it is lost, as with its host."""
        try:
            return self.private.carrier.fetch(p)
        except ChannelLost:
            os.kill(p.pid, signal.SIGKILL)
            return b""

    def make_native(self, p: Program) -> None:
        """mosnative: no call of it shall stop. Where the kernel refuses to suspend the filter, its stops are let through."""
        p.bound = p.bound or "runs as a native Linux program (mosnative)"
        try:
            p.task.set_options(OPTIONS | O_SUSPEND_SECCOMP)
        except OSError:
            self.log("the kernel does not suspend seccomp filters: native programs keep stopping at open()", 20)

    def resume(self, p: Program, sig: int = 0) -> None:
        """Let a program that was held at home go on."""
        p.held = False
        p.task.cont(sig)

    def go_on(self, p: Program) -> None:
        """Resume a program at home; the end of a call that we cut short is watched."""
        p.task.cont(request=SYSCALL if p.carry is not None or p.watched or p.wait is not None else CONT)

    # ------------------------------------------------------------------ stops at home

    def _signal(self, p: Program, sig: int) -> None:
        regs = p.task.peek_regs()
        self.moves.departure.note_sleep(p, regs)
        if self.moves.escapes(p, sig):
            return
        if self.waits.spare(p, regs, sig):
            self.transfers.mend(p, again=p.interrupted)
        elif (p.carry is not None or p.wait is not None) and self.waits.hears(p, sig):
            self.waits.over(p)
            self.transfers.ended_by_signal(p, copy_regs(regs))
        p.task.cont(sig, SYSCALL if p.carry is not None or p.wait is not None else CONT)

    def _trapped(self, p: Program) -> None:
        """A call that the filter sent to us."""
        regs = p.task.peek_regs()
        nr = signed(regs.orig_rax)
        if p.native:
            p.task.cont()
            return
        fault(Serving.HOME_CALL, None, p.comm)
        row = BY_NR.get(nr)
        if nr in AFFINITY:
            lib.mos_unpin(self.pump)
        self.traces.at_home(p, nr, arguments(regs))
        if self.filters.stopped(p, regs) or (nr in CAUGHT and self.mails.trapped(p, regs, nr)):
            return
        if p.private is not None and self.private.trapped(p, regs, nr):
            return
        if nr in cputime.CALLS:
            if nr in cputime.WAITS:
                lib.mos_reap()
            self.cputime.watch(p, nr, arguments(regs))
        elif nr in PATH_ARG:
            self.opens.trapped(p, regs, nr)
        elif nr == cputimers.TIMER_SETTIME:
            self.cputimers.absolute(p, regs)
        elif row is None:
            self.policy.illegal(p, regs, nr)
        else:
            self.policy.trapped(p, row, regs)

    def serve(self, p: Program) -> None:
        """Let a trapped call be made."""
        p.task.cont(request=SYSCALL if p.called is not None else CONT)

    def answer(self, p: Program, regs: Any, result: int) -> None:
        """End a trapped call with ``result`` instead of making it."""
        self.traces.returned(p, result, "MOSIX")
        regs.orig_rax = NOTHING
        regs.rax = result & NOTHING
        p.task.set_regs(regs)
        p.task.cont()

    def make_with(self, p: Program, regs: Any, name: str, value: int) -> None:
        """Make a trapped call with another value in the register ``name``, of which the program sees nothing."""
        before = getattr(regs, name)
        setattr(regs, name, value)
        p.task.set_regs(regs)
        p.task.cont(request=SYSCALL)
        status = p.task.wait()
        stop = decode(status)
        if stop.stop is Stop.SYSCALL:
            regs = p.task.peek_regs()
            setattr(regs, name, before)
            p.task.set_regs(regs)
            self.traces.returned(p, signed(regs.rax), "home")
            p.task.cont(request=CONT)
        else:
            self.task_event(p.pid, status)


def tgid_of(pid: int) -> int:
    """The process that thread ``pid`` belongs to; ``pid`` itself when it is gone."""
    try:
        with open(f"/proc/{pid}/status", encoding="latin-1") as status:
            return int(next(line for line in status if line.startswith("Tgid:")).split()[1])
    except (OSError, StopIteration):
        return pid


def _has_sys_admin(pid: int) -> bool:
    """May install a filter without no_new_privs (seccomp(2))."""
    try:
        with open(f"/proc/{pid}/status", encoding="latin-1") as status:
            lines = status.read()
    except OSError as error:
        raise TaskGone(pid) from error
    effective = int(lines[lines.index("CapEff:") + 8 :].split(None, 1)[0], 16)
    return bool(effective >> 21 & 1)
