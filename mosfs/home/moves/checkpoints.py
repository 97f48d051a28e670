"""Taking checkpoints: a program is stopped, its image and its open files are written to a file, and it goes on.

The program itself creates the file and renames it when it is whole, by injected calls: so it is made with the program's own rights,
in its own folder, and we write to what the program could write to. Until then the file has no permissions and another name.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
import struct
import time
from contextlib import suppress
from typing import Any

from mosfs.home.ports import Tree
from mosfs.home.process.descriptors import umask_of
from mosfs.home.process.move import Move
from mosfs.home.process.program import Place, Program
from mosfs.home.process.saving import Saving, Then
from mosfs.migrate import image
from mosfs.migrate.capture import SYS_RESTART_SYSCALL, all_limits, capture, mappings_of, signed, user_regs
from mosfs.migrate.checkpoint import Head, Writer, as_text
from mosfs.migrate.image import Timer
from mosfs.migrate.maps import CannotMove
from mosfs.migrate.opened import CannotSave, has_contents, opened, readable
from mosfs.migrate.pages import send_all
from mosfs.native import lib
from mosfs.procfs.table import checkpoint_number, checkpoint_stem
from mosfs.trace import clock as clocks
from mosfs.trace import layout
from mosfs.trace.inject import Calls
from mosfs.trace.stops import Stop
from mosfs.trace.taken import take
from mosfs.trace.task import TaskGone, behind, copy_regs
from mosfs.wire.frames import Kind

SYS_CLOSE, SYS_GETITIMER, SYS_EXIT_GROUP, SYS_OPENAT, SYS_RENAMEAT, SYS_UNLINKAT, SYS_FCHMOD = 3, 36, 231, 257, 264, 263, 91
AT_FDCWD = -100
#: Seconds until we look again whether a program can be stopped, and how often we do.
AGAIN, MOST_TRIES = 0.01, 3000
UNDER_WAY = "a checkpoint is being taken already"
#: What stands in a counted file that is no checkpoint (mosrun(1), -N).
INSTEAD = "No checkpoint could be taken: {reason}\n"


class Checkpoints:
    def __init__(self, tracer: Tree) -> None:
        self.tracer = tracer
        self._waiting: list[Program] = []
        self._look_at = 0.0
        self._due: dict[int, float] = {}  # when the next automatic checkpoint of a program is due

    # ------------------------------------------------------------------ asking for one

    def request(self, p: Program, saving: Saving) -> None:
        """Take a checkpoint as soon as the program can be stopped; ``saving.done`` hears of it."""
        if p.saves.asked is not None:
            if saving.seq and p.saves.asked.seq:
                p.saves.asked.seq = saving.seq  # one checkpoint for both
            elif saving.seq:
                p.saves.last = (saving.seq, UNDER_WAY)
                self.tracer.mosd.announce(p)
            saving.done(UNDER_WAY, 0)
            return
        p.saves.asked = saving
        self.tracer.mosd.announce(p)
        self._begin(p)

    def configure(self, p: Program) -> None:
        """mosrun has given the program its settings (-C, -A)."""
        p.saves.next = self._first(p)
        self.interval_changed(p)

    def interval_changed(self, p: Program) -> None:
        """-A, or a write to checkpointinterval: the time begins anew (mosix(7))."""
        minutes = p.settings.checkpoint_interval
        self._due.pop(p.pid, None)
        if minutes > 0:
            self._due[p.pid] = time.monotonic() + 60 * minutes

    def gone(self, p: Program) -> None:
        self._due.pop(p.pid, None)
        p.saves.asked = None
        if p in self._waiting:
            self._waiting.remove(p)

    def due(self) -> float | None:
        """When `look` has something to do next, by CLOCK_MONOTONIC."""
        moments = [*self._due.values(), *([self._look_at] if self._waiting else [])]
        return min(moments, default=None)

    def look(self, now: float) -> None:
        for pid in [pid for pid, due in self._due.items() if due <= now]:
            p = self.tracer.programs.get(pid)
            if p is None:
                del self._due[pid]
                continue
            self.interval_changed(p)
            if p.saves.asked is None:
                with self.tracer.containment.of(p):
                    self.request(p, Saving(done=lambda reason, number: None))
        if self._waiting and now >= self._look_at:
            waiting, self._waiting = self._waiting, []
            for p in waiting:
                with self.tracer.containment.of(p):
                    self._begin(p)

    # ------------------------------------------------------------------ until it stands still

    def _begin(self, p: Program) -> None:
        saving = p.saves.asked
        if saving is None:
            return
        if refusal := self._refusal(p):
            self._finish(p, refusal)
        elif p.held and p.place is Place.HOME:  # before a move that may be under way takes it along
            in_trap = signed(p.task.peek_regs().orig_rax) >= 0
            self._take(p, Stop.SECCOMP if in_trap else Stop.OTHER)
        elif p.place is Place.LEAVING or (p.move is not None and not p.held):
            self._later(p, saving, "it is moving", endless=True)
        elif p.away:
            self._bring_home(p, saving)
        elif p.halted:
            self._finish(p, "stopped by a signal")
        elif reason := p.obstacle():
            self._later(p, saving, reason)
        elif p.deputy is not None:
            p.deputy.interrupt()
        else:
            p.interrupted = True
            p.task.interrupt()

    def _refusal(self, p: Program) -> str:
        """Why there can be no checkpoint of this program as it is; "" if there can."""
        if p.bound:
            return p.bound.removeprefix("stays at home: ")
        if p.mail is not None:
            return "it is involved in direct communication"
        if p.private is not None:
            return "it has private temporary files"
        return ""

    def _bring_home(self, p: Program, saving: Saving) -> None:
        """A program that is away comes home for its checkpoint, and goes back."""
        saving.back = p.link.ip if p.link is not None else ""

        def here(reason: str) -> None:
            if p.saves.asked is not saving:
                return
            if reason:
                self._finish(p, reason)
            elif p not in self._waiting:
                self._waiting.append(p)  # from the loop: whoever moved it is not done with it yet
                self._look_at = 0.0

        self.tracer.moves.request(p, Move("", "home", done=here))

    def _later(self, p: Program, saving: Saving, reason: str, *, endless: bool = False) -> None:
        saving.tries += not endless
        if saving.tries > MOST_TRIES:
            self._finish(p, reason)
            return
        if p not in self._waiting:
            self._waiting.append(p)
            self._look_at = time.monotonic() + AGAIN

    def stopped(self, p: Program, stop: Stop) -> bool:
        """A program at home has stopped; True if a checkpoint was taken, and it goes on already."""
        if p.saves.asked is None:
            return False
        if p.move is not None or p.place is not Place.HOME or p.deputy is not None:
            self._later(p, p.saves.asked, "it is moving", endless=True)
            return False
        if p in self._waiting or p.obstacle() or self.tracer.departure.deliverable(p):
            # a signal is about to be delivered: what it does to an interrupted call must be the kernel's doing
            self._later(p, p.saves.asked, "signals do not cease")
            return False
        self._take(p, stop)
        return True

    def stopped_sleeping(self, p: Program) -> bool:
        """The same of a program at home whose sleep began away and goes on in the stub."""
        if p.saves.asked is None or p.deputy is None or p.body.sleeping is None:
            return False
        if p.move is not None:
            self._later(p, p.saves.asked, "it is moving", endless=True)
            return False
        deputy = p.deputy
        deputy.interrupting = False
        reason, number = self._write(p, deputy.base, p.body.sleeping, mask=deputy.mask)
        deputy.resume_sleep()
        self._finish(p, reason, number)
        return True

    def _take(self, p: Program, stop: Stop) -> None:
        """The program stands still: write, and let it go on."""
        saving = p.saves.asked
        assert saving is not None
        regs = p.task.peek_regs()
        original = copy_regs(regs)
        stay = user_regs(regs, stop)
        self.tracer.departure.note_sleep(p, regs)
        saved = stay
        if saving.own:  # after recovery it has been answered, as here
            saved = behind(stay, 0) if stop is Stop.SECCOMP else copy_regs(stay)
            saved.rax = p.saves.next if saving.numbered else 0
        elif signed(stay.rax) == SYS_RESTART_SYSCALL and p.call.asleep is not None and p.call.asleep.number >= 0:
            saved = copy_regs(stay)  # whoever recovers has no restart block: the call is made again
            saved.rax = p.call.asleep.number
        reason, number = self._write(p, original, saved)
        if saving.then is Then.EXIT and not reason:
            lib.mos_run_call(p.pid, original, SYS_EXIT_GROUP, 0, 0, 0, 0, 0, 0)
        elif not p.held:
            self.tracer.departure.stand_again(p, original, stay)
            self.tracer.stops.go_on(p)
        self._finish(p, reason, number)

    # ------------------------------------------------------------------ writing

    def _write(self, p: Program, standing: Any, saved: Any, *, mask: int | None = None) -> tuple[str, int]:
        """("", number of the checkpoint), or (why there is none, its number if it was counted).

        ``standing``: the registers that the program has, and keeps; ``saved``: those that it goes on with after recovery."""
        began = time.monotonic()
        number = p.saves.next
        try:
            with Calls(p.task, base=standing, mask=mask) as call:
                try:
                    size = self._write_whole(p, call, saved, number)
                finally:
                    p.task.set_regs(standing)
        except TaskGone:
            raise
        except (CannotSave, CannotMove) as error:
            with suppress(OSError), Calls(p.task, base=standing, mask=mask) as call:
                try:
                    _File(call, self._path(p, number)).only(INSTEAD.format(reason=error).encode())
                finally:
                    p.task.set_regs(standing)
            p.saves.next = self._following(p, number)
            return str(error), number
        except OSError as error:
            return f"{self._path(p, number)}: {os.strerror(error.errno or errno.EIO)}", 0
        except Exception as error:
            return self.tracer.moves.unforeseen(p, error), 0
        p.saves.next = self._following(p, number)
        self.tracer.mosd.log(
            f"pid={p.pid} checkpoint {self._path(p, number)} bytes={size} freeze_ms={(time.monotonic() - began) * 1000:.1f}"
        )
        return "", number

    def _write_whole(self, p: Program, call: Calls, saved: Any, number: int) -> int:
        """Bytes of the file. CannotSave, CannotMove, OSError."""
        files = opened(p.pid)
        vmas = mappings_of(p.pid, p.process.said, p.process.names, None)
        shown = clocks.last_shown(p.process.clock_page, self.tracer.clock.ticks()) if p.process.clock_page else clocks.Shown(0, 0)
        meta = capture(
            call, saved, vmas, pid=p.pid, uid=p.uid, features=p.demand.seen, home=self.tracer.mosd.config.ip,
            shown=Timer(shown.realtime, shown.monotonic), pending=True, said=p.process.said, whole=True,
        )  # fmt: skip
        meta.carry = p.call.carry
        meta.waiting_state, meta.needs = list(p.demand.waiting.items()), sorted(p.demand.needs)
        head = Head(
            pid=p.pid, comm=p.comm, made=int(time.time()),
            executable=as_text(_link(p.pid, "exe")), folder=as_text(_link(p.pid, "cwd")), umask=umask_of(p.pid), files=files,
            limits=all_limits(p.pid), itimers=_itimers(call), settings=p.settings, next_checkpoint=self._following(p, number),
        )  # fmt: skip
        file = _File(call, self._path(p, number))
        with file:
            writer = Writer(file.ours)
            writer.head(head)
            writer.send(Kind.IMAGE, p.pid, image.encode(meta))
            send_all(p.task, writer, p.pid, meta.vmas, near=True)
            for place, kept in enumerate(files):
                if has_contents(kept):
                    copy = take(p.pid, kept.fds[0], readable)  # never opened anew: that would be with our rights
                    try:
                        writer.content(place, copy, kept.size)
                    finally:
                        os.close(copy)
            writer.end()
            file.whole()
        return writer.written

    @staticmethod
    def _stem(p: Program) -> str:
        return checkpoint_stem(p.settings.checkpoint_file) if p.settings.checkpoint_file else f"ckpt.{p.pid}"

    def _path(self, p: Program, number: int) -> str:
        return f"{self._stem(p)}.{number}"

    @staticmethod
    def _first(p: Program) -> int:
        return checkpoint_number(p.settings.checkpoint_file) if p.settings.checkpoint_file else 1

    def _following(self, p: Program, number: int) -> int:
        """The number after ``number``: of the first again when there are as many as there shall be (-N)."""
        first = self._first(p)
        most = p.settings.checkpoint_limit
        return first if most > 0 and number - first + 1 >= most else number + 1

    # ------------------------------------------------------------------ afterwards

    def _finish(self, p: Program, reason: str, number: int = 0) -> None:
        """``reason``: why there is no checkpoint, "" if there is one, of this number."""
        saving, p.saves.asked = p.saves.asked, None
        if p in self._waiting:
            self._waiting.remove(p)
        if saving is None:
            return
        if reason:
            self.tracer.mosd.log(f"pid={p.pid} no checkpoint: {reason}", 30)
        if saving.seq:
            p.saves.last = (saving.seq, reason or "ok")
        saving.done(reason, number)
        self.tracer.mosd.announce(p)
        if not reason and saving.then is Then.STOP:
            os.kill(p.pid, signal.SIGSTOP)
        elif saving.back and saving.then is not Then.EXIT and not p.away and p.move is None:
            self.tracer.moves.request(p, Move(saving.back, saving.back, why="goes back after its checkpoint"))


class _File:
    """A checkpoint file that the stopped program makes for us. Without `whole` nothing is left of it, and what was there before is.

    ``path``: as the program would open it, from its own folder.
    """

    def __init__(self, call: Calls, path: str) -> None:
        self._call = call
        self._path = os.fsencode(path)
        folder, _, name = self._path.rpartition(b"/")
        self._partial = (folder + b"/" if folder or self._path.startswith(b"/") else b"") + b"." + name + b".%d" % call.task.pid
        self._whole = False
        self.ours = -1

    def __enter__(self) -> _File:
        self._at(layout.SCRATCH, self._partial)
        self._call(SYS_UNLINKAT, AT_FDCWD, layout.SCRATCH, 0)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = self._call.must(SYS_OPENAT, AT_FDCWD, layout.SCRATCH, flags, 0)
        self._theirs = fd
        try:
            self.ours = take(self._call.task.pid, fd, _is_new)
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.ours)
        if self._whole:
            self._call(SYS_CLOSE, self._theirs)
        else:
            self._remove()

    def whole(self) -> None:
        """The file takes its name; what had it is replaced in one step."""
        self._call.must(SYS_FCHMOD, self._theirs, 0o400)
        self._at(layout.SCRATCH, self._partial)
        self._at(layout.SCRATCH + layout.PAGE * 2, self._path)
        self._call.must(SYS_RENAMEAT, AT_FDCWD, layout.SCRATCH, AT_FDCWD, layout.SCRATCH + layout.PAGE * 2)
        self._whole = True

    def only(self, words: bytes) -> None:
        """A file that holds nothing but these words."""
        with self:
            os.write(self.ours, words)
            self.whole()

    def _remove(self) -> None:
        self._call(SYS_CLOSE, self._theirs)
        self._at(layout.SCRATCH, self._partial)
        self._call(SYS_UNLINKAT, AT_FDCWD, layout.SCRATCH, 0)

    def _at(self, address: int, path: bytes) -> None:
        self._call.task.write(address, path + b"\0")


def _is_new(fd: int) -> bool:
    """An empty file with one name, that we may write."""
    facts = os.fstat(fd)
    mode = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
    return stat.S_ISREG(facts.st_mode) and facts.st_nlink == 1 and facts.st_size == 0 and mode == os.O_WRONLY


def _link(pid: int, name: str) -> bytes:
    """Where /proc/PID/name leads."""
    try:
        return os.readlink(f"/proc/{pid}/{name}".encode())[:4096]
    except OSError as error:
        raise TaskGone(pid) from error


def _itimers(call: Calls) -> list[tuple[int, int, int, int]]:
    """What is left of the three timers (setitimer(2)): interval and value, in seconds and microseconds."""
    found = []
    for which in range(3):
        call.must(SYS_GETITIMER, which, layout.SCRATCH)
        found.append(struct.unpack("<4q", call.task.read(layout.SCRATCH, 32)))
    return found
