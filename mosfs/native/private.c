/* Private temporary files: which stops do not concern them, and their contents to and from programs. */
#include "mos.h"

#define NOT_OPENED -1000000

/* Does a relative path, opened in the directory dirfd of the task, lead to something in /proc? */
static int below_proc(int pid, int dirfd)
{
    char link[40], base[8];
    long n;
    if (dirfd == AT_FDCWD)
        snprintf(link, sizeof link, "/proc/%d/cwd", pid);
    else
        snprintf(link, sizeof link, "/proc/%d/fd/%d", pid, dirfd);
    n = readlink(link, base, 6);
    return n >= 5 && !memcmp(base, "/proc", 5) && (n == 5 || base[5] == '/');
}

/*
 * Of relative paths only those below /proc can be ours. Our names are made of small letters and '_'; so the directory of most of
 * them need not be looked up.
 */
static int ordinary_relative(int pid, int dirfd, unsigned long at)
{
    char path[256], *last;
    struct iovec l = {path, sizeof path - 1}, m = {(void *)at, 0};
    long n;
    /* not beyond the page, for the next one may not be there */
    m.iov_len = 4096 - at % 4096 < sizeof path - 1 ? 4096 - at % 4096 : sizeof path - 1;
    n = process_vm_readv(pid, &l, 1, &m, 1, 0);
    if (n <= 0)
        return 0;
    path[n] = 0;
    if ((long)strlen(path) == n)
        return !below_proc(pid, dirfd); /* cut, by the page's end or by ours: its last name is not here */
    if (!strstr(path, "mosix")) {
        last = strrchr(path, '/');
        last = last ? last + 1 : path;
        if (last[strspn(last, "abcdefghijklmnopqrstuvwxyz_")])
            return 1;
    }
    return !below_proc(pid, dirfd);
}

/* Can the path at addr not be one of ours? Those below /proc and below the private directories may be; "" is a descriptor's. */
static int ordinary_path(struct mos_pump *p, int pid, unsigned long at, int dirfd)
{
    char path[64];
    struct iovec l = {path, sizeof path}, m[2] = {{(void *)at, 4096 - (at & 4095)}, {NULL, 0}};
    const char *s = path;
    long n;
    int i;
    if (m[0].iov_len >= sizeof path)
        m[0].iov_len = sizeof path;
    else {
        m[1].iov_base = (char *)at + m[0].iov_len;
        m[1].iov_len = sizeof path - m[0].iov_len;
    }
    n = process_vm_readv(pid, &l, 1, m, m[1].iov_len ? 2 : 1, 0);
    if (n <= 0 || !path[0])
        return 0;
    if (path[0] != '/')
        return dirfd == NOT_OPENED || ordinary_relative(pid, dirfd, at);
    if (n < (long)sizeof path && !memchr(path, 0, n))
        return 0;
    if (n > 1 && (path[1] == '/' || path[1] == '.'))
        return 0; /* written in another way */
    if (!strncmp(s, "/proc/", 6))
        return 0;
    for (i = 0; i < p->ndirs; i++)
        if (!strncmp(s, p->dirs[i], strnlen(p->dirs[i], 63)))
            return 0;
    return 1;
}

/* So many bytes of room a write of `len` bytes takes at most: whole pages, for it may be into a hole. */
static unsigned long most_used(unsigned long len)
{
    return len > ~0UL - 8190 ? len : (len + 8190) & ~4095UL;
}

/* A trapped call that cannot concern us goes on at once. */
int mos_ordinary_call(struct mos_pump *p, int pid)
{
    struct user_regs_struct r;
    struct mos_grant *grant = &p->grants[pid & 63];
    unsigned long args[6];
    int i, mask, dirfd = NOT_OPENED;
    if (ptrace(PTRACE_GETREGS, pid, 0, &r) || r.orig_rax >= sizeof p->paths)
        return 0;
    mask = p->paths[r.orig_rax];
    if (!mask) {
        if ((r.orig_rax == SYS_wait4 && r.rdx & WNOHANG && !r.r10) || (r.orig_rax == SYS_waitid && r.r10 & WNOHANG && !r.r8)) {
            mos_reap();
            return 1;
        }
        if (r.orig_rax == SYS_clock_gettime && (int)r.rdi < 0 && ~((int)r.rdi >> 3))
            return 0; /* the clock of another process */
        if (r.orig_rax == SYS_getrusage || r.orig_rax == SYS_times || r.orig_rax == SYS_clock_gettime)
            return mos_plain_and(pid, UNTRAVELLED);
        if (r.orig_rax == SYS_mremap)
            return r.rdi & ABOVE && (!(r.r10 & MREMAP_FIXED) || r.r8 & ABOVE) && mos_plain_and(pid, WHOLE);
        if (r.orig_rax == SYS_mmap)
            return mos_maps(p, pid, &r);
        if (grant->pid != pid)
            return 0;
        switch (r.orig_rax) {
        case SYS_write:
        case SYS_pwrite64:
            if (grant->none)
                return 1;
            if (most_used(r.rdx) > grant->bytes)
                return 0;
            grant->bytes -= most_used(r.rdx);
            return 1;
        case SYS_fstat:
        case SYS_writev:
            return grant->none;
        }
        return 0;
    }
    if (r.orig_rax == SYS_open || r.orig_rax == SYS_creat)
        dirfd = AT_FDCWD;
    else if (r.orig_rax == SYS_openat || r.orig_rax == SYS_openat2)
        dirfd = (int)r.rdi;
    args[0] = r.rdi, args[1] = r.rsi, args[2] = r.rdx, args[3] = r.r10, args[4] = r.r8, args[5] = r.r9;
    for (i = 0; i < 6; i++)
        if (mask >> i & 1 && !ordinary_path(p, pid, args[i], dirfd)) {
            /* fstat(3) is newfstatat(fd, "", buffer, AT_EMPTY_PATH) */
            char first = 1;
            struct iovec l = {&first, 1}, m = {(void *)args[i], 1};
            if (!(r.orig_rax == SYS_newfstatat && grant->pid == pid && grant->none && args[i] &&
                  process_vm_readv(pid, &l, 1, &m, 1, 0) == 1 && !first))
                return 0;
        }
    return 1;
}

/* 1: two descriptors of a process share one open file description (KCMP_FILE); 0: they do not. */
int mos_same_file(int pid, int fd1, int fd2)
{
    long r = syscall(SYS_kcmp, pid, pid, 0, fd1, fd2);
    return r < 0 ? -errno : r == 0;
}

/* 1: two threads of a process do not have the same descriptors, or not the same folder and umask; 0: they do, or nobody can tell. */
int mos_apart(int pid, int tid)
{
    return syscall(SYS_kcmp, pid, tid, KCMP_FILES, 0, 0) > 0 || syscall(SYS_kcmp, pid, tid, KCMP_FS, 0, 0) > 0;
}

#define MOS_CHUNK 262144UL
#define LONGEST (4UL << 20)     /* bytes of a transfer by which others wait for a millisecond */

/* From a process's memory to a file. Bytes done, or an error if none. */
long mos_store(int pid, unsigned long addr, int fd, unsigned long off, unsigned long len)
{
    static char buf[MOS_CHUNK];
    unsigned long done = 0;
    while (done < len) {
        unsigned long part = len - done < MOS_CHUNK ? len - done : MOS_CHUNK;
        struct iovec l = {buf, part}, m = {(void *)(addr + done), part};
        long n = process_vm_readv(pid, &l, 1, &m, 1, 0), w;
        if (n <= 0)
            return done ? (long)done : n < 0 ? -errno : -EFAULT;
        w = pwrite(fd, buf, n, off + done);
        if (w < 0)
            return done ? (long)done : -errno;
        done += w;
        if (w < (long)part)
            break;
    }
    return done;
}

/* From a file to a process's memory. */
long mos_fetch(int pid, unsigned long addr, int fd, unsigned long off, unsigned long len)
{
    static char buf[MOS_CHUNK];
    unsigned long done = 0;
    while (done < len) {
        unsigned long part = len - done < MOS_CHUNK ? len - done : MOS_CHUNK;
        long n = pread(fd, buf, part, off + done), w;
        if (n <= 0)
            return done || !n ? (long)done : -errno;
        struct iovec l = {buf, n}, m = {(void *)(addr + done), n};
        w = process_vm_writev(pid, &l, 1, &m, 1, 0);
        if (w <= 0)
            return done ? (long)done : -EFAULT;
        done += w;
        if (n < (long)part || w < n)
            break;
    }
    return done;
}

/* The new position of lseek(2), or -1 if that is Python's. */
static int64_t sought(const struct mos_private *w, int64_t offset, unsigned int whence)
{
    struct stat st;
    int64_t from = whence == SEEK_CUR ? (int64_t)w->position : 0, at;
    if (whence > SEEK_END || (whence == SEEK_END && fstat(w->file, &st)))
        return -1;
    if (whence == SEEK_END)
        from = st.st_size;
    return __builtin_add_overflow(from, offset, &at) || at < 0 ? -1 : at;
}

/* Bytes that were read or written at `at`; a negative number if Python has to look at it. `moves`: the position is behind them. */
static long transfer(struct mos_private *w, int pid, int writes, unsigned long addr, unsigned long len, int64_t at, int moves)
{
    struct stat st;
    long n;
    if (at < 0 || len > LONGEST || at > INT64_MAX - (int64_t)LONGEST || !(writes ? w->writable : w->readable))
        return -1;
    if (writes && (most_used(len) > w->left || (w->appends && fstat(w->file, &st))))
        return -1;
    if (writes && w->appends && len)
        at = st.st_size;
    n = writes ? mos_store(pid, addr, w->file, at, len) : mos_fetch(pid, addr, w->file, at, len);
    if (n < 0)
        return -1;
    if (writes)
        w->left -= most_used(len);
    if (moves)
        w->position = at + n;
    return n;
}

/* The stop of a body before a call on a private file that is open: 1 if the call has been made here (guest/private_windows.py). */
int mos_serve_private(struct mos_pump *p, int pid, int status)
{
    struct user_regs_struct r;
    struct mos_private *w = p->privates, *end = w + p->nprivates;
    int writes;
    long n;
    if (status >> 16 != PTRACE_EVENT_SECCOMP || mos_marks[pid] & ASKED)
        return 0;
    for (; w < end && w->pid != pid; w++)
        ;
    if (w == end || ptrace(PTRACE_GETREGS, pid, 0, &r) || r.cs != CS_64)
        return 0;
    for (; w < end && (w->pid != pid || w->fd != (int)r.rdi); w++)
        ;
    if (w == end)
        return 0;
    writes = r.orig_rax == SYS_write || r.orig_rax == SYS_pwrite64;
    if (r.orig_rax == SYS_read || r.orig_rax == SYS_write)
        n = transfer(w, pid, writes, r.rsi, r.rdx, w->position, 1);
    else if (r.orig_rax == SYS_pread64 || r.orig_rax == SYS_pwrite64)
        n = transfer(w, pid, writes, r.rsi, r.rdx, r.r10, 0);
    else if (r.orig_rax == SYS_lseek && (n = sought(w, r.rsi, r.rdx)) >= 0)
        w->position = n;
    else
        return 0;
    if (n < 0)
        return 0;
    w->used = 1;
    if (!p->lane_news)
        p->lane_news = 1;
    r.rax = n;
    r.orig_rax = -1UL;
    if (ptrace(PTRACE_SETREGS, pid, 0, &r))
        return 0;
    ptrace(PTRACE_CONT, pid, 0, 0);
    return 1;
}
