/* Timers that count CPU time, which a program spends on another node while it is away. */
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

static void cpu_limit(void)
{
	struct rlimit one = { 1, 2 };

	if (seconds < 1)
		return;
	pid_t pid = ok(fork());
	if (pid == 0) {
		setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 });
		setrlimit(RLIMIT_CPU, &one);
		for (;;)
			getppid();
	}
	killed(pid, SIGXCPU);
}

PROGRAM(PART(virtual_time), PART(profiling), PART(cpu_limit))
