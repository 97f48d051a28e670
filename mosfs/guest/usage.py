"""Statistics of the guests of a host: told to this node's mosd, which may want them to leave, and to home, which keeps them."""

from __future__ import annotations

import errno
import os
import time

import msgspec

from mosfs.balance.account import NOTICEABLE
from mosfs.balance.history import History
from mosfs.calls import cputime
from mosfs.calls.usage import reports
from mosfs.guest.body import Body, State
from mosfs.guest.context import Context
from mosfs.guest.title import tell_title
from mosfs.native import lib
from mosfs.trace import autogroup
from mosfs.trace.priority import Share, nice_of
from mosfs.trace.task import TaskGone
from mosfs.wire.asked import Settings
from mosfs.wire.channel import Channel
from mosfs.wire.frames import Kind
from mosfs.wire.orders import About, Used

_REPORTED = (State.RUNNING, State.WAITING, State.FORKING, State.EXECING)


def tell_used(body: Body, channel: Channel) -> None:
    """CPU_TIME: what the body has computed, with all its threads."""
    body = body.leader or body
    body.times.told_used = body.used()
    channel.send(Kind.CPU_TIME, body.pair, cputime.FRAME.pack(*body.times.told_used))


def tell_thread(body: Body, tid: int, channel: Channel) -> None:
    """THREAD_TIME, if home wants it: what the thread ``tid`` of the process of ``body`` has computed, 0 for ``body`` itself."""
    leader = body.leader or body
    thread = body if tid == 0 else leader if tid == leader.pair else leader.threads.get(tid)
    used = thread.own_used(parts=True) if thread is not None else None
    if thread is not None and used is not None:
        channel.send(Kind.THREAD_TIME, thread.pair, cputime.FRAME.pack(*used))


class Statistics:
    def __init__(self, context: Context) -> None:
        self.context = context
        self._told_nice = False

    def begin(self) -> None:
        """See `Host.begin`."""
        self._share = Share(self.context.log)

    def tick(self, now: float) -> None:
        """Once a second."""
        accounts = {}
        for body in self.context.bodies.values():
            if body.state not in _REPORTED or body.leader is not None:
                continue
            try:
                body.times.unsaid += body.account.measure(body.pid, now, io=False)
            except OSError:
                continue
            accounts[body.pid] = body.account
            if body.times.unsaid > NOTICEABLE:
                self._say(body)
            try:
                tell_title(body, self.context.channel)
            except TaskGone:
                continue  # its end follows
        for report in reports(accounts):
            self.context.control.send(report)
        for body in self.context.bodies.values():
            if body.group_nice is not None and autogroup.renice(body.pid, body.group_nice):
                body.group_nice = None
        self._share.look(nice_of(body.pid) for body in self.context.bodies.values())

    def leaves(self, body: Body) -> None:
        """Before the body goes: home hears what it has used until now, and how it calls itself.

        The next host tells nothing before its first second is over, and by then the program may have gone on.
        """
        try:
            tell_used(body, self.context.channel)
            body.times.unsaid += body.account.measure(body.pid, time.monotonic(), io=False)
            tell_title(body, self.context.channel)
        except (OSError, TaskGone):
            return
        self._say(body)

    def _say(self, body: Body) -> None:
        user = body.account.last.user if body.account.last else 0.0
        used = Used(round(body.times.unsaid, 6), body.account.size_mb, round(user - body.times.said_user, 2))
        self.context.channel.send(Kind.USED, body.pair, msgspec.msgpack.encode(used))
        body.times.unsaid, body.times.said_user = 0.0, user

    def about(self, body: Body, told: About) -> None:
        """ABOUT: what home knows of the program."""
        body.settings = Settings(lock=told.lock, needmem=told.needmem, cpujob=told.cpujob, decay=told.decay)
        account = body.account
        account.age, account.decay, account.history, account.news = told.age, told.decay, History(*told.history), True
        nice = max(0, told.nice)  # no guest goes before the programs of its node
        if nice_of(body.pid) != nice:
            self._renice(body, nice)
        self.context.announce(body)

    def _renice(self, body: Body, nice: int) -> None:
        """Without CAP_SYS_NICE a value can be raised only; it stays as it is then, and the log says so once."""
        if error := lib.mos_renice(body.pid, nice, self.context.runs_as):
            if -error != errno.ESRCH and not self._told_nice:
                self._told_nice = True
                self.context.log(f"guests keep their nice values where they change at home: {os.strerror(-error)}")
            return
        body.group_nice = None if autogroup.renice(body.pid, nice) else nice
