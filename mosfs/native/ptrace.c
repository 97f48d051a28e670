/* One step of ptrace(2) each. Errors are negative errno values. */
#include "mos.h"

#ifndef PTRACE_GET_RSEQ_CONFIGURATION
#define PTRACE_GET_RSEQ_CONFIGURATION 0x420f
#endif
#define MOS_PEEKSIGINFO 0x4209
#define MOS_GETSIGMASK 0x420a
#define MOS_SETSIGMASK 0x420b
/* What only tracers see of a call that was broken off. */
#define MOS_ERESTARTNOINTR 513UL
#define MOS_ERESTART_RESTARTBLOCK 516UL

long mos_ptrace(int request, int pid, unsigned long addr, unsigned long data)
{
    long r;
    if (request == PTRACE_INTERRUPT)
        mos_interrupting(pid);
    r = ptrace(request, pid, addr, data);
    return r < 0 ? -errno : r;
}

/* Does the task stand before the instruction syscall, with rcx as that leaves it? Then it has made that call before. */
static int comes_again(int pid, const struct mos_regs *r)
{
    unsigned char code[2];
    struct iovec here = {code, sizeof code}, there = {(void *)r->rip, sizeof code};
    return r->rcx == r->rip + sizeof code && r->cs == CS_64 && process_vm_readv(pid, &here, 1, &there, 1, 0) == sizeof code &&
           code[0] == 0x0f && code[1] == 0x05;
}

/*
 * The registers. The kernel looks at the lower half of a call's number only, and so do we: the upper one may be anything.
 *
 * Who stops a task that goes on with a call which an earlier stop has broken off may find it on its way back there: the kernel has
 * put the registers before the call (arch/x86/kernel/signal.c), with its number, or that of restart_syscall(2), in rax, and looks
 * for signals once more; or the task is about to make it. Those are told as at the stop that broke the call off: set again so, they
 * mean the same to the kernel, and nobody takes the number of a call for its result, nor a sleep for ended.
 */
int mos_getregs(int pid, struct mos_regs *regs)
{
    int sleeps;
    if (ptrace(PTRACE_GETREGS, pid, 0, regs))
        return -errno;
    regs->orig_rax = (long)(int)regs->orig_rax;
    sleeps = regs->rax == __NR_restart_syscall;
    if ((sleeps || ((long)regs->orig_rax >= 0 && regs->rax == regs->orig_rax)) && comes_again(pid, regs)) {
        if ((long)regs->orig_rax < 0)
            regs->orig_rax = __NR_restart_syscall;
        regs->rax = sleeps ? -MOS_ERESTART_RESTARTBLOCK : -MOS_ERESTARTNOINTR;
        regs->rip += 2;
    }
    return 0;
}

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
