"""Frames of a data channel: a 16-byte header in the clear (authenticated), then a payload. Little-endian.

========  ====  =====================================================
length    u32   of the payload
kind      u16   `Kind`
flags     u16   of the kind
pair      u64   home PID of the program the frame is about
========  ====  =====================================================
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

HEADER = struct.Struct("<IHHQ")
MAX_PAYLOAD = 64 << 20


class Kind(IntEnum):
    """Who sends it, and when (states: `docs/design/migration.md`)."""

    # image, in either direction
    IMAGE = 1  # ImageMeta; what follows until IMAGE_END belongs to it
    PAGES = 2  # PAGES header and raw pages
    IMAGE_END = 3  # number of PAGES frames
    READY = 4  # receiver: the body stands complete
    FAIL = 5  # receiver: it cannot be built, reason as text
    EARLY = 6  # pre-copy: mappings to make, (start, end, grows down); none: forget all that was sent
    ROUND = 7  # pre-copy: the end of a round; the receiver sends it back when it is done
    FILE = 9  # contents of a file that the program maps (`migrate.filecopy`), before the image or whenever they change
    PRIVATE = 70  # contents of a private file (`ptf.travel`), before the image
    # tracer -> host
    GO = 16  # after READY: run
    REPLY = 17  # outcome of CALL
    SIGNAL = 18  # siginfo for a handler of the body
    STOP = 19  # group stop: do not run
    CONT = 20
    RECALL = 21  # send the image home
    MOVE_TO = 22  # send the image to another host
    RESUME = 23  # the move failed: go on here
    DROP = 24  # the body is not wanted any more
    FORK_REPLY = 25
    CLOCK = 26  # home time
    ABOUT = 27  # settings and statistics of the program
    EXECED = 28  # exec succeeded at home: the body is dropped, a new image follows
    MMAP_DATA = 29
    MAIL_TABLE = 40  # the program's descriptors for direct communication
    COPY = 30  # pre-copy to the host of this MoveOrder
    STAYED = 31  # STEP_OUT is not followed: reason
    CPU_ALARM = 32  # CPU time as in CPU_TIME, in all and of user: tell when it is reached; in the other direction: it is
    FETCH = 71  # before EXECED: send the private files home
    # host -> tracer
    CALL = 48
    FORK = 49
    EXEC = 50
    DIED = 51  # the body died here: wait status
    CANNOT = 52  # RECALL or MOVE_TO cannot be served: reason; the body goes on
    STEP_OUT = 53  # this node wants the guest to leave: where to and why, nothing for home
    MMAP = 55
    WANT = 67  # more of a file that the body maps (`migrate.filecopy.WANT`): FILE and a REPLY
    USED = 56  # CPU time and memory, once a second while there is any
    PREPARED = 61  # the host stands, with an empty body: the program may be stopped now (pair 0)
    CPU_TIME = 57  # CPU time that the program has used away so far: ns of user, ns of system, u64 each
    MMAP_NAME = 54  # tracer -> host, before the REPLY to MMAP: number of the file u32 (0: what it shows comes as MMAP_DATA), name
    SHOWN = 64  # text of a file in /proc about the body's memory, of which an open follows
    TITLE = 65  # arguments and environment, where the program has written over them
    RUNNING = 60  # after GO: the body runs, the move is committed
    COPIED = 62  # pre-copy: what is left may be sent now (MOVE_TO)
    MASK = 58  # the body has blocked signals: its mask
    MAIL_SEEN = 72  # what the program's calls on its mailbox have changed, before it matters at home
    MANIFEST = 75  # after FETCH and the files: what they are
    PRIVATE_OPEN = 73  # a descriptor for a private file is wanted (`orders.PrivateOpen`)
    PRIVATE_FULL = 74  # a write to a private file does not fit here: the body waits in it, to make it at home
    ASK_CLOCK = 63  # what is your time? Our CLOCK_MONOTONIC, which comes back with CLOCK
    RESET = 59  # a handler with SA_RESETHAND was called: its signal


class Frame(NamedTuple):
    kind: int
    flags: int
    pair: int
    payload: bytes
