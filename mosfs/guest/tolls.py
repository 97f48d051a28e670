"""What being away costs the guests of a host: told to this node's mosd, which may want one of them to go home (`balance.toll`)."""

from __future__ import annotations

import time
from dataclasses import replace

from mosfs.balance.cost import DISTANT, NEAR, Network
from mosfs.balance.toll import Toll, weight
from mosfs.calls import cputime
from mosfs.guest.body import Body, Paid, State
from mosfs.guest.context import Context
from mosfs.wire.messages import TollPaid

#: Seconds between two looks at all guests, and between two reports of one: twice as long each time, up to the longest.
PERIOD, LONGEST = 0.01, 0.32
#: A report is worth so many calls, or what takes as long: bytes of a transfer count as `BYTES_OF_A_CALL` each.
WORTH, BYTES_OF_A_CALL = 50, 20_000
#: What is kept for a program that executes another is forgotten when that has not come back after so many seconds.
FORGOTTEN = 30.0

_MAKES_CALLS = (State.RUNNING, State.WAITING, State.FORKING)


class Tolls:
    """``_executing``: what programs had paid that are about to come back as others, by PID at home, and when that was."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._next = self._before = 0.0
        self._executing: dict[int, tuple[Paid, float]] = {}

    @property
    def _network(self) -> Network:
        """What home is away."""
        return NEAR if self._context.near else DISTANT

    def look(self, now: float) -> None:
        """After each turn of the loop: guests whose calls have come to something are told of."""
        if now < self._next:
            return
        self._next, seconds, self._before = now + PERIOD, now - self._before, now
        for body in self._context.bodies.values():
            if body.leader is not None:
                continue  # its calls are counted with those of the first thread
            if body.account.calls != body.paid.counted:
                self._weigh(body, seconds)
            if now >= body.paid.due and body.state in _MAKES_CALLS and _worth(body) >= WORTH:
                self._tell(body, now)

    def due(self) -> float:
        """When `look` may have something to tell, if guests make calls."""
        return max(self._next, min((body.paid.due for body in self._context.bodies.values()), default=0.0))

    def _weigh(self, body: Body, seconds: float) -> None:
        """Of the last ``seconds`` those went into its calls in which it did not compute."""
        paid, used = body.paid, sum(cputime.of_process(body.pid))
        calls, paid.counted = body.account.calls - paid.counted, body.account.calls
        paid.weighed += weight(calls, seconds - max(0, used - paid.cpu) / 1e9, self._network)
        paid.cpu = used

    def _tell(self, body: Body, now: float) -> None:
        body.used()
        paid, total = body.paid, paid_by(body)
        new, paid.told = total.minus(paid.told), total
        paid.pace = PERIOD if now > paid.due + 1.0 else min(2 * paid.pace, LONGEST)
        paid.due = now + paid.pace
        size = body.account.size_mb
        self._context.control.send(TollPaid(body.pid, new.calls, new.traffic, new.images, round(max(0.0, new.cpu), 6), size))

    def gone(self, body: Body) -> None:
        """It has ended or left: whoever made it here has paid for it, too, and might make another one."""
        parent = self._context.bodies.get(body.paid.parent)
        if parent is not None:
            parent.paid.before = parent.paid.before.plus(paid_by(body))

    def executed(self, body: Body) -> None:
        """It comes back with the image of another program, for which it pays."""
        now = time.monotonic()
        self._executing = {pair: kept for pair, kept in self._executing.items() if now - kept[1] < FORGOTTEN}
        self._executing[body.pair] = Paid(parent=body.paid.parent, before=paid_by(body)), now
        body.paid.parent = 0

    def arrived(self, body: Body) -> None:
        paid, since = self._executing.pop(body.pair, (None, 0.0))
        if paid is not None:
            images = weight(1, time.monotonic() - since, replace(self._network, call=self._network.setup))
            paid.before = paid.before.plus(Toll(images=images))
            body.paid = paid


def paid_by(body: Body) -> Toll:
    """All that it has paid here."""
    account, times = body.account, body.times
    cpu = sum(times.used_last.minus(times.used_before)) / 1e9
    calls = body.paid.weighed + account.calls - body.paid.counted
    return body.paid.before.plus(Toll(calls, account.received + account.sent, 0, max(0.0, cpu)))


def _worth(body: Body) -> float:
    """What it has paid since the last report, in calls."""
    account, paid = body.account, body.paid
    before, told = paid.before, paid.told
    calls = before.calls + paid.weighed + account.calls - paid.counted - told.calls
    traffic = before.traffic + account.received + account.sent - told.traffic
    return calls + traffic / BYTES_OF_A_CALL + (before.images - told.images) * WORTH
