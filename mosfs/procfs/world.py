"""What a node knows: its programs, its guests, the other nodes, itself. The tree reads it, the daemon writes it."""

from __future__ import annotations

import errno
import random
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from typing import Protocol

import trio
from msgspec.structs import replace

from mosfs.abi.cpu import SILENT
from mosfs.abi.levels import NATIVE
from mosfs.balance.best import Candidate, best_node
from mosfs.balance.history import History
from mosfs.procfs.letters import Letters
from mosfs.procfs.pending import Asked, Pending
from mosfs.procfs.table import BY_NAME, ControlFile, Kind, from_unsigned
from mosfs.wire.limits import PRIVATE_FILES, Shares
from mosfs.wire.messages import Command, GuestState, MailHeld, PeerHello, PeerStatus, ProcState, Usage

#: Seconds without a sign of life after which a node counts as dead.
DEAD_AFTER = 5.0
#: When more nodes are known, only the recent ones are considered for a program.
ALL_CANDIDATES = 64
#: A recent assignment is counted as load for this long, so that a burst does not pile up on one node.
RESERVED_FOR = 3.0

#: Priorities are 0-65535, lower is better.
LOWEST_PRIORITY = 65535
#: With less than this share of its memory free a node lets programs go without copying them ahead, while they would grow.
SHORT_OF_MEMORY = 0.2
#: Seconds without a report, which programs give each second while they change, after which one does not grow any more.
GROWTH_LASTS = 2.5
#: From a look at the memory to the moment when a program that is sent away because of it has gone, seconds.
AHEAD = 3.0
#: Lines of the decision log that are kept.
DECISIONS = 200
#: The last deaths of a program's tracers that are known.
MOST_DEATHS = 8

Send = Callable[[Command | MailHeld], object]


class Bit(IntFlag):
    """Bits of a node's status, with the manual's values (mosctl(1), rstatus)."""

    OURS = 1
    KNOWN = 2
    STAY = 4
    LSTAY = 8
    BLOCK = 16
    WELCOME = 32
    FRESH = 512
    PREFERS_US = 1024


class Availability(IntEnum):
    """Extremes of whom a node is available to (mosctl(1), rstatus)."""

    OWN_CLUSTER = 0
    ALL = 65535


def away(state: ProcState) -> bool:
    """Is the program's memory on another node, or on its way there?"""
    return bool(state.where) or state.state in ("leaving", "away", "returning")


class NodeMap(Protocol):
    """The part of `cluster.ClusterMap` that is needed here."""

    def contains(self, ip: str) -> bool: ...
    def near(self, ip: str) -> bool: ...
    def canonical(self, ip: str) -> str: ...
    def nodes(self) -> Iterable[str]: ...
    def number_of(self, ip: str) -> int | None: ...
    def ip_of(self, number: int) -> str | None: ...
    def numbers(self) -> Iterable[tuple[str, int]]: ...


class NotInMap(LookupError):
    """The manual's "not in map"."""


@dataclass(slots=True)
class Balanced:
    """What deciding about a program or guest needs and leaves. ``usage``: None before the first report; the last one came at
    ``reported``. ``grown``: megabytes a second that its memory has grown by at the last two.

    ``verdict``: why it stays, or why it was sent away; ``refused``: nodes that did not take it, and until when they are not
    asked again; ``held``: until when it is left alone; ``sent``: an automatic move to this IP is under way, since
    ``sent_at``; ``considered``: it has asked to be considered.
    """

    usage: Usage | None = None
    reported: float = 0.0
    grown: tuple[float, float] = (0.0, 0.0)
    verdict: str = ""
    refused: dict[str, float] = field(default_factory=dict)
    held: float = float("-inf")
    sent: str | None = None
    sent_at: float = 0.0
    considered: bool = False

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


@dataclass(slots=True, eq=False)
class Program:
    """A home program. ``send`` is None while its tracer is not connected. ``asked``: number of the last move wanted."""

    state: ProcState
    send: Send | None
    asked: int = 0
    asked_target: str = ""
    balanced: Balanced = field(default_factory=Balanced)
    deaths: deque[float] = field(default_factory=lambda: deque(maxlen=MOST_DEATHS))  # when its last tracers died

    @property
    def moving(self) -> bool:
        """A move was asked for and its outcome is not known yet."""
        return self.asked > self.state.move_seq or not self.state.move_result

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


@dataclass(slots=True, eq=False)
class Node:
    """What is known of a node. ``heard``: when its status was true (our monotonic clock, in seconds); ``links``: how many
    links to it are open; ``dead``: it did not answer; ``max_age``: seconds after which it counts as dead anyway; ``flags``: of its
    processor (`abi.cpu`), none for unknown."""

    ip: str
    hello: PeerHello | None = None
    status: PeerStatus | None = None
    heard: float = float("-inf")
    links: int = 0
    version: str = ""
    dead: bool = False
    max_age: float = DEAD_AFTER
    flags: frozenset[str] = frozenset()

    def alive(self, now: float) -> bool:
        return not self.dead and self.status is not None and now - self.heard < self.max_age


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


@dataclass(slots=True)
class World:
    """Everything the tree shows. ``clock`` returns monotonic seconds.

    ``stay``, ``lstay``, ``blocked``: the switches of mosctl(1). ``ending``: MOSIX is being shut down here; whoever writes
    it calls ``on_ending``. ``reloads``, ``reloaded``: number and result of the last reading of the configuration ("..." while
    it goes on); ``on_reload`` gets the path of another mosix.map, or "".
    """

    ip: str
    map: NodeMap
    clock: Callable[[], float]
    version: str
    speed: int
    port: int
    pid: int
    level: str = NATIVE  #: of processors that programs are started for when mosrun does not say (`abi.levels`)
    programs: dict[int, Program] = field(default_factory=dict)
    guests: dict[int, Guest] = field(default_factory=dict)
    nodes: dict[str, Node] = field(default_factory=dict)
    blocked: bool = False
    stay: bool = False
    lstay: bool = False
    ending: bool = False
    on_ending: Callable[[], None] = lambda: None
    #: does one of our tracers trace this process? It may not have told of it yet
    traced: Callable[[int], bool] = lambda pid: False
    introduced: trio.Event = field(default_factory=trio.Event)  #: the next new program
    reloads: int = 0
    reloaded: str = "ok"
    on_reload: Callable[[str], None] = lambda path: None
    #: load now, not smoothed for others as in the status; None: not known
    local_load: int | None = None
    reserved: list[tuple[float, str]] = field(default_factory=list)
    letters: Letters | None = None
    decisions: deque[str] = field(default_factory=lambda: deque(maxlen=DECISIONS))
    gossip: Mapping[str, int] = field(default_factory=dict)  #: counters of the exchange with other nodes
    recent: Callable[[], Iterable[str]] = tuple  #: the nodes of which we know newest
    pending: Pending = field(default_factory=Pending)
    private: dict[int, PrivateNames] = field(default_factory=dict)
    shown_files: Shares = field(default_factory=lambda: Shares(PRIVATE_FILES))

    @property
    def me(self) -> Node:
        return self.nodes.setdefault(self.ip, Node(self.ip))

    def introduce(self, pid: int, program: Program) -> None:
        """A program of which a tracer has told for the first time."""
        self.programs[pid] = program
        self.introduced.set()
        self.introduced = trio.Event()

    def owner(self, pid: int) -> int | None:
        """The user of a program or guest that is here."""
        subject = self.programs.get(pid) or self.guests.get(pid)
        return None if subject is None else subject.state.uid

    def private_gone(self, pid: int) -> None:
        """The private files of ``pid`` are not here any more."""
        if (names := self.private.pop(pid, None)) is not None:
            names.clear()

    def counted(self, status: PeerStatus) -> PeerStatus:
        """``status`` with what this world knows better than any probe: the switches, and how many programs are here."""
        here = sum(not away(program.state) for program in self.programs.values())
        bits = Bit.STAY * self.stay | Bit.LSTAY * self.lstay | Bit.BLOCK * self.blocked
        processes = here + len(self.guests)
        return replace(
            status, guests=len(self.guests), blocked=self.blocked, bits=int(bits), processes=processes,
            frozen=sum(program.state.frozen != "-" for program in self.programs.values()),
            level=0 if processes else Availability.ALL,
        )

    def shown(self, ip: str) -> str:
        """A node as people see it: its number if it has one, else its IP."""
        number = self.map.number_of(ip)
        return ip if number is None else str(number)

    def whereami(self, ip: str) -> int:
        """mosix(7): 0 at home, the logical node number if possible, else the unsigned IP address."""
        if not ip:
            return 0
        number = self.map.number_of(ip)
        return int.from_bytes(bytes(map(int, ip.split("."))), "big") if number is None else number

    def node_of(self, value: int) -> str:
        """The IP that ``value`` (a node number or an unsigned IP) names, "" for home; `NotInMap` for others."""
        if value == 0:
            return ""
        ip = self.map.ip_of(value) if value <= 65535 else from_unsigned(value)
        return self.target(ip or "?")

    def in_cluster(self, value: int) -> bool:
        """Is the node with this number or unsigned IP one of our cluster?"""
        ip = self.map.ip_of(value) if value <= 65535 else from_unsigned(value)
        return ip is not None and self.map.contains(ip)

    def priority(self) -> int:
        """Of the MOSIX processes that run here: 0 for our own cluster's, 65535 if there are none (mosix(7), CONFIGURATION)."""
        here = self.guests or any(not program.state.where for program in self.programs.values())
        return 0 if here else LOWEST_PRIORITY

    def target(self, ip: str) -> str:
        """``ip`` as the target of a move: "" for this node itself; `NotInMap` when it is not one of ours."""
        if ip == self.ip:
            return ""
        if not self.map.contains(ip):
            raise NotInMap(ip)
        ip = self.map.canonical(ip)
        return "" if ip == self.ip else ip

    def best(self, need_mb: int) -> str:
        """The least loaded node that fits, counted as busier for a while; "" for this node, also when none fits."""
        chosen = self.choose(need_mb, reserve=True)
        return "" if chosen in (None, self.ip) else chosen

    def choose(self, need_mb: int, *, reserve: bool) -> str | None:
        """The IP of the least loaded node that fits, None when none does; ``reserve`` counts it as busier for a while.

        Only nodes that a program which begins here can go to (`abi.cpu.SILENT`)."""
        silent = self.me.flags & SILENT
        candidates = [node for node in self.candidates() if node.ip == self.ip or (node.open and node.offers(silent))]
        chosen = best_node(candidates, need_mb, random.choice)
        if chosen is not None and reserve:
            self.reserve(chosen)
        return chosen

    def most_free(self) -> int:
        """Megabytes that are free on the node where most are, of those that take a program."""
        return max((node.mem_free for node in self.candidates() if node.open or node.ip == self.ip), default=0)

    def candidates(self, within: float = float("inf")) -> list[Candidate]:
        """This node and all others that are known to live, with what is on its way there or came lately; ``within``: no news
        older than so many seconds.

        In a big cluster only those that we know best: a fresh sample is worth more than all with old facts, and costs the same
        whatever the size (docs/design/information.md).
        """
        now = self.clock()
        nodes: Iterable[Node] = self.nodes.values()
        if len(self.nodes) > ALL_CANDIDATES and (recent := {self.ip, *self.recent()}) != {self.ip}:
            nodes = [self.nodes[ip] for ip in recent if ip in self.nodes]
        self.reserved = [(when, ip) for when, ip in self.reserved if now - when < RESERVED_FOR]
        arriving = Counter(ip for _, ip in self.reserved)
        subjects: list[Program | Guest] = [*self.programs.values(), *self.guests.values()]
        arriving.update(subject.balanced.sent for subject in subjects if subject.balanced.sent)
        return [
            Candidate(
                ip=node.ip, load=status.load, speed=status.speed, ncpus=status.ncpus, mem_free=status.mem_free,
                arriving=arriving[node.ip], mem_total=status.mem_total,
                open=not status.blocked, flags=node.flags,
            )
            for node in nodes
            if (status := node.status)
            and (node.ip == self.ip or (now - node.heard <= within and self._usable(node, now)))
        ]

    def common_flags(self) -> frozenset[str]:
        """What all processors have that we know of, this one and those of nodes that live."""
        now = self.clock()
        known = {node.flags for node in self.nodes.values() if node.flags and node.ip != self.ip and self._usable(node, now)}
        return self.me.flags.intersection(*known)

    def reserve(self, ip: str) -> None:
        """A program has just come to ``ip``, or will start there."""
        self.reserved.append((self.clock(), ip))

    def _usable(self, node: Node, now: float) -> bool:
        return node.alive(now) and self.map.contains(node.ip)

    def move(self, program: Program, value: int) -> None:
        """Ask for a move; ``value`` as in `table`. `NotInMap` or `ConnectionError` (its tracer is not connected)."""
        if value == -1:
            program.balanced.considered = True
        else:
            self.move_to(program, self.node_of(value))

    def filling(self) -> int:
        """Megabytes that what runs here will have taken `AHEAD`, if it goes on to grow."""
        now = self.clock()
        growth = [program.balanced.growth(now) for program in self.programs.values() if not program.state.where]
        growth += [guest.balanced.growth(now) for guest in self.guests.values()]
        return round(sum(growth) * AHEAD)

    def _short_of_memory(self) -> bool:
        status = self.me.status
        return status is not None and status.mem_free - self.filling() < SHORT_OF_MEMORY * status.mem_total

    def move_to(self, program: Program, ip: str, below: int = 0, why: str = "") -> None:
        """``below`` and ``why`` of an automatic move: as in `Command`."""
        seq = max(program.asked, program.state.move_seq) + 1
        self._send(program, Command(program.state.pid, "migrate", ip, seq, below, why, self._short_of_memory()))
        program.asked, program.asked_target = seq, ip

    def set(self, program: Program, row: ControlFile, value: int | str) -> Asked:
        """Tell the tracer what a control file is set to. It holds, and is shown, when what is returned has its answer."""
        asked = self.pending.begin(program.state.pid)
        try:
            self._send(program, Command(program.state.pid, row.name, str(value), asked.number))
        except ConnectionError:
            self.pending.lost(asked.pid, errno.EAGAIN)
            raise
        return asked

    @staticmethod
    def _send(program: Program, command: Command) -> None:
        if program.send is None:
            raise ConnectionError("the tracer is not connected")
        program.send(command)


def settings_shown(state: ProcState) -> Mapping[str, int]:
    """Current value of every setting that is a number, defaults in the place of "not given"; keys are names of control files."""
    return {
        row.name: row.default if (value := getattr(state.settings, row.setting)) < 0 else value
        for row in BY_NAME.values()
        if row.setting and row.kind is Kind.NUMBER
    }
