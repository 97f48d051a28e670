/* Sleeps and timers: never early, even when the program is moved in the middle; late only within a generous bound. */
#include "mos.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/time.h>

#define LATE 240000000000LL
static int64_t began;

static void start(void)
{
	began = now_ns(CLOCK_MONOTONIC);
}

static void slept(int64_t ns)
{
	int64_t took = now_ns(CLOCK_MONOTONIC) - began;

	if (took < ns || took > ns + LATE)
		fail("%lld ns instead of %lld", (long long)took, (long long)ns);
}

static struct timespec span(int64_t ns)
{
	return (struct timespec){ ns / 1000000000, ns % 1000000000 };
}

static void nanosleeps(void)
{
	for (int64_t ns = 1; ns <= 10000000; ns *= 10) {
		struct timespec t = span(ns);
		start();
		ok(nanosleep(&t, NULL));
		slept(ns);
		start();
		equal(clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL), 0);
		slept(ns);
		start();
		ok(usleep(ns / 1000));
		slept(ns / 1000 * 1000);
	}
	refused(nanosleep(&(struct timespec){ 0, 1000000000 }, NULL), EINVAL);
}

static void one_long_sleep(void)
{
	int64_t ns = seconds * 0.25e9;
	struct timespec t = span(ns);

	start();
	ok(nanosleep(&t, NULL));
	slept(ns);
	start();
	equal(poll(NULL, 0, ns / 1000000), 0);
	slept(ns / 1000000 * 1000000);
}

static void absolute(void)
{
	static const clockid_t clocks[] = { CLOCK_MONOTONIC, CLOCK_REALTIME, CLOCK_BOOTTIME };

	for (size_t i = 0; i < COUNT(clocks); i++) {
		int64_t goal = now_ns(clocks[i]) + 3000000;
		struct timespec t = span(goal);
		equal(clock_nanosleep(clocks[i], TIMER_ABSTIME, &t, NULL), 0);
		check(now_ns(clocks[i]) >= goal);
		equal(clock_nanosleep(clocks[i], TIMER_ABSTIME, &t, NULL), 0);
	}
}

static void timeouts(void)
{
	int ep = ok(epoll_create1(0)), p[2];
	fd_set r;
	struct epoll_event e;
	struct pollfd f;

	ok(pipe(p));
	f = (struct pollfd){ p[0], POLLIN, 0 };
	FD_ZERO(&r);
	for (int ms = 0; ms <= 6; ms += 3) {
		struct timeval tv = { 0, ms * 1000 };
		struct timespec ts = span(ms * 1000000LL);
		start();
		equal(poll(&f, 1, ms), 0);
		slept(ms * 1000000LL);
		start();
		equal(ppoll(&f, 1, &ts, NULL), 0);
		slept(ms * 1000000LL);
		start();
		equal(select(0, NULL, NULL, NULL, &tv), 0);
		slept(ms * 1000000LL);
		start();
		FD_SET(p[0], &r);
		equal(pselect(p[0] + 1, &r, NULL, NULL, &ts, NULL), 0);
		slept(ms * 1000000LL);
		start();
		equal(epoll_wait(ep, &e, 1, ms), 0);
		slept(ms * 1000000LL);
	}
	ok(close(p[0]));
	ok(close(p[1]));
	ok(close(ep));
}

static volatile sig_atomic_t alarms;

static void on_alarm(int sig UNUSED)
{
	alarms++;
}

static void cut_short(void)
{
	struct sigaction sa = { .sa_handler = on_alarm, .sa_flags = SA_RESTART };
	struct itimerval soon = { { 0, 5000 }, { 0, 5000 } }, off = { { 0, 0 }, { 0, 0 } };
	struct timespec t = span(5000000000LL), left = { 0, 0 };

	ok(sigaction(SIGALRM, &sa, NULL));
	alarms = 0;
	start();
	ok(setitimer(ITIMER_REAL, &soon, NULL));
	refused(nanosleep(&t, &left), EINTR);
	ok(setitimer(ITIMER_REAL, &off, NULL));
	slept(5000000);
	int64_t rest = left.tv_sec * 1000000000LL + left.tv_nsec;
	/* interrupted at once, the kernel counts the timer's slack (50 us) in */
	check(alarms >= 1 && rest > 0 && rest < 5000100000LL);
	check(rest + (now_ns(CLOCK_MONOTONIC) - began) >= 4990000000LL);
}

static void interval_timer(void)
{
	struct sigaction sa = { .sa_handler = on_alarm };
	struct itimerval every = { { 0, 3000 }, { 0, 3000 } }, off = { { 0, 0 }, { 0, 0 } };
	sigset_t block, old;

	sigemptyset(&block);
	sigaddset(&block, SIGALRM);
	ok(sigprocmask(SIG_BLOCK, &block, &old));
	ok(sigaction(SIGALRM, &sa, NULL));
	alarms = 0;
	start();
	ok(setitimer(ITIMER_REAL, &every, NULL));
	while (alarms < 5)
		sigsuspend(&old);
	slept(5 * 3000000);
	ok(setitimer(ITIMER_REAL, &off, NULL));
	ok(sigprocmask(SIG_SETMASK, &old, NULL));
}

static void posix_timer(void)
{
	struct sigaction sa = { .sa_handler = on_alarm };
	struct sigevent ev = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 5, .sigev_value.sival_int = 6 };
	struct itimerspec every = { { 0, 2000000 }, { 0, 4000000 } }, left;
	sigset_t set, old;
	siginfo_t info;
	timer_t timer;

	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 5);
	ok(sigaction(SIGRTMIN + 5, &sa, NULL));
	ok(sigprocmask(SIG_BLOCK, &set, &old));
	ok(timer_create(CLOCK_MONOTONIC, &ev, &timer));
	start();
	ok(timer_settime(timer, 0, &every, NULL));
	equal(sigwaitinfo(&set, &info), SIGRTMIN + 5);
	slept(4000000);
	equal(info.si_code, SI_TIMER);
	equal(info.si_int, 6);
	ok(timer_gettime(timer, &left));
	equal(left.it_interval.tv_nsec, 2000000);
	check(timer_getoverrun(timer) >= 0);
	ok(timer_delete(timer));
	while (sigtimedwait(&set, &info, &(struct timespec){ 0, 0 }) > 0)
		;
	ok(sigprocmask(SIG_SETMASK, &old, NULL));
}

PROGRAM(PART(nanosleeps), PART(one_long_sleep), PART(absolute), PART(timeouts), PART(cut_short), PART(interval_timer), PART(posix_timer))
