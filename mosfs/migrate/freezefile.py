"""A freeze file: the image of a frozen program, and the end of a data channel that has nothing behind it but this file.

To a tracer a frozen program is away in a file: what a host would be sent goes there, and comes back when it is recalled, by the
same frames (`wire.frames`). Signals and answers for the program are kept meanwhile. The records are those of a checkpoint file
(`migrate.checkpoint`); the file has no name, and where one directory has no room any more it goes on in another.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any

from mosfs.abi.texts import Text, text
from mosfs.migrate.checkpoint import FRAMES, Reader, Writer, put
from mosfs.migrate.image import BadImage
from mosfs.migrate.maps import CannotMove
from mosfs.migrate.pages import for_file
from mosfs.wire.channel import PATIENCE, ChannelLost
from mosfs.wire.frames import BadFrame, Frame, Kind, To, check

#: What is kept on the disk, and what for the program that stands still.
IMAGE = frozenset({Kind.PRIVATE, Kind.IMAGE, Kind.PAGES, Kind.RUNS, Kind.IMAGE_END})
ANSWERS = frozenset({Kind.SIGNAL, Kind.REPLY})
#: Where O_TMPFILE is not known (open(2)); NFS is such a place.
_UNKNOWN = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT})
_NAMES = 100
#: A directory has no room (write(2)).
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@dataclass(frozen=True, slots=True)
class FilePlace:
    """A freezing directory, and with whose rights files are made there."""

    directory: str
    rights: Callable[[], AbstractContextManager[None]] = nullcontext


class NoSpace(CannotMove):
    """There is no directory in which the rest of a file finds room."""

    def __init__(self, why: str) -> None:
        super().__init__(f"{text(Text.NO_FREEZE_SPACE)} ({why})")


def nameless(directory: str) -> int:
    """A new file without a name. OSError."""
    flags = os.O_RDWR | os.O_CLOEXEC
    try:
        return os.open(directory, flags | os.O_TMPFILE | os.O_EXCL, 0o600)
    except OSError as error:
        if error.errno not in _UNKNOWN or not os.path.isdir(directory):
            raise
    for number in range(_NAMES):
        path = os.path.join(directory, f".freeze.{os.getpid()}.{number}")
        try:
            fd = os.open(path, flags | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        except FileExistsError:
            continue
        with suppress(OSError):
            os.unlink(path)
        return fd
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), directory)


class Spread(Writer):
    """Writes to as many of ``places`` as it takes, the first ones first. NoSpace."""

    def __init__(self, places: Sequence[FilePlace]) -> None:
        super().__init__(-1)
        self._left = [*places]
        self._why, self.full = "no freezing directory", False
        self.directory = ""
        self.fds: list[int] = []

    def _next(self) -> None:
        while self._left:
            place = self._left.pop(0)
            self._rights = place.rights
            try:
                with place.rights():
                    self._fd = nameless(place.directory)
            except OSError as error:
                self._failed(place.directory, error)
                continue
            self.directory = place.directory
            self.fds.append(self._fd)
            return
        raise NoSpace(self._why)

    def _failed(self, directory: str, error: OSError) -> None:
        self._why = f"{directory}: {os.strerror(error.errno or errno.EIO)}"
        self.full = self.full or error.errno in FULL

    def _put(self, left: list[memoryview]) -> None:
        if self._fd < 0:
            self._next()
        while True:
            end = os.lseek(self._fd, 0, os.SEEK_CUR)
            try:
                with self._rights():
                    self.written += put(self._fd, left)
                return
            except OSError as error:
                self._failed(self.directory, error)
                os.ftruncate(self._fd, end)  # a record is in one file
                self._next()

    def close(self) -> None:
        fds, self.fds = self.fds, []
        for fd in fds:
            os.close(fd)


class FreezeFile:
    """To be used as a `wire.channel.Channel` whose other end does nothing by itself; all programs have one of their own.

    ``answers``: frames (kind, payload, flags) that came for each of its threads while it is frozen, by ID."""

    def __init__(self, places: Sequence[FilePlace], *, compressed: bool = False) -> None:
        """Nothing is opened before it is needed. ``compressed``: so is memory that comes from a host."""
        self.lost = False
        self._compressed = compressed
        self.waited = 0.0
        self.answers: dict[int, list[tuple[int, bytes, int]]] = {}
        self.complete = False  # the image is complete
        self._file = Spread(places)
        self._frames: Iterator[Frame] | None = None

    @property
    def written(self) -> int:
        """Bytes on the disk."""
        return self._file.written

    @property
    def pages(self) -> int:
        """How many frames with pages there are."""
        return self._file.pages

    @property
    def full(self) -> bool:
        """A directory has had no room."""
        return self._file.full

    @property
    def directory(self) -> str:
        """The directory in which the end of the file is."""
        return self._file.directory

    def fileno(self) -> int:
        return -1

    def close(self) -> None:
        self.lost = True
        self._frames = None
        self._file.close()

    # ------------------------------------------------------------------ to the file

    def send(self, kind: int, pair: int, payload: Any = b"", flags: int = 0) -> None:
        """What belongs to the image is written, NoSpace; what is for the program is kept; what only a host can do is not done."""
        if kind in ANSWERS:
            self.answers.setdefault(pair, []).append((kind, bytes(payload), flags))
        elif kind == Kind.RECALL:
            self._begin(pair)
        elif kind == Kind.RESUME:
            self._frames = None
        elif kind in IMAGE and not self.complete:
            self._keep_frame(kind, pair, payload)

    def take(self, frame: Frame) -> None:
        """Keep a frame of an image that comes from a host. BadImage for what is damaged; NoSpace."""
        if frame.kind not in IMAGE:
            raise BadImage(f"a frame {frame.kind} in it")
        payload = for_file(frame, compressed=self._compressed) if frame.kind in (Kind.PAGES, Kind.RUNS) else frame.payload
        if not self.complete:
            self._keep_frame(frame.kind, frame.pair, payload)

    def _keep_frame(self, kind: int, pair: int, payload: Any) -> None:
        self._file.send(kind, pair, payload)
        if kind == Kind.IMAGE_END:
            self._file.end()
            self.complete = True

    @property
    def unsent(self) -> int:
        return 0

    def flush(self) -> None:
        """All has been written."""

    def takes_more(self) -> bool:
        return True

    def frames(self) -> Iterator[Frame]:
        """Nothing comes by itself."""
        return iter(())

    # ------------------------------------------------------------------ from the file

    def _begin(self, pair: int) -> None:
        if self.lost:
            raise ChannelLost("closed")
        for fd in self._file.fds:
            os.lseek(fd, 0, os.SEEK_SET)
        self._frames = self._reading(pair)

    def _reading(self, pair: int) -> Iterator[Frame]:
        first, *more = self._file.fds
        for kind, payload in Reader(first, more).records():
            yield Frame(kind - FRAMES, 0, pair, payload, check(To.TRACER, kind - FRAMES, 0, pair, payload))

    def pending(self) -> bool:
        """It was recalled, and there is more."""
        return self._frames is not None

    def receive(self, timeout: float = PATIENCE) -> Frame:
        """The next frame of an image that was recalled. ChannelLost when the file is damaged."""
        try:
            if self._frames is None:
                raise BadImage("it was read to its end")
            return next(self._frames)
        except StopIteration:
            raise self.fail("it ends too early") from None
        except (BadImage, BadFrame) as error:
            raise self.fail(str(error)) from error

    def fail(self, text: str) -> ChannelLost:  # as of a channel
        """The file is of no use any more; to be raised."""
        self.lost = True
        return ChannelLost(text)
