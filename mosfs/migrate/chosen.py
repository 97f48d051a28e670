"""A thread, or a process, with an ID that we choose, made by a stopped process at home: it stands in the stub, and ends with its
tracer."""

from __future__ import annotations

import errno
import struct
import time
from contextlib import suppress

from mosfs.abi.flags import CLONE_FILES, CLONE_FS, CLONE_PARENT, CLONE_SIGHAND, CLONE_SYSVSEM, CLONE_THREAD, CLONE_VM
from mosfs.abi.numbers import SYS_CLONE, SYS_CLONE3, SYS_EXIT
from mosfs.migrate.twin import cloned
from mosfs.native import lib
from mosfs.trace import layout, numbers
from mosfs.trace.inject import Calls
from mosfs.trace.numbers import CannotChoose
from mosfs.trace.stops import Stop, decode
from mosfs.trace.task import Task, TaskGone, check

#: Another thread of the process; another child of its parent, with a copy of all that it has.
THREAD = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM
SIBLING = CLONE_PARENT
#: struct clone_args with set_tid and its number (clone3(2)), and behind it the ID.
_ARGS = struct.Struct("<10QI")
#: What else the kernel may say where it does not let the process choose.
_REFUSALS = (errno.EPERM, errno.ENOSYS, errno.EINVAL, errno.EEXIST)


def with_number(call: Calls, number: int, flags: int) -> Task:
    """A new `THREAD`, or `SIBLING`, of the process that ``call`` is a session in, with all signals blocked. CannotChoose, OSError,
    TaskGone.

    Of who has that number it is hoped that he will soon have ended: it was free a moment ago."""
    for attempt in range(numbers.ATTEMPTS):
        try:
            task = _by_right(call, number, flags) or _by_turn(call, number, flags)
        except CannotChoose:
            if not numbers.in_use(number) or attempt == numbers.ATTEMPTS - 1:
                raise
            time.sleep(numbers.AGAIN)
            continue
        if task is not None:
            task.group = call.task.group if flags & CLONE_THREAD else task.group
            return task
    raise numbers.not_had(number)


def _by_right(call: Calls, number: int, flags: int) -> Task | None:
    """By clone3(2), of which the number is a part, as far as the process has a right to that."""
    call.task.write(layout.SCRATCH, _ARGS.pack(flags, *([0] * 7), layout.SCRATCH + 80, 1, number))
    try:
        return cloned(call, SYS_CLONE3, layout.SCRATCH, 80)
    except OSError as error:
        if error.errno in _REFUSALS:
            return None
        raise


def _by_turn(call: Calls, number: int, flags: int) -> Task | None:
    """By having it be the next one. None: somebody else was faster."""
    with numbers.next_is(number, numbers.PATIENCE):
        task = cloned(call, SYS_CLONE, flags)
    if task.pid == number:
        return task
    end(task)
    return None


def end(task: Task) -> None:
    """End what stands in its stub, and no other thread of it."""
    with suppress(TaskGone):
        check(lib.mos_run_call(task.pid, task.peek_regs(), SYS_EXIT, 0, 0, 0, 0, 0, 0), "the end of a thread", task.pid)
        while decode(task.wait()).stop not in (Stop.EXITED, Stop.KILLED):
            task.cont()
    lib.mos_unknown(task.pid)
