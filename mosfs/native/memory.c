/* Memory of other processes: read, written, scanned for what is there and what was written. Errors are negative errno values. */
#include "mos.h"

static unsigned int mos_hidden; /* features MOS_HAS_* of this kernel that are not made use of */

void mos_hide(unsigned int features) { mos_hidden = features; }

int mos_may(unsigned int feature) { return !(mos_hidden & feature); }

long mos_read(int pid, unsigned long addr, void *buf, unsigned long len)
{
    struct iovec l = {buf, len}, m = {(void *)addr, len};
    long n = process_vm_readv(pid, &l, 1, &m, 1, 0);
    return n < 0 ? -errno : n;
}

long mos_write(int pid, unsigned long addr, void *buf, unsigned long len)
{
    struct iovec l = {buf, len}, m = {(void *)addr, len};
    long n = process_vm_writev(pid, &l, 1, &m, 1, 0);
    return n < 0 ? -errno : n;
}

#define MOST_RUNS 64

/*
 * Read `count` runs of a task's memory (address and length each) into the buffer, one behind the other, or write them out of it. Bytes
 * that were transferred; -EINVAL for too many, or if they are not `len` bytes.
 */
long mos_runs(int pid, unsigned long *runs, long count, void *buf, unsigned long len, int write)
{
    struct iovec l = {buf, len}, m[MOST_RUNS];
    unsigned long sum = 0;
    long n, i;
    if (count < 1 || count > MOST_RUNS)
        return -EINVAL;
    for (i = 0; i < count; i++) {
        if (runs[2 * i + 1] > len - sum)
            return -EINVAL;
        sum += runs[2 * i + 1];
        m[i] = (struct iovec){(void *)runs[2 * i], runs[2 * i + 1]};
    }
    if (sum != len)
        return -EINVAL;
    n = write ? process_vm_writev(pid, &l, 1, m, count, 0) : process_vm_readv(pid, &l, 1, m, count, 0);
    return n < 0 ? -errno : n;
}

/* mos_writable where the kernel has no PROCMAP_QUERY: by the text. */
static unsigned long writable_by_text(int pid, unsigned long at, unsigned long limit)
{
    char path[40], line[512], mode[5];
    unsigned long start, end;
    FILE *maps;
    snprintf(path, sizeof path, "/proc/%d/maps", pid);
    maps = fopen(path, "re");
    if (!maps)
        return limit;
    while (at < limit && fgets(line, sizeof line, maps))
        if (sscanf(line, "%lx-%lx %4s", &start, &end, mode) == 3 && end > at) {
            if (start > at || mode[1] != 'w')
                break;
            at = end;
        }
    fclose(maps);
    return at < limit ? at : limit;
}

/*
 * Where the mappings of the task end that may be written and follow each other from at on; at itself if that may not be written, limit if
 * they go on so far or cannot be told. PROCMAP_QUERY (proc_pid_maps(5)) came with Linux 6.11, before that the text is read. *maps: the
 * open file, which is kept there; -1: not open.
 */
static unsigned long mos_writable(int pid, unsigned long at, unsigned long limit, int *maps)
{
    char path[40];
    struct procmap_query q;
    if (!mos_may(MOS_HAS_PROCMAP_QUERY))
        return writable_by_text(pid, at, limit);
    if (*maps < 0) {
        snprintf(path, sizeof path, "/proc/%d/maps", pid);
        *maps = open(path, O_RDONLY | O_CLOEXEC);
    }
    while (at < limit) {
        memset(&q, 0, sizeof q);
        q.size = sizeof q;
        q.flags = MOS_PROCMAP_WRITABLE;
        q.addr = at;
        if (*maps < 0 || syscall(SYS_ioctl, *maps, MOS_PROCMAP_QUERY, &q)) {
            if (*maps < 0 || errno != ENOENT)
                return writable_by_text(pid, at, limit);
            break;
        }
        at = q.end;
    }
    return at < limit ? at : limit;
}

/*
 * How many of len bytes from addr on the task could have filled by a call of its own: the first page is tried by writing a byte back,
 * the others (which the call may not reach) by their mappings' rights and by reading.
 */
long mos_reach(int pid, unsigned long addr, unsigned long len)
{
    int maps = -1;
    long n = mos_reach_by(pid, addr, len, &maps);
    if (maps >= 0)
        close(maps);
    return n;
}

/* The same, with /proc/PID/maps in *maps, which is opened if it is -1 and needed. */
long mos_reach_by(int pid, unsigned long addr, unsigned long len, int *maps)
{
    char bytes[64];
    struct iovec l, m[64];
    unsigned long at, end = addr + len;
    long n;
    int i;
    if (!len)
        return 0;
    n = mos_read(pid, addr, bytes, 1);
    if (n == 1)
        n = mos_write(pid, addr, bytes, 1);
    if (n != 1)
        return n == -ESRCH ? n : 0;
    at = (addr & ~4095UL) + 4096;
    if (at < end && at > addr) {
        end = mos_writable(pid, at, end, maps);
        len = end - addr;
    }
    while (at < end && at > addr) {
        for (i = 0; i < 64 && at + i * 4096UL < end; i++) {
            m[i].iov_base = (void *)(at + i * 4096UL);
            m[i].iov_len = 1;
        }
        l.iov_base = bytes;
        l.iov_len = i;
        n = process_vm_readv(pid, &l, 1, m, i, 0);
        at += (n > 0 ? n : 0) * 4096UL;
        if (n != i)
            return (at < end ? at : end) - addr;
    }
    return len;
}

/* Length of the string at addr without its NUL; -ENAMETOOLONG when there is none within max bytes. Never crosses into a page before it must. */
long mos_read_string(int pid, unsigned long addr, char *buf, unsigned long max)
{
    unsigned long done = 0, part;
    long n;
    char *end;
    while (done < max) {
        part = 4096 - ((addr + done) & 4095);
        if (part > max - done)
            part = max - done;
        n = mos_read(pid, addr + done, buf + done, part);
        if (n <= 0)
            return n < 0 ? n : -EFAULT;
        end = memchr(buf + done, 0, n);
        if (end)
            return end - buf;
        done += n;
    }
    return -ENAMETOOLONG;
}

/* zero[i] = 1 for every 4 KB page of buf that holds only zeros; returns how many. len is a multiple of 4096. */
int mos_zero_runs(void *buf, unsigned long len, unsigned char *zero)
{
    unsigned long i, n = len / 4096;
    int count = 0;
    for (i = 0; i < n; i++) {
        const uint64_t *p = (const uint64_t *)((char *)buf + i * 4096);
        /* memcmp with itself shifted is the fastest portable zero test */
        int z = p[0] == 0 && memcmp(p, p + 1, 4096 - 8) == 0;
        zero[i] = (unsigned char)z;
        count += z;
    }
    return count;
}

struct scan_arg { uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages, inverted, mask, anyof, ret; };
struct scan_run { uint64_t start, end, categories; };
#define MOS_PAGEMAP_SCAN 0xc0606610UL
#define MOS_RUNS 512

/*
 * PAGEMAP_SCAN (Linux 6.7, admin-guide/mm/pagemap.rst) on an open /proc/PID/pagemap: matching pages of [start, end) as pairs
 * (start, end) in runs. Returns the number of pairs; *next is where to go on (end when done). `told`: categories that the low bits of
 * each start tell, for neighbours that differ in them are two runs.
 */
long mos_scan(int pagemap, unsigned long start, unsigned long end, unsigned long flags, unsigned long inverted, unsigned long mask,
              unsigned long anyof, unsigned long told, unsigned long *runs, long max, unsigned long *next)
{
    struct scan_run found[MOS_RUNS];
    struct scan_arg a;
    long n, i;
    if (!mos_may(MOS_HAS_PAGEMAP_SCAN))
        return -ENOTTY;
    memset(&a, 0, sizeof a);
    a.size = sizeof a;
    a.flags = flags;
    a.start = start;
    a.end = end;
    a.vec = (uint64_t)(uintptr_t)found;
    a.vec_len = max < MOS_RUNS ? max : MOS_RUNS;
    a.inverted = inverted;
    a.mask = mask;
    a.anyof = anyof;
    a.ret = told;
    n = syscall(SYS_ioctl, pagemap, MOS_PAGEMAP_SCAN, &a);
    if (n < 0)
        return -errno;
    for (i = 0; i < n; i++) {
        runs[2 * i] = found[i].start | (found[i].categories & told);
        runs[2 * i + 1] = found[i].end;
    }
    *next = a.walk_end;
    return n;
}

/*
 * Pages of [start, end) that are there (present or swapped), as `mos_scan` returns them; before Linux 6.7 from the pagemap itself.
 * `own`: only those that are not a file's.
 */
long mos_present(int pid, unsigned long start, unsigned long end, int own, unsigned long *runs, long max, unsigned long *next)
{
    char path[40];
    long n, i, count = 0;
    int fd;
    snprintf(path, sizeof path, "/proc/%d/pagemap", pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    n = mos_scan(fd, start, end, 0, own ? 1 << 2 : 0, own ? 1 << 2 : 0, 1 << 3 | 1 << 4, 0, runs, max, next);
    if (n >= 0) {
        close(fd);
        return n;
    }
    uint64_t entries[512];
    while (start < end && count < max) {
        unsigned long pages = (end - start) / 4096;
        if (pages > 512)
            pages = 512;
        n = pread(fd, entries, pages * 8, start / 4096 * 8);
        if (n < 0) {
            n = -errno;
            close(fd);
            return n;
        }
        if (!n) /* it has ended */
            break;
        for (i = 0; i < n / 8 && count < max; i++, start += 4096)
            if (entries[i] >> 62 && !(own && entries[i] >> 61 & 1)) {
                if (count && runs[2 * count - 1] == start)
                    runs[2 * count - 1] += 4096;
                else {
                    runs[2 * count] = start;
                    runs[2 * count + 1] = start + 4096;
                    count++;
                }
            }
    }
    *next = n ? start : end;
    close(fd);
    return count;
}

#define HUGE (2UL << 20)
#define MADV_COLLAPSE 25        /* Linux 6.1 */
#define PRESENT (1UL << 63)     /* of an entry of /proc/PID/pagemap (admin-guide/mm/pagemap.rst) */
#define OF_FILE (1UL << 61)
#define EXCLUSIVE (1UL << 56)

/* 1: all pages of this huge page are present, no file's, and no other process's, too; 0: not, or it cannot be told. */
static int own_pages(int pagemap, unsigned long at)
{
    uint64_t entries[HUGE / 4096];
    int i;
    if (pread(pagemap, entries, sizeof entries, at / 4096 * 8) != sizeof entries)
        return 0;
    for (i = 0; i < (int)(HUGE / 4096); i++)
        if ((entries[i] & (PRESENT | OF_FILE | EXCLUSIVE)) != (PRESENT | EXCLUSIVE))
            return 0;
    return 1;
}

/*
 * Have the kernel make huge pages of [start, end) of another process, which runs (process_madvise(2)), where all pages are present. What
 * is shared until either process writes to it (fork(2)) stays as it is: it would be copied. 0, or a negative errno value: some were not
 * made.
 */
int mos_collapse(int pidfd, int pagemap, unsigned long start, unsigned long end)
{
    int error = 0;
    while (start < end) {
        struct iovec part = {(void *)start, 0};
        for (; start < end && own_pages(pagemap, start); start += HUGE)
            part.iov_len += HUGE;
        if (part.iov_len && syscall(SYS_process_madvise, pidfd, &part, 1UL, MADV_COLLAPSE, 0) < 0)
            error = -errno;
        start += HUGE;
    }
    return error;
}

#define MOS_PIDFD_THREAD 0200   /* O_EXCL: Linux 6.9 */

/* The process that a thread belongs to; 0 if there is none. */
int mos_process_of(int tid)
{
    char path[40], line[256];
    int tgid = 0;
    FILE *status;
    snprintf(path, sizeof path, "/proc/%d/status", tid);
    status = fopen(path, "re");
    if (!status)
        return 0;
    while (fgets(line, sizeof line, status) && sscanf(line, "Tgid: %d", &tgid) != 1)
        ;
    fclose(status);
    return tgid;
}

/* A pidfd of a thread; before Linux 6.9 of its process, if both have the same descriptors. */
static int mos_thread_pidfd(int tid)
{
    int process, fd = mos_may(MOS_HAS_THREAD_PIDFD) ? (int)syscall(SYS_pidfd_open, tid, MOS_PIDFD_THREAD) : -1;
    if (fd >= 0 || (mos_may(MOS_HAS_THREAD_PIDFD) && errno != EINVAL))
        return fd;
    process = mos_process_of(tid);
    if (process > 0 && !syscall(SYS_kcmp, tid, process, KCMP_FILES, 0, 0))
        return syscall(SYS_pidfd_open, process, 0);
    errno = EOPNOTSUPP;
    return -1;
}

/*
 * Read or write `len` bytes of a file in memory by mapping the page that has them: also behind the file's end, where programs that map it
 * may have written. 0 or an error.
 */
int mos_in_page(int fd, unsigned long at, void *buf, unsigned long len, int write)
{
    unsigned long page = at & ~4095UL;
    long done;
    char *map;
    if (!len || at - page + len > 4096)
        return -EINVAL;
    map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, page);
    if (map == MAP_FAILED)
        return -errno;
    /* by the kernel, which tells of a page that is not there */
    done = write ? mos_write(getpid(), (unsigned long)map + (at - page), buf, len)
                 : mos_read(getpid(), (unsigned long)map + (at - page), buf, len);
    munmap(map, 4096);
    return done < 0 ? (int)done : done == (long)len ? 0 : -EFAULT;
}

/* write(2), once, to what others have made: who has to wait there is woken by a tick (mos_patience), -EINTR. */
long mos_write_once(int fd, void *buf, unsigned long len)
{
    long n = write(fd, buf, len);
    return n < 0 ? -errno : n;
}

/* A copy of another task's descriptor (pidfd_getfd(2)): the same open file description, with no more rights than the task has. */
int mos_take_fd(int pid, int fd)
{
    int copy, error, pidfd = syscall(SYS_pidfd_open, pid, 0);
    if (pidfd < 0 && errno != ESRCH) /* it is a thread: EINVAL, or since 6.16 ENOENT */
        pidfd = mos_thread_pidfd(pid);
    if (pidfd < 0)
        return -errno;
    copy = syscall(SYS_pidfd_getfd, pidfd, fd, 0);
    error = errno;
    close(pidfd);
    return copy < 0 ? -error : copy;
}

/* inotify(7): an instance, and the watch of an open file for changes of its contents. */
int mos_watcher(void)
{
    int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

int mos_watch(int watcher, int fd)
{
    char path[32];
    int watch;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    watch = inotify_add_watch(watcher, path, IN_MODIFY);
    return watch < 0 ? -errno : watch;
}

int mos_unwatch(int watcher, int watch)
{
    return inotify_rm_watch(watcher, watch) ? -errno : 0;
}

/* What is there to read now, 0 for nothing. */
long mos_read_now(int fd, void *buf, unsigned long len)
{
    long n = read(fd, buf, len);
    return n >= 0 ? n : errno == EAGAIN || errno == EINTR ? 0 : -errno;
}

struct uffd_api { uint64_t api, features, ioctls; };
struct uffd_register { uint64_t start, len, mode, ioctls; };
#define MOS_UFFDIO_API 0xc018aa3fUL
#define MOS_UFFDIO_REGISTER 0xc020aa00UL

/* Asynchronous write protection (ioctl_userfaultfd(2)): PAGEFAULT_FLAG_WP, WP_UNPOPULATED, WP_ASYNC. */
int mos_uffd_begin(int fd)
{
    struct uffd_api a = {0xAA, 1 << 0 | 1 << 13 | 1 << 15, 0};
    return syscall(SYS_ioctl, fd, MOS_UFFDIO_API, &a) ? -errno : 0;
}

int mos_uffd_register(int fd, unsigned long start, unsigned long end)
{
    struct uffd_register r = {start, end - start, 1 << 1, 0};
    return syscall(SYS_ioctl, fd, MOS_UFFDIO_REGISTER, &r) ? -errno : 0;
}

/* Frames of images are allocated and freed one after the other: their memory stays with us instead of being mapped anew each time. */
void mos_keep_heap(unsigned long largest)
{
    mallopt(M_MMAP_THRESHOLD, (int)largest);
    mallopt(M_TRIM_THRESHOLD, (int)(4 * largest));
}
