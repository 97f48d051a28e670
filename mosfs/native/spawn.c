/* The process that becomes a guest (guest/sandbox.py). Errors are negative errno values. */
#include "mos.h"

#define STACKS (20UL << 30)

/* What a new process is to become. */
struct body {
    int memfd;
    int released;               /* it may go on when something can be read here */
    char word;                  /* a byte comes then; else the end */
    unsigned int uid;
    int as_root;                /* it is made by root, and becomes uid */
    struct sock_fprog prog;
    int memory_limit_mb, namespaces;
    int shares;                 /* until it executes the stub it has its maker's memory, not a copy */
};

#define CHECKPOINT_RESTORE 40

/* The right to choose IDs for its threads, which counts in the user namespace of the body only, and outlives its execveat. */
static int keep_choosing(void)
{
    struct {
        uint32_t version;
        int pid;
    } header = {0x20080522, 0};
    const uint32_t bit = 1U << (CHECKPOINT_RESTORE - 32);
    uint32_t sets[6] = {0, 0, 0, bit, bit, bit};
    if (syscall(SYS_capset, &header, sets))
        return -1;
    return prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CHECKPOINT_RESTORE, 0, 0);
}

/*
 * The new process becomes the sandbox; it leaves with a status that tells which step failed. A change of users makes memory dumpable as
 * fs.suid_dumpable has it (prctl(2), PR_SET_DUMPABLE): what it shares with its maker is not, while it is somebody else's.
 */
static void become_body(const struct body *b)
{
    char *const none[] = {NULL};
    char c;
    struct rlimit stack, zero = {0, 0};
    sigset_t all;
    int sig;
    for (sig = 1; sig < 65; sig++)
        signal(sig, SIG_DFL);
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    setsid();
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    int high_memfd = fcntl(b->memfd, F_DUPFD, 16), high_sync = fcntl(b->released, F_DUPFD, 16);
    if (dup2(high_memfd, 3) != 3)
        _exit(101);
    if (dup2(high_sync, 4) != 4)
        _exit(102);
    fcntl(3, F_SETFD, FD_CLOEXEC);
    fcntl(4, F_SETFD, FD_CLOEXEC);
    close(0);
    close(1);
    close(2);
    syscall(SYS_close_range, 5, ~0U, 0);
    if (b->namespaces && b->as_root)
        unshare(CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS);
    if (b->memory_limit_mb > 0) {
        struct rlimit m = {(rlim_t)b->memory_limit_mb << 20, (rlim_t)b->memory_limit_mb << 20};
        setrlimit(RLIMIT_AS, &m);
    }
    setrlimit(RLIMIT_CORE, &zero);
    if (b->as_root) {
        unsigned int uid = b->uid;
        if (syscall(SYS_setgroups, 0, NULL) || syscall(SYS_setresgid, uid, uid, uid) || syscall(SYS_setresuid, uid, uid, uid))
            _exit(103);
    }
    if (b->word && keep_choosing())
        _exit(107);
    if (b->as_root || !b->shares)
        prctl(PR_SET_DUMPABLE, !b->shares);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (read(4, &c, 1) != b->word) /* who made it lets it go after SEIZE */
        _exit(104);
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, &b->prog))
        _exit(105);
    /* Where the kernel puts new mappings must not depend on the body: it may have to do the same again (mosrun --outlive). Below where
       a stack can be that was placed at random (16 GB from the top), or it could not grow; the program's own limit comes with it. */
    personality(ADDR_NO_RANDOMIZE);
    if (!getrlimit(RLIMIT_STACK, &stack)) {
        stack.rlim_cur = stack.rlim_max < STACKS ? stack.rlim_max : STACKS;
        setrlimit(RLIMIT_STACK, &stack);
    }
    syscall(SYS_execveat, 3, "", none, none, AT_EMPTY_PATH);
    _exit(106);
}

static int seize_body(int pid)
{
    if (ptrace(PTRACE_SEIZE, pid, 0,
               PTRACE_O_EXITKILL | PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACESECCOMP | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE |
                   PTRACE_O_TRACEEXEC)) {
        int e = errno;
        kill(pid, SIGKILL);
        waitpid(pid, NULL, __WALL);
        return -e;
    }
    return 0;
}

static int be_body(void *b)
{
    become_body(b);
    return 0;
}

/*
 * Wait until a seized process that shares our memory has executed the stub, or has ended; who waits for it is told that next. If it does
 * not come to that it is killed.
 */
static int left_our_memory(int pid)
{
    int status, e;
    while ((e = mos_waitpid(pid, &status, __WALL)) > 0) {
        if (!WIFSTOPPED(status) || status >> 16 == PTRACE_EVENT_EXEC) {
            e = mos_put_back(pid, status);
            break;
        }
        ptrace(PTRACE_CONT, pid, 0, 0); /* who was killed meanwhile is told of next */
    }
    if (e) {
        kill(pid, SIGKILL);
        waitpid(pid, NULL, __WALL);
    }
    return e;
}

#define OWN_STACK (32 << 10)    /* of a process that shares our memory */

/*
 * Make the process that will hold a guest's memory: no rights, no descriptors, nothing but the stub. It waits until its parent has seized
 * it (a byte on the pipe is not needed: SIGSTOP and SEIZE would race, so it spins on a read of fd `sync`). Until it executes the stub it
 * shares our memory, as after vfork(2), which would not let us seize it: a copy would take a page fault for all that we write from then
 * on. For a process without threads.
 */
int mos_spawn_body(int memfd, unsigned int uid, void *filter, int filter_len, int memory_limit_mb, int namespaces)
{
    char stack[OWN_STACK] __attribute__((aligned(16)));
    int sync[2], pid, e, dumpable = prctl(PR_GET_DUMPABLE);
    struct body b = {memfd, -1, 0, uid, !geteuid(), {(unsigned short)filter_len, filter}, memory_limit_mb, namespaces, 1};
    sigset_t all, before;
    if (pipe2(sync, O_CLOEXEC))
        return -errno;
    b.released = sync[0];
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before); /* no handler of ours runs there */
    pid = clone(be_body, stack + sizeof stack, CLONE_VM | SIGCHLD, &b);
    e = pid < 0 ? -errno : 0;
    sigprocmask(SIG_SETMASK, &before, NULL);
    close(sync[0]);
    if (!e)
        e = seize_body(pid);
    close(sync[1]);
    if (!e)
        e = left_our_memory(pid);
    if (b.as_root)
        prctl(PR_SET_DUMPABLE, dumpable);
    return e ? e : pid;
}

/* struct clone_args of clone3(2), first version with set_tid. */
struct chosen {
    uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size;
};

/* The first process of a PID namespace: with it all others end. It waits for nobody. */
static void be_init(void)
{
    int sig;
    for (sig = 1; sig < 65; sig++)
        signal(sig, SIG_DFL);
    signal(SIGCHLD, SIG_IGN);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    syscall(SYS_close_range, 0, ~0U, 0);
    for (;;)
        pause();
}

/* The life of a maker: for each number that it reads a body with that PID in the namespace, whose parent is ours. */
static void be_maker(struct body *b, int fd)
{
    int said = 0, number, init;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_NAME, "mos-maker");
    int high[3] = {fcntl(fd, F_DUPFD, 32), fcntl(b->memfd, F_DUPFD, 32), fcntl(b->released, F_DUPFD, 32)};
    fd = dup2(high[0], 16);
    b->memfd = dup2(high[1], 17);
    b->released = dup2(high[2], 18);
    syscall(SYS_close_range, 0, 15, 0);
    syscall(SYS_close_range, 19, ~0U, 0);
    if (unshare(CLONE_NEWUSER | CLONE_NEWPID))
        said = -errno;
    if (write(fd, &said, sizeof said) != sizeof said || said || read(fd, &said, sizeof said) != sizeof said)
        _exit(1);
    init = fork();
    if (init == 0)
        be_init();
    said = init < 0 ? -errno : 0;
    while (write(fd, &said, sizeof said) == sizeof said && init > 0 && read(fd, &number, sizeof number) == sizeof number) {
        uint32_t numbers[1] = {(uint32_t)number};
        struct chosen how = {.flags = CLONE_PARENT, .set_tid = (uintptr_t)numbers, .set_tid_size = 1};
        said = syscall(SYS_clone3, &how, sizeof how);
        if (said == 0)
            become_body(b);
        if (said < 0)
            said = -errno;
    }
    _exit(0);
}

static int put_line(int pid, const char *name, const char *line)
{
    char path[60];
    int fd, n = strlen(line), r;
    snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    r = write(fd, line, n) == n ? 0 : -errno;
    close(fd);
    return r;
}

/* In the maker's user namespace there is nobody but who the bodies run as. */
static int map_users(int pid, unsigned int uid, unsigned int gid)
{
    char line[60];
    int r;
    if (geteuid() && (r = put_line(pid, "setgroups", "deny")))
        return r;
    snprintf(line, sizeof line, "%u %u 1", gid, gid);
    if ((r = put_line(pid, "gid_map", line)))
        return r;
    snprintf(line, sizeof line, "%u %u 1", uid, uid);
    return put_line(pid, "uid_map", line);
}

#define PATIENCE_NS 10000000000UL

/* What the maker says, within our patience, which ticks (mos_patience) do not lengthen. */
static int hear(int fd)
{
    struct pollfd ear = {.fd = fd, .events = POLLIN};
    unsigned long now = mos_now_ns(), until = now + PATIENCE_NS;
    int said = 0, n = 0;
    for (; now < until && n <= 0; now = mos_now_ns()) {
        n = poll(&ear, 1, (until - now) / 1000000 + 1);
        if (n < 0 && errno != EINTR)
            return -errno;
    }
    if (n <= 0)
        return -ETIMEDOUT;
    n = read(fd, &said, sizeof said);
    return n == sizeof said ? said : n < 0 ? -errno : -EPIPE;
}

/*
 * A process that makes bodies with chosen PIDs, in namespaces of users and of PIDs that it makes for them: its PID, or why there can
 * be none. ends[0]: where it is asked; ends[1]: what lets a new body go on. It ends with this process, and when ends[0] is closed.
 */
int mos_make_maker(int memfd, unsigned int uid, void *filter, int filter_len, int *ends)
{
    int talk[2], sync[2], pid, e;
    struct body b = {memfd, -1, 1, uid, !geteuid(), {(unsigned short)filter_len, filter}, 0, 0, 0};
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, talk))
        return -errno;
    if (pipe2(sync, O_CLOEXEC)) {
        e = errno;
        close(talk[0]);
        close(talk[1]);
        return -e;
    }
    b.released = sync[0];
    pid = fork();
    if (pid == 0)
        be_maker(&b, talk[1]);
    e = pid < 0 ? -errno : 0;
    close(talk[1]);
    close(sync[0]);
    if (!e)
        e = hear(talk[0]);
    if (!e)
        e = map_users(pid, b.as_root ? uid : geteuid(), b.as_root ? uid : getegid());
    if (!e && write(talk[0], &e, sizeof e) != sizeof e)
        e = -EPIPE;
    if (!e)
        e = hear(talk[0]);
    if (!e) {
        ends[0] = talk[0];
        ends[1] = sync[1];
        return pid;
    }
    close(talk[0]);
    close(sync[1]);
    if (pid > 0) {
        kill(pid, SIGKILL);
        waitpid(pid, NULL, __WALL);
    }
    return e;
}

/* A body whose PID in the maker's namespace is `number`, as mos_spawn_body makes one; -EEXIST if another has that. */
int mos_chosen_body(const int *ends, int number)
{
    int pid, e;
    if (write(ends[0], &number, sizeof number) != sizeof number)
        return -EPIPE;
    pid = hear(ends[0]);
    if (pid <= 0)
        return pid ? pid : -EPIPE;
    e = seize_body(pid);
    if (!e && write(ends[1], "", 1) != 1)
        e = -EPIPE;
    return e ? e : pid;
}

/*
 * Take real, effective and saved IDs, and other groups. A change of users makes a process dumpable as fs.suid_dumpable has it, so all
 * signals wait until it is again what it was, and not dumpable while it is not root: whose users' signals could end it then gets no
 * core file of ours. Where a user namespace forbids setgroups(2), nobody's groups can be changed. For a process without threads.
 */
int mos_become(const unsigned int *users, const unsigned int *own, const unsigned int *others, long count)
{
    static int dumpable;
    sigset_t all, before;
    int back = geteuid() != 0, e = 0;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    if (!back)
        dumpable = prctl(PR_GET_DUMPABLE);
    if ((back && syscall(SYS_setresuid, users[0], users[1], users[2])) ||
        (syscall(SYS_setgroups, count, others) && errno != EPERM) || syscall(SYS_setresgid, own[0], own[1], own[2]) || (!back && syscall(SYS_setresuid, users[0], users[1], users[2])))
        e = -errno;
    prctl(PR_SET_DUMPABLE, back && !e && dumpable == 1);
    sigprocmask(SIG_SETMASK, &before, NULL);
    return e;
}
