"""The programs of a node, its guests, and what their private files are called."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from operator import attrgetter
from typing import NamedTuple

from msgspec.structs import replace

from mosfs.balance.history import History
from mosfs.wire.limits import Shares
from mosfs.wire.messages import Command, GuestState, MailHeld, ProcState, Usage
from mosfs.wire.place import Place

#: Seconds without a report, which programs give each second while they change, after which one does not grow any more.
GROWTH_LASTS = 2.5
#: Who may have had a program frozen (ProcState).
FROZEN = ("A", "P", "M")
#: Nodes that the accounting of a program tells apart.
MOST_PLACES = 64
#: The last deaths of a program's tracers that are known.
MOST_DEATHS = 8
#: Stops of a program that are remembered, the last ones.
MOST_VISITS = 32

_ELSEWHERE = frozenset({Place.LEAVING, Place.AWAY, Place.RETURNING, Place.FROZEN})

Send = Callable[[Command | MailHeld], object]


def away(state: ProcState) -> bool:
    """Is the program's memory on another node, or on its way there?"""
    return bool(state.where) or state.state in _ELSEWHERE


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


class Order(StrEnum):
    """What a tracer is ordered to do with a program, and tells the outcome of; the names of the fields of `ProcState` about it
    begin with the value."""

    MOVE = "move"
    SAVE = "save"
    FREEZE = "freeze"  # or go on


_TOLD = {order: attrgetter(f"{order}_seq", f"{order}_result") for order in Order}


class Visit(NamedTuple):
    """A node to which a program came: ``where`` is its IP, "" for home; ``at``: when, by the clock of the World; ``why``: "" if
    somebody wished it."""

    at: float
    where: str
    why: str


@dataclass(slots=True, eq=False)
class Program:
    """A home program. ``send`` is None while its tracer is not connected. ``ordered``: number of the last order of each kind, where
    there was one; ``target``: of the last move that was ordered, an IP or "" for home."""

    state: ProcState
    send: Send | None
    ordered: dict[Order, int] = field(default_factory=dict)
    target: str = ""
    balanced: Balanced = field(default_factory=Balanced)
    record: Record = field(default_factory=Record)
    deaths: deque[float] = field(default_factory=lambda: deque(maxlen=MOST_DEATHS))  # when its last tracers died
    path: deque[Visit] = field(default_factory=lambda: deque(maxlen=MOST_VISITS))

    def follow(self, new: ProcState, now: float) -> None:
        """Its tracer has told the state ``new``, which is not yet its own: where it has come to is remembered."""
        if new.where != self.state.where:
            self.path.append(Visit(now, new.where, new.because))

    def sent_back(self, new: ProcState) -> str:
        """The IP of the node that has sent it home, as the state ``new`` tells, which is not yet its own: nobody here had ordered
        that, nor is there a reason; "" if none has."""
        old = self.state
        done = [(_TOLD[order](old)[0], _TOLD[order](new)[0], self.ordered.get(order, 0)) for order in (Order.MOVE, Order.FREEZE)]
        if new.where or any(told > before or last > told for before, told, last in done):
            return ""
        if new.frozen in FROZEN and old.frozen not in FROZEN:  # as it came
            return old.where
        if new.nmigs == old.nmigs or new.because:
            return ""
        visits = [visit.where for visit in self.path] if not old.where else [old.where]
        return next((where for where in reversed(visits) if where), "")

    def outcome(self, order: Order) -> tuple[int, str]:
        """Number and result (`abi.outcomes`) of the last order of this kind; "" until the result is known."""
        told, result = _TOLD[order](self.state)
        last = self.ordered.get(order, 0)
        return (last, "") if last > told else (told, result)

    @property
    def moving(self) -> bool:
        """A move was ordered and its outcome is not known yet."""
        return not self.outcome(Order.MOVE)[1]

    @property
    def last_target(self) -> str:
        """Where the last move was to: an IP, "" for home."""
        return self.target if self.ordered.get(Order.MOVE, 0) > self.state.move_seq else self.state.move_target

    def orphaned(self) -> ProcState:
        """Its state for the next tracer: what the one that died was ordered to do, and did not tell of, has ended with it."""
        state = replace(self.state, move_target=self.last_target)
        for order in Order:
            number, result = self.outcome(order)
            state = replace(state, **{f"{order}_seq": number, f"{order}_result": result})
        return state


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
    ``folders``: what is in each folder on the way to a file, so that nobody has to look for it among all names.
    """

    keeper: int
    uid: int
    shares: Shares
    alive: Callable[[], bool] = lambda: True
    files: dict[bytes, int] = field(default_factory=dict)
    folders: dict[bytes, dict[bytes, None]] = field(default_factory=dict)

    def set(self, name: bytes, fd: int) -> None:
        """``fd`` -1: there is no such file any more. OSError EMFILE: its user has too many."""
        if fd >= 0:
            if name not in self.files:
                self.shares.take(self.uid)
                self._enter(name)
            self.files[name] = fd
        elif self.files.pop(name, None) is not None:
            self.shares.give(self.uid)
            self._leave(name)

    def _enter(self, path: bytes) -> None:
        known = False
        while path and not known:
            path, _, name = path.rpartition(b"/")
            inside = self.folders.setdefault(path, {})
            known = name in inside
            inside[name] = None

    def _leave(self, path: bytes) -> None:
        while path and path not in self.files and path not in self.folders:
            path, _, name = path.rpartition(b"/")
            del self.folders[path][name]
            if not self.folders[path]:
                del self.folders[path]

    def clear(self) -> None:
        for name in list(self.files):
            self.set(name, -1)
