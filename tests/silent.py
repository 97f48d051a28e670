"""A FUSE file system with one file, ``/file``, that answers all questions but those that it keeps silent about.

    python -m tests.silent FOLDER UID QUESTION [LATER]

Mounts itself at FOLDER (root only) in the name of UID, says "mounted", and never answers the QUESTION: the number of an operation
in <linux/fuse.h>. The first LATER of them it does answer; if that is negative, all of them, each so many seconds late. It ends
with its standard input.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import struct
import sys
import time
from contextlib import suppress

LOOKUP, FORGET, GETATTR, OPEN, READ, RELEASE, FLUSH, INIT, OPENDIR, READDIR = 1, 2, 3, 14, 15, 18, 25, 26, 27, 28
WRITE, BATCH_FORGET, INTERRUPT = 16, 42, 36
MNT_DETACH = 2
SIZE = 1 << 20
#: Questions without an answer.
QUIET = (FORGET, BATCH_FORGET, INTERRUPT)

_libc = ctypes.CDLL(None, use_errno=True)


def attributes(node: int, uid: int) -> bytes:
    """struct fuse_attr."""
    mode, size = (0o40755, 0) if node == 1 else (0o100666, SIZE)
    return struct.pack("<6Q10I", node, size, size // 512, 0, 0, 0, 0, 0, 0, mode, 1, uid, uid, 0, 4096, 0)


def answer(kind: int, node: int, uid: int, body: bytes) -> bytes | int:
    """What follows the head of the answer, or an error."""
    match kind:
        case 26:
            return struct.pack("<IIIIHHIIHHI28x", 7, 31, 0, 0, 12, 10, 1 << 16, 1, 16, 0, 0)
        case 1:
            if node == 1 and body == b"file\0":
                return struct.pack("<6Q", 2, 0, 3600, 0, 0, 0)[:40] + attributes(2, uid)
            return -errno.ENOENT
        case 3:
            return struct.pack("<QII", 0, 0, 0) + attributes(node, uid)
        case 14 | 27:
            return struct.pack("<QII", 1, 0, 0)
        case 15 | 28:
            return b"a" * struct.unpack_from("<QQI", body)[2] if kind == READ else b""
        case 16:
            return struct.pack("<II", struct.unpack_from("<QQI", body)[2], 0)
        case 18 | 25 | 29:
            return b""
    return -errno.ENOSYS


def serve(fuse: int, uid: int, silent: int, later: int) -> None:
    """Until standard input ends."""
    late = -later
    while True:
        ready, _, _ = select.select([fuse, 0], [], [])
        if 0 in ready:
            return
        try:
            question = os.read(fuse, 1 << 18)
        except OSError as error:
            if error.errno == errno.ENODEV:
                return
            continue
        _, kind, unique, node = struct.unpack_from("<IIQQ", question)
        if kind in QUIET:
            continue
        if kind == silent and late > 0:
            time.sleep(late)
        elif kind == silent:
            later -= 1
            if later < 0:
                continue
        found = answer(kind, node, uid, question[40:])
        data, code = (b"", found) if isinstance(found, int) else (found, 0)
        with suppress(OSError):
            os.write(fuse, struct.pack("<IiQ", 16 + len(data), code, unique) + data)


def main(folder: str, uid: int, silent: int, later: int = 0) -> None:
    fuse = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={fuse},rootmode=40000,user_id={uid},group_id={uid},allow_other".encode()
    if _libc.mount(b"silent", folder.encode(), b"fuse.silent", 0, options):
        raise OSError(ctypes.get_errno(), "mount")
    try:
        print("mounted", flush=True)
        serve(fuse, uid, silent, later)
    finally:
        _libc.umount2(folder.encode(), MNT_DETACH)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
