"""What a tracer keeps of one process, by what it is about: each record is written by one room, which its first line names."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mosfs.abi.outcomes import OK
from mosfs.balance.account import Account
from mosfs.calls.cputime import Used
from mosfs.calls.cputimers import Alarm
from mosfs.calls.partial import Carry
from mosfs.calls.timeouts import Wait
from mosfs.home.process.calltrace import CallTrace
from mosfs.home.process.deputy import Outcome, Sleep
from mosfs.home.process.link import Held, Link
from mosfs.home.process.move import Move
from mosfs.home.process.replay import Backup
from mosfs.home.process.saving import Saving
from mosfs.migrate.image import Vma
from mosfs.migrate.increments import Chain
from mosfs.migrate.properties import Said
from mosfs.native.registers import Registers
from mosfs.trace.idle import Idle
from mosfs.wire.asked import Settings
from mosfs.wire.frames import COPIED, DIFFER, REMEMBER
from mosfs.wire.messages import LastMessage, ProcState


@dataclass(slots=True)
class Process:
    """`tree.family`: what the threads of a process share; theirs is one and the same object."""

    names: list[Vma] = field(default_factory=list)  # files that its memory showed before it travelled, and does not show any more
    said: Said = field(default_factory=Said)  # of its memory, here or before it came home
    pieced: bool = False  # its memory was moved, or followed: mappings that would be one may be several (`migrate.remap`)
    several: bool = False  # it has, or has had, more than one thread
    shares: bool = False  # it has memory that it may share, or its parent had (`away.shared`)
    filtered: bool = False  # it has a seccomp filter of its own, which judges what we would have it call
    native: bool = False  # mosnative: not ours any more but for the stops
    clock_page: bytes = b""

    def of_child(self) -> Process:
        """That of a new process, whose memory is a copy."""
        return Process(
            self.names, self.said.of_child(), self.pieced, False, self.shares, self.filtered, self.native, self.clock_page
        )

    def executed(self) -> None:
        """Its memory is another program's. A filter is kept (seccomp(2))."""
        self.names, self.said, self.pieced, self.several, self.shares = [], Said(), False, False, False


@dataclass(slots=True)
class Kin:
    """`tree.family`: who belongs to whom."""

    parent: int = 0
    leader: int = 0  # this is a thread of that process
    threads: set[int] = field(default_factory=set)  # the others of this process
    vforking: int = 0  # children that still use its memory
    vfork_parent: int = 0
    lends: Link | None = None  # where its body is kept until exec, though it has come home: its parent waits for that


@dataclass(slots=True)
class Call:
    """`away.waits`, `away.transfers` and `moves.departure`: the call that a task is in, at home."""

    carry: Carry | None = None  # it is in the middle of a transfer that we cut short
    idle: Idle | None = None  # how long it had slept when we interrupted it
    wait: Wait | None = None  # it is in a call with a limited time that is made again
    sleep: Sleep | None = None  # memory that an interrupted sleep at home needs when it is made again
    watched: bool = False  # inside a call whose answer is completed by `mosfs.calls.cputime`
    reading: object | None = None  # the open of a file about another program, whose node is asked (`asks.relatives`)


@dataclass(slots=True)
class Body:
    """`away`: of the body of a program that is away, and what waits for it."""

    seq: int = 0  # number of the call that the body waits in, echoed in its answer
    forwarded: int = 0  # number of the last call that its host has passed on: it may have to wait for the deputy
    signals: int = 0  # SIGNAL frames sent to its host
    kept_back: list[tuple[int, bytes, int]] | None = None  # frames for the host, kept back while the body moves
    infos: list[bytes] = field(default_factory=list)  # signals for handlers, waiting until the program can take them
    sleeping: Registers | None = None  # registers after the call, while a sleep that began away is finished at home
    files: dict[int, Held] = field(default_factory=dict)  # what its host has of the files that it maps
    shown: bytes | None = None  # what its memory looks like in the file of /proc that it is about to open
    nice: int = 0  # nice value that its host was told last
    pidfd: int = -1  # pidfd of the deputy, once `process.direct` has needed it


@dataclass(slots=True)
class Post:
    """`asks.mail`: direct communication, as far as others see it."""

    mail: Any = None  # its descriptors and mailbox (`asks.mail.Mail`), from its first open of one on
    mailbox: str = ""  # the other node that holds its mailbox
    last: LastMessage | None = None  # the last message that it read; mosd hears of it within a second
    disinherits: list[int] = field(default_factory=list)  # descriptors that it must not keep from its parent


@dataclass(slots=True)
class Pending:
    """`tree.mosd`: what mosrun or mosnative has asked for the next exec, until that is made."""

    settings: Settings | None = None
    native: bool = False
    trace: CallTrace | None = None
    start: Callable[[Any], None] | None = None  # what to do before the first instruction, unless it is native
    restart: Callable[[Any], None] | None = None  # the same of a process that is to go on from a checkpoint, whatever it is


@dataclass(slots=True)
class Frozen:
    """`moves.freezing`: whether a program is frozen, and what that left behind."""

    mark: str = ""  # who has had it frozen: "A" automatically, "P" another package, "M" by hand; "" if it is not frozen
    asked: int = 0  # number of a user's request that is under way
    last: tuple[int, str] = (0, OK)  # number and outcome of the last request
    wanted: str = ""  # who wants it frozen, as ``mark``, until it is
    begun: bool = False  # it was away, and its image has begun to come
    files: dict[int, Held] = field(default_factory=dict)  # the files that it maps, by that image
    call: Outcome | None = None  # of the call that was broken off

    @property
    def shown(self) -> tuple[int, str]:
        """The outcome of a request that is under way is ""."""
        return (self.asked, "") if self.asked else self.last


@dataclass(slots=True)
class Travel:
    """`moves`: the moves that a program has made, and will make; `tree.family` and `asks.policy`: whether it can."""

    wanted: Move | None = None  # the next move, while one is under way
    nmigs: int = 0
    last: tuple[int, str, str] = (0, "", OK)  # number, target and result of the last one
    freeze_ms: float = 0.0  # how long the program stood still in it
    because: str = ""  # why it was moved where it is
    why: str = ""  # why the last attempt to move it failed
    retry_at: float = 0.0
    sigmig: int = 0  # the signal that it wants of each (`asks.controls`)
    bound: str = ""  # why it can never leave (until its next exec)
    frozen: Frozen = field(default_factory=Frozen)


@dataclass(slots=True)
class Saves:
    """`moves.checkpoints`: the checkpoints that a program has taken, and will take."""

    next: int = 1  # number of the next checkpoint
    asked: Saving | None = None  # the checkpoint that was asked for and is not complete
    last: tuple[int, str] = (0, OK)  # number and outcome of the last request of a user
    stands: bool = False  # the program must stand still, because its memory is being written
    chain: Chain | None = None  # of incremental checkpoints, which share pages
    outlive: Backup | None = None  # `moves.outliving`: by which it outlives the node where it is

    def stays(self, move: Move) -> bool:
        """``move`` only copies the program to a file at home: it goes on where it is."""
        return self.outlive is not None and self.outlive.saving is not None and self.outlive.saving is move.freezes

    def recall_flags(self, move: Move) -> int:
        """Of RECALL: what the host shall remember, or may leave out or copy, for the image (`frames.REMEMBER` and the next)."""
        if self.outlive is None or not self.stays(move):
            return COPIED if move.escapes else 0
        return REMEMBER | (DIFFER if self.outlive.differs else 0)

    @property
    def shown(self) -> tuple[int, str]:
        """The same of one that is under way: its outcome is ""."""
        return (self.asked.seq, "") if self.asked is not None and self.asked.seq else self.last


@dataclass(slots=True)
class CpuUse:
    """`tree.cputime` and `tree.cputimers`: CPU time that home's kernel does not know of."""

    used: Used = field(default_factory=Used)  # all CPU time that it has used away
    threads: dict[int, Used] = field(default_factory=dict)  # by ID: what each thread has used of it; empty: the first all
    counted: Used = field(default_factory=Used)  # the part of ``used`` that its timers of CPU time have been set forward by
    owing: dict[int, int] = field(default_factory=dict)  # by timer: ns by which that one has been set forward less
    alarm: Alarm = field(default_factory=Alarm)  # the CPU time at which its host will tell us
    overdue: bool = False  # it is asked to stop because its limit of CPU time is reached
    of_children: Used = field(default_factory=Used)  # the same of its children that have ended, and of theirs
    dead: dict[int, Used] = field(default_factory=dict)  # by PID: the same of children that it has not waited for yet


@dataclass(slots=True)
class Reports:
    """`tree.mosd`, `tree.tracing`, `tree.usage` and `asks.policy`: what is told of a program, to mosd and to its user."""

    announced: ProcState | None = None  # what mosd was told last
    account: Account = field(default_factory=lambda: Account(time.monotonic()))
    trace: CallTrace | None = None  # where its calls are told (mosrun --trace)
    call: tuple[int, str] | None = None  # with a trace: number and text of the call that it is in
    advised: frozenset[str] = frozenset()  # what -w has told it to do (`calls.policy.advice`)


@dataclass(slots=True)
class Filters:
    """`asks.filters` and `asks.private`: seccomp filters of ours in this thread, beside the first."""

    private: int = 0  # number of filters for private files
    strict: bool = False  # the program believes that it is in strict mode (seccomp(2)), and we see to it
    threadless: bool = False  # a clone(2) that would make a thread stops (mosrun --no-threads)


@dataclass(slots=True)
class Death:
    """`away.cores` and `tree.containment`: a program that is about to die."""

    signal: bytes | None = None  # its siginfo: it comes home to die of that
    coreless: bool = False  # it could not come home, and dies without a core file
    told: bool = False  # serving it failed, and it has been told so
