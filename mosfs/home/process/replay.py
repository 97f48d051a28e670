"""What a program that outlives its node has asked of home since its last image, and what it was answered (`moves.outliving`).

A log has an entry for each call that the body has passed on, in their order. While it is repeated another body asks the same again:
it gets the same answers, and nothing is made twice. Whatever it asks otherwise is a divergence. Pure but for the records.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from xxhash import xxh3_128_digest

from mosfs.calls.request import CALL_HEAD
from mosfs.home.process.link import Link
from mosfs.migrate.freezefile import FilePlace
from mosfs.migrate.kept import KeptFile, Store
from mosfs.wire.asked import Outliving
from mosfs.wire.frames import Kind

#: Kind, payload and flags of a frame for the host.
Answer = tuple[int, bytes, int]
#: So many nodes in a row a program may lose without doing anything between.
MOST_IN_VAIN = 10
#: Bytes that an entry takes beside its answers.
OVERHEAD = 512
#: Where a CALL has the number of signals that its host had seen: it says nothing of what the program does (`calls.request`).
_SEEN = slice(12, 16)


class Diverged(Exception):
    """The program did not repeat what it had done."""


def fingerprint(kind: int, payload: bytes) -> bytes:
    """Tells apart two calls, with all the memory that they hand over: 16 bytes."""
    same = bytearray(payload)
    if len(same) >= CALL_HEAD.size:
        same[_SEEN] = bytes(4)
    return bytes(xxh3_128_digest(bytes((kind,)) + same))


@dataclass(slots=True)
class Entry:
    """A call and its answers. ``complete``: the last of these has ended it."""

    number: int  # of the call; its answer bears the same
    fingerprint: bytes
    answers: list[Answer] = field(default_factory=list)
    complete: bool = False


def without_signals(answers: list[Answer], newest: int) -> list[Answer]:
    """The answers without all signals but the ``newest`` ones."""
    old = sum(kind == Kind.SIGNAL for kind, *_ in answers) - newest
    left: list[Answer] = []
    for answer in answers:
        if answer[0] == Kind.SIGNAL and old > 0:
            old -= 1
        else:
            left.append(answer)
    return left


@dataclass(slots=True)
class Log:
    """``inside``: the image was made while the body waited in the first call of the log. ``at``: how many entries have been
    repeated, -1 while nothing is. ``size``: bytes."""

    entries: list[Entry] = field(default_factory=list)
    inside: bool = False
    at: int = -1
    size: int = 0
    later: list[Answer] = field(default_factory=list)  # frames for the host that came while the log was repeated

    @property
    def repeats(self) -> bool:
        return self.at >= 0

    @property
    def open(self) -> bool:
        """The body waits, or waited last, for an answer that is still to come."""
        return bool(self.entries) and not self.entries[-1].complete

    def asked(self, number: int, print_: bytes) -> None:
        """A call has come that was never made."""
        self.entries.append(Entry(number, print_))
        self.size += OVERHEAD

    def answered(self, answer: Answer, *, last: bool) -> None:
        """An answer to the call that the body waits in."""
        entry = self.entries[-1]
        entry.answers.append(answer)
        entry.complete = last
        self.size += len(answer[1])

    def cut(self, waiting: bool, signals: int | None = None) -> None:
        """An image stands for all that was before; ``waiting``: it was made inside the last call. ``signals``: how many of the last
        ones are not in it; None: there is no image, and all are kept."""
        self.entries = self.entries[-1:] if waiting else []
        if signals is not None:
            for entry in self.entries:
                entry.answers = without_signals(entry.answers, signals)
        self.inside, self.at = waiting and bool(self.entries), -1
        self.size = sum(OVERHEAD + sum(len(a[1]) for a in entry.answers) for entry in self.entries)

    # ------------------------------------------------------------------ repeating

    def begin(self) -> None:
        """The image will become a body: repeat the log from its first entry."""
        self.at = 0

    def entered(self) -> list[Answer]:
        """The new body runs. The answers to the call that it waits in, if its image was made inside one."""
        if not self.inside:
            self._stop_at_the_end()
            return []
        return self._next()

    def repeated(self, number: int, print_: bytes) -> list[Answer]:
        """The answers that a call of the new body had got before. Diverged: it is not the call of the log."""
        entry = self.entries[self.at]
        if entry.number != number or entry.fingerprint != print_:
            raise Diverged(f"call {self.at + 1} of {len(self.entries)} is another one")
        return self._next()

    def _next(self) -> list[Answer]:
        answers = [*self.entries[self.at].answers]
        self.at += 1
        self._stop_at_the_end()
        return answers

    def _stop_at_the_end(self) -> None:
        """When all entries have been repeated, the program's calls are made again."""
        if self.at >= len(self.entries):
            self.at = -1

    def take_later(self) -> list[Answer]:
        """Take out what has waited for the end of the log."""
        later, self.later = self.later, []
        return later


@dataclass(slots=True)
class Backup:
    """What is kept of one program that outlives its node. ``file``: its last image; ``unsafe``: why it cannot be made again from
    there, "" if it can."""

    log: Log = field(default_factory=Log)
    file: Link | None = None
    seq: int = 0  # in ``file``: number of the call that the body had passed on last
    unsafe: str = "there is no image of it yet"
    since: str = ""  # as ``unsafe``, of what has happened since the next image was begun
    saving: Link | None = None  # the next image, while it is being made
    kept_by: Link | None = None  # to the host that has sent ``file``, and remembers what it has sent
    differs: bool = False  # that host may leave out of ``saving`` what has not changed
    next_seq: int = 0  # in ``saving``: as ``seq``
    next_seen: int = 0  # in ``saving``: SIGNAL frames that its host had received
    waits: bool = False  # the body waits in a call in ``saving``
    due: float = 0.0  # when the next image is begun, by CLOCK_MONOTONIC
    stood: float = 0.0  # seconds that the program stood still for the last image
    pause: float = 0.0  # seconds from the last image to the next
    files: set[int] = field(default_factory=set)  # numbers of the files that the program maps, or has mapped
    saves: int = 0  # images that were made
    lives: int = 0  # nodes that the program has outlived
    reached: tuple[int, int] = (-1, -1)  # numbers of images and of calls in the log when a node was lost last
    in_vain: int = 0  # nodes lost one after the other without an image or a call between
    lost: str = ""  # the node that was lost last

    def lose(self) -> bool:
        """Count a lost node. False: `MOST_IN_VAIN` in a row were lost with no image or call between: the program may end them."""
        reached = self.saves, len(self.log.entries)
        self.in_vain, self.reached = self.in_vain + 1 if reached == self.reached else 0, reached
        return self.in_vain < MOST_IN_VAIN

    def shown(self) -> Outliving:
        """What mosd shows of it; of the log, whole megabytes, so that it is news seldom."""
        image = self.file.channel if self.file is not None else None
        log = self.log.size >> 20 << 20
        if not isinstance(image, KeptFile):
            return Outliving(self.saves, 0, log, round(self.pause, 1), self.lives, self.unsafe, 0, log)
        return Outliving(
            self.saves, image.written, log, round(self.pause, 1), self.lives, self.unsafe, image.brought, log + image.memory,
        )  # fmt: skip

    def next_file(self, places: Sequence[FilePlace], host: Link | None) -> Link:
        """Where the next image goes, which ``host`` sends."""
        last = self.file.channel if self.file is not None else None
        before = last if isinstance(last, KeptFile) and not last.lost else None
        self.differs, self.kept_by = before is not None and self.kept_by is host, None
        store = before.store if before is not None else Store(places)
        self.saving = Link(KeptFile(store, before), "", near=True)
        return self.saving
