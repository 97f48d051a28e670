/* Waiting inside one system call while the program is moved: each call must end for its own reason, with its own result, and not before. */
#include "mos.h"
#include <poll.h>
#include <sys/mman.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

static pid_t me;
static int64_t begin;

/* The child acts after this many milliseconds, so that some moves happen while the parent waits. */
static long delay(void)
{
	return seconds < 0.5 ? 4 : seconds * 200;
}

static pid_t later(int (*act)(void *), void *arg)
{
	me = getpid();
	begin = now_ns(CLOCK_MONOTONIC);
	pid_t pid = ok(fork());
	if (pid == 0) {
		rest_ms(delay());
		_exit(act(arg));
	}
	return pid;
}

static void done(pid_t pid)
{
	if (now_ns(CLOCK_MONOTONIC) - begin < delay() * 1000000LL)
		fail("woke too early");
	reaped(pid, 0);
}

static int write_later(void *arg)
{
	return write(((int *)arg)[1], "w", 1) == 1 ? 0 : 1;
}

static int read_later(void *arg)
{
	char buf[70000];

	return read(((int *)arg)[0], buf, sizeof(buf)) > 0 ? 0 : 1;
}

static int nothing_later(void *arg UNUSED)
{
	return 0;
}

static int signal_later(void *arg UNUSED)
{
	return kill(me, SIGUSR1);
}

static void read_a_pipe(void)
{
	int p[2];
	char c;

	ok(pipe(p));
	pid_t pid = later(write_later, p);
	equal(read(p[0], &c, 1), 1);
	equal(c, 'w');
	done(pid);
	ok(close(p[0]));
	ok(close(p[1]));
}

static void write_a_pipe(void)
{
	int p[2];
	static char data[1 << 20];

	ok(pipe2(p, O_NONBLOCK));
	while (write(p[1], data, 4096) > 0)
		;
	ok(fcntl(p[0], F_SETFL, 0));
	ok(fcntl(p[1], F_SETFL, 0));
	pid_t pid = later(read_later, p);
	equal(write(p[1], data, 1000), 1000);
	done(pid);
	ok(close(p[0]));
	ok(close(p[1]));
}

/* Far from everything else: what the kernel remembers of an interrupted poll is the address of the array. */
static void poll_of_the_heap(void)
{
	int p[2];
	char c;
	struct pollfd *f = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	check(f != MAP_FAILED);
	ok(pipe(p));
	for (int last = 0; last < 20000; last += 9999) {
		f[last] = (struct pollfd){ p[0], POLLIN, 0 };
		pid_t pid = later(write_later, p);
		equal(poll(&f[last], 1, -1), 1);
		equal(f[last].revents, POLLIN);
		done(pid);
		equal(read(p[0], &c, 1), 1);
		ok(close(p[0]));
		ok(close(p[1]));
		ok(pipe(p));
		equal(poll(&f[last], 0, 1), 0);
	}
	ok(munmap(f, 1 << 20));
	ok(close(p[0]));
	ok(close(p[1]));
}

static void poll_select_epoll(void)
{
	int p[2], ep = ok(epoll_create1(0));
	char c;

	ok(pipe(p));
	struct epoll_event e = { EPOLLIN, { .fd = p[0] } };
	ok(epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &e));
	for (int how = 0; how < 3; how++) {
		struct pollfd f = { p[0], POLLIN, 0 };
		fd_set r;
		FD_ZERO(&r);
		FD_SET(p[0], &r);
		pid_t pid = later(write_later, p);
		equal(how == 0 ? poll(&f, 1, -1) : how == 1 ? select(p[0] + 1, &r, NULL, NULL, NULL) : epoll_wait(ep, &e, 1, -1), 1);
		done(pid);
		equal(read(p[0], &c, 1), 1);
	}
	ok(close(ep));
	ok(close(p[0]));
	ok(close(p[1]));
}

static void wait_for_a_child(void)
{
	siginfo_t info;
	int status;
	pid_t pid = later(nothing_later, NULL);

	equal(wait4(pid, &status, 0, NULL), pid);
	check(now_ns(CLOCK_MONOTONIC) - begin >= delay() * 1000000LL);
	equal(status, 0);
	pid = later(nothing_later, NULL);
	ok(waitid(P_ALL, 0, &info, WEXITED | WNOWAIT));
	equal(info.si_pid, pid);
	done(pid);
}

static volatile sig_atomic_t caught;

static void on_usr1(int sig UNUSED)
{
	caught++;
}

static void wait_for_a_signal(void)
{
	sigset_t set, old;
	siginfo_t info;
	struct sigaction sa = { .sa_handler = on_usr1 };

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	ok(sigaction(SIGUSR1, &sa, NULL));
	ok(sigprocmask(SIG_BLOCK, &set, &old));
	caught = 0;
	pid_t pid = later(signal_later, NULL);
	refused(sigsuspend(&old), EINTR);
	equal(caught, 1);
	done(pid);
	pid = later(signal_later, NULL);
	equal(sigwaitinfo(&set, &info), SIGUSR1);
	equal(info.si_pid, pid);
	done(pid);
	struct timespec long_time = { 100, 0 };
	pid = later(signal_later, NULL);
	equal(sigtimedwait(&set, &info, &long_time), SIGUSR1);
	done(pid);
	pid = later(signal_later, NULL);
	refused(ppoll(NULL, 0, &long_time, &old), EINTR);
	equal(caught, 2);
	done(pid);
	ok(sigprocmask(SIG_SETMASK, &old, NULL));
	signal(SIGUSR1, SIG_DFL);
}

static int lock_and_hold(void *arg)
{
	int *p = arg, fd = open("locked", O_RDWR);
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	if (flock(fd, LOCK_EX) < 0 || fcntl(fd, F_SETLK, &l) < 0)
		return 1;
	write_all(p[1], "l", 1);
	rest_ms(delay());
	if (flock(fd, LOCK_UN) < 0)
		return 2;
	rest_ms(delay());
	return 0;
}

static volatile int rang;

static void on_alarm(int sig UNUSED)
{
	rang = 1;
}

/* One signal ends each kind of waiting, whatever moves it met before: none of them may go on to its own end. */
static void one_alarm_is_enough(void)
{
	int p[2], ep = ok(epoll_create1(0));
	char c;

	ok(pipe(p));
	struct epoll_event e = { EPOLLIN, { .fd = p[0] } };
	ok(epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &e));
	struct sigaction sa = { .sa_handler = on_alarm }, old;
	ok(sigaction(SIGALRM, &sa, &old));
	for (int how = 0; how < 5; how++) {
		struct pollfd f = { p[0], POLLIN, 0 };
		struct timeval tv = { 30, 0 };
		struct timespec ts = { 30, 0 };
		long ms = delay() < 40 ? 40 : delay(); /* enough to come to the wait */
		struct itimerval timer = { { 0, 0 }, { ms / 1000, ms % 1000 * 1000 } };
		fd_set r;

		FD_ZERO(&r);
		FD_SET(p[0], &r);
		do { /* again, where setting it has taken so long: over a link that loses packets */
			rang = 0;
			ok(setitimer(ITIMER_REAL, &timer, NULL));
		} while (rang);
		equal(how == 0 ? poll(&f, 1, 30000) : how == 1 ? select(p[0] + 1, &r, NULL, NULL, &tv) :
			how == 2 ? epoll_wait(ep, &e, 1, 30000) : how == 3 ? nanosleep(&ts, NULL) : read(p[0], &c, 1), -1);
		equal(errno, EINTR);
	}
	ok(sigaction(SIGALRM, &old, NULL));
	ok(close(ep));
	ok(close(p[0]));
	ok(close(p[1]));
}

static volatile int alarms;
static volatile int64_t first_alarm;

static void count_alarm(int sig UNUSED)
{
	if (!alarms++)
		first_alarm = now_ns(CLOCK_MONOTONIC);
}

/* Many waits, each ended by its first alarm: whatever a move does with a call, the signal that comes meanwhile meets the call. */
static void each_alarm_ends_a_wait(void)
{
	struct itimerval none = { { 0, 0 }, { 0, 0 } };
	struct sigaction sa = { .sa_handler = count_alarm }, old;
	struct epoll_event e = { EPOLLIN, { .u32 = 1 } };
	struct pollfd f = { .events = POLLIN };
	int p[2], ep = ok(epoll_create1(0)), early = 0, missed = 0;
	sigset_t none_blocked;
	char c;

	sigemptyset(&none_blocked);
	ok(pipe(p));
	f.fd = p[0];
	ok(epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &e));
	ok(sigaction(SIGALRM, &sa, &old));
	for (int n = 0; n < 10; n++) {
		/* the second alarm only ends a wait that has missed the first */
		struct itimerval timer = { { 5, 0 }, { 0, seconds < 0.5 ? 40000 : 60000 + n * 79193 % 140000 } };

		alarms = 0;
		ok(setitimer(ITIMER_REAL, &timer, NULL));
		begin = now_ns(CLOCK_MONOTONIC);
		switch (n % 5) {
		case 0: refused(read(p[0], &c, 1), EINTR); break;
		case 1: refused(poll(&f, 1, -1), EINTR); break;
		case 2: refused(epoll_wait(ep, &e, 1, -1), EINTR); break;
		case 3: refused(pause(), EINTR); break;
		case 4: refused(sigsuspend(&none_blocked), EINTR); break;
		}
		ok(setitimer(ITIMER_REAL, &none, NULL));
		if (alarms == 1)
			continue;
		/* on a busy machine it may come before its wait has begun: that says nothing, and is done again */
		equal(alarms, 2);
		if (first_alarm > begin)
			missed++;
		else if (early++ < 10)
			n--;
	}
	check(missed <= 1); /* just between our look at the clock and the call */
	ok(sigaction(SIGALRM, &old, NULL));
	ok(close(ep));
	ok(close(p[0]));
	ok(close(p[1]));
}

static void wait_for_locks(void)
{
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	int fd = ok(open("locked", O_RDWR | O_CREAT, 0600)), p[2];
	char c;

	ok(pipe(p));
	pid_t pid = forked(lock_and_hold, p);
	equal(read(p[0], &c, 1), 1);
	ok(flock(fd, LOCK_EX));
	ok(fcntl(fd, F_SETLKW, &l));
	reaped(pid, 0);
	ok(close(fd));
	ok(close(p[0]));
	ok(close(p[1]));
	ok(unlink("locked"));
}

static int open_fifo_later(void *arg UNUSED)
{
	int fd = open("fifo", O_WRONLY);

	return fd >= 0 && write(fd, "f", 1) == 1 ? 0 : 1;
}

static void open_a_fifo(void)
{
	char c;

	ok(mkfifo("fifo", 0600));
	pid_t pid = later(open_fifo_later, NULL);
	int fd = ok(open("fifo", O_RDONLY));
	equal(read(fd, &c, 1), 1);
	done(pid);
	ok(close(fd));
	ok(unlink("fifo"));
}

static int connect_later(void *arg UNUSED)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX, .sun_path = "sock" };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	if (connect(fd, (void *)&at, sizeof(at)) < 0)
		return 1;
	rest_ms(delay());
	return send(fd, "s", 1, 0) == 1 ? 0 : 2;
}

static void accept_and_receive(void)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX, .sun_path = "sock" };
	int l = ok(socket(AF_UNIX, SOCK_STREAM, 0));
	char c;

	ok(bind(l, (void *)&at, sizeof(at)));
	ok(listen(l, 1));
	pid_t pid = later(connect_later, NULL);
	int s = ok(accept(l, NULL, NULL));
	equal(recv(s, &c, 1, 0), 1);
	done(pid);
	equal(recv(s, &c, 1, 0), 0);
	ok(close(s));
	ok(close(l));
	ok(unlink("sock"));
}

static void vfork_waits(void)
{
	int64_t start = now_ns(CLOCK_MONOTONIC);
	pid_t pid = ok(vfork());

	if (pid == 0) {
		struct timespec t = { delay() / 1000, delay() % 1000 * 1000000L };
		nanosleep(&t, NULL);
		_exit(23);
	}
	check(now_ns(CLOCK_MONOTONIC) - start >= delay() * 1000000LL);
	reaped(pid, 23);
}

PROGRAM(PART(read_a_pipe), PART(write_a_pipe), PART(poll_of_the_heap), PART(poll_select_epoll), PART(wait_for_a_child), PART(wait_for_a_signal), PART(one_alarm_is_enough), PART(each_alarm_ends_a_wait),
	PART(wait_for_locks), PART(open_a_fifo), PART(accept_and_receive), PART(vfork_waits))
