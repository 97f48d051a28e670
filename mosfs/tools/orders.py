"""Orders of the Super-User to this node's mosd: a write to a file of ``node/``, and the configuration read again."""

from __future__ import annotations

import errno
import time

from mosfs.abi.outcomes import OK
from mosfs.tools.options import UserError
from mosfs.tools.text import NOT_RUNNING
from mosfs.tools.tree import POLL, Tree

#: To node/reload: the map that holds.
SAME_MAP = "."
#: The same: a job's cluster if there is one, else mosix.map.
USUAL_MAP = ""
SUPER_USER = "{verb}: only for the Super-User"


def write(tree: Tree, verb: str, name: str, value: str) -> None:
    """Write a file of ``node/``. UserError for ordinary users."""
    tree.fact("pid")
    try:
        tree.write(f"node/{name}", value)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM):
            raise UserError(SUPER_USER.format(verb=verb)) from error
        raise UserError(f"{verb}: {error.strerror}") from error


def configure(tree: Tree, mapfile: str = SAME_MAP, *, wait: bool = True, verb: str = "the configuration") -> None:
    """mosd reads its files (``mapfile`` as in node/reload); returns when it has, and if ``wait`` is set, when everything is where
    they allow it. UserError with what is wrong in them."""
    tree.fact("reload")  # "not running" comes before all else
    before, _ = tree.outcome("node/reload")
    write(tree, verb, "reload", mapfile)
    try:
        result = tree.await_outcome("node/reload", before)
    except OSError as error:
        raise UserError(NOT_RUNNING.format(socket=tree.paths.socket)) from error
    if result != OK:
        raise UserError(result)
    while wait and tree.fact("misplaced") != "0":
        time.sleep(POLL)
