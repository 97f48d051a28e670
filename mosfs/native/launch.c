/*
 * The interpreter of our commands: starts Python, and tells it what Python itself makes unknowable.
 *
 *     #!/path/to/launch -IS /path/to/python
 *
 * Python ignores SIGPIPE and SIGXFSZ before its first line runs, and what was inherited is gone. So the signals that are ignored now
 * go with it as -X ignored=MASK, bit N - 1 in hexadecimal for signal N, as in /proc/PID/status.
 */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define FAILED 125              /* as mosrun.py has it */
#define AMPLE (64UL << 20)      /* bytes of address space in which every Python starts */
#define MARGIN "bytearray(1 << 20)" /* what our own modules take */

/* Without libc, which hides two signals. */
static unsigned long ignored(void)
{
    struct { void (*handler)(int); unsigned long flags; void *restorer; unsigned long mask; } action;
    unsigned long mask = 0;
    for (int sig = 1; sig <= 64; sig++)
        if (!syscall(SYS_rt_sigaction, sig, NULL, &action, 8) && action.handler == SIG_IGN)
            mask |= 1UL << (sig - 1);
    return mask;
}

/* Whether Python starts at all within the limit of address space: asked only where that is low. */
static int starts(const char *python)
{
    struct sigaction usual = {.sa_handler = SIG_DFL}, before;
    int status = 0, null;
    pid_t pid;
    if (sigaction(SIGCHLD, &usual, &before))
        return 1;
    pid = fork();
    if (!pid) {
        null = open("/dev/null", O_RDWR);
        if (null < 0 || dup2(null, 1) < 0 || dup2(null, 2) < 0)
            _exit(0);
        execl(python, python, "-ISc", MARGIN, (char *)NULL);
        _exit(0); /* its absence is told by whoever starts it in earnest */
    }
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    sigaction(SIGCHLD, &before, NULL);
    return !status;
}

int main(int argc, char **argv)
{
    char mask[32], *python = argc > 2 ? strchr(argv[1], ' ') : NULL, *name, **words;
    struct rlimit space;
    int n = 0;
    if (!python) {
        fprintf(stderr, "launch: the interpreter of a script of mosfs, not a command\n");
        return FAILED;
    }
    *python++ = 0;
    name = strrchr(argv[2], '/') ? strrchr(argv[2], '/') + 1 : argv[2];
    if (!getrlimit(RLIMIT_AS, &space) && space.rlim_cur < AMPLE && !starts(python)) {
        fprintf(stderr, "%s: cannot start within the limit of address space: it is %lu KB (ulimit -v)\n", name, space.rlim_cur >> 10);
        return FAILED;
    }
    words = malloc((argc + 4) * sizeof *words);
    if (words) {
        snprintf(mask, sizeof mask, "ignored=%lx", ignored());
        words[n++] = python;
        words[n++] = argv[1];
        words[n++] = "-X";
        words[n++] = mask;
        memcpy(words + n, argv + 2, (argc - 1) * sizeof *words); /* with the NULL behind them */
        execv(python, words);
    }
    fprintf(stderr, "%s: %s: %s\n", name, python, strerror(errno));
    return FAILED;
}
