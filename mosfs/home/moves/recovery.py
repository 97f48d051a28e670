"""Going on from a checkpoint (mosrun -R): the process that mosrun was becomes the program of the file.

The file is read with the rights of who calls mosrun, which has opened it; nothing in it gives any right. Everything that the
program has of its home is made again by the process itself, before its first instruction.
"""

from __future__ import annotations

import os
import signal
import stat
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

from msgspec.structs import replace

from mosfs.abi import cpu
from mosfs.abi.flags import PR_SET_DUMPABLE, PR_SET_PDEATHSIG
from mosfs.abi.numbers import (
    SYS_CHDIR,
    SYS_EXIT_GROUP,
    SYS_PERSONALITY,
    SYS_PRCTL,
    SYS_SCHED_SETAFFINITY,
    SYS_SETITIMER,
    SYS_SETPRIORITY,
    SYS_UMASK,
)
from mosfs.abi.reasons import Reason
from mosfs.abi.texts import Text, text
from mosfs.calls import partial
from mosfs.home.ports import Tree
from mosfs.home.process.program import Program
from mosfs.home.process.settings import refused
from mosfs.migrate import image, rseq
from mosfs.migrate.checkpoint import (
    CONTENT,
    CONTENT_HEAD,
    FRAMES,
    MAX_PROCESSORS,
    REFS,
    Head,
    Reader,
    Traits,
    as_path,
    matched,
)
from mosfs.migrate.chosen import SIBLING, THREAD, with_number
from mosfs.migrate.image import BadImage, ImageMeta, Thread
from mosfs.migrate.increments import Parts, frame_of, part_of
from mosfs.migrate.newfile import IMAGE, Rights
from mosfs.migrate.opened import CannotRestore, Restorer
from mosfs.migrate.properties import Said
from mosfs.migrate.rebuild import (
    DEFAULT_ACTION,
    NoRoom,
    Rebuild,
    clear,
    give_own,
    give_state,
    name_task,
    set_action,
    set_limit,
)
from mosfs.migrate.shown import named
from mosfs.native import lib
from mosfs.native.registers import Registers
from mosfs.trace import clock as clocks
from mosfs.trace import layout, numbers
from mosfs.trace.caller import Caller, rights_of, take_from
from mosfs.trace.embark import end
from mosfs.trace.inject import Calls
from mosfs.trace.numbers import CannotChoose
from mosfs.trace.proc import status_sets
from mosfs.trace.task import O_EXITKILL, OPTIONS, Task, TaskGone, copy_regs
from mosfs.wire.asked import Settings, Start
from mosfs.wire.faults import Saving, fault
from mosfs.wire.frames import Frame, Kind

#: mosrun(1): the exit status of what could not start.
NOT_STARTED = 125
#: What may be given beside -R, because it concerns the node and not the program (mosrun(1), SYNOPSIS).
_GIVEN = ("lock", "freezable", "checkpoint_limit", "checkpoint_interval", "incremental", "compress")


@dataclass(slots=True)
class _Recovered:
    """What has been read of the file and made of the process."""

    head: Head
    meta: ImageMeta
    rebuild: Rebuild
    regs: Registers
    threads: list[_Thread]


@dataclass(slots=True)
class _Thread:
    """Another thread that has been made: it stands. ``waiting_state``: of the processor (`abi.xstate.waits`)."""

    task: Task
    of: Thread
    regs: Registers
    waiting_state: dict[int, bytes]


class _Descriptor:
    """A descriptor, of a file or a folder, that is closed when nobody has it any more; -1 or less for none."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    __del__ = close


class Recovery:
    def __init__(self, tracer: Tree) -> None:
        self.tracer = tracer

    def starter(self, asker: Caller, start: Start) -> Callable[[Program], None] | None:
        """What a program does before its first instruction when mosrun was given -R; None if it was not."""
        if start.restart < 0:
            return None
        fd = take_from(asker, start.restart)
        descriptor = _Descriptor(fd)  # closed with the starter, be that called or not

        def begin(p: Program) -> None:
            with closing(descriptor):
                if p.process.native:
                    self._refuse(p)
                else:
                    self._begin(p, fd, start)

        return begin

    def _refuse(self, p: Program) -> None:
        """What the process has become cannot be a MOSIX process: it ends, before its first instruction."""
        reason = Reason.CANNOT_MIGRATE.details(p.travel.bound)
        self.tracer.mosd.log(f"pid={p.pid} cannot go on from its checkpoint: {reason}", 30)
        p.suspended = False
        end(p.task, f"mosrun: {text(Text.RESTORE_FAILED_WHY, reason=reason)}\n".encode(), NOT_STARTED)

    def _begin(self, p: Program, fd: int, start: Start) -> None:
        instead = {number: as_path(name) for number, name in start.reopen}
        lib.mos_unpin(self.tracer.pump)  # its processors are those of the image, and its own are those of what it makes
        try:
            if fd < 0:
                raise OSError(-fd, os.strerror(-fd))
            if start.number:
                p = self._with_its_number(p, _head(fd, rights_of(p.pid)).pid)
            p.task.set_options(OPTIONS | O_EXITKILL)  # what it is made from would run afresh
            with Calls(p.task) as call, _opened(fd, rights_of(p.pid)) as (reader, parts):
                found = self._become(call, reader, parts, instead)
                fault(Saving.WHOLE, None, found.head.comm)
        except BadImage as error:
            self.tracer.mosd.log(f"pid={p.pid} cannot go on from its checkpoint: {error}", 30)
            self._give_up(p, text(Text.BAD_CHECKPOINT))
        except CannotRestore as error:
            self._give_up(p, str(error))
        except (CannotChoose, NoRoom, OSError) as error:
            reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
            self._give_up(p, text(Text.RESTORE_FAILED_WHY, reason=reason))
        except TaskGone:
            raise
        except Exception as error:
            self._give_up(p, text(Text.RESTORE_FAILED_WHY, reason=self.tracer.moves.unforeseen(p, error)))
        else:
            p.task.set_options(OPTIONS)
            self._go_on(p, found, start)

    def _with_its_number(self, p: Program, number: int) -> Program:
        """The process that goes on, which has this ID: the launcher ends if it is another, and its parent waits for that one.
        CannotChoose."""
        if p.pid == number:
            return p
        numbers.free(number)
        with Calls(p.task) as call:
            task = with_number(call, number, SIBLING)
        with Calls(task) as call:  # with who waits for it, as if it were that
            call(SYS_PRCTL, PR_SET_PDEATHSIG, signal.SIGKILL)
        q = self.tracer.family.adopt(task, p.settings, parent=p)
        q.settings, q.suspended = p.settings, True
        self.tracer.family.register(q)
        self.tracer.statistics.began(q)
        p.suspended = False
        lib.mos_run_call(p.pid, copy_regs(p.task.peek_regs()), SYS_EXIT_GROUP, 0, 0, 0, 0, 0, 0)
        return q

    def _give_up(self, p: Program, words: str) -> None:
        self.tracer.policy.say(p, words)
        p.suspended = False
        lib.mos_run_call(p.pid, copy_regs(p.task.peek_regs()), SYS_EXIT_GROUP, NOT_STARTED, 0, 0, 0, 0, 0)

    def _become(self, call: Calls, reader: Reader, parts: Parts, instead: dict[int, bytes]) -> _Recovered:
        """The process of ``call`` gets everything. BadImage, CannotRestore, NoRoom, OSError."""
        head = reader.head()
        if refusal := refused(head.settings):
            raise BadImage(f"settings: {refusal}")
        _numbers(call.task.pid, head)
        files = Restorer(call, head.files, instead, rights_of(call.task.pid))
        try:
            files.open()  # names given now are of the present folder
            self._enter(call, as_path(head.folder))
            fault(Saving.OPENED, None, head.comm)
            rseq.unregister(call, call.task.peek_rseq())
            clear(call, [(layout.STUB, layout.END)])
            fault(Saving.CLEARED, None, head.comm)
            meta, rebuild = self._memory(call, reader, parts, files)
            matched(head, meta)
            ignored = status_sets(call.task.pid)["SigIgn"] & ~meta.ignored
            for sig in range(1, 65):
                if ignored >> (sig - 1) & 1:
                    set_action(call, sig, DEFAULT_ACTION)
            regs = _possible(call.task, rebuild.finish(rebuild.frames, home=False), meta)
            threads = [_made(call, meta, thread, of.traits) for thread, of in zip(meta.threads, head.threads, strict=True)]
            files.put()  # what fails until here is said where mosrun says it
        finally:
            files.close()
        self._surroundings(call, head, meta)
        return _Recovered(head, meta, rebuild, regs, threads)

    @staticmethod
    def _memory(call: Calls, reader: Reader, parts: Parts, files: Restorer) -> tuple[ImageMeta, Rebuild]:
        meta: ImageMeta | None = None
        rebuild = Rebuild(call)
        for kind, payload in reader.records():
            if kind == FRAMES + Kind.IMAGE and meta is None:
                meta = image.decode(payload)
                rebuild.map(meta, reader.coming())
                fault(Saving.MAPPED, None, meta.comm)
            elif kind in (FRAMES + Kind.PAGES, FRAMES + Kind.RUNS) and meta is not None:
                rebuild.pages(Frame(kind - FRAMES, 0, meta.pid, payload))
                fault(Saving.FILLED, None, meta.comm)
            elif kind == REFS and meta is not None:
                for addr, raw in parts.runs(payload):
                    rebuild.pages(Frame(Kind.PAGES, 0, meta.pid, frame_of(addr, raw)))
                    fault(Saving.SHARED, None, meta.comm)
            elif kind == CONTENT and len(payload) >= CONTENT_HEAD.size:
                number, at = CONTENT_HEAD.unpack_from(payload)
                if number not in files.contents and not files.replaced(number):
                    raise BadImage("contents of no file")
                if number in files.contents:
                    files.fill(number, at, memoryview(payload)[CONTENT_HEAD.size :])
            else:
                raise BadImage(f"a record of kind {kind} is out of place")
        if meta is None:
            raise BadImage("no image")
        return meta, rebuild

    @staticmethod
    def _enter(call: Calls, folder: bytes) -> None:
        call.task.write(layout.SCRATCH, folder + b"\0")
        if (result := call(SYS_CHDIR, layout.SCRATCH)) < 0:
            name, reason = folder.decode("utf-8", "backslashreplace"), os.strerror(-result)
            raise CannotRestore(text(Text.RESTORE_FAILED_WHY, reason=f"{name}: {reason}"))

    @staticmethod
    def _surroundings(call: Calls, head: Head, meta: ImageMeta) -> None:
        """Umask, timers and traits, and at last the limits, as far as this user may have them."""
        call(SYS_UMASK, head.umask)
        for which, timer in enumerate(head.itimers):
            call.task.write(layout.SCRATCH, struct.pack("<4q", *timer))
            call(SYS_SETITIMER, which, layout.SCRATCH, 0)
        _give_traits(call, head.traits)
        for which, limit in enumerate(head.limits):
            set_limit(call, which, limit)
        call(SYS_PRCTL, PR_SET_DUMPABLE, int(meta.dumpable == 1))

    def _go_on(self, p: Program, found: _Recovered, start: Start) -> None:
        head, meta = found.head, found.meta
        p.call.carry = partial.taken_up(p.task, found.regs, meta.carry)
        p.task.set_regs(found.regs)
        # CLOCK_MONOTONIC of another time, or computer, says nothing here
        later = meta.shown.monotonic > time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        seen = clocks.Shown(meta.shown.realtime, 0 if later else meta.shown.monotonic)
        page = self.tracer.clock.arrived(seen)
        p.task.poke(layout.CLOCK_PAGE, page)
        p.process.clock_page = page
        p.comm, p.process.pieced = meta.comm, True
        p.process.names, p.process.said = named(meta.vmas), Said.arrived(meta, found.rebuild.owed)
        p.demand.needs, p.demand.waiting = frozenset(meta.needs), found.rebuild.waiting_state
        p.demand.ran_at("", cpu.union(self.tracer.features, meta.features))
        p.settings, p.saves.next = _settled(head.settings, p.settings), head.next_checkpoint
        for made in found.threads:
            self._joins(p, made)
        self.tracer.filters.settled(p)
        self.tracer.checkpoints.interval_changed(p)
        self.tracer.cputimers.limit_changed(p)
        self.tracer.mosd.log(f"pid={p.pid} goes on from a checkpoint of pid={head.pid} ({head.comm})")
        self.tracer.mosd.announce(p)
        self.tracer.occasions.starter(start)(p)

    def _joins(self, p: Program, made: _Thread) -> None:
        """Another thread of ``p`` is known from now on; it goes on together with the first."""
        made.task.set_options(OPTIONS)
        q = self.tracer.family.adopt_thread(made.task, p)
        q.comm, q.suspended, q.demand.waiting = made.of.comm, True, made.waiting_state
        q.call.carry = partial.taken_up(q.task, made.regs, made.of.carry)
        q.task.set_regs(made.regs)
        self.tracer.family.register(q)


def _numbers(pid: int, head: Head) -> None:
    """Its threads have each other's IDs in memory, so they need those that they had. CannotChoose if that cannot be."""
    if head.threads and pid != head.pid:
        raise CannotChoose(f"its threads need process ID {head.pid}")
    for thread in head.threads:
        numbers.free(thread.tid)


def _head(fd: int, rights: Rights) -> Head:
    """Of a checkpoint that is read from its beginning afterwards. BadImage."""
    with _opened(fd, rights) as (reader, _):
        head = reader.head()
    if not stat.S_ISDIR(os.fstat(fd).st_mode):
        os.lseek(fd, 0, os.SEEK_SET)
    return head


def _made(call: Calls, meta: ImageMeta, thread: Thread, traits: Traits) -> _Thread:
    """A thread of the process of ``call``, with everything that is its own. CannotChoose, NoRoom, BadImage, OSError."""
    task = with_number(call, thread.tid, THREAD)
    fault(Saving.THREAD, None, meta.comm)
    with Calls(task) as own:
        waiting = give_state(task, meta, thread)
        name_task(own, thread.comm)
        _give_traits(own, traits)
        regs = _possible(task, give_own(own, thread), thread)
    return _Thread(task, thread, regs, waiting)


def _possible(task: Task, regs: Registers, of: ImageMeta | Thread) -> Registers:
    """``regs``, if the kernel takes them and they can be in the middle of the transfer of ``of``; else BadImage.

    It is tried here, where nothing is final yet; what is laid out for that transfer is laid out anew when the task goes on."""
    tried = copy_regs(regs)
    try:
        partial.taken_up(task, tried, of.carry)
        task.set_regs(tried)
    except (OSError, ValueError, OverflowError, struct.error) as error:
        raise BadImage(f"registers: {error}") from error
    return regs


def _give_traits(call: Calls, traits: Traits) -> None:
    """As far as this user may have them."""
    call(SYS_PERSONALITY, traits.personality)
    if traits.pdeathsig:
        call(SYS_PRCTL, PR_SET_PDEATHSIG, traits.pdeathsig)
    call(SYS_SETPRIORITY, os.PRIO_PROCESS, 0, traits.nice)
    if traits.processors:
        mask = sum(1 << number for number in set(traits.processors))
        call.task.write(layout.SCRATCH, mask.to_bytes(MAX_PROCESSORS // 8, "little"))
        call(SYS_SCHED_SETAFFINITY, 0, MAX_PROCESSORS // 8, layout.SCRATCH)


@contextmanager
def _opened(fd: int, rights: Rights) -> Iterator[tuple[Reader, Parts]]:
    """A checkpoint: a file, or a folder with ``image`` and the files that this shares. BadImage."""
    image, folder = fd, -1
    try:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            folder, image = fd, part_of(fd, IMAGE, rights)
        facts = os.fstat(image)
        if not stat.S_ISREG(facts.st_mode):
            raise BadImage("not a file")
        with closing(Parts(folder, facts.st_uid, rights)) as parts:
            yield Reader(image), parts
    finally:
        if image != fd:
            os.close(image)


def _settled(saved: Settings, given: Settings) -> Settings:
    """The program's settings as they were, but for what has been given anew."""
    new = {name: value for name in _GIVEN if (value := getattr(given, name)) != -1}
    return replace(saved, **new)
