"""Signals that threads block without home's knowing it yet.

libc has a thread block all signals while it makes another, and at its end: for a moment, and nobody can know of that moment but who
hears from the process after its beginning. So home is told before it hears anything else of any of its programs here, and else
after `PATIENCE`; mostly they are not blocked any more by then, and home need not be asked whether one waits there. A signal that
comes meanwhile is queued in the body, where its own kernel keeps it (`signals`), as one that a handler's mask blocks.
"""

from __future__ import annotations

import math
import struct
import time

from mosfs.guest.body import Body, State
from mosfs.guest.context import Context
from mosfs.wire.frames import Kind

#: Seconds until home is told.
PATIENCE = 0.02
#: It is about to make a child; or home does not expect to hear of its mask, which is in its image.
_PUT_OFF = frozenset({State.FORKING, State.BUILDING, State.COMPLETE, State.LEAVING})


class Untold:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._masks: dict[int, tuple[Body, int, float]] = {}  # and when home is told, the soonest first

    def __bool__(self) -> bool:
        """Whether home shall be told of any that is still here."""
        return any(self._context.bodies.get(pair) is body for pair, (body, *_) in self._masks.items())

    def note(self, body: Body, mask: int) -> None:
        """``body`` blocks the signals of ``mask``: at least those of which home believes it."""
        self._masks.pop(body.pair, None)
        if mask != body.signals.told_mask:
            self._masks[body.pair] = body, mask, time.monotonic() + PATIENCE

    def changed(self, body: Body, mask: int) -> None:
        """A handler has ended. What it blocks besides home hears with its next call, as ever."""
        if body.pair in self._masks:
            self.note(body, mask)

    def told(self, body: Body, mask: int) -> None:
        """Home hears of it by what is sent next."""
        body.signals.told_mask = mask
        self._masks.pop(body.pair, None)

    def tell_all(self) -> None:
        """Tell home of all of them, now; but who is about to make a child begins with what its deputy blocks."""
        waiting, self._masks = self._masks, {}
        for pair, (body, mask, due) in waiting.items():
            if self._context.bodies.get(pair) is not body:
                continue
            if body.state in _PUT_OFF:
                self._masks[pair] = body, mask, due
            else:
                self.tell(body, mask)

    def tell(self, body: Body, mask: int) -> None:
        """Tell home of this one's mask."""
        self.told(body, mask)
        self._context.channel.send(Kind.MASK, body.pair, struct.pack("<Q", mask))

    def pause(self, now: float) -> float:
        """Seconds until the next look."""
        due = next((due for _, _, due in self._masks.values()), math.inf)
        return max(0.0, due - now)

    def look(self, now: float) -> None:
        """Tell home of those that it is time for; who cannot be told of has as long again behind that."""
        while self._masks:
            pair, (body, mask, due) = next(iter(self._masks.items()))
            if due > now:
                return
            del self._masks[pair]
            if self._context.bodies.get(pair) is not body:
                continue
            if body.state in _PUT_OFF:
                self._masks[pair] = body, mask, now + PATIENCE
            else:
                self.tell(body, mask)
