"""A body: what a host knows of a guest. Its process is made by `sandbox` and filled by `building`.

Each record is the affair of the file that it names, which alone decides about it; the others may look.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from mosfs.balance.account import Account
from mosfs.balance.toll import Toll
from mosfs.calls import cputime
from mosfs.calls.cputime import Used
from mosfs.calls.cputimers import Alarm
from mosfs.calls.deadlines import Deadline
from mosfs.calls.partial import Carry
from mosfs.guest.sending import Sending
from mosfs.migrate.changes import Digests
from mosfs.migrate.filecopy import Copies
from mosfs.migrate.image import ImageMeta, Thread, Vma
from mosfs.migrate.properties import Said
from mosfs.native.registers import Registers
from mosfs.ptf.store import Description, Store
from mosfs.ptf.travel import Opening, Sender
from mosfs.trace.task import ALL_SIGNALS, Task, no_regs
from mosfs.wire.asked import Settings
from mosfs.wire.orders import MoveOrder


class State(Enum):
    BUILDING = auto()  # the image arrives
    COMPLETE = auto()  # READY was said, GO is awaited
    RUNNING = auto()
    WAITING = auto()  # inside a call that was forwarded
    MAIL = auto()  # inside a call that this node's post office will answer
    POST = auto()  # inside such a call, waiting for MailWake
    TIMED = auto()  # waiting for others of its threads, in its stub, with a limit (`timed`)
    FORKING = auto()  # FORK was sent, or its own clone is under way
    EXECING = auto()  # EXEC was sent
    LEAVING = auto()  # its image was sent, DROP or RESUME is awaited


@dataclass(slots=True)
class Call:
    """The call that the body is in, or was in last: `serve` begins it, `forwarding` and `completion` end it.

    ``regs`` stand behind it. ``seq``: its number, by which home answers.
    """

    nr: int = -1
    regs: Registers = field(default_factory=no_regs)
    seq: int = 0
    then: Callable[[int], int | None] | None = None  # makes of home's result what the program hears; None: it has asked for more
    both: bool = False  # when home has made it, the body makes it
    carry: Carry | None = None  # it is in the middle of a transfer that was cut short
    until: int = 0  # the wait in which it came here ends then, CLOCK_MONOTONIC of home, ns; 0: its call says when
    mapping: Any = None  # the file that it maps (`mapping.MapRequest`)


@dataclass(slots=True)
class Stopping:
    """Why a running body shall stop, and whether it has: `stops`, `onward`."""

    halted: bool = False  # the program is in a group stop at home
    paused: bool = False  # it has reached its stop
    stood: bool = False  # it stands because its process is to leave (`threads`)
    interrupting: bool = False  # we have asked the kernel to stop it
    wanted: Any = None  # RECALL or MOVE_TO that waits for its stop
    arming: MoveOrder | None = None  # COPY that waits for its stop


@dataclass(slots=True)
class Signalled:
    """Signals from home, and what home knows of its mask: `signals`, `faults`, `masks`."""

    infos: list[bytes] = field(default_factory=list)  # struct siginfo of those that are not queued in the body yet
    blocked: bool = False  # some that the body blocks may be queued in it (`Serve._signals_first`)
    returning: bool = False  # one is on its way back; behind it the call is made anew
    seen: int = 0  # SIGNAL frames received
    restart: tuple[int, int] | None = None  # number and result of a broken call, which the kernel judges behind the handler
    saved_mask: int | None = None  # what holds behind a handler that broke a call with a temporary mask
    oneshot: set[int] = field(default_factory=set)  # signals whose handler is reset when it is called
    told_mask: int = ALL_SIGNALS  # what home believes to be blocked
    actions: dict[int, bytes] | None = None  # by signal: actions that home knows of; None: home makes each sigaction(2)
    unheard: int = 0  # ACTION frames sent since home has answered anything


@dataclass(slots=True)
class Fork:
    """The child that it is making, and what it is to do itself as a child: `processes`."""

    child: int = 0
    owed: bool = False  # the child's deputy exists, its body does not yet
    regs: Registers = field(default_factory=no_regs)  # registers of the clone(2) that the body was let make
    pidfd: int = -1  # home's descriptor of the child, for CLONE_PIDFD
    mask: int = 0  # to put back when the clone has returned
    alarm: Alarm = field(default_factory=Alarm)  # the child's CPU time at which home wants to be told
    step: int | None = None  # of a child before its first stop: where its PID is to be written, 0 for nowhere
    shares: bool = False  # a vfork child: its memory is its parent's


@dataclass(slots=True)
class Times:
    """Clocks and CPU time: `clocks`, `usage`, `alarms`."""

    deadline: Deadline | None = None  # of the call that it is in, where clocks are an estimate
    used_before: Used = field(default_factory=Used)  # CPU time of the program on other nodes
    used_to_build: Used = field(default_factory=Used)  # what this body had used before it was the program
    used_last: Used = field(default_factory=Used)  # CPU time of the body when it was last looked at
    told_used: Used = field(default_factory=Used)  # CPU time that home was told last
    own_before: Used | None = None  # of ``used_before`` that of this thread alone; None: all, and home does not ask
    own_to_build: Used = field(default_factory=Used)  # as ``used_to_build``
    own_last: Used = field(default_factory=Used)  # as ``used_last``
    deputy_cpu: int = -1  # ns that its deputy has used and used away, while it makes no other call; -1: not known
    alarm: Alarm | None = None  # CPU time at which home wants to be told
    alarm_due: float = 0.0  # when that can be reached at the earliest
    unsaid: float = 0.0  # CPU seconds that home has not been told of
    said_user: float = 0.0  # CPU seconds of user level that home has been told of


@dataclass(slots=True)
class ClockPage:
    """`clocks`: the contents of one, b"" before there is any; whoever shares memory shares it."""

    page: bytes = b""


@dataclass(slots=True)
class Memory:
    """What is known of its memory: `mapping`, `building`, `title`, `clocks`."""

    clock: ClockPage = field(default_factory=ClockPage)
    names: list[Vma] = field(default_factory=list)  # mappings of files, by the names that they have at home
    copies: Copies = field(default_factory=Copies)  # copies of the files that it maps
    said: Said = field(default_factory=Said)  # properties that the program gave its memory, here or before it came
    title_at: tuple[int, int] = (0, 0)  # where its arguments begin and its environment ends
    title: int = 0  # checksum of what is there, as home was told last


@dataclass(slots=True)
class Processor:
    """What it needs of a processor: `building`, `faults`."""

    features: str = ""  # all that the program has seen of processors (`abi.cpu`)
    needs: list[str] = field(default_factory=list)  # flags that it is known to use
    waiting_state: dict[int, bytes] = field(default_factory=dict)  # state of components that are not here (`abi.xstate.waits`)
    escapes: int = 0  # how often home was asked to take it away from an instruction that is illegal here
    faulted: bool = False  # it stands before such an instruction


#: Descriptors of private files that C may serve at a time.
MOST_RECENT = 4


@dataclass(slots=True)
class PrivateFiles:
    """`private`, `private_calls`, `private_windows`."""

    store: Store | None = None
    recent: dict[int, Description] = field(default_factory=dict)  # by descriptor, what it has used lately, the last one last
    opening: Opening | None = None  # the file that it is opening
    sender: Sender | None = None  # while it is about to leave

    def note_use(self, fd: int, description: Description) -> None:
        self.recent.pop(fd, None)
        self.recent[fd] = description
        if len(self.recent) > MOST_RECENT:
            del self.recent[next(iter(self.recent))]


@dataclass(slots=True)
class Leaving:
    """`onward`."""

    copy: Sending | None = None  # its memory goes ahead of it
    was_waiting: bool = False  # its image was made in a forwarded call
    objects: list[int] = field(default_factory=list)  # the shared memory whose contents shall go home with it
    kept: int = 0  # flags of the last RECALL
    last: Digests | None = None  # what the last image was that home has asked to be remembered


@dataclass(slots=True)
class Paid:
    """What being away has cost it: `tolls`."""

    parent: int = 0  # the program here that made it, by its PID at home
    before: Toll = field(default_factory=Toll)  # paid before an exec, and by its children that have ended
    told: Toll = field(default_factory=Toll)  # paid, as mosd was told last
    counted: int = 0  # calls that have been weighed (`balance.toll.weight`)
    weighed: float = 0.0  # how many usual calls those are worth
    cpu: int = 0  # ns of CPU time that it had used when they were weighed
    pace: float = 0.005  # seconds between the last two reports
    due: float = 0.0  # when the next may be made


@dataclass(slots=True)
class OfThread:
    """One of several threads: `threads`, `timed`, `processes`."""

    several: bool = False  # its process may have more than one
    came: Thread | None = None  # as `Body.meta`, of a thread that is not the first
    slot: int = 0  # which place its process has for what it alone needs
    exiting: int | None = None  # the status with which this thread alone ends
    births: bool = False  # its process may make others here
    shares: bool = False  # it shares memory with others, or may


@dataclass(slots=True)
class Body:
    """``pair`` is the PID of the program at home, or the ID of its thread. ``meta``: of its image, until it runs.

    ``leader``: the first thread of the process that this is another of; ``threads``: those, of the first; ``own.several``: it may
    have some (`threads`)."""

    pair: int
    task: Task
    state: State = State.BUILDING
    meta: ImageMeta | None = None
    comm: str = ""
    since: float = 0.0
    call: Call = field(default_factory=Call)
    stopping: Stopping = field(default_factory=Stopping)
    signals: Signalled = field(default_factory=Signalled)
    fork: Fork = field(default_factory=Fork)
    times: Times = field(default_factory=Times)
    memory: Memory = field(default_factory=Memory)
    processor: Processor = field(default_factory=Processor)
    private: PrivateFiles = field(default_factory=PrivateFiles)
    leaving: Leaving = field(default_factory=Leaving)
    outlives: bool = False  # `building`: what it does must be repeatable
    leader: Body | None = None
    threads: dict[int, Body] = field(default_factory=dict)
    own: OfThread = field(default_factory=OfThread)
    mail: Any = None  # its part in direct communication (`mail.Mail`)
    settings: Settings | None = None  # as far as they concern this node, once home has told
    account: Account = field(default_factory=lambda: Account(time.monotonic()))
    paid: Paid = field(default_factory=Paid)
    announced: bool = False  # mosd knows of it
    group_nice: int | None = None  # its session is yet to have this nice value (`trace.autogroup`)

    @property
    def pid(self) -> int:
        return self.task.pid

    @property
    def process(self) -> int:
        """The PID of the program at home, whichever thread this is."""
        return self.pair if self.leader is None else self.leader.pair

    def used(self) -> Used:
        """CPU time of the program away from home, in all."""
        if self.leader is not None:
            return self.leader.used()
        times = self.times
        used = times.used_before.plus(cputime.of_process(self.pid).minus(times.used_to_build))
        times.used_last = used.after(times.used_last)
        return times.used_last

    def own_used(self, *, parts: bool = False) -> Used | None:
        """The same of this thread alone; None if nobody tells it from that of the program. ``parts``: as for `of_thread`."""
        times = self.times
        if times.own_before is None:
            return None
        used = times.own_before.plus(cputime.of_thread(self.pid, parts=parts).minus(times.own_to_build))
        times.own_last = used.after(times.own_last)
        return times.own_last
