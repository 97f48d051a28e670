/* What one thread does while another waits in a call, and what it has for itself. */
#include "mos.h"
#include <poll.h>
#include <pthread.h>
#include <sched.h>

static struct pollfd wanted[2];
static int gate[2];

static void *wants_more(void *arg UNUSED)
{
	rest_ms(20);
	wanted[1].events = POLLOUT;
	equal(write(gate[1], "x", 1), 1);
	return NULL;
}

/* Who waits in poll(2) is told events; what it wants to be told another may change meanwhile, for the next time. */
static void wanted_meanwhile(void)
{
	struct timespec long_enough = { 1000, 0 };
	pthread_t thread;
	char byte;

	equal(pipe(gate), 0);
	for (int way = 0; way < 2; way++) {
		wanted[0] = (struct pollfd){ gate[0], POLLIN, 0 };
		wanted[1] = (struct pollfd){ -1, 0, 0x55 };
		started(&thread, wants_more, NULL);
		equal(way ? ppoll(wanted, 2, &long_enough, NULL) : poll(wanted, 2, -1), 1);
		equal(joined(thread), 0);
		equal(wanted[0].revents, POLLIN);
		equal(wanted[1].events, POLLOUT);
		equal(wanted[1].revents, 0);
		equal(read(gate[0], &byte, 1), 1);
	}
	close(gate[0]), close(gate[1]);
}

static void *leaves(void *arg UNUSED)
{
	char here[64];

	equal(unshare(CLONE_FS), 0);
	equal(chdir("/usr"), 0);
	rest_ms(20);
	check(getcwd(here, sizeof(here)) != NULL);
	equal(strcmp(here, "/usr"), 0);
	equal(umask(0111), 022);
	return NULL;
}

/* A thread with a directory and a umask of its own. */
static void own_directory(void)
{
	char before[PATH_MAX], after[PATH_MAX];
	mode_t mask = umask(022);
	pthread_t thread;

	check(getcwd(before, sizeof(before)) != NULL);
	started(&thread, leaves, NULL);
	equal(joined(thread), 0);
	check(getcwd(after, sizeof(after)) != NULL);
	equal(strcmp(before, after), 0);
	equal(umask(mask), 022);
}

static volatile bool slept;

static void *computes(void *arg UNUSED)
{
	for (volatile unsigned count = 0; !slept; count++)
		;
	return NULL;
}

static int sleeps(void *arg)
{
	struct timespec length = { 0, 20000000 };
	clockid_t clock = CLOCK_PROCESS_CPUTIME_ID;
	pthread_t thread;

	if (arg)
		equal(clock_getcpuclockid(getpid(), &clock), 0);
	started(&thread, computes, NULL);
	rest_ms(100); /* who has come home to make a thread is away again */
	int64_t before = now_ns(clock);
	equal(clock_nanosleep(clock, 0, &length, NULL), 0);
	check(now_ns(clock) - before >= length.tv_nsec);
	slept = true;
	equal(joined(thread), 0);
	equal(clock_nanosleep(CLOCK_THREAD_CPUTIME_ID, 0, &length, NULL), EINVAL);
	return 7;
}

/* Who sleeps until its process has used CPU time does so where other threads use it. A child, since it may stay at home then. */
static void slept_by_cpu_time(void)
{
	for (long named = 0; named < 2; named++)
		reaped(forked(sleeps, (void *)named), 7);
}

PROGRAM(PART(wanted_meanwhile), PART(own_directory), PART(slept_by_cpu_time))
