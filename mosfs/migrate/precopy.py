"""Pre-copy: a program's memory is sent while it runs, in rounds; what it has written meanwhile is sent when it stands still.

    EARLY (mappings), PAGES ..., ROUND  -->   the receiver maps, fills, and sends ROUND back
    EARLY (new mappings), PAGES ...           again, with what was written since, while that gets less
    IMAGE, PAGES ..., IMAGE_END               the program stands still: the rest

Clark et al., "Live Migration of Virtual Machines" (NSDI 2005); here the guest is one process. Writable file mappings and
reserved address space are left for the end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from enum import Enum, auto

import msgspec

from mosfs.migrate.dirty import Tracker, Untracked
from mosfs.migrate.image import PROT_WRITE, BadImage, Vma
from mosfs.migrate.maps import read_maps, travelling
from mosfs.migrate.pages import CHUNK, PageSender, content
from mosfs.migrate.ranges import Range, common, merge, minus, size
from mosfs.trace.inject import Calls
from mosfs.wire.channel import Channel
from mosfs.wire.frames import Kind

#: The program is stopped when so little is left, when there was no progress, or after so many rounds.
LITTLE = 1 << 20
ROUNDS = 8
PROGRESS = 0.8


#: EARLY of no mappings: all that was sent is worth nothing.
NOTHING_EARLY = msgspec.msgpack.encode([])


_mappings = msgspec.msgpack.Decoder(list[tuple[int, int, bool]])


def mappings(payload: bytes) -> list[tuple[int, int, bool]]:
    """What EARLY says: (start, end, grows down). BadImage when it says nothing sensible."""
    try:
        return _mappings.decode(payload)
    except msgspec.DecodeError as error:
        raise BadImage(f"malformed mappings: {error}") from error


class Next(Enum):
    """What the sender does now."""

    SEND = auto()  # pages of this round are left
    WAIT = auto()  # the receiver works on the round
    STOP = auto()  # the program should stand still for the rest


def enough(left: int, before: int, rounds: int) -> bool:
    """Stop the program now? ``left``: bytes to send; ``before``: the same one round ago."""
    return left <= LITTLE or rounds >= ROUNDS or left > before * PROGRESS


class Precopy:
    """The sender's side for one task."""

    def __init__(self, tracker: Tracker, sender: PageSender, channel: Channel, pair: int, stack: int, asks: bool) -> None:
        self.tracker = tracker
        self.sender = sender
        self.next = Next.SEND
        self._channel = channel
        self._pair = pair
        self._stack = stack
        self._mapped: list[Range] = []  # what the receiver has mapped
        self._touched: list[Range] = []  # where it has, or had, content
        self._sent: list[Range] = []  # of files: what it has the content of
        self._copies: list[Range] = []  # of files: pages with a content of their own, made by a write
        self._left: deque[Range] = deque()
        self._bytes = 0
        self._rounds = 0
        self._asks = asks

    @classmethod
    def begin(cls, call: Calls, channel: Channel, *, near: bool, pair: int, stack: int, asks: bool = False) -> Precopy:
        """For a stopped task, which goes on afterwards. OSError when the kernel cannot follow it, CannotMove if it may not go.

        ``asks``: the receiver makes mappings once only, and says when it has: nothing is sent before.
        """
        tracker = Tracker.begin(call)
        try:
            copy = cls(tracker, PageSender(call.task, channel, pair, near=near), channel, pair, stack, asks)
            copy._plan()
            if asks:
                channel.send(Kind.ROUND, pair)
                copy.next = Next.WAIT
        except BaseException:
            tracker.close()
            raise
        return copy

    def forget(self) -> None:
        """The task has made exec: the receiver shall forget everything."""
        self._channel.send(Kind.EARLY, self._pair, NOTHING_EARLY)

    def close(self) -> None:
        self.tracker.close()
        self.sender.close()

    # ------------------------------------------------------------------ while it runs

    def _plan(self) -> None:
        """Begin a round: what was written, and what was mapped, since the last one."""
        vmas = [v for v in travelling(read_maps(self.sender.task.pid), self._stack) if _early(v)]
        new = [v for v in vmas if minus([(v.start, v.end)], self._mapped)]
        if self._asks and self._mapped:
            vmas = [v for v in vmas if v not in new]
        elif new:
            ranges = [(*piece, v.grows_down) for v in new for piece in minus([(v.start, v.end)], self._mapped)]
            self._channel.send(Kind.EARLY, self._pair, msgspec.msgpack.encode(ranges))
            self._mapped = merge([*self._mapped, *((start, end) for start, end, _ in ranges)])
        self._left.extend(piece for v in vmas for piece in self._written(v))
        self._bytes = size(self._left)
        self.next = Next.SEND

    def _written(self, vma: Vma) -> list[Range]:
        whole = [(vma.start, vma.end)]
        try:
            dirty = self.tracker.written(vma.start, vma.end, protect=True)
        except Untracked:
            self._sent = minus(self._sent, whole)
            try:
                self.tracker.register(vma.start, vma.end)
                self.tracker.written(vma.start, vma.end, protect=True)
                # all of it: a scan that met the new mapping on its way has kept to itself what it had found before
                dirty = self.tracker.present(vma.start, vma.end)
            except (OSError, Untracked):  # a mapping of a special kind, or it is gone again: left for the end
                return []
        if vma.anonymous:
            return dirty
        private = self.tracker.private(vma.start, vma.end)
        self._copies = merge([*self._copies, *private])
        dirty = merge([*common(dirty, private), *minus(whole, self._sent)])
        self._sent = merge([*self._sent, *whole])
        return dirty

    def step(self) -> None:
        """Send one chunk, or end the round."""
        if self._left:
            start, end = self._left.popleft()
            if end - start > CHUNK:
                self._left.appendleft((start + CHUNK, end))
                end = start + CHUNK
            self._send(start, end)
        else:
            self._rounds += 1
            self._channel.send(Kind.ROUND, self._pair)
            self.next = Next.WAIT

    def _send(self, start: int, end: int) -> None:
        touched = self._touched
        if not touched or touched[-1][1] <= start:
            self.sender.send(start, end)
            touched.append((start, end))
        else:
            self.sender.send(start, end, again=True)
            self._touched = merge([*touched, (start, end)])

    def caught_up(self) -> None:
        """The receiver has done the round: plan the next, or have the program stopped."""
        if self._asks and not self._rounds:
            self.next = Next.SEND
            return
        before = self._bytes
        self._plan()
        if enough(self._bytes, before, self._rounds):
            self.next = Next.STOP

    # ------------------------------------------------------------------ while it stands still

    def rest(self, vmas: Iterable[Vma]) -> None:
        """Send what the receiver does not have yet, of a stopped task with these mappings."""
        left = merge(self._left)
        for vma in vmas:
            whole = [(vma.start, vma.end)]
            kept = common(self._mapped, whole) if _early(vma) else []
            fresh = minus(whole, kept)
            again = bool(common(fresh, self._mapped))
            for piece in common(merge(content(self.sender.task.pid, vma)), fresh) if fresh else ():
                self.sender.send(*piece, again=again)
            for piece in kept:
                self._rest_of(vma, piece, left)

    def _rest_of(self, vma: Vma, piece: Range, left: list[Range]) -> None:
        try:
            dirty = self.tracker.written(*piece, protect=False)
            known = True
        except Untracked:
            dirty, known = [], False
        if vma.anonymous:
            present = self.tracker.present(*piece)
            for start, end in minus(common(merge(self._touched), [piece]), present):
                self.sender.zero(start, end)
            todo = [*dirty, *common(left, present)] if known else present
        elif known:
            private = self.tracker.private(*piece)
            reverted = minus(common(self._copies, [piece]), private)
            todo = [*common(dirty, private), *common(left, [piece]), *minus([piece], self._sent), *reverted]
        else:
            todo = [piece]
        for start, end in merge(todo):
            self.sender.send(start, end, again=True)


def _early(vma: Vma) -> bool:
    """Is this mapping sent while the program runs?"""
    return bool(vma.prot) and (vma.anonymous or not vma.prot & PROT_WRITE)
