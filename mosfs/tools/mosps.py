"""mosps(1): list MOSIX processes in the style of ps(1), with WHERE, FROM, ORIGPID, FRZ and NMIGS.

With -S it lists the queues of mosrun -S, by the files in which they tell how far they are.

    tree --read--> processes --select--> chosen --order--> lines --render--> table, or JSON
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

from mosfs.cluster.paths import NodePaths
from mosfs.queue.progress import Queued, folder_of, read_all
from mosfs.tools.options import LIST, Command, Option, Parsed, UserError, number_of
from mosfs.tools.tree import TICKS, Process, Tree, environment, read_linux, starts_lines

DAY = 86400  #: seconds
NOTHING = "accepted as in ps(1), no effect here"

TABLE = (
    Option("-A -e", "all", "all processes, guests too"),
    Option("-a", "terminals", "all with a terminal, except session leaders; with x: all, guests too"),
    Option("-d", "followers", "all except session leaders"),
    Option("a", "everybody", "also of other users; with x: all, guests too"),
    Option("-x x", "detached", "also those without a terminal"),
    Option("T", "here", "those of this terminal"),
    Option("-p p", "pid", "these process IDs", LIST, metavar="list"),
    Option("-t t", "tty", "these terminals", LIST, metavar="list"),
    Option("-u -U U", "user", "of these users", LIST, metavar="list"),
    Option("-g", "sid", "of these sessions", LIST, metavar="list"),
    Option("-G", "group", "of these groups", LIST, metavar="list"),
    Option("-f", "full", "full format"),
    Option("-l l", "long", "long format"),
    Option("-j", "jobs", "job-control format"),
    Option("j", "alljobs", "job-control format of BSD"),
    Option("u", "users", "user format"),
    Option("-H f", "forest", "show children below their parents"),
    Option("c", "comm", "the first 15 characters of the program's name instead of its command line"),
    Option("n", "numeric", "user IDs instead of names"),
    Option("-w w", "wide", "do not cut lines at the width of the terminal"),
    Option("e", "environment", "the environment after the command"),
    Option("-T -m m g", "nothing", NOTHING),
    Option("-I", "names", "show nodes by IP address", value="ip"),
    Option("-h", "names", "show nodes by host-name", value="host"),
    Option("-M", "names", "show nodes by the first component of the host-name", value="short"),
    Option("-L", "local", "only processes whose home-node is here"),
    Option("-O", "away", "only processes of this node that are away from home"),
    Option("-n -N", "nmigs", "show the number of migrations"),
    Option("-P", "origpid", "show the process ID in the home-node"),
    Option("-V", "guests", "only guests: processes whose home-node is not here"),
    Option("-S", "progress", "show how far each mosrun -S is instead"),
    Option("--json", "json", "one JSON list of objects"),
)

MOSPS = Command("mosps", "mosps [subset of ps(1) options] [-I | -h | -M] [-L] [-O] [-n] [-P] [-V] [--json]",
                "list MOSIX processes", TABLE, permute=True)


@dataclass(frozen=True)
class Caller:
    """Who asks, from which terminal ("?" = none)."""

    uid: int
    tty: str


@dataclass(frozen=True)
class View:
    """How values are shown: node IP to name, user ID to name, PID to environment. ``boot``: when the machine was started, seconds
    of the clock on the wall; ``now``: the same."""

    node: Callable[[str], str]
    user: Callable[[int], str]
    comm: bool = False
    environment: Callable[[int], str] = lambda pid: ""
    boot: float = 0.0
    now: float = 0.0


# --------------------------------------------------------------------------- which processes


def select(processes: Iterable[Process], options: Parsed, me: Caller) -> list[Process]:
    """Those that the options choose, by the rules of ps(1): lists add up, the rest narrows."""
    wanted = _chooser(options, me)
    return [process for process in processes if _kind_fits(process, options) and wanted(process)]


def _kind_fits(process: Process, options: Parsed) -> bool:
    guest = bool(process.home)
    if "guests" in options:
        return guest
    if "local" in options and guest:
        return False
    return "away" not in options or (not guest and bool(process.where))


def _chooser(options: Parsed, me: Caller) -> Callable[[Process], bool]:
    if lists := _lists(options):
        return lambda p: any(test(p) for test in lists)
    others = "everybody" in options or "terminals" in options
    if "guests" in options or "all" in options or (others and "detached" in options):
        return lambda p: True
    if "everybody" in options:
        return lambda p: p.linux.tty != "?"
    if "detached" in options:
        return lambda p: p.uid == me.uid and not p.home
    if "terminals" in options:
        return lambda p: p.linux.tty != "?" and p.linux.sid != p.pid
    if "followers" in options:
        return lambda p: p.linux.sid != p.pid
    if "here" in options:
        return lambda p: p.linux.tty == me.tty and not p.home
    return lambda p: p.uid == me.uid and p.linux.tty == me.tty and not p.home


def _lists(options: Parsed) -> list[Callable[[Process], bool]]:
    """One test for each kind of list given. UserError for what is no process ID, user, session or group."""
    tests: list[Callable[[Process], bool]] = []
    if pids := {number(word, "process ID") for word in [*words(options, "pid"), *words_of(options.rest)]}:
        tests.append(lambda p: p.pid in pids)
    if ttys := {word.removeprefix("/dev/").replace("-", "?") for word in words(options, "tty")}:
        tests.append(lambda p: p.linux.tty in ttys or f"tty{p.linux.tty}" in ttys)
    if users := {user_id(word) for word in words(options, "user")}:
        tests.append(lambda p: p.uid in users)
    if sids := {number(word, "session") for word in words(options, "sid")}:
        tests.append(lambda p: p.linux.sid in sids)
    if groups := {group_id(word) for word in words(options, "group")}:
        tests.append(lambda p: p.linux.gid in groups)
    return tests


def words(options: Parsed, key: str) -> list[str]:
    return words_of(options.lists.get(key, []))


def words_of(texts: Iterable[str]) -> list[str]:
    return [word for text in texts for word in text.replace(",", " ").split()]


def number(word: str, what: str) -> int:
    found = number_of(word)
    if found is None or found < 0:
        raise UserError(f"{word}: not a {what}")
    return found


def user_id(word: str) -> int:
    import pwd

    found = number_of(word)
    try:
        return pwd.getpwnam(word).pw_uid if found is None else found
    except KeyError:
        raise UserError(f"{word}: no such user") from None


def group_id(word: str) -> int:
    import grp

    found = number_of(word)
    try:
        return grp.getgrnam(word).gr_gid if found is None else found
    except KeyError:
        raise UserError(f"{word}: no such group") from None


def forest(processes: Sequence[Process]) -> list[tuple[int, Process]]:
    """Each with its depth, children directly below their parents; what has no parent in the list is a root."""
    known = {process.pid for process in processes}
    children: dict[int, list[Process]] = {}
    for process in processes:
        children.setdefault(process.linux.ppid if process.linux.ppid in known else 0, []).append(process)
    ordered: list[tuple[int, Process]] = []
    waiting = [(0, process) for process in reversed(children.get(0, []))]
    while waiting:
        depth, process = waiting.pop()
        ordered.append((depth, process))
        waiting += [(depth + 1, child) for child in reversed(children.get(process.pid, []))]
    return ordered


# --------------------------------------------------------------------------- how they look


def where(process: Process, view: View) -> str:
    """The WHERE field of mosps(1). "?" for other users' processes."""
    if process.state in ("", "starting", "leaving"):
        return process.state or "?"
    return view.node(process.where) if process.where else "here"


def command(process: Process, view: View, depth: int = 0) -> str:
    text = process.linux.command
    if view.comm or not text:
        text = process.comm or process.linux.comm
    if not process.home and (environment := view.environment(process.pid)):
        text += f" {environment}"
    return "    " * (depth - 1) + " \\_ " * bool(depth) + text


def started(process: Process, view: View) -> str:
    """START of ps(1): the time if it is less than a day ago, else the day, or the year if it is not this one."""
    if not process.linux.start:
        return "?"
    at = view.boot + process.linux.start / TICKS
    then, today = time.localtime(at), time.localtime(view.now)
    if view.now - at < DAY:
        return time.strftime("%H:%M", then)
    return time.strftime("%b%d" if then.tm_year == today.tm_year else "%Y", then)


@dataclass(frozen=True)
class Column:
    """``right``: numbers are aligned to the right, and so is their title."""

    title: str
    value: Callable[[Process, View], str]
    right: bool = False


COLUMNS = {
    "NAME": Column("UID", lambda p, v: v.user(p.uid)),
    "USER": Column("USER", lambda p, v: v.user(p.uid)),
    "UID": Column("UID", lambda p, v: str(p.uid), right=True),
    "PID": Column("PID", lambda p, v: str(p.pid), right=True),
    "PPID": Column("PPID", lambda p, v: str(p.linux.ppid), right=True),
    "PGID": Column("PGID", lambda p, v: str(p.linux.pgid), right=True),
    "SID": Column("SID", lambda p, v: str(p.linux.sid), right=True),
    "NI": Column("NI", lambda p, v: "-" if p.home else str(p.linux.nice), right=True),
    "TTY": Column("TTY", lambda p, v: p.linux.tty),
    "TPGID": Column("TPGID", lambda p, v: str(p.linux.tpgid), right=True),
    "START": Column("START", started, right=True),
    "WHERE": Column("WHERE", where),
    "FROM": Column("FROM", lambda p, v: v.node(p.home) if p.home else "here"),
    "ORIGPID": Column("ORIGPID", lambda p, v: str(p.origpid) if p.home else "N/A", right=True),
    "FRZ": Column("FRZ", lambda p, v: "N/A" if p.home else p.frozen),
    "NMIGS": Column("NMIGS", lambda p, v: "N/A" if p.home else str(p.nmigs), right=True),
}

#: First columns of each format of ps(1), without those that mosps(1) leaves out, in the order in which the options are looked for.
FORMATS = {
    "full": ("NAME", "PID", "PPID", "TTY"),
    "long": ("UID", "PID", "PPID", "NI", "TTY"),
    "jobs": ("PID", "PGID", "SID", "TTY"),
    "alljobs": ("PPID", "PID", "PGID", "SID", "TTY", "TPGID", "UID"),
    "users": ("USER", "PID", "TTY", "START"),
    "": ("PID", "TTY"),
}


def queue_columns(options: Parsed, queues: Mapping[int, Queued]) -> list[Column]:
    """The columns before CMD with -S."""
    names = next(first for key, first in FORMATS.items() if not key or key in options)
    return [
        *(COLUMNS[name] for name in names),
        Column("TOTAL", lambda p, v: str(queues[p.pid].total), right=True),
        Column("DONE", lambda p, v: str(queues[p.pid].done), right=True),
        Column("FAIL", lambda p, v: str(queues[p.pid].failed), right=True),
    ]


def columns(options: Parsed) -> list[Column]:
    """The columns before CMD. With -V there is neither WHERE nor FRZ: those are the home-node's to know."""
    guests = "guests" in options
    names = list(next(first for key, first in FORMATS.items() if not key or key in options))
    names += ["FROM"] if guests else ["WHERE", "FROM"]
    names += ["ORIGPID"] if guests or "origpid" in options else []
    names += [] if guests else ["FRZ"]
    names += ["NMIGS"] if "nmigs" in options else []
    return [COLUMNS[name] for name in names]


def render(rows: Sequence[tuple[int, Process]], shown: Sequence[Column], view: View, width: int = 0) -> list[str]:
    """The lines of the table, header first; cut at ``width`` characters unless that is 0."""
    cells = [[column.value(process, view) for column in shown] for _, process in rows]
    widths = [max([len(column.title), *(len(row[at]) for row in cells)]) for at, column in enumerate(shown)]
    lines = []
    commands = ["CMD", *(command(process, view, depth) for depth, process in rows)]
    for texts, last in zip([[column.title for column in shown], *cells], commands):
        padded = [text.rjust(size) if column.right else text.ljust(size)
                  for text, size, column in zip(texts, widths, shown)]
        lines.append(" ".join([*padded, last]).rstrip())
    return [line[:width] for line in lines] if width else lines


def as_json(process: Process, view: View) -> dict[str, object]:
    """The stable keys of --json. Nodes are IPs ("" = here)."""
    linux = process.linux
    return {
        "pid": process.pid, "ppid": linux.ppid, "pgid": linux.pgid, "sid": linux.sid, "uid": process.uid,
        "user": view.user(process.uid), "tty": linux.tty, "where": process.where, "state": process.state,
        "from": process.home, "origpid": process.origpid or None, "frozen": process.frozen, "nmigs": process.nmigs,
        "comm": process.comm or linux.comm, "command": linux.command, "needs": list(process.needs),
    }


# --------------------------------------------------------------------------- mosrun -S


def queue_process(queued: Queued) -> Process | None:
    """A queue as a process of this node; None when it is gone. Of its command line the interpreter is left out."""
    linux = read_linux(queued.pid)
    if linux is None or not linux.command:
        return None
    words = linux.command.split(" ")
    first = next((at for at, word in enumerate(words) if os.path.basename(word) in ("mosrun", "mosenv")), 0)
    linux = replace(linux, command=" ".join([os.path.basename(words[first]), *words[first + 1:]]), comm="mosrun")
    return Process(queued.pid, queued.uid, linux=linux)


def queues(options: Parsed, caller: Caller, view: View) -> int:
    """mosps -S."""
    found = {queued.pid: queued for queued in read_all(folder_of(NodePaths.from_env().state))}
    chosen = select(filter(None, map(queue_process, found.values())), options, caller)
    if "json" in options:
        print(json.dumps([queue_json(process, found[process.pid], view) for process in chosen], indent=1))
        return 0
    show(chosen, options, queue_columns(options, found), view)
    return 0 if chosen else 1


def queue_json(process: Process, queued: Queued, view: View) -> dict[str, object]:
    return {
        "pid": process.pid, "uid": process.uid, "user": view.user(process.uid), "tty": process.linux.tty, "total": queued.total,
        "done": queued.done, "failed": queued.failed, "command": process.linux.command,
    }


# --------------------------------------------------------------------------- the command


def node_namer(style: str, number: Callable[[str], str]) -> Callable[[str], str]:
    """How an IP is shown: "" by userview.map's number ("" = it has none), "ip", "host" or "short"."""
    if style == "":
        return cache(lambda ip: number(ip) or ip)
    if style == "ip":
        return lambda ip: ip

    def host(ip: str) -> str:
        import socket

        try:
            name = socket.gethostbyaddr(ip)[0]
        except OSError:
            return ip
        return name.partition(".")[0] if style == "short" else name

    return host


def user_namer(numeric: bool) -> Callable[[int], str]:
    def name(uid: int) -> str:
        import pwd

        try:
            return str(uid) if numeric else pwd.getpwuid(uid).pw_name
        except KeyError:
            return str(uid)

    return name


def body(options: Parsed) -> int:
    tree = Tree(NodePaths.from_env())
    me = read_linux(os.getpid())
    caller = Caller(os.geteuid(), me.tty if me else "?")
    style = options.get("names")
    nodes = node_namer(style, tree.number)
    now = time.time()
    view = View(
        nodes, user_namer("numeric" in options), "comm" in options, environment if "environment" in options else View.environment,
        now - time.clock_gettime(time.CLOCK_BOOTTIME), now,
    )
    if "progress" in options:
        return queues(options, caller, view)
    programs = [process for process in tree.processes() if not starts_lines(process.pid, process.linux)]
    chosen = select([*programs, *tree.guests()], options, caller)
    if "json" in options:
        print(json.dumps([as_json(process, view) for process in chosen], indent=1))
        return 0
    show(chosen, options, columns(options), view)
    return 0 if chosen else 1


def show(chosen: Sequence[Process], options: Parsed, shown: Sequence[Column], view: View) -> None:
    rows = forest(chosen) if "forest" in options else [(0, process) for process in chosen]
    width = os.get_terminal_size().columns if sys.stdout.isatty() and "wide" not in options else 0
    print("\n".join(render(rows, shown, view, width)))


def main(argv: list[str] | None = None) -> int:
    return MOSPS.run(body, sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())
