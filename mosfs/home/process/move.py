"""A move under way: its record and, on one screen, what decides each of its steps (`STEPS`). Pure but for the record.

What a step means is done by `home.moves`; which frames carry it is in `docs/design/migration.md`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, StrEnum, auto
from typing import Any, Protocol

from mosfs.calls.request import Request
from mosfs.home.process.deputy import Deputy, Sleep
from mosfs.home.process.link import Held, Link
from mosfs.migrate.precopy import Precopy
from mosfs.migrate.ranges import Range
from mosfs.migrate.rebuild import Rebuild
from mosfs.native.registers import Registers
from mosfs.trace.stops import Stop
from mosfs.trace.task import no_regs
from mosfs.wire.frames import Frame
from mosfs.wire.orders import MoveOrder

#: As a target: whichever node is best.
BEST = "best"


class Way(Enum):
    """Between which nodes; one that executes another program on its way is at home from then on."""

    OUT = auto()  # home -> node
    ONWARD = auto()  # node -> node
    BACK = auto()  # node -> home


class Phase(StrEnum):
    """How far a move has come."""

    CHANNEL = "channel"  # mosd is asked for a data channel (not on the way home: there is one)
    PREPARING = "preparing"  # the new host makes an empty body; the program runs on
    ARMING = "arming"  # the program is interrupted so that its memory can be followed
    COPYING = "copying"  # its memory is sent while it runs
    STOPPING = "stopping"  # the program is interrupted to be captured
    SENT = "sent"  # the old host sends the image to the new one, or home has sent that of a group's member; READY or FAIL follows
    GO = "go"  # the body may run as soon as it is complete; it has not said so yet
    RECALL = "recall"  # the host is asked to send the image home


class Event(Enum):
    """What may come in the course of a move."""

    CHANNEL_READY = auto()  # of mosd: the data channel stands
    PREPARED = auto()  # of the new host: it has an empty body
    AHEAD = auto()  # the private files are sent; memory shall go ahead, too
    NOT_AHEAD = auto()  # memory goes with the program only: there is little, it stands still anyway, or the kernel cannot follow it
    STOPPED = auto()  # the program at home has stopped, because it was asked to
    STANDS = auto()  # the program at home stands still anyway
    FOLLOWED = auto()  # its memory is followed from now on
    ENOUGH = auto()  # so much of it was sent ahead that the program shall stop
    IMAGE_SENT = auto()  # the image has left home
    MEMBER_SENT = auto()  # the same of one that moves together with others
    ALL_READY = auto()  # all of these stand complete
    COPIED = auto()  # of the old host: it has sent enough ahead
    READY = auto()  # of the new host: the body stands complete; when home has sent the image, nobody waits for that
    RUNNING = auto()  # of the new host: the body runs
    IMAGE = auto()  # of the old host: the image begins
    AGAIN = auto()  # the program stood where it could not be captured, and some time has passed
    EXECUTED = auto()  # the program has executed another one, which is at home
    FAILED = auto()  # of either host, or a channel broke


class Step(Enum):
    """What is to be done."""

    NOTHING = auto()
    SEND_FILES = auto()  # send the private files ahead
    STOP = auto()  # interrupt the program
    FOLLOW = auto()  # begin to send its memory ahead
    CAPTURE = auto()  # capture it and send its image
    COPY = auto()  # have the old host send memory ahead
    ORDER = auto()  # have the old host send the image to the new one
    RECALL = auto()  # have the old host send the image home
    ARRIVE = auto()  # make the deputy the program again
    JOIN = auto()  # its body stands, of one that moves together with others: the next one
    GO = auto()  # let the body run as soon as it is complete
    LEAVE = auto()  # committed: what is left at home becomes the deputy
    SWITCH = auto()  # committed: the new host has it, the old one drops its body
    STAY = auto()  # it goes on at home, from where it was captured
    RESUME = auto()  # it goes on at the old host
    ABANDON = auto()  # it goes on where it is: it was not disturbed yet


OUT, ONWARD, BACK = Way
#: What follows when an event meets a move in a phase: the new phase, and what is to be done. Where there is no row nothing follows:
#: the event belongs to a move that is over. Up to GO a failure leaves the program where it was; RUNNING commits.
STEPS: dict[tuple[Way, Phase, Event], tuple[Phase, Step]] = {
    (OUT, Phase.CHANNEL, Event.CHANNEL_READY): (Phase.PREPARING, Step.NOTHING),
    (OUT, Phase.PREPARING, Event.PREPARED): (Phase.PREPARING, Step.SEND_FILES),
    (OUT, Phase.PREPARING, Event.AHEAD): (Phase.ARMING, Step.STOP),
    (OUT, Phase.PREPARING, Event.NOT_AHEAD): (Phase.STOPPING, Step.STOP),
    (OUT, Phase.ARMING, Event.AGAIN): (Phase.ARMING, Step.STOP),
    (OUT, Phase.ARMING, Event.STOPPED): (Phase.ARMING, Step.FOLLOW),
    (OUT, Phase.ARMING, Event.FOLLOWED): (Phase.COPYING, Step.NOTHING),
    (OUT, Phase.ARMING, Event.NOT_AHEAD): (Phase.STOPPING, Step.CAPTURE),
    (OUT, Phase.ARMING, Event.STANDS): (Phase.STOPPING, Step.CAPTURE),
    (OUT, Phase.COPYING, Event.ENOUGH): (Phase.STOPPING, Step.STOP),
    (OUT, Phase.STOPPING, Event.AGAIN): (Phase.STOPPING, Step.STOP),
    (OUT, Phase.STOPPING, Event.STOPPED): (Phase.STOPPING, Step.CAPTURE),
    (OUT, Phase.STOPPING, Event.STANDS): (Phase.STOPPING, Step.CAPTURE),
    (OUT, Phase.STOPPING, Event.IMAGE_SENT): (Phase.GO, Step.GO),
    (OUT, Phase.STOPPING, Event.MEMBER_SENT): (Phase.SENT, Step.NOTHING),
    (OUT, Phase.SENT, Event.READY): (Phase.SENT, Step.JOIN),
    (OUT, Phase.SENT, Event.ALL_READY): (Phase.GO, Step.GO),
    (OUT, Phase.GO, Event.RUNNING): (Phase.GO, Step.LEAVE),

    (ONWARD, Phase.CHANNEL, Event.CHANNEL_READY): (Phase.PREPARING, Step.NOTHING),
    (ONWARD, Phase.PREPARING, Event.PREPARED): (Phase.COPYING, Step.COPY),
    (ONWARD, Phase.COPYING, Event.COPIED): (Phase.SENT, Step.ORDER),
    (ONWARD, Phase.SENT, Event.AGAIN): (Phase.SENT, Step.ORDER),
    (ONWARD, Phase.SENT, Event.READY): (Phase.GO, Step.GO),
    (ONWARD, Phase.GO, Event.RUNNING): (Phase.GO, Step.SWITCH),
    (ONWARD, Phase.COPYING, Event.EXECUTED): (Phase.STOPPING, Step.CAPTURE),
    (ONWARD, Phase.SENT, Event.EXECUTED): (Phase.STOPPING, Step.CAPTURE),

    (BACK, Phase.CHANNEL, Event.AHEAD): (Phase.COPYING, Step.COPY),
    (BACK, Phase.CHANNEL, Event.NOT_AHEAD): (Phase.RECALL, Step.RECALL),
    (BACK, Phase.COPYING, Event.COPIED): (Phase.RECALL, Step.RECALL),
    (BACK, Phase.RECALL, Event.AGAIN): (Phase.RECALL, Step.RECALL),
    (BACK, Phase.RECALL, Event.IMAGE): (Phase.RECALL, Step.ARRIVE),

    **{(OUT, phase, Event.FAILED): (phase, Step.ABANDON) for phase in (
        Phase.CHANNEL, Phase.PREPARING, Phase.ARMING, Phase.COPYING, Phase.STOPPING)},
    (OUT, Phase.SENT, Event.FAILED): (Phase.SENT, Step.STAY),
    (OUT, Phase.GO, Event.FAILED): (Phase.GO, Step.STAY),
    **{(ONWARD, phase, Event.FAILED): (phase, Step.ABANDON) for phase in (Phase.CHANNEL, Phase.PREPARING)},
    **{(ONWARD, phase, Event.FAILED): (phase, Step.RESUME) for phase in (Phase.COPYING, Phase.SENT, Phase.GO)},
    (BACK, Phase.COPYING, Event.FAILED): (Phase.COPYING, Step.RESUME),
    (BACK, Phase.RECALL, Event.FAILED): (Phase.RECALL, Step.ABANDON),
}  # fmt: skip


@dataclass(slots=True)
class Stood:
    """How a program stood when it was captured at home.

    ``regs``: with which it goes on if it stays; ``stopped``: those of the stop; ``sleep``: what its sleep needs, if it slept;
    ``inside``: the call that it leaves in, which the deputy makes as soon as the program is away.
    ``brings``: of one that comes home: the shared memory whose contents come with it.
    """

    regs: Registers = field(default_factory=no_regs)
    stopped: Registers = field(default_factory=no_regs)
    sleep: Sleep | None = None
    inside: Request | None = None
    brings: frozenset[int] = frozenset()


@dataclass(slots=True)
class Standing:
    """Another thread of a process that is captured: how it stopped, its registers there, and before its next instruction."""

    stop: Stop
    stopped: Registers
    stay: Registers
    asleep: bool = False  # in its stub, in a sleep that began away
    waiting: bool = False  # inside a request of its own to us
    inside: Request | None = None  # the call that it leaves in


class Stands(Protocol):
    """What the other threads of a process stand still for (`moves.threads`): a move, or a checkpoint. ``link``: where they go, if
    anywhere, ``freezes``: that is a file. ``frozen_at``: since when, CLOCK_MONOTONIC in seconds."""

    standing: dict[int, Standing]
    frozen_at: float
    tries: int

    @property
    def link(self) -> Link | None: ...
    @property
    def freezes(self) -> Link | None: ...


@dataclass(slots=True)
class Filled:
    """A program that has come home with others, in its deputy, as far as it can be taken back. ``coming``: `moves.arrival`."""

    link: Link
    deputy: Deputy
    coming: Any


@dataclass(slots=True, eq=False)
class Together:
    """A group that moves as one (`moves.groups`). ``members``: their PIDs, the first of which the move was asked for.

    ``turn``: who is to stand still next; ``stands``: who does; ``filled``: who has come home; ``contents``: so has what they share;
    ``complete``: all stand at the new node; ``over``: it is decided; ``attempts``: there were before.
    ``later``: whose move has ended before those of the others."""

    members: list[int]
    deadline: float
    turn: int = 0
    stands: set[int] = field(default_factory=set)
    filled: dict[int, Filled] = field(default_factory=dict)
    contents: bool = False
    complete: bool = False
    over: bool = False
    attempts: int = 0
    later: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Move:
    """A move under way. ``target`` is an IP, "" for home; ``done`` is told "" or the reason of the failure."""

    target: str
    shown: str
    seq: int = 0
    done: Callable[[str], None] | None = None
    phase: Phase = Phase.CHANNEL
    link: Link | None = None
    stood: Stood = field(default_factory=Stood)
    order: MoveOrder | None = None  # for the old host, of a move between two nodes
    started: float = field(default_factory=time.monotonic)
    frozen_at: float = 0.0
    tries: int = 0
    mapped: list[Range] = field(default_factory=list)  # where the program has memory at home, sorted
    copy: Precopy | None = None
    files: dict[int, Held] = field(default_factory=dict)  # what the new host has of the files that the program maps
    rebuild: Rebuild | None = None  # on the way home: the deputy with what has come ahead
    waiting: bool = False  # the program is inside its own migration request
    below: int = 0  # the target takes it only while its load stays below this
    why: str = ""  # why it is moved, "" if somebody wishes it
    escapes: bool = False  # what it is about to do cannot be done where it is: an instruction, or a call that is home's to make
    hurry: bool = False  # home is short of memory: nothing goes ahead
    freezes: Link | None = None  # the file to which it goes, for `moves.freezing`
    thaws: bool = False  # it comes from there
    standing: dict[int, Standing] = field(default_factory=dict)  # the other threads, while they stand (`moves.threads`)
    together: Together | None = None  # it moves with others (`moves.groups`)
    late: list[Frame] = field(default_factory=list)  # calls of the old host's body that came behind GO

    def way(self, *, away: bool) -> Way:
        """``away``: whether the program is away now."""
        return (Way.ONWARD if self.target else Way.BACK) if away else Way.OUT

    def after(self, event: Event, *, away: bool) -> Step:
        """Go on: what ``event`` asks for now, `Step.NOTHING` if it does not concern this move any more."""
        self.phase, step = STEPS.get((self.way(away=away), self.phase, event), (self.phase, Step.NOTHING))
        return step
