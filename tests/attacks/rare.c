/*
 * What hardly any program uses, and our filters refuse: by the 32-bit door (int $0x80), which they do not look at. "rare WAY": says what
 * the call has returned, then computes, makes calls and a child, and hears signals, until it is told to end by a line.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static char *low; /* pages that 32-bit addresses reach */

static long door(long nr, long a, long b, long c, long d, long e)
{
    int r;
    __asm__ volatile("int $0x80" : "=a"(r) : "a"(nr), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e) : "memory", "r8", "r9", "r10", "r11");
    return r;
}

#define AT(x) ((long)(x) & 0xffffffffL)

/* A filter of its own for 64-bit calls but those that `rest` needs: what it says of all others. */
static long filter(unsigned verdict, int flags)
{
    static const int needed[] = {SYS_read, SYS_write, SYS_exit_group, SYS_rt_sigreturn, SYS_clone, SYS_wait4, SYS_kill, SYS_getpid,
                                 SYS_fcntl, SYS_fstat, SYS_newfstatat, SYS_set_robust_list, SYS_lseek};
    struct sock_filter *code = (void *)low;
    struct { unsigned short length; unsigned at; } *program = (void *)(low + 2048);
    unsigned n = 0, i;
    code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch));
    code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (i = 0; i < sizeof needed / sizeof *needed; i++) {
        code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, needed[i], 0, 1);
        code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    }
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, verdict);
    program->length = n;
    program->at = AT(low);
    door(172, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    return door(354, SECCOMP_SET_MODE_FILTER, flags, AT(program), 0, 0);
}

static long dispatch(void)
{
    static char selector = 0;
    memcpy(low, &selector, 1);
    return door(172, 59 /* PR_SET_SYSCALL_USER_DISPATCH */, 1, 0, 0, AT(low));
}

static long faults(void)
{
    struct { uint64_t api, features, ioctls; } api = {.api = 0xAA};
    struct { uint64_t start, length, mode, ioctls; } area = {(long)low + 4096, 4096, 1, 0};
    long fd = door(374, 1 /* UFFD_USER_MODE_ONLY */, 0, 0, 0, 0);
    if (fd < 0)
        return fd;
    memcpy(low + 8192, &api, sizeof api);
    memcpy(low + 8256, &area, sizeof area);
    if (door(54, fd, 0xC018AA3F, AT(low + 8192), 0, 0) || door(54, fd, 0xC020AA00, AT(low + 8256), 0, 0))
        return -1;
    madvise(low + 4096, 4096, MADV_DONTNEED);
    return open(low + 4096, O_RDONLY) < 0 ? -errno : 0; /* a page that never comes */
}

static long ring(void)
{
    int fd = door(425, 8, AT(low), 0, 0, 0), at;
    if (fd < 0)
        return fd;
    at = door(192, 0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
    return at < 0 && at > -4096 ? at : 0;
}

static long segment(void)
{
    struct { unsigned entry, base, limit, flags; } own = {0, 0, 0xfffff, 0x51 /* 32 bits, pages, usable; code: contents 2 */ | 2 << 1};
    memcpy(low, &own, sizeof own);
    return door(123, 1, AT(low), sizeof own, 0, 0);
}

/* Code of another segment, 32-bit: there it makes a call, and comes back. */
static long compatible(void)
{
    static const unsigned char code[] = {0xb8, 20, 0, 0, 0, 0xcd, 0x80, 0xcb /* mov $getpid, %eax; int $0x80; lret */, 0xff, 0x1f, 0xc3
                                         /* from here: lcall *(%rdi); ret */};
    struct { unsigned at; unsigned short segment; } __attribute__((packed)) there = {AT(low + 4096), 0x23};
    int r;
    memcpy(low + 4096, code, sizeof code);
    mprotect(low + 4096, 4096, PROT_READ | PROT_EXEC);
    memcpy(low, &there, sizeof there);
    __asm__ volatile("mov %%rsp, %%r12; mov %3, %%rsp; call *%2; mov %%r12, %%rsp"
                     : "=a"(r) : "D"(low), "r"(low + 4096 + 8), "r"(low + 3 * 4096) : "memory", "r12", "rbx", "rcx", "rdx", "r8", "r9", "r10", "r11");
    return r == getpid() ? 0 : -1;
}

static long untraced(long flags)
{
    long pid = door(120, flags, 0, 0, 0, 0);
    if (!pid) {
        usleep(100000);
        _exit(0);
    }
    return pid < 0 ? pid : 0;
}

static int heard;
static void hear(int sig) { heard += sig == SIGUSR1; }

static int rest(void)
{
    char c;
    int flags = fcntl(0, F_GETFL), n = 0;
    fcntl(0, F_SETFL, flags | O_NONBLOCK);
    while (read(0, &c, 1) != 1) {
        int i, status;
        volatile long sum = 0;
        pid_t child = fork();
        if (!child)
            _exit(7);
        if (child > 0)
            waitpid(child, &status, 0);
        kill(getpid(), SIGUSR1);
        for (i = 0; i < 1000000; i++)
            sum += i;
        if (++n == 1)
            write(1, "rests\n", 6);
    }
    printf("heard %d of %d\n", heard, n);
    return heard == n ? 0 : 9;
}

int main(int argc, char **argv)
{
    static char buffer[4096];
    const char *way = argc > 1 ? argv[1] : "";
    long r = -1;
    setvbuf(stdout, buffer, _IOFBF, sizeof buffer);
    low = mmap(NULL, 4 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    signal(SIGUSR1, hear);
#define WAY(name, call) if (!strcmp(way, name)) r = (call)
    WAY("errno", filter(SECCOMP_RET_ERRNO | 0, 0));
    WAY("kill", filter(SECCOMP_RET_KILL_PROCESS, 0));
    WAY("trap", filter(SECCOMP_RET_TRAP, 0));
    WAY("trace", filter(SECCOMP_RET_TRACE | 1, 0));
    WAY("notify", filter(SECCOMP_RET_USER_NOTIF, SECCOMP_FILTER_FLAG_NEW_LISTENER));
    WAY("dispatch", dispatch());
    WAY("faults", faults());
    WAY("ring", ring());
    WAY("segment", segment());
    WAY("compatible", compatible());
    WAY("sealed", door(462, AT(low), 8192, 0, 0, 0));
    WAY("namespaces", door(310, CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS, 0, 0, 0, 0));
    WAY("pids", door(310, CLONE_NEWUSER | CLONE_NEWPID, 0, 0, 0, 0));
    WAY("untraced", untraced(CLONE_UNTRACED | SIGCHLD));
    WAY("parent", untraced(CLONE_PARENT | SIGCHLD));
    WAY("memory", door(120, CLONE_VM | CLONE_VFORK | CLONE_UNTRACED | SIGCHLD, 0, 0, 0, 0) > 0 ? 0 : (_exit(0), 0));
    WAY("traceme", door(26, 0, 0, 0, 0, 0));
    WAY("dumpable", door(172, PR_SET_DUMPABLE, 0, 0, 0, 0));
    WAY("pkey", door(381, 0, 0, 0, 0, 0));
    WAY("brk", door(172, PR_SET_MM, 7 /* PR_SET_MM_BRK */, 0x20000, 0, 0));
    WAY("slack", door(172, PR_SET_TIMERSLACK, 2000000000, 0, 0, 0));
    WAY("perf", door(336, AT(memset(low, 0, 128)), 0, -1, -1, 0));
    WAY("bpf", door(357, 5, AT(memset(low, 0, 128)), 128, 0, 0));
    WAY("keys", door(288, 1, AT(strcpy(low, "mosfs")), 0, 0, 0));
    printf("%s %ld\n", way, r);
    fflush(stdout);
    return rest();
}
