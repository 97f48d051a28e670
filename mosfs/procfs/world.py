"""What a node knows: its programs, its guests, the other nodes, itself. The tree reads it, the daemon writes it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from msgspec.structs import replace

from mosfs.balance.best import Candidate, best_node
from mosfs.procfs.table import BY_NAME, from_unsigned
from mosfs.wire.messages import Command, GuestState, PeerHello, PeerStatus, ProcState

#: Seconds without a sign of life after which a node counts as dead.
DEAD_AFTER = 5.0
#: A recent assignment is counted as load for this long, so that a burst does not pile up on one node.
RESERVED_FOR = 3.0

Send = Callable[[Command], None]


class NodeMap(Protocol):
    """The part of `cluster.ClusterMap` that is needed here."""

    def contains(self, ip: str) -> bool: ...
    def near(self, ip: str) -> bool: ...
    def canonical(self, ip: str) -> str: ...
    def nodes(self) -> Iterable[str]: ...
    def number_of(self, ip: str) -> int | None: ...
    def ip_of(self, number: int) -> str | None: ...


class NotInMap(LookupError):
    """The manual's "not in map"."""


@dataclass(slots=True, eq=False)
class Program:
    """A home program. ``send`` is None while its tracer is not connected. ``asked``: number of the last move wanted."""

    state: ProcState
    send: Send | None
    asked: int = 0
    asked_target: str = ""

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


@dataclass(slots=True, eq=False)
class Node:
    """What is known of a node. ``heard``: when its status came (our monotonic clock, in seconds); ``links``: how many
    links to it are open."""

    ip: str
    hello: PeerHello | None = None
    status: PeerStatus | None = None
    heard: float = float("-inf")
    links: int = 0

    def alive(self, now: float) -> bool:
        return self.links > 0 and self.status is not None and now - self.heard < DEAD_AFTER


@dataclass(slots=True)
class PrivateNames:
    """Private files of a program or guest that are on this node: path to a descriptor of its tracer or host, ``keeper``."""

    keeper: int
    files: dict[bytes, int] = field(default_factory=dict)

    def set(self, name: bytes, fd: int) -> None:
        """``fd`` -1: there is no such file any more."""
        if fd < 0:
            self.files.pop(name, None)
        else:
            self.files[name] = fd


@dataclass(slots=True)
class World:
    """Everything the tree shows. ``clock`` returns monotonic seconds."""

    ip: str
    map: NodeMap
    clock: Callable[[], float]
    version: str
    speed: int
    port: int
    pid: int
    programs: dict[int, Program] = field(default_factory=dict)
    guests: dict[int, Guest] = field(default_factory=dict)
    nodes: dict[str, Node] = field(default_factory=dict)
    blocked: bool = False
    reserved: list[tuple[float, str]] = field(default_factory=list)
    private: dict[int, PrivateNames] = field(default_factory=dict)

    @property
    def me(self) -> Node:
        return self.nodes.setdefault(self.ip, Node(self.ip))

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
        now = self.clock()
        self.reserved = [(when, ip) for when, ip in self.reserved if now - when < RESERVED_FOR]
        candidates = [
            Candidate(
                ip=node.ip, load=status.load, speed=status.speed, ncpus=status.ncpus, mem_free=status.mem_free,
                arriving=sum(ip == node.ip for _, ip in self.reserved),
            )
            for node in self.nodes.values()
            if (status := node.status) and (node.ip == self.ip or self._usable(node, now))
        ]
        chosen = best_node(candidates, need_mb, random.choice)
        if chosen is None:
            return ""
        self.reserved.append((now, chosen))
        return "" if chosen == self.ip else chosen

    def _usable(self, node: Node, now: float) -> bool:
        return node.alive(now) and node.status is not None and not node.status.blocked and self.map.contains(node.ip)

    def move(self, program: Program, value: int) -> None:
        """Ask for a move; ``value`` as in `table`. `NotInMap` or `ConnectionError` (its tracer is not connected)."""
        need = max(program.state.settings.needmem, 0)
        self.move_to(program, self.best(need) if value == -1 else self.node_of(value))

    def move_to(self, program: Program, ip: str) -> None:
        seq = max(program.asked, program.state.move_seq) + 1
        self._send(program, Command(program.state.pid, "migrate", ip, seq))
        program.asked, program.asked_target = seq, ip

    def set(self, program: Program, name: str, value: int) -> None:
        """Write the control file ``name`` and show the new value at once; the tracer's next state has the last word."""
        self._send(program, Command(program.state.pid, name, str(value)))
        if setting := BY_NAME[name].setting:
            program.state = replace(program.state, settings=replace(program.state.settings, **{setting: value}))
        elif name == "sigmig":
            program.state = replace(program.state, sigmig=value)

    @staticmethod
    def _send(program: Program, command: Command) -> None:
        if program.send is None:
            raise ConnectionError("the tracer is not connected")
        program.send(command)


def settings_shown(state: ProcState) -> Mapping[str, int]:
    """Current value of every setting, defaults in the place of "not given"; keys are names of control files."""
    values = {
        row.name: row.default if (value := getattr(state.settings, row.setting)) < 0 else value
        for row in BY_NAME.values()
        if row.setting
    }
    return {**values, "sigmig": state.sigmig}
