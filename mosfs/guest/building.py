"""Building bodies from images, whoever sends them: to the end, or to nothing. Home hears which."""

from __future__ import annotations

import time
import traceback
from typing import TYPE_CHECKING

from mosfs.abi.texts import Reason
from mosfs.guest.arriving import Arriving
from mosfs.guest.body import Body, spawn
from mosfs.migrate import image
from mosfs.migrate.image import BadImage
from mosfs.migrate.properties import Said
from mosfs.migrate.rebuild import NoRoom, Unsuited
from mosfs.migrate.receipt import Receipt
from mosfs.native import lib
from mosfs.trace.task import TaskGone
from mosfs.wire.channel import Channel, ChannelLost
from mosfs.wire.faults import Point, fault
from mosfs.wire.frames import Frame, Kind

if TYPE_CHECKING:
    from mosfs.guest.host import Host


def why_not(error: Exception) -> str:
    """What home is told of an image that cannot be built here."""
    return str(error) if isinstance(error, Unsuited) else Reason.INCOMPLETE


class Building:
    def __init__(self, host: Host) -> None:
        self.host = host
        self._ended = False  # nothing more of the image will come
        self._receipt = Receipt(host.channel)

    def image(self, frame: Frame) -> None:
        """An image from home: build the body to the end, or say why not."""
        try:
            self.take(frame, self.host.channel)
        except ChannelLost:
            raise
        except Exception as error:
            self.not_built(frame.pair, error)
            self._skip(frame.pair)
            self.host.channel.send(Kind.FAIL, frame.pair, why_not(error).encode())

    def take(self, head: Frame, source: Channel) -> None:
        """Build a body from an image, and say that it stands. Whatever is raised, nothing is left of it."""
        self.host.had_bodies, self._ended, self._receipt = True, False, Receipt(source)
        if head.pair in self.host.bodies:
            raise BadImage("it is here already")
        body = self.build(head, source)
        if body is None:
            return
        try:
            self.host.complete(body)
        except ChannelLost:
            raise
        except Exception:
            self.host.remove(body, kill=True)
            raise
        for frame in self.host.onward.take_backlog():
            self.host.frame(frame)

    def not_built(self, pair: int, error: Exception) -> None:
        """Home hears that there is no room; the log has the reason, and how it came to what is not the kernel's or the image's."""
        trace = ""
        if not isinstance(error, NoRoom | BadImage | OSError | ChannelLost):
            trace = "\n" + "".join(traceback.format_exception(error))
        self.host.log(f"origpid={pair} from={self.host.home} cannot be built: {error}{trace}", 30)

    def _skip(self, pair: int) -> None:
        """What else comes of home's image that cannot be built; frames of other programs are kept."""
        while not self._ended:
            frame = self._receipt.next()
            if frame.pair != pair:
                self.host.onward.backlog.append(frame)
            elif frame.kind in (Kind.IMAGE_END, Kind.DROP):
                self._ended = True
        for frame in self.host.onward.take_backlog():
            self.host.frame(frame)

    def build(self, head: Frame, source: Channel) -> Body | None:
        """A complete body from the image that ``head`` begins and ``source`` carries; None if it was dropped meanwhile."""
        meta = image.decode(head.payload)
        private, opening = self.host.private.settle(head.pair, meta.private)
        fault(Point.NODE_BEFORE_BODY, source)
        lib.mos_unfollow(self.host.pump)
        arriving = self.expect(head.pair)
        del self.host.arriving[head.pair]
        lib.mos_pin(self.host.pump, arriving.task.pid)
        body = Body(head.pair, arriving.task, meta=meta, comm=meta.comm, since=time.time(), private=private, opening=opening)
        body.copies = arriving.copies
        if meta.waiting:  # what waits in the body meets the call, whose mask may let it in (`Signals.interrupted`)
            body.infos, meta.pending = [info for _, info in meta.pending], []
        try:
            arriving.rebuild.know(meta)
            self._receipt.expect(meta.vmas)
            arriving.map(meta)
            fault(Point.NODE_MAPPED, source)
            while True:
                frame = self._receipt.next()
                if frame.pair != head.pair:
                    self.host.onward.backlog.append(frame)
                elif frame.kind in (Kind.PAGES, Kind.FILE):
                    arriving.frame(frame)
                elif frame.kind == Kind.IMAGE_END:
                    break
                elif frame.kind == Kind.DROP:
                    self._ended = True
                    self.host.private.forget(body)
                    arriving.discard()
                    return None
                else:
                    raise BadImage(f"frame {frame.kind} within an image")
            self._ended = True
            fault(Point.NODE_FILLED, source)
            body.regs = arriving.finish(frame.content)
            body.waiting_state = arriving.rebuild.waiting_state
            body.said = Said.arrived(meta, arriving.rebuild.owed)
        except BaseException as error:
            self.host.private.forget(body)
            arriving.discard()
            if isinstance(error, TaskGone):
                raise NoRoom("its body was killed") from error
            raise
        return body

    def expect(self, pair: int) -> Arriving:
        """The body that is being made for ``pair``; begun now if this is the first that is heard of it."""
        found = self.host.arriving.get(pair)
        if found is None:
            task, self.host.spare = self.host.spare or spawn(self.host.runs_as), None
            found = self.host.arriving[pair] = Arriving(task)
        return found
