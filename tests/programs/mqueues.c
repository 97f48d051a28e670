/* POSIX message queues: priorities, sizes, waiting, notification. */
#include "mos.h"
#include <mqueue.h>
#include <poll.h>

static char name[64];
static void *const nowhere = (void *)8;

static mqd_t opened(int flags)
{
	struct mq_attr attr = { .mq_maxmsg = 4, .mq_msgsize = 128 };

	snprintf(name, sizeof(name), "/mos.%d", (int)mos_pid);
	return ok(mq_open(name, O_RDWR | O_CREAT | O_EXCL | flags, 0600, &attr));
}

static void closed(mqd_t q)
{
	ok(mq_close(q));
	ok(mq_unlink(name));
}

static void order(void)
{
	struct mq_attr attr, old;
	char buf[128];
	unsigned priority;
	mqd_t q = opened(O_NONBLOCK);

	refused(mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0600, NULL), EEXIST);
	ok(mq_getattr(q, &attr));
	check(attr.mq_maxmsg == 4 && attr.mq_msgsize == 128 && attr.mq_curmsgs == 0 && attr.mq_flags == O_NONBLOCK);
	refused(mq_receive(q, buf, sizeof(buf), NULL), EAGAIN);
	ok(mq_send(q, "low", 3, 1));
	ok(mq_send(q, "high", 4, 9));
	ok(mq_send(q, "second", 6, 9));
	ok(mq_send(q, "", 0, 0));
	refused(mq_send(q, "full", 4, 0), EAGAIN);
	refused(mq_send(q, buf, 129, 0), EMSGSIZE);
	refused(mq_receive(q, buf, 127, NULL), EMSGSIZE);
	refused(syscall(SYS_mq_timedsend, q, nowhere, 5, 0, NULL), EFAULT);
	refused(syscall(SYS_mq_timedsend, q, "x", 1, 1 << 20, NULL), EINVAL);
	equal(mq_receive(q, buf, sizeof(buf), &priority), 4);
	same(buf, "high", 4);
	equal(priority, 9);
	equal(mq_receive(q, buf, sizeof(buf), &priority), 6);
	equal(mq_receive(q, buf, sizeof(buf), &priority), 3);
	equal(priority, 1);
	equal(mq_receive(q, buf, sizeof(buf), NULL), 0);
	attr.mq_flags = 0;
	ok(mq_setattr(q, &attr, &old));
	equal(old.mq_flags, O_NONBLOCK);
	ok(mq_getattr(q, &attr));
	equal(attr.mq_flags, 0);
	closed(q);
	refused(mq_open(name, O_RDWR), ENOENT);
	refused(mq_unlink(name), ENOENT);
	refused(mq_send(-1, "x", 1, 0), EBADF);
}

static int consumer(void *arg)
{
	char buf[128];
	unsigned priority;

	for (int i = 0; i < 20; i++) {
		if (mq_receive(*(mqd_t *)arg, buf, sizeof(buf), &priority) != 1 + i || buf[i] != 'a' + i)
			return 1;
		if (i % 5 == 0)
			rest_ms(2);
	}
	return 31;
}

static void waiting(void)
{
	struct timespec soon, bad = { 0, -1 };
	char buf[128];
	mqd_t q = opened(0);
	pid_t pid = forked(consumer, &q);

	for (int i = 0; i < 20; i++) {
		memset(buf, 'a' + i, sizeof(buf));
		ok(mq_send(q, buf, 1 + i, 3));
	}
	reaped(pid, 31);
	struct pollfd p = { (int)q, POLLIN, 0 };
	equal(poll(&p, 1, 0), 0);
	ok(clock_gettime(CLOCK_REALTIME, &soon));
	soon.tv_nsec += 3000000;
	if (soon.tv_nsec >= 1000000000) {
		soon.tv_sec++;
		soon.tv_nsec -= 1000000000;
	}
	refused(mq_timedreceive(q, buf, sizeof(buf), NULL, &soon), ETIMEDOUT);
	check(now_ns(CLOCK_REALTIME) >= soon.tv_sec * 1000000000LL + soon.tv_nsec);
	refused(mq_timedreceive(q, buf, sizeof(buf), NULL, &bad), EINVAL);
	for (int i = 0; i < 4; i++)
		ok(mq_send(q, "f", 1, i));
	equal(poll(&p, 1, -1), 1);
	refused(mq_timedsend(q, "late", 4, 0, &soon), ETIMEDOUT);
	equal(mq_timedreceive(q, buf, sizeof(buf), NULL, &soon), 1);
	closed(q);
}

static volatile sig_atomic_t told;
static volatile siginfo_t told_info;

static void on_message(int sig UNUSED, siginfo_t *info, void *context UNUSED)
{
	told_info = *info;
	told++;
}

static int sender(void *arg)
{
	rest_ms(3);
	return mq_send(*(mqd_t *)arg, "news", 4, 0) == 0 ? 32 : 1;
}

static void notification(void)
{
	struct sigaction sa = { .sa_sigaction = on_message, .sa_flags = SA_SIGINFO };
	struct sigevent by_signal = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1, .sigev_value.sival_int = 4321 };
	sigset_t block, old;
	char buf[128];
	mqd_t q = opened(0);

	told = 0;
	sigemptyset(&block);
	sigaddset(&block, SIGUSR1);
	ok(sigaction(SIGUSR1, &sa, NULL));
	ok(sigprocmask(SIG_BLOCK, &block, &old));
	ok(mq_notify(q, &by_signal));
	refused(mq_notify(q, &by_signal), EBUSY);
	pid_t pid = forked(sender, &q);
	while (!told)
		sigsuspend(&old);
	equal(told_info.si_code, SI_MESGQ);
	equal(told_info.si_int, 4321);
	equal(told_info.si_pid, pid);
	reaped(pid, 32);
	equal(mq_receive(q, buf, sizeof(buf), NULL), 4);
	/* Once only: the registration is gone. */
	ok(mq_notify(q, &by_signal));
	ok(mq_notify(q, NULL));
	ok(mq_send(q, "quiet", 5, 0));
	equal(told, 1);
	refused(mq_notify(-1, &by_signal), EBADF);
	ok(sigprocmask(SIG_SETMASK, &old, NULL));
	signal(SIGUSR1, SIG_DFL);
	closed(q);
}

PROGRAM(PART(order), PART(waiting), PART(notification))
