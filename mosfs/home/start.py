"""How a tracer begins and ends: for a launcher that becomes a program, or for programs whose tracer died.

The fork server calls these.
"""

from __future__ import annotations

import codecs
import errno
import os
import socket
import time
import traceback
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from typing import Any

from mosfs.abi.numbers import SYS_PAUSE
from mosfs.abi.reasons import Reason
from mosfs.abi.texts import Text, text
from mosfs.cluster import dump, rights
from mosfs.engine.lanes import plans
from mosfs.home.process.program import Place, Program
from mosfs.home.tracer import Tracer
from mosfs.native import lib
from mosfs.trace import caller, embark, layout
from mosfs.trace.clock import native_counter
from mosfs.trace.proc import comm_of, start_time, words_of
from mosfs.trace.stops import Stop, decode
from mosfs.trace.task import WALL, Task, TaskGone, killed
from mosfs.wire import channel
from mosfs.wire.asked import Settings
from mosfs.wire.messages import AdoptTracer, ProcState, SpawnTracer
from mosfs.wire.room import raise_limit

STARTED = "started"
#: The encoding in which files of /proc are opened: Python looks for it only when it is first needed.
OF_PROC = "latin-1"
#: Seconds until a program that does not stop, or does not end a call that was injected, is killed. It may wait for a slow disk.
PATIENCE = 30
#: Seconds that a stranger may take to stop (it may be in a call that nothing interrupts).
STRANGER_PATIENCE = 1.0
#: How often, each millisecond, we look where a program stands whose tracer has died.
LOOKS = 20


def why_not_seized(error: Exception) -> str:
    """In the manual's words (section 10.5) where it has some: ptrace(2), PTRACE_SEIZE, and what a security module may add."""
    texts = {
        errno.EIO: Text.NO_PTRACE, errno.EINVAL: Text.NO_PTRACE, errno.EPERM: Text.TOO_SECURE, errno.EACCES: Text.TOO_SECURE,
        errno.ENOMEM: Text.NO_MEMORY,
    }  # fmt: skip
    found = texts.get(error.errno or 0) if isinstance(error, OSError) else None
    return text(found) if found is not None else str(error)


def prepare() -> None:
    """What every tracer needs, made once by the process that forks them."""
    embark.prepare()
    native_counter()
    plans()
    channel.prepare()
    codecs.lookup(OF_PROC)
    made_tracer()


@lru_cache(maxsize=1)
def made_tracer() -> Tracer:
    """The one of this process: `prepare` makes it, a fork begins with it."""
    return Tracer()


def _tracer(root_pid: int, spawn: SpawnTracer | AdoptTracer) -> Tracer:
    tracer = made_tracer()
    tracer.begin(root_pid, spawn.uid, spawn.socket)
    lib.mos_patience(PATIENCE)
    killed.tell = lambda line: tracer.mosd.log(line, 30)
    dump.on_signal(lambda: parts(tracer))
    return tracer


def parts(tracer: Tracer) -> Iterator[tuple[str, Any]]:
    """What a dump shows: the programs, the channels, and all that waits in the tracer's parts."""
    yield from ((f"program {pid}", p) for pid, p in tracer.programs.items())
    yield from ((f"channel to {link.ip}", link.channel) for link in tracer.hosts.channels.values())
    yield from dump.components(tracer)


def _answer(launcher: socket.socket, answer: bytes) -> None:
    """Tell the launcher; one that was killed meanwhile hears nothing, and its end is seen as that of a program."""
    with suppress(OSError):
        launcher.send(answer)


def main(spawn: SpawnTracer, launcher: socket.socket) -> int:
    """Seize the launcher, answer it, and own its tree until it is empty."""
    asker = caller.Caller(spawn.pid, spawn.uid, spawn.gid, spawn.started)
    tracer = _tracer(spawn.pid, spawn)
    task = Task(spawn.pid)
    try:
        caller.seize(task, asker, launcher)
    except (caller.NotTheCaller, TaskGone, OSError) as error:
        _answer(launcher, b"ERR\0" + why_not_seized(error).encode())
        return 1
    p = tracer.family.adopt(task, spawn.settings)
    tracer.checkpoints.configure(p)
    tracer.family.register(p)
    p.pending.restart = tracer.recovery.starter(asker, spawn.start)
    if p.pending.restart is None and spawn.start.node:
        p.pending.start = tracer.occasions.starter(spawn.start)
    p.pending.trace = tracer.traces.of(asker, spawn.start.trace)
    _answer(launcher, b"\0".join([b"OK", *(entry.encode() for entry in spawn.start.preset)]))
    launcher.close()
    return _serve(tracer)


def adopt(spawn: AdoptTracer) -> int:
    """Take over programs at home whose tracer died."""
    tracer = _tracer(spawn.pids[0] if spawn.pids else 0, spawn)
    states = {state.pid: state for state in spawn.states}
    for pid, started in zip(spawn.pids, spawn.started, strict=True):
        task = Task(pid)
        if not _seize_again(task, spawn.uid, STARTED, started):
            tracer.mosd.lost.append(pid)
            continue
        state: ProcState | None = states.get(pid)
        p = tracer.family.adopt(task, state.settings if state else Settings())
        tracer.family.register(p)
        p.place = Place.HOME
        tracer.private.adopted(p)
        tracer.filters.adopted(p)
        if state is not None:
            tracer.checkpoints.interval_changed(p)
            p.saves.last = (state.save_seq, state.save_result or Reason.INCOMPLETE)
            p.travel.nmigs, p.travel.sigmig, p.saves.next = state.nmigs, state.sigmig, state.next_checkpoint
            p.frozen.last = (state.freeze_seq, state.freeze_result or Reason.INCOMPLETE)
            # a move that was under way has ended with the tracer that made it
            p.travel.last = (state.move_seq, state.move_target, state.move_result or Reason.INCOMPLETE)
        p.comm = comm_of(pid)
        if _waits_in_stub(pid):
            tracer.mosd.log(f"pid={pid} its tracer died with its registers", 40)
            tracer.containment.kill(p)
            continue
        _adopt_threads(tracer, p, spawn.uid)
    _adopt_newcomers(tracer)
    if not tracer.programs:
        tracer.family.begun = True
        tracer.mosd.connect()
        return 0
    return _serve(tracer)


def _waits_in_stub(pid: int) -> bool:
    """Whether it stands for ever where a call that its tracer had it make has ended (`layout.STUB_CODE`).

    It gets there at once, but on a busy computer; what computes all the time is looked at for so long, too."""
    for _ in range(LOOKS):
        try:
            with open(f"/proc/{pid}/syscall", encoding="ascii") as file:
                words = file.read().split()
        except OSError:
            return False
        if words and words[0] != "running":
            return int(words[0]) == SYS_PAUSE and layout.STUB <= int(words[-1], 16) < layout.STUB + layout.PAGE
        time.sleep(0.001)
    return False


def _adopt_threads(tracer: Tracer, p: Program, uid: int) -> None:
    """The other threads of ``p``. One that is not seized yet may make more meanwhile; those that the others make come to us."""
    tried: set[int] = set()
    while found := [tid for tid in other_threads(p.pid) if tid not in tried]:
        tried.update(found)
        for tid in found:
            thread = Task(tid)
            if _seize_again(thread, uid, "Tgid", p.pid):
                tracer.family.register(tracer.family.adopt_thread(thread, p))


def _adopt_newcomers(tracer: Tracer) -> None:
    """Children of whom mosd had not been told yet (`Mosd.announce`): without a tracer their filter refuses what it traps."""
    found = list(tracer.programs.values())
    for parent in found:
        for pid in children_of(parent.pid):
            if pid in tracer.programs:
                continue
            task = Task(pid)
            if _seize_again(task, tracer.mosd.uid, "PPid", parent.pid):
                child = tracer.family.adopt(task, parent.settings, parent=parent)
                tracer.family.register(child)
                child.comm = comm_of(pid)
                found.append(child)


def _seize_again(task: Task, uid: int, name: str, value: int) -> bool:
    """Seize what a dead tracer had; False for what is not there, or not the same: the number ``name`` of it (`_said`) tells.

    What can never gain rights (no_new_privs) needs no second look at them. Without that, it is seized as its user.
    """
    try:
        (barred,), groups = words_of(task.pid, "NoNewPrivs", "Gid")
        if barred == "1" or not uid:
            task.seize()
        else:
            with caller.as_user(uid, int(groups[0]), real=True):
                task.seize()
    except (TaskGone, OSError):
        return False
    if _said(task.pid, name) != value:
        _let_go(task)
        return False
    return True


def _said(pid: int, name: str) -> int:
    """A number of /proc/PID/status, or the start time; -1: there is no such process."""
    if name == STARTED:
        return start_time(pid)
    try:
        return int(words_of(pid, name)[0][0])
    except TaskGone:
        return -1


def _let_go(task: Task) -> None:
    """A stranger that was seized by mistake goes on as if nothing had been."""
    until = time.monotonic() + STRANGER_PATIENCE
    with suppress(TaskGone, OSError):
        task.interrupt()
        while not (status := task.wait(WALL | os.WNOHANG)) and time.monotonic() < until:
            time.sleep(0.001)
        stop = decode(status)
        task.detach(stop.value if stop.stop is Stop.SIGNAL else 0)


def children_of(pid: int) -> list[int]:
    """The processes that the first thread of ``pid`` has made (proc(5), children); none where the kernel does not say."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as children:
            return [int(word) for word in children.read().split()]
    except OSError:
        return []


def other_threads(pid: int) -> list[int]:
    """The threads of a process but its first."""
    try:
        return [int(tid) for tid in os.listdir(f"/proc/{pid}/task") if int(tid) != pid]
    except OSError:
        return []


def _serve(tracer: Tracer) -> int:
    rights.no_core()  # seizing as the user has changed users
    raise_limit()
    try:
        tracer.run()
        tracer.traces.end()
    except Exception:
        tracer.mosd.log(traceback.format_exc(), 40)
        raise
    return 0

