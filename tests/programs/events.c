/* Descriptors that tell events: eventfd, timerfd, signalfd, inotify, pidfd. */
#include "mos.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/resource.h>
#include <sys/timerfd.h>

static void eventfds(void)
{
	uint64_t v = 0;
	int plain = ok(eventfd(0, EFD_NONBLOCK)), sem = ok(eventfd(2, EFD_SEMAPHORE | EFD_NONBLOCK | EFD_CLOEXEC));

	for (uint64_t i = 1; i <= 10; i++)
		equal(write(plain, &i, 8), 8);
	equal(read(plain, &v, 8), 8);
	equal(v, 55);
	refused(read(plain, &v, 8), EAGAIN);
	refused(read(plain, &v, 4), EINVAL);
	for (int i = 0; i < 2; i++) {
		equal(read(sem, &v, 8), 8);
		equal(v, 1);
	}
	refused(read(sem, &v, 8), EAGAIN);
	v = UINT64_MAX;
	refused(write(plain, &v, 8), EINVAL);
	ok(close(plain));
	ok(close(sem));
}

static void timerfds(void)
{
	int fd = ok(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC));
	struct itimerspec every = { { 0, 3000000 }, { 0, 2000000 } }, left;
	int64_t start = now_ns(CLOCK_MONOTONIC);
	uint64_t total = 0, v;

	ok(timerfd_settime(fd, 0, &every, NULL));
	while (total < 5) {
		equal(read(fd, &v, 8), 8);
		total += v;
	}
	check(now_ns(CLOCK_MONOTONIC) - start >= 2000000 + 4 * 3000000);
	ok(timerfd_gettime(fd, &left));
	equal(left.it_interval.tv_nsec, 3000000);
	int64_t goal = now_ns(CLOCK_MONOTONIC) + 4000000;
	struct itimerspec at = { { 0, 0 }, { goal / 1000000000, goal % 1000000000 } };
	ok(timerfd_settime(fd, TFD_TIMER_ABSTIME, &at, &left));
	struct pollfd p = { fd, POLLIN, 0 };
	equal(poll(&p, 1, -1), 1);
	check(now_ns(CLOCK_MONOTONIC) >= goal);
	ok(close(fd));
}

static void signalfds(void)
{
	sigset_t set, old;
	struct signalfd_siginfo info;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGRTMIN + 1);
	ok(sigprocmask(SIG_BLOCK, &set, &old));
	int fd = ok(signalfd(-1, &set, SFD_NONBLOCK));
	refused(read(fd, &info, sizeof(info)), EAGAIN);
	ok(kill(getpid(), SIGUSR1));
	ok(sigqueue(getpid(), SIGRTMIN + 1, (union sigval){ .sival_int = 4711 }));
	struct pollfd p = { fd, POLLIN, 0 };
	equal(poll(&p, 1, -1), 1);
	equal(read(fd, &info, sizeof(info)), sizeof(info));
	equal(info.ssi_signo, SIGUSR1);
	equal(info.ssi_pid, getpid());
	equal(read(fd, &info, sizeof(info)), sizeof(info));
	equal(info.ssi_signo, SIGRTMIN + 1);
	equal(info.ssi_int, 4711);
	refused(read(fd, &info, sizeof(info)), EAGAIN);
	ok(close(fd));
	ok(sigprocmask(SIG_SETMASK, &old, NULL));
}

static void inotifies(void)
{
	char buf[4096] __attribute__((aligned(8)));
	int fd = ok(inotify_init1(IN_NONBLOCK | IN_CLOEXEC));

	ok(mkdir("watched", 0700));
	int wd = ok(inotify_add_watch(fd, "watched", IN_CREATE | IN_DELETE));
	refused(read(fd, buf, sizeof(buf)), EAGAIN);
	int file = ok(open("watched/file", O_CREAT | O_RDWR, 0600));
	ok(close(file));
	ok(unlink("watched/file"));
	check(read(fd, buf, sizeof(buf)) > 0);
	struct inotify_event *e = (void *)buf;
	equal(e->wd, wd);
	equal(e->mask, IN_CREATE);
	equal(strcmp(e->name, "file"), 0);
	ok(inotify_rm_watch(fd, wd));
	refused(inotify_rm_watch(fd, wd), EINVAL);
	ok(close(fd));
	ok(rmdir("watched"));
}

static int after_a_while(void *arg)
{
	rest_ms(*(int *)arg);
	return 33;
}

static void pidfds(void)
{
	int ms = 10, status;
	siginfo_t info;
	pid_t pid = forked(after_a_while, &ms);
	int fd = ok((int)syscall(SYS_pidfd_open, pid, 0));
	struct pollfd p = { fd, POLLIN, 0 };

	equal(poll(&p, 1, -1), 1);
	ok(waitid(P_PIDFD, fd, &info, WEXITED | WNOWAIT));
	equal(info.si_pid, pid);
	equal(info.si_status, 33);
	equal(waitpid(pid, &status, 0), pid);
	refused(syscall(SYS_pidfd_send_signal, fd, 0, NULL, 0), ESRCH);
	ok(close(fd));
}

/* A pidfd that is readable tells that there is a status to be had at once. */
static void readable_pidfds(void)
{
	if (getenv("MOS_TRACED")) /* by a plain tracer, which reaps the child first: the status comes after the pidfd (ptrace(2)) */
		return;
	for (int i = 0; i < 60; i++) {
		siginfo_t info = { .si_pid = 0 };
		struct rusage used;
		int status;
		pid_t pid = ok(fork());

		if (pid == 0) {
			usleep(i % 4 * 700);
			_exit(20 + i % 3);
		}
		int fd = ok((int)syscall(SYS_pidfd_open, pid, 0));
		equal(poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, 20000), 1);
		switch (i % 3) {
		case 0:
			ok(waitid((idtype_t)P_PIDFD, fd, &info, WEXITED | WNOHANG));
			equal(info.si_pid, pid);
			equal(info.si_status, 20);
			break;
		case 1:
			equal(waitpid(-1, &status, WNOHANG), pid);
			check(WIFEXITED(status) && WEXITSTATUS(status) == 21);
			break;
		case 2:
			equal(wait4(pid, &status, WNOHANG, &used), pid);
			check(WIFEXITED(status) && WEXITSTATUS(status) == 22);
		}
		ok(close(fd));
	}
	refused(waitpid(-1, NULL, WNOHANG), ECHILD);
}

static void all_in_one_epoll(void)
{
	int ep = ok(epoll_create(1)), ev = ok(eventfd(0, 0)), tfd = ok(timerfd_create(CLOCK_REALTIME, 0));
	struct itimerspec t = { { 0, 0 }, { 0, 1000000 } };
	struct epoll_event e, got[8];
	uint64_t v = 1;
	int seen = 0;

	for (int i = 0; i < 2; i++) {
		e = (struct epoll_event){ EPOLLIN | EPOLLONESHOT, { .u32 = 1u << i } };
		ok(epoll_ctl(ep, EPOLL_CTL_ADD, i ? tfd : ev, &e));
	}
	ok(timerfd_settime(tfd, 0, &t, NULL));
	equal(write(ev, &v, 8), 8);
	while (seen != 3) {
		int n = ok(epoll_wait(ep, got, 8, -1));
		for (int i = 0; i < n; i++)
			seen += got[i].data.u32;
	}
	ok(close(ep));
	ok(close(ev));
	ok(close(tfd));
}

PROGRAM(PART(eventfds), PART(timerfds), PART(signalfds), PART(inotifies), PART(pidfds), PART(readable_pidfds), PART(all_in_one_epoll))
