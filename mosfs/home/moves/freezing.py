"""Freezing: a program's memory goes into a file, and comes back from there (`docs/design/freezing.md`).

A frozen program is away in a file (`migrate.freezefile`): what is left at home is its deputy, and its steps are those of a move::

    at home   stop, capture, IMAGE --> file; pages in slices, while it stands (`write`); whole: its memory goes (`left`)
    away      RECALL --> host; its frames --> file (`takes`); whole: the host drops it (`_switch`)
    back      RECALL --> file; its frames --> `arrival`; whole: the file goes

Until the file is whole the program goes on where it was if anything fails; until it is built again the file stays. The deputy makes
no call meanwhile: the one that the program is in is broken off, and made again when it is back.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, nullcontext
from functools import partial

from mosfs.abi.flags import ERESTART_RESTARTBLOCK
from mosfs.abi.numbers import SYS_RESTART_SYSCALL
from mosfs.abi.outcomes import OK
from mosfs.abi.texts import Text, text
from mosfs.calls.request import Request
from mosfs.cluster.freeze_conf import Directory, order, parse_directories
from mosfs.home.ports import StillRuns, Tree
from mosfs.home.process.deputy import Deputy, Flight, Outcome, Outcomes, State
from mosfs.home.process.link import Held, Link
from mosfs.home.process.move import Event, Move, Standing, Step, Stood
from mosfs.home.process.program import Place, Program
from mosfs.migrate import image
from mosfs.migrate.capture import signed
from mosfs.migrate.freezefile import IMAGE, FilePlace, FreezeFile
from mosfs.migrate.image import BadImage, Vma
from mosfs.migrate.pages import sending_all
from mosfs.trace.caller import as_user, rights_of
from mosfs.trace.task import TaskGone
from mosfs.wire.channel import ChannelLost
from mosfs.wire.faults import Freezing as Point
from mosfs.wire.faults import fault
from mosfs.wire.frames import Frame, Kind

#: Seconds of slices between two looks at the events of the tree, for all that is being written.
TURN = 0.002
#: What a host sends of an image for a file.
FROM_HOST = IMAGE | {Kind.SAME}


class Freezing:
    def __init__(self, tracer: Tree) -> None:
        self.tracer = tracer
        self._writing: dict[int, tuple[Program, Link, Generator[None, None, int]]] = {}
        self._vmas: dict[int, list[Vma]] = {}  # of programs whose image is written
        self._thawing: list[Program] = []

    # ------------------------------------------------------------------ asking for it

    def freeze(self, p: Program, mark: str, seq: int = 0, told: Callable[[str], None] = lambda reason: None) -> None:
        """Have it frozen for ``mark`` (`records.Frozen`); ``seq``: number of a user's request; ``told``: "" or why it is not."""
        self._ask(p, seq)
        if p.frozen.mark:
            p.frozen.mark = p.frozen.mark if mark == "A" else mark  # the policy lets go on only what it has frozen
            self._answer(p, seq, "")
            return
        if p.move is not None and p.move.freezes is not None:
            self._answer(p, seq, "it is being frozen already")
            return
        p.frozen.wanted, p.frozen.begun = mark, False
        file = Link(FreezeFile(self.places(p), compressed=p.settings.compress == 1), "", near=True)
        began = time.monotonic()

        def done(reason: str) -> None:
            self._frozen(p, file, reason, time.monotonic() - began)
            self._answer(p, seq, reason)
            told(reason)

        self.tracer.moves.request(p, Move("", "frozen", done=done, freezes=file))

    def thaw(self, p: Program, seq: int = 0) -> None:
        """Have it go on. One that a signal has stopped goes on as by SIGCONT (mosmigrate(1))."""
        self._ask(p, seq)
        if not p.frozen.mark and p.move is None:
            if p.halted:
                os.kill(p.pid, signal.SIGCONT)
            self._answer(p, seq, "")
            return
        began = time.monotonic()

        def done(reason: str) -> None:
            if not reason:
                self.tracer.mosd.log(f"pid={p.pid} un-frozen total_ms={(time.monotonic() - began) * 1000:.1f}")
            self._answer(p, seq, reason)

        self.tracer.moves.request(p, Move("", "home", done=done))

    def _ask(self, p: Program, seq: int) -> None:
        p.frozen.asked = seq or p.frozen.asked
        self.tracer.mosd.announce(p)

    def _answer(self, p: Program, seq: int, reason: str) -> None:
        if seq:
            p.frozen.last = (seq, reason or OK)
            p.frozen.asked = 0 if p.frozen.asked == seq else p.frozen.asked
        self.tracer.mosd.announce(p)

    def places(self, p: Program) -> list[FilePlace]:
        """Where its file may be, in the order in which it is tried."""
        if p.settings.freeze_dirs:
            own = parse_directories(p.settings.freeze_dirs, "freeze_dirs")
            return [FilePlace(each.path, rights_of(p.pid)) for each in order(own, random.random())]
        space = self.tracer.mosd.config.freezing
        rights: Callable[[], AbstractContextManager[None]] = nullcontext
        if space.uid >= 0:
            rights = partial(as_user, space.uid, os.getgid())
        directories = [Directory(path, weight) for path, weight in space.directories]
        return [FilePlace(each.path, rights) for each in order(directories, random.random())]

    def _frozen(self, p: Program, file: Link, reason: str, seconds: float) -> None:
        channel = file.channel
        assert isinstance(channel, FreezeFile)
        if not reason:
            self.tracer.mosd.log(
                f"pid={p.pid} frozen={p.frozen.mark} directory={channel.directory} bytes={channel.written} "
                f"total_ms={seconds * 1000:.1f}"
            )
            return
        channel.close()
        self.tracer.mosd.log(f"pid={p.pid} is not frozen: {reason}", 30)
        killing = self.tracer.mosd.config.freezing.killing
        if channel.full and 0 <= killing <= p.reports.account.size_mb:
            self._end(p, text(Text.NO_FREEZE_SPACE))

    def _end(self, p: Program, words: str) -> None:
        """A last line on its standard error; nothing else can be done for it."""
        self.tracer.mosd.log(f"pid={p.pid} {words}", 30)
        try:
            if p.deputy is not None:
                self.tracer.deputies.last_words(p, p.deputy, words)
            else:
                p.task.interrupt()
                status = self.tracer.controls.wait_for(p)
                if status & 0x7F != 0x7F:
                    raise TaskGone(p.pid, status)
                self.tracer.policy.say(p, words)
        finally:
            self.tracer.containment.kill(p)

    # ------------------------------------------------------------------ from home

    def begin(self, p: Program, vmas: list[Vma]) -> None:
        """The image of a program that stands is in its file: pages follow by `write`."""
        self._vmas[p.pid] = vmas
        fault(Point.BEGUN, None, p.comm, p.pid)

    def write(self, p: Program, move: Move, link: Link) -> None:
        """Write its memory, slice by slice, from now on."""
        vmas = self._vmas.pop(p.pid)
        self._writing[p.pid] = (p, link, sending_all(p.task, link.channel, p.pid, vmas, compressed=p.settings.compress == 1))

    def due(self) -> float | None:
        """When `look` has something to do, by CLOCK_MONOTONIC."""
        return 0.0 if self._writing or self._thawing else None

    def look(self) -> None:
        """Write some slices of what is being written, and read what was recalled."""
        for p, link, slices in [*self._writing.values()]:
            if p.move is None or p.move.freezes is not link or p.place is not Place.LEAVING:
                self._writing.pop(p.pid, None)
                continue
            with self.tracer.containment.of(p):
                try:
                    self._slices(p, link, slices)
                except TaskGone:
                    raise
                except Exception as error:
                    self._writing.pop(p.pid, None)
                    self.tracer.moves.failed(p, link, self.tracer.moves.unforeseen(p, error))
        thawing, self._thawing = self._thawing, []
        for p in thawing:
            with self.tracer.containment.of(p):
                self._read(p)

    def _slices(self, p: Program, link: Link, slices: Generator[None, None, int]) -> None:
        until = time.monotonic() + TURN / len(self._writing)
        try:
            while time.monotonic() < until:
                next(slices)
                fault(Point.PAGES, None, p.comm, p.pid)
        except StopIteration as end:
            del self._writing[p.pid]
            link.channel.send(Kind.IMAGE_END, p.pid, int(end.value).to_bytes(8, "little"))
            fault(Point.WRITTEN, None, p.comm, p.pid)
            self.tracer.moves.running(p, link)

    def left(self, p: Program, deputy: Deputy, stood: Stood | Standing, *, asleep: bool) -> None:
        """Its memory is gone: what is left at home, of each of its threads, is READY. ``asleep``: it was in a sleep that the deputy
        had gone on with."""
        flight, deputy.flight = deputy.flight, None
        if asleep:
            request = Request(SYS_RESTART_SYSCALL, (0,) * 6, deputy.mask)
            p.frozen.call = Outcome(SYS_RESTART_SYSCALL, -ERESTART_RESTARTBLOCK, [], flight or _flight(request))
        elif stood.inside is not None:
            flight = _flight(stood.inside)
            self.tracer.waits.takes_off(p, flight)
            p.frozen.call = Outcome(stood.inside.nr, signed(stood.stopped.rax), [], flight)
        self._stays(p, deputy)

    def _stays(self, p: Program, deputy: Deputy) -> None:
        p.frozen.mark = self.tracer.family.process(p).frozen.wanted
        deputy.became_ready()
        if deputy.state is State.READY:
            self.tracer.deputies.watch(p)

    # ------------------------------------------------------------------ from a node

    def takes(self, p: Program, link: Link, frame: Frame) -> bool:
        """A frame of the host that has the program; True if it is for the file."""
        if frame.kind not in FROM_HOST or link is not p.link or p.move is None or p.move.freezes is None:
            return False
        try:
            self._take(p, p.move, p.move.freezes, frame)
        except (TaskGone, ChannelLost):
            raise
        except Exception as error:
            self.tracer.moves.resume_old(p, self.tracer.moves.unforeseen(p, error))
        return True

    def _take(self, p: Program, move: Move, file: Link, frame: Frame) -> None:
        """Nothing of an older image, of a move that was given up, is taken for one of this."""
        if frame.kind == Kind.IMAGE and move.after(Event.IMAGE, away=True) is Step.ARRIVE:
            meta = image.decode(frame.payload)
            p.frozen.begun = True
            p.frozen.files = {vma.file: Held() for vma in meta.vmas if vma.file}
            fault(Point.BEGUN, None, p.comm, p.pid)
            self.tracer.outliving.begun(p, meta)
        elif frame.kind != Kind.PRIVATE and not p.frozen.begun:
            return
        if frame.kind in (Kind.PAGES, Kind.RUNS):
            fault(Point.PAGES, None, p.comm, p.pid)
        if frame.kind == Kind.IMAGE_END and _file(file).pages != frame.content:
            raise BadImage("pages are missing")
        _file(file).take(frame)
        if frame.kind == Kind.IMAGE_END:
            fault(Point.WRITTEN, None, p.comm, p.pid)
            self.tracer.outliving.saved(p, file) if p.saves.stays(move) else self._switch(p, file)

    def _switch(self, p: Program, file: Link) -> None:
        """The file has the program, its host drops the body. The call that it waits in is broken off."""
        deputy, old = p.deputy, p.link
        assert deputy is not None and old is not None
        self.tracer.arrival.halt(p, deputy)
        self.tracer.threads.halt(p)
        outcomes: Outcomes = {}
        try:
            self.tracer.threads.outcomes(p, outcomes)
        except StillRuns as reason:
            self.tracer.arrival.goes_on_there(p, old, outcomes, str(reason))
            return
        for one in (p, *self.tracer.threads.of(p)):
            one.frozen.call, infos = outcomes[one.pid]
            for info in [*infos, *one.body.infos]:
                file.channel.send(Kind.SIGNAL, one.pid, info)
            one.body.infos.clear()
            one.body.kept_back, one.body.files, one.link = None, p.frozen.files, file
            assert one.deputy is not None
            self._stays(one, one.deputy)
        file.programs.add(p.pid)
        self.tracer.hosts.drop(p, old)
        self.tracer.moves.finish(p, "")

    # ------------------------------------------------------------------ back

    def recalled(self, p: Program) -> None:
        """The file is read from now on. What came for its threads while it was frozen waits for them as what comes from now on."""
        assert p.link is not None
        file = _file(p.link)
        for one in (p, *self.tracer.threads.of(p)):
            assert one.body.kept_back is not None
            one.body.kept_back += file.answers.pop(one.pid, [])
        file.answers.clear()
        self._thawing.append(p)

    def _read(self, p: Program) -> None:
        link = p.link
        if link is None or not p.frozen.mark or p.move is None:
            return
        try:
            fault(Point.THAWING, None, p.comm, p.pid)
            while p.link is link and link.channel.pending():
                self.tracer.frames.handle(link, link.channel.receive())
        except ChannelLost as lost:
            self.tracer.mosd.log(f"pid={p.pid} its freeze file cannot be read: {lost}", 40)
            self._end(p, text(Text.UNFREEZE_FAILED))
            return
        except TaskGone:
            raise
        except Exception as error:
            self.tracer.moves.resume_old(p, self.tracer.moves.unforeseen(p, error))
        if p.frozen.mark and p.deputy is not None:
            words = text(Text.REFREEZING)
            self.tracer.mosd.log(f"pid={p.pid} {words}", 30)
            p.deputy.when_ready(lambda: self.tracer.policy.say(p, words))
            self.tracer.deputies.watch(p)
        else:
            self.tracer.checkpoints.thawed(p)

    # ------------------------------------------------------------------ the end

    def gone(self, p: Program) -> None:
        self._writing.pop(p.pid, None)
        self._vmas.pop(p.pid, None)
        if p in self._thawing:
            self._thawing.remove(p)


def _flight(request: Request) -> Flight:
    """A flight as if the deputy were in that call."""
    return Flight(request, request.args, [], None, time.monotonic())


def _file(link: Link) -> FreezeFile:
    assert isinstance(link.channel, FreezeFile)
    return link.channel
