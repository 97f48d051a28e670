"""The engine on real processes of this node: what embarking makes of a program, injected calls, a fresh body."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import resource
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
import xxhash

from mosfs.abi import cpu
from mosfs.abi.syscalls import BY_NAME
from mosfs.guest import sandbox
from mosfs.home.away.mapped import ComingFiles
from mosfs.home.process import registers
from mosfs.home.process.descriptors import hand_over
from mosfs.migrate.image import PAGES_HEADER, VERSION, BadImage, ImageMeta, Timer, Vma
from mosfs.migrate.maps import read_maps
from mosfs.migrate.precopy import Early
from mosfs.migrate.rebuild import Rebuild, Unsuited, give_state
from mosfs.migrate.remap import Pieces, alike, remap
from mosfs.migrate.suits import state_lacking
from mosfs.trace import layout, xstate
from mosfs.trace.clock import HomeClock
from mosfs.trace.embark import embark
from mosfs.trace.inject import Calls
from mosfs.trace.stops import Status, Stop, decode
from mosfs.trace.task import ALL_SIGNALS, SINGLESTEP, Task, TaskGone, copy_regs, discard, regs_bytes
from mosfs.wire.frames import Frame, Kind

pytestmark = pytest.mark.root

REPO = Path(__file__).parent.parent
WAIT = 20.0  #: seconds until something that must happen counts as lost
NOTHING = 0xFFFF_FFFF_FFFF_FFFF
ENDS = (Stop.EXITED, Stop.KILLED)


def nr(name: str) -> int:
    return BY_NAME[name].nr


@dataclass
class Seized:
    """A program in its PTRACE_EVENT_EXEC stop. ``output``: read end of what it writes; ``threads``: its others, to be reaped."""

    task: Task
    output: int
    threads: list[Task] = field(default_factory=list)

    def embark(self) -> None:
        embark(self.task, HomeClock().page(0), first=True, privileged=True)

    def go_on(self) -> tuple[Status, list[int]]:
        """Let it run to its end, every trapped call too: how it ended, and the trapped numbers."""
        trapped: list[int] = []
        while True:
            self.task.cont()
            status = decode(self.task.wait())
            if status.stop in ENDS:
                return status, trapped
            if status.stop is Stop.SECCOMP:
                trapped.append(self.task.peek_regs().orig_rax)

    def said(self) -> str:
        """All it wrote; it must have ended."""
        with open(self.output, closefd=False) as file:
            return file.read()


@contextmanager
def seized(*command: str, **environ: str) -> Iterator[Seized]:
    """``command`` as it stands at its exec: a shell that waits for us becomes it."""
    go, let_go = os.pipe()
    output, write = os.pipe()
    files = [(os.POSIX_SPAWN_DUP2, go, 0), (os.POSIX_SPAWN_DUP2, write, 1)]
    script = 'echo ready; read x; exec "$@"'
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", script, "sh", *command], environ, file_actions=files)
    os.close(go)
    os.close(write)
    task, threads = Task(pid), list[Task]()
    try:
        said = b""
        while not said.endswith(b"ready\n"):  # or its own exec might be the one we see
            said += os.read(output, 4096)
        task.seize()
        os.write(let_go, b"\n")
        while decode(task.wait()).stop is not Stop.EXEC:
            task.cont()
        yield Seized(task, output, threads)
    finally:
        os.close(let_go)
        os.close(output)
        discard(task, threads)


def status_of(pid: int, name: str) -> str:
    with open(f"/proc/{pid}/status", encoding="ascii") as lines:
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith(f"{name}:"))


def rights(pid: int, end: int = layout.USER_END) -> list[tuple[int, int, int]]:
    """(start, end, protection) of what is mapped below ``end``; neighbours of equal rights as one."""
    found: list[tuple[int, int, int]] = []
    for m in read_maps(pid):
        if m.start < end:
            joins = bool(found) and found[-1][1:] == (m.start, m.prot)
            start = found.pop()[0] if joins else m.start
            found.append((start, m.end, m.prot))
    return found


LOW = [(layout.STUB, layout.SCRATCH, 5), (layout.SCRATCH, layout.END, 3)]


# --------------------------------------------------------------------------- embarking


def kernels_pages() -> frozenset[str]:
    """The names of what the kernel maps for every process; none where it is sealed (mseal(2))."""
    vdso = Path("/proc/self/smaps").read_text().partition("[vdso]\n")[2].partition("VmFlags:")[2].partition("\n")[0]
    return frozenset() if "sl" in vdso.split() else frozenset({"[vdso]", "[vvar]", "[vvar_vclock]"})


def test_embarking_adds_the_low_region_and_the_filter_and_takes_the_kernels_pages() -> None:
    with seized("/bin/true") as program:
        pid = program.task.pid
        before = {(m.start, m.end, m.prot, m.name) for m in read_maps(pid)}
        program.embark()
        after = {(m.start, m.end, m.prot, m.name) for m in read_maps(pid)}
        assert rights(pid, layout.END) == LOW
        assert {m for m in before if m[3] not in kernels_pages()} == {m for m in after if m[0] >= layout.END}
        assert (status_of(pid, "Seccomp"), status_of(pid, "NoNewPrivs")) == ("2", "0")
        assert program.task.read(layout.STUB, len(layout.STUB_CODE)) == layout.STUB_CODE
        assert program.task.read(layout.VDSO, 4) == b"\x7fELF"
        assert program.go_on()[0] == Status(Stop.EXITED, 0)


def test_an_embarked_program_gives_what_it_gives_natively() -> None:
    command = ["/bin/sh", "-c", "echo $0 $1; read line < /proc/self/comm; echo $line; exit 7", "a", "b"]
    native = subprocess.run(command, capture_output=True, text=True, check=False)
    with seized(*command) as program:
        program.embark()
        end, trapped = program.go_on()
        assert (end, program.said()) == (Status(Stop.EXITED, native.returncode), native.stdout)
        assert set(trapped) <= {nr("open"), nr("openat")} and trapped, "only opens stop"


def test_the_program_finds_our_vdso() -> None:
    with seized("/bin/true", LD_SHOW_AUXV="1") as program:
        program.embark()
        assert program.go_on()[0] == Status(Stop.EXITED, 0)
        vdso = [line.split()[1] for line in program.said().splitlines() if line.startswith("AT_SYSINFO_EHDR")]
        assert vdso == [hex(layout.VDSO)]


def test_without_privileges_the_filter_needs_no_new_privs() -> None:
    with seized("/bin/true") as program:
        embark(program.task, HomeClock().page(0), first=True, privileged=False)
        assert status_of(program.task.pid, "NoNewPrivs") == "1"


def test_a_second_program_of_a_tree_has_its_filter_already() -> None:
    with seized("/bin/true") as program:
        embark(program.task, HomeClock().page(0), first=False, privileged=True)
        assert status_of(program.task.pid, "Seccomp") == "0"
        assert rights(program.task.pid, layout.END) == LOW


def test_registers_and_mask_are_those_of_the_start() -> None:
    with seized("/bin/true") as program:
        entry = program.task.peek_regs()
        pointer, start = entry.rsp, entry.rip
        program.embark()
        regs = program.task.peek_regs()
        assert (regs.rsp, regs.rip, regs.rax, regs.orig_rax) == (pointer, start, 0, NOTHING)
        assert program.task.peek_mask() == 0


@pytest.mark.parametrize("ignores", [False, True])
def test_a_sigtrap_that_somebody_sends_then_is_not_taken_for_ours(ignores: bool) -> None:
    with seized("/bin/sh", "-c", "trap '' TRAP; " * ignores + "exec /bin/true") as program:
        program.task.cont()
        while decode(program.task.wait()).stop is not Stop.EXEC:
            program.task.cont()
        pid, (seen, sig) = program.task.pid, ([], 0)
        ignored = int(status_of(pid, "SigIgn"), 16)
        os.kill(pid, signal.SIGTRAP)
        embark(program.task, HomeClock().page(0), first=True, privileged=True, ignored=ignored)
        assert (int(status_of(pid, "SigIgn"), 16), program.task.peek_mask()) == (ignored, 0)
        while (status := decode(program.task.cont(sig) or program.task.wait())).stop not in ENDS:
            sig = status.value if status.stop is Stop.SIGNAL else 0
            seen.append(sig)
        assert seen.count(signal.SIGTRAP) == 1
        assert status == (Status(Stop.EXITED, 0) if ignores else Status(Stop.KILLED, signal.SIGTRAP))


# --------------------------------------------------------------------------- injected calls


def test_injected_calls_give_the_kernels_results() -> None:
    with seized("/bin/true") as program:
        program.embark()
        task = program.task
        with Calls(task) as call:
            assert call(nr("getpid")) == task.pid
            assert call(nr("getppid")) == os.getpid()
            assert call(nr("close"), 99) == -errno.EBADF
            assert call(nr("lseek"), -1, 0, 0) == -errno.EBADF
            with pytest.raises(OSError, match=os.strerror(errno.EBADF)) as error:
                call.must(nr("fchdir"), 99)
            assert error.value.errno == errno.EBADF
            at = call.must(nr("mmap"), 0, mmap.PAGESIZE, 3, 0x22, -1, 0)
            task.write(at, b"hello")
            assert call.must(nr("write"), 1, at, 5) == 5
            # calls that the filter sends to us do not stop when they come from the stub
            assert call(nr("ptrace"), 99, 0, 0, 0) < 0
            task.write(layout.SCRATCH, b"/dev/null\0")
            descriptor = call.must(nr("open"), layout.SCRATCH, 0, 0)
            assert os.readlink(f"/proc/{task.pid}/fd/{descriptor}") == "/dev/null"
            call.must(nr("munmap"), at, mmap.PAGESIZE)
        task.set_regs(call.base)
        assert program.go_on()[0] == Status(Stop.EXITED, 0)
        assert program.said() == "hello"


def test_a_call_that_waits_is_broken_off_and_the_program_goes_on() -> None:
    """With nothing done, or with what it has done until then; one that ends in time is like any other."""
    with seized("/bin/sh", "-c", "echo on") as program:
        program.embark()
        task = program.task
        with Calls(task) as call:
            task.write(layout.SCRATCH, bytes(1 << 18))
            assert call.within(5, nr("getppid")) == os.getpid()
            call.must(nr("pipe"), layout.SCRATCH)
            reader, writer = struct.unpack("<2i", task.read(layout.SCRATCH, 8))
            room = call.must(nr("fcntl"), writer, fcntl.F_GETPIPE_SZ)
            assert call.within(0.05, nr("read"), reader, layout.SCRATCH, 1) == -errno.EINTR
            assert call.within(0.05, nr("write"), writer, layout.SCRATCH, 1 << 18) == room
            assert call.within(0.05, nr("write"), writer, layout.SCRATCH, 1) == -errno.EINTR
            assert not call.used_up
            assert call(nr("getpid")) == task.pid
        task.set_regs(call.base)
        assert program.go_on()[0] == Status(Stop.EXITED, 0)
        assert program.said() == "on\n"


def test_all_six_arguments_arrive() -> None:
    with seized("/bin/true") as program:
        program.embark()
        with Calls(program.task) as call, open("/etc/passwd", "rb") as file:
            program.task.write(layout.SCRATCH, b"/etc/passwd\0")
            descriptor = call.must(nr("open"), layout.SCRATCH, 0)
            where = 0x5000_0000
            assert call.must(nr("mmap"), where, mmap.PAGESIZE, 1, 0x100002, descriptor, 0) == where
            head = file.read(64)
            assert program.task.read(where, len(head)) == head


def floating_point(task: Task) -> bytes:
    """Its extended state, but for whether the processor counts SSE registers of zeros as in use, which changes by itself."""
    state = bytearray(xstate.read(task))
    state[512] |= 3
    return bytes(state)


def image_of(task: Task, **changes: object) -> ImageMeta:
    """An image whose state of the processor is that of ``task``, but for ``changes``."""
    plain = ImageMeta(
        version=VERSION, pid=1, uid=0, comm="c", features=cpu.features(), regs=bytes(216), xstate=xstate.read(task), mask=0,
        actions=[], ignored=0, altstack=bytes(24), pending=[], rseq=(0, 0, 0), tid_address=0, robust=(0, 0), mm=[0] * 11, auxv=b"",
        vmas=[Vma(0x400000, 0x401000, 5)], limits={}, shown=Timer(), xlayout=list(xstate.own_layout()),
    )  # fmt: skip
    return msgspec.structs.replace(plain, **changes)


def in_use(task: Task, bits: int) -> bytes:
    state = bytearray(xstate.read(task))
    state[512:520] = bits.to_bytes(8, "little")
    return bytes(state)


def test_state_of_the_processor_that_is_none() -> None:
    """What the kernel refuses and what contradicts itself have their reasons, and the task keeps its own."""
    with seized("/bin/true") as program:
        program.embark()
        task = program.task
        before = floating_point(task)
        assert give_state(task, image_of(task)) == {}
        if len(before) > 576:
            with pytest.raises(Unsuited, match=r"^the kernel there refuses its processor state \(Invalid argument\)$"):
                give_state(task, image_of(task, xstate=in_use(task, 1 << 62 | 3)))
        with pytest.raises(BadImage, match=r"^processor state: 10 bytes of state for "):
            give_state(task, image_of(task, xstate=bytes(10), xlayout=[]))
        with pytest.raises(BadImage, match=r"^processor state: component 2 lies at 576, 4000 bytes, of "):
            give_state(task, image_of(task, xstate=before[:832], xlayout=[(2, 576, 4000)]))
        tile = bytes(before[:576]) + b"x" * 64
        state = tile[:512] + (1 << 40 | 3).to_bytes(8, "little") + tile[520:]
        with pytest.raises(Unsuited, match=r"^needs xstate40, which the node lacks$"):
            give_state(task, image_of(task, xstate=state, xlayout=[(40, 576, 64)]))
        assert floating_point(task) == before


HANDLER = """
#include <signal.h>
#include <unistd.h>
static char stack[1 << 16] __attribute__((aligned(64)));
static void wait_for(const char *what) { char c; write(1, what, 3); read(0, &c, 1); }
static void handler(int sig) { __asm__ volatile("vzeroall" ::: "memory"); wait_for("in\\n"); }
int main(int argc, char **argv)
{
    stack_t own = {.ss_sp = stack, .ss_size = sizeof stack};
    struct sigaction action = {.sa_handler = handler, .sa_flags = argc > 1 ? SA_ONSTACK : 0};
    sigaltstack(&own, 0);
    sigaction(SIGUSR1, &action, 0);
    long pid = getpid(), result;
    __asm__ volatile("vzeroall; vpcmpeqd %%xmm1, %%xmm1, %%xmm1; vinsertf128 $1, %%xmm1, %%ymm1, %%ymm1; syscall"
                     : "=a"(result) : "0"(62L), "D"(pid), "S"((long)SIGUSR1) : "rcx", "r11", "memory", "xmm1");
    __asm__ volatile("vzeroall" ::: "memory");
    wait_for("no\\n");
    return 0;
}
"""


@pytest.mark.skipif("avx" not in cpu.parse(cpu.features()).flags, reason="this processor has no AVX")
@pytest.mark.parametrize("own_stack", [False, True])
def test_what_a_handler_has_interrupted_keeps_the_program(tmp_path: Path, own_stack: bool) -> None:
    """Its return would restore the SSE part only where there is no AVX, while nothing of it is in use inside of the handler."""
    source, binary = tmp_path / "handler.c", tmp_path / "handler"
    source.write_text(HANDLER)
    subprocess.run(["gcc", "-O1", str(source), "-o", str(binary)], check=True)
    here = cpu.features()
    poor = cpu.without(here, [flag for flag in cpu.parse(here).flags if flag.startswith("avx")])
    pipe = subprocess.PIPE
    with subprocess.Popen([str(binary), *["own"] * own_stack], stdin=pipe, stdout=pipe, bufsize=0) as program:
        assert program.stdin and program.stdout
        task = Task(program.pid)
        try:
            for said, inside in ((b"in\n", True), (b"no\n", False)):
                assert program.stdout.read(3) == said
                if inside:
                    task.seize()
                task.interrupt()
                task.wait()
                lacking = state_lacking(task, here, poor)  # libc may have used registers of AVX-512 before
                assert "avx" in lacking if inside else lacking == []
                assert state_lacking(task, here, here) == state_lacking(task, poor, here) == []
                task.cont()
                program.stdin.write(b"x")
            assert decode(task.wait()) == Status(Stop.EXITED, 0)
        finally:
            program.kill()


def test_a_session_blocks_signals_and_puts_everything_back() -> None:
    with seized("/bin/true") as program:
        program.embark()
        task = program.task
        mask = 1 << (signal.SIGUSR2 - 1)
        task.set_mask(mask)
        before = regs_bytes(task.peek_regs()), floating_point(task)
        with Calls(task) as call:
            assert task.peek_mask() == ALL_SIGNALS & ~(1 << (signal.SIGKILL - 1) | 1 << (signal.SIGSTOP - 1))
            os.kill(task.pid, signal.SIGUSR2)
            os.kill(task.pid, signal.SIGTERM)
            assert [call(nr("getpid")) for _ in range(3)] == [task.pid] * 3
        assert task.peek_mask() == mask
        task.set_regs(call.base)
        assert (regs_bytes(task.peek_regs()), floating_point(task)) == before
        task.cont()
        status = decode(task.wait())  # what waited comes now, and SIGUSR2 stays blocked
        assert status == Status(Stop.SIGNAL, signal.SIGTERM)
        task.cont(signal.SIGTERM)
        assert decode(task.wait()) == Status(Stop.KILLED, signal.SIGTERM)


def test_a_kill_ends_the_session() -> None:
    with seized("/bin/true") as program:
        program.embark()
        with pytest.raises(TaskGone), Calls(program.task) as call:
            os.kill(program.task.pid, signal.SIGKILL)
            for _ in range(1000):
                call(nr("getpid"))


def test_a_stop_is_kept_for_the_end_of_the_session() -> None:
    with seized("/bin/true") as program:
        program.embark()
        task = program.task
        with Calls(task) as call:
            os.kill(task.pid, signal.SIGSTOP)
            assert [call(nr("getpid")) for _ in range(3)] == [task.pid] * 3
            assert call.stopped_by == signal.SIGSTOP
        task.set_regs(call.base)
        task.cont()
        assert decode(task.wait()) == Status(Stop.SIGNAL, signal.SIGSTOP)
        task.cont(signal.SIGSTOP)
        assert decode(task.wait()).stop is Stop.GROUP
        os.kill(task.pid, signal.SIGCONT)
        assert program.go_on()[0] == Status(Stop.EXITED, 0)


@contextmanager
def broken_off() -> Iterator[Task]:
    """A program with a handler for SIGUSR1 that stands in a pause(2) in its stub that our stop has broken off."""
    with seized("/bin/sleep", "100") as program:
        program.embark()
        task = program.task
        with Calls(task) as call:
            task.write(layout.SCRATCH, struct.pack("<4Q", layout.STUB, 0x04000000, layout.STUB, 0))  # SA_RESTORER
            call.must(nr("rt_sigaction"), signal.SIGUSR1, layout.SCRATCH, 0, 8)
        before = copy_regs(call.base)
        before.rip, before.rax = layout.STUB, nr("pause")
        task.stand(registers.broken_off(before, nr("pause"), -errno.EINTR))
        yield task


@pytest.mark.parametrize("waits", [True, False])
def test_a_signal_meets_the_call_that_was_broken_off(*, waits: bool) -> None:
    """`Task.stand`: the kernel decides, whether the signal waits already or comes while the program stands."""
    with broken_off() as task:
        os.kill(task.pid, signal.SIGUSR1)
        if waits:
            regs = copy_regs(task.peek_regs())
            task.stand(regs)
        task.cont()
        assert decode(task.wait()) == Status(Stop.SIGNAL, signal.SIGUSR1)
        task.cont(signal.SIGUSR1, SINGLESTEP)
        task.wait()
        frame = task.read(task.peek_regs().rsp + 8, 256)  # struct ucontext
        rax, rip = struct.unpack_from("<q", frame, 40 + 13 * 8)[0], struct.unpack_from("<Q", frame, 40 + 16 * 8)[0]
        assert (rax, rip) == (-errno.EINTR, layout.STUB_AFTER)


def test_without_a_signal_the_call_is_made_again() -> None:
    with broken_off() as task:
        task.cont()
        end = time.monotonic() + WAIT
        while Path(f"/proc/{task.pid}/syscall").read_text().split()[0] != str(nr("pause")):
            assert time.monotonic() < end
            time.sleep(0.001)


def test_what_comes_ahead_of_a_program_is_not_there_for_its_deputys_calls() -> None:
    with seized("/bin/true") as program:
        program.embark()
        task = program.task
        with Calls(task) as call:
            at = call.must(nr("mmap"), 0, 2 * mmap.PAGESIZE, 0, 0x22, -1, 0)
            call.must(nr("munmap"), at, 2 * mmap.PAGESIZE)
            rebuild = Rebuild(call, deputy=True)
            rebuild.early(Early([(at, at + 2 * mmap.PAGESIZE, 3, 0)]))
            data = b"x" * mmap.PAGESIZE
            payload = PAGES_HEADER.pack(at, 1, 0, xxhash.xxh3_64_intdigest(data)) + data
            rebuild.pages(Frame(Kind.PAGES, 0, 1, payload))
            descriptor = call.must(nr("memfd_create"), layout.STUB, 0)
            assert call(nr("write"), descriptor, at, 5) == -errno.EFAULT
            assert call(nr("pread64"), descriptor, at + mmap.PAGESIZE, 5, 0) == 0
            assert call(nr("getcwd"), at, mmap.PAGESIZE) == -errno.EFAULT
            rebuild.close()


def test_a_descriptor_for_a_moment_needs_no_room(tmp_path: Path) -> None:
    """A program that has as many as it may have can make shared memory all the same: it keeps only the mapping."""
    with seized("/bin/sleep", "1000") as program, (tmp_path / "file").open("w+b") as file:
        program.embark()
        most = max(map(int, os.listdir(f"/proc/{program.task.pid}/fd"))) + 1
        with Calls(program.task) as call:
            while (last := call.must(nr("dup"), 0)) < most:
                pass  # until there is no gap
            call.must(nr("close"), last)
            program.task.write(layout.SCRATCH, struct.pack("<2Q", most, 1000))
            call.must(nr("prlimit64"), 0, resource.RLIMIT_NOFILE, layout.SCRATCH, 0)
            with pytest.raises(OSError, match="Too many open files"):
                hand_over(call, file.fileno(), cloexec=True)
            theirs = hand_over(call, file.fileno(), cloexec=True, brief=True)
            assert os.readlink(f"/proc/{program.task.pid}/fd/{theirs}") == file.name
            call.must(nr("close"), theirs)


def test_pages_of_a_file_that_was_cut_off_meanwhile_are_no_more(tmp_path: Path) -> None:
    """The kernel takes away what a program has made its own of them, and so it is when that is on its way home just then."""
    page, path = mmap.PAGESIZE, tmp_path / "file"
    path.write_bytes(b"f" * 3 * page)
    with seized("/bin/true") as program, path.open("r+b") as file:
        program.embark()
        task = program.task
        with Calls(task) as call:
            task.write(layout.SCRATCH, bytes(path) + b"\0")
            theirs = call.must(nr("open"), layout.SCRATCH, os.O_RDONLY)
            at = call.must(nr("mmap"), 0, 2 * page, 3, mmap.MAP_PRIVATE, theirs, page)
            vma = Vma(at, at + 2 * page, 3, offset=page, file=1)
            rebuild = Rebuild(call, files=ComingFiles(lambda number: file.fileno(), [], [vma]))
            rebuild._places = [(at, at + 2 * page)]
            data = b"x" * 2 * page
            frame = Frame(Kind.PAGES, 0, 1, PAGES_HEADER.pack(at, 2, 0, xxhash.xxh3_64_intdigest(data)) + data)
            for length, left in ((3 * page, data), (2 * page, data[page:]), (page + 10, b"x" * page), (page, b"")):
                file.truncate(length)
                call.must(nr("madvise"), at, 2 * page, mmap.MADV_DONTNEED)
                rebuild.pages(frame)
                assert task.read(at, len(left)) == left
                found = bytearray(2 * page)
                assert task.read_into(at, found) == len(left)
            rebuild.close()


# --------------------------------------------------------------------------- a guest's body


@contextmanager
def fresh_body() -> Iterator[Task]:
    task = sandbox.spawn()
    try:
        yield task
    finally:
        sandbox.discard(task)


def test_a_body_is_nothing_but_the_low_region() -> None:
    with fresh_body() as task:
        assert rights(task.pid) == LOW
        assert task.read(layout.STUB, len(layout.STUB_CODE)) == layout.STUB_CODE


def test_a_body_has_no_rights() -> None:
    with fresh_body() as task:
        names = ("Uid", "Gid", "Groups", "CapEff", "CapPrm", "CapAmb")
        facts = {name: status_of(task.pid, name).split() for name in names}
        nobody = [str(sandbox.GUEST_UID)] * 4
        nothing = ["0" * 16]
        assert facts == {
            "Uid": nobody, "Gid": nobody, "Groups": [], "CapEff": nothing, "CapPrm": nothing, "CapAmb": nothing,
        }  # fmt: skip
        assert (status_of(task.pid, "Seccomp"), status_of(task.pid, "NoNewPrivs")) == ("2", "1")
        assert os.listdir(f"/proc/{task.pid}/fd") == []
        assert os.getsid(task.pid) == task.pid


def test_the_host_may_make_any_call_in_a_body() -> None:
    with fresh_body() as task:
        with Calls(task, mask=0) as call:
            assert call(nr("getpid")) == task.pid
            assert call(nr("getuid")) == sandbox.GUEST_UID
            assert call(nr("mmap"), 0x70000000, 8192, 3, 0x32, -1, 0) == 0x70000000
            assert call(nr("setuid"), 0) == -errno.EPERM
        task.write(0x70000000, b"x" * 8192)
        assert task.read(0x70001FFF, 1) == b"x"


@pytest.mark.parametrize("name", ["getpid", "open", "kill", "socket", "execve", "exit_group"])
def test_the_stub_gives_a_body_no_way_out(name: str) -> None:
    """A hostile program may jump there: its call must stop, and not have been made."""
    with fresh_body() as task:
        regs = task.peek_regs()
        regs.rip, regs.rax, regs.orig_rax = layout.STUB, nr(name), NOTHING
        regs.rdi, regs.rsi, regs.rdx = os.getpid(), 0, 0
        task.set_regs(regs)
        task.cont()
        assert decode(task.wait()).stop is Stop.SECCOMP
        stopped = task.peek_regs()
        assert (stopped.orig_rax, stopped.rip) == (nr(name), layout.STUB_AFTER)


def test_a_body_dies_with_its_host() -> None:
    code = "from mosfs.guest import sandbox; import time; print(sandbox.spawn().pid, flush=True); time.sleep(1000)"
    host = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=REPO)
    with host:
        try:
            assert host.stdout
            pidfd = os.pidfd_open(int(host.stdout.readline()))
        finally:
            host.kill()
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    assert poller.poll(WAIT * 1000), "the body outlived its host"
    os.close(pidfd)


def test_discard_leaves_nothing() -> None:
    task = sandbox.spawn()
    sandbox.discard(task)
    assert not Path(f"/proc/{task.pid}").exists()
    sandbox.discard(task)  # twice is harmless


WAITS = """
from mosfs.native import ffi, lib
lib.mos_setup_signals()
lib.mos_patience(2)
pump, event = ffi.new("struct mos_pump *"), ffi.new("struct mos_event *")
event.kind = 7
assert lib.mos_next(pump, event, 1_500_000) == 0
print(event.kind)
"""


def test_the_tick_of_patience_does_not_put_a_time_limit_off() -> None:
    """A tick a second interrupts a wait of more than a second: it ends all the same, once its time is over."""
    done = subprocess.run([sys.executable, "-c", WAITS], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "0\n"


# --------------------------------------------------------------------------- mremap over several mappings

MAYMOVE, FIXED, DONTUNMAP, APART = 1, 2, 4, 8 * mmap.PAGESIZE


def in_pieces(call: Calls) -> int:
    """Where 16 pages are that look like one mapping, but are two for the kernel, since each was written before it came there."""
    at = call.map(0, 3 * 16 * mmap.PAGESIZE, 0)
    for half in range(2):
        other = call.map(0, APART)
        call.task.write(other, bytes([1 + half]) * APART)
        call.must(nr("mremap"), other, APART, APART, MAYMOVE | FIXED, at + half * APART)
    call.must(nr("munmap"), at + 2 * APART, 4 * APART)
    return at


CONTENT = b"\1" * APART + b"\2" * APART


@pytest.mark.parametrize(
    ("size", "flags"),
    [(4 * APART, 0), (4 * APART, MAYMOVE), (4 * APART, MAYMOVE | FIXED), (2 * APART, MAYMOVE | FIXED),
     (APART, MAYMOVE | FIXED), (2 * APART, MAYMOVE | DONTUNMAP), (2 * APART, MAYMOVE | FIXED | DONTUNMAP)],
)  # fmt: skip
@pytest.mark.parametrize("room", [True, False])
def test_mremap_over_pieces_is_that_of_one_mapping(size: int, flags: int, *, room: bool) -> None:
    with seized("/bin/true") as program:
        program.embark()
        with Calls(program.task) as call:
            target, at = call.map(0, 4 * APART, 0), in_pieces(call)
            if not room:
                call.map(at + 2 * APART, mmap.PAGESIZE, 0, 0x100022)
            before = [(m.start, m.end) for m in read_maps(program.task.pid)]
            result = remap(call, (at, 2 * APART, size, flags, target if flags & FIXED else 0), said=False)
            if not (room or flags):
                assert result == -errno.ENOMEM
                assert [(m.start, m.end) for m in read_maps(program.task.pid)] == before
                return
            if flags & FIXED:
                assert result == target
            else:
                assert (result == at) == (room and not flags & DONTUNMAP)
            moved = CONTENT[:size]
            assert program.task.read(result, size) == moved + bytes(size - len(moved))
            if flags & DONTUNMAP:
                assert program.task.read(at, 2 * APART) == bytes(2 * APART)
            elif result != at:
                assert not [m for m in read_maps(program.task.pid) if m.start < at + 2 * APART and m.end > at]


def test_what_fails_in_the_middle_is_undone() -> None:
    with seized("/bin/true") as program:
        program.embark()
        with Calls(program.task) as call:
            target, at = call.map(0, 4 * APART, 0), in_pieces(call)
            asked: list[tuple[int, ...]] = []

            def failing(*args: int) -> int:
                asked.append(args)
                return -errno.ENOMEM if len(asked) == 2 else call(*args)

            parts = alike(read_maps(program.task.pid), at, at + 2 * APART)
            assert len(parts) == 2
            args = (at, 2 * APART, 3 * APART, MAYMOVE | FIXED, target)
            assert Pieces(failing, parts, args).result() == -errno.ENOMEM
            assert program.task.read(at, 2 * APART) == CONTENT


def test_what_differs_is_not_moved_in_pieces() -> None:
    with seized("/bin/true") as program:
        program.embark()
        with Calls(program.task) as call:
            at = in_pieces(call)
            whole = (at, 2 * APART, 4 * APART, MAYMOVE, 0)
            call.must(nr("madvise"), at, APART, 16)  # DONTDUMP
            assert remap(call, whole, said=True) == -errno.EFAULT
            assert remap(call, whole, said=False) > 0
            at = in_pieces(call)
            call.must(nr("mprotect"), at, mmap.PAGESIZE, 1)
            assert remap(call, (at, *whole[1:]), said=False) == -errno.EFAULT
            call.must(nr("munmap"), at, mmap.PAGESIZE)
            assert remap(call, (at, *whole[1:]), said=False) == -errno.EFAULT
