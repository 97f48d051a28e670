"""Setting up a program at exec: stub page, vDSO and clock, and the filter when the tree begins. 0.2 ms in all.

Called at PTRACE_EVENT_EXEC. The value of execve still overwrites rax there, so the task first goes on to the exit of
the call. The very first calls are made by single-stepping a syscall instruction of the kernel's own vDSO: nothing of
the program is touched. The program learns of our vDSO by the auxiliary vector (AT_SYSINFO_EHDR); libc then takes its
time calls from there.
"""

from __future__ import annotations

import errno
import os
import signal
import struct
from functools import lru_cache

from mosfs.abi.texts import Text, text
from mosfs.native import ffi, lib
from mosfs.trace import filter as seccomp
from mosfs.trace import layout, stops
from mosfs.trace.inject import stop_again
from mosfs.trace.task import ALL_SIGNALS, SINGLESTEP, SYSCALL, Task, TaskGone, check, copy_regs

SYS_MMAP, SYS_MPROTECT, SYS_PRCTL, SYS_SECCOMP = 9, 10, 157, 317
AT_NULL, AT_SYSINFO_EHDR = 0, 33
PR_SET_NO_NEW_PRIVS = 38
SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW = 1, 4
_MAP = 0x02 | 0x20 | 0x100000  # MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE
CS_64 = 0x33


class CannotEmbark(Exception):
    """The program cannot be a MOSIX process: it runs natively from here on. The text says why."""


@lru_cache(maxsize=1)
def vdso_image() -> bytes:
    """Our vDSO, padded to whole pages."""
    length = ffi.new("int *")
    data = lib.mos_vdso(length)
    return bytes(ffi.buffer(data, length[0]))


@lru_cache(maxsize=1)
def _syscall_offset() -> int:
    """Where in the kernel's vDSO a syscall instruction is."""
    with open("/proc/self/maps", encoding="ascii", errors="replace") as maps:
        line = next(line for line in maps if line.endswith("[vdso]\n"))
    start, end = (int(x, 16) for x in line.split()[0].split("-"))
    with open("/proc/self/mem", "rb", buffering=0) as mem:
        image = os.pread(mem.fileno(), end - start, start)
    return image.index(b"\x0f\x05")


def low_pages(clock_page: bytes) -> bytes:
    """Contents of the low region from `layout.STUB` to the end of the vDSO."""
    return layout.STUB_CODE.ljust(layout.PAGE, b"\xcc") + clock_page.ljust(layout.PAGE, b"\0") + vdso_image()


class _Stepper:
    """Calls by single-stepping, all signals blocked (a SIGSTOP cannot be)."""

    def __init__(self, task: Task, at: int) -> None:
        self.task = task
        self.at = at
        self.base = copy_regs(task.regs)
        self._result = ffi.new("long *")
        self._status = ffi.new("int *")
        self.stopped = False  # by a SIGSTOP, which is put off

    def __call__(self, nr: int, *args: int) -> int:
        padded = [*args, *([0] * (6 - len(args)))]
        task = self.task
        outcome = lib.mos_step_call(task.pid, self.base, self.at, nr, *padded, self._result, self._status)
        check(outcome, "stepped call", task.pid)
        if outcome == 0:
            return int(self._result[0])
        status = int(self._status[0])
        while status >> 8 != signal.SIGTRAP:  # what cannot be blocked comes before the instruction is executed
            stop = stops.decode(status)
            if stop.stop in (stops.Stop.EXITED, stops.Stop.KILLED):
                raise TaskGone(task.pid, status)
            if stop.stop is stops.Stop.SIGNAL:
                self.stopped = True
            task.cont(request=SINGLESTEP)
            status = task.wait()
        return int(ffi.cast("long", task.peek_regs().rax))

    def must(self, what: str, nr: int, *args: int) -> None:
        result = self(nr, *args)
        if -4096 < result < 0:
            raise CannotEmbark(text(Text.NO_MEMORY) if result == -errno.ENOMEM else f"{what}: {os.strerror(-result)}")


def embark(task: Task, clock_page: bytes, *, first: bool, privileged: bool) -> None:
    """Set the program up and leave it stopped before its first instruction, registers restored.

    ``first``: install the filter (children inherit it). ``privileged``: the program may do so without no_new_privs.
    CannotEmbark leaves it as natively started. The wait for the exit of execve is the only blocking step.
    """
    task.cont(request=SYSCALL)
    status = task.wait()
    if stops.decode(status).stop is not stops.Stop.SYSCALL:
        raise TaskGone(task.pid, status)
    regs = task.peek_regs()
    if regs.cs != CS_64:
        raise CannotEmbark("32-bit")
    start = copy_regs(regs)
    start.orig_rax = 0xFFFF_FFFF_FFFF_FFFF
    mask = task.peek_mask()
    slot, vdso = _find_vdso(task, regs.rsp)
    if not vdso:
        raise CannotEmbark("the kernel gave it no vDSO")
    task.set_mask(ALL_SIGNALS)
    call = _Stepper(task, vdso + _syscall_offset())
    try:
        call.must("low memory", SYS_MMAP, layout.STUB, layout.END - layout.STUB, 3, _MAP, -1, 0)
        task.write(layout.STUB, low_pages(clock_page))
        if first:
            _install(call, task, privileged=privileged)
        call.must("protection", SYS_MPROTECT, layout.STUB, layout.VDSO_END - layout.STUB, 5)
        task.write(slot, struct.pack("<Q", layout.VDSO))
    finally:
        if call.stopped:
            stop_again(task, signal.SIGSTOP)
        task.set_regs(start)
        task.set_mask(mask)


def _install(call: _Stepper, task: Task, *, privileged: bool) -> None:
    program = seccomp.home_filter()
    at = layout.SCRATCH + 64
    task.write(layout.SCRATCH, struct.pack("<HxxxxxxQ", len(program) // 8, at))
    task.write(at, program)
    if not privileged:
        call.must("no_new_privs", SYS_PRCTL, PR_SET_NO_NEW_PRIVS, 1)
    call.must("seccomp", SYS_SECCOMP, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, layout.SCRATCH)


def _find_vdso(task: Task, stack: int) -> tuple[int, int]:
    """(address of the value of AT_SYSINFO_EHDR, the value), found above the initial stack pointer; (0, 0): none."""
    size = 16384
    while size <= 16 << 20:
        view = bytearray(size)
        got = task.read_into(stack, view) // 8
        words = struct.unpack_from(f"<{got}Q", view)
        try:
            env = words[0] + 2
            at = words.index(0, env) + 1
            while words[at] != AT_NULL:
                if words[at] == AT_SYSINFO_EHDR:
                    return (stack + 8 * (at + 1), words[at + 1])
                at += 2
        except (IndexError, ValueError):
            if got * 8 < size:
                return (0, 0)
            size *= 4
            continue
        return (0, 0)
    return (0, 0)
