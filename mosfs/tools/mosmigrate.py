"""mosmigrate(1): move a process by hand. A write to the tree starts the move; the outcome is awaited in the tree.

The manual's mosmigrate does not wait; ours does, so that the user learns of a failure. Ctrl-C stops the waiting,
not the move.
"""

from __future__ import annotations

import errno
import sys
import time

from mosfs.abi.outcomes import OK
from mosfs.cluster.paths import NodePaths
from mosfs.tools.options import Command, Option, Parsed, UsageError, UserError, is_ip, number_of
from mosfs.tools.text import (
    ENDED,
    ENDED_UNFROZEN,
    ENDED_UNSAVED,
    FAILED_MIGRATING,
    NO_CHECKPOINT,
    NO_GUEST,
    NO_SUCH_PROCESS,
    NOT_CONTINUED,
    NOT_FROZEN,
    NOT_IN_MAP,
)
from mosfs.tools.tree import POLL, Tree, refusal

FREEZING = ("freeze", "continue")
CHECKPOINTS = ("checkpoint", "chkstop", "chkexit")

SYNOPSIS = """
mosmigrate [--no-wait] {pid} {node-number | IP-address | host}
mosmigrate [--no-wait] {pid} home
mosmigrate [--no-wait] {pid} out
mosmigrate [--no-wait] {pid} {checkpoint | chkstop | chkexit}
mosmigrate [--no-wait] {pid} {freeze | continue}
"""

MOSMIGRATE = Command("mosmigrate", SYNOPSIS, "manual control of running MOSIX processes",
                     (Option("--no-wait", "nowait", "return at once, as soon as the move is requested"),), permute=True)


def resolve(target: str) -> str:
    """What is written for ``target``: "home", a node-number or an IP. UserError for a host that nobody knows."""
    if target == "home" or is_ip(target) or (target.isascii() and target.isdigit()):
        return target
    from mosfs.cluster.address import lookup, system_resolver, to_ip

    address = lookup(target, system_resolver)
    if address is None:
        raise UserError(FAILED_MIGRATING.format(computer=target, reason=NOT_IN_MAP))
    return to_ip(address)


def await_move(tree: Tree, pid: str, before: int, target: str) -> None:
    """Return when a move after number ``before`` has succeeded; UserError with its reason when it failed."""
    try:
        result = tree.await_outcome(f"proc/{pid}/move", before)
    except OSError as error:
        raise UserError(ENDED.format(pid=pid)) from error
    if result != OK:
        raise UserError(FAILED_MIGRATING.format(computer=target, reason=result))


def migrate(tree: Tree, pid: str, target: str, *, wait: bool) -> None:
    value = resolve(target)
    try:
        before, _ = tree.outcome(f"proc/{pid}/move")
        tree.write(f"proc/{pid}/migrate", value)
    except OSError as error:
        if error.errno in (errno.EHOSTUNREACH, errno.EINVAL):
            raise UserError(FAILED_MIGRATING.format(computer=target, reason=NOT_IN_MAP)) from error
        raise refusal(pid, error) from error
    if wait:
        await_move(tree, pid, before, target)


def send_out(tree: Tree, pid: str, *, wait: bool) -> None:
    """Super-User only: a guest leaves this node. It has left when its folder is gone."""
    try:
        tree.write(f"guests/{pid}/migrate", "out")
    except OSError as error:
        if error.errno == errno.ENOENT and int(pid) in tree.pids("proc"):
            raise UserError(NO_GUEST.format(pid=pid)) from error
        raise refusal(pid, error) from error
    while wait and int(pid) in tree.pids("guests"):
        time.sleep(POLL)


def order(tree: Tree, pid: str, file: str, what: str, answers: str) -> int:
    """Write ``what`` to a file of the program; the number that the last order had which ``answers`` tells of."""
    try:
        before, _ = tree.outcome(f"proc/{pid}/{answers}")
        tree.write(f"proc/{pid}/{file}", what)
    except OSError as error:
        raise refusal(pid, error) from error
    return before


def await_answer(tree: Tree, pid: str, answers: str, before: int, failed: str) -> None:
    """Return when an order after number ``before`` has been carried out; UserError ``failed`` with the reason when it was not,
    OSError when the program has ended."""
    result = tree.await_outcome(f"proc/{pid}/{answers}", before)
    if result != OK:
        raise UserError(failed.format(pid=pid, reason=result))


def checkpoint(tree: Tree, pid: str, what: str, *, wait: bool) -> None:
    """Ask for a checkpoint, and await it; UserError with the reason when there is none."""
    before = order(tree, pid, "checkpoint", what, "checkpointed")
    if wait:
        try:
            await_answer(tree, pid, "checkpointed", before, NO_CHECKPOINT)
        except OSError as error:
            if what != "chkexit":
                raise UserError(ENDED_UNSAVED.format(pid=pid)) from error


def freeze(tree: Tree, pid: str, what: str, *, wait: bool) -> None:
    """Have it frozen, or go on; UserError with the reason when it is not."""
    before = order(tree, pid, "frozen", what, "freezing")
    if wait:
        try:
            await_answer(tree, pid, "freezing", before, NOT_FROZEN if what == "freeze" else NOT_CONTINUED)
        except OSError as error:
            raise UserError(ENDED_UNFROZEN.format(pid=pid)) from error


def body(options: Parsed) -> int:
    if len(options.rest) != 2:
        raise UsageError("a process ID and a target are needed")
    pid, target = options.rest
    if number_of(pid) is None:
        raise UserError(NO_SUCH_PROCESS.format(pid=pid))
    tree = Tree(NodePaths.from_env())
    tree.pids("proc")  # "not running" comes before "no such process"
    if target in CHECKPOINTS:
        checkpoint(tree, pid, target, wait="nowait" not in options)
    elif target in FREEZING:
        freeze(tree, pid, target, wait="nowait" not in options)
    elif target == "out":
        send_out(tree, pid, wait="nowait" not in options)
    else:
        migrate(tree, pid, target, wait="nowait" not in options)
    return 0


def main(argv: list[str] | None = None) -> int:
    return MOSMIGRATE.run(body, sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())
