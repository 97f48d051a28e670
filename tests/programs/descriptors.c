/* Descriptors: duplicates, flags, pipes, waiting for several, and locks. */
#include "mos.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/select.h>

static void duplicates(void)
{
	char buf[8];
	int fd = ok(open("d", O_RDWR | O_CREAT | O_TRUNC, 0600));
	int two = ok(dup(fd));

	equal(write(fd, "abcdef", 6), 6);
	equal(lseek(two, 0, SEEK_CUR), 6);
	equal(lseek(two, 2, SEEK_SET), 2);
	equal(read(fd, buf, 2), 2);
	same(buf, "cd", 2);
	equal(ok(dup2(fd, 100)), 100);
	equal(dup2(fd, fd), fd);
	equal(ok(dup3(fd, 101, O_CLOEXEC)), 101);
	equal(fcntl(101, F_GETFD), FD_CLOEXEC);
	equal(fcntl(100, F_GETFD), 0);
	refused(dup3(fd, fd, 0), EINVAL);
	refused(dup2(999, 5), EBADF);
	refused(dup(-1), EBADF);
	ok(close(fd));
	equal(lseek(100, 0, SEEK_CUR), 4);
	equal(fcntl(100, F_DUPFD, 200), 200);
	equal(fcntl(100, F_DUPFD_CLOEXEC, 200), 201);
	equal(fcntl(201, F_GETFD), FD_CLOEXEC);
	ok(fcntl(201, F_SETFD, 0));
	equal(fcntl(201, F_GETFD), 0);
	int flags = ok(fcntl(100, F_GETFL));
	equal(flags & O_ACCMODE, O_RDWR);
	ok(fcntl(100, F_SETFL, flags | O_APPEND));
	check(fcntl(two, F_GETFL) & O_APPEND);
	equal(write(two, "!", 1), 1);
	equal(lseek(100, 0, SEEK_CUR), 7);
	ok(syscall(SYS_close_range, 100, 300, 0));
	refused(fcntl(100, F_GETFD), EBADF);
	refused(fcntl(201, F_GETFD), EBADF);
	ok(fcntl(two, F_GETFD));
	ok(close(two));
	ok(unlink("d"));
}

static void pipes(void)
{
	char buf[70000] = "";
	int p[2], n;

	ok(pipe(p));
	equal(write(p[1], "0123456789", 10), 10);
	ok(ioctl(p[0], FIONREAD, &n));
	equal(n, 10);
	equal(read(p[0], buf, 4), 4);
	equal(read(p[0], buf, 100), 6);
	ok(close(p[1]));
	equal(read(p[0], buf, 1), 0);
	ok(close(p[0]));

	ok(pipe2(p, O_CLOEXEC | O_NONBLOCK));
	equal(fcntl(p[0], F_GETFD), FD_CLOEXEC);
	refused(read(p[0], buf, 1), EAGAIN);
	long total = 0, got;
	while ((got = write(p[1], buf, 4096)) > 0)
		total += got;
	equal(errno, EAGAIN);
	equal(total, ok(fcntl(p[1], F_GETPIPE_SZ)));
	equal(read(p[0], buf, 4096), 4096);
	equal(write(p[1], buf, 4096), 4096);
	ok(close(p[0]));
	signal(SIGPIPE, SIG_IGN);
	refused(write(p[1], "x", 1), EPIPE);
	signal(SIGPIPE, SIG_DFL);
	ok(close(p[1]));
	n = 1;
	ok(pipe(p));
	ok(ioctl(p[0], FIONBIO, &n));
	refused(read(p[0], buf, 1), EAGAIN);
	ok(ioctl(p[0], FIOCLEX));
	equal(fcntl(p[0], F_GETFD), FD_CLOEXEC);
	ok(close(p[0]));
	ok(close(p[1]));
}

static int through_pipes(void *arg)
{
	int *fds = arg, n;
	char buf[5000];

	close(fds[1]);
	close(fds[2]);
	while ((n = read(fds[0], buf, sizeof(buf))) > 0)
		write_all(fds[3], buf, n);
	return n;
}

static void echo_child(void)
{
	static char data[200000], back[200000];
	int fds[4];
	size_t in = 0, out = 0;

	ok(pipe(fds));
	ok(pipe(fds + 2));
	datagen(data, sizeof(data), 3);
	pid_t pid = forked(through_pipes, fds);
	ok(close(fds[0]));
	ok(close(fds[3]));
	ok(fcntl(fds[1], F_SETFL, O_NONBLOCK));
	while (in < sizeof(back)) {
		struct pollfd p[2] = { { fds[2], POLLIN, 0 }, { out < sizeof(data) ? fds[1] : -1, POLLOUT, 0 } };
		check(poll(p, 2, -1) > 0);
		if (p[0].revents & POLLIN) {
			ssize_t n = ok(read(fds[2], back + in, sizeof(back) - in));
			check(n > 0);
			in += n;
		}
		if (p[1].revents & POLLOUT) {
			ssize_t n = write(fds[1], data + out, sizeof(data) - out < 3001 ? sizeof(data) - out : 3001);
			check(n > 0 || errno == EAGAIN);
			out += n > 0 ? n : 0;
			if (out == sizeof(data))
				ok(close(fds[1]));
		}
	}
	same(back, data, sizeof(data));
	equal(read(fds[2], back, 1), 0);
	ok(close(fds[2]));
	reaped(pid, 0);
}

static void waiting_for_several(void)
{
	int p[2], q[2];
	char c;
	fd_set r, w;
	struct timeval soon = { 0, 2000 };
	struct timespec never = { 100, 0 }, now = { 0, 0 };
	sigset_t none;

	sigemptyset(&none);
	ok(pipe(p));
	ok(pipe(q));
	int top = (p[0] > q[0] ? p[0] : q[0]) + 1;
	FD_ZERO(&r);
	FD_SET(p[0], &r);
	FD_SET(q[0], &r);
	equal(select(top, &r, NULL, NULL, &soon), 0);
	check(!FD_ISSET(p[0], &r));
	equal(soon.tv_sec, 0);
	equal(write(q[1], "x", 1), 1);
	FD_ZERO(&r);
	FD_ZERO(&w);
	FD_SET(p[0], &r);
	FD_SET(q[0], &r);
	FD_SET(p[1], &w);
	equal(select(64, &r, &w, NULL, NULL), 2);
	check(!FD_ISSET(p[0], &r) && FD_ISSET(q[0], &r) && FD_ISSET(p[1], &w));
	FD_ZERO(&r);
	FD_SET(q[0], &r);
	equal(pselect(top, &r, NULL, NULL, &never, &none), 1);
	struct pollfd fds[4] = { { p[0], POLLIN, 0 }, { q[0], POLLIN, 0 }, { q[1], POLLOUT, 0 }, { -1, POLLIN, 0 } };
	equal(poll(fds, 4, -1), 2);
	equal(fds[0].revents, 0);
	equal(fds[1].revents, POLLIN);
	equal(fds[2].revents, POLLOUT);
	equal(ppoll(fds, 2, &never, &none), 1);
	equal(ppoll(fds, 1, &now, NULL), 0);
	equal(read(q[0], &c, 1), 1);
	ok(close(p[1]));
	equal(poll(fds, 2, -1), 1);
	equal(fds[0].revents, POLLHUP);
	ok(close(p[0]));
	fds[0].fd = p[0];
	equal(poll(fds, 1, 0), 1);
	equal(fds[0].revents, POLLNVAL);
	FD_ZERO(&r);
	FD_SET(p[0], &r);
	refused(select(top, &r, NULL, NULL, NULL), EBADF);
	ok(close(q[0]));
	ok(close(q[1]));
	refused(poll((void *)8, 2, 0), EFAULT);
}

static void epolls(void)
{
	int p[2], ep = ok(epoll_create1(EPOLL_CLOEXEC)), ev = ok(eventfd(3, EFD_NONBLOCK));
	struct epoll_event e = { EPOLLIN, { .u64 = 0x1122334455667788ULL } }, got[4];
	uint64_t value = 5;
	char c;

	ok(pipe(p));
	ok(epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &e));
	refused(epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &e), EEXIST);
	equal(epoll_wait(ep, got, 4, 0), 0);
	equal(epoll_wait(ep, got, 4, 3), 0);
	equal(write(p[1], "z", 1), 1);
	equal(epoll_wait(ep, got, 4, -1), 1);
	check(got[0].data.u64 == 0x1122334455667788ULL && got[0].events == EPOLLIN);
	e = (struct epoll_event){ EPOLLIN | EPOLLET, { .u64 = 2 } };
	ok(epoll_ctl(ep, EPOLL_CTL_ADD, ev, &e));
	equal(epoll_pwait(ep, got, 4, -1, NULL), 2);
	equal(epoll_wait(ep, got, 4, 0), 1);
	equal(read(ev, &value, 8), 8);
	equal(value, 3);
	refused(read(ev, &value, 8), EAGAIN);
	value = 40;
	equal(write(ev, &value, 8), 8);
	ok(epoll_ctl(ep, EPOLL_CTL_DEL, p[0], NULL));
	equal(epoll_wait(ep, got, 4, -1), 1);
	equal(got[0].data.u64, 2);
	e = (struct epoll_event){ EPOLLIN | EPOLLONESHOT, { .u64 = 9 } };
	ok(epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &e));
	equal(epoll_wait(ep, got, 4, -1), 1);
	equal(epoll_wait(ep, got, 4, 0), 0);
	ok(epoll_ctl(ep, EPOLL_CTL_MOD, p[0], &e));
	equal(epoll_wait(ep, got, 4, -1), 1);
	equal(read(p[0], &c, 1), 1);
	refused(epoll_wait(ep, got, 0, 0), EINVAL);
	refused(epoll_ctl(ep, EPOLL_CTL_DEL, 999, NULL), EBADF);
	ok(close(ep));
	ok(close(ev));
	ok(close(p[0]));
	ok(close(p[1]));
}

static int try_locks(void *arg)
{
	int fd = open("lock", O_RDWR), whole = *(int *)arg;
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = whole ? 0 : 200, .l_len = 10 };

	if (fd < 0)
		return 50;
	int got = fcntl(fd, F_SETLK, &l) == 0;
	l.l_type = F_WRLCK;
	l.l_start = 105;
	l.l_len = 1;
	if (fcntl(fd, F_GETLK, &l) < 0)
		return 51;
	return got | (l.l_type == F_WRLCK && l.l_pid == getppid() ? 2 : 0) | (flock(fd, LOCK_SH | LOCK_NB) == 0 ? 4 : 0);
}

static int try_deadlock(void *arg)
{
	int fd = open("lock", O_RDWR), *p = arg;
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 500, .l_len = 1 };

	if (fcntl(fd, F_SETLK, &l) < 0 || write(p[1], "x", 1) != 1)
		return 1;
	l.l_start = 100;
	return fcntl(fd, F_SETLKW, &l) == 0 ? 0 : errno == EDEADLK ? 2 : 3;
}

static void locks(void)
{
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 100, .l_len = 10 };
	int fd = ok(open("lock", O_RDWR | O_CREAT, 0600)), whole = 0, p[2];
	char c;

	ok(fcntl(fd, F_SETLK, &l));
	reaped(forked(try_locks, &whole), 1 | 2 | 4);
	ok(flock(fd, LOCK_EX));
	reaped(forked(try_locks, &whole), 1 | 2);
	ok(flock(fd, LOCK_UN));
	ok(pipe(p));
	pid_t pid = forked(try_deadlock, p);
	equal(read(p[0], &c, 1), 1);
	struct flock query = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 500, .l_len = 1 };
	ok(fcntl(fd, F_GETLK, &query));
	equal(query.l_type, F_WRLCK);
	equal(query.l_pid, pid);
	rest_ms(5);
	query.l_type = F_WRLCK;
	/* who waits last is told; that is the child, if it is late, or if a move makes it wait anew */
	bool told = fcntl(fd, F_SETLKW, &query) < 0;
	if (told)
		equal(errno, EDEADLK);
	l = (struct flock){ .l_type = F_UNLCK, .l_whence = SEEK_SET };
	ok(fcntl(fd, F_SETLK, &l));
	reaped(pid, told ? 0 : 2);
	l = (struct flock){ .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 0 };
	ok(fcntl(fd, F_OFD_SETLK, &l));
	int other = ok(open("lock", O_RDWR));
	refused(fcntl(other, F_OFD_SETLK, &l), EAGAIN);
	equal(lockf(fd, F_TEST, 1), -1);
	ok(close(fd));
	ok(fcntl(other, F_OFD_SETLK, &l));
	ok(close(other));
	ok(close(p[0]));
	ok(close(p[1]));
	ok(unlink("lock"));
}

static volatile sig_atomic_t io_signals;

static void on_io(int sig UNUSED)
{
	io_signals++;
}

static void owner_signals(void)
{
	int p[2];
	struct sigaction sa = { .sa_handler = on_io };
	sigset_t set, old;

	io_signals = 0;
	sigemptyset(&set);
	sigaddset(&set, SIGIO);
	ok(sigprocmask(SIG_BLOCK, &set, &old));
	ok(sigaction(SIGIO, &sa, NULL));
	ok(pipe(p));
	ok(fcntl(p[0], F_SETOWN, getpid()));
	equal(fcntl(p[0], F_GETOWN), getpid());
	ok(fcntl(p[0], F_SETFL, O_ASYNC | O_NONBLOCK));
	equal(write(p[1], "x", 1), 1);
	while (!io_signals)
		sigsuspend(&old);
	ok(sigprocmask(SIG_SETMASK, &old, NULL));
	signal(SIGIO, SIG_DFL);
	ok(close(p[0]));
	ok(close(p[1]));
}

PROGRAM(PART(duplicates), PART(pipes), PART(echo_child), PART(waiting_for_several), PART(epolls), PART(locks), PART(owner_signals))
