"""Pre-copy: a program's memory is sent while it runs, in rounds; what it has written meanwhile is sent when it stands still.

    EARLY (mappings), PAGES ..., ROUND  -->   the receiver maps, fills, and sends ROUND back
    EARLY (new mappings), PAGES ...           again, with what was written since, while that gets less
    IMAGE, PAGES ..., IMAGE_END               the program stands still: the rest

Clark et al., "Live Migration of Virtual Machines" (NSDI 2005); here the guest is one process. Contents of files
go ahead of all pages (`filecopy`); pages of them that the program has made its own are left for the end.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterable, Iterator
from enum import Enum, auto

import msgspec

from mosfs.abi.memory import BY_MMAP
from mosfs.migrate import properties
from mosfs.migrate.dirty import Tracker, Untracked
from mosfs.migrate.image import PROT_WRITE, BadImage, Vma
from mosfs.migrate.maps import Known, Piece, Reader, both, pieces, ranges, unknown
from mosfs.migrate.pages import CHUNK, PageSender, content, own_content
from mosfs.migrate.properties import Property, Said
from mosfs.migrate.ranges import Range, common, merge, minus, size
from mosfs.trace import layout
from mosfs.trace.inject import Calls
from mosfs.wire.channel import Channel
from mosfs.wire.frames import Kind

#: The program is stopped when so little is left, when there was no progress, or after so many rounds.
LITTLE = 1 << 20
ROUNDS = 8
PROGRESS = 0.8


#: EARLY of no mappings: all that was sent is worth nothing.
NOTHING_EARLY = msgspec.msgpack.encode([])


_pieces = msgspec.msgpack.Decoder(list[Piece])


def early_pieces(payload: bytes) -> list[Piece]:
    """What EARLY says: parts of the memory that is to be. BadImage when it says nothing sensible."""
    try:
        found = _pieces.decode(payload)
    except msgspec.DecodeError as error:
        raise BadImage(f"malformed mappings: {error}") from error
    last = layout.END
    for start, end, prot, kind in found:
        if start < last or end > layout.USER_END or end <= start or (start | end) & (layout.PAGE - 1):
            raise BadImage(f"mapping {start:#x}-{end:#x} is out of place")
        if prot & ~7 or kind & ~BY_MMAP:
            raise BadImage(f"mapping {start:#x}-{end:#x} has unknown properties")
        last = end
    return found


class Next(Enum):
    """What the sender does now."""

    SEND = auto()  # pages of this round are left
    WAIT = auto()  # the receiver works on the round
    STOP = auto()  # the program should stand still for the rest


def enough(left: int, before: int, rounds: int) -> bool:
    """Stop the program now? ``left``: bytes to send; ``before``: the same one round ago."""
    return left <= LITTLE or rounds >= ROUNDS or left > before * PROGRESS


class Precopy:
    """The sender's side for one task. All work is linear in the number of mappings: it is done on lists of ranges, not for each."""

    def __init__(
        self, tracker: Tracker, sender: PageSender, channel: Channel, pair: int, said: Said, asks: bool, known: Known
    ) -> None:
        self.tracker = tracker
        self.sender = sender
        self.next = Next.SEND
        self._channel = channel
        self._pair = pair
        self._said = said
        self._calls = said.calls  # when the program stood still: all of them have been made
        self._properties: list[Property] = []
        self._reader = Reader(known)
        self.ahead: Iterator[int] | None = None  # sends contents of files, piece by piece
        self._planned = False
        self._mapped: list[Piece] = []  # what the receiver has mapped
        self._touched: list[Range] = []  # where it has, or had, content
        self._sending: list[Range] = []  # the same of this round
        self._sent: list[Range] = []  # of files: what it has the content of
        self._copies: list[Range] = []  # of files: pages with a content of their own, made by a write
        self._left: deque[Range] = deque()
        self._bytes = 0
        self._rounds = 0
        self._asks = asks

    @classmethod
    def begin(
        cls, call: Calls, channel: Channel, *, near: bool, pair: int, said: Said, asks: bool = False, known: Known = unknown
    ) -> Precopy:
        """For a stopped task, which goes on afterwards. OSError when the kernel cannot follow it.

        ``said``: what it has said of its memory, kept up to date. ``asks``: the receiver makes mappings once only, and says when it
        has: nothing is sent before. ``known``: tells which files are followed.
        """
        tracker = Tracker.begin(call)
        try:
            return cls(tracker, PageSender(call.task, channel, pair, near=near), channel, pair, said, asks, known)
        except BaseException:
            tracker.close()
            raise

    def forget(self) -> None:
        """The task has made exec: the receiver shall forget everything."""
        self._channel.send(Kind.EARLY, self._pair, NOTHING_EARLY)

    def close(self) -> None:
        self.tracker.close()
        self.sender.close()

    # ------------------------------------------------------------------ while it runs

    def _plan(self) -> None:
        """Begin a round: what was written, and what was mapped, since the last one. CannotMove if the program may not go."""
        pid = self.sender.task.pid
        vmas = [v for v in self._reader.read(pid) if _early(v)]
        fresh = self._follow(vmas)
        if self._said.calls and not self._planned:
            self._properties = properties.read(pid)
        vmas = properties.overlaid(vmas, self._properties)
        if not (self._asks and self._mapped):
            new = pieces(vmas, minus(ranges_of(vmas), ranges(self._mapped)))
            if new:
                self._channel.send(Kind.EARLY, self._pair, msgspec.msgpack.encode(new))
                self._mapped = sorted([*self._mapped, *new])
        self._left.extend(common(merge([*self._changed(vmas, fresh)]), ranges(self._mapped)))
        self._bytes = size(self._left)
        self._planned, self.next = True, Next.SEND

    def _follow(self, vmas: list[Vma]) -> list[Range]:
        """Register the mappings that are new; where they are. Those of a special kind are left for the end."""
        fresh: list[Range] = []
        for run in self._strange(ranges_of(vmas), vmas):
            for part in self._registered([(v.start, v.end) for v in _parts(vmas, [run])]):
                try:
                    self.tracker.written(*part, protect=True)
                    fresh.append(part)
                except (OSError, Untracked):
                    continue
        fresh = merge(fresh)
        self._sent = minus(self._sent, fresh)
        self._properties = properties.without(self._properties, fresh)
        return fresh

    def _registered(self, parts: list[Range]) -> list[Range]:
        """Register these neighbours; those that could be."""
        try:
            self.tracker.register(parts[0][0], parts[-1][1])
            return [(parts[0][0], parts[-1][1])]
        except OSError:
            half = len(parts) // 2
            return [*self._registered(parts[:half]), *self._registered(parts[half:])] if half else []

    def _strange(self, runs: list[Range], vmas: list[Vma]) -> list[Range]:
        """The parts of these runs of mappings that are not followed: whole mappings, found by halving."""
        starts = [v.start for v in vmas]
        found: list[Range] = []
        todo = runs[::-1]
        while todo:
            start, end = todo.pop()
            if self.tracker.followed(start, end):
                continue
            low, high = bisect_right(starts, start), bisect_left(starts, end)
            if low < high:  # a mapping begins within
                half = starts[(low + high) // 2]
                todo += [(half, end), (start, half)]
            else:
                found.append((start, end))
        return merge(found)

    def _changed(self, vmas: list[Vma], fresh: list[Range]) -> Iterator[Range]:
        """What this round has to send. ``fresh``: what is followed only now, so all of it."""
        anonymous = ranges_of(v for v in vmas if v.anonymous)
        files = ranges_of(v for v in vmas if not v.anonymous)
        # all of it: a scan that met the new mapping on its way has kept to itself what it had found before
        for run in common(fresh, anonymous):
            yield from self.tracker.present(*run)
        for run in minus(anonymous, fresh):
            yield from self._dirty(run)
        dirty = [piece for run in minus(files, fresh) for piece in self._dirty(run)]
        private = [piece for run in files for piece in self.tracker.private(*run)]
        self._copies = merge([*self._copies, *private])
        yield from common(merge(dirty), merge(private))
        yield from minus(files, self._sent)
        self._sent = merge([*self._sent, *files])

    def _dirty(self, run: Range) -> list[Range]:
        try:
            return self.tracker.written(*run, protect=True)
        except Untracked:
            return self.tracker.present(*run)

    def step(self) -> None:
        """Plan the first round, or send one chunk, or end the round. CannotMove."""
        if not self._planned:
            self._plan()
            if self._asks:
                self._channel.send(Kind.ROUND, self._pair)
                self.next = Next.WAIT
        elif self.ahead is not None:
            if next(self.ahead, None) is None:
                self.ahead = None
        elif self._left:
            start, end = self._left.popleft()
            if end - start > CHUNK:
                self._left.appendleft((start + CHUNK, end))
                end = start + CHUNK
            self.sender.send(start, end, again=self._rounds > 0)
            self._sending.append((start, end))
        else:
            self._end_round()
            self._rounds += 1
            self._channel.send(Kind.ROUND, self._pair)
            self.next = Next.WAIT

    def _end_round(self) -> None:
        self._touched = merge([*self._touched, *self._sending])
        self._sending = []

    def caught_up(self) -> None:
        """The receiver has done the round: plan the next, or have the program stopped. CannotMove."""
        if self._asks and not self._rounds:
            self.next = Next.SEND
            return
        before = self._bytes
        self._plan()
        if enough(self._bytes, before, self._rounds):
            self.next = Next.STOP

    # ------------------------------------------------------------------ while it stands still

    def mappings(self) -> list[Vma]:
        """All mappings of the stopped task, with their properties. CannotMove."""
        pid = self.sender.task.pid
        vmas = self._reader.read(pid)
        if self._said.calls and not self._hold(vmas):
            self._properties = properties.read(pid)
        return properties.overlaid(vmas, self._properties)

    def _hold(self, vmas: list[Vma]) -> bool:
        """Do the properties that we have read hold? Nothing was said since, and what has them was not mapped anew."""
        if self._said.calls != self._calls or not self._planned:
            return False
        had = merge((start, end) for start, end, _ in self._properties)
        return all(self.tracker.followed(*run) for run in common(had, ranges_of(vmas)))

    def rest(self, vmas: list[Vma]) -> None:
        """Send what the receiver does not have yet, of a stopped task with these mappings."""
        self._end_round()
        left = merge(self._left)
        early = [v for v in vmas if _early(v)]
        kept = ranges(both(self._mapped, pieces(early)))
        fresh = minus(ranges_of(vmas), kept)
        there = ranges(self._mapped)
        for piece in common(content(self.sender.task.pid, [*_parts(vmas, fresh)]), fresh):
            self.sender.send(*piece, again=bool(there))
        for piece in own_content(self.sender.task.pid, vmas):
            self.sender.send(*piece, whole=True)
        strange = self._strange(kept, early)
        for piece in merge([*self._rest_of(early, kept, strange, left)]):
            self.sender.send(*piece, again=True)

    def _rest_of(self, early: list[Vma], kept: list[Range], strange: list[Range], left: list[Range]) -> Iterator[Range]:
        """Of what the receiver has mapped. ``strange``: what is not followed; it is sent whole."""
        anonymous = common(kept, ranges_of(v for v in early if v.anonymous))
        files = common(kept, ranges_of(v for v in early if not v.anonymous))
        present = merge(piece for run in anonymous for piece in self.tracker.present(*run))
        for start, end in minus(common(self._touched, anonymous), present):
            self.sender.zero(start, end)
        yield from common(present, strange)
        yield from common(present, left)
        for run in minus(anonymous, strange):
            yield from self.tracker.written(*run, protect=False)
        yield from common(files, strange)
        known = minus(files, strange)
        private = merge(piece for run in known for piece in self.tracker.private(*run))
        dirty = merge(piece for run in known for piece in self.tracker.written(*run, protect=False))
        yield from common(dirty, private)
        yield from common(left, known)
        yield from minus(known, self._sent)
        yield from minus(common(self._copies, known), private)


def _early(vma: Vma) -> bool:
    """Is this mapping sent while the program runs?"""
    return vma.anonymous or not (vma.file or vma.prot & PROT_WRITE)


def ranges_of(vmas: Iterable[Vma]) -> list[Range]:
    """Where they are."""
    return merge((vma.start, vma.end) for vma in vmas)


def _parts(vmas: list[Vma], within: list[Range]) -> Iterator[Vma]:
    """Those of ``vmas`` that have a part in these ranges, as far as what they may hold is concerned."""
    at = 0
    for vma in vmas:
        while at < len(within) and within[at][1] <= vma.start:
            at += 1
        if at < len(within) and within[at][0] < vma.end:
            yield vma
