"""Statistics of a tree's programs: kept at home wherever they are, told to mosd, and to the host that has the body."""

from __future__ import annotations

import time
from contextlib import suppress

import msgspec

from mosfs.balance.account import Account
from mosfs.balance.history import History
from mosfs.calls.usage import reports, sums
from mosfs.home.ports import Tree
from mosfs.home.process.program import Place, Program
from mosfs.trace.priority import Share, nice_of
from mosfs.wire.asked import Settings
from mosfs.wire.channel import ChannelLost
from mosfs.wire.frames import Kind
from mosfs.wire.orders import About, Used


def about(settings: Settings, account: Account, nice: int) -> bytes:
    """Payload of ABOUT."""
    return msgspec.msgpack.encode(About(
        settings.lock, settings.needmem, settings.cpujob, settings.decay, account.age, sums(account.history), nice
    ))


class Statistics:
    def __init__(self, tracer: Tree) -> None:
        self.tracer = tracer

    def begin(self) -> None:
        """See `Tracer.begin`."""
        self._share = Share(self.tracer.mosd.log)

    def began(self, p: Program) -> None:
        """The launcher has become the program."""
        try:
            p.reports.account.start(p.pid, time.monotonic())
        except OSError:
            return

    def tick(self, now: float) -> None:
        """Once a second: bring every account up to date and tell mosd the news."""
        accounts = {}
        changed = []
        for p in list(self.tracer.programs.values()):
            if p.process.native:
                continue
            accounts[p.pid] = account = p.reports.account
            account.decay = p.settings.decay
            with self.tracer.containment.of(p):
                if p.away:
                    account.leave()
                    account.forwarded += account.calls
                    account.advance(now)
                    if nice_of(p.pid) != p.body.nice:
                        changed.append(p)
                elif p.place is Place.HOME and not p.kin.leader:  # what a process uses is measured once, for all its threads
                    with suppress(OSError):
                        account.measure(p.pid, now, io=True)
        for report in reports(accounts):
            self.tracer.mosd.send(report)
        for p in changed:
            self.tell(p)
        self._share.look(nice_of(p.pid) for p in self.tracer.programs.values())

    def used(self, p: Program, used: Used) -> None:
        """USED of the host: CPU time of the body."""
        account = p.reports.account
        account.size_mb = used.size_mb
        account.age += used.cpu
        account.user_away += used.user
        account.history = account.history.plus(0.0, 0, History(cpu=used.cpu))
        account.news = True

    def tell(self, p: Program) -> None:
        """ABOUT to the host that has the body: at its arrival and when something was changed by hand or with setpriority(2)."""
        if not p.away or p.link is None:
            return
        p.body.nice = nice_of(p.pid)
        try:
            p.link.channel.send(Kind.ABOUT, p.pid, about(p.settings, p.reports.account, p.body.nice))
        except ChannelLost:
            self.tracer.hosts.link_lost(p.link)
