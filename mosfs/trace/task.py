"""One traced process. Methods are single kernel requests."""

from __future__ import annotations

import errno
import os
import signal
import struct
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from mosfs.abi.signals import SIGINFO_SIZE
from mosfs.native import ffi, lib
from mosfs.native.registers import Registers
from mosfs.trace import layout
from mosfs.trace.proc import TaskGone as TaskGone  # methods of a Task raise it

#: Signals that wait for a task at once: so many can travel, and be put in order with others.
MOST_PENDING = 4096

# ptrace(2): requests and options
CONT, SINGLESTEP, SYSCALL = 7, 9, 24
SEIZE, INTERRUPT, LISTEN, GETEVENTMSG, DETACH = 0x4206, 0x4207, 0x4208, 0x4201, 17
O_SYSGOOD, O_FORK, O_VFORK, O_CLONE, O_EXEC, O_SECCOMP = 1, 2, 4, 8, 16, 0x80
O_EXITKILL, O_SUSPEND_SECCOMP, SETOPTIONS = 0x100000, 0x200000, 0x4200
OPTIONS = O_SYSGOOD | O_FORK | O_VFORK | O_CLONE | O_EXEC | O_SECCOMP

#: A program's pointer plus something may be beyond all addresses: nothing is there.
_ADDRESSES = 1 << 64
#: __WALL of wait4(2): also of children that end without a SIGCHLD.
WALL = 0x40000000
ALL_SIGNALS = 0xFFFF_FFFF_FFFF_FFFF


@dataclass
class Killed:
    """How it is told that a task was killed because it does not do what its stub makes a task do; tracer and host have a log."""

    tell: Callable[[str], None] = lambda line: print(line, file=sys.stderr)


killed = Killed()


def unfit(pid: int, why: str) -> TaskGone:
    """Kill a task that we cannot work with: what lies in its low memory is not ours any more. Its end is reported as any other."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    killed.tell(f"pid={pid} killed: {why}")
    return TaskGone(pid)


def check(result: int, what: str, pid: int) -> int:
    """``result`` unless it is a negative errno value: TaskGone for ESRCH, and for ETIMEDOUT, which ends the task; else OSError."""
    if result >= 0:
        return result
    if result == -errno.ESRCH:
        raise TaskGone(pid)
    if result == -errno.ETIMEDOUT:
        raise unfit(pid, f"it does not stop ({what})")
    raise OSError(-result, f"{what} of process {pid}: {os.strerror(-result)}")


class Task:
    """A seized process, or thread. ``guest``: it is a body under the strict filter (no rule by instruction pointer).

    ``own``, ``group``: its ID and its process's, as it knows them itself; a body with chosen IDs lives in a PID namespace.
    ``carries_at``: where a thread that is not its process's first has room for what is left of a call (`calls.partial`), or 0."""

    __slots__ = ("carries_at", "group", "guest", "own", "pid", "regs")

    def __init__(self, pid: int, *, guest: bool = False, own: int = 0, group: int = 0) -> None:
        self.pid = pid
        self.own = own or pid
        self.group = group or self.own
        self.guest = guest
        self.carries_at = 0
        self.regs = no_regs()

    # ------------------------------------------------------------------ control

    def seize(self, options: int = OPTIONS) -> None:
        check(lib.mos_ptrace(SEIZE, self.pid, 0, options), "seize", self.pid)

    def interrupt(self) -> None:
        check(lib.mos_ptrace(INTERRUPT, self.pid, 0, 0), "interrupt", self.pid)

    def cont(self, sig: int = 0, request: int = CONT) -> None:
        check(lib.mos_ptrace(request, self.pid, 0, sig), "resume", self.pid)

    def listen(self) -> None:
        check(lib.mos_ptrace(LISTEN, self.pid, 0, 0), "listen", self.pid)

    def detach(self, sig: int = 0) -> None:
        check(lib.mos_ptrace(DETACH, self.pid, 0, sig), "detach", self.pid)

    def set_options(self, options: int) -> None:
        check(lib.mos_ptrace(SETOPTIONS, self.pid, 0, options), "options", self.pid)

    def event_message(self) -> int:
        value = ffi.new("unsigned long *")
        check(lib.mos_ptrace(GETEVENTMSG, self.pid, 0, int(ffi.cast("unsigned long", value))), "event", self.pid)
        return int(value[0])

    def wait(self, options: int = WALL) -> int:
        """Block until this task reports; its wait status. If it never does, it is killed (mos_patience): TaskGone."""
        status = ffi.new("int *")
        result = lib.mos_waitpid(self.pid, status, options)
        if result == -errno.ETIMEDOUT:
            raise unfit(self.pid, "it does not stop")
        if result < 0:
            raise TaskGone(self.pid)
        return int(status[0])

    def wait_beside(self, fd: int, seconds: float) -> int | None:
        """As `wait`, but no longer than until ``fd`` is readable, or ``seconds`` are over: None then."""
        status = ffi.new("int *")
        result = lib.mos_wait_beside(self.pid, status, fd, int(seconds * 1000))
        if result < 0:
            raise TaskGone(self.pid)
        return int(status[0]) if result else None

    # ------------------------------------------------------------------ state of a stopped task

    def peek_regs(self) -> Registers:
        """The registers, fetched anew into ``self.regs``."""
        check(lib.mos_getregs(self.pid, self.regs), "registers", self.pid)
        return self.regs

    def set_regs(self, regs: Registers) -> None:
        check(lib.mos_setregs(self.pid, regs), "registers", self.pid)

    def stand(self, regs: Registers) -> None:
        """Stop it anew where its kernel looks for signals, with ``regs`` as they may be at such a stop.

        A call in them that was broken off (orig_rax, and an ERESTART* result) meets the signals that wait, or come, as natively:
        it is not the same to take a signal before a call and in it. TaskGone if it ends.
        """
        status = ffi.new("int *")
        if check(lib.mos_stand(self.pid, regs, status), "stop", self.pid):
            raise TaskGone(self.pid, int(status[0]))

    def peek_mask(self) -> int:
        value = ffi.new("unsigned long *")
        check(lib.mos_getsigmask(self.pid, value), "signal mask", self.pid)
        return int(value[0])

    def set_mask(self, mask: int) -> None:
        check(lib.mos_setsigmask(self.pid, mask), "signal mask", self.pid)

    def peek_siginfo(self) -> bytes:
        buffer = bytearray(SIGINFO_SIZE)
        check(lib.mos_getsiginfo(self.pid, ffi.from_buffer(buffer)), "siginfo", self.pid)
        return bytes(buffer)

    def peek_pending(self) -> list[tuple[bool, bytes]]:
        """Queued signals as (sent to the whole process?, siginfo), in order. For each of them the kernel walks the queue from its
        beginning, so not many more than `MOST_PENDING` of either kind are looked at."""
        found: list[tuple[bool, bytes]] = []
        for shared in (False, True):
            buffer = bytearray(SIGINFO_SIZE * 32)
            offset = 0
            while offset <= MOST_PENDING:
                count = lib.mos_peeksiginfo(self.pid, offset, shared, 32, ffi.from_buffer(buffer))
                if count <= 0:
                    break
                found += [(shared, bytes(buffer[i * SIGINFO_SIZE : (i + 1) * SIGINFO_SIZE])) for i in range(count)]
                offset += count
        return found

    def peek_rseq(self) -> tuple[int, int, int]:
        """(pointer, size, signature) of the registered rseq area; pointer 0 if there is none."""
        pointer, size, sig = ffi.new("unsigned long *"), ffi.new("unsigned int *"), ffi.new("unsigned int *")
        if lib.mos_rseq(self.pid, pointer, size, sig) < 0:
            return (0, 0, 0)
        return (int(pointer[0]), int(size[0]), int(sig[0]))

    # ------------------------------------------------------------------ memory (also while it runs)

    def read(self, addr: int, size: int) -> bytes:
        """``size`` bytes; OSError(EFAULT) when fewer are readable."""
        buffer = bytearray(size)
        if self.read_into(addr, buffer) != size:
            self._spared(addr)
            raise OSError(errno.EFAULT, f"short read at {addr:#x} of process {self.pid}")
        return bytes(buffer)

    def read_into(self, addr: int, buffer: bytearray | memoryview) -> int:
        """How many bytes from ``addr`` on could be read into ``buffer``."""
        size = len(buffer)
        if not size or addr >= _ADDRESSES:
            return 0
        result = lib.mos_read(self.pid, addr, ffi.from_buffer(buffer), size)
        if result == -errno.ESRCH:
            raise TaskGone(self.pid)
        return int(max(result, 0))

    def read_runs(self, runs: Sequence[tuple[int, int]], buffer: memoryview) -> bool:
        """Fill ``buffer`` with these ranges (start, end), which are as long, one behind the other; False if not all can be read."""
        flat = [word for start, end in runs for word in (start, end - start)]
        return bool(lib.mos_runs(self.pid, flat, len(runs), ffi.from_buffer(buffer), len(buffer), False) == len(buffer))

    def write_runs(self, runs: Sequence[tuple[int, bytes | memoryview]]) -> bool:
        """Write each of these at its address; False if not all could be, and then some may have been."""
        flat = [word for addr, data in runs for word in (addr, len(data))]
        data = b"".join(data for _, data in runs)
        return bool(lib.mos_runs(self.pid, flat, len(runs), ffi.from_buffer(data), len(data), True) == len(data))

    def reach(self, addr: int, size: int) -> int:
        """How many bytes from ``addr`` on a call of the task's own could fill; its stack grows for that, as it would then."""
        if addr >= _ADDRESSES:
            return 0
        result = lib.mos_reach(self.pid, addr, size)
        if result < size and self._grow_stack(addr):
            result = lib.mos_reach(self.pid, addr, size)
        if result < 0:
            raise TaskGone(self.pid)
        return int(result)

    def _grow_stack(self, addr: int) -> bool:
        """Touch ``addr``; the kernel extends a stack for /proc/PID/mem, but not for process_vm_readv(2) (since Linux 6.5)."""
        try:
            fd = os.open(f"/proc/{self.pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            return len(os.pread(fd, 1, addr)) == 1
        except (OSError, OverflowError):
            return False
        finally:
            os.close(fd)

    def write(self, addr: int, data: bytes | bytearray | memoryview) -> None:
        """OSError(EFAULT) when not all of it can be written."""
        size = len(data)
        if addr >= _ADDRESSES:
            raise OSError(errno.EFAULT, f"no address: {addr:#x}")
        done = lib.mos_write(self.pid, addr, ffi.from_buffer(data), size) if size else 0
        if done == -errno.ESRCH:
            raise TaskGone(self.pid)
        if done != size:
            self._spared(addr)
            raise OSError(-done if done < 0 else errno.EFAULT, f"short write at {addr:#x} of process {self.pid}")

    def _spared(self, addr: int) -> None:
        """``addr`` cannot be reached. Our scratch always can, unless the program has found a way to do without it."""
        if layout.SCRATCH <= addr < layout.END:
            raise unfit(self.pid, "its low memory is gone")

    def poke(self, addr: int, data: bytes) -> None:
        """Write past page protections (private pages are copied), through /proc/PID/mem. To our own pages only."""
        try:
            fd = os.open(f"/proc/{self.pid}/mem", os.O_WRONLY | os.O_CLOEXEC)
        except OSError as error:
            raise TaskGone(self.pid) from error
        try:
            os.pwrite(fd, data, addr)
        except OSError as error:
            raise unfit(self.pid, "its low memory is gone") from error
        finally:
            os.close(fd)

    def read_string(self, addr: int, limit: int = 4097) -> bytes:
        """The NUL-terminated string at ``addr``: OSError EFAULT or ENAMETOOLONG."""
        buffer = bytearray(limit)
        if addr >= _ADDRESSES:
            raise OSError(errno.EFAULT, f"no address: {addr:#x}")
        n = lib.mos_read_string(self.pid, addr, ffi.from_buffer(buffer), limit)
        if n < 0:
            raise OSError(-n, os.strerror(-n))
        return bytes(buffer[:n])

    def read_words(self, addr: int, count: int) -> tuple[int, ...]:
        return struct.unpack(f"<{count}Q", self.read(addr, 8 * count))


def no_regs() -> Registers:
    """A register set, all of it 0."""
    regs: Registers = ffi.new("struct mos_regs *")
    return regs


def copy_regs(regs: Registers) -> Registers:
    copy: Registers = ffi.new("struct mos_regs *", regs[0])
    return copy


#: orig_rax of a task that is in no system call.
NOTHING = 0xFFFF_FFFF_FFFF_FFFF


def behind(regs: Registers, result: int) -> Registers:
    """Registers behind a system call instruction, ``result`` returned; ``regs`` stand before it."""
    r = copy_regs(regs)
    r.rip += 2
    r.rax = result & NOTHING
    r.rcx, r.r11 = r.rip, r.eflags
    r.orig_rax = NOTHING
    return r


def same_call(one: Registers, other: Registers) -> bool:
    """Are these the registers of the same call, with the same arguments, made at the same place?"""
    names = ("orig_rax", "rdi", "rsi", "rdx", "r10", "r8", "r9", "rip", "cs")
    return all(getattr(one, name) == getattr(other, name) for name in names)


def regs_bytes(regs: Registers) -> bytes:
    return bytes(ffi.buffer(regs))


def regs_from(data: bytes) -> Registers:
    regs = no_regs()
    ffi.buffer(regs)[:] = data
    return regs


def discard(task: Task, threads: Sequence[Task] = ()) -> None:
    """Kill a process that is traced here, and reap it; before its first thread its others, of whose ends it waits to tell."""
    with suppress(ProcessLookupError):
        os.kill(task.pid, signal.SIGKILL)
    for one in [*threads, task]:
        with suppress(TaskGone):
            while os.WIFSTOPPED(one.wait()):
                pass
