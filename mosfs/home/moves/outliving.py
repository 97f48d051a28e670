"""Programs that outlive the node they run on (mosrun --outlive; docs/design/outliving.md).

An image of such a program is kept at home, in a file as of a frozen one, and the log of what it has asked since, and was answered::

    away      RECALL --> host; its frames --> file (`moves.freezing`); whole: `saved`, and the host goes on (RESUME)
    its host is lost (`revives`)
              the file is sent to another node, as by an old host; RUNNING: `begins`
    repeating each call of the new body is answered from the log (`passes`), until that ends; then the program lives

Nothing is made twice: what the log holds has been made by the deputy, which lives at home. Some events cannot be repeated (a signal
that met the program between two calls, a fork): until an image is behind them the program is lost with its node, as others are.
"""

from __future__ import annotations

import time
from collections.abc import Generator

from mosfs.abi.reasons import Reason
from mosfs.abi.texts import Text, text
from mosfs.balance import images
from mosfs.home.ports import Tree
from mosfs.home.process.link import Link
from mosfs.home.process.move import BEST, Move
from mosfs.home.process.program import Program
from mosfs.home.process.replay import Backup, Diverged, fingerprint
from mosfs.migrate import image
from mosfs.migrate.image import BadImage
from mosfs.trace.task import TaskGone
from mosfs.wire.channel import ChannelLost
from mosfs.wire.frames import NUMBERED, Frame, Kind
from mosfs.wire.orders import MmapOrder

#: Bytes of a log that force an image, and those of which the program is safe no more.
MUCH, MOST = 32 << 20, 256 << 20
#: Seconds until another node is asked, or an image is tried again.
AGAIN = 1.0
#: The same after one that could not be taken, and while something that no image holds belongs to the program.
FAILED_AGAIN, HINDERED_AGAIN = 5.0, 600.0
#: Seconds of slices between two looks at the events of the tree, for all that is being sent.
TURN = 0.005
#: What a body asks that is answered by a REPLY alone, and so can be answered again.
REPEATABLE = frozenset({Kind.CALL, Kind.MMAP})
#: What changes the deputy only. It has been done when it comes again.
DONE = frozenset({Kind.MASK, Kind.ACTION, Kind.RESET, Kind.SHOWN, Kind.CPU_TIME, Kind.THREAD_TIME, Kind.TITLE, Kind.MAIL_SEEN})
#: What is told a host once, and cannot be told again.
UNREPEATABLE: dict[int, str] = {Kind.MMAP_DATA: "it maps a file that cannot be followed", Kind.MAIL_TABLE: str(Reason.MAILS)}
#: What leaves no trace in the program, whenever it comes.
UNSEEN = frozenset({Kind.STOP, Kind.CONT, Kind.ABOUT, Kind.CPU_ALARM, Kind.STAYED, Kind.SHOW, Kind.CLOCK, Kind.FILE})


class Outliving:
    def __init__(self, tracer: Tree) -> None:
        self.tracer = tracer
        self._programs: dict[int, Program] = {}
        self._sending: dict[int, tuple[Program, Move, Generator[None, None, None]]] = {}
        self._seek_at: dict[int, float] = {}  # programs without a node: when another one is asked

    # ------------------------------------------------------------------ images

    def left(self, p: Program, *, inside: bool, born: bool = False) -> None:
        """It is away from now on; ``inside``: in a call that its deputy makes; ``born``: its host does not have it yet."""
        if p.settings.outlive != 1:
            return
        backup = p.saves.outlive = Backup(due=time.monotonic() + AGAIN if born else 0.0)
        self._programs[p.pid] = p
        if inside:
            backup.log.asked(p.body.seq, b"")

    def home(self, p: Program) -> None:
        """It is at home, or ends: nothing need be kept."""
        backup, p.saves.outlive = p.saves.outlive, None
        self._programs.pop(p.pid, None)
        self._sending.pop(p.pid, None)
        self._seek_at.pop(p.pid, None)
        for file in (backup.file, backup.saving) if backup is not None else ():
            if file is not None:
                file.channel.close()

    def due(self) -> float | None:
        """When `look` has something to do, by CLOCK_MONOTONIC."""
        if self._sending:
            return 0.0
        waiting = [
            backup.due for p in self._programs.values() if (backup := p.saves.outlive) is not None and self._wants(p, backup)
        ]
        return min([*waiting, *self._seek_at.values()], default=None)

    def look(self, now: float) -> None:
        """Images that are due, what is being sent, and programs without a node."""
        for p in [*self._programs.values()]:
            backup = p.saves.outlive
            if backup is not None and backup.due <= now and self._wants(p, backup):
                with self.tracer.containment.of(p):
                    self._save(p, backup)
        for p, move, slices in [*self._sending.values()]:
            with self.tracer.containment.of(p):
                self._slices(p, move, slices)
        for pid in [pid for pid, moment in self._seek_at.items() if moment <= now]:
            del self._seek_at[pid]
            if (q := self._programs.get(pid)) is not None:
                with self.tracer.containment.of(q):
                    self._seek(q)

    def _wants(self, p: Program, backup: Backup) -> bool:
        """Whether there shall be another image: not of a program that has not gone on since the last one."""
        rests = backup.log.inside and len(backup.log.entries) == 1 and not backup.unsafe
        return p.away and p.move is None and not (rests or backup.log.repeats or p.halted or p.frozen.mark)

    def _save(self, p: Program, backup: Backup) -> None:
        backup.due = time.monotonic() + AGAIN
        if p.post.mail is not None or p.private is not None:
            backup.unsafe = Reason.MAILS if p.private is None else Reason.PRIVATE_FILES
            backup.due += HINDERED_AGAIN
            return
        file = backup.next_file(self.tracer.freezing.places(p), p.link)
        backup.since, p.frozen.begun = "", False
        began = time.monotonic()

        def done(reason: str) -> None:
            if not reason:
                backup.stood = p.travel.freeze_ms / 1000
            elif backup.file is not file:  # else its host was lost when the image was whole, and it goes on from there
                backup.saving = None
                file.channel.close()
                if backup.file is None:
                    backup.unsafe = f"there is no image of it: {reason}"
                    self.tracer.mosd.announce(p)
                self.tracer.mosd.log(f"pid={p.pid} no image of it to outlive its node: {reason}", 30)
            self._plan(backup, time.monotonic() - began if reason else 0.0)

        self.tracer.moves.request(p, Move("", "kept", done=done, freezes=file))

    def _plan(self, backup: Backup, failed: float = 0.0) -> None:
        """When the next image is due."""
        backup.pause = FAILED_AGAIN + 10 * failed if failed else images.pause(backup.stood, safe=not backup.unsafe)
        backup.due = time.monotonic() + backup.pause

    def begun(self, p: Program, meta: image.ImageMeta) -> None:
        """The head of an image has come."""
        backup = p.saves.outlive
        if backup is not None:
            backup.next_seq, backup.next_seen, backup.waits = meta.seq, meta.seen, meta.waiting

    def saved(self, p: Program, file: Link) -> None:
        """An image is whole: its host goes on. What the log holds of the time before is not needed any more."""
        backup = p.saves.outlive
        if backup is not None and backup.saving is file:
            if backup.file is not None:
                backup.file.channel.close()
            backup.file, backup.saving, backup.seq = file, None, backup.next_seq
            backup.kept_by = p.link
            backup.saves += 1
            backup.unsafe = backup.since
            backup.log.cut(backup.waits, signals=p.body.signals - backup.next_seen)
            if backup.waits and not (backup.log.entries and backup.log.entries[0].number == backup.seq):
                backup.unsafe = "its image was made in a call that is not in the log"
        self.tracer.moves.resume_old(p, "")

    # ------------------------------------------------------------------ what is said

    def happened(self, p: Program, what: str) -> None:
        """Something that cannot be repeated: the program is not safe before an image is behind it."""
        backup = p.saves.outlive
        if backup is None or p.link is backup.file:
            return
        if not backup.unsafe:
            _hasten(backup)
        news, backup.unsafe, backup.since = not backup.unsafe, what, what
        if news:
            self.tracer.mosd.announce(p)

    def passes(self, p: Program, frame: Frame) -> bool:
        """A frame of its host. False: it has been dealt with, because it repeats what was before."""
        backup = p.saves.outlive
        if backup is None:
            return True
        log, kind = backup.log, frame.kind
        if not log.repeats:
            if kind in REPEATABLE:
                log.asked(frame.flags >> 1, fingerprint(kind, frame.payload))
                self._bound(p, backup)
            elif kind in NUMBERED or kind == Kind.FORK:
                self.happened(p, "it maps a file, forks, or executes a program")
            return True
        if kind in DONE:
            return False
        if kind in REPEATABLE:
            try:
                answers = log.repeated(frame.flags >> 1, fingerprint(kind, frame.payload))
                if kind == Kind.MMAP:
                    _map(self.tracer, p, frame.content, answers)
                self._give(p, backup, answers)
            except Diverged as error:
                self._end(p, backup, str(error))
            return False
        if kind in NUMBERED or kind in (Kind.FORK, Kind.DIED):
            self._end(p, backup, f"frame {kind} where it had made a call")
            return False
        return True

    def hears(self, p: Program, answer: tuple[int, bytes, int]) -> bool:
        """A frame for its host. True: not now, because that repeats what was before."""
        backup, kind = p.saves.outlive, answer[0]
        if backup is None or kind in UNSEEN:
            return False
        log = backup.log
        if kind in UNREPEATABLE:
            self.happened(p, UNREPEATABLE[kind])
        if log.open:
            log.answered(answer, last=kind == Kind.REPLY)
            self._bound(p, backup)
        elif log.repeats:
            log.later.append(answer)
        elif kind != Kind.REPLY:
            self.happened(p, "a signal or a file came while it computed")
        return log.repeats

    def _bound(self, p: Program, backup: Backup) -> None:
        """A log may not grow for ever."""
        if backup.log.size > MOST and not backup.log.repeats:
            self.happened(p, "its log is full")
            backup.log.cut(waiting=backup.log.open)
        elif backup.log.size > MUCH:
            _hasten(backup)

    def _give(self, p: Program, backup: Backup, answers: list[tuple[int, bytes, int]]) -> None:
        for answer in answers:
            self.tracer.hosts.give(p, *answer)
        if not backup.log.repeats:
            where = p.link.ip if p.link is not None else "?"
            self.tracer.mosd.log(f"pid={p.pid} has repeated {len(backup.log.entries)} calls, and lives on {where}")
            backup.due = time.monotonic() + images.UNSAFE_SHORTEST
            for answer in backup.log.take_later():
                self.tracer.hosts.send(p, *answer)

    # ------------------------------------------------------------------ its node is lost

    def obstacle(self, p: Program, move: Move) -> str:
        """Why a program cannot move because of what is made good here; "" if it can."""
        backup = p.saves.outlive
        if backup is None or p.saves.stays(move) or move.target == BEST:
            return ""
        if p.link is backup.file:
            return f"{Reason.NODE_LOST}, and it waits for another"
        return Reason.REPEATS if backup.log.repeats and not move.target else ""

    def revives(self, p: Program, link: Link) -> bool:
        """Its host is lost. True if the program goes on from its image."""
        backup, deputy = p.saves.outlive, p.deputy
        if backup is None or deputy is None:
            return False
        if not backup.lose():
            backup.unsafe = "each node that it comes to is lost"
        if backup.file is None or backup.unsafe:
            self.tracer.mosd.log(f"pid={p.pid} cannot outlive {link.ip}: {backup.unsafe}", 30)
            return False
        backup.lost = link.ip
        backup.log.begin()
        p.link = backup.file
        backup.file.programs.add(p.pid)
        p.body.kept_back, p.body.forwarded = None, backup.seq
        lost, calls = text(Text.LOST, computer=link.ip), len(backup.log.entries)
        self.tracer.mosd.log(f"pid={p.pid} {lost}, and goes on from its image: {calls} calls to repeat")
        if p.move is not None:
            self.tracer.moves.abandon(p, Reason.NODE_LOST)
        self._seek(p)
        return True

    def _seek(self, p: Program) -> None:
        """Ask for another node, and again until there is one."""

        def done(reason: str) -> None:
            backup = p.saves.outlive
            if reason and backup is not None and p.link is backup.file:
                self._seek_at[p.pid] = time.monotonic() + AGAIN

        self.tracer.moves.request(p, Move(BEST, "another node", done=done, why=Reason.NODE_LOST))

    def copied(self, p: Program) -> bool:
        """What a host does before it sends its image has been done by a file. True if ``p`` is in one."""
        backup = p.saves.outlive
        return backup is not None and p.link is backup.file

    def sends(self, p: Program) -> bool:
        """Send the image to the new host, slice by slice, as an old one would. False: ``p`` is not in a file."""
        if not self.copied(p) or p.move is None:
            return False
        self._sending[p.pid] = (p, p.move, self._image(p, p.move))
        return True

    def uses(self, link: Link) -> bool:
        """An image is on its way over this channel, where nothing else of its program may be."""
        return any(move.link is link for _, move, _ in self._sending.values())

    def _image(self, p: Program, move: Move) -> Generator[None, None, None]:
        assert p.link is not None and move.link is not None
        file, to = p.link.channel, move.link.channel
        file.send(Kind.RECALL, p.pid)
        while True:
            frame = file.receive()
            if frame.kind == Kind.IMAGE:
                self.tracer.mapped.rest(p, move, move.link, image.decode(frame.payload).vmas)
            to.send(frame.kind, p.pid, frame.payload)
            if frame.kind == Kind.IMAGE_END:
                return
            yield

    def _slices(self, p: Program, move: Move, slices: Generator[None, None, None]) -> None:
        """Send as many slices as fit in a turn."""
        link, backup = move.link, p.saves.outlive
        if p.move is not move or link is None or backup is None or backup.file is None:
            self._sending.pop(p.pid, None)
            return
        until = time.monotonic() + TURN / len(self._sending)
        try:
            while time.monotonic() < until and link.channel.takes_more():
                next(slices)
        except StopIteration:
            del self._sending[p.pid]
            backup.file.channel.send(Kind.RESUME, p.pid)  # it can be read again
        except (ChannelLost, BadImage) as error:
            self._sending.pop(p.pid, None)
            if backup.file.channel.lost:
                self._end(p, backup, str(error))
            else:
                self.tracer.hosts.link_lost(link)
        except TaskGone:
            raise
        except Exception as error:
            self._sending.pop(p.pid, None)
            self.tracer.moves.failed(p, link, self.tracer.moves.unforeseen(p, error))

    def begins(self, p: Program, old: Link | None, move: Move) -> bool:
        """The new body runs. True if it is made of the image (``old``), which is kept."""
        backup = p.saves.outlive
        if backup is None or old is not backup.file:
            return False
        backup.lives += 1
        backup.files.update(p.body.files)
        p.body.files = move.files
        self._give(p, backup, backup.log.entered())
        if p.halted:
            self.tracer.hosts.send(p, Kind.STOP, b"")
        return True

    def _end(self, p: Program, backup: Backup, reason: str) -> None:
        """It cannot be made good."""
        self.tracer.mosd.log(f"pid={p.pid} cannot outlive {backup.lost}: {reason}", 30)
        backup.unsafe = reason
        self.tracer.hosts.ends(p, text(Text.LOST, computer=backup.lost))


def _hasten(backup: Backup) -> None:
    """The next image is due as soon as its cost allows."""
    backup.due = min(backup.due, time.monotonic() + images.pause(backup.stood, safe=False))


def _map(tracer: Tree, p: Program, order: MmapOrder, answers: list[tuple[int, bytes, int]]) -> None:
    """A file that was mapped is mapped again: the new host gets its contents, which have not changed since."""
    for kind, payload, _ in answers:
        if kind == Kind.MMAP_NAME and (number := int.from_bytes(payload[:4], "little")):
            tracer.mapped.again(p, number, order)
