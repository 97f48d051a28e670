/*
 * A tracer's programs at home: the stops that need no decision, without waking Python.
 *
 * A program, or a thread, is plain while its next fork, thread, ignored or ordinary signal and its end mean nothing but bookkeeping.
 * Python says so (mos_plain); whatever it is told about takes the mark away again. The bookkeeping is noted, in order, and must be done before
 * any other event is looked at.
 */
#include "mos.h"

unsigned short mos_marks[1 << 22];

/* plain: 0, or MOS_PLAIN and what else is true of a plain program. */
void mos_plain(int pid, int plain)
{
    mos_marks[pid] = KNOWN | (plain ? PLAIN : 0) | (plain & MOS_UNTRAVELLED ? UNTRAVELLED : 0) | (plain & MOS_WHOLE ? WHOLE : 0) |
                 (plain & MOS_SEVERAL ? SEVERAL : 0) | (mos_marks[pid] & (ASKED | FILTERED));
}

void mos_filtered(int pid, int filtered) { mos_marks[pid] = (mos_marks[pid] & ~FILTERED) | (filtered ? FILTERED : 0); }

void mos_unknown(int pid) { mos_marks[pid] = 0; }

/* Is the stop before a system call that of a filter of ours? Of several that want to trace it the newest tells its number. */
int mos_filtered_by_us(int pid)
{
    unsigned long number = 0;
    return !(mos_marks[pid] & FILTERED) || (!ptrace(PTRACE_GETEVENTMSG, pid, 0, &number) && number == MOS_OURS);
}

/* MOS_STANDS, MOS_HALTS, MOS_CAME_AND_WENT, or 0: what became of a task before its parent's event has come. */
int mos_early(int pid)
{
    if (!(mos_marks[pid] & EARLY))
        return 0;
    return mos_marks[pid] & BORN ? MOS_CAME_AND_WENT : mos_marks[pid] & HALTED ? MOS_HALTS : MOS_STANDS;
}

static void came_early(struct mos_pump *p, int pid)
{
    int i;
    for (i = 0; i < p->nearly && p->nearly == MOS_EARLIES; i++) /* those that were claimed since have no use for their places */
        if (!(mos_marks[p->earlies[i].pid] & EARLY))
            p->earlies[i--] = p->earlies[--p->nearly];
    if (p->nearly < MOS_EARLIES)
        p->earlies[p->nearly++] = (struct mos_early){pid, 0};
}

/*
 * Those that came early, stand and have not been claimed in so many turns (calls of this): a parent that is killed in its fork never
 * tells of it. At most MOS_EARLIES pids; they are named again until they have ended.
 */
int mos_unclaimed(struct mos_pump *p, int turns, int *pids)
{
    int i, kept = 0, found = 0;
    for (i = 0; i < p->nearly; i++) {
        struct mos_early e = p->earlies[i];
        if (!(mos_marks[e.pid] & EARLY))
            continue;
        if (e.turns++ >= turns) {
            if (mos_early(e.pid) == MOS_CAME_AND_WENT) {
                mos_marks[e.pid] = 0;
                continue;
            }
            pids[found++] = e.pid;
        }
        p->earlies[kept++] = e;
    }
    p->nearly = kept;
    return found;
}

/* A first stop that was asked for must be seen by who asked. */
void mos_interrupting(int pid) { mos_marks[pid] = (mos_marks[pid] & ~(PLAIN | BORN)) | ASKED; }

int mos_plain_and(int pid, int mark) { return (mos_marks[pid] & (PLAIN | mark)) == (PLAIN | mark); }

static int note(struct mos_pump *p, int what, int pid, int other)
{
    if (p->nnotes == MOS_NOTES)
        return 0;
    if (!p->nnotes)
        p->note_since = mos_now_ns();
    p->notes[p->nnotes++] = (struct mos_note){what, pid, other};
    return 1;
}

/* A child that came and went since the last look leaves no trace; what a thread has said is left to its maker. */
static int unborn(struct mos_pump *p, int pid)
{
    int i, j, said = 0;
    for (i = p->nnotes - 1; i >= 0; i--) {
        struct mos_note *n = &p->notes[i];
        if (n->what == MOS_SAID && n->pid == pid) {
            said = 1;
            continue;
        }
        if (n->pid == pid)
            return 0;
        if (n->what != MOS_ENDED && n->other == pid) {
            if (said && n->what != MOS_THREAD)
                return 0;
            for (j = i + 1; said && j < p->nnotes; j++) /* of its own, and of threads that it has made */
                if (p->notes[j].what == MOS_SAID && p->notes[j].pid == pid)
                    p->notes[j].pid = n->pid;
            memmove(n, n + 1, (--p->nnotes - i) * sizeof *n);
            return 1;
        }
    }
    return 0;
}

/* A trapped mmap(2) of memory of the program's own, as each stack of a thread is: Python only has to know that there was one. */
int mos_maps(struct mos_pump *p, int pid, const struct user_regs_struct *r)
{
    int i;
    if (!mos_plain_and(pid, 0) || !(r->r10 & MAP_ANONYMOUS) || r->r10 & MAP_SHARED || (r->r10 & MAP_FIXED && !(r->rdi & ABOVE)))
        return 0;
    for (i = 0; i < p->nnotes; i++)
        if (p->notes[i].what == MOS_SAID && p->notes[i].pid == pid)
            return 1;
    return note(p, MOS_SAID, pid, 0);
}

/* Is the task a thread, and not the first of a process? One that is gone is none. */
static int is_thread(int tid) { return syscall(SYS_tgkill, tid, tid, 0) && errno == ESRCH; }

/* A task has made another: a process, or with `what` MOS_THREAD either. */
static int forked(struct mos_pump *p, int pid, int what)
{
    unsigned long child = 0;
    int early, marks = KNOWN | PLAIN | (mos_marks[pid] & (WHOLE | FILTERED));
    if (ptrace(PTRACE_GETEVENTMSG, pid, 0, &child))
        return 0;
    early = mos_early((int)child);
    if (early == MOS_CAME_AND_WENT) {
        mos_marks[child] = 0;
        return !ptrace(PTRACE_CONT, pid, 0, 0);
    }
    if (what == MOS_THREAD && !is_thread((int)child))
        what = MOS_FORKED;
    if (what == MOS_THREAD && !(mos_marks[pid] & SEVERAL)) {
        if (!note(p, MOS_FIRST_THREAD, pid, 0))
            return 0;
        mos_marks[pid] |= SEVERAL;
    }
    if (!note(p, what, pid, (int)child))
        return 0;
    marks |= what == MOS_THREAD ? mos_marks[pid] & (UNTRAVELLED | SEVERAL) : UNTRAVELLED;
    mos_marks[child] = marks | (early == MOS_STANDS ? 0 : BORN);
    if (early == MOS_HALTS)
        ptrace(PTRACE_INTERRUPT, child, 0, 0);
    if (early)
        ptrace(PTRACE_CONT, child, 0, 0);
    ptrace(PTRACE_CONT, pid, 0, 0);
    return 1;
}

/* A signal on its way to a plain program: unless it has ended a call in a way that a program untraced would not see, or another
 * package may have it stop (home/moves/preemption.py). */
static int delivered(struct mos_pump *p, int pid, int sig)
{
    struct user_regs_struct r;
    long nr, result;
    if (sig == SIGSTOP || sig == SIGTSTP || sig == SIGCONT || ptrace(PTRACE_GETREGS, pid, 0, &r))
        return 0;
    nr = (long)r.orig_rax;
    result = (long)r.rax;
    if (nr >= 0 && (result == -EINTR || result == -516 || (result > 0 && (nr >= (long)sizeof p->transfers || p->transfers[nr]))))
        return 0;
    ptrace(PTRACE_CONT, pid, 0, sig);
    return 1;
}

/* Has this stop (or end) been dealt with? */
int mos_settle_at_home(struct mos_pump *p, int pid, int status)
{
    unsigned short *mark = &mos_marks[pid];
    int event = status >> 16, sig = status >> 8 & 0xff, done = 0;
    if (event == PTRACE_EVENT_SECCOMP) {
        if (!p->pass_opens || !mos_filtered_by_us(pid) || !mos_ordinary_call(p, pid))
            return 0;
        if (*mark & ASKED)
            ptrace(PTRACE_INTERRUPT, pid, 0, 0);
        return !ptrace(PTRACE_CONT, pid, 0, 0);
    }
    if (event == 128)
        *mark &= ~ASKED;
    if (event == 128 && !*mark) {
        came_early(p, pid);
        *mark = EARLY | (sig == SIGTRAP ? 0 : HALTED);
        return 1;
    }
    if (event == 128 && sig == SIGTRAP && *mark & BORN) {
        *mark &= ~BORN;
        ptrace(PTRACE_CONT, pid, 0, 0);
        return 1;
    }
    if (!WIFSTOPPED(status) && (!*mark || *mark & EARLY)) {
        if (!*mark)
            came_early(p, pid);
        *mark = EARLY | BORN;
        return 1;
    }
    if (!(*mark & PLAIN))
        return 0;
    if (!WIFSTOPPED(status))
        done = unborn(p, pid) || note(p, MOS_ENDED, pid, status);
    else if (event == MOS_FORKED || event == MOS_VFORKED || event == MOS_THREAD)
        done = forked(p, pid, event);
    else if (!event && sig != (SIGTRAP | 0x80))
        done = delivered(p, pid, sig);
    if (!done)
        *mark &= ~PLAIN;
    else if (!WIFSTOPPED(status))
        *mark = 0;
    return done;
}
