"""The tracer: one process that owns one mosrun tree. It makes the rooms, and its loop gives each what concerns it.

What goes on at home is in `home.tree`; programs that are away are served in `home.away`, moves coordinated in `home.moves`, and
requests to MOSIX carried out in `home.asks`. Single-threaded, no trio: ptrace belongs to one thread. All waiting is in `Tracer.run`
(`engine.loop`), except while an image passes (`moves.arrival`) and for the microseconds of an injected call.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial

from mosfs.abi import cpu
from mosfs.engine.clocks import PERIOD
from mosfs.engine.loop import IDLE, Loop
from mosfs.home.asks.room import AsksRoom
from mosfs.home.away.room import AwayRoom
from mosfs.home.moves.room import MovesRoom
from mosfs.home.process.program import Program
from mosfs.home.tree.room import TreeRoom
from mosfs.trace.clock import HomeClock

#: Seconds until mosd is first told what the programs use; later it is told once in `PERIOD`.
FIRST_CLOCK = 0.3
#: Seconds between attempts to reach a mosd that is away.
RECONNECT = 0.3


class Tracer(TreeRoom, AwayRoom, MovesRoom, AsksRoom):
    """What the rooms see of this is `ports.Tree`. It is made before anybody needs it, by the process that forks tracers: to make
    it takes longer than all else that a tracer does until its program runs. So nothing in it may concern one process, but
    what `begin` sets."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.pump = self.loop.pump
        self.pump.settles = self.pump.pass_opens = 1
        self.mount = b""
        self.programs: dict[int, Program] = {}
        self.clock = HomeClock()
        self.features = cpu.features()
        self.next_clock = 0.0

        TreeRoom.__init__(self, self)
        AwayRoom.__init__(self, self)
        MovesRoom.__init__(self, self)
        AsksRoom.__init__(self, self)

        self._each_turn: tuple[Callable[[float], object], ...] = (
            self.deputies.park_idle, self.mails.park_idle, self.moves.retry, self.waits.expire, self.cputimers.look,
            self.relatives.look, self.checkpoints.look, lambda _: self.freezing.look(), self.preemption.look, self.outliving.look,
            lambda _: self.carrier.step(), lambda _: self.hosts.run_backlog(), self.mosd.introduce,
        )  # fmt: skip
        self._each_second: tuple[Callable[[float], object], ...] = (
            lambda _: self.mosd.tell_last_messages(), lambda _: self.clocks.refresh(), lambda _: self.hosts.push(),
            lambda _: self.hosts.send_clocks(), lambda _: self.traces.flush(), self.statistics.tick,
            lambda _: self.cputimers.tick(), lambda _: self.private.reap_all(), lambda _: self.private.space.look(),
            lambda _: self.silence.look(), lambda _: self.mapped.tick(), lambda _: self.shared.tick(),
            lambda _: self.withheld.tick(), lambda _: self.groups.tick(), lambda _: self.family.end_unclaimed(),
        )  # fmt: skip

    def begin(self, root_pid: int, uid: int, control_path: str) -> None:
        """This process is the tracer of ``root_pid``, which mosrun became, a process of ``uid``; its mosd listens at a socket."""
        self.loop.begin()
        self.mount = os.path.join(os.path.dirname(os.path.dirname(control_path)), "mosix").encode()
        self.next_clock = time.monotonic() + FIRST_CLOCK
        self.mosd.begin(root_pid, uid, control_path)
        self.traces.begin()
        self.statistics.begin()

    # ------------------------------------------------------------------ the loop

    def run(self) -> None:
        """Serve the tree until it is empty."""
        self.mosd.connect()
        control, channels, listeners = self.mosd.control, self.hosts.channels, self.debugged.listeners
        turn, task_event, borrowed = self.loop.turn, self.stops.task_event, self.mails.desk.borrowed
        contained = partial(self.containment.nobody, "looking at mailboxes")
        while self.programs or listeners or self.private.space.left or not self.family.over():
            if control.has_ended():
                self.openings.mosd_gone()
                self.mails.desk.lost()
            if control.aside:
                self.mosd.receive()
            links = [*channels.values()]
            linked = control.sock is not None
            fds = [control.fileno()] if linked else []
            fds += [link.channel.fileno() for link in links]
            fds += listeners
            if self.mapped.watcher >= 0:
                fds.append(self.mapped.watcher)
            busy = any(link.channel.pending() for link in links)
            full = [link.channel.fileno() for link in links if link.channel.unsent]
            self.lanes.arm()
            timeout = 0 if busy else self._timeout()
            ready = turn(
                fds, timeout, task_event, borrowed, contained, self.family.write_down, self.lanes.look, full, eager=not links
            )
            if ready >= 0:
                ready -= linked
                if ready < 0:
                    self.mosd.receive()
                    continue
                if ready < len(links):
                    if id(links[ready]) in channels:  # the notes may have ended it
                        self.hosts.channel_event(links[ready])
                elif ready == len(links) + len(listeners):
                    self.mapped.poll()
                else:
                    with self.containment.nobody("passing a call of a debugged program"):
                        self.debugged.told(ready - len(links), self.loop.events)
            elif busy and ready == IDLE:
                for link in links:
                    if link.channel.pending():
                        self.hosts.channel_event(link)
            self.copying.step()
            self._housekeeping()

    def _timeout(self) -> int:
        """Microseconds until something is due."""
        now = time.monotonic()
        due = self.next_clock
        moments = (
            self.mosd.due(), self.deputies.next_park(), self.mails.next_park(), self.moves.next_retry(), self.waits.due(),
            self.cputimers.due(), self.relatives.due(), self.checkpoints.due(), self.freezing.due(), self.copying.brake.due(),
            self.outliving.due(), self.preemption.due(),
        )
        for moment in moments:
            if moment is not None:
                due = min(due, moment)
        for sending in (self.copying.timeout(), self.carrier.timeout()):
            if sending is not None:
                due = min(due, now + sending)
        if self.mosd.control.sock is None:
            due = min(due, now + RECONNECT)
        return max(0, int((due - now) * 1e6))

    def _housekeeping(self) -> None:
        now = time.monotonic()
        self.containment.turn(self._each_turn, now)
        if now >= self.next_clock:
            self.next_clock = now + PERIOD
            self.containment.turn(self._each_second, now)
        if self.mosd.control.sock is None:
            self.mosd.connect()
