"""Setting up a program at exec: stub page, vDSO and clock, and the filter when the tree begins. 0.2 ms in all.

Called at PTRACE_EVENT_EXEC. The value of execve still overwrites rax there, so the task first goes on to the exit of
the call. The very first calls are made by a syscall instruction of the kernel's own vDSO: nothing of the program is
touched. The program learns of our vDSO by the auxiliary vector (AT_SYSINFO_EHDR); libc then takes its time calls from
there. The kernel's is unmapped: no other node has it at that address, and it tells the time of this one.
"""

from __future__ import annotations

import errno
import os
import signal
from functools import lru_cache

from mosfs.abi.texts import Text, text
from mosfs.native import ffi, lib
from mosfs.trace import filter as seccomp
from mosfs.trace import layout
from mosfs.trace.inject import stop_again
from mosfs.trace.task import Task, TaskGone, check


class CannotEmbark(Exception):
    """The program cannot be a MOSIX process: it runs natively from here on. The text says why."""


@lru_cache(maxsize=1)
def vdso_image() -> bytes:
    """Our vDSO, padded to whole pages."""
    length = ffi.new("int *")
    data = lib.mos_vdso(length)
    return bytes(ffi.buffer(data, length[0]))


@lru_cache(maxsize=1)
def _kernels() -> tuple[int, int, int]:
    """Where the kernel's own pages begin, where its vDSO does, and where that ends: at the same distances in every process."""
    found: list[tuple[int, int]] = []
    with open("/proc/self/maps", encoding="ascii", errors="replace") as maps:
        for line in maps:
            if line.rstrip().endswith(("[vvar]", "[vvar_vclock]", "[vdso]")):
                start, end = (int(x, 16) for x in line.split()[0].split("-"))
                found.append((found.pop()[0] if found and found[-1][1] == start else start, end))
                if "[vdso]" in line:
                    return found[-1][0], start, end
    raise OSError(errno.ENOEXEC, "the kernel maps no vDSO")


@lru_cache(maxsize=1)
def _syscall_offset() -> int:
    """Where in the kernel's vDSO a syscall instruction is."""
    _, start, end = _kernels()
    with open("/proc/self/mem", "rb", buffering=0) as mem:
        image = os.pread(mem.fileno(), end - start, start)
    return image.index(b"\x0f\x05")


def prepare() -> None:
    """Make what every program gets, once for all tracers that are forked from this process."""
    vdso_image()
    _syscall_offset()
    seccomp.home_filter()


def low_pages(clock_page: bytes) -> bytes:
    """Contents of the low region from `layout.STUB` to the end of the vDSO."""
    return layout.STUB_CODE.ljust(layout.PAGE, b"\xcc") + clock_page.ljust(layout.PAGE, b"\0") + vdso_image()


#: What failed, by MOS_STEP_*.
_STEPS = ("low memory", "no_new_privs", "seccomp", "protection")
_REFUSALS = {lib.MOS_NOT_64: "32-bit", lib.MOS_NO_VDSO: "the kernel gave it no vDSO"}


def embark(task: Task, clock_page: bytes, *, first: bool, privileged: bool, ignored: int = 0) -> None:
    """Set the program up and leave it stopped before its first instruction, registers restored.

    ``first``: install the filter (children inherit it). ``privileged``: the program may do so without no_new_privs.
    ``ignored``: the signals that it ignores, as a set (bit 0 = signal 1). CannotEmbark leaves it as natively started.
    """
    pages = low_pages(clock_page)
    program = seccomp.home_filter() if first else b""
    kernels, vdso, end = _kernels()
    setup = ffi.new("struct mos_setup *", {
        "pages": ffi.from_buffer(pages), "length": len(pages), "code": layout.VDSO_END - layout.STUB,
        "whole": layout.END - layout.STUB, "vdso": layout.VDSO - layout.STUB, "instruction": _syscall_offset(),
        "before": vdso - kernels, "kernel": end - kernels,
        "filter": ffi.from_buffer(program), "filter_length": len(program) // 8, "no_new_privs": not privileged,
        "single": not ignored >> (signal.SIGTRAP - 1) & 1,
    })
    outcome = check(lib.mos_embark(task.pid, setup), "setting up", task.pid)
    if outcome == lib.MOS_ELSEWHERE:
        raise TaskGone(task.pid, setup.status)
    if setup.stopped:
        stop_again(task, signal.SIGSTOP)
    if setup.trapped:
        os.kill(task.pid, signal.SIGTRAP)
    if outcome == lib.MOS_FAILED:
        error = -setup.result
        what = "it lies below 1 MB itself" if error == errno.EEXIST else f"{_STEPS[setup.step]}: {os.strerror(error)}"
        raise CannotEmbark(text(Text.NO_MEMORY) if error == errno.ENOMEM else what)
    if outcome:
        raise CannotEmbark(_REFUSALS[outcome])


_EXIT_GROUP, _CS_64 = 231, 0x33


def end(task: Task, words: bytes, status: int) -> None:
    """Let a program that stands before its first instruction, and has no stub, write these words on its standard error and exit."""
    regs = task.peek_regs()
    code = b"\xb8\x01\0\0\0" + b"\xbf\x02\0\0\0" + b"\xba" + len(words).to_bytes(4, "little")  # eax, edi, edx
    last = b"\x0f\x05" + b"\xb8" + _EXIT_GROUP.to_bytes(4, "little") + b"\xbf" + status.to_bytes(4, "little") + b"\x0f\x05"
    code += b"\x48\x8d\x35" + len(last).to_bytes(4, "little") + last + words  # rsi
    task.poke(regs.rip, code)
    regs.cs = _CS_64
    task.set_regs(regs)
    task.cont()
