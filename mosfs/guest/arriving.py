"""A body whose memory comes: from the first EARLY frame (or from IMAGE) until it is complete or dropped."""

from __future__ import annotations

from typing import Any

from mosfs.migrate.filecopy import Copies
from mosfs.migrate.image import ImageMeta
from mosfs.migrate.precopy import early_from
from mosfs.migrate.rebuild import Rebuild
from mosfs.trace.inject import Calls
from mosfs.trace.task import Task, discard
from mosfs.wire.frames import Frame, Kind


class Arriving:
    """``task`` stands in its stub all the time. NoRoom and BadImage mean that it is of no use any more: discard it."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self._call = Calls(task, mask=0)
        self._call.__enter__()
        self.copies = Copies()
        self.rebuild = Rebuild(self._call, files=self.copies)

    def frame(self, frame: Frame) -> None:
        """EARLY, FILE, PAGES or RUNS."""
        if frame.kind in (Kind.PAGES, Kind.RUNS):
            self.rebuild.pages(frame)
        elif frame.kind == Kind.FILE:
            self.copies.apply(frame.payload)
        else:
            self.rebuild.early(early_from(frame.payload))

    def map(self, meta: ImageMeta) -> None:
        """IMAGE: all its mappings."""
        self.rebuild.map(meta)

    def finish(self, frames: int) -> Any:
        """IMAGE_END: the registers to resume with."""
        regs = self.rebuild.finish(frames, home=False)
        self._call.__exit__(None, None, None)
        return regs

    def discard(self) -> None:
        self.rebuild.close()
        self.copies.close()
        discard(self.task)
