/* cat(1) for lines, with eight threads besides: two pass numbers by a pipe, two by a mutex and a condition, one sleeps, one waits for
   a time, one computes, one makes threads. A line is answered when each of them has got on since it came. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { WRITES, READS, PUTS, GETS, SLEEPS, WAITS, COMPUTES, BEARS, ALL };
static atomic_long rounds[ALL];
static int ends[2];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER, never = PTHREAD_COND_INITIALIZER;
static long number = -1;

static void check(int good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	_exit(1);
}

static struct timespec at(clockid_t clock, long ns)
{
	struct timespec now;

	clock_gettime(clock, &now);
	now.tv_nsec += ns;
	now.tv_sec += now.tv_nsec / 1000000000;
	now.tv_nsec %= 1000000000;
	return now;
}

static int before(struct timespec a, struct timespec b)
{
	return a.tv_sec < b.tv_sec || (a.tv_sec == b.tv_sec && a.tv_nsec < b.tv_nsec);
}

static void writes(long n)
{
	check(write(ends[1], &n, sizeof n) == sizeof n, "write");
	usleep(1000);
}

static void reads(long n)
{
	long found;

	check(read(ends[0], &found, sizeof found) == sizeof found && found == n, "read");
}

static void puts_one(long n)
{
	pthread_mutex_lock(&lock);
	while (number >= 0)
		pthread_cond_wait(&changed, &lock);
	number = n;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
	usleep(1000);
}

static void gets_one(long n)
{
	pthread_mutex_lock(&lock);
	while (number < 0)
		pthread_cond_wait(&changed, &lock);
	check(number == n, "condition");
	number = -1;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
}

static void sleeps(long n)
{
	struct timespec end = at(CLOCK_MONOTONIC, 20000000);

	check(n < 0 || !usleep(20000), "usleep");
	check(!before(at(CLOCK_MONOTONIC, 0), end), "a sleep was too short");
}

static void waits(long n)
{
	static pthread_mutex_t own = PTHREAD_MUTEX_INITIALIZER;
	struct timespec end = at(CLOCK_REALTIME, 20000000);
	int result;

	pthread_mutex_lock(&own);
	while (!(result = pthread_cond_timedwait(&never, &own, &end)) && n >= 0)
		;
	pthread_mutex_unlock(&own);
	check(result == ETIMEDOUT && !before(at(CLOCK_REALTIME, 0), end), "a wait was too short");
}

static void computes(long n)
{
	volatile double sum = n;

	for (int i = 0; i < 100000; i++)
		sum = sum * 0.5 + i;
	check(sum > 199990 && sum < 200000, "the sum");
}

static void *nothing(void *argument)
{
	return argument;
}

static void bears(long n)
{
	pthread_t child;
	void *result;

	check(!(errno = pthread_create(&child, NULL, nothing, (void *)n)), "pthread_create");
	check(!(errno = pthread_join(child, &result)) && result == (void *)n, "pthread_join");
	usleep(5000);
}

static void (*const works[ALL])(long) = { writes, reads, puts_one, gets_one, sleeps, waits, computes, bears };

static void *work(void *argument)
{
	long which = (long)argument;

	for (;; rounds[which]++)
		works[which](rounds[which]);
	return NULL;
}

int main(void)
{
	char line[100];
	pthread_t thread;

	check(!pipe(ends), "pipe");
	for (long i = 0; i < ALL; i++)
		check(!(errno = pthread_create(&thread, NULL, work, (void *)i)), "pthread_create");
	while (fgets(line, sizeof line, stdin)) {
		long then[ALL];

		for (int i = 0; i < ALL; i++)
			then[i] = rounds[i];
		for (int i = 0; i < ALL; i++)
			while (rounds[i] < then[i] + 2)
				usleep(1000);
		fputs(line, stdout);
		fflush(stdout);
	}
	_exit(3);
}
