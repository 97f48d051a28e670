/* Calls that wait for a time and end with EINTR when they are interrupted: moved or disturbed, they neither end early nor begin anew. */
#include "mos.h"
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>

/* So long that some moves happen meanwhile. */
static long limit(void)
{
	return seconds < 0.5 ? 5 : 300;
}

static struct timespec limit_ts(void)
{
	return (struct timespec){ limit() / 1000, limit() % 1000 * 1000000 };
}

static int64_t begin;
static pid_t watch;

/* A child sleeps twenty times as long; `times` signals that nobody hears come from it meanwhile. */
static void start(int times)
{
	pid_t me = getpid();

	begin = now_ns(CLOCK_MONOTONIC);
	watch = ok(fork());
	if (watch == 0) {
		for (int i = 0; i < 20; i++) {
			rest_ms(limit());
			if (i < times)
				kill(me, SIGWINCH);
		}
		_exit(0);
	}
}

static void over(void)
{
	int error = errno;

	if (now_ns(CLOCK_MONOTONIC) - begin < limit() * 1000000LL)
		fail("ended too early");
	equal(waitpid(watch, NULL, WNOHANG), 0);
	ok(kill(watch, SIGKILL));
	equal(waitpid(watch, NULL, 0), watch);
	errno = error;
}

static void epolls(void)
{
	struct epoll_event event;
	struct timespec time = limit_ts();
	int fd = ok(epoll_create1(0));

	start(0);
	equal(epoll_wait(fd, &event, 1, limit()), 0);
	over();
	start(0);
	equal(epoll_pwait(fd, &event, 1, limit(), NULL), 0);
	over();
	start(0);
	equal(syscall(SYS_epoll_pwait2, fd, &event, 1, &time, NULL, 8), 0);
	over();
	equal(time.tv_nsec, limit_ts().tv_nsec);
	ok(close(fd));
}

static void signals_and_semaphores(void)
{
	struct timespec time = limit_ts();
	struct sembuf down = { 0, -1, 0 };
	int sem = ok(semget(IPC_PRIVATE, 1, 0600));
	sigset_t set, old;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	ok(sigprocmask(SIG_BLOCK, &set, &old));
	start(0);
	refused(sigtimedwait(&set, NULL, &time), EAGAIN);
	over();
	start(0);
	refused(semtimedop(sem, &down, 1, &time), EAGAIN);
	over();
	ok(semctl(sem, 0, IPC_RMID));
	ok(sigprocmask(SIG_SETMASK, &old, NULL));
}

static void limited_sockets(void)
{
	struct timeval time = { limit() / 1000, limit() % 1000 * 1000 };
	struct sockaddr_in any = { .sin_family = AF_INET };
	static char data[4 << 20];
	int pair[2], listening = ok(socket(AF_INET, SOCK_STREAM, 0)), udp = ok(socket(AF_INET, SOCK_DGRAM, 0));

	ok(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	ok(bind(udp, (struct sockaddr *)&any, sizeof(any)));
	ok(listen(listening, 1));
	for (int i = 0; i < 3; i++) {
		int fd = (int[]){ pair[0], listening, udp }[i];
		ok(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof(time)));
		ok(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &time, sizeof(time)));
	}
	start(0);
	refused(recv(pair[0], data, 10, 0), EAGAIN);
	over();
	start(0);
	refused(read(pair[0], data, 10), EAGAIN);
	over();
	start(0);
	refused(accept(listening, NULL, NULL), EAGAIN);
	over();
	start(0);
	refused(recvfrom(udp, data, 10, 0, NULL, NULL), EAGAIN);
	over();
	start(0);
	long sent = ok(send(pair[0], data, sizeof(data), 0));
	over();
	if (sent == sizeof(data))
		fail("more than there is room for");
	start(0);
	refused(write(pair[0], data, sizeof(data)), EAGAIN);
	over();
	ok(close(pair[0]));
	ok(close(pair[1]));
	ok(close(listening));
	ok(close(udp));
}

static void unheard_signals(void)
{
	struct epoll_event event;
	int fd = ok(epoll_create1(0));

	start(getenv("MOS_TRACED") ? 0 : 15); /* a tracer's program hears them */
	equal(epoll_wait(fd, &event, 1, limit() * 3), 0);
	over();
	ok(close(fd));
}

PROGRAM(PART(epolls), PART(signals_and_semaphores), PART(limited_sockets), PART(unheard_signals))
