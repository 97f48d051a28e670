/* One step of ptrace(2) each. Errors are negative errno values. */
#include "mos.h"

#ifndef PTRACE_GET_RSEQ_CONFIGURATION
#define PTRACE_GET_RSEQ_CONFIGURATION 0x420f
#endif
#define MOS_PEEKSIGINFO 0x4209
#define MOS_GETSIGMASK 0x420a
#define MOS_SETSIGMASK 0x420b

long mos_ptrace(int request, int pid, unsigned long addr, unsigned long data)
{
    long r;
    if (request == PTRACE_INTERRUPT)
        mos_interrupting(pid);
    r = ptrace(request, pid, addr, data);
    return r < 0 ? -errno : r;
}

/* The kernel looks at the lower half of a call's number only, and so do we: the upper one may be anything. */
int mos_getregs(int pid, struct mos_regs *regs)
{
    if (ptrace(PTRACE_GETREGS, pid, 0, regs))
        return -errno;
    regs->orig_rax = (long)(int)regs->orig_rax;
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
