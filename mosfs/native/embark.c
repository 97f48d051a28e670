/*
 * Setting up a program at exec (trace/embark.py says why each step).
 *
 * All calls are made by the syscall instruction of the kernel's own vDSO. The caller holds the task on this CPU (mos_hold): a resume and a
 * stop cost ten times as much when they wake another one. A single step is one stop; but a task that is traced so gets a SIGTRAP by force,
 * and one that the program ignores is then the default (force_sig): it goes from its stop at entry to that at exit.
 */
#include "mos.h"

#define SYSCALL 2               /* bytes of the instruction */
#define LAST_SIZE (16UL << 20)  /* argv and envp cannot be longer (execve(2)) */

/* Where the value of AT_SYSINFO_EHDR is above the initial stack pointer, and the value; 0 for none. */
static unsigned long find_vdso(int pid, unsigned long stack, unsigned long *vdso)
{
    static unsigned long first[2048];
    unsigned long *words = first, size = sizeof first, at, count, slot = 0;
    for (;;) {
        long got = mos_read(pid, stack, words, size);
        count = got > 0 ? got / 8 : 0;
        at = count ? (words[0] < LAST_SIZE ? words[0] : LAST_SIZE) + 2 : 0; /* it may be anything by now */
        while (at < count && words[at])
            at++;
        for (at++; at + 1 < count && words[at]; at += 2)
            if (words[at] == 33) {
                slot = stack + 8 * (at + 1);
                *vdso = words[at + 1];
                break;
            }
        if (slot || at + 1 < count || got < (long)size || size >= LAST_SIZE)
            break;
        if (words != first)
            free(words);
        size *= 4;
        words = malloc(size);
        if (!words)
            return 0;
    }
    if (words != first)
        free(words);
    return slot;
}

/* One call of a program that has no stub yet; a SIGSTOP, which cannot be blocked, and SIGTRAP are put off. */
static int step(struct mos_setup *s, int pid, struct mos_regs *base, unsigned long at, int what, long nr, long a0, long a1, long a2,
                long a3, long a4)
{
    struct user_regs_struct r;
    int e = mos_set_call(pid, base, at, nr, a0, a1, a2, a3, a4, 0), stops = 0, sig;
    s->step = what;
    if (e)
        return e;
    for (;;) {
        if (ptrace(s->single ? PTRACE_SINGLESTEP : PTRACE_SYSCALL, pid, 0, 0))
            return -errno;
        e = mos_waitpid(pid, &s->status, __WALL);
        if (e < 0)
            return e;
        if (!WIFSTOPPED(s->status))
            return MOS_ELSEWHERE;
        sig = s->status >> 8;
        if (sig == SIGSTOP)
            s->stopped = 1;
        if (sig == (SIGTRAP | 0x80) && ++stops < 2)
            continue;
        if (sig != (SIGTRAP | 0x80) && sig != SIGTRAP)
            continue;
        if (ptrace(PTRACE_GETREGS, pid, 0, &r))
            return -errno;
        if (sig != SIGTRAP || (s->single && r.rip == at + SYSCALL))
            break;
        s->trapped = 1; /* sent by somebody, before the call */
    }
    s->result = r.rax;
    return s->result < 0 && s->result > -4096 ? MOS_FAILED : 0;
}

static int put(int pid, unsigned long at, const void *data, unsigned long size)
{
    long done = mos_write(pid, at, (void *)data, size);
    return done == (long)size ? 0 : done < 0 ? (int)done : -EFAULT;
}

static int set_up(struct mos_setup *s, int pid, struct mos_regs *start, unsigned long at)
{
    int e = step(s, pid, start, at, MOS_STEP_MAP, SYS_mmap, MOS_STUB, s->whole, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1);
    if (!e)
        e = put(pid, MOS_STUB, s->pages, s->length);
    if (!e && s->filter_length) {
        unsigned long scratch = MOS_STUB + s->code;
        unsigned long head[2] = {s->filter_length, scratch + sizeof head};
        e = put(pid, scratch, head, sizeof head);
        if (!e)
            e = put(pid, scratch + sizeof head, s->filter, 8UL * s->filter_length);
        if (!e && s->no_new_privs)
            e = step(s, pid, start, at, MOS_STEP_PRIVS, SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        if (!e)
            e = step(s, pid, start, at, MOS_STEP_FILTER, SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW,
                     scratch, 0, 0);
    }
    return e ? e : step(s, pid, start, at, MOS_STEP_PROTECT, SYS_mprotect, MOS_STUB, s->code, PROT_READ | PROT_EXEC, 0, 0);
}

/* At PTRACE_EVENT_EXEC. 0, a negative errno, or MOS_*: what s says. In the end the program stands before its first instruction. */
int mos_embark(int pid, struct mos_setup *s)
{
    struct mos_regs start;
    unsigned long mask, vdso = 0, slot, own = MOS_STUB + s->vdso;
    int e;
    s->stopped = s->trapped = 0;
    e = ptrace(PTRACE_SYSCALL, pid, 0, 0) ? -errno : mos_waitpid(pid, &s->status, __WALL);
    if (e < 0)
        return e;
    if (s->status >> 8 != (SIGTRAP | 0x80)) /* the exit of execve: nothing else but its end can come first */
        return MOS_ELSEWHERE;
    e = mos_getregs(pid, &start);
    if (e)
        return e;
    if (start.cs != CS_64)
        return MOS_NOT_64;
    start.orig_rax = -1UL;
    slot = find_vdso(pid, start.rsp, &vdso);
    if (!slot || !vdso)
        return MOS_NO_VDSO;
    e = mos_getsigmask(pid, &mask);
    if (!e)
        e = mos_setsigmask(pid, ~0UL);
    if (e)
        return e;
    e = set_up(s, pid, &start, vdso + s->instruction);
    if (!e)
        e = put(pid, slot, &own, sizeof own);
    if (!e) {
        e = step(s, pid, &start, MOS_STUB, MOS_STEP_PROTECT, SYS_munmap, vdso - s->before, s->kernel, 0, 0, 0);
        if (e == MOS_FAILED) /* it may be sealed (mseal(2)): then it is only not told of */
            e = 0;
    }
    if (e != MOS_ELSEWHERE) {
        mos_setregs(pid, &start);
        mos_setsigmask(pid, mask);
    }
    return e;
}
