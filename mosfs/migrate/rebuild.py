"""A task becomes the program of an image.

Stages; what is true after each, so that a failure can be undone (the receiver says FAIL, the sender has the program):

1. ``empty``  nothing is mapped but the stub region (a fresh body), or what a deputy keeps
2. ``mapped`` every mapping stands, with its protection, filled with zeros or with what was sent ahead
3. ``filled`` all PAGES and RUNS frames are written
4. ``whole``  properties, heap, signals, rseq, registers are set; the task stands in the stub, ready to be resumed
"""

from __future__ import annotations

import errno
import os
import resource
import struct
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

from mosfs.abi import cpu
from mosfs.abi.flags import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, MAP_TYPE, PR_SET_MM, PR_SET_NAME, PROT_READ, PROT_WRITE
from mosfs.abi.memory import (
    GROWS_DOWN,
    MADV_DONTNEED,
    MADV_GUARD_INSTALL,
    MADV_NORMAL,
    MADV_RANDOM,
    MADV_SEQUENTIAL,
    MAP_DROPPABLE,
    map_flags,
)  # fmt: skip
from mosfs.abi.numbers import (
    SYS_MADVISE,
    SYS_MMAP,
    SYS_MPROTECT,
    SYS_MUNMAP,
    SYS_PRCTL,
    SYS_RT_SIGACTION,
    SYS_RT_SIGTIMEDWAIT,
    SYS_RT_TGSIGQUEUEINFO,
    SYS_SET_ROBUST_LIST,
    SYS_SET_TID_ADDRESS,
    SYS_SETRLIMIT,
    SYS_SIGALTSTACK,
)
from mosfs.abi.signals import Default, default
from mosfs.abi.xstate import Lacking, checked, checked_waiting
from mosfs.migrate import rseq, settings
from mosfs.migrate.capture import ACTION_SIZE, ACTIONS_AT, ACTIONS_AT_ONCE, limits_of
from mosfs.migrate.huge import batches, dense, make
from mosfs.migrate.image import BadImage, ImageMeta, Thread, Vma
from mosfs.migrate.maps import CannotMove, Piece, changes, pieces, ranges
from mosfs.migrate.pages import runs_of
from mosfs.migrate.precopy import Early
from mosfs.migrate.properties import Property, calls_for, owed
from mosfs.migrate.ranges import Range, common, merge, minus
from mosfs.migrate.suits import frames_misread
from mosfs.native import kernel
from mosfs.native.registers import Registers
from mosfs.trace import layout, xstate
from mosfs.trace.inject import Calls, pack
from mosfs.trace.task import Task, regs_from
from mosfs.wire.frames import Frame

PR_SET_MM_MAP = 14
#: Bytes of struct siginfo that a kernel keeps of what is queued; behind them are zeros.
SIGINFO_USED = 48
#: No descriptor.
MINUS_ONE = 0xFFFF_FFFF_FFFF_FFFF


_NOTHING = bytes(256 * 1024)
#: Limits of what may be mapped.
_OF_MEMORY = (resource.RLIMIT_DATA, resource.RLIMIT_AS)
#: Parts that are marked at once: some milliseconds, for which the program's calls wait.
MARKS = 1024
#: No arguments and environment are longer (execve(2)); a program may say that they are (prctl(2), PR_SET_MM).
LARGEST_TITLE = 8 << 20


class NoRoom(Exception):
    """The image does not fit here ("did not complete (no memory there?)")."""


def _hidden(new: list[Piece]) -> list[Piece]:
    """``new`` in few pieces that nobody can touch."""
    found: list[Piece] = []
    for start, end, _, kind in new:
        if found and found[-1][1] == start and found[-1][3] == kind and not kind & GROWS_DOWN:
            found[-1] = (found[-1][0], end, 0, kind)
        else:
            found.append((start, end, 0, kind))
    return found


def _marks(protected: list[tuple[int, int, int]]) -> list[tuple[int, ...]]:
    """Calls that make a mapping of each of these parts (start, end, protection): neighbours get different advice."""
    found: list[tuple[int, ...]] = []
    last, advice = -1, MADV_SEQUENTIAL
    for start, end, _ in protected:
        advice = MADV_RANDOM if start == last and advice == MADV_SEQUENTIAL else MADV_SEQUENTIAL
        found.append((SYS_MADVISE, start, end - start, advice))
        last = end
    return found


class Unsuited(NoRoom):
    """The processor here lacks what the program uses just now. The text says what, for users."""


def give_state(task: Task, meta: ImageMeta, thread: Thread | None = None) -> dict[int, bytes]:
    """Give a stopped task the state of the processor that came with an image; returns what waits here (`trace.xstate.write`).

    Unsuited: it has no place here, or the kernel refuses it; BadImage: it contradicts itself."""
    of = thread or meta
    try:
        return xstate.write(task, of.xstate, checked(meta.xlayout, len(of.xstate)), checked_waiting(of.waiting_state))
    except Lacking as lacking:
        raise Unsuited(cpu.lacks(lacking.features, "the node")) from lacking
    except ValueError as error:
        raise BadImage(f"processor state: {error}") from error
    except OSError as error:
        raise Unsuited(f"the kernel there refuses its processor state ({os.strerror(error.errno or 0)})") from error


class Files(Protocol):
    """Who makes the mappings of files in a task: OSError when there is no room, BadImage when they cannot be."""

    def place(self, call: Calls, vmas: Sequence[Vma]) -> None: ...

    def beyond(self) -> list[Range]:
        """What of these mappings lies beyond the ends that their files have now, if others may change those; sorted, apart."""


def clear(call: Calls, keep: list[tuple[int, int]]) -> None:
    """Unmap everything but ``keep`` (sorted ranges) and the kernel's gate page."""
    for start, end in minus([(layout.PAGE * 16, layout.USER_END)], keep):
        call.must(SYS_MUNMAP, start, end - start)


@contextmanager
def limits_raised(call: Calls) -> Iterator[None]:
    """As high as they may be, meanwhile: a program may have lowered its limits below what it uses, and keeps that all the same."""
    lowered = [(w, limit) for w, limit in limits_of(call.task.pid).items() if w in _OF_MEMORY and limit[0] != limit[1]]
    for which, (_, hard) in lowered:
        set_limit(call, which, (hard, hard))
    try:
        yield
    finally:
        for which, limit in lowered:
            set_limit(call, which, limit)


def set_limit(call: Calls, which: int, limit: tuple[int, int]) -> None:
    """Set by the task itself. A limit higher than it may set stays: allocations fail later, as they would there."""
    call.task.write(layout.SCRATCH, struct.pack("<2Q", *(value & 0xFFFF_FFFF_FFFF_FFFF for value in limit)))
    call(SYS_SETRLIMIT, which, layout.SCRATCH)


class Plan:
    """What is to be done to the pieces that were made when the program's mappings are ``vmas``."""

    def __init__(self, made: list[Piece], vmas: list[Vma]) -> None:
        self.vmas = vmas
        self.places = merge((v.start, v.end) for v in vmas)
        self.unmap, self.new, self.protected = changes(made, pieces(vmas))
        self.protect = pack([(SYS_MPROTECT, start, end - start, prot) for start, end, prot in self.protected])


def _known(flags: int) -> int:
    """Before Linux 6.11 droppable memory is private memory, with its advice."""
    droppable = flags & MAP_TYPE == MAP_DROPPABLE and not kernel.has("droppable")
    return flags & ~MAP_TYPE | MAP_PRIVATE if droppable else flags


class Rebuild:
    """Drives one task through the stages. Preconditions: ``call`` is an open session in the stub of ``call.task``."""

    meta: ImageMeta

    def __init__(
        self, call: Calls, *, deputy: bool = False, title: list[Range] | None = None, files: Files | None = None
    ) -> None:
        """``deputy``: the task goes on making the program's calls while memory comes ahead. To them that memory is not there: a bad
        address of the program must stay a bad one. ``title``: its arguments and environment, which /proc shows all the time.
        ``files``: makes the mappings of files."""
        self.call = call
        self._deputy = deputy
        self._session = True
        self.task: Task = call.task
        self.frames = 0
        self.waiting_state: dict[int, bytes] = {}  # of the processor, once all is done (`abi.xstate.waits`)
        self.owed: list[Property] = []  # properties that could not be given here
        self._mem = -1
        self._made: list[Piece] = []
        self._told = Plan([], [])
        self._title = title or []
        self._old_title: list[Range] = []  # of it, what is still as the deputy had it: the program's may be empty there
        self._places: list[Range] = []
        self.to_mark: list[tuple[int, ...]] = []
        self._marked = False
        self.files = files
        self._huge: deque[Range] = deque()  # of what `early` has mapped, what comes whole and has not come yet

    @property
    def ahead(self) -> list[Range]:
        """What `early` has mapped."""
        return ranges(self._made)

    @property
    def apart(self) -> list[Range]:
        """What goes again when the program does not come."""
        return minus(self.ahead, self._title)

    def leave(self) -> None:
        """The session ends before the image has begun; pages may come all the same. Another one is put into ``call``."""
        self._session = False

    def close(self) -> None:
        if self._mem >= 0:
            os.close(self._mem)
            self._mem = -1

    # ------------------------------------------------------------------ before the image

    def early(self, early: Early) -> None:
        """Pre-copy: parts of the memory whose pages come while the program still runs where it is, and how it looks at present.

        With nothing in it: what came so far is worth nothing (the program has made another one of itself by exec).
        """
        new = early.pieces
        if not new and not early.vmas:
            for start, end in self.apart:
                self.call.must(SYS_MUNMAP, start, end - start)
            self._made, self._places, self._old_title, self.frames = [], [], [], 0
            self._huge.clear()
        before = self._made
        self._made = sorted([*before, *new])  # as far as it comes
        if self._deputy:
            new = [piece for part in _hidden(new) for piece in self._with_title(part)]
            self._prepare(new)
        else:
            self._map(new)
            self._huge.extend(batches(early.dense))
        self._made = sorted([*before, *new])
        self._places = self.ahead
        self.tell(early.vmas)
        if self._deputy:
            self.to_mark = _marks(self._told.protected)

    def _prepare(self, new: list[Piece]) -> None:
        """Touch hidden memory before it is cut by `mark`: so its parts have one anon_vma, and may become one mapping again."""
        for start, _, prot, _ in new:
            if not prot:
                self._store(start, b"\0")
        self.call.many([(SYS_MADVISE, start, layout.PAGE, MADV_DONTNEED) for start, _, prot, _ in new if not prot])

    def mark(self) -> bool:
        """Make some parts of hidden memory mappings of their own, by an advice that `map` takes back: then their protection is
        changed in a third of the time, while the program stands still. False when nothing is left."""
        some, self.to_mark = self.to_mark[:MARKS], self.to_mark[MARKS:]
        self.call.many(some)  # what is not marked is only slower
        self._marked = self._marked or bool(some)
        return bool(self.to_mark)

    def tell(self, vmas: list[Vma]) -> None:
        """How the memory looks at present: what is left to be done is worked out now, not when the program stands still."""
        self._told = Plan(self._made, vmas)

    def _with_title(self, piece: Piece) -> list[Piece]:
        """Make a piece, hidden but for what /proc shows of arguments and environment; how it was made."""
        start, end, _, kind = piece
        title = self._shown(start, end)
        if not title:
            self._map([piece])
            return [piece]
        # touched as one mapping, so that it becomes one again: the kernel names the stack by its mapping
        self._map([(start, end, PROT_READ | PROT_WRITE, kind)])
        for at, text in title:
            self.task.write(at, text)
        shown = merge((at, at + len(text)) for at, text in title)
        self._old_title = merge([*self._old_title, *shown])
        hidden = minus([(start, end)], shown)
        for at, to in hidden:
            self.call.must(SYS_MPROTECT, at, to - at, 0)
        return sorted([*((at, to, 3, kind) for at, to in shown), *((at, to, 0, kind) for at, to in hidden)])

    def _shown(self, start: int, end: int) -> list[tuple[int, bytes]]:
        """What /proc tells of arguments and environment that are in this range."""
        try:
            return [(at, self.task.read(at, to - at)) for at, to in common([(start, end)], self._title)]
        except OSError:
            return []  # the program had unmapped them

    # ------------------------------------------------------------------ stage 2

    def resume(self, call: Calls) -> None:
        """A session again."""
        self.call, self._session = call, True

    def know(self, meta: ImageMeta) -> None:
        """IMAGE: its mappings, if they were told before."""
        if meta.told:
            if not self._told.vmas:
                raise BadImage("its mappings were not told")
            meta.vmas = self._told.vmas

    def map(self, meta: ImageMeta, coming: Sequence[Range] = ()) -> None:
        """Stage 2. ``coming``: where pages come, in this order, and none has come yet, as far as that is known."""
        self.know(meta)
        plan = self._told if meta.told else Plan(self._made, meta.vmas)
        self.meta = meta
        self._places = plan.places
        if self._old_title:
            for start, end in common(self._old_title, minus(self.ahead, plan.unmap)):
                self.call(SYS_MADVISE, start, end - start, MADV_DONTNEED)
        self._all(pack([(SYS_MUNMAP, start, end - start) for start, end in plan.unmap]))
        self._map(plan.new)
        self._all(plan.protect)
        if self._marked:  # over holes, too: the rest is done all the same
            self.call.many([(SYS_MADVISE, start, end - start, MADV_NORMAL) for start, end in self.ahead])
        self._marked, self._deputy = False, False
        self._huge.extend(batches(dense(common([*coming], self._places))))
        self._map_files([vma for vma in meta.vmas if vma.file])

    def _map_files(self, vmas: list[Vma]) -> None:
        if not vmas:
            return
        if self.files is None:
            raise BadImage("mappings of files, whose contents have not come")
        try:
            self.files.place(self.call, vmas)
        except OSError as error:
            raise NoRoom(str(error)) from error

    def _map(self, new: list[Piece]) -> None:
        calls = [
            (SYS_MMAP, start, end - start, prot, MAP_FIXED | MAP_ANONYMOUS | _known(map_flags(kind)), MINUS_ONE, 0)
            for start, end, prot, kind in new
        ]
        for call, result in zip(calls, self.call.many(calls)):
            if result != call[1]:
                raise NoRoom(os.strerror(-result) if -4096 < result < 0 else f"mapped at {result:#x}")

    def _all(self, rows: bytes) -> None:
        worst = min(self.call.packed(rows), default=0)
        if worst < 0:
            raise NoRoom(os.strerror(-worst))

    # ------------------------------------------------------------------ stage 3

    def pages(self, frame: Frame) -> None:
        """One PAGES or RUNS frame."""
        runs = runs_of(frame)
        for addr, length, _ in runs:
            at = bisect_right(self._places, (addr, layout.USER_END)) - 1
            if at < 0 or addr + length > self._places[at][1]:
                raise BadImage(f"pages at {addr:#x} belong to no mapping")
        while self._huge and runs[-1][0] + runs[-1][1] > self._huge[0][0]:
            make(self.call, *self._huge.popleft())
        filled = [(addr, raw) for addr, _, raw in runs if raw is not None]
        if len(filled) < 2 or self._deputy or not self.task.write_runs(filled):
            for addr, raw in filled:
                self._store(addr, raw)
        self._empty([(addr, length) for addr, length, raw in runs if raw is None])
        if self._old_title:
            self._old_title = minus(self._old_title, merge((addr, addr + length) for addr, length, _ in runs))
        self.frames += 1

    def _empty(self, runs: list[tuple[int, int]]) -> None:
        if self._session:
            for result in self.call.many([(SYS_MADVISE, addr, length, MADV_DONTNEED) for addr, length in runs]):
                if result < 0:
                    raise OSError(-result, f"pages that are empty again: {os.strerror(-result)}")
            return
        for addr, length in runs:
            for at in range(addr, addr + length, len(_NOTHING)):
                self._store(at, _NOTHING[: addr + length - at])

    def _store(self, addr: int, raw: bytes | memoryview) -> None:
        """Into memory of the task. Pages that are the program's own, of a mapped file that has been cut off since, are no more."""
        try:
            try:
                self._put(addr, raw)
            except OSError:
                gone = common([(addr, addr + len(raw))], self.files.beyond() if self.files is not None else [])
                if not gone:
                    raise
                for start, end in minus([(addr, addr + len(raw))], gone):
                    self._put(start, memoryview(raw)[start - addr : end - addr])
        except OSError as error:
            if error.errno in (errno.ENOMEM, errno.EFAULT, errno.EIO):
                raise NoRoom(str(error)) from error
            raise

    def _put(self, addr: int, raw: bytes | memoryview) -> None:
        """OSError. The memory may be hidden, or not be written by the program: then past its protection, through /proc."""
        if not self._deputy:
            try:
                self.task.write(addr, raw)
                return
            except OSError as error:
                if error.errno != errno.EFAULT:
                    raise
        if self._mem < 0:
            self._mem = os.open(f"/proc/{self.task.pid}/mem", os.O_WRONLY | os.O_CLOEXEC)
        if os.pwrite(self._mem, raw, addr) != len(raw):
            raise OSError(errno.EFAULT, f"no memory at {addr:#x}")

    # ------------------------------------------------------------------ stage 4

    def finish(self, frames: int, *, home: bool) -> Registers:
        """Stage 4; the registers to resume with. The mask of the image is put in force when the session ends.

        What the kernel may refuse comes first: until that is done nothing of the task but its memory has changed."""
        if frames != self.frames:
            raise BadImage(f"{self.frames} page frames instead of {frames}")
        self.close()
        meta, call = self.meta, self.call
        self._give_properties()
        self._set_mm()
        settings.give(call, meta.settings)
        self.waiting_state = give_state(self.task, meta)
        if misread := frames_misread(self.task, meta):
            raise Unsuited(f"is in a signal handler, whose return would lose {' '.join(misread)} there")
        if not home:
            for which, limit in meta.limits.items():
                set_limit(call, which, limit)
            name_task(call, meta.comm)
            set_actions(call, actions_of(meta))
        else:
            # what a handler left behind in the body (SA_RESETHAND) or what was changed there holds at home too
            set_actions(call, changed_away(meta))
        return give_own(call, meta)

    def _give_properties(self) -> None:
        """What was said of the memory is said again. Locks may go beyond this node's limits, advice beyond its kernel."""
        if self.meta.guards and not kernel.has("guards"):
            raise NoRoom("guard pages, which this kernel has not (Linux 6.13 has)")
        calls = list(calls_for(self.meta.vmas, self.meta.guards))
        for call, result in zip(calls, self.call.many(calls)):
            if result == 0:
                continue
            if call[3] == MADV_GUARD_INSTALL and call[0] == SYS_MADVISE:
                raise NoRoom(f"guard pages: {os.strerror(-result)}")
            self.owed.append(owed(call))

    def _set_mm(self) -> None:
        """brk and what /proc shows of the program; needs no capability with exe_fd -1 (prctl(2), PR_SET_MM_MAP)."""
        auxv_at = layout.SCRATCH + 256
        fixed = struct.pack("<12QIi", *self.meta.mm, auxv_at, len(self.meta.auxv), -1)
        self.task.write(auxv_at, self.meta.auxv)
        self.task.write(layout.SCRATCH, fixed)
        self.call.must(SYS_PRCTL, PR_SET_MM, PR_SET_MM_MAP, layout.SCRATCH, len(fixed), 0)


def give_own(call: Calls, of: ImageMeta | Thread) -> Registers:
    """What a thread has for itself; the registers to resume it with. Its mask is put in force when the session ends."""
    rows = own_calls(of, ACTIONS_AT)
    call.task.write(ACTIONS_AT, of.altstack)
    call.many(rows)
    return given(call, of)


def own_calls(of: ImageMeta | Thread, at: int) -> list[tuple[int, ...]]:
    """The calls that give a thread what it has for itself; at ``at`` is its stack for signals."""
    rows: list[tuple[int, ...]] = [(SYS_SIGALTSTACK, at, 0)]
    if of.tid_address:
        rows.append((SYS_SET_TID_ADDRESS, of.tid_address))
    if of.robust[0]:
        rows.append((SYS_SET_ROBUST_LIST, *of.robust))
    try:
        rows += rseq.registering(of.rseq)
    except CannotMove as reason:
        raise NoRoom(str(reason)) from reason
    return rows


def given(call: Calls, of: ImageMeta | Thread) -> Registers:
    """Behind those calls: the registers to resume it with."""
    for shared, info in of.pending:
        queue_signal(call, info, shared=shared)
    regs = regs_from(of.regs)
    regs.cs, regs.ss, regs.ds, regs.es, regs.fs, regs.gs = 0x33, 0x2B, 0, 0, 0, 0
    call.mask = of.mask
    return regs


def name_task(call: Calls, comm: str) -> None:
    """What ps(1) calls it."""
    call.task.write(layout.SCRATCH, comm.encode("latin-1")[:15] + b"\0")
    call.must(SYS_PRCTL, PR_SET_NAME, layout.SCRATCH)


#: struct sigaction of the kernel: SIG_DFL, no flags, an empty mask.
#: Handlers that are none (SIG_DFL, SIG_IGN), and the action of a signal after exec.
DEFAULT, IGNORE = bytes(8), (1).to_bytes(8, "little")
DEFAULT_ACTION = bytes(32)


def actions_of(meta: ImageMeta) -> dict[int, bytes]:
    """Signal -> struct sigaction of all that the image tells."""
    ignored = {sig: IGNORE + bytes(24) for sig in range(1, 65) if meta.ignored >> (sig - 1) & 1}
    return {**ignored, **dict(meta.actions)}


def discards(sig: int, action: bytes) -> bool:
    """Whether a signal that waits is lost when ``action`` is set, even if it was set before (sigaction(2), POSIX)."""
    return action[:8] == IGNORE or (action[:8] == DEFAULT and default(sig) in (Default.IGN, Default.CONT))


def changed_away(meta: ImageMeta) -> dict[int, bytes]:
    """What home sets when the program comes: flags and masks where nothing is caught are news to it, or a reset handler."""
    told = actions_of(meta)
    if meta.all_actions:
        told = {**dict.fromkeys(range(1, 65), DEFAULT_ACTION), **told}
        return {sig: action for sig, action in told.items() if not discards(sig, action)}
    return {sig: action for sig, action in told.items() if action[:8] not in (DEFAULT, IGNORE)}


def set_actions(call: Calls, actions: Mapping[int, bytes]) -> None:
    """Make the task set what it does at these signals."""
    ordered = list(actions.items())
    for first in range(0, len(ordered), ACTIONS_AT_ONCE):
        some = ordered[first : first + ACTIONS_AT_ONCE]
        call.task.write(ACTIONS_AT, b"".join(action for _, action in some))
        call.many([(SYS_RT_SIGACTION, sig, ACTIONS_AT + ACTION_SIZE * place, 0, 8) for place, (sig, _) in enumerate(some)])


def set_action(call: Calls, sig: int, action: bytes) -> None:
    """Make the task set what it does at a signal."""
    call.task.write(layout.SCRATCH, action)
    call(SYS_RT_SIGACTION, sig, layout.SCRATCH, 0, 8)


def reset_action(call: Calls, sig: int) -> None:
    """Make the task forget the handler, and that only, as the kernel does when it calls one with SA_RESETHAND."""
    call(SYS_RT_SIGACTION, sig, 0, layout.SCRATCH, 8)
    set_action(call, sig, DEFAULT + call.task.read(layout.SCRATCH, 32)[8:])


def queue_signal(call: Calls, info: bytes, *, shared: bool) -> None:
    """Make the task send itself the signal of ``info``: it may queue any siginfo for itself."""
    task = call.task
    sig = int.from_bytes(info[:4], "little")
    task.write(layout.SCRATCH, info)
    if shared:
        call(129, task.own, sig, layout.SCRATCH)
    else:
        call(SYS_RT_TGSIGQUEUEINFO, task.group, task.own, sig, layout.SCRATCH)


def take_pending(call: Calls, signals: set[int]) -> list[tuple[bool, bytes]]:
    """Take these signals out of the task's queue, as (sent to the process?, siginfo), so that older ones can come before.

    Not many more than `MOST_PENDING`: what is behind those stays before all others."""
    task = call.task
    pending = task.peek_pending() if signals else []
    found = [(shared, info) for shared, info in pending if int.from_bytes(info[:4], "little") in signals]
    wanted = sum(1 << (sig - 1) for sig in signals)
    for _ in found:
        task.write(layout.SCRATCH, struct.pack("<3Q", wanted, 0, 0))
        call(SYS_RT_SIGTIMEDWAIT, layout.SCRATCH, 0, layout.SCRATCH + 8, 8)
    return found


def queue_noted(call: Calls, signals: Iterable[tuple[bool, bytes]], queued: list[tuple[bool, bytes]]) -> None:
    """`queue_signal` of each (sent to the process?, siginfo), which ``queued`` then has, too, for `take_back`."""
    for shared, info in signals:
        queued.append((shared, info))
        queue_signal(call, info, shared=shared)


def take_back(call: Calls, queued: Iterable[tuple[bool, bytes]]) -> list[tuple[bool, bytes]]:
    """Take what was queued out of the task's queue again. What else has come of the same numbers is taken, too, and returned."""
    ours = Counter((shared, info[:SIGINFO_USED]) for shared, info in queued)
    others = []
    for shared, info in take_pending(call, {int.from_bytes(info[:4], "little") for _, info in ours}):
        key = (shared, info[:SIGINFO_USED])
        if ours[key]:
            ours[key] -= 1
        else:
            others.append((shared, info))
    return others


def kept_at_home(low: int, high: int) -> list[tuple[int, int]]:
    """What a deputy keeps: the stub region, and arguments and environment, so that ps shows the command line."""
    return [(layout.STUB, layout.END), *title_pages(low, high)]


def title_pages(low: int, high: int) -> list[tuple[int, int]]:
    """The pages of arguments and environment (`capture.title_at`), if there are any."""
    return [(low & ~4095, (high + 4095) & ~4095)] if 0 < low < high <= low + LARGEST_TITLE else []
