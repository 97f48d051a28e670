"""moslab: an embedded cluster on this machine, to try out, to test, or for one big machine (not in the manual)."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from mosfs.tools import cgroups, lab, netns, storm
from mosfs.tools.mosrun import first_environment, give_signals_back
from mosfs.tools.options import INT, REAL, TEXT, Command, Option, Parsed, UsageError, number_of
from mosfs.tools.storm_saved import SavingStorm
from mosfs.tools.tree import Tree

ROOT = Option("--root", "root", "state, logs and mounts go below it (default: MOSLAB_ROOT, or the run-time dir)",
              TEXT, metavar="dir")
VERBOSE = Option("-v --verbose", "verbose", "say what is being done")

UP_SYNOPSIS = (
    "moslab up [-n N | --clusters N,...] [--netns] [--balance] [--speeds S,...] [--cpus C,...] [--memory MB,...] [--base IP]"
    " [--root DIR] [-v]"
)
UP = Command("moslab", UP_SYNOPSIS, "start a cluster of N nodes", (
    ROOT, VERBOSE,
    Option("-n", "count", "number of nodes (default 3)", INT, metavar="N", low=1, high=lab.MAX_NODES),
    Option("--clusters", "clusters", "that many nodes in clusters of their own, each the others' partner (3,3,2 = 8 nodes)", TEXT,
           metavar="N,..."),
    Option("--base", "base", "loopback address of node 1 (default 127.0.1.1); the others follow", TEXT, metavar="ip"),
    Option("--netns", "netns", "each node in a network namespace of its own (10.77.0.N), joined by a bridge"),
    Option("--balance", "balance", "let programs move by themselves, as on real nodes"),
    Option("--speeds", "speeds", "what the nodes say of their speed, in turn (10000 = standard)", TEXT, metavar="S,..."),
    Option("--cpus", "cpus", "how many processors each node may use, in turn (0.5 = half of one); needs control groups",
           TEXT, metavar="C,..."),
    Option("--memory", "memory", "megabytes that each node may use, in turn; needs control groups", TEXT, metavar="MB,..."),
), permute=True)
DOWN = Command("moslab", "moslab down [--keep] [--root DIR]", "end the cluster and every MOSIX process of it", (
    ROOT, VERBOSE, Option("--keep", "keep", "keep the logs"),
), permute=True)
STATUS = Command("moslab", "moslab status [--json] [--root DIR]", "which nodes are up, and what runs there", (
    ROOT, Option("--json", "json", "one JSON list of objects"),
), permute=True)
RUN = Command("moslab", "moslab run [--root DIR] N command [args]...", "run a command as on node N", (ROOT,))
SHELL = Command("moslab", "moslab shell [--root DIR] N", "run your shell as on node N", (ROOT,))
STORM = Command("moslab", "moslab storm [options] -- command [args]...", "run as on node 1, always moving what runs", (
    ROOT,
    Option("-v --verbose", "verbose", "print the number of moves at the end"),
    Option("--every", "every", "seconds between two moves (default 0.2)", REAL, metavar="s", low=0.001, high=86400),
    Option("--home", "home", "go home after each node, instead of from node to node"),
    Option("--freeze", "freeze", "freeze programs, too, for one such pause each time"),
    Option("--checkpoint", "checkpoint", "save, end and recover the command (mosrun and a program) instead",
           INT, metavar="times", low=1, high=1000),
    Option("--seed", "seed", "make the choice of nodes repeatable", TEXT, metavar="text"),
    Option("--stats", "stats", "write the counts there as JSON: moves, failed, reasons", TEXT, metavar="file"),
))


def root_of(options: Parsed) -> str:
    return os.path.abspath(options.get("root") or lab.default_root())


def numbers(options: Parsed, key: str, low: float, high: float) -> list[float]:
    """The numbers of a list with commas; UsageError for what is none, or not of ``low`` to ``high``."""
    found = []
    for word in options.get(key).split(",") if key in options else ():
        try:
            found.append(float(word))
        except ValueError:
            raise UsageError(f"--{key}: {word!r} is not a number") from None
        if not low <= found[-1] <= high:
            raise UsageError(f"--{key}: {word} is not {low:g} to {high:g}")
    return found


def whole(options: Parsed, key: str, low: int, high: int) -> list[int]:
    """The same of whole numbers."""
    found = numbers(options, key, low, high)
    for number in found:
        if not number.is_integer():
            raise UsageError(f"--{key}: {number:g} is not a whole number")
    return [int(number) for number in found]


def no_rest(options: Parsed) -> None:
    if options.rest:
        raise UsageError(f"{options.rest[0]}: too much")


def up(options: Parsed) -> int:
    no_rest(options)
    clusters = whole(options, "clusters", 1, lab.MAX_NODES)
    if clusters and "count" in options:
        raise UsageError("-n and --clusters: only one of them")
    count, base = sum(clusters) or int(options.get("count", "3")), options.get("base", "127.0.1.1")
    plan = lab.Plan.make(root_of(options), count, base, "netns" in options, "balance" in options)
    plan = replace(
        plan, speeds=whole(options, "speeds", 1, 10_000_000),
        clusters=clusters, cpus=numbers(options, "cpus", 0.01, 1024), memory=numbers(options, "memory", 16, 1 << 30),
    ).limited()
    shown = "verbose" in options or sys.stderr.isatty()
    lab.up(plan, (lambda text: print(text, file=sys.stderr)) if shown else (lambda text: None))
    return 0


def down(options: Parsed) -> int:
    no_rest(options)
    lab.down(root_of(options), keep="keep" in options)
    return 0


def status(options: Parsed) -> int:
    """Exit status 1 unless every node answers."""
    no_rest(options)
    rows = []
    for node in lab.require(root_of(options)).nodes():
        alive = lab.answers(node)
        tree = Tree(node.paths)
        rows.append({
            "node": node.number, "ip": node.ip, "state": "up" if alive else "down", "root": node.paths.root,
            "programs": len(tree.pids("proc")) if alive else 0, "guests": len(tree.pids("guests")) if alive else 0,
        })
    if "json" in options:
        print(json.dumps(rows, indent=1))
    else:
        titles = ("node", "ip", "state", "programs", "guests", "root")
        lines = [[title.upper() for title in titles], *([str(row[title]) for title in titles] for row in rows)]
        widths = [max(len(line[at]) for line in lines) for at in range(len(titles))]
        print("\n".join(" ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines))
    return 0 if all(row["state"] == "up" for row in rows) else 1


def node_of(options: Parsed) -> lab.Node:
    number = options.rest[0] if options.rest else ""
    found = number_of(number)
    if found is None:
        raise UsageError(f"{number}: not a node-number" if number else "on which node?")
    return lab.require(root_of(options)).node(found)


def environment(node: lab.Node) -> dict[str, str]:
    """What a command finds as on ``node``; of ours nothing that Python itself has put there."""
    given = dict(os.environ)
    if b"LC_CTYPE" not in first_environment():
        given.pop("LC_CTYPE", None)
    return lab.environment(node, given)


def enter(node: lab.Node) -> None:
    """Be where the node is: in its control groups and its network."""
    cgroups.enter(node.groups, node.name)
    if node.namespace:
        netns.enter(node.namespace)


def become(node: lab.Node, command: list[str]) -> int:
    """Exec ``command`` with the environment, and for --netns in the network, of ``node``. Returns only by UserError."""
    enter(node)
    sys.stdout.flush()
    give_signals_back()
    try:
        os.execvpe(command[0], command, environment(node))
    except OSError as error:
        raise storm.not_started(command[0], error) from error


def run(options: Parsed) -> int:
    node = node_of(options)
    if len(options.rest) < 2:
        raise UsageError("which command?")
    return become(node, options.rest[1:])


def shell(options: Parsed) -> int:
    node = node_of(options)
    return become(node, [os.environ.get("SHELL") or "/bin/sh", *options.rest[1:]])


def storming(options: Parsed) -> int:
    if not options.rest:
        raise UsageError("which command?")
    plan = lab.require(root_of(options))
    node = plan.node(1)
    enter(node)
    environ = environment(node)
    os.environ["PATH"] = environ["PATH"]  # where the command is looked for
    tree, every, seed = Tree(node.paths), float(options.get("every", "0.2")), options.get("seed")
    if "checkpoint" in options:
        saves = SavingStorm(tree, int(options.get("checkpoint")), seed)
        result = saves.run(options.rest, environ, every)
        report(options, saves.stats(), f"went on {saves.recoveries} times, {saves.reasons.total()} refusals", saves.reasons)
    else:
        places = [storm.HOME, *(str(number) for number in range(2, plan.count + 1))]
        moves = storm.Storm(tree, places, storm.seeded(seed), "home" in options, "freeze" in options)
        result = storm.run(options.rest, environ, moves, every)
        report(options, moves.stats(), _summary(moves), moves.reasons)
    return storm.end_like(result)


def _summary(moves: storm.Storm) -> str:
    frozen = f", {moves.frozen} times frozen" if moves.freeze else ""
    return f"{moves.moves} moves{frozen}, {moves.failed} failed"


def report(options: Parsed, stats: dict[str, object], summary: str, reasons: Counter[str]) -> None:
    """What --stats and --verbose ask for of a storm that is over."""
    if "stats" in options:
        with open(options.get("stats"), "w", encoding="utf-8") as file:
            json.dump(stats, file)
    if "verbose" in options:
        lines = "".join(f"\n  {count} x {reason}" for reason, count in reasons.most_common())
        print(f"moslab: {summary}{lines}", file=sys.stderr)


VERBS: dict[str, tuple[Command, Callable[[Parsed], int]]] = {
    "up": (UP, up), "down": (DOWN, down), "status": (STATUS, status),
    "run": (RUN, run), "shell": (SHELL, shell), "storm": (STORM, storming),
}

SYNOPSIS = "\n".join(command.synopsis for command, _ in VERBS.values())
MOSLAB = Command("moslab", SYNOPSIS, "an embedded MOSIX cluster", (ROOT,))


def body(options: Parsed) -> int:
    verb = options.rest[0] if options.rest else ""
    if verb not in VERBS:
        raise UsageError(f"{verb}: no such command" if verb else "what shall be done?")
    command, function = VERBS[verb]
    given = ["--root", options.get("root")] if "root" in options else []
    return command.run(function, [*given, *options.rest[1:]])


def main(argv: list[str] | None = None) -> int:
    try:
        return MOSLAB.run(body, sys.argv[1:] if argv is None else argv)
    except OSError as error:
        print(f"moslab: {error.filename or ''}: {error.strerror}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
