"""A body whose memory comes: from the first EARLY frame (or from IMAGE) until it is complete or dropped."""

from __future__ import annotations

from typing import Any

from mosfs.guest.sandbox import spawn_thread
from mosfs.migrate.filecopy import Copies
from mosfs.migrate.image import ImageMeta
from mosfs.migrate.precopy import early_from
from mosfs.migrate.rebuild import Rebuild, give_own, give_state, name_task
from mosfs.trace.inject import Calls
from mosfs.trace.task import Task, discard
from mosfs.wire.frames import Frame, Kind

#: A thread that has been made: its task, the registers to resume it with, and state of its processor that waits.
Made = tuple[Task, Any, dict[int, bytes]]


class Arriving:
    """``task`` stands in its stub all the time. NoRoom and BadImage mean that it is of no use any more: discard it."""

    def __init__(self, task: Task, copies: Copies | None = None) -> None:
        self.task = task
        self.ahead = False  # some of its memory has come before its image
        self.made: list[Made] = []
        self._tasks: list[Task] = []
        self._call = Calls(task, mask=0)
        self._call.__enter__()
        self.copies = copies or Copies()
        self.rebuild = Rebuild(self._call, files=self.copies)

    def frame(self, frame: Frame) -> None:
        """EARLY, FILE, PAGES or RUNS."""
        if frame.kind == Kind.FILE:
            self.copies.apply(frame.payload)
            return
        self.ahead = True
        if frame.kind in (Kind.PAGES, Kind.RUNS):
            self.rebuild.pages(frame)
        else:
            early = early_from(frame.payload)
            self.rebuild.early(early)
            self.ahead = bool(early.pieces or early.vmas)

    def map(self, meta: ImageMeta) -> None:
        """IMAGE: all its mappings."""
        self.rebuild.map(meta)

    def finish(self, frames: int) -> Any:
        """IMAGE_END: the registers to resume with. Its other threads are made, too; none has run."""
        regs, meta = self.rebuild.finish(frames, home=False), self.rebuild.meta
        for thread in meta.threads:
            task = spawn_thread(self._call, thread.tid)
            self._tasks.append(task)
            with Calls(task, base=self._call.base) as session:
                waiting_state = give_state(task, meta, thread)
                name_task(session, thread.comm)
                self.made.append((task, give_own(session, thread), waiting_state))
        self._call.__exit__(None, None, None)
        return regs

    def discard(self) -> None:
        self.rebuild.close()
        self.copies.close()
        discard(self.task, self._tasks)
