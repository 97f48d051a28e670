"""A body whose memory comes: from the first EARLY frame (or from IMAGE) until it is complete or dropped."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from mosfs.guest.sandbox import end_thread, spawn_thread
from mosfs.migrate.filecopy import Copies
from mosfs.migrate.image import ImageMeta
from mosfs.migrate.precopy import Early, early_from
from mosfs.migrate.rebuild import Rebuild, give_state
from mosfs.migrate.rows import give_threads
from mosfs.trace.inject import Calls
from mosfs.trace.task import Task, discard
from mosfs.wire.frames import Frame, Kind

#: A thread that has been made: its task, the registers to resume it with, and state of its processor that waits.
Made = tuple[Task, Any, dict[int, bytes]]


class Arriving:
    """``task`` stands in its stub all the time. NoRoom and BadImage mean that it is of no use any more: discard it."""

    def __init__(self, task: Task, copies: Copies | None = None, *, several: bool = False) -> None:
        self.task = task
        self.several = several  # it may have threads
        self.ahead = False  # some of its memory has come before its image
        self.made: list[Made] = []
        self._tasks: dict[int, Task] = {}  # its other threads, by their IDs at home
        self._call = Calls(task, mask=0)
        self._call.__enter__()
        self.copies = copies or Copies()
        self.rebuild = Rebuild(self._call, files=self.copies)

    def frame(self, frame: Frame) -> None:
        """EARLY, FILE, LACKS, PAGES or RUNS."""
        if frame.kind == Kind.FILE:
            self.copies.apply(frame.payload)
        elif frame.kind == Kind.LACKS:
            self.copies.answered(frame.payload)
        elif frame.kind == Kind.EARLY:
            self.early(early_from(frame.payload))
        else:
            self.ahead = True
            self.rebuild.pages(frame)

    def early(self, early: Early) -> None:
        """What EARLY says."""
        self.ahead = True
        self.rebuild.early(early)
        self.ahead = bool(early.pieces or early.vmas)
        for tid in early.threads if self.several else ():  # it takes time, which the program need not stand still for
            self._thread(tid)

    def _thread(self, tid: int) -> Task:
        """That thread, which stands in its stub: it may have been made ahead."""
        if tid not in self._tasks:
            self._tasks[tid] = spawn_thread(self._call, tid)
        return self._tasks[tid]

    def map(self, meta: ImageMeta) -> None:
        """IMAGE: all its mappings."""
        self.rebuild.map(meta)

    def finish(self, frames: int) -> Any:
        """IMAGE_END: the registers to resume with. Its other threads are made, too; none has run."""
        regs, meta = self.rebuild.finish(frames, home=False), self.rebuild.meta
        for tid in self._tasks.keys() - {thread.tid for thread in meta.threads}:  # it has ended meanwhile
            end_thread(self._tasks.pop(tid), self._call.base)
        tasks = [self._thread(thread.tid) for thread in meta.threads]
        with ExitStack() as sessions:
            calls = [sessions.enter_context(Calls(task, base=self._call.base)) for task in tasks]
            states = [give_state(task, meta, thread) for task, thread in zip(tasks, meta.threads, strict=True)]
            self.made = list(zip(tasks, give_threads(calls, meta.threads), states, strict=True))
        self._call.__exit__(None, None, None)
        return regs

    def discard(self) -> None:
        self.rebuild.close()
        self.copies.close()
        discard(self.task, list(self._tasks.values()))
