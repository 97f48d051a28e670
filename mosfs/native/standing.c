/* Threads that have been asked to stop, so that their process can be captured (home/moves/threads.py). */
#include "mos.h"

#define RSEQ_CS 8               /* where struct rseq has the address of struct rseq_cs */
#define RESTARTS -514           /* to -512: a call goes on, or is made again, as if nothing had been (linux/errno.h) */

static int number_of(const char *text, const char *name, unsigned long *n)
{
    const char *at = strstr(text, name);
    return at && sscanf(at + strlen(name), "%lx", n) == 1;
}

/* Is a signal about to be delivered? 1 as well where that cannot be seen. */
static int deliverable(int pid)
{
    char path[40], text[4096];
    unsigned long own, shared, blocked;
    int fd;
    long n;
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        close(fd);
    if (n < 0)
        return 1;
    text[n] = 0;
    if (!number_of(text, "\nSigPnd:", &own) || !number_of(text, "\nShdPnd:", &shared) || !number_of(text, "\nSigBlk:", &blocked))
        return 1;
    return ((own | shared) & ~blocked) != 0;
}

/* May it be within a restartable sequence (migrate/rseq.py)? */
static int in_sequence(int pid)
{
    unsigned long area = 0, sequence = 0;
    unsigned int size, signature;
    if (mos_rseq(pid, &area, &size, &signature) < 0 || !area)
        return 0;
    return mos_read(pid, area + RSEQ_CS, &sequence, sizeof sequence) != sizeof sequence || sequence;
}

/* Does it compute, or wait for others without a limit, or make any other call of futex(2) again? */
static int nothing_to_note(const struct mos_regs *r)
{
    long result = (long)r->rax;
    return (long)r->orig_rax < 0 || (r->orig_rax == SYS_futex && result >= RESTARTS && result < RESTARTS + 3);
}

/*
 * Wait for each of these, `ms` milliseconds in all at most. `outcome`: 1: it stands where it was asked to, with `regs`, and there is
 * nothing to be noted about it; 2: `status` is what it has reported instead, or needs to be looked at; 0: nothing has come of it yet,
 * or it has ended.
 */
void mos_standing(struct mos_standing *all, int count, int ms)
{
    unsigned long now = mos_now_ns(), until = now + ms * 1000000UL;
    int i;
    for (i = 0; i < count; i++, now = mos_now_ns()) {
        struct mos_standing *s = &all[i];
        s->outcome = 0;
        if (mos_wait_beside(s->pid, &s->status, -1, now < until ? (int)((until - now) / 1000000) : 0) <= 0)
            continue;
        s->outcome = 2;
        if (s->status >> 8 == (SIGTRAP | 128 << 8) && !mos_getregs(s->pid, &s->regs) && nothing_to_note(&s->regs) &&
            !in_sequence(s->pid) && !deliverable(s->pid))
            s->outcome = 1;
    }
}
