"""What a node knows: its programs, its guests, the other nodes, itself. The tree reads it, the daemon writes it."""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import trio
from msgspec.structs import replace

from mosfs.abi.levels import NATIVE
from mosfs.abi.outcomes import OK
from mosfs.cluster.address import as_unsigned, to_ip
from mosfs.cluster.mosrun_conf import Rules
from mosfs.node.counts import Counts
from mosfs.node.ended import Ended, Memory
from mosfs.node.letters import Letters
from mosfs.node.multi import Multi
from mosfs.node.nodes import Node, NodeMap, NotInMap
from mosfs.node.pending import Asked, Pending
from mosfs.node.programs import Guest, Order, PrivateNames, Program
from mosfs.wire.limits import PRIVATE_FILES, Shares
from mosfs.wire.messages import Command, Total

#: With less than this share of its memory free a node lets programs go without copying them ahead, while they would grow.
SHORT_OF_MEMORY = 0.2
#: From a look at the memory to the moment when a program that is sent away because of it has gone, seconds.
AHEAD = 3.0
#: Lines of the decision log that are kept.
DECISIONS = 200


@dataclass(slots=True)
class Switches:
    """Those of mosctl(1). ``ending``: MOSIX is being shut down here; whoever sets it calls ``on_ending``."""

    blocked: bool = False
    stay: bool = False
    lstay: bool = False
    ending: bool = False
    on_ending: Callable[[], None] = lambda: None


@dataclass(slots=True)
class Reload:
    """Number and result (`abi.outcomes`) of the last reading of the configuration; ``begin`` gets the path of another
    mosix.map, or ""; ``mosix_map``: the one that holds, in the same way."""

    number: int = 0
    result: str = OK
    mosix_map: str = ""
    begin: Callable[[str], None] = lambda path: None


@dataclass(frozen=True, slots=True)
class Mosrun:
    """How the administrator has programs started. ``level``: of processors, when mosrun does not say (`abi.levels`)."""

    level: str = NATIVE
    rules: Rules = field(default_factory=Rules)


@dataclass(slots=True)
class Expected:
    """For `choice`: when programs were ``reserved`` a place at which node, as how many they count; ``recent``: the
    nodes of which we know newest."""

    reserved: list[tuple[float, str, float]] = field(default_factory=list)
    recent: Callable[[], Iterable[str]] = tuple


@dataclass(slots=True)
class World:
    """The daemon writes it, the tree and all decisions read it. ``clock`` returns monotonic seconds."""

    ip: str
    map: NodeMap
    clock: Callable[[], float]
    version: str
    speed: int
    port: int
    pid: int
    mosrun: Mosrun = field(default_factory=Mosrun)
    programs: dict[int, Program] = field(default_factory=dict)
    guests: dict[int, Guest] = field(default_factory=dict)
    nodes: dict[str, Node] = field(default_factory=dict)
    switches: Switches = field(default_factory=Switches)
    #: does one of our tracers trace this process? It may not have told of it yet
    traced: Callable[[int], bool] = lambda pid: False
    introduced: trio.Event = field(default_factory=trio.Event)  #: the next new program
    reload: Reload = field(default_factory=Reload)
    #: load now, not smoothed for others as in the status; None: not known
    local_load: int | None = None
    coming: Expected = field(default_factory=Expected)
    letters: Letters | None = None
    decisions: deque[str] = field(default_factory=lambda: deque(maxlen=DECISIONS))
    counts: Counts = field(default_factory=Counts)
    pending: Pending = field(default_factory=Pending)
    private: dict[int, PrivateNames] = field(default_factory=dict)
    shown_files: Shares = field(default_factory=lambda: Shares(PRIVATE_FILES))
    ended: Memory = field(default_factory=Memory)
    multi: Multi = field(default_factory=Multi)

    @property
    def me(self) -> Node:
        return self.nodes.setdefault(self.ip, Node(self.ip))

    def introduce(self, pid: int, program: Program) -> None:
        """A program of which a tracer has told for the first time."""
        self.programs[pid] = program
        self.introduced.set()
        self.introduced = trio.Event()

    def gone(self, pid: int, total: Total | None) -> None:
        """A program has ended; ``total`` as in `ProcGone`."""
        program = self.programs.pop(pid, None)
        if program is not None and total is not None:
            state = program.state
            self.ended.add(Ended(pid, state.uid, state.comm, total, self.clock(), state.where, state.nmigs))

    def owner(self, pid: int) -> int | None:
        """The user of a program or guest that is here."""
        subject = self.programs.get(pid) or self.guests.get(pid)
        return None if subject is None else subject.state.uid

    def private_gone(self, pid: int) -> None:
        """The private files of ``pid`` are not here any more."""
        if (names := self.private.pop(pid, None)) is not None:
            names.clear()

    def shown(self, ip: str) -> str:
        """A node as people see it: its number if it has one, else its IP."""
        number = self.map.number_of(ip)
        return ip if number is None else str(number)

    def shown_or_home(self, ip: str) -> str:
        """As `shown`, but "home" for "" and for this node."""
        return "home" if ip in ("", self.ip) else self.shown(ip)

    def whereami(self, ip: str) -> int:
        """mosix(7): 0 at home, the logical node number if possible, else the unsigned IP address."""
        if not ip:
            return 0
        number = self.map.number_of(ip)
        return as_unsigned(ip) if number is None else number

    def node_of(self, value: int) -> str:
        """The IP that ``value`` (a node number or an unsigned IP) names, "" for home; `NotInMap` for others."""
        if value == 0:
            return ""
        ip = self.map.ip_of(value) if value <= 65535 else to_ip(value)
        return self.target(ip or "?")

    def in_cluster(self, value: int) -> bool:
        """Is the node with this number or unsigned IP one of our cluster?"""
        ip = self.map.ip_of(value) if value <= 65535 else to_ip(value)
        return ip is not None and self.map.contains(ip)

    def target(self, ip: str) -> str:
        """``ip`` as the target of a move: "" for this node itself; `NotInMap` when it is in no cluster that we know."""
        if ip == self.ip:
            return ""
        if not self.map.relation(ip).known:
            raise NotInMap(ip)
        ip = self.map.canonical(ip)
        return "" if ip == self.ip else ip

    def may_go(self, uid: int, ip: str) -> bool:
        """May programs of this user go to that other node?"""
        relation = self.map.relation(ip)
        return relation.cango and (relation.own or not self.mosrun.rules.confines(uid))

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
        self._order(program, Order.MOVE, Command(program.state.pid, "migrate", ip, 0, below, why, self._short_of_memory()))
        program.target = ip

    def checkpoint(self, program: Program, then: str) -> None:
        """Order a checkpoint; ``then``: "checkpoint", "chkstop" or "chkexit" (mosmigrate(1))."""
        self._order(program, Order.SAVE, Command(program.state.pid, "checkpoint", then))

    def freeze(self, program: Program, mark: str) -> None:
        """Order it to be frozen; ``mark`` as in ProcState, "" to have it go on."""
        self._order(program, Order.FREEZE, Command(program.state.pid, "frozen", mark))

    def _order(self, program: Program, order: Order, command: Command) -> None:
        """Send an order with the next number of its kind. ConnectionError."""
        number = program.outcome(order)[0] + 1
        self._send(program, replace(command, seq=number))
        program.ordered[order] = number

    def set(self, program: Program, name: str, value: int | str) -> Asked:
        """Tell the tracer what the control file ``name`` is set to. It holds when what is returned has its answer."""
        asked = self.pending.begin(program.state.pid)
        try:
            self._send(program, Command(program.state.pid, name, str(value), asked.number))
        except ConnectionError:
            self.pending.lost(asked.pid, errno.EAGAIN)
            raise
        return asked

    @staticmethod
    def _send(program: Program, command: Command) -> None:
        if program.send is None:
            raise ConnectionError("the tracer is not connected")
        program.send(command)
