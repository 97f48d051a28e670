"""Numbered fault points of moves and checkpoints. ``MOSIX_FAULT=N[:action]`` makes point N fail, for tests of what follows.

Actions: ``cut`` (default) breaks the data channel there, ``die`` kills the process there as by SIGKILL, ``end`` the program,
``refuse`` raises OSError(ENOMEM), ``raise`` what nobody has foreseen. ``MOSIX_FAULT=N:action:NAME`` concerns only programs of
this name (at the points of `Serving`, `Birth`, `Saving` and `Freezing`); there may be several, with commas between. The
environment is that of mosd; tracers and hosts inherit it through the fork server. Each process fails once at a point.
"""

from __future__ import annotations

import errno
import os
import signal
from enum import IntEnum

from mosfs.wire.channel import ChannelLost, Peer


class Point(IntEnum):
    """Where in a move. HOME_* in the tracer, NODE_* in a host; tests go by the names (docs/design/how-to-add.md)."""

    HOME_BEFORE_IMAGE = 1
    HOME_IN_IMAGE = 2
    HOME_BEFORE_END = 3
    HOME_AFTER_IMAGE = 4
    NODE_BEFORE_BODY = 5
    NODE_MAPPED = 6
    NODE_FILLED = 7
    NODE_BEFORE_READY = 8
    NODE_AFTER_READY = 9
    HOME_BEFORE_COMMIT = 10
    NODE_AFTER_GO = 11
    NODE_BEFORE_RETURN = 12
    NODE_IN_RETURN = 13
    NODE_AFTER_RETURN = 14
    HOME_BEFORE_RETURN = 15
    HOME_RETURN_COMMITTED = 16
    NODE_BEFORE_ONWARD = 17
    NODE_IN_ONWARD = 18
    NODE_AFTER_ONWARD = 19
    HOME_ONWARD_COMMITTED = 20
    HOME_COPYING = 21
    NODE_COPYING = 22


class Serving(IntEnum):
    """Where a program is served, again and again, in no move."""

    HOME_CALL = 101  # it has stopped at a call at home
    NODE_CALL = 102  # away
    HOME_FRAME = 103  # a frame about it has come
    NODE_FRAME = 104  # the same at its host


class Birth(IntEnum):
    """Where a program makes a process: it has done so at home, its deputy has, its host is told of that, the body is to follow."""

    AT_HOME = 201
    DEPUTY = 202
    TOLD = 203
    BODY = 204


class Saving(IntEnum):
    """Stages of a checkpoint, and of going on from one."""

    PLANNED = 301  # the program stands; what is to be written is known
    FORKED = 302  # its twin is there
    CREATED = 303  # the file is there, empty and under another name
    PAGES = 304  # a part of the memory is written
    WRITTEN = 305  # all is written, but not its end
    SYNCED = 306  # it is on the disk, still under another name
    LINKED = 307  # of an incremental one: what it may share is in its folder, too
    OPENED = 311  # the head is read, the files are open
    CLEARED = 312  # the memory of the process is gone
    MAPPED = 313  # the image is read
    FILLED = 314  # a part of the memory is read
    WHOLE = 315  # all is read and made, but does not run
    THREAD = 317  # of several threads: one but the first is made
    SHARED = 316  # of an incremental one: a part of the memory is read from another file


class Freezing(IntEnum):
    """Stages of freezing, and of un-freezing."""

    BEGUN = 401  # the program stands, its image is known; no pages are written
    PAGES = 402  # a part of the memory is written
    WRITTEN = 403  # all is written, the program still has its memory
    THAWING = 411  # it was asked to go on; nothing has been read
    READ = 412  # all is read and made, but does not run


class Sharing(IntEnum):
    """Stages of a move of processes that share memory."""

    HOME_ALL_STAND = 501  # all stand complete at the new node
    HOME_BEFORE_GO = 502  # what they share is there, too
    HOME_MEMBER_CAME = 503  # one has come home, others have not
    HOME_ALL_CAME = 504  # all have come home
    NODE_CONTENTS = 505  # what they share is about to be sent home


#: What must be seen after a cut. True: the program survives with its native result, because home or the old node has a
#: whole copy of it and nothing else has run; False: it may end as the manual says.
SURVIVES_CUT = {p: p not in (
    Point.NODE_BEFORE_RETURN, Point.NODE_IN_RETURN, Point.HOME_BEFORE_RETURN, Point.NODE_BEFORE_ONWARD,
    Point.HOME_ONWARD_COMMITTED,
) for p in Point}  # fmt: skip

_spent: set[IntEnum] = set()
#: Which faults are to be made ("" in every cluster but those of tests).
WANTED = os.environ.get("MOSIX_FAULT", "")


def fault(point: IntEnum, channel: Peer | None = None, name: str = "", pid: int = 0) -> None:
    """Fail here if the environment says so. ``name``, ``pid``: of the program, which stands still."""
    if not WANTED:
        return
    for wanted in WANTED.split(","):
        number, action, who = (*wanted.split(":"), "", "")[:3]
        if number.isdigit() and int(number) == point and point not in _spent and who in ("", name):
            _fail(point, action, channel, pid)


def _fail(point: IntEnum, action: str, channel: Peer | None, pid: int) -> None:
    _spent.add(point)
    if action == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if action == "end":
        os.kill(pid or os.getpid(), signal.SIGKILL)
        return
    if action == "raise":
        raise RuntimeError(f"fault {point.name}")
    if action == "refuse":
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
    if channel is not None:
        channel.close()
    raise ChannelLost(f"fault {point.name}")
