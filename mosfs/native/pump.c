/*
 * Waiting for events of a tracer or host. Python decides, but for stops that need no decision: those are settled by home.c, handover.c
 * and stream.c. Errors are negative errno values.
 */
#include "mos.h"

sigset_t mos_unblocked;

static void on_sigchld(int sig) { (void)sig; }

static int stale;               /* what was waited for may have left a SIGCHLD, which would end the next ppoll for nothing */

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

unsigned long mos_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000UL + t.tv_nsec;
}

/* CPU time of the last tasks whose end was waited for. */
static struct { int pid; unsigned long user_us, system_us; } ends[4096];
static int nends, keeps_usage;

/* From now on ends are kept. Not before it is needed: the kernel then tells of it at each stop, which takes a little longer. */
void mos_keep_usage(void) { keeps_usage = 1; }

/* waitpid(2). Once its tracer has waited for it a process may be gone: what it has used is told with its end, or never. */
int mos_wait(int pid, int *status, int options)
{
    struct rusage used;
    int r;
    if (!keeps_usage)
        return waitpid(pid, status, options);
    r = wait4(pid, status, options, &used);
    if (r > 0 && !WIFSTOPPED(*status)) {
        ends[nends].pid = r;
        ends[nends].user_us = used.ru_utime.tv_sec * 1000000UL + used.ru_utime.tv_usec;
        ends[nends].system_us = used.ru_stime.tv_sec * 1000000UL + used.ru_stime.tv_usec;
        nends = (nends + 1) % (int)(sizeof ends / sizeof *ends);
    }
    return r;
}

/* What `pid` had used at its end, with the children that it had waited for (microseconds of user and of system): 1, or 0 if not known. */
int mos_usage(int pid, unsigned long *us)
{
    int i, most = sizeof ends / sizeof *ends;
    for (i = 1; i <= most; i++) {
        int at = (nends - i + most) % most;
        if (ends[at].pid == pid) {
            us[0] = ends[at].user_us;
            us[1] = ends[at].system_us;
            return 1;
        }
    }
    return 0;
}

/* What was waited for before it was its turn, in its order: `mos_take` before anything else. */
static struct told { int pid, status; } first[256], *taken = first;
static int ntaken, room = 256;

static int more_room(void)
{
    struct told *more = realloc(taken == first ? NULL : taken, 2 * (size_t)room * sizeof *more);
    if (!more)
        return 0;
    if (taken == first)
        memcpy(more, first, (size_t)room * sizeof *more);
    taken = more;
    room *= 2;
    return 1;
}

/*
 * Wait for all that has ended, or stopped. Until its tracer has done so a process has not ended for its parent, which may know better
 * (pidfd_open(2)). The kernel tells of stops meanwhile, too (there is no waiting for ends only of what is traced).
 */
void mos_reap(void)
{
    while (ntaken < room || more_room()) {
        int pid = mos_wait(-1, &taken[ntaken].status, __WALL | WNOHANG);
        if (pid <= 0)
            return;
        taken[ntaken++].pid = pid;
    }
}

/* A task that has stopped since has been killed meanwhile, or another thread has made exec and has its number: what is so by now. */
static void newer(int pid, int *status)
{
    siginfo_t info = {0};
    int now;
    if (WIFSTOPPED(*status) && !waitid(P_PID, pid, &info, WEXITED | WSTOPPED | __WALL | WNOHANG | WNOWAIT) && info.si_pid == pid &&
        mos_wait(pid, &now, __WALL | WNOHANG) == pid)
        *status = now;
}

static void taken_out(int i, int *status)
{
    *status = taken[i].status;
    memmove(&taken[i], &taken[i + 1], (--ntaken - i) * sizeof *taken);
}

/* The first of them, or the first of `pid` if that is not 0: who it is about; 0: there is none. Of a stop and what came behind it the last. */
int mos_take(int pid, int *status)
{
    int i = 0;
    while (i < ntaken && pid && taken[i].pid != pid)
        i++;
    if (i == ntaken)
        return 0;
    pid = taken[i].pid;
    taken_out(i, status);
    while (i < ntaken && WIFSTOPPED(*status)) {
        if (taken[i].pid == pid)
            taken_out(i, status);
        else
            i++;
    }
    newer(pid, status);
    return pid;
}

/* Is something of this task told next, or perhaps? Nothing is taken out of its turn. */
int mos_is_told(int pid)
{
    int i, status, got;
    for (i = 0; i < ntaken; i++)
        if (taken[i].pid == pid)
            return 1;
    if (ntaken == room && !more_room())
        return 1;
    got = mos_wait(pid, &status, __WALL | WNOHANG);
    if (got > 0)
        mos_put_back(pid, status);
    return got != 0;
}

/* Wait for a task awake, for so long: its PID, or 0. What was waited for before comes first. */
int mos_wait_soon(struct mos_pump *p, int pid, int *status, unsigned long ns)
{
    unsigned long until = mos_now_ns() + ns;
    int got;
    if (ntaken)
        return 0;
    do {
        if (p->npinned)
            sched_yield();
        got = mos_wait(pid, status, __WALL | WNOHANG);
    } while (!got && mos_now_ns() < until);
    if (got > 0)
        stale = 1;
    return got;
}

/* What was waited for is told after all that waits to be. 0, or -ENOMEM: never when there was room (mos_wait_soon, mos_is_told). */
int mos_put_back(int pid, int status)
{
    if (ntaken == room && !more_room())
        return -ENOMEM;
    taken[ntaken].pid = pid;
    taken[ntaken++].status = status;
    return 0;
}

#define LOOK_NS 15000           /* most calls have ended by then; a ppoll and its wake-up take longer */
#define FAIR 256                /* after so many stops in a row descriptors are looked at, */
#define ROUND 8                 /* and after so many all tasks that have stopped by then, one after the other */
#define NOTES_IDLE_NS 5000000UL /* what is noted is written down when nothing has happened for so long */

/* Look at one more descriptor in mos_next, for room to write (`out`), too; its index there, or a negative errno. */
int mos_attend(struct mos_pump *p, int fd, int out)
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
    fds[p->nfds] = (struct pollfd){.fd = fd, .events = POLLIN | (out ? POLLOUT : 0)};
    return p->nfds++;
}

/*
 * The next task that has stopped or ended: its PID; 0: there is none now. The kernel tells of the newest of all first, so a few that
 * stop all the time would keep the others waiting for ever.
 */
static int next_wait(int *status)
{
    static int in_a_row;
    int pid = mos_take(0, status);
    if (!pid) {
        pid = mos_wait(-1, status, __WALL | WNOHANG);
        in_a_row = pid > 0 ? in_a_row + 1 : 0;
        if (in_a_row == ROUND) {
            in_a_row = 0;
            mos_reap();
        }
    }
    if (pid > 0)
        stale = 1;
    return pid > 0 ? pid : 0;
}

/* Before we sleep: a SIGCHLD may be left of what was waited for, or tell of a task that has stopped since: 1 then. */
static int told_meanwhile(void)
{
    const struct timespec now = {0, 0};
    sigset_t chld;
    if (!stale)
        return 0;
    stale = 0;
    sigemptyset(&chld);
    sigaddset(&chld, SIGCHLD);
    return sigtimedwait(&chld, NULL, &now) == SIGCHLD;
}

/*
 * Make a call in the stub of a task that stands there, and look briefly for its end: 1: it stands there again, and *result is what was
 * returned. 0: it goes on, or whatever else has come of it will be told by mos_next.
 */
int mos_make_call(struct mos_pump *p, int pid, struct mos_regs *base, long nr, long a0, long a1, long a2, long a3, long a4, long a5,
                  long *result)
{
    struct mos_regs r;
    int status, e = mos_run_call(pid, base, nr, a0, a1, a2, a3, a4, a5);
    if (e)
        return e;
    if (mos_wait_soon(p, pid, &status, LOOK_NS) <= 0)
        return 0;
    if (WIFSTOPPED(status) && status >> 8 == (SIGTRAP | PTRACE_EVENT_SECCOMP << 8) && !mos_getregs(pid, &r) &&
        r.orig_rax == MOS_MAGIC && (r.rip & ~0xfffUL) == MOS_STUB) {
        if (p->follow)
            mos_heat(p, pid, status);
        *result = r.rdi;
        return 1;
    }
    mos_put_back(pid, status);
    return 0;
}

/* The next stop or end that Python must see, in ev: 1; 0: none is there now; -1: one has been dealt with. */
static int next_task(struct mos_pump *p, struct mos_event *ev)
{
    int status, pid;
    if (p->npinned)
        sched_yield(); /* it shares our CPU: it runs to its next stop now, and no wake-up is needed */
    pid = next_wait(&status);
    if (!pid)
        return 0;
    mos_came(p);
    if (p->follow) {
        mos_heat(p, pid, status);
        if (!p->npinned && ++p->stops >= 64) {
            p->stops = 0;
            mos_follow(p, pid);
        }
    }
    if ((p->nchannels && (mos_land(p, pid, status) || mos_forward(p, pid, status))) ||
        (p->nreaders && mos_serve_mailbox(p, pid, status)) || (p->settles && mos_settle_at_home(p, pid, status)) ||
        (p->nwindows && mos_serve_stream(p, pid, status)) || (p->nprivates && mos_serve_private(p, pid, status)))
        return -1;
    ev->kind = MOS_EV_TASK;
    ev->pid = pid;
    ev->status = status;
    return 1;
}

/* Look at channels with lanes: 1 if Python must look at one, in ev; 0: nothing came; -1: all that came has been dealt with. */
static int next_channel(struct mos_pump *p, struct mos_event *ev)
{
    struct pollfd *fds = p->watched;
    int i, at, any = 0;
    for (i = 0; i < p->nchannels; i++) {
        int heard = mos_hear(p, p->channels[i]);
        if (heard == 1) {
            for (at = 0; at < p->nfds && fds[at].fd != p->channels[i]->fd; at++)
                ;
            if (at < p->nfds) {
                ev->kind = MOS_EV_FD;
                ev->pid = at;
                ev->status = POLLIN;
                return 1;
            }
        }
        any |= heard;
    }
    return any ? -1 : 0;
}

/* What can be read there was for lanes, and has been dealt with. */
static int lanes_take(struct mos_pump *p, int fd)
{
    int i;
    for (i = 0; i < p->nchannels; i++)
        if (p->channels[i]->fd == fd)
            return mos_hear(p, p->channels[i]) != 1;
    return 0;
}

/* The next descriptor that is ready, in turn, so that one that never falls silent does not keep others waiting. */
static int next_descriptor(struct mos_pump *p, struct mos_event *ev)
{
    struct pollfd *fds = p->watched;
    int left, i;
    for (left = p->nfds, i = p->turn; left > 0; left--, i++) {
        if (i >= p->nfds)
            i = 0;
        if (fds[i].revents && lanes_take(p, fds[i].fd))
            continue;
        if (fds[i].revents) {
            p->fair = 0;
            p->turn = i + 1;
            ev->kind = MOS_EV_FD;
            ev->pid = i;
            ev->status = fds[i].revents;
            return 1;
        }
    }
    return 0;
}

/* How long to wait for descriptors: `asked`, -1 for no limit, or less if something is due before, as at `due` (0: not; ns). */
static long how_long(struct mos_pump *p, long asked, unsigned long due)
{
    long wait = asked;
    if (p->fair >= FAIR)
        wait = 0;
    else if (p->nnotes && (wait < 0 || wait > (long)NOTES_IDLE_NS))
        wait = NOTES_IDLE_NS;
    if (p->look_at && (!due || p->look_at < due))
        due = p->look_at;
    if (due) {
        long left = (long)(due - mos_now_ns());
        left = left > 0 ? left : 0;
        if (wait < 0 || wait > left)
            wait = left;
    }
    return wait;
}

/* Wait for a stop that Python must see, for a descriptor, or until timeout_us has passed (negative: for ever): which, in ev. */
int mos_next(struct mos_pump *p, struct mos_event *ev, int timeout_us)
{
    struct timespec ts;
    int n, found, cold;
    long wait;
    unsigned long due, now = mos_now_ns(), until = now + (timeout_us > 0 ? timeout_us : 0) * 1000UL;
    /* Stops that are settled here, and signals (the tick of mos_patience), do not put the time limit off. */
    for (;; now = mos_now_ns()) {
        if (p->lane_news > 1 || (p->lane_news && p->lane_look_at && now >= p->lane_look_at) ||
            (p->nnotes && now - p->note_since > NOTES_NS) || (p->look_at && now >= p->look_at) || (timeout_us > 0 && now >= until)) {
            ev->kind = MOS_EV_TIMEOUT;
            return 0;
        }
        if (++p->fair < FAIR) {
            found = next_task(p, ev);
            if (found > 0)
                return 0;
            if (!found && timeout_us && p->nchannels && mos_awake(p, now) && (found = next_channel(p, ev)) > 0)
                return 0;
            if (found < 0 || (p->awake_until && timeout_us))
                continue;
        }
        if (told_meanwhile() && p->fair < FAIR)
            continue;
        due = p->nchannels ? mos_park(p, now) : 0;
        if (ntaken && p->fair < FAIR) /* of one that was to be parked */
            continue;
        wait = how_long(p, timeout_us < 0 ? -1 : timeout_us > 0 ? (long)(until - now) : 0, due);
        cold = mos_warm(p) && (wait < 0 || wait > COLD_US * 1000L);
        if (cold)
            wait = COLD_US * 1000L;
        ts = (struct timespec){wait / 1000000000, wait % 1000000000};
        n = ppoll(p->watched, p->nfds, wait < 0 ? NULL : &ts, &mos_unblocked);
        if (n == 0 && due && timeout_us) {
            if (p->fair >= FAIR) /* what can be read was looked at: tasks have their turn again */
                p->fair = 0;
            continue;
        }
        if (n == 0 && cold) {
            mos_unfollow(p);
            continue;
        }
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n > 0 && next_descriptor(p, ev))
            return 0;
        if (p->fair >= FAIR) {
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
