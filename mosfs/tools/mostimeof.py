"""mostimeof(1): user-level CPU time of MOSIX processes, wherever they ran. Their home-node's tree keeps count, and remembers
those that have ended for a while."""

from __future__ import annotations

import json
import sys
import time

from mosfs.cluster.paths import NodePaths
from mosfs.tools.options import Command, Option, Parsed, UsageError, UserError, number_of
from mosfs.tools.text import NO_SUCH_PROCESS
from mosfs.tools.tree import Tree, read_linux, refusal

MOSTIMEOF = Command("mostimeof", "mostimeof {pid}... [--json]", "report CPU usage of migratable processes", (
    Option("--json", "json", "a JSON list of objects: pid, seconds and ended; system of ended ones"),
), permute=True)

#: Seconds in which the tree hears of an end, and how often it is asked meanwhile.
HEARS, PAUSE = 5.0, 0.02

Row = dict[str, int | float | bool]


def _living(tree: Tree, pid: int) -> Row | None:
    """As the kernel counts here, and as was told of elsewhere; None when it has ended. OSError: the tree knows none such."""
    away = float(tree.read(f"proc/{pid}/awaytime"))
    linux = read_linux(pid)
    if linux is None or linux.ended:
        return None
    return {"pid": pid, "seconds": linux.user + away, "ended": False}


def _ended(tree: Tree, pid: int) -> Row:
    """OSError as the tree answers."""
    user, system = (float(tree.read(f"ended/{pid}/{name}")) for name in ("usertime", "systime"))
    return {"pid": pid, "seconds": user, "ended": True, "system": system}


def user_time(tree: Tree, word: str) -> Row:
    """Seconds of user-level CPU time of the MOSIX process ``word`` of this node. Of one that has ended they include its children's.

    UserError when it is none, or not ours to see.
    """
    pid, until = number_of(word), time.monotonic() + HEARS
    if pid is None:
        raise UserError(NO_SUCH_PROCESS.format(pid=word))
    try:
        try:
            while (row := _living(tree, pid)) is None and time.monotonic() < until:
                time.sleep(PAUSE)
        except FileNotFoundError:
            row = _ended(tree, pid)
    except OSError as error:
        raise refusal(word, error) from error
    if row is None:
        raise UserError(NO_SUCH_PROCESS.format(pid=word))
    return row


def body(options: Parsed) -> int:
    """Exit status 1 when one of several cannot be told; the others are."""
    if not options.rest:
        raise UsageError("which process?")
    tree = Tree(NodePaths.from_env())
    tree.fact("pid")
    rows, failures = [], []
    for pid in options.rest:
        try:
            rows.append(user_time(tree, pid))
        except UserError as error:
            failures.append(error.text)
    if "json" in options:
        print(json.dumps(rows))
    else:
        for row in rows:
            print(f"{row['pid']}: {row['seconds']:.2f} seconds{' (ended; with its children)' if row['ended'] else ''}")
    for failure in failures:
        sys.stderr.write(f"mostimeof: {failure}\n")
    return 1 if failures else 0


def main(argv: list[str] | None = None) -> int:
    return MOSTIMEOF.run(body, sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())
