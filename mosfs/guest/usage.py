"""Statistics of the guests of a host: told to this node's mosd, which may want them to leave, and to home, which keeps them."""

from __future__ import annotations

import errno
import os
import time
from typing import TYPE_CHECKING

import msgspec

from mosfs.balance.account import NOTICEABLE
from mosfs.balance.history import History
from mosfs.calls.usage import reports
from mosfs.guest.body import Body, State
from mosfs.guest.title import tell_title
from mosfs.native import lib
from mosfs.trace import autogroup
from mosfs.trace.priority import Share, nice_of
from mosfs.trace.task import TaskGone
from mosfs.wire.frames import Kind
from mosfs.wire.messages import Settings
from mosfs.wire.orders import About, Used

if TYPE_CHECKING:
    from mosfs.guest.host import Host

_SERVED = (State.RUNNING, State.WAITING, State.FORKING, State.EXECING)


class Statistics:
    def __init__(self, host: Host) -> None:
        self.host = host
        self._told_nice = False
        self._share = Share(host.log)

    def tick(self, now: float) -> None:
        """Once a second."""
        accounts = {}
        for body in self.host.bodies.values():
            if body.state not in _SERVED:
                continue
            try:
                body.unsaid += body.account.measure(body.pid, now, io=False)
            except OSError:
                continue
            accounts[body.pid] = body.account
            if body.unsaid > NOTICEABLE:
                self._say(body)
            try:
                tell_title(body, self.host.channel)
            except TaskGone:
                continue  # its end follows
        for report in reports(accounts):
            self.host.control.send(report)
        for body in self.host.bodies.values():
            if body.group_nice is not None and autogroup.renice(body.pid, body.group_nice):
                body.group_nice = None
        self._share.look(nice_of(body.pid) for body in self.host.bodies.values())

    def leaves(self, body: Body) -> None:
        """Before the body goes: home hears what it used since the last second began, and how it calls itself."""
        try:
            body.unsaid += body.account.measure(body.pid, time.monotonic(), io=False)
            tell_title(body, self.host.channel)
        except (OSError, TaskGone):
            return
        self._say(body)

    def _say(self, body: Body) -> None:
        user = body.account.last.user if body.account.last else 0.0
        used = Used(round(body.unsaid, 6), body.account.size_mb, round(user - body.said_user, 2))
        self.host.channel.send(Kind.USED, body.pair, msgspec.msgpack.encode(used))
        body.unsaid, body.said_user = 0.0, user

    def about(self, body: Body, told: About) -> None:
        """ABOUT: what home knows of the program."""
        body.settings = Settings(lock=told.lock, needmem=told.needmem, cpujob=told.cpujob, decay=told.decay)
        account = body.account
        account.age, account.decay, account.history, account.news = told.age, told.decay, History(*told.history), True
        nice = max(0, told.nice)  # no guest goes before the programs of its node
        if nice_of(body.pid) != nice:
            self._renice(body, nice)
        self.host.announce(body)

    def _renice(self, body: Body, nice: int) -> None:
        """Without CAP_SYS_NICE a value can be raised only; it stays as it is then, and the log says so once."""
        if error := lib.mos_renice(body.pid, nice, self.host.runs_as):
            if -error != errno.ESRCH and not self._told_nice:
                self._told_nice = True
                self.host.log(f"guests keep their nice values where they change at home: {os.strerror(-error)}")
            return
        body.group_nice = None if autogroup.renice(body.pid, nice) else nice
