"""mostimeof(1): user-level CPU time of MOSIX processes, wherever they ran. Their home-node's tree keeps count."""

from __future__ import annotations

import json
import sys

from mosfs.cluster.paths import NodePaths
from mosfs.tools.options import Command, Option, Parsed, UsageError, UserError
from mosfs.tools.text import NO_SUCH_PROCESS
from mosfs.tools.tree import Tree, read_linux, refusal

MOSTIMEOF = Command("mostimeof", "mostimeof {pid}... [--json]", "report CPU usage of migratable processes", (
    Option("--json", "json", "a JSON list of objects: pid and seconds"),
), permute=True)


def user_time(tree: Tree, pid: str) -> float:
    """Seconds of user-level CPU time of a MOSIX process of this node: here, as the kernel counts, and elsewhere.

    UserError when it is none, or not ours to see.
    """
    if not (pid.isascii() and pid.isdigit()):
        raise UserError(NO_SUCH_PROCESS.format(pid=pid))
    try:
        away = float(tree.read(f"proc/{pid}/awaytime"))
        linux = read_linux(int(pid))
    except OSError as error:
        raise refusal(pid, error) from error
    if linux is None:
        raise UserError(NO_SUCH_PROCESS.format(pid=pid))
    return linux.user + away


def body(options: Parsed) -> int:
    """Exit status 1 when one of several cannot be told; the others are."""
    if not options.rest:
        raise UsageError("which process?")
    tree = Tree(NodePaths.from_env())
    tree.fact("pid")
    rows, failures = [], []
    for pid in options.rest:
        try:
            rows.append((int(pid) if pid.isdigit() else 0, user_time(tree, pid)))
        except UserError as error:
            failures.append(error.text)
    if "json" in options:
        print(json.dumps([{"pid": pid, "seconds": seconds} for pid, seconds in rows]))
    else:
        for number, seconds in rows:
            print(f"{number}: {seconds:.2f} seconds")
    for failure in failures:
        sys.stderr.write(f"mostimeof: {failure}\n")
    return 1 if failures else 0


def main(argv: list[str] | None = None) -> int:
    return MOSTIMEOF.run(body, sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())
