/* Timers, clocks and limits of CPU time, which a program spends on another node while it is away. */
#include "mos.h"
#include <sys/resource.h>
#include <sys/time.h>

static volatile sig_atomic_t ticks[65];

static void tick(int sig)
{
	ticks[sig]++;
}

static void burn_until(int sig)
{
	int64_t end = now_ns(CLOCK_MONOTONIC) + 60000000000LL;

	while (ticks[sig] < 3 && now_ns(CLOCK_MONOTONIC) < end)
		;
	check(ticks[sig] >= 3);
}

static void interval(int which, int sig)
{
	struct itimerval every = { { 0, 4000 }, { 0, 4000 } }, off = { { 0, 0 }, { 0, 0 } };
	struct sigaction sa = { .sa_handler = tick, .sa_flags = SA_RESTART };

	ok(sigaction(sig, &sa, NULL));
	ticks[sig] = 0;
	ok(setitimer(which, &every, NULL));
	burn_until(sig);
	ok(setitimer(which, &off, NULL));
	signal(sig, SIG_IGN);
}

static void virtual_time(void)
{
	interval(ITIMER_VIRTUAL, SIGVTALRM);
}

static void profiling(void)
{
	interval(ITIMER_PROF, SIGPROF);
}

static void posix(clockid_t clock)
{
	struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 4, .sigev_value.sival_int = 99 };
	struct itimerspec every = { { 0, 4000000 }, { 0, 4000000 } }, left, off = { { 0, 0 }, { 0, 0 } }, then = { { 0, 0 }, { 0, 0 } };
	struct sigaction sa = { .sa_handler = tick, .sa_flags = SA_RESTART };
	timer_t timer;

	ok(sigaction(SIGRTMIN + 4, &sa, NULL));
	ticks[SIGRTMIN + 4] = 0;
	ok(timer_create(clock, &event, &timer));
	ok(timer_settime(timer, 0, &every, NULL));
	burn_until(SIGRTMIN + 4);
	ok(timer_gettime(timer, &left));
	equal(left.it_interval.tv_nsec, 4000000);
	check(left.it_value.tv_sec == 0 && left.it_value.tv_nsec > 0 && left.it_value.tv_nsec <= 4000000);
	ok(timer_settime(timer, 0, &off, NULL)); /* a tick that is on its way comes before this returns, and none after it */
	/* a moment of this clock */
	ticks[SIGRTMIN + 4] = 2;
	int64_t at = now_ns(clock) + 20000000;
	then.it_value = (struct timespec){ at / 1000000000, at % 1000000000 };
	ok(timer_settime(timer, TIMER_ABSTIME, &then, NULL));
	ok(timer_gettime(timer, &left));
	check(left.it_value.tv_sec == 0 && left.it_value.tv_nsec <= 20000000);
	burn_until(SIGRTMIN + 4);
	check(now_ns(clock) >= at);
	ok(timer_gettime(timer, &left));
	check(left.it_value.tv_sec == 0 && left.it_value.tv_nsec == 0);
	ok(timer_settime(timer, 0, &off, NULL));
	ok(timer_delete(timer));
	signal(SIGRTMIN + 4, SIG_IGN);
}

static void process_clock(void)
{
	clockid_t of_pid;

	posix(CLOCK_PROCESS_CPUTIME_ID);
	ok(clock_getcpuclockid(getpid(), &of_pid));
	posix(of_pid);
}

static void thread_clock(void)
{
	posix(CLOCK_THREAD_CPUTIME_ID);
}

/* A timer that is seen to run down, and which exec keeps. */
static void running_down(void)
{
	struct itimerval first = { { 0, 0 }, { 100, 0 } }, now, before, off = { { 0, 0 }, { 0, 0 } };
	int64_t used = now_ns(CLOCK_PROCESS_CPUTIME_ID), end = used + 30000000;

	ok(setitimer(ITIMER_PROF, &first, NULL));
	ok(getitimer(ITIMER_PROF, &before));
	while (now_ns(CLOCK_PROCESS_CPUTIME_ID) < end)
		for (volatile int i = 0; i < 1000000; i++)
			;
	ok(getitimer(ITIMER_PROF, &now));
	check(timercmp(&now.it_value, &before.it_value, <) && now.it_value.tv_sec >= 90);
	ok(setitimer(ITIMER_PROF, &off, &before));
	check(!timercmp(&before.it_value, &now.it_value, >));
}

/* exec keeps timers and limits: a program that computes without a call meets them. */
static void over_exec(void)
{
	struct itimerval once = { { 0, 0 }, { 0, 30000 } };
	pid_t pid = ok(fork());

	if (!pid) {
		signal(SIGPROF, SIG_DFL);
		setitimer(ITIMER_PROF, &once, NULL);
		execl("/bin/sh", "sh", "-c", "while :; do :; done", (char *)NULL);
		_exit(1);
	}
	killed(pid, SIGPROF);
}

/* What the CPU clock of another process says grows with what that computes. */
static int computing(void *arg UNUSED)
{
	while (now_ns(CLOCK_PROCESS_CPUTIME_ID) < 20000000)
		for (volatile int i = 0; i < 1000000; i++)
			;
	raise(SIGSTOP);
	return 5;
}

static void clock_of_child(void)
{
	clockid_t clock;
	int status;
	pid_t pid = forked(computing, NULL);

	equal(waitpid(pid, &status, WUNTRACED), pid);
	check(WIFSTOPPED(status));
	ok(clock_getcpuclockid(pid, &clock));
	/* of one that is away home hears once a second */
	for (int64_t end = now_ns(CLOCK_MONOTONIC) + 60000000000LL; now_ns(clock) < 20000000 && now_ns(CLOCK_MONOTONIC) < end;)
		rest_ms(5);
	check(now_ns(clock) >= 20000000);
	ok(kill(pid, SIGCONT));
	reaped(pid, 5);
}

static volatile sig_atomic_t exceeded;

static void on_limit(int sig UNUSED, siginfo_t *info, void *context UNUSED)
{
	exceeded = info->si_code;
}

static void beyond(int how)
{
	struct sigaction sa = { .sa_sigaction = on_limit, .sa_flags = SA_SIGINFO };
	struct rlimit now, limit = { 1, 2 };
	sigset_t set, pending;

	setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 });
	sigemptyset(&set);
	sigaddset(&set, SIGXCPU);
	sigaction(SIGXCPU, &sa, NULL);
	if (how < 2)
		signal(SIGXCPU, how == 1 ? SIG_IGN : SIG_DFL);
	if (how == 3)
		sigprocmask(SIG_BLOCK, &set, NULL);
	setrlimit(RLIMIT_CPU, &limit);
	do {
		for (volatile int i = 0; i < 1000000; i++)
			;
		sigpending(&pending);
	} while (!exceeded && !sigismember(&pending, SIGXCPU));
	if (getrlimit(RLIMIT_CPU, &now) < 0 || now.rlim_cur != 2)
		_exit(1);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	_exit(exceeded == SI_KERNEL ? 33 : 2);
}

/* At the soft limit SIGXCPU, and that grows by a second; at the hard one the end. */
static void cpu_limit(void)
{
	pid_t children[4];

	if (seconds < 1)
		return;
	for (int how = 0; how < 4; how++)
		if ((children[how] = ok(fork())) == 0)
			beyond(how);
	killed(children[0], SIGXCPU);
	killed(children[1], SIGKILL);
	reaped(children[2], 33);
	reaped(children[3], 33);
}

PROGRAM(PART(virtual_time), PART(profiling), PART(process_clock), PART(thread_clock), PART(running_down), PART(over_exec),
	PART(clock_of_child), PART(cpu_limit))
