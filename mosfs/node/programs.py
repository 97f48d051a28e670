"""The programs of a node, its guests, and what their private files are called."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from msgspec.structs import replace

from mosfs.balance.history import History
from mosfs.wire.limits import Shares
from mosfs.wire.messages import Command, GuestState, MailHeld, ProcState, Usage

#: Seconds without a report, which programs give each second while they change, after which one does not grow any more.
GROWTH_LASTS = 2.5
#: Who may have had a program frozen (ProcState).
FROZEN = ("A", "P", "M")
#: Nodes that the accounting of a program tells apart.
MOST_PLACES = 64
#: The last deaths of a program's tracers that are known.
MOST_DEATHS = 8

Send = Callable[[Command | MailHeld], object]


def away(state: ProcState) -> bool:
    """Is the program's memory on another node, or on its way there?"""
    return bool(state.where) or state.state in ("leaving", "away", "returning", "frozen")


@dataclass(slots=True)
class Balanced:
    """What deciding about a program or guest needs and leaves. ``usage``: None before the first report; the last one came at
    ``reported``. ``grown``: megabytes a second that its memory has grown by at the last two.

    ``verdict``: why it stays, or why it was sent away; ``refused``: nodes that did not take it, and until when they are not
    asked again; ``left_until``: until when it is left alone; ``sent``: an automatic move to this IP is under way, since
    ``sent_at``; ``considered``: it has asked to be considered. ``lost``: seconds that being away has cost it since that last
    paid; ``rest``: seconds for which it stays home because of that, until ``rested`` (`balance.toll`).
    """

    usage: Usage | None = None
    reported: float = 0.0
    grown: tuple[float, float] = (0.0, 0.0)
    verdict: str = ""
    refused: dict[str, float] = field(default_factory=dict)
    left_until: float = float("-inf")
    sent: str | None = None
    sent_at: float = 0.0
    considered: bool = False
    lost: float = 0.0
    rest: float = 0.0
    rested: float = 0.0

    def report(self, usage: Usage, now: float) -> None:
        grown = 0.0
        if self.usage is not None and now > self.reported:
            grown = max(0.0, (usage.size_mb - self.usage.size_mb) / (now - self.reported))
        self.usage, self.reported, self.grown = usage, now, (self.grown[1], grown)

    def growth(self, now: float) -> float:
        """Megabytes a second by which its memory seems to go on growing: what it has grown by twice."""
        return min(self.grown) if now - self.reported < GROWTH_LASTS else 0.0

    def history(self, now: float, decay: int) -> History:
        """As of ``now``: nothing is reported of an idle program, whose history fades nevertheless."""
        if (u := self.usage) is None:
            return History()
        seconds = max(0.0, now - self.reported - 1.0)
        return History(u.wall, u.cpu, u.calls, u.received, u.sent).plus(seconds, decay, History(wall=seconds))


@dataclass(slots=True)
class Record:
    """For the accounting of a program. ``began``: when mosd heard of it first, seconds since 1970; ``spent``: its CPU seconds by
    node, an IP or "" for home; ``largest``: megabytes; ``calls``: those that were made for it at home while it was away."""

    began: float = field(default_factory=time.time)
    spent: dict[str, float] = field(default_factory=dict)
    largest: int = 0
    calls: int = 0

    def report(self, where: str, before: Usage | None, usage: Usage) -> int:
        """Take up a report that follows on ``before``; how many calls are new in it."""
        spent = max(0.0, usage.age - (0.0 if before is None else before.age))
        if where in self.spent or len(self.spent) < MOST_PLACES:
            self.spent[where] = self.spent.get(where, 0.0) + spent
        self.largest = max(self.largest, usage.size_mb)
        new = max(0, usage.forwarded - self.calls)
        self.calls += new
        return new


@dataclass(slots=True, eq=False)
class Program:
    """A home program. ``send`` is None while its tracer is not connected. ``asked``: number of the last move wanted."""

    state: ProcState
    send: Send | None
    asked: int = 0
    asked_target: str = ""
    saves: int = 0  # number of the last checkpoint that was asked for
    freezes: int = 0  # number of the last wish to have it frozen or go on
    balanced: Balanced = field(default_factory=Balanced)
    record: Record = field(default_factory=Record)
    deaths: deque[float] = field(default_factory=lambda: deque(maxlen=MOST_DEATHS))  # when its last tracers died

    @property
    def moving(self) -> bool:
        """A move was asked for and its outcome is not known yet."""
        return self.asked > self.state.move_seq or not self.state.move_result

    def last_checkpoint(self) -> tuple[int, str]:
        """Number and result of the last checkpoint that a user asked for; "..." while it is taken."""
        if self.saves > self.state.save_seq:
            return self.saves, "..."
        return self.state.save_seq, self.state.save_result or "..."

    def last_freezing(self) -> tuple[int, str]:
        """The same of the last wish to have it frozen, or go on."""
        if self.freezes > self.state.freeze_seq:
            return self.freezes, "..."
        return self.state.freeze_seq, self.state.freeze_result or "..."

    def orphaned(self) -> ProcState:
        """Its state for the next tracer: what the one that died was asked for, and did not say any more, has ended with it."""
        state = self.state
        if self.asked > state.move_seq:
            state = replace(state, move_seq=self.asked, move_target=self.asked_target, move_result="")
        if self.saves > state.save_seq:
            state = replace(state, save_seq=self.saves, save_result="")
        if self.freezes > state.freeze_seq:
            state = replace(state, freeze_seq=self.freezes, freeze_result="")
        return state

    def last_move(self) -> tuple[int, str, str]:
        """Number, target (an IP, "" = home) and result of the last move; "..." while it runs."""
        if self.asked > self.state.move_seq:
            return self.asked, self.asked_target, "..."
        return self.state.move_seq, self.state.move_target, self.state.move_result or "..."


@dataclass(slots=True, eq=False)
class Guest:
    """A guest body on this node; ``send`` reaches its host."""

    state: GuestState
    send: Send
    balanced: Balanced = field(default_factory=Balanced)


@dataclass(slots=True)
class PrivateNames:
    """Private files of a program or guest that are on this node: path to a descriptor of its tracer or host, ``keeper``.

    ``alive``: has the keeper not ended? Behind its PID are other descriptors then, of whoever gets the number.
    """

    keeper: int
    uid: int
    shares: Shares
    alive: Callable[[], bool] = lambda: True
    files: dict[bytes, int] = field(default_factory=dict)

    def set(self, name: bytes, fd: int) -> None:
        """``fd`` -1: there is no such file any more. OSError EMFILE: its user has too many."""
        if fd >= 0:
            if name not in self.files:
                self.shares.take(self.uid)
            self.files[name] = fd
        elif self.files.pop(name, None) is not None:
            self.shares.give(self.uid)

    def clear(self) -> None:
        for name in list(self.files):
            self.set(name, -1)
