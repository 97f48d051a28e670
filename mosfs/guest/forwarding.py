"""Calls on their way home: the body waits in each until `completion` has its outcome."""

from __future__ import annotations

from collections.abc import Callable

from mosfs.calls import cputime, cputimers
from mosfs.calls.request import Request
from mosfs.guest.alarms import Alarms
from mosfs.guest.body import Body, State
from mosfs.guest.context import Context
from mosfs.guest.untold import Untold
from mosfs.guest.usage import tell_thread, tell_used
from mosfs.wire.frames import Kind

#: Flag of a CALL that home shall not make but judge: unsupported, or of no number that exists.
UNSUPPORTED = 1

#: Makes of home's result what the program hears.
Then = Callable[[int], int | None]


class Forwarding:
    def __init__(self, context: Context, alarms: Alarms) -> None:
        self._context = context
        self.untold = Untold(context)
        self._alarms = alarms

    def forward(self, body: Body, request: Request, flags: int = 0, then: Then | None = None) -> None:
        """CALL: have the deputy make it."""
        self._alarms.before_call(body)
        told = request.nr in cputime.CALLS and cputime.place(request.nr, request.args) >= 0
        if told or cputimers.concerns(request.nr, request.args):
            tell_used(body, self._context.channel)
            tell_thread(body, cputime.asked_thread(request.nr, request.args), self._context.channel)
        payload = request.pack(body.signals.seen - len(body.signals.infos))
        body.account.calls += 1
        body.account.sent += len(payload)
        self.untold.told(body, request.mask)
        self.ask(body, Kind.CALL, payload, flags, then)

    def mask(self, body: Body) -> int:
        """The mask of the body, of which home hears by what is about to be sent."""
        mask = body.task.peek_mask()
        self.untold.told(body, mask)
        return mask

    def ask(
        self, body: Body, kind: Kind, payload: bytes, flags: int = 0, then: Then | None = None, state: State = State.WAITING
    ) -> None:
        """Any other frame that home answers by a REPLY. One that tells the body's mask has it from `mask`."""
        self.untold.tell_all()
        body.state, body.call.then, body.signals.unheard = state, then, 0
        body.call.seq = body.call.seq + 1 & 0x7FFF
        self._context.channel.send(kind, body.pair, payload, body.call.seq << 1 | flags)
