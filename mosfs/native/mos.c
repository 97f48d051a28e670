/*
 * The tracer's and the host's part in C: waiting for events (mos_next), steps of ptrace, memory of other processes, new bodies.
 * Python decides, but for stops that need no decision: those are settled here and in the files compiled behind this one (private.c,
 * home.c, stream.c, hand.c). Errors are negative errno values.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <malloc.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#ifndef PTRACE_EVENT_SECCOMP
#define PTRACE_EVENT_SECCOMP 7
#endif
#ifndef PTRACE_GET_RSEQ_CONFIGURATION
#define PTRACE_GET_RSEQ_CONFIGURATION 0x420f
#endif
#define MOS_PEEKSIGINFO 0x4209
#define MOS_GETSIGMASK 0x420a
#define MOS_SETSIGMASK 0x420b
#define MOS_STUB 0x10000UL
#define MOS_MAGIC 0x1ff         /* a number no system call has: "the injected call is done" */

static sigset_t mos_unblocked;

static void on_sigchld(int sig) { (void)sig; }

/* SIGCHLD stays blocked except inside ppoll: no wake-up between waitpid and ppoll is lost. */
int mos_setup_signals(void)
{
    struct sigaction sa;
    sigset_t chld;
    memset(&sa, 0, sizeof sa);
    sa.sa_handler = on_sigchld;
    if (sigaction(SIGCHLD, &sa, NULL))
        return -errno;
    sigemptyset(&chld);
    sigaddset(&chld, SIGCHLD);
    if (sigprocmask(SIG_BLOCK, &chld, &mos_unblocked))
        return -errno;
    sigdelset(&mos_unblocked, SIGCHLD);
    return 0;
}

static int cpu_of(int pid)
{
    char path[40], buf[1024], *s;
    int fd, n, field;
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    n = read(fd, buf, sizeof buf - 1);
    close(fd);
    if (n <= 0)
        return -1;
    buf[n] = 0;
    s = strrchr(buf, ')');
    if (!s)
        return -1;
    for (field = 2; field < 39 && s; field++)
        s = strchr(s + 1, ' ');
    return s ? atoi(s + 1) : -1;
}

/* A stop costs ten times as much when tracer and tracee sit on different CPUs. */
int mos_follow(struct mos_pump *p, int pid)
{
    cpu_set_t set;
    int cpu = cpu_of(pid);
    if (cpu < 0 || cpu == p->cpu)
        return 0;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    if (sched_setaffinity(0, sizeof set, &set))
        return -errno;
    p->cpu = cpu;
    return 0;
}

/* Frames of images are allocated and freed one after the other: their memory stays with us instead of being mapped anew each time. */
void mos_keep_heap(unsigned long largest)
{
    mallopt(M_MMAP_THRESHOLD, (int)largest);
    mallopt(M_TRIM_THRESHOLD, (int)(4 * largest));
}

/* struct sched_attr of sched_setattr(2), version 0, which glibc 2.36 does not declare. */
struct scheduling {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
};
#define RESET_ON_FORK 1

/*
 * Run soon after waking up, however many others compute: in short slices (Linux 6.12), and with this nice value if we may.
 * What we fork starts as ordinary processes do.
 */
int mos_prompt(int nice, unsigned long slice_ns)
{
    struct scheduling s = {.size = sizeof s, .flags = RESET_ON_FORK, .nice = nice, .runtime = mos_may(MOS_HAS_SLICES) ? slice_ns : 0};
    if (!syscall(SYS_sched_setattr, 0, &s, 0))
        return 0;
    s.nice = getpriority(PRIO_PROCESS, 0);
    return syscall(SYS_sched_setattr, 0, &s, 0) ? -errno : 0;
}

/*
 * setpriority(2) for another process; as its user `uid` where root may not (no CAP_SYS_NICE). Even then the value can only be raised.
 */
int mos_renice(int pid, int nice, int uid)
{
    int status, child;
    if (!setpriority(PRIO_PROCESS, pid, nice))
        return 0;
    if (errno != EPERM)
        return -errno;
    if ((child = vfork()) < 0)
        return -errno;
    if (child == 0) {
        if (syscall(SYS_setresuid, uid, uid, uid) || setpriority(PRIO_PROCESS, pid, nice))
            _exit(errno);
        _exit(0);
    }
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            return -errno;
    if (!WIFEXITED(status))
        return -EPERM;
    return -WEXITSTATUS(status);
}

static unsigned long now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000UL + t.tv_nsec;
}

#define HOT_STOPS 24            /* so many stops, ... */
#define HOT_NS 20000000UL       /* within this time ... */
#define STRANGERS 8             /* and never more of others between two of them: hold the task on our CPU */
#define COLD_US 3000            /* no stop for so long: let it go */

static void release(struct mos_pump *p, int i)
{
    sched_setaffinity(p->held[i].pid, sizeof p->held[i].allowed, (cpu_set_t *)p->held[i].allowed);
    p->held[i] = p->held[--p->nheld];
}

/* Put the CPU sets of all tasks that are held back. */
void mos_unpin(struct mos_pump *p)
{
    while (p->nheld)
        release(p, 0);
    p->hot_count = 0;
}

/* Hold a task on our CPU, and no other: its stops cost a tenth there. */
int mos_pin(struct mos_pump *p, int pid)
{
    cpu_set_t one;
    int cpu = sched_getcpu();
    struct mos_held *h = p->held;
    mos_unpin(p);
    memset(h->allowed, 0, sizeof h->allowed);
    if (cpu < 0 || sched_getaffinity(pid, sizeof h->allowed, (cpu_set_t *)h->allowed) < 0 ||
        !CPU_ISSET_S(cpu, sizeof h->allowed, (cpu_set_t *)h->allowed))
        return -EINVAL;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    if (sched_setaffinity(0, sizeof one, &one))
        return -errno;
    p->cpu = cpu;
    if (sched_setaffinity(pid, sizeof one, &one))
        return -errno;
    h->pid = pid;
    h->since = now_ns();
    p->nheld = 1;
    return 0;
}

/* A child of a task that is held has its CPU set. It stays with it: most children end, or stop again, before they have computed for long. */
static void born(struct mos_pump *p, const struct mos_held *parent, int child)
{
    if (p->nheld < MOS_HELD) {
        p->held[p->nheld] = *parent;
        p->held[p->nheld++].pid = child;
    } else
        sched_setaffinity(child, sizeof parent->allowed, (cpu_set_t *)parent->allowed);
}

/*
 * A tracee that is resumed is put on an idle CPU, because its tracer still runs; waking that CPU costs ten times the stop.
 * So a task that stops again and again is held on the tracer's CPU, until it has computed for COLD_US without a stop.
 */
static void heat(struct mos_pump *p, int pid, int status)
{
    unsigned long now = now_ns();
    int i, known = 0, event = status >> 16;
    for (i = p->nheld - 1; i >= 0; i--) {
        struct mos_held *h = &p->held[i];
        if (h->pid != pid) {
            if (now - h->since > COLD_US * 1000UL)
                release(p, i);
            continue;
        }
        known = 1;
        h->since = now;
        if (!WIFSTOPPED(status))
            *h = p->held[--p->nheld];
        else if (event >= 1 && event <= 3) {
            unsigned long child = 0;
            if (!ptrace(PTRACE_GETEVENTMSG, pid, 0, &child) && child)
                born(p, h, (int)child);
        }
    }
    if (known)
        return;
    if (p->hot != pid) {
        if (p->hot_count && ++p->strangers <= STRANGERS)
            return;
        p->hot = pid;
        p->hot_count = 0;
    }
    p->strangers = 0;
    if (p->hot_count++ == 0)
        p->hot_since = now;
    if (p->hot_count < HOT_STOPS)
        return;
    if (now - p->hot_since > HOT_NS) {
        p->hot_count = 0;
        return;
    }
    mos_pin(p, pid);
}

int mos_unfollow(struct mos_pump *p)
{
    mos_unpin(p);
    cpu_set_t set;
    int i;
    CPU_ZERO(&set);
    for (i = 0; i < CPU_SETSIZE; i++)
        CPU_SET(i, &set);
    p->cpu = -1;
    return sched_setaffinity(0, sizeof set, &set) ? -errno : 0;
}

/* What was waited for before it was its turn, in its order: `take` before anything else. */
static struct { int pid, status; } taken[256];
static int ntaken;

/*
 * Wait for all that has ended. Until its tracer has done so a process has not ended for its parent, which may know better
 * (pidfd_open(2)). The kernel tells of stops meanwhile, too (there is no waiting for ends only of what is traced).
 */
void mos_reap(void)
{
    while (ntaken < (int)(sizeof taken / sizeof *taken)) {
        int pid = waitpid(-1, &taken[ntaken].status, __WALL | WNOHANG);
        if (pid <= 0)
            return;
        taken[ntaken++].pid = pid;
    }
}

/* The first of them, or the first of `pid` if that is not 0: who it is about; 0: there is none. */
static int take(int pid, int *status)
{
    int i;
    for (i = 0; i < ntaken; i++)
        if (!pid || taken[i].pid == pid) {
            pid = taken[i].pid;
            *status = taken[i].status;
            memmove(&taken[i], &taken[i + 1], (--ntaken - i) * sizeof *taken);
            return pid;
        }
    return 0;
}

static int settled(struct mos_pump *p, int pid, int status);
static int streamed(struct mos_pump *p, int pid, int status);
static int handed(struct mos_pump *p, int pid, int status);
static void mos_interrupting(int pid);

#define NOTES_NS 20000000UL     /* what is noted may wait so long, */
#define NOTES_IDLE_NS 5000000UL /* or until nothing has happened for so long */

/* Look at one more descriptor in mos_next; its index there, or a negative errno. */
int mos_attend(struct mos_pump *p, int fd)
{
    struct pollfd *fds = p->watched;
    if (p->nfds == p->room) {
        int room = p->room ? 2 * p->room : 64;
        fds = realloc(fds, room * sizeof *fds);
        if (!fds)
            return -ENOMEM;
        p->watched = fds;
        p->room = room;
    }
    fds[p->nfds] = (struct pollfd){.fd = fd, .events = POLLIN};
    return p->nfds++;
}

int mos_next(struct mos_pump *p, struct mos_event *ev, int timeout_us)
{
    struct pollfd *fds = p->watched;
    struct timespec ts, *tp;
    int i, n, left, pid, status;
    unsigned long now = now_ns(), until = now + (timeout_us > 0 ? timeout_us : 0) * 1000UL;
    /* Stops that are settled here, and signals (the tick of mos_patience), do not put the time limit off. */
    for (;; now = now_ns()) {
        if ((p->nnotes && now - p->note_since > NOTES_NS) || (p->look_at && now >= p->look_at) || (timeout_us > 0 && now >= until)) {
            ev->kind = MOS_EV_TIMEOUT;
            return 0;
        }
        if (++p->fair < 64) {
            if (p->nheld)
                sched_yield(); /* it shares our CPU: it runs to its next stop now, and no wake-up is needed */
            pid = take(0, &status);
            if (!pid)
                pid = waitpid(-1, &status, __WALL | WNOHANG);
            if (pid > 0) {
                if (p->follow) {
                    heat(p, pid, status);
                    if (!p->nheld && ++p->stops >= 64) {
                        p->stops = 0;
                        mos_follow(p, pid);
                    }
                }
                if ((p->nreaders && handed(p, pid, status)) || (p->settles && settled(p, pid, status)) ||
                    (p->nwindows && streamed(p, pid, status)))
                    continue;
                ev->kind = MOS_EV_TASK;
                ev->pid = pid;
                ev->status = status;
                return 0;
            }
        }
        tp = NULL;
        if (timeout_us >= 0) {
            unsigned long rest = timeout_us > 0 ? until - now : 0;
            ts = (struct timespec){rest / 1000000000, rest % 1000000000};
            tp = &ts;
        }
        if (p->fair >= 64) {
            ts.tv_sec = ts.tv_nsec = 0;
            tp = &ts;
        } else if (p->nnotes && (!tp || ts.tv_sec || ts.tv_nsec > (long)NOTES_IDLE_NS)) {
            ts = (struct timespec){0, NOTES_IDLE_NS};
            tp = &ts;
        }
        if (p->look_at) {
            long left = (long)(p->look_at - now_ns());
            left = left > 0 ? left : 0;
            if (!tp || ts.tv_sec || ts.tv_nsec > left) {
                ts = (struct timespec){0, left};
                tp = &ts;
            }
        }
        if (p->nheld && (!tp || ts.tv_sec || ts.tv_nsec > COLD_US * 1000L)) {
            struct timespec cold = {0, COLD_US * 1000L};
            n = ppoll(fds, p->nfds, &cold, &mos_unblocked);
            if (n == 0) {
                mos_unfollow(p);
                continue;
            }
        } else
            n = ppoll(fds, p->nfds, tp, &mos_unblocked);
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n > 0)
            for (left = p->nfds, i = p->turn; left > 0; left--, i++) { /* in turn: who never falls silent does not keep others waiting */
                if (i >= p->nfds)
                    i = 0;
                if (fds[i].revents) {
                    p->fair = 0;
                    p->turn = i + 1;
                    ev->kind = MOS_EV_FD;
                    ev->pid = i;
                    ev->status = fds[i].revents;
                    return 0;
                }
            }
        if (p->fair >= 64) {
            p->fair = 0;
            continue;
        }
        p->fair = 0;
        if (n == 0) {
            ev->kind = MOS_EV_TIMEOUT;
            return 0;
        }
    }
}

long mos_ptrace(int request, int pid, unsigned long addr, unsigned long data)
{
    long r;
    if (request == PTRACE_INTERRUPT)
        mos_interrupting(pid);
    r = ptrace(request, pid, addr, data);
    return r < 0 ? -errno : r;
}

int mos_getregs(int pid, struct mos_regs *regs) { return ptrace(PTRACE_GETREGS, pid, 0, regs) ? -errno : 0; }

int mos_setregs(int pid, struct mos_regs *regs) { return ptrace(PTRACE_SETREGS, pid, 0, regs) ? -errno : 0; }

int mos_getregset(int pid, int type, void *buf, int len)
{
    struct iovec v = {buf, len};
    return ptrace(PTRACE_GETREGSET, pid, type, &v) ? -errno : (int)v.iov_len;
}

int mos_setregset(int pid, int type, void *buf, int len)
{
    struct iovec v = {buf, len};
    return ptrace(PTRACE_SETREGSET, pid, type, &v) ? -errno : 0;
}

int mos_getsigmask(int pid, unsigned long *mask) { return ptrace(MOS_GETSIGMASK, pid, 8, mask) ? -errno : 0; }

int mos_setsigmask(int pid, unsigned long mask) { return ptrace(MOS_SETSIGMASK, pid, 8, &mask) ? -errno : 0; }

int mos_getsiginfo(int pid, void *info) { return ptrace(PTRACE_GETSIGINFO, pid, 0, info) ? -errno : 0; }

int mos_peeksiginfo(int pid, unsigned long off, int shared, int count, void *infos)
{
    struct { uint64_t off; uint32_t flags; int32_t nr; } args = {off, shared ? 1 : 0, count};
    long r = ptrace(MOS_PEEKSIGINFO, pid, &args, infos);
    return r < 0 ? -errno : (int)r;
}

int mos_rseq(int pid, unsigned long *ptr, unsigned int *size, unsigned int *sig)
{
    struct { uint64_t ptr; uint32_t size, sig, flags, pad; } c;
    if (!mos_may(MOS_HAS_RSEQ_TOLD))
        return -EIO;
    if (ptrace(PTRACE_GET_RSEQ_CONFIGURATION, pid, sizeof c, &c) < 0)
        return -errno;
    *ptr = c.ptr;
    *size = c.size;
    *sig = c.sig;
    return 0;
}

/*
 * Fork the process that will hold a guest's memory: no rights, no descriptors, nothing but the stub. It waits until its
 * parent has seized it (a byte on the pipe is not needed: SIGSTOP and SEIZE would race, so it spins on a read of fd `sync`).
 */
int mos_spawn_body(int memfd, unsigned int uid, void *filter, int filter_len, int memory_limit_mb, int namespaces)
{
    int sync[2], pid;
    char c;
    struct sock_fprog prog = {(unsigned short)filter_len, filter};
    char *const none[] = {NULL};
    if (pipe2(sync, O_CLOEXEC))
        return -errno;
    pid = fork();
    if (pid < 0) {
        int e = errno;
        close(sync[0]);
        close(sync[1]);
        return -e;
    }
    if (pid == 0) {
        struct rlimit zero = {0, 0};
        sigset_t all;
        int sig;
        for (sig = 1; sig < 65; sig++)
            signal(sig, SIG_DFL);
        sigfillset(&all);
        sigprocmask(SIG_SETMASK, &all, NULL);
        setsid();
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        int high_memfd = fcntl(memfd, F_DUPFD, 16), high_sync = fcntl(sync[0], F_DUPFD, 16);
        if (dup2(high_memfd, 3) != 3)
            _exit(101);
        if (dup2(high_sync, 4) != 4)
            _exit(102);
        fcntl(3, F_SETFD, FD_CLOEXEC);
        fcntl(4, F_SETFD, FD_CLOEXEC);
        close(0);
        close(1);
        close(2);
        syscall(SYS_close_range, 5, ~0U, 0);
        if (namespaces && geteuid() == 0)
            unshare(CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS);
        if (memory_limit_mb > 0) {
            struct rlimit m = {(rlim_t)memory_limit_mb << 20, (rlim_t)memory_limit_mb << 20};
            setrlimit(RLIMIT_AS, &m);
        }
        setrlimit(RLIMIT_CORE, &zero);
        if (geteuid() == 0) {
            if (syscall(SYS_setgroups, 0, NULL) || syscall(SYS_setresgid, uid, uid, uid) || syscall(SYS_setresuid, uid, uid, uid))
                _exit(103);
        }
        prctl(PR_SET_DUMPABLE, 1);
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        if (read(4, &c, 1) != 0) /* parent closes its end after SEIZE */
            _exit(104);
        if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, &prog))
            _exit(105);
        syscall(SYS_execveat, 3, "", none, none, AT_EMPTY_PATH);
        _exit(106);
    }
    close(sync[0]);
    if (ptrace(PTRACE_SEIZE, pid, 0,
               PTRACE_O_EXITKILL | PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACESECCOMP | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE |
                   PTRACE_O_TRACEEXEC)) {
        int e = errno;
        close(sync[1]);
        kill(pid, SIGKILL);
        waitpid(pid, NULL, __WALL);
        return -e;
    }
    close(sync[1]);
    return pid;
}

/* Not before earlier instructions have ended; RDTSCP, which does that too, is not everywhere. */
unsigned long mos_rdtsc(void)
{
    _mm_lfence();
    return __rdtsc();
}

const unsigned char *mos_vdso(int *len)
{
    *len = sizeof vdso_image;
    return vdso_image;
}
