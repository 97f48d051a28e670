"""Windows over open private files of guests: reads, writes and seeks are served there by C, without waking Python.

As with lanes all is Python's between two turns of the event loop. Before each turn `arm` says which descriptors C may serve
(native/private.c): those that calls have used lately, of bodies about which nothing is open. Behind it `look` takes the positions
back.
"""

from __future__ import annotations

from typing import Any

from mosfs.guest.body import MOST_RECENT, Body, State
from mosfs.guest.context import Context
from mosfs.native import lib
from mosfs.ptf.store import Description, grant
from mosfs.wire.faults import WANTED

#: So many files are counted at most to know how much may be written; who has more writes through Python.
MOST_COUNTED = 64


class PrivateWindows:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._open: list[tuple[Any, Description]] = []

    def arm(self) -> None:
        """Before the event loop waits."""
        pump = self._context.pump
        self._open, pump.nprivates = [], 0
        if WANTED:  # a fault is to be made at a call
            return
        for body in self._context.bodies.values():
            if body.private.store is not None and body.private.recent and _undisturbed(body):
                self._over(body)

    def _over(self, body: Body) -> None:
        pump, store = self._context.pump, body.private.store
        assert store is not None
        seen: set[int] = set()
        room = grant(store.used(), store.on_disk, store.quota) if len(store.files) <= MOST_COUNTED else 0
        lib.mos_unknown(body.pid)  # a stop that was asked for before has come
        for fd, description in body.private.recent.items():
            if pump.nprivates == len(pump.privates):
                return
            if store.descriptors.get(fd) is not description or id(description) in seen:
                continue  # it was closed, or another descriptor has its position
            seen.add(id(description))
            window = pump.privates[pump.nprivates]
            pump.nprivates += 1
            window.pid, window.fd, window.file = body.pid, fd, description.file.fd
            window.readable, window.writable, window.appends = description.readable, description.writable, description.appends
            window.position, window.left, window.used = description.position, room // MOST_RECENT, 0
            self._open.append((window, description))

    def look(self) -> None:
        """Behind it: where C has come to."""
        for window, description in self._open:
            if window.used:
                description.position = int(window.position)
        self._open = []


def _undisturbed(body: Body) -> bool:
    """Nothing is open about the body: a signal, a stop, a move, a mailbox; and it has one thread."""
    stopping, signals = body.stopping, body.signals
    if body.state is not State.RUNNING or body.threads or body.leader or body.mail is not None or body.fork.step is not None:
        return False
    if stopping.halted or stopping.paused or stopping.interrupting or stopping.wanted is not None or stopping.arming is not None:
        return False
    if signals.infos or signals.restart is not None or signals.saved_mask is not None:
        return False
    return body.private.sender is None and body.leaving.copy is None
