/* On which CPU a task and its tracer compute, and how soon: a stop costs ten times as much on different ones. */
#include "mos.h"

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

static struct { int known; unsigned long set[128]; } start; /* our CPU set, before we follow anybody */

/* Be on this CPU only, until `mos_unfollow`. */
static int sit(struct mos_pump *p, int cpu)
{
    cpu_set_t one;
    if (!start.known && sched_getaffinity(0, sizeof start.set, (cpu_set_t *)start.set) < 0)
        return -errno;
    start.known = 1;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    if (sched_setaffinity(0, sizeof one, &one))
        return -errno;
    p->cpu = cpu;
    return 0;
}

/* A stop costs ten times as much when tracer and tracee sit on different CPUs. */
int mos_follow(struct mos_pump *p, int pid)
{
    int cpu = cpu_of(pid);
    return cpu < 0 || cpu == p->cpu ? 0 : sit(p, cpu);
}

#define RESET_ON_FORK 1

#define WARM_STOPS 16           /* so many in a row of tasks on our CPU: go like them */

static struct { int nice, quiet, calm, warm; unsigned long slice_ns; } own;

/* 0; 1: with the nice value that we had, because we may not have this one; or a negative errno. */
static int schedule(int nice)
{
    struct scheduling s = {.size = sizeof s, .flags = RESET_ON_FORK, .nice = nice, .runtime = mos_may(MOS_HAS_SLICES) ? own.slice_ns : 0};
    if (!syscall(SYS_sched_setattr, 0, &s, 0))
        return 0;
    s.nice = getpriority(PRIO_PROCESS, 0);
    return syscall(SYS_sched_setattr, 0, &s, 0) ? -errno : 1;
}

/*
 * Run soon after waking up, however many others compute: in short slices (Linux 6.12), and with this nice value if we may.
 * What we fork starts as ordinary processes do. As `schedule`.
 */
int mos_prompt(int nice, unsigned long slice_ns)
{
    int e;
    own.nice = nice;
    own.calm = own.warm = 0;
    own.slice_ns = slice_ns;
    e = schedule(nice);
    if (e)
        own.nice = 0;
    return e;
}

/* The same of our session, where that has a value of its own (sched(7), autogroup). */
static void schedule_session(int nice)
{
    int fd = getsid(0) == getpid() ? open("/proc/self/autogroup", O_WRONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    (void)!dprintf(fd, "%d", nice);
    close(fd);
}

/*
 * While tasks run from stop to stop beside us, they and we are like one program. With a larger weight than theirs our fair share of the
 * CPU would be more than we need, and sched_yield(2) would not give way before we have wasted it.
 */
static void calm(int on)
{
    own.warm = 0;
    if (own.nice >= 0 || on == own.calm)
        return;
    own.calm = on;
    schedule_session(on ? 0 : own.nice);
    if (schedule(on ? 0 : own.nice))
        own.nice = 0; /* it cannot be lowered again */
}

/* Whether those who want a processor nearly have one each: then there is nobody before whom we would have to go. */
void mos_quiet(int quiet)
{
    own.quiet = quiet;
    if (!quiet)
        calm(0);
}

/* Whether `mos_unfollow` is due when nothing has stopped for a while. */
int mos_warm(struct mos_pump *p) { return p->npinned || own.calm; }

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

#define HOT_STOPS 24            /* so many stops, ... */
#define HOT_NS 20000000UL       /* within this time ... */
#define STRANGERS 8             /* and never more of others between two of them: hold the task on our CPU */

_Static_assert(sizeof((struct mos_pump *)0)->pinned == MOS_PINNED * sizeof(struct mos_pinned), "all that are held have room");

static void release(struct mos_pump *p, int i)
{
    sched_setaffinity(p->pinned[i].pid, sizeof p->pinned[i].allowed, (cpu_set_t *)p->pinned[i].allowed);
    p->pinned[i] = p->pinned[--p->npinned];
}

/* Put the CPU sets of all tasks that are held back. */
void mos_unpin(struct mos_pump *p)
{
    while (p->npinned)
        release(p, 0);
    p->hot_count = 0;
    calm(0);
}

/* Hold a task, too, on our CPU: its stops cost a tenth there. It is let go when it has not stopped for COLD_US. */
int mos_hold(struct mos_pump *p, int pid)
{
    cpu_set_t one;
    int cpu = sched_getcpu(), i, e;
    struct mos_pinned *h = p->pinned;
    for (i = 0; i < p->npinned; i++, h++)
        if (h->pid == pid) {
            h->since = mos_now_ns();
            return 0;
        }
    if (p->npinned == MOS_PINNED)
        return -EAGAIN;
    memset(h->allowed, 0, sizeof h->allowed);
    if (cpu < 0 || sched_getaffinity(pid, sizeof h->allowed, (cpu_set_t *)h->allowed) < 0 ||
        !CPU_ISSET_S(cpu, sizeof h->allowed, (cpu_set_t *)h->allowed))
        return -EINVAL;
    if ((cpu != p->cpu || !p->npinned) && (e = sit(p, cpu)))
        return e;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    if (sched_setaffinity(pid, sizeof one, &one))
        return -errno;
    h->pid = pid;
    h->since = mos_now_ns();
    p->npinned++;
    return 0;
}

/* Hold a task on our CPU, and no other. */
int mos_pin(struct mos_pump *p, int pid)
{
    mos_unpin(p);
    return mos_hold(p, pid);
}

/* A child of a task that is held has its CPU set. It stays with it: most children end, or stop again, before they have computed for long. */
static void born(struct mos_pump *p, const struct mos_pinned *parent, int child)
{
    if (p->npinned < MOS_PINNED) {
        p->pinned[p->npinned] = *parent;
        p->pinned[p->npinned++].pid = child;
    } else
        sched_setaffinity(child, sizeof parent->allowed, (cpu_set_t *)parent->allowed);
}

/* A task has the CPU set of the one that made it, which may have been held then: what that one's is when nobody is held. */
void mos_like(struct mos_pump *p, int parent, int child)
{
    unsigned long its[16] = {0}, set[16] = {0}, *theirs = set;
    int i;
    for (i = 0; i < p->npinned; i++)
        if (p->pinned[i].pid == parent)
            theirs = p->pinned[i].allowed;
    if (theirs == set && sched_getaffinity(parent, sizeof set, (cpu_set_t *)set) < 0)
        return;
    if (sched_getaffinity(child, sizeof its, (cpu_set_t *)its) >= 0 && memcmp(its, theirs, sizeof its))
        sched_setaffinity(child, sizeof its, (cpu_set_t *)theirs);
}

/* PTRACE_EVENT_EXEC: a thread that is not the first has the number of the first now, which is no more. */
static void renamed(struct mos_pump *p, int pid)
{
    unsigned long former = 0;
    int i, first = -1, its = -1;
    if (ptrace(PTRACE_GETEVENTMSG, pid, 0, &former) || !former || (int)former == pid)
        return;
    for (i = 0; i < p->npinned; i++) {
        if (p->pinned[i].pid == pid)
            first = i;
        if (p->pinned[i].pid == (int)former)
            its = i;
    }
    if (its >= 0)
        p->pinned[its].pid = pid;
    if (first >= 0)
        p->pinned[first] = p->pinned[--p->npinned];
}

/*
 * A tracee that is resumed is put on an idle CPU, because its tracer still runs; waking that CPU costs ten times the stop.
 * So a task that stops again and again is held on the tracer's CPU, until it has computed for COLD_US without a stop.
 */
void mos_heat(struct mos_pump *p, int pid, int status)
{
    unsigned long now = mos_now_ns(), child = 0;
    int i, known = 0, event = WIFSTOPPED(status) ? status >> 16 : 0;
    int bears = event >= PTRACE_EVENT_FORK && event <= PTRACE_EVENT_CLONE && !ptrace(PTRACE_GETEVENTMSG, pid, 0, &child) && child;
    if (event == PTRACE_EVENT_EXEC && p->npinned)
        renamed(p, pid);
    for (i = p->npinned - 1; i >= 0; i--) {
        struct mos_pinned *h = &p->pinned[i];
        if (h->pid != pid) {
            if (now - h->since > COLD_US * 1000UL)
                release(p, i);
            continue;
        }
        known = 1;
        h->since = now;
        if (!WIFSTOPPED(status))
            *h = p->pinned[--p->npinned];
        else if (bears)
            born(p, h, (int)child);
    }
    if (known) {
        if (own.quiet && !own.calm && ++own.warm >= WARM_STOPS)
            calm(1);
        return;
    }
    if (bears) {
        mos_like(p, pid, (int)child); /* it may have been held when it began to make the child */
        if (event != PTRACE_EVENT_CLONE) /* most children stop again and again at once: they start another program, or end */
            mos_hold(p, (int)child);
    }
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
    p->cpu = -1;
    return start.known && sched_setaffinity(0, sizeof start.set, (cpu_set_t *)start.set) ? -errno : 0;
}
