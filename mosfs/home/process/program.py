"""One process of a mosrun tree, as its tracer knows it. State only: `tracer` and its helpers act on it."""

from __future__ import annotations

import os
import socket
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from mosfs.abi.flags import AT_FDCWD
from mosfs.balance.account import Account
from mosfs.calls.cputime import Used
from mosfs.calls.cputimers import Alarm
from mosfs.calls.partial import Carry
from mosfs.calls.request import Request
from mosfs.calls.timeouts import Wait
from mosfs.home.process.calltrace import CallTrace
from mosfs.home.process.deputy import Deputy, Kept
from mosfs.home.process.processor import Demand
from mosfs.migrate import shown
from mosfs.migrate.image import Vma
from mosfs.migrate.precopy import Precopy
from mosfs.migrate.properties import Said
from mosfs.migrate.ranges import Range
from mosfs.migrate.rebuild import Rebuild
from mosfs.native import lib
from mosfs.ptf.store import Inode, Store
from mosfs.ptf.travel import Sender, Spool
from mosfs.trace.idle import Idle
from mosfs.trace.task import Task
from mosfs.wire.channel import Channel
from mosfs.wire.messages import LastMessage, ProcState, Settings
from mosfs.wire.orders import MoveOrder

_DEV_ZERO = os.makedev(1, 5)


class Place(StrEnum):
    """Where a program is; the values are ProcState's."""

    STARTING = "starting"  # before its first exec under us
    HOME = "here"
    LEAVING = "leaving"  # its image was sent; the host has not yet said RUNNING
    AWAY = "away"


class Phase(StrEnum):
    """How far a move has come."""

    CHANNEL = "channel"  # mosd is asked for a data channel
    PREPARING = "preparing"  # the new host makes an empty body; the program runs on
    ARMING = "arming"  # the program is interrupted so that its memory can be followed
    COPYING = "copying"  # its memory is sent while it runs
    STOPPING = "stopping"  # the program is interrupted to be captured
    SENT = "sent"  # the old host sends the image to the new one; READY or FAIL follows
    GO = "go"  # the body may run as soon as it is complete; it has not said so yet
    RECALL = "recall"  # the host is asked to send the image home


@dataclass(slots=True)
class Link:
    """A data channel to a host, shared by all programs of this tree that live there."""

    channel: Channel
    ip: str
    near: bool
    features: str = ""  # of the node there (`abi.cpu`), "" if unknown
    frames: int = 0  # which kinds it knows (`frames.GENERATION`)
    programs: set[int] = field(default_factory=set)


@dataclass(slots=True)
class Held:
    """What a host has of a file that a program maps (`home.away.mapped`): ranges of the file, as it was in that generation."""

    generation: int = -1
    wanted: list[Range] = field(default_factory=list)
    sent: list[Range] = field(default_factory=list)


@dataclass(slots=True)
class Holdings:
    """The private files of one process. ``inodes``: of its files, also those that stand for files while it is away."""

    store: Store
    inodes: dict[Inode, int] = field(default_factory=dict)
    away: bool = False
    stand_in: int = -1  # a memfd of ours for descriptors opened while it is away
    sender: Sender | None = None
    link: Link | None = None  # that the sender sends to
    spool: Spool | None = None
    held: list[Store] = field(default_factory=list)

    def let_go(self) -> None:
        """What is held for the sake of its inodes only."""
        for store in self.held:
            store.close()
        self.held.clear()

    def close(self) -> None:
        self.store.close()
        self.let_go()
        self.drop_spool()
        self.inodes.clear()
        if self.stand_in >= 0:
            os.close(self.stand_in)
            self.stand_in = -1

    def drop_spool(self) -> None:
        if self.spool is not None:
            self.spool.close()
            self.spool = None


@dataclass(slots=True)
class Move:
    """A move under way. ``target`` is an IP, "" for home; ``done`` is told "" or the reason of the failure."""

    target: str
    shown: str
    seq: int = 0
    done: Callable[[str], None] | None = None
    phase: Phase = Phase.CHANNEL
    link: Link | None = None
    regs: Any = None
    stopped: Any = None  # registers at the stop in which the program was captured at home
    order: MoveOrder | None = None  # for the old host, of a move between two nodes
    started: float = field(default_factory=time.monotonic)
    frozen_at: float = 0.0
    tries: int = 0
    copy: Precopy | None = None
    files: dict[int, Held] = field(default_factory=dict)  # what the new host has of the files that the program maps
    rebuild: Rebuild | None = None  # on the way home: the deputy with what has come ahead
    waiting: bool = False  # the program is inside its own migration request
    inside: Request | None = None  # the call that it leaves in: the deputy makes it as soon as the program is away
    below: int = 0  # the target takes it only while its load stays below this
    why: str = ""  # why it is moved, "" if somebody wishes it
    escapes: bool = False  # an instruction is illegal where it is
    hurry: bool = False  # home is short of memory: nothing goes ahead


@dataclass(slots=True)
class Program:
    """``deputy`` exists while it is away (or while a sleep that began away is finished at home)."""

    task: Task
    uid: int
    settings: Settings
    demand: Demand  # of a processor
    comm: str = ""
    place: Place = Place.STARTING
    link: Link | None = None
    deputy: Deputy | None = None
    move: Move | None = None
    wanted: Move | None = None  # the next move, while one is under way
    nmigs: int = 0
    sigmig: int = 0
    held: bool = False  # it stands in a ptrace stop of ours (before its first instruction, in a control call)
    halted: bool = False  # it is in a group stop
    doomed: bool = False  # serving it failed, and it has been told so (`home.tree.containment`)
    leader: int = 0  # this is a thread of that process
    threads: set[int] = field(default_factory=set)  # the others of this process
    native: bool = False  # mosnative: not ours any more but for the stops
    bound: str = ""  # why it can never leave (until its next exec)
    why: str = ""  # why the last attempt to move it failed
    vforking: int = 0  # children that still use its memory
    vfork_parent: int = 0
    signals: int = 0  # SIGNAL frames sent to its host
    seq: int = 0  # number of the call that the body waits in, echoed in its answer
    answer: list[tuple[int, bytes, int]] | None = None  # frames for the host, kept back while the body moves
    asleep: Kept | None = None  # it is in a sleep at home that was interrupted: what that needs of its memory
    sleeping: Any = None  # registers after the call, while a sleep that began away is finished at home
    infos: list[bytes] = field(default_factory=list)  # signals for handlers, waiting until the program can take them
    carry: Carry | None = None  # it is in the middle of a transfer that we cut short
    idle: Idle | None = None  # as it was when we interrupted it
    wait: Wait | None = None  # it is in a call with a limited time that is made again
    used: Used = field(default_factory=Used)  # CPU time away, in all
    counted: Used = field(default_factory=Used)  # of it, what its timers of CPU time know of
    owing: dict[int, int] = field(default_factory=dict)  # ns by which single timers know less
    alarm: Alarm = field(default_factory=Alarm)  # when its host will tell of that
    dying: bytes | None = None  # the signal that it comes home to die of
    coreless: bool = False  # it could not
    overdue: bool = False  # it is asked to stop because its limit of CPU time is reached
    children_used: Used = field(default_factory=Used)  # the same of its children that have ended, and of theirs
    dead: dict[int, Used] = field(default_factory=dict)  # of those that it has not waited for
    names: list[Vma] = field(default_factory=list)  # files that its memory showed before it travelled, and does not show any more
    files: dict[int, Held] = field(default_factory=dict)  # away: what its host has of the files that it maps
    said: Said = field(default_factory=Said)  # of its memory, here or before it came home
    pieced: bool = False  # its memory was moved, or followed: mappings that would be one may be several (`migrate.remap`)
    reading: object | None = None  # the open of a file about another program, whose node is asked (`home.asks.relatives`)
    shown: bytes | None = None  # what its body's memory looks like in the file of /proc that it is about to open
    parent: int = 0
    watched: bool = False  # inside a call whose answer is completed by `mosfs.calls.cputime`
    interrupted: bool = False  # we have asked it to stop
    clock_page: bytes = b""
    last_move: tuple[int, str, str] = (0, "", "ok")
    freeze_ms: float = 0.0
    next_checkpoint: int = 1
    trace: CallTrace | None = None  # where its calls are told (mosrun --trace)
    next_trace: CallTrace | None = None
    called: tuple[int, str] | None = None  # with a trace: number and text of the call that it is in
    advised: frozenset[str] = frozenset()  # what -w has told it to do (`calls.policy.advice`)
    mailbox: str = ""  # the other node that holds its mailbox
    last_message: LastMessage | None = None  # the last message that it read; mosd hears of it within a second
    mail: Any = None  # its part in direct communication (`home.asks.mail.Mail`)
    disinherits: list[int] = field(default_factory=list)  # descriptors that it must not keep from its parent
    start: Callable[[Program], None] | None = None  # what to do before the first instruction
    next_settings: Settings | None = None
    next_native: bool = False
    retry_at: float = 0.0
    launcher: socket.socket | None = None
    announced: ProcState | None = None
    because: str = ""  # why it was moved where it is
    account: Account = field(default_factory=lambda: Account(time.monotonic()))
    nice: int = 0  # as the host that has the body was last told
    private: Holdings | None = None
    pidfd: int = -1  # once `home.process.direct` has needed it
    filtered: bool = False  # it has a seccomp filter of its own, which judges what we would have it call
    strict: bool = False  # this thread is in what is strict mode to it (`home.asks.filters`)
    filters: int = 0  # of `home.asks.private` that are installed in it
    inherited: dict[Inode, int] | None = None  # files of its parent, whose descriptors it must not keep

    @property
    def pid(self) -> int:
        return self.task.pid

    @property
    def away(self) -> bool:
        return self.place is Place.AWAY

    @property
    def filters_of_ours(self) -> int:
        """How many seccomp filters it has from us."""
        mails = self.mail is not None and self.mail.filtered
        return shown.OUR_FILTERS + self.filters + mails + self.strict

    def plainness(self) -> int:
        """For native/home.c: 0, or lib.MOS_PLAIN; with MOS_UNTRAVELLED if the kernel's figures of its CPU time are right as well,
        with MOS_WHOLE if mremap(2) needs no help."""
        if not self.plain():
            return 0
        untravelled = not (any(self.used) or any(self.children_used))
        return int(lib.MOS_PLAIN | (lib.MOS_UNTRAVELLED if untravelled else 0) | (0 if self.pieced else lib.MOS_WHOLE))

    def plain(self) -> bool:
        """Whether its next fork, signal or end needs nothing but bookkeeping."""
        return self.mail is None and self.undisturbed()

    def undisturbed(self) -> bool:
        """At home, alone in its memory, and nobody wants anything of it."""
        return self.place is Place.HOME and not (
            self.leader or self.threads or self.native or self.held or self.halted or self.interrupted or self.watched
            or self.filters or self.disinherits or self.infos or self.demand.foreign
            or any(
                state is not None for state in (
                    self.deputy, self.private, self.inherited, self.carry, self.asleep, self.sleeping,
                    self.trace, self.called,
                )
            )
        )

    def state(self) -> ProcState:
        """What mosd shall show."""
        seq, target, result = self.last_move
        if self.move is not None:
            seq, target, result = self.move.seq or seq, self.move.target, ""
        place = "returning" if self.move is not None and self.move.phase is Phase.RECALL else self.place.value
        return ProcState(
            pid=self.pid,
            uid=self.uid,
            where=self.link.ip if self.link is not None and self.away else "",
            state=place,
            nmigs=self.nmigs,
            settings=self.settings,
            why=self.bound or self.why or self.obstacle(),
            move_seq=seq,
            move_target=target,
            move_result=result,
            comm=self.comm,
            sigmig=self.sigmig,
            freeze_ms=round(self.freeze_ms, 3),
            next_checkpoint=self.next_checkpoint,
            last_message=self.last_message,
            barred=self.bound or self.obstacle() or ("stopped by a signal" if self.halted else ""),
            because=self.because,
            mailbox=self.mailbox,
            needs=self.demand.required,
        )

    def has_device(self, fd: int) -> bool:
        """Whether a descriptor is a character device whose memory is not just zeros (/dev/zero)."""
        try:
            found = os.stat(f"/proc/{self.pid}/fd/{fd}")
        except OSError:
            return False
        return stat.S_ISCHR(found.st_mode) and found.st_rdev != _DEV_ZERO

    def directory(self, dirfd: int) -> bytes:
        """Path of an open directory, or of the working directory (AT_FDCWD); OSError if it is none."""
        return os.readlink(f"/proc/{self.pid}/{'cwd' if dirfd == AT_FDCWD else f'fd/{dirfd}'}".encode())

    def obstacle(self) -> str:
        """Why it cannot be captured right now; "" if it can."""
        if self.native:
            return "runs as a native Linux program"
        if self.vforking or self.vfork_parent:
            return "shares memory after vfork"
        if self.mail is not None and self.mail.asked:
            return "sends or receives a message"
        if self.reading is not None:
            return "reads a file about another program"
        return ""
