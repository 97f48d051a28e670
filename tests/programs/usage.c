/* CPU time: what a program computes counts, wherever it computes, in every call that tells of it, for itself and for its parent. */
#include "mos.h"
#include <sys/resource.h>
#include <sys/times.h>

#define MS 1000000LL

static int64_t of_rusage(const struct rusage *u)
{
	return (u->ru_utime.tv_sec + u->ru_stime.tv_sec) * 1000 * MS + (u->ru_utime.tv_usec + u->ru_stime.tv_usec) * 1000LL;
}

static int64_t by_rusage(int who)
{
	struct rusage u;

	ok(getrusage(who, &u));
	check(u.ru_utime.tv_usec >= 0 && u.ru_utime.tv_usec < 1000000 && u.ru_stime.tv_usec >= 0 && u.ru_stime.tv_usec < 1000000);
	return of_rusage(&u);
}

static int64_t by_times(bool children)
{
	struct tms t;

	check(times(&t) != (clock_t)-1);
	return (children ? t.tms_cutime + t.tms_cstime : t.tms_utime + t.tms_stime) * (1000 / sysconf(_SC_CLK_TCK)) * MS;
}

static int64_t by_clock(void)
{
	return now_ns(CLOCK_PROCESS_CPUTIME_ID);
}

/* So much CPU time by our own clock. */
static void compute(int64_t ns)
{
	int64_t end = by_clock() + ns;

	while (by_clock() < end)
		for (volatile int i = 0; i < 100000; i++)
			;
}

static int64_t seen[4];

static void forward_only(int which, int64_t now)
{
	if (now < seen[which])
		fail("clock %d went back by %lld ns", which, (long long)(seen[which] - now));
	seen[which] = now;
}

static void own(void)
{
	clockid_t mine;
	int64_t clock = by_clock(), usage = by_rusage(RUSAGE_SELF), ticks = by_times(false);

	compute(30 * MS);
	check(by_clock() - clock >= 30 * MS);
	int64_t more = by_rusage(RUSAGE_SELF) - usage;
	if (more < 25 * MS)
		fail("getrusage counted %lld of 30000 us", (long long)more / 1000);
	more = by_times(false) - ticks;
	if (more < 10 * MS)
		fail("times counted %lld of 30000 us", (long long)more / 1000);
	forward_only(0, by_clock());
	forward_only(1, by_rusage(RUSAGE_SELF));
	forward_only(2, now_ns(CLOCK_THREAD_CPUTIME_ID));
	ok(clock_getcpuclockid(0, &mine));
	check(now_ns(mine) >= seen[0]);
	check(by_rusage(RUSAGE_THREAD) >= clock);
	refused(getrusage(77, NULL), EINVAL);
	refused(syscall(SYS_getrusage, RUSAGE_SELF, (void *)8), EFAULT);
	refused(syscall(SYS_times, (void *)8), EFAULT);
	check(syscall(SYS_times, NULL) > 0);
}

static int computes(void *arg)
{
	if (by_clock() > 500 * MS)
		return 1;	/* a child begins with nothing */
	compute(*(int64_t *)arg);
	return 33;
}

static int computes_twice(void *arg)
{
	reaped(forked(computes, arg), 33);
	return computes(arg);
}

static void of_children(void)
{
	int64_t ns = 30 * MS, before = by_rusage(RUSAGE_CHILDREN), ticks = by_times(true);
	struct rusage u;
	int status;

	pid_t pid = forked(computes, &ns);
	equal(wait4(pid, &status, 0, &u), pid);
	equal(WEXITSTATUS(status), 33);
	if (of_rusage(&u) < 25 * MS)
		fail("wait4 counted %lld of 30000 us", (long long)of_rusage(&u) / 1000);
	if (by_rusage(RUSAGE_CHILDREN) - before < 25 * MS)
		fail("RUSAGE_CHILDREN counted too little");
	pid = forked(computes, &ns);
	for (int last = 0; last < 2; last++) {
		siginfo_t told;
		memset(&u, 0, sizeof(u));
		ok(syscall(SYS_waitid, P_PID, pid, &told, last ? WEXITED : WEXITED | WNOWAIT, &u));
		equal(told.si_pid, pid);
		if (of_rusage(&u) < 25 * MS)
			fail("waitid counted %lld of 30000 us", (long long)of_rusage(&u) / 1000);
	}
	check(by_times(true) - ticks >= 10 * MS);
	before = by_rusage(RUSAGE_CHILDREN);
	reaped(forked(computes_twice, &ns), 33);
	if (by_rusage(RUSAGE_CHILDREN) - before < 50 * MS)
		fail("grandchildren were not counted");
	forward_only(3, by_rusage(RUSAGE_CHILDREN));
	refused(wait4(-1, &status, 0, &u), ECHILD);
}

/* Whoever asks again and again never sees less, of the sum or of its parts. */
static void again(void)
{
	int64_t last = 0, user = 0, system = 0;
	struct rusage u;

	for (int i = 0; i < 300; i++) {
		for (int k = 0; k < 3; k++) {
			int64_t now = now_ns(k & 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_PROCESS_CPUTIME_ID);
			if (now < last)
				fail("%lld ns of CPU time after %lld", (long long)now, (long long)last);
			last = now;
			for (volatile int j = 0; j < 10000; j++)
				;
		}
		ok(getrusage(RUSAGE_SELF, &u));
		int64_t its[2] = { u.ru_utime.tv_sec * 1000000LL + u.ru_utime.tv_usec, u.ru_stime.tv_sec * 1000000LL + u.ru_stime.tv_usec };
		if (its[0] < user || its[1] < system)
			fail("%lld + %lld us after %lld + %lld", (long long)its[0], (long long)its[1], (long long)user, (long long)system);
		user = its[0];
		system = its[1];
	}
	refused(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, (void *)8), EFAULT);
}

static volatile bool spun, told;

static void *spins(void *arg UNUSED)
{
	while (now_ns(CLOCK_THREAD_CPUTIME_ID) < 100 * MS)
		for (volatile int j = 0; j < 10000; j++)
			;
	spun = true;
	while (!told)
		rest_ms(5);
	check(by_rusage(RUSAGE_THREAD) >= 90 * MS);
	return NULL;
}

static void *idles(void *arg UNUSED)
{
	while (!told)
		rest_ms(20);
	check(by_rusage(RUSAGE_THREAD) < 50 * MS);
	check(now_ns(CLOCK_THREAD_CPUTIME_ID) < 50 * MS);
	return NULL;
}

/* In a process of its own: what one thread computes is not another's, whoever asks. */
static int each_its_own(void *arg UNUSED)
{
	pthread_t spinning, idle;
	clockid_t clock;

	started(&spinning, spins, NULL);
	started(&idle, idles, NULL);
	while (!spun)
		rest_ms(20);
	equal(pthread_getcpuclockid(idle, &clock), 0);
	check(now_ns(clock) < 50 * MS);
	equal(pthread_getcpuclockid(spinning, &clock), 0);
	check(now_ns(clock) >= 100 * MS);
	check(by_clock() >= 100 * MS);
	told = true;
	joined(spinning);
	joined(idle);
	return 3;
}

static void of_threads(void)
{
	reaped(forked(each_its_own, NULL), 3);
}

PROGRAM(PART(own), PART(of_children), PART(again), PART(of_threads))
