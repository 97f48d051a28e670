"""What is to be written of a program for its checkpoint, and which number and name that has."""

from __future__ import annotations

import os
import resource
import struct
import time
from collections.abc import Iterator
from typing import Any

from mosfs.abi.numbers import SYS_GETITIMER, SYS_PERSONALITY, SYS_PRCTL, SYS_RESTART_SYSCALL
from mosfs.abi.reasons import Reason
from mosfs.home.moves.writing import Plan
from mosfs.home.ports import Tree
from mosfs.home.process.deputy import Sleep
from mosfs.home.process.program import Program
from mosfs.home.process.saving import Saving
from mosfs.migrate import image
from mosfs.migrate.capture import all_limits, capture, capture_thread, mappings_of, signed
from mosfs.migrate.checkpoint import Head, ThreadHead, Traits, as_text, encoded
from mosfs.migrate.image import MAX_SIZE, MOST_THREADS, Thread, Timer
from mosfs.migrate.increments import Chain
from mosfs.migrate.opened import has_contents, opened, readable
from mosfs.native import lib
from mosfs.native.registers import Registers
from mosfs.procfs.table import checkpoint_number, checkpoint_stem
from mosfs.trace import clock as clocks
from mosfs.trace import layout
from mosfs.trace.caller import rights_of
from mosfs.trace.inject import Calls
from mosfs.trace.priority import nice_of
from mosfs.trace.proc import state_of, umask_of
from mosfs.trace.stops import Stop
from mosfs.trace.taken import take
from mosfs.trace.task import TaskGone, behind, copy_regs

PR_GET_PDEATHSIG = 2


def path_of(p: Program, number: int) -> str:
    """The file of that checkpoint."""
    stem = checkpoint_stem(p.settings.checkpoint_file) if p.settings.checkpoint_file else f"ckpt.{p.pid}"
    return f"{stem}.{number}"


def first(p: Program) -> int:
    """Number of the first one (mosrun(1), -C)."""
    return checkpoint_number(p.settings.checkpoint_file) if p.settings.checkpoint_file else 1


def following(p: Program, number: int) -> int:
    """The number after ``number``: of the first again when there are as many as there shall be (-N)."""
    most = p.settings.checkpoint_limit
    return first(p) if most > 0 and number - first(p) + 1 >= most else number + 1


def uncommon(p: Program) -> str:
    """Why its threads, as they are, would not be the same after recovery; "" if they would."""
    if not p.kin.threads:
        return ""
    if state_of(p.pid) in ("Z", "X"):
        return Reason.FIRST_ENDED
    if len(p.kin.threads) > MOST_THREADS:
        return f"has more than {MOST_THREADS + 1} threads"
    return Reason.THREADS_APART if any(lib.mos_apart(p.pid, tid) == 1 for tid in p.kin.threads) else ""


def made_again(regs: Registers, sleep: Sleep) -> Registers:
    """Registers with which a sleep is made again after recovery, where there is no restart block to go on from."""
    if signed(regs.rax) != SYS_RESTART_SYSCALL or sleep.number < 0:
        return regs
    saved = copy_regs(regs)
    saved.rax = sleep.number
    return saved


def answered(stay: Registers, stop: Stop, saving: Saving, number: int) -> Registers:
    """The registers of who has asked for its own checkpoint, after recovery: behind that call, as here."""
    saved = behind(stay, 0) if stop is Stop.SECCOMP else copy_regs(stay)
    saved.rax = number if saving.numbered else 0
    return saved


def _threads(tracer: Tree, p: Program, saving: Saving) -> Iterator[tuple[Thread, Traits]]:
    """The other threads of a process, which stand: each as it is to go on after recovery."""
    for q in tracer.threads.of(p):
        stood, deputy = saving.standing[q.pid], q.deputy
        sleep = q.call.sleep if deputy is None else deputy.sleep
        saved = stood.stay if sleep is None else made_again(stood.stay, sleep)
        if saving.own == q.pid:
            saved = answered(stood.stay, stood.stop, saving, p.saves.next)
        base, mask = (stood.stopped, None) if deputy is None else (deputy.base, deputy.mask)
        with Calls(q.task, base=base, mask=mask) as call:
            thread = capture_thread(call, saved, pending=True)
            traits = _traits(tracer, q, call)
        q.task.set_regs(stood.stopped if q.suspended else base if deputy is not None else stood.stay)
        thread.tid, thread.carry, thread.waiting_state = q.pid, q.call.carry, list(q.demand.waiting.items())
        thread.pending = [(shared, info) for shared, info in thread.pending if not shared]  # the first one has the others
        yield thread, traits


def made_for(tracer: Tree, p: Program, call: Calls, saved: Any, path: str, next_number: int) -> Plan:
    """For a stopped program; ``saved``: the registers that it goes on with after recovery. CannotSave, CannotMove, OSError."""
    files = opened(p.pid)
    vmas = mappings_of(p.pid, p.process.said, p.process.names, None)
    shown = clocks.last_shown(p.process.clock_page, tracer.clock.ticks()) if p.process.clock_page else clocks.Shown(0, 0)
    meta = capture(
        call, saved, vmas, pid=p.pid, uid=p.uid, features=p.demand.seen, home=tracer.mosd.config.ip,
        shown=Timer(shown.realtime, shown.monotonic), pending=True, said=p.process.said, whole=True,
    )  # fmt: skip
    meta.carry = p.call.carry
    meta.waiting_state, meta.needs = list(p.demand.waiting.items()), sorted(p.demand.needs)
    assert p.saves.asked is not None
    others = list(_threads(tracer, p, p.saves.asked))
    meta.threads = [thread for thread, _ in others]
    head = Head(
        pid=p.pid, comm=meta.comm, made=int(time.time()),
        executable=as_text(_link(p.pid, "exe")), folder=as_text(_link(p.pid, "cwd")), umask=umask_of(p.pid), files=files,
        limits=all_limits(p.pid), itimers=_itimers(call), settings=p.settings, next_checkpoint=next_number,
        traits=_traits(tracer, p, call), threads=[ThreadHead(thread.tid, traits) for thread, traits in others],
    )  # fmt: skip
    most = head.limits[resource.RLIMIT_FSIZE][0]
    if p.settings.incremental == 1 and p.saves.chain is None:
        p.saves.chain = Chain()
    plan = Plan(
        path, encoded(head), image.encode(meta), meta.vmas, [], rights_of(p.pid), most if most >= 0 else MAX_SIZE,
        p.saves.chain if p.settings.incremental == 1 else None, bool(others),
    )  # fmt: skip
    try:
        for place, kept in enumerate(files):
            if has_contents(kept):  # never opened anew: that would be with our rights
                plan.contents.append((place, take(p.pid, kept.fds[0], readable), kept.size))
    except OSError:
        plan.close()
        raise
    return plan


def _traits(tracer: Tree, p: Program, call: Calls) -> Traits:
    call.task.write(layout.SCRATCH, bytes(4))
    call(SYS_PRCTL, PR_GET_PDEATHSIG, layout.SCRATCH)
    deathsig = int.from_bytes(call.task.read(layout.SCRATCH, 4), "little")
    lib.mos_unpin(tracer.pump)
    confined = os.sched_getaffinity(p.pid)
    everywhere = confined >= set(range(os.cpu_count() or 1))
    personality = call(SYS_PERSONALITY, 0xFFFFFFFF)
    return Traits(personality, deathsig, nice_of(p.pid), [] if everywhere else sorted(confined))


def _link(pid: int, name: str) -> bytes:
    """Where /proc/PID/name leads."""
    try:
        return os.readlink(f"/proc/{pid}/{name}".encode())[:4096]
    except OSError as error:
        raise TaskGone(pid) from error


def _itimers(call: Calls) -> list[tuple[int, int, int, int]]:
    """What is left of the three timers (setitimer(2)): interval and value, in seconds and microseconds."""
    found = []
    for which in range(3):
        call.must(SYS_GETITIMER, which, layout.SCRATCH)
        found.append(struct.unpack("<4q", call.task.read(layout.SCRATCH, 32)))
    return found
