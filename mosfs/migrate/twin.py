"""A twin: a process that has the memory of a stopped program as it was at one moment, and its rights, folders and files.

    program --clone--> first --clone--> second --fork--> twin
                       (both share its memory, and end at once)

So the kernel copies the memory, page by page as either side writes to it, and the program goes on. What it could see of that it
does not: the first is waited for while it stands, the twin and the second have become children of init, and no signal is sent.
Where there can be no copy, the first is the twin, with the program's memory itself, which has to stand still meanwhile.

A twin makes the calls that are injected into it, and nothing else. It ends with its tracer (PTRACE_O_EXITKILL).
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from contextlib import suppress

from mosfs.abi.flags import CLONE_FILES, CLONE_FS, CLONE_VM
from mosfs.abi.memory import DROPPABLE, NOT_INHERITED
from mosfs.abi.numbers import SYS_CLONE, SYS_CLOSE_RANGE, SYS_PRCTL, SYS_SETSID, SYS_WAIT4
from mosfs.migrate.image import Vma
from mosfs.native import lib
from mosfs.trace import layout, stops
from mosfs.trace.inject import Calls
from mosfs.trace.priority import NICE, nice_of
from mosfs.trace.stops import Stop
from mosfs.trace.task import O_EXITKILL, OPTIONS, WALL, Task, TaskGone, copy_regs, discard, unfit

PR_GET_CHILD_SUBREAPER = 37
EVERY_DESCRIPTOR = 0xFFFF_FFFF
#: Of a machine that lacks memory its copies go first (proc(5), oom_score_adj).
EXPENDABLE = b"1000"


def sharing(call: Calls) -> Task:
    """A process with the memory and the descriptors of a stopped one, stopped. OSError: there can be none."""
    return cloned(call, SYS_CLONE, CLONE_VM | CLONE_FS | CLONE_FILES)


def cloned(call: Calls, nr: int, *args: int) -> Task:
    """What the stopped task of ``call`` makes by this call, clone(2) or clone3(2), stopped; it ends with its tracer. OSError."""
    task = call.task
    if lib.mos_run_call(task.pid, call.base, nr, *args, *([0] * (6 - len(args)))) < 0:
        raise TaskGone(task.pid)
    child: Task | None = None
    while (value := call.ended(nr)) is None:
        if stops.decode(call.status).stop is not Stop.CLONE or child is not None:
            call.pass_over(nr)
            continue
        child = newborn(task)
        task.cont()
    if child is None:
        raise OSError(-min(value, -1), os.strerror(-min(value, -1)))
    return child


def newborn(parent: Task) -> Task:
    """The process that ``parent`` has just made (PTRACE_EVENT_CLONE), stopped. TaskGone."""
    child = Task(parent.event_message())
    early = lib.mos_early(child.pid)
    lib.mos_plain(child.pid, 0)
    if early == lib.MOS_CAME_AND_WENT:
        lib.mos_unknown(child.pid)
        raise TaskGone(child.pid)
    if not early and stops.decode(child.wait()).stop is not Stop.TRAP:
        raise unfit(child.pid, "it is no newborn")
    child.set_options(OPTIONS | O_EXITKILL)
    return child


def maker(call: Calls) -> Task:
    """The second of a stopped program: it shares its memory, but is no child of it. OSError."""
    first = sharing(call)
    try:
        with Calls(first) as inner:
            return sharing(inner)
    finally:
        end(first)
        call(SYS_WAIT4, first.pid, 0, WALL, 0)


def end(task: Task) -> None:
    """Kill a twin or a maker, and wait for its end."""
    discard(task)
    lib.mos_unknown(task.pid)


def kill(task: Task) -> None:
    with suppress(ProcessLookupError):
        os.kill(task.pid, signal.SIGKILL)


def begin_fork(task: Task) -> None:
    """Let a maker begin to make the twin; PTRACE_EVENT_CLONE follows, or the end of the call if there can be none.

    The program stands meanwhile, and later we wait for short calls of the twin, so both go before others (`trace.priority`)."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, task.pid, min(NICE, nice_of(task.pid)))
    if lib.mos_run_call(task.pid, copy_regs(task.peek_regs()), SYS_CLONE, 0, 0, 0, 0, 0, 0) < 0:
        raise TaskGone(task.pid)


def set_apart(task: Task) -> None:
    """A new twin lets go of what others would wait for: descriptors, locks, the terminal."""
    with Calls(task) as call:
        call(SYS_SETSID)
        call(SYS_CLOSE_RANGE, 0, EVERY_DESCRIPTOR, 0)
    with suppress(OSError), open(f"/proc/{task.pid}/oom_score_adj", "wb", buffering=0) as score:
        score.write(EXPENDABLE)


def can_copy(call: Calls, vmas: Iterable[Vma]) -> bool:
    """Whether fork(2) copies all of this memory, and the twin of the program would not be a child of it again."""
    if any(vma.flags & (NOT_INHERITED | DROPPABLE) for vma in vmas):
        return False
    call.task.write(layout.SCRATCH, bytes(4))
    return call(SYS_PRCTL, PR_GET_CHILD_SUBREAPER, layout.SCRATCH) == 0 and call.task.read(layout.SCRATCH, 4) == bytes(4)
