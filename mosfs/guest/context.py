"""What every part of a host knows: whose guests it has, the guests themselves, and its channels to home and to this node's mosd."""

from __future__ import annotations

import socket
import time

from mosfs.abi import cpu
from mosfs.engine.link import INFO, MosdLink
from mosfs.engine.loop import Loop
from mosfs.engine.newcomers import Newcomers
from mosfs.guest.arriving import Arriving
from mosfs.guest.body import Body
from mosfs.migrate.filecopy import Objects
from mosfs.trace.clock import GuestClock
from mosfs.trace.task import Task
from mosfs.wire.channel import Channel
from mosfs.wire.frames import To
from mosfs.wire.messages import Config, GuestGone, GuestState, SpawnHost


class Context:
    """``bodies`` by PID at home, ``by_pid`` the same by PID here; ``arriving`` those of which memory has come, but no image yet.
    ``objects``: memory that they share. ``newcomers``: children that mosd has not been told of.

    ``direct``: the channel to another host, which sends us a program. ``spare``: an empty body, made ahead. What is only said
    here has no value before `begin`.
    """

    home: str
    uid: int
    comm: str
    near: bool
    packs: int
    token: bytes
    own_cluster: bool
    home_features: str
    runs_as: int
    channel: Channel
    started: float  #: a program is expected since then

    def __init__(self) -> None:
        self.control = MosdLink("", "host")
        self.config = Config("", 0, {})
        self.direct: Channel | None = None
        self.bodies: dict[int, Body] = {}
        self.by_pid: dict[int, Body] = {}
        self.arriving: dict[int, Arriving] = {}
        self.objects = Objects()
        self.newcomers = Newcomers()
        self.had_bodies = False
        self.spare: Task | None = None
        self.clock: GuestClock | None = None
        self.features = cpu.features()
        self.loop = Loop()
        self.pump = self.loop.pump

    def begin(self, order: SpawnHost, data: socket.socket) -> None:
        """See `Host.begin`."""
        self.home = order.home
        self.uid = order.uid
        self.comm = order.comm
        self.near = order.near
        self.packs = order.packs
        self.token = order.token
        self.own_cluster = order.own_cluster
        self.home_features = order.features
        self.runs_as = order.runs_as
        self.channel = Channel(data, order.key, opener=False, end=To.HOST)
        self.control.path = order.socket
        self.started = time.monotonic()
        self.loop.begin()

    def log(self, text: str, level: int = INFO) -> None:
        self.control.log(text, level)

    def announce(self, body: Body) -> None:
        """Tell mosd of a guest."""
        body.announced = True
        self.newcomers.forget(body.pair)
        self.control.send(GuestState(
            body.pid, body.pair, self.home, self.uid, body.comm or self.comm, body.since, body.settings,
            cpu.required(body.processor.features, body.processor.needs) if body.processor.features else [],
        ))

    def born(self, body: Body) -> None:
        """mosd hears of a child that does nothing special a little later, if it still exists then."""
        self.newcomers.add(body.pair)

    def ended(self, body: Body) -> None:
        self.newcomers.forget(body.pair)
        if body.announced:
            self.control.send(GuestGone(body.pid))

    def introduce(self, now: float) -> None:
        """Announce the newcomers whose time has come."""
        for pair in self.newcomers.ready(now):
            if body := self.bodies.get(pair):
                self.announce(body)

    def pause(self, now: float) -> float:
        """Seconds until `introduce` has something to do."""
        due = self.newcomers.due()
        return float("inf") if due is None else due - now

    def close_direct(self) -> None:
        if self.direct is not None:
            self.direct.close()
            self.direct = None
