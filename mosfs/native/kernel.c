/* What this kernel has, asked of it: `kernel.py` has the table, and says what may be hidden, for tests. */
#include <sys/socket.h>

#include "mos.h"

#define MOS_SO_PEERPIDFD 77
#define MOS_GUARD_INSTALL 102
#define MOS_COLLAPSE 25
#define MOS_DROPPABLE 0x08
#define MOS_PIDFD_OF_THREAD 0200
#define MOS_KILLABLE_RECV (1UL << 5)
#define MOS_MFD_EXEC 0x10U
#define MOS_GET_RSEQ_CONFIGURATION 0x420f
#define MOS_COVERING_OR_NEXT 0x10

static int mos_closed(int fd)
{
    if (fd < 0)
        return 0;
    close(fd);
    return 1;
}

/* Does following of memory begin, as `mos_uffd_begin` does it in the descriptor of a task? */
static int mos_follows(void)
{
    int fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | 1), found = fd >= 0 && !mos_uffd_begin(fd);
    mos_closed(fd);
    return found;
}

static int mos_scans(unsigned long category)
{
    unsigned long runs[2], next;
    int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC), found;
    found = fd >= 0 && mos_scan(fd, 0, 4096, 0, 0, category, 0, 0, runs, 1, &next) >= 0;
    mos_closed(fd);
    return found;
}

static int mos_maps_answer(void)
{
    struct procmap_query q = {.size = sizeof q, .flags = MOS_COVERING_OR_NEXT};
    int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC), found = fd >= 0 && !ioctl(fd, MOS_PROCMAP_QUERY, &q);
    mos_closed(fd);
    return found;
}

static int mos_peers_are_told(void)
{
    int pair[2], fd = -1, found;
    socklen_t length = sizeof fd;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
        return 0;
    found = !getsockopt(pair[0], SOL_SOCKET, MOS_SO_PEERPIDFD, &fd, &length);
    mos_closed(fd);
    close(pair[0]);
    close(pair[1]);
    return found;
}

/* Is memory of this kind given, and is the advice taken for it? An advice of 0 changes nothing. */
static int mos_maps_as(int kind, int advice)
{
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, kind | MAP_ANONYMOUS, -1, 0);
    int found = page != MAP_FAILED && !madvise(page, 4096, advice);
    if (page != MAP_FAILED)
        munmap(page, 4096);
    return found;
}

/* Since Linux 6.12 sched_getattr(2) tells the slice of an ordinary process, before that nothing. */
static int mos_slices(void)
{
    struct scheduling s;
    memset(&s, 0, sizeof s);
    return !syscall(SYS_sched_getattr, 0, &s, sizeof s, 0) && s.runtime;
}

/* Restartable sequences are told of a stopped tracee only. */
static int mos_rseq_is_told(void)
{
    char answer[32];
    int status, found, pid = fork();
    if (pid < 0)
        return 0;
    if (!pid) {
        if (!ptrace(PTRACE_TRACEME))
            raise(SIGSTOP);
        _exit(0);
    }
    found = waitpid(pid, &status, 0) == pid && WIFSTOPPED(status) && ptrace(MOS_GET_RSEQ_CONFIGURATION, pid, 24, answer) >= 0;
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
    return found;
}

/* Whether this kernel has one of the features MOS_HAS_*. */
int mos_probe(int feature)
{
    if (!mos_may(feature))
        return 0;
    switch (feature) {
    case MOS_HAS_RSEQ_TOLD:
        return mos_rseq_is_told();
    case MOS_HAS_WAIT_KILLABLE: /* the filter is looked at after the flags */
        return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER | MOS_KILLABLE_RECV, NULL) < 0 && errno == EFAULT;
    case MOS_HAS_MEMFD_EXEC:
        return mos_closed(syscall(SYS_memfd_create, "probe", MFD_CLOEXEC | MOS_MFD_EXEC));
    case MOS_HAS_COLLAPSE: /* of nothing: only whether the advice is known */
        return !madvise(NULL, 0, MOS_COLLAPSE);
    case MOS_HAS_PEER_PIDFD:
        return mos_peers_are_told();
    case MOS_HAS_WP_ASYNC:
        return mos_follows();
    case MOS_HAS_PAGEMAP_SCAN:
        return mos_scans(0);
    case MOS_HAS_THREAD_PIDFD:
        return mos_closed(syscall(SYS_pidfd_open, syscall(SYS_gettid), MOS_PIDFD_OF_THREAD));
    case MOS_HAS_PROCMAP_QUERY:
        return mos_maps_answer();
    case MOS_HAS_DROPPABLE:
        return mos_maps_as(MOS_DROPPABLE, 0);
    case MOS_HAS_SLICES:
        return mos_slices();
    case MOS_HAS_GUARDS:
        return mos_maps_as(MAP_PRIVATE, MOS_GUARD_INSTALL);
    case MOS_HAS_GUARDS_TOLD:
        return mos_scans(1 << 8);
    }
    return 0;
}
