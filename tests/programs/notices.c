/* Being told: epoll in all its modes, signalfd, inotify in detail, fanotify, pidfds and what they can do, timers by signal. */
#include "mos.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/fanotify.h>
#include <sys/inotify.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

#define NR_process_mrelease 448
static void *const nowhere = (void *)8;
static volatile sig_atomic_t caught[65];
static volatile siginfo_t info_of[65];
static volatile sig_atomic_t overruns;

static void on_signal(int sig, siginfo_t *info, void *context UNUSED)
{
	caught[sig]++;
	info_of[sig] = *info;
	overruns += info->si_code == SI_TIMER ? info->si_overrun : 0;
}

static void handle(int sig, int flags)
{
	struct sigaction sa = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | flags };

	caught[sig] = 0;
	ok(sigaction(sig, &sa, NULL));
}

static void edges(void)
{
	struct epoll_event e = { EPOLLIN | EPOLLET, { .u64 = UINT64_MAX - 7 } }, got[3];
	struct timespec soon = { 0, 2000000 }, zero = { 0, 0 };
	int ep = ok(epoll_create1(0)), p[2];
	char buf[8];

	ok(pipe2(p, O_NONBLOCK));
	ok(epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &e));
	equal(write(p[1], "a", 1), 1);
	equal(epoll_wait(ep, got, 3, -1), 1);
	equal(got[0].data.u64, UINT64_MAX - 7);
	equal(epoll_wait(ep, got, 3, 0), 0);
	equal(write(p[1], "b", 1), 1);
	equal(epoll_wait(ep, got, 3, -1), 1);
	equal(read(p[0], buf, 8), 2);
	int64_t begin = now_ns(CLOCK_MONOTONIC);
	long n = syscall(SYS_epoll_pwait2, ep, got, 3, &soon, NULL, 0);
	if (!(n == -1 && errno == ENOSYS)) {
		equal(n, 0);
		check(now_ns(CLOCK_MONOTONIC) - begin >= 2000000);
		ok(close(p[1]));
		equal(syscall(SYS_epoll_pwait2, ep, got, 3, NULL, NULL, 0), 1);
		check(got[0].events & EPOLLHUP);
		equal(syscall(SYS_epoll_pwait2, ep, got, 3, &zero, NULL, 0), 0);
		refused(syscall(SYS_epoll_pwait2, ep, got, 3, nowhere, NULL, 0), EFAULT);
	} else
		ok(close(p[1]));
	/* One epoll inside another. */
	int outer = ok(epoll_create1(0)), ev = ok(eventfd(1, 0));
	e = (struct epoll_event){ EPOLLIN, { .u32 = 5 } };
	ok(epoll_ctl(ep, EPOLL_CTL_ADD, ev, &e));
	e.data.u32 = 6;
	ok(epoll_ctl(outer, EPOLL_CTL_ADD, ep, &e));
	refused(epoll_ctl(ep, EPOLL_CTL_ADD, outer, &e), ELOOP);
	refused(epoll_ctl(ep, EPOLL_CTL_ADD, ep, &e), EINVAL);
	refused(epoll_ctl(ep, EPOLL_CTL_ADD, ev, nowhere), EFAULT);
	refused(epoll_ctl(ep, 77, ev, &e), EINVAL);
	equal(epoll_wait(outer, got, 3, -1), 1);
	equal(got[0].data.u32, 6);
	refused(epoll_wait(ep, nowhere, 3, 0), EFAULT);
	refused(epoll_wait(ev, got, 3, 0), EINVAL);
	ok(close(outer));
	ok(close(ev));
	ok(close(ep));
	ok(close(p[0]));
}

static int send_usr1(void *arg)
{
	rest_ms(3);
	return kill(*(pid_t *)arg, SIGUSR1) == 0 ? 81 : 1;
}

/* The mask that holds while a call waits: the handler runs, and afterwards the old mask is back. */
static void masks_while_waiting(void)
{
	struct epoll_event got;
	struct timespec far = { 100, 0 };
	sigset_t block, old, open_mask, now;
	pid_t me = getpid();
	int ep = ok(epoll_create1(0)), p[2];

	ok(pipe(p));
	handle(SIGUSR1, SA_RESTART);
	sigemptyset(&block);
	sigaddset(&block, SIGUSR1);
	ok(sigprocmask(SIG_BLOCK, &block, &old));
	sigemptyset(&open_mask);
	for (int how = 0; how < 4; how++) {
		struct pollfd f = { p[0], POLLIN, 0 };
		fd_set r;
		FD_ZERO(&r);
		FD_SET(p[0], &r);
		pid_t pid = forked(send_usr1, &me);
		errno = 0;
		int got_it = how == 0 ? ppoll(&f, 1, &far, &open_mask)
			: how == 1 ? pselect(p[0] + 1, &r, NULL, NULL, &far, &open_mask)
			: how == 2 ? epoll_pwait(ep, &got, 1, 100000, &open_mask)
			: (int)syscall(SYS_epoll_pwait2, ep, &got, 1, &far, &open_mask, 8);
		if (got_it == -1 && errno == ENOSYS)
			ok(kill(me, SIGUSR1)), ok(sigsuspend(&open_mask) == -1 && errno == EINTR ? 0 : -1);
		else
			check(got_it == -1 && errno == EINTR);
		equal(caught[SIGUSR1], how + 1);
		equal(info_of[SIGUSR1].si_pid == pid || how == 3, 1);
		ok(sigprocmask(SIG_BLOCK, NULL, &now));
		check(sigismember(&now, SIGUSR1));
		reaped(pid, 81);
	}
	refused(syscall(SYS_ppoll, NULL, 0, &far, &open_mask, 4), EINVAL);
	refused(syscall(SYS_ppoll, NULL, 0, &far, nowhere, 8), EFAULT);
	refused(syscall(SYS_pselect6, 0, NULL, NULL, NULL, NULL, (void *[]){ nowhere, (void *)8 }), EFAULT);
	refused(syscall(SYS_epoll_pwait, ep, &got, 1, 0, &open_mask, 5), EINVAL);
	ok(sigprocmask(SIG_SETMASK, &old, NULL));
	signal(SIGUSR1, SIG_DFL);
	ok(close(ep));
	ok(close(p[0]));
	ok(close(p[1]));
}

static void signals_by_descriptor(void)
{
	struct signalfd_siginfo info[4];
	sigset_t set, old;
	uint32_t mask_less = 0;

	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN);
	sigaddset(&set, SIGCHLD);
	ok(sigprocmask(SIG_BLOCK, &set, &old));
	int fd = ok(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
	for (int i = 0; i < 3; i++)
		ok(sigqueue(getpid(), SIGRTMIN, (union sigval){ .sival_int = 100 + i }));
	refused(read(fd, info, 4), EINVAL);
	equal(read(fd, info, sizeof(info)), 3 * sizeof(info[0]));
	for (int i = 0; i < 3; i++)
		check((int)info[i].ssi_signo == SIGRTMIN && info[i].ssi_int == 100 + i && info[i].ssi_code == SI_QUEUE);
	pid_t pid = ok(fork());
	if (pid == 0)
		_exit(82);
	struct pollfd p = { fd, POLLIN, 0 };
	equal(poll(&p, 1, -1), 1);
	equal(read(fd, info, sizeof(info)), sizeof(info[0]));
	check(info[0].ssi_signo == SIGCHLD && (pid_t)info[0].ssi_pid == pid && info[0].ssi_status == 82 && info[0].ssi_code == CLD_EXITED);
	reaped(pid, 82);
	/* Another set for the same descriptor. */
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 5);
	equal(signalfd(fd, &set, 0), fd);
	ok(sigqueue(getpid(), SIGRTMIN, (union sigval){ 0 }));
	refused(read(fd, info, sizeof(info)), EAGAIN);
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN);
	equal(signalfd(fd, &set, 0), fd);
	equal(read(fd, info, sizeof(info)), sizeof(info[0]));
	refused(signalfd(99, &set, 0), EBADF);
	refused(signalfd(0x7fff, &set, 0), EBADF);
	refused(syscall(SYS_signalfd4, -1, nowhere, 8, 0), EFAULT);
	refused(syscall(SYS_signalfd4, -1, &mask_less, 4, 0), EINVAL);
	ok(close(fd));
	ok(sigprocmask(SIG_SETMASK, &old, NULL));
}

static void watches(void)
{
	char buf[4096] __attribute__((aligned(8))), small[20];
	int fd = ok(inotify_init1(IN_NONBLOCK));

	ok(mkdir("w", 0700));
	int wd = ok(inotify_add_watch(fd, "w", IN_ALL_EVENTS));
	refused(inotify_add_watch(fd, "none", IN_CREATE), ENOENT);
	refused(inotify_add_watch(fd, "w", 0), EINVAL);
	refused(inotify_add_watch(fd, nowhere, IN_CREATE), EFAULT);
	refused(inotify_add_watch(fd, "w", IN_CREATE | IN_MASK_CREATE), EEXIST);
	ok(rename("w", "v"));
	ok(close(ok(creat("v/a", 0600))));
	refused(read(fd, small, 8), EINVAL);
	ok(rename("v/a", "v/b"));
	ok(unlink("v/b"));
	ok(rmdir("v"));
	ssize_t n = ok(read(fd, buf, sizeof(buf)));
	uint32_t seen = 0, cookie = 0;
	for (char *at = buf; at < buf + n;) {
		struct inotify_event *e = (void *)at;
		equal(e->wd, wd);
		seen |= e->mask;
		if (e->mask & IN_MOVED_FROM)
			cookie = e->cookie;
		if (e->mask & IN_MOVED_TO)
			check(e->cookie == cookie && strcmp(e->name, "b") == 0);
		at += sizeof(*e) + e->len;
	}
	check((seen & (IN_CREATE | IN_CLOSE_WRITE | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE | IN_MOVE_SELF | IN_DELETE_SELF | IN_IGNORED)) ==
	      (IN_CREATE | IN_CLOSE_WRITE | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE | IN_MOVE_SELF | IN_DELETE_SELF | IN_IGNORED));
	refused(read(fd, buf, sizeof(buf)), EAGAIN);
	ok(close(fd));
}

static void fans(void)
{
	struct fanotify_event_metadata buf[16];
	int fd = fanotify_init(FAN_CLASS_NOTIF | FAN_NONBLOCK | FAN_REPORT_FID, O_RDONLY);

	if (fd == -1) {
		check(errno == EPERM || errno == ENOSYS || errno == EINVAL);
		return;
	}
	ok(mkdir("fan", 0700));
	if (fanotify_mark(fd, FAN_MARK_ADD, FAN_CREATE | FAN_DELETE | FAN_ONDIR, AT_FDCWD, "fan") == 0) {
		ok(close(ok(creat("fan/x", 0600))));
		ok(unlink("fan/x"));
		ssize_t n = ok(read(fd, buf, sizeof(buf)));
		check(n >= (ssize_t)sizeof(buf[0]) && buf[0].vers == FANOTIFY_METADATA_VERSION);
		check(buf[0].mask & (FAN_CREATE | FAN_DELETE));
		equal(buf[0].pid, getpid());
		equal(buf[0].fd, FAN_NOFD);
		ok(fanotify_mark(fd, FAN_MARK_REMOVE, FAN_CREATE | FAN_DELETE | FAN_ONDIR, AT_FDCWD, "fan"));
		refused(fanotify_mark(fd, FAN_MARK_REMOVE, FAN_CREATE, AT_FDCWD, "fan"), ENOENT);
		refused(fanotify_mark(fd, FAN_MARK_ADD, FAN_CREATE, AT_FDCWD, "none"), ENOENT);
	} else
		check(errno == ENODEV || errno == EOPNOTSUPP || errno == EXDEV || errno == EPERM);
	ok(close(fd));
	ok(rmdir("fan"));
}

static int keeps_a_pipe(void *arg)
{
	int *p = arg;
	char c;

	close(p[3]);
	if (dup2(p[1], 77) < 0 || write(p[1], "r", 1) != 1)
		return 1;
	return read(p[2], &c, 1) == 1 ? 83 : 2;
}

static void process_descriptors(void)
{
	int p[4], status;
	char c;
	siginfo_t info;

	ok(pipe(p));
	ok(pipe(p + 2));
	pid_t pid = forked(keeps_a_pipe, p);
	int fd = ok((int)syscall(SYS_pidfd_open, pid, 0));
	equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	equal(read(p[0], &c, 1), 1);
	int stolen = (int)syscall(SYS_pidfd_getfd, fd, 77, 0);
	if (stolen >= 0) {
		equal(write(stolen, "s", 1), 1);
		equal(read(p[0], &c, 1), 1);
		equal(c, 's');
		ok(close(stolen));
		refused(syscall(SYS_pidfd_getfd, fd, 78, 0), EBADF);
	} else
		check(errno == EPERM || errno == ENOSYS);
	ok(syscall(SYS_pidfd_send_signal, fd, 0, NULL, 0));
	long released = syscall(NR_process_mrelease, fd, 0);
	check(released == -1 && (errno == EINVAL || errno == ENOSYS));
	equal(write(p[3], "x", 1), 1);
	ok(waitid(P_PIDFD, fd, &info, WEXITED));
	check(info.si_pid == pid && info.si_status == 83 && info.si_code == CLD_EXITED && info.si_signo == SIGCHLD);
	refused(waitid(P_PIDFD, fd, &info, WEXITED), ECHILD);
	ok(close(fd));
	pid = ok(fork());
	if (pid == 0)
		for (;;)
			pause();
	fd = ok((int)syscall(SYS_pidfd_open, pid, 0));
	siginfo_t with = { .si_signo = SIGTERM, .si_code = SI_QUEUE, .si_pid = getpid(), .si_uid = getuid() };
	refused(syscall(SYS_pidfd_send_signal, fd, SIGTERM, &with, 99), EINVAL);
	refused(syscall(SYS_pidfd_send_signal, fd, SIGKILL, &with, 0), EINVAL);
	ok(syscall(SYS_pidfd_send_signal, fd, SIGTERM, &with, 0));
	equal(waitpid(pid, &status, 0), pid);
	equal(WTERMSIG(status), SIGTERM);
	refused(syscall(SYS_pidfd_open, -1, 0), EINVAL);
	ok(close(fd));
	for (int i = 0; i < 4; i++)
		ok(close(p[i]));
}

static void timers(void)
{
	struct sigevent by = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN, .sigev_value.sival_int = 99 };
	struct itimerspec every = { { 0, 2000000 }, { 0, 1000000 } }, left;
	sigset_t block, old;
	timer_t id;

	overruns = 0;
	handle(SIGRTMIN, 0);
	sigemptyset(&block);
	sigaddset(&block, SIGRTMIN);
	ok(sigprocmask(SIG_BLOCK, &block, &old));
	ok(timer_create(CLOCK_MONOTONIC, &by, &id));
	ok(timer_settime(id, 0, &every, &left));
	check(left.it_value.tv_sec == 0 && left.it_value.tv_nsec == 0);
	rest_ms(12);
	while (!caught[SIGRTMIN])
		sigsuspend(&old);
	equal(info_of[SIGRTMIN].si_code, SI_TIMER);
	equal(info_of[SIGRTMIN].si_int, 99);
	check(timer_getoverrun(id) >= 0 && overruns + caught[SIGRTMIN] >= 4);
	ok(timer_gettime(id, &left));
	equal(left.it_interval.tv_nsec, 2000000);
	every.it_value.tv_nsec = 2000000000;
	refused(timer_settime(id, 0, &every, NULL), EINVAL);
	refused(syscall(SYS_timer_settime, id, 0, nowhere, NULL), EFAULT);
	ok(timer_delete(id));
	refused(syscall(SYS_timer_gettime, id, &left), EINVAL);
	refused(timer_create(77, &by, &id), EINVAL);
	by.sigev_signo = 99;
	refused(timer_create(CLOCK_MONOTONIC, &by, &id), EINVAL);
	/* What is left of it must not meet the default action. */
	struct timespec zero = { 0, 0 };
	while (sigtimedwait(&block, NULL, &zero) > 0)
		;
	ok(sigprocmask(SIG_SETMASK, &old, NULL));
	signal(SIGRTMIN, SIG_DFL);
	int fd = ok(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK));
	uint64_t times;
	refused(read(fd, &times, 8), EAGAIN);
	refused(read(fd, &times, 7), EINVAL);
	refused(timerfd_settime(fd, 99, &left, NULL), EINVAL);
	refused(timerfd_settime(fd, 0, nowhere, NULL), EFAULT);
	refused(timerfd_create(77, 0), EINVAL);
	ok(close(fd));
}

PROGRAM(PART(edges), PART(masks_while_waiting), PART(signals_by_descriptor), PART(watches), PART(fans), PART(process_descriptors),
	PART(timers))
