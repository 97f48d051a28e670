"""Alarms of CPU time: home wants to know when a body has used so much, for then a timer or limit of it is due (`calls.cputimers`).

A body with one thread uses no more than the time that passes. So it needs a look only when the rest of that time has passed: once
or twice an alarm.
"""

from __future__ import annotations

import math
import time

from mosfs.calls.cputimers import Alarm
from mosfs.guest.body import Body, State
from mosfs.guest.containment import Containment
from mosfs.guest.context import Context
from mosfs.guest.usage import tell_used
from mosfs.wire.frames import Kind

#: Seconds between two looks: the kernel's own timers of CPU time are as exact.
TICK = 0.004


class Alarms:
    def __init__(self, context: Context, containment: Containment) -> None:
        self.context = context
        self._containment = containment
        self._set: dict[int, Body] = {}

    def set(self, body: Body, alarm: Alarm) -> None:
        """CPU_ALARM, or what came with FORK_REPLY for a child."""
        body.times.alarm = alarm if any(alarm) else None
        self._set.pop(body.pair, None)
        if body.times.alarm is not None:
            self._set[body.pair] = body
            body.times.alarm_due = time.monotonic() + max(alarm.wait(body.used()), TICK)

    def pause(self, now: float) -> float:
        """Seconds until the next look."""
        running = (body.times.alarm_due for body in self._set.values() if body.state is State.RUNNING)
        return max(0.0, min(running, default=math.inf) - now)

    def look(self) -> None:
        """Look at the CPU time of bodies that compute."""
        if self._set:
            for body in [body for body in self._set.values() if body.state is State.RUNNING]:
                with self._containment.of(body):
                    self.before_call(body)
            self._set = {pair: body for pair, body in self._set.items() if self.context.bodies.get(pair) is body}

    def before_call(self, body: Body) -> None:
        """Tell home if the alarm is due: its signal must meet the call that the body is about to make, not find it waiting."""
        alarm = body.times.alarm
        if alarm is None or time.monotonic() < body.times.alarm_due:
            return
        used = body.used()
        if alarm.reached(used):
            body.times.alarm, body.times.deputy_cpu = None, -1
            self._set.pop(body.pair, None)
            tell_used(body, self.context.channel)
            self.context.channel.send(Kind.CPU_ALARM, body.pair)
        else:
            body.times.alarm_due = time.monotonic() + max(alarm.wait(used), TICK)
