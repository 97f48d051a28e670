/*
 * A runner of mosrun -S: starts command-lines and tells how they end (docs/design/queue.md).
 *
 *     runner SOCKET JOURNAL SHELL        SOCKET: a descriptor, of packets; JOURNAL: a descriptor, or -1
 *
 * It is one MOSIX program with its tracer, and every line is a child of it. So a line costs what a fork costs, not the start of an
 * interpreter and of a tracer. It is in C, because what it forks shall be small. Packets that come:
 *
 *     A PATH\0MESSAGE     each line that follows first sends MESSAGE to mosd's socket PATH, and waits for its OK
 *     R NUMBER\nLINE      run the line; beside it may be two descriptors, for its standard output and standard error
 *     K NUMBER SIGNAL     send a signal to the process group of the line, if it has not ended
 *
 * and go: "E NUMBER STATUS TIME USER SYSTEM MEMORY PID" (wait status, seconds, microseconds twice, kilobytes), "F NUMBER ERRNO" when
 * it could not be started, or "J ERRNO" when the journal could not be written. What ends is in the journal before it is told. When
 * SOCKET ends, the lines that run go on, and their ends are written, before it ends too: a queue that was killed loses nothing.
 */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define FAILED 125 /* as mosrun.py has it */
#define PACKET (128 << 10)
#define AGAIN "try again later" /* how mosd's texts end when it has too much to do */
#define PAUSE 200000000L        /* nanoseconds until it is asked again */

struct job { unsigned long number; pid_t pid; };

static struct job *jobs;
static size_t running, room;
static int channel, journal;
static const char *shell;
static char packet[PACKET + 1], *message, path[sizeof(((struct sockaddr_un *)0)->sun_path)];
static size_t message_length;
static sigset_t usual;

static void chld(int sig)
{
    (void)sig;
}

static void die(const char *what, size_t length)
{
    const char head[] = "mosrun: ";
    if (write(2, head, sizeof head - 1) < 0 || write(2, what, length) < 0 || write(2, "\n", 1) < 0)
        _exit(FAILED);
    _exit(FAILED);
}

/* In the child: have mosd place it. Returns when it may become the program. */
static void ask(void)
{
    static char answer[65536];
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct timespec pause = {0, PAUSE};
    ssize_t length;
    int fd;
    memcpy(address.sun_path, path, sizeof path);
    for (;;) {
        fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
        if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) || send(fd, message, message_length, MSG_NOSIGNAL) < 0)
            die("mosd does not answer", 20);
        while ((length = recv(fd, answer, sizeof answer - 1, 0)) < 0 && errno == EINTR)
            ;
        if (length >= 2 && !memcmp(answer, "OK", 2))
            return; /* open until exec, which mosd sees by its end */
        if (length <= 4)
            die("mosd does not answer", 20);
        answer[length] = 0;
        if (!strstr(answer + 4, AGAIN))
            die(answer + 4, length - 4);
        close(fd);
        nanosleep(&pause, NULL);
    }
}

static void become(const char *line, const int *beside)
{
    int null;
    setpgid(0, 0);
    null = open("/dev/null", O_RDONLY);
    if (null > 0)
        dup2(null, 0), close(null);
    if (beside[0] >= 0 && (dup2(beside[0], 1) < 0 || dup2(beside[1], 2) < 0))
        _exit(FAILED);
    sigprocmask(SIG_SETMASK, &usual, NULL);
    if (message)
        ask();
    execl(shell, "bash", "-c", line, (char *)NULL);
    die(strerror(errno), strlen(strerror(errno)));
}

static void tell(const char *text)
{
    while (send(channel, text, strlen(text), MSG_NOSIGNAL) < 0 && errno == EINTR)
        ;
}

static void run(char *text, const int *beside)
{
    char said[64], *line;
    unsigned long number = strtoul(text, &line, 10);
    pid_t pid = -1;
    if (*line++ != '\n')
        return;
    if (running == room) {
        struct job *more = realloc(jobs, (room + 64) * sizeof *jobs);
        if (more)
            jobs = more, room += 64;
        else
            errno = ENOMEM;
    }
    if (running < room)
        pid = fork();
    if (!pid)
        become(line, beside);
    if (pid < 0) {
        snprintf(said, sizeof said, "F %lu %d", number, errno);
        tell(said);
        return;
    }
    setpgid(pid, pid);
    jobs[running++] = (struct job){number, pid};
}

static void stop(const char *text)
{
    char *rest;
    unsigned long number = strtoul(text, &rest, 10);
    int sig = atoi(rest);
    for (size_t i = 0; i < running; i++)
        if (jobs[i].number == number && sig > 0 && sig < 65)
            kill(-jobs[i].pid, sig);
}

static void ended(size_t at, int status, const struct rusage *used)
{
    char said[160];
    struct job job = jobs[at];
    struct timespec now;
    int length;
    jobs[at] = jobs[--running];
    clock_gettime(CLOCK_REALTIME, &now);
    if (journal >= 0) {
        length = snprintf(said, sizeof said, "D %lu %d %lld.%03ld\n", job.number, status, (long long)now.tv_sec, now.tv_nsec / 1000000);
        if (write(journal, said, length) != length) {
            snprintf(said, sizeof said, "J %d", errno);
            tell(said);
        }
    }
    snprintf(said, sizeof said, "E %lu %d %lld.%03ld %lld %lld %ld %d", job.number, status, (long long)now.tv_sec, now.tv_nsec / 1000000,
             used->ru_utime.tv_sec * 1000000LL + used->ru_utime.tv_usec, used->ru_stime.tv_sec * 1000000LL + used->ru_stime.tv_usec,
             used->ru_maxrss, job.pid);
    tell(said);
}

static void reap(void)
{
    struct rusage used;
    int status;
    pid_t pid;
    while ((pid = wait4(-1, &status, WNOHANG, &used)) > 0)
        for (size_t i = 0; i < running; i++)
            if (jobs[i].pid == pid) {
                ended(i, status, &used);
                break;
            }
}

static void keep_message(const char *text, size_t length)
{
    size_t name = strnlen(text, length);
    if (name >= sizeof path || name == length)
        return;
    memcpy(path, text, name);
    message_length = length - name - 1;
    message = malloc(message_length);
    if (message)
        memcpy(message, text + name + 1, message_length);
}

/* One packet; 0 at the end. */
static int take(void)
{
    union { struct cmsghdr header; char space[CMSG_SPACE(2 * sizeof(int))]; } control;
    struct iovec part = {packet, PACKET};
    struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    struct cmsghdr *found;
    int beside[2] = {-1, -1};
    ssize_t length = recvmsg(channel, &header, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (length < 0)
        return errno == EINTR || errno == EAGAIN;
    found = CMSG_FIRSTHDR(&header);
    if (found && found->cmsg_type == SCM_RIGHTS && found->cmsg_len == CMSG_LEN(sizeof beside))
        memcpy(beside, CMSG_DATA(found), sizeof beside);
    packet[length] = 0;
    if (length > 2 && *packet == 'R')
        run(packet + 2, beside);
    else if (length > 2 && *packet == 'K')
        stop(packet + 2);
    else if (length > 2 && *packet == 'A')
        keep_message(packet + 2, length - 2);
    for (int i = 0; i < 2; i++)
        if (beside[i] >= 0)
            close(beside[i]);
    return length > 0;
}

int main(int argc, char **argv)
{
    struct sigaction action = {.sa_handler = chld};
    struct pollfd wait = {.events = POLLIN};
    sigset_t children;
    int open = 1;
    if (argc != 4) {
        fprintf(stderr, "runner: a part of mosrun -S, not a command\n");
        return FAILED;
    }
    channel = atoi(argv[1]);
    journal = atoi(argv[2]);
    shell = argv[3];
    fcntl(channel, F_SETFD, FD_CLOEXEC);
    if (journal >= 0)
        fcntl(journal, F_SETFD, FD_CLOEXEC);
    sigemptyset(&children);
    sigaddset(&children, SIGCHLD);
    sigprocmask(SIG_BLOCK, &children, &usual);
    sigdelset(&usual, SIGCHLD);
    sigaction(SIGCHLD, &action, NULL);
    while (open || running) {
        wait.fd = open ? channel : -1;
        if (ppoll(&wait, 1, NULL, &usual) > 0)
            open = take();
        reap();
    }
    return 0;
}
