"""The vDSO image executed for real: mapped beside its data page, found as libc finds it, compared with the kernel."""

from __future__ import annotations

import importlib.util
import mmap
import os
import random
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from cffi import FFI

from mosfs.trace import clock
from mosfs.trace.clock import NSEC, GuestClock, HomeClock, Page, Tsc, last_shown

ROOT = Path(__file__).parents[1]
GENEROUS_NS = 50_000  #: rough error bound against the kernel's clock
STOP = 2048  #: where the probe finds the word that ends it, in the unused part of the data page

PROBE = r"""
#define _GNU_SOURCE
#include <elf.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define PAGE 0x100000UL

static int (*gettime)(int, struct timespec *);
static int (*getres)(int, struct timespec *);
static int (*getday)(struct timeval *, struct timezone *);
static long (*get_time)(long *);
static long (*get_cpu)(unsigned *, unsigned *, void *);

static const char *strings;
static Elf64_Sym *symbols;
static Elf64_Half *versions;
static unsigned wanted_version;

/* As the loader does: by DT_HASH, checked against the version LINUX_2.6. */
static void *find(char *base, const unsigned *hash, const char *name)
{
    unsigned long h = 0, g;
    for (const char *c = name; *c; c++) {
        h = (h << 4) + (unsigned char)*c;
        g = h & 0xf0000000;
        h = (h ^ g >> 24) & ~g;
    }
    for (unsigned i = hash[2 + h % hash[0]]; i; i = hash[2 + hash[0] + i])
        if (!strcmp(strings + symbols[i].st_name, name) && symbols[i].st_shndx &&
            (versions[i] & 0x7fff) == wanted_version && ELF64_ST_TYPE(symbols[i].st_info) == STT_FUNC)
            return base + symbols[i].st_value;
    printf("missing %s\n", name);
    exit(3);
}

static void resolve(char *base)
{
    Elf64_Ehdr *header = (void *)base;
    Elf64_Phdr *ph = (void *)(base + header->e_phoff);
    Elf64_Dyn *dynamic = NULL;
    const unsigned *hash = NULL;
    Elf64_Verdef *def = NULL;
    for (int i = 0; i < header->e_phnum; i++)
        if (ph[i].p_type == PT_DYNAMIC)
            dynamic = (void *)(base + ph[i].p_vaddr);
    for (; dynamic->d_tag; dynamic++) {
        void *there = base + dynamic->d_un.d_ptr;
        switch (dynamic->d_tag) {
        case DT_HASH: hash = there; break;
        case DT_STRTAB: strings = there; break;
        case DT_SYMTAB: symbols = there; break;
        case DT_VERSYM: versions = there; break;
        case DT_VERDEF: def = there; break;
        }
    }
    for (;; def = (void *)((char *)def + def->vd_next)) {
        Elf64_Verdaux *aux = (void *)((char *)def + def->vd_aux);
        if (!(def->vd_flags & VER_FLG_BASE) && !strcmp(strings + aux->vda_name, "LINUX_2.6"))
            wanted_version = def->vd_ndx;
        if (!def->vd_next)
            break;
    }
    gettime = find(base, hash, "__vdso_clock_gettime");
    getres = find(base, hash, "__vdso_clock_getres");
    getday = find(base, hash, "__vdso_gettimeofday");
    get_time = find(base, hash, "__vdso_time");
    get_cpu = find(base, hash, "__vdso_getcpu");
}

static long long ns(struct timespec t) { return t.tv_sec * 1000000000LL + t.tv_nsec; }

static long long kernel(int clock)
{
    struct timespec t = {0};
    syscall(SYS_clock_gettime, clock, &t);
    return ns(t);
}

static long long ours(int clock)
{
    struct timespec t = {-1, -1};
    int result = gettime(clock, &t);
    return result ? result : ns(t);
}

/* How far each clock is from the middle of two readings of the kernel's; the tightest of 200. */
static void compare(void)
{
    static const int clocks[] = {0, 1, 5, 6, 7, 11, 4, 2, 3};
    for (unsigned i = 0; i < sizeof clocks / sizeof *clocks; i++) {
        int like = clocks[i] == 5 ? 0 : clocks[i] == 6 ? 1 : clocks[i];
        long long least = 1LL << 62, error = 0;
        for (int n = 0; n < 200; n++) {
            long long a = kernel(like), v = ours(clocks[i]), b = kernel(like);
            if (b - a < least) {
                least = b - a;
                error = v - (a + b) / 2;
            }
        }
        struct timespec mine = {-1, -1}, theirs = {-2, -2};
        int r1 = getres(clocks[i], &mine), r2 = (int)syscall(SYS_clock_getres, clocks[i], &theirs);
        printf("clock%d %lld\nres%d %d\n", clocks[i], error, clocks[i],
               r1 == r2 && mine.tv_sec == theirs.tv_sec && mine.tv_nsec == theirs.tv_nsec && !getres(clocks[i], NULL));
    }
    struct timeval tv;
    struct timezone mine = {77, 77}, theirs = {78, 78};
    syscall(SYS_gettimeofday, NULL, &theirs);
    long long a = kernel(0);
    int r = getday(&tv, &mine);
    long long b = kernel(0);
    long long v = tv.tv_sec * 1000000000LL + tv.tv_usec * 1000;
    printf("gettimeofday %lld\n", r ? -1 : v + 1000 < a - 50000 ? a - v : v > b + 50000 ? v - b : 0);
    printf("zone %d\n", mine.tz_minuteswest == theirs.tz_minuteswest && mine.tz_dsttime == theirs.tz_dsttime);
    printf("nothing %d\n", getday(NULL, NULL));
    long stored = 0, before = kernel(0) / 1000000000, t = get_time(&stored);
    printf("time %d\n", t == stored && t >= before - 1 && t <= kernel(0) / 1000000000 && get_time(NULL) >= t);
    unsigned cpu = 99999, node = 99999;
    long cpu_result = get_cpu(&cpu, &node, NULL);
    printf("getcpu %d\n", cpu_result == 0 && cpu < 99999 && node < 99999);
    struct timespec x;
    printf("einval %d\n", gettime(1234, &x));
    printf("einval_res %d\n", getres(1234, &x));
}

/* Reads the clocks until told to stop: does any ever go back? */
static void watch(volatile int *stop)
{
    static const int clocks[] = {0, 1, 5, 6, 7};
    long long last[5] = {0}, back[5] = {0}, worst = 0, first[2] = {ours(0), ours(1)};
    unsigned long rounds = 0;
    puts("ready");
    fflush(stdout);
    for (; !*stop; rounds++)
        for (int i = 0; i < 5; i++) {
            long long now = ours(clocks[i]);
            if (now < last[i]) {
                back[i]++;
                if (last[i] - now > worst)
                    worst = last[i] - now;
            }
            last[i] = now;
        }
    for (int i = 0; i < 5; i++)
        printf("back%d %lld\n", clocks[i], back[i]);
    printf("worst %lld\nrounds %lu\nshown0 %lld\nshown1 %lld\n", worst, rounds, last[0] - first[0], last[1] - first[1]);
}

static double per_call(int kind)
{
    enum { N = 200000 };
    struct timespec t;
    double best = 1e9;
    for (int n = 0; n < 5; n++) {
        long long a = kernel(1);
        for (int i = 0; i < N; i++)
            if (kind == 0)
                clock_gettime(1, &t);
            else if (kind == 1)
                gettime(1, &t);
            else
                syscall(SYS_clock_gettime, 1, &t);
        double took = (double)(kernel(1) - a) / N;
        best = took < best ? took : best;
    }
    return best;
}

int main(int argc, char **argv)
{
    int page = open(argv[1], O_RDONLY), image = open(argv[2], O_RDONLY);
    long length = atol(argv[3]);
    if (argc != 5 || mmap((void *)PAGE, 4096, PROT_READ, MAP_SHARED | MAP_FIXED, page, 0) != (void *)PAGE ||
        mmap((void *)(PAGE + 4096), length, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_FIXED, image, 0) == MAP_FAILED)
        return 2;
    resolve((char *)PAGE + 4096);
    if (!strcmp(argv[4], "compare"))
        compare();
    else if (!strcmp(argv[4], "watch"))
        watch((int *)(PAGE + 2048));
    else
        printf("native %.1f\nours %.1f\nsystem_call %.1f\n", per_call(0), per_call(1), per_call(2));
    return 0;
}
"""

#: Starts a program with the image mapped and AT_SYSINFO_EHDR pointing to it, which is what a tracer does at execve.
STARTER = r"""
#define _GNU_SOURCE
#include <elf.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 0x100000UL

static int pid;
static struct user_regs_struct at_entry;

static long peek(unsigned long where) { return ptrace(PTRACE_PEEKDATA, pid, where, 0); }

static void poke(unsigned long where, long value)
{
    if (ptrace(PTRACE_POKEDATA, pid, where, value))
        exit(20);
}

static long inject(long nr, long a, long b, long c, long d, long e, long f)
{
    struct user_regs_struct regs = at_entry;
    long code = peek(at_entry.rip);
    int status;
    poke(at_entry.rip, (code & ~0xffffL) | 0x050f);
    regs.rax = nr, regs.rdi = a, regs.rsi = b, regs.rdx = c, regs.r10 = d, regs.r8 = e, regs.r9 = f;
    regs.orig_rax = -1;
    ptrace(PTRACE_SETREGS, pid, 0, &regs);
    ptrace(PTRACE_SINGLESTEP, pid, 0, 0);
    if (waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status))
        exit(21);
    ptrace(PTRACE_GETREGS, pid, 0, &regs);
    poke(at_entry.rip, code);
    ptrace(PTRACE_SETREGS, pid, 0, &at_entry);
    return regs.rax;
}

static void map(const char *path, unsigned long where, unsigned long length, int prot, int flags)
{
    char name[256] = {0};
    unsigned long scratch = (at_entry.rsp - 4096) & ~15UL;
    strncpy(name, path, sizeof name - 1);
    for (unsigned i = 0; i < sizeof name; i += 8)
        poke(scratch + i, *(long *)(name + i));
    long fd = inject(SYS_open, scratch, O_RDONLY, 0, 0, 0, 0);
    if (fd < 0 || inject(SYS_mmap, where, length, prot, flags | MAP_FIXED, fd, 0) != (long)where)
        exit(22);
    inject(SYS_close, fd, 0, 0, 0, 0, 0);
}

int main(int argc, char **argv)
{
    int status;
    if (argc < 5)
        return 19;
    pid = fork();
    if (!pid) {
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        execv(argv[4], argv + 4);
        _exit(23);
    }
    waitpid(pid, &status, 0);
    ptrace(PTRACE_GETREGS, pid, 0, &at_entry);
    map(argv[1], PAGE, 4096, PROT_READ, MAP_SHARED);
    map(argv[2], PAGE + 4096, atol(argv[3]), PROT_READ | PROT_EXEC, MAP_PRIVATE);
    unsigned long at = at_entry.rsp + 8 * (peek(at_entry.rsp) + 2);
    while (peek(at))
        at += 8;
    for (at += 8; peek(at) != AT_SYSINFO_EHDR; at += 16)
        if (peek(at) == AT_NULL)
            return 24;
    poke(at + 8, PAGE + 4096);
    ptrace(PTRACE_DETACH, pid, 0, 0);
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 25;
}
"""

#: What libc's own calls show, against the kernel's; whole seconds.
CALLER = r"""
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

int main(void)
{
    struct timespec kernel, libc;
    struct timeval tv;
    syscall(SYS_clock_gettime, 0, &kernel);
    clock_gettime(0, &libc);
    gettimeofday(&tv, NULL);
    printf("ehdr %lx\nclock_gettime %ld\ngettimeofday %ld\ntime %ld\n", getauxval(AT_SYSINFO_EHDR),
           libc.tv_sec - kernel.tv_sec, tv.tv_sec - kernel.tv_sec, (long)time(NULL) - kernel.tv_sec);
    return 0;
}
"""


def load_builder() -> ModuleType:
    """By path, as the package's build does it."""
    spec = importlib.util.spec_from_file_location("vdso_build", ROOT / "mosfs" / "native" / "vdso_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def compiled(folder: Path, name: str, source: str, *options: str) -> Path:
    output = folder / name
    subprocess.run(
        ["gcc", "-O2", "-Wall", "-Werror", *options, "-x", "c", "-", "-o", str(output)],
        input=source,
        text=True,
        check=True,
    )
    return output


def numbers(text: str) -> dict[str, float]:
    return {name: float(value) for name, value in (line.split() for line in text.splitlines() if " " in line)}


@dataclass(frozen=True)
class Bench:
    """A folder with the image, the data page (a file that programs map shared) and the test programs."""

    folder: Path
    image: bytes
    counter: Tsc
    page: mmap.mmap

    def write(self, offset: int, data: bytes) -> None:
        self.page[offset : offset + len(data)] = data

    def arguments(self, program: str) -> list[str]:
        return [str(self.folder / name) for name in (program, "page", "image")] + [str(len(self.image))]

    def probe(self, verb: str) -> dict[str, float]:
        done = subprocess.run([*self.arguments("probe"), verb], capture_output=True, text=True, check=True)
        return numbers(done.stdout)

    def watch(self, change: Callable[[subprocess.Popen[str]], None]) -> dict[str, float]:
        """What the probe saw while `change` did something to its page."""
        self.write(STOP, bytes(4))
        with subprocess.Popen([*self.arguments("probe"), "watch"], stdout=subprocess.PIPE, text=True) as child:
            try:
                assert child.stdout is not None
                assert child.stdout.readline() == "ready\n"
                change(child)
                self.write(STOP, b"stop")
                text, _ = child.communicate(timeout=60)
            finally:
                child.kill()
        assert child.returncode == 0
        return numbers(text)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("vdso")
    image: bytes = load_builder().build()
    (folder / "image").write_bytes(image)
    (folder / "page").write_bytes(bytes(4096))
    compiled(folder, "probe", PROBE)
    source = "#include <x86intrin.h>\nunsigned long mos_rdtsc(void) { unsigned aux; return __rdtscp(&aux); }"
    library = compiled(folder, "rdtsc.so", source, "-shared", "-fPIC")
    ffi = FFI()
    ffi.cdef("unsigned long mos_rdtsc(void);")
    lib: Any = ffi.dlopen(str(library))
    counter = Tsc(lib.mos_rdtsc)
    with (folder / "page").open("r+b") as file, mmap.mmap(file.fileno(), 4096) as page:
        yield Bench(folder, image, counter, page)


@pytest.fixture
def home(bench: Bench) -> HomeClock:
    if not bench.counter.usable():
        pytest.skip("this machine's time stamp counter is not usable: mosfs asks the kernel here")
    return HomeClock(bench.counter)


def test_the_image_is_small_deterministic_and_one_segment(bench: Bench) -> None:
    image = bench.image
    assert image == load_builder().build()
    assert len(image) == 4096
    assert image[:7] == b"\x7fELF\x02\x01\x01"
    (offset,) = struct.unpack_from("<Q", image, 32)
    (count,) = struct.unpack_from("<H", image, 56)
    headers = [struct.unpack_from("<IIQQQQQQ", image, offset + 56 * i) for i in range(count)]
    loads = [header for header in headers if header[0] == 1]
    assert [(flags, at, address) for _, flags, at, address, *_ in loads] == [(5, 0, 0)]  # R+X, from the ELF header on
    text = subprocess.run(
        ["readelf", "-dW", "-rW", str(bench.folder / "image")], capture_output=True, text=True, check=True
    ).stdout
    assert "soname: [linux-vdso.so.1]" in text
    assert "no relocations" in text
    assert "NEEDED" not in text


def test_a_source_that_does_not_compile_says_why(tmp_path: Path) -> None:
    false = tmp_path / "cc"
    false.write_text("#!/bin/sh\necho out of order >&2\nexit 1\n")
    false.chmod(0o755)
    with pytest.raises(RuntimeError, match=r"vdso\.c does not compile: out of order"):
        load_builder().build(str(false))


def check_answers(seen: dict[str, float], lag: int) -> None:
    for name in ("clock0", "clock1", "clock7", "clock11", "clock4"):
        assert abs(seen[name]) < GENEROUS_NS, name
    for name in ("clock5", "clock6"):
        assert -lag - GENEROUS_NS < seen[name] < GENEROUS_NS, name
    assert [name for name in seen if name.startswith("res") and seen[name] != 1] == []
    assert seen["gettimeofday"] == 0
    assert seen["zone"] == seen["time"] == seen["getcpu"] == 1
    assert seen["nothing"] == 0
    assert seen["einval"] == seen["einval_res"] == -22


def test_it_answers_as_the_kernel_does(bench: Bench, home: HomeClock) -> None:
    time.sleep(0.02)  # a base line for the rate
    page = home.page(2)
    bench.write(0, page)
    check_answers(bench.probe("compare"), Page.unpack(page).coarse)


def test_mode_0_is_the_kernel(bench: Bench) -> None:
    bench.write(0, bytes(clock.PAGE_BYTES))  # an empty page serves nothing
    check_answers(bench.probe("compare"), NSEC)  # the kernel's own tick may be late
    home = HomeClock(bench.counter)
    kernel = replace(Page.unpack(home.page(4)), mode=0, served=3, lines=(clock.Line(0),) * 4)
    bench.write(0, kernel.pack())
    check_answers(bench.probe("compare"), NSEC)


def test_mode_0_shows_no_less_than_its_floor(bench: Bench) -> None:
    ahead = 1000 * NSEC
    floors = clock.Line(time.time_ns() + ahead), clock.Line(time.monotonic_ns() + ahead)
    bench.write(0, Page(2, 0, 0, 0, 0, 3, (*floors, clock.Line(0), clock.Line(0)), 0).pack())
    seen = bench.probe("compare")
    for name in ("clock0", "clock1", "clock5", "clock6"):
        assert ahead - 60 * NSEC < seen[name] <= ahead
    assert abs(seen["clock7"]) < GENEROUS_NS


def test_it_computes_what_python_computes(bench: Bench, home: HomeClock) -> None:
    """A clock of one tick a nanosecond and a slew; shown twice around a call of the probe's `compare`."""
    for slew in (-(1 << 45), 0, 1 << 45):
        base = clock.Line(7 * NSEC, slew, 1 << 40)
        page = Page(2, 1, home.ticks(), 1 << clock.SHIFT, 0, 15, (base,) * 4, 0)
        bench.write(0, page.pack())
        before = page.show(clock.MONOTONIC, home.ticks()) - time.monotonic_ns()
        seen = bench.probe("compare")["clock1"]
        after = page.show(clock.MONOTONIC, home.ticks()) - time.monotonic_ns()
        low, high = sorted((before, after))
        assert low - GENEROUS_NS <= seen <= high + GENEROUS_NS


def test_a_thousand_rewritten_pages_show_no_step_back(bench: Bench, home: HomeClock) -> None:
    page = home.page(2)
    bench.write(0, page)
    dice = random.Random(5)

    def rewrite(child: subprocess.Popen[str]) -> None:
        nonlocal page
        for _ in range(1000):

            def wrong(seq: int, old: bytes = page, bend: int = dice.randint(9000, 11000)) -> bytes:
                """Up to a tenth fast or slow, so that the next page has much to put right."""
                made = Page.unpack(home.page(seq, old))
                return replace(made, rate=made.rate * bend // 10000).pack()

            page = clock.publish(bench.write, wrong, page)
            time.sleep(dice.random() * 0.001)
        page = home.refresh(bench.write, page)

    seen = bench.watch(rewrite)
    assert {name: seen[name] for name in seen if name.startswith("back")} == dict.fromkeys(
        ("back0", "back1", "back5", "back6", "back7"), 0
    )
    assert seen["rounds"] > 1000
    assert max(abs(seen[name] - NSEC) for name in ("shown0", "shown1")) < 60 * NSEC


def test_moves_of_a_stopped_program_show_no_step_back(bench: Bench, home: HomeClock) -> None:
    """Stopped anywhere, given the page of a node whose offsets are wrong by milliseconds either way, and home again."""
    page = home.page(2)
    bench.write(0, page)
    dice = random.Random(6)

    def move(child: subprocess.Popen[str]) -> None:
        nonlocal page
        for turn in range(200):
            child.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
            seen = last_shown(page, home.ticks())
            if turn % 2:
                page = home.arrived(seen)
            else:
                wrong = dice.randint(-5_000_000, 5_000_000)
                there = GuestClock(wrong, home.here().wall, extras=home.extras(), counter=bench.counter)
                page = there.arrived(seen)
            bench.write(0, page)
            child.send_signal(signal.SIGCONT)
            time.sleep(dice.random() * 0.003)

    seen = bench.watch(move)
    assert seen["rounds"] > 1000
    assert [seen[f"back{number}"] for number in (0, 1, 5, 6, 7)] == [0] * 5


def test_readers_wait_while_a_page_is_odd(bench: Bench, home: HomeClock) -> None:
    page = home.page(2)
    bench.write(0, page)

    def hold(child: subprocess.Popen[str]) -> None:
        for seq in range(4, 44, 2):  # the same number twice would be a page that a reader cannot know to be another
            bench.write(0, bytes([seq - 1]))
            bench.write(8, bytes(100))  # nonsense that nobody may use
            time.sleep(0.002)
            bench.write(4, page[4:])
            bench.write(0, bytes([seq]))
            time.sleep(0.001)

    seen = bench.watch(hold)
    assert [seen[f"back{number}"] for number in (0, 1, 5, 6, 7)] == [0] * 5


@pytest.mark.parametrize("linking", ["-dynamic", "-static"])
def test_glibc_uses_it(bench: Bench, home: HomeClock, linking: str) -> None:
    if linking == "-static" and not list(Path("/usr/lib").glob("**/libc.a")):
        pytest.skip("no static libc here")
    options = [linking] if linking == "-static" else []
    caller = compiled(bench.folder, f"caller{linking}", CALLER, *options)
    compiled(bench.folder, "starter", STARTER)
    bench.write(0, GuestClock(0, home.here().wall + 3600 * NSEC, extras=home.extras(), counter=bench.counter).page(2))
    done = subprocess.run([*bench.arguments("starter"), str(caller)], capture_output=True, text=True, check=True)
    seen = dict(line.split() for line in done.stdout.splitlines())
    assert seen.pop("ehdr") == "101000"
    assert all(abs(int(value) - 3600) <= 1 for value in seen.values())
    assert len(seen) == 3


def test_ordinary_programs_use_it(bench: Bench, home: HomeClock) -> None:
    compiled(bench.folder, "starter", STARTER)
    bench.write(0, GuestClock(0, home.here().wall + 3600 * NSEC, extras=home.extras(), counter=bench.counter).page(2))
    start = bench.arguments("starter")
    for command in (["/bin/date", "+%s"], [sys.executable, "-c", "import time; print(int(time.time()))"]):
        before = int(time.time())
        done = subprocess.run([*start, *command], capture_output=True, text=True, check=True)
        assert before + 3599 <= int(done.stdout) <= int(time.time()) + 3601


def test_cost_is_shown(bench: Bench, home: HomeClock, capsys: pytest.CaptureFixture[str]) -> None:
    bench.write(0, home.page(2))
    seen = bench.probe("cost")
    with capsys.disabled():
        print("\nns per clock_gettime:", "  ".join(f"{name} {value:.1f}" for name, value in seen.items()))
    assert set(seen) == {"native", "ours", "system_call"}
