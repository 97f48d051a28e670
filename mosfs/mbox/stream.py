"""Streams of a guest, as mospipe makes them: many small writes become few messages, many small reads are served from one.

Writing. A write to a pipe (`calls.Endpoint.pipe`) is over when its bytes are in the host; they leave as a message at once, and
what is written while that is under way leaves together as the next. There is one message under way at most, so order needs no
numbers. Such a message is accepted even if the mailbox is full by now (``late``); then the next write waits as others do.

Reading. A mailbox that is read as a stream lends its first message as a whole; how much of it was used is told with the next
request, and the rest goes back.

Over what is collected and over what is lent lies a *window*, by which the stops of most reads and writes are served without waking
Python (native/stream.c). It is closed before Python looks at them.

Nothing of this is ever carried along: before the program does anything that others could notice, or moves, all is flushed.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from mosfs.abi.numbers import SYS_READ, SYS_WRITE
from mosfs.mbox import calls
from mosfs.mbox.body import INLINE, Body, Files
from mosfs.mbox.calls import Endpoint
from mosfs.mbox.customer import Customer, Key
from mosfs.mbox.requests import Requests
from mosfs.native import ffi, lib
from mosfs.wire.messages import MailAnswer, MailBack, MailPut

#: Bytes that are collected while a message is under way, and of one message that is sent late.
MOST_COLLECTED = MOST_LATE = 1 << 20
#: Seconds for which nothing new is begun after a move had to wait for us: it is tried again each 5 ms.
BARRED = 0.02


class Windows:
    """The windows of one host, in its ``pump``."""

    def __init__(self, pump: Any) -> None:
        self.pump = pump

    def open(self, pid: int, fd: int, nr: int, body: Body, at: int, size: int) -> Any:
        """Over ``size`` bytes of ``body`` from ``at`` on, for read or write (``nr``) of a descriptor; None if there are too many.

        Precondition: the process runs, or is about to, and nobody wants it to stop.
        """
        windows = self.pump.windows
        free = next((n for n in range(len(windows)) if not windows[n].pid), None)
        if free is None:
            return None
        window = windows[free]
        window.fd, window.nr, window.file, window.at, window.left = fd, nr, body.fd, at, size
        window.data = ffi.NULL if body.fd >= 0 else ffi.from_buffer(body.data)
        window.pid = pid
        self.pump.nwindows = max(self.pump.nwindows, free + 1)
        lib.mos_unknown(pid)  # a stop that was asked for before has come
        return window

    def close(self, window: Any) -> None:
        window.pid = 0
        while self.pump.nwindows and not self.pump.windows[self.pump.nwindows - 1].pid:
            self.pump.nwindows -= 1


@dataclass(slots=True)
class Pile:
    """A message is under way unless ``error`` tells how the last one ended. ``rest``: written since. ``waiting``: a write that
    must wait for the answer."""

    rest: Body | None = None
    error: int = 0
    waiting: Callable[[], None] | None = None
    window: Any = None


@dataclass(slots=True)
class Lent:
    """``left`` bytes of a message from ``at`` on are still to be read, ``used`` of what was lent have been."""

    body: Body
    at: int
    left: int
    used: int = 0
    window: Any = None


class Streams:
    def __init__(self, requests: Requests, windows: Windows, files: Files) -> None:
        self.requests = requests
        self.windows = windows
        self.files = files
        self._piles: dict[tuple[Key, Endpoint], Pile] = {}
        self._full: set[tuple[Key, Endpoint]] = set()
        self._lent: dict[Key, Lent] = {}
        self._barred: dict[Key, float] = {}
        self._flushing: dict[Key, list[Callable[[], None]]] = {}
        self._returning: set[Key] = set()

    # ------------------------------------------------------------------ writing

    def put(
        self, customer: Customer, to: Endpoint, fd: int, pieces: list[tuple[int, int]], size: int, again: Callable[[], None]
    ) -> bool:
        """A write to ``fd``; False: it shall be made as others are. ``again`` makes it once more. OSError EFAULT."""
        at = (customer.key, to)
        pile = self._piles.get(at)
        if pile is not None:
            self._close_write_window(pile)
        if pile is None:
            if not 0 < size <= MOST_LATE or self._is_barred(customer.key) or at in self._full:
                self._full.discard(at)
                return False
            body = calls.gather(customer.task, pieces, size, partial(self.files.body, at, size))
            self._piles[at] = pile = Pile()
            customer.finish(size)
            self._send(customer, at, pile, body)
            self._open_write_window(customer, at, pile, fd)
        elif pile.error:
            del self._piles[at]
            if pile.error in (errno.ESRCH, errno.EACCES):
                customer.break_pipe()
            else:
                customer.finish(-pile.error)
        elif not size or self._is_barred(customer.key) or at in self._full or len(pile.rest or b"") + size > MOST_COLLECTED:
            pile.waiting = again
        else:
            pile.rest = self.files.body(at, MOST_COLLECTED) if pile.rest is None else pile.rest
            calls.gather_into(customer.task, pieces, size, pile.rest)
            customer.finish(size)
            self._open_write_window(customer, at, pile, fd)
        return True

    def _open_write_window(self, customer: Customer, at: tuple[Key, Endpoint], pile: Pile, fd: int) -> None:
        """What the program writes next to ``fd`` may go to the pile at once."""
        if pile.window is None and not pile.error and customer.runs_freely:
            pile.rest = self.files.body(at, MOST_COLLECTED) if pile.rest is None else pile.rest
            room = MOST_COLLECTED - len(pile.rest)
            pile.window = self.windows.open(customer.task.pid, fd, SYS_WRITE, pile.rest, len(pile.rest), room)

    def _close_write_window(self, pile: Pile) -> None:
        window, pile.window = pile.window, None
        if window is not None and pile.rest is not None:
            pile.rest.size = window.at
            self.windows.close(window)

    def _send(self, customer: Customer, at: tuple[Key, Endpoint], pile: Pile, body: Body) -> None:
        (home, pid), to = at
        (uid, gid), size = customer.owner, len(body)

        def done(answer: MailAnswer | None, _: Body) -> None:
            result = -errno.EIO if answer is None else answer.result
            waiting, pile.waiting = pile.waiting, None
            self._close_write_window(pile)
            rest, pile.rest = pile.rest, None
            if result:
                pile.error = -result
            else:
                if answer is not None and answer.wait:
                    self._full.add(at)
                if rest:
                    self._send(customer, at, pile, _packed(rest))
                else:
                    del self._piles[at]
            if rest is not None:
                rest.close()
            if waiting is not None:
                waiting()
            self._check(at[0])

        try:
            self.requests.ask(
                customer, lambda n: MailPut(n, home, pid, uid, gid, to.home, to.pid, size, body.data, True), done, body.fd
            )
        finally:
            body.close()

    # ------------------------------------------------------------------ reading

    def take(self, customer: Customer, fd: int, pieces: list[tuple[int, int]], count: int) -> int | None:
        """Bytes of a read of ``fd``, None if nothing is lent; OSError EFAULT."""
        lent = self._lent.get(customer.key)
        if lent is not None:
            self._close_read_window(lent)
        if lent is None or not lent.left or count <= 0 or customer.filter_at or customer.key in self._returning:
            return None
        size = min(count, lent.left)
        calls.scatter(customer.task, pieces, lent.body, lent.at, size)
        lent.at, lent.left, lent.used = lent.at + size, lent.left - size, lent.used + size
        if lent.left and customer.runs_freely:
            lent.window = self.windows.open(customer.task.pid, fd, SYS_READ, lent.body, lent.at, lent.left)
        return size

    def _close_read_window(self, lent: Lent) -> None:
        window, lent.window = lent.window, None
        if window is not None:
            lent.at, lent.left, lent.used = window.at, window.left, lent.used + window.at - lent.at
            self.windows.close(window)

    def may_borrow(self, customer: Customer, count: int) -> bool:
        return count > 0 and not customer.filter_at and not self._is_barred(customer.key)

    def lent(self, key: Key, body: Body, at: int, size: int) -> None:
        """An answer has lent ``size`` bytes of ``body``, which is ours from now on."""
        self._lent[key] = Lent(body, at, size)

    def used(self, key: Key) -> int:
        """What a request must tell: of what was lent, so much was read; the rest goes back with it."""
        lent = self._lent.pop(key, None)
        if lent is None:
            return 0
        self._close_read_window(lent)
        lent.body.close()
        return lent.used

    # ------------------------------------------------------------------ flushing

    def flush(self, key: Key, then: Callable[[], None], *, hold: bool = False) -> bool:
        """False: there is nothing to flush; else ``then`` is called when all that was written has been accepted, and what was
        lent is back. ``hold``: begin nothing new for a while."""
        if hold:
            self._barred[key] = time.monotonic() + BARRED
        for at, pile in self._piles.items():
            if at[0] == key:
                self._close_write_window(pile)
        if key in self._lent:
            used = self.used(key)
            self._returning.add(key)
            self.requests.ask(None, lambda n: MailBack(n, *key, used), lambda *_: self._returned(key))
        if not self._busy(key):
            return False
        self._flushing.setdefault(key, []).append(then)
        return True

    def _returned(self, key: Key) -> None:
        self._returning.discard(key)
        self._check(key)

    def _busy(self, key: Key) -> bool:
        return key in self._returning or any(at[0] == key and not pile.error for at, pile in self._piles.items())

    def _check(self, key: Key) -> None:
        if key in self._flushing and not self._busy(key):
            for then in self._flushing.pop(key):
                then()

    def _is_barred(self, key: Key) -> bool:
        until = self._barred.get(key)
        if until is None:
            return False
        if time.monotonic() < until:
            return True
        del self._barred[key]
        return False

    def leave(self, key: Key) -> None:
        """Its program is here no more; what it has written still goes out."""
        self._flushing.pop(key, None)
        self._barred.pop(key, None)
        self.used(key)
        for at, pile in list(self._piles.items()):
            if at[0] == key:
                pile.waiting = None
                self._close_write_window(pile)
                if pile.error:
                    del self._piles[at]

    def lost(self) -> None:
        """mosd is gone, and what it had lent with it."""
        for key in list(self._lent):
            self.used(key)


def _packed(rest: Body) -> Body:
    """``rest`` in the form in which a message travels: short ones are bytes."""
    return Body(rest.part(0, len(rest))) if len(rest) <= INLINE else rest.moved()
