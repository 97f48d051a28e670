"""Recording the frames of data channels, for whoever looks for a fault of a move: MOSIX_RECORD=DIRECTORY in mosd's environment.

Each end of each channel then makes a file ``PID-NUMBER.frames`` in that directory: `MAGIC`, and for every frame `ENTRY`, its header
(`frames.HEADER`) and its payload, as they were before encryption or after decryption. ``mosfs.tools.image`` shows such a file.

**A recording holds the memory of programs.** So the directory must belong to the user who records and be closed to all others (mode
0700), the files get mode 0600, and one that would be longer than `MOST` bytes ends there.
"""

from __future__ import annotations

import errno
import itertools
import os
import stat
import struct
import time
from collections.abc import Iterator
from typing import Any, BinaryIO

from mosfs.wire.frames import HEADER, MAX_PAYLOAD

VARIABLE = "MOSIX_RECORD"
MAGIC = b"mosfs frames 1\n\0"
#: Time (CLOCK_REALTIME, ns), u64; the direction, u8: `SENT` or `RECEIVED`.
ENTRY = struct.Struct("<QB")
SENT, RECEIVED = 0, 1
MOST = 1 << 30

_numbers = itertools.count()


class Record:
    """A file that frames are written to, until it is full or cannot be written."""

    def __init__(self, directory: str) -> None:
        """OSError, PermissionError if others may enter or read ``directory``."""
        folder = _folder(directory)
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
            self._fd = os.open(f"{os.getpid()}-{next(_numbers)}.frames", flags, 0o600, dir_fd=folder)
        finally:
            os.close(folder)
        self._size = 0
        self._write(MAGIC)

    def note(self, direction: int, header: bytes, payload: Any) -> None:
        self._write(b"".join((ENTRY.pack(time.time_ns(), direction), header, payload)))

    def _write(self, data: bytes) -> None:
        if self._fd < 0:
            return
        try:
            if self._size + len(data) <= MOST and os.write(self._fd, data) == len(data):
                self._size += len(data)
                return
        except OSError:
            pass
        self.close()

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def check(directory: str) -> None:
    """OSError if nothing can be recorded in ``directory``."""
    os.close(_folder(directory))


def begin() -> Record | None:
    """A recording if the environment asks for one; mosd has looked at the directory when it started (`check`)."""
    directory = os.environ.get(VARIABLE, "")
    if not directory:
        return None
    try:
        return Record(directory)
    except OSError:
        return None


def _folder(directory: str) -> int:
    folder = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    status = os.fstat(folder)
    if status.st_uid == os.geteuid() and not stat.S_IMODE(status.st_mode) & 0o077:
        return folder
    os.close(folder)
    raise PermissionError(errno.EPERM, "must be owned by the user of mosd, with mode 0700", directory)


class BadRecording(ValueError):
    """The file is no recording, or is cut; the text says where."""


def read(file: BinaryIO) -> Iterator[tuple[int, int, int, int, int, bytes]]:
    """(time, direction, kind, flags, pair, payload) of each frame; `BadRecording` at what is none."""
    if file.read(len(MAGIC)) != MAGIC:
        raise BadRecording("not a recording of frames")
    number = 0
    while entry := file.read(ENTRY.size):
        number += 1
        header = file.read(HEADER.size)
        if len(entry) < ENTRY.size or len(header) < HEADER.size:
            raise BadRecording(f"frame {number} is cut")
        at, direction = ENTRY.unpack(entry)
        length, kind, flags, pair = HEADER.unpack(header)
        if length > MAX_PAYLOAD or direction not in (SENT, RECEIVED):
            raise BadRecording(f"frame {number} is no frame")
        payload = file.read(length)
        if len(payload) < length:
            raise BadRecording(f"frame {number} is cut")
        yield at, direction, kind, flags, pair, payload
