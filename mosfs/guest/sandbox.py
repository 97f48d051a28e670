"""An empty sandboxed process, which can become the memory and registers of a guest (docs/design/security.md)."""

from __future__ import annotations

import errno
import os
import struct
from functools import lru_cache

from mosfs.abi.flags import CLONE_FILES, CLONE_FS, CLONE_SIGHAND, CLONE_SYSVSEM, CLONE_THREAD, CLONE_VM
from mosfs.abi.numbers import SYS_CLONE3, SYS_EXIT, SYS_MMAP, SYS_MPROTECT, SYS_MUNMAP
from mosfs.migrate.ranges import minus
from mosfs.migrate.rebuild import NoRoom, Unsuited
from mosfs.native import ffi, kernel, lib
from mosfs.native.registers import Registers
from mosfs.trace import embark, layout, stops
from mosfs.trace.filter import guest_filter
from mosfs.trace.inject import Calls
from mosfs.trace.task import Task, TaskGone, check, discard, unfit

#: Nobody: whom bodies run as where there is no user for each owner (`daemon.owners`). None of them has rights to lose.
GUEST_UID = 65534
#: memfd_create(2): executable whatever vm.memfd_noexec says (since Linux 6.3).
MFD_EXEC = 0x10
_ENTRY = 0x100
#: Why a program with threads cannot be here.
CANNOT_CHOOSE = "node cannot choose process IDs"
_OF_THREAD = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM


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
    fd = os.memfd_create("guest", os.MFD_CLOEXEC | (MFD_EXEC if kernel.has("memfd_exec") else 0))
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
    return _empty(Task(pid, guest=True))


class Maker:
    """Makes bodies that may have threads: they and their threads have IDs that we choose (clone3(2), set_tid).

    It is a process of ours, in a user namespace where nobody is but who the bodies run as, and has made a namespace of PIDs, where
    nobody is but its bodies. Needs Linux 5.9 and a right to make user namespaces: `Unsuited` without."""

    def __init__(self, uid: int) -> None:
        program = guest_filter(threads=True)
        self._failed = ""  # a late answer would be taken for that to another question
        self._filter = ffi.from_buffer(program)
        self._ends = ffi.new("int[2]")
        made = lib.mos_make_maker(_program(), uid, self._filter, len(program) // 8, self._ends)
        if made < 0:
            raise Unsuited(f"{CANNOT_CHOOSE} ({os.strerror(-made)})")

    def spawn(self, number: int) -> Task:
        """A new body, as from `spawn`; ``number`` is its PID as it sees it. Once one could not be made no other is."""
        pid = lib.mos_chosen_body(self._ends, number) if not self._failed else 0
        if pid == -errno.EEXIST:
            raise Unsuited("has a process ID that is taken there")
        if pid < 0:
            self._failed = os.strerror(-pid)
        if self._failed:
            raise Unsuited(f"{CANNOT_CHOOSE} ({self._failed})")
        return _empty(Task(pid, guest=True, own=number))


def spawn_thread(call: Calls, number: int) -> Task:
    """A thread of the stopped body in which ``call`` is an open session: it stands in the stub, with all signals blocked.

    ``number``: its ID as it sees it. NoRoom, or TaskGone."""
    leader = call.task
    leader.write(layout.SCRATCH, struct.pack("<10QI", _OF_THREAD, 0, 0, 0, 0, 0, 0, 0, layout.SCRATCH + 80, 1, number))
    check(lib.mos_run_call(leader.pid, call.base, SYS_CLONE3, layout.SCRATCH, 80, 0, 0, 0, 0), "a thread", leader.pid)
    child = 0
    while True:
        raw = leader.wait()
        status = stops.decode(raw)
        if status.stop in (stops.Stop.EXITED, stops.Stop.KILLED):
            raise TaskGone(leader.pid, raw)
        if status.stop is stops.Stop.CLONE:
            child = leader.event_message()
        elif status.stop is not stops.Stop.SECCOMP:
            raise unfit(leader.pid, f"its new thread met {status.stop.name} {status.value}")
        elif (regs := leader.peek_regs()).orig_rax == layout.MAGIC:
            break
        elif regs.orig_rax != SYS_CLONE3 or regs.rip != layout.STUB_AFTER:
            raise unfit(leader.pid, f"call {regs.orig_rax} in the place of its new thread")
        leader.cont()
    if not child:
        result = regs.rdi - (1 << 64) if regs.rdi >> 63 else regs.rdi
        raise Unsuited("has a thread ID that is taken there") if result == -errno.EEXIST else NoRoom(os.strerror(-result))
    task = Task(child, guest=True, own=number, group=leader.own)
    raw = task.wait()
    if not os.WIFSTOPPED(raw):
        raise NoRoom("its thread was killed")
    return task


def end_thread(task: Task, base: Registers) -> None:
    """End a thread that stands in its stub, and no other. TaskGone, if all of them have ended."""
    check(lib.mos_run_call(task.pid, base, SYS_EXIT, 0, 0, 0, 0, 0, 0), "the end of a thread", task.pid)
    while True:
        raw = task.wait()
        status = stops.decode(raw)
        if status.stop is stops.Stop.EXITED:
            return
        if status.stop is stops.Stop.KILLED:
            raise TaskGone(task.pid, raw)
        task.cont()


def _empty(task: Task) -> Task:
    """A new body, when it stands in its stub with nothing but that."""
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
