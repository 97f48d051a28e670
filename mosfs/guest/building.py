"""Building bodies from images, whoever sends them: to the end, or to nothing. Home hears which."""

from __future__ import annotations

import time
import traceback

from mosfs.abi.reasons import Reason
from mosfs.calls import partial
from mosfs.engine.unchanged import Unchanged
from mosfs.guest.arriving import Arriving, Made
from mosfs.guest.body import Body, State
from mosfs.guest.context import Context
from mosfs.guest.masks import known_actions
from mosfs.guest.ports import Ending, Frames
from mosfs.guest.private import Private
from mosfs.guest.sandbox import Maker, spawn
from mosfs.guest.threads import Threads
from mosfs.migrate import image
from mosfs.migrate.filecopy import Copies
from mosfs.migrate.image import BadImage
from mosfs.migrate.precopy import early_from
from mosfs.migrate.properties import Said
from mosfs.migrate.rebuild import NoRoom, Unsuited
from mosfs.migrate.receipt import Receipt
from mosfs.migrate.shown import named
from mosfs.native import lib
from mosfs.trace.task import TaskGone, discard
from mosfs.wire.channel import Channel, ChannelLost
from mosfs.wire.faults import Point, fault
from mosfs.wire.frames import Frame, Kind

#: What comes before an image.
MEMORY = frozenset({Kind.PAGES, Kind.RUNS})
AHEAD = MEMORY | {Kind.PRIVATE, Kind.EARLY, Kind.FILE, Kind.LACKS, Kind.ROUND}
#: Of that, what nobody waits for whose coming has failed.
_OF_ARRIVING = MEMORY | {Kind.LACKS}
#: Programs whose memory comes to one host at a time (few do: who moves by itself has its own host), and those that it may have,
#: by fork for the most part, when another comes.
MOST_ARRIVING, MOST_BODIES = 8, 4096
#: Looks, one a second, at which nothing more has come of such a program. It does not come, and its memory is wanted.
MOST_IDLE = 300


def why_not(error: Exception) -> str:
    """What home is told of an image that cannot be built here."""
    return str(error) if isinstance(error, Unsuited) else Reason.INCOMPLETE


class Building:
    def __init__(self, context: Context, private: Private, threads: Threads, ending: Ending, frames: Frames) -> None:
        self._context = context
        self._private = private
        self._threads = threads
        self._maker: Maker | None = None
        self._ending = ending
        self._frames = frames
        self._backlog: list[Frame] = []  # of other programs, which came in the middle of an image
        self._ended = False  # nothing more of the image will come
        self._receipt: Receipt  # of the image that comes
        self._came: dict[int, int] = {}  # of programs whose memory or files come ahead: how many frames have
        self._idle = Unchanged[int]()

    def image(self, frame: Frame) -> None:
        """An image from home: build the body to the end, or say why not."""
        try:
            self.take(frame, self._context.channel)
        except ChannelLost:
            raise
        except Exception as error:
            self.not_built(frame.pair, error)
            self._skip(frame.pair)
            self._context.channel.send(Kind.FAIL, frame.pair, why_not(error).encode())

    def take(self, head: Frame, source: Channel) -> None:
        """Build a body from an image, and say that it stands. Whatever is raised, nothing is left of it."""
        others = source is not self._context.channel and bool(self._context.bodies)  # if home is slow, these are its own programs
        self._context.had_bodies, self._ended, self._receipt = True, False, Receipt(source, others=others)
        if head.pair in self._context.bodies:
            raise BadImage("it is here already")
        built = self.build(head, source)
        if built is None:
            return
        body, made = built
        try:
            self._complete(body, made)
        except ChannelLost:
            raise
        except Exception:
            self._ending.remove(body)
            discard(body.task, [task for task, *_ in made])
            raise
        self._catch_up()

    def not_built(self, pair: int, error: Exception) -> None:
        """Home hears that there is no room; the log has the reason, and how it came to what is not the kernel's or the image's."""
        trace = ""
        if not isinstance(error, NoRoom | BadImage | OSError | ChannelLost):
            trace = "\n" + "".join(traceback.format_exception(error))
        self._context.log(f"origpid={pair} from={self._context.home} cannot be built: {error}{trace}", 30)

    def _skip(self, pair: int) -> None:
        """What else comes of home's image that cannot be built; frames of other programs are kept."""
        while not self._ended:
            frame = self._receipt.next()
            if frame.pair != pair:
                self._backlog.append(self._receipt.beside(frame))
            elif frame.kind in (Kind.IMAGE_END, Kind.DROP):
                self._ended = True
        self._catch_up()

    def _catch_up(self) -> None:
        """What had to wait for the end of an image."""
        frames, self._backlog = self._backlog, []
        for frame in frames:
            self._frames.frame(frame)

    def _complete(self, body: Body, made: list[Made]) -> None:
        """The body stands: tell home, and wait for GO."""
        assert body.meta is not None
        body.state = State.COMPLETE
        self._context.bodies[body.pair] = body
        self._context.by_pid[body.pid] = body
        body.outlives = body.meta.outlives
        if body.outlives:
            body.signals.told_mask = body.meta.told_mask
        body.call.seq, body.signals.seen, body.call.until = body.meta.seq, body.meta.seen, body.meta.until
        body.call.carry = partial.taken_up(body.task, body.call.regs, body.meta.carry)
        body.memory.names = named(body.meta.vmas)
        body.processor.features, body.processor.needs = body.meta.features, body.meta.needs
        body.signals.oneshot = {sig for sig, action in body.meta.actions if action[11] & 0x80}
        body.signals.actions = known_actions(body.meta)
        self._threads.join(body, made, body.meta)
        fault(Point.NODE_BEFORE_READY, self._context.channel)
        self._context.channel.send(Kind.READY, body.pair)
        fault(Point.NODE_AFTER_READY, self._context.channel)

    def build(self, head: Frame, source: Channel) -> tuple[Body, list[Made]] | None:
        """A complete body, and its other threads, from the image that ``head`` begins and ``source`` carries; None if it was
        dropped meanwhile."""
        meta = image.decode(head.payload)
        private, opening = self._private.arrive(head.pair, meta.private)
        fault(Point.NODE_BEFORE_BODY, source)
        lib.mos_unfollow(self._context.pump)
        arriving = self._expect_threads(head.pair) if meta.threads or meta.births or meta.shares else self.expect(head.pair)
        del self._context.arriving[head.pair]
        lib.mos_pin(self._context.pump, arriving.task.pid)
        body = Body(head.pair, arriving.task, meta=meta, comm=meta.comm, since=time.time())
        body.private.store, body.private.opening = private, opening
        body.memory.copies = arriving.copies
        if meta.waiting:  # what waits in the body meets the call, whose mask may let it in (`Signals.interrupted`)
            body.signals.infos, meta.pending = [info for _, info in meta.pending], []
        try:
            arriving.rebuild.know(meta)
            self._receipt.expect(meta.vmas)
            arriving.map(meta)
            fault(Point.NODE_MAPPED, source)
            end: Frame | None = None
            while end is None or not arriving.copies.settled:
                frame = self._receipt.next()
                if frame.pair != head.pair:
                    self._backlog.append(self._receipt.beside(frame))
                elif frame.kind in (Kind.PAGES, Kind.RUNS, Kind.FILE, Kind.LACKS):
                    arriving.frame(frame)
                    self._ask(head.pair, arriving, source)
                elif frame.kind == Kind.IMAGE_END and end is None:
                    end = frame
                elif frame.kind == Kind.DROP:
                    self._ended = True
                    self._private.forget(body)
                    arriving.discard()
                    return None
                elif end is not None:  # GO comes right behind, and waits until all is here that home has offered
                    self._backlog.append(self._receipt.beside(frame))
                else:
                    raise BadImage(f"frame {frame.kind} within an image")
            self._ended = True
            fault(Point.NODE_FILLED, source)
            body.call.regs = arriving.finish(end.content)
            for task, *_ in arriving.made:  # by the first, which is held
                lib.mos_like(self._context.pump, arriving.task.pid, task.pid)
            body.processor.waiting_state = arriving.rebuild.waiting_state
            body.memory.said = Said.arrived(meta, arriving.rebuild.owed)
        except BaseException as error:
            self._private.forget(body)
            arriving.discard()
            if isinstance(error, TaskGone):
                raise NoRoom("its body was killed") from error
            raise
        return body, arriving.made

    def _expect_threads(self, pair: int) -> Arriving:
        """As `expect`, of a program with several threads. Its memory has come ahead for such a one, or not at all."""
        begun = self._context.arriving.get(pair)
        if begun is not None and begun.several:
            return begun
        if begun is not None and begun.ahead:
            raise BadImage("threads, whose memory has come ahead")
        if len(self._context.bodies) >= MOST_BODIES or (begun is None and len(self._context.arriving) >= MOST_ARRIVING):
            raise NoRoom("too many programs come to one host")
        lib.mos_unfollow(self._context.pump)  # what is made has our processors
        self._maker = self._maker or Maker(self._context.runs_as)
        found = Arriving(self._maker.spawn(pair), begun.copies if begun is not None else self._copies(), several=True)
        if begun is not None:
            discard(begun.task)
        self._context.arriving[pair] = found
        return found

    def expect(self, pair: int) -> Arriving:
        """The body that is being made for ``pair``; begun now if this is the first that is heard of it."""
        found = self._context.arriving.get(pair)
        if found is None:
            if len(self._context.arriving) >= MOST_ARRIVING or len(self._context.bodies) >= MOST_BODIES:
                raise NoRoom("too many programs come to one host")
            lib.mos_unfollow(self._context.pump)  # what is made has our processors
            task, self._context.spare = self._context.spare or spawn(self._context.runs_as), None
            found = self._context.arriving[pair] = Arriving(task, self._copies())
        return found

    def _copies(self) -> Copies:
        return Copies(objects=self._context.objects)

    # ------------------------------------------------------------------ ahead of the image

    def early(self, frame: Frame, channel: Channel) -> None:
        """A program's private files and memory come while it still runs where it is. What does not fit is told at once."""
        self._came[frame.pair] = self._came.get(frame.pair, 0) + 1
        try:
            if frame.kind == Kind.PRIVATE:
                if frame.pair not in self._private.spools and len(self._private.spools) >= MOST_ARRIVING:
                    raise NoRoom("too many programs come to one host")
                self._private.feed(frame.pair, frame.payload)
            elif frame.kind == Kind.ROUND:
                fault(Point.NODE_COPYING, channel)
                if frame.pair in self._context.arriving:
                    channel.send(Kind.ROUND, frame.pair)
            elif frame.kind not in _OF_ARRIVING or frame.pair in self._context.arriving:  # else the rest of what did not fit
                self._ahead(frame, channel)
        except ChannelLost:
            raise
        except Exception as error:
            self.not_built(frame.pair, error)
            failed = self._context.arriving.pop(frame.pair, None)
            if failed is not None:
                failed.discard()
            self._context.channel.send(Kind.FAIL, frame.pair, why_not(error).encode())

    def _ahead(self, frame: Frame, source: Channel) -> None:
        if frame.kind == Kind.EARLY:
            early = early_from(frame.payload)
            (self._expect_threads if early.several else self.expect)(frame.pair).early(early)
        else:
            arriving = self.expect(frame.pair)
            arriving.frame(frame)
            self._ask(frame.pair, arriving, source)

    def _ask(self, pair: int, arriving: Arriving, source: Channel) -> None:
        """Ask home for what it has offered of mapped files, and this node does not have."""
        for payload in arriving.copies.to_ask():
            if source is not self._context.channel:
                raise BadImage("a file is offered by who has only a copy")
            source.send(Kind.LACKS, pair, payload)

    def forget_early(self, pair: int) -> None:
        """What came of a program that does not come."""
        arriving = self._context.arriving.pop(pair, None)
        if arriving is not None:
            arriving.discard()
        self._private.forget_ahead(pair)

    def look(self) -> None:
        """Once a second: what came ahead of a program, of which nothing more comes, is forgotten."""
        coming = self._context.arriving.keys() | self._private.spools.keys()
        self._came = {pair: self._came.get(pair, 0) for pair in coming}
        for pair, looks in self._idle.look(self._came).items():
            if looks >= MOST_IDLE:
                self._context.log(f"origpid={pair} from={self._context.home} is forgotten: a part of it came, and then nothing", 30)
                self.forget_early(pair)
                self._context.channel.send(Kind.FAIL, pair, Reason.INCOMPLETE.encode())

    def receive_direct(self, channel: Channel) -> None:
        """An image from another host, or what goes ahead of it. It is complete or it is not: home hears which."""
        try:
            for head in channel.frames():
                if head.kind == Kind.IMAGE:
                    self._image(head, channel)
                    self._context.close_direct()
                    return
                if head.kind not in AHEAD:
                    raise BadImage(f"frame {head.kind} where an image should begin")
                self.early(head, channel)
        except Exception as error:
            if self._context.channel.lost:
                raise ChannelLost("closed") from error
            self._context.log(f"image from another node: {error!r}", 30)
            self._context.close_direct()
            for pair in list(self._context.arriving):
                self._context.arriving.pop(pair).discard()
                self._context.channel.send(Kind.FAIL, pair, b"did not complete (no memory there?)")

    def _image(self, head: Frame, channel: Channel) -> None:
        try:
            self.take(head, channel)
        except Exception as error:
            if self._context.channel.lost:
                raise ChannelLost("closed") from error
            self.not_built(head.pair, error)
            self._context.channel.send(Kind.FAIL, head.pair, why_not(error).encode())
