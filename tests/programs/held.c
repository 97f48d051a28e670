/* Everything that the kernel tells of a task and of its descriptors is the same before a move and behind it. */
#include "mos.h"
#include <mqueue.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/fanotify.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/un.h>

#define IOPRIO_OF_PROCESS 1
#define BEST_EFFORT 2
#define MOST 48       /* descriptors */
#define ROOM 16384    /* bytes of a file in /proc */
#define FAR 1000000   /* seconds */

static void elsewhere(void)
{
	rest_ms(seconds < 0.5 ? 1 : 80);
}

static char *read_file(const char *path)
{
	char *text = calloc(1, ROOM);
	int fd = ok(open(path, O_RDONLY | O_CLOEXEC));
	size_t have = 0;
	ssize_t n;

	check(text);
	while ((n = ok(read(fd, text + have, ROOM - 1 - have))) > 0)
		have += n;
	ok(close(fd));
	return text;
}

/* The lines of a text but for those that begin with one of these words, which change by themselves. */
static void without(char *text, const char *const *changing)
{
	char *to = text, *line, *next;

	for (line = text; *line; line = next) {
		bool drop = false;

		next = line + strcspn(line, "\n");
		next += *next == '\n';
		for (const char *const *word = changing; *word; word++)
			drop = drop || !strncmp(line, *word, strlen(*word));
		if (!drop) {
			memmove(to, line, next - line);
			to += next - line;
		}
	}
	*to = 0;
}

static void alike(const char *what, const char *before, const char *after)
{
	size_t at = 0, from;

	while (before[at] && before[at] == after[at])
		at++;
	if (before[at] == after[at])
		return;
	for (from = at; from && before[from - 1] != '\n'; from--)
		;
	fail("%s: \"%.*s\" was \"%.*s\"", what, (int)strcspn(after + from, "\n"), after + from, (int)strcspn(before + from, "\n"),
	     before + from);
}

/* ------------------------------------------------------------------ descriptors */

struct told {
	char *info, link[256];
	struct stat stat;
	off_t at;
	int status, flags, owner, sig, pipe_size, lease, seals;
	struct f_owner_ex owner_ex;
};

static void ask(int fd, struct told *t)
{
	static const char *const changing[] = { "it_value", NULL };
	char path[64];

	memset(t, 0, sizeof *t);
	snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
	t->info = read_file(path);
	without(t->info, changing);
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	ok(readlink(path, t->link, sizeof t->link - 1));
	ok(fstat(fd, &t->stat));
	t->at = lseek(fd, 0, SEEK_CUR);
	t->status = ok(fcntl(fd, F_GETFL));
	t->flags = ok(fcntl(fd, F_GETFD));
	t->owner = fcntl(fd, F_GETOWN);
	fcntl(fd, F_GETOWN_EX, &t->owner_ex);
	t->sig = fcntl(fd, F_GETSIG);
	t->pipe_size = fcntl(fd, F_GETPIPE_SZ);
	t->lease = fcntl(fd, F_GETLEASE);
	t->seals = fcntl(fd, F_GET_SEALS);
}

static void still(struct told *was, const struct told *is)
{
	alike("fdinfo", was->info, is->info);
	alike("fd", was->link, is->link);
	equal(is->stat.st_dev, was->stat.st_dev);
	equal(is->stat.st_ino, was->stat.st_ino);
	equal(is->stat.st_mode, was->stat.st_mode);
	equal(is->stat.st_rdev, was->stat.st_rdev);
	equal(is->stat.st_size, was->stat.st_size);
	equal(is->at, was->at);
	equal(is->status, was->status);
	equal(is->flags, was->flags);
	equal(is->owner, was->owner);
	equal(is->owner_ex.type, was->owner_ex.type);
	equal(is->owner_ex.pid, was->owner_ex.pid);
	equal(is->sig, was->sig);
	equal(is->pipe_size, was->pipe_size);
	equal(is->lease, was->lease);
	equal(is->seals, was->seals);
}

static int fds[MOST], nfds;

static int keep(int fd)
{
	check(fd >= 0 && nfds < MOST);
	return fds[nfds++] = fd;
}

static void open_files(void)
{
	struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 3, .l_len = 5 };
	struct f_owner_ex self = { F_OWNER_PID, getpid() };
	int fd, both[2];

	fd = keep(open("file", O_CREAT | O_RDWR | O_APPEND | O_NONBLOCK, 0640));
	write_all(fd, "0123456789", 10);
	equal(lseek(fd, 4, SEEK_SET), 4);
	ok(fcntl(fd, F_OFD_SETLK, &whole));
	fd = keep(open("file", O_RDONLY | O_CLOEXEC | O_NOATIME));
	ok(flock(fd, LOCK_SH));
	fd = keep(open("file", O_RDWR));
	whole.l_start = 20;
	ok(fcntl(fd, F_SETLK, &whole));
	fd = keep(open("leased", O_CREAT | O_RDONLY, 0600));
	ok(fcntl(fd, F_SETLEASE, F_RDLCK));
	keep(open(".", O_RDONLY | O_DIRECTORY));
	keep(open("file", O_PATH));
	keep(open("/dev/null", O_WRONLY));
	ok(pipe2(both, O_NONBLOCK | O_CLOEXEC));
	ok(fcntl(keep(both[0]), F_SETPIPE_SZ, 1 << 15));
	write_all(keep(both[1]), "in a pipe", 9);
	ok(fcntl(both[0], F_SETSIG, SIGUSR2));
	ok(fcntl(both[0], F_SETOWN_EX, &self));
	fd = keep(memfd_create("memory", MFD_ALLOW_SEALING));
	ok(ftruncate(fd, 12345));
	ok(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK));
}

static void open_watchers(void)
{
	struct itimerspec far = { { 7, 5 }, { FAR, 0 } };
	struct epoll_event event = { .events = EPOLLIN | EPOLLET | EPOLLONESHOT, .data.u64 = 0x1234567890abcdef };
	sigset_t set;
	int fd, epoll;

	keep(eventfd(7, EFD_SEMAPHORE | EFD_NONBLOCK));
	keep(eventfd(41, EFD_CLOEXEC));
	for (int clock = 0; clock < 2; clock++) {
		fd = keep(timerfd_create(clock ? CLOCK_BOOTTIME : CLOCK_MONOTONIC, TFD_NONBLOCK));
		ok(timerfd_settime(fd, 0, &far, NULL));
	}
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGRTMIN + 5);
	keep(signalfd(-1, &set, SFD_NONBLOCK));
	fd = keep(inotify_init1(IN_NONBLOCK));
	ok(inotify_add_watch(fd, ".", IN_CREATE | IN_DELETE));
	ok(inotify_add_watch(fd, "file", IN_MODIFY | IN_ONESHOT));
	fd = fanotify_init(FAN_CLASS_NOTIF | FAN_NONBLOCK, O_RDONLY);
	if (fd >= 0) { /* CAP_SYS_ADMIN, and a kernel with it */
		keep(fd);
		fanotify_mark(fd, FAN_MARK_ADD, FAN_CLOSE_WRITE, AT_FDCWD, "leased");
	}
	fd = syscall(SYS_pidfd_open, getppid(), 0);
	if (fd >= 0)
		keep(fd);
	epoll = keep(epoll_create1(EPOLL_CLOEXEC));
	for (int i = 0; i < nfds; i++) {
		event.data.u64 += i;
		if (epoll_ctl(epoll, EPOLL_CTL_ADD, fds[i], &event))
			check(errno == EPERM || errno == EINVAL || errno == EBADF); /* files, itself */
	}
	epoll = keep(epoll_create1(0));
	ok(epoll_ctl(epoll, EPOLL_CTL_ADD, fds[nfds - 2], &event));
}

static void open_sockets(void)
{
	struct sockaddr_un name = { AF_UNIX, "socket" };
	struct mq_attr attr = { .mq_maxmsg = 3, .mq_msgsize = 16 };
	char queue[32];
	int pair[2], fd;
	mqd_t mq;

	ok(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair));
	keep(pair[0]);
	equal(send(keep(pair[1]), "packet", 6, 0), 6);
	ok(bind(keep(socket(AF_UNIX, SOCK_STREAM, 0)), (struct sockaddr *)&name, sizeof name));
	ok(listen(fds[nfds - 1], 3));
	keep(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
	fd = socket(AF_INET6, SOCK_STREAM, 0);
	if (fd >= 0) /* a kernel with it */
		keep(fd);
	snprintf(queue, sizeof queue, "/held-%d", getpid());
	mq = mq_open(queue, O_CREAT | O_RDWR | O_NONBLOCK, 0600, &attr);
	if (mq != (mqd_t)-1) {
		ok(mq_unlink(queue));
		keep(mq);
	}
	ok(grantpt(keep(posix_openpt(O_RDWR | O_NOCTTY))));
	ok(unlockpt(fds[nfds - 1]));
	keep(open(ptsname(fds[nfds - 1]), O_RDWR | O_NOCTTY));
}

static void descriptors(void)
{
	static struct told was[MOST];
	struct told is;

	nfds = 0;
	open_files();
	open_watchers();
	open_sockets();
	for (int i = 0; i < nfds; i++)
		ask(fds[i], &was[i]);
	for (int round = 0; round < 3; round++) {
		elsewhere();
		for (int i = 0; i < nfds; i++) {
			ask(fds[i], &is);
			still(&was[i], &is);
			free(is.info);
		}
	}
	for (int i = 0; i < nfds; i++) {
		free(was[i].info);
		ok(close(fds[i]));
	}
	ok(unlink("socket"));
	ok(unlink("file"));
	ok(unlink("leased"));
}

/* ------------------------------------------------------------------ the task */

/* What changes while a program runs: memory, switches, signals of all its user's processes. */
static const char *const of_status[] = { "State", "Vm", "Rss", "Hugetlb", "SigQ", "voluntary", "nonvoluntary", NULL };
static const char *const nothing[] = { NULL };
static const struct { const char *path; const char *const *changing; } FILES[] = {
	{ "/proc/self/status", of_status }, { "/proc/self/limits", nothing }, { "/proc/self/timerslack_ns", nothing },
	{ "/proc/self/oom_score_adj", nothing }, { "/proc/self/coredump_filter", nothing }, { "/proc/self/personality", nothing },
	{ "/proc/self/comm", nothing }, { "/proc/self/cmdline", nothing }, { "/proc/self/cgroup", nothing },
	{ "/proc/self/uid_map", nothing }, { "/proc/self/environ", nothing }, { "/proc/self/auxv", nothing },
};
static const char *const LINKS[] = {
	"cwd", "root", "exe", "ns/mnt", "ns/net", "ns/pid", "ns/user", "ns/uts", "ns/ipc", "ns/cgroup", "ns/time",
	"ns/pid_for_children",
};

/* Of /proc/self/stat, by their numbers in proc_pid_stat(5). */
static const int OF_STAT[] = { 2, 4, 5, 6, 7, 18, 19, 20, 22, 25, 26, 27, 28, 38, 40, 41, 45, 46, 47, 48, 49, 50, 51 };

static void stat_fields(char *to)
{
	char *text = read_file("/proc/self/stat"), *at = strrchr(text, ')'), *word;
	int number = 3;

	check(at);
	for (word = strtok(at + 1, " \n"); word; word = strtok(NULL, " \n"), number++)
		for (size_t i = 0; i < COUNT(OF_STAT); i++)
			if (OF_STAT[i] == number)
				to += sprintf(to, "field %d: %s\n", number, word);
	free(text);
}

struct task {
	char *files[COUNT(FILES)], links[COUNT(LINKS)][PATH_MAX], stat[4096];
	long priority, nice, umask, affinity, policy;
	unsigned char attr[64];
	cpu_set_t cpus;
	gid_t groups[64];
	int ngroups;
};

static void look(struct task *t)
{
	char path[64];

	memset(t, 0, sizeof *t);
	for (size_t i = 0; i < COUNT(FILES); i++)
		if (!access(FILES[i].path, R_OK)) {
			t->files[i] = read_file(FILES[i].path);
			without(t->files[i], FILES[i].changing);
		}
	for (size_t i = 0; i < COUNT(LINKS); i++) {
		snprintf(path, sizeof path, "/proc/self/%s", LINKS[i]);
		if (readlink(path, t->links[i], PATH_MAX - 1) < 0)
			check(errno == ENOENT || errno == EACCES);
	}
	stat_fields(t->stat);
	t->priority = ok(syscall(SYS_ioprio_get, IOPRIO_OF_PROCESS, 0));
	t->nice = ok(syscall(SYS_getpriority, PRIO_PROCESS, 0));
	t->umask = umask(0);
	umask(t->umask);
	ok(syscall(SYS_sched_getattr, 0, t->attr, sizeof t->attr, 0));
	ok(sched_getaffinity(0, sizeof t->cpus, &t->cpus));
	t->ngroups = ok(getgroups(COUNT(t->groups), t->groups));
}

static void same_task(const struct task *was, const struct task *is)
{
	for (size_t i = 0; i < COUNT(FILES); i++)
		if (was->files[i])
			alike(FILES[i].path, was->files[i], is->files[i]);
	for (size_t i = 0; i < COUNT(LINKS); i++)
		alike(LINKS[i], was->links[i], is->links[i]);
	alike("stat", was->stat, is->stat);
	equal(is->priority, was->priority);
	equal(is->nice, was->nice);
	equal(is->umask, was->umask);
	same(is->attr, was->attr, sizeof is->attr);
	same(&is->cpus, &was->cpus, sizeof is->cpus);
	equal(is->ngroups, was->ngroups);
	same(is->groups, was->groups, sizeof is->groups);
}

static void forget(struct task *t)
{
	for (size_t i = 0; i < COUNT(FILES); i++)
		free(t->files[i]);
}

static void set_limits(void)
{
	static const int LOWERED[] = { RLIMIT_CORE, RLIMIT_NOFILE, RLIMIT_STACK, RLIMIT_MSGQUEUE, RLIMIT_SIGPENDING, RLIMIT_NICE, RLIMIT_RTPRIO,
				       RLIMIT_RTTIME, RLIMIT_FSIZE, RLIMIT_CPU, RLIMIT_LOCKS };
	struct rlimit limit;

	for (size_t i = 0; i < COUNT(LOWERED); i++) {
		ok(getrlimit(LOWERED[i], &limit));
		if (limit.rlim_cur > 100000 + i) {
			limit.rlim_cur = LOWERED[i] == RLIMIT_STACK ? 7 << 20 : 100000 + i;
			ok(setrlimit(LOWERED[i], &limit));
		}
	}
}

static int is_the_same(void *unused UNUSED)
{
	struct sched_param zero = { 0 };
	struct task *was = malloc(sizeof *was), *is = malloc(sizeof *is);

	check(was && is);
	ok(setsid());
	umask(0135);
	set_limits();
	ok(syscall(SYS_ioprio_set, IOPRIO_OF_PROCESS, 0, BEST_EFFORT << 13 | 6));
	ok(sched_setscheduler(0, SCHED_BATCH, &zero));
	errno = 0;
	check(nice(3) != -1 || !errno);
	ok(prctl(PR_SET_NAME, "held :) (x"));
	ok(prctl(PR_SET_TIMERSLACK, 77777));
	ok(prctl(PR_SET_CHILD_SUBREAPER, 1));
	ok(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	ok(prctl(PR_SET_PDEATHSIG, SIGHUP));
	ok(personality(personality(0xffffffff) | ADDR_NO_RANDOMIZE));
	prctl(PR_CAPBSET_DROP, 9, 0, 0, 0); /* where it may */
	signal(SIGUSR1, SIG_IGN);
	look(was);
	for (int round = 0; round < 3; round++) {
		elsewhere();
		look(is);
		same_task(was, is);
		forget(is);
	}
	forget(was);
	free(was);
	free(is);
	return 0;
}

static void task(void)
{
	reaped(forked(is_the_same, NULL), 0);
}

/* ------------------------------------------------------------------ timers */

/* Nanoseconds that are left; ``at``: when that was asked, not before and not after. */
struct left { int64_t ns, interval, after, before; };

static struct left left_of(timer_t timer, int which, int fd, clockid_t clock)
{
	struct itimerspec t;
	struct itimerval v;
	struct left left;

	left.after = now_ns(clock);
	if (fd >= 0)
		ok(timerfd_gettime(fd, &t));
	else if (which >= 0) {
		ok(getitimer(which, &v));
		t.it_value = (struct timespec){ v.it_value.tv_sec, v.it_value.tv_usec * 1000 };
		t.it_interval = (struct timespec){ v.it_interval.tv_sec, v.it_interval.tv_usec * 1000 };
	} else
		ok(timer_gettime(timer, &t));
	left.before = now_ns(clock);
	left.ns = t.it_value.tv_sec * 1000000000LL + t.it_value.tv_nsec;
	left.interval = t.it_interval.tv_sec * 1000000000LL + t.it_interval.tv_nsec;
	return left;
}

/* What has gone from a timer is the time that has passed by its clock, but for the microseconds that are told. */
static void has_gone_on(const struct left *was, const struct left *is)
{
	int64_t gone = was->ns - is->ns;

	equal(is->interval, was->interval);
	if (gone < is->after - was->before - 1000 || gone > is->before - was->after + 1000)
		fail("%lld ns have gone of a timer, in %lld to %lld ns", (long long)gone, (long long)(is->after - was->before),
		     (long long)(is->before - was->after));
}

static void timers(void)
{
	static const clockid_t CLOCKS[] = { CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_MONOTONIC };
	struct itimerspec far = { { 9, 4000 }, { FAR, 2000 } };
	struct itimerval real = { { 11, 0 }, { FAR, 0 } }, none = { 0 };
	struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 1, .sigev_value.sival_int = 5 };
	timer_t timer[2];
	struct left was[4], is;
	int fd = ok(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC));

	for (int i = 0; i < 2; i++) {
		ok(timer_create(CLOCKS[i], &event, &timer[i]));
		ok(timer_settime(timer[i], 0, &far, NULL));
	}
	ok(timerfd_settime(fd, 0, &far, NULL));
	ok(setitimer(ITIMER_REAL, &real, NULL));
	for (int round = 0; round < 4; round++) {
		for (int i = 0; i < 4; i++) {
			is = left_of(i < 2 ? timer[i] : NULL, i == 2 ? ITIMER_REAL : -1, i == 3 ? fd : -1, i < 3 ? CLOCKS[i] : CLOCK_MONOTONIC);
			if (round)
				has_gone_on(&was[i], &is);
			else
				was[i] = is;
		}
		elsewhere();
	}
	ok(setitimer(ITIMER_REAL, &none, NULL));
	ok(close(fd));
	for (int i = 0; i < 2; i++)
		ok(timer_delete(timer[i]));
}

/* ------------------------------------------------------------------ signals that wait */

static void waiting_signals(void)
{
	enum { QUEUED = 6 };
	const int signals[QUEUED] = { SIGRTMIN + 3, SIGRTMIN + 2, SIGRTMIN + 3, SIGUSR2, SIGRTMIN + 2, SIGRTMIN + 7 };
	const int order[QUEUED] = { 3, 1, 4, 0, 2, 5 }; /* by number, then as they came */
	struct timespec now = { 0, 0 };
	siginfo_t sent[QUEUED], found;
	sigset_t set, pending;

	sigemptyset(&set);
	for (int i = 0; i < QUEUED; i++)
		sigaddset(&set, signals[i]);
	ok(sigprocmask(SIG_BLOCK, &set, NULL));
	memset(sent, 0, sizeof sent);
	for (int i = 0; i < QUEUED; i++) {
		datagen(&sent[i], 48, 100 + i); /* the kernel takes no more of a code that it does not know */
		sent[i].si_signo = signals[i];
		sent[i].si_errno = i;
		sent[i].si_code = -10 - i;
		if (i % 2)
			ok(syscall(SYS_rt_sigqueueinfo, getpid(), signals[i], &sent[i]));
		else
			ok(syscall(SYS_rt_tgsigqueueinfo, getpid(), getpid(), signals[i], &sent[i]));
		if (i % 3 == 2)
			elsewhere();
	}
	ok(sigpending(&pending));
	for (int i = 0; i < QUEUED; i++)
		equal(sigismember(&pending, signals[i]), 1);
	equal(sigismember(&pending, SIGUSR1), 0);
	for (int i = 0; i < QUEUED; i++) {
		int one = 0;
		sigset_t only;

		sigemptyset(&only);
		sigaddset(&only, signals[order[i]]);
		ok(syscall(SYS_rt_sigtimedwait, &only, &found, &now, 8));
		while (one < QUEUED && sent[one].si_errno != found.si_errno)
			one++;
		check(one < QUEUED && signals[one] == signals[order[i]]);
		equal(found.si_code, sent[one].si_code);
		same((char *)&found + 16, (char *)&sent[one] + 16, 32);
		sent[one].si_errno = -1;
		elsewhere();
	}
	refused(syscall(SYS_rt_sigtimedwait, &set, NULL, &now, 8), EAGAIN);
	ok(sigprocmask(SIG_UNBLOCK, &set, NULL));
}

PROGRAM(PART(descriptors), PART(task), PART(timers), PART(waiting_signals))
