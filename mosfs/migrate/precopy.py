"""Pre-copy: a program's memory is sent while it runs, in rounds; what it has written meanwhile is sent when it stands still.

    EARLY (mappings), PAGES ..., ROUND  -->   the receiver maps, fills, and sends ROUND back
    EARLY (new mappings), PAGES ...           again, with what was written since, while that gets less
    IMAGE, PAGES ..., IMAGE_END               the program stands still: the rest

Clark et al., "Live Migration of Virtual Machines" (NSDI 2005); here the guest is one process. Contents of files
go ahead of all pages (`filecopy`); pages of them that the program has made its own are left for the end.
"""

from __future__ import annotations

import time
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from enum import Enum, auto
from typing import Annotated

import msgspec

from mosfs.abi.memory import BY_MMAP
from mosfs.abi.reasons import Reason
from mosfs.migrate import image, properties
from mosfs.migrate.dirty import Tracker, Untracked
from mosfs.migrate.huge import HUGE, dense
from mosfs.migrate.image import BadImage, ImageMeta, Vma
from mosfs.migrate.maps import CannotMove, Known, Piece, Reader, at_once, both, cut, pieces, ranges, unknown
from mosfs.migrate.pages import PageSender, content, next_chunk, own_content
from mosfs.migrate.properties import Property, Said
from mosfs.migrate.ranges import Range, common, merge, minus, size
from mosfs.migrate.shown import overlaid
from mosfs.trace import layout
from mosfs.trace.inject import Calls
from mosfs.wire.channel import GRACE, STEP, Peer
from mosfs.wire.fields import MALFORMED
from mosfs.wire.frames import LAST_PID, Kind

#: Tells the files that a program's memory shows (`mosfs.migrate.shown`); another list when they have changed.
Names = Callable[[], Sequence[Vma]]
#: The program is stopped when so many bytes are left, or so many as can be sent in so many seconds; or after so many rounds.
LITTLE = 1 << 20
SHORT = 0.005
ROUNDS = 24
#: When more than this part of what was left before is left again, the program is slowed down to a sixteenth, to the least
#: share of the time at last; then more than that part is no progress.
GOOD, PROGRESS = 0.5, 0.7
LEAST_SHARE = 1 / 256
#: Bytes that give a move one more second in which the program is slowed down.
STEADY = 1 << 20
#: A round is planned in turns of so many seconds, and in slices of so many mappings: others wait meanwhile.
TURN = 0.002
SLICE = 1024


class Early(msgspec.Struct, array_like=True, frozen=True):
    """EARLY: parts of the memory to be made now, and all mappings as they are at present.

    Without any: what was sent is worth nothing. ``dense``: where in the new parts whole huge pages come (`huge.dense`).
    ``several``: of a program with several threads; ``threads``: those at present, but the first.
    """

    pieces: list[Piece] = []
    vmas: list[Vma] = []
    dense: list[Range] = []
    several: bool = False
    threads: Annotated[list[Annotated[int, msgspec.Meta(ge=1, le=LAST_PID)]], msgspec.Meta(max_length=image.MOST_THREADS)] = []


#: Nothing of what was sent is worth anything.
NOTHING_EARLY = msgspec.msgpack.encode(Early())
_early_decoder = msgspec.msgpack.Decoder(Early)


def early_from(payload: bytes) -> Early:
    """What EARLY says. BadImage when it says nothing sensible."""
    try:
        found = _early_decoder.decode(payload)
    except MALFORMED as error:
        raise BadImage(f"malformed mappings: {error}") from error
    last = layout.END
    for start, end, prot, kind in found.pieces:
        if start < last or end > layout.USER_END or end <= start or (start | end) & (layout.PAGE - 1):
            raise BadImage(f"mapping {start:#x}-{end:#x} is out of place")
        if prot & ~7 or kind & ~BY_MMAP:
            raise BadImage(f"mapping {start:#x}-{end:#x} has unknown properties")
        last = end
    image.checked(found.vmas)
    last = 0
    for start, end in found.dense:
        if start < last or end <= start or (start | end) % HUGE or minus([(start, end)], ranges(found.pieces)):
            raise BadImage(f"huge pages {start:#x}-{end:#x} are out of place")
        last = end
    return found


class Next(Enum):
    """What the sender does now."""

    SEND = auto()  # pages of this round are left
    WAIT = auto()  # the receiver works on the round
    STOP = auto()  # the program should stand still for the rest


def after_round(left: int, before: int, rounds: int, rate: float, share: float) -> tuple[Next, float]:
    """Go on sending, or stop the program? And the share of the time that it may run from now on.

    ``left``: bytes to send; ``before``: the same one round ago; ``rate``: bytes a second that were sent in it; ``share``: of the
    time that the program was allowed to run."""
    if left <= max(LITTLE, rate * SHORT) or rounds >= ROUNDS:
        return Next.STOP, share
    if left <= before * GOOD:
        return Next.SEND, share
    if share > LEAST_SHARE:
        return Next.SEND, share / 16
    return (Next.STOP if left > before * PROGRESS else Next.SEND), share


def too_slow(seconds: float, sent: int) -> bool:
    """Has a program been slowed down for too long by a move that has sent so many bytes meanwhile? One that it costs a minute more
    than at 8 Mbit/s stays where it is."""
    return seconds > GRACE + sent / STEADY


class View:
    """The mappings of a program at one moment, and where those are that go ahead."""

    def __init__(self, vmas: list[Vma]) -> None:
        self.vmas = vmas
        self.early = [vma for vma in vmas if vma.anonymous]
        self.ranges = ranges_of(vmas)
        self.ahead = ranges_of(self.early)
        self.followed = [vma for vma in vmas if vma.file]
        self.pieces = pieces(self.early)
        self.starts = [vma.start for vma in vmas]

    def within(self, places: list[Range]) -> list[Vma]:
        """The mappings that have a part in these ranges."""
        first, found = 0, []
        for start, end in places:
            first = max(first, bisect_right(self.starts, start) - 1)
            after = bisect_left(self.starts, end)
            found += self.vmas[first:after]
            first = max(first, after)
        return found


class Precopy:
    """The sender's side for one task. All work is linear in the number of mappings: it is done on lists of ranges, not for each."""

    def __init__(
        self, tracker: Tracker, sender: PageSender, channel: Peer, pair: int, said: Said, names: Names, asks: bool,
        known: Known,
    ) -> None:
        self.tracker = tracker
        self.sender = sender
        self.next = Next.SEND
        self.several = False  # the program has several threads
        self.threads: Callable[[], list[int]] = list  # those, but the first
        self.share = 1.0  # of the time that the program may run meanwhile
        self._began, self._rate = time.monotonic(), 0.0  # of this round; bytes a second in the one before
        self._slowed, self._passed, self._looked = 0.0, 0, self._began  # seconds and bytes of rounds that slowed it down; last look
        self._channel = channel
        self._pair = pair
        self._said = said
        self._names = names
        self._calls = said.calls  # when the program stood still: all of them have been made
        self._properties: list[Property] = []
        self._had: list[Range] = []  # where there are any
        self._reader = Reader(known)
        self.ahead: Iterator[int] | None = None  # sends contents of files, piece by piece
        self._view = View([])
        self._seen: tuple[object, ...] = ()  # what `_view` was made of
        self._told = self._view  # what the receiver knows
        self._kept: tuple[View, list[Range]] = (self._view, [])  # what of a view it has mapped as it shall be
        self._planned = False
        self._mapped: list[Piece] = []  # what the receiver has mapped
        self._touched: list[Range] = []  # where it has, or had, content
        self._filled: tuple[View, list[Range]] = self._kept  # the same, of what goes ahead in a view
        self._sending: list[Range] = []  # the same of this round
        self._left: deque[Range] = deque()
        self._found: list[Range] = []  # the same, of the round that is being planned
        self._planning: Iterator[None] | None = None
        self._follows = False  # something is registered
        self._bytes = self._before = 0
        self._rounds = 0
        self._asks = asks

    @classmethod
    def begin(
        cls, call: Calls, channel: Peer, *, near: bool, pair: int, said: Said, names: Names, asks: bool = False,
        known: Known = unknown, runs: bool = False, packs: int = 0,
    ) -> Precopy:
        """For a stopped task, which goes on afterwards. OSError when the kernel cannot follow it.

        ``said``: what it has said of its memory, kept up to date; ``names``: tells the files that it has shown (`shown`).
        ``asks``: the receiver makes mappings once only, and says when it has: nothing is sent before. ``known``: tells which files
        are followed. ``near``, ``runs``, ``packs`` as in `PageSender`.
        """
        tracker = Tracker.begin(call)
        try:
            sender = PageSender(call.task, channel, pair, near=near, runs=runs, packs=packs)
            return cls(tracker, sender, channel, pair, said, names, asks, known)
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

    def _plan(self) -> Iterator[None]:
        """Begin a round, slice by slice: what was written, and what was mapped, since the last one. CannotMove if the program may
        not go.

        It may be given up at each slice: what is protected anew stands in `_found` before, and is sent in the end."""
        pid = self.sender.task.pid
        vmas = yield from self._reader.reading(pid)
        fresh = yield from self._follow([v for v in vmas if v.anonymous])
        if self._said.calls and not self._planned:
            found = yield from properties.reading(pid)
            self._hear(found)
        view = self._look(vmas)
        yield
        new: list[Piece] = []
        if not (self._asks and self._mapped):
            new = cut(view.pieces, minus(view.ahead, ranges(self._mapped)))
            self._mapped = sorted([*self._mapped, *new])
            yield
        changed = yield from self._changed(view, fresh)
        if new or view is not self._told:
            huge = dense(common(changed, ranges(new))) if new else []
            early = Early(new, view.vmas, huge, self.several, self.threads())
            self._channel.send(Kind.EARLY, self._pair, msgspec.msgpack.encode(early))
            self._told, self._kept = view, (view, ranges(both(self._mapped, view.pieces)))
            yield
        self._left.extend(common(changed, ranges(self._mapped)) if changed else ())
        self._bytes = size(self._left)
        self._found = []

    def _go_on_planning(self) -> None:
        """A turn of it; when it is done, what comes next."""
        assert self._planning is not None
        until = time.monotonic() + TURN
        for _ in self._planning:
            if time.monotonic() > until:
                return
        self._planning = None
        if self._planned:
            self.next, self.share = after_round(self._bytes, self._before, self._rounds, self._rate, self.share)
            self._began = time.monotonic()
        elif self._asks:
            self._channel.send(Kind.ROUND, self._pair)
            self.next = Next.WAIT
        self._planned = True

    def _look(self, vmas: list[Vma]) -> View:
        """What we have read, with properties and names; the same as before when nothing has changed."""
        seen = (vmas, self._properties, self._names())
        if len(self._seen) != len(seen) or any(a is not b for a, b in zip(seen, self._seen)):
            self._view = View(overlaid(properties.overlaid(vmas, self._properties), seen[2]))
            self._seen = seen
        return self._view

    def _follow(self, vmas: list[Vma]) -> Generator[None, None, list[Range]]:
        """Register the mappings that are new; where they are. Those of a special kind are left for the end."""
        starts = [v.start for v in vmas]
        strange = ranges_of(vmas)
        if self._follows:
            strange = yield from self._strange(strange, starts)
        self._follows = True
        fresh: list[Range] = []
        for start, end in _slices(strange, starts):
            new = vmas[bisect_left(starts, start) : bisect_left(starts, end)]
            for part in self._registered([(v.start, v.end) for v in new]):
                self._found.append(part)
                fresh.append(part)  # a scan that fails has protected pages, too, and does not tell which
                with suppress(OSError, Untracked):
                    self.tracker.written(*part, protect=True)
            yield
        fresh = merge(fresh)
        if fresh:
            self._hear(properties.without(self._properties, fresh))
        return fresh

    def _registered(self, parts: list[Range]) -> list[Range]:
        """Register these neighbours; those that could be."""
        try:
            self.tracker.register(parts[0][0], parts[-1][1])
            return [(parts[0][0], parts[-1][1])]
        except OSError:
            half = len(parts) // 2
            return [*self._registered(parts[:half]), *self._registered(parts[half:])] if half else []

    def _strange(self, runs: list[Range], starts: list[int]) -> Generator[None, None, list[Range]]:
        """The parts of these runs that are not followed: whole mappings, which begin at ``starts``, found by halving."""
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
            yield
        return merge(found)

    def _changed(self, view: View, fresh: list[Range]) -> Generator[None, None, list[Range]]:
        """What this round has to send. ``fresh``: what is followed only now, so all of it."""
        # all of it: a scan that met the new mapping on its way has kept to itself what it had found before
        found: list[Range] = []
        for run in _slices(common(fresh, view.ahead), view.starts):
            found += self.tracker.present(*run)
            yield
        for run in _slices(minus(view.ahead, fresh), view.starts):
            new = self._dirty(run)
            found += new
            self._found += new
            yield
        return merge(found)

    def _dirty(self, run: Range) -> list[Range]:
        try:
            return self.tracker.written(*run, protect=True)
        except Untracked:
            return self.tracker.present(*run)

    def step(self) -> None:
        """Plan a turn of a round, or send one chunk, or end the round. CannotMove."""
        if self._planning is not None or not self._planned:
            self._planning = self._planning or self._plan()
            self._go_on_planning()
        elif self.ahead is not None:
            if next(self.ahead, None) is None:
                self.ahead = None
        elif self._left:
            chunk = next_chunk(self._left)
            self.sender.send(chunk, again=self._rounds > 0)
            self._sending += chunk
        else:
            self._end_round()
            self._rounds += 1
            self._channel.send(Kind.ROUND, self._pair)
            self.next = Next.WAIT

    def hold(self, now: float) -> None:
        """CannotMove when the program has been slowed down for too long. Time at which we had no processor does not count."""
        step, self._looked = min(now - self._looked, STEP), now
        if self.share < 1 and self.next is not Next.STOP:
            self._slowed += step
            if self._slowed > GRACE and too_slow(self._slowed, self._passed + self._bytes - size(self._left)):
                raise CannotMove(Reason.CHANGES_FAST)

    def _end_round(self) -> None:
        if self._sending:
            self._touched = merge([*self._touched, *self._sending])
            self._sending = []
            self._filled = self._view, common(self._touched, self._view.ahead)

    def caught_up(self) -> None:
        """The receiver has done the round: begin to plan the next; then, perhaps, the program should be stopped. CannotMove."""
        self.next = Next.SEND
        if self._asks and not self._rounds:
            return
        self._passed += self._bytes if self.share < 1 else 0
        self._rate = self._bytes / max(time.monotonic() - self._began, 1e-3)
        self._before, self._planning = self._bytes, self._plan()
        self._go_on_planning()

    # ------------------------------------------------------------------ while it stands still

    def mappings(self) -> list[Vma]:
        """All mappings of the stopped task, with their properties and names. CannotMove."""
        pid = self.sender.task.pid
        vmas = self._reader.read(pid)
        if self._said.calls and not self._hold(self._look(vmas)):
            self._hear(properties.read(pid))
        return self._look(vmas).vmas

    def _hear(self, found: list[Property]) -> None:
        self._properties = found
        self._had = merge((start, end) for start, end, _ in found)

    def _hold(self, view: View) -> bool:
        """Do the properties that we have read hold? Nothing was said since, and what has them was not mapped anew."""
        if self._said.calls != self._calls or not self._planned:
            return False
        return all(self.tracker.followed(*run) for run in common(self._had, view.ranges))

    def head(self, meta: ImageMeta) -> bytes:
        """IMAGE: without the mappings, if the receiver knows them: one that is asked has said so by its first ROUND."""
        if meta.vmas is not self._told.vmas or (self._asks and not self._rounds):
            return image.encode(meta)
        return image.encode(msgspec.structs.replace(meta, vmas=[], told=True))

    def rest(self, vmas: list[Vma]) -> None:
        """Send what the receiver does not have yet, of a stopped task with these mappings."""
        self._end_round()
        self._planning = None
        left = merge([*self._left, *self._found])
        view = self._view if vmas is self._view.vmas else View(vmas)
        kept = self._kept[1] if view is self._kept[0] else ranges(both(self._mapped, view.pieces))
        fresh = minus(view.ranges, kept)
        if fresh:
            again = bool(self._mapped)
            self.sender.send(common(content(self.sender.task.pid, view.within(fresh)), fresh), again=again)
        self.sender.send(own_content(self.sender.task.pid, view.followed), whole=True)
        self.sender.send(merge([*self._rest_of(view, kept, left)]), again=True)

    def _rest_of(self, view: View, kept: list[Range], left: list[Range]) -> Iterator[Range]:
        """What must be sent of the parts ``kept`` that the receiver has mapped. What is not followed is sent whole."""
        present, written, strange = self._looked_at(kept, view.early)
        known = view is self._filled[0] and kept == view.ahead
        touched = self._filled[1] if known else common(self._touched, kept)
        if touched != present:
            self.sender.empty(minus(touched, present))
        yield from common(present, strange)
        yield from common(present, left)
        yield from written

    def _looked_at(self, kept: list[Range], vmas: list[Vma]) -> tuple[list[Range], list[Range], list[Range]]:
        """Pages with content, those that were written, and what is not followed."""
        try:
            found = [self.tracker.both(*run) for run in kept]
        except Untracked:
            strange = at_once(self._strange(kept, [vma.start for vma in vmas]))
            present = [piece for run in kept for piece in self.tracker.present(*run)]
            written = [piece for run in minus(kept, strange) for piece in self.tracker.written(*run, protect=False)]
            return present, written, strange
        return [piece for pages, _ in found for piece in pages], [piece for _, pages in found for piece in pages], []


def _slices(runs: Iterable[Range], starts: list[int]) -> Iterator[Range]:
    """These runs, cut where more than `SLICE` mappings, which begin at ``starts``, are in one."""
    for start, end in runs:
        at = bisect_right(starts, start) - 1 + SLICE
        while at < len(starts) and starts[at] < end:
            yield start, starts[at]
            start, at = starts[at], at + SLICE
        yield start, end


def ranges_of(vmas: Iterable[Vma]) -> list[Range]:
    """The ranges that these mappings cover."""
    return merge((vma.start, vma.end) for vma in vmas)
