"""mosbestnode(1): the best node to run one more program on. The choice is made by mosd, which knows the cluster."""

from __future__ import annotations

import json
import sys
import time

from mosfs.cluster.paths import NodePaths
from mosfs.tools.options import INT, Command, Option, Parsed, UsageError
from mosfs.tools.tree import Tree

NONE_FITS = "0"
POLL = 0.5  #: seconds between two questions of -w

MOSBESTNODE = Command("mosbestnode", "mosbestnode [-u] [-n] [-w] [-m{mb}] [--json]", "select the best node to run on", (
    Option("-u", "number", "print the node's number, if it has one, instead of its IP"),
    Option("-n", "inquire", "only asking: no program is about to start there"),
    Option("-w", "wait", "wait until there is a node that fits"),
    Option("-m", "needmem", "only nodes with so many megabytes of free memory", INT, metavar="mb", high=262143),
    Option("--json", "json", "a JSON object: ip and number, null for none"),
), permute=True)


def question(options: Parsed) -> str:
    """What is written to ``node/best``."""
    words = [f"mem={options.get('needmem', '0')}", *([] if "inquire" in options else ["reserve"])]
    return " ".join(words)


def body(options: Parsed) -> int:
    if options.rest:
        raise UsageError(f"{options.rest[0]}: too much")
    tree = Tree(NodePaths.from_env())
    while (ip := tree.ask("best", question(options))) == NONE_FITS and "wait" in options:
        time.sleep(POLL)
    number = "" if ip == NONE_FITS else tree.number(ip)
    if "json" in options:
        print(json.dumps({"ip": None if ip == NONE_FITS else ip, "number": int(number) if number else None}))
    else:
        print(number if number and "number" in options else ip)
    return 0


def main(argv: list[str] | None = None) -> int:
    return MOSBESTNODE.run(body, sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())
