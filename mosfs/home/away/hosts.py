"""Data channels to hosts: frames for the bodies, and what it means when a channel breaks.

While a body moves between two nodes, answers are kept back (`Body.kept_back`) and given to the host that has it in the end.
"""

from __future__ import annotations

from collections.abc import Sequence

from mosfs.abi.reasons import Reason
from mosfs.abi.signals import SI_TIMER, SIGRTMIN
from mosfs.abi.texts import Text, text
from mosfs.home.ports import Tree
from mosfs.home.process.link import Link
from mosfs.home.process.program import Program
from mosfs.home.process.replay import Answer
from mosfs.migrate.freezefile import FreezeFile
from mosfs.wire.channel import ChannelLost, Compromised
from mosfs.wire.frames import Frame, Kind, flags_for, understands

#: Real-time signals that wait for a thread whose body can hear of none.
MOST_SIGNALS = 4096
_OF_TIMER = SI_TIMER.to_bytes(4, "little", signed=True)


class Hosts:
    """``channels``: the links by their id(), while they are open."""

    def __init__(self, tracer: Tree) -> None:
        self.tracer = tracer
        self.channels: dict[int, Link] = {}
        self._backlog: list[tuple[Link, Frame]] = []

    def channel_event(self, link: Link) -> None:
        try:
            for frame in link.channel.frames():
                self.tracer.frames.handle(link, frame)
                while self._backlog:
                    self.tracer.frames.handle(*self._backlog.pop(0))
        except ChannelLost as lost:
            if isinstance(lost, Compromised):
                self.tracer.mosd.log(f"{lost} ({link.ip})", 40)
            self.link_lost(link)

    def run_backlog(self) -> None:
        """Frames that came while an exec fetched private files."""
        while self._backlog:
            link, frame = self._backlog.pop(0)
            try:
                self.tracer.frames.handle(link, frame)
            except ChannelLost:
                self.link_lost(link)

    def backlog(self, link: Link, frame: Frame) -> None:
        """A frame of another program that came within an image."""
        self._backlog.append((link, frame))

    def send(self, p: Program, kind: int, payload: bytes, flags: int = 0) -> None:
        """A frame for the body's host; kept back while the body moves. The flags of a REPLY are the number of its call."""
        flags = p.body.seq << 1 if kind == Kind.REPLY else flags
        self.tracer.mapped.poll()
        p.reports.account.received += len(payload)
        if not self.tracer.outliving.hears(p, (kind, payload, flags)):
            self.give(p, kind, payload, flags)

    def give(self, p: Program, kind: int, payload: bytes, flags: int) -> None:
        """Send a frame as it is; it may be an old one, which is repeated."""
        if p.body.kept_back is not None:
            p.body.kept_back.append((kind, payload, flags))
            return
        try:
            self._pass(p, kind, payload, flags)
        except ChannelLost:
            self.link_lost(p.link)

    def waiting(self, p: Program) -> Sequence[Answer]:
        """The frames that the body's host gets later: it moves, is in a file, or repeats what was before."""
        backup = p.saves.outlive
        if backup is not None and backup.log.repeats:
            return backup.log.entries[-1].answers if backup.log.open else backup.log.later
        if p.body.kept_back is not None:
            return p.body.kept_back
        channel = p.link.channel if p.link is not None else None
        return channel.answers.get(p.pid, ()) if isinstance(channel, FreezeFile) else ()

    def release_answers(self, p: Program) -> None:
        """The body has arrived: its host gets what was kept back, for its other threads, too."""
        released = []
        for one in (p, *self.tracer.threads.of(p)):
            kept, one.body.kept_back = one.body.kept_back or [], None
            released += [(one, *frame) for frame in kept]
        self.tracer.mapped.catch_up(p)  # which tells nothing to those whose answers are kept back
        try:
            for frame in released:
                self._pass(*frame)
        except ChannelLost:
            self.link_lost(p.link)

    @staticmethod
    def _pass(p: Program, kind: int, payload: bytes, flags: int) -> None:
        """A frame for the body's host, as far as that understands it. ChannelLost."""
        if p.link is not None and understands(p.link.frames, kind):
            p.link.channel.send(kind, p.pid, payload, flags_for(p.link.frames, kind, flags))

    def push(self) -> None:
        """Once a second: who takes nothing of what waits for it is lost."""
        for link in list(self.channels.values()):
            try:
                link.channel.flush()
            except ChannelLost:
                self.link_lost(link)

    def send_clocks(self) -> None:
        times = b""
        for link in list(self.channels.values()):
            if self.tracer.outliving.uses(link):
                continue
            pair = next(iter(link.programs), 0)
            try:
                times = self.tracer.clocks.times()
                link.channel.send(Kind.CLOCK, pair, times)
            except ChannelLost:
                self.link_lost(link)

    def drop(self, p: Program, link: Link) -> None:
        """Tell a host that the body of ``p`` is not wanted; the channel is closed with its last body."""
        link.programs.discard(p.pid)
        try:
            link.channel.send(Kind.DROP, p.pid)
        except ChannelLost:
            pass
        if not link.programs:
            self.close(link)

    def close(self, link: Link) -> None:
        self.channels.pop(id(link), None)
        link.channel.close()

    def link_lost(self, link: Link | None) -> None:
        """A data channel broke: moves over it fail, programs whose bodies were behind it are dead."""
        if link is None or id(link) not in self.channels:
            return
        self.close(link)
        for pid in list(link.programs):
            p = self.tracer.programs.get(pid)
            if p is None:
                continue
            with self.tracer.containment.of(p):
                if p.link is link and p.away:
                    self._lost(p, link)
                elif p.move is not None and p.move.link is link:
                    self.tracer.moves.failed(p, link, Reason.INCOMPLETE)

    def _lost(self, p: Program, link: Link) -> None:
        """The manual: "Unfortunately this means that the program had to be killed"; but for one that outlives its node."""
        if self.tracer.outliving.revives(p, link):
            return
        message = text(Text.LOST, computer=link.ip)
        if p.move is not None and p.move.link not in (None, link):
            message = text(Text.KILLED_MIGRATING, computer1=link.ip, computer2=p.move.link.ip)
        self.ends(p, message)

    def ends(self, p: Program, message: str) -> None:
        """``message`` is its last line."""
        self.tracer.mosd.log(f"pid={p.pid} {message}", 30)
        deputy = p.deputy
        try:
            if deputy is not None:
                self.tracer.deputies.last_words(p, deputy, message)
        finally:
            self.tracer.containment.kill(p)


def is_lost(info: bytes, waiting: Sequence[Answer]) -> bool:
    """Whether the signal of ``info`` is lost, since these frames wait: as in the kernel's queues (signal(7), timer_getoverrun(2)).

    A standard signal waits once, and so does each timer; of others there is room for `MOST_SIGNALS`."""
    standard, timer = int.from_bytes(info[:4], "little") < SIGRTMIN, info[8:12] == _OF_TIMER
    if standard or timer:
        same = (payload for kind, payload, _ in waiting if kind == Kind.SIGNAL and payload[:4] == info[:4])
        if any(standard or other[8:20] == info[8:20] for other in same):
            return True
    return not standard and len(waiting) >= MOST_SIGNALS
