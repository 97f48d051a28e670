"""Writing a checkpoint: by a twin of the program (`migrate.twin`), in slices, between the events of the tree.

::

    FORKING   the program stands; the kernel copies its memory
    WRITING   the program goes on, but for contents of unlinked files that are copied first; slices of the file are written
    SYNCING   the twin waits for the disk (fsync(2))
    OVER      the file has its name, or nothing is left of it

The twin makes and renames the file, so that happens with the program's own rights. Where the program's memory cannot be copied, or
it shall not go on before its checkpoint is whole, it stands until the end.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from mosfs.abi.numbers import SYS_FSYNC, SYS_WAIT4
from mosfs.home.process.program import Program
from mosfs.migrate import twin as twins
from mosfs.migrate.capture import signed
from mosfs.migrate.checkpoint import Writer
from mosfs.migrate.image import Vma
from mosfs.migrate.increments import Chain, Increment
from mosfs.migrate.newfile import CannotWrite, NewFile, NewFolder
from mosfs.migrate.pages import sending_all
from mosfs.native import lib
from mosfs.trace.caller import rights_of
from mosfs.trace.inject import Calls
from mosfs.trace.stops import SECCOMP_STOP, Stop, decode
from mosfs.trace.task import WALL, Task, TaskGone, copy_regs
from mosfs.wire.faults import Saving, fault
from mosfs.wire.frames import Kind

#: Seconds of slices between two looks at the events of the tree, for all that is being written.
TURN = 0.002
#: Seconds that a disk may take.
PATIENCE = 600.0
ENDED = "the process that wrote it has ended"
#: What stands in a counted file that is no checkpoint (mosrun(1), -N).
INSTEAD = "No checkpoint could be taken: {reason}\n"


class State(Enum):
    FORKING = auto()
    WRITING = auto()
    SYNCING = auto()
    OVER = auto()


@dataclass(slots=True)
class Plan:
    """What is to be written. ``contents``: (place in the head, our descriptor, size) of unlinked files; ``most``: bytes that the
    file may have, with the ``rights`` of the program; ``chain``: it is an incremental one; ``threads``: it has several;
    ``standing``, ``mask``: registers and signal mask that the program keeps."""

    path: str
    head: bytes
    image: bytes
    vmas: list[Vma]
    contents: list[tuple[int, int, int]]
    rights: Callable[[], AbstractContextManager[None]]
    most: int
    chain: Chain | None = None
    threads: bool = False
    standing: Any = None
    mask: int | None = None

    def close(self) -> None:
        contents, self.contents = self.contents, []
        for _, fd, _ in contents:
            os.close(fd)


@dataclass(slots=True)
class Writing:
    """``patient``: the program goes on only when the file is whole; ``let_go`` has it go on, and is told "" or why there is no
    file; ``done`` hears of that, and of the bytes written, at the end."""

    p: Program
    plan: Plan
    patient: bool
    let_go: Callable[[str], None]
    done: Callable[[str, int], None]
    unforeseen: Callable[[Program, Exception], str]  # words for a failure that is a fault of ours
    tasks: dict[int, Writing]  # who is told of stops of our processes, by PID
    began: float  # when the program stood, by CLOCK_MONOTONIC
    state: State = State.FORKING
    shares: bool = False
    until: float = field(default_factory=lambda: time.monotonic() + PATIENCE)
    stood: float = -1.0  # seconds
    _task: Task | None = None
    _base: Any = None
    _file: NewFile | None = None
    _increment: Increment | None = None
    _steps: Iterator[None] = field(default_factory=lambda: iter(()))
    _written: int = 0

    def begin(self, call: Calls) -> None:
        """Begin to write, within the session ``call`` of the stopped program. OSError."""
        fault(Saving.PLANNED, None, self.p.comm)
        if twins.can_copy(call, self.plan.vmas):
            with suppress(OSError):
                self._take(twins.maker(call))
        if self._task is not None:
            twins.begin_fork(self._task)
        else:
            self._share(call)

    # ------------------------------------------------------------------ the twin

    def _take(self, task: Task) -> None:
        self._leave()
        self._task = task
        self.tasks[task.pid] = self

    def _leave(self) -> None:
        if self._task is not None:
            self.tasks.pop(self._task.pid, None)

    def _share(self, call: Calls) -> None:
        self.shares = True
        self._take(twins.sharing(call))
        self._write()

    def _write(self) -> None:
        assert self._task is not None
        self._base = copy_regs(self._task.peek_regs())
        self._steps = self._slices(self._task)
        self.state = State.WRITING

    def event(self, status: int) -> None:
        """The maker or the twin has stopped, or ended."""
        task, stop = self._task, decode(status).stop
        if task is None:
            return
        if self.state is State.OVER:
            self._undo_fork(task, stop)
        elif stop in (Stop.EXITED, Stop.KILLED):
            self._leave()
            self._task = None
            self.finish(ENDED)
        elif self.state is State.FORKING and stop is Stop.CLONE:
            twin = twins.newborn(task)
            self._take(twin)
            twins.end(task)
            twins.set_apart(twin)
            self._write()
            self._fault(Saving.FORKED)
            if not self.plan.contents:
                self._go_on()
        elif self.state is State.FORKING and status == SECCOMP_STOP:  # it has failed
            self._leave()
            self._task = None
            twins.end(task)
            with Calls(self.p.task, base=self.plan.standing, mask=self.plan.mask) as call:
                try:
                    self._share(call)
                finally:
                    self.p.task.set_regs(self.plan.standing)
        elif self.state is State.SYNCING and status == SECCOMP_STOP:
            self._complete(signed(task.peek_regs().rdi))
        elif self.state is not State.WRITING:
            task.cont()

    def _undo_fork(self, task: Task, stop: Stop) -> None:
        """The program has ended while the kernel copied its memory."""
        self._leave()
        self._task = None
        if stop is Stop.CLONE:
            twins.kill(twins.newborn(task))
        if stop not in (Stop.EXITED, Stop.KILLED):
            twins.kill(task)

    # ------------------------------------------------------------------ the file

    def due(self) -> float:
        """When `step` has something to do, by CLOCK_MONOTONIC."""
        return 0.0 if self.state is State.WRITING else self.until

    def step(self, share: float) -> None:
        """A slice, and more in this ``share`` of a turn; the end of the file."""
        now = time.monotonic()
        if self.state is not State.WRITING and now >= self.until:
            raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
        while self.state is State.WRITING:
            if next(self._steps, self) is self:
                self._sync()
            if time.monotonic() >= now + share * TURN:
                break

    def _slices(self, task: Task) -> Iterator[None]:
        plan = self.plan
        with Calls(task, base=self._base) as call:
            self._file = (NewFile if plan.chain is None else NewFolder)(call, plan.path, self.p.pid, plan.rights)
        self._fault(Saving.CREATED)
        writer = self._writer(self._file)
        writer.head(plan.head, threads=plan.threads)
        writer.send(Kind.IMAGE, self.p.pid, plan.image)
        for place, fd, size in plan.contents:
            yield from writer.content(place, fd, size)
        self._go_on()
        compressed = self.p.settings.compress == 1 and plan.chain is None  # in a chain single pages are shared
        for _ in sending_all(task, writer, self.p.pid, plan.vmas, compressed=compressed):
            self._fault(Saving.PAGES)
            yield
        self._fault(Saving.WRITTEN)
        writer.end()
        self._written = writer.written

    def _writer(self, file: NewFile) -> Writer:
        plan = self.plan
        if plan.chain is None or not isinstance(file, NewFolder):
            return Writer(file.ours, plan.rights, plan.most)
        self._increment = Increment(file.ours, plan.chain, file.inside, plan.rights, plan.most)
        self._fault(Saving.LINKED)
        return self._increment

    def _sync(self) -> None:
        assert self._task is not None and self._file is not None
        self.state, self.until = State.SYNCING, time.monotonic() + PATIENCE
        if lib.mos_run_call(self._task.pid, self._base, SYS_FSYNC, self._file.theirs, 0, 0, 0, 0, 0) < 0:
            raise TaskGone(self._task.pid)

    def _complete(self, result: int) -> None:
        assert self._task is not None and self._file is not None
        if result < 0 and result != -errno.EINVAL:  # a file system that does not know fsync
            raise OSError(-result, os.strerror(-result))
        self._fault(Saving.SYNCED)
        if self._increment is not None:  # if it gets no name after all, the next one finds nothing to share
            self._increment.become_last()
        with Calls(self._task, base=self._base) as call:
            self._file.publish(call)
        self._file = None
        self.finish("")

    def _fault(self, point: Saving) -> None:
        assert self._task is not None
        fault(point, None, self.p.comm, self._task.pid)

    # ------------------------------------------------------------------ the end

    def _go_on(self, reason: str = "", *, whole: bool = False) -> None:
        """The program need not stand any more."""
        if self.stood >= 0 or not (whole or reason or not (self.patient or self.shares)):
            return
        self.stood = time.monotonic() - self.began
        self.plan.close()
        self.let_go(reason)

    def fail(self, error: Exception) -> None:
        """Give up because of this."""
        if isinstance(error, TaskGone):
            if self._task is not None and error.pid == self._task.pid:  # its number may be another's by now
                self._leave()
                self._task = None
            self.finish(ENDED)
        elif isinstance(error, ProcessLookupError):
            self.finish(ENDED)
        elif isinstance(error, CannotWrite):
            self.finish(f"{self.plan.path}: {error}")
        elif isinstance(error, OSError):
            self.finish(f"{self.plan.path}: {os.strerror(error.errno or errno.EIO)}")
        else:
            self.finish(self.unforeseen(self.p, error))

    def finish(self, reason: str) -> None:
        """"" or why there is no file."""
        if self.state is State.OVER:
            return
        self.clear()
        self._go_on(reason, whole=True)
        self.done(reason, self._written)

    def clear(self) -> None:
        """Nothing stays of the twin, nor of a file that is not whole."""
        forking, self.state = self.state is State.FORKING, State.OVER
        self.plan.close()
        if forking:  # the twin has no name yet: its maker will tell
            return
        task, file, self._task, self._file = self._task, self._file, None, None
        if task is not None:
            self.tasks.pop(task.pid, None)
            if file is not None and self._base is not None:
                with suppress(TaskGone, OSError), Calls(task, base=self._base) as call:
                    file.drop(call)
            twins.kill(task)
        if file is not None and file.ours >= 0:
            file.abandon()
        if task is not None and self.shares:
            with suppress(TaskGone):
                self._reap(task)

    def _reap(self, task: Task) -> None:
        twins.end(task)
        with Calls(self.p.task, base=self.plan.standing, mask=self.plan.mask) as call:
            call(SYS_WAIT4, task.pid, 0, WALL, 0)
        self.p.task.set_regs(self.plan.standing)


def explain(p: Program, standing: Any, mask: int | None, path: str, reason: str) -> None:
    """A file that holds the reason only, made by the program, which stands with these registers and keeps this mask."""
    with suppress(OSError, CannotWrite), Calls(p.task, base=standing, mask=mask) as call:
        try:
            file = NewFile(call, path, p.pid, rights_of(p.pid))
            try:
                with rights_of(p.pid)():
                    os.write(file.ours, INSTEAD.format(reason=reason).encode())
            except OSError:
                file.drop(call)
                raise
            file.publish(call)
        finally:
            p.task.set_regs(standing)
