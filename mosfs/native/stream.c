/* Small reads and writes of a guest's streams, without waking Python (mbox/stream.py). */
#include "mos.h"

/*
 * The stop of a body that reads or writes where a window lies over its stream: 1 if the call has been made here. What does not fit, or
 * fails, or comes while Python wants the body to stop, is Python's.
 */
int mos_serve_stream(struct mos_pump *p, int pid, int status)
{
    struct user_regs_struct r;
    struct mos_window *w = NULL, *end = p->windows + p->nwindows;
    long n;
    if (status >> 16 != PTRACE_EVENT_SECCOMP || mos_marks[pid] & ASKED)
        return 0;
    for (w = p->windows; w < end && w->pid != pid; w++)
        ;
    if (w == end || ptrace(PTRACE_GETREGS, pid, 0, &r))
        return 0;
    for (; w < end; w++)
        if (w->pid == pid && w->nr == (long)r.orig_rax && (unsigned)w->fd == (unsigned)r.rdi)
            break;
    if (w == end || !r.rdx || !w->left || (w->nr == SYS_write && r.rdx > w->left) || r.rdx >> 31)
        return 0;
    n = r.rdx < w->left ? r.rdx : w->left;
    if (w->nr == SYS_write) {
        if (mos_store(pid, r.rsi, w->file, w->at, n) != n)
            return 0;
    } else if ((w->data ? mos_write(pid, r.rsi, (char *)w->data + w->at, n) : mos_fetch(pid, r.rsi, w->file, w->at, n)) != n)
        return 0;
    r.rax = n;
    r.orig_rax = -1UL;
    if (ptrace(PTRACE_SETREGS, pid, 0, &r))
        return 0;
    w->at += n;
    w->left -= n;
    ptrace(PTRACE_CONT, pid, 0, 0);
    return 1;
}
