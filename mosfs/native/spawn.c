/* The process that becomes a guest (guest/sandbox.py). Errors are negative errno values. */
#include "mos.h"

#define STACKS (20UL << 30)

/* The new process becomes the sandbox; it leaves with a status that tells which step failed. */
static void become_body(int memfd, int released, unsigned int uid, struct sock_fprog *prog, int memory_limit_mb, int namespaces)
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
    int high_memfd = fcntl(memfd, F_DUPFD, 16), high_sync = fcntl(released, F_DUPFD, 16);
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
    if (namespaces && geteuid() == 0)
        unshare(CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS);
    if (memory_limit_mb > 0) {
        struct rlimit m = {(rlim_t)memory_limit_mb << 20, (rlim_t)memory_limit_mb << 20};
        setrlimit(RLIMIT_AS, &m);
    }
    setrlimit(RLIMIT_CORE, &zero);
    if (geteuid() == 0) {
        if (syscall(SYS_setgroups, 0, NULL) || syscall(SYS_setresgid, uid, uid, uid) || syscall(SYS_setresuid, uid, uid, uid))
            _exit(103);
    }
    prctl(PR_SET_DUMPABLE, 1);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (read(4, &c, 1) != 0) /* parent closes its end after SEIZE */
        _exit(104);
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, prog))
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

/*
 * Fork the process that will hold a guest's memory: no rights, no descriptors, nothing but the stub. It waits until its
 * parent has seized it (a byte on the pipe is not needed: SIGSTOP and SEIZE would race, so it spins on a read of fd `sync`).
 */
int mos_spawn_body(int memfd, unsigned int uid, void *filter, int filter_len, int memory_limit_mb, int namespaces)
{
    int sync[2], pid;
    struct sock_fprog prog = {(unsigned short)filter_len, filter};
    if (pipe2(sync, O_CLOEXEC))
        return -errno;
    pid = fork();
    if (pid < 0) {
        int e = errno;
        close(sync[0]);
        close(sync[1]);
        return -e;
    }
    if (pid == 0)
        become_body(memfd, sync[0], uid, &prog, memory_limit_mb, namespaces);
    close(sync[0]);
    if (ptrace(PTRACE_SEIZE, pid, 0,
               PTRACE_O_EXITKILL | PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACESECCOMP | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE |
                   PTRACE_O_TRACEEXEC)) {
        int e = errno;
        close(sync[1]);
        kill(pid, SIGKILL);
        waitpid(pid, NULL, __WALL);
        return -e;
    }
    close(sync[1]);
    return pid;
}
