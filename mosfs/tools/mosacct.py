"""mosacct(1): what programs of this node have used that have ended, as long as the node remembers them."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from math import isfinite
from typing import NamedTuple

from mosfs.cluster.paths import NodePaths
from mosfs.cluster.words import printable
from mosfs.tools.options import TEXT, Command, Option, Parsed, UsageError, UserError
from mosfs.tools.tree import Tree

SYNOPSIS = """
mosacct [--user {user}] [--sum] [--json]
mosacct --all | --file {file} [--since {date}] [--user {user}] [--sum] [--json]
"""
MOSACCT = Command("mosacct", SYNOPSIS, "list what ended programs have used", (
    Option("--all", "all", "all programs of the accounting file, and not only those that the node remembers"),
    Option("--file", "file", "another accounting file, as an older one", TEXT, metavar="file"),
    Option("--since", "since", "only programs that ended at this date or later, YYYY-MM-DD", TEXT, metavar="date"),
    Option("--user", "user", "only programs of this user, a name or number", TEXT, metavar="user"),
    Option("--sum", "sum", "add up the programs of each user and command"),
    Option("--json", "json", "a JSON list of objects: pid, user, command, seconds, moves, where they ended and when"),
))

#: Below the root: where mosd writes (`daemon.journal`).
ACCOUNTS = "var/log/mosix.acct"

Facts = Mapping[str, object]


class Row(NamedTuple):
    """Seconds of CPU time with those of children; ``home`` and ``away``: where they were used; ``where``: the node on which it
    ended, an IP, "" for home; ``ended``: when, seconds since 1970. The others are in the accounting file only: when it ``started``,
    ``calls`` made at home while it was away, megabytes at most, the program's own seconds by node, and its exit ``status``, or
    minus the signal that ended it; None if nobody knows."""

    pid: int
    user: str
    command: str
    home: float
    away: float
    moves: int
    where: str
    ended: float
    started: float | None = None
    calls: int | None = None
    memory: int | None = None
    nodes: Mapping[str, float] | None = None
    status: int | None = None


class Sum(NamedTuple):
    user: str
    command: str
    programs: int
    home: float
    away: float
    moves: int


def row_of(facts: Facts, now: float) -> Row:
    """``facts``: of ended/PID/stat."""
    seconds = {name: float(str(facts[name])) for name in ("user", "system", "user_away", "system_away", "ago")}
    return Row(
        int(str(facts["pid"])), user_name(int(str(facts["uid"]))), printable(str(facts["comm"])),
        round(seconds["user"] + seconds["system"], 2), round(seconds["user_away"] + seconds["system_away"], 2),
        int(str(facts["nmigs"])), str(facts["where"]), round(now - seconds["ago"], 1),
    )


def recorded(line: str) -> Row:
    """``line``: of the accounting file. ValueError for what mosd has not written."""
    try:
        facts = json.loads(line)
        row = Row(
            int(facts["pid"]), user_name(int(facts["uid"])), printable(str(facts["command"])), float(facts["home"]),
            float(facts["away"]), int(facts["moves"]), str(facts["where"]), float(facts["ended"]), float(facts["started"]),
            int(facts["calls"]), int(facts["memory"]), {str(node): float(spent) for node, spent in facts["nodes"].items()},
            None if facts.get("status") is None else int(facts["status"]),
        )
    except (KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        raise ValueError("not a line of an accounting file") from None
    if not all(isfinite(number) for number in (row.home, row.away, row.ended)):
        raise ValueError("not a number")
    return row


def from_file(file: str) -> Iterator[Row]:
    """All programs of an accounting file. UserError when it cannot be read, or is none."""
    try:
        with open(os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), encoding="utf-8", errors="replace") as stream:
            for number, line in enumerate(stream, 1):
                try:
                    yield recorded(line)
                except ValueError:
                    if number == 1:
                        raise UserError(f"{file}, line 1: {printable(line[:60])!r}: not a line of an accounting file") from None
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}") from None


def since(word: str) -> float:
    """The beginning of that day, seconds since 1970."""
    try:
        return time.mktime(time.strptime(word, "%Y-%m-%d"))
    except (ValueError, OverflowError):
        raise UsageError(f"--since: {printable(word)} is not a date, YYYY-MM-DD") from None


def sums(rows: Iterable[Row]) -> list[Sum]:
    """One for each user and command, who has used most first."""
    found: dict[tuple[str, str], Sum] = {}
    for row in rows:
        key = row.user, row.command
        old = found.get(key, Sum(*key, 0, 0.0, 0.0, 0))
        found[key] = Sum(
            *key, old.programs + 1, round(old.home + row.home, 2), round(old.away + row.away, 2), old.moves + row.moves)
    return sorted(found.values(), key=lambda each: (-each.home - each.away, each.user, each.command))


@cache
def user_name(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return str(uid)


def known_user(word: str) -> str:
    """The name under which a row has the user ``word``, a name or number."""
    import pwd

    if word.isascii() and word.isdigit() and len(word) <= 10:
        return user_name(int(word))
    try:
        return pwd.getpwnam(word).pw_name
    except (KeyError, ValueError):
        raise UsageError(f"{printable(word)}: no such user") from None


def table(titles: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> Iterator[str]:
    """Columns, numbers to the right."""
    cells = [tuple(f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in row) for row in rows]
    numbers = [title.isupper() for title in titles]
    widths = [max(map(len, column)) for column in zip(titles, *cells)]
    for row in (tuple(title.upper() for title in titles), *cells):
        line = (cell.rjust(width) if right else cell.ljust(width) for cell, width, right in zip(row, widths, numbers))
        yield "  ".join(line).rstrip()


def listing(rows: Iterable[Row], shown: Mapping[str, str]) -> Iterator[str]:
    """``shown``: what people call the nodes."""
    return table(("PID", "user", "command", "HOME", "AWAY", "MOVES", "where", "ended"), (
        (row.pid, row.user, row.command, row.home, row.away, row.moves, shown.get(row.where, row.where or "home"),
         time.strftime("%F %T", time.localtime(row.ended))) for row in rows
    ))


def read(tree: Tree) -> Iterator[Row]:
    """The programs that this user may see, as long as they are remembered, in the order of their ends."""
    rows, now = [], time.time()
    for pid in tree.pids("ended"):
        try:
            rows.append(row_of(json.loads(tree.read(f"ended/{pid}/stat")), now))
        except (PermissionError, FileNotFoundError):
            continue  # somebody else's, or just forgotten
    return iter(sorted(rows, key=lambda row: (row.ended, row.pid)))


def number(tree: Tree, ip: str) -> str:
    """What people call a node; its IP when mosd does not run."""
    try:
        return tree.number(ip) or ip
    except (OSError, UserError):
        return ip


def body(options: Parsed) -> int:
    if options.rest:
        raise UsageError(f"{options.rest[0]}: too much")
    wanted = known_user(options.get("user")) if "user" in options else ""
    paths = NodePaths.from_env()
    tree, file = Tree(paths), options.get("file") or os.path.join(paths.root, ACCOUNTS)
    earliest = since(options.get("since")) if "since" in options else 0.0
    if "all" in options or "file" in options:
        every = from_file(file)
    else:
        tree.fact("pid")
        every = read(tree)
    rows = [row for row in every if wanted in ("", row.user) and row.ended >= earliest]
    found: list[Row] | list[Sum] = sums(rows) if "sum" in options else rows
    if "json" in options:
        print(json.dumps([{name: fact for name, fact in each._asdict().items() if fact is not None} for each in found]))
    elif "sum" in options:
        print(*table(("user", "command", "PROGRAMS", "HOME", "AWAY", "MOVES"), found), sep="\n")
    else:
        print(*listing(rows, {where: number(tree, where) for where in {row.where for row in rows if row.where}}), sep="\n")
    return 0


def main(argv: list[str] | None = None) -> int:
    return MOSACCT.run(body, sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())
