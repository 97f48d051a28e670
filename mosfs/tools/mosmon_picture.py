"""What a page of mosmon(1), --html, shows, and how it is read from the tree of this node. `mosmon_page` makes the page."""

from __future__ import annotations

import json
import os
import pwd
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from mosfs.tools.mosmon_view import Node
from mosfs.tools.options import UserError
from mosfs.tools.text import NOT_RUNNING
from mosfs.tools.tree import Tree, read_linux, starts_lines

#: Programs and guests of which all is read; more are counted only.
MOST_PROGRAMS = 400


class Visit(NamedTuple):
    """A node to which a program came: ``where`` is its IP, "" for home; ``ago``: seconds; ``why``: "" if somebody wished it."""

    ago: float
    where: str
    why: str


@dataclass(frozen=True, slots=True)
class Shown:
    """A program of this node, or a guest (``home`` is its home-node's IP then, else ""). ``where``: IP, "" for home; ``cpu``:
    seconds that it used; ``size_mb``: of memory; ``moves``: in all, of which ``path`` has the last ones."""

    pid: int
    user: str
    name: str
    command: str = ""
    home: str = ""
    where: str = ""
    state: str = ""
    frozen: str = "-"
    why: str = ""
    cpu: float | None = None
    size_mb: int | None = None
    moves: int = 0
    path: Sequence[Visit] = ()


@dataclass(frozen=True, slots=True)
class Picture:
    """The cluster as the node ``ip`` knows it; ``taken``: a date. ``clusters``: names of the partner-clusters that nodes are in, by
    IP. ``loads``: over the last hour by IP, one each ``period`` seconds, the last one ``period`` ago at most. ``hidden``: how many
    programs and guests there are beside those that are shown."""

    ip: str
    taken: str
    version: str
    nodes: Sequence[Node]
    clusters: Mapping[str, str] = field(default_factory=dict)
    loads: Mapping[str, Sequence[int | None]] = field(default_factory=dict)
    period: float = 30.0
    programs: Sequence[Shown] = ()
    guests: Sequence[Shown] = ()
    hidden: int = 0
    decisions: Sequence[str] = ()

    def name(self, ip: str) -> str:
        """The number of a node, or its IP where it has none; this node for ""."""
        number = next((node.number for node in self.nodes if node.ip == (ip or self.ip)), 0)
        return str(number) if number else ip or self.ip


def read(tree: Tree) -> Picture:
    """UserError when MOSIX is not running."""
    ip, noted = tree.fact("ip"), json.loads(tree.fact("loads"))
    found = list(_nodes(tree))
    programs, guests = list(_programs(tree)), list(_guests(tree))
    seen = [each for each in (*programs, *guests) if each is not None]
    return Picture(
        ip, time.strftime("%A, %e %B %Y, %H:%M:%S %Z"), tree.fact("version"), [node for node, _ in found],
        {node.ip: cluster for node, cluster in found if cluster}, noted["nodes"], noted["period"],
        [each for each in seen if not each.home], [each for each in seen if each.home],
        len(programs) + len(guests) - len(seen), tree.fact("decisions").splitlines(),
    )


def _nodes(tree: Tree) -> Iterator[tuple[Node, str]]:
    """All nodes by number, those without one last, and the names of their partner-clusters."""
    try:
        ips = os.listdir(f"{tree.mount}/nodes")
    except OSError as error:
        raise UserError(NOT_RUNNING.format(socket=tree.paths.socket)) from error
    rows = []
    for ip in ips:
        with suppress(OSError):
            rows.append(json.loads(tree.read(f"nodes/{ip}/stat")))
    for facts in sorted(rows, key=lambda row: (row["number"] or 1 << 16, [*map(int, row["ip"].split("."))])):
        known: dict[str, Any] = {name: facts.get(name) or 0 for name in Node.__slots__}
        yield Node(**known), facts["cluster"]


def _programs(tree: Tree) -> Iterator[Shown | None]:
    """None for each that this user may not see, or beyond the most."""
    for number, pid in enumerate(tree.pids("proc")):
        if number >= MOST_PROGRAMS:
            yield None
            continue
        if starts_lines(pid, linux := read_linux(pid)):
            continue
        try:
            facts, why = json.loads(tree.read(f"proc/{pid}/stat")), tree.read(f"proc/{pid}/why")
        except PermissionError:
            yield None
        except OSError:
            continue  # it has ended
        else:
            path = [Visit(*visit) for visit in facts["path"]]
            yield _shown(pid, facts, command=linux.command if linux else "", where=facts["where"], state=facts["state"],
                         frozen=facts["frozen"], why=why, moves=facts["nmigs"], path=path)


def _guests(tree: Tree) -> Iterator[Shown | None]:
    for number, pid in enumerate(tree.pids("guests")):
        if number >= MOST_PROGRAMS:
            yield None
            continue
        with suppress(OSError):
            facts, why = json.loads(tree.read(f"guests/{pid}/stat")), tree.read(f"guests/{pid}/why")
            yield _shown(facts["origpid"], facts, home=facts["home"], why=why)


def _shown(pid: int, facts: Mapping[str, Any], **more: Any) -> Shown:
    used = facts["history"]
    return Shown(pid, _user(facts["uid"]), facts["comm"], cpu=used.get("age"), size_mb=used.get("size_mb"), **more)


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return str(uid)
