"""One program's trouble stays its own: whatever goes wrong while it is served ends at worst that program, never its relatives.

All that a tracer does for a program is done inside one of a few edges (the stop of a task, a frame of a host, a message of mosd, a
turn of housekeeping). What is raised there comes here, and nothing is raised from here.
"""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from mosfs.abi.texts import SERVING_FAILED
from mosfs.home.ports import Tree
from mosfs.home.process.program import Program
from mosfs.trace.proc import ended, tracer_of
from mosfs.trace.task import TaskGone
from mosfs.wire.channel import ChannelLost


class Containment:
    def __init__(self, tracer: Tree) -> None:
        self.tracer = tracer

    @contextmanager
    def of(self, p: Program) -> Iterator[None]:
        """What goes wrong inside concerns ``p`` only."""
        try:
            yield
        except Exception as error:
            self.trouble(p, error)

    @contextmanager
    def nobody(self, what: str) -> Iterator[None]:
        """What goes wrong inside is no program's fault and ends nothing: it is in the log."""
        try:
            yield
        except Exception:
            self._failed(what)

    def _failed(self, what: str) -> None:
        self._log(f"{what} failed\n{traceback.format_exc()}")

    def trouble(self, p: Program, error: Exception) -> None:
        """``error`` came up while ``p`` was served."""
        with self.nobody(f"ending pid={p.pid}"):
            gone = TaskGone.behind(error)
            if gone is not None:
                self._gone(gone)
            elif isinstance(error, ChannelLost):
                self.channels_lost(p)
            elif ended(p.pid):
                self.tracer.mosd.log(f"pid={p.pid} ({p.comm}) ended while it was served: {error!r}")
            else:
                self._end(p, error)

    def each(self, p: Program, steps: tuple[Callable[[Program], None], ...]) -> None:
        """Every one of ``steps``, whatever becomes of the others."""
        for step in steps:
            with self.nobody(f"forgetting pid={p.pid}"):
                step(p)

    def turn(self, steps: Iterable[Callable[[float], object]], now: float) -> None:
        """Every one of ``steps`` of a turn of housekeeping, whatever becomes of the others: all the tree would end with us."""
        for step in steps:
            try:
                step(now)
            except Exception:
                self._failed(str(getattr(step, "__qualname__", step)))

    def _gone(self, gone: TaskGone) -> None:
        """A process has ended while it was worked on, or stopped for another reason; without a status its event follows."""
        if gone.status is not None:
            self.tracer.stops.task_event(gone.pid, gone.status)

    def channels_lost(self, p: Program) -> None:
        """Sending has met a channel that is broken: one over which ``p`` is away or moves, or that says so itself."""
        links = [p.link, p.move.link if p.move is not None else None, *self.tracer.hosts.channels.values()]
        for link in links:
            if link is not None and link.channel.lost:
                self.tracer.hosts.link_lost(link)

    def _end(self, p: Program, error: Exception) -> None:
        """Like any other that has to be killed: a line on its standard error, SIGKILL; and the reason in the log."""
        trace = "".join(traceback.format_exception(error))
        self._log(f"pid={p.pid} ({p.comm}) is ended, because serving it failed\n{trace}")
        if self.tracer.programs.get(p.pid) is not p:
            return  # its number may be another's
        try:
            if not p.death.told:
                p.death.told = True
                words = SERVING_FAILED.format(computer=self.tracer.mosd.config.ip or "its home-node")
                if p.away and p.deputy is not None:
                    self.tracer.deputies.last_words(p, p.deputy, words)
                else:
                    self.tracer.policy.say(p, words)
        except TaskGone as gone:
            self._gone(TaskGone.behind(gone) or gone)
        except Exception as second:
            self._log(f"pid={p.pid} has heard nothing of it: {second!r}")
        self.kill(p)

    def kill(self, p: Program) -> None:
        """End a program, whatever has become of it meanwhile: while we trace a process nobody else gets its number."""
        pid = self.tracer.family.process(p).pid
        if tracer_of(pid) == os.getpid():
            os.kill(pid, signal.SIGKILL)

    def _log(self, line: str) -> None:
        self.tracer.mosd.log(line, 40)
