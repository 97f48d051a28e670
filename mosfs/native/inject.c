/* Waiting for a task, and calls made in it. */
#include "mos.h"

static int patience;            /* so many ticks of a second mos_waitpid waits; 0: for ever */

static void on_tick(int sig) { (void)sig; }

/*
 * From now on mos_waitpid waits no longer than `seconds` (0: for ever). A tick a second ends its waitpid (no SA_RESTART), so a wait
 * costs nothing more; and while we are frozen ourselves no time passes. Not inherited by fork. Only for a process without threads.
 */
int mos_patience(int seconds)
{
    struct sigaction sa;
    struct itimerval tick = {{seconds > 0, 0}, {seconds > 0, 0}};
    memset(&sa, 0, sizeof sa);
    sa.sa_handler = on_tick;
    patience = seconds;
    return sigaction(SIGALRM, &sa, NULL) || setitimer(ITIMER_REAL, &tick, NULL) ? -errno : 0;
}

#define MOST_USER 200           /* clock ticks (10 ms): no call that we make, and no way to a stop, takes so much in user mode */
#define BUSY 20                 /* a task whose kernel works for it, on much memory or for a disk, may take so many times longer */

/* What a task does (proc(5), stat): its page faults and clock ticks in the kernel, and in user mode, so far. */
static struct mos_work work_of(int tid)
{
    char path[60], text[1024], *s;
    unsigned long minor = 0, major = 0, kernel = 0;
    struct mos_work w = {0};
    int fd, n;
    snprintf(path, sizeof path, "/proc/%d/task/%d/stat", tid, tid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    n = fd < 0 ? 0 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        close(fd);
    text[n > 0 ? n : 0] = 0;
    s = strrchr(text, ')');
    if (s)
        sscanf(s + 1, " %c %*s %*s %*s %*s %*s %*s %lu %*s %lu %*s %lu %lu", &w.state, &minor, &major, &w.user, &kernel);
    w.kernel = minor + major + kernel;
    return w;
}

/*
 * The first of several threads has ended, and its end is told when those of all others have been: who waits for it alone would wait in
 * vain (ptrace(2), death under ptrace). Its PID and status, if it is told after all, or -ESRCH; 0: it lives.
 */
static int ended_untold(int pid, int *status)
{
    char state = work_of(pid).state;
    int r;
    if (state != 'Z' && state != 'X')
        return 0;
    r = mos_wait(pid, status, __WALL | WNOHANG);
    return r > 0 ? r : r < 0 ? -errno : -ESRCH;
}

/*
 * Another second of waiting, at which the task does `now`: 1 when that was too long. It gets on while its kernel works for it, or waits
 * for a disk; and a second in which it has had no processor, though it wants one, counts for nothing: others have it.
 */
int mos_too_long(struct mos_waiting *w, const struct mos_work *now, int seconds)
{
    int same = w->ticks && now->kernel == w->last.kernel && now->user == w->last.user;
    if (!w->ticks)
        w->begun = now->user;
    if (same && now->state == 'R')
        return 0;
    w->idle += now->state != 'D' && (!w->ticks || same);
    w->ticks++;
    w->last = *now;
    return w->idle > seconds || w->ticks > BUSY * seconds || now->user - w->begun > MOST_USER;
}

/*
 * Its PID, or a negative errno: -ESRCH when it has ended; -ETIMEDOUT when that was longer than `patience`: its end, or whatever it does,
 * is still to be waited for then.
 */
int mos_waitpid(int pid, int *status, int options)
{
    struct mos_waiting waiting = {0};
    struct mos_work now;
    int r = mos_take(pid, status);
    if (r)
        return r;
    for (;;) {
        r = mos_wait(pid, status, options);
        if (r >= 0 || errno != EINTR)
            return r >= 0 ? r : -errno;
        if (!patience)
            continue;
        r = ended_untold(pid, status);
        if (r)
            return r;
        now = work_of(pid);
        if (mos_too_long(&waiting, &now, patience))
            return -ETIMEDOUT;
    }
}

/* Wait for task `pid`, or until `fd` is readable or `ms` milliseconds are over: its PID, 0, or a negative errno, as above. */
int mos_wait_beside(int pid, int *status, int fd, int ms)
{
    struct pollfd beside = {.fd = fd, .events = POLLIN};
    unsigned long now = mos_now_ns(), until = now + ms * 1000000UL;
    for (;; now = mos_now_ns()) {
        struct timespec rest = {0, 0};
        int r = mos_take(pid, status);
        if (!r)
            r = mos_wait(pid, status, __WALL | WNOHANG);
        if (r)
            return r > 0 ? r : -errno;
        if (now < until)
            rest = (struct timespec){(until - now) / 1000000000, (until - now) % 1000000000};
        r = ppoll(&beside, 1, &rest, &mos_unblocked);
        if (r > 0 || now >= until)
            return 0;
        if (r < 0 && errno != EINTR)
            return -errno;
        r = ended_untold(pid, status);
        if (r)
            return r;
    }
}

int mos_set_call(int pid, struct mos_regs *base, unsigned long at, long nr, long a0, long a1, long a2, long a3, long a4, long a5)
{
    struct mos_regs r = *base;
    r.orig_rax = -1UL;
    r.rax = nr;
    r.rdi = a0;
    r.rsi = a1;
    r.rdx = a2;
    r.r10 = a3;
    r.r8 = a4;
    r.r9 = a5;
    r.rip = at;
    r.eflags &= ~0x500UL; /* no trap flag, no direction flag */
    return ptrace(PTRACE_SETREGS, pid, 0, &r) ? -errno : 0;
}

/* Start a call in the stub and let the task run; its end is the seccomp stop of MOS_MAGIC. */
int mos_run_call(int pid, struct mos_regs *base, long nr, long a0, long a1, long a2, long a3, long a4, long a5)
{
    int r = mos_set_call(pid, base, MOS_STUB, nr, a0, a1, a2, a3, a4, a5);
    if (r)
        return r;
    return ptrace(PTRACE_CONT, pid, 0, 0) ? -errno : 0;
}


/* Is this stop the call that we asked for (number, six arguments)? What lies in the stub's place may be the program's own code. */
static int as_asked(const struct mos_regs *r, unsigned long after, const long *asked)
{
    const unsigned long made[7] = {r->orig_rax, r->rdi, r->rsi, r->rdx, r->r10, r->r8, r->r9};
    return r->rip == after && r->cs == CS_64 && !memcmp(made, asked, sizeof made);
}

/*
 * Stop a stopped task anew, in no call of its own, where its kernel looks for signals (get_signal), and give it `regs`, as they may be
 * at such a stop: with a call in orig_rax and an ERESTART* result, the kernel decides what becomes of that call. It runs nothing
 * between. 1: something else happened, *status is the wait status. A group stop comes once more, when the task goes on: whoever
 * resumes it knows nothing of this one.
 */
int mos_stand(int pid, struct mos_regs *regs, int *status)
{
    struct mos_regs r = *regs;
    int e;
    r.orig_rax = -1;
    if (ptrace(PTRACE_SETREGS, pid, 0, &r) || ptrace(PTRACE_INTERRUPT, pid, 0, 0) || ptrace(PTRACE_CONT, pid, 0, 0))
        return -errno;
    e = mos_waitpid(pid, status, __WALL);
    if (e < 0)
        return e;
    if (!WIFSTOPPED(*status) || *status >> 16 != 128)
        return 1;
    if (WSTOPSIG(*status) != SIGTRAP && ptrace(PTRACE_INTERRUPT, pid, 0, 0))
        return -errno;
    return ptrace(PTRACE_SETREGS, pid, 0, regs) ? -errno : 0;
}

/*
 * One system call in a stopped task, start to end. 0: done, *result holds its value and the task stands in the stub.
 * 1: something else happened, *status is the wait status (death, a stop signal); the caller decides. With 0 *status is not 0 when
 * an earlier PTRACE_INTERRUPT took effect meanwhile: its stop is used up.
 * In a guest the call itself stops too (no rule by instruction pointer there): exactly this call is let through, once.
 * The value is what the task's memory makes of it: code of the program's own may lie there.
 */
int mos_inject(int pid, struct mos_regs *base, int guest, long nr, long a0, long a1, long a2, long a3, long a4, long a5,
               long *result, int *status)
{
    const long asked[7] = {nr, a0, a1, a2, a3, a4, a5};
    struct mos_regs r;
    int e = mos_run_call(pid, base, nr, a0, a1, a2, a3, a4, a5), st;
    *status = 0;
    if (e)
        return e;
    for (;;) {
        e = mos_waitpid(pid, &st, __WALL);
        if (e < 0)
            return e;
        if (WIFSTOPPED(st) && st >> 8 == (SIGTRAP | PTRACE_EVENT_SECCOMP << 8)) {
            if (ptrace(PTRACE_GETREGS, pid, 0, &r))
                return -errno;
            if (r.orig_rax == MOS_MAGIC && (r.rip & ~0xfffUL) == MOS_STUB) {
                *result = r.rdi;
                return 0;
            }
            if (guest && as_asked(&r, MOS_STUB + 2, asked)) {
                guest = 0;
                if (ptrace(PTRACE_CONT, pid, 0, 0))
                    return -errno;
                continue;
            }
            *status = st;
            return 1;
        }
        if (WIFSTOPPED(st) && st >> 16 == 128 && (st >> 8 & 0xff) == SIGTRAP) { /* a left-over INTERRUPT: told by *status */
            *status = st;
            if (ptrace(PTRACE_CONT, pid, 0, 0))
                return -errno;
            continue;
        }
        *status = st;
        return 1;
    }
}

/*
 * A row of `count` system calls in a stopped task (layout.py, ROW): begin, and wait for its end. Results as of mos_inject. Calls that a
 * filter traps, here as in a guest, are let through if they are in what was asked for, in its order: seven words each, the next of
 * which is *at. With 1 the row is still under way: deal with *status, and wait again.
 */
int mos_row_begin(int pid, struct mos_regs *base, unsigned long row, unsigned long entries, unsigned long count)
{
    struct mos_regs r = *base;
    r.orig_rax = -1UL;
    r.rip = row;
    r.rbx = entries;
    r.rbp = count;
    r.eflags &= ~0x500UL;
    if (ptrace(PTRACE_SETREGS, pid, 0, &r))
        return -errno;
    return ptrace(PTRACE_CONT, pid, 0, 0) ? -errno : 0;
}

/* One stop of it: as below, or 2: it has come to a call that was asked for, and makes that. */
static int row_step(int pid, unsigned long after, const long *asked, unsigned long count, unsigned long *at, int *status)
{
    struct mos_regs r;
    int e = mos_waitpid(pid, status, __WALL);
    if (e < 0)
        return e;
    if (!WIFSTOPPED(*status) || *status >> 8 != (SIGTRAP | PTRACE_EVENT_SECCOMP << 8))
        return 1;
    if (ptrace(PTRACE_GETREGS, pid, 0, &r))
        return -errno;
    if (r.orig_rax == MOS_MAGIC && (r.rip & ~0xfffUL) == MOS_STUB)
        return 0;
    while (*at < count && !as_asked(&r, after, asked + 7 * *at))
        ++*at;
    if (*at == count)
        return 1;
    ++*at;
    return ptrace(PTRACE_CONT, pid, 0, 0) ? -errno : 2;
}

int mos_row_wait(int pid, unsigned long after, const long *asked, unsigned long count, unsigned long *at, int *status)
{
    int r;
    do
        r = row_step(pid, after, asked, count, at, status);
    while (r == 2);
    return r;
}

static int told(const struct mos_row *row)
{
    unsigned long length = 7 * sizeof(long) * row->count;
    long n = mos_read(row->pid, row->at, row->told, length);
    return n == (long)length ? 0 : n < 0 ? (int)n : -EFAULT;
}

/*
 * Rows of several tasks, which all run at the same time: begun, and waited for until each has ended, failed, or met something that the
 * caller must deal with (1: that row is still under way).
 */
void mos_rows(struct mos_row *rows, unsigned long count, unsigned long code, unsigned long after)
{
    unsigned long i, left = 0;
    for (i = 0; i < count; i++) {
        struct mos_row *r = &rows[i];
        unsigned long length = 7 * sizeof(long) * r->count;
        long n = mos_write(r->pid, r->at, (void *)r->asked, length);
        r->outcome = n < 0 ? (int)n : n != (long)length ? -EFAULT : mos_row_begin(r->pid, r->base, code, r->at, r->count);
        if (!r->outcome) {
            r->outcome = 2;
            left++;
        }
    }
    while (left)
        for (i = 0; i < count; i++) {
            struct mos_row *r = &rows[i];
            if (r->outcome != 2)
                continue;
            r->outcome = row_step(r->pid, after, r->asked, r->count, &r->next, &r->status);
            if (!r->outcome)
                r->outcome = told(r);
            left -= r->outcome != 2;
        }
}
