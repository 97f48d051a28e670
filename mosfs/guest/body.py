"""A body: an empty sandboxed process that becomes the memory and registers of a guest."""

from __future__ import annotations

import os
import struct
import time
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import lru_cache
from typing import Any

from mosfs.balance.account import Account
from mosfs.calls import cputime
from mosfs.calls.cputime import Used
from mosfs.calls.cputimers import Alarm
from mosfs.calls.partial import Carry
from mosfs.guest.sending import Sending
from mosfs.migrate.filecopy import Copies
from mosfs.migrate.image import ImageMeta, Vma
from mosfs.migrate.properties import Said
from mosfs.migrate.ranges import minus
from mosfs.migrate.rebuild import NoRoom
from mosfs.native import ffi, lib
from mosfs.ptf.store import Store
from mosfs.ptf.travel import Opening, Sender
from mosfs.trace import embark, layout, stops
from mosfs.trace.filter import guest_filter
from mosfs.trace.inject import Calls
from mosfs.trace.task import ALL_SIGNALS, Task, TaskGone
from mosfs.wire.messages import Settings
from mosfs.wire.orders import MoveOrder

SYS_MMAP, SYS_MPROTECT, SYS_MUNMAP = 9, 10, 11
#: Nobody: whom bodies run as where there is no user for each owner (`daemon.owners`). None of them has rights to lose.
GUEST_UID = 65534
_ENTRY = 0x100


class State(Enum):
    BUILDING = auto()  # the image arrives
    COMPLETE = auto()  # READY was said, GO is awaited
    RUNNING = auto()
    WAITING = auto()  # inside a call that was forwarded
    MAIL = auto()  # inside a call that this node's post office will answer
    POST = auto()  # inside such a call, waiting for MailWake
    FORKING = auto()  # FORK was sent, or its own clone is under way
    EXECING = auto()  # EXEC was sent
    LEAVING = auto()  # its image was sent, DROP or RESUME is awaited


@dataclass(slots=True)
class Body:
    """``pair`` is the PID of the program at home. ``regs`` stand behind the system call it is in (WAITING)."""

    pair: int
    task: Task
    state: State = State.BUILDING
    meta: ImageMeta | None = None
    regs: Any = None
    nr: int = -1
    held: bool = False  # the program is stopped by a signal at home
    paused: bool = False  # it has reached its stop for `held`
    wanted: Any = None  # RECALL or MOVE_TO that waits for its stop
    arming: MoveOrder | None = None  # COPY that waits for its stop
    copy: Sending | None = None
    interrupting: bool = False
    restart: tuple[int, int] | None = None
    saved_mask: int | None = None
    infos: list[bytes] = field(default_factory=list)
    clock_page: bytes = b""
    child: int = 0
    forking: Any = None  # the registers of the clone that it was let make, while it is FORKING
    child_pidfd: int = -1  # home's descriptor of it, for CLONE_PIDFD
    fork_mask: int = 0  # the mask to put back when its clone has returned
    was_waiting: bool = False
    map_request: Any = None
    comm: str = ""
    since: float = 0.0
    carry: Carry | None = None  # it is in the middle of a transfer that a move cut short
    seen: int = 0  # SIGNAL frames received
    seq: int = 0  # number of the call it waits in
    features: str = ""  # all that the program has seen of processors (`abi.cpu`)
    needs: list[str] = field(default_factory=list)  # flags that it is known to use
    waiting_state: dict[int, bytes] = field(default_factory=dict)  # of components that are not here (`abi.xstate.waits`)
    escapes: int = 0  # so often an instruction was illegal here and it was to go elsewhere
    faulted: bool = False  # it stands before such an instruction
    shares: bool = False  # a vfork child: its memory is its parent's
    step: int | None = None
    names: list[Vma] = field(default_factory=list)  # the files that its memory has shown, as home knows them
    copies: Copies = field(default_factory=Copies)  # of the files that it maps
    said: Said = field(default_factory=Said)  # of its memory, by the program, here or before it came
    title_at: tuple[int, int] = (0, 0)  # where its arguments begin and its environment ends
    title: int = 0  # checksum of what is there, as home was told last
    mail: Any = None  # its part in direct communication (`guest.mail.Mail`)
    used_before: Used = field(default_factory=Used)  # CPU time of the program on other nodes
    used_to_build: Used = field(default_factory=Used)  # what this body had used before it was the program
    used_last: Used = field(default_factory=Used)  # what was last said of it
    told_used: Used = field(default_factory=Used)  # the same, to home
    alarm: Alarm | None = None  # CPU time at which home wants to be told
    alarm_due: float = 0.0  # when that can be reached at the earliest
    child_alarm: Alarm = field(default_factory=Alarm)  # of its child, while it forks
    deputy_cpu: int = -1  # ns that its deputy has used and used away, while it makes no other call; -1: not known
    told_mask: int = ALL_SIGNALS  # what home believes to be blocked
    private: Store | None = None
    opening: Opening | None = None  # the private file that it is opening
    sender: Sender | None = None  # of its private files, while it is about to leave
    oneshot: set[int] = field(default_factory=set)  # signals whose handler is reset when it is called
    settings: Settings | None = None  # as far as they concern this node, once home has told
    account: Account = field(default_factory=lambda: Account(time.monotonic()))
    group_nice: int | None = None  # its session is yet to have this nice value (`trace.autogroup`)
    unsaid: float = 0.0  # CPU seconds that home has not been told of
    said_user: float = 0.0  # those of user level that it has

    @property
    def pid(self) -> int:
        return self.task.pid

    def used(self) -> Used:
        """CPU time of the program away from home, in all."""
        used = self.used_before.plus(cputime.of_process(self.pid).minus(self.used_to_build))
        self.used_last = used.after(self.used_last)
        return self.used_last


@lru_cache(maxsize=1)
def _elf() -> bytes:
    """A static program of one page at `layout.STUB`: the stub, and an entry that reports itself ready."""
    entry = b"\xb8" + layout.MAGIC.to_bytes(4, "little") + b"\x0f\x05\xf4"
    code = (layout.STUB_CODE.ljust(_ENTRY, b"\xcc") + entry).ljust(layout.PAGE, b"\xcc")
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    header = ident + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, layout.STUB + _ENTRY, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    load = struct.pack("<IIQQQQQQ", 1, 5, layout.PAGE, layout.STUB, layout.STUB, layout.PAGE, layout.PAGE, layout.PAGE)
    stack = struct.pack("<IIQQQQQQ", 0x6474E551, 6, 0, 0, 0, 0, 0, 16)
    return (header + load + stack).ljust(layout.PAGE, b"\0") + code


@lru_cache(maxsize=1)
def _program() -> int:
    """A sealed memfd that holds `_elf`; one a host."""
    fd = os.memfd_create("guest", os.MFD_CLOEXEC)
    os.write(fd, _elf())
    os.fchmod(fd, 0o555)
    # a file that is open for writing cannot be executed
    readable = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    os.close(fd)
    return readable


def spawn(uid: int = GUEST_UID, namespaces: bool = False) -> Task:
    """A fresh body: filtered, seized with EXITKILL, nothing mapped but the low region, standing in the stub.

    ``uid``: whom it runs as if we are root.
    """
    program = guest_filter()
    buffer = ffi.from_buffer(program)
    pid = lib.mos_spawn_body(_program(), uid, buffer, len(program) // 8, 0, namespaces)
    if pid < 0:
        raise NoRoom(os.strerror(-pid))
    task = Task(pid, guest=True)
    while True:
        raw = task.wait()
        status = stops.decode(raw)
        if status.stop in (stops.Stop.EXITED, stops.Stop.KILLED):
            raise NoRoom(f"the body ended with {status.value}")
        if status.stop is stops.Stop.SECCOMP and task.peek_regs().orig_rax == layout.MAGIC:
            break
        task.cont()
    try:
        with Calls(task, mask=0) as call:
            _strip(call)
    except OSError as error:
        discard(task)
        raise NoRoom(str(error)) from error
    return task


def _strip(call: Calls) -> None:
    """Leave only the low region mapped."""
    for start, end in minus([(16 * layout.PAGE, layout.USER_END)], [(layout.STUB, layout.STUB + layout.PAGE)]):
        call.must(SYS_MUNMAP, start, end - start)
    low = layout.STUB + layout.PAGE
    call.must(SYS_MMAP, low, layout.END - low, 3, 0x32, -1, 0)
    call.task.write(layout.VDSO, embark.vdso_image())
    call.must(SYS_MPROTECT, low, layout.VDSO_END - low, 5)


def discard(task: Task) -> None:
    """Kill a body and reap it."""
    try:
        os.kill(task.pid, 9)
    except ProcessLookupError:
        return
    try:
        while True:
            status = stops.decode(task.wait())
            if status.stop in (stops.Stop.EXITED, stops.Stop.KILLED):
                return
    except TaskGone:
        return
