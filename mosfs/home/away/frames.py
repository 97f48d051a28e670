"""Frames of hosts: one row for each kind says who acts on it, and when. What may be in them is checked before (`wire.frames`).

A deputy makes one call at a time, so what needs it waits until it is READY (`WHEN_READY`), in the order in which it came.
"""

from __future__ import annotations

from collections.abc import Callable

from mosfs.abi.reasons import Reason
from mosfs.calls.cputime import Used
from mosfs.calls.request import BadRequest
from mosfs.cluster.address import as_unsigned
from mosfs.home.ports import Tree
from mosfs.home.process import own_files
from mosfs.home.process.deputy import Deputy, State
from mosfs.home.process.link import Link
from mosfs.home.process.move import Event, Move, Phase, Step
from mosfs.home.process.program import Program
from mosfs.migrate.image import BadImage
from mosfs.wire.channel import Channel, ChannelLost
from mosfs.wire.faults import Serving, fault
from mosfs.wire.frames import NUMBERED, Frame, Kind, understands
from mosfs.wire.orders import OutOrder

#: A body waits in one call at a time; but what it blocks meanwhile, and the like, may wait for its deputy too.
MOST_WAITING = 1000
SERVING = 1  # flag of DIED: because its host failed to serve it

#: Of a host to which the program may be on its way.
OfMove = Callable[[Tree, Program, Link, Frame], None]
#: Of the host that has the program.
OfBody = Callable[[Tree, Program, Deputy, Frame], None]

OF_MOVE: dict[int, OfMove] = {
    Kind.READY: lambda tree, p, link, _: tree.moves.ready(p, link),
    Kind.RUNNING: lambda tree, p, link, _: tree.moves.running(p, link),
    Kind.FAIL: lambda tree, p, link, frame: tree.moves.failed(p, link, frame.content),
    Kind.LACKS: lambda tree, p, link, frame: tree.mapped.lacks(p, link, frame.payload),
}

AT_ONCE: dict[int, OfBody] = {
    Kind.CALL: lambda tree, p, deputy, frame: tree.requests.called(p, deputy, frame),
    Kind.MASK: lambda tree, p, deputy, frame: tree.requests.mask(p, deputy, frame.content),
    Kind.ACTION: lambda tree, p, deputy, frame: tree.requests.action(p, deputy, *frame.content),
    Kind.RESET: lambda tree, p, deputy, frame: tree.requests.action(p, deputy, frame.content, b""),
    Kind.PRIVATE: lambda tree, p, _, frame: tree.carrier.feed(p, frame.payload),
    Kind.EARLY: lambda tree, p, deputy, frame: tree.copying.early(p, deputy, frame.payload),
    Kind.PAGES: lambda tree, p, _, frame: tree.copying.pages(p, frame),
    Kind.RUNS: lambda tree, p, _, frame: tree.copying.pages(p, frame),
    Kind.COPIED: lambda tree, p, *_: tree.moves.copied(p),
    Kind.CANNOT: lambda tree, p, _, frame: tree.moves.cannot(p, frame.content),
    Kind.MAIL_SEEN: lambda tree, p, _, frame: tree.mails.seen(p, frame.content.filter_at, frame.content.last),
    Kind.CPU_ALARM: lambda tree, p, *_: tree.cputimers.rang(p),
    Kind.TITLE: lambda _, p, __, frame: own_files.retitle(p, frame.payload),
    Kind.USED: lambda tree, p, _, frame: tree.statistics.used(p, frame.content),
}

WHEN_READY: dict[int, OfBody] = {
    Kind.PRIVATE_OPEN: lambda tree, p, deputy, frame: tree.requests.private_open(p, deputy, frame.content, frame.flags),
    Kind.FORK: lambda tree, p, deputy, frame: tree.births.fork(p, deputy, frame.content),
    Kind.EXEC: lambda tree, p, deputy, frame: tree.births.execute(p, deputy, frame.content, frame.flags),
    Kind.MMAP: lambda tree, p, deputy, frame: tree.requests.map_file(p, deputy, frame.content, frame.flags),
}


class Frames:
    """Rows that take more than a line are methods: ``of_link`` is asked with the link, too."""

    def __init__(self, tracer: Tree) -> None:
        self.tracer = tracer
        self._with_link: dict[int, Callable[[Program, Deputy, Link, Frame], None]] = {
            Kind.DIED: self._died,
            Kind.PRIVATE_FULL: self._private_full,
            Kind.WANT: self._want,
            Kind.IMAGE: self._image,
            Kind.ROUND: self._round,
            Kind.CPU_TIME: self._cpu_time,
            Kind.THREAD_TIME: self._thread_time,
            Kind.SHOWN: self._shown,
            Kind.STEP_OUT: self._step_out,
        }

    def handle(self, link: Link, frame: Frame) -> None:
        """A frame that has come over ``link``. ChannelLost, if that is of no use any more."""
        if frame.kind == Kind.PREPARED:
            self.tracer.openings.prepared(link)
            return
        if frame.kind == Kind.ASK_CLOCK:
            self._asks_the_time(link, frame)
            return
        p = self.tracer.programs.get(frame.pair)
        if p is None:
            return
        try:
            self._dispatch(p, link, frame)
        except (BadRequest, BadImage) as error:
            self.tracer.mosd.log(f"pid={p.pid} malformed frame {frame.kind} from {link.ip}: {error}", 40)
            raise ChannelLost(str(error)) from error
        except Exception as error:
            self.tracer.containment.trouble(p, error)
            if link.channel.lost:
                raise ChannelLost("closed") from error

    def _asks_the_time(self, link: Link, frame: Frame) -> None:
        """Every host does so when it begins; and one whose clocks are another kernel's again at once, before its programs do
        anything."""
        link.questions += 1
        if link.questions > 1 and isinstance(link.channel, Channel) and understands(link.frames, Kind.TIME):
            link.channel.tell_time()
        link.channel.send(Kind.CLOCK, frame.pair, self.tracer.clocks.times(frame.content))

    def _dispatch(self, p: Program, link: Link, frame: Frame) -> None:
        kind = frame.kind
        fault(Serving.HOME_FRAME, None, p.comm)
        if (of_move := OF_MOVE.get(kind)) is not None:
            of_move(self.tracer, p, link, frame)
        elif p.link is link and p.deputy is not None:
            self._of_body(p, p.deputy, link, frame)
        elif p.move is not None and p.move.link is link:
            self._of_target(p, link, frame)

    def _of_target(self, p: Program, link: Link, frame: Frame) -> None:
        """A frame of the host to which the program is on its way, and where it is not yet."""
        if frame.kind == Kind.ROUND:
            self.tracer.copying.round_done(p)
        elif frame.kind == Kind.DIED and p.link is not link:
            self.tracer.moves.failed(p, link, Reason.INCOMPLETE)  # the new body, before it was the program

    def _of_body(self, p: Program, deputy: Deputy, link: Link, frame: Frame) -> None:
        """A frame of the host that has the program."""
        kind = frame.kind
        self.tracer.lanes.met(p.pid)
        if deputy.state is State.READY and self.tracer.threads.replaced(p) and p.deputy is not deputy:
            return
        if p.move is not None and p.move.freezes is not None and self.tracer.freezing.takes(p, link, frame):
            return
        if deputy.waiting > MOST_WAITING:
            raise BadRequest("too many requests at once")
        if kind in NUMBERED and not self._comes_in_time(p, frame):
            return
        if not self.tracer.outliving.passes(p, frame):
            return
        if (at_once := AT_ONCE.get(kind)) is not None:
            at_once(self.tracer, p, deputy, frame)
        elif (when_ready := WHEN_READY.get(kind)) is not None:
            deputy.when_ready(lambda: when_ready(self.tracer, p, deputy, frame), asked=True)
        elif (with_link := self._with_link.get(kind)) is not None:
            with_link(p, deputy, link, frame)

    def _comes_in_time(self, p: Program, frame: Frame) -> bool:
        """Whether a call of the body may be made. The next host has been told with GO which was the last to come, and makes a later
        one anew: here that waits until the move has failed."""
        if p.move is None or p.move.phase is not Phase.GO:
            p.body.forwarded = frame.flags >> 1
            return True
        p.move.late.append(frame)
        if len(p.move.late) > MOST_WAITING:
            raise BadRequest("too many requests at once")
        return False

    def _private_full(self, p: Program, _deputy: Deputy, _link: Link, frame: Frame) -> None:
        p.body.seq = frame.flags >> 1
        self.tracer.carrier.full(p)

    def _want(self, p: Program, _deputy: Deputy, _link: Link, frame: Frame) -> None:
        p.body.seq = frame.flags >> 1
        self.tracer.mapped.wanted(p, frame.payload)

    def _image(self, p: Program, _deputy: Deputy, link: Link, frame: Frame) -> None:
        if p.move is not None and p.move.after(Event.IMAGE, away=p.away) is Step.ARRIVE:
            self.tracer.arrival.arriving(p, link, frame.payload)

    def _round(self, p: Program, deputy: Deputy, link: Link, _frame: Frame) -> None:
        self.tracer.copying.round(p, link, deputy)

    def _died(self, p: Program, deputy: Deputy, link: Link, frame: Frame) -> None:
        """Its body. When its host is lost before the deputy has time for that, the program may go on elsewhere (`outliving`)."""

        def ready() -> None:
            if p.link is link:
                self.tracer.requests.die(p, deputy, frame.content, frame.payload, failed=frame.flags == SERVING)

        deputy.when_ready(ready, asked=True)

    def _cpu_time(self, p: Program, _deputy: Deputy, _link: Link, frame: Frame) -> None:
        p.cpu.used = Used(*frame.content)

    def _thread_time(self, p: Program, _deputy: Deputy, _link: Link, frame: Frame) -> None:
        p.cpu.threads[p.pid] = Used(*frame.content)

    def _shown(self, p: Program, _deputy: Deputy, link: Link, frame: Frame) -> None:
        if frame.flags:
            self.tracer.relatives.told(p, link, frame.payload)
        else:
            p.body.shown = frame.payload

    def _arrives_frozen(self, p: Program, link: Link) -> bool:
        """Whether ``p`` is evacuated from another cluster, and frozen when that happens (freeze.conf, HOME-MARK; mosrun -g)."""
        config, address = self.tracer.mosd.config, as_unsigned(link.ip)
        ours = any(first <= address < first + count for first, count in config.cluster)
        return config.freezing.arrive and p.settings.freezable != 0 and not ours

    def _step_out(self, p: Program, _deputy: Deputy, link: Link, frame: Frame) -> None:
        """The body's node wants it to leave, or thinks that it would be better off elsewhere."""
        order: OutOrder = frame.content

        def done(reason: str) -> None:
            if reason and p.link is link:
                self.tracer.hosts.send(p, Kind.STAYED, reason.encode())

        if order.needs:
            self.tracer.occasions.escape(p, order.needs, link.ip, done, passing=order.passing)
        elif p.move is not None:
            done(Reason.UNDER_WAY)
        elif order.why and p.settings.lock == 1:
            done(Reason.LOCKED)
        elif not (order.why or order.target) and self._arrives_frozen(p, link):
            home = Move("", "home", done=done)
            self.tracer.freezing.freeze(p, "A", told=lambda reason: self.tracer.moves.request(p, home) if reason else None)
        else:
            self.tracer.moves.request(p, Move(order.target, order.target or "home", done=done, below=order.below, why=order.why))
