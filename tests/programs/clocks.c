/* Time never goes back, whichever way it is asked for, and all ways agree. */
#include "mos.h"
#include <sys/time.h>
#include <sys/times.h>

static const clockid_t clocks[] = {
	CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_MONOTONIC_RAW, CLOCK_BOOTTIME, CLOCK_REALTIME_COARSE, CLOCK_MONOTONIC_COARSE, CLOCK_TAI,
};
static int64_t last[COUNT(clocks)], last_timeofday, last_time;

static void forward(void)
{
	int64_t end = now_ns(CLOCK_MONOTONIC) + (int64_t)(seconds * 0.3e9);

	do {
		for (int i = 0; i < 200; i++) {
			for (size_t c = 0; c < 2; c++) {
				int64_t t = now_ns(clocks[c]);
				if (t < last[c])
					fail("clock %d went back %lld ns", clocks[c], (long long)(last[c] - t));
				last[c] = t;
			}
			struct timeval tv;
			ok(gettimeofday(&tv, NULL));
			int64_t t = tv.tv_sec * 1000000LL + tv.tv_usec;
			if (t < last_timeofday)
				fail("gettimeofday went back %lld us", (long long)(last_timeofday - t));
			last_timeofday = t;
		}
		for (size_t c = 2; c < COUNT(clocks); c++) {
			int64_t t = now_ns(clocks[c]);
			if (t < last[c])
				fail("clock %d went back %lld ns", clocks[c], (long long)(last[c] - t));
			last[c] = t;
		}
		time_t t = time(NULL);
		check(t >= last_time);
		last_time = t;
	} while (now_ns(CLOCK_MONOTONIC) < end);
}

static void agreement(void)
{
	for (int i = 0; i < 50; i++)
		for (size_t c = 0; c < 2; c++) {
			struct timespec t;
			int64_t before = now_ns(clocks[c]);
			ok(syscall(SYS_clock_gettime, clocks[c], &t));
			int64_t between = t.tv_sec * 1000000000LL + t.tv_nsec, after = now_ns(clocks[c]);
			/* A millisecond of difference between a library's clock and the system call's would break make(1). */
			if (between < before - 1000000 || between > after + 1000000)
				fail("clock %d: %lld by system call between %lld and %lld", clocks[c], (long long)between,
				     (long long)before, (long long)after);
		}
	int64_t real = now_ns(CLOCK_REALTIME) / 1000000000;
	time_t t = time(NULL);
	check(t >= real - 1 && t <= real + 1000);
	int fd = ok(open("now", O_CREAT | O_RDWR, 0600));
	struct stat st;
	ok(fstat(fd, &st));
	check(st.st_mtime >= real - 2 && st.st_mtime <= real + 1000);
	ok(close(fd));
	ok(unlink("now"));
}

static void resolutions(void)
{
	struct timespec r;

	for (size_t c = 0; c < COUNT(clocks); c++) {
		ok(clock_getres(clocks[c], &r));
		check(r.tv_sec == 0 && r.tv_nsec > 0);
	}
	refused(clock_gettime(4711, &r), EINVAL);
	refused(syscall(SYS_clock_gettime, CLOCK_REALTIME, (void *)8), EFAULT);
}

static int64_t last_cpu;

static void cpu_time(void)
{
	struct tms t;

	for (int i = 0; i < 20; i++) {
		int64_t cpu = now_ns(CLOCK_PROCESS_CPUTIME_ID);
		if (cpu < last_cpu)
			fail("the CPU time went back %lld ns", (long long)(last_cpu - cpu));
		last_cpu = cpu;
		for (volatile int spin = 0; spin < 10000; spin++)
			;
	}
	check(times(&t) != (clock_t)-1);
	check(clock() != (clock_t)-1);
}

PROGRAM(PART(forward), PART(agreement), PART(resolutions), PART(cpu_time))
