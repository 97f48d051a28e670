/*
 * A tracer's programs at home: the stops that need no decision, without waking Python. Compiled behind private.c.
 *
 * A program is plain while its next fork, ignored or ordinary signal and its end mean nothing but bookkeeping. Python says so
 * (mos_plain); whatever it is told about takes the mark away again. The bookkeeping is noted, in order, and must be done before
 * any other event is looked at.
 */

#define KNOWN 1                 /* Python, or a note, knows it */
#define PLAIN 2
#define BORN 4                  /* its first stop has not come yet; it goes on from there at once */
#define EARLY 8                 /* its first stop has come, its parent's event has not */
#define FILTERED 128            /* it has seccomp filters of its own, or strict mode: they may send it to us, too */
#define ASKED 16                /* to stop: whatever stop comes first takes the place of that one, which must be asked for again */

static unsigned char marks[1 << 22]; /* PID_MAX_LIMIT of 64-bit kernels (proc(5)) */

/* plain: 0, or MOS_PLAIN and what else is true of a plain program. */
void mos_plain(int pid, int plain)
{
    marks[pid] = KNOWN | (plain ? PLAIN : 0) | (plain & MOS_UNTRAVELLED ? UNTRAVELLED : 0) | (plain & MOS_WHOLE ? WHOLE : 0) |
                 (marks[pid] & (ASKED | FILTERED));
}

void mos_filtered(int pid, int filtered) { marks[pid] = (marks[pid] & ~FILTERED) | (filtered ? FILTERED : 0); }

void mos_unknown(int pid) { marks[pid] = 0; }

/* Is the stop before a system call that of a filter of ours? Of several that want to trace it the newest tells its number. */
static int filtered_by_us(int pid)
{
    unsigned long number = 0;
    return !(marks[pid] & FILTERED) || (!ptrace(PTRACE_GETEVENTMSG, pid, 0, &number) && number == MOS_OURS);
}

int mos_early(int pid) { return marks[pid] & EARLY; }

/* A first stop that was asked for must be seen by who asked. */
static void mos_interrupting(int pid) { marks[pid] = (marks[pid] & ~(PLAIN | BORN)) | ASKED; }

static int plain_and(int pid, int mark) { return (marks[pid] & (PLAIN | mark)) == (PLAIN | mark); }

static int note(struct mos_pump *p, int what, int pid, int other)
{
    if (p->nnotes == MOS_NOTES)
        return 0;
    if (!p->nnotes)
        p->note_since = now_ns();
    p->notes[p->nnotes++] = (struct mos_note){what, pid, other};
    return 1;
}

/* A child that came and went since the last look leaves no trace. */
static int unborn(struct mos_pump *p, int pid)
{
    int i;
    for (i = p->nnotes - 1; i >= 0; i--) {
        if (p->notes[i].pid == pid)
            return 0;
        if (p->notes[i].what != MOS_ENDED && p->notes[i].other == pid) {
            memmove(&p->notes[i], &p->notes[i + 1], (--p->nnotes - i) * sizeof *p->notes);
            return 1;
        }
    }
    return 0;
}

static int forked(struct mos_pump *p, int pid, int what)
{
    unsigned long child = 0;
    int stands;
    if (ptrace(PTRACE_GETEVENTMSG, pid, 0, &child) || !note(p, what, pid, (int)child))
        return 0;
    stands = marks[child] & EARLY;
    marks[child] = KNOWN | PLAIN | UNTRAVELLED | (marks[pid] & (WHOLE | FILTERED)) | (stands ? 0 : BORN);
    if (stands)
        ptrace(PTRACE_CONT, child, 0, 0);
    ptrace(PTRACE_CONT, pid, 0, 0);
    return 1;
}

/* A signal on its way to a plain program: unless it has ended a call in a way that a program untraced would not see. */
static int delivered(struct mos_pump *p, int pid, int sig)
{
    struct user_regs_struct r;
    long nr, result;
    if (ptrace(PTRACE_GETREGS, pid, 0, &r))
        return 0;
    nr = (long)r.orig_rax;
    result = (long)r.rax;
    if (nr >= 0 && (result == -EINTR || result == -516 || (result > 0 && (nr >= (long)sizeof p->transfers || p->transfers[nr]))))
        return 0;
    ptrace(PTRACE_CONT, pid, 0, sig);
    return 1;
}

/* Has this stop (or end) been dealt with? */
static int settled(struct mos_pump *p, int pid, int status)
{
    unsigned char *mark = &marks[pid];
    int event = status >> 16, sig = status >> 8 & 0xff, done = 0;
    if (event == PTRACE_EVENT_SECCOMP) {
        if (!p->pass_opens || !filtered_by_us(pid) || !ordinary_call(p, pid))
            return 0;
        if (*mark & ASKED)
            ptrace(PTRACE_INTERRUPT, pid, 0, 0);
        return !ptrace(PTRACE_CONT, pid, 0, 0);
    }
    if (event == 128)
        *mark &= ~ASKED;
    if (event == 128 && sig == SIGTRAP && (!*mark || *mark & BORN)) {
        if (*mark)
            ptrace(PTRACE_CONT, pid, 0, 0);
        *mark = *mark ? *mark & ~BORN : EARLY;
        return 1;
    }
    if (!(*mark & PLAIN))
        return 0;
    if (!WIFSTOPPED(status))
        done = unborn(p, pid) || note(p, MOS_ENDED, pid, status);
    else if (event == MOS_FORKED || event == MOS_VFORKED)
        done = forked(p, pid, event);
    else if (!event && sig != (SIGTRAP | 0x80))
        done = delivered(p, pid, sig);
    if (!done)
        *mark &= ~PLAIN;
    else if (!WIFSTOPPED(status))
        *mark = 0;
    return done;
}
