"""mosmon(1): bars that compare the nodes of the cluster. `mosmon_view` makes frames, `mosmon_page` a page; this file shows them."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mosfs.cluster.paths import NodePaths
from mosfs.tools.mosmon_view import ENTER, LEFT, RIGHT, Node, Numbering, Show, Size, View, frame, press
from mosfs.tools.options import COUNT, TEXT, Command, Option, Parsed, UsageError, UserError
from mosfs.tools.tree import Tree

if TYPE_CHECKING:
    import curses

PERIOD = 1.0  #: seconds between two looks at the cluster
A_SECOND = 5000  #: nodes; in a bigger cluster the looks are rarer, so that the whole costs mosd a few per cent at most
ESCAPE_MS = 25  #: how long the rest of an arrow key may take

SYNOPSIS = "mosmon [-v | -V | -w] [-t] [-d] [-s | -m | -m -m | -f | -c | -l | --paging] [--once] [--json]\nmosmon --html file"

MOSMON = Command("mosmon", SYNOPSIS, "MOSIX monitor", (
    Option("-w", "numbering", "horizontal numbering: better display, fewer nodes", value="w"),
    Option("-v", "numbering", "vertical numbering: more nodes, denser display", value="v"),
    Option("-V", "numbering", "tight vertical numbering: most nodes, densest display", value="V"),
    Option("-t", "count", "display the number of operational nodes and of CPUs"),
    Option("-d", "dead", "display dead nodes too"),
    Option("-s", "speed", "display CPU-speeds"),
    Option("-m", "memory", "display used and total memory; twice: swap space", COUNT),
    Option("-f", "frozen", "display the number of frozen processes"),
    Option("-c", "cores", "display the number of cores"),
    Option("--paging", "paging", "display how much is read from and written to swap"),
    Option("-l", "load", "display the load (default)"),
    Option("--once", "once", "print one frame and exit; COLUMNS and LINES give its size"),
    Option("--html", "html", "write a page with a picture of the cluster (- is standard output) and exit", TEXT, metavar="file"),
    Option("--json", "json", "print the nodes as a JSON list of objects and exit"),
), permute=True)

SHOWS = {"speed": Show.SPEED, "frozen": Show.FROZEN, "cores": Show.CORES, "paging": Show.PAGING, "load": Show.LOAD}
NO_TERMINAL = "standard output is not a terminal (--once prints one frame)"


def first_view(options: Parsed) -> View:
    """The view that the options ask for; UsageError for two things to be shown at once."""
    wanted = [show for key, show in SHOWS.items() if key in options]
    if "memory" in options:
        wanted.append(Show.MEMORY if options.get("memory") == "1" else Show.SWAP)
    if len(wanted) > 1:
        raise UsageError("only one of -s, -m, -f, -c, -l and --paging")
    numbering = Numbering(options.get("numbering", "a"))
    return View(wanted[0] if wanted else Show.LOAD, numbering, dead="dead" in options, count="count" in options)


def read_nodes(text: str) -> list[Node]:
    """The nodes in the file ``node/cluster``. Numbers that are not known are 0."""
    table = json.loads(text)
    fields: Sequence[str] = table["fields"]
    order = [fields.index(name) for name in Node.__slots__]
    rows: list[list[Any]] = [[row[at] or 0 for at in order] for row in table["nodes"]]
    return [Node(*row) for row in rows]


def as_json(text: str) -> str:
    """The file ``node/cluster`` as a list of objects; null where nothing is known."""
    table = json.loads(text)
    return json.dumps([dict(zip(table["fields"], row)) for row in table["nodes"]], indent=1)


def key_of(code: int, names: Mapping[int, str]) -> str:
    """A curses key code as `press` wants it; "" for none."""
    return names.get(code, chr(code) if 0 < code < 128 else "")


def period(nodes: int) -> float:
    """Seconds between two looks at so many nodes."""
    return max(PERIOD, nodes / A_SECOND)


def watch(screen: curses.window, tree: Tree, view: View) -> int:
    import curses

    names = {curses.KEY_RIGHT: RIGHT, curses.KEY_LEFT: LEFT, curses.KEY_ENTER: ENTER, 10: ENTER, 13: ENTER}
    try:
        curses.curs_set(0)
    except curses.error:  # a terminal without that
        pass
    screen.keypad(True)
    nodes, notice = read_nodes(tree.fact("cluster")), ""
    due = time.monotonic() + period(len(nodes))
    while True:
        size: Size = screen.getmaxyx()
        draw(screen, frame(nodes, view, size, notice))
        screen.timeout(max(0, round((due - time.monotonic()) * 1000)))
        key = key_of(screen.getch(), names)
        if key == ENTER:
            screen.clear()
        elif key:
            changed = press(view, key, nodes, size)
            if changed is None:
                return 0
            view = changed
        if time.monotonic() >= due:
            due = time.monotonic() + period(len(nodes))
            try:
                nodes, notice = read_nodes(tree.fact("cluster")), ""
            except UserError as error:  # it may be restarted: what was known last stays on the screen
                notice = error.text


def draw(screen: curses.window, lines: Sequence[str]) -> None:
    import curses

    screen.erase()
    for row, line in enumerate(lines):
        try:
            screen.addstr(row, 0, line)
        except curses.error:  # the last column of the last row, or a window that has just become smaller
            pass
    screen.refresh()


def write_page(tree: Tree, file: str) -> None:
    """Write the page of `mosmon_page`, whole or not at all where ``file`` is a regular file or none yet. UserError."""
    from mosfs.tools.mosmon_page import page
    from mosfs.tools.mosmon_picture import read

    data = page(read(tree)).encode(errors="replace")
    if file == "-":
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        return
    try:
        whole = not os.path.exists(file) or os.path.isfile(file)
        new = f"{file}.{os.getpid()}.new" if whole else file
        try:
            with open(new, "xb" if whole else "wb") as stream:
                if whole and os.path.exists(file):
                    os.fchmod(stream.fileno(), os.stat(file).st_mode & 0o777)
                stream.write(data)
            if whole:
                os.replace(new, file)
        except BaseException:
            if whole:
                with suppress(FileNotFoundError):
                    os.unlink(new)
            raise
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}") from None


def body(options: Parsed) -> int:
    if options.rest:
        raise UsageError(f"{options.rest[0]}: too much")
    view = first_view(options)
    tree = Tree(NodePaths.from_env())
    if "html" in options:
        write_page(tree, options.get("html"))
        return 0
    text = tree.fact("cluster")
    if "json" in options:
        print(as_json(text))
        return 0
    if "once" in options:
        columns, rows = shutil.get_terminal_size((80, 24))
        print("\n".join(frame(read_nodes(text), view, (rows, columns))))
        return 0
    if not sys.stdout.isatty():
        raise UserError(NO_TERMINAL)
    import curses

    os.environ.setdefault("ESCDELAY", str(ESCAPE_MS))
    try:
        curses.setupterm()
        if curses.tigetstr("cup") is None:
            raise UserError("the terminal cannot be used (it is one that only prints)")
        return curses.wrapper(watch, tree, replace(view, keys=True))
    except curses.error as error:
        raise UserError(f"the terminal cannot be used ({error})") from None


def main(argv: list[str] | None = None) -> int:
    return MOSMON.run(body, sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())
